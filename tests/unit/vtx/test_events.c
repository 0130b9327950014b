// SPDX-License-Identifier: MIT
/*
 * Exits by events, injection, IDT vectoring, windows, timers and EPT (SDM vol. 3C, chapters 26 to
 * 29).
 */
#include "guest.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define INFO(type, vector)     (0x80000000ull | (type) << 8 | (vector))
#define INFO_ERR(type, vector) (INFO(type, vector) | 1 << 11)

static int setup(void **state)
{
	static struct guest g;

	guest_init(&g);
	*state = &g;
	return 0;
}

static int teardown(void **state)
{
	guest_fini(*state);
	return 0;
}

/* Runs until VMCALL; returns its RIP. */
static u64 run_to_vmcall(struct guest *g)
{
	u32 reason = guest_run(g);

	if (reason != EXIT_REASON_VMCALL)
		fail_msg("exit %u at %#lx, qualification %#lx, event %#lx", reason,
			 vmr(g, GUEST_RIP), vmr(g, EXIT_QUALIFICATION), vmr(g, VM_EXIT_INTR_INFO));
	return vmr(g, GUEST_RIP);
}

/* ---- Exceptions --------------------------------------------------------------------------------
 */

BLOB(ud2, "nop; ud2");
BLOB(int3, "nop; int3");
BLOB(int1, ".byte 0xf1");
BLOB(divide, "xor ecx, ecx; div ecx");

static void test_exceptions(void **state)
{
	struct guest *g = *state;

	vmw(g, EXCEPTION_BITMAP, BIT(0) | BIT(1) | BIT(3) | BIT(6));
	GUEST_CODE(g, ud2);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO(3, 6));
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 1);
	/* The image that delivery would have pushed: a fault has RF. */
	assert_int_equal(vmr(g, GUEST_RFLAGS), X86_RF | 2);
	vmw(g, GUEST_RFLAGS, 2);

	GUEST_CODE(g, int3);
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO(6, 3));
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 1);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 1);
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2);

	GUEST_CODE(g, int1);
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO(5, 1));
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 1);

	GUEST_CODE(g, divide);
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO(3, 0));
	/* What the bitmap does not name goes to the guest. */
	vmw(g, EXCEPTION_BITMAP, 0);
	assert_int_equal(run_to_vmcall(g), HANDLER(0));
}

BLOB(page_fault, "mov eax, 0x40000010; mov [rax], ecx");

/* 26.2: #PF by the bitmap, and by error code against mask and match. */
static void test_page_fault_filter(void **state)
{
	struct guest *g = *state;

	/* 0x40000010 is beyond the guest's tables: error code 2, write to not-present. */
	GUEST_CODE(g, page_fault);
	vmw(g, EXCEPTION_BITMAP, BIT(14));
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO_ERR(3, 14));
	assert_int_equal(vmr(g, VM_EXIT_INTR_ERROR_CODE), 2);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x40000010);
	assert_int_equal(g->r->cr2, 0);
	/* With the bit, inequality means no exit; without it, equality means one... */
	vmw(g, PAGE_FAULT_ERROR_CODE_MASK, 3);
	vmw(g, PAGE_FAULT_ERROR_CODE_MATCH, 1);
	assert_int_equal(run_to_vmcall(g), HANDLER(14));
	assert_int_equal(g->r->cr2, 0x40000010);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, EXCEPTION_BITMAP, 0);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	vmw(g, PAGE_FAULT_ERROR_CODE_MATCH, 2);
	assert_int_equal(run_to_vmcall(g), HANDLER(14));
}

BLOB(step, "nop; nop");
BLOB(gd, "mov rax, dr0");

static void test_debug_exceptions(void **state)
{
	struct guest *g = *state;

	vmw(g, EXCEPTION_BITMAP, BIT(1));
	GUEST_CODE(g, step);
	vm_or(g, GUEST_RFLAGS, X86_TF);
	g->r->dr6 = 0xffff0ff0;
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO(3, 1));
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), BIT(14));
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 1);
	/* The exit changes neither DR6 nor DR7. */
	assert_int_equal(g->r->dr6, 0xffff0ff0);

	GUEST_CODE(g, gd);
	vmw(g, GUEST_RFLAGS, 2);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, GUEST_DR7, 0x400 | BIT(13));
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), BIT(13));
	assert_int_equal(vmr(g, GUEST_DR7), 0x400 | BIT(13));
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
}

