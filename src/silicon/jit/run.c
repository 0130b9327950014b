/* SPDX-License-Identifier: MIT */
/* Running translated code, and what it calls. */
#include "silicon/jit/jit.h"

#include "base/log.h"
#include "isa/insn_table.h"
#include "silicon/cpu/engine.h"
#include "silicon/interp/interp.h"
#include "silicon/jit/door.h"
#include "silicon/paging/tlb.h"

#ifdef __x86_64__
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <ucontext.h>

#include "silicon/jit/emit.h"

void jit_cpu_enter(struct sil_cpu *cpu)
{
	__asm__ volatile("rdgsbase %0" : "=r"(cpu->j.host_gs));
	__asm__ volatile("wrgsbase %0" : : "r"((u64)cpu) : "memory");
}

void jit_cpu_leave(struct sil_cpu *cpu)
{
	jit_idle(cpu);
	__asm__ volatile("wrgsbase %0" : : "r"(cpu->j.host_gs) : "memory");
}

/* ---- Status flags ------------------------------------------------------------------------------
 */

/* What cc_res and cc_aux are for each value of cpu->j.fl. */
static struct {
	u64 res;
	u32 aux;
} cc_of[512];
static pthread_once_t cc_once = PTHREAD_ONCE_INIT;

static void cc_init(void)
{
	struct isa_cpu c;
	unsigned k;

	memset(&c, 0, sizeof(c));
	for (k = 0; k < ARRAY_SIZE(cc_of); k++) {
		isa_set_status(&c, (k & 0xd5) | (k & 256 ? X86_OF : 0));
		cc_of[k].res = c.cc_res;
		cc_of[k].aux = c.cc_aux;
	}
}

static inline void flags_in(struct sil_cpu *cpu)
{
	unsigned k = cpu->j.fl >> 8 | (cpu->j.fl & 1) << 8;

	cpu->c.cc_res = cc_of[k].res;
	cpu->c.cc_aux = cc_of[k].aux;
}

static inline void flags_in_or(struct sil_cpu *cpu, u64 rec)
{
	if (rec)
		jit_rec_flags(&cpu->c, rec);
	else
		flags_in(cpu);
}

static inline void flags_out(struct sil_cpu *cpu)
{
	const struct isa_cpu *c = &cpu->c;

	cpu->j.fl = (u16)((isa_cf(c) | 2 | isa_pf(c) << 2 | isa_af(c) << 4 | isa_zf(c) << 6 |
			   isa_sf(c) << 7)
				  << 8 |
			  isa_of(c));
}

/* ---- Where to go on
 * ------------------------------------------------------------------------------
 */

/* A generation for the bank in use, under which jump-cache entries are made from now on. */
static __noinline void new_generation(struct sil_cpu *cpu)
{
	struct tlb_bank *b = cpu->tlb->cur;
	unsigned k;

	if (!b->xgen) {
		if (cpu->j.last_gen == JIT_GEN_MAX) {
			for (k = 0; k < JIT_JC_SIZE; k++)
				cpu->j.jc[k].tag = JIT_JC_EMPTY;
			for (k = 0; k < TLB_NBANKS; k++)
				cpu->tlb->bank[k].xgen = 0;
			cpu->j.last_gen = 0;
		}
		b->xgen = ++cpu->j.last_gen;
		cpu->n.jit_generations++;
		memset(b->xpages, 0, sizeof(b->xpages));
		b->xlocal = false;
	}
	cpu->j.xgen = (u64)b->xgen << JIT_GEN_SHIFT;
}

static __noinline void fetch_page(struct sil_cpu *cpu, u64 la)
{
	if (unlikely(!is_canonical(la, cpu->c.va_bits)))
		isa_raise_err(&cpu->c, X86_GP, 0);
	tlb_fetch(cpu, la);
}

