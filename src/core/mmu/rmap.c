/* SPDX-License-Identifier: MIT */
/* Reverse maps, and the per-slot arrays of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"

#define RMAP_VEC BIT(0)
/* Beyond this an array is mapped without reserving swap for it: most of it is never touched. */
#define BIG_BYTES (1u << 20)

void *zalloc_big(size_t bytes)
{
	void *p;

	if (bytes < BIG_BYTES)
		return calloc(1, bytes);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void zfree_big(void *p, size_t bytes)
{
	if (bytes < BIG_BYTES)
		free(p);
	else if (p)
		munmap(p, bytes);
}

static struct rmap_vec *rmap_vec(const struct rmap *r)
{
	return (struct rmap_vec *)(r->val & ~RMAP_VEC);
}

int rmap_add(struct rmap *r, u64 *sptep)
{
	struct rmap_vec *vec;

	if (!r->val) {
		r->val = (u64)sptep;
		return 0;
	}
	if (!(r->val & RMAP_VEC)) {
		vec = malloc(sizeof(*vec) + 4 * sizeof(vec->sptep[0]));
		if (!vec)
			return -ENOMEM;
		vec->n = 1;
		vec->cap = 4;
		vec->sptep[0] = (u64 *)r->val;
	} else {
		vec = rmap_vec(r);
		if (vec->n == vec->cap) {
			vec = realloc(vec, sizeof(*vec) + 2 * vec->cap * sizeof(vec->sptep[0]));
			if (!vec)
				return -ENOMEM;
			vec->cap *= 2;
		}
	}
	r->val = (u64)vec | RMAP_VEC;
	vec->sptep[vec->n++] = sptep;
	return 0;
}

void rmap_del(struct rmap *r, u64 *sptep)
{
	struct rmap_vec *vec;

	if (!(r->val & RMAP_VEC)) {
		BUG_ON(r->val != (u64)sptep);
		r->val = 0;
		return;
	}
	vec = rmap_vec(r);
	for (u32 i = 0; i < vec->n; i++) {
		if (vec->sptep[i] != sptep)
			continue;
		vec->sptep[i] = vec->sptep[--vec->n];
		if (vec->n == 1) {
			r->val = (u64)vec->sptep[0];
			free(vec);
		}
		return;
	}
	BUG("entry %p is not in its reverse map", (void *)sptep);
}

u32 rmap_count(const struct rmap *r)
{
	if (!r->val)
		return 0;
	return r->val & RMAP_VEC ? rmap_vec(r)->n : 1;
}

u64 *rmap_get(const struct rmap *r, u32 i)
{
	if (i >= rmap_count(r))
		return NULL;
	return r->val & RMAP_VEC ? rmap_vec(r)->sptep[i] : (u64 *)r->val;
}

/* ---- Slots ---- */

struct rmap *slot_rmap_lookup(const struct memslot *s, gfn_t gfn, int level)
{
	struct rmap *r = s->mmu->rmap[level - 1];

	return r ? &r[slot_index(s, gfn, level)] : NULL;
}

struct rmap *slot_rmap(struct memslot *s, gfn_t gfn, int level)
{
	struct rmap **r = &s->mmu->rmap[level - 1];

	if (!*r)
		*r = zalloc_big(slot_entries(s, level) * sizeof(**r));
	return *r ? *r + slot_index(s, gfn, level) : NULL;
}

int mmu_slot_create(struct kvm *kvm, struct memslot *slot)
{
	if (kvm->mmu && slot->base_gfn + slot->npages - 1 > (BIT(kvm->mmu->maxphyaddr) - 1) >> 12)
		return -EINVAL;
	slot->mmu = calloc(1, sizeof(*slot->mmu));
	if (!slot->mmu)
		return -ENOMEM;
	return 0;
}

void mmu_slot_created(struct kvm *kvm, struct memslot *slot)
{
	if (!kvm->mmu || !kvm->mmu->indirect)
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	shadow_zap_range(kvm, slot->as_id, slot->base_gfn, slot->npages);
	page_commit(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
}

void mmu_slot_free(struct memslot *slot)
{
	if (!slot->mmu)
		return;
	for (int l = 1; l <= MMU_LEAF_LEVELS; l++) {
		u64 n = slot_entries(slot, l);
		struct rmap *r = slot->mmu->rmap[l - 1];

		zfree_big(r, n * sizeof(*r));
		zfree_big(slot->mmu->no_large[l - 1], n * sizeof(u32));
	}
	free(slot->mmu);
	slot->mmu = NULL;
}
