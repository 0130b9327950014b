/* SPDX-License-Identifier: MIT */
/*
 * Runs that repeat exactly (kvmless.deterministic). The VM has one vCPU. A nanosecond passes with
 * every instruction that it retires, and a halt ends at once, at the next timer's time. There is no
 * timer thread: the vCPU runs timers before it enters the guest, and leaves the guest at the very
 * instruction at which the next one is due. Random numbers come from a generator with a fixed seed.
 * What the program around us does between two KVM_RUNs, and when, is its own affair.
 */
#ifndef CORE_DETERMINISTIC_H
#define CORE_DETERMINISTIC_H

#include "core/kvm_host.h"

/* 2026-01-01 00:00 UTC: what CLOCK_REALTIME was when time began. */
#define DETERMINISTIC_EPOCH 1767225600ull

/* In place of kvm_clock_init. */
void deterministic_init(struct kvm *kvm);
u64 deterministic_random(struct kvm *kvm);

/* The rest: the vCPU's own thread. */
void deterministic_before_entry(struct kvm_vcpu *v);
void deterministic_after_exit(struct kvm_vcpu *v);
/* Halted: on to the next timer, or to @deadline if that is earlier. False: there is neither. */
bool deterministic_skip(struct kvm_vcpu *v, u64 deadline);

#endif
