/* SPDX-License-Identifier: MIT */
/*
 * The TLB: banks of ISA_TLB_SIZE read, write and execute entries, each for one context. Switching
 * context (CPL, CR3, world) switches banks; only the architecture's flushes empty them.
 *
 * An entry is what an access under the bank's role was allowed to do, so permissions are not
 * checked again. There is no write entry for a page that code was decoded from, and neither read
 * nor write entries where accesses have to be seen: APIC-access page, data breakpoints, alignment
 * checks.
 */
#ifndef SILICON_PAGING_TLB_H
#define SILICON_PAGING_TLB_H

#include "silicon/paging/paging.h"

enum tlb_set { TLB_R, TLB_W, TLB_X, TLB_NSETS };

struct tlb_key {
	hpa_t nested_root; /* EPTRTA; 0 without nested paging */
	u32 role;	   /* ROLE_* */
	u16 vpid, pcid;
	u32 pkru, pkrs; /* 0 unless CR4 enables them */
};

#define TLB_XPAGES 16384
#define TLB_XLINE  (TLB_XPAGES / 64 / 32)
#define TLB_PARTS  4096
struct tlb;
struct tlb_bank {
	struct tlb *tlb;   /* it is in */
	struct isa_tlb rw; /* sets R and W */
	struct isa_tlbe x[ISA_TLB_SIZE];
	/* One bit per entry: in use; made from a global page. */
	u64 used[TLB_NSETS][ISA_TLB_SIZE / 64];
	u64 global[TLB_NSETS][ISA_TLB_SIZE / 64];
	/* Words of used that are not zero; that may have entries of pages that are not global. */
	u32 used_words[TLB_NSETS], local_words[TLB_NSETS];
	struct tlb_key key;
	u64 stamp; /* last switched to; 0: never */
	/* cpu->j.near while the bank is not in use. */
	struct isa_tlbe near[2][JIT_NEAR];
	u32 near_used[2];
	/* For translated code's jump cache: generation of its entries of this bank, 0 if they are
	 * to be forgotten; which pages (by hash) it may have entries for, and whether all of them
	 * are global. */
	unsigned xgen;
	u8 xmode; /* enum jit_mode that they are of */
	bool xlocal;
	u64 xpages[TLB_XPAGES / 64];
	u32 xlines; /* lines of it that are not zero, of TLB_XLINE words */
	/* Of its entries in the second level; 0: it has none. */
	unsigned gen2;
	/* By hash of 2 MiB and of 1 GiB: where entries (xparts: and jumps) may be parts of larger
	 * pages, which INVLPG drops as a whole. */
	u64 parts[TLB_PARTS / 64], xparts[TLB_PARTS / 64];
	u64 parts_1g;
	bool has_parts;	  /* these three are not zero */
	bool small_parts; /* entries of 4 KiB in the second level may be such parts */
};

/*
 * The second level, of data accesses in all banks: what a miss finds without a walk. Entries of
 * 4 KiB and of 2 MiB, the latter where guest and nested tables both have larger pages. There is no
 * emptying: a flushed bank takes a new generation.
 */
#define TLB2_SIZE   32768
#define TLB2_LARGE  1024
#define TLB2_SHIFT  21
#define TLB2_GENS   64
#define TLB2_W	    1u
#define TLB2_GLOBAL 2u
struct tlb2_large {
	u64 tag;  /* linear page, generation */
	u64 page; /* host page, TLB2_* */
};
/*
 * Of 4 KiB, eight bytes each, since what a walk through much memory waits for is the table's own
 * cache lines: bits 47:27 of the linear address and the generation, 35 bits of host page, TLB2_*.
 * Addresses beyond 48 bits, and host addresses beyond 47, are not kept.
 */
#define TLB2_TAG_SHIFT 37

#define NESTED_TLB_SIZE 1024
struct nested_tlbe {
	u64 gpn, hpn;
	hpa_t root;
	unsigned kinds;
	unsigned shift; /* of the page that the tables have */
};

/* Write entries by what host page they lead to (hash): how many, in all banks, and the newest. */
#define TLB_WPAGES 1024
struct tlb_wpage {
	unsigned n;
	unsigned bank;
	u64 la;
};

#define TLB_NBANKS 16
/* A context, by what it was made from. */
struct tlb_context {
	struct tlb_key key;	 /* role without USER and AC */
	struct tlb_bank *cls[4]; /* its banks by USER and AC; NULL: not looked up */
	struct {
		u64 cr0, cr3, cr4, efer;
		struct sil_world world;
		u32 pkru, pkrs;
	} seen;
};
/* What others that were current have left. */
#define TLB_BEFORE 16
struct tlb_before {
	struct tlb_key key;
	struct tlb_bank *cls[4];
};

struct tlb {
	struct tlb_bank bank[TLB_NBANKS];
	struct nested_tlbe nested[NESTED_TLB_SIZE];
	struct tlb_wpage wpage[TLB_WPAGES];
	u64 second[TLB2_SIZE];
	struct tlb2_large large[TLB2_LARGE];
	unsigned last_gen2;
	struct tlb_bank *cur; /* c.tlb */
	u64 clock;
	/* Two: entries and exits, and above all those of nested guests, go back and forth. */
	struct tlb_context context[2];
	unsigned current;		      /* of them */
	struct tlb_before before[TLB_BEFORE]; /* by hash */
	bool near_kept;			      /* some bank has near_used */
};

