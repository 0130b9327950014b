// SPDX-License-Identifier: MIT
/*
 * Random and mutated instructions in every mode of the processor, with random registers. Nothing is
 * expected of the results; what counts is that the process lives, that no sanitizer complains, that
 * every entry comes back, and that nothing outside the guest's memory changes.
 *
 *	fuzz_insn [--seconds N] [--seed N [--cases N]] [--engine interp|jit]
 *
 * With FUZZ_VERBOSE in the environment each case's seed is printed before it runs.
 */
#include <string.h>

#include "fuzz.h"

static void random_state(struct guest *g, enum fuzz_mode mode)
{
	static const u64 cr0[] = {BIT(1), BIT(2), BIT(3), BIT(16), BIT(18)}; /* MP EM TS WP AM */
	static const u64 cr4[] = {BIT(0),  BIT(1),  BIT(2),  BIT(3),  BIT(7), BIT(8),
				  BIT(10), BIT(11), BIT(16), BIT(17), BIT(18)};
	u64 flags = vmr(g, GUEST_RFLAGS);

	if ((mode == FUZZ_64 || mode == FUZZ_COMPAT || mode == FUZZ_32) && !fuzz_below(3))
		for (unsigned s = ES; s <= GS; s++) {
			vmw(g, GUEST_ES_SELECTOR + s * 2, vmr(g, GUEST_ES_SELECTOR + s * 2) | 3);
			vmw(g, GUEST_ES_AR_BYTES + s * 2, vmr(g, GUEST_ES_AR_BYTES + s * 2) | 0x60);
		}
	for (unsigned i = 0; i < ARRAY_SIZE(cr0); i++)
		if (!fuzz_below(6))
			vmw(g, GUEST_CR0, vmr(g, GUEST_CR0) ^ cr0[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(cr4); i++)
		if (!fuzz_below(6))
			vmw(g, GUEST_CR4, vmr(g, GUEST_CR4) ^ cr4[i]);
	/* The status flags, TF, IF, DF, IOPL, NT, AC, ID: each at times. */
	if (fuzz_below(2))
		flags ^= fuzz_rnd() & 0x8d5;
	if (!fuzz_below(4))
		flags ^= fuzz_rnd() & 0x2476d5 & fuzz_rnd();
	vmw(g, GUEST_RFLAGS, flags);
	vmw(g, GUEST_DR7, 0x400 | (fuzz_below(8) ? 0 : fuzz_rnd() & 0xffff23ff));
	vmw(g, EXCEPTION_BITMAP, fuzz_below(2) ? 0 : fuzz_rnd() & 0xffffffff);
	if (!fuzz_below(4)) {
		unsigned s = (unsigned)fuzz_below(6);

		vmw(g, GUEST_ES_BASE + s * 2,
		    mode == FUZZ_64 && s >= FS ? fuzz_below(GUEST_MEM)
					       : vmr(g, GUEST_ES_BASE + s * 2));
	}
	if (fuzz_below(8))
		sil_vmwrite(g->cpu, GUEST_RSP, mode <= FUZZ_32 ? STACK - fuzz_below(64) : 0x7000);
	else
		sil_vmwrite(g->cpu, GUEST_RSP, fuzz_number());
}

static void one(struct fuzz *f)
{
	enum fuzz_mode mode = (enum fuzz_mode)fuzz_below(FUZZ_NMODES);
	struct guest *g = &f->g;
	u8 insn[32];
	unsigned at = 0, count = 1 + (unsigned)fuzz_below(12);

	fuzz_reset(f, mode);
	random_state(g, mode);
	/* Now and then the code ends at a page's or at memory's end. */
	if (!fuzz_below(16)) {
		u64 end = fuzz_below(2) ? 0x61000 : CODE + 0x1000;

		at = (unsigned)(end - CODE - fuzz_below(32));
		if (mode <= FUZZ_32)
			vmw(g, GUEST_RIP, CODE + at);
		else
			vmw(g, GUEST_RIP, at & 0xffff);
		at &= 0xfff;
	}
	for (unsigned i = 0; i < count; i++) {
		unsigned n = fuzz_insn(insn, mode);

		memcpy(g->mem + CODE + at, insn, n);
		at += n;
	}
	memset(g->mem + CODE + at, fuzz_below(8) ? 0xf4 : 0xeb, 16);
	if (!fuzz_below(4)) /* tables, descriptors, gates that are not as they should be */
		for (unsigned i = 0; i < 8; i++)
			g->mem[GDT + fuzz_below(0x5000)] = (u8)fuzz_rnd();
	fuzz_run(f, 24);
}

int main(int argc, char **argv)
{
	return fuzz_main(argc, argv, one);
}
