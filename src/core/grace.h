/* SPDX-License-Identifier: MIT */
/*
 * Grace periods: a table is replaced as a whole, and the old one freed when no reader can have it.
 *
 *	reader:	idx = grace_enter(g); t = SEQ_CST load of the pointer; ...; grace_leave(g, idx);
 *	writer:	SEQ_CST store of the new pointer; grace_wait(g); free the old one.
 *
 * Readers count themselves in one of two counters. A reader that was there before the store is in
 *one of them; both are seen at zero after it. New readers go to the counter that is not waited for,
 *so the wait ends. Readers nest, and never wait.
 */
#ifndef CORE_GRACE_H
#define CORE_GRACE_H

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "base/types.h"

struct grace {
	u32 readers[2];
	u32 current;
	pthread_mutex_t lock; /* writers */
};

static inline void grace_init(struct grace *g)
{
	*g = (struct grace){0};
	pthread_mutex_init(&g->lock, NULL);
}

static inline unsigned grace_enter(struct grace *g)
{
	unsigned idx = __atomic_load_n(&g->current, __ATOMIC_RELAXED);

	/* Ordered before the load of the table's pointer. */
	__atomic_fetch_add(&g->readers[idx], 1, __ATOMIC_SEQ_CST);
	return idx;
}

static inline void grace_leave(struct grace *g, unsigned idx)
{
	__atomic_fetch_sub(&g->readers[idx], 1, __ATOMIC_RELEASE);
}

static inline void grace_drain(struct grace *g, unsigned idx)
{
	const struct timespec pause = {.tv_nsec = 20000};

	for (unsigned n = 0; __atomic_load_n(&g->readers[idx], __ATOMIC_SEQ_CST); n++) {
		if (n < 100)
			sched_yield();
		else
			nanosleep(&pause, NULL);
	}
}

/* Not from inside a reader of @g. */
static inline void grace_wait(struct grace *g)
{
	unsigned old;

	pthread_mutex_lock(&g->lock);
	old = g->current;
	/* Stragglers that took the other index before the last flip and count only now. */
	grace_drain(g, old ^ 1);
	__atomic_store_n(&g->current, old ^ 1, __ATOMIC_SEQ_CST);
	grace_drain(g, old);
	pthread_mutex_unlock(&g->lock);
}

#endif
