/* SPDX-License-Identifier: MIT */
/* PAUSE, INVLPG, MOV to CR3, INT n and INT3: what they do, what takes them, what they fault with.
 * Translated code has them without their handlers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "fake.h"
#include "isa/insn_table.h"
#include "silicon/paging/tlb.h"

static struct fake f;
#define R(x)		 (f.cpu->c.r.gpr[x])
#define LOAD(name, at)	 fake_load(&f, name, name##_end - name, at)
#define CODE(name, text) SNIPPET(name, ".intel_syntax noprefix; " text "; .att_syntax prefix")
#define ALL_STATUS	 X86_STATUS_FLAGS

static void setup(void)
{
	fake_identity(&f);
	fake_idt(&f);
	f.exc_bitmap = ~0u;
	R(RSP) = 0x8000;
}

static u32 tss_limit = 0x67;
static bool user_selectors; /* CS 28h, SS 30h */
/* Runs @at again, CPL and flags as given. */
static enum fake_exit again(u64 at, unsigned cpl, u64 flags)
{
	struct isa_cpu *c = &f.cpu->c;
	struct isa_dtr gdtr = c->s.gdtr, idtr = c->s.idtr;
	u64 cr4 = c->s.cr4;

	fake_mode64(&f, cpl);
	c->s.gdtr = gdtr;
	c->s.idtr = idtr;
	c->s.cr4 = cr4;
	c->s.seg[TR].base = 0x23000;
	c->s.seg[TR].limit = tss_limit;
	if (user_selectors) {
		c->s.seg[CS].sel = 0x2b;
		c->s.seg[SS].sel = 0x33;
		for (unsigned k = ES; k <= GS; k++)
			c->s.seg[k].sel |= k == CS || k == SS ? 0 : 3;
	}
	isa_set_flags(c, flags);
	cpu_context_changed(f.cpu);
	c->s.rip = at;
	return fake_run(&f);
}

/* Handlers of @op that translated code has called. */
static u64 calls(unsigned op)
{
	return f.cpu->j.calls ? f.cpu->j.calls[op] : 0;
}

static void user_page(u64 la)
{
	fake_map(&f, PG_4L, la, 1, la | 0x67, 7);
	tlb_flush_all(f.cpu);
}

/* ---- PAUSE ---- */

CODE(c_pause, "pause; pause; hlt");
static void test_pause(void **state)
{
	unsigned k;

	setup();
	LOAD(c_pause, 0x1000);
	for (k = 0; k < 3; k++) {
		assert_int_equal(again(0x1000, 0, 2 | ALL_STATUS), X_HLT);
		assert_int_equal(isa_flags(&f.cpu->c), 2 | ALL_STATUS);
		assert_int_equal(f.cpu->n.instructions, 2 * (k + 1));
	}
	assert_int_equal(calls(ISA_OP_PAUSE), 0);
	/* The same translation where it is taken, and then is not. */
	f.icpt = BIT(ICPT_PAUSE);
	assert_int_equal(again(0x1000, 0, 2), X_INTERCEPT);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	f.icpt = 0;
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	f.ask = true;
	assert_int_equal(again(0x1000, 0, 2 | X86_ZF), X_HLT);
	assert_int_equal(isa_flags(&f.cpu->c), 2 | X86_ZF);
	f.ask = false;
	/* At CPL 3 too. */
	user_page(0x1000);
	assert_int_equal(again(0x1000, 3, 2), X_EXCEPTION);
	assert_int_equal(f.ev.vector, X86_GP);
	assert_int_equal(f.cpu->c.s.rip, 0x1004);
	fake_fini(&f);
}

/* ---- INVLPG ---- */

CODE(c_invlpg,
     "mov rcx, [rbx]; mov [r8], r9; mov rsi, [rbx]; invlpg [rbx + 0xffe]; mov rdx, [rbx]; hlt");
