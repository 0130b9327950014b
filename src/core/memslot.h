/* SPDX-License-Identifier: MIT */
/*
 * Memory slots: which guest frames are which of the VMM's memory, and the guest-memory helpers that
 * the rest of the core uses.
 *
 * Readers take no lock. A set of slots is an immutable array sorted by guest frame; a change
 *publishes a new array and waits until no reader of the old one is left (slots_synchronize).
 *Whoever keeps a pointer to a slot, or an hva made from one, holds the read side around it:
 *
 *	unsigned idx = slots_read_lock(kvm);
 *	... gfn_to_memslot, gfn_to_hva, accesses ...
 *	slots_read_unlock(kvm, idx);
 *
 * The read side nests, may sleep, and is async-signal-safe, but a thread in it must not wait for a
 * vCPU or take kvm->slots_lock. The kvm_read_guest family takes it by itself. Page-table entries
 *need none: they are zapped, and processors flushed, before a slot's change is complete.
 *
 * Writers hold kvm->slots_lock.
 */
#ifndef CORE_MEMSLOT_H
#define CORE_MEMSLOT_H

#include "core/kvm_host.h"

#define KVM_MEM_SLOTS_NUM      32767u
#define KVM_INTERNAL_MEM_SLOTS 3u
#define KVM_USER_MEM_SLOTS     (KVM_MEM_SLOTS_NUM - KVM_INTERNAL_MEM_SLOTS)
#define KVM_ADDRESS_SPACES     2u
#define KVM_MEM_MAX_NR_PAGES   ((1ull << 31) - 1)
/* Slots of ours: not the VMM's to set. */
enum kvm_private_slot {
	TSS_PRIVATE_MEMSLOT = KVM_USER_MEM_SLOTS,
	APIC_ACCESS_PAGE_PRIVATE_MEMSLOT,
	IDENTITY_PAGETABLE_PRIVATE_MEMSLOT,
};

/* A slot that is being moved or deleted: nothing is mapped from it, faults retry. */
#define MEMSLOT_INVALID BIT(16)

/* Large-page bookkeeping and reverse maps, for the MMU; same lifetime as the slot's frames. */
struct mmu_slot;

struct memslot {
	gfn_t base_gfn;
	u64 npages;
	hva_t userspace_addr;
	u32 flags; /* KVM_MEM_*, MEMSLOT_INVALID */
	u16 id, as_id;
	/* One bit a page, in words set and fetched atomically; NULL when not logging. */
	u64 *dirty_bitmap;
	struct mmu_slot *mmu;
	struct gmem *gmem; /* private memory, from gmem_hva; NULL: none */
	hva_t gmem_hva;
	bool internal;	   /* memory is ours */
	u64 slow_until_ns; /* touching it has blocked lately: core/apf.c; atomic */
};

struct memslots {
	u64 generation; /* of the last change; bit 63 while one is in progress */
	u32 n;
	struct memslot *slot[]; /* by base_gfn, not overlapping */
};

/* ---- Life cycle ---- */
int memslots_init(struct kvm *kvm);	/* 0 or -ENOMEM */
void memslots_destroy(struct kvm *kvm); /* no vCPU and no reader is left */

/*
 * vm_set_user_memory_region (core.h) is the ioctl. This one is for our own slots: @size bytes of
 * zeroed memory at @gpa in slot @id of address space 0; @size 0 deletes. Stores the memory's
 * address to *@hva if @hva. Takes slots_lock: call with none of the core's locks. 0 or -errno.
 */
int memslot_set_internal(struct kvm *kvm, enum kvm_private_slot id, gpa_t gpa, u64 size,
			 hva_t *hva);

/* ---- Readers ---- */
unsigned slots_read_lock(struct kvm *kvm);
void slots_read_unlock(struct kvm *kvm, unsigned idx);
/* Waits for readers that may see what was published before. Holds slots_lock. */
void slots_synchronize(struct kvm *kvm);

static inline const struct memslots *kvm_memslots(struct kvm *kvm, unsigned as_id)
{
	return __atomic_load_n(&kvm->memslots[as_id], __ATOMIC_ACQUIRE);
}
/* Changes with every change of any slot; even while none is in progress. */
u64 kvm_memslots_generation(struct kvm *kvm);
/* NULL if no slot has @gfn. Read side. */
struct memslot *memslots_find(const struct memslots *s, gfn_t gfn);
/* In address space 0. */
struct memslot *gfn_to_memslot(struct kvm *kvm, gfn_t gfn);
/* In the vCPU's address space (SMM or not), through its one-entry cache. vCPU thread. */
struct memslot *vcpu_gfn_to_memslot(struct kvm_vcpu *v, gfn_t gfn);
static inline hva_t memslot_gfn_to_hva(const struct memslot *s, gfn_t gfn)
{
	return s->userspace_addr + ((gfn - s->base_gfn) << PAGE_SHIFT);
}
/* 0 (HVA_BAD) if there is no usable slot, or the slot is read-only and @write. Read side. */
#define HVA_BAD 0ull
hva_t gfn_to_hva(struct kvm *kvm, gfn_t gfn, bool write);
hva_t vcpu_gfn_to_hva(struct kvm_vcpu *v, gfn_t gfn, bool write);
/* Is @hva in memory lent to guests? sil_host.owns_hva; @kvm is the opaque. Any thread, lock-free.
 */
bool kvm_owns_hva(void *kvm, u64 hva);
u64 kvm_memslots_pages(struct kvm *kvm); /* pages in all slots */

/* ---- Guest memory: 0, or -EFAULT if any part has no slot, is read-only (writes), or is missing.
 * Writes mark pages dirty and tell the processor. Any thread. ---- */
int kvm_read_guest(struct kvm *kvm, gpa_t gpa, void *dst, size_t n);
int kvm_write_guest(struct kvm *kvm, gpa_t gpa, const void *src, size_t n);
int kvm_clear_guest(struct kvm *kvm, gpa_t gpa, size_t n);
/* In the vCPU's address space. vCPU thread. */
int vcpu_read_guest(struct kvm_vcpu *v, gpa_t gpa, void *dst, size_t n);
int vcpu_write_guest(struct kvm_vcpu *v, gpa_t gpa, const void *src, size_t n);
/* Compare and exchange @size (1, 2, 4, 8) bytes, naturally aligned. 0 exchanged, 1 not (*@old
 * updated), or -EFAULT. */
int vcpu_cmpxchg_guest(struct kvm_vcpu *v, gpa_t gpa, void *old, const void *val, unsigned size);

/* A translation to keep: for data the core reads or writes often (kvmclock page, PV EOI word, ...).
 * Looks the slot up again by itself when slots have changed. One thread at a time. */
struct gfn_to_hva_cache {
	u64 generation;
	gpa_t gpa;
	size_t len;
	hva_t hva; /* HVA_BAD: crosses slots or has none: the slow path is taken */
	struct memslot *slot;
};
int gfn_cache_init(struct kvm *kvm, struct gfn_to_hva_cache *c, gpa_t gpa, size_t len);
int gfn_cache_read(struct kvm *kvm, struct gfn_to_hva_cache *c, void *dst, size_t off, size_t n);
int gfn_cache_write(struct kvm *kvm, struct gfn_to_hva_cache *c, const void *src, size_t off,
		    size_t n);

/* ---- Dirty logging ---- */
void memslot_mark_dirty(struct memslot *s, gfn_t gfn); /* any thread, read side */
static inline bool memslot_dirty_logged(const struct memslot *s)
{
	return s->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

#endif
