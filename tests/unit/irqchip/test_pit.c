/* SPDX-License-Identifier: MIT */
/* 8254: data sheet's modes, read-back, and the interrupt of channel 0 with and without reinjection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

static struct kvm *kvm;
static struct kvm_vcpu *v;

static int setup(void **state)
{
	struct kvm_pit_config cfg = {.flags = KVM_PIT_SPEAKER_DUMMY};

	kvm = fake_vm(FAKE_KERNEL, 1);
	v = kvm->vcpus[0];
	assert_int_equal(vm_create_pit2(kvm, &cfg), 0);
	assert_int_equal(vm_create_pit2(kvm, &cfg), -EEXIST);
	/* The PIC as Linux sets it up, everything open. */
	port_out(v, 0x20, 0x11);
	port_out(v, 0x21, 0x30);
	port_out(v, 0x21, 0x04);
	port_out(v, 0x21, 0x01);
	port_out(v, 0x21, 0x00);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static int tick(void)
{
	int vec = irq_get(v);

	if (vec >= 0)
		port_out(v, 0x20, 0x20);
	return vec;
}

static unsigned count_ticks(unsigned ms)
{
	u64 end = kvm_now_ns(kvm) + ms * 1000000ull;
	unsigned n = 0;

	while (kvm_now_ns(kvm) < end) {
		n += tick() == 0x30;
		fake_sleep_us(100);
	}
	return n;
}

static void program(u8 control, u16 count)
{
	port_out(v, 0x43, control);
	port_out(v, 0x40 + (control >> 6), (u8)count);
	port_out(v, 0x40 + (control >> 6), (u8)(count >> 8));
}

/* Linux: mode 2 at HZ. */
static void test_periodic(void **state)
{
	u64 start = kvm_now_ns(kvm);
	unsigned n = 0;

	/* 1 ms each: never faster, and a busy machine may be late. */
	program(0x34, 1193);
	while (n < 20 && kvm_now_ns(kvm) - start < 20000000000ull)
		n += count_ticks(5);
	assert_true(n >= 20);
	assert_true(n <= (kvm_now_ns(kvm) - start) / 1000000 + 1);
	/* One-shot with count 0 is how Linux shuts it down: 55 ms from now, once. */
	program(0x30, 0);
	while (tick() >= 0)
		;
	assert_int_equal(count_ticks(20), 0);
}

/* Ticks that come while one is unacknowledged are made up for. */
static void test_reinject(void **state)
{
	unsigned n = 0;

	program(0x34, 1193);
	fake_sleep_us(30000);
	program(0x30, 0); /* programming forgets what is pending: as KVM */
	assert_int_equal(tick(), 0x30);
	assert_int_equal(tick(), -1);
	program(0x34, 1193);
	fake_sleep_us(30000);
	while (tick() == 0x30 && n < 1000)
		n++;
	assert_true(n >= 10);
	/* Without: one. */
	assert_int_equal(vm_reinject_control(kvm, false), 0);
	program(0x34, 1193);
	fake_sleep_us(20000);
	program(0x30, 0);
	assert_int_equal(tick(), 0x30);
	assert_int_equal(tick(), -1);
}

static void test_oneshot(void **state)
{
	u64 start = kvm_now_ns(kvm);

	program(0x30, 5966); /* 5 ms */
	assert_true(wait_for(irq_pending(v) == 0x30, 4000));
	assert_true(kvm_now_ns(kvm) - start >= 4900000);
	assert_int_equal(tick(), 0x30);
	assert_int_equal(count_ticks(15), 0);
}

/* As Linux calibrates the TSC: channel 2, mode 0, gate by port 61h, OUT in its bit 5. */
static void test_calibration(void **state)
{
	u64 start, took;

	port_out(v, 0x61, (port_in(v, 0x61) & ~0x02u) | 0x01);
	start = kvm_now_ns(kvm);
	program(0xb0, 11931); /* 10 ms */
	took = port_in(v, 0x61) & 0x20;
	assert_true(!took || kvm_now_ns(kvm) - start > 9000000);
	assert_int_equal(port_in(v, 0x61) & 0x03, 0x01);
	while (!(port_in(v, 0x61) & 0x20))
		;
	took = kvm_now_ns(kvm) - start;
	assert_true(took >= 9990000 && took < 4000000000);
	port_out(v, 0x61, 0x02);
	assert_int_equal(port_in(v, 0x61) & 0x03, 0x02);
}

