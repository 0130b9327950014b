/* SPDX-License-Identifier: MIT */
/* Threads inside KVM_RUN, and what gets them out. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "kvmapi/kvmless.h"
#include "shim/shim.h"

/* Signals that have come in KVM_RUN: one of each, as the kernel keeps them; more of the real-time
 * ones. */
struct deferred {
	u64 noted;
	siginfo_t info[65];
};

struct run_thread {
	struct run_thread *next;
	pthread_t self;
	int fd; /* of the vCPU it runs; -1: none. Atomic. */
	bool listed;
	struct deferred *deferred;
};

static __thread struct run_thread me __attribute__((tls_model("initial-exec"))) = {.fd = -1};
static struct run_thread *threads; /* under lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void leave(void *opaque)
{
	pthread_mutex_lock(&lock);
	for (struct run_thread **p = &threads; *p; p = &(*p)->next)
		if (*p == opaque) {
			*p = (*p)->next;
			break;
		}
	pthread_mutex_unlock(&lock);
}

static void child(void)
{
	pthread_mutex_init(&lock, NULL);
	threads = NULL;
	me.listed = false;
	me.fd = -1;
	me.deferred = NULL;
}

static void init(void)
{
	pthread_key_create(&key, leave);
	pthread_atfork(NULL, NULL, child);
}

static void enlist(void)
{
	pthread_once(&once, init);
	me.self = pthread_self();
	pthread_mutex_lock(&lock);
	me.next = threads;
	threads = &me;
	pthread_mutex_unlock(&lock);
	pthread_setspecific(key, &me);
	me.listed = true;
}

/*
 * In the kernel a handler runs when KVM_RUN is over: it may use the vCPU, or jump. So here the
 * signal is only noted and stays blocked, and is sent again at the end.
 */
bool run_defer(int sig, const siginfo_t *si, void *ucontext)
{
	struct deferred *d = me.deferred;
	ucontext_t *uc = ucontext;
	u64 bit = 1ull << (sig - 1);

	if (!d || ((d->noted & bit) && sig >= SIGRTMIN))
		return false;
	if (!(d->noted & bit))
		d->info[sig] = *si;
	d->noted |= bit;
	sigaddset(&uc->uc_sigmask, sig);
	run_signalled();
	return true;
}

static __noinline void deliver(struct deferred *d)
{
	int err = errno;
	sigset_t set;

	sigemptyset(&set);
	for (u64 left = d->noted; left; left &= left - 1) {
		int sig = __builtin_ctzll(left) + 1;

		syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), sig, &d->info[sig]);
		sigaddset(&set, sig);
	}
	/* The handlers run here. */
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	errno = err;
}

/*
 * A thread that may be cancelled at any point is, in the kernel, cancelled by the signal that ends
 * KVM_RUN. Here it must not unwind out of the middle: pthread_cancel gets the vCPU out, and the
 * thread ends when its cancellation type is back.
 */
int run_ioctl(int fd, unsigned long request, unsigned long arg)
{
	struct deferred d;
	int type, r;

	d.noted = 0;
	if (unlikely(!me.listed))
		enlist();
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	__atomic_store_n(&me.fd, fd, __ATOMIC_RELEASE);
	me.deferred = &d;
	__asm__ volatile("" ::: "memory");
	r = kvmless_ioctl(fd, request, arg);
	__asm__ volatile("" ::: "memory");
	me.deferred = NULL;
	__atomic_store_n(&me.fd, -1, __ATOMIC_RELEASE);
	if (unlikely(type != PTHREAD_CANCEL_DEFERRED))
		pthread_setcanceltype(type, NULL);
	if (unlikely(d.noted))
		deliver(&d);
	return r;
}

void run_signalled(void)
{
	int fd = __atomic_load_n(&me.fd, __ATOMIC_RELAXED);

	if (fd >= 0)
		kvmless_kick(fd);
}

__export int pthread_cancel(pthread_t thread)
{
	int r = real_pthread_cancel(thread);

	if (r || !__atomic_load_n(&shim_on, __ATOMIC_RELAXED))
		return r;
	pthread_mutex_lock(&lock);
	for (struct run_thread *t = threads; t; t = t->next) {
		int fd = __atomic_load_n(&t->fd, __ATOMIC_ACQUIRE);

		if (pthread_equal(t->self, thread) && fd >= 0)
			kvmless_kick(fd);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}
