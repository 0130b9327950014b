/* SPDX-License-Identifier: MIT */
/* 32-bit code on either engine: modes and segments that change under it, its end at 4 GiB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fake.h"

static struct fake f;
#define R(x) (f.cpu->c.r.gpr[x])
#define GDT  0x22000u

static void setup(void)
{
	fake_identity(&f);
	/* 8: 64-bit code, 10: 32-bit code, 18: flat data, 20: data up to FFFH, 28: data from 1000H,
	 * 30: a flat stack of which SP is the pointer */
	fake_set(&f, GDT + 0x08, 0x00af9b000000ffffull);
	fake_set(&f, GDT + 0x10, 0x00cf9b000000ffffull);
	fake_set(&f, GDT + 0x18, 0x00cf93000000ffffull);
	fake_set(&f, GDT + 0x20, 0x0040930000000fffull);
	fake_set(&f, GDT + 0x28, 0x00cf93001000ffffull);
	fake_set(&f, GDT + 0x30, 0x008f93000000ffffull);
	f.cpu->c.s.gdtr = (struct isa_dtr){GDT, 0x37};
	R(RSP) = 0x8000;
}

static void compatibility(void)
{
	f.cpu->c.s.seg[CS].ar = 0xc09b;
	cpu_context_changed(f.cpu);
}

/* The same bytes in both modes, in turn. */
static void test_same_bytes(void **state)
{
	/* inc rax; hlt; and in 32-bit mode dec eax; inc eax; hlt */
	static const u8 code[] = {0x48, 0xff, 0xc0, 0xf4};
	unsigned k;

	setup();
	for (k = 0; k < 20; k++) {
		fake_mode64(&f, 0);
		if (k & 1)
			compatibility();
		fake_load(&f, code, sizeof(code), 0x1000);
		R(RAX) = 0xffffffff;
		f.cpu->n.instructions = 0;
		assert_int_equal(fake_run(&f), X_HLT);
		assert_int_equal(R(RAX), k & 1 ? 0xffffffff : 0x100000000);
		assert_int_equal(f.cpu->n.instructions, k & 1 ? 2 : 1);
	}
	fake_fini(&f);
}

/* A segment that ends to be flat in the middle of a block: limit and base count from there on. */
static void test_segments(void **state)
{
	static const u8 code[] = {
		0xb9, 0x1e, 0,	  0, 0, /* mov ecx, 30 */
		0x8e, 0xde,		/* 1: mov ds, esi (flat) */
		0xa1, 0x00, 0x30, 0, 0, /* mov eax, [3000] */
		0x8e, 0xdf,		/* mov ds, edi */
		0xa1, 0x00, 0x20, 0, 0, /* mov eax, [2000] */
		0x49, 0x75, 0xef,	/* dec ecx; jnz 1b */
		0xf4,
	};
	unsigned k;

	for (k = 0; k < 3; k++) {
		setup();
		compatibility();
		fake_set(&f, 0x2000, 0x2222);
		fake_set(&f, 0x3000, 0x3333);
		fake_load(&f, code, sizeof(code), 0x1000);
		R(RSI) = 0x18;
		R(RDI) = k == 0 ? 0x18 : k == 1 ? 0x28 : 0x20;
		if (k < 2) {
			assert_int_equal(fake_run(&f), X_HLT);
			assert_int_equal(R(RAX), k ? 0x3333 : 0x2222);
		} else {
			assert_int_equal(fake_run(&f), X_EXCEPTION);
			assert_int_equal(f.ev.vector, 13);
			assert_int_equal(f.cpu->c.s.rip, 0x100e);
			assert_int_equal(R(RAX), 0x3333);
			assert_int_equal(R(RCX), 30);
		}
		fake_fini(&f);
	}
}

/* A stack segment that makes SP the stack pointer: pushes wrap at 64 KiB from there on. */
static void test_stack_size(void **state)
{
	static const u8 code[] = {
		0xb9, 0x1e, 0,	  0, 0, /* mov ecx, 30 */
		0x8e, 0xd6,		/* 1: mov ss, esi */
		0xbc, 0,    0,	  1, 0, /* mov esp, 10000 */
		0x53, 0x5b,		/* push ebx; pop ebx */
		0x8e, 0xd7,		/* mov ss, edi */
		0xbc, 0,    0,	  1, 0, /* mov esp, 10000 */
		0x53,			/* push ebx */
		0x89, 0xe2,		/* mov edx, esp */
		0x49, 0x75, 0xe8,	/* dec ecx; jnz 1b */
		0xf4,
	};

	setup();
	compatibility();
	fake_load(&f, code, sizeof(code), 0x1000);
	R(RSI) = 0x18;
	R(RDI) = 0x30;
	R(RBX) = 0x12345678;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RDX), 0x1fffc);
	assert_int_equal(fake_get(&f, 0xfffc) & 0xffffffff, 0x12345678);
	fake_fini(&f);
}

/* Far jumps between 64-bit and compatibility mode in a loop. */
static void test_far_jumps(void **state)
{
	static const u8 code64[] = {
		0x48, 0xff, 0xc0,		 /* 1000: inc rax */
		0xff, 0x2c, 0x25, 0, 0x40, 0, 0, /* jmp far [4000] */
	};
	static const u8 code32[] = {
		0x43,			      /* 1100: inc ebx */
		0x49, 0x74, 0x07,	      /* dec ecx; jz over */
		0xea, 0,    0x10, 0, 0, 8, 0, /* jmp 8:1000 */
		0xf4,
	};

	setup();
	fake_load(&f, code32, sizeof(code32), 0x1100);
	fake_load(&f, code64, sizeof(code64), 0x1000);
	fake_set(&f, 0x4000, 0x1000001100ull);
	R(RAX) = 0xfffffff0;
	R(RBX) = 0xffffffff;
	R(RCX) = 100;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 0xfffffff0ull + 100);
	assert_int_equal(R(RBX), 99);
	assert_int_equal(f.cpu->c.mode, ISA_PROT32);
	assert_int_equal(f.cpu->n.instructions, 100 * 6 - 1);
	fake_fini(&f);
}

/* Code that runs to the end of 4 GiB: a jump wraps, what follows the last byte is beyond CS's
 * limit. */
static void test_end(void **state)
{
	static const u8 jump[] = {0xeb, 0x02};	/* at fffffffe: jmp +2, to 2 */
	static const u8 plain[] = {0x40, 0x40}; /* inc eax; inc eax */
	u64 k;

	for (k = 0; k < 2; k++) {
		unsigned n;

		setup();
		fake_map(&f, PG_4L, 0xfffff000, 1, 0x5000 | 3, 7);
		compatibility();
		f.mem[2] = 0xf4;
		for (n = 0; n < 20; n++) {
			fake_load(&f, k ? plain : jump, 2, 0x5ffe);
			f.cpu->c.s.rip = 0xfffffffe;
			R(RAX) = 0;
			if (!k) {
				assert_int_equal(fake_run(&f), X_HLT);
				assert_int_equal(f.cpu->c.s.rip, 2);
				continue;
			}
			assert_int_equal(fake_run(&f), X_EXCEPTION);
			assert_int_equal(f.ev.vector, 13);
			assert_int_equal(R(RAX), 2);
		}
		fake_fini(&f);
	}
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_segments),
		cmocka_unit_test(test_stack_size), cmocka_unit_test(test_far_jumps),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
