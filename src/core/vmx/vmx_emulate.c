/* SPDX-License-Identifier: MIT */
/*
 * Guest states that VM entry refuses where the processor is not to run "unrestricted" guests: real
 * mode, unpaged code under EPT, and segments as they are between a change of mode and the jump that
 * ends it (SDM, 27.3.1). The emulator knows all instructions, so it runs them until the state is
 * one that can be entered.
 */
#include "core/emulate/emulate.h"
#include "core/vmx/vmx.h"
#include "isa/isa.h"

/* Instructions at a time: signals and KVM_RUN's immediate_exit are looked at in between. */
#define BUDGET 256

/* Known before trying: the processor's CR0 is not the guest's, so it would enter and run wrongly.
 */
void vmx_update_emulation(struct kvm_vcpu *v)
{
	const struct vmx_config *c = vmx_of(v)->config;

	vmx_of(v)->emulate = !c->unrestricted &&
			     (!(v->regs.cr0 & CR0_PE) || (c->ept && !(v->regs.cr0 & CR0_PG)));
}

/* An event was to be injected with the entry that does not take place. */
static int deliver(struct kvm_vcpu *v, u32 info)
{
	struct isa_event ev = {
		.vector = info & INTR_INFO_VECTOR_MASK,
		.type = bits_get(info, 10, 8),
		.has_error = info & INTR_INFO_DELIVER_ERR_CODE,
		.insn_len = (u8)vmcs_read(v, VM_ENTRY_INSTRUCTION_LEN),
	};
	int r;

	if (ev.has_error)
		ev.error = (u32)vmcs_read(v, VM_ENTRY_EXCEPTION_ERROR_CODE);
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, 0);
	v->arch->nmi_injected = false;
	kvm_clear_interrupt_queue(v);
	/* Until it is delivered, so that a fault on the way may become a double fault. */
	r = kvm_emulate_event(v, &ev);
	v->arch->exception.injected = false;
	return r;
}

static bool window_open(struct kvm_vcpu *v)
{
	u32 cpu = vmx_of(v)->loaded->cpu;

	return (cpu & CPU_BASED_INTR_WINDOW_EXITING && !vmx_interrupt_blocked(v)) ||
	       (cpu & CPU_BASED_NMI_WINDOW_EXITING && !vmx_nmi_blocked(v));
}

int vmx_emulate_guest(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	u32 info = (u32)vmcs_read(v, VM_ENTRY_INTR_INFO_FIELD);
	int r;

	if (info & INTR_INFO_VALID) {
		/* As KVM: an exception in a protected-mode state that cannot be entered is for user
		 * space to sort out. It stays queued. */
		if (!vmx->emulate && v->regs.cr0 & CR0_PE && v->arch->exception.injected) {
			vmx_cancel_injection(v);
			return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_EMULATION, NULL, 0);
		}
		return deliver(v, info);
	}
	for (unsigned n = 0; n < BUDGET; n++) {
		if (window_open(v)) {
			vmx_cpu_clearbit(v, CPU_BASED_INTR_WINDOW_EXITING |
						    CPU_BASED_NMI_WINDOW_EXITING);
			kvm_make_request(v, REQ_EVENT);
		}
		if (n && kvm_request_pending(&v->req))
			break;
		r = kvm_emulate_instruction(v, EMUL_WHOLE);
		if (r <= 0)
			return r;
		if (!vmx->emulate || v->mp_state != KVM_MP_STATE_RUNNABLE)
			break;
	}
	return 1;
}
