/* SPDX-License-Identifier: MIT */
/*
 * Shadow pages: memory for tables, the hash by frame and role, links between pages, and their end.
 * Everything here runs under mmu_lock.
 *
 * A page that is zapped leaves the tables at once, but a processor may be in the middle of a walk
 * through it or hold translations made from it. So it goes to the list of the dead, and its memory
 * is used again only after page_commit has seen every processor out of the guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"

#define CHUNK_SIZE  (2ul << 20)
#define CHUNK_PAGES (CHUNK_SIZE / PAGE_SIZE)

/* Tables come from aligned chunks whose first page tells what the others are. */
struct page_chunk {
	struct mmu_page *owner[CHUNK_PAGES - 2]; /* of page i + 1 */
	struct page_chunk *next;
	u32 nfree;
	u32 hint;
};
_Static_assert(sizeof(struct page_chunk) == PAGE_SIZE, "one page");
_Static_assert(CHUNK_PAGES == 512, "owner[] has an entry for all but two pages");

struct mmu_page *hpa_page(hpa_t table)
{
	struct page_chunk *c = (struct page_chunk *)(table & ~(CHUNK_SIZE - 1));

	return c->owner[((table & (CHUNK_SIZE - 1)) >> PAGE_SHIFT) - 1];
}

/* PAE tables must be below 4 GiB: CR3 has 32 bits outside long mode. */
static struct page_chunk *chunk_new(bool low)
{
	size_t len = 2 * CHUNK_SIZE;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (low ? MAP_32BIT : 0), -1, 0);
	char *a;
	struct page_chunk *c;

	if (p == MAP_FAILED)
		return NULL;
	a = (char *)(((u64)p + CHUNK_SIZE - 1) & ~(CHUNK_SIZE - 1));
	if (a > p)
		munmap(p, a - p);
	munmap(a + CHUNK_SIZE, p + len - (a + CHUNK_SIZE));
	c = (struct page_chunk *)a;
	c->nfree = ARRAY_SIZE(c->owner);
	return c;
}

static u64 *table_alloc(struct mmu_vm *m, struct mmu_page *owner, bool low)
{
	struct page_chunk **list = low ? &m->low_chunks : &m->chunks, *c = *list;

	while (c && !c->nfree)
		c = c->next;
	if (!c) {
		c = chunk_new(low);
		if (!c)
			return NULL;
		c->next = *list;
		*list = c;
	}
	while (c->owner[c->hint])
		c->hint = (c->hint + 1) % ARRAY_SIZE(c->owner);
	c->owner[c->hint] = owner;
	c->nfree--;
	return (u64 *)((char *)c + (c->hint + 1) * PAGE_SIZE);
}

static void table_free(u64 *table)
{
	struct page_chunk *c = (struct page_chunk *)((u64)table & ~(CHUNK_SIZE - 1));
	u32 i = ((u64)table & (CHUNK_SIZE - 1)) / PAGE_SIZE - 1;

	c->owner[i] = NULL;
	c->nfree++;
	c->hint = i;
}

static void chunks_free(struct page_chunk *c)
{
	while (c) {
		struct page_chunk *next = c->next;

		munmap(c, CHUNK_SIZE);
		c = next;
	}
}

/* ---- Hash and list ---- */

static struct mmu_page **bucket(struct kvm *kvm, gfn_t gfn)
{
	return &kvm->mmu->hash[(gfn * 0x9e3779b97f4a7c15ull) >> (64 - MMU_HASH_BITS)];
}

static void list_add(struct mmu_page *head, struct mmu_page *sp)
{
	sp->prev = head;
	sp->next = head->next;
	head->next->prev = sp;
	head->next = sp;
}

static void list_del(struct mmu_page *sp)
{
	sp->prev->next = sp->next;
	sp->next->prev = sp->prev;
}

struct mmu_page *pages_of_gfn(struct kvm *kvm, gfn_t gfn)
{
	return *bucket(kvm, gfn);
}

