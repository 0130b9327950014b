/* SPDX-License-Identifier: MIT */
/*
 * The service thread. It sleeps in epoll_wait on a timerfd (earliest timer), an eventfd (to end)
 * and the watched descriptors.
 *
 * The timerfd is programmed lazily: only when a timer is armed that is earlier than what it is set
 * to. Cancelling or postponing leaves it alone; the thread then wakes once for nothing and programs
 * it anew. Guests re-arm their tick far more often than it fires, so this saves most system calls.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "core/clock.h"
#include "core/service.h"

#define NSEC_PER_SEC   1000000000ull
#define SERVICE_EVENTS 16
/* epoll data: watches are slot | generation << 32; these two are no slot's. */
#define DATA_TIMER 0xffffffffull
#define DATA_STOP  0xfffffffeull

struct watch_slot {
	struct fd_watch *w; /* NULL: free */
	u32 generation;	    /* events of a watch that is gone are told apart by it */
};

struct service {
	const struct kvm *kvm;
	pthread_mutex_t lock;
	pthread_cond_t idle; /* a callback has returned */
	pthread_t thread;
	bool started, stopping, failed;
	int epfd, timerfd, stopfd;
	struct ktimer *heap; /* root: the earliest */
	u64 programmed_ns;   /* what timerfd is set to; ~0: nothing */
	const void *running; /* timer or watch whose callback runs */
	struct watch_slot *slots;
	u32 nslots;
	/* One page that the kernel zeroes in a child of fork: 1 while the thread may exist. */
	u8 *alive;
};

/* False in a child of fork: its copy of the locks may be held by threads that it does not have. */
static bool service_alive(const struct service *s)
{
	return __atomic_load_n(s->alive, __ATOMIC_RELAXED);
}

/* ---- Pairing heap. child: first child; next: next sibling; prev: previous sibling, or the parent
 * for a first child; NULL for the root and for timers that are not queued. ---- */

static struct ktimer *heap_meld(struct ktimer *a, struct ktimer *b)
{
	if (!a || !b)
		return a ? a : b;
	if (b->expires_ns < a->expires_ns) {
		struct ktimer *t = a;

		a = b;
		b = t;
	}
	b->next = a->child;
	if (b->next)
		b->next->prev = b;
	b->prev = a;
	a->child = b;
	return a;
}

/* Melds a list of siblings in pairs, then the pairs from last to first. */
static struct ktimer *heap_pair(struct ktimer *list)
{
	struct ktimer *pairs = NULL, *root = NULL;

	while (list) {
		struct ktimer *a = list, *b = a->next;

		list = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = heap_meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct ktimer *a = pairs;

		pairs = a->next;
		a->next = NULL;
		root = heap_meld(root, a);
	}
	return root;
}

static void heap_remove(struct service *s, struct ktimer *t)
{
	struct ktimer *rest = heap_pair(t->child);

	if (s->heap == t) {
		s->heap = rest;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		s->heap = heap_meld(s->heap, rest);
	}
	t->child = t->next = t->prev = NULL;
}

/* ---- Thread ---- */

/* Sets the timerfd to the earliest timer. Lock held. */
static void program_timer(struct service *s)
{
	u64 ns = s->heap ? s->heap->expires_ns : KTIMER_NEVER;
	struct itimerspec its = {0};

	if (ns >= s->programmed_ns)
		return;
	s->programmed_ns = ns;
	if (ns != KTIMER_NEVER)
		ns = kvm_ns_to_monotonic(s->kvm, ns);
	/* 0 would disarm; times beyond what time_t holds are never reached. */
	ns = MAX(ns, 1);
	its.it_value.tv_sec = (time_t)(ns / NSEC_PER_SEC);
	its.it_value.tv_nsec = (long)(ns % NSEC_PER_SEC);
	timerfd_settime(s->timerfd, TFD_TIMER_ABSTIME, &its, NULL);
}

/* What is due. Lock held, but not while a callback runs. */
static void run_due(struct service *s)
{
	while (s->heap && !s->stopping) {
		struct ktimer *t = s->heap;

		if (t->expires_ns > kvm_now_ns(s->kvm))
			break;
		heap_remove(s, t);
		t->expires_ns = KTIMER_NEVER;
		s->running = t;
		pthread_mutex_unlock(&s->lock);
		t->fn(t);
		pthread_mutex_lock(&s->lock);
		s->running = NULL;
		pthread_cond_broadcast(&s->idle);
	}
}

