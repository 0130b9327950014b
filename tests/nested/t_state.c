// SPDX-License-Identifier: MIT
/*
 * The VMCS after exits: what the processor does not change stays bit for bit, through exits that
 * the hypervisor below handles for itself too; guest state is what L2 made it; host state is
 * loaded.
 */
#include "l1.h"

static u64 before[256], after[256];

static void snapshot(u64 *to)
{
	for (unsigned i = 0; i < vmcs_nfields; i++)
		if (vmread_try(vmcs_fields[i], &to[i]))
			to[i] = 0;
}

/* @may: fields that may change, besides the exit information; ends with ~0. */
static void compare(const char *name, const u32 *may)
{
	unsigned changed = 0;

	for (unsigned i = 0; i < vmcs_nfields; i++) {
		u32 f = vmcs_fields[i];
		bool ok = (f >> 10 & 3) == 1 || f == HOST_RSP;

		for (const u32 *m = may; *m != ~0u; m++)
			ok |= *m == f;
		if (before[i] != after[i] && !ok) {
			check2(name, "field that must not change", f, 0);
			check2(name, "its value", after[i], before[i]);
			changed++;
		}
	}
	check2(name, "fields changed", changed, 0);
}

static volatile u64 counter;

/* Page faults, CPU cache of translations, timer ticks of L0: nothing that L1 asked for. */
static void l2_works(void)
{
	volatile u64 *far = (u64 *)(40ull << 20);

	for (u64 i = 0; i < 2000; i++) {
		far[i * 512] = i;
		counter += far[i * 512];
	}
}

BLOB(s_state,
     "mov $0x23, %eax\n mov %eax, %es\n mov %eax, %gs\n lgdt s_gdt(%rip)\n lidt s_idt(%rip)\n"
     "mov $0x501, %eax\n mov %rax, %db7\n mov %cr3, %rax\n or $8, %rax\n mov %rax, %cr3\n"
     "push $0x8d7\n popfq\n",
     "cpuid");
asm(".pushsection .data\ns_gdt: .word 0x57\n.quad gdt\ns_idt: .word 0x7ff\n.quad idt\n.popsection");

static void unchanged(void)
{
	static const u32 rip[] = {GUEST_RFLAGS, GUEST_RIP, GUEST_RSP, ~0u};
	static const u32 full[] = {GUEST_RIP,	      GUEST_RSP,	 GUEST_ES_SELECTOR,
				   GUEST_GS_SELECTOR, GUEST_ES_AR_BYTES, GUEST_GS_AR_BYTES,
				   GUEST_DR7,	      GUEST_RFLAGS,	 GUEST_CR3,
				   GUEST_GDTR_LIMIT,  GUEST_IDTR_LIMIT,	 ~0u};

	vmx_fresh();
	/* Values that the processor has no reason to touch. */
	vmwrite(GUEST_SYSENTER_CS, 0x1230);
	vmwrite(GUEST_SYSENTER_ESP, 0x12345678);
	vmwrite(GUEST_SYSENTER_EIP, 0x87654321);
	vmwrite(TSC_OFFSET, 0x1234567);
	vmwrite(CR0_READ_SHADOW, 0xdeadbeef);
	vmwrite(CR4_READ_SHADOW, 0xfeedface);
	vmwrite_try(CR3_TARGET_VALUE0, 0x4242);
	vmwrite(EXCEPTION_BITMAP, BIT(6) | BIT(13));
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0x5a5a);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0xa5a5a5a5);
	vmwrite(TPR_THRESHOLD, 0);
	vmwrite(GUEST_LDTR_BASE, 0x1234000);
	vmwrite(GUEST_LDTR_LIMIT, 0x777);
	vmwrite(GUEST_LDTR_SELECTOR, 0x48);
	vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, 0x1357);
	vmwrite(VM_ENTRY_INSTRUCTION_LEN, 9);
	check("first entry", run_at(l2_done), EXIT_REASON_VMCALL);
	snapshot(before);
	check("L2 works", run_at(l2_works), EXIT_REASON_VMCALL);
	snapshot(after);
	compare("exits that L1 does not see", rip);
	check("CPUID", run_at(s_state), EXIT_REASON_CPUID);
	snapshot(after);
	compare("an exit", full);
	check("ES selector", vmread(GUEST_ES_SELECTOR), 0x23);
	check("ES access rights", vmread(GUEST_ES_AR_BYTES), 0xc0f3);
	check("GS selector", vmread(GUEST_GS_SELECTOR), 0x23);
	check("GDTR limit", vmread(GUEST_GDTR_LIMIT), 0x57);
	check("IDTR limit", vmread(GUEST_IDTR_LIMIT), 0x7ff);
	check("RFLAGS", vmread(GUEST_RFLAGS), 0x8d7);
	check("CR3", vmread(GUEST_CR3), READ_REG(cr3) | 8);
	if (vmread(VM_EXIT_CONTROLS) & VM_EXIT_SAVE_DEBUG_CONTROLS)
		check("DR7", vmread(GUEST_DR7), 0x501);
	/* What L1 reads after VMCLEAR and VMPTRLD is the same. */
	snapshot(before);
	vmclear((u64)vmcs_page);
	vmptrld((u64)vmcs_page);
	snapshot(after);
	compare("VMCLEAR and VMPTRLD", rip + 3);
	for (unsigned i = 0; i < vmcs_nfields; i++)
		if ((vmcs_fields[i] >> 10 & 3) == 1 && before[i] != after[i])
			check("exit information after VMPTRLD", vmcs_fields[i], 0);
}

