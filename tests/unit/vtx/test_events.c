// SPDX-License-Identifier: MIT
/*
 * Exits by events, injection, IDT vectoring, windows, timers (SDM vol. 3C, chapters 26 to 28).
 */
#include "guest.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

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

BLOB(watched, "mov [rbx], rax; vmcall");
BLOB(misaligned, ".code32\nmov eax, [0x8001]");

/* A write breakpoint on the stack that the interrupt-stack table gives #DB. */
static void endless_debug(struct guest *g)
{
	u64 stack = STACK - 0x100;

	GUEST_CODE(g, watched);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, GUEST_INTERRUPTIBILITY_INFO, 0);
	vmw(g, GUEST_PENDING_DBG_EXCEPTIONS, 0);
	memcpy(g->mem + TSS + 0x24, &stack, 8);
	g->mem[IDT + 16 * 1 + 4] |= 1;
	g->r->gpr[RBX] = g->r->dr[0] = stack - 8;
	vmw(g, GUEST_DR7, 0x400 | 1 | 9u << 16);
}

/* At CPL 3, with a stack whose every push raises #AC. */
static void endless_alignment(struct guest *g)
{
	guest_32(g);
	GUEST_CODE(g, misaligned);
	g->mem[GDT + SEL_CODE32 + 5] |= 0x60;
	vmw(g, GUEST_CS_SELECTOR, SEL_CODE32 | 3);
	vmw(g, GUEST_CS_AR_BYTES, 0xc0fb);
	vmw(g, GUEST_SS_SELECTOR, SEL_DATA | 3);
	vmw(g, GUEST_SS_AR_BYTES, 0xc0f3);
	vmw(g, GUEST_CR0, vmr(g, GUEST_CR0) | CR0_AM);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, GUEST_RFLAGS, 2 | X86_AC);
	vmw(g, GUEST_RSP, STACK - 1);
}

/* Events that raise the next without end. They are no instruction boundary, but kicks get through.
 */
static void test_instruction_timeout(void **state)
{
	struct guest *g = *state;
	const struct sil_counters *n = sil_counters(g->cpu);
	pthread_t t;
	u64 events, faults;

	/* The third of the deliveries would be the first in which there is no boundary. */
	endless_debug(g);
	pthread_create(&t, NULL, kick_later, g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	pthread_join(t, NULL);
	assert_int_equal(vmr(g, GUEST_PENDING_DBG_EXCEPTIONS), BIT(12) | 1);
	assert_int_equal(vmr(g, GUEST_RIP), HANDLER(1));

	/* Time stands still: only the deliveries count. 1000 is the processor's own. */
	vm_cpu2(g, SECONDARY_EXEC_NOTIFY_VM_EXITING);
	vmw(g, NOTIFY_WINDOW, 500);
	g->tsc_step = 0;
	endless_debug(g);
	events = n->events;
	assert_int_equal(guest_run(g), EXIT_REASON_NOTIFY);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0);
	assert_int_equal(vmr(g, VM_EXIT_INTR_INFO), 0);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), 0);
	assert_int_equal(vmr(g, GUEST_PENDING_DBG_EXCEPTIONS), BIT(12) | 1);
	assert_in_range(n->events - events, 1500, 1502);
	/* Goes on where it was. */
	assert_int_equal(guest_run(g), EXIT_REASON_NOTIFY);
	/* Time passes: 100 crystal cycles of 2^6 a look. */
	g->tsc_step = 6400;
	events = n->events;
	assert_int_equal(guest_run(g), EXIT_REASON_NOTIFY);
	assert_in_range(n->events - events, 14, 17);
	/* With the breakpoint gone the last trap is taken and that is all. */
	vmw(g, GUEST_DR7, 0x400);
	assert_int_equal(run_to_vmcall(g), HANDLER(1));

	endless_alignment(g);
	g->tsc_step = 0;
	faults = n->faults;
	assert_int_equal(guest_run(g), EXIT_REASON_NOTIFY);
	assert_in_range(n->faults - faults, 1500, 1503);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO_ERR(3, 17));
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
	assert_int_equal(vmr(g, GUEST_RSP), STACK - 1);
	/* An intercept comes first. */
	vmw(g, EXCEPTION_BITMAP, BIT(17));
	assert_int_equal(guest_run(g), EXIT_REASON_EXCEPTION_NMI);
	vmw(g, EXCEPTION_BITMAP, 0);
	vm_clear(g, SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_NOTIFY_VM_EXITING);
	pthread_create(&t, NULL, kick_later, g);
	assert_int_equal(guest_run(g), EXIT_REASON_EXTERNAL_INTERRUPT);
	pthread_join(t, NULL);
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

/* Reads the counter until it is far beyond the deadline, then exits by VMCALL. */
BLOB(clock, "1: rdtsc; shl rdx, 32; or rdx, rax; mov rbx, rdx; cmp rbx, 100000; jb 1b; vmcall");

/* The host's timer never fires: whoever reads the counter sees no time beyond the deadline. */
static void test_late_timer(void **state)
{
	struct guest *g = *state;
	u64 at;

	GUEST_CODE(g, clock);
	vm_or(g, PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VMX_PREEMPTION_TIMER);
	g->tsc = 5000;
	g->tsc_step = 100;
	vmw(g, VMX_PREEMPTION_TIMER_VALUE, 1000);
	assert_int_equal(guest_run(g), EXIT_REASON_PREEMPTION_TIMER);
	at = g->armed;
	assert_in_range(at, 5000 + 32000, 5000 + 33000);
	assert_in_range(g->r->gpr[RBX], at - 1000, at - 1);
	assert_int_equal(vmr(g, GUEST_RIP), CODE);
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

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		T(test_exceptions),	  T(test_page_fault_filter),
		T(test_debug_exceptions), T(test_double_and_triple_fault),
		T(test_injection),	  T(test_exit_in_delivery),
		T(test_interrupt_window), T(test_nmi_window),
		T(test_nmi_unblocking),	  T(test_kicks),
		T(test_late_timer),	  T(test_instruction_timeout),
		T(test_preemption_timer), T(test_monitor_trap_flag),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
