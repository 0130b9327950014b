// SPDX-License-Identifier: MIT
/*
 * Every instruction that exits: reason, qualification, instruction length and information, 28.2.1,
 * 28.2.5 and tables 28-3 to 28-14; the guest's registers and RIP as they were.
 */
#include "l1.h"

/* [8 + rsi + rdi * 4] in 64-bit mode: scaling, address size, DS, index, base. */
#define MEM	 "8(%rsi,%rdi,4)"
#define MEM_INFO (2ull | 2 << 7 | 3 << 15 | 7 << 18 | 6 << 23)
#define ANY	 (~0ull)
#define SET_MEM	 "lea scratch-8(%rip), %rsi\n xor %edi, %edi\n"

u64 scratch[512] __attribute__((aligned(4096)));
static u8 io_bitmaps[8192] __attribute__((aligned(4096)));
static u8 msr_bitmap[4096] __attribute__((aligned(4096)));

enum control { NONE, PIN, CPU, CPU2, CR0 };

/*
 * EXIT_ROW(name, what L2 does first, instruction, word of the control, control bits, reason,
 * qualification, instruction information)
 */
#define EXIT_ROWS                                                                                  \
	EXIT_ROW(cpuid, "xor %eax, %eax", "cpuid", NONE, 0, CPUID, 0, ANY)                         \
	EXIT_ROW(hlt, "", "hlt", CPU, CPU_BASED_HLT_EXITING, HLT, 0, ANY)                          \
	EXIT_ROW(invd, "", "invd", NONE, 0, INVD, 0, ANY)                                          \
	EXIT_ROW(wbinvd, "", "wbinvd", CPU2, SECONDARY_EXEC_WBINVD_EXITING, WBINVD, 0, ANY)        \
	EXIT_ROW(invlpg, "mov $0x123456, %eax", "invlpg (%rax)", CPU, CPU_BASED_INVLPG_EXITING,    \
		 INVLPG, 0x123456, ANY)                                                            \
	EXIT_ROW(rdpmc, "xor %ecx, %ecx", "rdpmc", CPU, CPU_BASED_RDPMC_EXITING, RDPMC, 0, ANY)    \
	EXIT_ROW(rdtsc, "", "rdtsc", CPU, CPU_BASED_RDTSC_EXITING, RDTSC, 0, ANY)                  \
	EXIT_ROW(vmcall, "", "vmcall", NONE, 0, VMCALL, 0, ANY)                                    \
	EXIT_ROW(pause, "", "pause", CPU, CPU_BASED_PAUSE_EXITING, PAUSE_INSTRUCTION, 0, ANY)      \
	EXIT_ROW(monitor, "xor %ecx, %ecx\n xor %edx, %edx\n lea scratch(%rip), %rax", "monitor",  \
		 CPU, CPU_BASED_MONITOR_EXITING, MONITOR_INSTRUCTION, 0, ANY)                      \
	EXIT_ROW(mwait, "xor %ecx, %ecx\n xor %eax, %eax", "mwait", CPU, CPU_BASED_MWAIT_EXITING,  \
		 MWAIT_INSTRUCTION, 0, ANY)                                                        \
	EXIT_ROW(vmlaunch, "", "vmlaunch", NONE, 0, VMLAUNCH, 0, ANY)                              \
	EXIT_ROW(vmresume, "", "vmresume", NONE, 0, VMRESUME, 0, ANY)                              \
	EXIT_ROW(vmxoff, "", "vmxoff", NONE, 0, VMOFF, 0, ANY)                                     \
	EXIT_ROW(vmxon, SET_MEM, "vmxon " MEM, NONE, 0, VMON, 8, MEM_INFO)                         \
	EXIT_ROW(vmclear, SET_MEM, "vmclear " MEM, NONE, 0, VMCLEAR, 8, MEM_INFO)                  \
	EXIT_ROW(vmptrld, SET_MEM, "vmptrld " MEM, NONE, 0, VMPTRLD, 8, MEM_INFO)                  \
	EXIT_ROW(vmptrst, SET_MEM, "vmptrst " MEM, NONE, 0, VMPTRST, 8, MEM_INFO)                  \
	EXIT_ROW(vmptrst_negative, SET_MEM, "vmptrst -16(%rsi)", NONE, 0, VMPTRST, ~15ull,         \
		 (2 << 7 | 3 << 15 | 1 << 22 | 6 << 23))                                           \
	/* A 32-bit address, GS by prefix, no base. */                                             \
	EXIT_ROW(vmptrst_a32, SET_MEM, "addr32 vmptrst %gs:0x100(,%r9d,8)", NONE, 0, VMPTRST,      \
		 0x100, (3 | 1 << 7 | 5 << 15 | 9 << 18 | 1 << 27))                                \
	EXIT_ROW(vmptrst_fs, SET_MEM, "vmptrst %fs:(%rbx)", NONE, 0, VMPTRST, 0,                   \
		 (2 << 7 | 4 << 15 | 1 << 22 | 3 << 23))                                           \
	EXIT_ROW(vmptrst_rsp, SET_MEM, "vmptrst -128(%rsp)", NONE, 0, VMPTRST, -128ull,            \
		 (2 << 7 | 2 << 15 | 1 << 22 | 4 << 23))                                           \
	EXIT_ROW(vmread_reg, "mov $0x6800, %ebx", "vmread %rbx, %r10", NONE, 0, VMREAD, 0,         \
		 (10 << 3 | 1 << 10 | 3 << 28))                                                    \
	EXIT_ROW(vmread_mem, SET_MEM "mov $0x6800, %ebx", "vmread %rbx, " MEM, NONE, 0, VMREAD, 8, \
		 (MEM_INFO | 3 << 28))                                                             \
	EXIT_ROW(vmwrite_reg, "mov $0x6800, %ebx", "vmwrite %r14, %rbx", NONE, 0, VMWRITE, 0,      \
		 (14 << 3 | 1 << 10 | 3 << 28))                                                    \
	EXIT_ROW(vmwrite_mem, SET_MEM "mov $0x6800, %ebx", "vmwrite " MEM ", %rbx", NONE, 0,       \
		 VMWRITE, 8, (MEM_INFO | 3 << 28))                                                 \
	EXIT_ROW(invept, SET_MEM, "invept " MEM ", %r12", CPU2, SECONDARY_EXEC_ENABLE_EPT, INVEPT, \
		 8, (MEM_INFO | 12ull << 28))                                                      \
	EXIT_ROW(invvpid, SET_MEM, "invvpid " MEM ", %rdx", CPU2, SECONDARY_EXEC_ENABLE_VPID,      \
		 INVVPID, 8, (MEM_INFO | 2ull << 28))                                              \
	EXIT_ROW(invpcid, SET_MEM, "invpcid " MEM ", %rcx", CPU2, SECONDARY_EXEC_ENABLE_INVPCID,   \
		 INVPCID, 8, (MEM_INFO | 1ull << 28))                                              \
	/* Control registers: number, access, register. Table 28-3 */                              \
	EXIT_ROW(mov_from_cr3, "", "mov %cr3, %r9", CPU, CPU_BASED_CR3_STORE_EXITING, CR_ACCESS,   \
		 (3 | 1 << 4 | 9 << 8), ANY)                                                       \
	EXIT_ROW(mov_to_cr3, "mov %cr3, %rdx", "mov %rdx, %cr3", CPU, CPU_BASED_CR3_LOAD_EXITING,  \
		 CR_ACCESS, (3 | 0 << 4 | 2 << 8), ANY)                                            \
	EXIT_ROW(mov_from_cr8, "", "mov %cr8, %rbx", CPU, CPU_BASED_CR8_STORE_EXITING, CR_ACCESS,  \
		 (8 | 1 << 4 | 3 << 8), ANY)                                                       \
	EXIT_ROW(mov_to_cr8, "xor %r15d, %r15d", "mov %r15, %cr8", CPU,                            \
		 CPU_BASED_CR8_LOAD_EXITING, CR_ACCESS, (8 | 0 << 4 | 15 << 8), ANY)               \
	EXIT_ROW(mov_to_cr0, "mov %cr0, %rax\n btc $3, %rax", "mov %rax, %cr0", CR0, BIT(3),       \
		 CR_ACCESS, (0 | 0 << 4 | 0 << 8), ANY)                                            \
	EXIT_ROW(clts, "", "clts", CR0, BIT(3), CR_ACCESS, (2 << 4), ANY)                          \
	EXIT_ROW(lmsw_reg, "mov $0x32, %ecx", "lmsw %cx", CR0, BIT(3), CR_ACCESS,                  \
		 (3 << 4 | 0x32ull << 16), ANY)                                                    \
	EXIT_ROW(lmsw_mem, "movw $0x33, scratch(%rip)", "lmsw scratch(%rip)", CR0, BIT(3),         \
		 CR_ACCESS, (3 << 4 | 1 << 6 | 0x33ull << 16), ANY)                                \
	/* Debug registers: number, direction, register. Table 28-4 */                             \
	EXIT_ROW(mov_from_dr7, "", "mov %db7, %r11", CPU, CPU_BASED_MOV_DR_EXITING, DR_ACCESS,     \
		 (7 | 1 << 4 | 11 << 8), ANY)                                                      \
	EXIT_ROW(mov_to_dr0, "xor %ebp, %ebp", "mov %rbp, %db0", CPU, CPU_BASED_MOV_DR_EXITING,    \
		 DR_ACCESS, (0 | 0 << 4 | 5 << 8), ANY)                                            \
	/* I/O: size - 1, in, string, rep, immediate, port. Table 28-5 */                          \
	EXIT_ROW(in_imm, "", "inb $0x71, %al", CPU, CPU_BASED_UNCOND_IO_EXITING, IO_INSTRUCTION,   \
		 (1 << 3 | 1 << 6 | 0x71ull << 16), ANY)                                           \
	EXIT_ROW(out_dx, "mov $0x1234, %edx", "outl %eax, %dx", CPU, CPU_BASED_UNCOND_IO_EXITING,  \
		 IO_INSTRUCTION, (3 | 0x1234ull << 16), ANY)                                       \
	EXIT_ROW(out_word, "mov $0xffff, %edx", "outw %ax, %dx", CPU, CPU_BASED_UNCOND_IO_EXITING, \
		 IO_INSTRUCTION, (1 | 0xffffull << 16), ANY)                                       \
	EXIT_ROW(rep_outsb, "mov $0x80, %edx\n mov $3, %ecx\n lea scratch(%rip), %rsi",            \
		 "rep outsb", CPU, CPU_BASED_UNCOND_IO_EXITING, IO_INSTRUCTION,                    \
		 (1 << 4 | 1 << 5 | 0x80ull << 16), (2 << 7 | 3 << 15))                            \
	EXIT_ROW(fs_outsl, "mov $0x80, %edx\n lea scratch(%rip), %rsi", "fs outsl", CPU,           \
		 CPU_BASED_UNCOND_IO_EXITING, IO_INSTRUCTION, (3 | 1 << 4 | 0x80ull << 16),        \
		 (2 << 7 | 4 << 15))                                                               \
	EXIT_ROW(insw, "mov $0x80, %edx\n lea scratch(%rip), %rdi", "insw", CPU,                   \
		 CPU_BASED_UNCOND_IO_EXITING, IO_INSTRUCTION,                                      \
		 (1 | 1 << 3 | 1 << 4 | 0x80ull << 16), (2 << 7))                                  \
	EXIT_ROW(rdmsr, "mov $0x10, %ecx", "rdmsr", NONE, 0, MSR_READ, 0, ANY)                     \
	EXIT_ROW(wrmsr, "mov $0x10, %ecx", "wrmsr", NONE, 0, MSR_WRITE, 0, ANY)                    \
	EXIT_ROW(rdmsr_unknown, "mov $0x12345678, %ecx", "rdmsr", NONE, 0, MSR_READ, 0, ANY)       \
	EXIT_ROW(rdtscp, "", "rdtscp", CPU2, SECONDARY_EXEC_ENABLE_RDTSCP, RDTSCP, 0, ANY)         \
	EXIT_ROW(xsetbv, "xor %ecx, %ecx\n xor %edx, %edx\n mov $1, %eax", "xsetbv", NONE, 0,      \
		 XSETBV, 0, ANY)                                                                   \
	/* Descriptor tables: operand size is undefined in 64-bit mode. Tables 28-10 and 28-11 */  \
	EXIT_ROW(sgdt, SET_MEM, "sgdt " MEM, CPU2, SECONDARY_EXEC_DESC, GDTR_IDTR, 8, MEM_INFO)    \
	EXIT_ROW(sidt, SET_MEM, "sidt " MEM, CPU2, SECONDARY_EXEC_DESC, GDTR_IDTR, 8,              \
		 (MEM_INFO | 1 << 28))                                                             \
	EXIT_ROW(lgdt, SET_MEM, "lgdt " MEM, CPU2, SECONDARY_EXEC_DESC, GDTR_IDTR, 8,              \
		 (MEM_INFO | 2 << 28))                                                             \
	EXIT_ROW(lidt, SET_MEM, "lidt " MEM, CPU2, SECONDARY_EXEC_DESC, GDTR_IDTR, 8,              \
		 (MEM_INFO | 3 << 28))                                                             \
	EXIT_ROW(sldt, SET_MEM, "sldt " MEM, CPU2, SECONDARY_EXEC_DESC, LDTR_TR, 8, MEM_INFO)      \
	EXIT_ROW(str_reg, "", "str %r8", CPU2, SECONDARY_EXEC_DESC, LDTR_TR, 0,                    \
		 (8 << 3 | 1 << 10 | 1 << 28))                                                     \
	EXIT_ROW(lldt_reg, "xor %eax, %eax", "lldt %ax", CPU2, SECONDARY_EXEC_DESC, LDTR_TR, 0,    \
		 (0 << 3 | 1 << 10 | 2 << 28))                                                     \
	EXIT_ROW(ltr, SET_MEM, "ltr " MEM, CPU2, SECONDARY_EXEC_DESC, LDTR_TR, 8,                  \
		 (MEM_INFO | 3 << 28))                                                             \
	EXIT_ROW(rdrand, "", "rdrand %r13", CPU2, SECONDARY_EXEC_RDRAND_EXITING, RDRAND, 0,        \
		 (13 << 3 | 2 << 11))                                                              \
	EXIT_ROW(rdrand16, "", "rdrand %dx", CPU2, SECONDARY_EXEC_RDRAND_EXITING, RDRAND, 0,       \
		 (2 << 3 | 0 << 11))                                                               \
	EXIT_ROW(rdseed, "", "rdseed %ecx", CPU2, SECONDARY_EXEC_RDSEED_EXITING, RDSEED, 0,        \
		 (1 << 3 | 1 << 11))

