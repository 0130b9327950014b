/* SPDX-License-Identifier: MIT */
/* Segment registers, descriptor tables and what asks about descriptors. SDM vol. 2. */
#include "isa/exec/segment.h"

/* ---- MOV, PUSH, POP, LDS...
 * ------------------------------------------------------------------------------- */

void exec_mov_from_seg(struct isa_cpu *c, const struct isa_insn *i)
{
	op_set(c, i, 0, c->s.seg[i->o[1].reg].sel);
}

/* Loading SS holds back interrupts and debug traps until after the next instruction (vol.
 * 3A, 6.8.3). */
static void load(struct isa_cpu *c, unsigned seg, u16 sel)
{
	seg_load(c, seg, sel);
	if (seg == SS)
		c->s.interruptibility |= ISA_BLOCK_MOVSS;
}

void exec_mov_to_seg(struct isa_cpu *c, const struct isa_insn *i)
{
	if (i->o[0].reg == CS)
		isa_raise(c, X86_UD);
	load(c, i->o[0].reg, (u16)op_get(c, i, 1));
}

void exec_push_seg(struct isa_cpu *c, const struct isa_insn *i)
{
	push_val(c, i->opsize, c->s.seg[i->o[0].reg].sel);
}

void exec_pop_seg(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 sp = c->r.gpr[RSP];
	u16 sel = (u16)stack_peek(c, 0, i->opsize);

	/* With the old stack's width. */
	sp = sp_moved(c, i->opsize);
	load(c, i->o[0].reg, sel);
	c->r.gpr[RSP] = sp;
}

static void load_far(struct isa_cpu *c, const struct isa_insn *i, unsigned seg)
{
	unsigned size = i->o[0].size;
	u64 la = c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), size + 2, 0);
	u64 off = mem_get(c, la, size, ISA_HOW(i));

	seg_load(c, seg, isa_ld16(c, la + size, ISA_HOW(i)));
	reg_set(c, i->o[0].reg, size, off);
}

void exec_lds(struct isa_cpu *c, const struct isa_insn *i)
{
	load_far(c, i, DS);
}

void exec_les(struct isa_cpu *c, const struct isa_insn *i)
{
	load_far(c, i, ES);
}

void exec_lfs(struct isa_cpu *c, const struct isa_insn *i)
{
	load_far(c, i, FS);
}

void exec_lgs(struct isa_cpu *c, const struct isa_insn *i)
{
	load_far(c, i, GS);
}

void exec_lss(struct isa_cpu *c, const struct isa_insn *i)
{
	load_far(c, i, SS);
}

/* ---- Tables
 * -------------------------------------------------------------------------------------------------
 */

static void check_umip(struct isa_cpu *c)
{
	if (c->cpl && (c->s.cr4 & CR4_UMIP))
		isa_raise_err(c, X86_GP, 0);
}

static void load_table(struct isa_cpu *c, const struct isa_insn *i, struct isa_dtr *t,
		       enum isa_icpt icpt)
{
	bool wide = c->mode == ISA_LONG64;
	unsigned size = wide ? 8 : 4, how = ISA_HOW(i);
	u64 la = c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), size + 2, 0), base;
	u16 limit;

	c->ops->intercept(c, icpt, 0);
	limit = isa_ld16(c, la, how);
	base = mem_get(c, la + 2, size, how);
	if (!wide && i->opsize == 2)
		base &= 0xffffff;
	if (wide && !isa_base_canonical(c, base))
		isa_raise_err(c, X86_GP, 0);
	t->base = base;
	t->limit = limit;
}

static void store_table(struct isa_cpu *c, const struct isa_insn *i, const struct isa_dtr *t,
			enum isa_icpt icpt)
{
	unsigned size = c->mode == ISA_LONG64 ? 8 : 4;
	u8 b[10];
	u64 la;

	check_umip(c);
	la = c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), size + 2, ISA_ACC_WRITE);
	c->ops->intercept(c, icpt, 0);
	host_set(b, 2, t->limit);
	host_set(b + 2, size, t->base);
	isa_write(c, la, b, size + 2, ISA_HOW(i));
}

