/* SPDX-License-Identifier: MIT */
/* Local APIC: reset state, registers, priorities, EOI, IA32_APIC_BASE. Values: SDM vol. 3A, 11. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/irqchip/irq_private.h"
#include "core/iobus.h"
#include "core/vm.h"
#include "fake.h"

static struct kvm *kvm;
static struct kvm_vcpu *v;

static int setup(void **state)
{
	kvm = fake_vm(FAKE_KERNEL, 2);
	v = kvm->vcpus[0];
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static int post(u8 vec, bool level)
{
	struct apic_msg m = {.vector = vec, .level_trig = level, .assert = true};

	return lapic_accept(v, &m);
}

/* SDM 11.4.7.1, with KVM's version (14h, six LVT entries) and unmasked LINT0 of the BSP. */
static void test_reset(void **state)
{
	static const struct {
		u16 off;
		u32 val;
	} want[] = {
		{APIC_ID, 0},	       {APIC_LVR, 0x50014},  {APIC_TASKPRI, 0},
		{APIC_PROCPRI, 0},     {APIC_LDR, 0},	     {APIC_DFR, 0xffffffff},
		{APIC_SPIV, 0xff},     {APIC_ESR, 0},	     {APIC_ICR, 0},
		{APIC_ICR2, 0},	       {APIC_LVTT, 0x10000}, {APIC_LVTTHMR, 0x10000},
		{APIC_LVTPC, 0x10000}, {APIC_LVT1, 0x10000}, {APIC_LVTERR, 0x10000},
		{APIC_TMICT, 0},       {APIC_TMCCT, 0},	     {APIC_TDCR, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(apic_read(v, want[i].off), want[i].val);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(apic_read(v, APIC_ISR + i * 16), 0);
		assert_int_equal(apic_read(v, APIC_TMR + i * 16), 0);
		assert_int_equal(apic_read(v, APIC_IRR + i * 16), 0);
	}
	assert_int_equal(apic_read(v, APIC_LVT0), 0x700);
	assert_int_equal(apic_read(kvm->vcpus[1], APIC_LVT0), 0x10000);
	assert_int_equal(apic_read(kvm->vcpus[1], APIC_ID), 1u << 24);
	assert_int_equal(lapic_get_base(v), 0xfee00900);
	assert_int_equal(lapic_get_base(kvm->vcpus[1]), 0xfee00800);
}

/* SDM 11.8.3.1: PPR is the higher of TPR and the highest in-service class. */
static void test_priority(void **state)
{
	static const struct {
		u8 tpr, in_service, request, ppr;
		bool deliver;
	} t[] = {
		{0x00, 0, 0x31, 0x00, true},	 {0x20, 0, 0x31, 0x20, true},
		{0x2f, 0, 0x31, 0x2f, true},	 {0x30, 0, 0x31, 0x30, false},
		{0x3f, 0, 0x31, 0x3f, false},	 {0x00, 0x35, 0x31, 0x30, false},
		{0x00, 0x31, 0x3f, 0x30, false}, {0x00, 0x31, 0x40, 0x30, true},
		{0x45, 0x31, 0x51, 0x45, true},	 {0x45, 0x51, 0x61, 0x50, true},
		{0x35, 0x31, 0x41, 0x35, true},	 {0xf0, 0, 0xff, 0xf0, false},
		{0xef, 0, 0xf0, 0xef, true},	 {0x00, 0xfe, 0xff, 0xf0, false},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		lapic_reset(v, false);
		apic_enable(v);
		if (t[i].in_service) {
			assert_int_equal(post(t[i].in_service, false), 1);
			assert_int_equal(lapic_get_interrupt(v), t[i].in_service);
		}
		apic_write(v, APIC_TASKPRI, t[i].tpr);
		assert_int_equal(post(t[i].request, false), 1);
		assert_int_equal(lapic_has_interrupt(v), t[i].deliver ? t[i].request : -1);
		assert_int_equal(apic_read(v, APIC_PROCPRI), t[i].ppr);
	}
}

static void test_nesting_and_eoi(void **state)
{
	apic_enable(v);
	assert_int_equal(post(0x41, false), 1);
	assert_int_equal(post(0x41, false), 0); /* merged */
	fake_kicks(v);
	assert_int_equal(post(0x91, true), 1);
	assert_int_equal(fake_kicks(v), 1);
	assert_true(fake_request(v, REQ_EVENT));
	assert_int_equal(apic_read(v, APIC_IRR + 0x20), 1u << 1);
	assert_int_equal(apic_read(v, APIC_IRR + 0x40), 1u << 17);
	assert_int_equal(apic_read(v, APIC_TMR + 0x40), 1u << 17);
	assert_int_equal(lapic_get_interrupt(v), 0x91);
	assert_int_equal(apic_read(v, APIC_ISR + 0x40), 1u << 17);
	assert_int_equal(lapic_get_interrupt(v), -1);
	/* One of the vector may be in service and one pending. */
	assert_int_equal(post(0x91, true), 1);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(apic_read(v, APIC_ISR + 0x40), 0);
	assert_int_equal(apic_take(v), 0x91);
	assert_int_equal(apic_take(v), 0x41);
	assert_int_equal(apic_take(v), -1);
	apic_write(v, APIC_EOI, 0); /* with nothing in service: nothing */
	assert_int_equal(apic_read(v, APIC_PROCPRI), 0);
}

static void test_cr8(void **state)
{
	apic_enable(v);
	lapic_set_cr8(v, 5);
	assert_int_equal(apic_read(v, APIC_TASKPRI), 0x50);
	apic_write(v, APIC_TASKPRI, 0x7b);
	assert_int_equal(lapic_get_cr8(v), 7);
	post(0x65, false);
	assert_int_equal(lapic_has_interrupt(v), -1);
	fake_request(v, REQ_EVENT);
	lapic_set_cr8(v, 4);
	assert_true(fake_request(v, REQ_EVENT));
	assert_int_equal(lapic_has_interrupt(v), 0x65);
}

/* SDM 11.4.7.2: software-disabled: nothing accepted, LVTs masked and stay so. */
static void test_software_disable(void **state)
{
	assert_int_equal(post(0x50, false), -1);
	apic_enable(v);
	apic_write(v, APIC_LVT1, 0x400);
	post(0x50, false);
	apic_write(v, APIC_SPIV, 0xff);
	assert_int_equal(apic_read(v, APIC_LVT1), 0x10400);
	apic_write(v, APIC_LVT1, 0x400);
	assert_int_equal(apic_read(v, APIC_LVT1), 0x10400);
	/* What was accepted is held. */
	assert_int_equal(lapic_has_interrupt(v), 0x50);
}

/* SDM figures 11-8 and 11-23: writable bits. */
static void test_write_masks(void **state)
{
	static const struct {
		u16 off;
		u32 val;
	} want[] = {
		{APIC_TASKPRI, 0xff},	 {APIC_LDR, 0xff000000},  {APIC_DFR, 0xffffffff},
		{APIC_SPIV, 0x3ff},	 {APIC_ICR2, 0xff000000}, {APIC_LVTT, 0x710ff},
		{APIC_LVTTHMR, 0x117ff}, {APIC_LVTPC, 0x117ff},	  {APIC_LVT0, 0x1f7ff},
		{APIC_LVT1, 0x1f7ff},	 {APIC_LVTERR, 0x110ff},  {APIC_TDCR, 0xb},
		{APIC_ID, 0xff000000},
	};

	apic_enable(v);
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
		apic_write(v, want[i].off, 0xffffffff);
		assert_int_equal(apic_read(v, want[i].off), want[i].val);
	}
	/* Read-only ones drop writes. */
	apic_write(v, APIC_LVR, 0);
	apic_write(v, APIC_IRR, ~0u);
	assert_int_equal(apic_read(v, APIC_LVR), 0x50014);
	assert_int_equal(apic_read(v, APIC_IRR), 0);
}

