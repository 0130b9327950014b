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
	NOTIFY_WINDOW,
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

static const struct vmcs_where *lookup(const struct vmcs_where *where, u32 field)
{
	const struct vmcs_where *w;

	if (unlikely(field & ~VMCS_ENC_VALID_BITS))
		return NULL;
	w = &where[VMCS_KEY(field)];
	/* Only 64-bit fields have a HIGH half to be accessed by itself (25.11.2). */
	if (unlikely(!w->size || (vmcs_is_high(field) && vmcs_width(field) != VMCS_WIDTH_64)))
		return NULL;
	return w;
}

static u64 load(const struct vmcs_where *w, u8 *const base[], u32 field)
{
	const u8 *p = base[w->base] + w->offset;
	u64 v;

	switch (w->size) {
	case 2: v = *(const u16 *)p; break;
	case 4: v = *(const u32 *)p; break;
	default: v = *(const u64 *)p; break;
	}
	return vmcs_is_high(field) ? v >> 32 : v;
}

/* Returns whether the field changed. */
static bool store(const struct vmcs_where *w, u8 *const base[], u32 field, u64 val)
{
	u8 *p = base[w->base] + w->offset;
	u64 old;

	switch (w->size) {
	case 2:
		old = *(u16 *)p;
		*(u16 *)p = val;
		return old != (u16)val;
	case 4:
		old = *(u32 *)p;
		*(u32 *)p = val;
		return old != (u32)val;
	default: break;
	}
	old = *(u64 *)p;
	switch (vmcs_width(field)) {
	case VMCS_WIDTH_16: val &= 0xffff; break;
	case VMCS_WIDTH_32: val &= 0xffffffff; break;
	case VMCS_WIDTH_64:
		if (vmcs_is_high(field))
			val = val << 32 | (u32)old;
		break;
	case VMCS_WIDTH_NATURAL: break;
	}
	*(u64 *)p = val;
	return old != val;
}

u64 vmcs_read(const struct sil_cpu *cpu, u32 field)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_where *w = lookup(v->where, field);

	return w ? load(w, v->base, field) : 0;
}

/* The homes of a region that is not current are its copies of them. */
static void region_bases(struct vmcs_region *r, u8 *base[])
{
	base[VMCS_IN_REGION] = (u8 *)r;
	base[VMCS_IN_CPU] = (u8 *)&r->sys - offsetof(struct isa_cpu, s);
	base[VMCS_IN_RSP] = (u8 *)&r->rsp;
}

bool vmcs_region_read(const struct vtx_machine *vm, const struct vmcs_region *r, u32 field,
		      u64 *val)
{
	const struct vmcs_where *w = lookup(vm->where, field);
	u8 *base[VMCS_NBASES];

	if (!w)
		return false;
	region_bases((struct vmcs_region *)r, base);
	*val = load(w, base, field);
	return true;
}

bool vmcs_region_write(const struct vtx_machine *vm, struct vmcs_region *r, u32 field, u64 val)
{
	const struct vmcs_where *w = lookup(vm->where, field);
	u8 *base[VMCS_NBASES];

	if (!w)
		return false;
	region_bases(r, base);
	if (store(w, base, field, val))
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
		region_bases(r, v->base);
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
	const struct vmcs_where *w = lookup(v->where, field);

	cpu->n.vmread++;
	if (unlikely(!v->cur))
		return SIL_VMX_FAIL_INVALID;
	if (unlikely(!w))
		return vtx_fail_because(cpu, VMXERR_UNSUPPORTED_VMCS_COMPONENT, "VMREAD_FIELD",
					"the field exists", "31.3, VMREAD", field, 0);
	*val = load(w, v->base, field);
	return SIL_VMX_OK;
}

/* What is written around most injections touches few rows: tell such writes by the bits changed. */
static u32 narrow(const struct vtx_cpu *v, u32 field, u64 val, u32 topics)
{
	const u64 windows = CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING;
	u64 rflags;

	/* A shadow VMCS has its own copy of this part, and not as an aligned struct isa_cpu. */
	memcpy(&rflags, (const u8 *)v->base[VMCS_IN_CPU] + offsetof(struct isa_cpu, s.rflags),
	       sizeof(rflags));
	if (field == CPU_BASED_VM_EXEC_CONTROL &&
	    !((VF(v->cur, CPU_BASED_VM_EXEC_CONTROL) ^ (u32)val) & ~windows))
		return T_WINDOW;
	if (field == GUEST_RFLAGS && !((rflags ^ val) & X86_VM))
		return topics & ~T_VM;
	return topics;
}

enum sil_vmx sil_vmwrite(struct sil_cpu *cpu, u32 field, u64 val)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_where *w = lookup(v->where, field);
	u32 topics;

	cpu->n.vmwrite++;
	if (unlikely(!v->cur))
		return SIL_VMX_FAIL_INVALID;
	if (unlikely(!w))
		return vtx_fail_because(cpu, VMXERR_UNSUPPORTED_VMCS_COMPONENT, "VMWRITE_FIELD",
					"the field exists", "31.3, VMWRITE", field, val);
	/* IA32_VMX_MISC[29] is 1: exit-information fields may be written, so no error 13. */
	topics = w->topics;
	if (unlikely(topics & (T_CTL | T_RFLAGS)))
		topics = narrow(v, field, val, topics);
	if (store(w, v->base, field, val))
		v->cur->clean &= ~topics;
	return SIL_VMX_OK;
}
