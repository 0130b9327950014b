/* SPDX-License-Identifier: MIT */
/*
 * Hyper-V's reference time (TLFS, "Timers"): a counter of 100 ns of the whole partition, read from
 * an MSR or computed by the guest from the TSC and a page. It is kvmclock in another unit; once the
 * guest has a page, both follow the page.
 */
#include <errno.h>
#include <string.h>

#include "core/clock.h"
#include "core/hyperv.h"
#include "core/irqchip/irqchip.h"
#include "core/memslot.h"
#include "core/pv.h"
#include "core/tsc.h"

static u64 page_time(const struct hv_tsc_page *p, u64 tsc)
{
	return (u64)((u128)tsc * p->scale >> 64) + (u64)p->offset;
}

/* Both sides at one moment, as v's L1 counts. */
static u64 tsc_at(const struct kvm_vcpu *v, u64 ns)
{
	return kvm_scale_tsc(kvm_ns_to_machine_tsc(v->kvm, ns), v->arch->l1_tsc_multiplier) +
	       v->arch->l1_tsc_offset;
}

static u64 kvmclock_at(struct kvm *kvm, u64 ns)
{
	struct kvm_arch *ka = kvm->arch;
	u64 value;

	pthread_mutex_lock(&ka->tsc_lock);
	value = ka->clock_base_value + ns - ka->clock_base_ns;
	pthread_mutex_unlock(&ka->tsc_lock);
	return value;
}

static u32 next_sequence(u32 seq)
{
	return seq + 1 == 0 || seq + 1 == ~0u ? 1 : seq + 1;
}

/* hv->lock held. @keep: the guest wants to be told before its page changes (it emulates the TSC
 * meanwhile, it believes), so what is there stands. */
static void update_page(struct kvm_vcpu *v, bool keep)
{
	struct hv_vm *hv = &v->kvm->arch->hv;
	gpa_t gpa = hv->reference_tsc & PAGE_MASK;
	struct hv_tsc_page p = {0}, old;
	u64 ns = kvm_now_ns(v->kvm);

	hv->tsc_page.sequence = 0;
	if (!(hv->reference_tsc & HV_MSR_ENABLE) || vcpu_read_guest(v, gpa, &old, sizeof(old)))
		return;
	if (keep && old.sequence) {
		hv->tsc_page = old;
		return;
	}
	/* 2^64 / (10^7 / frequency). */
	if (v->arch->tsc_khz > 10000) {
		p.scale = (u64)(((u128)10000 << 64) / v->arch->tsc_khz);
		p.offset = (s64)(kvmclock_at(v->kvm, ns) / 100 - page_time(&p, tsc_at(v, ns)));
		p.sequence = next_sequence(old.sequence);
	}
	/* The sequence says to readers on other processors whether they have read one thing. */
	old.sequence = 0;
	if (vcpu_write_guest(v, gpa, &old.sequence, sizeof(old.sequence)))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vcpu_write_guest(v, gpa + offsetof(struct hv_tsc_page, scale), &p.scale,
			 sizeof(p.scale) + sizeof(p.offset));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vcpu_write_guest(v, gpa, &p.sequence, sizeof(p.sequence)))
		hv->tsc_page = p;
}

void hv_clock_update(struct kvm_vcpu *v)
{
	struct hv_vm *hv = &v->kvm->arch->hv;

	/* One page for all: one processor's TSC is the measure. */
	if (v->idx)
		return;
	pthread_mutex_lock(&hv->lock);
	if (hv->reference_tsc & HV_MSR_ENABLE)
		update_page(v, hv->tsc_emulation_control & 1);
	pthread_mutex_unlock(&hv->lock);
}

static void refresh_page(struct kvm *kvm)
{
	kvm_make_request(kvm->vcpus[0], REQ_CLOCK_UPDATE);
	kvm_vcpu_kick(kvm->vcpus[0]);
}

static u64 reference_time(struct kvm_vcpu *v)
{
	const struct hv_vm *hv = &v->kvm->arch->hv;

	if (hv->tsc_page.sequence)
		return page_time(&hv->tsc_page, kvm_guest_tsc(v));
	return kvm_get_kvmclock_ns(v->kvm) / 100;
}

int hv_get_time_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct hv_vm *hv = &v->kvm->arch->hv;

	pthread_mutex_lock(&hv->lock);
	switch (m->index) {
	case HV_MSR_TIME_REF_COUNT: m->data = reference_time(v); break;
	case HV_MSR_REFERENCE_TSC: m->data = hv->reference_tsc; break;
	case HV_MSR_TSC_FREQUENCY: m->data = v->arch->tsc_khz * 1000ull; break;
	case HV_MSR_APIC_FREQUENCY: m->data = irqchip_bus_frequency(v->kvm); break;
	case HV_MSR_REENLIGHTENMENT_CONTROL: m->data = hv->reenlightenment; break;
	case HV_MSR_TSC_EMULATION_CONTROL: m->data = hv->tsc_emulation_control; break;
	case HV_MSR_TSC_EMULATION_STATUS: m->data = hv->tsc_emulation_status; break;
	}
	pthread_mutex_unlock(&hv->lock);
	return 0;
}

int hv_set_time_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct hv_vm *hv = &v->kvm->arch->hv;
	int ret = 0;

	pthread_mutex_lock(&hv->lock);
	switch (m->index) {
	case HV_MSR_REFERENCE_TSC:
		hv->reference_tsc = m->data;
		/* User space restores a page that the guest has read already. */
		if (m->host)
			refresh_page(v->kvm);
		else
			update_page(v, false);
		break;
	case HV_MSR_REENLIGHTENMENT_CONTROL: hv->reenlightenment = m->data; break;
	case HV_MSR_TSC_EMULATION_CONTROL: hv->tsc_emulation_control = m->data; break;
	case HV_MSR_TSC_EMULATION_STATUS:
		/* The guest can only say that it has learned the new frequency. */
		if (m->data && !m->host)
			ret = -EINVAL;
		else
			hv->tsc_emulation_status = m->data;
		break;
	}
	pthread_mutex_unlock(&hv->lock);
	return ret;
}
