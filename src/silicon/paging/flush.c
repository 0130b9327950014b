/* SPDX-License-Identifier: MIT */
/*
 * What is dropped from banks: the architecture's flushes, and what the engine itself takes back.
 * Translated code calls this with the guest's vector registers in the host's: the file is compiled
 * for general registers only, and calls nothing outside of such files.
 */
#include "silicon/paging/tlb.h"

/* ---- Entries ----------------------------------------------------------------------------------
 */

static bool used(const struct tlb_bank *b, enum tlb_set s, unsigned i)
{
	return b->used[s][i / 64] >> (i % 64) & 1;
}

static void drop(struct tlb_bank *b, enum tlb_set s, unsigned i)
{
	struct isa_tlbe *e = &tlb_set(b, s)[i];

	if (s == TLB_W && used(b, s, i))
		tlb_wpage_of(b->tlb, e->page)->n--;
	e->neg_page = ISA_TLB_INVALID(i);
	e->page = 0;
	b->used[s][i / 64] &= ~BIT(i % 64);
	b->global[s][i / 64] &= ~BIT(i % 64);
}

static bool xpage_known(const struct tlb_bank *b, u64 la)
{
	unsigned k;

	for (k = 0; k < 3; k++)
		if (!(b->xpages[tlb_xpage(la, k) / 64] >> (tlb_xpage(la, k) % 64) & 1))
			return false;
	return true;
}

static void empty_set(struct tlb_bank *b, enum tlb_set s, bool keep_global)
{
	u32 words = keep_global ? b->local_words[s] : b->used_words[s];

	if (s == TLB_X && !(keep_global && !b->xlocal))
		b->xgen = 0;
	if (s != TLB_X)
		b->gen2 = 0;

	for (; words; words &= words - 1) {
		unsigned w = (unsigned)__builtin_ctz(words);
		u64 bits = b->used[s][w] & ~(keep_global ? b->global[s][w] : 0);

		for (; bits; bits &= bits - 1)
			drop(b, s, w * 64 + (unsigned)__builtin_ctzll(bits));
	}
	b->local_words[s] = 0;
	if (!keep_global)
		b->used_words[s] = 0;
}

void tlb_empty(struct tlb_bank *b, bool keep_global)
{
	unsigned k;

	empty_set(b, TLB_R, keep_global);
	empty_set(b, TLB_W, keep_global);
	empty_set(b, TLB_X, keep_global);
	if (keep_global || !b->has_parts)
		return;
	for (k = 0; k < TLB_PARTS / 64; k++)
		b->parts[k] = b->xparts[k] = 0;
	b->has_parts = b->small_parts = false;
	b->parts_1g = 0;
}

/* ---- Parts of larger pages: a flush of any address in such a page is one of all its parts.
 * -------
 */

static unsigned part_of(u64 la)
{
	return (la >> TLB2_SHIFT) * 0x9e3779b97f4a7c15ull >> 52;
}
_Static_assert(TLB_PARTS == 1 << (64 - 52), "the shift above");

static u64 part_1g(u64 la)
{
	return BIT((la >> 30) * 0x9e3779b97f4a7c15ull >> 58);
}

void tlb_note_part(struct tlb_bank *b, enum tlb_set s, u64 la, unsigned shift)
{
	u64 *parts = s == TLB_X ? b->xparts : b->parts;

	b->has_parts = true;
	if (shift >= 30) {
		b->parts_1g |= part_1g(la);
		return;
	}
	parts[part_of(la) / 64] |= BIT(part_of(la) % 64);
	if (shift > TLB2_SHIFT)
		parts[part_of(la ^ BIT(21)) / 64] |= BIT(part_of(la ^ BIT(21)) % 64);
}

typedef bool entry_fn(const struct isa_tlbe *e, u64 of);

/* The entries for which @match says so. */
static __always_inline_ void drop_where(struct tlb_bank *b, enum tlb_set s, entry_fn *match, u64 of)
{
	u32 words = b->used_words[s];

	for (; words; words &= words - 1) {
		unsigned w = (unsigned)__builtin_ctz(words);
		u64 bits = b->used[s][w];

		for (; bits; bits &= bits - 1) {
			unsigned i = w * 64 + (unsigned)__builtin_ctzll(bits);

			if (match(&tlb_set(b, s)[i], of))
				drop(b, s, i);
		}
	}
}

/* 4 MiB, in which all of a page of 2 or 4 MiB is. */
static bool in_region(const struct isa_tlbe *e, u64 la)
{
	return !((-e->neg_page ^ la) >> 22);
}

static void drop_region(struct tlb_bank *b, enum tlb_set s, u64 la)
{
	drop_where(b, s, in_region, la);
}

static bool has_part(const u64 *parts, u64 la)
{
	return parts[part_of(la) / 64] >> (part_of(la) % 64) & 1;
}

