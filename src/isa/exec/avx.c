/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions that touch memory element by element: gathers and masked moves. An element
 * whose mask bit is clear is not accessed at all, so these cannot run as themselves.
 */
#include "isa/exec/native.h"
#include "isa/exec/operand.h"

/* SDM vol. 2C, VZEROALL and VZEROUPPER. Outside 64-bit mode only the first eight registers. */
void exec_vzero(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned n = c->mode == ISA_LONG64 ? 16 : 8, k;

	for (k = 0; k < n; k++) {
		union isa_vec *v = &c->r.vec[k];

		if (i->op == ISA_OP_VZEROALL)
			v->q[0] = v->q[1] = 0;
		v->q[2] = v->q[3] = 0;
	}
}

static u64 elem_get(const union isa_vec *v, unsigned k, unsigned size)
{
	return size == 4 ? v->d[k] : v->q[k];
}

static void elem_set(union isa_vec *v, unsigned k, unsigned size, u64 x)
{
	if (size == 4)
		v->d[k] = (u32)x;
	else
		v->q[k] = x;
}

static bool elem_masked(const union isa_vec *m, unsigned k, unsigned size)
{
	return elem_get(m, k, size) >> (size * 8 - 1) & 1;
}

/*
 * VGATHERxxx dst, [base + index * scale], mask. Elements are loaded in order; each one done clears
 * its mask element, so that a fault leaves a state to resume from (SDM vol. 2C, VGATHERDPS).
 */
void exec_gather(struct isa_cpu *c, const struct isa_insn *i)
{
	bool dword_index = i->op == ISA_OP_VGATHERDPS || i->op == ISA_OP_VGATHERDPD ||
			   i->op == ISA_OP_VPGATHERDD || i->op == ISA_OP_VPGATHERDQ;
	bool dword = i->op == ISA_OP_VGATHERDPS || i->op == ISA_OP_VGATHERQPS ||
		     i->op == ISA_OP_VPGATHERDD || i->op == ISA_OP_VPGATHERQD;
	unsigned isz = dword_index ? 4 : 8, esz = dword ? 4 : 8;
	union isa_vec *dst = &c->r.vec[i->o[0].reg], *mask = &c->r.vec[i->o[2].reg];
	const union isa_vec *idx = &c->r.vec[i->index];
	unsigned bytes = c->insn->raw[c->insn->modrm_off - 2] & 4 ? 32 : 16;
	unsigned n = bytes / MAX(isz, esz), k;

	/* The three registers must differ. */
	if (i->o[0].reg == i->o[2].reg || i->o[0].reg == i->index || i->o[2].reg == i->index)
		isa_raise(c, X86_UD);

	for (k = 0; k < n; k++)
		elem_set(mask, k, esz, elem_masked(mask, k, esz) ? ~0ull : 0);
	for (k = 0; k < n; k++) {
		u64 off = i->disp, x;

		if (!elem_masked(mask, k, esz))
			continue;
		off += isz == 4 ? (u64)(s64)(s32)idx->d[k] << i->scale : idx->q[k] << i->scale;
		if (i->base < 16)
			off += c->r.gpr[i->base];
		off = mask_size(off, i->addrsize);
		c->ea = isa_linear(c, i->seg, off, esz, 0);
		x = mem_get(c, c->ea, esz, ISA_HOW(i));
		elem_set(dst, k, esz, x);
		elem_set(mask, k, esz, 0);
	}
	memset(mask, 0, 32);
	/* What lies above the elements is cleared in both. */
	memset(&dst->b[n * esz], 0, 32 - n * esz);
}

/* Raises what a write of @size bytes at @la would, so that masked stores are all or nothing. */
static void probe_write(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	rmw_ptr(c, la, size, how);
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q: o[1] is the mask; either side may be memory. */
void exec_vmaskmov(struct isa_cpu *c, const struct isa_insn *i)
{
	bool wide = i->op == ISA_OP_VMASKMOVPD || i->op == ISA_OP_VPMASKMOVQ;
	bool store = i->o[0].kind == OK_MEM;
	unsigned esz = wide ? 8 : 4, n = (i->o[1].kind == OK_YMM ? 32 : 16) / esz, k;
	const union isa_vec *mask = &c->r.vec[i->o[1].reg];
	unsigned how = store ? ISA_ACC_WRITE : 0;
	u64 off = isa_ea_offset(c, i), la[8];
	union isa_vec v = {0};

	for (k = 0; k < n; k++) {
		if (elem_masked(mask, k, esz))
			la[k] = isa_linear(c, i->seg, mask_size(off + k * esz, i->addrsize), esz,
					   how);
	}
	if (!store) {
		for (k = 0; k < n; k++) {
			if (elem_masked(mask, k, esz))
				elem_set(&v, k, esz, mem_get(c, la[k], esz, ISA_HOW(i)));
		}
		memcpy(&c->r.vec[i->o[0].reg], &v, 32);
		return;
	}
	for (k = 0; k < n; k++) {
		if (elem_masked(mask, k, esz))
			probe_write(c, la[k], esz, ISA_HOW(i));
	}
	for (k = 0; k < n; k++) {
		if (elem_masked(mask, k, esz))
			mem_set(c, la[k], esz, elem_get(&c->r.vec[i->o[2].reg], k, esz),
				ISA_HOW(i));
	}
}

/* MASKMOVDQU, MASKMOVQ: bytes to [DS:rDI] whose mask byte (o[1]) has its top bit set. */
void exec_maskmov(struct isa_cpu *c, const struct isa_insn *i)
{
	bool mmx = i->op == ISA_OP_MASKMOVQ;
	unsigned n = mmx ? 8 : 16, top = c->r.x87.fsw >> 11 & 7, ra = 0, rm = 0, k, seen = 0;
	const u8 *val, *mask;
	u64 off = isa_ea_offset(c, i), la[16];

	for (k = 0; k < i->nops; k++) {
		if (i->o[k].kind != OK_MMX && i->o[k].kind != OK_XMM)
			continue;
		if (seen++ == 0)
			ra = i->o[k].reg;
		else
			rm = i->o[k].reg;
	}
	val = mmx ? c->r.x87.st[(ra - top) & 7] : c->r.vec[ra].b;
	mask = mmx ? c->r.x87.st[(rm - top) & 7] : c->r.vec[rm].b;
	for (k = 0; k < n; k++) {
		if (!(mask[k] & 0x80))
			continue;
		la[k] = isa_linear(c, i->seg, mask_size(off + k, i->addrsize), 1, ISA_ACC_WRITE);
		probe_write(c, la[k], 1, ISA_HOW(i));
	}
	for (k = 0; k < n; k++) {
		if (mask[k] & 0x80)
			isa_st8(c, la[k], val[k], ISA_HOW(i));
	}
	if (mmx)
		x87_enter_mmx(c);
}
