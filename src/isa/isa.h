/* SPDX-License-Identifier: MIT */
/*
 * The instruction set: what each instruction is (decode) and does (execute).
 *
 * One set of semantics serves silicon's interpreter, silicon's translator (as the fallback of every
 * instruction), the core's emulator for MMIO and the like, and the tests. They differ only in the
 * struct isa_ops behind a struct isa_cpu and in whether its TLB ever holds an entry: the memory
 * fast path is inline (isa/mem.h), everything else that reaches outside the register state is an
 * op.
 *
 * Execution protocol. The caller advances c->rip by insn->len, sets c->insn, and calls insn->exec.
 * An instruction reads all its operands and checks everything before it commits anything, so that a
 * throw (isa_raise, isa_throw: a _longjmp to *c->catch) leaves registers and memory as they were;
 * REP string instructions commit per iteration and leave RIP at themselves when they stop half-way.
 * Whoever catches takes RIP of the instruction as c->rip - c->insn->len; c->insn is NULL where no
 * instruction is to be taken back (the second half of a task switch).
 */
#ifndef ISA_ISA_H
#define ISA_ISA_H

#include <setjmp.h>

#include "base/bits.h"
#include "base/types.h"

/* ---- Register state ---------------------------------------------------------------------- */

enum isa_gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
/* The order of the VMCS fields; 0-5 is also the order of the encoding in instructions. */
enum isa_segname { ES, CS, SS, DS, FS, GS, LDTR, TR, ISA_NSEG };

/* Access rights in the format of the VMCS (SDM vol. 3C, 25.4.1), limit in bytes. */
struct isa_seg {
	u16 sel;
	u32 ar;
	u32 limit;
	u64 base;
};
#define SEG_AR_TYPE	0x000fu
#define SEG_AR_S	BIT(4)
#define SEG_AR_DPL(ar)	(((ar) >> 5) & 3)
#define SEG_AR_P	BIT(7)
#define SEG_AR_AVL	BIT(12)
#define SEG_AR_L	BIT(13)
#define SEG_AR_DB	BIT(14)
#define SEG_AR_G	BIT(15)
#define SEG_AR_UNUSABLE BIT(16)

struct isa_dtr {
	u64 base;
	u32 limit;
};

/* One vector register; 16 of them are used, the width leaves room for AVX-512. */
union isa_vec {
	u8 b[64];
	u32 d[16];
	u64 q[8];
	float f[16];
	double lf[8];
} __attribute__((aligned(64)));

/* x87 as the legacy region of FXSAVE64 has it (SDM vol. 1, 10.5.1); st[i] is relative to TOP. */
struct isa_x87 {
	u16 fcw, fsw;
	u8 ftw; /* abridged: bit i set = physical register i not empty */
	u8 rsvd;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
} __attribute__((aligned(16)));

/*
 * What stays in the processor's registers across a VM exit: the hypervisor reads and writes it
 * directly (silicon's door returns a pointer to it), and must put its guest's values there before
 * an entry. RSP lives here too while a guest runs; its VMCS field is an alias of gpr[RSP].
 */
struct isa_regs {
	u64 gpr[16];
	u64 cr2;
	u64 dr[4];
	u64 dr6;
	u64 xcr0, xss;
	u64 star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	u64 spec_ctrl;
	u64 xfd, xfd_err;
	u32 pkru;
	struct isa_x87 x87; /* MXCSR is in here */
	union isa_vec vec[16];
};

/* What the VMCS guest-state area (or the VMCB save area) holds while the guest does not run. */
struct isa_sys {
	u64 rip;
	/* RFLAGS without the six status flags, which are lazy: use isa_flags/isa_set_flags. */
	u64 rflags;
	struct isa_seg seg[ISA_NSEG];
	struct isa_dtr gdtr, idtr;
	u64 cr0, cr3, cr4, cr8;
	u64 dr7;
	u64 efer, pat, debugctl;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pdptr[4];
	u64 pending_dbg;      /* SDM vol. 3C, 25.4.2 */
	u32 interruptibility; /* ISA_BLOCK_* */
	u32 activity;	      /* ISA_ACTIVE... */
};
#define ISA_BLOCK_STI	BIT(0)
#define ISA_BLOCK_MOVSS BIT(1)
#define ISA_BLOCK_SMI	BIT(2)
#define ISA_BLOCK_NMI	BIT(3)
enum isa_activity { ISA_ACTIVE, ISA_HLT, ISA_SHUTDOWN, ISA_WAIT_SIPI };

