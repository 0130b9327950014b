/* SPDX-License-Identifier: MIT */
/* Running until an exit: throws, event delivery with the double-fault rules, instruction
 * boundaries. */
#include "silicon/cpu/engine.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "silicon/cpu/debug.h"
#include "silicon/interp/codepage.h"
#include "silicon/interp/interp.h"
#include "silicon/jit/door.h"
#include "silicon/paging/tlb.h"

/* ---- Delivery ---------------------------------------------------------------------------------
 */

enum exc_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

/* SDM vol. 3A, table 6-4 */
static enum exc_class class_of(unsigned vector)
{
	switch (vector) {
	case X86_DE:
	case X86_TS:
	case X86_NP:
	case X86_SS_VEC:
	case X86_GP:
	case X86_CP: return CONTRIBUTORY;
	case X86_PF_VEC:
	case X86_VE: return PAGE_FAULT;
	default: return BENIGN;
	}
}

/* SDM vol. 3A, table 6-5: does @second, raised by delivering @first, make a double fault? */
static bool makes_double(unsigned first, unsigned second)
{
	enum exc_class a = class_of(first), b = class_of(second);

	return (a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && b != BENIGN);
}

/* Through the IDT. On a throw vectoring tells the exit, or the next fault, what was under way. */
static void deliver(struct sil_cpu *cpu, const struct isa_event *ev)
{
	struct isa_cpu *c = &cpu->c;

	cpu->vectoring = *ev;
	cpu->vectoring_valid = true;
	/* NMIs are blocked from the start of the delivery: SDM vol. 3C, 28.3.4. */
	if (ev->type == EV_NMI)
		c->s.interruptibility |= ISA_BLOCK_NMI;
	c->s.activity = ISA_ACTIVE;
	isa_deliver(c, &cpu->vectoring);
	cpu->vectoring_valid = false;
	cpu->cut_deliveries = 0;
	c->s.interruptibility &= ~(u32)(ISA_BLOCK_STI | ISA_BLOCK_MOVSS);
	c->s.pending_dbg |= cpu->bp_hit;
	cpu->bp_hit = 0;
	cpu->stepped = true;
	cpu->step_rf = false;
	cpu->aborted = NULL;
	cpu->n.events++;
}

void engine_exception(struct sil_cpu *cpu, struct isa_event ev)
{
	struct isa_cpu *c = &cpu->c;

	cpu->m->virt->exception(cpu, &ev);
	if (cpu->vectoring_valid && cpu->vectoring.type == EV_HW_EXC) {
		unsigned first = cpu->vectoring.vector;

		if (first == X86_DF_VEC && class_of(ev.vector) != BENIGN) {
			cpu->vectoring_valid = false;
			cpu->m->virt->triple_fault(cpu);
		}
		if (makes_double(first, ev.vector)) {
			cpu->vectoring_valid = false;
			ev = (struct isa_event){
				.vector = X86_DF_VEC, .type = EV_HW_EXC, .has_error = true};
			cpu->m->virt->exception(cpu, &ev);
		}
	}
	/* #AC on the handler's stack of #AC. */
	if (unlikely(cpu->vectoring_valid))
		cpu->m->virt->no_boundary(cpu, ++cpu->cut_deliveries);
	if (ev.type == EV_HW_EXC) {
		switch (ev.vector) {
		case X86_PF_VEC: c->r.cr2 = ev.payload; break;
		case X86_DB: debug_enter_db(cpu, ev.payload); break;
		case X86_NM: c->r.xfd_err |= ev.payload; break;
		default: break;
		}
	}
	deliver(cpu, &ev);
	cpu_update_step(cpu);
}

void engine_abort_insn(struct sil_cpu *cpu)
{
	struct isa_cpu *c = &cpu->c;

	if (c->insn) {
		cpu->n.instructions += (u64)(c->insn - cpu->block_first);
		c->s.rip -= c->insn->len;
		cpu->aborted = c->insn;
		c->insn = NULL;
	}
	if (cpu->step_rf)
		c->s.rflags |= X86_RF;
	cpu->step_rf = false;
	cpu->bp_hit = 0;
	if (cpu->rmw_size)
		engine_rmw_done(cpu);
	op_mem_unlock(c);
}

void engine_fault(struct sil_cpu *cpu)
{
	const struct isa_fault *f = &cpu->c.fault;
	struct isa_event ev = {.vector = f->vector,
			       .type = EV_HW_EXC,
			       .has_error = f->has_error,
			       .error = f->error,
			       .payload = f->payload};

	cpu->n.faults++;
	engine_abort_insn(cpu);
	/* What instructions raise are faults: RF is 1 in the image (SDM vol. 3B, 18.3.1.1). */
	cpu->c.s.rflags |= X86_RF;
	engine_exception(cpu, ev);
}

