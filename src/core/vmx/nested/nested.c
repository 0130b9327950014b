/* SPDX-License-Identifier: MIT */
/* VMX operation of a vCPU: into it, out of it, and switching between vmcs01 and vmcs02. */
#include <errno.h>
#include <stdlib.h>

#include "core/hyperv.h"
#include "core/irqchip/irqchip.h"
#include "core/vmx/nested/nested.h"

/* ---- What the entry checks see of vmcs12 ---- */

static u64 check_read(const void *vmcs, u32 field)
{
	return vmcs12_read(nested_of((struct kvm_vcpu *)vmcs)->vmcs12, field);
}

static int check_vmcs_rev(const void *vmcs, u64 pa, u32 *rev)
{
	struct kvm_vcpu *v = (struct kvm_vcpu *)vmcs;

	/* What does not answer reads as all ones, which is no revision. */
	if (vcpu_read_guest(v, pa, rev, sizeof(*rev)))
		*rev = ~0u;
	return 0;
}

static int check_read_pa(const void *vmcs, u64 pa, void *buf, unsigned size)
{
	return vcpu_read_guest((struct kvm_vcpu *)vmcs, pa, buf, size);
}

/* ---- Switching ---- */

void nested_switch_vmcs(struct kvm_vcpu *v, struct loaded_vmcs *l)
{
	struct vcpu_vmx *vmx = vmx_of(v);

	BUG_ON(vmx->loaded == l);
	vmx_store_dirty(v);
	vmx->loaded = l;
	BUG_ON(sil_vmptrld(v->cpu, l->vmcs) != SIL_VMX_OK);
	regcache_switched(&v->regs, VMX_LAZY_SET);
	hv_level_changed(v);
}

/* ---- VMXON and VMXOFF ---- */

static void *vmcs_page(u32 revision)
{
	u32 *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	if (page) {
		memset(page, 0, PAGE_SIZE);
		*page = revision;
	}
	return page;
}

static void free_operation(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (n->vmcs02.vmcs)
		sil_vmclear(v->cpu, n->vmcs02.vmcs);
	free(n->vmcs02.vmcs);
	free(n->shadow_vmcs);
	free(n->vmcs12);
	free(n->shadow_vmcs12);
	free(n->msr_bitmap02);
	memset(&n->vmcs02, 0, sizeof(n->vmcs02));
	n->shadow_vmcs = NULL;
	n->vmcs12 = n->shadow_vmcs12 = NULL;
	n->msr_bitmap02 = NULL;
	vmx_free_vpid(v->kvm, n->vpid02);
	n->vpid02 = 0;
}

int nested_enter_operation(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 rev = vmx_of(v)->config->revision;
	bool shadow = v->kvm->arch->params.kvm_intel_enable_shadow_vmcs;

	n->vmcs02.vmcs = vmcs_page(rev);
	n->vmcs12 = vmcs_page(0);
	n->shadow_vmcs12 = vmcs_page(0);
	n->msr_bitmap02 = vmcs_page(0);
	if (shadow)
		n->shadow_vmcs = vmcs_page(rev | VMCS12_SHADOW);
	if (!n->vmcs02.vmcs || !n->vmcs12 || !n->shadow_vmcs12 || !n->msr_bitmap02 ||
	    (shadow && !n->shadow_vmcs)) {
		free_operation(v);
		return -ENOMEM;
	}
	memset(n->msr_bitmap02, 0xff, PAGE_SIZE);
	BUG_ON(sil_vmclear(v->cpu, n->vmcs02.vmcs) != SIL_VMX_OK);
	if (shadow) {
		BUG_ON(sil_vmclear(v->cpu, n->shadow_vmcs) != SIL_VMX_OK);
		vmcs_write(v, VMREAD_BITMAP, (u64)vmx_of(v)->config->vmread_bitmap);
		vmcs_write(v, VMWRITE_BITMAP, (u64)vmx_of(v)->config->vmwrite_bitmap);
	}
	if (vmx_of(v)->config->vpid)
		n->vpid02 = vmx_alloc_vpid(v->kvm);
	n->last_vpid = 0;
	n->vmcs02_ready = false;
	n->shadow_known = false;
	n->pages_generation = ~0ull;
	n->vapic_page = n->apic_access_page = n->pi_desc = HVA_BAD;
	nested_shadow_init(v);
	n->current_vmptr = VMPTR_NONE;
	n->host_was_64bit = false;
	n->vmxon = true;
	v->mmu->guest_mmu.inject_fault = nested_ept_inject;
	nested_evmcs_release(v);
	n->check = (struct check_ctx){
		.read = check_read,
		.vmcs = v,
		.vmx_msr = n->cap,
		.maxphyaddr = v->arch->maxphyaddr,
		.va_bits = v->arch->va_bits,
		.efer_supported = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
		.debugctl_supported = BIT(0) | BIT(1),
		.current_vmcs = VMPTR_NONE,
		.vmcs_rev = check_vmcs_rev,
		.read_pa = check_read_pa,
	};
	nested_evmcs_update_caps(v);
	return 0;
}

