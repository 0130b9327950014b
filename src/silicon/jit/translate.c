/* SPDX-License-Identifier: MIT */
/* One block: the loop over its instructions, and the pieces that their translations share. */
#include "silicon/jit/tr.h"

#include "base/log.h"
#include "silicon/interp/interp.h"

static const struct {
	tr_fn *fn;
	u8 attr;
} rows[ISA_OP_N] = {
#define JIT(op, fn, attr) [ISA_OP_##op] = {fn, attr},
#include "silicon/jit/jit.def"
};

/* ---- What the scratch registers hold
 * ---------------------------------------------------------------
 */

void tr_held_set(struct tr *t, const u8 *from, unsigned scratch, unsigned guest)
{
	if (t->held_at != from)
		t->held[0] = t->held[1] = NO_HOST;
	t->held[scratch - T0] = (u8)guest;
	t->held_at = t->p;
}

void tr_held_but(struct tr *t, const u8 *from, unsigned host)
{
	if (t->p != from && (host == T0 || host == T1))
		t->held[host - T0] = NO_HOST;
	if (t->held_at == from)
		t->held_at = t->p;
}

bool tr_no_scratch(const struct tr *t)
{
	const struct isa_insn *i = t->i;
	tr_fn *fn = tr_fn_of(i);
	unsigned k;

	if (fn == tr_nothing)
		return true;
	if (fn != tr_copy && fn != tr_mov && fn != tr_shift && fn != tr_bit && fn != tr_plain &&
	    fn != tr_lea)
		return false;
	for (k = 0; k < i->nops; k++) {
		if (i->o[k].kind == OK_MEM && fn != tr_lea)
			return false;
		if (i->o[k].kind == OK_GPR && host_of(i->o[k].reg) == NO_HOST)
			return false;
	}
	if (fn != tr_lea)
		return true;
	return i->base != ISA_REG_RIP && (i->base == ISA_REG_NONE || host_of(i->base) != NO_HOST) &&
	       (i->index == ISA_REG_NONE || host_of(i->index) != NO_HOST);
}

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
	const u8 *from = t->p;

	decide(t, FL_HOST);
	t->looked |= t->fresh;
	if (t->fl == FL_LOST) {
		emit_rec(&t->p, t->rec);
		t->fl = FL_HOST;
	} else if (t->fl == FL_MEM) {
		if (t->rec)
			emit_rec(&t->p, t->rec);
		else
			emit_flags_restore(&t->p, T0);
		t->fl = FL_BOTH;
	}
	tr_held_but(t, from, T0);
}

void tr_spill_flags(struct tr *t)
{
	const u8 *from = t->p;

	decide(t, FL_MEM);
	t->looked |= t->fresh;
	if (t->fl == FL_HOST && !t->rec)
		emit_flags_save(&t->p, T0);
	if (t->fl == FL_HOST || t->fl == FL_LOST)
		t->fl = t->rec ? FL_LOST : FL_MEM;
	else
		t->fl = FL_MEM;
	tr_held_but(t, from, T0);
}

void tr_store_flags(struct tr *t)
{
	decide(t, FL_MEM);
	t->looked |= t->fresh;
	if (t->fl == FL_LOST)
		tr_need_flags(t);
	if (t->fl == FL_HOST) {
		const u8 *from = t->p;

		emit_flags_save(&t->p, T0);
		tr_held_but(t, from, T0);
	}
	t->fl = FL_MEM;
}

static const struct isa_insn *pre_at(const struct tr *t, unsigned off)
{
	unsigned k;

	for (k = 0; k < t->npre; k++)
		if (t->pre_off[k] == off)
			return &t->pre[k];
	return NULL;
}

/* Nothing but its registers and flags can tell that @i has been executed. */
static bool silent(const struct isa_insn *i)
{
	const unsigned loud =
		ISA_F_END | ISA_F_SYS | ISA_F_STR | ISA_F_FPU | ISA_F_MMX | ISA_F_SSE | ISA_F_AVX;
	unsigned k;

	if (!rows[i->op].fn || (i->flags & loud))
		return false;
	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == OK_MEM && i->op != ISA_OP_LEA && i->op != ISA_OP_NOP)
			return false;
	return i->op != ISA_OP_PUSH && i->op != ISA_OP_FWAIT && i->op != ISA_OP_POP &&
	       i->op != ISA_OP_LEAVE && i->op != ISA_OP_DIV && i->op != ISA_OP_IDIV;
}