#define EXIT_ROW(name, setup, insn, word, bits, reason, qual, info) BLOB(x_##name, setup, insn);
EXIT_ROWS
#undef EXIT_ROW

static const struct row {
	const char *name, *start, *insn, *next;
	enum control word;
	u64 bits, reason, qualification, info;
} rows[] = {
#define EXIT_ROW(name, setup, insn, word, bits, reason, qual, info) \
	{#name, x_##name, x_##name##_i, x_##name##_n, word, bits, EXIT_REASON_##reason, qual, info},
	EXIT_ROWS
#undef EXIT_ROW
};

/* What of the information is defined: table 28-8 and the following. */
static u64 defined(const struct row *r)
{
	u64 m = 0;

	switch (r->reason) {
	case EXIT_REASON_IO_INSTRUCTION:
		/* The segment is of OUTS only. */
		return 7 << 7 | (r->qualification & BIT(3) ? 0 : 7 << 15);
	case EXIT_REASON_RDRAND:
	case EXIT_REASON_RDSEED: return 0xf << 3 | 3 << 11;
	case EXIT_REASON_INVEPT:
	case EXIT_REASON_INVVPID:
	case EXIT_REASON_INVPCID:
	case EXIT_REASON_VMREAD:
	case EXIT_REASON_VMWRITE: m = 0xfull << 28; break;
	case EXIT_REASON_GDTR_IDTR:
	case EXIT_REASON_LDTR_TR: m = 3ull << 28; break;
	}
	if (r->info & BIT(10))
		return m | 0xf << 3 | BIT(10);
	m |= 7 << 7 | 7 << 15 | BIT(22) | BIT(27);
	if (!(r->info & BIT(22)))
		m |= 3 | 0xf << 18;
	if (!(r->info & BIT(27)))
		m |= 0xf << 23;
	if ((r->reason == EXIT_REASON_VMREAD || r->reason == EXIT_REASON_VMWRITE ||
	     r->reason == EXIT_REASON_LDTR_TR))
		m |= BIT(10);
	return m;
}

static bool arm(const struct row *r)
{
	switch (r->word) {
	case NONE: return true;
	case PIN:
		if (!may_pin(r->bits))
			return false;
		set_pin(r->bits);
		return true;
	case CPU:
		if (!may_cpu(r->bits))
			return false;
		set_cpu(r->bits);
		return true;
	case CPU2:
		if (!may_cpu(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) || !may_cpu2(r->bits))
			return false;
		set_cpu2(r->bits);
		return true;
	case CR0:
		vmwrite(CR0_GUEST_HOST_MASK, r->bits);
		vmwrite(CR0_READ_SHADOW, vmread(GUEST_CR0) | BIT(3));
		return true;
	}
	return false;
}

static void one(const struct row *r)
{
	u64 reason;

	vmx_fresh();
	if (!arm(r)) {
		skip(r->name, "control not advertised");
		return;
	}
	if (r->word == CPU2 && r->bits == SECONDARY_EXEC_ENABLE_EPT)
		vmwrite(EPT_POINTER, ept_identity());
	if (r->word == CPU2 && r->bits == SECONDARY_EXEC_ENABLE_VPID)
		vmwrite(VIRTUAL_PROCESSOR_ID, 1);
	/* These exit by a control that another instruction names. */
	if (r->reason == EXIT_REASON_INVPCID)
		set_cpu(CPU_BASED_INVLPG_EXITING);
	if (r->reason == EXIT_REASON_RDTSCP)
		set_cpu(CPU_BASED_RDTSC_EXITING);
	if (r->reason == EXIT_REASON_XSETBV)
		vmwrite(GUEST_CR4, vmread(GUEST_CR4) | BIT(18));
	regs.rax = 0x1111;
	regs.r14 = 0x1414141414141414;
	regs.r9 = 1;
	regs.rbx = (u64)scratch;
	reason = run_at(r->start);
	if (!check2(r->name, "reason", reason, r->reason)) {
		if (reason == EXIT_REASON_INVALID_STATE || reason >> 32)
			return;
		check2(r->name, "rip", vmread(GUEST_RIP), (u64)r->insn);
		return;
	}
	check2(r->name, "rip", vmread(GUEST_RIP), (u64)r->insn);
	check2(r->name, "length", vmread(VM_EXIT_INSTRUCTION_LEN), r->next - r->insn);
	check2(r->name, "qualification", vmread(EXIT_QUALIFICATION), r->qualification);
	if (r->info != ANY)
		check2(r->name, "information", vmread(VMX_INSTRUCTION_INFO) & defined(r),
		       r->info & defined(r));
	check2(r->name, "no event", vmread(VM_EXIT_INTR_INFO) >> 31, 0);
	check2(r->name, "no vectoring", vmread(IDT_VECTORING_INFO_FIELD) >> 31, 0);
	check2(r->name, "r14", regs.r14, 0x1414141414141414);
	if (r->reason == EXIT_REASON_IO_INSTRUCTION && r->qualification & BIT(4))
		check2(r->name, "linear address", vmread(GUEST_LINEAR_ADDRESS), (u64)scratch);
	if (r->reason == EXIT_REASON_CR_ACCESS && r->qualification & BIT(6))
		check2(r->name, "linear address", vmread(GUEST_LINEAR_ADDRESS), (u64)scratch);
	/* L2 goes on behind it. */
	skip_insn();
	check2(r->name, "goes on", run(), EXIT_REASON_VMCALL);
	check2(r->name, "at the next instruction", vmread(GUEST_RIP), (u64)r->next);
}

/* Without their control the same instructions do not exit. */
static void without(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];

		if (r->word != CPU || r->reason == EXIT_REASON_HLT ||
		    r->reason == EXIT_REASON_RDPMC ||
		    r->reason == EXIT_REASON_MONITOR_INSTRUCTION ||
		    r->reason == EXIT_REASON_MWAIT_INSTRUCTION ||
		    r->reason == EXIT_REASON_IO_INSTRUCTION || !may_cpu(r->bits))
			continue;
		vmx_fresh();
		clear_cpu(r->bits);
		check2(r->name, "does not exit", run_at(r->start), EXIT_REASON_VMCALL);
		check2(r->name, "comes to the end", vmread(GUEST_RIP), (u64)r->next);
	}
}

