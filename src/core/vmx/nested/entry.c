/* SPDX-License-Identifier: MIT */
/* VMLAUNCH and VMRESUME of L1 (SDM, chapter 27): checks on vmcs12, then L2's state in vmcs02. */
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/tsc.h"
#include "core/vmx/nested/nested.h"

/* ---- Checks ---- */

/*
 * Only rows that look at something L1 has written since they last held are repeated (execution of
 * L2 never makes one fail), and those that look at memory.
 */
bool nested_check(struct kvm_vcpu *v, enum check_group first, enum check_group last,
		  struct check_failure *f)
{
	struct nested_vmx *n = nested_of(v);
	bool host_64bit = is_long_mode(v);
	u32 topics;

	if (!is_guest_mode(v) && host_64bit != n->host_was_64bit) {
		n->host_was_64bit = n->check.host_is_64bit = host_64bit;
		n->check_dirty = T_ALL;
	}
	topics = n->check_dirty |
		 check_memory_topics(
			 (u32)V12(n->vmcs12, CPU_BASED_VM_EXEC_CONTROL),
			 v12_cpu2(n->vmcs12, SECONDARY_EXEC_ENABLE_EPT) ? SECONDARY_EXEC_ENABLE_EPT
									: 0,
			 V12(n->vmcs12, TPR_THRESHOLD), V12(n->vmcs12, VMCS_LINK_POINTER));
	/*
	 * The rows about segments compare fields that are saved at every exit (access rights of CS
	 * and SS, RFLAGS.VM) with rare ones: both have to be of the same moment. Others look at
	 * rare ones alone.
	 */
	if (last == CHECK_GUEST && (topics & (T_CTL | T_CR | T_SEG | T_DTR | T_VM)) &&
	    !is_guest_mode(v))
		nested_fetch_rare(v);
	for (enum check_group g = first; g <= last; g++)
		if (topics && !check_run_topics(g, topics, &n->check, f))
			return false;
	return true;
}

bool nested_eptp_valid(struct kvm_vcpu *v, u64 eptp)
{
	u64 cap = nested_of(v)->cap[CAP_EPT_VPID];
	unsigned type = eptp & 7, walk = (unsigned)bits_get(eptp, 5, 3);

	if (!(type == 6 && (cap & VMX_EPTP_WB)) && !(type == 0 && (cap & VMX_EPTP_UC)))
		return false;
	if (!(walk == 3 && (cap & VMX_EPT_PAGE_WALK_4)) &&
	    !(walk == 4 && (cap & VMX_EPT_PAGE_WALK_5)))
		return false;
	if ((eptp & BITS(11, 7)) || !kvm_is_legal_gpa(v, eptp))
		return false;
	return !(eptp & EPTP_AD) || (cap & VMX_EPT_AD);
}

/* ---- Parts ---- */

bool nested_load_cr3(struct kvm_vcpu *v, u64 cr3, bool load_pdptes)
{
	struct kvm_mmu *mmu;

	if (!kvm_is_legal_gpa(v, cr3))
		return false;
	if (load_pdptes && is_pae_paging(v) && !kvm_load_pdptrs(v, cr3))
		return false;
	v->regs.cr3 = cr3;
	regcache_mark_dirty(&v->regs, VCPU_EXREG_CR3);
	mmu_reset_context(v);
	mmu = v->mmu->mmu;
	if (mmu == &v->mmu->root_mmu && !mmu->root_role.direct)
		mmu_new_pgd(v, cr3);
	/* The root may be the same, but it is to be in the other VMCS. */
	kvm_make_request(v, REQ_LOAD_MMU_PGD);
	return true;
}

void nested_service_flushes(struct kvm_vcpu *v)
{
	if (kvm_check_request(v, REQ_TLB_FLUSH_CURRENT))
		v->kvm->ops->flush_tlb_current(v);
	if (kvm_check_request(v, REQ_TLB_FLUSH_GUEST))
		v->kvm->ops->flush_tlb_guest(v);
}

