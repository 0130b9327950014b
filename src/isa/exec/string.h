/* SPDX-License-Identifier: MIT */
/* The REP loop. For exec/string.c and exec/io.c. */
#ifndef ISA_EXEC_STRING_H
#define ISA_EXEC_STRING_H

#include "isa/exec/operand.h"

/* One element; updates rSI and rDI. */
typedef void str_one_fn(struct isa_cpu *c, const struct isa_insn *i);
/* As many elements as go at once, at most @n, or 0. Never throws half-way. */
typedef u64 str_bulk_fn(struct isa_cpu *c, const struct isa_insn *i, u64 n);

static __always_inline_ u64 str_off(const struct isa_cpu *c, const struct isa_insn *i, unsigned reg)
{
	return mask_size(c->r.gpr[reg], i->addrsize);
}

static __always_inline_ void str_step(struct isa_cpu *c, const struct isa_insn *i, unsigned reg,
				      s64 n)
{
	s64 d = c->s.rflags & X86_DF ? -n : n;

	reg_set(c, reg, i->addrsize, c->r.gpr[reg] + (u64)d);
}

/* The instruction is not done: it starts again, with what is left, after the engine has looked. */
static inline void str_again(struct isa_cpu *c, const struct isa_insn *i)
{
	c->s.rip = mask_size(c->s.rip - i->len, c->mode == ISA_LONG64 ? 8 : 4);
}

/* @by_zf: REPE and REPNE end on ZF. @bulk may be NULL. */
static __always_inline_ void str_rep(struct isa_cpu *c, const struct isa_insn *i, str_one_fn *one,
				     str_bulk_fn *bulk, bool by_zf)
{
	u64 n, k;

	if (!(i->prefixes & (ISA_P_REP | ISA_P_REPNE))) {
		one(c, i);
		return;
	}
	n = str_off(c, i, RCX);
	while (n) {
		/* Single step traps after each iteration (vol. 3B, 18.3.1.4). */
		k = bulk && !(c->s.rflags & X86_TF) ? bulk(c, i, n) : 0;
		if (!k) {
			one(c, i);
			k = 1;
		}
		n -= k;
		reg_set(c, RCX, i->addrsize, n);
		if (!n || (by_zf && isa_zf(c) != !!(i->prefixes & ISA_P_REP)))
			return;
		if (unlikely(__atomic_load_n(&c->request, __ATOMIC_RELAXED) ||
			     (c->s.rflags & X86_TF))) {
			str_again(c, i);
			return;
		}
	}
}

#endif