void engine_raise_db(struct sil_cpu *cpu, u64 dr6, bool fault)
{
	struct isa_event ev = {.vector = X86_DB, .type = EV_HW_EXC, .payload = dr6};

	(void)fault; /* RF stays as it is in both cases: 18.3.1.1 */
	cpu->n.faults++;
	engine_exception(cpu, ev);
	isa_throw(&cpu->c, ISA_THROW_RESTART);
}

void engine_raise(struct sil_cpu *cpu, unsigned vector, u32 error, u64 payload)
{
	bool has = vector == X86_DF_VEC || (vector >= X86_TS && vector <= X86_PF_VEC) ||
		   vector == X86_AC_VEC || vector == X86_CP;
	struct isa_event ev = {.vector = vector,
			       .type = EV_HW_EXC,
			       .has_error = has,
			       .error = error,
			       .payload = payload};

	engine_abort_insn(cpu);
	engine_exception(cpu, ev);
	isa_throw(&cpu->c, ISA_THROW_RESTART);
}

void engine_inject(struct sil_cpu *cpu, const struct isa_event *ev)
{
	cpu->inject = *ev;
	cpu->inject_valid = true;
}

void engine_deliver(struct sil_cpu *cpu, const struct isa_event *ev)
{
	deliver(cpu, ev);
	cpu_update_step(cpu);
}

void op_soft_int(struct isa_cpu *c, unsigned vector, unsigned type)
{
	struct sil_cpu *cpu = sil_of(c);
	const struct isa_insn *i = c->insn;
	struct isa_event ev = {.vector = vector, .type = type, .insn_len = i->len};

	/* From here on the event is under way, not the instruction; RF is 0 (SDM vol. 3B,
	 * 18.3.1.1). */
	cpu->step_rf = false;
	cpu->n.instructions += (u64)(i - cpu->block_first);
	cpu->block_first = i;
	c->s.rip -= i->len;
	c->insn = NULL;
	if (type != EV_SW_INT)
		cpu->m->virt->exception(cpu, &ev);
	deliver(cpu, &ev);
	/* Delivery has cleared TF before the trap would be taken. */
	cpu->no_trap = true;
}

/* ---- Instruction boundaries -------------------------------------------------------------------
 */

void cpu_update_step(struct sil_cpu *cpu)
{
	struct isa_cpu *c = &cpu->c;
	bool need, have;

	if (unlikely(c->s.dr7 != cpu->dbg_dr7 || (c->s.dr7 & 0xff)))
		debug_update(cpu);
	need = (c->s.rflags & (X86_TF | X86_RF)) ||
	       (c->s.interruptibility & (ISA_BLOCK_STI | ISA_BLOCK_MOVSS)) || cpu->step_exits ||
	       cpu->bp_insn || (c->s.pending_dbg & (PENDING_DBG_BP | PENDING_DBG_BS));
	have = cpu_requested(cpu, SIL_REQ_STEP);
	if (need == have)
		return;
	if (need)
		__atomic_fetch_or(&c->request, SIL_REQ_STEP, __ATOMIC_SEQ_CST);
	else
		cpu_request_clear(cpu, SIL_REQ_STEP);
}

