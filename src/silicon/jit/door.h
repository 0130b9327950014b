/* SPDX-License-Identifier: MIT */
/* What the engine calls of the translator. */
#ifndef SILICON_JIT_DOOR_H
#define SILICON_JIT_DOOR_H

#include "silicon/cpu/cpu.h"

/* Can this host run it: x86-64 with BMI2, LAHF and FSGSBASE. Any thread. */
bool jit_supported(void);
int jit_create(struct sil_machine *m); /* 0 or -errno */
void jit_destroy(struct sil_machine *m);
int jit_cpu_create(struct sil_cpu *cpu); /* 0 or -ENOMEM */
void jit_cpu_destroy(struct sil_cpu *cpu);

/* Around everything that may run translated code: GS base. */
void jit_cpu_enter(struct sil_cpu *cpu);
void jit_cpu_leave(struct sil_cpu *cpu);
/* An exit has been thrown, or the world is to stop. */
static inline void jit_idle(struct sil_cpu *cpu)
{
	__atomic_store_n(&cpu->j.busy, false, __ATOMIC_RELEASE);
}

/* Runs the guest; leaves only by a throw. */
__noreturn void jit_loop(struct sil_cpu *cpu);

/* Is it the host page that translated code finds where it has no translation? */
bool jit_nowhere(const struct sil_machine *m, hva_t addr);
/* struct guard's caught: an access of translated code has faulted. Async-signal-safe. */
void jit_caught(struct guard *g, void *ucontext);

/* Bytes of @page, which is in the registry of code pages (its lock is held), were written: forget
 * translations of [@from, @to), also in the jump cache of @writer, whose thread this is, or NULL.
 * @valid: the bytes that are translated still. Any thread. */
void jit_forget(struct sil_machine *m, struct sil_cpu *writer, hva_t page, unsigned from,
		unsigned to, u64 valid[PAGE_SIZE / 64]);
/* This cpu may have pointers to forgotten translations. Owner thread. */
void jit_lost(struct sil_cpu *cpu);

#endif
