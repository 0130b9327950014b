/* SPDX-License-Identifier: MIT */
/* Fixed-width names and the few macros every layer uses. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned __int128 u128;

/* Address spaces. A host physical address is this process's virtual address. */
typedef u64 gva_t; /* guest virtual (linear) */
typedef u64 gpa_t; /* guest physical */
typedef u64 hva_t; /* address in this process */
typedef u64 hpa_t; /* host physical as the hardware door understands it: equal to an hva_t */
typedef u64 gfn_t; /* guest frame number: gpa >> 12 */

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ul
#define PAGE_MASK  (~(PAGE_SIZE - 1))

#define ARRAY_SIZE(a)	 (sizeof(a) / sizeof((a)[0]))
#define likely(x)	 __builtin_expect(!!(x), 1)
#define unlikely(x)	 __builtin_expect(!!(x), 0)
#define __noreturn	 __attribute__((noreturn))
#define __cold		 __attribute__((cold))
#define __printf(f, a)	 __attribute__((format(printf, f, a)))
#define __must_check	 __attribute__((warn_unused_result))
#define __always_inline_ inline __attribute__((always_inline))
#define fallthrough	 __attribute__((fallthrough))
#define __noinline	 __attribute__((noinline))
/* What a shared library shows to its users; everything else is hidden. */
#define __export __attribute__((visibility("default")))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b)			((a) < (b) ? (a) : (b))
#define MAX(a, b)			((a) > (b) ? (a) : (b))

#endif
