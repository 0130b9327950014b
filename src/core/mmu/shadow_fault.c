/* SPDX-License-Identifier: MIT */
/*
 * Shadow paging: tables for the processor made from the guest's, entry by entry as they fault in.
 * The levels of the guest's tables have a shadow page each; below a large guest page that cannot be
 * a large page here, direct tables fill in.
 */
#include <errno.h>
#include <string.h>

#include "core/mmu/shadow.h"

/* ---- Roots ---- */

static u64 *link_new(struct kvm *kvm, u64 *sptep, gfn_t gfn, union mmu_page_role role)
{
	struct mmu_page *child = page_get(kvm, gfn, role);

	return child && !page_link(kvm, sptep, child) ? child->spt : NULL;
}

/*
 * Guests with fewer than four levels: a table of four entries, each with a page directory; under a
 * processor that walks more levels, one table for each on top. None of it can be shared.
 */
static int alloc_top(struct kvm_vcpu *v, struct kvm_mmu *mmu, const u64 pdptr[4], gpa_t pgd)
{
	union mmu_page_role role = mmu->root_role, dir;
	struct kvm *kvm = v->kvm;
	struct mmu_page *sp;
	u64 *table;

	role.per_vcpu = 1;
	role.passthrough = role.level > 3;
	sp = page_get(kvm, pgd >> PAGE_SHIFT, role);
	if (!sp)
		return -ENOMEM;
	sp->roots++;
	mmu->roots[0] = (struct mmu_root){.pgd = pgd, .hpa = (u64)sp->spt, .role = mmu->root_role};
	if (role.direct)
		return 0; /* direct_map fills it */
	table = sp->spt;
	while (role.level > 3) {
		role.level--;
		table = link_new(kvm, &table[0], pgd >> PAGE_SHIFT, role);
		if (!table)
			return -ENOMEM;
	}
	dir = mmu->root_role;
	dir.level = 2;
	for (unsigned i = 0; i < 4; i++) {
		gfn_t gfn = pgd >> PAGE_SHIFT;

		if (mmu->cpu_role.base.level == 3) {
			if (!(pdptr[i] & PT_P))
				continue;
			gfn = (pdptr[i] & SPTE_ADDR_MASK) >> PAGE_SHIFT;
		} else {
			dir.quadrant = i & 3;
		}
		if (!link_new(kvm, &table[i], gfn, dir))
			return -ENOMEM;
	}
	return 0;
}

int shadow_alloc_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu)
{
	gpa_t pgd = mmu->root_role.direct ? 0 : mmu->get_guest_pgd(v) & SPTE_ADDR_MASK;
	u64 pdptr[4] = {0};
	struct mmu_page *sp;
	int r;

	if (mmu_has_per_vcpu_root_page(mmu)) {
		for (unsigned i = 0; i < 4 && mmu->cpu_role.base.level == 3; i++)
			pdptr[i] = mmu->get_pdptr(v, i);
		r = alloc_top(v, mmu, pdptr, pgd);
		if (r && mmu->roots[0].hpa != HPA_INVALID) {
			root_put(v->kvm, hpa_page(mmu->roots[0].hpa));
			mmu->roots[0].hpa = HPA_INVALID;
		}
		if (!r)
			shadow_sync_root(v, hpa_page(mmu->roots[0].hpa));
		return r;
	}
	sp = page_get(v->kvm, pgd >> PAGE_SHIFT, mmu->root_role);
	if (!sp)
		return -ENOMEM;
	/* It may have been there, and have been written to since. */
	shadow_sync_root(v, sp);
	sp->roots++;
	mmu->roots[0] = (struct mmu_root){
		.pgd = mmu->get_guest_pgd(v), .hpa = (u64)sp->spt, .role = mmu->root_role};
	return 0;
}

/* ---- Synchronizing ---- */

/* Brings a page of 4 KiB leaves in line with its guest table: entries that no longer match go, and
 * fault in again. True if one did. */
