/* SPDX-License-Identifier: MIT */
/* What a change of a slot, or of its dirty log, means for the tables. */
#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"

void mmu_flush_remote(struct kvm *kvm)
{
	if (!__atomic_load_n(&kvm->nvcpus, __ATOMIC_ACQUIRE))
		return;
	vm_stat_inc(kvm, remote_tlb_flush);
	vm_stat_inc(kvm, remote_tlb_flush_requests);
	kvm_make_all_request_sync(kvm, REQ_TLB_FLUSH);
}

/* Drops every leaf of one reverse map. */
static bool rmap_zap(struct kvm *kvm, struct rmap *r)
{
	bool any = false;
	u64 *sptep;

	while ((sptep = rmap_get(r, 0))) {
		spte_drop(kvm, sptep);
		any = true;
	}
	return any;
}

static bool rmap_write_protect(struct rmap *r)
{
	bool any = false;
	u64 *sptep;

	rmap_for_each(sptep, r)
	{
		u64 spte = spte_get(sptep);

		if (spte_writable(spte)) {
			spte_set(sptep, spte & ~PT_W);
			any = true;
		}
	}
	return any;
}

bool slot_zap_gfn(struct kvm *kvm, struct memslot *slot, gfn_t gfn)
{
	bool any = false;

	for (int l = 1; l <= MMU_LEAF_LEVELS; l++) {
		struct rmap *r = slot_rmap_lookup(slot, gfn, l);

		any |= r && rmap_zap(kvm, r);
	}
	return any;
}

void mmu_zap_gfn_range(struct kvm *kvm, gfn_t first, gfn_t end)
{
	bool any = false;

	pthread_mutex_lock(&kvm->mmu_lock);
	for (unsigned as = 0; as < KVM_ADDRESS_SPACES; as++) {
		const struct memslots *s = kvm_memslots(kvm, as);

		for (u32 i = 0; i < s->n; i++) {
			struct memslot *slot = s->slot[i];
			gfn_t gfn = MAX(first, slot->base_gfn);

			for (; gfn < MIN(end, slot->base_gfn + slot->npages); gfn++)
				any |= slot_zap_gfn(kvm, slot, gfn);
		}
	}
	if (any)
		mmu_flush_remote(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
}

bool slot_write_protect_gfn(struct kvm *kvm, struct memslot *slot, gfn_t gfn)
{
	struct rmap *r = slot_rmap_lookup(slot, gfn, 1);
	bool any = r && rmap_write_protect(r);

	/* Large leaves are not written to in parts: they go, and come back as small ones. */
	for (int l = 2; l <= MMU_LEAF_LEVELS; l++) {
		r = slot_rmap_lookup(slot, gfn, l);
		any |= r && rmap_zap(kvm, r);
	}
	return any;
}

bool mmu_slot_write_protect(struct kvm *kvm, struct memslot *slot, u64 first, u64 mask)
{
	bool any = false;

	for (; mask; mask &= mask - 1)
		any |= slot_write_protect_gfn(
			kvm, slot, slot->base_gfn + first + (unsigned)__builtin_ctzll(mask));
	return any;
}

static bool zap_level(struct kvm *kvm, struct memslot *slot, int level)
{
	struct rmap *r = slot->mmu->rmap[level - 1];
	u64 n = slot_entries(slot, level);
	bool any = false;

	for (u64 i = 0; r && i < n; i++)
		any |= rmap_zap(kvm, &r[i]);
	return any;
}

void mmu_slot_zap(struct kvm *kvm, struct memslot *slot)
{
	bool any;

	if (!kvm->mmu)
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	any = shadow_zap_range(kvm, slot->as_id, slot->base_gfn, slot->npages);
	for (int l = 1; l <= MMU_LEAF_LEVELS; l++)
		any |= zap_level(kvm, slot, l);
	page_commit(kvm);
	/*
	 * Not only if an entry went: VMCSs name pages of the slot (virtual-APIC page and the like),
	 * and a root in use that was zapped before may have left translations behind.
	 */
	mmu_flush_remote(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
	/* The VMM may unmap the memory and put other code there. */
	if (any && kvm->machine)
		sil_memory_written(kvm->machine, slot->userspace_addr, slot->npages << PAGE_SHIFT);
}

/*
 * Logging goes on: from now on each first write to a page must fault. Large leaves are dropped and
 * come back small. With @all_set every page counts as dirty already, and nothing needs to fault
 * before the log is first cleared.
 *
 * Logging goes off: leaves are dropped so that they can be large again.
 */
void mmu_slot_dirty_log(struct kvm *kvm, struct memslot *slot, bool on, bool all_set)
{
	struct rmap *r = slot->mmu->rmap[0];
	u64 n = slot_entries(slot, 1);

	if (!kvm->mmu || (on && all_set))
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	for (int l = MMU_LEAF_LEVELS; l > 1; l--)
		zap_level(kvm, slot, l);
	for (u64 i = 0; r && i < n; i++) {
		if (on)
			rmap_write_protect(&r[i]);
		else
			rmap_zap(kvm, &r[i]);
	}
	page_commit(kvm);
	/* Not only if an entry changed: a write-protected entry does not prove that no processor
	 * has an older, writable translation. */
	mmu_flush_remote(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
}

/* Entries hold more bits of the generation than a program can make it count. */
void mmu_generation_changed(struct kvm *kvm, u64 generation)
{
	BUG_ON(generation >> MMIO_GEN_BITS);
	if (!kvm->mmu)
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	mmu_update_limit(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
}
