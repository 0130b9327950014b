/* SPDX-License-Identifier: MIT */
/*
 * Control and debug registers, MSRs, CPUID, time, caches and translations. What a hypervisor may
 * take is announced by ops->intercept at the place SDM vol. 3C, 26.1 gives it. CPL 0 and the
 * features are checked before (the rows).
 */
#include "isa/exec/operand.h"

/* ---- Control registers
 * ------------------------------------------------------------------------------------- */

static bool cr_exists(const struct isa_cpu *c, unsigned n)
{
	return n == 0 || n == 2 || n == 3 || n == 4 || (n == 8 && c->mode == ISA_LONG64);
}

void exec_mov_cr(struct isa_cpu *c, const struct isa_insn *i)
{
	bool to = i->o[0].kind == OK_CR;
	unsigned n = i->o[!to].reg, gpr = i->o[to].reg, size = c->mode == ISA_LONG64 ? 8 : 4;

	if (!cr_exists(c, n))
		isa_raise(c, X86_UD);
	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	if (to)
		c->ops->write_cr(c, n, reg_get(c, gpr, size), gpr);
	else
		reg_set(c, gpr, size, c->ops->read_cr(c, n, gpr));
}

/* What the guest sees of CR0, so that bits it does not own keep their value. */
void exec_clts(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_CLTS, 0);
	c->ops->write_cr(c, 0, c->ops->read_cr(c, 0, ISA_REG_NONE) & ~CR0_TS, ISA_REG_NONE);
}

/* LMSW can set PE and not clear it. */
void exec_lmsw(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 cr0;
	u16 v = i->o[0].kind == OK_MEM ? isa_ld16(c, isa_ea(c, i, 0), ISA_HOW(i))
				       : (u16)c->r.gpr[i->o[0].reg];

	c->ops->intercept(c, ICPT_LMSW, v);
	cr0 = c->ops->read_cr(c, 0, ISA_REG_NONE);
	c->ops->write_cr(c, 0, (cr0 & ~0xeull) | (v & 0xf), ISA_REG_NONE);
}

void exec_smsw(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 cr0;

	if (c->cpl && (c->s.cr4 & CR4_UMIP))
		isa_raise_err(c, X86_GP, 0);
	c->ops->intercept(c, ICPT_SMSW, 0);
	cr0 = c->ops->read_cr(c, 0, ISA_REG_NONE);
	if (i->o[0].kind == OK_MEM)
		isa_st16(c, isa_ea(c, i, ISA_ACC_WRITE), (u16)cr0, ISA_HOW(i));
	else
		reg_set(c, i->o[0].reg, i->o[0].size, cr0);
}

/* ---- Debug registers (vol. 3B, 18.2)
 * -------------------------------------------------------------------------- */

#define DR6_BD	   BIT(13)
#define DR7_GD	   BIT(13)
#define DR6_FIXED1 0xffff0ff0ull
#define DR6_WRITE  0xe00full /* BT BS BD B3-B0 */
#define DR7_WRITE  0xffff2bffull
#define DR7_FIXED1 0x400ull

/* The exit comes before every fault (vol. 3C, 26.1.3, "MOV DR"). */
void exec_mov_dr(struct isa_cpu *c, const struct isa_insn *i)
{
	bool to = i->o[0].kind == OK_DR;
	unsigned n = i->o[!to].reg, gpr = i->o[to].reg, size = c->mode == ISA_LONG64 ? 8 : 4;
	u64 v;

	c->ops->intercept(c, to ? ICPT_DR_WRITE : ICPT_DR_READ, n);
	if (n >= 8 || ((n == 4 || n == 5) && (c->s.cr4 & CR4_DE)))
		isa_raise(c, X86_UD);
	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	if (c->s.dr7 & DR7_GD)
		isa_raise_db(c, DR6_BD);
	if (n == 4 || n == 5)
		n += 2;
	if (!to) {
		v = n < 4 ? c->r.dr[n] : n == 6 ? c->r.dr6 : c->s.dr7;
		reg_set(c, gpr, size, v);
		return;
	}
	v = reg_get(c, gpr, size);
	if (n >= 6 && v >> 32)
		isa_raise_err(c, X86_GP, 0);
	if (n < 4)
		c->r.dr[n] = v;
	else if (n == 6)
		c->r.dr6 = (v & DR6_WRITE) | DR6_FIXED1;
	else
		c->s.dr7 = (v & DR7_WRITE) | DR7_FIXED1;
	/* Breakpoints take part in what the engine precomputes. */
	isa_mode_changed(c);
}

/* ---- MSRs, CPUID, counters
 * --------------------------------------------------------------------------------------- */

static void set_edx_eax(struct isa_cpu *c, u64 v)
{
	c->r.gpr[RAX] = (u32)v;
	c->r.gpr[RDX] = v >> 32;
}

static u64 edx_eax(const struct isa_cpu *c)
{
	return (u64)(u32)c->r.gpr[RDX] << 32 | (u32)c->r.gpr[RAX];
}

