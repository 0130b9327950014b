/* SPDX-License-Identifier: MIT */
/* Instructions that translated code runs by itself where no control takes them: the same code under
 * controls that come and go from one VM entry to the next. */
#include <string.h>

#include "guest.h"

/* At CODE: PAUSE 0, INT 20h 2, INT3 4, INT 20h 5, INVLPG 7, MOV to CR3 10, MOV from CR3 14, VMCALL
 * 17. The first INT finds what the flush has dropped. */
BLOB(all, "pause; int 0x20; int3; int 0x20; invlpg [rbx]; mov cr3, r14; mov rsi, cr3; vmcall");
#define END 17

static const struct {
	u32 cpu1, exceptions;
	unsigned reason, at;
} controls[] = {
	{0, 0, EXIT_REASON_VMCALL, END},
	{CPU_BASED_PAUSE_EXITING, 0, EXIT_REASON_PAUSE_INSTRUCTION, 0},
	{CPU_BASED_INVLPG_EXITING, 0, EXIT_REASON_INVLPG, 7},
	{CPU_BASED_CR3_LOAD_EXITING, 0, EXIT_REASON_CR_ACCESS, 10},
	{CPU_BASED_CR3_STORE_EXITING, 0, EXIT_REASON_CR_ACCESS, 14},
	{0, BIT(3), EXIT_REASON_EXCEPTION_NMI, 4},
	{0, 0, EXIT_REASON_VMCALL, END},
	/* INT 20h is no exception. */
	{0, ~(u32)BIT(3), EXIT_REASON_VMCALL, END},
};

static void test_controls(void **state)
{
	struct guest *g = *state;
	unsigned n, k;

	GUEST_CODE(g, all);
	/* The handlers: IRETQ. */
	memcpy(g->mem + HANDLER(3), "\x48\xcf", 2);
	memcpy(g->mem + HANDLER(0x20), "\x48\xcf", 2);
	for (n = 0; n < 4; n++) {
		for (k = 0; k < ARRAY_SIZE(controls); k++) {
			unsigned at;

			vm_clear(g, CPU_BASED_VM_EXEC_CONTROL,
				 CPU_BASED_PAUSE_EXITING | CPU_BASED_INVLPG_EXITING |
					 CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING);
			vm_or(g, CPU_BASED_VM_EXEC_CONTROL, controls[k].cpu1);
			vmw(g, EXCEPTION_BITMAP, controls[k].exceptions);
			vmw(g, GUEST_RIP, CODE);
			vmw(g, GUEST_RSP, STACK);
			vmw(g, GUEST_RFLAGS, 2 | X86_ZF | X86_CF);
			g->r->gpr[RBX] = DATA + 0x123;
			g->r->gpr[R14] = PML4;
			g->r->gpr[RSI] = 0;
			assert_int_equal(guest_run(g), controls[k].reason);
			at = (unsigned)(vmr(g, GUEST_RIP) - CODE);
			assert_int_equal(at, controls[k].at);
			assert_int_equal(vmr(g, GUEST_RFLAGS), 2 | X86_ZF | X86_CF);
			assert_int_equal(vmr(g, GUEST_RSP), STACK);
			assert_int_equal(g->r->gpr[RSI], at > 14 ? PML4 : 0);
			if (at == 7)
				assert_int_equal(vmr(g, EXIT_QUALIFICATION), DATA + 0x123);
			if (at == 10)
				assert_int_equal(vmr(g, EXIT_QUALIFICATION), 3 | R14 << 8);
			if (at == 4)
				assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), 0x80000603);
		}
	}
}

/* The values that are let through, and one that is not. */
BLOB(cr3_list, "mov cr3, rax; mov rcx, cr3; vmcall");
static void test_targets(void **state)
{
	struct guest *g = *state;
	unsigned n;

	GUEST_CODE(g, cr3_list);
	memcpy(g->mem + 0x5000 + PAGE_SIZE * 8, g->mem + PML4, PAGE_SIZE);
	for (n = 0; n < 6; n++) {
		bool list = n & 1;

		vm_clear(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_CR3_LOAD_EXITING);
		if (list)
			vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_CR3_LOAD_EXITING);
		vmw(g, CR3_TARGET_VALUE0, 0xd000);
		vmw(g, CR3_TARGET_COUNT, 1);
		vmw(g, GUEST_RIP, CODE);
		g->r->gpr[RAX] = 0xd000;
		assert_int_equal(run_to_vmcall(g), CODE + 6);
		assert_int_equal(vmr(g, GUEST_CR3), 0xd000);
		assert_int_equal(g->r->gpr[RCX], 0xd000);
		vmw(g, GUEST_RIP, CODE);
		g->r->gpr[RAX] = PML4;
		assert_int_equal(guest_run(g), list ? EXIT_REASON_CR_ACCESS : EXIT_REASON_VMCALL);
		assert_int_equal(vmr(g, GUEST_CR3), list ? 0xd000 : PML4);
	}
}

/* PAUSE-loop exiting by the host's own counter: 26.1.3. */
BLOB(pause_loop, "xor ebx, ebx; 1: add rbx, 1; pause; jmp 1b");
BLOB(pauses, "mov ebx, 1000; 1: pause; dec ebx; jnz 1b; vmcall");
static void test_pause_loop(void **state)
{
	struct guest g;
	unsigned n;

	guest_init_native_tsc(&g);
	vmw(&g, PLE_GAP, 1u << 30);
	for (n = 0; n < 3; n++) {
		GUEST_CODE(&g, pause_loop);
		vm_cpu2(&g, SECONDARY_EXEC_PAUSE_LOOP_EXITING);
		vmw(&g, PLE_WINDOW, 3000000);
		vmw(&g, GUEST_RIP, CODE);
		assert_int_equal(guest_run(&g), EXIT_REASON_PAUSE_INSTRUCTION);
		assert_int_equal(vmr(&g, GUEST_RIP), CODE + 6);
		assert_in_range(g.r->gpr[RBX], 2, 3000000);
		/* The next entry begins a new one. */
		assert_int_equal(guest_run(&g), EXIT_REASON_PAUSE_INSTRUCTION);
		/* None so short is. */
		GUEST_CODE(&g, pauses);
		vmw(&g, PLE_WINDOW, ~0u);
		vmw(&g, GUEST_RIP, CODE);
		assert_int_equal(run_to_vmcall(&g), CODE + 11);
		/* Where every PAUSE exits, the window does not matter. */
		vm_or(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_PAUSE_EXITING);
		vmw(&g, GUEST_RIP, CODE);
		assert_int_equal(guest_run(&g), EXIT_REASON_PAUSE_INSTRUCTION);
		assert_int_equal(g.r->gpr[RBX], 1000);
		vm_clear(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_PAUSE_EXITING);
		/* Without the control loops may be of any length. */
		vm_clear(&g, SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_PAUSE_LOOP_EXITING);
		vmw(&g, PLE_WINDOW, 0);
		assert_int_equal(run_to_vmcall(&g), CODE + 11);
		assert_int_equal(g.r->gpr[RBX], 0);
	}
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_controls, guest_setup, guest_teardown),
		cmocka_unit_test_setup_teardown(test_targets, guest_setup, guest_teardown),
		cmocka_unit_test(test_pause_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
