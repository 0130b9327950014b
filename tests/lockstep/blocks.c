/* SPDX-License-Identifier: MIT */
/* Random programs of many instructions. */
#include "emit.h"

#include <string.h>

u64 seed = 1;

u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

unsigned below(unsigned n)
{
	return (unsigned)(rnd() >> 33) % n;
}

u8 code[2 * PAGE_SIZE];
unsigned code_start;
bool with_x87, m32, user, pcid;
bool in_user;
u8 *p;

void put(unsigned b)
{
	*p++ = (u8)b;
}

void put_rex1(unsigned b)
{
	if (!m32)
		put(0x40 | b);
}

/* Or, in 32-bit code, at times an operand size prefix. */
void put_rex(unsigned b)
{
	if (!m32)
		put(0x40 | b);
	else if (below(12) == 0)
		put(0x66);
}

/* Any register but RBX (data), RSP, and RBP (loop counter). */
unsigned reg(void)
{
	static const u8 ok[] = {0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

	return ok[below(m32 ? 5 : sizeof(ok))];
}

/* One whose low byte, or in 32-bit code high byte, may change. */
unsigned byte_reg(void)
{
	static const u8 ok[] = {0, 1, 2, 4, 5, 6};

	return m32 ? ok[below(sizeof(ok))] : reg();
}

/* Where the program's accesses gather: they share checks, at times of a range that is partly
 * outside or on two pages. */
static u32 gather;

u32 where(void)
{
	u32 d = below(100) ? below(DATA_PAGES * PAGE_SIZE - 64)
			   : DATA_PAGES * PAGE_SIZE - 24 + below(40);

	if (below(3))
		d = gather + below(below(3) ? 64 : 600);
	/* Not the return addresses: programs are to end. */
	return d - (2 * PAGE_SIZE - 256) < 512 ? d + 512 : d;
}

/* [rbx + disp32], mostly inside the data, at times across pages or outside. */
void op_mem(unsigned map, unsigned op, unsigned r, bool w)
{
	u32 d = where();

	put_rex(w << 3 | r >> 3 << 2);
	if (map)
		put(0x0f);
	put(op);
	put(0x83 | (r & 7) << 3);
	memcpy(p, &d, 4);
	p += 4;
}

void op_reg(unsigned map, unsigned op, unsigned r, unsigned rm, bool w)
{
	put_rex(w << 3 | r >> 3 << 2 | rm >> 3);
	if (map)
		put(0x0f);
	put(op);
	put(0xc0 | (r & 7) << 3 | (rm & 7));
}

unsigned alu(void)
{
	return below(8) * 8; /* ADD OR ADC SBB AND SUB XOR CMP */
}

/* Defines all flags after instructions that leave some undefined. */
void define_flags(void)
{
	op_reg(0, 0x39, reg(), reg(), true);
}

/* x87 instructions with registers, as ranges of their second byte. */
static const struct {
	u8 op, first, last;
} x87_regs[] = {
	{0xd8, 0xc0, 0xff}, {0xd9, 0xc0, 0xd0}, {0xd9, 0xe0, 0xe1}, {0xd9, 0xe4, 0xe5},
	{0xd9, 0xe8, 0xee}, {0xd9, 0xf0, 0xff}, {0xda, 0xc0, 0xdf}, {0xda, 0xe9, 0xe9},
	{0xdb, 0xc0, 0xdf}, {0xdb, 0xe2, 0xe3}, {0xdb, 0xe8, 0xf7}, {0xdc, 0xc0, 0xcf},
	{0xdc, 0xe0, 0xff}, {0xdd, 0xc0, 0xc7}, {0xdd, 0xd0, 0xef}, {0xde, 0xc0, 0xcf},
	{0xde, 0xd9, 0xd9}, {0xde, 0xe0, 0xff}, {0xdf, 0xe0, 0xe0}, {0xdf, 0xe8, 0xf7},
};

static void x87(void)
{
	unsigned k = below(ARRAY_SIZE(x87_regs)), op = 0xd8 + below(8), f = below(8);

	switch (below(8)) {
	case 0:
	case 1:
	case 2:
		put(x87_regs[k].op);
		put(x87_regs[k].first + below(x87_regs[k].last - x87_regs[k].first + 1u));
		break;
	case 3: put(0x9b); break; /* fwait */
	default:
		/* The environment and control words seldom: loaded from random data, they unmask
		 * exceptions. */
		if ((op == 0xd9 || op == 0xdd) && f >= 4 && below(4))
			f &= 3;
		/* Where the last instruction was, processors save as they like. */
		if (user && (op == 0xd9 || op == 0xdd) && (f == 4 || f == 6))
			f = 7;
		if ((op == 0xd9 && f == 1) || (op == 0xdb && (f == 4 || f == 6)) ||
		    (op == 0xdd && f == 5))
			f = 0;
		op_mem(0, op, f, false);
	}
}

static void mmx(void)
{
	static const u8 ops[] = {0x60, 0x6f, 0x74, 0xd5, 0xdb, 0xef, 0xfc, 0xfe, 0xf6, 0x7f};
	unsigned a = below(8), b = below(8);

	switch (below(8)) {
	case 0: op_mem(1, ops[below(sizeof(ops))], a, false); break;
	case 1: op_reg(1, below(2) ? 0x6e : 0x7e, a, reg(), below(2)); break; /* movd, movq */
	case 2:
		put(0x0f);
		put(0x77);
		break;
	case 3: op_reg(1, below(2) ? 0x2a : 0x2d, a, b, false); break; /* cvtpi2ps, cvtps2pi */
	case 4:
		put(below(2) ? 0xf2 : 0xf3); /* movdq2q, movq2dq */
		op_reg(1, 0xd6, a, b, false);
		break;
	default: op_reg(1, ops[below(sizeof(ops))], a, b, false);
	}
}

/* FXSAVE, FXRSTOR; LDMXCSR and STMXCSR. */
static void state(void)
{
	u32 d = below(DATA_PAGES * PAGE_SIZE - 512) & ~15u;
	unsigned f = user ? 2 + below(2) : below(4);

	if (!m32)
		put(0x48);
	put(0x0f);
	put(0xae);
	put(0x83 | f << 3);
	memcpy(p, &d, 4);
	p += 4;
}

void put_u32(u32 v)
{
	memcpy(p, &v, 4);
	p += 4;
}

/* movaps, paddd, pinsrw and the like near each other, seldom where they must not be. */
static void aligned(void)
{
	u32 at = below(DATA_PAGES * PAGE_SIZE - 256) & ~15u;
	unsigned n = 1 + below(5), r;

	while (n--) {
		u32 d = at + 16 * below(8) + (below(80) == 0 ? below(16) : 0);

		r = below(m32 ? 8 : 16);
		if (below(4) == 0)
			put(0x66); /* movapd */
		put_rex1(r >> 3 << 2);
		put(0x0f);
		put(below(2) ? 0x28 : below(3) ? 0x29 : 0x57); /* or xorps */
		put(0x83 | (r & 7) << 3);
		memcpy(p, &d, 4);
		p += 4;
	}
}

/* BT, BTS, BTR, BTC of a bit string around its address. */
/* By CL or an immediate. What 16-bit operands leave for counts beyond their size is undefined. */
static void shift(unsigned a)
{
	static const u8 ops[] = {4, 5, 7};
	unsigned op = ops[below(sizeof(ops))];

	switch (below(4)) {
	case 0:
		op_reg(0, 0xd3, op, a, below(2));
		if (m32)
			define_flags();
		break;
	case 1:
		op_reg(0, 0xc1, op, a, below(2));
		put(below(70));
		if (m32)
			define_flags();
		break;
	case 2: /* the lower or the upper byte */
		op_reg(0, 0xc0, op, byte_reg(), false);
		put(1 + below(7));
		break;
	default:
		op_reg(0, 0xc1, op, a, below(2));
		put(1 + below(15));
		break;
	}
	/* A load leaves them alone, and may fault. */
	if (below(2))
		op_mem(0, 0x8b, reg(), below(2));
}

static void bit_string(unsigned a, unsigned b)
{
	static const u8 ops[] = {0xa3, 0xab, 0xb3, 0xbb};
	unsigned k = below(4);

	op_reg(1, below(2) ? 0xb6 : 0xbe, a, byte_reg(), below(2)); /* movzx, movsx */
	if (below(2)) {
		op_reg(0, 0xc1, 4, a, below(2)), put(below(8)); /* shl */
		define_flags();
	}
	if (k && below(3) == 0)
		put(0xf0);
	op_mem(1, ops[k], a, below(2));
	define_flags();
}

/* STOS and MOVS, few elements or many. */
static void string_insn(void)
{
	u32 d = where();
	unsigned kind = below(4);
	bool gs = false;

	if (!m32)
		put(0x48);
	put(0x8d); /* lea rdi, [rbx + d] */
	put(0xbb);
	put_u32(d);
	if (kind == 3) {
		gs = !m32 && !user && below(4) == 0; /* mov esi, offset */
		if (!m32 && !gs)
			put(0x48);
		put(gs ? 0xbe : 0x8d);
		if (!gs)
			put(0xb3);
		put_u32(below(2) ? where() : d + below(40) - 20);
	}
	if (!user && below(12) == 0)
		put(0xfd); /* std */
	put(0xb9);	   /* mov ecx, n */
	put_u32(below(4) ? below(40) : below(300));
	if (below(4))
		put(0xf3);
	if (gs)
		put(0x65);
	put_rex(below(2) << 3);
	put((kind == 3 ? 0xa4 : 0xaa) | below(2));
	put(user || below(12) ? 0xfc : 0x90); /* cld */
}

static void absolute(unsigned r)
{
	bool write = below(2);

	if (m32 && below(2)) {
		put(write ? 0xa3 : 0xa1);
		put_u32((u32)DATA + where());
		return;
	}
	put_rex(r >> 3 << 2);
	put(write ? 0x89 : 0x8b);
	put((r & 7) << 3 | (m32 ? 5 : 4));
	if (!m32)
		put(0x25);
	put_u32((u32)DATA + where());
}

/* mov r, target; jmp or call through r or through memory; the function has one instruction. */
static void indirect(unsigned r)
{
	unsigned call = below(2) ? 2 : 4, d = below(PAGE_SIZE);
	bool mem = below(2);
	u8 *target;

	put_rex1(r >> 3);
	put(0xb8 | (r & 7));
	target = p;
	put_u32(0);
	if (mem) {
		put_rex1(8 | r >> 3 << 2);
		put(0x89);
		put(0x83 | (r & 7) << 3);
		put_u32(d);
		put(0xff);
		put(0x83 | call << 3);
		put_u32(d);
	} else {
		put_rex1(r >> 3);
		put(0xff);
		put(0xc0 | call << 3 | (r & 7));
	}
	if (call == 2) {
		put(0xeb); /* over it */
		put(4);
		memcpy(target, &(u32){(u32)(CODE + (p - code))}, 4);
		put_rex1(8);
		if (m32)
			put(0x90);
		put(0xff);
		put(0xc0 | RAX);
		put(0xc3);
	} else {
		memcpy(target, &(u32){(u32)(CODE + (p - code))}, 4);
	}
}

void one(void)
{
	unsigned a = reg(), b = reg();

	if (below(12) == 0) {
		aligned();
		return;
	}

	if (!in_user && below(8) == 0) {
		system_insn();
		return;
	}
	if (below(24) == 0) {
		if (below(2))
			bit_string(a, b);
		else
			string_insn();
		return;
	}
	if (with_x87 && below(2)) {
		switch (below(16)) {
		case 0: state(); break;
		case 1:
		case 2:
		case 3: mmx(); break;
		default: x87();
		}
		return;
	}
	switch (below(24)) {
	case 20: /* by an address alone, at times without ModRM */ absolute(a); break;
	case 21: /* push rbp; mov rbp, rsp; leave */
		put(0x50 | RBP);
		put_rex1(8);
		put(0x89);
		put(0xc0 | RSP << 3 | RBP);
		op_reg(0, alu() + 1, a, b, below(2));
		put(0xc9);
		break;
	case 22: indirect(a); break;
	case 0:
	case 1: op_reg(0, alu() + 1, a, b, below(2)); break;
	case 2:
	case 3: op_mem(0, alu() + 3, a, below(2)); break;
	case 4: op_mem(0, alu() + 1, a, below(2)); break;
	case 5: op_mem(0, 0x8b, a, below(2)); break;
	case 6: op_mem(0, 0x89, a, below(2)); break;
	case 7: /* inc, dec */
		if (m32 && below(2))
			put((below(2) ? 0x40 : 0x48) + a);
		else
			op_reg(0, 0xff, below(2), a, below(2));
		break;
	case 8: op_mem(0, 0xff, below(2), below(2)); break;
	case 23: /* the accumulator's high byte, or all bytes, and an immediate */
		put(m32 && below(2) ? 0x82 : 0x80);
		put(0xc0 | alu() | (below(2) ? 4 : 0));
		put(below(256));
		break;
	case 9: op_reg(1, 0x90 + below(16), 0, byte_reg(), false); break; /* setcc */
	case 10: op_reg(1, 0x40 + below(16), a, b, below(2)); break;
	case 11: op_mem(1, 0x40 + below(16), a, below(2)); break;
	case 12: /* push, pop */
		put_rex1(a >> 3);
		put(0x50 | (a & 7));
		if (below(2))
			op_reg(0, alu() + 1, a, b, true);
		put_rex1(b >> 3);
		put(0x58 | (b & 7));
		break;
	case 13: shift(a); break;
	case 14:
		op_reg(1, 0xaf, a, b, below(2));
		define_flags();
		break;
	case 15: op_mem(1, below(2) ? 0xb6 : 0xbf, a, below(2)); break;
	case 16: /* movups, paddd, movups back; addps */
		op_mem(1, 0x10, a, false);
		put(0x66);
		op_reg(1, 0xfe, a, b, false);
		op_mem(1, 0x11, b, false);
		break;
	case 17:
		op_reg(1, below(2) ? 0x54 : 0x57, a, b, false); /* andps, xorps */
		if (below(2))
			op_reg(1, 0x58, a, b, false);
		break;
	case 18:
		put(0xf0);
		op_mem(0, 0x01, a, below(2));
		break; /* lock add */
	default:
		put(0x50 | RBX);
		put(0x58 | RDX);
		break;
	}
}

/* Where the next piece of code on the other page goes. */
static u8 *other;

/* @op: of the jump there, the conditional ones' second byte. An instruction there, and back. */
static void away(unsigned op)
{
	u8 *back;

	if (op >= 0x80 && op < 0x90)
		put(0x0f);
	put(op);
	put_u32((u32)(other - (p + 4)));
	back = p;
	p = other;
	one();
	if (op == 0xe8) {
		put(0xc3);
	} else {
		put(0xe9);
		put_u32((u32)(back - (p + 4)));
	}
	other = p;
	p = back;
}

/* A loop around straight code with forward jumps and calls. */
unsigned program(void)
{
	unsigned far = below(3) ? 0 : 1 + below(4);
	unsigned n = 4 + below(24), k;
	u8 *start, *skip;

	code_start = below(3) ? 0 : PAGE_SIZE - 1 - below(400);
	p = code + code_start;
	other = code + (code_start ? 0 : PAGE_SIZE) + below(2000);
	switch (below(8)) {
	case 0: gather = DATA_PAGES * PAGE_SIZE - 64 - below(600); break;
	case 1:
	case 2: gather = PAGE_SIZE * (1 + below(DATA_PAGES - 1)) - below(400); break;
	default: gather = below(DATA_PAGES * PAGE_SIZE - 700); break;
	}
	put(0xbd); /* mov ebp, count */
	put(1 + below(40));
	put(0);
	put(0);
	put(0);
	start = p;
	for (k = 0; k < n; k++) {
		if (far && below(8) < far && (other - code) % PAGE_SIZE < 3600) {
			static const u8 ops[] = {0xe8, 0xe9};

			away(below(2) ? 0x80 + below(16) : ops[below(2)]);
			continue;
		}
		switch (below(8)) {
		case 0: /* jcc over the next */
			put(0x70 + below(16));
			skip = p++;
			one();
			*skip = (u8)(p - skip - 1);
			break;
		case 1: /* call a function that follows, over a jump */
			put(0xe8);
			put(5);
			put(0);
			put(0);
			put(0);
			put(0xe9);
			skip = p;
			p += 4;
			one();
			put(0xc3);
			memcpy(skip, &(u32){(u32)(p - skip - 4)}, 4);
			break;
		default: one();
		}
	}
	put_rex1(8); /* dec rbp; jnz start */
	put(0xff);
	put(0xc8 | RBP);
	put(0x0f);
	put(0x85);
	memcpy(p, &(u32){(u32)(start - (p + 4))}, 4);
	p += 4;
	put(0xf4);
	return (unsigned)(p - code) - code_start;
}

void program_start(struct start *s)
{
	unsigned i;

	s->fcw = (u16)(below(8) ? 0x37f : 0x340 | below(64)) ^ (u16)(below(16) << 8);
	s->ts = !user && below(50) == 0;
	s->smap = !user && below(3) == 0;
	for (i = 0; i < 16; i++)
		s->gpr[i] = below(3) ? rnd() : below(64);
	s->gpr[RBX] = DATA;
	s->gpr[RSP] = DATA + 2 * PAGE_SIZE + 8 * below(16);
	if (m32 && !user) /* the upper half is nobody's */
		s->gpr[RSP] |= rnd() << 32;
	for (i = 0; i < sizeof(s->vec); i++)
		((u8 *)s->vec)[i] = (u8)rnd();
	for (i = 0; i < sizeof(s->data); i += 8)
		memcpy(s->data + i, &(u64){rnd()}, 8);
}