static void test_invlpg(void **state)
{
	const u64 page[2] = {0x5000 | 0x63, 0x6000 | 0x63};
	unsigned k;

	setup();
	fake_set(&f, 0x5000, 5);
	fake_set(&f, 0x6000, 6);
	LOAD(c_invlpg, 0x1000);
	R(RBX) = 0x9000;
	R(R8) = fake_map(&f, PG_4L, 0x9000, 1, page[0], 7);
	for (k = 0; k < 8; k++) {
		u64 flags = 2 | (k & 1 ? ALL_STATUS : 0);

		/* Global pages as well. */
		R(R9) = page[!(k & 1)] | (k & 2 ? 0x100 : 0);
		assert_int_equal(again(0x1000, 0, flags), X_HLT);
		assert_int_equal(R(RCX), 5 + (k & 1));
		assert_int_equal(R(RSI), 5 + (k & 1)); /* known still */
		assert_int_equal(R(RDX), 6 - (k & 1));
		assert_int_equal(isa_flags(&f.cpu->c), flags);
		assert_int_equal(f.cpu->n.instructions, 5 * (k + 1));
		assert_int_equal(f.cpu->n.flush_page, k + 1);
	}
	assert_int_equal(calls(ISA_OP_INVLPG), 0);

	/* Taken. */
	f.icpt = BIT(ICPT_INVLPG);
	assert_int_equal(again(0x1000, 0, 2), X_INTERCEPT);
	assert_int_equal(f.cpu->c.s.rip, 0x1009);
	assert_int_equal(f.arg, 0x9ffe);
	f.icpt = 0;
	R(R9) = page[0];
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	assert_int_equal(R(RDX), 5);
	/* Not CPL 0's. */
	user_page(0x1000);
	assert_int_equal(again(0x1009, 3, 2), X_EXCEPTION);
	assert_int_equal(f.ev.vector, X86_GP);
	assert_int_equal(f.ev.error, 0);
	assert_int_equal(f.cpu->c.s.rip, 0x1009);
	fake_fini(&f);
}

/* Addresses: with a base, of 32 bits, not canonical, which are none. */
CODE(c_invlpg_fs, "mov rcx, [r10]; mov [r8], r9; invlpg fs:[rbx]; mov rdx, [r10]; hlt");
CODE(c_invlpg_32, "mov rcx, [r10]; mov [r8], r9; invlpg [ebx]; mov rdx, [r10]; hlt");
CODE(c_invlpg_rip, "mov rcx, [r10]; mov [r8], r9; invlpg [rip + 0x8000]; mov rdx, [r10]; hlt");
CODE(c_invlpg_idx, "mov rcx, [r10]; mov [r8], r9; invlpg [r13 + r15 * 8 + 1]; mov rdx, [r10]; hlt");
static void test_invlpg_addresses(void **state)
{
	static const struct {
		const u8 *code, *end;
		u64 rbx, r13, r15, fs;
		bool hits;
	} t[] = {
		{c_invlpg_fs, c_invlpg_fs_end, 0x4123, 0, 0, 0x5000, true},
		{c_invlpg_fs, c_invlpg_fs_end, 0x9123, 0, 0, 0x5000, false},
		{c_invlpg_32, c_invlpg_32_end, 0xabc00009000, 0, 0, 0, true},
		{c_invlpg_rip, c_invlpg_rip_end, 0, 0, 0, 0, true},
		{c_invlpg_idx, c_invlpg_idx_end, 0, 0x8800, 0x100, 0, true},
		{c_invlpg_idx, c_invlpg_idx_end, 0, 0x8800, 0x0ff, 0, false},
		{c_invlpg_idx, c_invlpg_idx_end, 0, 0x8800, 0x080, 0, false},
		{c_invlpg_idx, c_invlpg_idx_end, 0, 0x8000000000009000, 0, 0, false},
		{c_invlpg_idx, c_invlpg_idx_end, 0, 0x0000800000009000, 0, 0, false},
	};
	unsigned k, n;

	for (k = 0; k < ARRAY_SIZE(t); k++) {
		setup();
		fake_set(&f, 0x5000, 5);
		fake_set(&f, 0x6000, 6);
		fake_load(&f, t[k].code, (size_t)(t[k].end - t[k].code), 0x1000);
		for (n = 0; n < 3; n++) {
			R(R8) = fake_map(&f, PG_4L, 0x9000, 1, 0x5000 | 0x63, 7);
			tlb_flush_all(f.cpu);
			R(R9) = 0x6000 | 0x63;
			R(R10) = 0x9000;
			R(RBX) = t[k].rbx;
			R(R13) = t[k].r13;
			R(R15) = t[k].r15;
			fake_mode64(&f, 0);
			f.cpu->c.s.seg[FS].base = t[k].fs;
			f.cpu->c.s.rip = 0x1000;
			assert_int_equal(fake_run(&f), X_HLT);
			assert_int_equal(R(RCX), 5);
			assert_int_equal(R(RDX), t[k].hits ? 6 : 5);
		}
		assert_int_equal(calls(ISA_OP_INVLPG), 0);
		fake_fini(&f);
	}
}

