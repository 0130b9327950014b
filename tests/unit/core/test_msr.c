/* SPDX-License-Identifier: MIT */
/* MSRs: the table's rules, filters, user-space exits. Values and rules from SDM vol. 4. */
#include "base/guard.h"
#include "spec/abi/kvm_para.h"
#include "spec/msr.h"
#include "vm.h"

static struct test_vm t;

static int setup(void **state)
{
	test_vm_create(&t, 1, true);
	test_vm_cpuid(&t, 0);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

static void test_index_lists(void **state)
{
	u32 list[512], n = 512, few = 1;

	assert_int_equal(sys_get_msr_index_list(list, &n), 0);
	assert_true(n > 20 && n < 512);
	for (u32 i = 0; i < n; i++)
		for (u32 j = 0; j < i; j++)
			assert_int_not_equal(list[i], list[j]);
	assert_int_equal(sys_get_msr_index_list(list, &few), -E2BIG);
	assert_int_equal(few, n);
	/* What is listed can be read and written back. */
	for (u32 i = 0; i < n; i++) {
		u64 val;

		assert_int_equal(kvm_get_msr_host(t.v[0], list[i], &val), 0);
		assert_int_equal(kvm_set_msr_host(t.v[0], list[i], val), 0);
	}
	n = 512;
	assert_int_equal(sys_get_msr_feature_index_list(list, &n), 0);
	for (u32 i = 0; i < n; i++) {
		struct kvm_msr_entry e = {.index = list[i]};

		assert_int_equal(sys_get_msrs(&e, 1), 1);
	}
}

static void test_rules(void **state)
{
	static const struct {
		u32 index;
		u64 val;
		bool ok; /* for the guest */
	} rows[] = {
		{MSR_LSTAR, 0xffffffff81000000, true},
		{MSR_LSTAR, 0x0200000000000000, false}, /* not canonical, whatever the width */
		{MSR_KERNEL_GS_BASE, 0x8000000000000000, false},
		{MSR_FS_BASE, 0x1234, true},
		{MSR_IA32_SYSENTER_ESP, 0xff00000000000000 ^ BIT(63), false},
		{MSR_STAR, 0x0023001000000000, true},
		{MSR_IA32_CR_PAT, 0x0007040600070406, true},
		{MSR_IA32_CR_PAT, 0x0007040600070402, false}, /* type 2 is reserved */
		{MSR_IA32_CR_PAT, 0x0807040600070406, false},
		{MSR_MTRRdefType, 0xc06, true},
		{MSR_MTRRdefType, 0xc02, false},
		{MSR_MTRRdefType, 0x1006, false},
		{MSR_MTRRfix64K_00000, 0x0606060606060606, true},
		{MSR_MTRRfix64K_00000, 0x0606060606060603, false},
		{0x200, 0x80000006, true},
		{0x200, 0x80000106, false},
		{0x201, 0x800, true},
		{0x201, 0x801, false},
		{MSR_EFER, EFER_SCE | EFER_NXE, true},
		{MSR_EFER, EFER_SVME, false},
		{MSR_EFER, BIT(20), false},
		{MSR_IA32_XSS, 1, false},
		{MSR_TSC_AUX, 7, true},
		{MSR_TSC_AUX, 0x100000000, false},
		{MSR_PLATFORM_INFO, 0, false},
		{MSR_IA32_ARCH_CAPABILITIES, 0, false},
		{MSR_MISC_FEATURES_ENABLES, 1, true},
		{MSR_MISC_FEATURES_ENABLES, 2, false},
		{MSR_IA32_MC0_CTL, 0, true},
		{MSR_IA32_MC0_CTL, 5, false},
		{MSR_IA32_MC0_STATUS, 1, false},
		{MSR_KVM_STEAL_TIME, 0x1003, false},
		{MSR_KVM_POLL_CONTROL, 2, false},
		{MSR_IA32_FEAT_CTL, BIT(9), false},
		{0x12345678, 0, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!kvm_set_msr(t.v[0], rows[i].index, rows[i].val) != rows[i].ok)
			fail_msg("MSR %#x = %#llx: wanted %s", rows[i].index,
				 (unsigned long long)rows[i].val, rows[i].ok ? "ok" : "#GP");
}

static void test_efer_lma(void **state)
{
	u64 val;

	assert_int_equal(kvm_set_msr(t.v[0], MSR_EFER, EFER_LME | EFER_LMA), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_EFER, &val), 0);
	assert_int_equal(val, EFER_LME); /* LMA is read-only */
}

static void test_gates(void **state)
{
	struct test_vm bare;
	u64 val;

	test_vm_create(&bare, 1, false);
	assert_int_equal(kvm_get_msr(bare.v[0], MSR_TSC_AUX, &val), -EINVAL);
	assert_int_equal(kvm_get_msr_host(bare.v[0], MSR_TSC_AUX, &val), 0);
	assert_int_equal(kvm_get_msr(bare.v[0], MSR_MTRRdefType, &val), -EINVAL);
	assert_int_equal(kvm_get_msr(bare.v[0], 0x802, &val), -EINVAL); /* no APIC here */
	assert_int_equal(kvm_get_msr(bare.v[0], 0x12345, &val), -ENOENT);
	test_vm_destroy(&bare);
}

static void test_feature_control(void **state)
{
	u64 val;

	assert_int_equal(kvm_set_msr(t.v[0], MSR_IA32_FEAT_CTL, 1), 0); /* lock */
	assert_int_equal(kvm_set_msr(t.v[0], MSR_IA32_FEAT_CTL, 1), -EINVAL);
	assert_int_equal(kvm_set_msr_host(t.v[0], MSR_IA32_FEAT_CTL, 5), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_FEAT_CTL, &val), 0);
	assert_int_equal(val, 5);
}

