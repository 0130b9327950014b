/* SPDX-License-Identifier: MIT */
/* The core's counters, from spec/kvm_counter.def. Increments are plain: each vCPU counts its own.
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include "base/types.h"

#define STAT_REASONS 80

struct vm_stat {
#define VM_COUNTER(name, type, unit, exponent) u64 name;
#define VCPU_COUNTER(name, type, unit, exponent)
#include "spec/kvm_counter.def"
};

struct vcpu_stat {
#define VM_COUNTER(name, type, unit, exponent)
#define VCPU_COUNTER(name, type, unit, exponent) u64 name;
#include "spec/kvm_counter.def"
	/* By basic reason: exits of L2; of these, those that L0 handled alone; exits that L1 got.
	 */
	u64 l2_exits[STAT_REASONS], l2_kept[STAT_REASONS], l2_to_l1[STAT_REASONS];
};

static inline void stat_reason(u64 *by_reason, u32 reason, int delta)
{
	reason &= 0xffff;
	if (reason < STAT_REASONS)
		by_reason[reason] += (u64)delta;
}

#endif
