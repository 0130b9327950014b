/* SPDX-License-Identifier: MIT */
/* Signals and kicks at any moment, and two threads on one vCPU. */
#include "api.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#ifdef __x86_64__
#define HOST_X86 true
#else
#define HOST_X86 false
#endif

GUEST(spin, ".code64\n1: inc %rax\n jmp 1b");
GUEST(count, ".code64\n1: incl 0x60000\n jmp 1b");
GUEST(halt, ".code64\n1: sti\n hlt\n jmp 1b");

static int kick_fd = -1;
static volatile int handled;

static void on_usr1(int sig)
{
	handled++;
	if (kick_fd >= 0)
		kvmless_kick(kick_fd);
}

static void use_handler(int sig)
{
	struct sigaction a = {.sa_handler = on_usr1};

	sigaction(sig, &a, NULL);
}

static void sleep_ms(unsigned ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000l};

	nanosleep(&ts, NULL);
}

/* A kick before KVM_RUN is not lost; one kick is one EINTR. */
static void test_kick(void **state)
{
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, spin);
	for (int i = 0; i < 3; i++) {
		assert_ok(kvmless_kick(t.vcpu));
		assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	}
	assert_errno(kvmless_kick(t.vm), EBADF);
	test_vm_destroy(&t);
}

/* Made code is in memory that can be written or run, at one address never both. */
static void check_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned code = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		char perms[5];

		assert_int_equal(sscanf(line, "%*s %4s", perms), 1);
		assert_false(perms[1] == 'w' && perms[2] == 'x');
		code += perms[2] == 'x' && strstr(line, "memfd:") != NULL;
	}
	fclose(maps);
	if (HOST_X86)
		assert_true(code > 0);
}

/* A timer's handler, over and over, in a guest that never leaves by itself. */
static void interrupted(unsigned flags, const u8 *code, const u8 *end)
{
	struct itimerval it = {{0, 2000}, {0, 2000}}, off = {0};
	struct test_vm t;
	struct kvm_regs a, b;

	test_vm_create(&t, flags);
	test_vm_load(&t, MODE_LONG, code, end);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &a));
	use_handler(SIGALRM);
	kick_fd = t.vcpu;
	handled = 0;
	setitimer(ITIMER_REAL, &it, NULL);
	for (int i = 0; i < 50; i++)
		assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	kick_fd = -1;
	assert_true(handled >= 50);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &b));
	if (code == guest_spin) {
		assert_true(b.rax > a.rax);
		check_mappings();
	}
	signal(SIGALRM, SIG_DFL);
	test_vm_destroy(&t);
}

static void test_handler_running(void **state)
{
	interrupted(0, guest_spin, guest_spin_end);
}

/* Halted with the APIC in the kernel: KVM_RUN sleeps, and wakes up for the signal. */
static void test_handler_halted(void **state)
{
	struct timespec a, b;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	interrupted(TEST_VM_IRQCHIP, guest_halt, guest_halt_end);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	/* 50 times 2 ms of sleep: it did not spin. */
	assert_in_range((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 0, 70);
}

static void *send_usr1(void *opaque)
{
	pthread_t *to = opaque;

	sleep_ms(20);
	pthread_kill(*to, SIGUSR1);
	return NULL;
}

static void set_vcpu_mask(int vcpu, u64 mask)
{
	struct {
		struct kvm_signal_mask head;
		u8 set[8];
	} m = {.head.len = 8};

	memcpy(m.head.sigset, &mask, 8);
	assert_ok(io(vcpu, KVM_SET_SIGNAL_MASK, &m));
}

/*
 * The signal is blocked in the thread and open during KVM_RUN: it interrupts, no handler runs, and
 * afterwards it is pending. There is no handler at all: delivered for real it would end the test.
 */
static void test_signal_mask(void **state)
{
	struct timespec no_wait = {0, 0};
	pthread_t self = pthread_self(), thread;
	siginfo_t si, native;
	sigset_t set, old, now;
	struct test_vm t;

	signal(SIGUSR1, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	pthread_kill(self, SIGUSR1);
	assert_int_equal(sigtimedwait(&set, &native, &no_wait), SIGUSR1);
	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, spin);
	set_vcpu_mask(t.vcpu, 0);
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, send_usr1, &self);
		assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
		pthread_join(thread, NULL);
		pthread_sigmask(SIG_BLOCK, NULL, &now);
		assert_true(sigismember(&now, SIGUSR1));
		/* Still pending: the next one leaves at once, too. */
		assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
		assert_int_equal(sigtimedwait(&set, &si, &no_wait), SIGUSR1);
		assert_int_equal(si.si_code, native.si_code);
		assert_int_equal(si.si_pid, getpid());
		assert_int_equal(sigtimedwait(&set, &si, &no_wait), -1);
	}
	/* Pending before */
	pthread_kill(self, SIGUSR1);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	assert_int_equal(sigtimedwait(&set, &si, &no_wait), SIGUSR1);
	/* Blocked there as well: it stays out, until a kick */
	set_vcpu_mask(t.vcpu, BIT(SIGUSR1 - 1));
	pthread_kill(self, SIGUSR1);
	kvmless_kick(t.vcpu);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	assert_int_equal(sigtimedwait(&set, &si, &no_wait), SIGUSR1);
	assert_ok(io(t.vcpu, KVM_SET_SIGNAL_MASK, NULL));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	test_vm_destroy(&t);
}

