/* SPDX-License-Identifier: MIT */
/* The interpreter's loop. */
#include "base/log.h"
#include "isa/insn_table.h"
#include "silicon/cpu/debug.h"
#include "silicon/cpu/engine.h"
#include "silicon/interp/codepage.h"
#include "silicon/interp/interp.h"
#include "silicon/paging/tlb.h"

static __always_inline_ u64 fetch_la(const struct isa_cpu *c)
{
	return likely(c->mode == ISA_LONG64) ? c->s.rip : (u32)(c->s.seg[CS].base + c->s.rip);
}

/* Before instructions come from a page that is not the current one. May throw. */
static __noinline void fetch_page(struct sil_cpu *cpu, u64 la)
{
	struct isa_cpu *c = &cpu->c;

	if (c->mode == ISA_LONG64) {
		if (unlikely(!is_canonical(la, c->va_bits)))
			isa_raise_err(c, X86_GP, 0);
	} else if (unlikely(c->s.rip > c->s.seg[CS].limit)) {
		isa_raise_err(c, X86_GP, 0);
	}
	tlb_fetch(cpu, la);
}

/* Blocks are about to be looked up. */
static inline void compare_again(struct sil_cpu *cpu)
{
	if (unlikely(cpu->fetch_suspect)) {
		cpu->fetch_suspect = false;
		tlb_drop_exec(cpu);
	}
}

/*
 * One instruction, with everything that hangs on instruction boundaries: breakpoints, RF, shadows,
 * single step. SDM vol. 3B, 18.3.1; vol. 3A, 6.8.3.
 */
__noinline void interp_step(struct sil_cpu *cpu)
{
	struct isa_cpu *c = &cpu->c;
	u32 shadow = c->s.interruptibility & (ISA_BLOCK_STI | ISA_BLOCK_MOVSS);
	bool tf = c->s.rflags & X86_TF, rf = c->s.rflags & X86_RF, partial;
	u64 la = fetch_la(c), rip = c->s.rip, hit;
	const struct isa_insn *i;
	struct block *b;

	cpu->interp->prev = NULL;
	if (engine_must_step(cpu, 1)) {
		cpu->stop_at = ~0ull;
		cpu_request(cpu, SIL_REQ_KICK);
		return;
	}
	if (unlikely(cpu->bp_insn) && !rf) {
		hit = debug_insn_hit(cpu, la);
		if (hit)
			engine_raise_db(cpu, hit, true);
	}
	if (c->mode != ISA_LONG64) {
		compare_again(cpu);
		if (rip > c->s.seg[CS].limit)
			isa_raise_err(c, X86_GP, 0);
	}
	if (la + cpu->fetch_neg_page >= PAGE_SIZE)
		fetch_page(cpu, la);
	if (c->mode == ISA_LONG64) {
		i = block_one(cpu, la);
	} else {
		b = block_get(cpu, la);
		i = b ? b->insn : block_cross(cpu, la);
	}
	if (c->mode != ISA_LONG64 && rip + i->len - 1 > c->s.seg[CS].limit)
		isa_raise_err(c, X86_GP, 0);

	/* RF is for one instruction; IRET may set it anew. A REP need not stop for its sake. */
	cpu->step_rf = rf;
	c->s.rflags &= ~X86_RF;
	if (!tf && !cpu->step_exits && !cpu->bp_insn)
		cpu_request_clear(cpu, SIL_REQ_STEP);
	cpu->no_trap = false;
	cpu->block_first = i;
	cpu->block_end = NULL;
	c->s.rip += i->len;
	c->insn = i;
	i->exec(c, i);
	c->insn = NULL;
	cpu->step_rf = false;

	partial = (i->flags & ISA_F_STR) && c->s.rip == rip;
	if (partial) {
		if (rf)
			c->s.rflags |= X86_RF;
	} else {
		cpu->n.instructions += (u64)(i + 1 - cpu->block_first);
		/* Shadows last for this one instruction, and do not renew themselves. */
		c->s.interruptibility &= ~shadow;
		if (shadow && cpu->attention)
			cpu_request(cpu, SIL_REQ_EVENT);
	}
	cpu->stepped = true;
	if (cpu->rmw_size)
		engine_rmw_done(cpu);
	if (tf && !cpu->no_trap && (!(c->s.debugctl & DEBUGCTL_BTF) || c->s.rip != rip + i->len))
		c->s.pending_dbg |= PENDING_DBG_BS;
	c->s.pending_dbg |= cpu->bp_hit;
	cpu->bp_hit = 0;
	cpu_update_step(cpu);
}

