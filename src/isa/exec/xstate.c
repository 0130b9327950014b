/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE and XSAVE: the state components x87, SSE, AVX and PKRU between struct isa_regs and their
 * memory formats (SDM vol. 1, chapter 13). IA32_XSS has no supported bits.
 */
#include <errno.h>

#include "isa/exec/native.h"
#include "isa/exec/operand.h"
#include "isa/exec/x87.h"

#define XC_X87	BIT(0)
#define XC_SSE	BIT(1)
#define XC_AVX	BIT(2)
#define XC_PKRU BIT(9)
#define XC_ALL	(XC_X87 | XC_SSE | XC_AVX | XC_PKRU)

#define LEGACY_SIZE   512
#define HDR_OFF	      512
#define HDR_SIZE      64
#define EXT_OFF	      (HDR_OFF + HDR_SIZE)
#define MXCSR_OFF     24
#define MXCSR_VALID   0xffffu
#define XMM_OFF	      160
#define XCOMP_COMPACT BIT(63)
#define XSAVE_MAX     (ISA_XSAVE_PKRU_OFFSET + 8)

u32 isa_xsave_component(unsigned n, u32 *offset)
{
	switch (n) {
	case 2: *offset = ISA_XSAVE_AVX_OFFSET; return 256;
	case 9: *offset = ISA_XSAVE_PKRU_OFFSET; return 8;
	default: *offset = 0; return 0;
	}
}

u32 isa_xsave_size(u64 xcr0, bool compacted)
{
	u32 end = EXT_OFF, off, size;
	unsigned n;

	for (n = 2; n < 63; n++) {
		if (!(xcr0 & BIT(n)))
			continue;
		size = isa_xsave_component(n, &off);
		end = compacted ? end + size : MAX(end, off + size);
	}
	return end;
}

/* Offset of component @n in an area of format @xcomp_bv (0: standard). */
static u32 comp_offset(unsigned n, u64 xcomp_bv)
{
	u32 off, at = EXT_OFF;
	unsigned k;

	if (!(xcomp_bv & XCOMP_COMPACT)) {
		isa_xsave_component(n, &off);
		return off;
	}
	for (k = 2; k < n; k++) {
		if (xcomp_bv & BIT(k))
			at += isa_xsave_component(k, &off);
	}
	return at;
}

/* Components not in their initial configuration (XINUSE). MXCSR counts for none of them. */
static u64 in_use(const struct isa_regs *r, unsigned nvec)
{
	const struct isa_x87 *x = &r->x87;
	u64 used = r->pkru ? XC_PKRU : 0, lo = 0, hi = 0;
	static const u8 zero[128];
	unsigned k;

	if (x->fcw != 0x37f || x->fsw || x->ftw || x->fop || x->fip || x->fdp ||
	    memcmp(x->st, zero, 128) != 0)
		used |= XC_X87;
	for (k = 0; k < nvec; k++) {
		lo |= r->vec[k].q[0] | r->vec[k].q[1];
		hi |= r->vec[k].q[2] | r->vec[k].q[3];
	}
	return used | (lo ? XC_SSE : 0) | (hi ? XC_AVX : 0);
}

/* ---- Parts of an area ---------------------------------------------------------------------------
 */

static void put_x87(const struct isa_x87 *x, u8 *a, bool wide)
{
	unsigned k;

	memcpy(a, x, MXCSR_OFF);
	a[5] = 0;
	if (!wide) {
		/* FCS and FDS: CPUID.7:EBX[13] says they are 0. */
		memset(a + 12, 0, 4);
		memset(a + 20, 0, 4);
	}
	for (k = 0; k < 8; k++) {
		memcpy(a + 32 + 16 * k, x->st[k], 10);
		memset(a + 32 + 16 * k + 10, 0, 6);
	}
}

static void get_x87(struct isa_x87 *x, const u8 *a, bool wide)
{
	unsigned k;

	memcpy(x, a, MXCSR_OFF);
	x->rsvd = 0;
	x->fcw = x87_fcw_fixed(x->fcw);
	x->fop &= 0x7ff;
	if (!wide) {
		x->fip = (u32)x->fip;
		x->fdp = (u32)x->fdp;
	}
	for (k = 0; k < 8; k++) {
		memset(x->st[k], 0, 16);
		memcpy(x->st[k], a + 32 + 16 * k, 10);
	}
	x87_update_es(x);
}

