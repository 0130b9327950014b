/* SPDX-License-Identifier: MIT */
/* MSRs that are part of the register state (SDM vol. 4). */
#include "isa/feat.h"
#include "silicon/cpu/cpu.h"
#include "silicon/cpu/debug.h"
#include "silicon/paging/tlb.h"
#include "spec/msr.h"

#define MSR_IA32_PKRS 0x6e1

/* Where a plain MSR lives; NULL if @index is none. */
static u64 *plain(struct sil_cpu *cpu, u32 index)
{
	struct isa_cpu *c = &cpu->c;

	switch (index) {
	case MSR_FS_BASE: return &c->s.seg[FS].base;
	case MSR_GS_BASE: return &c->s.seg[GS].base;
	case MSR_KERNEL_GS_BASE: return &c->r.kernel_gs_base;
	case MSR_STAR: return &c->r.star;
	case MSR_LSTAR: return &c->r.lstar;
	case MSR_CSTAR: return &c->r.cstar;
	case MSR_SYSCALL_MASK: return &c->r.sfmask;
	case MSR_TSC_AUX: return &c->r.tsc_aux;
	case MSR_IA32_SYSENTER_CS: return &c->s.sysenter_cs;
	case MSR_IA32_SYSENTER_ESP: return &c->s.sysenter_esp;
	case MSR_IA32_SYSENTER_EIP: return &c->s.sysenter_eip;
	case MSR_IA32_CR_PAT: return &c->s.pat;
	case MSR_IA32_DEBUGCTLMSR: return &c->s.debugctl;
	case MSR_IA32_SPEC_CTRL: return &c->r.spec_ctrl;
	case MSR_IA32_XSS: return &c->r.xss;
	case MSR_IA32_XFD: return &c->r.xfd;
	case MSR_IA32_XFD_ERR: return &c->r.xfd_err;
	case MSR_EFER: return &c->s.efer;
	default: return NULL;
	}
}

bool cpu_rdmsr(struct sil_cpu *cpu, u32 index, u64 *val)
{
	const u64 *p = plain(cpu, index);

	if (index == MSR_IA32_PKRS && (cpu_cr4_supported(cpu->m) & CR4_PKS)) {
		*val = cpu->pkrs;
		return true;
	}
	if (!p)
		return false;
	*val = *p;
	return true;
}

/* Each byte a memory type that exists: SDM vol. 3A, 12.12.2. */
static bool pat_valid(u64 v)
{
	unsigned k;

	for (k = 0; k < 8; k++, v >>= 8)
		if ((v & 0xff) > 7 || (v & 0xff) == 2 || (v & 0xff) == 3)
			return false;
	return true;
}

static bool write_efer(struct sil_cpu *cpu, u64 val)
{
	struct isa_cpu *c = &cpu->c;
	u64 old = c->s.efer;

	if (val & ~cpu_efer_supported(cpu->m))
		return false;
	if (((val ^ old) & EFER_LME) && (c->s.cr0 & CR0_PG))
		return false;
	/* LMA is the processor's. */
	val = (val & ~EFER_LMA) | (old & EFER_LMA);
	c->s.efer = val;
	if ((val ^ old) & EFER_NXE)
		tlb_flush_vpid(cpu, cpu->world.vpid, false);
	isa_mode_changed(c);
	return true;
}

bool cpu_wrmsr(struct sil_cpu *cpu, u32 index, u64 val)
{
	struct isa_cpu *c = &cpu->c;
	u64 *p = plain(cpu, index);

	switch (index) {
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_IA32_SYSENTER_ESP:
	case MSR_IA32_SYSENTER_EIP:
		/* Canonical for the widest mode the processor has: SDM vol. 3A, 4.5.2. */
		if (!isa_base_canonical(c, val))
			return false;
		break;
	case MSR_SYSCALL_MASK:
	case MSR_TSC_AUX:
	case MSR_IA32_SYSENTER_CS:
		if (val >> 32)
			return false;
		break;
	case MSR_IA32_CR_PAT:
		if (!pat_valid(val))
			return false;
		break;
	case MSR_IA32_DEBUGCTLMSR:
		if (val & ~(DEBUGCTL_LBR | DEBUGCTL_BTF))
			return false;
		break;
	case MSR_IA32_SPEC_CTRL:
		if (val & ~7ull)
			return false;
		break;
	case MSR_IA32_XSS:
	case MSR_IA32_XFD:
	case MSR_IA32_XFD_ERR:
		/* No supervisor states and no dynamically enabled ones. */
		if (val)
			return false;
		break;
	case MSR_IA32_PRED_CMD: return !(val & ~1ull);
	case MSR_IA32_FLUSH_CMD: return !(val & ~1ull);
	case MSR_IA32_PKRS:
		if (!(cpu_cr4_supported(cpu->m) & CR4_PKS) || val >> 32)
			return false;
		cpu->pkrs = (u32)val;
		tlb_switch(cpu);
		return true;
	case MSR_EFER: return write_efer(cpu, val);
	default: break;
	}
	if (!p)
		return false;
	*p = val;
	return true;
}
