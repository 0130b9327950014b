/* SPDX-License-Identifier: MIT */
/*
 * The stubs of natively run instructions: made when an instruction is first executed, shared by all
 * instructions that come to the same code, kept for ever. Guests choose the code, so its amount is
 * limited: beyond native_code_limit an instruction's stub is made anew at each execution, in a
 * place of its thread.
 */
#include "isa/exec/native.h"

#include "isa/insn_table.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

size_t native_code_limit = 32u << 20;

struct entry {
	struct entry *next;
	struct native_stub stub;
	unsigned n;
	u8 bytes[];
};

/* Guards the table and native_code_put. Taken by nobody who holds another lock of ours but
 * silicon's code cache. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *table[BUCKETS];

static struct entry **bucket_of(const u8 *p, unsigned n)
{
	u64 h = 0xcbf29ce484222325;

	while (n--)
		h = (h ^ *p++) * 0x100000001b3;
	return &table[(h ^ h >> 32) % BUCKETS];
}

static void host_cpuid(void *opaque, u32 leaf, u32 subleaf, u32 out[4])
{
	__cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}

static struct isa_cpu host; /* for its feat[] only */
static pthread_once_t host_once = PTHREAD_ONCE_INIT;

static void host_probe(void)
{
	static const enum isa_feat needs_ymm[] = {FEAT_AVX,  FEAT_AVX2,	   FEAT_FMA,	 FEAT_F16C,
						  FEAT_VAES, FEAT_VPCLMUL, FEAT_AVX_VNNI};
	u32 eax = 0, ebx, ecx = 0, edx, k;

	isa_feat_load(&host, host_cpuid, NULL);
	__get_cpuid(1, &eax, &ebx, &ecx, &edx);
	eax = 0;
	if (ecx & bit_OSXSAVE)
		__asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	if ((eax & 6) != 6) {
		for (k = 0; k < ARRAY_SIZE(needs_ymm); k++)
			isa_feat_set(&host, needs_ymm[k], false);
	}
}

bool isa_feat_runnable(enum isa_feat f)
{
	unsigned op;

	pthread_once(&host_once, host_probe);
	if (isa_has(&host, f))
		return true;
	if (f == FEAT_VAES || f == FEAT_VPCLMUL)
		return false; /* of forms, not rows */
	for (op = 0; op < ISA_OP_N; op++) {
		isa_exec_fn *fn = isa_rows[op].fn;

		if (isa_rows[op].feat == f &&
		    (fn == exec_simd || fn == exec_simd_mmx || fn == exec_x87))
			return false;
	}
	return true;
}

static struct native_stub *make_shared(const struct native_stub *s, const u8 *code, unsigned n)
{
	static __thread struct native_stub slot;
	void *at = native_code_put_slot(code, n);

	if (!at)
		return NULL;
	slot = *s;
	slot.code = (native_code *)at;
	slot.flags |= NATIVE_SHARED | NATIVE_BOUNCE;
	return &slot;
}

static struct native_stub *make(const struct isa_insn *i)
{
	struct native_stub s, *r = NULL;
	struct entry **b, *en;
	u8 code[NATIVE_CODE_MAX];
	unsigned n = native_emit(i, code, &s);

	if (!n)
		return NULL;
	b = bucket_of(code, n);
	pthread_mutex_lock(&lock);
	for (en = *b; en; en = en->next) {
		if (en->n == n && memcmp(en->bytes, code, n) == 0) {
			r = &en->stub;
			goto out;
		}
	}
	if (native_code_used() >= native_code_limit) {
		r = make_shared(&s, code, n);
		goto out;
	}
	en = malloc(sizeof(*en) + n);
	if (!en)
		goto out;
	en->stub = s;
	en->stub.code = (native_code *)native_code_put(code, n);
	if (!en->stub.code) {
		free(en);
		goto out;
	}
	en->n = n;
	memcpy(en->bytes, code, n);
	en->next = *b;
	*b = en;
	r = &en->stub;
out:
	pthread_mutex_unlock(&lock);
	return r;
}

const struct native_stub *native_get(struct isa_cpu *c, const struct isa_insn *i)
{
	/* The decoder leaves priv to us; whoever loses a race finds the same stub. */
	struct isa_insn *mutable = (struct isa_insn *)i;
	struct native_stub *s = __atomic_load_n(&mutable->priv, __ATOMIC_ACQUIRE);

	if (unlikely(!s)) {
		if (!isa_feat_runnable(isa_rows[i->op].feat))
			isa_raise(c, X86_UD);
		s = make(i);
		if (!s || !isa_feat_runnable(s->feat))
			isa_raise(c, X86_UD);
		if (!(s->flags & NATIVE_SHARED))
			__atomic_store_n(&mutable->priv, s, __ATOMIC_RELEASE);
	}
	if (unlikely(s->feat != FEAT_NONE && !isa_has(c, s->feat)))
		isa_raise(c, X86_UD);
	return s;
}
#else
bool isa_feat_runnable(enum isa_feat f)
{
	unsigned op;

	for (op = 0; op < ISA_OP_N; op++) {
		isa_exec_fn *fn = isa_rows[op].fn;

		if (isa_rows[op].feat == f &&
		    (fn == exec_simd || fn == exec_simd_mmx || fn == exec_x87))
			return false;
	}
	return f != FEAT_VAES && f != FEAT_VPCLMUL;
}

const struct native_stub *native_get(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}
#endif

void isa_insn_release(struct isa_insn *insn)
{
	/* Stubs are shared and stay. */
	insn->priv = NULL;
}