/*
 * What the host's MUL or TZCNT leaves alone would be whatever the host's flags last were. That the
 * manual allows; a run that repeats exactly, on either engine, wants the guest's own.
 */
static unsigned attr_of(const struct tr *t, const struct isa_insn *i)
{
	unsigned attr = rows[i->op].attr;

	if ((i->op == ISA_OP_MUL || i->op == ISA_OP_IMUL || i->op == ISA_OP_TZCNT ||
	     i->op == ISA_OP_LZCNT) &&
	    t->cpu->m->cfg.exact_stops)
		attr |= F_R;
	/* A count that is not zero */
	if (rows[i->op].fn == tr_shift && i->o[1].kind == OK_IMM &&
	    (i->imm & (i->o[0].size == 8 ? 63 : 31)))
		attr &= ~(unsigned)F_R;
	return attr;
}

/* Are the flags overwritten before anything, a fault included, can see them from @i on? */
static bool flags_dead(const struct tr *t, const struct isa_insn *i)
{
	for (; i < t->pre + t->npre && silent(i); i++) {
		unsigned attr = attr_of(t, i) & F_RW;

		if (attr == F_W)
			return true;
		if (attr & F_R)
			return false;
	}
	return false;
}

bool tr_flags_dead(const struct tr *t)
{
	return flags_dead(t, t->i + 1);
}

bool tr_reads_flags_at(const struct tr *t, unsigned target)
{
	const struct isa_insn *i = pre_at(t, target);

	for (; i && i < t->pre + t->npre; i++) {
		unsigned attr = attr_of(t, i) & F_RW;

		if ((attr & F_R) && silent(i))
			return true;
		if (rows[i->op].fn == tr_jcc)
			return true;
		if (attr || !silent(i))
			return false;
	}
	return false;
}

unsigned tr_attr_of(const struct isa_insn *i)
{
	return rows[i->op].attr;
}

static unsigned writes(const struct isa_insn *i)
{
	tr_fn *fn = tr_fn_of(i);
	unsigned k, m = 0, all = 0;

	if (!fn)
		return 0xffff;
	for (k = 0; k < i->nops; k++)
		if (i->o[k].kind == OK_GPR || i->o[k].kind == OK_GPRH)
			all |= 1u << i->o[k].reg;
	if (i->nops && (i->o[0].kind == OK_GPR || i->o[0].kind == OK_GPRH))
		m = 1u << i->o[0].reg;
	switch (i->op) {
	case ISA_OP_CMP:
	case ISA_OP_TEST:
	case ISA_OP_BT: return 0;
	case ISA_OP_PUSH:
	case ISA_OP_PUSHFQ: return 1u << RSP;
	case ISA_OP_CLI:
	case ISA_OP_STI:
	case ISA_OP_STAC:
	case ISA_OP_CLAC:
	case ISA_OP_CLD:
	case ISA_OP_PAUSE:
	case ISA_OP_WRFSBASE:
	case ISA_OP_WRGSBASE:
	case ISA_OP_VMWRITE:
	case ISA_OP_SWAPGS: return 0;
	case ISA_OP_RDFSBASE:
	case ISA_OP_RDGSBASE:
	case ISA_OP_VMREAD: return m;
	case ISA_OP_POPFQ: return 1u << RSP;
	case ISA_OP_MOV_SEGRD: return m;
	case ISA_OP_POP: return m | 1u << RSP;
	case ISA_OP_LEAVE: return 1u << RSP | 1u << RBP;
	case ISA_OP_MUL:
	case ISA_OP_IMUL:
	case ISA_OP_DIV:
	case ISA_OP_IDIV: return all | 1u << RAX | 1u << RDX;
	case ISA_OP_XCHG:
	case ISA_OP_XADD: return all;
	default: break;
	}
	if (fn == tr_jcc || fn == tr_nothing)
		return 0;
	if (fn == tr_simd || fn == tr_x87 || fn == tr_x87_control)
		return all;
	if ((fn == tr_copy || fn == tr_mov || fn == tr_shift || fn == tr_bit || fn == tr_lea) &&
	    i->op != ISA_OP_CMPXCHG && i->op != ISA_OP_CMPXCHG8B)
		return m;
	return all | 1u << RAX | 1u << RDX | 1u << RCX;
}

