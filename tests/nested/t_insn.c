// SPDX-License-Identifier: MIT
/*
 * VMX instructions: how each ends, chapter 31 of vol. 3C, with the error numbers of 31.4. VMCALL is
 * not here: the hypervisor below takes it for its own hypercalls.
 */
#include "l1.h"

/* In 32-bit code and at CPL 3: what is not an exception would run on into ud2. */
#define CODE(name, bytes)   \
	extern char name[]; \
	asm(".pushsection .text\n" #name ": .byte " bytes "\nint3\n.popsection")
/* [0] in 32-bit code is disp32 without a SIB: mod 00, rm 101 */
CODE(c_vmxon, "0xf3, 0x0f, 0xc7, 0x35, 0, 0, 0, 0");
CODE(c_vmclear, "0x66, 0x0f, 0xc7, 0x35, 0, 0, 0, 0");
CODE(c_vmptrld, "0x0f, 0xc7, 0x35, 0, 0, 0, 0");
CODE(c_vmptrst, "0x0f, 0xc7, 0x3d, 0, 0, 0, 0");
CODE(c_vmread, "0x0f, 0x78, 0xc8");
CODE(c_vmwrite, "0x0f, 0x79, 0xc8");
CODE(c_vmlaunch, "0x0f, 0x01, 0xc2");
CODE(c_vmresume, "0x0f, 0x01, 0xc3");
CODE(c_vmxoff, "0x0f, 0x01, 0xc4");
CODE(c_invept, "0x66, 0x0f, 0x38, 0x80, 0x05, 0, 0, 0, 0");
CODE(c_invvpid, "0x66, 0x0f, 0x38, 0x81, 0x05, 0, 0, 0, 0");
/* The same without an operand in memory that 64-bit code would take as relative to RIP. */
CODE(u_vmxon, "0xf3, 0x0f, 0xc7, 0x37");
CODE(u_vmclear, "0x66, 0x0f, 0xc7, 0x37");
CODE(u_vmptrld, "0x0f, 0xc7, 0x37");
CODE(u_vmptrst, "0x0f, 0xc7, 0x3f");

static const struct {
	const char *name;
	void *compat, *user;
} codes[] = {
	{"vmxon", c_vmxon, u_vmxon},	      {"vmclear", c_vmclear, u_vmclear},
	{"vmptrld", c_vmptrld, u_vmptrld},    {"vmptrst", c_vmptrst, u_vmptrst},
	{"vmread", c_vmread, c_vmread},	      {"vmwrite", c_vmwrite, c_vmwrite},
	{"vmlaunch", c_vmlaunch, c_vmlaunch}, {"vmresume", c_vmresume, c_vmresume},
	{"vmxoff", c_vmxoff, c_vmxoff},
};

static void modes(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		run_user(codes[i].user);
		check2(codes[i].name, "at CPL 3", exc.vector, 13);
		run_compat(codes[i].compat);
		check2(codes[i].name, "in compatibility mode", exc.vector, 6);
		check2(codes[i].name, "in compatibility mode, where", exc.rip,
		       (u64)codes[i].compat);
	}
	if (may_cpu2(SECONDARY_EXEC_ENABLE_EPT)) {
		run_compat(c_invept);
		check2("invept", "in compatibility mode", exc.vector, 6);
		run_user(c_invept);
		check2("invept", "at CPL 3", exc.vector, 13);
	}
	if (may_cpu2(SECONDARY_EXEC_ENABLE_VPID)) {
		run_compat(c_invvpid);
		check2("invvpid", "in compatibility mode", exc.vector, 6);
		run_user(c_invvpid);
		check2("invvpid", "at CPL 3", exc.vector, 13);
	}
}