struct mmu_page *page_find(struct kvm *kvm, gfn_t gfn, union mmu_page_role role)
{
	struct mmu_page *sp;

	for (sp = *bucket(kvm, gfn); sp; sp = sp->hash_next)
		if (sp->gfn == gfn && sp->role.word == role.word)
			return sp;
	return NULL;
}

struct mmu_page *page_get(struct kvm *kvm, gfn_t gfn, union mmu_page_role role)
{
	struct mmu_page *sp = role.per_vcpu ? NULL : page_find(kvm, gfn, role);
	struct mmu_page **b = bucket(kvm, gfn);
	struct mmu_vm *m = kvm->mmu;

	if (sp) {
		sp->write_flood = 0;
		return sp;
	}
	sp = calloc(1, sizeof(*sp));
	if (!sp)
		return NULL;
	sp->gfn = gfn;
	sp->role = role;
	sp->spt = table_alloc(m, sp, role.per_vcpu && role.level == 3);
	if (sp->spt)
		memset(sp->spt, 0, PAGE_SIZE);
	if (sp->spt && !role.direct && role.level <= MMU_LEAF_LEVELS)
		sp->shadowed = calloc(512, sizeof(*sp->shadowed));
	if (!sp->spt || (!role.direct && role.level <= MMU_LEAF_LEVELS && !sp->shadowed)) {
		if (sp->spt)
			table_free(sp->spt);
		free(sp);
		return NULL;
	}
	sp->hash_next = *b;
	*b = sp;
	list_add(&m->active, sp);
	m->used++;
	vm_stat_inc(kvm, mmu_cache_miss);
	if (shadow_is_table(sp)) {
		m->indirect++;
		shadow_account(kvm, sp);
	}
	return sp;
}

gfn_t page_gfn(const struct mmu_page *sp, unsigned index)
{
	if (sp->shadowed)
		return sp->shadowed[index] >> ACC_BITS;
	return sp->gfn + ((u64)index << (9 * (sp->role.level - 1)));
}

/* ---- Entries ---- */

u64 spte_make_table(union mmu_page_role role, hpa_t child)
{
	if (role.ept)
		return child | SPTE_PRESENT | EPT_R | EPT_W | EPT_X | (role.ept_mbec ? EPT_XU : 0) |
		       (role.ad_disabled ? 0 : EPT_A);
	/* A PDPTE has no W, U and A: they are reserved there (SDM vol. 3A, table 4-8). */
	if (role.level == 3 && role.per_vcpu)
		return child | SPTE_PRESENT | PT_P;
	return child | SPTE_PRESENT | PT_P | PT_W | PT_U | PT_A;
}

u64 spte_make_leaf(union mmu_page_role role, hva_t hva, int level, unsigned access, bool writable)
{
	u64 spte = hva | SPTE_PRESENT | (level > 1 ? PT_PS : 0);
	bool w = writable && (access & ACC_WRITE);

	if (w)
		spte |= PT_W;
	/* Accessed and dirty are set beforehand: nobody asks for them, and a walk that finds them
	 * set does not write to the table. */
	if (role.ept) {
		spte |= EPT_MT_WB | EPT_IPAT | (access & ACC_USER ? EPT_R : 0) |
			(access & ACC_EXEC ? EPT_X : 0) | (access & ACC_EXEC_USER ? EPT_XU : 0);
		if (!role.ad_disabled)
			spte |= EPT_A | (w ? EPT_D : 0);
	} else {
		spte |= PT_P | PT_A | (w ? PT_D : 0) | (access & ACC_USER ? PT_U : 0) |
			(access & ACC_EXEC ? 0 : PT_NX);
	}
	return spte;
}

void stat_pages(struct kvm *kvm, int level, int delta)
{
	struct vm_stat *s = &kvm->arch->stat;

	*(level == 1 ? &s->pages_4k : level == 2 ? &s->pages_2m : &s->pages_1g) += (u64)(s64)delta;
}

/*
 * The reverse map of a leaf. Its slot is still there, or the leaf would have been zapped; but the
 * arrays may be replaced under us.
 */
