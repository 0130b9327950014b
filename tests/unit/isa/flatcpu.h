/* SPDX-License-Identifier: MIT */
/*
 * A processor with a little identity-mapped memory and nothing else: enough to run instructions by
 * themselves. Paging is not modelled; a linear address beyond the memory is a page fault, and with
 * fc->tlb_on the TLB maps all of it, so that both ways to memory are tested. Ports read a counter.
 */
#ifndef TESTS_ISA_FLATCPU_H
#define TESTS_ISA_FLATCPU_H

#include <stdlib.h>
#include <string.h>

#include "isa/flags.h"
#include "isa/insn_table.h"
#include "isa/isa.h"

#define FLAT_MEM (1u << 20)
/* Where the set-up functions put things */
#define FLAT_GDT    0x1000u
#define FLAT_IDT    0x2000u
#define FLAT_TSS    0x3000u
#define FLAT_LDT    0x3800u
#define FLAT_CODE   0x10000u
#define FLAT_STACK  0x20000u /* top, CPL in use */
#define FLAT_STACK0 0x28000u /* top, of the TSS for CPL 0 */
#define FLAT_DATA   0x30000u
/* Selectors */
#define FLAT_CS0   0x08
#define FLAT_DS0   0x10
#define FLAT_CS3   0x1b
#define FLAT_DS3   0x23
#define FLAT_TR	   0x28 /* two entries in long mode */
#define FLAT_CS64  0x38
#define FLAT_CS64U 0x43
#define FLAT_FREE  0x48 /* and up: the test's own */

struct flatcpu {
	struct isa_cpu c; /* first */
	struct isa_tlb tlb;
	jmp_buf catch;
	u8 *mem;
	bool tlb_on;
	unsigned n_icpt[ICPT_N], n_mode, n_recheck, n_locked;
	u64 icpt_arg[ICPT_N];
	int icpt_exit; /* ICPT_* that throws ISA_THROW_EXIT, or -1 */
	u16 port;
	unsigned port_size, n_ports;
	u64 port_val;
	u64 tsc;
	u64 msr[8]; /* index 0-7; others #GP */
	u64 invlpg;
};

static inline struct flatcpu *flat_of(struct isa_cpu *c)
{
	return (struct flatcpu *)c;
}

static inline u8 *flat_at(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	if (la >= FLAT_MEM || la + size > FLAT_MEM) {
		if (!is_canonical(la, c->va_bits))
			isa_raise_err(c, how & ISA_ACC_STACK ? X86_SS_VEC : X86_GP, 0);
		isa_raise_pf(c, la < FLAT_MEM ? FLAT_MEM : la,
			     (how & ISA_ACC_WRITE ? 2 : 0) |
				     (c->cpl == 3 && !(how & ISA_ACC_SYS) ? 4 : 0));
	}
	return flat_of(c)->mem + la;
}

static inline void flat_op_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how)
{
	memcpy(dst, flat_at(c, la, size, how), size);
}

static inline void flat_op_write(struct isa_cpu *c, u64 la, const void *src, unsigned size,
				 unsigned how)
{
	memcpy(flat_at(c, la, size, how | ISA_ACC_WRITE), src, size);
}

static inline void *flat_op_rmw(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	u8 *p = flat_at(c, la, size, how | ISA_ACC_WRITE);

	return (la & (PAGE_SIZE - 1)) + size > PAGE_SIZE ? NULL : p;
}

static inline void flat_op_lock(struct isa_cpu *c)
{
	flat_of(c)->n_locked++;
}

static inline void flat_op_unlock(struct isa_cpu *c) {}

static inline void flat_op_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la)
{
	struct flatcpu *f = flat_of(c);

	f->port = port;
	f->port_size = size;
	f->n_ports++;
	memcpy(dst, &f->port_val, size);
	f->port_val++;
}

static inline void flat_op_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la)
{
	struct flatcpu *f = flat_of(c);

	f->port = port;
	f->port_size = size;
	f->n_ports++;
	f->port_val = 0;
	memcpy(&f->port_val, src, size);
}

static inline void flat_op_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg)
{
	struct flatcpu *f = flat_of(c);

	f->n_icpt[what]++;
	f->icpt_arg[what] = arg;
	if (f->icpt_exit == (int)what)
		isa_throw(c, ISA_THROW_EXIT);
}

