/* SPDX-License-Identifier: MIT */
/*
 * Instructions that run as themselves on the host: SIMD, x87 and the VEX-encoded integer ones. For
 * exec/ only. On a host that is not x86-64 none of these rows exists: they raise #UD, and
 * isa_feat_runnable says that their features must not be offered.
 */
#ifndef ISA_EXEC_NATIVE_H
#define ISA_EXEC_NATIVE_H

#include "isa/isa.h"

/* What a stub gets besides the registers. The layout is known to native_emit.c. */
struct native_frame {
	u32 mxcsr;	/* to run with: all exceptions masked, flags clear */
	u32 mxcsr_out;	/* as the instruction left it */
	u32 mxcsr_host; /* restored afterwards */
	u32 unmasked;	/* flags that suppress the result */
	u64 flags_in, flags_out;
	/* x87 only: the FXSAVE image to run on. */
	u16 fcw_host;
	u16 pad[7];
	u8 image[512] __attribute__((aligned(16)));
};
typedef void native_code(struct isa_cpu *c, void *mem, struct native_frame *f);

enum native_mem { NATIVE_REG, NATIVE_LOAD, NATIVE_STORE };
#define NATIVE_MXCSR  BIT(0) /* runs under the guest's MXCSR; the frame is needed */
#define NATIVE_FLAGS  BIT(1) /* leaves status flags in flags_out */
#define NATIVE_BOUNCE BIT(2) /* must not touch memory that may fault: state of ours is switched */
#define NATIVE_MMX    BIT(3)
#define NATIVE_SHARED BIT(4) /* the code is in this thread's reused slot */

struct native_stub {
	native_code *code;
	u8 mem;	  /* enum native_mem */
	u8 flags; /* NATIVE_* */
	u8 feat;  /* needed beyond the row's: AVX2 for 256-bit integer forms */
	u8 align; /* bytes the host instruction wants its memory operand aligned to, minus 1 */
};

/* The stub of @i, made at its first execution. Raises #UD if the guest or the host lacks it. */
const struct native_stub *native_get(struct isa_cpu *c, const struct isa_insn *i);

/* ---- native_emit.c: from an instruction to the bytes of its stub --------------------------- */

#define NATIVE_CODE_MAX 256
/* Returns the number of bytes, or 0 if there is no such instruction on a 64-bit host. */
unsigned native_emit(const struct isa_insn *i, u8 *out, struct native_stub *s);

/* ---- native_code.c: memory for code ---------------------------------------------------------- */

/* Copies @n bytes into executable memory. Returns where to call them, or NULL (no such memory).
 * Caller holds the stub lock. */
void *native_code_put(const u8 *code, unsigned n);
/* The same into this thread's one slot, overwriting what was there. No lock needed. */
void *native_code_put_slot(const u8 *code, unsigned n);
/* How many bytes may be handed out in all; changed by tests only. */
extern size_t native_code_limit;
/* Bytes handed out by native_code_put. */
size_t native_code_used(void);

/* ---- Used by exec/x87*.c and exec/sse*.c ------------------------------------------------------
 */

/* MMX instructions: TOP becomes 0 and all registers valid (SDM vol. 3A, 12.2). */
void x87_enter_mmx(struct isa_cpu *c);
/* Changes TOP, keeping every physical register's contents. */
void x87_set_top(struct isa_x87 *x, unsigned top);
/* Raises #XM, or #UD if CR4.OSXMMEXCPT is clear, if one of @raised is unmasked; they are recorded
 * either way (SDM vol. 1, 11.5). */
void sse_raised(struct isa_cpu *c, u32 raised);

#endif
