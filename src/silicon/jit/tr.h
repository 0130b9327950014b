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

enum jit_attr {
	F_W = 1,
	F_R = 2,
	F_RW = 3,
	M_R = 4,
	D_W = 8,
	D_2 = 16,
	D_NONE = 32,
	SYS_OK = 64,
	SYS_END = 128
};

/* Where the guest's status flags are at this point of the code. */
enum fl {
	FL_ANY,	 /* not decided: nothing before it in the block needs to know */
	FL_HOST, /* EFLAGS */
	FL_BOTH, /* EFLAGS and cpu->j.fl */
	FL_MEM,	 /* cpu->j.fl */
	FL_LOST, /* neither: tr.rec makes them */
};

/*
 * How to make the status flags again from registers: they are those of an instruction whose
 * operands, or whose result and second operand, are still there. As a number: 0 is none.
 */
enum rec_kind {
	REC_NONE,
	REC_CMP,  /* cmp a, b */
	REC_TEST, /* test a, b; with a = b also AND, OR, XOR with the result in a */
	REC_ADD,  /* a has become a + b */
	REC_SUB,  /* a has become a - b */
	REC_ZERO, /* xor x, x */
	REC_SHL,  /* shl v, imm; v is kept in cpu->j.shifted */
	REC_SHR,
	REC_SAR,
};
struct rec {
	u8 kind, size;
	u8 a, b; /* guest registers; b may be REC_IMM */
	s32 imm;
};
#define REC_IMM 0xff
_Static_assert(sizeof(struct rec) == 8, "a number");
static inline struct rec rec_of(u64 v)
{
	struct rec r;

	memcpy(&r, &v, 8);
	return r;
}
/* Leaves them in EFLAGS. Uses T0. */
void emit_rec(u8 **p, u64 rec);
/* The recipe for the flags that @i leaves, 0 if there is none. */
u64 rec_after(const struct isa_insn *i);
/* The same for a shift whose operand has been put into cpu->j.shifted. */
u64 rec_after_shift(const struct isa_insn *i);
/* Registers that must stay as they are. */
unsigned rec_regs(u64 rec);

enum cold_kind { COLD_SLOW, COLD_VEC, COLD_END, COLD_EDGE, COLD_FAR, COLD_GOTO, COLD_GOTO_RCX };
struct cold {
	enum cold_kind kind;
	bool vec;    /* SLOW: vector registers as before */
	bool flags;  /* SLOW: into EFLAGS afterwards. FAR: from EFLAGS into memory */
	bool shadow; /* FAR: the jump is in STI's */
	u8 *site;    /* its 32-bit displacement jumps here */
	u8 *back;    /* SLOW: where it goes on */
	void *arg;   /* jit_insn or jit_link */
	/* The jump was a look at the first level of the TLB: where it goes on if the second level
	 * has the translation, with T1 the host address. NULL: it was something else. */
	u8 *hit;
	u16 size;
	bool write;
	u8 slot;
	u8 held[2]; /* SLOW: tr.held at @back */
};

struct group {
	bool on, write;
	u8 base;  /* guest register or ISA_REG_RIP */
	s32 lo;	  /* its start, from the register as it was at the check */
	u32 span; /* bytes */
	s64 adj;  /* the register has changed by this since */
	s32 at;	  /* this place in it is known to be aligned: mask */
	u32 mask;
};
#define TR_GROUPS 4

/* What a group may have: an access at a register and a constant. */
struct acc {
	u8 base; /* guest register or ISA_REG_RIP */
	u8 size; /* 0: it is none */
	bool write;
	bool known;
	s64 disp; /* RIP: in the page */
};

