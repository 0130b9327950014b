/* SPDX-License-Identifier: MIT */
/* The page that KVM_RUN talks through, and what is mapped behind it. */
#ifndef SPEC_ABI_KVM_RUN_H
#define SPEC_ABI_KVM_RUN_H

#include "spec/abi/kvm_state.h"

/* Pages of a vCPU fd: struct kvm_run, port data, coalesced MMIO ring, ..., dirty ring */
#define KVM_PIO_PAGE_OFFSET	       1
#define KVM_COALESCED_MMIO_PAGE_OFFSET 2
#define KVM_DIRTY_LOG_PAGE_OFFSET      64

#define KVM_EXIT_UNKNOWN	 0
#define KVM_EXIT_EXCEPTION	 1
#define KVM_EXIT_IO		 2
#define KVM_EXIT_HYPERCALL	 3
#define KVM_EXIT_DEBUG		 4
#define KVM_EXIT_HLT		 5
#define KVM_EXIT_MMIO		 6
#define KVM_EXIT_IRQ_WINDOW_OPEN 7
#define KVM_EXIT_SHUTDOWN	 8
#define KVM_EXIT_FAIL_ENTRY	 9
#define KVM_EXIT_INTR		 10
#define KVM_EXIT_SET_TPR	 11
#define KVM_EXIT_TPR_ACCESS	 12
#define KVM_EXIT_NMI		 16
#define KVM_EXIT_INTERNAL_ERROR	 17
#define KVM_EXIT_WATCHDOG	 21
#define KVM_EXIT_SYSTEM_EVENT	 24
#define KVM_EXIT_IOAPIC_EOI	 26
#define KVM_EXIT_HYPERV		 27
#define KVM_EXIT_X86_RDMSR	 29
#define KVM_EXIT_X86_WRMSR	 30
#define KVM_EXIT_DIRTY_RING_FULL 31
#define KVM_EXIT_AP_RESET_HOLD	 32
#define KVM_EXIT_X86_BUS_LOCK	 33
#define KVM_EXIT_XEN		 34
#define KVM_EXIT_NOTIFY		 37
#define KVM_EXIT_MEMORY_FAULT	 39

/* internal.suberror */
#define KVM_INTERNAL_ERROR_EMULATION		  1
#define KVM_INTERNAL_ERROR_SIMUL_EX		  2
#define KVM_INTERNAL_ERROR_DELIVERY_EV		  3
#define KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON 4

/* emulation_failure.flags: which of the fields after it are filled */
#define KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES (1ULL << 0)

/* kvm_run.flags */
#define KVM_RUN_X86_SMM	       (1 << 0)
#define KVM_RUN_X86_BUS_LOCK   (1 << 1)
#define KVM_RUN_X86_GUEST_MODE (1 << 2)

#define KVM_EXIT_IO_IN	0
#define KVM_EXIT_IO_OUT 1

#define KVM_EXIT_HYPERCALL_LONG_MODE (1ULL << 0)

#define KVM_SYSTEM_EVENT_SHUTDOWN 1
#define KVM_SYSTEM_EVENT_RESET	  2
#define KVM_SYSTEM_EVENT_CRASH	  3
#define KVM_SYSTEM_EVENT_WAKEUP	  4
#define KVM_SYSTEM_EVENT_SUSPEND  5
#define KVM_SYSTEM_EVENT_SEV_TERM 6

#define KVM_MSR_EXIT_REASON_INVAL   (1 << 0)
#define KVM_MSR_EXIT_REASON_UNKNOWN (1 << 1)
#define KVM_MSR_EXIT_REASON_FILTER  (1 << 2)
#define KVM_MSR_EXIT_REASON_VALID_MASK \
	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

#define KVM_NOTIFY_CONTEXT_INVALID   (1 << 0)
#define KVM_MEMORY_EXIT_FLAG_PRIVATE (1ULL << 3)

#define KVM_EXIT_HYPERV_SYNIC  1
#define KVM_EXIT_HYPERV_HCALL  2
#define KVM_EXIT_HYPERV_SYNDBG 3
struct kvm_hyperv_exit {
	u32 type;
	u32 pad1;
	union {
		struct {
			u32 msr;
			u32 pad2;
			u64 control;
			u64 evt_page;
			u64 msg_page;
		} synic;
		struct {
			u64 input;
			u64 result;
			u64 params[2];
		} hcall;
		struct {
			u32 msr;
			u32 pad2;
			u64 control;
			u64 status;
			u64 send_page;
			u64 recv_page;
			u64 pending_page;
		} syndbg;
	} u;
};

