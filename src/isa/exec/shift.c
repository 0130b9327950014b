/* SPDX-License-Identifier: MIT */
/* Shifts and rotates, generic forms. SDM vol. 2B. */
#include "isa/exec/alu.h"

/* The count operand, masked as for the operand size (vol. 2B: 5 bits, 6 with 64-bit operands). */
static unsigned count(struct isa_cpu *c, const struct isa_insn *i, unsigned k)
{
	u64 n = i->o[k].kind == OK_GPR ? c->r.gpr[RCX] : i->imm;

	return n & (i->o[0].size == 8 ? 63 : 31);
}

/* In the count of a ROL or ROR: OF stays. */
#define KEEP_OF BIT(8)
static unsigned rotate_count(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned n = count(c, i, 1);

	return n > 1 && i->o[1].kind != OK_GPR && isa_undefined.rotate_keeps ? n | KEEP_OF : n;
}

/* A count of zero leaves all flags alone but still writes the destination. */
#define SHIFT(name, n_of)                                                   \
	static u64 name##_n(struct isa_cpu *c, unsigned size, u64 a, u64 n) \
	{                                                                   \
		return n ? alu_##name(c, size, a, n) : a;                   \
	}                                                                   \
	void exec_##name(struct isa_cpu *c, const struct isa_insn *i)       \
	{                                                                   \
		rmw_op0(c, i, name##_n, n_of);                              \
	}

static u64 alu_rol(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	unsigned bits = size * 8, k = n & (bits - 1);
	u64 r, of;

	a = mask_size(a, size);
	r = k ? mask_size(a << k | a >> (bits - k), size) : a;
	of = isa_undefined.of_by_one ? a ^ a << 1 : r ^ r << (bits - 1);
	cc_only_cf_of(c, r & 1, n & KEEP_OF ? isa_of(c) : of >> (bits - 1) & 1);
	return r;
}

static u64 alu_ror(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	unsigned bits = size * 8, k = n & (bits - 1);
	u64 r, of;

	a = mask_size(a, size);
	r = k ? mask_size(a >> k | a << (bits - k), size) : a;
	of = isa_undefined.of_by_one ? a >> (bits - 1) ^ a : r >> (bits - 1) ^ r >> (bits - 2);
	cc_only_cf_of(c, r >> (bits - 1), n & KEEP_OF ? isa_of(c) : of & 1);
	return r;
}

/* CF is bit @bits of what is rotated. */
static u64 rotate_carry(struct isa_cpu *c, unsigned size, u64 a, unsigned left, bool is_left)
{
	unsigned bits = size * 8;
	u128 all = (((u128)1 << bits) - 1) << 1 | 1;
	u128 v = (u128)isa_cf(c) << bits | mask_size(a, size);
	u64 r, of = is_left ? a ^ a << 1 : a ^ (u64)isa_cf(c) << (bits - 1);
	bool cf;

	v = (v << left | v >> (bits + 1 - left)) & all;
	r = (u64)(v & (all >> 1));
	cf = v >> bits & 1;
	if (!isa_undefined.of_by_one)
		of = is_left ? r ^ (u64)cf << (bits - 1) : r ^ r << 1;
	cc_only_cf_of(c, cf, of >> (bits - 1) & 1);
	return r;
}

static u64 alu_rcl(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	unsigned k = n % (size * 8 + 1);

	return k ? rotate_carry(c, size, a, k, true) : a;
}

static u64 alu_rcr(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	unsigned k = n % (size * 8 + 1);

	return k ? rotate_carry(c, size, a, size * 8 + 1 - k, false) : a;
}

SHIFT(shl, count(c, i, 1))
SHIFT(shr, count(c, i, 1))
SHIFT(sar, count(c, i, 1))
SHIFT(rol, rotate_count(c, i))
SHIFT(ror, rotate_count(c, i))
SHIFT(rcl, count(c, i, 1))
SHIFT(rcr, count(c, i, 1))

/* ---- Double shifts: the source goes in at the other end
 * ------------------------------------------ */

struct dshift {
	u64 src;
	unsigned n;
};

static u64 shld(struct isa_cpu *c, unsigned size, u64 a, u64 arg)
{
	const struct dshift *d = (const struct dshift *)(uintptr_t)arg;
	unsigned bits = size * 8, n = d->n;
	u64 r;
	bool cf;

	if (!n)
		return a;
	a = mask_size(a, size);
	if (size == 2) {
		/* Counts above 16 are undefined; as if the pattern repeated. */
		u64 t = a << 32 | mask_size(d->src, 2) << 16 | a;

		r = (t << n) >> 32 & 0xffff;
		cf = t >> (48 - n) & 1;
	} else {
		r = mask_size(a << n | mask_size(d->src, size) >> (bits - n), size);
		cf = a >> (bits - n) & 1;
	}
	cc_shift(c, size, r, cf, (isa_undefined.of_by_one ? a << 1 ^ a : r ^ a) >> (bits - 1) & 1);
	return r;
}

static u64 shrd(struct isa_cpu *c, unsigned size, u64 a, u64 arg)
{
	const struct dshift *d = (const struct dshift *)(uintptr_t)arg;
	unsigned bits = size * 8, n = d->n;
	u64 r;
	bool cf, of;

	if (!n)
		return a;
	a = mask_size(a, size);
	if (size == 2) {
		u64 t = a << 32 | mask_size(d->src, 2) << 16 | a;

		r = t >> n & 0xffff;
		cf = t >> (n - 1) & 1;
	} else {
		r = mask_size(a >> n | d->src << (bits - n), size);
		cf = a >> (n - 1) & 1;
	}
	of = (isa_undefined.of_by_one ? d->src << (bits - 1) ^ a : r ^ a) >> (bits - 1) & 1;
	cc_shift(c, size, r, cf, of);
	return r;
}

static void double_shift(struct isa_cpu *c, const struct isa_insn *i, rmw_fn *fn)
{
	struct dshift d = {.src = op_get(c, i, 1), .n = count(c, i, 2)};

	rmw_op0(c, i, fn, (u64)(uintptr_t)&d);
}

void exec_shld(struct isa_cpu *c, const struct isa_insn *i)
{
	double_shift(c, i, shld);
}

void exec_shrd(struct isa_cpu *c, const struct isa_insn *i)
{
	double_shift(c, i, shrd);
}
