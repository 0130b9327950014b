/* SPDX-License-Identifier: MIT */
/* KVM_GET_NESTED_STATE and KVM_SET_NESTED_STATE, in KVM's layout and with its refusals. */
#include <errno.h>

#include "core/vmx/nested/nested.h"

#define HEADER sizeof(struct kvm_nested_state)

/* With GUEST_MODE, vmcs02 has the newest state; without, vmcs12 and the shadow VMCS have it. */
static void bring_up_to_date(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (is_guest_mode(v)) {
		vmx_store_dirty(v);
		nested_sync_vmcs12(v);
		if (n->rare_unsynced)
			nested_sync_rare(v);
		return;
	}
	nested_fetch_rare(v);
	nested_shadow_to_vmcs12(v);
	/* L2 that an SMI has interrupted has its newest state in vmcs12 alone. */
	if (nested_evmcs_active(n) && !n->need_shadow_sync && !n->smm_guest_mode)
		nested_evmcs_fetch(v);
}

static bool has_shadow_vmcs12(const struct vmcs12 *v12)
{
	return v12_cpu2(v12, SECONDARY_EXEC_SHADOW_VMCS) && V12(v12, VMCS_LINK_POINTER) != ~0ull;
}

/*
 * Has L1 injected an event of the kinds that KVM_GET_VCPU_EVENTS leaves out (INT n, INT3, INTO,
 * INT1), and is it being delivered? Then nothing of L2 has run, and the entry can be made again.
 * (If L2 has executed the same instruction itself, an injection does what that does.)
 */
static bool entry_to_repeat(const struct kvm_vcpu *v, const struct vmcs12 *v12)
{
	const struct vcpu_arch *a = v->arch;
	const struct queued_exception *ex = &a->exception;
	u64 entry = V12(v12, VM_ENTRY_INTR_INFO_FIELD), info;

	if (ex->injected && kvm_exception_is_soft(ex))
		info = ex->vector | INTR_INFO_VALID | vmx_exception_type(ex);
	else if (a->interrupt.injected && a->interrupt.soft)
		info = a->interrupt.nr | INTR_INFO_VALID | INTR_TYPE_SOFT_INTR;
	else
		return false;
	if (entry != info)
		return false;
	return (info & INTR_INFO_TYPE_MASK) == INTR_TYPE_HARD_EXCEPTION ||
	       V12(v12, VM_ENTRY_INSTRUCTION_LEN) == a->event_exit_inst_len;
}

int nested_get_state(struct kvm_vcpu *v, struct kvm_nested_state *s, u32 size)
{
	struct nested_vmx *n = nested_of(v);
	struct kvm_nested_state head = {.format = 0, .size = HEADER};
	bool has_vmcs12 =
		(n->vmxon || n->smm_vmxon) && nested_has_vmcs12(n) && !nested_evmcs_left(v);
	bool has_shadow = has_vmcs12 && is_guest_mode(v) && has_shadow_vmcs12(n->vmcs12);

	head.hdr.vmx.vmxon_pa = head.hdr.vmx.vmcs12_pa = VMPTR_NONE;
	if ((n->vmxon || n->smm_vmxon) && guest_cpuid_has(v, FEAT_VMX)) {
		head.hdr.vmx.vmxon_pa = n->vmxon_ptr;
		head.hdr.vmx.vmcs12_pa = n->current_vmptr;
		if (has_vmcs12)
			head.size += VMCS12_SIZE;
		if (has_shadow)
			head.size += VMCS12_SIZE;
		if (has_vmcs12 && nested_evmcs_active(n))
			head.flags |= KVM_STATE_NESTED_EVMCS;
		if (n->smm_vmxon)
			head.hdr.vmx.smm.flags |= KVM_STATE_NESTED_SMM_VMXON;
		if (n->smm_guest_mode)
			head.hdr.vmx.smm.flags |= KVM_STATE_NESTED_SMM_GUEST_MODE;
		if (is_guest_mode(v)) {
			head.flags |= KVM_STATE_NESTED_GUEST_MODE;
			if (n->run_pending || entry_to_repeat(v, n->vmcs12))
				head.flags |= KVM_STATE_NESTED_RUN_PENDING;
			if (n->mtf_pending)
				head.flags |= KVM_STATE_NESTED_MTF_PENDING;
			if (n->has_timer_deadline) {
				head.hdr.vmx.flags |= KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE;
				head.hdr.vmx.preemption_timer_deadline = n->timer_deadline;
			}
		}
	}
	if (size < head.size)
		return (int)head.size;
	memcpy(s, &head, HEADER);
	if (!has_vmcs12)
		return (int)head.size;
	bring_up_to_date(v);
	memcpy(s->data.vmx[0].vmcs12, n->vmcs12, VMCS12_SIZE);
	if (has_shadow)
		memcpy(s->data.vmx[0].shadow_vmcs12, n->shadow_vmcs12, VMCS12_SIZE);
	return (int)head.size;
}