static bool sync_page(struct kvm_vcpu *v, struct mmu_page *sp)
{
	struct kvm_mmu *mmu = v->mmu->mmu;
	unsigned size = sp->role.gpte4 ? 4 : 8;
	gpa_t table = (sp->gfn << PAGE_SHIFT) + (sp->role.gpte4 ? sp->role.quadrant * 2048u : 0);
	bool any = false;
	u8 ptes[PAGE_SIZE];

	if (vcpu_read_guest(v, table, ptes, 512 * size))
		memset(ptes, 0, sizeof(ptes));
	for (unsigned i = 0; i < 512; i++) {
		unsigned access;
		u64 pte = 0;
		gfn_t gfn;

		if (!spte_present(spte_get(&sp->spt[i]))) {
			spte_set(&sp->spt[i], 0);
			continue;
		}
		memcpy(&pte, ptes + i * size, size);
		if (guest_leaf_decode(mmu, sp->role, pte, &gfn, &access) &&
		    sp->shadowed[i] == shadowed_word(gfn, access))
			continue;
		spte_drop(v->kvm, &sp->spt[i]);
		any = true;
	}
	return any;
}

/* Pages to be synchronized, together: two flushes for all of them rather than for each. */
struct batch {
	unsigned n;
	struct mmu_page *sp[64];
};

/* The tables are write-protected again before they are read, or a write in between would be lost.
 */
static void sync_batch(struct kvm_vcpu *v, struct batch *b)
{
	struct kvm *kvm = v->kvm;
	bool flush = false;
	unsigned idx;

	if (!b->n)
		return;
	idx = slots_read_lock(kvm);
	for (unsigned i = 0; i < b->n; i++) {
		struct mmu_page *sp = b->sp[i];
		struct memslot *s = memslots_find(kvm_memslots(kvm, sp->role.as_id), sp->gfn);

		flush |= s && slot_write_protect_gfn(kvm, s, sp->gfn);
	}
	slots_read_unlock(kvm, idx);
	if (flush)
		mmu_flush_remote(kvm);
	flush = false;
	for (unsigned i = 0; i < b->n; i++) {
		shadow_forget_unsync(kvm, b->sp[i]);
		vm_stat_inc(kvm, mmu_synced);
		flush |= sync_page(v, b->sp[i]);
	}
	if (flush)
		mmu_flush_remote(kvm);
	b->n = 0;
}

static void collect(struct kvm_vcpu *v, struct mmu_page *sp, struct batch *b)
{
	if (sp->unsync) {
		if (b->n == ARRAY_SIZE(b->sp))
			sync_batch(v, b);
		/* By another parent it may have come already. */
		if (sp->unsync && (!b->n || b->sp[b->n - 1] != sp))
			b->sp[b->n++] = sp;
	}
	if (!sp->unsync_children)
		return;
	for (unsigned w = 0; w < 8; w++) {
		while (sp->unsync_bitmap[w]) {
			unsigned bit = (unsigned)__builtin_ctzll(sp->unsync_bitmap[w]);
			u64 spte = spte_get(&sp->spt[w * 64 + bit]);

			sp->unsync_bitmap[w] &= ~BIT(bit);
			sp->unsync_children--;
			if (spte_present(spte) && !spte_leaf(spte, sp->role.level))
				collect(v, spte_child(spte), b);
		}
	}
}

static void sync_tree(struct kvm_vcpu *v, struct mmu_page *sp)
{
	struct batch b;

	if (likely(!sp->unsync && !sp->unsync_children))
		return;
	b.n = 0;
	collect(v, sp, &b);
	sync_batch(v, &b);
}

void shadow_sync_root(struct kvm_vcpu *v, struct mmu_page *sp)
{
	sync_tree(v, sp);
}

void mmu_sync_roots(struct kvm_vcpu *v)
{
	struct kvm_mmu *mmu = v->mmu->mmu;

	if (mmu->root_role.direct || mmu->roots[0].hpa == HPA_INVALID)
		return;
	pthread_mutex_lock(&v->kvm->mmu_lock);
	sync_tree(v, hpa_page(mmu->roots[0].hpa));
	page_commit(v->kvm);
	pthread_mutex_unlock(&v->kvm->mmu_lock);
}

