/* SPDX-License-Identifier: MIT */
/* Memory slots and dirty logs as seen through the API. */
#include "api.h"

#include <sys/resource.h>

static long region(int vm, u32 slot, u32 flags, u64 gpa, u64 size, void *mem)
{
	struct kvm_userspace_memory_region r = {slot, flags, gpa, size, (u64)mem};

	return io(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static void test_slots(void **state)
{
	struct kvm_userspace_memory_region2 r2 = {.slot = 9, .flags = KVM_MEM_GUEST_MEMFD};
	struct test_vm t;
	u8 *m;

	test_vm_create(&t, 0);
	m = t.mem;
	/* Bad arguments */
	assert_errno(region(t.vm, 1, 0, 0x400000, PAGE_SIZE + 1, m), EINVAL);
	assert_errno(region(t.vm, 1, 0, 0x400001, PAGE_SIZE, m), EINVAL);
	assert_errno(region(t.vm, 1, 0, 0x400000, PAGE_SIZE, m + 1), EINVAL);
	assert_errno(region(t.vm, 1, 0, 0ul - PAGE_SIZE, 2 * PAGE_SIZE, m), EINVAL);
	assert_errno(region(t.vm, 1, 0xf0, 0x400000, PAGE_SIZE, m), EINVAL);
	assert_errno(region(t.vm, 0xffff, 0, 0x400000, PAGE_SIZE, m), EINVAL);
	assert_errno(region(t.vm, 0x7fff0001, 0, 0x400000, PAGE_SIZE, m), EINVAL);
	assert_errno(region(t.vm, 1, 0, 0x400000, PAGE_SIZE, (void *)0xffff800000000000), EINVAL);
	assert_errno(region(t.vm, 1, 0, 0x400000, 1ul << 44, m), EINVAL);
	assert_errno(region(t.vm, 1, KVM_MEM_GUEST_MEMFD, 0x400000, PAGE_SIZE, m), EINVAL);
	assert_errno(io(t.vm, KVM_SET_USER_MEMORY_REGION2, &r2), EINVAL);
	/* Overlap with slot 0: 0 - 2 MiB */
	assert_errno(region(t.vm, 1, 0, 0, PAGE_SIZE, m), EEXIST);
	assert_errno(region(t.vm, 1, 0, MEM_SIZE - PAGE_SIZE, 2 * PAGE_SIZE, m), EEXIST);
	assert_ok(region(t.vm, 1, 0, MEM_SIZE, PAGE_SIZE, m));
	/* Deleting what is not there */
	assert_errno(region(t.vm, 2, 0, 0, 0, NULL), EINVAL);
	/* A slot's size, backing and read-only flag are fixed */
	assert_errno(region(t.vm, 1, 0, MEM_SIZE, 2 * PAGE_SIZE, m), EINVAL);
	assert_errno(region(t.vm, 1, 0, MEM_SIZE, PAGE_SIZE, m + PAGE_SIZE), EINVAL);
	assert_errno(region(t.vm, 1, KVM_MEM_READONLY, MEM_SIZE, PAGE_SIZE, m), EINVAL);
	/* Move onto another, beside it, delete, again */
	assert_errno(region(t.vm, 1, 0, 0x1000, PAGE_SIZE, m), EEXIST);
	assert_ok(region(t.vm, 1, 0, MEM_SIZE + PAGE_SIZE, PAGE_SIZE, m));
	assert_ok(region(t.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MEM_SIZE + PAGE_SIZE, PAGE_SIZE, m));
	assert_ok(region(t.vm, 1, 0, MEM_SIZE + PAGE_SIZE, PAGE_SIZE, m));
	assert_ok(region(t.vm, 1, 0, MEM_SIZE + PAGE_SIZE, 0, m));
	assert_errno(region(t.vm, 1, 0, MEM_SIZE + PAGE_SIZE, 0, m), EINVAL);
	assert_ok(region(t.vm, 1, KVM_MEM_READONLY, MEM_SIZE, PAGE_SIZE, m));
	/* Nothing mapped there yet: that is found out when the guest goes there */
	assert_ok(region(t.vm, 3, 0, 0x800000, PAGE_SIZE, (void *)0x10000));
	test_vm_destroy(&t);
}

GUEST(touch, ".code64\n"
	     "1: mov (%rbx), %al\n"
	     "   test %rcx, %rcx\n"
	     "   jz 2f\n"
	     "   movb $0x5a, (%rbx)\n"
	     "2: hlt\n"
	     "   jmp 1b");

static void run_touch(struct test_vm *t, u64 gpa, bool write)
{
	struct kvm_regs r;

	assert_ok(io(t->vcpu, KVM_GET_REGS, &r));
	r.rip = CODE_GPA;
	r.rbx = gpa;
	r.rcx = write;
	assert_ok(io(t->vcpu, KVM_SET_REGS, &r));
}

/* A slot over memory that the program has unmapped: KVM_RUN fails, and works once there is memory.
 */
static void test_unmapped(void **state)
{
	struct test_vm t;
	u8 *m = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	test_vm_create(&t, 0);
	set_region(t.vm, 1, 0, 0x400000, PAGE_SIZE, m);
	test_vm_start(&t, MODE_LONG, touch);
	run_touch(&t, 0x400000, true);
	test_run_to_hlt(&t);
	assert_int_equal(m[0], 0x5a);
	munmap(m, PAGE_SIZE);
	run_touch(&t, 0x400000, false);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EFAULT);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EFAULT);
	assert_ptr_equal(mmap(m, PAGE_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 m);
	m[0] = 0x77;
	test_run_to_hlt(&t);
	struct kvm_regs r;
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0x77);
	/* Read-only memory of the program: reading works, writing is EFAULT. */
	mprotect(m, PAGE_SIZE, PROT_READ);
	run_touch(&t, 0x400000, false);
	test_run_to_hlt(&t);
	run_touch(&t, 0x400000, true);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EFAULT);
	munmap(m, PAGE_SIZE);
	test_vm_destroy(&t);
}

