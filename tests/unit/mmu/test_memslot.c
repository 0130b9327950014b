/* SPDX-License-Identifier: MIT */
/* Memory slots: errors as Documentation/virt/kvm/api.rst and KVM give them, guest memory, dirty
 * logs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "fake.h"

#define MB (1ull << 20)

static void errors(void **state)
{
	struct kvm *kvm = fake_vm(0);
	char *m = fake_memory(8 * MB, 0);
	static const struct {
		u32 slot, flags;
		u64 gpa, size;
		s64 hva; /* offset in m, or an address if negative */
		int err;
	} t[] = {
		{0, 0, 0, 0, 0, -EINVAL},			/* nothing to delete */
		{0, 0, 0x1001, 0x1000, 0, -EINVAL},		/* gpa not aligned */
		{0, 0, 0x1000, 0x1001, 0, -EINVAL},		/* size not aligned */
		{0, 0, 0x1000, 0x1000, 1, -EINVAL},		/* hva not aligned */
		{0, 4, 0, 0x1000, 0, -EINVAL},			/* guest_memfd: not here */
		{0, 8, 0, 0x1000, 0, -EINVAL},			/* unknown flag */
		{32764, 0, 0, 0x1000, 0, -EINVAL},		/* ours */
		{2 << 16, 0, 0, 0x1000, 0, -EINVAL},		/* address spaces are 0 and 1 */
		{0, 0, 0xfffffffffffff000, 0x1000, 0, -EINVAL}, /* end wraps to 0 */
		{0, 0, 1ull << 46, 0x1000, 0, -EINVAL},		/* beyond MAXPHYADDR 46 */
		{0, 0, (1ull << 46) - 0x1000, 0x2000, 0, -EINVAL},
		{0, 0, 0, 1ull << 43, 0, -EINVAL},   /* 2^31 pages are too many */
		{0, 0, 0, 0x1000, -0x1000, -EINVAL}, /* not a user address */
		{0, 0, 0, 2 * MB, 0, 0},
		{0, 0, 0, 2 * MB, 0, 0},		     /* the same again */
		{1, 0, MB, 2 * MB, 2 * MB, -EEXIST},	     /* overlaps the end */
		{1, 0, 0, 0x1000, 2 * MB, -EEXIST},	     /* within */
		{1, 0, 2 * MB, 2 * MB, 2 * MB, 0},	     /* adjacent */
		{2, 0, 0, 8 * MB, 0, -EEXIST},		     /* around both */
		{1 << 16, 0, 0, MB, 0, 0},		     /* another address space */
		{0, 0, 0, MB, 0, -EINVAL},		     /* size cannot change */
		{0, 0, 0, 2 * MB, 4 * MB, -EINVAL},	     /* nor the address */
		{0, 2, 0, 2 * MB, 0, -EINVAL},		     /* nor read-only */
		{0, 0, 3 * MB, 2 * MB, 0, -EEXIST},	     /* moved onto another */
		{0, 0, 4 * MB, 2 * MB, 0, 0},		     /* moved */
		{2, 0, 0, 2 * MB, 6 * MB, 0},		     /* into the gap */
		{0, 1, 4 * MB, 2 * MB, 0, 0},		     /* flags */
		{0, 1, 0, 0, 0, 0},			     /* deleted */
		{0, 0, 0, 0, 0, -EINVAL},		     /* twice */
		{32763, 3, 16 * MB, 0x1000, 0, 0},	     /* the last id, logged, read-only */
		{5, 0, (1ull << 46) - 0x1000, 0x1000, 0, 0}, /* up to the last frame */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		int r = fake_slot(kvm, t[i].slot, t[i].flags, t[i].gpa, t[i].size,
				  t[i].hva < 0 ? (void *)t[i].hva : m + t[i].hva);

		if (r != t[i].err)
			fail_msg("row %u: %d instead of %d", i, r, t[i].err);
	}
	fake_vm_free(kvm);
}

