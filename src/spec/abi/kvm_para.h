/* SPDX-License-Identifier: MIT */
/* The guest's side of KVM's ABI: paravirtual MSRs, hypercalls and shared structures. */
#ifndef SPEC_ABI_KVM_PARA_H
#define SPEC_ABI_KVM_PARA_H

#include "base/types.h"

#define KVM_CPUID_SIGNATURE 0x40000000
#define KVM_CPUID_FEATURES  0x40000001
#define KVM_SIGNATURE	    "KVMKVMKVM\0\0\0"

#define KVM_FEATURE_CLOCKSOURCE		   0
#define KVM_FEATURE_NOP_IO_DELAY	   1
#define KVM_FEATURE_MMU_OP		   2
#define KVM_FEATURE_CLOCKSOURCE2	   3
#define KVM_FEATURE_ASYNC_PF		   4
#define KVM_FEATURE_STEAL_TIME		   5
#define KVM_FEATURE_PV_EOI		   6
#define KVM_FEATURE_PV_UNHALT		   7
#define KVM_FEATURE_PV_TLB_FLUSH	   9
#define KVM_FEATURE_ASYNC_PF_VMEXIT	   10
#define KVM_FEATURE_PV_SEND_IPI		   11
#define KVM_FEATURE_POLL_CONTROL	   12
#define KVM_FEATURE_PV_SCHED_YIELD	   13
#define KVM_FEATURE_ASYNC_PF_INT	   14
#define KVM_FEATURE_MSI_EXT_DEST_ID	   15
#define KVM_FEATURE_HC_MAP_GPA_RANGE	   16
#define KVM_FEATURE_MIGRATION_CONTROL	   17
#define KVM_FEATURE_CLOCKSOURCE_STABLE_BIT 24

#define MSR_KVM_WALL_CLOCK	  0x11
#define MSR_KVM_SYSTEM_TIME	  0x12
#define MSR_KVM_WALL_CLOCK_NEW	  0x4b564d00
#define MSR_KVM_SYSTEM_TIME_NEW	  0x4b564d01
#define MSR_KVM_ASYNC_PF_EN	  0x4b564d02
#define MSR_KVM_STEAL_TIME	  0x4b564d03
#define MSR_KVM_PV_EOI_EN	  0x4b564d04
#define MSR_KVM_POLL_CONTROL	  0x4b564d05
#define MSR_KVM_ASYNC_PF_INT	  0x4b564d06
#define MSR_KVM_ASYNC_PF_ACK	  0x4b564d07
#define MSR_KVM_MIGRATION_CONTROL 0x4b564d08
#define KVM_MSR_ENABLED		  1ull

#define KVM_HC_VAPIC_POLL_IRQ 1
#define KVM_HC_KICK_CPU	      5
#define KVM_HC_CLOCK_PAIRING  9
#define KVM_HC_SEND_IPI	      10
#define KVM_HC_SCHED_YIELD    11
#define KVM_HC_MAP_GPA_RANGE  12
/* Returned in RAX */
#define KVM_ENOSYS     1000
#define KVM_EFAULT     14
#define KVM_EINVAL     22
#define KVM_EPERM      1
#define KVM_EOPNOTSUPP 95

struct pvclock_vcpu_time_info {
	u32 version; /* odd while being written */
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time; /* ns at tsc_timestamp */
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags; /* PVCLOCK_* */
	u8 pad[2];
};
_Static_assert(sizeof(struct pvclock_vcpu_time_info) == 32, "guest ABI");
#define PVCLOCK_TSC_STABLE_BIT 1
#define PVCLOCK_GUEST_STOPPED  2

struct pvclock_wall_clock {
	u32 version;
	u32 sec;
	u32 nsec;
};
_Static_assert(sizeof(struct pvclock_wall_clock) == 12, "guest ABI");

struct kvm_steal_time {
	u64 steal; /* ns */
	u32 version;
	u32 flags;
	u8 preempted; /* KVM_VCPU_* */
	u8 u8_pad[3];
	u32 pad[11];
};
_Static_assert(sizeof(struct kvm_steal_time) == 64, "guest ABI");
#define KVM_VCPU_PREEMPTED	1
#define KVM_VCPU_FLUSH_TLB	2
#define KVM_STEAL_RESERVED_MASK 0x3eull

/* MSR_KVM_ASYNC_PF_EN */
#define KVM_ASYNC_PF_ENABLED		   (1ull << 0)
#define KVM_ASYNC_PF_SEND_ALWAYS	   (1ull << 1)
#define KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT (1ull << 2)
#define KVM_ASYNC_PF_DELIVERY_AS_INT	   (1ull << 3)
#define KVM_PV_REASON_PAGE_NOT_PRESENT	   1

struct kvm_vcpu_pv_apf_data {
	u32 flags; /* KVM_PV_REASON_* */
	u32 token; /* of a page that is there again; the guest clears it */
	u8 pad[56];
};
_Static_assert(sizeof(struct kvm_vcpu_pv_apf_data) == 64, "guest ABI");

struct kvm_clock_pairing {
	s64 sec;
	s64 nsec;
	u64 tsc;
	u32 flags;
	u32 pad[9];
};
#define KVM_CLOCK_PAIRING_WALLCLOCK 0

#endif
