/* SPDX-License-Identifier: MIT */
#include "base/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "base/bits.h"

static __thread struct guard *guard_top;
static struct sigaction old_segv, old_bus;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

void guard_push(struct guard *g)
{
	g->prev = guard_top;
	g->fault_addr = 0;
	guard_top = g;
	/* The section's accesses stay after this point. */
	__asm__ volatile("" ::: "memory");
}

void guard_leave(struct guard *g)
{
	__asm__ volatile("" ::: "memory");
	guard_top = g->prev;
}

void guard_dispatch(int sig, void *siginfo, void *ucontext)
{
	const siginfo_t *si = siginfo;
	struct guard *g = guard_top;
	u64 addr = (u64)si->si_addr;

	/* si_code <= 0: sent by a process, not by an access. */
	if (!g || si->si_code <= 0 || (g->owns && !g->owns(g->opaque, addr)))
		return;
	g->fault_addr = addr;
#ifdef __x86_64__
	g->fault_write = ((ucontext_t *)ucontext)->uc_mcontext.gregs[REG_ERR] & 2;
#endif
	if (g->caught)
		g->caught(g, ucontext);
	guard_top = g->prev;
	_longjmp(g->jmp, 1);
}

/* Runs the handler that was there before ours, as the kernel would have. */
static void chain(const struct sigaction *old, int sig, siginfo_t *si, void *uc)
{
	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, si, uc);
	} else if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN) {
		/* Back to the default and let the access fault again. */
		struct sigaction dfl = {.sa_handler = SIG_DFL};

		sigaction(sig, &dfl, NULL);
		if (si->si_code <= 0)
			raise(sig);
	} else {
		old->sa_handler(sig);
	}
}

static void on_fault(int sig, siginfo_t *si, void *uc)
{
	guard_dispatch(sig, si, uc);
	chain(sig == SIGSEGV ? &old_segv : &old_bus, sig, si, uc);
}

static int install_one(int sig, struct sigaction *old)
{
	struct sigaction cur;
	/* SA_NODEFER: the jump out of the handler must leave the signal unblocked. */
	struct sigaction act = {.sa_sigaction = on_fault,
				.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

	sigemptyset(&act.sa_mask);
	if (sigaction(sig, NULL, &cur))
		return -errno;
	if ((cur.sa_flags & SA_SIGINFO) && cur.sa_sigaction == on_fault)
		return 0;
	*old = cur;
	return sigaction(sig, &act, NULL) ? -errno : 0;
}

static bool managed; /* atomic */

static bool masks_seen; /* atomic */
static __thread bool known_open;

bool guard_known_open(void)
{
	return known_open;
}

void guard_found_open(void)
{
	known_open = __atomic_load_n(&masks_seen, __ATOMIC_ACQUIRE);
}

void guard_mask_changes(void)
{
	known_open = false;
}

void guard_masks_seen(void)
{
	__atomic_store_n(&masks_seen, true, __ATOMIC_RELEASE);
}

void guard_set_managed(void)
{
	__atomic_store_n(&managed, true, __ATOMIC_RELEASE);
}

int guard_install(void)
{
	int r;

	if (__atomic_load_n(&managed, __ATOMIC_ACQUIRE))
		return 0;
	pthread_mutex_lock(&install_lock);
	r = install_one(SIGSEGV, &old_segv);
	if (!r)
		r = install_one(SIGBUS, &old_bus);
	pthread_mutex_unlock(&install_lock);
	return r;
}

/* The end of what a program can map (TASK_SIZE_MAX with 4-level paging); as access_ok(). */
#define USER_END 0x7ffffffff000ull

static bool in_user_space(const void *p, size_t n)
{
	return n <= USER_END && (u64)p <= USER_END - n;
}

/* Not memcpy, which the address sanitizer replaces by a function that trusts its arguments. */
static inline void raw_copy(void *dst, const void *src, size_t n)
{
#ifdef __x86_64__
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
#else
	memcpy(dst, src, n);
#endif
}

/* Not an access that the compiler sees: sanitizers take address 0 of a program's for a mistake. */
static inline void raw_touch(hva_t hva, bool write)
{
#ifdef __x86_64__
	if (write)
		__asm__ volatile("lock orb $0, (%0)" : : "r"(hva) : "memory", "cc");
	else
		__asm__ volatile("testb $0, (%0)" : : "r"(hva) : "memory", "cc");
#else
	if (write)
		__atomic_fetch_or((u8 *)hva, 0, __ATOMIC_RELAXED);
	else
		(void)*(volatile u8 *)hva;
#endif
}

int copy_from_user(void *dst, const void *user_src, size_t n)
{
	struct guard g;

	if (!in_user_space(user_src, n) || guard_enter(&g))
		return -EFAULT;
	raw_copy(dst, user_src, n);
	guard_leave(&g);
	return 0;
}

int copy_to_user(void *user_dst, const void *src, size_t n)
{
	struct guard g;

	if (!in_user_space(user_dst, n) || guard_enter(&g))
		return -EFAULT;
	raw_copy(user_dst, src, n);
	guard_leave(&g);
	return 0;
}

int guard_touch(hva_t hva, bool write)
{
	struct guard g;

	if (guard_enter(&g))
		return -EFAULT;
	raw_touch(hva, write);
	guard_leave(&g);
	return 0;
}
