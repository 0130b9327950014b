// SPDX-License-Identifier: MIT
/*
 * Mode-based execute control for EPT and L2: which of its linear addresses are user-mode ones
 * (those with U/S in each of its paging-structure entries, whatever CPL is), its own rights,
 * instructions that are emulated, EPTP switching. 25.6.2, 26.5.6.3, 29.3.3, table 28-7
 */
#include "mbec.h"

static u32 loaded;

static void l2_switch_and_call(void)
{
	asm volatile("vmfunc" : : "a"(0), "c"(1) : "memory");
	((void (*)(void))mbec.target)();
}

static void l2_load(void)
{
	asm volatile("call *%1" : "=&a"(loaded) : "r"(mbec.target), "b"(0xfee00030) : "memory");
}

/* ---- L2's own rights come first ---- */

static void smep(void)
{
	u64 old = *mbec.entry[1];
	u32 r[4];

	cpuid(7, 0, r);
	mbec_start(true);
	/* CPL 3 does not reach supervisor pages, whatever EPT says. */
	for (u64 set = 3; set < 16; set += 4) {
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | mbec_bits(set);
		mbec_flush();
		mbec.target = (u64 *)(LINEAR + SUPER + INT3);
		check("CPL 3 in a supervisor page", mbec_run(mbec_user), EXIT_REASON_VMCALL);
		check("CPL 3 in a supervisor page, #PF", l2.vector << 16 | (l2.error & ~0x10ull),
		      14 << 16 | 5);
	}
	if (!(r[1] & BIT(7)) || !(caps[MSR_VMX_CR4_FIXED1 - MSR_VMX_BASIC] & BIT(20))) {
		skip("SMEP", "not there");
		*mbec.entry[1] = old;
		mbec_flush();
		return;
	}
	mbec_start(true);
	vmwrite(GUEST_CR4, vmread(GUEST_CR4) | BIT(20));
	for (u64 set = 3; set < 16; set += 4) {
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | mbec_bits(set);
		mbec_flush();
		mbec_try("SMEP", &mbec_accesses[FETCH_3], set);
		mbec_try("SMEP", &mbec_accesses[FETCH_SUPER], set);
		mbec_try("SMEP", &mbec_accesses[FETCH_SUPER2], set);
		mbec.target = (u64 *)(LINEAR + USER + RET);
		l2_fixup = (u64)l2_done;
		check("SMEP, user page", mbec_run(mbec_call), EXIT_REASON_VMCALL);
		check("SMEP, user page, #PF", l2.vector << 16 | l2.error, 14 << 16 | 0x11);
		check("SMEP, user page, address", l2.cr2, LINEAR + USER + RET);
		l2_fixup = 0;
	}
	*mbec.entry[1] = old;
	mbec_flush();
}

/* ---- The program itself ---- */

asm(".pushsection .text\n .code32\n"
    "b_code32: mov $0x11223344, %eax\n add $1, %eax\n vmcall\n jmp .\n"
    ".code64\n .popsection");
extern char b_code32[];

static void program(void)
{
	u64 q;

	q = 4 | 3 << 3 | EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED;
	for (unsigned i = 0; i < 2; i++) {
		mbec_execution(mbec.eptp, i ? EPT_XU : EPT_X);
		mbec_flush();
		/* In supervisor pages, then (L1's tables) in user pages. */
		mbec_start(true);
		if (i) {
			check("supervisor, XU", run_at(l2_done), EXIT_REASON_EPT_VIOLATION);
			check("supervisor, XU, qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
			      q | EPT_VIOLATION_XU);
			check("supervisor, XU, address", vmread(GUEST_LINEAR_ADDRESS),
			      (u64)l2_done);
		} else {
			check("supervisor, X", run_at(l2_done), EXIT_REASON_VMCALL);
		}
		vmwrite(GUEST_CR3, READ_REG(cr3));
		if (i) {
			check("user, XU", run_at(l2_done), EXIT_REASON_VMCALL);
		} else {
			check("user, X", run_at(l2_done), EXIT_REASON_EPT_VIOLATION);
			check("user, X, qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
			      q | BIT(5));
		}
		if (!may_cpu2(SECONDARY_EXEC_UNRESTRICTED_GUEST)) {
			skip("no paging", "no unrestricted guest");
			continue;
		}
		/* Without paging all linear addresses are user-mode ones. */
		set_cpu2(SECONDARY_EXEC_UNRESTRICTED_GUEST);
		clear_entry(VM_ENTRY_IA32E_MODE);
		vmwrite(GUEST_IA32_EFER, 0);
		vmwrite(GUEST_CS_SELECTOR, CS32);
		vmwrite(GUEST_CS_AR_BYTES, 0xc09b);
		vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~BIT(31));
		vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~BIT(5));
		regs.rax = 0;
		if (i) {
			check("no paging, XU", run_at(b_code32), EXIT_REASON_VMCALL);
			check("no paging, XU, rax", regs.rax, 0x11223345);
		} else {
			check("no paging, X", run_at(b_code32), EXIT_REASON_EPT_VIOLATION);
			check("no paging, X, qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
			      q | BIT(5));
		}
	}
	mbec_execution(mbec.eptp, EPT_X | EPT_XU);
	mbec_flush();
}

