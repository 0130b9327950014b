/* SPDX-License-Identifier: MIT */
/*
 * Memory accesses: addresses, the inlined TLB check, and groups, which share one. A group are
 * accesses of one block off the same register (or RIP) while that changes by constants only: the
 * first checks the whole range and keeps the host address of its start. If the check fails the
 * block is left for one that checks each access, a plain one.
 */
#include "silicon/jit/tr.h"

#include "base/log.h"

/* ---- Addresses ----------------------------------------------------------------------------------
 */

/* lea dst, [base + index * 2^scale + disp]; NO_HOST where there is none. 4 or 8 @bytes of it. */
static void lea(struct tr *t, unsigned bytes, unsigned dst, unsigned base, unsigned index,
		unsigned scale, s32 disp)
{
	u8 **p = &t->p;

	put8(p, (bytes == 8 ? 0x48 : 0x40) | dst >> 3 << 2 |
			(index != NO_HOST && index > 7 ? 2 : 0) |
			(base != NO_HOST && base > 7 ? 1 : 0));
	put8(p, 0x8d);
	if (base == NO_HOST) {
		put8(p, 0x04 | (dst & 7) << 3);
		put8(p, scale << 6 | (index & 7) << 3 | 5);
		put32(p, (u32)disp);
		return;
	}
	if (index == NO_HOST) {
		put8(p, (disp == (s8)disp ? 0x40 : 0x80) | (dst & 7) << 3 | (base & 7));
		if ((base & 7) == 4)
			put8(p, 0x24);
	} else {
		put8(p, (disp == (s8)disp ? 0x40 : 0x80) | (dst & 7) << 3 | 4);
		put8(p, scale << 6 | (index & 7) << 3 | (base & 7));
	}
	if (disp == (s8)disp)
		put8(p, (u8)disp);
	else
		put32(p, (u32)disp);
}

/* The effective address (no segment) into @dst, T1 or the destination of LEA. */
bool tr_ea_offset(struct tr *t, unsigned dst)
{
	const struct isa_insn *i = t->i;
	unsigned base = NO_HOST, index = NO_HOST;
	s64 disp = i->addrsize == 4 ? (s32)i->disp : (s64)i->disp;

	if (i->addrsize < 4)
		return false;
	if (i->base == ISA_REG_RIP) {
		disp += t->end;
		if (disp != (s32)disp || i->index != ISA_REG_NONE)
			return false;
		emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(pc_page));
		lea(t, i->addrsize, dst, T1, NO_HOST, 0, (s32)disp);
	} else if (i->base == ISA_REG_NONE && i->index == ISA_REG_NONE) {
		emit_mov_imm64(&t->p, dst, i->addrsize == 4 ? (u32)disp : (u64)disp);
	} else {
		if (disp != (s32)disp)
			return false;
		if (i->base != ISA_REG_NONE)
			base = tr_reg(t, i->base, T1);
		if (i->index != ISA_REG_NONE)
			index = tr_reg(t, i->index, T0);
		if (base != NO_HOST && index == NO_HOST && !disp)
			emit_mov_rr_n(&t->p, i->addrsize, dst, base);
		else
			lea(t, i->addrsize, dst, base, index, i->scale, (s32)disp);
	}
	return true;
}

/* ---- The TLB
 * --------------------------------------------------------------------------------------
 */

_Static_assert(sizeof(struct isa_tlbe) == 16, "the shift below");

static struct cold *check_near(struct tr *t, unsigned size, bool write, enum cold_kind kind,
			       void *arg, unsigned slot)
{
	u32 at = GS_OF(j.near) + (write * JIT_NEAR + slot) * (u32)sizeof(struct isa_tlbe);
	struct cold *c;
	u8 **p = &t->p;

	emit_gs(p, OP_ADD_R_RM, T1, at, true);
	EMIT(p, 0x49, 0x81, 0xff); /* cmp r15, PAGE_SIZE - size */
	put32(p, PAGE_SIZE - size);
	c = tr_cold(t, kind, emit_jcc(p, COND_A), arg);
	emit_gs(p, OP_ADD_R_RM, T1, at + 8, true);
	return c;
}

