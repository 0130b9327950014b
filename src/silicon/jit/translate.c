/* SPDX-License-Identifier: MIT */
/* One block: the loop over its instructions, and the pieces that their translations share. */
#include "silicon/jit/tr.h"

#include "base/log.h"

static const struct {
	tr_fn *fn;
	u8 attr;
} rows[ISA_OP_N] = {
#define JIT(op, fn, attr) [ISA_OP_##op] = {fn, attr},
#include "silicon/jit/jit.def"
};

/* ---- Flags ------------------------------------------------------------------------------------
 */

static void decide(struct tr *t, enum fl fl)
{
	if (t->fl == FL_ANY) {
		t->fl = fl;
		t->entry = fl;
	}
}

void tr_need_flags(struct tr *t)
{
	decide(t, FL_HOST);
	if (t->fl == FL_MEM) {
		emit_flags_restore(&t->p, T0);
		t->fl = FL_BOTH;
	}
}

void tr_spill_flags(struct tr *t)
{
	decide(t, FL_MEM);
	if (t->fl == FL_HOST)
		emit_flags_save(&t->p, T0);
	t->fl = FL_MEM;
}

/* ---- Pieces -------------------------------------------------------------------------------------
 */

struct jit_insn *tr_insn(struct tr *t)
{
	static struct jit_insn dummy;

	if (t->ji)
		return t->ji;
	t->ji = jit_alloc(t->j, sizeof(*t->ji));
	if (!t->ji) {
		t->oom = true;
		return t->ji = &dummy;
	}
	t->ji->i = *t->i;
	t->ji->end = (u16)t->end;
	t->ji->index = (u16)t->index;
	t->ji->x87 = (u16)t->x87;
	t->at[t->nat].code = (u32)(t->p - t->j->rw);
	t->at[t->nat++].insn = t->ji;
	return t->ji;
}

struct cold *tr_cold(struct tr *t, enum cold_kind kind, u8 *site, void *arg)
{
	struct cold *c = &t->cold[t->ncold++];

	BUG_ON(t->ncold > ARRAY_SIZE(t->cold));
	*c = (struct cold){.kind = kind, .site = site, .arg = arg};
	return c;
}

unsigned tr_reg(struct tr *t, unsigned guest, unsigned scratch)
{
	if (host_of(guest) != NO_HOST)
		return host_of(guest);
	emit_sp(&t->p, OP_MOV_R_RM, scratch, FR_GPR(guest));
	return scratch;
}

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

bool tr_ea_offset(struct tr *t, unsigned dst);

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

bool tr_ea(struct tr *t)
{
	if (!tr_ea_offset(t, T1))
		return false;
	if (t->i->seg == FS || t->i->seg == GS)
		emit_gs(&t->p, OP_ADD_R_RM, T1, GS_SEGBASE(t->i->seg), true);
	return true;
}

_Static_assert(ISA_TLB_SIZE == 256 && sizeof(struct isa_tlbe) == 16, "the mask below");

struct cold *tr_access(struct tr *t, unsigned size, bool write, enum cold_kind kind)
{
	u32 set = write ? offsetof(struct isa_tlb, w) : 0;
	u8 **p = &t->p;
	u8 *site;

	BUG_ON(t->fl != FL_MEM);
	/* mov r14d, r15d; shr r14d, 8; and r14d, 0xff0 */
	EMIT(p, 0x45, 0x89, 0xfe, 0x41, 0xc1, 0xee, 0x08, 0x41, 0x81, 0xe6, 0xf0, 0x0f, 0, 0);
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
	return tr_cold(t, kind, site, tr_insn(t));
}

void tr_back(struct tr *t, struct cold *c)
{
	c->back = t->p;
	c->flags = t->fl == FL_HOST || t->fl == FL_BOTH;
	c->vec = t->vec;
}

void tr_count(struct tr *t, unsigned n)
{
	emit_sp(&t->p, OP_MOV_R_RM, T0, FR_OF(count));
	EMIT(&t->p, 0x4d, 0x8d, 0x76); /* lea r14, [r14 + n] */
	put8(&t->p, n);
	emit_sp(&t->p, OP_MOV_RM_R, T0, FR_OF(count));
}

/* ---- Handlers -----------------------------------------------------------------------------------
 */

static void call_handler(struct tr *t)
{
	tr_spill_flags(t);
	emit_mov_imm64(&t->p, T0, (u64)tr_insn(t));
	emit_call(&t->p, t->j->rw + t->j->stub[STUB_EXEC]);
	t->vec = 0;
	t->x87 = 0;
}

static void end_with_handler(struct tr *t)
{
	tr_spill_flags(t);
	emit_mov_imm64(&t->p, T0, (u64)tr_insn(t));
	emit_jmp(&t->p, t->j->rw + t->j->stub[STUB_END]);
	t->done = true;
}

static bool usable(const struct tr *t)
{
	const struct isa_insn *i = t->i;

	if (i->flags & (ISA_F_CPL0 | ISA_F_SYS | ISA_F_STR))
		return false;
	return isa_has(&t->cpu->c, isa_rows[i->op].feat);
}

/* Rows that run natively need none in jit.def. */
static tr_fn *fn_of(const struct isa_insn *i)
{
	isa_exec_fn *fn = isa_rows[i->op].fn;

	if (rows[i->op].fn)
		return rows[i->op].fn;
	if (fn == exec_simd || fn == exec_simd_mmx || fn == exec_simd_mov || fn == exec_vzero)
		return tr_simd;
	return fn == exec_x87 ? tr_x87 : NULL;
}

