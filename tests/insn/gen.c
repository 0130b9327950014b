/* SPDX-License-Identifier: MIT */
/*
 * Instances of instructions. At start every opcode of every map is decoded in its variants to learn
 * which encodings each mnemonic has; an instance is one of them with random prefixes, registers,
 * addressing and immediate, and registers set so that memory operands mostly hit the data pages.
 */
#include <stdlib.h>
#include <string.h>

#include "insn_test.h"

struct template
{
	u8 vex, map, prefix, w, l, opcode, modrm;
	u8 adsz; /* 67: JCXZ and its like are mnemonics of their own */
};
struct set {
	struct template *t;
	unsigned n, cap;
};
static struct set sets[2][ZYDIS_MNEMONIC_MAX_VALUE + 1];

static u64 rng_state = 1;

void rnd_seed(u64 seed)
{
	rng_state = seed * 0x9e3779b97f4a7c15 + 1;
}

u64 rnd(void)
{
	u64 z = rng_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static bool one_in(unsigned n)
{
	return rnd_below(n) == 0;
}

static const u8 prefix_of[4] = {0, 0x66, 0xf3, 0xf2};

/* Up to the opcode's ModRM byte, exclusive. @rxb: REX or VEX extension bits. */
static unsigned put_head(u8 *b, const struct template *t, unsigned rxb, unsigned vvvv)
{
	unsigned n = 0;

	if (t->adsz)
		b[n++] = 0x67;
	if (t->vex) {
		b[n++] = 0xc4;
		b[n++] = (u8)((~rxb & 7) << 5 | t->map);
		b[n++] = (u8)(t->w << 7 | (~vvvv & 15) << 3 | t->l << 2 | t->prefix);
	} else {
		if (t->prefix)
			b[n++] = prefix_of[t->prefix];
		if (t->w || rxb)
			b[n++] = (u8)(0x40 | t->w << 3 | rxb);
		if (t->map)
			b[n++] = 0x0f;
		if (t->map == 2)
			b[n++] = 0x38;
		if (t->map == 3)
			b[n++] = 0x3a;
	}
	b[n++] = t->opcode;
	return n;
}

static bool zdecode(enum isa_mode mode, const u8 *b, ZydisDecodedInstruction *zi,
		    ZydisDecodedOperand *zo)
{
	static ZydisDecoder d[2];
	static bool ready;
	unsigned k;

	if (!ready) {
		ZydisDecoderInit(&d[0], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		ZydisDecoderInit(&d[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
		ZydisDecoderEnableMode(&d[0], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&d[1], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ready = true;
	}
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d[mode == ISA_PROT32], b, 15, zi, zo)))
		return false;
	/* As in isa/decode/decode.c: Zydis 4.0 sees R13D here. */
	for (k = 0; k < zi->operand_count; k++) {
		if (zo[k].type == ZYDIS_OPERAND_TYPE_MEMORY && zi->raw.sib.offset &&
		    zi->raw.sib.base == 5 && zi->raw.modrm.mod == 0 &&
		    zo[k].mem.base != ZYDIS_REGISTER_NONE) {
			zo[k].mem.base = ZYDIS_REGISTER_NONE;
			zo[k].mem.disp.value = zi->raw.disp.value;
		}
	}
	return true;
}

static void learn(enum isa_mode mode, const struct template *t, bool *had_modrm)
{
	ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction zi;
	struct set *s;
	u8 b[24] = {0};
	unsigned n = put_head(b, t, 0, t->vex && (t->modrm & 0x38) ? 1 : 0), k;

	b[n] = t->modrm;
	b[n + 1] = 0x0e;
	for (k = 0; k < 2; k++) {
		/* VEX.vvvv must be 1111 where it names nothing. */
		if (t->vex)
			b[2] = (u8)((b[2] & 0x87) | (k ? 0x70 : 0x78));
		if (zdecode(mode, b, &zi, zo))
			break;
		if (!t->vex)
			return;
	}
	if (k == 2)
		return;
	*had_modrm = zi.attributes & ZYDIS_ATTRIB_HAS_MODRM;
	s = &sets[mode == ISA_PROT32][zi.mnemonic];
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 8;
		s->t = realloc(s->t, s->cap * sizeof(*s->t));
	}
	s->t[s->n++] = *t;
}

static void learn_opcode(enum isa_mode mode, struct template t)
{
	bool modrm = true;
	unsigned reg, rm;

	for (reg = 0; reg < 8; reg++) {
		t.modrm = (u8)(reg << 3 | 6);
		learn(mode, &t, &modrm);
		if (!modrm)
			return;
		t.modrm = (u8)(reg << 3 | 4); /* with SIB, for VSIB */
		if (t.vex)
			learn(mode, &t, &modrm);
		for (rm = 0; rm < 8; rm++) {
			t.modrm = (u8)(0xc0 | reg << 3 | rm);
			learn(mode, &t, &modrm);
		}
	}
}

static void learn_map(enum isa_mode mode, unsigned vex, unsigned map, unsigned prefix)
{
	unsigned nw = mode == ISA_LONG64 || vex ? 2 : 1, nl = vex ? 2 : 1, w, l, op;

	for (w = 0; w < nw; w++) {
		for (l = 0; l < nl; l++) {
			for (op = 0; op < 256; op++) {
				struct template t = {
					.vex = (u8)vex,
					.map = (u8)map,
					.prefix = (u8)prefix,
					.w = (u8)w,
					.l = (u8)l,
					.opcode = (u8)op,
				};

				learn_opcode(mode, t);
				if (vex || map || op != 0xe3)
					continue;
				t.adsz = 1;
				learn_opcode(mode, t);
			}
		}
	}
}

void gen_init(void)
{
	static const enum isa_mode modes[] = {ISA_LONG64, ISA_PROT32};
	unsigned m, map, prefix;

	for (m = 0; m < 2; m++) {
		for (map = 0; map < 4; map++) {
			for (prefix = 0; prefix < 4; prefix++) {
				learn_map(modes[m], 0, map, prefix);
				if (map)
					learn_map(modes[m], 1, map, prefix);
			}
		}
	}
}

unsigned gen_templates(unsigned mnemonic, enum isa_mode mode)
{
	return sets[mode == ISA_PROT32][mnemonic].n;
}

/* ---- Instances --------------------------------------------------------------------------------
 */

static u64 value(void)
{
	static const u64 nice[] = {0,	       1,	   2,	       0x7f,
				   0x80,       0xff,	   0x7fff,     0x8000,
				   0xffff,     0x7fffffff, 0x80000000, 0xffffffff,
				   1ull << 32, ~0ull >> 1, 1ull << 63, ~0ull};
	u64 v;

	switch (rnd_below(4)) {
	case 0: return nice[rnd_below(ARRAY_SIZE(nice))];
	case 1: v = rnd_below(256); return one_in(2) ? v : -v;
	case 2: return rnd() >> rnd_below(64);
	default: return rnd();
	}
}

static void fill_float(u8 *p, unsigned n)
{
	static const u32 f[] = {0,	    0x80000000, 0x3f800000, 0xbf800000,
				0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00001,
				1,	    0x807fffff, 0x7f7fffff, 0x00800000,
				0x4b000001, 0x4f000000, 0xcf000000, 0x33800000};
	static const u64 d[] = {0,
				1ull << 63,
				0x3ff0000000000000,
				0xbff0000000000000,
				0x7ff0000000000000,
				0xfff0000000000000,
				0x7ff8000000000000,
				0x7ff4000000000001,
				1,
				0x7fefffffffffffff,
				0x0010000000000000,
				0x41e0000000000000,
				0x43e0000000000000,
				0x36a0000000000001};
	unsigned k;

	switch (rnd_below(4)) {
	case 0:
		for (k = 0; k + 4 <= n; k += 4)
			memcpy(p + k, &f[rnd_below(ARRAY_SIZE(f))], 4);
		break;
	case 1:
		for (k = 0; k + 8 <= n; k += 8)
			memcpy(p + k, &d[rnd_below(ARRAY_SIZE(d))], 8);
		break;
	case 2:
		for (k = 0; k + 4 <= n; k += 4) {
			float v = (float)(s32)rnd() / 1024;

			memcpy(p + k, &v, 4);
		}
		break;
	default:
		for (k = 0; k < n; k++)
			p[k] = (u8)rnd();
	}
}

static void fill_x87(struct isa_x87 *x)
{
	static const u16 exps[] = {0, 1, 0x3fff, 0x4000, 0x3ffe, 0x7ffe, 0x7fff, 0x403e, 0x3f80};
	unsigned k;

	memset(x, 0, sizeof(*x));
	x->fcw = one_in(3) ? (u16)((rnd() & 0x1f3f) | 0x40) : 0x37f;
	x->fsw = (u16)rnd() & 0x7f00;
	if (one_in(3))
		x->fsw |= rnd() & 0x7f;
	if (x->fsw & ~x->fcw & 0x3f)
		x->fsw |= 0x8080;
	x->ftw = one_in(3) ? (u8)rnd() : 0xff;
	x->mxcsr = one_in(2) ? 0x1f80 : (u32)rnd() & 0xffff;
	x->mxcsr |= one_in(4) ? 0 : 0x1f80;
	for (k = 0; k < 8; k++) {
		u64 m = one_in(3) ? rnd() : one_in(2) ? 1ull << 63 : rnd() << rnd_below(64);
		u16 e = one_in(2) ? exps[rnd_below(ARRAY_SIZE(exps))]
				  : (u16)(0x3fff - 32 + rnd_below(64));

		if (!one_in(8) && e)
			m |= 1ull << 63;
		e |= (u16)(rnd() & 0x8000);
		memcpy(x->st[k], &m, 8);
		memcpy(x->st[k] + 8, &e, 2);
	}
}

static void fill_data(void)
{
	u8 *p = (u8 *)DATA;
	unsigned k;

	for (k = 0; k < DATA_SIZE; k += 32)
		fill_float(p + k, 32);
}

/* Where a memory operand goes. */
static u64 target(unsigned size)
{
	u64 room = DATA_SIZE - 512, at;

	switch (rnd_below(32)) {
	case 0: return DATA + DATA_SIZE - rnd_below(size + 1); /* over the end */
	case 1: return DATA - rnd_below(size + 1);
	case 2: return DATA + PAGE_SIZE - rnd_below(size + 1); /* over a page */
	case 3: return DATA + 256 + rnd_below(room - 256);
	default:
		at = DATA + 256 + rnd_below(room - 256);
		return at & -(u64)(size >= 32 ? 64 : size >= 16 ? 16 : 8);
	}
}

static u64 low(u64 v, const ZydisDecodedInstruction *zi)
{
	return mask_size(v, zi->address_width / 8);
}

/* Sets registers or displacement so that the memory operand lies at @at. */
static bool aim(struct instance *in, struct tstate *st, const ZydisDecodedOperand *z, u64 at)
{
	ZydisDecodedInstruction *zi = &in->zi;
	unsigned base = z->mem.base == ZYDIS_REGISTER_NONE
				? 16
				: (unsigned)ZydisRegisterGetId(z->mem.base) & 15;
	unsigned index = z->mem.index == ZYDIS_REGISTER_NONE
				 ? 16
				 : (unsigned)ZydisRegisterGetId(z->mem.index) & 15;
	u64 disp = (u64)z->mem.disp.value, off = 0, k;

	if (zi->address_width == 16)
		return false;
	if (z->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
		bool dwords = zi->mnemonic == ZYDIS_MNEMONIC_VGATHERDPS ||
			      zi->mnemonic == ZYDIS_MNEMONIC_VGATHERDPD ||
			      zi->mnemonic == ZYDIS_MNEMONIC_VPGATHERDD ||
			      zi->mnemonic == ZYDIS_MNEMONIC_VPGATHERDQ;

		at = DATA + 1024;
		for (k = 0; k < (dwords ? 8 : 4); k++) {
			s64 v = (s64)rnd_below(100) - 50;
			s32 v32 = (s32)v;

			if (dwords)
				memcpy(st->vec[index] + 4 * k, &v32, 4);
			else
				memcpy(st->vec[index] + 8 * k, &v, 8);
		}
		index = 16;
	}
	if (z->mem.base == ZYDIS_REGISTER_RIP || z->mem.base == ZYDIS_REGISTER_EIP) {
		u32 d = (u32)(at - (st->rip + zi->length));

		memcpy(in->bytes + zi->raw.disp.offset, &d, 4);
		return true;
	}
	if (index < 16 && base == index) {
		/* base * (1 + scale) + disp: only exact multiples can be hit. */
		u64 v = low(at - disp, zi) / (1 + z->mem.scale);

		st->gpr[index] = v;
		return low(v * (1 + z->mem.scale) + disp, zi) == low(at, zi);
	}
	if (index < 16) {
		if (index != RSP && !one_in(4))
			st->gpr[index] = rnd_below(64) - (one_in(2) ? 32 : 0);
		off = st->gpr[index] * z->mem.scale;
	}
	if (base < 16) {
		u64 v = low(at - off - disp, zi);

		if (zi->address_width == 32 && in->mode == ISA_LONG64 && one_in(2))
			v |= rnd() << 32;
		st->gpr[base] = v;
		return true;
	}
	if (zi->raw.disp.size >= 32) {
		u64 d = at - off;

		memcpy(in->bytes + zi->raw.disp.offset, &d, zi->raw.disp.size / 8);
		return true;
	}
	return false;
}

static bool random_bytes(const struct template *t, struct instance *in)
{
	bool simd = t->vex || t->map >= 2, rex = in->mode == ISA_LONG64;
	struct template r = *t;
	u8 *b = in->bytes;
	unsigned n = 0, k;

	memset(b, 0, sizeof(in->bytes));
	if (one_in(16))
		b[n++] = 0x67;
	if (one_in(16))
		b[n++] = (u8[]){0x26, 0x2e, 0x36, 0x3e}[rnd_below(4)];
	if (!simd && !t->prefix && one_in(4))
		b[n++] = 0x66;
	if (!simd && one_in(32))
		b[n++] = 0xf0;
	if (!simd && !t->prefix && one_in(32))
		b[n++] = one_in(2) ? 0xf2 : 0xf3;
	if (one_in(2) && t->modrm < 0xc0)
		r.modrm = (u8)(rnd() % 0xc0);
	else if (t->modrm >= 0xc0)
		r.modrm = (u8)(rnd() | 0xc0);
	/* The template's own bits where the opcode may need them. */
	if (one_in(2))
		r.modrm = (u8)((r.modrm & 0xc7) | (t->modrm & 0x38));
	if (one_in(4))
		r.modrm = t->modrm;
	n += put_head(b + n, &r, rex && !one_in(3) ? rnd() & 7 : 0,
		      one_in(2) ? 0 : rnd() & (rex ? 15 : 7));
	b[n++] = r.modrm;
	if (r.modrm < 0xc0 && (r.modrm & 7) == 4)
		b[n++] = (u8)rnd();
	for (k = n; k < 15; k++)
		b[k] = one_in(2) ? (u8)rnd() : (u8)rnd_below(16);
	return zdecode(in->mode, b, &in->zi, in->zo);
}

static void fill_state(struct instance *in, struct tstate *st)
{
	unsigned k, n = in->mode == ISA_LONG64 ? 16 : 8;

	memset(st, 0, sizeof(*st));
	for (k = 0; k < n; k++) {
		st->gpr[k] = value();
		if (in->mode != ISA_LONG64)
			st->gpr[k] = (u32)st->gpr[k];
	}
	st->gpr[RSP] = DATA + 2048 + (rnd_below(64) * (one_in(8) ? 1 : 8));
	st->rflags = 0x202 | (rnd() & X86_STATUS_FLAGS) | (one_in(2) ? X86_DF : 0);
	st->rip = CODE + rnd_below(1024);
	for (k = 0; k < n; k++)
		fill_float(st->vec[k], 32);
	fill_x87(&st->x87);
	fill_data();
}

/* Registers with a role of their own. */
static void fill_implied(struct instance *in, struct tstate *st)
{
	unsigned k;

	for (k = 0; k < in->zi.operand_count; k++) {
		const ZydisDecodedOperand *z = &in->zo[k];

		if (z->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    z->visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			continue;
		switch (ZydisRegisterGetId(z->mem.base)) {
		case RDI: st->gpr[RDI] = target(8); break;
		case RSI: st->gpr[RSI] = target(8); break;
		case RBX: st->gpr[RBX] = target(256); break;
		case RBP: st->gpr[RBP] = target(64); break;
		default: break;
		}
	}
	if (in->zi.attributes &
	    (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		st->gpr[RCX] = rnd_below(20);
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_LEAVE:
	case ZYDIS_MNEMONIC_ENTER: st->gpr[RBP] = target(64); break;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		if (in->zo[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
			st->gpr[ZydisRegisterGetId(in->zo[1].reg.value) & 15] =
				rnd_below(512) - 256;
		break;
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		if (!one_in(4))
			st->gpr[RDX] = rnd_below(4) - 2;
		break;
	default: break;
	}
}

/*
 * The XSAVE family: an area at @at with a header that is mostly legal, and a mask in EDX:EAX. Only
 * x87, SSE and AVX, and components that no processor has: what else the host has is not ours.
 */
static void fill_xsave(struct tstate *st, u64 at)
{
	static const u64 bad[] = {1ull << 3, 1ull << 4, 1ull << 62, 1ull << 63};
	u64 hdr[8] = {rnd() & 7};
	struct isa_x87 x;
	unsigned k;

	st->gpr[RAX] = one_in(8) ? (rnd() & 0x1f) : 7 & rnd();
	st->gpr[RDX] = one_in(8) ? 1ull << 30 : 0;
	if (at < DATA || at + 1024 > DATA + DATA_SIZE)
		return;
	if (one_in(2))
		hdr[1] = 1ull << 63 | (rnd() & 7) | hdr[0];
	if (one_in(8))
		hdr[0] ^= bad[rnd_below(ARRAY_SIZE(bad))];
	if (one_in(8))
		hdr[1] ^= bad[rnd_below(ARRAY_SIZE(bad))];
	if (one_in(8))
		hdr[1] &= ~(rnd() & 7);
	if (one_in(8))
		hdr[1 + rnd_below(7)] = rnd();
	memcpy((void *)(at + 512), hdr, sizeof(hdr));
	fill_x87(&x);
	memcpy((void *)at, &x, 24);
	memcpy((void *)(at + 32), x.st, sizeof(x.st));
	if (one_in(8))
		x.mxcsr |= 1u << (rnd_below(2) ? 18 : 31);
	memcpy((void *)(at + 24), &x.mxcsr, 4);
	/* Components in their initial state are told apart. */
	if (one_in(4)) {
		memset(&st->x87, 0, sizeof(st->x87));
		st->x87.fcw = 0x37f;
		st->x87.mxcsr = 0x1f80;
	}
	for (k = 0; k < 16 && one_in(2); k++)
		memset(st->vec[k], 0, 16);
	for (k = 0; k < 16 && one_in(2); k++)
		memset(st->vec[k] + 16, 0, 16);
	if (one_in(4))
		memset(st->vec, 0, sizeof(st->vec));
}

static void make_compare_equal(const struct instance *in, struct tstate *st, u64 at)
{
	u64 v[2];

	if (!one_in(2) || at < DATA || at + 16 > DATA + DATA_SIZE)
		return;
	memcpy(v, (void *)at, 16);
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CMPXCHG: st->gpr[RAX] = v[0]; break;
	case ZYDIS_MNEMONIC_CMPXCHG8B:
		st->gpr[RAX] = (u32)v[0];
		st->gpr[RDX] = v[0] >> 32;
		break;
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		st->gpr[RAX] = v[0];
		st->gpr[RDX] = v[1];
		break;
	default: break;
	}
}

/*
 * Encodings on which processors differ, or whose result the manual leaves undefined. Ours are
 * Intel's ways; the CPU under this test may be AMD's.
 */
static bool vendors_differ(const struct instance *in)
{
	const ZydisDecodedInstruction *zi = &in->zi;
	bool branch = zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
	unsigned k;

	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_VPEXTRD:
	case ZYDIS_MNEMONIC_VPINSRD:
		/* VEX.W outside 64-bit mode: ignored by Intel's, #UD on AMD's. */
		return in->mode != ISA_LONG64 && zi->raw.vex.W;
	case ZYDIS_MNEMONIC_SHA1MSG1:
	case ZYDIS_MNEMONIC_SHA1MSG2:
	case ZYDIS_MNEMONIC_SHA1NEXTE:
	case ZYDIS_MNEMONIC_SHA1RNDS4:
	case ZYDIS_MNEMONIC_SHA256MSG1:
	case ZYDIS_MNEMONIC_SHA256MSG2:
	case ZYDIS_MNEMONIC_SHA256RNDS2:
		/* AMD's do not always check alignment. */
		return in->at & 15 || in->at < DATA || in->at > DATA + DATA_SIZE - 16;
	case ZYDIS_MNEMONIC_NOP:
		/* 0F 0D with a register: a NOP on Intel's, #UD on AMD's. */
		return zi->opcode_map == ZYDIS_OPCODE_MAP_0F && zi->opcode == 0x0d;
	case ZYDIS_MNEMONIC_CMPXCHG:
		/* A failing 32-bit form clears the upper half of a register on Intel's only. */
		return in->zo[0].type == ZYDIS_OPERAND_TYPE_REGISTER && zi->operand_width == 32;
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD: return zi->operand_width == 16; /* undefined for counts over 16 */
	case ZYDIS_MNEMONIC_RET: branch = true; break;
	default: break;
	}
	/* Near branches: 66 is ignored in 64-bit mode by Intel's only; F2 and F3 are reserved. */
	for (k = 0; branch && k < zi->raw.prefix_count; k++) {
		u8 p = zi->raw.prefixes[k].value;

		if (p == 0xf2 || p == 0xf3 || (p == 0x66 && in->mode == ISA_LONG64))
			return true;
	}
	return false;
}

/* EDX:EAX is the mask and cannot also address the area. */
static bool uses_rax_or_rdx(const struct instance *in)
{
	unsigned k;

	for (k = 0; k < in->zi.operand_count_visible; k++) {
		const ZydisDecodedOperand *z = &in->zo[k];
		unsigned b = (unsigned)ZydisRegisterGetId(z->mem.base);
		unsigned x = (unsigned)ZydisRegisterGetId(z->mem.index);

		if (z->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (b == RAX || b == RDX || x == RAX || x == RDX))
			return true;
	}
	return false;
}

/* ---- Selectors, flags and far pointers ---- */

static u16 selector(void)
{
	static const u16 some[] = {0,	 3,    0x23, 0x2b, 0x33, 0x2b, 0x2b,   0x10, 0x18,
				   0x1b, 0x28, 0x30, 0x6b, 0x07, 0x4,  0xfff8, 0x83};

	return some[rnd_below(ARRAY_SIZE(some))];
}

static u16 code_selector(void)
{
	return one_in(4) ? selector() : one_in(2) ? 0x23 : 0x33;
}

static u64 code_address(void)
{
	return one_in(16) ? value() : CODE + rnd_below(PAGE_SIZE - 16);
}

/* Flags that a program may load under a debugger: always with TF, without AC. */
static u64 flags_image(void)
{
	return (rnd() & (X86_STATUS_FLAGS | X86_DF | X86_IF | X86_IOPL)) | X86_TF | 2;
}

static void put_at(u64 at, u64 v, unsigned size)
{
	if (at >= DATA && at + size <= DATA + DATA_SIZE)
		memcpy((void *)at, &v, size);
}

/* A far return's frame, or IRET's. */
static void put_frame(const struct instance *in, struct tstate *st, bool iret)
{
	unsigned size = in->zi.operand_width / 8;
	u64 v[5] = {code_address(), code_selector(), flags_image(), DATA + rnd_below(DATA_SIZE),
		    one_in(4) ? selector() : 0x2b};

	if (!iret)
		v[2] = rnd();
	for (unsigned k = 0; k < (iret ? 5 : 2); k++)
		put_at(st->gpr[RSP] + k * size, v[k], size);
}

/* Registers and memory of what deals in selectors, flags or system registers; false: not this one.
 */
static bool fill_system(unsigned op, struct instance *in, struct tstate *st, u64 at)
{
	const ZydisDecodedOperand *last = &in->zo[in->zi.operand_count_visible - 1];
	unsigned size = in->zi.operand_width / 8;

	switch (op) {
	case ISA_OP_MOV_SEG:
	case ISA_OP_LAR:
	case ISA_OP_LSL:
	case ISA_OP_VERR:
	case ISA_OP_VERW:
		if (last->type == ZYDIS_OPERAND_TYPE_REGISTER)
			st->gpr[ZydisRegisterGetId(last->reg.value) & 15] =
				selector() | (one_in(4) ? rnd() << 16 : 0);
		else
			put_at(at, selector(), 2);
		return true;
	case ISA_OP_POP_SEG: put_at(st->gpr[RSP], selector(), 2); return true;
	case ISA_OP_LFS:
	case ISA_OP_LGS:
	case ISA_OP_LSS:
		/* AMD's have no 64-bit offset here. */
		if (size == 8)
			return false;
		fallthrough;
	case ISA_OP_LDS:
	case ISA_OP_LES: put_at(at + size, selector(), 2); return true;
	case ISA_OP_JMP_FAR:
	case ISA_OP_CALL_FAR:
		if (size == 8)
			return false;
		if (in->zo[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			put_at(at, code_address(), size);
			put_at(at + size, code_selector(), 2);
		} else {
			u64 off = code_address();
			u16 sel = code_selector();

			memcpy(in->bytes + in->zi.length - 2, &sel, 2);
			memcpy(in->bytes + in->zi.length - 2 - size, &off, size);
		}
		return true;
	case ISA_OP_RET_FAR: put_frame(in, st, false); return true;
	case ISA_OP_IRET:
	case ISA_OP_IRETD:
	case ISA_OP_IRETQ: put_frame(in, st, true); return true;
	case ISA_OP_POPF:
	case ISA_OP_POPFD:
	case ISA_OP_POPFQ: put_at(st->gpr[RSP], flags_image(), size); return true;
	case ISA_OP_SYSRET:
		/* In compatibility mode #UD on Intel's, #GP on AMD's. */
		return in->mode == ISA_LONG64;
	case ISA_OP_INT:
		/* 80 enters the kernel. 1 and 3 as CD xx are told apart from INT1 and INT3. */
		return in->bytes[in->zi.length - 1] != 0x80;
	case ISA_OP_CPUID: {
		/* Leaves that do not depend on the CPU that the thread is on, nor on XCR0. */
		static const u32 leaves[] = {0, 2, 5, 6, 0x80000000, 0x80000002, 0x80000005};

		st->gpr[RAX] =
			leaves[rnd_below(ARRAY_SIZE(leaves))] | (one_in(2) ? rnd() << 32 : 0);
		st->gpr[RCX] = 0;
		if (in->mode != ISA_LONG64)
			st->gpr[RAX] = (u32)st->gpr[RAX];
		return true;
	}
	case ISA_OP_XGETBV: st->gpr[RCX] = one_in(4) ? 2 + rnd_below(5) : 0; return true;
	case ISA_OP_RDPKRU:
	case ISA_OP_WRPKRU:
		if (!one_in(4))
			st->gpr[RCX] = 0;
		if (!one_in(4))
			st->gpr[RDX] = 0;
		/* What is written is what is there: anything else could lock us out. */
		st->gpr[RAX] = host_state.pkru | (one_in(2) ? rnd() << 32 : 0);
		if (in->mode != ISA_LONG64)
			st->gpr[RAX] = (u32)st->gpr[RAX];
		return true;
	case ISA_OP_RDPID: return true;
	default: return true;
	}
}

bool gen_instance(unsigned op, unsigned mnemonic, enum isa_mode mode, struct instance *in,
		  struct tstate *st)
{
	const struct set *s = &sets[mode == ISA_PROT32][mnemonic];
	unsigned tries, k;

	for (tries = 0; s->n && tries < 200; tries++) {
		struct isa_insn insn;
		u64 at = DATA;
		bool ok = true;

		in->mode = mode;
		in->tlb = one_in(2);
		if (!random_bytes(&s->t[rnd_below(s->n)], in) || in->zi.mnemonic != mnemonic ||
		    (in->zi.attributes &
		     (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS)))
			continue;
		fill_state(in, st);
		fill_implied(in, st);
		for (k = 0; k < in->zi.operand_count_visible && ok; k++) {
			const ZydisDecodedOperand *z = &in->zo[k];

			if (z->type == ZYDIS_OPERAND_TYPE_MEMORY &&
			    z->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
				at = target(MIN(z->size / 8, 512));
				ok = aim(in, st, z, at);
			}
		}
		if (!ok)
			continue;
		if (mode != ISA_LONG64) {
			for (k = 0; k < 8; k++)
				st->gpr[k] = (u32)st->gpr[k];
		}
		memset(in->bytes + in->zi.length, 0, sizeof(in->bytes) - in->zi.length);
		if (!zdecode(mode, in->bytes, &in->zi, in->zo))
			continue;
		isa_decode(in->bytes, 15, mode, &insn);
		in->at = at;
		/* F3 REX.B 90 is PAUSE for Zydis only. */
		if ((insn.op != op && !(op == ISA_OP_PAUSE && insn.op == ISA_OP_XCHG)) ||
		    vendors_differ(in))
			continue;
		in->op = op;
		if (!fill_system(op, in, st, at))
			continue;
		make_compare_equal(in, st, at);
		if (in->zi.meta.category == ZYDIS_CATEGORY_XSAVE ||
		    in->zi.meta.category == ZYDIS_CATEGORY_XSAVEOPT) {
			if (uses_rax_or_rdx(in))
				continue;
			fill_xsave(st, at);
		}
		return true;
	}
	return false;
}
