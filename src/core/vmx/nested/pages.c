/* SPDX-License-Identifier: MIT */
/*
 * Pages of L1 that the processor uses while L2 runs: virtual-APIC page, APIC-access page,
 * posted-interrupt descriptor; and the MSR bitmap merged of both hypervisors' wishes.
 *
 * Addresses are looked up at entry and again when slots have changed, which stops all vCPUs.
 */
#include "base/guard.h"
#include "core/irqchip/lapic_reg.h"
#include "core/vmx/nested/nested.h"

static hva_t map_page(struct kvm_vcpu *v, u64 gpa)
{
	hva_t hva = vcpu_gfn_to_hva(v, gpa >> PAGE_SHIFT, true);

	return hva == HVA_BAD ? HVA_BAD : hva | (gpa & (PAGE_SIZE - 1));
}

/* Real processors would use whatever is at the address. */
static bool no_memory(struct kvm_vcpu *v, const char *field, u64 gpa)
{
	nested_note(v, "there is none; KVM_RUN returns an internal error");
	nested_explain_because(v, "VM entry", 0, field, "the page is memory of L1", "25.6.8", gpa);
	return false;
}

static bool map_all(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;

	n->vapic_page = n->apic_access_page = n->pi_desc = HVA_BAD;
	if (v12_cpu2(v12, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES)) {
		n->apic_access_page = map_page(v, V12(v12, APIC_ACCESS_ADDR));
		if (n->apic_access_page == HVA_BAD)
			return no_memory(v, "APIC_ACCESS_ADDR", V12(v12, APIC_ACCESS_ADDR));
		vmx_write_apic_access_addr(v, n->apic_access_page);
	}
	if (v12_cpu(v12, CPU_BASED_TPR_SHADOW)) {
		n->vapic_page = map_page(v, V12(v12, VIRTUAL_APIC_PAGE_ADDR));
		if (n->vapic_page != HVA_BAD) {
			vmx_write_vapic_addr(v, n->vapic_page);
		} else if (v12_cpu(v12, CPU_BASED_CR8_LOAD_EXITING) &&
			   v12_cpu(v12, CPU_BASED_CR8_STORE_EXITING) &&
			   !v12_cpu2(v12, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES |
						  SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
						  SECONDARY_EXEC_APIC_REGISTER_VIRT |
						  SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)) {
			/* Nothing would ever use it. */
			vmx_cpu_clearbit(v, CPU_BASED_TPR_SHADOW);
		} else {
			return no_memory(v, "VIRTUAL_APIC_PAGE_ADDR",
					 V12(v12, VIRTUAL_APIC_PAGE_ADDR));
		}
	}
	if (v12_pin(v12, PIN_BASED_POSTED_INTR)) {
		n->pi_desc = map_page(v, V12(v12, POSTED_INTR_DESC_ADDR));
		if (n->pi_desc == HVA_BAD)
			return no_memory(v, "POSTED_INTR_DESC_ADDR",
					 V12(v12, POSTED_INTR_DESC_ADDR));
		vmx_write_pi_desc_addr(v, n->pi_desc);
	}
	return true;
}

/* Have neither memory slots nor vmcs12's controls changed since the pages were looked up? */
static bool pages_are_known(struct kvm_vcpu *v)
{
	const struct nested_vmx *n = nested_of(v);

	return !n->controls_dirty && n->pages_generation == kvm_memslots_generation(v->kvm);
}

bool nested_map_pages(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	bool known = pages_are_known(v), ok;
	unsigned idx;

	if (!known) {
		/* The older of two, should it change now. */
		n->pages_generation = kvm_memslots_generation(v->kvm);
		idx = slots_read_lock(v->kvm);
		ok = map_all(v);
		slots_read_unlock(v->kvm, idx);
		/* What went without its page has other controls than vmcs12 says. */
		if (!ok || (v12_cpu(n->vmcs12, CPU_BASED_TPR_SHADOW) && n->vapic_page == HVA_BAD))
			n->pages_generation = ~0ull;
		if (!ok)
			return false;
	}
	/* L1 writes the bitmap as it likes, unless it has said that it tells. */
	if (!known || !nested_evmcs_bitmap_is_clean(v))
		nested_merge_msr_bitmap(v);
	return true;
}

/* ---- MSR bitmap ---- */

/*
 * vmcs02 lets an MSR through if both bitmaps do. Few bits of vmcs01's are 0, so only the words with
 * one are looked at in L1's; all others keep their ones.
 */
