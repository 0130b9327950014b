// SPDX-License-Identifier: MIT
/* TSC offset and scaling, preemption timer, monitor trap flag, PAUSE
 * loops. 25.3, 26.5, 26.5.1, 26.5.2 */
#include "l1.h"

static u64 seen;

static void l2_rdtsc(void)
{
	seen = rdtsc();
}

static void l2_rdmsr(void)
{
	seen = rdmsr(0x10);
}

static void l2_rdtscp(void)
{
	u32 lo, hi, aux;

	asm volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
	seen = lo | (u64)hi << 32;
}

static void l2_spin(void)
{
	for (u64 end = rdtsc() + (1ull << 33); rdtsc() < end;)
		asm volatile("pause");
}

/* What L2 sees lies between what it would see before and after, by @map of L1's clock. */
static void between(const char *name, void (*fn)(void), u64 offset, u64 mult)
{
	u64 a = rdtsc(), b, lo, hi;

	check2(name, "reason", run_at(fn), EXIT_REASON_VMCALL);
	b = rdtsc();
	lo = (u64)((unsigned __int128)a * mult >> 48) + offset;
	hi = (u64)((unsigned __int128)b * mult >> 48) + offset;
	check2(name, "not too early", (s64)(seen - lo) >= 0, 1);
	check2(name, "not too late", (s64)(hi - seen) >= 0, 1);
}

#define ONE (1ull << 48)

static void use_bitmap(void)
{
	if (may_cpu(CPU_BASED_USE_MSR_BITMAPS)) {
		set_cpu(CPU_BASED_USE_MSR_BITMAPS);
		vmwrite(MSR_BITMAP, (u64)page());
	}
}

static void tsc(void)
{
	vmx_fresh();
	use_bitmap();
	between("TSC", l2_rdtsc, 0, ONE);
	vmwrite(TSC_OFFSET, 1ull << 50);
	between("TSC, offset without the control", l2_rdtsc, 0, ONE);
	if (!may_cpu(CPU_BASED_USE_TSC_OFFSETTING)) {
		skip("TSC offset", "not advertised");
		return;
	}
	set_cpu(CPU_BASED_USE_TSC_OFFSETTING);
	between("TSC offset", l2_rdtsc, 1ull << 50, ONE);
	if (may_cpu(CPU_BASED_USE_MSR_BITMAPS))
		between("TSC offset, RDMSR", l2_rdmsr, 1ull << 50, ONE);
	vmwrite(TSC_OFFSET, -(1ull << 45));
	between("TSC offset, negative", l2_rdtsc, -(1ull << 45), ONE);
	if (may_cpu2(SECONDARY_EXEC_ENABLE_RDTSCP)) {
		set_cpu2(SECONDARY_EXEC_ENABLE_RDTSCP);
		between("TSC offset, RDTSCP", l2_rdtscp, -(1ull << 45), ONE);
	}
	/* L1's own clock has no offset. */
	{
		u64 a = rdtsc();

		check("L1's clock", rdtsc() - a < 1ull << 40, 1);
	}
	if (!may_cpu2(SECONDARY_EXEC_TSC_SCALING)) {
		skip("TSC scaling", "not advertised");
		return;
	}
	set_cpu2(SECONDARY_EXEC_TSC_SCALING);
	vmwrite(TSC_OFFSET, 12345);
	vmwrite(TSC_MULTIPLIER, ONE * 2);
	between("TSC twice as fast", l2_rdtsc, 12345, ONE * 2);
	vmwrite(TSC_MULTIPLIER, ONE / 4);
	between("TSC four times slower", l2_rdtsc, 12345, ONE / 4);
	vmwrite(TSC_MULTIPLIER, ONE);
	between("TSC as it is", l2_rdtsc, 12345, ONE);
	vmwrite(TSC_MULTIPLIER, ONE * 2);
	/* Without TSC offsetting there is no scaling. */
	clear_cpu(CPU_BASED_USE_TSC_OFFSETTING);
	between("TSC scaling without offsetting", l2_rdtsc, 0, ONE);
}

BLOB(t_nop, "", "nop");

