/* SPDX-License-Identifier: MIT */
/* Setting, moving and deleting memory slots, and the read side of the slot arrays. */
#include "core/memslot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "core/mmu/mmu.h"
#include "core/gmem.h"
#include "core/memslot_impl.h"
#include "core/vm.h"

/* The end of what a 64-bit process can map (4-level page tables). */
#define USER_ADDR_END 0x00007ffffffff000ull

static struct memslots *slots_alloc(u32 n)
{
	struct memslots *s = calloc(1, sizeof(*s) + n * sizeof(s->slot[0]));

	if (s)
		s->n = n;
	return s;
}

int memslots_init(struct kvm *kvm)
{
	struct slots_state *st = calloc(1, sizeof(*st));

	if (!st)
		return -ENOMEM;
	grace_init(&st->grace);
	kvm->slots = st;
	for (unsigned as = 0; as < KVM_ADDRESS_SPACES; as++) {
		kvm->memslots[as] = slots_alloc(0);
		if (!kvm->memslots[as]) {
			memslots_destroy(kvm);
			return -ENOMEM;
		}
		kvm->memslots[as]->generation = ++st->generation;
	}
	return 0;
}

static void slot_free(struct memslot *s)
{
	if (s->internal)
		munmap((void *)s->userspace_addr, s->npages << PAGE_SHIFT);
	if (s->gmem)
		gmem_put(s->gmem);
	mmu_slot_free(s);
	dirty_bitmap_free(s, s->dirty_bitmap);
	free(s);
}

void memslots_destroy(struct kvm *kvm)
{
	for (unsigned as = 0; as < KVM_ADDRESS_SPACES; as++) {
		struct memslots *s = kvm->memslots[as];

		kvm->memslots[as] = NULL;
		for (u32 i = 0; s && i < s->n; i++)
			slot_free(s->slot[i]);
		free(s);
		if (kvm->slots)
			free(kvm->slots->by_id[as]);
	}
	free(kvm->slots);
	kvm->slots = NULL;
}

/* ---- Read side ---- */

unsigned slots_read_lock(struct kvm *kvm)
{
	return grace_enter(&kvm->slots->grace);
}

void slots_read_unlock(struct kvm *kvm, unsigned idx)
{
	grace_leave(&kvm->slots->grace, idx);
}

void slots_synchronize(struct kvm *kvm)
{
	grace_wait(&kvm->slots->grace);
}

u64 kvm_memslots_generation(struct kvm *kvm)
{
	return __atomic_load_n(&kvm->slots->generation, __ATOMIC_ACQUIRE);
}

u64 kvm_memslots_pages(struct kvm *kvm)
{
	return __atomic_load_n(&kvm->slots->npages, __ATOMIC_RELAXED);
}

struct memslot *memslots_find(const struct memslots *s, gfn_t gfn)
{
	u32 lo = 0, hi = s->n;

	/* The last slot that starts at or below gfn. */
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (s->slot[mid]->base_gfn <= gfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	return gfn - s->slot[lo - 1]->base_gfn < s->slot[lo - 1]->npages ? s->slot[lo - 1] : NULL;
}

struct memslot *gfn_to_memslot(struct kvm *kvm, gfn_t gfn)
{
	return memslots_find(kvm_memslots(kvm, 0), gfn);
}

bool kvm_owns_hva(void *opaque, u64 hva)
{
	struct kvm *kvm = opaque;
	unsigned idx = slots_read_lock(kvm);
	bool found = false;

	for (unsigned as = 0; as < KVM_ADDRESS_SPACES && !found; as++) {
		const struct memslots *s = kvm_memslots(kvm, as);

		for (u32 i = 0; i < s->n && !found; i++)
			found = hva - s->slot[i]->userspace_addr < s->slot[i]->npages
									   << PAGE_SHIFT ||
				(s->slot[i]->gmem &&
				 hva - s->slot[i]->gmem_hva < s->slot[i]->npages << PAGE_SHIFT);
	}
	slots_read_unlock(kvm, idx);
	return found;
}

/* ---- Publishing; slots_lock held ---- */

static struct memslot *slot_by_id(struct kvm *kvm, unsigned as, unsigned id)
{
	struct slots_state *st = kvm->slots;

	return id < st->ids[as] ? st->by_id[as][id] : NULL;
}

struct memslot *memslot_by_id(struct kvm *kvm, unsigned as, unsigned id)
{
	return slot_by_id(kvm, as, id);
}

static int by_id_reserve(struct slots_state *st, unsigned as, unsigned id)
{
	u32 n = st->ids[as] ? st->ids[as] : 16;
	struct memslot **p;

	if (id < st->ids[as])
		return 0;
	while (n <= id)
		n *= 2;
	p = realloc(st->by_id[as], n * sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p + st->ids[as], 0, (n - st->ids[as]) * sizeof(*p));
	st->by_id[as] = p;
	st->ids[as] = n;
	return 0;
}

/* The array @s without @old and with @new, either may be NULL. */
static struct memslots *slots_edit(const struct memslots *s, const struct memslot *old,
				   struct memslot *new)
{
	struct memslots *r = slots_alloc(s->n + 1);
	u32 n = 0;

