/* SPDX-License-Identifier: MIT */
/* Small guest programs through the engine: exceptions, debug events, shadows, halting, modes. */
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

static u64 stack(unsigned n)
{
	return fake_get(&f, R(RSP) + 8 * n);
}

SNIPPET(c_ud, "nop; ud2");
static void test_fault_exit(void **state)
{
	setup();
	LOAD(c_ud, 0x1000);
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 6);
	assert_int_equal(f.cpu->c.s.rip, 0x1001);
	assert_int_equal(f.cpu->n.instructions, 1);
	fake_fini(&f);
}

static void test_fault_delivery(void **state)
{
	setup();
	fake_idt(&f);
	LOAD(c_ud, 0x1000);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x21060);
	assert_int_equal(stack(0), 0x1001);
	assert_int_equal(stack(2) & X86_RF, X86_RF);
	fake_fini(&f);
}

SNIPPET(c_read, ".intel_syntax noprefix; mov rax, [rbx]; hlt; .att_syntax prefix");
static void test_double_triple(void **state)
{
	setup();
	fake_idt(&f);
	LOAD(c_read, 0x1000);
	R(RBX) = 0x123456789000;
	/* #PF whose gate is not present: #NP makes a double fault. */
	fake_set(&f, 0x20000 + 16 * 14, 8 << 16 | 0x0e00ull << 32);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x21000 + 16 * 8);
	assert_int_equal(stack(0), 0);
	assert_int_equal(stack(1), 0x1000);
	assert_int_equal(f.cpu->c.r.cr2, 0x123456789000);
	/* And no gate for that either. */
	fake_set(&f, 0x20000 + 16 * 8, 8 << 16 | 0x0e00ull << 32);
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_TRIPLE);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	assert_false(f.cpu->vectoring_valid);
	/* An intercepted second exception tells the first in vectoring. */
	f.exc_bitmap = 1u << 11;
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 11);
	assert_true(f.cpu->vectoring_valid);
	assert_int_equal(f.cpu->vectoring.vector, 14);
	fake_fini(&f);
}

SNIPPET(c_nops, "nop; nop; nop; hlt");
static void test_single_step(void **state)
{
	setup();
	LOAD(c_nops, 0x1000);
	f.cpu->c.s.rflags |= X86_TF;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 1);
	assert_int_equal(f.ev.payload, DR6_BS);
	assert_int_equal(f.cpu->c.s.rip, 0x1001);
	f.exc_bitmap = 0;
	fake_idt(&f);
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x21010);
	assert_int_equal(stack(0), 0x1001);
	assert_int_equal(stack(2) & (X86_TF | X86_RF), X86_TF);
	assert_int_equal(f.cpu->c.r.dr6 & DR6_BS, DR6_BS);
	fake_fini(&f);
}

static void test_breakpoints(void **state)
{
	setup();
	LOAD(c_nops, 0x1000);
	f.cpu->c.r.dr[1] = 0x1002;
	f.cpu->c.s.dr7 = 0x400 | 1 << 2;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 1);
	assert_int_equal(f.ev.payload, 2);
	assert_int_equal(f.cpu->c.s.rip, 0x1002);
	/* With RF it goes on. */
	f.cpu->c.s.rflags |= X86_RF;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.s.rflags & X86_RF, 0);

	/* A data breakpoint traps after the access, also when the page was in the TLB before. */
	LOAD(c_read, 0x1000);
	f.cpu->c.s.dr7 = 0x400;
	R(RBX) = 0x5000;
	assert_int_equal(fake_run(&f), X_HLT);
	f.cpu->c.s.rip = 0x1000;
	f.cpu->c.r.dr[2] = 0x5004;
	f.cpu->c.s.dr7 = 0x400 | 2 << 4 | 3ull << 24 | 3ull << 26;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 1);
	assert_int_equal(f.ev.payload, 4);
	assert_int_equal(f.cpu->c.s.rip, 0x1003);
	f.cpu->c.s.rip = 0x1000;
	R(RBX) = 0x5008;
	assert_int_equal(fake_run(&f), X_HLT);
	fake_fini(&f);
}

SNIPPET(c_sti, "sti; nop; nop; hlt");
static void test_shadow_mtf(void **state)
{
	setup();
	LOAD(c_sti, 0x1000);
	f.cpu->step_exits = true;
	assert_int_equal(fake_run(&f), X_MTF);
	assert_int_equal(f.cpu->c.s.rip, 0x1001);
	assert_int_equal(f.cpu->c.s.interruptibility, ISA_BLOCK_STI);
	assert_int_equal(fake_run(&f), X_MTF);
	assert_int_equal(f.cpu->c.s.rip, 0x1002);
	assert_int_equal(f.cpu->c.s.interruptibility, 0);
	f.cpu->step_exits = false;
	assert_int_equal(fake_run(&f), X_HLT);
	fake_fini(&f);
}

SNIPPET(c_loop, "1: jmp 1b");
static void test_kick(void **state)
{
	pthread_t t;

	setup();
	LOAD(c_loop, 0x1000);
	t = fake_kick_soon(&f);
	assert_int_equal(fake_run(&f), X_KICK);
	pthread_join(t, NULL);
	/* A kick that comes first makes the entry exit at once. */
	sil_cpu_kick(f.cpu);
	assert_int_equal(fake_run(&f), X_KICK);
	/* Halted, without an intercept. */
	LOAD(c_nops, 0x1000);
	f.icpt_hlt = false;
	t = fake_kick_soon(&f);
	assert_int_equal(fake_run(&f), X_KICK);
	pthread_join(t, NULL);
	assert_int_equal(f.cpu->c.s.activity, ISA_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x1004);
	fake_fini(&f);
}

