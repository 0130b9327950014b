/* SPDX-License-Identifier: MIT */
/* irqfds, resampling, ioeventfds, coalesced zones, the I/O bus. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/iobus.h"
#include "core/irqchip/irq_private.h"
#include "fake.h"

static struct kvm *kvm;
static struct kvm_vcpu *v;

static int setup(void **state)
{
	kvm = fake_vm(FAKE_KERNEL, 2);
	v = kvm->vcpus[0];
	apic_enable(v);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static void signal_fd(int fd)
{
	u64 one = 1;

	assert_int_equal(write(fd, &one, 8), 8);
}

/* The count, 0 if none. */
static u64 fd_count(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	u64 n = 0;

	if (poll(&p, 1, 0) == 1)
		assert_int_equal(read(fd, &n, 8), 8);
	return n;
}

static void rte(unsigned pin, u32 lo)
{
	u32 sel = 0x10 + 2 * pin;

	io_bus_write(v, IO_BUS_MMIO, 0xfec00000, 4, &sel);
	io_bus_write(v, IO_BUS_MMIO, 0xfec00010, 4, &lo);
}

static int irqfd(int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd a = {
		.fd = (u32)fd, .gsi = gsi, .flags = flags, .resamplefd = (u32)resample};

	return vm_irqfd(kvm, &a);
}

