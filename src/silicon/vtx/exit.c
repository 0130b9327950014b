// SPDX-License-Identifier: MIT
/*
 * VM exits that are not instructions, and what every exit does (SDM vol. 3C, chapter 28): exit
 * information, saving of guest state, MSR lists.
 */
#include "silicon/vtx/vtx.h"

#include "base/log.h"
#include "spec/msr.h"

/* ---- Recording ----------------------------------------------------------------------------- */

void vtx_record(struct sil_cpu *cpu, u32 reason, u64 qual)
{
	struct vtx_cpu *v = vtx_of(cpu);
	struct vmcs_region *r = v->cur;

	cpu->n.exits[reason]++;
	VF(r, VM_EXIT_REASON) = reason;
	VF(r, EXIT_QUALIFICATION) = qual;
	VF(r, VM_EXIT_INTR_INFO) = 0;
	VF(r, VM_EXIT_INSTRUCTION_LEN) = sil_insn_len(cpu);
	v->exited = true;
}

void vtx_leave(struct sil_cpu *cpu)
{
	isa_throw(&cpu->c, ISA_THROW_EXIT);
}

void vtx_exit(struct sil_cpu *cpu, enum vmx_exit_reason reason, u64 qual)
{
	vtx_record(cpu, reason, qual);
	/* 28.3.3: RF is saved as 0 by exits that instructions cause. */
	if (cpu->c.insn) {
		cpu->c.s.rflags &= ~X86_RF;
		cpu->step_rf = false;
	}
	vtx_leave(cpu);
}

void vtx_exit_info(struct sil_cpu *cpu, enum vmx_exit_reason reason, u64 qual, u32 info)
{
	VF(vtx_of(cpu)->cur, VMX_INSTRUCTION_INFO) = info;
	vtx_exit(cpu, reason, qual);
}

/* ---- MSR lists (27.4, 28.4, 28.6) ------------------------------------------------------------ */

struct msr_entry {
	u32 index, reserved;
	u64 value;
};

u32 vtx_msr_load(struct sil_cpu *cpu, hpa_t addr, u32 count)
{
	const struct msr_entry *e = (const struct msr_entry *)addr;

	for (u32 i = 0; i < count; i++) {
		if (e[i].reserved || e[i].index == MSR_FS_BASE || e[i].index == MSR_GS_BASE ||
		    e[i].index >> 8 == 8 || !cpu_wrmsr(cpu, e[i].index, e[i].value))
			return i + 1;
	}
	return 0;
}

static bool msr_store(struct sil_cpu *cpu, hpa_t addr, u32 count)
{
	struct msr_entry *e = (struct msr_entry *)addr;

	for (u32 i = 0; i < count; i++) {
		if (e[i].reserved || e[i].index >> 8 == 8)
			return false;
		if (e[i].index == MSR_IA32_TSC)
			e[i].value = sil_host_tsc(cpu->m);
		else if (!cpu_rdmsr(cpu, e[i].index, &e[i].value))
			return false;
	}
	return true;
}

/* 28.7: a VMX abort is a bug of the hypervisor that only stops a physical processor. */
static __cold __noreturn void vmx_abort(struct sil_cpu *cpu, u32 indicator)
{
	vtx_of(cpu)->cur->abort = indicator;
	BUG("VMX abort %u at exit reason %u", indicator, (u32)VF(vtx_of(cpu)->cur, VM_EXIT_REASON));
}

/* ---- After the guest has stopped ----------------------------------------------------------- */

