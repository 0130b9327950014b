/* SPDX-License-Identifier: MIT */
/*
 * Roots. Each context keeps the current one and some before it, most recently used first, so that
 * a guest that goes back and forth between address spaces finds them as it left them. A root the
 * guest has flushed meanwhile is not dropped but marked unsync, and synchronized if it comes back.
 */
#include <errno.h>

#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"
#include "spec/vmx.h"

#define ROOT_NONE                                      \
	(struct mmu_root)                              \
	{                                              \
		.pgd = GPA_INVALID, .hpa = HPA_INVALID \
	}

void roots_init(struct kvm_mmu *mmu)
{
	for (unsigned i = 0; i < MMU_NROOTS; i++)
		mmu->roots[i] = ROOT_NONE;
}

/*
 * Tables that cannot be shared: PAE roots, whose four entries the processor loads into registers,
 * and the levels on top of a guest table that has fewer than the processor walks.
 */
bool mmu_has_per_vcpu_root_page(const struct kvm_mmu *mmu)
{
	return mmu->root_role.level == 3 ||
	       (!mmu->root_role.direct && mmu->cpu_role.base.level <= 3);
}

/* Parameter kvmless.root_cache: what the cache is worth is measured by doing without. */
enum root_cache { ROOT_CACHE_FULL, ROOT_CACHE_DROP, ROOT_CACHE_OFF };

static enum root_cache root_cache(const struct kvm_vcpu *v)
{
	return (enum root_cache)v->kvm->arch->params.kvmless_root_cache;
}

static void root_drop(struct kvm_vcpu *v, struct mmu_root *r)
{
	if (r->hpa != HPA_INVALID) {
		root_put(v->kvm, hpa_page(r->hpa));
		kvm_stat_inc(v, root_frees);
	}
	*r = ROOT_NONE;
}

void mmu_free_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu, unsigned roots)
{
	bool any = false;

	for (unsigned i = 0; i < MMU_NROOTS; i++)
		any |= roots & MMU_ROOT(i) && mmu->roots[i].hpa != HPA_INVALID;
	if (!any)
		return;
	pthread_mutex_lock(&v->kvm->mmu_lock);
	for (unsigned i = 0; i < MMU_NROOTS; i++)
		if (roots & MMU_ROOT(i))
			root_drop(v, &mmu->roots[i]);
	page_commit(v->kvm);
	pthread_mutex_unlock(&v->kvm->mmu_lock);
}

void mmu_unload(struct kvm_vcpu *v)
{
	mmu_free_roots(v, &v->mmu->root_mmu, MMU_ROOTS_ALL);
	mmu_free_roots(v, &v->mmu->guest_mmu, MMU_ROOTS_ALL);
}

static bool root_fits(const struct mmu_root *r, gpa_t pgd, u64 mask, union mmu_page_role role)
{
	return r->hpa != HPA_INVALID && r->role.word == role.word &&
	       (role.direct || !((r->pgd ^ pgd) & mask)) && !hpa_page(r->hpa)->role.invalid;
}

/* The index of the root for @pgd, MMU_NROOTS if there is none. */
static unsigned root_find(const struct kvm_mmu *mmu, gpa_t pgd, u64 mask, union mmu_page_role role)
{
	unsigned i;

	for (i = 0; i < MMU_NROOTS; i++)
		if (root_fits(&mmu->roots[i], pgd, mask, role))
			break;
	return i;
}

/*
 * Makes the cached root for @pgd and @role current. If there is none, roots[0] is empty afterwards
 * and the least recently used one is gone. The one place where found and not found part.
 */
static bool cached_root(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t pgd,
			union mmu_page_role role)
{
	struct mmu_root found = ROOT_NONE;
	unsigned i;

	if (unlikely(root_cache(v) == ROOT_CACHE_OFF))
		mmu_free_roots(v, mmu, MMU_ROOTS_ALL);
	i = root_find(mmu, pgd, ~0ull, role);
	if (i == MMU_NROOTS) {
		/* The same table under another PCID: the guest has given its number to another
		 * address space meanwhile, and what it flushed by number may concern this one. */
		i = root_find(mmu, pgd, ~0xfffull, role);
		if (i < MMU_NROOTS) {
			mmu->roots[i].pgd = pgd;
			mmu->roots[i].unsync = true;
		}
	}
	if (i < MMU_NROOTS)
		found = mmu->roots[i];
	if (i == MMU_NROOTS) {
		/* An empty place ages first. */
		for (i = 0; i < MMU_NROOTS - 1 && mmu->roots[i].hpa != HPA_INVALID; i++)
			;
		mmu_free_roots(v, mmu, MMU_ROOT(i));
	}
	for (; i > 0; i--)
		mmu->roots[i] = mmu->roots[i - 1];
	mmu->roots[0] = found;
	if (found.hpa == HPA_INVALID) {
		kvm_stat_inc(v, root_misses);
		return false;
	}
	kvm_stat_inc(v, root_hits);
	return true;
}

