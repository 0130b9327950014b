/* SPDX-License-Identifier: MIT */
/* KVM_RUN: small guests in each mode, and each kind of exit they provoke. */
#include "api.h"

/* ---- Ports ---- */
GUEST(hello16, ".code16\n"
	       "	mov $0x3f8, %dx\n"
	       "	mov $0x1000 + 2f - guest_hello16, %si\n"
	       "1:	mov (%si), %al\n"
	       "	inc %si\n"
	       "	test %al, %al\n"
	       "	jz 3f\n"
	       "	out %al, %dx\n"
	       "	jmp 1b\n"
	       "2:	.asciz \"Hello\"\n"
	       "3:	hlt");
GUEST(hello32, ".code32\n"
	       "	mov $0x3f8, %edx\n"
	       "	mov $0x10000 + 2f - guest_hello32, %esi\n"
	       "	mov $5, %ecx\n"
	       "	cld\n"
	       "	rep outsb\n"
	       "	hlt\n"
	       "2:	.ascii \"Hello\"");
GUEST(hello64, ".code64\n"
	       "	mov $0x3f8, %edx\n"
	       "	lea 2f(%rip), %rsi\n"
	       "1:	lodsb\n"
	       "	test %al, %al\n"
	       "	jz 3f\n"
	       "	out %al, %dx\n"
	       "	jmp 1b\n"
	       "2:	.asciz \"Hello\"\n"
	       "3:	hlt");

static void hello(enum guest_mode mode, const u8 *code, const u8 *end)
{
	struct test_vm t;
	char text[16] = "";
	size_t n = 0;

	test_vm_create(&t, 0);
	test_vm_load(&t, mode, code, end);
	while (test_run(&t) == KVM_EXIT_IO) {
		const char *data = (char *)t.run + t.run->io.data_offset;

		assert_int_equal(t.run->io.port, 0x3f8);
		assert_int_equal(t.run->io.direction, KVM_EXIT_IO_OUT);
		assert_int_equal(t.run->io.size, 1);
		for (u32 i = 0; i < t.run->io.count && n < sizeof(text) - 1; i++)
			text[n++] = data[i];
	}
	assert_int_equal(t.run->exit_reason, KVM_EXIT_HLT);
	assert_string_equal(text, "Hello");
	test_vm_destroy(&t);
}

static void test_hello(void **state)
{
	hello(MODE_REAL, guest_hello16, guest_hello16_end);
	hello(MODE_PROTECTED, guest_hello32, guest_hello32_end);
	hello(MODE_LONG, guest_hello64, guest_hello64_end);
}

GUEST(in, ".code64\n"
	  "	mov $0xffffffffffffffff, %rax\n"
	  "	in $0x60, %al\n"
	  "	mov %rax, %rbx\n"
	  "	mov $0x1f0, %edx\n"
	  "	in %dx, %eax\n"
	  "	mov %rax, %rcx\n"
	  "	hlt");

static void test_in(void **state)
{
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, in);
	assert_int_equal(test_run(&t), KVM_EXIT_IO);
	assert_int_equal(t.run->io.port, 0x60);
	assert_int_equal(t.run->io.direction, KVM_EXIT_IO_IN);
	*((u8 *)t.run + t.run->io.data_offset) = 0x1c;
	assert_int_equal(test_run(&t), KVM_EXIT_IO);
	assert_int_equal(t.run->io.port, 0x1f0);
	assert_int_equal(t.run->io.size, 4);
	*(u32 *)((u8 *)t.run + t.run->io.data_offset) = 0x89abcdef;
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rbx, 0xffffffffffffff1c);
	assert_int_equal(r.rcx, 0x89abcdef);
	test_vm_destroy(&t);
}

/* An exit is completed by the next KVM_RUN, even one that leaves at once. */
static void test_immediate_exit(void **state)
{
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, in);
	t.run->immediate_exit = 1;
	assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rip, CODE_GPA);
	t.run->immediate_exit = 0;
	assert_int_equal(test_run(&t), KVM_EXIT_IO);
	*((u8 *)t.run + t.run->io.data_offset) = 0x77;
	t.run->immediate_exit = 1;
	assert_errno(io(t.vcpu, KVM_RUN, 0), EINTR);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax, 0xffffffffffffff77);
	test_vm_destroy(&t);
}