void exec_lgdt(struct isa_cpu *c, const struct isa_insn *i)
{
	load_table(c, i, &c->s.gdtr, ICPT_LGDT);
}

void exec_lidt(struct isa_cpu *c, const struct isa_insn *i)
{
	load_table(c, i, &c->s.idtr, ICPT_LIDT);
}

void exec_sgdt(struct isa_cpu *c, const struct isa_insn *i)
{
	store_table(c, i, &c->s.gdtr, ICPT_SGDT);
}

void exec_sidt(struct isa_cpu *c, const struct isa_insn *i)
{
	store_table(c, i, &c->s.idtr, ICPT_SIDT);
}

/* A selector to a register of the operand's size, or to 16 bits of memory. */
static void store_sel(struct isa_cpu *c, const struct isa_insn *i, u16 sel)
{
	if (i->o[0].kind == OK_MEM)
		isa_st16(c, isa_ea(c, i, ISA_ACC_WRITE), sel, ISA_HOW(i));
	else
		reg_set(c, i->o[0].reg, i->o[0].size, sel);
}

void exec_sldt(struct isa_cpu *c, const struct isa_insn *i)
{
	check_umip(c);
	if (i->o[0].kind == OK_MEM)
		isa_ea(c, i, ISA_ACC_WRITE);
	c->ops->intercept(c, ICPT_SLDT, 0);
	store_sel(c, i, c->s.seg[LDTR].sel);
}

void exec_str(struct isa_cpu *c, const struct isa_insn *i)
{
	check_umip(c);
	if (i->o[0].kind == OK_MEM)
		isa_ea(c, i, ISA_ACC_WRITE);
	c->ops->intercept(c, ICPT_STR, 0);
	store_sel(c, i, c->s.seg[TR].sel);
}

void exec_lldt(struct isa_cpu *c, const struct isa_insn *i)
{
	struct desc d;
	u16 sel;

	if (i->o[0].kind == OK_MEM)
		isa_ea(c, i, 0);
	c->ops->intercept(c, ICPT_LLDT, 0);
	sel = (u16)op_get(c, i, 0);
	if (sel_null(sel)) {
		c->s.seg[LDTR] = (struct isa_seg){.sel = sel, .ar = SEG_AR_UNUSABLE};
		return;
	}
	if (sel & 4)
		isa_raise_err(c, X86_GP, sel_err(sel));
	desc_get(c, sel, &d, X86_GP, 0);
	if (desc_s(&d) || desc_type(&d) != DT_LDT)
		isa_raise_err(c, X86_GP, sel_err(sel));
	if (!desc_p(&d))
		isa_raise_err(c, X86_NP, sel_err(sel));
	if (is_lma(c))
		desc_get_high(c, sel, &d, 0);
	c->s.seg[LDTR] = desc_seg(&d, sel);
}

void exec_ltr(struct isa_cpu *c, const struct isa_insn *i)
{
	struct desc d;
	unsigned type;
	u16 sel;

	if (i->o[0].kind == OK_MEM)
		isa_ea(c, i, 0);
	c->ops->intercept(c, ICPT_LTR, 0);
	sel = (u16)op_get(c, i, 0);
	if (sel_null(sel))
		isa_raise_err(c, X86_GP, 0);
	if (sel & 4)
		isa_raise_err(c, X86_GP, sel_err(sel));
	desc_get(c, sel, &d, X86_GP, 0);
	type = desc_type(&d);
	if (desc_s(&d) || !(type == DT_TSS || (type == DT_TSS16 && !is_lma(c))))
		isa_raise_err(c, X86_GP, sel_err(sel));
	if (!desc_p(&d))
		isa_raise_err(c, X86_NP, sel_err(sel));
	if (is_lma(c)) {
		desc_get_high(c, sel, &d, 0);
		if (!isa_base_canonical(c, desc_seg(&d, sel).base))
			isa_raise_err(c, X86_GP, sel_err(sel));
	}
	desc_update(c, &d, 0, BIT(9));
	d.raw |= BIT(41);
	c->s.seg[TR] = desc_seg(&d, sel);
}