/* Host code for RIP, or the exit. May throw. */
static const void *next(struct sil_cpu *cpu)
{
	struct isa_cpu *c = &cpu->c;
	struct jit *j = cpu->m->jit;
	struct jit_block *b;
	struct jit_jc *e;
	u64 la = c->s.rip, tag;
	bool exact;

	if (unlikely(__atomic_load_n(&c->request, __ATOMIC_RELAXED)) || c->mode != ISA_LONG64 ||
	    __atomic_load_n(&j->stop, __ATOMIC_RELAXED))
		return jit_code(j, j->stub[STUB_EXIT]);
	if (unlikely(!cpu->j.xgen))
		new_generation(cpu);
	tag = la ^ cpu->j.xgen;
	e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
	if (likely(e->tag == tag))
		goto out;
	exact = cpu->m->cfg.exact_stops;
	if (unlikely(la + cpu->fetch_neg_page >= PAGE_SIZE))
		fetch_page(cpu, la);
	b = jit_get(cpu, la + cpu->fetch_addend);
	if (unlikely(!b)) {
		/* Without room, the loop makes some. */
		cpu->j.step = !j->full;
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	if (unlikely(exact)) {
		/* Every block comes through here. */
		if (engine_must_step(cpu, b->ninsns)) {
			cpu->j.step = true;
			return jit_code(j, j->stub[STUB_EXIT]);
		}
		cpu->j.pc_page = la & PAGE_MASK;
		flags_out(cpu);
		return jit_code(j, b->entry_mem);
	}
	if (unlikely(!cpu->j.xgen))
		new_generation(cpu);
	tlb_xpage_add(cpu->tlb->cur, la);
	cpu->tlb->cur->xlocal |= !cpu->fetch_global;
	tag = la ^ cpu->j.xgen;
	e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
	e->tag = tag;
	cpu->n.jit_jumps++;
	e->code = jit_code(j, b->entry_mem);
out:
	cpu->j.pc_page = la & PAGE_MASK;
	flags_out(cpu);
	return e->code;
}

/* ---- Called by the stubs
 * -------------------------------------------------------------------------
 */

static __noinline void ended_early(struct sil_cpu *cpu)
{
	if (cpu->rmw_size)
		engine_rmw_done(cpu);
	cpu->c.s.pending_dbg |= cpu->bp_hit;
	cpu->bp_hit = 0;
	cpu_update_step(cpu);
}

static inline void x87_pointer(struct sil_cpu *cpu, const struct jit_insn *ji)
{
	if (unlikely(ji->x87))
		cpu->c.r.x87.fip = cpu->j.pc_page + ji->x87 - 1;
}

/* Behind an STI that has set IF. */
static __noinline void exec_shadowed(struct sil_cpu *cpu, struct jit_insn *ji)
{
	struct isa_cpu *c = &cpu->c;

	cpu->j.shadow = 0;
	c->s.interruptibility |= ISA_BLOCK_STI;
	ji->i.exec(c, &ji->i);
	c->s.interruptibility &= ~(u32)ISA_BLOCK_STI;
	if (cpu->attention)
		cpu_request(cpu, SIL_REQ_EVENT);
}

/* The handler, as the interpreter would run it. */
static __always_inline_ void exec(struct sil_cpu *cpu, struct jit_insn *ji)
{
	struct isa_cpu *c = &cpu->c;

	flags_in_or(cpu, ji->rec);
	c->s.rip = cpu->j.pc_page + ji->end;
	cpu->n.instructions += ji->index;
	x87_pointer(cpu, ji);
	cpu->block_first = &ji->i;
	cpu->block_end = &ji->i + 1;
	c->insn = &ji->i;
	if (unlikely(ji->shadow && cpu->j.shadow)) {
		exec_shadowed(cpu, ji);
	} else {
		ji->i.exec(c, &ji->i);
	}
	c->insn = NULL;
}

const void *jit_exec(struct sil_cpu *cpu, struct jit_insn *ji)
{
	u64 end = cpu->j.pc_page + ji->end;

	cpu->n.jit_slow++;
	cpu->j.calls[ji->i.op]++;
	exec(cpu, ji);
	if (likely(cpu->block_end && cpu->c.s.rip == end)) {
		cpu->n.instructions -= ji->index;
		flags_out(cpu);
		return NULL;
	}
	/* A string instruction that stopped half-way has not retired. */
	if (!(ji->i.flags & ISA_F_STR) || cpu->c.s.rip != end - ji->i.len)
		cpu->n.instructions++;
	if (!cpu->block_end)
		ended_early(cpu);
	return next(cpu);
}

const void *jit_end(struct sil_cpu *cpu, struct jit_insn *ji)
{
	u64 end = cpu->j.pc_page + ji->end;

	cpu->n.jit_ends++;
	cpu->j.calls[ji->i.op]++;
	exec(cpu, ji);
	if (!(ji->i.flags & ISA_F_STR) || cpu->c.s.rip != end - ji->i.len)
		cpu->n.instructions++;
	if (unlikely(!cpu->block_end))
		ended_early(cpu);
	if (ji->i.flags & ISA_F_SYS)
		cpu_update_step(cpu);
	return next(cpu);
}

/* ---- Host memory that was not there
 * --------------------------------------------------------------
 */

/* @fp: FXSAVE image, or NULL for the initial state. The kernel has emptied the x87 stack. */
static void fault_x87(struct sil_cpu *cpu, const u8 *fp)
{
	struct isa_x87 *x = &cpu->c.r.x87;

	if (fp) {
		memcpy(x, fp, offsetof(struct isa_x87, rsvd));
		memcpy(x->st, fp + offsetof(struct isa_x87, st), sizeof(x->st));
	} else {
		x->fcw = 0x37f;
		x->fsw = 0;
		x->ftw = 0;
		memset(x->st, 0, sizeof(x->st));
	}
	__asm__ volatile("fninit; fldcw %0" : : "m"(cpu->j.host_fcw));
}

/* As the handler of the instruction would leave the state: nothing of it has been done. */
static void fault_regs(struct sil_cpu *cpu, const ucontext_t *uc)
{
	static const u8 greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				       REG_R12, REG_R13, REG_R14, REG_R15};
	const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
	u64 have = 3;
	u32 magic;
	unsigned g;

	for (g = 0; g < 16; g++)
		if (host_of(g) != NO_HOST)
			cpu->c.r.gpr[g] = (u64)uc->uc_mcontext.gregs[greg_of[host_of(g)]];
	memcpy(cpu->c.r.gpr + R13, cpu->j.frame->spill, sizeof(cpu->j.frame->spill));
	cpu->j.pc_page = cpu->j.frame->pc_page;
	cpu->n.instructions += cpu->j.frame->count;
	if (!cpu->j.vec)
		return;
	/* struct _fpx_sw_bytes says whether an XSAVE image follows (SDM vol. 1, 13.4). */
	memcpy(&magic, fp + 464, 4);
	if (magic == 0x46505853)
		memcpy(&have, fp + 512, 8);
	if (cpu->j.vec & VEC_X87)
		fault_x87(cpu, have & 1 ? fp : NULL);
	if (!(cpu->j.vec & ~VEC_X87)) {
		cpu->j.vec = 0;
		return;
	}
	for (g = 0; g < 16; g++) {
		memset(cpu->c.r.vec[g].b, 0, 32);
		if (have & 2)
			memcpy(cpu->c.r.vec[g].b, fp + 160 + 16 * g, 16);
		if (have & 4)
			memcpy(cpu->c.r.vec[g].b + 16, fp + ISA_XSAVE_AVX_OFFSET + 16 * g, 16);
	}
	if (cpu->j.vec & (VEC_SSE_FP | VEC_AVX_FP)) {
		memcpy(&cpu->c.r.x87.mxcsr, fp + 24, 4);
		__builtin_ia32_ldmxcsr(cpu->j.host_mxcsr);
	}
	cpu->j.vec = 0;
}

