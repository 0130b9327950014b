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
struct tlb;
struct tlb_bank {
	struct tlb *tlb;   /* it is in */
	struct isa_tlb rw; /* sets R and W */
	struct isa_tlbe x[ISA_TLB_SIZE];
	/* One bit per entry: in use; made from a global page. */
	u64 used[TLB_NSETS][ISA_TLB_SIZE / 64];
	u64 global[TLB_NSETS][ISA_TLB_SIZE / 64];
	struct tlb_key key;
	u64 stamp; /* last switched to; 0: never */
	/* For translated code's jump cache: generation of its entries of this bank, 0 if they are
	 * to be forgotten; which pages (by hash) it may have entries for, and whether all of them
	 * are global. */
	unsigned xgen;
	bool xlocal;
	u64 xpages[TLB_XPAGES / 64];
};

#define NESTED_TLB_SIZE 1024
struct nested_tlbe {
	u64 gpn, hpn;
	hpa_t root;
	unsigned kinds;
};

/* Write entries by what host page they lead to (hash): how many, in all banks, and the newest. */
#define TLB_WPAGES 1024
struct tlb_wpage {
	unsigned n;
	unsigned bank;
	u64 la;
};

#define TLB_NBANKS 16
struct tlb {
	struct tlb_bank bank[TLB_NBANKS];
	struct nested_tlbe nested[NESTED_TLB_SIZE];
	struct tlb_wpage wpage[TLB_WPAGES];
	struct tlb_key key;	 /* of the current context, role without USER and AC */
	struct tlb_bank *cur;	 /* c.tlb */
	struct tlb_bank *cls[4]; /* banks of the context by USER and AC; NULL: not looked up */
	u64 clock;
	/* What key was made from. */
	struct {
		u64 cr0, cr3, cr4, efer;
		struct sil_world world;
		u32 pkru, pkrs;
	} seen;
};

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

int tlb_create(struct sil_cpu *cpu); /* 0 or -ENOMEM */
void tlb_destroy(struct sil_cpu *cpu);
/* Control registers, world or CPL changed: makes the right bank current. */
void tlb_switch(struct sil_cpu *cpu);
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

	for (k = 0; k < 3; k++)
		b->xpages[tlb_xpage(la, k) / 64] |= BIT(tlb_xpage(la, k) % 64);
}

/* Host address of @la for an access @how, filling the TLB; NULL on the APIC-access page. Throws. */
void *tlb_translate(struct sil_cpu *cpu, u64 la, unsigned how);
/* Makes instructions at linear @la reachable: fetch_neg_page, fetch_addend. Throws. */
void tlb_fetch(struct sil_cpu *cpu, u64 la);
/* Host address of the instruction byte at @la without changing the fetch page. Throws. */
const u8 *tlb_fetch_ptr(struct sil_cpu *cpu, u64 la);

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
void nested_flush_gpa(struct sil_cpu *cpu, gpa_t gpa);

static inline void tlb_fetch_lost(struct sil_cpu *cpu)
{
	/* Addresses are canonical or 32-bit when they are compared: -2^62 plus such an address
	 * is never below PAGE_SIZE. */
	cpu->fetch_neg_page = 1ull << 62;
	cpu->j.xgen = 0;
}

#endif