/* ---- MMIO ---- */
GUEST(mmio, ".code64\n"
	    "	mov $0x30000000, %ebx\n"
	    "	movl $0x11223344, (%rbx)\n"
	    "	movw $0x5566, 6(%rbx)\n"
	    "	mov %rsp, 8(%rbx)\n"
	    "	mov 16(%rbx), %rcx\n"
	    "	movzbl 3(%rbx), %edx\n"
	    "	movsbl 4(%rbx), %esi\n"
	    "	addl $5, 32(%rbx)\n"
	    "	hlt");

static void expect_mmio(struct test_vm *t, bool write, u64 addr, u32 len, u64 data)
{
	u64 v = 0;

	if (test_run(t) != KVM_EXIT_MMIO)
		fail_msg("exit %u (%s)", t->run->exit_reason, test_exit_name(t->run->exit_reason));
	assert_int_equal(t->run->mmio.is_write, write);
	assert_int_equal(t->run->mmio.phys_addr, addr);
	assert_int_equal(t->run->mmio.len, len);
	if (write) {
		memcpy(&v, t->run->mmio.data, len);
		assert_int_equal(v, data);
	} else {
		memcpy(t->run->mmio.data, &data, len);
	}
}

static void test_mmio(void **state)
{
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, mmio);
	expect_mmio(&t, true, 0x30000000, 4, 0x11223344);
	expect_mmio(&t, true, 0x30000006, 2, 0x5566);
	expect_mmio(&t, true, 0x30000008, 8, STACK_GPA);
	expect_mmio(&t, false, 0x30000010, 8, 0x8877665544332211);
	expect_mmio(&t, false, 0x30000003, 1, 0x9a);
	expect_mmio(&t, false, 0x30000004, 1, 0x80);
	expect_mmio(&t, false, 0x30000020, 4, 100);
	expect_mmio(&t, true, 0x30000020, 4, 105);
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rcx, 0x8877665544332211);
	assert_int_equal(r.rdx, 0x9a);
	assert_int_equal(r.rsi, 0xffffff80);
	test_vm_destroy(&t);
}

/* ---- The end of a guest ---- */
GUEST(crash, ".code64\n lidt 1f(%rip)\n ud2\n1: .word 0\n .quad 0");

static void test_shutdown(void **state)
{
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, crash);
	assert_int_equal(test_run(&t), KVM_EXIT_SHUTDOWN);
	test_vm_destroy(&t);
}

/* ---- Mode switch: from real mode to long mode by the guest's own hand ---- */
GUEST(climb, ".code16\n"
	     "	cli\n"
	     "	lgdtl 0x1000 + 9f - guest_climb\n"
	     "	mov %cr0, %eax\n"
	     "	or $1, %eax\n"
	     "	mov %eax, %cr0\n"
	     "	ljmpl $0x08, $0x1000 + 1f - guest_climb\n"
	     ".code32\n"
	     "1:	mov $0x18, %eax\n"
	     "	mov %eax, %ds\n"
	     "	mov %eax, %ss\n"
	     "	mov %cr4, %eax\n"
	     "	or $0x20, %eax\n"
	     "	mov %eax, %cr4\n"
	     "	mov $0x30000, %eax\n"
	     "	mov %eax, %cr3\n"
	     "	mov $0xc0000080, %ecx\n"
	     "	rdmsr\n"
	     "	or $0x100, %eax\n"
	     "	wrmsr\n"
	     "	mov %cr0, %eax\n"
	     "	or $0x80000000, %eax\n"
	     "	mov %eax, %cr0\n"
	     "	ljmpl $0x10, $0x1000 + 2f - guest_climb\n"
	     ".code64\n"
	     "2:	mov $0x123456789abcdef0, %rbx\n"
	     "	hlt\n"
	     "	.balign 8\n"
	     "8:	.quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff\n"
	     "9:	.word 31\n"
	     "	.long 0x1000 + 8b - guest_climb");

static void test_climb(void **state)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	/* The page tables only */
	test_vcpu_mode(&t, t.vcpu, MODE_LONG, 0);
	test_vm_destroy(&t);

	test_vm_create(&t, 0);
	for (u64 *pml4 = (u64 *)(t.mem + PT_GPA), i = 0; i < 512; i++) {
		pml4[0] = (PT_GPA + 0x1000) | 7;
		pml4[512] = (PT_GPA + 0x2000) | 7;
		pml4[1024 + i] = i << 21 | 0x87;
	}
	test_vm_start(&t, MODE_REAL, climb);
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rbx, 0x123456789abcdef0);
	assert_ok(io(t.vcpu, KVM_GET_SREGS, &s));
	assert_int_equal(s.efer & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME);
	assert_int_equal(s.cs.l, 1);
	assert_int_equal(s.cs.selector, 0x10);
	test_vm_destroy(&t);
}

