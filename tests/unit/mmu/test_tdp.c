/* SPDX-License-Identifier: MIT */
/*
 * Two-dimensional paging: what faults leave in the tables, read by an EPT walk of this test's own
 * (SDM vol. 3C, 29.3.2).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake.h"

#define MB (1ull << 20)
#define GB (1ull << 30)

struct ept {
	u64 entry, hpa;
	unsigned shift, tables; /* of the leaf; tables read */
	bool r, w, x, present;
};

static struct ept walk(struct kvm_vcpu *v, u64 gpa)
{
	struct ept e = {.r = true, .w = true, .x = true};
	u64 table = v->mmu->mmu->roots[0].hpa;
	unsigned shift = mmu_root_level(v->mmu->mmu) == 5 ? 48 : 39;

	for (;; shift -= 9) {
		u64 pte = ((u64 *)table)[gpa >> shift & 0x1ff];

		e.entry = pte;
		e.shift = shift;
		e.tables++;
		if (!(pte & 7))
			return e;
		/* Misconfigured: writable but not readable. */
		if ((pte & 3) == 2)
			return e;
		e.r &= pte & 1;
		e.w &= !!(pte & 2);
		e.x &= !!(pte & 4);
		if (shift == 12 || (shift <= 30 && pte & 0x80)) {
			u64 mask = (1ull << shift) - 1;

			/* Memory type 6, ignore PAT; no address bits below the page size. */
			assert_int_equal(pte >> 3 & 7, 6);
			assert_int_equal(pte & 0xffffffffff000 & mask, 0);
			e.hpa = (pte & 0xffffffffff000) + (gpa & mask);
			e.present = true;
			return e;
		}
		assert_int_equal(pte & 0xf8, 0); /* reserved in entries that point to tables */
		table = pte & 0xffffffffff000;
	}
}

static int fault(struct kvm_vcpu *v, u64 gpa, u64 ec)
{
	assert_int_equal(mmu_reload(v), 0);
	return mmu_page_fault(v, gpa, ec);
}

static void map(void **state)
{
	struct kvm *kvm = fake_vm(2);
	struct kvm_vcpu *v = kvm->vcpus[0], *v2 = kvm->vcpus[1];
	char *m = fake_memory(4 * MB, PAGE_SIZE); /* never congruent: small pages only */
	struct ept e;

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, m), 0);
	for (u64 gpa = 0; gpa < 4 * MB; gpa += 5 * PAGE_SIZE) {
		assert_int_equal(fault(v, gpa + 123, PFERR_USER), 1);
		e = walk(v, gpa + 123);
		assert_true(e.present && e.r && e.w && e.x);
		assert_int_equal(e.shift, 12);
		assert_int_equal(e.hpa, (u64)m + gpa + 123);
	}
	assert_false(walk(v, PAGE_SIZE).present);
	assert_int_equal(fault(v, PAGE_SIZE, PFERR_WRITE), 1);
	assert_int_equal(fault(v, 2 * PAGE_SIZE, PFERR_FETCH), 1);
	assert_true(walk(v, 2 * PAGE_SIZE).x);
	assert_int_equal(v->arch->stat.pf_fixed, 205 + 2);
	/* The other vCPU shares the tables. */
	assert_int_equal(fault(v2, 0, PFERR_WRITE), 1);
	assert_int_equal(v2->mmu->mmu->roots[0].hpa, v->mmu->mmu->roots[0].hpa);
	assert_int_equal(v2->arch->stat.pf_spurious, 1);
	assert_int_equal(kvm->arch->stat.pages_4k, 207);
	assert_int_equal(fake_flushes, 0);

	/* Deleting the slot leaves nothing mapped, and processors are told. */
	assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
	assert_int_not_equal(fake_flushes, 0);
	for (u64 gpa = 0; gpa < 4 * MB; gpa += PAGE_SIZE)
		assert_false(walk(v, gpa).present);
	assert_int_equal(kvm->arch->stat.pages_4k, 0);
	fake_vm_free(kvm);
}

