/* SPDX-License-Identifier: MIT */
/* VM entry and the first look at the exit. */
#include "core/vmx/nested/nested.h"

/*
 * The two moments of the register cache (docs/register-cache.md), in this order here as in every
 * back end: what is dirty is stored, then nothing is dirty, then the guest runs, then the lazy set
 * is in the VMCS only.
 */
enum exit_fastpath vmx_vcpu_run(struct kvm_vcpu *v)
{
	struct vcpu_vmx *vmx = vmx_of(v);
	struct loaded_vmcs *l = vmx->loaded;

	/* Single-stepping over STI or MOV SS: a shadow together with TF and no pending #DB is a
	 * state that VM entry refuses (SDM, 27.3.1.5). */
	if (unlikely(v->arch->guest_debug & KVM_GUESTDBG_SINGLESTEP))
		vmx_set_interrupt_shadow(v, 0);

	vmx->did_not_enter = vmx->emulate;
	if (unlikely(vmx->emulate)) {
		vmx->idt_vectoring_info = 0;
		return EXIT_FASTPATH_NONE;
	}
	if (is_guest_mode(v) && unlikely(!nested_before_run(v))) {
		vmx->did_not_enter = true;
		vmx->idt_vectoring_info = 0;
		return EXIT_FASTPATH_NONE;
	}
	/* L1 runs on: it reads and writes vmcs12 without us from here. */
	if (unlikely(nested_of(v)->need_shadow_sync) && !is_guest_mode(v))
		nested_vmcs12_to_shadow(v);
	vmx_store_dirty(v);
	VCPU_TRACE(enter, v);
	vmx->entry_result = l->launched ? sil_vmresume(v->cpu) : sil_vmlaunch(v->cpu);
	regcache_exited(&v->regs, VMX_LAZY_SET);

	if (unlikely(vmx->entry_result != SIL_VMX_OK)) {
		vmx->exit_reason = ~0u;
		vmx->idt_vectoring_info = 0;
		VCPU_TRACE(exit, v, "VM entry failed", is_guest_mode(v));
		return EXIT_FASTPATH_NONE;
	}
	vmx->exit_reason = (u32)vmcs_read(v, VM_EXIT_REASON);
	VCPU_TRACE(exit, v, vmx_exit_name(vmx->exit_reason), is_guest_mode(v));
	if (unlikely(vmx->exit_reason & VMX_EXIT_REASON_FAILED_VMENTRY)) {
		nested_of(v)->run_pending = false;
		vmx->idt_vectoring_info = 0;
		return EXIT_FASTPATH_NONE;
	}
	l->launched = true;
	if (is_guest_mode(v)) {
		/* VMLAUNCH or VMRESUME of L1 has done what it does. */
		if (nested_of(v)->run_pending)
			kvm_stat_inc(v, nested_run);
		nested_of(v)->run_pending = false;
		nested_mark_pages_dirty(v);
	}
	vmx->idt_vectoring_info = (u32)vmcs_read(v, IDT_VECTORING_INFO_FIELD);
	if (vmx->exit_reason == EXIT_REASON_EXCEPTION_NMI)
		vmx_recover_nmi_blocking(v);
	vmx_complete_interrupts(v);
	return EXIT_FASTPATH_NONE;
}

int vmx_skip_emulated_instruction(struct kvm_vcpu *v)
{
	u64 old = kvm_rip_read(v), rip = old + vmcs_read(v, VM_EXIT_INSTRUCTION_LEN);

	/* Outside 64-bit code EIP wraps at 4 GiB. */
	if (unlikely((old ^ rip) >> 31 == 3) && !is_64_bit_mode(v))
		rip = (u32)rip;
	kvm_rip_write(v, rip);
	vmx_set_interrupt_shadow(v, 0);
	return 1;
}