void mmu_invlpg(struct kvm_vcpu *v, gva_t gva)
{
	struct kvm_mmu *mmu = v->mmu->mmu;
	u64 *table;

	if (mmu->root_role.direct || mmu->roots[0].hpa == HPA_INVALID)
		return;
	kvm_stat_inc(v, invlpg);
	pthread_mutex_lock(&v->kvm->mmu_lock);
	table = (u64 *)mmu->roots[0].hpa;
	for (int level = mmu->root_role.level;; level--) {
		u64 *sptep = &table[pt_index(gva, level)], spte = spte_get(sptep);

		if (!spte_present(spte))
			break;
		if (spte_leaf(spte, level)) {
			spte_drop(v->kvm, sptep);
			mmu_flush_remote(v->kvm);
			break;
		}
		table = (u64 *)spte_addr(spte);
	}
	pthread_mutex_unlock(&v->kvm->mmu_lock);
	/* The page may be global: the other address spaces have it too. */
	for (unsigned i = 1; i < MMU_NROOTS; i++)
		mmu->roots[i].unsync = mmu->roots[i].hpa != HPA_INVALID;
}

/* ---- Faults ---- */

/* Has the guest changed the entry of @level since the walk? */
static bool pte_changed(struct kvm_vcpu *v, const struct kvm_mmu *mmu, const struct guest_walk *w,
			int level)
{
	unsigned size = mmu->cpu_role.base.gpte4 ? 4 : 8;
	u64 now = 0;

	return vcpu_read_guest(v, w->real_pte_gpa[level - 1], &now, size) ||
	       now != w->pte[level - 1];
}

static union mmu_page_role table_role(union mmu_page_role parent, u64 addr, unsigned access)
{
	parent.level--;
	parent.access = access & (BIT(ACC_BITS) - 1);
	parent.direct = 0;
	parent.per_vcpu = 0;
	parent.passthrough = 0;
	parent.quadrant = 0;
	if (parent.gpte4)
		parent.quadrant = parent.level == 1 ? (addr >> 21) & 1 : (addr >> 30) & 3;
	return parent;
}

static union mmu_page_role fill_role(union mmu_page_role parent, unsigned access)
{
	parent.level--;
	parent.direct = 1;
	parent.access = access & (BIT(ACC_BITS) - 1);
	parent.gpte4 = 0;
	parent.quadrant = 0;
	parent.per_vcpu = 0;
	parent.passthrough = 0;
	return parent;
}

/* The child at *@sptep if it is the one for @gfn and @role, else a new one in its place. */
static u64 *descend(struct kvm_vcpu *v, u64 *sptep, gfn_t gfn, union mmu_page_role role,
		    bool *flush)
{
	struct mmu_page *parent = sptep_page(sptep), *child;
	u64 spte = spte_get(sptep);

	if (spte_present(spte)) {
		if (!spte_leaf(spte, parent->role.level)) {
			child = spte_child(spte);
			if (child->gfn == gfn && child->role.word == role.word) {
				child->write_flood = 0;
				return child->spt;
			}
			page_unlink_child(v->kvm, sptep);
		} else {
			spte_drop(v->kvm, sptep);
		}
		*flush = true;
	}
	child = page_get(v->kvm, gfn, role);
	if (!child)
		return NULL;
	/* An entry that was not present need not be flushed by the guest: what hangs below must be
	 * right when it appears. */
	sync_tree(v, child);
	return page_link(v->kvm, sptep, child) ? NULL : child->spt;
}

/* Does the access write to one of the tables it is translated by? */
static bool writes_own_table(const struct fault *f, const struct guest_walk *w)
{
	for (int l = w->level; f->write && l <= w->max_level; l++)
		if (w->table_gfn[l - 1] == f->gfn)
			return true;
	return false;
}

