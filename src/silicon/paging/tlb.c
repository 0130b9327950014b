/* SPDX-License-Identifier: MIT */
/* TLB banks: choice of the current one, fills, and the architecture's flushes. */
#include "silicon/paging/tlb.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "silicon/interp/codepage.h"
#include "silicon/jit/door.h"

static struct isa_tlbe *set_of(struct tlb_bank *b, enum tlb_set s)
{
	return s == TLB_R ? b->rw.r : s == TLB_W ? b->rw.w : b->x;
}

static unsigned index_of(u64 la)
{
	return (la >> PAGE_SHIFT) & (ISA_TLB_SIZE - 1);
}

/* ---- Entries ----------------------------------------------------------------------------------
 */

static struct tlb_wpage *wpage_of(struct tlb *t, hva_t page)
{
	return &t->wpage[(page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 54];
}
_Static_assert(TLB_WPAGES == 1 << (64 - 54), "the shift above");

static bool used(const struct tlb_bank *b, enum tlb_set s, unsigned i)
{
	return b->used[s][i / 64] >> (i % 64) & 1;
}

static void drop(struct tlb_bank *b, enum tlb_set s, unsigned i)
{
	struct isa_tlbe *e = &set_of(b, s)[i];

	if (s == TLB_W && used(b, s, i))
		wpage_of(b->tlb, e->page)->n--;
	e->neg_page = ISA_TLB_INVALID(i);
	e->page = 0;
	b->used[s][i / 64] &= ~BIT(i % 64);
	b->global[s][i / 64] &= ~BIT(i % 64);
}

static void fill(struct tlb_bank *b, enum tlb_set s, u64 la, hpa_t hpa, bool global)
{
	unsigned i = index_of(la);
	struct isa_tlbe *e = &set_of(b, s)[i];

	if (s == TLB_W) {
		struct tlb_wpage *w = wpage_of(b->tlb, hpa & PAGE_MASK);

		if (used(b, s, i))
			wpage_of(b->tlb, e->page)->n--;
		*w = (struct tlb_wpage){
			.n = w->n + 1, .bank = (unsigned)(b - b->tlb->bank), .la = la};
	}
	e->neg_page = -(la & PAGE_MASK);
	e->page = hpa & PAGE_MASK;
	b->used[s][i / 64] |= BIT(i % 64);
	if (global)
		b->global[s][i / 64] |= BIT(i % 64);
	else
		b->global[s][i / 64] &= ~BIT(i % 64);
}

static void *lookup(struct tlb_bank *b, enum tlb_set s, u64 la)
{
	struct isa_tlbe *e = &set_of(b, s)[index_of(la)];

	u64 offset = la + e->neg_page;

	return offset < PAGE_SIZE ? (void *)(offset + e->page) : NULL;
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
	unsigned w;

	if (s == TLB_X && !(keep_global && !b->xlocal))
		b->xgen = 0;

	for (w = 0; w < ISA_TLB_SIZE / 64; w++) {
		u64 bits = b->used[s][w] & ~(keep_global ? b->global[s][w] : 0);

		for (; bits; bits &= bits - 1)
			drop(b, s, w * 64 + (unsigned)__builtin_ctzll(bits));
	}
}

static void empty(struct tlb_bank *b, bool keep_global)
{
	empty_set(b, TLB_R, keep_global);
	empty_set(b, TLB_W, keep_global);
	empty_set(b, TLB_X, keep_global);
}

static void drop_page(struct tlb_bank *b, u64 la, bool keep_global)
{
	unsigned i = index_of(la), s;

	if (xpage_known(b, la) && !(keep_global && !b->xlocal))
		b->xgen = 0;
	for (s = 0; s < TLB_NSETS; s++)
		if (lookup(b, s, la) && !(keep_global && (b->global[s][i / 64] >> (i % 64) & 1)))
			drop(b, s, i);
}

/* ---- Banks ------------------------------------------------------------------------------------
 */

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
				drop(&t->bank[b], s, i);
	cpu->tlb = t;
	t->cur = &t->bank[0];
	cpu->c.tlb = &t->cur->rw;
	tlb_fetch_lost(cpu);
	return 0;
}

