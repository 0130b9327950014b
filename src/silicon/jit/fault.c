/* SPDX-License-Identifier: MIT */
/* Host memory was not there: the guest's registers out of the signal frame. Runs in the handler. */
#include "silicon/jit/door.h"
#include "silicon/jit/jit.h"

#ifdef __x86_64__
#include <string.h>
#include <ucontext.h>

#include "isa/insn_table.h"
#include "silicon/jit/emit.h"

/* @fp: FXSAVE image, or NULL for the initial state. The kernel has emptied the x87 stack. */
static void fault_x87(struct sil_cpu *cpu, const u8 *fp)
{
	struct isa_x87 *x = &cpu->c.r.x87;

	if (fp) {
		memcpy(x, fp, offsetof(struct isa_x87, rsvd));
		memcpy(x->st, fp + offsetof(struct isa_x87, st), sizeof(x->st));
	} else {
		x->fcw = 0x37f;
		x->fsw = 0;
		x->ftw = 0;
		memset(x->st, 0, sizeof(x->st));
	}
	__asm__ volatile("fninit; fldcw %0" : : "m"(cpu->j.host_fcw));
}

/* As the handler of the instruction would leave the state: nothing of it has been done. */
static void fault_regs(struct sil_cpu *cpu, const ucontext_t *uc, bool stored)
{
	static const u8 greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				       REG_R12, REG_R13, REG_R14, REG_R15};
	const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
	u64 have = 3;
	u32 magic;
	unsigned g;

	for (g = 0; g < 16 && !stored; g++)
		if (host_of(g) != NO_HOST)
			cpu->c.r.gpr[g] = (u64)uc->uc_mcontext.gregs[greg_of[host_of(g)]];
	memcpy(cpu->c.r.gpr + R13, cpu->j.frame->spill, sizeof(cpu->j.frame->spill));
	cpu->j.pc_page = cpu->j.frame->pc_page;
	cpu->n.instructions += cpu->j.frame->count;
	if (!cpu->j.vec)
		return;
	/* struct _fpx_sw_bytes says whether an XSAVE image follows (SDM vol. 1, 13.4). */
	memcpy(&magic, fp + 464, 4);
	if (magic == 0x46505853)
		memcpy(&have, fp + 512, 8);
	if (cpu->j.vec & VEC_X87)
		fault_x87(cpu, have & 1 ? fp : NULL);
	if (!(cpu->j.vec & ~VEC_X87)) {
		cpu->j.vec = 0;
		return;
	}
	for (g = 0; g < 16; g++) {
		memset(cpu->c.r.vec[g].b, 0, 32);
		if (have & 2)
			memcpy(cpu->c.r.vec[g].b, fp + 160 + 16 * g, 16);
		if (have & 4)
			memcpy(cpu->c.r.vec[g].b + 16, fp + ISA_XSAVE_AVX_OFFSET + 16 * g, 16);
	}
	if (cpu->j.vec & (VEC_SSE_FP | VEC_AVX_FP)) {
		memcpy(&cpu->c.r.x87.mxcsr, fp + 24, 4);
		__builtin_ia32_ldmxcsr(cpu->j.host_mxcsr);
	}
	cpu->j.vec = 0;
}

void jit_caught(struct guard *guard, void *ucontext)
{
	struct sil_cpu *cpu = container_of(guard, struct sil_cpu, guard);
	const ucontext_t *uc = ucontext;
	struct jit *j = cpu->m->jit;
	u64 at = (u64)uc->uc_mcontext.gregs[REG_RIP] - (u64)j->rx;
	const struct jit_block *b;
	u64 eflags = (u64)uc->uc_mcontext.gregs[REG_EFL];
	const struct jit_insn *ji;
	unsigned k;

	if (at >= j->size && !cpu->j.lean)
		return;
	fault_regs(cpu, uc, cpu->j.lean);
	ji = cpu->j.lean;
	cpu->j.lean = NULL;
	for (b = ji ? NULL : __atomic_load_n(&j->last, __ATOMIC_ACQUIRE); b; b = b->before)
		if (at >= b->code && at < b->code_end)
			break;
	for (k = 0; b && k < b->njit && b->at[k].code <= at; k++)
		ji = b->at[k].insn;
	if (!ji)
		return;
	/* Its loop has RAX in the frame. */
	if (isa_rows[ji->i.op].fn == exec_movs && (ji->i.prefixes & (ISA_P_REP | ISA_P_REPNE)))
		cpu->c.r.gpr[RAX] = cpu->j.frame->tmp[1];
	/* LAHF's bits are EFLAGS'; OF is bit 11. */
	if (ji->host_fl)
		cpu->j.fl = (u16)((eflags & 0xd7) << 8 | (eflags >> 11 & 1));
	jit_flags_in(cpu, ji->rec);
	jit_x87_pointer(cpu, ji);
	if (ji->shadow && cpu->j.shadow) {
		cpu->j.shadow = 0;
		cpu->c.s.interruptibility |= ISA_BLOCK_STI;
	}
	cpu->c.s.rip = cpu->j.pc_page + ji->end;
	cpu->c.insn = &ji->i;
	cpu->block_first = &ji->i;
	cpu->n.instructions += ji->index;
}

#else
void jit_caught(struct guard *g, void *ucontext) {}
#endif
