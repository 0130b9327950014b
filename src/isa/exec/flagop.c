/* SPDX-License-Identifier: MIT */
/* Instructions about EFLAGS as a whole or about one flag. SDM vol. 2. */
#include "isa/exec/operand.h"

void exec_clc(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_set_cf(c, false);
}

void exec_stc(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_set_cf(c, true);
}

void exec_cmc(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_set_cf(c, !isa_cf(c));
}

void exec_cld(struct isa_cpu *c, const struct isa_insn *i)
{
	c->s.rflags &= ~X86_DF;
}

void exec_std(struct isa_cpu *c, const struct isa_insn *i)
{
	c->s.rflags |= X86_DF;
}

static void check_lahf(struct isa_cpu *c)
{
	if (c->mode == ISA_LONG64 && !isa_has(c, FEAT_LAHF64))
		isa_raise(c, X86_UD);
}

void exec_lahf(struct isa_cpu *c, const struct isa_insn *i)
{
	check_lahf(c);
	c->r.gpr[RAX] = (c->r.gpr[RAX] & ~0xff00ull) | (isa_flags(c) & 0xff) << 8;
}

void exec_sahf(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 ah = c->r.gpr[RAX] >> 8 & (X86_SF | X86_ZF | X86_AF | X86_PF | X86_CF);

	check_lahf(c);
	isa_set_status(c, ah | (isa_of(c) ? X86_OF : 0));
}

/* ---- Interrupt flag
 * ---------------------------------------------------------------------------------- */

enum if_kind { IF_REAL, IF_VIRTUAL, IF_DENIED };

/* Which of IF and VIF CLI and STI act on: SDM vol. 2A, CLI, table 3-7. */
static enum if_kind which_if(const struct isa_cpu *c)
{
	if (is_real(c))
		return IF_REAL;
	if (is_v86(c)) {
		if (iopl(c) == 3)
			return IF_REAL;
		return c->s.cr4 & CR4_VME ? IF_VIRTUAL : IF_DENIED;
	}
	if (c->cpl <= iopl(c))
		return IF_REAL;
	return c->cpl == 3 && (c->s.cr4 & CR4_PVI) ? IF_VIRTUAL : IF_DENIED;
}

void exec_cli(struct isa_cpu *c, const struct isa_insn *i)
{
	switch (which_if(c)) {
	case IF_REAL: c->s.rflags &= ~X86_IF; break;
	case IF_VIRTUAL: c->s.rflags &= ~X86_VIF; break;
	default: isa_raise_err(c, X86_GP, 0);
	}
}

void exec_sti(struct isa_cpu *c, const struct isa_insn *i)
{
	switch (which_if(c)) {
	case IF_REAL:
		if (c->s.rflags & X86_IF)
			return;
		c->s.rflags |= X86_IF;
		c->s.interruptibility |= ISA_BLOCK_STI;
		c->ops->recheck_events(c);
		break;
	case IF_VIRTUAL:
		if (c->s.rflags & X86_VIP)
			isa_raise_err(c, X86_GP, 0);
		c->s.rflags |= X86_VIF;
		break;
	default: isa_raise_err(c, X86_GP, 0);
	}
}

/* ---- PUSHF, POPF
 * --------------------------------------------------------------------------------------- */

/* In virtual-8086 mode with IOPL < 3, VME lets the 16-bit forms work on VIF instead of IF. */
static bool v86_by_vme(struct isa_cpu *c, const struct isa_insn *i)
{
	if (!is_v86(c) || iopl(c) == 3)
		return false;
	if (i->opsize != 2 || !(c->s.cr4 & CR4_VME))
		isa_raise_err(c, X86_GP, 0);
	return true;
}

void exec_pushf(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 f;

	c->ops->intercept(c, ICPT_PUSHF, 0);
	f = isa_flags(c) & ~(X86_RF | X86_VM);
	if (v86_by_vme(c, i)) {
		f &= ~X86_IF;
		f |= X86_IOPL | (f & X86_VIF ? X86_IF : 0);
	}
	push_val(c, i->opsize, f);
}

void exec_popf(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 old = isa_flags(c), may = X86_STATUS_FLAGS | X86_TF | X86_DF | X86_NT, f;

	c->ops->intercept(c, ICPT_POPF, 0);
	if (v86_by_vme(c, i)) {
		f = stack_peek(c, 0, 2);
		if (((f & X86_IF) && (old & X86_VIP)) || (f & X86_TF))
			isa_raise_err(c, X86_GP, 0);
		may = (may & ~X86_TF) | X86_VIF;
		f = (f & ~X86_VIF) | (f & X86_IF ? X86_VIF : 0);
	} else {
		f = stack_peek(c, 0, i->opsize);
		if (i->opsize > 2)
			may |= X86_AC | X86_ID;
		if (is_v86(c) || c->cpl <= iopl(c))
			may |= X86_IF;
		if (!c->cpl)
			may |= X86_IOPL;
	}
	c->r.gpr[RSP] = sp_moved(c, i->opsize);
	f = (old & ~may) | (f & may);
	if (i->opsize > 2)
		f &= ~X86_RF;
	isa_set_flags(c, f);
	if ((f ^ old) & X86_AC)
		isa_mode_changed(c);
	if (f & ~old & X86_IF)
		c->ops->recheck_events(c);
}