void tlb_destroy(struct sil_cpu *cpu)
{
	if (cpu->tlb)
		munmap(cpu->tlb, sizeof(*cpu->tlb));
	cpu->tlb = NULL;
}

static bool key_equal(const struct tlb_key *a, const struct tlb_key *b)
{
	return a->nested_root == b->nested_root && a->role == b->role && a->vpid == b->vpid &&
	       a->pcid == b->pcid && a->pkru == b->pkru && a->pkrs == b->pkrs;
}

static struct tlb_bank *bank_find(struct sil_cpu *cpu, const struct tlb_key *key)
{
	struct tlb_bank *b, *oldest = NULL;
	unsigned k;

	cpu->n.bank_switch++;
	for (k = 0; k < TLB_NBANKS; k++) {
		b = &cpu->tlb->bank[k];
		if (b->stamp && key_equal(&b->key, key))
			return b;
		/* The bank in use has the newest stamp: it is never the oldest of several. */
		if (!oldest || b->stamp < oldest->stamp)
			oldest = b;
	}
	if (oldest->stamp) {
		cpu->n.bank_miss++;
		empty(oldest, false);
		for (k = 0; k < ARRAY_SIZE(cpu->tlb->cls); k++)
			if (cpu->tlb->cls[k] == oldest)
				cpu->tlb->cls[k] = NULL;
	}
	oldest->key = *key;
	return oldest;
}

static enum pg_format format_of(const struct isa_sys *s)
{
	if (!(s->cr0 & CR0_PG))
		return PG_NONE;
	if (s->efer & EFER_LMA)
		return s->cr4 & CR4_LA57 ? PG_5L : PG_4L;
	return s->cr4 & CR4_PAE ? PG_PAE : PG_32;
}

static void key_of(const struct sil_cpu *cpu, struct tlb_key *key)
{
	const struct isa_sys *s = &cpu->c.s;
	u64 cr4 = s->cr4;
	u32 role = format_of(s);

	if (role == PG_NONE) {
		role = PG_NONE;
	} else {
		role |= (s->cr0 & CR0_WP ? ROLE_WP : 0) | (s->efer & EFER_NXE ? ROLE_NXE : 0) |
			(cr4 & CR4_SMEP ? ROLE_SMEP : 0) | (cr4 & CR4_SMAP ? ROLE_SMAP : 0) |
			(cr4 & CR4_PSE ? ROLE_PSE : 0) | (cr4 & CR4_PGE ? ROLE_PGE : 0);
		if (s->efer & EFER_LMA)
			role |= (cr4 & CR4_PKE ? ROLE_PKE : 0) | (cr4 & CR4_PKS ? ROLE_PKS : 0);
		if ((role & ROLE_FORMAT) == PG_32)
			role &= ~(u32)ROLE_NXE;
	}
	if (cpu->world.nested != SIL_NESTED_NONE)
		role |= ROLE_NESTED;
	memset(key, 0, sizeof(*key));
	key->role = role;
	key->nested_root = cpu->world.nested != SIL_NESTED_NONE ? cpu->world.nested_root : 0;
	key->vpid = cpu->world.vpid;
	key->pcid = cr4 & CR4_PCIDE ? s->cr3 & 0xfff : 0;
	key->pkru = role & ROLE_PKE ? cpu->c.r.pkru : 0;
	key->pkrs = role & ROLE_PKS ? cpu->pkrs : 0;
}

/* The current context's bank for CPL 3 or not and EFLAGS.AC overriding SMAP or not. */
static struct tlb_bank *bank_of(struct sil_cpu *cpu, bool user, bool ac)
{
	struct tlb *t = cpu->tlb;
	struct tlb_bank **slot = &t->cls[user + 2 * ac];

	if (!*slot) {
		struct tlb_key key = t->key;

		key.role |= (user ? ROLE_USER : 0) | (ac ? ROLE_AC : 0);
		*slot = bank_find(cpu, &key);
	}
	(*slot)->stamp = ++t->clock;
	return *slot;
}

