/* SPDX-License-Identifier: MIT */
/*
 * insn-diff [--engine interp|jit] [--iterations N] [--seed S] [--only MNEMONIC] [--verbose]
 *
 * Each user-level row N times in each mode this CPU can run. A mismatch prints what reproduces it:
 * the row, the seed of the iteration, the bytes, and what differs.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn_test.h"

static const struct {
	const char *name;
	u16 mnemonic;
} rows[ISA_OP_N] = {
#define INSN(m, fn, flags, feat)	      [ISA_OP_##m] = {#m, ZYDIS_MNEMONIC_##m},
#define INSN_ALT(op, m, alt, fn, flags, feat) [ISA_OP_##op] = {#op, ZYDIS_MNEMONIC_##m},
#include "spec/insn/all.def"
};

static const char *const skips[ISA_OP_N] = {
#define SKIP(op, why) [ISA_OP_##op] = why,
#include "skip.def"
};

static struct {
	unsigned iterations;
	u64 seed;
	const char *only;
	bool verbose, jit;
	unsigned shown, max_shown;
} opt = {.iterations = 150, .seed = 1, .max_shown = 3};

static u8 data_before[DATA_SIZE], data_interp[DATA_SIZE];

static void hex(const u8 *p, unsigned n)
{
	while (n--)
		printf("%02x", *p++);
}

static bool differs(const char *what, unsigned k, const void *want, const void *got, unsigned n,
		    bool print)
{
	if (memcmp(want, got, n) == 0)
		return false;
	if (print) {
		printf("    %s%u: native ", what, k);
		hex(want, n);
		printf(" handler ");
		hex(got, n);
		printf("\n");
	}
	return true;
}

/* Flags that the manual leaves undefined after @in. */
static u64 undefined_flags(const struct instance *in)
{
	u64 u = in->zi.cpu_flags ? in->zi.cpu_flags->undefined : 0;

	return u & X86_STATUS_FLAGS;
}

/* Page fault addresses: the order of CMPS's reads and of masked bytes is nobody's rule. */
static bool cr2_defined(const struct instance *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU: return false;
	default: return true;
	}
}

static bool loads_segment(unsigned op)
{
	switch (op) {
	case ISA_OP_MOV_SEG:
	case ISA_OP_POP_SEG:
	case ISA_OP_LDS:
	case ISA_OP_LES:
	case ISA_OP_LFS:
	case ISA_OP_LGS:
	case ISA_OP_LSS: return true;
	default: return false;
	}
}

static bool compare(const struct instance *in, const struct tstate *want, const struct tstate *got,
		    const u8 *mem_want, const u8 *mem_got, bool print)
{
	u64 fmask = X86_STATUS_FLAGS | X86_DF | X86_IF;
	unsigned n = in->mode == ISA_LONG64 ? 16 : 8, size = in->mode == ISA_LONG64 ? 8 : 4, k;
	bool bad = false;
	u64 fw, fg;

	if (want->faulted != got->faulted ||
	    (want->faulted && (want->vector != got->vector || want->error != got->error))) {
		if (print)
			printf("    fault: native %d #%u(%x) handler %d #%u(%x)\n", want->faulted,
			       want->vector, want->error, got->faulted, got->vector, got->error);
		return true;
	}
	if (want->faulted && want->vector == X86_PF_VEC && cr2_defined(in))
		bad |= differs("cr2 page", 0, &(u64){want->cr2 >> 12}, &(u64){got->cr2 >> 12}, 8,
			       print);
	for (k = 0; k < n; k++)
		bad |= differs("gpr", k, &want->gpr[k], &got->gpr[k], size, print);
	bad |= differs("rip", 0, &want->rip, &got->rip, size, print);
	if (!want->faulted)
		fmask &= ~undefined_flags(in);
	fw = want->rflags & fmask, fg = got->rflags & fmask;
	bad |= differs("rflags", 0, &fw, &fg, 8, print);
	for (k = 0; k < n; k++)
		bad |= differs("vec", k, want->vec[k], got->vec[k], 32, print);
	for (k = 0; k < 8; k++)
		bad |= differs("st", k, want->x87.st[k], got->x87.st[k], 10, print);
	if (!opt.jit) {
		for (k = 0; k < 6; k++)
			bad |= differs("sel", k, &want->sel[k], &got->sel[k], 2, print);
		/* A null selector keeps the base on AMD's, clears it on Intel's. */
		if (want->sel[FS] > 3 || !loads_segment(in->op))
			bad |= differs("fsbase", 0, &want->fs_base, &got->fs_base, size, print);
		if (want->sel[GS] > 3 || !loads_segment(in->op))
			bad |= differs("gsbase", 0, &want->gs_base, &got->gs_base, size, print);
	}
	bad |= differs("fcw", 0, &want->x87.fcw, &got->x87.fcw, 2, print);
	bad |= differs("fsw", 0, &want->x87.fsw, &got->x87.fsw, 2, print);
	bad |= differs("ftw", 0, &want->x87.ftw, &got->x87.ftw, 1, print);
	bad |= differs("mxcsr", 0, &want->x87.mxcsr, &got->x87.mxcsr, 4, print);
	for (k = 0; k < DATA_SIZE; k += 16)
		bad |= differs("data+", k, mem_want + k, mem_got + k, 16, print);
	return bad;
}

