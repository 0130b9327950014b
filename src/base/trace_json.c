/* SPDX-License-Identifier: MIT */
/*
 * The Chrome trace-event format, as chrome://tracing and Perfetto read it: an array of objects, one
 * a line. Times are microseconds from the beginning of the trace.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/trace_impl.h"

#define OUT_SIZE  (256u << 10)
#define LINE_MAX_ (4u << 10) /* no event is longer */

struct trace_json {
	int fd;
	bool failed; /* the disk is full, or so: nothing more is written */
	bool any;
	u64 origin;
	size_t len;
	char out[OUT_SIZE];
};

enum arg_kind { KIND_NONE, KIND_STR, KIND_DEC, KIND_HEX, KIND_TEXT };
enum phase { PHASE_SLICE, PHASE_INSTANT, PHASE_COUNTER, PHASE_META };

static const struct {
	u8 phase;
	const char *category, *name;
	struct {
		const char *label;
		u8 kind;
	} arg[3];
} rows[] = {
#define TRACE_EVENT(id, phase, cat, name, l0, k0, l1, k1, l2, k2) \
	{PHASE_##phase, cat, name, {{l0, KIND_##k0}, {l1, KIND_##k1}, {l2, KIND_##k2}}},
#include "base/trace.def"
};

void trace_json_flush(struct trace_json *j)
{
	size_t done = 0;

	while (done < j->len && !j->failed) {
		ssize_t n = write(j->fd, j->out + done, j->len - done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			j->failed = true;
	}
	j->len = 0;
}

static void __printf(2, 3) put(struct trace_json *j, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(j->out + j->len, OUT_SIZE - j->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		j->len += MIN((size_t)n, OUT_SIZE - j->len - 1);
}

static void put_string(struct trace_json *j, const char *s)
{
	put(j, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			put(j, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			put(j, "\\u%04x", c);
		else
			j->out[j->len++] = (char)c;
	}
	put(j, "\"");
}

static void put_us(struct trace_json *j, const char *label, u64 ns)
{
	put(j, ",\"%s\":%llu.%03u", label, (unsigned long long)(ns / 1000), (unsigned)(ns % 1000));
}

/* Begins a line; the caller ends the object. */
static void line(struct trace_json *j)
{
	if (j->len > OUT_SIZE - LINE_MAX_)
		trace_json_flush(j);
	put(j, "%s", j->any ? ",\n" : "[\n");
	j->any = true;
}

static void put_args(struct trace_json *j, const struct trace_record *r, const char *text)
{
	bool any = false;

	for (unsigned i = 0; i < ARRAY_SIZE(rows[0].arg); i++) {
		const char *label = rows[r->id].arg[i].label;

		if (!label)
			continue;
		put(j, "%s", any ? "," : ",\"args\":{");
		any = true;
		put_string(j, label);
		put(j, ":");
		switch ((enum arg_kind)rows[r->id].arg[i].kind) {
		case KIND_STR: put_string(j, (const char *)r->arg[i]); break;
		case KIND_DEC: put(j, "%llu", (unsigned long long)r->arg[i]); break;
		case KIND_HEX: put(j, "\"%#llx\"", (unsigned long long)r->arg[i]); break;
		case KIND_TEXT: put_string(j, text); break;
		case KIND_NONE: put(j, "null"); break;
		}
	}
	if (any)
		put(j, "}");
}

static void meta(struct trace_json *j, const char *what, u32 vm, u32 vcpu, const char *name,
		 u32 number)
{
	line(j);
	put(j, "{\"name\":\"%s\",\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"%s %u\"}}",
	    what, vm, vcpu, name, number);
}

void trace_json_record(struct trace_json *j, const struct trace_record *r, const char *text)
{
	static const char phases[] = {
		[PHASE_SLICE] = 'X', [PHASE_INSTANT] = 'i', [PHASE_COUNTER] = 'C'};
	const char *name;
	u8 phase;

	if (r->id >= ARRAY_SIZE(rows))
		return;
	phase = rows[r->id].phase;
	if (phase == PHASE_META) {
		meta(j, "process_name", r->vm, r->vcpu, "VM", r->vm);
		meta(j, "thread_name", r->vm, r->vcpu, "vCPU", r->vcpu);
		return;
	}
	name = rows[r->id].name ? rows[r->id].name : (const char *)r->arg[0];
	line(j);
	put(j, "{\"name\":");
	put_string(j, name);
	/* Counters are the process's in this format: the name tells vCPUs apart. */
	if (phase == PHASE_COUNTER) {
		j->len--;
		put(j, ", vCPU %u\"", r->vcpu);
	}
	put(j, ",\"cat\":\"%s\",\"ph\":\"%c\",\"pid\":%u,\"tid\":%u", rows[r->id].category,
	    phases[phase], r->vm, r->vcpu);
	put_us(j, "ts", r->start > j->origin ? r->start - j->origin : 0);
	if (phase == PHASE_SLICE)
		put_us(j, "dur", r->end > r->start ? r->end - r->start : 0);
	else if (phase == PHASE_INSTANT)
		put(j, ",\"s\":\"t\"");
	put_args(j, r, text);
	put(j, "}");
}

void trace_json_lost(struct trace_json *j, u64 n, u64 now)
{
	line(j);
	put(j,
	    "{\"name\":\"%llu events lost\",\"cat\":\"trace\",\"ph\":\"i\",\"s\":\"g\",\"pid\":0,"
	    "\"tid\":0",
	    (unsigned long long)n);
	put_us(j, "ts", now - j->origin);
	put(j, "}");
}

struct trace_json *trace_json_begin(int fd, u64 now)
{
	struct trace_json *j = malloc(sizeof(*j));

	if (!j)
		return NULL;
	j->fd = fd;
	j->failed = j->any = false;
	j->origin = now;
	j->len = 0;
	line(j);
	put(j,
	    "{\"name\":\"process_labels\",\"ph\":\"M\",\"pid\":0,\"tid\":0,\"args\":{\"labels\":"
	    "\"kvmless %d\"}}",
	    getpid());
	trace_json_flush(j);
	return j;
}

void trace_json_end(struct trace_json *j, u64 lost, u64 now)
{
	line(j);
	put(j, "{\"name\":\"end of trace\",\"cat\":\"trace\",\"ph\":\"i\",\"s\":\"g\",\"pid\":0,"
	       "\"tid\":0");
	put_us(j, "ts", now - j->origin);
	put(j, ",\"args\":{\"lost\":%llu}}\n]\n", (unsigned long long)lost);
	trace_json_flush(j);
	trace_json_free(j);
}

void trace_json_free(struct trace_json *j)
{
	free(j);
}
