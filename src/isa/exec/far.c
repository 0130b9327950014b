/* SPDX-License-Identifier: MIT */
/* Far JMP, CALL and RET. SDM vol. 2 (JMP, CALL, RET pseudocode), vol. 3A, 5.8. */
#include "isa/exec/segment.h"

/* Target of a far JMP or CALL: in the instruction or in memory, offset first. */
static u16 far_target(struct isa_cpu *c, const struct isa_insn *i, u64 *off)
{
	u64 la;

	if (i->o[0].kind == OK_IMM) {
		*off = mask_size(i->imm, i->opsize);
		return i->imm2;
	}
	la = c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), i->opsize + 2u, 0);
	*off = mem_get(c, la, i->opsize, ISA_HOW(i));
	return isa_ld16(c, la + i->opsize, ISA_HOW(i));
}

static void far_commit(struct isa_cpu *c, const struct isa_seg *cs, u64 rip)
{
	c->s.seg[CS] = *cs;
	c->s.rip = rip;
	isa_mode_changed(c);
}

/* A code segment that may be entered at the current privilege by a direct transfer or a jump. */
static void check_code(struct isa_cpu *c, const struct desc *d, u16 sel, bool gate)
{
	bool ok = desc_code(d);

	if (ok && desc_conforming(d))
		ok = desc_dpl(d) <= c->cpl;
	else if (ok)
		ok = desc_dpl(d) == c->cpl && (gate || (sel & 3u) <= c->cpl);
	if (!ok)
		isa_raise_err(c, X86_GP, sel_err(sel));
	if (is_lma(c) && desc_l(d) && desc_db(d))
		isa_raise_err(c, X86_GP, sel_err(sel));
	if (!desc_p(d))
		isa_raise_err(c, X86_NP, sel_err(sel));
}

static void check_gate(struct isa_cpu *c, const struct desc *d, u16 sel)
{
	if (desc_dpl(d) < c->cpl || desc_dpl(d) < (sel & 3u))
		isa_raise_err(c, X86_GP, sel_err(sel));
	if (!desc_p(d))
		isa_raise_err(c, X86_NP, sel_err(sel));
}

/* The code segment a call gate names, before its privilege is judged; and the entry point. */
static u16 through_gate(struct isa_cpu *c, struct desc *gate, u16 sel, struct desc *code, u64 *rip)
{
	u16 target = gate_sel(gate);

	check_gate(c, gate, sel);
	if (is_lma(c))
		desc_get_high(c, sel, gate, 0);
	*rip = desc_type(gate) == DT_CALL16 ? gate_off32(gate) & 0xffff
					    : (u64)gate->high << 32 | gate_off32(gate);
	if (sel_null(target))
		isa_raise_err(c, X86_GP, 0);
	desc_get(c, target, code, X86_GP, 0);
	if (!desc_code(code) || desc_dpl(code) > c->cpl)
		isa_raise_err(c, X86_GP, sel_err(target));
	if (is_lma(c) && (!desc_l(code) || desc_db(code)))
		isa_raise_err(c, X86_GP, sel_err(target));
	if (!desc_p(code))
		isa_raise_err(c, X86_NP, sel_err(target));
	return target;
}

/* Task gates and TSS descriptors; true if @d was one. Not in IA-32e mode. */
static bool to_task(struct isa_cpu *c, const struct desc *d, u16 sel, enum isa_task_source src)
{
	if (is_lma(c))
		return false;
	switch (desc_type(d)) {
	case DT_TASK_GATE:
		check_gate(c, d, sel);
		task_switch(c, gate_sel(d), src, false, 0, c->s.rip, 0);
		return true;
	case DT_TSS16:
	case DT_TSS:
		check_gate(c, d, sel);
		task_switch(c, sel, src, false, 0, c->s.rip, 0);
		return true;
	default: return false;
	}
}

static bool is_call_gate(const struct isa_cpu *c, const struct desc *d)
{
	return desc_type(d) == DT_CALL || (desc_type(d) == DT_CALL16 && !is_lma(c));
}

