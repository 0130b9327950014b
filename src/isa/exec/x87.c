/* SPDX-License-Identifier: MIT */
/*
 * x87 arithmetic: each instruction runs as itself on an FXSAVE image of the guest's state, under
 * the guest's control word. An unmasked exception only sets ES then, since nothing that waits
 * follows it before the state is saved again.
 */
#include "isa/exec/native.h"
#include "isa/exec/operand.h"
#include "isa/exec/x87.h"

/* Flags that keep an instruction's store from being made (SDM vol. 1, 8.5): all but precision. */
#define FSW_NO_STORE 0x1fu

void x87_set_top(struct isa_x87 *x, unsigned top)
{
	unsigned by = (top - FSW_TOP(x->fsw)) & 7, k;
	u8 st[8][16];

	if (by) {
		memcpy(st, x->st, sizeof(st));
		for (k = 0; k < 8; k++)
			memcpy(x->st[k], st[(k + by) & 7], 16);
	}
	x->fsw = (x->fsw & 0xc7ff) | (u16)(top << 11);
}

void x87_enter_mmx(struct isa_cpu *c)
{
	x87_set_top(&c->r.x87, 0);
	c->r.x87.ftw = 0xff;
}

void exec_emms(struct isa_cpu *c, const struct isa_insn *i)
{
	x87_set_top(&c->r.x87, 0);
	c->r.x87.ftw = 0;
}

/*
 * The address of the last instruction that was not a control one. Its opcode and the address of its
 * operand are recorded if it has met an unmasked exception: CPUID.7:EBX[6] says so of the latter;
 * the former has had no other mode since the Pentium 4 (SDM vol. 1, 8.1.8 and 8.1.9).
 */
static void remember(struct isa_cpu *c, const struct isa_insn *i)
{
	struct isa_x87 *x = &c->r.x87;

	x->fip = (c->s.rip - i->len) & c->rip_mask;
	if (!(x->fsw & FSW_ES))
		return;
	x->fop = (u16)((i->raw[i->modrm_off - 1] & 7) << 8 | i->raw[i->modrm_off]);
	if (i->raw[i->modrm_off] < 0xc0)
		x->fdp = isa_ea_offset(c, i);
}

#ifdef __x86_64__
void exec_x87(struct isa_cpu *c, const struct isa_insn *i)
{
	const struct native_stub *s = native_get(c, i);
	struct isa_x87 *x = &c->r.x87, *image;
	struct native_frame f;
	u8 buf[32] __attribute__((aligned(32)));
	u64 la = 0;

	if (s->mem == NATIVE_LOAD)
		isa_read(c, isa_ea(c, i, 0), buf, i->msize, ISA_HOW(i));
	else if (s->mem == NATIVE_STORE)
		la = isa_ea(c, i, ISA_ACC_WRITE);

	image = (struct isa_x87 *)f.image;
	*image = *x;
	image->mxcsr = __builtin_ia32_stmxcsr();
	image->fip = image->fdp = image->fop = 0;
	__asm__ volatile("fnstcw %0" : "=m"(f.fcw_host));
	f.flags_in = isa_flags(c) & X86_STATUS_FLAGS;
	s->code(c, buf, &f);

	if (s->mem == NATIVE_STORE) {
		/* The page fault of a store comes even if the store does not. */
		if (image->fsw & ~image->fcw & FSW_NO_STORE)
			rmw_ptr(c, la, i->msize, ISA_HOW(i));
		else
			isa_write(c, la, buf, i->msize, ISA_HOW(i));
	}
	x->fsw = image->fsw;
	x->ftw = image->ftw;
	memcpy(x->st, image->st, sizeof(x->st));
	if (s->flags & NATIVE_FLAGS)
		isa_set_status(c, f.flags_out);
	remember(c, i);
}
#else
void exec_x87(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}
#endif
