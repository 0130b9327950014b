/* SPDX-License-Identifier: MIT */
/* Binary arithmetic and logic as rmw_fn, for the generic handlers and the fast forms. */
#ifndef ISA_EXEC_ALU_H
#define ISA_EXEC_ALU_H

#include "isa/exec/operand.h"

static __always_inline_ u64 alu_add(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	u64 r = a + b;

	isa_cc_add(c, size, a, b, r);
	return r;
}

static __always_inline_ u64 alu_adc(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	u64 r = a + b + isa_cf(c);

	isa_cc_add(c, size, a, b, r);
	return r;
}

static __always_inline_ u64 alu_sub(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	u64 r = a - b;

	isa_cc_sub(c, size, a, b, r);
	return r;
}

static __always_inline_ u64 alu_sbb(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	u64 r = a - b - isa_cf(c);

	isa_cc_sub(c, size, a, b, r);
	return r;
}

static __always_inline_ u64 alu_and(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	isa_cc_logic(c, size, a & b);
	return a & b;
}

static __always_inline_ u64 alu_or(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	isa_cc_logic(c, size, a | b);
	return a | b;
}

static __always_inline_ u64 alu_xor(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	isa_cc_logic(c, size, a ^ b);
	return a ^ b;
}

/* INC and DEC leave CF alone. */
static __always_inline_ u64 alu_inc(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	bool cf = isa_cf(c);
	u64 r = alu_add(c, size, a, 1);

	isa_set_cf(c, cf);
	return r;
}

static __always_inline_ u64 alu_dec(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	bool cf = isa_cf(c);
	u64 r = alu_sub(c, size, a, 1);

	isa_set_cf(c, cf);
	return r;
}

static __always_inline_ u64 alu_neg(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	return alu_sub(c, size, 0, a);
}

static __always_inline_ u64 alu_not(struct isa_cpu *c, unsigned size, u64 a, u64 b)
{
	return ~a;
}

/* ---- Flags that are nobody's rule: undefined.c -------------------------------------------------
 */

struct isa_undefined {
	u32 shift_af; /* after shifts by more than 0: CC_AF or 0 */
	/* OF after shifts and rotates by more than 1 is what it is after 1, not the result's. */
	bool of_by_one;
	bool rotate_keeps; /* but ROL and ROR by an immediate leave it as it was */
	bool mul_keeps;	   /* MUL and IMUL leave PF, AF, ZF and SF as they were */
	bool count_pf; /* PF after TZCNT and LZCNT is the result's, else clear; AF, SF are clear */
	u64 count_keeps; /* but of OF, PF, AF and SF these stay as they were */
	bool scan_index; /* PF after BSF and BSR is the index's, not the operand's; SF is clear */
};
extern struct isa_undefined isa_undefined;

/* ---- Flags by hand -----------------------------------------------------------------------------
 */

/* CF and OF as given, the rest from the result; AF clear. */
static __always_inline_ void cc_cf_of(struct isa_cpu *c, unsigned size, u64 r, bool cf, bool of)
{
	c->cc_res = sign_extend(r, size * 8);
	c->cc_aux = (cf ? (u32)CC_CARRY : 0) | (cf != of ? (u32)CC_CARRY2 : 0);
}

/* CF and OF as given, the other four unchanged. */
static __always_inline_ void cc_only_cf_of(struct isa_cpu *c, bool cf, bool of)
{
	c->cc_aux &= ~(u32)(CC_CARRY | CC_CARRY2);
	c->cc_aux |= (cf ? (u32)CC_CARRY : 0) | (cf != of ? (u32)CC_CARRY2 : 0);
}

static __always_inline_ void cc_product(struct isa_cpu *c, unsigned size, u64 r, bool carry)
{
	if (isa_undefined.mul_keeps)
		cc_only_cf_of(c, carry, carry);
	else
		cc_cf_of(c, size, r, carry, carry);
}

static __always_inline_ void cc_shift(struct isa_cpu *c, unsigned size, u64 r, bool cf, bool of)
{
	cc_cf_of(c, size, r, cf, of);
	c->cc_aux |= isa_undefined.shift_af;
}

/* ---- Shifts (SDM vol. 2B, SAL/SAR/SHL/SHR); the count is masked and not zero
 * ------------------------ */

static __always_inline_ u64 alu_shl(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	unsigned bits = size * 8;
	u64 r = a << n;
	bool cf = n <= bits ? a >> (bits - n) & 1 : false;

	cc_shift(c, size, r, cf,
		 isa_undefined.of_by_one ? (a ^ a << 1) >> (bits - 1) & 1
					 : cf ^ (r >> (bits - 1) & 1));
	return r;
}

static __always_inline_ u64 alu_shr(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	unsigned bits = size * 8;
	u64 r;

	a = mask_size(a, size);
	r = a >> n;
	cc_shift(c, size, r, a >> (n - 1) & 1,
		 n == 1 || isa_undefined.of_by_one ? a >> (bits - 1) : 0);
	return r;
}

static __always_inline_ u64 alu_sar(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	s64 s = (s64)sign_extend(a, size * 8);
	u64 r = (u64)(s >> n);

	cc_shift(c, size, r, s >> (n - 1) & 1, 0);
	return r;
}

#endif