static void timer(void)
{
	unsigned rate = caps[5] & 31;
	u64 a, b, left;

	vmx_fresh();
	if (!may_pin(PIN_BASED_VMX_PREEMPTION_TIMER)) {
		skip("preemption timer", "not advertised");
		return;
	}
	set_pin(PIN_BASED_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	check("timer 0", run_at(t_nop), EXIT_REASON_PREEMPTION_TIMER);
	check("timer 0, rip", vmread(GUEST_RIP), (u64)t_nop);
	check("timer 0, qualification", vmread(EXIT_QUALIFICATION), 0);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
	check("timer that does not expire", run_at(t_nop), EXIT_REASON_VMCALL);
	check("timer is not saved", vmread(VMX_PREEMPTION_TIMER_VALUE), 0xffffffff);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, (1ull << 22) >> rate);
	a = rdtsc();
	check("timer", run_at(l2_spin), EXIT_REASON_PREEMPTION_TIMER);
	b = rdtsc();
	/* It may start one of its own ticks early. */
	check("timer, not early", b - a + (1u << rate) >= 1ull << 22, 1);
	check("timer, value not saved", vmread(VMX_PREEMPTION_TIMER_VALUE), (1ull << 22) >> rate);
	/* In HLT it runs, in wait-for-SIPI it does not have to. */
	vmwrite(GUEST_ACTIVITY_STATE, 1);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, (1ull << 22) >> rate);
	check("timer in HLT", run_at(t_nop), EXIT_REASON_PREEMPTION_TIMER);
	check("timer in HLT, rip", vmread(GUEST_RIP), (u64)t_nop);
	vmwrite(GUEST_ACTIVITY_STATE, 0);
	if (!may_exit(VM_EXIT_SAVE_VMX_PREEMPTION_TIMER))
		return;
	set_exit(VM_EXIT_SAVE_VMX_PREEMPTION_TIMER);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
	check("timer saved", run_at(t_nop), EXIT_REASON_VMCALL);
	left = vmread(VMX_PREEMPTION_TIMER_VALUE);
	check("timer saved, not more", left <= 0xffffffff, 1);
	check("timer saved, not much less", left > 0x80000000, 1);
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 1);
	check("timer expires", run_at(l2_spin), EXIT_REASON_PREEMPTION_TIMER);
	check("timer expired", vmread(VMX_PREEMPTION_TIMER_VALUE), 0);
	/* An injected event is delivered first: 27.7.4 */
	vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0x80000306);
	check("timer after injection", run_at(t_nop), EXIT_REASON_PREEMPTION_TIMER);
	check("timer after injection, in the handler", vmread(GUEST_RIP), (u64)exc_stubs + 6 * 16);
	check("timer after injection, no vectoring", vmread(IDT_VECTORING_INFO_FIELD) >> 31, 0);
}

BLOB(t_steps, "nop",
     "mov $1, %eax\n t_step2: mov %ss, %ecx\n mov %ecx, %ss\n t_step3: nop\n t_step4: ud2");
BLOB(t_rep, "mov $3, %ecx\n lea l2_stack_top-64(%rip), %rdi\n xor %eax, %eax", "rep stosb");

