/* SPDX-License-Identifier: MIT */
/* CPUID: what is offered, what KVM_SET_CPUID2 takes, what the guest then sees. */
#include "silicon/silicon.h"
#include "vm.h"

static struct kvm_cpuid_entry2 ents[256];
static u32 nents;

static struct kvm_cpuid_entry2 *find(u32 leaf, u32 sub)
{
	for (u32 i = 0; i < nents; i++)
		if (ents[i].function == leaf &&
		    (!(ents[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || ents[i].index == sub))
			return &ents[i];
	return NULL;
}

static int setup(void **state)
{
	nents = 256;
	return sys_get_supported_cpuid(ents, &nents);
}

static void test_size(void **state)
{
	struct kvm_cpuid_entry2 few[256];
	u32 n = nents - 1;

	assert_int_equal(sys_get_supported_cpuid(few, &n), -E2BIG);
	n = nents;
	assert_int_equal(sys_get_supported_cpuid(few, &n), 0);
	assert_int_equal(n, nents);
}

/* Values from KVM's documentation of its leaves and the rules of api.rst 4.46. */
static void test_offered(void **state)
{
	u32 hw[4];
	struct kvm_cpuid_entry2 *e = find(0x40000000, 0);

	assert_non_null(e);
	assert_int_equal(e->eax, 0x40000001);
	assert_memory_equal(&e->ebx, "KVMK", 4);
	assert_memory_equal(&e->ecx, "VMKV", 4);
	assert_memory_equal(&e->edx, "M\0\0\0", 4);
	e = find(0x40000001, 0);
	assert_true(e->eax & BIT(3));  /* clocksource2 */
	assert_true(e->eax & BIT(24)); /* stable */

	e = find(1, 0);
	assert_true(e->ecx & BIT(21));	/* x2APIC */
	assert_true(e->ecx & BIT(24));	/* TSC deadline */
	assert_true(e->ecx & BIT(31));	/* hypervisor */
	assert_false(e->ecx & BIT(27)); /* OSXSAVE follows CR4 */
	assert_false(e->ecx & BIT(3));	/* MONITOR */
	/* Nothing of the rest that the hardware has not. */
	kvm_host_cpuid(1, 0, hw);
	assert_int_equal(e->ecx & ~(u32)(hw[2] | BIT(21) | BIT(24) | BIT(31)), 0);
	e = find(7, 0);
	kvm_host_cpuid(7, 0, hw);
	assert_int_equal(e->ebx & ~(u32)(hw[1] | BIT(1)), 0);
	assert_int_equal(e->ecx & ~hw[2], 0);
	assert_int_equal(e->edx & ~(u32)(hw[3] | BIT(29)), 0);
}

static void test_no_duplicates(void **state)
{
	for (u32 i = 0; i < nents; i++)
		for (u32 j = 0; j < i; j++)
			assert_false(ents[i].function == ents[j].function &&
				     ents[i].index == ents[j].index);
}

static void test_set(void **state)
{
	struct kvm_cpuid_entry2 copy[256], back[256];
	struct test_vm t;
	u32 n;

	test_vm_create(&t, 1, true);
	assert_int_equal(vcpu_set_cpuid2(t.v[0], ents, 257), -E2BIG);
	memcpy(copy, ents, sizeof(copy));
	for (u32 i = 0; i < nents; i++)
		if (copy[i].function == 0x80000008)
			copy[i].eax = (copy[i].eax & ~0xff00u) | 52u << 8;
	assert_int_equal(vcpu_set_cpuid2(t.v[0], copy, nents), -EINVAL);
	assert_int_equal(vcpu_set_cpuid2(t.v[0], ents, nents), 0);
	n = nents - 1;
	assert_int_equal(vcpu_get_cpuid2(t.v[0], back, &n), -E2BIG);
	assert_int_equal(n, nents);
	assert_int_equal(vcpu_get_cpuid2(t.v[0], back, &n), 0);
	assert_int_equal(n, nents);
	/* Before the guest has run it may be changed, and again. */
	assert_int_equal(vcpu_set_cpuid2(t.v[0], ents, 3), 0);
	assert_int_equal(vcpu_set_cpuid2(t.v[0], ents, nents), 0);
	test_vm_destroy(&t);
}

/* After the guest has run only the same CPUID is taken. */
static void test_set_after_run(void **state)
{
	static const u8 hlt[] = {0xf4};
	struct test_vm t;

	test_vm_create(&t, 1, false);
	test_vm_cpuid(&t, 0);
	test_vm_code(&t, 0, hlt, sizeof(hlt));
	assert_int_equal(vcpu_run(t.v[0]), 0);
	assert_int_equal(t.v[0]->run->exit_reason, KVM_EXIT_HLT);
	test_vm_cpuid(&t, 0);
	assert_int_equal(vcpu_set_cpuid2(t.v[0], ents, nents - 1), -EINVAL);
	test_vm_destroy(&t);
}

static void test_runtime(void **state)
{
	struct kvm_vcpu *v;
	struct test_vm t;
	u32 out[4];

	test_vm_create(&t, 1, true);
	test_vm_cpuid(&t, 0);
	v = t.v[0];
	kvm_cpuid(v, out, 1, 0);
	assert_false(out[2] & BIT(27));
	assert_true(out[3] & BIT(9)); /* APIC is enabled at reset */
	assert_int_equal(kvm_set_cr4(v, CR4_OSXSAVE), 0);
	kvm_cpuid(v, out, 1, 0);
	assert_true(out[2] & BIT(27));
	assert_int_equal(kvm_set_cr4(v, 0), 0);
	kvm_cpuid(v, out, 1, 0);
	assert_false(out[2] & BIT(27));
	/* SDM vol. 1, 13.4: legacy area and header, then AVX at 576. */
	kvm_cpuid(v, out, 0xd, 0);
	assert_int_equal(out[1], 576);
	if (kvm_supported_xcr0() & 4) {
		assert_int_equal(kvm_set_xcr(v, 0, 7), 0);
		kvm_cpuid(v, out, 0xd, 0);
		assert_int_equal(out[1], 832);
		assert_int_equal(kvm_set_xcr(v, 0, 5), 1); /* AVX without SSE */
	}
	assert_int_equal(kvm_set_xcr(v, 0, 0), 1);
	assert_int_equal(kvm_set_xcr(v, 1, 1), 1);
	test_vm_destroy(&t);
}

/* SDM vol. 2A, CPUID: above the highest basic leaf Intel answers like that leaf. */
static void test_out_of_range(void **state)
{
	static const struct kvm_cpuid_entry2 few[] = {
		{.function = 0, .eax = 2, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e},
		{.function = 2, .eax = 0x11223344},
		{.function = 0x40000000, .eax = 0x40000001},
		{.function = 0x80000000, .eax = 0x80000008},
	};
	static const struct {
		u32 leaf, eax;
	} want[] = {
		{0, 2},
		{1, 0},
		{2, 0x11223344},
		{3, 0x11223344},
		{0x77, 0x11223344},
		{0x40000001, 0},
		{0x40000002, 0x11223344},
		{0x80000001, 0},
		{0x80000009, 0x11223344},
	};
	struct test_vm t;
	u32 out[4];

	test_vm_create(&t, 1, false);
	assert_int_equal(vcpu_set_cpuid2(t.v[0], few, ARRAY_SIZE(few)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		kvm_cpuid(t.v[0], out, want[i].leaf, 0);
		assert_int_equal(out[0], want[i].eax);
	}
	test_vm_destroy(&t);
}

/* CR4 bits exist as the features do. */
static void test_cr4(void **state)
{
	static const struct {
		u64 bit;
		enum cpu_feature f;
	} rows[] = {{CR4_SMEP, FEAT_SMEP}, {CR4_SMAP, FEAT_SMAP}, {CR4_FSGSBASE, FEAT_FSGSBASE},
		    {CR4_PKE, FEAT_PKU},   {CR4_UMIP, FEAT_UMIP}, {CR4_OSXSAVE, FEAT_XSAVE}};
	static const struct kvm_cpuid_entry2 none = {.function = 0};
	struct test_vm t;

	test_vm_create(&t, 1, false);
	/* Before there is a CPUID: what the hardware has. */
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(kvm_set_cr4(t.v[0], rows[i].bit), !kvm_cpu_cap_has(rows[i].f));
	assert_int_equal(kvm_set_cr4(t.v[0], 0), 0);
	assert_int_equal(vcpu_set_cpuid2(t.v[0], &none, 1), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(kvm_set_cr4(t.v[0], rows[i].bit), 1);
	test_vm_cpuid(&t, 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(kvm_set_cr4(t.v[0], rows[i].bit), !kvm_cpu_cap_has(rows[i].f));
	assert_int_equal(kvm_set_cr4(t.v[0], BIT(15)), 1);
	assert_int_equal(kvm_set_cr4(t.v[0], BIT(40)), 1);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_size, setup),
		cmocka_unit_test_setup(test_offered, setup),
		cmocka_unit_test_setup(test_no_duplicates, setup),
		cmocka_unit_test_setup(test_set, setup),
		cmocka_unit_test_setup(test_set_after_run, setup),
		cmocka_unit_test_setup(test_runtime, setup),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_cr4),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
