/* SPDX-License-Identifier: MIT */
/* What stands before an instruction's own work: existence, privilege, availability of the unit. */
#include "isa/exec/x87.h"
#include "isa/insn_table.h"

void isa_exec_ud(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}

/* SDM vol. 3A, 6.15, "#GP: ... an instruction longer than 15 bytes". */
void isa_exec_toolong(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise_err(c, X86_GP, 0);
}

/* SDM vol. 3A, table 2-2 and 13.1-13.4; a pending x87 exception: vol. 1, 8.7. */
static void check_unit(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 cr0 = c->s.cr0;

	if (i->flags & ISA_F_AVX) {
		if (!(c->s.cr4 & CR4_OSXSAVE) || (c->r.xcr0 & 6) != 6)
			isa_raise(c, X86_UD);
		if (cr0 & CR0_TS)
			isa_raise(c, X86_NM);
		return;
	}
	if (i->flags & ISA_F_SSE) {
		if ((cr0 & CR0_EM) || !(c->s.cr4 & CR4_OSFXSR))
			isa_raise(c, X86_UD);
		if (cr0 & CR0_TS)
			isa_raise(c, X86_NM);
	}
	if (i->flags & ISA_F_MMX) {
		if (cr0 & CR0_EM)
			isa_raise(c, X86_UD);
		if (cr0 & CR0_TS)
			isa_raise(c, X86_NM);
	}
	if ((i->flags & ISA_F_FPU) && (cr0 & (CR0_EM | CR0_TS)))
		isa_raise(c, X86_NM);
	if ((i->flags & (ISA_F_MMX | ISA_F_FPU)) && !(i->flags & ISA_F_NOWAIT))
		isa_check_mf(c);
}

void isa_check_mf(struct isa_cpu *c)
{
	/* ES follows from the flags; state that was set from outside may have it wrong. */
	if (likely(!(c->r.x87.fsw & ~c->r.x87.fcw & FSW_FLAGS)))
		return;
	/* With CR0.NE clear, the exception leaves the chip as FERR# and comes back as IRQ 13. */
	if (!(c->s.cr0 & CR0_NE))
		c->ops->intercept(c, ICPT_FERR, 0);
	isa_raise(c, X86_MF);
}

void isa_exec_gated(struct isa_cpu *c, const struct isa_insn *i)
{
	const struct isa_row *row = &isa_rows[i->op];

	if (!isa_has(c, row->feat))
		isa_raise(c, X86_UD);
	if ((i->flags & ISA_F_NOREAL) && (!(c->s.cr0 & CR0_PE) || (c->s.rflags & X86_VM)))
		isa_raise(c, X86_UD);
	if ((i->flags & ISA_F_NO64) && c->mode == ISA_LONG64)
		isa_raise(c, X86_UD);
	if (i->flags & (ISA_F_AVX | ISA_F_SSE | ISA_F_MMX | ISA_F_FPU))
		check_unit(c, i);
	if ((i->flags & ISA_F_CPL0) && c->cpl)
		isa_raise_err(c, X86_GP, 0);
	row->fn(c, i);
}
