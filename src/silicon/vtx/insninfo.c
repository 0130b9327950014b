// SPDX-License-Identifier: MIT
/* The VM-exit instruction-information field and its relatives (SDM vol. 3C, 28.2.1 and 28.2.5). */
#include "silicon/vtx/vtx.h"

/* 0: 16 bits, 1: 32, 2: 64 */
static u32 size_code(unsigned bytes)
{
	return bytes >> 2;
}

/* Scale, address size, segment, index and base: the same places in every format. */
u32 info_mem(const struct isa_insn *i)
{
	u32 info = size_code(i->addrsize) << 7 | (u32)(i->seg & 7) << 15;

	if (i->index < 16)
		info |= i->scale | (u32)i->index << 18;
	else
		info |= BIT(22);
	if (i->base < 16)
		info |= (u32)i->base << 23;
	else
		info |= BIT(27);
	return info;
}

/* Tables 28-9 and 28-14: @reg is the register operand in bits 31:28. */
u32 info_mem_reg2(const struct isa_insn *i, unsigned reg)
{
	return info_mem(i) | (u32)(reg & 15) << 28;
}

/* With RIP-relative addressing: the sum with the RIP of the next instruction. */
u64 info_displacement(const struct isa_cpu *c, const struct isa_insn *i)
{
	u64 disp = i->disp + (i->base == ISA_REG_RIP ? c->s.rip : 0);

	return i->addrsize == 8 ? disp : (u32)disp;
}

unsigned info_gpr(const struct isa_insn *i)
{
	for (unsigned k = 0; k < ARRAY_SIZE(i->o); k++)
		if (i->o[k].kind == OK_GPR)
			return i->o[k].reg;
	return 0;
}

/* Table 28-8: INS and OUTS. */
u32 info_string_io(const struct isa_insn *i, bool out)
{
	return size_code(i->addrsize) << 7 | (out ? (u32)(i->seg & 7) << 15 : 0);
}

/* Table 28-10: LGDT, LIDT, SGDT, SIDT. */
u32 info_gdtr_idtr(const struct isa_insn *i, unsigned which)
{
	return info_mem(i) | (i->opsize >= 4 ? BIT(11) : 0) | which << 28;
}

/* Tables 28-11 (LLDT, LTR, SLDT, STR) and 28-15 (VMREAD, VMWRITE): memory or register @o. */
u32 info_rm(const struct isa_insn *i, const struct isa_opnd *o)
{
	if (o->kind == OK_GPR)
		return BIT(10) | (u32)o->reg << 3;
	return info_mem(i);
}

/* Table 28-12: RDRAND, RDSEED. */
u32 info_random(const struct isa_insn *i)
{
	return info_gpr(i) << 3 | size_code(i->opsize) << 11;
}
