/* SPDX-License-Identifier: MIT */
/* String instructions of few elements. */
#include "silicon/jit/tr.h"

/* As many elements at most: more are faster in the handler. */
#define FEW 32

static struct cold *need_up(struct tr *t)
{
	EMIT(&t->p, 0x65, 0xf7, 0x04, 0x25); /* test dword gs:[rflags], DF */
	put32(&t->p, GS_OF(c.s.rflags));
	put32(&t->p, X86_DF);
	return tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
}

/* mov [r15 + r14 * size - size], rax */
static void store_element(struct tr *t, unsigned size)
{
	unsigned shift = (unsigned)__builtin_ctz(size);

	if (size == 2)
		put8(&t->p, 0x66);
	put8(&t->p, size == 8 ? 0x4b : 0x43);
	put8(&t->p, size == 1 ? 0x88 : 0x89);
	put8(&t->p, 0x44);
	put8(&t->p, shift << 6 | 0x37);
	put8(&t->p, (u8)-size);
}

/*
 * No register changes before all is stored, so that a fault of the host on the way, which is one
 * of the page, finds them as they were.
 */
static void stos_rep(struct tr *t, unsigned size)
{
	u8 *loop, *over;

	EMIT(&t->p, 0x49, 0x89, 0xce, 0x4d, 0x85, 0xf6); /* mov r14, rcx; test r14, r14 */
	over = emit_jcc(&t->p, COND_E);
	loop = t->p;
	store_element(t, size);
	EMIT(&t->p, 0x49, 0xff, 0xce, 0x75); /* dec r14; jnz loop */
	put8(&t->p, (u8)(loop - (t->p + 1)));
	fix_rel32(over, t->p);
}

static struct cold *need_few(struct tr *t)
{
	EMIT(&t->p, 0x48, 0x83, 0xf9, FEW); /* cmp rcx, FEW */
	return tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_A), tr_insn(t));
}

/* Are all elements in the page of the first, at [r15]? */
static struct cold *need_room(struct tr *t, unsigned size)
{
	EMIT(&t->p, 0x4d, 0x8d, 0x74); /* lea r14, [r15 + rcx * size - 1]; xor r14, r15 */
	put8(&t->p, (unsigned)__builtin_ctz(size) << 6 | 0x0f);
	put8(&t->p, 0xff);
	EMIT(&t->p, 0x4d, 0x31, 0xfe, 0x49, 0xf7, 0xc6); /* test r14, ~(PAGE_SIZE - 1) */
	put32(&t->p, ~(u32)(PAGE_SIZE - 1));
	return tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
}

/* The accumulator to, or from, [r15], or [r15 + r14]. */
static void move_element(struct tr *t, unsigned size, bool store, bool indexed)
{
	if (size == 2)
		put8(&t->p, 0x66);
	put8(&t->p, (size == 8 ? 0x49 : 0x41) | (indexed ? 2 : 0));
	put8(&t->p, (store ? 0x88 : 0x8a) | (size > 1));
	put8(&t->p, indexed ? 0x04 : 0x07);
	if (indexed)
		put8(&t->p, 0x37);
}

/* lea reg, [reg + rcx * size]; without REP reg + size */
static void step(struct tr *t, unsigned reg, unsigned size, bool rep)
{
	if (!rep) {
		emit_lea(&t->p, reg, reg, (s32)size);
		return;
	}
	EMIT(&t->p, 0x48, 0x8d);
	put8(&t->p, 0x04 | reg << 3);
	put8(&t->p, (unsigned)__builtin_ctz(size) << 6 | RCX << 3 | reg);
}

bool tr_stos(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	bool rep = i->prefixes & (ISA_P_REP | ISA_P_REPNE);
	struct cold *cd, *cn = NULL, *c, *cr = NULL;
	unsigned size = i->opsize;

	if (t->word != 8 || i->addrsize != 8)
		return false;
	tr_spill_flags(t);
	cd = need_up(t);
	if (rep)
		cn = need_few(t);
	emit_mov_rr(&t->p, T1, RDI);
	t->slot = RDI;
	c = tr_access(t, size, true, COLD_SLOW);
	if (rep) {
		cr = need_room(t, size);
		stos_rep(t, size);
	} else {
		move_element(t, size, true, false);
	}
	step(t, RDI, size, rep);
	if (rep)
		EMIT(&t->p, 0x31, 0xc9); /* xor ecx, ecx */
	tr_back(t, cd);
	tr_back(t, cn);
	tr_back(t, c);
	tr_back(t, cr);
	return true;
}

