/* SPDX-License-Identifier: MIT */
/*
 * The page walker in every format: permissions, reserved bits, error codes, accessed and dirty
 * bits, nested paging. Expected values are the tables of SDM vol. 3A, chapter 4 and vol. 3C,
 * chapter 29.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake.h"
#include "silicon/paging/tlb.h"

#define P  0x1u
#define W  0x2u
#define U  0x4u
#define A  0x20u
#define D  0x40u
#define PS 0x80u
#define G  0x100u
#define NX (1ull << 63)

static struct fake f;

/* A processor in @fmt; with @nested, guest memory is identity-mapped by 4-level EPT with A/D off.
 */
static void setup(enum pg_format fmt, bool nested, unsigned cpl)
{
	u64 k;

	fake_init(&f);
	if (nested) {
		fake_ept(&f, 4, false);
		for (k = 0; k < FAKE_MEM >> 12; k++)
			fake_ept_map(&f, k << 12, (u64)f.mem + (k << 12), 1, 7);
	}
	f.cpu->c.s.cr3 = fake_page(&f);
	if (fmt == PG_4L || fmt == PG_5L) {
		f.cpu->c.s.cr4 |= CR4_LA57;
		fake_mode64(&f, cpl);
		if (fmt == PG_5L)
			f.cpu->c.s.cr4 |= CR4_LA57;
	} else {
		fake_mode32(&f, cpl, true, fmt == PG_PAE);
	}
	cpu_context_changed(f.cpu);
}

static void expect_ok(u64 la, unsigned how, u64 gpa)
{
	struct walk_out o;

	assert_int_equal(fake_walk(&f, la, how, &o), X_NONE);
	assert_int_equal(o.gpa, gpa);
	assert_int_equal(o.hpa, f.cpu->world.nested ? (u64)f.mem + gpa : gpa);
}

static void expect_pf(u64 la, unsigned how, u32 err)
{
	struct walk_out o;

	assert_int_equal(fake_walk(&f, la, how, &o), X_EXCEPTION);
	assert_int_equal(f.ev.vector, 14);
	assert_int_equal(f.ev.payload, la);
	assert_int_equal(f.ev.error, err);
}

/* Every combination of rights in the leaf, against a table-driven oracle written out by rule. */
static void rights(enum pg_format fmt, bool nested)
{
	static const unsigned hows[] = {0, ISA_ACC_WRITE, ISA_ACC_FETCH};
	unsigned cpl, leaf, h, wp, smep, smap, ac, nx;
	u64 la = fmt == PG_5L ? 0x12345000555000ull : fmt == PG_4L ? 0x345000555000ull : 0x40555000;

	for (cpl = 0; cpl <= 3; cpl += 3) {
		setup(fmt, nested, cpl);
		for (leaf = 0; leaf < 4; leaf++)
			for (nx = 0; nx < (fmt == PG_32 ? 1 : 2); nx++)
				for (wp = 0; wp < 2; wp++)
					for (smep = 0; smep < 2; smep++)
						for (smap = 0; smap < 2; smap++)
							for (ac = 0; ac < 2; ac++)
								for (h = 0; h < 3; h++) {
									struct isa_sys *s =
										&f.cpu->c.s;
									bool u = leaf & 2,
									     w = leaf & 1, bad;
									u32 err;

									fake_map(&f, fmt, la, 1,
										 0x7000 | P |
											 (w ? W
											    : 0) |
											 (u ? U
											    : 0) |
											 (nx ? NX
											     : 0),
										 P | W | U);
									s->cr0 =
										(s->cr0 & ~CR0_WP) |
										(wp ? CR0_WP : 0);
									s->cr4 = (s->cr4 &
										  ~(CR4_SMEP |
										    CR4_SMAP)) |
										 (smep ? CR4_SMEP
										       : 0) |
										 (smap ? CR4_SMAP
										       : 0);
									s->rflags =
										(s->rflags &
										 ~X86_AC) |
										(ac ? X86_AC : 0);
									cpu_context_changed(f.cpu);
									tlb_flush_all(f.cpu);

									if (cpl == 3)
										bad = !u ||
										      (h == 1 &&
										       !w) ||
										      (h == 2 &&
										       nx);
									else if (h == 2)
										bad = nx ||
										      (smep && u);
									else
										bad = (smap && u &&
										       !ac) ||
										      (h == 1 &&
										       !w && wp);
									err = 1 | (h == 1 ? 2 : 0) |
									      (cpl == 3 ? 4 : 0) |
									      (h == 2 && (smep ||
											  fmt != PG_32)
										       ? 16
										       : 0);
									if (bad)
										expect_pf(
											la + 0x123,
											hows[h],
											err);
									else
										expect_ok(
											la + 0x123,
											hows[h],
											0x7123);
								}
		fake_fini(&f);
	}
}

