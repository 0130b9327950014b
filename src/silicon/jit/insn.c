/* SPDX-License-Identifier: MIT */
/* Translations of single instructions. Each returns false for forms that the handler is to run. */
#include "silicon/jit/tr.h"

/* ---- Encodings ----------------------------------------------------------------------------------
 */

/* Is the reg field of ModRM part of the opcode? */
static bool reg_is_opcode(const struct enc *e)
{
	if (e->map == 0) {
		switch (e->op) {
		case 0x80 ... 0x83:
		case 0xc0:
		case 0xc1:
		case 0xc6:
		case 0xc7:
		case 0xd0 ... 0xd3:
		case 0xf6:
		case 0xf7:
		case 0xfe:
		case 0xff: return true;
		}
	} else if (e->map == 1) {
		return e->op == 0xba || e->op == 0xc7 || (e->op >= 0x90 && e->op <= 0x9f);
	}
	return false;
}

static bool has_mem(const struct isa_insn *i)
{
	unsigned k;

	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == OK_MEM)
			return true;
	return false;
}

static bool has_high(const struct isa_insn *i)
{
	unsigned k;

	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == OK_GPRH)
			return true;
	return false;
}

/* Prefixes, REX, opcode, ModRM, immediate. @reg, @rm: host registers; @mem: [T1 + disp]. */
static void put_insn_at(struct tr *t, const struct enc *e, unsigned reg, unsigned rm, bool mem,
			s32 disp)
{
	unsigned rex = (e->rex & 8) | (reg >> 3 << 2) | rm >> 3;
	u8 **p = &t->p;

	if (e->lock)
		put8(p, 0xf0);
	if (e->p66)
		put8(p, 0x66);
	if (e->pf)
		put8(p, e->pf);
	if (rex || e->rex)
		put8(p, 0x40 | rex);
	if (e->map)
		put8(p, 0x0f);
	if (e->map > 1)
		put8(p, e->map == 2 ? 0x38 : 0x3a);
	put8(p, e->op);
	if (mem)
		emit_t1_mem(p, reg, disp);
	else
		put8(p, 0xc0 | (reg & 7) << 3 | (rm & 7));
	memcpy(*p, e->imm, e->nimm);
	*p += e->nimm;
}

static void put_insn(struct tr *t, const struct enc *e, unsigned reg, unsigned rm)
{
	put_insn_at(t, e, reg, rm, false, 0);
}

void tr_write_back(struct tr *t, unsigned guest, unsigned host)
{
	const u8 *from = t->p;

	if (host_of(guest) != NO_HOST)
		return;
	emit_sp(&t->p, OP_MOV_RM_R, host, FR_GPR(guest));
	if (t->held_at == from && t->held[T1 - host] == guest)
		t->held[T1 - host] = NO_HOST; /* the value from before */
	tr_held_set(t, from, host, guest);
}

/* The instruction's bytes without prefixes that have no meaning for it here. */
static void put_raw(struct tr *t)
{
	const struct isa_insn *i = t->i;
	unsigned k;
	bool prefixes = true;

	for (k = 0; k < i->len; k++) {
		u8 b = i->raw[k];

		if (prefixes && (b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 ||
				 b == 0x65 || b == 0x67))
			continue;
		if (b != 0x66 && b != 0xf2 && b != 0xf3 && b != 0xf0)
			prefixes = false;
		/* 80 again in 32-bit mode, and nothing in 64-bit mode */
		if (t->word == 4 && b == 0x82 && k + 1u == i->modrm_off && i->nops == 2)
			b = 0x80;
		put8(&t->p, b);
	}
}

static void before(struct tr *t, unsigned attr)
{
	if (attr & F_R)
		tr_need_flags(t);
}

static void after(struct tr *t, unsigned attr)
{
	if (attr & F_W) {
		tr_set_flags(t);
		t->rec = rec_after(t->i);
	}
}

/* ---- ModRM instructions -------------------------------------------------------------------------
 */

