/* SPDX-License-Identifier: MIT */
/* Segment limits, types and loads: SDM vol. 3A, chapter 5 and the pseudocode of MOV and LAR. */
#include "cm.h"

#define SEL_A FLAT_FREE
#define SEL_B (FLAT_FREE + 8)

static void limits(void **state)
{
	struct flatcpu *f = flat_prot(0);
	struct isa_seg *ds = &f->c.s.seg[DS];
	u64 *r = f->c.r.gpr;

	ds->limit = 0x30fff;
	isa_mode_changed(&f->c);
	assert_false(f->c.flat);
	r[RBX] = 0x30ffc;
	assert_int_equal(FLAT_EXEC(f, 0x8b, 0x03), 0); /* mov eax, [ebx]: the last four bytes */
	r[RBX]++;
	assert_fault(f, FLAT_EXEC(f, 0x8b, 0x03), X86_GP, 0);
	r[RBX] = 0xfffffffe; /* offset + size wraps */
	assert_fault(f, FLAT_EXEC(f, 0x8b, 0x03), X86_GP, 0);

	/* expand-down, 16-bit: valid above the limit up to 0xffff */
	*ds = (struct isa_seg){.sel = FLAT_DS0, .ar = 0x97, .limit = 0x7fff, .base = FLAT_DATA};
	isa_mode_changed(&f->c);
	r[RBX] = 0x7fff;
	assert_fault(f, FLAT_EXEC(f, 0x8a, 0x03), X86_GP, 0);
	r[RBX] = 0x8000;
	f->mem[FLAT_DATA + 0x8000] = 0x5a;
	assert_int_equal(FLAT_EXEC(f, 0x8a, 0x03), 0);
	assert_int_equal((u8)r[RAX], 0x5a);
	r[RBX] = 0xffff;
	assert_fault(f, FLAT_EXEC(f, 0x8b, 0x03), X86_GP, 0);

	/* read-only, execute-only, null */
	ds->ar = 0xc091;
	ds->limit = 0xffffffff;
	ds->base = 0;
	isa_mode_changed(&f->c);
	r[RBX] = FLAT_DATA;
	assert_int_equal(FLAT_EXEC(f, 0x8b, 0x03), 0);
	assert_fault(f, FLAT_EXEC(f, 0x89, 0x03), X86_GP, 0);
	ds->ar = 0xc099;
	assert_fault(f, FLAT_EXEC(f, 0x8b, 0x03), X86_GP, 0);
	ds->ar = SEG_AR_UNUSABLE;
	assert_fault(f, FLAT_EXEC(f, 0x8b, 0x03), X86_GP, 0);
	/* code is not writable through CS */
	assert_fault(f, FLAT_EXEC(f, 0x2e, 0x89, 0x03), X86_GP, 0);
	assert_int_equal(FLAT_EXEC(f, 0x2e, 0x8b, 0x03), 0);
	/* SS faults are #SS */
	f->c.s.seg[SS].limit = FLAT_STACK - 5;
	isa_mode_changed(&f->c);
	assert_fault(f, FLAT_EXEC(f, 0x50), X86_SS_VEC, 0);
	assert_int_equal(r[RSP], FLAT_STACK);
	flat_free(f);
}

static void real_wrap(void **state)
{
	struct flatcpu *f = flat_real();

	f->c.s.seg[DS].base = FLAT_DATA;
	f->c.r.gpr[RBX] = 0xfff0;
	f->c.r.gpr[RSI] = 0x20;
	flat_poke(f, FLAT_DATA + 0x10, 0xabcd, 2);
	assert_int_equal(FLAT_EXEC(f, 0x8b, 0x00), 0); /* mov ax, [bx + si]: wraps to 0x10 */
	assert_int_equal(f->c.r.gpr[RAX], 0xabcd);
	f->c.r.gpr[RSI] = 0xf;
	assert_fault(f, FLAT_EXEC(f, 0x8b, 0x00), X86_GP, 0); /* word at 0xffff */
	/* mov ds, ax in real mode: base only */
	f->c.s.seg[DS].limit = 0xfffff;
	f->c.r.gpr[RAX] = 0x3000;
	assert_int_equal(FLAT_EXEC(f, 0x8e, 0xd8), 0);
	assert_int_equal(f->c.s.seg[DS].base, 0x30000);
	assert_int_equal(f->c.s.seg[DS].limit, 0xfffff);
	flat_free(f);
}

static int mov_sel(struct flatcpu *f, unsigned seg, u16 sel)
{
	f->c.r.gpr[RAX] = sel;
	return FLAT_EXEC(f, 0x8e, (u8)(0xc0 | seg << 3));
}

