/* SPDX-License-Identifier: MIT */
/* What fuzz_insn and fuzz_vmcs share: choices, a guest that starts anew for each case, a watchdog.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "../unit/vtx/guest.h"

enum fuzz_mode { FUZZ_64, FUZZ_COMPAT, FUZZ_32, FUZZ_16, FUZZ_REAL, FUZZ_V86, FUZZ_NMODES };
extern const char *const fuzz_mode_name[FUZZ_NMODES];

struct fuzz {
	struct guest g;
	u8 *image[FUZZ_NMODES]; /* guest memory as every case finds it, its low part */
	u8 *vmcs[FUZZ_NMODES];	/* a cleared VMCS for each mode */
	u8 *tables, *page;	/* the root side's pages as they must stay; a guarded page */
	u64 cases, exits, refused, kicks;
};

extern u64 fuzz_seed;
u64 fuzz_rnd(void);
u64 fuzz_below(u64 n);
/* A number as programs get them wrong: small, at a power of two, all ones, an address, anything. */
u64 fuzz_number(void);
/* An instruction: random bytes, or prefixes, an opcode of some map, ModRM, SIB and so on. */
unsigned fuzz_insn(u8 *p, enum fuzz_mode mode);

void fuzz_init(struct fuzz *f, enum sil_engine engine);
void fuzz_fini(struct fuzz *f);
/* Memory, VMCS and registers for a case in @mode; registers random if @random_regs. */
void fuzz_reset(struct fuzz *f, enum fuzz_mode mode);
/* Enters until the case is over: @max exits, HLT, a shutdown, a kick, an exit that repeats. */
void fuzz_run(struct fuzz *f, unsigned max);
/* Memory outside what the guest may write is as it was. */
void fuzz_check(struct fuzz *f);
/* Parses --seconds N --seed N --engine NAME --cases N, and runs @one until the time is over. */
int fuzz_main(int argc, char **argv, void (*one)(struct fuzz *f));

#endif