/* RFLAGS */
#define X86_CF		 BIT(0)
#define X86_PF		 BIT(2)
#define X86_AF		 BIT(4)
#define X86_ZF		 BIT(6)
#define X86_SF		 BIT(7)
#define X86_TF		 BIT(8)
#define X86_IF		 BIT(9)
#define X86_DF		 BIT(10)
#define X86_OF		 BIT(11)
#define X86_IOPL	 0x3000ull
#define X86_NT		 BIT(14)
#define X86_RF		 BIT(16)
#define X86_VM		 BIT(17)
#define X86_AC		 BIT(18)
#define X86_VIF		 BIT(19)
#define X86_VIP		 BIT(20)
#define X86_ID		 BIT(21)
#define X86_STATUS_FLAGS (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF)

/* Control register bits */
#define CR0_PE	       BIT(0)
#define CR0_MP	       BIT(1)
#define CR0_EM	       BIT(2)
#define CR0_TS	       BIT(3)
#define CR0_ET	       BIT(4)
#define CR0_NE	       BIT(5)
#define CR0_WP	       BIT(16)
#define CR0_AM	       BIT(18)
#define CR0_NW	       BIT(29)
#define CR0_CD	       BIT(30)
#define CR0_PG	       BIT(31)
#define CR4_VME	       BIT(0)
#define CR4_PVI	       BIT(1)
#define CR4_TSD	       BIT(2)
#define CR4_DE	       BIT(3)
#define CR4_PSE	       BIT(4)
#define CR4_PAE	       BIT(5)
#define CR4_MCE	       BIT(6)
#define CR4_PGE	       BIT(7)
#define CR4_PCE	       BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_VMXE       BIT(13)
#define CR4_SMXE       BIT(14)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define CR4_PKE	       BIT(22)
#define CR4_CET	       BIT(23)
#define CR4_PKS	       BIT(24)
#define EFER_SCE       BIT(0)
#define EFER_LME       BIT(8)
#define EFER_LMA       BIT(10)
#define EFER_NXE       BIT(11)
#define EFER_SVME      BIT(12)
#define EFER_LMSLE     BIT(13)
#define EFER_FFXSR     BIT(14)

/* Exception vectors */
enum isa_vector {
	X86_DE = 0,
	X86_DB = 1,
	X86_NMI = 2,
	X86_BP = 3,
	X86_OFV = 4,
	X86_BR = 5,
	X86_UD = 6,
	X86_NM = 7,
	X86_DF_VEC = 8,
	X86_TS = 10,
	X86_NP = 11,
	X86_SS_VEC = 12,
	X86_GP = 13,
	X86_PF_VEC = 14,
	X86_MF = 16,
	X86_AC_VEC = 17,
	X86_MC = 18,
	X86_XM = 19,
	X86_VE = 20,
	X86_CP = 21,
};

/* ---- TLB --------------------------------------------------------------------------------- */

/*
 * One entry maps one 4 KiB linear page straight to host memory. The check is a single compare:
 * tag, permission and page crossing all fail it (see isa/mem.h). The layout suits translated code.
 */
struct isa_tlbe {
	u64 neg_page; /* minus the page's linear address; ISA_TLB_INVALID(index) if empty */
	u64 page;     /* the host page: host address = linear address + neg_page + page */
};
#define ISA_TLB_SIZE 1024
/* An empty entry names a page that belongs to another index, so no address looked up here fits. */
#define ISA_TLB_INVALID(index) (-((u64)((index) ^ 1) << PAGE_SHIFT))
struct isa_tlb {
	struct isa_tlbe r[ISA_TLB_SIZE];
	struct isa_tlbe w[ISA_TLB_SIZE];
};

/* ---- Decoded instructions ---------------------------------------------------------------- */

struct isa_cpu;
struct isa_insn;
typedef void isa_exec_fn(struct isa_cpu *c, const struct isa_insn *i);

/* What one operand is. Zydis' explicit operands come first, in its order, then hidden ones. */
enum isa_okind {
	OK_NONE,
	OK_GPR,	 /* reg 0-15, low part of @size bytes */
	OK_GPRH, /* AH CH DH BH: reg 0-3 */
	OK_MEM,	 /* the instruction's one memory operand */
	OK_IMM,	 /* insn->imm, already sign- or zero-extended to the operand's size */
	OK_IMM2, /* insn->imm2: second immediate of ENTER, EXTRQ, far pointer selector */
	OK_SEG,
	OK_CR,
	OK_DR,
	OK_X87, /* ST(reg) */
	OK_MMX,
	OK_XMM,
	OK_YMM,
	OK_ZMM,
	OK_KREG,
	OK_BND,
};
struct isa_opnd {
	u8 kind; /* enum isa_okind */
	u8 reg;
	u8 size; /* bytes; 0 where the size is special (FXSAVE area, ...) */
};