void exec_rdmsr(struct isa_cpu *c, const struct isa_insn *i)
{
	u32 index = (u32)c->r.gpr[RCX];

	c->ops->intercept(c, ICPT_RDMSR, index);
	set_edx_eax(c, c->ops->rdmsr(c, index));
}

void exec_wrmsr(struct isa_cpu *c, const struct isa_insn *i)
{
	u32 index = (u32)c->r.gpr[RCX];

	c->ops->intercept(c, ICPT_WRMSR, index);
	c->ops->wrmsr(c, index, edx_eax(c));
}

void exec_cpuid(struct isa_cpu *c, const struct isa_insn *i)
{
	u32 out[4];

	c->ops->intercept(c, ICPT_CPUID, 0);
	c->ops->cpuid(c, (u32)c->r.gpr[RAX], (u32)c->r.gpr[RCX], out);
	c->r.gpr[RAX] = out[0];
	c->r.gpr[RBX] = out[1];
	c->r.gpr[RCX] = out[2];
	c->r.gpr[RDX] = out[3];
	c->ops->serialize(c);
}

static void check_tsd(struct isa_cpu *c)
{
	if (c->cpl && (c->s.cr4 & CR4_TSD))
		isa_raise_err(c, X86_GP, 0);
}

void exec_rdtsc(struct isa_cpu *c, const struct isa_insn *i)
{
	check_tsd(c);
	c->ops->intercept(c, ICPT_RDTSC, 0);
	set_edx_eax(c, c->ops->rdtsc(c));
}

void exec_rdtscp(struct isa_cpu *c, const struct isa_insn *i)
{
	check_tsd(c);
	c->ops->intercept(c, ICPT_RDTSCP, 0);
	set_edx_eax(c, c->ops->rdtsc(c));
	c->r.gpr[RCX] = (u32)c->r.tsc_aux;
}

void exec_rdpid(struct isa_cpu *c, const struct isa_insn *i)
{
	reg_set(c, i->o[0].reg, i->o[0].size, (u32)c->r.tsc_aux);
}

void exec_rdpmc(struct isa_cpu *c, const struct isa_insn *i)
{
	if (c->cpl && !(c->s.cr4 & CR4_PCE))
		isa_raise_err(c, X86_GP, 0);
	c->ops->intercept(c, ICPT_RDPMC, 0);
	set_edx_eax(c, c->ops->rdpmc(c, (u32)c->r.gpr[RCX]));
}

static void random_to(struct isa_cpu *c, const struct isa_insn *i, enum isa_icpt icpt)
{
	c->ops->intercept(c, icpt, 0);
	reg_set(c, i->o[0].reg, i->o[0].size, c->ops->random(c));
	isa_set_status(c, X86_CF);
}

void exec_rdrand(struct isa_cpu *c, const struct isa_insn *i)
{
	random_to(c, i, ICPT_RDRAND);
}

void exec_rdseed(struct isa_cpu *c, const struct isa_insn *i)
{
	random_to(c, i, ICPT_RDSEED);
}

/* ---- Extended control registers, protection keys
 * --------------------------------------------------------------------- */

static void check_osxsave(struct isa_cpu *c)
{
	if (!(c->s.cr4 & CR4_OSXSAVE))
		isa_raise(c, X86_UD);
}

/* XCR1 is XINUSE: every enabled component counts as in use, as a processor may say at any time. */
void exec_xgetbv(struct isa_cpu *c, const struct isa_insn *i)
{
	u32 index = (u32)c->r.gpr[RCX];

	check_osxsave(c);
	if (index > 1 || (index == 1 && !isa_has(c, FEAT_XGETBV1)))
		isa_raise_err(c, X86_GP, 0);
	set_edx_eax(c, c->r.xcr0);
}

void exec_xsetbv(struct isa_cpu *c, const struct isa_insn *i)
{
	check_osxsave(c);
	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	c->ops->intercept(c, ICPT_XSETBV, 0);
	c->ops->xsetbv(c, (u32)c->r.gpr[RCX], edx_eax(c));
}

static void check_pkru(struct isa_cpu *c, bool write)
{
	if (!(c->s.cr4 & CR4_PKE))
		isa_raise(c, X86_UD);
	if ((u32)c->r.gpr[RCX] || (write && (u32)c->r.gpr[RDX]))
		isa_raise_err(c, X86_GP, 0);
}

void exec_rdpkru(struct isa_cpu *c, const struct isa_insn *i)
{
	check_pkru(c, false);
	set_edx_eax(c, c->r.pkru);
}

void exec_wrpkru(struct isa_cpu *c, const struct isa_insn *i)
{
	check_pkru(c, true);
	c->r.pkru = (u32)c->r.gpr[RAX];
	isa_mode_changed(c);
}

static void set_ac(struct isa_cpu *c, bool ac)
{
	if (c->cpl)
		isa_raise(c, X86_UD);
	c->s.rflags = (c->s.rflags & ~X86_AC) | (ac ? X86_AC : 0);
	isa_mode_changed(c);
}

void exec_clac(struct isa_cpu *c, const struct isa_insn *i)
{
	set_ac(c, false);
}

