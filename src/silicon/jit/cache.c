/* SPDX-License-Identifier: MIT */
/* Memory for translations, finding and forgetting them. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "isa/insn_table.h"
#include "silicon/interp/codepage.h"
#include "silicon/jit/door.h"
#include "silicon/jit/jit.h"
#include "silicon/paging/tlb.h"

#ifdef __x86_64__
#include <cpuid.h>

#define CODE_MB	     16u
#define ARENA_FACTOR 4 /* descriptions are larger than the code */

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2
#endif

bool jit_supported(void)
{
	u32 eax, ebx, ecx, edx;

	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		return false;
	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(ebx & bit_BMI2))
		return false;
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (ecx & bit_LAHF_LM) &&
	       isa_feat_runnable(FEAT_AVX2);
}

/* The same memory twice: writable and executable, never both at one address. */
static int map_code(struct jit *j)
{
	int fd = memfd_create("kvmless-jit", MFD_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	j->rw = j->rx = MAP_FAILED;
	if (ftruncate(fd, j->size) == 0) {
		j->rw = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		j->rx = mmap(NULL, j->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	}
	if (j->rw == MAP_FAILED || j->rx == MAP_FAILED)
		r = -ENOMEM;
	close(fd);
	return r;
}

static void destroy(struct jit *j)
{
	unsigned k;

	for (k = 0; k < JIT_PAGE_HASH; k++) {
		struct jit_page *p, *next;

		for (p = j->pages[k]; p; p = next) {
			next = p->next;
			free(p);
		}
	}
	if (j->rw && j->rw != MAP_FAILED)
		munmap(j->rw, j->size);
	if (j->rx && j->rx != MAP_FAILED)
		munmap(j->rx, j->size);
	if (j->arena && j->arena != MAP_FAILED)
		munmap(j->arena, j->arena_size);
	pthread_mutex_destroy(&j->lock);
	pthread_mutex_destroy(&j->trans);
	pthread_mutex_destroy(&j->flush);
	free(j);
}

int jit_create(struct sil_machine *m)
{
	struct jit *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	pthread_mutex_init(&j->lock, NULL);
	pthread_mutex_init(&j->trans, NULL);
	pthread_mutex_init(&j->flush, NULL);
	j->size = MIN(MAX(m->cfg.code_cache_mb ? m->cfg.code_cache_mb : CODE_MB, 2u), 1024u) << 20;
	r = map_code(j);
	if (!r) {
		j->arena_size = (size_t)j->size * ARENA_FACTOR;
		j->arena = mmap(NULL, j->arena_size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (j->arena == MAP_FAILED)
			r = -ENOMEM;
	}
	if (r) {
		destroy(j);
		return r;
	}
	jit_make_stubs(j);
	m->jit = j;
	return 0;
}

void jit_destroy(struct sil_machine *m)
{
	if (m->jit)
		destroy(m->jit);
	m->jit = NULL;
}

void *jit_alloc(struct jit *j, size_t n)
{
	void *p = j->arena + j->arena_used;

	n = align_up(n, 8);
	if (j->arena_used + n > j->arena_size) {
		j->full = true;
		return NULL;
	}
	j->arena_used += n;
	return p;
}

static void empty_jump_cache(struct sil_cpu *cpu);

int jit_cpu_create(struct sil_cpu *cpu)
{
	cpu->j.self = cpu;
	cpu->j.hash = JIT_JC_HASH;
	cpu->j.jc = aligned_alloc(64, JIT_JC_SIZE * sizeof(*cpu->j.jc));
	cpu->j.calls = calloc(ISA_OP_N, sizeof(*cpu->j.calls));
	if (!cpu->j.jc || !cpu->j.calls) {
		jit_cpu_destroy(cpu);
		return -ENOMEM;
	}
	empty_jump_cache(cpu);
	return 0;
}

void jit_cpu_destroy(struct sil_cpu *cpu)
{
	free(cpu->j.jc);
	free(cpu->j.calls);
	cpu->j.jc = NULL;
	cpu->j.calls = NULL;
}

/* ---- Finding and forgetting -------------------------------------------------------------------
 */

static unsigned block_hash(hva_t hva)
{
	return (hva * 0x9e3779b97f4a7c15ull) >> 48;
}

static struct jit_page **page_slot(struct jit *j, hva_t page)
{
	struct jit_page **p = &j->pages[((page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull) >> 52];

	while (*p && (*p)->page != page)
		p = &(*p)->next;
	return p;
}

_Static_assert(JIT_HASH_SIZE == 1u << 16 && JIT_PAGE_HASH == 1u << 12, "the shifts above");

/* Without a lock: chains are changed so that a reader may be in them, and blocks are never reused.
 */
static struct jit_block *find(struct jit *j, hva_t hva, bool plain)
{
	struct jit_block *b = __atomic_load_n(&j->hash[block_hash(hva)], __ATOMIC_ACQUIRE);

	for (; b; b = __atomic_load_n(&b->hnext, __ATOMIC_ACQUIRE))
		if (__atomic_load_n(&b->hva, __ATOMIC_RELAXED) == hva && !b->rec &&
		    b->plain == plain)
			return b;
	return NULL;
}

/* One that will do for a jump with @rec; *@n: versions there are. */
static struct jit_block *find_rec(struct jit *j, hva_t hva, u64 rec, unsigned *n)
{
	struct jit_block *b = __atomic_load_n(&j->hash[block_hash(hva)], __ATOMIC_ACQUIRE);

	for (*n = 0; b; b = __atomic_load_n(&b->hnext, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&b->hva, __ATOMIC_RELAXED) != hva)
			continue;
		if (b->plain)
			continue;
		if (b->rec == rec || (!b->rec && b->blind))
			return b;
		*n += b->rec != 0;
	}
	return NULL;
}

void jit_forget_page(struct sil_machine *m, hva_t page)
{
	struct jit *j = m->jit;
	struct jit_page **slot, *p;
	struct jit_block *b, **h;

	pthread_mutex_lock(&j->lock);
	slot = page_slot(j, page);
	p = *slot;
	if (p) {
		for (b = p->blocks; b; b = b->pnext) {
			for (h = &j->hash[block_hash(b->hva)]; *h != b; h = &(*h)->hnext)
				;
			__atomic_store_n(h, b->hnext, __ATOMIC_RELEASE);
			__atomic_store_n(&b->hva, 0, __ATOMIC_RELAXED);
		}
		*slot = p->next;
		free(p);
	}
	pthread_mutex_unlock(&j->lock);
}

void jit_lost(struct sil_cpu *cpu)
{
	unsigned k;

	for (k = 0; k < TLB_NBANKS; k++)
		cpu->tlb->bank[k].xgen = 0;
	cpu->j.xgen = 0;
	cpu->block_end = NULL;
}

/* The recorded bytes that blocks were made from, against the page's now. */
static bool changed(const struct jit_page *p, const u8 *now)
{
	unsigned k;

	for (k = 0; k < PAGE_SIZE; k++)
		if ((p->src_valid[k / 64] >> (k % 64) & 1) && p->src[k] != now[k])
			return true;
	return false;
}

void jit_recheck_page(struct sil_cpu *cpu, hva_t page)
{
	u64 epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST);
	struct jit *j = cpu->m->jit;
	struct jit_page *p;
	u8 now[PAGE_SIZE];
	bool due, drop = false;

	pthread_mutex_lock(&j->lock);
	p = *page_slot(j, page);
	due = p && p->epoch != epoch;
	pthread_mutex_unlock(&j->lock);
	if (!due)
		return;
	memcpy(now, (const void *)page, PAGE_SIZE);
	pthread_mutex_lock(&j->lock);
	p = *page_slot(j, page);
	if (p) {
		p->epoch = epoch;
		drop = memcmp(p->src, now, PAGE_SIZE) && changed(p, now);
		if (!drop)
			memcpy(p->src, now, PAGE_SIZE);
	}
	pthread_mutex_unlock(&j->lock);
	if (drop)
		code_written(cpu->m, cpu, page, PAGE_SIZE);
}

/* ---- Throwing away -----------------------------------------------------------------------------
 */

static bool others_busy(struct sil_cpu *cpu)
{
	struct sil_cpu *o;
	bool busy = false;

	pthread_mutex_lock(&cpu->m->cpus_lock);
	for (o = cpu->m->cpus; o; o = o->next)
		busy |= o != cpu && __atomic_load_n(&o->j.busy, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&cpu->m->cpus_lock);
	return busy;
}

static void empty_jump_cache(struct sil_cpu *cpu)
{
	unsigned k;

	for (k = 0; k < JIT_JC_SIZE; k++)
		cpu->j.jc[k].tag = JIT_JC_EMPTY;
}

static void forget_all(struct jit *j)
{
	struct jit_page *p, *next;
	unsigned k;

	pthread_mutex_lock(&j->lock);
	memset(j->hash, 0, sizeof(j->hash));
	for (k = 0; k < JIT_PAGE_HASH; k++) {
		for (p = j->pages[k]; p; p = next) {
			next = p->next;
			free(p);
		}
		j->pages[k] = NULL;
	}
	j->last = NULL;
	j->used = j->first;
	j->arena_used = 0;
	j->full = false;
	pthread_mutex_unlock(&j->lock);
}

void jit_flush(struct sil_cpu *cpu)
{
	struct jit *j = cpu->m->jit;
	struct sil_cpu *o;

	if (pthread_mutex_trylock(&j->flush)) {
		/* Somebody else is at it. */
		sched_yield();
		return;
	}
	if (!j->full)
		goto out;
	__atomic_store_n(&j->stop, true, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&cpu->m->cpus_lock);
	for (o = cpu->m->cpus; o; o = o->next)
		if (o != cpu)
			cpu_request(o, SIL_REQ_CODE);
	pthread_mutex_unlock(&cpu->m->cpus_lock);
	/* They may be waiting for this cpu to serve a shoot-down meanwhile. */
	while (others_busy(cpu)) {
		if (cpu_requested(cpu, SIL_REQ_CODE))
			code_serve(cpu);
		sched_yield();
	}
	pthread_mutex_lock(&cpu->m->cpus_lock);
	for (o = cpu->m->cpus; o; o = o->next)
		empty_jump_cache(o);
	pthread_mutex_unlock(&cpu->m->cpus_lock);
	forget_all(j);
	cpu->n.jit_flushes++;
	__atomic_store_n(&j->stop, false, __ATOMIC_SEQ_CST);
out:
	pthread_mutex_unlock(&j->flush);
}

/* ---- Making ------------------------------------------------------------------------------------
 */

struct commit {
	struct jit *j;
	struct jit_block *b;
	hva_t host;
	const u8 *src;
	u64 epoch;
	bool ok;
};

/* Registry lock held. */
static void commit(void *arg)
{
	struct commit *c = arg;
	unsigned off = c->host & ~PAGE_MASK, k;
	struct jit *j = c->j;
	struct jit_page **slot, *p;
	struct jit_block **h;

	pthread_mutex_lock(&j->lock);
	slot = page_slot(j, c->host & PAGE_MASK);
	p = *slot;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			goto out;
		p->page = c->host & PAGE_MASK;
		p->epoch = c->epoch;
		*slot = p;
	}
	memcpy(p->src + off, c->src, c->b->nbytes);
	for (k = off; k < off + c->b->nbytes; k++)
		p->src_valid[k / 64] |= BIT(k % 64);
	c->b->pnext = p->blocks;
	p->blocks = c->b;
	c->b->hva = c->host;
	h = &j->hash[block_hash(c->host)];
	c->b->hnext = *h;
	__atomic_store_n(h, c->b, __ATOMIC_RELEASE);
	c->ok = true;
out:
	pthread_mutex_unlock(&j->lock);
}

#define COPY_BYTES   512u
#define MAX_VERSIONS 4

static struct jit_block *make(struct sil_cpu *cpu, hva_t host, u64 rec, bool plain)
{
	unsigned off = host & ~PAGE_MASK, avail = MIN(PAGE_SIZE - off, COPY_BYTES), n;
	struct jit *j = cpu->m->jit;
	struct commit c = {.j = j, .host = host};
	u8 page[PAGE_SIZE], *src = page + off;
	u64 serial;

	c.src = src;
	do {
		c.epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST);
		if (code_add(cpu, host, 1))
			return NULL;
		serial = code_serial(cpu->m->code, host & PAGE_MASK);
		memcpy(src, (const void *)host, avail);
		pthread_mutex_lock(&j->trans);
		/* Another cpu may have been faster. */
		c.b = rec ? find_rec(j, host, rec, &n) : find(j, host, plain);
		if (!c.b) {
			c.b = jit_translate(cpu, page, off, avail, rec, plain);
			c.ok = false;
		} else {
			c.ok = true;
		}
		pthread_mutex_unlock(&j->trans);
		if (!c.b)
			return NULL;
		if (c.ok)
			return c.b;
		/* From here on writes to the bytes are noticed; were there any since the copy? */
		if (code_add(cpu, host, c.b->nbytes))
			return NULL;
		if (!memcmp(src, (const void *)host, c.b->nbytes))
			code_commit(cpu->m->code, host & PAGE_MASK, serial, commit, &c);
	} while (!c.ok);
	cpu->n.jit_blocks++;
	cpu->n.jit_insns += c.b->ninsns;
	cpu->n.jit_bytes += c.b->code_end - c.b->code;
	return c.b;
}

