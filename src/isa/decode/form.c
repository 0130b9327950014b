/* SPDX-License-Identifier: MIT */
/*
 * Forms of instructions seen before. What an instruction is, but for the values of its displacement
 * and immediate, is decided by its bytes up to ModRM and SIB: its form. Zydis sees each form once
 * as long as it is kept here.
 */
#include <stdlib.h>
#include <string.h>

#include "isa/decode/decode.h"
#include "isa/insn_table.h"

struct form {
	struct isa_insn insn;
	u8 disp_at, disp_size, imm_at, imm_size;
	bool imm_signed;
	bool by_imm; /* the handler depends on the immediate */
	bool alone;  /* nothing belongs to the instruction that has to be released */
} __attribute__((aligned(32)));

/* A boot of Debian has 14,000 forms. */
#define SETS 4096
#define WAYS 4
struct isa_forms {
	u64 key[SETS][WAYS]; /* those bytes; 0: none */
	struct form form[SETS][WAYS];
	unsigned next; /* way to be replaced */
};
_Static_assert(sizeof(struct form) == 96, "no more than two lines of the host's caches");

struct isa_forms *isa_forms_create(void)
{
	struct isa_forms *f = aligned_alloc(64, align_up(sizeof(*f), 64));

	if (!f)
		return NULL;
	memset(f->key, 0, sizeof(f->key));
	f->next = 0;
	return f;
}

static inline u64 *key_set(struct isa_forms *f, u64 key)
{
	return f->key[key * 0x9e3779b97f4a7c15ull >> 52];
}

/* NULL: not seen, or replaced since. */
static inline const struct form *find(struct isa_forms *f, u64 key)
{
	u64 *set = key_set(f, key);
	unsigned k;

	for (k = 0; k < WAYS; k++)
		if (set[k] == key && key)
			return &f->form[0][0] + (&set[k] - &f->key[0][0]);
	return NULL;
}
_Static_assert(SETS == 1 << 12, "the shift above");

void isa_forms_destroy(struct isa_forms *f)
{
	free(f);
}

/* Opcodes with ModRM in 64-bit mode, SDM vol. 2D, A.3; a mistake costs time only. */
static bool has_modrm(unsigned op)
{
	static const u64 map[4] = {
		0x0f0f0f0f0f0f0f0f,
		BIT(0x23) | BIT(0x29) | BIT(0x2b),
		BITS(0xf, 0),
		BITS(1, 0) | BITS(7, 6) | BITS(0x13, 0x10) | BITS(0x1f, 0x18) | BITS(0x37, 0x36) |
			BITS(0x3f, 0x3e),
	};

	return map[op / 64] >> (op % 64) & 1;
}

static bool has_modrm_0f(unsigned op)
{
	static const u64 map[4] = {
		~(BITS(9, 4) | BITS(0xc, 0xb) | BITS(0xf, 0xe) | BITS(0x37, 0x30)),
		~BIT(0x37),
		~(BITS(0xf, 0) | BITS(0x22, 0x20) | BITS(0x2a, 0x28)),
		~BITS(0xf, 8),
	};

	return map[op / 64] >> (op % 64) & 1;
}

static bool is_prefix(u8 b)
{
	switch (b) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3: return true;
	default: return false;
	}
}

/* Length of the form; 0: none of those kept here (VEX and the like, moffs, 3DNow!, long ones). */
static unsigned form_len(const u8 *b, unsigned *modrm)
{
	unsigned n = 0;
	bool more;

	*modrm = 0;
	while (is_prefix(b[n]))
		if (++n > 4)
			return 0;
	if ((b[n] & 0xf0) == 0x40)
		n++;
	switch (b[n]) {
	case 0x0f:
		n++;
		if (b[n] == 0x38 || b[n] == 0x3a) {
			n++;
			more = true;
		} else if (b[n] == 0x0f) {
			return 0;
		} else {
			more = has_modrm_0f(b[n]);
		}
		break;
	case 0x62:
	case 0x8f:
	case 0xa0 ... 0xa3:
	case 0xc4 ... 0xc5: return 0;
	default:
		if ((b[n] & 0xf0) == 0x40 || is_prefix(b[n]))
			return 0;
		more = has_modrm(b[n]);
	}
	n++;
	if (more) {
		*modrm = n;
		if ((b[n] & 7) == 4 && b[n] < 0xc0)
			n++;
		n++;
	}
	return n <= 8 ? n : 0;
}

/* The low @n bytes of @v; @n > 0. */
static inline u64 low_bytes(u64 v, unsigned n)
{
	return v << (64 - 8 * n) >> (64 - 8 * n);
}

