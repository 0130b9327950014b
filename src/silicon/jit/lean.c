/* SPDX-License-Identifier: MIT */
/*
 * System instructions where they go as they mostly do: 64-bit mode before and after, flat segments
 * from descriptors in order, memory that the TLB knows, a bank and a translation that are known,
 * nothing that waits, no control that takes them. Everything else is left to the handler: what is
 * here either does the whole instruction or nothing at all.
 *
 * Translated code calls this with the guest's vector registers in the host's: the file is compiled
 * for general registers only, and calls nothing outside of such files.
 */
#include "silicon/jit/lean.h"

#include "isa/exec/segment.h"
#include "isa/insn_table.h"
#include "silicon/jit/jit.h"
#include "silicon/paging/tlb.h"

/* Between RFLAGS and cpu->j.fl: AH as LAHF has it, AL = OF. */
static u16 fl_of(u64 f)
{
	return (u16)(((f & 0xd5) | 2) << 8 | (f >> 11 & 1));
}

static u64 flags_of(const struct sil_cpu *cpu)
{
	return (cpu->c.s.rflags & ~X86_STATUS_FLAGS) | 2 | (cpu->j.fl >> 8 & 0xd5) |
	       (u64)(cpu->j.fl & 1) << 11;
}

static void set_flags(struct sil_cpu *cpu, u64 f)
{
	cpu->c.s.rflags = (f & ~X86_STATUS_FLAGS) | 2;
	cpu->j.fl = fl_of(f);
}

/* The bank of the context for a CPL and flags; NULL: not known. */
static struct tlb_bank *bank(const struct sil_cpu *cpu, unsigned cpl, u64 flags)
{
	const struct isa_sys *s = &cpu->c.s;

	if (unlikely(cpl && (flags & X86_AC) && (s->cr0 & CR0_AM)))
		return NULL;
	return tlb_context(cpu->tlb)->cls[cpl					    ? 1
					  : (flags & X86_AC) && (s->cr4 & CR4_SMAP) ? 2
										    : 0];
}

/* May execution go on at @rip in bank @b? What is not known about the code there is next()'s. */
static bool possible(const struct sil_cpu *cpu, const struct tlb_bank *b, u64 rip)
{
	return likely(b && !cpu->ac_check && is_canonical(rip, cpu->c.va_bits));
}

/* The instruction is done, CPL and flags are set. Where to go on: in the translation if the jump
 * cache knows it and nothing is to be done first, else in @resume. */
static const void *arrive(struct sil_cpu *cpu, const struct jit_insn *ji, struct tlb_bank *b,
			  u64 rip, const void *resume)
{
	const struct jit_jc *e;
	u64 tag;

	cpu->j.frame->pc_page = rip & PAGE_MASK;
	cpu->j.frame->count += ji->index + 1u;
	cpu->j.shadow = 0;
	cpu->c.s.rip = rip;
	cpu->n.jit_lean++;
	tlb_use(cpu, b);
	if (unlikely(!b->xgen || b->xmode != JIT_MODE_64 ||
		     __atomic_load_n(&cpu->c.request, __ATOMIC_RELAXED)))
		return resume;
	cpu->j.xgen = (u64)b->xgen << JIT_GEN_SHIFT;
	tag = rip ^ cpu->j.xgen;
	e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
	return likely(e->tag == tag) ? e->code : resume;
}

static const void *resume(const struct sil_cpu *cpu)
{
	return jit_code(cpu->m->jit, cpu->m->jit->stub[STUB_RESUME]);
}

/* ---- SYSCALL, SYSRET ---- */

const void *lean_syscall(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	struct isa_cpu *c = &cpu->c;
	u64 flags = flags_of(cpu), masked = flags & ~(c->r.sfmask | X86_RF);
	struct tlb_bank *b = bank(cpu, 0, masked);
	u16 sel = (u16)(c->r.star >> 32) & ~3u;

	if (unlikely(!possible(cpu, b, c->r.lstar) || !(c->s.efer & EFER_SCE)))
		return NULL;
	c->r.gpr[RCX] = cpu->j.frame->pc_page + ji->end;
	c->r.gpr[R11] = flags & ~X86_RF;
	set_flags(cpu, masked);
	c->s.seg[CS] = flat_code_seg(sel, 0, true);
	c->s.seg[SS] = flat_stack_seg((u16)(sel + 8), 0);
	c->cpl = 0;
	return arrive(cpu, ji, b, c->r.lstar, resume(cpu));
}