void cpu_request(struct sil_cpu *cpu, u32 bits)
{
	int err = errno; /* signal handlers come here */

	__atomic_fetch_or(&cpu->c.request, bits, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&cpu->waiting, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &cpu->c.request, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = err;
}

u64 sil_cpu_retired(const struct sil_cpu *cpu)
{
	return cpu->n.instructions + (cpu->c.insn ? (u64)(cpu->c.insn - cpu->block_first) : 0);
}

void sil_cpu_stop_at(struct sil_cpu *cpu, u64 count)
{
	cpu->stop_at = count;
}

/* HLT, shutdown, wait-for-SIPI: until some request comes. */
static void wait_inactive(struct sil_cpu *cpu)
{
	u32 val;

	/* Asleep we hold no promise about code; requests are served on the way out. */
	code_cpu_leave(cpu);
	__atomic_store_n(&cpu->waiting, true, __ATOMIC_SEQ_CST);
	val = __atomic_load_n(&cpu->c.request, __ATOMIC_SEQ_CST);
	if (!(val & ~(u32)SIL_REQ_STEP))
		syscall(SYS_futex, &cpu->c.request, FUTEX_WAIT_PRIVATE, val, NULL, NULL, 0);
	__atomic_store_n(&cpu->waiting, false, __ATOMIC_SEQ_CST);
	code_cpu_enter(cpu);
}

void engine_boundary(struct sil_cpu *cpu)
{
	const u32 outside = SIL_REQ_KICK | SIL_REQ_TIMER | SIL_REQ_NOTIFY | SIL_REQ_EVENT;
	struct isa_cpu *c = &cpu->c;
	unsigned traps = 0;
	u64 dbg;
	u32 req;

	for (;;) {
		req = __atomic_load_n(&c->request, __ATOMIC_SEQ_CST);
		if (req & SIL_REQ_CODE)
			code_serve(cpu);
		if (req & SIL_REQ_EVENT)
			cpu_request_clear(cpu, SIL_REQ_EVENT);
		if ((req & SIL_REQ_EVENT) || (cpu->step_exits && cpu->stepped))
			cpu->m->virt->trap_exits(cpu);

		dbg = c->s.pending_dbg;
		if (unlikely(dbg & (PENDING_DBG_BP | PENDING_DBG_BS)) &&
		    !(c->s.interruptibility & ISA_BLOCK_MOVSS)) {
			struct isa_event ev = {.vector = X86_DB, .type = EV_HW_EXC};

			/* A breakpoint on the stack: the delivery has raised the trap anew. An exit
			 * leaves it pending. */
			if (traps++)
				cpu->m->virt->no_boundary(cpu, traps - 1);
			ev.payload = dbg & (BITS(3, 0) | PENDING_DBG_BS | PENDING_DBG_RTM);
			c->s.pending_dbg = 0;
			cpu->n.faults++;
			/* The rest is looked at again at the handler's first instruction. */
			if (req & outside)
				cpu_request(cpu, SIL_REQ_EVENT);
			engine_exception(cpu, ev);
			continue;
		}
		if (req & outside)
			cpu->m->virt->pending(cpu);
		if (likely(c->s.activity == ISA_ACTIVE))
			break;
		wait_inactive(cpu);
	}
	cpu_update_step(cpu);
}

void engine_rmw_done(struct sil_cpu *cpu)
{
	unsigned size = cpu->rmw_size;

	cpu->rmw_size = 0;
	code_written(cpu->m, cpu, cpu->rmw_hva, size);
}

/* ---- Running ----------------------------------------------------------------------------------
 */

static bool owns(void *opaque, u64 addr)
{
	const struct sil_machine *m = opaque;

	return jit_nowhere(m, addr) || m->cfg.host->owns_hva(m->cfg.host_opaque, addr);
}

/* Guest memory was not there: a machine check (silicon.h, sil_memory_error). */
static void memory_error(struct sil_cpu *cpu)
{
	struct isa_event ev = {.vector = X86_MC, .type = EV_HW_EXC};

	cpu->n.memory_errors++;
	engine_abort_insn(cpu);
	engine_exception(cpu, ev);
}

void engine_run(struct sil_cpu *cpu)
{
	struct isa_cpu *c = &cpu->c;

	c->catch = &cpu->catch;
	c->insn = NULL;
	cpu->vectoring_valid = false;
	cpu->cut_deliveries = 0;
	cpu->stepped = false;
	cpu->no_trap = false;
	cpu->step_rf = false;
	cpu->rmw_size = 0;
	cpu->bp_hit = 0;
	cpu->aborted = NULL;
	cpu->mem_error_pending = false;
	code_cpu_enter(cpu);
	if (cpu->m->jit)
		jit_cpu_enter(cpu);
	__atomic_fetch_or(&c->request, SIL_REQ_EVENT, __ATOMIC_SEQ_CST);

	cpu->guard.owns = owns;
	cpu->guard.opaque = cpu->m;
	cpu->guard.caught = cpu->m->jit ? jit_caught : NULL;
	if (guard_enter_filtered(&cpu->guard)) {
		/* The section has ended; its jump target is still good. */
		if (jit_nowhere(cpu->m, cpu->guard.fault_addr)) {
			cpu->j.again = true;
		} else {
			cpu->mem_error = cpu->guard.fault_addr;
			cpu->mem_error_write = cpu->guard.fault_write;
			cpu->mem_error_pending = true;
		}
		guard_push(&cpu->guard);
	}

	switch (_setjmp(cpu->catch)) {
	case 0:
	case ISA_THROW_RESTART: break;
	case ISA_THROW_FAULT: engine_fault(cpu); break;
	default: /* ISA_THROW_EXIT */
		engine_abort_insn(cpu);
		guard_leave(&cpu->guard);
		if (cpu->m->jit)
			jit_cpu_leave(cpu);
		code_cpu_leave(cpu);
		return;
	}
	/* A restarted instruction counts for nothing; after a fault this has been done. */
	engine_abort_insn(cpu);
	if (cpu->mem_error_pending) {
		cpu->mem_error_pending = false;
		memory_error(cpu);
	}
	if (cpu->inject_valid) {
		cpu->inject_valid = false;
		deliver(cpu, &cpu->inject);
	}
	if (cpu->m->jit)
		jit_loop(cpu);
	interp_loop(cpu);
}