static void report(unsigned op, u64 seed, const struct instance *in, const struct tstate *from)
{
	unsigned k;

	printf("MISMATCH %s %s-bit, --only %s --seed %llu --iterations 1: ", rows[op].name,
	       in->mode == ISA_LONG64 ? "64" : "32", rows[op].name, (unsigned long long)seed);
	hex(in->bytes, in->zi.length);
	printf(" rip %llx flags %llx mxcsr %x fcw %x fsw %x ftw %x tlb %d\n   ",
	       (unsigned long long)from->rip, (unsigned long long)from->rflags, from->x87.mxcsr,
	       from->x87.fcw, from->x87.fsw, from->x87.ftw, in->tlb);
	for (k = 0; k < 16; k++)
		printf(" %llx", (unsigned long long)from->gpr[k]);
	printf("\n");
	if (in->at >= DATA && in->at < DATA + DATA_SIZE - 64) {
		printf("    operand %llx:", (unsigned long long)in->at);
		for (k = 0; k < 64; k += 8)
			printf(" %llx",
			       (unsigned long long)*(const u64 *)(data_before + in->at - DATA + k));
		printf("\n");
	}
	if (in->at >= DATA && in->at + 576 <= DATA + DATA_SIZE) {
		printf("    header:");
		for (k = 512; k < 544; k += 8)
			printf(" %llx",
			       (unsigned long long)*(const u64 *)(data_before + in->at - DATA + k));
		printf("\n");
	}
	if (from->gpr[RSP] >= DATA && from->gpr[RSP] < DATA + DATA_SIZE - 64) {
		printf("    stack:");
		for (k = 0; k < 40; k += 8)
			printf(" %llx",
			       (unsigned long long)*(const u64 *)(data_before + from->gpr[RSP] -
								  DATA + k));
		printf("\n");
	}
}

/* One instance; 0 same, 1 different, -1 there is none. */
static int once(unsigned op, enum isa_mode mode, u64 seed)
{
	struct instance in;
	struct tstate from, want, got;
	u8 *data = (u8 *)DATA;

	rnd_seed(seed * 2 + (mode == ISA_PROT32) + (u64)op * 0x10001);
	if (!gen_instance(op, rows[op].mnemonic, mode, &in, &from))
		return -1;
	memcpy(data_before, data, DATA_SIZE);
	if (opt.jit)
		jit_run(&in, &from, &got);
	else
		interp_run(&in, &from, &got);
	memcpy(data_interp, data, DATA_SIZE);
	memcpy(data, data_before, DATA_SIZE);
	native_run(&in, &from, &want);
	forgive(&in, &from, &want, &got, &(struct images){data_before, data, data_interp});
	if (!compare(&in, &want, &got, data, data_interp, false))
		return 0;
	if (opt.shown++ < opt.max_shown) {
		report(op, seed, &in, &from);
		compare(&in, &want, &got, data, data_interp, true);
	}
	return 1;
}

static bool is_user_level(unsigned op)
{
	return !(isa_rows[op].flags & ISA_F_CPL0) && isa_rows[op].fn != isa_exec_ud;
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = {{"iterations", required_argument, NULL, 'n'},
						 {"seed", required_argument, NULL, 's'},
						 {"only", required_argument, NULL, 'o'},
						 {"verbose", no_argument, NULL, 'v'},
						 {"engine", required_argument, NULL, 'e'},
						 {0}};
	unsigned op, user = 0, run = 0, bad_rows = 0, skipped = 0, k;
	unsigned long total = 0;
	int ch;

	while ((ch = getopt_long(argc, argv, "n:s:o:ve:", longopts, NULL)) != -1) {
		switch (ch) {
		case 'n': opt.iterations = (unsigned)strtoul(optarg, NULL, 0); break;
		case 's': opt.seed = strtoull(optarg, NULL, 0); break;
		case 'o': opt.only = optarg; break;
		case 'v': opt.verbose = true; break;
		case 'e': opt.jit = !strcmp(optarg, "jit"); break;
		default: return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!native_init()) {
		printf("cannot map the arena\n");
		return 77;
	}
	interp_init();
	if (opt.jit && !jit_init()) {
		printf("this host cannot run the translator\n");
		return 77;
	}
	gen_init();
	for (op = ISA_OP_UNKNOWN + 1; op < ISA_OP_N; op++) {
		unsigned done = 0, bad = 0;
		enum isa_mode mode;

		if (!is_user_level(op) || (opt.only && strcasecmp(opt.only, rows[op].name) != 0))
			continue;
		user++;
		opt.shown = 0;
		if (skips[op] || !interp_feature(isa_rows[op].feat) ||
		    (opt.jit && !jit_feature(isa_rows[op].feat)) ||
		    (opt.jit && (isa_rows[op].flags & ISA_F_SYS))) {
			skipped++;
			printf("skipped %s: %s\n", rows[op].name,
			       skips[op] ? skips[op]
			       : isa_rows[op].flags & ISA_F_SYS && opt.jit
				       ? "its handler runs, as in the interpreter"
				       : "this CPU does not have it");
			continue;
		}
		for (mode = opt.jit ? ISA_LONG64 : ISA_PROT32; mode <= ISA_LONG64; mode++) {
			if (!native_has_mode(mode) || !gen_templates(rows[op].mnemonic, mode))
				continue;
			for (k = 0; k < opt.iterations; k++) {
				int r = once(op, mode, opt.seed + k);

				if (r < 0)
					break;
				done++;
				bad += r;
			}
		}
		total += done;
		if (!done)
			printf("no instance of %s\n", rows[op].name);
		else
			run++;
		if (bad) {
			bad_rows++;
			printf("%s: %u of %u differ\n", rows[op].name, bad, done);
		} else if (opt.verbose) {
			printf("%s: %u\n", rows[op].name, done);
		}
	}
	printf("%lu instances; %u of %u user-level rows exercised, %u skipped, %u with "
	       "differences\n",
	       total, run, user, skipped, bad_rows);
	/* The translator has no rows of its own for what 64-bit mode lacks. */
	return bad_rows || (!opt.only && !opt.jit && run + skipped < user);
}
