/* SPDX-License-Identifier: MIT */
/*
 * Jumps. Within the page: a host jump, patched when the target is first reached; directly to other
 * pages: far.c. Through registers or memory: the cpu's jump cache, whose entries are valid in one
 * TLB bank until something happens to its execute entries.
 */
#include "silicon/jit/tr.h"

struct jit_link *tr_new_link(struct tr *t, unsigned target, unsigned count, enum jit_fl fl)
{
	struct jit_link *l = jit_alloc(t->j, sizeof(*l));
	static struct jit_link dummy;

	if (!l) {
		t->oom = true;
		return &dummy;
	}
	*l = (struct jit_link){.from = t->b,
			       .rec = fl == JIT_FL_REC ? t->rec : 0,
			       .target = (u16)target,
			       .count = (u16)count,
			       .fl = (u8)fl};
	return l;
}

/* Flags must have a place at the end of a block. */
static void settle(struct tr *t)
{
	if (t->fl == FL_ANY)
		t->fl = t->entry = FL_HOST;
	t->looked |= t->fresh;
}

/* Where a jump to @target leaves them: out of EFLAGS if they need not be there. */
static enum jit_fl link_fl(const struct tr *t, unsigned target)
{
	switch (t->fl) {
	case FL_MEM: return JIT_FL_MEM;
	case FL_LOST: return JIT_FL_REC;
	case FL_BOTH: return tr_reads_flags_at(t, target) ? JIT_FL_HOST : JIT_FL_MEM;
	default: return t->rec && !tr_reads_flags_at(t, target) ? JIT_FL_REC : JIT_FL_HOST;
	}
}

void tr_count_mem(struct tr *t, unsigned n)
{
	EMIT(&t->p, 0x48, 0x83, 0x44, 0x24); /* add qword [rsp + count], n */
	put8(&t->p, FR_OF(count));
	put8(&t->p, n);
}

static void count(struct tr *t, unsigned n, enum jit_fl fl)
{
	if (fl == JIT_FL_HOST)
		tr_count(t, n);
	else
		tr_count_mem(t, n);
}

/* A look at the request word, flags untouched. */
static void poll(struct tr *t, struct jit_link *l)
{
	u8 *over;

	if (l->fl != JIT_FL_HOST) {
		tr_cold(t, COLD_GOTO, emit_asked(&t->p), l);
		return;
	}
	emit_mov_rr(&t->p, T0, RCX);
	emit_gs(&t->p, OP_MOV_R_RM, RCX, GS_OF(c.request), false);
	put8(&t->p, 0xe3); /* jrcxz */
	over = t->p;
	put8(&t->p, 0);
	put8(&t->p, 0xe9);
	put32(&t->p, 0);
	tr_cold(t, COLD_GOTO_RCX, t->p - 4, l);
	*over = (u8)(t->p - (over + 1));
	emit_mov_rr(&t->p, RCX, T0);
}

/* jmp to the target's translation; until there is one, to the stub that makes it. */
void tr_link_jump(struct tr *t, struct jit_link *l)
{
	u8 *stub;

	emit_align(&t->p, 1);
	put8(&t->p, 0xe9);
	l->site = (u32)(t->p - t->j->rw);
	put32(&t->p, 0);
	stub = t->p;
	fix_rel32(stub - 4, stub);
	emit_mov_imm64(&t->p, T0, (u64)l);
	emit_jmp(&t->p,
		 t->j->rw + t->j->stub[l->fl == JIT_FL_HOST ? STUB_LINK_HOST : STUB_LINK_MEM]);
}

/* To @target in the page, from after this instruction. */
static void edge(struct tr *t, unsigned target, unsigned n)
{
	struct jit_link *l;

	settle(t);
	l = tr_new_link(t, target, 0, link_fl(t, target));
	count(t, n, l->fl);
	if (target <= t->off)
		poll(t, l);
	tr_link_jump(t, l);
}

struct jit_link *tr_plain_link(struct tr *t)
{
	struct jit_link *l =
		tr_new_link(t, t->off, t->index, t->fl == FL_MEM ? JIT_FL_MEM : JIT_FL_REC);

	l->plain = true;
	return l;
}

