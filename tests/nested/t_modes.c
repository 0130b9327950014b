// SPDX-License-Identifier: MIT
/*
 * Where L2 may be: activity states, compatibility mode, 32-bit paging, PAE with its PDPTEs, and
 * with "unrestricted guest" protected mode without paging and real mode. 27.3, 27.3.1.5-6, 27.5
 */
#include "l1.h"

static void activity(void)
{
	u64 misc = caps[5];

	vmx_fresh();
	/* Events wake from HLT: an injected one is delivered, and pushes the RIP. */
	if (misc & BIT(6)) {
		vmwrite(GUEST_ACTIVITY_STATE, 1);
		vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0x80000202);
		l2_fixup = (u64)l2_done;
		check("HLT and an injected NMI", run_at((void *)0x12345), EXIT_REASON_VMCALL);
		check("HLT and an injected NMI, vector", l2.vector, 2);
		check("HLT and an injected NMI, rip", l2.rip, 0x12345);
		check("HLT and an injected NMI, activity", vmread(GUEST_ACTIVITY_STATE), 0);
		/* An external interrupt that exits wakes it. */
		if (may_pin(PIN_BASED_EXT_INTR_MASK)) {
			vmx_fresh();
			wrmsr(0x1b, rdmsr(0x1b) | BIT(10) | BIT(11));
			wrmsr(0x80f, 0x1ff);
			set_pin(PIN_BASED_EXT_INTR_MASK);
			if (may_exit(VM_EXIT_ACK_INTR_ON_EXIT))
				set_exit(VM_EXIT_ACK_INTR_ON_EXIT);
			vmwrite(GUEST_ACTIVITY_STATE, 1);
			wrmsr(0x830, 0x40000 | 0x81);
			check("HLT and an interrupt", run_at(l2_done),
			      EXIT_REASON_EXTERNAL_INTERRUPT);
			check("HLT and an interrupt, rip", vmread(GUEST_RIP), (u64)l2_done);
			if (may_exit(VM_EXIT_ACK_INTR_ON_EXIT)) {
				check("HLT and an interrupt, vector", vmread(VM_EXIT_INTR_INFO),
				      0x80000081);
			} else {
				asm volatile("sti\n\tnop\n\tcli");
			}
			wrmsr(0x80b, 0);
		}
	} else {
		vmwrite(GUEST_ACTIVITY_STATE, 1);
		check("HLT", run_at(l2_done), FAILED | EXIT_REASON_INVALID_STATE);
	}
	/* L2's own HLT with an interrupt for L1. */
	if (may_pin(PIN_BASED_VMX_PREEMPTION_TIMER)) {
		extern char m_hlt[], m_hlt_n[];

		u64 r = 0;

		/* On a busy machine the first ones may expire before HLT. */
		for (u64 ticks = 0x10000; ticks <= 0x1000000; ticks *= 4) {
			vmx_fresh();
			set_pin(PIN_BASED_VMX_PREEMPTION_TIMER);
			vmwrite(VMX_PREEMPTION_TIMER_VALUE, ticks);
			r = run_at(m_hlt);
			if (vmread(GUEST_ACTIVITY_STATE) == 1)
				break;
		}
		check("L2 halts", r, EXIT_REASON_PREEMPTION_TIMER);
		check("L2 halts, activity", vmread(GUEST_ACTIVITY_STATE), 1);
		check("L2 halts, rip", vmread(GUEST_RIP), (u64)m_hlt_n);
	}
	for (unsigned state = 2; state <= 3; state++) {
		vmx_fresh();
		vmwrite(GUEST_ACTIVITY_STATE, state);
		if (!(misc & BIT(5 + state))) {
			check(state == 2 ? "shutdown not advertised"
					 : "wait-for-SIPI not advertised",
			      run_at(l2_done), FAILED | EXIT_REASON_INVALID_STATE);
			continue;
		}
		if (state == 2 && may_pin(PIN_BASED_NMI_EXITING)) {
			skip("shutdown", "needs an NMI from elsewhere");
			continue;
		}
		skip("wait-for-SIPI", "needs a second processor");
	}
	vmx_fresh();
	vmwrite(GUEST_ACTIVITY_STATE, 4);
	check("state 4", run_at(l2_done), FAILED | EXIT_REASON_INVALID_STATE);
}
BLOB(m_hlt, "cli", "hlt");

/* ---- 32-bit L2 ---- */

