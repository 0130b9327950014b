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

/* lea dst, [base + index * 2^scale + disp]; NO_HOST where there is none. */
static void lea(struct tr *t, unsigned dst, unsigned base, unsigned index, unsigned scale, s32 disp)
{
	u8 **p = &t->p;

	put8(p, 0x48 | dst >> 3 << 2 | (index != NO_HOST && index > 7 ? 2 : 0) |
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
	s64 disp = (s64)i->disp;

	if (i->base == ISA_REG_RIP) {
		disp += t->end;
		if (disp != (s32)disp || i->index != ISA_REG_NONE)
			return false;
		emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(pc_page));
		lea(t, dst, T1, NO_HOST, 0, (s32)disp);
	} else if (i->base == ISA_REG_NONE && i->index == ISA_REG_NONE) {
		emit_mov_imm64(&t->p, dst, (u64)disp);
	} else {
		if (disp != (s32)disp)
			return false;
		if (i->base != ISA_REG_NONE)
			base = tr_reg(t, i->base, T1);
		if (i->index != ISA_REG_NONE)
			index = tr_reg(t, i->index, T0);
		if (base != NO_HOST && index == NO_HOST && !disp)
			emit_mov_rr(&t->p, dst, base);
		else
			lea(t, dst, base, index, i->scale, (s32)disp);
	}
	if (i->addrsize == 4) {
		/* mov dst32, dst32 */
		put8(&t->p, 0x40 | dst >> 3 << 2 | dst >> 3);
		put8(&t->p, 0x89);
		put8(&t->p, 0xc0 | (dst & 7) << 3 | (dst & 7));
	}
	return true;
}

/* ---- The TLB
 * --------------------------------------------------------------------------------------
 */

_Static_assert(sizeof(struct isa_tlbe) == 16, "the shift below");

/* T1 = linear address of @size bytes -> T1 = host address. Returns the jump that is taken if it is
 * not in the TLB. */
static u8 *check(struct tr *t, unsigned size, bool write)
{
	u32 set = write ? offsetof(struct isa_tlb, w) : 0;
	u8 **p = &t->p;
	u8 *site;

	BUG_ON(t->fl != FL_MEM && t->fl != FL_LOST);
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
	site = emit_jcc(p, COND_A);
	EMIT(p, 0x4d, 0x03, 0xbe); /* add r15, [r14 + set + 8] */
	put32(p, set + 8);
	return site;
}

/* ---- Groups
 * ---------------------------------------------------------------------------------------
 */

#define GROUP_SPAN 512 /* larger ones would cross pages too often */

/* What a group may have: an access at a register and a constant. */
struct acc {
	unsigned base; /* guest register or ISA_REG_RIP */
	s64 disp;      /* RIP: in the page */
	unsigned size;
	bool write;
};

static bool acc_of(const struct isa_insn *i, unsigned end, struct acc *a)
{
	tr_fn *fn = tr_fn_of(i);
	unsigned attr = tr_attr_of(i), k;
	bool mem = false;

	*a = (struct acc){.base = RSP, .size = 8};
	if (fn == tr_push) {
		a->disp = -8;
		a->write = true;
		return i->opsize == 8 && (i->o[0].kind == OK_GPR || i->o[0].kind == OK_IMM);
	}
	if (fn == tr_pop)
		return i->opsize == 8 && i->o[0].kind == OK_GPR;
	if (fn == tr_ret)
		return i->opsize == 8;
	if (fn != tr_copy && fn != tr_mov && fn != tr_shift && fn != tr_bit && fn != tr_simd &&
	    fn != tr_vex)
		return false;
	for (k = 0; k < i->nops; k++)
		mem |= i->o[k].kind == OK_MEM;
	if (!mem || !i->msize || i->addrsize != 8 || i->index != ISA_REG_NONE || i->seg == FS ||
	    i->seg == GS || i->base == ISA_REG_NONE || !i->modrm_off)
		return false;
	a->base = i->base;
	a->disp = (s64)i->disp + (i->base == ISA_REG_RIP ? (s64)end : 0);
	a->size = i->msize;
	a->write = (i->o[0].kind == OK_MEM && !(attr & M_R)) || (attr & D_2);
	return true;
}

