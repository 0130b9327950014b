/* SPDX-License-Identifier: MIT */
/* String instructions: fast and slow ways must do the same as one element after another. */
#include "cm.h"

/* rep movs of @n elements of @size from @src to @dst in C, as the manual's loop has it. */
static void reference(u8 *mem, u64 dst, u64 src, unsigned size, u64 n, bool down)
{
	while (n--) {
		u8 v[8];

		memcpy(v, mem + src, size);
		memcpy(mem + dst, v, size);
		src += down ? -(u64)size : size;
		dst += down ? -(u64)size : size;
	}
}

static void movs(void **state)
{
	static const struct {
		u32 dst, src;
	} where[] = {{0x40000, 0x50000}, {0x40001, 0x40000}, {0x40000, 0x40003},
		     {0x40ffd, 0x50ffe}, {0x41ff9, 0x41ff0}, {0x40808, 0x40800}};
	static const u8 op[2][4] = {{0xa4, 0x90, 0x90, 0x90}, {0xa5, 0x90, 0x90, 0x90}};
	struct flatcpu *f = flat_long(0);
	u8 *want = malloc(FLAT_MEM);
	unsigned w, size, down, tlb, k;

	for (w = 0; w < ARRAY_SIZE(where); w++)
		for (size = 1; size <= 8; size *= 2)
			for (down = 0; down < 2; down++)
				for (tlb = 0; tlb < 2; tlb++) {
					u64 n = 700 + w, *r = f->c.r.gpr;
					u64 step = down ? -n * size : n * size;
					u8 b[4] = {0xf3, 0x90, 0x90, 0x90};

					flat_tlb(f, tlb);
					for (k = 0x30000; k < 0x60000; k++)
						f->mem[k] = (u8)(k * 7 + (k >> 8));
					f->c.s.rip = FLAT_CODE;
					memset(f->mem + FLAT_CODE, 0x90, 15);
					k = 0;
					if (size == 2)
						b[k++] = 0x66;
					b[k++] = 0xf3;
					if (size == 8)
						b[k++] = 0x48;
					b[k++] = op[size > 1][0];
					memcpy(f->mem + FLAT_CODE, b, k);
					memcpy(want, f->mem, FLAT_MEM);
					reference(want, where[w].dst, where[w].src, size, n, down);
					r[RSI] = where[w].src;
					r[RDI] = where[w].dst;
					r[RCX] = n;
					f->c.s.rflags = 2 | (down ? X86_DF : 0);
					assert_int_equal(flat_step(f), 0);
					assert_int_equal(r[RCX], 0);
					assert_true(r[RSI] == where[w].src + step);
					assert_true(r[RDI] == where[w].dst + step);
					assert_memory_equal(want, f->mem, FLAT_MEM);
				}
	free(want);
	flat_free(f);
}

static void stops(void **state)
{
	struct flatcpu *f = flat_long(0);
	u64 *r = f->c.r.gpr;

	/* a request stops it after some progress, at itself */
	flat_tlb(f, true);
	r[RDI] = FLAT_DATA;
	r[RCX] = 0x3000;
	r[RAX] = 0x5a;
	f->c.request = 1;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0xaa), 0);
	assert_true(f->c.s.rip == FLAT_CODE);
	assert_true(r[RCX] && r[RCX] < 0x3000);
	assert_true(r[RDI] == FLAT_DATA + 0x3000 - r[RCX]);
	f->c.request = 0;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0xaa), 0);
	assert_true(f->c.s.rip == FLAT_CODE + 2);
	assert_int_equal(f->mem[FLAT_DATA + 0x2fff], 0x5a);
	assert_int_equal(f->mem[FLAT_DATA + 0x3000], 0);
	/* with TF, one element at a time */
	f->c.s.rip = FLAT_CODE;
	f->c.s.rflags |= X86_TF;
	r[RCX] = 2;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0xaa), 0);
	assert_int_equal(r[RCX], 1);
	assert_true(f->c.s.rip == FLAT_CODE);
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0xaa), 0);
	assert_true(f->c.s.rip == FLAT_CODE + 2);
	f->c.s.rflags &= ~X86_TF;
	/* a fault in the middle leaves what has been done */
	flat_tlb(f, false);
	f->c.s.rip = FLAT_CODE;
	r[RDI] = FLAT_MEM - 16;
	r[RCX] = 5;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x48, 0xab), ISA_THROW_FAULT);
	assert_int_equal(f->c.fault.vector, X86_PF_VEC);
	assert_int_equal(r[RCX], 3);
	assert_true(r[RDI] == FLAT_MEM);
	assert_true(f->c.s.rip == FLAT_CODE);
	flat_free(f);
}

