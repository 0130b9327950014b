/* SPDX-License-Identifier: MIT */
/* Which VT-x features are used, and the VMCS that a vCPU starts with. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/vmx/nested/nested.h"
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

/* Both bitmaps have a bit for each encoding; 1: exits. */
static void init_shadow_bitmaps(struct vmx_config *c, bool read_only)
{
	memset(c->vmread_bitmap, 0xff, PAGE_SIZE);
	memset(c->vmwrite_bitmap, 0xff, PAGE_SIZE);
	for (unsigned i = 0; i < VMCS_NFIELDS; i++) {
		const struct vmcs12_field *f = &vmcs12_fields[i];

		if (f->shadow != SHADOW_NO)
			c->vmread_bitmap[f->encoding / 8] &= (u8) ~(1u << (f->encoding % 8));
		/* Exit information may not be written at all if IA32_VMX_MISC[29] is 0: it exits.
		 */
		if (f->shadow == SHADOW_RW || (f->shadow == SHADOW_RO && !read_only))
			c->vmwrite_bitmap[f->encoding / 8] &= (u8) ~(1u << (f->encoding % 8));
	}
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
	/* Shadow paging: the guest's CR3 is not the processor's, and what it flushes is ours to
	 * know. */
	if (!p->kvm_intel_ept)
		must |= CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |
			CPU_BASED_INVLPG_EXITING;
	if (adjust_controls(must, 0,
			    true_ctls ? MSR_IA32_VMX_TRUE_PROCBASED_CTLS
				      : MSR_IA32_VMX_PROCBASED_CTLS,
			    &c->cpu))
		return -EIO;

	c->ept = p->kvm_intel_ept;
	c->unrestricted = c->ept && p->kvm_intel_unrestricted_guest;
	must = (c->ept ? SECONDARY_EXEC_ENABLE_EPT : 0) |
	       (c->unrestricted ? SECONDARY_EXEC_UNRESTRICTED_GUEST : 0);
	want = SECONDARY_EXEC_ENABLE_VPID | SECONDARY_EXEC_ENABLE_RDTSCP |
	       SECONDARY_EXEC_ENABLE_INVPCID | SECONDARY_EXEC_ENABLE_XSAVES |
	       SECONDARY_EXEC_TSC_SCALING | SECONDARY_EXEC_PAUSE_LOOP_EXITING |
	       SECONDARY_EXEC_NOTIFY_VM_EXITING;
	if (!p->kvm_intel_vpid)
		want &= ~SECONDARY_EXEC_ENABLE_VPID;
	if (!p->kvm_intel_ple_gap)
		want &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	if (adjust_controls(must, want, MSR_IA32_VMX_PROCBASED_CTLS2, &c->cpu2))
		return -EIO;
	c->ept_vpid = host_msr(MSR_IA32_VMX_EPT_VPID_CAP);
	c->vpid = c->cpu2 & SECONDARY_EXEC_ENABLE_VPID;
	c->ple = c->cpu2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	c->tsc_scaling = c->cpu2 & SECONDARY_EXEC_TSC_SCALING;
	c->notify = c->cpu2 & SECONDARY_EXEC_NOTIFY_VM_EXITING;
	c->ept_ad = p->kvm_intel_eptad && (c->ept_vpid & VMX_EPT_AD);
	c->ple_gap = p->kvm_intel_ple_gap;
	c->ple_window = p->kvm_intel_ple_window;

	c->flexpriority = p->kvm_intel_flexpriority;
	c->apicv = p->kvm_intel_enable_apicv;
	init_shadow_bitmaps(c, p->kvmless_shadow_read_only || !p->kvmless_vmwrite_any);
	c->vmwrite_any = p->kvmless_vmwrite_any;

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

	if (is_guest_mode(v)) {
		/* vmcs01 follows at the exit to L1; L2 gets L1's wishes, and user space's debugger.
		 */
		vmx_of(v)->vmcs01_stale = true;
		if (v->arch->guest_debug & KVM_GUESTDBG_USE_HW_BP)
			vmx_cpu_setbit(v, CPU_BASED_MOV_DR_EXITING);
		else if (!v12_cpu(vmcs12_of(v), CPU_BASED_MOV_DR_EXITING))
			vmx_cpu_clearbit(v, CPU_BASED_MOV_DR_EXITING);
		return;
	}
	if (ka->hlt_in_guest)
		cpu &= ~CPU_BASED_HLT_EXITING;
	if (ka->pause_in_guest)
		cpu2 &= ~SECONDARY_EXEC_PAUSE_LOOP_EXITING;
	if (!(ka->notify_vmexit_flags & KVM_X86_NOTIFY_VMEXIT_ENABLED))
		cpu2 &= ~SECONDARY_EXEC_NOTIFY_VM_EXITING;
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
	/* As is VMCS shadowing. */
	cpu2 |= vmx_of(v)->loaded->cpu2 & SECONDARY_EXEC_SHADOW_VMCS;
	vmx_write_cpu(v, cpu);
	vmx_write_cpu2(v, cpu2);
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

void vmx_init_constant(struct kvm_vcpu *v)
{
	const struct vmx_config *c = vmx_of(v)->config;
	struct loaded_vmcs *l = vmx_of(v)->loaded;

	/* Fields of features that are not there are not there either. */
#define KNOWN(type, name, field) \
	l->name = 0;             \
	(void)sil_vmwrite(v->cpu, field, 0);
	VMX_KNOWN_FIELDS(KNOWN)
#undef KNOWN
	vmcs_write(v, CR3_TARGET_COUNT, 0);
	if (c->ple) {
		vmcs_write(v, PLE_GAP, c->ple_gap);
		vmcs_write(v, PLE_WINDOW, c->ple_window);
	}
	if (c->notify)
		vmcs_write(v, NOTIFY_WINDOW, v->kvm->arch->notify_window);
	if (c->cpu2 & SECONDARY_EXEC_ENABLE_XSAVES)
		vmcs_write(v, XSS_EXIT_BITMAP, 0);
	vmcs_write(v, VM_EXIT_MSR_STORE_COUNT, 0);
	vmcs_write(v, VM_EXIT_MSR_LOAD_COUNT, 0);
	vmcs_write(v, VM_ENTRY_MSR_LOAD_COUNT, 0);
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, 0);
	vmcs_write(v, VMCS_LINK_POINTER, ~0ull);
	vmx_init_host_state(v);
}

