/* SPDX-License-Identifier: MIT */
/* irqfd, ioeventfd, coalesced MMIO and ports, the in-kernel chips as the guest meets them. */
#include "api.h"

#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

static u64 drain(int fd)
{
	u64 v = 0;

	if (read(fd, &v, sizeof(v)) != sizeof(v))
		return 0;
	return v;
}

GUEST(bells, ".code64\n"
	     "	mov $0x30000000, %ebx\n"
	     "	movl $7, (%rbx)\n"
	     "	movl $8, (%rbx)\n"
	     "	mov $0x1234, %eax\n"
	     "	mov $0x600, %edx\n"
	     "	out %ax, %dx\n"
	     "	movb $1, 8(%rbx)\n"
	     "	hlt");

static void test_ioeventfd(void **state)
{
	int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK),
	    c = eventfd(0, EFD_NONBLOCK);
	struct kvm_ioeventfd ev = {.addr = 0x30000000, .len = 3, .fd = a};
	struct test_vm t;

	test_vm_create(&t, 0);
	assert_errno(io(t.vm, KVM_IOEVENTFD, &ev), EINVAL);
	ev.len = 4;
	ev.flags = 0x100;
	assert_errno(io(t.vm, KVM_IOEVENTFD, &ev), EINVAL);
	ev.flags = 0;
	ev.addr = ~0ull;
	assert_errno(io(t.vm, KVM_IOEVENTFD, &ev), EINVAL);
	ev.addr = 0x30000000;
	ev.fd = -1;
	assert_int_equal(io(t.vm, KVM_IOEVENTFD, &ev), -1);
	ev.fd = t.vm;
	assert_int_equal(io(t.vm, KVM_IOEVENTFD, &ev), -1);
	ev.fd = a;
	ev.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
	ev.datamatch = 7;
	assert_ok(io(t.vm, KVM_IOEVENTFD, &ev));
	assert_errno(io(t.vm, KVM_IOEVENTFD, &ev), EEXIST);
	assert_ok(io(t.vm, KVM_IOEVENTFD,
		     &(struct kvm_ioeventfd){
			     .addr = 0x600, .len = 2, .fd = b, .flags = KVM_IOEVENTFD_FLAG_PIO}));
	assert_ok(io(t.vm, KVM_IOEVENTFD,
		     &(struct kvm_ioeventfd){.addr = 0x30000008, .len = 0, .fd = c}));
	test_vm_start(&t, MODE_LONG, bells);
	/* 7 rings the bell, 8 does not match */
	assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
	assert_int_equal(t.run->mmio.data[0], 8);
	assert_int_equal(drain(a), 1);
	test_run_to_hlt(&t);
	assert_int_equal(drain(b), 1);
	assert_int_equal(drain(c), 1);
	ev.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	assert_ok(io(t.vm, KVM_IOEVENTFD, &ev));
	assert_errno(io(t.vm, KVM_IOEVENTFD, &ev), ENOENT);
	test_vcpu_mode(&t, t.vcpu, MODE_LONG, CODE_GPA);
	assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
	assert_int_equal(t.run->mmio.data[0], 7);
	test_vm_destroy(&t);
	close(a);
	close(b);
	close(c);
}

GUEST(coalesced, ".code64\n"
		 "	mov $0x30000000, %ebx\n"
		 "	mov $200, %ecx\n"
		 "1:	mov %ecx, 4(%rbx)\n"
		 "	dec %ecx\n"
		 "	jnz 1b\n"
		 "	hlt");

static void test_coalesced(void **state)
{
	struct kvm_coalesced_mmio_zone z = {.addr = 0x30000000, .size = 0x1000};
	struct kvm_coalesced_mmio_ring *ring;
	struct test_vm t;
	unsigned page, n = 0;

	test_vm_create(&t, 0);
	page = io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	assert_int_equal(page, 2);
	z.pio = 2;
	assert_errno(io(t.vm, KVM_REGISTER_COALESCED_MMIO, &z), EINVAL);
	z.pio = 0;
	assert_ok(io(t.vm, KVM_REGISTER_COALESCED_MMIO, &z));
	test_vm_start(&t, MODE_LONG, coalesced);
	ring = (void *)((u8 *)t.run + page * PAGE_SIZE);
	/* One slot of the ring stays free; the write that finds it full goes the long way. */
	while (test_run(&t) == KVM_EXIT_MMIO) {
		while (ring->first != ring->last) {
			struct kvm_coalesced_mmio *m = &ring->coalesced_mmio[ring->first];

			assert_int_equal(m->phys_addr, 0x30000004);
			assert_int_equal(m->len, 4);
			assert_int_equal(*(u32 *)m->data, 200 - n++);
			ring->first = (ring->first + 1) % KVM_COALESCED_MMIO_MAX;
		}
		assert_int_equal(*(u32 *)t.run->mmio.data, 200 - n++);
	}
	assert_int_equal(t.run->exit_reason, KVM_EXIT_HLT);
	for (; ring->first != ring->last; ring->first = (ring->first + 1) % KVM_COALESCED_MMIO_MAX)
		n++;
	assert_int_equal(n, 200);
	assert_ok(io(t.vm, KVM_UNREGISTER_COALESCED_MMIO, &z));
	test_vcpu_mode(&t, t.vcpu, MODE_LONG, CODE_GPA);
	assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
	assert_int_equal(*(u32 *)t.run->mmio.data, 200);
	test_vm_destroy(&t);
}