/* Four instructions in a loop of two blocks. */
SNIPPET(c_counted, "1: inc %rax; nop; jmp 2f; nop; 2: jmp 1b");

/* sil_cpu_stop_at: the exit is at that very instruction, wherever in a block it is. */
static void test_stop_at(void **state)
{
	static const u64 rips[] = {0x1000, 0x1003, 0x1004, 0x1007};
	u64 first, at = 0;

	setup();
	f.m->cfg.exact_stops = true;
	LOAD(c_counted, 0x1000);
	f.cpu->c.r.gpr[RAX] = 0;
	first = sil_cpu_retired(f.cpu);
	for (unsigned step = 0; step < 200; step++) {
		at += step * 7 % 11;
		sil_cpu_stop_at(f.cpu, first + at);
		assert_int_equal(fake_run(&f), X_KICK);
		sil_cpu_unkick(f.cpu);
		assert_int_equal(sil_cpu_retired(f.cpu) - first, at);
		assert_int_equal(f.cpu->c.s.rip, rips[at % 4]);
		assert_int_equal(f.cpu->c.r.gpr[RAX], (at + 3) / 4);
	}
	fake_fini(&f);
}

static void test_inject(void **state)
{
	struct isa_event ev = {.vector = 0x13, .type = EV_EXT_INT};

	setup();
	fake_idt(&f);
	LOAD(c_nops, 0x1000);
	f.cpu->c.s.activity = ISA_HLT;
	engine_inject(f.cpu, &ev);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x21130);
	assert_int_equal(stack(0), 0x1000);
	/* The stack is not mapped by EPT: the event is reported as being delivered. */
	*fake_ept_entry(&f, 0x7000, 1) = 0;
	tlb_flush_nested(f.cpu, f.cpu->world.nested_root);
	f.cpu->c.s.rip = 0x1000;
	R(RSP) = 0x8000;
	engine_inject(f.cpu, &ev);
	assert_int_equal(fake_run(&f), X_VIOLATION);
	assert_true(f.cpu->vectoring_valid);
	assert_int_equal(f.cpu->vectoring.vector, 0x13);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	assert_int_equal(R(RSP), 0x8000);
	fake_fini(&f);
}

/* ---- Modes ---- */

SNIPPET(c_real, ".code16; mov $0x1234, %ax; mov %ax, %ds; movw $7, 4; hlt; .code64");
static void test_real_mode(void **state)
{
	fake_init(&f);
	fake_ept(&f, 4, true);
	u64 k;

	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_ept_map(&f, k << 12, (u64)f.mem + (k << 12), 1, 7);
	fake_real(&f);
	LOAD(c_real, 0x1000);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.mem[0x12344], 7);
	/* Beyond the segment: the last byte is an instruction that does not fit. */
	f.mem[0xffff] = 0xb8;
	f.cpu->c.s.rip = 0xffff;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13);
	f.mem[0xffff] = 0x90;
	f.cpu->c.s.rip = 0xffff;
	sil_memory_written(f.m, (hva_t)f.mem + 0xffff, 1);
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13);
	assert_int_equal(f.cpu->c.s.rip, 0x10000);
	fake_fini(&f);
}

/* SDM vol. 3A, 6.15: alignment checks at CPL 3 only, whatever the TLB holds. */
static void test_alignment(void **state)
{
	setup();
	fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 7, 7);
	fake_map(&f, PG_4L, 0x40002000, 1, 0x1000 | 7, 7);
	LOAD(c_read, 0x1000);
	fake_mode64(&f, 3);
	f.cpu->c.s.rip = 0x40002000;
	R(RBX) = 0x40000001;
	f.exc_bitmap = ~0u;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13); /* the HLT */
	assert_int_equal(f.cpu->c.s.rip, 0x40002003);
	f.cpu->c.s.cr0 |= CR0_AM;
	f.cpu->c.s.rflags |= X86_AC;
	cpu_context_changed(f.cpu);
	f.cpu->c.s.rip = 0x40002000;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 17);
	R(RBX) = 0x40000008;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13);
	fake_fini(&f);
}

/* A REP that a request interrupts counts once, and goes on where it was. */
SNIPPET(c_rep, "rep movsb; hlt");
static void test_rep_counts(void **state)
{
	setup();
	LOAD(c_rep, 0x1000);
	R(RCX) = 3000;
	R(RSI) = 0x5000;
	R(RDI) = 0x9000;
	memset(f.mem + 0x5000, 0x5a, 3000);
	f.cpu->step_exits = true;
	assert_int_equal(fake_run(&f), X_MTF);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	assert_true(R(RCX) < 3000);
	assert_int_equal(f.cpu->n.instructions, 0);
	f.cpu->step_exits = false;
	cpu_update_step(f.cpu);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->n.instructions, 1);
	assert_int_equal(f.mem[0x9000 + 2999], 0x5a);
	fake_fini(&f);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_fault_exit),    cmocka_unit_test(test_fault_delivery),
		cmocka_unit_test(test_double_triple), cmocka_unit_test(test_single_step),
		cmocka_unit_test(test_breakpoints),   cmocka_unit_test(test_shadow_mtf),
		cmocka_unit_test(test_kick),	      cmocka_unit_test(test_stop_at),
		cmocka_unit_test(test_inject),	      cmocka_unit_test(test_real_mode),
		cmocka_unit_test(test_alignment),     cmocka_unit_test(test_rep_counts),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