static struct cold *check_first(struct tr *t, unsigned size, bool write, enum cold_kind kind,
				void *arg)
{
	u32 set = write ? offsetof(struct isa_tlb, w) : 0;
	struct cold *c;
	u8 **p = &t->p;

	/* mov r14d, r15d; shr r14d, 8; and r14d, an entry's offset */
	EMIT(p, 0x45, 0x89, 0xfe, 0x41, 0xc1, 0xee, 0x08, 0x41, 0x81, 0xe6);
	put32(p, (ISA_TLB_SIZE - 1) * sizeof(struct isa_tlbe));
	emit_gs(p, OP_ADD_R_RM, T0, GS_OF(c.tlb), true);
	if (write) {
		EMIT(p, 0x4d, 0x03, 0xbe); /* add r15, [r14 + set] */
		put32(p, set);
	} else {
		EMIT(p, 0x4d, 0x03, 0x3e);
	}
	EMIT(p, 0x49, 0x81, 0xff); /* cmp r15, PAGE_SIZE - size */
	put32(p, PAGE_SIZE - size);
	c = tr_cold(t, kind, emit_jcc(p, COND_A), arg);
	EMIT(p, 0x4d, 0x03, 0xbe); /* add r15, [r14 + set + 8] */
	put32(p, set + 8);
	return c;
}

/* T1 = linear address of @size bytes -> T1 = host address; else @kind, see struct cold. */
static struct cold *check(struct tr *t, unsigned size, bool write, enum cold_kind kind, void *arg,
			  unsigned slot)
{
	struct cold *c;

	BUG_ON(t->fl != FL_MEM && t->fl != FL_LOST);
	/*
	 * Kernels run much of their code once between two changes of the bank, and registers seldom
	 * come back to a page.
	 */
	if (!t->user && !t->in_loop[t->index] && slot != RSP)
		slot = JIT_NEAR_NONE;
	if (slot != JIT_NEAR_NONE)
		c = check_near(t, size, write, kind, arg, slot);
	else
		c = check_first(t, size, write, kind, arg);
	c->hit = t->p;
	c->size = (u16)size;
	c->write = write;
	c->slot = (u8)slot;
	return c;
}

static unsigned slot_of(const struct isa_insn *i)
{
	if (i->seg == FS)
		return JIT_NEAR_FS;
	if (i->seg == GS)
		return JIT_NEAR_GS;
	if (i->base == ISA_REG_RIP)
		return JIT_NEAR_RIP;
	if (i->base != ISA_REG_NONE)
		return i->base;
	return i->index != ISA_REG_NONE ? i->index : JIT_NEAR_NONE;
}

/* ---- Groups
 * ---------------------------------------------------------------------------------------
 */

#define GROUP_SPAN 512 /* larger ones would cross pages too often */

/* Is the segment as flat as it was when the block was made? In 64-bit mode a base is added. */
static bool flat(const struct tr *t, const struct isa_insn *i)
{
	return t->word == 8 || (i->seg != FS && i->seg != GS && i->seg != CS);
}

static bool acc_of(const struct tr *t, const struct isa_insn *i, unsigned end, struct acc *a)
{
	tr_fn *fn = tr_fn_of(i);
	unsigned attr = tr_attr_of(i), k;
	bool mem = false;

	*a = (struct acc){.base = RSP, .size = t->word};
	if (fn == tr_push) {
		a->disp = -(s64)t->word;
		a->write = true;
		return i->opsize == t->word && (i->o[0].kind == OK_GPR || i->o[0].kind == OK_IMM);
	}
	if (fn == tr_pop)
		return i->opsize == t->word && i->o[0].kind == OK_GPR;
	if (fn == tr_ret)
		return i->opsize == t->word;
	if (fn != tr_copy && fn != tr_mov && fn != tr_shift && fn != tr_bit && fn != tr_simd &&
	    fn != tr_vex)
		return false;
	if (fn == tr_bit && i->o[1].kind != OK_IMM)
		return false;
	for (k = 0; k < i->nops; k++)
		mem |= i->o[k].kind == OK_MEM;
	if (!mem || !i->msize || i->addrsize != t->word || !flat(t, i) ||
	    i->index != ISA_REG_NONE || i->seg == FS || i->seg == GS || i->base == ISA_REG_NONE ||
	    !i->modrm_off)
		return false;
	a->base = i->base;
	a->disp = t->word == 4 ? (s32)i->disp : (s64)i->disp;
	if (i->base == ISA_REG_RIP)
		a->disp += (s64)end;
	a->size = i->msize;
	a->write = (i->o[0].kind == OK_MEM && !(attr & M_R)) || (attr & D_2);
	return true;
}