GUEST(coalesced_rep, ".code64\n"
		     "	mov $0x30000000, %edi\n"
		     "	mov $0x1234, %eax\n"
		     "	mov $300, %ecx\n"
		     "	rep stosw\n"
		     "	hlt");

/* A counter of the vCPU. */
static u64 stat_of(int vcpu, const char *name)
{
	int fd = assert_ok(io(vcpu, KVM_GET_STATS_FD, 0));
	struct kvm_stats_header h;
	struct kvm_stats_desc *d;
	size_t size;
	u64 v = 0;
	char *all;

	assert_int_equal(kvmless_read(fd, &h, sizeof(h)), sizeof(h));
	size = sizeof(*d) + h.name_size;
	all = calloc(h.num_desc, size);
	assert_int_equal(kvmless_pread(fd, all, h.num_desc * size, h.desc_offset),
			 h.num_desc * size);
	for (u32 i = 0; i < h.num_desc; i++) {
		d = (void *)(all + i * size);
		if (!strcmp(d->name, name))
			kvmless_pread(fd, &v, sizeof(v), h.data_offset + d->offset);
	}
	free(all);
	kvmless_close(fd);
	return v;
}

/* One emulation writes many elements; the ring's end is in the middle of them. */
static void test_coalesced_rep(void **state)
{
	struct kvm_coalesced_mmio_zone z = {.addr = 0x30000000, .size = 0x1000};
	struct kvm_coalesced_mmio_ring *ring;
	struct test_vm t;
	unsigned page, n = 0, exits = 0;

	test_vm_create(&t, 0);
	page = io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	assert_ok(io(t.vm, KVM_REGISTER_COALESCED_MMIO, &z));
	test_vm_start(&t, MODE_LONG, coalesced_rep);
	ring = (void *)((u8 *)t.run + page * PAGE_SIZE);
	for (;;) {
		int reason = test_run(&t);

		for (; ring->first != ring->last; n++) {
			struct kvm_coalesced_mmio *m = &ring->coalesced_mmio[ring->first];

			assert_int_equal(m->phys_addr, 0x30000000 + 2 * n);
			assert_int_equal(m->len, 2);
			assert_int_equal(*(u16 *)m->data, 0x1234);
			ring->first = (ring->first + 1) % KVM_COALESCED_MMIO_MAX;
		}
		if (reason != KVM_EXIT_MMIO)
			break;
		assert_int_equal(t.run->mmio.phys_addr, 0x30000000 + 2 * n++);
		exits++;
	}
	assert_int_equal(t.run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(n, 300);
	assert_true(exits >= 1);
	assert_in_range(stat_of(t.vcpu, "insn_emulation"), 1, exits + 1);
	test_vm_destroy(&t);
}

static void test_irqfd_args(void **state)
{
	int e = eventfd(0, 0), p[2];
	struct kvm_irqfd f = {.fd = e, .gsi = 4};
	struct test_vm t;

	test_vm_create(&t, 0);
	/* Without interrupt controllers in the kernel */
	assert_errno(io(t.vm, KVM_IRQFD, &f), EINVAL);
	test_vm_destroy(&t);
	test_vm_create(&t, TEST_VM_IRQCHIP);
	f.flags = 0x10;
	assert_errno(io(t.vm, KVM_IRQFD, &f), EINVAL);
	f.flags = 0;
	f.fd = -1;
	assert_errno(io(t.vm, KVM_IRQFD, &f), EBADF);
	assert_int_equal(pipe(p), 0);
	f.fd = p[0];
	assert_errno(io(t.vm, KVM_IRQFD, &f), EINVAL);
	f.fd = e;
	assert_ok(io(t.vm, KVM_IRQFD, &f));
	assert_errno(io(t.vm, KVM_IRQFD, &f), EBUSY);
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	assert_ok(io(t.vm, KVM_IRQFD, &f));
	test_vm_destroy(&t);
	close(p[0]);
	close(p[1]);
	close(e);
}

/* Real mode, both 8259 programmed, interrupts at 0x20: each IRQ leaves a port access behind. */
GUEST(pic, ".code16\n"
	   "	cli\n"
	   "	mov $0x11, %al\n	out %al, $0x20\n"
	   "	mov $0x20, %al\n	out %al, $0x21\n"
	   "	mov $0x04, %al\n	out %al, $0x21\n"
	   "	mov $0x01, %al\n	out %al, $0x21\n"
	   "	mov $0x00, %al\n	out %al, $0x21\n"
	   "	out %al, $0x99\n" /* ready */
	   "	sti\n"
	   "1:	hlt\n"
	   "	jmp 1b\n"
	   "	.org guest_pic + 0x100\n"
	   "	out %al, $0x98\n"
	   "	mov $0x20, %al\n"
	   "	out %al, $0x20\n"
	   "	iret");

static void pic_guest(struct test_vm *t)
{
	test_vm_create(t, TEST_VM_IRQCHIP);
	test_vm_start(t, MODE_REAL, pic);
	for (int v = 0x20; v < 0x28; v++) {
		((u16 *)t->mem)[v * 2] = 0x1100;
		((u16 *)t->mem)[v * 2 + 1] = 0;
	}
	assert_int_equal(test_run(t), KVM_EXIT_IO);
	assert_int_equal(t->run->io.port, 0x99);
}

static void expect_irq(struct test_vm *t)
{
	assert_int_equal(test_run(t), KVM_EXIT_IO);
	assert_int_equal(t->run->io.port, 0x98);
}

static void test_irq_line(void **state)
{
	struct kvm_irq_level irq = {.irq = 4, .level = 1};
	struct test_vm t;

	pic_guest(&t);
	for (int i = 0; i < 3; i++) {
		irq.irq = 4;
		irq.level = 1;
		assert_ok(io(t.vm, KVM_IRQ_LINE_STATUS, &irq));
		assert_int_equal(irq.status, 1);
		expect_irq(&t);
		irq.irq = 4;
		irq.level = 0;
		assert_ok(io(t.vm, KVM_IRQ_LINE, &irq));
	}
	test_vm_destroy(&t);
}

static void test_irqfd(void **state)
{
	int e = eventfd(0, 0);
	struct kvm_irqfd f = {.fd = e, .gsi = 3};
	struct test_vm t;
	u64 one = 1;

	pic_guest(&t);
	assert_ok(io(t.vm, KVM_IRQFD, &f));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(e, &one, 8), 8);
		expect_irq(&t);
	}
	/* Closing the program's own end is no reason to stop */
	test_vm_destroy(&t);
	close(e);
}