static inline u64 flat_op_read_cr(struct isa_cpu *c, unsigned n, unsigned gpr)
{
	switch (n) {
	case 0: return c->s.cr0;
	case 2: return c->r.cr2;
	case 3: return c->s.cr3;
	case 4: return c->s.cr4;
	default: return c->s.cr8;
	}
}

static inline void flat_op_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr)
{
	switch (n) {
	case 0: c->s.cr0 = val | CR0_ET; break;
	case 2: c->r.cr2 = val; break;
	case 3: c->s.cr3 = val; break;
	case 4: c->s.cr4 = val; break;
	default: c->s.cr8 = val & 15; break;
	}
	isa_mode_changed(c);
}

static inline u64 flat_op_rdmsr(struct isa_cpu *c, u32 index)
{
	if (index > 7)
		isa_raise_err(c, X86_GP, 0);
	return flat_of(c)->msr[index];
}

static inline void flat_op_wrmsr(struct isa_cpu *c, u32 index, u64 val)
{
	if (index > 7)
		isa_raise_err(c, X86_GP, 0);
	flat_of(c)->msr[index] = val;
}

static inline void flat_op_cpuid(struct isa_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
	out[0] = leaf + 1;
	out[1] = subleaf;
	out[2] = 0xc;
	out[3] = 0xd;
}

static inline u64 flat_op_rdtsc(struct isa_cpu *c)
{
	return flat_of(c)->tsc;
}

static inline u64 flat_op_rdpmc(struct isa_cpu *c, u32 index)
{
	return index;
}

static inline u64 flat_op_random(struct isa_cpu *c)
{
	return 0x0123456789abcdefull;
}

static inline void flat_op_xsetbv(struct isa_cpu *c, u32 index, u64 val)
{
	c->r.xcr0 = val;
}

static inline void flat_op_hlt(struct isa_cpu *c)
{
	c->s.activity = ISA_HLT;
}

static inline void flat_op_nothing(struct isa_cpu *c) {}

static inline void flat_op_invlpg(struct isa_cpu *c, u64 la)
{
	flat_of(c)->invlpg = la;
}

static inline void flat_op_invpcid(struct isa_cpu *c, unsigned type, u16 pcid, u64 la) {}

static inline void flat_op_vmx(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}

static inline void flat_op_soft_int(struct isa_cpu *c, unsigned vector, unsigned type)
{
	struct isa_event ev = {.vector = vector, .type = type};

	isa_deliver(c, &ev);
}

static inline void flat_op_mode(struct isa_cpu *c)
{
	flat_of(c)->n_mode++;
}

static inline void flat_op_recheck(struct isa_cpu *c)
{
	flat_of(c)->n_recheck++;
}

static const struct isa_ops flat_ops = {
	.mem_read = flat_op_read,
	.mem_write = flat_op_write,
	.mem_rmw = flat_op_rmw,
	.mem_lock = flat_op_lock,
	.mem_unlock = flat_op_unlock,
	.port_in = flat_op_in,
	.port_out = flat_op_out,
	.intercept = flat_op_intercept,
	.read_cr = flat_op_read_cr,
	.write_cr = flat_op_write_cr,
	.rdmsr = flat_op_rdmsr,
	.wrmsr = flat_op_wrmsr,
	.cpuid = flat_op_cpuid,
	.rdtsc = flat_op_rdtsc,
	.rdpmc = flat_op_rdpmc,
	.random = flat_op_random,
	.xsetbv = flat_op_xsetbv,
	.hlt = flat_op_hlt,
	.mwait = flat_op_nothing,
	.pause = flat_op_nothing,
	.wbinvd = flat_op_nothing,
	.invlpg = flat_op_invlpg,
	.invpcid = flat_op_invpcid,
	.vmx = flat_op_vmx,
	.soft_int = flat_op_soft_int,
	.mode_changed = flat_op_mode,
	.recheck_events = flat_op_recheck,
	.serialize = flat_op_nothing,
};

/* ---- Set-up ------------------------------------------------------------------------------------
 */

static inline void flat_poke(struct flatcpu *f, u32 at, u64 v, unsigned size)
{
	memcpy(f->mem + at, &v, size);
}

static inline u64 flat_peek(struct flatcpu *f, u32 at, unsigned size)
{
	u64 v = 0;

	memcpy(&v, f->mem + at, size);
	return v;
}

