/* SPDX-License-Identifier: MIT */
/*
 * Trace points. Events (trace.def) go as fixed-size records into a buffer of the thread that emits
 * them, without a lock; one writer thread turns them into the Chrome trace-event format, one event
 * a line, a few times a second. A file whose process was killed lacks the last moments and the
 * closing bracket, which viewers do not need.
 *
 * Memory is bounded: an event that finds its buffer full is dropped and counted, and the file says
 * so where it happened and at its end. While no trace is written a trace point is one test.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include "base/types.h"

enum trace_id {
#define TRACE_EVENT(id, ...) TRACE_##id,
#include "base/trace.def"
	TRACE_NEVENTS
};

extern bool trace_active; /* atomic; use trace_on() */
static inline bool trace_on(void)
{
	return unlikely(__atomic_load_n(&trace_active, __ATOMIC_RELAXED));
}

/*
 * Begins writing to @path. A file that is there is kept, and PATH.<process number> is made instead:
 * several processes can have been given the same name. 0, or -errno; -EBUSY: a trace is being
 * written. A child of fork does not write, and may begin a trace of its own.
 */
int trace_start(const char *path);
/* Writes what there is and closes the file. Also happens at exit(3). */
void trace_stop(void);

/* Monotonic nanoseconds. */
u64 trace_now(void);

/* A number for a new VM, from 1: the "process" its vCPUs' tracks are grouped under. */
u32 trace_new_vm(void);

/*
 * All: any thread, async-signal-safe, no lock; nothing happens unless trace_on(). The track is
 * (@vm, @vcpu). Arguments are the row's; strings must stay.
 */
void trace_slice(enum trace_id id, u32 vm, u32 vcpu, u64 start_ns, u64 end_ns, u64 a0, u64 a1,
		 u64 a2);
void trace_instant(enum trace_id id, u32 vm, u32 vcpu, u64 a0, u64 a1, u64 a2);
void trace_text(enum trace_id id, u32 vm, u32 vcpu, const char *text);

/* Events dropped since trace_start. */
u64 trace_lost(void);

#endif
