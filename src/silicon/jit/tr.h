/* SPDX-License-Identifier: MIT */
/* A translation in progress. For jit/ only. */
#ifndef SILICON_JIT_TR_H
#define SILICON_JIT_TR_H

#include "isa/insn_table.h"
#include "silicon/jit/emit.h"

#define JIT_BLOCK_INSNS 64
#define JIT_BLOCK_BYTES 512
/* Host code of the largest block, and of one instruction with its cold code. */
#define JIT_CODE_MAX (64u << 10)

enum jit_attr { F_W = 1, F_R = 2, F_RW = 3, M_R = 4, D_W = 8, D_2 = 16, D_NONE = 32 };

/* Where the guest's status flags are at this point of the code. */
enum fl {
	FL_ANY,	 /* not decided: nothing before it in the block needs to know */
	FL_HOST, /* EFLAGS */
	FL_BOTH, /* EFLAGS and cpu->j.fl */
	FL_MEM,	 /* cpu->j.fl */
};

enum cold_kind { COLD_SLOW, COLD_VEC, COLD_END, COLD_EDGE, COLD_GOTO, COLD_GOTO_RCX };
struct cold {
	enum cold_kind kind;
	bool vec;   /* SLOW: vector registers as before */
	bool flags; /* SLOW: into EFLAGS afterwards */
	u8 *site;   /* its 32-bit displacement jumps here */
	u8 *back;   /* SLOW: where it goes on */
	void *arg;  /* jit_insn or jit_link */
};

struct tr {
	u8 *p;
	struct jit *j;
	struct sil_cpu *cpu;
	struct jit_block *b;
	enum fl fl, entry;
	unsigned vec;	   /* VEC_* that are known to be there */
	unsigned x87;	   /* see struct jit_insn */
	unsigned start;	   /* offset of the block in its page */
	unsigned off, end; /* of the instruction and of the next */
	unsigned index;	   /* instructions before it */
	u8 *body;
	const struct isa_insn *i;
	struct jit_insn *ji; /* of the instruction, once made */
	bool done;	     /* the block has ended */
	bool oom;
	struct cold cold[4 * JIT_BLOCK_INSNS];
	unsigned ncold;
	struct jit_at at[JIT_BLOCK_INSNS];
	unsigned nat;
};

typedef bool tr_fn(struct tr *t, unsigned attr);

/* The parts of an instruction's encoding. */
struct enc {
	bool p66, lock, vex;
	u8 pf;	/* F2 or F3, or 0 */
	u8 rex; /* 0: none; VEX: R X B as REX has them, W */
	u8 vvvv, vl, pp;
	u8 map; /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
	u8 op;
	u8 modrm;
	const u8 *imm;
	unsigned nimm;
};
void enc_parse(const struct isa_insn *i, struct enc *e);

/* ---- Flags ---- */
void tr_need_flags(struct tr *t);  /* they will be in EFLAGS */
void tr_spill_flags(struct tr *t); /* they are in memory; EFLAGS may be clobbered */
static inline void tr_set_flags(struct tr *t)
{
	t->fl = FL_HOST;
}

/* ---- Pieces ---- */
struct jit_insn *tr_insn(struct tr *t);
struct cold *tr_cold(struct tr *t, enum cold_kind kind, u8 *site, void *arg);
/* Linear address of the memory operand into T1. False: leave it to the handler. */
bool tr_ea(struct tr *t);
/* T1 = linear address of @size bytes -> T1 = host address; else the handler runs the instruction.
 * Flags are in memory. Returns the cold piece, whose way back the caller sets. */
struct cold *tr_access(struct tr *t, unsigned size, bool write, enum cold_kind kind);
void tr_back(struct tr *t, struct cold *c);
/* A spilled register into @scratch, or the host register it lives in. */
unsigned tr_reg(struct tr *t, unsigned guest, unsigned scratch);
/* Counts the instructions of the block up to and including this one, without touching flags. */
void tr_count(struct tr *t, unsigned n);

/* jump.c */
tr_fn tr_jcc, tr_jmp, tr_call, tr_ret;
void tr_fallthrough(struct tr *t);
void tr_edge_cold(struct tr *t, struct cold *c);
/* insn.c */
tr_fn tr_copy, tr_plain, tr_nothing, tr_mov, tr_lea, tr_shift, tr_bit, tr_bswap, tr_xchg, tr_div,
	tr_push, tr_pop, tr_leave, tr_vex;
/* simd.c */
tr_fn tr_simd;
/* The registers that @bit of VEC_* stands for are the guest's from here on. */
void tr_need_vec(struct tr *t, unsigned bit);
/* x87.c */
tr_fn tr_x87, tr_x87_control, tr_x87_nothing, tr_fninit, tr_fldcw, tr_emms;
void tr_x87_flush(struct tr *t);

#endif
