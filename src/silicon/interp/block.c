/* SPDX-License-Identifier: MIT */
/* Making, finding and forgetting decoded blocks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "isa/insn_table.h"
#include "silicon/interp/codepage.h"
#include "silicon/interp/interp.h"
#include "silicon/paging/tlb.h"

int interp_create(struct sil_cpu *cpu)
{
	struct interp *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
	in->arena = mmap(NULL, BLOCK_ARENA, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (in->arena == MAP_FAILED) {
		free(in);
		return -ENOMEM;
	}
	in->forms = isa_forms_create();
	if (!in->forms) {
		munmap(in->arena, BLOCK_ARENA);
		free(in);
		return -ENOMEM;
	}
	in->top = in->arena;
	cpu->interp = in;
	return 0;
}

static unsigned key_hash(u64 key)
{
	return (key * 0x9e3779b97f4a7c15ull) >> 49;
}

static unsigned page_hash(hva_t page)
{
	return ((page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull) >> 54;
}

static size_t block_size(unsigned n)
{
	return align_up(sizeof(struct block) + n * sizeof(struct isa_insn), 16);
}

/* Gives back everything. Only between blocks. */
static void reset(struct interp *in)
{
	struct block_page *p, *next;
	struct block *b;
	u8 *at;
	unsigned k;

	for (at = in->arena; at < in->top; at += block_size(b->n)) {
		b = (struct block *)at;
		for (k = 0; k < b->n; k++)
			isa_insn_release(&b->insn[k]);
	}
	in->top = in->arena;
	in->prev = NULL;
	for (k = 0; k < PAGE_HASH_SIZE; k++) {
		for (p = in->pages[k]; p; p = next) {
			next = p->next;
			free(p);
		}
		in->pages[k] = NULL;
	}
	memset(in->hash, 0, sizeof(in->hash));
}

void interp_destroy(struct sil_cpu *cpu)
{
	struct interp *in = cpu->interp;
	unsigned k;

	if (!in)
		return;
	reset(in);
	for (k = 0; k < CROSS_SIZE; k++)
		if (in->cross[k].key)
			isa_insn_release(&in->cross[k].insn);
	isa_forms_destroy(in->forms);
	munmap(in->arena, BLOCK_ARENA);
	free(in);
	cpu->interp = NULL;
}

/* ---- Dropping ---------------------------------------------------------------------------------
 */

static struct block_page **page_slot(struct interp *in, hva_t page)
{
	struct block_page **p = &in->pages[page_hash(page)];

	while (*p && (*p)->page != page)
		p = &(*p)->next;
	return p;
}

static void unhash(struct interp *in, struct block *b)
{
	struct block **p = &in->hash[key_hash(b->key)];

	while (*p != b)
		p = &(*p)->hnext;
	*p = b->hnext;
}

static void drop_slot(struct sil_cpu *cpu, struct block_page **slot)
{
	struct block_page *p = *slot;
	struct block *b;

	for (b = p->blocks; b; b = b->pnext) {
		unhash(cpu->interp, b);
		b->key = 0;
		cpu->n.blocks_dropped++;
	}
	*slot = p->next;
	free(p);
	cpu->block_end = NULL;
}

void interp_drop_page(struct sil_cpu *cpu, hva_t page)
{
	struct block_page **slot = page_slot(cpu->interp, page);

	if (*slot)
		drop_slot(cpu, slot);
}

void interp_drop_all(struct sil_cpu *cpu)
{
	unsigned k;

	for (k = 0; k < PAGE_HASH_SIZE; k++)
		while (cpu->interp->pages[k])
			drop_slot(cpu, &cpu->interp->pages[k]);
}

static bool same_bytes(const struct block *b, const u8 *src)
{
	unsigned at = block_hva(b) & ~PAGE_MASK, k;

	for (k = 0; k < b->n; at += b->insn[k].len, k++)
		if (memcmp(b->insn[k].raw, src + at, b->insn[k].len))
			return false;
	return true;
}

