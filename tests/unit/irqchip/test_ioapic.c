/* SPDX-License-Identifier: MIT */
/* IOAPIC: 82093AA data sheet. */
#include <stdlib.h>
#include <string.h>

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
	apic_enable(kvm->vcpus[1]);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static u32 io_read(u8 reg)
{
	u32 sel = reg, val = 0;

	assert_int_equal(io_bus_write(v, IO_BUS_MMIO, 0xfec00000, 4, &sel), 0);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfec00010, 4, &val), 0);
	return val;
}

static void io_write(u8 reg, u32 val)
{
	u32 sel = reg;

	assert_int_equal(io_bus_write(v, IO_BUS_MMIO, 0xfec00000, 4, &sel), 0);
	assert_int_equal(io_bus_write(v, IO_BUS_MMIO, 0xfec00010, 4, &val), 0);
}

static void rte(unsigned pin, u32 lo, u8 dest)
{
	io_write((u8)(0x11 + 2 * pin), (u32)dest << 24);
	io_write((u8)(0x10 + 2 * pin), lo);
}

static int line(unsigned pin, int level)
{
	return ioapic_set_irq(kvm, pin, IRQ_SOURCE_USER, level);
}

static void test_registers(void **state)
{
	assert_int_equal(io_read(0x01), 0x00170011);
	io_write(0x00, 0xffffffff);
	assert_int_equal(io_read(0x00), 0x0f000000);
	assert_int_equal(io_read(0x02), 0x0f000000);
	io_write(0x01, 0);
	assert_int_equal(io_read(0x01), 0x00170011);
	for (u8 pin = 0; pin < 24; pin++) {
		assert_int_equal(io_read((u8)(0x10 + 2 * pin)), 0x10000);
		assert_int_equal(io_read((u8)(0x11 + 2 * pin)), 0);
	}
	/* Reserved and read-only bits. */
	io_write(0x2e, 0xffffffff);
	assert_int_equal(io_read(0x2e), 0x1afff);
	io_write(0x2f, 0xffffffff);
	assert_int_equal(io_read(0x2f), 0xff000000);
	/* No such entries. */
	io_write(0x40, 0x1234);
	io_write(0xff, 0x1234);
	io_read(0x40);
	io_read(0xff);
}

static void test_edge(void **state)
{
	rte(4, 0x10054, 0);
	assert_int_equal(line(4, 1), -1); /* masked: lost (3.2.4, bit 16) */
	rte(4, 0x00054, 0);
	assert_int_equal(irq_pending(v), -1);
	line(4, 0);
	assert_int_equal(line(4, 1), 1);
	assert_int_equal(line(4, 1), 0); /* no edge */
	assert_int_equal(apic_take(v), 0x54);
	assert_int_equal(apic_take(v), -1);
	assert_int_equal(io_read(0x18), 0x54);
	line(4, 0);
	line(4, 1);
	line(4, 0);
	assert_int_equal(line(4, 1), 0); /* merged in the IRR */
	assert_int_equal(apic_take(v), 0x54);
	assert_int_equal(apic_take(v), -1);
	/* To the other processor, physical and logical. */
	rte(4, 0x00054, 1);
	line(4, 0);
	line(4, 1);
	assert_int_equal(apic_take(v), -1);
	assert_int_equal(apic_take(kvm->vcpus[1]), 0x54);
	apic_write(v, APIC_LDR, 1u << 24);
	apic_write(kvm->vcpus[1], APIC_LDR, 2u << 24);
	rte(4, 0x00854, 3);
	line(4, 0);
	assert_int_equal(line(4, 1), 2);
	assert_int_equal(apic_take(v), 0x54);
	assert_int_equal(apic_take(kvm->vcpus[1]), 0x54);
	rte(4, 0x00954, 3); /* lowest priority: one of them */
	line(4, 0);
	assert_int_equal(line(4, 1), 1);
	assert_int_equal((apic_take(v) == 0x54) + (apic_take(kvm->vcpus[1]) == 0x54), 1);
}