static void mtf(void)
{
	extern char t_step2[], t_step3[], t_step4[];

	if (!may_cpu(CPU_BASED_MONITOR_TRAP_FLAG)) {
		skip("monitor trap flag", "not advertised");
		return;
	}
	vmx_fresh();
	set_cpu(CPU_BASED_MONITOR_TRAP_FLAG);
	check("MTF", run_at(t_steps), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF, rip", vmread(GUEST_RIP), (u64)t_steps_i);
	check("MTF, qualification", vmread(EXIT_QUALIFICATION), 0);
	check("MTF 2", run(), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF 2, rip", vmread(GUEST_RIP), (u64)t_step2);
	check("MTF 3", run(), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF after MOV SS", run(), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF after MOV SS, rip", vmread(GUEST_RIP), (u64)t_step3);
	check("MTF after MOV SS, blocking", vmread(GUEST_INTERRUPTIBILITY_INFO), 2);
	check("MTF 4", run(), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF 4, rip", vmread(GUEST_RIP), (u64)t_step4);
	/* An exception in the step: the exit is behind its delivery. */
	check("MTF and #UD", run(), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF and #UD, rip", vmread(GUEST_RIP), (u64)exc_stubs + 6 * 16);
	/* An injected event is the first step. */
	vmx_fresh();
	set_cpu(CPU_BASED_MONITOR_TRAP_FLAG);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0x80000306);
	check("MTF and injection", run_at(t_nop), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF and injection, rip", vmread(GUEST_RIP), (u64)exc_stubs + 6 * 16);
	/* Each iteration of a string instruction. */
	vmx_fresh();
	check("string", run_at(t_rep), EXIT_REASON_VMCALL);
	set_cpu(CPU_BASED_MONITOR_TRAP_FLAG);
	regs.rcx = 3;
	regs.rdi = (u64)l2_stack_top - 64;
	vmwrite(GUEST_RIP, (u64)t_rep_i);
	check("MTF in a string", run(), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF in a string, rip", vmread(GUEST_RIP), (u64)t_rep_i);
	check("MTF in a string, count", regs.rcx, 2);
	/* Injected as an event, MTF is pending: other event, vector 0. 27.6.2 */
	vmx_fresh();
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0x80000700);
	check("MTF injected", run_at(t_nop), EXIT_REASON_MONITOR_TRAP_FLAG);
	check("MTF injected, rip", vmread(GUEST_RIP), (u64)t_nop);
	/* An instruction that exits has its own exit. */
	vmx_fresh();
	set_cpu(CPU_BASED_MONITOR_TRAP_FLAG);
	check("MTF and VMCALL", run_at(l2_done), EXIT_REASON_VMCALL);
}

/* ---- PAUSE-loop exiting: 26.1.3 ---- */

static void l2_pause_1000(void)
{
	for (unsigned i = 0; i < 1000; i++)
		asm volatile("pause");
}

static void pause_loop(void)
{
	u64 a;

	if (!may_cpu2(SECONDARY_EXEC_PAUSE_LOOP_EXITING)) {
		skip("PAUSE-loop exiting", "not advertised");
		return;
	}
	vmx_fresh();
	vmwrite(PLE_GAP, 0xffffffff);
	check("PLE_Gap, read", vmread(PLE_GAP), 0xffffffff);
	vmwrite(PLE_WINDOW, 1 << 20);
	check("PLE_Window, read", vmread(PLE_WINDOW), 1 << 20);
	check("PAUSE loop without the control", run_at(l2_pause_1000), EXIT_REASON_VMCALL);
	set_cpu2(SECONDARY_EXEC_PAUSE_LOOP_EXITING);
	a = rdtsc();
	check("PAUSE loop", run_at(l2_spin), EXIT_REASON_PAUSE_INSTRUCTION);
	check("PAUSE loop, not early", rdtsc() - a >= 1 << 20, 1);
	check("PAUSE loop, length", vmread(VM_EXIT_INSTRUCTION_LEN), 2);
	check("PAUSE loop, at a PAUSE", *(u16 *)vmread(GUEST_RIP), 0x90f3);
	check("PAUSE loop, qualification", vmread(EXIT_QUALIFICATION), 0);
	/* Behind it the window begins anew. */
	a = rdtsc();
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + 2);
	check("PAUSE loop goes on", run(), EXIT_REASON_PAUSE_INSTRUCTION);
	check("PAUSE loop goes on, not early", rdtsc() - a >= 1 << 20, 1);
	/* Each PAUSE a loop of its own; a window that is never over. */
	vmwrite(PLE_GAP, 0);
	vmwrite(PLE_WINDOW, 0);
	check("PAUSEs far apart", run_at(l2_pause_1000), EXIT_REASON_VMCALL);
	vmwrite(PLE_GAP, 0xffffffff);
	vmwrite(PLE_WINDOW, 0xffffffff);
	check("PAUSE loop, shorter than the window", run_at(l2_pause_1000), EXIT_REASON_VMCALL);
	/* The other control asks for all of them. */
	set_cpu(CPU_BASED_PAUSE_EXITING);
	check("PAUSE exiting as well", run_at(l2_pause_1000), EXIT_REASON_PAUSE_INSTRUCTION);
}

void group_time(void)
{
	tsc();
	timer();
	mtf();
	pause_loop();
}