/* By how much @i changes register @base. False: not by a constant. */
static bool change(const struct isa_insn *i, unsigned base, s64 *by)
{
	*by = 0;
	if (base == ISA_REG_RIP || !(tr_writes(i) >> base & 1))
		return true;
	if (i->op == ISA_OP_PUSH && base == RSP) {
		*by = -8;
		return true;
	}
	if (i->op == ISA_OP_POP && base == RSP && i->o[0].reg != RSP) {
		*by = 8;
		return true;
	}
	if (i->o[0].kind != OK_GPR || i->o[0].reg != base || i->o[0].size != 8)
		return false;
	if ((i->op == ISA_OP_ADD || i->op == ISA_OP_SUB) && i->o[1].kind == OK_IMM) {
		*by = i->op == ISA_OP_ADD ? (s64)i->imm : -(s64)i->imm;
		return true;
	}
	if (i->op == ISA_OP_LEA && i->base == base && i->index == ISA_REG_NONE &&
	    i->addrsize == 8) {
		*by = (s64)i->disp;
		return true;
	}
	return false;
}

/* The range of accesses from this instruction on that could be a group. */
static bool plan(const struct tr *t, const struct acc *first, struct group *g)
{
	s64 lo = first->disp, hi = lo + first->size, adj = 0, by;
	bool write = first->write, branch = false;
	unsigned k, n = 0;
	struct acc a;

	for (k = t->index; k < t->npre; k++) {
		const struct isa_insn *i = &t->pre[k];
		tr_fn *fn = tr_fn_of(i);

		if (!fn || !tr_usable(t, i))
			break;
		if (acc_of(i, t->pre_off[k] + i->len, &a) && a.base == first->base) {
			s64 l = MIN(lo, a.disp + adj), h = MAX(hi, a.disp + adj + a.size);

			/* A write that may not come is not to be checked for. */
			if (h - l <= GROUP_SPAN && (!a.write || write || !branch)) {
				lo = l;
				hi = h;
				write |= a.write;
				n++;
			}
		}
		branch |= fn == tr_jcc;
		if (((i->flags & ISA_F_END) && fn != tr_jcc) || !change(i, first->base, &by))
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
		lea(t, T1, base, NO_HOST, 0, g->lo);
	else if (base != T1)
		emit_mov_rr(&t->p, T1, base);
	tr_leave_plain(t, check(t, g->span, g->write));
	emit_sp(&t->p, OP_MOV_RM_R, T1, FR_OF(host[0]) + 8 * slot);
	g->on = true;
}

bool tr_group(struct tr *t, s32 *disp)
{
	struct group *g, fresh;
	struct acc a;
	unsigned k;
	s64 at;

	/* In STI's shadow an instruction must not leave the block for a plain one. */
	if (t->plain || t->shadow || !acc_of(t->i, t->end, &a))
		return false;
	for (k = 0; k < TR_GROUPS; k++) {
		g = &t->group[k];
		at = a.disp + g->adj - g->lo;
		if (g->on && g->base == a.base && at >= 0 && at + a.size <= g->span &&
		    (g->write || !a.write)) {
			if (t->t1 != k + 1)
				emit_sp(&t->p, OP_MOV_R_RM, T1, FR_OF(host[0]) + 8 * k);
			t->t1 = k + 1;
			*disp = (s32)at;
			tr_insn(t);
			return true;
		}
	}
	if (!plan(t, &a, &fresh))
		return false;
	k = t->next_group++ % TR_GROUPS;
	g = &t->group[k];
	*g = fresh;
	begin(t, g, k);
	t->t1 = k + 1;
	*disp = (s32)(a.disp - g->lo);
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
static bool keeps_t1(const struct tr *t)
{
	const struct isa_insn *i = t->i;
	tr_fn *fn = tr_fn_of(i);
	bool mem = false;
	struct acc a;
	unsigned k;

	for (k = 0; k < i->nops; k++)
		mem |= i->o[k].kind == OK_MEM;
	if (fn == tr_push || fn == tr_pop || (mem && fn != tr_lea && fn != tr_nothing))
		return acc_of(i, t->end, &a);
	if (fn == tr_jcc || fn == tr_nothing)
		return true;
	if (fn != tr_copy && fn != tr_mov && fn != tr_shift && fn != tr_bit && fn != tr_plain &&
	    fn != tr_lea)
		return false;
	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == OK_GPR && host_of(i->o[k].reg) == NO_HOST)
			return false;
	return fn != tr_lea ||
	       (i->base != ISA_REG_RIP && (i->base == ISA_REG_NONE || host_of(i->base) != NO_HOST));
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
		if (change(t->i, g->base, &by))
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
			lea(t, T1, T1, NO_HOST, 0, disp);
			t->t1 = 0;
		}
		return true;
	}
	t->t1 = 0;
	if (!tr_ea_offset(t, T1))
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
	return tr_cold(t, kind, check(t, size, write), tr_insn(t));
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
	lea(t, T1, HOST_SP, NO_HOST, 0, at);
	return tr_cold(t, kind, check(t, 8, write), tr_insn(t));
}
