/* SPDX-License-Identifier: MIT */
/*
 * From a guest instruction to a small function that does the same to struct isa_cpu:
 *
 *	load the vector, MMX and general registers it names
 *	the instruction: vector registers keep their numbers, general ones become R8 (ModRM.reg),
 *	R9 (ModRM.rm) and R10 (VEX.vvvv), the memory operand becomes [RSI]
 *	store what it writes, unless an unmasked exception is pending
 *
 * called with RDI = the cpu, RSI = the memory operand, RDX = the frame (kept in R11). Implied RAX,
 * RCX and RDX are loaded and stored as themselves. x87 instructions run between FXRSTOR and FXSAVE
 * of the frame's image instead. What was emitted is decoded again and compared, so that an encoding
 * which means something else in 64-bit mode is never run.
 */
#include "isa/exec/native.h"

#ifdef __x86_64__
#include <string.h>

#include <Zydis/Zydis.h>

#include "isa/insn_table.h"

#define OFF_GPR(n) (offsetof(struct isa_cpu, r.gpr) + 8u * (n))
#define OFF_VEC(n) (u32)(offsetof(struct isa_cpu, r.vec) + sizeof(union isa_vec) * (n))
#define OFF_MMX(n) (u32)(offsetof(struct isa_cpu, r.x87.st) + 16u * (n))
#define FRAME(f)   ((u32)offsetof(struct native_frame, f))
_Static_assert(offsetof(struct isa_cpu, r.gpr) + 15 * 8 < 128, "8-bit displacements reach it");
_Static_assert(FRAME(flags_out) < 128 && FRAME(fcw_host) < 128, "8-bit displacements reach it");

/* Where the instruction's general registers go. */
enum { HOST_REG = 8, HOST_RM = 9, HOST_VVVV = 10 };

struct emit {
	u8 *p;
	const struct isa_insn *i;
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
	bool vex, x87;
	bool vec; /* has vector registers */
};

#define BYTES(e, ...)                                 \
	do {                                          \
		static const u8 b_[] = {__VA_ARGS__}; \
		memcpy((e)->p, b_, sizeof(b_));       \
		(e)->p += sizeof(b_);                 \
	} while (0)

static void put32(struct emit *e, u32 v)
{
	memcpy(e->p, &v, 4);
	e->p += 4;
}

static void decode(const struct isa_insn *i, const u8 *bytes, size_t n, enum isa_mode mode,
		   ZydisDecodedInstruction *zi, ZydisDecodedOperand *zo, bool *ok)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth stack;
	} zm[ISA_NMODES] = {
		[ISA_REAL16] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
		[ISA_PROT16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
		[ISA_PROT32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
		[ISA_LONG64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
	};
	ZydisDecoder d;

	ZydisDecoderInit(&d, zm[mode].mode, zm[mode].stack);
	*ok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, bytes, n, zi, zo));
}

/* movups/vmovups between a vector register and the cpu; @store 0 or 1. */
static void vec_move(struct emit *e, unsigned r, unsigned size, unsigned store)
{
	if (e->vex) {
		*e->p++ = 0xc5;
		*e->p++ = (r < 8 ? 0x80 : 0) | 0x78 | (size == 32 ? 4 : 0);
	} else {
		if (r >= 8)
			*e->p++ = 0x44;
		*e->p++ = 0x0f;
	}
	*e->p++ = 0x10 + store;
	*e->p++ = 0x87 | (r & 7) << 3;
	put32(e, OFF_VEC(r));
}

/* movq between an MMX register and the cpu. */
static void mmx_move(struct emit *e, unsigned r, bool store)
{
	*e->p++ = 0x0f;
	*e->p++ = store ? 0x7f : 0x6f;
	*e->p++ = 0x87 | r << 3;
	put32(e, OFF_MMX(r));
	if (!store)
		return;
	/* movw $-1, the exponent (SDM vol. 3A, 12.2): 66 c7 /0 */
	BYTES(e, 0x66, 0xc7, 0x87);
	put32(e, OFF_MMX(r) + 8);
	BYTES(e, 0xff, 0xff);
}

/* mov between host register @h and the cpu's general register @r. */
static void gpr_move(struct emit *e, unsigned h, unsigned r, bool store)
{
	*e->p++ = 0x48 | (h >= 8 ? 4 : 0);
	*e->p++ = store ? 0x89 : 0x8b;
	*e->p++ = 0x47 | (h & 7) << 3;
	*e->p++ = (u8)OFF_GPR(r);
}

