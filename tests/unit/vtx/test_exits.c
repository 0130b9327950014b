// SPDX-License-Identifier: MIT
/*
 * VM exits by instructions: reason, qualification, length and instruction information as SDM vol.
 * 3C, 28.2 and its tables have them. One row an instruction.
 */
#include "guest.h"

#include <string.h>

#include "base/counter.h"

#define NO_INFO (~0u)

/* Instruction information of memory operands: tables 28-9 to 28-14. */
#define ADDR16		0u
#define ADDR32		(1u << 7)
#define ADDR64		(2u << 7)
#define SEG(s)		((u32)(s) << 15)
#define INDEX(r, scale) ((u32)(r) << 18 | (scale))
#define NO_INDEX	(1u << 22)
#define BASE(r)		((u32)(r) << 23)
#define NO_BASE		(1u << 27)
#define REG2(r)		((u32)(r) << 28)
#define REG1(r)		((u32)(r) << 3)
#define IS_REG		(1u << 10)
/* [rax] in 64-bit mode */
/* 32-bit operand size; table 28-10 leaves the bit undefined in 64-bit mode. */
#define OP32   (1u << 11)
#define AT_RAX (ADDR64 | SEG(DS) | NO_INDEX | BASE(RAX))
/* [rbx + rcx * 4 + 0x10] and [r9 + r10 * 8 - 8] */
#define AT_RBX_RCX (ADDR64 | SEG(DS) | INDEX(RCX, 2) | BASE(RBX))
#define AT_R9_R10  (ADDR64 | SEG(DS) | INDEX(R10, 3) | BASE(R9))

static void none(struct guest *g) {}
static void hlt_exiting(struct guest *g)
{
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_HLT_EXITING);
}
static void cpu1_all(struct guest *g)
{
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL,
	      CPU_BASED_INVLPG_EXITING | CPU_BASED_MWAIT_EXITING | CPU_BASED_RDPMC_EXITING |
		      CPU_BASED_RDTSC_EXITING | CPU_BASED_MONITOR_EXITING |
		      CPU_BASED_PAUSE_EXITING | CPU_BASED_MOV_DR_EXITING |
		      CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |
		      CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING);
	vm_cpu2(g, SECONDARY_EXEC_WBINVD_EXITING | SECONDARY_EXEC_RDRAND_EXITING |
			   SECONDARY_EXEC_RDSEED_EXITING | SECONDARY_EXEC_DESC |
			   SECONDARY_EXEC_ENABLE_INVPCID | SECONDARY_EXEC_ENABLE_RDTSCP);
}
static void uncond_io(struct guest *g)
{
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_UNCOND_IO_EXITING);
}
static void osxsave(struct guest *g)
{
	vm_or(g, GUEST_CR4, CR4_OSXSAVE);
}
static void owned_ts(struct guest *g)
{
	vmw(g, CR0_GUEST_HOST_MASK, CR0_TS | CR0_PE | CR0_MP);
	vmw(g, CR0_READ_SHADOW, CR0_TS | CR0_PE);
}
static void owned_pge(struct guest *g)
{
	vmw(g, CR4_GUEST_HOST_MASK, CR4_PGE);
}
static void intercept_all(struct guest *g)
{
	vmw(g, EXCEPTION_BITMAP, ~0u);
}
static void vmfunc_on(struct guest *g)
{
	vm_cpu2(g, SECONDARY_EXEC_ENABLE_VMFUNC);
	vmw(g, EPTP_LIST_ADDRESS, (u64)guest_page(g));
}

struct row {
	const char *name;
	const u8 *code, *end;
	void (*prepare)(struct guest *g);
	u32 reason;
	u64 qual;
	u32 len;
	u32 info;
	u32 at; /* offset of the instruction that exits */
};