/* insn->prefixes */
#define ISA_P_LOCK  BIT(0)
#define ISA_P_REP   BIT(1) /* F3 as REP/REPE (not as a mandatory prefix) */
#define ISA_P_REPNE BIT(2)
#define ISA_P_OPSZ  BIT(3) /* 66 seen */
#define ISA_P_ADSZ  BIT(4) /* 67 seen */
#define ISA_P_SEG   BIT(5) /* a segment override is in effect */
#define ISA_P_VEX   BIT(6)
#define ISA_P_REXW  BIT(7)

#define ISA_REG_NONE 0xff
#define ISA_REG_RIP  0xfe /* mem base: RIP of the next instruction */

#define ISA_INSN_MAX 15 /* bytes */
struct isa_insn {
	isa_exec_fn *exec;
	u64 imm;    /* immediate; for relative branches the sign-extended displacement */
	u64 disp;   /* memory displacement, sign-extended; moffs address */
	void *priv; /* native stub, owned by exec/native.c */
	u16 op;	    /* enum isa_op (a row of spec/insn) */
	u16 flags;  /* ISA_F_* of the row */
	u8 len;
	u8 opsize;   /* effective operand size of the instruction, 1 2 4 8 */
	u8 addrsize; /* 2 4 8 */
	u8 mode;     /* enum isa_mode it was decoded for */
	u8 prefixes;
	u8 nops;
	/* Memory operand: seg:[base + index * 2^scale + disp], registers or ISA_REG_*. For VSIB the
	 * index is a vector register number. */
	u8 seg, base, index, scale;
	u8 msize; /* bytes accessed at it */
	u8 cond;  /* condition code 0-15 of Jcc/SETcc/CMOVcc */
	u16 imm2;
	struct isa_opnd o[5];
	u8 raw[ISA_INSN_MAX]; /* the instruction's bytes */
	u8 modrm_off;	      /* offset of ModRM in raw, 0 if none */
};

/* Row flags (spec/insn) */
#define ISA_F_END    BIT(0) /* ends a block: control flow, mode or mapping change, shadow, polls */
#define ISA_F_LOCK   BIT(1) /* LOCK is legal with a memory destination */
#define ISA_F_CPL0   BIT(2) /* #GP(0) unless CPL is 0 (checked before the handler) */
#define ISA_F_NOREAL BIT(3) /* #UD in real and virtual-8086 mode */
#define ISA_F_ALIGN                                                                               \
	BIT(4)		    /* memory operand must be naturally aligned (#GP): legacy SSE, MOVxxA \
			     */
#define ISA_F_FPU    BIT(5) /* x87: #NM on CR0.EM or TS; #MF if a waiting instruction */
#define ISA_F_MMX    BIT(6)
#define ISA_F_SSE    BIT(7)  /* #UD on EM or !OSFXSR; #NM on TS */
#define ISA_F_AVX    BIT(8)  /* #UD unless OSXSAVE and XCR0[2:1] = 3; #NM on TS */
#define ISA_F_MXCSR  BIT(9)  /* may raise SIMD floating-point exceptions */
#define ISA_F_STR    BIT(10) /* string instruction: implied memory operands */
#define ISA_F_SYS    BIT(11) /* may cause a VM exit or touches system state: never inlined */
#define ISA_F_NOWAIT BIT(12) /* x87 without the #MF check (FNxxx) */
#define ISA_F_NO64   BIT(13) /* #UD in 64-bit mode (Zydis refuses most of these itself) */

/* Code size and, because it changes decoding, real mode. v86 uses REAL16; legacy and compatibility
 * mode share PROT16/PROT32. */
enum isa_mode { ISA_REAL16, ISA_PROT16, ISA_PROT32, ISA_LONG64, ISA_NMODES };

enum isa_decode_result {
	ISA_DECODE_OK,
	ISA_DECODE_UD,	  /* no such instruction: #UD when executed (insn->exec raises it) */
	ISA_DECODE_SHORT, /* needs more bytes than given */
	ISA_DECODE_LONG,  /* more than 15 bytes: #GP(0) when executed (insn->exec raises it) */
};
/*
 * Decodes one instruction from @n bytes. Never reads past them. *@insn is executable after OK, UD
 * and LONG (len is then what Zydis consumed, at least 1). Pure; any thread.
 */