/* ---- Bitmaps, 25.6.4 and 25.6.9 ---- */

static u16 io_port, io_size;
static u32 msr_index;

static void l2_in(void)
{
	if (io_size == 1)
		asm volatile("inb %%dx, %%al" : : "d"(io_port) : "rax");
	else if (io_size == 2)
		asm volatile("inw %%dx, %%ax" : : "d"(io_port) : "rax");
	else
		asm volatile("inl %%dx, %%eax" : : "d"(io_port) : "rax");
}

static void one_port(const char *name, u16 port, u16 size, unsigned bit, bool exits)
{
	vmx_fresh();
	set_cpu(CPU_BASED_USE_IO_BITMAPS);
	/* With bitmaps the unconditional control does not count. */
	set_cpu(CPU_BASED_UNCOND_IO_EXITING);
	memset(io_bitmaps, 0, sizeof(io_bitmaps));
	if (bit < 0x10000)
		io_bitmaps[bit / 8] = 1 << (bit & 7);
	vmwrite(IO_BITMAP_A, (u64)io_bitmaps);
	vmwrite(IO_BITMAP_B, (u64)io_bitmaps + 4096);
	io_port = port;
	io_size = size;
	if (check(name, run_at(l2_in), exits ? EXIT_REASON_IO_INSTRUCTION : EXIT_REASON_VMCALL) &&
	    exits)
		check2(name, "qualification", vmread(EXIT_QUALIFICATION),
		       (size - 1u) | 1 << 3 | (u64)port << 16);
}

