/* SPDX-License-Identifier: MIT */
/*
 * One logical processor, and the boundary between the engine (cpu/, paging/, interp/) and the
 * virtualization extension that runs guests on it (vtx/, amdv/).
 *
 * The engine executes instructions from the isa state until somebody throws ISA_THROW_EXIT. All it
 * knows of VMX or SVM is struct sil_world (what translation is under way) and struct sil_virt_ops.
 *
 * RIP at a throw. While an instruction executes, c.insn points at it and c.s.rip is already past
 * it. Whoever throws leaves both alone: the engine moves c.s.rip back to the instruction, clears
 * c.insn, and then returns from engine_run. A hook that runs between instructions finds c.insn NULL
 * and c.s.rip where execution goes on. So a hook that records an exit takes sil_insn_rip(cpu) for
 * RIP and sil_insn_len(cpu) for the instruction length.
 */
#ifndef SILICON_CPU_CPU_H
#define SILICON_CPU_CPU_H

#include <pthread.h>

#include "base/guard.h"
#include "isa/flags.h"
#include "isa/isa.h"
#include "silicon/silicon.h"

struct tlb;
struct interp;
struct code_registry;
struct jit;

/*
 * What translated code (jit/) needs of its cpu, addressed through GS.
 */
#define JIT_JC_SIZE   (1 << (64 - JIT_JC_SHIFT))
#define JIT_GEN_SHIFT 57 /* linear addresses are canonical: bits 63..57 are free */
#define JIT_GEN_MAX   126
#define JIT_JC_EMPTY  (127ull << JIT_GEN_SHIFT)
#define JIT_JC_HASH   0x9e3779b97f4a7c15ull /* of tags; the upper bits are the entry's number */
#define JIT_JC_SHIFT  48
#define JIT_JC_PART   16 /* entries: it is emptied by such parts */
/* General registers, RIP, FS, GS. */
#define JIT_NEAR       19
#define JIT_NEAR_RIP   16
#define JIT_NEAR_FS    17
#define JIT_NEAR_GS    18
#define JIT_NEAR_NONE  0xff
#define JIT_NEAR_EMPTY (1ull << 62)
#define JIT_HOT	       256
#define JIT_PAGES_MAX  (1u << 14)
struct jit_frame;
struct jit_insn;
struct jit_page;
/* What translated code there can be of. Flat: CS, DS, ES and SS have base 0 and 4 GiB, SS.B is set;
 * addresses wrap by themselves. */
enum jit_mode { JIT_MODE_NONE, JIT_MODE_64, JIT_MODE_FLAT32 };
struct jit_jc {
	u64 tag; /* linear address xor generation << JIT_GEN_SHIFT */
	const void *code;
};
struct jit_cpu {
	struct sil_cpu *self;
	struct jit_jc *jc; /* JIT_JC_SIZE entries: where jumps to linear addresses lead */
	/* Generation of the current TLB bank's execute entries, shifted; 0: not known, matches no
	 * entry. */
	u64 xgen;
	u64 hash;    /* JIT_JC_HASH */
	u64 pc_page; /* linear page of the code being run */
	u8 vec;	     /* guest's vector and x87 registers in the host's: VEC_* of jit/jit.h */
	u8 vec_was;  /* before the last call to C */
	u16 host_fcw;
	u32 host_mxcsr;
	u16 fl;	     /* status flags: AH as of LAHF, AL = OF */
	u64 shifted; /* what the last shift with a recipe shifted: REC_SHL, REC_SHR, REC_SAR */
	/*
	 * The last page accessed through each register: copies of entries of the bank in use. An
	 * empty one is of a page that is not canonical, and leads to a host page that nobody can
	 * access (struct jit).
	 */
	struct isa_tlbe near[2][JIT_NEAR]; /* for reads, for writes */
	hva_t nowhere;
	u8 mode;	  /* enum jit_mode: what next() looks for */
	u32 near_used[2]; /* a bit for each that is not empty */
	bool again;	  /* such a page was accessed: the instruction is the interpreter's */
	struct jit_frame *frame; /* on the stack, while translated code runs */
	u64 host_gs;
	u64 *calls; /* of handlers, by enum isa_op */
	unsigned last_gen;
	bool busy;    /* may run or hold pointers to translations; read by others */
	bool step;    /* the next instruction is the interpreter's */
	bool cold;    /* so are those up to the next jump */
	bool recheck; /* others may have written code: see jit_recheck */
	/* Pages of blocks that the jump cache may know, unless hot_many is set, and a bit for each
	 * of them by its number; how many were compared since there were none. */
	struct jit_page *hot[JIT_HOT];
	u64 hot_bits[JIT_PAGES_MAX / 64];
	unsigned nhot, hot_compared;
	bool hot_many;
	u8 shadow; /* STI has set IF, and the instruction behind it has not completed */
	u64 jc_used[JIT_JC_SIZE / JIT_JC_PART / 64]; /* parts of jc that are not empty */
	const struct jit_insn *lean;		     /* being executed by jit/lean.c */
	u8 fpu[576] __attribute__((aligned(64)));    /* XSAVE area for the x87 component */
	/*
	 * By number of the translator's pages: the linear page that the jump cache knew it at last,
	 * and the generation, as in a tag. One more, which is of no page. What there is beyond
	 * there_n is 0.
	 */
	u64 there[JIT_PAGES_MAX + 1];
	unsigned there_n;
};

