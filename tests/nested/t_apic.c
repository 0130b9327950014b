// SPDX-License-Identifier: MIT
/*
 * The virtual-APIC page: TPR shadow and its threshold, APIC-access page, x2APIC mode, APIC-register
 * virtualization and virtual-interrupt delivery. Chapter 30 of vol. 3C
 */
#include "l1.h"

static u32 *vapic;
static u64 seen, value;
static volatile u32 *target;

#define TPR (0x80 / 4)

static void l2_read_cr8(void)
{
	seen = READ_REG(cr8);
}

static void l2_write_cr8(void)
{
	WRITE_REG(cr8, value);
}

static void l2_read(void)
{
	seen = *target;
}

static void l2_write(void)
{
	*target = (u32)value;
}

static void l2_rdmsr(void)
{
	seen = rdmsr(0x808);
}

static void l2_wrmsr(void)
{
	wrmsr(0x808, value);
}

static void l2_sti(void)
{
	asm volatile("sti\n\tnop\n\tnop\n\tcli");
}

static void start(void)
{
	vmx_fresh();
	memset(vapic, 0, 4096);
	set_cpu(CPU_BASED_TPR_SHADOW);
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)vapic);
	clear_cpu(CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING);
}

static void tpr(void)
{
	u64 own = READ_REG(cr8);

	start();
	vapic[TPR] = 0x50;
	check("CR8 read", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	check("CR8 read, value", seen, 5);
	value = 9;
	check("CR8 write", run_at(l2_write_cr8), EXIT_REASON_VMCALL);
	check("CR8 write, VTPR", vapic[TPR], 0x90);
	check("CR8 of L1", READ_REG(cr8), own);
	/* 30.1.1: below the threshold, after the instruction. */
	vmwrite(TPR_THRESHOLD, 7);
	value = 7;
	check("CR8 write at the threshold", run_at(l2_write_cr8), EXIT_REASON_VMCALL);
	value = 6;
	check("CR8 write below the threshold", run_at(l2_write_cr8),
	      EXIT_REASON_TPR_BELOW_THRESHOLD);
	check("VTPR below the threshold", vapic[TPR], 0x60);
	/* 27.2.1.1: threshold above VTPR on entry. */
	vapic[TPR] = 0x60;
	check("threshold above VTPR", run_at(l2_read_cr8), NOENTRY(VALID(7)));
	vapic[TPR] = 0x70;
	check("threshold equal to VTPR", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	/* Reserved bits of CR8: #GP. */
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	value = 0x10;
	check("CR8 reserved bits", run_at(l2_write_cr8), EXIT_REASON_EXCEPTION_NMI);
	/* CR8 exiting comes before the shadow. */
	if (may_cpu(CPU_BASED_CR8_STORE_EXITING)) {
		set_cpu(CPU_BASED_CR8_STORE_EXITING);
		check("CR8-store exiting", run_at(l2_read_cr8), EXIT_REASON_CR_ACCESS);
	}
}

static void l2_lowers_vtpr(void)
{
	vapic[TPR] = 0x20;
	/* A page that nobody has touched: its violation is no affair of L1's, and L2 runs on. */
	*target = 1;
	seen = READ_REG(cr8);
	WRITE_REG(cr8, 1ull);
}

/* Only an entry and writes of TPR compare it with the threshold (30.1.1, 27.2.1.1): writing VTPR in
 * memory does not, nor does an exit that L1 has no part in. */
static void vtpr_in_memory(void)
{
	start();
	if (may_cpu2(SECONDARY_EXEC_ENABLE_EPT)) {
		set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
		vmwrite(EPT_POINTER, ept_identity());
	}
	vapic[TPR] = 0x70;
	vmwrite(TPR_THRESHOLD, 7);
	target = (u32 *)page();
	check("VTPR lowered in memory", run_at(l2_lowers_vtpr), EXIT_REASON_TPR_BELOW_THRESHOLD);
	check("VTPR lowered in memory, seen", seen, 2);
	check("VTPR lowered in memory, entry", run(), NOENTRY(VALID(7)));
	vapic[TPR] = 0x70;
	value = 7;
	check("VTPR raised in memory", run_at(l2_write_cr8), EXIT_REASON_VMCALL);
	value = 6;
	check("VTPR raised in memory, threshold", run_at(l2_write_cr8),
	      EXIT_REASON_TPR_BELOW_THRESHOLD);
}

/* What an entry looks up it looks up again when the field, a control, or the current VMCS changes.
 */
static void pages_change(void)
{
	u32 *second = page(), *third = page();
	u64 *other = page(), cpu;

	start();
	vapic[TPR] = 0x10;
	second[TPR] = 0x20;
	third[TPR] = 0x30;
	for (unsigned i = 0; i < 3; i++) {
		check("first page", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
		check("first page, CR8", seen, 1);
	}
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)second);
	check("second page", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	check("second page, CR8", seen, 2);
	/* Without a page, and with the one that was given meanwhile. */
	cpu = vmread(CPU_BASED_VM_EXEC_CONTROL);
	if (may_cpu(CPU_BASED_CR8_STORE_EXITING)) {
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			(cpu & ~(u64)CPU_BASED_TPR_SHADOW) | CPU_BASED_CR8_STORE_EXITING);
		vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)third);
		check("no page", run_at(l2_read_cr8), EXIT_REASON_CR_ACCESS);
		vmwrite(CPU_BASED_VM_EXEC_CONTROL, cpu);
		check("third page", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
		check("third page, CR8", seen, 3);
		vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)second);
	}
	/* Another VMCS, which has the first page: a copy of this one's region. */
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)vapic);
	vmclear((u64)vmcs_page);
	memcpy(other, vmcs_page, 4096);
	vmx_load(vmcs_page);
	vmwrite(VIRTUAL_APIC_PAGE_ADDR, (u64)second);
	check("loaded again", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	check("loaded again, CR8", seen, 2);
	vmx_load(other);
	check("other VMCS", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	check("other VMCS, CR8", seen, 1);
	vmx_load(vmcs_page);
	check("first VMCS", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	check("first VMCS, CR8", seen, 2);
}

static void access_page(bool ept)
{
	u32 *page_of_apic = (u32 *)(120ull << 20);
	const char *n = ept ? "EPT" : "no EPT";

	if (!may_cpu2(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES)) {
		skip("APIC-access page", "not advertised");
		return;
	}
	if (ept && !may_cpu2(SECONDARY_EXEC_ENABLE_EPT))
		return;
	start();
	if (ept) {
		set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
		/* An EPT of its own: the page is 4 KiB there. */
		u64 eptp = ept_identity();

		ept_entry(eptp, (u64)page_of_apic, 1);
		vmwrite(EPT_POINTER, eptp);
	}
	set_cpu2(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
	vmwrite(APIC_ACCESS_ADDR, (u64)page_of_apic);
	target = page_of_apic + 0x300 / 4;
	check2(n, "APIC read", run_at(l2_read), EXIT_REASON_APIC_ACCESS);
	/* Table 28-6: offset, linear read. */
	check2(n, "APIC read, qualification", vmread(EXIT_QUALIFICATION), 0x300 | 0 << 12);
	check2(n, "APIC write", run_at(l2_write), EXIT_REASON_APIC_ACCESS);
	check2(n, "APIC write, qualification", vmread(EXIT_QUALIFICATION), 0x300 | 1 << 12);
	target = page_of_apic + 0x3f0 / 4;
	check2(n, "APIC read elsewhere", run_at(l2_read), EXIT_REASON_APIC_ACCESS);
	check2(n, "APIC read elsewhere, qualification", vmread(EXIT_QUALIFICATION), 0x3f0);
	/* The TPR is virtualized: 30.4.2 */
	vapic[TPR] = 0x31;
	target = page_of_apic + TPR;
	check2(n, "TPR read", run_at(l2_read), EXIT_REASON_VMCALL);
	check2(n, "TPR read, value", seen, 0x31);
	value = 0x42;
	check2(n, "TPR write", run_at(l2_write), EXIT_REASON_VMCALL);
	check2(n, "TPR write, VTPR", vapic[TPR], 0x42);
	/* Page beside it is ordinary. */
	target = page_of_apic + 1024;
	check2(n, "next page", run_at(l2_write), EXIT_REASON_VMCALL);
	check2(n, "next page, written", *target, 0x42);
	clear_cpu2(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
	if (ept) {
		invept(2, 0, 0);
	} else {
		invvpid(2, 0, 0);
	}
	target = page_of_apic + 0x300 / 4;
	check2(n, "page without the control", run_at(l2_write), EXIT_REASON_VMCALL);
	check2(n, "page without the control, written", *target, 0x42);
}

static void x2apic(void)
{
	if (!may_cpu2(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE) ||
	    !may_cpu(CPU_BASED_USE_MSR_BITMAPS)) {
		skip("x2APIC mode", "not advertised");
		return;
	}
	start();
	set_cpu(CPU_BASED_USE_MSR_BITMAPS);
	vmwrite(MSR_BITMAP, (u64)page());
	set_cpu2(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE);
	vapic[TPR] = 0x23;
	check("TPR by RDMSR", run_at(l2_rdmsr), EXIT_REASON_VMCALL);
	check("TPR by RDMSR, value", seen, 0x23);
	value = 0x34;
	check("TPR by WRMSR", run_at(l2_wrmsr), EXIT_REASON_VMCALL);
	check("TPR by WRMSR, VTPR", vapic[TPR], 0x34);
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	value = 0x100;
	check("TPR by WRMSR, reserved bits", run_at(l2_wrmsr), EXIT_REASON_EXCEPTION_NMI);
}

static void delivery(void)
{
	u64 status;

	if (!may_cpu2(SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) ||
	    !may_pin(PIN_BASED_EXT_INTR_MASK)) {
		skip("virtual-interrupt delivery", "not advertised");
		return;
	}
	start();
	set_pin(PIN_BASED_EXT_INTR_MASK);
	set_cpu2(SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
	/* Vector 61H is requested: RVI and VIRR. 30.2 */
	vapic[(0x200 + 0x10 * 3) / 4] = BIT(1);
	vmwrite(GUEST_INTR_STATUS, 0x61);
	check("virtual interrupt, IF 0", run_at(l2_read_cr8), EXIT_REASON_VMCALL);
	check("still requested", vmread(GUEST_INTR_STATUS), 0x61);
	check("virtual interrupt", run_at(l2_sti), EXIT_REASON_VMCALL);
	check("virtual interrupt, taken", l2.irqs, 1);
	check("virtual interrupt, vector", l2.irq_vector, 0x61);
	status = vmread(GUEST_INTR_STATUS);
	check("SVI and RVI", status, 0x6100);
	check("VIRR", vapic[(0x200 + 0x10 * 3) / 4], 0);
	check("VISR", vapic[(0x100 + 0x10 * 3) / 4], BIT(1));
	check("VPPR", vapic[0xa0 / 4], 0x60);
}

void group_apic(void)
{
	vapic = page();
	if (!may_cpu(CPU_BASED_TPR_SHADOW)) {
		skip("virtual APIC", "no TPR shadow");
		return;
	}
	tpr();
	vtpr_in_memory();
	pages_change();
	access_page(false);
	access_page(true);
	x2apic();
	delivery();
}