static void run_timers(struct service *s)
{
	u64 expirations;

	/* Not blocking: the descriptor may have been programmed anew since it fired. */
	if (read(s->timerfd, &expirations, sizeof(expirations)) < 0)
		expirations = 0;
	pthread_mutex_lock(&s->lock);
	s->programmed_ns = KTIMER_NEVER;
	run_due(s);
	program_timer(s);
	pthread_mutex_unlock(&s->lock);
}

u64 service_next_timer(struct service *s)
{
	u64 ns;

	pthread_mutex_lock(&s->lock);
	ns = s->heap ? s->heap->expires_ns : KTIMER_NEVER;
	pthread_mutex_unlock(&s->lock);
	return ns;
}

void service_run_timers(struct service *s)
{
	pthread_mutex_lock(&s->lock);
	run_due(s);
	pthread_mutex_unlock(&s->lock);
}

static void run_watch(struct service *s, u64 data)
{
	u32 slot = (u32)data, generation = (u32)(data >> 32);
	struct fd_watch *w = NULL;

	pthread_mutex_lock(&s->lock);
	if (!s->stopping && slot < s->nslots && s->slots[slot].generation == generation)
		w = s->slots[slot].w;
	if (w) {
		s->running = w;
		pthread_mutex_unlock(&s->lock);
		w->fn(w);
		pthread_mutex_lock(&s->lock);
		s->running = NULL;
		pthread_cond_broadcast(&s->idle);
	}
	pthread_mutex_unlock(&s->lock);
}

static void *service_main(void *arg)
{
	struct service *s = arg;
	struct epoll_event ev[SERVICE_EVENTS];

	for (;;) {
		int n = epoll_wait(s->epfd, ev, SERVICE_EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.u64 == DATA_STOP)
				return NULL;
			if (ev[i].data.u64 == DATA_TIMER)
				run_timers(s);
			else
				run_watch(s, ev[i].data.u64);
		}
	}
}

/* Starts the thread if it does not run. Lock held. 0 or -errno. */
static int start_thread(struct service *s)
{
	sigset_t all, old;
	int err;

	if (s->started)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&s->thread, NULL, service_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		if (!s->failed)
			base_log(LOG_ERROR, "service thread: cannot start: error %d", err);
		s->failed = true;
		return -err;
	}
	pthread_setname_np(s->thread, "kvmless-service");
	s->started = true;
	return 0;
}

static bool on_service_thread(const struct service *s)
{
	return s->started && pthread_equal(pthread_self(), s->thread);
}

/* Lock held; waits until the callback of @what has returned. */
static void wait_not_running(struct service *s, const void *what)
{
	if (on_service_thread(s))
		return;
	while (s->running == what)
		pthread_cond_wait(&s->idle, &s->lock);
}

/* ---- Timers ---- */

void ktimer_init(struct ktimer *t, struct kvm *kvm, void (*fn)(struct ktimer *t))
{
	*t = (struct ktimer){.fn = fn, .expires_ns = KTIMER_NEVER, .svc = kvm->service};
}

void ktimer_arm(struct ktimer *t, u64 expires_ns)
{
	struct service *s = t->svc;

	if (!service_alive(s))
		return;
	pthread_mutex_lock(&s->lock);
	if (t->expires_ns != KTIMER_NEVER)
		heap_remove(s, t);
	t->expires_ns = expires_ns;
	if (expires_ns != KTIMER_NEVER) {
		s->heap = heap_meld(s->heap, t);
		/* Then the vCPU runs them: core/deterministic.h. */
		if (s->kvm->clock.deterministic)
			goto out;
		start_thread(s);
		/* The thread programs it by itself when it has run what is due. */
		if (s->heap == t && !on_service_thread(s))
			program_timer(s);
	}
out:
	pthread_mutex_unlock(&s->lock);
}

static void timer_cancel(struct ktimer *t, bool sync)
{
	struct service *s = t->svc;

	if (!s || !service_alive(s))
		return;
	pthread_mutex_lock(&s->lock);
	/* A running callback may arm it again, so look again after it. */
	do {
		if (t->expires_ns != KTIMER_NEVER)
			heap_remove(s, t);
		t->expires_ns = KTIMER_NEVER;
		if (sync)
			wait_not_running(s, t);
	} while (t->expires_ns != KTIMER_NEVER);
	pthread_mutex_unlock(&s->lock);
}

