/* SPDX-License-Identifier: MIT */
/* Direct jumps of translated code when they are not patched yet, or lead where nothing is known. */
#include "silicon/jit/jit.h"

#include "silicon/cpu/engine.h"
#include "silicon/paging/tlb.h"

#ifdef __x86_64__
#include <pthread.h>

static void arrive(struct sil_cpu *cpu, const struct jit_link *l)
{
	jit_flags_in(cpu, l->rec);
	cpu->n.instructions += l->count;
	cpu->c.s.rip = cpu->j.pc_page + l->target;
}

const void *jit_goto(struct sil_cpu *cpu, struct jit_link *l)
{
	arrive(cpu, l);
	if (unlikely(l->cross))
		jit_drop(cpu, l->from);
	return jit_next(cpu);
}

/* Other cpus may be running the jump: its displacement is aligned, so they see it old or new. */
static void link(struct jit *j, struct jit_link *l, u32 to)
{
	__atomic_store_n((u32 *)(j->rw + l->site), to - (l->site + 4), __ATOMIC_RELEASE);
}

/* The page of memory that the jump leads to; 0: its block has been dropped. */
static hva_t target_page(const struct jit *j, const struct jit_link *l)
{
	hva_t from = __atomic_load_n(&l->from->hva, __ATOMIC_RELAXED);

	if (!from)
		return 0;
	return l->far ? j->pool[l->page].page : from & PAGE_MASK;
}

/* Is @b there? Asked before room is taken for a conversion: a jump that is never patched comes back
 * each time. */
static bool leads_to(const struct jit *j, const struct jit_link *l, const struct jit_block *b)
{
	return target_page(j, l) == (__atomic_load_n(&b->hva, __ATOMIC_RELAXED) & PAGE_MASK);
}

/* Patches the jump if both ends are there still. */
static bool link_to(struct sil_cpu *cpu, struct jit_link *l, struct jit_block *b, u32 entry)
{
	struct jit *j = cpu->m->jit;
	bool ok;

	pthread_mutex_lock(&j->lock);
	ok = entry && b->hva && leads_to(j, l, b);
	if (ok) {
		if (l->to != b) {
			l->to = b;
			l->in_next = b->in;
			b->in = l;
		}
		link(j, l, entry);
		cpu->n.jit_links++;
	}
	pthread_mutex_unlock(&j->lock);
	return ok;
}

