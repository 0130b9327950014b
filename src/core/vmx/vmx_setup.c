/* SPDX-License-Identifier: MIT */
/* Which VT-x features are used, and the VMCS that a vCPU starts with. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/vmx/vmx.h"
#include "spec/msr.h"

/* @must: without which nothing goes; @want: used if there. SDM, A.3: the low half of a capability
 * MSR has the bits that must be 1, the high half those that may be. */
static int adjust_controls(u32 must, u32 want, u32 msr, u32 *out)
{
	u64 cap;
	u32 ctl;

	if (kvm_host_rdmsr(msr, &cap))
		return -EIO;
	ctl = (must | want) & (u32)(cap >> 32);
	ctl |= (u32)cap;
	if (must & ~ctl)
		return -EIO;
	*out = ctl;
	return 0;
}

static u64 host_msr(u32 index)
{
	u64 val = 0;

	kvm_host_rdmsr(index, &val);
	return val;
}

int vmx_config_init(struct vmx_config *c, const struct kvm_params *p)
{
	u64 basic = host_msr(MSR_IA32_VMX_BASIC);
	bool true_ctls = basic >> 55 & 1;
	u32 must, want;

	memset(c, 0, sizeof(*c));
	c->revision = basic & 0x7fffffff;
	c->misc = host_msr(MSR_IA32_VMX_MISC);
	c->cr0_fixed0 = host_msr(MSR_IA32_VMX_CR0_FIXED0);
	c->cr0_fixed1 = host_msr(MSR_IA32_VMX_CR0_FIXED1);
	c->cr4_fixed0 = host_msr(MSR_IA32_VMX_CR4_FIXED0);
	c->cr4_fixed1 = host_msr(MSR_IA32_VMX_CR4_FIXED1);

	must = PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS;
	if (adjust_controls(must, 0,
			    true_ctls ? MSR_IA32_VMX_TRUE_PINBASED_CTLS
				      : MSR_IA32_VMX_PINBASED_CTLS,
			    &c->pin))
		return -EIO;

	must = CPU_BASED_HLT_EXITING | CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING |
	       CPU_BASED_UNCOND_IO_EXITING | CPU_BASED_USE_TSC_OFFSETTING |
	       CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING |
	       CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_ACTIVATE_SECONDARY_CONTROLS;
	if (adjust_controls(must, 0,
			    true_ctls ? MSR_IA32_VMX_TRUE_PROCBASED_CTLS
				      : MSR_IA32_VMX_PROCBASED_CTLS,
			    &c->cpu))
		return -EIO;

	must = SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST;
	want = SECONDARY_EXEC_ENABLE_VPID | SECONDARY_EXEC_ENABLE_RDTSCP |
	       SECONDARY_EXEC_ENABLE_INVPCID | SECONDARY_EXEC_ENABLE_XSAVES |
	       SECONDARY_EXEC_TSC_SCALING | SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	if (!p->kvm_intel_vpid)
		want &= ~SECONDARY_EXEC_ENABLE_VPID;
	if (!p->kvm_intel_ple_gap)
		want &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	if (adjust_controls(must, want, MSR_IA32_VMX_PROCBASED_CTLS2, &c->cpu2))
		return -EIO;
	c->ept_vpid = host_msr(MSR_IA32_VMX_EPT_VPID_CAP);
	c->ept = true;
	c->unrestricted = true;
	c->vpid = c->cpu2 & SECONDARY_EXEC_ENABLE_VPID;
	c->ple = c->cpu2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	c->tsc_scaling = c->cpu2 & SECONDARY_EXEC_TSC_SCALING;
	c->ept_ad = p->kvm_intel_eptad && (c->ept_vpid & VMX_EPT_AD);
	c->ple_gap = p->kvm_intel_ple_gap;
	c->ple_window = p->kvm_intel_ple_window;

	must = VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_SAVE_DEBUG_CONTROLS | VM_EXIT_LOAD_IA32_EFER;
	want = VM_EXIT_LOAD_IA32_PAT;
	if (adjust_controls(must, want,
			    true_ctls ? MSR_IA32_VMX_TRUE_EXIT_CTLS : MSR_IA32_VMX_EXIT_CTLS,
			    &c->exit))
		return -EIO;
	must = VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_EFER;
	want = VM_ENTRY_LOAD_IA32_PAT;
	return adjust_controls(must, want,
			       true_ctls ? MSR_IA32_VMX_TRUE_ENTRY_CTLS : MSR_IA32_VMX_ENTRY_CTLS,
			       &c->entry);
}