static void lookup(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	char *m = fake_memory(64 * MB, 0);
	u64 gen;

	/* In an order that is not theirs. */
	for (u32 i = 0; i < 32; i++) {
		u32 id = i * 13 % 32;

		assert_int_equal(
			fake_slot(kvm, id, 0, id * 2 * MB, MB + id * PAGE_SIZE, m + id * 2 * MB),
			0);
	}
	for (u64 gfn = 0; gfn < 32 * 512; gfn++) {
		u64 id = gfn / 512, off = gfn % 512;
		bool in = off < 256 + id;
		struct memslot *s = gfn_to_memslot(kvm, gfn);

		assert_int_equal(s != NULL, in);
		assert_ptr_equal(vcpu_gfn_to_memslot(v, gfn), s);
		if (in)
			assert_int_equal(gfn_to_hva(kvm, gfn, true), m + gfn * PAGE_SIZE);
	}
	assert_true(kvm_owns_hva(kvm, (u64)m));
	assert_true(kvm_owns_hva(kvm, (u64)m + MB - 1));
	assert_false(kvm_owns_hva(kvm, (u64)m + MB));
	assert_false(kvm_owns_hva(kvm, (u64)&kvm));
	/* The cached slot of the vCPU does not outlive the slot. */
	assert_non_null(vcpu_gfn_to_memslot(v, 0));
	gen = kvm_memslots_generation(kvm);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
	assert_true(kvm_memslots_generation(kvm) > gen);
	assert_null(vcpu_gfn_to_memslot(v, 0));
	/* In SMM the other address space is seen, which has nothing. */
	assert_non_null(vcpu_gfn_to_memslot(v, 512));
	v->arch->smm = true;
	assert_null(vcpu_gfn_to_memslot(v, 512));
	fake_vm_free(kvm);
}

