/* SPDX-License-Identifier: MIT */
#include "silicon/interp/codepage.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "silicon/interp/interp.h"
#include "silicon/jit/door.h"
#include "silicon/paging/tlb.h"

int code_registry_create(struct sil_machine *m)
{
	m->code = calloc(1, sizeof(*m->code));
	if (!m->code)
		return -ENOMEM;
	pthread_mutex_init(&m->code->lock, NULL);
	return 0;
}

void code_registry_destroy(struct sil_machine *m)
{
	struct code_page *p, *next;
	unsigned k;

	if (!m->code)
		return;
	for (k = 0; k < CODE_HASH_SIZE; k++) {
		for (p = m->code->hash[k]; p; p = next) {
			next = p->next;
			free(p);
		}
	}
	pthread_mutex_destroy(&m->code->lock);
	free(m->code);
	m->code = NULL;
}

static struct code_page **slot_of(struct code_registry *r, hva_t page)
{
	struct code_page **p = &r->hash[code_filter_index(page) & (CODE_HASH_SIZE - 1)];

	while (*p && (*p)->page != page)
		p = &(*p)->next;
	return p;
}

bool code_is_page_slow(struct code_registry *r, hva_t page)
{
	bool found;

	pthread_mutex_lock(&r->lock);
	found = *slot_of(r, page) != NULL;
	pthread_mutex_unlock(&r->lock);
	return found;
}

/* Words of a covered bitmap: the bits of [@from, @to) in word @w. */
static u64 cover_mask(unsigned w, unsigned from, unsigned to)
{
	unsigned lo = MAX(from, w * 64), hi = MIN(to, w * 64 + 64);

	return lo < hi ? BITS(hi - 1 - w * 64, lo - w * 64) : 0;
}

static bool touches(const struct code_page *p, unsigned from, unsigned to)
{
	unsigned w;

	for (w = from / 64; w <= (to - 1) / 64; w++)
		if (p->covered[w] & cover_mask(w, from, to))
			return true;
	return false;
}

/* ---- Shoot-downs ------------------------------------------------------------------------------
 */

/* m->cpus_lock held. */
static void post(struct sil_cpu *to, hva_t page, bool drop)
{
	unsigned k;

	for (k = 0; k < to->nshoot; k++) {
		if (to->shoot[k].page == page && to->shoot[k].drop == drop)
			break;
	}
	if (k == to->nshoot) {
		if (to->nshoot < SIL_SHOOT_MAX)
			to->shoot[to->nshoot++] = (struct sil_shoot){.page = page, .drop = drop};
		else if (drop)
			to->shoot_all_drops = true;
		else
			to->shoot_all_writes = true;
	}
	to->shoot_seq++;
	cpu_request(to, SIL_REQ_CODE);
}

static void post_all(struct sil_machine *m, struct sil_cpu *but, hva_t page, bool drop)
{
	struct sil_cpu *o;

	pthread_mutex_lock(&m->cpus_lock);
	for (o = m->cpus; o; o = o->next)
		if (o != but)
			post(o, page, drop);
	pthread_mutex_unlock(&m->cpus_lock);
}

void code_serve(struct sil_cpu *cpu)
{
	struct sil_shoot todo[SIL_SHOOT_MAX];
	unsigned n, k;
	bool all_writes, all_drops;
	u64 seq;

	pthread_mutex_lock(&cpu->m->cpus_lock);
	cpu_request_clear(cpu, SIL_REQ_CODE);
	n = cpu->nshoot;
	all_writes = cpu->shoot_all_writes;
	all_drops = cpu->shoot_all_drops;
	seq = cpu->shoot_seq;
	for (k = 0; k < n; k++)
		todo[k] = cpu->shoot[k];
	cpu->nshoot = 0;
	cpu->shoot_all_writes = cpu->shoot_all_drops = false;
	pthread_mutex_unlock(&cpu->m->cpus_lock);

	if (all_writes)
		tlb_drop_all_writes(cpu);
	if (all_drops)
		interp_drop_all(cpu);
	for (k = 0; k < n; k++) {
		if (todo[k].drop) {
			interp_drop_page(cpu, todo[k].page);
			all_drops = true;
		} else {
			tlb_drop_writes(cpu, todo[k].page);
		}
	}
	if (all_drops && cpu->m->jit)
		jit_lost(cpu);
	__atomic_store_n(&cpu->shoot_done, seq, __ATOMIC_SEQ_CST);
}

