/* SPDX-License-Identifier: MIT */
/* Random programs: a loop of a few dozen instructions around data pages, and the state it starts
 * in. */
#ifndef TESTS_LOCKSTEP_BLOCKS_H
#define TESTS_LOCKSTEP_BLOCKS_H

#include "../insn/native.h"

#define DATA_PAGES (DATA_SIZE / PAGE_SIZE)

/* Selectors of the descriptors that kernel code uses. */
enum { KERNEL_CS = 0x08, KERNEL_SS = 0x10, USER_SS = 0x20, USER_CS = 0x28, FRESH_CS = 0x30 };

/* Vectors and what is behind them: the first ones have handlers, the others fault, some of them at
 * CPL 3 only. */
enum {
	V_INT = 0x20,
	V_TRAP,
	V_IST,
	V_KEPT, /* the handler's flags in R10 */
	V_DPL0,
	V_ABSENT,
	V_USER_CS,
	V_NULL_CS,
	V_TYPE,
	V_AWAY,	    /* the handler is not canonical */
	V_NO_STACK, /* nor is the stack there */
	V_BEYOND,   /* the table's limit */
};

/* Where page-table entries of DATA's pages are to be seen. */
#define TABLES 0x8000ul
#define PTE(k) (TABLES + 8 * ((DATA / PAGE_SIZE + (k)) % 512))

struct start {
	u64 gpr[16];
	u8 vec[16][16];
	u16 fcw;
	bool ts, smap;
	u8 data[DATA_SIZE];
};

extern u64 seed;
u64 rnd(void);
unsigned below(unsigned n);

/* What the next program is like. */
extern bool with_x87;
extern bool m32;  /* 32-bit code, in compatibility mode */
extern bool pcid; /* with process-context identifiers, and tables as they are */
extern bool user; /* for CPL 3, and with nothing that depends on the model of the processor */
extern u8 code[2 * PAGE_SIZE];
extern unsigned code_start; /* its first byte; some lie on both pages */
/* Makes it, to run at CODE + code_start, RBX at DATA: its length in bytes. */
unsigned program(void);
void program_start(struct start *s);

#endif
