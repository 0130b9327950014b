/* SPDX-License-Identifier: MIT */
/* Structures of VM-wide requests: memory, interrupt controllers, clock, filters, statistics. */
#ifndef SPEC_ABI_KVM_VM_H
#define SPEC_ABI_KVM_VM_H

#include "base/types.h"

/* ---- Memory slots ---- */
#define KVM_MEM_LOG_DIRTY_PAGES (1UL << 0)
#define KVM_MEM_READONLY	(1UL << 1)
#define KVM_MEM_GUEST_MEMFD	(1UL << 2)

struct kvm_userspace_memory_region {
	u32 slot; /* address space in the upper 16 bits */
	u32 flags;
	u64 guest_phys_addr;
	u64 memory_size; /* bytes; 0 deletes */
	u64 userspace_addr;
};
struct kvm_userspace_memory_region2 {
	u32 slot;
	u32 flags;
	u64 guest_phys_addr;
	u64 memory_size;
	u64 userspace_addr;
	u64 guest_memfd_offset;
	u32 guest_memfd;
	u32 pad1;
	u64 pad2[14];
};

struct kvm_dirty_log {
	u32 slot;
	u32 padding1;
	union {
		void *dirty_bitmap;
		u64 padding2;
	};
};
struct kvm_clear_dirty_log {
	u32 slot;
	u32 num_pages;
	u64 first_page;
	union {
		void *dirty_bitmap;
		u64 padding2;
	};
};

#define KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
struct kvm_memory_attributes {
	u64 address;
	u64 size;
	u64 attributes;
	u64 flags;
};
struct kvm_create_guest_memfd {
	u64 size;
	u64 flags;
	u64 reserved[6];
};
struct kvm_pre_fault_memory {
	u64 gpa;
	u64 size;
	u64 flags;
	u64 padding[5];
};
struct kvm_enc_region {
	u64 addr;
	u64 size;
};

struct kvm_coalesced_mmio_zone {
	u64 addr;
	u32 size;
	union {
		u32 pad;
		u32 pio;
	};
};

/* ---- Interrupt controllers ---- */
struct kvm_irq_level {
	union {
		u32 irq;
		s32 status; /* out, KVM_IRQ_LINE_STATUS */
	};
	u32 level;
};

#define KVM_IRQCHIP_PIC_MASTER 0
#define KVM_IRQCHIP_PIC_SLAVE  1
#define KVM_IRQCHIP_IOAPIC     2
#define KVM_NR_IRQCHIPS	       3

struct kvm_pic_state {
	u8 last_irr;
	u8 irr;
	u8 imr;
	u8 isr;
	u8 priority_add;
	u8 irq_base;
	u8 read_reg_select;
	u8 poll;
	u8 special_mask;
	u8 init_state;
	u8 auto_eoi;
	u8 rotate_on_auto_eoi;
	u8 special_fully_nested_mode;
	u8 init4;
	u8 elcr;
	u8 elcr_mask;
};

#define KVM_IOAPIC_NUM_PINS 24
struct kvm_ioapic_state {
	u64 base_address;
	u32 ioregsel;
	u32 id;
	u32 irr;
	u32 pad;
	union {
		u64 bits;
		struct {
			u8 vector;
			u8 delivery_mode : 3;
			u8 dest_mode : 1;
			u8 delivery_status : 1;
			u8 polarity : 1;
			u8 remote_irr : 1;
			u8 trig_mode : 1;
			u8 mask : 1;
			u8 reserve : 7;
			u8 reserved[4];
			u8 dest_id;
		} fields;
	} redirtbl[KVM_IOAPIC_NUM_PINS];
};

struct kvm_irqchip {
	u32 chip_id;
	u32 pad;
	union {
		char dummy[512];
		struct kvm_pic_state pic;
		struct kvm_ioapic_state ioapic;
	} chip;
};

#define KVM_PIT_SPEAKER_DUMMY 1
struct kvm_pit_config {
	u32 flags;
	u32 pad[15];
};

struct kvm_pit_channel_state {
	u32 count; /* 65536 is possible */
	u16 latched_count;
	u8 count_latched;
	u8 status_latched;
	u8 status;
	u8 read_state;
	u8 write_state;
	u8 write_latch;
	u8 rw_mode;
	u8 mode;
	u8 bcd;
	u8 gate;
	s64 count_load_time; /* ns */
};
struct kvm_pit_state {
	struct kvm_pit_channel_state channels[3];
};
#define KVM_PIT_FLAGS_HPET_LEGACY     0x00000001
#define KVM_PIT_FLAGS_SPEAKER_DATA_ON 0x00000002
struct kvm_pit_state2 {
	struct kvm_pit_channel_state channels[3];
	u32 flags;
	u32 reserved[9];
};
struct kvm_reinject_control {
	u8 pit_reinject;
	u8 reserved[31];
};

