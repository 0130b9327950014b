/* SPDX-License-Identifier: MIT */
/*
 * Differential test of the instruction table: random instances of every user-level row, run on this
 * CPU under single step and by the row's handler, and compared.
 */
#ifndef INSN_TEST_H
#define INSN_TEST_H

#include <Zydis/Zydis.h>

#include "native.h"

#include "isa/feat.h"
#include "isa/insn_table.h"
#include "isa/isa.h"

/* One instance: bytes and what Zydis says about them. */
struct instance {
	u8 bytes[16];
	unsigned op; /* enum isa_op */
	enum isa_mode mode;
	u64 at;	  /* the memory operand */
	bool tlb; /* the interpreter finds data pages in its TLB */
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
};

/* ---- rng.c-like helpers (gen.c) ---- */
void rnd_seed(u64 seed);
u64 rnd(void);
static inline u64 rnd_below(u64 n)
{
	return rnd() % n;
}

/* gen.c: collects encodings of all mnemonics once; then makes instances with a fitting start state
 * and memory contents. False if @mnemonic has no encoding in @mode or no instance was found. */
void gen_init(void);
unsigned gen_templates(unsigned mnemonic, enum isa_mode mode);
bool gen_instance(unsigned op, unsigned mnemonic, enum isa_mode mode, struct instance *in,
		  struct tstate *st);

/* native.c: one instruction */
void native_run(const struct instance *in, const struct tstate *from, struct tstate *to);

/* The data area before, and after the instruction on the host and by the handler. */
struct images {
	const u8 *before;
	u8 *want;
	const u8 *got;
};

/* forgive.c: makes the host's results the handler's where both are right. */
void forgive(const struct instance *in, const struct tstate *from, struct tstate *want,
	     const struct tstate *got, const struct images *m);

/* interp.c */
void interp_init(void);
/* False if isa_decode disagrees with Zydis about the length. */
void interp_run(const struct instance *in, const struct tstate *from, struct tstate *to);
bool interp_feature(unsigned feat);

/* jit.c: 64-bit instances by the translator. False if this host cannot. */
bool jit_init(void);
void jit_run(const struct instance *in, const struct tstate *from, struct tstate *to);
bool jit_feature(unsigned feat);

#endif
