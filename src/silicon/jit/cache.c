/* SPDX-License-Identifier: MIT */
/* Memory for translations, finding and forgetting them. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "isa/insn_table.h"
#include "silicon/interp/codepage.h"
#include "silicon/jit/door.h"
#include "silicon/interp/interp.h"
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

/* Used from its start on, as far as need be. */
static void *map_data(size_t n)
{
	return mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
}

static void destroy(struct jit *j)
{
	if (j->pool && j->pool != MAP_FAILED)
		munmap(j->pool, JIT_PAGES_MAX * sizeof(*j->pool));
	if (j->rw && j->rw != MAP_FAILED)
		munmap(j->rw, j->size);
	if (j->rx && j->rx != MAP_FAILED)
		munmap(j->rx, j->size);
	if (j->nowhere)
		munmap((void *)j->nowhere, PAGE_SIZE);
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
		j->arena = map_data(j->arena_size);
		j->pool = map_data(JIT_PAGES_MAX * sizeof(*j->pool));
		if (j->arena == MAP_FAILED || j->pool == MAP_FAILED)
			r = -ENOMEM;
	}
	if (!r) {
		void *p = mmap(NULL, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		j->nowhere = (hva_t)p;
		if (p == MAP_FAILED) {
			j->nowhere = 0;
			r = -ENOMEM;
		}
	}
	if (r) {
		destroy(j);
		return r;
	}
	jit_make_stubs(j);
	m->jit = j;
	return 0;
}

