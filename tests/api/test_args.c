/* SPDX-License-Identifier: MIT */
/*
 * Arguments, row by row of the ioctl table: requests on the wrong descriptor, bad pointers, counts
 * that are too large. The errno values are those of Documentation/virt/kvm/api.rst and of what
 * Linux 6.12 answers.
 */
#include "api.h"

#include "kvmapi/ioctl.h"

static struct test_vm t, bare; /* bare: no vCPU, no interrupt controllers */
static void *bad;

static int setup(void **state)
{
	struct kvm_pit_config pit = {0};

	test_vm_create(&t, TEST_VM_IRQCHIP);
	assert_ok(io(t.vm, KVM_CREATE_PIT2, &pit));
	test_vm_add_vcpu(&t);
	test_vm_create(&bare, 0);
	bad = mmap(NULL, 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	test_vm_destroy(&bare);
	munmap(bad, 2 * PAGE_SIZE);
	return 0;
}

static int fd_of(enum ioctl_scope s)
{
	return s == SCOPE_SYSTEM ? t.kvm : s == SCOPE_VM ? t.vm : t.vcpu;
}

static void test_bad_pointers(void **state)
{
	const struct ioctl_row *row;

	for (unsigned i = 0; (row = ioctl_row(i)); i++) {
		int fd = fd_of(row->scope), r;

		if (row->kind == ARG_ZERO) {
			assert_errno(io(fd, row->req, 1), EINVAL);
			continue;
		}
		if (row->kind == ARG_NONE || row->kind == ARG_VALUE)
			continue;
		/* The identity map's address cannot change any more; the pointer may come first. */
		r = io(fd, row->req, bad);
		if (r != -1 || (errno != EFAULT && row->req != KVM_SET_IDENTITY_MAP_ADDR))
			fail_msg("%s with a bad pointer: %d, %s", row->name, r,
				 r < 0 ? strerrorname_np(errno) : "");
		/* NULL removes the signal mask; it is a bad pointer for all others. */
		if (row->req == KVM_SET_SIGNAL_MASK)
			assert_ok(io(fd, row->req, NULL));
		else
			assert_int_equal(io(fd, row->req, NULL), -1);
	}
}

/* Structures that end on the last byte of a page work; one byte more does not. */
static void test_page_edges(void **state)
{
	u8 *p = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	const struct ioctl_row *row;

	munmap(p + PAGE_SIZE, PAGE_SIZE);
	for (unsigned i = 0; (row = ioctl_row(i)); i++) {
		if (row->kind != ARG_OUT)
			continue;
		assert_ok(io(fd_of(row->scope), row->req, p + PAGE_SIZE - row->size));
		assert_errno(io(fd_of(row->scope), row->req, p + PAGE_SIZE - row->size + 1),
			     EFAULT);
	}
	munmap(p, PAGE_SIZE);
}

static void test_wrong_fd(void **state)
{
	int unknown[] = {EINVAL, ENOTTY, EINVAL};
	const struct ioctl_row *row, *other;

	for (unsigned i = 0; (row = ioctl_row(i)); i++)
		for (enum ioctl_scope s = 0; s < SCOPE_N; s++) {
			bool known = false;

			for (unsigned j = 0; (other = ioctl_row(j)); j++)
				known |= other->scope == s && other->req == row->req;
			if (!known)
				assert_errno(io(fd_of(s), row->req, bad), unknown[s]);
		}
	/* Requests nobody has; the size is part of the number. */
	assert_errno(io(t.kvm, _IO(KVMIO, 0xff), 0), EINVAL);
	assert_errno(io(t.vm, _IO(KVMIO, 0xff), 0), ENOTTY);
	assert_errno(io(t.vcpu, _IO(KVMIO, 0xff), 0), EINVAL);
	assert_errno(io(t.vcpu, _IOR(KVMIO, 0x81, u32), bad), EINVAL);
	assert_errno(io(t.vm, _IO('T', 1), 0), ENOTTY);
	assert_errno(io(t.vcpu, _IO('T', 1), 0), EINVAL);
}

static void test_not_ours(void **state)
{
	int p[2];

	assert_errno(io(-1, KVM_RUN, 0), EBADF);
	assert_int_equal(pipe(p), 0);
	assert_errno(io(p[0], KVM_RUN, 0), ENOTTY);
	assert_false(kvmless_is_kvm_fd(p[0]));
	assert_false(kvmless_is_kvm_fd(-1));
	close(p[0]);
	close(p[1]);
}

static void test_system(void **state)
{
	struct kvm_device_attr attr = {.group = 7};
	u64 mce = 0;

	assert_int_equal(io(t.kvm, KVM_GET_API_VERSION, 0), 12);
	assert_true(io(t.kvm, KVM_GET_VCPU_MMAP_SIZE, 0) >= 3 * 4096);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVMLESS_CAP), KVMLESS_CAP_MAGIC);
	assert_int_equal(io(t.vm, KVM_CHECK_EXTENSION, KVMLESS_CAP), KVMLESS_CAP_MAGIC);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, 0x7fffffff), 0);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, -1l), 0);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP), 1);
	assert_true(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS) >= 255);
	assert_true(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS) >= 509);
	assert_errno(io(t.kvm, KVM_CREATE_VM, 0x7777), EINVAL);
	assert_ok(io(t.kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, &mce));
	assert_errno(io(t.kvm, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
	assert_errno(io(t.kvm, KVM_GET_DEVICE_ATTR, &attr), ENXIO);
}

static void test_lists(void **state)
{
	struct {
		struct kvm_msr_list head;
		u32 idx[4096];
	} l = {.head.nmsrs = 0};
	static const u32 lists[] = {KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST};

	for (unsigned i = 0; i < 2; i++) {
		l.head.nmsrs = 0;
		assert_errno(io(t.kvm, lists[i], &l), E2BIG);
		u32 n = l.head.nmsrs;

		assert_in_range(n, 1, 4096);
		l.head.nmsrs = n - 1;
		assert_errno(io(t.kvm, lists[i], &l), E2BIG);
		l.head.nmsrs = n;
		memset(l.idx, 0xff, sizeof(l.idx));
		assert_ok(io(t.kvm, lists[i], &l));
		assert_int_equal(l.head.nmsrs, n);
		assert_int_equal(l.idx[n], 0xffffffff);
		/* Every one of them can be read where the list says. */
		for (u32 k = 0; k < n; k++) {
			struct {
				struct kvm_msrs head;
				struct kvm_msr_entry e;
			} m = {.head.nmsrs = 1, .e.index = l.idx[k]};

			if (io(i ? t.kvm : t.vcpu, KVM_GET_MSRS, &m) != 1)
				fail_msg("MSR %#x is listed and cannot be read", l.idx[k]);
		}
	}
}

static void test_msrs(void **state)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[256];
	} m = {.head.nmsrs = 256};

	assert_errno(io(t.vcpu, KVM_GET_MSRS, &m), E2BIG);
	assert_errno(io(t.vcpu, KVM_SET_MSRS, &m), E2BIG);
	assert_errno(io(t.kvm, KVM_GET_MSRS, &m), E2BIG);
	m.head.nmsrs = 0;
	assert_int_equal(io(t.vcpu, KVM_GET_MSRS, &m), 0);
	/* The first bad one ends it. */
	m.head.nmsrs = 3;
	m.e[0].index = 0xc0000080; /* EFER */
	m.e[1].index = 0x12345678;
	m.e[2].index = 0xc0000080;
	assert_int_equal(io(t.vcpu, KVM_GET_MSRS, &m), 1);
	assert_int_equal(io(t.vcpu, KVM_SET_MSRS, &m), 1);
}

