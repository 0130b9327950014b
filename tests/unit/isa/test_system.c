/* SPDX-License-Identifier: MIT */
/* Privileged and sensitive instructions: who may, in which order exits and faults come. */
#include "cm.h"

static void flags_by_iopl(void **state)
{
	struct flatcpu *f = flat_prot(3);
	struct isa_cpu *c = &f->c;

	isa_set_flags(c, 2 | X86_IF);
	assert_fault(f, FLAT_EXEC(f, 0xfa), X86_GP, 0);
	/* popf at CPL 3, IOPL 0: IF and IOPL stay */
	flat_poke(f, FLAT_STACK - 4, X86_IOPL | X86_CF | X86_AC | X86_ID, 4);
	c->r.gpr[RSP] = FLAT_STACK - 4;
	assert_int_equal(FLAT_EXEC(f, 0x9d), 0);
	assert_true(isa_flags(c) == (2 | X86_IF | X86_CF | X86_AC | X86_ID));
	c->s.rflags |= X86_IOPL;
	assert_int_equal(FLAT_EXEC(f, 0xfa), 0);
	assert_false(c->s.rflags & X86_IF);
	assert_int_equal(FLAT_EXEC(f, 0xfb), 0);
	assert_true(c->s.rflags & X86_IF);
	assert_true(c->s.interruptibility & ISA_BLOCK_STI);
	/* PVI */
	c->s.interruptibility = 0;
	c->s.rflags &= ~X86_IOPL;
	c->s.cr4 |= CR4_PVI;
	assert_int_equal(FLAT_EXEC(f, 0xfb), 0);
	assert_true(c->s.rflags & X86_VIF);
	assert_int_equal(FLAT_EXEC(f, 0xfa), 0);
	assert_false(c->s.rflags & X86_VIF);
	c->s.rflags |= X86_VIP;
	assert_fault(f, FLAT_EXEC(f, 0xfb), X86_GP, 0);
	flat_free(f);
}

static void privilege(void **state)
{
	static const u8 insn[][4] = {
		{0xf4},		    /* hlt */
		{0x0f, 0x06},	    /* clts */
		{0x0f, 0x20, 0xc0}, /* mov eax, cr0 */
		{0x0f, 0x30},	    /* wrmsr */
		{0x0f, 0x32},	    /* rdmsr */
		{0x0f, 0x08},	    /* invd */
		{0x0f, 0x09},	    /* wbinvd */
		{0x0f, 0x01, 0xf0}, /* lmsw ax */
		{0x0f, 0x00, 0xd0}, /* lldt ax */
		{0x0f, 0x00, 0xd8}, /* ltr ax */
		{0x0f, 0x21, 0xc0}, /* mov eax, dr0 */
		{0x0f, 0x01, 0x3b}, /* invlpg [rbx] */
	};
	struct flatcpu *f = flat_long(3);
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(insn); k++)
		assert_fault(f, flat_exec(f, insn[k], 4), X86_GP, 0);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x01, 0xca), X86_UD, 0); /* clac */
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x01, 0xc8), X86_UD, 0); /* monitor */
	f->c.s.cr4 |= CR4_UMIP | CR4_TSD;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x01, 0xe0), X86_GP, 0); /* smsw eax */
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x00, 0xc0), X86_GP, 0); /* sldt eax */
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x31), X86_GP, 0);	    /* rdtsc */
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x33), X86_GP, 0);	    /* rdpmc */
	f->c.s.cr4 &= ~(CR4_UMIP | CR4_TSD);
	f->tsc = 0x123456789;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x31), 0);
	assert_true(f->c.r.gpr[RAX] == 0x23456789 && f->c.r.gpr[RDX] == 1);
	flat_free(f);
}

static void debug_registers(void **state)
{
	struct flatcpu *f = flat_long(3);
	struct isa_cpu *c = &f->c;

	/* the exit comes before the privilege check */
	f->icpt_exit = ICPT_DR_WRITE;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x23, 0xc0), ISA_THROW_EXIT);
	flat_free(f);
	f = flat_long(0);
	c = &f->c;
	c->r.gpr[RAX] = 0x1234;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x23, 0xc8), 0); /* mov dr1, rax */
	assert_true(c->r.dr[1] == 0x1234);
	c->r.gpr[RAX] = 0x403;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x23, 0xe8), 0); /* mov dr5, rax: an alias of DR7 */
	assert_true(c->s.dr7 == 0x403);
	c->s.cr4 |= CR4_DE;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x23, 0xe8), X86_UD, 0);
	c->r.gpr[RAX] = 1ull << 32;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x23, 0xf8), X86_GP, 0); /* mov dr7, rax */
	c->s.dr7 |= BIT(13);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x21, 0xc0), X86_DB, 0);
	assert_true(c->fault.payload == BIT(13));
	flat_free(f);
}