/* Most switches are of CPL or AC only. */
static bool inputs_changed(struct sil_cpu *cpu)
{
	const struct isa_sys *s = &cpu->c.s;
	const struct sil_world *w = &cpu->world;
	struct tlb *t = cpu->tlb;

	if (t->seen.cr0 == s->cr0 && t->seen.cr3 == s->cr3 && t->seen.cr4 == s->cr4 &&
	    t->seen.efer == s->efer && t->seen.pkru == cpu->c.r.pkru && t->seen.pkrs == cpu->pkrs &&
	    t->seen.world.nested_root == w->nested_root && t->seen.world.vpid == w->vpid &&
	    t->seen.world.nested == w->nested)
		return false;
	t->seen.cr0 = s->cr0;
	t->seen.cr3 = s->cr3;
	t->seen.cr4 = s->cr4;
	t->seen.efer = s->efer;
	t->seen.pkru = cpu->c.r.pkru;
	t->seen.pkrs = cpu->pkrs;
	t->seen.world = *w;
	return true;
}

void tlb_switch(struct sil_cpu *cpu)
{
	struct tlb *t = cpu->tlb;
	bool user = cpu->c.cpl == 3;
	/* With alignment checks on, CPL 3 has a bank that stays empty. */
	bool ac = user ? cpu->ac_check : (cpu->c.s.rflags & X86_AC) && (cpu->c.s.cr4 & CR4_SMAP);
	struct tlb_bank *b;
	struct tlb_key key;

	if (unlikely(inputs_changed(cpu))) {
		key_of(cpu, &key);
		if (!key_equal(&key, &t->key)) {
			t->key = key;
			memset(t->cls, 0, sizeof(t->cls));
		}
	}
	b = bank_of(cpu, user, ac);
	if (b == t->cur)
		return;
	t->cur = b;
	cpu->c.tlb = &b->rw;
	tlb_fetch_lost(cpu);
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
		b = bank_of(cpu, true, false);
	else if (user || (cpu->tlb->cur->key.role & ROLE_AC))
		b = bank_of(cpu, false, false);
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
	void *p = lookup(b, s, la);

	if (p)
		return p;
	if (s == TLB_R)
		cpu->n.tlb_miss_read++;
	else if (s == TLB_W)
		cpu->n.tlb_miss_write++;
	else
		cpu->n.tlb_miss_fetch++;

	paging_walk(cpu, la, how, b->key.role, &w);
	if (unlikely((w.hpa & PAGE_MASK) == cpu->world.apic_page))
		return NULL;
	if (s == TLB_X) {
		fill(b, s, la, w.hpa, w.global);
	} else if (!cpu->ac_check && !(cpu->bp_data && bp_on_page(cpu, la)) &&
		   !(s == TLB_W && code_is_page(cpu->m->code, w.hpa & PAGE_MASK))) {
		fill(b, s, la, w.hpa, w.global);
	}
	return (void *)w.hpa;
}

void tlb_fetch(struct sil_cpu *cpu, u64 la)
{
	hva_t h = (hva_t)tlb_fetch_ptr(cpu, la);

	cpu->fetch_neg_page = -(la & PAGE_MASK);
	cpu->fetch_addend = h - la;
	cpu->fetch_global =
		cpu->tlb->cur->global[TLB_X][index_of(la) / 64] >> (index_of(la) % 64) & 1;
}

const u8 *tlb_fetch_ptr(struct sil_cpu *cpu, u64 la)
{
	void *p = lookup(cpu->tlb->cur, TLB_X, la);

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
	if (cpu->m->jit)
		jit_recheck_page(cpu, (hva_t)p & PAGE_MASK);
	return p;
}

/* ---- Flushes ----------------------------------------------------------------------------------
 */

#define for_each_bank(cpu, b)                                                    \
	for ((b) = (cpu)->tlb->bank; (b) < (cpu)->tlb->bank + TLB_NBANKS; (b)++) \
		if ((b)->stamp)

void tlb_flush_all(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	cpu->n.flush_all++;
	for_each_bank(cpu, b) empty(b, false);
	nested_flush(cpu, 0);
	tlb_fetch_lost(cpu);
}

void tlb_flush_vpids(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	cpu->n.flush_all++;
	for_each_bank(cpu, b) empty(b, false);
	tlb_fetch_lost(cpu);
}

void tlb_flush_vpid(struct sil_cpu *cpu, u16 vpid, bool keep_global)
{
	struct tlb_bank *b;

	cpu->n.flush_context++;
	for_each_bank(cpu, b) if (b->key.vpid == vpid) empty(b, keep_global);
	tlb_fetch_lost(cpu);
}

