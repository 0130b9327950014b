/* SPDX-License-Identifier: MIT */
/* Segmentation of data accesses. SDM vol. 3A, 5.3 (limits), 5.4-5.5 (types), 3.3.4-3.4. */
#include "isa/exec/operand.h"

static __noreturn void segment_fault(struct isa_cpu *c, unsigned seg)
{
	isa_raise_err(c, seg == SS ? X86_SS_VEC : X86_GP, 0);
}

/* Read or write by type. Virtual-8086 and real mode have data segments only. */
static bool type_allows(const struct isa_seg *s, unsigned how)
{
	if (s->ar & 8) /* code: never writable, readable by bit 1 */
		return !(how & ISA_ACC_WRITE) && (s->ar & 2);
	return !(how & ISA_ACC_WRITE) || (s->ar & 2);
}

static bool within_limit(const struct isa_seg *s, u64 first, u64 last)
{
	if ((s->ar & 0xc) == 4) /* expand-down data */
		return first > s->limit && last <= (s->ar & SEG_AR_DB ? 0xffffffff : 0xffff);
	return last <= s->limit;
}

u64 isa_seg_linear(struct isa_cpu *c, unsigned seg, u64 offset, unsigned size, unsigned how)
{
	const struct isa_seg *s = &c->s.seg[seg];
	u64 last = offset + (size ? size - 1 : 0);

	if (c->mode == ISA_LONG64)
		return seg < FS ? offset : offset + s->base;
	if (is_prot(c)) {
		if ((s->ar & SEG_AR_UNUSABLE) || !type_allows(s, how))
			segment_fault(c, seg);
		if (!within_limit(s, offset, last))
			segment_fault(c, seg);
	} else if (last > s->limit) {
		segment_fault(c, seg);
	}
	return (u32)(s->base + offset);
}
