// SPDX-License-Identifier: MIT
/*
 * VMREAD and VMWRITE through a shadow VMCS, as they mostly are: between registers, of a field that
 * exists; PAUSE in loops that may become too long. Everything else is left to the handlers
 * (vmxinsn.c, intercept.c).
 *
 * Translated code calls this with the guest's vector registers in the host's: the file is compiled
 * for general registers only, and calls nothing outside.
 */
#include "isa/insn_table.h"
#include "silicon/vtx/vtx.h"

bool vtx_lean_vmx(struct sil_cpu *cpu, const struct isa_insn *i)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	bool write = i->op == ISA_OP_VMWRITE;
	u64 field = cpu->c.r.gpr[i->o[!write].reg], link, *gpr = &cpu->c.r.gpr[i->o[write].reg];
	const struct vmcs_where *w;
	struct vmcs_region *r;
	u8 *base[VMCS_NBASES];
	const u8 *map;

	if (cpu->c.cpl || !(v->cpu2 & SECONDARY_EXEC_SHADOW_VMCS) || field >> 15)
		return false;
	map = (const u8 *)(write ? VF(v->cur, VMWRITE_BITMAP) : VF(v->cur, VMREAD_BITMAP));
	link = VF(v->cur, VMCS_LINK_POINTER);
	w = vmcs_lookup(v->where, (u32)field);
	if ((map[field >> 3] >> (field & 7) & 1) || link == ~0ull || !w)
		return false;
	r = (struct vmcs_region *)link;
	vmcs_region_bases(r, base);
	if (write) {
		if (vmcs_store(w, base, (u32)field, *gpr))
			r->clean &= ~w->topics;
		cpu->n.vmwrite_shadow++;
	} else {
		*gpr = vmcs_load(w, base, (u32)field);
		cpu->n.vmread_shadow++;
	}
	return true;
}

bool vtx_lean_pause(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);

	if (v->cpu1 & CPU_BASED_PAUSE_EXITING)
		return false;
	if (!(v->cpu2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING) || cpu->c.cpl)
		return true;
	return cpu->m->cfg.tsc_native && vtx_ple_goes_on(v, __builtin_ia32_rdtsc());
}