void tr_edge_cold(struct tr *t, struct cold *c)
{
	struct jit_link *l = c->arg;

	count(t, l->count, l->fl);
	l->count = 0;
	tr_link_jump(t, l);
}

/* ---- The jump cache -------------------------------------------------------------------------- */

/* T1 = linear target -> T0 = code (entry with flags in memory), T1 = target xor the generation;
 * else cold. Flags are in memory. */
static void lookup(struct tr *t, enum cold_kind kind, void *arg)
{
	u8 **p = &t->p;

	tr_cold(t, kind, emit_asked(p), arg);
	emit_gs(p, OP_XOR_R_RM, T1, GS_OF(j.xgen), true);
	emit_mov_rr(p, T0, T1);
	EMIT(p, 0x65, 0x4c, 0x0f, 0xaf, 0x34, 0x25); /* imul r14, gs:[hash] */
	put32(p, GS_OF(j.hash));
	EMIT(p, 0x49, 0xc1, 0xee, JIT_JC_SHIFT - 4); /* shr r14; and r14d: an entry's offset */
	EMIT(p, 0x41, 0x81, 0xe6);
	put32(p, (JIT_JC_SIZE - 1) * sizeof(struct jit_jc));
	emit_gs(p, OP_ADD_R_RM, T0, GS_OF(j.jc), true);
	EMIT(p, 0x4d, 0x39, 0x3e); /* cmp [r14], r15 */
	tr_cold(t, kind, emit_jcc(p, COND_NE), arg);
	EMIT(p, 0x4d, 0x8b, 0x76, 0x08); /* mov r14, [r14 + 8] */
}

/* T1 as lookup leaves it: the page we are in now. T1 is lost. */
static void enter_page(struct tr *t)
{
	emit_gs(&t->p, OP_XOR_R_RM, T1, GS_OF(j.xgen), true);
	EMIT(&t->p, 0x49, 0x81, 0xe7, 0x00, 0xf0, 0xff, 0xff); /* and r15, -4096 */
	emit_sp(&t->p, OP_MOV_RM_R, T1, FR_OF(pc_page));
}

static void jmp_t0(struct tr *t)
{
	EMIT(&t->p, 0x41, 0xff, 0xe6);
}

/* T1 = page + @disp, where @disp is relative to the page's start. */
static void near_address(struct tr *t, s64 disp, unsigned bytes)
{
	emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(pc_page));
	emit_lea_n(&t->p, bytes, T1, T1, (s32)disp);
}

/*
 * T1 comes from a register or from memory. Where bits 63:56 are not all the same it is not
 * canonical, and lookup could take them for another generation's: the handler raises #GP. Other
 * addresses that are not canonical are in no entry.
 */
static void need_canonical(struct tr *t)
{
	u8 **p = &t->p;

	if (t->word != 8)
		return;
	EMIT(p, 0xc4, 0x43, 0xfb, 0xf0, 0xf7, JIT_GEN_SHIFT - 1); /* rorx r14, r15, 56 */
	EMIT(p, 0x41, 0xfe, 0xc6);				  /* inc r14b; cmp r14b, 1 */
	EMIT(p, 0x41, 0x80, 0xfe, 0x01);
	tr_cold(t, COLD_END, emit_jcc(p, COND_A), tr_insn(t));
}

/* To another page, directly, where it cannot be linked: flags are in memory. */
static void far_edge(struct tr *t, s64 disp, unsigned count, enum cold_kind kind, void *arg)
{
	/* What follows the last byte of 4 GiB in 32-bit code is not the first one: #GP. */
	near_address(t, disp, disp >= (s64)PAGE_SIZE && disp == (s64)t->end ? 8 : t->word);
	lookup(t, kind, arg);
	tr_shadow_over(t);
	enter_page(t);
	tr_count_mem(t, count);
	jmp_t0(t);
}

/* ---- Instructions ------------------------------------------------------------------------------
 */

static s64 target_of(const struct tr *t)
{
	return (s64)t->end + (t->word == 4 ? (s32)t->i->imm : (s64)t->i->imm);
}

/* Can a jump there be linked? Not to an instruction that may end on the next page. */
static bool in_page(s64 target)
{
	return target >= 0 && target <= (s64)PAGE_SIZE - ISA_INSN_MAX;
}

