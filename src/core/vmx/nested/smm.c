/* SPDX-License-Identifier: MIT */
/*
 * System-management mode and VMX (SDM vol. 3C, 32.14, default treatment): an SMI leaves VMX
 * operation and, in L2, goes straight to the handler; RSM goes back to where the processor was. L1
 * sees none of it: no exit, and its VMCS stays the current one.
 */
#include <errno.h>

#include "core/vmx/nested/nested.h"

/* L2's registers are in the save area already. */
void nested_enter_smm(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	n->smm_guest_mode = is_guest_mode(v);
	if (n->smm_guest_mode)
		nested_vmexit(v, NESTED_EXIT_SILENT, 0, 0);
	n->smm_vmxon = n->vmxon;
	n->vmxon = false;
}

/* Before the registers come from the save area. */
int nested_leave_smm(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (n->smm_vmxon) {
		n->vmxon = true;
		n->smm_vmxon = false;
	}
	if (!n->smm_guest_mode)
		return 0;
	n->smm_guest_mode = false;
	if (nested_enter(v, false) != NESTED_ENTERED)
		return -EINVAL;
	/* As after VMRESUME: L2 gets to its next instruction before anything exits to L1. */
	n->run_pending = true;
	return 0;
}

/* An entry that L1 began is finished first. */
bool nested_smi_allowed(struct kvm_vcpu *v)
{
	return !nested_of(v)->run_pending;
}
