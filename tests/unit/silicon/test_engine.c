/* SPDX-License-Identifier: MIT */
/* Small guest programs through the engine: exceptions, debug events, shadows, halting, TLB, code.
 */
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

#define CODE(name, text)                                                                      \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n"); \
	extern const u8 name[], name##_end[]

static struct fake f;
#define R(x) (f.cpu->c.r.gpr[x])

static void load(const u8 *code, const u8 *end, u64 at)
{
	memcpy(f.mem + at, code, end - code);
	sil_memory_written(f.m, (hva_t)f.mem + at, end - code);
	f.cpu->c.s.rip = at;
}
#define LOAD(name, at) load(name, name##_end, at)

static void setup(void)
{
	u64 k;

	fake_init(&f);
	fake_ept(&f, 4, true);
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_ept_map(&f, k << 12, (u64)f.mem + (k << 12), 1, 7);
	f.cpu->c.s.cr3 = fake_page(&f);
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_map(&f, PG_4L, k << 12, 1, k << 12 | 0x3, 7);
	fake_mode64(&f, 0);
	R(RSP) = 0x8000;
}

/* IDT at 0x20000 with interrupt gates to 0x21000 + 16 * vector, where there is an HLT. */
static void make_idt(void)
{
	unsigned v;

	/* GDT at 0x22000: null, 64-bit code, data */
	memset(f.mem + 0x22000, 0, 64);
	fake_set(&f, 0x22008, 0x00af9b000000ffffull);
	fake_set(&f, 0x22010, 0x00cf93000000ffffull);
	f.cpu->c.s.gdtr = (struct isa_dtr){0x22000, 0x3f};
	for (v = 0; v < 32; v++) {
		u64 to = 0x21000 + 16 * v;

		fake_set(&f, 0x20000 + 16 * v,
			 (to & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (to & 0xffff0000) << 32);
		fake_set(&f, 0x20008 + 16 * v, 0);
		f.mem[to] = 0xf4;
	}
	f.cpu->c.s.idtr = (struct isa_dtr){0x20000, 0x1ff};
	f.exc_bitmap = 0;
}

static u64 stack(unsigned n)
{
	return fake_get(&f, R(RSP) + 8 * n);
}

CODE(c_ud, "nop; ud2");
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
	make_idt();
	LOAD(c_ud, 0x1000);
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x21060);
	assert_int_equal(stack(0), 0x1001);
	assert_int_equal(stack(2) & X86_RF, X86_RF);
	fake_fini(&f);
}

CODE(c_read, ".intel_syntax noprefix; mov rax, [rbx]; hlt; .att_syntax prefix");
static void test_double_triple(void **state)
{
	setup();
	make_idt();
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

CODE(c_nops, "nop; nop; nop; hlt");
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
	make_idt();
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

CODE(c_sti, "sti; nop; nop; hlt");
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

CODE(c_loop, "1: jmp 1b");
static void *kicker(void *arg)
{
	usleep(20000);
	sil_cpu_kick(f.cpu);
	return NULL;
}

static void test_kick(void **state)
{
	pthread_t t;

	setup();
	LOAD(c_loop, 0x1000);
	pthread_create(&t, NULL, kicker, NULL);
	assert_int_equal(fake_run(&f), X_KICK);
	pthread_join(t, NULL);
	/* A kick that comes first makes the entry exit at once. */
	sil_cpu_kick(f.cpu);
	assert_int_equal(fake_run(&f), X_KICK);
	/* Halted, without an intercept. */
	LOAD(c_nops, 0x1000);
	f.icpt_hlt = false;
	pthread_create(&t, NULL, kicker, NULL);
	assert_int_equal(fake_run(&f), X_KICK);
	pthread_join(t, NULL);
	assert_int_equal(f.cpu->c.s.activity, ISA_HLT);
	assert_int_equal(f.cpu->c.s.rip, 0x1004);
	fake_fini(&f);
}

/* Four instructions in a loop of two blocks. */
CODE(c_counted, "1: inc %rax; nop; jmp 2f; nop; 2: jmp 1b");

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
	make_idt();
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

/* ---- Memory ---- */

CODE(c_write, ".intel_syntax noprefix; mov [rbx], rax; hlt; .att_syntax prefix");
static void test_page_crossing(void **state)
{
	setup();
	/* 0x5000 and 0x9000 as neighbours at 0x40000000. */
	fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 3, 7);
	fake_map(&f, PG_4L, 0x40001000, 1, 0x9000 | 3, 7);
	LOAD(c_write, 0x1000);
	R(RBX) = 0x40000ffd;
	R(RAX) = 0x1122334455667788;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_memory_equal(f.mem + 0x5ffd, "\x88\x77\x66", 3);
	assert_memory_equal(f.mem + 0x9000, "\x55\x44\x33\x22\x11", 5);
	LOAD(c_read, 0x1000);
	R(RAX) = 0;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(R(RAX), 0x1122334455667788);
	/* The second page faults: nothing is written to the first. */
	fake_map(&f, PG_4L, 0x40001000, 1, 0, 7);
	tlb_flush_all(f.cpu);
	LOAD(c_write, 0x1000);
	R(RAX) = 0;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 14);
	assert_int_equal(f.ev.payload, 0x40001000);
	assert_memory_equal(f.mem + 0x5ffd, "\x88\x77\x66", 3);
	fake_fini(&f);
}