const void *lean_sysret(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	struct isa_cpu *c = &cpu->c;
	u64 flags = (c->r.gpr[R11] & SYSRET_FLAGS) | 2, rip = c->r.gpr[RCX];
	struct tlb_bank *b = bank(cpu, 3, flags);
	u16 sel = (u16)(c->r.star >> 48);

	if (unlikely(!possible(cpu, b, rip) || c->cpl || !(c->s.efer & EFER_SCE) ||
		     (flags & X86_TF) || cpu->attention))
		return NULL;
	set_flags(cpu, flags);
	c->s.seg[CS] = flat_code_seg((u16)(sel + 16) | 3, 3, true);
	c->s.seg[SS] = flat_stack_seg((u16)(sel + 8) | 3, 3);
	c->cpl = 3;
	return arrive(cpu, ji, b, rip, resume(cpu));
}

/* ---- Tables and stacks ---- */

/* Of guest memory, which others may write meanwhile; aligned or not. */
static u64 load(u64 host, unsigned index)
{
	return __atomic_load_n((const u64 *)host + index, __ATOMIC_RELAXED);
}

/* Host address of what bank @b lets be accessed; 0: it is not known, or on two pages. */
static u64 at(struct sil_cpu *cpu, struct tlb_bank *b, u64 la, unsigned size, bool write)
{
	void *p;

	if (unlikely(!b))
		return 0;
	p = isa_tlb_hit(write ? b->rw.w : b->rw.r, la, size);
	if (unlikely(!p) && (la & ~PAGE_MASK) <= PAGE_SIZE - size)
		p = tlb_second(cpu, b, la, write);
	return (u64)p;
}

/* The processor's own accesses to tables and TSS are the supervisor's whatever CPL is, and AC does
 * not matter to them (SDM vol. 3A, 4.6.1). NULL: not known. */
static struct tlb_bank *implicit(const struct sil_cpu *cpu)
{
	return tlb_context(cpu->tlb)->cls[0];
}

/* The descriptor of @sel in the GDT; false: it is not there, or somewhere else. */
static bool descriptor(struct sil_cpu *cpu, u16 sel, struct desc *d)
{
	const struct isa_sys *s = &cpu->c.s;
	u64 p;

	if ((sel & 4) || sel_null(sel) || (sel & ~7u) + 7 > s->gdtr.limit)
		return false;
	d->la = s->gdtr.base + (sel & ~7u);
	p = at(cpu, implicit(cpu), d->la, 8, false);
	if (!p)
		return false;
	d->raw = load(p, 0);
	d->high = 0;
	return desc_p(d) && desc_s(d) && (desc_type(d) & 1) && desc_dpl(d) == (sel & 3);
}

/* The same of 64-bit code. */
static bool code_descriptor(struct sil_cpu *cpu, u16 sel, struct desc *d)
{
	return descriptor(cpu, sel, d) && desc_code(d) && !desc_conforming(d) && desc_l(d) &&
	       !desc_db(d);
}

/* ---- INT n, INT3 ---- */

/* The gate of @vector, if it may be gone through. */
static bool gate_of(struct sil_cpu *cpu, unsigned vector, struct desc *gate)
{
	const struct isa_sys *s = &cpu->c.s;
	unsigned type;
	u64 p;

	if (unlikely(vector * 16 + 15 > s->idtr.limit))
		return false;
	p = at(cpu, implicit(cpu), s->idtr.base + vector * 16, 16, false);
	if (unlikely(!p))
		return false;
	gate->raw = load(p, 0);
	gate->high = (u32)load(p, 1);
	type = desc_type(gate);
	return desc_p(gate) && !desc_s(gate) && (type == DT_INT || type == DT_TRAP) &&
	       desc_dpl(gate) >= cpu->c.cpl;
}

/* Where the frame of an event at CPL 0 goes, of five slots: linear address in *@sp. 0: not known.
 * SDM vol. 3A, 6.14.2 to 6.14.5. */
