/* SPDX-License-Identifier: MIT */
/* A small VM for the core's tests: 1 MiB of memory at 0, in-core APICs if asked. */
#ifndef TESTS_UNIT_CORE_VM_H
#define TESTS_UNIT_CORE_VM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "core/cpuid.h"
#include "core/msr.h"
#include "core/vcpu.h"

#define TEST_MEM (1u << 20)

struct test_vm {
	struct kvm *kvm;
	struct kvm_vcpu *v[4];
	void *run[4];
	unsigned n;
	u8 *mem;
};

void test_vm_create(struct test_vm *t, unsigned nvcpus, bool irqchip);
void test_vm_destroy(struct test_vm *t);
void test_vm_add_vcpu(struct test_vm *t);
/* vcpu_run of vCPU @i returns -EINTR, some milliseconds from now. */
void test_vm_interrupt_later(struct test_vm *t, unsigned i);
/* Gives vCPU @i all that sys_get_supported_cpuid offers. */
void test_vm_cpuid(struct test_vm *t, unsigned i);
/* Real-mode code at 0x1000 of vCPU @i, CS base 0. */
void test_vm_code(struct test_vm *t, unsigned i, const void *code, size_t n);

#endif
