/* SPDX-License-Identifier: MIT */
/* Generated code: one stub for equal instructions, the limit on its amount, threads, fault order.
 */
#include <pthread.h>

#include "cm.h"
#include "isa/exec/native.h"

static struct flatcpu *cpu(void)
{
	struct flatcpu *f = flat_long(3);

	f->c.s.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	f->c.r.xcr0 = 7;
	f->c.r.gpr[RBX] = FLAT_DATA;
	return f;
}

static void test_shared(void **state)
{
	static const u8 a[] = {0x66, 0x0f, 0xfe, 0x03}, b[] = {0x66, 0x0f, 0xfe, 0x41, 0x10};
	struct isa_insn ia, ib;
	struct flatcpu *f = cpu();
	size_t used;

	f->c.r.gpr[RCX] = FLAT_DATA;
	isa_decode(a, sizeof(a), ISA_LONG64, &ia); /* paddd xmm0, [rbx] */
	isa_decode(b, sizeof(b), ISA_LONG64, &ib); /* paddd xmm0, [rcx + 16] */
	assert_int_equal(_setjmp(f->catch), 0);
	f->c.insn = &ia;
	ia.exec(&f->c, &ia);
	used = native_code_used();
	ib.exec(&f->c, &ib);
	assert_ptr_equal(ia.priv, ib.priv);
	assert_int_equal(native_code_used(), used);
	isa_insn_release(&ia);
	assert_null(ia.priv);
	flat_free(f);
}

/* With no room left every execution makes its code anew, and is right all the same. */
static void test_limit(void **state)
{
	struct flatcpu *f = cpu();
	size_t before = native_code_limit, used = native_code_used();
	unsigned k;

	native_code_limit = 0;
	for (k = 0; k < 256; k++) {
		u8 pshufd[] = {0x66, 0x45, 0x0f, 0x70, 0xd1, (u8)k};
		unsigned d;

		for (d = 0; d < 4; d++)
			f->c.r.vec[9].d[d] = d + 1;
		assert_int_equal(flat_exec(f, pshufd, sizeof(pshufd)), 0);
		for (d = 0; d < 4; d++)
			assert_int_equal(f->c.r.vec[10].d[d], (k >> (2 * d) & 3) + 1);
	}
	FLAT_EXEC(f, 0xdb, 0xe3); /* fninit */
	flat_poke(f, FLAT_DATA, 0x3ff0000000000000, 8);
	assert_int_equal(FLAT_EXEC(f, 0xdd, 0x03), 0);	     /* fld qword [rbx] */
	assert_int_equal(FLAT_EXEC(f, 0xdd, 0x5b, 0x10), 0); /* fstp qword [rbx + 16] */
	assert_int_equal(flat_peek(f, FLAT_DATA + 16, 8), 0x3ff0000000000000);
	assert_int_equal(native_code_used(), used);
	native_code_limit = before;
	flat_free(f);
}

static void *adder(void *arg)
{
	struct flatcpu *f = cpu();
	u64 sum = 0;
	unsigned k;

	for (k = 0; k < 4000; k++) {
		/* paddq xmm(k & 15), [rbx] */
		u8 paddq[] = {0x66, (u8)(0x40 | (k & 8) >> 1), 0x0f, 0xd4, (u8)(3 | (k & 7) << 3)};

		struct isa_insn i;

		flat_poke(f, FLAT_DATA, k, 8);
		isa_decode(paddq, sizeof(paddq), ISA_LONG64, &i);
		if (_setjmp(f->catch))
			break;
		f->c.insn = &i;
		i.exec(&f->c, &i);
	}
	for (k = 0; k < 16; k++)
		sum += f->c.r.vec[k].q[0];
	flat_free(f);
	*(u64 *)arg = sum;
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t t[4];
	u64 sum[4];
	unsigned k;

	for (k = 0; k < 4; k++)
		assert_int_equal(pthread_create(&t[k], NULL, adder, &sum[k]), 0);
	for (k = 0; k < 4; k++) {
		pthread_join(t[k], NULL);
		assert_int_equal(sum[k], 4000ull * 3999 / 2);
	}
}

/* Alignment before paging; masked elements are not touched; gathers keep what is done. */
static void test_faults(void **state)
{
	struct flatcpu *f = cpu();
	union isa_vec *v = f->c.r.vec;

	f->c.r.gpr[RBX] = FLAT_MEM + 8;
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x28, 0x03), X86_GP, 0);	      /* movaps */
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x58, 0x03), X86_GP, 0);	      /* addps */
	assert_fault(f, FLAT_EXEC(f, 0x0f, 0x10, 0x03), X86_PF_VEC, 4);	      /* movups */
	assert_fault(f, FLAT_EXEC(f, 0xc5, 0xf8, 0x58, 0x03), X86_PF_VEC, 4); /* vaddps */

	/* vmaskmovps [rbx], ymm1, ymm2 over the end of memory */
	f->c.r.gpr[RBX] = FLAT_MEM - 16;
	memset(v[1].b, 0, 32);
	v[1].d[0] = v[1].d[3] = 0x80000000;
	v[2].d[0] = 0x11111111;
	v[2].d[3] = 0x44444444;
	assert_int_equal(FLAT_EXEC(f, 0xc4, 0xe2, 0x75, 0x2e, 0x13), 0);
	assert_int_equal(flat_peek(f, FLAT_MEM - 16, 4), 0x11111111);
	assert_int_equal(flat_peek(f, FLAT_MEM - 12, 4), 0);
	v[1].d[4] = 0x80000000;
	v[2].d[0] = 0x99999999;
	assert_fault(f, FLAT_EXEC(f, 0xc4, 0xe2, 0x75, 0x2e, 0x13), X86_PF_VEC, 6);
	assert_int_equal(flat_peek(f, FLAT_MEM - 16, 4), 0x11111111);

	/* vpgatherdd xmm0, [rbx + xmm1 * 4], xmm2: the third element faults */
	memset(v[0].b, 0xaa, 32);
	v[1].d[0] = 0, v[1].d[1] = 3, v[1].d[2] = 4, v[1].d[3] = 0;
	v[2].d[0] = v[2].d[1] = v[2].d[2] = v[2].d[3] = ~0u;
	assert_fault(f, FLAT_EXEC(f, 0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8b), X86_PF_VEC, 4);
	assert_int_equal(v[0].d[0], 0x11111111);
	assert_int_equal(v[0].d[1], 0x44444444);
	assert_int_equal(v[0].d[2], 0xaaaaaaaa);
	assert_int_equal(v[2].d[1], 0);
	assert_int_equal(v[2].d[2], ~0u);
	flat_free(f);
}

static void test_runnable(void **state)
{
	assert_true(isa_feat_runnable(FEAT_SSE2));
	assert_true(isa_feat_runnable(FEAT_FPU));
	assert_true(isa_feat_runnable(FEAT_SMAP)); /* not the host's business */
	assert_int_equal(isa_feat_runnable(FEAT_AVX2), __builtin_cpu_supports("avx2") != 0);
	assert_int_equal(isa_feat_runnable(FEAT_FMA), __builtin_cpu_supports("fma") != 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared),	 cmocka_unit_test(test_limit),
		cmocka_unit_test(test_threads),	 cmocka_unit_test(test_faults),
		cmocka_unit_test(test_runnable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
