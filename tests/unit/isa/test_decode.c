/* SPDX-License-Identifier: MIT */
/* What isa_decode makes of bytes; expected values are from SDM vol. 2 (encodings). */
#include "cm.h"

static struct isa_insn decode(enum isa_mode mode, const u8 *b, size_t n, int expect)
{
	struct isa_insn i;

	assert_int_equal(isa_decode(b, n, mode, &i), expect);
	return i;
}
#define DECODE(mode, ...) \
	decode(mode, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), ISA_DECODE_OK)

static void check_opnd(struct isa_opnd o, unsigned kind, unsigned reg, unsigned size)
{
	assert_int_equal(o.kind, kind);
	assert_int_equal(o.reg, reg);
	assert_int_equal(o.size, size);
}

static void registers(void **state)
{
	struct isa_insn i = DECODE(ISA_LONG64, 0x4d, 0x89, 0xc1); /* mov r9, r8 */

	assert_int_equal(i.op, ISA_OP_MOV);
	assert_int_equal(i.len, 3);
	check_opnd(i.o[0], OK_GPR, R9, 8);
	check_opnd(i.o[1], OK_GPR, R8, 8);
	i = DECODE(ISA_LONG64, 0x88, 0xe5); /* mov ch, ah */
	check_opnd(i.o[0], OK_GPRH, RCX, 1);
	check_opnd(i.o[1], OK_GPRH, RAX, 1);
	i = DECODE(ISA_LONG64, 0x40, 0x88, 0xe5); /* mov bpl, spl */
	check_opnd(i.o[0], OK_GPR, RBP, 1);
	check_opnd(i.o[1], OK_GPR, RSP, 1);
	i = DECODE(ISA_LONG64, 0x45, 0x88, 0xc7); /* mov r15b, r8b */
	check_opnd(i.o[0], OK_GPR, R15, 1);
	check_opnd(i.o[1], OK_GPR, R8, 1);
	i = DECODE(ISA_LONG64, 0x66, 0x8e, 0xe0); /* mov fs, ax */
	assert_int_equal(i.op, ISA_OP_MOV_SEG);
	check_opnd(i.o[0], OK_SEG, FS, 2);
	i = DECODE(ISA_LONG64, 0x44, 0x0f, 0x20, 0xc0); /* mov rax, cr8 */
	assert_int_equal(i.op, ISA_OP_MOV_CR);
	check_opnd(i.o[1], OK_CR, 8, 8);
	i = DECODE(ISA_PROT32, 0x0f, 0x23, 0xf9); /* mov dr7, ecx */
	assert_int_equal(i.op, ISA_OP_MOV_DR);
	check_opnd(i.o[0], OK_DR, 7, 4);
	check_opnd(i.o[1], OK_GPR, RCX, 4);
}

static void memory(void **state)
{
	struct isa_insn i;

	/* mov eax, fs:[rbx + r12*4 - 0x10] */
	i = DECODE(ISA_LONG64, 0x64, 0x42, 0x8b, 0x44, 0xa3, 0xf0);
	check_opnd(i.o[1], OK_MEM, 0, 4);
	assert_int_equal(i.seg, FS);
	assert_int_equal(i.base, RBX);
	assert_int_equal(i.index, R12);
	assert_int_equal(i.scale, 2);
	assert_true(i.disp == (u64)-16);
	assert_int_equal(i.msize, 4);
	assert_int_equal(i.modrm_off, 3);
	i = DECODE(ISA_LONG64, 0x8b, 0x05, 4, 3, 2, 1); /* mov eax, [rip + 0x1020304] */
	assert_int_equal(i.base, ISA_REG_RIP);
	assert_true(i.disp == 0x1020304);
	i = DECODE(ISA_LONG64, 0x8b, 0x45, 8); /* mov eax, [rbp + 8]: SS by default */
	assert_int_equal(i.seg, SS);
	i = DECODE(ISA_REAL16, 0x8b, 0x42, 0xff); /* mov ax, [bp + si - 1] */
	assert_int_equal(i.seg, SS);
	assert_int_equal(i.base, RBP);
	assert_int_equal(i.index, RSI);
	assert_int_equal(i.addrsize, 2);
	assert_int_equal(i.opsize, 2);
	i = DECODE(ISA_LONG64, 0xa1, 8, 7, 6, 5, 4, 3, 2, 1); /* mov eax, [moffs64] */
	assert_true(i.disp == 0x0102030405060708);
	assert_int_equal(i.base, ISA_REG_NONE);
	i = DECODE(ISA_LONG64, 0xff, 0x15, 0x10, 0, 0, 0); /* call [rip + 16] */
	assert_int_equal(i.op, ISA_OP_CALL);
	assert_int_equal(i.base, ISA_REG_RIP);
	assert_int_equal(i.opsize, 8);
}