bool jit_nowhere(const struct sil_machine *m, hva_t addr)
{
	return m->jit && (addr & PAGE_MASK) == m->jit->nowhere;
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

int jit_cpu_create(struct sil_cpu *cpu)
{
	cpu->j.self = cpu;
	cpu->j.hash = JIT_JC_HASH;
	cpu->j.nowhere = cpu->m->jit->nowhere;
	cpu->j.near_used[0] = cpu->j.near_used[1] = (1u << JIT_NEAR) - 1;
	tlb_near_lost(cpu);
	cpu->j.jc = aligned_alloc(64, JIT_JC_SIZE * sizeof(*cpu->j.jc));
	cpu->j.calls = calloc(ISA_OP_N, sizeof(*cpu->j.calls));
	if (!cpu->j.jc || !cpu->j.calls) {
		jit_cpu_destroy(cpu);
		return -ENOMEM;
	}
	memset(cpu->j.jc_used, 0xff, sizeof(cpu->j.jc_used));
	jit_jc_clear(cpu);
	return 0;
}

void jit_cpu_destroy(struct sil_cpu *cpu)
{
	free(cpu->j.jc);
	free(cpu->j.calls);
	cpu->j.jc = NULL;
	cpu->j.calls = NULL;
}

/* ---- Finding ------------- -------------------------------------------------------------------
 */

/* Without a lock: chains are changed so that a reader may be in them, and blocks are never reused.
 */
static struct jit_block *find(const struct sil_cpu *cpu, hva_t hva, bool plain)
{
	const struct jit *j = cpu->m->jit;
	struct jit_block *b =
		__atomic_load_n(&j->hash[jit_block_hash(hva, plain)], __ATOMIC_ACQUIRE);

	for (; b; b = __atomic_load_n(&b->hnext, __ATOMIC_ACQUIRE))
		if (__atomic_load_n(&b->hva, __ATOMIC_RELAXED) == hva && !b->rec &&
		    b->plain == plain && b->mode == cpu->j.mode)
			return b;
	return NULL;
}

static struct jit_block *find_cross(const struct sil_cpu *cpu, hva_t hva, hva_t hva2)
{
	const struct jit *j = cpu->m->jit;
	struct jit_block *b =
		__atomic_load_n(&j->hash[jit_block_hash(hva, false)], __ATOMIC_ACQUIRE);

	for (; b; b = __atomic_load_n(&b->hnext, __ATOMIC_ACQUIRE))
		if (__atomic_load_n(&b->hva, __ATOMIC_RELAXED) == hva && b->hva2 == hva2 &&
		    b->mode == (cpu->j.mode | JIT_CROSS))
			return b;
	return NULL;
}

struct jit_block *jit_find(const struct sil_cpu *cpu, hva_t host)
{
	return find(cpu, host, false);
}

/* One that will do for a jump with @rec; *@n: versions there are. */
static struct jit_block *find_rec(const struct sil_cpu *cpu, hva_t hva, u64 rec, unsigned *n)
{
	const struct jit *j = cpu->m->jit;
	struct jit_block *b =
		__atomic_load_n(&j->hash[jit_block_hash(hva, false)], __ATOMIC_ACQUIRE);

	for (*n = 0; b; b = __atomic_load_n(&b->hnext, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&b->hva, __ATOMIC_RELAXED) != hva)
			continue;
		if (b->plain || b->mode != cpu->j.mode)
			continue;
		if (b->rec == rec || (!b->rec && b->blind))
			return b;
		*n += b->rec != 0;
	}
	return NULL;
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

static void forget_all(struct jit *j)
{
	pthread_mutex_lock(&j->lock);
	memset(j->hash, 0, sizeof(j->hash));
	jit_pages_free(j);
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
	for (o = cpu->m->cpus; o; o = o->next) {
		jit_jc_clear(o);
		jit_hot_clear(o);
	}
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
	bool ok, stale;
};

/* Registry lock held. */
static void commit(void *arg)
{
	struct commit *c = arg;
	pthread_mutex_lock(&c->j->lock);
	c->ok = jit_page_add(c->j, c->b, c->host, c->src, c->epoch, &c->stale);
	pthread_mutex_unlock(&c->j->lock);
}

#define COPY_BYTES   512u
#define MAX_VERSIONS 4

/* Reading the clock takes as long as translating two instructions. */
#define TIME_EVERY 16
static u64 cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* @x: the instruction on two pages there. */
static struct jit_block *make(struct sil_cpu *cpu, hva_t host, u64 rec, bool plain,
			      const struct jit_cross *x)
{
	unsigned off = host & ~PAGE_MASK, avail = MIN(PAGE_SIZE - off, COPY_BYTES), n;
	struct jit *j = cpu->m->jit;
	struct commit c = {.j = j, .host = host};
	bool timed = cpu->n.jit_blocks % TIME_EVERY == 0;
	u64 start = timed ? cpu_ns() : 0, serial;
	u8 page[PAGE_SIZE + 16], *src = page + off;

	if (!x && block_crosses(cpu, host, ISA_LONG64))
		return NULL;
	c.src = src;
	do {
		c.epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST);
		if (code_add(cpu, host, 1))
			return NULL;
		serial = code_serial(cpu->m->code, host & PAGE_MASK);
		memcpy(src, (const void *)host, avail);
		if (x) {
			memcpy(src + x->first, (const void *)x->host2, x->len - x->first);
			if (memcmp(src, x->bytes, x->len))
				return NULL;
		}
		pthread_mutex_lock(&j->trans);
		/* Another cpu may have been faster. */
		if (x)
			c.b = find_cross(cpu, host, x->host2);
		else
			c.b = rec ? find_rec(cpu, host, rec, &n) : find(cpu, host, plain);
		if (!c.b) {
			c.b = jit_translate(cpu, page, off, x ? x->len : avail, rec, plain, x);
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
		if (memcmp(src, (const void *)host, c.b->nbytes) ||
		    !code_commit(cpu->m->code, host & PAGE_MASK, serial, commit, &c))
			continue;
		if (unlikely(c.stale))
			code_written(cpu->m, cpu, host, c.b->nbytes);
		else if (!c.ok)
			return NULL;
	} while (!c.ok);
	cpu->n.jit_blocks++;
	cpu->n.jit_insns += c.b->ninsns;
	if (timed) {
		cpu->n.jit_timed_insns += c.b->ninsns;
		cpu->n.jit_timed_ns += cpu_ns() - start;
	}
	cpu->n.jit_bytes += c.b->code_end - c.b->code;
	return c.b;
}

struct jit_block *jit_get(struct sil_cpu *cpu, hva_t host)
{
	struct jit_block *b = find(cpu, host, false);

	if (likely(b != NULL))
		return b;
	if (cpu->m->jit->full)
		return NULL;
	return make(cpu, host, 0, false, NULL);
}

struct jit_block *jit_get_warm(struct sil_cpu *cpu, hva_t host, bool plain, bool *cold)
{
	struct jit *j = cpu->m->jit;
	struct jit_block *b;

	switch (jit_heat(cpu, host, plain)) {
	case JIT_COLD:
		/* Not worth a search. */
		b = NULL;
		*cold = true;
		break;
	case JIT_REWRITTEN:
		b = find(cpu, host, plain);
		*cold = !b;
		break;
	default:
		b = find(cpu, host, plain);
		return b || j->full ? b : make(cpu, host, 0, plain, NULL);
	}
	if (*cold)
		jit_warm(j, host, plain);
	return b;
}

struct jit_block *jit_get_rec(struct sil_cpu *cpu, hva_t host, u64 rec)
{
	unsigned n;
	struct jit_block *b = find_rec(cpu, host, rec, &n);

	if (b)
		return b;
	if (cpu->m->jit->full || n >= MAX_VERSIONS || jit_heat(cpu, host, false) != JIT_WARM)
		return NULL;
	return make(cpu, host, rec, false, NULL);
}

struct jit_block *jit_get_cross(struct sil_cpu *cpu, hva_t host, const struct jit_cross *x,
				bool *cold)
{
	struct jit_block *b = find_cross(cpu, host, x->host2);

	if (b)
		return b;
	*cold = jit_heat(cpu, host, false) != JIT_WARM;
	if (*cold)
		jit_warm(cpu->m->jit, host, false);
	return *cold || cpu->m->jit->full ? NULL : make(cpu, host, 0, false, x);
}

void jit_drop(struct sil_cpu *cpu, struct jit_block *b)
{
	pthread_mutex_lock(&cpu->m->jit->lock);
	jit_unknow(cpu, b);
	if (b->hva)
		jit_block_drop(cpu->m->jit, b);
	pthread_mutex_unlock(&cpu->m->jit->lock);
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
bool jit_nowhere(const struct sil_machine *m, hva_t addr)
{
	return false;
}

int jit_cpu_create(struct sil_cpu *cpu)
{
	return -ENOTSUP;
}

void jit_cpu_destroy(struct sil_cpu *cpu) {}
#endif
