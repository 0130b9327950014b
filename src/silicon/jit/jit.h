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

/* A direct jump. */
struct jit_link {
	struct jit_block *from;
	struct jit_block *to;	  /* it is patched to go there; NULL: to its stub */
	struct jit_link *in_next; /* of those that lead to the same block, or did */
	u64 rec;		  /* with JIT_FL_REC */
	u32 site;   /* offset in the code memory of its 32-bit displacement, 4-aligned; 0: none */
	u16 target; /* offset in the page; PAGE_SIZE: the next page's first byte */
	u16 count;  /* instructions retired since the block's start, not counted yet */
	u8 fl;	    /* enum jit_fl */
	bool plain; /* to a plain block */
	bool cross; /* none: @from has found its second page's bytes changed */

	/* To another page (far.c), which is the same as long as there are translations. */
	bool far;
	u8 n;		       /* instructions to be counted */
	u8 missed;	       /* times that it was another one */
	s32 disp;	       /* from the page's start */
	u32 seen;	       /* where its code has the number of the page: offset as @site */
	u32 page;	       /* that number; valid if @code is not NULL */
	const void *code;      /* what jump caches have for the target */
	struct jit_insn *insn; /* the jump; NULL: the block just ends */
};

#define JIT_LA_MANY (~0ull)

/*
 * One instruction on two pages (cross.c): a block of its own, for one pair of pages of memory. It
 * is entered through the jump cache only, whose entries stand for the translation of both pages. A
 * write to the first page drops it as any other block; of the second its code compares the bytes.
 */
#define JIT_CROSS 0x80u
struct jit_cross {
	const u8 *bytes;     /* the instruction, as it was decoded */
	unsigned len, first; /* @first bytes are on the first page */
	hva_t host2;	     /* the second page */
};

/*
 * A block is translated for flags that may be anywhere, and again (a version) for jumps that bring
 * a recipe for them, if it has a use for that.
 */
struct jit_block {
	/* What looking for it reads, on one line of the host's caches. */
	u64 hva; /* of the first byte; 0: dropped */
	struct jit_block *hnext;
	u64 rec; /* a version: for jumps with this recipe alone */
	struct jit_page *page;
	u64 la;		/* jump caches know it by this address alone; 0: none does, JIT_LA_MANY */
	u32 entry_host; /* entry with the status flags in EFLAGS */
	u32 entry_mem;	/* entry with the status flags in memory */
	u32 body;
	u16 nbytes, ninsns;
	bool plain; /* checks each access; entered only where another block could not go on */
	bool blind; /* it does not look at the flags it is entered with: body will do */
	u8 mode;    /* enum jit_mode, or JIT_CROSS and it */
	u16 njit;   /* of at[] */

	u64 hva2;	    /* JIT_CROSS: of the second page */
	u32 code, code_end; /* offsets in the code memory */
	struct jit_block *pnext;
	struct jit_link *in;	  /* jumps that may have been patched to go here */
	struct jit_block *before; /* made before it */
	struct jit_at {
		u32 code; /* where the host code of @insn starts */
		struct jit_insn *insn;
	} * at; /* ascending */
};

/*
 * A page that has or had blocks. Kept until all translations are thrown away: cpus have pointers to
 * it without a lock. src and its bitmaps are written under the lock and read without it.
 */
struct jit_page {
	struct jit_page *next;
	hva_t page;
	struct jit_block *blocks;
	u64 epoch;		       /* compared with memory in this machine.code_epoch */
	u64 lines;		       /* words of src_valid that are not zero */
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
	STUB_FAR,    /* R14 = jit_link: called where a jump finds that another page than it
			knows may be there */
	STUB_RESUME, /* go on at c.s.rip, status flags in memory */
	STUB_TLB_R,  /* a look at the TLB's first level has failed: T0 entry, T1 offset -> T0 offset
			in the page or ~0, T1 host address; other registers stay */
	STUB_TLB_W,
	STUB_N,
};
/* Instructions that lean.c runs: R14 = jit_insn. Jumps are jumped to and go on wherever RIP is; the
 * others are called. Where lean.c declines they go on as STUB_END. */
enum jit_lean {
	LEAN_SYSCALL,
	LEAN_SYSRET,
	LEAN_IRET,
	LEAN_INT,
	LEAN_INVLPG,
	LEAN_CR3,
	LEAN_STAC,
	LEAN_CLAC,
	LEAN_POPF,
	LEAN_VMX,
	LEAN_PAUSE,
	LEAN_N,
};
#define LEAN_CALLED LEAN_STAC /* from here on */

