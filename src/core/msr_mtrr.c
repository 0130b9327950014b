/* SPDX-License-Identifier: MIT */
/* MTRRs and PAT (SDM vol. 3A, 12.11, 12.12): checked and kept; memory is write-back whatever they
 * say. */
#include <errno.h>

#include "core/msr_impl.h"

#define MTRR_VCNT     8
#define MTRRCAP_VALUE (MTRR_VCNT | BIT(8) | BIT(10)) /* fixed ranges, write combining */

/* Types 0, 1, 4, 5, 6 exist. */
static bool valid_mtrr_type(u8 t)
{
	return t < 8 && (1u << t & 0x73);
}

static u64 *fixed_mtrr(struct mtrr_state *s, u32 index)
{
	if (index == MSR_MTRRfix64K_00000)
		return &s->fixed[0];
	if (index == MSR_MTRRfix16K_80000 || index == MSR_MTRRfix16K_A0000)
		return &s->fixed[1 + index - MSR_MTRRfix16K_80000];
	if (index >= 0x268 && index <= 0x26f)
		return &s->fixed[3 + index - 0x268];
	return NULL;
}

int msr_get_mtrr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct mtrr_state *s = &v->arch->mtrr;
	u64 *fixed = fixed_mtrr(s, m->index);

	if (m->index == 0xfe)
		m->data = MTRRCAP_VALUE;
	else if (fixed)
		m->data = *fixed;
	else if (m->index == MSR_MTRRdefType)
		m->data = s->def_type;
	else
		m->data = s->var[m->index - 0x200];
	return 0;
}

static bool mtrr_valid(const struct kvm_vcpu *v, u32 index, u64 data)
{
	u64 mask;

	if (index == MSR_MTRRdefType)
		return !(data & ~0xcffull) && valid_mtrr_type(data & 0xff);
	if (index >= 0x250) {
		for (unsigned i = 0; i < 8; i++)
			if (!valid_mtrr_type((u8)(data >> (i * 8))))
				return false;
		return true;
	}
	mask = v->arch->reserved_gpa_bits;
	if (!(index & 1)) {
		if (!valid_mtrr_type(data & 0xff))
			return false;
		mask |= 0xf00;
	} else {
		mask |= 0x7ff;
	}
	return !(data & mask);
}

int msr_set_mtrr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct mtrr_state *s = &v->arch->mtrr;
	u64 *fixed = fixed_mtrr(s, m->index);

	if (!mtrr_valid(v, m->index, m->data))
		return -EINVAL;
	if (fixed)
		*fixed = m->data;
	else if (m->index == MSR_MTRRdefType)
		s->def_type = m->data;
	else
		s->var[m->index - 0x200] = m->data;
	return 0;
}

bool kvm_pat_valid(u64 data)
{
	/* 0, 1, 4, 5, 6, 7 in each byte */
	for (unsigned i = 0; i < 8; i++) {
		u8 t = (u8)(data >> (i * 8));

		if (t > 7 || t == 2 || t == 3)
			return false;
	}
	return true;
}

int msr_set_pat(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!kvm_pat_valid(m->data))
		return -EINVAL;
	v->arch->pat = m->data;
	return v->kvm->ops->set_msr(v, m->index, m->data) ? -EINVAL : 0;
}
