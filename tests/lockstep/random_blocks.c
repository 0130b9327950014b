/* SPDX-License-Identifier: MIT */
/*
 * random_blocks [PROGRAMS [SEED]]: random programs of many instructions on both engines from the
 * same state; registers, flags, memory and instruction counts must agree afterwards. What single
 * instructions do is compared with the processor by tests/insn; this is about what lies between
 * them: where flags and vector registers are, jumps, loops, faults in the middle.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/silicon/fake.h"
#include "silicon/jit/door.h"

#define CODE	   0x1000ul
#define DATA	   0x10000ul
#define LEAF	   0x67ull
#define DATA_PAGES 4

static u64 seed = 1;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static unsigned below(unsigned n)
{
	return (unsigned)(rnd() >> 33) % n;
}

static u8 code[PAGE_SIZE], *p;
static bool with_x87;

static void put(unsigned b)
{
	*p++ = (u8)b;
}

/* Any register but RBX (data), RSP, and RBP (loop counter). */
static unsigned reg(void)
{
	static const u8 ok[] = {0, 1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

	return ok[below(sizeof(ok))];
}

/* Where the program's accesses gather: they share checks, at times of a range that is partly
 * outside or on two pages. */
static u32 gather;

static u32 where(void)
{
	u32 d = below(100) ? below(DATA_PAGES * PAGE_SIZE - 64)
			   : DATA_PAGES * PAGE_SIZE - 24 + below(40);

	if (below(3))
		d = gather + below(below(3) ? 64 : 600);
	/* Not the return addresses: programs are to end. */
	return d - (2 * PAGE_SIZE - 256) < 512 ? d + 512 : d;
}

/* [rbx + disp32], mostly inside the data, at times across pages or outside. */
static void op_mem(unsigned map, unsigned op, unsigned r, bool w)
{
	u32 d = where();

	put(0x40 | w << 3 | r >> 3 << 2);
	if (map)
		put(0x0f);
	put(op);
	put(0x83 | (r & 7) << 3);
	memcpy(p, &d, 4);
	p += 4;
}

static void op_reg(unsigned map, unsigned op, unsigned r, unsigned rm, bool w)
{
	put(0x40 | w << 3 | r >> 3 << 2 | rm >> 3);
	if (map)
		put(0x0f);
	put(op);
	put(0xc0 | (r & 7) << 3 | (rm & 7));
}

static unsigned alu(void)
{
	return below(8) * 8; /* ADD OR ADC SBB AND SUB XOR CMP */
}

/* Defines all flags after instructions that leave some undefined. */
static void define_flags(void)
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
	unsigned f = below(4);

	put(0x48);
	put(0x0f);
	put(0xae);
	put(0x83 | f << 3);
	memcpy(p, &d, 4);
	p += 4;
}

/* At CPL 0: what kernels execute often. */
static void system_insn(void)
{
	u32 d = below(DATA_PAGES * PAGE_SIZE - 512) & ~15u;
	unsigned a = reg();

	switch (below(8)) {
	case 0:
		put(0x0f);
		put(0x01);
		put(0xf8);
		break;		  /* swapgs */
	case 1: put(0xfa); break; /* cli */
	case 2:
	case 3: put(0xfb); break; /* sti; what follows is anything */
	case 4:
		put(0x9c); /* pushfq; pop */
		put(0x40 | a >> 3);
		put(0x58 | (a & 7));
		break;
	case 5:
		put(0x40 | a >> 3);
		put(0x8c);
		put(0xc0 | below(6) << 3 | (a & 7));
		break;
	case 6: /* cmpxchg16b; with RBX as the base it needs some luck to be equal */
		d += below(20) == 0;
		if (below(2))
			put(0xf0);
		put(0x48);
		put(0x0f);
		put(0xc7);
		put(0x8b);
		memcpy(p, &d, 4);
		p += 4;
		define_flags();
		break;
	default:
		op_mem(0, 0xff, 6, false); /* push [mem]; pop */
		put(0x40 | a >> 3);
		put(0x58 | (a & 7));
	}
}

/* movaps, paddd, pinsrw and the like near each other, seldom where they must not be. */
static void aligned(void)
{
	u32 at = below(DATA_PAGES * PAGE_SIZE - 256) & ~15u;
	unsigned n = 1 + below(5), r;

	while (n--) {
		u32 d = at + 16 * below(8) + (below(80) == 0 ? below(16) : 0);

		r = below(16);
		if (below(4) == 0)
			put(0x66); /* movapd */
		put(0x40 | r >> 3 << 2);
		put(0x0f);
		put(below(2) ? 0x28 : below(3) ? 0x29 : 0x57); /* or xorps */
		put(0x83 | (r & 7) << 3);
		memcpy(p, &d, 4);
		p += 4;
	}
}