static inline void flat_tlb(struct flatcpu *f, bool on)
{
	unsigned k;

	f->tlb_on = on;
	for (k = 0; k < ISA_TLB_SIZE; k++) {
		u64 page = (u64)k << PAGE_SHIFT;

		f->tlb.r[k].neg_page = on ? -page : ISA_TLB_INVALID(k);
		f->tlb.r[k].page = (u64)(uintptr_t)f->mem + page;
		f->tlb.w[k] = f->tlb.r[k];
	}
}

/* A descriptor from base, limit (bytes or pages as G says) and access rights (VMCS format). */
static inline u64 flat_desc(u32 base, u32 limit, u32 ar)
{
	return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(ar & 0xf0ff) << 40 |
	       (u64)(limit >> 16 & 15) << 48 | (u64)(base >> 24) << 56;
}

static inline void flat_set_desc(struct flatcpu *f, u16 sel, u64 desc)
{
	flat_poke(f, FLAT_GDT + (sel & ~7u), desc, 8);
}

/* Real mode, CS = 0x1000:0. */
static inline struct flatcpu *flat_real(void)
{
	struct flatcpu *f = aligned_alloc(64, (sizeof(*f) + 63) & ~63ul);
	unsigned k;

	memset(f, 0, sizeof(*f));
	f->mem = calloc(1, FLAT_MEM);
	f->icpt_exit = -1;
	f->c.ops = &flat_ops;
	f->c.tlb = &f->tlb;
	f->c.catch = &f->catch;
	for (k = 0; k < 4; k++)
		f->c.feat[k] = ~0ull;
	flat_tlb(f, false);
	isa_reset(&f->c, false);
	f->c.s.seg[CS].sel = FLAT_CODE >> 4;
	f->c.s.seg[CS].base = FLAT_CODE;
	f->c.s.idtr.limit = 0x3ff;
	f->c.s.rip = 0;
	f->c.r.gpr[RSP] = 0x8000;
	isa_mode_changed(&f->c);
	return f;
}

static inline void flat_free(struct flatcpu *f)
{
	free(f->mem);
	free(f);
}

/* Loads a segment register from its descriptor without any check; @cpl into CS and SS selectors. */
static inline void flat_load(struct flatcpu *f, unsigned seg, u16 sel)
{
	u64 d = flat_peek(f, FLAT_GDT + (sel & ~7u), 8);
	struct isa_seg *s = &f->c.s.seg[seg];

	s->sel = sel;
	s->ar = d >> 40 & 0xf0ff;
	s->limit = (d & 0xffff) | (d >> 32 & 0xf0000);
	if (d >> 55 & 1)
		s->limit = s->limit << 12 | 0xfff;
	s->base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);
}

/* Protected mode, 32-bit flat segments, CPL 0 or 3; a TSS with a stack for CPL 0; an IDT. */
static inline struct flatcpu *flat_prot(unsigned cpl)
{
	struct flatcpu *f = flat_real();
	struct isa_sys *s = &f->c.s;
	unsigned k;

	flat_set_desc(f, FLAT_CS0, flat_desc(0, 0xfffff, 0xc09b));
	flat_set_desc(f, FLAT_DS0, flat_desc(0, 0xfffff, 0xc093));
	flat_set_desc(f, FLAT_CS3, flat_desc(0, 0xfffff, 0xc0fb));
	flat_set_desc(f, FLAT_DS3, flat_desc(0, 0xfffff, 0xc0f3));
	flat_set_desc(f, FLAT_TR, flat_desc(FLAT_TSS, 0x67, 0x008b));
	flat_set_desc(f, FLAT_CS64, flat_desc(0, 0xfffff, 0xa09b));
	flat_set_desc(f, FLAT_CS64U, flat_desc(0, 0xfffff, 0xa0fb));
	flat_poke(f, FLAT_TSS + 4, FLAT_STACK0, 4);
	flat_poke(f, FLAT_TSS + 8, FLAT_DS0, 2);
	flat_poke(f, FLAT_TSS + 0x66, 0x68, 2);
	s->gdtr = (struct isa_dtr){FLAT_GDT, 0xff};
	s->idtr = (struct isa_dtr){FLAT_IDT, 0x7ff};
	s->cr0 |= CR0_PE;
	flat_load(f, CS, cpl ? FLAT_CS3 : FLAT_CS0);
	for (k = 0; k < 6; k++)
		if (k != CS)
			flat_load(f, k, cpl ? FLAT_DS3 : FLAT_DS0);
	flat_load(f, TR, FLAT_TR);
	s->seg[LDTR] = (struct isa_seg){.ar = SEG_AR_UNUSABLE};
	s->rip = FLAT_CODE;
	f->c.r.gpr[RSP] = FLAT_STACK;
	isa_mode_changed(&f->c);
	return f;
}