/* Controls that follow capabilities of the VM and the guest's CPUID. */
void vmx_update_exec_controls(struct kvm_vcpu *v)
{
	const struct vmx_config *c = vmx_of(v)->config;
	const struct kvm_arch *ka = v->kvm->arch;
	u32 cpu = c->cpu, cpu2 = c->cpu2;

	if (ka->hlt_in_guest)
		cpu &= ~CPU_BASED_HLT_EXITING;
	if (ka->pause_in_guest)
		cpu2 &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	if (v->arch->guest_debug & KVM_GUESTDBG_USE_HW_BP)
		cpu |= CPU_BASED_MOV_DR_EXITING;
	if (!guest_cpuid_has(v, FEAT_RDTSCP) && !guest_cpuid_has(v, FEAT_RDPID))
		cpu2 &= ~SECONDARY_EXEC_ENABLE_RDTSCP;
	if (!guest_cpuid_has(v, FEAT_INVPCID))
		cpu2 &= ~SECONDARY_EXEC_ENABLE_INVPCID;
	if (!guest_cpuid_has(v, FEAT_XSAVES))
		cpu2 &= ~SECONDARY_EXEC_ENABLE_XSAVES;
	/* Windows stay as they are asked for. */
	cpu |= vmx_of(v)->loaded->cpu &
	       (CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING);
	vmx_set_cpu(v, cpu);
	vmx_set_cpu2(v, cpu2);
}

/*
 * The host-state area: what root mode would be if it were a guest of the manual. Our root mode is C
 * and takes nothing from here, but the processor checks it (SDM, 27.2.2).
 */
static void vmx_init_host_state(struct kvm_vcpu *v)
{
	const struct vmx_config *c = vmx_of(v)->config;

	vmcs_write(v, HOST_CR0,
		   (CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP | c->cr0_fixed0) & c->cr0_fixed1);
	vmcs_write(v, HOST_CR3, 0);
	vmcs_write(v, HOST_CR4, (CR4_PAE | CR4_VMXE | c->cr4_fixed0) & c->cr4_fixed1);
	vmcs_write(v, HOST_CS_SELECTOR, 0x08);
	vmcs_write(v, HOST_SS_SELECTOR, 0x10);
	vmcs_write(v, HOST_DS_SELECTOR, 0);
	vmcs_write(v, HOST_ES_SELECTOR, 0);
	vmcs_write(v, HOST_FS_SELECTOR, 0);
	vmcs_write(v, HOST_GS_SELECTOR, 0);
	vmcs_write(v, HOST_TR_SELECTOR, 0x18);
	vmcs_write(v, HOST_FS_BASE, 0);
	vmcs_write(v, HOST_GS_BASE, 0);
	vmcs_write(v, HOST_TR_BASE, 0);
	vmcs_write(v, HOST_GDTR_BASE, 0);
	vmcs_write(v, HOST_IDTR_BASE, 0);
	vmcs_write(v, HOST_IA32_SYSENTER_CS, 0);
	vmcs_write(v, HOST_IA32_SYSENTER_ESP, 0);
	vmcs_write(v, HOST_IA32_SYSENTER_EIP, 0);
	vmcs_write(v, HOST_RSP, 0);
	vmcs_write(v, HOST_RIP, 0);
	vmcs_write(v, HOST_IA32_EFER, EFER_LMA | EFER_LME | EFER_SCE | EFER_NXE);
	if (c->exit & VM_EXIT_LOAD_IA32_PAT)
		vmcs_write(v, HOST_IA32_PAT, 0x0007040600070406ull);
}