	if (!r)
		return NULL;
	for (u32 i = 0; i < s->n; i++) {
		if (new &&new->base_gfn < s->slot[i]->base_gfn) {
			r->slot[n++] = new;
			new = NULL;
		}
		if (s->slot[i] != old)
			r->slot[n++] = s->slot[i];
	}
	if (new)
		r->slot[n++] = new;
	r->n = n;
	return r;
}

/* Makes @s current and frees the array before it, once nobody reads it. */
static void slots_publish(struct kvm *kvm, unsigned as, struct memslots *s)
{
	struct slots_state *st = kvm->slots;
	struct memslots *old = kvm->memslots[as];
	u64 gen = st->generation + 1;

	s->generation = gen;
	__atomic_store_n(&kvm->memslots[as], s, __ATOMIC_SEQ_CST);
	__atomic_store_n(&st->generation, gen, __ATOMIC_RELEASE);
	slots_synchronize(kvm);
	free(old);
}

/*
 * Replaces @old by @new in the arrays; frees @old. With @zap, mappings of @old are removed in
 * between, while the slot is there but invalid, so that nobody maps it again nor takes it for MMIO.
 */
static int slots_replace(struct kvm *kvm, unsigned as, struct memslot *old, struct memslot *new,
			 bool zap)
{
	struct slots_state *st = kvm->slots;
	struct memslot *invalid = NULL, *gone = old;
	struct memslots *first = NULL, *last;

	if (zap) {
		invalid = malloc(sizeof(*invalid));
		if (!invalid)
			return -ENOMEM;
		*invalid = *old;
		invalid->flags |= MEMSLOT_INVALID;
		first = slots_edit(kvm->memslots[as], old, invalid);
		last = first ? slots_edit(first, invalid, new) : NULL;
		gone = invalid;
	} else {
		last = slots_edit(kvm->memslots[as], old, new);
	}
	if (!last) {
		free(invalid);
		free(first);
		return -ENOMEM;
	}
	if (zap) {
		slots_publish(kvm, as, first);
		mmu_slot_zap(kvm, old);
		free(old);
	}
	slots_publish(kvm, as, last);
	free(gone);
	if (new)
		st->by_id[as][new->id] = new;
	return 0;
}

static bool slots_overlap(const struct memslots *s, const struct memslot *except, gfn_t base,
			  u64 npages)
{
	for (u32 i = 0; i < s->n; i++)
		if (s->slot[i] != except && base < s->slot[i]->base_gfn + s->slot[i]->npages &&
		    s->slot[i]->base_gfn < base + npages)
			return true;
	return false;
}

static int slot_delete(struct kvm *kvm, struct memslot *old)
{
	unsigned as = old->as_id, id = old->id;
	struct memslot copy = *old;
	int r = slots_replace(kvm, as, old, NULL, true);

	if (r)
		return r;
	kvm->slots->by_id[as][id] = NULL;
	kvm->slots->npages -= copy.npages;
	dirty_bitmap_free(&copy, copy.dirty_bitmap);
	mmu_slot_free(&copy);
	if (copy.gmem)
		gmem_put(copy.gmem);
	if (copy.internal)
		munmap((void *)copy.userspace_addr, copy.npages << PAGE_SHIFT);
	return 0;
}

static int slot_create(struct kvm *kvm, struct memslot *new)
{
	int r;

	if (kvm->slots->npages + new->npages < kvm->slots->npages)
		return -EINVAL;
	r = by_id_reserve(kvm->slots, new->as_id, new->id);
	if (!r)
		r = mmu_slot_create(kvm, new);
	if (!r)
		r = slots_replace(kvm, new->as_id, NULL, new, false);
	if (r) {
		mmu_slot_free(new);
		return r;
	}
	mmu_slot_created(kvm, new);
	kvm->slots->npages += new->npages;
	return 0;
}

static int slot_move(struct kvm *kvm, struct memslot *old, struct memslot *new)
{
	struct memslot copy = *old;
	int r = mmu_slot_create(kvm, new);

	if (!r)
		r = slots_replace(kvm, new->as_id, old, new, true);
	if (r) {
		mmu_slot_free(new);
		return r;
	}
	mmu_slot_created(kvm, new);
	mmu_slot_free(&copy);
	return 0;
}

static int slot_change_flags(struct kvm *kvm, struct memslot *old, struct memslot *new)
{
	bool was = old->flags & KVM_MEM_LOG_DIRTY_PAGES, on = new->flags &KVM_MEM_LOG_DIRTY_PAGES;
	int r;

	new->mmu = old->mmu;
	r = slots_replace(kvm, new->as_id, old, new, false);
	if (r)
		return r;
	if (was != on && !(new->flags &KVM_MEM_READONLY))
		mmu_slot_dirty_log(kvm, new, on, kvm_dirty_log_init_set(kvm));
	return 0;
}

/* Checks that need no lock; KVM answers EINVAL to all of them. */
static int check_region(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem,
			unsigned max_id)
{
	u64 size = mem->memory_size, mask = PAGE_SIZE - 1;
	u32 valid = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;

	/* Private memory is neither logged nor read-only. */
	if (kvm_has_private_mem(kvm) && mem->flags & KVM_MEM_GUEST_MEMFD)
		valid = KVM_MEM_GUEST_MEMFD;
	if (mem->flags & ~valid)
		return -EINVAL;
	if ((u16)mem->slot >= max_id || mem->slot >> 16 >= KVM_ADDRESS_SPACES)
		return -EINVAL;
	if ((size | mem->guest_phys_addr | mem->userspace_addr) & mask)
		return -EINVAL;
	if (size > USER_ADDR_END || mem->userspace_addr > USER_ADDR_END - size)
		return -EINVAL;
	if (mem->guest_phys_addr + size < mem->guest_phys_addr)
		return -EINVAL;
	if (size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;
	return 0;
}

static int set_region_locked(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem,
			     bool internal, struct gmem *gmem)
{
	unsigned as = mem->slot >> 16, id = (u16)mem->slot;
	gfn_t base = mem->guest_phys_addr >> PAGE_SHIFT;
	u64 npages = mem->memory_size >> PAGE_SHIFT;
	struct memslot *old = slot_by_id(kvm, as, id), *new;
	bool logging = mem->flags & KVM_MEM_LOG_DIRTY_PAGES;
	u64 *old_bitmap = old ? old->dirty_bitmap : NULL;
	bool create = !old, move = old && base != old->base_gfn;
	int r;

	if (!npages)
		return old ? slot_delete(kvm, old) : -EINVAL;
	if (old) {
		/* Slots with private memory can only be deleted. */
		if (mem->flags & KVM_MEM_GUEST_MEMFD || old->gmem)
			return -EINVAL;
		if (mem->userspace_addr != old->userspace_addr || npages != old->npages ||
		    (mem->flags ^ old->flags) & KVM_MEM_READONLY)
			return -EINVAL;
		if (!move && mem->flags == old->flags)
			return 0;
	}
	if ((create || move) && slots_overlap(kvm->memslots[as], old, base, npages))
		return -EEXIST;
	if (gmem && gmem_check_bind(kvm, gmem, mem->guest_memfd_offset, npages))
		return -EINVAL;

	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	*new = (struct memslot){.base_gfn = base,
				.npages = npages,
				.userspace_addr = mem->userspace_addr,
				.flags = mem->flags,
				.id = (u16)id,
				.as_id = (u16)as,
				.gmem = gmem,
				.gmem_hva = gmem ? gmem->hva + mem->guest_memfd_offset : 0,
				.internal = internal};
	if (logging && kvm_uses_dirty_bitmap(kvm)) {
		new->dirty_bitmap = old_bitmap ? old_bitmap : dirty_bitmap_alloc(kvm, new);
		if (!new->dirty_bitmap) {
			free(new);
			return -ENOMEM;
		}
	}
	if (gmem)
		gmem_get(gmem);
	if (create)
		r = slot_create(kvm, new);
	else if (move)
		r = slot_move(kvm, old, new);
	else
		r = slot_change_flags(kvm, old, new);
	if (r) {
		if (new->dirty_bitmap != old_bitmap)
			dirty_bitmap_free(new, new->dirty_bitmap);
		if (gmem)
			gmem_put(gmem);
		free(new);
	} else if (old_bitmap && old_bitmap != new->dirty_bitmap) {
		dirty_bitmap_free(new, old_bitmap);
	}
	return r;
}

int vm_set_private_memory_region(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem,
				 struct gmem *gmem)
{
	int r = check_region(kvm, mem, KVM_USER_MEM_SLOTS);

	if (r)
		return r;
	pthread_mutex_lock(&kvm->slots_lock);
	r = set_region_locked(kvm, mem, false, gmem);
	mmu_generation_changed(kvm, kvm->slots->generation);
	pthread_mutex_unlock(&kvm->slots_lock);
	return r;
}

int vm_set_user_memory_region(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem)
{
	return vm_set_private_memory_region(kvm, mem, NULL);
}

int memslot_set_internal(struct kvm *kvm, enum kvm_private_slot id, gpa_t gpa, u64 size, hva_t *hva)
{
	struct kvm_userspace_memory_region2 mem = {
		.slot = id, .guest_phys_addr = gpa, .memory_size = size};
	void *p = NULL;
	int r;

	if (size) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
		mem.userspace_addr = (u64)p;
	}
	r = check_region(kvm, &mem, KVM_MEM_SLOTS_NUM);
	if (!r) {
		pthread_mutex_lock(&kvm->slots_lock);
		/* Ours has new memory each time: never a change of the old one. */
		if (size && slot_by_id(kvm, 0, id))
			r = -EEXIST;
		else if (size || slot_by_id(kvm, 0, id))
			r = set_region_locked(kvm, &mem, size != 0, NULL);
		pthread_mutex_unlock(&kvm->slots_lock);
	}
	if (r && p)
		munmap(p, size);
	if (!r && hva)
		*hva = mem.userspace_addr;
	return r;
}