void vmx_init_vmcs(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	const struct vmx_config *c = vmx->config;

	vmx_init_constant(v);
	vmx_write_pin(v, c->pin);
	vmx_write_cpu(v, c->cpu);
	vmx_write_cpu2(v, c->cpu2);
	vmx_write_exit(v, c->exit);
	vmx_write_entry(v, c->entry & ~VM_ENTRY_IA32E_MODE);

	vmcs_write(v, PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmcs_write(v, PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmcs_write(v, MSR_BITMAP, (u64)vmx->msr_bitmap);
	if (c->vpid)
		vmcs_write(v, VIRTUAL_PROCESSOR_ID, vmx->vpid);
	vmx_write_tsc_offset(v, v->arch->tsc_offset);
	if (c->tsc_scaling)
		vmx_write_tsc_multiplier(v, 1ull << 48);

	v->arch->cr0_guest_owned = vmx_cr0_guest_owned(v);
	vmx_write_cr0_guest_host_mask(v, ~v->arch->cr0_guest_owned);
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

	c = aligned_alloc(PAGE_SIZE, align_up(sizeof(*c), PAGE_SIZE));
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

/* 0 (no tag: translations are flushed at every entry) if all are taken. Any thread. */
u16 vmx_alloc_vpid(struct kvm *kvm)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kvm->arch->vpids); i++) {
		u64 *w = &kvm->arch->vpids[i], old = __atomic_load_n(w, __ATOMIC_RELAXED);

		while (~old) {
			unsigned bit = (unsigned)__builtin_ctzll(~old);

			if (__atomic_compare_exchange_n(w, &old, old | BIT(bit), false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
				return (u16)(i * 64 + bit);
		}
	}
	return 0;
}

void vmx_free_vpid(struct kvm *kvm, u16 vpid)
{
	if (vpid)
		__atomic_fetch_and(&kvm->arch->vpids[vpid / 64], ~BIT(vpid % 64), __ATOMIC_RELAXED);
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
	if (!vmx->vmcs01.vmcs || !vmx->msr_bitmap || nested_vcpu_create(v)) {
		free(vmx->vmcs01.vmcs);
		free(vmx->msr_bitmap);
		free(vmx);
		return -ENOMEM;
	}
	memset(vmx->vmcs01.vmcs, 0, PAGE_SIZE);
	memset(vmx->msr_bitmap, 0xff, PAGE_SIZE);
	*(u32 *)vmx->vmcs01.vmcs = c->revision;
	if (c->vpid)
		vmx->vpid = vmx_alloc_vpid(v->kvm);
	BUG_ON(sil_vmclear(v->cpu, vmx->vmcs01.vmcs) != SIL_VMX_OK);
	BUG_ON(sil_vmptrld(v->cpu, vmx->vmcs01.vmcs) != SIL_VMX_OK);
	return 0;
}

static void vmx_vcpu_free(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);

	nested_vcpu_free(v);
	sil_vmclear(v->cpu, vmx->vmcs01.vmcs);
	vmx_free_vpid(v->kvm, vmx->vpid);
	free(vmx->vmcs01.vmcs);
	free(vmx->msr_bitmap);
	free(vmx);
	v->arch->vmx = NULL;
}

static void vmx_vcpu_after_set_cpuid(struct kvm_vcpu *v)
{
	nested_after_set_cpuid(v);
	vmx_update_exec_controls(v);
	vmx_set_cr4_guest_host_mask(v);
	vmx_msr_filter_changed(v);
	vmx_update_exception_bitmap(v);
}

/* ---- Time and translations ---- */

static void vmx_set_tsc_offset(struct kvm_vcpu *v, u64 offset)
{
	if (is_guest_mode(v))
		offset = v->arch->tsc_offset = nested_calc_tsc_offset(v);
	vmx_write_tsc_offset(v, offset);
}

static void vmx_set_tsc_multiplier(struct kvm_vcpu *v, u64 multiplier)
{
	if (is_guest_mode(v))
		multiplier = v->arch->tsc_multiplier = nested_calc_tsc_multiplier(v);
	if (vmx_of(v)->config->tsc_scaling)
		vmx_write_tsc_multiplier(v, multiplier);
}

static void vmx_load_mmu_pgd(struct kvm_vcpu *v, hpa_t root_hpa, int level)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	u64 eptp;

	if (!vmx->config->ept) {
		/* Translations of the guest's PCIDs stay apart. */
		vmcs_write(v, GUEST_CR3,
			   root_hpa |
				   (kvm_read_cr4_bits(v, CR4_PCIDE) ? kvm_read_cr3(v) & 0xfff : 0));
		return;
	}
	eptp = root_hpa | EPTP_MT_WB | (level == 5 ? EPTP_WALK_5 : EPTP_WALK_4);

	if (!v->mmu->mmu->root_role.ad_disabled)
		eptp |= EPTP_AD;
	if (vmx->loaded->eptp != eptp) {
		vmx->loaded->eptp = eptp;
		vmcs_write(v, EPT_POINTER, eptp);
	}
}

