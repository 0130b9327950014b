/* SPDX-License-Identifier: MIT */
/* Integer arithmetic and logic, generic forms: any operand kinds and sizes. SDM vol. 2. */
#include "isa/exec/alu.h"

#define ALU2(name)                                                    \
	void exec_##name(struct isa_cpu *c, const struct isa_insn *i) \
	{                                                             \
		rmw_op0(c, i, alu_##name, op_get(c, i, 1));           \
	}
ALU2(add)
ALU2(adc)
ALU2(sub)
ALU2(sbb)
ALU2(and)
ALU2(or)
ALU2(xor)

#define ALU1(name)                                                    \
	void exec_##name(struct isa_cpu *c, const struct isa_insn *i) \
	{                                                             \
		rmw_op0(c, i, alu_##name, 0);                         \
	}
ALU1(inc)
ALU1(dec)
ALU1(neg)
ALU1(not )

void exec_cmp(struct isa_cpu *c, const struct isa_insn *i)
{
	alu_sub(c, i->o[0].size, op_get(c, i, 0), op_get(c, i, 1));
}

void exec_test(struct isa_cpu *c, const struct isa_insn *i)
{
	alu_and(c, i->o[0].size, op_get(c, i, 0), op_get(c, i, 1));
}

/* ADCX and ADOX are ADC on one flag alone. */
static void adc_on(struct isa_cpu *c, const struct isa_insn *i, bool on_of)
{
	unsigned size = i->o[0].size;
	u64 a = op_get(c, i, 0), b = op_get(c, i, 1);
	bool in = on_of ? isa_of(c) : isa_cf(c), out;
	u64 r;

	if (size == 4) {
		r = a + b + in;
		out = r >> 32;
	} else {
		out = __builtin_add_overflow(a, b, &r);
		out |= __builtin_add_overflow(r, (u64)in, &r);
	}
	if (on_of)
		cc_only_cf_of(c, isa_cf(c), out);
	else
		cc_only_cf_of(c, out, isa_of(c));
	reg_set(c, i->o[0].reg, size, r);
}

void exec_adcx(struct isa_cpu *c, const struct isa_insn *i)
{
	adc_on(c, i, false);
}

void exec_adox(struct isa_cpu *c, const struct isa_insn *i)
{
	adc_on(c, i, true);
}

/* ---- Exchanges ---------------------------------------------------------------------------------
 */

/* XCHG with memory is locked with or without the prefix. */
void exec_xchg(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned m = i->o[1].kind == OK_MEM, size = i->o[0].size;
	u64 la, a, b;
	void *p;

	if (i->o[0].kind != OK_MEM && !m) {
		a = op_get(c, i, 0);
		opreg_set(c, &i->o[0], op_get(c, i, 1));
		opreg_set(c, &i->o[1], a);
		return;
	}
	b = op_get(c, i, !m);
	la = isa_ea(c, i, ISA_ACC_WRITE);
	p = rmw_ptr(c, la, size, ISA_HOW(i));
	if (likely(p != NULL)) {
		a = host_get(p, size);
		while (!host_cas(p, size, &a, b))
			;
	} else {
		a = 0;
		c->ops->mem_lock(c);
		c->ops->mem_read(c, la, &a, size, ISA_HOW(i));
		c->ops->mem_write(c, la, &b, size, ISA_HOW(i) | ISA_ACC_WRITE);
		c->ops->mem_unlock(c);
	}
	opreg_set(c, &i->o[!m], a);
}

/* The old value goes to the source register; both read before either is written. */
void exec_xadd(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u64 la, a, b = op_get(c, i, 1), r;
	void *p;

	if (i->o[0].kind != OK_MEM) {
		a = op_get(c, i, 0);
		r = alu_add(c, size, a, b);
		opreg_set(c, &i->o[1], a);
		opreg_set(c, &i->o[0], r);
		return;
	}
	la = isa_ea(c, i, ISA_ACC_WRITE);
	p = rmw_ptr(c, la, size, ISA_HOW(i));
	if (unlikely(!p)) {
		a = 0;
		if (i->prefixes & ISA_P_LOCK)
			c->ops->mem_lock(c);
		c->ops->mem_read(c, la, &a, size, ISA_HOW(i));
		r = a + b;
		c->ops->mem_write(c, la, &r, size, ISA_HOW(i) | ISA_ACC_WRITE);
		if (i->prefixes & ISA_P_LOCK)
			c->ops->mem_unlock(c);
	} else {
		a = host_get(p, size);
		if (i->prefixes & ISA_P_LOCK) {
			while (!host_cas(p, size, &a, a + b))
				;
		} else {
			host_set(p, size, a + b);
		}
	}
	alu_add(c, size, a, b);
	opreg_set(c, &i->o[1], a);
}

/* The destination is written in either case (SDM vol. 2A, CMPXCHG), so it must be writable. */
void exec_cmpxchg(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u64 acc = reg_get(c, RAX, size), new = op_get(c, i, 1), old, la;
	void *p;

	if (i->o[0].kind != OK_MEM) {
		old = op_get(c, i, 0);
		if (old == acc)
			opreg_set(c, &i->o[0], new);
		else if (size == 4)
			reg_set(c, i->o[0].reg, 4, old); /* written back: upper half cleared */
	} else {
		la = isa_ea(c, i, ISA_ACC_WRITE);
		p = rmw_ptr(c, la, size, ISA_HOW(i));
		if (likely(p != NULL)) {
			old = acc;
			host_cas(p, size, &old, new);
		} else {
			old = 0;
			if (i->prefixes & ISA_P_LOCK)
				c->ops->mem_lock(c);
			c->ops->mem_read(c, la, &old, size, ISA_HOW(i));
			c->ops->mem_write(c, la, old == acc ? &new : &old, size,
					  ISA_HOW(i) | ISA_ACC_WRITE);
			if (i->prefixes & ISA_P_LOCK)
				c->ops->mem_unlock(c);
		}
	}
	alu_sub(c, size, acc, old);
	if (old != acc)
		reg_set(c, RAX, size, old);
}

static void set_zf(struct isa_cpu *c, bool zf)
{
	isa_set_status(c, (isa_flags(c) & ~X86_ZF) | (zf ? X86_ZF : 0));
}

void exec_cmpxchg8b(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = isa_ea(c, i, ISA_ACC_WRITE), old;
	u64 acc = (u64)(u32)c->r.gpr[RDX] << 32 | (u32)c->r.gpr[RAX];
	u64 new = (u64)(u32)c->r.gpr[RCX] << 32 | (u32)c->r.gpr[RBX];
	void *p = rmw_ptr(c, la, 8, ISA_HOW(i));

	if (likely(p != NULL)) {
		old = acc;
		host_cas(p, 8, &old, new);
	} else {
		if (i->prefixes & ISA_P_LOCK)
			c->ops->mem_lock(c);
		c->ops->mem_read(c, la, &old, 8, ISA_HOW(i));
		c->ops->mem_write(c, la, old == acc ? &new : &old, 8, ISA_HOW(i) | ISA_ACC_WRITE);
		if (i->prefixes & ISA_P_LOCK)
			c->ops->mem_unlock(c);
	}
	set_zf(c, old == acc);
	if (old != acc) {
		c->r.gpr[RAX] = (u32)old;
		c->r.gpr[RDX] = old >> 32;
	}
}

static bool host_cas16(void *p, u64 expect[2], const u64 new[2])
{
#ifdef __x86_64__
	bool ok;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(ok), "+m"(*(u128 *)p), "+a"(expect[0]), "+d"(expect[1])
			 : "b"(new[0]), "c"(new[1])
			 : "memory");
	return ok;
#else
	u128 e = (u128)expect[1] << 64 | expect[0], n = (u128) new[1] << 64 | new[0];
	bool ok = __atomic_compare_exchange_n((u128 *)p, &e, n, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST);
	expect[0] = (u64)e;
	expect[1] = (u64)(e >> 64);
	return ok;
#endif
}

void exec_cmpxchg16b(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = isa_ea_aligned(c, i, ISA_ACC_WRITE);
	u64 old[2] = {c->r.gpr[RAX], c->r.gpr[RDX]}, new[2] = {c->r.gpr[RBX], c->r.gpr[RCX]};
	void *p = rmw_ptr(c, la, 16, ISA_HOW(i));
	bool same;

	if (likely(p != NULL)) {
		same = host_cas16(p, old, new);
	} else {
		if (i->prefixes & ISA_P_LOCK)
			c->ops->mem_lock(c);
		c->ops->mem_read(c, la, old, 16, ISA_HOW(i));
		same = old[0] == c->r.gpr[RAX] && old[1] == c->r.gpr[RDX];
		c->ops->mem_write(c, la, same ? new : old, 16, ISA_HOW(i) | ISA_ACC_WRITE);
		if (i->prefixes & ISA_P_LOCK)
			c->ops->mem_unlock(c);
	}
	set_zf(c, same);
	if (!same) {
		c->r.gpr[RAX] = old[0];
		c->r.gpr[RDX] = old[1];
	}
}

/* ---- Multiply and divide ------------------------------------------------------------------------
 */

/* Product to AX or rDX:rAX; CF = OF = the upper half matters. */
static void product(struct isa_cpu *c, unsigned size, u64 lo, u64 hi, bool carry)
{
	if (size == 1) {
		reg_set(c, RAX, 2, (lo & 0xff) | hi << 8);
	} else {
		reg_set(c, RAX, size, lo);
		reg_set(c, RDX, size, hi);
	}
	cc_product(c, size, lo, carry);
}

void exec_mul(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u128 p = (u128)reg_get(c, RAX, size) * op_get(c, i, 0);
	u64 hi = (u64)(p >> (size * 8));

	product(c, size, (u64)p, hi, hi != 0);
}

void exec_imul(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size, bits = size * 8;
	bool one = i->nops < 2 || (i->raw[i->modrm_off - 1] | 1) == 0xf7;
	__int128 p;
	u64 a, b, r;

	if (one) {
		a = sign_extend(reg_get(c, RAX, size), bits);
		b = sign_extend(op_get(c, i, 0), bits);
		p = (__int128)(s64)a * (s64)b;
		product(c, size, (u64)p, (u64)(p >> bits), p != (s64)sign_extend((u64)p, bits));
		return;
	}
	/* Two and three operands: 0F AF has the destination as first factor. */
	if (i->o[2].kind == OK_IMM) {
		a = sign_extend(op_get(c, i, 1), bits);
		b = i->imm;
	} else {
		a = sign_extend(op_get(c, i, 0), bits);
		b = sign_extend(op_get(c, i, 1), bits);
	}
	p = (__int128)(s64)a * (s64)b;
	r = (u64)p;
	cc_product(c, size, r, p != (s64)sign_extend(r, bits));
	reg_set(c, i->o[0].reg, size, r);
}

/* Flags after DIV and IDIV are undefined and left alone. */
void exec_div(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size, bits = size * 8;
	u64 d = op_get(c, i, 0), lo, hi, q, r;

	if (!d)
		isa_raise(c, X86_DE);
	if (size == 1) {
		lo = c->r.gpr[RAX] & 0xff;
		hi = c->r.gpr[RAX] >> 8 & 0xff;
	} else {
		lo = reg_get(c, RAX, size);
		hi = reg_get(c, RDX, size);
	}
	if (hi >= d)
		isa_raise(c, X86_DE);
	if (size == 8) {
		u128 n = (u128)hi << 64 | lo;

		q = (u64)(n / d);
		r = (u64)(n % d);
	} else {
		u64 n = hi << bits | lo;

		q = n / d;
		r = n % d;
	}
	if (size == 1) {
		reg_set(c, RAX, 2, q | r << 8);
	} else {
		reg_set(c, RAX, size, q);
		reg_set(c, RDX, size, r);
	}
}

void exec_idiv(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size, bits = size * 8;
	s64 d = (s64)sign_extend(op_get(c, i, 0), bits);
	__int128 n, q, r;

	if (!d)
		isa_raise(c, X86_DE);
	if (size == 1)
		n = (s16)c->r.gpr[RAX];
	else if (size == 8)
		n = (__int128)((u128)c->r.gpr[RDX] << 64 | c->r.gpr[RAX]);
	else
		n = (s64)sign_extend(reg_get(c, RDX, size) << bits | reg_get(c, RAX, size),
				     2 * bits);
	/* The most negative dividend over -1 does not fit a host register either. */
	if (d == -1) {
		if ((u128)n == (u128)1 << 127)
			isa_raise(c, X86_DE);
		q = -n;
		r = 0;
	} else {
		q = n / d;
		r = n % d;
	}
	if (q != (s64)sign_extend((u64)q, bits))
		isa_raise(c, X86_DE);
	if (size == 1) {
		reg_set(c, RAX, 2, ((u64)q & 0xff) | ((u64)r & 0xff) << 8);
	} else {
		reg_set(c, RAX, size, (u64)q);
		reg_set(c, RDX, size, (u64)r);
	}
}