/* A #PF in the delivery of #PF is a double fault, one in that of #DF a triple fault. */
static void test_double_and_triple_fault(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, page_fault);
	vmw(g, GUEST_IDTR_BASE, 0x50000000);
	vmw(g, EXCEPTION_BITMAP, BIT(8));
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO_ERR(3, 8));
	assert_int_equal(vmr(g, VM_EXIT_INTR_ERROR_CODE), 0);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), 0);
	vmw(g, EXCEPTION_BITMAP, 0);
	assert_int_equal(guest_run(g), EXIT_REASON_TRIPLE_FAULT);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), 0);
	/* The second fault seen by itself: the first is in IDT-vectoring information. */
	vmw(g, EXCEPTION_BITMAP, BIT(14));
	vmw(g, PAGE_FAULT_ERROR_CODE_MASK, 2);
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO_ERR(3, 14));
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0x50000000 + 14 * 16);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO_ERR(3, 14));
	assert_int_equal(vmr(g, IDT_VECTORING_ERROR_CODE), 2);
}

/* ---- Injection
 * ----------------------------------------------------------------------------------- */

BLOB(vmcall, "vmcall");

static void test_injection(void **state)
{
	struct guest *g = *state;
	u64 frame[6];

	GUEST_CODE(g, vmcall);
	/* A hardware exception with error code. */
	guest_inject(g, 3, 13 | 1 << 11);
	vmw(g, VM_ENTRY_EXCEPTION_ERROR_CODE, 0x1234);
	assert_int_equal(run_to_vmcall(g), HANDLER(13));
	assert_int_equal(vmr(g, VM_ENTRY_INTR_INFO_FIELD), 0xb0d);
	memcpy(frame, g->mem + vmr(g, GUEST_RSP), 48);
	assert_int_equal(frame[0], 0x1234);
	assert_int_equal(frame[1], CODE);
	assert_int_equal(frame[2], SEL_CODE64);
	/* Not injected again. */
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(run_to_vmcall(g), CODE);

	/* A software interrupt: the return address is past it. */
	guest_inject(g, 4, 0x80);
	vmw(g, VM_ENTRY_INSTRUCTION_LEN, 2);
	vmw(g, GUEST_RSP, STACK);
	assert_int_equal(run_to_vmcall(g), HANDLER(0x80));
	memcpy(frame, g->mem + vmr(g, GUEST_RSP), 40);
	assert_int_equal(frame[0], CODE + 2);

	/* An external interrupt wakes from HLT; interrupt gates clear IF. */
	vmw(g, GUEST_RIP, CODE);
	vm_or(g, GUEST_RFLAGS, X86_IF);
	vmw(g, GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_HLT);
	guest_inject(g, 0, 0x30);
	assert_int_equal(run_to_vmcall(g), HANDLER(0x30));
	assert_int_equal(vmr(g, GUEST_ACTIVITY_STATE), 0);
	assert_int_equal(vmr(g, GUEST_RFLAGS) & X86_IF, 0);

	/* An NMI blocks NMIs. */
	vmw(g, GUEST_RIP, CODE);
	guest_inject(g, 2, 2);
	assert_int_equal(run_to_vmcall(g), HANDLER(2));
	assert_int_equal(vmr(g, GUEST_INTERRUPTIBILITY_INFO), GUEST_INTR_STATE_NMI);
}

/* An event whose delivery exits is in IDT-vectoring information, to be injected again. */
static void test_exit_in_delivery(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, vmcall);
	g->ept_pt[IDT >> 12] = 0;
	assert_int_equal(sil_invept(g->cpu, 2, 0), SIL_VMX_OK);
	guest_inject(g, 4, 0x80);
	vmw(g, VM_ENTRY_INSTRUCTION_LEN, 2);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS), IDT + 0x800);
	assert_int_equal(vmr(g, GUEST_LINEAR_ADDRESS), IDT + 0x800);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO(4, 0x80));
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 2);
	assert_int_equal(vmr(g, VM_ENTRY_INTR_INFO_FIELD), 0x480);
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
	assert_int_equal(vmr(g, GUEST_RSP), STACK);

	guest_inject(g, 3, 13 | 1 << 11);
	vmw(g, VM_ENTRY_EXCEPTION_ERROR_CODE, 0x18);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO_ERR(3, 13));
	assert_int_equal(vmr(g, IDT_VECTORING_ERROR_CODE), 0x18);
	/* The guest's own INT n. */
	memcpy(g->mem + CODE, "\xcd\x81", 2);
	sil_memory_written(g->m, (hva_t)g->mem + CODE, 2);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO(4, 0x81));
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 2);
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
}