#define KVM_EXIT_XEN_HCALL 1
struct kvm_xen_exit {
	u32 type;
	union {
		struct {
			u32 longmode;
			u32 cpl;
			u64 input;
			u64 result;
			u64 params[6];
		} hcall;
	} u;
};

/* Register classes that kvm_run.s.regs can carry (KVM_CAP_SYNC_REGS) */
#define KVM_SYNC_X86_REGS	  (1UL << 0)
#define KVM_SYNC_X86_SREGS	  (1UL << 1)
#define KVM_SYNC_X86_EVENTS	  (1UL << 2)
#define KVM_SYNC_X86_VALID_FIELDS (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
#define SYNC_REGS_SIZE_BYTES	  2048

struct kvm_sync_regs {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
};

/*
 * Shared with the program, which may change any byte at any time: the core reads a field once and
 * checks what it read.
 */
struct kvm_run {
	/* read at KVM_RUN */
	u8 request_interrupt_window;
	u8 immediate_exit;
	u8 padding1[6];

	/* written when it returns */
	u32 exit_reason;
	u8 ready_for_interrupt_injection;
	u8 if_flag;
	u16 flags;

	/* both ways; meaningful without an in-kernel local APIC */
	u64 cr8;
	u64 apic_base;

	union {
		struct {
			u64 hardware_exit_reason;
		} hw;
		struct {
			u64 hardware_entry_failure_reason;
			u32 cpu;
		} fail_entry;
		struct {
			u32 exception;
			u32 error_code;
		} ex;
		struct {
			u8 direction;
			u8 size;
			u16 port;
			u32 count;
			u64 data_offset; /* from the start of this page */
		} io;
		struct {
			struct kvm_debug_exit_arch arch;
		} debug;
		struct {
			u64 phys_addr;
			u8 data[8];
			u32 len;
			u8 is_write;
		} mmio;
		struct {
			u64 nr;
			u64 args[6];
			u64 ret;
			union {
				u32 longmode;
				u64 flags;
			};
		} hypercall;
		struct {
			u64 rip;
			u32 is_write;
			u32 pad;
		} tpr_access;
		struct {
			u32 suberror;
			u32 ndata;
			u64 data[16];
		} internal;
		/* internal, seen through KVM_INTERNAL_ERROR_EMULATION */
		struct {
			u32 suberror;
			u32 ndata;
			u64 flags;
			union {
				struct {
					u8 insn_size;
					u8 insn_bytes[15];
				};
			};
		} emulation_failure;
		struct {
			u32 type;
			u32 ndata;
			union {
				u64 flags;
				u64 data[16];
			};
		} system_event;
		struct {
			u8 vector;
		} eoi;
		struct kvm_hyperv_exit hyperv;
		struct {
			u8 error; /* set by the program: the instruction is to fault */
			u8 pad[7];
			u32 reason;
			u32 index;
			u64 data;
		} msr;
		struct kvm_xen_exit xen;
		struct {
			u32 flags;
		} notify;
		struct {
			u64 flags;
			u64 gpa;
			u64 size;
		} memory_fault;
		char padding[256];
	};

	u64 kvm_valid_regs;
	u64 kvm_dirty_regs;
	union {
		struct kvm_sync_regs regs;
		char padding[SYNC_REGS_SIZE_BYTES];
	} s;
};

/* ---- Coalesced MMIO ring: third page ---- */
struct kvm_coalesced_mmio {
	u64 phys_addr;
	u32 len;
	union {
		u32 pad;
		u32 pio;
	};
	u8 data[8];
};
struct kvm_coalesced_mmio_ring {
	u32 first, last; /* the program moves first, the core last */
	struct kvm_coalesced_mmio coalesced_mmio[];
};
#define KVM_COALESCED_MMIO_MAX \
	((PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

/* ---- Dirty ring: from page 64 ---- */
#define KVM_DIRTY_GFN_F_DIRTY (1UL << 0) /* set by the core */
#define KVM_DIRTY_GFN_F_RESET (1UL << 1) /* set by the program: collected */
#define KVM_DIRTY_GFN_F_MASK  0x3
struct kvm_dirty_gfn {
	u32 flags;
	u32 slot;
	u64 offset;
};

#endif