/*
 * T1 = the destination, the source in the frame. As in stos_rep, but for RAX, which is in the frame
 * as well (jit_caught). One after the other from below, so that overlapping elements repeat.
 */
static void movs_rep(struct tr *t, unsigned size)
{
	u8 *loop, *over;

	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(tmp[0]));
	/* sub r14, r15; test rcx, rcx */
	EMIT(&t->p, 0x4d, 0x29, 0xfe, 0x48, 0x85, 0xc9);
	over = emit_jcc(&t->p, COND_E);
	EMIT(&t->p, 0x49, 0x8d, 0x04); /* lea rax, [r15 + rcx * size]: the end */
	put8(&t->p, (unsigned)__builtin_ctz(size) << 6 | 0x0f);
	emit_sp(&t->p, OP_MOV_RM_R, RAX, FR_OF(tmp[0]));
	loop = t->p;
	move_element(t, size, false, true);
	move_element(t, size, true, false);
	EMIT(&t->p, 0x49, 0x83, 0xc7); /* add r15, size; cmp r15, the end; jne loop */
	put8(&t->p, size);
	emit_sp(&t->p, 0x3b, T1, FR_OF(tmp[0]));
	put8(&t->p, 0x75);
	put8(&t->p, (u8)(loop - (t->p + 1)));
	fix_rel32(over, t->p);
	emit_sp(&t->p, OP_MOV_R_RM, RAX, FR_OF(tmp[1]));
}

/* r15 = [r15] */
static void load_one(struct tr *t, unsigned size)
{
	switch (size) {
	case 1: EMIT(&t->p, 0x45, 0x0f, 0xb6, 0x3f); break;
	case 2: EMIT(&t->p, 0x45, 0x0f, 0xb7, 0x3f); break;
	default: emit_t1(&t->p, size, OP_MOV_R_RM, T1, 0);
	}
}

/* The element in the frame to [r15]. */
static void movs_one(struct tr *t, unsigned size)
{
	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(tmp[0]));
	if (size == 2)
		put8(&t->p, 0x66);
	put8(&t->p, size == 8 ? 0x4d : 0x45);
	put8(&t->p, 0x88 | (size > 1));
	put8(&t->p, 0x37);
}

bool tr_movs(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	bool rep = i->prefixes & (ISA_P_REP | ISA_P_REPNE);
	struct cold *cd, *cn = NULL, *cs, *c, *crs = NULL, *cr = NULL;
	unsigned size = i->opsize;

	if (t->word != 8 || i->addrsize != 8)
		return false;
	tr_spill_flags(t);
	emit_sp(&t->p, OP_MOV_RM_R, RAX, FR_OF(tmp[1]));
	cd = need_up(t);
	if (rep)
		cn = need_few(t);
	emit_mov_rr(&t->p, T1, RSI);
	t->slot = RSI;
	if (i->seg == FS || i->seg == GS) {
		emit_gs(&t->p, OP_ADD_R_RM, T1, GS_SEGBASE(i->seg), true);
		t->slot = i->seg == FS ? JIT_NEAR_FS : JIT_NEAR_GS;
	}
	cs = tr_access(t, size, false, COLD_SLOW);
	if (rep)
		crs = need_room(t, size);
	else
		load_one(t, size);
	emit_sp(&t->p, OP_MOV_RM_R, T1, FR_OF(tmp[0]));
	emit_mov_rr(&t->p, T1, RDI);
	t->slot = RDI;
	c = tr_access(t, size, true, COLD_SLOW);
	if (rep) {
		cr = need_room(t, size);
		movs_rep(t, size);
	} else {
		movs_one(t, size);
	}
	step(t, RSI, size, rep);
	step(t, RDI, size, rep);
	if (rep)
		EMIT(&t->p, 0x31, 0xc9); /* xor ecx, ecx */
	tr_back(t, cd);
	tr_back(t, cn);
	tr_back(t, cs);
	tr_back(t, c);
	tr_back(t, crs);
	tr_back(t, cr);
	return true;
}