enum isa_decode_result isa_decode(const u8 *bytes, size_t n, enum isa_mode mode,
				  struct isa_insn *insn);
/*
 * The same, faster for forms of instructions that have been seen by @forms, which belongs to one
 * thread at a time.
 */
struct isa_forms;
struct isa_forms *isa_forms_create(void); /* NULL: no memory */
void isa_forms_destroy(struct isa_forms *forms);
/* The @bytes, 15 of them, in 64-bit mode, if the form is known and nothing belongs to @insn:
 * isa_insn_release may be left out. */
bool isa_decode_seen(struct isa_forms *forms, const u8 *bytes, struct isa_insn *insn);
enum isa_decode_result isa_decode_form(struct isa_forms *forms, const u8 *bytes, size_t n,
				       enum isa_mode mode, struct isa_insn *insn);
/* Releases what exec/native.c attached to @insn. */
void isa_insn_release(struct isa_insn *insn);
/* The mnemonic of a row, upper case as in the manual. */
const char *isa_op_name(unsigned op);

/* ---- Ops --------------------------------------------------------------------------------- */

/* How an access is made: @how of the memory ops. */
#define ISA_ACC_WRITE BIT(0)
#define ISA_ACC_FETCH BIT(1)
#define ISA_ACC_SYS   BIT(2) /* implicit supervisor access (descriptor tables, TSS), at any CPL */
#define ISA_ACC_STACK BIT(3) /* non-canonical address gives #SS(0) instead of #GP(0) */
#define ISA_ACC_USER  BIT(4) /* as CPL 3 whatever CPL is (delivery checks) */

/* Things a hypervisor may intercept that have no other op. @arg: see each. */
enum isa_icpt {
	ICPT_HLT,
	ICPT_PAUSE,
	ICPT_RDTSC,
	ICPT_RDTSCP,
	ICPT_RDPMC,
	ICPT_INVD,
	ICPT_WBINVD,
	ICPT_INVLPG, /* arg: linear address */
	ICPT_INVPCID,
	ICPT_MONITOR,
	ICPT_MWAIT,
	ICPT_RDRAND,
	ICPT_RDSEED,
	ICPT_XSAVES,
	ICPT_XRSTORS,
	ICPT_XSETBV,
	ICPT_CPUID,
	ICPT_RSM,
	ICPT_GETSEC,
	ICPT_RDMSR,
	ICPT_WRMSR, /* arg: MSR index (before any fault of the access) */
	ICPT_CR_READ,
	ICPT_CR_WRITE, /* by read_cr/write_cr themselves */
	ICPT_CLTS,
	ICPT_LMSW,
	ICPT_SMSW, /* arg: LMSW source word; memory operand address in c->ea */
	ICPT_DR_READ,
	ICPT_DR_WRITE, /* arg: register number; GPR is in the operands */
	ICPT_LGDT,
	ICPT_SGDT,
	ICPT_LIDT,
	ICPT_SIDT,
	ICPT_LLDT,
	ICPT_SLDT,
	ICPT_LTR,
	ICPT_STR,
	ICPT_TASK_SWITCH, /* arg: qualification (selector | source << 30) */
	ICPT_INTN,
	ICPT_IRET,
	ICPT_PUSHF,
	ICPT_POPF,
	ICPT_FERR, /* SVM */
	ICPT_VMX,  /* any VMX instruction outside CPL checks; insn->op says which */
	ICPT_SVM,  /* VMRUN VMLOAD VMSAVE VMMCALL STGI CLGI SKINIT INVLPGA */
	ICPT_UMWAIT,
	ICPT_ENQCMD,
	ICPT_LOADIWKEY,
	ICPT_N,
};

/* Every op may throw (isa_raise or isa_throw) unless it says otherwise. */
struct isa_ops {
	/*
	 * Memory, when the TLB does not answer: a miss, a page crossing, or no TLB. @la is linear,
	 * already canonical-checked by nobody: the op checks. A write that crosses a page checks
	 * both pages before it writes either.
	 */
	void (*mem_read)(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how);
	void (*mem_write)(struct isa_cpu *c, u64 la, const void *src, unsigned size, unsigned how);
	/*
	 * For read-modify-write: checks write permission and returns a host pointer on which a host
	 * atomic of @size is atomic for every processor, or NULL where there is none (MMIO, or an
	 * access across pages): the caller then uses mem_read + mem_write, within mem_lock/unlock
	 * if the instruction is locked.
	 */
	void *(*mem_rmw)(struct isa_cpu *c, u64 la, unsigned size, unsigned how);
	void (*mem_lock)(struct isa_cpu *c);
	void (*mem_unlock)(struct isa_cpu *c);