/* ---- Windows, kicks, timers, traps
 * --------------------------------------------------------------- */

BLOB(sti_window, "nop; sti; nop; nop");
BLOB(loop, "1: jmp 1b");
BLOB(hlt, "hlt; nop");

static void test_interrupt_window(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, sti_window);
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_INTR_WINDOW_EXITING);
	assert_int_equal(guest_run(g), EXIT_REASON_INTERRUPT_WINDOW);
	/* One instruction after STI: blocking by STI has ended. */
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 3);
	assert_int_equal(vmr(g, GUEST_INTERRUPTIBILITY_INFO), 0);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), 0);
	/* Open at the entry: before any instruction. */
	assert_int_equal(guest_run(g), EXIT_REASON_INTERRUPT_WINDOW);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 3);
	/* And in HLT, which it does not end. */
	vmw(g, GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_HLT);
	assert_int_equal(guest_run(g), EXIT_REASON_INTERRUPT_WINDOW);
	assert_int_equal(vmr(g, GUEST_ACTIVITY_STATE), GUEST_ACTIVITY_HLT);
}

BLOB(iretq, "mov rax, rsp; push 0x10; push rax; pushfq; push 8; push 0x10100; iretq");

static void test_nmi_window(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, iretq);
	memset(g->mem + CODE + 0x100, 0x90, 16);
	vm_or(g, PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VIRTUAL_NMIS);
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_NMI_WINDOW_EXITING);
	vmw(g, GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	assert_int_equal(guest_run(g), EXIT_REASON_NMI_WINDOW);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 0x100);
	assert_int_equal(vmr(g, GUEST_INTERRUPTIBILITY_INFO), 0);
}

/* 28.2.3: an IRET that faults has unblocked NMIs all the same, and the exit says so. */
static void test_nmi_unblocking(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, iretq);
	vm_or(g, PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VIRTUAL_NMIS);
	vmw(g, GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	vmw(g, GUEST_RIP, CODE + 14);
	assert_int_equal(g->mem[CODE + 14], 0x48);
	vmw(g, GUEST_RSP, 0x40000000);
	vmw(g, EXCEPTION_BITMAP, BIT(14));
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), INFO_ERR(3, 14) | BIT(12));
	assert_int_equal(vmr(g, GUEST_INTERRUPTIBILITY_INFO), 0);

	vmw(g, GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_NMI);
	vmw(g, GUEST_RSP, 0x1ff000);
	g->ept_pt[0x1ff] = 0;
	assert_int_equal(sil_invept(g->cpu, 2, 0), SIL_VMX_OK);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_true(vmr(g, EXIT_QUALIFICATION) & BIT(12));
	assert_int_equal(vmr(g, GUEST_INTERRUPTIBILITY_INFO), 0);
}

static void *kick_later(void *arg)
{
	struct guest *g = arg;

	usleep(2000);
	sil_cpu_kick(g->cpu);
	return NULL;
}

static void test_kicks(void **state)
{
	struct guest *g = *state;
	pthread_t t;

	GUEST_CODE(g, loop);
	sil_cpu_kick(g->cpu);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), 0);
	assert_int_equal(sil_counters(g->cpu)->instructions, 0);
	/* From another thread, of a loop and of HLT. */
	pthread_create(&t, NULL, kick_later, g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	pthread_join(t, NULL);
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
	assert_true(sil_counters(g->cpu)->instructions > 0);
	GUEST_CODE(g, hlt);
	pthread_create(&t, NULL, kick_later, g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	pthread_join(t, NULL);
	assert_int_equal(vmr(g, GUEST_ACTIVITY_STATE), GUEST_ACTIVITY_HLT);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 1);
	/* Acknowledged: a vector. */
	vm_or(g, VM_EXIT_CONTROLS, VM_EXIT_ACK_INTR_ON_EXIT);
	sil_cpu_kick(g->cpu);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO) & 0x80000f00, 0x80000000);
	assert_true((vmr(g, VM_EXIT_INTR_INFO) & 0xff) >= 32);
}