/* 64-bit mode, CPL 0 or 3. */
static inline struct flatcpu *flat_long(unsigned cpl)
{
	struct flatcpu *f = flat_prot(cpl);
	struct isa_sys *s = &f->c.s;

	flat_poke(f, FLAT_GDT + FLAT_TR + 8, 0, 8);
	memset(f->mem + FLAT_TSS, 0, 0x68);
	flat_poke(f, FLAT_TSS + 4, FLAT_STACK0, 8);
	flat_poke(f, FLAT_TSS + 0x66, 0x68, 2);
	s->cr0 |= CR0_PG;
	s->cr4 |= CR4_PAE;
	s->efer = EFER_LME | EFER_LMA | EFER_SCE;
	s->idtr.limit = 0xfff;
	flat_load(f, CS, cpl ? FLAT_CS64U : FLAT_CS64);
	isa_mode_changed(&f->c);
	return f;
}

/* An IDT entry for the mode. @type: 5 6 7 14 15. */
static inline void flat_gate(struct flatcpu *f, unsigned vector, u16 sel, u64 off, unsigned type,
			     unsigned dpl, unsigned ist)
{
	bool lma = f->c.s.efer & EFER_LMA;
	u32 at = FLAT_IDT + vector * (lma ? 16 : 8);
	u64 d = (off & 0xffff) | (u64)sel << 16 | (u64)ist << 32 |
		(u64)(0x80 | dpl << 5 | type) << 40 | (off >> 16 & 0xffff) << 48;

	flat_poke(f, at, d, 8);
	if (lma)
		flat_poke(f, at + 8, off >> 32, 8);
}

/* ---- Running
 * -------------------------------------------------------------------------------------- */

/* One instruction at CS:RIP: 0, or the throw (the fault is in c.fault, RIP at the instruction). */
static inline int flat_step(struct flatcpu *f)
{
	struct isa_cpu *c = &f->c;
	u32 la = (u32)((c->mode == ISA_LONG64 ? 0 : c->s.seg[CS].base) + c->s.rip);
	static struct isa_insn i; /* survives the jump */
	int what;

	isa_decode(f->mem + la, 15, c->mode, &i);
	what = _setjmp(f->catch);
	if (!what) {
		c->s.rip += i.len;
		c->insn = &i;
		i.exec(c, &i);
	} else if (c->insn) {
		c->s.rip -= i.len;
	}
	c->insn = NULL;
	isa_insn_release(&i);
	return what;
}

/* Puts @bytes at CS:RIP and runs the first of them. */
static inline int flat_exec(struct flatcpu *f, const void *bytes, size_t n)
{
	struct isa_cpu *c = &f->c;
	u32 la = (u32)((c->mode == ISA_LONG64 ? 0 : c->s.seg[CS].base) + c->s.rip);

	memset(f->mem + la, 0x90, 15);
	memcpy(f->mem + la, bytes, n);
	return flat_step(f);
}
#define FLAT_EXEC(f, ...) flat_exec(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* Delivers an event at CS:RIP: 0 or the throw. */
static inline int flat_event(struct flatcpu *f, const struct isa_event *ev)
{
	int what = _setjmp(f->catch);

	f->c.insn = NULL;
	if (!what)
		isa_deliver(&f->c, ev);
	return what;
}

/* The fault that FLAT_EXEC has just thrown: vector in the low byte, error code above; -1 if none.
 */
#define FLAT_FAULT(vec, err) ((int)((vec) | (err) << 8))
static inline int flat_fault(struct flatcpu *f, int what)
{
	if (what != ISA_THROW_FAULT)
		return -1;
	return FLAT_FAULT(f->c.fault.vector, f->c.fault.has_error ? f->c.fault.error : 0);
}

#endif