/* 29.4.3.1: what an entry or exit of L1's processor flushes. */
void nested_transition_flush(struct kvm_vcpu *v, bool entry)
{
	struct nested_vmx *n = nested_of(v);
	u16 vpid12;

	if (!v12_cpu2(n->vmcs12, SECONDARY_EXEC_ENABLE_VPID)) {
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
		return;
	}
	/* vpid02 stands for one VPID of L1 at a time. */
	vpid12 = (u16)V12(n->vmcs12, VIRTUAL_PROCESSOR_ID);
	if (entry && n->vpid02 && vpid12 != n->last_vpid) {
		n->last_vpid = vpid12;
		sil_invvpid(v->cpu, INVVPID_SINGLE, n->vpid02, 0);
	} else if (entry && !n->vpid02) {
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	}
}

/* ---- Preemption timer (26.5.1): a deadline in L1's TSC ---- */

static u64 l1_timer_now(struct kvm_vcpu *v)
{
	return kvm_guest_tsc_rough(v) >> NESTED_TIMER_SHIFT;
}

static void start_timer(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!v12_pin(n->vmcs12, PIN_BASED_VMX_PREEMPTION_TIMER) || n->has_timer_deadline)
		return;
	n->timer_deadline = l1_timer_now(v) + V12(n->vmcs12, VMX_PREEMPTION_TIMER_VALUE);
	n->has_timer_deadline = true;
}

u64 nested_timer_remaining(struct kvm_vcpu *v)
{
	u64 now = l1_timer_now(v), deadline = nested_of(v)->timer_deadline;

	return now >= deadline ? 0 : MIN(deadline - now, 0xffffffffull);
}

/* ---- Entry ---- */

static void back_to_l1(struct kvm_vcpu *v)
{
	nested_service_flushes(v);
	v->arch->guest_mode = false;
	v->arch->stat.guest_mode = 0;
	v->arch->tsc_offset = v->arch->l1_tsc_offset;
	v->arch->tsc_multiplier = v->arch->l1_tsc_multiplier;
	nested_switch_vmcs(v, &vmx_of(v)->vmcs01);
}

enum nested_entry nested_enter(struct kvm_vcpu *v, bool from_entry)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;
	bool ept = v12_cpu2(v12, SECONDARY_EXEC_ENABLE_EPT);
	/* L1 held back what L2 may not. */
	bool evaluate = vmx_of(v)->loaded->cpu &
			(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING);
	u64 l1_dr7 = kvm_get_dr(v, 7);
	u32 refused;

	nested_service_flushes(v);
	if (!n->run_pending || !v12_entry(v12, VM_ENTRY_LOAD_DEBUG_CONTROLS))
		n->pre_entry_debugctl = vmcs_read(v, GUEST_IA32_DEBUGCTL);
	nested_switch_vmcs(v, &n->vmcs02);
	nested_prepare_controls(v);
	if (from_entry && !nested_map_pages(v)) {
		nested_switch_vmcs(v, &vmx_of(v)->vmcs01);
		return NESTED_ERROR;
	}
	v->arch->guest_mode = true;
	v->arch->stat.guest_mode = 1;
	nested_prepare_state(v, l1_dr7);
	if (!nested_load_cr3(v, V12(v12, GUEST_CR3), from_entry && !ept)) {
		nested_explain_because(v, "VM entry", 0, "PDPTE_MEMORY",
				       "present PDPTEs at CR3 have no reserved bit set", "27.3.1.6",
				       V12(v12, GUEST_CR3));
		back_to_l1(v);
		nested_fail_late(v, EXIT_REASON_INVALID_STATE, ENTRY_FAIL_PDPTE);
		return NESTED_FAILED_LATE;
	}
	if (from_entry) {
		refused = nested_load_msrs(v, V12(v12, VM_ENTRY_MSR_LOAD_ADDR),
					   (u32)V12(v12, VM_ENTRY_MSR_LOAD_COUNT));
		if (refused) {
			nested_explain_because(v, "VM entry", 0, "ENTRY_MSR_LOAD_ENTRY",
					       "each entry of the VM-entry MSR-load area can be "
					       "written with WRMSR",
					       "27.4", refused);
			back_to_l1(v);
			nested_fail_late(v, EXIT_REASON_MSR_LOAD_FAIL, refused);
			return NESTED_FAILED_LATE;
		}
	} else {
		n->pages_generation = ~0ull; /* addresses are looked up before the run */
	}
	if (evaluate || (v->apic && lapic_has_init_sipi(v)))
		kvm_make_request(v, REQ_EVENT);
	start_timer(v);
	return NESTED_ENTERED;
}

