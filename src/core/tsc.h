/* SPDX-License-Identifier: MIT */
/* The guest's time stamp counter. */
#ifndef CORE_TSC_H
#define CORE_TSC_H

#include "base/types.h"

struct kvm_vcpu;

/* What RDTSC in L1 reads now. vCPU thread. */
u64 kvm_guest_tsc(struct kvm_vcpu *v);
/* The kvm_now_ns time at which L1's TSC is (or was) @tsc; saturates at 0 and ~0. vCPU thread. */
u64 kvm_guest_tsc_to_ns(struct kvm_vcpu *v, u64 tsc);

#endif