static void test_canonical(void **state)
{
	setup();
	LOAD(c_read, 0x1000);
	R(RBX) = 0x0000800000000000;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13);
	R(RBX) = 0x00007ffffffffffc;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13);
	f.cpu->c.s.rip = 0x8000000000000000;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 13);
	assert_int_equal(f.cpu->c.s.rip, 0x8000000000000000);
	fake_fini(&f);
}

static void test_missing_memory(void **state)
{
	bool write;

	setup();
	LOAD(c_write, 0x1000);
	R(RBX) = 0x6018;
	mprotect(f.mem + 0x6000, 0x1000, PROT_NONE);
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 18);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	assert_int_equal(sil_memory_error(f.cpu, &write), (u64)f.mem + 0x6018);
	assert_true(write);
	/* And where code is. */
	f.cpu->c.s.rip = 0x6000;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 18);
	assert_int_equal(f.cpu->c.s.rip, 0x6000);
	mprotect(f.mem + 0x6000, 0x1000, PROT_READ | PROT_WRITE);
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 14); /* add [rax], al */
	fake_fini(&f);
}

/* In the middle of accesses that the translator checks together; flags are the last writer's. */
CODE(c_group, ".intel_syntax noprefix; mov rax, [rbx]; shl ecx, 3; mov [rbx + 8], rdx; hlt;"
	      ".att_syntax prefix");
CODE(c_group_cmp, ".intel_syntax noprefix; mov rax, [rbx]; cmp rcx, rdx; mov [rbx + 8], rdx; hlt;"
		  ".att_syntax prefix");
static void test_missing_memory_group(void **state)
{
	const u64 fl = X86_CF | X86_PF | X86_ZF | X86_SF;
	unsigned k;

	for (k = 0; k < 2; k++) {
		setup();
		if (k)
			LOAD(c_group_cmp, 0x1000);
		else
			LOAD(c_group, 0x1000);
		R(RBX) = 0x6018;
		R(RCX) = 0x20000003;
		R(RDX) = 0x20000004;
		f.icpt_hlt = true;
		assert_int_equal(fake_run(&f), X_HLT);
		/* Readable, so that only the write fails. */
		mprotect(f.mem + 0x6000, 0x1000, PROT_READ);
		R(RCX) = 0x20000003;
		f.cpu->c.s.rip = 0x1000;
		assert_int_equal(fake_run(&f), X_EXCEPTION);
		assert_int_equal(f.ev.vector, 18);
		assert_int_equal(f.cpu->c.s.rip, 0x1006);
		assert_int_equal(isa_flags(&f.cpu->c) & fl,
				 k ? X86_CF | X86_PF | X86_SF : X86_CF | X86_PF);
		assert_int_equal(R(RCX), k ? 0x20000003 : 0x18);
		mprotect(f.mem + 0x6000, 0x1000, PROT_READ | PROT_WRITE);
		f.cpu->c.s.rip = 0x1006;
		assert_int_equal(fake_run(&f), X_HLT);
		fake_fini(&f);
	}
}

/* The same with the guest's x87 and MMX state about; none of it is left to this program. */
CODE(c_x87, ".intel_syntax noprefix; fninit; fld1; fadd qword ptr [rbx]; pxor mm0, mm0;"
	    "movq mm1, [rbx]; hlt; .att_syntax prefix");
