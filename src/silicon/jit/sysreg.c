/* SPDX-License-Identifier: MIT */
/* Reads of the counter and of registers that are in the cpu, and the bases of FS and GS. */
#include "silicon/jit/tr.h"

/* Is feature @f there in this world? VM controls take some away, and worlds share translations. */
static void need_feature(struct tr *t, enum isa_feat f)
{
	EMIT(&t->p, 0x65, 0xf6, 0x04, 0x25); /* test byte gs:[feat], bit */
	put32(&t->p, GS_OF(c.feat) + f / 8);
	put8(&t->p, 1u << f % 8);
}

bool tr_rdtsc(struct tr *t, unsigned attr)
{
	bool p = t->i->op == ISA_OP_RDTSCP;
	struct cold *cf = NULL, *ct, *cl;

	if (!t->cpu->m->cfg.tsc_native)
		return false;
	tr_spill_flags(t);
	if (p) {
		need_feature(t, FEAT_RDTSCP);
		cf = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_E), tr_insn(t));
	}
	EMIT(&t->p, 0x65, 0xf6, 0x04, 0x25); /* test byte gs:[cr4], TSD */
	put32(&t->p, GS_OF(c.s.cr4));
	put8(&t->p, CR4_TSD);
	ct = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
	emit_mov_rr(&t->p, T0, RAX);
	emit_mov_rr(&t->p, T1, RDX);
	/* rdtsc; shl rdx, 32; or rdx, rax */
	EMIT(&t->p, 0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xc2);
	emit_mov_rr(&t->p, RAX, T0);
	emit_mov_rr(&t->p, T0, RDX);
	emit_mov_rr(&t->p, RDX, T1);
	emit_gs(&t->p, 0x3b, T0, GS_OF(tsc_limit), true); /* cmp */
	cl = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_AE), tr_insn(t));
	emit_gs(&t->p, OP_ADD_R_RM, T0, GS_OF(tsc_offset), true);
	emit_mov_rr(&t->p, RDX, T0);
	EMIT(&t->p, 0x48, 0xc1, 0xea, 0x20); /* shr rdx, 32 */
	emit_mov_rr_n(&t->p, 4, RAX, T0);
	if (p)
		emit_gs(&t->p, OP_MOV_R_RM, RCX, GS_OF(c.r.tsc_aux), false);
	tr_back(t, cf);
	tr_back(t, ct);
	tr_back(t, cl);
	return true;
}

/* From CR2 and CR3, which SVM can intercept, and to CR3. */
bool tr_mov_cr(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned n = i->o[1].reg, h = host_of(i->o[0].reg);

	if (t->word == 8 && i->o[0].kind == OK_CR && i->o[0].reg == 3)
		return tr_to_cr3(t);
	if (t->word != 8 || i->o[1].kind != OK_CR || (n != 2 && n != 3) ||
	    t->cpu->m->virt->vendor != SIL_INTEL)
		return false;
	tr_spill_flags(t);
	tr_need_cpl0(t);
	if (n == 3) {
		EMIT(&t->p, 0x65, 0xf6, 0x04, 0x25); /* test byte gs:[untrapped], CR3_STORE */
		put32(&t->p, GS_OF(untrapped));
		put8(&t->p, UNTRAPPED_CR3_STORE);
		tr_cold(t, COLD_END, emit_jcc(&t->p, COND_E), tr_insn(t));
	}
	if (h == NO_HOST)
		h = T0;
	emit_gs_load(&t->p, h, n == 2 ? GS_OF(c.r.cr2) : GS_OF(c.s.cr3));
	tr_write_back(t, i->o[0].reg, h);
	return true;
}

/* test dword gs:[cr4], bit; to the handler if it is 0 */
static struct cold *need_cr4(struct tr *t, u32 bit)
{
	EMIT(&t->p, 0x65, 0xf7, 0x04, 0x25);
	put32(&t->p, GS_OF(c.s.cr4));
	put32(&t->p, bit);
	return tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_E), tr_insn(t));
}

