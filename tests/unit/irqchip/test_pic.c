/* SPDX-License-Identifier: MIT */
/* 8259A: programmed as Linux and DOS do it; values from the data sheet. */
#include <stdlib.h>
#include <string.h>

#include "core/irqchip/irq_private.h"
#include "fake.h"

static struct kvm *kvm;
static struct kvm_vcpu *v;

/* ICW1-4 as PC firmware, DOS and Linux write them. */
static void pic_init(u8 base0, u8 base1, u8 icw4)
{
	port_out(v, 0x20, 0x11);
	port_out(v, 0x21, base0);
	port_out(v, 0x21, 0x04);
	port_out(v, 0x21, icw4);
	port_out(v, 0xa0, 0x11);
	port_out(v, 0xa1, base1);
	port_out(v, 0xa1, 0x02);
	port_out(v, 0xa1, 0x01);
	port_out(v, 0x21, 0);
	port_out(v, 0xa1, 0);
}

static int setup(void **state)
{
	kvm = fake_vm(FAKE_KERNEL, 2);
	v = kvm->vcpus[0];
	pic_init(0x08, 0x70, 0x01);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static int line(unsigned pin, int level)
{
	return pic_set_irq(kvm, pin, IRQ_SOURCE_USER, level);
}

static void pulse(unsigned pin)
{
	line(pin, 1);
	line(pin, 0);
}

static u8 isr(u16 port)
{
	port_out(v, port, 0x0b);
	return port_in(v, port);
}

static u8 irr(u16 port)
{
	port_out(v, port, 0x0a);
	return port_in(v, port);
}

static void test_basic(void **state)
{
	assert_int_equal(irq_pending(v), -1);
	fake_kicks(v);
	fake_kicks(kvm->vcpus[1]);
	assert_int_equal(line(0, 1), 1);
	/* Only the processor whose LINT0 is open hears of it. */
	assert_int_equal(fake_kicks(v), 1);
	assert_int_equal(fake_kicks(kvm->vcpus[1]), 0);
	assert_int_equal(irq_pending(v), 0x08);
	assert_true(irq_pending_is_extint(v));
	assert_int_equal(irq_pending(kvm->vcpus[1]), -1);
	assert_int_equal(irr(0x20), 0x01);
	assert_int_equal(irq_get(v), 0x08);
	assert_int_equal(isr(0x20), 0x01);
	assert_int_equal(irr(0x20), 0);
	assert_int_equal(irq_pending(v), -1);
	/* Still in service: a new edge waits. */
	line(0, 0);
	line(0, 1);
	assert_int_equal(irq_pending(v), -1);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_pending(v), 0x08);
	assert_int_equal(irq_get(v), 0x08);
	port_out(v, 0x20, 0x20);
	/* The line is high but has not risen again. */
	assert_int_equal(irq_pending(v), -1);
}

/* IR0 is the highest; IR2 stands for the slave's IR8-15. */
static void test_fully_nested(void **state)
{
	pulse(7);
	pulse(3);
	pulse(12);
	pulse(1);
	assert_int_equal(irq_get(v), 0x09);
	assert_int_equal(irq_pending(v), -1);
	pulse(0);
	assert_int_equal(irq_get(v), 0x08); /* higher: nests */
	assert_int_equal(isr(0x20), 0x03);
	port_out(v, 0x20, 0x20); /* the highest in service: 0 */
	assert_int_equal(isr(0x20), 0x02);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_get(v), 0x74);
	assert_int_equal(isr(0x20), 0x04);
	assert_int_equal(isr(0xa0), 0x10);
	port_out(v, 0xa0, 0x20);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_get(v), 0x0b);
	port_out(v, 0x20, 0x63); /* specific EOI of 3 */
	assert_int_equal(irq_get(v), 0x0f);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_get(v), -1);
}

