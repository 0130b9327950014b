/* SPDX-License-Identifier: MIT */
/*
 * vmcs02: made of what L0 needs for any guest (vmcs01's configuration) and what L1 asks for
 * (vmcs12). Both hypervisors' intercepts are joined; state comes from vmcs12.
 */
#include "core/mmu/mmu.h"
#include "core/tsc.h"
#include "core/vmx/nested/nested.h"

/* Once after VMXON: what is the same for every L2. */
static void prepare_constant(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmx_config *c = vmx_of(v)->config;

	if (n->vmcs02_ready)
		return;
	n->vmcs02_ready = true;
	vmx_init_constant(v);
	vmcs_write(v, MSR_BITMAP, (u64)n->msr_bitmap02);
	/* VM functions are done here: the processor's would use addresses of L1. */
	vmcs_write(v, VM_FUNCTION_CONTROL, 0);
	if (c->apicv)
		vmcs_write(v, POSTED_INTR_NV, VMX_POSTED_INTR_VECTOR);
	/* A fresh VMCS has nothing that L1 has not written. */
	nested_mark_all_dirty(n);
}

/* What L0 always wants of a guest, windows aside: as vmcs01 has it. */
static u32 l0_cpu(struct kvm_vcpu *v)
{
	return vmx_of(v)->vmcs01.cpu &
	       ~(u32)(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING |
		      CPU_BASED_TPR_SHADOW | CPU_BASED_CR8_LOAD_EXITING |
		      CPU_BASED_CR8_STORE_EXITING | CPU_BASED_USE_MSR_BITMAPS);
}

/* Secondary controls that are features for the guest: L1's to give. */
#define CPU2_FROM_L1                                                                              \
	(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES | SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |        \
	 SECONDARY_EXEC_ENABLE_INVPCID | SECONDARY_EXEC_ENABLE_RDTSCP |                           \
	 SECONDARY_EXEC_ENABLE_XSAVES | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY |                    \
	 SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_ENABLE_VMFUNC | SECONDARY_EXEC_DESC | \
	 SECONDARY_EXEC_UNRESTRICTED_GUEST | SECONDARY_EXEC_MODE_BASED_EPT_EXEC |                 \
	 SECONDARY_EXEC_SHADOW_VMCS)
/* Done here, never by the processor. */
#define CPU2_EMULATED (SECONDARY_EXEC_SHADOW_VMCS | SECONDARY_EXEC_ENABLE_PML)

static u32 merged_cpu2(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	u32 cpu2 = vmx_of(v)->vmcs01.cpu2 & ~(u32)CPU2_FROM_L1;

	if (v12_cpu(v12, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS))
		cpu2 |= (u32)V12(v12, SECONDARY_VM_EXEC_CONTROL) &
			~(u32)(CPU2_EMULATED | SECONDARY_EXEC_ENABLE_EPT |
			       SECONDARY_EXEC_ENABLE_VPID | SECONDARY_EXEC_TSC_SCALING);
	return cpu2;
}

static u64 l2_efer(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);

	if (nested_of(v)->run_pending && v12_entry(v12, VM_ENTRY_LOAD_IA32_EFER))
		return V12(v12, GUEST_IA32_EFER);
	if (v12_entry(v12, VM_ENTRY_IA32E_MODE))
		return v->arch->efer | EFER_LMA | EFER_LME;
	return v->arch->efer & ~(u64)(EFER_LMA | EFER_LME);
}

static void prepare_exec_controls(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;
	const struct vmx_config *c = vmx_of(v)->config;
	u32 cpu = l0_cpu(v) | ((u32)V12(v12, CPU_BASED_VM_EXEC_CONTROL) &
			       ~(u32)(CPU_BASED_USE_IO_BITMAPS | CPU_BASED_USE_MSR_BITMAPS |
				      CPU_BASED_USE_TSC_OFFSETTING));

	vmx_write_pin(v, c->pin | (u32)V12(v12, PIN_BASED_VM_EXEC_CONTROL));
	/* Every port access goes to L1 or to user space. */
	cpu |= CPU_BASED_UNCOND_IO_EXITING;
	if (!(cpu & CPU_BASED_TPR_SHADOW))
		cpu |= CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING;
	else
		vmx_write_tpr_threshold(v, (u32)V12(v12, TPR_THRESHOLD));
	/* The bitmap follows in nested_merge_msr_bitmap: without a VMWRITE if it stays. */
	cpu |= vmx_of(v)->loaded->cpu & CPU_BASED_USE_MSR_BITMAPS;
	vmx_write_cpu(v, cpu);
	vmx_write_cpu2(v, merged_cpu2(v));
	/* What L0's own interrupts are does not matter, but posting needs it (27.2.1.1). */
	vmx_write_exit(
		v, c->exit | (v12_pin(v12, PIN_BASED_POSTED_INTR) ? VM_EXIT_ACK_INTR_ON_EXIT : 0));
}