static void test_filter(void **state)
{
	u8 bitmap[8] = {0x01}; /* only the first of 64 is allowed */
	struct kvm_msr_filter f = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
	u64 val;

	guard_install(); /* cmocka has its own handlers since the VM was made */
	assert_int_equal(kvm_get_msr_filtered(t.v[0], MSR_STAR, &val), 0);
	f.ranges[0] = (struct kvm_msr_filter_range){
		.flags = KVM_MSR_FILTER_READ, .base = MSR_STAR - 1, .nmsrs = 64, .bitmap = bitmap};
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), 0);
	assert_int_equal(kvm_get_msr_filtered(t.v[0], MSR_EFER, &val), 0);
	assert_int_equal(kvm_get_msr_filtered(t.v[0], MSR_STAR, &val), -EPERM);
	assert_int_equal(kvm_set_msr_filtered(t.v[0], MSR_STAR, 0), 0); /* writes: default */
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY;
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), 0);
	assert_int_equal(kvm_set_msr_filtered(t.v[0], MSR_STAR, 0), -EPERM);
	/* x2APIC registers are never filtered: here the APIC itself refuses, in xAPIC mode. */
	assert_int_equal(kvm_get_msr_filtered(t.v[0], 0x802, &val), -EINVAL);
	f.ranges[0].nmsrs = 0;
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), -EINVAL);
	f.flags = 2;
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), -EINVAL);
	f.flags = 0;
	f.ranges[0] = (struct kvm_msr_filter_range){.flags = 4, .nmsrs = 1, .bitmap = bitmap};
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), -EINVAL);
	f.ranges[0] = (struct kvm_msr_filter_range){.flags = 1, .nmsrs = 1, .bitmap = (u8 *)1};
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), -EFAULT);
	f.ranges[0] =
		(struct kvm_msr_filter_range){.flags = 1, .nmsrs = 0x600 * 8 + 1, .bitmap = bitmap};
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), -EINVAL);
	f.ranges[0].nmsrs = 0;
	assert_int_equal(vm_x86_set_msr_filter(t.kvm, &f), 0); /* all allowed again */
	assert_int_equal(kvm_get_msr_filtered(t.v[0], MSR_STAR, &val), 0);
}

static void test_mce(void **state)
{
	struct kvm_x86_mce e = {.status = BIT(63), .bank = 1, .addr = 0x1234};
	u64 cap, val;

	assert_int_equal(sys_x86_get_mce_cap_supported(&cap), 0);
	assert_int_equal(vcpu_x86_setup_mce(t.v[0], 0), -EINVAL);
	assert_int_equal(vcpu_x86_setup_mce(t.v[0], 33), -EINVAL);
	assert_int_equal(vcpu_x86_setup_mce(t.v[0], 10 | BIT(40)), -EINVAL);
	assert_int_equal(vcpu_x86_setup_mce(t.v[0], 10 | cap), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_MCG_CAP, &val), 0);
	assert_int_equal(val, 10 | cap);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_MC0_CTL, &val), 0);
	assert_true(val == ~0ull);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_MC0_CTL + 40, &val), -EINVAL);
	/* A corrected error is recorded; a second one overflows. */
	assert_int_equal(vcpu_x86_set_mce(t.v[0], &e), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_MC0_STATUS + 4, &val), 0);
	assert_true(val == BIT(63));
	assert_int_equal(vcpu_x86_set_mce(t.v[0], &e), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_MC0_STATUS + 4, &val), 0);
	assert_true(val == (BIT(63) | BIT(62)));
	/* One that is uncorrected and needs no action is recorded, and nothing more. */
	e.status |= BIT(61);
	assert_int_equal(vcpu_x86_set_mce(t.v[0], &e), 0);
	assert_int_equal(kvm_get_msr(t.v[0], MSR_IA32_MC0_STATUS + 4, &val), 0);
	assert_true(val == e.status);
	assert_false(t.v[0]->arch->exception.pending);
	/* Others without CR4.MCE shut the processor down. */
	e.mcg_status = BIT(2) | BIT(0); /* MCIP, RIPV */
	assert_int_equal(vcpu_x86_set_mce(t.v[0], &e), 0);
	assert_true(kvm_check_request(t.v[0], REQ_TRIPLE_FAULT));
	assert_int_equal(kvm_set_cr4(t.v[0], CR4_MCE), 0);
	assert_int_equal(vcpu_x86_set_mce(t.v[0], &e), 0);
	assert_true(t.v[0]->arch->exception.pending);
	assert_int_equal(t.v[0]->arch->exception.vector, X86_MC);
	e.bank = 10;
	assert_int_equal(vcpu_x86_set_mce(t.v[0], &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_index_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_efer_lma, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_feature_control, setup, teardown),
		cmocka_unit_test_setup_teardown(test_filter, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mce, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