/* Bad pointers are EFAULT even where SIGSEGV is blocked. */
static void test_blocked_segv(void **state)
{
	struct test_vm t;
	sigset_t all, old;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, spin);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	assert_errno(io(t.vcpu, KVM_GET_REGS, 8), EFAULT);
	kvmless_kick(t.vcpu);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	pthread_sigmask(SIG_BLOCK, NULL, &all);
	assert_true(sigismember(&all, SIGSEGV));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	test_vm_destroy(&t);
}

/* ---- Two threads ---- */
struct runner {
	int vcpu;
	int result, err;
	bool done;
};

static void *run_thread(void *opaque)
{
	struct runner *r = opaque;

	r->result = io(r->vcpu, KVM_RUN, 0);
	r->err = errno;
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* The second waits for the first; so does any other request on the vCPU. */
static void test_two_threads(void **state)
{
	struct runner r[2] = {0};
	pthread_t thread[2];
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, count);
	for (int i = 0; i < 2; i++) {
		r[i].vcpu = t.vcpu;
		pthread_create(&thread[i], NULL, run_thread, &r[i]);
	}
	while (!*(volatile u32 *)(t.mem + 0x60000)) /* one is in KVM_RUN */
		sleep_ms(1);
	sleep_ms(20);
	assert_false(r[0].done || r[1].done);
	kvmless_kick(t.vcpu);
	for (int i = 0; i < 1000 && !(r[0].done || r[1].done); i++)
		sleep_ms(1);
	assert_true(r[0].done != r[1].done);
	kvmless_kick(t.vcpu);
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(r[i].result, -1);
		assert_int_equal(r[i].err, EINTR);
	}
	test_vm_destroy(&t);
}

/* Kicks from many sides while KVM_RUN is entered and left; every call ends. */
static bool storm_end;

static void *storm(void *opaque)
{
	while (!__atomic_load_n(&storm_end, __ATOMIC_ACQUIRE)) {
		kvmless_kick(*(int *)opaque);
		sched_yield();
	}
	return NULL;
}

static void test_storm(void **state)
{
	pthread_t thread[2];
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, spin);
	storm_end = false;
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, storm, &t.vcpu);
	for (int i = 0; i < 2000; i++)
		assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	__atomic_store_n(&storm_end, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	test_vm_destroy(&t);
}

/*
 * A breakpoint on the vector's own entry: delivering #DB causes the next #DB, without an
 * instruction in between. Processors can hang in that; KVM_RUN can be interrupted.
 */
GUEST(dbloop, ".code16\n mov 4, %ax\n hlt");

static void *kick_later(void *opaque)
{
	sleep_ms(20);
	kvmless_kick(*(int *)opaque);
	return NULL;
}

static void test_debug_loop(void **state)
{
	struct kvm_debugregs d;
	pthread_t thread;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_REAL, dbloop);
	assert_ok(io(t.vcpu, KVM_GET_DEBUGREGS, &d));
	d.db[0] = 4;
	d.dr7 = 0xf0402; /* reads and writes, 4 bytes */
	assert_ok(io(t.vcpu, KVM_SET_DEBUGREGS, &d));
	for (int i = 0; i < 2; i++) {
		pthread_create(&thread, NULL, kick_later, &t.vcpu);
		assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
		pthread_join(thread, NULL);
	}
	test_vm_destroy(&t);
}

/* Closed while it runs: the call goes on, as in the kernel, and ends with the kick. */
static void test_close_running(void **state)
{
	struct runner r = {0};
	pthread_t thread;
	struct test_vm t;
	int second;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, count);
	second = dup(t.vcpu);
	r.vcpu = t.vcpu;
	pthread_create(&thread, NULL, run_thread, &r);
	while (!*(volatile u32 *)(t.mem + 0x60000)) /* it is in KVM_RUN */
		sleep_ms(1);
	kvmless_close(t.vcpu);
	kvmless_close(t.vm);
	sleep_ms(10);
	assert_false(r.done);
	kvmless_kick(second);
	pthread_join(thread, NULL);
	assert_int_equal(r.err, EINTR);
	kvmless_close(second);
	kvmless_close(t.kvm);
	munmap(t.run, t.run_size);
	munmap(t.mem, MEM_SIZE);
}

/* A slot deleted, moved and added while the guest runs in other memory */
static void test_slots_while_running(void **state)
{
	struct runner r = {0};
	pthread_t thread;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, spin);
	r.vcpu = t.vcpu;
	pthread_create(&thread, NULL, run_thread, &r);
	for (int i = 0; i < 200; i++) {
		set_region(t.vm, 1, 0, 0x1000000 + i * 0x1000, 0x1000, t.mem);
		set_region(t.vm, 1, 0, 0x2000000, 0x1000, t.mem);
		set_region(t.vm, 1, 0, 0, 0, NULL);
	}
	assert_false(r.done);
	kvmless_kick(t.vcpu);
	pthread_join(thread, NULL);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kick),	       cmocka_unit_test(test_handler_running),
		cmocka_unit_test(test_handler_halted), cmocka_unit_test(test_signal_mask),
		cmocka_unit_test(test_blocked_segv),   cmocka_unit_test(test_two_threads),
		cmocka_unit_test(test_storm),	       cmocka_unit_test(test_debug_loop),
		cmocka_unit_test(test_close_running),  cmocka_unit_test(test_slots_while_running),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
