/* SPDX-License-Identifier: MIT */
/* The machine's time stamp counter. */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include "base/types.h"

/* Its frequency, kHz; 0 if there is none, or none that is the same on all processors and at all
 * times. Takes 10 ms the first time. Any thread. */
u32 counter_khz(void);
/* Not before what precedes it in program order. Any thread. */
u64 counter_read(void);
/* As cheap as it gets: some nanoseconds before or after where it stands. Any thread. */
u64 counter_rough(void);

#endif
