/* SPDX-License-Identifier: MIT */
/* Exceptions on their way: which two make a double fault (SDM vol. 3A, table 6-5), and delivery. */
#include "vm.h"

static struct test_vm t;

static int setup(void **state)
{
	test_vm_create(&t, 1, true);
	test_vm_cpuid(&t, 0);
	t.v[0]->req.pending = 0;
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

/* Rows: first; columns: second. b: the second is handled, D: double fault. From the manual's table.
 */
static void test_double_fault(void **state)
{
	static const struct {
		unsigned vector;
		int class; /* 0 benign, 1 contributory, 2 page fault */
	} v[] = {{X86_DB, 0}, {X86_UD, 0}, {X86_NM, 0},	    {X86_MF, 0}, {X86_DE, 1},
		 {X86_TS, 1}, {X86_NP, 1}, {X86_SS_VEC, 1}, {X86_GP, 1}, {X86_PF_VEC, 2}};
	static const bool is_df[3][3] = {{0, 0, 0}, {0, 1, 0}, {0, 1, 1}};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(v); j++) {
			unsigned want = is_df[v[i].class][v[j].class] ? X86_DF_VEC : v[j].vector;

			kvm_clear_exception_queue(t.v[0]);
			kvm_queue_exception(t.v[0], v[i].vector);
			kvm_queue_exception(t.v[0], v[j].vector);
			assert_int_equal(t.v[0]->arch->exception.vector, want);
			assert_false(kvm_check_request(t.v[0], REQ_TRIPLE_FAULT));
		}
	}
}

static void test_triple_fault(void **state)
{
	kvm_queue_exception(t.v[0], X86_DF_VEC);
	kvm_queue_exception(t.v[0], X86_GP);
	assert_true(kvm_check_request(t.v[0], REQ_TRIPLE_FAULT));
}

/* DR6 as the payload says: SDM vol. 3C, table 28-1. */
static void test_db_payload(void **state)
{
	struct queued_exception ex = {.vector = X86_DB, .has_payload = true, .payload = DR6_BS};

	t.v[0]->hw->dr6 = 0xffff0ff3; /* two old breakpoint hits */
	kvm_deliver_exception_payload(t.v[0], &ex);
	assert_int_equal(t.v[0]->hw->dr6, 0xffff4ff0);
	ex = (struct queued_exception){.vector = X86_DB, .has_payload = true, .payload = 1};
	kvm_deliver_exception_payload(t.v[0], &ex);
	assert_int_equal(t.v[0]->hw->dr6, 0xffff4ff1);
	ex = (struct queued_exception){
		.vector = X86_PF_VEC, .has_payload = true, .payload = 0x1234};
	kvm_deliver_exception_payload(t.v[0], &ex);
	assert_int_equal(t.v[0]->hw->cr2, 0x1234);
}

