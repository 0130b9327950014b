/* SPDX-License-Identifier: MIT */
/*
 * Good and bad arguments of requests that few programs use: machine checks, SMIs, the shared TPR,
 * guest_memfd, memory attributes, pre-faulting, nested state, VMX capabilities. As Linux 6.12
 * answers them.
 */
#include "api.h"

#include <stddef.h>

#include "spec/msr.h"
#include "spec/vmx.h"

static struct test_vm t, bare; /* bare: no interrupt controllers */

static int setup(void **state)
{
	test_vm_create(&t, TEST_VM_IRQCHIP);
	test_vm_add_vcpu(&t);
	test_vm_create(&bare, 0);
	test_vm_add_vcpu(&bare);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	test_vm_destroy(&bare);
	return 0;
}

/* @fd: /dev/kvm's or a vCPU's. */
static u64 get_msr_of(int fd, u32 index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = {.head.nmsrs = 1, .entry.index = index};

	assert_int_equal(io(fd, KVM_GET_MSRS, &m), 1);
	return m.entry.data;
}

static u64 get_msr(u32 index)
{
	return get_msr_of(t.vcpu, index);
}

static void test_mce(void **state)
{
	struct kvm_x86_mce mce = {.status = BIT(63) | 0x150, .addr = 0x1234000, .bank = 10};
	u64 supported, cap;

	assert_ok(io(t.kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported));
	cap = 0; /* no banks */
	assert_errno(io(t.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 33; /* more than KVM has */
	assert_errno(io(t.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 10 | BIT(40); /* not in MCG_CAP */
	assert_errno(io(t.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL);
	cap = 10 | (supported & BIT(8));
	assert_ok(io(t.vcpu, KVM_X86_SETUP_MCE, &cap));
	assert_errno(io(t.vcpu, KVM_X86_SET_MCE, &mce), EINVAL); /* banks are 0 to 9 */
	mce.bank = 3;
	mce.status &= ~BIT(63); /* not valid */
	assert_errno(io(t.vcpu, KVM_X86_SET_MCE, &mce), EINVAL);
	mce.status |= BIT(63);
	assert_ok(io(t.vcpu, KVM_X86_SET_MCE, &mce));
	assert_true(get_msr(0x401 + 4 * 3) == mce.status);
	assert_true(get_msr(0x402 + 4 * 3) == mce.addr);
}

static void test_smi(void **state)
{
	struct kvm_vcpu_events ev;

	assert_ok(io(t.vcpu, KVM_SMI, 0));
	assert_ok(io(t.vcpu, KVM_GET_VCPU_EVENTS, &ev));
	assert_true(ev.flags & KVM_VCPUEVENT_VALID_SMM);
	assert_int_equal(ev.smi.pending, 1);
	ev.smi.pending = 0;
	assert_ok(io(t.vcpu, KVM_SET_VCPU_EVENTS, &ev));
}

static void test_tpr(void **state)
{
	struct kvm_tpr_access_ctl tac = {.enabled = 1, .flags = 1};
	struct kvm_vapic_addr va = {.vapic_addr = 0x5000};

	assert_errno(io(t.vcpu, KVM_TPR_ACCESS_REPORTING, &tac), EINVAL);
	tac.flags = 0;
	assert_ok(io(t.vcpu, KVM_TPR_ACCESS_REPORTING, &tac));
	tac.enabled = 0;
	assert_ok(io(t.vcpu, KVM_TPR_ACCESS_REPORTING, &tac));
	assert_errno(io(bare.vcpu, KVM_SET_VAPIC_ADDR, &va), EINVAL); /* no local APIC here */
	assert_ok(io(t.vcpu, KVM_SET_VAPIC_ADDR, &va));
	va.vapic_addr = 0; /* off */
	assert_ok(io(t.vcpu, KVM_SET_VAPIC_ADDR, &va));
	va.vapic_addr = 1ull << 40; /* no memory there */
	assert_errno(io(t.vcpu, KVM_SET_VAPIC_ADDR, &va), EINVAL);
}

static long memfd(int vm, u64 size, u64 flags)
{
	struct kvm_create_guest_memfd g = {.size = size, .flags = flags};

	return io(vm, KVM_CREATE_GUEST_MEMFD, &g);
}

static long attributes(int vm, u64 gpa, u64 size, u64 attr, u64 flags)
{
	struct kvm_memory_attributes a = {gpa, size, attr, flags};

	return io(vm, KVM_SET_MEMORY_ATTRIBUTES, &a);
}

static void test_private_memory(void **state)
{
	long fd;
	int vm;

	assert_errno(memfd(t.vm, 0, 0), EINVAL);
	assert_errno(memfd(t.vm, PAGE_SIZE + 1, 0), EINVAL);
	assert_errno(memfd(t.vm, PAGE_SIZE, 1), EINVAL);
	fd = assert_ok(memfd(t.vm, 4 * PAGE_SIZE, 0));
	assert_ok(kvmless_close((int)fd));
	/* Ordinary VMs have no private memory. */
	assert_errno(attributes(t.vm, 0, PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE, 0), EINVAL);
	vm = (int)assert_ok(io(t.kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM));
	assert_errno(attributes(vm, 0, PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE, 1), EINVAL);
	assert_errno(attributes(vm, 0, 0, KVM_MEMORY_ATTRIBUTE_PRIVATE, 0), EINVAL);
	assert_errno(attributes(vm, 1, PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE, 0), EINVAL);
	assert_errno(attributes(vm, 0, PAGE_SIZE, 1, 0), EINVAL); /* not a bit of it */
	assert_errno(attributes(vm, ~0ull << 12, 2 * PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE, 0),
		     EINVAL);
	assert_ok(attributes(vm, 0, PAGE_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE, 0));
	assert_ok(attributes(vm, 0, PAGE_SIZE, 0, 0));
	assert_ok(kvmless_close(vm));
}

static void test_pre_fault(void **state)
{
	struct kvm_pre_fault_memory f = {.gpa = 0, .size = 8 * PAGE_SIZE, .flags = 1};

	assert_errno(io(t.vcpu, KVM_PRE_FAULT_MEMORY, &f), EINVAL);
	f.flags = 0;
	f.gpa = 1;
	assert_errno(io(t.vcpu, KVM_PRE_FAULT_MEMORY, &f), EINVAL);
	f.gpa = 0;
	f.size = PAGE_SIZE + 1;
	assert_errno(io(t.vcpu, KVM_PRE_FAULT_MEMORY, &f), EINVAL);
	f.size = 0;
	assert_errno(io(t.vcpu, KVM_PRE_FAULT_MEMORY, &f), EINVAL);
	f.size = 8 * PAGE_SIZE;
	assert_ok(io(t.vcpu, KVM_PRE_FAULT_MEMORY, &f));
	assert_true(f.gpa == 8 * PAGE_SIZE && f.size == 0);
	f.gpa = MEM_SIZE; /* no slot there */
	f.size = PAGE_SIZE;
	assert_errno(io(t.vcpu, KVM_PRE_FAULT_MEMORY, &f), ENOENT);
}

static void test_nested_state(void **state)
{
	static u8 room[16384] __attribute__((aligned(16)));
	struct kvm_nested_state *s = (void *)room;
	const u32 header = offsetof(struct kvm_nested_state, data);

	s->size = 0;
	assert_errno(io(t.vcpu, KVM_GET_NESTED_STATE, s), E2BIG);
	assert_int_equal(s->size, header); /* not in VMX operation: the header alone */
	s->size = sizeof(room);
	assert_ok(io(t.vcpu, KVM_GET_NESTED_STATE, s));
	assert_int_equal(s->size, header);
	assert_true(s->hdr.vmx.vmxon_pa == ~0ull && s->hdr.vmx.vmcs12_pa == ~0ull);
	assert_ok(io(t.vcpu, KVM_SET_NESTED_STATE, s));
	s->size = header - 1;
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, s), EINVAL);
	s->size = header;
	s->format = 1; /* SVM's */
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, s), EINVAL);
	s->format = 0;
	s->flags = 0x4000;
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, s), EINVAL);
	/* An entry under way, but no guest. */
	s->flags = KVM_STATE_NESTED_RUN_PENDING;
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, s), EINVAL);
	s->flags = 0;
	s->hdr.vmx.vmcs12_pa = 0x1000; /* a VMCS without VMXON */
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, s), EINVAL);
}