/* The @size bytes at @b, behind which there are 8. */
static inline u64 field(const u8 *b, unsigned size, bool sign)
{
	u64 v;

	memcpy(&v, b, 8);
	if (size == 8)
		return v;
	v <<= 64 - 8 * size;
	return sign ? (u64)((s64)v >> (64 - 8 * size)) : v >> (64 - 8 * size);
}

/* Puts bytes, displacement and immediate of the instruction at @b into a copy of its form. */
static void fill_in(const struct form *f, const u8 *b, struct isa_insn *insn)
{
	u8 pad[24];
	unsigned len = f->insn.len;
	u64 lo, hi;

	memcpy(&lo, b, 8);
	memcpy(&hi, b + 7, 8);
	hi >>= 8;
	if (len <= 8) {
		lo = low_bytes(lo, len);
		hi = 0;
	} else {
		hi = low_bytes(hi, len - 8);
	}
	memcpy(pad, &lo, 8);
	memcpy(pad + 8, &hi, 8);
	*insn = f->insn;
	memcpy(insn->raw, pad, sizeof(insn->raw));
	if (f->disp_size)
		insn->disp = field(pad + f->disp_at, f->disp_size, true);
	if (f->imm_size)
		insn->imm = field(pad + f->imm_at, f->imm_size, f->imm_signed);
	if (f->by_imm)
		insn->exec = decode_exec(insn);
}

/* Keeps the form of @insn if it is one that fill_in gets right. */
static void keep(struct isa_forms *forms, u64 key, unsigned len, unsigned modrm, const u8 *b,
		 const struct isa_insn *insn, const ZydisDecodedInstruction *zi)
{
	const u16 native = ISA_F_FPU | ISA_F_MMX | ISA_F_SSE | ISA_F_AVX;
	unsigned way = forms->next++ % WAYS;
	u64 *slot = key_set(forms, key) + way;
	struct form *f = &forms->form[0][0] + (slot - &forms->key[0][0]);
	bool mod = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
	unsigned end = zi->raw.sib.offset ? zi->raw.sib.offset + 1u : mod ? modrm + 1 : len;
	struct isa_insn again;
	unsigned k, imms = 0;

	if (mod != (modrm != 0) || (mod && zi->raw.modrm.offset != modrm) || end != len)
		return;
	for (k = 0; k < insn->nops; k++) {
		imms += insn->o[k].kind == OK_IMM;
		if (insn->o[k].kind == OK_IMM2)
			return;
	}
	if (zi->raw.imm[1].size || insn->imm2 || (zi->raw.imm[0].size && !imms))
		return;
	*slot = key;
	f->insn = *insn;
	f->disp_at = zi->raw.disp.offset;
	f->disp_size = zi->raw.disp.size / 8;
	f->imm_at = zi->raw.imm[0].offset;
	f->imm_size = zi->raw.imm[0].size / 8;
	f->imm_signed = zi->raw.imm[0].is_signed;
	f->by_imm = insn->op == ISA_OP_SHL || insn->op == ISA_OP_SHR || insn->op == ISA_OP_SAR;
	f->alone = !(insn->flags & native);
	fill_in(f, b, &again);
	if (again.disp != insn->disp || again.imm != insn->imm)
		*slot = 0;
}

bool isa_decode_seen(struct isa_forms *forms, const u8 *bytes, struct isa_insn *insn)
{
	unsigned len, modrm;
	const struct form *f;
	u64 key;

	len = form_len(bytes, &modrm);
	if (unlikely(!len))
		return false;
	memcpy(&key, bytes, 8);
	f = find(forms, low_bytes(key, len));
	if (unlikely(!f || !f->alone))
		return false;
	fill_in(f, bytes, insn);
	return true;
}

enum isa_decode_result isa_decode_form(struct isa_forms *forms, const u8 *bytes, size_t n,
				       enum isa_mode mode, struct isa_insn *insn)
{
	ZydisDecodedInstruction zi;
	enum isa_decode_result r;
	unsigned len, modrm;
	const struct form *f;
	u64 key;

	if (n < 15 || mode != ISA_LONG64 || !(len = form_len(bytes, &modrm)))
		return isa_decode(bytes, n, mode, insn);
	memcpy(&key, bytes, 8);
	key = low_bytes(key, len);
	f = find(forms, key);
	if (likely(f != NULL)) {
		fill_in(f, bytes, insn);
		return ISA_DECODE_OK;
	}
	r = decode_zydis(bytes, n, mode, insn, &zi);
	if (r == ISA_DECODE_OK && key)
		keep(forms, key, len, modrm, bytes, insn, &zi);
	return r;
}
