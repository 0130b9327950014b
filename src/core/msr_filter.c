/* SPDX-License-Identifier: MIT */
/* MSR filters (KVM_X86_SET_MSR_FILTER): which accesses of the guest user space allows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "core/msr.h"

struct msr_range {
	u32 flags, base, nmsrs;
	u8 *bitmap;
};

struct msr_filter {
	bool default_allow;
	u32 n;
	struct msr_range range[KVM_MSR_FILTER_MAX_RANGES];
	struct msr_filter *retired; /* filters before this one, see msr_filter_set */
};

bool kvm_msr_allowed(struct kvm_vcpu *v, u32 index, u32 type)
{
	const struct msr_filter *f = __atomic_load_n(&v->kvm->arch->msr_filter, __ATOMIC_ACQUIRE);

	/* x2APIC registers are the interrupt controller's: not for filters. */
	if (index >= 0x800 && index <= 0x8ff)
		return true;
	if (!f)
		return true;
	for (u32 i = 0; i < f->n; i++) {
		const struct msr_range *r = &f->range[i];
		u32 at = index - r->base;

		if (index >= r->base && at < r->nmsrs && (r->flags & type))
			return r->bitmap[at / 8] >> (at % 8) & 1;
	}
	return f->default_allow;
}

static void filter_free_one(struct msr_filter *f)
{
	for (u32 i = 0; i < f->n; i++)
		free(f->range[i].bitmap);
	free(f);
}

void msr_filter_free(struct msr_filter *f)
{
	while (f) {
		struct msr_filter *next = f->retired;

		filter_free_one(f);
		f = next;
	}
}

static int add_range(struct msr_filter *f, const struct kvm_msr_filter_range *user)
{
	struct msr_range *r;
	size_t bytes;

	if (!user->nmsrs)
		return 0;
	if (user->flags & ~KVM_MSR_FILTER_RANGE_VALID_MASK || !user->flags)
		return -EINVAL;
	bytes = (user->nmsrs + 63ull) / 64 * 8;
	if (bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return -EINVAL;
	r = &f->range[f->n];
	r->bitmap = malloc(bytes);
	if (!r->bitmap)
		return -ENOMEM;
	f->n++;
	if (copy_from_user(r->bitmap, user->bitmap, bytes))
		return -EFAULT;
	r->flags = user->flags;
	r->base = user->base;
	r->nmsrs = user->nmsrs;
	return 0;
}

/*
 * A filter that is replaced may still be read by a vCPU; it is small and replaced rarely, so it is
 * kept, chained to its successor, until the VM goes.
 */
int vm_x86_set_msr_filter(struct kvm *kvm, const struct kvm_msr_filter *user)
{
	struct msr_filter *f;
	struct kvm_vcpu *v;
	bool empty = true;
	int ret = 0;

	if (user->flags & ~KVM_MSR_FILTER_VALID_MASK)
		return -EINVAL;
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		empty &= !user->ranges[i].nmsrs;
	/* Denying everything by default without a single range would leave the guest nothing. */
	if (empty && (user->flags & KVM_MSR_FILTER_DEFAULT_DENY))
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->default_allow = !(user->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES && !ret; i++)
		ret = add_range(f, &user->ranges[i]);
	if (ret) {
		filter_free_one(f);
		return ret;
	}
	pthread_mutex_lock(&kvm->lock);
	f->retired = kvm->arch->msr_filter;
	__atomic_store_n(&kvm->arch->msr_filter, f, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&kvm->lock);
	kvm_for_each_vcpu(v, kvm)
	{
		kvm_make_request(v, REQ_MSR_FILTER_CHANGED);
		kvm_vcpu_kick(v);
	}
	return 0;
}