static bool page_ok(const struct kvm_vcpu *v, u64 pa)
{
	return !(pa & (PAGE_SIZE - 1)) && kvm_is_legal_gpa(v, pa);
}

static bool header_ok(struct kvm_vcpu *v, const struct kvm_nested_state *s)
{
	const struct kvm_vmx_nested_state_hdr *h = &s->hdr.vmx;
	u16 smm = h->smm.flags;

	if (s->format != 0)
		return false;
	if (h->vmxon_pa == VMPTR_NONE) {
		if (smm || h->vmcs12_pa != VMPTR_NONE || (s->flags & ~KVM_STATE_NESTED_EVMCS))
			return false;
	} else if (!guest_cpuid_has(v, FEAT_VMX) || !page_ok(v, h->vmxon_pa)) {
		return false;
	}
	if ((smm & KVM_STATE_NESTED_SMM_GUEST_MODE) && (s->flags & KVM_STATE_NESTED_GUEST_MODE))
		return false;
	if (smm & ~(KVM_STATE_NESTED_SMM_GUEST_MODE | KVM_STATE_NESTED_SMM_VMXON))
		return false;
	if (h->flags & ~(u32)KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE)
		return false;
	/* There is no VMX operation in SMM, and no SMM state outside it. */
	if (kvm_is_smm(v)
		    ? (s->flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING))
		    : smm)
		return false;
	if ((smm & KVM_STATE_NESTED_SMM_GUEST_MODE) && !(smm & KVM_STATE_NESTED_SMM_VMXON))
		return false;
	return !(s->flags & KVM_STATE_NESTED_EVMCS) ||
	       (guest_cpuid_has(v, FEAT_VMX) && nested_of(v)->evmcs.enabled);
}