static bool copy_mem(struct tr *t, unsigned attr, const struct enc *e)
{
	const struct isa_insn *i = t->i;
	bool first = i->o[0].kind == OK_MEM, ext = reg_is_opcode(e);
	bool write = (first && !(attr & M_R)) || (attr & D_2);
	unsigned guest = (e->modrm >> 3 & 7) | (e->rex & 4) << 1, reg = guest & 7;
	struct cold *c;
	const u8 *from;
	bool load;
	s32 disp;

	if (has_high(i) || !i->msize)
		return false;
	if (!tr_mem(t, i->msize, write, &c, &disp))
		return false;
	if (attr & F_R)
		tr_need_flags(t);
	if (!ext) {
		if (host_of(guest) != NO_HOST)
			reg = host_of(guest);
		else if ((attr & D_W) && i->o[0].kind == OK_GPR && i->o[0].size >= 4)
			reg = T0;
		else
			reg = tr_reg(t, guest, T0);
	}
	load = !ext && ((i->o[0].kind == OK_GPR && !(attr & D_NONE)) || (attr & D_2));
	from = t->p;
	put_insn_at(t, e, reg, T1, true, disp);
	tr_held_but(t, from, load ? reg : NO_HOST);
	if (load)
		tr_write_back(t, guest, reg);
	after(t, attr);
	tr_back(t, c);
	return true;
}

/* Operands with the stack pointer's number but without REX are AH..BH: copied with their REX-less
 * encoding, where no other operand needs one. */
static bool copy_high(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned k;

	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == OK_GPR && (i->o[k].reg == RSP || i->o[k].reg >= R8))
			return false;
	before(t, attr);
	put_raw(t);
	after(t, attr);
	return true;
}

/* 40-4F, which are REX in 64-bit mode. */
static void put_short_inc(struct tr *t)
{
	unsigned h = host_of(t->i->o[0].reg);

	if (t->i->o[0].size == 2)
		put8(&t->p, 0x66);
	put8(&t->p, 0x40 | h >> 3);
	put8(&t->p, 0xff);
	put8(&t->p, (t->i->op == ISA_OP_INC ? 0xc0 : 0xc8) | (h & 7));
}

bool tr_copy(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned greg, grm, reg, rm;
	struct enc e;
	bool ext, written;
	const u8 *from;

	if (!i->modrm_off) {
		before(t, attr);
		if (i->op == ISA_OP_INC || i->op == ISA_OP_DEC)
			put_short_inc(t);
		else
			put_raw(t); /* accumulator and immediate */
		after(t, attr);
		return true;
	}
	enc_parse(t, &e);
	if (has_mem(i))
		return copy_mem(t, attr, &e);
	if (has_high(i))
		return copy_high(t, attr);
	ext = reg_is_opcode(&e);
	greg = (e.modrm >> 3 & 7) | (e.rex & 4) << 1;
	grm = (e.modrm & 7) | (e.rex & 1) << 3;
	before(t, attr);
	written = i->o[0].kind == OK_GPR && !(attr & D_NONE);
	if ((attr & D_W) && i->o[0].size >= 4 && !ext && host_of(greg) == NO_HOST &&
	    greg == i->o[0].reg && greg != grm) {
		rm = tr_reg(t, grm, T1);
		reg = T0;
	} else if ((attr & D_W) && i->o[0].size >= 4 && host_of(grm) == NO_HOST &&
		   grm == i->o[0].reg && (ext || greg != grm)) {
		reg = ext ? greg & 7 : tr_reg(t, greg, T0);
		rm = T1;
	} else {
		rm = tr_reg(t, grm, T1);
		reg = ext ? greg & 7 : greg == grm ? rm : tr_reg(t, greg, T0);
	}
	from = t->p;
	if (t->shifted)
		emit_gs_store(&t->p, rm, GS_OF(j.shifted));
	put_insn(t, &e, reg, rm);
	if (!(attr & D_2))
		tr_held_but(t, from, !written ? NO_HOST : grm == i->o[0].reg ? rm : reg);
	if ((written && grm == i->o[0].reg) || (attr & D_2))
		tr_write_back(t, grm, rm);
	if (!ext && ((written && greg == i->o[0].reg && greg != grm) || (attr & D_2)))
		tr_write_back(t, greg, reg);
	after(t, attr);
	return true;
}