static void save_vectoring(struct sil_cpu *cpu)
{
	struct vmcs_region *r = vtx_of(cpu)->cur;
	const struct isa_event *ev = &cpu->vectoring;

	if (likely(!cpu->vectoring_valid)) {
		VF(r, IDT_VECTORING_INFO_FIELD) = 0;
		return;
	}
	VF(r, IDT_VECTORING_INFO_FIELD) = ev->vector | ev->type << 8 | INTR_INFO_VALID |
					  (ev->has_error ? INTR_INFO_DELIVER_ERR_CODE : 0);
	if (ev->has_error)
		VF(r, IDT_VECTORING_ERROR_CODE) = ev->error;
	/* 28.2.5 */
	if (ev->type >= EV_SW_INT)
		VF(r, VM_EXIT_INSTRUCTION_LEN) = ev->insn_len;
}

void vtx_finish_exit(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	struct vmcs_region *r = v->cur;
	struct isa_sys *s = &cpu->c.s;

	s->rflags = isa_flags(&cpu->c);
	save_vectoring(cpu);
	VF(r, VM_ENTRY_INTR_INFO_FIELD) &= ~INTR_INFO_VALID;
	/* 28.3.1; EFER.LMA goes to the entry controls where unrestricted guest is offered. */
	if (v->exitc & VM_EXIT_SAVE_DEBUG_CONTROLS) {
		VF(r, GUEST_DR7) = s->dr7;
		VF(r, GUEST_IA32_DEBUGCTL) = s->debugctl;
	}
	if (v->exitc & VM_EXIT_SAVE_IA32_PAT)
		VF(r, GUEST_IA32_PAT) = s->pat;
	if (v->exitc & VM_EXIT_SAVE_IA32_EFER)
		VF(r, GUEST_IA32_EFER) = s->efer;
	VF(r, VM_ENTRY_CONTROLS) =
		(v->entryc & ~VM_ENTRY_IA32E_MODE) | (s->efer & EFER_LMA ? VM_ENTRY_IA32E_MODE : 0);
	if (v->exitc & VM_EXIT_SAVE_VMX_PREEMPTION_TIMER) {
		u64 now = sil_host_tsc(cpu->m);

		VF(r, VMX_PREEMPTION_TIMER_VALUE) =
			VF(r, VM_EXIT_REASON) == EXIT_REASON_PREEMPTION_TIMER ||
					now >= v->timer_deadline
				? 0
				: (v->timer_deadline - now) >> VTX_TIMER_SHIFT;
	}
	if (VF(r, VM_EXIT_MSR_STORE_COUNT) &&
	    !msr_store(cpu, VF(r, VM_EXIT_MSR_STORE_ADDR), VF(r, VM_EXIT_MSR_STORE_COUNT)))
		vmx_abort(cpu, 1);
	/* 28.5.1: what root mode has of them from now on. */
	v->root_efer = v->exitc & VM_EXIT_LOAD_IA32_EFER ? VF(r, HOST_IA32_EFER)
							 : s->efer | EFER_LME | EFER_LMA;
	v->root_pat = v->exitc & VM_EXIT_LOAD_IA32_PAT ? VF(r, HOST_IA32_PAT) : s->pat;
	if (VF(r, VM_EXIT_MSR_LOAD_COUNT)) {
		struct isa_sys guest = *s;

		/* Root's MSRs, while the guest's stay where VMREAD finds them. */
		if (vtx_msr_load(cpu, VF(r, VM_EXIT_MSR_LOAD_ADDR), VF(r, VM_EXIT_MSR_LOAD_COUNT)))
			vmx_abort(cpu, 4);
		*s = guest;
		v->stale = true;
	}
}

/* ---- Exits by events ----------------------------------------------------------------------- */

/* The bit tells of the IRET under way only: whoever asks consumes it (28.2.3). */
u32 vtx_nmi_unblock(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	bool unblocked = v->iret_unblocked && !cpu->vectoring_valid;

	v->iret_unblocked = false;
	return unblocked ? BIT(12) : 0;
}

/* 26.2, exceptions: the bitmap, and for #PF the error-code mask and match. */
static bool exception_exits(const struct vmcs_region *r, const struct isa_event *ev)
{
	bool bit = VF(r, EXCEPTION_BITMAP) >> ev->vector & 1;

	if (ev->vector != X86_PF_VEC)
		return bit;
	return bit == ((ev->error & VF(r, PAGE_FAULT_ERROR_CODE_MASK)) ==
		       VF(r, PAGE_FAULT_ERROR_CODE_MATCH));
}

