/* SPDX-License-Identifier: MIT */
/* Descriptors, threads, children and signals of an unmodified program: process TEST. */
#include "client.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
sighandler_t bsd_signal(int sig, sighandler_t fn);
static const char *self; /* our own file */

static bool works(int vcpu)
{
	struct kvm_regs regs;

	return !ioctl(vcpu, KVM_GET_REGS, &regs);
}

/* ---- Descriptors ---- */

static int passed(int fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} ctl = {.h = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &ctl,
			     .msg_controllen = sizeof(ctl)};
	int s[2], got;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	memcpy(CMSG_DATA(&ctl.h), &fd, sizeof(fd));
	CHECK(sendmsg(s[0], &msg, 0) == 1);
	CHECK(recvmsg(s[1], &msg, MSG_CMSG_CLOEXEC) == 1);
	memcpy(&got, CMSG_DATA(&ctl.h), sizeof(got));
	CHECK(got != fd && !close(fd));
	CHECK(!close(s[0]) && !close(s[1]));
	return got;
}

static void test_fds(void)
{
	struct vm t = create(code_out, sizeof(code_out));
	struct epoll_event event = {.events = EPOLLIN};
	int ep = epoll_create1(0), kept, other;
	struct pollfd p = {.fd = t.vcpu, .events = POLLIN};
	struct stat st;

	CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
	/* The kernel's have no poll method, nor have ours. */
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, t.vcpu, &event) < 0 && errno == EPERM && !close(ep));
	CHECK(!fstat(t.vcpu, &st) && !fstat(t.vm, &st) && !fstat(t.kvm, &st));
	CHECK(lseek(t.vcpu, 0, SEEK_CUR) <= 0);
	/* Each way to another name for it, after which the first one goes. */
	t.vcpu = passed(t.vcpu);
	CHECK(works(t.vcpu));
	kept = fcntl(t.vcpu, F_DUPFD, 100);
	CHECK(kept >= 100 && !close(t.vcpu) && !works(t.vcpu) && errno == EBADF && works(kept));
	t.vcpu = fcntl(kept, F_DUPFD_CLOEXEC, 10);
	CHECK(t.vcpu >= 10 && !close(kept) && works(t.vcpu));
	kept = dup(0);
	CHECK(dup2(t.vcpu, kept) == kept && !close(t.vcpu) && works(kept));
	t.vcpu = dup3(kept, 200, O_CLOEXEC);
	CHECK(t.vcpu == 200 && !close(kept) && works(200));
	/* Over a name of ours, and over itself */
	other = open("/dev/null", O_RDONLY);
	kept = dup(t.vcpu);
	CHECK(dup2(other, kept) == kept && !works(kept) && errno == ENOTTY && works(t.vcpu));
	CHECK(dup2(t.vcpu, t.vcpu) == t.vcpu && works(t.vcpu));
	CHECK(!close_range(other, kept, 0) && fcntl(other, F_GETFD) < 0 &&
	      fcntl(kept, F_GETFD) < 0);
	CHECK(!close_range(t.vcpu, t.vcpu, CLOSE_RANGE_CLOEXEC) && works(t.vcpu));
	/* The vCPU holds its VM. */
	CHECK(!close(t.vm) && !close(t.kvm));
	CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
	closefrom(t.vcpu);
	CHECK(!works(t.vcpu) && errno == EBADF);
}

/* ---- Threads ---- */

static void *make_and_run(void *opaque)
{
	for (int i = 0; i < 50; i++) {
		struct vm t = create(code_out, sizeof(code_out));

		CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
		CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_HLT);
		destroy(&t);
	}
	return NULL;
}