void nested_prepare_controls(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;
	u32 entry = vmx_of(v)->config->entry & ~(u32)VM_ENTRY_IA32E_MODE;
	bool vpid;

	prepare_constant(v);
	prepare_exec_controls(v);
	if (n->controls_dirty && vmx_of(v)->config->vpid) {
		/* Without VPIDs, L2's translations are those of VPID 0, as L1's own are. */
		vpid = v12_cpu2(v12, SECONDARY_EXEC_ENABLE_VPID) && n->vpid02;
		vmcs_write(v, VIRTUAL_PROCESSOR_ID, vpid ? n->vpid02 : vmx_of(v)->vpid);
	}
	if (v12_cpu2(v12, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
		vmcs_write(v, GUEST_INTR_STATUS, V12(v12, GUEST_INTR_STATUS));
	/* Load controls are always set: the values come from here. */
	if (l2_efer(v) & EFER_LMA)
		entry |= VM_ENTRY_IA32E_MODE;
	vmx_write_entry(v, entry);

	if (!n->run_pending) {
		vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, 0);
		return;
	}
	vmcs_write(v, VM_ENTRY_INTR_INFO_FIELD, V12(v12, VM_ENTRY_INTR_INFO_FIELD));
	if (V12(v12, VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID) {
		vmcs_write(v, VM_ENTRY_EXCEPTION_ERROR_CODE,
			   V12(v12, VM_ENTRY_EXCEPTION_ERROR_CODE));
		vmcs_write(v, VM_ENTRY_INSTRUCTION_LEN, V12(v12, VM_ENTRY_INSTRUCTION_LEN));
	}
	vmcs_write(v, GUEST_INTERRUPTIBILITY_INFO, V12(v12, GUEST_INTERRUPTIBILITY_INFO));
}

/* What L1 has written since the last time. */
static void copy_dirty(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	for (unsigned i = 0; i < ARRAY_SIZE(n->dirty.w); i++) {
		for (u64 w = n->dirty.w[i]; w; w &= w - 1) {
			unsigned nr = i * 64 + (unsigned)__builtin_ctzll(w);
			const struct vmcs12_field *f = &vmcs12_fields[nr];

			vmcs_write(v, f->encoding,
				   vmcs12_load(n->vmcs12, f->offset, vmcs_width(f->encoding)));
		}
		n->dirty.w[i] = 0;
	}
}

/* #PF: L0 needs none of them with two-dimensional paging, and all of them without. */
static void prepare_page_fault_match(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	bool all = vmx_need_pf_intercept(v);

	vmcs_write(v, PAGE_FAULT_ERROR_CODE_MASK, all ? 0 : V12(v12, PAGE_FAULT_ERROR_CODE_MASK));
	vmcs_write(v, PAGE_FAULT_ERROR_CODE_MATCH, all ? 0 : V12(v12, PAGE_FAULT_ERROR_CODE_MATCH));
}

/* Whose loops end: L1's where it looks for some, else L0's own. */
static void prepare_pause_loop(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	const struct vmx_config *c = vmx_of(v)->config;
	bool l1 = v12_cpu2(v12, SECONDARY_EXEC_PAUSE_LOOP_EXITING);

	if (!l1 && !c->ple)
		return;
	vmcs_write(v, PLE_GAP, l1 ? V12(v12, PLE_GAP) : c->ple_gap);
	vmcs_write(v, PLE_WINDOW, l1 ? V12(v12, PLE_WINDOW) : c->ple_window);
}

/* ---- TSC: host -> L1 -> L2, each by multiplier and offset (25.6.5) ---- */

#define RATIO_BITS 48

u64 nested_calc_tsc_multiplier(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	u64 l1 = v->arch->l1_tsc_multiplier;

	if (!v12_cpu(v12, CPU_BASED_USE_TSC_OFFSETTING) ||
	    !v12_cpu2(v12, SECONDARY_EXEC_TSC_SCALING))
		return l1;
	return (u64)((u128)l1 * V12(v12, TSC_MULTIPLIER) >> RATIO_BITS);
}

u64 nested_calc_tsc_offset(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	u64 offset = v->arch->l1_tsc_offset;

	if (!v12_cpu(v12, CPU_BASED_USE_TSC_OFFSETTING))
		return offset;
	if (v12_cpu2(v12, SECONDARY_EXEC_TSC_SCALING))
		offset = (u64)((__int128)(s64)offset * V12(v12, TSC_MULTIPLIER) >> RATIO_BITS);
	return offset + V12(v12, TSC_OFFSET);
}

/* ---- State ---- */

static void prepare_debug(struct kvm_vcpu *v, u64 l1_dr7)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;

	if (n->run_pending && v12_entry(v12, VM_ENTRY_LOAD_DEBUG_CONTROLS)) {
		kvm_set_dr(v, 7, V12(v12, GUEST_DR7));
		/* LBR and BTF are accepted and not done, as in WRMSR. */
		vmcs_write(v, GUEST_IA32_DEBUGCTL,
			   V12(v12, GUEST_IA32_DEBUGCTL) & ~(BIT(0) | BIT(1)));
	} else {
		kvm_set_dr(v, 7, l1_dr7);
		vmcs_write(v, GUEST_IA32_DEBUGCTL, n->pre_entry_debugctl);
	}
}

void nested_enter_ept12(struct kvm_vcpu *v, u64 eptp)
{
	const struct nested_vmx *n = nested_of(v);
	bool mbec = v12_cpu2(n->vmcs12, SECONDARY_EXEC_MODE_BASED_EPT_EXEC);
	bool execonly = n->cap[CAP_EPT_VPID] & VMX_EPT_EXECUTE_ONLY;

	mmu_enter_ept12(v, eptp, (mbec ? EPT12_MBEC : 0) | (execonly ? EPT12_EXECONLY : 0));
}

void nested_prepare_state(struct kvm_vcpu *v, u64 l1_dr7)
{
	struct nested_vmx *n = nested_of(v);
	const struct vmcs12 *v12 = n->vmcs12;
	u64 efer = l2_efer(v);

	if (!vmcs_set_empty(&n->dirty))
		copy_dirty(v);
	if (n->controls_dirty) {
		prepare_page_fault_match(v);
		prepare_pause_loop(v);
	}
	n->controls_dirty = false;
	v->regs.seg_fields = 0;
	prepare_debug(v, l1_dr7);
	vmx_set_rflags(v, V12(v12, GUEST_RFLAGS));
	vmx_update_exception_bitmap(v);
	v->arch->cr0_guest_owned = vmx_cr0_guest_owned(v);
	vmx_write_cr0_guest_host_mask(v, ~v->arch->cr0_guest_owned);
	if (n->run_pending && v12_entry(v12, VM_ENTRY_LOAD_IA32_PAT))
		v->arch->pat = V12(v12, GUEST_IA32_PAT);
	if (vmx_of(v)->config->entry & VM_ENTRY_LOAD_IA32_PAT)
		vmx_write_pat(v, v->arch->pat);

	v->arch->tsc_offset = nested_calc_tsc_offset(v);
	v->arch->tsc_multiplier = nested_calc_tsc_multiplier(v);
	vmx_write_tsc_offset(v, v->arch->tsc_offset);
	if (vmx_of(v)->config->tsc_scaling)
		vmx_write_tsc_multiplier(v, v->arch->tsc_multiplier);

	nested_transition_flush(v, true);
	v->mmu->guest_mmu.log_dirty =
		v12_cpu2(v12, SECONDARY_EXEC_ENABLE_PML) ? nested_log_dirty : NULL;
	if (v12_cpu2(v12, SECONDARY_EXEC_ENABLE_EPT))
		nested_enter_ept12(v, V12(v12, EPT_POINTER));

	vmx_load_cr0(v, V12(v12, GUEST_CR0));
	vmx_set_cr4_guest_host_mask(v);
	vmx_load_cr4(v, V12(v12, GUEST_CR4));
	vmx_set_efer(v, efer);
	if (v12_cpu2(v12, SECONDARY_EXEC_ENABLE_EPT) && is_pae_paging(v)) {
		vmcs_write(v, GUEST_PDPTR0, V12(v12, GUEST_PDPTR0));
		vmcs_write(v, GUEST_PDPTR1, V12(v12, GUEST_PDPTR1));
		vmcs_write(v, GUEST_PDPTR2, V12(v12, GUEST_PDPTR2));
		vmcs_write(v, GUEST_PDPTR3, V12(v12, GUEST_PDPTR3));
	}
	kvm_rsp_write(v, V12(v12, GUEST_RSP));
	kvm_rip_write(v, V12(v12, GUEST_RIP));
}