void vmx_init_vmcs(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	const struct vmx_config *c = vmx->config;
	struct loaded_vmcs *l = vmx->loaded;

	/* A fresh VMCS has nothing we know of: write every control once. */
	l->pin = ~c->pin;
	l->cpu = ~c->cpu;
	l->cpu2 = ~c->cpu2;
	l->exit = ~c->exit;
	l->entry = ~c->entry;
	vmx_set_pin(v, c->pin);
	vmx_set_cpu(v, c->cpu);
	vmx_set_cpu2(v, c->cpu2);
	vmx_set_exit(v, c->exit);
	vmx_set_entry(v, c->entry & ~VM_ENTRY_IA32E_MODE);

	l->exception_bitmap = ~0u;
	vmx_set_exception_bitmap(v, 0);
	vmcs_write(v, PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmcs_write(v, PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmcs_write(v, CR3_TARGET_COUNT, 0);
	if (c->ple) {
		vmcs_write(v, PLE_GAP, c->ple_gap);
		vmcs_write(v, PLE_WINDOW, c->ple_window);
	}
	if (c->cpu2 & SECONDARY_EXEC_ENABLE_XSAVES)
		vmcs_write(v, XSS_EXIT_BITMAP, 0);
	vmcs_write(v, MSR_BITMAP, (u64)vmx->msr_bitmap);
	vmcs_write(v, VM_EXIT_MSR_STORE_COUNT, 0);
	vmcs_write(v, VM_EXIT_MSR_LOAD_COUNT, 0);
	vmcs_write(v, VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, 0);
	vmcs_write(v, VMCS_LINK_POINTER, ~0ull);
	if (c->vpid)
		vmcs_write(v, VIRTUAL_PROCESSOR_ID, vmx->vpid);
	vmcs_write(v, TSC_OFFSET, v->arch->tsc_offset);
	if (c->tsc_scaling)
		vmcs_write(v, TSC_MULTIPLIER, 1ull << 48);
	vmx_init_host_state(v);

	v->arch->cr0_guest_owned = CR0_TS | CR0_WP;
	vmcs_write(v, CR0_GUEST_HOST_MASK, ~v->arch->cr0_guest_owned);
	vmx_set_cr4_guest_host_mask(v);
	vmx_msr_filter_changed(v);
}

/* The VMCS's part of SDM vol. 3A, table 10-1; registers that INIT keeps are not here. */
void vmx_vcpu_reset(struct kvm_vcpu *v, bool init)
{
	if (!init)
		vmx_init_vmcs(v);
	v->regs.seg_fields = 0;
	vmcs_write(v, GUEST_SYSENTER_CS, 0);
	vmcs_write(v, GUEST_SYSENTER_ESP, 0);
	vmcs_write(v, GUEST_SYSENTER_EIP, 0);
	vmcs_write(v, GUEST_IA32_DEBUGCTL, 0);
	vmcs_write(v, GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	vmcs_write(v, GUEST_INTERRUPTIBILITY_INFO, 0);
	vmcs_write(v, GUEST_PENDING_DBG_EXCEPTIONS, 0);
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, 0);
	vmx_of(v)->idt_vectoring_info = 0;
	vmx_cpu_clearbit(v, CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING);
	if (vmx_of(v)->config->vpid)
		sil_invvpid(v->cpu, INVVPID_SINGLE, vmx_of(v)->vpid, 0);
	vmx_update_exception_bitmap(v);
}

/* ---- Life ---- */

static int vmx_vm_init(struct kvm *kvm)
{
	struct vmx_config *c;
	int ret;

	/* Shadow paging and real mode without "unrestricted guest" need parts that are not here. */
	if (!kvm->arch->params.kvm_intel_ept || !kvm->arch->params.kvm_intel_unrestricted_guest)
		return -EOPNOTSUPP;
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	ret = vmx_config_init(c, &kvm->arch->params);
	if (ret) {
		free(c);
		return ret;
	}
	kvm->arch->vendor = c;
	kvm->arch->vpids[0] = 1; /* VPID 0 is root mode's */
	return 0;
}

static void vmx_vm_destroy(struct kvm *kvm)
{
	free(kvm->arch->vendor);
	kvm->arch->vendor = NULL;
}

/* kvm->lock held. 0 (no tag: translations are flushed at every entry) if all are taken. */
static u16 vpid_alloc(struct kvm *kvm)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kvm->arch->vpids); i++) {
		u64 free_bits = ~kvm->arch->vpids[i];

		if (free_bits) {
			unsigned bit = (unsigned)__builtin_ctzll(free_bits);

			kvm->arch->vpids[i] |= BIT(bit);
			return (u16)(i * 64 + bit);
		}
	}
	return 0;
}

