/* SPDX-License-Identifier: MIT */
/* CPUID: what can be offered (core/cpuid.def over the hardware's), and what a guest was given. */
#ifndef CORE_CPUID_H
#define CORE_CPUID_H

#include "core/vcpu.h"

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

enum cpu_feature {
#define FEATURE(name, leaf, subleaf, reg, bit, policy) FEAT_##name,
#include "core/cpuid.def"
	FEAT_N
};
_Static_assert(FEAT_N <= 16 * 64, "vcpu_arch.cpuid_bits holds them");

/* What the guest's CPUID says. Own thread. */
static inline bool guest_cpuid_has(const struct kvm_vcpu *v, enum cpu_feature f)
{
	return v->arch->cpuid_bits[f / 64] >> (f % 64) & 1;
}

/* What this KVM can offer at all. Any thread. */
bool kvm_cpu_cap_has(enum cpu_feature f);
/* All that is offered in one register of one leaf. */
u32 kvm_cpu_cap_word(u32 leaf, u32 subleaf, enum cpuid_reg reg);
/* The hardware without any VM: root-mode CPUID and capability MSRs. Any thread. */
void kvm_host_cpuid(u32 leaf, u32 subleaf, u32 out[4]);
int kvm_host_rdmsr(u32 index, u64 *val);
u64 kvm_supported_xcr0(void);

struct kvm_cpuid_entry2 *kvm_find_cpuid_entry(const struct kvm_vcpu *v, u32 leaf, u32 subleaf);
/* As the instruction answers: with KVM's rule for leaves out of range. */
void kvm_cpuid(const struct kvm_vcpu *v, u32 out[4], u32 leaf, u32 subleaf);
/* Bits that follow registers: OSXSAVE, OSPKE, APIC, sizes of the XSAVE area, MWAIT. */
void kvm_update_cpuid_runtime(struct kvm_vcpu *v);
bool guest_cpuid_is_intel(const struct kvm_vcpu *v);
bool guest_cpuid_is_amd(const struct kvm_vcpu *v);
/* The bit of this row in the guest's entries. */
bool cpuid_feature_set(const struct kvm_vcpu *v, enum cpu_feature f);
void cpuid_feature_change(struct kvm_vcpu *v, enum cpu_feature f, bool on);
void cpuid_vcpu_free(struct kvm_vcpu *v);
void cpuid_vcpu_init(struct kvm_vcpu *v);

#endif
