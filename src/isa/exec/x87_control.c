/* SPDX-License-Identifier: MIT */
/* x87 control instructions and the environment formats (SDM vol. 1, 8.1.10). */
#include "isa/exec/native.h"
#include "isa/exec/operand.h"
#include "isa/exec/x87.h"

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static unsigned tag_of(const u8 *st)
{
	u64 frac;
	u16 exp;

	memcpy(&frac, st, 8);
	memcpy(&exp, st + 8, 2);
	exp &= 0x7fff;
	if (exp == 0 && frac == 0)
		return TAG_ZERO;
	if (exp == 0 || exp == 0x7fff || !(frac >> 63))
		return TAG_SPECIAL;
	return TAG_VALID;
}

u16 x87_full_tags(const struct isa_x87 *x)
{
	unsigned top = FSW_TOP(x->fsw), p, full = 0;

	for (p = 0; p < 8; p++) {
		unsigned t = x->ftw >> p & 1 ? tag_of(x->st[(p - top) & 7]) : TAG_EMPTY;

		full |= t << (2 * p);
	}
	return (u16)full;
}

u8 x87_abridge_tags(u16 full)
{
	unsigned p, ftw = 0;

	for (p = 0; p < 8; p++) {
		if ((full >> (2 * p) & 3) != TAG_EMPTY)
			ftw |= 1u << p;
	}
	return (u8)ftw;
}

void x87_init(struct isa_x87 *x)
{
	x87_set_top(x, 0);
	x->fcw = 0x37f;
	x->fsw = 0;
	x->ftw = 0;
	x->fop = 0;
	x->fip = x->fdp = 0;
}

void exec_fninit(struct isa_cpu *c, const struct isa_insn *i)
{
	x87_init(&c->r.x87);
}

void exec_fnclex(struct isa_cpu *c, const struct isa_insn *i)
{
	c->r.x87.fsw &= 0x7f00;
}

void exec_fnop(struct isa_cpu *c, const struct isa_insn *i) {}

/* FENI, FDISI, FSETPM: instructions of the 8087 and 80287 that have no effect since. */
void exec_fnop8087(struct isa_cpu *c, const struct isa_insn *i) {}

void exec_fwait(struct isa_cpu *c, const struct isa_insn *i)
{
	if ((c->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		isa_raise(c, X86_NM);
	isa_check_mf(c);
}

void exec_fnstcw(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_st16(c, isa_ea(c, i, ISA_ACC_WRITE), c->r.x87.fcw, ISA_HOW(i));
}

void exec_fldcw(struct isa_cpu *c, const struct isa_insn *i)
{
	c->r.x87.fcw = x87_fcw_fixed(isa_ld16(c, isa_ea(c, i, 0), ISA_HOW(i)));
	x87_update_es(&c->r.x87);
}

void exec_fnstsw(struct isa_cpu *c, const struct isa_insn *i)
{
	op_set(c, i, 0, c->r.x87.fsw);
}

/* ---- Environment ------------------------------------------------------------------------------
 */

/* Real and virtual-8086 mode store linear addresses without selectors. FCS and FDS are always 0
 * (CPUID.7:EBX[13]). */
static bool real_format(const struct isa_cpu *c)
{
	return is_real(c) || is_v86(c);
}

static unsigned env_put(const struct isa_cpu *c, const struct isa_insn *i, u8 *buf)
{
	const struct isa_x87 *x = &c->r.x87;
	u32 ip = (u32)x->fip, dp = (u32)x->fdp, op = x->fop & 0x7ff;
	bool real = real_format(c);

	if (i->opsize == 2) {
		u16 e[7] = {x->fcw, x->fsw, x87_full_tags(x), (u16)ip, 0, (u16)dp, 0};

		if (real) {
			e[4] = (u16)(ip >> 16 << 12 | op);
			e[6] = (u16)(dp >> 16 << 12);
		}
		memcpy(buf, e, 14);
		return 14;
	}
	u32 e[7] = {0xffff0000 | x->fcw,
		    0xffff0000 | x->fsw,
		    0xffff0000 | x87_full_tags(x),
		    ip,
		    op << 16,
		    dp,
		    0xffff0000};

	if (real) {
		e[3] = 0xffff0000 | (u16)ip;
		e[4] = ip >> 16 << 12 | op;
		e[5] = 0xffff0000 | (u16)dp;
		e[6] = dp >> 16 << 12;
	}
	memcpy(buf, e, 28);
	return 28;
}

static void env_get(struct isa_cpu *c, const struct isa_insn *i, const u8 *buf)
{
	struct isa_x87 *x = &c->r.x87;
	bool real = real_format(c);
	u16 fcw, fsw, tags, fop = x->fop;
	u32 ip, dp;

	if (i->opsize == 2) {
		u16 e[7];

		memcpy(e, buf, 14);
		fcw = e[0], fsw = e[1], tags = e[2];
		ip = e[3], dp = e[5];
		if (real) {
			ip |= (u32)(e[4] >> 12) << 16;
			dp |= (u32)(e[6] >> 12) << 16;
			fop = e[4] & 0x7ff;
		}
	} else {
		u32 e[7];

		memcpy(e, buf, 28);
		fcw = (u16)e[0], fsw = (u16)e[1], tags = (u16)e[2];
		ip = e[3], dp = e[5];
		fop = e[4] >> 16 & 0x7ff;
		if (real) {
			ip = (u16)e[3] | e[4] >> 12 << 16;
			dp = (u16)e[5] | e[6] >> 12 << 16;
			fop = e[4] & 0x7ff;
		}
	}
	x87_set_top(x, FSW_TOP(fsw));
	x->fcw = x87_fcw_fixed(fcw);
	x->fsw = fsw;
	x->ftw = x87_abridge_tags(tags);
	x->fip = ip;
	x->fdp = dp;
	x->fop = fop;
	x87_update_es(x);
}

void exec_fnstenv(struct isa_cpu *c, const struct isa_insn *i)
{
	u8 buf[28];
	unsigned n = env_put(c, i, buf);

	isa_write(c, isa_ea(c, i, ISA_ACC_WRITE), buf, n, ISA_HOW(i));
	c->r.x87.fcw |= FSW_FLAGS;
	x87_update_es(&c->r.x87);
}

void exec_fldenv(struct isa_cpu *c, const struct isa_insn *i)
{
	u8 buf[28];

	isa_read(c, isa_ea(c, i, 0), buf, i->opsize == 2 ? 14 : 28, ISA_HOW(i));
	env_get(c, i, buf);
}

void exec_fnsave(struct isa_cpu *c, const struct isa_insn *i)
{
	u8 buf[108];
	unsigned n = env_put(c, i, buf), k;

	for (k = 0; k < 8; k++, n += 10)
		memcpy(buf + n, c->r.x87.st[k], 10);
	isa_write(c, isa_ea(c, i, ISA_ACC_WRITE), buf, n, ISA_HOW(i));
	x87_init(&c->r.x87);
}

void exec_frstor(struct isa_cpu *c, const struct isa_insn *i)
{
	unsigned n = i->opsize == 2 ? 14 : 28, k;
	u8 buf[108];

	isa_read(c, isa_ea(c, i, 0), buf, n + 80, ISA_HOW(i));
	env_get(c, i, buf);
	for (k = 0; k < 8; k++, n += 10) {
		memset(c->r.x87.st[k], 0, 16);
		memcpy(c->r.x87.st[k], buf + n, 10);
	}
}
