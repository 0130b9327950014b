/* SPDX-License-Identifier: MIT */
/* C that translated code calls without giving its vector registers back (lean.c). */
#ifndef SILICON_JIT_LEAN_H
#define SILICON_JIT_LEAN_H

#include "silicon/jit/jit.h"

/*
 * The status flags are in cpu->j.fl, general registers in c.r.gpr but for R13-R15, which are in the
 * frame as RIP's page is; @t1 is what T1 held. NULL: nothing was done, the handler is to run the
 * instruction.
 */
typedef const void *jit_lean_fn(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1);
/* These return where to go on. */
jit_lean_fn lean_syscall, lean_sysret, lean_iret, lean_int, lean_invlpg, lean_cr3;
/* Behind these the block goes on. */
jit_lean_fn lean_stac, lean_clac, lean_popf, lean_vmx, lean_pause;

#endif
