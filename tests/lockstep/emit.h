/* SPDX-License-Identifier: MIT */
/* Inside the makers of random programs: bytes of instructions, and what they may use. */
#ifndef TESTS_LOCKSTEP_EMIT_H
#define TESTS_LOCKSTEP_EMIT_H

#include "blocks.h"

extern bool in_user; /* what is being made runs at CPL 3 */
extern u8 *p;	     /* where the next byte goes */

void put(unsigned b);
void put_u32(u32 v);
void put_rex1(unsigned b);
void put_rex(unsigned b);
unsigned reg(void);
unsigned byte_reg(void);
unsigned alu(void);
u32 where(void);
void op_mem(unsigned map, unsigned op, unsigned r, bool w);
void op_reg(unsigned map, unsigned op, unsigned r, unsigned rm, bool w);
void define_flags(void);
void one(void); /* any instruction */

void system_insn(void); /* any of blocks_system.c's */

#endif
