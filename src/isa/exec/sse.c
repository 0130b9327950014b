/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions that run as themselves (exec/native.h), plain moves, and the MXCSR. Which
 * ones: spec/insn/{mmx_sse,avx,bmi}.def.
 */
#include "isa/exec/native.h"
#include "isa/exec/operand.h"

#define MXCSR_FLAGS 0x3fu
#define MXCSR_UM    BIT(11)
#define MXCSR_FZ    BIT(15)
#define MXCSR_MASKS 0x1f80u
#define MXCSR_VALID 0xffffu

void sse_raised(struct isa_cpu *c, u32 raised)
{
	c->r.x87.mxcsr |= raised & MXCSR_FLAGS;
	if (!(raised & ~(c->r.x87.mxcsr >> 7) & MXCSR_FLAGS))
		return;
	isa_raise(c, c->s.cr4 & CR4_OSXMMEXCPT ? X86_XM : X86_UD);
}

/* An unmasked exception found before computing (IE, DE, ZE) leaves those found after it (OE, UE,
 * PE) unreported: SDM vol. 1, 11.5.3. */
static void simd_raised(struct isa_cpu *c, u32 raised)
{
	u32 unmasked = raised & ~(c->r.x87.mxcsr >> 7);

	if (unmasked & 7)
		raised &= 7;
	sse_raised(c, raised);
}