/* The page that the code itself is in: what follows comes from the new one. */
CODE(c_own_a, "mov [r8], r9; invlpg [rip]; mov eax, 0x1111; hlt");
CODE(c_own_b, "mov [r8], r9; invlpg [rip]; mov eax, 0x2222; hlt");
static void test_invlpg_own_page(void **state)
{
	const u64 la = 0x40000000, page[2] = {0x5000 | 0x63, 0x6000 | 0x63};
	unsigned k;

	setup();
	LOAD(c_own_a, 0x5000);
	LOAD(c_own_b, 0x6000);
	R(R8) = fake_map(&f, PG_4L, la, 1, page[0], 7);
	for (k = 0; k < 6; k++) {
		R(R9) = page[!(k & 1)];
		assert_int_equal(again(la, 0, 2), X_HLT);
		assert_int_equal(R(RAX), k & 1 ? 0x1111 : 0x2222);
	}
	assert_int_equal(calls(ISA_OP_INVLPG), 0);
	fake_fini(&f);
}

/* ---- MOV to CR3 ---- */

/* Other tables, which have all memory but what is at 0x40000000 in common with the first. */
static u64 other_tables(u64 leaf)
{
	u64 old = f.cpu->c.s.cr3, cr3 = fake_page(&f), k;

	f.cpu->c.s.cr3 = cr3;
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_map(&f, PG_4L, k << 12, 1, k << 12 | 0x3, 7);
	fake_map(&f, PG_4L, 0x40000000, 1, leaf, 7);
	f.cpu->c.s.cr3 = old;
	return cr3;
}

CODE(c_cr3, "mov cr3, rax; mov rcx, [rbx]; mov cr3, r14; mov rdx, [rbx]; hlt");
static void test_cr3(void **state)
{
	unsigned k, global;
	u64 a, b, pte;

	for (global = 0; global < 2; global++) {
		setup();
		fake_set(&f, 0x5000, 5);
		fake_set(&f, 0x6000, 6);
		a = f.cpu->c.s.cr3;
		pte = fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 0x63 | global << 8, 7);
		b = other_tables(0x6000 | 0x63);
		LOAD(c_cr3, 0x1000);
		R(RBX) = 0x40000000;
		for (k = 0; k < 4; k++) {
			R(RAX) = b;
			R(R14) = a;
			assert_int_equal(again(0x1000, 0, 2 | ALL_STATUS), X_HLT);
			/* A global translation stays, whatever the new tables say. */
			assert_int_equal(R(RCX), global && k ? 5 : 6);
			assert_int_equal(R(RDX), 5);
			assert_int_equal(isa_flags(&f.cpu->c), 2 | ALL_STATUS);
			assert_int_equal(f.cpu->n.instructions, 4 * (k + 1));
		}
		/* The same tables again: what has changed in them is seen. */
		fake_set(&f, pte, 0x6000 | 0x63);
		R(RAX) = R(R14) = a;
		assert_int_equal(again(0x1000, 0, 2), X_HLT);
		assert_int_equal(R(RCX), global ? 5 : 6);
		assert_int_equal(calls(ISA_OP_MOV_CR), 0);
		fake_fini(&f);
	}
}

