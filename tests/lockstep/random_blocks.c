/* SPDX-License-Identifier: MIT */
/*
 * random_blocks [PROGRAMS [SEED]]: random programs of many instructions on both engines from the
 * same state, and those for CPL 3 on this CPU as well; registers, flags, memory and instruction
 * counts must agree afterwards. What single instructions do is compared with the processor by
 * tests/insn; this is about what lies between them: where flags and vector registers are, jumps,
 * loops, faults in the middle.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../unit/silicon/fake.h"
#include "blocks.h"
#include "silicon/jit/door.h"
#include "silicon/paging/tlb.h"

/* Where in guest memory the pages of CODE and DATA are. */
#define CODE_AT	 0x1000ul
#define CODE2_AT 0x3000ul
#define DATA_AT	 0x10000ul
#define LEAF	 0x67ull
/* The kernel's alone: descriptors, and where SYSCALL leads. */
#define GDT    0x5000ul
#define LSTAR  0x6000ul
#define STACK  0x7000ul
#define TSS    (GDT + 0x100)
#define IDT    (GDT + 0x800)
#define KERNEL 0x63ull
static const u64 gdt[] = {
	0,
	0x00af9b000000ffff,
	0x00cf93000000ffff,
	0,
	0x00cff3000000ffff,
	0x00affb000000ffff,
	0x00affa000000ffff, /* not accessed */
};

/* Behind LSTAR: SYSCALL's handler, and those of the gates. */
static const u8 handlers[] = {
	0xff, 0xe1,		      /* jmp rcx */
	0x48, 0xcf,		      /* iretq */
	0x9c, 0x41, 0x5a, 0x48, 0xcf, /* pushfq; pop r10; iretq */
};
enum { H_IRET = 2, H_KEPT = 4 };

static void put_gate(u64 *idt, unsigned v, u16 sel, u64 to, unsigned type, unsigned ist)
{
	idt[2 * v] = (to & 0xffff) | (u64)sel << 16 | (u64)ist << 32 | (u64)type << 40 |
		     (to & 0xffff0000) << 32;
	idt[2 * v + 1] = to >> 32;
}

/* Descriptors, TSS, IDT and handlers as they are at the start. */
static void system_tables(struct fake *f, const struct start *s)
{
	const u64 good = LSTAR + H_IRET, nowhere = 0x7ffffff0;
	u64 sp = STACK + PAGE_SIZE - (s->gpr[RCX] & 31), ist = STACK + 0x800;
	u64 *idt = (u64 *)(f->mem + IDT);
	u8 *tss = f->mem + TSS;

	memset(f->mem + GDT, 0, PAGE_SIZE);
	memset(f->mem + STACK, 0, PAGE_SIZE);
	memcpy(f->mem + GDT, gdt, sizeof(gdt));
	memcpy(f->mem + LSTAR, handlers, sizeof(handlers));
	memcpy(tss + 4, &sp, 8);
	memcpy(tss + 0x24, &ist, 8);
	memcpy(tss + 0x24 + 8, &nowhere, 8);
	put_gate(idt, X86_BP, KERNEL_CS, good, 0xee, 0);
	put_gate(idt, V_INT, KERNEL_CS, good, 0xee, 0);
	put_gate(idt, V_TRAP, KERNEL_CS, good, 0xef, 0);
	put_gate(idt, V_IST, KERNEL_CS, good, 0xee, 1);
	put_gate(idt, V_KEPT, KERNEL_CS, LSTAR + H_KEPT, s->gpr[RCX] & 64 ? 0xee : 0xef, 0);
	put_gate(idt, V_DPL0, KERNEL_CS, good, 0x8e, 0);
	put_gate(idt, V_ABSENT, KERNEL_CS, good, 0x6e, 0);
	put_gate(idt, V_USER_CS, USER_CS | (s->gpr[RCX] & 256 ? 3 : 0), good, 0xee, 0);
	put_gate(idt, V_NULL_CS, 0, good, 0xee, 0);
	put_gate(idt, V_TYPE, KERNEL_CS, good, 0xec, 0);
	put_gate(idt, V_AWAY, KERNEL_CS, 1ull << 47, 0xee, 0);
	put_gate(idt, V_NO_STACK, KERNEL_CS, good, 0xee, 2);
	put_gate(idt, V_BEYOND, KERNEL_CS, good, 0xee, 0);
	f->cpu->c.s.gdtr = (struct isa_dtr){.base = GDT, .limit = sizeof(gdt) - 1};
	f->cpu->c.s.idtr = (struct isa_dtr){.base = IDT, .limit = V_BEYOND * 16 + 14};
	f->cpu->c.s.seg[TR].base = TSS;
	/* Else each #BP ends the program. */
	f->exc_bitmap = s->gpr[RCX] & 128 ? ~0u : ~(u32)BIT(X86_BP);
}

