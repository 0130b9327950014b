// SPDX-License-Identifier: MIT
/* Capability MSRs, appendix A. */
#include "l1.h"

static u64 cap(u32 msr)
{
	return caps[msr - MSR_VMX_BASIC];
}

static void pair(const char *name, u32 plain, u32 exact, u64 reserved_one)
{
	u64 p = cap(plain), t = exact ? cap(exact) : p;

	/* What must be 1 may be 1. */
	check2(name, "allowed-0 within allowed-1", (u32)p & ~(p >> 32), 0);
	check2(name, "true allowed-0 within allowed-1", (u32)t & ~(t >> 32), 0);
	/* A.2: the TRUE MSR relaxes default-1 bits only. */
	check2(name, "same allowed-1", p >> 32, t >> 32);
	check2(name, "true relaxes default1 only", ((u32)p ^ (u32)t) & ~reserved_one, 0);
	check2(name, "default1 in the plain MSR", (u32)p & reserved_one, reserved_one);
}

void group_caps(void)
{
	u64 basic = cap(MSR_VMX_BASIC), misc = cap(MSR_VMX_MISC), v, highest = 0;
	u64 ev = cap(MSR_VMX_EPT_VPID), c2 = cap(MSR_VMX_PROCBASED2);
	u64 control = rdmsr(MSR_FEATURE_CONTROL);

	check("FEATURE_CONTROL locked, VMX outside SMX", control & 5, 5);
	check("FEATURE_CONTROL is locked", wrmsr_try(MSR_FEATURE_CONTROL, control ^ 4), EXC(13));
	check("BASIC bit 31", basic >> 31 & 1, 0);
	check("BASIC region size 1 to 4096", (basic >> 32 & 0x1fff) - 1 < 4096, 1);
	check("BASIC width of addresses", basic >> 48 & 1, 0);
	check("BASIC write-back VMCS", basic >> 50 & 15, 6);
	for (u32 i = 0; i <= 12; i++)
		check("VMX MSRs are read-only", wrmsr_try(MSR_VMX_BASIC + i, caps[i]), EXC(13));
	if (basic & BIT(55)) {
		/* A.3.1, A.3.2, A.4, A.5: the default1 classes */
		pair("PIN", 0x481, MSR_VMX_TRUE_PIN, 0x16);
		pair("PROC", 0x482, MSR_VMX_TRUE_PROC, 0x0401e172);
		pair("EXIT", 0x483, MSR_VMX_TRUE_EXIT, 0x36dff);
		pair("ENTRY", 0x484, MSR_VMX_TRUE_ENTRY, 0x11ff);
	}
	check("PROCBASED2 allowed-0", (u32)c2, 0);
	check("CR0 fixed0 within fixed1", cap(MSR_VMX_CR0_FIXED0) & ~cap(MSR_VMX_CR0_FIXED1), 0);
	check("CR4 fixed0 within fixed1", cap(MSR_VMX_CR4_FIXED0) & ~cap(MSR_VMX_CR4_FIXED1), 0);
	/* A.7, A.8 */
	check("CR0 fixed0 PE NE PG", cap(MSR_VMX_CR0_FIXED0), 0x80000021);
	check("CR0 fixed1", cap(MSR_VMX_CR0_FIXED1), 0xffffffff);
	check("CR4 fixed0 VMXE", cap(MSR_VMX_CR4_FIXED0), 0x2000);
	check("CR0 and CR4 as now in force",
	      (~READ_REG(cr0) & cap(MSR_VMX_CR0_FIXED0)) |
		      (READ_REG(cr0) & ~cap(MSR_VMX_CR0_FIXED1)) |
		      (~READ_REG(cr4) & cap(MSR_VMX_CR4_FIXED0)) |
		      (READ_REG(cr4) & ~cap(MSR_VMX_CR4_FIXED1)),
	      0);
	check("CR3 targets at most 256", (misc >> 16 & 0x1ff) <= 256, 1);
	check("MISC reserved", misc & (BITS(13, 9) | BIT(31)), 0);
	/* A.6: unrestricted guest implies storing EFER.LMA into the entry control. */
	check("unrestricted guest with MISC bit 5", (c2 >> 39 & 1) && !(misc & BIT(5)), 0);
	check("unrestricted guest with EPT", (c2 >> 39 & 1) && !(c2 >> 33 & 1), 0);
	check("x2APIC mode, APIC registers, delivery with TPR shadow",
	      (c2 >> 32 & 0x310) && !may_cpu(CPU_BASED_TPR_SHADOW), 0);
	if (c2 >> 33 & 1) {
		check("EPT walk length 4", ev >> 6 & 1, 1);
		check("EPT write-back or uncached", !!(ev & (BIT(8) | BIT(14))), 1);
		check("INVEPT has a type", (ev & BIT(20)) && !(ev & (BIT(25) | BIT(26))), 0);
		check("EPT_VPID_CAP reserved",
		      ev & (BITS(5, 1) | BITS(13, 9) | BIT(15) | BITS(19, 18) | BIT(24) |
			    BITS(31, 27) | BITS(39, 33) | BITS(63, 54)),
		      0);
	}
	if (c2 >> 37 & 1)
		check("INVVPID has a type", (ev & BIT(32)) && !(ev & BITS(43, 40)), 0);
	if (!(c2 >> 33 & 1) && !(c2 >> 37 & 1))
		check("EPT_VPID_CAP only with EPT or VPID", rdmsr_try(MSR_VMX_EPT_VPID, &v),
		      EXC(13));

	/* A.9: the highest index of a field that there is. */
	for (unsigned i = 0; i < vmcs_nfields; i++)
		if (!vmread_try(vmcs_fields[i], &v))
			highest = MAX(highest, vmcs_fields[i] & 0x3fe);
	check("VMCS_ENUM covers every field", highest <= (cap(MSR_VMX_VMCS_ENUM) & 0x3fe), 1);

	/* 23.8: bits fixed in VMX operation */
	check("CR0.NE cannot be cleared", TRY("mov %0, %%cr0", "r"(READ_REG(cr0) & ~BIT(5))),
	      EXC(13));
	check("CR0.PG cannot be cleared", TRY("mov %0, %%cr0", "r"(READ_REG(cr0) & ~BIT(31))),
	      EXC(13));
	check("CR4.VMXE cannot be cleared", TRY("mov %0, %%cr4", "r"(READ_REG(cr4) & ~BIT(13))),
	      EXC(13));
	/* A control that may not be 1, or must be: 27.2.1.1 */
	for (unsigned i = 0; i < 32; i++) {
		static const struct {
			u32 field, msr;
			const char *name;
		} words[] = {
			{PIN_BASED_VM_EXEC_CONTROL, MSR_VMX_TRUE_PIN, "pin bit must not be 1"},
			{CPU_BASED_VM_EXEC_CONTROL, MSR_VMX_TRUE_PROC, "cpu bit must not be 1"},
			{VM_EXIT_CONTROLS, MSR_VMX_TRUE_EXIT, "exit bit must not be 1"},
			{VM_ENTRY_CONTROLS, MSR_VMX_TRUE_ENTRY, "entry bit must not be 1"}};

		for (unsigned k = 0; k < 4; k++) {
			u64 old = vmread(words[k].field), c = cap(words[k].msr);

			if (c >> i & 1)
				vmwrite(words[k].field, old & ~BIT(i));
			else if (!(c >> (32 + i) & 1))
				vmwrite(words[k].field, old | BIT(i));
			else
				continue;
			check(c >> i & 1 ? "must-be-1 bit cleared" : words[k].name, run_at(l2_done),
			      NOENTRY(VALID(7)));
			vmwrite(words[k].field, old);
		}
	}
	check("and without that it enters", run_at(l2_done), EXIT_REASON_VMCALL);
}