void root_switch(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t pgd)
{
	union mmu_page_role role = mmu->root_role;

	/* Only 64-bit guests' roots are switched without building; see mmu_reset_context. */
	if (role.level < 4)
		mmu_free_roots(v, mmu, MMU_ROOTS_CURRENT);
	if (role.level < 4 || !cached_root(v, mmu, pgd, role)) {
		kvm_make_request(v, REQ_MMU_RELOAD);
		return;
	}
	kvm_make_request(v, REQ_LOAD_MMU_PGD);
	if (mmu->roots[0].unsync) {
		mmu->roots[0].unsync = false;
		kvm_stat_inc(v, root_syncs);
		kvm_make_request(v, REQ_MMU_SYNC);
		kvm_make_request(v, REQ_TLB_FLUSH_CURRENT);
	}
}

void mmu_new_pgd(struct kvm_vcpu *v, gpa_t pgd)
{
	/* An L2's CR3 is its own affair, as any guest's with two-dimensional paging. */
	if (v->mmu->mmu == &v->mmu->root_mmu)
		root_switch(v, v->mmu->mmu, pgd);
}

void mmu_invalidate_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu,
			  bool (*match)(const struct mmu_root *r, u64 arg), u64 arg)
{
	for (unsigned i = 0; i < MMU_NROOTS; i++) {
		struct mmu_root *r = &mmu->roots[i];

		if (r->hpa == HPA_INVALID || r->role.direct || !match(r, arg))
			continue;
		if (i == 0 && mmu == v->mmu->mmu) {
			kvm_make_request(v, REQ_MMU_SYNC);
			kvm_make_request(v, REQ_TLB_FLUSH_CURRENT);
		} else if (likely(root_cache(v) == ROOT_CACHE_FULL)) {
			r->unsync = true;
		} else {
			mmu_free_roots(v, mmu, MMU_ROOT(i));
		}
	}
}

/* ---- What the guest flushes ---- */

/* With two-dimensional paging its translations are the processor's alone. */
static bool shadowing(const struct kvm_vcpu *v)
{
	return v->mmu->mmu == &v->mmu->root_mmu && !v->mmu->root_mmu.root_role.direct;
}

static bool any_root(const struct mmu_root *r, u64 arg)
{
	return true;
}

static bool same_pcid(const struct mmu_root *r, u64 pcid)
{
	return !((r->pgd ^ pcid) & 0xfff);
}

void mmu_flush_guest(struct kvm_vcpu *v)
{
	if (shadowing(v))
		mmu_invalidate_roots(v, &v->mmu->root_mmu, any_root, 0);
}

static void flush_pcid(struct kvm_vcpu *v, u64 pcid)
{
	if (!shadowing(v)) {
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
		return;
	}
	mmu_invalidate_roots(v, &v->mmu->root_mmu,
			     kvm_read_cr4_bits(v, CR4_PCIDE) ? same_pcid : any_root, pcid);
}

void mmu_flush_cr3(struct kvm_vcpu *v, u64 cr3)
{
	flush_pcid(v, cr3 & 0xfff);
}

/* SDM vol. 2A, INVPCID: 0 address, 1 PCID, 2 all, 3 all but global. */
void mmu_invpcid(struct kvm_vcpu *v, unsigned type, u16 pcid, gva_t gva)
{
	switch (type) {
	case 0:
	case 1: flush_pcid(v, pcid); break;
	default: kvm_make_request(v, REQ_TLB_FLUSH_GUEST); break;
	}
	/* The processor's own translations of another PCID are not reached by flushing the current
	 * context alone. */
	if (type < 2)
		kvm_make_request(v, REQ_TLB_FLUSH_CURRENT);
}

static bool same_ept12(const struct mmu_root *r, u64 eptp)
{
	return !((r->pgd ^ eptp) & EPT_ADDR_MASK);
}

void mmu_invept(struct kvm_vcpu *v, unsigned type, u64 eptp)
{
	mmu_invalidate_roots(v, &v->mmu->guest_mmu, type == INVEPT_SINGLE ? same_ept12 : any_root,
			     eptp);
}

/* ---- Building ---- */

static int alloc_direct_root(struct kvm_vcpu *v, struct kvm_mmu *mmu)
{
	struct mmu_page *sp = page_get(v->kvm, 0, mmu->root_role);

	if (!sp)
		return -ENOMEM;
	sp->roots++;
	mmu->roots[0] = (struct mmu_root){.hpa = (u64)sp->spt, .role = mmu->root_role};
	return 0;
}

int mmu_reload(struct kvm_vcpu *v)
{
	struct kvm_mmu *mmu = v->mmu->mmu;
	struct mmu_root *r = &mmu->roots[0];
	int ret;

	if (likely(r->hpa != HPA_INVALID && !hpa_page(r->hpa)->role.invalid))
		return 0;
	if (!mmu->cpu_role.valid)
		mmu_reset_context(v);
	pthread_mutex_lock(&v->kvm->mmu_lock);
	if (r->hpa != HPA_INVALID)
		root_drop(v, r);
	pages_make_room(v->kvm);
	ret = mmu->root_role.direct && mmu->root_role.level > 3 ? alloc_direct_root(v, mmu)
								: shadow_alloc_roots(v, mmu);
	page_commit(v->kvm);
	pthread_mutex_unlock(&v->kvm->mmu_lock);
	if (ret)
		return ret;
	kvm_make_request(v, REQ_LOAD_MMU_PGD);
	/* Addresses of tables are reused, and translations are tagged by them. */
	kvm_make_request(v, REQ_TLB_FLUSH_CURRENT);
	return 0;
}