static void test_cr3_pcid(void **state)
{
	u64 a, b, pte;
	unsigned k;

	setup();
	fake_set(&f, 0x5000, 5);
	fake_set(&f, 0x6000, 6);
	a = f.cpu->c.s.cr3;
	f.cpu->c.s.cr4 |= CR4_PCIDE;
	pte = fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 0x63, 7);
	b = other_tables(0x6000 | 0x63) | 7;
	LOAD(c_cr3, 0x1000);
	R(RBX) = 0x40000000;
	for (k = 0; k < 4; k++) {
		R(RAX) = b | BIT(63);
		R(R14) = a | BIT(63);
		assert_int_equal(again(0x1000, 0, 2), X_HLT);
		assert_int_equal(R(RCX), 6);
		assert_int_equal(R(RDX), 5);
		assert_int_equal(f.cpu->c.s.cr3, a);
	}
	/* Without a flush old translations stay, with one they do not, and the other PCID's do. */
	fake_set(&f, pte, 0x6000 | 0x63);
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	assert_int_equal(R(RDX), 5);
	R(RAX) = b;
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	assert_int_equal(R(RDX), 5);
	R(R14) = a;
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	assert_int_equal(R(RDX), 6);
	assert_int_equal(calls(ISA_OP_MOV_CR), 0);
	fake_fini(&f);
}

/* Code is other tables' from the next instruction on. */
CODE(c_cr3_a, "mov cr3, rax; mov ecx, 0x1111; hlt");
CODE(c_cr3_b, "mov cr3, rax; mov ecx, 0x2222; hlt");
static void test_cr3_code(void **state)
{
	u64 cr3[2];
	unsigned k;

	setup();
	LOAD(c_cr3_a, 0x5000);
	LOAD(c_cr3_b, 0x6000);
	fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 0x63, 7);
	cr3[0] = f.cpu->c.s.cr3;
	cr3[1] = other_tables(0x6000 | 0x63);
	for (k = 0; k < 8; k++) {
		f.cpu->c.s.cr4 |= k & 4 ? CR4_PCIDE : 0;
		R(RAX) = cr3[!(k & 1)] | (k & 4 ? BIT(63) | !(k & 1) : 0);
		assert_int_equal(again(0x40000000, 0, 2), X_HLT);
		assert_int_equal(R(RCX), k & 1 ? 0x1111 : 0x2222);
	}
	assert_int_equal(calls(ISA_OP_MOV_CR), 0);
	fake_fini(&f);
}