/* ROW(name, code, prepare, reason, qualification, length, information, offset) */
#define ROWS(ROW)                                                                                 \
	ROW(cpuid, "cpuid", none, 10, 0, 2, NO_INFO, 0)                                           \
	ROW(hlt, "nop; hlt", hlt_exiting, 12, 0, 1, NO_INFO, 1)                                   \
	ROW(invd, "invd", none, 13, 0, 2, NO_INFO, 0)                                             \
	ROW(invlpg, "mov rax, 0x1234567; invlpg [rax + 0x10]", cpu1_all, 14, 0x1234577, 4,        \
	    NO_INFO, 7)                                                                           \
	ROW(rdpmc, "rdpmc", cpu1_all, 15, 0, 2, NO_INFO, 0)                                       \
	ROW(rdtsc, "rdtsc", cpu1_all, 16, 0, 2, NO_INFO, 0)                                       \
	ROW(vmcall, "vmcall", none, 18, 0, 3, NO_INFO, 0)                                         \
	ROW(vmclear, "vmclear [rbx + rcx * 4 + 0x10]", none, 19, 0x10, 6, AT_RBX_RCX, 0)          \
	ROW(vmlaunch, "vmlaunch", none, 20, 0, 3, NO_INFO, 0)                                     \
	ROW(vmptrld, "vmptrld [r9 + r10 * 8 - 8]", none, 21, -8ull, 6, AT_R9_R10, 0)              \
	ROW(vmptrst, "vmptrst fs:[rax]", none, 22, 0, 4, ADDR64 | SEG(FS) | NO_INDEX | BASE(RAX), \
	    0)                                                                                    \
	ROW(vmread_reg, "vmread rdx, r11", none, 23, 0, 4, IS_REG | REG1(RDX) | REG2(R11), 0)     \
	ROW(vmread_mem, "vmread [rbx + rcx * 4 + 0x10], rsi", none, 23, 0x10, 5,                  \
	    AT_RBX_RCX | REG2(RSI), 0)                                                            \
	ROW(vmresume, "vmresume", none, 24, 0, 3, NO_INFO, 0)                                     \
	ROW(vmwrite_reg, "vmwrite r11, rdx", none, 25, 0, 4, IS_REG | REG1(RDX) | REG2(R11), 0)   \
	ROW(vmwrite_mem, "vmwrite rsi, [rax]", none, 25, 0, 3, AT_RAX | REG2(RSI), 0)             \
	ROW(vmxoff, "vmxoff", none, 26, 0, 3, NO_INFO, 0)                                         \
	/* RIP-relative: the sum of displacement and next RIP */                                  \
	ROW(vmxon, "vmxon [rip + 0x100]", none, 27, CODE + 8 + 0x100, 8,                          \
	    ADDR64 | SEG(DS) | NO_INDEX | NO_BASE, 0)                                             \
	ROW(invept, "invept rdi, [rax]", none, 50, 0, 5, AT_RAX | REG2(RDI), 0)                   \
	ROW(invvpid, "invvpid r8, [rax + 0x7f]", none, 53, 0x7f, 7, AT_RAX | REG2(R8), 0)         \
	ROW(invpcid, "mov eax, 0x8000; invpcid rdx, [eax]", cpu1_all, 58, 0, 6,                   \
	    ADDR32 | SEG(DS) | NO_INDEX | BASE(RAX) | REG2(RDX), 5)                               \
	ROW(cr0_to, "mov rdx, cr0; xor rdx, 8; mov cr0, rdx", owned_ts, 28, RDX << 8, 3, NO_INFO, \
	    7)                                                                                    \
	ROW(cr3_to, "mov cr3, r9", cpu1_all, 28, 3 | R9 << 8, 4, NO_INFO, 0)                      \
	ROW(cr3_from, "mov rsi, cr3", cpu1_all, 28, 3 | 1 << 4 | RSI << 8, 3, NO_INFO, 0)         \
	ROW(cr4_to, "mov rax, cr4; bts rax, 7; mov cr4, rax", owned_pge, 28, 4, 3, NO_INFO, 8)    \
	ROW(cr8_to, "mov cr8, rbx", cpu1_all, 28, 8 | RBX << 8, 4, NO_INFO, 0)                    \
	ROW(cr8_from, "mov rbx, cr8", cpu1_all, 28, 8 | 1 << 4 | RBX << 8, 4, NO_INFO, 0)         \
	ROW(clts, "clts", owned_ts, 28, 2 << 4, 2, NO_INFO, 0)                                    \
	ROW(lmsw_reg, "mov eax, 3; lmsw ax", owned_ts, 28, 3 << 4 | 3 << 16, 3, NO_INFO, 5)       \
	ROW(lmsw_mem, "mov eax, 0x8000; mov word ptr [rax], 1; lmsw [rax]", owned_ts, 28,         \
	    3 << 4 | 1 << 6 | 1 << 16, 3, NO_INFO, 10)                                            \
	ROW(dr_to, "mov dr7, rcx", cpu1_all, 29, 7 | RCX << 8, 3, NO_INFO, 0)                     \
	ROW(dr_from, "mov r12, dr6", cpu1_all, 29, 6 | 1 << 4 | R12 << 8, 4, NO_INFO, 0)          \
	ROW(in_imm, "in al, 0x60", uncond_io, 30, 1 << 3 | 1 << 6 | 0x60 << 16, 2, NO_INFO, 0)    \
	ROW(in_dx, "mov edx, 0x3f8; in ax, dx", uncond_io, 30, 1 | 1 << 3 | 0x3f8 << 16, 2,       \
	    NO_INFO, 5)                                                                           \
	ROW(out_imm, "out 0x80, eax", uncond_io, 30, 3 | 1 << 6 | 0x80 << 16, 2, NO_INFO, 0)      \
	ROW(ins, "mov edx, 0x1f0; mov edi, 0x8000; mov ecx, 4; rep insw", uncond_io, 30,          \
	    1 | 1 << 3 | 1 << 4 | 1 << 5 | 0x1f0 << 16, 3, ADDR64, 15)                            \
	ROW(outs, "mov edx, 0x1f0; mov esi, 0x8000; outs dx, dword ptr gs:[esi]", uncond_io, 30,  \
	    3 | 1 << 4 | 0x1f0 << 16, 3, ADDR32 | SEG(GS), 10)                                    \
	ROW(rdmsr, "mov ecx, 0x10; rdmsr", none, 31, 0, 2, NO_INFO, 5)                            \
	ROW(wrmsr, "mov ecx, 0xc0000082; wrmsr", none, 32, 0, 2, NO_INFO, 5)                      \
	ROW(mwait, "mwait", cpu1_all, 36, 0, 3, NO_INFO, 0)                                       \
	ROW(monitor, "monitor", cpu1_all, 39, 0, 3, NO_INFO, 0)                                   \
	ROW(pause, "pause", cpu1_all, 40, 0, 2, NO_INFO, 0)                                       \
	ROW(sgdt, "sgdt [rax]", cpu1_all, 46, 0, 3, OP32 | AT_RAX, 0)                             \
	ROW(sidt, "sidt [rbx + rcx * 4 + 0x10]", cpu1_all, 46, 0x10, 5,                           \
	    OP32 | AT_RBX_RCX | 1 << 28, 0)                                                       \
	ROW(lgdt, "lgdt [rax]", cpu1_all, 46, 0, 3, OP32 | AT_RAX | 2 << 28, 0)                   \
	ROW(lidt, "lidt [rax]", cpu1_all, 46, 0, 3, OP32 | AT_RAX | 3 << 28, 0)                   \
	ROW(sldt, "sldt edx", cpu1_all, 47, 0, 3, IS_REG | REG1(RDX), 0)                          \
	ROW(str, "str [rax]", cpu1_all, 47, 0, 3, AT_RAX | 1 << 28, 0)                            \
	ROW(lldt, "lldt r9w", cpu1_all, 47, 0, 4, IS_REG | REG1(R9) | 2 << 28, 0)                 \
	ROW(ltr, "ltr [rax]", cpu1_all, 47, 0, 3, AT_RAX | 3 << 28, 0)                            \
	ROW(rdtscp, "rdtscp", cpu1_all, 51, 0, 3, NO_INFO, 0)                                     \
	ROW(wbinvd, "wbinvd", cpu1_all, 54, 0, 2, NO_INFO, 0)                                     \
	ROW(xsetbv, "xor ecx, ecx; xsetbv", osxsave, 55, 0, 3, NO_INFO, 2)                        \
	ROW(rdrand16, "rdrand cx", cpu1_all, 57, 0, 4, RCX << 3, 0)                               \
	ROW(rdrand64, "rdrand r14", cpu1_all, 57, 0, 4, R14 << 3 | 2 << 11, 0)                    \
	ROW(rdseed, "rdseed edx", cpu1_all, 61, 0, 3, RDX << 3 | 1 << 11, 0)                      \
	ROW(vmfunc, "xor eax, eax; vmfunc", vmfunc_on, 59, 0, 3, NO_INFO, 2)