bool tr_plain(struct tr *t, unsigned attr)
{
	before(t, attr);
	put_raw(t);
	after(t, attr);
	return true;
}

bool tr_nothing(struct tr *t, unsigned attr)
{
	return true;
}

bool tr_mov(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned g = i->o[0].reg, h;
	struct cold *c;

	if (i->modrm_off)
		return i->o[0].kind == OK_GPR || i->o[0].kind == OK_GPRH || i->o[0].kind == OK_MEM
			       ? tr_copy(t, attr)
			       : false;
	if (has_mem(i)) {
		/* A0-A3: absolute address, accumulator. */
		bool write = i->o[0].kind == OK_MEM;

		tr_spill_flags(t);
		if (!tr_ea(t))
			return false;
		c = tr_access(t, i->msize, write, COLD_SLOW);
		if (i->msize == 2)
			put8(&t->p, 0x66);
		put8(&t->p, i->msize == 8 ? 0x49 : 0x41);
		put8(&t->p, (write ? 0x88 : 0x8a) | (i->msize > 1));
		put8(&t->p, 0x07);
		tr_back(t, c);
		return true;
	}
	/* B0-BF: immediates. */
	if (i->o[1].kind != OK_IMM)
		return false;
	if (i->o[0].kind == OK_GPRH) {
		put_raw(t);
		return true;
	}
	h = host_of(g);
	if (h == NO_HOST) {
		if (i->o[0].size < 4)
			emit_sp(&t->p, OP_MOV_R_RM, T0, FR_GPR(g));
		h = T0;
	}
	switch (i->o[0].size) {
	case 1:
		put8(&t->p, 0x40 | h >> 3);
		put8(&t->p, 0xb0 | (h & 7));
		put8(&t->p, (u8)i->imm);
		break;
	case 2:
		put8(&t->p, 0x66);
		put8(&t->p, 0x40 | h >> 3);
		put8(&t->p, 0xb8 | (h & 7));
		put8(&t->p, (u8)i->imm);
		put8(&t->p, (u8)(i->imm >> 8));
		break;
	case 4:
		put8(&t->p, 0x40 | h >> 3);
		put8(&t->p, 0xb8 | (h & 7));
		put32(&t->p, (u32)i->imm);
		break;
	default: emit_mov_imm64(&t->p, h, i->imm); break;
	}
	tr_write_back(t, g, h);
	return true;
}

bool tr_lea(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned g = i->o[0].reg, h = host_of(g);

	if (i->o[0].size < 4)
		return false;
	if (h == NO_HOST)
		h = T1;
	if (!tr_ea_offset(t, h))
		return false;
	if (i->o[0].size == 4 && i->addrsize != 4) {
		put8(&t->p, 0x40 | h >> 3 << 2 | h >> 3);
		put8(&t->p, 0x89);
		put8(&t->p, 0xc0 | (h & 7) << 3 | (h & 7));
	}
	tr_write_back(t, g, h);
	return true;
}

/* With a count in CL the flags may be those of before (SDM vol. 2B, SAL/SAR/SHL/SHR). */
bool tr_shift(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	bool done;

	t->shifted = !(attr & F_R) && i->o[0].kind == OK_GPR && !tr_flags_dead(t);
	done = tr_copy(t, attr);
	if (done && t->shifted)
		t->rec = rec_after_shift(i);
	t->shifted = false;
	return done;
}

/* A register's offset into memory reaches beyond the operand: the bits' operand, and the offset
 * within that. */
