/* SPDX-License-Identifier: MIT */
/*
 * Memory as instructions reach it: the inlined TLB check, then ops->mem_*. Addresses here are
 * linear; isa_ea (segmentation) makes them.
 */
#ifndef ISA_MEM_H
#define ISA_MEM_H

#include <string.h>

#include "isa/isa.h"

/* Host address of [@la, @la + @size) if @e maps it with the permission its array stands for. */
static inline void *isa_tlb_hit(const struct isa_tlbe *set, u64 la, unsigned size)
{
	const struct isa_tlbe *e = &set[(la >> PAGE_SHIFT) & (ISA_TLB_SIZE - 1)];

	u64 offset = la + e->neg_page;

	return likely(offset <= PAGE_SIZE - size) ? (void *)(offset + e->page) : NULL;
}

/* Single host accesses, so that what is aligned is atomic as on a processor (vol. 3A, 9.1.1). */
#define ISA_DEFINE_LD(bits)                                                                 \
	static inline u##bits isa_ld##bits(struct isa_cpu *c, u64 la, unsigned how)         \
	{                                                                                   \
		u##bits *p = isa_tlb_hit(c->tlb->r, la, bits / 8);                          \
		u##bits v;                                                                  \
                                                                                            \
		if (likely(p != NULL))                                                      \
			return __atomic_load_n(p, __ATOMIC_RELAXED);                        \
		c->ops->mem_read(c, la, &v, sizeof(v), how);                                \
		return v;                                                                   \
	}                                                                                   \
	static inline void isa_st##bits(struct isa_cpu *c, u64 la, u##bits v, unsigned how) \
	{                                                                                   \
		u##bits *p = isa_tlb_hit(c->tlb->w, la, bits / 8);                          \
                                                                                            \
		if (likely(p != NULL))                                                      \
			__atomic_store_n(p, v, __ATOMIC_RELAXED);                           \
		else                                                                        \
			c->ops->mem_write(c, la, &v, sizeof(v), how | ISA_ACC_WRITE);       \
	}
ISA_DEFINE_LD(8)
ISA_DEFINE_LD(16)
ISA_DEFINE_LD(32)
ISA_DEFINE_LD(64)
#undef ISA_DEFINE_LD

/* Any size up to a page, e.g. 10, 16, 32, 512 bytes; not atomic as a whole. */
static inline void isa_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how)
{
	void *p = isa_tlb_hit(c->tlb->r, la, size);

	if (likely(p != NULL))
		memcpy(dst, p, size);
	else
		c->ops->mem_read(c, la, dst, size, how);
}

static inline void isa_write(struct isa_cpu *c, u64 la, const void *src, unsigned size,
			     unsigned how)
{
	void *p = isa_tlb_hit(c->tlb->w, la, size);

	if (likely(p != NULL))
		memcpy(p, src, size);
	else
		c->ops->mem_write(c, la, src, size, how | ISA_ACC_WRITE);
}

/*
 * Linear address of @insn's memory operand (or of an implied one), with the checks of segmentation:
 * outside 64-bit mode limit and type (#GP(0), or #SS(0) through SS) unless c->flat, in 64-bit mode
 * the FS/GS base. Canonical checks are the slow path's, which is why @how tells stack accesses.
 * exec/address.c has the general case.
 */
u64 isa_seg_linear(struct isa_cpu *c, unsigned seg, u64 offset, unsigned size, unsigned how);

static inline u64 isa_ea_offset(const struct isa_cpu *c, const struct isa_insn *i)
{
	u64 off = i->disp;

	if (i->base < 16)
		off += c->r.gpr[i->base];
	else if (i->base == ISA_REG_RIP)
		off += c->s.rip;
	if (i->index < 16)
		off += c->r.gpr[i->index] << i->scale;
	return mask_size(off, i->addrsize);
}

static inline u64 isa_linear(struct isa_cpu *c, unsigned seg, u64 offset, unsigned size,
			     unsigned how)
{
	if (likely(c->mode == ISA_LONG64))
		return seg < FS ? offset : offset + c->s.seg[seg].base;
	if (likely(c->flat && seg < FS && seg != CS && offset + size <= 1ull << 32))
		return offset;
	return isa_seg_linear(c, seg, offset, size, how);
}

/* Linear address of the memory operand; also remembered in c->ea. @how: ISA_ACC_WRITE or 0. */
static inline u64 isa_ea(struct isa_cpu *c, const struct isa_insn *i, unsigned how)
{
	return c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), i->msize, how);
}
#define ISA_HOW(i) ((i)->seg == SS ? ISA_ACC_STACK : 0u)

#endif
