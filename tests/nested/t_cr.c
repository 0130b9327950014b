// SPDX-License-Identifier: MIT
/* CR0 and CR4 masks and shadows, CR3 targets, CR8; what the VMCS holds after. 25.6.6, 25.6.7, 26.3
 */
#include "l1.h"

static u64 value, result;

static void l2_write_cr0(void)
{
	WRITE_REG(cr0, value);
}

static void l2_read_cr0(void)
{
	result = READ_REG(cr0);
}

static void l2_smsw(void)
{
	u64 v = 0;

	asm volatile("smsw %w0" : "+r"(v));
	result = v;
}

static void l2_write_cr4(void)
{
	WRITE_REG(cr4, value);
}

static void l2_read_cr4(void)
{
	result = READ_REG(cr4);
}

static void l2_write_cr3(void)
{
	WRITE_REG(cr3, value);
}

static void l2_clts(void)
{
	asm volatile("clts");
}

static void l2_lmsw(void)
{
	asm volatile("lmsw %w0" : : "r"(value));
}

static u64 run_value(void (*fn)(void), u64 v)
{
	value = v;
	result = 0x5555;
	return run_at(fn);
}

static void cr0(void)
{
	u64 cr0 = vmread(GUEST_CR0);

	/* Mask bits read from the shadow, others from the register. */
	vmwrite(CR0_GUEST_HOST_MASK, BIT(3) | BIT(30) | BIT(16));
	vmwrite(CR0_READ_SHADOW, BIT(3) | BIT(30) | BIT(18));
	check("read", run_value(l2_read_cr0, 0), EXIT_REASON_VMCALL);
	check("read, value", result, (cr0 & ~BIT(16)) | BIT(3) | BIT(30));
	check("smsw", run_value(l2_smsw, 0), EXIT_REASON_VMCALL);
	check("smsw, value", result, ((cr0 & ~BIT(16)) | BIT(3)) & 0xffff);
	/* A write that agrees with the shadow in all masked bits does not exit, and changes none.
	 */
	check("write of shadow's bits",
	      run_value(l2_write_cr0, ((cr0 & ~BIT(16)) | BIT(3) | BIT(30)) ^ BIT(1)),
	      EXIT_REASON_VMCALL);
	check("write of shadow's bits, GUEST_CR0", vmread(GUEST_CR0), cr0 ^ BIT(1));
	check("shadow as it was", vmread(CR0_READ_SHADOW), BIT(3) | BIT(30) | BIT(18));
	check("write against the shadow", run_value(l2_write_cr0, (cr0 & ~BIT(16)) | BIT(30)),
	      EXIT_REASON_CR_ACCESS);
	check("write against the shadow, GUEST_CR0", vmread(GUEST_CR0), cr0 ^ BIT(1));
	/* CLTS: TS masked and 1 in the shadow exits; masked and 0 does nothing. */
	check("clts", run_at(l2_clts), EXIT_REASON_CR_ACCESS);
	vmwrite(CR0_READ_SHADOW, 0);
	vmwrite(GUEST_CR0, cr0 | BIT(3));
	check("clts, shadow 0", run_at(l2_clts), EXIT_REASON_VMCALL);
	check("clts, shadow 0, GUEST_CR0", vmread(GUEST_CR0), cr0 | BIT(3));
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	check("clts, mask 0", run_at(l2_clts), EXIT_REASON_VMCALL);
	check("clts, mask 0, GUEST_CR0", vmread(GUEST_CR0), cr0);
	/* LMSW: bits 3:1 against the shadow; PE exits only if it is set against a 0. */
	vmwrite(CR0_GUEST_HOST_MASK, BIT(0) | BIT(2));
	vmwrite(CR0_READ_SHADOW, BIT(0));
	check("lmsw, PE clear", run_value(l2_lmsw, 0x8), EXIT_REASON_VMCALL);
	check("lmsw, PE clear, GUEST_CR0", vmread(GUEST_CR0), (cr0 & ~BIT(1)) | BIT(3));
	check("lmsw, EM", run_value(l2_lmsw, 0x4), EXIT_REASON_CR_ACCESS);
	check("lmsw, EM, qualification", vmread(EXIT_QUALIFICATION) & 0xffff0070, 0x40030);
	vmwrite(CR0_READ_SHADOW, 0);
	check("lmsw, PE set against 0", run_value(l2_lmsw, 1), EXIT_REASON_CR_ACCESS);
	/* Bits that VMX operation fixes: #GP in L2 when not masked. */
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	vmwrite(GUEST_CR0, cr0);
	check("NE cleared", run_value(l2_write_cr0, cr0 & ~BIT(5)), EXIT_REASON_EXCEPTION_NMI);
	check("PG without PE", run_value(l2_write_cr0, cr0 & ~BIT(0)), EXIT_REASON_EXCEPTION_NMI);
	check("bit 32", run_value(l2_write_cr0, cr0 | BIT(32)), EXIT_REASON_EXCEPTION_NMI);
	/* Masked, the exit comes before the #GP of such a value, but not of a reserved bit. */
	vmwrite(CR0_GUEST_HOST_MASK, BIT(5));
	vmwrite(CR0_READ_SHADOW, BIT(5));
	check("NE cleared, masked", run_value(l2_write_cr0, cr0 & ~BIT(5)), EXIT_REASON_CR_ACCESS);
	check("NW without CD", run_value(l2_write_cr0, cr0 | BIT(29)), EXIT_REASON_EXCEPTION_NMI);
}

