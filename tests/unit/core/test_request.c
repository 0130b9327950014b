/* SPDX-License-Identifier: MIT */
/* Requests, kicks and sleeping, against threads that really run. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "core/service.h"
#include "core/wait.h"
#include "vm.h"

static void test_set_and_clear(void **state)
{
	struct test_vm t;

	test_vm_create(&t, 1, true);
	t.v[0]->req.pending = 0;
	for (unsigned r = 0; r < REQ_N; r++) {
		assert_false(kvm_check_request(t.v[0], (enum kvm_request)r));
		kvm_make_request(t.v[0], (enum kvm_request)r);
		assert_true(kvm_request_pending(&t.v[0]->req));
		assert_int_equal(t.v[0]->req.pending, BIT(r));
		assert_true(kvm_check_request(t.v[0], (enum kvm_request)r));
		assert_false(kvm_request_pending(&t.v[0]->req));
	}
	test_vm_destroy(&t);
}

/* A kick between the prepare and the sleep is not lost; one before it does not count. */
static void test_sleep(void **state)
{
	struct test_vm t;
	u64 start, soon;
	u32 seen;

	test_vm_create(&t, 1, true);
	kvm_vcpu_kick(t.v[0]);
	seen = vcpu_wait_prepare(t.v[0]);
	kvm_vcpu_kick(t.v[0]);
	start = kvm_now_ns(t.kvm);
	assert_int_equal(vcpu_wait(t.v[0], seen, start + 5000000000ull), 0);
	assert_true(kvm_now_ns(t.kvm) - start < 2000000000ull);
	vcpu_wait_finish(t.v[0]);

	seen = vcpu_wait_prepare(t.v[0]);
	start = kvm_now_ns(t.kvm);
	soon = start + 20000000;
	assert_int_equal(vcpu_wait(t.v[0], seen, soon), 0);
	assert_true(kvm_now_ns(t.kvm) >= soon);
	vcpu_wait_finish(t.v[0]);
	test_vm_destroy(&t);
}

static void *run_thread(void *arg)
{
	return (void *)(long)vcpu_run(arg);
}

/* An endless loop in the guest leaves at vcpu_interrupt_run, and the next run starts again. */
static void test_interrupt_running(void **state)
{
	static const u8 loop[] = {0xeb, 0xfe};
	struct test_vm t;

	test_vm_create(&t, 1, false);
	test_vm_code(&t, 0, loop, sizeof(loop));
	for (int i = 0; i < 20; i++) {
		pthread_t th;
		void *ret;

		assert_int_equal(pthread_create(&th, NULL, run_thread, t.v[0]), 0);
		if (i & 1)
			usleep(2000);
		vcpu_interrupt_run(t.v[0]);
		pthread_join(th, &ret);
		assert_int_equal((long)ret, -EINTR);
		assert_int_equal(t.v[0]->run->exit_reason, KVM_EXIT_INTR);
	}
	test_vm_destroy(&t);
}

/* No vCPU is in the guest with a request that came before kvm_make_all_request_sync returned. */
static void test_sync(void **state)
{
	static const u8 loop[] = {0xeb, 0xfe};
	struct test_vm t;
	pthread_t th[2];
	void *ret;

	test_vm_create(&t, 2, false);
	for (unsigned i = 0; i < 2; i++) {
		test_vm_code(&t, i, loop, sizeof(loop));
		assert_int_equal(pthread_create(&th[i], NULL, run_thread, t.v[i]), 0);
	}
	usleep(5000);
	for (int n = 0; n < 200; n++) {
		kvm_make_all_request_sync(t.kvm, REQ_TLB_FLUSH);
		for (unsigned i = 0; i < 2; i++) {
			/* Either it is served, or the vCPU is outside and will serve it. */
			bool in_guest = __atomic_load_n(&t.v[i]->req.mode, __ATOMIC_SEQ_CST) ==
					VCPU_IN_GUEST;
			bool waits = __atomic_load_n(&t.v[i]->req.pending, __ATOMIC_SEQ_CST) &
				     BIT(REQ_TLB_FLUSH);

			assert_false(in_guest && waits &&
				     __atomic_load_n(&t.v[i]->req.mode, __ATOMIC_SEQ_CST) ==
					     VCPU_EXITING);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		vcpu_interrupt_run(t.v[i]);
		pthread_join(th[i], &ret);
		assert_int_equal((long)ret, -EINTR);
		assert_true(t.v[i]->arch->stat.tlb_flush > 0);
	}
	test_vm_destroy(&t);
}

/* HLT with an APIC sleeps without using the processor, and leaves at an interrupt request. */
static void test_halt_sleeps(void **state)
{
	static const u8 hlt[] = {0xf4, 0xeb, 0xfd};
	struct test_vm t;
	struct timespec cpu;
	clockid_t clock;
	pthread_t th;
	void *ret;

	test_vm_create(&t, 1, true);
	test_vm_code(&t, 0, hlt, sizeof(hlt));
	assert_int_equal(pthread_create(&th, NULL, run_thread, t.v[0]), 0);
	usleep(100000);
	assert_int_equal(pthread_getcpuclockid(th, &clock), 0);
	clock_gettime(clock, &cpu);
	assert_int_equal(cpu.tv_sec, 0);
	assert_true(cpu.tv_nsec < 50000000);
	vcpu_interrupt_run(t.v[0]);
	pthread_join(th, &ret);
	assert_int_equal((long)ret, -EINTR);
	assert_int_equal(t.v[0]->mp_state, KVM_MP_STATE_HALTED);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_clear),	  cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_interrupt_running), cmocka_unit_test(test_sync),
		cmocka_unit_test(test_halt_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