static bool branches(tr_fn *fn)
{
	return fn == tr_jcc || fn == tr_jmp || fn == tr_call || fn == tr_ret;
}

static void one(struct tr *t)
{
	const struct isa_insn *i = t->i;
	tr_fn *fn = fn_of(i);
	unsigned vec = t->vec;
	u8 *p = t->p;
	enum fl fl = t->fl, entry = t->entry;
	unsigned ncold = t->ncold;

	t->ji = NULL;
	if (branches(fn)) {
		tr_x87_flush(t);
		p = t->p;
	}
	if (fn && usable(t)) {
		if (fn(t, rows[i->op].attr))
			return;
		/* Not this form: as if nothing had been emitted. */
		t->p = p;
		t->fl = fl;
		t->vec = vec;
		t->entry = entry;
		t->ncold = ncold;
		if (t->ji)
			t->at[t->nat - 1].code = (u32)(p - t->j->rw);
	}
	/* String instructions may stop half-way; the handler's return says so. */
	if ((i->flags & ISA_F_END) && (!(i->flags & ISA_F_STR) || (i->flags & ISA_F_SYS)))
		end_with_handler(t);
	else
		call_handler(t);
}

static void cold(struct tr *t, struct cold *c)
{
	struct jit *j = t->j;
	struct jit_link *l = c->arg;
	enum jit_stub stub;

	fix_rel32(c->site, t->p);
	switch (c->kind) {
	case COLD_SLOW:
		emit_mov_imm64(&t->p, T0, (u64)c->arg);
		if (c->vec)
			stub = c->flags ? STUB_EXEC_FL_VEC : STUB_EXEC_VEC;
		else
			stub = c->flags ? STUB_EXEC_FL : STUB_EXEC;
		emit_call(&t->p, j->rw + j->stub[stub]);
		emit_jmp(&t->p, c->back);
		break;
	case COLD_VEC:
		emit_mov_imm64(&t->p, T0, (u64)c->arg);
		emit_call(&t->p, j->rw + j->stub[STUB_VEC]);
		emit_jmp(&t->p, c->back);
		break;
	case COLD_END:
		emit_mov_imm64(&t->p, T0, (u64)c->arg);
		emit_jmp(&t->p, j->rw + j->stub[STUB_END]);
		break;
	case COLD_EDGE: tr_edge_cold(t, c); break;
	case COLD_GOTO_RCX: emit_mov_rr(&t->p, RCX, T0); fallthrough;
	case COLD_GOTO:
		emit_mov_imm64(&t->p, T0, (u64)c->arg);
		emit_jmp(&t->p, j->rw + j->stub[l->mem ? STUB_GOTO_MEM : STUB_GOTO_HOST]);
		break;
	}
}

/* Both entries: the body expects the flags in one place. */
static void entries(struct tr *t)
{
	struct jit_block *b = t->b;
	u32 body = (u32)(t->body - t->j->rw), other;

	b->entry_host = b->entry_mem = body;
	if (t->entry == FL_ANY)
		return;
	other = (u32)(t->p - t->j->rw);
	if (t->entry == FL_MEM) {
		emit_flags_save(&t->p, T0);
		b->entry_host = other;
	} else {
		emit_flags_restore(&t->p, T0);
		b->entry_mem = other;
	}
	emit_jmp(&t->p, t->body);
}

struct jit_block *jit_translate(struct sil_cpu *cpu, const u8 *src, unsigned off, unsigned avail)
{
	struct jit *j = cpu->m->jit;
	struct isa_insn insn;
	struct tr *t, tr;
	unsigned at = 0, k;

	t = &tr;
	if (j->used + JIT_CODE_MAX > j->size) {
		j->full = true;
		return NULL;
	}
	t->p = j->rw + j->used;
	t->j = j;
	t->cpu = cpu;
	t->fl = t->entry = FL_ANY;
	t->start = off;
	t->vec = t->x87 = 0;
	t->index = t->ncold = t->nat = 0;
	t->done = t->oom = false;
	t->body = t->p;
	t->b = jit_alloc(j, sizeof(*t->b));
	if (!t->b)
		return NULL;
	t->b->code = j->used;
	while (!t->done && t->index < JIT_BLOCK_INSNS && at < avail) {
		if (isa_decode(src + at, MIN(avail - at, 15u), ISA_LONG64, &insn) != ISA_DECODE_OK)
			break;
		t->i = &insn;
		t->off = off + at;
		t->end = t->off + insn.len;
		one(t);
		isa_insn_release(&insn);
		at += insn.len;
		t->index++;
		if (t->oom)
			return NULL;
	}
	if (!t->index)
		return NULL;
	if (!t->done) {
		tr_x87_flush(t);
		tr_fallthrough(t);
	}
	for (k = 0; k < t->ncold; k++)
		cold(t, &t->cold[k]);
	entries(t);
	t->b->at = jit_alloc(j, t->nat * sizeof(*t->at));
	if (t->oom || !t->b->at)
		return NULL;
	memcpy(t->b->at, t->at, t->nat * sizeof(*t->at));
	t->b->njit = (u16)t->nat;
	t->b->nbytes = (u16)at;
	t->b->ninsns = (u16)t->index;
	t->b->code_end = (u32)(t->p - j->rw);
	BUG_ON(t->b->code_end - t->b->code > JIT_CODE_MAX);
	j->used = (u32)align_up(t->b->code_end, 16);
	t->b->before = j->last;
	__atomic_store_n(&j->last, t->b, __ATOMIC_RELEASE);
	return t->b;
}