/* ---- Interrupts from the program, without an APIC in the kernel ---- */
GUEST(irq16, ".code16\n"
	     "	sti\n"
	     "1:	hlt\n"
	     "	jmp 1b\n"
	     "	.org guest_irq16 + 0x100\n"
	     "	mov $0x5a5a, %bx\n"
	     "	iret");

static void test_interrupt(void **state)
{
	struct kvm_interrupt irq = {.irq = 0x21};
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_REAL, irq16);
	((u16 *)t.mem)[0x21 * 2] = 0x1100;
	((u16 *)t.mem)[0x21 * 2 + 1] = 0;
	test_run_to_hlt(&t);
	assert_int_equal(t.run->if_flag, 1);
	assert_int_equal(t.run->ready_for_interrupt_injection, 1);
	irq.irq = 256;
	assert_errno(io(t.vcpu, KVM_INTERRUPT, &irq), EINVAL);
	irq.irq = 0x21;
	assert_ok(io(t.vcpu, KVM_INTERRUPT, &irq));
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rbx & 0xffff, 0x5a5a);
	test_vm_destroy(&t);
}

GUEST(window, ".code16\n"
	      "	cli\n"
	      "	out %al, $0x10\n"
	      "	sti\n"
	      "	nop\n"
	      "	hlt");

static void test_irq_window(void **state)
{
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_REAL, window);
	assert_int_equal(test_run(&t), KVM_EXIT_IO);
	assert_int_equal(t.run->if_flag, 0);
	assert_int_equal(t.run->ready_for_interrupt_injection, 0);
	t.run->request_interrupt_window = 1;
	assert_int_equal(test_run(&t), KVM_EXIT_IRQ_WINDOW_OPEN);
	assert_int_equal(t.run->ready_for_interrupt_injection, 1);
	t.run->request_interrupt_window = 0;
	test_run_to_hlt(&t);
	test_vm_destroy(&t);
}

/* ---- Guest debugging ---- */
GUEST(steps, ".code64\n"
	     "	inc %rax\n"
	     "	inc %rax\n"
	     "	inc %rax\n"
	     "	mov %rax, 0x50000\n"
	     "	int3\n"
	     "	hlt");

static void test_debug(void **state)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, steps);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	r.rax = 0;
	assert_ok(io(t.vcpu, KVM_SET_REGS, &r));
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &d));
	for (u64 i = 1; i <= 2; i++) {
		assert_int_equal(test_run(&t), KVM_EXIT_DEBUG);
		assert_int_equal(t.run->debug.arch.exception, 1);
		assert_int_equal(t.run->debug.arch.pc, CODE_GPA + 3 * i);
		assert_true(t.run->debug.arch.dr6 & BIT(14));
		assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
		assert_int_equal(r.rax, i);
		assert_int_equal(r.rflags & X86_TF, 0);
	}
	/* A hardware breakpoint on the third INC, then a watchpoint on the store */
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
	d.arch.debugreg[0] = CODE_GPA + 9;
	d.arch.debugreg[7] = 0x402;
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &d));
	assert_int_equal(test_run(&t), KVM_EXIT_DEBUG);
	assert_int_equal(t.run->debug.arch.pc, CODE_GPA + 9);
	assert_true(t.run->debug.arch.dr6 & BIT(0));
	d.arch.debugreg[0] = 0x50000;
	d.arch.debugreg[7] = 0x90402; /* writes, 8 bytes: LEN 10b */
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &d));
	assert_int_equal(test_run(&t), KVM_EXIT_DEBUG);
	assert_true(t.run->debug.arch.dr6 & BIT(0));
	assert_int_equal(*(u64 *)(t.mem + 0x50000), 3);
	/* INT3 */
	d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &d));
	assert_int_equal(test_run(&t), KVM_EXIT_DEBUG);
	assert_int_equal(t.run->debug.arch.exception, 3);
	test_vm_destroy(&t);
}

