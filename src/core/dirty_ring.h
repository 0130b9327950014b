/* SPDX-License-Identifier: MIT */
/*
 * Dirty rings (KVM_CAP_DIRTY_LOG_RING): each vCPU tells in a ring of its own which pages it wrote;
 * the ring is memory shared with the program, from page KVM_DIRTY_LOG_PAGE_OFFSET of the vCPU's
 * file.
 *
 * An entry goes round: empty, DIRTY (pushed by the vCPU), RESET (the program has collected it),
 * empty again (KVM_RESET_DIRTY_RINGS, which also protects its page). The program may write anything
 * at any time: it can only hurt its own log.
 */
#ifndef CORE_DIRTY_RING_H
#define CORE_DIRTY_RING_H

#include "base/types.h"
#include "spec/abi/kvm.h"

struct kvm;
struct kvm_vcpu;

struct dirty_ring {
	struct kvm_vcpu *v;
	struct kvm_dirty_gfn *entries; /* NULL: there is none */
	u32 size;		       /* entries, a power of two */
	u32 soft_limit;		       /* with so many in use KVM_RUN exits */
	u32 dirty_index;	       /* of the next push; written by the vCPU's thread, atomic */
	u32 reset_index;	       /* of the next reset; written under slots_lock, atomic */
	bool overflow;		       /* has been told */
};

/* The vCPU in whose ioctl this thread is: what it writes goes to its ring. Nests. */
struct dirty_ring *dirty_ring_enter(struct kvm_vcpu *v);
void dirty_ring_leave(struct dirty_ring *before);
/* The ring of the vCPU this thread works for; NULL: none, or no rings in its VM. */
struct dirty_ring *dirty_ring_current(void);

int kvm_dirty_ring_max_bytes(void);
/* The core's side of KVM_ENABLE_CAP, kvm->lock held: 0 or -errno. */
int dirty_ring_enable(struct kvm *kvm, u64 bytes);
void dirty_ring_init(struct kvm_vcpu *v);
/* @slot: as_id << 16 | id; @offset: page in it. The ring's own thread. */
void dirty_ring_push(struct dirty_ring *r, u32 slot, u64 offset);
/* True: KVM_RUN has to exit with KVM_EXIT_DIRTY_RING_FULL. vCPU thread. */
bool dirty_ring_check_full(struct kvm_vcpu *v);

/* Is dirtiness told by bitmaps? Not both. */
bool kvm_uses_dirty_bitmap(const struct kvm *kvm);

#endif