static void one(void)
{
	unsigned a = reg(), b = reg();

	if (below(12) == 0) {
		aligned();
		return;
	}

	if (below(8) == 0) {
		system_insn();
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
	switch (below(20)) {
	case 0:
	case 1: op_reg(0, alu() + 1, a, b, below(2)); break;
	case 2:
	case 3: op_mem(0, alu() + 3, a, below(2)); break;
	case 4: op_mem(0, alu() + 1, a, below(2)); break;
	case 5: op_mem(0, 0x8b, a, below(2)); break;
	case 6: op_mem(0, 0x89, a, below(2)); break;
	case 7: op_reg(0, 0xff, below(2), a, below(2)); break; /* inc, dec */
	case 8: op_mem(0, 0xff, below(2), below(2)); break;
	case 9: op_reg(1, 0x90 + below(16), 0, a, false); break; /* setcc */
	case 10: op_reg(1, 0x40 + below(16), a, b, below(2)); break;
	case 11: op_mem(1, 0x40 + below(16), a, below(2)); break;
	case 12: /* push, pop */
		put(0x40 | a >> 3);
		put(0x50 | (a & 7));
		if (below(2))
			op_reg(0, alu() + 1, a, b, true);
		put(0x40 | b >> 3);
		put(0x58 | (b & 7));
		break;
	case 13: /* shift by an immediate or CL */
		if (below(2)) {
			op_reg(0, 0xc1, below(2) ? 4 : 5, a, below(2));
			put(below(70));
		} else {
			op_reg(0, 0xd3, below(2) ? 4 : 7, a, below(2));
		}
		define_flags();
		break;
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

/* A loop around straight code with forward jumps and a call. */
static void program(void)
{
	unsigned n = 4 + below(24), k;
	u8 *start, *skip;

	p = code;
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
	op_reg(0, 0xff, 1, RBP, true); /* dec rbp; jnz start */
	put(0x0f);
	put(0x85);
	memcpy(p, &(u32){(u32)(start - (p + 4))}, 4);
	p += 4;
	put(0xf4);
}

static void make(struct fake *f, enum sil_engine e)
{
	unsigned k;

	fake_engine = e;
	fake_init(f);
	f->cpu->c.s.cr3 = fake_page(f);
	fake_map(f, PG_4L, CODE, 1, ((u64)f->mem + CODE) | LEAF, 7);
	for (k = 0; k < DATA_PAGES; k++)
		fake_map(f, PG_4L, DATA + k * PAGE_SIZE, 1,
			 ((u64)f->mem + DATA + k * PAGE_SIZE) | LEAF, 7);
}

struct start {
	u64 gpr[16];
	u8 vec[16][16];
	u16 fcw;
	bool ts;
	u8 data[DATA_PAGES * PAGE_SIZE];
};

static enum fake_exit run(struct fake *f, const struct start *s)
{
	struct isa_cpu *c = &f->cpu->c;
	unsigned k;

	fake_mode64(f, 0);
	memcpy(c->r.gpr, s->gpr, sizeof(s->gpr));
	for (k = 0; k < 16; k++)
		memcpy(c->r.vec[k].b, s->vec[k], 16);
	memset(&c->r.x87, 0, sizeof(c->r.x87));
	c->r.x87.mxcsr = 0x1f80;
	c->r.x87.fcw = s->fcw;
	c->s.cr0 |= s->ts ? CR0_TS : 0;
	c->s.cr4 |= CR4_OSXMMEXCPT;
	c->s.seg[GS].base = DATA;
	c->r.kernel_gs_base = DATA + PAGE_SIZE;
	c->s.interruptibility = 0;
	cpu_context_changed(f->cpu);
	memcpy(f->mem + DATA, s->data, sizeof(s->data));
	memcpy(f->mem + CODE, code, sizeof(code));
	sil_memory_written(f->m, (hva_t)f->mem + CODE, PAGE_SIZE);
	f->cpu->n.instructions = 0;
	c->s.rip = CODE;
	return fake_run(f);
}

static bool same(const struct fake *a, const struct fake *b, enum fake_exit xa, enum fake_exit xb)
{
	const struct isa_cpu *c = &a->cpu->c, *d = &b->cpu->c;
	bool ok = xa == xb;
	unsigned k;

	ok &= !memcmp(c->r.gpr, d->r.gpr, sizeof(c->r.gpr)) && c->s.rip == d->s.rip;
	ok &= isa_flags(c) == isa_flags(d);
	ok &= c->s.interruptibility == d->s.interruptibility;
	ok &= c->s.seg[GS].base == d->s.seg[GS].base;
	ok &= c->r.kernel_gs_base == d->r.kernel_gs_base;
	for (k = 0; k < 16; k++)
		ok &= !memcmp(c->r.vec[k].b, d->r.vec[k].b, 32);
	ok &= !memcmp(&c->r.x87, &d->r.x87, sizeof(c->r.x87));
	ok &= !memcmp(a->mem + DATA, b->mem + DATA, DATA_PAGES * PAGE_SIZE);
	ok &= a->cpu->n.instructions == b->cpu->n.instructions;
	if (xa == X_EXCEPTION && ok)
		ok = a->ev.vector == b->ev.vector && a->ev.error == b->ev.error &&
		     a->ev.payload == b->ev.payload;
	return ok;
}

static void report(const char *name, const struct fake *f, enum fake_exit x)
{
	const struct isa_cpu *c = &f->cpu->c;
	unsigned k;

	printf("%s: exit %d vector %u rip %llx flags %llx insns %llu\n", name, x, f->ev.vector,
	       (unsigned long long)c->s.rip, (unsigned long long)isa_flags(c),
	       (unsigned long long)f->cpu->n.instructions);
	for (k = 0; k < 16; k++)
		printf(" %llx", (unsigned long long)c->r.gpr[k]);
	printf("\nfcw %x fsw %x ftw %x fop %x fip %llx fdp %llx mxcsr %x", c->r.x87.fcw,
	       c->r.x87.fsw, c->r.x87.ftw, c->r.x87.fop, (unsigned long long)c->r.x87.fip,
	       (unsigned long long)c->r.x87.fdp, c->r.x87.mxcsr);
	for (k = 0; k < 8; k++)
		printf(" %04x:%016llx", *(const u16 *)(c->r.x87.st[k] + 8),
		       (unsigned long long)*(const u64 *)c->r.x87.st[k]);
	printf("\n");
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 3000, k, i, bad = 0;
	unsigned faults = 0, round;
	u64 total = 0;
	static struct fake a, b;
	static struct start s;

	if (!jit_supported())
		return 77;
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	make(&a, SIL_ENGINE_INTERP);
	make(&b, SIL_ENGINE_JIT);
	for (k = 0; k < n && bad < 3; k++) {
		u64 this = seed = k * 0x9e3779b97f4a7c15ull + (argc > 2 ? seed : 1);

		memset(code, 0xf4, sizeof(code));
		with_x87 = below(3) == 0;
		program();
		s.fcw = (u16)(below(8) ? 0x37f : 0x340 | below(64)) ^ (u16)(below(16) << 8);
		s.ts = below(50) == 0;
		for (i = 0; i < 16; i++)
			s.gpr[i] = below(3) ? rnd() : below(64);
		s.gpr[RBX] = DATA;
		s.gpr[RSP] = DATA + 2 * PAGE_SIZE + 8 * below(16);
		for (i = 0; i < sizeof(s.vec); i++)
			((u8 *)s.vec)[i] = (u8)rnd();
		for (i = 0; i < sizeof(s.data); i += 8)
			memcpy(s.data + i, &(u64){rnd()}, 8);
		/* The second time the TLB and the translations are there. */
		for (round = 0; round < 2; round++) {
			enum fake_exit xa = run(&a, &s), xb = run(&b, &s);

			faults += xa == X_EXCEPTION;
			total += b.cpu->n.instructions;
			if (same(&a, &b, xa, xb))
				continue;
			bad++;
			printf("MISMATCH program %u, seed %llx, round %u\n", k,
			       (unsigned long long)this, round);
			report("interp", &a, xa);
			report("jit", &b, xb);
			for (i = 0; i < (unsigned)(p - code); i++)
				printf("%02x", code[i]);
			printf("\n");
			break;
		}
	}
	printf("%u programs, %llu instructions, %u runs ended by a fault, %u with differences\n", k,
	       (unsigned long long)total, faults, bad);
	fake_fini(&a);
	fake_fini(&b);
	return bad != 0;
}