/* cpu->untrapped: what no control makes exit, so that translated code does it without asking. */
#define UNTRAPPED_CR3_STORE BIT(0) /* MOV from CR3 */
#define UNTRAPPED_CR3_LOAD  BIT(1)
#define UNTRAPPED_INVLPG    BIT(2)
#define UNTRAPPED_PAUSE	    BIT(3)
#define UNTRAPPED_INT	    BIT(4) /* INT n */
#define UNTRAPPED_BP	    BIT(5) /* #BP of INT3 */

/* c.request. The engine looks at the word after every block and REP iteration. */
#define SIL_REQ_KICK   BIT(0) /* interrupt for root mode; the vendor clears it when it exits */
#define SIL_REQ_TIMER  BIT(1) /* sil_cpu_timer was called; the vendor clears it */
#define SIL_REQ_NOTIFY BIT(2) /* sil_cpu_notify was called; the vendor clears it */
#define SIL_REQ_EVENT  BIT(3) /* call the vendor's hooks at the next boundary (cleared before) */
#define SIL_REQ_CODE   BIT(4) /* code shoot-downs are queued */
#define SIL_REQ_STEP   BIT(5) /* one instruction at a time; kept up to date by the engine */

enum sil_nested { SIL_NESTED_NONE, SIL_NESTED_EPT, SIL_NESTED_NPT };

/*
 * The translation context a VM entry establishes. The vendor fills it (and c.s) and calls
 * cpu_context_changed.
 */
struct sil_world {
	u16 vpid;	       /* VPID or ASID; 0 if the feature is off */
	u8 nested;	       /* enum sil_nested */
	u8 nested_levels;      /* 4 or 5 */
	bool ept_ad;	       /* EPTP[6] */
	bool ept_mbec;	       /* mode-based execute control */
	bool pml;	       /* call virt->pml when an EPT dirty flag is set */
	hpa_t nested_root;     /* EPTP[51:12] << 12, or nCR3 */
	hpa_t apic_page;       /* APIC-access page, or SIL_NO_PAGE */
	u64 npt_cr4, npt_efer; /* NPT: host CR4 and EFER, which format and reserved bits follow */
};
#define SIL_NO_PAGE (~0ull)

/* What an access looked like, for virt->apic_access. */
struct sil_access {
	u64 la;
	u32 offset; /* in the page */
	u32 size;
	u32 how; /* ISA_ACC_* */
};

/*
 * What a virtualization extension does for the engine. All run on the cpu's thread inside
 * engine_run and may throw ISA_THROW_EXIT after they have recorded an exit; those marked noreturn
 * must.
 */
struct sil_virt_ops {
	enum sil_vendor vendor;
	/* The instruction ops: SIL_ENGINE_ISA_OPS and the vendor's own. */
	const struct isa_ops *isa;
	int (*machine_init)(struct sil_machine *m); /* 0 or -errno; may be NULL */
	void (*machine_fini)(struct sil_machine *m);
	int (*cpu_init)(struct sil_cpu *cpu); /* 0 or -errno; may be NULL */
	void (*cpu_fini)(struct sil_cpu *cpu);
	/* RDMSR in root mode of the vendor's capability MSRs: 0 or -EINVAL. Any thread. */
	int (*root_rdmsr)(const struct sil_machine *m, u32 index, u64 *val);