static void test_rights(void **state)
{
	enum pg_format fmt;

	/* Without nested paging 32-bit tables would need memory below 4 GiB. */
	for (fmt = PG_32; fmt <= PG_5L; fmt++) {
		rights(fmt, true);
		if (fmt >= PG_PAE)
			rights(fmt, false);
	}
}

static void test_not_present(void **state)
{
	setup(PG_4L, true, 3);
	expect_pf(0x1000, 0, 4);
	expect_pf(0x1000, ISA_ACC_WRITE, 6);
	expect_pf(0x1000, ISA_ACC_FETCH, 0x14);
	expect_pf(0x1000, ISA_ACC_SYS, 0);
	fake_fini(&f);
}

static void test_reserved(void **state)
{
	static const struct {
		enum pg_format fmt;
		unsigned level;
		u64 bit;
		bool nxe;
	} t[] = {
		{PG_4L, 4, PS, true},
		{PG_4L, 3, PS | 1u << 13, true},
		{PG_4L, 3, PS | 1u << 29, true},
		{PG_4L, 2, PS | 1u << 13, true},
		{PG_4L, 2, PS | 1u << 20, true},
		{PG_4L, 1, NX, false},
		{PG_4L, 4, NX, false},
		{PG_5L, 5, PS, true},
		{PG_PAE, 1, 1ull << 62, true},
		{PG_PAE, 2, 1ull << 52, true},
		{PG_PAE, 1, NX, false},
		{PG_PAE, 2, PS | 1u << 14, true},
		{PG_32, 2, PS | 1u << 21, true},
	};
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(t); k++) {
		setup(t[k].fmt, true, 0);
		if (!t[k].nxe)
			f.cpu->c.s.efer &= ~EFER_NXE;
		cpu_context_changed(f.cpu);
		fake_map(&f, t[k].fmt, 0x600000, 1, 0x7000 | P | W, P | W);
		fake_map(&f, t[k].fmt, 0x600000, t[k].level, 0x8000 | P | W | t[k].bit, P | W);
		expect_pf(0x600000, 0, 1 | 8);
		fake_fini(&f);
	}
}

static void test_large(void **state)
{
	setup(PG_4L, true, 0);
	fake_map(&f, PG_4L, 1ull << 30, 3, 0 | P | W | PS, P | W);
	fake_map(&f, PG_4L, 2ull << 30, 2, 0x200000 | P | W | PS, P | W);
	expect_ok((1ull << 30) + 0x345678, 0, 0x345678);
	expect_ok((2ull << 30) + 0x123456, ISA_ACC_WRITE, 0x323456);
	fake_fini(&f);

	setup(PG_PAE, true, 0);
	fake_map(&f, PG_PAE, 0xc0000000, 2, 0x400000 | P | W | PS, 0);
	expect_ok(0xc0123456, 0, 0x523456);
	fake_fini(&f);

	setup(PG_32, true, 0);
	fake_map(&f, PG_32, 0xc0000000, 2, 0x400000 | P | W | PS, 0);
	expect_ok(0xc0323456, 0, 0x723456);
	f.cpu->c.s.cr4 &= ~CR4_PSE;
	cpu_context_changed(f.cpu);
	tlb_flush_all(f.cpu);
	/* Without PSE the bit is ignored and the entry points to a table, at 0x400000. */
	expect_pf(0xc0323456, 0, 0);
	fake_fini(&f);
}

