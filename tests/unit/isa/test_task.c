/* SPDX-License-Identifier: MIT */
/* Task switches: SDM vol. 3A, 8.3 and tables 8-1, 8-2. */
#include "cm.h"

#define TSS2	 0x3400u
#define SEL_TSS2 FLAT_FREE
#define SEL_GATE (FLAT_FREE + 8)
#define NEW_EIP	 0x18000u
#define NEW_ESP	 0x2c000u

static void make_tss(struct flatcpu *f)
{
	flat_set_desc(f, SEL_TSS2, flat_desc(TSS2, 0x67, 0x89));
	memset(f->mem + TSS2, 0, 0x68);
	flat_poke(f, TSS2 + 0x20, NEW_EIP, 4);
	flat_poke(f, TSS2 + 0x24, 2 | X86_CF, 4);
	flat_poke(f, TSS2 + 0x28, 0xaaaaaaaa, 4);
	flat_poke(f, TSS2 + 0x38, NEW_ESP, 4);
	flat_poke(f, TSS2 + 0x48, FLAT_DS0, 4);
	flat_poke(f, TSS2 + 0x4c, FLAT_CS0, 4);
	flat_poke(f, TSS2 + 0x50, FLAT_DS0, 4);
	flat_poke(f, TSS2 + 0x54, FLAT_DS0, 4);
}

static unsigned tss_type(struct flatcpu *f, u16 sel)
{
	return f->mem[FLAT_GDT + sel + 5] & 15;
}

static void call_and_iret(void **state)
{
	struct flatcpu *f = flat_prot(0);

	make_tss(f);
	f->c.r.gpr[RAX] = 0x12345678;
	f->c.s.dr7 = 0x555;
	isa_set_flags(&f->c, 2 | X86_ZF);
	assert_int_equal(FLAT_EXEC(f, 0x9a, 0, 0, 0, 0, SEL_TSS2, 0), 0);
	assert_int_equal(f->n_icpt[ICPT_TASK_SWITCH], 1);
	assert_true(f->icpt_arg[ICPT_TASK_SWITCH] == (SEL_TSS2 | (u64)TASK_CALL << 30));
	assert_true(f->c.s.rip == NEW_EIP);
	assert_true(f->c.r.gpr[RAX] == 0xaaaaaaaa);
	assert_true(f->c.r.gpr[RSP] == NEW_ESP);
	assert_int_equal(f->c.s.seg[TR].sel, SEL_TSS2);
	assert_int_equal(f->c.s.seg[TR].ar & 15, 11);
	assert_true(f->c.s.seg[FS].ar & SEG_AR_UNUSABLE);
	assert_true(isa_flags(&f->c) == (2 | X86_CF | X86_NT));
	assert_true(f->c.s.cr0 & CR0_TS);
	assert_true(f->c.s.dr7 == 0x400);
	/* both busy, linked, old state saved */
	assert_int_equal(tss_type(f, SEL_TSS2), 11);
	assert_int_equal(tss_type(f, FLAT_TR), 11);
	assert_int_equal(flat_peek(f, TSS2, 2), FLAT_TR);
	assert_int_equal(flat_peek(f, FLAT_TSS + 0x20, 4), FLAT_CODE + 7);
	assert_int_equal(flat_peek(f, FLAT_TSS + 0x28, 4), 0x12345678);
	assert_int_equal(flat_peek(f, FLAT_TSS + 0x24, 4), 2 | X86_ZF);
	assert_int_equal(flat_peek(f, FLAT_TSS + 0x38, 4), FLAT_STACK);
	assert_int_equal(FLAT_EXEC(f, 0xcf), 0); /* iret */
	assert_true(f->c.s.rip == FLAT_CODE + 7);
	assert_true(f->c.r.gpr[RAX] == 0x12345678);
	assert_int_equal(f->c.s.seg[TR].sel, FLAT_TR);
	assert_int_equal(tss_type(f, SEL_TSS2), 9);
	assert_int_equal(tss_type(f, FLAT_TR), 11);
	assert_true(isa_flags(&f->c) == (2 | X86_ZF));
	/* the old EFLAGS was saved without NT */
	assert_int_equal(flat_peek(f, TSS2 + 0x24, 4), 2 | X86_CF);
	flat_free(f);
}