static void test_mask(void **state)
{
	port_out(v, 0x21, 0xfb); /* Linux: only the cascade */
	port_out(v, 0xa1, 0xff);
	assert_int_equal(port_in(v, 0x21), 0xfb);
	assert_int_equal(line(4, 1), -1);
	line(4, 0);
	assert_int_equal(irq_pending(v), -1);
	port_out(v, 0x21, 0xeb);
	assert_int_equal(irq_get(v), 0x0c); /* the latched edge */
	port_out(v, 0x20, 0x64);
}

/* Linux' probe_8259A and mask_and_ack_8259A. */
static void test_linux(void **state)
{
	port_out(v, 0xa1, 0xff);
	port_out(v, 0x21, 0xfb);
	assert_int_equal(port_in(v, 0x21), 0xfb);
	pic_init(0x30, 0x38, 0x01);
	pulse(8);
	assert_int_equal(irq_get(v), 0x38);
	port_in(v, 0xa1);
	port_out(v, 0xa1, 0x01);
	port_out(v, 0xa0, 0x60); /* specific EOI to the slave's 0 */
	port_out(v, 0x20, 0x62); /* and to the master's 2 */
	assert_int_equal(isr(0x20) | isr(0xa0), 0);
	port_out(v, 0xa1, 0x00);
	pulse(8);
	assert_int_equal(irq_get(v), 0x38);
}

/* Linux' init_8259A(1) for the AEOI machines. */
static void test_auto_eoi(void **state)
{
	pic_init(0x20, 0x28, 0x03);
	pulse(1);
	pulse(5);
	assert_int_equal(irq_get(v), 0x21);
	assert_int_equal(isr(0x20), 0);
	assert_int_equal(irq_get(v), 0x25);
	/* Rotate in automatic EOI mode. */
	port_out(v, 0x20, 0x80);
	pulse(1);
	pulse(5);
	assert_int_equal(irq_get(v), 0x21); /* 1 is now the lowest */
	pulse(1);
	assert_int_equal(irq_get(v), 0x25);
	assert_int_equal(irq_get(v), 0x21);
	port_out(v, 0x20, 0x00);
}

static void test_rotation(void **state)
{
	port_out(v, 0x20, 0xc4); /* set priority: 4 lowest, 5 highest */
	pulse(0);
	pulse(4);
	pulse(5);
	assert_int_equal(irq_get(v), 0x0d);
	port_out(v, 0x20, 0xa0); /* rotate on non-specific EOI: 5 lowest */
	assert_int_equal(irq_get(v), 0x08);
	port_out(v, 0x20, 0xe0); /* rotate on specific EOI: 0 lowest */
	pulse(0);
	assert_int_equal(irq_get(v), 0x0c);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_get(v), 0x08);
}

static void test_special_mask(void **state)
{
	pulse(2 + 1); /* 3 in service ... */
	assert_int_equal(irq_get(v), 0x0b);
	pulse(6);
	assert_int_equal(irq_pending(v), -1);
	port_out(v, 0x21, 0x08); /* ... masked ... */
	port_out(v, 0x20, 0x68); /* ... and special mask mode: lower ones get through */
	assert_int_equal(irq_get(v), 0x0e);
	port_out(v, 0x20, 0x66);
	port_out(v, 0x20, 0x48);
	port_out(v, 0x20, 0x63);
}

static void test_special_fully_nested(void **state)
{
	pulse(12);
	assert_int_equal(irq_get(v), 0x74);
	pulse(9); /* higher in the slave, same input of the master */
	assert_int_equal(irq_pending(v), -1);
	pic_init(0x08, 0x70, 0x11);
	pulse(12);
	assert_int_equal(irq_get(v), 0x74);
	pulse(9);
	assert_int_equal(irq_get(v), 0x71);
}

