/* SPDX-License-Identifier: MIT */
/* The counter behind all clocks: see clock.h. */
#include <time.h>

#include "base/counter.h"
#include "core/clock.h"

#define NSEC_PER_SEC 1000000000ull
/* Fixed-point places: a year of ticks is converted with an error of some nanoseconds. */
#define FRAC_BITS 52
/* For machines without a counter to use. */
#define DEFAULT_KHZ 2000000u

static u64 monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * NSEC_PER_SEC + (u64)ts.tv_nsec;
}

u32 clock_khz(u32 asked)
{
	if (asked)
		return asked;
	return counter_khz() ? counter_khz() : DEFAULT_KHZ;
}

void kvm_clock_init(struct kvm *kvm, u32 asked)
{
	struct kvm_clock *c = &kvm->clock;
	u32 khz = clock_khz(asked);

	c->native = !asked && counter_khz();
	c->khz = khz;
	c->ns_of_tick = (u64)(((u128)1000000 << FRAC_BITS) / khz);
	c->ticks_of_ns = (u64)(((u128)khz << FRAC_BITS) / 1000000);
}

u64 kvm_ns_to_machine_tsc(const struct kvm *kvm, u64 ns)
{
	return (u64)((u128)ns * kvm->clock.ticks_of_ns >> FRAC_BITS);
}

u64 kvm_machine_tsc_to_ns(const struct kvm *kvm, u64 tsc)
{
	u128 ns = (u128)tsc * kvm->clock.ns_of_tick >> FRAC_BITS;

	return ns > ~0ull ? ~0ull : (u64)ns;
}

u64 kvm_now_ns(const struct kvm *kvm)
{
	const struct kvm_clock *c = &kvm->clock;

	if (unlikely(c->deterministic))
		return c->base_ns + (c->cpu ? sil_cpu_retired(c->cpu) : 0);
	return c->native ? kvm_machine_tsc_to_ns(kvm, counter_read()) : monotonic_ns();
}

u64 kvm_rough_ns(const struct kvm *kvm)
{
	const struct kvm_clock *c = &kvm->clock;

	return likely(c->native && !c->deterministic) ? kvm_machine_tsc_to_ns(kvm, counter_rough())
						      : kvm_now_ns(kvm);
}

u64 kvm_machine_tsc_rough(const struct kvm *kvm)
{
	return likely(kvm->clock.native) ? counter_rough() : kvm_machine_tsc(kvm);
}

u64 kvm_machine_tsc(const struct kvm *kvm)
{
	return kvm->clock.native ? counter_read() : kvm_ns_to_machine_tsc(kvm, kvm_now_ns(kvm));
}

u64 kvm_ns_to_monotonic(const struct kvm *kvm, u64 ns)
{
	u64 now, system;

	if (!kvm->clock.native)
		return ns;
	now = kvm_now_ns(kvm);
	system = monotonic_ns();
	if (ns <= now)
		return system;
	return ns - now >= ~0ull - system ? ~0ull : system + (ns - now);
}
