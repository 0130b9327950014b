/* SPDX-License-Identifier: MIT */
/* CPUID features as instructions see them: one bit each in isa_cpu.feat. Rows: spec/insn/feat.def.
 */
#ifndef ISA_FEAT_H
#define ISA_FEAT_H

#include "isa/isa.h"

enum isa_feat {
	FEAT_NONE, /* always there */
#define FEAT(name, leaf, subleaf, reg, bit) FEAT_##name,
#include "spec/insn/feat.def"
	FEAT_N,
};
_Static_assert(FEAT_N <= 256, "isa_cpu.feat holds four words");

static inline bool isa_has(const struct isa_cpu *c, enum isa_feat f)
{
	return c->feat[f / 64] >> (f % 64) & 1;
}

static inline void isa_feat_set(struct isa_cpu *c, enum isa_feat f, bool on)
{
	c->feat[f / 64] = (c->feat[f / 64] & ~BIT(f % 64)) | ((u64)on << (f % 64));
}

/* Fills c->feat from what CPUID answers. Owner thread. */
typedef void isa_cpuid_fn(void *opaque, u32 leaf, u32 subleaf, u32 out[4]);
void isa_feat_load(struct isa_cpu *c, isa_cpuid_fn *cpuid, void *opaque);

/* Whether this host can run the instructions of @f; features it cannot run are not offered to
 * guests. Any thread. */
bool isa_feat_runnable(enum isa_feat f);

#endif
