/* SPDX-License-Identifier: MIT */
/*
 * EPT of a guest hypervisor (EPT12) against its shadow (EPT02). The test plays L1, which changes
 * its tables at random through its own mapping of them and flushes by INVEPT; L2, which accesses
 * memory; and the processor, with a walk of its own through EPT02. The reference is a walk of EPT12
 * after SDM vol. 3C, 29.3: what it allows must get through with accessed and dirty flags set, what
 * it does not must end in L1 with the qualification of table 28-7 or as a misconfiguration, and
 * nothing that is left in EPT02 after a flush may allow more.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ept12.h"

#define STEPS 30000

/* ---- L2 ---- */

static u64 root;

/* L1 has the control on and off in turn, and flushes nothing when it changes it. */
static void in_l2(void)
{
	root = eptp[rnd() % NROOT];
	enter_l2(root, rnd() % 2);
}

static u64 random_gpa(void)
{
	return rnd() % (3 * 512) * PAGE_SIZE;
}

/* The last ones that L2 got at. */
static u64 recent[8];
static u64 recent_gpa(void)
{
	return recent[rnd() % ARRAY_SIZE(recent)];
}

static void check_access(void)
{
	u64 gpa = (rnd() % 4 ? random_gpa() : recent_gpa()) | (rnd() & 0xff8), hva = 0, q;
	unsigned what = 1u << rnd() % 4;
	struct walk w;
	int r;

	in_l2();
	w = reference(root, gpa);
	r = access_gpa(gpa, what, &hva);
	if (w.misconfig) {
		assert_int_equal(r, 0);
		assert_true(fault.nested && fault.error & PFERR_RSVD);
		assert_int_equal(fault.addr, gpa);
		return;
	}
	if (!allows(w.rights, what)) {
		if (r)
			fail_msg("gpa %lx: %u gets through, rights %u", gpa, what, w.rights);
		q = qualification(w.rights, what);
		assert_true(fault.nested && fault.from_exit && !(fault.error & PFERR_RSVD));
		assert_int_equal(fault.addr, gpa);
		assert_int_equal(fault.exit_qualification, q);
		return;
	}
	if (!r)
		fail_msg("gpa %lx: %u does not get through, rights %u", gpa, what, w.rights);
	if (r == 2) {
		/* Only L1's tables, and what is not memory. */
		assert_true(w.pa >= MEM || (what == W && w.pa - TABLES < NTABLES * PAGE_SIZE));
		return;
	}
	assert_int_equal(hva, (u64)mem + w.pa);
	recent[rnd() % ARRAY_SIZE(recent)] = gpa & PAGE_MASK;
	for (int l = w.leaf; ad && l <= levels; l++) {
		assert_true(get(w.entry[l]) & EPT_A);
		if (what == W && l == w.leaf)
			assert_true(get(w.entry[l]) & EPT_D);
	}
}

/* After a flush: of the root that L2 was on last, or another one. */
static void check_all(bool same)
{
	if (same)
		enter_l2(root, mbec);
	else
		in_l2();
	requests();
	for (u64 gpa = 0; gpa < 3 * 512 * PAGE_SIZE; gpa += PAGE_SIZE) {
		struct xlate s = hw(gpa);
		struct walk w;

		if (!s.present)
			continue;
		w = reference(root, gpa);
		if (w.misconfig || s.rights & ~w.rights || s.hva != (u64)mem + w.pa)
			fail_msg("gpa %lx is stale", gpa);
		if (ad && s.rights & W && !(get(w.entry[w.leaf]) & EPT_D))
			fail_msg("gpa %lx is clean in EPT12 and writable", gpa);
	}
}

static u64 random_leaf(void)
{
	static const u8 bad[] = {2, 3, 7};
	u64 pa = rnd() % 16  ? rnd() % (MEM / PAGE_SIZE)
		 : rnd() % 2 ? (TABLES >> 12) + rnd() % NTABLES
			     : (MEM >> 12) + rnd() % 16;
	u64 e = pa << 12 | (rnd() & E_ALL) | 6 << 3;

	if ((e & (R | W)) == W && rnd() % 8)
		e |= R;
	if (rnd() % 32 == 0)
		e = (e & ~0x38ull) | (u64)bad[rnd() % 3] << 3;
	if (rnd() % 64 == 0)
		e |= 1ull << 47;
	if (rnd() % 2)
		e |= EPT_A;
	if (rnd() % 2)
		e |= EPT_D;
	return e;
}