static struct rmap *leaf_rmap(struct kvm *kvm, const struct mmu_page *sp, gfn_t gfn)
{
	unsigned idx = slots_read_lock(kvm);
	struct memslot *slot = memslots_find(kvm_memslots(kvm, sp->role.as_id), gfn);
	struct rmap *r = slot ? slot_rmap_lookup(slot, gfn, sp->role.level) : NULL;

	slots_read_unlock(kvm, idx);
	BUG_ON(!r);
	return r;
}

bool spte_drop(struct kvm *kvm, u64 *sptep)
{
	struct mmu_page *sp = sptep_page(sptep);
	unsigned index = ((u64)sptep & (PAGE_SIZE - 1)) / 8;
	u64 spte = spte_get(sptep);
	gfn_t gfn = page_gfn(sp, index);

	spte_set(sptep, 0);
	if (!spte_present(spte))
		return false;
	if (!spte_leaf(spte, sp->role.level)) {
		shadow_unlink_unsync(spte_child(spte), sptep);
		rmap_del(&spte_child(spte)->parents, sptep);
		return false;
	}
	rmap_del(leaf_rmap(kvm, sp, gfn), sptep);
	stat_pages(kvm, sp->role.level, -1);
	return true;
}

int page_link(struct kvm *kvm, u64 *sptep, struct mmu_page *child)
{
	if (rmap_add(&child->parents, sptep))
		return -ENOMEM;
	spte_set(sptep, spte_make_table(sptep_page(sptep)->role, (u64)child->spt));
	if (child->unsync || child->unsync_children)
		shadow_mark_parents_unsync(child);
	return 0;
}

int spte_set_leaf(struct kvm *kvm, u64 *sptep, struct memslot *slot, gfn_t gfn, unsigned access,
		  u64 spte, bool *flush)
{
	struct mmu_page *sp = sptep_page(sptep);
	unsigned index = ((u64)sptep & (PAGE_SIZE - 1)) / 8;
	int level = sp->role.level;
	u64 old = spte_get(sptep);
	struct rmap *r;

	/* Of such a page the frames are known by their place; it is what the reverse map is found
	 * by when the leaf goes. */
	BUG_ON(!sp->shadowed && page_gfn(sp, index) != (gfn & ~(level_pages(level) - 1)));
	/* The same host page may be another frame of the guest's, with another reverse map. */
	if (spte_present(old) && spte_leaf(old, level) && spte_addr(old) == spte_addr(spte) &&
	    page_gfn(sp, index) == (gfn & ~(level_pages(level) - 1))) {
		if (spte_writable(old) && !spte_writable(spte))
			*flush = true;
		if (sp->shadowed)
			sp->shadowed[index] =
				shadowed_word(gfn & ~(level_pages(level) - 1), access);
		spte_set(sptep, spte);
		return 0;
	}
	if (spte_present(old)) {
		if (spte_leaf(old, level))
			spte_drop(kvm, sptep);
		else
			page_unlink_child(kvm, sptep);
		*flush = true;
	}
	r = slot_rmap(slot, gfn, level);
	if (!r || rmap_add(r, sptep)) {
		spte_set(sptep, 0);
		return -ENOMEM;
	}
	if (sp->shadowed)
		sp->shadowed[index] = shadowed_word(gfn & ~(level_pages(level) - 1), access);
	spte_set(sptep, spte);
	stat_pages(kvm, level, 1);
	return 0;
}

/* ---- The end of pages ---- */

/* Clears a table entry; the table goes too if it was direct and this was its last user. */
void page_unlink_child(struct kvm *kvm, u64 *sptep)
{
	struct mmu_page *child = spte_child(spte_get(sptep));

	spte_drop(kvm, sptep);
	/* Nobody would find a direct table again by a guest's write, so it would only age. Tables
	 * of guest tables stay: their guest may come back to them. */
	if (child->role.direct && !rmap_count(&child->parents) && !child->roots)
		page_zap(kvm, child);
}