unsigned tr_writes_at(struct tr *t, unsigned k)
{
	if (t->writes[k] == ~0u)
		t->writes[k] = writes(&t->pre[k]);
	return t->writes[k];
}

/* A register that the recipe needs is about to change: the flags must be somewhere else. */
static void kill(struct tr *t, const struct isa_insn *i, unsigned mask, unsigned attr)
{
	if (!t->rec || !(mask & rec_regs(t->rec)) || (attr & F_RW))
		return;
	if (t->fl == FL_LOST) {
		const struct isa_insn *next = pre_at(t, t->end);

		/* Flags of no interest: any will do. */
		if (next && silent(i) && flags_dead(t, next)) {
			struct rec r = {.kind = REC_ZERO, .size = 8};

			memcpy(&t->rec, &r, 8);
			return;
		}
		tr_need_flags(t);
	}
	t->rec = 0;
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
	t->ji->shadow = t->shadow;
	t->ji->vec = 0;
	t->ji->rec = t->fl == FL_LOST || t->fl == FL_HOST ? t->rec : 0;
	t->ji->host_fl = t->fl == FL_HOST && !t->rec;
	t->at[t->nat].code = (u32)(t->p - t->j->rw);
	t->at[t->nat++].insn = t->ji;
	return t->ji;
}

struct cold *tr_cold(struct tr *t, enum cold_kind kind, u8 *site, void *arg)
{
	struct cold *c = &t->cold[t->ncold++];

	BUG_ON(t->ncold > ARRAY_SIZE(t->cold));
	*c = (struct cold){.kind = kind, .site = site, .arg = arg, .held = {NO_HOST, NO_HOST}};
	return c;
}

unsigned tr_reg(struct tr *t, unsigned guest, unsigned scratch)
{
	const u8 *from = t->p;

	if (host_of(guest) != NO_HOST)
		return host_of(guest);
	if (t->held_at == from && t->held[scratch - T0] == guest)
		return scratch;
	if (t->held_at == from && t->held[T0 + T1 - scratch - T0] == guest)
		emit_mov_rr(&t->p, scratch, T0 + T1 - scratch);
	else
		emit_sp(&t->p, OP_MOV_R_RM, scratch, FR_GPR(guest));
	tr_held_set(t, from, scratch, guest);
	return scratch;
}

void tr_back(struct tr *t, struct cold *c)
{
	if (!c)
		return;
	c->back = t->p;
	c->flags = t->fl == FL_HOST || t->fl == FL_BOTH;
	c->vec = t->vec;
	if (t->held_at == t->p)
		memcpy(c->held, t->held, sizeof(c->held));
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
	t->ji->rec = t->fl == FL_LOST ? t->rec : 0;
	emit_call(&t->p, t->j->rw + t->j->stub[STUB_EXEC]);
	t->vec = 0;
	t->x87 = 0;
	t->fl = FL_MEM;
	t->rec = 0;
	t->fresh = false;
}

static void end_with_handler(struct tr *t)
{
	tr_spill_flags(t);
	emit_mov_imm64(&t->p, T0, (u64)tr_insn(t));
	t->ji->rec = t->fl == FL_LOST ? t->rec : 0;
	emit_jmp(&t->p, t->j->rw + t->j->stub[STUB_END]);
	t->done = true;
}

bool tr_usable(const struct tr *t, const struct isa_insn *i)
{
	if ((i->flags & (ISA_F_CPL0 | ISA_F_SYS | ISA_F_STR)) &&
	    !(rows[i->op].attr & (SYS_OK | SYS_END)))
		return false;
	return isa_has(&t->cpu->c, isa_rows[i->op].feat);
}

/* Rows that run natively need none in jit.def. */
tr_fn *tr_fn_of(const struct isa_insn *i)
{
	isa_exec_fn *fn = isa_rows[i->op].fn;

	if (rows[i->op].fn)
		return rows[i->op].fn;
	if (fn == exec_simd || fn == exec_simd_mmx || fn == exec_simd_mov || fn == exec_vzero)
		return tr_simd;
	return fn == exec_x87 ? tr_x87 : NULL;
}

