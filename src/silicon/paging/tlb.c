/* SPDX-License-Identifier: MIT */
/* The TLB's memory, and how entries come into it. */
#include "silicon/paging/tlb.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "silicon/interp/codepage.h"
#include "silicon/jit/door.h"

int tlb_create(struct sil_cpu *cpu)
{
	struct tlb *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned b, s, i;

	if (t == MAP_FAILED)
		return -ENOMEM;
	for (b = 0; b < TLB_NBANKS; b++)
		t->bank[b].tlb = t;
	for (b = 0; b < TLB_NBANKS; b++)
		for (s = 0; s < TLB_NSETS; s++)
			for (i = 0; i < ISA_TLB_SIZE; i++)
				tlb_set(&t->bank[b], s)[i].neg_page = ISA_TLB_INVALID(i);
	cpu->tlb = t;
	t->cur = &t->bank[0];
	cpu->c.tlb = &t->cur->rw;
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
	return 0;
}

void tlb_destroy(struct sil_cpu *cpu)
{
	if (cpu->tlb)
		munmap(cpu->tlb, sizeof(*cpu->tlb));
	cpu->tlb = NULL;
}

/* ---- Fills ------------------------------------------------------------------------------------
 */

/* Does an enabled data breakpoint touch the page of @la? */
static bool bp_on_page(const struct sil_cpu *cpu, u64 la)
{
	unsigned k;

	for (k = 0; k < 4; k++)
		if ((cpu->bp_data >> k & 1) && !((cpu->c.r.dr[k] ^ la) & PAGE_MASK))
			return true;
	return false;
}

/* The bank whose role an access @how follows; CPL 3's implicit accesses are the supervisor's. */
static struct tlb_bank *bank_for(struct sil_cpu *cpu, unsigned how)
{
	bool user = cpu->c.cpl == 3;
	struct tlb_bank *b;

	if (likely(!(how & (ISA_ACC_SYS | ISA_ACC_USER))))
		return cpu->tlb->cur;
	if (how & ISA_ACC_USER)
		b = tlb_bank_of(cpu, true, false);
	else if (user || (cpu->tlb->cur->key.role & ROLE_AC))
		b = tlb_bank_of(cpu, false, false);
	else
		return cpu->tlb->cur;
	/* Keep the bank in use the newest. */
	cpu->tlb->cur->stamp = ++cpu->tlb->clock;
	return b;
}

void *tlb_translate(struct sil_cpu *cpu, u64 la, unsigned how)
{
	struct tlb_bank *b = bank_for(cpu, how);
	enum tlb_set s = how & ISA_ACC_FETCH ? TLB_X : how & ISA_ACC_WRITE ? TLB_W : TLB_R;
	struct walk_out w;
	void *p = tlb_lookup(b, s, la);

	if (p)
		return p;
	if (s != TLB_X) {
		p = tlb_second(cpu, b, la, s == TLB_W);
		if (p)
			return p;
	}
	if (s == TLB_R)
		cpu->n.tlb_miss_read++;
	else if (s == TLB_W)
		cpu->n.tlb_miss_write++;
	else
		cpu->n.tlb_miss_fetch++;

	paging_walk(cpu, la, how, b->key.role, &w);
	if (unlikely((w.hpa & PAGE_MASK) == cpu->world.apic_page))
		return NULL;
	if (w.shift > PAGE_SHIFT)
		tlb_note_part(b, s, la, w.shift);
	if (s == TLB_X) {
		tlb_fill(b, s, la, w.hpa, w.global);
	} else if (!cpu->ac_check && !(cpu->bp_data && bp_on_page(cpu, la)) &&
		   !(s == TLB_W && code_is_page(cpu->m->code, w.hpa & PAGE_MASK))) {
		tlb_fill(b, s, la, w.hpa, w.global);
		b->small_parts |= w.shift > PAGE_SHIFT && w.nested_shift < TLB2_SHIFT;
		tlb_second_add(cpu, b, la, w.hpa, MIN(w.shift, w.nested_shift), s == TLB_W,
			       w.global);
	}
	return (void *)w.hpa;
}

void tlb_fetch(struct sil_cpu *cpu, u64 la)
{
	hva_t h = (hva_t)tlb_fetch_ptr(cpu, la);

	cpu->fetch_neg_page = -(la & PAGE_MASK);
	cpu->fetch_addend = h - la;
	cpu->fetch_global =
		cpu->tlb->cur->global[TLB_X][tlb_index(la) / 64] >> (tlb_index(la) % 64) & 1;
}

const u8 *tlb_fetch_ptr(struct sil_cpu *cpu, u64 la)
{
	void *p = tlb_lookup(cpu->tlb->cur, TLB_X, la);

	if (likely(p != NULL))
		return p;
	p = tlb_translate(cpu, la, ISA_ACC_FETCH);
	if (unlikely(!p)) {
		struct sil_access a = {
			.la = la, .offset = la & ~PAGE_MASK, .size = 1, .how = ISA_ACC_FETCH};

		cpu->m->virt->apic_access(cpu, &a, NULL);
		BUG("fetch from the APIC-access page did not exit");
	}
	code_recheck_page(cpu, (hva_t)p & PAGE_MASK);
	return p;
}
