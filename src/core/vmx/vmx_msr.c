/* SPDX-License-Identifier: MIT */
/* MSRs that live in the VMCS, and the bitmap of those the guest reaches without an exit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/msr.h"
#include "core/vmx/nested/nested.h"
#include "spec/msr.h"

int vmx_get_msr(struct kvm_vcpu *v, u32 index, u64 *val)
{
	switch (index) {
	case MSR_FS_BASE: *val = vmcs_read(v, GUEST_FS_BASE); return 0;
	case MSR_GS_BASE: *val = vmcs_read(v, GUEST_GS_BASE); return 0;
	case MSR_IA32_SYSENTER_CS: *val = vmcs_read(v, GUEST_SYSENTER_CS); return 0;
	case MSR_IA32_SYSENTER_ESP: *val = vmcs_read(v, GUEST_SYSENTER_ESP); return 0;
	case MSR_IA32_SYSENTER_EIP: *val = vmcs_read(v, GUEST_SYSENTER_EIP); return 0;
	case MSR_IA32_DEBUGCTLMSR: *val = vmcs_read(v, GUEST_IA32_DEBUGCTL); return 0;
	case MSR_IA32_VMX_BASIC ... MSR_IA32_VMX_VMFUNC: return nested_get_cap(v, index, val);
	default: return -ENOENT;
	}
}

int vmx_set_msr(struct kvm_vcpu *v, u32 index, u64 val)
{
	switch (index) {
	case MSR_FS_BASE:
		v->regs.seg_fields &= ~(0xfu << (FS * 4));
		vmcs_write(v, GUEST_FS_BASE, val);
		return 0;
	case MSR_GS_BASE:
		v->regs.seg_fields &= ~(0xfu << (GS * 4));
		vmcs_write(v, GUEST_GS_BASE, val);
		return 0;
	case MSR_IA32_SYSENTER_CS: vmcs_write(v, GUEST_SYSENTER_CS, (u32)val); return 0;
	case MSR_IA32_SYSENTER_ESP: vmcs_write(v, GUEST_SYSENTER_ESP, val); return 0;
	case MSR_IA32_SYSENTER_EIP: vmcs_write(v, GUEST_SYSENTER_EIP, val); return 0;
	case MSR_IA32_DEBUGCTLMSR: vmcs_write(v, GUEST_IA32_DEBUGCTL, val); return 0;
	case MSR_IA32_CR_PAT:
		if (vmx_of(v)->config->entry & VM_ENTRY_LOAD_IA32_PAT)
			vmx_write_pat(v, val);
		return 0;
	case MSR_IA32_VMX_BASIC ... MSR_IA32_VMX_VMFUNC: return nested_set_cap(v, index, val);
	default: return -ENOENT;
	}
}

int vmx_get_feature_msr(u32 index, u64 *val)
{
	struct kvm_params p;
	struct vmx_config *c;
	int ret;

	if (index >= MSR_IA32_VMX_BASIC && index <= MSR_IA32_VMX_VMFUNC) {
		c = aligned_alloc(PAGE_SIZE, align_up(sizeof(*c), PAGE_SIZE));
		if (!c)
			return -EINVAL;
		params_snapshot(&p);
		ret = vmx_config_init(c, &p);
		if (!ret)
			ret = nested_feature_msr(c, index, val);
		free(c);
		return ret ? -EINVAL : 0;
	}
	return kvm_host_rdmsr(index, val) ? -EINVAL : 0;
}

/* SDM, 25.6.9: four KiB-quarters: reads of low and high MSRs, writes of low and high ones. */
static void bitmap_pass(u8 *bitmap, u32 index, bool write)
{
	u32 bit = index & 0x1fff;
	u32 at = (write ? 2048 : 0) + (index >= 0xc0000000 ? 1024 : 0);

	bitmap[at + bit / 8] &= (u8) ~(1u << (bit % 8));
}

static void pass(struct kvm_vcpu *v, u32 index, u32 type)
{
	u8 *bitmap = vmx_of(v)->msr_bitmap;

	if ((type & KVM_MSR_FILTER_READ) && kvm_msr_allowed(v, index, KVM_MSR_FILTER_READ))
		bitmap_pass(bitmap, index, false);
	if ((type & KVM_MSR_FILTER_WRITE) && kvm_msr_allowed(v, index, KVM_MSR_FILTER_WRITE))
		bitmap_pass(bitmap, index, true);
}

#define PASS_R	KVM_MSR_FILTER_READ
#define PASS_RW (KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE)

/* For merging with the bitmap of an L1: where there is anything to be merged. */
static void find_pass_words(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	const u64 *words = (const u64 *)vmx->msr_bitmap;

	vmx->npass_words = 0;
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++) {
		if (words[i] == ~0ull)
			continue;
		BUG_ON(vmx->npass_words == ARRAY_SIZE(vmx->pass_words));
		vmx->pass_words[vmx->npass_words++] = (u16)i;
	}
}

/* Rebuilds the bitmap: a filter or the guest's CPUID changed. */
void vmx_msr_filter_changed(struct kvm_vcpu *v)
{
	memset(vmx_of(v)->msr_bitmap, 0xff, PAGE_SIZE);
	pass(v, MSR_IA32_TSC, PASS_R);
	pass(v, MSR_FS_BASE, PASS_RW);
	pass(v, MSR_GS_BASE, PASS_RW);
	pass(v, MSR_KERNEL_GS_BASE, PASS_RW);
	pass(v, MSR_IA32_SYSENTER_CS, PASS_RW);
	pass(v, MSR_IA32_SYSENTER_ESP, PASS_RW);
	pass(v, MSR_IA32_SYSENTER_EIP, PASS_RW);
	if (guest_cpuid_has(v, FEAT_SYSCALL)) {
		pass(v, MSR_STAR, PASS_RW);
		pass(v, MSR_LSTAR, PASS_RW);
		pass(v, MSR_CSTAR, PASS_RW);
		pass(v, MSR_SYSCALL_MASK, PASS_RW);
	}
	/* Hypervisors read these two around each run of a guest. */
	pass(v, MSR_IA32_DEBUGCTLMSR, PASS_R);
	if (guest_cpuid_has(v, FEAT_SPEC_CTRL))
		pass(v, MSR_IA32_SPEC_CTRL, PASS_RW);
	find_pass_words(v);
	if (vmx_of(v)->nested)
		nested_of(v)->evmcs.bitmap_merged = false;
}