static void put_mxcsr(const struct isa_x87 *x, u8 *a)
{
	u32 v[2] = {x->mxcsr, MXCSR_VALID};

	memcpy(a + MXCSR_OFF, v, 8);
}

static u32 get_mxcsr(const u8 *a)
{
	u32 v;

	memcpy(&v, a + MXCSR_OFF, 4);
	return v;
}

static void put_half(const struct isa_regs *r, u8 *a, unsigned nvec, unsigned half)
{
	unsigned k;

	for (k = 0; k < nvec; k++)
		memcpy(a + 16 * k, r->vec[k].b + 16 * half, 16);
}

/* @a NULL: the initial configuration. */
static void get_half(struct isa_regs *r, const u8 *a, unsigned nvec, unsigned half)
{
	unsigned k;

	for (k = 0; k < nvec; k++) {
		if (a)
			memcpy(r->vec[k].b + 16 * half, a + 16 * k, 16);
		else
			memset(r->vec[k].b + 16 * half, 0, 16);
	}
}

static void init_x87(struct isa_x87 *x)
{
	x87_init(x);
	memset(x->st, 0, sizeof(x->st));
}

static unsigned nvec_of(const struct isa_cpu *c)
{
	return c->mode == ISA_LONG64 ? 16 : 8;
}

/* ---- FXSAVE
 * -------------------------------------------------------------------------------------- */

static u64 fx_ea(struct isa_cpu *c, const struct isa_insn *i, unsigned how, unsigned align)
{
	u64 la = c->ea = isa_linear(c, i->seg, isa_ea_offset(c, i), LEGACY_SIZE, how);

	if (la & (align - 1))
		isa_raise_err(c, X86_GP, 0);
	return la;
}

void exec_fxsave(struct isa_cpu *c, const struct isa_insn *i)
{
	bool wide = i->op == ISA_OP_FXSAVE64;
	u64 la = fx_ea(c, i, ISA_ACC_WRITE, 16);
	u8 buf[XMM_OFF + 256];

	/* All of the area must be writable, though its end is not written. */
	rmw_ptr(c, la + LEGACY_SIZE - 8, 8, ISA_HOW(i));
	put_x87(&c->r.x87, buf, wide);
	put_mxcsr(&c->r.x87, buf);
	put_half(&c->r, buf + XMM_OFF, nvec_of(c), 0);
	isa_write(c, la, buf, XMM_OFF + 16 * nvec_of(c), ISA_HOW(i));
}

void exec_fxrstor(struct isa_cpu *c, const struct isa_insn *i)
{
	bool wide = i->op == ISA_OP_FXRSTOR64;
	u64 la = fx_ea(c, i, 0, 16);
	u8 buf[LEGACY_SIZE];

	isa_read(c, la, buf, LEGACY_SIZE, ISA_HOW(i));
	if (get_mxcsr(buf) & ~MXCSR_VALID)
		isa_raise_err(c, X86_GP, 0);
	get_x87(&c->r.x87, buf, wide);
	c->r.x87.mxcsr = get_mxcsr(buf);
	get_half(&c->r, buf + XMM_OFF, nvec_of(c), 0);
}

/* ---- XSAVE
 * --------------------------------------------------------------------------------------- */

static u64 xs_begin(struct isa_cpu *c, const struct isa_insn *i, unsigned how)
{
	if (!(c->s.cr4 & CR4_OSXSAVE))
		isa_raise(c, X86_UD);
	if (c->s.cr0 & CR0_TS)
		isa_raise(c, X86_NM);
	return fx_ea(c, i, how, 64);
}

static u64 edx_eax(const struct isa_cpu *c)
{
	return (u64)(u32)c->r.gpr[RDX] << 32 | (u32)c->r.gpr[RAX];
}

enum xs_form { XS_PLAIN, XS_OPT, XS_COMPACT };

/* XSAVE and its variants. Memory between the components is not touched (SDM vol. 1, 13.7-13.11). */
static void xs_store(struct isa_cpu *c, const struct isa_insn *i, u64 la, u64 rfbm,
		     enum xs_form form, bool wide)
{
	unsigned nvec = nvec_of(c), how = ISA_HOW(i);
	u64 used = in_use(&c->r, nvec), save, hdr[8] = {0}, xcomp = 0;
	u8 buf[256] = {0};