static void jump(void **state)
{
	struct flatcpu *f = flat_prot(0);

	make_tss(f);
	flat_set_desc(f, SEL_GATE, (u64)SEL_TSS2 << 16 | 0x85ull << 40);
	assert_int_equal(FLAT_EXEC(f, 0xea, 0, 0, 0, 0, SEL_GATE, 0), 0);
	assert_int_equal(tss_type(f, SEL_TSS2), 11);
	assert_int_equal(tss_type(f, FLAT_TR), 9);
	assert_int_equal(flat_peek(f, TSS2, 2), 0);
	assert_true(isa_flags(&f->c) == (2 | X86_CF));
	flat_free(f);
}

/* #DF through a task gate, with its error code on the new stack. */
static void gate(void **state)
{
	static const struct isa_event df = {
		.vector = X86_DF_VEC, .type = EV_HW_EXC, .has_error = true};
	struct flatcpu *f = flat_prot(3);

	make_tss(f);
	flat_gate(f, X86_DF_VEC, SEL_TSS2, 0, 5, 0, 0);
	flat_poke(f, NEW_ESP - 4, 0xffffffff, 4);
	assert_int_equal(flat_event(f, &df), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_true(f->c.r.gpr[RSP] == NEW_ESP - 4);
	assert_int_equal(flat_peek(f, NEW_ESP - 4, 4), 0);
	assert_int_equal(flat_peek(f, FLAT_TSS + 0x4c, 2), FLAT_CS3);
	assert_int_equal(FLAT_EXEC(f, 0xcf), 0);
	assert_int_equal(f->c.cpl, 3);
	assert_true(f->c.s.rip == FLAT_CODE);
	flat_free(f);
}

static void refused(void **state)
{
	struct flatcpu *f = flat_prot(0);

	make_tss(f);
	flat_set_desc(f, SEL_TSS2, flat_desc(TSS2, 0x66, 0x89));
	assert_fault(f, FLAT_EXEC(f, 0xea, 0, 0, 0, 0, SEL_TSS2, 0), X86_TS, SEL_TSS2);
	flat_set_desc(f, SEL_TSS2, flat_desc(TSS2, 0x67, 0x09));
	assert_fault(f, FLAT_EXEC(f, 0xea, 0, 0, 0, 0, SEL_TSS2, 0), X86_NP, SEL_TSS2);
	flat_set_desc(f, SEL_TSS2, flat_desc(TSS2, 0x67, 0x8b)); /* busy */
	assert_fault(f, FLAT_EXEC(f, 0xea, 0, 0, 0, 0, SEL_TSS2, 0), X86_GP, SEL_TSS2);
	f->c.s.rflags |= X86_NT;
	flat_poke(f, FLAT_TSS, SEL_TSS2, 2);
	flat_set_desc(f, SEL_TSS2, flat_desc(TSS2, 0x67, 0x89)); /* IRET wants a busy one */
	assert_fault(f, FLAT_EXEC(f, 0xcf), X86_TS, SEL_TSS2);
	assert_int_equal(f->n_icpt[ICPT_TASK_SWITCH], 0);
	f->c.s.rflags &= ~X86_NT;
	/* a bad segment in the new task is the new task's fault */
	flat_poke(f, TSS2 + 0x54, 0xf8 + 0x800, 4);
	assert_fault(f, FLAT_EXEC(f, 0xea, 0, 0, 0, 0, SEL_TSS2, 0), X86_TS, 0x8f8);
	assert_true(f->c.s.rip == NEW_EIP);
	assert_int_equal(f->c.s.seg[TR].sel, SEL_TSS2);
	flat_free(f);
	/* not in IA-32e mode */
	f = flat_long(0);
	f->c.s.rflags |= X86_NT;
	assert_fault(f, FLAT_EXEC(f, 0x48, 0xcf), X86_GP, 0);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call_and_iret),
		cmocka_unit_test(jump),
		cmocka_unit_test(gate),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
