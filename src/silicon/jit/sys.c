/* SPDX-License-Identifier: MIT */
/*
 * System instructions of kernels' hot paths, for CPL 0: what code may run at is not known when it
 * is translated, so each looks. What may exit, fault or leave a shadow that matters is the
 * handler's.
 */
#include "silicon/jit/tr.h"

/* cmp byte gs:[cpl], 0; jne to the handler. EFLAGS may be clobbered. */
void tr_need_cpl0(struct tr *t)
{
	EMIT(&t->p, 0x65, 0x80, 0x3c, 0x25);
	put32(&t->p, GS_OF(c.cpl));
	put8(&t->p, 0);
	tr_cold(t, COLD_END, emit_jcc(&t->p, COND_NE), tr_insn(t));
}

bool tr_swapgs(struct tr *t, unsigned attr)
{
	tr_spill_flags(t);
	tr_need_cpl0(t);
	emit_gs_load(&t->p, T0, GS_SEGBASE(GS));
	emit_gs_load(&t->p, T1, GS_OF(c.r.kernel_gs_base));
	emit_gs_store(&t->p, T0, GS_OF(c.r.kernel_gs_base));
	emit_gs_store(&t->p, T1, GS_SEGBASE(GS));
	return true;
}

bool tr_cli(struct tr *t, unsigned attr)
{
	tr_spill_flags(t);
	tr_need_cpl0(t);
	EMIT(&t->p, 0x65, 0x81, 0x24, 0x25); /* and dword gs:[rflags], ~IF */
	put32(&t->p, GS_OF(c.s.rflags));
	put32(&t->p, ~(u32)X86_IF);
	return true;
}

/* Is the instruction behind in the block, so that it can have the shadow of this one? */
static bool shadow_fits(const struct tr *t)
{
	return t->index + 1 < t->npre && t->pre[t->index + 1].op != ISA_OP_STI;
}

/*
 * Where nothing waits for IF, the shadow only shows in an exit or a fault of the next instruction:
 * cpu->j.shadow tells its handler, and is taken back behind it (tr_shadow_end).
 */
bool tr_sti(struct tr *t, unsigned attr)
{
	u8 *over;

	if (!shadow_fits(t))
		return false;
	tr_spill_flags(t);
	tr_need_cpl0(t);
	EMIT(&t->p, 0x65, 0x83, 0x3c, 0x25); /* cmp dword gs:[attention], 0 */
	put32(&t->p, GS_OF(attention));
	put8(&t->p, 0);
	tr_cold(t, COLD_END, emit_jcc(&t->p, COND_NE), tr_insn(t));
	EMIT(&t->p, 0x65, 0xf7, 0x04, 0x25); /* test dword gs:[rflags], IF */
	put32(&t->p, GS_OF(c.s.rflags));
	put32(&t->p, X86_IF);
	over = emit_jcc(&t->p, COND_NE);
	EMIT(&t->p, 0x65, 0x81, 0x0c, 0x25); /* or */
	put32(&t->p, GS_OF(c.s.rflags));
	put32(&t->p, X86_IF);
	EMIT(&t->p, 0x65, 0xc6, 0x04, 0x25); /* mov byte gs:[shadow], 1 */
	put32(&t->p, GS_OF(j.shadow));
	put8(&t->p, 1);
	fix_rel32(over, t->p);
	t->shadow = 2;
	return true;
}

void tr_no_shadow(struct tr *t)
{
	EMIT(&t->p, 0x65, 0xc6, 0x04, 0x25); /* mov byte gs:[shadow], 0 */
	put32(&t->p, GS_OF(j.shadow));
	put8(&t->p, 0);
}

/* After every instruction. */
void tr_shadow_end(struct tr *t)
{
	if (!t->shadow || --t->shadow || t->done)
		return;
	tr_no_shadow(t);
}

void tr_shadow_over(struct tr *t)
{
	if (t->shadow)
		tr_no_shadow(t);
}

/* ---- What lean.c runs ---- */

