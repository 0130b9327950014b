/* SPDX-License-Identifier: MIT */
/*
 * VMX instructions of L1 (SDM, chapter 31). What the processor checks before the exit (mode, and
 * for most of them nothing else) is not repeated.
 */
#include <errno.h>

#include "core/irqchip/irqchip.h"
#include "core/vmx/nested/nested.h"

/* In VMX operation and at CPL 0? If not, the exception is queued. */
static bool permitted(struct kvm_vcpu *v)
{
	if (!nested_of(v)->vmxon) {
		kvm_queue_exception(v, X86_UD);
		return false;
	}
	return kvm_require_cpl(v, 0);
}

static bool page_ok(struct kvm_vcpu *v, u64 pa)
{
	return !(pa & (PAGE_SIZE - 1)) && kvm_is_legal_gpa(v, pa);
}

static u32 insn_info(struct kvm_vcpu *v)
{
	return (u32)vmcs_read(v, VMX_INSTRUCTION_INFO);
}

/* The 64-bit physical address that VMXON, VMPTRLD and VMCLEAR have in memory. */
static int read_vmptr(struct kvm_vcpu *v, u64 *ptr)
{
	gva_t gva;

	if (nested_operand_address(v, kvm_exit_info_1(v), insn_info(v), false, 8, &gva))
		return 1;
	return nested_read_operand(v, gva, ptr, 8);
}

static int refuse(struct kvm_vcpu *v, const char *insn, u32 error, const char *rule, u64 value)
{
	nested_explain_because(v, insn, error, insn, rule, "31.3", value);
	return nested_fail(v, error);
}

/* VMREAD, VMWRITE of a field that vmcs12 does not have. */
static int refuse_field(struct kvm_vcpu *v, const char *insn, u64 field)
{
	const char *name = field >> 32 ? NULL : vmcs_field_name((u32)field);

	if (name)
		nested_note(v, "%s is not among the fields that this VMX has", name);
	else
		nested_note(v, "no field has this encoding");
	return refuse(v, insn, VMXERR_UNSUPPORTED_VMCS_COMPONENT, "the field exists", field);
}

static int refuse_invalid(struct kvm_vcpu *v, const char *insn, const char *rule, u64 value)
{
	nested_explain_because(v, insn, 0, insn, rule, "31.3", value);
	return nested_fail_invalid(v);
}

/* ---- VMXON, VMXOFF ---- */

#define FEAT_CTL_NEEDED (BIT(0) | BIT(2)) /* locked, VMX outside SMX */

int nested_handle_vmxon(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 revision;
	u64 ptr;

	/* CR4.VMXE of the processor is always 1, so it has not been checked. */
	if (!kvm_read_cr4_bits(v, CR4_VMXE)) {
		kvm_queue_exception(v, X86_UD);
		return 1;
	}
	if (!kvm_require_cpl(v, 0))
		return 1;
	if (n->vmxon)
		return refuse(v, "VMXON", VMXERR_VMXON_IN_VMX_ROOT_OPERATION,
			      "the processor is not in VMX operation", n->vmxon_ptr);
	if (!nested_cr0_valid(v, kvm_read_cr0(v)) || !nested_cr4_valid(v, kvm_read_cr4(v)) ||
	    (v->arch->feat_ctl & FEAT_CTL_NEEDED) != FEAT_CTL_NEEDED)
		return kvm_inject_gp(v);
	if (read_vmptr(v, &ptr))
		return 1;
	if (!page_ok(v, ptr))
		return refuse_invalid(v, "VMXON",
				      "the operand is page-aligned and within MAXPHYADDR", ptr);
	if (vcpu_read_guest(v, ptr, &revision, sizeof(revision)))
		return refuse_invalid(v, "VMXON", "the region is memory", ptr);
	if (revision != VMCS12_REVISION) {
		nested_note(v, "the region has %#x, not %#x", revision, VMCS12_REVISION);
		return refuse_invalid(v, "VMXON",
				      "the region holds the revision of IA32_VMX_BASIC[30:0]", ptr);
	}
	n->vmxon_ptr = ptr;
	if (nested_enter_operation(v))
		return -ENOMEM;
	return nested_succeed(v);
}

int nested_handle_vmxoff(struct kvm_vcpu *v)
{
	if (!permitted(v))
		return 1;
	nested_leave_operation(v);
	/* INIT was held back. */
	if (v->apic && lapic_has_init_sipi(v))
		kvm_make_request(v, REQ_EVENT);
	return nested_succeed(v);
}

