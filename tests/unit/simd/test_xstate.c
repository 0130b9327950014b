/* SPDX-License-Identifier: MIT */
/* XSAVES, PKRU, and the hypervisor's import and export (SDM vol. 1, chapter 13). The user-level
 * instructions are compared with the host's in tests/insn. */
#include <errno.h>

#include "cm.h"

static struct flatcpu *cpu(unsigned cpl)
{
	struct flatcpu *f = flat_long(cpl);
	unsigned k;

	f->c.s.cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	f->c.r.xcr0 = 0x207;
	f->c.r.x87.fcw = 0x37f;
	f->c.r.gpr[RBX] = FLAT_DATA;
	f->c.r.gpr[RAX] = f->c.r.gpr[RDX] = 0xffffffff;
	for (k = 0; k < 16; k++) {
		f->c.r.vec[k].q[0] = 0x1000 + k;
		f->c.r.vec[k].q[3] = 0x2000 + k;
	}
	f->c.r.pkru = 0x55555554;
	return f;
}

static void test_sizes(void **state)
{
	u32 off;

	assert_int_equal(isa_xsave_size(3, false), 576);
	assert_int_equal(isa_xsave_size(7, false), 832);
	assert_int_equal(isa_xsave_size(0x207, false), 2696);
	assert_int_equal(isa_xsave_size(0x207, true), 840);
	assert_int_equal(isa_xsave_size(0x203, true), 584);
	assert_int_equal(isa_xsave_component(2, &off), 256);
	assert_int_equal(off, 576);
	assert_int_equal(isa_xsave_component(5, &off), 0);
}

static void test_xsaves(void **state)
{
	struct flatcpu *f = cpu(0);
	struct isa_regs before = f->c.r;

	memset(f->mem + FLAT_DATA, 0xee, 1024);
	assert_int_equal(FLAT_EXEC(f, 0x48, 0x0f, 0xc7, 0x2b), 0); /* xsaves64 [rbx] */
	assert_int_equal(f->n_icpt[ICPT_XSAVES], 1);
	/* x87 holds +0.0 in all registers after reset: in use. */
	assert_int_equal(flat_peek(f, FLAT_DATA + 512, 8), 0x207);
	assert_int_equal(flat_peek(f, FLAT_DATA + 520, 8), 1ull << 63 | 0x207);
	assert_int_equal(flat_peek(f, FLAT_DATA + 576 + 8, 8), 0x2000);
	assert_int_equal(flat_peek(f, FLAT_DATA + 832, 4), 0x55555554);
	memset(f->c.r.vec, 0, sizeof(f->c.r.vec));
	f->c.r.pkru = 0;
	memset(f->mem + FLAT_DATA + 528, 0, 48);
	assert_int_equal(FLAT_EXEC(f, 0x48, 0x0f, 0xc7, 0x1b), 0); /* xrstors64 [rbx] */
	assert_memory_equal(f->c.r.vec, before.vec, sizeof(before.vec));
	assert_int_equal(f->c.r.pkru, before.pkru);
	/* Standard format is not for XRSTORS; CPL 3 neither. */
	flat_poke(f, FLAT_DATA + 520, 0, 8);
	assert_fault(f, FLAT_EXEC(f, 0x48, 0x0f, 0xc7, 0x1b), X86_GP, 0);
	f->c.r.gpr[RBX] += 32;
	assert_fault(f, FLAT_EXEC(f, 0x48, 0x0f, 0xc7, 0x2b), X86_GP, 0);
	flat_free(f);
	f = cpu(3);
	assert_fault(f, FLAT_EXEC(f, 0x48, 0x0f, 0xc7, 0x2b), X86_GP, 0);
	flat_free(f);
}

static void test_export_import(void **state)
{
	struct flatcpu *f = cpu(0), *g = cpu(0);
	u8 area[4096];
	u64 hdr;

	isa_xsave_export(&f->c.r, area, sizeof(area), 0x207);
	memset(&g->c.r.vec, 0, sizeof(g->c.r.vec));
	g->c.r.pkru = 0;
	assert_int_equal(isa_xsave_import(&g->c.r, area, sizeof(area), 0x207), 0);
	assert_memory_equal(g->c.r.vec, f->c.r.vec, sizeof(f->c.r.vec));
	assert_memory_equal(&g->c.r.x87, &f->c.r.x87, 32);
	assert_int_equal(g->c.r.pkru, f->c.r.pkru);
	/* The same area by XRSTOR. */
	memcpy(f->mem + FLAT_DATA, area, sizeof(area));
	memset(&f->c.r.vec, 0, sizeof(f->c.r.vec));
	assert_int_equal(FLAT_EXEC(f, 0x48, 0x0f, 0xae, 0x2b), 0);
	assert_memory_equal(g->c.r.vec, f->c.r.vec, sizeof(f->c.r.vec));
	/* Unknown components, bad header, bad MXCSR, too small. */
	hdr = 0x27;
	memcpy(area + 512, &hdr, 8);
	assert_int_equal(isa_xsave_import(&g->c.r, area, sizeof(area), 0x207), -EINVAL);
	hdr = 7;
	memcpy(area + 512, &hdr, 8);
	assert_int_equal(isa_xsave_import(&g->c.r, area, sizeof(area), 0x207), 0);
	assert_int_equal(g->c.r.pkru, 0);
	area[520] = 1;
	assert_int_equal(isa_xsave_import(&g->c.r, area, sizeof(area), 0x207), -EINVAL);
	area[520] = 0;
	area[26] = 1;
	assert_int_equal(isa_xsave_import(&g->c.r, area, sizeof(area), 0x207), -EINVAL);
	assert_int_equal(isa_xsave_import(&g->c.r, area, 575, 0x207), -EINVAL);
	flat_free(f);
	flat_free(g);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_xsaves),
		cmocka_unit_test(test_export_import),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