static void immediates(void **state)
{
	struct isa_insn i = DECODE(ISA_LONG64, 0x48, 0x83, 0xc0, 0xf0); /* add rax, -16 */

	check_opnd(i.o[1], OK_IMM, 0, 1);
	assert_true(i.imm == (u64)-16);
	i = DECODE(ISA_LONG64, 0x48, 0xb8, 8, 7, 6, 5, 4, 3, 2, 1); /* mov rax, imm64 */
	assert_true(i.imm == 0x0102030405060708);
	i = DECODE(ISA_LONG64, 0x48, 0xc7, 0xc0, 0, 0, 0, 0x80); /* mov rax, -2^31 */
	assert_true(i.imm == 0xffffffff80000000);
	i = DECODE(ISA_PROT32, 0xc8, 0x34, 0x12, 3); /* enter 0x1234, 3 */
	assert_true(i.imm == 0x1234);
	assert_int_equal(i.imm2, 3);
	i = DECODE(ISA_PROT32, 0xea, 4, 3, 2, 1, 0x08, 0); /* jmp 8:0x1020304 */
	assert_int_equal(i.op, ISA_OP_JMP_FAR);
	assert_true(i.imm == 0x1020304);
	assert_int_equal(i.imm2, 8);
	i = DECODE(ISA_LONG64, 0x75, 0xfe); /* jnz $ */
	assert_int_equal(i.op, ISA_OP_JNZ);
	assert_int_equal(i.cond, 5);
	assert_true(i.imm == (u64)-2);
	assert_true(i.flags & ISA_F_END);
}

static void same_mnemonic(void **state)
{
	struct isa_insn i = DECODE(ISA_LONG64, 0xf3, 0xa5); /* rep movsd */

	assert_int_equal(i.op, ISA_OP_MOVSD_STR);
	assert_int_equal(i.prefixes, ISA_P_REP);
	i = DECODE(ISA_LONG64, 0xf2, 0xa4); /* repne movsb repeats, too */
	assert_int_equal(i.op, ISA_OP_MOVSB);
	assert_int_equal(i.prefixes, ISA_P_REPNE);
	i = DECODE(ISA_LONG64, 0x65, 0xa4); /* gs movsb: the override is the source's */
	assert_int_equal(i.seg, GS);
	i = DECODE(ISA_REAL16, 0x36, 0xa6); /* ss cmpsb */
	assert_int_equal(i.seg, SS);
	i = DECODE(ISA_PROT32, 0x36, 0xd7); /* ss xlat */
	assert_int_equal(i.seg, SS);
	i = DECODE(ISA_LONG64, 0x48, 0xcb); /* retfq */
	assert_int_equal(i.op, ISA_OP_RET_FAR);
	assert_int_equal(i.opsize, 8);
	i = DECODE(ISA_LONG64, 0xc3);
	assert_int_equal(i.op, ISA_OP_RET);
	i = DECODE(ISA_LONG64, 0x0f, 0xa1); /* pop fs */
	assert_int_equal(i.op, ISA_OP_POP_SEG);
	i = DECODE(ISA_LONG64, 0xf3, 0x0f, 0xbc, 0xc1);
	assert_int_equal(i.op, ISA_OP_TZCNT);
	i = DECODE(ISA_LONG64, 0xf3, 0x0f, 0x1e, 0xfa);
	assert_int_equal(i.op, ISA_OP_ENDBR64);
	i = DECODE(ISA_LONG64, 0xf0, 0x48, 0x0f, 0xb1, 0x0b); /* lock cmpxchg [rbx], rcx */
	assert_int_equal(i.prefixes, ISA_P_LOCK | ISA_P_REXW);
}

