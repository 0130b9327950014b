/* SPDX-License-Identifier: MIT */
/* Model-specific registers: rows in spec/msr.def, handlers in msr*.c. Own thread. */
#ifndef CORE_MSR_H
#define CORE_MSR_H

#include "core/vcpu.h"

struct msr_row;
/* One access. host: by user space through KVM_GET/SET_MSRS, which may do more than the guest. */
struct msr_access {
	u32 index;
	u64 data;
	bool host;
	const struct msr_row *row; /* set on the way to the handler */
};
/* 0, or -EINVAL: #GP for the guest, the ioctl stops there. */
typedef int msr_get_fn(struct kvm_vcpu *v, struct msr_access *m);
typedef int msr_set_fn(struct kvm_vcpu *v, struct msr_access *m);

/* As the guest, without the filter. 0, -ENOENT (no such MSR), -EINVAL (it refuses). */
int kvm_get_msr(struct kvm_vcpu *v, u32 index, u64 *val);
int kvm_set_msr(struct kvm_vcpu *v, u32 index, u64 val);
int kvm_get_msr_host(struct kvm_vcpu *v, u32 index, u64 *val);
int kvm_set_msr_host(struct kvm_vcpu *v, u32 index, u64 val);
/* As the guest's instructions, with filter. The same, and -EPERM (filtered). */
int kvm_get_msr_filtered(struct kvm_vcpu *v, u32 index, u64 *val);
int kvm_set_msr_filtered(struct kvm_vcpu *v, u32 index, u64 val);
/* @type: KVM_MSR_FILTER_READ or _WRITE. */
bool kvm_msr_allowed(struct kvm_vcpu *v, u32 index, u32 type);
/* A refused access: exits to user space if it asked for that. True: run->exit_reason is set. */
bool kvm_msr_user_space(struct kvm_vcpu *v, u32 index, u32 exit_reason, u64 data,
			int (*completion)(struct kvm_vcpu *), int err);
void msr_filter_free(struct msr_filter *f);
void msr_vcpu_init(struct kvm_vcpu *v);
void msr_vcpu_reset(struct kvm_vcpu *v, bool init);
msr_set_fn set_efer;
bool kvm_valid_efer(struct kvm_vcpu *v, u64 efer);

/* msr_mtrr.c */
msr_get_fn msr_get_mtrr;
msr_set_fn msr_set_mtrr;
msr_set_fn msr_set_pat;
bool kvm_pat_valid(u64 data);

#endif
