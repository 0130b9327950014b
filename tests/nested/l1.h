/* SPDX-License-Identifier: MIT */
/*
 * The guest test hypervisor: what its groups of tests share. It runs in 64-bit mode at CPL 0 with 4
 * GiB mapped one to one; L2 starts with the same page tables, GDT and IDT, so that C functions of
 * this program can run in it. Section numbers are those of SDM vol. 3.
 */
#ifndef TESTS_NESTED_L1_H
#define TESTS_NESTED_L1_H

#include "base/bits.h"
#include "base/types.h"
#include "spec/vmx.h"

/* Field encodings, appendix B. */
enum vmcs_field {
#define VMCS(name, encoding, vmcs12, shadow) name = encoding,
#include "spec/vmcs.def"
};

#define CS64  0x08
#define DS64  0x10
#define CS32  0x18
#define UDS   0x23
#define UCS   0x2b
#define TSS   0x30
#define TSS32 0x40
#define CS16  0x50

/* MSRs, appendix A */
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_SYSENTER_CS	    0x174
#define MSR_SYSENTER_ESP    0x175
#define MSR_SYSENTER_EIP    0x176
#define MSR_DEBUGCTL	    0x1d9
#define MSR_PAT		    0x277
#define MSR_VMX_BASIC	    0x480
#define MSR_VMX_MISC	    0x485
#define MSR_VMX_CR0_FIXED0  0x486
#define MSR_VMX_CR0_FIXED1  0x487
#define MSR_VMX_CR4_FIXED0  0x488
#define MSR_VMX_CR4_FIXED1  0x489
#define MSR_VMX_VMCS_ENUM   0x48a
#define MSR_VMX_PROCBASED2  0x48b
#define MSR_VMX_EPT_VPID    0x48c
#define MSR_VMX_TRUE_PIN    0x48d
#define MSR_VMX_TRUE_PROC   0x48e
#define MSR_VMX_TRUE_EXIT   0x48f
#define MSR_VMX_TRUE_ENTRY  0x490
#define MSR_VMX_VMFUNC	    0x491
#define MSR_EFER	    0xc0000080
#define MSR_STAR	    0xc0000081
#define MSR_LSTAR	    0xc0000082
#define MSR_FS_BASE	    0xc0000100
#define MSR_GS_BASE	    0xc0000101
#define MSR_KERNEL_GS_BASE  0xc0000102

/* ---- rt.c: results, memory, exceptions ---- */

/* One result; true if they agree. */
bool check(const char *name, u64 got, u64 want);
/* Of a part of a test: prefix and name are joined. */
bool check2(const char *prefix, const char *name, u64 got, u64 want);
void skip(const char *name, const char *why);
void note(const char *text);
void panic(const char *text, u64 value) __attribute__((noreturn));
/* A zeroed page, never given back. */
void *page(void);
/* @n pages one after the other, the first at a multiple of @align. */
void *pages(unsigned n, u64 align);
void *memset(void *p, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);

struct exc {
	u64 fixup_rsp, fixup; /* boot.S knows these two */
	u64 taken;
	u64 vector, error, rip, cs, rflags, cr2, rsp;
	u64 irqs, irq_vector;
};
extern struct exc exc;
/* Exceptions that are not fixed up return where they came from instead of ending the program. */
extern bool exc_may_return;
/* Where L2's handler goes on after the next exception of a run(), or 0; what the last run() took.
 */
extern u64 l2_fixup;
extern struct exc l2;
void run_user(void *code);
void run_compat(void *code);

/* Runs an instruction that may fault and changes no register; further arguments are inputs. */
#define TRY(insn, ...)                                                                 \
	({                                                                             \
		exc.taken = 0;                                                         \
		asm volatile("movq $771f, exc + 8\n\t" insn "\n771:\tmovq $0, exc + 8" \
			     :                                                         \
			     : __VA_ARGS__                                             \
			     : "memory", "cc");                                        \
		exc.taken ? EXC(exc.vector) : 0;                                       \
	})

/* How a VMX instruction ended. */
#define INVALID	 1ull
#define VALID(n) (0x100ull | (n))
#define EXC(v)	 (0x200ull | (v))
/* run(): the entry failed without an exit. */
#define NOENTRY(o) (0x100000000ull | (o))
#define FAILED	   0x80000000ull