bool tr_rdpkru(struct tr *t, unsigned attr)
{
	struct cold *c, *cx;

	tr_spill_flags(t);
	c = need_cr4(t, CR4_PKE);
	EMIT(&t->p, 0x85, 0xc9); /* test ecx, ecx */
	cx = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
	emit_gs(&t->p, OP_MOV_R_RM, RAX, GS_OF(c.r.pkru), false);
	EMIT(&t->p, 0x31, 0xd2); /* xor edx, edx */
	tr_back(t, c);
	tr_back(t, cx);
	return true;
}

static unsigned base_of(const struct isa_insn *i)
{
	return i->op == ISA_OP_RDFSBASE || i->op == ISA_OP_WRFSBASE ? FS : GS;
}

bool tr_read_base(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned h = host_of(i->o[0].reg);
	struct cold *c;

	if (t->word != 8)
		return false;
	tr_spill_flags(t);
	c = need_cr4(t, CR4_FSGSBASE);
	if (h == NO_HOST)
		h = T0;
	emit_gs(&t->p, OP_MOV_R_RM, h, GS_SEGBASE(base_of(i)), i->o[0].size == 8);
	tr_write_back(t, i->o[0].reg, h);
	tr_back(t, c);
	return true;
}

bool tr_write_base(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	const struct isa_cpu *cpu = &t->cpu->c;
	unsigned spare = 64u - (cpu->va_bits_max ? cpu->va_bits_max : cpu->va_bits);
	struct cold *c, *cc;

	if (t->word != 8 || !cpu->va_bits_max)
		return false;
	tr_spill_flags(t);
	c = need_cr4(t, CR4_FSGSBASE);
	emit_mov_rr_n(&t->p, i->o[0].size, T0, tr_reg(t, i->o[0].reg, T0));
	emit_mov_rr(&t->p, T1, T0);
	EMIT(&t->p, 0x49, 0xc1, 0xe7); /* shl r15; sar r15; cmp r15, r14: canonical? */
	put8(&t->p, spare);
	EMIT(&t->p, 0x49, 0xc1, 0xff);
	put8(&t->p, spare);
	EMIT(&t->p, 0x4d, 0x39, 0xf7);
	cc = tr_cold(t, COLD_SLOW, emit_jcc(&t->p, COND_NE), tr_insn(t));
	emit_gs_store(&t->p, T0, GS_SEGBASE(base_of(i)));
	tr_back(t, c);
	tr_back(t, cc);
	return true;
}

/* MOV from a segment register. */
bool tr_mov_segrd(struct tr *t, unsigned attr)
{
	const struct isa_insn *i = t->i;
	unsigned g = i->o[0].reg, h;
	struct cold *c = NULL;

	if (i->o[1].kind != OK_SEG || (i->o[0].kind != OK_GPR && i->o[0].kind != OK_MEM))
		return false;
	if (i->o[0].kind == OK_MEM) {
		tr_spill_flags(t);
		if (!tr_ea(t))
			return false;
		c = tr_access(t, 2, true, COLD_SLOW);
	}
	EMIT(&t->p, 0x65, 0x44, 0x0f, 0xb7, 0x34, 0x25); /* movzx r14d, word gs:[selector] */
	put32(&t->p, GS_SEGBASE(i->o[1].reg) - (u32)offsetof(struct isa_seg, base) +
			     (u32)offsetof(struct isa_seg, sel));
	if (i->o[0].kind == OK_MEM) {
		EMIT(&t->p, 0x66, 0x45, 0x89, 0x37); /* mov [r15], r14w */
		tr_back(t, c);
		return true;
	}
	h = i->o[0].size == 2 ? tr_reg(t, g, T1) : host_of(g) == NO_HOST ? T1 : host_of(g);
	if (i->o[0].size == 2)
		put8(&t->p, 0x66);
	emit_mov_rr_n(&t->p, i->o[0].size, h, T0);
	tr_write_back(t, g, h);
	return true;
}