static void outside(void)
{
	u64 v;

	check("vmclear current before vmxoff", vmclear((u64)vmcs_page), 0);
	check("vmxoff", vmxoff(), 0);
	check("vmxoff outside", vmxoff(), EXC(6));
	check("vmclear outside", vmclear((u64)vmcs_page), EXC(6));
	check("vmptrld outside", vmptrld((u64)vmcs_page), EXC(6));
	check("vmptrst outside", vmptrst(&v), EXC(6));
	check("vmread outside", vmread_try(GUEST_CR0, &v), EXC(6));
	check("vmwrite outside", vmwrite_try(GUEST_CR0, 0), EXC(6));
	check("vmlaunch outside", vmlaunch_try(), EXC(6));
	check("vmresume outside", vmresume_try(), EXC(6));
	check("invept outside", invept(2, 0, 0), EXC(6));
	check("invvpid outside", invvpid(2, 0, 0), EXC(6));

	/* VMXON: #UD without CR4.VMXE, #GP when a fixed bit is wrong, VMfailInvalid for addresses.
	 */
	WRITE_REG(cr4, READ_REG(cr4) & ~BIT(13));
	check("vmxon without CR4.VMXE", vmxon((u64)vmxon_region), EXC(6));
	WRITE_REG(cr4, READ_REG(cr4) | BIT(13));
	WRITE_REG(cr0, READ_REG(cr0) & ~BIT(5));
	check("vmxon without CR0.NE", vmxon((u64)vmxon_region), EXC(13));
	WRITE_REG(cr0, READ_REG(cr0) | BIT(5));
	check("vmxon, address not aligned", vmxon((u64)vmxon_region + 8), INVALID);
	check("vmxon, address too wide", vmxon(BIT(maxphyaddr)), INVALID);
	*(u32 *)vmxon_region = revision ^ 1;
	check("vmxon, wrong revision", vmxon((u64)vmxon_region), INVALID);
	*(u32 *)vmxon_region = revision | BIT(31);
	check("vmxon, revision bit 31", vmxon((u64)vmxon_region), INVALID);
	*(u32 *)vmxon_region = revision;
	check("vmxon, non-canonical operand", VMX_INSN("vmxon (%1)", "r"(0x0123456789abcdefull)),
	      EXC(13));
	check("vmxon", vmxon((u64)vmxon_region), 0);
}

static void no_current(void)
{
	u64 v = 1, *other = page();

	check("vmptrst after vmxon", vmptrst(&v), 0);
	check("no current VMCS", v, ~0ull);
	check("vmread without VMCS", vmread_try(GUEST_CR0, &v), INVALID);
	check("vmwrite without VMCS", vmwrite_try(GUEST_CR0, 0), INVALID);
	check("vmlaunch without VMCS", vmlaunch_try(), INVALID);
	check("vmresume without VMCS", vmresume_try(), INVALID);
	check("vmxon again without VMCS", vmxon((u64)other), INVALID);
	check("vmclear unaligned without VMCS", vmclear((u64)vmcs_page + 1), INVALID);
	check("vmptrld unaligned without VMCS", vmptrld((u64)vmcs_page + 1), INVALID);
	check("vmread, unknown field, without VMCS", vmread_try(0x7ffe, &v), INVALID);
}

/* A value for the field. Access rights: a processor need not keep the reserved bits. */
static u64 pattern(u32 field, u64 n)
{
	u64 v = 0x5a5a5a5a5a5a5a5aull ^ n * 0x0101010101ull;

	if (field >= GUEST_ES_AR_BYTES && field <= GUEST_TR_AR_BYTES)
		v &= 0x1f0ff;
	return (field >> 13 & 3) == 0 ? v & 0xffff : (field >> 13 & 3) == 2 ? (u32)v : v;
}

