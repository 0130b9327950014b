/* SPDX-License-Identifier: MIT */
/*
 * Mode-based execute control of EPT12 in EPT02, one thing at a time (test_ept12.c has it at
 * random): shadow pages of their own, cached roots, rights of several levels, large leaves, what
 * INVEPT brings in line, and which of the two rights an access of L2 needs. SDM vol. 3C, 29.3.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ept12.h"

#define WB	   (6ull << 3)
#define LEAF(n, e) ((0x200000ull + (n)*PAGE_SIZE) | WB | (e))

static const u64 all[4] = {R, W, X, XU};

/* Tries all kinds of access to L2's @gpa; @rights are those that EPT12 gives it. */
static void expect(u64 gpa, unsigned rights)
{
	u64 hva;

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		unsigned what = (unsigned)all[i];
		int r = access_gpa(gpa, what, &hva);

		if (r != allows(rights, what))
			fail_msg("gpa %lx, rights %x, access %x, control %d: %d", gpa, rights, what,
				 mbec, r);
		if (!r)
			assert_int_equal(fault.exit_qualification, qualification(rights, what));
	}
	assert_int_equal(hw(gpa).rights, rights);
}

/* The control on and off over the same tables, without INVEPT: a root each, and pages of its own.
 */
static void on_and_off(void **state)
{
	const struct vcpu_stat *s;
	u64 misses, faults, hpa[2];

	begin(4, false);
	s = &v->arch->stat;
	put(PT(0), LEAF(0, R | W | EPT_XU));
	put(PT(0) + 8, LEAF(1, R | X));
	put(PT(0) + 16, LEAF(2, EPT_XU));
	put(PT(0) + 24, LEAF(3, X));
	put(PT(0) + 32, LEAF(4, R | EPT_XU | X));
	for (unsigned i = 0; i < 6; i++) {
		bool on = i % 2;

		enter_l2(eptp[0], on);
		requests();
		if (i < 2)
			hpa[on] = v->mmu->guest_mmu.roots[0].hpa;
		assert_int_equal(v->mmu->guest_mmu.roots[0].hpa, hpa[on]);
		if (i == 2)
			misses = s->root_misses;
		faults = s->pf_taken;
		expect(0, R | W | (on ? XU : 0));
		expect(PAGE_SIZE, R | X);
		expect(2 * PAGE_SIZE, on ? XU : 0);
		expect(3 * PAGE_SIZE, X);
		expect(4 * PAGE_SIZE, R | X | (on ? XU : 0));
		/* What is shadowed already does not fault any more. */
		if (i > 1) {
			u64 hva;

			faults = s->pf_taken;
			assert_int_equal(access_gpa(4 * PAGE_SIZE, XU, &hva), 1);
			assert_int_equal(s->pf_taken, faults);
		}
		/* Software's bits are not mistaken for it: without the control no entry has it. */
		for (unsigned n = 0; n < 5; n++)
			assert_int_equal(!!(hw(n * PAGE_SIZE).entry & EPT_XU),
					 on && n != 1 && n != 3);
		in_l1();
		requests();
	}
	assert_int_not_equal(hpa[0], hpa[1]);
	assert_int_equal(s->root_misses, misses);
	/* INVEPT is for both. */
	mmu_invept(v, INVEPT_SINGLE, eptp[0]);
	for (unsigned i = 0, n = 0; i < MMU_NROOTS; i++) {
		n += v->mmu->guest_mmu.roots[i].unsync;
		assert_true(i < MMU_NROOTS - 1 || n == 2);
	}
	fake_vm_free(kvm);
}