/* ---- Interrupt routing ---- */
#define KVM_IRQ_ROUTING_IRQCHIP	   1
#define KVM_IRQ_ROUTING_MSI	   2
#define KVM_IRQ_ROUTING_HV_SINT	   4
#define KVM_IRQ_ROUTING_XEN_EVTCHN 5

#define KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL ((u32)(-1))

struct kvm_irq_routing_irqchip {
	u32 irqchip;
	u32 pin;
};
struct kvm_irq_routing_msi {
	u32 address_lo;
	u32 address_hi;
	u32 data;
	union {
		u32 pad;
		u32 devid;
	};
};
struct kvm_irq_routing_hv_sint {
	u32 vcpu;
	u32 sint;
};
struct kvm_irq_routing_xen_evtchn {
	u32 port;
	u32 vcpu;
	u32 priority;
};
struct kvm_irq_routing_entry {
	u32 gsi;
	u32 type;
	u32 flags;
	u32 pad;
	union {
		struct kvm_irq_routing_irqchip irqchip;
		struct kvm_irq_routing_msi msi;
		struct kvm_irq_routing_hv_sint hv_sint;
		struct kvm_irq_routing_xen_evtchn xen_evtchn;
		u32 pad[8];
	} u;
};
struct kvm_irq_routing {
	u32 nr;
	u32 flags;
	struct kvm_irq_routing_entry entries[];
};

#define KVM_MSI_VALID_DEVID (1U << 0)
struct kvm_msi {
	u32 address_lo;
	u32 address_hi;
	u32 data;
	u32 flags;
	u32 devid;
	u8 pad[12];
};

#define KVM_IRQFD_FLAG_DEASSIGN (1 << 0)
#define KVM_IRQFD_FLAG_RESAMPLE (1 << 1)
struct kvm_irqfd {
	u32 fd;
	u32 gsi;
	u32 flags;
	u32 resamplefd;
	u8 pad[16];
};

enum {
	kvm_ioeventfd_flag_nr_datamatch,
	kvm_ioeventfd_flag_nr_pio,
	kvm_ioeventfd_flag_nr_deassign,
	kvm_ioeventfd_flag_nr_virtio_ccw_notify,
	kvm_ioeventfd_flag_nr_fast_mmio,
	kvm_ioeventfd_flag_nr_max,
};
#define KVM_IOEVENTFD_FLAG_DATAMATCH	     (1 << kvm_ioeventfd_flag_nr_datamatch)
#define KVM_IOEVENTFD_FLAG_PIO		     (1 << kvm_ioeventfd_flag_nr_pio)
#define KVM_IOEVENTFD_FLAG_DEASSIGN	     (1 << kvm_ioeventfd_flag_nr_deassign)
#define KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY (1 << kvm_ioeventfd_flag_nr_virtio_ccw_notify)
#define KVM_IOEVENTFD_VALID_FLAG_MASK	     ((1 << kvm_ioeventfd_flag_nr_max) - 1)
struct kvm_ioeventfd {
	u64 datamatch;
	u64 addr;
	u32 len; /* 1, 2, 4, 8; 0: any */
	s32 fd;
	u32 flags;
	u8 pad[36];
};

struct kvm_hyperv_eventfd {
	u32 conn_id;
	s32 fd;
	u32 flags;
	u32 padding[3];
};
#define KVM_HYPERV_CONN_ID_MASK	    0x00ffffff
#define KVM_HYPERV_EVENTFD_DEASSIGN (1 << 0)

/* ---- Clock ---- */
#define KVM_CLOCK_TSC_STABLE 2
#define KVM_CLOCK_REALTIME   (1 << 2)
#define KVM_CLOCK_HOST_TSC   (1 << 3)
struct kvm_clock_data {
	u64 clock; /* ns */
	u32 flags;
	u32 pad0;
	u64 realtime;
	u64 host_tsc;
	u32 pad[4];
};

/* ---- Policy ---- */
struct kvm_enable_cap {
	u32 cap;
	u32 flags;
	u64 args[4];
	u8 pad[64];
};