/* The program changes what lies under a slot in other ways: the guest sees the memory that is there
 * now, and KVM_RUN answers EFAULT where there is none, as often as it is asked. */
static void test_changed_under_slot(void **state)
{
	const size_t size = 4 * PAGE_SIZE;
	struct kvm_regs r;
	struct test_vm t;
	int fd = memfd_create("slot", MFD_CLOEXEC);
	u8 *m;

	assert_true(fd >= 0);
	assert_ok(ftruncate(fd, (off_t)size));
	m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(m, MAP_FAILED);
	test_vm_create(&t, 0);
	set_region(t.vm, 1, 0, 0x400000, size, m);
	test_vm_start(&t, MODE_LONG, touch);
	run_touch(&t, 0x402000, true);
	test_run_to_hlt(&t);
	assert_int_equal(m[0x2000], 0x5a);

	/* A truncated file: SIGBUS for a program, EFAULT here; and back again. */
	assert_ok(ftruncate(fd, PAGE_SIZE));
	run_touch(&t, 0x402000, false);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EFAULT);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EFAULT);
	assert_ok(ftruncate(fd, (off_t)size));
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0);

	/* No access at all. */
	assert_ok(mprotect(m, size, PROT_NONE));
	run_touch(&t, 0x401000, true);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EFAULT);
	assert_ok(mprotect(m, size, PROT_READ | PROT_WRITE));
	test_run_to_hlt(&t);
	assert_int_equal(m[0x1000], 0x5a);

	/* Other memory in its place. */
	assert_ptr_equal(mmap(m, size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 m);
	m[0x1000] = 0x33;
	run_touch(&t, 0x401000, false);
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0x33);

	/* Its contents are given back: zeros from now on. */
	assert_ok(madvise(m, size, MADV_DONTNEED));
	run_touch(&t, 0x401000, false);
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0);
	test_vm_destroy(&t);
	munmap(m, size);
	close(fd);
}