static int shadow_map(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f,
		      const struct guest_walk *w)
{
	u64 *table = (u64 *)mmu->roots[0].hpa, *sptep, spte, old;
	bool flush = false, writable = f->map_writable;
	unsigned access = guest_leaf_access(mmu, w), rights = access;
	int level = mmu->root_role.level, r = PF_FIXED;
	struct kvm *kvm = v->kvm;
	struct mmu_page *sp;

	if (pte_changed(v, mmu, w, w->max_level))
		return PF_RETRY;
	for (; level > w->level; level--) {
		sptep = &table[pt_index(f->addr, level)];
		if (level > w->max_level) {
			/* On top of the guest's tables: made with the root. If a directory has been
			 * reclaimed since, a new root is due. */
			spte = spte_get(sptep);
			if (!spte_present(spte)) {
				page_zap(kvm, hpa_page(mmu->roots[0].hpa));
				return PF_RETRY;
			}
			table = (u64 *)spte_addr(spte);
			continue;
		}
		sp = hpa_page((u64)table);
		table = descend(v, sptep, w->table_gfn[level - 2],
				table_role(sp->role, f->addr, w->table_access[level - 2]), &flush);
		if (!table)
			return -ENOMEM;
		/* Now that it is protected or followed, is it still what the walk saw? */
		if (pte_changed(v, mmu, w, level - 1)) {
			r = PF_RETRY;
			goto out;
		}
	}
	/* Shadowing the tables may have made frames in this range unfit for large leaves. */
	f->max_level = writes_own_table(f, w) ? 1 : w->level;
	f->level = MIN(fault_max_level(f), w->level);
	for (; level > f->level; level--) {
		sp = hpa_page((u64)table);
		table = descend(v, &table[pt_index(f->addr, level)],
				f->gfn & ~(level_pages(level) - 1), fill_role(sp->role, access),
				&flush);
		if (!table)
			return -ENOMEM;
	}
	sptep = &table[pt_index(f->addr, level)];

	/*
	 * CR0.WP = 0: the supervisor may write read-only pages. The processor runs with WP = 1, so
	 * such a page becomes a supervisor page that is writable; users fault and get it back.
	 */
	if (f->write && !(access & ACC_WRITE) && !f->user && !mmu->cpu_role.base.cr0_wp &&
	    !mmu->cpu_role.base.ept) {
		rights = (access | ACC_WRITE) & ~ACC_USER;
		if (mmu->cpu_role.cr4_smep && access & ACC_USER)
			rights &= ~ACC_EXEC;
	}
	if (writable && !f->write && memslot_dirty_logged(f->slot))
		writable = false;
	if (writable && rights & ACC_WRITE && !shadow_may_write(kvm, f->slot, f->gfn, true)) {
		if (f->write)
			r = PF_EMULATE;
		writable = false;
	}
	spte = spte_make_leaf(hpa_page((u64)table)->role, fault_leaf_hva(f, level), level, rights,
			      writable);
	old = spte_get(sptep);
	if (old == spte) {
		if (r == PF_FIXED)
			r = PF_SPURIOUS;
	} else if (spte_set_leaf(kvm, sptep, f->slot, f->gfn, access, spte, &flush)) {
		return -ENOMEM;
	}
	if (f->write && spte_writable(spte))
		memslot_mark_dirty(f->slot, f->gfn);
	if (r == PF_FIXED && writes_own_table(f, w) && !spte_writable(spte))
		r = PF_EMULATE;
out:
	if (flush)
		mmu_flush_remote(kvm);
	return r;
}

int shadow_fault(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f)
{
	u64 access = f->error_code & (PFERR_WRITE | PFERR_USER | PFERR_FETCH | PFERR_GUEST_FINAL |
				      PFERR_GUEST_PAGE | PFERR_GVA_USER);
	struct kvm *kvm = v->kvm;
	struct guest_walk w;
	unsigned idx;
	int r;

	/* A supervisor access while CPL is 3 is to a system structure: EFLAGS.AC does not help it.
	 */
	if (!mmu->cpu_role.base.ept && !f->user && kvm_get_rflags(v) & X86_AC)
		access |= kvm_get_cpl(v) == 3 ? PFERR_IMPLICIT : PFERR_AC;
	if (!guest_walker(mmu)(v, mmu, f->addr, access, &w)) {
		kvm_stat_inc(v, pf_guest);
		w.fault.from_exit = true;
		mmu->inject_fault(v, &w.fault);
		return PF_CONTINUE;
	}
	f->gfn = w.gfn;
	f->gpa = w.gfn << PAGE_SHIFT | (f->addr & (PAGE_SIZE - 1));
	idx = slots_read_lock(kvm);
	r = fault_find_memory(v, f);
	if (r == PF_CONTINUE) {
		pthread_mutex_lock(&kvm->mmu_lock);
		if (hpa_page(mmu->roots[0].hpa)->role.invalid) {
			r = PF_RETRY;
		} else {
			pages_make_room(kvm);
			/* Making room may have taken the root's own tables. */
			r = hpa_page(mmu->roots[0].hpa)->role.invalid ? PF_RETRY
								      : shadow_map(v, mmu, f, &w);
			page_commit(kvm);
		}
		pthread_mutex_unlock(&kvm->mmu_lock);
	}
	slots_read_unlock(kvm, idx);
	return r;
}
