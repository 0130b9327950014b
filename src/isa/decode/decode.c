/* SPDX-License-Identifier: MIT */
/*
 * From bytes to struct isa_insn, over Zydis. Zydis is asked for the newest processor (LZCNT, TZCNT,
 * WBNOINVD, CET); whether the guest has one is the row's feature check at execution. Its decoder
 * objects depend on nothing but the mode and are set up at each call: a few stores.
 */
#include <string.h>

#include "isa/decode/decode.h"

#include "isa/insn_table.h"

static void decoder_init(ZydisDecoder *d, enum isa_mode mode)
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

	ZydisDecoderInit(d, zm[mode].mode, zm[mode].stack);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
	/* MPX is gone from processors: its opcodes are hint NOPs again. */
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
}

/* Kind and number of a register operand. */
static void reg_operand(struct isa_opnd *o, ZydisRegister reg)
{
	ZyanI8 id = ZydisRegisterGetId(reg);

	o->reg = (u8)id;
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8:
		/* Zydis numbers AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B... */
		o->kind = OK_GPR;
		if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
			o->kind = OK_GPRH;
			o->reg = reg - ZYDIS_REGISTER_AH;
		} else if (reg >= ZYDIS_REGISTER_SPL) {
			o->reg = reg - ZYDIS_REGISTER_SPL + 4;
		} else {
			o->reg = reg - ZYDIS_REGISTER_AL;
		}
		break;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64: o->kind = OK_GPR; break;
	case ZYDIS_REGCLASS_X87: o->kind = OK_X87; break;
	case ZYDIS_REGCLASS_MMX: o->kind = OK_MMX; break;
	case ZYDIS_REGCLASS_XMM: o->kind = OK_XMM; break;
	case ZYDIS_REGCLASS_YMM: o->kind = OK_YMM; break;
	case ZYDIS_REGCLASS_ZMM: o->kind = OK_ZMM; break;
	case ZYDIS_REGCLASS_SEGMENT: o->kind = OK_SEG; break;
	case ZYDIS_REGCLASS_CONTROL: o->kind = OK_CR; break;
	case ZYDIS_REGCLASS_DEBUG: o->kind = OK_DR; break;
	case ZYDIS_REGCLASS_MASK: o->kind = OK_KREG; break;
	case ZYDIS_REGCLASS_BOUND: o->kind = OK_BND; break;
	default: o->kind = OK_NONE; break; /* RFLAGS, RIP, GDTR: handlers know */
	}
}

static u8 mem_reg(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return ISA_REG_NONE;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP || reg == ZYDIS_REGISTER_IP)
		return ISA_REG_RIP;
	return (u8)ZydisRegisterGetId(reg);
}

static void mem_operand(struct isa_insn *insn, const ZydisDecodedOperand *z)
{
	static const u8 log2_scale[9] = {[1] = 0, [2] = 1, [4] = 2, [8] = 3};

	insn->seg = z->mem.segment >= ZYDIS_REGISTER_ES && z->mem.segment <= ZYDIS_REGISTER_GS
			    ? z->mem.segment - ZYDIS_REGISTER_ES
			    : DS;
	insn->base = mem_reg(z->mem.base);
	insn->index = mem_reg(z->mem.index);
	insn->scale = z->mem.scale <= 8 ? log2_scale[z->mem.scale] : 0;
	insn->disp = (u64)z->mem.disp.value;
	insn->msize = z->size / 8 < 256 ? (u8)(z->size / 8) : 0;
}

/* Zydis 4.0 takes SIB base 101 with ModRM.mod 0 for R13D under a 67 prefix and REX.B. It stands for
 * no base and a 32-bit displacement (SDM vol. 2A, table 2-3). */
static void fix_sib_no_base(struct isa_insn *insn, const ZydisDecodedInstruction *zi)
{
	if (!zi->raw.sib.offset || zi->raw.sib.base != 5 || zi->raw.modrm.mod)
		return;
	insn->base = ISA_REG_NONE;
	insn->disp = (u64)(s64)(s32)zi->raw.disp.value;
}

/* Addressed by SP or BP in any width, as only the stack operands of PUSH, CALL, LEAVE are. */
static bool stack_slot(const ZydisDecodedOperand *z)
{
	ZyanI8 id = ZydisRegisterGetId(z->mem.base);

	return id == RSP || id == RBP;
}