/* Other descriptors, signals and files while VMs come and go */
static void *other_things(void *opaque)
{
	for (int i = 0; i < 2000; i++) {
		int fd = open(i & 1 ? "/dev/null" : "/sys/module/kvm/parameters/halt_poll_ns",
			      O_RDONLY);
		struct sigaction act;

		CHECK(fd >= 0 && dup2(fd, fd) == fd && !sigaction(SIGUSR2, NULL, &act));
		act.sa_handler = SIG_IGN;
		CHECK(!sigaction(SIGUSR2, &act, NULL) && !close(fd));
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t thread[6];

	for (int i = 0; i < 6; i++)
		CHECK(!pthread_create(&thread[i], NULL, i < 4 ? make_and_run : other_things, NULL));
	for (int i = 0; i < 6; i++)
		CHECK(!pthread_join(thread[i], NULL));
}

/* ---- Children ---- */

static void expect_success(pid_t pid)
{
	int status;

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

static pid_t spawned(int close_first, short flags)
{
	char *const args[] = {(char *)self, (char *)"child", NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t all;
	pid_t pid;

	sigfillset(&all);
	CHECK(!posix_spawn_file_actions_init(&actions) && !posix_spawnattr_init(&attr));
	CHECK(!posix_spawn_file_actions_addclose(&actions, close_first));
	CHECK(!posix_spawnattr_setsigdefault(&attr, &all) &&
	      !posix_spawnattr_setflags(&attr, flags));
	CHECK(!posix_spawn(&pid, self, &actions, &attr, args, environ));
	return pid;
}

static void on_usr1(int sig) {}

static void test_spawn(void)
{
	struct vm t = create(code_out, sizeof(code_out));
	char command[512];
	FILE *f;
	pid_t pid;

	signal(SIGUSR1, on_usr1);
	/* The child is a client too, whichever way it comes; ours is not disturbed. */
	expect_success(spawned(t.vcpu, 0));
	expect_success(spawned(t.vcpu, POSIX_SPAWN_SETSIGDEF));
	CHECK(works(t.vcpu));
	snprintf(command, sizeof(command), "exec '%s' child", self);
	CHECK(system(command) == 0);
	f = popen(command, "r");
	CHECK(f && pclose(f) == 0);
	pid = vfork();
	if (!pid) {
		dup2(0, t.vcpu);
		close(t.kvm);
		close_range(t.vm, t.vm, 0);
		signal(SIGUSR1, SIG_DFL);
		execl(self, self, "child", (char *)NULL);
		_exit(1);
	}
	expect_success(pid);
	CHECK(works(t.vcpu));
	/* fork in a fork, and the middle one ends: a daemon. */
	pid = fork();
	if (!pid) {
		pid = fork();
		if (!pid) {
			usleep(20000);
			execl(self, self, "child", (char *)NULL);
			_exit(1);
		}
		expect_success(pid);
		_exit(0);
	}
	expect_success(pid);
	/* A child that lets itself be killed in KVM_RUN is the parent's to reap, and no more. */
	pid = fork();
	if (!pid) {
		struct vm c = create(code_loop, sizeof(code_loop));

		for (;;)
			ioctl(c.vcpu, KVM_RUN, 0);
	}
	usleep(50000);
	CHECK(!kill(pid, SIGKILL) && waitpid(pid, NULL, 0) == pid);
	CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
	destroy(&t);
}

/* fork while other threads are in our code: the child, which has one thread, must find no lock
 * held. */
static void test_fork_threads(void)
{
	pthread_t thread[2];

	CHECK(!pthread_create(&thread[0], NULL, make_and_run, NULL));
	CHECK(!pthread_create(&thread[1], NULL, other_things, NULL));
	for (int i = 0; i < 30; i++) {
		pid_t pid = fork();

		if (!pid) {
			struct vm t;

			alarm(20);
			signal(SIGUSR1, SIG_IGN);
			t = create(code_out, sizeof(code_out));
			CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
			destroy(&t);
			_exit(0);
		}
		expect_success(pid);
	}
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_join(thread[i], NULL));
}

static void test_child(void)
{
	struct vm t = create(code_out, sizeof(code_out));

	CHECK(!ioctl(t.vcpu, KVM_RUN, 0) && t.run->exit_reason == KVM_EXIT_IO);
	destroy(&t);
}

/* ---- Signals ---- */

static volatile int calls;
static volatile sig_atomic_t on_stack;
static char stack[65536];

static void count(int sig)
{
	char here;

	calls++;
	on_stack = &here >= stack && &here < stack + sizeof(stack);
}

/* A blocked signal that KVM_RUN alone lets through ends it, and no handler has run. */
static void test_mask(void)
{
	struct {
		struct kvm_signal_mask head;
		unsigned char set[8];
	} m = {.head.len = 8};
	struct itimerspec it = {.it_value.tv_nsec = 20000000};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct timespec none = {0};
	struct vm t = create(code_loop, sizeof(code_loop));
	sigset_t usr1, now;
	timer_t timer;

	signal(SIGUSR1, count);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK(!pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	CHECK(!ioctl(t.vcpu, KVM_SET_SIGNAL_MASK, &m));
	CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &timer));
	for (int i = 0; i < 5; i++) {
		CHECK(!timer_settime(timer, 0, &it, NULL));
		CHECK(ioctl(t.vcpu, KVM_RUN, 0) < 0 && errno == EINTR && !calls);
		CHECK(sigtimedwait(&usr1, NULL, &none) == SIGUSR1);
		/* Pending before KVM_RUN: it does not begin. */
		raise(SIGUSR1);
		CHECK(ioctl(t.vcpu, KVM_RUN, 0) < 0 && errno == EINTR && !calls);
		CHECK(sigtimedwait(&usr1, NULL, &none) == SIGUSR1);
		CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &now) && sigismember(&now, SIGUSR1));
	}
	destroy(&t);
}