static void jmp_prot(struct isa_cpu *c, u16 sel, u64 off)
{
	struct isa_seg cs;
	struct desc d, code;
	u16 target;
	u64 rip;

	if (sel_null(sel))
		isa_raise_err(c, X86_GP, 0);
	desc_get(c, sel, &d, X86_GP, 0);
	if (desc_s(&d)) {
		check_code(c, &d, sel, false);
		cs = desc_seg(&d, sel);
		check_code_rip(c, &cs, off);
		cs = code_seg(c, &d, sel, c->cpl);
		far_commit(c, &cs, off);
	} else if (is_call_gate(c, &d)) {
		target = through_gate(c, &d, sel, &code, &rip);
		check_code(c, &code, target, true);
		cs = desc_seg(&code, target);
		check_code_rip(c, &cs, rip);
		cs = code_seg(c, &code, target, c->cpl);
		far_commit(c, &cs, rip);
	} else if (!to_task(c, &d, sel, TASK_JMP)) {
		isa_raise_err(c, X86_GP, sel_err(sel));
	}
}

static void far_real(struct isa_cpu *c, u16 sel, u64 off)
{
	if (off > c->s.seg[CS].limit)
		isa_raise_err(c, X86_GP, 0);
	seg_load_real(c, CS, sel);
	c->s.rip = off;
	isa_mode_changed(c);
}

void exec_jmp_far(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 off;
	u16 sel = far_target(c, i, &off);

	if (is_prot(c))
		jmp_prot(c, sel, off);
	else
		far_real(c, sel, off);
}

/* ---- CALL
 * --------------------------------------------------------------------------------------------- */

/* At the same privilege: return address on the current stack, then go. */
static void call_same(struct isa_cpu *c, struct desc *d, u16 sel, u64 rip, unsigned size)
{
	struct new_stack st = stack_current(c, size);
	u64 v[2] = {c->s.seg[CS].sel, c->s.rip};
	struct isa_seg cs = desc_seg(d, sel);

	check_code_rip(c, &cs, rip);
	/* Pushes of a compatibility-mode caller through a 64-bit gate are 64-bit mode's. */
	if (is_lma(c) && size == 8)
		st.long_mode = true, st.mask = ~0ull;
	stack_push(c, &st, v, 2);
	cs = code_seg(c, d, sel, c->cpl);
	stack_commit(c, &st, 2);
	far_commit(c, &cs, rip);
}

/* Parameters of the outer stack, last pushed first in memory; at most 31. */
static void call_inner(struct isa_cpu *c, const struct desc *gate, struct desc *code, u16 target,
		       u64 rip)
{
	unsigned cpl = desc_dpl(code), size, n, k;
	struct new_stack st, args;
	struct isa_seg cs;
	u64 v[2], param[31];

	size = is_lma(c) ? 8 : desc_type(gate) == DT_CALL ? 4 : 2;
	n = is_lma(c) ? 0 : gate->raw >> 32 & 31;
	for (k = 0; k < n; k++)
		param[n - 1 - k] = stack_peek(c, k * size, size);
	st = stack_inner(c, cpl, size, 0);
	cs = desc_seg(code, target);
	check_code_rip(c, &cs, rip);

	args = st;
	v[0] = c->s.seg[SS].sel;
	v[1] = c->r.gpr[RSP];
	stack_push(c, &args, v, 2);
	args.sp -= 2 * size;
	for (k = 0; k < n; k++) {
		stack_push(c, &args, &param[k], 1);
		args.sp -= size;
	}
	v[0] = c->s.seg[CS].sel;
	v[1] = c->s.rip;
	stack_push(c, &args, v, 2);

	cs = code_seg(c, code, target, cpl);
	stack_commit(c, &st, n + 4);
	far_commit(c, &cs, rip);
}