void code_recheck_page(struct sil_cpu *cpu, hva_t page)
{
	struct block_page **slot = page_slot(cpu->interp, page), *p = *slot;
	u64 epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST);
	u8 now[PAGE_SIZE];
	struct block *b;

	if (!p || p->epoch == epoch)
		return;
	if (memcmp(p->src, (const void *)page, PAGE_SIZE)) {
		memcpy(now, (const void *)page, PAGE_SIZE);
		for (b = p->blocks; b; b = b->pnext) {
			if (!same_bytes(b, now)) {
				drop_slot(cpu, slot);
				return;
			}
		}
		memcpy(p->src, now, PAGE_SIZE);
	}
	p->epoch = epoch;
}

/* ---- Making -----------------------------------------------------------------------------------
 */

/* After these, the interpreter need not look for changed flags, shadows and the like. */
bool interp_plain(const struct isa_insn *i)
{
	switch (i->op) {
	case ISA_OP_JO ... ISA_OP_LOOPNE:
	case ISA_OP_JMP:
	case ISA_OP_CALL:
	case ISA_OP_RET: return true;
	default: return !(i->flags & (ISA_F_END | ISA_F_SYS | ISA_F_STR));
	}
}

/* Decodes from the private copy @src of @avail bytes. 0: no whole valid instruction is there. */
static unsigned decode(struct sil_cpu *cpu, struct block *b, const u8 *src, unsigned avail)
{
	enum isa_mode mode = cpu->c.mode;
	unsigned at = 0, n = 0;

	while (n < BLOCK_MAX_INSNS && at < avail) {
		struct isa_insn *i = &b->insn[n];

		/* What is no instruction depends on bytes past its length: block_cross has it. */
		if (isa_decode_form(cpu->interp->forms, src + at, MIN(avail - at, 15u), mode, i) !=
		    ISA_DECODE_OK) {
			isa_insn_release(i);
			break;
		}
		at += i->len;
		n++;
		/* A string instruction may stop half-way with RIP at itself. */
		if (i->flags & (ISA_F_END | ISA_F_STR))
			break;
	}
	b->n = n;
	b->nbytes = at;
	cpu->n.insns_decoded += n;
	return n;
}

static void release(struct block *b)
{
	unsigned k;

	for (k = 0; k < b->n; k++)
		isa_insn_release(&b->insn[k]);
}

static struct block *build(struct sil_cpu *cpu, u64 key, const u8 *host)
{
	unsigned avail = PAGE_SIZE - ((hva_t)host & ~PAGE_MASK);
	hva_t page = (hva_t)host & PAGE_MASK;
	struct interp *in = cpu->interp;
	struct block_page **slot, *p;
	u8 src[BLOCK_MAX_BYTES];
	struct block *b;

	avail = MIN(avail, (unsigned)BLOCK_MAX_BYTES);
	for (;;) {
		if (in->top + block_size(BLOCK_MAX_INSNS) > in->arena + BLOCK_ARENA)
			reset(in);
		b = (struct block *)in->top;
		memcpy(src, host, avail);
		if (!decode(cpu, b, src, avail))
			return NULL;
		if (code_add(cpu, (hva_t)host, b->nbytes)) {
			release(b);
			return NULL;
		}
		/* Now a write to these bytes is noticed: are they still what was decoded? */
		if (!memcmp(src, host, b->nbytes))
			break;
		release(b);
	}

	slot = page_slot(in, page);
	p = *slot;
	if (!p) {
		p = malloc(sizeof(*p));
		if (!p) {
			release(b);
			return NULL;
		}
		p->epoch = __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_SEQ_CST);
		memcpy(p->src, (const void *)page, PAGE_SIZE);
		p->page = page;
		p->blocks = NULL;
		p->next = *slot;
		*slot = p;
	}
	/* A stale block in the same bytes makes the next comparison look at each block. */
	memcpy(p->src + ((hva_t)host & ~PAGE_MASK), src, b->nbytes);

	b->key = key;
	b->succ[0] = b->succ[1] = NULL;
	b->check = !interp_plain(&b->insn[b->n - 1]);
	b->pnext = p->blocks;
	p->blocks = b;
	b->hnext = in->hash[key_hash(key)];
	in->hash[key_hash(key)] = b;
	in->top += block_size(b->n);
	cpu->n.blocks_decoded++;
	return b;
}