static void test_accessed_dirty(void **state)
{
	u64 e[5], la = 0x7f1234567000ull;
	unsigned l;

	setup(PG_4L, true, 0);
	e[1] = fake_map(&f, PG_4L, la, 1, 0x7000 | P | W, P | W);
	for (l = 2; l <= 4; l++) {
		u64 t = f.cpu->c.s.cr3;
		unsigned k;

		for (k = 4; k > l; k--)
			t = fake_get(&f, t + ((la >> (12 + 9 * (k - 1))) & 511) * 8) &
			    0xffffffffff000ull;
		e[l] = t + ((la >> (12 + 9 * (l - 1))) & 511) * 8;
		assert_int_equal(fake_get(&f, e[l]) & (A | D), 0);
	}
	expect_ok(la, 0, 0x7000);
	for (l = 1; l <= 4; l++)
		assert_int_equal(fake_get(&f, e[l]) & (A | D), A);
	expect_ok(la, ISA_ACC_WRITE, 0x7000);
	assert_int_equal(fake_get(&f, e[1]) & (A | D), A | D);
	assert_int_equal(fake_get(&f, e[2]) & (A | D), A);
	fake_fini(&f);

	/* A forbidden access leaves no trace. */
	setup(PG_4L, true, 3);
	e[1] = fake_map(&f, PG_4L, la, 1, 0x7000 | P | U, P | W | U);
	expect_pf(la, ISA_ACC_WRITE, 7);
	assert_int_equal(fake_get(&f, e[1]) & (A | D), 0);
	fake_fini(&f);
}

static void test_keys(void **state)
{
	unsigned ad, wd, wp, write, cpl;

	for (cpl = 0; cpl <= 3; cpl += 3) {
		setup(PG_4L, true, cpl);
		fake_map(&f, PG_4L, 0x5000, 1, 0x7000 | P | W | U | 5ull << 59, P | W | U);
		f.cpu->c.s.cr4 |= CR4_PKE;
		for (ad = 0; ad < 2; ad++)
			for (wd = 0; wd < 2; wd++)
				for (wp = 0; wp < 2; wp++)
					for (write = 0; write < 2; write++) {
						bool bad = ad || (wd && write && (cpl == 3 || wp));

						f.cpu->c.s.cr0 = (f.cpu->c.s.cr0 & ~CR0_WP) |
								 (wp ? CR0_WP : 0);
						f.cpu->c.r.pkru = (ad | wd << 1) << 10;
						cpu_context_changed(f.cpu);
						if (bad)
							expect_pf(0x5000, write,
								  1 | write << 1 |
									  (cpl == 3 ? 4 : 0) | 32);
						else
							expect_ok(0x5000, write, 0x7000);
						/* Keys do not concern fetches. */
						expect_ok(0x5000, ISA_ACC_FETCH, 0x7000);
					}
		fake_fini(&f);
	}
}

/* Implicit supervisor accesses of user pages under SMAP fault whatever AC says. */
static void test_smap_implicit(void **state)
{
	setup(PG_4L, true, 3);
	fake_map(&f, PG_4L, 0x5000, 1, 0x7000 | P | W | U, P | W | U);
	f.cpu->c.s.cr4 |= CR4_SMAP;
	f.cpu->c.s.rflags |= X86_AC;
	cpu_context_changed(f.cpu);
	expect_ok(0x5000, 0, 0x7000);
	expect_pf(0x5000, ISA_ACC_SYS, 1);
	fake_fini(&f);
}

/* ---- Nested ---- */

static void expect_violation(u64 la, unsigned how, u64 gpa, u64 qual)
{
	struct walk_out o;

	nested_flush(f.cpu, 0);
	assert_int_equal(fake_walk(&f, la, how, &o), X_VIOLATION);
	assert_int_equal(f.gpa, gpa);
	assert_int_equal(f.qual, qual);
	assert_int_equal(f.la, la);
}