static int vmx_vcpu_create(struct kvm_vcpu *v)
{
	const struct vmx_config *c = v->kvm->arch->vendor;
	struct vcpu_vmx *vmx = calloc(1, sizeof(*vmx));

	if (!vmx)
		return -ENOMEM;
	v->arch->vmx = vmx;
	vmx->config = c;
	vmx->loaded = &vmx->vmcs01;
	vmx->vmcs01.vmcs = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	vmx->msr_bitmap = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!vmx->vmcs01.vmcs || !vmx->msr_bitmap) {
		free(vmx->vmcs01.vmcs);
		free(vmx->msr_bitmap);
		free(vmx);
		return -ENOMEM;
	}
	memset(vmx->vmcs01.vmcs, 0, PAGE_SIZE);
	memset(vmx->msr_bitmap, 0xff, PAGE_SIZE);
	*(u32 *)vmx->vmcs01.vmcs = c->revision;
	if (c->vpid)
		vmx->vpid = vpid_alloc(v->kvm);
	BUG_ON(sil_vmclear(v->cpu, vmx->vmcs01.vmcs) != SIL_VMX_OK);
	BUG_ON(sil_vmptrld(v->cpu, vmx->vmcs01.vmcs) != SIL_VMX_OK);
	return 0;
}

static void vmx_vcpu_free(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);

	sil_vmclear(v->cpu, vmx->vmcs01.vmcs);
	if (vmx->vpid)
		v->kvm->arch->vpids[vmx->vpid / 64] &= ~BIT(vmx->vpid % 64);
	free(vmx->vmcs01.vmcs);
	free(vmx->msr_bitmap);
	free(vmx);
	v->arch->vmx = NULL;
}

static void vmx_vcpu_after_set_cpuid(struct kvm_vcpu *v)
{
	vmx_update_exec_controls(v);
	vmx_set_cr4_guest_host_mask(v);
	vmx_msr_filter_changed(v);
	vmx_update_exception_bitmap(v);
}

/* ---- Time and translations ---- */

static void vmx_write_tsc_offset(struct kvm_vcpu *v, u64 offset)
{
	vmcs_write(v, TSC_OFFSET, offset);
}

static void vmx_write_tsc_multiplier(struct kvm_vcpu *v, u64 multiplier)
{
	if (vmx_of(v)->config->tsc_scaling)
		vmcs_write(v, TSC_MULTIPLIER, multiplier);
}

static void vmx_load_mmu_pgd(struct kvm_vcpu *v, hpa_t root_hpa, int level)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	u64 eptp = root_hpa | EPTP_MT_WB | (level == 5 ? EPTP_WALK_5 : EPTP_WALK_4);

	if (!v->mmu->mmu->root_role.ad_disabled)
		eptp |= EPTP_AD;
	if (vmx->loaded->eptp != eptp) {
		vmx->loaded->eptp = eptp;
		vmcs_write(v, EPT_POINTER, eptp);
	}
}

static void vmx_flush_tlb_all(struct kvm_vcpu *v)
{
	sil_invept(v->cpu, INVEPT_GLOBAL, 0);
}

static void vmx_flush_tlb_current(struct kvm_vcpu *v)
{
	if (vmx_of(v)->loaded->eptp)
		sil_invept(v->cpu, INVEPT_SINGLE, vmx_of(v)->loaded->eptp);
}

static void vmx_flush_tlb_gva(struct kvm_vcpu *v, gva_t addr)
{
	struct vcpu_vmx *vmx = vmx_of(v);

	if (vmx->vpid)
		sil_invvpid(v->cpu, INVVPID_ADDR, vmx->vpid, addr);
}

static void vmx_flush_tlb_guest(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);

	/* Without a VPID every entry flushes. */
	if (vmx->vpid)
		sil_invvpid(v->cpu, INVVPID_SINGLE, vmx->vpid, 0);
}

static void vmx_patch_hypercall(struct kvm_vcpu *v, u8 insn[3])
{
	insn[0] = 0x0f;
	insn[1] = 0x01;
	insn[2] = 0xc1; /* VMCALL */
}

