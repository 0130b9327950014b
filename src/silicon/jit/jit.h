/* SPDX-License-Identifier: MIT */
/*
 * The translator: 64-bit guest code to host code, docs/translator.md. x86-64 hosts only.
 *
 * Translations are found by the host address of their first byte, as the interpreter's blocks are,
 * and are shared by all cpus of a machine. They do not depend on the linear address they run at,
 * nor on privilege: what does is behind GS, which holds the cpu while translated code runs.
 */
#ifndef SILICON_JIT_JIT_H
#define SILICON_JIT_JIT_H

#include "silicon/cpu/cpu.h"

/* An instruction that may call C: for a memory access that misses the TLB, or always. */
struct jit_insn {
	struct isa_insn i;
	u64 rec;	  /* struct rec of the status flags before it; 0: they are in cpu->j.fl */
	bool host_fl : 1; /* they are in EFLAGS */
	bool shadow : 1;  /* STI stands before it: see cpu->j.shadow */
	u8 vec;		  /* VEC_* asked for before it */
	u16 end;	  /* offset in the page of the next instruction */
	u16 index;	  /* instructions of the block before it */
	u16 x87; /* 1 + offset of the x87 instruction before it whose address is not in x87.fip
		    yet; 0: none */
};

/* Where the status flags are when a jump is taken. */
enum jit_fl {
	JIT_FL_HOST, /* EFLAGS */
	JIT_FL_MEM,  /* cpu->j.fl */
	JIT_FL_REC,  /* nowhere: struct rec says how to make them */
};

/* A direct jump within a page. */
struct jit_link {
	struct jit_block *from;
	u64 rec;    /* with JIT_FL_REC */
	u32 site;   /* offset in the code memory of its 32-bit displacement, 4-aligned; 0: none */
	u16 target; /* offset in the page; PAGE_SIZE: the next page's first byte */
	u16 count;  /* instructions retired since the block's start, not counted yet */
	u8 fl;	    /* enum jit_fl */
	bool plain; /* to a plain block */
};

/*
 * A block is translated for flags that may be anywhere, and again (a version) for jumps that bring
 * a recipe for them, if it has a use for that.
 */
struct jit_block {
	u64 hva;    /* of the first byte; 0: dropped */
	u64 rec;    /* a version: for jumps with this recipe alone */
	bool plain; /* checks each access; entered only where another block could not go on */
	struct jit_block *hnext, *pnext;
	struct jit_block *before; /* made before it */
	u32 code, code_end;	  /* offsets in the code memory */
	u32 entry_host;		  /* entry with the status flags in EFLAGS */
	u32 entry_mem;		  /* entry with the status flags in memory */
	u32 body;
	bool blind; /* it does not look at the flags it is entered with: body will do */
	u16 nbytes, ninsns;
	u16 njit; /* of at[] */
	struct jit_at {
		u32 code; /* where the host code of @insn starts */
		struct jit_insn *insn;
	} * at; /* ascending */
};

struct jit_page {
	struct jit_page *next;
	hva_t page;
	struct jit_block *blocks;
	u64 epoch;
	u64 src_valid[PAGE_SIZE / 64]; /* bytes of src that blocks were made from */
	u8 src[PAGE_SIZE];
};

/*
 * What translated code keeps on the host's stack, at RSP: what it reads soon after it has written
 * it. Processors forward such values at once if they are addressed by RSP, and only then. C has
 * them in the cpu: the stubs move them.
 */
struct jit_frame {
	u64 count;    /* instructions retired and not in counters.instructions yet */
	u64 pc_page;  /* cpu->j.pc_page */
	u64 spill[3]; /* guest R13-R15 */
	u64 tmp[2];
	u64 host[4]; /* of a group of accesses (struct group): host address of its first byte */
};

