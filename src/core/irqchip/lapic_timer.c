/* SPDX-License-Identifier: MIT */
/*
 * Local APIC timer (SDM vol. 3A, 11.5.4). Its input runs at 1 GHz (vm_irq.bus_cycle_ns a cycle).
 * When it runs, a ktimer is armed for it; the vCPU thread may find it due first (lapic_sync), and
 * whoever comes first under timer_lock takes the expiry.
 */
#include "core/irqchip/lapic.h"
#include "core/tsc.h"
#include "core/vm.h"

static u64 cycles_to_ns(const struct lapic *a, u64 count)
{
	return count * a->divide * a->v->kvm->irq->bus_cycle_ns;
}

/* timer_lock held. */
static void set_expiry(struct lapic *a, u64 ns)
{
	__atomic_store_n(&a->expires_ns, ns, __ATOMIC_RELEASE);
	if (ns == KTIMER_NEVER)
		ktimer_cancel(&a->timer);
	else
		ktimer_arm(&a->timer, ns);
}

/* Takes an expiry that is due. Any thread. */
static void expire(struct lapic *a)
{
	u64 now = kvm_now_ns(a->v->kvm), next = KTIMER_NEVER;
	u32 lvt;

	pthread_mutex_lock(&a->timer_lock);
	if (a->expires_ns > now) {
		pthread_mutex_unlock(&a->timer_lock);
		return;
	}
	if (a->timer_mode == APIC_TIMER_PERIODIC && a->period_ns) {
		/* Periods that are over merge with this one, as their interrupts would in IRR. */
		next = a->expires_ns + a->period_ns;
		if (next <= now)
			next += (now - next) / a->period_ns * a->period_ns + a->period_ns;
	} else {
		a->tsc_deadline = 0;
	}
	set_expiry(a, next);
	lvt = lapic_reg(a, APIC_LVTT);
	pthread_mutex_unlock(&a->timer_lock);

	if (lvt & APIC_LVT_MASKED || !lapic_hw_enabled(a->v))
		return;
	if ((u8)lvt < 16)
		lapic_error(a, APIC_ESR_RECV_ILLEGAL);
	else
		lapic_set_irr(a, (u8)lvt, false);
}

static void timer_fn(struct ktimer *t)
{
	expire(container_of(t, struct lapic, timer));
}

void lapic_sync(struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;
	u64 due;

	if (!a)
		return;
	due = __atomic_load_n(&a->expires_ns, __ATOMIC_RELAXED);
	if (due != KTIMER_NEVER && due <= kvm_rough_ns(v->kvm))
		expire(a);
}

u64 lapic_timer_expires(struct kvm_vcpu *v)
{
	return v->apic ? __atomic_load_n(&v->apic->expires_ns, __ATOMIC_ACQUIRE) : KTIMER_NEVER;
}

/* ---- One-shot and periodic ---- */

/* Periodic timers faster than kvm.min_timer_period_us would only keep the service thread busy. */
static void limit_period(struct lapic *a)
{
	u64 min = (u64)a->v->kvm->arch->params.kvm_min_timer_period_us * 1000;

	if (a->timer_mode == APIC_TIMER_PERIODIC && a->period_ns && a->period_ns < min)
		a->period_ns = min;
}

void lapic_timer_write_tmict(struct lapic *a, u32 val)
{
	pthread_mutex_lock(&a->timer_lock);
	if (a->timer_mode != APIC_TIMER_TSC_DEADLINE) {
		lapic_set_reg(a, APIC_TMICT, val);
		a->period_ns = cycles_to_ns(a, val);
		limit_period(a);
		set_expiry(a, val ? kvm_now_ns(a->v->kvm) + a->period_ns : KTIMER_NEVER);
	}
	pthread_mutex_unlock(&a->timer_lock);
}

u32 lapic_timer_count(struct lapic *a)
{
	u64 now = kvm_now_ns(a->v->kvm), left = 0;

	pthread_mutex_lock(&a->timer_lock);
	if (a->timer_mode != APIC_TIMER_TSC_DEADLINE && a->expires_ns != KTIMER_NEVER) {
		if (a->expires_ns > now)
			left = a->expires_ns - now;
		else if (a->timer_mode == APIC_TIMER_PERIODIC)
			left = a->period_ns - (now - a->expires_ns) % a->period_ns;
		left /= cycles_to_ns(a, 1);
	}
	pthread_mutex_unlock(&a->timer_lock);
	return (u32)MIN(left, 0xffffffffull);
}

/* SDM vol. 3A, figure 11-10: 1, 2, 4 ... 128 in bits 3, 1 and 0, where 111 is 1. */
static u32 decode_divide(u32 tdcr)
{
	u32 code = (tdcr & 3) | (tdcr >> 1 & 4);

	return 1u << ((code + 1) & 7);
}