	/* VMREAD or VMWRITE between registers, called by translated code: true if it is done, or
	 * else nothing is. For general registers only, calling nothing. */
	bool (*lean_vmx)(struct sil_cpu *cpu, const struct isa_insn *i);
	/* Likewise PAUSE, where UNTRAPPED_PAUSE is not set. May be NULL. */
	bool (*lean_pause)(struct sil_cpu *cpu);
	/*
	 * An exception (hardware exception, #BP, #OF, INT1) is about to be delivered. RFLAGS.RF is
	 * as it would be pushed; CR2, DR6 and XFD_ERR are not written yet (ev->payload has them).
	 * An exception that delivery of another event caused finds that one in cpu->vectoring. It
	 * is asked about as itself first and, if it makes a double fault, again as #DF, then with
	 * vectoring empty (SDM vol. 3C, 28.2.4).
	 */
	void (*exception)(struct sil_cpu *cpu, const struct isa_event *ev);
	__noreturn void (*triple_fault)(struct sil_cpu *cpu);
	/*
	 * Exits that are traps of the instruction just executed: MTF, TPR below threshold,
	 * APIC-write. Called at an instruction boundary if SIL_REQ_EVENT is set or step_exits is,
	 * before pending debug exceptions. MTF is due only if cpu->stepped.
	 */
	void (*trap_exits)(struct sil_cpu *cpu);
	/*
	 * Everything else that may happen at an instruction boundary, after debug traps: preemption
	 * timer, NMI window, NMIs, interrupt window, kicks, virtual interrupts. Called when a
	 * request bit is set, when HLT has been entered, and, if cpu->attention is not zero, when
	 * something that may hold events back has changed (IF, shadow, NMI blocking). To let the
	 * guest take an event: engine_deliver. Must clear the request bits it has consumed.
	 */
	void (*pending)(struct sil_cpu *cpu);
	/*
	 * Delivering an event has raised the next one @n times in a row, and no instruction
	 * boundary was reached. This need not end, so a kick must exit here too.
	 */
	void (*no_boundary)(struct sil_cpu *cpu, u32 n);

	/* @qual: exit qualification as of SDM vol. 3C, table 28-7, without bit 12. @la is valid if
	 * @qual has bit 7. */
	__noreturn void (*ept_violation)(struct sil_cpu *cpu, gpa_t gpa, u64 la, u64 qual);
	__noreturn void (*ept_misconfig)(struct sil_cpu *cpu, gpa_t gpa);
	/* Nested page fault of NPT: @error as EXITINFO1. */
	__noreturn void (*npt_fault)(struct sil_cpu *cpu, gpa_t gpa, u64 error);
	/* An EPT dirty flag is about to be set for the page of @gpa: exits if the log is full. */
	void (*pml)(struct sil_cpu *cpu, gpa_t gpa);
	/*
	 * Access to the APIC-access page by a linear address. Reads fill @data, writes take it;
	 * fetches have @data NULL and must exit. Virtualizes the access or exits.
	 */
	void (*apic_access)(struct sil_cpu *cpu, const struct sil_access *a, void *data);
};

#define SIL_CPUID_BITS 128
struct sil_machine {
	struct sil_config cfg;
	const struct sil_virt_ops *virt;
	void *vendor; /* of virt */
	u8 maxphyaddr;
	u64 cpuid_bits[SIL_CPUID_BITS / 64]; /* flags of spec/cpuid.def that are on */
	u64 cr4_supported;		     /* as cpu_cr4_supported */
	struct jit *jit;		     /* NULL: the interpreter runs everything */
	struct code_registry *code; /* pages that code was decoded from (interp/codepage.h) */
	u64 code_epoch; /* pages compared with memory in an older one are compared again; atomic */
	pthread_mutex_t cpus_lock; /* guards the list and each cpu's shoot-down queue */
	struct sil_cpu *cpus;
	unsigned ncpus;
	pthread_mutex_t split_lock; /* locked accesses with no host atomic */
};

#define SIL_SHOOT_MAX 32
struct sil_shoot {
	hva_t page;
	bool drop; /* forget blocks made from the page; else: no write entries for it any more */
};