static void test_preemption_timer(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, loop);
	vm_or(g, PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VMX_PREEMPTION_TIMER);
	vm_or(g, VM_EXIT_CONTROLS, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER);
	/* 0: before any instruction. */
	vmw(g, VMX_PREEMPTION_TIMER_VALUE, 0);
	assert_int_equal(guest_run(g), EXIT_REASON_PREEMPTION_TIMER);
	assert_int_equal(sil_counters(g->cpu)->instructions, 0);
	/* 1000 units of 2^5 cycles (IA32_VMX_MISC). */
	g->fire_timer = true;
	g->tsc = 5000;
	vmw(g, VMX_PREEMPTION_TIMER_VALUE, 1000);
	assert_int_equal(guest_run(g), EXIT_REASON_PREEMPTION_TIMER);
	assert_in_range(g->armed, 5000 + 32000, 5000 + 32010);
	assert_int_equal(vmr(g, VMX_PREEMPTION_TIMER_VALUE), 0);
	/* What is left when something else exits. */
	g->fire_timer = false;
	g->tsc = 0;
	g->tsc_step = 0;
	vmw(g, VMX_PREEMPTION_TIMER_VALUE, 500);
	sil_cpu_kick(g->cpu);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	assert_int_equal(vmr(g, VMX_PREEMPTION_TIMER_VALUE), 500);
}

BLOB(mtf, "nop; mov ecx, 2; mov edi, 0x8000; rep stosb; nop");

static void test_monitor_trap_flag(void **state)
{
	/* Each iteration of a repeated string instruction counts. */
	static const u64 at[] = {1, 6, 11, 11, 13, 14};
	struct guest *g = *state;

	GUEST_CODE(g, mtf);
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_MONITOR_TRAP_FLAG);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		assert_int_equal(guest_run(g), EXIT_REASON_MONITOR_TRAP_FLAG);
		if (vmr(g, GUEST_RIP) != CODE + at[i])
			fail_msg("step %u: RIP %#lx", i, vmr(g, GUEST_RIP));
	}
	/* After an injected event: at the handler's first instruction. */
	guest_inject(g, 3, 6);
	assert_int_equal(guest_run(g), EXIT_REASON_MONITOR_TRAP_FLAG);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(6));
	/* Injected itself, without the control: before anything. */
	vm_clear(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_MONITOR_TRAP_FLAG);
	vmw(g, GUEST_RIP, CODE);
	guest_inject(g, 7, 0);
	assert_int_equal(guest_run(g), EXIT_REASON_MONITOR_TRAP_FLAG);
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
}

/* ---- EPT
 * ------------------------------------------------------------------------------------------ */

BLOB(touch, "mov ebx, 0x8123; mov eax, [rbx]; mov [rbx], eax; jmp rbx");

static void test_ept_violations(void **state)
{
	struct guest *g = *state;
	u64 leaf = g->ept_pt[DATA >> 12];

	GUEST_CODE(g, touch);
	/* Not present: nothing allowed; linear address valid and translated. */
	g->ept_pt[DATA >> 12] = 0;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x1ff, 0x181);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS), 0x8123);
	assert_int_equal(vmr(g, GUEST_LINEAR_ADDRESS), 0x8123);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 5);
	/* Read-only: the write, with R in bit 3. */
	g->ept_pt[DATA >> 12] = leaf & ~6ull;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x1ff, 0x18a);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 7);
	/* Not executable: the fetch. */
	g->ept_pt[DATA >> 12] = leaf & ~4ull;
	assert_int_equal(sil_invept(g->cpu, 1, g->eptp), SIL_VMX_OK);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x1ff, 0x19c);
	assert_int_equal(vmr(g, GUEST_RIP), 0x8123);
	/* A page table out of reach: linear address valid, but not its translation's. */
	g->ept_pt[DATA >> 12] = leaf;
	g->ept_pt[(PML4 >> 12) + 1] = 0;
	assert_int_equal(sil_invept(g->cpu, 2, 0), SIL_VMX_OK);
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x180, 0x80);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, PML4 + 0x1000);
	assert_int_equal(vmr(g, GUEST_LINEAR_ADDRESS), CODE);
}

