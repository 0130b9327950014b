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
	OP_SUB_R_RM = 0x2b,
	OP_XOR_R_RM = 0x33,
	OP_CMP_R_RM = 0x3b,
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

static inline void emit_mov_rr_n(u8 **p, unsigned bytes, unsigned dst, unsigned src)
{
	put8(p, (bytes == 8 ? 0x48 : 0x40) | src >> 3 << 2 | dst >> 3);
	put8(p, 0x89);
	put8(p, 0xc0 | (src & 7) << 3 | (dst & 7));
}

static inline void emit_mov_rr(u8 **p, unsigned dst, unsigned src)
{
	emit_mov_rr_n(p, 8, dst, src);
}

static inline void emit_mov_imm64(u8 **p, unsigned reg, u64 v)
{
	put8(p, 0x48 | reg >> 3);
	put8(p, 0xb8 | (reg & 7));
	put64(p, v);
}

/* lea dst, [base + disp], with 32 or 64 bits of it */
static inline void emit_lea_n(u8 **p, unsigned bytes, unsigned dst, unsigned base, s32 disp)
{
	put8(p, (bytes == 8 ? 0x48 : 0x40) | dst >> 3 << 2 | base >> 3);
	put8(p, 0x8d);
	put8(p, 0x80 | (dst & 7) << 3 | (base & 7));
	if ((base & 7) == 4)
		put8(p, 0x24);
	put32(p, (u32)disp);
}

static inline void emit_lea(u8 **p, unsigned dst, unsigned base, s32 disp)
{
	emit_lea_n(p, 8, dst, base, disp);
}

static inline void emit_push(u8 **p, unsigned reg)
{
	if (reg > 7)
		put8(p, 0x41);
	put8(p, 0x50 | (reg & 7));
}

static inline void emit_pop(u8 **p, unsigned reg)
{
	if (reg > 7)
		put8(p, 0x41);
	put8(p, 0x58 | (reg & 7));
}

/* One NOP, or none, so that what comes after @bytes more is 4-aligned. */
static inline void emit_align(u8 **p, unsigned bytes)
{
	switch (-((u64)*p + bytes) & 3) {
	case 1: EMIT(p, 0x90); break;
	case 2: EMIT(p, 0x66, 0x90); break;
	case 3: EMIT(p, 0x0f, 0x1f, 0x00); break;
	default: break;
	}
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

#define COND_B	2u
#define COND_AE 3u
#define COND_E	4u
#define COND_NE 5u
#define COND_BE 6u
#define COND_A	7u

/* A look at the request word: the displacement of the jump that is taken if it is not 0. */
static inline u8 *emit_asked(u8 **p)
{
	EMIT(p, 0x65, 0x83, 0x3c, 0x25); /* cmp dword gs:[request], 0; jne */
	put32(p, GS_OF(c.request));
	put8(p, 0);
	return emit_jcc(p, COND_NE);
}

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

/* ModRM of [T1 + disp]. */
static inline void emit_t1_mem(u8 **p, unsigned reg, s32 disp)
{
	unsigned modrm = (reg & 7) << 3 | (T1 & 7);

	if (!disp) {
		put8(p, modrm);
	} else if (disp == (s8)disp) {
		put8(p, 0x40 | modrm);
		put8(p, (u8)disp);
	} else {
		put8(p, 0x80 | modrm);
		put32(p, (u32)disp);
	}
}

/* op reg, [T1 + disp] or the other way with a one-byte opcode, 4 or 8 bytes. */
static inline void emit_t1(u8 **p, unsigned bytes, unsigned op, unsigned reg, s32 disp)
{
	put8(p, (bytes == 8 ? 0x49 : 0x41) | reg >> 3 << 2);
	put8(p, op);
	emit_t1_mem(p, reg, disp);
}

#endif
