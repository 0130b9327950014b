/* SPDX-License-Identifier: MIT */
/*
 * KVM_CHECK_EXTENSION: what Linux 6.12 answers on a processor with VT-x and EPT, and where ours
 * differs (docs/capabilities.md says why). KVM_ENABLE_CAP: the arguments that are refused.
 */
#include "api.h"

static struct test_vm t;

static int setup(void **state)
{
	test_vm_create(&t, 0);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

/* Yes or no. */
static const u16 yes[] = {
	KVM_CAP_IRQCHIP,
	KVM_CAP_HLT,
	KVM_CAP_MMU_SHADOW_CACHE_CONTROL,
	KVM_CAP_USER_MEMORY,
	KVM_CAP_SET_TSS_ADDR,
	KVM_CAP_VAPIC,
	KVM_CAP_EXT_CPUID,
	KVM_CAP_CLOCKSOURCE,
	KVM_CAP_PIT,
	KVM_CAP_NOP_IO_DELAY,
	KVM_CAP_MP_STATE,
	KVM_CAP_SYNC_MMU,
	KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
	KVM_CAP_USER_NMI,
	KVM_CAP_SET_GUEST_DEBUG,
	KVM_CAP_REINJECT_CONTROL,
	KVM_CAP_IRQ_INJECT_STATUS,
	KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
	KVM_CAP_IRQFD,
	KVM_CAP_PIT2,
	KVM_CAP_SET_BOOT_CPU_ID,
	KVM_CAP_PIT_STATE2,
	KVM_CAP_IOEVENTFD,
	KVM_CAP_SET_IDENTITY_MAP_ADDR,
	KVM_CAP_INTERNAL_ERROR_DATA,
	KVM_CAP_VCPU_EVENTS,
	KVM_CAP_DEBUGREGS,
	KVM_CAP_X86_ROBUST_SINGLESTEP,
	KVM_CAP_ENABLE_CAP,
	KVM_CAP_XSAVE,
	KVM_CAP_XCRS,
	KVM_CAP_ASYNC_PF,
	KVM_CAP_TSC_CONTROL,
	KVM_CAP_GET_TSC_KHZ,
	KVM_CAP_TSC_DEADLINE_TIMER,
	KVM_CAP_KVMCLOCK_CTRL,
	KVM_CAP_SIGNAL_MSI,
	KVM_CAP_READONLY_MEM,
	KVM_CAP_IRQFD_RESAMPLE,
	KVM_CAP_EXT_EMUL_CPUID,
	KVM_CAP_IOAPIC_POLARITY_IGNORED,
	KVM_CAP_ENABLE_CAP_VM,
	KVM_CAP_IOEVENTFD_NO_LENGTH,
	KVM_CAP_CHECK_EXTENSION_VM,
	KVM_CAP_DISABLE_QUIRKS,
	KVM_CAP_X86_SMM,
	KVM_CAP_SPLIT_IRQCHIP,
	KVM_CAP_IOEVENTFD_ANY_LENGTH,
	KVM_CAP_VCPU_ATTRIBUTES,
	KVM_CAP_IMMEDIATE_EXIT,
	KVM_CAP_GET_MSR_FEATURES,
	KVM_CAP_MSR_PLATFORM_INFO,
	KVM_CAP_COALESCED_PIO,
	KVM_CAP_EXCEPTION_PAYLOAD,
	KVM_CAP_HALT_POLL,
	KVM_CAP_ASYNC_PF_INT,
	KVM_CAP_LAST_CPU,
	KVM_CAP_STEAL_TIME,
	KVM_CAP_X86_USER_SPACE_MSR,
	KVM_CAP_X86_MSR_FILTER,
	KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
	KVM_CAP_SREGS2,
	KVM_CAP_BINARY_STATS_FD,
	KVM_CAP_EXIT_ON_EMULATION_FAILURE,
	KVM_CAP_VM_TSC_CONTROL,
	KVM_CAP_SYSTEM_EVENT_DATA,
	KVM_CAP_SYS_ATTRIBUTES,
	KVM_CAP_X86_TRIPLE_FAULT_EVENT,
	KVM_CAP_X86_NOTIFY_VMEXIT,
	KVM_CAP_VM_DISABLE_NX_HUGE_PAGES,
	KVM_CAP_USER_MEMORY2,
	KVM_CAP_MEMORY_FAULT_INFO,
	KVM_CAP_PRE_FAULT_MEMORY,
	KVM_CAP_X86_APIC_BUS_CYCLES_NS,
	KVM_CAP_X86_GUEST_MODE,
	KVM_CAP_HYPERV,
	KVM_CAP_HYPERV_VAPIC,
	KVM_CAP_HYPERV_SPIN,
	KVM_CAP_HYPERV_TIME,
	KVM_CAP_HYPERV_VP_INDEX,
	KVM_CAP_HYPERV_TLBFLUSH,
	KVM_CAP_HYPERV_CPUID,
	KVM_CAP_SYS_HYPERV_CPUID,
	KVM_CAP_HYPERV_ENFORCE_CPUID,
	KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
};

static const struct {
	u16 cap;
	int value;
} numbers[] = {
	{KVM_CAP_MAX_VCPUS, 1024},
	{KVM_CAP_MAX_VCPU_ID, 4096},
	{KVM_CAP_NR_MEMSLOTS, 32764},
	{KVM_CAP_COALESCED_MMIO, 2},
	{KVM_CAP_IRQ_ROUTING, 4096},
	{KVM_CAP_MCE, 32},
	{KVM_CAP_ADJUST_CLOCK, 14},
	{KVM_CAP_SYNC_REGS, 7},
	{KVM_CAP_MULTI_ADDRESS_SPACE, 2},
	{KVM_CAP_X2APIC_API, 3},
	{KVM_CAP_SET_GUEST_DEBUG2, 0x1f0003},
	{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3},
	{KVM_CAP_DIRTY_LOG_RING, 65536 * 16},
	{KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 65536 * 16},
	{KVM_CAP_EXIT_HYPERCALL, 1 << 12},
	{KVM_CAP_NESTED_STATE, 128 + 8192},
	/* KVM also has C-states and, on some machines, MWAIT. */
	{KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE},
	/* Off with two-dimensional paging. */
	{KVM_CAP_SMALLER_MAXPHYADDR, 0},
	/* Not here. */
	{KVM_CAP_PV_MMU, 0},
	{KVM_CAP_HYPERV_SYNIC, 0},
	{KVM_CAP_XEN_HVM, 0},
	{KVM_CAP_PMU_CAPABILITY, 0},
	{KVM_CAP_DEVICE_CTRL, 0},
	{KVM_CAP_X86_BUS_LOCK_EXIT, 0},
};

static void test_values(void **state)
{
	for (unsigned fd = 0; fd < 2; fd++) {
		int on = fd ? t.vm : t.kvm;

		for (unsigned i = 0; i < ARRAY_SIZE(yes); i++)
			if (io(on, KVM_CHECK_EXTENSION, yes[i]) != 1)
				fail_msg("capability %u: %d", yes[i],
					 io(on, KVM_CHECK_EXTENSION, yes[i]));
		for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
			if (io(on, KVM_CHECK_EXTENSION, numbers[i].cap) != numbers[i].value)
				fail_msg("capability %u: %#x, not %#x", numbers[i].cap,
					 io(on, KVM_CHECK_EXTENSION, numbers[i].cap),
					 numbers[i].value);
	}
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS),
			 sysconf(_SC_NPROCESSORS_ONLN));
	assert_true(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) >= 4096);
	/* Each of these bits has a test of its own. */
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2), 0xff);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES), 3);
	/* Only of VMs with private memory. */
	assert_int_equal(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD), 0);
	assert_int_equal(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES), 0);
	assert_int_equal(io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES), 8);
}