#define DEFINE(n, text, prepare, reason, qual, len, info, at) BLOB(n, text);
ROWS(DEFINE)

static const struct row rows[] = {
#define ENTRY(n, text, prepare, reason, qual, len, info, at) \
	{#n, blob_##n, blob_##n##_end, prepare, reason, qual, len, info, at},
	ROWS(ENTRY)};

static void test_rows(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];
		struct guest g;
		u64 qual, len, info, rip;
		u32 reason;

		guest_init(&g);
		guest_code(&g, r->code, r->end);
		vmw(&g, VMX_INSTRUCTION_INFO, NO_INFO);
		r->prepare(&g);
		reason = guest_run(&g);
		qual = vmr(&g, EXIT_QUALIFICATION);
		len = vmr(&g, VM_EXIT_INSTRUCTION_LEN);
		info = vmr(&g, VMX_INSTRUCTION_INFO);
		rip = vmr(&g, GUEST_RIP);
		if (reason != r->reason || qual != r->qual || len != r->len || info != r->info ||
		    rip != CODE + r->at)
			fail_msg("%s: reason %u qual %#lx len %lu info %#lx rip %#lx (want %u %#lx "
				 "%u "
				 "%#x %#lx), intr info %#lx",
				 r->name, reason, qual, len, info, rip, r->reason, r->qual, r->len,
				 r->info, CODE + r->at, vmr(&g, VM_EXIT_INTR_INFO));
		assert_int_equal(vmr(&g, VM_EXIT_INTR_INFO), 0);
		assert_int_equal(vmr(&g, IDT_VECTORING_INFO_FIELD), 0);
		assert_int_equal(sil_counters(g.cpu)->exits[reason], 1);
		guest_fini(&g);
	}
}