/* A real-mode guest takes an injected #UD, then an NMI, through its vector table. */
static void test_injection(void **state)
{
	static const u8 code[] = {0xf4};
	static const u8 handler_ud[] = {0xb0, 0x55, 0xe6, 0x10,
					0xcf}; /* mov al,0x55; out 0x10,al; iret */
	static const u8 handler_nmi[] = {0xb0, 0x66, 0xe6, 0x10, 0xcf};
	struct kvm_run *run = t.v[0]->run;
	u8 *data;

	test_vm_code(&t, 0, code, sizeof(code));
	memcpy(t.mem + 0x2000, handler_ud, sizeof(handler_ud));
	memcpy(t.mem + 0x2100, handler_nmi, sizeof(handler_nmi));
	*(u32 *)(t.mem + X86_UD * 4) = 0x2000;
	*(u32 *)(t.mem + X86_NMI * 4) = 0x2100;
	kvm_queue_exception(t.v[0], X86_UD);
	vcpu_nmi(t.v[0]);
	assert_int_equal(vcpu_run(t.v[0]), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.port, 0x10);
	data = (u8 *)run + run->io.data_offset;
	/* The NMI arrived at the first boundary, in the handler of #UD. */
	assert_int_equal(*data, 0x66);
	assert_int_equal(vcpu_run(t.v[0]), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(*data, 0x55);
	/* #UD is a fault: RF is in the pushed flags of real mode's 16 bits not, IP is the HLT's. */
	assert_int_equal(*(u16 *)(t.mem + 0x8000 - 6), 0x1000);
}

/* At most one NMI is held while another is being handled. */
static void test_nmi_count(void **state)
{
	for (int i = 0; i < 5; i++)
		kvm_inject_nmi(t.v[0]);
	kvm_process_nmi(t.v[0]);
	assert_int_equal(t.v[0]->arch->nmi_pending, 2);
	t.v[0]->kvm->ops->set_nmi_mask(t.v[0], true);
	kvm_inject_nmi(t.v[0]);
	kvm_process_nmi(t.v[0]);
	assert_int_equal(t.v[0]->arch->nmi_pending, 1);
}

/*
 * Single steps around instructions that leave a shadow, and INT1: where the handler is told that
 * the step ended. From the manual: STI holds back interrupts alone (SDM vol. 2, STI), MOV to SS
 * debug traps as well (vol. 3A, 6.8.3), INT1 is a trap.
 */
static void test_db_in_shadow(void **state)
{
	static const struct {
		u8 code[6];
		u64 flags;
		unsigned ip[2];
	} cases[] = {
		{{0xfb, 0x90, 0x90, 0xf4}, X86_TF, {0x1001, 0x1002}},	    /* sti */
		{{0x8e, 0xd0, 0x90, 0x90, 0xf4}, X86_TF, {0x1003, 0x1004}}, /* mov ss,ax */
		{{0xf1, 0x90, 0xf1, 0xf4}, 0, {0x1001, 0x1003}},	    /* int1 */
		{{0xfb, 0xf1, 0xf1, 0xf4}, 0, {0x1002, 0x1003}},	    /* sti; int1 */
	};
	static const u8 handler[] = {0xe6, 0x10, 0xcf}; /* out 0x10,al; iret */
	struct kvm_run *run = t.v[0]->run;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct kvm_regs r;

		test_vm_code(&t, 0, cases[i].code, sizeof(cases[i].code));
		vcpu_get_regs(t.v[0], &r);
		r.rax = 0;
		r.rflags |= cases[i].flags;
		assert_int_equal(vcpu_set_regs(t.v[0], &r), 0);
		memcpy(t.mem + 0x2000, handler, sizeof(handler));
		*(u32 *)(t.mem + X86_DB * 4) = 0x2000;
		for (unsigned k = 0; k < 2; k++) {
			assert_int_equal(vcpu_run(t.v[0]), 0);
			assert_int_equal(run->exit_reason, KVM_EXIT_IO);
			assert_int_equal(*(u16 *)(t.mem + 0x8000 - 6), cases[i].ip[k]);
		}
		/* Ends the OUT; then nothing is left over for the next. */
		run->immediate_exit = 1;
		assert_int_equal(vcpu_run(t.v[0]), -EINTR);
		run->immediate_exit = 0;
	}
}

static void test_events_abi(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
	struct kvm_vcpu_events e;

	kvm_queue_exception_p(t.v[0], X86_DB, DR6_BS);
	assert_int_equal(vcpu_get_vcpu_events(t.v[0], &e), 0);
	/* Without the capability: injected, and DR6 already changed. */
	assert_int_equal(e.exception.injected, 1);
	assert_int_equal(e.exception_has_payload, 0);
	assert_true(t.v[0]->hw->dr6 & DR6_BS);
	e.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	assert_int_equal(vcpu_set_vcpu_events(t.v[0], &e), -EINVAL);
	assert_int_equal(vm_enable_cap(t.kvm, &cap), 0);
	e.exception.injected = 0;
	e.exception.pending = 1;
	e.exception_has_payload = 1;
	e.exception_payload = DR6_BS;
	assert_int_equal(vcpu_set_vcpu_events(t.v[0], &e), 0);
	assert_int_equal(vcpu_get_vcpu_events(t.v[0], &e), 0);
	assert_int_equal(e.exception.pending, 1);
	assert_int_equal(e.exception.injected, 0);
	assert_int_equal(e.exception_payload, DR6_BS);
	e.exception.nr = 32;
	assert_int_equal(vcpu_set_vcpu_events(t.v[0], &e), -EINVAL);
	e.exception.nr = X86_NMI;
	assert_int_equal(vcpu_set_vcpu_events(t.v[0], &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_double_fault, setup, teardown),
		cmocka_unit_test_setup_teardown(test_triple_fault, setup, teardown),
		cmocka_unit_test_setup_teardown(test_db_payload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_injection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_db_in_shadow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nmi_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_abi, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