static void large(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(3 * GB, 0);
	struct ept e;

	/* Starts and ends in the middle of 2 MiB and 1 GiB. */
	assert_int_equal(fake_slot(kvm, 0, 0, GB - 3 * MB, 2 * GB, m + GB - 3 * MB), 0);
	static const struct {
		u64 gpa;
		unsigned shift;
	} t[] = {
		{GB - 3 * MB, 12},     {GB - 2 * MB - 1, 12},
		{GB - 2 * MB, 21},     {GB - 1, 21},
		{GB + 77 * MB, 30},    {2 * GB - 1, 30},
		{2 * GB, 21},	       {3 * GB - 4 * MB - 1, 21},
		{3 * GB - 4 * MB, 12}, {3 * GB - 3 * MB - 1, 12},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(fault(v, t[i].gpa, PFERR_USER), 1);
		e = walk(v, t[i].gpa);
		assert_true(e.present && e.w);
		assert_int_equal(e.shift, t[i].shift);
		assert_int_equal(e.hpa, (u64)m + t[i].gpa);
	}
	assert_int_equal(kvm->arch->stat.pages_1g, 1);

	/* Dirty logging: large pages go, written pages come back one by one. */
	assert_int_equal(
		fake_slot(kvm, 0, KVM_MEM_LOG_DIRTY_PAGES, GB - 3 * MB, 2 * GB, m + GB - 3 * MB),
		0);
	assert_false(walk(v, GB + 77 * MB).present);
	assert_int_equal(kvm->arch->stat.pages_1g + kvm->arch->stat.pages_2m, 0);
	assert_int_equal(fault(v, GB + 77 * MB, PFERR_USER), 1);
	e = walk(v, GB + 77 * MB);
	assert_true(e.present && !e.w);
	assert_int_equal(e.shift, 12);

	/* And off again: large once more. */
	assert_int_equal(fake_slot(kvm, 0, 0, GB - 3 * MB, 2 * GB, m + GB - 3 * MB), 0);
	assert_int_equal(fault(v, GB + 77 * MB, PFERR_USER), 1);
	assert_int_equal(walk(v, GB + 77 * MB).shift, 30);

	/* A slot that is congruent to 2 MiB but not to 1 GiB. */
	assert_int_equal(fake_slot(kvm, 1, 0, 8 * GB + 2 * MB, GB, m), 0);
	assert_int_equal(fault(v, 8 * GB + 512 * MB, PFERR_USER), 1);
	assert_int_equal(walk(v, 8 * GB + 512 * MB).shift, 21);
	fake_vm_free(kvm);
}

static void dirty(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(2 * MB, 0);
	unsigned flushes;
	u64 map[8];

	assert_int_equal(fake_slot(kvm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 2 * MB, m), 0);
	/* Reads are not logged, writes are. */
	assert_int_equal(fault(v, 0x3000, PFERR_USER), 1);
	assert_int_equal(fault(v, 0x5000, PFERR_WRITE), 1);
	assert_int_equal(vm_get_dirty_log(kvm, 0, map, sizeof(map)), 0);
	assert_int_equal(map[0], 1 << 5);
	/* Having been read, the page is write-protected and the next write faults and is logged. */
	assert_false(walk(v, 0x5000).w);
	flushes = fake_flushes;
	assert_int_not_equal(flushes, 0);
	assert_int_equal(fault(v, 0x5000, PFERR_WRITE | PFERR_PRESENT), 1);
	assert_true(walk(v, 0x5000).w);
	assert_int_equal(fault(v, 0x3000, PFERR_WRITE | PFERR_PRESENT), 1);
	assert_int_equal(vm_get_dirty_log(kvm, 0, map, sizeof(map)), 0);
	assert_int_equal(map[0], 1 << 5 | 1 << 3);
	/* A page the core wrote and the guest never touched. */
	kvm_write_guest(kvm, 0x9000, "x", 1);
	assert_int_equal(vm_get_dirty_log(kvm, 0, map, sizeof(map)), 0);
	assert_int_equal(map[0], 1 << 9);
	/* Nothing new: nothing to flush. */
	flushes = fake_flushes;
	assert_int_equal(vm_get_dirty_log(kvm, 0, map, sizeof(map)), 0);
	assert_int_equal(map[0], 0);
	assert_int_equal(fake_flushes, flushes);
	/* With manual protection and all bits set at first, mappings stay until the log is cleared,
	 * and a large one goes then. */
	kvm->arch->manual_dirty_log_protect = 3;
	assert_int_equal(fake_slot(kvm, 0, 0, 0, 2 * MB, m), 0);
	assert_int_equal(fault(v, 0x5000, PFERR_WRITE), 1);
	assert_int_equal(walk(v, 0x5000).shift, 21);
	assert_int_equal(fake_slot(kvm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, 2 * MB, m), 0);
	assert_true(walk(v, 0x5000).w);
	memset(map, 0xff, sizeof(map));
	assert_int_equal(
		vm_clear_dirty_log(kvm, &(struct kvm_clear_dirty_log){.num_pages = 64}, map, 8), 0);
	assert_false(walk(v, 0x5000).present);
	assert_int_equal(fault(v, 0x5000, PFERR_WRITE), 1);
	assert_int_equal(walk(v, 0x5000).shift, 12);
	assert_int_equal(vm_get_dirty_log(kvm, 0, map, sizeof(map)), 0);
	assert_int_equal(map[0], 1 << 5);
	assert_true(map[1] == ~0ull);
	fake_vm_free(kvm);
}

