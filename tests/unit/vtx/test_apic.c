// SPDX-License-Identifier: MIT
/* APIC virtualization and virtual interrupts (SDM vol. 3C, chapter 30). */
#include "guest.h"

#include <string.h>

#define APIC_GPA 0x100000ul

struct apic {
	struct guest g;
	u32 *page; /* virtual-APIC page */
	u8 *msrs;
};

static u32 reg(const struct apic *a, u32 offset)
{
	return a->page[offset / 4];
}

static int setup(void **state)
{
	static struct apic a;
	struct guest *g = &a.g;

	guest_init(g);
	a.page = guest_page(g);
	a.msrs = guest_page(g);
	vmw(g, VIRTUAL_APIC_PAGE_ADDR, (u64)a.page);
	vmw(g, MSR_BITMAP, (u64)a.msrs);
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_TPR_SHADOW | CPU_BASED_USE_MSR_BITMAPS);
	*state = &a;
	return 0;
}

static int teardown(void **state)
{
	guest_fini(&((struct apic *)*state)->g);
	return 0;
}

static void access_page(struct guest *g)
{
	vm_cpu2(g, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
	vmw(g, APIC_ACCESS_ADDR, (u64)g->mem + APIC_GPA);
}

static void again(struct guest *g)
{
	vmw(g, GUEST_RIP, CODE);
}

static void to_vmcall(struct guest *g)
{
	u32 reason = guest_run(g);

	if (reason != EXIT_REASON_VMCALL)
		fail_msg("exit %u at %#lx, qualification %#lx", reason, vmr(g, GUEST_RIP),
			 vmr(g, EXIT_QUALIFICATION));
}

BLOB(cr8, "mov eax, 7; mov cr8, rax; mov rbx, cr8; vmcall");
BLOB(cr8_bad, "mov eax, 16; mov cr8, rax");

static void test_cr8(void **state)
{
	struct apic *a = *state;
	struct guest *g = &a->g;

	GUEST_CODE(g, cr8);
	to_vmcall(g);
	assert_int_equal(reg(a, 0x80), 0x70);
	assert_int_equal(g->r->gpr[RBX], 7);
	/* Below the threshold: a trap after the instruction. */
	again(g);
	a->page[0x80 / 4] = 0x90;
	vmw(g, TPR_THRESHOLD, 8);
	assert_int_equal(guest_run(g), EXIT_REASON_TPR_BELOW_THRESHOLD);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 9);
	assert_int_equal(reg(a, 0x80), 0x70);
	vmw(g, TPR_THRESHOLD, 7);
	to_vmcall(g);
	vmw(g, EXCEPTION_BITMAP, BIT(13));
	GUEST_CODE(g, cr8_bad);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
}

BLOB(mmio, "mov ebx, 0x100000; mov eax, 0x55; mov [rbx + 0x80], eax; mov ecx, [rbx + 0x80]\n"
	   "mov edx, [rbx + 0x30]; vmcall");
BLOB(mmio_write, "mov ebx, 0x100000; mov eax, 0x1ff; mov [rbx + 0xf0], eax; vmcall");
BLOB(mmio_wide, "mov ebx, 0x100000; mov rax, [rbx + 0x80]");
BLOB(mmio_fetch, "mov ebx, 0x100080; jmp rbx");

static void test_apic_access(void **state)
{
	struct apic *a = *state;
	struct guest *g = &a->g;

	access_page(g);
	GUEST_CODE(g, mmio);
	assert_int_equal(guest_run(g), EXIT_REASON_APIC_ACCESS);
	/* The TPR was virtualized, the version register is not. */
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x30);
	assert_int_equal(g->r->gpr[RCX], 0x55);
	assert_int_equal(reg(a, 0x80), 0x55);
	vm_cpu2(g, SECONDARY_EXEC_APIC_REGISTER_VIRT);
	a->page[0x30 / 4] = 0x50014;
	to_vmcall(g);
	assert_int_equal(g->r->gpr[RDX], 0x50014);

	/* Register virtualization: the page is written, then an APIC-write exit as a trap. */
	GUEST_CODE(g, mmio_write);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_APIC_WRITE);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0xf0);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 16);
	assert_int_equal(reg(a, 0xf0), 0x1ff);
	to_vmcall(g);
	/* Without it: before the access, which is a write. */
	vm_clear(g, SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_APIC_REGISTER_VIRT);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_APIC_ACCESS);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x10f0);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 10);

	GUEST_CODE(g, mmio_wide);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_APIC_ACCESS);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x80);
	GUEST_CODE(g, mmio_fetch);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_APIC_ACCESS);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x2080);
}

static void interrupt_delivery(struct guest *g)
{
	vm_cpu2(g, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY | SECONDARY_EXEC_APIC_REGISTER_VIRT);
	vm_or(g, GUEST_RFLAGS, X86_IF);
}

BLOB(vmcall, "vmcall");
BLOB(nops, "cli; nop; sti; nop; nop; vmcall");
BLOB(eoi, "mov ebx, 0x100000; xor eax, eax; mov [rbx + 0xb0], eax; nop; vmcall");
BLOB(self_ipi, "mov ebx, 0x100000; mov eax, 0x40061; mov [rbx + 0x300], eax; nop; vmcall");

