/* SPDX-License-Identifier: MIT */
/* Events: into the guest at VM entry, windows, and what an exit interrupted (SDM, 25.8.3, 25.9.3).
 */
#include <errno.h>

#include "core/vmx/nested/nested.h"

/* ---- Blocking ---- */

u32 vmx_get_interrupt_shadow(struct kvm_vcpu *v)
{
	return vmcs_read(v, GUEST_INTERRUPTIBILITY_INFO) &
	       (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS);
}

void vmx_set_interrupt_shadow(struct kvm_vcpu *v, u32 mask)
{
	u32 old = (u32)vmcs_read(v, GUEST_INTERRUPTIBILITY_INFO);
	u32 new = old & ~(u32)(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS);

	/* At most one of the two may be set. */
	if (mask & GUEST_INTR_STATE_MOV_SS)
		new |= GUEST_INTR_STATE_MOV_SS;
	else if (mask & GUEST_INTR_STATE_STI)
		new |= GUEST_INTR_STATE_STI;
	if (new != old)
		vmcs_write(v, GUEST_INTERRUPTIBILITY_INFO, new);
}

bool vmx_get_nmi_mask(struct kvm_vcpu *v)
{
	return vmcs_read(v, GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI;
}

void vmx_set_nmi_mask(struct kvm_vcpu *v, bool masked)
{
	u64 old = vmcs_read(v, GUEST_INTERRUPTIBILITY_INFO);
	u64 new = masked ? old | GUEST_INTR_STATE_NMI : old & ~GUEST_INTR_STATE_NMI;

	if (new != old)
		vmcs_write(v, GUEST_INTERRUPTIBILITY_INFO, new);
}

bool vmx_interrupt_blocked(struct kvm_vcpu *v)
{
	/* Nothing in L2 holds back what exits from it. */
	if (is_guest_mode(v) && v12_pin(vmcs12_of(v), PIN_BASED_EXT_INTR_MASK))
		return false;
	return !(vmx_get_rflags(v) & X86_IF) || vmx_get_interrupt_shadow(v);
}

bool vmx_nmi_blocked(struct kvm_vcpu *v)
{
	if (is_guest_mode(v) && v12_pin(vmcs12_of(v), PIN_BASED_NMI_EXITING))
		return false;
	return vmcs_read(v, GUEST_INTERRUPTIBILITY_INFO) &
	       (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS | GUEST_INTR_STATE_NMI);
}

int vmx_interrupt_allowed(struct kvm_vcpu *v, bool for_injection)
{
	if (nested_of(v)->run_pending)
		return -EBUSY;
	if (for_injection && is_guest_mode(v) && v12_pin(vmcs12_of(v), PIN_BASED_EXT_INTR_MASK))
		return -EBUSY;
	return !vmx_interrupt_blocked(v);
}

int vmx_nmi_allowed(struct kvm_vcpu *v, bool for_injection)
{
	if (nested_of(v)->run_pending)
		return -EBUSY;
	if (for_injection && is_guest_mode(v) && v12_pin(vmcs12_of(v), PIN_BASED_NMI_EXITING))
		return -EBUSY;
	return !vmx_nmi_blocked(v);
}

/* ---- Injection ---- */

static void clear_hlt(struct kvm_vcpu *v)
{
	/* Only possible when HLT does not exit. */
	if (v->kvm->arch->hlt_in_guest && vmcs_read(v, GUEST_ACTIVITY_STATE) == GUEST_ACTIVITY_HLT)
		vmcs_write(v, GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
}

void vmx_inject_irq(struct kvm_vcpu *v, bool reinjected)
{
	u64 info = v->arch->interrupt.nr | INTR_INFO_VALID;

	if (v->arch->interrupt.soft) {
		info |= INTR_TYPE_SOFT_INTR;
		vmcs_write(v, VM_ENTRY_INSTRUCTION_LEN, v->arch->event_exit_inst_len);
	} else {
		info |= INTR_TYPE_EXT_INTR;
	}
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, info);
	kvm_stat_inc(v, irq_injections);
	clear_hlt(v);
}

void vmx_inject_nmi(struct kvm_vcpu *v)
{
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, X86_NMI | INTR_TYPE_NMI | INTR_INFO_VALID);
	kvm_stat_inc(v, nmi_injections);
	clear_hlt(v);
}

void vmx_inject_exception(struct kvm_vcpu *v)
{
	const struct queued_exception *ex = &v->arch->exception;
	u64 info = ex->vector | INTR_INFO_VALID | vmx_exception_type(ex);

	/* SDM, 27.2.1.3: no error code may be delivered in real mode. */
	if (ex->has_error && is_protmode(v)) {
		/* Bits 31:16 must be 0; the page-fault bits above are not the guest's. */
		vmcs_write(v, VM_ENTRY_EXCEPTION_ERROR_CODE, (u16)ex->error);
		info |= INTR_INFO_DELIVER_ERR_CODE;
	}
	if (vmx_exception_type(ex) != INTR_TYPE_HARD_EXCEPTION)
		vmcs_write(v, VM_ENTRY_INSTRUCTION_LEN, v->arch->event_exit_inst_len);
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, info);
	clear_hlt(v);
}