static bool bit_string(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned size = i->o[0].size, h;
	struct cold *c;
	struct enc e;

	if (t->word != 8 || i->addrsize != 8 || size < 4)
		return false;
	tr_spill_flags(t);
	if (!tr_ea(t))
		return false;
	h = tr_reg(t, i->o[1].reg, T0);
	if (size == 8) {
		if (h != T0)
			emit_mov_rr(&t->p, T0, h);
	} else { /* movsxd r14, h */
		put8(&t->p, 0x4c | h >> 3);
		put8(&t->p, 0x63);
		put8(&t->p, 0xf0 | (h & 7));
	}
	emit_sp(&t->p, OP_MOV_RM_R, T0, FR_OF(tmp[0]));
	/* sar r14, 3; and r14, -size; add r15, r14 */
	EMIT(&t->p, 0x49, 0xc1, 0xfe, 0x03, 0x49, 0x83, 0xe6);
	put8(&t->p, (u8)-size);
	EMIT(&t->p, 0x4d, 0x01, 0xf7);
	/* and qword [tmp], size * 8 - 1 */
	EMIT(&t->p, 0x48, 0x83, 0x64, 0x24);
	put8(&t->p, FR_OF(tmp[0]));
	put8(&t->p, size * 8 - 1);
	c = tr_access(t, size, !(attr & M_R), COLD_SLOW);
	tr_need_flags(t);
	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(tmp[0]));
	enc_parse(t, &e);
	put_insn_at(t, &e, T0, T1, true, 0);
	after(t, attr);
	tr_back(t, c);
	return true;
}

bool tr_bit(struct tr *t, unsigned attr)
{
	if (t->i->o[0].kind == OK_MEM && t->i->o[1].kind != OK_IMM)
		return bit_string(t, attr);
	return tr_copy(t, attr);
}

bool tr_bswap(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned g = i->o[0].reg, h;

	if (i->o[0].size < 4)
		return false;
	h = tr_reg(t, g, T0);
	put8(&t->p, (i->o[0].size == 8 ? 0x48 : 0x40) | h >> 3);
	put8(&t->p, 0x0f);
	put8(&t->p, 0xc8 | (h & 7));
	tr_write_back(t, g, h);
	return true;
}

bool tr_xchg(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned a, b;

	if (i->modrm_off)
		return tr_copy(t, attr);
	/* 90+r: with the accumulator */
	if (i->nops < 2 || i->o[0].kind != OK_GPR || i->o[1].kind != OK_GPR || i->o[0].size < 4)
		return false;
	a = tr_reg(t, i->o[0].reg, T0);
	b = tr_reg(t, i->o[1].reg, T1);
	put8(&t->p, (i->o[0].size == 8 ? 0x48 : 0x40) | a >> 3 << 2 | b >> 3);
	put8(&t->p, 0x87);
	put8(&t->p, 0xc0 | (a & 7) << 3 | (b & 7));
	tr_write_back(t, i->o[0].reg, a);
	tr_write_back(t, i->o[1].reg, b);
	return true;
}

/*
 * Only where no #DE can come. DIV: the upper half is below the divisor. IDIV: the dividend is the
 * sign extension of its lower half, and the divisor neither 0 nor -1.
 */
