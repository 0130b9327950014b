/* SPDX-License-Identifier: MIT */
/* Delivery of interrupts and exceptions through the IDT or the IVT. SDM vol. 3A, chapter 6. */
#include "isa/exec/segment.h"

/* Exceptions that are faults: the saved EFLAGS has RF set (vol. 3B, 18.3.1.1). #DB sorts that out
 * itself. */
#define FAULT_VECTORS                                                                        \
	(BIT(X86_DE) | BIT(X86_BR) | BIT(X86_UD) | BIT(X86_NM) | BIT(X86_TS) | BIT(X86_NP) | \
	 BIT(X86_SS_VEC) | BIT(X86_GP) | BIT(X86_PF_VEC) | BIT(X86_MF) | BIT(X86_AC_VEC) |   \
	 BIT(X86_XM) | BIT(X86_VE) | BIT(X86_CP))

struct delivery {
	const struct isa_event *ev;
	u64 flags, rip; /* to be saved */
	u32 ext;
	u32 idt_err; /* error code naming the IDT entry */
};

static void deliver_real(struct isa_cpu *c, const struct delivery *d)
{
	struct new_stack st = stack_current(c, 2);
	u64 v[3] = {d->flags & 0xffff, c->s.seg[CS].sel, d->rip};
	u32 off = d->ev->vector * 4u, entry;

	if (off + 3 > c->s.idtr.limit)
		isa_raise_err(c, X86_GP, d->idt_err);
	sys_read(c, (u32)(c->s.idtr.base + off), &entry, 4);
	stack_push(c, &st, v, 3);
	stack_commit(c, &st, 3);
	isa_set_flags(c, isa_flags(c) & ~(X86_IF | X86_TF | X86_AC | X86_RF));
	seg_load_real(c, CS, (u16)(entry >> 16));
	c->s.rip = entry & 0xffff;
	isa_mode_changed(c);
}

/* Reads the gate; all checks that come before the code segment's. */
static void fetch_gate(struct isa_cpu *c, const struct delivery *d, struct desc *gate)
{
	bool lma = is_lma(c), soft = d->ev->type == EV_SW_INT || d->ev->type == EV_SW_EXC;
	unsigned size = lma ? 16 : 8, type;
	u32 off = d->ev->vector * size;
	u64 raw[2] = {0, 0};

	if (off + size - 1 > c->s.idtr.limit)
		isa_raise_err(c, X86_GP, d->idt_err);
	gate->la = lma ? c->s.idtr.base + off : (u32)(c->s.idtr.base + off);
	sys_read(c, gate->la, raw, size);
	gate->raw = raw[0];
	gate->high = (u32)raw[1];
	type = desc_type(gate);
	if (desc_s(gate) ||
	    !(type == DT_INT || type == DT_TRAP ||
	      (!lma && (type == DT_TASK_GATE || type == DT_INT16 || type == DT_TRAP16))))
		isa_raise_err(c, X86_GP, d->idt_err);
	if (soft && desc_dpl(gate) < c->cpl)
		isa_raise_err(c, X86_GP, d->idt_err);
	if (!desc_p(gate))
		isa_raise_err(c, X86_NP, d->idt_err);
}

static void check_target(struct isa_cpu *c, const struct delivery *d, u16 sel, struct desc *code)
{
	if (sel_null(sel))
		isa_raise_err(c, X86_GP, d->ext);
	desc_get(c, sel, code, X86_GP, d->ext);
	if (!desc_code(code) || desc_dpl(code) > c->cpl)
		isa_raise_err(c, X86_GP, sel_err(sel) | d->ext);
	if (is_v86(c) && (desc_conforming(code) || desc_dpl(code)))
		isa_raise_err(c, X86_GP, sel_err(sel) | d->ext);
	if (is_lma(c) && (!desc_l(code) || desc_db(code)))
		isa_raise_err(c, X86_GP, sel_err(sel) | d->ext);
	if (!desc_p(code))
		isa_raise_err(c, X86_NP, sel_err(sel) | d->ext);
}

