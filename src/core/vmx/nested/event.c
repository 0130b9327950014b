/* SPDX-License-Identifier: MIT */
/*
 * Events while L2 runs, in the order of SDM vol. 3A, table 7-2: what L1 intercepts becomes an exit
 * to it, the rest is for vcpu_event.c to inject into L2.
 */
#include <errno.h>

#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/tsc.h"
#include "core/vmx/nested/nested.h"

/* ---- Exceptions ---- */

bool nested_is_exception_vmexit(struct kvm_vcpu *v, unsigned vector, u32 error)
{
	return nested_exception_wanted(vmcs12_of(v), vector, error);
}

static void exception_vmexit(struct kvm_vcpu *v)
{
	struct queued_exception *ex = &v->arch->exception_vmexit;
	struct vmcs12 *v12 = vmcs12_of(v);
	u32 info = (u32)(ex->vector | INTR_INFO_VALID) | vmx_exception_type(ex);
	u64 q = 0;

	/* CR2 and DR6 stay as they are: what would have gone there is the qualification. */
	if (ex->has_payload)
		q = ex->payload;
	else if (ex->vector == X86_PF_VEC)
		q = v->hw->cr2;
	else if (ex->vector == X86_DB)
		q = (v->hw->dr6 & ~DR6_BT) ^ DR6_ACTIVE_LOW;
	if (ex->has_error && is_protmode(v)) {
		V12_SET(v12, VM_EXIT_INTR_ERROR_CODE, (u16)ex->error);
		info |= INTR_INFO_DELIVER_ERR_CODE;
	}
	ex->pending = false;
	nested_vmexit(v, EXIT_REASON_EXCEPTION_NMI, info, q);
}

/* A #DB that is a trap of the instruction before, and so comes after MTF. Trap or fault is told by
 * the payload: general detect and task switches are not traps of that kind. */
static bool low_priority_db(const struct queued_exception *ex)
{
	return ex->pending && ex->vector == X86_DB && (ex->payload & ~(DR6_BD | DR6_BT));
}

/* An exit takes the place of a pending debug trap: L1 finds it in the field (28.3.4). */
static void save_pending_dbg(struct kvm_vcpu *v)
{
	const struct queued_exception *ex = &v->arch->exception;

	if (low_priority_db(ex))
		vmcs_write(v, GUEST_PENDING_DBG_EXCEPTIONS, ex->payload & ~DR6_BD);
}

void nested_triple_fault(struct kvm_vcpu *v)
{
	nested_vmexit(v, EXIT_REASON_TRIPLE_FAULT, 0, 0);
}

/* ---- Preemption timer while L2 does not run (the processor has it otherwise) ---- */

static bool timer_used(struct kvm_vcpu *v)
{
	return v12_pin(vmcs12_of(v), PIN_BASED_VMX_PREEMPTION_TIMER) &&
	       nested_of(v)->has_timer_deadline;
}

u64 nested_timer_expires_ns(struct kvm_vcpu *v)
{
	if (!timer_used(v))
		return ~0ull;
	return kvm_guest_tsc_to_ns(v, nested_of(v)->timer_deadline << NESTED_TIMER_SHIFT);
}

static bool timer_expired(struct kvm_vcpu *v)
{
	return timer_used(v) && !nested_timer_remaining(v);
}

/* ---- INIT ---- */

/* 26.2: in VMX root operation INIT waits; in L2 it exits. */
bool nested_init_blocked(struct kvm_vcpu *v)
{
	return nested_of(v)->vmxon && !is_guest_mode(v);
}

/* ---- Posted interrupts (30.6) ---- */

static int posted_interrupts(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!n->pi_pending)
		return 0;
	n->pi_pending = false;
	/* The descriptor is in vmcs02, the processor does the rest at its next look. */
	sil_cpu_notify(v->cpu);
	return 0;
}

/* ---- In order ---- */

static bool exit_on_interrupt(struct kvm_vcpu *v)
{
	return v12_pin(vmcs12_of(v), PIN_BASED_EXT_INTR_MASK);
}

static int interrupt_vmexit(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	struct vmcs12 *v12 = n->vmcs12;
	int irq;

	if (!v12_exit(v12, VM_EXIT_ACK_INTR_ON_EXIT)) {
		nested_vmexit(v, EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0);
		return 0;
	}
	/* Posted interrupts are noticed when the local APIC delivers their vector. */
	if (v12_pin(v12, PIN_BASED_POSTED_INTR) && !irq_pending_is_extint(v) &&
	    irq_pending(v) == (int)V12(v12, POSTED_INTR_NV)) {
		lapic_clear_irr(v, (u8)V12(v12, POSTED_INTR_NV));
		n->pi_pending = true;
		return posted_interrupts(v);
	}
	irq = irq_get(v);
	if (irq >= 0)
		nested_vmexit(v, EXIT_REASON_EXTERNAL_INTERRUPT,
			      (u32)(INTR_INFO_VALID | INTR_TYPE_EXT_INTR | (u32)irq), 0);
	return 0;
}

/* INIT and SIPI: true if something became of them. */
static int init_sipi(struct kvm_vcpu *v, bool blocked, bool *done)
{
	bool waiting = v->mp_state == KVM_MP_STATE_INIT_RECEIVED;
	unsigned got;
	u8 vector;

	*done = false;
	if (!v->apic || !lapic_has_init_sipi(v))
		return 0;
	if (blocked)
		return -EBUSY;
	got = lapic_take_init_sipi(v, &vector);
	*done = true;
	if (got & LAPIC_INIT) {
		save_pending_dbg(v);
		if (!waiting)
			nested_vmexit(v, EXIT_REASON_INIT_SIGNAL, 0, 0);
	} else if ((got & LAPIC_SIPI) && waiting) {
		nested_vmexit(v, EXIT_REASON_SIPI_SIGNAL, 0, vector);
	}
	return 0;
}

