/* SPDX-License-Identifier: MIT */
/* Which control bits make which instructions #UD, #NM or #MF: SDM vol. 3A, 13.1 and tables 2-2 and
 * 12-1, vol. 2A, tables 2-18 to 2-27. */
#include "cm.h"

#define GO_SSE (CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE)

struct gate_row {
	const char *name;
	u8 bytes[6];
	u8 n;
	/* Fault by (EM, TS) with CR4 all set; then with OSFXSR clear, OSXSAVE clear, XCR0 = 3. */
	u8 em, ts, no_osfxsr, no_osxsave, no_ymm;
};
#define OK 0xff
static const struct gate_row rows[] = {
	{"fld1", {0xd9, 0xe8}, 2, X86_NM, X86_NM, OK, OK, OK},
	{"fninit", {0xdb, 0xe3}, 2, X86_NM, X86_NM, OK, OK, OK},
	{"paddb mm0, mm1", {0x0f, 0xfc, 0xc1}, 3, X86_UD, X86_NM, OK, OK, OK},
	{"emms", {0x0f, 0x77}, 2, X86_UD, X86_NM, OK, OK, OK},
	{"paddb xmm0, xmm1", {0x66, 0x0f, 0xfc, 0xc1}, 4, X86_UD, X86_NM, X86_UD, OK, OK},
	{"addps xmm0, xmm1", {0x0f, 0x58, 0xc1}, 3, X86_UD, X86_NM, X86_UD, OK, OK},
	{"movaps xmm0, xmm1", {0x0f, 0x28, 0xc1}, 3, X86_UD, X86_NM, X86_UD, OK, OK},
	{"movq2dq xmm0, mm1", {0xf3, 0x0f, 0xd6, 0xc1}, 4, X86_UD, X86_NM, X86_UD, OK, OK},
	{"vaddps xmm0, xmm0, xmm1", {0xc5, 0xf8, 0x58, 0xc1}, 4, OK, X86_NM, OK, X86_UD, X86_UD},
	{"vzeroupper", {0xc5, 0xf8, 0x77}, 3, OK, X86_NM, OK, X86_UD, X86_UD},
	{"andn eax, eax, ecx", {0xc4, 0xe2, 0x78, 0xf2, 0xc1}, 5, OK, OK, OK, OK, OK},
	{"fxsave [rbx]", {0x0f, 0xae, 0x03}, 3, X86_NM, X86_NM, OK, OK, OK},
	{"xsave [rbx]", {0x0f, 0xae, 0x23}, 3, OK, X86_NM, OK, X86_UD, OK},
};

static struct flatcpu *cpu64(void)
{
	struct flatcpu *f = flat_long(0);

	f->c.s.cr4 |= GO_SSE;
	f->c.s.cr0 |= CR0_NE | CR0_MP;
	f->c.r.xcr0 = 7;
	f->c.r.x87.fcw = 0x37f;
	f->c.r.gpr[RBX] = FLAT_DATA;
	return f;
}

static void expect(const struct gate_row *r, u64 cr0, u64 cr4, u64 xcr0, u8 want)
{
	struct flatcpu *f = cpu64();
	int what;

	f->c.s.cr0 |= cr0;
	f->c.s.cr4 = (f->c.s.cr4 | CR4_OSXSAVE) & ~cr4;
	f->c.r.xcr0 = xcr0;
	what = flat_exec(f, r->bytes, r->n);
	if (flat_fault(f, what) != (want == OK ? -1 : FLAT_FAULT(want, 0)))
		fail_msg("%s: fault %d, not %d", r->name, flat_fault(f, what), want);
	flat_free(f);
}

static void test_rows(void **state)
{
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(rows); k++) {
		const struct gate_row *r = &rows[k];

		expect(r, 0, 0, 7, OK);
		expect(r, CR0_EM, 0, 7, r->em);
		expect(r, CR0_TS, 0, 7, r->ts);
		expect(r, 0, CR4_OSFXSR, 7, r->no_osfxsr);
		expect(r, 0, CR4_OSXSAVE, 7, r->no_osxsave);
		expect(r, 0, 0, 3, r->no_ymm);
	}
}

static void test_fwait(void **state)
{
	struct flatcpu *f = cpu64();

	f->c.s.cr0 |= CR0_TS;
	assert_fault(f, FLAT_EXEC(f, 0x9b), X86_NM, 0);
	f->c.s.cr0 &= ~CR0_MP;
	assert_int_equal(FLAT_EXEC(f, 0x9b), 0);
	flat_free(f);
}