static void test_protected_vm(void **state)
{
	int vm = assert_ok(io(t.kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM));

	assert_int_equal(io(vm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD), 1);
	assert_int_equal(io(vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES), 8);
	assert_int_equal(io(vm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE), 1);
	kvmless_close(vm);
}

static int enable(u32 cap, u32 flags, u64 arg)
{
	struct kvm_enable_cap c = {.cap = cap, .flags = flags, .args = {arg}};

	return io(t.vm, KVM_ENABLE_CAP, &c);
}

static void test_enable(void **state)
{
	assert_errno(enable(KVM_CAP_IRQCHIP, 0, 1), EINVAL);
	assert_errno(enable(0xffff, 0, 1), EINVAL);
	assert_ok(enable(KVM_CAP_HALT_POLL, 0, 5000));
	assert_errno(enable(KVM_CAP_HALT_POLL, 1, 5000), EINVAL);
	assert_errno(enable(KVM_CAP_HALT_POLL, 0, 1ull << 32), EINVAL);
	assert_errno(enable(KVM_CAP_VM_DISABLE_NX_HUGE_PAGES, 0, 1), EINVAL);
	assert_ok(enable(KVM_CAP_VM_DISABLE_NX_HUGE_PAGES, 0, 0));
	assert_errno(enable(KVM_CAP_X86_DISABLE_EXITS, 0, 1u << 31), EINVAL);
	assert_errno(enable(KVM_CAP_DISABLE_QUIRKS2, 0, 1u << 31), EINVAL);
	assert_ok(enable(KVM_CAP_DISABLE_QUIRKS, 0, ~0u));
	assert_errno(enable(KVM_CAP_X2APIC_API, 0, 4), EINVAL);
	assert_errno(enable(KVM_CAP_X86_USER_SPACE_MSR, 0, 8), EINVAL);
	assert_errno(enable(KVM_CAP_EXIT_HYPERCALL, 0, 1), EINVAL);
	assert_errno(enable(KVM_CAP_EXIT_ON_EMULATION_FAILURE, 0, 2), EINVAL);
	assert_errno(enable(KVM_CAP_X86_NOTIFY_VMEXIT, 0, KVM_X86_NOTIFY_VMEXIT_USER), EINVAL);
	assert_errno(enable(KVM_CAP_X86_NOTIFY_VMEXIT, 0, KVM_X86_NOTIFY_VMEXIT_ENABLED | 4),
		     EINVAL);
	assert_ok(enable(KVM_CAP_X86_NOTIFY_VMEXIT, 0,
			 1000ull << 32 | KVM_X86_NOTIFY_VMEXIT_ENABLED));
	test_vm_add_vcpu(&t);
	/* Too late. */
	assert_errno(enable(KVM_CAP_X86_NOTIFY_VMEXIT, 0, KVM_X86_NOTIFY_VMEXIT_ENABLED), EINVAL);
	assert_errno(enable(KVM_CAP_VM_DISABLE_NX_HUGE_PAGES, 0, 0), EINVAL);
	assert_errno(enable(KVM_CAP_MAX_VCPU_ID, 0, 4), EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_protected_vm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_enable, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