static void loads(void **state)
{
	struct flatcpu *f = flat_prot(0);

	/* null */
	assert_int_equal(mov_sel(f, ES, 3), 0);
	assert_true(f->c.s.seg[ES].ar & SEG_AR_UNUSABLE);
	assert_int_equal(f->c.s.seg[ES].sel, 3);
	assert_fault(f, mov_sel(f, SS, 0), X86_GP, 0);
	assert_fault(f, mov_sel(f, CS, FLAT_CS0), X86_UD, 0);
	/* outside the table; the LDT there is not */
	assert_fault(f, mov_sel(f, DS, 0x1003), X86_GP, 0x1000);
	assert_fault(f, mov_sel(f, DS, 0x0c), X86_GP, 0x0c);
	/* not present: #NP, #SS for SS */
	flat_set_desc(f, SEL_A, flat_desc(0, 0xfffff, 0xc013));
	assert_fault(f, mov_sel(f, DS, SEL_A), X86_NP, SEL_A);
	assert_fault(f, mov_sel(f, SS, SEL_A), X86_SS_VEC, SEL_A);
	/* system descriptor, execute-only code, read-only stack, wrong DPL or RPL for a stack */
	assert_fault(f, mov_sel(f, DS, FLAT_TR), X86_GP, FLAT_TR);
	flat_set_desc(f, SEL_A, flat_desc(0, 0xfffff, 0xc099));
	assert_fault(f, mov_sel(f, DS, SEL_A), X86_GP, SEL_A);
	flat_set_desc(f, SEL_A, flat_desc(0, 0xfffff, 0xc091));
	assert_fault(f, mov_sel(f, SS, SEL_A), X86_GP, SEL_A);
	assert_fault(f, mov_sel(f, SS, FLAT_DS3), X86_GP, FLAT_DS3 & ~3);
	assert_fault(f, mov_sel(f, SS, FLAT_DS0 | 3), X86_GP, FLAT_DS0);
	/* the accessed bit is set in memory, in the register, and nowhere else */
	flat_set_desc(f, SEL_A, flat_desc(0x12345678, 0xabcde, 0x1092));
	assert_int_equal(mov_sel(f, FS, SEL_A), 0);
	assert_true(flat_peek(f, FLAT_GDT + SEL_A, 8) == flat_desc(0x12345678, 0xabcde, 0x1093));
	assert_true(f->c.s.seg[FS].base == 0x12345678);
	assert_true(f->c.s.seg[FS].limit == 0xabcde);
	assert_int_equal(f->c.s.seg[FS].ar, 0x1093);
	/* MOV SS shadows; a 16-bit stack wraps at 64 KiB and keeps ESP's upper half */
	flat_set_desc(f, SEL_A, flat_desc(FLAT_DATA, 0xffff, 0x0093));
	assert_int_equal(mov_sel(f, SS, SEL_A), 0);
	assert_true(f->c.s.interruptibility & ISA_BLOCK_MOVSS);
	f->c.r.gpr[RSP] = 0x12340000;
	assert_int_equal(FLAT_EXEC(f, 0x50), 0);
	assert_true(f->c.r.gpr[RSP] == 0x1234fffc);
	flat_free(f);

	/* CPL 3 */
	f = flat_prot(3);
	assert_fault(f, mov_sel(f, DS, FLAT_DS0), X86_GP, FLAT_DS0);
	assert_fault(f, mov_sel(f, DS, FLAT_DS0 | 3), X86_GP, FLAT_DS0);
	assert_int_equal(mov_sel(f, DS, FLAT_DS3 & ~3), 0);
	flat_set_desc(f, SEL_A, flat_desc(0, 0xfffff, 0xc09f)); /* conforming, readable, DPL 0 */
	assert_int_equal(mov_sel(f, DS, SEL_A | 3), 0);
	flat_free(f);

	/* 64-bit mode: a null SS at CPL 0 only, with RPL 0 */
	f = flat_long(0);
	assert_int_equal(mov_sel(f, SS, 0), 0);
	assert_int_equal(f->c.cpl, 0);
	assert_fault(f, mov_sel(f, SS, 3), X86_GP, 0);
	flat_free(f);
	f = flat_long(3);
	assert_fault(f, mov_sel(f, SS, 3), X86_GP, 0);
	flat_free(f);
}

static void questions(void **state)
{
	struct flatcpu *f = flat_prot(3);
	u64 *r = f->c.r.gpr;

	r[RCX] = FLAT_DS3;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x02, 0xc1), 0); /* lar eax, ecx */
	assert_true(isa_zf(&f->c));
	assert_int_equal(r[RAX], 0xc0f300);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x03, 0xc1), 0); /* lsl eax, ecx */
	assert_true(r[RAX] == 0xffffffff);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x00, 0xe9), 0); /* verw cx */
	assert_true(isa_zf(&f->c));
	r[RCX] = FLAT_CS3;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x00, 0xe9), 0);
	assert_false(isa_zf(&f->c));
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x00, 0xe1), 0); /* verr cx */
	assert_true(isa_zf(&f->c));
	r[RCX] = FLAT_DS0;
	r[RAX] = 0x77;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x02, 0xc1), 0);
	assert_false(isa_zf(&f->c));
	assert_int_equal(r[RAX], 0x77);
	r[RCX] = 0;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x00, 0xe1), 0);
	assert_false(isa_zf(&f->c));
	r[RAX] = 0x10;
	r[RCX] = 0x03;
	assert_int_equal(FLAT_EXEC(f, 0x63, 0xc8), 0); /* arpl ax, cx */
	assert_true(isa_zf(&f->c));
	assert_int_equal(r[RAX], 0x13);
	flat_free(f);
	f = flat_real();
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x02, 0xc1), X86_UD, 0);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits),
		cmocka_unit_test(real_wrap),
		cmocka_unit_test(loads),
		cmocka_unit_test(questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
