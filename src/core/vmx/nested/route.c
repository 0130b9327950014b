/* SPDX-License-Identifier: MIT */
/* Who gets an exit of L2: rows in nested_exit.def, the longer conditions here. SDM, chapter 26. */
#include "core/vmx/nested/nested.h"

/* ---- Exceptions ---- */

bool nested_exception_wanted(const struct vmcs12 *v12, unsigned vector, u32 error)
{
	bool bit = V12(v12, EXCEPTION_BITMAP) >> vector & 1;

	if (vector != X86_PF_VEC)
		return bit;
	/* 26.2: the bit says what a match of the error code means. Processors have 16 bits. */
	return bit == (((u16)error & (u32)V12(v12, PAGE_FAULT_ERROR_CODE_MASK)) ==
		       (u32)V12(v12, PAGE_FAULT_ERROR_CODE_MATCH));
}

static bool l0_exception(struct kvm_vcpu *v)
{
	u32 info = kvm_exit_info_2(v), debug = v->arch->guest_debug;

	if (is_nmi(info))
		return true;
	switch (info & INTR_INFO_VECTOR_MASK) {
	case X86_MC: return true; /* memory of L0's own is missing */
	case X86_PF_VEC: return vmx_need_pf_intercept(v);
	case X86_DB: return debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP);
	case X86_BP: return debug & KVM_GUESTDBG_USE_SW_BP;
	default: return false;
	}
}

static bool l1_exception(struct kvm_vcpu *v)
{
	u32 info = kvm_exit_info_2(v), error = 0;

	if (info & INTR_INFO_DELIVER_ERR_CODE)
		error = (u32)vmcs_read(v, VM_EXIT_INTR_ERROR_CODE);
	return nested_exception_wanted(vmcs12_of(v), info & INTR_INFO_VECTOR_MASK, error);
}

/* ---- Control registers (table 28-3) ---- */

static bool l1_cr_access(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	u64 q = kvm_exit_info_1(v), mask = V12(v12, CR0_GUEST_HOST_MASK), val;
	unsigned cr = q & 15;

	switch (q >> 4 & 3) {
	case 0: /* MOV to CR */
		val = kvm_register_read(v, q >> 8 & 15);
		switch (cr) {
		case 0: return mask & (val ^ V12(v12, CR0_READ_SHADOW));
		case 3:
			if (!v12_cpu(v12, CPU_BASED_CR3_LOAD_EXITING))
				return false;
			/* None of vmcs12's CR3 targets: the layout has no room for them. */
			return true;
		case 4: return V12(v12, CR4_GUEST_HOST_MASK) & (val ^ V12(v12, CR4_READ_SHADOW));
		case 8: return v12_cpu(v12, CPU_BASED_CR8_LOAD_EXITING);
		}
		return false;
	case 1: /* MOV from CR */
		return v12_cpu(v12,
			       cr == 3 ? CPU_BASED_CR3_STORE_EXITING : CPU_BASED_CR8_STORE_EXITING);
	case 2: /* CLTS */ return mask & V12(v12, CR0_READ_SHADOW) & CR0_TS;
	default: /* LMSW: bits 3:1, and PE if it is to be set */
		val = q >> 16 & 15;
		if (mask & 0xe & (val ^ V12(v12, CR0_READ_SHADOW)))
			return true;
		return (mask & ~V12(v12, CR0_READ_SHADOW) & val) & CR0_PE;
	}
}

/* ---- Bitmaps in L1's memory: what cannot be read counts as ones ---- */

static bool bit_in_guest(struct kvm_vcpu *v, u64 addr, u32 bit)
{
	u8 byte;

	if (vcpu_read_guest(v, addr + bit / 8, &byte, 1))
		return true;
	return byte >> (bit % 8) & 1;
}

bool nested_io_wanted(struct kvm_vcpu *v, u16 port, unsigned size)
{
	const struct vmcs12 *v12 = vmcs12_of(v);

	if (!v12_cpu(v12, CPU_BASED_USE_IO_BITMAPS))
		return v12_cpu(v12, CPU_BASED_UNCOND_IO_EXITING);
	for (u32 p = port; p < (u32)port + size; p++) {
		/* 26.1.3: an access that wraps around the port space exits. */
		if (p > 0xffff)
			return true;
		if (bit_in_guest(v, p < 0x8000 ? V12(v12, IO_BITMAP_A) : V12(v12, IO_BITMAP_B),
				 p & 0x7fff))
			return true;
	}
	return false;
}

static bool l1_io(struct kvm_vcpu *v)
{
	u64 q = kvm_exit_info_1(v);

	return nested_io_wanted(v, (u16)(q >> 16), (unsigned)(q & 7) + 1);
}

static bool msr_wanted(struct kvm_vcpu *v, bool write)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	u32 msr = (u32)v->hw->gpr[RCX];
	u64 addr = V12(v12, MSR_BITMAP) + (write ? 2048 : 0);

	if (!v12_cpu(v12, CPU_BASED_USE_MSR_BITMAPS))
		return true;
	if (msr >= 0xc0000000) {
		addr += 1024;
		msr -= 0xc0000000;
	}
	return msr >= 0x2000 || bit_in_guest(v, addr, msr);
}

static bool l1_msr_read(struct kvm_vcpu *v)
{
	return msr_wanted(v, false);
}

static bool l1_msr_write(struct kvm_vcpu *v)
{
	return msr_wanted(v, true);
}

/* L1 shadows a VMCS for L2: 26.1.3. */
static bool vmcs_access_wanted(struct kvm_vcpu *v, u64 bitmap)
{
	u64 field;

	if (!v12_cpu2(vmcs12_of(v), SECONDARY_EXEC_SHADOW_VMCS))
		return true;
	field = kvm_register_read(v, vmcs_read(v, VMX_INSTRUCTION_INFO) >> 28 & 15);
	return field >> 15 || bit_in_guest(v, bitmap, (u32)field);
}