/* Programs change the tables. */
static void map_data(struct fake *f)
{
	u64 *pte = (u64 *)(f->mem + f->table_top) + DATA / PAGE_SIZE % 512, leaf;
	bool changed = false;
	unsigned k;

	for (k = 0; k < DATA_PAGES; k++) {
		leaf = ((u64)f->mem + DATA_AT + k * PAGE_SIZE) | LEAF;
		changed |= pte[k] != leaf;
		pte[k] = leaf;
	}
	if (changed)
		tlb_flush_all(f->cpu);
}

static void make(struct fake *f, enum sil_engine e)
{
	u64 pte;

	fake_engine = e;
	fake_init(f);
	f->cpu->c.s.cr3 = fake_page(f);
	fake_map(f, PG_4L, GDT, 1, ((u64)f->mem + GDT) | KERNEL, 7);
	fake_map(f, PG_4L, LSTAR, 1, ((u64)f->mem + LSTAR) | KERNEL, 7);
	fake_map(f, PG_4L, STACK, 1, ((u64)f->mem + STACK) | KERNEL, 7);
	fake_map(f, PG_4L, CODE, 1, ((u64)f->mem + CODE_AT) | LEAF, 7);
	fake_map(f, PG_4L, CODE + PAGE_SIZE, 1, ((u64)f->mem + CODE2_AT) | LEAF, 7);
	pte = fake_map(f, PG_4L, DATA, 1, 0, 7);
	/* map_data finds them in the table that was made last. */
	if ((pte & PAGE_MASK) != (u64)f->mem + f->table_top)
		abort();
	fake_map(f, PG_4L, TABLES, 1, (pte & PAGE_MASK) | KERNEL, 7);
	map_data(f);
}

static enum fake_exit run(struct fake *f, const struct start *s)
{
	struct isa_cpu *c = &f->cpu->c;
	unsigned k;

	fake_mode64(f, user ? 3 : 0);
	if (user)
		isa_set_flags(c, X86_IF | 2);
	if (m32)
		c->s.seg[CS].ar = user ? 0xc0fb : 0xc09b;
	memcpy(c->r.gpr, s->gpr, sizeof(s->gpr));
	for (k = 0; k < 16; k++)
		memcpy(c->r.vec[k].b, s->vec[k], 16);
	memset(&c->r.x87, 0, sizeof(c->r.x87));
	c->r.x87.mxcsr = 0x1f80;
	c->r.x87.fcw = s->fcw;
	c->s.cr0 |= s->ts ? CR0_TS : 0;
	c->s.cr4 |= CR4_OSXMMEXCPT | (s->smap ? CR4_SMAP : 0);
	c->s.cr4 |= CR4_FSGSBASE | (s->gpr[RAX] & 64 ? 0 : CR4_PKE) | (pcid ? CR4_PCIDE : 0);
	c->s.cr3 &= PAGE_MASK;
	c->r.pkru = (u32)s->gpr[RAX] & ~3u;
	c->s.rflags |= s->smap ? X86_AC : 0;
	c->r.star = (u64)(USER_SS - 8) << 48 | (u64)KERNEL_CS << 32;
	c->r.lstar = LSTAR;
	c->r.sfmask = s->gpr[RAX] & 0xdd5; /* keeps what RAX keeps */
	system_tables(f, s);
	map_data(f);
	c->s.seg[GS].base = DATA;
	c->r.kernel_gs_base = DATA + PAGE_SIZE;
	c->s.interruptibility = 0;
	cpu_context_changed(f->cpu);
	memcpy(f->mem + DATA_AT, s->data, sizeof(s->data));
	memcpy(f->mem + CODE_AT, code, PAGE_SIZE);
	memcpy(f->mem + CODE2_AT, code + PAGE_SIZE, PAGE_SIZE);
	sil_memory_written(f->m, (hva_t)f->mem + CODE_AT, PAGE_SIZE);
	sil_memory_written(f->m, (hva_t)f->mem + CODE2_AT, PAGE_SIZE);
	f->cpu->n.instructions = 0;
	c->s.rip = CODE + code_start;
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
	for (k = 0; k < ISA_NSEG; k++)
		ok &= c->s.seg[k].sel == d->s.seg[k].sel && c->s.seg[k].ar == d->s.seg[k].ar &&
		      c->s.seg[k].limit == d->s.seg[k].limit &&
		      c->s.seg[k].base == d->s.seg[k].base;
	ok &= c->cpl == d->cpl && c->mode == d->mode;
	ok &= !memcmp(a->mem + GDT, b->mem + GDT, PAGE_SIZE);
	ok &= !memcmp(a->mem + STACK, b->mem + STACK, PAGE_SIZE);
	ok &= c->r.kernel_gs_base == d->r.kernel_gs_base;
	for (k = 0; k < 16; k++)
		ok &= !memcmp(c->r.vec[k].b, d->r.vec[k].b, 32);
	ok &= !memcmp(&c->r.x87, &d->r.x87, sizeof(c->r.x87));
	ok &= !memcmp(a->mem + DATA_AT, b->mem + DATA_AT, DATA_SIZE);
	ok &= a->cpu->n.instructions == b->cpu->n.instructions;
	if (xa == X_EXCEPTION && ok)
		ok = a->ev.vector == b->ev.vector && a->ev.error == b->ev.error &&
		     a->ev.payload == b->ev.payload;
	return ok;
}

