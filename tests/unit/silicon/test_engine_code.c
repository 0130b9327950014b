/* SPDX-License-Identifier: MIT */
/* Code that changes: by itself, by another cpu, by the program around us; the code memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake.h"
#include "silicon/cpu/debug.h"
#include "silicon/paging/tlb.h"

static struct fake f;
#define R(x)	       (f.cpu->c.r.gpr[x])
#define LOAD(name, at) fake_load(&f, name, name##_end - name, at)

static void setup(void)
{
	fake_identity(&f);
	R(RSP) = 0x8000;
}

/* Writes an immediate into an instruction of its own block. */
SNIPPET(c_smc, ".intel_syntax noprefix\n"
	       "mov byte ptr [rip + 1f + 1], 0x22\n"
	       "1: mov al, 0x11\n"
	       "hlt\n"
	       ".att_syntax prefix");
SNIPPET(c_smc_loop, ".intel_syntax noprefix\n"
		    "xor edx, edx\n"
		    "2: lock inc byte ptr [rip + 1f + 1]\n"
		    "1: mov al, 0x00\n"
		    "movzx eax, al; add edx, eax\n"
		    "dec ecx; jnz 2b\n"
		    "hlt\n"
		    ".att_syntax prefix");
static void test_self_modifying(void **state)
{
	setup();
	LOAD(c_smc, 0x1000);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX) & 0xff, 0x22);
	LOAD(c_smc_loop, 0x1000);
	R(RCX) = 100;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RDX), 5050);
	fake_fini(&f);
}

/* Targets that are not canonical, after two address spaces have been at the one they resemble. */
SNIPPET(c_jmp_rax, "jmp *%rax");
SNIPPET(c_call_rax, "call *%rax");
SNIPPET(c_jmp_mem, "jmp *(%rsp)");
SNIPPET(c_ret, "ret");
SNIPPET(c_hlt, "hlt");
static void jump_to(u64 target)
{
	f.cpu->c.s.rip = 0x1000;
	R(RSP) = 0x8000;
	R(RAX) = target;
	fake_set(&f, 0x8000, target);
}

static void test_odd_targets(void **state)
{
	static const struct {
		const u8 *code, *end;
	} t[] = {
		{c_jmp_rax, c_jmp_rax_end},
		{c_call_rax, c_call_rax_end},
		{c_jmp_mem, c_jmp_mem_end},
		{c_ret, c_ret_end},
	};

	for (size_t k = 0; k < ARRAY_SIZE(t); k++) {
		setup();
		f.cpu->c.s.cr4 |= CR4_PCIDE;
		LOAD(c_hlt, 0x3000);
		fake_load(&f, t[k].code, (size_t)(t[k].end - t[k].code), 0x1000);
		for (unsigned n = 0; n < 40; n++) {
			f.cpu->c.s.cr3 ^= 1;
			cpu_context_changed(f.cpu);
			jump_to(0x3000);
			assert_int_equal(fake_run(&f), X_HLT);
		}
		for (u64 odd = 1; odd < 128; odd++) {
			jump_to(0x3000);
			assert_int_equal(fake_run(&f), X_HLT);
			jump_to(0x3000 ^ odd << 57);
			assert_int_equal(fake_run(&f), X_EXCEPTION);
			assert_int_equal(f.ev.vector, X86_GP);
			assert_int_equal(f.cpu->c.s.rip, 0x1000);
			assert_int_equal(R(RSP), 0x8000);
		}
		fake_fini(&f);
	}
}

/* Data next to code in one page: writes go on without dropping anything. */
SNIPPET(c_mixed, ".intel_syntax noprefix\n"
		 "1: mov [rip + 1b + 0x800], rcx; dec ecx; jnz 1b; hlt\n"
		 ".att_syntax prefix");
static void test_mixed_page(void **state)
{
	u64 dropped;

	setup();
	LOAD(c_mixed, 0x1000);
	R(RCX) = 3;
	assert_int_equal(fake_run(&f), X_HLT);
	dropped = f.cpu->n.blocks_dropped;
	f.cpu->c.s.rip = 0x1000;
	R(RCX) = 1000;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(fake_get(&f, 0x1800), 1);
	assert_int_equal(f.cpu->n.blocks_dropped, dropped);
	fake_fini(&f);
}

