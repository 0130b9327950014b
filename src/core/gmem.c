/* SPDX-License-Identifier: MIT */
#include "core/gmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/core.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/vm.h"

/* ---- The memory ---- */

struct gmem *gmem_new(struct kvm *kvm, hva_t hva, u64 size)
{
	struct gmem *g = calloc(1, sizeof(*g));

	if (g)
		*g = (struct gmem){.kvm = kvm, .refs = 1, .hva = hva, .size = size};
	return g;
}

void gmem_get(struct gmem *g)
{
	__atomic_add_fetch(&g->refs, 1, __ATOMIC_RELAXED);
}

void gmem_put(struct gmem *g)
{
	if (__atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL))
		return;
	munmap((void *)g->hva, g->size);
	free(g);
}

/* Two slots may not share a page of it. */
int gmem_check_bind(struct kvm *kvm, const struct gmem *g, u64 offset, u64 npages)
{
	u64 size = npages << PAGE_SHIFT;
	hva_t hva = g->hva + offset;

	if (g->kvm != kvm || offset & (PAGE_SIZE - 1) || offset + size < offset ||
	    offset + size > g->size)
		return -EINVAL;
	for (unsigned as = 0; as < KVM_ADDRESS_SPACES; as++) {
		const struct memslots *s = kvm_memslots(kvm, as);

		for (u32 i = 0; i < s->n; i++)
			if (s->slot[i]->gmem == g &&
			    hva < s->slot[i]->gmem_hva + (s->slot[i]->npages << PAGE_SHIFT) &&
			    s->slot[i]->gmem_hva < hva + size)
				return -EINVAL;
	}
	return 0;
}

/* ---- Private frames: sorted ranges that neither overlap nor touch. Immutable once published;
 * readers are on the read side of the slots ---- */

struct range {
	gfn_t first, end;
};

struct mem_attrs {
	u32 n;
	struct range r[];
};

void mem_attrs_free(struct mem_attrs *a)
{
	free(a);
}

u64 kvm_supported_mem_attributes(const struct kvm *kvm)
{
	return !kvm || kvm_has_private_mem(kvm) ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
}

bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn)
{
	const struct mem_attrs *a = __atomic_load_n(&kvm->arch->mem_attrs, __ATOMIC_ACQUIRE);
	u32 lo = 0, hi = a ? a->n : 0;

	/* The first range that ends behind gfn. */
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (a->r[mid].end <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return a && lo < a->n && a->r[lo].first <= gfn;
}

static void append(struct mem_attrs *a, gfn_t first, gfn_t end)
{
	if (first >= end)
		return;
	if (a->n && a->r[a->n - 1].end == first)
		a->r[a->n - 1].end = end;
	else
		a->r[a->n++] = (struct range){first, end};
}

/* @old with [@first, @end) private or not; NULL: no memory. */
static struct mem_attrs *edit(const struct mem_attrs *old, gfn_t first, gfn_t end, bool private)
{
	u32 n = old ? old->n : 0, i = 0;
	struct mem_attrs *a = malloc(sizeof(*a) + (n + 2) * sizeof(a->r[0]));

	if (!a)
		return NULL;
	a->n = 0;
	for (; i < n && old->r[i].first < first; i++)
		append(a, old->r[i].first, MIN(old->r[i].end, first));
	if (private)
		append(a, first, end);
	/* The range that reaches over the start may reach over the end too. */
	for (i = i ? i - 1 : 0; i < n; i++)
		append(a, MAX(old->r[i].first, end), old->r[i].end);
	return a;
}

int vm_set_memory_attributes(struct kvm *kvm, const struct kvm_memory_attributes *m)
{
	gfn_t first = m->address >> PAGE_SHIFT, end = (m->address + m->size) >> PAGE_SHIFT;
	struct mem_attrs *new, *old;

	if (m->flags || m->attributes & ~kvm_supported_mem_attributes(kvm))
		return -EINVAL;
	if (!m->size || m->address + m->size < m->address ||
	    (m->address | m->size) & (PAGE_SIZE - 1))
		return -EINVAL;
	pthread_mutex_lock(&kvm->slots_lock);
	old = kvm->arch->mem_attrs;
	new = edit(old, first, end, m->attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE);
	if (new) {
		__atomic_store_n(&kvm->arch->mem_attrs, new, __ATOMIC_SEQ_CST);
		/* Nobody maps by the old ones any more; what has been mapped goes. */
		slots_synchronize(kvm);
		free(old);
		mmu_zap_gfn_range(kvm, first, end);
	}
	pthread_mutex_unlock(&kvm->slots_lock);
	return new ? 0 : -ENOMEM;
}