#ifdef __x86_64__
static __always_inline_ void call_stub(struct isa_cpu *c, const struct native_stub *s, void *mem)
{
	if (likely(!(s->flags & (NATIVE_MXCSR | NATIVE_FLAGS)))) {
		s->code(c, mem, NULL);
		return;
	}
	struct native_frame f;

	if (s->flags & NATIVE_MXCSR) {
		f.mxcsr = (c->r.x87.mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS;
		/* Unmasked, underflow is raised for exact tiny results too (SDM vol. 1, 4.9.1.5):
		 * flushing to zero shows them, and changes nothing where there are none. */
		if (!(c->r.x87.mxcsr & MXCSR_UM))
			f.mxcsr |= MXCSR_FZ;
		f.unmasked = ~(c->r.x87.mxcsr >> 7) & MXCSR_FLAGS;
		f.mxcsr_host = __builtin_ia32_stmxcsr();
	}
	s->code(c, mem, &f);
	if (s->flags & NATIVE_MXCSR)
		simd_raised(c, f.mxcsr_out & MXCSR_FLAGS);
	if (s->flags & NATIVE_FLAGS)
		isa_set_status(c, f.flags_out);
}

/* Runs @i; memory goes through the TLB's pointer where no state of ours is switched meanwhile. */
static __always_inline_ void run(struct isa_cpu *c, const struct isa_insn *i,
				 const struct native_stub *s)
{
	u8 buf[64] __attribute__((aligned(64)));
	u64 la;
	void *p;

	switch (s->mem) {
	case NATIVE_REG: call_stub(c, s, NULL); break;
	case NATIVE_LOAD:
		la = isa_ea(c, i, 0);
		if (unlikely(la & s->align))
			isa_raise_err(c, X86_GP, 0);
		p = isa_tlb_hit(c->tlb->r, la, i->msize);
		if (unlikely(!p || (s->flags & NATIVE_BOUNCE) || ((u64)p & s->align))) {
			isa_read(c, la, buf, i->msize, ISA_HOW(i));
			p = buf;
		}
		call_stub(c, s, p);
		break;
	default:
		la = isa_ea(c, i, ISA_ACC_WRITE);
		if (unlikely(la & s->align))
			isa_raise_err(c, X86_GP, 0);
		p = isa_tlb_hit(c->tlb->w, la, i->msize);
		if (likely(p && !(s->flags & NATIVE_BOUNCE) && !((u64)p & s->align))) {
			call_stub(c, s, p);
		} else {
			/* A page fault comes before a change of MXCSR. */
			if (s->flags & NATIVE_MXCSR)
				rmw_ptr(c, la, i->msize, ISA_HOW(i));
			call_stub(c, s, buf);
			isa_write(c, la, buf, i->msize, ISA_HOW(i));
		}
	}
}

void exec_simd(struct isa_cpu *c, const struct isa_insn *i)
{
	run(c, i, native_get(c, i));
}

/* Forms with MMX registers that store: the memory write may fault, so it comes before the x87
 * state changes. */
static void mmx_store(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned top = c->r.x87.fsw >> 11 & 7;
	u64 v;

	memcpy(&v, c->r.x87.st[(i->o[1].reg - top) & 7], sizeof(v));
	mem_set(c, isa_ea(c, i, ISA_ACC_WRITE), i->msize, v, ISA_HOW(i));
	x87_enter_mmx(c);
}

/* Rows with MMX forms, or with both MMX and XMM forms: the operands tell which unit it is. */
void exec_simd_mmx(struct isa_cpu *c, const struct isa_insn *i)
{
	u8 buf[16] __attribute__((aligned(16)));
	const struct native_stub *s;
	bool xmm = false, mmx = false;
	unsigned k;

	for (k = 0; k < i->nops; k++) {
		xmm |= i->o[k].kind == OK_XMM;
		mmx |= i->o[k].kind == OK_MMX;
	}
	if ((c->s.cr0 & CR0_EM) || (xmm && !(c->s.cr4 & CR4_OSFXSR)))
		isa_raise(c, X86_UD);
	if (c->s.cr0 & CR0_TS)
		isa_raise(c, X86_NM);
	s = native_get(c, i);
	if (!mmx) {
		run(c, i, s);
		return;
	}
	isa_check_mf(c);
	if (s->mem == NATIVE_STORE) {
		mmx_store(c, i);
		return;
	}
	if (s->mem == NATIVE_LOAD) {
		u64 la = isa_ea(c, i, 0);

		if (la & s->align)
			isa_raise_err(c, X86_GP, 0);
		isa_read(c, la, buf, i->msize, ISA_HOW(i));
	}
	x87_enter_mmx(c);
	call_stub(c, s, buf);
}
#else
void exec_simd(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}

void exec_simd_mmx(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}
#endif

/* Moves of a whole register, to or from memory or another register. */
void exec_simd_mov(struct isa_cpu *c, const struct isa_insn *i)
{
	bool vex = i->prefixes & ISA_P_VEX;
	union isa_vec *v;
	u8 buf[32];
	u64 la;

	if (vex && i->o[0].kind == OK_YMM && i->op == ISA_OP_VMOVNTDQA && !isa_has(c, FEAT_AVX2))
		isa_raise(c, X86_UD);
	if (i->o[0].kind == OK_MEM) {
		la = i->flags & ISA_F_ALIGN ? isa_ea_aligned(c, i, ISA_ACC_WRITE)
					    : isa_ea(c, i, ISA_ACC_WRITE);
		if (i->msize == 16)
			isa_write(c, la, &c->r.vec[i->o[1].reg], 16, ISA_HOW(i));
		else
			isa_write(c, la, &c->r.vec[i->o[1].reg], 32, ISA_HOW(i));
		return;
	}
	v = &c->r.vec[i->o[0].reg];
	if (i->o[1].kind == OK_MEM) {
		la = i->flags & ISA_F_ALIGN ? isa_ea_aligned(c, i, 0) : isa_ea(c, i, 0);
		if (i->o[0].kind == OK_YMM) {
			isa_read(c, la, buf, 32, ISA_HOW(i));
			memcpy(v, buf, 32);
			return;
		}
		isa_read(c, la, buf, 16, ISA_HOW(i));
		memcpy(v, buf, 16);
	} else if (i->o[0].kind == OK_YMM) {
		memcpy(v, &c->r.vec[i->o[1].reg], 32);
		return;
	} else {
		memcpy(v, &c->r.vec[i->o[1].reg], 16);
	}
	if (vex)
		v->q[2] = v->q[3] = 0;
}

void exec_ldmxcsr(struct isa_cpu *c, const struct isa_insn *i)
{
	u32 v = isa_ld32(c, isa_ea(c, i, 0), ISA_HOW(i));

	if (v & ~MXCSR_VALID)
		isa_raise_err(c, X86_GP, 0);
	c->r.x87.mxcsr = v;
}

void exec_stmxcsr(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_st32(c, isa_ea(c, i, ISA_ACC_WRITE), c->r.x87.mxcsr, ISA_HOW(i));
}
