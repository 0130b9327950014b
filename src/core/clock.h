/* SPDX-License-Identifier: MIT */
/*
 * The one source of time: a counter, and nanoseconds that are a fixed multiple of it. Guest TSCs,
 * kvmclock and timers all derive from it, so they never drift against each other.
 *
 * The counter is the machine's own time stamp counter, as it is for a hypervisor on hardware, so
 * that a program may compare a guest's RDTSC with its own. Where the machine has no usable one, or
 * kvmless.tsc_khz asks for a frequency, it is a multiple of CLOCK_MONOTONIC.
 */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include "core/kvm_host.h"

/* @asked: as kvmless.tsc_khz. The frequency that comes of it. Any thread. */
u32 clock_khz(u32 asked);
/* Before anything of @kvm asks for the time. */
void kvm_clock_init(struct kvm *kvm, u32 asked);

/* Monotonic nanoseconds since some moment. Any thread. */
u64 kvm_now_ns(const struct kvm *kvm);
/* The same, cheaper, and out of order by some nanoseconds: for statistics, and for deadlines that
 * somebody else watches too. Any thread. */
u64 kvm_rough_ns(const struct kvm *kvm);
/* The counter now, and the one that belongs to a kvm_now_ns. Any thread. */
u64 kvm_machine_tsc(const struct kvm *kvm);
u64 kvm_machine_tsc_rough(const struct kvm *kvm); /* as kvm_rough_ns */
u64 kvm_ns_to_machine_tsc(const struct kvm *kvm, u64 ns);
u64 kvm_machine_tsc_to_ns(const struct kvm *kvm, u64 tsc); /* saturates */

/* The CLOCK_MONOTONIC time for a system call that is to end at @ns. The kernel's clock is slewed
 * and ours is not: whoever wakes looks at kvm_now_ns again. Any thread. */
u64 kvm_ns_to_monotonic(const struct kvm *kvm, u64 ns);

#endif
