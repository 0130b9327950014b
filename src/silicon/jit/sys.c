/* SPDX-License-Identifier: MIT */
/*
 * System instructions of kernels' hot paths, for CPL 0: what code may run at is not known when it
 * is translated, so each looks. What may exit, fault or leave a shadow that matters is the
 * handler's.
 */
#include "silicon/jit/tr.h"

/* cmp byte gs:[cpl], 0; jne to the handler. EFLAGS may be clobbered. */
static void need_cpl0(struct tr *t)
{
	EMIT(&t->p, 0x65, 0x80, 0x3c, 0x25);
	put32(&t->p, GS_OF(c.cpl));
	put8(&t->p, 0);
	tr_cold(t, COLD_END, emit_jcc(&t->p, COND_NE), tr_insn(t));
}

bool tr_swapgs(struct tr *t, unsigned attr)
{
	tr_spill_flags(t);
	need_cpl0(t);
	emit_gs_load(&t->p, T0, GS_SEGBASE(GS));
	emit_gs_load(&t->p, T1, GS_OF(c.r.kernel_gs_base));
	emit_gs_store(&t->p, T0, GS_OF(c.r.kernel_gs_base));
	emit_gs_store(&t->p, T1, GS_SEGBASE(GS));
	return true;
}

bool tr_cli(struct tr *t, unsigned attr)
{
	tr_spill_flags(t);
	need_cpl0(t);
	EMIT(&t->p, 0x65, 0x81, 0x24, 0x25); /* and dword gs:[rflags], ~IF */
	put32(&t->p, GS_OF(c.s.rflags));
	put32(&t->p, ~(u32)X86_IF);
	return true;
}

/* Can the instruction behind have the shadow of this one: is it translated, and will it leave the
 * block only by its handler? */
static bool shadow_fits(const struct tr *t)
{
	const struct isa_insn *next = &t->pre[t->index + 1];
	tr_fn *fn;

	if (t->index + 1 >= t->npre)
		return false;
	fn = tr_fn_of(next);
	return fn && tr_usable(t, next) && !tr_branches(fn) && !(tr_attr_of(next) & SYS_OK);
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
	need_cpl0(t);
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

/* After every instruction. */
void tr_shadow_end(struct tr *t)
{
	if (!t->shadow || --t->shadow || t->done)
		return;
	EMIT(&t->p, 0x65, 0xc6, 0x04, 0x25); /* mov byte gs:[shadow], 0 */
	put32(&t->p, GS_OF(j.shadow));
	put8(&t->p, 0);
}

/* SVM can intercept it. */
bool tr_pushf(struct tr *t, unsigned attr)
{
	struct cold *c;

	if (t->i->opsize != 8 || t->cpu->m->virt->vendor != SIL_INTEL)
		return false;
	tr_store_flags(t);
	emit_lea(&t->p, T1, HOST_SP, -8);
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

/* MOV from a segment register to a general one. */
bool tr_mov_segrd(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned g = i->o[0].reg, h = host_of(g);

	if (i->o[0].kind != OK_GPR || i->o[0].size < 4 || i->o[1].kind != OK_SEG)
		return false;
	if (h == NO_HOST)
		h = T0;
	put8(&t->p, 0x65); /* movzx h, word gs:[selector] */
	if (h > 7)
		put8(&t->p, 0x44);
	EMIT(&t->p, 0x0f, 0xb7);
	put8(&t->p, 0x04 | (h & 7) << 3);
	put8(&t->p, 0x25);
	put32(&t->p, GS_SEGBASE(i->o[1].reg) - (u32)offsetof(struct isa_seg, base) +
			     (u32)offsetof(struct isa_seg, sel));
	if (host_of(g) == NO_HOST)
		emit_sp(&t->p, OP_MOV_RM_R, h, FR_GPR(g));
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
