/* SPDX-License-Identifier: MIT */
/* VM exits: one function per reason, rows in vmx_exit.def. SDM, chapter 28. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "core/emulate/emulate.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/smm.h"
#include "core/vmx/nested/nested.h"
#include "spec/check.h"

/* ---- Exceptions ---- */

static int handle_ud(struct kvm_vcpu *v)
{
	static const u8 vmmcall[3] = {0x0f, 0x01, 0xd9}, rsm[2] = {0x0f, 0xaa};
	u8 insn[3], patched[3];
	struct guest_fault f;
	u64 rip = kvm_get_linear_rip(v);

	if (kvm_is_smm(v) && !mmu_read_virt(v, rip, insn, sizeof(rsm), PFERR_FETCH, &f) &&
	    !memcmp(insn, rsm, sizeof(rsm)))
		return kvm_emulate_rsm(v);
	if (mmu_read_virt(v, rip, insn, sizeof(insn), PFERR_FETCH, &f) ||
	    memcmp(insn, vmmcall, sizeof(insn))) {
		kvm_queue_exception(v, X86_UD);
		return 1;
	}
	/* AMD's hypercall: a guest may have been made on such a machine. */
	if (kvm_check_has_quirk(v->kvm, KVM_X86_QUIRK_FIX_HYPERCALL_INSN)) {
		v->kvm->ops->patch_hypercall(v, patched);
		if (mmu_write_virt(v, rip, patched, sizeof(patched), 0, &f)) {
			/* Read-only code: done in its place. */
			kvm_queue_exception(v, X86_UD);
			return 1;
		}
		return 1;
	}
	kvm_queue_exception(v, X86_UD);
	return 1;
}

/* The guest gets the #DB that its exit has taken away. */
static void requeue_db(struct kvm_vcpu *v, u64 dr6)
{
	u32 type = kvm_exit_info_2(v) & INTR_INFO_TYPE_MASK;

	/* The exit of INT1 is a fault on it, its #DB is a trap (SDM, 28.2.1 and 26.2). */
	if (type == INTR_TYPE_PRIV_SW_EXC)
		vmx_skip_emulated_instruction(v);
	else if (vmx_get_interrupt_shadow(v) && kvm_get_rflags(v) & X86_TF &&
		 !(vmcs_read(v, GUEST_IA32_DEBUGCTL) & BIT(1)))
		/* An entry with TF in a shadow needs the step pending (SDM, 27.3.1.5). */
		vmcs_write(v, GUEST_PENDING_DBG_EXCEPTIONS,
			   vmcs_read(v, GUEST_PENDING_DBG_EXCEPTIONS) | DR6_BS);
	kvm_queue_exception_p(v, X86_DB, dr6);
}

static int handle_db_or_bp(struct kvm_vcpu *v, unsigned vector)
{
	struct kvm_run *run = v->run;

	if (vector == X86_DB) {
		u64 dr6 = kvm_exit_info_1(v);

		if (!(v->arch->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP))) {
			requeue_db(v, dr6);
			return 1;
		}
		run->debug.arch.dr6 = dr6 | DR6_ACTIVE_LOW;
		run->debug.arch.dr7 = vmcs_read(v, GUEST_DR7);
	}
	/* Should user space give the #BP to the guest, it is injected as if INT3 had just run. */
	v->arch->event_exit_inst_len = (u8)vmcs_read(v, VM_EXIT_INSTRUCTION_LEN);
	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch.pc = kvm_get_linear_rip(v);
	run->debug.arch.exception = vector;
	return 0;
}

static int handle_machine_check(struct kvm_vcpu *v)
{
	bool write;
	hva_t hva = sil_memory_error(v->cpu, &write);
	int ret = mmu_memory_error(v, hva, write);

	return ret ? ret : 1;
}

static int handle_exception(struct kvm_vcpu *v)
{
	u32 info = kvm_exit_info_2(v);
	unsigned vector = info & INTR_INFO_VECTOR_MASK;
	u32 error = 0;

	if (is_nmi(info))
		return 1;
	if (is_exception_n(info, X86_MC))
		return handle_machine_check(v);
	if (is_exception_n(info, X86_UD))
		return handle_ud(v);
	if (info & INTR_INFO_DELIVER_ERR_CODE)
		error = (u32)vmcs_read(v, VM_EXIT_INTR_ERROR_CODE);
	if (is_exception_n(info, X86_PF_VEC))
		return mmu_page_fault(v, kvm_exit_info_1(v), error);
	if ((vmx_of(v)->idt_vectoring_info & INTR_INFO_VALID) && vector != X86_DB) {
		u64 data[3] = {vmx_of(v)->idt_vectoring_info, info, error};

		return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_SIMUL_EX, data, 3);
	}
	if (vector == X86_AC_VEC) {
		kvm_queue_exception_e(v, X86_AC_VEC, error);
		return 1;
	}
	if (vector == X86_DB || vector == X86_BP)
		return handle_db_or_bp(v, vector);
	v->run->exit_reason = KVM_EXIT_EXCEPTION;
	v->run->ex.exception = vector;
	v->run->ex.error_code = error;
	return 0;
}