/* Permanent pieces at the start of the code memory. */
enum jit_stub {
	STUB_ENTER,    /* void (*)(const void *code), from C */
	STUB_EXIT,     /* back to STUB_ENTER's caller; registers are stored */
	STUB_EXEC,     /* R14 = jit_insn: run it in C, go on behind the call */
	STUB_EXEC_FL,  /* the same, status flags in EFLAGS afterwards */
	STUB_EXEC_VEC, /* as EXEC, and the vector registers as they were before */
	STUB_EXEC_FL_VEC,
	STUB_VEC,	/* R14 = jit_insn: vector registers in, or run it in C and go on wherever */
	STUB_END,	/* R14 = jit_insn: run it in C, go on wherever RIP is */
	STUB_LINK_HOST, /* R14 = jit_link: make or find the target, link it */
	STUB_LINK_MEM,
	STUB_GOTO_HOST, /* R14 = jit_link: go there after a look at requests */
	STUB_GOTO_MEM,
	STUB_N,
};

#define JIT_HASH_SIZE (1u << 16)
#define JIT_PAGE_HASH (1u << 12)
struct jit {
	pthread_mutex_t lock;  /* hash, pages; after the code registry's lock */
	pthread_mutex_t trans; /* one translation at a time: code memory and arena; before the
				  registry's lock */
	u8 *rw, *rx;	       /* the code memory, twice */
	u32 size, used;
	u32 stub[STUB_N];
	u8 *arena; /* block descriptions */
	size_t arena_size, arena_used;
	struct jit_block *last; /* made last; all are in this chain, forgotten ones too */
	struct jit_block *hash[JIT_HASH_SIZE];
	struct jit_page *pages[JIT_PAGE_HASH];
	bool full;
	bool stop;	       /* cpus are to leave translated code: it is being thrown away */
	pthread_mutex_t flush; /* held meanwhile */
	u32 first;	       /* of used, behind the stubs */
};

static inline const void *jit_code(const struct jit *j, u32 off)
{
	return j->rx + off;
}

/* Emits the permanent pieces. */
void jit_make_stubs(struct jit *j);
/*
 * The block at host address @host, made if need be; NULL if there is no instruction to translate,
 * or no room. May serve shoot-downs; may fault on guest memory. Owner thread.
 */
struct jit_block *jit_get(struct sil_cpu *cpu, hva_t host);
/* The same, a plain one. */
struct jit_block *jit_get_plain(struct sil_cpu *cpu, hva_t host);
/* The same for a jump with the recipe @rec: a block that is blind, or a version. NULL also if there
 * are enough versions. */
struct jit_block *jit_get_rec(struct sil_cpu *cpu, hva_t host, u64 rec);
/* Code that makes the flags of @rec, puts them into memory and enters @b. 0: no room. */
u32 jit_convert(struct sil_cpu *cpu, u64 rec, const struct jit_block *b);
/*
 * Translates at most @avail bytes at offset @off of a page, from the private copy @src, into the
 * code memory, for jumps with @rec or, if that is 0, any. NULL if there is no room or no whole
 * valid instruction. j->trans held.
 */
struct jit_block *jit_translate(struct sil_cpu *cpu, const u8 *src, unsigned off, unsigned avail,
				u64 rec, bool plain);
/* The flags of @rec, whose registers are in @c, into it. */
void jit_rec_flags(struct isa_cpu *c, u64 rec);
u8 *jit_emit_convert(u8 *p, u64 rec, const u8 *entry_mem);
/* Throws all translations away, when no cpu is busy with them. Owner thread, not busy. */
void jit_flush(struct sil_cpu *cpu);
void *jit_alloc(struct jit *j, size_t n);

/* cpu->j.vec: what may run on the vector registers that are in the host's; on the x87 registers. */
#define VEC_SSE	   1u
#define VEC_AVX	   2u
#define VEC_SSE_FP 4u
#define VEC_AVX_FP 8u
#define VEC_X87	   16u
unsigned jit_vec_kind(const struct isa_insn *i);

/* Called by the stubs. Each returns where to go on, NULL: behind the call. */
const void *jit_exec(struct sil_cpu *cpu, struct jit_insn *ji);
const void *jit_end(struct sil_cpu *cpu, struct jit_insn *ji);
const void *jit_vec(struct sil_cpu *cpu, struct jit_insn *ji);
const void *jit_link(struct sil_cpu *cpu, struct jit_link *l);
const void *jit_goto(struct sil_cpu *cpu, struct jit_link *l);

#endif
