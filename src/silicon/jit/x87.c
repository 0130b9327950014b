/* SPDX-License-Identifier: MIT */
/*
 * x87 and EMMS, on the host's x87 registers. They are the guest's while cpu->j.vec says so
 * (VEC_X87): CR0.EM and TS are clear and the control word masks all exceptions, so nothing can be
 * pending. All else is the handlers'.
 *
 * The host's instruction pointer is not the guest's. x87.fip is written before the next branch
 * (tr_x87_flush); until then the block's jit_insns say which instruction was last. The opcode and
 * the data pointer belong to unmasked exceptions, which do not come here.
 */
#include "silicon/jit/tr.h"

/* The last instruction's address to where C looks for it. Flags are untouched. */
void tr_x87_flush(struct tr *t)
{
	if (!t->x87)
		return;
	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(pc_page));
	emit_lea(&t->p, T0, T0, (s32)t->x87 - 1);
	emit_gs_store(&t->p, T0, GS_OF(c.r.x87.fip));
	t->x87 = 0;
}

static u8 opcode(const struct isa_insn *i)
{
	return i->raw[i->modrm_off - 1];
}

static unsigned field(const struct isa_insn *i)
{
	return i->raw[i->modrm_off] >> 3 & 7;
}

static bool in_memory(const struct isa_insn *i)
{
	return i->raw[i->modrm_off] < 0xc0;
}

/* FST, FSTP, FIST, FISTP, FISTTP, FBSTP, FNSTCW, FNSTSW: D9, DB, DD, DF /1 /2 /3 /7, DF /6. */
static bool stores(const struct isa_insn *i)
{
	unsigned f = field(i);

	return (opcode(i) & 1) && ((f >= 1 && f <= 3) || f == 7 || (opcode(i) == 0xdf && f == 6));
}

/* The instruction with its memory operand at [T1]. */
static void put_in_memory(struct tr *t)
{
	put8(&t->p, 0x41);
	put8(&t->p, opcode(t->i));
	put8(&t->p, field(t->i) << 3 | (T1 & 7));
}

static struct cold *operand(struct tr *t, bool write, enum cold_kind kind)
{
	tr_spill_flags(t);
	return t->i->msize && tr_ea(t) ? tr_access(t, t->i->msize, write, kind) : NULL;
}

bool tr_x87(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	struct cold *c = NULL;

	if (!i->modrm_off || !isa_feat_runnable(isa_rows[i->op].feat))
		return false;
	tr_need_vec(t, VEC_X87);
	if (in_memory(i)) {
		c = operand(t, stores(i), COLD_SLOW);
		if (!c)
			return false;
		put_in_memory(t);
	} else {
		if (attr & F_R)
			tr_need_flags(t);
		put8(&t->p, opcode(i));
		put8(&t->p, i->raw[i->modrm_off]);
		if (attr & F_W)
			tr_set_flags(t);
	}
	if (c)
		tr_back(t, c);
	t->x87 = t->off + 1;
	return true;
}

/* FNSTCW, FNSTSW, FNCLEX: the control instructions that leave x87.fip alone. */
bool tr_x87_control(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	struct cold *c;

	tr_need_vec(t, VEC_X87);
	if (in_memory(i)) {
		c = operand(t, true, COLD_SLOW);
		if (!c)
			return false;
		put_in_memory(t);
		tr_back(t, c);
	} else {
		put8(&t->p, opcode(i));
		put8(&t->p, i->raw[i->modrm_off]);
	}
	return true;
}

/* FWAIT, FNOP and what the 8087 and 80287 had: nothing is pending. */
bool tr_x87_nothing(struct tr *t, unsigned attr)
{
	tr_need_vec(t, VEC_X87);
	return true;
}

bool tr_fninit(struct tr *t, unsigned attr)
{
	tr_need_vec(t, VEC_X87);
	EMIT(&t->p, 0xdb, 0xe3);
	EMIT(&t->p, 0x65, 0x48, 0xc7, 0x04, 0x25); /* mov qword gs:[fip], 0 */
	put32(&t->p, GS_OF(c.r.x87.fip));
	put32(&t->p, 0);
	EMIT(&t->p, 0x65, 0x48, 0xc7, 0x04, 0x25);
	put32(&t->p, GS_OF(c.r.x87.fdp));
	put32(&t->p, 0);
	EMIT(&t->p, 0x65, 0x66, 0xc7, 0x04, 0x25);
	put32(&t->p, GS_OF(c.r.x87.fop));
	EMIT(&t->p, 0, 0);
	t->x87 = 0;
	return true;
}

/* What unmasks an exception takes the registers away. The word is loaded from our copy: the guest's
 * may change under our eyes. */
bool tr_fldcw(struct tr *t, unsigned attr)
{
	tr_need_vec(t, VEC_X87);
	if (!operand(t, false, COLD_END))
		return false;
	EMIT(&t->p, 0x45, 0x0f, 0xb7, 0x37); /* movzx r14d, word [r15] */
	emit_sp(&t->p, OP_MOV_RM_R, T0, FR_OF(tmp[0]));
	EMIT(&t->p, 0x41, 0xf7, 0xd6, 0x41, 0xf6, 0xc6, 0x3f); /* not r14d; test r14b, 0x3f */
	tr_cold(t, COLD_END, emit_jcc(&t->p, COND_NE), tr_insn(t));
	EMIT(&t->p, 0xd9, 0x6c, 0x24); /* fldcw [rsp + tmp] */
	put8(&t->p, FR_OF(tmp[0]));
	return true;
}

bool tr_emms(struct tr *t, unsigned attr)
{
	tr_need_vec(t, VEC_X87);
	EMIT(&t->p, 0x0f, 0x77);
	return true;
}
