/* SPDX-License-Identifier: MIT */
/*
 * Log lines and assertions. We live in other people's processes: nothing is printed unless the
 * process asked for it (base_log_set), and an assertion never ends the process by itself: it calls
 * the handler, whose default writes one line to the log and raises SIGABRT only in test builds.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The sink may be called from any thread. @sink NULL (the default) drops everything. */
typedef void log_sink_fn(void *opaque, enum log_level level, const char *line);
void base_log_set(log_sink_fn *sink, void *opaque, enum log_level max_level);
bool base_log_on(enum log_level level);
void base_log(enum log_level level, const char *fmt, ...) __printf(2, 3);

/*
 * A bug of ours. In a thread that has set a recovery point (bug_recovery, the vCPU loop does) the
 * assertion unwinds to it and KVM_RUN answers KVM_EXIT_INTERNAL_ERROR with the text; elsewhere it
 * logs and calls abort().
 */
__noreturn __cold void base_bug(const char *file, int line, const char *fmt, ...) __printf(3, 4);

struct bug_recovery {
	void *jmp;	/* a jmp_buf of the setting function's frame */
	char text[256]; /* filled by base_bug */
};
/* Sets this thread's recovery point; NULL removes it. Returns the one before. */
struct bug_recovery *bug_recovery_set(struct bug_recovery *r);

#define BUG(...) base_bug(__FILE__, __LINE__, __VA_ARGS__)
#define BUG_ON(c)                                           \
	do {                                                \
		if (unlikely(c))                            \
			BUG("assertion failed: !(%s)", #c); \
	} while (0)
/* Checked in debug builds only (meson -Dbuildtype=debug); never a promise to the optimiser. */
#ifdef KVMLESS_DEBUG
#define DEBUG_BUG_ON(c) BUG_ON(c)
#else
#define DEBUG_BUG_ON(c) ((void)sizeof(c))
#endif

#endif