/* Of instruction @k of the block; NULL: none. */
static const struct acc *acc_at(struct tr *t, unsigned k)
{
	struct acc *a = &t->acc[k];

	if (!a->known) {
		if (!acc_of(t, &t->pre[k], t->pre_off[k] + t->pre[k].len, a))
			a->size = 0;
		a->known = true;
	}
	return a->size ? a : NULL;
}

/* By how much instruction @k changes register @base. False: not by a constant. */
static bool change(struct tr *t, unsigned k, unsigned base, s64 *by)
{
	const struct isa_insn *i = &t->pre[k];

	*by = 0;
	if (base == ISA_REG_RIP || !(tr_writes_at(t, k) >> base & 1))
		return true;
	if (i->op == ISA_OP_PUSH && base == RSP) {
		*by = -(s64)t->word;
		return true;
	}
	if (i->op == ISA_OP_POP && base == RSP && i->o[0].reg != RSP) {
		*by = (s64)t->word;
		return true;
	}
	if (i->o[0].kind != OK_GPR || i->o[0].reg != base || i->o[0].size != t->word)
		return false;
	if ((i->op == ISA_OP_ADD || i->op == ISA_OP_SUB) && i->o[1].kind == OK_IMM) {
		*by = i->op == ISA_OP_ADD ? (s64)i->imm : -(s64)i->imm;
		return true;
	}
	if (i->op == ISA_OP_LEA && i->base == base && i->index == ISA_REG_NONE &&
	    i->addrsize == t->word) {
		*by = t->word == 4 ? (s32)i->disp : (s64)i->disp;
		return true;
	}
	return false;
}

/* The range of accesses from this instruction on that could be a group. */
static bool plan(struct tr *t, const struct acc *first, struct group *g)
{
	s64 lo = first->disp, hi = lo + first->size, adj = 0, by;
	bool write = first->write, branch = false;
	const struct acc *a;
	unsigned k, n = 0;

	for (k = t->index; k < t->npre; k++) {
		const struct isa_insn *i = &t->pre[k];
		tr_fn *fn = tr_fn_of(i);

		if (!fn || !tr_usable(t, i))
			break;
		a = acc_at(t, k);
		if (a && a->base == first->base) {
			s64 l = MIN(lo, a->disp + adj), h = MAX(hi, a->disp + adj + a->size);

			/* A write that may not come is not to be checked for. */
			if (h - l <= GROUP_SPAN && (!a->write || write || !branch)) {
				lo = l;
				hi = h;
				write |= a->write;
				n++;
			}
		}
		branch |= fn == tr_jcc;
		if (((i->flags & ISA_F_END) && fn != tr_jcc) || !change(t, k, first->base, &by))
			break;
		adj += by;
	}
	if (n < 2 || lo != (s32)lo)
		return false;
	*g = (struct group){
		.base = (u8)first->base, .write = write, .lo = (s32)lo, .span = (u32)(hi - lo)};
	return true;
}

/* T1 = its host address for the range of the group; the block is left if there is none. */
static void begin(struct tr *t, struct group *g, unsigned slot)
{
	unsigned base;

	tr_x87_flush(t);
	tr_spill_flags(t);
	if (g->base == ISA_REG_RIP) {
		emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(pc_page));
		base = T1;
	} else {
		base = tr_reg(t, g->base, T1);
	}
	if (g->lo)
		lea(t, t->word, T1, base, NO_HOST, 0, g->lo);
	else if (base != T1)
		emit_mov_rr_n(&t->p, t->word, T1, base);
	check(t, g->span, g->write, COLD_EDGE, tr_plain_link(t),
	      g->base == ISA_REG_RIP ? JIT_NEAR_RIP : g->base);
	emit_sp(&t->p, OP_MOV_RM_R, T1, FR_OF(host[0]) + 8 * slot);
	g->on = true;
}

