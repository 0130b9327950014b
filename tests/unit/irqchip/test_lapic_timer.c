/* SPDX-License-Identifier: MIT */
/* Local APIC timer: SDM vol. 3A, 11.5.4. The input runs at 1 GHz. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define MS	     1000000ull
#define MSR_DEADLINE 0x6e0

static struct kvm *kvm;
static struct kvm_vcpu *v;

static int setup(void **state)
{
	kvm = fake_vm(FAKE_KERNEL, 1);
	v = kvm->vcpus[0];
	apic_enable(v);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static void assert_near(u64 val, u64 want, u64 slack)
{
	assert_true(val <= want && val + slack >= want);
}

/* Figure 11-10: the divide configuration register. */
static void test_divide(void **state)
{
	static const struct {
		u8 tdcr;
		u32 divide;
	} t[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};

	apic_write(v, APIC_LVTT, 0x10040);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		u64 now;

		apic_write(v, APIC_TDCR, t[i].tdcr);
		now = kvm_now_ns(kvm);
		apic_write(v, APIC_TMICT, 1000000000);
		assert_near(now + 1000000000ull * t[i].divide, lapic_timer_expires(v), 400 * MS);
		assert_near(apic_read(v, APIC_TMCCT), 1000000000, 400 * MS);
	}
	/* A running count goes on at the new rate. */
	apic_write(v, APIC_TDCR, 0);
	assert_near(apic_read(v, APIC_TMCCT), 1000000000, 400 * MS);
	assert_near(kvm_now_ns(kvm) + 2000000000ull, lapic_timer_expires(v) + 500 * MS, 1000 * MS);
	apic_write(v, APIC_TMICT, 0);
	assert_true(lapic_timer_expires(v) == ~0ull);
	assert_int_equal(apic_read(v, APIC_TMCCT), 0);
}

static void test_oneshot(void **state)
{
	u64 start = kvm_now_ns(kvm);

	apic_write(v, APIC_TDCR, 11);
	apic_write(v, APIC_LVTT, 0x40);
	fake_kicks(v);
	apic_write(v, APIC_TMICT, 3 * MS);
	/* The service thread finds it, with a kick. */
	assert_true(wait_for(lapic_has_interrupt(v) == 0x40, 4000));
	assert_true(kvm_now_ns(kvm) - start >= 3 * MS);
	assert_int_equal(fake_kicks(v), 1);
	assert_int_equal(apic_take(v), 0x40);
	assert_int_equal(apic_read(v, APIC_TMCCT), 0);
	assert_int_equal(apic_read(v, APIC_TMICT), 3 * MS);
	fake_sleep_us(5000);
	assert_int_equal(apic_take(v), -1);
}

static void test_masked(void **state)
{
	apic_write(v, APIC_TDCR, 11);
	apic_write(v, APIC_LVTT, 0x10040);
	apic_write(v, APIC_TMICT, MS);
	assert_true(wait_for(lapic_timer_expires(v) == ~0ull, 4000));
	assert_int_equal(lapic_has_interrupt(v), -1);
}

static void test_periodic(void **state)
{
	u64 start = kvm_now_ns(kvm), took;
	unsigned n = 0;

	apic_write(v, APIC_TDCR, 11);
	apic_write(v, APIC_LVTT, 0x20041);
	apic_write(v, APIC_TMICT, 2 * MS);
	while (n < 10) {
		assert_true(wait_for(lapic_has_interrupt(v) >= 0, 4000));
		assert_int_equal(apic_take(v), 0x41);
		n++;
	}
	took = kvm_now_ns(kvm) - start;
	assert_true(took >= 20 * MS && took < 4000 * MS);
	assert_true(apic_read(v, APIC_TMCCT) <= 2 * MS);
	/* Not faster than kvm.min_timer_period_us. */
	start = kvm_now_ns(kvm);
	apic_write(v, APIC_TMICT, 10);
	assert_true(lapic_timer_expires(v) >= start + 200000);
	apic_write(v, APIC_TMICT, 0);
}