struct sil_cpu {
	struct isa_cpu c; /* first: a struct isa_cpu * is a struct sil_cpu * */
	struct sil_machine *m;
	struct sil_cpu *next; /* m->cpus */
	struct tlb *tlb;
	struct interp *interp;
	struct jit_cpu j;
	void *vendor; /* of virt: struct vtx_cpu, ... */

	/* ---- set by the vendor ---- */
	struct sil_world world;
	/* Something waits for IF, a shadow or NMI blocking to change: see virt->pending. */
	u32 attention;
	/* Call trap_exits after every instruction (MTF). cpu_update_step after a change. */
	bool step_exits;
	/* IA32_PKRS; not in struct isa_regs. */
	u32 pkrs;
	/* RDTSC is host->tsc + tsc_offset while host->tsc is below tsc_limit; else, and where
	 * config.tsc_native is not set, it is the op's. */
	u64 tsc_limit, tsc_offset;
	u8 untrapped; /* UNTRAPPED_* */

	/* ---- the engine's; the vendor may read ---- */
	/* An event whose delivery is under way: IDT-vectoring information of an exit. */
	bool vectoring_valid;
	struct isa_event vectoring;
	/* Event to deliver first thing in engine_run (engine_inject). */
	bool inject_valid;
	struct isa_event inject;
	u32 cut_deliveries; /* in a row, each ended by a fault of its own */
	/* An instruction or event delivery has completed since entry: MTF is due (trap_exits). */
	bool stepped;
	/* Machine check pending: host address and kind of the access (sil_memory_error). */
	hva_t mem_error;
	bool mem_error_write;
	bool mem_error_pending; /* the guard caught it; to be raised */
	bool mem_locked;	/* this cpu holds m->split_lock */

	u64 stop_at; /* see sil_cpu_stop_at; ~0: nowhere */
	/* End of the block being run; 0 makes the engine stop after this instruction. */
	const struct isa_insn *volatile block_end;
	/* First instruction of it that counters.instructions does not include yet. */
	const struct isa_insn *block_first;
	/* Where instructions come from: linear + fetch_addend = host if linear + fetch_neg_page is
	 * below PAGE_SIZE. Invalid (FETCH_NONE) after anything that may change the mapping. */
	u64 fetch_neg_page, fetch_addend;
	bool fetch_global; /* by a global translation */
	/* Others may have written code: pages are to be compared with the interpreter's blocks when
	 * it fetches from them. */
	bool fetch_suspect;

	u64 dbg_dr7, dbg_dr[4]; /* what bp_data and bp_insn were made from */
	u8 bp_data;		/* DR7: enabled data (and I/O) breakpoints, one bit each */
	u8 bp_insn;		/* enabled instruction breakpoints */
	bool ac_check;		/* #AC is on: no TLB entries */
	u64 bp_hit; /* data breakpoints the current instruction has met (pending_dbg bits) */

	/* The instruction that was rolled back last, until the next run of the engine: what a
	 * fault's or an exit's hook may want to know of it. NULL if none. */
	const struct isa_insn *aborted;
	u32 pauses;   /* executed; see op_pause */
	bool no_trap; /* the instruction takes no single-step trap */
	bool step_rf; /* RF was set before the instruction being stepped */

	/* Read-modify-write on a code page: look at it again after the instruction. */
	hva_t rmw_hva;
	u32 rmw_size;

	/* Shoot-downs from other cpus, under m->cpus_lock. */
	struct sil_shoot shoot[SIL_SHOOT_MAX];
	unsigned nshoot;
	bool shoot_all_writes, shoot_all_drops; /* the queue was too short */
	u64 shoot_seq;				/* posted */
	u64 shoot_wait;				/* the newest that another cpu waits for */
	u64 shoot_done;				/* served; read by others */
	bool running; /* in the guest: must serve shoot-downs before they count as done */
	bool waiting; /* on the futex of c.request */

	jmp_buf catch;
	struct guard guard;
	struct sil_counters n;
};
/* enum jit_mode of the code that @c runs now. */
static inline unsigned jit_mode(const struct isa_cpu *c)
{
	if (likely(c->mode == ISA_LONG64))
		return JIT_MODE_64;
	return c->mode == ISA_PROT32 && c->flat && c->sp_mask == 0xffffffff ? JIT_MODE_FLAT32
									    : JIT_MODE_NONE;
}

static inline struct sil_cpu *sil_of(struct isa_cpu *c)
{
	return (struct sil_cpu *)c;
}

