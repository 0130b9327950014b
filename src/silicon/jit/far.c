/* SPDX-License-Identifier: MIT */
/*
 * Direct jumps to other pages. Each is patched to go to the translation of its target, as within
 * the page, but first compares the linear page it leads to with the one at which the cpu has the
 * page of that translation (cpu->j.there). If it is another one, or not of this generation of the
 * jump cache, a stub or jit_far finds out whether that can be mended, and the comparison is made
 * again.
 */
#include "silicon/jit/tr.h"

bool tr_far_links(s64 target)
{
	/* Not to an instruction that may end on the next page. */
	return (target < 0 || target >= (s64)PAGE_SIZE) &&
	       (target & ~PAGE_MASK) <= (s64)PAGE_SIZE - ISA_INSN_MAX;
}

struct jit_link *tr_far_link(struct tr *t, s64 target, unsigned count, struct jit_insn *insn)
{
	struct jit_link *l = tr_new_link(t, (unsigned)(target & ~PAGE_MASK), 0,
					 t->fl == FL_LOST ? JIT_FL_REC : JIT_FL_MEM);

	l->far = true;
	l->disp = (s32)target;
	l->n = (u8)count;
	l->insn = insn;
	return l;
}

/*
 * T1 = the page that @l leads to; @keep: it stays there. Returns the displacement of the jump that
 * is taken if it is not known what is there, or somebody wants to be heard: each loop has a jump
 * backward.
 */
static u8 *check(struct tr *t, struct jit_link *l, bool keep, u8 **asked)
{
	unsigned cmp = keep ? T0 : T1;
	u8 **p = &t->p;

	*asked = l->disp < 0 ? emit_asked(p) : NULL;
	emit_sp(p, OP_MOV_R_RM, T1, FR_OF(pc_page));
	/* What follows the last byte of 4 GiB in 32-bit code is not the first one: #GP. */
	emit_lea_n(p, l->insn ? t->word : 8, T1, T1, l->disp & (s32)PAGE_MASK);
	if (keep)
		emit_mov_rr(p, T0, T1);
	emit_gs(p, OP_XOR_R_RM, cmp, GS_OF(j.xgen), true);
	emit_align(p, 5);
	emit_gs(p, OP_CMP_R_RM, cmp, GS_OF(j.there[JIT_PAGES_MAX]), true);
	l->seen = (u32)(t->p - 4 - t->j->rw);
	return emit_jcc(p, COND_NE);
}

static void ask(struct tr *t, struct jit_link *l, u8 *again, u8 *unknown, u8 *asked)
{
	fix_rel32(unknown, t->p);
	if (asked)
		fix_rel32(asked, t->p);
	emit_mov_imm64(&t->p, T0, (u64)l);
	emit_call(&t->p, t->j->rw + t->j->stub[STUB_FAR]);
	emit_jmp(&t->p, again);
}

void tr_far_jump(struct tr *t, struct jit_link *l, bool shadow)
{
	u8 *again = t->p, *asked, *unknown = check(t, l, true, &asked);

	if (shadow)
		tr_no_shadow(t);
	emit_sp(&t->p, OP_MOV_RM_R, T1, FR_OF(pc_page));
	tr_count_mem(t, l->n);
	tr_link_jump(t, l);
	ask(t, l, again, unknown, asked);
}

/* The target first: whatever fails, nothing has been stored. */
void tr_far_call(struct tr *t, struct jit_link *l)
{
	u8 *again = t->p, *asked, *unknown = check(t, l, false, &asked), **p = &t->p;

	tr_push_return(t);
	tr_shadow_over(t);
	if (t->word == 8)
		put8(p, 0x48);
	EMIT(p, 0x81, 0x44, 0x24); /* add [rsp + pc_page], disp */
	put8(p, FR_OF(pc_page));
	put32(p, (u32)l->disp & (u32)PAGE_MASK);
	tr_count_mem(t, l->n);
	tr_link_jump(t, l);
	ask(t, l, again, unknown, asked);
}
