/* SPDX-License-Identifier: MIT */
/* Recipes for status flags: struct rec. */
#include "silicon/jit/tr.h"

#include "isa/exec/alu.h"

static u64 rec_make(unsigned kind, const struct isa_insn *i, unsigned a, unsigned b)
{
	unsigned size = i->o[0].size;
	struct rec r = {.kind = (u8)kind, .size = (u8)size, .a = (u8)a, .b = (u8)b};
	u64 v;

	if (b == REC_IMM) {
		if (size == 8 && (s64)i->imm != (s32)i->imm)
			return 0;
		r.imm = size == 1 ? (s8)i->imm : size == 2 ? (s16)i->imm : (s32)i->imm;
	}
	memcpy(&v, &r, 8);
	return v;
}

u64 rec_after(const struct isa_insn *i)
{
	unsigned a, b;

	if (i->nops < 2 || i->o[0].kind != OK_GPR)
		return 0;
	a = i->o[0].reg;
	switch (i->op) {
	case ISA_OP_AND:
	case ISA_OP_OR:
	case ISA_OP_XOR:
		if (i->op == ISA_OP_XOR && i->o[1].kind == OK_GPR && i->o[1].reg == a)
			return rec_make(REC_ZERO, i, 0, 0);
		return rec_make(REC_TEST, i, a, a);
	case ISA_OP_CMP:
	case ISA_OP_TEST:
	case ISA_OP_ADD:
	case ISA_OP_SUB: break;
	default: return 0;
	}
	if (i->o[1].kind == OK_GPR)
		b = i->o[1].reg;
	else if (i->o[1].kind == OK_IMM)
		b = REC_IMM;
	else
		return 0;
	switch (i->op) {
	case ISA_OP_CMP: return rec_make(REC_CMP, i, a, b);
	case ISA_OP_TEST: return rec_make(REC_TEST, i, a, b);
	default:
		if (a == b)
			return i->op == ISA_OP_SUB ? rec_make(REC_ZERO, i, 0, 0) : 0;
		return rec_make(i->op == ISA_OP_ADD ? REC_ADD : REC_SUB, i, a, b);
	}
}

u64 rec_after_shift(const struct isa_insn *i)
{
	unsigned kind = i->op == ISA_OP_SHL ? REC_SHL : i->op == ISA_OP_SHR ? REC_SHR : REC_SAR;

	return rec_make(kind, i, 0, REC_IMM);
}

static bool is_shift(unsigned kind)
{
	return kind == REC_SHL || kind == REC_SHR || kind == REC_SAR;
}

unsigned rec_regs(u64 rec)
{
	struct rec r = rec_of(rec);

	if (!r.kind || r.kind == REC_ZERO || is_shift(r.kind))
		return 0;
	return 1u << r.a | (r.b == REC_IMM ? 0 : 1u << r.b);
}

/* op a, b: @op is the one-byte opcode of "rm8, r8", @ext the digit of the immediate form. @a: host
 * register, @b: guest's or REC_IMM. */
static void op_ab(u8 **p, unsigned op, unsigned ext, unsigned a, const struct rec *r)
{
	unsigned rex = 0x40 | (r->size == 8 ? 8 : 0) | a >> 3, wide = r->size != 1, b;

	if (r->size == 2)
		put8(p, 0x66);
	if (r->b == REC_IMM) {
		put8(p, rex);
		put8(p, (op == 0x84 ? 0xf6 : 0x80) | wide);
		put8(p, 0xc0 | ext << 3 | (a & 7));
		if (r->size == 1) {
			put8(p, (u8)r->imm);
		} else if (r->size == 2) {
			put8(p, (u8)r->imm);
			put8(p, (u8)(r->imm >> 8));
		} else {
			put32(p, (u32)r->imm);
		}
		return;
	}
	b = host_of(r->b);
	if (b == NO_HOST) {
		/* The form "r, rm"; TEST has only one. */
		put8(p, 0x40 | (r->size == 8 ? 8 : 0) | a >> 3 << 2);
		put8(p, (op == 0x84 ? 0x84 : op | 2) | wide);
		put8(p, 0x44 | (a & 7) << 3);
		put8(p, 0x24);
		put8(p, FR_GPR(r->b));
		return;
	}
	put8(p, rex | b >> 3 << 2);
	put8(p, op | wide);
	put8(p, 0xc0 | (b & 7) << 3 | (a & 7));
}

void emit_rec(u8 **p, u64 rec)
{
	struct rec r = rec_of(rec);
	unsigned a = host_of(r.a);

	if (r.kind == REC_ZERO) {
		EMIT(p, 0x45, 0x31, 0xf6); /* xor r14d, r14d */
		return;
	}
	if (is_shift(r.kind)) {
		emit_gs_load(p, T0, GS_OF(j.shifted));
		if (r.size == 2)
			put8(p, 0x66);
		put8(p, r.size == 8 ? 0x49 : 0x41); /* shl, shr, sar r14, imm */
		put8(p, r.size == 1 ? 0xc0 : 0xc1);
		put8(p, (r.kind == REC_SHL ? 0xe0 : r.kind == REC_SHR ? 0xe8 : 0xf8) | (T0 & 7));
		put8(p, (u8)r.imm);
		return;
	}
	if (a == NO_HOST) {
		emit_sp(p, OP_MOV_R_RM, T0, FR_GPR(r.a));
		a = T0;
	} else if (r.kind == REC_ADD || r.kind == REC_SUB) {
		emit_mov_rr(p, T0, a);
		a = T0;
	}
	switch (r.kind) {
	case REC_CMP: op_ab(p, 0x38, 7, a, &r); break;
	case REC_TEST: op_ab(p, 0x84, 0, a, &r); break;
	case REC_ADD:
		op_ab(p, 0x28, 5, a, &r);
		op_ab(p, 0x00, 0, a, &r);
		break;
	default:
		op_ab(p, 0x00, 0, a, &r);
		op_ab(p, 0x28, 5, a, &r);
		break;
	}
}

void jit_rec_flags(struct isa_cpu *c, u64 rec)
{
	struct rec r = rec_of(rec);
	u64 a, b;

	if (r.kind == REC_ZERO) {
		isa_cc_logic(c, 8, 0);
		return;
	}
	if (is_shift(r.kind)) {
		struct sil_cpu *cpu = container_of(c, struct sil_cpu, c);
		unsigned n = (unsigned)r.imm & (r.size == 8 ? 63 : 31);

		(r.kind == REC_SHL   ? alu_shl
		 : r.kind == REC_SHR ? alu_shr
				     : alu_sar)(c, r.size, cpu->j.shifted, n);
		return;
	}
	a = c->r.gpr[r.a];
	b = r.b == REC_IMM ? (u64)(s64)r.imm : c->r.gpr[r.b];
	switch (r.kind) {
	case REC_CMP: isa_cc_sub(c, r.size, a, b, a - b); break;
	case REC_TEST: isa_cc_logic(c, r.size, a & b); break;
	case REC_ADD: isa_cc_add(c, r.size, a - b, b, a); break;
	default: isa_cc_sub(c, r.size, a + b, b, a); break;
	}
}

u8 *jit_emit_convert(u8 *p, u64 rec, const u8 *entry_mem)
{
	emit_rec(&p, rec);
	emit_flags_save(&p, T0);
	emit_jmp(&p, entry_mem);
	return p;
}