static void test_deadline(void **state)
{
	u64 val, now;

	fake_tsc_offset = 12345678;
	/* 11.5.4.1: without the mode the MSR reads 0 and drops writes. */
	assert_int_equal(lapic_msr_write(v, MSR_DEADLINE, 99), 0);
	assert_int_equal(lapic_msr_read(v, MSR_DEADLINE, &val), 0);
	assert_int_equal(val, 0);
	apic_write(v, APIC_LVTT, 0x40042);
	apic_write(v, APIC_TMICT, 1000); /* ignored in this mode */
	assert_int_equal(apic_read(v, APIC_TMICT), 0);
	assert_int_equal(apic_read(v, APIC_TMCCT), 0);

	/* Far enough away not to expire in between. */
	now = kvm_now_ns(kvm);
	assert_int_equal(lapic_msr_write(v, MSR_DEADLINE, now + 12345678 + 900000 * MS), 0);
	assert_true(lapic_timer_expires(v) == now + 900000 * MS);
	assert_int_equal(lapic_msr_read(v, MSR_DEADLINE, &val), 0);
	assert_true(val == now + 12345678 + 900000 * MS);
	assert_int_equal(lapic_msr_write(v, MSR_DEADLINE, now + 12345678 + 3 * MS), 0);
	assert_true(wait_for(lapic_has_interrupt(v) == 0x42, 4000));
	assert_true(kvm_now_ns(kvm) >= now + 3 * MS);
	assert_int_equal(apic_take(v), 0x42);
	assert_int_equal(lapic_msr_read(v, MSR_DEADLINE, &val), 0);
	assert_int_equal(val, 0); /* disarmed by firing */

	/* In the past: at once. */
	lapic_msr_write(v, MSR_DEADLINE, 1 + (u64)fake_tsc_offset);
	assert_int_equal(apic_take(v), 0x42);
	/* 0 disarms. */
	lapic_msr_write(v, MSR_DEADLINE, kvm_now_ns(kvm) + (u64)fake_tsc_offset + 5 * MS);
	lapic_msr_write(v, MSR_DEADLINE, 0);
	assert_true(lapic_timer_expires(v) == ~0ull);
	/* A change of the TSC moves it. */
	lapic_msr_write(v, MSR_DEADLINE, kvm_now_ns(kvm) + (u64)fake_tsc_offset + 60000 * MS);
	fake_tsc_offset += (s64)(60000 * MS);
	lapic_timer_tsc_changed(v);
	assert_true(wait_for(lapic_has_interrupt(v) == 0x42, 4000));
	assert_int_equal(apic_take(v), 0x42);
	/* Leaving the mode disarms. */
	lapic_msr_write(v, MSR_DEADLINE, kvm_now_ns(kvm) + (u64)fake_tsc_offset + 60000 * MS);
	apic_write(v, APIC_LVTT, 0x42);
	assert_true(lapic_timer_expires(v) == ~0ull);
	fake_tsc_offset = 0;
}

/* The vCPU's thread may be first; the interrupt is one. */
static void test_sync(void **state)
{
	apic_write(v, APIC_LVTT, 0x40043);
	for (unsigned i = 0; i < 50; i++) {
		u64 due = kvm_now_ns(kvm) + 100000;

		lapic_msr_write(v, MSR_DEADLINE, due);
		while (kvm_now_ns(kvm) < due)
			;
		lapic_sync(v);
		assert_true(wait_for(lapic_has_interrupt(v) == 0x43, 4000));
		assert_int_equal(apic_take(v), 0x43);
		assert_true(lapic_timer_expires(v) == ~0ull);
	}
	fake_sleep_us(1000);
	assert_int_equal(apic_take(v), -1);
}

static void test_save_restore(void **state)
{
	struct kvm_lapic_state s;
	u32 left;

	apic_write(v, APIC_TDCR, 11);
	apic_write(v, APIC_LVTT, 0x44);
	apic_write(v, APIC_TMICT, 1000 * MS);
	fake_sleep_us(2000);
	assert_int_equal(vcpu_get_lapic(v, &s), 0);
	memcpy(&left, s.regs + APIC_TMCCT, 4);
	assert_true(left < 999 * MS && left > 100 * MS);
	lapic_reset(v, false);
	assert_true(lapic_timer_expires(v) == ~0ull);
	assert_int_equal(vcpu_set_lapic(v, &s), 0);
	assert_near(lapic_timer_expires(v) - kvm_now_ns(kvm), left, 400 * MS);
	/* Without its count, as QEMU saves it, a one-shot timer that was set fires at once. */
	memset(s.regs + APIC_TMCCT, 0, 4);
	assert_int_equal(vcpu_set_lapic(v, &s), 0);
	assert_true(wait_for(lapic_timer_expires(v) == ~0ull, 4000));
	assert_int_equal(apic_take(v), 0x44);
	lapic_reset(v, true);
	assert_true(lapic_timer_expires(v) == ~0ull);
	memset(s.regs + APIC_TMICT, 0, 4);
	assert_int_equal(vcpu_set_lapic(v, &s), 0);
	assert_true(lapic_timer_expires(v) == ~0ull);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_divide),	  T(test_oneshot), T(test_masked),	 T(test_periodic),
		T(test_deadline), T(test_sync),	   T(test_save_restore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
