/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(ioctl(fd, KVM_CHECK_EXTENSION, KVMLESS_CAP) == KVMLESS_MAGIC);
	return fd;
}

struct vm create(const void *code, size_t n)
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

void destroy(struct vm *t)
{
	munmap(t->run, t->run_bytes);
	munmap(t->mem, 0x10000);
	CHECK(!close(t->vcpu) && !close(t->vm) && !close(t->kvm));
}

const unsigned char code_out[5] = {0xb0, 'x', 0xe6, 0x10, 0xf4};
const unsigned char code_loop[2] = {0xeb, 0xfe};

int client_main(int argc, char **argv, const struct client_test *tests, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (argc == 2 && !strcmp(argv[1], tests[i].name)) {
			tests[i].fn();
			return 0;
		}
	return 2;
}
