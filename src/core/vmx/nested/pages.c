/* SPDX-License-Identifier: MIT */
/*
 * Pages of L1 that the processor uses while L2 runs: virtual-APIC page, APIC-access page,
 * posted-interrupt descriptor; and the MSR bitmap merged of both hypervisors' wishes.
 *
 * Addresses are looked up at entry and again when slots have changed, which stops all vCPUs.
 */
#include "base/guard.h"
#include "core/vmx/nested/nested.h"

static hva_t map_page(struct kvm_vcpu *v, u64 gpa)
{
	hva_t hva = vcpu_gfn_to_hva(v, gpa >> PAGE_SHIFT, true);

	return hva == HVA_BAD ? HVA_BAD : hva | (gpa & (PAGE_SIZE - 1));
}

static bool map_all(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;

	n->vapic_page = n->apic_access_page = n->pi_desc = HVA_BAD;
	if (v12_cpu2(v12, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES)) {
		n->apic_access_page = map_page(v, V12(v12, APIC_ACCESS_ADDR));
		if (n->apic_access_page == HVA_BAD)
			return false;
		vmcs_write(v, APIC_ACCESS_ADDR, n->apic_access_page);
	}
	if (v12_cpu(v12, CPU_BASED_TPR_SHADOW)) {
		n->vapic_page = map_page(v, V12(v12, VIRTUAL_APIC_PAGE_ADDR));
		if (n->vapic_page != HVA_BAD) {
			vmcs_write(v, VIRTUAL_APIC_PAGE_ADDR, n->vapic_page);
		} else if (v12_cpu(v12, CPU_BASED_CR8_LOAD_EXITING) &&
			   v12_cpu(v12, CPU_BASED_CR8_STORE_EXITING) &&
			   !v12_cpu2(v12, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES |
						  SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
						  SECONDARY_EXEC_APIC_REGISTER_VIRT |
						  SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)) {
			/* Nothing would ever use it. */
			vmx_cpu_clearbit(v, CPU_BASED_TPR_SHADOW);
		} else {
			return false;
		}
	}
	if (v12_pin(v12, PIN_BASED_POSTED_INTR)) {
		n->pi_desc = map_page(v, V12(v12, POSTED_INTR_DESC_ADDR));
		if (n->pi_desc == HVA_BAD)
			return false;
		vmcs_write(v, POSTED_INTR_DESC_ADDR, n->pi_desc);
	}
	return true;
}

bool nested_map_pages(struct kvm_vcpu *v)
{
	unsigned idx = slots_read_lock(v->kvm);
	bool ok;

	nested_of(v)->pages_generation = kvm_memslots(v->kvm, kvm_is_smm(v))->generation;
	ok = map_all(v);
	slots_read_unlock(v->kvm, idx);
	if (ok)
		nested_merge_msr_bitmap(v);
	return ok;
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

int nested_before_run(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (unlikely(n->pages_generation != kvm_memslots(v->kvm, kvm_is_smm(v))->generation) &&
	    !nested_map_pages(v))
		return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_EMULATION, NULL, 0);
	if (v12_pin(n->vmcs12, PIN_BASED_VMX_PREEMPTION_TIMER))
		vmcs_write(v, VMX_PREEMPTION_TIMER_VALUE, nested_timer_remaining(v));
	return 1;
}
