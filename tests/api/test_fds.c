/* SPDX-License-Identifier: MIT */
/* Descriptors: dup, passing, forking, closing in every order, mapping, statistics files. */
#include "api.h"

#include <dirent.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void test_dup(void **state)
{
	struct test_vm t;
	struct kvm_regs regs = {0};
	int d, e;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	assert_true(kvmless_is_kvm_fd(t.kvm) && kvmless_is_kvm_fd(t.vm) &&
		    kvmless_is_kvm_fd(t.vcpu));
	d = dup(t.vcpu);
	e = fcntl(d, F_DUPFD_CLOEXEC, 100);
	assert_true(e >= 100);
	assert_ok(io(e, KVM_GET_REGS, &regs));
	regs.rax = 0x1234;
	assert_ok(io(d, KVM_SET_REGS, &regs));
	regs.rax = 0;
	assert_ok(io(t.vcpu, KVM_GET_REGS, &regs));
	assert_int_equal(regs.rax, 0x1234);
	kvmless_close(d);
	assert_errno(io(d, KVM_GET_REGS, &regs), EBADF);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &regs));
	test_vm_destroy(&t);
	/* The last name counts, not the first. */
	assert_ok(io(e, KVM_GET_REGS, &regs));
	assert_int_equal(regs.rax, 0x1234);
	kvmless_close(e);
	assert_errno(io(e, KVM_GET_REGS, &regs), EBADF);
	assert_errno(kvmless_kick(e), EBADF);
}

static void test_close_orders(void **state)
{
	int before = open_fds();
	struct kvm_regs regs;

	for (unsigned order = 0; order < 6; order++) {
		static const u8 perm[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
					      {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
		struct test_vm t;
		int fd[3];

		test_vm_create(&t, 0);
		test_vm_add_vcpu(&t);
		fd[0] = t.kvm;
		fd[1] = t.vm;
		fd[2] = t.vcpu;
		for (unsigned i = 0; i < 3; i++) {
			assert_ok(kvmless_close(fd[perm[order][i]]));
			if (fd[2] != fd[perm[order][i]] && perm[order][2] == 2)
				assert_ok(io(t.vcpu, KVM_GET_REGS, &regs));
		}
		munmap(t.run, t.run_size);
		munmap(t.mem, MEM_SIZE);
	}
	assert_int_equal(open_fds(), before);
	assert_errno(kvmless_close(-1), EBADF);
}

/* A program that closes behind our back leaks nothing for ever. */
static void test_plain_close(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		struct test_vm t;

		test_vm_create(&t, 0);
		test_vm_add_vcpu(&t);
		close(t.vcpu);
		close(t.vm);
		close(t.kvm);
		munmap(t.run, t.run_size);
		munmap(t.mem, MEM_SIZE);
	}
}

static void test_pass(void **state)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} ctl = {.h = {.cmsg_len = CMSG_LEN(sizeof(int)),
		       .cmsg_level = SOL_SOCKET,
		       .cmsg_type = SCM_RIGHTS}};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &ctl,
			     .msg_controllen = sizeof(ctl)};
	struct test_vm t;
	struct pollfd p;
	int s[2], got;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	memcpy(CMSG_DATA(&ctl.h), &t.vcpu, sizeof(int));
	assert_int_equal(sendmsg(s[0], &msg, 0), 1);
	assert_int_equal(recvmsg(s[1], &msg, 0), 1);
	memcpy(&got, CMSG_DATA(&ctl.h), sizeof(int));
	assert_int_not_equal(got, t.vcpu);
	assert_int_equal(io(got, KVM_GET_TSC_KHZ, 0), io(t.vcpu, KVM_GET_TSC_KHZ, 0));
	p = (struct pollfd){.fd = got, .events = POLLIN};
	assert_true(poll(&p, 1, 0) >= 0);
	kvmless_close(got);
	close(s[0]);
	close(s[1]);
	test_vm_destroy(&t);
}

static void test_fork(void **state)
{
	struct test_vm t;
	struct kvm_regs regs = {0};
	int status;
	pid_t pid;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	pid = fork();
	if (!pid) {
		/* Another mm: EIO for what was inherited, while /dev/kvm and new VMs work. */
		int ok = io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP) == -1 && errno == EIO;
		int vm;

		ok &= io(t.vcpu, KVM_GET_REGS, &regs) == -1 && errno == EIO;
		ok &= kvmless_kick(t.vcpu) == -1;
		ok &= io(t.kvm, KVM_GET_API_VERSION, 0) == 12;
		vm = io(t.kvm, KVM_CREATE_VM, 0);
		ok &= vm >= 0 && io(vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP) == 1;
		kvmless_close(vm);
		kvmless_close(t.vcpu);
		kvmless_close(t.vm);
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &regs));
	test_vm_destroy(&t);
}