static void access_memory(void **state)
{
	struct kvm *kvm = fake_vm(1);
	char *m = fake_memory(4 * MB, 0), buf[64];
	struct gfn_to_hva_cache c;
	u32 old = 0, val = 7;

	assert_int_equal(fake_slot(kvm, 0, 0, 0, MB, m), 0);
	assert_int_equal(fake_slot(kvm, 1, 0, MB, MB, m + 2 * MB), 0);
	assert_int_equal(fake_slot(kvm, 2, KVM_MEM_READONLY, 2 * MB, MB, m + MB), 0);
	memset(buf, 0x5a, sizeof(buf));
	/* Across two slots that are apart in our memory. */
	assert_int_equal(kvm_write_guest(kvm, MB - 32, buf, 64), 0);
	assert_memory_equal(m + MB - 32, buf, 32);
	assert_memory_equal(m + 2 * MB, buf, 32);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(vcpu_read_guest(kvm->vcpus[0], MB - 32, buf, 64), 0);
	assert_int_equal(buf[63], 0x5a);
	assert_int_equal(kvm_clear_guest(kvm, MB - 32, 64), 0);
	assert_int_equal(m[MB - 1], 0);
	/* Read-only. */
	assert_int_equal(kvm_read_guest(kvm, 2 * MB, buf, 1), 0);
	assert_int_equal(kvm_write_guest(kvm, 2 * MB, buf, 1), -EFAULT);
	/* Nothing there. */
	assert_int_equal(kvm_read_guest(kvm, 3 * MB - 1, buf, 2), -EFAULT);
	assert_int_equal(kvm_read_guest(kvm, 3 * MB, buf, 1), -EFAULT);
	/* A slot over memory that is missing: only the access fails. */
	assert_int_equal(mprotect(m, PAGE_SIZE, PROT_NONE), 0);
	assert_int_equal(kvm_read_guest(kvm, 0, buf, 1), -EFAULT);
	assert_int_equal(munmap(m + PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(kvm_write_guest(kvm, PAGE_SIZE, buf, 1), -EFAULT);
	assert_int_equal(kvm_read_guest(kvm, 2 * PAGE_SIZE, buf, 1), 0);
	/* Compare and exchange. */
	assert_int_equal(vcpu_cmpxchg_guest(kvm->vcpus[0], 0x2000, &old, &val, 4), 0);
	assert_int_equal(*(u32 *)(m + 0x2000), 7);
	assert_int_equal(vcpu_cmpxchg_guest(kvm->vcpus[0], 0x2000, &old, &val, 4), 1);
	assert_int_equal(old, 7);
	assert_int_equal(vcpu_cmpxchg_guest(kvm->vcpus[0], 0, &old, &val, 4), -EFAULT);
	/* Kept translations follow a move. */
	assert_int_equal(gfn_cache_init(kvm, &c, MB + 16, 8), 0);
	assert_int_equal(gfn_cache_write(kvm, &c, "hello!!", 0, 8), 0);
	assert_string_equal(m + 2 * MB + 16, "hello!!");
	assert_int_equal(gfn_cache_read(kvm, &c, buf, 4, 5), -EINVAL);
	assert_int_equal(fake_slot(kvm, 1, 0, 4 * MB, MB, m + 2 * MB), 0);
	assert_int_equal(gfn_cache_read(kvm, &c, buf, 0, 8), -EFAULT);
	assert_int_equal(gfn_cache_init(kvm, &c, 3 * MB, 8), -EFAULT);
	fake_vm_free(kvm);
}

static void dirty_log(void **state)
{
	struct kvm *kvm = fake_vm(1);
	char *m = fake_memory(MB, 0);
	struct kvm_clear_dirty_log clear = {.slot = 3};
	u64 map[4];

	assert_int_equal(fake_slot(kvm, 3, 0, 0, 130 * PAGE_SIZE, m), 0);
	assert_int_equal(vm_dirty_bitmap_bytes(kvm, 3), -ENOENT);
	assert_int_equal(vm_get_dirty_log(kvm, 3, map, sizeof(map)), -ENOENT);
	assert_int_equal(vm_get_dirty_log(kvm, 4, map, sizeof(map)), -ENOENT);
	assert_int_equal(vm_get_dirty_log(kvm, 2 << 16, map, sizeof(map)), -EINVAL);
	assert_int_equal(vm_get_dirty_log(kvm, 32764, map, sizeof(map)), -EINVAL);
	assert_int_equal(fake_slot(kvm, 3, KVM_MEM_LOG_DIRTY_PAGES, 0, 130 * PAGE_SIZE, m), 0);
	assert_int_equal(vm_dirty_bitmap_bytes(kvm, 3), 24);
	kvm_write_guest(kvm, 0, "x", 1);
	kvm_write_guest(kvm, 64 * PAGE_SIZE - 1, "xy", 2);
	kvm_write_guest(kvm, 129 * PAGE_SIZE, "x", 1);
	memset(map, 0xee, sizeof(map));
	assert_int_equal(vm_get_dirty_log(kvm, 3, map, 24), 0);
	assert_int_equal(map[0], 1ull << 63 | 1);
	assert_int_equal(map[1], 1);
	assert_int_equal(map[2], 2);
	assert_int_equal(map[3], 0xeeeeeeeeeeeeeeee);
	assert_int_equal(vm_get_dirty_log(kvm, 3, map, 24), 0);
	assert_int_equal(map[0] | map[1] | map[2], 0);

	/* Manual protection: reading leaves the bits, clearing takes them. */
	kvm->arch->manual_dirty_log_protect = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	kvm_write_guest(kvm, 65 * PAGE_SIZE, "x", 1);
	kvm_write_guest(kvm, 128 * PAGE_SIZE, "x", 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(vm_get_dirty_log(kvm, 3, map, 24), 0);
		assert_int_equal(map[1], 2);
		assert_int_equal(map[2], 1);
	}
	clear.first_page = 1;
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 24), -EINVAL);
	clear.first_page = 64;
	clear.num_pages = 67;
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 24), -EINVAL);
	clear.num_pages = 65; /* not whole words and not to the end */
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 24), -EINVAL);
	clear.first_page = 192;
	clear.num_pages = 0;
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 24), -EINVAL);
	clear.first_page = 64;
	clear.num_pages = 64;
	map[0] = ~0ull;
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 8), 0);
	assert_int_equal(vm_get_dirty_log(kvm, 3, map, 24), 0);
	assert_int_equal(map[1], 0);
	assert_int_equal(map[2], 1);
	clear.first_page = 128;
	clear.num_pages = 2;
	map[0] = ~0ull;
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 8), 0);
	assert_int_equal(vm_get_dirty_log(kvm, 3, map, 24), 0);
	assert_int_equal(map[2], 0);
	clear.slot = 9;
	assert_int_equal(vm_clear_dirty_log(kvm, &clear, map, 8), -ENOENT);

	/* Initially all set, and no bit beyond the end. */
	kvm->arch->manual_dirty_log_protect |= KVM_DIRTY_LOG_INITIALLY_SET;
	assert_int_equal(fake_slot(kvm, 3, 0, 0, 130 * PAGE_SIZE, m), 0);
	assert_int_equal(fake_slot(kvm, 3, KVM_MEM_LOG_DIRTY_PAGES, 0, 130 * PAGE_SIZE, m), 0);
	assert_int_equal(vm_get_dirty_log(kvm, 3, map, 24), 0);
	assert_true(map[0] == ~0ull && map[1] == ~0ull && map[2] == 3);
	fake_vm_free(kvm);
}

