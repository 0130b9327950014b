/* SPDX-License-Identifier: MIT */
/*
 * KVM_CAP_X86_NOTIFY_VMEXIT. A guest at CPL 3 whose stack is misaligned takes #AC without end:
 * delivering it raises it. The core intercepts #AC, so the test takes that intercept away.
 */
#include "vm.h"

#include "core/vmx/vmx.h"
#include "core/x86_ops.h"

static struct test_vm t;

static int setup(void **state)
{
	test_vm_create(&t, 0, true);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

static int enable(u64 flags, u32 window)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_NOTIFY_VMEXIT,
				     .args = {(u64)window << 32 | flags}};

	return vm_enable_cap(t.kvm, &cap);
}

static void put64(u64 at, u64 v)
{
	memcpy(t.mem + at, &v, 8);
}

static void start(void)
{
	static const u8 code[] = {0xa1, 0x01, 0x40, 0x00, 0x00, 0xf4}; /* mov eax, [0x4001]; hlt */
	struct kvm_segment data = {.limit = ~0u,
				   .selector = 0x23,
				   .type = 3,
				   .present = 1,
				   .dpl = 3,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_regs regs = {.rip = 0x1000, .rsp = 0x8001, .rflags = 2 | X86_AC};
	struct kvm_sregs s;
	u64 eb;

	test_vm_add_vcpu(&t);
	test_vm_cpuid(&t, 0);
	test_vm_code(&t, 0, code, sizeof(code));
	put64(0x5000 + 0x18, 0x00cffb000000ffff); /* code, DPL 3 */
	put64(0x5000 + 0x20, 0x00cff3000000ffff);
	put64(0x6000 + X86_AC_VEC * 8, 0x0000ee00001b2000);
	assert_int_equal(vcpu_get_sregs(t.v[0], &s), 0);
	s.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_AM;
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs = data;
	s.cs.selector = 0x1b;
	s.cs.type = 11;
	s.gdt.base = 0x5000;
	s.gdt.limit = 0x27;
	s.idt.base = 0x6000;
	s.idt.limit = 0xff;
	assert_int_equal(vcpu_set_sregs(t.v[0], &s), 0);
	assert_int_equal(vcpu_set_regs(t.v[0], &regs), 0);
	eb = vmcs_read(t.v[0], EXCEPTION_BITMAP);
	assert_true(eb & BIT(X86_AC_VEC));
	assert_int_equal(sil_vmwrite(t.v[0]->cpu, EXCEPTION_BITMAP, eb & ~BIT(X86_AC_VEC)),
			 SIL_VMX_OK);
}

/* To user space each time, and the guest is where it was: it has taken none of them. */
static void test_user(void **state)
{
	struct kvm_run *run;
	struct kvm_regs r;

	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_ENABLED | KVM_X86_NOTIFY_VMEXIT_USER, 50), 0);
	start();
	run = t.v[0]->run;
	assert_true(vmcs_read(t.v[0], SECONDARY_VM_EXEC_CONTROL) &
		    SECONDARY_EXEC_NOTIFY_VM_EXITING);
	assert_int_equal(vmcs_read(t.v[0], NOTIFY_WINDOW), 50);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(vcpu_run(t.v[0]), 0);
		assert_int_equal(run->exit_reason, KVM_EXIT_NOTIFY);
		assert_int_equal(run->notify.flags, 0);
		assert_int_equal(t.v[0]->arch->stat.notify_window_exits, i);
	}
	vcpu_get_regs(t.v[0], &r);
	assert_int_equal(r.rip, 0x1000);
	assert_int_equal(r.rsp, 0x8001);
	/* An aligned stack ends it: the event that was under way arrives. Its handler's HLT is #GP
	 * at CPL 3, and for that there is no gate. */
	t.mem[0x2000] = 0xf4;
	r.rsp = 0x8000;
	vcpu_set_regs(t.v[0], &r);
	assert_int_equal(vcpu_run(t.v[0]), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_SHUTDOWN);
	/* Its frame: EIP below CS, EFLAGS, and the error code at the bottom. */
	assert_int_equal(*(u32 *)(t.mem + 0x8000 - 12), 0x1000);
}

/* Without the flag the guest goes on, until its thread is wanted. */
static void test_kernel(void **state)
{
	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_ENABLED, 0), 0);
	start();
	t.v[0]->arch->stat.notify_window_exits = 0;
	test_vm_interrupt_later(&t, 0);
	assert_int_equal(vcpu_run(t.v[0]), -EINTR);
	assert_true(t.v[0]->arch->stat.notify_window_exits > 0);
}

/* Not enabled: no exits, and still the thread can be had. */
static void test_off(void **state)
{
	start();
	assert_false(vmcs_read(t.v[0], SECONDARY_VM_EXEC_CONTROL) &
		     SECONDARY_EXEC_NOTIFY_VM_EXITING);
	test_vm_interrupt_later(&t, 0);
	assert_int_equal(vcpu_run(t.v[0]), -EINTR);
	assert_int_equal(t.v[0]->arch->stat.notify_window_exits, 0);
}

/* A context that the processor has lost goes to user space whatever the flags. */
static void test_invalid_context(void **state)
{
	struct kvm_run *run;

	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_ENABLED, 0), 0);
	start();
	run = t.v[0]->run;
	run->immediate_exit = 1;
	assert_int_equal(vcpu_run(t.v[0]), -EINTR);
	vmx_of(t.v[0])->exit_reason = EXIT_REASON_NOTIFY;
	vmx_of(t.v[0])->idt_vectoring_info = 0;
	t.v[0]->regs.exit_info_1 = NOTIFY_VM_CONTEXT_INVALID;
	assert_int_equal(sil_vmwrite(t.v[0]->cpu, EXIT_QUALIFICATION, NOTIFY_VM_CONTEXT_INVALID),
			 SIL_VMX_OK);
	assert_int_equal(vmx_handle_exit(t.v[0], 0), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_NOTIFY);
	assert_int_equal(run->notify.flags, KVM_NOTIFY_CONTEXT_INVALID);
}

static void test_arguments(void **state)
{
	assert_int_equal(vm_check_extension(t.kvm, KVM_CAP_X86_NOTIFY_VMEXIT), 1);
	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_USER, 0), -EINVAL);
	assert_int_equal(enable(0, 5), -EINVAL);
	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_ENABLED | 4, 0), -EINVAL);
	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_ENABLED, ~0u), 0);
	test_vm_add_vcpu(&t);
	assert_int_equal(vmcs_read(t.v[0], NOTIFY_WINDOW), ~0u);
	assert_int_equal(enable(KVM_X86_NOTIFY_VMEXIT_ENABLED, 0), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_user, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_invalid_context, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
