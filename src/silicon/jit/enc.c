/* SPDX-License-Identifier: MIT */
/* The parts of an instruction's encoding, so that it can be put together again. */
#include "silicon/jit/tr.h"

static bool is_prefix(u8 b)
{
	return b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x2e ||
	       b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65;
}

/* In 32-bit mode VEX has no R, X and B, and V is three bits; ModRM's addresses are as in 64-bit
 * mode. */
void enc_parse(const struct tr *t, struct enc *e)
{
	const struct isa_insn *i = t->i;
	const u8 *p = i->raw, *end = i->raw + i->len;

	memset(e, 0, sizeof(*e));
	for (;; p++) {
		if (*p == 0x66)
			e->p66 = true;
		else if (*p == 0xf0)
			e->lock = true;
		else if (*p == 0xf2 || *p == 0xf3)
			e->pf = *p;
		else if ((*p & 0xf0) == 0x40 && (is_prefix(p[1]) || (p[1] & 0xf0) == 0x40))
			continue; /* a REX that is not the last prefix means nothing */
		else if (*p != 0x67 && *p != 0x2e && *p != 0x36 && *p != 0x3e && *p != 0x26 &&
			 *p != 0x64 && *p != 0x65)
			break;
	}
	if (*p == 0xc5) {
		e->vex = true;
		e->rex = p[1] & 0x80 ? 0 : 4;
		e->vvvv = ~(p[1] >> 3) & 15;
		e->vl = p[1] >> 2 & 1;
		e->pp = p[1] & 3;
		e->map = 1;
		p += 2;
	} else if (*p == 0xc4) {
		e->vex = true;
		e->rex = (~p[1] >> 5 & 7) | (p[2] >> 7 << 3);
		e->vvvv = ~(p[2] >> 3) & 15;
		e->vl = p[2] >> 2 & 1;
		e->pp = p[2] & 3;
		e->map = p[1] & 31;
		p += 3;
	} else {
		if ((*p & 0xf0) == 0x40)
			e->rex = *p++;
		if (*p == 0x0f) {
			e->map = 1;
			p++;
			if (*p == 0x38 || *p == 0x3a)
				e->map = *p++ == 0x38 ? 2 : 3;
		}
	}
	if (t->word == 4) {
		e->rex &= 8;
		e->vvvv &= 7;
	}
	e->op = *p++;
	if (t->word == 4 && e->map == 0 && e->op == 0x82)
		e->op = 0x80;
	if (i->modrm_off) {
		unsigned mod, rm;

		e->modrm = *p++;
		mod = e->modrm >> 6;
		rm = e->modrm & 7;
		if (mod != 3) {
			if (rm == 4) {
				if (mod == 0 && (*p & 7) == 5)
					p += 4;
				p++;
			} else if (mod == 0 && rm == 5) {
				p += 4;
			}
			p += mod == 1 ? 1 : mod == 2 ? 4 : 0;
		}
	}
	e->imm = p;
	e->nimm = (unsigned)(end - p);
}
