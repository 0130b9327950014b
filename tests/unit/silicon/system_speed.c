/* SPDX-License-Identifier: MIT */
/* What system instructions take on the translator, in loops at CPL 0. Run by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fake.h"

#define ROUNDS 1000000
#define R(x)   (f.cpu->c.r.gpr[x])
static struct fake f;

#define LOOP(name, text) SNIPPET(name, "1: " text "; dec %ecx; jnz 1b; hlt")
LOOP(c_nop, "nop");
LOOP(c_pause, "pause");
LOOP(c_cr0, "mov %cr0, %rax");
LOOP(c_cr2, "mov %cr2, %rax");
LOOP(c_rdtsc, "rdtsc");
LOOP(c_invlpg, "invlpg (%rbx)");
LOOP(c_invlpg_load, "invlpg (%rbx); mov (%rbx), %rdx");
LOOP(c_cr3, "mov %rax, %cr3; xchg %rax, %rdx");
LOOP(c_stac, "stac; clac");
LOOP(c_sti, "sti; cli");
LOOP(c_int, "int3");

static const struct {
	const char *name;
	const u8 *code, *end;
	bool pcid;
} row[] = {
#define ROW(name, code, pcid)                \
	{                                    \
		name, code, code##_end, pcid \
	}
	ROW("NOP", c_nop, false),
	ROW("PAUSE", c_pause, false),
	ROW("MOV from CR0", c_cr0, false),
	ROW("MOV from CR2", c_cr2, false),
	ROW("RDTSC", c_rdtsc, false),
	ROW("STAC and CLAC", c_stac, false),
	ROW("STI and CLI", c_sti, false),
	ROW("INT3 and IRETQ", c_int, false),
	ROW("INVLPG", c_invlpg, false),
	ROW("INVLPG and a load of the page", c_invlpg_load, false),
	ROW("MOV to CR3", c_cr3, false),
	ROW("MOV to CR3, another PCID, no flush", c_cr3, true),
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Nanoseconds an iteration, the best of some. */
static double measure(const u8 *code, size_t n, bool pcid)
{
	double best = 1e30;

	fake_identity(&f);
	fake_idt(&f);
	memcpy(f.mem + 0x21000 + 16 * X86_BP, "\x48\xcf", 2); /* iretq */
	f.cpu->c.s.cr4 |= CR4_SMAP | (pcid ? CR4_PCIDE : 0);
	cpu_context_changed(f.cpu);
	fake_load(&f, code, n, 0x1000);
	for (unsigned k = 0; k < 5; k++) {
		double start = now_ns(), t;

		f.cpu->c.s.rip = 0x1000;
		R(RSP) = 0x8000;
		R(RBX) = 0x5000;
		R(RCX) = ROUNDS;
		R(RAX) = f.cpu->c.s.cr3 | (pcid ? 1ull << 63 : 0);
		R(RDX) = R(RAX) ^ pcid;
		if (fake_run(&f) != X_HLT)
			fail_msg("the loop did not reach its HLT");
		t = (now_ns() - start) / ROUNDS;
		best = t < best ? t : best;
	}
	fake_fini(&f);
	return best;
}

int main(void)
{
	fake_engine = SIL_ENGINE_JIT;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		printf("%-36s %6.1f ns\n", row[i].name,
		       measure(row[i].code, (size_t)(row[i].end - row[i].code), row[i].pcid));
	return 0;
}