/* An instruction over two pages that are not neighbours in memory; its second half changes. */
SNIPPET(c_cross, "movabs $0x1122334455667788, %rax; hlt");
static void test_cross_page_insn(void **state)
{
	setup();
	fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 3, 7);
	fake_map(&f, PG_4L, 0x40001000, 1, 0x9000 | 3, 7);
	memcpy(f.mem + 0x5ffb, c_cross, 5);
	memcpy(f.mem + 0x9000, c_cross + 5, 6);
	f.cpu->c.s.rip = 0x40000ffb;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 0x1122334455667788);
	f.mem[0x9000] = 0x99;
	f.cpu->c.s.rip = 0x40000ffb;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 0x1122334499667788);
	/* The second page is not there: CR2 is its first byte, RIP the instruction. */
	fake_map(&f, PG_4L, 0x40001000, 1, 0, 7);
	tlb_flush_all(f.cpu);
	f.cpu->c.s.rip = 0x40000ffb;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.payload, 0x40001000);
	assert_int_equal(f.ev.error, 0x10);
	assert_int_equal(f.cpu->c.s.rip, 0x40000ffb);
	/* An invalid opcode at the very end needs no second page. */
	f.mem[0x5fff] = 0x06;
	f.cpu->c.s.rip = 0x40000fff;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 6);
	fake_fini(&f);
}

/* The same in a loop, often enough to be translated. The second half changes, by others and by the
 * loop itself; the second page is another one, and the first is mapped twice with different ones.
 */
SNIPPET(c_cross_loop, ".intel_syntax noprefix\n"
		      "1: mov ebx, 0x00000001\n"
		      "2: add rdx, rbx; jmp rsi; nop; nop; nop; nop\n"
		      "3: inc byte ptr [rdi + 3]\n"
		      "4: dec ecx; jnz 1b; hlt\n"
		      ".att_syntax prefix");
#define CROSS_INC  14 /* label 3: the constant's third byte grows */
#define CROSS_LOOP 17
static u64 cross_run(u64 page, unsigned from, unsigned n)
{
	u64 was = f.cpu->n.instructions;

	f.cpu->c.s.rip = page + 0xffe;
	R(RDX) = 0;
	R(RCX) = n;
	R(RDI) = page + 0xffe;
	R(RSI) = page + 0xffe + from;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->n.instructions - was, n * (from == CROSS_INC ? 6ull : 5ull));
	return R(RDX);
}

static void test_cross_page_loop(void **state)
{
	const size_t n = (size_t)(c_cross_loop_end - c_cross_loop);

	setup();
	fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 3, 7);
	fake_map(&f, PG_4L, 0x40001000, 1, 0x9000 | 3, 7);
	fake_map(&f, PG_4L, 0x40010000, 1, 0x5000 | 3, 7);
	fake_map(&f, PG_4L, 0x40011000, 1, 0xa000 | 3, 7);
	memcpy(f.mem + 0x5ffe, c_cross_loop, 2);
	memcpy(f.mem + 0x9000, c_cross_loop + 2, n - 2);
	memcpy(f.mem + 0xa000, c_cross_loop + 2, n - 2);
	f.mem[0xa000] = 2;
	assert_int_equal(cross_run(0x40000000, CROSS_LOOP, 100), 100 * 0x001);
	assert_int_equal(cross_run(0x40010000, CROSS_LOOP, 100), 100 * 0x201);
	assert_int_equal(cross_run(0x40000000, CROSS_LOOP, 100), 100 * 0x001);
	/* Written behind our back: the comparison at each pass sees it. */
	f.mem[0x9000] = 3;
	assert_int_equal(cross_run(0x40000000, CROSS_LOOP, 100), 100 * 0x301);
	assert_int_equal(cross_run(0x40010000, CROSS_LOOP, 100), 100 * 0x201);
	/* The first page, by somebody who says so. */
	f.mem[0x5fff] = 4;
	sil_memory_written(f.m, (hva_t)f.mem + 0x5fff, 1);
	assert_int_equal(cross_run(0x40000000, CROSS_LOOP, 100), 100 * 0x304);
	/* Another second page, and only its translation is flushed. */
	fake_map(&f, PG_4L, 0x40001000, 1, 0xa000 | 3, 7);
	tlb_invlpg(f.cpu, 0x40001000);
	assert_int_equal(cross_run(0x40000000, CROSS_LOOP, 100), 100 * 0x204);
	/* 0 in its third byte at first, 99 at last */
	f.mem[0xa001] = 0;
	assert_int_equal(cross_run(0x40000000, CROSS_INC, 100), 100 * 0x204 + (4950ull << 16));
	/* No longer there */
	fake_map(&f, PG_4L, 0x40001000, 1, 0, 7);
	tlb_invlpg(f.cpu, 0x40001000);
	f.cpu->c.s.rip = 0x40000ffe;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 14);
	assert_int_equal(f.ev.payload, 0x40001000);
	assert_int_equal(f.cpu->c.s.rip, 0x40000ffe);
	fake_fini(&f);
}

/* Writers that no TLB sees are found when they are announced, or after a recheck. */
SNIPPET(c_one, "mov $1, %eax; hlt");
static void test_outside_writers(void **state)
{
	setup();
	LOAD(c_one, 0x1000);
	assert_int_equal(fake_run(&f), X_HLT);
	f.mem[0x1001] = 2;
	sil_memory_written(f.m, (hva_t)f.mem + 0x1001, 1);
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 2);
	f.mem[0x1001] = 3;
	sil_code_recheck(f.cpu);
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 3);
	f.mem[0x1001] = 4;
	sil_memory_removed(f.m, (hva_t)f.mem, f.size);
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 4);
	fake_fini(&f);
}

