/* SPDX-License-Identifier: MIT */
/* Interrupts, IRET, far transfers. Expected frames: SDM vol. 3A, figures 6-4 and 6-9; 5.8. */
#include "cm.h"

static const struct isa_event ext_int = {.vector = 0x40, .type = EV_EXT_INT};
static const struct isa_event gp = {
	.vector = X86_GP, .type = EV_HW_EXC, .has_error = true, .error = 0x1234};
#define HANDLER 0x15000u

static void check_stack(struct flatcpu *f, unsigned size, const u64 *v, unsigned n)
{
	u32 at = (u32)(f->c.s.seg[SS].base + (f->c.r.gpr[RSP] & f->c.sp_mask));
	unsigned k;

	for (k = 0; k < n; k++)
		assert_true(flat_peek(f, at + k * size, size) == v[k]);
}
#define STACK(f, size, ...) \
	check_stack(f, size, (const u64[]){__VA_ARGS__}, sizeof((const u64[]){__VA_ARGS__}) / 8)

static void real_mode(void **state)
{
	struct flatcpu *f = flat_real();

	flat_poke(f, 0x40 * 4, 0x20005678, 4);
	f->c.s.rip = 0x123;
	isa_set_flags(&f->c, 2 | X86_IF | X86_TF | X86_CF);
	assert_int_equal(flat_event(f, &ext_int), 0);
	assert_true(f->c.s.rip == 0x5678);
	assert_int_equal(f->c.s.seg[CS].sel, 0x2000);
	assert_int_equal(f->c.r.gpr[RSP], 0x7ffa);
	STACK(f, 2, 0x123, FLAT_CODE >> 4, 2 | X86_IF | X86_TF | X86_CF);
	assert_true(isa_flags(&f->c) == (2 | X86_CF));
	assert_int_equal(FLAT_EXEC(f, 0xcf), 0); /* iret */
	assert_true(f->c.s.rip == 0x123);
	assert_int_equal(f->c.s.seg[CS].base, FLAT_CODE);
	assert_int_equal(f->c.r.gpr[RSP], 0x8000);
	assert_true(isa_flags(&f->c) == (2 | X86_IF | X86_TF | X86_CF));
	f->c.s.idtr.limit = 0x102;
	assert_fault(f, flat_event(f, &ext_int), X86_GP, 0x40 * 8 + 3);
	flat_free(f);
}

static void protected_same(void **state)
{
	struct flatcpu *f = flat_prot(0);

	flat_gate(f, X86_GP, FLAT_CS0, HANDLER, 14, 0, 0);
	isa_set_flags(&f->c, 2 | X86_IF | X86_NT);
	assert_int_equal(flat_event(f, &gp), 0);
	assert_true(f->c.s.rip == HANDLER);
	STACK(f, 4, 0x1234, FLAT_CODE, FLAT_CS0, 2 | X86_IF | X86_NT | X86_RF);
	assert_true(isa_flags(&f->c) == 2);
	f->c.r.gpr[RSP] += 4;
	flat_poke(f, (u32)f->c.r.gpr[RSP] + 8, 2 | X86_IF, 4);
	assert_int_equal(FLAT_EXEC(f, 0xcf), 0);
	assert_true(f->c.s.rip == FLAT_CODE);
	assert_true(isa_flags(&f->c) == (2 | X86_IF));
	/* trap gate: IF stays; 16-bit gate: 16-bit frame */
	flat_gate(f, 0x40, FLAT_CS0, HANDLER, 15, 0, 0);
	assert_int_equal(flat_event(f, &ext_int), 0);
	assert_true(isa_flags(&f->c) == (2 | X86_IF));
	flat_gate(f, 0x40, FLAT_CS0, 0x1234, 6, 0, 0);
	f->c.r.gpr[RSP] = FLAT_STACK;
	assert_int_equal(flat_event(f, &ext_int), 0);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK - 6);
	assert_true(f->c.s.rip == 0x1234);
	STACK(f, 2, HANDLER & 0xffff, FLAT_CS0, 2 | X86_IF);
	flat_free(f);
}

