/* SPDX-License-Identifier: MIT */
/* Direct jumps and calls to other pages, which may be another page of memory each time. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake.h"
#include "silicon/paging/tlb.h"

static struct fake f;
#define R(x) (f.cpu->c.r.gpr[x])

/*
 * At HOME. Calls PLACE, of which EDX sums up the results, ECX times, ends in ENDS and comes back by
 * BACK. With R8 it changes what R9 points to each time, and drops the translation of R10.
 */
#define HOME  0x1000
#define ENDS  0x2000
#define PLACE 0x3000
#define BACK  0x4000
#define OTHER 0x5000
SNIPPET(c_home, "call . + 0x2000\n"
		"add %eax, %edx\n"
		"test %r8d, %r8d\n"
		"jz 1f\n"
		"xor %rsi, (%r9)\n"
		"invlpg (%r10)\n"
		"1: dec %ecx\n"
		"jz . + 0x1000\n"
		"jmp . + 0x3000");
SNIPPET(c_back, "jmp . - 0x3100");
SNIPPET(c_one, "mov $1, %eax; ret");
SNIPPET(c_thousand, "mov $1000, %eax; ret");

/* At HOME: the other address space each time. */
SNIPPET(c_spaces, "call . + 0x2000\n"
		  "add %eax, %edx\n"
		  "mov %r11, %cr3\n"
		  "xchg %r11, %r12\n"
		  "dec %ecx\n"
		  "jz . + 0x1000\n"
		  "jmp . + 0x3000");
/* At HOME: to BACK and nothing else. */
SNIPPET(c_round, "jmp . + 0x3000");

static u64 pte;

static void load(const u8 *from, const u8 *end, u64 at)
{
	fake_load(&f, from, (size_t)(end - from), at);
}

static void setup(void)
{
	fake_identity(&f);
	memset(f.mem + ENDS, 0xf4, PAGE_SIZE);
	memset(f.mem + BACK, 0x90, PAGE_SIZE);
	load(c_one, c_one_end, PLACE);
	load(c_thousand, c_thousand_end, OTHER);
	load(c_back, c_back_end, BACK + 0x100);
	load(c_home, c_home_end, HOME);
	pte = fake_map(&f, PG_4L, PLACE, 1, PLACE | 3, 7);
}

static u64 go(u32 n)
{
	R(RSP) = 0x8000;
	R(RDX) = 0;
	R(RCX) = n;
	f.cpu->c.s.rip = HOME;
	assert_int_equal(fake_run(&f), X_HLT);
	return R(RDX);
}

static void test_counts(void **state)
{
	u64 first, each, start;

	setup();
	R(R8) = 0;
	assert_int_equal(go(10), 10);
	start = f.cpu->n.instructions;
	assert_int_equal(go(1), 1);
	first = f.cpu->n.instructions - start;
	assert_int_equal(go(2), 2);
	each = f.cpu->n.instructions - start - 2 * first;
	assert_true(each > 200); /* the NOPs */
	start = f.cpu->n.instructions;
	assert_int_equal(go(10000), 10000);
	assert_int_equal(f.cpu->n.instructions - start, first + 9999 * each);
	if (f.m->jit) {
		start = f.cpu->n.jit_lookups;
		assert_int_equal(go(10000), 10000);
		assert_in_range(f.cpu->n.jit_lookups - start, 0, 5);
	}
	fake_fini(&f);
}