static void random_store(void)
{
	static const u64 one_right[] = {R, W, X, EPT_XU};
	u64 gpa = random_gpa(), at, old, e;

	in_l2();
	switch (rnd() % 8) {
	default:
		at = PT(gpa >> 21 & 1) + (gpa >> 12 & 511) * 8;
		e = random_leaf();
		break;
	case 2:
	case 3: /* one right more or less of the same page */
		gpa = recent_gpa();
		at = PT(gpa >> 21 & 1) + (gpa >> 12 & 511) * 8;
		e = get(at) ^ one_right[rnd() % ARRAY_SIZE(one_right)];
		break;
	case 0: /* directory: a table, or a large page */
		at = DIR + rnd() % 3 * 8;
		e = rnd() % 2 ? PT(rnd() % 2) | (rnd() & E_ALL)
			      : rnd() % (MEM >> 21) << 21 | (rnd() & E_ALL) | 0x80 | 6 << 3 | EPT_A;
		if ((e & (R | W)) == W && rnd() % 4)
			e |= R;
		break;
	case 1: /* a root's entry */
		at = ROOT(rnd() % NROOT);
		e = (levels == 5 ? UP(4) : UP(3)) | (rnd() % 4 ? E_ALL : rnd() & E_ALL);
		break;
	}
	old = get(at);
	store(at, e);
	/* What was not present, or misconfigured, is not cached. */
	if (old & E_ALL || rnd() % 2) {
		invept(root);
		if (rnd() % 4 == 0)
			check_all(true);
	}
}

/* Pages that L2 writes while logging is on are in the log; nothing stays writable behind it. */
static void log_writes(void)
{
	u64 bits[MEM / PAGE_SIZE / 64], hva;

	assert_int_equal(fake_slot(kvm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM, mem), 0);
	assert_int_equal(vm_get_dirty_log(kvm, 0, bits, sizeof(bits)), 0);
	for (int i = 0; i < 50; i++) {
		u64 gpa = random_gpa();
		struct walk w;

		in_l2();
		w = reference(root, gpa);
		/* Reading must not open the page for writes that are not logged. */
		if (rnd() % 2)
			(void)access_gpa(gpa, R, &hva);
		if (access_gpa(gpa, W, &hva) != 1)
			continue;
		memset(bits, 0, sizeof(bits));
		assert_int_equal(vm_get_dirty_log(kvm, 0, bits, sizeof(bits)), 0);
		assert_true(bits[w.pa >> 12 >> 6] >> (w.pa >> 12 & 63) & 1);
		assert_false(hw(gpa).rights & W);
	}
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
}

/* The memory goes away and comes back elsewhere, under a running L2. */
static void move_memory(void)
{
	char *old = mem;

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
	mem = fake_memory(MEM, rnd() % 2 ? 0 : 0x5000);
	memcpy(mem, old, MEM);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
	memset(old, 0xee, MEM);
	check_all(false);
}