void tlb_flush_nested(struct sil_cpu *cpu, hpa_t root)
{
	struct tlb_bank *b;

	cpu->n.flush_context++;
	for_each_bank(cpu, b) if ((b->key.role & ROLE_NESTED) && b->key.nested_root == root)
		empty(b, false);
	nested_flush(cpu, root);
	tlb_fetch_lost(cpu);
}

void tlb_flush_page(struct sil_cpu *cpu, u16 vpid, u64 la)
{
	struct tlb_bank *b;

	cpu->n.flush_page++;
	for_each_bank(cpu, b) if (b->key.vpid == vpid) drop_page(b, la, false);
	tlb_fetch_lost(cpu);
}

void tlb_flush_pcid(struct sil_cpu *cpu, u16 pcid, bool keep_global)
{
	struct tlb_bank *b;

	cpu->n.flush_context++;
	for_each_bank(cpu, b) if (b->key.vpid == cpu->world.vpid && b->key.pcid == pcid)
		empty(b, keep_global);
	tlb_fetch_lost(cpu);
}

void tlb_flush_pcid_page(struct sil_cpu *cpu, u16 pcid, u64 la, bool keep_global)
{
	struct tlb_bank *b;

	cpu->n.flush_page++;
	for_each_bank(cpu, b) if (b->key.vpid == cpu->world.vpid && b->key.pcid == pcid)
		drop_page(b, la, keep_global);
	tlb_fetch_lost(cpu);
}

/* INVLPG: the page in the current PCID, and global translations of it in any. */
void tlb_invlpg(struct sil_cpu *cpu, u64 la)
{
	struct tlb_bank *b;

	cpu->n.flush_page++;
	for_each_bank(cpu, b)
	{
		unsigned i = index_of(la), s;

		if (b->key.vpid != cpu->world.vpid)
			continue;
		if (b->key.pcid == cpu->tlb->key.pcid) {
			drop_page(b, la, false);
			continue;
		}
		if (xpage_known(b, la))
			b->xgen = 0;
		for (s = 0; s < TLB_NSETS; s++)
			if (lookup(b, s, la) && (b->global[s][i / 64] >> (i % 64) & 1))
				drop(b, s, i);
	}
	tlb_fetch_lost(cpu);
}

void tlb_drop_la(struct sil_cpu *cpu, u64 la)
{
	struct tlb_bank *b;

	for_each_bank(cpu, b) if (b->key.vpid == cpu->world.vpid &&
				  b->key.pcid == cpu->tlb->key.pcid) drop_page(b, la, false);
	tlb_fetch_lost(cpu);
}

static void drop_writes(struct tlb_bank *b, hva_t page)
{
	unsigned w;

	for (w = 0; w < ISA_TLB_SIZE / 64; w++) {
		u64 bits = b->used[TLB_W][w];

		for (; bits; bits &= bits - 1) {
			unsigned i = w * 64 + (unsigned)__builtin_ctzll(bits);
			const struct isa_tlbe *e = &b->rw.w[i];

			if (e->page == page)
				drop(b, TLB_W, i);
		}
	}
}

void tlb_drop_writes(struct sil_cpu *cpu, hva_t page)
{
	struct tlb_wpage *w = wpage_of(cpu->tlb, page);
	struct tlb_bank *b = &cpu->tlb->bank[w->bank];

	/* Most pages have one entry or none. */
	if (w->n && used(b, TLB_W, index_of(w->la)) && b->rw.w[index_of(w->la)].page == page)
		drop(b, TLB_W, index_of(w->la));
	if (!w->n)
		return;
	for_each_bank(cpu, b) drop_writes(b, page);
}

void tlb_drop_all_writes(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	for_each_bank(cpu, b) empty_set(b, TLB_W, false);
}

void tlb_drop_exec(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	for_each_bank(cpu, b) empty_set(b, TLB_X, false);
	tlb_fetch_lost(cpu);
}

void tlb_drop_data(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	for_each_bank(cpu, b)
	{
		empty_set(b, TLB_R, false);
		empty_set(b, TLB_W, false);
	}
}
