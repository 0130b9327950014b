// SPDX-License-Identifier: MIT
/*
 * VMX instructions in non-root operation: they exit, but for VMREAD and VMWRITE through a shadow
 * VMCS (SDM vol. 3C, 25.10) and VMFUNC (26.5.6).
 */
#include "isa/insn_table.h"
#include "isa/mem.h"
#include "silicon/vtx/vtx.h"

enum form { FORM_NONE, FORM_PLAIN, FORM_MEM, FORM_MEM_REG, FORM_VMREAD, FORM_VMWRITE, FORM_VMFUNC };

static const struct vmx_insn {
	u8 reason;
	u8 form;
} vmx_insns[ISA_OP_N] = {
	[ISA_OP_VMCALL] = {EXIT_REASON_VMCALL, FORM_PLAIN},
	[ISA_OP_VMCLEAR] = {EXIT_REASON_VMCLEAR, FORM_MEM},
	[ISA_OP_VMLAUNCH] = {EXIT_REASON_VMLAUNCH, FORM_PLAIN},
	[ISA_OP_VMPTRLD] = {EXIT_REASON_VMPTRLD, FORM_MEM},
	[ISA_OP_VMPTRST] = {EXIT_REASON_VMPTRST, FORM_MEM},
	[ISA_OP_VMREAD] = {EXIT_REASON_VMREAD, FORM_VMREAD},
	[ISA_OP_VMRESUME] = {EXIT_REASON_VMRESUME, FORM_PLAIN},
	[ISA_OP_VMWRITE] = {EXIT_REASON_VMWRITE, FORM_VMWRITE},
	[ISA_OP_VMXOFF] = {EXIT_REASON_VMOFF, FORM_PLAIN},
	[ISA_OP_VMXON] = {EXIT_REASON_VMON, FORM_MEM},
	[ISA_OP_INVEPT] = {EXIT_REASON_INVEPT, FORM_MEM_REG},
	[ISA_OP_INVVPID] = {EXIT_REASON_INVVPID, FORM_MEM_REG},
	[ISA_OP_VMFUNC] = {EXIT_REASON_VMFUNC, FORM_VMFUNC},
};

/* The operand that names the field: VMREAD r/m, reg; VMWRITE reg, r/m. */
static u64 field_operand(const struct isa_cpu *c, const struct isa_insn *i, bool write)
{
	return mask_size(c->r.gpr[i->o[write ? 0 : 1].reg], c->mode == ISA_LONG64 ? 8 : 4);
}

/* 26.1.3: what VMCS shadowing lets through. */
static bool shadowed(const struct sil_cpu *cpu, const struct isa_insn *i, bool write)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	u64 field = field_operand(&cpu->c, i, write);
	const u8 *map =
		(const u8 *)(write ? VF(v->cur, VMWRITE_BITMAP) : VF(v->cur, VMREAD_BITMAP));

	return (v->cpu2 & SECONDARY_EXEC_SHADOW_VMCS) && !(field >> 15) &&
	       !(map[field >> 3] >> (field & 7) & 1);
}

/* ICPT_VMX. Returns if the instruction is to be executed after all. */
void vtx_vmx_intercept(struct sil_cpu *cpu)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct isa_insn *i = cpu->c.insn;
	const struct vmx_insn *x = &vmx_insns[i->op];
	unsigned rm, reg;

	switch ((enum form)x->form) {
	case FORM_NONE: return;
	case FORM_PLAIN: vtx_exit(cpu, x->reason, 0);
	case FORM_MEM: vtx_exit_info(cpu, x->reason, info_displacement(&cpu->c, i), info_mem(i));
	case FORM_MEM_REG:
		vtx_exit_info(cpu, x->reason, info_displacement(&cpu->c, i),
			      info_mem_reg2(i, info_gpr(i)));
	case FORM_VMREAD:
	case FORM_VMWRITE:
		if (shadowed(cpu, i, x->form == FORM_VMWRITE))
			return;
		rm = x->form == FORM_VMWRITE;
		reg = i->o[!rm].reg;
		vtx_exit_info(cpu, x->reason,
			      i->o[rm].kind == OK_MEM ? info_displacement(&cpu->c, i) : 0,
			      info_rm(i, &i->o[rm]) | (u32)reg << 28);
	case FORM_VMFUNC:
		if (!(v->cpu2 & SECONDARY_EXEC_ENABLE_VMFUNC))
			isa_raise(&cpu->c, X86_UD);
		return;
	}
}

