// SPDX-License-Identifier: MIT
/*
 * Features that have tables of their own in memory: EPTP switching by VMFUNC (26.5.6.3),
 * page-modification logging (29.3.6), posted interrupts (30.6); and which of several events comes
 * first (26.2, 27.7).
 */
#include "l1.h"

static u64 ev, seen[4], function, index_;
static volatile u64 *target;

static void l2_vmfunc(void)
{
	seen[0] = *target;
	asm volatile(".byte 0x0f, 0x01, 0xd4" : : "a"(function), "c"(index_) : "memory");
	seen[1] = *target;
}

static void l2_vmfunc_alone(void)
{
	asm volatile(".byte 0x0f, 0x01, 0xd4" : : "a"(function), "c"(index_) : "memory");
}

/* ---- VMFUNC ---- */

static void expect_vmfunc(const char *name, u64 f, u64 i, u64 reason)
{
	function = f;
	index_ = i;
	l2_fixup = reason == EXIT_REASON_VMCALL ? (u64)l2_done : 0;
	check(name, run_at(l2_vmfunc_alone), reason);
	l2_fixup = 0;
}

static void vmfunc(void)
{
	u64 *list, a, b, one, two;

	if (!may_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VMFUNC) ||
	    !(rdmsr(MSR_VMX_VMFUNC) & 1)) {
		skip("VMFUNC", "not advertised");
		return;
	}
	list = page();
	a = (u64)page();
	b = (u64)page();
	one = ept_identity();
	two = ept_identity();
	*(u64 *)a = 0xaaaa;
	*(u64 *)b = 0xbbbb;
	*ept_entry(two, a, 1) = b | EPT_MT_WB | 7;
	list[0] = one;
	list[1] = two;
	list[2] = two | BIT(7); /* reserved: 25.6.11 */
	list[3] = (two & ~7ull) | 1;
	target = (u64 *)a;
	vmx_fresh();
	set_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VMFUNC);
	vmwrite(EPT_POINTER, one);
	vmwrite(VM_FUNCTION_CONTROL, 1);
	vmwrite(EPTP_LIST_ADDRESS, (u64)list);
	function = 0;
	index_ = 1;
	check("EPTP switching", run_at(l2_vmfunc), EXIT_REASON_VMCALL);
	check("EPTP switching, before", seen[0], 0xaaaa);
	check("EPTP switching, after", seen[1], 0xbbbb);
	check("EPTP switching, EPT pointer", vmread(EPT_POINTER), two);
	index_ = 0;
	check("EPTP switching back", run_at(l2_vmfunc), EXIT_REASON_VMCALL);
	check("EPTP switching back, before", seen[0], 0xbbbb);
	check("EPTP switching back, after", seen[1], 0xaaaa);
	check("EPTP switching back, EPT pointer", vmread(EPT_POINTER), one);
	/* An entry that VM entry refuses, an index outside the list, a function that is off. */
	expect_vmfunc("EPTP with a reserved bit", 0, 2, EXIT_REASON_VMFUNC);
	check("length", vmread(VM_EXIT_INSTRUCTION_LEN), 3);
	expect_vmfunc("EPTP with a bad memory type", 0, 3, EXIT_REASON_VMFUNC);
	expect_vmfunc("EPTP index 512", 0, 512, EXIT_REASON_VMFUNC);
	expect_vmfunc("function 1", 1, 0, EXIT_REASON_VMFUNC);
	expect_vmfunc("function 63", 63, 0, EXIT_REASON_VMFUNC);
	check("EPT pointer as before", vmread(EPT_POINTER), one);
	expect_vmfunc("function 64", 64, 0, EXIT_REASON_VMCALL);
	check("function 64, #UD", l2.vector, 6);
	clear_cpu2(SECONDARY_EXEC_ENABLE_VMFUNC);
	expect_vmfunc("VMFUNC that is off", 0, 1, EXIT_REASON_VMCALL);
	check("VMFUNC that is off, #UD", l2.vector, 6);
}

/* ---- PML ---- */

static void l2_write(void)
{
	*target = 1;
}

static void l2_read(void)
{
	seen[0] = *target;
}