static unsigned reg_size(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_XMM: return 16;
	case ZYDIS_REGCLASS_YMM: return 32;
	default: return 0;
	}
}

/* Host register of a general register operand; -1 if the emitter has no place for it. */
static int host_gpr(const ZydisDecodedOperand *z)
{
	int id = ZydisRegisterGetId(z->reg.value);

	switch (z->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: return HOST_REG;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM: return HOST_RM;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: return HOST_VVVV;
	default: return id == RAX || id == RCX || id == RDX ? id : -1;
	}
}

static bool is_gpr(ZydisRegister r)
{
	ZydisRegisterClass k = ZydisRegisterGetClass(r);

	return k == ZYDIS_REGCLASS_GPR32 || k == ZYDIS_REGCLASS_GPR64;
}

/* Register operands in or out. Outputs in reverse order: MULX with one destination twice keeps the
 * first operand's value. */
static bool move_operands(struct emit *e, bool store, struct native_stub *s)
{
	unsigned n = e->zi.operand_count, k;

	for (k = 0; k < n; k++) {
		const ZydisDecodedOperand *z = &e->zo[store ? n - 1 - k : k];
		bool wanted = store ? z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE : true;
		ZydisRegister r = z->reg.value;
		unsigned id;

		if (z->type != ZYDIS_OPERAND_TYPE_REGISTER || !wanted)
			continue;
		id = (unsigned)ZydisRegisterGetId(r);
		if (reg_size(r)) {
			e->vec = true;
			/* A VEX instruction clears what it does not write; and one register may be
			 * two operands of different size. */
			vec_move(e, id, e->vex ? 32 : reg_size(r), store);
		} else if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_MMX) {
			mmx_move(e, id, store);
			s->flags |= NATIVE_MMX | NATIVE_BOUNCE;
		} else if (is_gpr(r)) {
			int h = host_gpr(z);

			if (h < 0)
				return false;
			gpr_move(e, (unsigned)h, id, store);
		}
	}
	return true;
}

/* Extension bits of a register operand's number; general registers have been renumbered. */
static unsigned ext_bit(const struct emit *e, ZydisOperandEncoding where)
{
	unsigned k;

	for (k = 0; k < e->zi.operand_count; k++) {
		const ZydisDecodedOperand *z = &e->zo[k];

		if (z->type != ZYDIS_OPERAND_TYPE_REGISTER || z->encoding != where)
			continue;
		if (is_gpr(z->reg.value))
			return 1;
		return (unsigned)ZydisRegisterGetId(z->reg.value) >> 3 & 1;
	}
	return 0;
}

