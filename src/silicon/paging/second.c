/* SPDX-License-Identifier: MIT */
/*
 * First-level fills and the second level of the TLB. Translated code calls this with the guest's
 * vector registers in the host's: the file is compiled for general registers only, and calls
 * nothing outside of such files.
 */
#include "silicon/interp/codepage.h"
#include "silicon/paging/tlb.h"

#define LARGE_MASK (~(BIT(TLB2_SHIFT) - 1))

void tlb_fill(struct tlb_bank *b, enum tlb_set s, u64 la, hpa_t hpa, bool global)
{
	unsigned i = tlb_index(la);
	struct isa_tlbe *e = &tlb_set(b, s)[i];

	if (s == TLB_W) {
		struct tlb_wpage *w = tlb_wpage_of(b->tlb, hpa & PAGE_MASK);

		if (b->used[s][i / 64] >> (i % 64) & 1)
			tlb_wpage_of(b->tlb, e->page)->n--;
		w->n++;
		w->bank = (unsigned)(b - b->tlb->bank);
		w->la = la;
	}
	e->neg_page = -(la & PAGE_MASK);
	e->page = hpa & PAGE_MASK;
	b->used[s][i / 64] |= BIT(i % 64);
	b->used_words[s] |= 1u << i / 64;
	if (global) {
		b->global[s][i / 64] |= BIT(i % 64);
	} else {
		b->global[s][i / 64] &= ~BIT(i % 64);
		b->local_words[s] |= 1u << i / 64;
	}
}

static u64 *small(struct tlb_bank *b, u64 la)
{
	return &b->tlb->second[((la >> PAGE_SHIFT) ^ b->gen2 * 0x9e5u) & (TLB2_SIZE - 1)];
}

static u64 small_tag(const struct tlb_bank *b, u64 la)
{
	return bits_get(la, 47, 27) << 6 | b->gen2;
}
_Static_assert(TLB2_SIZE == 1 << (27 - PAGE_SHIFT) && TLB2_GENS == 1 << 6, "bits of the tag");

static bool small_fits(u64 la, hpa_t hpa)
{
	return (u64)((s64)(la << 16) >> 16) == la && !(hpa >> 47);
}

static struct tlb2_large *large(struct tlb_bank *b, u64 la)
{
	return &b->tlb->large[((la >> TLB2_SHIFT) ^ b->gen2 * 0x9e5u) & (TLB2_LARGE - 1)];
}

static void new_generation(struct tlb_bank *b)
{
	struct tlb *t = b->tlb;
	unsigned k;

	if (t->last_gen2 == TLB2_GENS - 1) {
		for (k = 0; k < TLB2_SIZE; k++)
			t->second[k] = 0;
		for (k = 0; k < TLB2_LARGE; k++)
			t->large[k].tag = 0;
		for (k = 0; k < TLB_NBANKS; k++)
			t->bank[k].gen2 = 0;
		t->last_gen2 = 0;
	}
	b->gen2 = ++t->last_gen2;
}

void tlb_second_add(struct sil_cpu *cpu, struct tlb_bank *b, u64 la, hpa_t hpa, unsigned shift,
		    bool write, bool global)
{
	u64 kind = (write ? TLB2_W : 0) | (global ? TLB2_GLOBAL : 0), page, *e;
	struct tlb2_large *l;

	if (!b->gen2)
		new_generation(b);
	/* A larger page may have neither breakpoints nor the APIC-access page in it. */
	if (shift >= TLB2_SHIFT && !cpu->bp_data &&
	    (cpu->world.apic_page & LARGE_MASK) != (hpa & LARGE_MASK)) {
		l = large(b, la);
		page = (hpa & LARGE_MASK) | kind;
		if (l->tag == ((la & LARGE_MASK) | b->gen2) && !((l->page ^ page) & LARGE_MASK))
			page |= l->page & TLB2_W;
		l->tag = (la & LARGE_MASK) | b->gen2;
		l->page = page;
	} else if (small_fits(la, hpa)) {
		e = small(b, la);
		page = small_tag(b, la) << TLB2_TAG_SHIFT | hpa >> PAGE_SHIFT << 2 | kind;
		/* A page that was written may be so still if it is read. */
		if (!((*e ^ page) & ~(u64)(TLB2_W | TLB2_GLOBAL)))
			page |= *e & TLB2_W;
		*e = page;
	}
}

void tlb_second_drop(struct tlb_bank *b, u64 la)
{
	u64 *e = small(b, la);

	if (*e >> TLB2_TAG_SHIFT == small_tag(b, la))
		*e = 0;
}

void tlb_second_drop_large(struct tlb_bank *b, u64 la)
{
	u64 la2 = la ^ BIT(TLB2_SHIFT); /* the other half of one of 4 MiB */

	if (large(b, la)->tag == ((la & LARGE_MASK) | b->gen2))
		large(b, la)->tag = 0;
	if (large(b, la2)->tag == ((la2 & LARGE_MASK) | b->gen2))
		large(b, la2)->tag = 0;
}

void *tlb_second(struct sil_cpu *cpu, struct tlb_bank *b, u64 la, bool write)
{
	struct tlb2_large *l = large(b, la);
	u64 e;
	hpa_t hpa;

	if (!b->gen2)
		return NULL;
	if (l->tag == ((la & LARGE_MASK) | b->gen2)) {
		e = l->page;
		hpa = (e & LARGE_MASK) | (la & ~LARGE_MASK);
	} else {
		e = *small(b, la);
		if (e >> TLB2_TAG_SHIFT != small_tag(b, la) || !small_fits(la, 0))
			return NULL;
		hpa = bits_get(e, TLB2_TAG_SHIFT - 1, 2) << PAGE_SHIFT | (la & ~PAGE_MASK);
	}
	/* Pages that code was made from have no write entries; what was known of others stays.
	 * A page that has just ceased to be one is for op_mem_write (after_write). */
	if (write && (!(e & TLB2_W) ||
		      __atomic_load_n(&cpu->m->code->filter[code_filter_index(hpa & PAGE_MASK)],
				      __ATOMIC_SEQ_CST) ||
		      cpu_requested(cpu, SIL_REQ_CODE)))
		return NULL;
	tlb_fill(b, write ? TLB_W : TLB_R, la, hpa, e & TLB2_GLOBAL);
	cpu->n.tlb_second++;
	return (void *)hpa;
}

void *tlb_refill_r(struct sil_cpu *cpu, u64 la)
{
	return tlb_second(cpu, cpu->tlb->cur, la, false);
}

void *tlb_refill_w(struct sil_cpu *cpu, u64 la)
{
	return tlb_second(cpu, cpu->tlb->cur, la, true);
}