/* The linear addresses that go with some of them. */
static void test_linear_addresses(void **state)
{
	struct guest g;

	guest_init(&g);
	GUEST_CODE(&g, ins);
	uncond_io(&g);
	guest_run(&g);
	assert_int_equal(vmr(&g, GUEST_LINEAR_ADDRESS), 0x8000);
	guest_fini(&g);

	guest_init(&g);
	GUEST_CODE(&g, outs);
	uncond_io(&g);
	vmw(&g, GUEST_GS_BASE, 0x100);
	guest_run(&g);
	assert_int_equal(vmr(&g, GUEST_LINEAR_ADDRESS), 0x8100);
	guest_fini(&g);

	guest_init(&g);
	GUEST_CODE(&g, lmsw_mem);
	owned_ts(&g);
	guest_run(&g);
	assert_int_equal(vmr(&g, GUEST_LINEAR_ADDRESS), 0x8000);
	guest_fini(&g);
}

/* ---- Controls that leave the instruction to the guest ------------------------------------------
 */

/* Runs to the VMCALL at the end of the blob. */
static void run_through(struct guest *g, const u8 *start, const u8 *end)
{
	u32 reason;

	guest_code(g, start, end);
	reason = guest_run(g);
	if (reason != EXIT_REASON_VMCALL)
		fail_msg("exit %u at %#lx, qualification %#lx, event %#lx", reason,
			 vmr(g, GUEST_RIP), vmr(g, EXIT_QUALIFICATION), vmr(g, VM_EXIT_INTR_INFO));
	assert_int_equal(vmr(g, GUEST_RIP), CODE + (end - start) - 3);
}
#define RUN_THROUGH(g, name) run_through(g, blob_##name, blob_##name##_end)

BLOB(quiet, "pause; mov rax, cr3; mov cr3, rax; mov rax, cr8; mov cr8, rax; mov rax, dr6; wbinvd\n"
	    "invlpg [rax]; rdtsc; rdrand rax; rdseed rbx; sgdt [0x8000]; sldt ax; str ax; vmcall");

static void test_nothing_asked(void **state)
{
	struct guest g;

	guest_init(&g);
	RUN_THROUGH(&g, quiet);
	guest_fini(&g);
}

BLOB(cr_shadow,
     "mov rax, cr0; mov rbx, cr4; smsw ecx; mov rdx, rax; or rdx, 0x10000; mov cr0, rdx\n"
     "clts; mov rsi, cr0; vmcall");

static void test_cr_masks(void **state)
{
	struct guest g;

	guest_init(&g);
	vmw(&g, CR0_GUEST_HOST_MASK, CR0_TS | CR0_NE | CR0_PG);
	vmw(&g, CR0_READ_SHADOW, CR0_PG);
	vmw(&g, CR4_GUEST_HOST_MASK, CR4_VMXE | CR4_PGE);
	vmw(&g, CR4_READ_SHADOW, CR4_PGE);
	vm_or(&g, GUEST_CR0, CR0_TS);
	RUN_THROUGH(&g, cr_shadow);
	/* Real: PG NE ET TS MP PE; seen: without TS (owned, shadow 0) and NE (owned, shadow 0). */
	assert_int_equal(g.r->gpr[RAX], 0x80000013);
	assert_int_equal(g.r->gpr[RCX], 0x80000013);
	assert_int_equal(g.r->gpr[RBX], CR4_PAE | CR4_OSFXSR | CR4_PGE);
	/* WP was the guest's to set; CLTS changed nothing that is the host's. */
	assert_int_equal(g.r->gpr[RSI], 0x80010013);
	assert_int_equal(vmr(&g, GUEST_CR0), 0x8001003b);
	guest_fini(&g);
}

