/* SPDX-License-Identifier: MIT */
/*
 * A program of the KVM API that knows nothing of kvmless, but for one number that proves that it is
 * not the kernel who answers. Run under `kvmless run`: client TEST.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KVMLESS_CAP   0x6b766d6c
#define KVMLESS_MAGIC 0x4b564d4c

#define CHECK(c)                                                                                  \
	do {                                                                                      \
		if (!(c)) {                                                                       \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #c, errno); \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

/* Programs that replace the C library's functions must not get in the way. */
void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	char *d = dst;
	const char *s = src;

	while (n--)
		*d++ = *s++;
	return dst;
}

struct vm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	unsigned char *mem;
	size_t run_bytes;
};

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(ioctl(fd, KVM_CHECK_EXTENSION, KVMLESS_CAP) == KVMLESS_MAGIC);
	return fd;
}

/* One vCPU in real mode at 0x1000, where @code is. */
static struct vm create(const void *code, size_t n)
{
	struct vm t = {.kvm = open_kvm()};
	struct kvm_userspace_memory_region m = {.memory_size = 0x10000};
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};

	t.vm = ioctl(t.kvm, KVM_CREATE_VM, 0);
	CHECK(t.vm >= 0);
	t.mem = mmap(NULL, m.memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	CHECK(t.mem != MAP_FAILED);
	memcpy(t.mem + 0x1000, code, n);
	m.userspace_addr = (unsigned long)t.mem;
	CHECK(!ioctl(t.vm, KVM_SET_USER_MEMORY_REGION, &m));
	t.vcpu = ioctl(t.vm, KVM_CREATE_VCPU, 0);
	CHECK(t.vcpu >= 0);
	t.run_bytes = ioctl(t.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	t.run = mmap(NULL, t.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t.vcpu, 0);
	CHECK(t.run != MAP_FAILED);
	CHECK(!ioctl(t.vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	CHECK(!ioctl(t.vcpu, KVM_SET_SREGS, &sregs));
	CHECK(!ioctl(t.vcpu, KVM_SET_REGS, &regs));
	return t;
}

static void destroy(struct vm *t)
{
	munmap(t->run, t->run_bytes);
	munmap(t->mem, 0x10000);
	CHECK(!close(t->vcpu) && !close(t->vm) && !close(t->kvm));
}

static const unsigned char code_out[] = {0xb0, 'x', 0xe6, 0x10, 0xf4}; /* mov al; out 0x10; hlt */
static const unsigned char code_loop[] = {0xeb, 0xfe};		       /* jmp . */

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

static void test_cycles(void)
{
	long kib = 0;
	int fds = 0, threads = 0;

	for (int i = 0; i < 1000; i++) {
		int kvm = open_kvm(), vm = ioctl(kvm, KVM_CREATE_VM, 0);

		CHECK(vm >= 0);
		for (int c = 0; c < 4; c++)
			CHECK(ioctl(vm, KVM_CREATE_VCPU, c) >= 0);
		CHECK(!close_range(kvm, ~0u, 0));
		if (i == 99) {
			fds = count_entries("/proc/self/fd");
			threads = count_entries("/proc/self/task");
			kib = resident_kib();
		}
	}
	CHECK(count_entries("/proc/self/fd") == fds);
	CHECK(count_entries("/proc/self/task") <= threads + 1);
	CHECK(resident_kib() < kib + 4096);
}

static void test_cost(void)
{
	struct timespec a, b;
	int kvm = open_kvm();
	double ns;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (int i = 0; i < 100000; i++)
		ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	ns = ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec) / 100000;
	printf("%.0f ns an ioctl\n", ns);
	/* Room for slow machines; the aim is 1 us. */
	CHECK(ns < 5000);
	close(kvm);
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
	static const struct {
		const char *name;
		void (*fn)(void);
	} tests[] = {{"node", test_node},     {"run", test_run},       {"signal", test_signal},
		     {"fault", test_fault},   {"cancel", test_cancel}, {"fork", test_fork},
		     {"cycles", test_cycles}, {"cost", test_cost},     {"spin", test_spin}};

	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
			tests[i].fn();
			return 0;
		}
	return 2;
}
