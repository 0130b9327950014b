/* SPDX-License-Identifier: MIT */
/* Bit fields, alignment and sign extension. */
#ifndef BASE_BITS_H
#define BASE_BITS_H

#include "base/types.h"

#define BIT(n) (1ull << (n))
/* Bits hi..lo inclusive. */
#define BITS(hi, lo) ((~0ull >> (63 - (hi))) & (~0ull << (lo)))

static inline u64 bits_get(u64 v, unsigned hi, unsigned lo)
{
	return (v & BITS(hi, lo)) >> lo;
}

static inline u64 sign_extend(u64 v, unsigned nbits)
{
	return (u64)((s64)(v << (64 - nbits)) >> (64 - nbits));
}

/* The value masked to @size bytes (1, 2, 4, 8). */
static inline u64 mask_size(u64 v, unsigned size)
{
	return size >= 8 ? v : v & ((1ull << (size * 8)) - 1);
}

static inline u64 align_down(u64 v, u64 a)
{
	return v & ~(a - 1);
}

static inline u64 align_up(u64 v, u64 a)
{
	return (v + a - 1) & ~(a - 1);
}

/* SDM vol. 1, 3.3.7.1: bits 63..@vabits-1 are equal. @vabits is 48 or 57. */
static inline bool is_canonical(u64 va, unsigned vabits)
{
	return sign_extend(va, vabits) == va;
}

#endif