CODE(c_cr3_one, "mov cr3, rax; hlt");
static void test_cr3_refused(void **state)
{
	unsigned k;
	u64 a;

	setup();
	LOAD(c_cr3_one, 0x1000);
	a = R(RAX) = f.cpu->c.s.cr3;
	for (k = 0; k < 3; k++)
		assert_int_equal(again(0x1000, 0, 2), X_HLT);
	for (k = 0; k < 12; k++) {
		static const u8 bit[] = {52, 62, 63, 0, 63, 62};

		f.cpu->c.s.cr4 &= ~(u64)CR4_PCIDE;
		f.cpu->c.s.cr4 |= k % 6 >= 4 ? CR4_PCIDE : 0;
		R(RAX) = a | BIT(bit[k % 6] ? bit[k % 6] : f.m->maxphyaddr);
		if (k % 6 == 4) {
			assert_int_equal(again(0x1000, 0, 2), X_HLT);
			assert_int_equal(f.cpu->c.s.cr3, a);
			continue;
		}
		assert_int_equal(again(0x1000, 0, 2 | X86_CF), X_EXCEPTION);
		assert_int_equal(f.ev.vector, X86_GP);
		assert_int_equal(f.ev.error, 0);
		assert_int_equal(f.cpu->c.s.rip, 0x1000);
		assert_int_equal(f.cpu->c.s.cr3, a);
		assert_int_equal(isa_flags(&f.cpu->c), 2 | X86_CF | X86_RF);
	}
	R(RAX) = a | 0x18; /* PCD and PWT are not reserved */
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	assert_int_equal(f.cpu->c.s.cr3, a | 0x18);
	/* Taken; not taken; without being told. */
	f.icpt_cr3 = true;
	R(RAX) = a;
	assert_int_equal(again(0x1000, 0, 2), X_INTERCEPT);
	assert_int_equal(f.cpu->c.s.cr3, a | 0x18);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	f.icpt_cr3 = false;
	f.ask = true;
	assert_int_equal(again(0x1000, 0, 2), X_HLT);
	assert_int_equal(f.cpu->c.s.cr3, a);
	f.ask = false;
	user_page(0x1000);
	R(RAX) = a | 0x18;
	assert_int_equal(again(0x1000, 3, 2), X_EXCEPTION);
	assert_int_equal(f.ev.vector, X86_GP);
	assert_int_equal(f.cpu->c.s.cr3, a);
	fake_fini(&f);
}

/* ---- INT n, INT3 ---- */

#define IDT_AT(v) (0x20000 + 16 * (v))
#define HANDLER	  0x3000

static void gate(unsigned v, u64 to, unsigned type, unsigned dpl, unsigned ist)
{
	fake_set(&f, IDT_AT(v),
		 (to & 0xffff) | 8 << 16 | (u64)ist << 32 | (u64)(0x80 | dpl << 5 | type) << 40 |
			 (to & 0xffff0000) << 32);
	fake_set(&f, IDT_AT(v) + 8, to >> 32);
}

CODE(c_int, "int 0x13; hlt");
CODE(c_int3, "int3; hlt");
CODE(c_cd03, ".byte 0xcd, 3; hlt");

/* At 0x1000, with handlers behind vectors 3 and 13h. */
static void setup_int(const u8 *code, size_t n)
{
	setup();
	f.exc_bitmap = ~(u32)BIT(X86_BP);
	fake_load(&f, code, n, 0x1000);
	f.mem[HANDLER] = 0xf4;
	fake_set(&f, 0x23000 + 4, 0x9009);	   /* RSP0 */
	fake_set(&f, 0x23000 + 0x24 + 16, 0xa000); /* IST3 */
	fake_set(&f, 0x23000 + 0x24 + 48, 0x9000); /* IST7 */
	user_page(0x1000);
}

struct frame {
	u64 rip, cs, flags, rsp, ss;
};

static void check_frame(u64 sp, u64 rip, u64 cs, u64 flags, u64 rsp, u64 ss)
{
	struct frame fr;

	assert_int_equal(R(RSP), sp);
	memcpy(&fr, f.mem + sp, sizeof(fr));
	assert_int_equal(fr.rip, rip);
	assert_int_equal(fr.cs, cs);
	assert_int_equal(fr.flags, flags);
	assert_int_equal(fr.rsp, rsp);
	assert_int_equal(fr.ss, ss);
	assert_int_equal(f.cpu->c.s.rip, HANDLER);
	assert_int_equal(f.cpu->c.cpl, 0);
	assert_int_equal(f.cpu->c.s.seg[CS].sel, 8);
}

