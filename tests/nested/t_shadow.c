// SPDX-License-Identifier: MIT
/*
 * VMCS shadowing as L2 sees it: VMREAD and VMWRITE go to the shadow VMCS or exit, as the bitmaps
 * say. 25.6.15, 26.1.2, and chapter 31 for VMREAD and VMWRITE
 */
#include "l1.h"

static u64 *shadow, *read_bitmap, *write_bitmap;
static u64 field, value, outcome;

static void l2_vmread(void)
{
	outcome = vmread_try(field, &value);
}

static void l2_vmwrite(void)
{
	outcome = vmwrite_try(field, value);
}

static void start(void)
{
	vmx_fresh();
	memset(shadow, 0, 4096);
	*(u32 *)shadow = revision;
	vmclear((u64)shadow);
	/* Fill it as an ordinary VMCS, then mark it. */
	if (vmptrld((u64)shadow))
		panic("VMPTRLD of the shadow fails", 0);
	vmwrite(GUEST_CR0, 0x1111);
	vmwrite(GUEST_RIP, 0x2222);
	vmwrite(GUEST_CS_SELECTOR, 0x3333);
	vmwrite(EXCEPTION_BITMAP, 0x4444);
	vmclear((u64)shadow);
	*(u32 *)shadow = revision | BIT(31);
	vmptrld((u64)vmcs_page);
	memset(read_bitmap, 0, 4096);
	memset(write_bitmap, 0, 4096);
	set_cpu2(SECONDARY_EXEC_SHADOW_VMCS);
	vmwrite(VMREAD_BITMAP, (u64)read_bitmap);
	vmwrite(VMWRITE_BITMAP, (u64)write_bitmap);
	vmwrite(VMCS_LINK_POINTER, (u64)shadow);
}

static u64 l2_read(u64 f)
{
	field = f;
	value = 0x77;
	outcome = 0x999;
	return run_at(l2_vmread);
}

static u64 l2_write(u64 f, u64 v)
{
	field = f;
	value = v;
	outcome = 0x999;
	return run_at(l2_vmwrite);
}

static u64 in_shadow(u32 f)
{
	u64 v = 0;

	vmclear((u64)vmcs_page);
	*(u32 *)shadow = revision;
	vmptrld((u64)shadow);
	vmread_try(f, &v);
	vmclear((u64)shadow);
	*(u32 *)shadow = revision | BIT(31);
	return v;
}

/* Without shadowing, and with a bit set, both exit. */
static void exits(void)
{
	vmx_fresh();
	check("VMREAD without shadowing", l2_read(GUEST_RIP), EXIT_REASON_VMREAD);
	check("VMWRITE without shadowing", l2_write(GUEST_RIP, 0), EXIT_REASON_VMWRITE);
}

void group_shadow(void)
{
	shadow = page();
	read_bitmap = page();
	write_bitmap = page();
	exits();
	if (!may_cpu(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) ||
	    !may_cpu2(SECONDARY_EXEC_SHADOW_VMCS)) {
		skip("VMCS shadowing", "not advertised");
		return;
	}
	start();
	check("VMREAD", l2_read(GUEST_RIP), EXIT_REASON_VMCALL);
	check("VMREAD, outcome", outcome, 0);
	check("VMREAD, value", value, 0x2222);
	check("VMREAD, 16 bits", l2_read(GUEST_CS_SELECTOR), EXIT_REASON_VMCALL);
	check("VMREAD, 16 bits, value", value, 0x3333);
	check("VMREAD of no field", l2_read(0x0ffe), EXIT_REASON_VMCALL);
	check("VMREAD of no field, outcome", outcome & ~0xffull, 0x100);
	check("VMREAD with bits above 14", l2_read(GUEST_RIP | BIT(15)), EXIT_REASON_VMREAD);
	check("VMREAD with bits above 31", l2_read(GUEST_RIP | BIT(40)), EXIT_REASON_VMREAD);
	((u8 *)read_bitmap)[GUEST_RIP / 8] |= 1 << (GUEST_RIP & 7);
	check("VMREAD, bit set", l2_read(GUEST_RIP), EXIT_REASON_VMREAD);
	check("VMREAD of another field", l2_read(GUEST_CR0), EXIT_REASON_VMCALL);
	check("VMREAD of another field, value", value, 0x1111);
	check("VMWRITE has its own bitmap", l2_write(GUEST_RIP, 0x5555), EXIT_REASON_VMCALL);
	check("VMWRITE, outcome", outcome, 0);
	((u8 *)write_bitmap)[GUEST_CR0 / 8] |= 1 << (GUEST_CR0 & 7);
	check("VMWRITE, bit set", l2_write(GUEST_CR0, 0x6666), EXIT_REASON_VMWRITE);
	check("VMWRITE, 32 bits", l2_write(EXCEPTION_BITMAP, 0xabcdef0123456789ull),
	      EXIT_REASON_VMCALL);
	check("VMWRITE of a read-only field", l2_write(VM_EXIT_REASON, 0x1234), EXIT_REASON_VMCALL);
	check("VMWRITE of a read-only field, outcome", outcome & ~0xffull,
	      caps[5] & BIT(29) ? 0 : 0x100);
	/* L1's own VMCS has not changed. */
	check("current VMCS", vmread(GUEST_CR0), READ_REG(cr0));
	check("current VMCS's exception bitmap", vmread(EXCEPTION_BITMAP), 0);
	check("link pointer", vmread(VMCS_LINK_POINTER), (u64)shadow);
	check("shadow after VMCLEAR: written", in_shadow(GUEST_RIP), 0x5555);
	check("shadow after VMCLEAR: cut to 32 bits", in_shadow(EXCEPTION_BITMAP), 0x23456789);
	check("shadow after VMCLEAR: not written", in_shadow(GUEST_CR0), 0x1111);
	check("shadow after VMCLEAR: selector", in_shadow(GUEST_CS_SELECTOR), 0x3333);

	/* No shadow VMCS: VMfailInvalid in L2. */
	start();
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	check("VMREAD without a shadow VMCS", l2_read(GUEST_RIP), EXIT_REASON_VMCALL);
	check("VMREAD without a shadow VMCS, outcome", outcome, INVALID);
	check("VMWRITE without a shadow VMCS", l2_write(GUEST_RIP, 0), EXIT_REASON_VMCALL);
	check("VMWRITE without a shadow VMCS, outcome", outcome, INVALID);
	/* The link pointer must lead to a shadow VMCS: 27.3.1.5 */
	start();
	*(u32 *)shadow = revision;
	check("link to an ordinary VMCS", l2_read(GUEST_RIP), FAILED | EXIT_REASON_INVALID_STATE);
	check("link to an ordinary VMCS, qualification", vmread(EXIT_QUALIFICATION), 4);
	*(u32 *)shadow = revision | BIT(31);
	vmwrite(VMCS_LINK_POINTER, (u64)vmcs_page);
	check("link to the current VMCS", l2_read(GUEST_RIP), FAILED | EXIT_REASON_INVALID_STATE);
}