asm(".pushsection .text\n .code32\n"
    "m_code32: mov $0x11223344, %eax\n add $1, %eax\n mov %cs, %ecx\n vmcall\n jmp .\n"
    "m_store32: mov %eax, (%ebx)\n mov (%ebx), %ecx\n vmcall\n jmp .\n"
    "m_cr3: mov %cr3, %eax\n mov %eax, %cr3\n vmcall\n jmp .\n"
    ".code16\n m_code16: mov $0x1234, %ax\n add %ax, %ax\n mov %cs, %cx\n vmcall\n jmp .\n"
    "m_int16: int $0x20\n"
    "m_cli16: hlt\n"
    ".code64\n .popsection");
extern char m_code32[], m_store32[], m_cr3[], m_code16[], m_int16[], m_cli16[];

static u64 *pdpt, *pd_low;

/* Legacy protected mode; paging as CR0 and CR4 get it afterwards. */
static void guest32(void)
{
	vmx_fresh();
	clear_entry(VM_ENTRY_IA32E_MODE);
	vmwrite(GUEST_IA32_EFER, 0);
	vmwrite(GUEST_CS_SELECTOR, CS32);
	vmwrite(GUEST_CS_AR_BYTES, 0xc09b);
	clear_cpu(CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING);
}

static void pae(void)
{
	bool ept = may_cpu2(SECONDARY_EXEC_ENABLE_EPT);

	/* Four PDPTEs of which bits 1, 2 and 5 to 8 are reserved. */
	pdpt = pages(1, 4096);
	pd_low = page_dirs;
	for (unsigned i = 0; i < 4; i++)
		pdpt[i] = ((u64)pd_low + i * 4096) | 1;
	guest32();
	vmwrite(GUEST_CR3, (u64)pdpt);
	check("PAE", run_at(m_code32), EXIT_REASON_VMCALL);
	check("PAE, rax", regs.rax, 0x11223345);
	check("PAE, cs", regs.rcx, CS32);
	check("PAE, CR3 saved", vmread(GUEST_CR3), (u64)pdpt);
	check("PAE, no IA-32e mode", vmread(VM_ENTRY_CONTROLS) & VM_ENTRY_IA32E_MODE, 0);
	pdpt[2] |= BIT(6);
	check("PAE, bad PDPTE", run_at(m_code32), FAILED | EXIT_REASON_INVALID_STATE);
	check("PAE, bad PDPTE, qualification", vmread(EXIT_QUALIFICATION), 2);
	pdpt[2] &= ~BIT(0);
	check("PAE, absent PDPTE with other bits", run_at(m_code32), EXIT_REASON_VMCALL);
	/* Loading CR3 in L2 checks them: #GP. */
	pdpt[2] |= BIT(0);
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	pdpt[2] = ((u64)pd_low + 2 * 4096) | 1;
	check("PAE, MOV to CR3", run_at(m_cr3), EXIT_REASON_VMCALL);
	if (!ept) {
		skip("PAE with EPT", "not advertised");
		return;
	}
	guest32();
	vmwrite(GUEST_CR3, (u64)pdpt);
	set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
	vmwrite(EPT_POINTER, ept_identity());
	for (unsigned i = 0; i < 4; i++)
		vmwrite(GUEST_PDPTR0 + 2 * i, pdpt[i]);
	check("PAE and EPT", run_at(m_code32), EXIT_REASON_VMCALL);
	/* The VMCS's PDPTEs count, not those in memory. */
	{
		u64 *pd = page(), *data = page(), keep = pdpt[1];

		pd[0] = (100ull << 20) | 0xe3;
		*(u64 *)(100ull << 20) = 0;
		*data = 0;
		vmwrite(GUEST_PDPTR1, (u64)pd | 1);
		regs.rbx = 1ull << 30;
		regs.rax = 0x5a5a;
		check("PAE and EPT, PDPTE of the VMCS", run_at(m_store32), EXIT_REASON_VMCALL);
		check("PAE and EPT, stored", *(u32 *)(100ull << 20), 0x5a5a);
		check("PAE and EPT, PDPTE saved", vmread(GUEST_PDPTR1), (u64)pd | 1);
		/* MOV to CR3 loads them from memory. */
		check("PAE and EPT, MOV to CR3", run_at(m_cr3), EXIT_REASON_VMCALL);
		check("PAE and EPT, PDPTE loaded", vmread(GUEST_PDPTR1), keep);
		vmwrite(GUEST_PDPTR1, 1 | BIT(7));
		check("PAE and EPT, bad PDPTE", run_at(m_code32),
		      FAILED | EXIT_REASON_INVALID_STATE);
		check("PAE and EPT, bad PDPTE, qualification", vmread(EXIT_QUALIFICATION), 2);
		vmwrite(GUEST_PDPTR1, 0);
	}
}