/* A pending exception: waiting instructions raise #MF, the others do not. */
static void test_mf(void **state)
{
	struct flatcpu *f = cpu64();

	f->c.r.x87.fcw = 0x37e;
	f->c.r.x87.fsw = 0x8081;
	assert_fault(f, FLAT_EXEC(f, 0x9b), X86_MF, 0);
	assert_fault(f, FLAT_EXEC(f, 0xd9, 0xe8), X86_MF, 0);
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0xfc, 0xc1), X86_MF, 0);
	assert_int_equal(FLAT_EXEC(f, 0x66, 0x0f, 0xfc, 0xc1), 0);
	assert_int_equal(FLAT_EXEC(f, 0xdf, 0xe0), 0); /* fnstsw ax */
	assert_int_equal(f->c.r.gpr[RAX] & 0xffff, 0x8081);
	assert_int_equal(f->n_icpt[ICPT_FERR], 0);
	f->c.s.cr0 &= ~CR0_NE;
	flat_exec(f, (const u8[]){0x9b}, 1);
	assert_int_equal(f->n_icpt[ICPT_FERR], 1);
	assert_int_equal(FLAT_EXEC(f, 0xdb, 0xe2), 0); /* fnclex */
	assert_int_equal(f->c.r.x87.fsw, 0);
	assert_int_equal(FLAT_EXEC(f, 0x9b), 0);
	flat_free(f);
}

/* 1.0 / 0.0 with ZM clear: #XM, or #UD without OSXMMEXCPT; the register keeps its value. */
static void test_xm(void **state)
{
	struct flatcpu *f = cpu64();

	f->c.r.vec[0].f[0] = 1.0f;
	f->c.r.x87.mxcsr = 0x1f80 & ~0x200u;
	assert_fault(f, FLAT_EXEC(f, 0xf3, 0x0f, 0x5e, 0xc1), X86_XM, 0);
	assert_int_equal(f->c.r.x87.mxcsr, 0x1d84);
	assert_int_equal(f->c.r.vec[0].d[0], 0x3f800000);
	f->c.s.cr4 &= ~CR4_OSXMMEXCPT;
	assert_fault(f, FLAT_EXEC(f, 0xf3, 0x0f, 0x5e, 0xc1), X86_UD, 0);
	f->c.r.x87.mxcsr = 0x1f80;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x0f, 0x5e, 0xc1), 0);
	assert_int_equal(f->c.r.vec[0].d[0], 0x7f800000);
	flat_free(f);
}

/* CPUID bits: rows and their wider forms. */
static void test_features(void **state)
{
	struct flatcpu *f = cpu64();

	isa_feat_set(&f->c, FEAT_AVX2, false);
	assert_int_equal(FLAT_EXEC(f, 0xc5, 0xf9, 0xfc, 0xc1), 0);	  /* vpaddb xmm */
	assert_fault(f, FLAT_EXEC(f, 0xc5, 0xfd, 0xfc, 0xc1), X86_UD, 0); /* vpaddb ymm */
	assert_int_equal(FLAT_EXEC(f, 0xc5, 0xfc, 0x58, 0xc1), 0);	  /* vaddps ymm */
	isa_feat_set(&f->c, FEAT_SSE42, false);
	assert_fault(f, FLAT_EXEC(f, 0x66, 0x0f, 0x38, 0x37, 0xc1), X86_UD, 0); /* pcmpgtq */
	isa_feat_set(&f->c, FEAT_BMI1, false);
	assert_fault(f, FLAT_EXEC(f, 0xc4, 0xe2, 0x78, 0xf2, 0xc1), X86_UD, 0); /* andn */
	flat_free(f);
}

/* VEX in real mode is LES or LDS; in 32-bit code the same bytes with mod 3 are VEX. */
static void test_modes(void **state)
{
	struct flatcpu *f = flat_prot(0);

	f->c.s.cr4 |= GO_SSE;
	f->c.r.xcr0 = 7;
	f->c.r.vec[1].q[0] = 3;
	assert_int_equal(FLAT_EXEC(f, 0xc5, 0xf9, 0xd4, 0xc1), 0); /* vpaddq xmm0, xmm0, xmm1 */
	assert_int_equal(f->c.r.vec[0].q[0], 3);
	flat_free(f);
	f = flat_real();
	f->c.s.cr4 |= GO_SSE;
	f->c.r.xcr0 = 7;
	f->c.r.vec[1].q[0] = 3;
	assert_int_equal(FLAT_EXEC(f, 0x66, 0x0f, 0xd4, 0xc1), 0); /* paddq xmm0, xmm1 */
	assert_int_equal(f->c.r.vec[0].q[0], 3);
	flat_free(f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),	 cmocka_unit_test(test_fwait),
		cmocka_unit_test(test_mf),	 cmocka_unit_test(test_xm),
		cmocka_unit_test(test_features), cmocka_unit_test(test_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
