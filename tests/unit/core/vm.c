/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

void test_vm_create(struct test_vm *t, unsigned nvcpus, bool irqchip)
{
	struct kvm_userspace_memory_region2 r = {.memory_size = TEST_MEM};

	memset(t, 0, sizeof(*t));
	assert_int_equal(kvm_create_vm(0, &t->kvm), 0);
	if (irqchip)
		assert_int_equal(vm_create_irqchip(t->kvm), 0);
	t->mem = mmap(NULL, TEST_MEM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(t->mem, MAP_FAILED);
	r.userspace_addr = (u64)t->mem;
	assert_int_equal(vm_set_user_memory_region(t->kvm, &r), 0);
	while (t->n < nvcpus)
		test_vm_add_vcpu(t);
}

void test_vm_add_vcpu(struct test_vm *t)
{
	t->run[t->n] = mmap(NULL, KVM_VCPU_MMAP_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(vm_create_vcpu(t->kvm, t->n, t->run[t->n], &t->v[t->n]), 0);
	t->n++;
}

static void *interrupt_later(void *v)
{
	usleep(20000);
	vcpu_interrupt_run(v);
	return NULL;
}

void test_vm_interrupt_later(struct test_vm *t, unsigned i)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, interrupt_later, t->v[i]), 0);
	pthread_detach(thread);
}

void test_vm_destroy(struct test_vm *t)
{
	for (unsigned i = 0; i < t->n; i++)
		kvm_vcpu_put(t->v[i]);
	kvm_put(t->kvm);
	for (unsigned i = 0; i < t->n; i++)
		munmap(t->run[i], KVM_VCPU_MMAP_PAGES * PAGE_SIZE);
	munmap(t->mem, TEST_MEM);
}

void test_vm_cpuid(struct test_vm *t, unsigned i)
{
	struct kvm_cpuid_entry2 ents[256];
	u32 n = 256;

	assert_int_equal(sys_get_supported_cpuid(ents, &n), 0);
	assert_int_equal(vcpu_set_cpuid2(t->v[i], ents, n), 0);
}

void test_vm_code(struct test_vm *t, unsigned i, const void *code, size_t n)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = 0x1000, .rsp = 0x8000, .rflags = 2};

	memcpy(t->mem + 0x1000, code, n);
	assert_int_equal(vcpu_get_sregs(t->v[i], &s), 0);
	s.cs.base = s.cs.selector = 0;
	assert_int_equal(vcpu_set_sregs(t->v[i], &s), 0);
	assert_int_equal(vcpu_set_regs(t->v[i], &r), 0);
}