static void test_mmap(void **state)
{
	struct test_vm t;
	struct kvm_run *second;
	struct stat st;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	/* Plain mmap sees the same page. */
	second = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t.vcpu, 0);
	assert_ptr_not_equal(second, MAP_FAILED);
	second->immediate_exit = 1;
	assert_int_equal(t.run->immediate_exit, 1);
	munmap(second, PAGE_SIZE);
	assert_true(kvmless_mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, t.vm, 0) == MAP_FAILED);
	assert_int_equal(errno, ENODEV);
	assert_true(kvmless_mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, t.kvm, 0) == MAP_FAILED);
	assert_int_equal(errno, ENODEV);
	/* Nobody pulls the page from under us. */
	assert_int_equal(ftruncate(t.vcpu, 0), -1);
	assert_int_equal(fstat(t.vcpu, &st), 0);
	assert_int_equal(st.st_size, t.run_size);
	/* The mapping outlives the descriptor. */
	kvmless_close(t.vcpu);
	t.run->immediate_exit = 0;
	t.vcpu = open("/dev/null", O_RDONLY);
	test_vm_destroy(&t);
}

static void test_limits(void **state)
{
	struct rlimit old, lim;
	struct test_vm t;

	test_vm_create(&t, 0);
	getrlimit(RLIMIT_NOFILE, &old);
	lim = old;
	lim.rlim_cur = t.vm + 1;
	setrlimit(RLIMIT_NOFILE, &lim);
	assert_errno(io(t.vm, KVM_CREATE_VCPU, 0), EMFILE);
	assert_errno(io(t.kvm, KVM_CREATE_VM, 0), EMFILE);
	assert_errno(kvmless_open(O_RDWR), EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	test_vm_add_vcpu(&t);
	test_vm_destroy(&t);
}

static void check_stats(int fd, const char *id)
{
	struct kvm_stats_header h;
	char name[256], *desc;
	size_t dsize;

	assert_int_equal(kvmless_read(fd, &h, sizeof(h)), sizeof(h));
	assert_in_range(h.name_size, 1, 255);
	assert_true(h.num_desc > 0);
	assert_true(h.id_offset >= sizeof(h) && h.desc_offset > 0 && h.data_offset > 0);
	assert_int_equal(kvmless_pread(fd, name, h.name_size, h.id_offset), h.name_size);
	assert_memory_equal(name, id, strlen(id));
	dsize = sizeof(struct kvm_stats_desc) + h.name_size;
	desc = calloc(h.num_desc, dsize);
	assert_int_equal(kvmless_pread(fd, desc, h.num_desc * dsize, h.desc_offset),
			 h.num_desc * dsize);
	for (u32 i = 0; i < h.num_desc; i++) {
		struct kvm_stats_desc *d = (void *)(desc + i * dsize);
		u64 v[64];

		assert_in_range(d->flags & KVM_STATS_TYPE_MASK, 0, KVM_STATS_TYPE_MAX);
		assert_in_range(d->flags & KVM_STATS_UNIT_MASK, 0, KVM_STATS_UNIT_MAX);
		assert_in_range(d->flags & KVM_STATS_BASE_MASK, 0, KVM_STATS_BASE_MAX);
		assert_true(strnlen(d->name, h.name_size) < h.name_size);
		assert_in_range(d->size, 1, 64);
		assert_int_equal(kvmless_pread(fd, v, d->size * 8, h.data_offset + d->offset),
				 d->size * 8);
	}
	free(desc);
	assert_int_equal(write(fd, "x", 1), -1);
}

static void test_stats(void **state)
{
	struct test_vm t;
	char c;
	int fd;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	fd = assert_ok(io(t.vm, KVM_GET_STATS_FD, 0));
	check_stats(fd, "kvm");
	assert_errno(io(fd, KVM_GET_STATS_FD, 0), ENOTTY);
	kvmless_close(fd);
	fd = assert_ok(io(t.vcpu, KVM_GET_STATS_FD, 0));
	assert_errno(kvmless_read(t.vm, &c, 1), EINVAL);
	/* It keeps the VM. */
	test_vm_destroy(&t);
	check_stats(fd, "kvm");
	kvmless_close(fd);
}

static void test_params(void **state)
{
	char buf[128];
	const char *name, *help;

	assert_errno(kvmless_param_set("kvm.no_such_thing", "1"), ENOENT);
	assert_errno(kvmless_param_get("nonsense", buf, sizeof(buf)), ENOENT);
	for (unsigned i = 0; (name = kvmless_param_name(i, &help, NULL)); i++) {
		ssize_t n = assert_ok(kvmless_param_get(name, buf, sizeof(buf) - 1));

		assert_true(n > 0 && buf[n - 1] == '\n');
		assert_non_null(help);
	}
	assert_errno(kvmless_param_set("kvm_intel.ept", "maybe"), EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dup),	    cmocka_unit_test(test_close_orders),
		cmocka_unit_test(test_plain_close), cmocka_unit_test(test_pass),
		cmocka_unit_test(test_fork),	    cmocka_unit_test(test_mmap),
		cmocka_unit_test(test_limits),	    cmocka_unit_test(test_stats),
		cmocka_unit_test(test_params),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