bool tr_div(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	bool wide = i->o[0].size == 8;
	unsigned d = i->o[0].reg;
	struct cold *c;
	struct enc e;

	if (i->o[0].size < 4)
		return false;
	tr_spill_flags(t);
	enc_parse(t, &e);
	if (i->o[0].kind == OK_MEM) {
		if (!tr_ea(t))
			return false;
		c = tr_access(t, i->msize, false, COLD_SLOW);
		/* mov r15, [r15] */
		put8(&t->p, wide ? 0x4d : 0x45);
		EMIT(&t->p, 0x8b, 0x3f);
		d = T1;
	} else if (i->o[0].kind == OK_GPR) {
		c = NULL;
		d = tr_reg(t, d, T1);
	} else {
		return false;
	}
	if (i->op == ISA_OP_DIV) {
		struct cold *z;

		/* cmp d, rdx; jbe slow */
		put8(&t->p, (wide ? 0x48 : 0x40) | d >> 3);
		put8(&t->p, 0x39);
		put8(&t->p, 0xc0 | RDX << 3 | (d & 7));
		z = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, 6), tr_insn(t));
		put_insn(t, &e, e.modrm >> 3 & 7, d);
		tr_back(t, z);
	} else {
		struct cold *y, *z;

		/* mov r14, rax; sar r14, 63 (31); cmp r14, rdx; jne slow */
		put8(&t->p, wide ? 0x49 : 0x41);
		EMIT(&t->p, 0x89, 0xc6);
		put8(&t->p, wide ? 0x49 : 0x41);
		EMIT(&t->p, 0xc1, 0xfe);
		put8(&t->p, wide ? 63 : 31);
		put8(&t->p, wide ? 0x49 : 0x41);
		EMIT(&t->p, 0x39, 0xd6);
		y = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
		/* lea r14, [d + 1]; cmp r14, 1; jbe slow */
		put8(&t->p, (wide ? 0x4c : 0x44) | d >> 3);
		EMIT(&t->p, 0x8d);
		put8(&t->p, 0x40 | 6 << 3 | (d & 7));
		if ((d & 7) == 4)
			put8(&t->p, 0x24);
		put8(&t->p, 1);
		put8(&t->p, wide ? 0x49 : 0x41);
		EMIT(&t->p, 0x83, 0xfe, 0x01);
		z = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, 6), tr_insn(t));
		put_insn(t, &e, e.modrm >> 3 & 7, d);
		tr_back(t, y);
		tr_back(t, z);
	}
	if (c)
		tr_back(t, c);
	return true;
}

/* ---- VEX-encoded general-purpose instructions
 * ------------------------------------------------------ */

bool tr_vex(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned greg, grm, reg, rm, v, spilled = 0;
	bool mem = has_mem(i), ext, usev;
	struct cold *c = NULL;
	s32 disp = 0;
	struct enc e;

	enc_parse(t, &e);
	if (!e.vex || !i->modrm_off)
		return false;
	if (t->word == 4)
		e.rex = 0;		      /* W is ignored */
	ext = e.map == 2 && e.op == 0xf3;     /* BLSR and the like */
	usev = !(e.map == 3 && e.op == 0xf0); /* not RORX */
	greg = (e.modrm >> 3 & 7) | (e.rex & 4) << 1;
	grm = (e.modrm & 7) | (e.rex & 1) << 3;
	spilled = (!ext && host_of(greg) == NO_HOST) + (usev && host_of(e.vvvv) == NO_HOST) +
		  (mem || host_of(grm) == NO_HOST);
	if (spilled > 2)
		return false;
	if (mem) {
		if (!tr_mem(t, i->msize, false, &c, &disp))
			return false;
		rm = T1;
	} else {
		rm = host_of(grm) == NO_HOST ? tr_reg(t, grm, T1) : host_of(grm);
	}
	/* With two spilled ones, the third is not and T0 is free for the other. */
	if (mem || host_of(grm) == NO_HOST) {
		reg = ext ? greg & 7 : tr_reg(t, greg, T0);
		v = !usev ? 0 : tr_reg(t, e.vvvv, T0);
	} else {
		reg = ext ? greg & 7 : tr_reg(t, greg, T0);
		v = !usev ? 0 : tr_reg(t, e.vvvv, T1);
	}
	put8(&t->p, 0xc4);
	put8(&t->p, (reg & 8 && !ext ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | e.map);
	put8(&t->p, (e.rex & 8) << 4 | (~v & 15) << 3 | e.vl << 2 | e.pp);
	put8(&t->p, e.op);
	if (mem)
		emit_t1_mem(&t->p, reg, disp);
	else
		put8(&t->p, 0xc0 | (reg & 7) << 3 | (rm & 7));
	memcpy(t->p, e.imm, e.nimm);
	t->p += e.nimm;
	if (ext) {
		tr_write_back(t, e.vvvv, v);
	} else {
		/* With one destination for both halves, MULX leaves the upper. */
		if (i->op == ISA_OP_MULX)
			tr_write_back(t, e.vvvv, v);
		tr_write_back(t, greg, reg);
	}
	after(t, attr);
	if (c)
		tr_back(t, c);
	return true;
}
