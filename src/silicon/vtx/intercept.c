// SPDX-License-Identifier: MIT
/* Instructions that cause VM exits, unconditionally or by a control (SDM vol. 3C, 26.1). */
#include "silicon/vtx/vtx.h"

enum when { NEVER, ALWAYS, CPU1, CPU2 };

typedef void icpt_fn(struct sil_cpu *cpu, u64 arg, unsigned reason);

/* How the exit is described, or what else decides about it. */
static icpt_fn plain, with_arg, pause_loop, with_random, with_invpcid, with_gdtr_idtr, with_ldtr_tr,
	by_xss, by_msr, by_clts, by_lmsw, by_vmx, debug_register, note_iret;

/* GETSEC exits only if CR4.SMXE is 1, which it never is here. */
static const struct rule {
	u8 when;
	u8 reason; /* enum vmx_exit_reason */
	u32 bits;  /* of the control word */
	icpt_fn *fn;
} rules[ICPT_N] = {
	[ICPT_HLT] = {CPU1, EXIT_REASON_HLT, CPU_BASED_HLT_EXITING, plain},
	[ICPT_PAUSE] = {ALWAYS, EXIT_REASON_PAUSE_INSTRUCTION, 0, pause_loop},
	[ICPT_RDTSC] = {CPU1, EXIT_REASON_RDTSC, CPU_BASED_RDTSC_EXITING, plain},
	[ICPT_RDTSCP] = {CPU1, EXIT_REASON_RDTSCP, CPU_BASED_RDTSC_EXITING, plain},
	[ICPT_RDPMC] = {CPU1, EXIT_REASON_RDPMC, CPU_BASED_RDPMC_EXITING, plain},
	[ICPT_INVD] = {ALWAYS, EXIT_REASON_INVD, 0, plain},
	[ICPT_WBINVD] = {CPU2, EXIT_REASON_WBINVD, SECONDARY_EXEC_WBINVD_EXITING, plain},
	[ICPT_INVLPG] = {CPU1, EXIT_REASON_INVLPG, CPU_BASED_INVLPG_EXITING, with_arg},
	[ICPT_INVPCID] = {CPU1, EXIT_REASON_INVPCID, CPU_BASED_INVLPG_EXITING, with_invpcid},
	[ICPT_MONITOR] = {CPU1, EXIT_REASON_MONITOR_INSTRUCTION, CPU_BASED_MONITOR_EXITING, plain},
	/* Qualification bit 0, "monitoring armed": nothing is ever monitored here. */
	[ICPT_MWAIT] = {CPU1, EXIT_REASON_MWAIT_INSTRUCTION, CPU_BASED_MWAIT_EXITING, plain},
	[ICPT_RDRAND] = {CPU2, EXIT_REASON_RDRAND, SECONDARY_EXEC_RDRAND_EXITING, with_random},
	[ICPT_RDSEED] = {CPU2, EXIT_REASON_RDSEED, SECONDARY_EXEC_RDSEED_EXITING, with_random},
	[ICPT_XSAVES] = {ALWAYS, EXIT_REASON_XSAVES, 0, by_xss},
	[ICPT_XRSTORS] = {ALWAYS, EXIT_REASON_XRSTORS, 0, by_xss},
	[ICPT_XSETBV] = {ALWAYS, EXIT_REASON_XSETBV, 0, plain},
	[ICPT_CPUID] = {ALWAYS, EXIT_REASON_CPUID, 0, plain},
	[ICPT_GETSEC] = {ALWAYS, 11, 0, plain},
	[ICPT_RDMSR] = {ALWAYS, EXIT_REASON_MSR_READ, 0, by_msr},
	[ICPT_WRMSR] = {ALWAYS, EXIT_REASON_MSR_WRITE, 0, by_msr},
	[ICPT_CLTS] = {ALWAYS, EXIT_REASON_CR_ACCESS, 0, by_clts},
	[ICPT_LMSW] = {ALWAYS, EXIT_REASON_CR_ACCESS, 0, by_lmsw},
	[ICPT_DR_READ] = {CPU1, EXIT_REASON_DR_ACCESS, CPU_BASED_MOV_DR_EXITING, debug_register},
	[ICPT_DR_WRITE] = {CPU1, EXIT_REASON_DR_ACCESS, CPU_BASED_MOV_DR_EXITING, debug_register},
	[ICPT_SGDT] = {CPU2, EXIT_REASON_GDTR_IDTR, SECONDARY_EXEC_DESC, with_gdtr_idtr},
	[ICPT_SIDT] = {CPU2, EXIT_REASON_GDTR_IDTR, SECONDARY_EXEC_DESC, with_gdtr_idtr},
	[ICPT_LGDT] = {CPU2, EXIT_REASON_GDTR_IDTR, SECONDARY_EXEC_DESC, with_gdtr_idtr},
	[ICPT_LIDT] = {CPU2, EXIT_REASON_GDTR_IDTR, SECONDARY_EXEC_DESC, with_gdtr_idtr},
	[ICPT_SLDT] = {CPU2, EXIT_REASON_LDTR_TR, SECONDARY_EXEC_DESC, with_ldtr_tr},
	[ICPT_STR] = {CPU2, EXIT_REASON_LDTR_TR, SECONDARY_EXEC_DESC, with_ldtr_tr},
	[ICPT_LLDT] = {CPU2, EXIT_REASON_LDTR_TR, SECONDARY_EXEC_DESC, with_ldtr_tr},
	[ICPT_LTR] = {CPU2, EXIT_REASON_LDTR_TR, SECONDARY_EXEC_DESC, with_ldtr_tr},
	[ICPT_TASK_SWITCH] = {ALWAYS, EXIT_REASON_TASK_SWITCH, 0, with_arg},
	[ICPT_IRET] = {ALWAYS, 0, 0, note_iret},
	[ICPT_VMX] = {ALWAYS, 0, 0, by_vmx},
};

