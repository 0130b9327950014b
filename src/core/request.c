/* SPDX-License-Identifier: MIT */
/*
 * Requests and kicks. The vCPU publishes IN_GUEST, then looks at its requests a last time; a
 * requester publishes the request, then looks at the mode: whichever comes second sees the other.
 *
 * req.mode is also a futex word: a thread that needs the vCPU out of the guest turns IN_GUEST into
 * EXITING and waits for it to change; a vCPU that leaves the guest and finds EXITING wakes.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/vcpu.h"
#include "core/wait.h"

static long futex(void *word, int op, u32 val, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, timeout, NULL,
		       FUTEX_BITSET_MATCH_ANY);
}

void kvm_make_request(struct kvm_vcpu *v, enum kvm_request r)
{
	__atomic_fetch_or(&v->req.pending, BIT(r), __ATOMIC_SEQ_CST);
}

bool kvm_check_request(struct kvm_vcpu *v, enum kvm_request r)
{
	if (!(__atomic_load_n(&v->req.pending, __ATOMIC_ACQUIRE) & BIT(r)))
		return false;
	__atomic_fetch_and(&v->req.pending, ~BIT(r), __ATOMIC_SEQ_CST);
	return true;
}

/* IN_GUEST becomes EXITING, and the processor is told. True if the vCPU was or is on its way out.
 */
static bool vcpu_exit_guest_mode(struct kvm_vcpu *v)
{
	int mode = VCPU_IN_GUEST;

	if (__atomic_compare_exchange_n(&v->req.mode, &mode, VCPU_EXITING, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST)) {
		sil_cpu_kick(v->cpu);
		VCPU_TRACE(event, v, TRACE_KICK, (u64)gettid(), 0, 0);
		return true;
	}
	return mode == VCPU_EXITING;
}

void kvm_vcpu_kick(struct kvm_vcpu *v)
{
	int saved_errno = errno;

	__atomic_fetch_add(&v->req.wake, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->req.waiting, __ATOMIC_SEQ_CST)) {
		futex(&v->req.wake, FUTEX_WAKE, INT_MAX, NULL);
		VCPU_TRACE(event, v, TRACE_WAKE, (u64)gettid(), 0, 0);
	}
	vcpu_exit_guest_mode(v);
	errno = saved_errno;
}

static void wait_for_exit(struct kvm_vcpu *v)
{
	for (unsigned spin = 0;; spin++) {
		int mode = __atomic_load_n(&v->req.mode, __ATOMIC_SEQ_CST);

		if (mode != VCPU_EXITING)
			break;
		if (spin < 64)
			__builtin_ia32_pause();
		else
			futex(&v->req.mode, FUTEX_WAIT_BITSET, VCPU_EXITING, NULL);
	}
}

void kvm_make_request_sync(struct kvm *kvm, enum kvm_request r,
			   bool (*want)(struct kvm_vcpu *v, void *arg), void *arg)
{
	struct kvm_vcpu *v;

	kvm_for_each_vcpu(v, kvm)
	{
		if (!want(v, arg))
			continue;
		kvm_make_request(v, r);
		vcpu_exit_guest_mode(v);
	}
	/* A vCPU outside the guest sees the request before it enters; so it need not be waited for.
	 */
	kvm_for_each_vcpu(v, kvm) if (want(v, arg)) wait_for_exit(v);
}

static bool want_all(struct kvm_vcpu *v, void *arg)
{
	return true;
}

void kvm_make_all_request_sync(struct kvm *kvm, enum kvm_request r)
{
	kvm_make_request_sync(kvm, r, want_all, NULL);
}

void vcpu_enter_guest_mode(struct kvm_vcpu *v)
{
	__atomic_store_n(&v->req.mode, VCPU_IN_GUEST, __ATOMIC_SEQ_CST);
}

void vcpu_leave_guest_mode(struct kvm_vcpu *v)
{
	int old = __atomic_exchange_n(&v->req.mode, VCPU_OUTSIDE_GUEST, __ATOMIC_SEQ_CST);

	if (old == VCPU_EXITING)
		futex(&v->req.mode, FUTEX_WAKE, INT_MAX, NULL);
}

bool vcpu_must_leave(const struct kvm_vcpu *v)
{
	return __atomic_load_n(&v->req.mode, __ATOMIC_SEQ_CST) == VCPU_EXITING ||
	       kvm_request_pending(&v->req);
}

u32 vcpu_wait_prepare(struct kvm_vcpu *v)
{
	__atomic_store_n(&v->req.waiting, 1, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&v->req.wake, __ATOMIC_SEQ_CST);
}

int vcpu_wait(struct kvm_vcpu *v, u32 seen, u64 deadline_ns)
{
	struct timespec ts;
	long r;

	/* WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC. */
	if (deadline_ns != ~0ull) {
		u64 end = kvm_ns_to_monotonic(v->kvm, deadline_ns);

		ts.tv_sec = (time_t)(end / 1000000000);
		ts.tv_nsec = (long)(end % 1000000000);
	}
	r = futex(&v->req.wake, FUTEX_WAIT_BITSET, seen, deadline_ns == ~0ull ? NULL : &ts);

	return r == -1 && errno == EINTR ? -EINTR : 0;
}

void vcpu_wait_finish(struct kvm_vcpu *v)
{
	__atomic_store_n(&v->req.waiting, 0, __ATOMIC_SEQ_CST);
}
