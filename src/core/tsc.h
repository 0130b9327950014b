/* SPDX-License-Identifier: MIT */
/*
 * Guests' time stamp counters: (the counter of clock.h * multiplier >> 48) + offset, as VT-x
 * computes it (SDM vol. 3C, 25.6.5).
 */
#ifndef CORE_TSC_H
#define CORE_TSC_H

#include "core/kvm_host.h"

#define TSC_MULTIPLIER_FRAC_BITS 48

/* What RDTSC in L1 reads now. Any thread. */
u64 kvm_guest_tsc(struct kvm_vcpu *v);
u64 kvm_guest_tsc_rough(struct kvm_vcpu *v); /* as kvm_rough_ns */
u64 kvm_scale_tsc(u64 tsc, u64 multiplier);
/* The kvm_now_ns time at which L1's TSC is (or was) @tsc; saturates at 0 and ~0. Any thread. */
u64 kvm_guest_tsc_to_ns(struct kvm_vcpu *v, u64 tsc);

/* Own thread. */
void kvm_tsc_init_vcpu(struct kvm_vcpu *v);
/* 0 or -EINVAL; scaling ratio beyond the hardware's. */
int kvm_set_vcpu_tsc_khz(struct kvm_vcpu *v, u32 khz);
/* IA32_TSC written by user space: keeps vCPUs together as KVM does. @user: through the MSR ioctl.
 */
void kvm_synchronize_tsc(struct kvm_vcpu *v, u64 data, bool user);
/* IA32_TSC written by the guest, and adjustments. */
void kvm_adjust_tsc_offset(struct kvm_vcpu *v, s64 delta);
void kvm_write_l1_tsc_offset(struct kvm_vcpu *v, u64 offset);
u64 kvm_compute_l1_tsc_offset(struct kvm_vcpu *v, u64 target_tsc);

#endif