static void test_irqfd_edge(void **state)
{
	int fd = eventfd(0, 0), other = eventfd(0, 0);

	rte(5, 0x55);
	assert_int_equal(irqfd(fd, 5, 0, -1), 0);
	assert_int_equal(irqfd(fd, 6, 0, -1), -EBUSY);
	for (unsigned i = 0; i < 20; i++) {
		signal_fd(fd);
		assert_true(wait_for(lapic_has_interrupt(v) == 0x55, 4000));
		assert_int_equal(apic_take(v), 0x55);
	}
	assert_true(wait_for(fd_count(fd) == 0, 100));
	/* Another eventfd, or another GSI: nothing to end, no error. */
	assert_int_equal(irqfd(other, 5, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	assert_int_equal(irqfd(fd, 6, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	signal_fd(fd);
	assert_true(wait_for(apic_take(v) == 0x55, 4000));
	/* The VMM may close its descriptor: ours stays, and knows it by a copy. */
	close(other);
	other = dup(fd);
	close(fd);
	signal_fd(other);
	assert_true(wait_for(apic_take(v) == 0x55, 4000));
	assert_int_equal(irqfd(other, 5, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	signal_fd(other);
	fake_sleep_us(3000);
	assert_int_equal(apic_take(v), -1);
	assert_int_equal(fd_count(other), 1);
	/* A count that is there at assignment is an interrupt. */
	signal_fd(other);
	assert_int_equal(irqfd(other, 5, 0, -1), 0);
	assert_true(wait_for(apic_take(v) == 0x55, 4000));
	close(other);
}

static void test_irqfd_errors(void **state)
{
	int fd = eventfd(0, 0), file = open("/proc/self/exe", O_RDONLY);
	struct kvm *none = fake_vm(FAKE_NONE, 1), *split = fake_vm(FAKE_SPLIT, 1);
	struct kvm_irqfd a = {.fd = (u32)fd, .gsi = 1};

	assert_int_equal(irqfd(-1, 5, 0, -1), -EBADF);
	assert_int_equal(irqfd(file, 5, 0, -1), -EINVAL);
	assert_int_equal(irqfd(fd, 5, 4, -1), -EINVAL);
	assert_int_equal(irqfd(fd, 4096, 0, -1), -EINVAL);
	assert_int_equal(irqfd(fd, 5, KVM_IRQFD_FLAG_RESAMPLE, -1), -EBADF);
	assert_int_equal(irqfd(fd, 5, KVM_IRQFD_FLAG_RESAMPLE, file), -EINVAL);
	assert_int_equal(irqfd(-1, 5, KVM_IRQFD_FLAG_DEASSIGN, -1), -EBADF);
	assert_int_equal(vm_irqfd(none, &a), -EINVAL);
	assert_int_equal(vm_irqfd(split, &a), 0);
	a.fd = (u32)eventfd(0, 0);
	a.resamplefd = a.fd;
	a.flags = KVM_IRQFD_FLAG_RESAMPLE;
	assert_int_equal(vm_irqfd(split, &a), -EINVAL);
	close((int)a.fd);
	fake_vm_free(none);
	fake_vm_free(split);
	close(fd);
	close(file);
}

/* vfio's way: the device's level interrupt, unmasked at the guest's EOI. */
static void test_resample(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), again = eventfd(0, EFD_NONBLOCK);
	int fd2 = eventfd(0, EFD_NONBLOCK), again2 = eventfd(0, EFD_NONBLOCK);

	rte(11, 0x8066);
	assert_int_equal(irqfd(fd, 11, KVM_IRQFD_FLAG_RESAMPLE, again), 0);
	assert_int_equal(irqfd(fd2, 11, KVM_IRQFD_FLAG_RESAMPLE, again2), 0);
	for (unsigned i = 0; i < 5; i++) {
		signal_fd(fd);
		assert_true(wait_for(lapic_has_interrupt(v) == 0x66, 4000));
		assert_int_equal(lapic_get_interrupt(v), 0x66);
		assert_int_equal(fd_count(again), 0);
		apic_write(v, APIC_EOI, 0);
		/* All that share the line hear of it, and the line is down. */
		assert_int_equal(fd_count(again), 1);
		assert_int_equal(fd_count(again2), 1);
		assert_int_equal(apic_take(v), -1);
	}
	/* The EOI of the PIC counts as well: IRQ 11 is pin 3 of the slave. */
	rte(11, 0x18066);
	for (unsigned i = 0; i < 2; i++) {
		u16 port = i ? 0x20 : 0xa0;

		port_out(v, port, 0x11);
		port_out(v, port + 1, i ? 0x30 : 0x38);
		port_out(v, port + 1, i ? 0x04 : 0x02);
		port_out(v, port + 1, 0x01);
		port_out(v, port + 1, 0x00);
	}
	fd_count(again);
	signal_fd(fd);
	assert_true(wait_for(irq_pending(v) == 0x3b, 4000));
	assert_int_equal(irq_get(v), 0x3b);
	port_out(v, 0xa0, 0x20);
	port_out(v, 0x20, 0x20);
	assert_int_equal(fd_count(again), 1);
	/* Deassigned while high: the last one lowers the line. */
	rte(11, 0x8066);
	signal_fd(fd);
	assert_true(wait_for(lapic_has_interrupt(v) == 0x66, 4000));
	assert_int_equal(irqfd(fd2, 11, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	assert_int_equal(irqfd(fd, 11, KVM_IRQFD_FLAG_DEASSIGN, -1), 0);
	assert_int_equal(apic_take(v), 0x66);
	assert_int_equal(apic_take(v), -1);
	close(fd);
	close(fd2);
	close(again);
	close(again2);
}

static void test_irqfd_reroute(void **state)
{
	int fd = eventfd(0, 0);
	struct kvm_irq_routing_entry e = {.gsi = 30, .type = KVM_IRQ_ROUTING_MSI};

	assert_int_equal(irqfd(fd, 30, 0, -1), 0);
	for (u32 vec = 0x40; vec < 0x50; vec++) {
		e.u.msi.address_lo = 0xfee00000;
		e.u.msi.data = vec;
		assert_int_equal(vm_set_gsi_routing(kvm, &e, 1, 0), 0);
		signal_fd(fd);
		assert_true(wait_for(lapic_has_interrupt(v) >= 0, 4000));
		assert_int_equal(apic_take(v), vec);
	}
	close(fd);
}

static int ioevent(u64 addr, u32 len, int fd, u32 flags, u64 match)
{
	struct kvm_ioeventfd a = {
		.addr = addr, .len = len, .fd = fd, .flags = flags, .datamatch = match};

	return vm_ioeventfd(kvm, &a);
}

static int mmio_write(u64 addr, unsigned len, u64 val)
{
	return io_bus_write(v, IO_BUS_MMIO, addr, len, &val);
}

static void test_ioeventfd(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK);
	u64 val;

	assert_int_equal(ioevent(0x1000, 4, fd, 0, 0), 0);
	assert_int_equal(mmio_write(0x1000, 4, 7), 0);
	assert_int_equal(fd_count(fd), 1);
	assert_int_equal(mmio_write(0x1000, 2, 7), -EOPNOTSUPP);
	assert_int_equal(mmio_write(0x1002, 2, 7), -EOPNOTSUPP);
	assert_int_equal(mmio_write(0x1004, 4, 7), -EOPNOTSUPP);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0x1000, 4, &val), -EOPNOTSUPP);
	val = 0;
	assert_int_equal(io_bus_write(v, IO_BUS_PIO, 0x1000, 4, &val), -EOPNOTSUPP);
	/* Collisions: the same length where one is a wildcard, or length 0. */
	assert_int_equal(ioevent(0x1000, 4, fd2, 0, 0), -EEXIST);
	assert_int_equal(ioevent(0x1000, 4, fd2, KVM_IOEVENTFD_FLAG_DATAMATCH, 1), -EEXIST);
	assert_int_equal(ioevent(0x1000, 0, fd2, 0, 0), -EEXIST);
	assert_int_equal(ioevent(0x1000, 2, fd2, 0, 0), 0);
	assert_int_equal(ioevent(0x1000, 4, fd2, KVM_IOEVENTFD_FLAG_PIO, 0), 0);
	assert_int_equal(mmio_write(0x1000, 2, 7), 0);
	assert_int_equal(fd_count(fd2), 1);
	/* Deassign wants everything the same. */
	assert_int_equal(ioevent(0x1000, 4, fd2, KVM_IOEVENTFD_FLAG_DEASSIGN, 0), -ENOENT);
	assert_int_equal(ioevent(0x1000, 2, fd, KVM_IOEVENTFD_FLAG_DEASSIGN, 0), -ENOENT);
	assert_int_equal(ioevent(0x1000, 4, fd, KVM_IOEVENTFD_FLAG_DEASSIGN, 0), 0);
	assert_int_equal(mmio_write(0x1000, 4, 7), -EOPNOTSUPP);
	close(fd);
	close(fd2);
}

/* virtio's queues: one address, told apart by what is written. */
static void test_ioeventfd_datamatch(void **state)
{
	int fd[4];

	for (unsigned i = 0; i < 4; i++) {
		fd[i] = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(ioevent(0xc000, 2, fd[i],
					 KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH, i),
				 0);
	}
	assert_int_equal(
		ioevent(0xc000, 2, fd[0], KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH, 3),
		-EEXIST);
	for (u64 i = 0; i < 4; i++) {
		assert_int_equal(io_bus_write(v, IO_BUS_PIO, 0xc000, 2, &i), 0);
		for (unsigned k = 0; k < 4; k++)
			assert_int_equal(fd_count(fd[k]), k == i);
	}
	for (u64 i = 4; i < 6; i++)
		assert_int_equal(io_bus_write(v, IO_BUS_PIO, 0xc000, 2, &i), -EOPNOTSUPP);
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
}

static void test_ioeventfd_any_length(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(ioevent(0x2000, 0, fd, KVM_IOEVENTFD_FLAG_DATAMATCH, 0), -EINVAL);
	assert_int_equal(ioevent(0x2000, 0, fd, 0, 0), 0);
	for (unsigned len = 1; len <= 8; len *= 2)
		assert_int_equal(mmio_write(0x2000, len, 1), 0);
	assert_int_equal(mmio_write(0x2001, 1, 1), -EOPNOTSUPP);
	assert_int_equal(fd_count(fd), 4);
	assert_int_equal(ioevent(0x3000, 3, fd, 0, 0), -EINVAL);
	assert_int_equal(ioevent(~0ull - 1, 4, fd, 0, 0), -EINVAL);
	assert_int_equal(ioevent(0x3000, 4, fd, 1u << 5, 0), -EINVAL);
	assert_int_equal(ioevent(0x3000, 4, -1, 0, 0), -EBADF);
	assert_int_equal(ioevent(0x3000, 4, fd, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY, 0), 0);
	assert_int_equal(mmio_write(0x3000, 4, 1), -EOPNOTSUPP);
	close(fd);
}

static struct kvm_coalesced_mmio_ring *ring(struct kvm_vcpu *w)
{
	return (void *)((char *)w->run + 2 * PAGE_SIZE);
}

static void test_coalesced(void **state)
{
	struct kvm_coalesced_mmio_zone z = {.addr = 0xa0000, .size = 0x1000};
	struct kvm_coalesced_mmio_zone port = {.addr = 0x70, .size = 2, .pio = 1};
	struct kvm_coalesced_mmio_zone part = {.addr = 0xa0100, .size = 16};
	struct kvm_coalesced_mmio_zone bad = {.pio = 2};
	u64 val = 0x1122334455667788;
	unsigned n = 0;

	assert_int_equal(vm_register_coalesced_mmio(kvm, &bad), -EINVAL);
	assert_int_equal(vm_unregister_coalesced_mmio(kvm, &bad), -EINVAL);
	assert_int_equal(vm_register_coalesced_mmio(kvm, &z), 0);
	assert_int_equal(vm_register_coalesced_mmio(kvm, &port), 0);
	assert_int_equal(mmio_write(0xa0010, 8, val), 0);
	assert_int_equal(io_bus_write(v, IO_BUS_PIO, 0x71, 1, &val), 0);
	assert_int_equal(ring(v)->last, 2);
	assert_int_equal(ring(v)->coalesced_mmio[0].phys_addr, 0xa0010);
	assert_int_equal(ring(v)->coalesced_mmio[0].len, 8);
	assert_int_equal(ring(v)->coalesced_mmio[0].pio, 0);
	assert_memory_equal(ring(v)->coalesced_mmio[0].data, &val, 8);
	assert_int_equal(ring(v)->coalesced_mmio[1].phys_addr, 0x71);
	assert_int_equal(ring(v)->coalesced_mmio[1].pio, 1);
	/* Across the end, reads, and other vCPUs go to user space. */
	assert_int_equal(mmio_write(0xa0ffc, 8, val), -EOPNOTSUPP);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xa0010, 4, &val), -EOPNOTSUPP);
	assert_int_equal(io_bus_write(kvm->vcpus[1], IO_BUS_MMIO, 0xa0010, 4, &val), -EOPNOTSUPP);
	/* The ring fills: one entry stays free. */
	while (!mmio_write(0xa0020, 4, n) && n < 1000)
		n++;
	assert_int_equal(n, KVM_COALESCED_MMIO_MAX - 1 - 2);
	ring(v)->first = 1;
	assert_int_equal(mmio_write(0xa0020, 4, 0), 0);
	assert_int_equal(mmio_write(0xa0020, 4, 0), -EOPNOTSUPP);
	/* Bad indices from the VMM do no harm. */
	ring(v)->last = 0xffffffff;
	assert_int_equal(mmio_write(0xa0020, 4, 0), -EOPNOTSUPP);
	ring(v)->last = 0;
	ring(v)->first = 0x80000000;
	mmio_write(0xa0020, 4, 0);
	/* Unregistering a part takes the whole zone. */
	assert_int_equal(vm_unregister_coalesced_mmio(kvm, &part), 0);
	ring(v)->first = ring(v)->last = 0;
	assert_int_equal(mmio_write(0xa0020, 4, 0), -EOPNOTSUPP);
}

struct count_dev {
	struct io_device d;
	unsigned hits;
	bool refuse, destroyed;
};

static int count_write(struct io_device *d, struct kvm_vcpu *w, u64 addr, unsigned len,
		       const void *val)
{
	struct count_dev *c = container_of(d, struct count_dev, d);

	c->hits++;
	return c->refuse ? -EOPNOTSUPP : 0;
}

static void count_destroy(struct io_device *d)
{
	container_of(d, struct count_dev, d)->destroyed = true;
}

/* Overlaps: the first that takes it, in order of registration. */
static void test_bus(void **state)
{
	struct count_dev d[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		d[i].d.write = count_write;
		d[i].d.destroy = count_destroy;
	}
	pthread_mutex_lock(&kvm->slots_lock);
	assert_int_equal(io_bus_add(kvm, IO_BUS_MMIO, 0x5000, 0x100, &d[0].d), 0);
	assert_int_equal(io_bus_add(kvm, IO_BUS_MMIO, 0x4000, 0x4000, &d[1].d), 0);
	assert_int_equal(io_bus_add(kvm, IO_BUS_MMIO, 0x5080, 0x10, &d[2].d), 0);
	pthread_mutex_unlock(&kvm->slots_lock);
	assert_int_equal(mmio_write(0x5080, 4, 0), 0);
	assert_int_equal(d[0].hits * 100 + d[1].hits * 10 + d[2].hits, 100);
	d[0].refuse = true;
	assert_int_equal(mmio_write(0x5080, 4, 0), 0);
	assert_int_equal(d[0].hits * 100 + d[1].hits * 10 + d[2].hits, 210);
	d[1].refuse = true;
	assert_int_equal(mmio_write(0x5080, 4, 0), 0);
	assert_int_equal(d[0].hits * 100 + d[1].hits * 10 + d[2].hits, 321);
	d[2].refuse = true;
	assert_int_equal(mmio_write(0x5080, 4, 0), -EOPNOTSUPP);
	d[1].refuse = false;
	assert_int_equal(mmio_write(0x50fe, 4, 0), 0); /* beyond the first's end */
	assert_int_equal(d[0].hits * 100 + d[1].hits * 10 + d[2].hits, 100 * 4 + 10 * 4 + 2);
	assert_int_equal(mmio_write(0x7ffe, 4, 0), -EOPNOTSUPP);
	assert_int_equal(mmio_write(0x7ffc, 4, 0), 0);
	pthread_mutex_lock(&kvm->slots_lock);
	io_bus_del(kvm, IO_BUS_MMIO, &d[1].d);
	pthread_mutex_unlock(&kvm->slots_lock);
	assert_true(d[1].destroyed && !d[0].destroyed);
	assert_int_equal(mmio_write(0x7ffc, 4, 0), -EOPNOTSUPP);
	pthread_mutex_lock(&kvm->slots_lock);
	io_bus_del(kvm, IO_BUS_MMIO, &d[0].d);
	io_bus_del(kvm, IO_BUS_MMIO, &d[2].d);
	pthread_mutex_unlock(&kvm->slots_lock);
}

/* The VM of a parent can be destroyed in a child of fork. */
static void test_fork(void **state)
{
	int fd = eventfd(0, 0), status;
	pid_t pid;

	assert_int_equal(irqfd(fd, 5, 0, -1), 0);
	assert_int_equal(ioevent(0x1000, 4, fd, 0, 0), 0);
	apic_write(v, APIC_LVTT, 0x20040);
	apic_write(v, APIC_TMICT, 1000000);
	pid = fork();
	if (!pid) {
		alarm(5);
		fake_vm_free(kvm);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_irqfd_edge),
		T(test_irqfd_errors),
		T(test_resample),
		T(test_irqfd_reroute),
		T(test_ioeventfd),
		T(test_ioeventfd_datamatch),
		T(test_ioeventfd_any_length),
		T(test_coalesced),
		T(test_bus),
		T(test_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
