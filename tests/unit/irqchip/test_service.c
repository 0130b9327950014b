/* SPDX-License-Identifier: MIT */
/* Service thread: order of timers, cancelling, descriptors, fork. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake.h"

#define N 200

static struct kvm vm;
static u64 fired[N];
static u32 nfired;

struct test_timer {
	struct ktimer t;
	u64 due;
};

static int setup(void **state)
{
	memset(&vm, 0, sizeof(vm));
	nfired = 0;
	/* By the machine's counter, whose pace is not the timerfd's. */
	kvm_clock_init(&vm, 0);
	return service_create(&vm, &vm.service);
}

static int teardown(void **state)
{
	service_stop(vm.service);
	return 0;
}

static void record(struct ktimer *t)
{
	struct test_timer *tt = container_of(t, struct test_timer, t);

	assert_true(kvm_now_ns(&vm) >= tt->due);
	fired[__atomic_load_n(&nfired, __ATOMIC_RELAXED)] = tt->due;
	__atomic_fetch_add(&nfired, 1, __ATOMIC_RELEASE);
}

/* Expiry order is by time, whatever the order of arming, re-arming and cancelling. */
static void test_order(void **state)
{
	static struct test_timer t[N];
	u64 base = kvm_now_ns(&vm) + 30000000;
	u32 want;

	srandom(1);
	for (unsigned i = 0; i < N; i++) {
		ktimer_init(&t[i].t, &vm, record);
		t[i].due = base + (u64)random() % 1000000;
		ktimer_arm(&t[i].t, t[i].due);
	}
	for (unsigned i = 0; i < N; i += 3) {
		t[i].due = base + (u64)random() % 1000000;
		ktimer_arm(&t[i].t, t[i].due);
	}
	want = N;
	for (unsigned i = 1; i < N; i += 7, want--)
		ktimer_cancel_sync(&t[i].t);
	assert_true(wait_for(__atomic_load_n(&nfired, __ATOMIC_ACQUIRE) == want, 2000));
	for (u32 i = 1; i < want; i++)
		assert_true(fired[i - 1] <= fired[i]);
	fake_sleep_us(2000);
	assert_int_equal(nfired, want);
}

static u32 periods;

static void rearm(struct ktimer *t)
{
	__atomic_fetch_add(&periods, 1, __ATOMIC_SEQ_CST);
	ktimer_arm(t, kvm_now_ns(&vm) + 500000);
}

/* cancel_sync ends a timer that arms itself again. */
static void test_rearm_and_cancel(void **state)
{
	struct ktimer t;
	u32 n;

	periods = 0;
	ktimer_init(&t, &vm, rearm);
	ktimer_arm(&t, kvm_now_ns(&vm));
	assert_true(wait_for(__atomic_load_n(&periods, __ATOMIC_SEQ_CST) >= 5, 4000));
	ktimer_cancel_sync(&t);
	n = periods;
	fake_sleep_us(3000);
	assert_int_equal(periods, n);
	assert_true(t.expires_ns == KTIMER_NEVER);
}

/* An earlier timer wakes a thread that sleeps for a later one. */
static void test_earlier(void **state)
{
	struct test_timer a, b;

	ktimer_init(&a.t, &vm, record);
	ktimer_init(&b.t, &vm, record);
	a.due = kvm_now_ns(&vm) + 60000000000ull;
	ktimer_arm(&a.t, a.due);
	fake_sleep_us(1000);
	b.due = kvm_now_ns(&vm) + 1000000;
	ktimer_arm(&b.t, b.due);
	assert_true(wait_for(__atomic_load_n(&nfired, __ATOMIC_ACQUIRE) == 1, 4000));
	ktimer_cancel_sync(&a.t);
}

static u32 seen;
static u32 blocked;

static void on_fd(struct fd_watch *w)
{
	u64 val;
	sigset_t set;

	pthread_sigmask(SIG_BLOCK, NULL, &set);
	blocked = sigismember(&set, SIGUSR1) == 1 && sigismember(&set, SIGALRM) == 1;
	if (read(w->fd, &val, sizeof(val)) == sizeof(val))
		__atomic_fetch_add(&seen, (u32)val, __ATOMIC_SEQ_CST);
}

static void test_fd(void **state)
{
	struct fd_watch w[40];
	u64 one = 1;

	seen = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
		w[i] = (struct fd_watch){.fd = eventfd(i == 0, EFD_NONBLOCK), .fn = on_fd};
		assert_int_equal(fd_watch_add(&w[i], &vm), 0);
	}
	/* The first was readable when it was added. */
	assert_true(wait_for(__atomic_load_n(&seen, __ATOMIC_SEQ_CST) == 1, 4000));
	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		assert_int_equal(write(w[i].fd, &one, 8), 8);
	assert_true(wait_for(__atomic_load_n(&seen, __ATOMIC_SEQ_CST) == 41, 4000));
	assert_true(blocked);
	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		fd_watch_del_sync(&w[i]);
	assert_int_equal(write(w[3].fd, &one, 8), 8);
	fake_sleep_us(2000);
	assert_int_equal(seen, 41);
	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		close(w[i].fd);
	/* Regular files cannot be watched. */
	w[0].fd = open("/proc/self/exe", 0);
	assert_int_equal(fd_watch_add(&w[0], &vm), -EPERM);
	close(w[0].fd);
}

/* A child of fork has no thread: nothing there may wait for one. */
static void test_fork(void **state)
{
	struct test_timer t;
	struct fd_watch w = {.fd = eventfd(0, EFD_NONBLOCK), .fn = on_fd};
	int status;
	pid_t pid;

	ktimer_init(&t.t, &vm, record);
	t.due = kvm_now_ns(&vm) + 60000000000ull;
	ktimer_arm(&t.t, t.due);
	assert_int_equal(fd_watch_add(&w, &vm), 0);
	pid = fork();
	if (!pid) {
		alarm(5);
		ktimer_cancel_sync(&t.t);
		ktimer_arm(&t.t, 1);
		fd_watch_del_sync(&w);
		service_stop(vm.service);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	ktimer_cancel_sync(&t.t);
	fd_watch_del_sync(&w);
	close(w.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rearm_and_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_earlier, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fork, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