	if (form == XS_COMPACT) {
		xcomp = XCOMP_COMPACT | rfbm;
		/* A changed MXCSR makes SSE used (13.11). */
		if (c->r.x87.mxcsr != 0x1f80)
			used |= XC_SSE;
	}
	save = form == XS_PLAIN ? rfbm : rfbm & used;
	if (form == XS_COMPACT) {
		hdr[0] = rfbm & used;
		hdr[1] = xcomp;
	} else {
		isa_read(c, la + HDR_OFF, hdr, 8, how);
		hdr[0] = (hdr[0] & ~rfbm) | (used & rfbm);
	}

	/* The last byte first: a fault must come before anything is written. */
	if (save & XC_PKRU) {
		u32 pkru[2] = {c->r.pkru, 0};

		isa_write(c, la + comp_offset(9, xcomp), pkru, 8, how);
	}
	if (save & XC_AVX) {
		put_half(&c->r, buf, nvec, 1);
		isa_write(c, la + comp_offset(2, xcomp), buf, 16 * nvec, how);
	}
	if (save & XC_X87) {
		put_x87(&c->r.x87, buf, wide);
		isa_write(c, la, buf, MXCSR_OFF, how);
		isa_write(c, la + 32, buf + 32, 128, how);
	}
	if (save & XC_SSE) {
		put_half(&c->r, buf, nvec, 0);
		isa_write(c, la + XMM_OFF, buf, 16 * nvec, how);
	}
	if (form == XS_COMPACT ? save & XC_SSE : rfbm & (XC_SSE | XC_AVX)) {
		put_mxcsr(&c->r.x87, buf);
		isa_write(c, la + MXCSR_OFF, buf + MXCSR_OFF, 8, how);
	}
	isa_write(c, la + HDR_OFF, hdr, form == XS_COMPACT ? 16 : 8, how);
}

void exec_xsave(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = xs_begin(c, i, ISA_ACC_WRITE);

	xs_store(c, i, la, edx_eax(c) & c->r.xcr0, XS_PLAIN, i->op == ISA_OP_XSAVE64);
}

void exec_xsaveopt(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = xs_begin(c, i, ISA_ACC_WRITE);

	xs_store(c, i, la, edx_eax(c) & c->r.xcr0, XS_OPT, i->op == ISA_OP_XSAVEOPT64);
}

void exec_xsavec(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = xs_begin(c, i, ISA_ACC_WRITE);

	xs_store(c, i, la, edx_eax(c) & c->r.xcr0, XS_COMPACT, i->op == ISA_OP_XSAVEC64);
}

void exec_xsaves(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = xs_begin(c, i, ISA_ACC_WRITE), rfbm = edx_eax(c) & (c->r.xcr0 | c->r.xss);

	c->ops->intercept(c, ICPT_XSAVES, edx_eax(c));
	xs_store(c, i, la, rfbm, XS_COMPACT, i->op == ISA_OP_XSAVES64);
}

/* XRSTOR and XRSTORS. Everything is read and checked before a register changes. */
static void xs_load(struct isa_cpu *c, const struct isa_insn *i, u64 la, u64 allowed, bool wide,
		    bool supervisor)
{
	unsigned nvec = nvec_of(c), how = ISA_HOW(i), k;
	u64 rfbm = edx_eax(c) & allowed, hdr[8], bv, xcomp, load;
	u8 legacy[XMM_OFF + 256], avx[256];
	u32 pkru[2] = {0};
	bool mxcsr;

	isa_read(c, la + HDR_OFF, hdr, sizeof(hdr), how);
	bv = hdr[0], xcomp = hdr[1];
	for (k = 2; k < 8; k++) {
		if (hdr[k] && (k == 2 || (xcomp & XCOMP_COMPACT)))
			isa_raise_err(c, X86_GP, 0);
	}
	if (supervisor && !(xcomp & XCOMP_COMPACT))
		isa_raise_err(c, X86_GP, 0);
	if (xcomp & XCOMP_COMPACT) {
		if ((xcomp & ~XCOMP_COMPACT & ~allowed) || (bv & ~xcomp) || (bv & XCOMP_COMPACT))
			isa_raise_err(c, X86_GP, 0);
	} else if (xcomp || (bv & ~allowed)) {
		isa_raise_err(c, X86_GP, 0);
	}
	load = rfbm & bv;

	/* The standard form loads MXCSR whenever SSE or AVX is asked for (SDM vol. 1, 13.8.1). */
	mxcsr = xcomp & XCOMP_COMPACT ? load & XC_SSE : rfbm & (XC_SSE | XC_AVX);
	if ((load & (XC_X87 | XC_SSE)) || mxcsr)
		isa_read(c, la, legacy, XMM_OFF + 16 * nvec, how);
	if (mxcsr && (get_mxcsr(legacy) & ~MXCSR_VALID))
		isa_raise_err(c, X86_GP, 0);
	if (load & XC_AVX)
		isa_read(c, la + comp_offset(2, xcomp), avx, 16 * nvec, how);
	if (load & XC_PKRU)
		isa_read(c, la + comp_offset(9, xcomp), pkru, 8, how);

	if (load & XC_X87)
		get_x87(&c->r.x87, legacy, wide);
	else if (rfbm & XC_X87)
		init_x87(&c->r.x87);
	if (mxcsr)
		c->r.x87.mxcsr = get_mxcsr(legacy);
	else if (rfbm & XC_SSE)
		c->r.x87.mxcsr = 0x1f80;
	if (rfbm & XC_SSE)
		get_half(&c->r, load & XC_SSE ? legacy + XMM_OFF : NULL, nvec, 0);
	if (rfbm & XC_AVX)
		get_half(&c->r, load & XC_AVX ? avx : NULL, nvec, 1);
	if (rfbm & XC_PKRU) {
		c->r.pkru = pkru[0];
		isa_mode_changed(c);
	}
}