static void test_level(void **state)
{
	rte(10, 0x0a062, 0); /* level, active low */
	assert_int_equal(line(10, 1), 1);
	assert_int_equal(io_read(0x24), 0x0e062); /* remote IRR */
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	assert_int_equal(line(10, 1), 0);
	/* Still high at EOI: again. */
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(io_read(0x24), 0x0e062);
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	line(10, 0);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(io_read(0x24), 0x0a062);
	assert_int_equal(apic_take(v), -1);
	/* Masked while high: comes with the unmasking. */
	rte(10, 0x1a062, 0);
	line(10, 1);
	assert_int_equal(apic_take(v), -1);
	rte(10, 0x0a062, 0);
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	/* Masked before the EOI: the EOI still clears remote IRR. */
	rte(10, 0x1a062, 0);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(io_read(0x24), 0x1a062);
	assert_int_equal(apic_take(v), -1);
	/* Edge mode for a moment clears remote IRR (Linux' __eoi_ioapic_pin for version 11h). */
	rte(10, 0x0a062, 0);
	assert_int_equal(io_read(0x24), 0x0e062);
	rte(10, 0x12062, 0);
	assert_int_equal(io_read(0x24), 0x12062);
}

static void test_sources(void **state)
{
	rte(10, 0x08062, 0);
	ioapic_set_irq(kvm, 10, IRQ_SOURCE_USER, 1);
	ioapic_set_irq(kvm, 10, IRQ_SOURCE_RESAMPLE, 1);
	ioapic_set_irq(kvm, 10, IRQ_SOURCE_USER, 0);
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	ioapic_set_irq(kvm, 10, IRQ_SOURCE_RESAMPLE, 0);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(apic_take(v), -1);
	assert_int_equal(ioapic_set_irq(kvm, 24, IRQ_SOURCE_USER, 1), -1);
}

/* Two pins of one vector: one EOI ends both. */
static void test_shared_vector(void **state)
{
	rte(5, 0x08062, 0);
	rte(6, 0x08062, 0);
	line(5, 1);
	line(6, 1);
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	line(5, 0);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(lapic_get_interrupt(v), 0x62);
	line(6, 0);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(io_read(0x1a), 0x8062);
	assert_int_equal(io_read(0x1c), 0x8062);
	assert_int_equal(apic_take(v), -1);
}

static void test_delivery_modes(void **state)
{
	rte(0, 0x00400, 1); /* NMI */
	line(0, 1);
	assert_true(fake_request(kvm->vcpus[1], REQ_NMI));
	rte(1, 0x00500, 1); /* INIT */
	line(1, 1);
	assert_true(lapic_has_init_sipi(kvm->vcpus[1]));
	rte(2, 0x00700, 1); /* ExtINT: the PIC's way is LINT0 */
	assert_int_equal(line(2, 1), -1);
	rte(3, 0x00030, 7); /* nobody there */
	assert_int_equal(line(3, 1), -1);
}

/* A device that never stops gets a pause after 10,000 EOIs, and comes back. */
static void test_storm(void **state)
{
	unsigned n = 0;

	rte(10, 0x08062, 0);
	line(10, 1);
	while (apic_take(v) == 0x62 && n < 20000)
		n++;
	assert_int_equal(n, 10000);
	assert_true(wait_for(lapic_has_interrupt(v) == 0x62, 4000));
}

static void test_state(void **state)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC}, d;

	rte(4, 0x00054, 0);
	rte(10, 0x08062, 0);
	rte(11, 0x18063, 0);
	line(4, 1);
	line(10, 1);
	line(11, 1);
	assert_int_equal(apic_take(v), 0x62);
	assert_int_equal(vm_get_irqchip(kvm, &c), 0);
	assert_int_equal(c.chip.ioapic.base_address, 0xfec00000);
	assert_int_equal(c.chip.ioapic.irr, 1u << 10 | 1u << 11);
	assert_int_equal(c.chip.ioapic.redirtbl[10].bits, 0xc062);
	assert_int_equal(c.chip.ioapic.redirtbl[10].fields.remote_irr, 1);
	memset(&d, 0xff, sizeof(d));
	d.chip_id = KVM_IRQCHIP_IOAPIC;
	assert_int_equal(vm_set_irqchip(kvm, &d), 0);
	assert_int_equal(vm_set_irqchip(kvm, &c), 0);
	assert_int_equal(io_read(0x24), 0xc062);
	/* The one in service does not come twice. */
	lapic_reset(v, false);
	apic_enable(v);
	assert_int_equal(vm_set_irqchip(kvm, &c), 0);
	assert_int_equal(apic_take(v), -1);
	d.chip_id = 3;
	assert_int_equal(vm_set_irqchip(kvm, &d), -22);
	assert_int_equal(vm_get_irqchip(kvm, &d), -22);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_registers),     T(test_edge),	       T(test_level), T(test_sources),
		T(test_shared_vector), T(test_delivery_modes), T(test_storm), T(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
