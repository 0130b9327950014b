/* SPDX-License-Identifier: MIT */
/* Text of unknown length in a buffer of the caller's: what does not fit is counted and not written.
 */
#ifndef CORE_DUMP_H
#define CORE_DUMP_H

#include <stddef.h>

#include "base/types.h"

struct text {
	char *buf;
	size_t n;
	int len;
};

void __printf(2, 3) text_add(struct text *t, const char *fmt, ...);

#endif
