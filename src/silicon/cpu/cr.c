/* SPDX-License-Identifier: MIT */
/* Writes of control registers (SDM vol. 3A, 2.5; vol. 2B, MOV to control registers). */
#include <string.h>

#include "silicon/cpu/debug.h"
#include "silicon/paging/tlb.h"

static __noreturn void gp0(struct sil_cpu *cpu)
{
	isa_raise_err(&cpu->c, X86_GP, 0);
}

void cpu_context_changed(struct sil_cpu *cpu)
{
	tlb_fetch_lost(cpu);
	isa_mode_changed(&cpu->c);
	cpu_update_step(cpu);
}

static bool pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

#define CR0_DEFINED                                                                                \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
	 CR0_PG)

static void write_cr0(struct sil_cpu *cpu, u64 val)
{
	struct isa_sys *s = &cpu->c.s;
	u64 old = s->cr0, efer = s->efer, pdpte[4];

	if (val >> 32)
		gp0(cpu);
	val = (val & CR0_DEFINED) | CR0_ET;
	if ((val & CR0_PG) && !(val & CR0_PE))
		gp0(cpu);
	if ((val & CR0_NW) && !(val & CR0_CD))
		gp0(cpu);
	if (!(val & CR0_WP) && (s->cr4 & CR4_CET))
		gp0(cpu);
	if ((val & CR0_PG) && !(old & CR0_PG) && (efer & EFER_LME)) {
		if (!(s->cr4 & CR4_PAE) || (s->seg[CS].ar & SEG_AR_L))
			gp0(cpu);
		efer |= EFER_LMA;
	}
	if (!(val & CR0_PG) && (old & CR0_PG)) {
		if ((s->cr4 & CR4_PCIDE) || cpu->c.mode == ISA_LONG64)
			gp0(cpu);
		efer &= ~EFER_LMA;
	}
	if (pae_paging(val, s->cr4, efer) && ((val ^ old) & (CR0_CD | CR0_NW | CR0_PG))) {
		if (!cpu_load_pdptes(cpu, s->cr3, pdpte))
			gp0(cpu);
		memcpy(s->pdptr, pdpte, sizeof(pdpte));
	}
	s->cr0 = val;
	s->efer = efer;
	/* Linear addresses mean something else now; nothing survives (4.10.4.1). */
	if ((val ^ old) & (CR0_PG | CR0_PE))
		tlb_flush_vpid(cpu, cpu->world.vpid, false);
	cpu_context_changed(cpu);
}

static void write_cr3(struct sil_cpu *cpu, u64 val)
{
	struct isa_sys *s = &cpu->c.s;
	bool keep = false;
	u64 pdpte[4];

	if (s->cr4 & CR4_PCIDE) {
		keep = val & BIT(63);
		val &= ~BIT(63);
	}
	if (s->efer & EFER_LMA) {
		if (val & cpu_cr3_reserved(cpu->m))
			gp0(cpu);
	} else {
		if (cpu->c.mode != ISA_LONG64)
			val = (u32)val;
		if (pae_paging(s->cr0, s->cr4, s->efer)) {
			if (!cpu_load_pdptes(cpu, val, pdpte))
				gp0(cpu);
			memcpy(s->pdptr, pdpte, sizeof(pdpte));
		}
	}
	tlb_load_cr3(cpu, val, keep);
}

static void write_cr4(struct sil_cpu *cpu, u64 val)
{
	struct isa_sys *s = &cpu->c.s;
	u64 old = s->cr4, diff = val ^ old, pdpte[4];

	if (val & ~cpu->m->cr4_supported)
		gp0(cpu);
	if ((s->efer & EFER_LMA) && (!(val & CR4_PAE) || (diff & CR4_LA57)))
		gp0(cpu);
	if ((val & ~old & CR4_PCIDE) && (!(s->efer & EFER_LMA) || (s->cr3 & 0xfff)))
		gp0(cpu);
	if ((val & CR4_CET) && !(s->cr0 & CR0_WP))
		gp0(cpu);
	if (pae_paging(s->cr0, val, s->efer) && (diff & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP))) {
		if (!cpu_load_pdptes(cpu, s->cr3, pdpte))
			gp0(cpu);
		memcpy(s->pdptr, pdpte, sizeof(pdpte));
	}
	s->cr4 = val;
	/* 4.10.4.1: these invalidate everything of the VPID. */
	if ((diff & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_LA57)) || (old & ~val & CR4_PCIDE) ||
	    (val & ~old & (CR4_SMEP | CR4_SMAP | CR4_PKE)))
		tlb_flush_vpid(cpu, cpu->world.vpid, false);
	cpu_context_changed(cpu);
}

void cpu_write_cr(struct sil_cpu *cpu, unsigned n, u64 val)
{
	switch (n) {
	case 0: write_cr0(cpu, val); break;
	case 2: cpu->c.r.cr2 = val; break;
	case 3: write_cr3(cpu, val); break;
	case 4: write_cr4(cpu, val); break;
	case 8:
		if (val & ~15ull)
			gp0(cpu);
		cpu->c.s.cr8 = val;
		break;
	default: isa_raise(&cpu->c, X86_UD);
	}
}

u64 op_read_cr(struct isa_cpu *c, unsigned n, unsigned gpr)
{
	switch (n) {
	case 0: return c->s.cr0;
	case 2: return c->r.cr2;
	case 3: return c->s.cr3;
	case 4: return c->s.cr4;
	case 8: return c->s.cr8;
	default: isa_raise(c, X86_UD);
	}
}

void op_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr)
{
	cpu_write_cr(sil_of(c), n, val);
}

/* XCR0: x87 always, AVX only with SSE, nothing the processor lacks (SDM vol. 1, 13.3). */
void op_xsetbv(struct isa_cpu *c, u32 index, u64 val)
{
	struct sil_cpu *cpu = sil_of(c);
	u32 r[4];

	sil_cpuid(cpu->m, 0xd, 0, r);
	if (index || !(val & 1) || (val & ~((u64)r[3] << 32 | r[0])) || (val & 6) == 4)
		isa_raise_err(c, X86_GP, 0);
	c->r.xcr0 = val;
}