static inline struct tlb_context *tlb_context(struct tlb *t)
{
	return &t->context[t->current];
}

/* Kinds of access a guest-physical translation has been made for. */
#define KIND_R	1u
#define KIND_W	2u
#define KIND_X	4u
#define KIND_XU 8u

/* Host address of @gpa if accesses of all @kinds have been translated before; else 0. */
static inline hpa_t nested_hit(const struct sil_cpu *cpu, gpa_t gpa, unsigned kinds)
{
	const struct nested_tlbe *e =
		&cpu->tlb->nested[(gpa >> PAGE_SHIFT) & (NESTED_TLB_SIZE - 1)];

	if (likely(e->gpn == gpa >> PAGE_SHIFT && e->root == cpu->world.nested_root &&
		   !(kinds & ~e->kinds)))
		return e->hpn << PAGE_SHIFT | (gpa & ~PAGE_MASK);
	return 0;
}

/* After nested_walk: of the page it found. */
static inline u8 nested_shift(const struct sil_cpu *cpu, gpa_t gpa)
{
	return (u8)cpu->tlb->nested[(gpa >> PAGE_SHIFT) & (NESTED_TLB_SIZE - 1)].shift;
}

static inline unsigned tlb_index(u64 la)
{
	return (la >> PAGE_SHIFT) & (ISA_TLB_SIZE - 1);
}

static inline struct isa_tlbe *tlb_set(struct tlb_bank *b, enum tlb_set s)
{
	return s == TLB_R ? b->rw.r : s == TLB_W ? b->rw.w : b->x;
}