void code_cpu_enter(struct sil_cpu *cpu)
{
	__atomic_store_n(&cpu->running, true, __ATOMIC_SEQ_CST);
	if (cpu_requested(cpu, SIL_REQ_CODE))
		code_serve(cpu);
}

void code_cpu_leave(struct sil_cpu *cpu)
{
	__atomic_store_n(&cpu->running, false, __ATOMIC_SEQ_CST);
}

/*
 * Makes every other cpu drop its write entries for @page and waits for those in the guest. The
 * waiter serves its own requests, or two cpus would wait for each other.
 */
static void shoot_writes(struct sil_cpu *cpu, hva_t page)
{
	struct sil_machine *m = cpu->m;
	struct sil_cpu *o;
	unsigned spins = 0;
	bool busy;

	cpu->n.code_shootdowns++;
	tlb_drop_writes(cpu, page);
	/* The tickets are read under the lock each time, for cpus may come and go. */
	pthread_mutex_lock(&m->cpus_lock);
	for (o = m->cpus; o; o = o->next) {
		if (o == cpu)
			continue;
		post(o, page, false);
		o->shoot_wait = o->shoot_seq;
	}
	pthread_mutex_unlock(&m->cpus_lock);

	do {
		busy = false;
		pthread_mutex_lock(&m->cpus_lock);
		for (o = m->cpus; o; o = o->next)
			if (o != cpu && __atomic_load_n(&o->running, __ATOMIC_SEQ_CST) &&
			    __atomic_load_n(&o->shoot_done, __ATOMIC_SEQ_CST) < o->shoot_wait)
				busy = true;
		pthread_mutex_unlock(&m->cpus_lock);
		if (!busy)
			break;
		if (cpu_requested(cpu, SIL_REQ_CODE))
			code_serve(cpu);
		if (++spins > 16)
			sched_yield();
	} while (true);
}

/* ---- The registry -----------------------------------------------------------------------------
 */

/* One attempt. 1: what was added has been forgotten while this cpu waited, and the request to
 * forget blocks may have been served. */
static int add(struct sil_cpu *cpu, hva_t page, unsigned from, unsigned to)
{
	struct code_registry *r = cpu->m->code;
	struct code_page **slot, *p;
	u64 born, serial;
	bool wait, same;
	unsigned w;

	pthread_mutex_lock(&r->lock);
	slot = slot_of(r, page);
	p = *slot;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p) {
			pthread_mutex_unlock(&r->lock);
			return -ENOMEM;
		}
		p->page = page;
		p->born = p->serial = ++r->serial;
		*slot = p;
		r->npages++;
		__atomic_fetch_add(&r->filter[code_filter_index(page)], 1, __ATOMIC_SEQ_CST);
	}
	wait = !p->settled;
	born = p->born;
	serial = p->serial;
	for (w = from / 64; w <= (to - 1) / 64; w++)
		p->covered[w] |= cover_mask(w, from, to);
	pthread_mutex_unlock(&r->lock);
	if (!wait)
		return 0;
	shoot_writes(cpu, page);
	pthread_mutex_lock(&r->lock);
	p = *slot_of(r, page);
	if (p && p->born == born)
		p->settled = true;
	same = p && p->serial == serial;
	pthread_mutex_unlock(&r->lock);
	return same ? 0 : 1;
}

int code_add(struct sil_cpu *cpu, hva_t hva, unsigned len)
{
	unsigned from = hva & ~PAGE_MASK;
	int ret;

	BUG_ON(!len || from + len > PAGE_SIZE);
	do
		ret = add(cpu, hva & PAGE_MASK, from, from + len);
	while (ret > 0);
	return ret;
}

u64 code_serial(struct code_registry *r, hva_t page)
{
	struct code_page *p;
	u64 serial;

	pthread_mutex_lock(&r->lock);
	p = *slot_of(r, page);
	serial = p ? p->serial : 0;
	pthread_mutex_unlock(&r->lock);
	return serial;
}