static long set_ctls2(u64 val)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head.nmsrs = 1, .entry = {.index = MSR_IA32_VMX_PROCBASED_CTLS2, .data = val}};

	return io(t.vcpu, KVM_SET_MSRS, &one);
}

/* A VMM takes a VMX control from a vCPU, and gives it back; it cannot give what is not offered. */
static void test_vmx_controls(void **state)
{
	const u64 mbec = (u64)SECONDARY_EXEC_MODE_BASED_EPT_EXEC << 32,
		  ept = (u64)SECONDARY_EXEC_ENABLE_EPT << 32,
		  ve = (u64)SECONDARY_EXEC_EPT_VIOLATION_VE << 32;
	u64 offered = get_msr_of(t.kvm, MSR_IA32_VMX_PROCBASED_CTLS2);

	assert_int_equal(offered & (mbec | ept | ve), mbec | ept);
	assert_int_equal(get_msr(MSR_IA32_VMX_PROCBASED_CTLS2), offered);
	assert_int_equal(set_ctls2(offered & ~mbec), 1);
	assert_int_equal(get_msr(MSR_IA32_VMX_PROCBASED_CTLS2), offered & ~mbec);
	assert_int_equal(get_msr_of(t.kvm, MSR_IA32_VMX_PROCBASED_CTLS2), offered);
	assert_int_equal(set_ctls2(offered | ve), 0);
	assert_int_equal(get_msr(MSR_IA32_VMX_PROCBASED_CTLS2), offered & ~mbec);
	assert_int_equal(set_ctls2(offered), 1);
	assert_int_equal(get_msr(MSR_IA32_VMX_PROCBASED_CTLS2), offered);
	/* Without two-dimensional paging there is none for L1 either. */
	assert_ok(kvmless_param_set("kvm_intel.ept", "0"));
	assert_int_equal(get_msr_of(t.kvm, MSR_IA32_VMX_PROCBASED_CTLS2) & (mbec | ept), 0);
	assert_ok(kvmless_param_set("kvm_intel.ept", "1"));
	assert_int_equal(get_msr_of(t.kvm, MSR_IA32_VMX_PROCBASED_CTLS2), offered);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mce),	     cmocka_unit_test(test_smi),
		cmocka_unit_test(test_tpr),	     cmocka_unit_test(test_private_memory),
		cmocka_unit_test(test_pre_fault),    cmocka_unit_test(test_nested_state),
		cmocka_unit_test(test_vmx_controls),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