/* ---- Interrupts and windows ---- */

static int handle_external_interrupt(struct kvm_vcpu *v)
{
	kvm_stat_inc(v, irq_exits);
	return 1;
}

static int handle_interrupt_window(struct kvm_vcpu *v)
{
	vmx_cpu_clearbit(v, CPU_BASED_INTR_WINDOW_EXITING);
	kvm_make_request(v, REQ_EVENT);
	kvm_stat_inc(v, irq_window_exits);
	return 1;
}

static int handle_nmi_window(struct kvm_vcpu *v)
{
	vmx_cpu_clearbit(v, CPU_BASED_NMI_WINDOW_EXITING);
	kvm_make_request(v, REQ_EVENT);
	kvm_stat_inc(v, nmi_window_exits);
	return 1;
}

static int handle_triple_fault(struct kvm_vcpu *v)
{
	return kvm_exit_shutdown(v);
}

/* The guest keeps the processor from taking any event: KVM_CAP_X86_NOTIFY_VMEXIT. */
static int handle_notify(struct kvm_vcpu *v)
{
	u64 qual = kvm_exit_info_1(v);
	bool invalid = qual & NOTIFY_VM_CONTEXT_INVALID;

	kvm_stat_inc(v, notify_window_exits);
	if (qual & INTR_INFO_UNBLOCK_NMI)
		vmx_set_nmi_mask(v, true);
	if (!invalid && !(v->kvm->arch->notify_vmexit_flags & KVM_X86_NOTIFY_VMEXIT_USER))
		return 1;
	v->run->exit_reason = KVM_EXIT_NOTIFY;
	v->run->notify.flags = invalid ? KVM_NOTIFY_CONTEXT_INVALID : 0;
	return 0;
}

static int handle_pause(struct kvm_vcpu *v)
{
	kvm_vcpu_on_spin(v, kvm_get_cpl(v) == 0);
	return kvm_skip_emulated_instruction(v);
}

/* ---- Instructions ---- */

static int handle_rdpmc(struct kvm_vcpu *v)
{
	return kvm_inject_gp(v); /* there is no performance counter */
}

/* Qualification of I/O exits: SDM, table 28-5. */
static int handle_io(struct kvm_vcpu *v)
{
	u64 q = kvm_exit_info_1(v);

	kvm_stat_inc(v, io_exits);
	if (q & BIT(4))
		return kvm_emulate_instruction(v, 0);
	return kvm_fast_pio(v, (unsigned)(q & 7) + 1, (u16)(q >> 16), q & BIT(3));
}

/*
 * In L2, bits that L1 masks stay as they are: had L2 tried to change what it reads in them, L1
 * would have the exit.
 */
static int set_cr0(struct kvm_vcpu *v, u64 val)
{
	if (is_guest_mode(v)) {
		u64 mask = V12(vmcs12_of(v), CR0_GUEST_HOST_MASK);

		val = (val & ~mask) | (V12(vmcs12_of(v), GUEST_CR0) & mask);
	}
	return kvm_set_cr0(v, val);
}

static int set_cr4(struct kvm_vcpu *v, u64 val)
{
	if (is_guest_mode(v)) {
		u64 mask = V12(vmcs12_of(v), CR4_GUEST_HOST_MASK);

		val = (val & ~mask) | (V12(vmcs12_of(v), GUEST_CR4) & mask);
	}
	return kvm_set_cr4(v, val);
}