/* ---- Windows ---- */

void vmx_enable_irq_window(struct kvm_vcpu *v)
{
	vmx_cpu_setbit(v, CPU_BASED_INTR_WINDOW_EXITING);
}

void vmx_enable_nmi_window(struct kvm_vcpu *v)
{
	vmx_cpu_setbit(v, CPU_BASED_NMI_WINDOW_EXITING);
}

/* ---- What the exit, or a cancelled entry, left undelivered ---- */

static void requeue(struct kvm_vcpu *v, u32 info, u32 len_field, u32 error_field)
{
	u8 vector = info & INTR_INFO_VECTOR_MASK;
	struct queued_exception *ex = &v->arch->exception;

	v->arch->nmi_injected = false;
	kvm_clear_exception_queue(v);
	kvm_clear_interrupt_queue(v);
	if (!(info & INTR_INFO_VALID))
		return;
	kvm_make_request(v, REQ_EVENT);
	switch (info & INTR_INFO_TYPE_MASK) {
	case INTR_TYPE_NMI:
		v->arch->nmi_injected = true;
		/* SDM, 28.2.3: blocking by NMI is in effect although it was not delivered. */
		vmx_set_nmi_mask(v, false);
		break;
	case INTR_TYPE_SOFT_EXC:
	case INTR_TYPE_PRIV_SW_EXC:
		v->arch->event_exit_inst_len = (u8)vmcs_read(v, len_field);
		fallthrough;
	case INTR_TYPE_HARD_EXCEPTION:
		*ex = (struct queued_exception){
			.injected = true,
			.vector = vector,
			.type = (u8)bits_get(info, 10, 8),
		};
		if (info & INTR_INFO_DELIVER_ERR_CODE) {
			ex->has_error = true;
			ex->error = (u32)vmcs_read(v, error_field);
		}
		break;
	case INTR_TYPE_SOFT_INTR:
		v->arch->event_exit_inst_len = (u8)vmcs_read(v, len_field);
		kvm_queue_interrupt(v, vector, true);
		break;
	case INTR_TYPE_EXT_INTR: kvm_queue_interrupt(v, vector, false); break;
	default: break;
	}
}

void vmx_complete_interrupts(struct kvm_vcpu *v)
{
	requeue(v, vmx_of(v)->idt_vectoring_info, VM_EXIT_INSTRUCTION_LEN,
		IDT_VECTORING_ERROR_CODE);
}

void vmx_cancel_injection(struct kvm_vcpu *v)
{
	requeue(v, (u32)vmcs_read(v, VM_ENTRY_INTR_INFO_FIELD), VM_ENTRY_INSTRUCTION_LEN,
		VM_ENTRY_EXCEPTION_ERROR_CODE);
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, 0);
}

/*
 * SDM, 28.2.3: an IRET that faulted has already ended NMI blocking; the exit says so, and the
 * blocking is to be restored before the fault is handled. Not for double faults, nor when the fault
 * happened in event delivery (then there was no IRET).
 */
void vmx_recover_nmi_blocking(struct kvm_vcpu *v)
{
	u32 info = kvm_exit_info_2(v);

	if ((info & INTR_INFO_VALID) && (info & INTR_INFO_UNBLOCK_NMI) &&
	    (info & INTR_INFO_VECTOR_MASK) != X86_DF_VEC &&
	    !(vmx_of(v)->idt_vectoring_info & INTR_INFO_VALID))
		vmx_set_nmi_mask(v, true);
}

void vmx_update_exception_bitmap(struct kvm_vcpu *v)
{
	/*
	 * #UD: other vendors' hypercalls. #MC: the processor's report of missing memory. #DB and
	 * #AC: their own delivery can raise them again, without end and without a window for an
	 * interrupt; an exit in between gives one.
	 */
	u32 eb = 1u << X86_UD | 1u << X86_MC | 1u << X86_DB | 1u << X86_AC_VEC;

	if (!vmx_of(v)->config->ept)
		eb |= 1u << X86_PF_VEC;
	if (v->arch->guest_debug & KVM_GUESTDBG_ENABLE &&
	    v->arch->guest_debug & KVM_GUESTDBG_USE_SW_BP)
		eb |= 1u << X86_BP;
	/* Either hypervisor's wish makes it an exit; which of them gets it is decided then. */
	if (is_guest_mode(v))
		eb |= (u32)V12(vmcs12_of(v), EXCEPTION_BITMAP);
	vmx_write_exception_bitmap(v, eb);
}
