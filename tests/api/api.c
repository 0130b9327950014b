/* SPDX-License-Identifier: MIT */
#include "api.h"

#include "spec/msr.h"

void set_region(int vm, u32 slot, u32 flags, u64 gpa, u64 size, void *mem)
{
	struct kvm_userspace_memory_region r = {.slot = slot,
						.flags = flags,
						.guest_phys_addr = gpa,
						.memory_size = size,
						.userspace_addr = (u64)mem};

	assert_ok(io(vm, KVM_SET_USER_MEMORY_REGION, &r));
}

void test_vm_create(struct test_vm *t, unsigned flags)
{
	memset(t, 0, sizeof(*t));
	t->kvm = assert_ok(kvmless_open(O_RDWR | O_CLOEXEC));
	t->vm = assert_ok(io(t->kvm, KVM_CREATE_VM, 0));
	t->vcpu = -1;
	if (flags & TEST_VM_IRQCHIP)
		assert_ok(io(t->vm, KVM_CREATE_IRQCHIP, 0));
	t->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(t->mem, MAP_FAILED);
	set_region(t->vm, 0, 0, 0, MEM_SIZE, t->mem);
}

void test_vmm_create(int *kvm, int *vm, const int *caps, unsigned n)
{
	*kvm = assert_ok(kvmless_open(O_RDWR | O_CLOEXEC));
	assert_int_equal(io(*kvm, KVM_GET_API_VERSION, 0), KVM_API_VERSION);
	for (unsigned i = 0; i < n; i++)
		if (io(*kvm, KVM_CHECK_EXTENSION, caps[i]) <= 0)
			fail_msg("capability %d", caps[i]);
	*vm = assert_ok(io(*kvm, KVM_CREATE_VM, 0));
}

void test_vmm_chips(int vm, u32 pit_flags)
{
	struct kvm_pit_config pit = {.flags = pit_flags};

	assert_ok(io(vm, KVM_SET_TSS_ADDR, 0xfffbd000));
	assert_ok(io(vm, KVM_CREATE_IRQCHIP, 0));
	assert_ok(io(vm, KVM_CREATE_PIT2, &pit));
}

const u32 test_boot_msrs[TEST_BOOT_MSRS] = {
	MSR_IA32_SYSENTER_CS,
	MSR_IA32_SYSENTER_ESP,
	MSR_IA32_SYSENTER_EIP,
	MSR_STAR,
	MSR_CSTAR,
	MSR_KERNEL_GS_BASE,
	MSR_SYSCALL_MASK,
	MSR_LSTAR,
	MSR_IA32_TSC,
	MSR_IA32_MISC_ENABLE,
};

void test_msrs_init(struct test_msrs *m)
{
	memset(m, 0, sizeof(*m));
	m->head.nmsrs = TEST_BOOT_MSRS;
	for (unsigned i = 0; i < TEST_BOOT_MSRS; i++)
		m->ents[i].index = test_boot_msrs[i];
}

void test_vm_set_cpuid(int kvm, int vcpu)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 ents[256];
	} c = {.head.nent = 256};

	assert_ok(io(kvm, KVM_GET_SUPPORTED_CPUID, &c));
	assert_ok(io(vcpu, KVM_SET_CPUID2, &c));
}

