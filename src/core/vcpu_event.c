/* SPDX-License-Identifier: MIT */
/*
 * Exceptions, NMIs and interrupts on their way into the guest. Priorities (SDM vol. 3A, table 6-2,
 * as far as a hypervisor sees them): what was being delivered when the guest left goes first,
 * again; then a new exception; then an NMI; then an interrupt. One of them per entry; the others
 * open windows.
 */
#include <errno.h>
#include <string.h>

#include "core/emulate/emulate.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/smm.h"
#include "core/vcpu.h"

/* ---- Exceptions ---- */

enum exception_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PF };

static enum exception_class exception_class(unsigned vector)
{
	switch (vector) {
	case X86_PF_VEC: return CLASS_PF;
	case X86_DE:
	case X86_TS:
	case X86_NP:
	case X86_SS_VEC:
	case X86_GP: return CLASS_CONTRIBUTORY;
	default: return CLASS_BENIGN;
	}
}

void kvm_deliver_exception_payload(struct kvm_vcpu *v, struct queued_exception *ex)
{
	if (!ex->has_payload)
		return;
	switch (ex->vector) {
	case X86_DB:
		/*
		 * The payload has DR6's bits as the exit qualification has them: set where the
		 * condition was met, the active-low ones inverted.
		 */
		v->hw->dr6 &= ~0xfull;
		v->hw->dr6 |= DR6_ACTIVE_LOW;
		v->hw->dr6 |= ex->payload;
		v->hw->dr6 ^= ex->payload & DR6_ACTIVE_LOW;
		/* Enabled breakpoints were met: bit 12 tells VMX guests only. */
		v->hw->dr6 &= ~BIT(12);
		break;
	case X86_PF_VEC: v->hw->cr2 = ex->payload; break;
	default: break;
	}
	ex->has_payload = false;
	ex->payload = 0;
}

static void queue_exception(struct kvm_vcpu *v, unsigned vector, bool has_error, u32 error,
			    bool has_payload, u64 payload)
{
	struct queued_exception *ex = &v->arch->exception;
	enum exception_class c1, c2;

	kvm_make_request(v, REQ_EVENT);
	/* What L1 intercepts is an exit before it is anything else, whatever else is under way. */
	if (is_guest_mode(v) && v->kvm->ops->nested->is_exception_vmexit(v, vector, error))
		ex = &v->arch->exception_vmexit;
	if (ex == &v->arch->exception_vmexit || (!ex->pending && !ex->injected)) {
		*ex = (struct queued_exception){.pending = true,
						.vector = (u8)vector,
						.has_error = has_error,
						.error = error,
						.has_payload = has_payload,
						.payload = payload};
		return;
	}
	/* A second one: SDM vol. 3A, table 6-5. */
	if (ex->vector == X86_DF_VEC) {
		kvm_make_request(v, REQ_TRIPLE_FAULT);
		return;
	}
	c1 = exception_class(ex->vector);
	c2 = exception_class(vector);
	if ((c1 == CLASS_CONTRIBUTORY && c2 == CLASS_CONTRIBUTORY) ||
	    (c1 == CLASS_PF && c2 != CLASS_BENIGN)) {
		*ex = (struct queued_exception){
			.pending = true, .vector = X86_DF_VEC, .has_error = true};
		return;
	}
	/* The second instead of the first, which comes again when its instruction does. */
	*ex = (struct queued_exception){.pending = true,
					.vector = (u8)vector,
					.has_error = has_error,
					.error = error,
					.has_payload = has_payload,
					.payload = payload};
}

void kvm_sort_user_exception(struct kvm_vcpu *v)
{
	struct queued_exception *ex = &v->arch->exception;

	v->arch->exception_from_user = false;
	if (!is_guest_mode(v) || !ex->pending ||
	    !v->kvm->ops->nested->is_exception_vmexit(v, ex->vector, ex->error))
		return;
	v->arch->exception_vmexit = *ex;
	v->arch->exception_vmexit.injected = false;
	ex->pending = false;
	kvm_make_request(v, REQ_EVENT);
}

void kvm_queue_exception(struct kvm_vcpu *v, unsigned vector)
{
	queue_exception(v, vector, false, 0, false, 0);
}

void kvm_queue_exception_e(struct kvm_vcpu *v, unsigned vector, u32 error)
{
	queue_exception(v, vector, true, error, false, 0);
}

void kvm_queue_exception_p(struct kvm_vcpu *v, unsigned vector, u64 payload)
{
	queue_exception(v, vector, false, 0, true, payload);
}

void kvm_inject_page_fault(struct kvm_vcpu *v, u64 addr, u32 error)
{
	kvm_stat_inc(v, pf_guest);
	queue_exception(v, X86_PF_VEC, true, error, true, addr);
}