static sigjmp_buf jump;

static void on_fault_jump(int sig)
{
	count(sig);
	siglongjmp(jump, 1);
}

/* How a child ends that does something after it has opened /dev/kvm */
static int child_status(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct vm t = create(code_out, sizeof(code_out));

		CHECK(!ioctl(t.vcpu, KVM_RUN, 0));
		fn();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void bad_store(void)
{
	static volatile int *volatile nowhere = (volatile int *)8;

	*nowhere = 1;
}

static void send_segv(void)
{
	kill(getpid(), SIGSEGV);
	pause();
}

static void ignored_fault(void)
{
	signal(SIGSEGV, SIG_IGN);
	bad_store();
}

static void ignored_sent(void)
{
	signal(SIGSEGV, SIG_IGN);
	raise(SIGSEGV);
}

static void reset_handler(void)
{
	struct sigaction act = {.sa_handler = count, .sa_flags = SA_RESETHAND};

	sigaction(SIGSEGV, &act, NULL);
	raise(SIGSEGV);
	CHECK(calls == 1);
	bad_store();
}

static void beyond_file(void)
{
	char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, open(self, O_RDONLY), 1 << 30);

	(void)*(volatile char *)p;
}

static void test_faults(void)
{
	struct vm t = create(code_out, sizeof(code_out));
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction act = {.sa_handler = on_fault_jump, .sa_flags = SA_ONSTACK};
	sigset_t now;

	/* Without a handler they end the program by the right signal, as ever. */
	CHECK(child_status(bad_store) == SIGSEGV);
	CHECK(child_status(send_segv) == SIGSEGV);
	CHECK(child_status(ignored_fault) == SIGSEGV);
	CHECK(child_status(ignored_sent) == 0);
	CHECK(child_status(reset_handler) == SIGSEGV);
	CHECK(child_status(beyond_file) == SIGBUS);
	/* With one, on a stack of its own, that jumps */
	CHECK(!sigaltstack(&alternate, NULL) && !sigaction(SIGSEGV, &act, NULL));
	for (int i = 1; i <= 3; i++) {
		if (!sigsetjmp(jump, 1))
			bad_store();
		CHECK(calls == i && on_stack);
		CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &now) && !sigismember(&now, SIGSEGV));
		CHECK(ioctl(t.vcpu, KVM_GET_REGS, 8) < 0 && errno == EFAULT && calls == i);
	}
	/* What the program has set is what it sees. */
	CHECK(!sigaction(SIGSEGV, NULL, &act) && act.sa_handler == on_fault_jump);
	CHECK(act.sa_flags == SA_ONSTACK && signal(SIGSEGV, SIG_DFL) == on_fault_jump);
	CHECK(sigset(SIGUSR1, count) == SIG_DFL && signal(SIGUSR1, SIG_IGN) == count);
	CHECK(sysv_signal(SIGUSR1, count) == SIG_IGN && !raise(SIGUSR1) && calls == 4);
	CHECK(signal(SIGUSR1, SIG_DFL) == SIG_DFL);
	CHECK(!sigignore(SIGUSR1) && !raise(SIGUSR1) && signal(SIGUSR1, count) == SIG_IGN);
	CHECK(bsd_signal(SIGUSR1, SIG_DFL) == count);
	destroy(&t);
}

/* ---- What is not there ---- */

static void test_unknown(void)
{
	struct vm t = create(code_out, sizeof(code_out));
	char buf[512] = {0};

	for (int i = 0; i < 3; i++) {
		CHECK(ioctl(t.vm, KVM_SET_PMU_EVENT_FILTER, buf) < 0 && errno == ENOTTY);
		CHECK(ioctl(t.vcpu, KVM_GET_REG_LIST, buf) < 0 && errno == EINVAL);
	}
	puts("output");
	destroy(&t);
}

int main(int argc, char **argv)
{
	static const struct client_test tests[] = {
		{"fds", test_fds},	   {"threads", test_threads},
		{"spawn", test_spawn},	   {"child", test_child},
		{"mask", test_mask},	   {"faults", test_faults},
		{"unknown", test_unknown}, {"fork_threads", test_fork_threads},
	};

	self = argv[0];
	return client_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
