/* SPDX-License-Identifier: MIT */
/* Dirty rings: see dirty_ring.h. */
#include <errno.h>

#include "base/log.h"
#include "core/dirty_ring.h"
#include "core/memslot_impl.h"
#include "core/mmu/mmu.h"
#include "core/vcpu.h"
#include "core/vm.h"

#define MAX_ENTRIES 65536u
/* Kept free when KVM_RUN exits: one instruction, and what is done before the next entry, writes
 * fewer pages. */
#define RESERVED_ENTRIES 64u

static __thread struct dirty_ring *current_ring;

struct dirty_ring *dirty_ring_current(void)
{
	return current_ring;
}

struct dirty_ring *dirty_ring_enter(struct kvm_vcpu *v)
{
	struct dirty_ring *before = current_ring;

	current_ring = v->dirty_ring.entries ? &v->dirty_ring : NULL;
	return before;
}

void dirty_ring_leave(struct dirty_ring *before)
{
	current_ring = before;
}

bool kvm_uses_dirty_bitmap(const struct kvm *kvm)
{
	return !kvm->arch || !kvm->arch->dirty_ring_bytes;
}

int kvm_dirty_ring_max_bytes(void)
{
	return MAX_ENTRIES * sizeof(struct kvm_dirty_gfn);
}

void *vcpu_load(struct kvm_vcpu *v)
{
	return dirty_ring_enter(v);
}

void vcpu_put(void *before)
{
	dirty_ring_leave(before);
}

int dirty_ring_enable(struct kvm *kvm, u64 bytes)
{
	if (!bytes || (bytes & (bytes - 1)))
		return -EINVAL;
	if (bytes < RESERVED_ENTRIES * sizeof(struct kvm_dirty_gfn) || bytes < PAGE_SIZE)
		return -EINVAL;
	if (bytes > MAX_ENTRIES * sizeof(struct kvm_dirty_gfn))
		return -E2BIG;
	if (kvm->arch->dirty_ring_bytes || kvm->arch->vcpu_file_fixed || kvm->nvcpus)
		return -EINVAL;
	kvm->arch->dirty_ring_bytes = (u32)bytes;
	return 0;
}

size_t vm_vcpu_file_bytes(struct kvm *kvm)
{
	size_t ring;

	pthread_mutex_lock(&kvm->lock);
	/* What the caller makes has to stay right. */
	kvm->arch->vcpu_file_fixed = true;
	ring = kvm->arch->dirty_ring_bytes;
	pthread_mutex_unlock(&kvm->lock);
	return ring ? KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE + ring
		    : KVM_VCPU_MMAP_PAGES * PAGE_SIZE;
}

void dirty_ring_init(struct kvm_vcpu *v)
{
	struct dirty_ring *r = &v->dirty_ring;
	u32 bytes = v->kvm->arch->dirty_ring_bytes;

	if (!bytes)
		return;
	r->v = v;
	r->size = bytes / sizeof(struct kvm_dirty_gfn);
	r->soft_limit = r->size - RESERVED_ENTRIES;
	r->entries = (void *)((char *)v->run + KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE);
}

static u32 used(const struct dirty_ring *r)
{
	return __atomic_load_n(&r->dirty_index, __ATOMIC_RELAXED) -
	       __atomic_load_n(&r->reset_index, __ATOMIC_ACQUIRE);
}

void dirty_ring_push(struct dirty_ring *r, u32 slot, u64 offset)
{
	struct kvm_dirty_gfn *e = &r->entries[r->dirty_index & (r->size - 1)];

	/* Only by ioctls that write guest memory, again and again without KVM_RUN. */
	if (used(r) >= r->size) {
		if (!r->overflow)
			base_log(LOG_ERROR, "vCPU %u: dirty ring overflow", r->v->id);
		r->overflow = true;
		return;
	}
	e->slot = slot;
	e->offset = offset;
	__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
	__atomic_store_n(&r->dirty_index, r->dirty_index + 1, __ATOMIC_RELEASE);
	if (used(r) >= r->soft_limit)
		kvm_make_request(r->v, REQ_DIRTY_RING_FULL);
}

bool dirty_ring_check_full(struct kvm_vcpu *v)
{
	if (!kvm_check_request(v, REQ_DIRTY_RING_FULL) ||
	    used(&v->dirty_ring) < v->dirty_ring.soft_limit)
		return false;
	/* Until somebody has reset some. */
	kvm_make_request(v, REQ_DIRTY_RING_FULL);
	v->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	return true;
}

/* The page is to be logged again. slots_lock held. */
static void protect(struct kvm *kvm, u32 slot, u64 offset)
{
	unsigned as = slot >> 16, id = (u16)slot;
	struct memslot *s;

	if (as >= KVM_ADDRESS_SPACES || id >= KVM_USER_MEM_SLOTS)
		return;
	s = memslot_by_id(kvm, as, id);
	if (!s || offset >= s->npages)
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	mmu_slot_write_protect(kvm, s, offset & ~63ull, BIT(offset & 63));
	pthread_mutex_unlock(&kvm->mmu_lock);
}

/* How many. Entries are empty before their pages are protected, and the index moves last: the vCPU
 * does not push into what is still being read. */
static u32 reset_ring(struct kvm *kvm, struct dirty_ring *r)
{
	u32 n = 0;

	while (n < r->size) {
		struct kvm_dirty_gfn *e = &r->entries[r->reset_index & (r->size - 1)];
		u64 offset;
		u32 slot;

		if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET))
			break;
		slot = __atomic_load_n(&e->slot, __ATOMIC_RELAXED);
		offset = __atomic_load_n(&e->offset, __ATOMIC_RELAXED);
		__atomic_store_n(&e->flags, 0, __ATOMIC_RELEASE);
		protect(kvm, slot, offset);
		__atomic_store_n(&r->reset_index, r->reset_index + 1, __ATOMIC_RELEASE);
		n++;
	}
	return n;
}

int vm_reset_dirty_rings(struct kvm *kvm)
{
	struct kvm_vcpu *v;
	u32 n = 0;

	if (kvm_uses_dirty_bitmap(kvm))
		return -EINVAL;
	pthread_mutex_lock(&kvm->slots_lock);
	kvm_for_each_vcpu(v, kvm) n += reset_ring(kvm, &v->dirty_ring);
	pthread_mutex_unlock(&kvm->slots_lock);
	if (n)
		mmu_flush_remote(kvm);
	return (int)n;
}