void jit_caught(struct guard *guard, void *ucontext)
{
	struct sil_cpu *cpu = container_of(guard, struct sil_cpu, guard);
	const ucontext_t *uc = ucontext;
	struct jit *j = cpu->m->jit;
	u64 at = (u64)uc->uc_mcontext.gregs[REG_RIP] - (u64)j->rx;
	const struct jit_block *b;
	u64 eflags = (u64)uc->uc_mcontext.gregs[REG_EFL];
	struct jit_insn *ji = NULL;
	unsigned k;

	if (at >= j->size)
		return;
	fault_regs(cpu, uc);
	for (b = __atomic_load_n(&j->last, __ATOMIC_ACQUIRE); b; b = b->before)
		if (at >= b->code && at < b->code_end)
			break;
	for (k = 0; b && k < b->njit && b->at[k].code <= at; k++)
		ji = b->at[k].insn;
	if (!ji)
		return;
	/* LAHF's bits are EFLAGS'; OF is bit 11. */
	if (ji->host_fl)
		cpu->j.fl = (u16)((eflags & 0xd7) << 8 | (eflags >> 11 & 1));
	flags_in_or(cpu, ji->rec);
	x87_pointer(cpu, ji);
	if (ji->shadow && cpu->j.shadow) {
		cpu->j.shadow = 0;
		cpu->c.s.interruptibility |= ISA_BLOCK_STI;
	}
	cpu->c.s.rip = cpu->j.pc_page + ji->end;
	cpu->c.insn = &ji->i;
	cpu->block_first = &ji->i;
	cpu->n.instructions += ji->index;
}