/* ---- Questions about descriptors
 * ------------------------------------------------------------------------------ */

static void set_zf(struct isa_cpu *c, bool zf)
{
	isa_set_status(c, (isa_flags(c) & ~X86_ZF) | (zf ? X86_ZF : 0));
}

/* Visible at CPL and RPL? Conforming code always is. */
static bool visible(const struct isa_cpu *c, const struct desc *d, u16 sel)
{
	if (desc_code(d) && desc_conforming(d))
		return true;
	return desc_dpl(d) >= c->cpl && desc_dpl(d) >= (sel & 3u);
}

/* Vol. 2A, LAR and LSL, tables 3-53 and 3-54: which system types answer. */
static bool answers(const struct isa_cpu *c, const struct desc *d, bool lar)
{
	const u16 lsl_legacy =
		BIT(DT_TSS16) | BIT(DT_LDT) | BIT(DT_TSS16_BUSY) | BIT(DT_TSS) | BIT(DT_TSS_BUSY);
	const u16 lsl_long = BIT(DT_LDT) | BIT(DT_TSS) | BIT(DT_TSS_BUSY);
	u16 types = is_lma(c) ? lsl_long : lsl_legacy;

	if (desc_s(d))
		return true;
	if (lar)
		types |= is_lma(c) ? BIT(DT_CALL)
				   : BIT(DT_CALL16) | BIT(DT_TASK_GATE) | BIT(DT_CALL);
	return types >> desc_type(d) & 1;
}

static bool ask(struct isa_cpu *c, const struct isa_insn *i, struct desc *d, u16 *sel, bool lar)
{
	*sel = i->o[1].kind == OK_MEM ? isa_ld16(c, isa_ea(c, i, 0), ISA_HOW(i))
				      : (u16)c->r.gpr[i->o[1].reg];
	return !sel_null(*sel) && desc_fetch(c, *sel, d) && answers(c, d, lar) &&
	       visible(c, d, *sel);
}

void exec_lar(struct isa_cpu *c, const struct isa_insn *i)
{
	struct desc d;
	u16 sel;
	bool ok = ask(c, i, &d, &sel, true);

	set_zf(c, ok);
	if (ok)
		reg_set(c, i->o[0].reg, i->o[0].size,
			d.raw >> 32 & (i->o[0].size == 2 ? 0xff00 : 0xf0ff00));
}

void exec_lsl(struct isa_cpu *c, const struct isa_insn *i)
{
	struct desc d;
	u16 sel;
	bool ok = ask(c, i, &d, &sel, false);

	set_zf(c, ok);
	if (ok)
		reg_set(c, i->o[0].reg, i->o[0].size, desc_seg(&d, sel).limit);
}

static void verify(struct isa_cpu *c, const struct isa_insn *i, bool write)
{
	struct desc d;
	u16 sel = i->o[0].kind == OK_MEM ? isa_ld16(c, isa_ea(c, i, 0), ISA_HOW(i))
					 : (u16)c->r.gpr[i->o[0].reg];
	bool ok = !sel_null(sel) && desc_fetch(c, sel, &d) && desc_s(&d) && visible(c, &d, sel);

	if (ok)
		ok = write ? desc_writable(&d) : !desc_code(&d) || (desc_type(&d) & 2);
	set_zf(c, ok);
}

void exec_verr(struct isa_cpu *c, const struct isa_insn *i)
{
	verify(c, i, false);
}

void exec_verw(struct isa_cpu *c, const struct isa_insn *i)
{
	verify(c, i, true);
}

static u64 arpl(struct isa_cpu *c, unsigned size, u64 a, u64 rpl)
{
	bool raise = (a & 3) < rpl;

	set_zf(c, raise);
	return raise ? (a & ~3ull) | rpl : a;
}

void exec_arpl(struct isa_cpu *c, const struct isa_insn *i)
{
	rmw_op0(c, i, arpl, op_get(c, i, 1) & 3);
}