BLOB(cr3_target, "mov eax, 0x4000; mov cr3, rax; mov eax, 0x5000; mov cr3, rax");

static void test_cr3_targets(void **state)
{
	struct guest g;

	guest_init(&g);
	GUEST_CODE(&g, cr3_target);
	vm_or(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_CR3_LOAD_EXITING);
	vmw(&g, CR3_TARGET_VALUE1, PML4);
	vmw(&g, CR3_TARGET_VALUE2, 0x5000);
	vmw(&g, CR3_TARGET_COUNT, 2);
	assert_int_equal(guest_run(&g), EXIT_REASON_CR_ACCESS);
	assert_int_equal(vmr(&g, GUEST_RIP), CODE + 13);
	guest_fini(&g);
}

/* CR0.NE and CR4.VMXE are fixed to 1 in VMX operation: #GP (26.3). */
BLOB(fixed_ne, "mov rax, cr0; btr rax, 5; mov cr0, rax");
BLOB(fixed_vmxe, "mov rax, cr4; btr rax, 13; mov cr4, rax");

static void test_fixed_bits(void **state)
{
	struct guest g;

	guest_init(&g);
	GUEST_CODE(&g, fixed_ne);
	vmw(&g, EXCEPTION_BITMAP, BIT(13));
	assert_int_equal(guest_run(&g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(&g, VM_EXIT_INTR_INFO), 0x80000b0d);
	assert_int_equal(vmr(&g, VM_EXIT_INTR_ERROR_CODE), 0);
	assert_int_equal(vmr(&g, GUEST_RIP), CODE + 8);
	GUEST_CODE(&g, fixed_vmxe);
	vmw(&g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(&g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(&g, VM_EXIT_INTR_INFO), 0x80000b0d);
	guest_fini(&g);
}

BLOB(io_bitmap,
     "out 0x10, al; mov edx, 0x8001; out dx, al; in eax, 0x20; mov dx, 0xffff; in ax, dx");

static void test_io_bitmaps(void **state)
{
	struct guest g;
	u8 *a, *b;

	guest_init(&g);
	a = guest_page(&g);
	b = guest_page(&g);
	GUEST_CODE(&g, io_bitmap);
	vm_or(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_IO_BITMAPS);
	vmw(&g, IO_BITMAP_A, (u64)a);
	vmw(&g, IO_BITMAP_B, (u64)b);
	b[0] = 2;
	assert_int_equal(guest_run(&g), EXIT_REASON_IO_INSTRUCTION);
	assert_int_equal(vmr(&g, EXIT_QUALIFICATION), 0x8001ull << 16);
	/* Any byte of a wide access: port 0x23 here. */
	b[0] = 0;
	a[4] = 8;
	assert_int_equal(guest_run(&g), EXIT_REASON_IO_INSTRUCTION);
	assert_int_equal(vmr(&g, EXIT_QUALIFICATION), 3 | 1 << 3 | 1 << 6 | 0x20 << 16);
	/* Wrapping around the port space exits whatever the bitmaps say. */
	a[4] = 0;
	assert_int_equal(guest_run(&g), EXIT_REASON_IO_INSTRUCTION);
	assert_int_equal(vmr(&g, EXIT_QUALIFICATION), 1 | 1 << 3 | 0xffffull << 16);
	guest_fini(&g);
}

BLOB(msr_bitmap,
     "mov ecx, 0xc0000082; mov eax, 0x1234; xor edx, edx; wrmsr; rdmsr; mov ecx, 0x174; rdmsr\n"
     "mov ecx, 0x2000; rdmsr");

static void test_msr_bitmaps(void **state)
{
	struct guest g;
	u8 *map;

	guest_init(&g);
	map = guest_page(&g);
	GUEST_CODE(&g, msr_bitmap);
	vm_or(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_MSR_BITMAPS);
	vmw(&g, MSR_BITMAP, (u64)map);
	map[1024 + 0x82 / 8] = 1 << (0x82 & 7);
	assert_int_equal(guest_run(&g), EXIT_REASON_MSR_READ);
	assert_int_equal(g.r->lstar, 0x1234);
	assert_int_equal(vmr(&g, GUEST_RIP), CODE + 14);
	map[1024 + 0x82 / 8] = 0;
	map[0x174 / 8] = 1 << (0x174 & 7);
	assert_int_equal(guest_run(&g), EXIT_REASON_MSR_READ);
	assert_int_equal(vmr(&g, GUEST_RIP), CODE + 21);
	map[0x174 / 8] = 0;
	/* Outside both ranges. */
	assert_int_equal(guest_run(&g), EXIT_REASON_MSR_READ);
	assert_int_equal(vmr(&g, GUEST_RIP), CODE + 28);
	guest_fini(&g);
}

BLOB(gated_rdtscp, "rdtscp");
BLOB(gated_invpcid, "invpcid rax, [rax]");
BLOB(gated_xsaves, "xsaves [rax]");
BLOB(gated_vmfunc, "vmfunc");

/* Instructions that secondary controls enable are #UD without them (26.3). */
static void test_gated(void **state)
{
	static const struct {
		const u8 *code, *end;
	} k[] = {
		{blob_gated_rdtscp, blob_gated_rdtscp_end},
		{blob_gated_invpcid, blob_gated_invpcid_end},
		{blob_gated_xsaves, blob_gated_xsaves_end},
		{blob_gated_vmfunc, blob_gated_vmfunc_end},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(k); i++) {
		struct guest g;

		guest_init(&g);
		guest_code(&g, k[i].code, k[i].end);
		intercept_all(&g);
		vm_or(&g, GUEST_CR4, CR4_OSXSAVE);
		assert_int_equal(guest_run(&g), EXIT_REASON_EXCEPTION_NMI);
		assert_int_equal(vmr(&g, VM_EXIT_INTR_INFO), 0x80000306);
		guest_fini(&g);
	}
}

BLOB(tsc, "rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; mov ecx, 0x10; rdmsr; shl rdx, 32\n"
	  "or rax, rdx; vmcall");

static void test_tsc(void **state)
{
	struct guest g;
	u8 *map;

	guest_init(&g);
	map = guest_page(&g);
	vmw(&g, MSR_BITMAP, (u64)map);
	vm_or(&g, CPU_BASED_VM_EXEC_CONTROL,
	      CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_USE_TSC_OFFSETTING);
	vmw(&g, TSC_OFFSET, -500ull);
	g.tsc_step = 0;
	g.tsc = 10000;
	RUN_THROUGH(&g, tsc);
	assert_int_equal(g.r->gpr[RBX], 9500);
	assert_int_equal(g.r->gpr[RAX], 9500);
	/* 2.5 times, then the offset: 26.3. */
	vm_cpu2(&g, SECONDARY_EXEC_TSC_SCALING);
	vmw(&g, TSC_MULTIPLIER, 5ull << 47);
	vmw(&g, GUEST_RIP, CODE);
	RUN_THROUGH(&g, tsc);
	assert_int_equal(g.r->gpr[RBX], 24500);
	guest_fini(&g);
}

BLOB(tsc3, "rdmsr; mov r8, rax; shl rdx, 32; or r8, rdx; rdtsc; mov r9, rax; shl rdx, 32\n"
	   "or r9, rdx; rdtscp; mov r10, rax; shl rdx, 32; or r10, rdx; mov r11, rcx; vmcall");
BLOB(tsc_wait, "1: rdtsc; shl rdx, 32; or rdx, rax; mov rbx, rdx; jmp 1b");

/* Where the counter is the host's, translated code reads it by itself. */
static void test_native_tsc(void **state)
{
	struct guest g;
	u64 before, after, offset = -123456789ull;
	u8 *map;

	guest_init_native_tsc(&g);
	map = guest_page(&g);
	vmw(&g, MSR_BITMAP, (u64)map);
	vm_or(&g, CPU_BASED_VM_EXEC_CONTROL,
	      CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_USE_TSC_OFFSETTING);
	vm_cpu2(&g, SECONDARY_EXEC_ENABLE_RDTSCP);
	vmw(&g, TSC_OFFSET, offset);
	g.r->tsc_aux = 0x1234567;
	for (unsigned i = 0; i < 3; i++) {
		vmw(&g, GUEST_RIP, CODE);
		g.r->gpr[RCX] = 0x10;
		before = counter_read() + offset;
		RUN_THROUGH(&g, tsc3);
		after = counter_read() + offset;
		assert_true(before <= g.r->gpr[R8] && g.r->gpr[R8] <= g.r->gpr[R9]);
		assert_true(g.r->gpr[R9] <= g.r->gpr[R10] && g.r->gpr[R10] <= after);
		assert_int_equal(g.r->gpr[R11], 0x1234567);
	}
	/* The same translations for a VMCS that has no RDTSCP, then for one that wants exits. */
	intercept_all(&g);
	vm_clear(&g, SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_RDTSCP);
	vmw(&g, GUEST_RIP, CODE);
	g.r->gpr[RCX] = 0x10;
	assert_int_equal(guest_run(&g), EXIT_REASON_EXCEPTION_NMI);
	assert_int_equal(vmr(&g, VM_EXIT_INTR_INFO), 0x80000306);
	vm_cpu2(&g, SECONDARY_EXEC_ENABLE_RDTSCP);
	vm_or(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_RDTSC_EXITING);
	assert_int_equal(guest_run(&g), EXIT_REASON_RDTSCP);
	vmw(&g, GUEST_RIP, CODE);
	g.r->gpr[RCX] = 0x10;
	assert_int_equal(guest_run(&g), EXIT_REASON_RDTSC);
	vm_clear(&g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_RDTSC_EXITING);
	/* Twice as fast. */
	vm_cpu2(&g, SECONDARY_EXEC_TSC_SCALING);
	vmw(&g, TSC_MULTIPLIER, 2ull << 48);
	before = 2 * counter_read() + offset;
	RUN_THROUGH(&g, tsc3);
	assert_true(before <= g.r->gpr[R9] && g.r->gpr[R9] <= 2 * counter_read() + offset);
	/* The host's timer never fires. */
	vm_clear(&g, SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_TSC_SCALING);
	vm_or(&g, PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VMX_PREEMPTION_TIMER);
	vmw(&g, TSC_OFFSET, 0);
	vmw(&g, VMX_PREEMPTION_TIMER_VALUE, 10000);
	GUEST_CODE(&g, tsc_wait);
	vmw(&g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(&g), EXIT_REASON_PREEMPTION_TIMER);
	assert_int_equal(vmr(&g, GUEST_RIP), CODE);
	assert_true(g.r->gpr[RBX] < g.armed);
	guest_fini(&g);
}

BLOB(pause_loop, "1: pause; rdtsc; jmp 1b");

static void test_pause_loop(void **state)
{
	struct guest g;

	guest_init(&g);
	GUEST_CODE(&g, pause_loop);
	vm_cpu2(&g, SECONDARY_EXEC_PAUSE_LOOP_EXITING);
	vmw(&g, PLE_GAP, 100);
	vmw(&g, PLE_WINDOW, 4000);
	g.tsc = 1000000;
	g.tsc_step = 10;
	assert_int_equal(guest_run(&g), EXIT_REASON_PAUSE_INSTRUCTION);
	/* Two readings a turn. */
	assert_in_range(g.tsc - 1000000, 4000, 4100);
	/* A slow loop is none. */
	vmw(&g, PLE_GAP, 5);
	sil_cpu_kick(g.cpu);
	assert_int_equal(guest_run(&g), EXIT_REASON_EXTERNAL_INTERRUPT);
	guest_fini(&g);
}

/* ---- VMX instructions that the guest may have
 * ---------------------------------------------------- */

BLOB(shadow, "mov ebx, 0x681e; vmread rax, rbx; setz r8b; setc r9b\n"
	     "mov ecx, 0x6820; mov edx, 0x246; vmwrite rcx, rdx\n"
	     "mov ebx, 0x4000; mov esi, 0x8000; vmread [rsi], rbx; mov rdi, [rsi]\n"
	     "mov ebx, 0x7ffe; vmread r10, rbx; setz r11b; mov ebx, 0x6802; vmread rax, rbx");

static void test_shadow_vmcs(void **state)
{
	struct guest g;
	u8 *rd, *wr;
	u32 *shadow;

	guest_init(&g);
	shadow = guest_page(&g);
	rd = guest_page(&g);
	wr = guest_page(&g);
	*shadow = *(u32 *)g.vmcs | BIT(31);
	assert_int_equal(sil_vmclear(g.cpu, shadow), SIL_VMX_OK);
	assert_int_equal(sil_vmptrld(g.cpu, shadow), SIL_VMX_OK);
	vmw(&g, GUEST_RIP, 0xabcd);
	vmw(&g, PIN_BASED_VM_EXEC_CONTROL, 0x77);
	assert_int_equal(sil_vmclear(g.cpu, shadow), SIL_VMX_OK);
	assert_int_equal(sil_vmptrld(g.cpu, g.vmcs), SIL_VMX_OK);

	GUEST_CODE(&g, shadow);
	vm_cpu2(&g, SECONDARY_EXEC_SHADOW_VMCS);
	vmw(&g, VMREAD_BITMAP, (u64)rd);
	vmw(&g, VMWRITE_BITMAP, (u64)wr);
	vmw(&g, VMCS_LINK_POINTER, (u64)shadow);
	rd[0x6802 / 8] = 1 << (0x6802 & 7);
	assert_int_equal(guest_run(&g), EXIT_REASON_VMREAD);
	/* Everything before GUEST_CR3 went without an exit. */
	assert_int_equal(g.r->gpr[R8] & 1, 0);
	assert_int_equal(g.r->gpr[R9] & 1, 0);
	assert_int_equal(g.r->gpr[RDI], 0x77);
	/* No such field: VMfailValid. */
	assert_int_equal(g.r->gpr[R11] & 1, 1);
	assert_int_equal(vmr(&g, VMX_INSTRUCTION_INFO), IS_REG | REG1(RAX) | REG2(RBX));
	assert_int_equal(sil_counters(g.cpu)->vmread_shadow, 2);
	assert_int_equal(sil_counters(g.cpu)->vmwrite_shadow, 1);
	vmw(&g, VMCS_LINK_POINTER, ~0ull);
	assert_int_equal(sil_vmptrld(g.cpu, shadow), SIL_VMX_OK);
	assert_int_equal(vmr(&g, GUEST_RFLAGS), 0x246);
	assert_int_equal(vmr(&g, VM_INSTRUCTION_ERROR), 12);
	guest_fini(&g);
}

BLOB(eptp_switch, "mov rbx, [0x8000]; xor eax, eax; mov ecx, 1; vmfunc; mov rdx, [0x8000]; vmcall");

static void test_eptp_switching(void **state)
{
	struct guest g;
	u64 *list, *root, *pdpt, *pd, *pt;
	u8 *other;

	guest_init(&g);
	list = guest_page(&g);
	root = guest_page(&g);
	pdpt = guest_page(&g);
	pd = guest_page(&g);
	pt = guest_page(&g);
	other = guest_page(&g);
	root[0] = (u64)pdpt | 7;
	pdpt[0] = (u64)pd | 7;
	pd[0] = (u64)pt | 7;
	memcpy(pt, g.ept_pt, PAGE_SIZE);
	pt[DATA >> 12] = (u64)other | EPT_MT_WB | 7;
	g.mem[DATA] = 1;
	other[0] = 2;
	list[1] = (u64)root | EPTP_WALK_4 | EPTP_MT_WB;
	vm_cpu2(&g, SECONDARY_EXEC_ENABLE_VMFUNC);
	vmw(&g, VM_FUNCTION_CONTROL, 1);
	vmw(&g, EPTP_LIST_ADDRESS, (u64)list);
	RUN_THROUGH(&g, eptp_switch);
	assert_int_equal(g.r->gpr[RBX], 1);
	assert_int_equal(g.r->gpr[RDX], 2);
	assert_int_equal(vmr(&g, EPT_POINTER), list[1]);
	/* An entry that VM entry would not take. */
	list[1] |= BIT(8);
	vmw(&g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(&g), EXIT_REASON_VMFUNC);
	guest_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),	      cmocka_unit_test(test_linear_addresses),
		cmocka_unit_test(test_nothing_asked), cmocka_unit_test(test_cr_masks),
		cmocka_unit_test(test_cr3_targets),   cmocka_unit_test(test_fixed_bits),
		cmocka_unit_test(test_io_bitmaps),    cmocka_unit_test(test_msr_bitmaps),
		cmocka_unit_test(test_gated),	      cmocka_unit_test(test_tsc),
		cmocka_unit_test(test_native_tsc),    cmocka_unit_test(test_pause_loop),
		cmocka_unit_test(test_shadow_vmcs),   cmocka_unit_test(test_eptp_switching),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