/* To a plain block at RIP. */
static const void *link_plain(struct sil_cpu *cpu, struct jit_link *l)
{
	struct jit *j = cpu->m->jit;
	u64 la = cpu->c.s.rip;
	struct jit_block *b;

	if (jit_must_leave(cpu))
		return jit_code(j, j->stub[STUB_EXIT]);
	if (unlikely(la + cpu->fetch_neg_page >= PAGE_SIZE))
		jit_fetch_page(cpu, la);
	b = jit_get_warm(cpu, la + cpu->fetch_addend, true, &cpu->j.cold);
	if (!b) {
		cpu->j.step = !cpu->j.cold && !j->full;
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	jit_fresh(cpu, b);
	if (unlikely(!b->hva))
		return jit_code(j, j->stub[STUB_EXIT]);
	/* Making it may have served requests: links are looked up under the lock. */
	cpu->j.pc_page = la & PAGE_MASK;
	jit_flags_out(cpu);
	if (unlikely(cpu->m->cfg.exact_stops)) {
		if (!engine_must_step(cpu, b->ninsns))
			return jit_code(j, b->entry_mem);
		cpu->j.step = true;
		return jit_code(j, j->stub[STUB_EXIT]);
	}
	if (leads_to(j, l, b))
		link_to(cpu, l, b, l->rec ? jit_convert(cpu, l->rec, b) : b->entry_mem);
	return jit_code(j, b->entry_mem);
}

/* With a recipe most jumps go to a version, and nobody may ever need the block for other flags.
 * NULL: as without. */
static const void *link_rec(struct sil_cpu *cpu, struct jit_link *l, hva_t host)
{
	struct jit *j = cpu->m->jit;
	struct jit_block *b = jit_get_rec(cpu, host, l->rec);

	if (b)
		jit_fresh(cpu, b);
	/* These may have served requests. */
	if (!b || !link_to(cpu, l, b, b->body) || !cpu->j.xgen ||
	    __atomic_load_n(&cpu->c.request, __ATOMIC_RELAXED))
		return NULL;
	return jit_code(j, b->body);
}

const void *jit_link(struct sil_cpu *cpu, struct jit_link *l)
{
	struct jit *j = cpu->m->jit;
	hva_t page = target_page(j, l), host = page + l->target;
	struct jit_block *b;
	const void *to;
	u32 entry;

	if (l->plain) {
		arrive(cpu, l);
		return link_plain(cpu, l);
	}
	if (l->fl == JIT_FL_REC && page && !cpu->m->cfg.exact_stops) {
		arrive(cpu, l);
		to = link_rec(cpu, l, host);
		if (to)
			return to;
		cpu->n.instructions -= l->count;
	}
	to = jit_goto(cpu, l);
	if (to == jit_code(j, j->stub[STUB_EXIT]))
		return to;
	if (!page || cpu->m->cfg.exact_stops)
		return to;
	b = jit_get(cpu, host);
	if (b && leads_to(j, l, b)) {
		jit_fresh(cpu, b);
		entry = l->fl == JIT_FL_HOST  ? b->entry_host
			: l->fl == JIT_FL_MEM ? b->entry_mem
					      : jit_convert(cpu, l->rec, b);
		link_to(cpu, l, b, entry);
	}
	return to;
}

/* ---- To other pages (far.c) ---------------------------------------------------------------------
 */

#define FAR_MISSED_MAX 200

/* What the jump cache knows at @la: also the page of translations that it is in. */
static struct jit_block *known_at(struct sil_cpu *cpu, u64 la)
{
	u64 tag = la ^ cpu->j.xgen;
	struct jit_jc *e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
	struct jit_block *b;
	void *host;

	if (!cpu->j.xgen || e->tag != tag)
		return NULL;
	host = tlb_lookup(cpu->tlb->cur, TLB_X, la);
	b = host ? jit_find(cpu, (hva_t)host) : NULL;
	if (b && jit_code(cpu->m->jit, b->entry_mem) == e->code)
		return b;
	/* Whoever comes there next finds out anew. */
	e->tag = JIT_JC_EMPTY;
	return NULL;
}

/* From now on the jump compares what is there with the page of @b. False: it does already with
 * another one, for which its code was made once and for all. */
static bool see(struct jit *j, struct jit_link *l, const struct jit_block *b, unsigned page)
{
	u32 *at = (u32 *)(j->rw + l->seen);
	bool ok;

	pthread_mutex_lock(&j->lock);
	ok = l->from->hva && b->hva && (!l->code || l->page == page);
	if (ok) {
		l->page = page;
		__atomic_store_n(&l->code, jit_code(j, b->entry_mem), __ATOMIC_RELEASE);
		__atomic_store_n(at, (u32)offsetof(struct sil_cpu, j.there) + page * 8,
				 __ATOMIC_RELEASE);
	} else if (l->from->hva && b->hva && l->missed < FAR_MISSED_MAX) {
		l->missed++;
	}
	pthread_mutex_unlock(&j->lock);
	return ok;
}

const void *jit_far(struct sil_cpu *cpu, struct jit_link *l)
{
	u64 la = cpu->j.pc_page + (s64)l->disp;
	struct jit *j = cpu->m->jit;
	struct jit_block *b;

	if (cpu->j.mode == JIT_MODE_FLAT32 && l->insn)
		la = (u32)la;
	b = jit_must_leave(cpu) ? NULL : known_at(cpu, la);
	if (b && see(j, l, b, jit_page_number(cpu, b->page))) {
		jit_there(cpu, b->page, la);
		return NULL;
	}
	/* The program has moved: the next translation will see the new place. */
	if (b && l->missed == FAR_MISSED_MAX)
		jit_drop(cpu, l->from);
	if (l->insn)
		return jit_end(cpu, l->insn);
	jit_flags_in(cpu, l->rec);
	cpu->n.instructions += l->n;
	cpu->c.s.rip = la;
	return jit_next(cpu);
}
#endif
