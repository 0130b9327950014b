/* SPDX-License-Identifier: MIT */
/*
 * What a guest that takes us for Hyper-V finds (TLFS): CPUID leaves as user space sets them, MSRs,
 * hypercalls. State is in struct hv_vcpu (vcpu.h) and struct hv_vm (vm.h).
 *
 * Own thread, but where it says otherwise.
 */
#ifndef CORE_HYPERV_H
#define CORE_HYPERV_H

#include "core/cpuid.h"
#include "core/msr.h"
#include "spec/hyperv.h"

/* Bits of hv.flush. */
#define HV_FLUSH_L1 1u
#define HV_FLUSH_L2 2u

/* ---- hyperv.c ---- */
void hv_vm_init(struct kvm *kvm);
void hv_vcpu_init(struct kvm_vcpu *v);
void hv_after_set_cpuid(struct kvm_vcpu *v);
/* May the guest use what this bit of Hyper-V's CPUID offers? Always if CPUID says that this is
 * Hyper-V, unless user space has asked for enforcement. */
bool hv_offers(const struct kvm_vcpu *v, enum cpu_feature f);
msr_get_fn hv_get_msr;
msr_set_fn hv_set_msr;
/* The nested part of the VP assist page. False: the guest has none. */
bool hv_read_assist(struct kvm_vcpu *v, struct hv_assist_nested *a);

/* ---- hyperv_time.c: the partition's reference time ---- */
msr_get_fn hv_get_time_msr;
msr_set_fn hv_set_time_msr;
/* REQ_CLOCK_UPDATE: kvmclock or the TSC has been set. */
void hv_clock_update(struct kvm_vcpu *v);

/* ---- hyperv_hypercall.c ---- */
/* Are VMCALLs Hyper-V's rather than KVM's? */
bool hv_hypercalls_on(const struct kvm_vcpu *v);
/* An exit handler. */
int hv_emulate_hypercall(struct kvm_vcpu *v);
/* Is the hypercall in the registers one of those that flush TLBs? */
bool hv_is_flush_hypercall(struct kvm_vcpu *v);
/* REQ_HV_TLB_FLUSH. */
void hv_service_flush(struct kvm_vcpu *v);
/* The vCPU has gone from one level to another: what waits there for it is done before it runs. */
static inline void hv_level_changed(struct kvm_vcpu *v)
{
	if (unlikely(__atomic_load_n(&v->arch->hv.flush, __ATOMIC_RELAXED)))
		kvm_make_request(v, REQ_HV_TLB_FLUSH);
}

#endif
