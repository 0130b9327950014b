/* SPDX-License-Identifier: MIT */
/*
 * The program's signal handlers run behind one of ours. In the kernel KVM_RUN ends with EINTR when
 * a signal is handled in its thread, and programs rely on it; so ours gets the thread's vCPU out,
 * and the program's handler runs when KVM_RUN has ended. SIGSEGV and SIGBUS first go to those who
 * guard accesses of our own (base/guard.h), SIGILL to cpuid.c.
 *
 * What the program set is in acts[], what the kernel has is our handler with the program's flags.
 * Before the program opens /dev/kvm nothing of this is in place, unless cpuid.c needs SIGILL.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/guard.h"
#include "shim/shim.h"

#define NSIGNALS 65

static struct sigaction acts[NSIGNALS]; /* handlers are read by on_signal without the lock */
static bool active;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

typedef void handler_fn(int sig, siginfo_t *si, void *uc);

/* Signals that we handle even if the program does not. */
static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || (sig == SIGILL && cpuid_patched());
}

/* SA_SIGINFO or not is one and the same call here: a handler of one parameter ignores the rest. */
static handler_fn *handler_of(int sig)
{
	return (handler_fn *)__atomic_load_n((void **)&acts[sig].sa_sigaction, __ATOMIC_ACQUIRE);
}

static bool is_function(handler_fn *fn)
{
	return (void *)fn != SIG_DFL && (void *)fn != SIG_IGN;
}

/* A fault's handler is installed with SA_NODEFER, whatever the program asked for. */
static void call_with_mask(handler_fn *fn, int sig, siginfo_t *si, void *uc)
{
	sigset_t block = acts[sig].sa_mask, old;

	if (!(acts[sig].sa_flags & SA_NODEFER))
		sigaddset(&block, sig);
	real_pthread_sigmask(SIG_BLOCK, &block, &old);
	fn(sig, si, uc);
	real_pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Not what an instruction has raised, nor what the kernel would end the program by when it comes
 * again. */
static bool may_wait(int sig, const siginfo_t *si)
{
	bool raised = si->si_code > 0 &&
		      (sig == SIGILL || sig == SIGFPE || sig == SIGTRAP || sig == SIGSYS);

	return !is_fault(sig) && !raised && !(acts[sig].sa_flags & SA_RESETHAND);
}

/* Are the two signals of our own faults open once the handler that has @ucontext is over? */
static bool open_behind(const ucontext_t *uc)
{
	return !sigismember(&uc->uc_sigmask, SIGSEGV) && !sigismember(&uc->uc_sigmask, SIGBUS);
}

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	bool open = guard_known_open();
	int saved = errno;
	handler_fn *fn;

	if (sig == SIGILL && cpuid_emulate(uc))
		return;
	if (is_fault(sig))
		guard_dispatch(sig, si, uc);
	/* The kernel has changed the mask for this handler; it may jump. */
	guard_mask_changes();
	fn = handler_of(sig);
	if (!is_function(fn)) {
		/* The default, at the next fault or now; nobody may ignore a fault. */
		struct sigaction dfl = {.sa_handler = SIG_DFL};
		bool sent = si->si_code <= 0;

		if ((void *)fn == SIG_DFL || !sent) {
			real_sigaction(sig, &dfl, NULL);
			if (sent)
				syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, si);
		}
	} else if (may_wait(sig, si) && run_defer(sig, si, uc)) {
		;
	} else {
		/* The kernel has reset its own action too, but for faults. */
		if (acts[sig].sa_flags & SA_RESETHAND)
			__atomic_store_n((void **)&acts[sig].sa_sigaction, (void *)SIG_DFL,
					 __ATOMIC_RELEASE);
		errno = saved;
		if (is_fault(sig))
			call_with_mask(fn, sig, si, uc);
		else
			fn(sig, si, uc);
		saved = errno;
		run_signalled();
	}
	/* What an ioctl of the handler has found was the handler's. */
	guard_mask_changes();
	if (open && open_behind(uc))
		guard_found_open();
	errno = saved;
}

/* The kernel's action for @sig once the program has asked for @act. */
static struct sigaction in_front(int sig, const struct sigaction *act)
{
	struct sigaction k = *act;

	if (!is_function((handler_fn *)act->sa_sigaction) && !is_fault(sig))
		return k;
	k.sa_sigaction = on_signal;
	k.sa_flags |= SA_SIGINFO;
	if (is_fault(sig)) {
		/* Jumps out of it must leave the signal open; kernel and handler agree on the rest.
		 */
		sigemptyset(&k.sa_mask);
		k.sa_flags |= SA_NODEFER | SA_ONSTACK;
		k.sa_flags &= ~SA_RESETHAND;
	}
	return k;
}

static int set(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction k = in_front(sig, act), before = acts[sig];
	int r;

	/* First the handler, then whoever calls it. */
	acts[sig].sa_mask = act->sa_mask;
	acts[sig].sa_flags = act->sa_flags;
	__atomic_store_n((void **)&acts[sig].sa_sigaction, (void *)act->sa_sigaction,
			 __ATOMIC_RELEASE);
	r = real_sigaction(sig, &k, NULL);
	if (r) {
		acts[sig] = before;
		return r;
	}
	if (old)
		*old = before;
	return 0;
}