#define JIT_HASH_SIZE (1u << 16)
#define JIT_PAGE_HASH (1u << 12)
#define JIT_HEAT_SIZE (1u << 16)
struct jit {
	pthread_mutex_t lock;  /* hash, pages; after the code registry's lock */
	pthread_mutex_t trans; /* one translation at a time: code memory and arena; before the
				  registry's lock */
	u8 *rw, *rx;	       /* the code memory, twice */
	u32 size, used;
	hva_t nowhere; /* a page without access */
	u32 stub[STUB_N];
	u32 near_stub[2][JIT_NEAR];
	u32 lean_stub[LEAN_N];
	u8 *arena; /* block descriptions */
	size_t arena_size, arena_used;
	struct jit_block *last; /* made last; all are in this chain, forgotten ones too */
	struct jit_block *hash[JIT_HASH_SIZE];
	struct jit_page *pages[JIT_PAGE_HASH];
	struct jit_page *pool; /* JIT_PAGES_MAX */
	unsigned npages;
	/*
	 * How often code was interpreted, by a hash of its address, and how often pages have lost
	 * blocks to writes, by a hash of theirs. Halved now and then. Cpus may lose each other's
	 * increments.
	 */
	u8 heat[JIT_HEAT_SIZE];
	u8 rewritten[JIT_PAGE_HASH];
	u32 warmed; /* increments since */
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
/* The same if it has been made or the code has been interpreted often enough; else NULL, with
 * *@cold set if it is to be interpreted once more, which counts. */
struct jit_block *jit_get_warm(struct sil_cpu *cpu, hva_t host, bool plain, bool *cold);
/* The same for a jump with the recipe @rec: a block that is blind, or a version. NULL also if there
 * are enough versions, or the code is to be interpreted. */
struct jit_block *jit_get_rec(struct sil_cpu *cpu, hva_t host, u64 rec);
/* The block of the instruction @x at @host; NULL: it is to be interpreted, and with *@cold not set
 * there is no room. Owner thread. */
struct jit_block *jit_get_cross(struct sil_cpu *cpu, hva_t host, const struct jit_cross *x,
				bool *cold);
/* @b is of other bytes than are there, or its jumps lead elsewhere: nobody is to find it again.
 * Owner thread. */
void jit_drop(struct sil_cpu *cpu, struct jit_block *b);
/* The block at @host for flags anywhere, if there is one. */
struct jit_block *jit_find(const struct sil_cpu *cpu, hva_t host);
/* Code that makes the flags of @rec, puts them into memory and enters @b. 0: no room. */
u32 jit_convert(struct sil_cpu *cpu, u64 rec, const struct jit_block *b);
/*
 * Translates at most @avail bytes at offset @off of a page, from the private copy @src, into the
 * code memory, for jumps with @rec or, if that is 0, any. With @x, that instruction. NULL if there
 * is no room or no whole valid instruction. j->trans held.
 */
struct jit_block *jit_translate(struct sil_cpu *cpu, const u8 *src, unsigned off, unsigned avail,
				u64 rec, bool plain, const struct jit_cross *x);
/* The flags of @rec, whose registers are in @c, into it. */
void jit_rec_flags(struct isa_cpu *c, u64 rec);
u8 *jit_emit_convert(u8 *p, u64 rec, const u8 *entry_mem);
/* Throws all translations away, when no cpu is busy with them. Owner thread, not busy. */
void jit_flush(struct sil_cpu *cpu);
void *jit_alloc(struct jit *j, size_t n);

/* ---- Pages (page.c) ---- */
static inline unsigned jit_block_hash(hva_t hva, bool plain)
{
	return ((hva ^ (u64)plain << 47) * 0x9e3779b97f4a7c15ull) >> 48;
}

static inline unsigned jit_page_hash(hva_t page)
{
	return ((page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull) >> 52;
}
_Static_assert(JIT_HASH_SIZE == 1u << 16 && JIT_HEAT_SIZE == JIT_HASH_SIZE &&
		       JIT_PAGE_HASH == 1u << 12,
	       "the shifts above");

/* Enters @b, made from the @b->nbytes bytes at @src at a time when machine.code_epoch was not
 * beyond @epoch. False: no memory, or, with *@stale, the page has been written by others, as its
 * other blocks show. j->lock held. */
bool jit_page_add(struct jit *j, struct jit_block *b, hva_t host, const u8 *src, u64 epoch,
		  bool *stale);
/* j->lock held, or nobody else has @j. */
void jit_pages_free(struct jit *j);
/* How often was the code at @host interpreted: is it to be translated? A plain block is a different
 * matter than another one at the same place. */
enum jit_heat {
	JIT_COLD,
	JIT_REWRITTEN, /* often enough for most, but its page loses translations all the time */
	JIT_WARM,
};
enum jit_heat jit_heat(const struct sil_cpu *cpu, hva_t host, bool plain);
/* Once more it is. */
void jit_warm(struct jit *j, hva_t host, bool plain);

/* ---- What the jump cache knows (hot.c) ---- */
/* The jump cache is about to know @b, at @la. Owner thread, as for all of these. */
void jit_known(struct sil_cpu *cpu, struct jit_block *b, u64 la);
/* Jumps to other pages may take it that @p is at @la: the jump cache knows it in this generation.
 */
void jit_there(struct sil_cpu *cpu, const struct jit_page *p, u64 la);
/* Takes @b off its page and out of the hash, with the jumps that lead to it. j->lock held. */
void jit_block_drop(struct jit *j, struct jit_block *b);
/* It is not to know @b any more. j->lock held. */
void jit_unknow(struct sil_cpu *cpu, const struct jit_block *b);
/* It knows nothing. */
void jit_hot_clear(struct sil_cpu *cpu);
/* Its memory: entry @e is being used; all are empty. */
static inline void jit_jc_used(struct sil_cpu *cpu, const struct jit_jc *e)
{
	unsigned k = (unsigned)(e - cpu->j.jc) / JIT_JC_PART;

	cpu->j.jc_used[k / 64] |= BIT(k % 64);
}
void jit_jc_clear(struct sil_cpu *cpu);
/* sil_code_recheck was called: pages that the jump cache knows are verified, or it knows none. */
void jit_recheck(struct sil_cpu *cpu);
/* Is @b's page as it was when this cpu last came into the guest, or later? If not, what has changed
 * is forgotten, maybe @b. May touch memory. Owner thread, no lock held. */
void jit_verify(struct sil_cpu *cpu, struct jit_page *p);
static inline void jit_fresh(struct sil_cpu *cpu, const struct jit_block *b)
{
	if (unlikely(__atomic_load_n(&b->page->epoch, __ATOMIC_RELAXED) !=
		     __atomic_load_n(&cpu->m->code_epoch, __ATOMIC_RELAXED)))
		jit_verify(cpu, b->page);
}

/* cpu->j.vec: what may run on the vector registers that are in the host's; on the x87 registers. */
#define VEC_SSE	   1u
#define VEC_AVX	   2u
#define VEC_SSE_FP 4u
#define VEC_AVX_FP 8u
#define VEC_X87	   16u
unsigned jit_vec_kind(const struct isa_insn *i);

/* The flags before an instruction or jump with the recipe @rec, or 0, into cpu->c. */
void jit_flags_in(struct sil_cpu *cpu, u64 rec);
/* The address of the last x87 instruction, if translated code has not written it. */
static inline void jit_x87_pointer(struct sil_cpu *cpu, const struct jit_insn *ji)
{
	if (unlikely(ji->x87))
		cpu->c.r.x87.fip = cpu->j.pc_page + ji->x87 - 1;
}

static inline unsigned jit_page_number(const struct sil_cpu *cpu, const struct jit_page *p)
{
	return (unsigned)(p - cpu->m->jit->pool);
}

/* Translated code is not to go on without a look at what has happened. */
static inline bool jit_must_leave(const struct sil_cpu *cpu)
{
	return unlikely(__atomic_load_n(&cpu->c.request, __ATOMIC_RELAXED)) ||
	       jit_mode(&cpu->c) != cpu->j.mode ||
	       __atomic_load_n(&cpu->m->jit->stop, __ATOMIC_RELAXED);
}

/* Code at @la is to run: fetch_addend. May throw. */
void jit_fetch_page(struct sil_cpu *cpu, u64 la);
/* The flags of cpu->c to where translated code has them. */
void jit_flags_out(struct sil_cpu *cpu);
/* Host code for RIP, or the exit. May throw. */
const void *jit_next(struct sil_cpu *cpu);

/* Called by the stubs. Each returns where to go on, NULL: behind the call. */
const void *jit_exec(struct sil_cpu *cpu, struct jit_insn *ji);
const void *jit_end(struct sil_cpu *cpu, struct jit_insn *ji);
const void *jit_vec(struct sil_cpu *cpu, struct jit_insn *ji);
const void *jit_link(struct sil_cpu *cpu, struct jit_link *l);
const void *jit_goto(struct sil_cpu *cpu, struct jit_link *l);
const void *jit_far(struct sil_cpu *cpu, struct jit_link *l);
const void *jit_resume(struct sil_cpu *cpu);

#endif