static void lean_jump(struct tr *t, enum jit_lean k)
{
	emit_mov_imm64(&t->p, T0, (u64)tr_insn(t));
	emit_jmp(&t->p, t->j->rw + t->j->lean_stub[k]);
	t->done = true;
}

static void lean_call(struct tr *t, enum jit_lean k)
{
	emit_mov_imm64(&t->p, T0, (u64)tr_insn(t));
	emit_call(&t->p, t->j->rw + t->j->lean_stub[k]);
	/* Accesses may be allowed no longer. */
	tr_groups_end(t);
}

/* T1 = host address of @size bytes at RSP. Flags are in memory. */
static void on_stack(struct tr *t, unsigned size)
{
	emit_mov_rr(&t->p, T1, HOST_SP);
	t->slot = RSP;
	tr_access(t, size, false, COLD_END);
}

bool tr_syscall(struct tr *t, unsigned attr)
{
	if (t->word != 8)
		return false;
	tr_x87_flush(t);
	tr_store_flags(t);
	lean_jump(t, LEAN_SYSCALL);
	return true;
}

bool tr_sysret(struct tr *t, unsigned attr)
{
	if (t->word != 8 || t->i->opsize != 8)
		return false;
	tr_x87_flush(t);
	tr_store_flags(t);
	lean_jump(t, LEAN_SYSRET);
	return true;
}

bool tr_int(struct tr *t, unsigned attr)
{
	if (t->word != 8)
		return false;
	tr_x87_flush(t);
	tr_store_flags(t);
	lean_jump(t, LEAN_INT);
	return true;
}

bool tr_invlpg(struct tr *t, unsigned attr)
{
	if (t->word != 8)
		return false;
	tr_store_flags(t);
	if (!tr_ea(t))
		return false;
	tr_x87_flush(t);
	lean_jump(t, LEAN_INVLPG);
	return true;
}

bool tr_to_cr3(struct tr *t)
{
	unsigned h;

	tr_x87_flush(t);
	tr_store_flags(t);
	h = tr_reg(t, t->i->o[1].reg, T1);
	if (h != T1)
		emit_mov_rr(&t->p, T1, h);
	lean_jump(t, LEAN_CR3);
	return true;
}

/* Then the host's own. */
bool tr_pause(struct tr *t, unsigned attr)
{
	u8 *over;

	tr_spill_flags(t);
	EMIT(&t->p, 0x65, 0xf6, 0x04, 0x25); /* test byte gs:[untrapped], PAUSE */
	put32(&t->p, GS_OF(untrapped));
	put8(&t->p, UNTRAPPED_PAUSE);
	over = emit_jcc(&t->p, COND_NE);
	lean_call(t, LEAN_PAUSE);
	fix_rel32(over, t->p);
	EMIT(&t->p, 0xf3, 0x90);
	return true;
}

/* SVM can intercept IRET and POPF. */
bool tr_iret(struct tr *t, unsigned attr)
{
	if (t->word != 8 || t->i->opsize != 8 || t->cpu->m->virt->vendor != SIL_INTEL)
		return false;
	tr_x87_flush(t);
	tr_store_flags(t);
	on_stack(t, 40);
	lean_jump(t, LEAN_IRET);
	return true;
}

bool tr_popf(struct tr *t, unsigned attr)
{
	if (t->word != 8 || t->i->opsize != 8 || t->cpu->m->virt->vendor != SIL_INTEL)
		return false;
	tr_store_flags(t);
	on_stack(t, 8);
	lean_call(t, LEAN_POPF);
	t->rec = 0;
	t->fresh = false;
	return true;
}

bool tr_ac(struct tr *t, unsigned attr)
{
	if (t->word != 8)
		return false;
	tr_spill_flags(t);
	lean_call(t, t->i->op == ISA_OP_STAC ? LEAN_STAC : LEAN_CLAC);
	return true;
}

static bool kept(const struct isa_opnd *o)
{
	return o->kind == OK_GPR && o->reg != RSP && host_of(o->reg) != NO_HOST;
}