void exec_xrstor(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = xs_begin(c, i, 0);

	xs_load(c, i, la, c->r.xcr0, i->op == ISA_OP_XRSTOR64, false);
}

void exec_xrstors(struct isa_cpu *c, const struct isa_insn *i)
{
	u64 la = xs_begin(c, i, 0);

	c->ops->intercept(c, ICPT_XRSTORS, edx_eax(c));
	xs_load(c, i, la, c->r.xcr0 | c->r.xss, i->op == ISA_OP_XRSTORS64, true);
}

/* ---- The hypervisor's interface
 * ------------------------------------------------------------------ */

void isa_xsave_export(const struct isa_regs *r, void *area, u32 size, u64 rfbm)
{
	u64 hdr[8] = {in_use(r, 16) & rfbm};
	u8 buf[XSAVE_MAX] = {0};
	u32 pkru[2] = {r->pkru, 0};

	put_mxcsr(&r->x87, buf);
	/* As a processor writes it, but components in their initial state are zero-filled. */
	if (rfbm & XC_X87)
		put_x87(&r->x87, buf, true);
	if (rfbm & XC_SSE)
		put_half(r, buf + XMM_OFF, 16, 0);
	if (rfbm & XC_AVX)
		put_half(r, buf + ISA_XSAVE_AVX_OFFSET, 16, 1);
	if (rfbm & XC_PKRU)
		memcpy(buf + ISA_XSAVE_PKRU_OFFSET, pkru, 8);
	memcpy(buf + HDR_OFF, hdr, sizeof(hdr));
	memset(area, 0, size);
	memcpy(area, buf, MIN(size, sizeof(buf)));
}

int isa_xsave_import(struct isa_regs *r, const void *area, u32 size, u64 rfbm)
{
	u8 buf[XSAVE_MAX] = {0};
	u64 hdr[8], load;
	u32 pkru = 0;
	unsigned k;

	if (size < EXT_OFF)
		return -EINVAL;
	memcpy(buf, area, MIN(size, sizeof(buf)));
	memcpy(hdr, buf + HDR_OFF, sizeof(hdr));
	if (hdr[0] & ~(rfbm & XC_ALL))
		return -EINVAL;
	for (k = 1; k < 8; k++) {
		if (hdr[k])
			return -EINVAL;
	}
	if (get_mxcsr(buf) & ~MXCSR_VALID)
		return -EINVAL;
	load = hdr[0];
	if (rfbm & XC_X87) {
		if (load & XC_X87)
			get_x87(&r->x87, buf, true);
		else
			init_x87(&r->x87);
	}
	if (rfbm & (XC_SSE | XC_AVX))
		r->x87.mxcsr = get_mxcsr(buf);
	if (rfbm & XC_SSE)
		get_half(r, load & XC_SSE ? buf + XMM_OFF : NULL, 16, 0);
	if (rfbm & XC_AVX)
		get_half(r, load & XC_AVX ? buf + ISA_XSAVE_AVX_OFFSET : NULL, 16, 1);
	if (rfbm & XC_PKRU) {
		if (load & XC_PKRU)
			memcpy(&pkru, buf + ISA_XSAVE_PKRU_OFFSET, 4);
		r->pkru = pkru;
	}
	return 0;
}