struct jit_block *jit_get(struct sil_cpu *cpu, hva_t host)
{
	struct jit_block *b = find(cpu->m->jit, host, false);

	if (likely(b != NULL))
		return b;
	if (cpu->m->jit->full)
		return NULL;
	return make(cpu, host, 0, false);
}

struct jit_block *jit_get_plain(struct sil_cpu *cpu, hva_t host)
{
	struct jit_block *b = find(cpu->m->jit, host, true);

	return b || cpu->m->jit->full ? b : make(cpu, host, 0, true);
}

struct jit_block *jit_get_rec(struct sil_cpu *cpu, hva_t host, u64 rec)
{
	unsigned n;
	struct jit_block *b = find_rec(cpu->m->jit, host, rec, &n);

	if (b)
		return b;
	if (cpu->m->jit->full || n >= MAX_VERSIONS)
		return NULL;
	return make(cpu, host, rec, false);
}

#define CONVERT_MAX 64u
u32 jit_convert(struct sil_cpu *cpu, u64 rec, const struct jit_block *b)
{
	struct jit *j = cpu->m->jit;
	u32 at = 0;

	pthread_mutex_lock(&j->trans);
	if (j->used + CONVERT_MAX <= j->size) {
		at = j->used;
		jit_emit_convert(j->rw + at, rec, j->rw + b->entry_mem);
		j->used += CONVERT_MAX;
	}
	pthread_mutex_unlock(&j->trans);
	return at;
}

#else
bool jit_supported(void)
{
	return false;
}

int jit_create(struct sil_machine *m)
{
	return -ENOTSUP;
}

void jit_destroy(struct sil_machine *m) {}

int jit_cpu_create(struct sil_cpu *cpu)
{
	return -ENOTSUP;
}

void jit_cpu_destroy(struct sil_cpu *cpu) {}
void jit_forget_page(struct sil_machine *m, hva_t page) {}
void jit_lost(struct sil_cpu *cpu) {}
void jit_recheck_page(struct sil_cpu *cpu, hva_t page) {}
#endif