/* RIP of the instruction being executed, or where execution goes on if none is. */
static inline u64 sil_insn_rip(const struct sil_cpu *cpu)
{
	return cpu->c.s.rip - (cpu->c.insn ? cpu->c.insn->len : 0);
}

static inline unsigned sil_insn_len(const struct sil_cpu *cpu)
{
	return cpu->c.insn ? cpu->c.insn->len : 0;
}

static inline u64 sil_host_tsc(const struct sil_machine *m)
{
	return m->cfg.host->tsc(m->cfg.host_opaque);
}

/* Sets bits of c.request and wakes the cpu if it waits. Any thread, async-signal-safe. */
void cpu_request(struct sil_cpu *cpu, u32 bits);
static inline void cpu_request_clear(struct sil_cpu *cpu, u32 bits)
{
	__atomic_fetch_and(&cpu->c.request, ~bits, __ATOMIC_SEQ_CST);
}

static inline bool cpu_requested(const struct sil_cpu *cpu, u32 bits)
{
	return __atomic_load_n(&cpu->c.request, __ATOMIC_SEQ_CST) & bits;
}

/* ---- vendor -> engine ----------------------------------------------------------------------- */

/*
 * Runs the guest from the isa state until an exit was recorded and thrown. On return c.s.rip is the
 * instruction's (see above), c.insn is NULL and cpu->vectoring* tells what was being delivered.
 * Owner thread.
 */
void engine_run(struct sil_cpu *cpu);
/* To be delivered by the next engine_run before its first instruction. No intercept is asked. */
void engine_inject(struct sil_cpu *cpu, const struct isa_event *ev);
/* In the guest, between instructions: delivers an interrupt or exception now (wakes from HLT). */
void engine_deliver(struct sil_cpu *cpu, const struct isa_event *ev);
/* Raises an exception at an instruction boundary, with intercepts and double-fault rules. */
__noreturn void engine_raise(struct sil_cpu *cpu, unsigned vector, u32 error, u64 payload);
/*
 * c.s, world, or registers that translation depends on were loaded as a whole (VM entry): derives
 * mode, paging, TLB bank, breakpoints and stepping again.
 */
void cpu_context_changed(struct sil_cpu *cpu);
/* After changes of step_exits, DR7, TF, RF, shadows or pending debug exceptions. */
void cpu_update_step(struct sil_cpu *cpu);

/*
 * Architectural effect of MOV CRn and of CR loads by instructions: #GP for bad values (reserved
 * bits, PAE and long-mode rules, PDPTEs), then the change, flushes and cpu_context_changed. The
 * vendor has already applied its masks and fixed bits. @val is what the register will hold; for
 * CR3 bit 63 is the no-flush bit.
 */
void cpu_write_cr(struct sil_cpu *cpu, unsigned n, u64 val);
/* Bits of CR3 that are reserved in IA-32e mode; the no-flush bit is looked at before. */
static inline u64 cpu_cr3_reserved(const struct sil_machine *m)
{
	return m->maxphyaddr < 52 ? BITS(63, m->maxphyaddr) : BITS(63, 52);
}
/* Loads PDPTEs from guest-physical @cr3 into @pdpte. False if one has reserved bits set. */
bool cpu_load_pdptes(struct sil_cpu *cpu, u64 cr3, u64 pdpte[4]);
/*
 * MSRs that are part of the register state. False: #GP. The vendor looks at bitmaps and at its own
 * MSRs first. cpu_wrmsr does what the write entails (EFER: mode and TLB).
 */
bool cpu_rdmsr(struct sil_cpu *cpu, u32 index, u64 *val);
bool cpu_wrmsr(struct sil_cpu *cpu, u32 index, u64 val);
/* Value bits of EFER that this processor has. */
u64 cpu_efer_supported(const struct sil_machine *m);
u64 cpu_cr4_supported(const struct sil_machine *m);

/*
 * Guest-physical access at an instruction boundary or from a handler, through the nested tables
 * if there are any: host address of @gpa (the rest of its page is contiguous). @how: ISA_ACC_WRITE
 * or 0. Throws on violations, which are reported with no linear address.
 */
void *cpu_gpa(struct sil_cpu *cpu, gpa_t gpa, unsigned how);
/* Root-side memory (virtual-APIC page, lists) was written by the processor itself at @hva. */
void cpu_wrote(struct sil_cpu *cpu, hva_t hva, unsigned len);