static void test_int(void **state)
{
	static const struct {
		const u8 *code, *end;
		unsigned vector, len;
	} t[] = {
		{c_int, c_int_end, 0x13, 2},
		{c_int3, c_int3_end, 3, 1},
		{c_cd03, c_cd03_end, 3, 2},
	};
	const u64 flags = 2 | ALL_STATUS | X86_IF | X86_DF | X86_NT | X86_ID | X86_IOPL;
	unsigned k, n;

	for (k = 0; k < ARRAY_SIZE(t); k++) {
		setup_int(t[k].code, (size_t)(t[k].end - t[k].code));
		for (n = 0; n < 16; n++) {
			unsigned type = n & 1 ? 15 : 14, ist = n & 2 ? 3 : 0;
			u64 rsp = 0x8ff8 - 8 * (n & 4), sp;
			bool user = n & 8;

			gate(t[k].vector, HANDLER, type, 3, ist);
			if (n == 8) /* from now on CPL 3's */
				user_page(0x1000);
			R(RSP) = rsp;
			assert_int_equal(again(0x1000, user ? 3 : 0, flags), X_HLT);
			sp = (ist ? 0xa000 : user ? 0x9000 : rsp & ~15ull) - 40;
			check_frame(sp, 0x1000 + t[k].len, user ? 11 : 8, flags, rsp,
				    user ? 0x13 : 0x10);
			assert_int_equal(f.cpu->c.s.seg[SS].sel, user ? 0 : 0x10);
			if (user)
				assert_true(f.cpu->c.s.seg[SS].ar & SEG_AR_UNUSABLE);
			assert_int_equal(isa_flags(&f.cpu->c),
					 flags & ~(X86_NT | (type == 14 ? X86_IF : 0)));
			assert_int_equal(f.cpu->n.instructions, n + 1);
			assert_int_equal(f.cpu->n.events, n + 1);
		}
		/* The first ones find out where memory is. */
		if (f.cpu->j.calls) {
			assert_true(calls(ISA_OP_INT) + calls(ISA_OP_INT3) <= 6);
			assert_true(f.cpu->n.jit_lean >= 10);
		}
		fake_fini(&f);
	}
}

/* #BP may be taken, of INT3 and not of INT 3; INT n may be, on other vendors' processors. */
static void test_int_taken(void **state)
{
	unsigned k;

	for (k = 0; k < 2; k++) {
		if (k)
			setup_int(c_cd03, 3);
		else
			setup_int(c_int3, 2);
		gate(3, HANDLER, 14, 0, 0);
		R(RSP) = 0x8ff0;
		assert_int_equal(again(0x1000, 0, 2), X_HLT);
		assert_int_equal(again(0x1000, 0, 2), X_HLT);
		f.exc_bitmap = ~0u;
		R(RSP) = 0x8ff0;
		assert_int_equal(again(0x1000, 0, 2), k ? X_HLT : X_EXCEPTION);
		f.icpt = BIT(ICPT_INTN);
		f.exc_bitmap = ~(u32)BIT(X86_BP);
		assert_int_equal(again(0x1000, 0, 2), k ? X_INTERCEPT : X_HLT);
		f.ask = true;
		f.icpt = 0;
		R(RSP) = 0x8ff0;
		assert_int_equal(again(0x1000, 0, 2), X_HLT);
		check_frame(0x8ff0 - 40, 0x1001 + k, 8, 2, 0x8ff0, 0x10);
		fake_fini(&f);
	}
}

