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

void jit_flags_in(struct sil_cpu *cpu, u64 rec)
{
	flags_in_or(cpu, rec);
}

void jit_flags_out(struct sil_cpu *cpu)
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

	if (!b->xgen || b->xmode != cpu->j.mode) {
		if (cpu->j.last_gen == JIT_GEN_MAX) {
			jit_jc_clear(cpu);
			for (k = 0; k < TLB_NBANKS; k++)
				cpu->tlb->bank[k].xgen = 0;
			cpu->j.last_gen = 0;
		}
		b->xgen = ++cpu->j.last_gen;
		cpu->n.jit_generations++;
		tlb_xpages_clear(b);
		b->xlocal = false;
		b->xmode = cpu->j.mode;
	}
	cpu->j.xgen = (u64)b->xgen << JIT_GEN_SHIFT;
}

void jit_fetch_page(struct sil_cpu *cpu, u64 la)
{
	if (unlikely(!is_canonical(la, cpu->c.va_bits)))
		isa_raise_err(&cpu->c, X86_GP, 0);
	tlb_fetch(cpu, la);
}

/* Is the instruction at @la on two pages? *@b: its block, or NULL. May throw. */
static __noinline bool crossing(struct sil_cpu *cpu, u64 la, struct jit_block **b, bool *cold)
{
	const struct isa_insn *i = block_one(cpu, la);
	struct jit_cross x = {.bytes = i->raw, .len = i->len};
	u64 la2 = (la | ~PAGE_MASK) + 1;

	x.first = (unsigned)(la2 - la);
	if (i->len <= x.first)
		return false;
	*b = NULL;
	/* What lies behind the end of the address space is the interpreter's. */
	if (!is_canonical(la2, cpu->c.va_bits) || (cpu->j.mode != JIT_MODE_64 && la2 >> 32))
		return true;
	x.host2 = (hva_t)tlb_fetch_ptr(cpu, la2);
	*b = jit_get_cross(cpu, la + cpu->fetch_addend, &x, cold);
	return true;
}

