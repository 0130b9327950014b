/* SPDX-License-Identifier: MIT */
/* Between the interpreter's loop and event delivery. */
#ifndef SILICON_CPU_ENGINE_H
#define SILICON_CPU_ENGINE_H

#include "silicon/cpu/cpu.h"

struct block;

/* A request is up: serve it, deliver what is due, wait while halted. At an instruction boundary. */
void engine_boundary(struct sil_cpu *cpu);
/* #DB with the DR6 bits @dr6; @fault: of an instruction breakpoint, else a trap. */
__noreturn void engine_raise_db(struct sil_cpu *cpu, u64 dr6, bool fault);
/* Would @n instructions more be too many for sil_cpu_stop_at? Then interp_step is to be called. */
static inline bool engine_must_step(const struct sil_cpu *cpu, unsigned n)
{
	return unlikely(cpu->n.instructions + n > cpu->stop_at);
}
/* A read-modify-write on a code page has completed. */
void engine_rmw_done(struct sil_cpu *cpu);
/* c.insn did not complete: RIP back to it, and what it has held is released. */
void engine_abort_insn(struct sil_cpu *cpu);
/* A fault was thrown (c.fault): intercepts, double-fault rules, delivery. May throw again. */
void engine_fault(struct sil_cpu *cpu);
/* The same for an event that is not an instruction's fault. */
void engine_exception(struct sil_cpu *cpu, struct isa_event ev);

#endif