static void test_cpuid(void **state)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[257];
	} *c = calloc(1, sizeof(*c));
	u32 n;

	assert_errno(io(t.kvm, KVM_GET_SUPPORTED_CPUID, c), E2BIG);
	c->head.nent = 1;
	assert_errno(io(t.kvm, KVM_GET_SUPPORTED_CPUID, c), E2BIG);
	assert_int_equal(c->head.nent, 1);
	c->head.nent = 0xffffffff; /* counts as 256 */
	assert_ok(io(t.kvm, KVM_GET_SUPPORTED_CPUID, c));
	n = c->head.nent;
	assert_in_range(n, 10, 256);
	c->head.nent = 257;
	assert_errno(io(t.vcpu, KVM_SET_CPUID2, c), E2BIG);
	assert_errno(io(t.vcpu, KVM_SET_CPUID, c), E2BIG);
	c->head.nent = n;
	assert_ok(io(t.vcpu, KVM_SET_CPUID2, c));
	c->head.nent = n - 1;
	assert_errno(io(t.vcpu, KVM_GET_CPUID2, c), E2BIG);
	c->head.nent = 256;
	assert_ok(io(t.vcpu, KVM_GET_CPUID2, c));
	assert_int_equal(c->head.nent, n);
	c->head.nent = 256;
	assert_ok(io(t.kvm, KVM_GET_EMULATED_CPUID, c));
	free(c);
}