bool tr_branches(tr_fn *fn)
{
	return fn == tr_jcc || fn == tr_jmp || fn == tr_call || fn == tr_ret;
}

static void one(struct tr *t)
{
	const struct isa_insn *i = t->i;
	tr_fn *fn = tr_fn_of(i);
	unsigned vec = t->vec, attr = attr_of(t, i), mask;
	u8 *p = t->p;
	enum fl fl = t->fl, entry = t->entry;
	unsigned ncold = t->ncold;
	u64 rec = t->rec;
	bool fresh = t->fresh, holds = t->held_at == t->p;

	t->ji = NULL;
	if (tr_branches(fn)) {
		tr_x87_flush(t);
		p = t->p;
	}
	if (fn && tr_usable(t, i)) {
		mask = tr_writes_at(t, t->index);
		kill(t, i, mask, attr);
		if (fn(t, attr)) {
			if ((attr & F_RW) == F_R && (mask & rec_regs(t->rec)))
				t->rec = 0;
			BUG_ON(t->fl == FL_LOST && !t->rec);
			if (holds && tr_no_scratch(t))
				t->held_at = t->p;
			tr_groups_after(t);
			return;
		}
		/* Not this form: as if nothing had been emitted. */
		t->p = p;
		t->held_at = NULL;
		t->fl = fl;
		t->rec = rec;
		t->fresh = fresh;
		t->grouped = false;
		t->vec = vec;
		t->entry = entry;
		t->ncold = ncold;
		if (t->ji)
			t->at[t->nat - 1].code = (u32)(p - t->j->rw);
	}
	tr_groups_end(t);
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
	unsigned k;

	fix_rel32(c->site, t->p);
	if (c->hit) {
		emit_call(&t->p, j->rw + (c->slot == JIT_NEAR_NONE
						  ? j->stub[c->write ? STUB_TLB_W : STUB_TLB_R]
						  : j->near_stub[c->write][c->slot]));
		EMIT(&t->p, 0x49, 0x81, 0xfe); /* cmp r14, PAGE_SIZE - size */
		put32(&t->p, PAGE_SIZE - c->size);
		fix_rel32(emit_jcc(&t->p, COND_BE), c->hit);
	}
	switch (c->kind) {
	case COLD_SLOW:
		emit_mov_imm64(&t->p, T0, (u64)c->arg);
		if (c->vec)
			stub = c->flags ? STUB_EXEC_FL_VEC : STUB_EXEC_VEC;
		else
			stub = c->flags ? STUB_EXEC_FL : STUB_EXEC;
		emit_call(&t->p, j->rw + j->stub[stub]);
		for (k = 0; k < 2; k++)
			if (c->held[k] != NO_HOST)
				emit_sp(&t->p, OP_MOV_R_RM, T0 + k, FR_GPR(c->held[k]));
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
	case COLD_FAR:
		if (c->flags)
			emit_flags_save(&t->p, T0);
		tr_far_jump(t, l, c->shadow);
		break;
	case COLD_GOTO_RCX: emit_mov_rr(&t->p, RCX, T0); fallthrough;
	case COLD_GOTO:
		emit_mov_imm64(&t->p, T0, (u64)c->arg);
		emit_jmp(&t->p,
			 j->rw + j->stub[l->fl == JIT_FL_HOST ? STUB_GOTO_HOST : STUB_GOTO_MEM]);
		break;
	}
}

