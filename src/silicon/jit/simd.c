/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions, with the guest's vector registers in the host's. cpu->j.vec says which kinds
 * of them may run (VEC_*): C takes the registers away (emit_vec_save in the stubs), the first
 * vector instruction of a block gets them back. Floating point runs under the guest's MXCSR, and
 * only while that masks all exceptions. MMX registers are the x87 ones, see x87.c.
 */
#include "isa/exec/native.h"
#include "silicon/jit/tr.h"

static void put_vex(struct tr *t, const struct enc *e, unsigned reg, unsigned rm, bool mem,
		    s32 disp)
{
	u8 **p = &t->p;

	put8(p, 0xc4);
	put8(p, (reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | e->map);
	put8(p, (e->rex & 8) << 4 | (~e->vvvv & 15) << 3 | e->vl << 2 | e->pp);
	put8(p, e->op);
	if (mem)
		emit_t1_mem(p, reg, disp);
	else
		put8(p, 0xc0 | (reg & 7) << 3 | (rm & 7));
	memcpy(*p, e->imm, e->nimm);
	*p += e->nimm;
}

/* Does an instruction of the block need @bit before a handler takes the registers away? */
static bool needed_later(const struct tr *t, unsigned bit)
{
	unsigned k;

	for (k = t->index + 1; k < t->npre; k++) {
		tr_fn *fn = tr_fn_of(&t->pre[k]);

		if (!fn || !tr_usable(t, &t->pre[k]))
			return false;
		if (fn == tr_simd && (jit_vec_kind(&t->pre[k]) & bit))
			return true;
	}
	return false;
}

void tr_need_vec(struct tr *t, unsigned bit)
{
	struct cold *c;

	if (t->vec & bit)
		return;
	/* One look for both. */
	if (bit == VEC_SSE && needed_later(t, VEC_SSE_FP))
		bit = VEC_SSE_FP;
	if (bit == VEC_AVX && needed_later(t, VEC_AVX_FP))
		bit = VEC_AVX_FP;
	t->t1 = 0; /* C may run */
	tr_spill_flags(t);
	EMIT(&t->p, 0x65, 0xf6, 0x04, 0x25); /* test byte gs:[vec], bit */
	put32(&t->p, GS_OF(j.vec));
	put8(&t->p, bit);
	c = tr_cold(t, COLD_VEC, emit_jcc(&t->p, COND_E), tr_insn(t));
	t->ji->vec |= (u8)bit;
	c->back = t->p;
	t->vec |= bit;
	if (bit == VEC_SSE_FP)
		t->vec |= VEC_SSE;
	if (bit == VEC_AVX_FP)
		t->vec |= VEC_AVX;
}

static bool has(const struct isa_insn *i, enum isa_okind kind)
{
	unsigned k;

	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == kind)
			return true;
	return false;
}

/* What @i needs. */
unsigned jit_vec_kind(const struct isa_insn *i)
{
	bool fp = i->flags & ISA_F_MXCSR, mmx = has(i, OK_MMX);

	if (i->flags & ISA_F_AVX)
		return fp ? VEC_AVX_FP : VEC_AVX;
	if ((i->flags & (ISA_F_FPU | ISA_F_MMX)) || i->op == ISA_OP_FWAIT ||
	    (mmx && !fp && !has(i, OK_XMM)))
		return VEC_X87;
	return (fp ? VEC_SSE_FP : VEC_SSE) | (mmx ? VEC_X87 : 0);
}

