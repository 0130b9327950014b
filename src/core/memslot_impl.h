/* SPDX-License-Identifier: MIT */
/* What the memslot*.c files share. */
#ifndef CORE_MEMSLOT_IMPL_H
#define CORE_MEMSLOT_IMPL_H

#include "core/grace.h"
#include "core/memslot.h"

struct slots_state {
	struct grace grace; /* readers of the arrays */

	/* The rest: slots_lock. */
	u64 generation; /* of the newest array of either address space; never repeats */
	u64 npages;
	struct memslot **by_id[KVM_ADDRESS_SPACES];
	u32 ids[KVM_ADDRESS_SPACES]; /* entries in by_id */
};

struct memslot *memslot_by_id(struct kvm *kvm, unsigned as, unsigned id);

/* Zero-filled, or all ones with KVM_DIRTY_LOG_INITIALLY_SET; NULL without memory. */
u64 *dirty_bitmap_alloc(struct kvm *kvm, const struct memslot *s);
void dirty_bitmap_free(const struct memslot *s, u64 *bitmap);
bool kvm_dirty_log_init_set(const struct kvm *kvm);

#endif