/* Both entries: the body expects the flags in one place. */
static void entries(struct tr *t)
{
	struct jit_block *b = t->b;
	u32 body = (u32)(t->body - t->j->rw), other;

	b->body = b->entry_host = b->entry_mem = body;
	if (t->entry == FL_ANY || t->entry == FL_LOST)
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

/* Decodes what is likely to be the block: up to a jump that is always taken. */
static void predecode(struct tr *t, const u8 *src, unsigned off, unsigned avail)
{
	unsigned at = 0;

	for (t->npre = 0; t->npre < JIT_BLOCK_INSNS && at < avail; t->npre++) {
		struct isa_insn *i = &t->pre[t->npre];

		t->pre_off[t->npre] = (u16)(off + at);
		t->acc[t->npre].known = false;
		t->writes[t->npre] = ~0u;
		if (isa_decode_form(t->cpu->interp->forms, src + off + at, MIN(avail - at, 15u),
				    t->word == 8 ? ISA_LONG64 : ISA_PROT32, i) != ISA_DECODE_OK)
			break;
		at += i->len;
		if ((i->flags & ISA_F_END) && rows[i->op].fn != tr_jcc &&
		    !(rows[i->op].attr & SYS_OK)) {
			t->npre++;
			break;
		}
	}
	t->pre_off[t->npre] = (u16)(off + at);
}

static void find_loops(struct tr *t)
{
	unsigned k, m;

	memset(t->in_loop, 0, sizeof(t->in_loop));
	for (k = 0; k < t->npre; k++) {
		const struct isa_insn *i = &t->pre[k];
		tr_fn *fn = rows[i->op].fn;
		s64 target = (s64)t->pre_off[k] + i->len + (s64)i->imm;

		if ((fn != tr_jcc && fn != tr_jmp) || i->o[0].kind != OK_IMM || target < 0)
			continue;
		for (m = k + 1; m-- && (s64)t->pre_off[m] >= target;)
			t->in_loop[m] = true;
	}
}

struct jit_block *jit_translate(struct sil_cpu *cpu, const u8 *src, unsigned off, unsigned avail,
				u64 rec, bool plain, const struct jit_cross *x)
{
	struct jit *j = cpu->m->jit;
	struct tr *t, tr;
	unsigned at = 0, k;
	size_t arena_used = j->arena_used;

	t = &tr;
	if (j->used + JIT_CODE_MAX > j->size) {
		j->full = true;
		return NULL;
	}
	t->p = j->rw + j->used;
	t->j = j;
	t->cpu = cpu;
	t->fl = t->entry = rec ? FL_LOST : FL_ANY;
	t->rec = rec;
	t->fresh = rec != 0;
	t->looked = false;
	t->plain = plain || x;
	t->grouped = t->shifted = false;
	t->held_at = NULL;
	t->next_group = 0;
	t->t1 = 0;
	memset(t->group, 0, sizeof(t->group));
	t->word = cpu->j.mode == JIT_MODE_64 ? 8 : 4;
	t->start = off;
	t->vec = t->x87 = t->shadow = 0;
	t->index = t->ncold = t->nat = 0;
	t->done = t->oom = false;
	t->body = t->p;
	j->arena_used = align_up(j->arena_used, 64);
	t->b = jit_alloc(j, sizeof(*t->b));
	if (!t->b)
		return NULL;
	memset(t->b, 0, sizeof(*t->b));
	t->b->code = j->used;
	predecode(t, src, off, avail);
	find_loops(t);
	t->user = cpu->c.cpl == 3;
	if (x && t->npre)
		tr_cross(t, x);
	for (k = 0; k < t->npre && !t->done && !t->oom; k++) {
		t->i = &t->pre[k];
		t->off = t->pre_off[k];
		t->end = t->off + t->i->len;
		one(t);
		tr_shadow_end(t);
		at += t->i->len;
		t->index++;
	}
	/* What handlers need of native.c they get again (struct jit_insn has a copy). */
	for (k = 0; k < t->npre; k++)
		isa_insn_release(&t->pre[k]);
	if (!t->index) { /* nothing refers to it */
		j->arena_used = arena_used;
		return NULL;
	}
	if (t->oom)
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
	t->b->rec = t->looked ? rec : 0;
	t->b->plain = plain;
	t->b->mode = (u8)(cpu->j.mode | (x ? JIT_CROSS : 0));
	t->b->hva2 = x ? x->host2 : 0;
	t->b->blind = rec ? !t->looked : t->entry == FL_ANY;
	t->b->njit = (u16)t->nat;
	t->b->nbytes = (u16)(x ? x->first : at);
	t->b->ninsns = (u16)t->index;
	t->b->code_end = (u32)(t->p - j->rw);
	BUG_ON(t->b->code_end - t->b->code > JIT_CODE_MAX);
	j->used = (u32)align_up(t->b->code_end, 16);
	t->b->before = j->last;
	__atomic_store_n(&j->last, t->b, __ATOMIC_RELEASE);
	return t->b;
}