static u8 modrm_of(const struct emit *e)
{
	u8 m = e->i->raw[e->zi.raw.modrm.offset];
	unsigned k;

	if (m < 0xc0)
		return (m & 0x38) | 6; /* [rsi] */
	for (k = 0; k < e->zi.operand_count; k++) {
		const ZydisDecodedOperand *z = &e->zo[k];

		if (z->type == ZYDIS_OPERAND_TYPE_REGISTER && is_gpr(z->reg.value) &&
		    z->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			m = (m & 0xf8) | (HOST_RM & 7);
	}
	return m;
}

static u8 modrm_reg(const struct emit *e, u8 m)
{
	unsigned k;

	for (k = 0; k < e->zi.operand_count; k++) {
		const ZydisDecodedOperand *z = &e->zo[k];

		if (z->type == ZYDIS_OPERAND_TYPE_REGISTER && is_gpr(z->reg.value) &&
		    z->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			return (m & 0xc7) | (HOST_REG & 7) << 3;
	}
	return m;
}

static unsigned vvvv_of(const struct emit *e)
{
	unsigned k;

	for (k = 0; k < e->zi.operand_count; k++) {
		const ZydisDecodedOperand *z = &e->zo[k];

		if (z->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    z->encoding != ZYDIS_OPERAND_ENCODING_NDSNDD)
			continue;
		return is_gpr(z->reg.value) ? HOST_VVVV
					    : (unsigned)ZydisRegisterGetId(z->reg.value);
	}
	return 0;
}

static void put_vex(struct emit *e, bool w)
{
	unsigned r = ext_bit(e, ZYDIS_OPERAND_ENCODING_MODRM_REG);
	unsigned b = ext_bit(e, ZYDIS_OPERAND_ENCODING_MODRM_RM);

	*e->p++ = 0xc4;
	*e->p++ = (r ? 0 : 0x80) | 0x40 | (b ? 0 : 0x20) | e->zi.raw.vex.m_mmmm;
	*e->p++ =
		(w ? 0x80 : 0) | (~vvvv_of(e) & 15) << 3 | e->zi.raw.vex.L << 2 | e->zi.raw.vex.pp;
}

static void put_legacy(struct emit *e)
{
	static const u8 map_38[] = {0x0f, 0x38}, map_3a[] = {0x0f, 0x3a};
	unsigned r = ext_bit(e, ZYDIS_OPERAND_ENCODING_MODRM_REG);
	unsigned b = ext_bit(e, ZYDIS_OPERAND_ENCODING_MODRM_RM);
	bool w = (e->zi.attributes & ZYDIS_ATTRIB_HAS_REX) && e->zi.raw.rex.W;
	unsigned k;

	for (k = 0; k < e->zi.raw.prefix_count; k++) {
		if (e->zi.raw.prefixes[k].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			*e->p++ = e->zi.raw.prefixes[k].value;
	}
	if (r | b | w)
		*e->p++ = 0x40 | w << 3 | r << 2 | b;
	switch (e->zi.opcode_map) {
	case ZYDIS_OPCODE_MAP_0F: *e->p++ = 0x0f; break;
	case ZYDIS_OPCODE_MAP_0F38:
		memcpy(e->p, map_38, 2);
		e->p += 2;
		break;
	case ZYDIS_OPCODE_MAP_0F3A:
		memcpy(e->p, map_3a, 2);
		e->p += 2;
		break;
	default: break;
	}
}

/* The instruction itself, at most 15 bytes. */
static void put_insn(struct emit *e, bool vex_w)
{
	if (e->vex)
		put_vex(e, vex_w);
	else
		put_legacy(e);
	*e->p++ = e->zi.opcode;
	if (e->zi.attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		u8 m = modrm_of(e);

		*e->p++ = e->x87 ? m : modrm_reg(e, m);
	}
	if (e->zi.raw.imm[0].size) {
		/* Register numbers in an immediate have 3 bits outside 64-bit mode. */
		u8 imm = e->i->raw[e->zi.raw.imm[0].offset];
		unsigned k;

		for (k = 0; k < e->zi.operand_count; k++) {
			if (e->zo[k].encoding == ZYDIS_OPERAND_ENCODING_IS4 &&
			    e->i->mode != ISA_LONG64)
				imm &= 0x7f;
		}
		*e->p++ = imm;
	}
}

/* Is the instruction at @at, which ends at e->p, the guest's instruction? */
static bool same_insn(const struct emit *e, const u8 *at)
{
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction d;
	unsigned k;
	bool ok;

	decode(e->i, at, (size_t)(e->p - at), ISA_LONG64, &d, o, &ok);
	if (!ok || d.length != e->p - at || d.mnemonic != e->zi.mnemonic ||
	    d.operand_count != e->zi.operand_count)
		return false;
	for (k = 0; k < d.operand_count; k++) {
		const ZydisDecodedOperand *a = &o[k], *b = &e->zo[k];

		if (k >= d.operand_count_visible) {
			/* EFLAGS may be RFLAGS; implied registers keep their width. */
			unsigned width = e->i->mode == ISA_LONG64 ? b->size : 32;

			if (a->type == ZYDIS_OPERAND_TYPE_REGISTER && is_gpr(a->reg.value) &&
			    a->size != width)
				return false;
			continue;
		}
		if (a->type != b->type || (a->size != b->size))
			return false;
		if (a->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (a->mem.base != ZYDIS_REGISTER_RSI || a->mem.index || a->mem.disp.value))
			return false;
		if (a->type == ZYDIS_OPERAND_TYPE_REGISTER && !is_gpr(a->reg.value) &&
		    a->reg.value != b->reg.value)
			return false;
	}
	return true;
}

static bool put_checked_insn(struct emit *e)
{
	u8 *at = e->p;

	put_insn(e, e->vex && e->zi.raw.vex.W);
	if (same_insn(e, at))
		return true;
	/* Outside 64-bit mode VEX.W does not select 64-bit general registers. */
	e->p = at;
	put_insn(e, false);
	return same_insn(e, at);
}

static void put_flags_out(struct emit *e)
{
	/* pushfq; pop [r11 + flags_out] */
	BYTES(e, 0x9c, 0x41, 0x8f, 0x43, FRAME(flags_out));
}

static bool emit_x87(struct emit *e)
{
	/* mov r11, rdx; fxrstor [r11 + image] */
	BYTES(e, 0x49, 0x89, 0xd3, 0x41, 0x0f, 0xae, 0x4b, FRAME(image));
	/* push [r11 + flags_in]; popfq */
	BYTES(e, 0x41, 0xff, 0x73, FRAME(flags_in), 0x9d);
	if (!put_checked_insn(e))
		return false;
	put_flags_out(e);
	/* fxsave [r11 + image]; fninit; fldcw [r11 + fcw_host]; ret */
	BYTES(e, 0x41, 0x0f, 0xae, 0x43, FRAME(image), 0xdb, 0xe3, 0x41, 0xd9, 0x6b,
	      FRAME(fcw_host), 0xc3);
	return true;
}

static bool emit_simd(struct emit *e, struct native_stub *s)
{
	u8 *jump = NULL;

	/* mov r11, rdx */
	BYTES(e, 0x49, 0x89, 0xd3);
	if (!move_operands(e, false, s))
		return false;
	if (s->flags & NATIVE_MXCSR) /* ldmxcsr [r11 + mxcsr] */
		BYTES(e, 0x41, 0x0f, 0xae, 0x53, FRAME(mxcsr));
	if (!put_checked_insn(e))
		return false;
	if (s->flags & NATIVE_FLAGS)
		put_flags_out(e);
	if (s->flags & NATIVE_MXCSR) {
		/* stmxcsr [r11 + mxcsr_out]; mov ecx, [r11 + mxcsr_out];
		 * test ecx, [r11 + unmasked]; jnz past the stores */
		BYTES(e, 0x41, 0x0f, 0xae, 0x5b, FRAME(mxcsr_out), 0x41, 0x8b, 0x4b,
		      FRAME(mxcsr_out), 0x41, 0x85, 0x4b, FRAME(unmasked), 0x75, 0);
		jump = e->p;
	}
	if (!move_operands(e, true, s))
		return false;
	if (jump) {
		jump[-1] = (u8)(e->p - jump);
		/* ldmxcsr [r11 + mxcsr_host] */
		BYTES(e, 0x41, 0x0f, 0xae, 0x53, FRAME(mxcsr_host));
	}
	if (s->flags & NATIVE_MMX) /* emms */
		BYTES(e, 0x0f, 0x77);
	if (e->vex && e->vec) /* vzeroupper */
		BYTES(e, 0xc5, 0xf8, 0x77);
	BYTES(e, 0xc3);
	return true;
}

/* What a form needs beyond its row's feature (SDM vol. 1, 14.3 and 14.7). */
static enum isa_feat extra_feat(const ZydisDecodedInstruction *zi)
{
	switch (zi->meta.isa_set) {
	case ZYDIS_ISA_SET_AVX2: return FEAT_AVX2;
	case ZYDIS_ISA_SET_AVXAES: return FEAT_AES;
	case ZYDIS_ISA_SET_VAES: return FEAT_VAES;
	case ZYDIS_ISA_SET_VPCLMULQDQ: return FEAT_VPCLMUL;
	case ZYDIS_ISA_SET_AVX_GFNI: return FEAT_AVX;
	default: return zi->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ ? FEAT_PCLMUL : FEAT_NONE;
	}
}

unsigned native_emit(const struct isa_insn *i, u8 *out, struct native_stub *s)
{
	struct emit e = {.p = out, .i = i};
	unsigned k;
	bool ok;

	decode(i, i->raw, i->len, i->mode, &e.zi, e.zo, &ok);
	if (!ok)
		return 0;
	*s = (struct native_stub){.feat = (u8)extra_feat(&e.zi)};
	e.vex = e.zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	e.x87 = i->flags & ISA_F_FPU;
	for (k = 0; k < e.zi.operand_count_visible; k++) {
		const ZydisDecodedOperand *z = &e.zo[k];

		if (z->type == ZYDIS_OPERAND_TYPE_MEMORY)
			s->mem = z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? NATIVE_STORE
									      : NATIVE_LOAD;
	}
	if (e.zi.cpu_flags && (e.zi.cpu_flags->modified | e.zi.cpu_flags->set_0 |
			       e.zi.cpu_flags->set_1 | e.zi.cpu_flags->undefined) &
				      X86_STATUS_FLAGS)
		s->flags |= NATIVE_FLAGS;
	if (i->flags & ISA_F_MXCSR)
		s->flags |= NATIVE_MXCSR | NATIVE_BOUNCE;
	if ((i->flags & ISA_F_ALIGN) && i->msize >= 16)
		s->align = i->msize - 1;
	if (!(e.x87 ? emit_x87(&e) : emit_simd(&e, s)))
		return 0;
	return (unsigned)(e.p - out);
}
#endif