static u64 frame_at(struct sil_cpu *cpu, unsigned ist, u64 *sp)
{
	const struct isa_seg *tr = &cpu->c.s.seg[TR];
	unsigned off = ist ? 0x24 + (ist - 1) * 8 : 4;
	u64 p;

	*sp = cpu->c.r.gpr[RSP];
	if (ist || cpu->c.cpl) {
		p = off + 7 > tr->limit ? 0 : at(cpu, implicit(cpu), tr->base + off, 8, false);
		if (unlikely(!p))
			return 0;
		*sp = load(p, 0);
	}
	*sp = (*sp & ~15ull) - 40;
	return at(cpu, cpu->c.cpl ? implicit(cpu) : cpu->tlb->cur, *sp, 40, true);
}

const void *lean_int(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	bool bp = ji->i.op == ISA_OP_INT3;
	struct isa_cpu *c = &cpu->c;
	u64 old = flags_of(cpu), flags = old & ~(X86_TF | X86_NT | X86_RF | X86_VM), rip, sp;
	struct desc gate, code;
	struct tlb_bank *b;
	u64 *frame;

	if (unlikely(!(cpu->untrapped & (bp ? UNTRAPPED_BP : UNTRAPPED_INT)) ||
		     (c->cpl && c->cpl != 3) || !gate_of(cpu, bp ? X86_BP : (u8)ji->i.imm, &gate) ||
		     !code_descriptor(cpu, gate_sel(&gate), &code) || desc_dpl(&code)))
		return NULL;
	if (desc_type(&gate) == DT_INT)
		flags &= ~X86_IF;
	b = bank(cpu, 0, flags);
	rip = gate_off32(&gate) | (u64)gate.high << 32;
	if (unlikely(!possible(cpu, b, rip)))
		return NULL;
	frame = (u64 *)frame_at(cpu, gate.raw >> 32 & 7, &sp);
	if (unlikely(!frame))
		return NULL;
	frame[4] = c->s.seg[SS].sel;
	frame[3] = c->r.gpr[RSP];
	frame[2] = old;
	frame[1] = c->s.seg[CS].sel;
	frame[0] = cpu->j.frame->pc_page + ji->end;
	set_flags(cpu, flags);
	c->s.seg[CS] = desc_seg(&code, gate_sel(&gate));
	if (c->cpl)
		c->s.seg[SS] = null_stack_seg(0, 0);
	c->r.gpr[RSP] = sp;
	c->cpl = 0;
	cpu->n.events++;
	return arrive(cpu, ji, b, rip, resume(cpu));
}

/* ---- IRETQ ---- */

/* Would an outward return take this segment away? See seg_drop_privileged. */
static bool privileged(const struct isa_seg *s)
{
	return !(s->ar & SEG_AR_UNUSABLE) && !sel_null(s->sel) && SEG_AR_DPL(s->ar) < 3 &&
	       (s->ar & 0xc) != 0xc;
}

/* @t1: host address of what RSP points to. */
const void *lean_iret(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	const u64 may = X86_STATUS_FLAGS | X86_TF | X86_DF | X86_NT | X86_RF | X86_AC | X86_ID |
			X86_IF | X86_IOPL | X86_VIF | X86_VIP;
	struct isa_cpu *c = &cpu->c;
	struct isa_sys *s = &c->s;
	u64 rip = load(t1, 0), sp = load(t1, 3), flags;
	u16 cs = (u16)load(t1, 1), ss = (u16)load(t1, 4);
	unsigned cpl = cs & 3;
	struct tlb_bank *b;
	struct desc dc, ds;
	struct isa_seg stack;
	const void *code;

	flags = (flags_of(cpu) & ~may) | (load(t1, 2) & may);
	if (unlikely(c->cpl || (s->rflags & X86_NT) || (flags & X86_TF) || cpu->attention ||
		     s->interruptibility || (cpl && cpl != 3)))
		return NULL;
	/* RF keeps instruction breakpoints from the next instruction, of which there are none. Only
	 * the image that an event there pushes would show it; in a translation nothing comes before
	 * it is over. */
	if (unlikely((flags & X86_RF) && (cpu->bp_insn || cpu->m->cfg.exact_stops)))
		return NULL;
	b = bank(cpu, cpl, flags);
	if (unlikely(!possible(cpu, b, rip) || !code_descriptor(cpu, cs, &dc)))
		return NULL;
	if (!cpl && sel_null(ss)) {
		if (ss)
			return NULL;
		stack = null_stack_seg(ss, 0);
	} else {
		if (unlikely(!descriptor(cpu, ss, &ds) || (ss & 3) != cpl || !desc_writable(&ds)))
			return NULL;
		stack = desc_seg(&ds, ss);
	}
	if (cpl && unlikely(privileged(&s->seg[ES]) || privileged(&s->seg[DS]) ||
			    privileged(&s->seg[FS]) || privileged(&s->seg[GS])))
		return NULL;
	set_flags(cpu, flags);
	s->seg[CS] = desc_seg(&dc, cs);
	s->seg[SS] = stack;
	c->r.gpr[RSP] = sp;
	c->cpl = (u8)cpl;
	code = arrive(cpu, ji, b, rip, resume(cpu));
	if (likely(code != resume(cpu)))
		s->rflags &= ~X86_RF;
	return code;
}