static void compare(void **state)
{
	struct flatcpu *f = flat_long(0);
	u64 *r = f->c.r.gpr;

	memcpy(f->mem + FLAT_DATA, "abcdefg", 8);
	memcpy(f->mem + FLAT_DATA + 0x100, "abcdxfg", 8);
	r[RSI] = FLAT_DATA;
	r[RDI] = FLAT_DATA + 0x100;
	r[RCX] = 100;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0xa6), 0); /* repe cmpsb */
	assert_int_equal(r[RCX], 95);
	assert_false(isa_zf(&f->c));
	assert_true(isa_cf(&f->c)); /* 'e' < 'x' */
	r[RDI] = FLAT_DATA;
	r[RAX] = 0;
	r[RCX] = ~0ull;
	assert_int_equal(FLAT_EXEC(f, 0xf2, 0xae), 0); /* repne scasb */
	assert_true(~r[RCX] - 1 == 7);
	assert_true(isa_zf(&f->c));
	/* nothing to do: flags stay */
	r[RCX] = 0;
	isa_set_status(&f->c, X86_CF);
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0xa6), 0);
	assert_true(isa_cf(&f->c));
	flat_free(f);
}

static void address_size(void **state)
{
	struct flatcpu *f = flat_real();
	u64 *r = f->c.r.gpr;
	unsigned k;

	/* DI wraps at 64 KiB and keeps its upper half; ES has base */
	f->c.s.seg[ES].base = FLAT_DATA;
	f->c.s.seg[DS].base = FLAT_DATA;
	for (k = 0; k < 2; k++) {
		flat_tlb(f, k);
		f->c.s.rip = 0;
		r[RDI] = 0x1234fff8;
		r[RCX] = 0xabcd0010;
		r[RAX] = 0x11 * (k + 1);
		assert_int_equal(FLAT_EXEC(f, 0xf3, 0xaa), 0);
		assert_true(r[RDI] == 0x12340008);
		assert_true(r[RCX] == 0xabcd0000);
		assert_int_equal(f->mem[FLAT_DATA + 0xffff], r[RAX]);
		assert_int_equal(f->mem[FLAT_DATA + 7], r[RAX]);
		assert_int_equal(f->mem[FLAT_DATA + 8], 0);
	}
	/* a segment limit in the way of the fast path */
	f->c.s.seg[ES].limit = 0x1f;
	f->c.s.rip = 0;
	r[RDI] = 0x10;
	r[RCX] = 0x40;
	assert_fault(f, FLAT_EXEC(f, 0xf3, 0xaa), X86_GP, 0);
	assert_int_equal(r[RDI], 0x20);
	assert_int_equal(f->mem[FLAT_DATA + 0x1f], r[RAX]);
	assert_int_equal(f->mem[FLAT_DATA + 0x20], 0);
	flat_free(f);
}

static void ports(void **state)
{
	struct flatcpu *f = flat_prot(3);
	u64 *r = f->c.r.gpr;

	/* bitmap at 0x68, limit includes the byte after it */
	f->c.s.seg[TR].limit = 0x68 + 0x80;
	f->mem[FLAT_TSS + 0x68 + 0x60 / 8] = 0x02; /* port 0x61 closed */
	f->port_val = 0x41;
	assert_int_equal(FLAT_EXEC(f, 0xe4, 0x60), 0);
	assert_int_equal((u8)r[RAX], 0x41);
	assert_fault(f, FLAT_EXEC(f, 0xe4, 0x61), X86_GP, 0);
	assert_fault(f, FLAT_EXEC(f, 0x66, 0xe5, 0x60), X86_GP, 0);
	r[RDX] = 0x3f8;
	assert_int_equal(FLAT_EXEC(f, 0xec), 0);
	r[RDX] = 0x400; /* beyond the limit */
	assert_fault(f, FLAT_EXEC(f, 0xec), X86_GP, 0);
	f->c.s.rflags |= X86_IOPL;
	assert_int_equal(FLAT_EXEC(f, 0xec), 0);
	/* rep insb, rep outsb */
	f->port_val = 0x30;
	f->n_ports = 0;
	r[RDI] = FLAT_DATA;
	r[RCX] = 4;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x6c), 0);
	assert_int_equal(f->n_ports, 4);
	assert_memory_equal(f->mem + FLAT_DATA, "0123", 4);
	r[RSI] = FLAT_DATA;
	r[RCX] = 3;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x6e), 0);
	assert_int_equal(f->port_val, '2');
	/* nothing is read from the device for a destination that is not writable */
	f->n_ports = 0;
	r[RDI] = FLAT_MEM;
	r[RCX] = 1;
	assert_int_equal(FLAT_EXEC(f, 0xf3, 0x6c), ISA_THROW_FAULT);
	assert_int_equal(f->n_ports, 0);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(movs),		cmocka_unit_test(stops), cmocka_unit_test(compare),
		cmocka_unit_test(address_size), cmocka_unit_test(ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
