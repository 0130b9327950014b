/* SPDX-License-Identifier: MIT */
/*
 * Guest page tables that are shadowed: their frames are write-protected, or left writable
 * ("unsync") with the shadow page brought up to date when the guest flushes. Only tables of 4 KiB
 * leaves become unsync; a page knows which of its children are, or have such children.
 */
#include <string.h>

#include "core/mmu/shadow.h"

/* ---- Accounting: frames that are tables ---- */

static struct memslot *slot_of(struct kvm *kvm, const struct mmu_page *sp)
{
	return memslots_find(kvm_memslots(kvm, sp->role.as_id), sp->gfn);
}

static void no_large_add(struct memslot *s, gfn_t gfn, int delta)
{
	for (int l = 2; l <= MMU_LEAF_LEVELS; l++) {
		u32 **a = &s->mmu->no_large[l - 1];

		if (!*a)
			*a = zalloc_big(slot_entries(s, l) * sizeof(**a));
		if (*a)
			(*a)[slot_index(s, gfn, l)] += (u32)delta;
	}
}

void shadow_account(struct kvm *kvm, struct mmu_page *sp)
{
	unsigned idx = slots_read_lock(kvm);
	struct memslot *s = slot_of(kvm, sp);

	/* A slot that is going takes its counts along. */
	sp->accounted = s && !(s->flags & MEMSLOT_INVALID);
	if (sp->accounted) {
		no_large_add(s, sp->gfn, 1);
		if (slot_write_protect_gfn(kvm, s, sp->gfn))
			mmu_flush_remote(kvm);
	}
	slots_read_unlock(kvm, idx);
}

void shadow_unaccount(struct kvm *kvm, struct mmu_page *sp)
{
	unsigned idx = slots_read_lock(kvm);
	struct memslot *s = slot_of(kvm, sp);

	if (s && !(s->flags & MEMSLOT_INVALID) && sp->accounted)
		no_large_add(s, sp->gfn, -1);
	slots_read_unlock(kvm, idx);
}

/* ---- Unsync ---- */

void shadow_mark_parents_unsync(struct mmu_page *sp)
{
	u64 *sptep;

	rmap_for_each(sptep, &sp->parents)
	{
		struct mmu_page *parent = sptep_page(sptep);
		unsigned i = ((u64)sptep & (PAGE_SIZE - 1)) / 8;

		if (parent->unsync_bitmap[i / 64] & BIT(i % 64))
			continue;
		parent->unsync_bitmap[i / 64] |= BIT(i % 64);
		if (!parent->unsync_children++)
			shadow_mark_parents_unsync(parent);
	}
}

void shadow_unlink_unsync(struct mmu_page *child, u64 *sptep)
{
	struct mmu_page *parent = sptep_page(sptep);
	unsigned i = ((u64)sptep & (PAGE_SIZE - 1)) / 8;

	if (parent->unsync_bitmap[i / 64] & BIT(i % 64)) {
		parent->unsync_bitmap[i / 64] &= ~BIT(i % 64);
		parent->unsync_children--;
	}
}

void shadow_forget_unsync(struct kvm *kvm, struct mmu_page *sp)
{
	if (!sp->unsync)
		return;
	sp->unsync = false;
	kvm->arch->stat.mmu_unsync--;
}

bool shadow_may_write(struct kvm *kvm, struct memslot *slot, gfn_t gfn, bool can_unsync)
{
	struct mmu_page *sp;

	if (!kvm->mmu->indirect)
		return true;
	/* Without a page of its own below this frame's 2 MiB there is nothing to look for. */
	if (slot->mmu->no_large[1] && !slot->mmu->no_large[1][slot_index(slot, gfn, 2)])
		return true;
	for (sp = pages_of_gfn(kvm, gfn); sp; sp = sp->hash_next)
		if (sp->gfn == gfn && shadow_is_table(sp) && !sp->unsync &&
		    (!can_unsync || sp->role.level > 1))
			return false;
	for (sp = pages_of_gfn(kvm, gfn); sp; sp = sp->hash_next) {
		if (sp->gfn != gfn || !shadow_is_table(sp) || sp->unsync)
			continue;
		sp->unsync = true;
		kvm->arch->stat.mmu_unsync++;
		shadow_mark_parents_unsync(sp);
	}
	return true;
}