static void vmx_get_exit_info(struct kvm_vcpu *v, u32 *reason, u64 *info1, u64 *info2,
			      u32 *intr_info, u32 *error)
{
	*reason = vmx_of(v)->exit_reason;
	*info1 = kvm_exit_info_1(v);
	*info2 = vmx_of(v)->idt_vectoring_info;
	*intr_info = kvm_exit_info_2(v);
	*error = *intr_info & INTR_INFO_DELIVER_ERR_CODE
			 ? (u32)vmcs_read(v, VM_EXIT_INTR_ERROR_CODE)
			 : 0;
}

static void vmx_update_cr8_intercept(struct kvm_vcpu *v, int tpr, int irr)
{
	/* CR8 accesses always exit: there is no TPR shadow to keep. */
}

const struct kvm_x86_ops vmx_x86_ops = {
	.name = "vmx",
	.vm_init = vmx_vm_init,
	.vm_destroy = vmx_vm_destroy,
	.vcpu_create = vmx_vcpu_create,
	.vcpu_free = vmx_vcpu_free,
	.vcpu_reset = vmx_vcpu_reset,
	.vcpu_after_set_cpuid = vmx_vcpu_after_set_cpuid,
	.cache_reg = vmx_cache_reg,
	.get_rflags = vmx_get_rflags,
	.set_rflags = vmx_set_rflags,
	.get_segment = vmx_get_segment,
	.set_segment = vmx_set_segment,
	.get_segment_base = vmx_get_segment_base,
	.get_cpl = vmx_get_cpl,
	.get_idt = vmx_get_idt,
	.set_idt = vmx_set_idt,
	.get_gdt = vmx_get_gdt,
	.set_gdt = vmx_set_gdt,
	.is_valid_cr0 = vmx_is_valid_cr0,
	.is_valid_cr4 = vmx_is_valid_cr4,
	.set_cr0 = vmx_set_cr0,
	.set_cr4 = vmx_set_cr4,
	.set_efer = vmx_set_efer,
	.get_dr7 = vmx_get_dr7,
	.set_dr7 = vmx_set_dr7,
	.update_exception_bitmap = vmx_update_exception_bitmap,
	.update_controls = vmx_update_exec_controls,
	.get_msr = vmx_get_msr,
	.set_msr = vmx_set_msr,
	.get_feature_msr = vmx_get_feature_msr,
	.msr_filter_changed = vmx_msr_filter_changed,
	.write_tsc_offset = vmx_write_tsc_offset,
	.write_tsc_multiplier = vmx_write_tsc_multiplier,
	.load_mmu_pgd = vmx_load_mmu_pgd,
	.flush_tlb_all = vmx_flush_tlb_all,
	.flush_tlb_current = vmx_flush_tlb_current,
	.flush_tlb_gva = vmx_flush_tlb_gva,
	.flush_tlb_guest = vmx_flush_tlb_guest,
	.get_interrupt_shadow = vmx_get_interrupt_shadow,
	.set_interrupt_shadow = vmx_set_interrupt_shadow,
	.get_nmi_mask = vmx_get_nmi_mask,
	.set_nmi_mask = vmx_set_nmi_mask,
	.interrupt_blocked = vmx_interrupt_blocked,
	.nmi_blocked = vmx_nmi_blocked,
	.interrupt_allowed = vmx_interrupt_allowed,
	.nmi_allowed = vmx_nmi_allowed,
	.inject_irq = vmx_inject_irq,
	.inject_nmi = vmx_inject_nmi,
	.inject_exception = vmx_inject_exception,
	.cancel_injection = vmx_cancel_injection,
	.enable_irq_window = vmx_enable_irq_window,
	.enable_nmi_window = vmx_enable_nmi_window,
	.update_cr8_intercept = vmx_update_cr8_intercept,
	.vcpu_run = vmx_vcpu_run,
	.handle_exit = vmx_handle_exit,
	.skip_emulated_instruction = vmx_skip_emulated_instruction,
	.patch_hypercall = vmx_patch_hypercall,
	.get_exit_info = vmx_get_exit_info,
	.dump = vmx_dump,
};
