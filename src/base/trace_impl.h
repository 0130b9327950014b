/* SPDX-License-Identifier: MIT */
/* Between trace.c and trace_json.c. */
#ifndef BASE_TRACE_IMPL_H
#define BASE_TRACE_IMPL_H

#include "base/trace.h"

#define TRACE_TEXT_MAX 512

struct trace_record {
	u64 start, end; /* ns */
	u16 id, more;	/* more: records of text that follow */
	u32 vm, vcpu, pad;
	u64 arg[3];
};
_Static_assert(sizeof(struct trace_record) == 56, "a record");

struct trace_json;
/* Takes the descriptor's use, not the descriptor. NULL: no memory. */
struct trace_json *trace_json_begin(int fd, u64 now);
void trace_json_record(struct trace_json *j, const struct trace_record *r, const char *text);
void trace_json_lost(struct trace_json *j, u64 n, u64 now);
/* Whole lines only go to the file. */
void trace_json_flush(struct trace_json *j);
/* The closing line; frees. */
void trace_json_end(struct trace_json *j, u64 lost, u64 now);
void trace_json_free(struct trace_json *j);

#endif