static bool l1_vmread(struct kvm_vcpu *v)
{
	return vmcs_access_wanted(v, V12(vmcs12_of(v), VMREAD_BITMAP));
}

static bool l1_vmwrite(struct kvm_vcpu *v)
{
	return vmcs_access_wanted(v, V12(vmcs12_of(v), VMWRITE_BITMAP));
}

/* ---- Others ---- */

static bool l1_mtf(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);

	/* Injected as an event it exits whatever the control says (27.6.2). */
	return v12_cpu(v12, CPU_BASED_MONITOR_TRAP_FLAG) ||
	       V12(v12, VM_ENTRY_INTR_INFO_FIELD) == (INTR_INFO_VALID | INTR_TYPE_OTHER_EVENT);
}

static bool l1_pause(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);

	return v12_cpu(v12, CPU_BASED_PAUSE_EXITING) ||
	       v12_cpu2(v12, SECONDARY_EXEC_PAUSE_LOOP_EXITING);
}

static bool l1_invpcid(struct kvm_vcpu *v)
{
	return v12_cpu2(vmcs12_of(v), SECONDARY_EXEC_ENABLE_INVPCID) &&
	       v12_cpu(vmcs12_of(v), CPU_BASED_INVLPG_EXITING);
}

static bool l0_vmcall(struct kvm_vcpu *v)
{
	return nested_evmcs_takes_vmcall(v);
}

/* ---- The table ---- */

typedef bool want_fn(struct kvm_vcpu *v);
enum want_kind { WANT_ALWAYS, WANT_NEVER, WANT_CPU, WANT_CPU2, WANT_FN };
struct want {
	u8 kind;
	u32 control;
	want_fn *fn;
};
struct route {
	bool known;
	struct want l0, l1;
};

#define ALWAYS                       \
	{                            \
		WANT_ALWAYS, 0, NULL \
	}
#define NEVER                       \
	{                           \
		WANT_NEVER, 0, NULL \
	}
#define CPU(name)                                \
	{                                        \
		WANT_CPU, CPU_BASED_##name, NULL \
	}
#define CPU2(name)                                     \
	{                                              \
		WANT_CPU2, SECONDARY_EXEC_##name, NULL \
	}
#define FN(fn)                 \
	{                      \
		WANT_FN, 0, fn \
	}
/* A function stands for itself. */
#define l0_exception FN(l0_exception)
#define l0_vmcall    FN(l0_vmcall)
#define l1_exception FN(l1_exception)
#define l1_cr_access FN(l1_cr_access)
#define l1_io	     FN(l1_io)
#define l1_msr_read  FN(l1_msr_read)
#define l1_msr_write FN(l1_msr_write)
#define l1_vmread    FN(l1_vmread)
#define l1_vmwrite   FN(l1_vmwrite)
#define l1_mtf	     FN(l1_mtf)
#define l1_invpcid   FN(l1_invpcid)
#define l1_pause     FN(l1_pause)

static const struct route routes[] = {
#define NESTED_EXIT(reason, l0, l1) [EXIT_REASON_##reason] = {true, l0, l1},
#include "core/vmx/nested/nested_exit.def"
};

static bool wants(struct kvm_vcpu *v, const struct want *w)
{
	switch ((enum want_kind)w->kind) {
	case WANT_ALWAYS: return true;
	case WANT_NEVER: return false;
	case WANT_CPU: return v12_cpu(vmcs12_of(v), w->control);
	case WANT_CPU2: return v12_cpu2(vmcs12_of(v), w->control);
	default: return w->fn(v);
	}
}

bool nested_reflect(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	u32 reason = vmx->exit_reason & 0xffff, info;
	bool failed = vmx->exit_reason & VMX_EXIT_REASON_FAILED_VMENTRY;
	const struct route *r =
		reason < ARRAY_SIZE(routes) && routes[reason].known ? &routes[reason] : NULL;

	nested_of(v)->kept = 0;
	stat_reason(v->arch->stat.l2_exits, reason, 1);
	/* vmcs12 has passed the checks: L1 is not to see an entry fail that has succeeded for it.
	 */
	if (unlikely(failed && reason == EXIT_REASON_INVALID_STATE)) {
		nested_explain_vmcs02(v);
		nested_vmexit(v, EXIT_REASON_TRIPLE_FAULT, 0, 0);
		return true;
	}
	if (r && !failed && (wants(v, &r->l0) || !wants(v, &r->l1))) {
		kvm_stat_inc(v, nested_exits_l0);
		stat_reason(v->arch->stat.l2_kept, reason, 1);
		nested_of(v)->kept = reason + 1;
		return false;
	}
	info = reason == EXIT_REASON_EXCEPTION_NMI ? kvm_exit_info_2(v) : 0;
	if ((info & (INTR_INFO_VALID | INTR_INFO_DELIVER_ERR_CODE)) ==
	    (INTR_INFO_VALID | INTR_INFO_DELIVER_ERR_CODE))
		V12_SET(vmcs12_of(v), VM_EXIT_INTR_ERROR_CODE,
			vmcs_read(v, VM_EXIT_INTR_ERROR_CODE));
	if (reason == EXIT_REASON_APIC_ACCESS || reason == EXIT_REASON_EPT_VIOLATION)
		V12_SET(vmcs12_of(v), GUEST_PHYSICAL_ADDRESS, vmcs_read(v, GUEST_PHYSICAL_ADDRESS));
	nested_vmexit(v, vmx->exit_reason, info, kvm_exit_info_1(v));
	return true;
}