/* VMREAD and VMWRITE between registers, through a shadow VMCS if there is one. */
bool tr_vmx(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;

	if (t->word != 8 || t->cpu->m->virt->vendor != SIL_INTEL || !kept(&i->o[0]) ||
	    !kept(&i->o[1]))
		return false;
	tr_store_flags(t);
	lean_call(t, LEAN_VMX);
	if (i->op == ISA_OP_VMREAD)
		emit_gs_load(&t->p, host_of(i->o[0].reg), GS_GPR(i->o[0].reg));
	t->rec = 0;
	t->fresh = false;
	return true;
}

/* ---- Others ---- */

/* SVM can intercept it. */
bool tr_pushf(struct tr *t, unsigned attr)
{
	struct cold *c;

	if (t->i->opsize != 8 || t->word != 8 || t->cpu->m->virt->vendor != SIL_INTEL)
		return false;
	tr_store_flags(t);
	emit_lea(&t->p, T1, HOST_SP, -8);
	t->slot = RSP;
	c = tr_access(t, 8, true, COLD_SLOW);
	emit_sp(&t->p, OP_MOV_RM_R, RAX, FR_OF(tmp[0]));
	EMIT(&t->p, 0x65, 0x0f, 0xb7, 0x04, 0x25); /* movzx eax, word gs:[fl] */
	put32(&t->p, GS_OF(j.fl));
	/* mov r14d, eax; and r14d, 1; shl r14d, 11; shr eax, 8; and eax, 0xd5; or r14d, eax */
	EMIT(&t->p, 0x41, 0x89, 0xc6, 0x41, 0x83, 0xe6, 0x01, 0x41, 0xc1, 0xe6, 0x0b);
	EMIT(&t->p, 0xc1, 0xe8, 0x08, 0x25, 0xd5, 0, 0, 0, 0x41, 0x09, 0xc6);
	emit_gs(&t->p, OP_MOV_R_RM, RAX, GS_OF(c.s.rflags), false);
	put8(&t->p, 0x25); /* and eax, ~(RF | VM); or r14d, eax */
	put32(&t->p, ~(u32)(X86_RF | X86_VM));
	EMIT(&t->p, 0x41, 0x09, 0xc6);
	EMIT(&t->p, 0x4d, 0x89, 0x37); /* mov [r15], r14 */
	emit_sp(&t->p, OP_MOV_R_RM, RAX, FR_OF(tmp[0]));
	emit_lea(&t->p, HOST_SP, HOST_SP, -8);
	tr_back(t, c);
	return true;
}

bool tr_df(struct tr *t, unsigned attr)
{
	tr_spill_flags(t);
	EMIT(&t->p, 0x65, 0x81); /* or, and dword gs:[rflags] */
	put8(&t->p, t->i->op == ISA_OP_STD ? 0x0c : 0x24);
	put8(&t->p, 0x25);
	put32(&t->p, GS_OF(c.s.rflags));
	put32(&t->p, t->i->op == ISA_OP_STD ? (u32)X86_DF : ~(u32)X86_DF);
	return true;
}

/* Its four registers are where they are on the host. */
bool tr_cmpxchg16b(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	struct cold *c, *ca;

	if (i->o[0].kind != OK_MEM || i->msize != 16)
		return false;
	tr_spill_flags(t);
	if (!tr_ea(t))
		return false;
	EMIT(&t->p, 0x41, 0xf6, 0xc7, 0x0f); /* test r15b, 15 */
	ca = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
	c = tr_access(t, 16, true, COLD_SLOW);
	tr_need_flags(t);
	if (i->prefixes & ISA_P_LOCK)
		put8(&t->p, 0xf0);
	EMIT(&t->p, 0x49, 0x0f, 0xc7, 0x0f); /* cmpxchg16b [r15] */
	tr_set_flags(t);
	tr_back(t, ca);
	if (c)
		tr_back(t, c);
	return true;
}
