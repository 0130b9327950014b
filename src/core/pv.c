/* SPDX-License-Identifier: MIT */
/*
 * kvmclock and steal time. All clocks here are linear in kvm_now_ns, so one base for all vCPUs of a
 * VM gives clocks that agree to the nanosecond, and PVCLOCK_TSC_STABLE_BIT always holds.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/deterministic.h"
#include "core/irqchip/irqchip.h"
#include "core/memslot.h"
#include "core/pv.h"
#include "core/service.h"
#include "core/tsc.h"
#include "spec/abi/kvm_para.h"

bool guest_pv_has(const struct kvm_vcpu *v, enum cpu_feature f)
{
	return !v->arch->pv.enforce || guest_cpuid_has(v, f);
}

/* ---- kvmclock ---- */

/*
 * ns = (tsc << shift) * mul >> 32 for a counter of @khz: mul is normalized to use all its 32 bits.
 */
static void clock_scale(u32 khz, u32 *mul, s8 *shift)
{
	u64 num = 1000000ull, den = khz; /* ns a tick */
	int s = 0;

	/* bring num/den into [1/2, 1) */
	while (num >= den) {
		den <<= 1;
		s++;
	}
	while (num * 2 < den) {
		num <<= 1;
		s--;
	}
	*mul = (u32)(((u128)num << 32) / den);
	*shift = (s8)s;
}

void kvm_clock_vm_init(struct kvm *kvm)
{
	kvm->arch->clock_base_ns = kvm_now_ns(kvm);
	kvm->arch->clock_base_value = 0;
}

u64 kvm_get_kvmclock_ns(struct kvm *kvm)
{
	struct kvm_arch *ka = kvm->arch;
	u64 ns;

	pthread_mutex_lock(&ka->tsc_lock);
	ns = ka->clock_base_value + kvm_now_ns(kvm) - ka->clock_base_ns;
	pthread_mutex_unlock(&ka->tsc_lock);
	return ns;
}

void kvm_guest_time_update(struct kvm_vcpu *v)
{
	struct kvm_arch *ka = v->kvm->arch;
	struct pv_state *pv = &v->arch->pv;
	gpa_t gpa = pv->system_time_msr & ~KVM_MSR_ENABLED;
	struct pvclock_vcpu_time_info t;
	u64 base_ns;

	if (!(pv->system_time_msr & KVM_MSR_ENABLED))
		return;
	if (vcpu_read_guest(v, gpa, &t, sizeof(t)))
		return;
	pthread_mutex_lock(&ka->tsc_lock);
	base_ns = ka->clock_base_ns;
	t.system_time = ka->clock_base_value;
	pthread_mutex_unlock(&ka->tsc_lock);
	t.tsc_timestamp =
		kvm_scale_tsc(kvm_ns_to_machine_tsc(v->kvm, base_ns), v->arch->l1_tsc_multiplier) +
		v->arch->l1_tsc_offset;
	clock_scale(v->arch->tsc_khz, &t.tsc_to_system_mul, &t.tsc_shift);
	t.flags = (t.flags & PVCLOCK_GUEST_STOPPED) | PVCLOCK_TSC_STABLE_BIT;
	if (pv->guest_paused_request) {
		t.flags |= PVCLOCK_GUEST_STOPPED;
		pv->guest_paused_request = false;
	}
	/* Odd version first, so that a guest that reads on another processor sees the change. */
	t.version = (t.version | 1);
	if (vcpu_write_guest(v, gpa, &t.version, sizeof(t.version)))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	vcpu_write_guest(v, gpa + sizeof(t.version), (char *)&t + sizeof(t.version),
			 sizeof(t) - sizeof(t.version));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	t.version++;
	vcpu_write_guest(v, gpa, &t.version, sizeof(t.version));
}