/* ---- This CPU ---- */

static bool native;

static void run_native(const struct start *s, struct tstate *to)
{
	struct tstate from = {.rip = CODE + code_start, .rflags = X86_IF | 2};
	unsigned k;

	memcpy(from.gpr, s->gpr, sizeof(from.gpr));
	for (k = 0; k < 16; k++)
		memcpy(from.vec[k], s->vec[k], 16);
	from.x87.mxcsr = 0x1f80;
	from.x87.fcw = s->fcw;
	memcpy((void *)DATA, s->data, sizeof(s->data));
	memcpy((void *)CODE, code, sizeof(code));
	native_run_program(m32 ? ISA_PROT32 : ISA_LONG64, &from, to);
}

/* Not RF, which belongs to the exception, nor where the last x87 instruction was. */
static unsigned top_of(const struct isa_x87 *x)
{
	return x->fsw >> 11 & 7;
}

/* Did the program end at an x87 instruction? */
static bool at_x87(const struct fake *a)
{
	u64 at = a->cpu->c.s.rip - CODE;

	while (at < sizeof(code) - 1 && (code[at] == 0x66 || (!m32 && (code[at] & 0xf0) == 0x40)))
		at++;
	return at < sizeof(code) && (code[at] & 0xf8) == 0xd8;
}

/*
 * Where this CPU may end a program elsewhere: data is not executable there; and Intel's take an
 * unmasked x87 exception before they look whether the result could be stored.
 */
static bool ends_elsewhere(const struct fake *a, const struct tstate *t)
{
	if (t->vector == X86_PF_VEC && (t->error & 0x10) && t->cr2 - DATA < DATA_SIZE)
		return true;
	/* It shows in the next x87 instruction, which something else may come before. */
	return a->ev.vector == X86_PF_VEC && at_x87(a) &&
	       (t->x87.fsw & ~a->cpu->c.r.x87.fsw & 0x80);
}

static bool same_native(const struct fake *a, enum fake_exit x, const struct tstate *t)
{
	const struct isa_cpu *c = &a->cpu->c;
	bool ok = x == X_EXCEPTION && t->faulted;
	/* Intel's FSTP and FBSTP write a part before they find that the rest cannot be written. */
	size_t size = DATA_SIZE - (t->cr2 == DATA + DATA_SIZE ? 10 : 0);
	/* Some switch to MMX before a store faults: TOP. */
	u16 fsw_mask = t->vector == X86_PF_VEC ? (u16)~0x3800 : 0xffff;
	unsigned k;

	if (ok && ends_elsewhere(a, t))
		return true;
	for (k = 0; k < 16; k++) {
		/* In 32-bit code the rest is not there. */
		if (m32 && k >= 8)
			continue;
		ok &= m32 ? (u32)c->r.gpr[k] == (u32)t->gpr[k] : c->r.gpr[k] == t->gpr[k];
		ok &= !memcmp(c->r.vec[k].b, t->vec[k], 32);
	}
	ok &= c->s.rip == t->rip && !((isa_flags(c) ^ t->rflags) & ~(u64)X86_RF);
	ok &= c->r.x87.fcw == t->x87.fcw && !((c->r.x87.fsw ^ t->x87.fsw) & fsw_mask);
	ok &= c->r.x87.ftw == t->x87.ftw && c->r.x87.mxcsr == t->x87.mxcsr;
	for (k = 0; k < 8; k++) /* by number, not from TOP */
		ok &= !memcmp(c->r.x87.st[(k - top_of(&c->r.x87)) & 7],
			      t->x87.st[(k - top_of(&t->x87)) & 7], 10);
	ok &= !memcmp(a->mem + DATA_AT, (void *)DATA, size);
	ok &= a->ev.vector == t->vector;
	/* The host's kernel has pages in the upper half. */
	if (ok && t->vector == X86_PF_VEC)
		ok = (a->ev.error | t->cr2 >> 63) == (t->error | t->cr2 >> 63) &&
		     !((a->ev.payload ^ t->cr2) & PAGE_MASK);
	return ok;
}

