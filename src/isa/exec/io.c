/* SPDX-License-Identifier: MIT */
/* Ports: IN, OUT, INS, OUTS. SDM vol. 1, 19.5 (protection). */
#include "isa/exec/segment.h"
#include "isa/exec/string.h"

/* #GP(0) unless IOPL or the I/O permission bitmap of the TSS allows it. */
static void check_port(struct isa_cpu *c, u16 port, unsigned size)
{
	const struct isa_seg *tr = &c->s.seg[TR];
	unsigned type = tr->ar & 15;
	u16 iobase, bits;
	u64 la;

	if (is_real(c) || (!is_v86(c) && c->cpl <= iopl(c)))
		return;
	if ((tr->ar & SEG_AR_UNUSABLE) || (type != DT_TSS && type != DT_TSS_BUSY) ||
	    tr->limit < 0x67)
		isa_raise_err(c, X86_GP, 0);
	la = tr->base + 0x66;
	sys_read(c, is_lma(c) ? la : (u32)la, &iobase, 2);
	/* Two bytes are read always; the one after the last must be inside the limit too. */
	if (iobase + port / 8u + 1 > tr->limit)
		isa_raise_err(c, X86_GP, 0);
	la = tr->base + iobase + port / 8u;
	sys_read(c, is_lma(c) ? la : (u32)la, &bits, 2);
	if (bits >> (port & 7) & ((1u << size) - 1))
		isa_raise_err(c, X86_GP, 0);
}

static u16 port_of(const struct isa_cpu *c, const struct isa_insn *i, unsigned k)
{
	return i->o[k].kind == OK_IMM ? (u8)i->imm : (u16)c->r.gpr[RDX];
}

void exec_in(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[0].size;
	u16 port = port_of(c, i, 1);
	u64 v = 0;

	check_port(c, port, size);
	c->ops->port_in(c, port, &v, size, 0);
	reg_set(c, RAX, size, v);
}

void exec_out(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned size = i->o[1].size;
	u16 port = port_of(c, i, 0);

	check_port(c, port, size);
	c->ops->port_out(c, port, &c->r.gpr[RAX], size, 0);
}

/* The destination is known to be writable before the device is read. */
static void ins_one(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = c->ea = isa_linear(c, ES, str_off(c, i, RDI), i->opsize, ISA_ACC_WRITE), v = 0;

	rmw_ptr(c, la, i->opsize, 0);
	c->ops->port_in(c, (u16)c->r.gpr[RDX], &v, i->opsize, la);
	mem_set(c, la, i->opsize, v, 0);
	str_step(c, i, RDI, i->opsize);
}

static void outs_one(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = c->ea = isa_linear(c, i->seg, str_off(c, i, RSI), i->opsize, 0);
	u64 v = mem_get(c, la, i->opsize, ISA_HOW(i));

	c->ops->port_out(c, (u16)c->r.gpr[RDX], &v, i->opsize, la);
	str_step(c, i, RSI, i->opsize);
}

void exec_ins(struct isa_cpu *c, const struct isa_insn *i)
{
	check_port(c, (u16)c->r.gpr[RDX], i->opsize);
	str_rep(c, i, ins_one, NULL, false);
}

void exec_outs(struct isa_cpu *c, const struct isa_insn *i)
{
	check_port(c, (u16)c->r.gpr[RDX], i->opsize);
	str_rep(c, i, outs_one, NULL, false);
}