static void with_current(void)
{
	u64 v = 1, lost = 0, *other = page();

	vmx_fresh();
	check("vmptrst", vmptrst(&v), 0);
	check("vmptrst value", v, (u64)vmcs_page);
	check("vmptrst to non-canonical", VMX_INSN("vmptrst (%1)", "r"(BIT(62))), EXC(13));
	check("vmxon in root", vmxon((u64)vmxon_region), VALID(15));
	check("vmxon in root ignores the address", vmxon(1), VALID(15));

	check("vmclear unaligned", vmclear((u64)vmcs_page + 0x10), VALID(2));
	check("vmclear too wide", vmclear(BIT(maxphyaddr)), VALID(2));
	check("vmclear VMXON region", vmclear((u64)vmxon_region), VALID(3));
	check("vmptrld unaligned", vmptrld((u64)vmcs_page + 0x800), VALID(9));
	check("vmptrld too wide", vmptrld(BIT(maxphyaddr) | (u64)vmcs_page), VALID(9));
	check("vmptrld VMXON region", vmptrld((u64)vmxon_region), VALID(10));
	*(u32 *)other = revision + 1;
	check("vmptrld wrong revision", vmptrld((u64)other), VALID(11));
	*(u32 *)other = revision | BIT(31);
	if (may_cpu2(SECONDARY_EXEC_SHADOW_VMCS)) {
		check("vmptrld shadow VMCS", vmptrld((u64)other), 0);
		check("vmlaunch of a shadow VMCS", vmlaunch_try(), INVALID);
		check("vmptrld back", vmptrld((u64)vmcs_page), 0);
		check("vmclear shadow VMCS", vmclear((u64)other), 0);
	} else {
		check("vmptrld with bit 31", vmptrld((u64)other), VALID(11));
	}
	check("failed vmptrld keeps the current", (vmptrst(&v), v), (u64)vmcs_page);
	check("error number is kept", vmread(VM_INSTRUCTION_ERROR) != 0, 1);

	check("vmread unknown field", vmread_try(0x0ffe, &v), VALID(12));
	check("vmread bits above 31", vmread_try(GUEST_CR0 | BIT(32), &v), VALID(12));
	check("vmread reserved bit 12", vmread_try(GUEST_CR0 | BIT(12), &v), VALID(12));
	check("vmread high half of a 32-bit field", vmread_try(EXCEPTION_BITMAP | 1, &v),
	      VALID(12));
	check("vmwrite unknown field", vmwrite_try(0x0ffe, 0), VALID(12));
	check("vmwrite high half of a 16-bit field", vmwrite_try(GUEST_CS_SELECTOR | 1, 0),
	      VALID(12));
	if (caps[5] & BIT(29)) {
		check("vmwrite any field", vmwrite_try(VM_EXIT_REASON, 0x1234), 0);
		check("vmwrite any field, value", vmread(VM_EXIT_REASON), 0x1234);
	} else {
		check("vmwrite read-only field", vmwrite_try(VM_EXIT_REASON, 0), VALID(13));
		check("vmwrite read-only natural field", vmwrite_try(EXIT_QUALIFICATION, 0),
		      VALID(13));
	}
	check("vmread to non-canonical memory",
	      VMX_INSN("vmread %1, (%2)", "r"((u64)GUEST_CR0), "D"(BIT(61))), EXC(13));
	check("vmwrite from non-canonical memory",
	      VMX_INSN("vmwrite (%2), %1", "r"((u64)GUEST_CR0), "D"(BIT(61))), EXC(13));

	/* Widths: the value is cut, the rest reads as 0; high halves are their own. */
	vmwrite(GUEST_CS_SELECTOR, 0x123456789abcdef0ull);
	check("16-bit field", vmread(GUEST_CS_SELECTOR), 0xdef0);
	vmwrite(EXCEPTION_BITMAP, ~0ull);
	check("32-bit field", vmread(EXCEPTION_BITMAP), 0xffffffff);
	vmwrite(TSC_OFFSET, 0x1122334455667788ull);
	check("64-bit field", vmread(TSC_OFFSET), 0x1122334455667788ull);
	check("high half", vmread(TSC_OFFSET | 1), 0x11223344);
	vmwrite(TSC_OFFSET | 1, 0xfffffffaabbccddull);
	check("high half written", vmread(TSC_OFFSET), 0xaabbccdd55667788ull);
	vmwrite(GUEST_RIP, 0xfedcba9876543210ull);
	check("natural-width field", vmread(GUEST_RIP), 0xfedcba9876543210ull);
	v = ~0ull;
	/* The register form writes all 64 bits. */
	asm volatile("vmread %1, %0" : "+r"(v) : "r"((u64)GUEST_CS_SELECTOR) : "cc");
	check("vmread to a register clears the rest", v, 0xdef0);

	/* Every field keeps what is written, in memory, through VMCLEAR and VMPTRLD. */
	for (unsigned i = 0; i < vmcs_nfields; i++)
		if (!vmread_try(vmcs_fields[i], &v) && (vmcs_fields[i] >> 10 & 3) != 1)
			vmwrite(vmcs_fields[i], pattern(vmcs_fields[i], i));
	check("vmclear of a full VMCS", vmclear((u64)vmcs_page), 0);
	check("no VMCS after it", (vmptrst(&v), v), ~0ull);
	check("vmptrld of it", vmptrld((u64)vmcs_page), 0);
	for (unsigned i = 0; i < vmcs_nfields; i++)
		if (!vmread_try(vmcs_fields[i], &v) && (vmcs_fields[i] >> 10 & 3) != 1 &&
		    v != pattern(vmcs_fields[i], i))
			lost = vmcs_fields[i];
	check("every field keeps its value", lost, 0);
}