static void test_ept_violations(void **state)
{
	unsigned levels, x;
	u64 pte;

	for (levels = 4; levels <= 5; levels++) {
		setup(PG_4L, true, 0);
		if (levels == 5) {
			u64 k;

			fake_ept(&f, 5, false);
			for (k = 0; k < FAKE_MEM >> 12; k++)
				fake_ept_map(&f, k << 12, (u64)f.mem + (k << 12), 1, 7);
			nested_flush(f.cpu, 0);
		}
		pte = fake_map(&f, PG_4L, 0x5000, 1, 0x7000 | P | W | U, P | W | U);
		expect_ok(0x5008, ISA_ACC_WRITE, 0x7008);
		/* Leaf with each combination of rights that is no misconfiguration. */
		for (x = 0; x < 8; x++) {
			if ((x & 3) == 2)
				continue;
			*fake_ept_entry(&f, 0x7000, 1) = x ? (u64)f.mem + 0x7000 + x + 0x30 : 0;
			/* Bits 7, 8: translation of a linear address; 9, 10: user, writable. */
			if (!(x & 1))
				expect_violation(0x5008, 0, 0x7008, 1 | x << 3 | 0x780);
			if (!(x & 2))
				expect_violation(0x5008, ISA_ACC_WRITE, 0x7008, 2 | x << 3 | 0x780);
			if (!(x & 2))
				expect_violation(0x5008, ISA_ACC_WRITE | ISA_ACC_RMW, 0x7008,
						 3 | x << 3 | 0x780);
			if (!(x & 4))
				expect_violation(0x5008, ISA_ACC_FETCH, 0x7008, 4 | x << 3 | 0x780);
			else
				expect_ok(0x5008, ISA_ACC_FETCH, 0x7008);
		}
		/* A table page that is not there; one that cannot take accessed flags. */
		*fake_ept_entry(&f, 0x7000, 1) = (u64)f.mem + 0x7000 + 0x37;
		*fake_ept_entry(&f, pte, 1) = 0;
		expect_violation(0x5008, 0, pte, 1 | 0x80);
		*fake_ept_entry(&f, pte, 1) = (u64)f.mem + (pte & ~0xfffull) + 0x35;
		fake_set(&f, pte, 0x7000 | P | W | U);
		expect_violation(0x5008, 0, pte, 3 | 5 << 3 | 0x80);
		fake_set(&f, pte, 0x7000 | P | W | U | A);
		expect_ok(0x5008, 0, 0x7008);
		/* With EPT accessed/dirty flags, reading a table is a write to it. */
		f.cpu->world.ept_ad = true;
		expect_violation(0x5008, 0, pte, 3 | 5 << 3 | 0x80);
		fake_fini(&f);
	}
}

static void test_ept_misconfig(void **state)
{
	static const struct {
		unsigned level;
		u64 e;
	} t[] = {
		{1, 2 | 0x30},		{1, 6 | 0x30},
		{1, 7 | 2 << 3},	{1, 7 | 3 << 3},
		{1, 7 | 7 << 3},	{2, 7 | 0x80 | 0x30 | 0x1000},
		{2, 7 | 0x80 | 7 << 3}, {3, 7 | 0x80 | 0x30 | 1u << 29},
		{2, 7 | 0x8},		{4, 7 | 0x80},
		{3, 7 | 0x40},
	};
	struct walk_out o;
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(t); k++) {
		setup(PG_4L, true, 0);
		fake_map(&f, PG_4L, 0x5000, 1, (5ull << 39) | 0x40000000 | P | W, P | W);
		fake_ept_map(&f, 5ull << 39 | 0x40000000, (u64)f.mem, 1, 7);
		*fake_ept_entry(&f, 5ull << 39 | 0x40000000, t[k].level) = t[k].e;
		nested_flush(f.cpu, 0);
		assert_int_equal(fake_walk(&f, 0x5000, 0, &o), X_MISCONFIG);
		assert_int_equal(f.gpa, 5ull << 39 | 0x40000000);
		fake_fini(&f);
	}
}

static void test_ept_ad(void **state)
{
	u64 *leaf, pte;
	struct walk_out o;

	setup(PG_4L, true, 0);
	pte = fake_map(&f, PG_4L, 0x5000, 1, 0x7000 | P | W, P | W);
	f.cpu->world.ept_ad = true;
	f.cpu->world.pml = true;
	nested_flush(f.cpu, 0);
	leaf = fake_ept_entry(&f, 0x7000, 1);
	assert_int_equal(fake_walk(&f, 0x5000, 0, &o), X_NONE);
	assert_int_equal(*leaf & 0x300, 0x100);
	/* The table's page was accessed and, as walks count as writes, dirtied and logged. */
	assert_int_equal(*fake_ept_entry(&f, pte, 1) & 0x300, 0x300);
	assert_int_equal(*fake_ept_entry(&f, 0x7000, 4) & 0x100, 0x100);
	f.gpa = 0;
	assert_int_equal(fake_walk(&f, 0x5010, ISA_ACC_WRITE, &o), X_NONE);
	assert_int_equal(*leaf & 0x300, 0x300);
	assert_int_equal(f.gpa, 0x7010);
	fake_fini(&f);
}