/* SDM, table 28-3. */
static int handle_cr(struct kvm_vcpu *v)
{
	u64 q = kvm_exit_info_1(v), val;
	unsigned cr = q & 15, gpr = q >> 8 & 15;
	u64 old_cr8;
	int err, ret;

	switch (q >> 4 & 3) {
	case 0: /* MOV to CR */
		val = kvm_register_read(v, gpr);
		switch (cr) {
		case 0: return kvm_complete_insn_gp(v, set_cr0(v, val));
		case 3: return kvm_complete_insn_gp(v, kvm_set_cr3(v, val));
		case 4: return kvm_complete_insn_gp(v, set_cr4(v, val));
		case 8:
			old_cr8 = kvm_get_cr8(v);
			err = kvm_set_cr8(v, val);
			ret = kvm_complete_insn_gp(v, err);
			if (v->apic || err || old_cr8 <= val)
				return ret;
			/* User space has the APIC: a lower priority may let an interrupt in. */
			v->run->exit_reason = KVM_EXIT_SET_TPR;
			return 0;
		}
		break;
	case 1: /* MOV from CR */
		switch (cr) {
		case 3: val = kvm_read_cr3(v); break;
		case 8: val = kvm_get_cr8(v); break;
		default: goto bad;
		}
		kvm_register_write(v, gpr, val);
		return kvm_skip_emulated_instruction(v);
	case 2: /* CLTS */
		val = kvm_read_cr0(v) & ~CR0_TS;
		return kvm_complete_insn_gp(v, kvm_set_cr0(v, val));
	case 3: /* LMSW: PE may be set and not cleared */
		(void)set_cr0(v, (kvm_read_cr0(v) & ~0xeull) | (q >> 16 & 0xf));
		return kvm_skip_emulated_instruction(v);
	}
bad:
	BUG("control-register exit with qualification %#llx", (unsigned long long)q);
}

/* Both only with shadow paging. */
static int handle_invlpg(struct kvm_vcpu *v)
{
	u64 la = kvm_exit_info_1(v);

	mmu_invlpg(v, la);
	v->kvm->ops->flush_tlb_gva(v, la);
	return kvm_skip_emulated_instruction(v);
}

static int handle_invpcid(struct kvm_vcpu *v)
{
	return kvm_emulate_instruction(v, 0);
}

/* Only while user space has the debug registers. SDM, table 28-4. */
static int handle_dr(struct kvm_vcpu *v)
{
	u64 q = kvm_exit_info_1(v);
	unsigned dr = q & 7, gpr = q >> 8 & 15;
	u64 dr7;

	if (!kvm_require_dr(v, dr))
		return 1;
	if (!kvm_require_cpl(v, 0))
		return 1;
	dr7 = vmcs_read(v, GUEST_DR7);
	if (dr7 & DR7_GD) {
		/* Not visible to the guest: user space's own debugger asked for it. */
		v->run->debug.arch.dr6 = DR6_BD | DR6_ACTIVE_LOW;
		v->run->debug.arch.dr7 = dr7;
		v->run->debug.arch.pc = kvm_get_linear_rip(v);
		v->run->debug.arch.exception = X86_DB;
		v->run->exit_reason = KVM_EXIT_DEBUG;
		return 0;
	}
	if (q & BIT(4)) {
		kvm_register_write(v, gpr, kvm_get_dr(v, dr));
		return kvm_skip_emulated_instruction(v);
	}
	return kvm_complete_insn_gp(v, kvm_set_dr(v, dr, kvm_register_read(v, gpr)));
}

/* SDM, table 28-2. */
static int handle_task_switch(struct kvm_vcpu *v)
{
	u64 q = kvm_exit_info_1(v);
	int reason = q >> 30 & 3;
	u32 idt = vmx_of(v)->idt_vectoring_info;
	bool has_error = false;
	u32 error = 0;

	if (reason == TASK_GATE && (idt & INTR_INFO_VALID)) {
		switch (idt & INTR_INFO_TYPE_MASK) {
		case INTR_TYPE_NMI:
			v->arch->nmi_injected = false;
			vmx_set_nmi_mask(v, true);
			break;
		case INTR_TYPE_EXT_INTR:
		case INTR_TYPE_SOFT_INTR: kvm_clear_interrupt_queue(v); break;
		case INTR_TYPE_HARD_EXCEPTION:
			if (idt & INTR_INFO_DELIVER_ERR_CODE) {
				has_error = true;
				error = (u32)vmcs_read(v, IDT_VECTORING_ERROR_CODE);
			}
			fallthrough;
		case INTR_TYPE_SOFT_EXC: kvm_clear_exception_queue(v); break;
		default: break;
		}
	}
	/* An event that the processor delivers has no instruction to return behind, unless it is a
	 * software one; CALL, JMP and IRET have. */
	if (reason != TASK_GATE || !(idt & INTR_INFO_VALID) ||
	    ((idt & INTR_INFO_TYPE_MASK) != INTR_TYPE_HARD_EXCEPTION &&
	     (idt & INTR_INFO_TYPE_MASK) != INTR_TYPE_EXT_INTR &&
	     (idt & INTR_INFO_TYPE_MASK) != INTR_TYPE_NMI))
		vmx_skip_emulated_instruction(v);
	return kvm_task_switch(v, (u16)q, reason, has_error, error);
}

