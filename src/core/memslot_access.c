/* SPDX-License-Identifier: MIT */
/* Guest memory by guest-physical address, for the core itself. */
#include <errno.h>
#include <string.h>

#include "base/guard.h"
#include "core/memslot_impl.h"
#include "core/mmu/mmu.h"
#include "core/vcpu.h"

struct memslot *vcpu_gfn_to_memslot(struct kvm_vcpu *v, gfn_t gfn)
{
	const struct memslots *s = kvm_memslots(v->kvm, kvm_is_smm(v));
	struct vcpu_mmu *m = v->mmu;
	struct memslot *slot;

	/* A generation belongs to one array only, so this also tells the address spaces apart. */
	if (m->last_generation == s->generation &&
	    gfn - m->last_slot->base_gfn < m->last_slot->npages)
		return m->last_slot;
	slot = memslots_find(s, gfn);
	if (slot) {
		m->last_slot = slot;
		m->last_generation = s->generation;
	}
	return slot;
}

static hva_t slot_hva(const struct memslot *s, gfn_t gfn, bool write)
{
	if (!s || s->flags & MEMSLOT_INVALID || (write && s->flags & KVM_MEM_READONLY))
		return HVA_BAD;
	return memslot_gfn_to_hva(s, gfn);
}

hva_t gfn_to_hva(struct kvm *kvm, gfn_t gfn, bool write)
{
	return slot_hva(gfn_to_memslot(kvm, gfn), gfn, write);
}

hva_t vcpu_gfn_to_hva(struct kvm_vcpu *v, gfn_t gfn, bool write)
{
	return slot_hva(vcpu_gfn_to_memslot(v, gfn), gfn, write);
}

static void written(struct kvm *kvm, struct memslot *s, gfn_t gfn, hva_t hva, u64 len)
{
	memslot_mark_dirty(s, gfn);
	if (kvm->machine)
		sil_memory_written(kvm->machine, hva, len);
}

typedef int piece_fn(void *guest, void *ours, size_t n);

static int piece_read(void *guest, void *ours, size_t n)
{
	return copy_from_user(ours, guest, n);
}

static int piece_write(void *guest, void *ours, size_t n)
{
	return copy_to_user(guest, ours, n);
}

static int piece_clear(void *guest, void *ours, size_t n)
{
	struct guard g;

	if (guard_enter(&g))
		return -EFAULT;
	memset(guest, 0, n);
	guard_leave(&g);
	return 0;
}

/* Page by page; @v NULL: address space 0. */
static int access_guest(struct kvm *kvm, struct kvm_vcpu *v, gpa_t gpa, void *ours, size_t n,
			piece_fn *fn, bool write)
{
	unsigned idx = slots_read_lock(kvm);
	int r = 0;

	while (n && !r) {
		gfn_t gfn = gpa >> PAGE_SHIFT;
		size_t off = gpa & (PAGE_SIZE - 1), len = MIN(n, PAGE_SIZE - off);
		struct memslot *s = v ? vcpu_gfn_to_memslot(v, gfn) : gfn_to_memslot(kvm, gfn);
		hva_t hva = slot_hva(s, gfn, write);

		if (hva == HVA_BAD) {
			r = -EFAULT;
			break;
		}
		r = fn((void *)(hva + off), ours, len);
		if (!r && write)
			written(kvm, s, gfn, hva + off, len);
		gpa += len;
		n -= len;
		if (ours)
			ours = (char *)ours + len;
	}
	slots_read_unlock(kvm, idx);
	return r;
}

int kvm_read_guest(struct kvm *kvm, gpa_t gpa, void *dst, size_t n)
{
	return access_guest(kvm, NULL, gpa, dst, n, piece_read, false);
}

int kvm_write_guest(struct kvm *kvm, gpa_t gpa, const void *src, size_t n)
{
	return access_guest(kvm, NULL, gpa, (void *)src, n, piece_write, true);
}

int kvm_clear_guest(struct kvm *kvm, gpa_t gpa, size_t n)
{
	return access_guest(kvm, NULL, gpa, NULL, n, piece_clear, true);
}

int vcpu_read_guest(struct kvm_vcpu *v, gpa_t gpa, void *dst, size_t n)
{
	return access_guest(v->kvm, v, gpa, dst, n, piece_read, false);
}

int vcpu_write_guest(struct kvm_vcpu *v, gpa_t gpa, const void *src, size_t n)
{
	return access_guest(v->kvm, v, gpa, (void *)src, n, piece_write, true);
}