static void test_mmio_sizes(void **state)
{
	u8 b = 0xaa;
	u64 q = 0;

	apic_enable(v);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee00030, 1, &b), 0);
	assert_int_equal(b, 0x14);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee00032, 1, &b), 0);
	assert_int_equal(b, 0x05);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee00030, 8, &q), 0);
	/* Writes that are not aligned doublewords are dropped. */
	b = 0x77;
	assert_int_equal(io_bus_write(v, IO_BUS_MMIO, 0xfee00080, 1, &b), 0);
	assert_int_equal(apic_read(v, APIC_TASKPRI), 0);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee01000, 4, &q), -EOPNOTSUPP);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee00ff0, 4, &q), 0);
	/* SDM 11.5.3: an access to a register that is none sets ESR bit 7. */
	apic_write(v, APIC_ESR, 0);
	assert_int_equal(apic_read(v, APIC_ESR), 0x80);
	apic_write(v, APIC_ESR, 0);
	assert_int_equal(apic_read(v, APIC_ESR), 0);
}

/* SDM figure 11-27 and 11.4.4. */
static void test_base(void **state)
{
	u64 base = 0xfee00900;

	assert_int_equal(lapic_set_base(v, base | BIT(9), false), -EINVAL);
	assert_int_equal(lapic_set_base(v, base | 1, false), -EINVAL);
	assert_int_equal(lapic_set_base(v, base | BIT(46), false), -EINVAL);
	/* disabled -> x2APIC, and EXTD without EN */
	assert_int_equal(lapic_set_base(v, 0xfee00100, false), 0);
	assert_false(lapic_enabled(v));
	assert_int_equal(lapic_set_base(v, 0xfee00500, false), -EINVAL);
	assert_int_equal(lapic_set_base(v, 0xfee00d00, false), -EINVAL);
	/* disabled -> xAPIC -> x2APIC -> not back to xAPIC, but to disabled */
	assert_int_equal(lapic_set_base(v, base, false), 0);
	assert_int_equal(lapic_set_base(v, 0xfee00d00, false), 0);
	assert_true(lapic_x2apic_mode(v));
	assert_int_equal(lapic_set_base(v, base, false), -EINVAL);
	assert_int_equal(lapic_set_base(v, 0xfee00100, false), 0);
	assert_false(lapic_x2apic_mode(v));
	/* User space may go anywhere but to the invalid state. */
	assert_int_equal(lapic_set_base(v, 0xfee00d00, true), 0);
	assert_int_equal(lapic_set_base(v, base, true), 0);
	assert_int_equal(lapic_set_base(v, 0xfee00500, true), -EINVAL);
	lapic_after_set_cpuid(v, false, false, 46);
	assert_int_equal(lapic_set_base(v, 0xfee00d00, true), -EINVAL);
}