bool tr_simd(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	isa_exec_fn *fn = isa_rows[i->op].fn;
	bool mem = false, gpr = false, write = false, flags = false;
	unsigned align = 0, k, greg, grm, reg, rm, bit = jit_vec_kind(i), out = T1;
	struct cold *c = NULL, *ca = NULL;
	s32 disp = 0;
	struct enc e;

	for (k = 0; k < i->nops; k++) {
		switch (i->o[k].kind) {
		case OK_MEM: mem = true; break;
		case OK_GPR: gpr = true; break;
		default: break;
		}
	}
	if (fn == exec_vzero) {
		tr_need_vec(t, bit);
		memcpy(t->p, i->raw, i->len);
		t->p += i->len;
		return true;
	}
	enc_parse(t, &e);
	/* 32-bit code: W is ignored where it would make a general register 64 bits wide, and so is
	 * the upper bit of a register in an immediate. */
	if (t->word == 4 && e.vex &&
	    ((e.rex & 8 && !(i->flags & ISA_F_MXCSR)) || gpr || e.map == 3))
		return false;
	if (!i->modrm_off || (mem && e.modrm >> 6 == 3))
		return false;
	if (fn == exec_simd_mov) {
		if (i->op == ISA_OP_VMOVNTDQA)
			return false;
		align = i->flags & ISA_F_ALIGN ? i->msize - 1u : 0;
		write = i->o[0].kind == OK_MEM;
	} else {
		u8 code[NATIVE_CODE_MAX];
		struct native_stub s;

		if (!native_emit(i, code, &s))
			return false;
		if (s.feat != FEAT_NONE &&
		    (!isa_has(&t->cpu->c, s.feat) || !isa_feat_runnable(s.feat)))
			return false;
		align = s.align;
		write = s.mem == NATIVE_STORE;
		flags = s.flags & NATIVE_FLAGS;
	}
	if (!isa_feat_runnable(isa_rows[i->op].feat) || (mem && !i->msize))
		return false;

	greg = (e.modrm >> 3 & 7) | (e.rex & 4) << 1;
	grm = (e.modrm & 7) | (e.rex & 1) << 3;
	if (bit & VEC_X87)
		tr_need_vec(t, VEC_X87);
	if (bit & ~VEC_X87)
		tr_need_vec(t, bit & ~VEC_X87);
	rm = grm;
	reg = greg;
	if (mem && tr_group(t, &disp)) {
		if (align && !tr_group_aligned(t, disp, align)) {
			tr_spill_flags(t);
			emit_lea(&t->p, T0, T1, disp);
			EMIT(&t->p, 0x41, 0xf6, 0xc6); /* test r14b, align */
			put8(&t->p, align);
			ca = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
		}
		rm = T1;
	} else if (mem) {
		tr_spill_flags(t);
		if (!tr_ea(t))
			return false;
		if (align) {
			EMIT(&t->p, 0x41, 0xf6, 0xc7); /* test r15b, align */
			put8(&t->p, align);
			ca = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
		}
		c = tr_access(t, i->msize, write, COLD_SLOW);
		rm = T1;
	}
	/* The general register is in the reg field of CVTxx2SI, MOVMSK, PMOVMSKB, PEXTRW; in rm
	 * elsewhere. */
	if (gpr && e.map == 1 &&
	    (e.op == 0x2c || e.op == 0x2d || e.op == 0x50 || e.op == 0xd7 || e.op == 0xc5)) {
		reg = host_of(greg) == NO_HOST ? T0 : host_of(greg);
		out = reg;
	} else if (gpr && !mem && e.op != 0x60 && e.op != 0x61 && e.op != 0x62 && e.op != 0x63) {
		rm = tr_reg(t, grm, T1);
		out = rm;
	}
	if (e.vex) {
		put_vex(t, &e, reg, rm, mem, disp);
	} else {
		unsigned rex = (e.rex & 8) | (reg >> 3 << 2) | rm >> 3;

		if (e.p66)
			put8(&t->p, 0x66);
		if (e.pf)
			put8(&t->p, e.pf);
		if (rex)
			put8(&t->p, 0x40 | rex);
		put8(&t->p, 0x0f);
		if (e.map > 1)
			put8(&t->p, e.map == 2 ? 0x38 : 0x3a);
		put8(&t->p, e.op);
		if (mem)
			emit_t1_mem(&t->p, reg, disp);
		else
			put8(&t->p, 0xc0 | (reg & 7) << 3 | (rm & 7));
		memcpy(t->p, e.imm, e.nimm);
		t->p += e.nimm;
	}
	if (i->o[0].kind == OK_GPR) {
		unsigned g = i->o[0].reg;

		if (host_of(g) == NO_HOST)
			emit_sp(&t->p, OP_MOV_RM_R, out, FR_GPR(g));
	}
	if (flags)
		tr_set_flags(t);
	if (ca)
		tr_back(t, ca);
	if (c)
		tr_back(t, c);
	return true;
}
