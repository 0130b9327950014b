/* SPDX-License-Identifier: MIT */
/*
 * A program of the KVM API that knows nothing of kvmless, but for one number that proves that it is
 * not the kernel who answers. Run under `kvmless run`: client TEST.
 */
#include "client.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* Programs that replace the C library's functions must not get in the way. */
void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	char *d = dst;
	const char *s = src;

	while (n--)
		*d++ = *s++;
	return dst;
}

static void test_node(void)
{
	struct stat st;
	char text[16];
	FILE *f;
	int fd, dir;

	CHECK(!stat("/dev/kvm", &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 232));
	CHECK(!access("/dev/kvm", R_OK | W_OK));
	CHECK(access("/dev/kvm", X_OK) && errno == EACCES);
	dir = open("/dev", O_RDONLY | O_DIRECTORY);
	CHECK(dir >= 0);
	fd = openat(dir, "kvm", O_RDWR);
	CHECK(fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
	CHECK(!close(fd) && ioctl(fd, KVM_GET_API_VERSION, 0) < 0 && errno == EBADF);
	f = fopen("/sys/module/kvm_intel/parameters/ept", "re");
	CHECK(f && fgets(text, sizeof(text), f) && !strcmp(text, "Y\n") && !fclose(f));
	fd = open("/sys/module/kvm/parameters/halt_poll_ns", O_RDWR);
	CHECK(fd >= 0 && write(fd, "1234\n", 5) == 5 && !close(fd));
	fd = open("/sys/module/kvm/parameters/halt_poll_ns", O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof(text)) == 5 && !memcmp(text, "1234\n", 5));
	CHECK(!close(fd));
	CHECK(open("/sys/module/kvm_intel/parameters/ept", O_RDWR) < 0 && errno == EACCES);
	CHECK(open("/sys/module/kvm_amd/parameters/npt", O_RDONLY) < 0 && errno == ENOENT);
	CHECK(open("/sys/module/kvm/parameters/no_such", O_RDONLY) < 0 && errno == ENOENT);
	close(dir);
}

static void test_run(void)
{
	struct vm t = create(code_out, sizeof(code_out));
	int copy;

	CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
	CHECK(t.run->io.port == 0x10 && ((char *)t.run)[t.run->io.data_offset] == 'x');
	/* A duplicate is the same object, and keeps it. */
	copy = dup(t.vcpu);
	CHECK(copy >= 0 && !close(t.vcpu));
	CHECK(!ioctl(copy, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_HLT);
	t.vcpu = copy;
	destroy(&t);
}

static volatile int handled;

static void on_alarm(int sig)
{
	handled++;
}

/* No immediate_exit, no signal mask: the handler alone ends KVM_RUN, as kvmtool wants it. */
static void test_signal(void)
{
	const struct timespec soon = {.tv_nsec = 20000000};
	struct itimerspec it = {.it_value = soon};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct vm t = create(code_loop, sizeof(code_loop));
	struct sigaction old;
	timer_t timer;

	CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
	CHECK(signal(SIGALRM, on_alarm) != SIG_ERR);
	CHECK(!sigaction(SIGALRM, NULL, &old) && old.sa_handler == on_alarm);
	for (int i = 1; i <= 3; i++) {
		CHECK(!timer_settime(timer, 0, &it, NULL));
		CHECK(ioctl(t.vcpu, KVM_RUN, 0) < 0 && errno == EINTR && handled == i);
	}
	t.run->immediate_exit = 1;
	CHECK(ioctl(t.vcpu, KVM_RUN, 0) < 0 && errno == EINTR && handled == 3);
	destroy(&t);
}

/* A handler uses the vCPU that it interrupts, and then jumps: as in the kernel, KVM_RUN is over by
 * then. */
static struct vm interrupted;
static sigjmp_buf jump;

static void on_alarm_jump(int sig)
{
	struct kvm_regs r;

	CHECK(!ioctl(interrupted.vcpu, KVM_GET_REGS, &r));
	CHECK(r.rip == 0x1000);
	handled++;
	siglongjmp(jump, 1);
}

static void test_jump(void)
{
	struct itimerval t = {.it_value.tv_usec = 20000};

	interrupted = create(code_loop, sizeof(code_loop));
	signal(SIGALRM, on_alarm_jump);
	for (volatile int i = 0; i < 5; i++) {
		handled = 0;
		if (!sigsetjmp(jump, 1)) {
			CHECK(!setitimer(ITIMER_REAL, &t, NULL));
			for (;;)
				CHECK(ioctl(interrupted.vcpu, KVM_RUN, 0) == -1 && errno == EINTR);
		}
		CHECK(handled == 1);
	}
	destroy(&interrupted);
}

static volatile char *bad;
static volatile int faults;

static void on_segv(int sig, siginfo_t *si, void *uc)
{
	faults++;
	CHECK(si->si_addr == bad);
	mprotect((void *)bad, 4096, PROT_READ | PROT_WRITE);
}

/* The program's faults are the program's; bad pointers to ioctl are EFAULT all the same. */
static void test_fault(void)
{
	struct sigaction act = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	int kvm = open_kvm();

	bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(!sigaction(SIGSEGV, &act, NULL));
	CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, bad) < 0 && errno == EFAULT && !faults);
	*bad = 1;
	CHECK(faults == 1 && *bad == 1);
	close(kvm);
}

