/* SPDX-License-Identifier: MIT */
/* Task switches. SDM vol. 3A, chapter 8; what happens before the exit: vol. 3C, 26.4.2. */
#include "isa/exec/segment.h"

/* Where a TSS has things: 8.2.1 (32-bit), 8.6 (16-bit). Registers and segments in their usual
 * order. */
struct tss_layout {
	u8 word; /* size of a field */
	u8 eip, eflags, gpr, seg, nseg, ldt, limit;
};
static const struct tss_layout tss32 = {4, 0x20, 0x24, 0x28, 0x48, 6, 0x60, 0x67};
static const struct tss_layout tss16 = {2, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a, 0x2b};
#define TSS_SIZE 0x68

/* 8.3, steps 2-5 and table 8-1. */
static const struct tss_layout *check_tss(struct isa_cpu *c, u16 sel, enum isa_task_source src,
					  struct desc *d, u32 ext)
{
	unsigned vector = src == TASK_IRET ? X86_TS : X86_GP, type;
	const struct tss_layout *t;

	if ((sel & 4) || sel_null(sel))
		isa_raise_err(c, vector, sel_err(sel) | ext);
	desc_get(c, sel, d, vector, ext);
	type = desc_type(d);
	if (desc_s(d) || (src == TASK_IRET ? type != DT_TSS16_BUSY && type != DT_TSS_BUSY
					   : type != DT_TSS16 && type != DT_TSS))
		isa_raise_err(c, vector, sel_err(sel) | ext);
	if (!desc_p(d))
		isa_raise_err(c, X86_NP, sel_err(sel) | ext);
	t = type & 8 ? &tss32 : &tss16;
	if (desc_seg(d, sel).limit < t->limit)
		isa_raise_err(c, X86_TS, sel_err(sel) | ext);
	return t;
}

static void save_old(struct isa_cpu *c, u64 rip, u64 flags)
{
	const struct isa_seg *tr = &c->s.seg[TR];
	const struct tss_layout *t = tr->ar & 8 ? &tss32 : &tss16;
	u8 b[TSS_SIZE];
	unsigned k;

	/* From EIP to the last segment register in one piece; selectors of 32-bit TSSs are
	 * zero-extended. */
	memset(b, 0, sizeof(b));
	host_set(b + t->eip, t->word, rip);
	host_set(b + t->eflags, t->word, flags);
	for (k = 0; k < 8; k++)
		host_set(b + t->gpr + k * t->word, t->word, c->r.gpr[k]);
	for (k = 0; k < t->nseg; k++)
		host_set(b + t->seg + k * t->word, t->word, c->s.seg[k].sel);
	c->ops->mem_write(c, (u32)(tr->base + t->eip), b + t->eip,
			  t->seg + t->nseg * t->word - t->eip, ISA_ACC_SYS | ISA_ACC_WRITE);
}

static void load_ldt(struct isa_cpu *c, u16 sel)
{
	struct desc d;

	c->s.seg[LDTR] = (struct isa_seg){.sel = sel, .ar = SEG_AR_UNUSABLE};
	if (sel_null(sel))
		return;
	if ((sel & 4) || !desc_fetch(c, sel, &d) || desc_s(&d) || desc_type(&d) != DT_LDT ||
	    !desc_p(&d))
		isa_raise_err(c, X86_TS, sel_err(sel));
	c->s.seg[LDTR] = desc_seg(&d, sel);
}

static void load_cs(struct isa_cpu *c, u16 sel)
{
	struct desc d;

	if (sel_null(sel))
		isa_raise_err(c, X86_TS, sel_err(sel));
	desc_get(c, sel, &d, X86_TS, 0);
	if (!desc_code(&d) ||
	    (desc_conforming(&d) ? desc_dpl(&d) > (sel & 3u) : desc_dpl(&d) != (sel & 3u)))
		isa_raise_err(c, X86_TS, sel_err(sel));
	if (!desc_p(&d))
		isa_raise_err(c, X86_NP, sel_err(sel));
	c->s.seg[CS] = code_seg(c, &d, sel, sel & 3);
	isa_mode_changed(c);
}