/* L2's paging structures are data, whatever the fetch is that they serve. */
static void walks(void)
{
	u64 pa = (u64)mbec.super_pte & ~4095ull, *e = ept_entry(mbec.eptp, pa, 1), old = *e,
	    *dir = ept_entry(mbec.eptp, pa, 2);

	*dir |= EPT_XU;
	mbec.target = (u64 *)(LINEAR + SUPER + RET);
	*e = (old & ~(u64)EPT_FULL) | (mbec.ev & VMX_EPT_EXECUTE_ONLY ? EPT_X | EPT_XU : 0);
	mbec_flush();
	mbec_start(true);
	check("page walk", mbec_run(mbec_call), EXIT_REASON_EPT_VIOLATION);
	check("page walk, qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
	      1 | (mbec.ev & VMX_EPT_EXECUTE_ONLY ? BIT(5) | EPT_VIOLATION_XU : 0) |
		      EPT_VIOLATION_GVA_VALID);
	check("page walk, address", vmread(GUEST_PHYSICAL_ADDRESS), (u64)mbec.super_pte);
	*e = (old & ~(u64)EPT_FULL) | EPT_R;
	mbec_flush();
	check("page walk, read-only", mbec_run(mbec_call), EXIT_REASON_VMCALL);
	*mbec.super_pte &= ~BIT(5);
	mbec_start(true);
	check("page walk, accessed flag", mbec_run(mbec_call), EXIT_REASON_EPT_VIOLATION);
	check("page walk, accessed flag, qualification", vmread(EXIT_QUALIFICATION) & 0x1fa,
	      2 | BIT(3) | EPT_VIOLATION_GVA_VALID);
	*mbec.super_pte |= BIT(5);
	*e = old;
	mbec_flush();
}

static void accessed_dirty(void)
{
	const struct access *user = &mbec_accesses[FETCH_3];
	u64 old = *mbec.entry[1];

	if (!(mbec.ev & VMX_EPT_AD)) {
		skip("accessed and dirty flags", "not advertised");
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		bool u = !i;

		if (!u && !(mbec.ev & VMX_EPT_EXECUTE_ONLY))
			continue;
		for (unsigned l = 1; l <= 4; l++)
			*mbec.entry[l] &= ~(u64)(EPT_A | EPT_D);
		*mbec.entry[1] = (*mbec.entry[1] & ~(u64)EPT_FULL) | (u ? EPT_RWX : 0) | EPT_XU;
		mbec_flush();
		mbec_start(true);
		vmwrite(EPT_POINTER, mbec.eptp | EPTP_AD);
		mbec_try(u ? "A/D, fetch" : "A/D, execute-only", user, u ? 15 : 8);
		for (unsigned l = 1; l <= 4; l++)
			check("A/D, flags", *mbec.entry[l] & (EPT_A | EPT_D), EPT_A);
		if (!u)
			continue;
		mbec_try("A/D, write", &mbec_accesses[WRITE], 15);
		check("A/D, write, flags", *mbec.entry[1] & (EPT_A | EPT_D), EPT_A | EPT_D);
		*mbec.entry[1] &= ~(u64)(EPT_D | EPT_XU);
		mbec_flush();
		mbec_try("A/D, XU taken away", user, 7);
		mbec_try("A/D, write once more", &mbec_accesses[WRITE], 7);
		check("A/D, write once more, flags", *mbec.entry[1] & (EPT_A | EPT_D),
		      EPT_A | EPT_D);
	}
	*mbec.entry[1] = old;
	mbec_flush();
}

/* An instruction that the hypervisor below completes is fetched by the same rights. */
static void emulated(void)
{
	static const u64 where[] = {LINEAR + USER + LOAD, LINEAR + SUPER + LOAD};
	u64 old = *mbec.entry[1];
	u32 version = *(volatile u32 *)0xfee00030;

	for (unsigned i = 0; i < 2; i++) {
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | EPT_R | (i ? EPT_X : EPT_XU);
		mbec_flush();
		mbec_start(true);
		mbec.target = (u64 *)where[i];
		loaded = 0;
		check(i ? "load from the APIC, supervisor page" : "load from the APIC, user page",
		      mbec_run(l2_load), EXIT_REASON_VMCALL);
		check("load from the APIC, value", loaded, version);
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | EPT_R | (i ? EPT_XU : EPT_X);
		mbec_flush();
		check("load from the APIC, no right", mbec_run(l2_load), EXIT_REASON_EPT_VIOLATION);
	}
	*mbec.entry[1] = old;
	mbec_flush();
}

static void eptp_switching(void)
{
	u64 *list = page(), *other[5];

	if (!may_cpu2(SECONDARY_EXEC_ENABLE_VMFUNC) ||
	    !(caps[MSR_VMX_VMFUNC - MSR_VMX_BASIC] & BIT(0))) {
		skip("EPTP switching", "not advertised");
		return;
	}
	list[0] = mbec.eptp;
	list[1] = mbec_new_ept(other);
	*other[1] &= ~(u64)EPT_XU;
	for (unsigned i = 0; i < 2; i++) {
		mbec_start(true);
		set_cpu2(SECONDARY_EXEC_ENABLE_VMFUNC);
		vmwrite(VM_FUNCTION_CONTROL, 1);
		vmwrite(EPTP_LIST_ADDRESS, (u64)list);
		mbec.target = (u64 *)(LINEAR + (i ? SUPER : USER) + RET);
		check(i ? "EPTP switched, supervisor" : "EPTP switched, user",
		      mbec_run(l2_switch_and_call),
		      i ? EXIT_REASON_VMCALL : EXIT_REASON_EPT_VIOLATION);
		check("EPTP switched", vmread(EPT_POINTER), list[1]);
		if (!i)
			check("EPTP switched, qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
			      4 | 7 << 3 | EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED);
	}
}

void group_mbec_l2(void)
{
	if (!mbec_setup())
		return;
	smep();
	program();
	walks();
	accessed_dirty();
	emulated();
	eptp_switching();
}
