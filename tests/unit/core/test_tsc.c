/* SPDX-License-Identifier: MIT */
/* Time stamp counters that agree, and kvmclock by the guest's own formula. */
#include "core/service.h"
#include "core/tsc.h"
#include "spec/abi/kvm_para.h"
#include "spec/msr.h"
#include "vm.h"

static void test_agree(void **state)
{
	struct test_vm t;

	test_vm_create(&t, 4, true);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(t.v[i]->arch->tsc_offset, t.v[0]->arch->tsc_offset);
	/* Restored one after the other, a little later each time: still the same. */
	assert_int_equal(kvm_set_msr_host(t.v[0], MSR_IA32_TSC, 5000000000ull), 0);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(kvm_set_msr_host(t.v[i], MSR_IA32_TSC, 5000000000ull + i * 1000),
				 0);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(t.v[i]->arch->tsc_offset, t.v[0]->arch->tsc_offset);
	/* A value far away is meant. */
	assert_int_equal(kvm_set_msr_host(t.v[1], MSR_IA32_TSC, 900000000000000ull), 0);
	assert_int_not_equal(t.v[1]->arch->tsc_offset, t.v[0]->arch->tsc_offset);
	test_vm_destroy(&t);
}

static void test_adjust(void **state)
{
	struct test_vm t;
	u64 before, after, adj;

	test_vm_create(&t, 1, true);
	test_vm_cpuid(&t, 0);
	before = kvm_guest_tsc(t.v[0]);
	assert_int_equal(kvm_set_msr(t.v[0], MSR_IA32_TSC_ADJUST, 1ull << 40), 0);
	after = kvm_guest_tsc(t.v[0]);
	assert_true(after - before >= 1ull << 40);
	assert_true(after - before < (1ull << 40) + (1ull << 34));
	/* A write to the counter moves the adjustment by as much (SDM vol. 3B, 18.17.3). */
	assert_int_equal(kvm_set_msr(t.v[0], MSR_IA32_TSC, 0), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_TSC_ADJUST, &adj), 0);
	assert_true((s64)adj <= (s64)((1ull << 40) - after));
	test_vm_destroy(&t);
}

static void test_conversion(void **state)
{
	struct test_vm t;
	u64 now, tsc, ns;

	test_vm_create(&t, 1, true);
	assert_int_equal(vcpu_set_tsc_khz(t.v[0], 1000000), 0); /* half: scaled */
	assert_int_equal(vcpu_get_tsc_khz(t.v[0]), 1000000);
	assert_int_equal(kvm_set_msr_host(t.v[0], MSR_IA32_TSC, 0), 0);
	now = kvm_now_ns(t.kvm);
	tsc = kvm_guest_tsc(t.v[0]);
	ns = kvm_guest_tsc_to_ns(t.v[0], tsc + 1000000); /* a millisecond at 1 GHz */
	assert_in_range(ns, now + 1000000, now + 1000000 + 100000000);
	assert_int_equal(kvm_guest_tsc_to_ns(t.v[0], tsc),
			 MIN(kvm_guest_tsc_to_ns(t.v[0], tsc), ns));
	/* As far as a counter goes: centuries, not a wrap. */
	assert_true(kvm_guest_tsc_to_ns(t.v[0], ~0ull) > now + 1000000000000000000ull);
	test_vm_destroy(&t);
}

/* The guest's reading of kvmclock: Documentation/virt/kvm/x86/msr.rst. */
static u64 guest_clock(const struct pvclock_vcpu_time_info *p, u64 tsc)
{
	u64 delta = tsc - p->tsc_timestamp;

	if (p->tsc_shift >= 0)
		delta <<= p->tsc_shift;
	else
		delta >>= -p->tsc_shift;
	return p->system_time + (u64)((u128)delta * p->tsc_to_system_mul >> 32);
}

static void test_kvmclock(void **state)
{
	static const u32 khz[] = {2000000, 1000000, 2893000, 3500123, 800000};
	static const u8 hlt[] = {0xf4};

	for (size_t i = 0; i < ARRAY_SIZE(khz); i++) {
		struct pvclock_vcpu_time_info *p;
		struct kvm_clock_data d;
		struct test_vm t;
		u64 a, b, g;

		test_vm_create(&t, 1, false);
		test_vm_cpuid(&t, 0);
		assert_int_equal(vcpu_set_tsc_khz(t.v[0], khz[i]), 0);
		test_vm_code(&t, 0, hlt, sizeof(hlt));
		assert_int_equal(kvm_set_msr(t.v[0], MSR_KVM_SYSTEM_TIME_NEW, 0x5001), 0);
		assert_int_equal(vcpu_run(t.v[0]), 0);
		p = (void *)(t.mem + 0x5000);
		assert_true(p->version && !(p->version & 1));
		assert_true(p->flags & PVCLOCK_TSC_STABLE_BIT);
		assert_int_equal(vm_get_clock(t.kvm, &d), 0);
		a = d.clock;
		g = guest_clock(p, kvm_guest_tsc(t.v[0]));
		assert_int_equal(vm_get_clock(t.kvm, &d), 0);
		b = d.clock;
		/* 10 ns for what the 32-bit multiplier cannot express. */
		assert_in_range(g, a - 10, b + 10);
		/* Set an hour ahead. */
		d.flags = 0;
		d.clock += 3600000000000ull;
		a = d.clock;
		assert_int_equal(vm_set_clock(t.kvm, &d), 0);
		test_vm_code(&t, 0, hlt, sizeof(hlt));
		assert_int_equal(vcpu_run(t.v[0]), 0);
		g = guest_clock(p, kvm_guest_tsc(t.v[0]));
		assert_in_range(g, a - 10, a + 1000000000);
		d.flags = 1;
		assert_int_equal(vm_set_clock(t.kvm, &d), -EINVAL);
		test_vm_destroy(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agree),
		cmocka_unit_test(test_adjust),
		cmocka_unit_test(test_conversion),
		cmocka_unit_test(test_kvmclock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