static sigjmp_buf shut;

static void on_alarm_shut(int sig)
{
	siglongjmp(shut, 1);
}

/* Is @ptr EFAULT? Twice, since an answer may have been kept. */
static void bad_twice(int kvm, const volatile void *ptr)
{
	CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, ptr) < 0 && errno == EFAULT);
	CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, ptr) < 0 && errno == EFAULT);
}

/* Bad pointers are EFAULT also where the program has blocked SIGSEGV, in whatever way. */
static void test_mask(void)
{
	struct sigaction act = {.sa_handler = on_alarm_shut};
	volatile int jumped = 0;
	ucontext_t here, there;
	volatile int step = 0;
	sigset_t all, old, now;
	int kvm = open_kvm();

	bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigfillset(&all);
	bad_twice(kvm, bad);
	CHECK(!pthread_sigmask(SIG_BLOCK, &all, &old) && !sigismember(&old, SIGSEGV));
	bad_twice(kvm, bad);
	/* It is as the program has set it. */
	CHECK(!sigprocmask(SIG_BLOCK, NULL, &now) && sigismember(&now, SIGSEGV));
	/* A jump back to where it is blocked. */
	if (!sigsetjmp(shut, 1)) {
		CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
		bad_twice(kvm, bad);
		siglongjmp(shut, 1);
	}
	bad_twice(kvm, bad);
	CHECK(!getcontext(&there));
	if (!step++) {
		CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
		bad_twice(kvm, bad);
		CHECK(!swapcontext(&here, &there));
	}
	bad_twice(kvm, bad);
	CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
	bad_twice(kvm, bad);
	/* A handler with all blocked that jumps, leaving them so. */
	act.sa_mask = all;
	CHECK(!sigaction(SIGALRM, &act, NULL));
	if (!sigsetjmp(shut, 0)) {
		raise(SIGALRM);
	} else {
		jumped = 1;
		bad_twice(kvm, bad);
	}
	CHECK(jumped && !sigprocmask(SIG_BLOCK, NULL, &now) && sigismember(&now, SIGSEGV));
	close(kvm);
}

static void *runner(void *vcpu)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	for (;;)
		ioctl(*(int *)vcpu, KVM_RUN, 0);
	return NULL;
}

static void test_cancel(void)
{
	struct vm t = create(code_loop, sizeof(code_loop));
	struct kvm_regs regs;
	pthread_t thread;
	void *result;

	CHECK(!pthread_create(&thread, NULL, runner, &t.vcpu));
	usleep(20000);
	CHECK(!pthread_cancel(thread) && !pthread_join(thread, &result));
	CHECK(result == PTHREAD_CANCELED);
	CHECK(!ioctl(t.vcpu, KVM_GET_REGS, &regs)); /* the vCPU is free */
	destroy(&t);
}