/* 31.2 */
static void succeed(struct isa_cpu *c)
{
	isa_set_status(c, 0);
}

static void fail_invalid(struct isa_cpu *c)
{
	isa_set_status(c, X86_CF);
}

static void fail_valid(struct isa_cpu *c, struct vmcs_region *shadow, u32 error)
{
	VF(shadow, VM_INSTRUCTION_ERROR) = error;
	isa_set_status(c, X86_ZF);
}

static void shadow_vmread(struct isa_cpu *c, const struct isa_insn *i)
{
	struct sil_cpu *cpu = sil_of(c);
	u64 link = VF(vtx_of(cpu)->cur, VMCS_LINK_POINTER), field = field_operand(c, i, false), val;
	unsigned size = c->mode == ISA_LONG64 ? 8 : 4;

	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	if (link == ~0ull) {
		fail_invalid(c);
		return;
	}
	if (!vmcs_region_read(vtx_machine_of(cpu->m), (struct vmcs_region *)link, field, &val)) {
		fail_valid(c, (struct vmcs_region *)link, VMXERR_UNSUPPORTED_VMCS_COMPONENT);
		return;
	}
	if (i->o[0].kind == OK_MEM)
		isa_write(c, isa_ea(c, i, ISA_ACC_WRITE | ISA_HOW(i)), &val, size, ISA_HOW(i));
	else
		c->r.gpr[i->o[0].reg] = mask_size(val, size);
	cpu->n.vmread_shadow++;
	succeed(c);
}

static void shadow_vmwrite(struct isa_cpu *c, const struct isa_insn *i)
{
	struct sil_cpu *cpu = sil_of(c);
	u64 link = VF(vtx_of(cpu)->cur, VMCS_LINK_POINTER), field = field_operand(c, i, true);
	unsigned size = c->mode == ISA_LONG64 ? 8 : 4;
	u64 val = 0;

	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	if (link == ~0ull) {
		fail_invalid(c);
		return;
	}
	if (i->o[1].kind == OK_MEM)
		isa_read(c, isa_ea(c, i, ISA_HOW(i)), &val, size, ISA_HOW(i));
	else
		val = mask_size(c->r.gpr[i->o[1].reg], size);
	if (!vmcs_region_write(vtx_machine_of(cpu->m), (struct vmcs_region *)link, field, val)) {
		fail_valid(c, (struct vmcs_region *)link, VMXERR_UNSUPPORTED_VMCS_COMPONENT);
		return;
	}
	cpu->n.vmwrite_shadow++;
	succeed(c);
}

/* Would VM entry take this EPT pointer? 27.2.1.1 */
static bool eptp_ok(const struct sil_cpu *cpu, u64 eptp)
{
	unsigned type = eptp & 7, walk = bits_get(eptp, 5, 3);

	return (type == 0 || type == 6) && (walk == 3 || walk == 4) && !(eptp & BITS(11, 7)) &&
	       !(eptp >> cpu->m->maxphyaddr);
}

/* 26.5.6.3: function 0, EPTP switching. */
static void vmfunc(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);
	const struct vtx_cpu *v = vtx_of(cpu);
	struct vmcs_region *r = v->cur;
	u32 function = c->r.gpr[RAX], entry = c->r.gpr[RCX];
	u64 eptp;

	if (function > 63)
		isa_raise(c, X86_UD);
	if (!(VF(r, VM_FUNCTION_CONTROL) >> function & 1) || entry > 511)
		vtx_exit(cpu, EXIT_REASON_VMFUNC, 0);
	eptp = ((const u64 *)VF(r, EPTP_LIST_ADDRESS))[entry];
	if (!eptp_ok(cpu, eptp))
		vtx_exit(cpu, EXIT_REASON_VMFUNC, 0);
	VF(r, EPT_POINTER) = eptp;
	vtx_load_world(cpu);
	cpu_context_changed(cpu);
}

void vtx_vmx(struct isa_cpu *c, const struct isa_insn *i)
{
	switch ((enum form)vmx_insns[i->op].form) {
	case FORM_VMREAD: shadow_vmread(c, i); break;
	case FORM_VMWRITE: shadow_vmwrite(c, i); break;
	case FORM_VMFUNC: vmfunc(c); break;
	default: isa_raise(c, X86_UD);
	}
}