static void test_readonly(void **state)
{
	struct test_vm t;
	u8 *m = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	test_vm_create(&t, 0);
	m[0] = 0x11;
	set_region(t.vm, 1, KVM_MEM_READONLY, 0x400000, PAGE_SIZE, m);
	test_vm_start(&t, MODE_LONG, touch);
	run_touch(&t, 0x400000, false);
	test_run_to_hlt(&t);
	run_touch(&t, 0x400000, true);
	assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
	assert_int_equal(t.run->mmio.is_write, 1);
	assert_int_equal(t.run->mmio.phys_addr, 0x400000);
	assert_int_equal(t.run->mmio.data[0], 0x5a);
	test_run_to_hlt(&t);
	assert_int_equal(m[0], 0x11);
	munmap(m, PAGE_SIZE);
	test_vm_destroy(&t);
}

static void test_dirty_log(void **state)
{
	struct kvm_dirty_log log = {.slot = 1};
	struct kvm_clear_dirty_log clear = {.slot = 1};
	struct test_vm t;
	u64 bitmap[2];
	u8 *m = mmap(NULL, 100 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);

	test_vm_create(&t, 0);
	set_region(t.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x400000, 100 * PAGE_SIZE, m);
	log.dirty_bitmap = bitmap;
	clear.dirty_bitmap = bitmap;
	log.slot = 0; /* logs nothing */
	assert_errno(io(t.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
	log.slot = 7;
	assert_errno(io(t.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
	log.slot = 0xffff;
	assert_errno(io(t.vm, KVM_GET_DIRTY_LOG, &log), EINVAL);
	log.slot = 1;
	test_vm_start(&t, MODE_LONG, touch);
	run_touch(&t, 0x400000 + 70 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	run_touch(&t, 0x400000 + 3 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	run_touch(&t, 0x400000 + 5 * PAGE_SIZE, false);
	test_run_to_hlt(&t);
	assert_ok(io(t.vm, KVM_GET_DIRTY_LOG, &log));
	assert_int_equal(bitmap[0], BIT(3));
	assert_int_equal(bitmap[1], BIT(6));
	assert_ok(io(t.vm, KVM_GET_DIRTY_LOG, &log));
	assert_int_equal(bitmap[0] | bitmap[1], 0);
	/* The same page again, now that it has been collected */
	run_touch(&t, 0x400000 + 3 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	log.dirty_bitmap = (void *)8;
	assert_errno(io(t.vm, KVM_GET_DIRTY_LOG, &log), EFAULT);
	log.dirty_bitmap = bitmap;
	run_touch(&t, 0x400000 + 4 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	assert_ok(io(t.vm, KVM_GET_DIRTY_LOG, &log));
	assert_true(bitmap[0] & BIT(4));

	clear.first_page = 1;
	assert_errno(io(t.vm, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.first_page = 0;
	clear.num_pages = 101;
	assert_errno(io(t.vm, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.num_pages = 0xffffffff;
	assert_errno(io(t.vm, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.num_pages = 100;
	assert_ok(io(t.vm, KVM_CLEAR_DIRTY_LOG, &clear));
	munmap(m, 100 * PAGE_SIZE);
	test_vm_destroy(&t);
}

/* With manual protection, reading the log does not clear it; KVM_CLEAR_DIRTY_LOG does. */
static void test_manual_protect(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
				     .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
	struct kvm_dirty_log log = {.slot = 1};
	struct kvm_clear_dirty_log clear = {.slot = 1, .num_pages = 64};
	struct test_vm t;
	u64 bitmap;
	u8 *m = mmap(NULL, 64 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);

	test_vm_create(&t, 0);
	if (!io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2))
		skip();
	cap.args[0] = 8;
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	log.dirty_bitmap = clear.dirty_bitmap = &bitmap;
	set_region(t.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x400000, 64 * PAGE_SIZE, m);
	test_vm_start(&t, MODE_LONG, touch);
	run_touch(&t, 0x400000 + 9 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	for (int i = 0; i < 2; i++) {
		assert_ok(io(t.vm, KVM_GET_DIRTY_LOG, &log));
		assert_int_equal(bitmap, BIT(9));
	}
	assert_ok(io(t.vm, KVM_CLEAR_DIRTY_LOG, &clear));
	assert_ok(io(t.vm, KVM_GET_DIRTY_LOG, &log));
	assert_int_equal(bitmap, 0);
	run_touch(&t, 0x400000 + 9 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	assert_ok(io(t.vm, KVM_GET_DIRTY_LOG, &log));
	assert_int_equal(bitmap, BIT(9));
	munmap(m, 64 * PAGE_SIZE);
	test_vm_destroy(&t);
}

/* Deleted under the guest: the same address is MMIO then, and memory again when the slot is back.
 */
/* A ring of 256 entries, of which 64 are kept free. */
static void test_dirty_ring(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL};
	struct kvm_dirty_log log = {.slot = 1};
	const u64 offset = KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE;
	struct kvm_dirty_gfn *ring;
	struct test_vm t;
	u64 bitmap[4];
	unsigned n;
	u8 *m = mmap(NULL, 256 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);

	/* Too late, once there is a vCPU */
	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	cap.args[0] = PAGE_SIZE;
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	assert_errno(io(t.vm, KVM_RESET_DIRTY_RINGS, 0), EINVAL);
	test_vm_destroy(&t);

	test_vm_create(&t, 0);
	n = (unsigned)assert_ok(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING));
	assert_int_equal(n, 65536 * sizeof(*ring));
	cap.args[0] = PAGE_SIZE + 16;
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = PAGE_SIZE / 2;
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 2 * n;
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), E2BIG);
	cap.args[0] = PAGE_SIZE;
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	test_vm_add_vcpu(&t);
	assert_ptr_equal(kvmless_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, t.vcpu,
				      (off_t)offset),
			 MAP_FAILED);
	assert_ptr_equal(kvmless_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, t.vcpu,
				      (off_t)offset),
			 MAP_FAILED);
	ring = kvmless_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t.vcpu,
			    (off_t)offset);
	assert_ptr_not_equal(ring, MAP_FAILED);

	set_region(t.vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x400000, 256 * PAGE_SIZE, m);
	log.dirty_bitmap = bitmap;
	assert_errno(io(t.vm, KVM_GET_DIRTY_LOG, &log), ENXIO);
	test_vm_start(&t, MODE_LONG, touch);
	for (n = 0; n < 192; n++) {
		run_touch(&t, 0x400000 + (255 - n) * PAGE_SIZE, true);
		/* The last one fills it, so that its HLT is not reached. */
		if (n < 191)
			test_run_to_hlt(&t);
		else
			assert_int_equal(test_run(&t), KVM_EXIT_DIRTY_RING_FULL);
		assert_int_equal(ring[n].flags, KVM_DIRTY_GFN_F_DIRTY);
		assert_int_equal(ring[n].slot, 1);
		assert_int_equal(ring[n].offset, 255 - n);
	}
	/* Not twice, and not what is only read */
	assert_int_equal(ring[192].flags, 0);
	assert_int_equal(test_run(&t), KVM_EXIT_DIRTY_RING_FULL);
	/* In order only: the second is not looked at before the first is collected */
	ring[1].flags |= KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(assert_ok(io(t.vm, KVM_RESET_DIRTY_RINGS, 0)), 0);
	ring[0].flags |= KVM_DIRTY_GFN_F_RESET;
	assert_int_equal(assert_ok(io(t.vm, KVM_RESET_DIRTY_RINGS, 0)), 2);
	assert_int_equal(ring[0].flags | ring[1].flags, 0);
	test_run_to_hlt(&t);
	/* The one that was collected is logged again, another is not. */
	run_touch(&t, 0x400000 + 254 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	assert_int_equal(ring[192].flags, KVM_DIRTY_GFN_F_DIRTY);
	assert_int_equal(ring[192].offset, 254);
	run_touch(&t, 0x400000 + 253 * PAGE_SIZE, true);
	test_run_to_hlt(&t);
	assert_int_equal(ring[193].flags, 0);
	/* Nonsense from the program is not followed. */
	ring[2] = (struct kvm_dirty_gfn){KVM_DIRTY_GFN_F_RESET, 0x50007, ~0ull};
	assert_int_equal(assert_ok(io(t.vm, KVM_RESET_DIRTY_RINGS, 0)), 1);
	kvmless_munmap(ring, PAGE_SIZE);
	test_vm_destroy(&t);
	munmap(m, 256 * PAGE_SIZE);
}

static void test_delete(void **state)
{
	struct test_vm t;
	u8 *m = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	test_vm_create(&t, 0);
	set_region(t.vm, 1, 0, 0x400000, PAGE_SIZE, m);
	test_vm_start(&t, MODE_LONG, touch);
	for (int i = 0; i < 3; i++) {
		run_touch(&t, 0x400000, true);
		test_run_to_hlt(&t);
		set_region(t.vm, 1, 0, 0x400000, 0, NULL);
		run_touch(&t, 0x400000, false);
		assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
		assert_int_equal(t.run->mmio.is_write, 0);
		assert_int_equal(t.run->mmio.len, 1);
		t.run->mmio.data[0] = 0x42;
		test_run_to_hlt(&t);
		struct kvm_regs r;
		assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
		assert_int_equal(r.rax & 0xff, 0x42);
		set_region(t.vm, 1, 0, 0x400000, PAGE_SIZE, m);
	}
	munmap(m, PAGE_SIZE);
	test_vm_destroy(&t);
}

static void test_many_slots(void **state)
{
	struct test_vm t;
	int n;

	test_vm_create(&t, 0);
	n = MIN(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS), 2000);
	for (int i = 1; i < n; i++)
		set_region(t.vm, i, 0, 0x10000000 + i * 0x2000ul, PAGE_SIZE,
			   t.mem + i % 256 * PAGE_SIZE);
	assert_errno(region(t.vm, n == 2000 ? 0xffff : n, 0, 1ul << 40, PAGE_SIZE, t.mem), EINVAL);
	for (int i = n - 1; i > 0; i--)
		set_region(t.vm, i, 0, 0, 0, NULL);
	test_vm_destroy(&t);
}

static void test_many_vcpus(void **state)
{
	struct rlimit lim;
	struct test_vm t;
	int *fd = calloc(300, sizeof(int)), n;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	test_vm_create(&t, TEST_VM_IRQCHIP);
	n = MIN(300, io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS));
	for (int i = 0; i < n; i++)
		fd[i] = assert_ok(io(t.vm, KVM_CREATE_VCPU, i));
	for (int i = 0; i < n; i++) {
		struct kvm_mp_state mp;

		assert_ok(io(fd[i], KVM_GET_MP_STATE, &mp));
		assert_int_equal(mp.mp_state,
				 i ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE);
	}
	for (int i = 0; i < n; i++)
		kvmless_close(fd[i]);
	free(fd);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_many_slots),
		cmocka_unit_test(test_many_vcpus),
		cmocka_unit_test(test_unmapped),
		cmocka_unit_test(test_changed_under_slot),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_dirty_log),
		cmocka_unit_test(test_dirty_ring),
		cmocka_unit_test(test_manual_protect),
		cmocka_unit_test(test_delete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