/* ---- INVLPG, MOV to CR3 ---- */

/* @la: the operand's linear address. */
const void *lean_invlpg(struct sil_cpu *cpu, const struct jit_insn *ji, u64 la)
{
	if (unlikely(cpu->c.cpl || !(cpu->untrapped & UNTRAPPED_INVLPG)))
		return NULL;
	if (likely(is_canonical(la, cpu->c.va_bits)))
		tlb_invlpg(cpu, la);
	return arrive(cpu, ji, cpu->tlb->cur, cpu->j.frame->pc_page + ji->end, resume(cpu));
}

const void *lean_cr3(struct sil_cpu *cpu, const struct jit_insn *ji, u64 val)
{
	bool keep = false;

	if (unlikely(cpu->c.cpl || !(cpu->untrapped & UNTRAPPED_CR3_LOAD)))
		return NULL;
	if (cpu->c.s.cr4 & CR4_PCIDE) {
		keep = val >> 63;
		val &= ~BIT(63);
	}
	if (unlikely(val & cpu_cr3_reserved(cpu->m)))
		return NULL;
	tlb_load_cr3(cpu, val, keep);
	return arrive(cpu, ji, cpu->tlb->cur, cpu->j.frame->pc_page + ji->end, resume(cpu));
}

/* ---- In the middle of a block ---- */

const void *lean_pause(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	const struct sil_virt_ops *v = cpu->m->virt;

	if (!v->lean_pause || !v->lean_pause(cpu))
		return NULL;
	cpu->j.shadow = 0;
	cpu->n.jit_lean++;
	return cpu;
}

static bool set_ac(struct sil_cpu *cpu, u64 ac)
{
	struct isa_cpu *c = &cpu->c;
	u64 flags = (c->s.rflags & ~X86_AC) | ac;
	struct tlb_bank *b = bank(cpu, 0, flags);

	if (unlikely(c->cpl || !b))
		return false;
	c->s.rflags = flags;
	/* Fetches do not depend on AC, so the code goes on. */
	if (b != cpu->tlb->cur) {
		tlb_use(cpu, b);
		if (b->xgen && b->xmode == cpu->j.mode)
			cpu->j.xgen = (u64)b->xgen << JIT_GEN_SHIFT;
	}
	cpu->j.shadow = 0;
	cpu->n.jit_lean++;
	return true;
}

const void *lean_stac(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	return (const void *)(u64)set_ac(cpu, X86_AC);
}

const void *lean_clac(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	return (const void *)(u64)set_ac(cpu, 0);
}

const void *lean_vmx(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	if (!cpu->m->virt->lean_vmx(cpu, &ji->i))
		return NULL;
	cpu->j.fl = fl_of(0);
	cpu->j.shadow = 0;
	cpu->n.jit_lean++;
	return (const void *)1;
}

/* @t1: host address of the top of the stack. */
const void *lean_popf(struct sil_cpu *cpu, const struct jit_insn *ji, u64 t1)
{
	struct isa_cpu *c = &cpu->c;
	u64 old = flags_of(cpu), may, f;

	may = X86_STATUS_FLAGS | X86_TF | X86_DF | X86_NT | X86_AC | X86_ID;
	if (c->cpl <= (c->s.rflags & X86_IOPL) >> 12)
		may |= X86_IF;
	if (!c->cpl)
		may |= X86_IOPL;
	f = ((old & ~may) | (load(t1, 0) & may)) & ~X86_RF;
	if (unlikely(((f ^ old) & X86_AC) || (f & X86_TF) ||
		     ((f & ~old & X86_IF) && cpu->attention)))
		return NULL;
	set_flags(cpu, f);
	c->r.gpr[RSP] += 8;
	cpu->j.shadow = 0;
	cpu->n.jit_lean++;
	return cpu;
}
