/* SPDX-License-Identifier: MIT */
/* The out-of-line part of core/regs.h. */
#include "core/vcpu.h"

u64 kvm_efer_read(const struct kvm_vcpu *v)
{
	return v->arch->efer;
}

u64 kvm_get_rflags(struct kvm_vcpu *v)
{
	u64 rflags = v->kvm->ops->get_rflags(v);

	if (v->arch->guest_debug & KVM_GUESTDBG_SINGLESTEP)
		rflags &= ~X86_TF;
	return rflags;
}

void kvm_set_rflags(struct kvm_vcpu *v, u64 rflags)
{
	if ((v->arch->guest_debug & KVM_GUESTDBG_SINGLESTEP) &&
	    kvm_is_linear_rip(v, v->arch->singlestep_rip))
		rflags |= X86_TF;
	v->kvm->ops->set_rflags(v, rflags);
	kvm_make_request(v, REQ_EVENT);
}

bool is_64_bit_mode(struct kvm_vcpu *v)
{
	struct isa_seg cs;

	if (!is_long_mode(v))
		return false;
	kvm_get_segment(v, &cs, CS);
	return cs.ar & SEG_AR_L;
}

u64 kvm_get_linear_rip(struct kvm_vcpu *v)
{
	if (is_64_bit_mode(v))
		return kvm_rip_read(v);
	return (u32)(kvm_get_segment_base(v, CS) + kvm_rip_read(v));
}

bool kvm_is_linear_rip(struct kvm_vcpu *v, u64 rip)
{
	return kvm_get_linear_rip(v) == rip;
}