static u64 realtime_ns(struct kvm *kvm)
{
	struct timespec ts;

	if (kvm->clock.deterministic)
		return DETERMINISTIC_EPOCH * 1000000000ull + kvm_now_ns(kvm);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static void write_wall_clock(struct kvm_vcpu *v, gpa_t gpa)
{
	struct pvclock_wall_clock wc;
	u32 version;
	u64 boot;

	if (vcpu_read_guest(v, gpa, &version, sizeof(version)))
		return;
	version = version | 1;
	if (vcpu_write_guest(v, gpa, &version, sizeof(version)))
		return;
	boot = realtime_ns(v->kvm) - kvm_get_kvmclock_ns(v->kvm);
	wc.sec = (u32)(boot / 1000000000);
	wc.nsec = (u32)(boot % 1000000000);
	wc.version = version + 1;
	vcpu_write_guest(v, gpa + 4, &wc.sec, 8);
	vcpu_write_guest(v, gpa, &wc.version, 4);
}

#define KVM_CLOCK_VALID_FLAGS (KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)

int vm_set_clock(struct kvm *kvm, const struct kvm_clock_data *d)
{
	struct kvm_arch *ka = kvm->arch;
	struct kvm_vcpu *v;
	u64 value = d->clock;

	if (d->flags & ~(u32)KVM_CLOCK_VALID_FLAGS)
		return -EINVAL;
	if (d->flags & KVM_CLOCK_REALTIME) {
		u64 now = realtime_ns(kvm);

		/* Time that passed since the value was taken, e.g. while the VM was on its way. */
		if (now > d->realtime)
			value += now - d->realtime;
	}
	pthread_mutex_lock(&ka->tsc_lock);
	ka->clock_base_ns = kvm_now_ns(kvm);
	ka->clock_base_value = value;
	pthread_mutex_unlock(&ka->tsc_lock);
	kvm_for_each_vcpu(v, kvm)
	{
		kvm_make_request(v, REQ_CLOCK_UPDATE);
		kvm_vcpu_kick(v);
	}
	return 0;
}

int vm_get_clock(struct kvm *kvm, struct kvm_clock_data *d)
{
	struct kvm_arch *ka = kvm->arch;
	u64 now;

	memset(d, 0, sizeof(*d));
	pthread_mutex_lock(&ka->tsc_lock);
	now = kvm_now_ns(kvm);
	d->clock = ka->clock_base_value + now - ka->clock_base_ns;
	pthread_mutex_unlock(&ka->tsc_lock);
	d->realtime = realtime_ns(kvm);
	d->host_tsc = kvm_ns_to_machine_tsc(kvm, now);
	d->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	return 0;
}

int vcpu_kvmclock_ctrl(struct kvm_vcpu *v)
{
	if (!(v->arch->pv.system_time_msr & KVM_MSR_ENABLED))
		return -EINVAL;
	v->arch->pv.guest_paused_request = true;
	kvm_make_request(v, REQ_CLOCK_UPDATE);
	return 0;
}

/* ---- Steal time ---- */

/* How long this thread has waited for a processor, ns; 0 if the system does not tell. */
static u64 thread_run_delay(void)
{
	unsigned long long run, delay = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &run, &delay) != 2)
		delay = 0;
	fclose(f);
	return delay;
}

static u64 run_delay(const struct kvm_vcpu *v)
{
	return v->kvm->clock.deterministic ? 0 : thread_run_delay();
}

/* How often this thread has been switched away from: without that it has not waited either, and
 * asking is far cheaper than thread_run_delay. */
static u64 thread_switches(const struct kvm_vcpu *v)
{
	struct rusage r;

	if (v->kvm->clock.deterministic || getrusage(RUSAGE_THREAD, &r))
		return 0;
	return (u64)r.ru_nvcsw + (u64)r.ru_nivcsw;
}

#define STEAL_PERIOD_NS 10000000
/* KVM_RUN looks so often at most; Linux's selftest wants to see 200 us of waiting. */
#define STEAL_RUN_NS 100000

static gpa_t steal_gpa(const struct kvm_vcpu *v)
{
	return v->arch->pv.steal_msr & ~(KVM_STEAL_RESERVED_MASK | KVM_MSR_ENABLED);
}

void kvm_steal_time_update(struct kvm_vcpu *v)
{
	struct pv_state *pv = &v->arch->pv;
	struct kvm_steal_time st;
	u64 delay;

	if (!(pv->steal_msr & KVM_MSR_ENABLED))
		return;
	kvm_steal_time_clear_preempted(v);
	if (vcpu_read_guest(v, steal_gpa(v), &st, sizeof(st)))
		return;
	pv->steal_switches = thread_switches(v);
	delay = run_delay(v);
	st.version = (st.version | 1) + 2;
	vcpu_write_guest(v, steal_gpa(v) + offsetof(struct kvm_steal_time, version), &st.version,
			 4);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (delay > pv->steal_last)
		st.steal += delay - pv->steal_last;
	pv->steal_last = delay;
	vcpu_write_guest(v, steal_gpa(v), &st.steal, 8);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	st.version++;
	vcpu_write_guest(v, steal_gpa(v) + offsetof(struct kvm_steal_time, version), &st.version,
			 4);
	pv->steal_next_ns = kvm_now_ns(v->kvm) + STEAL_PERIOD_NS;
}

