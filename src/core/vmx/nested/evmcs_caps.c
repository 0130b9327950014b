/* SPDX-License-Identifier: MIT */
/*
 * What of VMX an enlightened VMCS can express. The guests that use one (Hyper-V above all) believe
 * the capability MSRs, so they have to leave out what takes a field that the structure has not.
 * User space reads and writes them as they are: it may turn enlightened VMCSs on before or after.
 */
#include <errno.h>

#include "core/vmx/nested/nested.h"
#include "spec/msr.h"

/* Controls, and the field without which one is of no use. */
static const struct {
	u8 cap, true_cap;
	u32 control, field;
} needs[] = {
	{CAP_PINBASED, CAP_TRUE_PINBASED, PIN_BASED_VMX_PREEMPTION_TIMER,
	 VMX_PREEMPTION_TIMER_VALUE},
	{CAP_PINBASED, CAP_TRUE_PINBASED, PIN_BASED_POSTED_INTR, POSTED_INTR_DESC_ADDR},
	{CAP_EXIT, CAP_TRUE_EXIT, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER, VMX_PREEMPTION_TIMER_VALUE},
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES, APIC_ACCESS_ADDR},
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY, GUEST_INTR_STATUS},
	/* By itself it takes none, and is nothing without the other: Linux has neither. */
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_APIC_REGISTER_VIRT, GUEST_INTR_STATUS},
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_PAUSE_LOOP_EXITING, PLE_GAP},
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_ENABLE_VMFUNC, VM_FUNCTION_CONTROL},
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_SHADOW_VMCS, VMREAD_BITMAP},
	{CAP_PROCBASED2, CAP_PROCBASED2, SECONDARY_EXEC_ENABLE_PML, PML_ADDRESS},
};

static u64 filter(enum check_cap cap, u64 val)
{
	if (cap == CAP_VMFUNC && !nested_evmcs_has(VM_FUNCTION_CONTROL))
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
		if ((needs[i].cap == cap || needs[i].true_cap == cap) &&
		    !nested_evmcs_has(needs[i].field))
			val &= ~((u64)needs[i].control << 32);
	return val;
}

void nested_evmcs_update_caps(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	for (unsigned cap = 0; cap < CAP_N; cap++)
		n->evmcs.cap[cap] = filter((enum check_cap)cap, n->cap[cap]);
	n->check.vmx_msr = nested_evmcs_offered(v) ? n->evmcs.cap : n->cap;
	n->check_dirty = T_ALL;
}

u64 nested_evmcs_guest_cap(struct kvm_vcpu *v, u32 index, u64 val)
{
	if (!nested_evmcs_offered(v) || index < MSR_IA32_VMX_BASIC || index > MSR_IA32_VMX_VMFUNC)
		return val;
	return nested_of(v)->evmcs.cap[index - MSR_IA32_VMX_BASIC];
}

u16 nested_evmcs_version(const struct kvm_vcpu *v)
{
	/* Highest and lowest. */
	return !v || vmx_of(v)->nested->evmcs.enabled ? EVMCS_VERSION << 8 | EVMCS_VERSION : 0;
}

int nested_evmcs_enable(struct kvm_vcpu *v, u16 *version)
{
	nested_of(v)->evmcs.enabled = true;
	nested_evmcs_update_caps(v);
	*version = nested_evmcs_version(v);
	return 0;
}