static void cr4(void)
{
	u64 cr4 = vmread(GUEST_CR4);

	vmx_fresh();
	vmwrite(CR4_GUEST_HOST_MASK, BIT(13) | BIT(2));
	vmwrite(CR4_READ_SHADOW, BIT(2) | BIT(7));
	check("CR4 read", run_value(l2_read_cr4, 0), EXIT_REASON_VMCALL);
	check("CR4 read, value", result, (cr4 & ~BIT(13)) | BIT(2));
	check("CR4 write of shadow's bits",
	      run_value(l2_write_cr4, (cr4 & ~BIT(13)) | BIT(2) | BIT(7)), EXIT_REASON_VMCALL);
	check("CR4 write, GUEST_CR4", vmread(GUEST_CR4), cr4 | BIT(7));
	check("CR4 write against the shadow", run_value(l2_write_cr4, cr4 | BIT(2)),
	      EXIT_REASON_CR_ACCESS);
	check("CR4 write against the shadow, qualification", vmread(EXIT_QUALIFICATION) & 0xff, 4);
	check("CR4 write against the shadow, GUEST_CR4", vmread(GUEST_CR4), cr4 | BIT(7));
	vmwrite(CR4_GUEST_HOST_MASK, 0);
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	check("VMXE cleared", run_value(l2_write_cr4, cr4 & ~BIT(13)), EXIT_REASON_EXCEPTION_NMI);
	check("PAE cleared in 64-bit mode", run_value(l2_write_cr4, cr4 & ~BIT(5)),
	      EXIT_REASON_EXCEPTION_NMI);
	check("reserved bit", run_value(l2_write_cr4, cr4 | BIT(31)), EXIT_REASON_EXCEPTION_NMI);
}

static void cr3(void)
{
	u64 cr3 = READ_REG(cr3);
	unsigned targets = caps[5] >> 16 & 0x1ff;

	vmx_fresh();
	if (!may_cpu(CPU_BASED_CR3_LOAD_EXITING)) {
		skip("CR3 targets", "no CR3-load exiting");
		return;
	}
	set_cpu(CPU_BASED_CR3_LOAD_EXITING);
	check("CR3 write", run_value(l2_write_cr3, cr3), EXIT_REASON_CR_ACCESS);
	for (unsigned i = 0; i < targets && i < 4; i++) {
		vmx_fresh();
		set_cpu(CPU_BASED_CR3_LOAD_EXITING);
		vmwrite(CR3_TARGET_VALUE0 + 2 * i, cr3);
		vmwrite(CR3_TARGET_COUNT, i);
		check("CR3 target beyond the count", run_value(l2_write_cr3, cr3),
		      EXIT_REASON_CR_ACCESS);
		vmwrite(CR3_TARGET_COUNT, i + 1);
		check("CR3 target", run_value(l2_write_cr3, cr3), EXIT_REASON_VMCALL);
		vmwrite(CR3_TARGET_VALUE0 + 2 * i, cr3 | 8);
		check("CR3 target, another bit", run_value(l2_write_cr3, cr3),
		      EXIT_REASON_CR_ACCESS);
	}
	vmx_fresh();
	vmwrite(CR3_TARGET_COUNT, targets + 1);
	check("too many CR3 targets", run_at(l2_read_cr0), NOENTRY(VALID(7)));
	vmx_fresh();
	clear_cpu(CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING);
	check("CR3 write without exiting", run_value(l2_write_cr3, cr3 | 0x18), EXIT_REASON_VMCALL);
	check("CR3 write, GUEST_CR3", vmread(GUEST_CR3), cr3 | 0x18);
}

void group_cr(void)
{
	cr0();
	cr4();
	cr3();
}