/* Each fault leaves everything as it was: SDM vol. 2A, INT, "64-bit mode exceptions". */
static void test_int_faults(void **state)
{
	enum { DPL, ABSENT, TYPE, LIMIT, NULL_CS, DATA_CS, CS_LIMIT, AWAY, NO_STACK, TSS_LIMIT, N };
	static const struct {
		u8 vector;
		u32 error;
	} want[N] = {
		[DPL] = {X86_GP, 0x13 * 8 + 2},	 [ABSENT] = {X86_NP, 0x13 * 8 + 2},
		[TYPE] = {X86_GP, 0x13 * 8 + 2}, [LIMIT] = {X86_GP, 0x13 * 8 + 2},
		[NULL_CS] = {X86_GP, 0},	 [DATA_CS] = {X86_GP, 0x10},
		[CS_LIMIT] = {X86_GP, 0x40},	 [AWAY] = {X86_GP, 0},
		[NO_STACK] = {X86_PF_VEC, 2},	 [TSS_LIMIT] = {X86_TS, 0x18},
	};
	unsigned k, n;

	for (k = 0; k < N; k++) {
		setup_int(c_int, 3);
		for (n = 0; n < 3; n++) {
			struct isa_cpu *c = &f.cpu->c;
			u64 g;

			/* In order first, so that all is known. */
			gate(0x13, HANDLER, 14, 3, 0);
			c->s.idtr.limit = 0x1ff;
			fake_set(&f, 0x23004, 0x9000);
			R(RSP) = 0x8ff0;
			assert_int_equal(again(0x1000, 3, 2), X_HLT);
			g = fake_get(&f, IDT_AT(0x13));
			switch (k) {
			case DPL: gate(0x13, HANDLER, 14, 2, 0); break;
			case ABSENT: fake_set(&f, IDT_AT(0x13), g & ~BIT(47)); break;
			case TYPE: gate(0x13, HANDLER, 12, 3, 0); break;
			case LIMIT: c->s.idtr.limit = 0x13f - 1; break;
			case NULL_CS: fake_set(&f, IDT_AT(0x13), g & ~0xffff0000ull); break;
			case DATA_CS: fake_set(&f, IDT_AT(0x13), g ^ 0x180000); break;
			case CS_LIMIT: fake_set(&f, IDT_AT(0x13), g ^ 0x480000); break;
			case AWAY: gate(0x13, 1ull << 47, 14, 3, 0); break;
			case NO_STACK: fake_set(&f, 0x23004, 0x7ffffffff000); break;
			case TSS_LIMIT: gate(0x13, HANDLER, 14, 3, 7); break;
			}
			R(RSP) = 0x8ff0;
			if (k == TSS_LIMIT)
				tss_limit = 0x5a;
			assert_int_equal(again(0x1000, 3, 2 | X86_OF), X_EXCEPTION);
			tss_limit = 0x67;
			assert_int_equal(f.ev.vector, want[k].vector);
			assert_int_equal(f.ev.error, want[k].error);
			assert_int_equal(c->s.rip, 0x1000);
			assert_int_equal(R(RSP), 0x8ff0);
			assert_int_equal(c->cpl, 3);
			assert_int_equal(isa_flags(c) & ~X86_RF, 2 | X86_OF);
		}
		fake_fini(&f);
	}
}

/* AC of a program goes on in the handler: with SMAP its accesses are allowed. */
CODE(c_ac,
     "mov ecx, 6; 1: xor edx, edx; int 0x13; dec ecx; jnz 1b; pushfq; btr dword ptr [rsp], 18;"
     "popfq; xor edx, edx; int 0x13; hlt");
CODE(c_smap, "mov rdx, [rbx]; iretq");
static void test_int_ac(void **state)
{
	setup_int(c_ac, (size_t)(c_ac_end - c_ac));
	f.cpu->c.s.cr4 |= CR4_SMAP;
	fake_map(&f, PG_4L, 0x40000000, 1, 0x5000 | 0x67, 7);
	user_page(0x8000);
	fake_set(&f, 0x5000, 5);
	fake_set(&f, 0x23004, 0xb000);
	/* CPL 3's segments for IRETQ */
	fake_set(&f, 0x22028, 0x00affb000000ffff);
	fake_set(&f, 0x22030, 0x00cff3000000ffff);
	LOAD(c_smap, HANDLER);
	gate(0x13, HANDLER, 14, 3, 0);
	R(RBX) = 0x40000000;
	R(RSP) = 0x8ff0;
	user_selectors = true;
	assert_int_equal(again(0x1000, 3, 2 | X86_AC), X_EXCEPTION);
	user_selectors = false;
	assert_int_equal(f.ev.vector, X86_PF_VEC);
	assert_int_equal(f.ev.payload, 0x40000000);
	assert_int_equal(f.cpu->c.cpl, 0);
	assert_int_equal(f.cpu->c.s.rip, HANDLER);
	assert_int_equal(R(RCX), 0);
	assert_int_equal(R(RDX), 0);
	assert_true(calls(ISA_OP_INT) < 3);
	fake_fini(&f);
}

