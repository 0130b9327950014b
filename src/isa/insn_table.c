/* SPDX-License-Identifier: MIT */
#include <Zydis/Zydis.h>

#include "isa/insn_table.h"

const struct isa_row isa_rows[ISA_OP_N] = {
	[ISA_OP_UNKNOWN] = {"(unknown)", isa_exec_ud, ISA_F_END, FEAT_NONE},
#define INSN(mnem, fn, flags, feat)		 [ISA_OP_##mnem] = {#mnem, fn, flags, feat},
#define INSN_ALT(op, mnem, alt, fn, flags, feat) [ISA_OP_##op] = {#mnem, fn, flags, feat},
#include "spec/insn/all.def"
};

static const u16 op_of_mnemonic[ZYDIS_MNEMONIC_MAX_VALUE + 1][ALT_N] = {
#define INSN(mnem, fn, flags, feat)		 [ZYDIS_MNEMONIC_##mnem][ALT_NONE] = ISA_OP_##mnem,
#define INSN_ALT(op, mnem, alt, fn, flags, feat) [ZYDIS_MNEMONIC_##mnem][alt] = ISA_OP_##op,
#include "spec/insn/all.def"
};

enum isa_op isa_op_of(unsigned mnem, enum isa_alt alt)
{
	if (mnem > ZYDIS_MNEMONIC_MAX_VALUE)
		return ISA_OP_UNKNOWN;
	if (op_of_mnemonic[mnem][alt])
		return op_of_mnemonic[mnem][alt];
	return op_of_mnemonic[mnem][ALT_NONE];
}

const char *isa_op_name(unsigned op)
{
	return op < ISA_OP_N ? isa_rows[op].name : "(none)";
}

void isa_feat_load(struct isa_cpu *c, isa_cpuid_fn *cpuid, void *opaque)
{
	static const struct {
		u32 leaf, subleaf;
		u8 reg, bit;
	} where[FEAT_N] = {
#define FEAT(name, leaf, subleaf, reg, bit) [FEAT_##name] = {leaf, subleaf, reg, bit},
#include "spec/insn/feat.def"
	};
	u32 max[2], out[4];
	unsigned f;

	/* Beyond the highest leaf CPUID answers with another leaf's data (SDM vol. 2A, CPUID). */
	cpuid(opaque, 0, 0, out);
	max[0] = out[0];
	cpuid(opaque, 0x80000000, 0, out);
	max[1] = out[0];

	isa_feat_set(c, FEAT_NONE, true);
	for (f = FEAT_NONE + 1; f < FEAT_N; f++) {
		u32 leaf = where[f].leaf, m = max[leaf >> 31];

		if (leaf > m || (m ^ leaf) >> 31) {
			isa_feat_set(c, f, false);
			continue;
		}
		cpuid(opaque, leaf, where[f].subleaf, out);
		isa_feat_set(c, f, out[where[f].reg] >> where[f].bit & 1);
	}
}