static void test_level(void **state)
{
	port_out(v, 0x4d0, 0xff);
	port_out(v, 0x4d1, 0xff);
	assert_int_equal(port_in(v, 0x4d0), 0xf8); /* 0-2 stay edges */
	assert_int_equal(port_in(v, 0x4d1), 0xde); /* 8 and 13 too */
	line(5, 1);
	assert_int_equal(irq_get(v), 0x0d);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_get(v), 0x0d); /* still asked for */
	line(5, 0);
	port_out(v, 0x20, 0x20);
	assert_int_equal(irq_pending(v), -1);
	/* Two sources on one line. */
	pic_set_irq(kvm, 11, IRQ_SOURCE_USER, 1);
	pic_set_irq(kvm, 11, IRQ_SOURCE_RESAMPLE, 1);
	pic_set_irq(kvm, 11, IRQ_SOURCE_USER, 0);
	assert_int_equal(irq_pending(v), 0x73);
	pic_set_irq(kvm, 11, IRQ_SOURCE_RESAMPLE, 0);
	assert_int_equal(irq_pending(v), -1);
}

static void test_poll(void **state)
{
	pulse(6);
	port_out(v, 0x20, 0x0c);
	assert_int_equal(port_in(v, 0x20), 0x86);
	assert_int_equal(isr(0x20), 0x40);
	port_out(v, 0x20, 0x20);
	port_out(v, 0x20, 0x0c);
	assert_int_equal(port_in(v, 0x20) & 0x80, 0);
}

static void test_spurious(void **state)
{
	struct kvm_pic_state s;

	/* A request of the slave that goes away between the two: its IR7. */
	port_out(v, 0x4d1, 0x02);
	line(9, 1);
	assert_true(pic_output(kvm));
	pic_get(kvm, 0, &s);
	assert_int_equal(s.irr, 0x04);
	line(9, 0);
	assert_int_equal(irq_get(v), -1);
}

/* ICW1 forgets edges; a line that stays high must fall first. */
static void test_reinit(void **state)
{
	line(3, 1);
	line(4, 1);
	assert_int_equal(irq_get(v), 0x0b);
	pic_init(0x40, 0x48, 0x01);
	assert_int_equal(isr(0x20), 0);
	assert_int_equal(irq_pending(v), -1);
	line(4, 0);
	line(4, 1);
	assert_int_equal(irq_get(v), 0x44);
}

static void test_state(void **state)
{
	struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_PIC_MASTER}, d;

	pulse(3);
	assert_int_equal(vm_get_irqchip(kvm, &c), 0);
	assert_int_equal(c.chip.pic.irr, 0x08);
	assert_int_equal(c.chip.pic.irq_base, 0x08);
	assert_int_equal(c.chip.pic.elcr_mask, 0xf8);
	assert_int_equal(irq_get(v), 0x0b);
	memset(&d, 0xff, sizeof(d)); /* no value does harm */
	d.chip_id = KVM_IRQCHIP_PIC_MASTER;
	assert_int_equal(vm_set_irqchip(kvm, &d), 0);
	irq_get(v);
	port_out(v, 0x20, 0x20);
	port_out(v, 0x21, 0x00);
	assert_int_equal(vm_set_irqchip(kvm, &c), 0);
	assert_int_equal(irq_get(v), 0x0b);
}

/* LINT0 of the processor lets the PIC through, or not. */
static void test_lint0(void **state)
{
	pulse(1);
	apic_enable(v);
	apic_write(v, APIC_LVT0, 0x10700);
	assert_int_equal(irq_pending(v), -1);
	apic_write(v, APIC_LVT0, 0x00700);
	assert_int_equal(irq_pending(v), 0x09);
	apic_write(v, APIC_LVT0, 0x10700);
	lapic_set_base(v, 0xfee00100, false); /* no APIC: INTR is the pin */
	assert_int_equal(irq_get(v), 0x09);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_basic),	      T(test_fully_nested),
		T(test_mask),	      T(test_linux),
		T(test_auto_eoi),     T(test_rotation),
		T(test_special_mask), T(test_special_fully_nested),
		T(test_level),	      T(test_poll),
		T(test_spurious),     T(test_reinit),
		T(test_state),	      T(test_lint0),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