static void refused(void **state)
{
	static const u8 lock_reg[] = {0xf0, 0x01, 0xc0}, lock_mov[] = {0xf0, 0x89, 0x00};
	static const u8 no64[] = {0x06, 0x90}, cut[] = {0x48, 0x8b, 0x05, 0, 0};
	static const u8 bad[] = {0x0f, 0x0b}, undefd[] = {0x0f, 0x04, 0x90};
	u8 longs[16];

	memset(longs, 0x66, sizeof(longs));
	decode(ISA_LONG64, lock_reg, 3, ISA_DECODE_UD);
	decode(ISA_LONG64, lock_mov, 3, ISA_DECODE_UD);
	decode(ISA_LONG64, no64, 2, ISA_DECODE_UD);
	decode(ISA_LONG64, undefd, 3, ISA_DECODE_UD);
	decode(ISA_LONG64, cut, 5, ISA_DECODE_SHORT);
	decode(ISA_LONG64, cut, 0, ISA_DECODE_SHORT);
	decode(ISA_LONG64, longs, 14, ISA_DECODE_SHORT);
	assert_ptr_equal(decode(ISA_LONG64, longs, 16, ISA_DECODE_LONG).exec, isa_exec_toolong);
	assert_int_equal(decode(ISA_LONG64, bad, 2, ISA_DECODE_OK).op, ISA_OP_UD2);
}

static u64 seed = 1;

static u8 random_byte(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (u8)(seed >> 56);
}

/* The two decoders agree about every bit, whatever forms have been seen. */
static void forms(void **state)
{
	static const u8 prefix[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x2e, 0x48, 0x41, 0x4f};
	struct isa_forms *f = isa_forms_create();
	unsigned n, k, map, op;

	assert_non_null(f);
	for (n = 0; n < 2000000; n++) {
		struct isa_insn a, b;
		u8 bytes[15], *p = bytes;
		enum isa_decode_result r;

		for (k = 0; k < sizeof(bytes); k++)
			bytes[k] = random_byte();
		while (p < bytes + 4 && random_byte() < 100)
			*p++ = prefix[random_byte() % sizeof(prefix)];
		/* Opcodes in turn, and few of the values of ModRM and SIB, so that forms return. */
		map = n >> 8 & 3;
		op = n & 0xff;
		if (map)
			*p++ = 0x0f;
		if (map >= 2)
			*p++ = map == 2 ? 0x38 : 0x3a;
		*p++ = (u8)op;
		p[0] &= 0xc7 | 8 << (random_byte() & 3);
		p[1] &= 0x25;
		if (random_byte() < 128)
			memset(p + 1, random_byte() & 0x80 ? 0xff : 0, 6);
		memset(&a, 0xaa, sizeof(a));
		memset(&b, 0x55, sizeof(b));
		r = isa_decode(bytes, 15, ISA_LONG64, &a);
		assert_int_equal(isa_decode_form(f, bytes, 15, ISA_LONG64, &b), r);
		if (memcmp(&a, &b, sizeof(a)))
			fail_msg("%02x %02x %02x %02x %02x %02x", bytes[0], bytes[1], bytes[2],
				 bytes[3], bytes[4], bytes[5]);
		isa_insn_release(&a);
		isa_insn_release(&b);
	}
	isa_forms_destroy(f);
}

/* No byte string makes the decoder read too far or produce something that cannot be executed. */
static void random_bytes(void **state)
{
	unsigned n, k;

	for (n = 0; n < 200000; n++) {
		struct isa_insn i;
		u8 b[15];
		enum isa_decode_result r;

		for (k = 0; k < sizeof(b); k++)
			b[k] = random_byte();
		r = isa_decode(b, sizeof(b), n % ISA_NMODES, &i);
		assert_int_not_equal(r, ISA_DECODE_SHORT);
		assert_non_null(i.exec);
		assert_in_range(i.len, 1, 15);
		isa_insn_release(&i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),  cmocka_unit_test(memory),
		cmocka_unit_test(immediates), cmocka_unit_test(same_mnemonic),
		cmocka_unit_test(refused),    cmocka_unit_test(random_bytes),
		cmocka_unit_test(forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
