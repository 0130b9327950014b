/* SPDX-License-Identifier: MIT */
/* Near control transfers, generic forms. SDM vol. 2: Jcc, JMP, CALL, RET, LOOP. */
#include "isa/exec/operand.h"

static void jump_rel(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 rip = rip_moved(c, i);

	check_rip(c, rip);
	c->s.rip = rip;
}

void exec_jcc(struct isa_cpu *c, const struct isa_insn *i)
{
	if (isa_cond(c, i->cond))
		jump_rel(c, i);
}

void exec_jrcxz(struct isa_cpu *c, const struct isa_insn *i)
{
	if (!reg_get(c, RCX, i->addrsize))
		jump_rel(c, i);
}

static void loop(struct isa_cpu *c, const struct isa_insn *i, bool cond)
{
	u64 n = mask_size(c->r.gpr[RCX] - 1, i->addrsize);

	if (n && cond)
		jump_rel(c, i); /* may raise: RCX is written after it */
	reg_set(c, RCX, i->addrsize, n);
}

void exec_loop(struct isa_cpu *c, const struct isa_insn *i)
{
	loop(c, i, true);
}

void exec_loope(struct isa_cpu *c, const struct isa_insn *i)
{
	loop(c, i, isa_zf(c));
}

void exec_loopne(struct isa_cpu *c, const struct isa_insn *i)
{
	loop(c, i, !isa_zf(c));
}

static u64 near_target(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 rip = i->o[0].kind == OK_IMM ? rip_moved(c, i) : op_get(c, i, 0);

	check_rip(c, rip);
	return rip;
}

void exec_jmp(struct isa_cpu *c, const struct isa_insn *i)
{
	c->s.rip = near_target(c, i);
}

void exec_call(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 rip = near_target(c, i);

	push_val(c, i->opsize, c->s.rip);
	c->s.rip = rip;
}

/* The immediate, if there is one, releases that many bytes of arguments. */
void exec_ret(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 rip = stack_peek(c, 0, i->opsize);

	check_rip(c, rip);
	c->r.gpr[RSP] = sp_moved(c, i->opsize + (s64)(u16)i->imm);
	c->s.rip = rip;
}
