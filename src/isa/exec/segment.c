/* SPDX-License-Identifier: MIT */
/* Descriptors and segment registers. SDM vol. 3A, 3.4-3.5 and chapter 5. */
#include "base/log.h"
#include "isa/exec/segment.h"

void sys_read(struct isa_cpu *c, u64 la, void *dst, unsigned size)
{
	/* At CPL 3 the TLB in use holds user mappings, which SMAP closes to system accesses. */
	if (c->cpl < 3)
		isa_read(c, la, dst, size, ISA_ACC_SYS);
	else
		c->ops->mem_read(c, la, dst, size, ISA_ACC_SYS);
}

void sys_write(struct isa_cpu *c, u64 la, const void *src, unsigned size)
{
	if (c->cpl < 3)
		isa_write(c, la, src, size, ISA_ACC_SYS);
	else
		c->ops->mem_write(c, la, src, size, ISA_ACC_SYS | ISA_ACC_WRITE);
}

void desc_update(struct isa_cpu *c, const struct desc *d, u32 clear, u32 set)
{
	u64 la = d->la + 4, old, new;
	void *p = c->ops->mem_rmw(c, la, 4, ISA_ACC_SYS | ISA_ACC_WRITE);

	if (likely(p != NULL)) {
		old = host_get(p, 4);
		do
			new = (old & ~(u64)clear) | set;
		while (!host_cas(p, 4, &old, new));
		return;
	}
	old = 0;
	c->ops->mem_lock(c);
	c->ops->mem_read(c, la, &old, 4, ISA_ACC_SYS);
	new = (old & ~(u64)clear) | set;
	c->ops->mem_write(c, la, &new, 4, ISA_ACC_SYS | ISA_ACC_WRITE);
	c->ops->mem_unlock(c);
}

bool desc_fetch(struct isa_cpu *c, u16 sel, struct desc *d)
{
	u32 off = sel & ~7u;
	u64 base = c->s.gdtr.base;
	u32 limit = c->s.gdtr.limit;

	if (sel & 4) {
		const struct isa_seg *ldt = &c->s.seg[LDTR];

		if (ldt->ar & SEG_AR_UNUSABLE)
			return false;
		base = ldt->base;
		limit = ldt->limit;
	}
	if (off + 7 > limit)
		return false;
	d->la = is_lma(c) ? base + off : (u32)(base + off);
	d->high = 0;
	sys_read(c, d->la, &d->raw, 8);
	return true;
}

void desc_get(struct isa_cpu *c, u16 sel, struct desc *d, unsigned vector, u32 ext)
{
	if (!desc_fetch(c, sel, d))
		isa_raise_err(c, vector, sel_err(sel) | ext);
}

void desc_get_high(struct isa_cpu *c, u16 sel, struct desc *d, u32 ext)
{
	u32 limit = sel & 4 ? c->s.seg[LDTR].limit : c->s.gdtr.limit;
	u64 high;

	if ((sel & ~7u) + 15 > limit)
		isa_raise_err(c, X86_GP, sel_err(sel) | ext);
	sys_read(c, d->la + 8, &high, 8);
	if (high >> 40 & 0x1f)
		isa_raise_err(c, X86_GP, sel_err(sel) | ext);
	d->high = (u32)high;
}

void desc_accessed(struct isa_cpu *c, struct desc *d)
{
	if (desc_type(d) & 1)
		return;
	desc_update(c, d, 0, BIT(8));
	d->raw |= BIT(40);
}

/* ---- Data and stack segments
 * ------------------------------------------------------------------------- */

void seg_changed(struct isa_cpu *c)
{
	const struct isa_seg *s = c->s.seg;
	bool flat = is_prot(c);
	unsigned k;

	if (c->mode != ISA_LONG64)
		c->sp_mask = s[SS].ar & SEG_AR_DB ? 0xffffffff : 0xffff;
	for (k = ES; k <= DS; k++) {
		u32 want = k == CS ? SEG_AR_S | 0xa : SEG_AR_S | 2; /* readable code; data */
		u32 mask = SEG_AR_S | (k == CS ? 0xa : 0xe);

		flat &= !s[k].base && s[k].limit == 0xffffffff && (s[k].ar & SEG_AR_P) &&
			!(s[k].ar & SEG_AR_UNUSABLE) && (s[k].ar & mask) == want;
	}
	c->flat = flat;
}