/* 27.7.2: entries into HLT, unless something is there to end it at once. */
static bool enters_halted(const struct vmcs12 *v12)
{
	if (V12(v12, VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID)
		return false;
	if (v12_cpu(v12, CPU_BASED_NMI_WINDOW_EXITING))
		return false;
	return !v12_cpu(v12, CPU_BASED_INTR_WINDOW_EXITING) || !(V12(v12, GUEST_RFLAGS) & X86_IF);
}

int nested_run(struct kvm_vcpu *v, bool launch)
{
	struct nested_vmx *n = nested_of(v);
	const char *insn = launch ? "VMLAUNCH" : "VMRESUME";
	u32 shadow = vmx_get_interrupt_shadow(v);
	struct vmcs12 *v12 = n->vmcs12;
	struct check_failure f;
	int ret;

	if (nested_evmcs_use(v, insn, launch, &ret) == EVMCS_REFUSED)
		return ret;
	if (!nested_has_vmcs12(n) || (v12->revision & VMCS12_SHADOW)) {
		nested_explain_because(v, insn, 0, insn,
				       "there is a current VMCS, not a shadow one", "31.3",
				       n->current_vmptr);
		return nested_fail_invalid(v);
	}
	nested_shadow_to_vmcs12(v);
	if (shadow & GUEST_INTR_STATE_MOV_SS) {
		nested_explain_because(v, insn, VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS, insn,
				       "events are not blocked by MOV SS", "27.1", shadow);
		return nested_fail(v, VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS);
	}
	if (!!v12->launched == launch) {
		u32 error =
			launch ? VMXERR_VMLAUNCH_NONCLEAR_VMCS : VMXERR_VMRESUME_NONLAUNCHED_VMCS;

		nested_explain_because(v, insn, error, insn,
				       "VMLAUNCH needs a clear VMCS, VMRESUME a launched one",
				       "27.1", v12->launched);
		return nested_fail(v, error);
	}
	if (!nested_check(v, CHECK_CONTROLS, CHECK_HOST, &f)) {
		nested_explain(v, insn, &f);
		return nested_fail(v, f.insn_error);
	}
	if (!nested_check(v, CHECK_GUEST, CHECK_GUEST, &f)) {
		nested_explain(v, insn, &f);
		nested_service_flushes(v);
		nested_fail_late(v, EXIT_REASON_INVALID_STATE, f.qualification);
		return 1;
	}
	n->check_dirty = 0;
	n->run_pending = true;
	n->has_timer_deadline = false;
	switch (nested_enter(v, true)) {
	case NESTED_ENTERED: break;
	case NESTED_FAILED_LATE: n->run_pending = false; return 1;
	case NESTED_ERROR:
		n->run_pending = false;
		return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_EMULATION, NULL, 0);
	}
	if (nested_evmcs_active(n))
		nested_evmcs_entered(v);
	kvm_stat_inc(v, nested_entries);
	VCPU_TRACE(event, v, TRACE_NESTED_ENTRY, 0, 0, 0);
	nested_cache_shadow_vmcs12(v);
	/* 30.6: notifications that arrived before are not lost. */
	if (v12_pin(v12, PIN_BASED_POSTED_INTR) && v->apic &&
	    lapic_has_interrupt(v) == (int)V12(v12, POSTED_INTR_NV)) {
		lapic_clear_irr(v, (u8)V12(v12, POSTED_INTR_NV));
		n->pi_pending = true;
		kvm_make_request(v, REQ_EVENT);
	}
	switch (V12(v12, GUEST_ACTIVITY_STATE)) {
	case GUEST_ACTIVITY_HLT:
		if (!enters_halted(v12))
			break;
		n->run_pending = false;
		return kvm_emulate_halt_noskip(v);
	case GUEST_ACTIVITY_WAIT_SIPI:
		n->run_pending = false;
		v->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		break;
	case GUEST_ACTIVITY_SHUTDOWN:
		/* Only NMI, INIT and the like end it: L1 has the triple fault that led here. */
		n->run_pending = false;
		nested_vmexit(v, EXIT_REASON_TRIPLE_FAULT, 0, 0);
		break;
	}
	return 1;
}