void nested_leave_operation(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!n->vmxon && !n->smm_vmxon)
		return;
	n->smm_vmxon = n->smm_guest_mode = false;
	BUG_ON(vmx_of(v)->loaded != &vmx_of(v)->vmcs01);
	n->vmxon = false;
	n->vmxon_ptr = VMPTR_NONE;
	n->rare_unsynced = false;
	if (n->current_vmptr != VMPTR_NONE && n->shadow_vmcs) {
		vmx_cpu2_clearbit(v, SECONDARY_EXEC_SHADOW_VMCS);
		vmcs_write(v, VMCS_LINK_POINTER, ~0ull);
	}
	n->need_shadow_sync = false;
	n->current_vmptr = VMPTR_NONE;
	nested_evmcs_release(v);
	mmu_free_roots(v, &v->mmu->guest_mmu, MMU_ROOTS_ALL);
	free_operation(v);
}

void nested_leave(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (is_guest_mode(v)) {
		n->run_pending = false;
		nested_vmexit(v, NESTED_EXIT_SILENT, 0, 0);
	}
	nested_leave_operation(v);
}

int nested_vcpu_create(struct kvm_vcpu *v)
{
	struct nested_vmx *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->vmxon_ptr = n->current_vmptr = n->evmcs.ptr = VMPTR_NONE;
	nested_caps_init(vmx_of(v)->config, n->cap);
	vmx_of(v)->nested = n;
	nested_evmcs_update_caps(v);
	nested_exit_init(v);
	return 0;
}

void nested_vcpu_free(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!n)
		return;
	free_operation(v);
	free(n);
	vmx_of(v)->nested = NULL;
}

/* ---- CPUID and control registers ---- */

/* A.8: a CR4 bit may be set in VMX operation if the guest's CPUID has its feature. */
void nested_after_set_cpuid(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	n->cap[CAP_CR4_FIXED1] = ~v->arch->cr4_reserved & 0xffffffff;
	n->check.maxphyaddr = v->arch->maxphyaddr;
	n->check.va_bits = v->arch->va_bits;
	nested_evmcs_update_caps(v);
}

static bool fixed_ok(u64 val, u64 fixed0, u64 fixed1)
{
	return !(fixed0 & ~val) && !(val & ~fixed1);
}

bool nested_cr0_valid(struct kvm_vcpu *v, u64 cr0)
{
	const struct nested_vmx *n = nested_of(v);
	u64 fixed0 = n->cap[CAP_CR0_FIXED0];

	if (is_guest_mode(v) && v12_cpu2(n->vmcs12, SECONDARY_EXEC_UNRESTRICTED_GUEST))
		fixed0 &= ~(CR0_PE | CR0_PG);
	return fixed_ok(cr0, fixed0, n->cap[CAP_CR0_FIXED1]);
}

bool nested_cr4_valid(struct kvm_vcpu *v, u64 cr4)
{
	const struct nested_vmx *n = nested_of(v);

	return fixed_ok(cr4, n->cap[CAP_CR4_FIXED0], n->cap[CAP_CR4_FIXED1]);
}

const struct kvm_x86_nested_ops vmx_nested_ops = {
	.leave = nested_leave,
	.check_events = nested_check_events,
	.has_events = nested_has_events,
	.is_exception_vmexit = nested_is_exception_vmexit,
	.triple_fault = nested_triple_fault,
	.init_blocked = nested_init_blocked,
	.timer_expires_ns = nested_timer_expires_ns,
	.smi_allowed = nested_smi_allowed,
	.enter_smm = nested_enter_smm,
	.leave_smm = nested_leave_smm,
	.get_state = nested_get_state,
	.set_state = nested_set_state,
	.guest_cap = nested_evmcs_guest_cap,
	.evmcs_version = nested_evmcs_version,
	.enable_evmcs = nested_evmcs_enable,
	.hv_flushed = nested_evmcs_flushed,
};