/* 28.5: what an exit loads. */
static void host(void)
{
	u64 v;
	u16 tr;
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} d;

	vmx_fresh();
	vmwrite(HOST_IA32_SYSENTER_CS, 0x1234);
	vmwrite(HOST_IA32_SYSENTER_ESP, 0x55550000);
	vmwrite(HOST_IA32_SYSENTER_EIP, 0x66660000);
	vmwrite(HOST_FS_BASE, 0x77770000);
	vmwrite(HOST_GS_BASE, 0xffff888800000000ull);
	vmwrite(GUEST_FS_BASE, 0x1111);
	vmwrite(GUEST_SYSENTER_CS, 0x99);
	WRITE_REG(db7, 0x400);
	vmwrite(GUEST_DR7, 0x455);
	vmwrite(GUEST_RFLAGS, 0x8d7);
	check("entry", run_at(l2_done), EXIT_REASON_VMCALL);
	check("SYSENTER_CS", rdmsr(MSR_SYSENTER_CS), 0x1234);
	check("SYSENTER_ESP", rdmsr(MSR_SYSENTER_ESP), 0x55550000);
	check("SYSENTER_EIP", rdmsr(MSR_SYSENTER_EIP), 0x66660000);
	check("FS base", rdmsr(MSR_FS_BASE), 0x77770000);
	check("GS base", rdmsr(MSR_GS_BASE), 0xffff888800000000ull);
	check("DR7 is 400H", READ_REG(db7), 0x400);
	check("DEBUGCTL is 0", rdmsr(MSR_DEBUGCTL), 0);
	check("CR0", READ_REG(cr0), vmread(HOST_CR0));
	check("CR3", READ_REG(cr3), vmread(HOST_CR3));
	check("CR4", READ_REG(cr4), vmread(HOST_CR4));
	check("EFER", rdmsr(MSR_EFER), vmread(HOST_IA32_EFER));
	asm volatile("sgdt %0" : "=m"(d));
	check("GDTR limit", d.limit, 0xffff);
	check("GDTR base", d.base, (u64)gdt);
	asm volatile("sidt %0" : "=m"(d));
	check("IDTR limit", d.limit, 0xffff);
	asm volatile("str %0" : "=r"(tr));
	check("TR", tr, TSS);
	asm volatile("lar %1, %0" : "=r"(v) : "r"((u64)TSS) : "cc");
	check("TSS in memory", v >> 8 & 0xf, 0xb);
	check("SYSENTER_CS of L2 saved", vmread(GUEST_SYSENTER_CS), 0x99);
	check("FS base of L2 saved", vmread(GUEST_FS_BASE), 0x1111);
	wrmsr(MSR_FS_BASE, 0);
	wrmsr(MSR_GS_BASE, 0);

	/* EFER and PAT by their controls. */
	vmx_fresh();
	if (may_exit(VM_EXIT_SAVE_IA32_EFER)) {
		set_exit(VM_EXIT_SAVE_IA32_EFER);
		vmwrite(GUEST_IA32_EFER, rdmsr(MSR_EFER) & ~BIT(11));
		check("EFER", run_at(l2_done), EXIT_REASON_VMCALL);
		check("EFER saved", vmread(GUEST_IA32_EFER), rdmsr(MSR_EFER) & ~BIT(11));
		check("EFER loaded", rdmsr(MSR_EFER), vmread(HOST_IA32_EFER));
	}
	if (may_exit(VM_EXIT_SAVE_IA32_PAT | VM_EXIT_LOAD_IA32_PAT) &&
	    may_entry(VM_ENTRY_LOAD_IA32_PAT)) {
		u64 pat = rdmsr(MSR_PAT);

		set_exit(VM_EXIT_SAVE_IA32_PAT | VM_EXIT_LOAD_IA32_PAT);
		set_entry(VM_ENTRY_LOAD_IA32_PAT);
		vmwrite(GUEST_IA32_PAT, 0x0606060606060606ull);
		vmwrite(HOST_IA32_PAT, pat);
		check("PAT", run_at(l2_done), EXIT_REASON_VMCALL);
		check("PAT saved", vmread(GUEST_IA32_PAT), 0x0606060606060606ull);
		check("PAT loaded", rdmsr(MSR_PAT), pat);
	}
}

void group_state(void)
{
	unchanged();
	host();
}