/* 0 exchanged, 1 not, -EFAULT. */
static int cmpxchg_hva(hva_t hva, void *old, const void *val, unsigned size)
{
	struct guard g;
	bool done;

	if (guard_enter(&g))
		return -EFAULT;
	switch (size) {
#define CASE(bits)                                                                                 \
	case bits / 8:                                                                             \
		done = __atomic_compare_exchange_n((u##bits *)hva, (u##bits *)old,                 \
						   *(const u##bits *)val, false, __ATOMIC_SEQ_CST, \
						   __ATOMIC_SEQ_CST);                              \
		break
		CASE(8);
		CASE(16);
		CASE(32);
	default: CASE(64);
#undef CASE
	}
	guard_leave(&g);
	return !done;
}

int vcpu_cmpxchg_guest(struct kvm_vcpu *v, gpa_t gpa, void *old, const void *val, unsigned size)
{
	unsigned idx = slots_read_lock(v->kvm);
	gfn_t gfn = gpa >> PAGE_SHIFT;
	struct memslot *s = vcpu_gfn_to_memslot(v, gfn);
	hva_t hva = slot_hva(s, gfn, true);
	int r = -EFAULT;

	if (hva != HVA_BAD && !(gpa & (size - 1))) {
		hva += gpa & (PAGE_SIZE - 1);
		r = cmpxchg_hva(hva, old, val, size);
		if (!r)
			written(v->kvm, s, gfn, hva, size);
	}
	slots_read_unlock(v->kvm, idx);
	return r;
}

/* ---- Kept translations ---- */

/* Read side held. */
static void gfn_cache_refresh(struct kvm *kvm, struct gfn_to_hva_cache *c)
{
	const struct memslots *s = kvm_memslots(kvm, 0);
	gfn_t first = c->gpa >> PAGE_SHIFT, last = (c->gpa + MAX(c->len, 1u) - 1) >> PAGE_SHIFT;

	if (c->generation == s->generation)
		return;
	c->generation = s->generation;
	c->slot = memslots_find(s, first);
	c->hva = HVA_BAD;
	/* Slots' memory is contiguous, so a run inside one slot is one run of ours. */
	if (c->slot && last - c->slot->base_gfn < c->slot->npages &&
	    !(c->slot->flags & MEMSLOT_INVALID))
		c->hva = memslot_gfn_to_hva(c->slot, first) + (c->gpa & (PAGE_SIZE - 1));
}

int gfn_cache_init(struct kvm *kvm, struct gfn_to_hva_cache *c, gpa_t gpa, size_t len)
{
	unsigned idx = slots_read_lock(kvm);
	int r = 0;

	*c = (struct gfn_to_hva_cache){.gpa = gpa, .len = len};
	gfn_cache_refresh(kvm, c);
	if (gpa + len < gpa)
		r = -EINVAL;
	else if (c->hva == HVA_BAD)
		for (gpa_t a = gpa & PAGE_MASK; a < gpa + len && !r; a += PAGE_SIZE)
			r = gfn_to_hva(kvm, a >> PAGE_SHIFT, false) == HVA_BAD ? -EFAULT : 0;
	slots_read_unlock(kvm, idx);
	return r;
}

static int gfn_cache_access(struct kvm *kvm, struct gfn_to_hva_cache *c, void *ours, size_t off,
			    size_t n, bool write)
{
	unsigned idx = slots_read_lock(kvm);
	int r;

	if (off > c->len || n > c->len - off) {
		r = -EINVAL;
		goto out;
	}
	gfn_cache_refresh(kvm, c);
	if (c->hva == HVA_BAD || (write && c->slot->flags & KVM_MEM_READONLY)) {
		r = access_guest(kvm, NULL, c->gpa + off, ours, n, write ? piece_write : piece_read,
				 write);
		goto out;
	}
	r = (write ? piece_write : piece_read)((void *)(c->hva + off), ours, n);
	if (!r && write) {
		gfn_t gfn = (c->gpa + off) >> PAGE_SHIFT;
		gfn_t last = (c->gpa + off + MAX(n, 1u) - 1) >> PAGE_SHIFT;

		written(kvm, c->slot, gfn, c->hva + off, n);
		while (gfn++ < last)
			memslot_mark_dirty(c->slot, gfn);
	}
out:
	slots_read_unlock(kvm, idx);
	return r;
}

int gfn_cache_read(struct kvm *kvm, struct gfn_to_hva_cache *c, void *dst, size_t off, size_t n)
{
	return gfn_cache_access(kvm, c, dst, off, n, false);
}

int gfn_cache_write(struct kvm *kvm, struct gfn_to_hva_cache *c, const void *src, size_t off,
		    size_t n)
{
	return gfn_cache_access(kvm, c, (void *)src, off, n, true);
}