static int restore_l2(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size)
{
	struct nested_vmx *n = nested_of(v);
	struct check_failure f;
	u64 pdptr[4];
	bool pae = is_pae_paging(v);

	/* Those of KVM_SET_SREGS2, or read from memory by KVM_SET_SREGS; vmcs12 has none without
	 * EPT. */
	for (unsigned i = 0; i < 4 && pae; i++)
		pdptr[i] = kvm_pdptr_read(v, i);
	n->run_pending = s->flags & KVM_STATE_NESTED_RUN_PENDING;
	n->mtf_pending = s->flags & KVM_STATE_NESTED_MTF_PENDING;
	/* The entry has delivered its event; L2 may be where the event could not be injected. The
	 * exit to L1 will clear the bit. */
	if (!n->run_pending)
		V12_SET(n->vmcs12, VM_ENTRY_INTR_INFO_FIELD,
			V12(n->vmcs12, VM_ENTRY_INTR_INFO_FIELD) & ~INTR_INFO_VALID);
	if (has_shadow_vmcs12(n->vmcs12)) {
		if (size < HEADER + 2 * VMCS12_SIZE)
			return -EINVAL;
		memcpy(n->shadow_vmcs12, s->data.vmx[0].shadow_vmcs12, VMCS12_SIZE);
		if (n->shadow_vmcs12->revision != (VMCS12_REVISION | VMCS12_SHADOW))
			return -EINVAL;
	}
	/* A notification may have been taken and not yet acted on: the descriptor knows. */
	n->pi_pending = v12_pin(n->vmcs12, PIN_BASED_POSTED_INTR);
	n->has_timer_deadline = s->hdr.vmx.flags & KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE;
	n->timer_deadline = s->hdr.vmx.preemption_timer_deadline;
	/* The mode of L1 is not here yet: what its host area says is what it was. */
	n->check.host_is_64bit = n->host_was_64bit =
		v12_exit(n->vmcs12, VM_EXIT_HOST_ADDR_SPACE_SIZE);
	n->check_dirty = T_ALL;
	for (enum check_group g = CHECK_CONTROLS; g <= CHECK_GUEST; g++) {
		if (!check_run(g, &n->check, &f)) {
			nested_explain(v, "KVM_SET_NESTED_STATE", &f);
			return -EINVAL;
		}
	}
	n->check_dirty = 0;
	if (nested_enter(v, false) != NESTED_ENTERED)
		return -EINVAL;
	if (pae && is_pae_paging(v) && !v12_cpu2(n->vmcs12, SECONDARY_EXEC_ENABLE_EPT)) {
		memcpy(v->regs.pdptr, pdptr, sizeof(pdptr));
		regcache_mark_dirty(&v->regs, VCPU_EXREG_PDPTR);
	}
	return 0;
}

int nested_set_state(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size)
{
	struct nested_vmx *n = nested_of(v);
	const struct kvm_vmx_nested_state_hdr *h = &s->hdr.vmx;
	int ret;

	if (!header_ok(v, s))
		return -EINVAL;
	nested_leave(v);
	if (h->vmxon_pa == VMPTR_NONE)
		return 0;
	n->vmxon_ptr = h->vmxon_pa;
	ret = nested_enter_operation(v);
	if (ret)
		return ret;
	if (h->smm.flags & KVM_STATE_NESTED_SMM_VMXON) {
		n->smm_vmxon = true;
		n->smm_guest_mode = h->smm.flags & KVM_STATE_NESTED_SMM_GUEST_MODE;
		n->vmxon = false;
	}
	if (size < HEADER + VMCS12_SIZE) {
		/* In VMX operation without a current VMCS. */
		return (s->flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_EVMCS)) ||
				       h->vmcs12_pa != VMPTR_NONE
			       ? -EINVAL
			       : 0;
	}
	if (h->vmcs12_pa == VMPTR_NONE ? !(s->flags & KVM_STATE_NESTED_EVMCS)
				       : h->vmcs12_pa == h->vmxon_pa || !page_ok(v, h->vmcs12_pa))
		return -EINVAL;
	memcpy(n->vmcs12, s->data.vmx[0].vmcs12, VMCS12_SIZE);
	if (h->vmcs12_pa == VMPTR_NONE) {
		/* Where it is, is in L1's memory, and the MSR that says where may come later. What
		 * is here is newer than what is there. */
		n->evmcs.ptr = EVMCS_PENDING;
		n->need_shadow_sync = true;
		nested_mark_all_dirty(n);
	} else {
		nested_set_vmptr(v, h->vmcs12_pa);
	}
	/* A shadow VMCS may be current, and nothing be entered with it. */
	if ((n->vmcs12->revision & ~(u32)VMCS12_SHADOW) != VMCS12_REVISION)
		return -EINVAL;
	if (!(s->flags & KVM_STATE_NESTED_GUEST_MODE))
		return 0;
	ret = restore_l2(v, s, size);
	if (ret)
		n->run_pending = false;
	return ret;
}
