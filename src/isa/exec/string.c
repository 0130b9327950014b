/* SPDX-License-Identifier: MIT */
/* MOVS, STOS, LODS, CMPS, SCAS. SDM vol. 1, 7.3.9; vol. 2B, REP. */
#include "isa/exec/alu.h"
#include "isa/exec/string.h"

static __always_inline_ u64 src_la(struct isa_cpu *c, const struct isa_insn *i)
{
	return c->ea = isa_linear(c, i->seg, str_off(c, i, RSI), i->opsize, 0);
}

static __always_inline_ u64 dst_la(struct isa_cpu *c, const struct isa_insn *i, unsigned how)
{
	return c->ea = isa_linear(c, ES, str_off(c, i, RDI), i->opsize, how);
}

/* ---- Many elements at once
 * ------------------------------------------------------------------------------ */

/* Elements from offset @off that stay in one page of memory and in the segment; linear address. */
static u64 span(struct isa_cpu *c, const struct isa_insn *i, unsigned seg, u64 off, u64 n,
		unsigned how, u64 *la)
{
	const struct isa_seg *s = &c->s.seg[seg];
	u64 top = mask_size(~0ull, i->addrsize), room;

	if (c->mode != ISA_LONG64 && !c->flat) {
		if ((s->ar & 0xc) == 4)
			return 0;
		top = MIN(top, s->limit);
	}
	if (off > top || top - off < i->opsize - 1u)
		return 0;
	*la = isa_linear(c, seg, off, i->opsize, how);
	room = MIN(PAGE_SIZE - (*la & ~PAGE_MASK), top - off == ~0ull ? ~0ull : top - off + 1);
	return MIN(n, room / i->opsize);
}

static u64 movs_bulk(struct isa_cpu *c, const struct isa_insn *i, u64 n)
{
	u64 sla, dla, bytes, k;
	unsigned size = i->opsize;
	u8 *s, *d;

	if ((c->s.rflags & X86_DF) || n == 1)
		return 0;
	n = span(c, i, i->seg, str_off(c, i, RSI), n, 0, &sla);
	if (n)
		n = span(c, i, ES, str_off(c, i, RDI), n, ISA_ACC_WRITE, &dla);
	if (n < 2)
		return 0;
	bytes = n * size;
	s = isa_tlb_hit(c->tlb->r, sla, (unsigned)bytes);
	d = isa_tlb_hit(c->tlb->w, dla, (unsigned)bytes);
	if (!s || !d)
		return 0;
	if (d > s && d < s + bytes) {
		/* The elements written are read again: a pattern is repeated. */
		for (k = 0; k < bytes; k += size)
			host_set(d + k, size, host_get(s + k, size));
	} else {
		memmove(d, s, bytes);
	}
	str_step(c, i, RSI, (s64)bytes);
	str_step(c, i, RDI, (s64)bytes);
	return n;
}

static u64 stos_bulk(struct isa_cpu *c, const struct isa_insn *i, u64 n)
{
	unsigned size = i->opsize;
	u64 la, bytes, k, v = c->r.gpr[RAX];
	u8 *d;

	if ((c->s.rflags & X86_DF) || n == 1)
		return 0;
	n = span(c, i, ES, str_off(c, i, RDI), n, ISA_ACC_WRITE, &la);
	if (n < 2)
		return 0;
	bytes = n * size;
	d = isa_tlb_hit(c->tlb->w, la, (unsigned)bytes);
	if (!d)
		return 0;
	if (size == 1 || !v)
		memset(d, (u8)v, bytes);
	else
		for (k = 0; k < bytes; k += size)
			host_set(d + k, size, v);
	str_step(c, i, RDI, (s64)bytes);
	return n;
}

/* ---- One element
 * ------------------------------------------------------------------------------------------ */

static void movs_one(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 v = mem_get(c, src_la(c, i), i->opsize, ISA_HOW(i));

	mem_set(c, dst_la(c, i, ISA_ACC_WRITE), i->opsize, v, 0);
	str_step(c, i, RSI, i->opsize);
	str_step(c, i, RDI, i->opsize);
}

static void stos_one(struct isa_cpu *c, const struct isa_insn *i)
{
	mem_set(c, dst_la(c, i, ISA_ACC_WRITE), i->opsize, c->r.gpr[RAX], 0);
	str_step(c, i, RDI, i->opsize);
}

static void lods_one(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, RAX, i->opsize, mem_get(c, src_la(c, i), i->opsize, ISA_HOW(i)));
	str_step(c, i, RSI, i->opsize);
}

static void cmps_one(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 a = mem_get(c, src_la(c, i), i->opsize, ISA_HOW(i));
	u64 b = mem_get(c, dst_la(c, i, 0), i->opsize, 0);

	alu_sub(c, i->opsize, a, b);
	str_step(c, i, RSI, i->opsize);
	str_step(c, i, RDI, i->opsize);
}

static void scas_one(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 b = mem_get(c, dst_la(c, i, 0), i->opsize, 0);

	alu_sub(c, i->opsize, reg_get(c, RAX, i->opsize), b);
	str_step(c, i, RDI, i->opsize);
}

void exec_movs(struct isa_cpu *c, const struct isa_insn *i)
{
	str_rep(c, i, movs_one, movs_bulk, false);
}

void exec_stos(struct isa_cpu *c, const struct isa_insn *i)
{
	str_rep(c, i, stos_one, stos_bulk, false);
}

void exec_lods(struct isa_cpu *c, const struct isa_insn *i)
{
	str_rep(c, i, lods_one, NULL, false);
}

void exec_cmps(struct isa_cpu *c, const struct isa_insn *i)
{
	str_rep(c, i, cmps_one, NULL, true);
}

void exec_scas(struct isa_cpu *c, const struct isa_insn *i)
{
	str_rep(c, i, scas_one, NULL, true);
}