	/*
	 * Ports. Permission (IOPL, TSS bitmap) is already checked. @insn tells IN/OUT from
	 * INS/OUTS. For INS/OUTS @la is the linear address of the element. In silicon these mostly
	 * exit.
	 */
	void (*port_in)(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la);
	void (*port_out)(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la);

	/* Before the architectural action, after the faults that have priority over the exit (SDM
	 * vol. 3C, 26.1.1). Throws if a hypervisor takes it; returns if the handler is to go on. */
	void (*intercept)(struct isa_cpu *c, enum isa_icpt what, u64 arg);

	/* MOV CRn, CLTS, LMSW (as CR0 writes with only the affected bits changed; intercept ran
	 * before). Raise #GP for bad values, do the mode changes and TLB flushes. @gpr: register
	 * operand number, for the exit qualification. */
	u64 (*read_cr)(struct isa_cpu *c, unsigned n, unsigned gpr);
	void (*write_cr)(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr);
	/* #GP for what does not exist. CPL is already checked, intercept already ran. */
	u64 (*rdmsr)(struct isa_cpu *c, u32 index);
	void (*wrmsr)(struct isa_cpu *c, u32 index, u64 val);
	void (*cpuid)(struct isa_cpu *c, u32 leaf, u32 subleaf, u32 out[4]); /* never throws */
	u64 (*rdtsc)(struct isa_cpu *c); /* guest TSC: offset and scaling applied */
	u64 (*rdpmc)(struct isa_cpu *c, u32 index);
	u64 (*random)(struct isa_cpu *c); /* RDRAND, RDSEED; never throws */
	void (*xsetbv)(struct isa_cpu *c, u32 index, u64 val);
	void (*hlt)(struct isa_cpu *c); /* after ICPT_HLT: enter the HLT activity state */
	void (*mwait)(struct isa_cpu *c);
	void (*pause)(struct isa_cpu *c);
	void (*wbinvd)(struct isa_cpu *c); /* WBINVD, INVD */
	void (*invlpg)(struct isa_cpu *c, u64 la);
	/* Type is 0-3, descriptor checks (#GP) are done. */
	void (*invpcid)(struct isa_cpu *c, unsigned type, u16 pcid, u64 la);
	/* VMX and SVM instructions that ICPT_VMX/ICPT_SVM did not take: VMFUNC, shadowed
	 * VMREAD/VMWRITE, virtual VMLOAD/VMSAVE..., else #UD. */
	void (*vmx)(struct isa_cpu *c, const struct isa_insn *i);
	/* INT n, INT3, INTO, INT1: after intercept. @type: 4 software interrupt, 5 privileged
	 * software exception (INT1), 6 software exception. Delivers, or throws. */
	void (*soft_int)(struct isa_cpu *c, unsigned vector, unsigned type);
	/* CPL, CR0, CR4, EFER, CS, EFLAGS.AC/VM or PKRU changed: recompute what hangs on them.
	 * Called by isa_mode_changed. Never throws. */
	void (*mode_changed)(struct isa_cpu *c);
	/* Called after IRET has ended NMI blocking, POPF/STI have set IF, and the like: something
	 * that was held back may now be deliverable; the engine looks before the next instruction.
	 * Never throws. */
	void (*recheck_events)(struct isa_cpu *c);
	/* Serializing instruction: code written by others must be seen after it. Never throws. */
	void (*serialize)(struct isa_cpu *c);
};

/* ---- The processor as instructions see it -------------------------------------------------- */

struct isa_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 payload; /* #PF: CR2. #DB: DR6 bits. #NM: XFD_ERR bits */
};

enum isa_throw { ISA_THROW_FAULT = 1, ISA_THROW_EXIT, ISA_THROW_RESTART };

struct isa_cpu {
	struct isa_regs r; /* first: gpr[0] at offset 0 */
	struct isa_sys s;
	/*
	 * Status flags, lazily: the last result, sign-extended to 64 bits, and the carries out of
	 * each bit of it. See isa/flags.h; nothing else may look inside.
	 */
	u64 cc_res;
	u32 cc_aux;