struct tr {
	u8 *p;
	struct jit *j;
	struct sil_cpu *cpu;
	struct jit_block *b;
	enum fl fl, entry;
	u64 rec;	   /* of the flags, wherever they are; 0: none */
	bool fresh;	   /* with a recipe at the entry: these are still those flags */
	bool looked;	   /* they have been needed */
	unsigned vec;	   /* VEC_* that are known to be there */
	unsigned x87;	   /* see struct jit_insn */
	unsigned shadow;   /* instructions until STI's shadow ends: this and the next */
	unsigned word;	   /* bytes of an address, a stack slot and RIP: 8; 4 in 32-bit code */
	unsigned start;	   /* offset of the block in its page */
	unsigned off, end; /* of the instruction and of the next */
	unsigned index;	   /* instructions before it */
	u8 *body;
	const struct isa_insn *i;
	/* The instructions from here on, as far as they are likely to be in the block. */
	struct isa_insn pre[JIT_BLOCK_INSNS];
	u16 pre_off[JIT_BLOCK_INSNS + 1];
	struct acc acc[JIT_BLOCK_INSNS]; /* acc_at */
	u32 writes[JIT_BLOCK_INSNS];	 /* tr_writes_at; ~0: not asked yet */
	unsigned npre;
	bool user;		       /* CPL was 3 when it was translated: no more than a hint */
	bool in_loop[JIT_BLOCK_INSNS]; /* a jump of the block leads back to it, or before it */
	struct jit_insn *ji;	       /* of the instruction, once made */
	bool done;		       /* the block has ended */
	bool plain;		       /* no groups */
	unsigned slot;		       /* of T1's address, JIT_NEAR_*: for tr_access */
	bool shifted;		       /* the operand is to be kept for the flags' recipe */
	bool grouped;		       /* T1 is a host address already: for tr_access */
	struct group group[TR_GROUPS];
	unsigned next_group;
	unsigned t1; /* T1 holds the address of group[t1 - 1] still; 0: of none */
	/* Spilled guest registers that T0 and T1 hold too, NO_HOST: none. True only where @held_at
	 * is @p: code that says nothing of it may have changed them. */
	u8 held[2];
	const u8 *held_at;
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
void enc_parse(const struct tr *t, struct enc *e); /* of t->i */

/* ---- Flags ---- */
void tr_need_flags(struct tr *t);  /* they will be in EFLAGS */
void tr_spill_flags(struct tr *t); /* EFLAGS may be clobbered */
void tr_store_flags(struct tr *t); /* they are in memory; EFLAGS may be clobbered */
static inline void tr_set_flags(struct tr *t)
{
	t->fl = FL_HOST;
	t->rec = 0;
	t->fresh = false;
}
/* Nothing can see the flags that are there after this instruction. */
bool tr_flags_dead(const struct tr *t);
/* Is it known, and of use, that code at @target begins with reading flags? */
bool tr_reads_flags_at(const struct tr *t, unsigned target);

/* ---- Pieces ---- */
struct jit_insn *tr_insn(struct tr *t);
struct cold *tr_cold(struct tr *t, enum cold_kind kind, u8 *site, void *arg);
/* Linear address of the memory operand into T1. False: leave it to the handler. */
bool tr_ea(struct tr *t);
/* T1 = linear address of @size bytes -> T1 = host address; else the handler runs the instruction.
 * Flags are not in EFLAGS. Returns the cold piece, whose way back the caller sets. */
struct cold *tr_access(struct tr *t, unsigned size, bool write, enum cold_kind kind);
void tr_back(struct tr *t, struct cold *c); /* NULL: nothing to do */
/*
 * The instruction's memory operand: T1 + *@disp is its host address. *@c is the cold piece, NULL in
 * a group; only then flags stay where they are. False: leave it to the handler.
 */
bool tr_mem(struct tr *t, unsigned size, bool write, struct cold **c, s32 *disp);
/* The same for 8 bytes at RSP + @at. */
struct cold *tr_stack(struct tr *t, s32 at, bool write, enum cold_kind kind, s32 *disp);
/* Is this instruction's access in a group, or can one begin? Then T1 + *@disp is its host address.
 */
bool tr_group(struct tr *t, s32 *disp);
/* After tr_group: is the address known to be aligned, by an earlier access? If not, it is now. */
bool tr_group_aligned(struct tr *t, s32 disp, unsigned mask);
void tr_groups_after(struct tr *t); /* this instruction */
void tr_groups_end(struct tr *t);
tr_fn *tr_fn_of(const struct isa_insn *i);
unsigned tr_attr_of(const struct isa_insn *i);
bool tr_usable(const struct tr *t, const struct isa_insn *i);
/* Guest registers that instruction @k of the block may change; more is safe. */
unsigned tr_writes_at(struct tr *t, unsigned k);
bool tr_ea_offset(struct tr *t, unsigned dst);
/* A jump to a plain block that begins with this instruction. */
struct jit_link *tr_plain_link(struct tr *t);
/* A spilled register into @scratch, or the host register it lives in. */
unsigned tr_reg(struct tr *t, unsigned guest, unsigned scratch);
/* The scratch register back in which a spilled guest register was. */
void tr_write_back(struct tr *t, unsigned guest, unsigned host);
/* Does this instruction's translation use neither T0 nor T1, but for flags? */
bool tr_no_scratch(const struct tr *t);
/* The code from @from on has changed no scratch register but, perhaps, @host (NO_HOST: none), or
 * has made @scratch equal to @guest. */
void tr_held_but(struct tr *t, const u8 *from, unsigned host);
void tr_held_set(struct tr *t, const u8 *from, unsigned scratch, unsigned guest);
/* Counts the instructions of the block up to and including this one, without touching flags. */
void tr_count(struct tr *t, unsigned n);

/* jump.c */
tr_fn tr_jcc, tr_jmp, tr_call, tr_ret;
void tr_fallthrough(struct tr *t);
void tr_cross(struct tr *t, const struct jit_cross *x); /* before its instruction */
void tr_edge_cold(struct tr *t, struct cold *c);
/* For a jump with the flags in @fl to @target in a page, with @count instructions not counted yet.
 */
struct jit_link *tr_new_link(struct tr *t, unsigned target, unsigned count, enum jit_fl fl);
/* jmp to the target's translation; until there is one, to the stub that makes it. */
void tr_link_jump(struct tr *t, struct jit_link *l);
void tr_count_mem(struct tr *t, unsigned n);
/* Checks the stack slot, stores the return address there, moves RSP. Uses T0, T1. */
void tr_push_return(struct tr *t);
/* far.c: @target is relative to the page's start. */
bool tr_far_links(s64 target);
/* Flags are in memory or have a recipe. @insn: NULL if the block just ends. */
struct jit_link *tr_far_link(struct tr *t, s64 target, unsigned count, struct jit_insn *insn);
void tr_far_jump(struct tr *t, struct jit_link *l, bool shadow);
void tr_far_call(struct tr *t, struct jit_link *l);
/* insn.c */
tr_fn tr_copy, tr_plain, tr_nothing, tr_mov, tr_lea, tr_shift, tr_bit, tr_bswap, tr_xchg, tr_div,
	tr_vex;
/* stack.c */
tr_fn tr_push, tr_pop, tr_leave;
/* string.c */
tr_fn tr_stos, tr_movs;
/* simd.c */
tr_fn tr_simd;
/* The registers that @bit of VEC_* stands for are the guest's from here on. */
void tr_need_vec(struct tr *t, unsigned bit);
/* sys.c */
tr_fn tr_swapgs, tr_cli, tr_sti, tr_pushf, tr_popf, tr_ac, tr_vmx, tr_syscall, tr_sysret, tr_iret,
	tr_df, tr_cmpxchg16b, tr_int, tr_invlpg, tr_pause;
/* MOV to CR3. */
bool tr_to_cr3(struct tr *t);
void tr_shadow_end(struct tr *t);
/* A branch that can no longer fault. Leaves the flags alone. */
void tr_shadow_over(struct tr *t);
void tr_no_shadow(struct tr *t);
bool tr_branches(tr_fn *fn);
/* sysreg.c */
tr_fn tr_rdtsc, tr_mov_cr, tr_rdpkru, tr_read_base, tr_write_base, tr_mov_segrd;
/* Goes to the handler unless CPL is 0. EFLAGS may be clobbered. */
void tr_need_cpl0(struct tr *t);
/* x87.c */
tr_fn tr_x87, tr_x87_control, tr_x87_nothing, tr_fninit, tr_fldcw, tr_emms;
void tr_x87_flush(struct tr *t);

#endif