/* The frame's page is not there on the host: nothing has happened. */
static void test_int_no_memory(void **state)
{
	unsigned n;

	setup_int(c_int, 3);
	gate(0x13, HANDLER, 14, 3, 0);
	fake_set(&f, 0x23004, 0xb000);
	for (n = 0; n < 3; n++) {
		R(RSP) = 0x8ff0;
		assert_int_equal(again(0x1000, 3, 2 | X86_ZF), X_HLT);
	}
	mprotect(f.mem + 0xa000, 0x1000, PROT_READ);
	R(RSP) = 0x8ff0;
	assert_int_equal(again(0x1000, 3, 2 | X86_ZF), X_EXCEPTION);
	assert_int_equal(f.ev.vector, X86_MC);
	assert_int_equal(f.cpu->c.s.rip, 0x1000);
	assert_int_equal(R(RSP), 0x8ff0);
	assert_int_equal(f.cpu->c.cpl, 3);
	assert_true(isa_flags(&f.cpu->c) & X86_ZF);
	mprotect(f.mem + 0xa000, 0x1000, PROT_READ | PROT_WRITE);
	fake_fini(&f);
}

/* A gate to code of CPL 3: no other stack, and CPL stays. */
static void test_int_user_code(void **state)
{
	struct frame fr;
	unsigned n;

	setup_int(c_int, 3);
	fake_set(&f, 0x22028, 0x00affb000000ffff);
	gate(0x13, HANDLER, 14, 3, 0);
	user_page(HANDLER);
	user_page(0x8000);
	/* CPL 0's stack is known. */
	R(RSP) = 0x8ff8;
	assert_int_equal(again(0x1000, 3, 2), X_HLT);
	fake_set(&f, IDT_AT(0x13), fake_get(&f, IDT_AT(0x13)) ^ (0x8 ^ 0x2b) << 16);
	for (n = 0; n < 3; n++) {
		R(RSP) = 0x8ff8;
		assert_int_equal(again(0x1000, 3, 2 | X86_IF), X_EXCEPTION);
		assert_int_equal(f.ev.vector, X86_GP); /* of HLT */
		assert_int_equal(f.cpu->c.s.rip, HANDLER);
		assert_int_equal(f.cpu->c.cpl, 3);
		assert_int_equal(f.cpu->c.s.seg[CS].sel, 0x2b);
		assert_int_equal(f.cpu->c.s.seg[SS].sel, 0x13);
		assert_int_equal(R(RSP), 0x8ff0 - 40);
		memcpy(&fr, f.mem + 0x8ff0 - 40, sizeof(fr));
		assert_int_equal(fr.rip, 0x1002);
		assert_int_equal(fr.rsp, 0x8ff8);
		/* It is not CPL 0's to call. */
		R(RSP) = 0x8ff8;
		assert_int_equal(again(0x1000, 0, 2), X_EXCEPTION);
		assert_int_equal(f.ev.vector, X86_GP);
		assert_int_equal(f.ev.error, 0x28);
		assert_int_equal(f.cpu->c.s.rip, 0x1000);
	}
	fake_fini(&f);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_invlpg),
		cmocka_unit_test(test_invlpg_addresses),
		cmocka_unit_test(test_invlpg_own_page),
		cmocka_unit_test(test_cr3),
		cmocka_unit_test(test_cr3_pcid),
		cmocka_unit_test(test_cr3_code),
		cmocka_unit_test(test_cr3_refused),
		cmocka_unit_test(test_int),
		cmocka_unit_test(test_int_taken),
		cmocka_unit_test(test_int_faults),
		cmocka_unit_test(test_int_ac),
		cmocka_unit_test(test_int_no_memory),
		cmocka_unit_test(test_int_user_code),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
