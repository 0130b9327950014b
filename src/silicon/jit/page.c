/* SPDX-License-Identifier: MIT */
/* Which bytes translations were made from, and forgetting those that are written. */
#include <stdlib.h>
#include <string.h>

#include "silicon/interp/codepage.h"
#include "silicon/jit/door.h"
#include "silicon/jit/jit.h"
#include "silicon/paging/tlb.h"

#ifdef __x86_64__

static struct jit_page **page_slot(struct jit *j, hva_t page)
{
	struct jit_page **p = &j->pages[jit_page_hash(page)];

	while (*p && (*p)->page != page)
		p = &(*p)->next;
	return p;
}

void jit_pages_free(struct jit *j)
{
	memset(j->pages, 0, sizeof(j->pages));
	j->npages = 0;
}

/* ---- Cold and warm -------------------------------------------------------------------------- */

static u8 *heat_of(struct jit *j, hva_t host, bool plain)
{
	return &j->heat[jit_block_hash(host, plain)];
}

/* Pages that lose translations again and again have them made later and later. */
#define REWRITTEN_MAX 5
#define HEAT_MAX      200

enum jit_heat jit_heat(const struct sil_cpu *cpu, hva_t host, bool plain)
{
	unsigned heat = *heat_of(cpu->m->jit, host, plain), after = cpu->m->cfg.translate_after;

	if (heat < after)
		return JIT_COLD;
	after <<= cpu->m->jit->rewritten[jit_page_hash(host)];
	return heat < MIN(after, (unsigned)HEAT_MAX) ? JIT_REWRITTEN : JIT_WARM;
}

void jit_warm(struct jit *j, hva_t host, bool plain)
{
	unsigned k;
	u8 *heat = heat_of(j, host, plain);

	*heat = MIN(*heat + 1, HEAT_MAX);
	/* So that a table full of code that has run once is not taken for warm for ever. */
	if (++j->warmed < 2 * JIT_HEAT_SIZE)
		return;
	j->warmed = 0;
	for (k = 0; k < JIT_HEAT_SIZE; k++)
		j->heat[k] /= 2;
	for (k = 0; k < JIT_PAGE_HASH; k++)
		j->rewritten[k] /= 2;
}

/* ---- Entering -------------------------------------------------------------------------------- */

/* Sets the bits of [@from, @to). */
static void mark(u64 valid[PAGE_SIZE / 64], unsigned from, unsigned to)
{
	unsigned w;

	for (w = from / 64; w <= (to - 1) / 64; w++) {
		unsigned lo = MAX(from, w * 64), hi = MIN(to, w * 64 + 64);

		valid[w] |= BITS(hi - 1 - w * 64, lo - w * 64);
	}
}

/* Bits that stay are never seen as zero: others compare without the lock. */
static void set_valid(struct jit_page *p, const u64 valid[PAGE_SIZE / 64])
{
	u64 lines = 0;
	unsigned w;

	for (w = 0; w < PAGE_SIZE / 64; w++) {
		if (p->src_valid[w] != valid[w])
			__atomic_store_n(&p->src_valid[w], valid[w], __ATOMIC_RELEASE);
		lines |= (u64) !!valid[w] << w;
	}
	__atomic_store_n(&p->lines, lines, __ATOMIC_RELEASE);
}

/* Are other blocks made from other bytes than @src has at the same place? */
static bool conflict(const struct jit_page *p, unsigned off, const u8 *src, unsigned n)
{
	unsigned k;

	if (!memcmp(p->src + off, src, n))
		return false;
	for (k = 0; k < n; k++)
		if ((p->src_valid[(off + k) / 64] >> (off + k) % 64 & 1) &&
		    p->src[off + k] != src[k])
			return true;
	return false;
}

