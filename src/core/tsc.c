/* SPDX-License-Identifier: MIT */
/* Time stamp counters: see tsc.h. kvm->arch->tsc_lock guards the matching of vCPUs. */
#include <errno.h>

#include "base/guard.h"
#include "core/clock.h"
#include "core/irqchip/irqchip.h"
#include "core/tsc.h"
#include "core/vcpu.h"

#define TSC_RATIO_ONE (1ull << TSC_MULTIPLIER_FRAC_BITS)

u64 kvm_scale_tsc(u64 tsc, u64 multiplier)
{
	return multiplier == TSC_RATIO_ONE
		       ? tsc
		       : (u64)((u128)tsc * multiplier >> TSC_MULTIPLIER_FRAC_BITS);
}

u64 kvm_guest_tsc_rough(struct kvm_vcpu *v)
{
	return kvm_scale_tsc(kvm_machine_tsc_rough(v->kvm), v->arch->l1_tsc_multiplier) +
	       v->arch->l1_tsc_offset;
}

u64 kvm_guest_tsc(struct kvm_vcpu *v)
{
	return kvm_scale_tsc(kvm_machine_tsc(v->kvm), v->arch->l1_tsc_multiplier) +
	       v->arch->l1_tsc_offset;
}

u64 kvm_guest_tsc_to_ns(struct kvm_vcpu *v, u64 tsc)
{
	u64 now = kvm_now_ns(v->kvm);
	u64 guest_now =
		kvm_scale_tsc(kvm_ns_to_machine_tsc(v->kvm, now), v->arch->l1_tsc_multiplier) +
		v->arch->l1_tsc_offset;
	u128 delta;

	if (tsc <= guest_now) {
		delta = (u128)(guest_now - tsc) * 1000000 / v->arch->tsc_khz;
		return delta > now ? 0 : now - (u64)delta;
	}
	/* Rounded up: the timer must not find its deadline still ahead. */
	delta = ((u128)(tsc - guest_now) * 1000000 + v->arch->tsc_khz - 1) / v->arch->tsc_khz;
	return delta >= ~0ull - now ? ~0ull : now + (u64)delta;
}

u64 kvm_compute_l1_tsc_offset(struct kvm_vcpu *v, u64 target_tsc)
{
	return target_tsc - kvm_scale_tsc(kvm_machine_tsc(v->kvm), v->arch->l1_tsc_multiplier);
}

void kvm_write_l1_tsc_offset(struct kvm_vcpu *v, u64 offset)
{
	v->arch->l1_tsc_offset = offset;
	v->arch->tsc_offset = offset;
	v->kvm->ops->write_tsc_offset(v, offset);
	kvm_make_request(v, REQ_CLOCK_UPDATE);
	if (v->apic)
		lapic_timer_tsc_changed(v);
}

void kvm_adjust_tsc_offset(struct kvm_vcpu *v, s64 delta)
{
	kvm_write_l1_tsc_offset(v, v->arch->l1_tsc_offset + (u64)delta);
}

int kvm_set_vcpu_tsc_khz(struct kvm_vcpu *v, u32 khz)
{
	u32 host = v->kvm->clock.khz;
	u64 ratio = TSC_RATIO_ONE;

	if (!khz)
		return -EINVAL;
	if (khz != host) {
		/* The multiplier is 64 bits with 48 after the point. */
		u128 r = ((u128)khz << TSC_MULTIPLIER_FRAC_BITS) / host;

		if (!r || r > ~0ull)
			return -EINVAL;
		ratio = (u64)r;
	}
	v->arch->tsc_khz = khz;
	v->arch->l1_tsc_multiplier = ratio;
	v->arch->tsc_multiplier = ratio;
	v->kvm->ops->write_tsc_multiplier(v, ratio);
	kvm_make_request(v, REQ_CLOCK_UPDATE);
	if (v->apic)
		lapic_timer_tsc_changed(v);
	return 0;
}

void kvm_tsc_init_vcpu(struct kvm_vcpu *v)
{
	kvm_set_vcpu_tsc_khz(v, v->kvm->arch->default_tsc_khz);
	kvm_synchronize_tsc(v, 0, false);
}

/*
 * User space restores counters one vCPU after the other, a little later each time, and firmware
 * writes 0 on each: both mean "the same as the others". Writes that are within a second of where
 * the last written counter must be by now take over that counter's offset.
 */