static void paging32(void)
{
	u32 *pd = page();

	for (u32 i = 0; i < 1024; i++)
		pd[i] = i << 22 | 0xe7;
	guest32();
	vmwrite(GUEST_CR3, (u64)pd);
	vmwrite(GUEST_CR4, (vmread(GUEST_CR4) & ~BIT(5)) | BIT(4));
	check("32-bit paging", run_at(m_code32), EXIT_REASON_VMCALL);
	check("32-bit paging, rax", regs.rax, 0x11223345);
}

static void compatibility(void)
{
	vmx_fresh();
	vmwrite(GUEST_CS_SELECTOR, CS32);
	vmwrite(GUEST_CS_AR_BYTES, 0xc09b);
	check("compatibility mode", run_at(m_code32), EXIT_REASON_VMCALL);
	check("compatibility mode, cs", regs.rcx, CS32);
	check("compatibility mode, rax", regs.rax, 0x11223345);
}

static void unrestricted(void)
{
	u8 *low = (u8 *)0x8000;

	if (!may_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST)) {
		skip("unrestricted guest", "not advertised");
		guest32();
		vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~BIT(31));
		check("CR0.PG 0 is refused", run_at(m_code32), FAILED | EXIT_REASON_INVALID_STATE);
		return;
	}
	guest32();
	set_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST);
	vmwrite(EPT_POINTER, ept_identity());
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~BIT(31));
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~BIT(5));
	check("no paging", run_at(m_code32), EXIT_REASON_VMCALL);
	check("no paging, rax", regs.rax, 0x11223345);
	check("no paging, CR0 saved", vmread(GUEST_CR0) & (BIT(31) | BIT(0)), 1);

	/* Real mode: code at 0800:0000, interrupt 20H at 0800:0040. */
	memcpy(low, m_code16, 64);
	memcpy(low + 0x80, m_int16, 16);
	*(u32 *)0x80 = 0x0800 << 16 | 0x0000;
	vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~BIT(0));
	for (unsigned i = 0; i < 6; i++) {
		vmwrite(GUEST_ES_SELECTOR + 2 * i, i == 1 ? 0x800 : 0);
		vmwrite(GUEST_ES_BASE + 2 * i, i == 1 ? 0x8000 : 0);
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
		vmwrite(GUEST_ES_AR_BYTES + 2 * i, i == 1 ? 0x9b : 0x93);
	}
	vmwrite(GUEST_IDTR_BASE, 0);
	vmwrite(GUEST_IDTR_LIMIT, 0x3ff);
	vmwrite(GUEST_RSP, 0x7000);
	vmwrite(GUEST_RIP, 0);
	regs.rax = regs.rcx = 0;
	check("real mode", run(), EXIT_REASON_VMCALL);
	check("real mode, ax", regs.rax, 0x2468);
	check("real mode, cs", regs.rcx & 0xffff, 0x800);
	check("real mode, CR0 saved", vmread(GUEST_CR0) & (BIT(31) | BIT(0)), 0);
	/* An interrupt goes through the vector table. */
	regs.rax = 0;
	vmwrite(GUEST_RIP, 0x80);
	check("real mode, int", run(), EXIT_REASON_VMCALL);
	check("real mode, int, ax", regs.rax, 0x2468);
	check("real mode, int, return address", *(u16 *)(0x7000 - 6), 0x82);
	check("real mode, int, sp", vmread(GUEST_RSP), 0x7000 - 6);
	/* The same injected. */
	vmwrite(GUEST_RSP, 0x7000);
	vmwrite(GUEST_RIP, 0x80);
	regs.rax = 0;
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0x80000420);
	vmwrite(VM_ENTRY_INSTRUCTION_LEN, 2);
	check("real mode, injected", run(), EXIT_REASON_VMCALL);
	check("real mode, injected, ax", regs.rax, 0x2468);
	check("real mode, injected, return address", *(u16 *)(0x7000 - 6), 0x82);
}

void group_modes(void)
{
	activity();
	compatibility();
	paging32();
	pae();
	unrestricted();
}
