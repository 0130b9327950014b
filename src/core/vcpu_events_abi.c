/* SPDX-License-Identifier: MIT */
/* KVM_GET/SET_VCPU_EVENTS, MP_STATE, DEBUGREGS, SET_GUEST_DEBUG. */
#include <errno.h>
#include <string.h>

#include "core/irqchip/irq_private.h"
#include "core/irqchip/irqchip.h"
#include "core/smm.h"
#include "core/vcpu.h"

/* ---- Run state ---- */

int vcpu_get_mp_state(struct kvm_vcpu *v, struct kvm_mp_state *s)
{
	kvm_apic_accept_events(v);
	if (v->mp_state == KVM_MP_STATE_HALTED && v->arch->pv_unhalted)
		s->mp_state = KVM_MP_STATE_RUNNABLE;
	else
		s->mp_state = (u32)v->mp_state;
	return 0;
}

int vcpu_set_mp_state(struct kvm_vcpu *v, const struct kvm_mp_state *s)
{
	switch (s->mp_state) {
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED:
		/* Without our APIC these states are user space's to keep. */
		if (!v->apic)
			return -EINVAL;
		break;
	case KVM_MP_STATE_RUNNABLE: break;
	default: return -EINVAL;
	}
	if (s->mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		struct apic_msg m = {.delivery = APIC_DELIVER_SIPI,
				     .vector = lapic_sipi_vector(v),
				     .assert = true};

		v->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		lapic_accept(v, &m);
	} else {
		v->mp_state = (int)s->mp_state;
	}
	kvm_make_request(v, REQ_EVENT);
	return 0;
}

/* ---- Events ---- */