static void test_ept_misconfiguration(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, touch);
	/* Writable but not readable. */
	g->ept_pt[DATA >> 12] = (g->ept_pt[DATA >> 12] & ~7ull) | 2;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_MISCONFIG);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS), 0x8123);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 5);
}

BLOB(dirty, "mov eax, 1; mov [0x8000], eax; mov [0x9000], eax; mov [0xa000], eax");

static void test_page_modification_log(void **state)
{
	struct guest *g = *state;
	u64 *log = guest_page(g);

	GUEST_CODE(g, dirty);
	vm_cpu2(g, SECONDARY_EXEC_ENABLE_PML);
	vmw(g, EPT_POINTER, g->eptp | EPTP_AD);
	vmw(g, PML_ADDRESS, (u64)log);
	vmw(g, GUEST_PML_INDEX, 1);
	/* The guest's page tables get accessed flags, which are writes to them: 29.3.5. */
	for (unsigned i = 0; i < 512; i++)
		if (i < 8 || i > 10)
			g->ept_pt[i] |= EPT_A | EPT_D;
	assert_int_equal(guest_run(g), EXIT_REASON_PML_FULL);
	assert_int_equal(log[1], 0x8000);
	assert_int_equal(log[0], 0x9000);
	assert_int_equal(vmr(g, GUEST_PML_INDEX), 0xffff);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 19);
	/* Not set for what could not be logged. */
	assert_true(g->ept_pt[9] & EPT_D);
	assert_false(g->ept_pt[10] & EPT_D);
}

/* ---- Task switches
 * --------------------------------------------------------------------------------- */

BLOB(task, ".byte 0xea; .long 0; .word 0x30"); /* jmp 0x30:0 */
BLOB(task_gate, ".code32\nint 0x40");

static void test_task_switches(void **state)
{
	struct guest *g = *state;
	u64 gate = 0x0000850000300000;

	guest_32(g);
	GUEST_CODE(g, task);
	assert_int_equal(guest_run(g), EXIT_REASON_TASK_SWITCH);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), SEL_TSS2 | 2u << 30);
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 7);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), 0);
	/* Through a gate in the IDT: the event is in IDT-vectoring information. */
	memcpy(g->mem + IDT + 0x40 * 8, &gate, 8);
	GUEST_CODE(g, task_gate);
	assert_int_equal(guest_run(g), EXIT_REASON_TASK_SWITCH);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), SEL_TSS2 | 3u << 30);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO(4, 0x40));
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 2);
}

/* ---- State that entries load and exits save
 * --------------------------------------------------------- */

BLOB(set_efer, "mov ecx, 0xc0000080; rdmsr; or eax, 0x801; wrmsr; rdmsr; vmcall");

static void test_efer(void **state)
{
	struct guest *g = *state;

	vmw(g, MSR_BITMAP, (u64)guest_page(g));
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_MSR_BITMAPS);
	GUEST_CODE(g, set_efer);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0xd01);
	assert_int_equal(vmr(g, GUEST_IA32_EFER), 0xd01);
	/* Not saved unless the exit controls say so. */
	vm_clear(g, VM_EXIT_CONTROLS, VM_EXIT_SAVE_IA32_EFER);
	vmw(g, GUEST_IA32_EFER, 0x500);
	vmw(g, GUEST_RIP, CODE);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0xd01);
	assert_int_equal(vmr(g, GUEST_IA32_EFER), 0x500);
	/* Not loaded: the host's, with LMA and LME as the entry controls say. */
	vm_clear(g, VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_IA32_EFER);
	vmw(g, HOST_IA32_EFER, 0x500);
	vmw(g, GUEST_RIP, CODE);
	run_to_vmcall(g);
	vmw(g, GUEST_RIP, CODE);
	memcpy(g->mem + CODE, "\xb9\x80\x00\x00\xc0\x0f\x32\x0f\x01\xc1", 10);
	sil_memory_written(g->m, (hva_t)g->mem + CODE, 10);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0x500);
}

BLOB(to_long, ".code32\nmov ecx, 0xc0000080; mov eax, 0x100; xor edx, edx; wrmsr; mov eax, 0x4000\n"
	      "mov cr3, eax; mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, cr0; bts eax, 31\n"
	      "mov cr0, eax; .byte 0xea; .long 0x10100; .word 8");

