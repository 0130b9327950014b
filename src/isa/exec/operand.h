/* SPDX-License-Identifier: MIT */
/* Operands: registers, memory, read-modify-write, and the stack. For exec/ *.c only. */
#ifndef ISA_EXEC_OPERAND_H
#define ISA_EXEC_OPERAND_H

#include "isa/flags.h"
#include "isa/insn_table.h"
#include "isa/mem.h"

/* ---- Registers ------------------------------------------------------------------------------ */

static __always_inline_ u64 reg_get(const struct isa_cpu *c, unsigned r, unsigned size)
{
	return mask_size(c->r.gpr[r], size);
}

/* 32-bit results are zero-extended, smaller ones merged (SDM vol. 1, 3.4.1.1). */
static __always_inline_ void reg_set(struct isa_cpu *c, unsigned r, unsigned size, u64 v)
{
	switch (size) {
	case 1: c->r.gpr[r] = (c->r.gpr[r] & ~0xffull) | (u8)v; break;
	case 2: c->r.gpr[r] = (c->r.gpr[r] & ~0xffffull) | (u16)v; break;
	case 4: c->r.gpr[r] = (u32)v; break;
	default: c->r.gpr[r] = v; break;
	}
}

/* ---- Memory by size ---------------------------------------------------------------------------
 */

static __always_inline_ u64 mem_get(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	switch (size) {
	case 1: return isa_ld8(c, la, how);
	case 2: return isa_ld16(c, la, how);
	case 4: return isa_ld32(c, la, how);
	default: return isa_ld64(c, la, how);
	}
}

static __always_inline_ void mem_set(struct isa_cpu *c, u64 la, unsigned size, u64 v, unsigned how)
{
	switch (size) {
	case 1: isa_st8(c, la, (u8)v, how); break;
	case 2: isa_st16(c, la, (u16)v, how); break;
	case 4: isa_st32(c, la, (u32)v, how); break;
	default: isa_st64(c, la, v, how); break;
	}
}

static __always_inline_ u64 host_get(const void *p, unsigned size)
{
	u64 v = 0;

	switch (size) {
	case 1: return *(const u8 *)p;
	case 2: memcpy(&v, p, 2); return v;
	case 4: memcpy(&v, p, 4); return v;
	default: memcpy(&v, p, 8); return v;
	}
}

static __always_inline_ void host_set(void *p, unsigned size, u64 v)
{
	switch (size) {
	case 1: *(u8 *)p = (u8)v; break;
	case 2: memcpy(p, &v, 2); break;
	case 4: memcpy(p, &v, 4); break;
	default: memcpy(p, &v, 8); break;
	}
}