void kvm_steal_time_run(struct kvm_vcpu *v)
{
	struct pv_state *pv = &v->arch->pv;
	u64 now;

	if (!(pv->steal_msr & KVM_MSR_ENABLED))
		return;
	now = kvm_now_ns(v->kvm);
	if (now < pv->steal_run_ns)
		return;
	pv->steal_run_ns = now + STEAL_RUN_NS;
	if (thread_switches(v) != pv->steal_switches)
		kvm_make_request(v, REQ_STEAL_UPDATE);
}

void kvm_steal_time_tick(struct kvm_vcpu *v)
{
	if ((v->arch->pv.steal_msr & KVM_MSR_ENABLED) &&
	    kvm_rough_ns(v->kvm) >= v->arch->pv.steal_next_ns)
		kvm_steal_time_update(v);
}

void kvm_steal_time_clear_preempted(struct kvm_vcpu *v)
{
	gpa_t gpa = steal_gpa(v) + offsetof(struct kvm_steal_time, preempted);
	u8 flags, zero = 0;

	if (!(v->arch->pv.steal_msr & KVM_MSR_ENABLED))
		return;
	if (vcpu_read_guest(v, gpa, &flags, 1) || !flags)
		return;
	/* Another vCPU may ask for a flush through the byte until the moment it is taken. */
	while (vcpu_cmpxchg_guest(v, gpa, &flags, &zero, 1) == 1)
		;
	if ((flags & KVM_VCPU_FLUSH_TLB) && guest_pv_has(v, FEAT_KVM_PV_TLB_FLUSH))
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
}

void kvm_steal_time_set_preempted(struct kvm_vcpu *v)
{
	u8 val = KVM_VCPU_PREEMPTED;

	if (v->arch->pv.steal_msr & KVM_MSR_ENABLED)
		vcpu_write_guest(v, steal_gpa(v) + offsetof(struct kvm_steal_time, preempted), &val,
				 1);
}

void pv_vcpu_reset(struct kvm_vcpu *v)
{
	struct pv_state *pv = &v->arch->pv;

	pv->system_time_msr = 0;
	pv->steal_msr = 0;
	pv->eoi_msr = 0;
	pv->eoi_pending = false;
	pv->poll_control = 1;
	pv->guest_paused_request = false;
}

/* ---- MSRs ---- */

int pv_get_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	const struct pv_state *pv = &v->arch->pv;

	switch (m->index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW: m->data = v->kvm->arch->wall_clock_gpa; return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW: m->data = pv->system_time_msr; return 0;
	case MSR_KVM_STEAL_TIME: m->data = pv->steal_msr; return 0;
	case MSR_KVM_PV_EOI_EN: m->data = pv->eoi_msr; return 0;
	case MSR_KVM_POLL_CONTROL: m->data = pv->poll_control; return 0;
	}
	return -EINVAL;
}

int pv_set_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct pv_state *pv = &v->arch->pv;

	switch (m->index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		v->kvm->arch->wall_clock_gpa = m->data;
		if (m->data)
			write_wall_clock(v, m->data);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		pv->system_time_msr = m->data;
		kvm_make_request(v, REQ_CLOCK_UPDATE);
		return 0;
	case MSR_KVM_STEAL_TIME:
		if (m->data & KVM_STEAL_RESERVED_MASK)
			return -EINVAL;
		pv->steal_msr = m->data;
		if (m->data & KVM_MSR_ENABLED) {
			pv->steal_last = run_delay(v);
			kvm_make_request(v, REQ_STEAL_UPDATE);
		}
		return 0;
	case MSR_KVM_PV_EOI_EN: return lapic_set_pv_eoi(v, m->data);
	case MSR_KVM_POLL_CONTROL:
		if (m->data & ~1ull)
			return -EINVAL;
		pv->poll_control = m->data;
		return 0;
	}
	return -EINVAL;
}