#define VMX_INSN(insn, ...)                                                       \
	({                                                                        \
		u64 flags_;                                                       \
		exc.taken = 0;                                                    \
		asm volatile("movq $771f, exc + 8\n\txor %%eax, %%eax\n\t" insn   \
			     "\n\tsetc %%al\n\tsetz %%ah\n771:\tmovq $0, exc + 8" \
			     : "=&a"(flags_)                                      \
			     : __VA_ARGS__                                        \
			     : "memory", "cc");                                   \
		vmx_outcome(flags_);                                              \
	})
u64 vmx_outcome(u64 flags);

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | (u64)hi << 32;
}

static inline void wrmsr(u32 msr, u64 v)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

/* 0 or EXC(v) */
u64 wrmsr_try(u32 msr, u64 v);
u64 rdmsr_try(u32 msr, u64 *v);

static inline void outb(u16 port, u8 v)
{
	asm volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

#define READ_REG(name)                                          \
	({                                                      \
		u64 v_;                                         \
		asm volatile("mov %%" #name ", %0" : "=r"(v_)); \
		v_;                                             \
	})
#define WRITE_REG(name, v) asm volatile("mov %0, %%" #name : : "r"((u64)(v)) : "memory")

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (u64)hi << 32;
}

static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	asm volatile("cpuid"
		     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
		     : "a"(leaf), "c"(sub));
}

/* ---- vmx.c ---- */

struct regs {
	u64 rax, rcx, rdx, rbx, rsp_unused, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};
extern struct regs regs;
extern u64 caps[32]; /* MSR 480H + i */
extern u32 revision;
extern const u32 vmcs_fields[]; /* all encodings */
extern const unsigned vmcs_nfields;
extern unsigned maxphyaddr;
extern u64 *vmxon_region, *vmcs_page;
extern u64 gdt[], page_pml4[], page_pdpt[], page_dirs[];
extern char stack_top[], l2_stack_top[], user_stack_top[], l2_done[], vmx_exit_entry[],
	vmx_launch_insn[], exc_stubs[];
extern u64 idt[512];
extern u8 tss[104];

u64 vmx_enter(struct regs *r, bool launch);
/* Capabilities and CR4.VMXE, IA32_FEATURE_CONTROL; no VMXON yet. False without VMX. */
bool vmx_probe(void);
u64 vmxon(u64 pa);
u64 vmxoff(void);
u64 vmclear(u64 pa);
u64 vmptrld(u64 pa);
u64 vmptrst(u64 *pa);
u64 vmread_try(u64 field, u64 *v);
u64 vmwrite_try(u64 field, u64 v);
u64 vmlaunch_try(void);
u64 vmresume_try(void);
u64 invept(u64 type, u64 eptp, u64 second);
u64 invvpid(u64 type, u64 vpid, u64 address);
/* These must succeed. */
u64 vmread(u32 field);
void vmwrite(u32 field, u64 v);
/* VMXON, and a VMCS with L1's own state as host and guest, which is current and clear. */
void vmx_fresh(void);
/* VMCLEAR and VMPTRLD: the next entry is a VMLAUNCH of this one. */
void vmx_load(void *vmcs);
/* Can all these bits be 1? */
bool may_pin(u64 bits), may_cpu(u64 bits), may_cpu2(u64 bits), may_exit(u64 bits),
	may_entry(u64 bits);
void set_pin(u64 bits), set_cpu(u64 bits), set_cpu2(u64 bits), set_exit(u64 bits),
	set_entry(u64 bits);
void clear_pin(u64 bits), clear_cpu(u64 bits), clear_cpu2(u64 bits), clear_exit(u64 bits),
	clear_entry(u64 bits);
/* Enters L2 as the VMCS says; returns the exit reason field, or NOENTRY(outcome). */
u64 run(void);
/* As run(), from a function or label of this program on L2's stack. */
u64 run_at(const void *fn);
/* Goes on after the instruction that exited. */
void skip_insn(void);
/* A page table that maps @n GiB one to one with 2 MiB pages, all permissions; returns the EPTP. */
u64 ept_identity(void);
/* The EPT entry that maps @gpa at 4 KiB; splits. */
u64 *ept_entry(u64 eptp, u64 gpa, unsigned level);

/* A piece of L2 code: name is its start, name_i the instruction under test, name_n the next. */
#define BLOB(name, setup, insn)                                                         \
	extern char name[], name##_i[], name##_n[];                                     \
	asm(".pushsection .text\n" #name ":\n" setup "\n" #name "_i:\n" insn "\n" #name \
	    "_n:\n1:\tvmcall\n\tjmp 1b\n.popsection")

#define GROUP(name) void group_##name(void);
#include "groups.def"

#endif