/* Segment registers of the new task, in an order in which each check has what it needs. */
static void load_segments(struct isa_cpu *c, const u16 *sel, u16 ldt)
{
	static const u8 order[] = {SS, DS, ES, FS, GS};
	unsigned k;

	if (is_v86(c)) {
		for (k = ES; k <= GS; k++)
			seg_load_real(c, k, sel[k]);
		load_ldt(c, ldt);
		isa_mode_changed(c);
		return;
	}
	/* Until they are checked: selectors without content, at the new privilege. */
	for (k = ES; k <= GS; k++)
		c->s.seg[k] = (struct isa_seg){.sel = sel[k], .ar = SEG_AR_UNUSABLE};
	c->s.seg[SS].ar |= (sel[CS] & 3u) << 5 | SEG_AR_DB;
	isa_mode_changed(c);
	load_ldt(c, ldt);
	load_cs(c, sel[CS]);
	for (k = 0; k < ARRAY_SIZE(order); k++)
		seg_load_task(c, order[k], sel[order[k]]);
	isa_mode_changed(c);
}

void task_switch(struct isa_cpu *c, u16 sel, enum isa_task_source src, bool has_error, u32 error,
		 u64 return_rip, u32 ext)
{
	u16 old_tr = c->s.seg[TR].sel, segs[6] = {0}, ldt, trap = 0;
	bool nested = src == TASK_CALL || src == TASK_GATE;
	u64 flags = isa_flags(c), new_flags, cr3 = 0;
	const struct tss_layout *t;
	struct desc d, old;
	u8 b[TSS_SIZE];
	unsigned k;

	t = check_tss(c, sel, src, &d, ext);
	c->ops->intercept(c, ICPT_TASK_SWITCH, sel | (u64)src << 30);

	memset(b, 0, sizeof(b));
	sys_read(c, (u32)desc_seg(&d, sel).base, b, t->limit + 1u);
	if (src == TASK_IRET)
		flags &= ~X86_NT;
	save_old(c, return_rip, flags);
	if (!nested && desc_fetch(c, old_tr, &old))
		desc_update(c, &old, BIT(9), 0);
	if (nested)
		sys_write(c, (u32)desc_seg(&d, sel).base, &old_tr, 2);
	if (src != TASK_IRET) {
		desc_update(c, &d, 0, BIT(9));
		d.raw |= BIT(41);
	}

	/* Faults from here on belong to the new task's first instruction: no RIP to take back. */
	c->insn = NULL;
	c->s.seg[TR] = desc_seg(&d, sel);
	c->s.cr0 |= CR0_TS;
	c->s.rip = host_get(b + t->eip, t->word);
	new_flags = host_get(b + t->eflags, t->word);
	if (t->word == 2)
		new_flags |= flags & 0xffff0000 & ~X86_VM;
	if (nested)
		new_flags |= X86_NT;
	isa_set_flags(c, new_flags & 0x3f7fd5);
	for (k = 0; k < 8; k++)
		c->r.gpr[k] = host_get(b + t->gpr + k * t->word, t->word);
	for (k = 0; k < t->nseg; k++)
		segs[k] = (u16)host_get(b + t->seg + k * t->word, 2);
	ldt = (u16)host_get(b + t->ldt, 2);
	if (t->word == 4) {
		cr3 = host_get(b + 0x1c, 4);
		trap = host_get(b + 0x64, 2) & 1;
		if ((c->s.cr0 & CR0_PG) && cr3 != c->s.cr3)
			c->ops->write_cr(c, 3, cr3, 0);
	}
	/* Breakpoints local to the old task (18.2.4). */
	c->s.dr7 &= ~0x155ull;
	load_segments(c, segs, ldt);

	if (has_error) {
		struct new_stack st = stack_current(c, t->word);
		u64 v = error;

		stack_push(c, &st, &v, 1);
		stack_commit(c, &st, 1);
	}
	if (c->s.rip > c->s.seg[CS].limit)
		isa_raise_err(c, X86_GP, 0);
	if (trap)
		isa_raise_db(c, BIT(15));
}

void isa_task_switch(struct isa_cpu *c, u16 sel, enum isa_task_source src, bool has_error,
		     u32 error)
{
	task_switch(c, sel, src, has_error, error, c->s.rip, 0);
}
