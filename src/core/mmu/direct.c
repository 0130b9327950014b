/* SPDX-License-Identifier: MIT */
/* Direct tables: guest-physical to host, with the largest leaves that are right. */
#include <errno.h>

#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"

/*
 * A large leaf must be wholly inside its slot, at a host address aligned as the guest's, and each
 * of its pages must be treated alike: not when dirty pages are logged one by one, nor when one of
 * them is a guest's page table.
 */
int fault_max_level(const struct fault *f)
{
	const struct memslot *s = f->slot;
	int level;

	if (memslot_dirty_logged(s))
		return 1;
	for (level = MIN(f->max_level, MMU_LEAF_LEVELS); level > 1; level--) {
		u64 pages = level_pages(level);
		gfn_t first = f->gfn & ~(pages - 1);
		const u32 *no = s->mmu->no_large[level - 1];

		if (first < s->base_gfn || first + pages > s->base_gfn + s->npages)
			continue;
		if (memslot_gfn_to_hva(s, first) & ((pages << PAGE_SHIFT) - 1))
			continue;
		if (no && no[slot_index(s, f->gfn, level)])
			continue;
		break;
	}
	return level;
}

static union mmu_page_role child_role(union mmu_page_role parent, int level)
{
	parent.level = level;
	parent.direct = 1;
	parent.passthrough = 0;
	parent.per_vcpu = 0;
	return parent;
}

/* The table below entry *@sptep of @sp, made if there is none. NULL without memory. */
static u64 *next_table(struct kvm *kvm, struct mmu_page *sp, u64 *sptep, gfn_t gfn, bool *flush)
{
	u64 spte = spte_get(sptep);
	int level = sp->role.level;
	struct mmu_page *child;

	if (spte_present(spte) && !spte_leaf(spte, level))
		return spte_child(spte)->spt;
	if (spte_present(spte)) {
		/* A large leaf that is not right any more. */
		spte_drop(kvm, sptep);
		*flush = true;
	}
	child = page_get(kvm, gfn & ~(level_pages(level) - 1), child_role(sp->role, level - 1));
	if (!child)
		return NULL;
	return page_link(kvm, sptep, child) ? NULL : child->spt;
}

int direct_map(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f)
{
	struct kvm *kvm = v->kvm;
	u64 *table = (u64 *)mmu->roots[0].hpa, *sptep, spte, old;
	int level = mmu->root_role.level, r;
	union mmu_page_role role;
	bool flush = false, writable = f->map_writable;
	hva_t hva;

	f->level = fault_max_level(f);
	while (level > f->level) {
		struct mmu_page *sp = hpa_page((u64)table);

		table = next_table(kvm, sp, &table[pt_index(f->gpa, level)], f->gfn, &flush);
		if (!table)
			return -ENOMEM;
		level--;
	}
	sptep = &table[pt_index(f->gpa, level)];
	role = hpa_page((u64)table)->role;

	if (writable && !f->write && memslot_dirty_logged(f->slot))
		writable = false;
	if (writable && !shadow_may_write(kvm, f->slot, f->gfn, true)) {
		if (f->write)
			return PF_EMULATE;
		writable = false;
	}
	hva = fault_leaf_hva(f, level);
	spte = spte_make_leaf(role, hva, level, role.access, writable);
	old = spte_get(sptep);
	/* Never take away what is there: another vCPU may have mapped it for writing. */
	if (spte_present(old) && spte_addr(old) == spte_addr(spte) &&
	    (spte_writable(old) || old == spte)) {
		r = PF_SPURIOUS;
	} else {
		r = spte_set_leaf(kvm, sptep, f->slot, f->gfn, role.access, spte, &flush);
		if (r)
			return r;
		r = PF_FIXED;
	}
	if (f->write && spte_writable(spte_get(sptep)))
		memslot_mark_dirty(f->slot, f->gfn);
	if (flush)
		mmu_flush_remote(kvm);
	return r;
}

u64 direct_spte(struct kvm_mmu *mmu, gpa_t gpa, int *level)
{
	u64 *table = (u64 *)mmu->roots[0].hpa, spte = 0;

	for (*level = mmu->root_role.level;; (*level)--) {
		spte = spte_get(&table[pt_index(gpa, *level)]);
		if (!spte_present(spte) || spte_leaf(spte, *level))
			return spte;
		table = (u64 *)spte_addr(spte);
	}
}

void direct_map_mmio(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t gpa, u64 generation)
{
	u64 *table = (u64 *)mmu->roots[0].hpa, *sptep;
	bool flush = false;

	for (int level = mmu->root_role.level; level > 1; level--) {
		struct mmu_page *sp = hpa_page((u64)table);

		table = next_table(v->kvm, sp, &table[pt_index(gpa, level)], gpa >> PAGE_SHIFT,
				   &flush);
		if (!table)
			return; /* it is only a shortcut */
	}
	sptep = &table[pt_index(gpa, 1)];
	/* A present leaf here belongs to a slot that has just appeared. */
	if (!spte_present(spte_get(sptep))) {
		spte_set(sptep, spte_make_mmio(generation));
		kvm_stat_inc(v, pf_mmio_spte_created);
	}
	if (flush)
		mmu_flush_remote(v->kvm);
}