void exec_stac(struct isa_cpu *c, const struct isa_insn *i)
{
	set_ac(c, true);
}

/* ---- Waiting
 * --------------------------------------------------------------------------------------------------------
 */

void exec_hlt(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_HLT, 0);
	c->ops->hlt(c);
}

void exec_pause(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_PAUSE, 0);
	c->ops->pause(c);
}

/* Vol. 2B, MONITOR: #UD outside CPL 0; the line is read for the checks of an access to it. */
void exec_monitor(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la;

	if (c->cpl)
		isa_raise(c, X86_UD);
	c->ops->intercept(c, ICPT_MONITOR, 0);
	if ((u32)c->r.gpr[RCX])
		isa_raise_err(c, X86_GP, 0);
	la = c->ea = isa_linear(c, i->seg, mask_size(c->r.gpr[RAX], i->addrsize), 1, 0);
	isa_ld8(c, la, ISA_HOW(i));
}

/* ECX bit 0, "interrupts break even if masked", is the one extension there is. */
void exec_mwait(struct isa_cpu *c, const struct isa_insn *i)
{
	if (c->cpl)
		isa_raise(c, X86_UD);
	c->ops->intercept(c, ICPT_MWAIT, 0);
	if ((u32)c->r.gpr[RCX] & ~1u)
		isa_raise_err(c, X86_GP, 0);
	c->ops->mwait(c);
}

/* ---- Caches, translations, order
 * ---------------------------------------------------------------------------------------- */

void exec_invd(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_INVD, 0);
	c->ops->wbinvd(c);
}

void exec_wbinvd(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_WBINVD, 0);
	c->ops->wbinvd(c);
}

/* Segment limits are not checked, a non-canonical address is no fault (vol. 2A, INVLPG). */
void exec_invlpg(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 off = isa_ea_offset(c, i), la = off;

	if (c->mode != ISA_LONG64)
		la = (u32)(c->s.seg[i->seg].base + off);
	else if (i->seg >= FS)
		la = c->s.seg[i->seg].base + off;
	c->ea = la;
	c->ops->intercept(c, ICPT_INVLPG, la);
	if (is_canonical(la, c->va_bits))
		c->ops->invlpg(c, la);
}

void exec_invpcid(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 d[2], la, type;

	if (c->cpl)
		isa_raise_err(c, X86_GP, 0);
	la = c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), 16, 0);
	c->ops->intercept(c, ICPT_INVPCID, 0);
	type = reg_get(c, i->o[0].reg, c->mode == ISA_LONG64 ? 8 : 4);
	isa_read(c, la, d, 16, ISA_HOW(i));
	if (type > 3)
		isa_raise_err(c, X86_GP, 0);
	if (type < 2 && d[0] >> 12)
		isa_raise_err(c, X86_GP, 0);
	/* Without PCIDs there is only PCID 0. */
	if (type < 2 && !(c->s.cr4 & CR4_PCIDE) && (d[0] & 0xfff))
		isa_raise_err(c, X86_GP, 0);
	if (type == 0 && !is_canonical(d[1], c->va_bits))
		isa_raise_err(c, X86_GP, 0);
	c->ops->invpcid(c, (unsigned)type, d[0] & 0xfff, d[1]);
}

/* Caches are coherent here: what is left of CLFLUSH and its kin is that they are loads. */
void exec_clflush(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_ld8(c, c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), 1, 0), ISA_HOW(i));
}

void exec_mfence(struct isa_cpu *c, const struct isa_insn *i)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void exec_serialize(struct isa_cpu *c, const struct isa_insn *i)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	c->ops->serialize(c);
}

void exec_getsec(struct isa_cpu *c, const struct isa_insn *i)
{
	/* Unlike other instructions that always exit, it does so only where it is not undefined. */
	if (!(c->s.cr4 & CR4_SMXE))
		isa_raise(c, X86_UD);
	c->ops->intercept(c, ICPT_GETSEC, 0);
	isa_raise_err(c, X86_GP, 0);
}

/* There is no system-management mode to resume from. */
void exec_rsm(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_RSM, 0);
	isa_raise(c, X86_UD);
}

/* Units that are not part of this processor, but that a hypervisor sees before the #UD. */
void exec_umwait(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_UMWAIT, 0);
	c->ops->pause(c);
}

void exec_ud2(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}

/* ---- Hardware virtualization
 * --------------------------------------------------------------------------------------------- */

/* VMX instructions in a guest exit before everything but #UD for the mode (vol. 3C, 26.1.2), which
 * VMCALL and VMFUNC do not have; VMFUNC and shadowed VMREAD and VMWRITE are the op's. */
void exec_vmx(struct isa_cpu *c, const struct isa_insn *i)
{
	if ((i->flags & ISA_F_NOREAL) && is_lma(c) && c->mode != ISA_LONG64)
		isa_raise(c, X86_UD);
	c->ops->intercept(c, ICPT_VMX, 0);
	c->ops->vmx(c, i);
}

void exec_svm(struct isa_cpu *c, const struct isa_insn *i)
{
	c->ops->intercept(c, ICPT_SVM, 0);
	c->ops->vmx(c, i);
}
