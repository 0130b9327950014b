/* SPDX-License-Identifier: MIT */
/*
 * What a cpu's jump cache knows, and whether it is as memory is: writers that are not processors
 * are noticed by comparing, at each KVM_RUN, the pages that the jump cache knows.
 */
#include "silicon/interp/codepage.h"
#include "silicon/jit/door.h"
#include "silicon/jit/jit.h"
#include "silicon/paging/tlb.h"

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

void jit_jc_clear(struct sil_cpu *cpu)
{
	unsigned w, k, n;

	for (w = 0; w < ARRAY_SIZE(cpu->j.jc_used); w++) {
		u64 parts = cpu->j.jc_used[w];

		for (; parts; parts &= parts - 1) {
			k = (w * 64 + (unsigned)__builtin_ctzll(parts)) * JIT_JC_PART;
			for (n = 0; n < JIT_JC_PART; n++)
				cpu->j.jc[k + n].tag = JIT_JC_EMPTY;
		}
		cpu->j.jc_used[w] = 0;
	}
	memset(cpu->j.there, 0, cpu->j.there_n * sizeof(cpu->j.there[0]));
	cpu->j.there_n = 0;
}

void jit_there(struct sil_cpu *cpu, const struct jit_page *p, u64 la)
{
	unsigned n = jit_page_number(cpu, p);

	cpu->j.there[n] = (la & PAGE_MASK) ^ cpu->j.xgen;
	cpu->j.there_n = MAX(cpu->j.there_n, n + 1);
}

void jit_lost(struct sil_cpu *cpu)
{
	unsigned k;

	for (k = 0; k < TLB_NBANKS; k++)
		cpu->tlb->bank[k].xgen = 0;
	cpu->j.xgen = 0;
	cpu->block_end = NULL;
	jit_hot_clear(cpu);
}

void jit_unknow(struct sil_cpu *cpu, const struct jit_block *b)
{
	u64 la = __atomic_load_n(&b->la, __ATOMIC_RELAXED), tag;
	struct jit_jc *e;
	unsigned k;

	if (la == JIT_LA_MANY) {
		jit_lost(cpu);
		return;
	}
	if (!la)
		return;
	for (k = 0; k < TLB_NBANKS; k++) {
		if (!cpu->tlb->bank[k].xgen)
			continue;
		tag = la ^ (u64)cpu->tlb->bank[k].xgen << JIT_GEN_SHIFT;
		e = &cpu->j.jc[tag * JIT_JC_HASH >> JIT_JC_SHIFT];
		if (e->tag == tag)
			e->tag = JIT_JC_EMPTY;
	}
}

/* ---- Comparing --------------------------------------------------------------------------------
 */

/* Lines of 64 bytes that differ in a byte that translations were made from. */
__attribute__((target("avx2"))) static u64 changed_lines(const struct jit_page *p)
{
	u64 lines = __atomic_load_n(&p->lines, __ATOMIC_ACQUIRE), changed = 0;

	for (; lines; lines &= lines - 1) {
		unsigned w = (unsigned)__builtin_ctzll(lines);
		u64 valid = __atomic_load_n(&p->src_valid[w], __ATOMIC_ACQUIRE);
		const __m256i *a = (const __m256i *)(p->page + 64 * w);
		const __m256i *b = (const __m256i *)(p->src + 64 * w);
		u32 lo = (u32)_mm256_movemask_epi8(
			_mm256_cmpeq_epi8(_mm256_loadu_si256(a), _mm256_loadu_si256(b)));
		u32 hi = (u32)_mm256_movemask_epi8(
			_mm256_cmpeq_epi8(_mm256_loadu_si256(a + 1), _mm256_loadu_si256(b + 1)));

		changed |= (u64) !!(valid & ~((u64)hi << 32 | lo)) << w;
	}
	return changed;
}

static void forget_lines(struct sil_cpu *cpu, hva_t page, u64 lines)
{
	for (; lines; lines &= lines - 1)
		code_written(cpu->m, cpu, page + 64 * (unsigned)__builtin_ctzll(lines), 64);
}

void jit_verify(struct sil_cpu *cpu, struct jit_page *p)
{
	/* Before the comparison: what is written later belongs to a later one. */
	u64 epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST);

	forget_lines(cpu, p->page, changed_lines(p));
	__atomic_store_n(&p->epoch, epoch, __ATOMIC_RELAXED);
}

/* ---- The pages --------------------------------------------------------------------------------
 */

void jit_hot_clear(struct sil_cpu *cpu)
{
	unsigned k;

	for (k = 0; k < cpu->j.nhot; k++)
		cpu->j.hot_bits[jit_page_number(cpu, cpu->j.hot[k]) / 64] = 0;
	cpu->j.nhot = cpu->j.hot_compared = 0;
	cpu->j.hot_many = false;
}

static void hot_add(struct sil_cpu *cpu, struct jit_page *p)
{
	unsigned n = jit_page_number(cpu, p);

	if (cpu->j.hot_bits[n / 64] >> n % 64 & 1)
		return;
	cpu->j.hot_many |= cpu->j.nhot == JIT_HOT;
	if (cpu->j.hot_many)
		return;
	cpu->j.hot_bits[n / 64] |= BIT(n % 64);
	cpu->j.hot[cpu->j.nhot++] = p;
}

void jit_known(struct sil_cpu *cpu, struct jit_block *b, u64 la)
{
	u64 was = __atomic_load_n(&b->la, __ATOMIC_RELAXED);

	hot_add(cpu, b->page);
	if (likely(was == la && la))
		return;
	/* Another cpu may be entering it as well. */
	if (la && !was &&
	    __atomic_compare_exchange_n(&b->la, &was, la, false, __ATOMIC_RELAXED,
					__ATOMIC_RELAXED))
		return;
	if (!la || was != la)
		__atomic_store_n(&b->la, JIT_LA_MANY, __ATOMIC_RELAXED);
}

#define HOT_COMPARED_MAX 1024
void jit_recheck(struct sil_cpu *cpu)
{
	u64 epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST), lines[JIT_HOT];
	struct jit_page *p;
	struct guard g;
	unsigned k;

	/* Now and then from the beginning, or pages that are not used any more stay for ever: when
	 * comparing has cost more than finding all jumps' targets anew will. */
	cpu->j.hot_compared += cpu->j.nhot;
	if (cpu->j.hot_many || cpu->j.hot_compared > HOT_COMPARED_MAX)
		goto lost;
	/* What is not there need not concern the guest: it shows if code there is executed. */
	if (guard_enter(&g))
		goto lost;
	for (k = 0; k < cpu->j.nhot; k++) {
		p = cpu->j.hot[k];
		lines[k] = p->epoch != epoch ? changed_lines(p) : 0;
	}
	guard_leave(&g);
	for (k = 0; k < cpu->j.nhot; k++) {
		p = cpu->j.hot[k];
		if (unlikely(lines[k])) {
			forget_lines(cpu, p->page, lines[k]);
			goto lost;
		}
		__atomic_store_n(&p->epoch, epoch, __ATOMIC_RELAXED);
	}
	cpu->j.recheck = false;
	return;
lost:
	jit_lost(cpu);
	cpu->j.recheck = false;
}

#else
void jit_lost(struct sil_cpu *cpu) {}
#endif