/*
 * 0: L2 may be given what is left, or there is no L2 any more; -EBUSY: something is for L1, but the
 * entry or delivery under way has to come first.
 */
int nested_check_events(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	struct vcpu_arch *a = v->arch;
	/* An exception belongs to what is being delivered; anything else waits for a boundary. */
	bool block_exceptions = n->run_pending;
	bool block_events = block_exceptions || kvm_event_needs_reinjection(v);
	bool done;
	int ret;

	ret = init_sipi(v, block_events, &done);
	if (ret || done || !is_guest_mode(v))
		return ret;
	if (a->exception_vmexit.pending && !low_priority_db(&a->exception_vmexit)) {
		if (block_exceptions)
			return -EBUSY;
		exception_vmexit(v);
		return 0;
	}
	if (a->exception.pending && !low_priority_db(&a->exception))
		return block_exceptions ? -EBUSY : 0;
	if (n->mtf_pending) {
		if (block_events)
			return -EBUSY;
		save_pending_dbg(v);
		nested_vmexit(v, EXIT_REASON_MONITOR_TRAP_FLAG, 0, 0);
		return 0;
	}
	if (a->exception_vmexit.pending) {
		if (block_exceptions)
			return -EBUSY;
		exception_vmexit(v);
		return 0;
	}
	if (a->exception.pending)
		return block_exceptions ? -EBUSY : 0;
	if (timer_expired(v)) {
		if (block_events)
			return -EBUSY;
		nested_vmexit(v, EXIT_REASON_PREEMPTION_TIMER, 0, 0);
		return 0;
	}
	if (a->nmi_pending && !vmx_nmi_blocked(v)) {
		if (block_events)
			return -EBUSY;
		if (v12_pin(n->vmcs12, PIN_BASED_NMI_EXITING)) {
			nested_vmexit(v, EXIT_REASON_EXCEPTION_NMI,
				      (u32)(X86_NMI | INTR_TYPE_NMI | INTR_INFO_VALID), 0);
			/* 28.5.5: the exit is the delivery. */
			a->nmi_pending--;
			vmx_set_nmi_mask(v, true);
			return 0;
		}
		return posted_interrupts(v);
	}
	if (irq_pending(v) >= 0 && !vmx_interrupt_blocked(v)) {
		if (block_events)
			return -EBUSY;
		if (exit_on_interrupt(v))
			return interrupt_vmexit(v);
	}
	return posted_interrupts(v);
}

bool nested_has_events(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (n->mtf_pending || v->arch->exception_vmexit.pending || timer_expired(v))
		return true;
	/* A virtual interrupt that waits in the virtual-APIC page: 30.2.1. */
	if (v12_cpu2(n->vmcs12, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) && n->vapic_page != HVA_BAD &&
	    (vmx_get_rflags(v) & X86_IF) && !vmx_get_interrupt_shadow(v)) {
		u64 ppr_at = V12(n->vmcs12, VIRTUAL_APIC_PAGE_ADDR) + 0xa0;
		u32 ppr;
		u8 rvi = (u8)vmcs_read(v, GUEST_INTR_STATUS);

		if (!vcpu_read_guest(v, ppr_at, &ppr, sizeof(ppr)) && (rvi & 0xf0) > (ppr & 0xf0))
			return true;
	}
	return n->pi_pending;
}

/* ---- Faults of EPT12 ---- */

void nested_ept_inject(struct kvm_vcpu *v, const struct guest_fault *f)
{
	struct nested_vmx *n = nested_of(v);
	const u64 from_exit = EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED;
	u32 reason = EXIT_REASON_EPT_VIOLATION;
	u64 q = f->exit_qualification, hw_q = kvm_exit_info_1(v);
	bool from_hw = (vmx_of(v)->exit_reason & 0xffff) == EXIT_REASON_EPT_VIOLATION &&
		       vmcs_read(v, GUEST_PHYSICAL_ADDRESS) == f->addr;

	if (n->pml_full) {
		n->pml_full = false;
		reason = EXIT_REASON_PML_FULL;
		q = hw_q & EPT_VIOLATION_NMI_UNBLOCK;
	} else if (f->error & PFERR_RSVD) {
		reason = EXIT_REASON_EPT_MISCONFIG;
		nested_explain_ept(v, f->addr);
		q = 0;
	} else if (from_hw) {
		/* Whether there was a linear address only the processor knows. */
		q = (q & ~from_exit) | (hw_q & (from_exit | EPT_VIOLATION_NMI_UNBLOCK));
	}
	V12_SET(n->vmcs12, GUEST_PHYSICAL_ADDRESS, f->addr);
	nested_vmexit(v, reason, 0, q);
}

/* Page-modification logging (29.3.6): L1's log gets L2's page. */
bool nested_log_dirty(struct kvm_vcpu *v, gpa_t gpa)
{
	struct nested_vmx *n = nested_of(v);
	u16 index = (u16)V12(n->vmcs12, GUEST_PML_INDEX);
	u64 page = gpa & PAGE_MASK;

	if (index > 511) {
		n->pml_full = true;
		return false;
	}
	/* L1's bad address is L1's loss. */
	(void)vcpu_write_guest(v, V12(n->vmcs12, PML_ADDRESS) + index * 8ull, &page, sizeof(page));
	V12_SET(n->vmcs12, GUEST_PML_INDEX, (u16)(index - 1));
	return true;
}