static void not_memory(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(4 * MB, 0);
	struct ept e;

	assert_int_equal(fake_slot(kvm, 0, KVM_MEM_READONLY, 0, MB, m), 0);
	/* Read-only: read and executed from memory, written by the emulator. */
	assert_int_equal(fault(v, 0x1000, PFERR_USER), 1);
	e = walk(v, 0x1000);
	assert_true(e.r && e.x && !e.w);
	assert_int_equal(fault(v, 0x1008, PFERR_WRITE | PFERR_PRESENT), 0);
	assert_int_equal(fake_emulated, 1);
	assert_int_equal(fake_emulated_gpa, 0x1008);
	/* No slot: the emulator, the first time by a violation, then by a misconfiguration. */
	assert_int_equal(fault(v, 0xfee00300, PFERR_WRITE), 0);
	assert_int_equal(fake_emulated_gpa, 0xfee00300);
	assert_int_equal(walk(v, 0xfee00300).entry & 7, 6);
	assert_int_equal(fault(v, 0xfee00020, PFERR_RSVD), 0);
	assert_int_equal(fake_emulated, 3);
	assert_int_equal(fault(v, 2 * MB, PFERR_USER), 0);
	assert_int_equal(fake_emulated, 4);
	/* Then there is a slot: the entry is stale, the access finds memory. */
	assert_int_equal(fake_slot(kvm, 1, 0, 2 * MB, MB, m + 2 * MB), 0);
	assert_int_equal(fault(v, 2 * MB, PFERR_RSVD), 1);
	assert_int_equal(fake_emulated, 4);
	assert_int_equal(walk(v, 2 * MB).hpa, m + 2 * MB);
	/* And what is still MMIO is so with the new generation. */
	assert_int_equal(fault(v, 0xfee00020, PFERR_RSVD), 0);
	assert_int_equal(fault(v, 0xfee00020, PFERR_RSVD), 0);
	assert_int_equal(fake_emulated, 6);
	fake_vm_free(kvm);
}

static void missing_memory(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(4 * MB, PAGE_SIZE);

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, m), 0);
	mprotect(m, PAGE_SIZE, PROT_NONE);
	munmap(m + PAGE_SIZE, PAGE_SIZE);
	mprotect(m + 2 * PAGE_SIZE, PAGE_SIZE, PROT_READ);
	assert_int_equal(fault(v, 0, PFERR_USER), -EFAULT);
	assert_int_equal(fault(v, 0x1000, PFERR_WRITE), -EFAULT);
	assert_int_equal(fault(v, 0x2000, PFERR_WRITE), -EFAULT);
	assert_int_equal(fault(v, 0x2000, PFERR_USER), 1);
	/* It comes, it goes. */
	mprotect(m, PAGE_SIZE, PROT_READ | PROT_WRITE);
	assert_int_equal(fault(v, 0, PFERR_USER), 1);
	assert_int_equal(mmu_memory_error(v, (u64)m, true), 0);
	assert_true(walk(v, 0).present);
	mprotect(m, PAGE_SIZE, PROT_NONE);
	assert_int_equal(mmu_memory_error(v, (u64)m + 7, false), -EFAULT);
	assert_false(walk(v, 0).present);
	fake_vm_free(kvm);
}