/* A block was ended early by something that its current instruction did. */
static __noinline void ended_early(struct sil_cpu *cpu)
{
	if (cpu->rmw_size)
		engine_rmw_done(cpu);
	cpu->c.s.pending_dbg |= cpu->bp_hit;
	cpu->bp_hit = 0;
	cpu_update_step(cpu);
}

/* @last has ended a block and is no plain jump; @next is the address behind it. */
static __noinline void after(struct sil_cpu *cpu, const struct isa_insn *last, u64 next)
{
	if (last->flags & ISA_F_STR) {
		/* Stopped half-way for a request: not retired. */
		if (cpu->c.s.rip == next - last->len)
			cpu->n.instructions--;
		return;
	}
	cpu_update_step(cpu);
}

/* @until_jit: returns at an instruction boundary where translated code can go on. */
static __always_inline_ void loop(struct sil_cpu *cpu, bool until_jit)
{
	struct isa_cpu *c = &cpu->c;
	struct interp *in = cpu->interp;
	const struct isa_insn *i;
	struct block *b, *prev;
	u64 la, key, rip;

	in->prev = NULL;
	compare_again(cpu);
	cpu_update_step(cpu);
	for (;;) {
		if (unlikely(__atomic_load_n(&c->request, __ATOMIC_RELAXED))) {
			engine_boundary(cpu);
			if (cpu_requested(cpu, SIL_REQ_STEP)) {
				interp_step(cpu);
				continue;
			}
		}
		if (until_jit && jit_mode(c) != JIT_MODE_NONE)
			return;

		la = fetch_la(c);
		if (unlikely(la + cpu->fetch_neg_page >= PAGE_SIZE))
			fetch_page(cpu, la);
		key = block_key(la + cpu->fetch_addend, c->mode);
		prev = in->prev;
		if (likely(prev && prev->succ[0] && prev->succ[0]->key == key)) {
			b = prev->succ[0];
		} else if (prev && prev->succ[1] && prev->succ[1]->key == key) {
			b = prev->succ[1];
		} else {
			b = block_get(cpu, la);
			if (unlikely(!b)) {
				interp_step(cpu);
				continue;
			}
			/* in->prev: making the block may have reclaimed the last one. */
			if (in->prev) {
				in->prev->succ[1] = in->prev->succ[0];
				in->prev->succ[0] = b;
			}
		}
		if (c->mode != ISA_LONG64 &&
		    unlikely(c->s.rip + b->nbytes - 1 > c->s.seg[CS].limit)) {
			interp_step(cpu);
			continue;
		}
		if (engine_must_step(cpu, b->n)) {
			interp_step(cpu);
			continue;
		}
		in->prev = b;
		rip = c->s.rip;

		i = b->insn;
		cpu->block_first = i;
		cpu->block_end = i + b->n;
		do {
			c->s.rip += i->len;
			c->insn = i;
			i->exec(c, i);
			i++;
		} while (i < cpu->block_end);
		c->insn = NULL;
		cpu->n.instructions += (u64)(i - cpu->block_first);
		cpu->n.blocks_run++;

		if (unlikely(!cpu->block_end))
			ended_early(cpu);
		if (b->check && i == b->insn + b->n)
			after(cpu, i - 1, rip + b->nbytes);
	}
}

void interp_pass(struct sil_cpu *cpu, unsigned max)
{
	struct isa_cpu *c = &cpu->c;
	const struct isa_insn *i;
	unsigned n;
	u64 la;

	for (n = 0; n < max; n++) {
		la = c->s.rip;
		if (engine_must_step(cpu, 1) ||
		    unlikely(c->mode != ISA_LONG64 && la + 15 > c->s.seg[CS].limit)) {
			interp_step(cpu);
			return;
		}
		if (unlikely(la + cpu->fetch_neg_page >= PAGE_SIZE))
			fetch_page(cpu, la);
		i = block_one(cpu, la);
		cpu->block_first = i;
		cpu->block_end = i + 1;
		c->s.rip = la + i->len;
		c->insn = i;
		i->exec(c, i);
		c->insn = NULL;
		cpu->n.instructions += (u64)(i + 1 - cpu->block_first);
		if (unlikely(!cpu->block_end))
			ended_early(cpu);
		if (i->flags & (ISA_F_END | ISA_F_STR | ISA_F_SYS)) {
			if (!interp_plain(i)) {
				after(cpu, i, la + i->len);
				if (!(i->flags & ISA_F_STR) || (i->flags & ISA_F_SYS))
					return;
			}
			if (c->s.rip != la + i->len)
				return;
		}
		if (unlikely(!cpu->block_end))
			return;
	}
}

void interp_loop(struct sil_cpu *cpu)
{
	loop(cpu, false);
	BUG("the loop has ended");
}

void interp_until_jit(struct sil_cpu *cpu)
{
	loop(cpu, true);
}