void ktimer_cancel(struct ktimer *t)
{
	timer_cancel(t, false);
}

void ktimer_cancel_sync(struct ktimer *t)
{
	timer_cancel(t, true);
}

/* ---- Descriptors ---- */

/* A free slot's index, or -ENOMEM. Lock held. */
static long find_slot(struct service *s)
{
	u32 i, n;
	struct watch_slot *slots;

	for (i = 0; i < s->nslots; i++) {
		if (!s->slots[i].w)
			return i;
	}
	n = MAX(16u, s->nslots * 2);
	slots = realloc(s->slots, n * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (i = s->nslots; i < n; i++)
		slots[i] = (struct watch_slot){0};
	i = s->nslots;
	s->slots = slots;
	s->nslots = n;
	return i;
}

int fd_watch_add(struct fd_watch *w, struct kvm *kvm)
{
	struct service *s = kvm->service;
	/* Edge-triggered: the owner may leave the descriptor unread. */
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
	long slot;
	int r;

	w->svc = NULL;
	if (!service_alive(s))
		return -EIO;
	pthread_mutex_lock(&s->lock);
	r = start_thread(s);
	slot = r ? r : find_slot(s);
	if (slot < 0) {
		r = (int)slot;
		goto out;
	}
	w->svc = s;
	w->slot = (u32)slot;
	s->slots[slot].w = w;
	ev.data.u64 = (u64)slot | (u64)s->slots[slot].generation << 32;
	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, w->fd, &ev)) {
		r = -errno;
		s->slots[slot].w = NULL;
		w->svc = NULL;
	}
out:
	pthread_mutex_unlock(&s->lock);
	return r;
}

void fd_watch_del_sync(struct fd_watch *w)
{
	struct service *s = w->svc;

	if (!s || !service_alive(s))
		return;
	pthread_mutex_lock(&s->lock);
	epoll_ctl(s->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	s->slots[w->slot].w = NULL;
	s->slots[w->slot].generation++;
	w->svc = NULL;
	wait_not_running(s, w);
	pthread_mutex_unlock(&s->lock);
}

/* ---- Life ---- */

static int add_internal(struct service *s, int fd, u64 data)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = data};

	return epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static void service_free(struct service *s)
{
	if (s->epfd >= 0)
		close(s->epfd);
	if (s->timerfd >= 0)
		close(s->timerfd);
	if (s->stopfd >= 0)
		close(s->stopfd);
	if (s->alive != MAP_FAILED)
		munmap(s->alive, PAGE_SIZE);
	free(s->slots);
	free(s);
}

int service_create(struct kvm *kvm, struct service **out)
{
	struct service *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->kvm = kvm;
	s->programmed_ns = KTIMER_NEVER;
	s->epfd = s->timerfd = s->stopfd = -1;
	s->alive =
		mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->alive == MAP_FAILED) {
		r = -ENOMEM;
		goto fail;
	}
	/* Without it (before Linux 4.14) a child that destroys the VM would wait for the thread. */
	if (madvise(s->alive, PAGE_SIZE, MADV_WIPEONFORK))
		base_log(LOG_WARN,
			 "service thread: no MADV_WIPEONFORK: do not close a VM after fork");
	*s->alive = 1;
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	s->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->stopfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->epfd < 0 || s->timerfd < 0 || s->stopfd < 0) {
		r = -errno;
		goto fail;
	}
	r = add_internal(s, s->timerfd, DATA_TIMER);
	if (!r)
		r = add_internal(s, s->stopfd, DATA_STOP);
	if (r)
		goto fail;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->idle, NULL);
	*out = s;
	return 0;
fail:
	service_free(s);
	return r;
}

void service_stop(struct service *s)
{
	if (!s)
		return;
	if (service_alive(s)) {
		const u64 one = 1;
		bool join;

		pthread_mutex_lock(&s->lock);
		s->stopping = true;
		join = s->started && !on_service_thread(s);
		pthread_mutex_unlock(&s->lock);
		BUG_ON(s->started && !join);
		while (join && write(s->stopfd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		if (join)
			pthread_join(s->thread, NULL);
		pthread_cond_destroy(&s->idle);
		pthread_mutex_destroy(&s->lock);
	}
	service_free(s);
}