static void call_prot(struct isa_cpu *c, u16 sel, u64 off, unsigned size)
{
	struct desc d, code;
	u16 target;
	u64 rip;

	if (sel_null(sel))
		isa_raise_err(c, X86_GP, 0);
	desc_get(c, sel, &d, X86_GP, 0);
	if (desc_s(&d)) {
		check_code(c, &d, sel, false);
		call_same(c, &d, sel, off, size);
	} else if (is_call_gate(c, &d)) {
		target = through_gate(c, &d, sel, &code, &rip);
		if (!desc_conforming(&code) && desc_dpl(&code) < c->cpl)
			call_inner(c, &d, &code, target, rip);
		else
			call_same(c, &code, target, rip,
				  is_lma(c)		     ? 8
				  : desc_type(&d) == DT_CALL ? 4
							     : 2);
	} else if (!to_task(c, &d, sel, TASK_CALL)) {
		isa_raise_err(c, X86_GP, sel_err(sel));
	}
}

void exec_call_far(struct isa_cpu *c, const struct isa_insn *i)
{
	struct new_stack st;
	u64 off, v[2];
	u16 sel = far_target(c, i, &off);

	if (is_prot(c)) {
		call_prot(c, sel, off, i->opsize);
		return;
	}
	if (off > c->s.seg[CS].limit)
		isa_raise_err(c, X86_GP, 0);
	st = stack_current(c, i->opsize);
	v[0] = c->s.seg[CS].sel;
	v[1] = c->s.rip;
	stack_push(c, &st, v, 2);
	stack_commit(c, &st, 2);
	far_real(c, sel, off);
}

/* ---- RET
 * ------------------------------------------------------------------------------------------------
 */

void exec_ret_far(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->opsize, args = (u16)i->imm;
	u64 rip = stack_peek(c, 0, size);
	u16 sel = (u16)stack_peek(c, size, size);

	if (is_prot(c)) {
		far_return(c, sel, rip, 2 * size, args, size, false);
		return;
	}
	if (rip > c->s.seg[CS].limit)
		isa_raise_err(c, X86_GP, 0);
	c->r.gpr[RSP] = sp_moved(c, 2 * size + args);
	far_real(c, sel, rip);
}

/* SS of the outer privilege; null is for 64-bit code inside CPL 3 only. */
static struct isa_seg outer_stack(struct isa_cpu *c, u16 ss, unsigned cpl, const struct desc *code)
{
	if (sel_null(ss) && is_lma(c) && desc_l(code) && cpl < 3) {
		if ((ss & 3u) != cpl)
			isa_raise_err(c, X86_GP, sel_err(ss));
		return null_stack_seg(ss, cpl);
	}
	return stack_seg(c, ss, cpl, X86_GP, 0);
}

void far_return(struct isa_cpu *c, u16 sel, u64 rip, unsigned used, unsigned args, unsigned size,
		bool always_ss)
{
	unsigned cpl = sel & 3;
	struct isa_seg cs, ss;
	struct desc d;
	u64 sp;
	bool outer = cpl > c->cpl, ok;

	if (sel_null(sel))
		isa_raise_err(c, X86_GP, 0);
	desc_get(c, sel, &d, X86_GP, 0);
	ok = desc_code(&d) && cpl >= c->cpl &&
	     (desc_conforming(&d) ? desc_dpl(&d) <= cpl : desc_dpl(&d) == cpl) &&
	     !(is_lma(c) && desc_l(&d) && desc_db(&d));
	if (!ok)
		isa_raise_err(c, X86_GP, sel_err(sel));
	if (!desc_p(&d))
		isa_raise_err(c, X86_NP, sel_err(sel));
	cs = desc_seg(&d, sel);

	if (!outer && !always_ss) {
		check_code_rip(c, &cs, rip);
		cs = code_seg(c, &d, sel, cpl);
		c->r.gpr[RSP] = sp_moved(c, (s64)used + args);
		far_commit(c, &cs, rip);
		return;
	}
	sp = stack_peek(c, used + args, size);
	ss = outer_stack(c, (u16)stack_peek(c, used + args + size, size), cpl, &d);
	check_code_rip(c, &cs, rip);
	cs = code_seg(c, &d, sel, cpl);
	c->s.seg[SS] = ss;
	sp += args;
	if (is_lma(c) && desc_l(&d))
		c->r.gpr[RSP] = sp;
	else if (ss.ar & SEG_AR_DB)
		c->r.gpr[RSP] = (u32)sp;
	else
		reg_set(c, RSP, 2, sp);
	far_commit(c, &cs, rip);
	if (outer)
		seg_drop_privileged(c);
}
