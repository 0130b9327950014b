/* SPDX-License-Identifier: MIT */
/* What the API tests share: short names for the calls, and a VM with one vCPU in a chosen mode. */
#ifndef TESTS_API_API_H
#define TESTS_API_API_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "isa/isa.h"
#include "kvmapi/kvmless.h"
#include "spec/abi/kvm.h"

/* Headers of arrays are followed by their entries. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#define io(...) kvmless_ioctl(__VA_ARGS__)

/* The call fails with this errno. */
#define assert_errno(call, expected)                                         \
	do {                                                                 \
		long _r = (long)(call);                                      \
		int _e = errno;                                              \
                                                                             \
		if (_r != -1 || _e != (expected))                            \
			fail_msg("%s = %ld (%s), expected %s", #call, _r,    \
				 _r == -1 ? strerrorname_np(_e) : "success", \
				 strerrorname_np(expected));                 \
	} while (0)
#define assert_ok(call)                                                    \
	({                                                                 \
		long _r = (long)(call);                                    \
                                                                           \
		if (_r < 0)                                                \
			fail_msg("%s: %s", #call, strerrorname_np(errno)); \
		_r;                                                        \
	})

/*
 * Guest code, assembled with the test: GUEST(name, ".code16 ...") makes guest_name[] and its end.
 * It runs at CODE_GPA, in the mode that test_vm_start is given.
 */
#define GUEST(name, text)                                                                    \
	extern const u8 guest_##name[], guest_##name##_end[];                                \
	__asm__(".pushsection .rodata\n.balign 16\nguest_" #name ":\n" text "\nguest_" #name \
		"_end:\n.code64\n.popsection\n")

#define CODE_GPA  0x10000ul
#define STACK_GPA 0x20000ul
#define PT_GPA	  0x30000ul /* page tables of long mode: identity, first 1 GiB */
#define GDT_GPA	  0x38000ul
#define MEM_SIZE  0x200000ul

enum guest_mode { MODE_REAL, MODE_PROTECTED, MODE_LONG };

struct test_vm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	u8 *mem; /* guest memory from 0, MEM_SIZE bytes, slot 0 */
};

#define TEST_VM_IRQCHIP 1u
void test_vm_create(struct test_vm *t, unsigned flags);
void test_vm_destroy(struct test_vm *t);
void test_vm_add_vcpu(struct test_vm *t);
void test_vm_set_cpuid(int kvm, int vcpu);
/* Loads the code and sets a vCPU's registers to run it. */
void test_vcpu_mode(struct test_vm *t, int vcpu, enum guest_mode mode, u64 rip);
void test_vm_load(struct test_vm *t, enum guest_mode mode, const u8 *code, const u8 *end);
#define test_vm_start(t, mode, name) test_vm_load(t, mode, guest_##name, guest_##name##_end)
/* KVM_RUN that has to succeed; EINTR is repeated. Returns the exit reason. */
unsigned test_run(struct test_vm *t);
/* Runs to the next HLT; fails on any other exit. */
void test_run_to_hlt(struct test_vm *t);
const char *test_exit_name(unsigned reason);

/*
 * As small VMMs begin: opens /dev/kvm and checks the version and @n capabilities, makes a VM and in
 * it KVM_SET_TSS_ADDR, the interrupt controllers and an 8254.
 */
void test_vmm_create(int *kvm, int *vm, const int *caps, unsigned n);
void test_vmm_chips(int vm, u32 pit_flags);
/* The MSRs that such VMMs give a new vCPU, and save of it. */
#define TEST_BOOT_MSRS 10
extern const u32 test_boot_msrs[TEST_BOOT_MSRS];
struct test_msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry ents[TEST_BOOT_MSRS];
};
void test_msrs_init(struct test_msrs *m);

void set_region(int vm, u32 slot, u32 flags, u64 gpa, u64 size, void *mem);

#endif