/* ---- MSRs in user space ---- */
GUEST(msrs, ".code64\n"
	    "	mov $0x12345678, %ecx\n"
	    "	rdmsr\n"
	    "	mov %rax, %rbx\n"
	    "	shl $32, %rdx\n"
	    "	or %rdx, %rbx\n"
	    "	mov $0x174, %ecx\n" /* SYSENTER_CS */
	    "	mov $0x99, %eax\n"
	    "	xor %edx, %edx\n"
	    "	wrmsr\n"
	    "	hlt");

static void test_msr_exits(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {8}};
	u8 none[8] = {0};
	struct kvm_msr_filter f = {
		.ranges[0] = {
			.flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = 0x174, .bitmap = none}};
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	if (!io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_USER_SPACE_MSR))
		skip();
	assert_errno(io(t.vm, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = KVM_MSR_EXIT_REASON_VALID_MASK;
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	assert_ok(io(t.vm, KVM_X86_SET_MSR_FILTER, &f));
	test_vm_start(&t, MODE_LONG, msrs);
	assert_int_equal(test_run(&t), KVM_EXIT_X86_RDMSR);
	assert_int_equal(t.run->msr.index, 0x12345678);
	assert_int_equal(t.run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	t.run->msr.data = 0xfedcba9876543210;
	t.run->msr.error = 0;
	assert_int_equal(test_run(&t), KVM_EXIT_X86_WRMSR);
	assert_int_equal(t.run->msr.index, 0x174);
	assert_int_equal(t.run->msr.reason, KVM_MSR_EXIT_REASON_FILTER);
	assert_int_equal(t.run->msr.data, 0x99);
	t.run->msr.error = 0;
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rbx, 0xfedcba9876543210);
	test_vm_destroy(&t);

	/* error != 0 is #GP, and without an IDT that is the end */
	test_vm_create(&t, 0);
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	test_vm_start(&t, MODE_LONG, msrs);
	assert_int_equal(test_run(&t), KVM_EXIT_X86_RDMSR);
	t.run->msr.error = 1;
	assert_int_equal(test_run(&t), KVM_EXIT_SHUTDOWN);
	test_vm_destroy(&t);
}

/* ---- Translation ---- */
static void test_translate(void **state)
{
	struct kvm_translation tr = {.linear_address = 0x12345};
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	test_vcpu_mode(&t, t.vcpu, MODE_LONG, 0);
	assert_ok(io(t.vcpu, KVM_TRANSLATE, &tr));
	assert_int_equal(tr.valid, 1);
	assert_int_equal(tr.physical_address, 0x12345);
	tr.linear_address = 1ul << 40;
	assert_ok(io(t.vcpu, KVM_TRANSLATE, &tr));
	assert_int_equal(tr.valid, 0);
	test_vm_destroy(&t);
}

/* ---- Registers through the run page ---- */
static void test_sync_regs(void **state)
{
	struct test_vm t;

	test_vm_create(&t, 0);
	if (!(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS))
		skip();
	test_vm_start(&t, MODE_LONG, hello64);
	t.run->kvm_valid_regs = BIT(40);
	assert_errno(io(t.vcpu, KVM_RUN, 0), EINVAL);
	t.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	assert_int_equal(test_run(&t), KVM_EXIT_IO);
	assert_int_equal(t.run->s.regs.regs.rax & 0xff, 'H');
	assert_int_equal(t.run->s.regs.sregs.cr3, PT_GPA);
	t.run->s.regs.regs.rip = CODE_GPA + (guest_hello64_end - guest_hello64) - 1;
	t.run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	assert_int_equal(test_run(&t), KVM_EXIT_HLT);
	test_vm_destroy(&t);
}

/* A guest that writes its own code, and a program that writes it between runs */
GUEST(patch, ".code64\n"
	     "	movb $0x42, 1f+1(%rip)\n"
	     "1:	mov $0x11, %al\n"
	     "	hlt\n");

static void test_code_changes(void **state)
{
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, patch);
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0x42);
	t.mem[CODE_GPA + 8] = 0x99;
	r.rip = CODE_GPA + 7;
	assert_ok(io(t.vcpu, KVM_SET_REGS, &r));
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0x99);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello),	       cmocka_unit_test(test_in),
		cmocka_unit_test(test_immediate_exit), cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_shutdown),       cmocka_unit_test(test_climb),
		cmocka_unit_test(test_interrupt),      cmocka_unit_test(test_irq_window),
		cmocka_unit_test(test_debug),	       cmocka_unit_test(test_msr_exits),
		cmocka_unit_test(test_translate),      cmocka_unit_test(test_sync_regs),
		cmocka_unit_test(test_code_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