/* L1's changes of bit 10 in a table of leaves that has been left writable. */
static void changes(void **state)
{
	u64 hva;

	begin(4, false);
	kvm = v->kvm;
	put(PT(0), LEAF(0, E_ALL));
	put(PT(0) + 8, LEAF(1, E_ALL));
	for (unsigned i = 0; i < 8; i++) {
		/* One of them comes or goes at a time. */
		unsigned gray = i ^ i >> 1;
		u64 bits = (gray & 1 ? EPT_XU : 0) | (gray & 2 ? X : 0) | R;

		for (unsigned on = 0; on < 2; on++) {
			enter_l2(eptp[0], on);
			assert_int_equal(access_gpa(0, R, &hva), 1);
			assert_int_equal(access_gpa(PAGE_SIZE, R, &hva), 1);
		}
		store(PT(0), LEAF(0, bits));
		mmu_invept(v, INVEPT_SINGLE, eptp[0]);
		for (unsigned on = 0; on < 2; on++) {
			enter_l2(eptp[0], on);
			requests();
			/* Nothing stays of what is not allowed any more; the neighbour stays. */
			assert_false(hw(0).rights & ~(reference(eptp[0], 0).rights));
			assert_true(hw(PAGE_SIZE).present);
			expect(0, R | (unsigned)(bits & X) | (on && bits & EPT_XU ? XU : 0));
			in_l1();
		}
	}
	assert_int_not_equal(kvm->arch->stat.mmu_synced, 0);
	fake_vm_free(kvm);
}

/* A page table reached through directory entries of different rights: a shadow page for each. */
static void levels_together(void **state)
{
	static const struct {
		u64 dir, leaf;
		unsigned rights;
	} rows[] = {
		{E_ALL & ~EPT_XU, E_ALL, RWX},
		{E_ALL & ~(u64)X, E_ALL, R | W | XU},
		{E_ALL & ~EPT_XU, E_ALL & ~(u64)X, R | W},
		{R | EPT_XU, R | X, R},
		{EPT_XU, E_ALL, XU},
		{E_ALL, EPT_XU, XU},
		{EPT_XU, X, 0},
		{X, EPT_XU | R, 0},
	};

	begin(4, false);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		enter_l2(eptp[0], true);
		requests();
		store(PT(0) + i * 8, LEAF(i, rows[i].leaf));
		store(DIR, PT(0) | rows[i].dir);
		store(DIR + 8, PT(0) | E_ALL);
		mmu_invept(v, INVEPT_GLOBAL, 0);
		enter_l2(eptp[0], true);
		expect(i * PAGE_SIZE, rows[i].rights);
		/* The same table once more, with all that the leaf allows. */
		expect(2 * MB + i * PAGE_SIZE,
		       (unsigned)(rows[i].leaf & RWX) | (rows[i].leaf & EPT_XU ? XU : 0));
		expect(i * PAGE_SIZE, rows[i].rights);
	}
	fake_vm_free(kvm);
}

/* Bit 10 of a large leaf; also where EPT02 has to have small ones. */
static void large(void **state)
{
	for (unsigned small = 0; small < 2; small++) {
		for (unsigned bits = 0; bits < 4; bits++) {
			u64 e = R | W | (bits & 1 ? X : 0) | (bits & 2 ? EPT_XU : 0);
			unsigned rights = R | W | (bits & 1 ? X : 0) | (bits & 2 ? XU : 0);

			begin(4, false);
			if (small)
				assert_int_equal(
					fake_slot(kvm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM, mem), 0);
			put(DIR, 4 * MB | WB | EPT_LARGE | e);
			enter_l2(eptp[0], true);
			expect(0x5000, rights);
			assert_int_equal(kvm->arch->stat.pages_2m, !small);
			enter_l2(eptp[0], false);
			expect(0x5000, rights & RWX);
			/* Small ones in the place of the large one. */
			assert_int_equal(fake_slot(kvm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM, mem),
					 0);
			enter_l2(eptp[0], true);
			expect(0x6000, rights);
			assert_int_equal(kvm->arch->stat.pages_2m, 0);
			fake_vm_free(kvm);
		}
	}
}