/*
 * Cross-modifying code: one cpu rewrites a function and raises a number, the other calls it when it
 * sees the number and must get the new value every time. 0x2000: mov $n, %eax; ret. 0x3000: number.
 */
SNIPPET(c_writer, ".intel_syntax noprefix\n"
		  "mov ebx, 1\n"
		  "1: mov [0x2001], ebx\n"
		  "mov [0x3000], ebx\n"
		  "2: pause; cmp [0x3008], ebx; jne 2b\n"
		  "inc ebx; cmp ebx, 2000; jne 1b\n"
		  "hlt\n"
		  ".att_syntax prefix");
SNIPPET(c_caller, ".intel_syntax noprefix\n"
		  "mov ebx, 1\n"
		  "1: pause; cmp [0x3000], ebx; jne 1b\n"
		  "call rdi\n"
		  "cmp eax, ebx; jne 3f\n"
		  "mov [0x3008], ebx\n"
		  "inc ebx; cmp ebx, 2000; jne 1b\n"
		  "3: hlt\n"
		  ".att_syntax prefix");
SNIPPET(c_fn, "mov $0, %eax; ret");
static void *other(void *arg)
{
	engine_run(((struct fake *)arg)->cpu);
	return NULL;
}

static void test_cross_modifying(void **state)
{
	struct fake second;
	pthread_t t;

	setup();
	fake_init_cpu(&second, &f);
	second.cpu->c.s = f.cpu->c.s;
	cpu_context_changed(second.cpu);
	LOAD(c_fn, 0x2000);
	LOAD(c_caller, 0x4000);
	second.cpu->c.s.rip = 0x4000;
	second.cpu->c.r.gpr[RDI] = 0x2000;
	second.cpu->c.r.gpr[RSP] = 0xa000;
	LOAD(c_writer, 0x1000);
	pthread_create(&t, NULL, other, &second);
	assert_int_equal(fake_run(&f), X_HLT);
	pthread_join(t, NULL);
	assert_int_equal(second.exit, X_HLT);
	assert_int_equal(second.cpu->c.r.gpr[RBX], 2000);
	fake_fini_cpu(&second);
	fake_fini(&f);
}

/* Locked adds of two cpus to one word, one of them in a page the other runs code of. */
SNIPPET(c_locked, ".intel_syntax noprefix\n"
		  "1: lock add qword ptr [rbx], 1; dec ecx; jnz 1b; hlt\n"
		  ".att_syntax prefix");
static void test_locked(void **state)
{
	struct fake second;
	pthread_t t;
	u64 where[] = {0x5000, 0x1f00};
	unsigned k;

	for (k = 0; k < 2; k++) {
		setup();
		fake_init_cpu(&second, &f);
		second.cpu->c.s = f.cpu->c.s;
		LOAD(c_locked, 0x1000);
		second.cpu->c.s.rip = 0x1000;
		cpu_context_changed(second.cpu);
		R(RBX) = second.cpu->c.r.gpr[RBX] = where[k];
		R(RCX) = second.cpu->c.r.gpr[RCX] = 200000;
		pthread_create(&t, NULL, other, &second);
		assert_int_equal(fake_run(&f), X_HLT);
		pthread_join(t, NULL);
		assert_int_equal(fake_get(&f, where[k]), 400000);
		fake_fini_cpu(&second);
		fake_fini(&f);
	}
}

/* More code than the block arena holds. */
static void test_arena(void **state)
{
	u64 at;
	unsigned k;

	setup();
	/* Pages of single-byte instructions with a jump to the next page. */
	for (at = 0x100000; at < 0xe00000; at += 0x1000) {
		memset(f.mem + at, 0x90, 4096);
		memcpy(f.mem + at + 4091, "\xe9\0\0\0\0", 5);
	}
	f.mem[at - 0x1000] = 0xf4;
	for (k = 0; k < 2; k++) {
		f.cpu->c.s.rip = 0x100000;
		assert_int_equal(fake_run(&f), X_HLT);
		assert_int_equal(f.cpu->c.s.rip, 0xdff000);
	}
	assert_int_equal(f.cpu->n.instructions, 2 * 0xcffull * 4092);
	fake_fini(&f);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_self_modifying),	cmocka_unit_test(test_odd_targets),
		cmocka_unit_test(test_mixed_page),	cmocka_unit_test(test_cross_page_insn),
		cmocka_unit_test(test_cross_page_loop), cmocka_unit_test(test_outside_writers),
		cmocka_unit_test(test_cross_modifying), cmocka_unit_test(test_locked),
		cmocka_unit_test(test_arena),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
