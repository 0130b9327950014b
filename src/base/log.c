/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static log_sink_fn *log_sink;
static void *log_opaque;
static enum log_level log_max;
static __thread struct bug_recovery *recovery;

void base_log_set(log_sink_fn *sink, void *opaque, enum log_level max_level)
{
	__atomic_store_n(&log_sink, NULL, __ATOMIC_RELEASE);
	log_opaque = opaque;
	log_max = max_level;
	__atomic_store_n(&log_sink, sink, __ATOMIC_RELEASE);
}

bool base_log_on(enum log_level level)
{
	return __atomic_load_n(&log_sink, __ATOMIC_ACQUIRE) && level <= log_max;
}

void base_log(enum log_level level, const char *fmt, ...)
{
	log_sink_fn *sink = __atomic_load_n(&log_sink, __ATOMIC_ACQUIRE);
	char line[512];
	va_list ap;

	if (!sink || level > log_max)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	sink(log_opaque, level, line);
}

struct bug_recovery *bug_recovery_set(struct bug_recovery *r)
{
	struct bug_recovery *old = recovery;

	recovery = r;
	return old;
}

void base_bug(const char *file, int line, const char *fmt, ...)
{
	struct bug_recovery *r = recovery;
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	base_log(LOG_ERROR, "bug at %s:%d: %s", file, line, text);
	if (r) {
		snprintf(r->text, sizeof(r->text), "%.40s:%d: %s", file, line, text);
		_longjmp(*(jmp_buf *)r->jmp, 1);
	}
	abort();
}
