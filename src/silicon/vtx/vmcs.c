// SPDX-License-Identifier: MIT
/* VMCS storage and the VMX instructions that deal with it (SDM vol. 3C, chapters 25 and 31). */
#include "silicon/vtx/vtx.h"

#include <string.h>

#include "base/log.h"

/*
 * Fields with their home in struct isa_cpu. Only what every VM entry loads and every VM exit saves
 * may be here.
 */
/* clang-format off */
#define HOMES(H)                                                                           \
	HOMES_SEG(H, ES)                                                                   \
	HOMES_SEG(H, CS)                                                                   \
	HOMES_SEG(H, SS)                                                                   \
	HOMES_SEG(H, DS)                                                                   \
	HOMES_SEG(H, FS)                                                                   \
	HOMES_SEG(H, GS)                                                                   \
	HOMES_SEG(H, LDTR)                                                                 \
	HOMES_SEG(H, TR)                                                                   \
	H(GUEST_GDTR_BASE, s.gdtr.base)                                                    \
	H(GUEST_GDTR_LIMIT, s.gdtr.limit)                                                  \
	H(GUEST_IDTR_BASE, s.idtr.base)                                                    \
	H(GUEST_IDTR_LIMIT, s.idtr.limit)                                                  \
	H(GUEST_CR0, s.cr0)                                                                \
	H(GUEST_CR3, s.cr3)                                                                \
	H(GUEST_CR4, s.cr4)                                                                \
	H(GUEST_RIP, s.rip)                                                                \
	H(GUEST_RFLAGS, s.rflags)                                                          \
	H(GUEST_SYSENTER_CS, s.sysenter_cs)                                                \
	H(GUEST_SYSENTER_ESP, s.sysenter_esp)                                              \
	H(GUEST_SYSENTER_EIP, s.sysenter_eip)                                              \
	H(GUEST_PDPTR0, s.pdptr[0])                                                        \
	H(GUEST_PDPTR1, s.pdptr[1])                                                        \
	H(GUEST_PDPTR2, s.pdptr[2])                                                        \
	H(GUEST_PDPTR3, s.pdptr[3])                                                        \
	H(GUEST_PENDING_DBG_EXCEPTIONS, s.pending_dbg)                                     \
	H(GUEST_INTERRUPTIBILITY_INFO, s.interruptibility)                                 \
	H(GUEST_ACTIVITY_STATE, s.activity)
