/* SPDX-License-Identifier: MIT */
/* struct kvm_arch: the part of a VM that only src/core sees. */
#ifndef CORE_VM_H
#define CORE_VM_H

#include "core/kvm_host.h"
#include "core/params.h"
#include "core/stats.h"
#include "spec/hyperv.h"

struct msr_filter; /* msr_filter.c */

/* What Hyper-V calls a partition: core/hyperv*.c. */
struct hv_vm {
	pthread_mutex_t lock;
	u64 guest_os_id, hypercall; /* MSRs, as written */
	u64 reference_tsc;
	u64 reenlightenment, tsc_emulation_control, tsc_emulation_status;
	struct hv_tsc_page tsc_page; /* what the guest's page has; sequence 0: not valid */
};

struct kvm_arch {
	struct vm_stat stat;
	struct kvm_params params; /* as they were when the VM was created */
	u32 trace_vm;		  /* its number in traces */
	bool bugged;		  /* an assertion failed in one of its vCPUs: every ioctl is EIO */

	/* Time. tsc_lock guards the group. */
	pthread_mutex_t tsc_lock;
	u32 default_tsc_khz; /* of vCPUs to come */
	u64 clock_base_ns;   /* kvmclock was clock_base_value when kvm_now_ns was this */
	u64 clock_base_value;
	u64 last_tsc_nsec, last_tsc_write, last_tsc_khz;
	u64 cur_tsc_nsec, cur_tsc_write, cur_tsc_offset, cur_tsc_generation;
	bool user_set_tsc;
	u64 wall_clock_gpa;

	/* What KVM_ENABLE_CAP turned on; written under kvm->lock before the vCPUs run. */
	bool exception_payload_enabled;
	bool triple_fault_event;
	bool exit_on_emulation_error;
	bool guest_can_read_msr_platform_info;
	bool hlt_in_guest, pause_in_guest;
	bool x2apic_format, x2apic_broadcast_quirk_disabled;
	bool bus_lock_detection;
	bool pmu_disabled;
	u32 user_space_msr_mask; /* KVM_MSR_EXIT_REASON_* */
	u64 hypercall_exit_enabled;
	u64 disabled_quirks;
	u32 max_vcpu_ids;
	bool max_vcpu_ids_set;
	u32 max_halt_poll_ns;
	u32 notify_window, notify_vmexit_flags; /* KVM_X86_NOTIFY_VMEXIT_* */
	u64 manual_dirty_log_protect;
	u32 dirty_ring_bytes; /* of each vCPU; 0: bitmaps */
	bool vcpu_file_fixed; /* too late to change that */

	/* Replaced as a whole under kvm->lock; readers are vCPUs outside the guest. */
	struct msr_filter *msr_filter;

	struct apf_pool *apf;	     /* core/apf.c; NULL until it is needed */
	struct mem_attrs *mem_attrs; /* replaced under slots_lock */

	u64 tss_addr, identity_map_addr;
	bool identity_map_done;
	u64 eoi_exit_bitmap[4];

	struct hv_vm hv;
	u64 vpids[64]; /* bitmap of 4096; kvm->lock */

	void *vendor; /* back end's per-VM data */
};

/* 64 random bits, from where the processor's RDRAND has them. Any thread. */
u64 kvm_random(struct kvm *kvm);

#endif