bool block_crosses(const struct sil_cpu *cpu, hva_t host, unsigned mode)
{
	unsigned left = PAGE_SIZE - (host & ~PAGE_MASK);
	u64 key = block_key(host, mode);
	const struct cross *x;

	if (likely(left >= 15))
		return false;
	x = &cpu->interp->cross[key_hash(key) % CROSS_SIZE];
	return x->key == key && x->insn.len > left &&
	       !memcmp(x->insn.raw, (const void *)host, left);
}

struct block *block_get(struct sil_cpu *cpu, u64 la)
{
	const u8 *host = (const u8 *)(la + cpu->fetch_addend);
	u64 key = block_key((hva_t)host, cpu->c.mode);
	struct block *b;

	for (b = cpu->interp->hash[key_hash(key)]; b; b = b->hnext)
		if (b->key == key)
			return b;
	if (block_crosses(cpu, (hva_t)host, cpu->c.mode))
		return NULL;
	return build(cpu, key, host);
}

/* ---- One instruction alone: across pages, invalid, or no memory for blocks ---------------------
 */

static void release_cross(struct cross *x)
{
	if (x->key)
		isa_insn_release(&x->insn);
	x->key = 0;
}

/* Does memory at @host, with @avail bytes left in its page, hold the @len bytes at @raw, which are
 * followed by zeros? */
static inline bool same_insn(const u8 *host, unsigned avail, const u8 *raw, unsigned len)
{
	u64 a, b;

	if (len > 8 || avail < 8)
		return len <= avail && !memcmp(host, raw, len);
	memcpy(&a, host, 8);
	memcpy(&b, raw, 8);
	return !((a ^ b) << (64 - 8 * len));
}

const struct isa_insn *block_one(struct sil_cpu *cpu, u64 la)
{
	const u8 *host = (const u8 *)(la + cpu->fetch_addend);
	u64 key = block_key((hva_t)host, cpu->c.mode);
	const struct cross *x = &cpu->interp->cross[key_hash(key) % CROSS_SIZE];
	u8 raw[16];

	/* Cheaper than to find what was decoded before: there are fewer forms than instructions. */
	if (likely(cpu->c.mode == ISA_LONG64 && (la & ~PAGE_MASK) <= PAGE_SIZE - sizeof(raw))) {
		memcpy(raw, host, sizeof(raw));
		if (likely(isa_decode_seen(cpu->interp->forms, raw, &cpu->interp->one)))
			return &cpu->interp->one;
	}
	if (likely(x->key == key &&
		   same_insn(host, PAGE_SIZE - (la & ~PAGE_MASK), x->insn.raw, x->insn.len)))
		return &x->insn;
	return block_cross(cpu, la);
}

const struct isa_insn *block_cross(struct sil_cpu *cpu, u64 la)
{
	unsigned first = PAGE_SIZE - (la & ~PAGE_MASK);
	enum isa_decode_result r;
	const u8 *host = tlb_fetch_ptr(cpu, la), *host2;
	u64 key = block_key((hva_t)host, cpu->c.mode);
	struct cross *x = &cpu->interp->cross[key_hash(key) % CROSS_SIZE];
	u64 la2 = la + first;
	u8 raw[15];

	if (cpu->c.mode != ISA_LONG64)
		la2 = (u32)la2;
	first = MIN(first, 15u);
	memcpy(raw, host, first);
	if (x->key == key && x->insn.len <= first && !memcmp(x->insn.raw, raw, x->insn.len))
		return &x->insn;
	if (x->key != key || first == 15 || memcmp(x->insn.raw, raw, first)) {
		/* Only bytes the instruction has may fault. */
		release_cross(x);
		r = isa_decode_form(cpu->interp->forms, raw, first, cpu->c.mode, &x->insn);
		cpu->n.insns_decoded++;
		if (r != ISA_DECODE_SHORT)
			goto out;
	}
	host2 = tlb_fetch_ptr(cpu, la2);
	memcpy(raw + first, host2, 15 - first);
	if (x->key == key && !memcmp(x->insn.raw, raw, x->insn.len))
		return &x->insn;
	release_cross(x);
	r = isa_decode_form(cpu->interp->forms, raw, sizeof(raw), cpu->c.mode, &x->insn);
	cpu->n.insns_decoded++;
	BUG_ON(r == ISA_DECODE_SHORT);
out:
	/* What is no instruction depends on bytes past its length: decode it each time. */
	x->key = r == ISA_DECODE_OK ? key : 0;
	return &x->insn;
}
