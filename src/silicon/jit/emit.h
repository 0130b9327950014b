/* SPDX-License-Identifier: MIT */
/* Host instructions as bytes. SDM vol. 2A, chapter 2. */
#ifndef SILICON_JIT_EMIT_H
#define SILICON_JIT_EMIT_H

#include <string.h>

#include "silicon/jit/jit.h"

#define EMIT(p, ...)                                  \
	do {                                          \
		static const u8 b_[] = {__VA_ARGS__}; \
		memcpy(*(p), b_, sizeof(b_));         \
		*(p) += sizeof(b_);                   \
	} while (0)

static inline void put8(u8 **p, unsigned v)
{
	*(*p)++ = (u8)v;
}

static inline void put32(u8 **p, u32 v)
{
	memcpy(*p, &v, 4);
	*p += 4;
}

static inline void put64(u8 **p, u64 v)
{
	memcpy(*p, &v, 8);
	*p += 8;
}

/* Offsets from GS. */
#define GS_OF(field) ((u32)offsetof(struct sil_cpu, field))
#define GS_GPR(n)    (GS_OF(c.r.gpr) + 8u * (n))
#define GS_SEGBASE(n) \
	(GS_OF(c.s.seg) + (u32)sizeof(struct isa_seg) * (n) + (u32)offsetof(struct isa_seg, base))

enum {
	OP_ADD_RM_R = 0x01,
	OP_ADD_R_RM = 0x03,
	OP_XOR_R_RM = 0x33,
	OP_MOV_R_RM = 0x8b,
	OP_MOV_RM_R = 0x89
};

/* op reg, gs:[off] with a one-byte opcode; @w: 64 bits. */
static inline void emit_gs(u8 **p, unsigned op, unsigned reg, u32 off, bool w)
{
	unsigned rex = (w ? 0x48 : 0x40) | (reg >> 3 << 2);

	put8(p, 0x65);
	if (rex != 0x40)
		put8(p, rex);
	put8(p, op);
	put8(p, 0x04 | (reg & 7) << 3);
	put8(p, 0x25);
	put32(p, off);
}

static inline void emit_gs_load(u8 **p, unsigned reg, u32 off)
{
	emit_gs(p, OP_MOV_R_RM, reg, off, true);
}

static inline void emit_gs_store(u8 **p, unsigned reg, u32 off)
{
	emit_gs(p, OP_MOV_RM_R, reg, off, true);
}

static inline void emit_mov_rr(u8 **p, unsigned dst, unsigned src)
{
	put8(p, 0x48 | src >> 3 << 2 | dst >> 3);
	put8(p, 0x89);
	put8(p, 0xc0 | (src & 7) << 3 | (dst & 7));
}

static inline void emit_mov_imm64(u8 **p, unsigned reg, u64 v)
{
	put8(p, 0x48 | reg >> 3);
	put8(p, 0xb8 | (reg & 7));
	put64(p, v);
}

/* lea dst, [base + disp] */
static inline void emit_lea(u8 **p, unsigned dst, unsigned base, s32 disp)
{
	put8(p, 0x48 | dst >> 3 << 2 | base >> 3);
	put8(p, 0x8d);
	put8(p, 0x80 | (dst & 7) << 3 | (base & 7));
	if ((base & 7) == 4)
		put8(p, 0x24);
	put32(p, (u32)disp);
}

/* A jump whose displacement is @target - its end; both are write addresses. */
static inline void emit_jmp(u8 **p, const u8 *target)
{
	put8(p, 0xe9);
	put32(p, (u32)(target - (*p + 4)));
}

static inline void emit_call(u8 **p, const u8 *target)
{
	put8(p, 0xe8);
	put32(p, (u32)(target - (*p + 4)));
}

static inline u8 *emit_jcc(u8 **p, unsigned cond)
{
	put8(p, 0x0f);
	put8(p, 0x80 | cond);
	put32(p, 0);
	return *p - 4;
}

static inline void fix_rel32(u8 *site, const u8 *target)
{
	u32 v = (u32)(target - (site + 4));

	memcpy(site, &v, 4);
}

#define COND_E	4u
#define COND_NE 5u
#define COND_A	7u

/*
 * The status flags between EFLAGS and cpu->j.fl: AH as LAHF has it, AL = OF. @tmp is a scratch
 * register that RAX is kept in.
 */
static inline void emit_flags_save(u8 **p, unsigned tmp)
{
	emit_mov_rr(p, tmp, RAX);
	EMIT(p, 0x9f, 0x0f, 0x90, 0xc0, 0x66); /* lahf; seto al */
	emit_gs(p, OP_MOV_RM_R, RAX, GS_OF(j.fl), false);
	emit_mov_rr(p, RAX, tmp);
}