static void operands(struct isa_insn *insn, const ZydisDecodedInstruction *zi,
		     const ZydisDecodedOperand *zo)
{
	bool have_mem = false, have_imm = false;
	unsigned n = 0, k;

	for (k = 0; k < zi->operand_count && n < ARRAY_SIZE(insn->o); k++) {
		const ZydisDecodedOperand *z = &zo[k];
		struct isa_opnd *o = &insn->o[n];
		bool hidden = z->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;

		o->size = z->size / 8 < 256 ? (u8)(z->size / 8) : 0;
		switch (z->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			reg_operand(o, z->reg.value);
			if (hidden && o->kind == OK_NONE)
				continue;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			/* The stack slot of PUSH and the like is not an operand here. */
			if (hidden && (have_mem || stack_slot(z)))
				continue;
			o->kind = OK_MEM;
			mem_operand(insn, z);
			fix_sib_no_base(insn, zi);
			have_mem = true;
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (hidden)
				continue;
			o->kind = have_imm ? OK_IMM2 : OK_IMM;
			if (have_imm)
				insn->imm2 = (u16)z->imm.value.u;
			else
				insn->imm = z->imm.value.u;
			have_imm = true;
			break;
		case ZYDIS_OPERAND_TYPE_POINTER:
			o->kind = OK_IMM;
			insn->imm = z->ptr.offset;
			insn->imm2 = z->ptr.segment;
			break;
		default: continue;
		}
		n++;
	}
	insn->nops = n;
}