bool tr_jcc(struct tr *t, unsigned attr)
{
	s64 target = target_of(t);
	unsigned cond = t->i->cond;
	struct jit_link *l;
	enum fl fl;
	u8 *over;

	if (t->i->opsize != t->word || target != (s32)target)
		return false;
	tr_need_flags(t);
	if (in_page(target))
		tr_shadow_over(t);
	if (in_page(target) && target > (s64)t->off) {
		l = tr_new_link(t, (unsigned)target, t->index + 1, link_fl(t, (unsigned)target));
		tr_cold(t, COLD_EDGE, emit_jcc(&t->p, cond), l);
		return true;
	}
	if (in_page(target)) {
		over = emit_jcc(&t->p, cond ^ 1);
		edge(t, (unsigned)target, t->index + 1);
		fix_rel32(over, t->p);
		return true;
	}
	if (tr_far_links(target)) {
		bool save = t->fl == FL_HOST && !t->rec;
		struct cold *c;

		fl = t->fl;
		t->fl = fl == FL_HOST && t->rec ? FL_LOST : FL_MEM;
		l = tr_far_link(t, target, t->index + 1, tr_insn(t));
		t->fl = fl;
		t->looked |= t->fresh;
		c = tr_cold(t, COLD_FAR, emit_jcc(&t->p, cond), l);
		c->flags = save;
		c->shadow = t->shadow;
		return true;
	}
	over = emit_jcc(&t->p, cond ^ 1);
	fl = t->fl;
	tr_store_flags(t);
	far_edge(t, target, t->index + 1, COLD_END, tr_insn(t));
	t->fl = fl;
	fix_rel32(over, t->p);
	return true;
}

bool tr_jmp(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	s64 target;

	if (i->opsize != t->word)
		return false;
	if (i->o[0].kind == OK_IMM) {
		target = target_of(t);
		if (target != (s32)target)
			return false;
		if (in_page(target)) {
			tr_shadow_over(t);
			edge(t, (unsigned)target, t->index + 1);
		} else if (tr_far_links(target)) {
			tr_spill_flags(t);
			tr_far_jump(t, tr_far_link(t, target, t->index + 1, tr_insn(t)), t->shadow);
		} else {
			tr_store_flags(t);
			far_edge(t, target, t->index + 1, COLD_END, tr_insn(t));
		}
		t->done = true;
		return true;
	}
	tr_store_flags(t);
	if (i->o[0].kind == OK_MEM) {
		if (!tr_ea(t))
			return false;
		tr_access(t, t->word, false, COLD_END);
		emit_t1(&t->p, t->word, OP_MOV_R_RM, T1, 0);
	} else if (i->o[0].kind == OK_GPR) {
		unsigned h = tr_reg(t, i->o[0].reg, T1);

		if (h != T1)
			emit_mov_rr_n(&t->p, t->word, T1, h);
	} else {
		return false;
	}
	need_canonical(t);
	lookup(t, COLD_END, tr_insn(t));
	tr_shadow_over(t);
	enter_page(t);
	tr_count_mem(t, t->index + 1);
	jmp_t0(t);
	t->done = true;
	return true;
}

/* Checks the stack slot, stores the return address there, moves RSP. Uses T0, T1. */
void tr_push_return(struct tr *t)
{
	emit_lea_n(&t->p, t->word, T1, HOST_SP, -(s32)t->word);
	t->slot = RSP;
	tr_access(t, t->word, true, COLD_END);
	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(pc_page));
	emit_lea(&t->p, T0, T0, (s32)t->end);
	emit_t1(&t->p, t->word, OP_MOV_RM_R, T0, 0);
	emit_lea_n(&t->p, t->word, HOST_SP, HOST_SP, -(s32)t->word);
}