static void io(void)
{
	if (!may_cpu(CPU_BASED_USE_IO_BITMAPS)) {
		skip("I/O bitmaps", "not advertised");
		return;
	}
	one_port("port with a clear bit", 0x84, 1, 0x10000, false);
	one_port("port with a set bit", 0x84, 1, 0x84, true);
	one_port("neighbour's bit", 0x84, 1, 0x85, false);
	one_port("word, second byte", 0x84, 2, 0x85, true);
	one_port("dword, fourth byte", 0x84, 4, 0x87, true);
	one_port("dword, byte behind", 0x84, 4, 0x88, false);
	one_port("across the two bitmaps", 0x7ffe, 4, 0x8000, true);
	one_port("bitmap B", 0x9000, 1, 0x9000, true);
	one_port("bitmap B, bit of A", 0x9000, 1, 0x1000, false);
	one_port("last port", 0xffff, 1, 0xffff, true);
	/* A port number beyond FFFFH exits whatever the bitmaps say. */
	one_port("wraps around", 0xffff, 2, 0x10000, true);
}

static void l2_rdmsr(void)
{
	asm volatile("rdmsr" : : "c"(msr_index) : "rax", "rdx");
}

static void l2_wrmsr(void)
{
	asm volatile("rdmsr\n\twrmsr" : : "c"(msr_index) : "rax", "rdx");
}