void kvm_synchronize_tsc(struct kvm_vcpu *v, u64 data, bool user)
{
	struct kvm_arch *ka = v->kvm->arch;
	u64 ns, offset, khz = v->arch->tsc_khz;
	bool synchronizing = false, matched = false;

	pthread_mutex_lock(&ka->tsc_lock);
	ns = kvm_now_ns(v->kvm);
	offset =
		data - kvm_scale_tsc(kvm_ns_to_machine_tsc(v->kvm, ns), v->arch->l1_tsc_multiplier);
	if (!data) {
		synchronizing = true;
	} else if (ka->user_set_tsc || !user) {
		u64 expected =
			ka->last_tsc_write + (u64)((u128)(ns - ka->last_tsc_nsec) * khz / 1000000);
		u64 second = khz * 1000;

		synchronizing = data < expected + second && data + second > expected;
	}
	if (user)
		ka->user_set_tsc = true;
	if (synchronizing && khz == ka->last_tsc_khz) {
		offset = ka->cur_tsc_offset;
		matched = true;
	}
	ka->last_tsc_nsec = ns;
	ka->last_tsc_write = data;
	ka->last_tsc_khz = khz;
	if (!matched) {
		ka->cur_tsc_generation++;
		ka->cur_tsc_nsec = ns;
		ka->cur_tsc_write = data;
		ka->cur_tsc_offset = offset;
	}
	v->arch->tsc_generation = ka->cur_tsc_generation;
	kvm_write_l1_tsc_offset(v, offset);
	pthread_mutex_unlock(&ka->tsc_lock);
}

/* ---- ioctls ---- */

int vm_set_tsc_khz(struct kvm *kvm, u32 khz)
{
	int ret = -EINVAL;

	if (!khz)
		khz = kvm->clock.khz;
	pthread_mutex_lock(&kvm->lock);
	if (!kvm->nvcpus) {
		kvm->arch->default_tsc_khz = khz;
		ret = 0;
	}
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

int vm_get_tsc_khz(struct kvm *kvm)
{
	return (int)kvm->arch->default_tsc_khz;
}

int vcpu_set_tsc_khz(struct kvm_vcpu *v, u32 khz)
{
	return kvm_set_vcpu_tsc_khz(v, khz ? khz : v->kvm->clock.khz);
}

int vcpu_get_tsc_khz(struct kvm_vcpu *v)
{
	return (int)v->arch->tsc_khz;
}

/* KVM_VCPU_TSC_CTRL: the offset itself, for a migration that keeps counters exact. @addr of @attr
 * is user space's. */
int vcpu_device_attr(struct kvm_vcpu *v, bool set, bool query, struct kvm_device_attr *attr)
{
	u64 offset;

	if (attr->group != KVM_VCPU_TSC_CTRL)
		return -ENXIO;
	if (attr->attr != KVM_VCPU_TSC_OFFSET)
		return -ENXIO;
	if (query)
		return 0;
	if (!set) {
		offset = v->arch->l1_tsc_offset;
		return copy_to_user((void *)attr->addr, &offset, sizeof(offset));
	}
	if (copy_from_user(&offset, (void *)attr->addr, sizeof(offset)))
		return -EFAULT;
	pthread_mutex_lock(&v->kvm->arch->tsc_lock);
	if (v->kvm->arch->cur_tsc_offset != offset ||
	    v->kvm->arch->last_tsc_khz != v->arch->tsc_khz) {
		struct kvm_arch *ka = v->kvm->arch;

		ka->cur_tsc_generation++;
		ka->cur_tsc_offset = offset;
		ka->cur_tsc_nsec = ka->last_tsc_nsec = kvm_now_ns(v->kvm);
		ka->cur_tsc_write = ka->last_tsc_write =
			kvm_scale_tsc(kvm_ns_to_machine_tsc(v->kvm, ka->cur_tsc_nsec),
				      v->arch->l1_tsc_multiplier) +
			offset;
		ka->last_tsc_khz = v->arch->tsc_khz;
	}
	v->arch->tsc_generation = v->kvm->arch->cur_tsc_generation;
	kvm_write_l1_tsc_offset(v, offset);
	pthread_mutex_unlock(&v->kvm->arch->tsc_lock);
	return 0;
}
