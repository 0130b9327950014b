/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous page faults (KVM_FEATURE_ASYNC_PF): guest memory that takes the host long to bring
 * in, because it is swapped out, in a file, or a userfaultfd's, does not hold the vCPU up. The
 * guest is told that the page is not present, runs something else, and is told when it is there.
 * Own thread unless noted.
 */
#ifndef CORE_APF_H
#define CORE_APF_H

#include "base/types.h"

struct kvm;
struct kvm_vcpu;
struct apf_job;
struct apf_pool;
struct memslot;

/* As many pages as KVM waits for at a time. */
#define APF_MAX_PENDING 64

struct apf_state {
	u64 en, vec; /* the MSRs */
	u32 id;	     /* for tokens */
	bool halted; /* nothing to run until a page or an event comes */
	bool ready_pending;
	unsigned watch; /* so many touches are still to be watched */
	/* Under the pool's lock. */
	struct apf_job *pending[APF_MAX_PENDING];
	struct apf_job *done, **done_tail;
};

/*
 * Brings in the page at @hva of @s, in which @gfn is, for reading or writing. 0; -EFAULT; -EAGAIN:
 * the page is on its way, and what the vCPU is to do meanwhile has been requested. @wait: never the
 * last.
 */
int apf_touch(struct kvm_vcpu *v, struct memslot *s, gfn_t gfn, hva_t hva, bool write, bool wait);
/* Has a page come that the guest has not been told of? Any thread. */
bool apf_has_ready(const struct kvm_vcpu *v);
/* REQ_APF_READY: tells the guest, if it can be told now. */
void apf_check_ready(struct kvm_vcpu *v);
void apf_vcpu_reset(struct kvm_vcpu *v);
/* No vCPU runs any more. */
void apf_vm_destroy(struct kvm *kvm);

#endif