/* 1 GiB, of which EPT02 has to have tables of its own on two levels. */
static void large_1g(void **state)
{
	for (unsigned bits = 0; bits < 4; bits++) {
		u64 e = R | W | (bits & 1 ? X : 0) | (bits & 2 ? EPT_XU : 0);
		unsigned rights = R | W | (bits & 1 ? X : 0) | (bits & 2 ? XU : 0);

		begin(4, false);
		put(UP(3), WB | EPT_LARGE | e);
		enter_l2(eptp[0], true);
		expect(4 * MB + 0x5000, rights);
		assert_int_equal(kvm->arch->stat.pages_2m, 1);
		/* Where L1's own tables are. */
		expect(0x5000, rights);
		assert_int_equal(kvm->arch->stat.pages_4k, 1);
		enter_l2(eptp[0], false);
		expect(0x5000, rights & RWX);
		fake_vm_free(kvm);
	}
}

/* Which entries are present, and which misconfigured, also where execute-only is not offered. */
static void misconfigurations(void **state)
{
	static const struct {
		u64 e;
		unsigned how;
		int outcome; /* 0: not present, 1: misconfigured, 2: neither */
	} rows[] = {
		{EPT_XU | WB, 0, 0},
		{EPT_XU | WB, EPT12_EXECONLY, 0},
		{EPT_XU | WB, EPT12_MBEC, 1},
		{EPT_XU | WB, EPT12_MBEC | EPT12_EXECONLY, 2},
		{X | WB, 0, 1},
		{X | WB, EPT12_EXECONLY, 2},
		{X | WB, EPT12_MBEC, 1},
		{R | EPT_XU | WB, EPT12_MBEC, 2},
		{W | EPT_XU | WB, EPT12_MBEC | EPT12_EXECONLY, 1},
		{W | EPT_XU | WB, EPT12_EXECONLY, 1},
		{EPT_XU | 2 << 3, EPT12_MBEC | EPT12_EXECONLY, 1},
		{EPT_XU | 2 << 3, EPT12_EXECONLY, 0},
		{EPT_XU | WB | BIT(50), EPT12_MBEC | EPT12_EXECONLY, 1},
		{EPT_XU | WB | BIT(50), EPT12_EXECONLY, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct guest_fault f = {0};
		gpa_t gpa;

		begin(4, false);
		put(PT(0), 0x200000 | rows[i].e);
		mmu_enter_ept12(v, eptp[0], rows[i].how);
		gpa = v->mmu->guest_mmu.gva_to_gpa(
			v, &v->mmu->guest_mmu, 0x123,
			PFERR_FETCH | PFERR_GUEST_FINAL | (rows[i].e & X ? 0 : PFERR_GVA_USER), &f);
		if (rows[i].outcome == 2) {
			assert_int_equal(gpa, 0x200123);
		} else {
			assert_int_equal(gpa, GPA_INVALID);
			assert_int_equal(!!(f.error & PFERR_RSVD), rows[i].outcome);
			if (!rows[i].outcome)
				assert_int_equal(f.exit_qualification, qualification(0, X));
		}
		fake_vm_free(kvm);
	}
}

/* A linear address is a user-mode one if U/S is set in all of L2's entries, or without paging; the
 * mode that L2 is in does not matter. */
static void whose_fetch(void **state)
{
	static const struct {
		u64 cr0, cr4, efer;
		u64 pde, pte;
		bool user;
	} rows[] = {
		{0, 0, 0, 0, 0, true},
		{CR0_PE, 0, 0, 0, 0, true},
		{CR0_PE | CR0_PG, 0, 0, 7, 7, true},
		{CR0_PE | CR0_PG, 0, 0, 3, 7, false},
		{CR0_PE | CR0_PG, 0, 0, 7, 3, false},
		{CR0_PE | CR0_PG, CR4_PAE, 0, 7, 7, true},
		{CR0_PE | CR0_PG, CR4_PAE, 0, 3, 7, false},
		{CR0_PE | CR0_PG, CR4_PAE, 0, 7, 3, false},
		{CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, 7, 7, true},
		{CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, 3, 7, false},
		{CR0_PE | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, 7, 3, false},
		{CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, EFER_LME | EFER_LMA, 7, 7, true},
		{CR0_PE | CR0_PG, CR4_PAE | CR4_LA57, EFER_LME | EFER_LMA, 7, 3, false},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned bits = 0; bits < 4; bits++) {
			unsigned rights = R | (bits & 1 ? X : 0) | (bits & 2 ? XU : 0);
			bool paging = rows[i].cr0 & CR0_PG;
			u64 access = PFERR_FETCH | (rows[i].user && bits & 1 ? PFERR_USER : 0);
			struct guest_fault f = {0};
			gpa_t gpa;

			begin(4, false);
			/* L2's page 0 is what is executed, 1 to 5 its tables. */
			put(PT(0), LEAF(0, R | (bits & 1 ? X : 0) | (bits & 2 ? EPT_XU : 0)));
			for (unsigned n = 1; n < 6; n++) {
				u64 below = (n - 1ull) * PAGE_SIZE;

				put(PT(0) + n * 8, LEAF(n, R | W));
				put(0x200000 + n * PAGE_SIZE, below | 0x20 |
								      (n == 1	? rows[i].pte
								       : n == 2 ? rows[i].pde
										: 7));
			}
			enter_l2(eptp[0], true);
			v->regs.pdptr[0] = 2 * PAGE_SIZE | 1;
			fake_regs(v, rows[i].cr0,
				  (rows[i].cr4 & CR4_LA57    ? 5
				   : rows[i].efer & EFER_LMA ? 4
				   : rows[i].cr4 & CR4_PAE   ? 3
							     : 2) *
					  PAGE_SIZE,
				  rows[i].cr4, rows[i].efer);
			mmu_reset_context(v);
			gpa = mmu_gva_to_gpa_system(v, 0x123, access, &f);
			if (rights & (rows[i].user ? XU : X)) {
				assert_int_equal(gpa, 0x200123);
			} else {
				assert_int_equal(gpa, GPA_INVALID);
				assert_true(f.nested && !f.from_exit);
				assert_int_equal(f.exit_qualification, qualification(rights, X));
				assert_int_equal(f.gva, 0x123);
			}
			/* Data does not care. */
			assert_int_equal(mmu_gva_to_gpa_system(v, 0x123, 0, &f), 0x200123);
			assert_true(paging || !rows[i].pte);
			fake_regs(v, 0, 0, 0, 0);
			fake_vm_free(kvm);
		}
	}
}

/* Bit 9 of a qualification says something of fetches of the translated address only. */
static void error_code(void **state)
{
	const u64 final = EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED,
		  user = EPT_VIOLATION_GVA_USER;

	assert_true(mmu_ept_error_code(EPT_VIOLATION_FETCH | final | user) & PFERR_GVA_USER);
	assert_false(mmu_ept_error_code(EPT_VIOLATION_FETCH | final) & PFERR_GVA_USER);
	assert_false(mmu_ept_error_code(EPT_VIOLATION_READ | final | user) & PFERR_GVA_USER);
	assert_false(mmu_ept_error_code(EPT_VIOLATION_FETCH | EPT_VIOLATION_GVA_VALID | user) &
		     PFERR_GVA_USER);
	assert_false(mmu_ept_error_code(EPT_VIOLATION_FETCH | user) & PFERR_GVA_USER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_and_off),	   cmocka_unit_test(changes),
		cmocka_unit_test(levels_together), cmocka_unit_test(large),
		cmocka_unit_test(large_1g),	   cmocka_unit_test(misconfigurations),
		cmocka_unit_test(whose_fetch),	   cmocka_unit_test(error_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
