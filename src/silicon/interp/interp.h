/* SPDX-License-Identifier: MIT */
/*
 * The interpreter: decoded blocks and the loop that runs them. Blocks belong to one cpu and are
 * found by the host address of their first byte and the decoding mode, so they survive every change
 * of address space. Memory of blocks is reclaimed all at once, when the arena is full; a dropped
 * block only loses its key, so links and the running block stay valid until then.
 */
#ifndef SILICON_INTERP_INTERP_H
#define SILICON_INTERP_INTERP_H

#include "silicon/cpu/cpu.h"

#define BLOCK_MAX_INSNS 64
#define BLOCK_MAX_BYTES 512

struct block {
	u64 key;	     /* block_key; 0: dropped */
	struct block *hnext; /* of its hash chain */
	struct block *pnext; /* of its page */
	struct block *succ[2];
	u16 nbytes, n;
	bool check; /* its last instruction may need more than a jump's aftermath */
	struct isa_insn insn[];
};

static inline u64 block_key(hva_t hva, unsigned mode)
{
	return hva | (u64)(mode + 1) << 60;
}

static inline hva_t block_hva(const struct block *b)
{
	return b->key & BITS(59, 0);
}

/* What this cpu knows of a host page it has blocks of. */
struct block_page {
	struct block_page *next;
	hva_t page;
	struct block *blocks;
	u64 epoch;	   /* last compared in this machine.code_epoch */
	u8 src[PAGE_SIZE]; /* the page when blocks were made or last compared */
};

/* An instruction outside of blocks: kept, but compared with memory every time. */
struct cross {
	u64 key;
	struct isa_insn insn;
};

#define BLOCK_HASH_SIZE (1u << 15)
#define PAGE_HASH_SIZE	1024
#define CROSS_SIZE	4096
#define BLOCK_ARENA	(12ull << 20)
struct interp {
	struct block *hash[BLOCK_HASH_SIZE];
	struct block_page *pages[PAGE_HASH_SIZE];
	struct cross cross[CROSS_SIZE];
	struct isa_forms *forms;
	struct isa_insn one; /* decoded last, for block_one */
	u8 *arena, *top;     /* BLOCK_ARENA bytes, reserved; used up to top */
	struct block *prev;  /* ran last: to be linked with the next */
};

int interp_create(struct sil_cpu *cpu); /* 0 or -ENOMEM */
void interp_destroy(struct sil_cpu *cpu);

/* The block at linear @la (reachable: tlb_fetch was done), made if need be. NULL if there is no
 * valid instruction that ends within the page: block_cross then. May throw. */
struct block *block_get(struct sil_cpu *cpu, u64 la);
/* One instruction at @la, whatever it is; compared with memory. Valid until the next call. May
 * throw. */
const struct isa_insn *block_cross(struct sil_cpu *cpu, u64 la);
/* The same where tlb_fetch was done for @la and CS has base 0; faster. */
const struct isa_insn *block_one(struct sil_cpu *cpu, u64 la);
/* Has block_cross found that the instruction at @host ends on the next page? Then no block begins
 * with it, here or in the translator, as long as its bytes on this page are the same. */
bool block_crosses(const struct sil_cpu *cpu, hva_t host, unsigned mode);
/* Forgets blocks. Safe in the middle of one: it ends after the current instruction. */
void interp_drop_page(struct sil_cpu *cpu, hva_t page);
void interp_drop_all(struct sil_cpu *cpu);

/* May anything have changed that the engine has to look at, but where execution goes on? If not. */
bool interp_plain(const struct isa_insn *i);
/* One instruction with all that hangs on boundaries: breakpoints, RF, shadows, single step. */
void interp_step(struct sil_cpu *cpu);
/*
 * Runs code of a jit_mode up to a jump that is taken, at most @max instructions, and keeps nothing
 * of it but decoded instructions, which are compared with memory each time: for code that may never
 * run again. At an instruction boundary where no request is pending.
 */
void interp_pass(struct sil_cpu *cpu, unsigned max);
/* Runs the guest until it is in a jit_mode at an instruction boundary. */
void interp_until_jit(struct sil_cpu *cpu);
/* Runs the guest; leaves only by a throw. */
__noreturn void interp_loop(struct sil_cpu *cpu);

#endif