static void run(void)
{
	rnd_state = 0x13572468;
	mem = fake_memory(MEM, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
	build();
	for (int i = 0; i < STEPS; i++) {
		v = kvm->vcpus[rnd() % NVCPU];
		if (rnd() % 4)
			check_access();
		else
			random_store();
		if (i % 512 == 511)
			log_writes();
		if (i % 2048 == 2047)
			move_memory();
		if (i % 64 == 63) {
			invept(root);
			check_all(false);
		}
	}
}

static void random_ept12(void **state)
{
	for (levels = 4; levels <= 5; levels++) {
		for (int flags = 0; flags < 2; flags++) {
			ad = flags;
			fake_ept_cap |= VMX_EPT_PAGE_WALK_5;
			kvm = fake_vm(NVCPU);
			run();
			assert_int_not_equal(kvm->vcpus[0]->arch->stat.root_hits, 0);
			assert_int_not_equal(kvm->vcpus[0]->arch->stat.root_syncs, 0);
			/* And with hardly any room for tables. */
			assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
			kvm->mmu->requested = 24;
			run();
			assert_int_not_equal(kvm->arch->stat.mmu_recycled, 0);
			assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
			assert_int_equal(kvm->arch->stat.pages_4k + kvm->arch->stat.pages_2m, 0);
			fake_vm_free(kvm);
		}
	}
}

/* INVEPT keeps roots and their pages: L2's next access after it does not fault. */
static void invept_defers(void **state)
{
	u64 hva, e = 0x200000 | R | W | X | 6 << 3, frees, hpa;

	begin(4, false);
	memcpy(mem + PT(0), &e, 8);
	mmu_enter_ept12(v, eptp[0], EPT12_EXECONLY);
	assert_int_equal(access_gpa(0, R, &hva), 1);
	hpa = v->mmu->guest_mmu.roots[0].hpa;
	in_l1();
	requests();
	frees = v->arch->stat.root_frees;
	mmu_invept(v, INVEPT_SINGLE, eptp[1]);
	assert_false(v->mmu->guest_mmu.roots[0].unsync);
	/* The table counts, not the memory type. */
	mmu_invept(v, INVEPT_SINGLE, eptp[0] & ~7ull);
	assert_true(v->mmu->guest_mmu.roots[0].unsync);
	assert_false(v->req.pending & BIT(REQ_MMU_SYNC));
	mmu_enter_ept12(v, eptp[0], EPT12_EXECONLY);
	assert_true(v->req.pending & BIT(REQ_MMU_SYNC));
	assert_true(v->req.pending & BIT(REQ_TLB_FLUSH_CURRENT));
	assert_true(v->req.pending & BIT(REQ_LOAD_MMU_PGD));
	requests();
	assert_int_equal(v->mmu->guest_mmu.roots[0].hpa, hpa);
	assert_true(hw(0).present);
	assert_int_equal(v->arch->stat.root_frees, frees);
	fake_vm_free(kvm);
}

/* What kvmless.root_cache changes: an L1 that flushes before every entry of L2 (docs/mmu.md). */
static void root_cache(void **state)
{
	static const struct {
		u32 mode;
		u64 hits, misses, syncs, frees;
	} want[] = {{0, 100, 1, 100, 0}, {1, 0, 101, 0, 100}, {2, 0, 101, 0, 100}};

	for (unsigned m = 0; m < ARRAY_SIZE(want); m++) {
		const struct vcpu_stat *s;
		u64 hva;

		begin(4, false);
		kvm->arch->params.kvmless_root_cache = want[m].mode;
		s = &v->arch->stat;
		for (u64 i = 0; i < 64; i++) {
			u64 e = (i + 512) << 12 | R | W | X | 6 << 3;

			memcpy(mem + PT(0) + i * 8, &e, 8);
		}
		for (unsigned n = 0; n <= 100; n++) {
			mmu_enter_ept12(v, eptp[0], EPT12_EXECONLY);
			for (u64 i = 0; i < 64; i++)
				assert_int_equal(access_gpa(i << 12, R, &hva), 1);
			in_l1();
			if (n < 100)
				mmu_invept(v, INVEPT_SINGLE, eptp[0]);
		}
		assert_int_equal(s->root_hits, want[m].hits);
		assert_int_equal(s->root_misses - 1, want[m].misses); /* one is L1's own */
		assert_int_equal(s->root_syncs, want[m].syncs);
		assert_int_equal(s->root_frees, want[m].frees);
		/* The pages below a root survive it in any case. */
		assert_int_equal(s->pf_taken, 64);
		fake_vm_free(kvm);
	}
}

/* With accessed and dirty flags the first write to a page asks the log; a full one stops it. */
static void page_modification_log(void **state)
{
	u64 hva, e = 0x200000 | R | W | X | 6 << 3;

	begin(4, true);
	memcpy(mem + PT(0), &e, 8);
	logged = 0;
	log_room = false;
	enter_l2(eptp[0], false);
	v->mmu->guest_mmu.log_dirty = on_dirty;
	assert_int_equal(access_gpa(0x123, R, &hva), 1);
	assert_int_equal(logged, 0);
	assert_int_equal(access_gpa(0x123, W, &hva), 0);
	assert_true(fault.log_full);
	assert_int_equal(fault.addr, 0x123);
	assert_false(get(PT(0)) & EPT_D);
	log_room = true;
	assert_int_equal(access_gpa(0x123, W, &hva), 1);
	assert_int_equal(logged, 2);
	assert_true(get(PT(0)) & EPT_D);
	assert_int_equal(access_gpa(0x456, W, &hva), 1);
	assert_int_equal(logged, 2);
	fake_vm_free(kvm);
}

/*
 * L2's own tables are translated by EPT12. Reading one is a read, or a write where EPT has accessed
 * and dirty flags; setting A in one is a write (29.3.3.2).
 */
static void l2_tables(void **state)
{
	const u64 table = 0x400000; /* L1's page of L2's page table, L2's page 1 */
	struct guest_fault f = {0};

	for (int flags = 0; flags < 2; flags++) {
		for (int accessed = 0; accessed < 2; accessed++) {
			u64 e[2] = {0x200000 | R | W | X | 6 << 3, table | R | 6 << 3};
			u32 pte = 0x0003 | (accessed ? 0x20 : 0), pde = 0x1003 | 0x20;
			u64 q = EPT_VIOLATION_GVA_VALID | R << 3;
			gpa_t gpa;

			begin(4, flags);
			memcpy(mem + PT(0), e, sizeof(e));
			memcpy(mem + 0x200000, &pde, 4); /* L2's page 0: the directory */
			memcpy(mem + table, &pte, 4);
			mmu_enter_ept12(v, eptp[0], EPT12_EXECONLY);
			fake_regs(v, CR0_PE | CR0_PG, 0, 0, 0);
			mmu_reset_context(v);
			gpa = mmu_gva_to_gpa_system(v, 0x123, 0, &f);
			if (!flags && accessed) {
				assert_int_equal(gpa, 0x200123);
			} else {
				assert_int_equal(gpa, GPA_INVALID);
				assert_true(f.nested && !f.from_exit);
				assert_int_equal(f.addr, 0x1000);
				assert_int_equal(f.gva, 0x123);
				assert_int_equal(f.exit_qualification, q | R | W);
			}
			/* The context of L1 has not noticed. */
			fake_regs(v, 0, 0, 0, 0);
			in_l1();
			assert_int_equal(mmu_gva_to_gpa_system(v, 0x123, 0, &f), 0x123);
			fake_vm_free(kvm);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(invept_defers),	 cmocka_unit_test(root_cache),
		cmocka_unit_test(page_modification_log), cmocka_unit_test(l2_tables),
		cmocka_unit_test(random_ept12),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
