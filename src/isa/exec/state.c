/* SPDX-License-Identifier: MIT */
/* Throwing, derived state, reset. */
#include <string.h>

#include "isa/exec/segment.h"

void isa_throw(struct isa_cpu *c, enum isa_throw what)
{
	_longjmp(*c->catch, what);
}

static __noreturn void raise(struct isa_cpu *c, unsigned vector, bool has_error, u32 error,
			     u64 payload)
{
	c->fault.vector = vector;
	c->fault.has_error = has_error;
	c->fault.error = error;
	c->fault.payload = payload;
	isa_throw(c, ISA_THROW_FAULT);
}

void isa_raise(struct isa_cpu *c, unsigned vector)
{
	raise(c, vector, false, 0, 0);
}

void isa_raise_err(struct isa_cpu *c, unsigned vector, u32 error)
{
	raise(c, vector, true, error, 0);
}

void isa_raise_pf(struct isa_cpu *c, u64 la, u32 error)
{
	raise(c, X86_PF_VEC, true, error, la);
}

void isa_raise_db(struct isa_cpu *c, u64 dr6_bits)
{
	raise(c, X86_DB, false, 0, dr6_bits);
}

void isa_mode_changed(struct isa_cpu *c)
{
	const struct isa_sys *s = &c->s;
	const struct isa_seg *cs = &s->seg[CS], *ss = &s->seg[SS];
	bool pe = s->cr0 & CR0_PE, v86 = s->rflags & X86_VM;

	if (!pe)
		c->cpl = 0;
	else
		c->cpl = v86 ? 3 : SEG_AR_DPL(ss->ar);

	if ((s->efer & EFER_LMA) && (cs->ar & SEG_AR_L)) {
		c->mode = ISA_LONG64;
		c->rip_mask = ~0ull;
		c->sp_mask = ~0ull;
	} else {
		bool big = cs->ar & SEG_AR_DB;

		/* Real mode entered with a 32-bit CS still loaded keeps decoding 32-bit code. */
		if ((!pe || v86) && !big)
			c->mode = ISA_REAL16;
		else
			c->mode = big ? ISA_PROT32 : ISA_PROT16;
		c->rip_mask = 0xffffffff;
	}
	c->va_bits = s->cr4 & CR4_LA57 && (s->efer & EFER_LMA) ? 57 : 48;

	seg_changed(c);
	c->ops->mode_changed(c);
}

/* SDM vol. 3A, table 10-1. */
void isa_reset(struct isa_cpu *c, bool init)
{
	u64 cr0_kept = init ? c->s.cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;
	unsigned i;

	memset(c->r.gpr, 0, sizeof(c->r.gpr));
	c->r.gpr[RDX] = 0x600;
	c->r.cr2 = 0;
	memset(c->r.dr, 0, sizeof(c->r.dr));
	c->r.dr6 = 0xffff0ff0;
	if (!init) {
		memset(&c->r.x87, 0, sizeof(c->r.x87));
		c->r.x87.fcw = 0x40;
		c->r.x87.ftw = 0xff; /* all registers hold +0.0 */
		c->r.x87.mxcsr = 0x1f80;
		c->r.x87.mxcsr_mask = 0xffff;
		memset(c->r.vec, 0, sizeof(c->r.vec));
		c->r.xcr0 = 1;
		c->r.xss = 0;
		c->r.xfd = c->r.xfd_err = 0;
		c->r.pkru = 0;
		c->r.star = c->r.lstar = c->r.cstar = c->r.sfmask = 0;
		c->r.kernel_gs_base = c->r.tsc_aux = c->r.spec_ctrl = 0;
		c->s.pat = 0x0007040600070406;
		c->s.sysenter_cs = c->s.sysenter_esp = c->s.sysenter_eip = 0;
	}

	c->s.rip = 0xfff0;
	isa_set_flags(c, 2);
	for (i = 0; i < ISA_NSEG; i++)
		c->s.seg[i] = (struct isa_seg){.ar = 0x93, .limit = 0xffff};
	c->s.seg[CS] =
		(struct isa_seg){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .ar = 0x9b};
	c->s.seg[LDTR].ar = 0x82;
	c->s.seg[TR].ar = 0x8b;
	c->s.gdtr = c->s.idtr = (struct isa_dtr){.limit = 0xffff};
	c->s.cr0 = CR0_ET | cr0_kept;
	c->s.cr3 = c->s.cr4 = c->s.cr8 = 0;
	c->s.dr7 = 0x400;
	c->s.efer = 0;
	c->s.debugctl = 0;
	memset(c->s.pdptr, 0, sizeof(c->s.pdptr));
	c->s.pending_dbg = 0;
	c->s.interruptibility = 0;
	c->s.activity = ISA_ACTIVE;
	isa_mode_changed(c);
}