bool tr_call(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	s64 target = 0;

	if (i->opsize != t->word)
		return false;
	if (i->o[0].kind == OK_IMM) {
		target = target_of(t);
		if (target != (s32)target)
			return false;
		if (in_page(target) || tr_far_links(target)) {
			/* RSP changes. */
			if (!in_page(target) || rec_regs(t->rec) & 1u << RSP)
				tr_store_flags(t);
			else
				tr_spill_flags(t);
			t->done = true;
			if (!in_page(target)) {
				tr_far_call(t, tr_far_link(t, target, t->index + 1, tr_insn(t)));
				return true;
			}
			tr_push_return(t);
			tr_shadow_over(t);
			edge(t, (unsigned)target, t->index + 1);
			return true;
		}
		tr_store_flags(t);
		near_address(t, target, t->word);
	} else {
		tr_store_flags(t);
		if (i->o[0].kind == OK_MEM) {
			if (!tr_ea(t))
				return false;
			tr_access(t, t->word, false, COLD_END);
			emit_t1(&t->p, t->word, OP_MOV_R_RM, T1, 0);
		} else if (i->o[0].kind == OK_GPR) {
			unsigned h = tr_reg(t, i->o[0].reg, T1);

			if (h != T1)
				emit_mov_rr_n(&t->p, t->word, T1, h);
		} else {
			return false;
		}
		need_canonical(t);
	}
	/* The target first: whatever fails, nothing has been stored. */
	lookup(t, COLD_END, tr_insn(t));
	emit_sp(&t->p, OP_MOV_RM_R, T0, FR_OF(tmp[0]));
	emit_sp(&t->p, OP_MOV_RM_R, T1, FR_OF(tmp[1]));
	tr_push_return(t);
	tr_shadow_over(t);
	emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(tmp[1]));
	enter_page(t);
	tr_count_mem(t, t->index + 1);
	EMIT(&t->p, 0xff, 0x64, 0x24); /* jmp [rsp + tmp] */
	put8(&t->p, FR_OF(tmp[0]));
	t->done = true;
	return true;
}

bool tr_ret(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	s32 disp;

	if (i->opsize != t->word)
		return false;
	tr_store_flags(t);
	tr_stack(t, 0, false, COLD_END, &disp);
	emit_t1(&t->p, t->word, OP_MOV_R_RM, T1, disp);
	need_canonical(t);
	lookup(t, COLD_END, tr_insn(t));
	tr_shadow_over(t);
	emit_lea_n(&t->p, t->word, HOST_SP, HOST_SP, (s32)t->word + (u16)i->imm);
	enter_page(t);
	tr_count_mem(t, t->index + 1);
	jmp_t0(t);
	t->done = true;
	return true;
}

/* The block ends without a jump: its limit, the page's end, or no whole instruction there. */
void tr_fallthrough(struct tr *t)
{
	struct jit_link *l;

	settle(t);
	if (in_page(t->end)) {
		edge(t, t->end, t->index);
		return;
	}
	if (tr_far_links(t->end)) {
		tr_spill_flags(t);
		tr_far_jump(t, tr_far_link(t, t->end, t->index, NULL), t->shadow);
		return;
	}
	tr_store_flags(t);
	l = tr_new_link(t, t->end, t->index, JIT_FL_MEM);
	far_edge(t, t->end, t->index, COLD_GOTO, l);
}

/* ---- One instruction on two pages ------------------------------------------------------------ */

/* Are the bytes on the second page as they were? */
void tr_cross(struct tr *t, const struct jit_cross *x)
{
	unsigned at = x->first, left, n;
	struct jit_link *l;
	u8 **p = &t->p;

	t->fl = t->entry = FL_MEM;
	/* Memory that is not there is this instruction's fault. */
	t->i = &t->pre[0];
	t->off = t->start;
	t->end = t->off + t->i->len;
	tr_insn(t);
	l = tr_new_link(t, t->off, 0, JIT_FL_MEM);
	l->cross = true;
	emit_mov_imm64(p, T1, x->host2);
	for (left = x->len - at; left; at += n, left -= n) {
		n = left >= 4 ? 4 : left >= 2 ? 2 : 1;
		if (n == 2)
			put8(p, 0x66);
		put8(p, 0x41); /* cmp [r15 + disp8], imm */
		put8(p, n == 1 ? 0x80 : 0x81);
		put8(p, 0x7f);
		put8(p, (u8)(at - x->first));
		for (unsigned k = 0; k < n; k++)
			put8(p, x->bytes[at + k]);
		tr_cold(t, COLD_GOTO, emit_jcc(p, COND_NE), l);
	}
}