/* Registers are asked for: SDM vol. 3A, 2.5 (CR0.EM, TS), vol. 1, 13.4. Those the guest has already
 * it keeps. */
static unsigned vec_rights(const struct isa_cpu *c)
{
	bool sse = !(c->s.cr0 & (CR0_EM | CR0_TS)) && (c->s.cr4 & CR4_OSFXSR);
	bool avx = !(c->s.cr0 & CR0_TS) && (c->s.cr4 & CR4_OSXSAVE) && (c->r.xcr0 & 6) == 6;
	bool fp = (c->r.x87.mxcsr & 0x1f80) == 0x1f80;
	bool x87 = !(c->s.cr0 & (CR0_EM | CR0_TS)) && (c->r.x87.fcw & 0x3f) == 0x3f &&
		   !(c->r.x87.fsw & 0x80);

	return (x87 ? VEC_X87 : 0) | (sse ? VEC_SSE : 0) | (avx ? VEC_AVX : 0) |
	       (sse && fp ? VEC_SSE_FP : 0) | (avx && fp ? VEC_AVX_FP : 0);
}

const void *jit_vec(struct sil_cpu *cpu, struct jit_insn *ji)
{
	unsigned rights = vec_rights(&cpu->c), kind = ji->vec;

	if (unlikely((rights & kind) != kind))
		return jit_end(cpu, ji);
	cpu->n.jit_vec++;
	if (kind & VEC_X87)
		cpu->j.vec_was |= VEC_X87;
	if (kind & ~VEC_X87)
		cpu->j.vec_was = (u8)((cpu->j.vec_was & VEC_X87) | (rights & ~VEC_X87));
	return NULL;
}

const void *jit_goto(struct sil_cpu *cpu, struct jit_link *l)
{
	flags_in_or(cpu, l->rec);
	cpu->n.instructions += l->count;
	cpu->c.s.rip = cpu->j.pc_page + l->target;
	return next(cpu);
}

/* Other cpus may be running the jump: its displacement is aligned, so they see it old or new. */
static void link(struct jit *j, struct jit_link *l, u32 to)
{
	__atomic_store_n((u32 *)(j->rw + l->site), to - (l->site + 4), __ATOMIC_RELEASE);
}

/* Patches the jump if both ends are of the same page of memory still. */
static bool link_to(struct jit *j, struct jit_link *l, const struct jit_block *b, u32 entry)
{
	hva_t from;
	bool ok;

	pthread_mutex_lock(&j->lock);
	from = l->from->hva;
	ok = from && entry && b->hva && !((from ^ b->hva) & PAGE_MASK);
	if (ok)
		link(j, l, entry);
	pthread_mutex_unlock(&j->lock);
	return ok;
}

