/* SPDX-License-Identifier: MIT */
/* Locked instructions of two processors on the same memory lose nothing. */
#include <pthread.h>

#include "cm.h"

#define ROUNDS 100000u
/* Over two cache lines: hosts may slow down who does that (split_lock_detect), by 10 ms each. */
#define ROUNDS_SPLIT 1000u

static const struct {
	const char *name;
	u8 bytes[8], len;
} insns[] = {
	{"lock inc dword [rbx]", {0xf0, 0xff, 0x03}, 3},
	{"lock add byte [rbx], 1", {0xf0, 0x80, 0x03, 0x01}, 4},
	{"lock xadd [rbx], rax", {0xf0, 0x48, 0x0f, 0xc1, 0x03}, 5},
	{"lock adc word [rbx], 0, with CF", {0x66, 0xf0, 0x83, 0x13, 0x00}, 5},
	{"lock sub dword [rbx], -1", {0xf0, 0x83, 0x2b, 0xff}, 4},
};

struct runner {
	struct flatcpu *f;
	struct isa_insn i;
	unsigned rounds;
	pthread_t thread;
};

static void *run(void *opaque)
{
	struct runner *r = opaque;
	struct isa_cpu *c = &r->f->c;
	unsigned k;

	for (k = 0; k < r->rounds; k++) {
		c->r.gpr[RAX] = 1;
		isa_set_status(c, X86_CF);
		c->insn = &r->i;
		r->i.exec(c, &r->i);
	}
	return NULL;
}

static void locked(void **state)
{
	unsigned n, k, unaligned;

	for (n = 0; n < ARRAY_SIZE(insns); n++) {
		for (unaligned = 0; unaligned < 2; unaligned++) {
			struct runner r[2];
			u64 at = FLAT_DATA + (unaligned ? 61 : 0), mask;
			u8 *own = NULL;

			for (k = 0; k < 2; k++) {
				r[k].f = flat_long(0);
				r[k].rounds = unaligned ? ROUNDS_SPLIT : ROUNDS;
				if (k) {
					own = r[1].f->mem;
					r[1].f->mem = r[0].f->mem;
				}
				flat_tlb(r[k].f, true);
				r[k].f->c.r.gpr[RBX] = at;
				isa_decode(insns[n].bytes, insns[n].len, ISA_LONG64, &r[k].i);
			}
			for (k = 0; k < 2; k++)
				assert_int_equal(pthread_create(&r[k].thread, NULL, run, &r[k]), 0);
			for (k = 0; k < 2; k++)
				pthread_join(r[k].thread, NULL);
			mask = mask_size(~0ull, r[0].i.o[0].size);
			assert_true(flat_peek(r[0].f, (u32)at, 8) == ((2ull * r[0].rounds) & mask));
			r[1].f->mem = own;
			flat_free(r[0].f);
			flat_free(r[1].f);
		}
	}
}

/* lock cmpxchg16b as a counter of 128 bits whose halves must agree. */
static void *run16(void *opaque)
{
	struct runner *r = opaque;
	struct isa_cpu *c = &r->f->c;
	unsigned k;

	for (k = 0; k < ROUNDS / 4;) {
		u64 *g = c->r.gpr;

		g[RBX] = g[RAX] + 1;
		g[RCX] = g[RDX] + 2;
		c->insn = &r->i;
		r->i.exec(c, &r->i);
		k += isa_zf(c);
	}
	return NULL;
}

static void locked16(void **state)
{
	static const u8 insn[] = {0xf0, 0x48, 0x0f, 0xc7, 0x0e}; /* lock cmpxchg16b [rsi] */
	struct runner r[2];
	u8 *own = NULL;
	unsigned k;

	for (k = 0; k < 2; k++) {
		r[k].f = flat_long(0);
		if (k) {
			own = r[1].f->mem;
			r[1].f->mem = r[0].f->mem;
		}
		flat_tlb(r[k].f, true);
		r[k].f->c.r.gpr[RSI] = FLAT_DATA;
		isa_decode(insn, sizeof(insn), ISA_LONG64, &r[k].i);
	}
	for (k = 0; k < 2; k++)
		assert_int_equal(pthread_create(&r[k].thread, NULL, run16, &r[k]), 0);
	for (k = 0; k < 2; k++)
		pthread_join(r[k].thread, NULL);
	assert_true(flat_peek(r[0].f, FLAT_DATA, 8) == ROUNDS / 2);
	assert_true(flat_peek(r[0].f, FLAT_DATA + 8, 8) == ROUNDS);
	r[1].f->mem = own;
	flat_free(r[0].f);
	flat_free(r[1].f);
}

/* Across pages there is no host atomic: mem_lock, mem_read, mem_write. */
static void split(void **state)
{
	struct flatcpu *f = flat_long(0);

	f->c.r.gpr[RBX] = FLAT_DATA + PAGE_SIZE - 2;
	flat_poke(f, FLAT_DATA + PAGE_SIZE - 2, 0xffff, 4);
	assert_int_equal(FLAT_EXEC(f, 0xf0, 0xff, 0x03), 0);
	assert_true(flat_peek(f, FLAT_DATA + PAGE_SIZE - 2, 4) == 0x10000);
	assert_int_equal(f->n_locked, 1);
	f->c.r.gpr[RAX] = 7;
	assert_int_equal(FLAT_EXEC(f, 0x87, 0x03), 0); /* xchg: locked without a prefix */
	assert_int_equal(f->n_locked, 2);
	assert_true(f->c.r.gpr[RAX] == 0x10000);
	flat_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locked),
		cmocka_unit_test(locked16),
		cmocka_unit_test(split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