static void protected_inner(void **state)
{
	struct flatcpu *f = flat_prot(3);

	flat_gate(f, 0x40, FLAT_CS0, HANDLER, 14, 0, 0);
	isa_set_flags(&f->c, 2 | X86_IF);
	assert_int_equal(flat_event(f, &ext_int), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_int_equal(f->c.s.seg[SS].sel, FLAT_DS0);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK0 - 20);
	STACK(f, 4, FLAT_CODE, FLAT_CS3, 2 | X86_IF, FLAT_STACK, FLAT_DS3);
	/* and back: DS of CPL 0 does not survive */
	f->c.r.gpr[RAX] = FLAT_DS0;
	assert_int_equal(FLAT_EXEC(f, 0x8e, 0xd8), 0);
	assert_int_equal(FLAT_EXEC(f, 0xcf), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_true(f->c.s.rip == FLAT_CODE);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK);
	assert_true(f->c.s.seg[DS].ar & SEG_AR_UNUSABLE);
	assert_false(f->c.s.seg[ES].ar & SEG_AR_UNUSABLE);
	/* software interrupts are judged by the gate's DPL, hardware ones are not */
	assert_fault(f, FLAT_EXEC(f, 0xcd, 0x40), X86_GP, 0x40 * 8 + 2);
	flat_gate(f, 0x40, FLAT_CS0, HANDLER, 14, 3, 0);
	assert_int_equal(FLAT_EXEC(f, 0xcd, 0x40), 0);
	STACK(f, 4, FLAT_CODE + 2, FLAT_CS3, 2 | X86_IF, FLAT_STACK, FLAT_DS3);
	flat_free(f);
}

static void bad_gates(void **state)
{
	struct flatcpu *f = flat_prot(3);

	flat_gate(f, 0x40, FLAT_CS0, HANDLER, 14, 0, 0);
	flat_poke(f, FLAT_IDT + 0x40 * 8 + 5, 0x0e, 1); /* not present */
	assert_fault(f, flat_event(f, &ext_int), X86_NP, 0x40 * 8 + 3);
	flat_poke(f, FLAT_IDT + 0x40 * 8 + 5, 0x8c, 1); /* call gate */
	assert_fault(f, flat_event(f, &ext_int), X86_GP, 0x40 * 8 + 3);
	flat_gate(f, 0x40, 0, HANDLER, 14, 0, 0);
	assert_fault(f, flat_event(f, &ext_int), X86_GP, 1);
	flat_gate(f, 0x40, FLAT_DS0, HANDLER, 14, 0, 0);
	assert_fault(f, flat_event(f, &ext_int), X86_GP, FLAT_DS0 | 1);
	flat_gate(f, 0x40, FLAT_CS0, HANDLER, 14, 0, 0);
	flat_poke(f, FLAT_TSS + 8, 0, 2); /* SS0 null */
	assert_fault(f, flat_event(f, &ext_int), X86_TS, 1);
	flat_poke(f, FLAT_TSS + 8, FLAT_DS3, 2);
	assert_fault(f, flat_event(f, &ext_int), X86_TS, (FLAT_DS3 & ~3) | 1);
	assert_int_equal(f->c.cpl, 3);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK);
	assert_true(f->c.s.rip == FLAT_CODE);
	flat_free(f);
}

static void long_mode(void **state)
{
	struct flatcpu *f = flat_long(3);
	u64 fl = 2 | X86_IF;

	flat_gate(f, X86_GP, FLAT_CS64, HANDLER, 14, 0, 0);
	isa_set_flags(&f->c, fl);
	f->c.r.gpr[RSP] = FLAT_STACK - 3;
	assert_int_equal(flat_event(f, &gp), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK0 - 48);
	assert_true(f->c.s.seg[SS].ar & SEG_AR_UNUSABLE);
	assert_int_equal(f->c.s.seg[SS].sel, 0);
	STACK(f, 8, 0x1234, FLAT_CODE, FLAT_CS64U, fl | X86_RF, FLAT_STACK - 3, FLAT_DS3);
	f->c.r.gpr[RSP] += 8;
	assert_int_equal(FLAT_EXEC(f, 0x48, 0xcf), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK - 3);
	assert_true(isa_flags(&f->c) == (fl | X86_RF));
	/* IST at CPL 0 keeps SS and aligns */
	flat_free(f);
	f = flat_long(0);
	flat_gate(f, 0x40, FLAT_CS64, HANDLER, 14, 0, 2);
	flat_poke(f, FLAT_TSS + 0x2c, FLAT_DATA + 7, 8);
	assert_int_equal(flat_event(f, &ext_int), 0);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_DATA - 40);
	assert_int_equal(f->c.s.seg[SS].sel, FLAT_DS0);
	STACK(f, 8, FLAT_CODE, FLAT_CS64, 2, FLAT_STACK, FLAT_DS0);
	/* no 64-bit code at the gate's selector, no task gate, a stack that is not canonical */
	flat_gate(f, 0x40, FLAT_CS0, HANDLER, 14, 0, 0);
	assert_fault(f, flat_event(f, &ext_int), X86_GP, FLAT_CS0 | 1);
	flat_gate(f, 0x40, FLAT_TR, HANDLER, 5, 0, 0);
	assert_fault(f, flat_event(f, &ext_int), X86_GP, 0x40 * 8 + 3);
	flat_gate(f, 0x40, FLAT_CS64, HANDLER, 14, 0, 1);
	flat_poke(f, FLAT_TSS + 0x24, 1ull << 60, 8);
	assert_fault(f, flat_event(f, &ext_int), X86_SS_VEC, 1);
	flat_free(f);
}