void nested_merge_msr_bitmap(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;
	const u64 *l0 = (const u64 *)vmx_of(v)->msr_bitmap;
	u64 *out = (u64 *)n->msr_bitmap02;
	struct guard g;
	unsigned idx;
	const u64 *l1;

	n->evmcs.bitmap_merged = false;
	if (!v12_cpu(v12, CPU_BASED_USE_MSR_BITMAPS)) {
		vmx_cpu_clearbit(v, CPU_BASED_USE_MSR_BITMAPS);
		return;
	}
	idx = slots_read_lock(v->kvm);
	l1 = (const u64 *)vcpu_gfn_to_hva(v, V12(v12, MSR_BITMAP) >> PAGE_SHIFT, false);
	if (!l1 || guard_enter(&g)) {
		/* Not memory: all ones. */
		slots_read_unlock(v->kvm, idx);
		vmx_cpu_clearbit(v, CPU_BASED_USE_MSR_BITMAPS);
		return;
	}
	for (unsigned i = 0; i < vmx_of(v)->npass_words; i++) {
		unsigned w = vmx_of(v)->pass_words[i];

		out[w] = l0[w] | __atomic_load_n(&l1[w], __ATOMIC_RELAXED);
	}
	/* x2APIC MSRs 800H-8FFH go to the virtual-APIC page, whatever L1 itself may reach: words 32
	 * to 35 of the bitmaps for reads and writes. */
	for (unsigned w = 32; w < 36; w++) {
		bool virt = v12_cpu2(v12, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE);
		u64 writes = BIT(8); /* TPR; with interrupt delivery EOI and self-IPI too */

		if (v12_cpu2(v12, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
			writes |= BIT(11) | BIT(63);
		if (!virt) {
			out[w] = out[w + 256] = ~0ull;
			continue;
		}
		out[w] = v12_cpu2(v12, SECONDARY_EXEC_APIC_REGISTER_VIRT) ? l1[w]
			 : w == 32					  ? l1[w] | ~BIT(8)
									  : ~0ull;
		out[w + 256] = w == 32 ? l1[w + 256] | ~writes : ~0ull;
	}
	guard_leave(&g);
	slots_read_unlock(v->kvm, idx);
	vmx_cpu_setbit(v, CPU_BASED_USE_MSR_BITMAPS);
	n->evmcs.bitmap_merged = nested_evmcs_active(n);
}

/* ---- After the run ---- */

void nested_mark_pages_dirty(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	unsigned idx;
	struct memslot *s;

	if (n->vapic_page == HVA_BAD)
		return;
	idx = slots_read_lock(v->kvm);
	s = vcpu_gfn_to_memslot(v, V12(n->vmcs12, VIRTUAL_APIC_PAGE_ADDR) >> PAGE_SHIFT);
	if (s && memslot_dirty_logged(s))
		memslot_mark_dirty(s, V12(n->vmcs12, VIRTUAL_APIC_PAGE_ADDR) >> PAGE_SHIFT);
	if (n->pi_desc != HVA_BAD) {
		s = vcpu_gfn_to_memslot(v, V12(n->vmcs12, POSTED_INTR_DESC_ADDR) >> PAGE_SHIFT);
		if (s && memslot_dirty_logged(s))
			memslot_mark_dirty(s, V12(n->vmcs12, POSTED_INTR_DESC_ADDR) >> PAGE_SHIFT);
	}
	slots_read_unlock(v->kvm, idx);
}

/* ---- Before each run of L2 ---- */

/*
 * L1's other processors, or L2 itself, may have written a VTPR below the threshold into the page
 * since the entry was checked. It is the entry that looks at it (27.2.1.1), and L1 made but one:
 * when L2 only runs on, nothing happens until L2 writes its TPR.
 */
static void limit_tpr_threshold(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 threshold = (u32)V12(n->vmcs12, TPR_THRESHOLD);
	u8 vtpr = 0;

	if (n->vapic_page == HVA_BAD ||
	    v12_cpu2(n->vmcs12, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY |
					SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES))
		return;
	(void)copy_from_user(&vtpr, (const void *)(n->vapic_page + APIC_TASKPRI), 1);
	vmx_write_tpr_threshold(v, MIN(threshold, vtpr >> 4));
}

bool nested_entry_raced(struct kvm_vcpu *v)
{
	const struct check_failure *f = sil_last_failure(v->cpu);

	return f && f->field == TPR_THRESHOLD;
}

int nested_before_run(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (unlikely(n->evmcs.ptr == EVMCS_PENDING))
		nested_evmcs_resolve(v);
	if (unlikely(n->pages_generation != kvm_memslots_generation(v->kvm)) &&
	    !nested_map_pages(v))
		return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_EMULATION, NULL, 0);
	if (v12_pin(n->vmcs12, PIN_BASED_VMX_PREEMPTION_TIMER))
		vmcs_write(v, VMX_PREEMPTION_TIMER_VALUE, nested_timer_remaining(v));
	if (unlikely(V12(n->vmcs12, TPR_THRESHOLD)))
		limit_tpr_threshold(v);
	return 1;
}