bool shadow_zap_range(struct kvm *kvm, unsigned as_id, gfn_t gfn, u64 npages)
{
	struct mmu_page *sp, *next;
	bool any = false;

	if (!kvm->mmu->indirect)
		return false;
	for (sp = kvm->mmu->active.next; sp != &kvm->mmu->active; sp = next) {
		next = sp->next;
		if (!shadow_is_table(sp) || sp->role.as_id != as_id || sp->gfn - gfn >= npages)
			continue;
		page_zap(kvm, sp);
		any = true;
		/* Others may have gone with it. */
		next = kvm->mmu->active.next;
	}
	return any;
}

/* ---- Writes of the emulator ---- */

bool mmu_unprotect_gfn(struct kvm *kvm, gfn_t gfn)
{
	bool any = false;
	struct mmu_page *sp;

	pthread_mutex_lock(&kvm->mmu_lock);
	for (sp = pages_of_gfn(kvm, gfn); sp;) {
		if (sp->gfn == gfn && shadow_is_table(sp)) {
			page_zap(kvm, sp);
			any = true;
			sp = pages_of_gfn(kvm, gfn);
		} else {
			sp = sp->hash_next;
		}
	}
	page_commit(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
	return any;
}

/* Which 8 bytes of which shadow page a guest entry at @offset of its table has; returns their
 * number (two for a 4-byte page directory entry, which maps 4 MiB), or 0 if @sp is for another
 * quadrant. */
static unsigned shadow_entries(const struct mmu_page *sp, unsigned offset, unsigned *first)
{
	unsigned shadow = offset, n = 1, quadrant;

	if (sp->role.gpte4) {
		shadow = offset * 2; /* 4-byte entries take 8 in the shadow */
		if (sp->role.level == 2) {
			/* A directory entry maps 4 MiB: two entries here. */
			shadow &= ~7u;
			shadow *= 2;
			n = 2;
		}
		quadrant = shadow / PAGE_SIZE;
		shadow %= PAGE_SIZE;
		if (quadrant != sp->role.quadrant)
			return 0;
	}
	*first = shadow / 8;
	return n;
}

/* Writes to a table in a row without the guest using it: it is probably not one any more. */
#define FLOOD 3

void mmu_track_write(struct kvm_vcpu *v, gpa_t gpa, const void *data, unsigned n)
{
	struct kvm *kvm = v->kvm;
	gfn_t gfn = gpa >> PAGE_SHIFT;
	unsigned offset = gpa & (PAGE_SIZE - 1);
	struct mmu_page *sp, *next;
	bool flush = false;

	if (!__atomic_load_n(&kvm->mmu->indirect, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	for (sp = pages_of_gfn(kvm, gfn); sp; sp = next) {
		unsigned size = sp->role.gpte4 ? 4 : 8, first, count;

		next = sp->hash_next;
		if (sp->gfn != gfn || !shadow_is_table(sp))
			continue;
		vm_stat_inc(kvm, mmu_pte_write);
		if ((offset ^ (offset + n - 1)) & ~(size - 1) || n < 4 ||
		    ++sp->write_flood >= FLOOD) {
			/* Not a whole entry, or too often. */
			if (sp->write_flood >= FLOOD)
				vm_stat_inc(kvm, mmu_flooded);
			page_zap(kvm, sp);
			next = pages_of_gfn(kvm, gfn);
			continue;
		}
		count = shadow_entries(sp, offset & ~(size - 1), &first);
		for (unsigned i = 0; i < count; i++) {
			u64 *sptep = &sp->spt[first + i], spte = spte_get(sptep);

			if (!spte_present(spte)) {
				spte_set(sptep, 0);
				continue;
			}
			if (spte_leaf(spte, sp->role.level))
				spte_drop(kvm, sptep);
			else
				page_unlink_child(kvm, sptep);
			vm_stat_inc(kvm, mmu_pde_zapped);
			flush = true;
		}
	}
	page_commit(kvm);
	if (flush)
		mmu_flush_remote(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
}