static u16 read_word(u8 port)
{
	u8 lo = port_in(v, port);

	return (u16)(lo | port_in(v, port) << 8);
}

static void test_latch(void **state)
{
	u16 a, b;

	program(0xb4, 50000);
	port_out(v, 0x43, 0x80); /* latch channel 2 */
	fake_sleep_us(1000);
	port_out(v, 0x43, 0x80); /* a second latch does nothing */
	a = read_word(0x42);
	b = read_word(0x42); /* live again */
	assert_true(a <= 50000);
	assert_true((u16)(a - b) > 1000);
	/* Read-back of status: OUT high in mode 2, word access, mode 2, binary. */
	port_out(v, 0x43, 0xe8);
	assert_int_equal(port_in(v, 0x42), 0xb4);
	/* Both: status comes first. */
	port_out(v, 0x43, 0xc8);
	assert_int_equal(port_in(v, 0x42), 0xb4);
	a = read_word(0x42);
	assert_true(a <= 50000);
	/* Byte access. */
	port_out(v, 0x43, 0xa0);
	port_out(v, 0x42, 0x80);
	port_out(v, 0x43, 0xe8);
	assert_int_equal(port_in(v, 0x42) & 0x7f, 0x20);
	assert_true(port_in(v, 0x42) <= 0x80);
}

/* Mode 3 counts down by two; OUT is high for half of the period. */
static void test_square(void **state)
{
	unsigned high = 0;
	u16 c;

	port_out(v, 0x61, 0x01);
	program(0xb6, 11932); /* 10 ms */
	c = read_word(0x42);
	assert_true(c <= 11932);
	for (unsigned i = 0; i < 200; i++) {
		high += !!(port_in(v, 0x61) & 0x20);
		fake_sleep_us(150);
	}
	assert_in_range(high, 20, 180);
}

static void test_state(void **state)
{
	struct kvm_pit_state2 ps;

	assert_int_equal(vm_get_pit2(kvm, &ps), 0);
	assert_int_equal(ps.channels[0].count, 0x10000);
	assert_int_equal(ps.channels[0].mode, 0xff);
	assert_int_equal(ps.channels[0].gate, 1);
	assert_int_equal(ps.channels[2].gate, 0);
	program(0x34, 1193);
	assert_int_equal(vm_get_pit2(kvm, &ps), 0);
	assert_int_equal(ps.channels[0].mode, 2);
	assert_int_equal(ps.channels[0].rw_mode, 3);
	assert_int_equal(ps.channels[0].count, 1193);
	program(0x30, 0);
	while (tick() >= 0)
		;
	assert_int_equal(vm_set_pit2(kvm, &ps), 0);
	assert_true(count_ticks(20) >= 3);
	/* HPET's legacy mode takes the interrupt away. */
	ps.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	assert_int_equal(vm_set_pit2(kvm, &ps), 0);
	while (tick() >= 0)
		;
	assert_int_equal(count_ticks(5), 0);
	memset(&ps, 0xff, sizeof(ps)); /* no value does harm */
	assert_int_equal(vm_set_pit2(kvm, &ps), 0);
	for (u16 p = 0x40; p < 0x44; p++) {
		port_in(v, p);
		port_out(v, p, 0xff);
	}
	memset(&ps, 0, sizeof(ps));
	assert_int_equal(vm_set_pit2(kvm, &ps), 0);
	for (u16 p = 0x40; p < 0x43; p++)
		port_in(v, p);
	port_in(v, 0x61);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_periodic), T(test_reinject), T(test_oneshot), T(test_calibration),
		T(test_latch),	  T(test_square),   T(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