void lapic_timer_write_tdcr(struct lapic *a, u32 val)
{
	u32 old = a->divide;

	pthread_mutex_lock(&a->timer_lock);
	lapic_set_reg(a, APIC_TDCR, val);
	a->divide = decode_divide(val);
	if (a->divide != old && a->timer_mode != APIC_TIMER_TSC_DEADLINE && a->period_ns) {
		u64 now = kvm_now_ns(a->v->kvm);

		/* The count that is left goes on at the new rate. */
		a->period_ns = cycles_to_ns(a, lapic_reg(a, APIC_TMICT));
		limit_period(a);
		if (a->expires_ns != KTIMER_NEVER && a->expires_ns > now)
			set_expiry(a, now + (a->expires_ns - now) / old * a->divide);
	}
	pthread_mutex_unlock(&a->timer_lock);
}

void lapic_timer_lvtt_changed(struct lapic *a)
{
	enum apic_timer_mode mode = (lapic_reg(a, APIC_LVTT) & APIC_LVT_TIMER_MODE) >> 17;
	bool was_deadline, is_deadline;

	/* 11b is reserved; it counts as what its low bit says. */
	if (mode > APIC_TIMER_TSC_DEADLINE)
		mode = APIC_TIMER_PERIODIC;
	pthread_mutex_lock(&a->timer_lock);
	was_deadline = a->timer_mode == APIC_TIMER_TSC_DEADLINE;
	is_deadline = mode == APIC_TIMER_TSC_DEADLINE;
	if (was_deadline != is_deadline) {
		/* SDM vol. 3A, 11.5.4.1: the transition disarms the timer. */
		set_expiry(a, KTIMER_NEVER);
		lapic_set_reg(a, APIC_TMICT, 0);
		a->period_ns = 0;
		a->tsc_deadline = 0;
	}
	a->timer_mode = mode;
	limit_period(a);
	pthread_mutex_unlock(&a->timer_lock);
}

/* ---- TSC deadline (SDM vol. 3A, 11.5.4.1) ---- */

/* timer_lock held; vCPU thread. */
static void start_deadline(struct lapic *a)
{
	set_expiry(a, a->tsc_deadline
			      ? MIN(kvm_guest_tsc_to_ns(a->v, a->tsc_deadline), KTIMER_NEVER - 1)
			      : KTIMER_NEVER);
}

u64 lapic_timer_read_deadline(struct lapic *a)
{
	u64 val;

	lapic_sync(a->v); /* reads 0 once it has fired */
	pthread_mutex_lock(&a->timer_lock);
	val = a->timer_mode == APIC_TIMER_TSC_DEADLINE ? a->tsc_deadline : 0;
	pthread_mutex_unlock(&a->timer_lock);
	return val;
}

void lapic_timer_write_deadline(struct lapic *a, u64 tsc)
{
	pthread_mutex_lock(&a->timer_lock);
	if (a->timer_mode == APIC_TIMER_TSC_DEADLINE) {
		a->tsc_deadline = tsc;
		start_deadline(a);
	}
	pthread_mutex_unlock(&a->timer_lock);
	lapic_sync(a->v);
}

void lapic_timer_tsc_changed(struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;

	if (!a)
		return;
	pthread_mutex_lock(&a->timer_lock);
	if (a->timer_mode == APIC_TIMER_TSC_DEADLINE && a->tsc_deadline)
		start_deadline(a);
	pthread_mutex_unlock(&a->timer_lock);
}

/* ---- Life ---- */

void lapic_timer_init(struct lapic *a)
{
	pthread_mutex_init(&a->timer_lock, NULL);
	a->expires_ns = KTIMER_NEVER;
	ktimer_init(&a->timer, a->v->kvm, timer_fn);
}

void lapic_timer_reset(struct lapic *a)
{
	pthread_mutex_lock(&a->timer_lock);
	set_expiry(a, KTIMER_NEVER);
	a->period_ns = 0;
	a->tsc_deadline = 0;
	pthread_mutex_unlock(&a->timer_lock);
}

void lapic_timer_restore(struct lapic *a, u32 count)
{
	u64 left, tmict;

	lapic_timer_lvtt_changed(a);
	pthread_mutex_lock(&a->timer_lock);
	a->divide = decode_divide(lapic_reg(a, APIC_TDCR));
	if (a->timer_mode == APIC_TIMER_TSC_DEADLINE) {
		start_deadline(a);
	} else {
		tmict = lapic_reg(a, APIC_TMICT);
		a->period_ns = cycles_to_ns(a, tmict);
		limit_period(a);
		/*
		 * A one-shot timer whose count is 0 fires once more: it may be that it had not
		 * fired, and that who saved it left the count out (QEMU does). Guests bear one
		 * interrupt too many; one that never comes stops them.
		 */
		left = MIN(cycles_to_ns(a, count), a->period_ns);
		if (!left && a->timer_mode == APIC_TIMER_PERIODIC)
			left = a->period_ns;
		set_expiry(a, a->period_ns ? kvm_now_ns(a->v->kvm) + left : KTIMER_NEVER);
	}
	pthread_mutex_unlock(&a->timer_lock);
}