void vtx_exception(struct sil_cpu *cpu, const struct isa_event *ev)
{
	struct vmcs_region *r = vtx_of(cpu)->cur;
	u32 unblock = vtx_nmi_unblock(cpu);
	u64 info;

	if (!exception_exits(r, ev))
		return;
	vtx_record(cpu, EXIT_REASON_EXCEPTION_NMI,
		   ev->vector == X86_DB || ev->vector == X86_PF_VEC ? ev->payload : 0);
	info = ev->vector | ev->type << 8 | INTR_INFO_VALID;
	if (ev->has_error) {
		info |= INTR_INFO_DELIVER_ERR_CODE;
		VF(r, VM_EXIT_INTR_ERROR_CODE) = ev->error;
	}
	if (ev->vector != X86_DF_VEC)
		info |= unblock;
	VF(r, VM_EXIT_INTR_INFO) = info;
	if (ev->type >= EV_SW_INT)
		VF(r, VM_EXIT_INSTRUCTION_LEN) = ev->insn_len;
	vtx_leave(cpu);
}

void vtx_triple_fault(struct sil_cpu *cpu)
{
	vtx_record(cpu, EXIT_REASON_TRIPLE_FAULT, 0);
	vtx_leave(cpu);
}

void vtx_ept_violation(struct sil_cpu *cpu, gpa_t gpa, u64 la, u64 qual)
{
	struct vmcs_region *r = vtx_of(cpu)->cur;

	vtx_record(cpu, EXIT_REASON_EPT_VIOLATION, qual | vtx_nmi_unblock(cpu));
	VF(r, GUEST_PHYSICAL_ADDRESS) = gpa;
	if (qual & EPT_VIOLATION_GVA_VALID)
		VF(r, GUEST_LINEAR_ADDRESS) = la;
	/* 28.3.3 */
	if (cpu->c.insn && !cpu->vectoring_valid)
		cpu->c.s.rflags |= X86_RF;
	vtx_leave(cpu);
}

void vtx_ept_misconfig(struct sil_cpu *cpu, gpa_t gpa)
{
	vtx_record(cpu, EXIT_REASON_EPT_MISCONFIG, 0);
	VF(vtx_of(cpu)->cur, GUEST_PHYSICAL_ADDRESS) = gpa;
	if (cpu->c.insn && !cpu->vectoring_valid)
		cpu->c.s.rflags |= X86_RF;
	vtx_leave(cpu);
}

/* 29.3.6 */
void vtx_pml(struct sil_cpu *cpu, gpa_t gpa)
{
	struct vmcs_region *r = vtx_of(cpu)->cur;
	u16 index = VF(r, GUEST_PML_INDEX);

	if (index > 511) {
		vtx_record(cpu, EXIT_REASON_PML_FULL, vtx_nmi_unblock(cpu));
		if (cpu->c.insn && !cpu->vectoring_valid)
			cpu->c.s.rflags |= X86_RF;
		vtx_leave(cpu);
	}
	((u64 *)VF(r, PML_ADDRESS))[index] = gpa & PAGE_MASK;
	VF(r, GUEST_PML_INDEX) = (u16)(index - 1);
}

/* ---- Instruction boundaries (26.2, 26.5, 27.7) --------------------------------------------------
 */

void vtx_trap_exits(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);

	if (unlikely(v->apic_write))
		vapic_after_write(cpu);
	if (unlikely(v->tpr_exit))
		vtx_exit(cpu, EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
	/* 26.5.2: after an instruction, an iteration, or the delivery of an event. */
	if (v->mtf_event || ((v->cpu1 & CPU_BASED_MONITOR_TRAP_FLAG) && cpu->stepped))
		vtx_exit(cpu, EXIT_REASON_MONITOR_TRAP_FLAG, 0);
}