static void pml(void)
{
	u64 eptp, *log, pa, *e;

	if (!may_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_PML) ||
	    !(ev & VMX_EPT_AD)) {
		skip("PML", "not advertised");
		return;
	}
	log = page();
	pa = (u64)page();
	eptp = ept_identity() | EPTP_AD;
	e = ept_entry(eptp, pa, 1);
	target = (u64 *)(pa + 0x248);
	vmx_fresh();
	set_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_PML);
	vmwrite(EPT_POINTER, eptp);
	vmwrite(PML_ADDRESS, (u64)log);
	vmwrite(GUEST_PML_INDEX, 511);
	/* Stack, page tables and what is read into become dirty. */
	check("PML", run_at(l2_write), EXIT_REASON_VMCALL);
	check("PML, warm", run_at(l2_read), EXIT_REASON_VMCALL);
	check("PML, something is logged", (u16)vmread(GUEST_PML_INDEX) < 511, 1);
	*e &= ~(u64)(EPT_A | EPT_D);
	invept(2, 0, 0);
	memset(log, 0, 4096);
	vmwrite(GUEST_PML_INDEX, 300);
	check("PML, read", run_at(l2_read), EXIT_REASON_VMCALL);
	check("PML, read is not logged", vmread(GUEST_PML_INDEX), 300);
	check("PML, write", run_at(l2_write), EXIT_REASON_VMCALL);
	check("PML, write, index", vmread(GUEST_PML_INDEX), 299);
	check("PML, write, entry", log[300], pa);
	check("PML, dirty", *e & EPT_D, EPT_D);
	check("PML, write again", run_at(l2_write), EXIT_REASON_VMCALL);
	check("PML, write again is not logged", vmread(GUEST_PML_INDEX), 299);
	/* Full: before the flag is set and before the write. */
	for (u64 i = 0; i < 2; i++) {
		*e &= ~(u64)EPT_D;
		invept(2, 0, 0);
		*target = 0;
		vmwrite(GUEST_PML_INDEX, i ? 512 : 0xffff);
		check("PML, full", run_at(l2_write), EXIT_REASON_PML_FULL);
		check("PML, full, qualification", vmread(EXIT_QUALIFICATION), 0);
		check("PML, full, not written", *target, 0);
		check("PML, full, not dirty", *e & EPT_D, 0);
		check("PML, full, index", vmread(GUEST_PML_INDEX), i ? 512 : 0xffff);
	}
	vmwrite(GUEST_PML_INDEX, 0);
	check("PML, last entry", run(), EXIT_REASON_VMCALL);
	check("PML, last entry, index", vmread(GUEST_PML_INDEX), 0xffff);
	check("PML, last entry, address", log[0], pa);
	check("PML, last entry, written", *target, 1);
}

/* ---- Posted interrupts ---- */

#define X2APIC_EOI 0x80b
#define X2APIC_IRR 0x820
#define X2APIC_ICR 0x830
#define NOTIFY	   0x65

static u64 *desc; /* PIR: 256 bits; then ON in bit 0 of the next word */

static void l2_sti(void)
{
	asm volatile("sti\n\tnop\n\tnop\n\tcli");
}

static void l2_notify(void)
{
	wrmsr(X2APIC_ICR, 0x40000 | NOTIFY);
	asm volatile("sti\n\tnop\n\tnop\n\tcli");
}

static void posted(void)
{
	u32 *vapic;

	if (!may_pin(PIN_BASED_POSTED_INTR | PIN_BASED_EXT_INTR_MASK) ||
	    !may_cpu2(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY | SECONDARY_EXEC_APIC_REGISTER_VIRT) ||
	    !may_cpu(CPU_BASED_TPR_SHADOW | CPU_BASED_USE_MSR_BITMAPS)) {
		skip("posted interrupts", "not advertised");
		return;
	}
	vapic = page();
	desc = page();
	vmx_fresh();
	set_pin(PIN_BASED_POSTED_INTR | PIN_BASED_EXT_INTR_MASK);
	set_exit(VM_EXIT_ACK_INTR_ON_EXIT);
	set_cpu(CPU_BASED_TPR_SHADOW | CPU_BASED_USE_MSR_BITMAPS);
	clear_cpu(CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING);
	set_cpu2(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY | SECONDARY_EXEC_APIC_REGISTER_VIRT);
	vmwrite(MSR_BITMAP, (u64)page());
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)vapic);
	vmwrite(POSTED_INTR_DESC_ADDR, (u64)desc);
	vmwrite(POSTED_INTR_NV, NOTIFY);
	/* The notification is there before the entry. */
	desc[1] = BIT(0x71 - 64);
	desc[4] = 1;
	wrmsr(X2APIC_ICR, 0x40000 | NOTIFY);
	check("notified before entry", run_at(l2_sti), EXIT_REASON_VMCALL);
	check("notified before entry, taken", l2.irqs, 1);
	check("notified before entry, vector", l2.irq_vector, 0x71);
	check("PIR", desc[1], 0);
	check("ON", desc[4] & 1, 0);
	check("VISR", vapic[(0x100 + 0x10 * 3) / 4], BIT(0x11));
	check("SVI", vmread(GUEST_INTR_STATUS), 0x7100);
	check("the notification is gone", rdmsr(X2APIC_IRR + 3) >> 5 & 1, 0);
	/* It comes while L2 runs. */
	memset(vapic, 0, 4096);
	vmwrite(GUEST_INTR_STATUS, 0);
	desc[1] = BIT(0x72 - 64);
	desc[4] = 1;
	check("notified in L2", run_at(l2_notify), EXIT_REASON_VMCALL);
	check("notified in L2, taken", l2.irqs, 1);
	check("notified in L2, vector", l2.irq_vector, 0x72);
	check("PIR", desc[1], 0);
	check("ON", desc[4] & 1, 0);
	/* Another vector exits as ever. */
	wrmsr(X2APIC_ICR, 0x40000 | 0x66);
	check("another vector", run_at(l2_sti), EXIT_REASON_EXTERNAL_INTERRUPT);
	check("another vector, which", vmread(VM_EXIT_INTR_INFO) & 0xff, 0x66);
	wrmsr(X2APIC_EOI, 0);
}