void seg_load_real(struct isa_cpu *c, unsigned seg, u16 sel)
{
	struct isa_seg *s = &c->s.seg[seg];

	s->sel = sel;
	s->base = (u64)sel << 4;
	if (is_v86(c)) {
		s->limit = 0xffff;
		s->ar = 0xf3;
	} else if (s->ar & SEG_AR_UNUSABLE) {
		s->limit = 0xffff;
		s->ar = 0x93;
	}
	/* Real mode keeps limit and rights: "big real mode". */
}

/* SDM vol. 2B, MOV: "IF SS is loaded". */
struct isa_seg stack_seg(struct isa_cpu *c, u16 sel, unsigned cpl, unsigned vector, u32 ext)
{
	struct desc d;

	if (sel_null(sel))
		isa_raise_err(c, vector, ext);
	desc_get(c, sel, &d, vector, ext);
	if ((sel & 3) != cpl || desc_dpl(&d) != cpl || !desc_writable(&d))
		isa_raise_err(c, vector, sel_err(sel) | ext);
	if (!desc_p(&d))
		isa_raise_err(c, X86_SS_VEC, sel_err(sel) | ext);
	desc_accessed(c, &d);
	return desc_seg(&d, sel);
}

static void load_ss(struct isa_cpu *c, u16 sel)
{
	if (sel_null(sel) && c->mode == ISA_LONG64 && c->cpl < 3 && (sel & 3) == c->cpl)
		c->s.seg[SS] = null_stack_seg(sel, c->cpl);
	else
		c->s.seg[SS] = stack_seg(c, sel, c->cpl, X86_GP, 0);
}

