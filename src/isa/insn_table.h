/* SPDX-License-Identifier: MIT */
/*
 * The instruction table. A row of spec/insn/ *.def is one of
 *
 *	INSN(MNEMONIC, exec_fn, flags, FEAT_x)
 *	INSN_ALT(OP, MNEMONIC, ALT_x, exec_fn, flags, FEAT_x)
 *
 * MNEMONIC is Zydis' (ZYDIS_MNEMONIC_##MNEMONIC), flags are ISA_F_*, FEAT_x the CPUID feature
 *without which it is #UD. INSN_ALT serves mnemonics that stand for different instructions: OP names
 *the row, ALT_x tells when it is meant instead of the plain one.
 *
 * exec_fn is called with the checks of the row already made (feature, ISA_F_CPL0, NOREAL, NO64,
 *FPU, MMX, SSE, AVX; see isa_exec_gated), so it only does its work. Everything else is its own:
 *operand fetch, ISA_F_ALIGN (isa_ea_aligned, exec/operand.h), commit order.
 */
#ifndef ISA_INSN_TABLE_H
#define ISA_INSN_TABLE_H

#include "isa/feat.h"
#include "isa/isa.h"

enum isa_alt {
	ALT_NONE,
	ALT_STR, /* MOVSD, CMPSD: the string instruction, not the SSE2 one */
	ALT_FAR, /* far CALL, JMP, RET */
	ALT_CR,	 /* MOV to or from a control register */
	ALT_DR,
	ALT_SEG,   /* MOV or POP to, PUSH of a segment register */
	ALT_SEGRD, /* MOV from a segment register */
	ALT_N,
};

enum isa_op {
	ISA_OP_UNKNOWN, /* #UD */
#define INSN(mnem, fn, flags, feat)		 ISA_OP_##mnem,
#define INSN_ALT(op, mnem, alt, fn, flags, feat) ISA_OP_##op,
#include "spec/insn/all.def"
	ISA_OP_N,
};

struct isa_row {
	const char *name;
	isa_exec_fn *fn;
	u16 flags;
	u16 feat;
};
extern const struct isa_row isa_rows[ISA_OP_N];

/* Row of a mnemonic; ISA_OP_UNKNOWN if there is none. */
enum isa_op isa_op_of(unsigned zydis_mnemonic, enum isa_alt alt);

#define INSN(mnem, fn, flags, feat)		 isa_exec_fn fn;
#define INSN_ALT(op, mnem, alt, fn, flags, feat) isa_exec_fn fn;
#include "spec/insn/all.def"

isa_exec_fn isa_exec_ud;      /* #UD */
isa_exec_fn isa_exec_toolong; /* #GP(0): more than 15 bytes */
/* Makes the checks of the row, then calls its function. The exec of every row that has any. */
isa_exec_fn isa_exec_gated;
/* The flags that isa_exec_gated looks at. */
#define ISA_F_GATED \
	(ISA_F_CPL0 | ISA_F_NOREAL | ISA_F_NO64 | ISA_F_FPU | ISA_F_MMX | ISA_F_SSE | ISA_F_AVX)

/* #MF (or what CR0.NE = 0 makes of it) if an unmasked x87 exception is pending. */
void isa_check_mf(struct isa_cpu *c);

/* A handler made for exactly this form of operands, or NULL. Pure. */
isa_exec_fn *isa_exec_special(const struct isa_insn *i);

#endif