/* Readers run while slots come and go; what they read is either there or not. */
static struct kvm *race_kvm;
static int race_stop, race_started;

static void *race_reader(void *arg)
{
	u64 n = 0, val;

	while (!__atomic_load_n(&race_stop, __ATOMIC_RELAXED)) {
		int r = kvm_read_guest(race_kvm, 5 * MB, &val, 8);

		if (r == 0 && val != 0x1234)
			return (void *)1;
		if (kvm_read_guest(race_kvm, 0, &val, 8))
			return (void *)1;
		if (!n++)
			__atomic_fetch_add(&race_started, 1, __ATOMIC_RELAXED);
	}
	return n ? NULL : (void *)1;
}

static void race(void **state)
{
	char *m = fake_memory(8 * MB, 0);
	pthread_t t[2];
	void *r;

	race_kvm = fake_vm(0);
	race_stop = race_started = 0;
	*(u64 *)(m + MB) = 0x1234;
	assert_int_equal(fake_slot(race_kvm, 0, 0, 0, MB, m), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, race_reader, NULL);
	while (__atomic_load_n(&race_started, __ATOMIC_RELAXED) < 2)
		sched_yield();
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(fake_slot(race_kvm, 1, 0, 5 * MB, MB, m + MB), 0);
		assert_int_equal(fake_slot(race_kvm, 1, 1, 5 * MB, MB, m + MB), 0);
		assert_int_equal(fake_slot(race_kvm, 1, 1, 7 * MB, MB, m + MB), 0);
		assert_int_equal(fake_slot(race_kvm, 1, 0, 0, 0, NULL), 0);
	}
	__atomic_store_n(&race_stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &r);
		assert_null(r);
	}
	fake_vm_free(race_kvm);
}

static void all_slots(void **state)
{
	struct kvm *kvm = fake_vm(0);
	char *m = fake_memory(PAGE_SIZE, 0);

	for (u32 i = 0; i < KVM_USER_MEM_SLOTS; i += 1)
		assert_int_equal(fake_slot(kvm, i, 0, (u64)i * 2 * PAGE_SIZE, PAGE_SIZE, m), 0);
	assert_int_equal(kvm_memslots_pages(kvm), KVM_USER_MEM_SLOTS);
	assert_null(gfn_to_memslot(kvm, 4001));
	assert_int_equal(gfn_to_memslot(kvm, 4000)->id, 2000);
	fake_vm_free(kvm);
}

static void internal(void **state)
{
	struct kvm *kvm = fake_vm(0);
	hva_t hva = 0;

	assert_int_equal(
		memslot_set_internal(kvm, TSS_PRIVATE_MEMSLOT, 0xfffbd000, 3 * PAGE_SIZE, &hva), 0);
	assert_int_not_equal(hva, 0);
	assert_int_equal(gfn_to_hva(kvm, 0xfffbd, true), hva);
	assert_int_equal(memslot_set_internal(kvm, TSS_PRIVATE_MEMSLOT, 0, 0x1000, NULL), -EEXIST);
	assert_int_equal(fake_slot(kvm, 0, 0, 0xfffbe000, PAGE_SIZE, (void *)hva), -EEXIST);
	assert_int_equal(memslot_set_internal(kvm, TSS_PRIVATE_MEMSLOT, 0, 0, NULL), 0);
	assert_int_equal(memslot_set_internal(kvm, TSS_PRIVATE_MEMSLOT, 0, 0, NULL), 0);
	assert_int_equal(gfn_to_hva(kvm, 0xfffbd, true), HVA_BAD);
	fake_vm_free(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors),	 cmocka_unit_test(lookup),
		cmocka_unit_test(access_memory), cmocka_unit_test(dirty_log),
		cmocka_unit_test(race),		 cmocka_unit_test(all_slots),
		cmocka_unit_test(internal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