static inline struct tlb_wpage *tlb_wpage_of(struct tlb *t, hva_t page)
{
	return &t->wpage[(page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 54];
}
_Static_assert(TLB_WPAGES == 1 << (64 - 54), "the shift above");

/* Host address of @la if the set has it; else NULL. */
static inline void *tlb_lookup(struct tlb_bank *b, enum tlb_set s, u64 la)
{
	const struct isa_tlbe *e = &tlb_set(b, s)[tlb_index(la)];
	u64 offset = la + e->neg_page;

	return offset < PAGE_SIZE ? (void *)(offset + e->page) : NULL;
}

#define tlb_for_each_bank(cpu, b)                                                \
	for ((b) = (cpu)->tlb->bank; (b) < (cpu)->tlb->bank + TLB_NBANKS; (b)++) \
		if ((b)->stamp)

int tlb_create(struct sil_cpu *cpu); /* 0 or -ENOMEM */
void tlb_destroy(struct sil_cpu *cpu);
static inline u32 tlb_cur_role(const struct sil_cpu *cpu)
{
	return cpu->tlb->cur->key.role;
}

/* Bits of a page in xpages: the set has some hundred pages, and a mistake costs the bank's whole
 * generation, so there are three. */
static inline unsigned tlb_xpage(u64 la, unsigned k)
{
	return (la >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> (22 + 14 * k) & (TLB_XPAGES - 1);
}

static inline void tlb_xpage_add(struct tlb_bank *b, u64 la)
{
	unsigned k;

	for (k = 0; k < 3; k++) {
		unsigned w = tlb_xpage(la, k) / 64;

		b->xpages[w] |= BIT(tlb_xpage(la, k) % 64);
		b->xlines |= 1u << w / TLB_XLINE;
	}
}

static inline void tlb_xpages_clear(struct tlb_bank *b)
{
	unsigned k;
	u64 *p;

	for (; b->xlines; b->xlines &= b->xlines - 1) {
		p = b->xpages + (unsigned)__builtin_ctz(b->xlines) * TLB_XLINE;
		for (k = 0; k < TLB_XLINE; k++)
			p[k] = 0;
	}
}

/* Host address of @la for an access @how, filling the TLB; NULL on the APIC-access page. Throws. */
void *tlb_translate(struct sil_cpu *cpu, u64 la, unsigned how);
/* Makes instructions at linear @la reachable: fetch_neg_page, fetch_addend. Throws. */
void tlb_fetch(struct sil_cpu *cpu, u64 la);
/* Host address of the instruction byte at @la without changing the fetch page. Throws. */
const u8 *tlb_fetch_ptr(struct sil_cpu *cpu, u64 la);

void nested_flush_gpa(struct sil_cpu *cpu, gpa_t gpa);

/* ---- bank.c, flush.c, second.c: compiled to use general registers only, since translated code
 * calls them without giving its vector registers back ---- */

/* Control registers, world or CPL changed: makes the right bank current. */
void tlb_switch(struct sil_cpu *cpu);
/* CR3 becomes @val, which has been checked; @keep: its PCID's translations stay. */
void tlb_load_cr3(struct sil_cpu *cpu, u64 val, bool keep);
/* The current context's bank for CPL 3 or not and EFLAGS.AC overriding SMAP or not. */
struct tlb_bank *tlb_bank_of(struct sil_cpu *cpu, bool user, bool ac);

void tlb_empty(struct tlb_bank *b, bool keep_global);
/* An entry for @la is made, of a page of 1 << @shift bytes. */
void tlb_note_part(struct tlb_bank *b, enum tlb_set s, u64 la, unsigned shift);
/* Drops @la from every bank of the current VPID and PCID (a #PF or violation at it). */
void tlb_drop_la(struct sil_cpu *cpu, u64 la);
/* Drops write entries that lead to the host page @page, from all banks. */
void tlb_drop_writes(struct sil_cpu *cpu, hva_t page);
void tlb_drop_all_writes(struct sil_cpu *cpu);
/* Drops all execute entries: fetches look at the page again. */
void tlb_drop_exec(struct sil_cpu *cpu);
/* Drops all read and write entries (breakpoints changed). */
void tlb_drop_data(struct sil_cpu *cpu);
/* INVLPG, and INVPCID of one address. */
void tlb_invlpg(struct sil_cpu *cpu, u64 la);
void tlb_flush_pcid_page(struct sil_cpu *cpu, u16 pcid, u64 la, bool keep_global);

/* First-level entry of @b. */
void tlb_fill(struct tlb_bank *b, enum tlb_set s, u64 la, hpa_t hpa, bool global);
/* A read or write of @la was translated to @hpa, in a page of 1 << @shift bytes. */
void tlb_second_add(struct sil_cpu *cpu, struct tlb_bank *b, u64 la, hpa_t hpa, unsigned shift,
		    bool write, bool global);
void tlb_second_drop(struct tlb_bank *b, u64 la);
void tlb_second_drop_large(struct tlb_bank *b, u64 la);
/* Host address of @la if the second level knows it; it is in the first level then. Else NULL. */
void *tlb_second(struct sil_cpu *cpu, struct tlb_bank *b, u64 la, bool write);
/* The same in the bank in use. For translated code. */
void *tlb_refill_r(struct sil_cpu *cpu, u64 la);
void *tlb_refill_w(struct sil_cpu *cpu, u64 la);

static inline void tlb_near_empty(struct sil_cpu *cpu, unsigned w, u32 bits)
{
	for (; bits; bits &= bits - 1)
		cpu->j.near[w][__builtin_ctz(bits)] =
			(struct isa_tlbe){.neg_page = JIT_NEAR_EMPTY, .page = cpu->j.nowhere};
}

/* Something happens to data entries. */
static inline void tlb_near_lost(struct sil_cpu *cpu)
{
	struct tlb *t = cpu->tlb;
	unsigned k;

	tlb_near_empty(cpu, 0, cpu->j.near_used[0]);
	tlb_near_empty(cpu, 1, cpu->j.near_used[1]);
	cpu->j.near_used[0] = cpu->j.near_used[1] = 0;
	if (!t->near_kept)
		return;
	t->near_kept = false;
	for (k = 0; k < TLB_NBANKS; k++)
		t->bank[k].near_used[0] = t->bank[k].near_used[1] = 0;
}

/*
 * @from is no longer in use, @to will be. CPL 3's pages are kept for it; what kernels access seldom
 * is the same again, and would cost more than it saves.
 */
static inline void tlb_near_switch(struct sil_cpu *cpu, struct tlb_bank *from, struct tlb_bank *to)
{
	bool keep = from->key.role & ROLE_USER;
	unsigned w, k;
	u32 bits;

	cpu->tlb->near_kept |= keep;
	for (w = 0; w < 2; w++) {
		u32 used = cpu->j.near_used[w];

		if (keep) {
			from->near_used[w] = used;
			for (bits = used; bits; bits &= bits - 1) {
				k = (unsigned)__builtin_ctz(bits);
				from->near[w][k] = cpu->j.near[w][k];
			}
		}
		tlb_near_empty(cpu, w, used & ~to->near_used[w]);
		for (bits = to->near_used[w]; bits; bits &= bits - 1) {
			k = (unsigned)__builtin_ctz(bits);
			cpu->j.near[w][k] = to->near[w][k];
		}
		cpu->j.near_used[w] = to->near_used[w];
	}
}

static inline void tlb_fetch_lost(struct sil_cpu *cpu)
{
	/* Addresses are canonical or 32-bit when they are compared: -2^62 plus such an address
	 * is never below PAGE_SIZE. */
	cpu->fetch_neg_page = 1ull << 62;
	cpu->j.xgen = 0;
}

/* A bank of the context (struct tlb_context) comes into use, for a CPL and EFLAGS.AC that the
 * caller sets. */
static inline void tlb_use(struct sil_cpu *cpu, struct tlb_bank *b)
{
	struct tlb *t = cpu->tlb;

	b->stamp = ++t->clock;
	if (b == t->cur)
		return;
	tlb_near_switch(cpu, t->cur, b);
	t->cur = b;
	cpu->c.tlb = &b->rw;
	tlb_fetch_lost(cpu);
}

#endif
