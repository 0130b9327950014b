/* SPDX-License-Identifier: MIT */
/*
 * From L2 to L1 (SDM, chapter 28): vmcs12 receives what can have changed while L2 ran, the
 * host-state area becomes L1's state.
 *
 * What is not touched: control fields, the VMCS link pointer, the VM-instruction error field.
 */
#include "base/log.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/vmx/nested/nested.h"
#include "spec/msr.h"

/* ---- Fields that every exit touches, in the order of the arrays that hold their values ---- */

#define SAVED(F)                       \
	F(GUEST_CR0)                   \
	F(GUEST_CR4)                   \
	F(GUEST_CS_AR_BYTES)           \
	F(GUEST_SS_AR_BYTES)           \
	F(GUEST_INTERRUPTIBILITY_INFO) \
	F(GUEST_PENDING_DBG_EXCEPTIONS)
#define INFO(F)                    \
	F(VM_EXIT_INSTRUCTION_LEN) \
	F(VMX_INSTRUCTION_INFO)    \
	F(GUEST_LINEAR_ADDRESS)
#define HOST_SEG(F, S)          \
	F(GUEST_##S##_SELECTOR) \
	F(GUEST_##S##_AR_BYTES) \
	F(GUEST_##S##_BASE)     \
	F(GUEST_##S##_LIMIT)
/* In the order of enum isa_seg. */
#define HOST(F)               \
	HOST_SEG(F, ES)       \
	HOST_SEG(F, CS)       \
	HOST_SEG(F, SS)       \
	HOST_SEG(F, DS)       \
	HOST_SEG(F, FS)       \
	HOST_SEG(F, GS)       \
	HOST_SEG(F, LDTR)     \
	HOST_SEG(F, TR)       \
	F(GUEST_SYSENTER_CS)  \
	F(GUEST_SYSENTER_ESP) \
	F(GUEST_SYSENTER_EIP) \
	F(GUEST_IDTR_BASE)    \
	F(GUEST_IDTR_LIMIT)   \
	F(GUEST_GDTR_BASE)    \
	F(GUEST_GDTR_LIMIT)   \
	F(GUEST_IA32_DEBUGCTL)
#define ORDINAL(prefix, name) prefix##_##name,
#define SAVED_NR(name)	      ORDINAL(SAVED, name)
#define INFO_NR(name)	      ORDINAL(INFO, name)
#define HOST_NR(name)	      ORDINAL(HOST, name)
enum { SAVED(SAVED_NR) NSAVED };
enum { INFO(INFO_NR) NINFO };
enum { HOST(HOST_NR) NHOST };

void nested_exit_init(struct kvm_vcpu *v)
{
	const struct sil_machine *m = v->kvm->machine;
	struct nested_vmx *n = nested_of(v);
#define NAME(name) name,
	static const u32 saved[] = {SAVED(NAME)}, info[] = {INFO(NAME)}, host[] = {HOST(NAME)};
#undef NAME

	BUG_ON(!sil_vmcs_list(m, saved, NSAVED, &n->saved) ||
	       !sil_vmcs_list(m, info, NINFO, &n->info) ||
	       !sil_vmcs_list(m, host, NHOST, &n->host));
}

/* ---- Guest state ---- */

/*
 * A control register of L2, per bit: owned by L2 in vmcs02, so it is where L2 wrote it; masked by
 * L1, so L1's value stands (L2 could not change it); masked by L0 alone, so what L2 wrote is in the
 * read shadow of vmcs02.
 */
static u64 merged_cr(u64 guest02, u64 shadow02, u64 owned02, u64 guest12, u64 mask12)
{
	return (guest02 & owned02) | (guest12 & mask12) | (shadow02 & ~(owned02 | mask12));
}

static u64 activity(const struct kvm_vcpu *v)
{
	switch (v->mp_state) {
	case KVM_MP_STATE_HALTED: return GUEST_ACTIVITY_HLT;
	case KVM_MP_STATE_INIT_RECEIVED: return GUEST_ACTIVITY_WAIT_SIPI;
	default: return GUEST_ACTIVITY_ACTIVE;
	}
}

void nested_sync_vmcs12(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	const struct loaded_vmcs *l = vmx_of(v)->loaded;
	struct vmcs12 *v12 = n->vmcs12;
	u64 val[NSAVED];

	sil_vmread_list(v->cpu, &n->saved, val);
	V12_SET(v12, GUEST_CR0,
		merged_cr(val[SAVED_GUEST_CR0], l->cr0_read_shadow, v->arch->cr0_guest_owned,
			  V12(v12, GUEST_CR0), V12(v12, CR0_GUEST_HOST_MASK)));
	V12_SET(v12, GUEST_CR4,
		merged_cr(val[SAVED_GUEST_CR4], l->cr4_read_shadow, v->arch->cr4_guest_owned,
			  V12(v12, GUEST_CR4), V12(v12, CR4_GUEST_HOST_MASK)));
	V12_SET(v12, GUEST_RSP, kvm_rsp_read(v));
	V12_SET(v12, GUEST_RIP, kvm_rip_read(v));
	V12_SET(v12, GUEST_RFLAGS, vmx_get_rflags(v));
	V12_SET(v12, GUEST_CS_AR_BYTES, val[SAVED_GUEST_CS_AR_BYTES]);
	V12_SET(v12, GUEST_SS_AR_BYTES, val[SAVED_GUEST_SS_AR_BYTES]);
	V12_SET(v12, GUEST_INTERRUPTIBILITY_INFO, val[SAVED_GUEST_INTERRUPTIBILITY_INFO]);
	/* With interruptibility and RFLAGS.TF, which L1 often writes, it is looked at by one check.
	 */
	V12_SET(v12, GUEST_PENDING_DBG_EXCEPTIONS, val[SAVED_GUEST_PENDING_DBG_EXCEPTIONS]);
	V12_SET(v12, GUEST_ACTIVITY_STATE, activity(v));
	V12_SET(v12, GUEST_CR3, kvm_read_cr3(v));
	if (v12_cpu2(v12, SECONDARY_EXEC_ENABLE_EPT) && is_pae_paging(v)) {
		V12_SET(v12, GUEST_PDPTR0, kvm_pdptr_read(v, 0));
		V12_SET(v12, GUEST_PDPTR1, kvm_pdptr_read(v, 1));
		V12_SET(v12, GUEST_PDPTR2, kvm_pdptr_read(v, 2));
		V12_SET(v12, GUEST_PDPTR3, kvm_pdptr_read(v, 3));
	}
	if (v12_cpu2(v12, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
		V12_SET(v12, GUEST_INTR_STATUS, vmcs_read(v, GUEST_INTR_STATUS));
	/* The one control that is guest state: 28.3.1. */
	V12_SET(v12, VM_ENTRY_CONTROLS,
		(V12(v12, VM_ENTRY_CONTROLS) & ~VM_ENTRY_IA32E_MODE) |
			(is_long_mode(v) ? VM_ENTRY_IA32E_MODE : 0));
	/* The rest exactly where L1's exit controls ask for it. */
	if (v12_exit(v12, VM_EXIT_SAVE_DEBUG_CONTROLS)) {
		V12_SET(v12, GUEST_DR7, kvm_get_dr(v, 7));
		V12_SET(v12, GUEST_IA32_DEBUGCTL, vmcs_read(v, GUEST_IA32_DEBUGCTL));
	}
	if (v12_exit(v12, VM_EXIT_SAVE_IA32_PAT))
		V12_SET(v12, GUEST_IA32_PAT, v->arch->pat);
	if (v12_exit(v12, VM_EXIT_SAVE_IA32_EFER))
		V12_SET(v12, GUEST_IA32_EFER, v->arch->efer);
	if (v12_exit(v12, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER) &&
	    v12_pin(v12, PIN_BASED_VMX_PREEMPTION_TIMER) && !n->run_pending)
		V12_SET(v12, VMX_PREEMPTION_TIMER_VALUE, nested_timer_remaining(v));
	n->rare_unsynced = true;
	/* L1 has control over when this is looked at, and may find it wanting: see "Lazy" in
	 * docs/nested.md. An enlightened VMCS it looks at without us. */
	if (!v->kvm->arch->params.kvmless_lazy_vmcs12 || nested_evmcs_active(n))
		nested_sync_rare(v);
}

/* ---- Exit information ---- */

/* The event whose delivery the exit interrupted (28.2.4). */
static u64 vectoring_info(struct kvm_vcpu *v, u32 reason, u32 intr_info)
{
	struct vmcs12 *v12 = vmcs12_of(v);
	const struct vcpu_arch *a = v->arch;
	u64 info;

	/* These exits count as not having interrupted a delivery. */
	if (reason == EXIT_REASON_TRIPLE_FAULT ||
	    (reason == EXIT_REASON_EXCEPTION_NMI && is_exception_n(intr_info, X86_DF_VEC)))
		return 0;
	if (a->exception.injected) {
		info = a->exception.vector | INTR_INFO_VALID | vmx_exception_type(&a->exception);
		if (vmx_exception_type(&a->exception) != INTR_TYPE_HARD_EXCEPTION)
			V12_SET(v12, VM_EXIT_INSTRUCTION_LEN, a->event_exit_inst_len);
		if (a->exception.has_error) {
			info |= INTR_INFO_DELIVER_ERR_CODE;
			V12_SET(v12, IDT_VECTORING_ERROR_CODE, a->exception.error);
		}
		return info;
	}
	if (a->nmi_injected)
		return X86_NMI | INTR_TYPE_NMI | INTR_INFO_VALID;
	if (a->interrupt.injected) {
		if (a->interrupt.soft)
			V12_SET(v12, VM_EXIT_INSTRUCTION_LEN, a->event_exit_inst_len);
		return a->interrupt.nr | INTR_INFO_VALID |
		       (a->interrupt.soft ? INTR_TYPE_SOFT_INTR : INTR_TYPE_EXT_INTR);
	}
	return 0;
}

/* SDM, 28.7: an abort shuts the processor down. */
static void abort_vmx(struct kvm_vcpu *v, u32 indicator)
{
	nested_of(v)->vmcs12->abort = indicator;
	nested_explain_because(v, "VM exit", 0, "VMX_ABORT",
			       indicator == 1
				       ? "each entry of the VM-exit MSR-store area can be read "
					 "with RDMSR"
			       : indicator == 4 ? "each entry of the VM-exit MSR-load area can be "
						  "written with WRMSR"
						: "PDPTEs at host CR3 have no reserved bit set",
			       "28.7", indicator);
	kvm_make_request(v, REQ_TRIPLE_FAULT);
}

static void store_exit_info(struct kvm_vcpu *v, u32 reason, u32 intr_info, u64 qualification)
{
	struct vmcs12 *v12 = vmcs12_of(v);
	u64 val[NINFO];

	V12_SET(v12, VM_EXIT_REASON, reason);
	V12_SET(v12, EXIT_QUALIFICATION, qualification);
	/* 27.8: a failed entry changes nothing else. */
	if (reason & VMX_EXIT_REASON_FAILED_VMENTRY)
		return;
	sil_vmread_list(v->cpu, &nested_of(v)->info, val);
	v12->launched = 1;
	V12_SET(v12, VM_ENTRY_INTR_INFO_FIELD,
		V12(v12, VM_ENTRY_INTR_INFO_FIELD) & ~INTR_INFO_VALID);
	V12_SET(v12, VM_EXIT_INSTRUCTION_LEN, val[INFO_VM_EXIT_INSTRUCTION_LEN]);
	V12_SET(v12, IDT_VECTORING_INFO_FIELD, vectoring_info(v, reason, intr_info));
	V12_SET(v12, VM_EXIT_INTR_INFO, intr_info);
	/* 28.2.3, 26.3: an IRET that faulted has ended NMI blocking, which L0 has restored for
	 * itself. */
	if (((intr_info & INTR_INFO_VALID) && (intr_info & INTR_INFO_UNBLOCK_NMI)) ||
	    (reason == EXIT_REASON_EPT_VIOLATION && (qualification & EPT_VIOLATION_NMI_UNBLOCK)))
		V12_SET(v12, GUEST_INTERRUPTIBILITY_INFO,
			V12(v12, GUEST_INTERRUPTIBILITY_INFO) & ~GUEST_INTR_STATE_NMI);
	V12_SET(v12, VMX_INSTRUCTION_INFO, val[INFO_VMX_INSTRUCTION_INFO]);
	V12_SET(v12, GUEST_LINEAR_ADDRESS, val[INFO_GUEST_LINEAR_ADDRESS]);
	if (nested_store_msrs(v, V12(v12, VM_EXIT_MSR_STORE_ADDR),
			      (u32)V12(v12, VM_EXIT_MSR_STORE_COUNT)))
		abort_vmx(v, 1);
}

/* ---- Host state (28.5) ---- */

/* 28.5.2: null is unusable. Limit and, but for FS and GS, base are undefined then. */
static void host_segment(u64 *val, u64 sel, u32 ar, u64 base, u32 limit)
{
	val[0] = sel;
	val[1] = sel ? ar : ar | (u32)SEG_AR_UNUSABLE;
	val[2] = base;
	val[3] = limit;
}

static void load_host_fields(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	const u32 data = 0xc093; /* present, writable, accessed, 32 bits, 4 KiB units */
	bool long_mode = v12_exit(v12, VM_EXIT_HOST_ADDR_SPACE_SIZE);
	u64 val[NHOST];

#define SEGMENT(S, sel, ar, base, limit) \
	host_segment(&val[HOST_GUEST_##S##_SELECTOR], sel, ar, base, limit)
	SEGMENT(CS, V12(v12, HOST_CS_SELECTOR), (u32)(0x809b | (long_mode ? SEG_AR_L : SEG_AR_DB)),
		0, ~0u);
	SEGMENT(SS, V12(v12, HOST_SS_SELECTOR), data, 0, ~0u);
	SEGMENT(DS, V12(v12, HOST_DS_SELECTOR), data, 0, ~0u);
	SEGMENT(ES, V12(v12, HOST_ES_SELECTOR), data, 0, ~0u);
	SEGMENT(FS, V12(v12, HOST_FS_SELECTOR), data, V12(v12, HOST_FS_BASE), ~0u);
	SEGMENT(GS, V12(v12, HOST_GS_SELECTOR), data, V12(v12, HOST_GS_BASE), ~0u);
	SEGMENT(TR, V12(v12, HOST_TR_SELECTOR), 0x8b, V12(v12, HOST_TR_BASE), 0x67);
	SEGMENT(LDTR, 0, 0, 0, 0);
#undef SEGMENT
	val[HOST_GUEST_SYSENTER_CS] = V12(v12, HOST_IA32_SYSENTER_CS);
	val[HOST_GUEST_SYSENTER_ESP] = V12(v12, HOST_IA32_SYSENTER_ESP);
	val[HOST_GUEST_SYSENTER_EIP] = V12(v12, HOST_IA32_SYSENTER_EIP);
	val[HOST_GUEST_IDTR_BASE] = V12(v12, HOST_IDTR_BASE);
	val[HOST_GUEST_IDTR_LIMIT] = 0xffff;
	val[HOST_GUEST_GDTR_BASE] = V12(v12, HOST_GDTR_BASE);
	val[HOST_GUEST_GDTR_LIMIT] = 0xffff;
	val[HOST_GUEST_IA32_DEBUGCTL] = 0;
	sil_vmwrite_list(v->cpu, &nested_of(v)->host, val);
	v->regs.seg_fields = 0;
}

void nested_load_host_state(struct kvm_vcpu *v)
{
	const struct vmcs12 *v12 = vmcs12_of(v);
	u64 efer = v->arch->efer;

	if (v12_exit(v12, VM_EXIT_LOAD_IA32_EFER))
		efer = V12(v12, HOST_IA32_EFER);
	else if (v12_exit(v12, VM_EXIT_HOST_ADDR_SPACE_SIZE))
		efer |= EFER_LMA | EFER_LME;
	else
		efer &= ~(u64)(EFER_LMA | EFER_LME);

	kvm_rsp_write(v, V12(v12, HOST_RSP));
	kvm_rip_write(v, V12(v12, HOST_RIP));
	vmx_set_rflags(v, 2);
	vmx_set_interrupt_shadow(v, 0);
	v->arch->cr0_guest_owned = vmx_cr0_guest_owned(v);
	vmx_load_cr0(v, V12(v12, HOST_CR0));
	v->arch->cr4_guest_owned = vmx_cr4_guest_owned(v);
	vmx_load_cr4(v, V12(v12, HOST_CR4));
	vmx_set_efer(v, efer);
	mmu_leave_ept12(v);
	if (!nested_load_cr3(v, V12(v12, HOST_CR3), true))
		abort_vmx(v, 2);
	nested_transition_flush(v, false);

	load_host_fields(v);
	if (v12_exit(v12, VM_EXIT_LOAD_IA32_PAT)) {
		v->arch->pat = V12(v12, HOST_IA32_PAT);
		vmx_set_msr(v, MSR_IA32_CR_PAT, v->arch->pat);
	}
	kvm_set_dr(v, 7, DR7_FIXED_1);
	if (nested_load_msrs(v, V12(v12, VM_EXIT_MSR_LOAD_ADDR),
			     (u32)V12(v12, VM_EXIT_MSR_LOAD_COUNT)))
		abort_vmx(v, 4);
}

/* ---- The exit ---- */

/* If L0 had the last exit of L2, it has not kept it: L2 did not go on. */
static void count_exit(struct kvm_vcpu *v, u32 reason)
{
	struct nested_vmx *n = nested_of(v);

	kvm_stat_inc(v, nested_exits);
	stat_reason(v->arch->stat.l2_to_l1, reason, 1);
	if (n->kept) {
		stat_reason(v->arch->stat.l2_kept, n->kept - 1, -1);
		v->arch->stat.nested_exits_l0--;
		n->kept = 0;
	}
}

void nested_vmexit(struct kvm_vcpu *v, u32 reason, u32 intr_info, u64 qualification)
{
	struct nested_vmx *n = nested_of(v);

	BUG_ON(n->run_pending);
	BUG_ON(!is_guest_mode(v));
	n->mtf_pending = false;
	nested_service_flushes(v);
	/* Registers that L0 changed for L2 are to be in vmcs02 before anything is read from it. */
	vmx_store_dirty(v);

	nested_sync_vmcs12(v);
	if (reason != NESTED_EXIT_SILENT)
		store_exit_info(v, reason, intr_info, qualification);
	nested_flush_shadow_vmcs12(v);

	v->arch->guest_mode = false;
	v->arch->stat.guest_mode = 0;
	/* L2 goes on after an SMI with the deadline it had. */
	if (reason != NESTED_EXIT_SILENT)
		n->has_timer_deadline = false;
	v->arch->tsc_offset = v->arch->l1_tsc_offset;
	v->arch->tsc_multiplier = v->arch->l1_tsc_multiplier;
	/* Undelivered events of L2 are in vmcs12 by now. */
	v->arch->nmi_injected = false;
	kvm_clear_exception_queue(v);
	kvm_clear_interrupt_queue(v);
	v->arch->exception_vmexit.pending = false;

	nested_switch_vmcs(v, &vmx_of(v)->vmcs01);
	/* L1's TSC may have been moved while L2 ran. */
	vmx_write_tsc_offset(v, v->arch->tsc_offset);
	if (vmx_of(v)->config->tsc_scaling)
		vmx_write_tsc_multiplier(v, v->arch->tsc_multiplier);
	if (unlikely(vmx_of(v)->vmcs01_stale)) {
		vmx_of(v)->vmcs01_stale = false;
		vmx_update_exec_controls(v);
		vmx_set_cr4_guest_host_mask(v);
		vmx_update_exception_bitmap(v);
	}
	/* It may have been halted. */
	v->mp_state = KVM_MP_STATE_RUNNABLE;
	if (reason != NESTED_EXIT_SILENT) {
		n->need_shadow_sync = n->shadow_vmcs || nested_evmcs_active(n);
		count_exit(v, reason);
		VCPU_TRACE(by_l1, v, vmx_exit_name(reason), reason);
	}
	nested_load_host_state(v);
	/* What L2 did not concern L1 may do now. */
	kvm_make_request(v, REQ_EVENT);
}

void nested_fail_late(struct kvm_vcpu *v, u32 reason, u64 qualification)
{
	struct nested_vmx *n = nested_of(v);

	store_exit_info(v, reason | VMX_EXIT_REASON_FAILED_VMENTRY, 0, qualification);
	n->need_shadow_sync = n->shadow_vmcs || nested_evmcs_active(n);
	count_exit(v, reason);
	VCPU_TRACE(by_l1, v, vmx_exit_name(reason), reason | VMX_EXIT_REASON_FAILED_VMENTRY);
	nested_load_host_state(v);
	kvm_make_request(v, REQ_EVENT);
}