static void test_without_irqchip(void **state)
{
	struct kvm_irq_level irq = {.irq = 1, .level = 1};
	struct kvm_irqchip chip = {0};
	struct kvm_pit_config pit = {0};
	struct kvm_pit_state2 ps = {0};
	struct kvm_reinject_control rc = {0};
	struct kvm_msi msi = {0};
	struct kvm_irq_routing routing = {0};
	struct kvm_lapic_state lapic = {{0}};
	int vcpu = assert_ok(io(bare.vm, KVM_CREATE_VCPU, 0));

	assert_errno(io(bare.vm, KVM_IRQ_LINE, &irq), ENXIO);
	assert_errno(io(bare.vm, KVM_IRQ_LINE_STATUS, &irq), ENXIO);
	assert_errno(io(bare.vm, KVM_GET_IRQCHIP, &chip), ENXIO);
	assert_errno(io(bare.vm, KVM_SET_IRQCHIP, &chip), ENXIO);
	assert_errno(io(bare.vm, KVM_CREATE_PIT2, &pit), ENOENT);
	assert_errno(io(bare.vm, KVM_CREATE_PIT, 0), ENOENT);
	assert_errno(io(bare.vm, KVM_GET_PIT2, &ps), ENXIO);
	assert_errno(io(bare.vm, KVM_SET_PIT2, &ps), ENXIO);
	assert_errno(io(bare.vm, KVM_GET_PIT, &ps), ENXIO);
	assert_errno(io(bare.vm, KVM_SET_PIT, &ps), ENXIO);
	assert_errno(io(bare.vm, KVM_REINJECT_CONTROL, &rc), ENXIO);
	assert_errno(io(bare.vm, KVM_SIGNAL_MSI, &msi), EINVAL);
	assert_errno(io(bare.vm, KVM_SET_GSI_ROUTING, &routing), EINVAL);
	assert_errno(io(vcpu, KVM_GET_LAPIC, &lapic), EINVAL);
	assert_errno(io(vcpu, KVM_SET_LAPIC, &lapic), EINVAL);
	/* With a vCPU there it is too late for one. */
	assert_errno(io(bare.vm, KVM_CREATE_IRQCHIP, 0), EINVAL);
	assert_errno(io(bare.vm, KVM_SET_BOOT_CPU_ID, 0), EBUSY);
	kvmless_close(vcpu);
}

static void test_irqchip(void **state)
{
	struct kvm_irqchip chip = {.chip_id = 3};
	struct kvm_irq_routing routing = {.nr = 4097};
	struct kvm_pit_config pit = {0};
	struct kvm_irq_level irq = {.irq = 5, .level = 1};
	struct kvm_interrupt vec = {.irq = 0x20};

	assert_errno(io(t.vm, KVM_CREATE_IRQCHIP, 0), EEXIST);
	assert_errno(io(t.vm, KVM_CREATE_PIT2, &pit), EEXIST);
	assert_errno(io(t.vm, KVM_GET_IRQCHIP, &chip), EINVAL);
	assert_errno(io(t.vm, KVM_SET_IRQCHIP, &chip), EINVAL);
	for (chip.chip_id = 0; chip.chip_id < 3; chip.chip_id++) {
		assert_ok(io(t.vm, KVM_GET_IRQCHIP, &chip));
		assert_ok(io(t.vm, KVM_SET_IRQCHIP, &chip));
	}
	assert_errno(io(t.vm, KVM_SET_GSI_ROUTING, &routing), EINVAL);
	routing.nr = 0;
	routing.flags = 1;
	assert_errno(io(t.vm, KVM_SET_GSI_ROUTING, &routing), EINVAL);
	assert_ok(io(t.vm, KVM_IRQ_LINE, &irq));
	irq.level = 0;
	assert_ok(io(t.vm, KVM_IRQ_LINE_STATUS, &irq));
	/* External interrupts come from the APIC here. */
	assert_errno(io(t.vcpu, KVM_INTERRUPT, &vec), ENXIO);
}