/* The 8254 ticks by itself: KVM_RUN sleeps in HLT and comes back with the tick's port access. */
/* 11 ticks of 10 ms, in ms. Ticks that a busy machine has missed are made up for. */
static long pit_ticks(void)
{
	struct kvm_pit_config cfg = {0};
	struct kvm_pit_state2 ps;
	struct timespec a, b;
	struct test_vm t;

	pic_guest(&t);
	assert_ok(io(t.vm, KVM_CREATE_PIT2, &cfg));
	assert_ok(io(t.vm, KVM_GET_PIT2, &ps));
	ps.channels[0].mode = 2;
	ps.channels[0].count = 11932; /* 10 ms */
	ps.channels[0].gate = 1;
	clock_gettime(CLOCK_MONOTONIC, &a);
	assert_ok(io(t.vm, KVM_SET_PIT2, &ps));
	for (int i = 0; i < 11; i++)
		expect_irq(&t);
	clock_gettime(CLOCK_MONOTONIC, &b);
	test_vm_destroy(&t);
	return (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
}

static void test_pit(void **state)
{
	long ms, least = LONG_MAX;

	/* Never early; on a busy machine not always in time. */
	for (int i = 0; i < 10 && least > 200; i++) {
		ms = pit_ticks();
		assert_true(ms >= 105);
		least = ms < least ? ms : least;
	}
	assert_in_range(least, 105, 200);
}

static void test_split_irqchip(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {9999}};
	struct kvm_irqchip chip = {0};
	struct kvm_lapic_state l;
	struct test_vm t;

	test_vm_create(&t, 0);
	if (!io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_SPLIT_IRQCHIP))
		skip();
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 24;
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EEXIST);
	assert_errno(io(t.vm, KVM_CREATE_IRQCHIP, 0), EEXIST);
	assert_errno(io(t.vm, KVM_GET_IRQCHIP, &chip), ENXIO);
	test_vm_add_vcpu(&t);
	assert_ok(io(t.vcpu, KVM_GET_LAPIC, &l));
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ioeventfd),     cmocka_unit_test(test_coalesced),
		cmocka_unit_test(test_coalesced_rep), cmocka_unit_test(test_irqfd_args),
		cmocka_unit_test(test_irq_line),      cmocka_unit_test(test_irqfd),
		cmocka_unit_test(test_pit),	      cmocka_unit_test(test_split_irqchip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
