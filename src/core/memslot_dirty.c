/* SPDX-License-Identifier: MIT */
/* Dirty logging: the bitmaps and the ioctls that read and clear them. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/memslot_impl.h"
#include "core/mmu/mmu.h"
#include "core/vm.h"

#define BITMAP_BITS 64u

static u64 bitmap_words(u64 npages)
{
	return (npages + BITMAP_BITS - 1) / BITMAP_BITS;
}

bool kvm_dirty_log_init_set(const struct kvm *kvm)
{
	return kvm->arch && (kvm->arch->manual_dirty_log_protect & KVM_DIRTY_LOG_INITIALLY_SET);
}

static bool manual_protect(const struct kvm *kvm)
{
	return kvm->arch && kvm->arch->manual_dirty_log_protect;
}

/* Mapped, not allocated: a slot may be huge and hardly touched. */
u64 *dirty_bitmap_alloc(struct kvm *kvm, const struct memslot *s)
{
	size_t bytes = bitmap_words(s->npages) * 8;
	u64 *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (kvm_dirty_log_init_set(kvm)) {
		memset(p, 0xff, s->npages / 64 * 8);
		if (s->npages % 64)
			p[s->npages / 64] = BIT(s->npages % 64) - 1;
	}
	return p;
}

void dirty_bitmap_free(const struct memslot *s, u64 *bitmap)
{
	if (bitmap)
		munmap(bitmap, bitmap_words(s->npages) * 8);
}

void memslot_mark_dirty(struct memslot *s, gfn_t gfn)
{
	u64 n = gfn - s->base_gfn, bit = BIT(n % 64);
	struct dirty_ring *ring = dirty_ring_current();
	u64 *w;

	if (!memslot_dirty_logged(s))
		return;
	if (ring) {
		dirty_ring_push(ring, (u32)s->as_id << 16 | s->id, n);
		return;
	}
	/* With rings, what no vCPU wrote is told by nobody, as in the kernel. */
	if (!s->dirty_bitmap)
		return;
	w = &s->dirty_bitmap[n / 64];
	if (!(__atomic_load_n(w, __ATOMIC_RELAXED) & bit))
		__atomic_fetch_or(w, bit, __ATOMIC_RELEASE);
}

/* slots_lock held. -ENXIO, -EINVAL, -ENOENT as both ioctls. */
static int logged_slot(struct kvm *kvm, u32 slot, struct memslot **out)
{
	unsigned as = slot >> 16, id = (u16)slot;

	if (!kvm_uses_dirty_bitmap(kvm))
		return -ENXIO;

	if (as >= KVM_ADDRESS_SPACES || id >= KVM_USER_MEM_SLOTS)
		return -EINVAL;
	*out = memslot_by_id(kvm, as, id);
	return *out && (*out)->dirty_bitmap ? 0 : -ENOENT;
}

long vm_dirty_bitmap_bytes(struct kvm *kvm, u32 slot)
{
	struct memslot *s;
	long r;

	pthread_mutex_lock(&kvm->slots_lock);
	r = logged_slot(kvm, slot, &s);
	if (!r)
		r = (long)(bitmap_words(s->npages) * 8);
	pthread_mutex_unlock(&kvm->slots_lock);
	return r;
}

/*
 * Without manual protection, reading also clears and write-protects: pages written from now on are
 * logged again. The order matters: a bit is cleared before its page is protected and the processors
 * flushed, so a write in between is lost from neither this report nor the next.
 */
int vm_get_dirty_log(struct kvm *kvm, u32 slot, void *bitmap, size_t n)
{
	u64 *out = bitmap, words;
	bool flush = false;
	struct memslot *s;
	int r;

	pthread_mutex_lock(&kvm->slots_lock);
	r = logged_slot(kvm, slot, &s);
	if (r)
		goto out;
	words = MIN(bitmap_words(s->npages), n / 8);
	if (manual_protect(kvm)) {
		for (u64 i = 0; i < words; i++)
			out[i] = __atomic_load_n(&s->dirty_bitmap[i], __ATOMIC_ACQUIRE);
		goto out;
	}
	pthread_mutex_lock(&kvm->mmu_lock);
	for (u64 i = 0; i < words; i++) {
		out[i] = 0;
		if (!__atomic_load_n(&s->dirty_bitmap[i], __ATOMIC_RELAXED))
			continue;
		out[i] = __atomic_exchange_n(&s->dirty_bitmap[i], 0, __ATOMIC_ACQ_REL);
		mmu_slot_write_protect(kvm, s, i * 64, out[i]);
		flush = true;
	}
	pthread_mutex_unlock(&kvm->mmu_lock);
	if (flush)
		mmu_flush_remote(kvm);
out:
	pthread_mutex_unlock(&kvm->slots_lock);
	return r;
}

int vm_clear_dirty_log(struct kvm *kvm, const struct kvm_clear_dirty_log *log, const void *bitmap,
		       size_t n)
{
	u64 first = log->first_page, num = log->num_pages;
	const u64 *in = bitmap;
	bool flush = false;
	struct memslot *s;
	int r;

	pthread_mutex_lock(&kvm->slots_lock);
	r = logged_slot(kvm, log->slot, &s);
	if (r == -EINVAL || r == -ENXIO)
		goto out;
	/* This check comes before that for the slot. */
	if (first & (BITMAP_BITS - 1)) {
		r = -EINVAL;
		goto out;
	}
	if (r)
		goto out;
	/* Whole words, except at the end of the slot. */
	if (first > s->npages || num > s->npages - first ||
	    (num < s->npages - first && (num & (BITMAP_BITS - 1)))) {
		r = -EINVAL;
		goto out;
	}
	if (n < bitmap_words(num) * 8) {
		r = -EFAULT;
		goto out;
	}
	pthread_mutex_lock(&kvm->mmu_lock);
	for (u64 i = 0; i < bitmap_words(num); i++) {
		u64 *w = &s->dirty_bitmap[first / BITMAP_BITS + i];
		u64 mask = in[i];

		if (!mask)
			continue;
		/* Bits beyond the slot's end are never set, so they drop out here. */
		mask &= __atomic_fetch_and(w, ~mask, __ATOMIC_ACQ_REL);
		if (mask) {
			mmu_slot_write_protect(kvm, s, first + i * BITMAP_BITS, mask);
			flush = true;
		}
	}
	pthread_mutex_unlock(&kvm->mmu_lock);
	if (flush)
		mmu_flush_remote(kvm);
out:
	pthread_mutex_unlock(&kvm->slots_lock);
	return r;
}
