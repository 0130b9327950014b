/* SPDX-License-Identifier: MIT */
/* IRET and the software interrupts. SDM vol. 2A, INT and IRET; vol. 3B, 21.2-21.3 (virtual-8086).
 */
#include "isa/exec/segment.h"

#define IRET_FLAGS16 (X86_STATUS_FLAGS | X86_TF | X86_DF | X86_NT)

static void iret_real(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->opsize;
	u64 rip = stack_peek(c, 0, size), f = stack_peek(c, 2 * size, size), old = isa_flags(c);
	u16 sel = (u16)stack_peek(c, size, size);
	u64 may = IRET_FLAGS16 | X86_IF | (size > 2 ? X86_RF | X86_AC | X86_ID : 0);

	if (is_v86(c)) {
		if (iopl(c) < 3) {
			/* VME: the flags on the stack speak of the virtual IF. */
			if (size > 2 || !(c->s.cr4 & CR4_VME))
				isa_raise_err(c, X86_GP, 0);
			if (((f & X86_IF) && (old & X86_VIP)) || (f & X86_TF))
				isa_raise_err(c, X86_GP, 0);
			may = (may & ~(X86_IF | X86_TF)) | X86_VIF;
			f = (f & ~X86_VIF) | (f & X86_IF ? X86_VIF : 0);
		}
	} else {
		may |= X86_IOPL;
	}
	if (rip > c->s.seg[CS].limit)
		isa_raise_err(c, X86_GP, 0);
	c->r.gpr[RSP] = sp_moved(c, 3 * size);
	isa_set_flags(c, (old & ~may) | (f & may));
	seg_load_real(c, CS, sel);
	c->s.rip = rip;
	isa_mode_changed(c);
}

static void iret_task(struct isa_cpu *c)
{
	const struct isa_seg *tr = &c->s.seg[TR];
	u16 link;

	if (is_lma(c))
		isa_raise_err(c, X86_GP, 0);
	if (tr->limit < 1)
		isa_raise_err(c, X86_TS, sel_err(tr->sel));
	sys_read(c, (u32)tr->base, &link, 2);
	task_switch(c, link, TASK_IRET, false, 0, c->s.rip, 0);
}

/* To virtual-8086 mode, from CPL 0 with 32-bit operands. */
static void iret_v86(struct isa_cpu *c, u64 rip, u16 cs, u64 f)
{
	static const u8 order[] = {SS, ES, DS, FS, GS};
	u64 sp = stack_peek(c, 12, 4), old = isa_flags(c);
	u64 may = IRET_FLAGS16 | X86_IF | X86_IOPL | X86_RF | X86_AC | X86_ID | X86_VIF | X86_VIP |
		  X86_VM;
	u16 sel[5];
	unsigned k;

	for (k = 0; k < 5; k++)
		sel[k] = (u16)stack_peek(c, 16 + 4 * k, 4);
	if (rip > 0xffff)
		isa_raise_err(c, X86_GP, 0);
	isa_set_flags(c, (old & ~may) | (f & may));
	seg_load_real(c, CS, cs);
	for (k = 0; k < 5; k++)
		seg_load_real(c, order[k], sel[k]);
	c->r.gpr[RSP] = (u32)sp;
	c->s.rip = rip;
	isa_mode_changed(c);
}

static void iret_prot(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->opsize;
	u64 rip, f, old = isa_flags(c), may = IRET_FLAGS16;
	u16 sel;

	if (c->s.rflags & X86_NT) {
		iret_task(c);
		return;
	}
	rip = stack_peek(c, 0, size);
	sel = (u16)stack_peek(c, size, size);
	f = stack_peek(c, 2 * size, size);
	if ((f & X86_VM) && !c->cpl && size == 4 && !is_lma(c)) {
		iret_v86(c, rip, sel, f);
		return;
	}
	if (size > 2)
		may |= X86_RF | X86_AC | X86_ID;
	if (c->cpl <= iopl(c))
		may |= X86_IF;
	if (!c->cpl)
		may |= X86_IOPL | (size > 2 ? X86_VIF | X86_VIP : 0);
	far_return(c, sel, rip, 3 * size, 0, size, c->mode == ISA_LONG64);
	isa_set_flags(c, (old & ~may) | (f & may));
	if ((f ^ old) & may & X86_AC)
		isa_mode_changed(c);
}

void exec_iret(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_IRET, 0);
	/* NMIs are unblocked even if the instruction goes on to fault (vol. 3A, 6.7.1). */
	c->s.interruptibility &= ~(u32)ISA_BLOCK_NMI;
	if (is_prot(c))
		iret_prot(c, i);
	else
		iret_real(c, i);
	c->ops->recheck_events(c);
}

/* ---- INT n, INT3, INTO, INT1
 * ------------------------------------------------------------------------------- */

/* Bit @vector of the interrupt redirection bitmap, the 32 bytes below the I/O bitmap. */
static bool redirected(struct isa_cpu *c, unsigned vector)
{
	const struct isa_seg *tr = &c->s.seg[TR];
	unsigned off;
	u16 iobase;
	u8 bits;

	if (tr->limit < 0x67)
		isa_raise_err(c, X86_GP, 0);
	sys_read(c, (u32)(tr->base + 0x66), &iobase, 2);
	off = iobase - 32 + vector / 8;
	if (off > tr->limit)
		isa_raise_err(c, X86_GP, 0);
	sys_read(c, (u32)(tr->base + off), &bits, 1);
	return !(bits >> (vector % 8) & 1);
}

/* Through the virtual-8086 task's own vector table at linear address 0. */
static void int_v86(struct isa_cpu *c, unsigned vector)
{
	struct new_stack st = stack_current(c, 2);
	u64 f = isa_flags(c), v[3];
	u32 entry;

	c->ops->mem_read(c, vector * 4, &entry, 4, 0);
	v[0] = f;
	if (iopl(c) < 3)
		v[0] = (f & ~X86_IF) | X86_IOPL | (f & X86_VIF ? X86_IF : 0);
	v[1] = c->s.seg[CS].sel;
	v[2] = c->s.rip;
	stack_push(c, &st, v, 3);
	stack_commit(c, &st, 3);
	isa_set_flags(c, f & ~(X86_TF | (iopl(c) < 3 ? X86_VIF : X86_IF)));
	seg_load_real(c, CS, (u16)(entry >> 16));
	c->s.rip = entry & 0xffff;
	isa_mode_changed(c);
}

void exec_int(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned vector = (u8)i->imm;

	if (is_v86(c)) {
		if ((c->s.cr4 & CR4_VME) && redirected(c, vector)) {
			int_v86(c, vector);
			return;
		}
		if (iopl(c) < 3)
			isa_raise_err(c, X86_GP, 0);
	}
	c->ops->intercept(c, ICPT_INTN, vector);
	c->ops->soft_int(c, vector, EV_SW_INT);
}

void exec_int3(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->soft_int(c, X86_BP, EV_SW_EXC);
}

void exec_into(struct isa_cpu *c, const struct isa_insn *i)
{
	if (isa_of(c))
		c->ops->soft_int(c, X86_OFV, EV_SW_EXC);
}

void exec_int1(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->soft_int(c, X86_DB, EV_PRIV_SW_EXC);
}