static void test_vm_misc(void **state)
{
	struct kvm_enable_cap cap = {.cap = 0xffff};
	struct kvm_create_device dev = {.type = 99};
	struct kvm_clock_data clk = {0};
	struct kvm_msr_filter f = {.flags = 2};
	u64 ident = 0xfeffc000;
	int vcpu, dup_id;

	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	assert_errno(io(t.vcpu, KVM_ENABLE_CAP, &cap), EINVAL);
	assert_errno(io(t.vm, KVM_CREATE_DEVICE, &dev), ENODEV);
	assert_errno(io(t.vm, KVM_SET_NR_MMU_PAGES, 63), EINVAL);
	assert_ok(io(t.vm, KVM_SET_NR_MMU_PAGES, 1000));
	assert_errno(io(t.vm, KVM_SET_TSS_ADDR, 0xfffffffful), EINVAL);
	assert_ok(io(t.vm, KVM_SET_TSS_ADDR, 0xfeffd000ul));
	assert_errno(io(t.vm, KVM_SET_IDENTITY_MAP_ADDR, &ident), EINVAL); /* has a vCPU */
	assert_ok(io(t.vm, KVM_GET_CLOCK, &clk));
	clk.flags = 0xff00;
	assert_errno(io(t.vm, KVM_SET_CLOCK, &clk), EINVAL);
	assert_errno(io(t.vm, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY; /* denies everything, names nothing */
	assert_errno(io(t.vm, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[0] = (struct kvm_msr_filter_range){.flags = 4, .nmsrs = 1, .bitmap = (u8 *)&ident};
	assert_errno(io(t.vm, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[0].flags = KVM_MSR_FILTER_READ;
	f.ranges[0].nmsrs = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8 + 1;
	assert_errno(io(t.vm, KVM_X86_SET_MSR_FILTER, &f), EINVAL);
	f.ranges[0].nmsrs = 64;
	f.ranges[0].bitmap = bad;
	assert_errno(io(t.vm, KVM_X86_SET_MSR_FILTER, &f), EFAULT);
	memset(&f, 0, sizeof(f));
	assert_ok(io(t.vm, KVM_X86_SET_MSR_FILTER, &f));
	assert_true(io(t.vm, KVM_GET_TSC_KHZ, 0) > 0);

	/* vCPU IDs */
	assert_errno(io(t.vm, KVM_CREATE_VCPU, 0), EEXIST);
	assert_errno(io(t.vm, KVM_CREATE_VCPU, 0x10000), EINVAL);
	assert_errno(io(t.vm, KVM_CREATE_VCPU, 0x100000001ul), EINVAL);
	vcpu = assert_ok(io(t.vm, KVM_CREATE_VCPU, 200));
	dup_id = io(t.vm, KVM_CREATE_VCPU, 200);
	assert_int_equal(dup_id, -1);
	assert_int_equal(errno, EEXIST);
	kvmless_close(vcpu);
}

static void test_vcpu_misc(void **state)
{
	struct {
		struct kvm_signal_mask head;
		u8 set[8];
	} mask = {.head.len = 16};
	struct kvm_device_attr attr = {.group = 9};
	struct kvm_guest_debug dbg = {.control = 0};
	struct kvm_mp_state mp = {.mp_state = 77};
	struct kvm_sregs s;
	struct kvm_xcrs x = {.nr_xcrs = 17};
	struct kvm_debugregs d;
	struct kvm_vcpu_events ev;

	assert_errno(io(t.vcpu, KVM_SET_SIGNAL_MASK, &mask), EINVAL);
	mask.head.len = 8;
	assert_ok(io(t.vcpu, KVM_SET_SIGNAL_MASK, &mask));
	assert_ok(io(t.vcpu, KVM_SET_SIGNAL_MASK, NULL));
	assert_errno(io(t.vcpu, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
	assert_errno(io(t.vcpu, KVM_GET_DEVICE_ATTR, &attr), ENXIO);
	assert_errno(io(t.vcpu, KVM_SET_DEVICE_ATTR, &attr), ENXIO);
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &dbg));
	assert_errno(io(t.vcpu, KVM_SET_MP_STATE, &mp), EINVAL);
	assert_ok(io(t.vcpu, KVM_GET_SREGS, &s));
	s.cr4 = ~0ull;
	assert_errno(io(t.vcpu, KVM_SET_SREGS, &s), EINVAL);
	assert_ok(io(t.vcpu, KVM_GET_SREGS, &s));
	s.efer |= BIT(63);
	assert_errno(io(t.vcpu, KVM_SET_SREGS, &s), EINVAL);
	assert_errno(io(t.vcpu, KVM_SET_XCRS, &x), EINVAL);
	x.nr_xcrs = 0;
	x.flags = 1;
	assert_errno(io(t.vcpu, KVM_SET_XCRS, &x), EINVAL);
	assert_ok(io(t.vcpu, KVM_GET_DEBUGREGS, &d));
	d.flags = 1;
	assert_errno(io(t.vcpu, KVM_SET_DEBUGREGS, &d), EINVAL);
	assert_ok(io(t.vcpu, KVM_GET_VCPU_EVENTS, &ev));
	ev.flags = ~0u;
	assert_errno(io(t.vcpu, KVM_SET_VCPU_EVENTS, &ev), EINVAL);
	assert_true(io(t.vcpu, KVM_GET_TSC_KHZ, 0) > 0);
	assert_ok(io(t.vcpu, KVM_NMI, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_pointers), cmocka_unit_test(test_page_edges),
		cmocka_unit_test(test_wrong_fd),     cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_system),	     cmocka_unit_test(test_lists),
		cmocka_unit_test(test_msrs),	     cmocka_unit_test(test_cpuid),
		cmocka_unit_test(test_irqchip),	     cmocka_unit_test(test_without_irqchip),
		cmocka_unit_test(test_vm_misc),	     cmocka_unit_test(test_vcpu_misc),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