static void drop_parts(struct tlb_bank *b, u64 la)
{
	if (unlikely(b->parts_1g & part_1g(la))) {
		tlb_empty(b, false);
		return;
	}
	if (unlikely(has_part(b->parts, la))) {
		drop_region(b, TLB_R, la);
		drop_region(b, TLB_W, la);
		tlb_second_drop_large(b, la);
		if (b->small_parts)
			b->gen2 = 0;
	}
	if (unlikely(has_part(b->xparts, la))) {
		drop_region(b, TLB_X, la);
		b->xgen = 0;
	}
}

static void drop_page(struct tlb_bank *b, u64 la, bool keep_global)
{
	unsigned i = tlb_index(la), s;

	tlb_second_drop(b, la);
	drop_parts(b, la);
	if (xpage_known(b, la) && !(keep_global && !b->xlocal))
		b->xgen = 0;
	for (s = 0; s < TLB_NSETS; s++)
		if (tlb_lookup(b, s, la) &&
		    !(keep_global && (b->global[s][i / 64] >> (i % 64) & 1)))
			drop(b, s, i);
}

/* ---- Flushes ----------------------------------------------------------------------------------
 */

void tlb_flush_vpids(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	cpu->n.flush_all++;
	tlb_for_each_bank(cpu, b) tlb_empty(b, false);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_flush_vpid(struct sil_cpu *cpu, u16 vpid, bool keep_global)
{
	struct tlb_bank *b;

	cpu->n.flush_context++;
	tlb_for_each_bank(cpu, b) if (b->key.vpid == vpid) tlb_empty(b, keep_global);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_flush_page(struct sil_cpu *cpu, u16 vpid, u64 la)
{
	struct tlb_bank *b;

	cpu->n.flush_page++;
	tlb_for_each_bank(cpu, b) if (b->key.vpid == vpid) drop_page(b, la, false);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_flush_pcid(struct sil_cpu *cpu, u16 pcid, bool keep_global)
{
	struct tlb_bank *b;

	cpu->n.flush_context++;
	tlb_for_each_bank(cpu, b) if (b->key.vpid == cpu->world.vpid && b->key.pcid == pcid)
		tlb_empty(b, keep_global);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_flush_pcid_page(struct sil_cpu *cpu, u16 pcid, u64 la, bool keep_global)
{
	struct tlb_bank *b;

	cpu->n.flush_page++;
	tlb_for_each_bank(cpu, b) if (b->key.vpid == cpu->world.vpid && b->key.pcid == pcid)
		drop_page(b, la, keep_global);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

static bool knows_nothing(const struct tlb_bank *b)
{
	return !(b->used_words[TLB_R] | b->used_words[TLB_W] | b->used_words[TLB_X] | b->gen2 |
		 b->xgen);
}

/* INVLPG: the page in the current PCID, and global translations of it in any. */
void tlb_invlpg(struct sil_cpu *cpu, u64 la)
{
	struct tlb_bank *b;

	cpu->n.flush_page++;
	tlb_for_each_bank(cpu, b)
	{
		unsigned i = tlb_index(la), s;

		if (b->key.vpid != cpu->world.vpid || knows_nothing(b))
			continue;
		if (b->key.pcid == tlb_context(cpu->tlb)->key.pcid) {
			drop_page(b, la, false);
			continue;
		}
		tlb_second_drop(b, la);
		drop_parts(b, la);
		if (xpage_known(b, la))
			b->xgen = 0;
		for (s = 0; s < TLB_NSETS; s++)
			if (tlb_lookup(b, s, la) && (b->global[s][i / 64] >> (i % 64) & 1))
				drop(b, s, i);
	}
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_drop_la(struct sil_cpu *cpu, u64 la)
{
	struct tlb_bank *b;

	tlb_for_each_bank(cpu, b) if (b->key.vpid == cpu->world.vpid &&
				      b->key.pcid == tlb_context(cpu->tlb)->key.pcid)
		drop_page(b, la, false);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

static bool leads_to(const struct isa_tlbe *e, u64 page)
{
	return e->page == page;
}

static void drop_writes(struct tlb_bank *b, hva_t page)
{
	drop_where(b, TLB_W, leads_to, page);
}

void tlb_drop_writes(struct sil_cpu *cpu, hva_t page)
{
	struct tlb_wpage *w = tlb_wpage_of(cpu->tlb, page);
	struct tlb_bank *b = &cpu->tlb->bank[w->bank];

	tlb_near_lost(cpu);

	/* Most pages have one entry or none. */
	if (w->n && used(b, TLB_W, tlb_index(w->la)) && b->rw.w[tlb_index(w->la)].page == page)
		drop(b, TLB_W, tlb_index(w->la));
	if (!w->n)
		return;
	tlb_for_each_bank(cpu, b) drop_writes(b, page);
}

void tlb_drop_all_writes(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	tlb_near_lost(cpu);
	tlb_for_each_bank(cpu, b) empty_set(b, TLB_W, false);
}

void tlb_drop_exec(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	tlb_for_each_bank(cpu, b) empty_set(b, TLB_X, false);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_drop_data(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	tlb_near_lost(cpu);
	tlb_for_each_bank(cpu, b)
	{
		empty_set(b, TLB_R, false);
		empty_set(b, TLB_W, false);
	}
}