bool code_commit(struct code_registry *r, hva_t page, u64 serial, void (*fn)(void *), void *arg)
{
	struct code_page *p;
	bool ok;

	pthread_mutex_lock(&r->lock);
	p = *slot_of(r, page);
	ok = p && p->serial == serial;
	if (ok)
		fn(arg);
	pthread_mutex_unlock(&r->lock);
	return ok;
}

bool code_covered(struct code_registry *r, hva_t hva, u64 len)
{
	struct code_page *p;
	bool hit = false;

	pthread_mutex_lock(&r->lock);
	p = *slot_of(r, hva & PAGE_MASK);
	if (p)
		hit = touches(p, hva & ~PAGE_MASK, (hva & ~PAGE_MASK) + len);
	pthread_mutex_unlock(&r->lock);
	return hit;
}

/*
 * Bytes [@from, @to) of @slot's page were written: every cpu forgets its blocks of the page, and
 * translations of those bytes are forgotten. Takes the page out if none is left. Registry lock
 * held.
 */
static void forget(struct sil_machine *m, struct sil_cpu *writer, struct code_page **slot,
		   unsigned from, unsigned to)
{
	struct code_registry *r = m->code;
	struct code_page *p = *slot;
	unsigned w;

	memset(p->covered, 0, sizeof(p->covered));
	if (m->jit)
		jit_forget(m, writer, p->page, from, to, p->covered);
	/* Posted under the lock: who adds to the page comes after this in every queue. */
	post_all(m, writer, p->page, true);
	p->serial = ++r->serial;
	for (w = 0; w < PAGE_SIZE / 64; w++)
		if (p->covered[w])
			return;
	*slot = p->next;
	r->npages--;
	__atomic_fetch_sub(&r->filter[code_filter_index(p->page)], 1, __ATOMIC_SEQ_CST);
	free(p);
}

/* Something overwrites the page rather than patches it: away with it. */
#define HITS_MAX 8

/* One page of a write. */
static void written(struct sil_machine *m, struct sil_cpu *cpu, hva_t hva, unsigned len)
{
	struct code_registry *r = m->code;
	unsigned from = hva & ~PAGE_MASK;
	struct code_page **slot;
	bool hit;

	if (!code_is_page(r, hva & PAGE_MASK))
		return;
	pthread_mutex_lock(&r->lock);
	slot = slot_of(r, hva & PAGE_MASK);
	hit = *slot && touches(*slot, from, from + len);
	if (hit && ++(*slot)->hits > HITS_MAX)
		forget(m, cpu, slot, 0, PAGE_SIZE);
	else if (hit)
		forget(m, cpu, slot, from, from + len);
	pthread_mutex_unlock(&r->lock);
	if (hit && cpu) {
		interp_drop_page(cpu, hva & PAGE_MASK);
		/* It may be in one of these, the translator's too. */
		cpu->block_end = NULL;
	}
}

/* Calls for many pages walk the registry instead of the range. */
#define RANGE_PAGES CODE_HASH_SIZE

void code_written(struct sil_machine *m, struct sil_cpu *cpu, hva_t hva, u64 len)
{
	if (len / PAGE_SIZE > RANGE_PAGES) {
		code_removed(m, hva, len);
		return;
	}
	while (len) {
		unsigned n = (unsigned)MIN(len, PAGE_SIZE - (hva & ~PAGE_MASK));

		written(m, cpu, hva, n);
		hva += n;
		len -= n;
	}
}

void code_removed(struct sil_machine *m, hva_t hva, u64 len)
{
	struct code_registry *r = m->code;
	struct code_page **slot;
	unsigned k;

	pthread_mutex_lock(&r->lock);
	for (k = 0; k < CODE_HASH_SIZE; k++) {
		slot = &r->hash[k];
		while (*slot) {
			if ((*slot)->page + PAGE_SIZE > hva && (*slot)->page < hva + len)
				forget(m, NULL, slot, 0, PAGE_SIZE);
			else
				slot = &(*slot)->next;
		}
	}
	pthread_mutex_unlock(&r->lock);
}