int vcpu_get_vcpu_events(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{
	struct vcpu_arch *a = v->arch;
	const struct kvm_arch *ka = v->kvm->arch;
	/* One of them fits. One that is being delivered meets that for L1 again. */
	struct queued_exception *ex =
		a->exception_vmexit.pending && !a->exception.pending && !a->exception.injected
			? &a->exception_vmexit
			: &a->exception;

	kvm_process_nmi(v);
	/* User space that does not know payloads gets them applied. */
	if (!ka->exception_payload_enabled && ex->pending && ex->has_payload)
		kvm_deliver_exception_payload(v, ex);
	memset(e, 0, sizeof(*e));
	/* Soft exceptions are done by their instruction again, or by L1's entry: state.c. */
	if (!kvm_exception_is_soft(ex)) {
		e->exception.injected = ex->injected;
		e->exception.pending = ex->pending;
		if (!ka->exception_payload_enabled)
			e->exception.injected |= ex->pending;
	}
	e->exception.nr = ex->vector;
	e->exception.has_error_code = ex->has_error;
	e->exception.error_code = ex->error;
	e->exception_has_payload = ex->has_payload;
	e->exception_payload = ex->payload;
	e->interrupt.injected = a->interrupt.injected && !a->interrupt.soft;
	e->interrupt.nr = a->interrupt.nr;
	e->interrupt.shadow = (u8)v->kvm->ops->get_interrupt_shadow(v);
	/* The ABI's bits are the other way round. */
	e->interrupt.shadow =
		(e->interrupt.shadow & ISA_BLOCK_STI ? KVM_X86_SHADOW_INT_STI : 0) |
		(e->interrupt.shadow & ISA_BLOCK_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS : 0);
	e->nmi.injected = a->nmi_injected;
	e->nmi.pending = (u8)a->nmi_pending;
	e->nmi.masked = v->kvm->ops->get_nmi_mask(v);
	e->smi.smm = a->smm;
	e->smi.pending =
		a->smi_pending || __atomic_load_n(&v->req.pending, __ATOMIC_ACQUIRE) & BIT(REQ_SMI);
	e->smi.smm_inside_nmi = a->smm_inside_nmi;
	e->smi.latched_init = lapic_init_latched(v);
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SMM;
	if (ka->exception_payload_enabled)
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (ka->triple_fault_event) {
		e->triple_fault.pending = !!(v->req.pending & BIT(REQ_TRIPLE_FAULT));
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	return 0;
}

#define EVENT_FLAGS                                                                           \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |                  \
	 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | \
	 KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static int check_events(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{
	const struct kvm_arch *ka = v->kvm->arch;

	if (e->flags & ~(u32)EVENT_FLAGS)
		return -EINVAL;
	if (e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		if (!ka->exception_payload_enabled)
			return -EINVAL;
		if (e->exception.pending)
			e->exception.injected = 0;
		else
			e->exception_has_payload = 0;
	} else {
		e->exception.pending = 0;
		e->exception_has_payload = 0;
	}
	if ((e->exception.injected || e->exception.pending) &&
	    (e->exception.nr > 31 || e->exception.nr == X86_NMI))
		return -EINVAL;
	if ((e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !ka->triple_fault_event)
		return -EINVAL;
	return 0;
}

int vcpu_set_vcpu_events(struct kvm_vcpu *v, const struct kvm_vcpu_events *user)
{
	struct kvm_vcpu_events e = *user;
	struct vcpu_arch *a = v->arch;
	const struct kvm_x86_ops *ops = v->kvm->ops;
	int ret = check_events(v, &e);

	if (ret)
		return ret;
	kvm_process_nmi(v);
	a->exception = (struct queued_exception){
		.injected = e.exception.injected,
		.pending = e.exception.pending,
		.vector = e.exception.nr,
		.has_error = e.exception.has_error_code,
		.error = e.exception.error_code,
		.has_payload = e.exception_has_payload,
		.payload = e.exception_payload,
	};
	a->exception_from_user = e.exception.pending;
	a->exception_vmexit.pending = false;
	a->interrupt = (struct queued_interrupt){
		.injected = e.interrupt.injected, .nr = e.interrupt.nr, .soft = e.interrupt.soft};
	if (e.flags & KVM_VCPUEVENT_VALID_SHADOW)
		ops->set_interrupt_shadow(
			v, (e.interrupt.shadow & KVM_X86_SHADOW_INT_STI ? ISA_BLOCK_STI : 0) |
				   (e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? ISA_BLOCK_MOVSS
										   : 0));
	a->nmi_injected = e.nmi.injected;
	if (e.flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		a->nmi_pending = e.nmi.pending;
	ops->set_nmi_mask(v, e.nmi.masked);
	if ((e.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) && v->apic)
		lapic_set_sipi_vector(v, (u8)e.sipi_vector);
	if (e.flags & KVM_VCPUEVENT_VALID_SMM) {
		if (!!e.smi.smm != a->smm)
			kvm_smm_changed(v, e.smi.smm);
		kvm_check_request(v, REQ_SMI);
		a->smi_pending = e.smi.pending;
		if (e.smi.smm) {
			a->smm_inside_nmi = e.smi.smm_inside_nmi;
			lapic_set_init_latched(v, e.smi.latched_init);
		}
	}
	if (e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		if (e.triple_fault.pending)
			kvm_make_request(v, REQ_TRIPLE_FAULT);
		else
			kvm_check_request(v, REQ_TRIPLE_FAULT);
	}
	kvm_make_request(v, REQ_EVENT);
	return 0;
}

/* ---- Debug registers ---- */

int vcpu_get_debugregs(struct kvm_vcpu *v, struct kvm_debugregs *d)
{
	memset(d, 0, sizeof(*d));
	for (unsigned i = 0; i < 4; i++)
		d->db[i] = kvm_get_dr(v, i);
	d->dr6 = kvm_get_dr(v, 6);
	d->dr7 = kvm_get_dr(v, 7);
	return 0;
}

int vcpu_set_debugregs(struct kvm_vcpu *v, const struct kvm_debugregs *d)
{
	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	for (unsigned i = 0; i < 4; i++)
		kvm_set_dr(v, i, d->db[i]);
	kvm_set_dr(v, 6, d->dr6);
	kvm_set_dr(v, 7, d->dr7);
	return 0;
}

/* ---- A debugger outside ---- */

static void take_debug_registers(struct kvm_vcpu *v, const struct kvm_guest_debug *d)
{
	struct vcpu_arch *a = v->arch;

	if (!(a->guest_debug & KVM_GUESTDBG_USE_HW_BP)) {
		for (unsigned i = 0; i < 4; i++)
			a->db[i] = v->hw->dr[i];
		a->dr7 = v->kvm->ops->get_dr7(v);
	}
	for (unsigned i = 0; i < 4; i++)
		a->eff_db[i] = v->hw->dr[i] = d->arch.debugreg[i];
	a->guest_debug_dr7 = (u32)d->arch.debugreg[7];
}

static void return_debug_registers(struct kvm_vcpu *v)
{
	if (!(v->arch->guest_debug & KVM_GUESTDBG_USE_HW_BP))
		return;
	for (unsigned i = 0; i < 4; i++)
		v->hw->dr[i] = v->arch->db[i];
}

int vcpu_set_guest_debug(struct kvm_vcpu *v, const struct kvm_guest_debug *d)
{
	struct vcpu_arch *a = v->arch;
	u32 control = d->control & KVM_GUESTDBG_ENABLE ? d->control : 0;
	u64 rflags;
	bool had_hw = a->guest_debug & KVM_GUESTDBG_USE_HW_BP;

	if (d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (a->exception.pending || a->exception.injected)
			return -EBUSY;
		kvm_queue_exception(v, d->control & KVM_GUESTDBG_INJECT_DB ? X86_DB : X86_BP);
	}
	/* Without the TF of a step that was on until now. */
	rflags = kvm_get_rflags(v);
	if (control & KVM_GUESTDBG_USE_HW_BP)
		take_debug_registers(v, d);
	else
		return_debug_registers(v);
	a->guest_debug = control;
	if (control & KVM_GUESTDBG_USE_HW_BP || had_hw)
		kvm_update_dr7(v);
	if (control & KVM_GUESTDBG_SINGLESTEP)
		a->singlestep_rip = kvm_get_linear_rip(v);
	kvm_set_rflags(v, rflags);
	v->kvm->ops->update_controls(v);
	v->kvm->ops->update_exception_bitmap(v);
	return 0;
}