/* ---- VMCLEAR, VMPTRLD, VMPTRST ---- */

int nested_handle_vmclear(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 clear = 0;
	u64 ptr;

	if (!permitted(v) || read_vmptr(v, &ptr))
		return 1;
	if (!page_ok(v, ptr))
		return refuse(v, "VMCLEAR", VMXERR_VMCLEAR_INVALID_ADDRESS,
			      "the operand is page-aligned and within MAXPHYADDR", ptr);
	if (ptr == n->vmxon_ptr)
		return refuse(v, "VMCLEAR", VMXERR_VMCLEAR_VMXON_POINTER,
			      "the operand is not the VMXON pointer", ptr);
	if (nested_evmcs_vmclear(v, ptr))
		return nested_succeed(v);
	if (ptr == n->current_vmptr)
		nested_release_vmcs12(v);
	/* A region that is not memory: nothing to be done to it. */
	(void)vcpu_write_guest(v, ptr + offsetof(struct vmcs12, launched), &clear, sizeof(clear));
	return nested_succeed(v);
}

int nested_handle_vmptrld(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 revision;
	u64 ptr;

	if (!permitted(v) || read_vmptr(v, &ptr))
		return 1;
	if (!page_ok(v, ptr))
		return refuse(v, "VMPTRLD", VMXERR_VMPTRLD_INVALID_ADDRESS,
			      "the operand is page-aligned and within MAXPHYADDR", ptr);
	if (ptr == n->vmxon_ptr)
		return refuse(v, "VMPTRLD", VMXERR_VMPTRLD_VMXON_POINTER,
			      "the operand is not the VMXON pointer", ptr);
	if (nested_evmcs_active(n))
		return refuse_invalid(v, "VMPTRLD", "no enlightened VMCS is active", ptr);
	if (ptr == n->current_vmptr)
		return nested_succeed(v);
	if (vcpu_read_guest(v, ptr, &revision, sizeof(revision)))
		revision = ~0u;
	if ((revision & ~(u32)VMCS12_SHADOW) != VMCS12_REVISION ||
	    ((revision & VMCS12_SHADOW) &&
	     !(n->cap[CAP_PROCBASED2] >> 32 & SECONDARY_EXEC_SHADOW_VMCS))) {
		nested_note(v, "the region has %#x, not %#x", revision, VMCS12_REVISION);
		return refuse(v, "VMPTRLD", VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID,
			      "the region holds the revision of IA32_VMX_BASIC[30:0]", ptr);
	}
	nested_release_vmcs12(v);
	if (vcpu_read_guest(v, ptr, n->vmcs12, VMCS12_SIZE))
		return refuse(v, "VMPTRLD", VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID,
			      "the region is memory", ptr);
	nested_set_vmptr(v, ptr);
	return nested_succeed(v);
}

int nested_handle_vmptrst(struct kvm_vcpu *v)
{
	gva_t gva;

	if (!permitted(v))
		return 1;
	if (nested_operand_address(v, kvm_exit_info_1(v), insn_info(v), true, 8, &gva) ||
	    nested_write_operand(v, gva, &nested_of(v)->current_vmptr, 8))
		return 1;
	return nested_succeed(v);
}

/* ---- VMREAD, VMWRITE ---- */

/* Which VMCS they reach: the current one, or, in L2, the one that L1 shadows for it. */
static struct vmcs12 *access_target(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!nested_has_vmcs12(n))
		return NULL;
	if (!is_guest_mode(v))
		return n->vmcs12;
	return V12(n->vmcs12, VMCS_LINK_POINTER) == ~0ull ? NULL : n->shadow_vmcs12;
}

int nested_handle_vmread(struct kvm_vcpu *v)
{
	u32 info = insn_info(v);
	struct vmcs12 *v12;
	u64 field, val;
	gva_t gva;
	unsigned len;
	int nr;

	if (!permitted(v))
		return 1;
	v12 = access_target(v);
	if (!v12)
		return refuse_invalid(v, "VMREAD", "there is a current VMCS", ~0ull);
	field = kvm_register_read(v, info >> 28 & 15);
	nr = field >> 32 ? -1 : vmcs12_find((u32)field);
	if (nr < 0)
		return refuse_field(v, "VMREAD", field);
	kvm_stat_inc(v, nested_vmread_exits);
	if (!is_guest_mode(v) && nested_evmcs_active(nested_of(v))) {
		/* TLFS calls it unsupported; Windows does it. */
		if (!nested_evmcs_read(v, (u32)field, &val))
			return refuse_field(v, "VMREAD", field);
	} else {
		if (!is_guest_mode(v) && nested_is_rare((unsigned)nr))
			nested_fetch_rare(v);
		val = vmcs12_read(v12, (u32)field);
	}
	if (info & BIT(10)) {
		kvm_register_write(v, info >> 3 & 15, val);
		return nested_succeed(v);
	}
	len = is_64_bit_mode(v) ? 8 : 4;
	if (nested_operand_address(v, kvm_exit_info_1(v), info, true, len, &gva) ||
	    nested_write_operand(v, gva, &val, len))
		return 1;
	return nested_succeed(v);
}

