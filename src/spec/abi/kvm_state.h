/* SPDX-License-Identifier: MIT */
/* vCPU state that KVM_GET_* and KVM_SET_* carry. */
#ifndef SPEC_ABI_KVM_STATE_H
#define SPEC_ABI_KVM_STATE_H

#include "base/types.h"

#define KVM_NR_INTERRUPTS 256

/* ---- General registers ---- */
struct kvm_regs {
	u64 rax, rbx, rcx, rdx;
	u64 rsi, rdi, rsp, rbp;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rip, rflags;
};

/* ---- System registers ---- */
struct kvm_segment {
	u64 base;
	u32 limit; /* in bytes, G already applied */
	u16 selector;
	u8 type;
	u8 present, dpl, db, s, l, g, avl;
	u8 unusable;
	u8 padding;
};

struct kvm_dtable {
	u64 base;
	u16 limit;
	u16 padding[3];
};

struct kvm_sregs {
	struct kvm_segment cs, ds, es, fs, gs, ss;
	struct kvm_segment tr, ldt;
	struct kvm_dtable gdt, idt;
	u64 cr0, cr2, cr3, cr4, cr8;
	u64 efer;
	u64 apic_base;
	/* One bit at most: an external interrupt that has been accepted and not yet delivered. */
	u64 interrupt_bitmap[(KVM_NR_INTERRUPTS + 63) / 64];
};

#define KVM_SREGS2_FLAGS_PDPTRS_VALID 1
struct kvm_sregs2 {
	struct kvm_segment cs, ds, es, fs, gs, ss;
	struct kvm_segment tr, ldt;
	struct kvm_dtable gdt, idt;
	u64 cr0, cr2, cr3, cr4, cr8;
	u64 efer;
	u64 apic_base;
	u64 flags;
	u64 pdptrs[4];
};

/* ---- Floating point and extended state ---- */
struct kvm_fpu {
	u8 fpr[8][16];
	u16 fcw;
	u16 fsw;
	u8 ftwx; /* abridged tag word, as FXSAVE has it */
	u8 pad1;
	u16 last_opcode;
	u64 last_ip;
	u64 last_dp;
	u8 xmm[16][16];
	u32 mxcsr;
	u32 pad2;
};

/* The standard (non-compacted) XSAVE area; KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2) on the VM tells how
 * many bytes KVM_GET_XSAVE2 writes and KVM_SET_XSAVE reads. */
struct kvm_xsave {
	u32 region[1024];
	u32 extra[];
};

#define KVM_MAX_XCRS 16
struct kvm_xcr {
	u32 xcr;
	u32 reserved;
	u64 value;
};
struct kvm_xcrs {
	u32 nr_xcrs;
	u32 flags;
	struct kvm_xcr xcrs[KVM_MAX_XCRS];
	u64 padding[16];
};

/* ---- MSRs ---- */
struct kvm_msr_entry {
	u32 index;
	u32 reserved;
	u64 data;
};
struct kvm_msrs {
	u32 nmsrs;
	u32 pad;
	struct kvm_msr_entry entries[];
};
struct kvm_msr_list {
	u32 nmsrs;
	u32 indices[];
};

/* ---- CPUID ---- */
struct kvm_cpuid_entry {
	u32 function;
	u32 eax, ebx, ecx, edx;
	u32 padding;
};
struct kvm_cpuid {
	u32 nent;
	u32 padding;
	struct kvm_cpuid_entry entries[];
};

#define KVM_CPUID_FLAG_SIGNIFCANT_INDEX (1 << 0) /* sic */
#define KVM_CPUID_FLAG_STATEFUL_FUNC	(1 << 1)
#define KVM_CPUID_FLAG_STATE_READ_NEXT	(1 << 2)
struct kvm_cpuid_entry2 {
	u32 function;
	u32 index;
	u32 flags;
	u32 eax, ebx, ecx, edx;
	u32 padding[3];
};
struct kvm_cpuid2 {
	u32 nent;
	u32 padding;
	struct kvm_cpuid_entry2 entries[];
};

/* ---- Local APIC: the register page's first KiB, one register per 16 bytes ---- */
#define KVM_APIC_REG_SIZE 0x400
struct kvm_lapic_state {
	char regs[KVM_APIC_REG_SIZE];
};

/* ---- Events, debug registers, run state ---- */
#define KVM_VCPUEVENT_VALID_NMI_PENDING	 0x00000001
#define KVM_VCPUEVENT_VALID_SIPI_VECTOR	 0x00000002
#define KVM_VCPUEVENT_VALID_SHADOW	 0x00000004
#define KVM_VCPUEVENT_VALID_SMM		 0x00000008
#define KVM_VCPUEVENT_VALID_PAYLOAD	 0x00000010
#define KVM_VCPUEVENT_VALID_TRIPLE_FAULT 0x00000020

#define KVM_X86_SHADOW_INT_MOV_SS 0x01
#define KVM_X86_SHADOW_INT_STI	  0x02

struct kvm_vcpu_events {
	struct {
		u8 injected;
		u8 nr;
		u8 has_error_code;
		u8 pending;
		u32 error_code;
	} exception;
	struct {
		u8 injected;
		u8 nr;
		u8 soft;
		u8 shadow; /* KVM_X86_SHADOW_* */
	} interrupt;
	struct {
		u8 injected;
		u8 pending;
		u8 masked;
		u8 pad;
	} nmi;
	u32 sipi_vector;
	u32 flags; /* KVM_VCPUEVENT_VALID_* */
	struct {
		u8 smm;
		u8 pending;
		u8 smm_inside_nmi;
		u8 latched_init;
	} smi;
	struct {
		u8 pending;
	} triple_fault;
	u8 reserved[26];
	u8 exception_has_payload;
	u64 exception_payload;
};

