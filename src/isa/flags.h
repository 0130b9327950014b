/* SPDX-License-Identifier: MIT */
/*
 * Status flags, computed when someone asks. An arithmetic instruction stores its result and the
 * carry out of every bit position; the six flags are functions of these two words:
 *
 *	ZF = result is 0		SF = sign of the result (xor ADJ_SF)
 *	CF = carry out of the top bit	OF = carry out of the top bit xor into it
 *	AF = carry out of bit 3		PF = even parity of the low byte (xor ADJ_PF)
 *
 * The two top carries are kept in bits 31 and 30 of cc_aux whatever the operand size. The ADJ bits
 * make combinations reachable that no result has (POPF with ZF and SF both set).
 */
#ifndef ISA_FLAGS_H
#define ISA_FLAGS_H

#include "isa/isa.h"

#define CC_CARRY  BIT(31)
#define CC_CARRY2 BIT(30) /* carry into the top bit */
#define CC_AF	  BIT(3)
#define CC_ADJ_SF BIT(0)
#define CC_ADJ_PF BIT(1)

static inline bool isa_cf(const struct isa_cpu *c)
{
	return c->cc_aux >> 31;
}
static inline bool isa_zf(const struct isa_cpu *c)
{
	return c->cc_res == 0;
}
static inline bool isa_sf(const struct isa_cpu *c)
{
	return (c->cc_res >> 63) ^ (c->cc_aux & 1);
}
static inline bool isa_of(const struct isa_cpu *c)
{
	return ((c->cc_aux >> 31) ^ (c->cc_aux >> 30)) & 1;
}
static inline bool isa_af(const struct isa_cpu *c)
{
	return (c->cc_aux >> 3) & 1;
}
static inline bool isa_pf(const struct isa_cpu *c)
{
	return !(__builtin_parity((u8)c->cc_res) ^ ((c->cc_aux >> 1) & 1));
}

/* The whole RFLAGS as PUSHF would show it to CPL 0. */
static inline u64 isa_flags(const struct isa_cpu *c)
{
	return (c->s.rflags & ~X86_STATUS_FLAGS) | 2 | (isa_cf(c) ? X86_CF : 0) |
	       (isa_pf(c) ? X86_PF : 0) | (isa_af(c) ? X86_AF : 0) | (isa_zf(c) ? X86_ZF : 0) |
	       (isa_sf(c) ? X86_SF : 0) | (isa_of(c) ? X86_OF : 0);
}

/* Sets exactly the six status flags. */
static inline void isa_set_status(struct isa_cpu *c, u64 f)
{
	bool sf = f & X86_SF, pf = f & X86_PF, cf = f & X86_CF, of = f & X86_OF;

	c->cc_res = f & X86_ZF ? 0 : (sf ? (u64)-128 : 128) | 0; /* parity odd, sign as asked */
	c->cc_aux = cf ? CC_CARRY : 0;
	if (cf != of)
		c->cc_aux |= CC_CARRY2;
	if (f & X86_AF)
		c->cc_aux |= CC_AF;
	if (f & X86_ZF) {
		c->cc_aux |= (sf ? CC_ADJ_SF : 0) | (pf ? 0 : CC_ADJ_PF);
	} else {
		c->cc_aux |= pf ? CC_ADJ_PF : 0;
	}
}

/* Sets all of RFLAGS. The caller has sorted out which bits may change. */
static inline void isa_set_flags(struct isa_cpu *c, u64 f)
{
	c->s.rflags = (f & ~X86_STATUS_FLAGS) | 2;
	isa_set_status(c, f);
}

/* After r = a + b + carry-in (or, with a - b - borrow-in, isa_cc_sub); @size in bytes. */
static inline void isa_cc_set(struct isa_cpu *c, unsigned size, u64 r, u64 carries)
{
	switch (size) {
	case 1:
		c->cc_res = (u64)(s8)r;
		c->cc_aux = (u32)(carries << 24) | (carries & CC_AF);
		break;
	case 2:
		c->cc_res = (u64)(s16)r;
		c->cc_aux = (u32)(carries << 16 & 0xc0000000) | (carries & CC_AF);
		break;
	case 4:
		c->cc_res = (u64)(s32)r;
		c->cc_aux = (u32)(carries & (0xc0000000 | CC_AF));
		break;
	default: c->cc_res = r; c->cc_aux = (u32)(carries >> 32 & 0xc0000000) | (carries & CC_AF);
	}
	c->cc_aux &= 0xc0000000 | CC_AF;
}

static inline void isa_cc_add(struct isa_cpu *c, unsigned size, u64 a, u64 b, u64 r)
{
	isa_cc_set(c, size, r, (a & b) | ((a | b) & ~r));
}

static inline void isa_cc_sub(struct isa_cpu *c, unsigned size, u64 a, u64 b, u64 r)
{
	isa_cc_set(c, size, r, (~a & b) | ((~a | b) & r));
}

/* AND, OR, XOR, TEST: CF = OF = 0, AF undefined (0 here, as processors do). */
static inline void isa_cc_logic(struct isa_cpu *c, unsigned size, u64 r)
{
	c->cc_res = sign_extend(r, size * 8);
	c->cc_aux = 0;
}

static inline void isa_set_cf(struct isa_cpu *c, bool cf)
{
	/* Keep OF: both carries change together. */
	if (cf != isa_cf(c))
		c->cc_aux ^= CC_CARRY | CC_CARRY2;
}

/* Condition codes in the order of the opcodes: O NO B NB Z NZ BE NBE S NS P NP L NL LE NLE. */
static inline bool isa_cond(const struct isa_cpu *c, unsigned cc)
{
	bool v;

	switch (cc >> 1) {
	case 0: v = isa_of(c); break;
	case 1: v = isa_cf(c); break;
	case 2: v = isa_zf(c); break;
	case 3: v = isa_cf(c) || isa_zf(c); break;
	case 4: v = isa_sf(c); break;
	case 5: v = isa_pf(c); break;
	case 6: v = isa_sf(c) != isa_of(c); break;
	default: v = isa_zf(c) || isa_sf(c) != isa_of(c); break;
	}
	return v ^ (cc & 1);
}

#endif