/* ---- Priorities ---- */

BLOB(p_nop, "", "nop");

static void priorities(void)
{
	const u64 db = INTR_INFO_VALID | 3 << 8 | 1;
	bool timer = may_pin(PIN_BASED_VMX_PREEMPTION_TIMER);

	if (!may_cpu(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING) ||
	    !may_pin(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS | PIN_BASED_EXT_INTR_MASK)) {
		skip("priorities", "not advertised");
		return;
	}
	/* All at once; each exit takes the first away. */
	vmx_fresh();
	set_pin(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS | PIN_BASED_EXT_INTR_MASK);
	set_cpu(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING);
	vmwrite(EXCEPTION_BITMAP, BIT(1));
	vmwrite(GUEST_RFLAGS, 0x202);
	wrmsr(X2APIC_ICR, 0x40000 | 0x73);
	if (timer) {
		set_pin(PIN_BASED_VMX_PREEMPTION_TIMER);
		vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
	}
	vmwrite(GUEST_PENDING_DBG_EXCEPTIONS, BIT(14));
	/* Injected, MTF is pending: 27.6.2. */
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_VALID | 7 << 8);
	if (may_cpu(CPU_BASED_MONITOR_TRAP_FLAG)) {
		check("first MTF", run_at(p_nop), EXIT_REASON_MONITOR_TRAP_FLAG);
		check("the debug trap waits", vmread(GUEST_PENDING_DBG_EXCEPTIONS), BIT(14));
	}
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0);
	check("then the debug trap", run_at(p_nop), EXIT_REASON_EXCEPTION_NMI);
	check("then the debug trap, information", vmread(VM_EXIT_INTR_INFO), db);
	check("then the debug trap, BS", vmread(EXIT_QUALIFICATION), BIT(14));
	vmwrite(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	if (timer) {
		check("then the timer", run_at(p_nop), EXIT_REASON_PREEMPTION_TIMER);
		clear_pin(PIN_BASED_VMX_PREEMPTION_TIMER);
	}
	check("then the NMI window", run_at(p_nop), EXIT_REASON_NMI_WINDOW);
	clear_cpu(CPU_BASED_NMI_WINDOW_EXITING);
	check("then the interrupt window", run_at(p_nop), EXIT_REASON_INTERRUPT_WINDOW);
	clear_cpu(CPU_BASED_INTR_WINDOW_EXITING);
	check("then the interrupt", run_at(p_nop), EXIT_REASON_EXTERNAL_INTERRUPT);
	check("rip", vmread(GUEST_RIP), (u64)p_nop);
	asm volatile("sti\n\tnop\n\tcli");
	wrmsr(X2APIC_EOI, 0);
	check("then nothing", run_at(p_nop), EXIT_REASON_VMCALL);
}

void group_features(void)
{
	u64 base = rdmsr(0x1b);

	ev = may_cpu2(SECONDARY_EXEC_ENABLE_EPT) ? rdmsr(MSR_VMX_EPT_VPID) : 0;
	vmfunc();
	pml();
	wrmsr(0x1b, base | BIT(10) | BIT(11));
	wrmsr(0x80f, 0x1ff);
	posted();
	priorities();
}