static void test_interrupt_delivery(void **state)
{
	struct apic *a = *state;
	struct guest *g = &a->g;

	access_page(g);
	interrupt_delivery(g);
	GUEST_CODE(g, vmcall);
	/* Requested before the entry: delivered before the first instruction. */
	a->page[(0x200 + 0x20) / 4] = 1u << (0x51 - 0x40);
	vmw(g, GUEST_INTR_STATUS, 0x51);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(0x51));
	assert_int_equal(vmr(g, GUEST_INTR_STATUS), 0x5100);
	assert_int_equal(reg(a, 0x220), 0);
	assert_int_equal(reg(a, 0x120), 1u << 0x11);
	assert_int_equal(reg(a, 0xa0), 0x50);
	/* One of the same class waits for the EOI. */
	a->page[(0x200 + 0x20) / 4] = 1u << (0x52 - 0x40);
	vmw(g, GUEST_INTR_STATUS, 0x5152);
	vm_or(g, GUEST_RFLAGS, X86_IF);
	vmw(g, GUEST_RIP, CODE);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
	GUEST_CODE(g, eoi);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(0x52));
	assert_int_equal(vmr(g, GUEST_INTR_STATUS), 0x5200);
	assert_int_equal(reg(a, 0x120), 1u << 0x12);
	/* An EOI that the host wants to hear of. */
	vmw(g, EOI_EXIT_BITMAP1, BIT(0x52 - 0x40));
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(g), EXIT_REASON_EOI_INDUCED);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x52);
	assert_int_equal(vmr(g, GUEST_INTR_STATUS), 0);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 13);
	to_vmcall(g);
	/* Held back by IF, then by the shadow of STI. */
	GUEST_CODE(g, nops);
	a->page[(0x200 + 0x10) / 4] = 1u << (0x31 - 0x20);
	vmw(g, GUEST_INTR_STATUS, 0x31);
	vm_clear(g, GUEST_RFLAGS, X86_IF);
	vmw(g, GUEST_RSP, STACK);
	again(g);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(0x31));
	assert_int_equal(*(u64 *)(g->mem + vmr(g, GUEST_RSP)), CODE + 4);
}

static void test_self_ipi(void **state)
{
	struct apic *a = *state;
	struct guest *g = &a->g;

	access_page(g);
	interrupt_delivery(g);
	GUEST_CODE(g, self_ipi);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(0x61));
	assert_int_equal(vmr(g, GUEST_INTR_STATUS), 0x6100);
}

BLOB(x2apic,
     "mov ecx, 0x808; mov eax, 0x30; xor edx, edx; wrmsr; xor eax, eax; rdmsr; mov ebx, eax\n"
     "mov ecx, 0x83f; mov eax, 0x71; wrmsr; nop; vmcall");
BLOB(x2apic_bad, "mov ecx, 0x808; mov eax, 0x130; xor edx, edx; wrmsr");
BLOB(x2apic_other, "mov ecx, 0x803; rdmsr; vmcall");

static void test_x2apic(void **state)
{
	struct apic *a = *state;
	struct guest *g = &a->g;

	vm_cpu2(g, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE);
	interrupt_delivery(g);
	GUEST_CODE(g, x2apic);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(0x71));
	assert_int_equal(g->r->gpr[RBX], 0x30);
	assert_int_equal(reg(a, 0x80), 0x30);
	vmw(g, EXCEPTION_BITMAP, BIT(13));
	GUEST_CODE(g, x2apic_bad);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	/* Register virtualization covers all of 800H-8FFH for reading. */
	GUEST_CODE(g, x2apic_other);
	again(g);
	a->page[0x30 / 4] = 0x1234;
	to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0x1234);
	vm_clear(g, SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_APIC_REGISTER_VIRT);
	again(g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
}

BLOB(idle, "hlt; nop; vmcall");

static void test_posted_interrupts(void **state)
{
	struct apic *a = *state;
	struct guest *g = &a->g;
	u64 *desc = guest_page(g);

	interrupt_delivery(g);
	vm_or(g, PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_POSTED_INTR);
	vm_or(g, VM_EXIT_CONTROLS, VM_EXIT_ACK_INTR_ON_EXIT);
	vmw(g, POSTED_INTR_NV, 0xf2);
	vmw(g, POSTED_INTR_DESC_ADDR, (u64)desc);
	GUEST_CODE(g, idle);
	desc[1] = BIT(0x44 - 0x40) | BIT(0x66 - 0x40);
	desc[4] = 1;
	sil_cpu_notify(g->cpu);
	to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(0x66));
	assert_int_equal(vmr(g, GUEST_INTR_STATUS), 0x6644);
	assert_int_equal(desc[1], 0);
	assert_int_equal(desc[4], 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_cr8),	  T(test_apic_access), T(test_interrupt_delivery),
		T(test_self_ipi), T(test_x2apic),      T(test_posted_interrupts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