static u8 prefixes(const ZydisDecodedInstruction *zi, enum isa_mode mode)
{
	ZydisInstructionAttributes a = zi->attributes;
	u8 p = 0;

	if (a & ZYDIS_ATTRIB_HAS_LOCK)
		p |= ISA_P_LOCK;
	if (a & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		p |= ISA_P_REP;
	if (a & ZYDIS_ATTRIB_HAS_REPNE)
		p |= ISA_P_REPNE;
	if (a & ZYDIS_ATTRIB_HAS_OPERANDSIZE)
		p |= ISA_P_OPSZ;
	if (a & ZYDIS_ATTRIB_HAS_ADDRESSSIZE)
		p |= ISA_P_ADSZ;
	if (a & (mode == ISA_LONG64 ? ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS
				    : ZYDIS_ATTRIB_HAS_SEGMENT))
		p |= ISA_P_SEG;
	if (a & (ZYDIS_ATTRIB_HAS_VEX | ZYDIS_ATTRIB_HAS_EVEX | ZYDIS_ATTRIB_HAS_XOP))
		p |= ISA_P_VEX;
	if ((a & ZYDIS_ATTRIB_HAS_REX) && zi->raw.rex.W)
		p |= ISA_P_REXW;
	if ((a & ZYDIS_ATTRIB_HAS_VEX) && zi->raw.vex.W)
		p |= ISA_P_REXW;
	return p;
}

/* Segment of a string instruction's source. */
static u8 string_seg(const ZydisDecodedInstruction *zi, enum isa_mode mode)
{
	ZydisInstructionAttributes a = zi->attributes;

	if (a & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
		return FS;
	if (a & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
		return GS;
	if (mode == ISA_LONG64)
		return DS;
	if (a & ZYDIS_ATTRIB_HAS_SEGMENT_ES)
		return ES;
	if (a & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
		return CS;
	if (a & ZYDIS_ATTRIB_HAS_SEGMENT_SS)
		return SS;
	return DS;
}

/* Strings repeat with either prefix; of several the last one counts (seen on processors). */
static u8 string_rep(const ZydisDecodedInstruction *zi)
{
	u8 p = 0;
	unsigned k;

	for (k = 0; k < zi->raw.prefix_count; k++) {
		if (zi->raw.prefixes[k].value == 0xf3)
			p = ISA_P_REP;
		else if (zi->raw.prefixes[k].value == 0xf2)
			p = ISA_P_REPNE;
	}
	return p;
}

static enum isa_alt which(const ZydisDecodedInstruction *zi, const struct isa_insn *insn)
{
	if (zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return ALT_FAR;
	if (zi->mnemonic == ZYDIS_MNEMONIC_MOVSD || zi->mnemonic == ZYDIS_MNEMONIC_CMPSD)
		return zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT ? ALT_STR : ALT_NONE;
	if (insn->nops && (insn->o[0].kind == OK_CR || insn->o[1].kind == OK_CR))
		return ALT_CR;
	if (insn->nops && (insn->o[0].kind == OK_DR || insn->o[1].kind == OK_DR))
		return ALT_DR;
	if (insn->nops && insn->o[0].kind == OK_SEG)
		return ALT_SEG;
	if (insn->nops > 1 && insn->o[1].kind == OK_SEG)
		return ALT_SEGRD;
	return ALT_NONE;
}

/* PAUSE is F3 before the NOP 90. With REX.B, 90 is XCHG of R8 and means that with F3 too: Zydis has
 * PAUSE there, processors have not. */
static bool is_xchg_r8(const ZydisDecodedInstruction *zi)
{
	return zi->mnemonic == ZYDIS_MNEMONIC_PAUSE && zi->raw.rex.B;
}

static void make_xchg_r8(struct isa_insn *insn, const ZydisDecodedInstruction *zi)
{
	insn->op = ISA_OP_XCHG;
	insn->opsize = zi->raw.rex.W ? 8 : zi->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE ? 2 : 4;
	insn->nops = 2;
	insn->o[0] = (struct isa_opnd){.kind = OK_GPR, .reg = R8, .size = insn->opsize};
	insn->o[1] = (struct isa_opnd){.kind = OK_GPR, .reg = RAX, .size = insn->opsize};
}

/* Encodings that share mnemonics with rows of ours, of extensions we do not have: AVX-512 and the
 * first Xeon Phi. */
static bool foreign(const ZydisDecodedInstruction *zi)
{
	return zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	       zi->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
	       zi->meta.isa_ext == ZYDIS_ISA_EXT_KNC || zi->meta.isa_ext == ZYDIS_ISA_EXT_KNCE ||
	       zi->meta.isa_ext == ZYDIS_ISA_EXT_KNCV;
}

static enum isa_decode_result failed(ZyanStatus s, size_t n, struct isa_insn *insn)
{
	if (s == ZYDIS_STATUS_NO_MORE_DATA && n < sizeof(insn->raw))
		return ISA_DECODE_SHORT;
	insn->len = 1;
	insn->flags = ISA_F_END;
	if (s == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || s == ZYDIS_STATUS_NO_MORE_DATA) {
		insn->exec = isa_exec_toolong;
		return ISA_DECODE_LONG;
	}
	insn->exec = isa_exec_ud;
	return ISA_DECODE_UD;
}

isa_exec_fn *decode_exec(const struct isa_insn *insn)
{
	const struct isa_row *row = &isa_rows[insn->op];

	if (row->feat != FEAT_NONE || (insn->flags & ISA_F_GATED))
		return isa_exec_gated;
	return isa_exec_special(insn) ?: row->fn;
}

enum isa_decode_result decode_zydis(const u8 *bytes, size_t n, enum isa_mode mode,
				    struct isa_insn *insn, ZydisDecodedInstruction *zi)
{
	ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecoder d;
	ZyanStatus s;

	memset(insn, 0, sizeof(*insn));
	insn->mode = mode;
	insn->base = insn->index = ISA_REG_NONE;
	insn->seg = DS;
	if (!n)
		return ISA_DECODE_SHORT;

	decoder_init(&d, mode);
	s = ZydisDecoderDecodeFull(&d, bytes, n, zi, zo);
	memcpy(insn->raw, bytes, MIN(n, sizeof(insn->raw)));
	if (ZYAN_SUCCESS(s) && foreign(zi))
		s = ZYDIS_STATUS_DECODING_ERROR;
	if (!ZYAN_SUCCESS(s))
		return failed(s, n, insn);

	memset(insn->raw + zi->length, 0, sizeof(insn->raw) - zi->length);
	insn->len = zi->length;
	insn->opsize = zi->operand_width / 8;
	insn->addrsize = zi->address_width / 8;
	insn->cond = zi->opcode & 15;
	insn->modrm_off = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM ? zi->raw.modrm.offset : 0;
	insn->prefixes = prefixes(zi, mode);
	operands(insn, zi, zo);

	insn->op = isa_op_of(zi->mnemonic, which(zi, insn));
	if (is_xchg_r8(zi))
		make_xchg_r8(insn, zi);
	insn->flags = isa_rows[insn->op].flags;
	if (insn->flags & ISA_F_STR) {
		insn->seg = string_seg(zi, mode);
		insn->prefixes &= ~(ISA_P_REP | ISA_P_REPNE);
		insn->prefixes |= string_rep(zi);
	}
	if (insn->op == ISA_OP_MONITOR)
		insn->seg = string_seg(zi, mode);
	if (insn->op == ISA_OP_UNKNOWN) {
		insn->exec = isa_exec_ud;
		return ISA_DECODE_UD;
	}
	if ((insn->prefixes & ISA_P_LOCK) && !(insn->flags & ISA_F_LOCK)) {
		insn->exec = isa_exec_ud;
		return ISA_DECODE_UD;
	}
	insn->exec = decode_exec(insn);
	return ISA_DECODE_OK;
}

enum isa_decode_result isa_decode(const u8 *bytes, size_t n, enum isa_mode mode,
				  struct isa_insn *insn)
{
	ZydisDecodedInstruction zi;

	return decode_zydis(bytes, n, mode, insn, &zi);
}