static void report_native(const struct tstate *t)
{
	unsigned k;

	printf("native: vector %u error %x cr2 %llx rip %llx flags %llx\n", t->vector, t->error,
	       (unsigned long long)t->cr2, (unsigned long long)t->rip,
	       (unsigned long long)t->rflags);
	for (k = 0; k < 16; k++)
		printf(" %llx", (unsigned long long)t->gpr[k]);
	printf("\nfcw %x fsw %x ftw %x mxcsr %x", t->x87.fcw, t->x87.fsw, t->x87.ftw, t->x87.mxcsr);
	for (k = 0; k < 8; k++)
		printf(" %04x:%016llx", *(const u16 *)(t->x87.st[k] + 8),
		       (unsigned long long)*(const u64 *)t->x87.st[k]);
	printf("\n");
}

static void report(const char *name, const struct fake *f, enum fake_exit x)
{
	const struct isa_cpu *c = &f->cpu->c;
	unsigned k;

	printf("%s: %u bit, exit %d vector %u rip %llx flags %llx insns %llu\n", name,
	       m32 ? 32 : 64, x, f->ev.vector, (unsigned long long)c->s.rip,
	       (unsigned long long)isa_flags(c), (unsigned long long)f->cpu->n.instructions);
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
	unsigned faults = 0, natives = 0, round, length;
	u64 total = 0;
	static struct fake a, b;
	static struct start s;
	struct tstate t;

	if (!jit_supported())
		return 77;
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	native = native_init() && !mprotect((void *)(CODE + PAGE_SIZE), PAGE_SIZE,
					    PROT_READ | PROT_WRITE | PROT_EXEC);
	make(&a, SIL_ENGINE_INTERP);
	make(&b, SIL_ENGINE_JIT);
	for (k = 0; k < n && bad < 3; k++) {
		u64 this = seed = k * 0x9e3779b97f4a7c15ull + (argc > 2 ? seed : 1);

		/* Mostly translated at once. */
		b.m->cfg.translate_after = k % 4 ? 0 : 1 + k / 4 % 3;
		memset(code, 0xf4, sizeof(code));
		with_x87 = below(3) == 0;
		m32 = below(3) == 0;
		user = below(3) == 0;
		pcid = !user && below(3) == 0;
		length = program();
		program_start(&s);
		/* The second time the TLB and the translations are there. */
		for (round = 0; round < 2; round++) {
			enum fake_exit xa = run(&a, &s), xb = run(&b, &s);
			bool ok = same(&a, &b, xa, xb), all = ok;

			faults += xa == X_EXCEPTION;
			total += b.cpu->n.instructions;
			if (user && native && native_has_mode(m32 ? ISA_PROT32 : ISA_LONG64)) {
				run_native(&s, &t);
				natives++;
				all = ok && same_native(&a, xa, &t);
			}
			if (all)
				continue;
			bad++;
			printf("MISMATCH program %u, seed %llx, round %u\n", k,
			       (unsigned long long)this, round);
			report("interp", &a, xa);
			report("jit", &b, xb);
			if (ok)
				report_native(&t);
			for (i = 0; i < length; i++)
				printf("%02x", code[code_start + i]);
			printf("\nboth pages:\n");
			for (i = 0; i < sizeof(code); i++)
				printf("%02x", code[i]);
			printf("\n");
			break;
		}
	}
	printf("%u programs, %llu instructions, %llu of them changes of privilege and the like, "
	       "%u runs ended by a fault, %u on this CPU too, %u with differences\n",
	       k, (unsigned long long)total, (unsigned long long)b.cpu->n.jit_lean, faults, natives,
	       bad);
	fake_fini(&a);
	fake_fini(&b);
	return bad != 0;
}