static void one_msr(const char *name, u32 msr, unsigned bit, bool write, u64 want)
{
	vmx_fresh();
	set_cpu(CPU_BASED_USE_MSR_BITMAPS);
	memset(msr_bitmap, 0, sizeof(msr_bitmap));
	if (bit < 0x8000)
		msr_bitmap[bit / 8] = 1 << (bit & 7);
	vmwrite(MSR_BITMAP, (u64)msr_bitmap);
	msr_index = msr;
	check(name, run_at(write ? l2_wrmsr : l2_rdmsr), want);
}

static void msr(void)
{
	/* Bits of the four quarters: read low, read high, write low, write high. */
	enum {
		READ_LOW = 0,
		READ_HIGH = 0x2000,
		WRITE_LOW = 0x4000,
		WRITE_HIGH = 0x6000,
		NO = 0x8000
	};

	if (!may_cpu(CPU_BASED_USE_MSR_BITMAPS)) {
		skip("MSR bitmaps", "not advertised");
		return;
	}
	one_msr("rdmsr, low, clear", MSR_SYSENTER_CS, NO, false, EXIT_REASON_VMCALL);
	one_msr("rdmsr, low, set", MSR_SYSENTER_CS, READ_LOW + 0x174, false, EXIT_REASON_MSR_READ);
	one_msr("rdmsr, low, write's bit", MSR_SYSENTER_CS, WRITE_LOW + 0x174, false,
		EXIT_REASON_VMCALL);
	one_msr("wrmsr, low, set", MSR_SYSENTER_CS, WRITE_LOW + 0x174, true, EXIT_REASON_MSR_WRITE);
	one_msr("wrmsr, low, clear", MSR_SYSENTER_CS, NO, true, EXIT_REASON_VMCALL);
	one_msr("rdmsr, high, set", MSR_KERNEL_GS_BASE, READ_HIGH + 0x102, false,
		EXIT_REASON_MSR_READ);
	one_msr("rdmsr, high, clear", MSR_KERNEL_GS_BASE, NO, false, EXIT_REASON_VMCALL);
	one_msr("wrmsr, high, set", MSR_KERNEL_GS_BASE, WRITE_HIGH + 0x102, true,
		EXIT_REASON_MSR_WRITE);
	one_msr("wrmsr, high, clear", MSR_KERNEL_GS_BASE, NO, true, EXIT_REASON_VMCALL);
	one_msr("rdmsr, low number in the high part", MSR_KERNEL_GS_BASE, READ_LOW + 0x102, false,
		EXIT_REASON_VMCALL);
	one_msr("rdmsr outside the bitmaps", 0x40000000, NO, false, EXIT_REASON_MSR_READ);
	one_msr("rdmsr just above the low range", 0x2000, NO, false, EXIT_REASON_MSR_READ);
	one_msr("rdmsr just above the high range", 0xc0002000, NO, false, EXIT_REASON_MSR_READ);
	/* An MSR that L2 may touch as far as the bitmap goes, but that there is not: #GP in L2. */
	vmx_fresh();
	set_cpu(CPU_BASED_USE_MSR_BITMAPS);
	memset(msr_bitmap, 0, sizeof(msr_bitmap));
	vmwrite(MSR_BITMAP, (u64)msr_bitmap);
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	msr_index = 0x1fff;
	check("rdmsr of no MSR", run_at(l2_rdmsr), EXIT_REASON_EXCEPTION_NMI);
	check("its #GP", vmread(VM_EXIT_INTR_INFO), 0x80000b0d);
}