static void test_base_moves_page(void **state)
{
	u32 val = 0;

	assert_int_equal(lapic_set_base(v, 0xd0000900, false), 0);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee00030, 4, &val), -EOPNOTSUPP);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xd0000030, 4, &val), 0);
	assert_int_equal(val, 0x50014);
	/* Disabled: reads give ones (KVM's quirk), or go to user space. */
	assert_int_equal(lapic_set_base(v, 0xd0000100, false), 0);
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xd0000030, 4, &val), 0);
	assert_int_equal(val, 0xffffffff);
	kvm->arch->disabled_quirks = KVM_X86_QUIRK_LAPIC_MMIO_HOLE;
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xd0000030, 4, &val), -EOPNOTSUPP);
}

/* SDM table 11-6: which MSRs exist; 11.12.1.3: reserved bits. */
static void test_x2apic_msrs(void **state)
{
	/* A bit per MSR from 800h: ID, version, TPR, PPR, LDR, SVR; ISR, TMR, IRR; ESR and up. */
	const u64 readable = 0x43fd01ffffffa50cull;
	const u64 writable = 0xc1fd010000008900ull;
	struct kvm_vcpu *v1 = kvm->vcpus[1];
	u64 val;

	assert_int_equal(lapic_msr_read(v1, 0x802, &val), -EINVAL);
	x2apic_enable(v1);
	for (u32 msr = 0x800; msr <= 0x8ff; msr++) {
		bool r = msr < 0x840 && readable >> (msr & 0x3f) & 1;
		bool w = msr < 0x840 && writable >> (msr & 0x3f) & 1;

		assert_int_equal(lapic_msr_read(v1, msr, &val), r ? 0 : -EINVAL);
		if (msr == 0x80f)
			continue;
		assert_int_equal(lapic_msr_write(v1, msr, msr == 0x830 ? 0x40040 : 0),
				 w ? 0 : -EINVAL);
	}
	assert_int_equal(lapic_msr_read(v1, 0x802, &val), 0);
	assert_int_equal(val, 1);
	/* 11.12.10.2: logical ID of x2APIC ID 1: cluster 0, bit 1. */
	assert_int_equal(lapic_msr_read(v1, 0x80d, &val), 0);
	assert_int_equal(val, 2);
	assert_int_equal(lapic_msr_write(v1, 0x808, 1ull << 32), -EINVAL);
	assert_int_equal(lapic_msr_write(v1, 0x80b, 1), -EINVAL);
	assert_int_equal(lapic_msr_write(v1, 0x828, 1), -EINVAL);
	assert_int_equal(lapic_msr_write(v1, 0x83f, 0x100), -EINVAL);
	assert_int_equal(lapic_msr_write(v1, 0x830, 0x44050 | 1u << 20), -EINVAL);
	/* ICR is one MSR of 64 bits. */
	assert_int_equal(lapic_msr_write(v1, 0x830, 0x7700044050), 0);
	assert_int_equal(lapic_msr_read(v1, 0x830, &val), 0);
	assert_int_equal(val, 0x7700044050);
}