static void check_timer(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct sil_config *cfg = &cpu->m->cfg;

	if (cpu_requested(cpu, SIL_REQ_TIMER)) {
		cpu_request_clear(cpu, SIL_REQ_TIMER);
		v->timer_armed = ~0ull;
		v->timer_fresh = false;
	}
	if (!(v->pin & PIN_BASED_VMX_PREEMPTION_TIMER))
		return;
	/* The entry's own boundary is no later than the entry. */
	if (v->timer_fresh)
		v->timer_fresh = false;
	else if (sil_host_tsc(cpu->m) >= v->timer_deadline)
		vtx_exit(cpu, EXIT_REASON_PREEMPTION_TIMER, 0);
	if (v->timer_deadline < v->timer_armed) {
		v->timer_armed = v->timer_deadline;
		cfg->host->arm_timer(cfg->host_opaque, cpu, v->timer_deadline);
	}
}

static __noreturn void exit_kicked(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);

	cpu_request_clear(cpu, SIL_REQ_KICK);
	vtx_record(cpu, EXIT_REASON_EXTERNAL_INTERRUPT, 0);
	if (v->exitc & VM_EXIT_ACK_INTR_ON_EXIT)
		VF(v->cur, VM_EXIT_INTR_INFO) =
			VTX_KICK_VECTOR | INTR_TYPE_EXT_INTR | INTR_INFO_VALID;
	vtx_leave(cpu);
}

/*
 * Instruction timeout (26.2; KVM's "notify VM exiting"). Each delivery counts as a cycle, so that
 * the exit comes where time stands still while no instruction retires.
 */
void vtx_no_boundary(struct sil_cpu *cpu, u32 n)
{
	struct vtx_cpu *v = vtx_of(cpu);
	u64 now;

	if (cpu_requested(cpu, SIL_REQ_KICK))
		exit_kicked(cpu);
	if (!(v->cpu2 & SECONDARY_EXEC_NOTIFY_VM_EXITING))
		return;
	now = sil_host_tsc(cpu->m);
	if (n == 1)
		v->stall_tsc = now;
	if (((now - v->stall_tsc) >> VTX_CRYSTAL_SHIFT) + n <=
	    VTX_TIMEOUT_MIN + VF(v->cur, NOTIFY_WINDOW))
		return;
	/* The context is valid: bit 0 of the qualification is 0. */
	vtx_record(cpu, EXIT_REASON_NOTIFY, vtx_nmi_unblock(cpu));
	vtx_leave(cpu);
}

/* The lower the later: 26.2, 26.5.1, 30.2.1 and table 7-2 of vol. 3A. */
void vtx_pending(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct isa_sys *s = &cpu->c.s;
	u32 shadow = s->interruptibility & (ISA_BLOCK_STI | ISA_BLOCK_MOVSS);

	check_timer(cpu);
	if ((v->cpu1 & CPU_BASED_NMI_WINDOW_EXITING) && !shadow &&
	    !(s->interruptibility & ISA_BLOCK_NMI))
		vtx_exit(cpu, EXIT_REASON_NMI_WINDOW, 0);
	if ((v->cpu1 & CPU_BASED_INTR_WINDOW_EXITING) && !shadow && (s->rflags & X86_IF) &&
	    s->activity <= ISA_HLT)
		vtx_exit(cpu, EXIT_REASON_INTERRUPT_WINDOW, 0);
	if (cpu_requested(cpu, SIL_REQ_KICK))
		exit_kicked(cpu);
	if (unlikely(cpu_requested(cpu, SIL_REQ_NOTIFY))) {
		cpu_request_clear(cpu, SIL_REQ_NOTIFY);
		vapic_notified(cpu);
	}
	if (unlikely(v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
		vapic_deliver(cpu);
}
