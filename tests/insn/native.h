/* SPDX-License-Identifier: MIT */
/* Code on this CPU: from a given state to a trap or fault, in an arena at a fixed place. */
#ifndef TESTS_INSN_NATIVE_H
#define TESTS_INSN_NATIVE_H

#include "isa/isa.h"

/* One arena at a low address, so that 32-bit code reaches it: data pages between two that fault,
 * then a code page. */
#define ARENA	   0x20000000ul
#define DATA	   (ARENA + PAGE_SIZE)
#define DATA_SIZE  (4 * PAGE_SIZE)
#define CODE	   (DATA + DATA_SIZE + PAGE_SIZE)
#define ARENA_SIZE (8 * PAGE_SIZE)

struct tstate {
	u64 gpr[16], rip, rflags;
	struct isa_x87 x87; /* with MXCSR */
	u8 vec[16][32];
	u16 sel[6];	      /* ES-GS */
	u64 fs_base, gs_base; /* results only; every instance starts with the host's */
	bool faulted;
	u8 vector;
	u32 error;
	u64 cr2;
};

bool native_init(void);
bool native_has_mode(enum isa_mode mode);
/* Until the first trap or fault, of a whole program: its code is at from->rip. */
void native_run_program(enum isa_mode mode, const struct tstate *from, struct tstate *to);

/* What the host starts every instance with. */
struct host_state {
	u16 sel[6];
	u64 fs_base, gs_base;
	u32 tsc_aux, xcr0;
	bool pke;
	u32 pkru; /* 0 without pke */
};
extern struct host_state host_state;

#endif