/* Vol. 3A, 6.14.2-6.14.5: always aligned; a new one for inward transfers and gates with an IST. */
static struct new_stack stack_long(struct isa_cpu *c, const struct delivery *d, unsigned ist,
				   bool inner, unsigned cpl)
{
	const struct isa_seg *tr = &c->s.seg[TR];
	struct new_stack st = stack_current(c, 8);
	unsigned off = 0x24 + (ist - 1) * 8;

	if (inner && !ist) {
		st = stack_inner(c, cpl, 8, d->ext);
	} else if (ist) {
		if (off + 7 > tr->limit)
			isa_raise_err(c, X86_TS, sel_err(tr->sel) | d->ext);
		sys_read(c, tr->base + off, &st.sp, 8);
		if (inner)
			st.ss = null_stack_seg((u16)cpl, cpl);
		st.how = c->cpl == 3 && cpl < 3 ? ISA_ACC_SYS : 0;
	}
	st.long_mode = true;
	st.mask = ~0ull;
	st.error = d->ext;
	st.sp &= ~15ull;
	return st;
}

static void deliver_prot(struct isa_cpu *c, const struct delivery *d)
{
	bool lma = is_lma(c), inner, v86 = is_v86(c);
	unsigned type, size, n = 0, cpl;
	struct desc gate, code;
	struct new_stack st;
	struct isa_seg cs;
	u64 rip, v[10], f;
	u16 sel;

	fetch_gate(c, d, &gate);
	type = desc_type(&gate);
	sel = gate_sel(&gate);
	if (type == DT_TASK_GATE) {
		task_switch(c, sel, TASK_GATE, d->ev->has_error, d->ev->error, d->rip, d->ext);
		return;
	}
	check_target(c, d, sel, &code);
	inner = !desc_conforming(&code) && desc_dpl(&code) < c->cpl;
	cpl = inner ? desc_dpl(&code) : c->cpl;
	size = lma ? 8 : type >= DT_INT ? 4 : 2;
	rip = gate_off32(&gate) | (u64)gate.high << 32;
	if (size == 2)
		rip &= 0xffff;

	if (lma) {
		st = stack_long(c, d, gate.raw >> 32 & 7, inner, cpl);
	} else if (inner) {
		st = stack_inner(c, cpl, size, d->ext);
	} else {
		st = stack_current(c, size);
		st.error = d->ext;
	}
	if (v86) {
		v[n++] = c->s.seg[GS].sel;
		v[n++] = c->s.seg[FS].sel;
		v[n++] = c->s.seg[DS].sel;
		v[n++] = c->s.seg[ES].sel;
	}
	if (inner || lma) {
		v[n++] = c->s.seg[SS].sel;
		v[n++] = c->r.gpr[RSP];
	}
	v[n++] = d->flags;
	v[n++] = c->s.seg[CS].sel;
	v[n++] = d->rip;
	if (d->ev->has_error)
		v[n++] = d->ev->error;

	cs = desc_seg(&code, sel);
	if (lma ? !is_canonical(rip, c->va_bits) : rip > cs.limit)
		isa_raise_err(c, X86_GP, d->ext);
	stack_push(c, &st, v, n);
	cs = code_seg(c, &code, sel, cpl);

	stack_commit(c, &st, n);
	c->s.seg[CS] = cs;
	c->s.rip = rip;
	f = isa_flags(c) & ~(X86_TF | X86_NT | X86_RF | X86_VM);
	if (type == DT_INT || type == DT_INT16)
		f &= ~X86_IF;
	isa_set_flags(c, f);
	if (v86) {
		static const u8 data[] = {ES, DS, FS, GS};
		unsigned k;

		for (k = 0; k < 4; k++)
			c->s.seg[data[k]] = (struct isa_seg){.ar = SEG_AR_UNUSABLE};
	}
	isa_mode_changed(c);
}

void isa_deliver(struct isa_cpu *c, const struct isa_event *ev)
{
	struct delivery d = {
		.ev = ev,
		.flags = isa_flags(c),
		.rip = mask_size(c->s.rip + ev->insn_len, c->mode == ISA_LONG64 ? 8 : 4),
	};

	d.ext = ev->type != EV_SW_INT && ev->type != EV_SW_EXC;
	d.idt_err = ev->vector * 8u | 2 | d.ext;
	if (ev->type == EV_HW_EXC && ev->vector < 32 && (FAULT_VECTORS >> ev->vector & 1))
		d.flags |= X86_RF;
	if (is_real(c))
		deliver_real(c, &d);
	else
		deliver_prot(c, &d);
}
