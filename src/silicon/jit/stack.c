/* SPDX-License-Identifier: MIT */
/* PUSH, POP and LEAVE. */
#include "silicon/jit/tr.h"

static bool push_mem(struct tr *t)
{
	struct cold *c, *cs;

	tr_spill_flags(t);
	if (!tr_ea(t))
		return false;
	c = tr_access(t, t->word, false, COLD_SLOW);
	emit_t1(&t->p, t->word, OP_MOV_R_RM, T0, 0);
	emit_sp(&t->p, OP_MOV_RM_R, T0, FR_OF(tmp[0]));
	emit_lea_n(&t->p, t->word, T1, HOST_SP, -(s32)t->word);
	t->slot = RSP;
	cs = tr_access(t, t->word, true, COLD_SLOW);
	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(tmp[0]));
	emit_t1(&t->p, t->word, OP_MOV_RM_R, T0, 0);
	emit_lea_n(&t->p, t->word, HOST_SP, HOST_SP, -(s32)t->word);
	if (c)
		tr_back(t, c);
	tr_back(t, cs);
	return true;
}

bool tr_push(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	struct cold *c;
	unsigned h;
	s32 disp;

	if (i->opsize == t->word && i->o[0].kind == OK_MEM)
		return push_mem(t);
	if (i->opsize != t->word || (i->o[0].kind != OK_GPR && i->o[0].kind != OK_IMM))
		return false;
	c = tr_stack(t, -(s32)t->word, true, COLD_SLOW, &disp);
	if (i->o[0].kind == OK_GPR) {
		h = tr_reg(t, i->o[0].reg, T0);
		emit_t1(&t->p, t->word, OP_MOV_RM_R, h, disp);
	} else {
		emit_t1(&t->p, t->word, 0xc7, 0, disp);
		put32(&t->p, (u32)i->imm);
	}
	emit_lea_n(&t->p, t->word, HOST_SP, HOST_SP, -(s32)t->word);
	tr_back(t, c);
	return true;
}

bool tr_pop(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	struct cold *c;
	unsigned h;
	s32 disp;

	if (i->opsize != t->word || i->o[0].kind != OK_GPR)
		return false;
	c = tr_stack(t, 0, false, COLD_SLOW, &disp);
	h = host_of(i->o[0].reg);
	if (h == NO_HOST)
		h = T0;
	emit_t1(&t->p, t->word, OP_MOV_R_RM, h, disp);
	if (i->o[0].reg != RSP)
		emit_lea_n(&t->p, t->word, HOST_SP, HOST_SP, (s32)t->word);
	tr_write_back(t, i->o[0].reg, h);
	tr_back(t, c);
	return true;
}

bool tr_leave(struct tr *t, unsigned attr)
{
	struct cold *c;

	if (t->i->opsize != t->word)
		return false;
	tr_spill_flags(t);
	emit_mov_rr_n(&t->p, t->word, T1, RBP);
	t->slot = RBP;
	c = tr_access(t, t->word, false, COLD_SLOW);
	emit_t1(&t->p, t->word, OP_MOV_R_RM, T0, 0);
	emit_lea_n(&t->p, t->word, HOST_SP, RBP, (s32)t->word);
	emit_mov_rr(&t->p, RBP, T0);
	tr_back(t, c);
	return true;
}
