/* SPDX-License-Identifier: MIT */
/* The core's counters, from spec/kvm_counter.def. Increments are plain: each vCPU counts its own.
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include "base/types.h"

struct vm_stat {
#define VM_COUNTER(name, type, unit, exponent) u64 name;
#define VCPU_COUNTER(name, type, unit, exponent)
#include "spec/kvm_counter.def"
};

struct vcpu_stat {
#define VM_COUNTER(name, type, unit, exponent)
#define VCPU_COUNTER(name, type, unit, exponent) u64 name;
#include "spec/kvm_counter.def"
};

#endif