static void launch_state(void)
{
	u64 *other = page();

	vmx_fresh();
	check("vmresume of a clear VMCS", vmresume_try(), VALID(5));
	check("launch", run_at(l2_done), EXIT_REASON_VMCALL);
	check("vmlaunch of a launched VMCS", vmlaunch_try(), VALID(4));
	*(u32 *)other = revision;
	check("clear another", vmclear((u64)other), 0);
	check("load another", vmptrld((u64)other), 0);
	check("load the first", vmptrld((u64)vmcs_page), 0);
	check("still launched", vmlaunch_try(), VALID(4));
	check("resume", run_at(l2_done), EXIT_REASON_VMCALL);
	vmclear((u64)vmcs_page);
	vmptrld((u64)vmcs_page);
	check("vmresume after vmclear", vmresume_try(), VALID(5));

	/* A failed entry, early or late, does not launch. */
	vmx_fresh();
	vmwrite(CR3_TARGET_COUNT, 300);
	check("control error", run_at(l2_done), NOENTRY(VALID(7)));
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(GUEST_RFLAGS, 0);
	check("guest state error", run_at(l2_done), FAILED | EXIT_REASON_INVALID_STATE);
	vmwrite(GUEST_RFLAGS, 2);
	check("is not launched", vmresume_try(), VALID(5));

	/* 27.1: blocking by MOV SS comes before the launch state. */
	vmx_fresh();
	check("vmlaunch after mov ss",
	      VMX_INSN("mov %%ss, %%ecx\n\tmov %%ecx, %%ss\n\tvmlaunch", "i"(0)), VALID(26));
	check("vmresume after mov ss",
	      VMX_INSN("mov %%ss, %%ecx\n\tmov %%ecx, %%ss\n\tvmresume", "i"(0)), VALID(26));
	vmwrite(CR3_TARGET_COUNT, 300);
	check("vmlaunch after mov ss with a bad control",
	      VMX_INSN("mov %%ss, %%ecx\n\tmov %%ecx, %%ss\n\tvmlaunch", "i"(0)), VALID(26));
	vmx_fresh();
	vmwrite(CR3_TARGET_COUNT, 300);
	check("vmresume of a clear VMCS with a bad control", vmresume_try(), VALID(5));
	vmwrite(HOST_CR0, 0);
	check("controls or host state, either first", (vmlaunch_try() & ~15ull), 0x100);
}

