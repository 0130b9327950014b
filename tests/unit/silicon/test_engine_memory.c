/* SPDX-License-Identifier: MIT */
/* Memory as guest programs meet it: page crossing, missing host memory, TLB flushes. */
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

SNIPPET(c_read, ".intel_syntax noprefix; mov rax, [rbx]; hlt; .att_syntax prefix");
SNIPPET(c_write, ".intel_syntax noprefix; mov [rbx], rax; hlt; .att_syntax prefix");
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
SNIPPET(c_group, ".intel_syntax noprefix; mov rax, [rbx]; shl ecx, 3; mov [rbx + 8], rdx; hlt;"
		 ".att_syntax prefix");
SNIPPET(c_group_cmp,
	".intel_syntax noprefix; mov rax, [rbx]; cmp rcx, rdx; mov [rbx + 8], rdx; hlt;"
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

/* In instructions that the translator makes of several: nothing of them has been done. */
SNIPPET(c_movs, ".intel_syntax noprefix; cmp rax, rax; rep movsq; hlt; .att_syntax prefix");
SNIPPET(c_stos, ".intel_syntax noprefix; cmp rax, rax; rep stosd; hlt; .att_syntax prefix");
SNIPPET(c_bts, ".intel_syntax noprefix; cmp rax, rax; bts [rdi], rcx; hlt; .att_syntax prefix");
SNIPPET(c_iret, ".intel_syntax noprefix; movups xmm5, [rbx]; iretq; .att_syntax prefix");
SNIPPET(c_popf, ".intel_syntax noprefix; movups xmm5, [rbx]; popfq; hlt; .att_syntax prefix");
static void test_missing_memory_many(void **state)
{
	static const struct {
		const u8 *code, *end;
		unsigned at;
	} k[] = {
		{c_movs, c_movs_end, 3}, {c_stos, c_stos_end, 3}, {c_bts, c_bts_end, 3},
		{c_iret, c_iret_end, 3}, {c_popf, c_popf_end, 3},
	};
	const u64 frame[5] = {0x1800, 8, 2, 0x8000, 0x10};
	u64 gpr[16];
	unsigned i, round, r;

	for (i = 0; i < ARRAY_SIZE(k); i++) {
		setup();
		fake_idt(&f);
		f.exc_bitmap = ~0u;
		f.mem[0x1800] = 0xf4;
		memset(f.mem + 0x5000, 0x5a, 64);
		/* The first times find out where memory is. */
		for (round = 0; round < 3; round++) {
			memcpy(f.mem + 0x6020, frame, sizeof(frame));
			for (r = 0; r < 16; r++)
				gpr[r] = 0x1111111111111111ull * r;
			gpr[RSP] = gpr[RSI] = 0x6020;
			gpr[RDI] = i ? 0x6020 : 0x5000;
			gpr[RBX] = 0x5000;
			gpr[RCX] = 5;
			memcpy(f.cpu->c.r.gpr, gpr, sizeof(gpr));
			memset(f.cpu->c.r.vec[5].b, 0, 32);
			if (!round)
				fake_load(&f, k[i].code, (size_t)(k[i].end - k[i].code), 0x1000);
			f.cpu->c.s.rip = 0x1000;
			if (round == 2)
				mprotect(f.mem + 0x6000, 0x1000, PROT_NONE);
			assert_int_equal(fake_run(&f), round == 2 ? X_EXCEPTION : X_HLT);
		}
		assert_int_equal(f.ev.vector, 18);
		assert_int_equal(f.cpu->c.s.rip, 0x1000 + k[i].at);
		assert_memory_equal(f.cpu->c.r.gpr, gpr, sizeof(gpr));
		if (i < 3)
			assert_true(isa_flags(&f.cpu->c) & X86_ZF);
		else
			assert_memory_equal(f.cpu->c.r.vec[5].b, f.mem + 0x5000, 16);
		mprotect(f.mem + 0x6000, 0x1000, PROT_READ | PROT_WRITE);
		assert_int_equal(fake_run(&f), X_HLT);
		assert_int_equal(f.cpu->n.memory_errors, 1);
		fake_fini(&f);
	}
}

/* What CPL 3 has read and written is another page when it comes back. */
SNIPPET(c_user,
	".intel_syntax noprefix; mov ecx, 5; 1: mov rax, [rbx]; mov [rbx + 8], rax; dec ecx;"
	"jnz 1b; syscall; mov rdx, [rbx]; mov [rbx + 16], rdx; hlt; .att_syntax prefix");
SNIPPET(c_kernel,
	".intel_syntax noprefix; mov [r8], r9; invlpg [rbx]; sysretq; .att_syntax prefix");
static void test_remapped_for_user(void **state)
{
	u64 pte, pages[2] = {0x5000, 0x6000};
	unsigned k;

	setup();
	LOAD(c_user, 0x1000);
	LOAD(c_kernel, 0x3000);
	fake_map(&f, PG_4L, 0x1000, 1, 0x1000 | 7, 7);
	f.cpu->c.r.star = 0x18ull << 48 | 8ull << 32;
	f.cpu->c.r.lstar = 0x3000;
	for (k = 0; k < 6; k++) {
		u64 from = pages[k % 2], to = pages[!(k % 2)];

		memset(f.mem + 0x5000, 0, 0x2000);
		fake_set(&f, from, 0x1111);
		fake_set(&f, to, 0x2222);
		pte = fake_map(&f, PG_4L, 0x9000, 1, from | 0x67, 7);
		tlb_flush_all(f.cpu);
		fake_mode64(&f, 0);
		R(RBX) = 0x9000;
		R(R8) = pte;
		R(R9) = to | 0x67;
		R(RCX) = 0x1000;
		R(R11) = 2;
		f.cpu->c.s.rip = 0x3000 + 6; /* SYSRET */
		assert_int_equal(fake_run(&f), X_EXCEPTION);
		assert_int_equal(f.ev.vector, 13);
		assert_int_equal(R(RAX), 0x1111);
		assert_int_equal(R(RDX), 0x2222);
		assert_int_equal(fake_get(&f, from + 8), 0x1111);
		assert_int_equal(fake_get(&f, from + 16), 0);
		assert_int_equal(fake_get(&f, to + 16), 0x2222);
	}
	fake_fini(&f);
}

/* The same with the guest's x87 and MMX state about; none of it is left to this program. */
SNIPPET(c_x87, ".intel_syntax noprefix; fninit; fld1; fadd qword ptr [rbx]; pxor mm0, mm0;"
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

/* Where the translator's empty entries seem to lead: addresses that are not canonical. */
SNIPPET(c_odd_load,
	".intel_syntax noprefix; add rcx, 1; mov rax, [rbx + 8]; hlt; .att_syntax prefix");
SNIPPET(c_odd_store, ".intel_syntax noprefix; add rcx, 1; mov [rbx], rax; mov [rbx + 8], rax; hlt;"
		     ".att_syntax prefix");
SNIPPET(c_odd_push,
	".intel_syntax noprefix; add rcx, 1; push rax; push rax; hlt; .att_syntax prefix");
SNIPPET(c_odd_sse,
	".intel_syntax noprefix; add rcx, 1; movups xmm1, [rbx]; hlt; .att_syntax prefix");
static void test_odd_addresses(void **state)
{
	static const struct {
		const u8 *code, *end;
		unsigned reg, vector;
	} t[] = {
		{c_odd_load, c_odd_load_end, RBX, X86_GP},
		{c_odd_store, c_odd_store_end, RBX, X86_GP},
		{c_odd_push, c_odd_push_end, RSP, X86_SS_VEC},
		{c_odd_sse, c_odd_sse_end, RBX, X86_GP},
	};
	unsigned k, n;

	for (k = 0; k < ARRAY_SIZE(t); k++) {
		setup();
		f.cpu->c.s.cr4 |= CR4_OSFXSR;
		cpu_context_changed(f.cpu);
		f.exc_bitmap = ~0u;
		for (n = 0; n < 3; n++) {
			fake_load(&f, t[k].code, (size_t)(t[k].end - t[k].code), 0x1000);
			R(RCX) = 0x1233;
			R(t[k].reg) = -JIT_NEAR_EMPTY + 0x100;
			f.cpu->c.s.rflags = X86_CF | 2;
			assert_int_equal(fake_run(&f), X_EXCEPTION);
			assert_int_equal(f.ev.vector, t[k].vector);
			assert_int_equal(f.ev.error, 0);
			assert_int_equal(f.cpu->c.s.rip, 0x1004);
			assert_int_equal(R(RCX), 0x1234);
			assert_int_equal(R(t[k].reg), -JIT_NEAR_EMPTY + 0x100);
			assert_int_equal(f.cpu->n.memory_errors, 0);
			assert_int_equal(f.cpu->n.instructions, n + 1);
		}
		fake_fini(&f);
	}
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_page_crossing),
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_missing_memory),
		cmocka_unit_test(test_missing_memory_group),
		cmocka_unit_test(test_missing_memory_many),
		cmocka_unit_test(test_remapped_for_user),
		cmocka_unit_test(test_missing_memory_x87),
		cmocka_unit_test(test_flushes),
		cmocka_unit_test(test_apic_page),
		cmocka_unit_test(test_odd_addresses),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