/* TLB flushes (SDM vol. 3A, 4.10.4; vol. 3C, 29.4.3). Owner thread. */
void tlb_flush_all(struct sil_cpu *cpu);
/* Every EPTRTA and PCID of @vpid; @keep_global: but not global translations. */
void tlb_flush_vpid(struct sil_cpu *cpu, u16 vpid, bool keep_global);
/* All VPIDs. */
void tlb_flush_vpids(struct sil_cpu *cpu);
/* Guest-physical and combined mappings made with the root table @root, any VPID. */
void tlb_flush_nested(struct sil_cpu *cpu, hpa_t root);
/* One linear page of @vpid, any PCID, global or not. */
void tlb_flush_page(struct sil_cpu *cpu, u16 vpid, u64 la);
/* One PCID of the current VPID (MOV CR3, INVPCID). */
void tlb_flush_pcid(struct sil_cpu *cpu, u16 pcid, bool keep_global);

/*
 * The isa ops that are the engine's. A vendor writes
 *	static const struct isa_ops ops = { SIL_ENGINE_ISA_OPS, .intercept = vtx_intercept, ... };
 * and replaces: port_in, port_out, intercept, read_cr, write_cr, rdmsr, wrmsr, rdtsc, xsetbv, vmx.
 */
void op_mem_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how);
void op_mem_write(struct isa_cpu *c, u64 la, const void *src, unsigned size, unsigned how);
void *op_mem_rmw(struct isa_cpu *c, u64 la, unsigned size, unsigned how);
void op_mem_lock(struct isa_cpu *c);
void op_mem_unlock(struct isa_cpu *c);
void op_port_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la);
void op_port_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la);
void op_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg);
u64 op_read_cr(struct isa_cpu *c, unsigned n, unsigned gpr);
void op_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr);
u64 op_rdmsr(struct isa_cpu *c, u32 index);
void op_wrmsr(struct isa_cpu *c, u32 index, u64 val);
void op_cpuid(struct isa_cpu *c, u32 leaf, u32 subleaf, u32 out[4]);
u64 op_rdtsc(struct isa_cpu *c);
u64 op_rdpmc(struct isa_cpu *c, u32 index);
u64 op_random(struct isa_cpu *c);
void op_xsetbv(struct isa_cpu *c, u32 index, u64 val);
void op_hlt(struct isa_cpu *c);
void op_mwait(struct isa_cpu *c);
void op_pause(struct isa_cpu *c);
void op_wbinvd(struct isa_cpu *c);
void op_invlpg(struct isa_cpu *c, u64 la);
void op_invpcid(struct isa_cpu *c, unsigned type, u16 pcid, u64 la);
void op_vmx(struct isa_cpu *c, const struct isa_insn *i);
void op_soft_int(struct isa_cpu *c, unsigned vector, unsigned type);
void op_mode_changed(struct isa_cpu *c);
void op_recheck_events(struct isa_cpu *c);
void op_serialize(struct isa_cpu *c);
/* clang-format off */
#define SIL_ENGINE_ISA_OPS                                                                         \
	.mem_read = op_mem_read, .mem_write = op_mem_write, .mem_rmw = op_mem_rmw,                 \
	.mem_lock = op_mem_lock, .mem_unlock = op_mem_unlock, .port_in = op_port_in,               \
	.port_out = op_port_out, .intercept = op_intercept, .read_cr = op_read_cr,                 \
	.write_cr = op_write_cr, .rdmsr = op_rdmsr, .wrmsr = op_wrmsr, .cpuid = op_cpuid,          \
	.rdtsc = op_rdtsc, .rdpmc = op_rdpmc, .random = op_random, .xsetbv = op_xsetbv,            \
	.hlt = op_hlt, .mwait = op_mwait, .pause = op_pause, .wbinvd = op_wbinvd,                  \
	.invlpg = op_invlpg, .invpcid = op_invpcid, .vmx = op_vmx, .soft_int = op_soft_int,        \
	.mode_changed = op_mode_changed, .recheck_events = op_recheck_events,                      \
	.serialize = op_serialize
/* clang-format on */

/* The extensions there are; sil_machine_create takes the one config.vendor names. */
extern const struct sil_virt_ops vtx_virt_ops;
extern const struct sil_virt_ops amdv_virt_ops;

#endif
