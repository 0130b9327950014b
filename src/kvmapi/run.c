/* SPDX-License-Identifier: MIT */
/*
 * KVM_RUN and its signals.
 *
 * KVM_SET_SIGNAL_MASK says which signals are blocked while the guest runs. Programs block a signal
 * in their thread, leave it out of that mask, and fetch it with sigwait after KVM_RUN has returned
 * EINTR: in the kernel such a signal interrupts the guest without being delivered. Here it has to
 * be delivered to be seen. So for the time of KVM_RUN these signals have a handler of ours, which
 * notes the signal and gets the vCPU out; afterwards, with the thread's own mask back, the signal
 * is sent again with the same information and is pending as if nothing had happened.
 */
#include "kvmapi/ioctl.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/guard.h"

#define SIGBIT(sig) BIT((sig)-1)
#define NSIGNALS    64

/* Faults of our own making are resolved by signals (base/guard.h): never blocked while we run. */
#define FAULT_SIGNALS (SIGBIT(SIGSEGV) | SIGBIT(SIGBUS))
/* Not ours to catch: faults, the unblockable, and the C library's own. */
#define UNCAUGHT                                                                              \
	(FAULT_SIGNALS | SIGBIT(SIGILL) | SIGBIT(SIGFPE) | SIGBIT(SIGTRAP) | SIGBIT(SIGSYS) | \
	 SIGBIT(SIGKILL) | SIGBIT(SIGSTOP) | SIGBIT(32) | SIGBIT(33))

struct run_signals {
	struct kvm_vcpu *v;
	u64 watched;
	u64 noted; /* one instance each: the handler leaves its signal blocked */
	siginfo_t info[NSIGNALS + 1];
};

static __thread struct run_signals *current_run; /* also read by the handler */
static struct sigaction program_act[NSIGNALS + 1];
static pthread_mutex_t act_lock = PTHREAD_MUTEX_INITIALIZER;

static void set_mask(u64 mask)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

/* What the program would have got if we had not been in between. */
static void pass_on(int sig, siginfo_t *si, void *uc)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	const struct sigaction *act = &program_act[sig];

	if (act->sa_flags & SA_SIGINFO) {
		act->sa_sigaction(sig, si, uc);
	} else if (act->sa_handler == SIG_DFL) {
		sigaction(sig, &dfl, NULL);
		syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, si);
		/* Delivered as soon as this handler returns. */
	} else if (act->sa_handler != SIG_IGN) {
		act->sa_handler(sig);
	}
}

static void on_signal(int sig, siginfo_t *si, void *ucontext)
{
	struct run_signals *run = current_run;
	ucontext_t *uc = ucontext;
	int saved = errno;

	if (!run || !(run->watched & SIGBIT(sig)) || (run->noted & SIGBIT(sig))) {
		pass_on(sig, si, ucontext);
	} else {
		run->info[sig] = *si;
		run->noted |= SIGBIT(sig);
		sigaddset(&uc->uc_sigmask, sig);
		vcpu_interrupt_run(run->v);
	}
	errno = saved;
}

static void watch(int sig)
{
	struct sigaction cur,
		act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	if (!sigaction(sig, NULL, &cur) && (cur.sa_flags & SA_SIGINFO) &&
	    cur.sa_sigaction == on_signal)
		return;
	pthread_mutex_lock(&act_lock);
	if (!sigaction(sig, NULL, &cur) && cur.sa_sigaction != on_signal) {
		program_act[sig] = cur;
		act.sa_mask = cur.sa_mask;
		sigaction(sig, &act, NULL);
	}
	pthread_mutex_unlock(&act_lock);
}

/*
 * Pending again, for this thread. Whether it had been sent to the thread or to the process cannot
 * be told (si_code differs between kernels); a signal that interrupts one vCPU is meant for its
 * thread.
 */
static void send_again(int sig, siginfo_t *si)
{
	syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, si);
}

static long run_masked(struct api_vcpu *vc, u64 blocked)
{
	struct run_signals run = {.v = vc->v, .watched = blocked & ~vc->sigmask & ~UNCAUGHT};
	long r;

	for (u64 left = run.watched; left; left &= left - 1)
		watch(__builtin_ctzll(left) + 1);
	current_run = &run;
	set_mask(vc->sigmask & ~FAULT_SIGNALS);
	r = vcpu_run(vc->v);
	set_mask(blocked);
	current_run = NULL;
	for (u64 left = run.noted; left; left &= left - 1)
		send_again(__builtin_ctzll(left) + 1, &run.info[__builtin_ctzll(left) + 1]);
	return r;
}

long api_run(struct ioctl_ctx *c)
{
	struct api_vcpu *vc = c->vcpu;
	int canceltype;
	u64 blocked = 0;
	long r;

	/* A thread cancelled in the middle would leave the vCPU half changed. */
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &canceltype);
	if (!vc->sigmask_set) {
		r = vcpu_run(vc->v);
	} else {
		syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, sizeof(blocked));
		r = run_masked(vc, blocked);
	}
	pthread_setcanceltype(canceltype, NULL);
	return r;
}

long api_set_signal_mask(struct ioctl_ctx *c)
{
	u64 mask;
	u32 len;
	long r;

	if (!c->arg) {
		c->vcpu->sigmask_set = false;
		return 0;
	}
	r = copy_from_user(&len, USER_ARG(c), sizeof(len));
	if (r)
		return r;
	if (len != sizeof(mask))
		return -EINVAL;
	r = copy_from_user(&mask, USER_FIELD(c, struct kvm_signal_mask, sigset), sizeof(mask));
	if (r)
		return r;
	c->vcpu->sigmask = mask & ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
	c->vcpu->sigmask_set = true;
	return 0;
}
