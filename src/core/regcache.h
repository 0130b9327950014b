/* SPDX-License-Identifier: MIT */
/*
 * Where a guest register's value is: docs/register-cache.md. This header has the bitmaps and their
 * transitions and nothing else, so that both back ends and the unit test share one definition;
 * core/regs.h has the accessors.
 */
#ifndef CORE_REGCACHE_H
#define CORE_REGCACHE_H

#include "base/log.h"
#include "base/types.h"
#include "isa/isa.h"

enum kvm_reg {
	/* 0-15: general registers, enum isa_gpr; their values are in v->hw->gpr */
	VCPU_REG_RIP = 16,
	VCPU_EXREG_RFLAGS,
	VCPU_EXREG_PDPTR,
	VCPU_EXREG_SEGMENTS,
	VCPU_EXREG_CR0,
	VCPU_EXREG_CR3,
	VCPU_EXREG_CR4,
	VCPU_EXREG_EXIT_INFO_1,
	VCPU_EXREG_EXIT_INFO_2,
	VCPU_NREGS,
};
_Static_assert(VCPU_NREGS <= 32, "one word holds all registers");

#define REGCACHE_ALL ((u32)((1ull << VCPU_NREGS) - 1))

struct regcache {
	/*
	 * avail dirty
	 *   0     0    the value is in the VMCS or VMCB only
	 *   0     1    never
	 *   1     0    here, and the same in the hardware area
	 *   1     1    here, to be stored back before the next entry
	 */
	u32 avail, dirty;
	u64 rip, rflags, cr0, cr3, cr4;
	u64 pdptr[4];
	struct isa_seg seg[ISA_NSEG];
	/* While SEGMENTS is available: which fields of seg[] are, 4 bits a segment (back end's). */
	u32 seg_fields;
	u64 exit_info_1;
	u32 exit_info_2;
};

static inline u32 regcache_bit(enum kvm_reg reg)
{
	return 1u << reg;
}

static inline bool regcache_available(const struct regcache *c, enum kvm_reg reg)
{
	return c->avail & regcache_bit(reg);
}

static inline bool regcache_is_dirty(const struct regcache *c, enum kvm_reg reg)
{
	return c->dirty & regcache_bit(reg);
}

/* The cache has just been filled from the hardware area, or written through to it. */
static inline void regcache_mark_available(struct regcache *c, enum kvm_reg reg)
{
	c->avail |= regcache_bit(reg);
}

/* The value here is newer than the hardware area's. */
static inline void regcache_mark_dirty(struct regcache *c, enum kvm_reg reg)
{
	c->avail |= regcache_bit(reg);
	c->dirty |= regcache_bit(reg);
}

static inline bool regcache_valid(const struct regcache *c)
{
	return !(c->dirty & ~c->avail) && !(c->avail & ~REGCACHE_ALL);
}

/* Before entry: the back end has stored every dirty register that has a place in the hardware area.
 */
static inline void regcache_stored(struct regcache *c)
{
	DEBUG_BUG_ON(!regcache_valid(c));
	c->dirty = 0;
}

/* After an exit: @lazy_set is only in the hardware area from now on. */
static inline void regcache_exited(struct regcache *c, u32 lazy_set)
{
	DEBUG_BUG_ON(c->dirty & lazy_set);
	c->avail &= ~lazy_set;
	DEBUG_BUG_ON(!regcache_valid(c));
}

/* Another VMCS or VMCB becomes current (01 <-> 02). The back end has stored what was dirty. */
static inline void regcache_switched(struct regcache *c, u32 lazy_set)
{
	DEBUG_BUG_ON(!regcache_valid(c));
	c->avail &= ~lazy_set;
	c->dirty = 0;
}

#endif