/* The plain block at RIP; flags are in memory, next() has put them there. */
static const void *link_plain(struct sil_cpu *cpu, struct jit_link *l)
{
	struct jit *j = cpu->m->jit;
	u64 la = cpu->c.s.rip;
	struct jit_block *b;

	/* The jump cache may have answered next(), and the page to fetch from be another. */
	if (unlikely(la + cpu->fetch_neg_page >= PAGE_SIZE))
		fetch_page(cpu, la);
	b = jit_get_plain(cpu, la + cpu->fetch_addend);
	if (!b) {
		cpu->j.step = !j->full;
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	if (unlikely(cpu->m->cfg.exact_stops)) {
		if (!engine_must_step(cpu, b->ninsns))
			return jit_code(j, b->entry_mem);
		cpu->j.step = true;
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	link_to(j, l, b, l->rec ? jit_convert(cpu, l->rec, b) : b->entry_mem);
	return jit_code(j, b->entry_mem);
}

/* With a recipe most jumps go to a version, and nobody may ever need the block for other flags.
 * NULL: as without. */
static const void *link_rec(struct sil_cpu *cpu, struct jit_link *l, hva_t host)
{
	struct jit *j = cpu->m->jit;
	struct jit_block *b = jit_get_rec(cpu, host, l->rec);

	/* Making it may have served requests. */
	if (!b || !link_to(j, l, b, b->body) || !cpu->j.xgen ||
	    __atomic_load_n(&cpu->c.request, __ATOMIC_RELAXED))
		return NULL;
	return jit_code(j, b->body);
}

const void *jit_link(struct sil_cpu *cpu, struct jit_link *l)
{
	hva_t from = __atomic_load_n(&l->from->hva, __ATOMIC_RELAXED);
	hva_t host = (from & PAGE_MASK) + l->target;
	struct jit *j = cpu->m->jit;
	struct jit_block *b;
	const void *to;
	u32 entry;

	if (l->fl == JIT_FL_REC && !l->plain && from && !cpu->m->cfg.exact_stops) {
		flags_in_or(cpu, l->rec);
		cpu->n.instructions += l->count;
		cpu->c.s.rip = cpu->j.pc_page + l->target;
		to = link_rec(cpu, l, host);
		if (to)
			return to;
		cpu->n.instructions -= l->count;
	}
	to = jit_goto(cpu, l);
	if (to == jit_code(j, j->stub[STUB_EXIT]))
		return to;
	if (l->plain)
		return link_plain(cpu, l);
	if (!from || cpu->m->cfg.exact_stops)
		return to;
	b = jit_get(cpu, host);
	if (b) {
		entry = l->fl == JIT_FL_HOST  ? b->entry_host
			: l->fl == JIT_FL_MEM ? b->entry_mem
					      : jit_convert(cpu, l->rec, b);
		link_to(j, l, b, entry);
	}
	return to;
}

void jit_loop(struct sil_cpu *cpu)
{
	typedef void enter_fn(const void *code);
	struct isa_cpu *c = &cpu->c;
	struct jit *j = cpu->m->jit;
	enter_fn *enter = (enter_fn *)jit_code(j, j->stub[STUB_ENTER]);
	const void *exit = jit_code(j, j->stub[STUB_EXIT]), *code;

	pthread_once(&cc_once, cc_init);
	cpu->j.step = false;
	cpu->j.shadow = 0;
	cpu_update_step(cpu);
	for (;;) {
		jit_idle(cpu);
		if (unlikely(__atomic_load_n(&c->request, __ATOMIC_RELAXED))) {
			engine_boundary(cpu);
			if (cpu_requested(cpu, SIL_REQ_STEP)) {
				interp_step(cpu);
				continue;
			}
		}
		if (unlikely(j->full)) {
			jit_flush(cpu);
			continue;
		}
		if (unlikely(c->mode != ISA_LONG64)) {
			interp_until_long(cpu);
			continue;
		}
		if (unlikely(cpu->j.step)) {
			cpu->j.step = false;
			interp_step(cpu);
			continue;
		}
		__atomic_store_n(&cpu->j.busy, true, __ATOMIC_SEQ_CST);
		if (unlikely(__atomic_load_n(&j->stop, __ATOMIC_SEQ_CST))) {
			jit_idle(cpu);
			sched_yield();
			continue;
		}
		code = next(cpu);
		if (code != exit)
			enter(code);
	}
}

#else
void jit_caught(struct guard *g, void *ucontext) {}
void jit_cpu_enter(struct sil_cpu *cpu) {}
void jit_cpu_leave(struct sil_cpu *cpu) {}

void jit_loop(struct sil_cpu *cpu)
{
	BUG("no translator on this host");
}
#endif
