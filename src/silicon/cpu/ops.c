/* SPDX-License-Identifier: MIT */
/* The isa ops that are the engine's, apart from memory (paging/access.c) and soft_int (engine.c).
 */
#include <sched.h>

#include "base/log.h"
#include "silicon/cpu/debug.h"
#include "silicon/interp/codepage.h"
#include "silicon/paging/tlb.h"

void op_port_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la)
{
	BUG("port input of %u bytes at %#x did not exit", size, port);
}

void op_port_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la)
{
	BUG("port output of %u bytes at %#x did not exit", size, port);
}

void op_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg) {}

u64 op_rdmsr(struct isa_cpu *c, u32 index)
{
	u64 val;

	if (!cpu_rdmsr(sil_of(c), index, &val))
		isa_raise_err(c, X86_GP, 0);
	return val;
}

void op_wrmsr(struct isa_cpu *c, u32 index, u64 val)
{
	if (!cpu_wrmsr(sil_of(c), index, val))
		isa_raise_err(c, X86_GP, 0);
}

void op_cpuid(struct isa_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
	sil_cpuid(sil_of(c)->m, leaf, subleaf, out);
}

u64 op_rdtsc(struct isa_cpu *c)
{
	return sil_host_tsc(sil_of(c)->m);
}

u64 op_rdpmc(struct isa_cpu *c, u32 index)
{
	/* CPUID leaf 0xa reports no counters. */
	isa_raise_err(c, X86_GP, 0);
}

u64 op_random(struct isa_cpu *c)
{
	const struct sil_config *cfg = &sil_of(c)->m->cfg;

	return cfg->host->random(cfg->host_opaque);
}

void op_hlt(struct isa_cpu *c)
{
	c->s.activity = ISA_HLT;
	/* The boundary after this instruction waits. */
	cpu_request(sil_of(c), SIL_REQ_EVENT);
}

void op_mwait(struct isa_cpu *c)
{
	/* Waking at once is always allowed: SDM vol. 2B, MWAIT. */
}

void op_pause(struct isa_cpu *c) {}

void op_wbinvd(struct isa_cpu *c) {}

void op_invlpg(struct isa_cpu *c, u64 la)
{
	struct sil_cpu *cpu = sil_of(c);

	if (c->mode == ISA_LONG64 && !is_canonical(la, c->va_bits))
		return;
	tlb_invlpg(cpu, la);
}

/* SDM vol. 2A, INVPCID */
void op_invpcid(struct isa_cpu *c, unsigned type, u16 pcid, u64 la)
{
	struct sil_cpu *cpu = sil_of(c);

	switch (type) {
	case 0: tlb_flush_pcid_page(cpu, pcid, la, true); break;
	case 1: tlb_flush_pcid(cpu, pcid, true); break;
	case 2: tlb_flush_vpid(cpu, cpu->world.vpid, false); break;
	default: tlb_flush_vpid(cpu, cpu->world.vpid, true); break;
	}
}

void op_vmx(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}

void op_mode_changed(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);

	cpu->ac_check = c->cpl == 3 && (c->s.rflags & X86_AC) && (c->s.cr0 & CR0_AM);
	tlb_switch(cpu);
}

void op_recheck_events(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);

	cpu->block_end = NULL;
	if (cpu->attention)
		cpu_request(cpu, SIL_REQ_EVENT);
}

void op_serialize(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);

	cpu->block_end = NULL;
	if (cpu_requested(cpu, SIL_REQ_CODE))
		code_serve(cpu);
}