/* ---- Two-dimensional paging ---- */

static int handle_ept_violation(struct kvm_vcpu *v)
{
	u64 q = kvm_exit_info_1(v);
	gpa_t gpa = vmcs_read(v, GUEST_PHYSICAL_ADDRESS);

	/* SDM, table 28-7, bit 12: an IRET met it, see vmx_recover_nmi_blocking. */
	if ((q & EPT_VIOLATION_NMI_UNBLOCK) && !(vmx_of(v)->idt_vectoring_info & INTR_INFO_VALID))
		vmx_set_nmi_mask(v, true);
	return mmu_page_fault(v, gpa, mmu_ept_error_code(q));
}

static int handle_ept_misconfig(struct kvm_vcpu *v)
{
	return mmu_page_fault(v, vmcs_read(v, GUEST_PHYSICAL_ADDRESS), PFERR_RSVD);
}

/* ---- Dispatch ---- */

typedef int exit_fn(struct kvm_vcpu *v);

static exit_fn *const handlers[] = {
#define VMX_EXIT(reason, fn) [EXIT_REASON_##reason] = fn,
#include "core/vmx/vmx_exit.def"
};

static int fail_entry(struct kvm_vcpu *v, u64 reason)
{
	const struct check_failure *f = sil_last_failure(v->cpu);
	char text[256];

	if (f && (base_log_on(LOG_WARN) || trace_on())) {
		check_explain(f, text, sizeof(text));
		VCPU_TRACE(text, v, TRACE_ENTRY_FAILED, text);
		base_log(LOG_WARN, "vCPU %u: VM entry refused: %s", v->id, text);
	}
	v->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	v->run->fail_entry.hardware_entry_failure_reason = reason;
	v->run->fail_entry.cpu = v->idx;
	return 0;
}

/* May an exit of this kind interrupt the delivery of an event? */
static bool may_interrupt_delivery(u32 reason)
{
	switch (reason) {
	case EXIT_REASON_EXCEPTION_NMI:
	case EXIT_REASON_EPT_VIOLATION:
	case EXIT_REASON_PML_FULL:
	case EXIT_REASON_APIC_ACCESS:
	case EXIT_REASON_TASK_SWITCH:
	case EXIT_REASON_NOTIFY: return true;
	default: return false;
	}
}

int vmx_handle_exit(struct kvm_vcpu *v, enum exit_fastpath fast)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	u32 reason = vmx->exit_reason & 0xffff;

	if (unlikely(vmx->did_not_enter))
		return vmx->emulate ? vmx_emulate_guest(v) : 0;
	if (is_guest_mode(v) && vmx->entry_result == SIL_VMX_OK && nested_reflect(v))
		return 1;
	if (unlikely(vmx->entry_result != SIL_VMX_OK) && is_guest_mode(v)) {
		if (nested_entry_raced(v))
			return 1;
		nested_explain_vmcs02(v);
	}
	if (unlikely(vmx->entry_result != SIL_VMX_OK))
		return fail_entry(v, vmx->entry_result == SIL_VMX_FAIL_VALID
					     ? vmcs_read(v, VM_INSTRUCTION_ERROR)
					     : ~0ull);
	if (unlikely(vmx->exit_reason & VMX_EXIT_REASON_FAILED_VMENTRY)) {
		if (reason == EXIT_REASON_INVALID_STATE && !vmx->config->unrestricted &&
		    v->kvm->arch->params.kvm_intel_emulate_invalid_guest_state)
			return vmx_emulate_guest(v);
		return fail_entry(v, vmx->exit_reason);
	}
	if (unlikely((vmx->idt_vectoring_info & INTR_INFO_VALID) &&
		     !may_interrupt_delivery(reason) && reason != EXIT_REASON_EXTERNAL_INTERRUPT &&
		     reason != EXIT_REASON_TRIPLE_FAULT)) {
		u64 data[5] = {vmx->idt_vectoring_info, vmx->exit_reason, kvm_exit_info_1(v)};
		unsigned n = 3;

		if (reason == EXIT_REASON_EPT_MISCONFIG)
			data[n++] = vmcs_read(v, GUEST_PHYSICAL_ADDRESS);
		data[n++] = v->idx;
		return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_DELIVERY_EV, data, n);
	}
	if (likely(reason < ARRAY_SIZE(handlers) && handlers[reason]))
		return handlers[reason](v);

	u64 data[2] = {vmx->exit_reason, v->idx};

	return kvm_exit_internal_error(v, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data, 2);
}
