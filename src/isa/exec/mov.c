/* SPDX-License-Identifier: MIT */
/* Data movement without flags: MOV and its kin, the stack, conversions. SDM vol. 2. */
#include "isa/exec/operand.h"

void exec_nop(struct isa_cpu *c, const struct isa_insn *i) {}

void exec_mov(struct isa_cpu *c, const struct isa_insn *i)
{
	op_set(c, i, 0, op_get(c, i, 1));
}

void exec_movsx(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, i->o[0].reg, i->o[0].size, sign_extend(op_get(c, i, 1), i->o[1].size * 8));
}

void exec_lea(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, i->o[0].reg, i->o[0].size, isa_ea_offset(c, i));
}

/* The source is read, and a 32-bit destination zero-extended, whatever the condition. */
void exec_cmov(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 v = op_get(c, i, 1);

	if (isa_cond(c, i->cond))
		reg_set(c, i->o[0].reg, i->o[0].size, v);
	else if (i->o[0].size == 4)
		reg_set(c, i->o[0].reg, 4, c->r.gpr[i->o[0].reg]);
}

void exec_setcc(struct isa_cpu *c, const struct isa_insn *i)
{
	op_set(c, i, 0, isa_cond(c, i->cond));
}

void exec_xlat(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 off = mask_size(c->r.gpr[RBX] + (u8)c->r.gpr[RAX], i->addrsize);
	u64 la = c->ea = isa_linear(c, i->seg, off, 1, 0);

	reg_set(c, RAX, 1, isa_ld8(c, la, ISA_HOW(i)));
}

/* ---- Conversions
 * ------------------------------------------------------------------------------------- */

void exec_cbw(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, RAX, 2, (u64)(s8)c->r.gpr[RAX]);
}

void exec_cwde(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, RAX, 4, (u64)(s16)c->r.gpr[RAX]);
}

void exec_cdqe(struct isa_cpu *c, const struct isa_insn *i)
{
	c->r.gpr[RAX] = (u64)(s32)c->r.gpr[RAX];
}

void exec_cwd(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, RDX, 2, (s16)c->r.gpr[RAX] < 0 ? ~0ull : 0);
}

void exec_cdq(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, RDX, 4, (s32)c->r.gpr[RAX] < 0 ? ~0ull : 0);
}

void exec_cqo(struct isa_cpu *c, const struct isa_insn *i)
{
	c->r.gpr[RDX] = (s64)c->r.gpr[RAX] < 0 ? ~0ull : 0;
}

/* ---- Stack
 * ------------------------------------------------------------------------------------------- */

void exec_push(struct isa_cpu *c, const struct isa_insn *i)
{
	push_val(c, i->opsize, op_get(c, i, 0));
}

/* A memory destination based on RSP is addressed with the RSP after the pop (vol. 2B, POP). */
void exec_pop(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 v = stack_peek(c, 0, i->opsize), old = c->r.gpr[RSP], sp = sp_moved(c, i->opsize);
	u64 off, la;

	if (i->o[0].kind == OK_MEM) {
		c->r.gpr[RSP] = sp;
		off = isa_ea_offset(c, i);
		c->r.gpr[RSP] = old;
		la = c->ea = isa_linear(c, i->seg, off, i->opsize, ISA_ACC_WRITE);
		mem_set(c, la, i->opsize, v, ISA_HOW(i));
		c->r.gpr[RSP] = sp;
	} else {
		c->r.gpr[RSP] = sp;
		reg_set(c, i->o[0].reg, i->opsize, v);
	}
}

void exec_pusha(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->opsize, k;
	u64 sp = c->r.gpr[RSP];

	/* All the slots are writable before one of them is written. */
	for (k = 1; k <= 8; k++)
		stack_la(c, sp - k * size, size, ISA_ACC_WRITE);
	for (k = 1; k <= 8; k++)
		mem_set(c, stack_la(c, sp - k * size, size, ISA_ACC_WRITE), size,
			k == 5 ? sp : c->r.gpr[k - 1], ISA_ACC_STACK);
	c->r.gpr[RSP] = sp_moved(c, -8 * (s64)size);
}

void exec_popa(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->opsize, k;
	u64 v[8];

	for (k = 0; k < 8; k++)
		v[7 - k] = stack_peek(c, k * size, size);
	c->r.gpr[RSP] = sp_moved(c, 8 * (s64)size);
	for (k = 0; k < 8; k++)
		if (k != RSP)
			reg_set(c, k, size, v[k]);
}

void exec_enter(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->opsize, level = i->imm2 & 31, k;
	u64 sp = c->r.gpr[RSP], bp = c->r.gpr[RBP], frame;

	sp -= size;
	mem_set(c, stack_la(c, sp, size, ISA_ACC_WRITE), size, bp, ISA_ACC_STACK);
	frame = sp & c->sp_mask;
	if (c->sp_mask == 0xffff)
		frame |= c->r.gpr[RSP] & ~0xffffull;
	for (k = 1; k < level; k++) {
		u64 v;

		bp -= size;
		v = mem_get(c, stack_la(c, bp, size, 0), size, ISA_ACC_STACK);
		sp -= size;
		mem_set(c, stack_la(c, sp, size, ISA_ACC_WRITE), size, v, ISA_ACC_STACK);
	}
	if (level) {
		sp -= size;
		mem_set(c, stack_la(c, sp, size, ISA_ACC_WRITE), size, frame, ISA_ACC_STACK);
	}
	sp -= (u16)i->imm;
	/* The new top must be writable (vol. 2A, ENTER: faults of a write there). */
	rmw_ptr(c, stack_la(c, sp, size, ISA_ACC_WRITE), size, ISA_ACC_STACK);
	reg_set(c, RBP, size, frame);
	c->r.gpr[RSP] = sp_moved(c, (s64)(sp - c->r.gpr[RSP]));
}

void exec_leave(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 bp = c->r.gpr[RBP];
	u64 v = mem_get(c, stack_la(c, bp, i->opsize, 0), i->opsize, ISA_ACC_STACK);

	c->r.gpr[RSP] = sp_moved(c, (s64)(bp + i->opsize - c->r.gpr[RSP]));
	reg_set(c, RBP, i->opsize, v);
}

/* BOUND: signed index against two bounds in memory; #BR. */
void exec_bound(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	s64 idx = (s64)sign_extend(reg_get(c, i->o[0].reg, size), size * 8);
	u64 off = isa_ea_offset(c, i), la = c->ea = isa_linear(c, i->seg, off, 2 * size, 0);
	s64 lo = (s64)sign_extend(mem_get(c, la, size, ISA_HOW(i)), size * 8);
	s64 hi = (s64)sign_extend(mem_get(c, la + size, size, ISA_HOW(i)), size * 8);

	if (idx < lo || idx > hi)
		isa_raise(c, X86_BR);
}