static void test_fork(void)
{
	struct vm t = create(code_out, sizeof(code_out));
	int status;
	pid_t pid = fork();

	if (!pid) {
		/* Inherited objects are another process's, as in the kernel; new ones work. */
		struct vm mine;

		CHECK(ioctl(t.vcpu, KVM_RUN, 0) < 0 && errno == EIO);
		mine = create(code_out, sizeof(code_out));
		CHECK(!ioctl(mine.vcpu, KVM_RUN, 0) && mine.run->exit_reason == KVM_EXIT_IO);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	pid = vfork();
	if (!pid) {
		close(t.vcpu);
		close(t.vm);
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
	destroy(&t);
}

static int count_entries(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static long resident_kib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%*d %ld", &pages) == 1);
	fclose(f);
	return pages * 4;
}

/* Interrupt controllers and a timer, which need a thread of ours */
static void with_irqchip(void)
{
	struct kvm_pit_config pit = {0};
	int kvm = open_kvm(), vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu[4];
	struct kvm_pit_state2 state;

	CHECK(vm >= 0 && !ioctl(vm, KVM_CREATE_IRQCHIP, 0) && !ioctl(vm, KVM_CREATE_PIT2, &pit));
	for (int c = 0; c < 4; c++) {
		vcpu[c] = ioctl(vm, KVM_CREATE_VCPU, c);
		CHECK(vcpu[c] >= 0);
	}
	CHECK(!ioctl(vm, KVM_GET_PIT2, &state));
	state.channels[0] = (struct kvm_pit_channel_state){.count = 1000, .mode = 2, .gate = 1};
	CHECK(!ioctl(vm, KVM_SET_PIT2, &state));
	CHECK(!close(vm) && !close(kvm));
	for (int c = 0; c < 4; c++)
		CHECK(!close(vcpu[c]));
}

static void test_cycles(void)
{
	long kib = 0;
	int fds = 0, threads = 0;

	for (int i = 0; i < 1000; i++) {
		struct vm t;

		if (i % 3 == 0)
			with_irqchip();
		t = create(code_out, sizeof(code_out));
		int vcpu[4] = {t.vcpu};

		for (int c = 1; c < 4; c++) {
			vcpu[c] = ioctl(t.vm, KVM_CREATE_VCPU, c);
			CHECK(vcpu[c] >= 0);
		}
		CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
		munmap(t.run, t.run_bytes);
		munmap(t.mem, 0x10000);
		if (i & 1)
			CHECK(!close_range(t.kvm, ~0u, 0));
		else
			CHECK(!close(t.vm) && !close(vcpu[3]) && !close(vcpu[0]) &&
			      !close(vcpu[1]) && !close(t.kvm) && !close(vcpu[2]));
		if (i == 99) {
			fds = count_entries("/proc/self/fd");
			threads = count_entries("/proc/self/task");
			kib = resident_kib();
		}
	}
	CHECK(count_entries("/proc/self/fd") == fds);
	CHECK(count_entries("/proc/self/task") == threads);
	CHECK(resident_kib() < kib + 4096);
}

/* The cheapest of 20 rounds, in ns of the thread's time: what the machine does besides is not in
 * it. */
#define COST(call)                                                                         \
	({                                                                                 \
		double least = 1e9;                                                        \
                                                                                           \
		for (int round = 0; round < 20; round++) {                                 \
			struct timespec a, b;                                              \
			double ns;                                                         \
                                                                                           \
			clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);                        \
			for (int i = 0; i < 5000; i++)                                     \
				call;                                                      \
			clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);                        \
			ns = ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec) / 5000; \
			least = ns < least ? ns : least;                                   \
		}                                                                          \
		least;                                                                     \
	})

static void test_cost(void)
{
	struct vm t = create(code_loop, sizeof(code_loop));
	struct kvm_mp_state mp;
	double system = COST(ioctl(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP));
	double vcpu = COST(ioctl(t.vcpu, KVM_GET_MP_STATE, &mp));

	printf("an ioctl: %.0f ns on /dev/kvm, %.0f ns on a vCPU\n", system, vcpu);
	CHECK(system < 1000 && vcpu < 1000);
	destroy(&t);
}

/* What a program that has nothing to do with KVM could notice, and what its calls cost. */
static void test_plain(void)
{
	char line[256];
	int p[2], n;
	FILE *f = fopen("/proc/self/status", "r");

	CHECK(f && !pipe(p));
	while (fgets(line, sizeof(line), f))
		if ((!strncmp(line, "Sig", 3) && strncmp(line, "SigQ", 4)) ||
		    !strncmp(line, "Threads", 7))
			fputs(line, stdout);
	fclose(f);
	printf("descriptors %d\n", count_entries("/proc/self/fd"));
	printf("cost %.0f %.0f %.0f\n", COST(ioctl(p[0], FIONREAD, &n)),
	       COST(close(open("/dev/null", O_RDONLY))),
	       COST(munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096)));
}

/* Runs until it is killed. */
static void test_spin(void)
{
	struct vm t = create(code_loop, sizeof(code_loop));

	puts("running");
	fflush(stdout);
	for (;;)
		ioctl(t.vcpu, KVM_RUN, 0);
}

int main(int argc, char **argv)
{
	static const struct client_test tests[] = {
		{"node", test_node},	 {"run", test_run},	  {"signal", test_signal},
		{"fault", test_fault},	 {"cancel", test_cancel}, {"fork", test_fork},
		{"cycles", test_cycles}, {"cost", test_cost},	  {"spin", test_spin},
		{"plain", test_plain},	 {"jump", test_jump},	  {"mask", test_mask}};

	return client_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
