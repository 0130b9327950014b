/* SPDX-License-Identifier: MIT */
/* Fast system calls, SWAPGS, FS and GS bases. SDM vol. 2 and vol. 3A, 6.8 (as Intel's processors
 * do). */
#include "isa/exec/segment.h"

static void check_syscall(struct isa_cpu *c)
{
	if (c->mode != ISA_LONG64 || !(c->s.efer & EFER_SCE))
		isa_raise(c, X86_UD);
}

void exec_syscall(struct isa_cpu *c, const struct isa_insn *i)
{
	u16 sel;

	check_syscall(c);
	sel = (u16)(c->r.star >> 32) & ~3u;
	c->r.gpr[RCX] = c->s.rip;
	c->r.gpr[R11] = isa_flags(c) & ~X86_RF;
	c->s.rip = c->r.lstar;
	isa_set_flags(c, isa_flags(c) & ~(c->r.sfmask | X86_RF));
	c->s.seg[CS] = flat_code_seg(sel, 0, true);
	c->s.seg[SS] = flat_stack_seg((u16)(sel + 8), 0);
	isa_mode_changed(c);
}

void exec_sysret(struct isa_cpu *c, const struct isa_insn *i)
{
	bool l = i->opsize == 8;
	u16 sel;

	check_syscall(c);
	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	if (l && !is_canonical(c->r.gpr[RCX], c->va_bits))
		isa_raise_err(c, X86_GP, 0);
	sel = (u16)(c->r.star >> 48);
	c->s.rip = l ? c->r.gpr[RCX] : (u32)c->r.gpr[RCX];
	isa_set_flags(c, (c->r.gpr[R11] & SYSRET_FLAGS) | 2);
	c->s.seg[CS] = flat_code_seg((u16)(sel + (l ? 16 : 0)) | 3, 3, l);
	c->s.seg[SS] = flat_stack_seg((u16)(sel + 8) | 3, 3);
	isa_mode_changed(c);
	c->ops->recheck_events(c);
}

static void check_sysenter(struct isa_cpu *c)
{
	if (is_real(c) || !(c->s.sysenter_cs & 0xfffc))
		isa_raise_err(c, X86_GP, 0);
}

void exec_sysenter(struct isa_cpu *c, const struct isa_insn *i)
{
	bool l = is_lma(c);
	u16 sel;

	check_sysenter(c);
	sel = c->s.sysenter_cs & 0xfffc;
	isa_set_flags(c, isa_flags(c) & ~(X86_VM | X86_IF | X86_RF));
	c->r.gpr[RSP] = l ? c->s.sysenter_esp : (u32)c->s.sysenter_esp;
	c->s.rip = l ? c->s.sysenter_eip : (u32)c->s.sysenter_eip;
	c->s.seg[CS] = flat_code_seg(sel, 0, l);
	c->s.seg[SS] = flat_stack_seg((u16)(sel + 8), 0);
	isa_mode_changed(c);
}

void exec_sysexit(struct isa_cpu *c, const struct isa_insn *i)
{
	bool l = i->opsize == 8;
	u16 sel;

	check_sysenter(c);
	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	if (l &&
	    (!is_canonical(c->r.gpr[RCX], c->va_bits) || !is_canonical(c->r.gpr[RDX], c->va_bits)))
		isa_raise_err(c, X86_GP, 0);
	sel = (u16)((c->s.sysenter_cs & 0xfffc) + (l ? 32 : 16)) | 3;
	c->r.gpr[RSP] = l ? c->r.gpr[RCX] : (u32)c->r.gpr[RCX];
	c->s.rip = l ? c->r.gpr[RDX] : (u32)c->r.gpr[RDX];
	c->s.seg[CS] = flat_code_seg(sel, 3, l);
	c->s.seg[SS] = flat_stack_seg((u16)(sel + 8), 3);
	isa_mode_changed(c);
}

static void check_long(struct isa_cpu *c)
{
	if (c->mode != ISA_LONG64)
		isa_raise(c, X86_UD);
}

void exec_swapgs(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 base = c->s.seg[GS].base;

	check_long(c);
	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	c->s.seg[GS].base = c->r.kernel_gs_base;
	c->r.kernel_gs_base = base;
}

static void check_fsgsbase(struct isa_cpu *c)
{
	check_long(c);
	if (!(c->s.cr4 & CR4_FSGSBASE))
		isa_raise(c, X86_UD);
}

static void read_base(struct isa_cpu *c, const struct isa_insn *i, unsigned seg)
{
	check_fsgsbase(c);
	reg_set(c, i->o[0].reg, i->o[0].size, c->s.seg[seg].base);
}

static void write_base(struct isa_cpu *c, const struct isa_insn *i, unsigned seg)
{
	u64 v = reg_get(c, i->o[0].reg, i->o[0].size);

	check_fsgsbase(c);
	if (!isa_base_canonical(c, v))
		isa_raise_err(c, X86_GP, 0);
	c->s.seg[seg].base = v;
}

void exec_rdfsbase(struct isa_cpu *c, const struct isa_insn *i)
{
	read_base(c, i, FS);
}

void exec_rdgsbase(struct isa_cpu *c, const struct isa_insn *i)
{
	read_base(c, i, GS);
}

void exec_wrfsbase(struct isa_cpu *c, const struct isa_insn *i)
{
	write_base(c, i, FS);
}

void exec_wrgsbase(struct isa_cpu *c, const struct isa_insn *i)
{
	write_base(c, i, GS);
}