/* A guest that switches modes finds its entry control changed: 28.3.1. */
static void test_mode_switch(void **state)
{
	struct guest *g = *state;

	guest_32(g);
	vmw(g, MSR_BITMAP, (u64)guest_page(g));
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_MSR_BITMAPS);
	GUEST_CODE(g, to_long);
	memcpy(g->mem + CODE + 0x100, "\x0f\x01\xc1", 3);
	assert_int_equal(run_to_vmcall(g), CODE + 0x100);
	assert_true(vmr(g, VM_ENTRY_CONTROLS) & VM_ENTRY_IA32E_MODE);
	assert_int_equal(vmr(g, GUEST_IA32_EFER), EFER_LME | EFER_LMA);
	assert_int_equal(vmr(g, GUEST_CR0), 0x80000033);
	assert_int_equal(vmr(g, GUEST_CS_AR_BYTES), 0xa09b);
	/* And enters again as it is. */
	assert_int_equal(run_to_vmcall(g), CODE + 0x100);
}

BLOB(real, ".code16\nmov ax, 0x1234; mov ds, ax; mov bx, 0x10; mov [bx], ax; vmcall");

static void test_real_mode(void **state)
{
	struct guest *g = *state;
	u16 w;

	guest_real(g);
	GUEST_CODE(g, real);
	assert_int_equal(guest_run(g), EXIT_REASON_VMCALL);
	assert_int_equal(vmr(g, GUEST_DS_BASE), 0x12340);
	memcpy(&w, g->mem + 0x12350, 2);
	assert_int_equal(w, 0x1234);
}

/* 28.3.3: RF is saved as 0 by an exit that an instruction causes, as 1 by an EPT violation. */
static void test_resume_flag(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, vmcall);
	vm_or(g, GUEST_RFLAGS, X86_RF);
	run_to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2);
	GUEST_CODE(g, touch);
	g->ept_pt[DATA >> 12] = 0;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2 | X86_RF);
}

/* PAE paging under EPT: the PDPTEs are the VMCS's (27.3.2.4), and their reserved bits count. */
BLOB(pae, ".code32\nmov ebx, [0x8000]; vmcall");

static void test_pdptes(void **state)
{
	struct guest *g = *state;

	guest_32(g);
	GUEST_CODE(g, pae);
	vmw(g, GUEST_CR0, 0x80000033);
	vm_or(g, GUEST_CR4, CR4_PAE);
	vmw(g, GUEST_CR3, 0x7000); /* nothing is there */
	vmw(g, GUEST_PDPTR0, (PML4 + 0x2000) | 1);
	g->mem[DATA] = 0x5a;
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RBX], 0x5a);
	assert_int_equal(vmr(g, GUEST_PDPTR0), (PML4 + 0x2000) | 1);
	vmw(g, GUEST_PDPTR2, 1 | BIT(1));
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), 0x80000021);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 2);
	assert_string_equal(sil_last_failure(g->cpu)->id, "PDPTE2");
}

BLOB(flags, "stc; mov eax, 0x7fffffff; add eax, 1; vmcall");

static void test_flags(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, flags);
	run_to_vmcall(g);
	/* Of 0x7fffffff + 1: OF SF AF PF, no CF, no ZF. */
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2 | X86_OF | X86_SF | X86_AF | X86_PF);
	/* Flags given at entry are seen by the guest. */
	memcpy(g->mem + CODE, "\x9c\x58\x0f\x01\xc1", 5); /* pushfq; pop rax; vmcall */
	sil_memory_written(g->m, (hva_t)g->mem + CODE, 5);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, GUEST_RFLAGS, 2 | X86_CF | X86_ZF);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 2 | X86_CF | X86_ZF);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_exceptions),
		T(test_page_fault_filter),
		T(test_debug_exceptions),
		T(test_double_and_triple_fault),
		T(test_injection),
		T(test_exit_in_delivery),
		T(test_interrupt_window),
		T(test_nmi_window),
		T(test_nmi_unblocking),
		T(test_kicks),
		T(test_preemption_timer),
		T(test_monitor_trap_flag),
		T(test_ept_violations),
		T(test_ept_misconfiguration),
		T(test_page_modification_log),
		T(test_task_switches),
		T(test_efer),
		T(test_mode_switch),
		T(test_real_mode),
		T(test_resume_flag),
		T(test_pdptes),
		T(test_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