static void inv(void)
{
	u64 ev = caps[MSR_VMX_EPT_VPID - MSR_VMX_BASIC], eptp;

	vmx_fresh();
	if (!may_cpu2(SECONDARY_EXEC_ENABLE_EPT) || !(ev & BIT(20))) {
		skip("invept", "not advertised");
		check("invept is undefined", invept(2, 0, 0), EXC(6));
	} else {
		eptp = ept_identity();
		check("invept type 0", invept(0, eptp, 0), VALID(28));
		check("invept type 3", invept(3, eptp, 0), VALID(28));
		check("invept type above 32 bits", invept(BIT(32) | 1, eptp, 0), VALID(28));
		check("invept single", invept(1, eptp, 0), ev & BIT(25) ? 0 : VALID(28));
		check("invept global", invept(2, eptp, 0), ev & BIT(26) ? 0 : VALID(28));
		if (ev & BIT(25)) {
			check("invept single, bad memory type", invept(1, eptp | 7, 0), VALID(28));
			check("invept single, bad walk length", invept(1, eptp & ~BITS(5, 3), 0),
			      VALID(28));
			check("invept single, reserved bit", invept(1, eptp | BIT(9), 0),
			      VALID(28));
			check("invept single, too wide", invept(1, eptp | BIT(maxphyaddr), 0),
			      VALID(28));
		}
		check("invept non-canonical", VMX_INSN("invept (%1), %2", "r"(BIT(60)), "r"(2ull)),
		      EXC(13));
	}
	if (!may_cpu2(SECONDARY_EXEC_ENABLE_VPID) || !(ev & BIT(32))) {
		skip("invvpid", "not advertised");
		check("invvpid is undefined", invvpid(2, 0, 0), EXC(6));
		return;
	}
	check("invvpid type 4", invvpid(4, 1, 0), VALID(28));
	check("invvpid all", invvpid(2, 0, 0), ev & BIT(42) ? 0 : VALID(28));
	check("invvpid address", invvpid(0, 1, 0x1000), ev & BIT(40) ? 0 : VALID(28));
	check("invvpid address, VPID 0", invvpid(0, 0, 0x1000), VALID(28));
	check("invvpid address, non-canonical", invvpid(0, 1, BIT(62)), VALID(28));
	check("invvpid address, reserved bits", invvpid(0, 0x10001, 0), VALID(28));
	check("invvpid single", invvpid(1, 1, 0), ev & BIT(41) ? 0 : VALID(28));
	check("invvpid single, VPID 0", invvpid(1, 0, 0), VALID(28));
	check("invvpid retaining globals", invvpid(3, 1, 0), ev & BIT(43) ? 0 : VALID(28));
	check("invvpid retaining globals, VPID 0", invvpid(3, 0, 0), VALID(28));
	check("invvpid non-canonical", VMX_INSN("invvpid (%1), %2", "r"(BIT(60)), "r"(2ull)),
	      EXC(13));
}

static void operands(void)
{
	/* A page fault on the operand; the last page of 4 GiB's map is unmapped for it. */
	u64 *pde = &page_dirs[2047], old = *pde, v;

	*pde = 0;
	WRITE_REG(cr3, READ_REG(cr3));
	check("vmclear operand not mapped", VMX_INSN("vmclear (%1)", "r"(0xfffff000ull)), EXC(14));
	check("address", exc.cr2, 0xfffff000);
	check("error code", exc.error, 0);
	check("vmptrst operand not mapped", vmptrst((u64 *)0xffffe008), EXC(14));
	check("error code of a store", exc.error, 2);
	check("vmread operand not mapped", vmread_try(GUEST_CR3, (u64 *)0xffffe010), EXC(14));
	check("error code of vmread", exc.error, 2);
	/* 31.3: the field is looked at before the store. */
	check("vmread, unknown field, not mapped", vmread_try(0x0ffe, (u64 *)0xffffe010),
	      VALID(12));
	check("vmwrite operand not mapped",
	      VMX_INSN("vmwrite (%2), %1", "r"((u64)GUEST_CR3), "r"(0xffffe010ull)), EXC(14));
	check("error code of vmwrite", exc.error, 0);
	*pde = old;
	WRITE_REG(cr3, READ_REG(cr3));
	v = 0;
	check("and VMCS is as before", (vmptrst(&v), v), (u64)vmcs_page);
}

void group_insn(void)
{
	outside();
	no_current();
	with_current();
	launch_state();
	inv();
	vmx_fresh();
	operands();
	modes();
}
