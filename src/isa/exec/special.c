/* SPDX-License-Identifier: MIT */
/*
 * Handlers for the hottest forms of operands, with sizes and kinds fixed at compile time. They do
 * what the generic handlers do, by the same inline functions; isa_exec_special picks at decode.
 */
#include "isa/exec/alu.h"

/* Index of an operand size in the tables below. */
static inline unsigned size_index(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

/* Two operands: register, memory or immediate, destination first. */
struct forms {
	isa_exec_fn *rr[4], *ri[4], *rm[4], *mr[4], *mi[4];
};

#define R0(sz)	      reg_get(c, i->o[0].reg, sz)
#define R1(sz)	      reg_get(c, i->o[1].reg, sz)
#define EA_LD(sz)     mem_get(c, isa_ea(c, i, 0), sz, ISA_HOW(i))
#define HANDLER(name) static void name(struct isa_cpu *c, const struct isa_insn *i)

/* Read-modify-write of the first operand. */
#define ALU_SIZE(op, sz)                                                         \
	HANDLER(op##_rr##sz)                                                     \
	{                                                                        \
		reg_set(c, i->o[0].reg, sz, alu_##op(c, sz, R0(sz), R1(sz)));    \
	}                                                                        \
	HANDLER(op##_ri##sz)                                                     \
	{                                                                        \
		reg_set(c, i->o[0].reg, sz, alu_##op(c, sz, R0(sz), i->imm));    \
	}                                                                        \
	HANDLER(op##_rm##sz)                                                     \
	{                                                                        \
		reg_set(c, i->o[0].reg, sz, alu_##op(c, sz, R0(sz), EA_LD(sz))); \
	}                                                                        \
	HANDLER(op##_mr##sz)                                                     \
	{                                                                        \
		rmw_mem(c, i, sz, alu_##op, R1(sz));                             \
	}                                                                        \
	HANDLER(op##_mi##sz)                                                     \
	{                                                                        \
		rmw_mem(c, i, sz, alu_##op, i->imm);                             \
	}
/* Flags only. */
#define CMP_SIZE(op, fn, sz)                  \
	HANDLER(op##_rr##sz)                  \
	{                                     \
		fn(c, sz, R0(sz), R1(sz));    \
	}                                     \
	HANDLER(op##_ri##sz)                  \
	{                                     \
		fn(c, sz, R0(sz), i->imm);    \
	}                                     \
	HANDLER(op##_rm##sz)                  \
	{                                     \
		fn(c, sz, R0(sz), EA_LD(sz)); \
	}                                     \
	HANDLER(op##_mr##sz)                  \
	{                                     \
		fn(c, sz, EA_LD(sz), R1(sz)); \
	}                                     \
	HANDLER(op##_mi##sz)                  \
	{                                     \
		fn(c, sz, EA_LD(sz), i->imm); \
	}
#define MOV_SIZE(sz)                                                             \
	HANDLER(mov_rr##sz)                                                      \
	{                                                                        \
		reg_set(c, i->o[0].reg, sz, R1(sz));                             \
	}                                                                        \
	HANDLER(mov_ri##sz)                                                      \
	{                                                                        \
		reg_set(c, i->o[0].reg, sz, i->imm);                             \
	}                                                                        \
	HANDLER(mov_rm##sz)                                                      \
	{                                                                        \
		reg_set(c, i->o[0].reg, sz, EA_LD(sz));                          \
	}                                                                        \
	HANDLER(mov_mr##sz)                                                      \
	{                                                                        \
		mem_set(c, isa_ea(c, i, ISA_ACC_WRITE), sz, R1(sz), ISA_HOW(i)); \
	}                                                                        \
	HANDLER(mov_mi##sz)                                                      \
	{                                                                        \
		mem_set(c, isa_ea(c, i, ISA_ACC_WRITE), sz, i->imm, ISA_HOW(i)); \
	}
#define FORM(op, f) .f = {op##_##f##1, op##_##f##2, op##_##f##4, op##_##f##8}
#define FORMS(op)                                                                         \
	static const struct forms op##_forms = {FORM(op, rr), FORM(op, ri), FORM(op, rm), \
						FORM(op, mr), FORM(op, mi)};
#define ALU(op) ALU_SIZE(op, 1) ALU_SIZE(op, 2) ALU_SIZE(op, 4) ALU_SIZE(op, 8) FORMS(op)
#define CMP(op, fn) \
	CMP_SIZE(op, fn, 1) CMP_SIZE(op, fn, 2) CMP_SIZE(op, fn, 4) CMP_SIZE(op, fn, 8) FORMS(op)

ALU(add)
ALU(adc)
ALU(sub)
ALU(sbb)
ALU(and)
ALU(or)
ALU(xor)
CMP(cmp, alu_sub)
CMP(test, alu_and)
MOV_SIZE(1)
MOV_SIZE(2)
MOV_SIZE(4)
MOV_SIZE(8)
FORMS(mov)

static const struct forms *const two_operands[ISA_OP_N] = {
	[ISA_OP_ADD] = &add_forms, [ISA_OP_ADC] = &adc_forms, [ISA_OP_SUB] = &sub_forms,
	[ISA_OP_SBB] = &sbb_forms, [ISA_OP_AND] = &and_forms, [ISA_OP_OR] = &or_forms,
	[ISA_OP_XOR] = &xor_forms, [ISA_OP_CMP] = &cmp_forms, [ISA_OP_TEST] = &test_forms,
	[ISA_OP_MOV] = &mov_forms,
};

static isa_exec_fn *special_two(const struct isa_insn *i)
{
	const struct forms *f = two_operands[i->op];
	unsigned k = size_index(i->o[0].size);

	if (i->o[0].kind == OK_GPR) {
		/* The immediate may be narrower than the operand; registers and memory are not. */
		switch (i->o[1].kind) {
		case OK_GPR: return f->rr[k];
		case OK_IMM: return f->ri[k];
		case OK_MEM: return f->rm[k];
		}
	} else if (i->o[0].kind == OK_MEM) {
		switch (i->o[1].kind) {
		case OK_GPR: return f->mr[k];
		case OK_IMM: return f->mi[k];
		}
	}
	return NULL;
}

/* ---- MOVZX, MOVSX, LEA, one-operand arithmetic, shifts by an immediate, IMUL
 * ------------------------- */

#define EXTEND(from, to)                                                         \
	HANDLER(movzx_r##from##to)                                               \
	{                                                                        \
		reg_set(c, i->o[0].reg, to, R1(from));                           \
	}                                                                        \
	HANDLER(movzx_m##from##to)                                               \
	{                                                                        \
		reg_set(c, i->o[0].reg, to, EA_LD(from));                        \
	}                                                                        \
	HANDLER(movsx_r##from##to)                                               \
	{                                                                        \
		reg_set(c, i->o[0].reg, to, sign_extend(R1(from), from * 8));    \
	}                                                                        \
	HANDLER(movsx_m##from##to)                                               \
	{                                                                        \
		reg_set(c, i->o[0].reg, to, sign_extend(EA_LD(from), from * 8)); \
	}
EXTEND(1, 4)
EXTEND(1, 8)
EXTEND(2, 4)
EXTEND(2, 8)
EXTEND(4, 8)

static isa_exec_fn *special_extend(const struct isa_insn *i, bool sign)
{
	bool mem = i->o[1].kind == OK_MEM;

	if (i->o[1].kind != OK_MEM && i->o[1].kind != OK_GPR)
		return NULL;
#define PICK(from, to)                                                      \
	if (i->o[1].size == from && i->o[0].size == to) {                   \
		if (sign)                                                   \
			return mem ? movsx_m##from##to : movsx_r##from##to; \
		return mem ? movzx_m##from##to : movzx_r##from##to;         \
	}
	PICK(1, 4)
	PICK(1, 8)
	PICK(2, 4)
	PICK(2, 8)
	PICK(4, 8)
#undef PICK
	return NULL;
}

HANDLER(lea4)
{
	c->r.gpr[i->o[0].reg] = (u32)isa_ea_offset(c, i);
}

/* 64-bit code: base + displacement, base + index + displacement. */
HANDLER(lea8_b)
{
	c->r.gpr[i->o[0].reg] = c->r.gpr[i->base] + i->disp;
}

HANDLER(lea8_bi)
{
	c->r.gpr[i->o[0].reg] = c->r.gpr[i->base] + (c->r.gpr[i->index] << i->scale) + i->disp;
}

static isa_exec_fn *special_lea(const struct isa_insn *i)
{
	if (i->o[0].size == 4)
		return lea4;
	if (i->o[0].size != 8 || i->addrsize != 8 || i->base >= 16)
		return NULL;
	return i->index < 16 ? lea8_bi : lea8_b;
}

#define UNARY(op)                                                     \
	HANDLER(op##_r4)                                              \
	{                                                             \
		reg_set(c, i->o[0].reg, 4, alu_##op(c, 4, R0(4), 0)); \
	}                                                             \
	HANDLER(op##_r8)                                              \
	{                                                             \
		reg_set(c, i->o[0].reg, 8, alu_##op(c, 8, R0(8), 0)); \
	}
UNARY(inc)
UNARY(dec)
UNARY(neg)
UNARY(not )

#define SHIFT(op)                                                               \
	HANDLER(op##_ri4)                                                       \
	{                                                                       \
		reg_set(c, i->o[0].reg, 4, alu_##op(c, 4, R0(4), i->imm & 31)); \
	}                                                                       \
	HANDLER(op##_ri8)                                                       \
	{                                                                       \
		reg_set(c, i->o[0].reg, 8, alu_##op(c, 8, R0(8), i->imm & 63)); \
	}
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)

HANDLER(imul_r4)
{
	s64 p = (s64)(s32)R0(4) * (s32)R1(4);

	cc_product(c, 4, (u64)p, p != (s32)p);
	reg_set(c, i->o[0].reg, 4, (u64)p);
}

HANDLER(imul_r8)
{
	s64 p;
	bool o = __builtin_mul_overflow((s64)R0(8), (s64)R1(8), &p);

	cc_product(c, 8, (u64)p, o);
	c->r.gpr[i->o[0].reg] = (u64)p;
}

/* By operand 0, a register of 4 or 8 bytes. */
static isa_exec_fn *by_size(const struct isa_insn *i, isa_exec_fn *f4, isa_exec_fn *f8)
{
	if (i->o[0].kind != OK_GPR)
		return NULL;
	return i->o[0].size == 4 ? f4 : i->o[0].size == 8 ? f8 : NULL;
}

static isa_exec_fn *special_shift(const struct isa_insn *i, isa_exec_fn *f4, isa_exec_fn *f8)
{
	if (i->o[1].kind != OK_IMM || !(i->imm & (i->o[0].size == 8 ? 63 : 31)))
		return NULL;
	return by_size(i, f4, f8);
}

static isa_exec_fn *special_imul(const struct isa_insn *i)
{
	/* 0F AF /r; the one-operand form shows its accumulator as a hidden operand. */
	if (i->raw[i->modrm_off - 1] != 0xaf || i->o[1].kind != OK_GPR)
		return NULL;
	return by_size(i, imul_r4, imul_r8);
}

/* ---- Branches and the stack in 64-bit mode
 * ------------------------------------------------------------- */

/* A displacement takes a canonical RIP outside the canonical range only across its border. */
#define JUMP_REL()                                    \
	do {                                          \
		u64 to_ = c->s.rip + i->imm;          \
		if (unlikely((to_ ^ c->s.rip) >> 47)) \
			check_rip(c, to_);            \
		c->s.rip = to_;                       \
	} while (0)

#define JCC(cc, cond)               \
	HANDLER(jcc_##cc)           \
	{                           \
		if (cond)           \
			JUMP_REL(); \
	}
JCC(0, isa_of(c))
JCC(1, !isa_of(c))
JCC(2, isa_cf(c))
JCC(3, !isa_cf(c))
JCC(4, isa_zf(c))
JCC(5, !isa_zf(c))
JCC(6, isa_cf(c) || isa_zf(c))
JCC(7, !(isa_cf(c) || isa_zf(c)))
JCC(8, isa_sf(c))
JCC(9, !isa_sf(c))
JCC(10, isa_pf(c))
JCC(11, !isa_pf(c))
JCC(12, isa_sf(c) != isa_of(c))
JCC(13, isa_sf(c) == isa_of(c))
JCC(14, isa_zf(c) || isa_sf(c) != isa_of(c))
JCC(15, !isa_zf(c) && isa_sf(c) == isa_of(c))

static isa_exec_fn *const jcc64[16] = {
	jcc_0, jcc_1, jcc_2,  jcc_3,  jcc_4,  jcc_5,  jcc_6,  jcc_7,
	jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15,
};

HANDLER(jmp_rel64)
{
	JUMP_REL();
}

HANDLER(call_rel64)
{
	u64 sp = c->r.gpr[RSP] - 8, from = c->s.rip, to = from + i->imm;

	if (unlikely((to ^ from) >> 47))
		check_rip(c, to);
	isa_st64(c, sp, from, ISA_ACC_STACK);
	c->r.gpr[RSP] = sp;
	c->s.rip = to;
}

HANDLER(ret64)
{
	u64 sp = c->r.gpr[RSP], rip = isa_ld64(c, sp, ISA_ACC_STACK);

	check_rip(c, rip);
	c->r.gpr[RSP] = sp + 8;
	c->s.rip = rip;
}

HANDLER(push_r64)
{
	u64 sp = c->r.gpr[RSP] - 8;

	isa_st64(c, sp, c->r.gpr[i->o[0].reg], ISA_ACC_STACK);
	c->r.gpr[RSP] = sp;
}

HANDLER(pop_r64)
{
	u64 sp = c->r.gpr[RSP], v = isa_ld64(c, sp, ISA_ACC_STACK);

	c->r.gpr[RSP] = sp + 8;
	c->r.gpr[i->o[0].reg] = v;
}

static isa_exec_fn *special_long(const struct isa_insn *i)
{
	bool imm = i->o[0].kind == OK_IMM, reg = i->o[0].kind == OK_GPR;

	if (i->opsize != 8)
		return NULL;
	switch (i->op) {
	case ISA_OP_JMP: return imm ? jmp_rel64 : NULL;
	case ISA_OP_RET: return imm ? NULL : ret64;
	case ISA_OP_PUSH: return reg ? push_r64 : NULL;
	case ISA_OP_POP: return reg ? pop_r64 : NULL;
	case ISA_OP_CALL: return imm ? call_rel64 : NULL;
	default: return NULL;
	}
}

isa_exec_fn *isa_exec_special(const struct isa_insn *i)
{
	isa_exec_fn *fn;

	if (two_operands[i->op])
		return special_two(i);
	if (isa_rows[i->op].fn == exec_jcc && i->opsize == 8)
		return jcc64[i->cond];
	if (i->mode == ISA_LONG64) {
		fn = special_long(i);
		if (fn)
			return fn;
	}
	switch (i->op) {
	case ISA_OP_MOVZX: return special_extend(i, false);
	case ISA_OP_MOVSX:
	case ISA_OP_MOVSXD: return special_extend(i, true);
	case ISA_OP_LEA: return special_lea(i);
	case ISA_OP_INC: return by_size(i, inc_r4, inc_r8);
	case ISA_OP_DEC: return by_size(i, dec_r4, dec_r8);
	case ISA_OP_NEG: return by_size(i, neg_r4, neg_r8);
	case ISA_OP_NOT: return by_size(i, not_r4, not_r8);
	case ISA_OP_SHL: return special_shift(i, shl_ri4, shl_ri8);
	case ISA_OP_SHR: return special_shift(i, shr_ri4, shr_ri8);
	case ISA_OP_SAR: return special_shift(i, sar_ri4, sar_ri8);
	case ISA_OP_IMUL: return special_imul(i);
	default: return NULL;
	}
}