static void limits(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(512 * MB, PAGE_SIZE);
	struct ept e;

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 512 * MB, m), 0);
	assert_int_equal(vm_get_nr_mmu_pages(kvm), 512 * 256 / 50);
	assert_int_equal(vm_set_nr_mmu_pages(kvm, 63), -EINVAL);
	assert_int_equal(vm_set_nr_mmu_pages(kvm, 64), 0);
	for (u64 gpa = 0; gpa < 512 * MB; gpa += 2 * MB) {
		assert_int_equal(fault(v, gpa, PFERR_USER), 1);
		assert_int_equal(walk(v, gpa).hpa, (u64)m + gpa);
		assert_true(mmu_pages_used(kvm) <= 64);
	}
	assert_int_not_equal(kvm->arch->stat.mmu_recycled, 0);
	/* What was reclaimed comes back by itself. */
	assert_int_equal(fault(v, 0, PFERR_USER), 1);
	e = walk(v, 0);
	assert_int_equal(e.hpa, m);
	mmu_unload(v);
	assert_int_equal(v->mmu->mmu->roots[0].hpa, HPA_INVALID);
	assert_int_equal(fault(v, 0, PFERR_USER), 1);
	fake_vm_free(kvm);
}

static void five_levels(void **state)
{
	struct kvm *kvm;
	struct kvm_vcpu *v;
	char *m = fake_memory(2 * MB, 0);

	fake_maxphyaddr = 52;
	fake_ept_cap |= 1 << 7;
	kvm = fake_vm(1);
	v = kvm->vcpus[0];
	assert_int_equal(fake_slot(kvm, 0, 0, 1ull << 51, 2 * MB, m), 0);
	assert_int_equal(fault(v, (1ull << 51) + 0x1234, PFERR_WRITE), 1);
	assert_int_equal(mmu_root_level(v->mmu->mmu), 5);
	assert_int_equal(walk(v, (1ull << 51) + 0x1234).hpa, m + 0x1234);
	assert_int_equal(walk(v, (1ull << 51) + 0x1234).tables, 4);
	fake_vm_free(kvm);
	fake_maxphyaddr = 46;
	fake_ept_cap &= ~(1ull << 7);
}

static void roots(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(2 * MB, 0);
	hpa_t root;

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 2 * MB, m), 0);
	assert_int_equal(fake_slot(kvm, 1 << 16, 0, 0, 2 * MB, m), 0);
	assert_int_equal(fault(v, 0, PFERR_WRITE), 1);
	root = v->mmu->mmu->roots[0].hpa;
	assert_true(kvm_check_request(v, REQ_LOAD_MMU_PGD));
	/* The guest's paging does not matter to two-dimensional roots. */
	fake_regs(v, 0x80000001, 0x1000, 0x20, 0x500);
	mmu_reset_context(v);
	assert_int_equal(v->mmu->mmu->roots[0].hpa, root);
	/* SMM does: another root, and the first one is found again. */
	v->arch->smm = true;
	mmu_reset_context(v);
	assert_int_equal(v->mmu->mmu->roots[0].hpa, HPA_INVALID);
	assert_int_equal(fault(v, 0, PFERR_WRITE), 1);
	assert_int_not_equal(v->mmu->mmu->roots[0].hpa, root);
	v->arch->smm = false;
	mmu_reset_context(v);
	assert_int_equal(v->mmu->mmu->roots[0].hpa, root);
	assert_int_equal(v->arch->stat.root_hits, 1);
	/* Zapped while in use: the vCPU lets go when it next looks. */
	pthread_mutex_lock(&kvm->mmu_lock);
	page_zap(kvm, hpa_page(root));
	page_commit(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
	assert_true(kvm_check_request(v, REQ_MMU_RELOAD));
	assert_int_equal(fault(v, 0x1000, PFERR_WRITE), 1);
	assert_int_equal(walk(v, 0x1000).hpa, m + 0x1000);
	fake_vm_free(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map),
		cmocka_unit_test(large),
		cmocka_unit_test(dirty),
		cmocka_unit_test(not_memory),
		cmocka_unit_test(missing_memory),
		cmocka_unit_test(limits),
		cmocka_unit_test(five_levels),
		cmocka_unit_test(roots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