bool jit_page_add(struct jit *j, struct jit_block *b, hva_t host, const u8 *src, u64 epoch,
		  bool *stale)
{
	struct jit_page **slot = page_slot(j, host & PAGE_MASK), *p = *slot;
	struct jit_block **h = &j->hash[jit_block_hash(host, b->plain)];
	unsigned off = host & ~PAGE_MASK;
	u64 valid[PAGE_SIZE / 64];

	*stale = p && conflict(p, off, src, b->nbytes);
	if (*stale)
		return false;
	if (!p) {
		if (j->npages == JIT_PAGES_MAX)
			return false;
		p = &j->pool[j->npages++];
		memset(p, 0, offsetof(struct jit_page, src));
		p->page = host & PAGE_MASK;
		p->epoch = epoch;
		p->next = *slot;
		*slot = p;
		if (j->npages == JIT_PAGES_MAX)
			j->full = true;
	}
	/* The page may have been compared since the bytes were read. */
	if (p->epoch > epoch)
		__atomic_store_n(&p->epoch, epoch, __ATOMIC_RELAXED);
	memcpy(p->src + off, src, b->nbytes);
	memcpy(valid, p->src_valid, sizeof(valid));
	mark(valid, off, off + b->nbytes);
	set_valid(p, valid);
	/* What is translated is not to be taken for cold soon. */
	*heat_of(j, host, b->plain) = HEAT_MAX;
	b->page = p;
	b->pnext = p->blocks;
	p->blocks = b;
	b->hva = host;
	b->hnext = *h;
	__atomic_store_n(h, b, __ATOMIC_RELEASE);
	return true;
}

/* ---- Forgetting -------------------------------------------------------------------------------
 */

/* Jumps to @b go to their stubs again. */
static void unlink_block(struct jit *j, struct jit_block *b)
{
	struct jit_link *l;

	for (l = b->in; l; l = l->in_next) {
		if (l->to != b)
			continue;
		l->to = NULL;
		__atomic_store_n((u32 *)(j->rw + l->site), 0, __ATOMIC_RELEASE);
	}
	b->in = NULL;
}

/* Out of the hash, without the jumps to it. */
static void forget(struct jit *j, struct jit_block *b)
{
	struct jit_block **h = &j->hash[jit_block_hash(b->hva, b->plain)];

	while (*h != b)
		h = &(*h)->hnext;
	__atomic_store_n(h, b->hnext, __ATOMIC_RELEASE);
	*heat_of(j, b->hva, b->plain) = 0;
	__atomic_store_n(&b->hva, 0, __ATOMIC_RELAXED);
	unlink_block(j, b);
}

void jit_block_drop(struct jit *j, struct jit_block *b)
{
	struct jit_block **at = &b->page->blocks;

	while (*at != b)
		at = &(*at)->pnext;
	*at = b->pnext;
	forget(j, b);
}

void jit_forget(struct sil_machine *m, struct sil_cpu *writer, hva_t page, unsigned from,
		unsigned to, u64 valid[PAGE_SIZE / 64])
{
	struct jit *j = m->jit;
	struct jit_block *b, **at;
	struct jit_page *p;
	unsigned off;
	bool any = false;

	memset(valid, 0, PAGE_SIZE / 8);
	pthread_mutex_lock(&j->lock);
	p = *page_slot(j, page);
	for (at = p ? &p->blocks : NULL; at && (b = *at);) {
		off = b->hva & ~PAGE_MASK;
		if (off >= to || off + b->nbytes <= from) {
			mark(valid, off, off + b->nbytes);
			at = &b->pnext;
			continue;
		}
		*at = b->pnext;
		forget(j, b);
		if (writer)
			jit_unknow(writer, b);
		any = true;
	}
	if (p)
		set_valid(p, valid);
	if (any && j->rewritten[jit_page_hash(page)] < REWRITTEN_MAX)
		j->rewritten[jit_page_hash(page)]++;
	pthread_mutex_unlock(&j->lock);
}

#else
void jit_forget(struct sil_machine *m, struct sil_cpu *writer, hva_t page, unsigned from,
		unsigned to, u64 valid[PAGE_SIZE / 64])
{
}
#endif