#define KVM_MSR_FILTER_READ		(1 << 0)
#define KVM_MSR_FILTER_WRITE		(1 << 1)
#define KVM_MSR_FILTER_RANGE_VALID_MASK (KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)
#define KVM_MSR_FILTER_MAX_BITMAP_SIZE	0x600
#define KVM_MSR_FILTER_MAX_RANGES	16
#define KVM_MSR_FILTER_DEFAULT_ALLOW	(0 << 0)
#define KVM_MSR_FILTER_DEFAULT_DENY	(1 << 0)
#define KVM_MSR_FILTER_VALID_MASK	(KVM_MSR_FILTER_DEFAULT_DENY)
struct kvm_msr_filter_range {
	u32 flags; /* what the bitmap speaks about */
	u32 nmsrs;
	u32 base;
	u8 *bitmap; /* 1 allows, 0 denies */
};
struct kvm_msr_filter {
	u32 flags;
	struct kvm_msr_filter_range ranges[KVM_MSR_FILTER_MAX_RANGES];
};

#define KVM_PMU_EVENT_ALLOW		 0
#define KVM_PMU_EVENT_DENY		 1
#define KVM_PMU_EVENT_FLAG_MASKED_EVENTS (1UL << 0)
#define KVM_PMU_EVENT_FLAGS_VALID_MASK	 (KVM_PMU_EVENT_FLAG_MASKED_EVENTS)
struct kvm_pmu_event_filter {
	u32 action;
	u32 nevents;
	u32 fixed_counter_bitmap;
	u32 flags;
	u32 pad[4];
	u64 events[];
};

/* ---- Devices ---- */
#define KVM_CREATE_DEVICE_TEST 1
#define KVM_DEV_TYPE_VFIO      4
struct kvm_create_device {
	u32 type;
	u32 fd; /* out */
	u32 flags;
};
struct kvm_device_attr {
	u32 flags;
	u32 group;
	u64 attr;
	u64 addr; /* of the value, in the program */
};
/* Attributes of the system fd */
#define KVM_X86_GRP_SYSTEM	  0
#define KVM_X86_XCOMP_GUEST_SUPP  0
#define KVM_X86_GRP_SEV		  1
#define KVM_X86_SEV_VMSA_FEATURES 0

/* ---- Binary statistics ---- */
#define KVM_STATS_TYPE_SHIFT	   0
#define KVM_STATS_TYPE_MASK	   (0xF << KVM_STATS_TYPE_SHIFT)
#define KVM_STATS_TYPE_CUMULATIVE  (0x0 << KVM_STATS_TYPE_SHIFT)
#define KVM_STATS_TYPE_INSTANT	   (0x1 << KVM_STATS_TYPE_SHIFT)
#define KVM_STATS_TYPE_PEAK	   (0x2 << KVM_STATS_TYPE_SHIFT)
#define KVM_STATS_TYPE_LINEAR_HIST (0x3 << KVM_STATS_TYPE_SHIFT)
#define KVM_STATS_TYPE_LOG_HIST	   (0x4 << KVM_STATS_TYPE_SHIFT)
#define KVM_STATS_TYPE_MAX	   KVM_STATS_TYPE_LOG_HIST
#define KVM_STATS_UNIT_SHIFT	   4
#define KVM_STATS_UNIT_MASK	   (0xF << KVM_STATS_UNIT_SHIFT)
#define KVM_STATS_UNIT_NONE	   (0x0 << KVM_STATS_UNIT_SHIFT)
#define KVM_STATS_UNIT_BYTES	   (0x1 << KVM_STATS_UNIT_SHIFT)
#define KVM_STATS_UNIT_SECONDS	   (0x2 << KVM_STATS_UNIT_SHIFT)
#define KVM_STATS_UNIT_CYCLES	   (0x3 << KVM_STATS_UNIT_SHIFT)
#define KVM_STATS_UNIT_BOOLEAN	   (0x4 << KVM_STATS_UNIT_SHIFT)
#define KVM_STATS_UNIT_MAX	   KVM_STATS_UNIT_BOOLEAN
#define KVM_STATS_BASE_SHIFT	   8
#define KVM_STATS_BASE_MASK	   (0xF << KVM_STATS_BASE_SHIFT)
#define KVM_STATS_BASE_POW10	   (0x0 << KVM_STATS_BASE_SHIFT)
#define KVM_STATS_BASE_POW2	   (0x1 << KVM_STATS_BASE_SHIFT)
#define KVM_STATS_BASE_MAX	   KVM_STATS_BASE_POW2

struct kvm_stats_header {
	u32 flags;
	u32 name_size; /* of each descriptor's name */
	u32 num_desc;
	u32 id_offset;
	u32 desc_offset;
	u32 data_offset;
};
struct kvm_stats_desc {
	u32 flags; /* KVM_STATS_{TYPE,UNIT,BASE}_* */
	s16 exponent;
	u16 size;   /* values of 8 bytes */
	u32 offset; /* in the data block */
	u32 bucket_size;
	char name[];
};

#endif
