/* SPDX-License-Identifier: MIT */
/*
 * Numbers of the Hyper-V interface (Microsoft's Hypervisor Top-Level Functional Specification,
 * "TLFS"): CPUID leaves, MSRs, hypercalls. Feature bits are rows of core/cpuid.def, the enlightened
 * VMCS is core/vmx/nested/evmcs.def.
 */
#ifndef SPEC_HYPERV_H
#define SPEC_HYPERV_H

#include "base/types.h"

/* ---- CPUID (TLFS, "Feature and interface discovery") ---- */
#define HV_CPUID_VENDOR		0x40000000u
#define HV_CPUID_INTERFACE	0x40000001u
#define HV_CPUID_VERSION	0x40000002u
#define HV_CPUID_FEATURES	0x40000003u
#define HV_CPUID_ENLIGHTENMENTS 0x40000004u
#define HV_CPUID_LIMITS		0x40000005u
#define HV_CPUID_NESTED		0x4000000au
/* Leaves of the synthetic debugger, which come with Linux' list. */
#define HV_CPUID_STACK_VENDOR	  0x40000080u
#define HV_CPUID_STACK_INTERFACE  0x40000081u
#define HV_CPUID_STACK_PROPERTIES 0x40000082u

#define HV_INTERFACE_SIGNATURE	     0x31237648u /* "Hv#1" */
#define HV_STACK_INTERFACE_SIGNATURE 0x31235356u /* "VS#1" */

/* ---- MSRs ---- */
#define HV_MSR_GUEST_OS_ID	       0x40000000
#define HV_MSR_HYPERCALL	       0x40000001
#define HV_MSR_VP_INDEX		       0x40000002
#define HV_MSR_TIME_REF_COUNT	       0x40000020
#define HV_MSR_REFERENCE_TSC	       0x40000021
#define HV_MSR_TSC_FREQUENCY	       0x40000022
#define HV_MSR_APIC_FREQUENCY	       0x40000023
#define HV_MSR_EOI		       0x40000070
#define HV_MSR_ICR		       0x40000071
#define HV_MSR_TPR		       0x40000072
#define HV_MSR_VP_ASSIST_PAGE	       0x40000073
#define HV_MSR_REENLIGHTENMENT_CONTROL 0x40000106
#define HV_MSR_TSC_EMULATION_CONTROL   0x40000107
#define HV_MSR_TSC_EMULATION_STATUS    0x40000108

/* Bit 0 of the MSRs that hold the address of a page. */
#define HV_MSR_ENABLE BIT(0)

/* The page of HV_MSR_REFERENCE_TSC. Time in 100 ns = (TSC * scale >> 64) + offset. */
struct hv_tsc_page {
	u32 sequence; /* 0: not valid */
	u32 reserved;
	u64 scale;
	s64 offset;
};

/* Fields of the VP assist page. */
#define HV_ASSIST_NESTED_CONTROL 32
#define HV_ASSIST_SIZE		 4096

/* From HV_ASSIST_NESTED_CONTROL on. */
struct hv_assist_nested {
	u32 features; /* bit 0: hypercalls of L2 may be answered by L0 */
	u32 hypercall_controls;
	u8 enlighten_vmentry;
	u8 reserved[7];
	u64 current_nested_vmcs;
};
#define HV_ASSIST_DIRECT_HYPERCALL 1u

/* ---- Hypercalls ---- */
#define HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE    0x0002
#define HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST     0x0003
#define HV_CALL_NOTIFY_LONG_SPIN_WAIT	       0x0008
#define HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX 0x0013
#define HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX  0x0014

#define HV_FLUSH_ALL_PROCESSORS BIT(0)

enum { HV_VP_SET_SPARSE_4K, HV_VP_SET_ALL };
#define HV_VP_SET_BANKS 64

#define HV_STATUS_SUCCESS		  0
#define HV_STATUS_INVALID_HYPERCALL_CODE  2
#define HV_STATUS_INVALID_HYPERCALL_INPUT 3
#define HV_STATUS_ACCESS_DENIED		  6

#endif