/* Virtual-8086 mode: in by IRETD, out by an interrupt. */
static void v86(void **state)
{
	struct flatcpu *f = flat_prot(0);
	const u64 frame[] = {0x100,  0x1000, X86_VM | X86_IF | 2, 0x7f00, 0x2000, 0x3000, 0x3001,
			     0x3002, 0x3003};
	unsigned k;

	f->c.r.gpr[RSP] = FLAT_STACK - 64;
	for (k = 0; k < 9; k++)
		flat_poke(f, FLAT_STACK - 64 + 4 * k, frame[k], 4);
	assert_int_equal(FLAT_EXEC(f, 0xcf), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_int_equal(f->c.mode, ISA_REAL16);
	assert_true(f->c.s.rip == 0x100);
	assert_int_equal(f->c.s.seg[CS].base, 0x10000);
	assert_int_equal(f->c.s.seg[SS].base, 0x20000);
	assert_int_equal(f->c.s.seg[GS].sel, 0x3003);
	assert_int_equal(f->c.s.seg[ES].ar, 0xf3);
	/* IOPL 0: CLI, PUSHF, INT n and IRET are the monitor's */
	assert_fault(f, FLAT_EXEC(f, 0xfa), X86_GP, 0);
	assert_fault(f, FLAT_EXEC(f, 0x9c), X86_GP, 0);
	assert_fault(f, FLAT_EXEC(f, 0xcf), X86_GP, 0);
	assert_fault(f, FLAT_EXEC(f, 0xcd, 0x21), X86_GP, 0);
	flat_gate(f, X86_GP, FLAT_CS0, HANDLER, 14, 0, 0);
	assert_int_equal(flat_event(f, &gp), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK0 - 40);
	STACK(f, 4, 0x1234, 0x100, 0x1000, X86_VM | X86_IF | X86_RF | 2, 0x7f00, 0x2000, 0x3000,
	      0x3001, 0x3002, 0x3003);
	assert_true(f->c.s.seg[DS].ar & SEG_AR_UNUSABLE);
	flat_free(f);
}

static void far_transfers(void **state)
{
	struct flatcpu *f = flat_prot(0);
	u64 gate;

	/* jmp far, call far at the same privilege, and back */
	assert_int_equal(FLAT_EXEC(f, 0x9a, 0, 0x50, 1, 0, FLAT_CS0, 0), 0);
	assert_true(f->c.s.rip == HANDLER);
	STACK(f, 4, FLAT_CODE + 7, FLAT_CS0);
	assert_int_equal(FLAT_EXEC(f, 0xcb), 0);
	assert_true(f->c.s.rip == FLAT_CODE + 7);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK);
	assert_fault(f, FLAT_EXEC(f, 0xea, 0, 0x50, 1, 0, FLAT_CS3, 0), X86_GP, FLAT_CS3 & ~3);
	assert_fault(f, FLAT_EXEC(f, 0xea, 0, 0x50, 1, 0, 0, 0), X86_GP, 0);
	/* outward by RET FAR with parameters on both stacks */
	flat_poke(f, FLAT_STACK - 24, HANDLER, 4);
	flat_poke(f, FLAT_STACK - 20, FLAT_CS3, 4);
	flat_poke(f, FLAT_STACK - 8, 0x21000, 4);
	flat_poke(f, FLAT_STACK - 4, FLAT_DS3, 4);
	f->c.r.gpr[RSP] = FLAT_STACK - 24;
	assert_int_equal(FLAT_EXEC(f, 0xca, 8, 0), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_int_equal(f->c.r.gpr[RSP], 0x21008);
	/* inward by a call gate with two parameters */
	gate = 0x6000 | FLAT_CS0 << 16 | 2ull << 32 | 0xecull << 40 | 1ull << 48;
	flat_set_desc(f, FLAT_FREE, gate);
	flat_poke(f, 0x21008, 0x11111111, 4);
	flat_poke(f, 0x2100c, 0x22222222, 4);
	assert_int_equal(FLAT_EXEC(f, 0x9a, 0, 0, 0, 0, FLAT_FREE | 3, 0), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_true(f->c.s.rip == 0x16000);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK0 - 24);
	STACK(f, 4, HANDLER + 7, FLAT_CS3, 0x11111111, 0x22222222, 0x21008, FLAT_DS3);
	flat_free(f);

	/* 64-bit: m16:64, call gate of 16 bytes, return to compatibility mode */
	f = flat_long(0);
	f->c.r.gpr[RBX] = FLAT_DATA;
	flat_poke(f, FLAT_DATA, HANDLER, 8);
	flat_poke(f, FLAT_DATA + 8, FLAT_CS64, 2);
	assert_int_equal(FLAT_EXEC(f, 0x48, 0xff, 0x1b), 0);
	STACK(f, 8, FLAT_CODE + 3, FLAT_CS64);
	assert_true(f->c.s.rip == HANDLER);
	flat_set_desc(f, FLAT_FREE, 0x6000 | FLAT_CS64 << 16 | 0x8cull << 40 | 1ull << 48);
	flat_set_desc(f, FLAT_FREE + 8, 0);
	flat_poke(f, FLAT_DATA + 8, FLAT_FREE, 2);
	assert_int_equal(FLAT_EXEC(f, 0x48, 0xff, 0x1b), 0);
	assert_true(f->c.s.rip == 0x16000);
	STACK(f, 8, HANDLER + 3, FLAT_CS64);
	flat_poke(f, (u32)f->c.r.gpr[RSP] + 8, FLAT_CS0, 8);
	assert_int_equal(FLAT_EXEC(f, 0x48, 0xcb), 0);
	assert_int_equal(f->c.mode, ISA_PROT32);
	assert_true(f->c.s.rip == HANDLER + 3);
	flat_free(f);
}

static void syscalls(void **state)
{
	struct flatcpu *f = flat_long(3);

	f->c.r.star = (u64)0x20 << 48 | (u64)FLAT_CS64 << 32;
	f->c.r.lstar = HANDLER;
	f->c.r.sfmask = X86_IF | X86_DF;
	isa_set_flags(&f->c, 2 | X86_IF | X86_CF);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x05), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_true(f->c.s.rip == HANDLER);
	assert_true(f->c.r.gpr[RCX] == FLAT_CODE + 2);
	assert_true(f->c.r.gpr[R11] == (2 | X86_IF | X86_CF));
	assert_true(isa_flags(&f->c) == (2 | X86_CF));
	assert_int_equal(f->c.s.seg[SS].sel, FLAT_CS64 + 8);
	assert_int_equal(FLAT_EXEC(f, 0x48, 0x0f, 0x07), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_true(f->c.s.rip == FLAT_CODE + 2);
	assert_int_equal(f->c.s.seg[CS].sel, 0x33);
	assert_int_equal(f->c.s.seg[SS].sel, 0x2b);
	assert_true(isa_flags(&f->c) == (2 | X86_IF | X86_CF));
	assert_fault(f, FLAT_EXEC(f, 0x48, 0x0f, 0x07), X86_GP, 0);
	f->c.s.efer &= ~EFER_SCE;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x05), X86_UD, 0);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x34), X86_GP, 0); /* sysenter, no CS */
	f->c.s.sysenter_cs = FLAT_CS64;
	f->c.s.sysenter_eip = HANDLER;
	f->c.s.sysenter_esp = FLAT_STACK0;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x34), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_int_equal(f->c.r.gpr[RSP], FLAT_STACK0);
	f->c.r.gpr[RDX] = FLAT_CODE;
	f->c.r.gpr[RCX] = FLAT_STACK;
	assert_int_equal(FLAT_EXEC(f, 0x48, 0x0f, 0x35), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_int_equal(f->c.s.seg[CS].sel, (FLAT_CS64 + 32) | 3);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode),	   cmocka_unit_test(protected_same),
		cmocka_unit_test(protected_inner), cmocka_unit_test(bad_gates),
		cmocka_unit_test(long_mode),	   cmocka_unit_test(v86),
		cmocka_unit_test(far_transfers),   cmocka_unit_test(syscalls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