int kvm_inject_gp(struct kvm_vcpu *v)
{
	kvm_queue_exception_e(v, X86_GP, 0);
	return 1;
}

int kvm_complete_insn_gp(struct kvm_vcpu *v, int err)
{
	return err ? kvm_inject_gp(v) : kvm_skip_emulated_instruction(v);
}

int kvm_handle_invalid_op(struct kvm_vcpu *v)
{
	kvm_queue_exception(v, X86_UD);
	return 1;
}

int kvm_vcpu_do_singlestep(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	if (v->arch->guest_debug & KVM_GUESTDBG_SINGLESTEP) {
		run->debug.arch.dr6 = DR6_BS | DR6_ACTIVE_LOW;
		run->debug.arch.pc = kvm_get_linear_rip(v);
		run->debug.arch.exception = X86_DB;
		run->exit_reason = KVM_EXIT_DEBUG;
		return 0;
	}
	kvm_queue_exception_p(v, X86_DB, DR6_BS);
	return 1;
}

int kvm_skip_emulated_instruction(struct kvm_vcpu *v)
{
	u64 rflags = v->kvm->ops->get_rflags(v);
	int r = v->kvm->ops->skip_emulated_instruction(v);

	if (unlikely(!r))
		return 0;
	/* The instruction is done as far as the guest can tell: a trap that it would have raised is
	 * due. */
	if (unlikely(rflags & X86_TF))
		r = kvm_vcpu_do_singlestep(v);
	return r;
}

bool kvm_exception_is_soft(const struct queued_exception *ex)
{
	return ex->vector == X86_BP || ex->vector == X86_OFV || ex->type == EV_SW_EXC ||
	       ex->type == EV_PRIV_SW_EXC;
}

void kvm_clear_exception_queue(struct kvm_vcpu *v)
{
	v->arch->exception.pending = false;
	v->arch->exception.injected = false;
}

/* ---- Interrupts ---- */

void kvm_queue_interrupt(struct kvm_vcpu *v, u8 nr, bool soft)
{
	v->arch->interrupt = (struct queued_interrupt){.injected = true, .soft = soft, .nr = nr};
}

void kvm_clear_interrupt_queue(struct kvm_vcpu *v)
{
	v->arch->interrupt.injected = false;
}

void kvm_inject_nmi(struct kvm_vcpu *v)
{
	__atomic_fetch_add(&v->arch->nmi_queued, 1, __ATOMIC_SEQ_CST);
	kvm_make_request(v, REQ_NMI);
	kvm_vcpu_kick(v);
}

bool kvm_event_needs_reinjection(struct kvm_vcpu *v)
{
	return v->arch->exception.injected || v->arch->interrupt.injected || v->arch->nmi_injected;
}

int kvm_cpu_has_injectable_intr(struct kvm_vcpu *v)
{
	return irq_pending(v) >= 0;
}

bool kvm_vcpu_ready_for_interrupt_injection(struct kvm_vcpu *v)
{
	/* In-core APIC and PIC: user space has nothing to inject. Split: for the PIC it keeps. */
	return v->kvm->ops->interrupt_allowed(v, false) > 0 && !kvm_event_needs_reinjection(v) &&
	       !v->arch->exception.pending && irq_user_slot_free(v);
}

/* NMIs that arrived become pending: one while another is delivered or blocked, else two (SDM vol.
 * 3A, 6.7.1: one is held). */
void kvm_process_nmi(struct kvm_vcpu *v)
{
	unsigned limit = 2;
	u32 arrived = __atomic_exchange_n(&v->arch->nmi_queued, 0, __ATOMIC_SEQ_CST);

	if (v->kvm->ops->get_nmi_mask(v) || v->arch->nmi_injected)
		limit = 1;
	v->arch->nmi_pending += arrived;
	if (v->arch->nmi_pending > limit)
		v->arch->nmi_pending = limit;
	if (v->arch->nmi_pending)
		kvm_make_request(v, REQ_EVENT);
}

static void inject_exception(struct kvm_vcpu *v)
{
	struct queued_exception *ex = &v->arch->exception;

	if (ex->has_error && !is_protmode(v))
		ex->has_error = false;
	v->kvm->ops->inject_exception(v);
	VCPU_TRACE(event, v, TRACE_EXCEPTION, ex->vector, (u64)vcpu_trace_level(v), ex->error);
}

static void inject_nmi(struct kvm_vcpu *v, bool again)
{
	v->kvm->ops->inject_nmi(v);
	VCPU_TRACE(event, v, TRACE_NMI, (u64)vcpu_trace_level(v), again, 0);
}

