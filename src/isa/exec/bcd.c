/* SPDX-License-Identifier: MIT */
/* Decimal adjustments; 16- and 32-bit modes only. SDM vol. 2A. */
#include "isa/exec/alu.h"

static void set_al(struct isa_cpu *c, u8 al, bool cf, bool af)
{
	reg_set(c, RAX, 1, al);
	cc_cf_of(c, 1, al, cf, false);
	if (af)
		c->cc_aux |= CC_AF;
}

static void decimal(struct isa_cpu *c, int sign)
{
	u8 old = (u8)c->r.gpr[RAX], al = old;
	bool cf = isa_cf(c), af = isa_af(c), carry = false;

	if ((old & 15) > 9 || af) {
		carry = sign > 0 ? old > 0xf9 : old < 6;
		carry |= cf;
		al = (u8)(al + sign * 6);
		af = true;
	} else {
		af = false;
		carry = sign > 0 ? false : carry;
	}
	if (old > 0x99 || cf) {
		al = (u8)(al + sign * 0x60);
		carry = true;
	} else if (sign > 0) {
		carry = false;
	}
	set_al(c, al, carry, af);
}

void exec_daa(struct isa_cpu *c, const struct isa_insn *i)
{
	decimal(c, 1);
}

void exec_das(struct isa_cpu *c, const struct isa_insn *i)
{
	decimal(c, -1);
}

static void ascii(struct isa_cpu *c, int sign)
{
	u16 ax = (u16)c->r.gpr[RAX];
	bool adjust = (ax & 15) > 9 || isa_af(c);

	if (adjust)
		ax = (u16)(ax + sign * 0x106);
	reg_set(c, RAX, 2, ax & 0xff0f);
	cc_cf_of(c, 1, ax & 15, adjust, false);
	if (adjust)
		c->cc_aux |= CC_AF;
}

void exec_aaa(struct isa_cpu *c, const struct isa_insn *i)
{
	ascii(c, 1);
}

void exec_aas(struct isa_cpu *c, const struct isa_insn *i)
{
	ascii(c, -1);
}

void exec_aam(struct isa_cpu *c, const struct isa_insn *i)
{
	u8 al = (u8)c->r.gpr[RAX], base = (u8)i->imm;

	if (!base)
		isa_raise(c, X86_DE);
	reg_set(c, RAX, 2, (u64)(al / base) << 8 | al % base);
	isa_cc_logic(c, 1, al % base);
}

void exec_aad(struct isa_cpu *c, const struct isa_insn *i)
{
	u8 al = (u8)(c->r.gpr[RAX] + (c->r.gpr[RAX] >> 8 & 0xff) * (u8)i->imm);

	reg_set(c, RAX, 2, al);
	isa_cc_logic(c, 1, al);
}

void exec_salc(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, RAX, 1, isa_cf(c) ? 0xff : 0);
}