const void *jit_next(struct sil_cpu *cpu)
{
	struct isa_cpu *c = &cpu->c;
	struct jit *j = cpu->m->jit;
	struct jit_block *b;
	struct jit_jc *e;
	u64 la = c->s.rip, tag;
	bool exact, crosses;

	cpu->n.jit_lookups++;
again:
	if (jit_must_leave(cpu))
		return jit_code(j, j->stub[STUB_EXIT]);
	if (unlikely(la > 0xffffffff && cpu->j.mode == JIT_MODE_FLAT32)) {
		cpu->j.step = true; /* beyond CS's limit */
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	if (unlikely(!cpu->j.xgen))
		new_generation(cpu);
	tag = la ^ cpu->j.xgen;
	e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
	if (likely(e->tag == tag && is_canonical(la, c->va_bits)))
		goto out;
	exact = cpu->m->cfg.exact_stops;
	if (unlikely(la + cpu->fetch_neg_page >= PAGE_SIZE))
		jit_fetch_page(cpu, la);
	crosses = unlikely((la & ~PAGE_MASK) > PAGE_SIZE - ISA_INSN_MAX) &&
		  crossing(cpu, la, &b, &cpu->j.cold);
	if (likely(!crosses))
		b = jit_get_warm(cpu, la + cpu->fetch_addend, false, &cpu->j.cold);
	if (unlikely(!b)) {
		/* Without room, the loop makes some. */
		cpu->j.step = !cpu->j.cold && !j->full;
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	jit_fresh(cpu, b);
	if (unlikely(!b->hva))
		goto again;
	if (unlikely(exact)) {
		/* Every block comes through here. */
		if (engine_must_step(cpu, b->ninsns)) {
			cpu->j.step = true;
			return jit_code(j, j->stub[STUB_EXIT]);
		}
		cpu->j.pc_page = la & PAGE_MASK;
		jit_flags_out(cpu);
		return jit_code(j, b->entry_mem);
	}
	if (unlikely(!cpu->j.xgen))
		new_generation(cpu);
	tlb_xpage_add(cpu->tlb->cur, la);
	if (unlikely(crosses))
		tlb_xpage_add(cpu->tlb->cur, la + PAGE_SIZE);
	cpu->tlb->cur->xlocal |= !cpu->fetch_global || crosses;
	tag = la ^ cpu->j.xgen;
	e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
	e->tag = tag;
	jit_jc_used(cpu, e);
	cpu->n.jit_jumps++;
	jit_known(cpu, b, la);
	jit_there(cpu, b->page, la);
	e->code = jit_code(j, b->entry_mem);
out:
	cpu->j.pc_page = la & PAGE_MASK;
	jit_flags_out(cpu);
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

/* Behind an STI that has set IF. */
static __noinline void exec_shadowed(struct sil_cpu *cpu, struct jit_insn *ji)
{
	struct isa_cpu *c = &cpu->c;
	u64 end = c->s.rip;

	cpu->j.shadow = 0;
	c->s.interruptibility |= ISA_BLOCK_STI;
	ji->i.exec(c, &ji->i);
	/* A string instruction that has stopped half-way is still in it. */
	if (unlikely((ji->i.flags & ISA_F_STR) && c->s.rip == end - ji->i.len))
		return;
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
	jit_x87_pointer(cpu, ji);
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
	if (likely(cpu->block_end && cpu->c.s.rip == end && jit_mode(&cpu->c) == cpu->j.mode)) {
		cpu->n.instructions -= ji->index;
		jit_flags_out(cpu);
		return NULL;
	}
	/* A string instruction that stopped half-way has not retired. */
	if (!(ji->i.flags & ISA_F_STR) || cpu->c.s.rip != end - ji->i.len)
		cpu->n.instructions++;
	if (!cpu->block_end)
		ended_early(cpu);
	return jit_next(cpu);
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
	return jit_next(cpu);
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

/* An IRET may have set RF: see lean_iret. */
const void *jit_resume(struct sil_cpu *cpu)
{
	struct jit *j = cpu->m->jit;
	const void *to;

	flags_in(cpu);
	to = jit_next(cpu);
	if (likely(!(cpu->c.s.rflags & X86_RF)))
		return to;
	if (to == jit_code(j, j->stub[STUB_EXIT]))
		cpu_update_step(cpu);
	else
		cpu->c.s.rflags &= ~X86_RF;
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
	cpu->j.step = cpu->j.again;
	cpu->j.again = cpu->j.cold = false;
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
		if (unlikely(jit_mode(c) != cpu->j.mode)) {
			cpu->j.mode = jit_mode(c);
			cpu->j.xgen = 0;
		}
		if (unlikely(cpu->j.mode == JIT_MODE_NONE)) {
			interp_until_jit(cpu);
			continue;
		}
		if (cpu->j.cold) {
			cpu->j.cold = false;
			interp_pass(cpu, BLOCK_MAX_INSNS);
			continue;
		}
		if (unlikely(cpu->j.step)) {
			cpu->j.step = false;
			interp_pass(cpu, 1);
			continue;
		}
		__atomic_store_n(&cpu->j.busy, true, __ATOMIC_SEQ_CST);
		if (unlikely(__atomic_load_n(&j->stop, __ATOMIC_SEQ_CST))) {
			jit_idle(cpu);
			sched_yield();
			continue;
		}
		if (cpu->j.recheck)
			jit_recheck(cpu);
		code = jit_next(cpu);
		if (code != exit)
			enter(code);
	}
}

#else
void jit_cpu_enter(struct sil_cpu *cpu) {}
void jit_cpu_leave(struct sil_cpu *cpu) {}

void jit_loop(struct sil_cpu *cpu)
{
	BUG("no translator on this host");
}
#endif