static void test_missing_memory_x87(void **state)
{
	static const u8 one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};
	struct {
		u16 w[14];
	} env;
	u64 first;

	setup();
	LOAD(c_x87, 0x1000);
	R(RBX) = 0x6018;
	f.icpt_hlt = true;
	assert_int_equal(fake_run(&f), X_HLT);
	assert_int_equal(f.cpu->c.r.x87.ftw, 0xff);
	assert_int_equal(f.cpu->c.r.x87.fip, 0x1004);
	mprotect(f.mem + 0x6000, 0x1000, PROT_NONE);
	f.cpu->c.s.rip = 0x1000;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 18);
	assert_int_equal(f.cpu->c.s.rip, 0x1004);
	assert_int_equal(f.cpu->c.r.x87.fsw, 0x3800);
	assert_int_equal(f.cpu->c.r.x87.ftw, 0x80);
	assert_int_equal(f.cpu->c.r.x87.fip, 0x1002);
	assert_memory_equal(f.cpu->c.r.x87.st[0], one, 10);
	f.cpu->c.s.rip = 0x1006;
	assert_int_equal(fake_run(&f), X_EXCEPTION);
	assert_int_equal(f.cpu->c.s.rip, 0x1009);
	assert_int_equal(f.cpu->c.r.x87.fsw, 0);
	assert_int_equal(f.cpu->c.r.x87.ftw, 0xff);
	memcpy(&first, f.cpu->c.r.x87.st[0], 8);
	assert_int_equal(first, 0);
#ifdef __x86_64__
	__asm__ volatile("fnstenv %0; fldenv %0" : "+m"(env));
	assert_int_equal(env.w[2], 0); /* status */
	assert_int_equal(env.w[4], 0xffff);
#endif
	mprotect(f.mem + 0x6000, 0x1000, PROT_READ | PROT_WRITE);
	fake_fini(&f);
}

/* Flushes hit what they should and no less; entries that need no flush are not used stale. */
static u64 read_at(u64 la)
{
	LOAD(c_read, 0x1000);
	R(RBX) = la;
	f.icpt_hlt = true;
	if (fake_run(&f) != X_HLT)
		return ~0ull;
	return R(RAX);
}

static void test_flushes(void **state)
{
	struct isa_cpu *c;
	u64 a = 0x40000000, g = 0x40001000;

	setup();
	c = &f.cpu->c;
	fake_set(&f, 0x5000, 5);
	fake_set(&f, 0x6000, 6);
	fake_map(&f, PG_4L, a, 1, 0x5000 | 3, 7);
	fake_map(&f, PG_4L, g, 1, 0x5000 | 3 | 0x100, 7);
	assert_int_equal(read_at(a), 5);
	assert_int_equal(read_at(g), 5);
	fake_map(&f, PG_4L, a, 1, 0x6000 | 3, 7);
	fake_map(&f, PG_4L, g, 1, 0x6000 | 3 | 0x100, 7);
	/* Cached, as the architecture allows. */
	assert_int_equal(read_at(a), 5);
	/* MOV CR3 spares global pages. */
	cpu_write_cr(f.cpu, 3, c->s.cr3);
	assert_int_equal(read_at(a), 6);
	assert_int_equal(read_at(g), 5);
	/* INVPCID 3 too; INVLPG does not. */
	op_invpcid(c, 3, 0, 0);
	assert_int_equal(read_at(g), 5);
	op_invlpg(c, g + 0x123);
	assert_int_equal(read_at(g), 6);

	/* PCIDs keep their own. */
	cpu_write_cr(f.cpu, 4, c->s.cr4 | CR4_PCIDE);
	assert_int_equal(read_at(a), 6);
	cpu_write_cr(f.cpu, 3, c->s.cr3 | 1 | 1ull << 63);
	fake_map(&f, PG_4L, a, 1, 0x5000 | 3, 7);
	assert_int_equal(read_at(a), 5);
	cpu_write_cr(f.cpu, 3, (c->s.cr3 & ~1ull) | 1ull << 63);
	assert_int_equal(read_at(a), 6);
	op_invpcid(c, 0, 1, a);
	assert_int_equal(read_at(a), 6);
	op_invpcid(c, 0, 0, a);
	assert_int_equal(read_at(a), 5);
	fake_map(&f, PG_4L, a, 1, 0x6000 | 3, 7);
	op_invpcid(c, 2, 0, 0);
	assert_int_equal(read_at(a), 6);

	/* VPIDs too, and INVEPT reaches all of them. */
	f.cpu->world.vpid = 7;
	cpu_context_changed(f.cpu);
	assert_int_equal(read_at(a), 6);
	fake_map(&f, PG_4L, a, 1, 0x5000 | 3, 7);
	tlb_flush_vpid(f.cpu, 0, false);
	assert_int_equal(read_at(a), 6);
	tlb_flush_page(f.cpu, 7, a);
	assert_int_equal(read_at(a), 5);
	*fake_ept_entry(&f, 0x5000, 1) = ((u64)f.mem + 0x6000) | 0x37;
	assert_int_equal(read_at(a), 5);
	tlb_flush_nested(f.cpu, f.cpu->world.nested_root);
	assert_int_equal(read_at(a), 6);
	fake_fini(&f);
}