	/* Derived by isa_mode_changed. */
	u8 cpl;
	u8 mode;	/* enum isa_mode */
	u8 va_bits;	/* 48 or 57 */
	u8 va_bits_max; /* the widest the processor has, whatever CR4.LA57 says; 0: va_bits */
	bool flat;	/* all of CS DS ES SS are flat: base 0, limit 4 GiB, writable data */
	u64 rip_mask;	/* 0xffff, 0xffffffff, ~0 */
	u64 sp_mask;

	struct isa_tlb *tlb;	     /* the bank in use; never NULL */
	const struct isa_insn *insn; /* being executed */
	u64 ea; /* linear or effective address of its memory operand, for exit information */
	jmp_buf *catch;
	struct isa_fault fault; /* with ISA_THROW_FAULT */
	const struct isa_ops *ops;
	/* Set from any thread to make the engine stop at the next block or REP iteration. */
	u32 request;
	u64 feat[4]; /* enum isa_feat bits: what CPUID-gated instructions do not #UD */
};

/* Bases in registers (descriptor tables, FS, GS, MSRs) are checked against the widest linear
 * address there is, not against the paging mode: SDM vol. 3A, 4.5.2. */
static inline bool isa_base_canonical(const struct isa_cpu *c, u64 base)
{
	return is_canonical(base, c->va_bits_max ? c->va_bits_max : c->va_bits);
}

/* Does not return. */
__noreturn void isa_throw(struct isa_cpu *c, enum isa_throw what);
__noreturn void isa_raise(struct isa_cpu *c, unsigned vector); /* without error code */
__noreturn void isa_raise_err(struct isa_cpu *c, unsigned vector, u32 error);
__noreturn void isa_raise_pf(struct isa_cpu *c, u64 la, u32 error);
__noreturn void isa_raise_db(struct isa_cpu *c, u64 dr6_bits);

/* Recomputes cpl, mode, flat, masks, va_bits from c->s and calls ops->mode_changed. */
void isa_mode_changed(struct isa_cpu *c);

/* Power-on state of SDM vol. 3A, table 10-1; INIT keeps what the table says it keeps. The stepping
 * in RDX is the caller's. */
void isa_reset(struct isa_cpu *c, bool init);

/* ---- Event delivery (exec/event.c) ---------------------------------------------------------- */

enum isa_evtype { /* as VM-entry interruption types */
		  EV_EXT_INT = 0,
		  EV_NMI = 2,
		  EV_HW_EXC = 3,
		  EV_SW_INT = 4,
		  EV_PRIV_SW_EXC = 5,
		  EV_SW_EXC = 6,
};
struct isa_event {
	u8 vector;
	u8 type; /* enum isa_evtype */
	bool has_error;
	u32 error;
	u64 payload; /* CR2 or DR6 bits, already applied by the caller */
	u8 insn_len; /* software events: RIP pushed = c->rip + insn_len */
};
/*
 * Delivers one event through the IDT (or IVT) in the current mode: gates, privilege change, IST,
 * TSS stacks, task gates (isa_task_switch), virtual-8086. c->s.rip is the instruction to return to
 * (before insn_len is added). Raises the fault that delivery itself causes, with the EXT bit as the
 * manual says; registers are then unchanged. SDM vol. 3A, chapter 6.
 */
void isa_deliver(struct isa_cpu *c, const struct isa_event *ev);

enum isa_task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE };
/* SDM vol. 3A, 8.3. @error: pushed in the new task if @has_error. */
void isa_task_switch(struct isa_cpu *c, u16 sel, enum isa_task_source src, bool has_error,
		     u32 error);

/* ---- x87/SSE state in XSAVE format (exec/xstate.c) ------------------------------------------- */

/* Standard-format XSAVE area of the components in @rfbm ∩ XCR0-supported; @size bytes available.
 * Used by the hypervisor's interfaces and by XSAVE. Any thread that owns @r. */
u32 isa_xsave_size(u64 xcr0, bool compacted);
/* Size (0: no such component) and standard-format offset of component @n, as CPUID leaf 0xd tells.
 */
#define ISA_XSAVE_AVX_OFFSET  576
#define ISA_XSAVE_PKRU_OFFSET 2688
u32 isa_xsave_component(unsigned n, u32 *offset);
void isa_xsave_export(const struct isa_regs *r, void *area, u32 size, u64 rfbm);
/* 0 or -EINVAL for a bad header, reserved MXCSR bits or unknown components. */
int isa_xsave_import(struct isa_regs *r, const void *area, u32 size, u64 rfbm);

#endif