static void page_unhash(struct kvm *kvm, struct mmu_page *sp)
{
	struct mmu_page **p = bucket(kvm, sp->gfn);

	while (*p != sp)
		p = &(*p)->hash_next;
	*p = sp->hash_next;
	list_del(sp);
	kvm->mmu->used--;
	if (shadow_is_table(sp)) {
		kvm->mmu->indirect--;
		shadow_unaccount(kvm, sp);
	}
}

static void page_bury(struct kvm *kvm, struct mmu_page *sp)
{
	sp->next = kvm->mmu->dead;
	kvm->mmu->dead = sp;
}

void page_zap(struct kvm *kvm, struct mmu_page *sp)
{
	u64 *parent;

	if (sp->role.invalid)
		return;
	vm_stat_inc(kvm, mmu_shadow_zapped);
	while ((parent = rmap_get(&sp->parents, 0)))
		spte_drop(kvm, parent);
	shadow_forget_unsync(kvm, sp);
	page_unhash(kvm, sp);
	/* Before the children: page_zap of one of them must not come back here. */
	sp->role.invalid = 1;
	for (unsigned i = 0; i < 512; i++) {
		u64 spte = spte_get(&sp->spt[i]);

		if (!spte)
			continue;
		if (spte_present(spte) && !spte_leaf(spte, sp->role.level))
			page_unlink_child(kvm, &sp->spt[i]);
		else
			spte_drop(kvm, &sp->spt[i]);
	}
	if (!sp->roots) {
		page_bury(kvm, sp);
		return;
	}
	/* A root in use: its vCPUs let go of it when they next load the MMU. */
	for (unsigned i = 0; i < __atomic_load_n(&kvm->nvcpus, __ATOMIC_ACQUIRE); i++)
		kvm_make_request(kvm->vcpus[i], REQ_MMU_RELOAD);
	sp->next = sp->prev = NULL;
}

void root_put(struct kvm *kvm, struct mmu_page *sp)
{
	BUG_ON(!sp->roots);
	if (--sp->roots)
		return;
	if (sp->role.invalid)
		page_bury(kvm, sp);
	else if (sp->role.per_vcpu)
		page_zap(kvm, sp);
}

static void page_free(struct mmu_page *sp)
{
	table_free(sp->spt);
	free(sp->shadowed);
	free(sp);
}

void page_commit(struct kvm *kvm)
{
	struct mmu_page *sp = kvm->mmu->dead;

	if (!sp)
		return;
	mmu_flush_remote(kvm);
	kvm->mmu->dead = NULL;
	while (sp) {
		struct mmu_page *next = sp->next;

		page_free(sp);
		sp = next;
	}
}

/* Tables that one fault may need, and how many go at once when there is no room. */
#define FAULT_PAGES   8u
#define RECLAIM_PAGES 25u

static struct mmu_page *oldest_page(struct mmu_vm *m)
{
	struct mmu_page *sp = m->active.prev;

	while (sp != &m->active && sp->roots)
		sp = sp->prev;
	return sp == &m->active ? NULL : sp;
}

void pages_make_room(struct kvm *kvm)
{
	struct mmu_vm *m = kvm->mmu;
	struct mmu_page *sp;
	u64 target;

	if (likely(m->used + FAULT_PAGES <= m->max))
		return;
	/* Never all: what the current roots need would go, be rebuilt, and go again. */
	target = MAX(m->max / 2, m->max - MIN(m->max, FAULT_PAGES + RECLAIM_PAGES));
	while (m->used > target && (sp = oldest_page(m))) {
		page_zap(kvm, sp);
		vm_stat_inc(kvm, mmu_recycled);
	}
	page_commit(kvm);
}

void pages_free_all(struct kvm *kvm)
{
	struct mmu_vm *m = kvm->mmu;
	struct mmu_page *sp;

	while ((sp = m->active.next) != &m->active)
		page_zap(kvm, sp);
	while ((sp = m->dead)) {
		m->dead = sp->next;
		page_free(sp);
	}
	chunks_free(m->chunks);
	chunks_free(m->low_chunks);
}