int nested_handle_vmwrite(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 info = insn_info(v);
	struct vmcs12 *v12;
	u64 field, val = 0, old;
	gva_t gva;
	int nr;

	if (!permitted(v))
		return 1;
	v12 = access_target(v);
	if (!v12)
		return refuse_invalid(v, "VMWRITE", "there is a current VMCS", ~0ull);
	if (!is_guest_mode(v) && nested_evmcs_active(n))
		return refuse_invalid(v, "VMWRITE", "no enlightened VMCS is active", n->evmcs.ptr);
	if (info & BIT(10)) {
		val = kvm_register_read(v, info >> 3 & 15);
	} else {
		unsigned len = is_64_bit_mode(v) ? 8 : 4;

		if (nested_operand_address(v, kvm_exit_info_1(v), info, false, len, &gva) ||
		    nested_read_operand(v, gva, &val, len))
			return 1;
	}
	field = kvm_register_read(v, info >> 28 & 15);
	nr = field >> 32 ? -1 : vmcs12_find((u32)field);
	if (nr < 0)
		return refuse_field(v, "VMWRITE", field);
	if (vmcs_type((u32)field) == VMCS_TYPE_EXIT_INFO && !(n->cap[CAP_MISC] & BIT(29)))
		return refuse(v, "VMWRITE", VMXERR_VMWRITE_READ_ONLY_VMCS_COMPONENT,
			      "the field is not read-only (IA32_VMX_MISC[29])", field);
	kvm_stat_inc(v, nested_vmwrite_exits);
	val = nested_stored_value((u32)field, val);
	if (!is_guest_mode(v)) {
		/* The other half of a 64-bit field may be newer in vmcs02. */
		if (vmcs_is_high((u32)field) && nested_is_rare((unsigned)nr))
			nested_fetch_rare(v);
		old = vmcs12_read(v12, vmcs12_fields[nr].encoding);
		vmcs12_write(v12, (u32)field, val);
		val = vmcs12_read(v12, vmcs12_fields[nr].encoding);
		if (vmcs12_fields[nr].shadow != SHADOW_NO)
			nested_shadow_write(v, (unsigned)nr, val);
		nested_mark_dirty(n, (unsigned)nr, old, val);
	} else {
		vmcs12_write(v12, (u32)field, val);
	}
	return nested_succeed(v);
}

/* ---- VMLAUNCH, VMRESUME ---- */

int nested_handle_vmlaunch(struct kvm_vcpu *v)
{
	return permitted(v) ? nested_run(v, true) : 1;
}

int nested_handle_vmresume(struct kvm_vcpu *v)
{
	return permitted(v) ? nested_run(v, false) : 1;
}

/* ---- INVEPT, INVVPID ---- */

/* The type is in a register, and is looked at first. */
static u64 inv_type(struct kvm_vcpu *v)
{
	return kvm_register_read(v, insn_info(v) >> 28 & 15);
}

/* 16 bytes in memory, which are read whatever the type is. 0, or 1 with an exception queued. */
static int read_descriptor(struct kvm_vcpu *v, u64 desc[2])
{
	gva_t gva;

	if (nested_operand_address(v, kvm_exit_info_1(v), insn_info(v), false, 16, &gva))
		return 1;
	return nested_read_operand(v, gva, desc, 16);
}

static int bad_descriptor(struct kvm_vcpu *v, const char *insn, const char *rule, u64 value)
{
	return refuse(v, insn, VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID, rule, value);
}