/* The page is another one each time, as the tables say. */
static void test_remapped(void **state)
{
	setup();
	R(R8) = 1;
	R(R9) = pte;
	R(R10) = PLACE;
	R(RSI) = PLACE ^ OTHER;
	for (unsigned k = 0; k < 20; k++)
		assert_int_equal(go(100 + 2 * k), (50 + k) * 1001);
	/* For longer than it takes to give up. */
	assert_int_equal(go(3), 1 + 1000 + 1);
	R(R8) = 0;
	assert_int_equal(go(1000), 1000000);
	assert_int_equal(go(1000), 1000000);
	if (f.m->jit) {
		u64 start = f.cpu->n.jit_lookups;

		assert_int_equal(go(1000), 1000000);
		assert_in_range(f.cpu->n.jit_lookups - start, 0, 5);
	}
	/* The jump cache's generations come again: what was there in the first one is not there
	 * now. */
	fake_set(&f, pte, PLACE | 3);
	tlb_invlpg(f.cpu, PLACE);
	assert_int_equal(go(1000), 1000);
	fake_set(&f, pte, OTHER | 3);
	for (unsigned k = 0; k < 150; k++) {
		tlb_invlpg(f.cpu, PLACE);
		assert_int_equal(go(1), 1000);
	}
	fake_fini(&f);
}

/* Two address spaces, at the same time in the TLB: what the other one has at PLACE. */
static void test_spaces(void **state)
{
	u64 cr3[2];

	setup();
	cr3[0] = f.cpu->c.s.cr3;
	cr3[1] = f.cpu->c.s.cr3 = fake_page(&f);
	for (u64 at = 0; at < 0x20000; at += PAGE_SIZE)
		fake_map(&f, PG_4L, at, 1, (at == PLACE ? OTHER : at) | 3, 7);
	f.cpu->c.s.cr4 |= CR4_PCIDE;
	R(R8) = 0;
	for (unsigned k = 0; k < 2000; k++) {
		f.cpu->c.s.cr3 = cr3[k % 2] | (1 + k % 2);
		cpu_context_changed(f.cpu);
		assert_int_equal(go(1 + k % 3), (1 + k % 3) * (k % 2 ? 1000 : 1));
	}
	load(c_spaces, c_spaces_end, HOME);
	f.cpu->c.s.cr3 = cr3[0] | 1;
	cpu_context_changed(f.cpu);
	R(R11) = BIT(63) | cr3[1] | 2;
	R(R12) = BIT(63) | cr3[0] | 1;
	for (unsigned k = 1; k < 20; k++)
		assert_int_equal(go(100 * k), 50 * k * 1001);
	fake_fini(&f);
}

/* The code there is changed: by the loop itself, and from outside. */
static void test_rewritten(void **state)
{
	setup();
	R(R8) = 1;
	R(R9) = PLACE + 1;
	R(R10) = 0x9000;
	R(RSI) = 2;
	assert_int_equal(go(1000), 2000); /* 1, 3, 1, 3 */
	R(R8) = 0;
	assert_int_equal(go(100), 100);
	for (unsigned k = 0; k < 100; k++) {
		bool one = k % 2;

		load(one ? c_one : c_thousand, one ? c_one_end : c_thousand_end, PLACE);
		assert_int_equal(go(1 + k), (1 + k) * (one ? 1 : 1000));
	}
	fake_fini(&f);
}

/* A loop over three pages hears of it, and one without a return. */
static void test_kick(void **state)
{
	pthread_t t;

	setup();
	R(R8) = 0;
	assert_int_equal(go(100), 100);
	R(RCX) = 0;
	f.cpu->c.s.rip = HOME;
	t = fake_kick_soon(&f);
	assert_int_equal(fake_run(&f), X_KICK);
	pthread_join(t, NULL);
	load(c_round, c_round_end, HOME);
	t = fake_kick_soon(&f);
	assert_int_equal(fake_run(&f), X_KICK);
	pthread_join(t, NULL);
	fake_fini(&f);
}

static void test_exact(void **state)
{
	u64 start;

	setup();
	f.m->cfg.exact_stops = true;
	R(R8) = 0;
	assert_int_equal(go(100), 100);
	start = f.cpu->n.instructions;
	sil_cpu_stop_at(f.cpu, sil_cpu_retired(f.cpu) + 1000);
	R(RCX) = 100;
	f.cpu->c.s.rip = HOME;
	assert_int_equal(fake_run(&f), X_KICK);
	assert_int_equal(f.cpu->n.instructions - start, 1000);
	fake_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts), cmocka_unit_test(test_remapped),
		cmocka_unit_test(test_spaces), cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_kick),   cmocka_unit_test(test_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
