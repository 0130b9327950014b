/* SPDX-License-Identifier: MIT */
/* The x87 register file between its formats. For exec/ only. */
#ifndef ISA_EXEC_X87_H
#define ISA_EXEC_X87_H

#include "isa/isa.h"

#define FSW_FLAGS  0x003fu
#define FSW_ES	   0x0080u
#define FSW_B	   0x8000u
#define FSW_TOP(w) ((unsigned)(w) >> 11 & 7)

/* ES and B say whether an exception is pending unmasked (SDM vol. 1, 8.1.3.3). */
static inline void x87_update_es(struct isa_x87 *x)
{
	x->fsw &= (u16) ~(FSW_ES | FSW_B);
	if (x->fsw & ~x->fcw & FSW_FLAGS)
		x->fsw |= FSW_ES | FSW_B;
}

/* Reserved bits of the control word read as they do on processors. */
static inline u16 x87_fcw_fixed(u16 v)
{
	return (v & 0x1f3f) | 0x40;
}

/* The two-bit tags of FSTENV, and back (SDM vol. 1, 8.1.7, and vol. 2A, FXSAVE). */
u16 x87_full_tags(const struct isa_x87 *x);
u8 x87_abridge_tags(u16 full);
/* FNINIT's state. */
void x87_init(struct isa_x87 *x);

#endif