int nested_handle_invept(struct kvm_vcpu *v)
{
	u64 cap = nested_of(v)->cap[CAP_EPT_VPID], type, desc[2];

	if (!(nested_of(v)->cap[CAP_PROCBASED2] >> 32 & SECONDARY_EXEC_ENABLE_EPT) ||
	    !(cap & VMX_EPT_INVEPT)) {
		kvm_queue_exception(v, X86_UD);
		return 1;
	}
	if (!permitted(v))
		return 1;
	type = inv_type(v);
	/* A.10: bits 26:25 are the types 2 and 1. */
	if ((type != INVEPT_SINGLE && type != INVEPT_GLOBAL) || !(cap >> (24 + type) & 1))
		return bad_descriptor(v, "INVEPT", "the type is one that is offered", type);
	if (read_descriptor(v, desc))
		return 1;
	if (type == INVEPT_SINGLE && !nested_eptp_valid(v, desc[0]))
		return bad_descriptor(v, "INVEPT", "VM entry accepts the EPT pointer", desc[0]);
	mmu_invept(v, (unsigned)type, desc[0]);
	return nested_succeed(v);
}

static bool match_all(const struct mmu_root *r, u64 arg)
{
	return true;
}

int nested_handle_invvpid(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u64 cap = n->cap[CAP_EPT_VPID], type, desc[2];

	if (!(n->cap[CAP_PROCBASED2] >> 32 & SECONDARY_EXEC_ENABLE_VPID) || !(cap & VMX_INVVPID)) {
		kvm_queue_exception(v, X86_UD);
		return 1;
	}
	if (!permitted(v))
		return 1;
	type = inv_type(v);
	/* A.10: bits 43:40 are the types 3 to 0. */
	if (type > INVVPID_SINGLE_RETAIN_GLOBAL || !(cap >> (40 + type) & 1))
		return bad_descriptor(v, "INVVPID", "the type is one that is offered", type);
	if (read_descriptor(v, desc))
		return 1;
	if (desc[0] >> 16)
		return bad_descriptor(v, "INVVPID", "bits 63:16 of the descriptor are 0", desc[0]);
	if (type != INVVPID_ALL && !desc[0])
		return bad_descriptor(v, "INVVPID", "the VPID is not 0", desc[0]);
	if (type == INVVPID_ADDR && !is_canonical(desc[1], v->arch->va_bits))
		return bad_descriptor(v, "INVVPID", "the address is canonical", desc[1]);
	/*
	 * vpid02 stands for whatever VPID vmcs12 has, and has been flushed when another took its
	 * place: flushing it does the work for all of L1's VPIDs.
	 */
	if (n->vpid02) {
		if (type == INVVPID_ADDR)
			sil_invvpid(v->cpu, INVVPID_ADDR, n->vpid02, desc[1]);
		else
			sil_invvpid(v->cpu, INVVPID_SINGLE, n->vpid02, 0);
	}
	/* Shadow page tables follow the guest's flushes. */
	if (!vmx_of(v)->config->ept)
		mmu_invalidate_roots(v, &v->mmu->root_mmu, match_all, 0);
	return nested_succeed(v);
}

/* ---- VMFUNC, executed by L2 ---- */

/* 26.5.6.3. False: it exits. */
static bool switch_eptp(struct kvm_vcpu *v)
{
	struct vmcs12 *v12 = vmcs12_of(v);
	u32 index = (u32)v->hw->gpr[RCX];
	u64 eptp;

	if (index >= 512 || !v12_cpu2(v12, SECONDARY_EXEC_ENABLE_EPT) ||
	    vcpu_read_guest(v, V12(v12, EPTP_LIST_ADDRESS) + index * 8ull, &eptp, sizeof(eptp)))
		return false;
	if (eptp == V12(v12, EPT_POINTER))
		return true;
	if (!nested_eptp_valid(v, eptp))
		return false;
	V12_SET(v12, EPT_POINTER, eptp);
	nested_enter_ept12(v, eptp);
	mmu_reset_context(v);
	if (!v12_cpu2(v12, SECONDARY_EXEC_ENABLE_VPID))
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	return true;
}

int nested_handle_vmfunc(struct kvm_vcpu *v)
{
	u32 function = (u32)v->hw->gpr[RAX];
	struct vmcs12 *v12;

	if (!is_guest_mode(v))
		return kvm_handle_invalid_op(v);
	v12 = vmcs12_of(v);
	if (!v12_cpu2(v12, SECONDARY_EXEC_ENABLE_VMFUNC))
		return kvm_handle_invalid_op(v);
	if (function == 0 && (V12(v12, VM_FUNCTION_CONTROL) & BIT(0)) && switch_eptp(v))
		return kvm_skip_emulated_instruction(v);
	nested_vmexit(v, EXIT_REASON_VMFUNC, 0, kvm_exit_info_1(v));
	return 1;
}