void vtx_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg)
{
	struct sil_cpu *cpu = sil_of(c);
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct rule *r = &rules[what];
	bool take = false;

	switch ((enum when)r->when) {
	case NEVER: break;
	case ALWAYS: take = true; break;
	case CPU1: take = v->cpu1 & r->bits; break;
	case CPU2: take = v->cpu2 & r->bits; break;
	}
	if (take) {
		/* by_msr has to know which of the two it is, with_* which table identity. */
		r->fn(cpu, arg, what);
	}
}

static void plain(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	vtx_exit(cpu, rules[what].reason, 0);
}

static void with_arg(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	vtx_exit(cpu, rules[what].reason, arg);
}

/* 26.1.3, PAUSE */
static void pause_loop(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	struct vtx_cpu *v = vtx_of(cpu);

	if (v->cpu1 & CPU_BASED_PAUSE_EXITING)
		vtx_exit(cpu, EXIT_REASON_PAUSE_INSTRUCTION, 0);
	if (!(v->cpu2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING) || cpu->c.cpl)
		return;
	if (!vtx_ple_goes_on(v, sil_host_tsc(cpu->m)))
		vtx_exit(cpu, EXIT_REASON_PAUSE_INSTRUCTION, 0);
}

static void with_random(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	vtx_exit_info(cpu, rules[what].reason, 0, info_random(cpu->c.insn));
}

static void with_invpcid(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	const struct isa_insn *i = cpu->c.insn;

	vtx_exit_info(cpu, EXIT_REASON_INVPCID, info_displacement(&cpu->c, i),
		      info_mem_reg2(i, info_gpr(i)));
}

static void with_gdtr_idtr(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	const struct isa_insn *i = cpu->c.insn;
	unsigned which = what == ICPT_SGDT ? 0 : what == ICPT_SIDT ? 1 : what == ICPT_LGDT ? 2 : 3;

	vtx_exit_info(cpu, EXIT_REASON_GDTR_IDTR, info_displacement(&cpu->c, i),
		      info_gdtr_idtr(i, which));
}

static void with_ldtr_tr(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	const struct isa_insn *i = cpu->c.insn;
	u32 which = what == ICPT_SLDT ? 0 : what == ICPT_STR ? 1 : what == ICPT_LLDT ? 2 : 3;

	vtx_exit_info(cpu, EXIT_REASON_LDTR_TR,
		      i->o[0].kind == OK_MEM ? info_displacement(&cpu->c, i) : 0,
		      info_rm(i, &i->o[0]) | which << 28);
}

/* 26.1.3: a bit of EDX:EAX, IA32_XSS and the XSS-exiting bitmap. */
static void by_xss(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	const struct isa_regs *r = &cpu->c.r;
	u64 rfbm = r->gpr[RDX] << 32 | (u32)r->gpr[RAX];

	if (rfbm & r->xss & VF(vtx_of(cpu)->cur, XSS_EXIT_BITMAP))
		vtx_exit_info(cpu, rules[what].reason, info_displacement(&cpu->c, cpu->c.insn),
			      info_mem(cpu->c.insn));
}

static void by_msr(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	if (vtx_msr_exits(cpu, arg, what == ICPT_WRMSR))
		vtx_exit(cpu, rules[what].reason, 0);
}

static void by_clts(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	vtx_clts(cpu);
}

static void by_lmsw(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	vtx_lmsw(cpu, arg);
}

static void by_vmx(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	vtx_vmx_intercept(cpu);
}

/* Table 28-4: the register, direction (1 is MOV from DR), and the general register. */
static void debug_register(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	/* DR8 and above do not exist: #UD. */
	if (arg > 7)
		return;
	vtx_exit(cpu, EXIT_REASON_DR_ACCESS,
		 (arg & 7) | (what == ICPT_DR_READ ? BIT(4) : 0) | (u64)info_gpr(cpu->c.insn) << 8);
}

/*
 * No exit: IRET is about to end blocking by NMI (virtual-NMI blocking, if there are virtual NMIs),
 * which an exit in its middle reports. With NMI exiting alone the bit is undefined (28.2.3).
 */
static void note_iret(struct sil_cpu *cpu, u64 arg, unsigned what)
{
	struct vtx_cpu *v = vtx_of(cpu);

	v->iret_unblocked =
		(cpu->c.s.interruptibility & ISA_BLOCK_NMI) &&
		(!(v->pin & PIN_BASED_NMI_EXITING) || (v->pin & PIN_BASED_VIRTUAL_NMIS));
}

/* IRET has completed, among others. */
static void recheck_events(struct isa_cpu *c)
{
	vtx_of(sil_of(c))->iret_unblocked = false;
	op_recheck_events(c);
}

const struct isa_ops vtx_isa_ops = {
	SIL_ENGINE_ISA_OPS,
	.intercept = vtx_intercept,
	.port_in = vtx_port_in,
	.port_out = vtx_port_out,
	.read_cr = vtx_read_cr,
	.write_cr = vtx_write_cr,
	.rdmsr = vtx_rdmsr,
	.wrmsr = vtx_wrmsr,
	.rdtsc = vtx_rdtsc,
	.vmx = vtx_vmx,
	.recheck_events = recheck_events,
};
