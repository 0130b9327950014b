/* SPDX-License-Identifier: MIT */
/* Structures of the Xen interface. */
#ifndef SPEC_ABI_KVM_XEN_H
#define SPEC_ABI_KVM_XEN_H

#include "base/types.h"

#define KVM_XEN_HVM_CONFIG_HYPERCALL_MSR	(1 << 0)
#define KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL	(1 << 1)
#define KVM_XEN_HVM_CONFIG_SHARED_INFO		(1 << 2)
#define KVM_XEN_HVM_CONFIG_RUNSTATE		(1 << 3)
#define KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL	(1 << 4)
#define KVM_XEN_HVM_CONFIG_EVTCHN_SEND		(1 << 5)
#define KVM_XEN_HVM_CONFIG_RUNSTATE_UPDATE_FLAG (1 << 6)
#define KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE (1 << 7)
#define KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA	(1 << 8)
struct kvm_xen_hvm_config {
	u32 flags;
	u32 msr;
	u64 blob_addr_32;
	u64 blob_addr_64;
	u8 blob_size_32;
	u8 blob_size_64;
	u8 pad2[30];
};

#define KVM_XEN_ATTR_TYPE_LONG_MODE	       0x0
#define KVM_XEN_ATTR_TYPE_SHARED_INFO	       0x1
#define KVM_XEN_ATTR_TYPE_UPCALL_VECTOR	       0x2
#define KVM_XEN_ATTR_TYPE_EVTCHN	       0x3
#define KVM_XEN_ATTR_TYPE_XEN_VERSION	       0x4
#define KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG 0x5
#define KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA      0x6
#define KVM_XEN_INVALID_GFN		       ((u64)-1)
#define KVM_XEN_EVTCHN_DEASSIGN		       (1 << 0)
#define KVM_XEN_EVTCHN_UPDATE		       (1 << 1)
#define KVM_XEN_EVTCHN_RESET		       (1 << 2)
struct kvm_xen_hvm_attr {
	u16 type;
	u16 pad[3];
	union {
		u8 long_mode;
		u8 vector;
		u8 runstate_update_flag;
		union {
			u64 gfn;
			u64 hva;
		} shared_info;
		struct {
			u32 send_port;
			u32 type;
			u32 flags;
			union {
				struct {
					u32 port;
					u32 vcpu;
					u32 priority;
				} port;
				struct {
					u32 port;
					s32 fd;
				} eventfd;
				u32 padding[4];
			} deliver;
		} evtchn;
		u32 xen_version;
		u64 pad[8];
	} u;
};

#define KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO	0x0
#define KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO	0x1
#define KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR	0x2
#define KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT 0x3
#define KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA	0x4
#define KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADJUST	0x5
#define KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID		0x6
#define KVM_XEN_VCPU_ATTR_TYPE_TIMER		0x7
#define KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR	0x8
#define KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA	0x9
#define KVM_XEN_INVALID_GPA			((u64)-1)
struct kvm_xen_vcpu_attr {
	u16 type;
	u16 pad[3];
	union {
		u64 gpa;
		u64 hva;
		u64 pad[8];
		struct {
			u64 state;
			u64 state_entry_time;
			u64 time_running;
			u64 time_runnable;
			u64 time_blocked;
			u64 time_offline;
		} runstate;
		u32 vcpu_id;
		struct {
			u32 port;
			u32 priority;
			u64 expires_ns;
		} timer;
		u8 vector;
	} u;
};

#endif