static void vmx_flush_tlb_all(struct kvm_vcpu *v)
{
	if (vmx_of(v)->config->ept)
		sil_invept(v->cpu, INVEPT_GLOBAL, 0);
	else if (vmx_of(v)->config->vpid)
		sil_invvpid(v->cpu, INVVPID_ALL, 0, 0);
}

/* The tag of what runs now: L2 has its own if L1 gives it one. 0: every entry flushes. */
static u16 current_vpid(struct kvm_vcpu *v)
{
	if (is_guest_mode(v) && nested_of(v)->vpid02 &&
	    v12_cpu2(vmcs12_of(v), SECONDARY_EXEC_ENABLE_VPID))
		return nested_of(v)->vpid02;
	return vmx_of(v)->vpid;
}

static void vmx_flush_tlb_guest(struct kvm_vcpu *v)
{
	u16 vpid = current_vpid(v);

	if (vpid)
		sil_invvpid(v->cpu, INVVPID_SINGLE, vpid, 0);
}

static void vmx_flush_tlb_current(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);

	if (!vmx->config->ept)
		vmx_flush_tlb_guest(v);
	else if (vmx->loaded->eptp)
		sil_invept(v->cpu, INVEPT_SINGLE, vmx->loaded->eptp);
}

static void vmx_flush_tlb_gva(struct kvm_vcpu *v, gva_t addr)
{
	u16 vpid = current_vpid(v);

	if (vpid)
		sil_invvpid(v->cpu, INVVPID_ADDR, vpid, addr);
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
	.write_tsc_offset = vmx_set_tsc_offset,
	.write_tsc_multiplier = vmx_set_tsc_multiplier,
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
	.nested = &vmx_nested_ops,
};