bool tr_group(struct tr *t, s32 *disp)
{
	struct group *g, fresh;
	const struct acc *a;
	const u8 *from = t->p;
	unsigned k;
	s64 at;

	/* In STI's shadow an instruction must not leave the block for a plain one. */
	if (t->plain || t->shadow)
		return false;
	a = acc_at(t, t->index);
	if (!a)
		return false;
	for (k = 0; k < TR_GROUPS; k++) {
		g = &t->group[k];
		at = a->disp + g->adj - g->lo;
		if (g->on && g->base == a->base && at >= 0 && at + a->size <= g->span &&
		    (g->write || !a->write)) {
			if (t->t1 != k + 1)
				emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(host[0]) + 8 * k);
			tr_held_but(t, from, T1);
			t->t1 = k + 1;
			*disp = (s32)at;
			tr_insn(t);
			return true;
		}
	}
	if (!plan(t, a, &fresh))
		return false;
	k = t->next_group++ % TR_GROUPS;
	g = &t->group[k];
	*g = fresh;
	begin(t, g, k);
	t->t1 = k + 1;
	*disp = (s32)(a->disp - g->lo);
	tr_insn(t);
	return true;
}

bool tr_group_aligned(struct tr *t, s32 disp, unsigned mask)
{
	struct group *g = &t->group[t->t1 - 1];

	if (g->mask >= mask && !((g->at - disp) & (s32)mask))
		return true;
	g->at = disp;
	g->mask = mask;
	return false;
}

/* Has this instruction been translated without other use of T1 than for its group's access? */
static bool keeps_t1(struct tr *t)
{
	const struct isa_insn *i = t->i;
	tr_fn *fn = tr_fn_of(i);
	bool mem = false;
	unsigned k;

	for (k = 0; k < i->nops; k++)
		mem |= i->o[k].kind == OK_MEM;
	if (fn == tr_push || fn == tr_pop || (mem && fn != tr_lea && fn != tr_nothing))
		return acc_at(t, t->index);
	return fn == tr_jcc || tr_no_scratch(t);
}

void tr_groups_after(struct tr *t)
{
	unsigned k;
	s64 by;

	if (t->t1 && !keeps_t1(t))
		t->t1 = 0;

	for (k = 0; k < TR_GROUPS; k++) {
		struct group *g = &t->group[k];

		if (!g->on)
			continue;
		if (change(t, t->index, g->base, &by))
			g->adj += by;
		else
			g->on = false;
	}
}

void tr_groups_end(struct tr *t)
{
	unsigned k;

	for (k = 0; k < TR_GROUPS; k++)
		t->group[k].on = false;
	t->t1 = 0;
}

/* ---- For the translations of instructions
 * ---------------------------------------------------------
 */

bool tr_ea(struct tr *t)
{
	s32 disp;

	t->grouped = tr_group(t, &disp);
	if (t->grouped) {
		if (disp) {
			lea(t, 8, T1, T1, NO_HOST, 0, disp);
			t->t1 = 0;
		}
		return true;
	}
	t->t1 = 0;
	t->slot = slot_of(t->i);
	if (!flat(t, t->i) || !tr_ea_offset(t, T1))
		return false;
	if (t->i->seg == FS || t->i->seg == GS)
		emit_gs(&t->p, OP_ADD_R_RM, T1, GS_SEGBASE(t->i->seg), true);
	return true;
}

struct cold *tr_access(struct tr *t, unsigned size, bool write, enum cold_kind kind)
{
	if (t->grouped) {
		t->grouped = false;
		return NULL;
	}
	return check(t, size, write, kind, tr_insn(t), t->slot);
}

bool tr_mem(struct tr *t, unsigned size, bool write, struct cold **c, s32 *disp)
{
	*c = NULL;
	if (tr_group(t, disp))
		return true;
	*disp = 0;
	tr_spill_flags(t);
	if (!tr_ea(t))
		return false;
	*c = tr_access(t, size, write, COLD_SLOW);
	return true;
}

struct cold *tr_stack(struct tr *t, s32 at, bool write, enum cold_kind kind, s32 *disp)
{
	if (tr_group(t, disp))
		return NULL;
	*disp = 0;
	t->t1 = 0;
	tr_spill_flags(t);
	lea(t, t->word, T1, HOST_SP, NO_HOST, 0, at);
	return check(t, t->word, write, kind, tr_insn(t), RSP);
}