/* SDM vol. 2B, MOV: "IF DS, ES, FS, or GS is loaded". */
static void load_data(struct isa_cpu *c, unsigned seg, u16 sel, unsigned vector)
{
	struct desc d;

	if (sel_null(sel)) {
		c->s.seg[seg] = (struct isa_seg){.sel = sel, .ar = SEG_AR_UNUSABLE};
		return;
	}
	desc_get(c, sel, &d, vector, 0);
	if (!desc_s(&d) || (desc_type(&d) & 0xa) == 8) /* system, or execute-only code */
		isa_raise_err(c, vector, sel_err(sel));
	if (!(desc_code(&d) && desc_conforming(&d)) &&
	    ((sel & 3u) > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
		isa_raise_err(c, vector, sel_err(sel));
	if (!desc_p(&d))
		isa_raise_err(c, X86_NP, sel_err(sel));
	desc_accessed(c, &d);
	c->s.seg[seg] = desc_seg(&d, sel);
}

void seg_load(struct isa_cpu *c, unsigned seg, u16 sel)
{
	if (!is_prot(c))
		seg_load_real(c, seg, sel);
	else if (seg == SS)
		load_ss(c, sel);
	else
		load_data(c, seg, sel, X86_GP);
	seg_changed(c);
}

void seg_load_task(struct isa_cpu *c, unsigned seg, u16 sel)
{
	if (seg == SS)
		c->s.seg[SS] = stack_seg(c, sel, c->cpl, X86_TS, 0);
	else
		load_data(c, seg, sel, X86_TS);
}

void seg_drop_privileged(struct isa_cpu *c)
{
	static const u8 data[] = {ES, FS, GS, DS};
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(data); k++) {
		struct isa_seg *s = &c->s.seg[data[k]];

		/* A null selector points to no segment, even where VM entry has made it usable:
		 * FS and GS keep their bases, on which hypervisors rely. */
		if ((s->ar & SEG_AR_UNUSABLE) || sel_null(s->sel))
			continue;
		if (SEG_AR_DPL(s->ar) < c->cpl && (s->ar & 0xc) != 0xc)
			*s = (struct isa_seg){.ar = SEG_AR_UNUSABLE};
	}
	seg_changed(c);
}

/* ---- Code segments
 * -------------------------------------------------------------------------------------- */

struct isa_seg code_seg(struct isa_cpu *c, struct desc *d, u16 sel, unsigned cpl)
{
	desc_accessed(c, d);
	return desc_seg(d, (u16)((sel & ~3u) | cpl));
}

void check_code_rip(struct isa_cpu *c, const struct isa_seg *cs, u64 rip)
{
	if (is_lma(c) && (cs->ar & SEG_AR_L)) {
		if (!is_canonical(rip, c->va_bits))
			isa_raise_err(c, X86_GP, 0);
	} else if (rip > cs->limit) {
		isa_raise_err(c, X86_GP, 0);
	}
}

/* ---- Inner stacks
 * ---------------------------------------------------------------------------------------- */

/* SDM vol. 3A, 7.2.1 (32-bit), 7.7 (64-bit), 8.6 (16-bit TSS). */
void tss_stack(struct isa_cpu *c, unsigned cpl, u16 *ss, u64 *sp, u32 ext)
{
	const struct isa_seg *tr = &c->s.seg[TR];
	unsigned type = tr->ar & 15, off, size;
	u8 b[8];

	if (is_lma(c)) {
		off = 4 + cpl * 8;
		size = 8;
	} else if (type == DT_TSS || type == DT_TSS_BUSY) {
		off = 4 + cpl * 8;
		size = 6;
	} else {
		off = 2 + cpl * 4;
		size = 4;
	}
	if (off + size - 1 > tr->limit)
		isa_raise_err(c, X86_TS, sel_err(tr->sel) | ext);
	sys_read(c, is_lma(c) ? tr->base + off : (u32)(tr->base + off), b, size);
	if (size == 8) {
		memcpy(sp, b, 8);
		*ss = (u16)cpl;
	} else {
		*sp = host_get(b, size == 6 ? 4 : 2);
		*ss = (u16)host_get(b + (size == 6 ? 4 : 2), 2);
	}
}

static u64 new_stack_la(struct isa_cpu *c, const struct new_stack *st, u64 sp, unsigned n)
{
	const struct isa_seg *s = &st->ss;
	u64 off = sp & st->mask, last = off + n - 1;
	bool ok;

	if (st->long_mode)
		return sp;
	if ((s->ar & 0xc) == 4)
		ok = off > s->limit && last <= (s->ar & SEG_AR_DB ? 0xffffffff : 0xffff);
	else
		ok = last <= s->limit;
	if (!ok)
		isa_raise_err(c, st->vector, st->error);
	return (u32)(s->base + off);
}

void stack_push(struct isa_cpu *c, const struct new_stack *st, const u64 *v, unsigned n)
{
	unsigned size = st->size, k, how = st->how | ISA_ACC_WRITE | ISA_ACC_STACK;
	u64 sp = (st->sp - n * size) & st->mask;
	u8 block[10 * 8];

	BUG_ON(n > 10);
	if (st->long_mode &&
	    (!is_canonical(sp, c->va_bits) || !is_canonical(sp + n * size - 1, c->va_bits)))
		isa_raise_err(c, st->vector, st->error);
	if ((st->sp & st->mask) >= n * size || st->long_mode) {
		u64 la = new_stack_la(c, st, sp, n * size);

		for (k = 0; k < n; k++)
			host_set(block + (n - 1 - k) * size, size, v[k]);
		if (st->how & ISA_ACC_SYS)
			c->ops->mem_write(c, la, block, n * size, how);
		else
			isa_write(c, la, block, n * size, how);
		return;
	}
	/* Wraps around the end of the segment in the middle. */
	for (k = 1; k <= n; k++)
		new_stack_la(c, st, st->sp - k * size, size);
	for (k = 1; k <= n; k++)
		c->ops->mem_write(c, new_stack_la(c, st, st->sp - k * size, size), &v[k - 1], size,
				  how);
}

void stack_commit(struct isa_cpu *c, const struct new_stack *st, unsigned n)
{
	u64 sp = st->sp - n * st->size;

	c->s.seg[SS] = st->ss;
	if (st->mask == 0xffff)
		reg_set(c, RSP, 2, sp);
	else
		c->r.gpr[RSP] = sp & st->mask;
}

struct new_stack stack_current(const struct isa_cpu *c, unsigned size)
{
	return (struct new_stack){
		.ss = c->s.seg[SS],
		.sp = c->r.gpr[RSP],
		.mask = c->sp_mask,
		.size = size,
		.long_mode = c->mode == ISA_LONG64,
		.vector = X86_SS_VEC,
	};
}

struct new_stack stack_inner(struct isa_cpu *c, unsigned cpl, unsigned size, u32 ext)
{
	struct new_stack st = {.size = size, .vector = X86_SS_VEC, .error = ext};
	u16 ss;

	st.how = c->cpl == 3 ? ISA_ACC_SYS : 0;
	tss_stack(c, cpl, &ss, &st.sp, ext);
	if (is_lma(c)) {
		st.ss = null_stack_seg(ss, cpl);
		st.mask = ~0ull;
		st.long_mode = true;
	} else {
		st.ss = stack_seg(c, ss, cpl, X86_TS, ext);
		st.mask = st.ss.ar & SEG_AR_DB ? 0xffffffff : 0xffff;
		st.error = sel_err(ss) | ext;
	}
	return st;
}