void test_vm_add_vcpu(struct test_vm *t)
{
	t->vcpu = assert_ok(io(t->vm, KVM_CREATE_VCPU, 0));
	t->run_size = assert_ok(io(t->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	t->run = kvmless_mmap(NULL, t->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
	assert_ptr_not_equal(t->run, MAP_FAILED);
	test_vm_set_cpuid(t->kvm, t->vcpu);
}

void test_vm_destroy(struct test_vm *t)
{
	if (t->vcpu >= 0) {
		kvmless_munmap(t->run, t->run_size);
		kvmless_close(t->vcpu);
	}
	kvmless_close(t->vm);
	kvmless_close(t->kvm);
	munmap(t->mem, MEM_SIZE);
}

static void set_flat(struct kvm_segment *s, u16 sel, u8 type, bool l)
{
	*s = (struct kvm_segment){.selector = sel,
				  .limit = 0xffffffff,
				  .type = type,
				  .present = 1,
				  .s = 1,
				  .g = 1,
				  .db = !l,
				  .l = l};
}

void test_vcpu_mode(struct test_vm *t, int vcpu, enum guest_mode mode, u64 rip)
{
	struct kvm_regs regs = {.rip = rip, .rsp = STACK_GPA, .rflags = 2};
	u64 *pml4 = (u64 *)(t->mem + PT_GPA);
	u64 *pdpt = pml4 + 512, *pd = pdpt + 512;
	struct kvm_sregs s;

	assert_ok(io(vcpu, KVM_GET_SREGS, &s));
	if (mode == MODE_REAL) {
		s.cs.base = 0;
		s.cs.selector = 0;
	} else {
		set_flat(&s.cs, 0x08, 0xb, mode == MODE_LONG);
		set_flat(&s.ds, 0x10, 0x3, false);
		s.es = s.fs = s.gs = s.ss = s.ds;
		s.cr0 |= CR0_PE;
	}
	if (mode == MODE_LONG) {
		pml4[0] = (PT_GPA + 0x1000) | 7;
		pdpt[0] = (PT_GPA + 0x2000) | 7;
		for (u64 i = 0; i < 512; i++)
			pd[i] = i << 21 | 0x87;
		s.cr3 = PT_GPA;
		s.cr4 |= CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
		s.cr0 |= CR0_PG | CR0_NE | CR0_MP;
		s.efer |= EFER_LME | EFER_LMA;
	}
	assert_ok(io(vcpu, KVM_SET_SREGS, &s));
	assert_ok(io(vcpu, KVM_SET_REGS, &regs));
}

void test_vm_load(struct test_vm *t, enum guest_mode mode, const u8 *code, const u8 *end)
{
	/* In real mode IP has 16 bits: the first 64 KiB, from 0x1000 on. */
	u64 at = mode == MODE_REAL ? 0x1000 : CODE_GPA;

	if (t->vcpu < 0)
		test_vm_add_vcpu(t);
	memcpy(t->mem + at, code, end - code);
	test_vcpu_mode(t, t->vcpu, mode, at);
	if (mode == MODE_REAL) {
		struct kvm_regs regs;

		assert_ok(io(t->vcpu, KVM_GET_REGS, &regs));
		regs.rsp = 0x8000;
		assert_ok(io(t->vcpu, KVM_SET_REGS, &regs));
	}
}

const char *test_exit_name(unsigned reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "UNKNOWN",
		[KVM_EXIT_EXCEPTION] = "EXCEPTION",
		[KVM_EXIT_IO] = "IO",
		[KVM_EXIT_DEBUG] = "DEBUG",
		[KVM_EXIT_HLT] = "HLT",
		[KVM_EXIT_MMIO] = "MMIO",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
		[KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
		[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
		[KVM_EXIT_INTR] = "INTR",
		[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
		[KVM_EXIT_X86_RDMSR] = "X86_RDMSR",
		[KVM_EXIT_X86_WRMSR] = "X86_WRMSR",
	};

	return reason < ARRAY_SIZE(names) && names[reason] ? names[reason] : "?";
}

unsigned test_run(struct test_vm *t)
{
	static char text[4096];
	int r;

	do {
		r = io(t->vcpu, KVM_RUN, 0);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		fail_msg("KVM_RUN: %s", strerrorname_np(errno));
	if (t->run->exit_reason == KVM_EXIT_INTERNAL_ERROR ||
	    t->run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
		kvmless_dump(t->vcpu, text, sizeof(text));
		print_message("%s\n", text);
	}
	return t->run->exit_reason;
}

void test_run_to_hlt(struct test_vm *t)
{
	unsigned r = test_run(t);

	if (r != KVM_EXIT_HLT)
		fail_msg("exit %u (%s), expected HLT", r, test_exit_name(r));
}
