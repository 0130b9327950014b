/* SPDX-License-Identifier: MIT */
/* Bit tests, scans and counts, CRC32, byte swaps. SDM vol. 2. */
#include "isa/exec/alu.h"

/* ---- BT, BTS, BTR, BTC
 * ---------------------------------------------------------------------------- */

static u64 bit_set(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	isa_set_cf(c, a >> n & 1);
	return a | 1ull << n;
}

static u64 bit_reset(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	isa_set_cf(c, a >> n & 1);
	return a & ~(1ull << n);
}

static u64 bit_complement(struct isa_cpu *c, unsigned size, u64 a, u64 n)
{
	isa_set_cf(c, a >> n & 1);
	return a ^ 1ull << n;
}

/*
 * With a register as bit offset, the bit string in memory reaches to either side of the operand's
 * address (vol. 2A, BT); an immediate only selects within it.
 */
static u64 bit_la(struct isa_cpu *c, const struct isa_insn *i, u64 n, unsigned how)
{
	unsigned size = i->o[0].size;
	u64 off = isa_ea_offset(c, i);

	if (i->o[1].kind == OK_GPR) {
		s64 words = (s64)sign_extend(n, size * 8) >> __builtin_ctz(size * 8);

		off = mask_size(off + (u64)(words * (s64)size), i->addrsize);
	}
	return c->ea = isa_linear(c, i->seg, off, size, how);
}

static __always_inline_ void bit_op(struct isa_cpu *c, const struct isa_insn *i, rmw_fn *fn)
{
	unsigned size = i->o[0].size;
	u64 n = op_get(c, i, 1), k = n & (size * 8 - 1);

	if (i->o[0].kind == OK_MEM)
		rmw_at(c, i, bit_la(c, i, n, ISA_ACC_WRITE), size, fn, k);
	else
		reg_set(c, i->o[0].reg, size, fn(c, size, op_get(c, i, 0), k));
}

void exec_bt(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u64 n = op_get(c, i, 1), a;

	if (i->o[0].kind == OK_MEM)
		a = mem_get(c, bit_la(c, i, n, 0), size, ISA_HOW(i));
	else
		a = c->r.gpr[i->o[0].reg];
	isa_set_cf(c, a >> (n & (size * 8 - 1)) & 1);
}

void exec_bts(struct isa_cpu *c, const struct isa_insn *i)
{
	bit_op(c, i, bit_set);
}

void exec_btr(struct isa_cpu *c, const struct isa_insn *i)
{
	bit_op(c, i, bit_reset);
}

void exec_btc(struct isa_cpu *c, const struct isa_insn *i)
{
	bit_op(c, i, bit_complement);
}

/* ---- Scans and counts
 * ------------------------------------------------------------------------------ */

/* A zero source leaves the destination as it was: documented by AMD, relied upon everywhere. */
/* Status flags of BSF and BSR: ZF as the manual has it, the rest as the host does. */
static void scan_flags(struct isa_cpu *c, unsigned size, u64 v, unsigned index)
{
	if (v && isa_undefined.scan_index)
		isa_set_status(c, __builtin_parity(index) ? 0 : X86_PF);
	else
		isa_cc_logic(c, size, v);
}

void exec_bsf(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 v = op_get(c, i, 1);
	unsigned index = v ? (unsigned)__builtin_ctzll(v) : 0;

	scan_flags(c, i->o[1].size, v, index);
	if (v)
		reg_set(c, i->o[0].reg, i->o[0].size, index);
}

void exec_bsr(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 v = op_get(c, i, 1);
	unsigned index = v ? 63 - (unsigned)__builtin_clzll(v) : 0;

	scan_flags(c, i->o[1].size, v, index);
	if (v)
		reg_set(c, i->o[0].reg, i->o[0].size, index);
}

static void count_flags(struct isa_cpu *c, u64 r, bool none)
{
	u64 f = isa_undefined.count_keeps ? isa_flags(c) & isa_undefined.count_keeps : 0;

	if (isa_undefined.count_pf && !__builtin_parity((u8)r))
		f |= X86_PF;
	isa_set_status(c, f | (none ? X86_CF : 0) | (r ? 0 : X86_ZF));
}

/* Without the feature, the F3 of TZCNT and LZCNT is ignored. */
void exec_tzcnt(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u64 v, r;

	if (unlikely(!isa_has(c, FEAT_BMI1))) {
		exec_bsf(c, i);
		return;
	}
	v = op_get(c, i, 1);
	r = v ? (u64)__builtin_ctzll(v) : size * 8;

	count_flags(c, r, !v);
	reg_set(c, i->o[0].reg, size, r);
}

void exec_lzcnt(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u64 v, r;

	if (unlikely(!isa_has(c, FEAT_LZCNT))) {
		exec_bsr(c, i);
		return;
	}
	v = op_get(c, i, 1);
	r = v ? (u64)__builtin_clzll(v) - (64 - size * 8) : size * 8;

	count_flags(c, r, !v);
	reg_set(c, i->o[0].reg, size, r);
}

void exec_popcnt(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 v = op_get(c, i, 1);

	isa_set_status(c, v ? 0 : X86_ZF);
	reg_set(c, i->o[0].reg, i->o[0].size, __builtin_popcountll(v));
}

/* CRC-32C, reflected polynomial 0x82f63b78, four bits at a time. */
void exec_crc32(struct isa_cpu *c, const struct isa_insn *i)
{
	static const u32 nibble[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	u64 v = op_get(c, i, 1);
	u32 crc = (u32)c->r.gpr[i->o[0].reg];
	unsigned k;

	for (k = 0; k < i->o[1].size * 2u; k++) {
		crc = crc >> 4 ^ nibble[(crc ^ v) & 15];
		v >>= 4;
	}
	reg_set(c, i->o[0].reg, i->o[0].size, crc);
}

/* ---- Byte order
 * ------------------------------------------------------------------------------------- */

static u64 swapped(u64 v, unsigned size)
{
	return __builtin_bswap64(v) >> (64 - size * 8);
}

/* With a 16-bit operand undefined; processors clear it. */
void exec_bswap(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size, r = i->o[0].reg;

	reg_set(c, r, size, size == 2 ? 0 : swapped(c->r.gpr[r], size));
}

void exec_movbe(struct isa_cpu *c, const struct isa_insn *i)
{
	op_set(c, i, 0, swapped(op_get(c, i, 1), i->o[0].size));
}