static void test_self_ipi(void **state)
{
	x2apic_enable(v);
	apic_write(v, APIC_SELF_IPI, 0x66);
	assert_int_equal(apic_take(v), 0x66);
	/* 11.5.3: vectors 0-15 are not sent. */
	apic_write(v, APIC_LVTERR, 0xfe);
	apic_write(v, APIC_SELF_IPI, 0x0f);
	assert_int_equal(apic_take(v), 0xfe);
	apic_write(v, APIC_ESR, 0);
	assert_int_equal(apic_read(v, APIC_ESR), 0x20);
}

static void test_get_set(void **state)
{
	struct kvm_vcpu *v1 = kvm->vcpus[1];
	struct kvm_lapic_state s, t;
	u32 id;

	apic_enable(v);
	post(0x31, false);
	post(0x82, true);
	post(0xa5, false);
	assert_int_equal(lapic_get_interrupt(v), 0xa5);
	apic_write(v, APIC_TASKPRI, 0x20);
	assert_int_equal(vcpu_get_lapic(v, &s), 0);
	assert_int_equal(*(u32 *)(s.regs + APIC_PROCPRI), 0xa0);
	lapic_reset(v, false);
	assert_int_equal(lapic_has_interrupt(v), -1);
	assert_int_equal(vcpu_set_lapic(v, &s), 0);
	assert_true(fake_request(v, REQ_EVENT));
	assert_int_equal(vcpu_get_lapic(v, &t), 0);
	assert_memory_equal(&s, &t, sizeof(s));
	assert_int_equal(lapic_has_interrupt(v), -1);
	apic_write(v, APIC_EOI, 0);
	assert_int_equal(apic_take(v), 0x82);
	assert_int_equal(apic_take(v), 0x31);
	/* The ID in x2APIC mode: xAPIC's place, or whole (KVM_X2APIC_API_USE_32BIT_IDS). */
	x2apic_enable(v1);
	assert_int_equal(vcpu_get_lapic(v1, &s), 0);
	memcpy(&id, s.regs + APIC_ID, 4);
	assert_int_equal(id, 1u << 24);
	kvm->arch->x2apic_format = true;
	assert_int_equal(vcpu_set_lapic(v1, &s), -EINVAL);
	assert_int_equal(vcpu_get_lapic(v1, &s), 0);
	memcpy(&id, s.regs + APIC_ID, 4);
	assert_int_equal(id, 1);
	assert_int_equal(vcpu_set_lapic(v1, &s), 0);
}

static void test_no_irqchip(void **state)
{
	struct kvm *none = fake_vm(FAKE_NONE, 1);
	struct kvm_vcpu *n = none->vcpus[0];
	struct kvm_lapic_state s;

	assert_int_equal(vcpu_get_lapic(n, &s), -EINVAL);
	assert_int_equal(irq_pending(n), -1);
	assert_int_equal(vcpu_interrupt(n, 256), -EINVAL);
	assert_int_equal(vcpu_interrupt(n, 0x20), 0);
	assert_true(fake_request(n, REQ_EVENT));
	assert_int_equal(irq_pending(n), 0x20);
	assert_false(irq_user_slot_free(n));
	assert_int_equal(irq_get(n), 0x20);
	assert_int_equal(irq_get(n), -1);
	lapic_set_cr8(n, 9);
	assert_int_equal(lapic_get_cr8(n), 9);
	fake_vm_free(none);
	assert_int_equal(vcpu_interrupt(v, 0x20), -ENXIO);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_reset),
		T(test_priority),
		T(test_nesting_and_eoi),
		T(test_cr8),
		T(test_software_disable),
		T(test_write_masks),
		T(test_mmio_sizes),
		T(test_base),
		T(test_base_moves_page),
		T(test_x2apic_msrs),
		T(test_self_ipi),
		T(test_get_set),
		T(test_no_irqchip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