/* RAX is lost. */
static inline void emit_flags_load(u8 **p)
{
	EMIT(p, 0x65, 0x0f, 0xb7, 0x04, 0x25); /* movzx eax, word gs:[fl] */
	put32(p, GS_OF(j.fl));
	EMIT(p, 0x04, 0x7f, 0x9e); /* add al, 127: OF if it was 1; sahf */
}

static inline void emit_flags_restore(u8 **p, unsigned tmp)
{
	emit_mov_rr(p, tmp, RAX);
	emit_flags_load(p);
	emit_mov_rr(p, RAX, tmp);
}

static inline void emit_vec_move(u8 **p, unsigned n, bool store)
{
	/* vmovups ymm, gs:[vec] */
	put8(p, 0x65);
	put8(p, 0xc5);
	put8(p, (n < 8 ? 0x80 : 0) | 0x7c);
	put8(p, store ? 0x11 : 0x10);
	put8(p, 0x04 | (n & 7) << 3);
	put8(p, 0x25);
	put32(p, GS_OF(c.r.vec) + n * (u32)sizeof(union isa_vec));
}

/* ldmxcsr (2), stmxcsr (3) gs:[off] */
static inline void emit_mxcsr(u8 **p, unsigned op, u32 off)
{
	EMIT(p, 0x65, 0x0f, 0xae);
	put8(p, 0x04 | op << 3);
	put8(p, 0x25);
	put32(p, off);
}

/* test byte gs:[vec], bits; returns the displacement of the jump that is taken if none is set */
static inline u8 *emit_vec_test(u8 **p, u32 off, unsigned bits)
{
	EMIT(p, 0x65, 0xf6, 0x04, 0x25);
	put32(p, off);
	put8(p, bits);
	return emit_jcc(p, COND_E);
}

/* The vector registers back to C, if they are with the guest; EFLAGS and RAX are lost. */
static inline void emit_vec_save(u8 **p)
{
	u8 *none, *nofp;
	unsigned n;

	EMIT(p, 0x65, 0x0f, 0xb6, 0x04, 0x25); /* movzx eax, byte gs:[vec] */
	put32(p, GS_OF(j.vec));
	EMIT(p, 0x65, 0x88, 0x04, 0x25); /* mov gs:[vec_was], al */
	put32(p, GS_OF(j.vec_was));
	EMIT(p, 0x84, 0xc0); /* test al, al */
	none = emit_jcc(p, COND_E);
	for (n = 0; n < 16; n++)
		emit_vec_move(p, n, true);
	nofp = emit_vec_test(p, GS_OF(j.vec), VEC_SSE_FP | VEC_AVX_FP);
	emit_mxcsr(p, 3, GS_OF(c.r.x87.mxcsr));
	emit_mxcsr(p, 2, GS_OF(j.host_mxcsr));
	fix_rel32(nofp, *p);
	EMIT(p, 0xc5, 0xf8, 0x77);	 /* vzeroupper */
	EMIT(p, 0x65, 0xc6, 0x04, 0x25); /* mov byte gs:[vec], 0 */
	put32(p, GS_OF(j.vec));
	put8(p, 0);
	fix_rel32(none, *p);
}

/* The vector registers to the guest, with the rights in vec_was; EFLAGS and RAX are lost. */
static inline void emit_vec_load(u8 **p)
{
	u8 *nofp;
	unsigned n;

	EMIT(p, 0x65, 0x0f, 0xb6, 0x04, 0x25);
	put32(p, GS_OF(j.vec_was));
	EMIT(p, 0x65, 0x88, 0x04, 0x25);
	put32(p, GS_OF(j.vec));
	nofp = emit_vec_test(p, GS_OF(j.vec), VEC_SSE_FP | VEC_AVX_FP);
	emit_mxcsr(p, 3, GS_OF(j.host_mxcsr));
	emit_mxcsr(p, 2, GS_OF(c.r.x87.mxcsr));
	fix_rel32(nofp, *p);
	for (n = 0; n < 16; n++)
		emit_vec_move(p, n, false);
}

/* op reg, [rsp + off] with a one-byte opcode; off < 128. 64 bits. */
static inline void emit_sp(u8 **p, unsigned op, unsigned reg, unsigned off)
{
	put8(p, 0x48 | reg >> 3 << 2);
	put8(p, op);
	put8(p, 0x44 | (reg & 7) << 3);
	put8(p, 0x24);
	put8(p, off);
}

#define FR_OF(field) ((unsigned)offsetof(struct jit_frame, field))
#define FR_GPR(n)    (FR_OF(spill) + 8 * ((n)-R13))

/* Where guest registers live: the host register, or NO_HOST for the frame. */
#define NO_HOST 0xffu
#define HOST_SP 13u /* of the guest's RSP */
#define T0	14u /* scratch */
#define T1	15u
static inline unsigned host_of(unsigned guest)
{
	return guest == RSP ? HOST_SP : guest < R13 ? guest : NO_HOST;
}

#endif
