/* SPDX-License-Identifier: MIT */
/*
 * Requests: work asked of a vCPU by any thread, done by the vCPU's own thread before its next
 * entry. Same protocol as the kernel's: make the request, then kick; the vCPU sets its mode to
 * IN_GUEST before it looks at the requests for the last time, so one of the two sees the other.
 */
#ifndef CORE_REQUEST_H
#define CORE_REQUEST_H

#include "base/types.h"

struct kvm;
struct kvm_vcpu;

enum kvm_request {
	REQ_EVENT,	       /* look at interrupts, NMIs, exceptions again */
	REQ_TLB_FLUSH,	       /* everything of this vCPU */
	REQ_TLB_FLUSH_CURRENT, /* the current context */
	REQ_TLB_FLUSH_GUEST,   /* what the guest itself could flush */
	REQ_HV_TLB_FLUSH,      /* the same of the levels in hv.flush */
	REQ_MMU_SYNC,	       /* bring the current root's unsync pages up to date */
	REQ_MMU_RELOAD,	       /* roots are gone: build new ones */
	REQ_LOAD_MMU_PGD,      /* write the root (and CR3) into the VMCS or VMCB */
	REQ_TPR_ACCESS,	       /* KVM_RUN is to return with KVM_EXIT_TPR_ACCESS */
	REQ_TRIPLE_FAULT,
	REQ_INTERRUPT_RUN, /* KVM_RUN is to return -EINTR */
	REQ_PAUSE,	   /* leave the guest and wait (slot changes) */
	REQ_CLOCK_UPDATE,  /* kvmclock */
	REQ_STEAL_UPDATE,
	REQ_MSR_FILTER_CHANGED,
	REQ_APIC_PAGE_RELOAD,
	REQ_IOAPIC_EOI_EXIT,
	REQ_SMI,
	REQ_NMI,
	REQ_PMU,
	REQ_APF_HALT,
	REQ_APF_READY,
	REQ_CODE_RECHECK, /* sil_code_recheck */
	REQ_NESTED_EVENT,
	REQ_DIRTY_RING_FULL,
	REQ_N,
};
_Static_assert(REQ_N <= 64, "one word holds all requests");

enum vcpu_mode { VCPU_OUTSIDE_GUEST, VCPU_IN_GUEST, VCPU_EXITING };

struct request_state {
	u64 pending; /* bits by enum kvm_request; atomic */
	int mode;    /* enum vcpu_mode; atomic */
	u32 wake;    /* futex word: bumped to wake a halted vCPU */
	u32 waiting; /* somebody may sleep on it; atomic */
};

void kvm_make_request(struct kvm_vcpu *v, enum kvm_request r);	/* any thread; no kick */
bool kvm_check_request(struct kvm_vcpu *v, enum kvm_request r); /* test and clear; own thread */
static inline bool kvm_request_pending(const struct request_state *s)
{
	return __atomic_load_n(&s->pending, __ATOMIC_ACQUIRE) != 0;
}
/* Out of the guest if in it, awake if halted. Any thread, any lock, async-signal-safe. */
void kvm_vcpu_kick(struct kvm_vcpu *v);
/* To all vCPUs, and wait until none is still in the guest with the old state. Not from a vCPU that
 * is itself IN_GUEST. */
void kvm_make_all_request_sync(struct kvm *kvm, enum kvm_request r);
/* The same to those for which @want is true; it is called twice for each. */
void kvm_make_request_sync(struct kvm *kvm, enum kvm_request r,
			   bool (*want)(struct kvm_vcpu *v, void *arg), void *arg);

#endif