static void test_ept_large(void **state)
{
	struct walk_out o;

	setup(PG_4L, true, 0);
	fake_map(&f, PG_4L, 0x5000, 1, (3ull << 30 | 0x345000) | P | W, P | W);
	fake_ept_map(&f, 3ull << 30, 0, 3, 7);
	*fake_ept_entry(&f, 3ull << 30, 3) = 1ull << 30 | 0xb7;
	assert_int_equal(fake_walk(&f, 0x5678, 0, &o), X_NONE);
	assert_int_equal(o.hpa, 1ull << 30 | 0x345678);
	*fake_ept_entry(&f, 3ull << 30, 3) = 0;
	nested_flush(f.cpu, 0);
	fake_ept_map(&f, 3ull << 30 | 0x200000, 0x40000000, 2, 7);
	assert_int_equal(fake_walk(&f, 0x5678, 0, &o), X_NONE);
	assert_int_equal(o.hpa, 0x40145678);
	fake_fini(&f);
}

static void test_mbec(void **state)
{
	struct walk_out o;

	setup(PG_4L, true, 0);
	fake_map(&f, PG_4L, 0x5000, 1, 0x7000 | P | W | U, P | W | U);
	fake_map(&f, PG_4L, 0x6000, 1, 0x7000 | P | W, P | W | U);
	f.cpu->world.ept_mbec = true;
	*fake_ept_entry(&f, 0x7000, 1) = ((u64)f.mem + 0x7000) | 0x35; /* X for supervisor only */
	nested_flush(f.cpu, 0);
	assert_int_equal(fake_walk(&f, 0x6000, ISA_ACC_FETCH, &o), X_NONE);
	assert_int_equal(fake_walk(&f, 0x5000, ISA_ACC_FETCH, &o), X_VIOLATION);
	assert_int_equal(f.qual, 4 | 5 << 3 | 0x780);
	fake_fini(&f);
}

static void test_pdptes(void **state)
{
	u64 pdpte[4];

	setup(PG_PAE, true, 0);
	fake_set(&f, 0x3fe0, 0x1000 | P);
	fake_set(&f, 0x3fe8, 0);
	fake_set(&f, 0x3ff0, 0x6); /* reserved bits of an entry that is not present */
	fake_set(&f, 0x3ff8, 0x2000 | P);
	assert_true(cpu_load_pdptes(f.cpu, 0x3fe0, pdpte));
	assert_int_equal(pdpte[3], 0x2001);
	fake_set(&f, 0x3ff0, 0x7);
	assert_false(cpu_load_pdptes(f.cpu, 0x3fe0, pdpte));
	fake_fini(&f);
}

/* ---- Flushes ---- */

static u8 *host_of(u64 la, bool write)
{
	return tlb_translate(f.cpu, la, write ? ISA_ACC_WRITE : 0);
}

/*
 * SDM vol. 3A, 4.10.2.3: a processor may have several entries for a large page, and software cannot
 * know; so INVLPG of any address in it is about all of them. @nested: the page is 2 MiB for the
 * guest only.
 */
static void large_flush(enum pg_format fmt, bool nested, bool global)
{
	static const u32 at[] = {0, 0x1000, 0x5678, 0x1ff000, 0x1fffff, 0x2000, 0x3000};
	u64 la = 0x40000000, base, step = 2 << 20;
	unsigned k, n, pass;

	setup(fmt, nested, 0);
	base = nested ? 0x400000 : align_up((u64)f.mem, 2 << 20) + (4 << 20);
	for (k = 0; k < 8 << 20; k += PAGE_SIZE)
		f.mem[k] = 0;
	if (global)
		f.cpu->c.s.cr4 |= CR4_PGE | CR4_PCIDE;
	if (fmt == PG_32)
		step = 4 << 20;
	cpu_context_changed(f.cpu);
	for (pass = 0; pass < 4; pass++) {
		u64 to = base + (pass & 1) * step;

		fake_map(&f, fmt, la, 2, to | P | W | PS | (global ? G : 0), P | W);
		/* Any address in it; with global pages also from another context. */
		if (pass && global) {
			f.cpu->c.s.cr3 ^= 1;
			cpu_context_changed(f.cpu);
		}
		if (pass)
			tlb_invlpg(f.cpu, la + (pass == 2 ? step - 1 : 0x7000));
		if (pass && global) {
			f.cpu->c.s.cr3 ^= 1;
			cpu_context_changed(f.cpu);
		}
		for (n = 0; n < 2; n++)
			for (k = 0; k < ARRAY_SIZE(at); k++)
				assert_ptr_equal(host_of(la + at[k], n ^ (pass & 1)),
						 (nested ? f.mem : NULL) + to + at[k]);
	}
	fake_fini(&f);
}