struct kvm_debugregs {
	u64 db[4];
	u64 dr6;
	u64 dr7;
	u64 flags;
	u64 reserved[9];
};

#define KVM_MP_STATE_RUNNABLE	   0
#define KVM_MP_STATE_UNINITIALIZED 1
#define KVM_MP_STATE_INIT_RECEIVED 2
#define KVM_MP_STATE_HALTED	   3
#define KVM_MP_STATE_SIPI_RECEIVED 4
#define KVM_MP_STATE_STOPPED	   5
#define KVM_MP_STATE_CHECK_STOP	   6
#define KVM_MP_STATE_OPERATING	   7
#define KVM_MP_STATE_LOAD	   8
#define KVM_MP_STATE_AP_RESET_HOLD 9
#define KVM_MP_STATE_SUSPENDED	   10
struct kvm_mp_state {
	u32 mp_state;
};

/* ---- Guest debugging ---- */
#define KVM_GUESTDBG_ENABLE	0x00000001
#define KVM_GUESTDBG_SINGLESTEP 0x00000002
#define KVM_GUESTDBG_USE_SW_BP	0x00010000
#define KVM_GUESTDBG_USE_HW_BP	0x00020000
#define KVM_GUESTDBG_INJECT_DB	0x00040000
#define KVM_GUESTDBG_INJECT_BP	0x00080000
#define KVM_GUESTDBG_BLOCKIRQ	0x00100000

struct kvm_guest_debug_arch {
	u64 debugreg[8];
};
struct kvm_guest_debug {
	u32 control;
	u32 pad;
	struct kvm_guest_debug_arch arch;
};
struct kvm_debug_exit_arch {
	u32 exception;
	u32 pad;
	u64 pc;
	u64 dr6;
	u64 dr7;
};

/* ---- Small ones ---- */
struct kvm_translation {
	u64 linear_address; /* in */
	u64 physical_address;
	u8 valid;
	u8 writeable;
	u8 usermode;
	u8 pad[5];
};
struct kvm_interrupt {
	u32 irq;
};
struct kvm_signal_mask {
	u32 len; /* 8: the kernel's sigset, not the C library's */
	u8 sigset[];
};
struct kvm_tpr_access_ctl {
	u32 enabled;
	u32 flags;
	u32 reserved[8];
};
struct kvm_vapic_addr {
	u64 vapic_addr;
};
struct kvm_x86_mce {
	u64 status;
	u64 addr;
	u64 misc;
	u64 mcg_status;
	u8 bank;
	u8 pad1[7];
	u64 pad2[3];
};
struct kvm_reg_list {
	u64 n;
	u64 reg[];
};
struct kvm_one_reg {
	u64 id;
	u64 addr;
};
/* KVM_*_DEVICE_ATTR on a vCPU: group and attribute. */
#define KVM_VCPU_TSC_CTRL   0
#define KVM_VCPU_TSC_OFFSET 0

/* ---- Nested virtualization ---- */
#define KVM_STATE_NESTED_FORMAT_VMX 0
#define KVM_STATE_NESTED_FORMAT_SVM 1

#define KVM_STATE_NESTED_GUEST_MODE  0x00000001
#define KVM_STATE_NESTED_RUN_PENDING 0x00000002
#define KVM_STATE_NESTED_EVMCS	     0x00000004
#define KVM_STATE_NESTED_MTF_PENDING 0x00000008
#define KVM_STATE_NESTED_GIF_SET     0x00000100

#define KVM_STATE_NESTED_SMM_GUEST_MODE 0x00000001
#define KVM_STATE_NESTED_SMM_VMXON	0x00000002

#define KVM_STATE_NESTED_VMX_VMCS_SIZE		0x1000
#define KVM_STATE_NESTED_SVM_VMCB_SIZE		0x1000
#define KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE 0x00000001

struct kvm_vmx_nested_state_data {
	u8 vmcs12[KVM_STATE_NESTED_VMX_VMCS_SIZE];
	u8 shadow_vmcs12[KVM_STATE_NESTED_VMX_VMCS_SIZE];
};
struct kvm_vmx_nested_state_hdr {
	u64 vmxon_pa;
	u64 vmcs12_pa;
	struct {
		u16 flags;
	} smm;
	u16 pad;
	u32 flags;
	u64 preemption_timer_deadline;
};
struct kvm_svm_nested_state_data {
	u8 vmcb12[KVM_STATE_NESTED_SVM_VMCB_SIZE];
};
struct kvm_svm_nested_state_hdr {
	u64 vmcb_pa;
};
/* The header is 128 bytes; the data that follow (KVM_CAP_NESTED_STATE tells the most) do not count
 * in sizeof, so that the request numbers stay what they are. */
struct kvm_nested_state {
	u16 flags;
	u16 format;
	u32 size; /* header and data */
	union {
		struct kvm_vmx_nested_state_hdr vmx;
		struct kvm_svm_nested_state_hdr svm;
		u8 pad[120];
	} hdr;
	union {
		struct kvm_vmx_nested_state_data vmx[0];
		struct kvm_svm_nested_state_data svm[0];
	} data;
};

#endif
