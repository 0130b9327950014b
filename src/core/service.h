/* SPDX-License-Identifier: MIT */
/*
 * The VM's service thread: timers and file descriptors that must be served while no vCPU thread is
 * in the core. It blocks all signals. One thread per VM, started with the first user, ended by
 * service_stop. Callbacks run on it without any lock held, and may take any lock of the core.
 *
 * A child of fork has the structures but not the thread: there nothing is served, and every
 * function returns at once without touching a lock, so that closing inherited descriptors cannot
 * hang.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include "core/clock.h"

struct kvm;
struct service;

#define KTIMER_NEVER (~0ull)
struct ktimer {
	void (*fn)(struct ktimer *t); /* may re-arm @t */
	u64 expires_ns;		      /* of kvm_now_ns; ~0: not armed */
	struct service *svc;
	struct ktimer *child, *next, *prev; /* pairing heap: see service.c */
};
/* Arms or re-arms for @expires_ns. Any thread, any lock. */
void ktimer_init(struct ktimer *t, struct kvm *kvm, void (*fn)(struct ktimer *t));
void ktimer_arm(struct ktimer *t, u64 expires_ns);
void ktimer_cancel(struct ktimer *t);	   /* may still be running its callback */
void ktimer_cancel_sync(struct ktimer *t); /* returns when the callback is not running */

/* Calls @fn when @fd is readable (eventfd). The fd is not read for it. 0 or -errno. */
struct fd_watch {
	int fd;
	void (*fn)(struct fd_watch *w);
	struct service *svc;
	u32 slot;
};
int fd_watch_add(struct fd_watch *w, struct kvm *kvm);
/* Returns when the callback is not running (at once if called from it). */
void fd_watch_del_sync(struct fd_watch *w);

/* For deterministic runs, which have no thread for timers: when the next one is due, and to run
 * those that are. The vCPU's thread. */
u64 service_next_timer(struct service *s);
void service_run_timers(struct service *s);

int service_create(struct kvm *kvm, struct service **out);
void service_stop(struct service *s);

#endif