static void test_large_flush(void **state)
{
	large_flush(PG_4L, false, false);
	large_flush(PG_4L, true, false);
	large_flush(PG_4L, false, true);
	large_flush(PG_4L, true, true);
	large_flush(PG_32, true, false);
}

/* Pages that share an entry of the first level stay known to the second, with their rights, until
 * they are flushed. */
static void test_second_level(void **state)
{
	u64 a = 0x40000000, b = a + ((u64)ISA_TLB_SIZE << PAGE_SHIFT), walks;
	unsigned k;

	setup(PG_4L, true, 0);
	fake_map(&f, PG_4L, a, 1, 0x7000 | P | W, P | W);
	fake_map(&f, PG_4L, b, 1, 0x8000 | P | W | A, P | W);
	assert_ptr_equal(host_of(a + 5, true), f.mem + 0x7005);
	assert_ptr_equal(host_of(b + 6, false), f.mem + 0x8006);
	walks = f.cpu->n.tlb_miss_read + f.cpu->n.tlb_miss_write;
	for (k = 0; k < 10; k++) {
		assert_ptr_equal(host_of(a + k, k & 1), f.mem + 0x7000 + k);
		assert_ptr_equal(host_of(b + k, false), f.mem + 0x8000 + k);
	}
	assert_int_equal(f.cpu->n.tlb_miss_read + f.cpu->n.tlb_miss_write, walks);
	/* Read only so far: the first write sets the dirty flag. */
	host_of(b, true);
	assert_int_equal(f.cpu->n.tlb_miss_read + f.cpu->n.tlb_miss_write, walks + 1);
	/* Each flush takes what it is about. */
	fake_map(&f, PG_4L, a, 1, 0x9000 | P | W, P | W);
	tlb_invlpg(f.cpu, a + 0xfff);
	assert_ptr_equal(host_of(b, true), f.mem + 0x8000);
	assert_ptr_equal(host_of(a, true), f.mem + 0x9000);
	fake_map(&f, PG_4L, a, 1, 0xa000 | P | W, P | W);
	fake_map(&f, PG_4L, b, 1, 0xb000 | P | W, P | W);
	tlb_flush_pcid(f.cpu, 0, false);
	assert_ptr_equal(host_of(a, false), f.mem + 0xa000);
	assert_ptr_equal(host_of(b, false), f.mem + 0xb000);
	/* More generations than there are. */
	for (k = 0; k < 10000; k++) {
		u64 to = 0x7000 + (k & 3) * PAGE_SIZE;

		fake_map(&f, PG_4L, a, 1, to | P | W, P | W);
		tlb_flush_pcid(f.cpu, 0, false);
		assert_ptr_equal(host_of(a, false), f.mem + to);
		assert_ptr_equal(host_of(b, false), f.mem + 0xb000);
		assert_ptr_equal(host_of(a, false), f.mem + to);
	}
	fake_fini(&f);
}

int main(void)
{
	const struct CMUnitTest t[] = {
		cmocka_unit_test(test_rights),	       cmocka_unit_test(test_not_present),
		cmocka_unit_test(test_reserved),       cmocka_unit_test(test_large),
		cmocka_unit_test(test_accessed_dirty), cmocka_unit_test(test_keys),
		cmocka_unit_test(test_smap_implicit),  cmocka_unit_test(test_ept_violations),
		cmocka_unit_test(test_ept_misconfig),  cmocka_unit_test(test_ept_ad),
		cmocka_unit_test(test_ept_large),      cmocka_unit_test(test_mbec),
		cmocka_unit_test(test_pdptes),	       cmocka_unit_test(test_large_flush),
		cmocka_unit_test(test_second_level),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