/* clang-format on */
#define HOMES_SEG(H, S)                       \
	H(GUEST_##S##_SELECTOR, s.seg[S].sel) \
	H(GUEST_##S##_AR_BYTES, s.seg[S].ar)  \
	H(GUEST_##S##_LIMIT, s.seg[S].limit)  \
	H(GUEST_##S##_BASE, s.seg[S].base)

/* Fields of features that this processor does not have. */
static const u16 absent[] = {
	LAST_PID_POINTER_INDEX,
	VE_INFORMATION_ADDRESS,
	ENCLS_EXITING_BITMAP,
	SUB_PAGE_PERMISSION_TABLE_POINTER,
	TERTIARY_VM_EXEC_CONTROL,
	PID_POINTER_TABLE,
	GUEST_IA32_PERF_GLOBAL_CTRL,
	GUEST_BNDCFGS,
	GUEST_IA32_RTIT_CTL,
	GUEST_IA32_LBR_CTL,
	GUEST_IA32_PKRS,
	HOST_IA32_PERF_GLOBAL_CTRL,
	HOST_IA32_PKRS,
	GUEST_S_CET,
	GUEST_SSP,
	GUEST_INTR_SSP_TABLE_ADDR,
	HOST_S_CET,
	HOST_SSP,
	HOST_INTR_SSP_TABLE_ADDR,
};

void vmcs_init_where(struct vtx_machine *vm)
{
	struct vmcs_where *w = vm->where;

#define VMCS(name, encoding, vmcs12, shadow)                                                       \
	static_assert(!((encoding) & ~VMCS_ENC_VALID_BITS), "more fields than VMCS_KEY has room"); \
	w[VMCS_KEY(encoding)] = (struct vmcs_where){                                               \
		offsetof(struct vmcs_region, f[SLOT_##name]),                                      \
		8,                                                                                 \
		VMCS_IN_REGION,                                                                    \
		check_topic(encoding),                                                             \
	};
#include "spec/vmcs.def"
#define HOME(field, member)                                              \
	w[VMCS_KEY(field)].offset = offsetof(struct isa_cpu, member);    \
	w[VMCS_KEY(field)].size = sizeof(((struct isa_cpu *)0)->member); \
	w[VMCS_KEY(field)].base = VMCS_IN_CPU;
	HOMES(HOME)
#undef HOME
	w[VMCS_KEY(GUEST_RSP)].offset = 0;
	w[VMCS_KEY(GUEST_RSP)].base = VMCS_IN_RSP;
	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++)
		w[VMCS_KEY(absent[i])].size = 0;
}

/* ---- Reading and writing one field --------------------------------------------------------- */

u64 vmcs_read(const struct sil_cpu *cpu, u32 field)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_where *w = vmcs_lookup(v->where, field);

	return w ? vmcs_load(w, v->base, field) : 0;
}

bool vmcs_region_read(const struct vtx_machine *vm, const struct vmcs_region *r, u32 field,
		      u64 *val)
{
	const struct vmcs_where *w = vmcs_lookup(vm->where, field);
	u8 *base[VMCS_NBASES];

	if (!w)
		return false;
	vmcs_region_bases((struct vmcs_region *)r, base);
	*val = vmcs_load(w, base, field);
	return true;
}

bool vmcs_region_write(const struct vtx_machine *vm, struct vmcs_region *r, u32 field, u64 val)
{
	const struct vmcs_where *w = vmcs_lookup(vm->where, field);
	u8 *base[VMCS_NBASES];

	if (!w)
		return false;
	vmcs_region_bases(r, base);
	if (vmcs_store(w, base, field, val))
		r->clean &= ~w->topics;
	return true;
}

/* ---- Failures of VMX instructions ---------------------------------------------------------- */

enum sil_vmx vtx_fail(struct sil_cpu *cpu, u32 error)
{
	struct vtx_cpu *v = vtx_of(cpu);

	if (!v->cur)
		return SIL_VMX_FAIL_INVALID;
	VF(v->cur, VM_INSTRUCTION_ERROR) = error;
	return SIL_VMX_FAIL_VALID;
}

enum sil_vmx vtx_fail_because(struct sil_cpu *cpu, u32 error, const char *id, const char *rule,
			      const char *section, u32 field, u64 value)
{
	struct vtx_cpu *v = vtx_of(cpu);

	v->failed = true;
	v->failure = (struct check_failure){
		.id = id,
		.rule = rule,
		.section = section,
		.group = CHECK_NGROUPS,
		.field = field,
		.value = value,
		.insn_error = error,
	};
	return vtx_fail(cpu, error);
}

const struct check_failure *sil_last_failure(const struct sil_cpu *cpu)
{
	return vtx_of(cpu)->failed ? &vtx_of(cpu)->failure : NULL;
}

/* ---- VMCLEAR, VMPTRLD, VMPTRST, VMREAD, VMWRITE ---------------------------------------------- */

/* The processor's copy of the homes goes to the region they belong to. CR8 is no field. */
static void spill(struct sil_cpu *cpu, struct vmcs_region *r)
{
	r->sys = cpu->c.s;
	r->rsp = cpu->c.r.gpr[RSP];
}

static void fill(struct sil_cpu *cpu, const struct vmcs_region *r)
{
	u64 cr8 = cpu->c.s.cr8;

	cpu->c.s = r->sys;
	cpu->c.s.cr8 = cr8;
	cpu->c.r.gpr[RSP] = r->rsp;
}

static bool bad_address(const struct sil_cpu *cpu, const void *vmcs)
{
	return !vmcs || ((u64)vmcs & ~PAGE_MASK) || (u64)vmcs >> cpu->m->maxphyaddr;
}

enum sil_vmx sil_vmclear(struct sil_cpu *cpu, void *vmcs)
{
	struct vtx_cpu *v = vtx_of(cpu);
	struct vmcs_region *r = vmcs;

	cpu->n.vmclear++;
	if (bad_address(cpu, vmcs))
		return vtx_fail_because(cpu, VMXERR_VMCLEAR_INVALID_ADDRESS, "VMCLEAR_ADDRESS",
					"the operand is page-aligned and within MAXPHYADDR",
					"31.3, VMCLEAR", ~0u, (u64)vmcs);
	if (v->home == r) {
		spill(cpu, r);
		v->home = NULL;
	}
	if (v->cur == r)
		v->cur = NULL;
	r->launch = VMCS_CLEAR;
	r->clean = 0;
	return SIL_VMX_OK;
}

enum sil_vmx sil_vmptrld(struct sil_cpu *cpu, void *vmcs)
{
	struct vtx_cpu *v = vtx_of(cpu);
	struct vmcs_region *r = vmcs;

	cpu->n.vmptrld++;
	if (bad_address(cpu, vmcs))
		return vtx_fail_because(cpu, VMXERR_VMPTRLD_INVALID_ADDRESS, "VMPTRLD_ADDRESS",
					"the operand is page-aligned and within MAXPHYADDR",
					"31.3, VMPTRLD", ~0u, (u64)vmcs);
	if ((r->revision & ~VMCS_SHADOW_VMCS) != VMCS_REVISION)
		return vtx_fail_because(cpu, VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID,
					"VMPTRLD_REVISION",
					"the region holds the revision of IA32_VMX_BASIC[30:0]",
					"31.3, VMPTRLD", ~0u, r->revision);
	if (v->cur == r)
		return SIL_VMX_OK;
	v->cur = r;
	if (r->revision & VMCS_SHADOW_VMCS) {
		vmcs_region_bases(r, v->base);
		return SIL_VMX_OK;
	}
	v->base[VMCS_IN_REGION] = (u8 *)r;
	v->base[VMCS_IN_CPU] = (u8 *)&cpu->c;
	v->base[VMCS_IN_RSP] = (u8 *)&cpu->c.r.gpr[RSP];
	if (v->home == r)
		return SIL_VMX_OK;
	if (v->home)
		spill(cpu, v->home);
	v->home = r;
	fill(cpu, r);
	v->stale = true;
	return SIL_VMX_OK;
}

void *sil_vmptrst(struct sil_cpu *cpu)
{
	return vtx_of(cpu)->cur;
}

enum sil_vmx sil_vmread(struct sil_cpu *cpu, u32 field, u64 *val)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_where *w = vmcs_lookup(v->where, field);

	cpu->n.vmread++;
	if (unlikely(!v->cur))
		return SIL_VMX_FAIL_INVALID;
	if (unlikely(!w))
		return vtx_fail_because(cpu, VMXERR_UNSUPPORTED_VMCS_COMPONENT, "VMREAD_FIELD",
					"the field exists", "31.3, VMREAD", field, 0);
	*val = vmcs_load(w, v->base, field);
	return SIL_VMX_OK;
}

enum sil_vmx sil_vmwrite(struct sil_cpu *cpu, u32 field, u64 val)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_where *w = vmcs_lookup(v->where, field);
	u32 topics;

	cpu->n.vmwrite++;
	if (unlikely(!v->cur))
		return SIL_VMX_FAIL_INVALID;
	if (unlikely(!w))
		return vtx_fail_because(cpu, VMXERR_UNSUPPORTED_VMCS_COMPONENT, "VMWRITE_FIELD",
					"the field exists", "31.3, VMWRITE", field, val);
	/* IA32_VMX_MISC[29] is 1: exit-information fields may be written, so no error 13. */
	topics = w->topics;
	if (unlikely(topics & (T_CTL | T_RFLAGS | T_RIP)))
		topics = check_narrow(field, vmcs_load(w, v->base, field) ^ val, topics);
	if (vmcs_store(w, v->base, field, val))
		v->cur->clean &= ~topics;
	return SIL_VMX_OK;
}

/* ---- Lists ---------------------------------------------------------------------------------- */

bool sil_vmcs_list(const struct sil_machine *m, const u32 *fields, unsigned n,
		   struct sil_vmcs_list *l)
{
	l->n = n;
	if (n > ARRAY_SIZE(l->item))
		return false;
	for (unsigned k = 0; k < n; k++) {
		const struct vmcs_where *w = vmcs_lookup(vtx_machine_of(m)->where, fields[k]);

		if (!w || vmcs_is_high(fields[k]))
			return false;
		l->item[k].field = fields[k];
		l->item[k].topics = w->topics;
		l->item[k].offset = w->offset;
		l->item[k].size = w->size;
		l->item[k].base = w->base;
	}
	return true;
}

void sil_vmread_list(struct sil_cpu *cpu, const struct sil_vmcs_list *l, u64 *val)
{
	u8 *const *base = vtx_of(cpu)->base;

	for (unsigned k = 0; k < l->n; k++) {
		const u8 *p = base[l->item[k].base] + l->item[k].offset;

		switch (l->item[k].size) {
		case 2: val[k] = *(const u16 *)p; break;
		case 4: val[k] = *(const u32 *)p; break;
		default: val[k] = *(const u64 *)p; break;
		}
	}
	cpu->n.vmread += l->n;
}

void sil_vmwrite_list(struct sil_cpu *cpu, const struct sil_vmcs_list *l, const u64 *val)
{
	struct vtx_cpu *v = vtx_of(cpu);

	for (unsigned k = 0; k < l->n; k++) {
		const struct vmcs_where w = {.offset = l->item[k].offset,
					     .size = l->item[k].size,
					     .base = l->item[k].base};
		u32 field = l->item[k].field, topics = l->item[k].topics;
		u64 old = vmcs_load(&w, v->base, field);

		if (!vmcs_store(&w, v->base, field, val[k]))
			continue;
		v->cur->clean &= ~check_narrow(field, old ^ val[k], topics);
	}
	cpu->n.vmwrite += l->n;
}
