/* SPDX-License-Identifier: MIT */
/* Paravirtual interfaces of KVM: kvmclock, steal time, PV EOI, hypercalls. Own thread. */
#ifndef CORE_PV_H
#define CORE_PV_H

#include "core/cpuid.h"
#include "core/msr.h"

msr_get_fn pv_get_msr;
msr_set_fn pv_set_msr;
/* core/apf.c */
msr_get_fn apf_get_msr;
msr_set_fn apf_set_msr;

/* REQ_CLOCK_UPDATE. */
void kvm_guest_time_update(struct kvm_vcpu *v);
/* REQ_STEAL_UPDATE, and before each entry after the thread was away. */
void kvm_steal_time_update(struct kvm_vcpu *v);
/* The vCPU's thread goes to sleep: other vCPUs need not spin for it or interrupt it. */
void kvm_steal_time_set_preempted(struct kvm_vcpu *v);
/* KVM_RUN begins: an update is requested if the thread was away. Own thread. */
void kvm_steal_time_run(struct kvm_vcpu *v);
/* It is back: takes flushes that were asked for meanwhile. */
void kvm_steal_time_clear_preempted(struct kvm_vcpu *v);
/* Now and then: requests an update when the last is old. */
void kvm_steal_time_tick(struct kvm_vcpu *v);
void pv_vcpu_reset(struct kvm_vcpu *v);
/* The guest's kvmclock now, ns. Any thread. */
u64 kvm_get_kvmclock_ns(struct kvm *kvm);
/* May the guest use what this CPUID bit offers? Always, unless user space asked for enforcement. */
bool guest_pv_has(const struct kvm_vcpu *v, enum cpu_feature f);
void kvm_clock_vm_init(struct kvm *kvm);

#endif
