/* SPDX-License-Identifier: MIT */
/* Destinations of interrupt messages: SDM vol. 3A, 11.6. */
#include <stdlib.h>
#include <string.h>

#include "core/irqchip/irq_private.h"
#include "fake.h"

static struct kvm *kvm;

static int setup(void **state)
{
	kvm = fake_vm(FAKE_KERNEL, 6);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

/* Which vCPUs have an interrupt: a bit each; takes them. */
static u32 takers(u8 vec)
{
	u32 set = 0;

	for (unsigned i = 0; i < kvm->nvcpus; i++) {
		int got = apic_take(kvm->vcpus[i]);

		if (got == vec)
			set |= 1u << i;
		else
			assert_int_equal(got, -1);
	}
	return set;
}

static void ipi(unsigned from, u32 dest, u32 icr)
{
	struct kvm_vcpu *v = kvm->vcpus[from];

	if (lapic_x2apic_mode(v)) {
		assert_int_equal(lapic_msr_write(v, 0x830, (u64)dest << 32 | icr), 0);
	} else {
		apic_write(v, APIC_ICR2, dest << 24);
		apic_write(v, APIC_ICR, icr);
	}
}

static void enable_all(bool x2)
{
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		x2 ? x2apic_enable(kvm->vcpus[i]) : apic_enable(kvm->vcpus[i]);
}

static void test_physical(void **state)
{
	enable_all(false);
	ipi(0, 3, 0x4041);
	assert_int_equal(takers(0x41), 1u << 3);
	ipi(0, 0, 0x4041);
	assert_int_equal(takers(0x41), 1);
	ipi(0, 9, 0x4041);
	assert_int_equal(takers(0x41), 0);
	ipi(2, 0xff, 0x4041); /* broadcast */
	assert_int_equal(takers(0x41), 0x3f);
	/* A new ID: the old one is nobody's. */
	apic_write(kvm->vcpus[3], APIC_ID, 9u << 24);
	ipi(0, 3, 0x4041);
	assert_int_equal(takers(0x41), 0);
	ipi(0, 9, 0x4041);
	assert_int_equal(takers(0x41), 1u << 3);
	/* Two of one ID: both. */
	apic_write(kvm->vcpus[4], APIC_ID, 9u << 24);
	ipi(0, 9, 0x4041);
	assert_int_equal(takers(0x41), 3u << 3);
	/* Software-disabled ones do not take fixed interrupts. */
	apic_write(kvm->vcpus[4], APIC_SPIV, 0xff);
	ipi(0, 9, 0x4041);
	assert_int_equal(takers(0x41), 1u << 3);
}

static void test_shorthand(void **state)
{
	enable_all(false);
	ipi(2, 0, 0x44051); /* self */
	assert_int_equal(takers(0x51), 1u << 2);
	ipi(2, 0, 0x84051); /* all */
	assert_int_equal(takers(0x51), 0x3f);
	ipi(2, 0, 0xc4051); /* all but self */
	assert_int_equal(takers(0x51), 0x3f & ~4u);
}

static void test_logical_flat(void **state)
{
	enable_all(false);
	for (unsigned i = 0; i < 6; i++)
		apic_write(kvm->vcpus[i], APIC_LDR, 1u << (24 + i));
	ipi(0, 0x25, 0x4861);
	assert_int_equal(takers(0x61), 0x25);
	ipi(0, 0xff, 0x4861);
	assert_int_equal(takers(0x61), 0x3f);
	ipi(0, 0x40, 0x4861);
	assert_int_equal(takers(0x61), 0);
	/* A shared bit reaches both. */
	apic_write(kvm->vcpus[5], APIC_LDR, 1u << 24);
	ipi(0, 0x01, 0x4861);
	assert_int_equal(takers(0x61), 0x21);
}

static void test_logical_cluster(void **state)
{
	/* Clusters 0 (vCPUs 0-3) and 2 (4, 5). */
	static const u8 ldr[6] = {0x01, 0x02, 0x04, 0x08, 0x21, 0x22};

	enable_all(false);
	for (unsigned i = 0; i < 6; i++) {
		apic_write(kvm->vcpus[i], APIC_DFR, 0x0fffffff);
		apic_write(kvm->vcpus[i], APIC_LDR, (u32)ldr[i] << 24);
	}
	ipi(0, 0x0a, 0x4871);
	assert_int_equal(takers(0x71), 0x0a);
	ipi(0, 0x23, 0x4871);
	assert_int_equal(takers(0x71), 0x30);
	ipi(0, 0x13, 0x4871);
	assert_int_equal(takers(0x71), 0);
	/* One APIC in the flat model: every APIC compares by its own DFR. */
	apic_write(kvm->vcpus[0], APIC_DFR, 0xffffffff);
	ipi(1, 0x23, 0x4871);
	assert_int_equal(takers(0x71), 0x31);
}

static void test_x2apic(void **state)
{
	static const u32 ids[] = {0, 1, 15, 16, 17, 300};
	struct apic_msg msi = {.dest = 0xff, .vector = 0x90, .assert = true};

	fake_vm_free(kvm);
	kvm = fake_vm_ids(FAKE_KERNEL, 6, ids);
	enable_all(true);
	ipi(0, 300, 0x4081);
	assert_int_equal(takers(0x81), 1u << 5);
	ipi(0, 17, 0x4081);
	assert_int_equal(takers(0x81), 1u << 4);
	ipi(0, 0xff, 0x4081); /* an ID like others here */
	assert_int_equal(takers(0x81), 0);
	ipi(0, 0xffffffff, 0x4081);
	assert_int_equal(takers(0x81), 0x3f);
	ipi(0, 0x00008001, 0x4881); /* cluster 0: IDs 0 and 15 */
	assert_int_equal(takers(0x81), 0x05);
	ipi(0, 0x0001ffff, 0x4881); /* cluster 1 */
	assert_int_equal(takers(0x81), 0x18);
	ipi(0, 300 / 16 << 16 | 1u << 300 % 16, 0x4881);
	assert_int_equal(takers(0x81), 0x20);
	ipi(0, 0x7fff0001, 0x4881);
	assert_int_equal(takers(0x81), 0);
	/* A device's FFh is a broadcast to KVM's users. */
	apic_msg_send(kvm, NULL, &msi);
	assert_int_equal(takers(0x90), 0x3f);
}

static void test_lowest_priority(void **state)
{
	struct apic_msg m = {.dest = 0xff, .delivery = 1, .vector = 0x99, .assert = true};
	unsigned count[6] = {0};

	enable_all(false);
	for (unsigned i = 0; i < 60; i++) {
		u32 set;

		assert_int_equal(apic_msg_send(kvm, NULL, &m), 1);
		set = takers(0x99);
		assert_int_equal(__builtin_popcount(set), 1);
		count[__builtin_ctz(set)]++;
	}
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(count[i], 10);
	/* Disabled APICs do not take part. */
	for (unsigned i = 1; i < 6; i++)
		apic_write(kvm->vcpus[i], APIC_SPIV, 0xff);
	assert_int_equal(apic_msg_send(kvm, NULL, &m), 1);
	assert_int_equal(takers(0x99), 1);
}

/* SDM 9.4.4.1: the sequence that starts an application processor. */
static void test_init_sipi(void **state)
{
	struct kvm_vcpu *ap = kvm->vcpus[1];
	u8 vec = 0;

	apic_enable(kvm->vcpus[0]);
	ipi(0, 1, 0xc500); /* INIT, assert, level */
	assert_true(lapic_has_init_sipi(ap));
	assert_true(fake_kicks(ap) > 0);
	assert_int_equal(lapic_take_init_sipi(ap, &vec), LAPIC_INIT);
	ipi(0, 1, 0x8500); /* INIT, de-assert: nothing */
	assert_false(lapic_has_init_sipi(ap));
	ipi(0, 1, 0x4699); /* start at 99000h */
	assert_int_equal(lapic_take_init_sipi(ap, &vec), LAPIC_SIPI);
	assert_int_equal(vec, 0x99);
	/* An INIT forgets an earlier SIPI; both in order are seen together. */
	ipi(0, 1, 0x4612);
	ipi(0, 1, 0xc500);
	assert_int_equal(lapic_take_init_sipi(ap, &vec), LAPIC_INIT);
	ipi(0, 1, 0xc500);
	ipi(0, 1, 0x4613);
	assert_int_equal(lapic_take_init_sipi(ap, &vec), LAPIC_INIT | LAPIC_SIPI);
	assert_int_equal(vec, 0x13);
	assert_false(lapic_has_init_sipi(kvm->vcpus[0]));
}

static void test_nmi_smi(void **state)
{
	ipi(0, 2, 0x4400);
	assert_true(fake_request(kvm->vcpus[2], REQ_NMI));
	assert_false(fake_request(kvm->vcpus[1], REQ_NMI));
	ipi(0, 2, 0x4200);
	assert_true(fake_request(kvm->vcpus[2], REQ_SMI));
	/* A disabled APIC gets nothing at all. */
	lapic_set_base(kvm->vcpus[2], 0xfee00000, false);
	ipi(0, 2, 0x4400);
	assert_false(fake_request(kvm->vcpus[2], REQ_NMI));
}

static void test_pv_ipi(void **state)
{
	enable_all(true);
	assert_int_equal(lapic_pv_send_ipi(kvm, 0x5, 0, 1, 0xa1, true), 2);
	assert_int_equal(takers(0xa1), 1u << 1 | 1u << 3);
	assert_int_equal(lapic_pv_send_ipi(kvm, 0xf00000001ull, 0, 0, 0xa1, false), 1);
	assert_int_equal(takers(0xa1), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_physical),	 T(test_shorthand), T(test_logical_flat),
		T(test_logical_cluster), T(test_x2apic),    T(test_lowest_priority),
		T(test_init_sipi),	 T(test_nmi_smi),   T(test_pv_ipi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