static void test_apic_page(void **state)
{
	setup();
	f.cpu->world.apic_page = (hpa_t)f.mem + 0x6000;
	LOAD(c_read, 0x1000);
	R(RBX) = 0x60f0;
	assert_int_equal(fake_run(&f), X_APIC);
	assert_int_equal(f.acc.offset, 0xf0);
	assert_int_equal(f.acc.size, 8);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	fake_fini(&f);
}

/* ---- Code ---- */

/* Writes an immediate into an instruction of its own block. */
CODE(c_smc, ".intel_syntax noprefix\n"
	    "mov byte ptr [rip + 1f + 1], 0x22\n"
	    "1: mov al, 0x11\n"
	    "hlt\n"
	    ".att_syntax prefix");
CODE(c_smc_loop, ".intel_syntax noprefix\n"
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

/* Data next to code in one page: writes go on without dropping anything. */
CODE(c_mixed, ".intel_syntax noprefix\n"
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
CODE(c_cross, "movabs $0x1122334455667788, %rax; hlt");
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

/* Writers that no TLB sees are found when they are announced, or after a recheck. */
CODE(c_one, "mov $1, %eax; hlt");
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
CODE(c_writer, ".intel_syntax noprefix\n"
	       "mov ebx, 1\n"
	       "1: mov [0x2001], ebx\n"
	       "mov [0x3000], ebx\n"
	       "2: pause; cmp [0x3008], ebx; jne 2b\n"
	       "inc ebx; cmp ebx, 2000; jne 1b\n"
	       "hlt\n"
	       ".att_syntax prefix");
CODE(c_caller, ".intel_syntax noprefix\n"
	       "mov ebx, 1\n"
	       "1: pause; cmp [0x3000], ebx; jne 1b\n"
	       "call rdi\n"
	       "cmp eax, ebx; jne 3f\n"
	       "mov [0x3008], ebx\n"
	       "inc ebx; cmp ebx, 2000; jne 1b\n"
	       "3: hlt\n"
	       ".att_syntax prefix");
CODE(c_fn, "mov $0, %eax; ret");
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
	alarm(25);
	assert_int_equal(fake_run(&f), X_HLT);
	pthread_join(t, NULL);
	alarm(0);
	assert_int_equal(second.exit, X_HLT);
	assert_int_equal(second.cpu->c.r.gpr[RBX], 2000);
	fake_fini_cpu(&second);
	fake_fini(&f);
}

/* Locked adds of two cpus to one word, one of them in a page the other runs code of. */
CODE(c_locked, ".intel_syntax noprefix\n"
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

/* ---- Modes ---- */

CODE(c_real, ".code16; mov $0x1234, %ax; mov %ax, %ds; movw $7, 4; hlt; .code64");
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
CODE(c_rep, "rep movsb; hlt");
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
		cmocka_unit_test(test_fault_exit),
		cmocka_unit_test(test_fault_delivery),
		cmocka_unit_test(test_double_triple),
		cmocka_unit_test(test_single_step),
		cmocka_unit_test(test_breakpoints),
		cmocka_unit_test(test_shadow_mtf),
		cmocka_unit_test(test_kick),
		cmocka_unit_test(test_stop_at),
		cmocka_unit_test(test_inject),
		cmocka_unit_test(test_page_crossing),
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_missing_memory),
		cmocka_unit_test(test_missing_memory_group),
		cmocka_unit_test(test_missing_memory_x87),
		cmocka_unit_test(test_flushes),
		cmocka_unit_test(test_apic_page),
		cmocka_unit_test(test_self_modifying),
		cmocka_unit_test(test_mixed_page),
		cmocka_unit_test(test_cross_page_insn),
		cmocka_unit_test(test_outside_writers),
		cmocka_unit_test(test_cross_modifying),
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_arena),
		cmocka_unit_test(test_real_mode),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_rep_counts),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