void signal_forked(void)
{
	pthread_mutex_init(&lock, NULL);
}

void signal_activate(void)
{
	struct sigaction act;
	bool already;

	pthread_mutex_lock(&lock);
	already = __atomic_exchange_n(&active, true, __ATOMIC_ACQ_REL);
	for (int sig = 1; sig < NSIGNALS && !already; sig++) {
		if (real_sigaction(sig, NULL, &act) || act.sa_sigaction == on_signal)
			continue;
		acts[sig] = act;
		if (is_function((handler_fn *)act.sa_sigaction) || is_fault(sig))
			set(sig, &act, NULL);
	}
	pthread_mutex_unlock(&lock);
	guard_set_managed();
	guard_masks_seen();
}

static int do_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction copy;
	int r = 0;

	/* A vfork child prepares for exec: its handlers are not the parent's. */
	if (!__atomic_load_n(&active, __ATOMIC_ACQUIRE) || sig <= 0 || sig >= NSIGNALS ||
	    !shim_owns_memory())
		return real_sigaction(sig, act, old);
	if (act)
		copy = *act; /* may be where old is */
	pthread_mutex_lock(&lock);
	if (act)
		r = set(sig, &copy, old);
	else if (old)
		*old = acts[sig];
	pthread_mutex_unlock(&lock);
	return r;
}

__export int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return do_sigaction(sig, act, old);
}

int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);

__export int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return do_sigaction(sig, act, old);
}

static sighandler_t simple(int sig, sighandler_t fn, int flags)
{
	struct sigaction act = {.sa_handler = fn, .sa_flags = flags}, old;

	sigemptyset(&act.sa_mask);
	if (fn == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (!(flags & SA_NODEFER))
		sigaddset(&act.sa_mask, sig);
	return do_sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

__export sighandler_t signal(int sig, sighandler_t fn)
{
	return simple(sig, fn, SA_RESTART);
}

sighandler_t bsd_signal(int sig, sighandler_t fn);

__export sighandler_t bsd_signal(int sig, sighandler_t fn)
{
	return simple(sig, fn, SA_RESTART);
}

__export sighandler_t ssignal(int sig, sighandler_t fn)
{
	return simple(sig, fn, SA_RESTART);
}

__export sighandler_t sysv_signal(int sig, sighandler_t fn)
{
	return simple(sig, fn, SA_RESETHAND | SA_NODEFER);
}

sighandler_t __sysv_signal(int sig, sighandler_t fn);

__export sighandler_t __sysv_signal(int sig, sighandler_t fn)
{
	return simple(sig, fn, SA_RESETHAND | SA_NODEFER);
}

__export sighandler_t sigset(int sig, sighandler_t fn)
{
	sigset_t one, old;
	sighandler_t before;

	sigemptyset(&one);
	if (sigaddset(&one, sig))
		return SIG_ERR;
	if (fn == SIG_HOLD) {
		struct sigaction cur;

		if (pthread_sigmask(SIG_BLOCK, &one, &old) || do_sigaction(sig, NULL, &cur))
			return SIG_ERR;
		return sigismember(&old, sig) ? SIG_HOLD : cur.sa_handler;
	}
	before = simple(sig, fn, 0);
	if (before == SIG_ERR)
		return before;
	pthread_sigmask(SIG_UNBLOCK, &one, &old);
	return sigismember(&old, sig) ? SIG_HOLD : before;
}

int sigignore(int sig);

__export int sigignore(int sig)
{
	return simple(sig, SIG_IGN, 0) == SIG_ERR ? -1 : 0;
}

/* ---- Masks ------------------------------------------------------------------------------------
 */

/*
 * Whatever may change the thread's mask: kvmless_ioctl has to ask for it again then. Jumps restore
 * masks, too.
 */
#define CHANGES(name, params, args)      \
	int name params;                 \
	__export int name params         \
	{                                \
		guard_mask_changes();    \
		return real_##name args; \
	}

CHANGES(sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
CHANGES(pthread_sigmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old))
CHANGES(sigblock, (int mask), (mask))
CHANGES(sigsetmask, (int mask), (mask))
CHANGES(sighold, (int sig), (sig))
CHANGES(setcontext, (const ucontext_t *to), (to))
CHANGES(swapcontext, (ucontext_t * from, const ucontext_t *to), (from, to))

#define JUMPS(name)                                                         \
	__noreturn void name(struct __jmp_buf_tag env[1], int val);         \
	__export __noreturn void name(struct __jmp_buf_tag env[1], int val) \
	{                                                                   \
		guard_mask_changes();                                       \
		real_##name(env, val);                                      \
		__builtin_unreachable();                                    \
	}

JUMPS(longjmp)
JUMPS(_longjmp)
JUMPS(siglongjmp)
JUMPS(__longjmp_chk)