/* ---- Exits that are no instruction's ---- */

BLOB(x_triple, "lidt null_idt(%rip)", "ud2");
asm(".pushsection .data\nnull_idt: .word 0\n.quad 0\n.popsection");
BLOB(x_getsec, "xor %eax, %eax", ".byte 0x0f, 0x37");

static void others(void)
{
	vmx_fresh();
	check("triple fault", run_at(x_triple), EXIT_REASON_TRIPLE_FAULT);
	check("triple fault, qualification", vmread(EXIT_QUALIFICATION), 0);
	check("triple fault, rip", vmread(GUEST_RIP), (u64)x_triple_i);
	check("triple fault, activity", vmread(GUEST_ACTIVITY_STATE), 0);

	/* VMX instructions of L2 at CPL 3 fault before they exit; 26.1.1. */
	vmx_fresh();
	vmwrite(EXCEPTION_BITMAP, BIT(13) | BIT(6));
	vmwrite(GUEST_CS_SELECTOR, UCS);
	vmwrite(GUEST_CS_AR_BYTES, 0xa0fb);
	vmwrite(GUEST_SS_SELECTOR, UDS);
	vmwrite(GUEST_SS_AR_BYTES, 0xc0f3);
	check("vmxoff at CPL 3", run_at(x_vmxoff), EXIT_REASON_VMOFF);
	vmwrite(GUEST_RIP, (u64)x_hlt_i);
	set_cpu(CPU_BASED_HLT_EXITING);
	check("hlt at CPL 3", run(), EXIT_REASON_EXCEPTION_NMI);
	check("hlt at CPL 3, #GP", vmread(VM_EXIT_INTR_INFO), 0x80000b0d);
	vmwrite(GUEST_RIP, (u64)x_invd_i);
	check("invd at CPL 3", run(), EXIT_REASON_EXCEPTION_NMI);
	vmwrite(GUEST_RIP, (u64)x_cpuid_i);
	check("cpuid at CPL 3", run(), EXIT_REASON_CPUID);
	vmwrite(GUEST_RIP, (u64)x_vmcall_i);
	check("vmcall at CPL 3", run(), EXIT_REASON_VMCALL);

	/* Without their controls: #UD. */
	vmx_fresh();
	vmwrite(EXCEPTION_BITMAP, BIT(6));
	check("rdtscp not enabled", run_at(x_rdtscp), EXIT_REASON_EXCEPTION_NMI);
	check("rdtscp not enabled, #UD", vmread(VM_EXIT_INTR_INFO), 0x80000306);
	check("invpcid not enabled", run_at(x_invpcid), EXIT_REASON_EXCEPTION_NMI);
	check("getsec without SMXE", run_at(x_getsec), EXIT_REASON_EXCEPTION_NMI);
}

void group_exits(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		one(&rows[i]);
	without();
	io();
	msr();
	others();
}