static void inject_irq(struct kvm_vcpu *v, bool again)
{
	v->kvm->ops->inject_irq(v, again);
	VCPU_TRACE(event, v, TRACE_IRQ, v->arch->interrupt.nr, (u64)vcpu_trace_level(v), again);
}

/* What cannot go now gets a window: the processor exits as soon as it could. */
static void inject_new(struct kvm_vcpu *v, bool can_inject, bool *need_exit)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;
	int r;

	if (v->arch->smi_pending && kvm_smi_allowed(v)) {
		if (can_inject && (!is_guest_mode(v) || ops->nested->smi_allowed(v))) {
			v->arch->smi_pending = false;
			kvm_enter_smm(v);
			can_inject = false;
		} else {
			*need_exit = true;
		}
	}
	if (v->arch->nmi_pending) {
		r = can_inject ? ops->nmi_allowed(v, true) : 0;
		if (r < 0)
			*need_exit = true;
		else if (r) {
			v->arch->nmi_pending--;
			v->arch->nmi_injected = true;
			inject_nmi(v, false);
			can_inject = false;
		}
		if (v->arch->nmi_pending)
			ops->enable_nmi_window(v);
	}
	if (kvm_cpu_has_injectable_intr(v)) {
		r = can_inject ? ops->interrupt_allowed(v, true) : 0;
		if (r < 0)
			*need_exit = true;
		else if (r) {
			int irq = irq_get(v);

			if (irq >= 0) {
				kvm_queue_interrupt(v, (u8)irq, false);
				inject_irq(v, false);
			}
		}
		if (kvm_cpu_has_injectable_intr(v))
			ops->enable_irq_window(v);
	}
}

void kvm_check_and_inject_events(struct kvm_vcpu *v, bool *need_exit)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;
	struct queued_exception *ex = &v->arch->exception;
	bool can_inject;
	int r = 0;

	if (is_guest_mode(v))
		r = ops->nested->check_events(v);
	can_inject = !kvm_event_needs_reinjection(v);

	/* Again: what was interrupted. */
	if (ex->injected)
		inject_exception(v);
	else if (ex->pending)
		; /* an exception goes before NMIs and interrupts that are not yet underway */
	else if (v->arch->nmi_injected)
		inject_nmi(v, true);
	else if (v->arch->interrupt.injected)
		inject_irq(v, true);

	/* Something is for L1, as soon as L2 has been entered. */
	if (r < 0) {
		*need_exit = true;
		return;
	}
	if (ex->pending) {
		if (!can_inject)
			v->arch->nmi_injected = v->arch->interrupt.injected = false;
		/* Faults push RF set, so that a code breakpoint does not fire again at the same
		 * instruction (SDM vol. 3B, 18.3.1.1); #DB as a trap does not. */
		if (ex->vector != X86_DB && ex->vector != X86_BP && ex->vector != X86_OFV)
			ops->set_rflags(v, ops->get_rflags(v) | X86_RF);
		if (ex->vector == X86_DB) {
			kvm_deliver_exception_payload(v, ex);
			if (kvm_get_dr(v, 7) & DR7_GD)
				kvm_set_dr(v, 7, kvm_get_dr(v, 7) & ~DR7_GD);
		}
		kvm_deliver_exception_payload(v, ex);
		inject_exception(v);
		ex->pending = false;
		ex->injected = true;
		can_inject = false;
	}
	if (!(v->arch->guest_debug & KVM_GUESTDBG_BLOCKIRQ))
		inject_new(v, can_inject, need_exit);
	if (is_guest_mode(v) && ops->nested->has_events(v))
		*need_exit = true;
}

/* ---- Requests of user space ---- */

int vcpu_nmi(struct kvm_vcpu *v)
{
	kvm_inject_nmi(v);
	return 0;
}

int vcpu_smi(struct kvm_vcpu *v)
{
	kvm_make_request(v, REQ_SMI);
	return 0;
}

/* ---- Exits that are not instructions' ---- */

int kvm_exit_shutdown(struct kvm_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return 0;
}

int kvm_exit_internal_error(struct kvm_vcpu *v, u32 suberror, const u64 *data, unsigned ndata)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = ndata;
	for (unsigned i = 0; i < ndata; i++)
		run->internal.data[i] = data[i];
	return 0;
}

void vcpu_events_reset(struct kvm_vcpu *v)
{
	struct vcpu_arch *a = v->arch;

	memset(&a->exception, 0, sizeof(a->exception));
	memset(&a->exception_vmexit, 0, sizeof(a->exception_vmexit));
	a->exception_from_user = false;
	memset(&a->interrupt, 0, sizeof(a->interrupt));
	a->nmi_injected = false;
	a->nmi_pending = 0;
	__atomic_store_n(&a->nmi_queued, 0, __ATOMIC_RELAXED);
	a->smi_pending = false;
}
