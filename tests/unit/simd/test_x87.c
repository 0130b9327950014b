/* SPDX-License-Identifier: MIT */
/* x87 environment formats (SDM vol. 1, figures 8-9 to 8-12), pointers, and MMX aliasing. */
#include "cm.h"

static const u8 one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};

static void prepare(struct flatcpu *f)
{
	f->c.s.cr0 |= CR0_NE;
	f->c.s.cr4 |= CR4_OSFXSR;
	FLAT_EXEC(f, 0xdb, 0xe3); /* fninit */
	f->c.r.gpr[RBX] = FLAT_DATA;
}

static void test_env32(void **state)
{
	struct flatcpu *f = flat_prot(0);
	u64 ip;

	prepare(f);
	flat_poke(f, FLAT_DATA + 0x40, 0x3f800000, 4);
	ip = f->c.s.rip;
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x43, 0x40), 0); /* fld dword [ebx + 0x40] */
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x33), 0);	     /* fnstenv [ebx] */
	assert_int_equal(flat_peek(f, FLAT_DATA, 4), 0xffff037f);
	assert_int_equal(flat_peek(f, FLAT_DATA + 4, 4), 0xffff3800);
	assert_int_equal(flat_peek(f, FLAT_DATA + 8, 4), 0xffff3fff);
	assert_int_equal(flat_peek(f, FLAT_DATA + 12, 4), ip);
	assert_int_equal(flat_peek(f, FLAT_DATA + 16, 4), 0); /* no unmasked exception */
	assert_int_equal(flat_peek(f, FLAT_DATA + 20, 4), 0);
	assert_int_equal(f->c.r.x87.fcw, 0x37f);
	FLAT_EXEC(f, 0xdb, 0xe3);
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x23), 0); /* fldenv */
	assert_int_equal(f->c.r.x87.fsw, 0x3800);
	assert_int_equal(f->c.r.x87.ftw, 0x80);
	assert_int_equal(f->c.r.x87.fip, ip);
	assert_memory_equal(f->c.r.x87.st[0], one, 10);
	flat_free(f);
}

/* The last instruction's address always, opcode and operand of one with an unmasked exception. */
static void test_pointers(void **state)
{
	struct flatcpu *f = flat_prot(0);
	u64 ip;

	prepare(f);
	f->c.r.x87.fcw = 0x37e; /* invalid operation is unmasked */
	flat_poke(f, FLAT_DATA + 0x40, 0x3f800000, 4);
	flat_poke(f, FLAT_DATA + 0x44, 0x7f800001, 4); /* a signalling NaN */
	ip = f->c.s.rip;
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x43, 0x40), 0);
	assert_int_equal(f->c.r.x87.fip, ip);
	assert_int_equal(f->c.r.x87.fop, 0);
	assert_int_equal(f->c.r.x87.fdp, 0);
	ip = f->c.s.rip;
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x43, 0x44), 0);
	assert_int_equal(f->c.r.x87.fsw & 0x8080, 0x8080);
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x33), 0); /* fnstenv [ebx] */
	assert_int_equal(flat_peek(f, FLAT_DATA + 12, 4), ip);
	assert_int_equal(flat_peek(f, FLAT_DATA + 16, 4), 0x01430000); /* opcode D9 43, CS 0 */
	assert_int_equal(flat_peek(f, FLAT_DATA + 20, 4), FLAT_DATA + 0x44);
	FLAT_EXEC(f, 0xdb, 0xe3);
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x23), 0); /* fldenv */
	assert_int_equal(f->c.r.x87.fop, 0x143);
	assert_int_equal(f->c.r.x87.fdp, FLAT_DATA + 0x44);
	flat_free(f);
}

/* Real mode, 16-bit: 14 bytes, linear addresses split. */
static void test_env_real(void **state)
{
	struct flatcpu *f = flat_real();

	prepare(f);
	f->c.s.seg[DS].base = 0;
	f->c.r.gpr[RBX] = 0x5000;
	f->c.r.x87.fip = 0xabcde;
	f->c.r.x87.fdp = 0x12345;
	f->c.r.x87.fop = 0x123;
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x37), 0); /* fnstenv [bx] */
	assert_int_equal(flat_peek(f, 0x5000 + 6, 2), 0xbcde);
	assert_int_equal(flat_peek(f, 0x5000 + 8, 2), 0xa123);
	assert_int_equal(flat_peek(f, 0x5000 + 10, 2), 0x2345);
	assert_int_equal(flat_peek(f, 0x5000 + 12, 2), 0x1000);
	assert_int_equal(flat_peek(f, 0x5000 + 14, 2), 0);
	f->c.r.x87.fip = f->c.r.x87.fdp = 0;
	assert_int_equal(FLAT_EXEC(f, 0xd9, 0x27), 0); /* fldenv [bx] */
	assert_int_equal(f->c.r.x87.fip, 0xabcde);
	assert_int_equal(f->c.r.x87.fdp, 0x12345);
	flat_free(f);
}

/* MM0 is physical register 0 whatever TOP was; its exponent becomes all ones. */
static void test_mmx_alias(void **state)
{
	struct flatcpu *f = flat_long(0);
	static const u8 mm[10] = {1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	prepare(f);
	FLAT_EXEC(f, 0xd9, 0xe8); /* fld1: physical register 7 */
	flat_poke(f, FLAT_DATA, 1, 8);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x6f, 0x03), 0); /* movq mm0, [rbx] */
	assert_int_equal(f->c.r.x87.fsw >> 11 & 7, 0);
	assert_int_equal(f->c.r.x87.ftw, 0xff);
	assert_memory_equal(f->c.r.x87.st[0], mm, 10);
	assert_memory_equal(f->c.r.x87.st[7], one, 10);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x77), 0);
	assert_int_equal(f->c.r.x87.ftw, 0);
	flat_free(f);
}

/* A faulting MMX store leaves the x87 state alone. */
static void test_mmx_fault(void **state)
{
	struct flatcpu *f = flat_long(3);
	struct isa_x87 before;

	prepare(f);
	FLAT_EXEC(f, 0xd9, 0xe8);
	before = f->c.r.x87;
	f->c.r.gpr[RBX] = FLAT_MEM;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x7f, 0x03), X86_PF_VEC, 6);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x6f, 0x03), X86_PF_VEC, 4);
	assert_fault(f, FLAT_EXEC(f, 0xdd, 0x1b), X86_PF_VEC, 6); /* fstp qword */
	assert_memory_equal(&f->c.r.x87, &before, sizeof(before));
	flat_free(f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_env32),	  cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_env_real),  cmocka_unit_test(test_mmx_alias),
		cmocka_unit_test(test_mmx_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