/* One attempt; on failure *@expect is what was there. */
static inline bool host_cas(void *p, unsigned size, u64 *expect, u64 v)
{
	bool ok;

#define HOST_CAS(bits)                                                                \
	do {                                                                          \
		u##bits e = (u##bits) * expect;                                       \
		ok = __atomic_compare_exchange_n((u##bits *)p, &e, (u##bits)v, false, \
						 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
		*expect = e;                                                          \
	} while (0)
	switch (size) {
	case 1: HOST_CAS(8); break;
	case 2: HOST_CAS(16); break;
	case 4: HOST_CAS(32); break;
	default: HOST_CAS(64); break;
	}
#undef HOST_CAS
	return ok;
}

/* Host pointer for a read-modify-write of @size bytes, or NULL: see ops->mem_rmw. */
static __always_inline_ void *rmw_ptr(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	void *p = isa_tlb_hit(c->tlb->w, la, size);

	return likely(p != NULL) ? p : c->ops->mem_rmw(c, la, size, how | ISA_ACC_WRITE);
}

/* ---- Operands by number ------------------------------------------------------------------------
 */

/* Zero-extended from the operand's size, except immediates, which come sign-extended. */
static __always_inline_ u64 op_get(struct isa_cpu *c, const struct isa_insn *i, unsigned k)
{
	const struct isa_opnd *o = &i->o[k];

	switch (o->kind) {
	case OK_GPR: return reg_get(c, o->reg, o->size);
	case OK_GPRH: return (u8)(c->r.gpr[o->reg] >> 8);
	case OK_MEM: return mem_get(c, isa_ea(c, i, 0), o->size, ISA_HOW(i));
	default: return i->imm;
	}
}

static __always_inline_ void opreg_set(struct isa_cpu *c, const struct isa_opnd *o, u64 v)
{
	if (unlikely(o->kind == OK_GPRH))
		c->r.gpr[o->reg] = (c->r.gpr[o->reg] & ~0xff00ull) | (u64)(u8)v << 8;
	else
		reg_set(c, o->reg, o->size, v);
}

static __always_inline_ void op_set(struct isa_cpu *c, const struct isa_insn *i, unsigned k, u64 v)
{
	const struct isa_opnd *o = &i->o[k];

	if (o->kind == OK_MEM)
		mem_set(c, isa_ea(c, i, ISA_ACC_WRITE), o->size, v, ISA_HOW(i));
	else
		opreg_set(c, o, v);
}

/* ---- Read-modify-write
 * --------------------------------------------------------------------------- */

/* A result from the old value @a and the source @b; may set flags and nothing else. */
typedef u64 rmw_fn(struct isa_cpu *c, unsigned size, u64 a, u64 b);

/* rmw_at where there is no host pointer, or where LOCK asks for a host atomic. */
void isa_rmw_slow(struct isa_cpu *c, const struct isa_insn *i, u64 la, unsigned size, rmw_fn *fn,
		  u64 b);
void isa_rmw_locked(struct isa_cpu *c, void *p, unsigned size, rmw_fn *fn, u64 b);

/* The memory at linear address @la becomes fn(it, @b). */
static __always_inline_ void rmw_at(struct isa_cpu *c, const struct isa_insn *i, u64 la,
				    unsigned size, rmw_fn *fn, u64 b)
{
	void *p = rmw_ptr(c, la, size, ISA_HOW(i));

	if (unlikely(!p))
		isa_rmw_slow(c, i, la, size, fn, b);
	else if (i->prefixes & ISA_P_LOCK)
		isa_rmw_locked(c, p, size, fn, b);
	else
		host_set(p, size, fn(c, size, host_get(p, size), b));
}

/* The instruction's memory operand becomes fn(it, @b). */
static __always_inline_ void rmw_mem(struct isa_cpu *c, const struct isa_insn *i, unsigned size,
				     rmw_fn *fn, u64 b)
{
	rmw_at(c, i, isa_ea(c, i, ISA_ACC_WRITE), size, fn, b);
}

/* Operand 0, register or memory, becomes fn(it, @b). */
static __always_inline_ void rmw_op0(struct isa_cpu *c, const struct isa_insn *i, rmw_fn *fn, u64 b)
{
	const struct isa_opnd *o = &i->o[0];

	if (o->kind == OK_MEM)
		rmw_mem(c, i, o->size, fn, b);
	else
		opreg_set(c, o, fn(c, o->size, op_get(c, i, 0), b));
}

/* ---- Stack
 * ----------------------------------------------------------------------------------------- */

/* RSP moved by @delta within the stack's width. */
static __always_inline_ u64 sp_moved(const struct isa_cpu *c, s64 delta)
{
	u64 sp = c->r.gpr[RSP], moved = (sp + (u64)delta) & c->sp_mask;

	return c->sp_mask == 0xffff ? (sp & ~0xffffull) | moved : moved;
}

static __always_inline_ u64 stack_la(struct isa_cpu *c, u64 sp, unsigned size, unsigned how)
{
	return isa_linear(c, SS, sp & c->sp_mask, size, how | ISA_ACC_STACK);
}

/* Commits RSP after the write. */
static __always_inline_ void push_val(struct isa_cpu *c, unsigned size, u64 v)
{
	u64 sp = sp_moved(c, -(s64)size);

	mem_set(c, stack_la(c, sp, size, ISA_ACC_WRITE), size, v, ISA_ACC_STACK);
	c->r.gpr[RSP] = sp;
}

/* Reads at RSP + @off without moving it. */
static __always_inline_ u64 stack_peek(struct isa_cpu *c, unsigned off, unsigned size)
{
	return mem_get(c, stack_la(c, c->r.gpr[RSP] + off, size, 0), size, ISA_ACC_STACK);
}

static __always_inline_ u64 pop_val(struct isa_cpu *c, unsigned size)
{
	u64 v = stack_peek(c, 0, size);

	c->r.gpr[RSP] = sp_moved(c, size);
	return v;
}

/* ---- Branches
 * -------------------------------------------------------------------------------------- */

/* Raises #GP(0) if @rip cannot be executed from: SDM vol. 2, JMP, "near jumps". */
static __always_inline_ void check_rip(struct isa_cpu *c, u64 rip)
{
	if (c->mode == ISA_LONG64) {
		if (unlikely(!is_canonical(rip, c->va_bits)))
			isa_raise_err(c, X86_GP, 0);
	} else if (unlikely(rip > c->s.seg[CS].limit)) {
		isa_raise_err(c, X86_GP, 0);
	}
}

static __always_inline_ u64 rip_moved(const struct isa_cpu *c, const struct isa_insn *i)
{
	return mask_size(c->s.rip + i->imm, i->opsize);
}

/* ---- Modes
 * ------------------------------------------------------------------------------------------ */

static inline bool is_real(const struct isa_cpu *c)
{
	return !(c->s.cr0 & CR0_PE);
}

static inline bool is_v86(const struct isa_cpu *c)
{
	return c->s.rflags & X86_VM;
}

/* Protected mode proper, without virtual-8086. */
static inline bool is_prot(const struct isa_cpu *c)
{
	return !is_real(c) && !is_v86(c);
}

static inline bool is_lma(const struct isa_cpu *c)
{
	return c->s.efer & EFER_LMA;
}

static inline unsigned iopl(const struct isa_cpu *c)
{
	return (c->s.rflags & X86_IOPL) >> 12;
}

/* Memory operand with natural alignment enforced (ISA_F_ALIGN rows, CMPXCHG16B): #GP(0). */
static inline u64 isa_ea_aligned(struct isa_cpu *c, const struct isa_insn *i, unsigned how)
{
	u64 la = isa_ea(c, i, how);

	if (unlikely(la & (i->msize - 1)))
		isa_raise_err(c, X86_GP, 0);
	return la;
}

#endif