static void tables(void **state)
{
	struct flatcpu *f = flat_long(0);
	struct isa_cpu *c = &f->c;

	c->r.gpr[RBX] = FLAT_DATA;
	flat_poke(f, FLAT_DATA, 0x1ff, 2);
	flat_poke(f, FLAT_DATA + 2, 0xffff800000001000, 8);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x01, 0x1b), 0); /* lidt [rbx] */
	assert_true(c->s.idtr.base == 0xffff800000001000 && c->s.idtr.limit == 0x1ff);
	flat_poke(f, FLAT_DATA + 2, 0x8000000000001000, 8);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x01, 0x1b), X86_GP, 0);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x01, 0x0b), 0); /* sidt [rbx] */
	assert_true(flat_peek(f, FLAT_DATA + 2, 8) == 0xffff800000001000);
	/* LTR: 16 bytes, busy afterwards */
	flat_set_desc(f, FLAT_FREE, flat_desc(FLAT_TSS, 0x67, 0x89));
	flat_set_desc(f, FLAT_FREE + 8, 0xffffffff);
	c->r.gpr[RAX] = FLAT_FREE;
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x00, 0xd8), 0);
	assert_true(c->s.seg[TR].base == (0xffffffff00000000 | FLAT_TSS));
	assert_int_equal(c->s.seg[TR].ar, 0x8b);
	assert_int_equal(f->mem[FLAT_GDT + FLAT_FREE + 5], 0x8b);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x00, 0xd8), X86_GP, FLAT_FREE); /* busy now */
	c->r.gpr[RAX] = 0;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x00, 0xd8), X86_GP, 0);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x00, 0xd0), 0); /* lldt 0 */
	assert_true(c->s.seg[LDTR].ar & SEG_AR_UNUSABLE);
	flat_free(f);

	/* 16-bit operand size: 24 bits of base */
	f = flat_real();
	f->c.r.gpr[RBX] = 0;
	f->c.s.seg[DS].base = FLAT_DATA;
	flat_poke(f, FLAT_DATA, 0xffffffffffff, 6);
	assert_int_equal(FLAT_EXEC(f, 0x0f, 0x01, 0x17), 0); /* lgdt [bx] */
	assert_true(f->c.s.gdtr.base == 0xffffff);
	assert_int_equal(FLAT_EXEC(f, 0x66, 0x0f, 0x01, 0x17), 0);
	assert_true(f->c.s.gdtr.base == 0xffffffff);
	flat_free(f);
}

static void features(void **state)
{
	struct flatcpu *f = flat_long(0);

	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x0f, 0xb8, 0xc1), 0); /* popcnt */
	isa_feat_set(&f->c, FEAT_POPCNT, false);
	assert_fault(f, FLAT_EXEC(f, 0xf3, 0x0f, 0xb8, 0xc1), X86_UD, 0);
	/* TZCNT without BMI1 is BSF */
	f->c.r.gpr[RAX] = 0x55;
	f->c.r.gpr[RCX] = 0;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x0f, 0xbc, 0xc1), 0);
	assert_int_equal(f->c.r.gpr[RAX], 32);
	isa_feat_set(&f->c, FEAT_BMI1, false);
	f->c.r.gpr[RAX] = 0x55;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x0f, 0xbc, 0xc1), 0);
	assert_int_equal(f->c.r.gpr[RAX], 0x55);
	flat_free(f);
}

/* Stores that fault leave registers and flags as they were. */
static void nothing_on_fault(void **state)
{
	static const u8 insn[][5] = {
		{0x48, 0x01, 0x03},	  /* add [rbx], rax */
		{0x48, 0x0f, 0xc1, 0x03}, /* xadd [rbx], rax */
		{0x48, 0x87, 0x03},	  /* xchg [rbx], rax */
		{0x48, 0x0f, 0xb1, 0x0b}, /* cmpxchg [rbx], rcx */
		{0x48, 0xc1, 0x23, 3},	  /* shl [rbx], 3 */
		{0x8f, 0x03},		  /* pop [rbx] */
		{0x48, 0x0f, 0xab, 0x03}, /* bts [rbx], rax */
		{0xff, 0x13},		  /* call [rbx] */
		{0x48, 0xf7, 0x23},	  /* mul [rbx] */
	};
	struct flatcpu *f = flat_long(0);
	struct isa_regs before;
	unsigned k;

	f->c.r.gpr[RAX] = 0x1111;
	f->c.r.gpr[RBX] = FLAT_MEM + 0x1000;
	isa_set_flags(&f->c, 2 | X86_CF | X86_PF | X86_OF);
	for (k = 0; k < ARRAY_SIZE(insn); k++) {
		before = f->c.r;
		assert_int_equal(flat_exec(f, insn[k], 5), ISA_THROW_FAULT);
		assert_memory_equal(&before, &f->c.r, sizeof(before));
		assert_true(isa_flags(&f->c) == (2 | X86_CF | X86_PF | X86_OF));
		assert_true(f->c.s.rip == FLAT_CODE);
	}
	flat_free(f);
}

/* Flags written as a whole come back as written, every combination. */
static void all_flags(void **state)
{
	struct flatcpu *f = flat_long(0);
	unsigned k, cc;

	for (k = 0; k < 64; k++) {
		u64 fl = (k & 1 ? X86_CF : 0) | (k & 2 ? X86_PF : 0) | (k & 4 ? X86_AF : 0) |
			 (k & 8 ? X86_ZF : 0) | (k & 16 ? X86_SF : 0) | (k & 32 ? X86_OF : 0);

		isa_set_status(&f->c, fl);
		assert_true((isa_flags(&f->c) & X86_STATUS_FLAGS) == fl);
		for (cc = 0; cc < 16; cc++) {
			bool cf = fl & X86_CF, zf = fl & X86_ZF, sf = fl & X86_SF, of = fl & X86_OF;
			bool v[8] = {of, cf,	      zf,	cf || zf,
				     sf, fl & X86_PF, sf != of, zf || sf != of};

			/* jcc +0x10 */
			f->c.s.rip = FLAT_CODE;
			FLAT_EXEC(f, (u8)(0x70 | cc), 0x10);
			assert_true((f->c.s.rip == FLAT_CODE + 0x12) == (v[cc / 2] != (cc & 1)));
		}
	}
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_by_iopl),   cmocka_unit_test(privilege),
		cmocka_unit_test(debug_registers), cmocka_unit_test(tables),
		cmocka_unit_test(features),	   cmocka_unit_test(nothing_on_fault),
		cmocka_unit_test(all_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
