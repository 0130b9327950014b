/* SPDX-License-Identifier: MIT */
/* See deterministic.h. */
#include "core/deterministic.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "core/clock.h"
#include "core/irqchip/irqchip.h"
#include "core/memslot.h"
#include "core/service.h"
#include "core/vcpu.h"
#include "core/x86_ops.h"

#define DEFAULT_KHZ  1000000u /* TSC and nanoseconds are the same */
#define START_NS     1000000000ull
#define SEED	     0x6b766d6c657373ull
#define DIGEST_EVERY 100000000u /* instructions */

/* ---- Records ---- */

static struct {
	int fd;
	u64 every, from;
	unsigned n;
	u64 next_digest;
	struct kvm_record buf[256];
} record = {.fd = -1};

int kvm_record_start(const char *path, u64 every, u64 from)
{
	if (record.fd >= 0)
		return -EBUSY;
	record.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	record.every = every;
	record.from = from;
	record.next_digest = DIGEST_EVERY;
	return record.fd < 0 ? -errno : 0;
}

static void record_flush(void)
{
	size_t n = record.n * sizeof(record.buf[0]);

	if (write(record.fd, record.buf, n) != (ssize_t)n)
		base_log(LOG_ERROR, "the record of a deterministic run cannot be written");
	record.n = 0;
}

void kvm_record_stop(void)
{
	if (record.fd < 0)
		return;
	record_flush();
	close(record.fd);
	record.fd = -1;
}

static u64 page_digest(u64 d, const u64 *page)
{
	u64 lane[4] = {d, ~d, d << 1, d >> 1};

	for (unsigned i = 0; i < PAGE_SIZE / sizeof(*page); i++)
		lane[i % 4] = (lane[i % 4] ^ page[i]) * 0x9e3779b97f4a7c15 + i;
	return lane[0] ^ lane[1] >> 7 ^ lane[2] >> 13 ^ lane[3] >> 29;
}

/* Never 0. Pages that are missing count as nothing. */
static u64 memory_digest(struct kvm *kvm)
{
	unsigned idx = slots_read_lock(kvm);
	const struct memslots *s = kvm_memslots(kvm, 0);
	u64 page[PAGE_SIZE / sizeof(u64)], d = 1;

	for (unsigned i = 0; i < s->n; i++)
		for (u64 n = 0; n < s->slot[i]->npages; n++)
			if (!kvm_read_guest(kvm, (s->slot[i]->base_gfn + n) << PAGE_SHIFT, page,
					    sizeof(page)))
				d = page_digest(d, page);
	slots_read_unlock(kvm, idx);
	return d | 1;
}

static void record_exit(struct kvm_vcpu *v)
{
	struct kvm_record *r = &record.buf[record.n++];
	u64 info1, info2;
	u32 reason, intr, error;

	v->kvm->ops->get_exit_info(v, &reason, &info1, &info2, &intr, &error);
	*r = (struct kvm_record){.count = sil_cpu_retired(v->cpu),
				 .reason = reason,
				 .qualification = info1,
				 .rip = kvm_rip_read(v),
				 .rflags = kvm_get_rflags(v),
				 .cr0 = kvm_read_cr0(v),
				 .cr2 = v->hw->cr2,
				 .cr3 = kvm_read_cr3(v),
				 .cr4 = kvm_read_cr4(v)};
	for (unsigned i = 0; i < 16; i++)
		r->gpr[i] = kvm_register_read_raw(v, i);
	memcpy(r->xmm0, v->hw->vec[0].b, sizeof(r->xmm0));
	if (r->count >= record.next_digest) {
		r->memory = memory_digest(v->kvm);
		record.next_digest = r->count + DIGEST_EVERY;
	}
	/* The first beyond @from is waited for. */
	if (record.n == ARRAY_SIZE(record.buf) || (record.from && r->count >= record.from))
		record_flush();
}

/* ---- Time ---- */

void deterministic_init(struct kvm *kvm)
{
	u32 asked = kvm->arch->params.kvmless_tsc_khz;

	kvm_clock_init(kvm, asked ? asked : DEFAULT_KHZ);
	kvm->clock.deterministic = true;
	kvm->clock.base_ns = START_NS;
	kvm->clock.random = SEED;
}

/* SplitMix64 */
u64 deterministic_random(struct kvm *kvm)
{
	u64 z = kvm->clock.random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void deterministic_before_entry(struct kvm_vcpu *v)
{
	struct kvm *kvm = v->kvm;
	u64 next, count, stop = ~0ull;

	service_run_timers(kvm->service);
	lapic_sync(v);
	next = service_next_timer(kvm->service);
	if (next != KTIMER_NEVER)
		stop = MAX(next, kvm_now_ns(kvm) + 1) - kvm->clock.base_ns;
	if (record.fd >= 0 && record.every) {
		count = sil_cpu_retired(v->cpu);
		count = count < record.from ? record.from
					    : (count / record.every + 1) * record.every;
		stop = MIN(stop, count);
	}
	sil_cpu_stop_at(v->cpu, stop);
}

void deterministic_after_exit(struct kvm_vcpu *v)
{
	sil_cpu_stop_at(v->cpu, ~0ull);
	if (record.fd >= 0)
		record_exit(v);
}

bool deterministic_skip(struct kvm_vcpu *v, u64 deadline)
{
	struct kvm *kvm = v->kvm;
	u64 now = kvm_now_ns(kvm);

	deadline = MIN(deadline, service_next_timer(kvm->service));
	if (deadline == KTIMER_NEVER)
		return false;
	if (deadline > now)
		kvm->clock.base_ns += deadline - now;
	service_run_timers(kvm->service);
	return true;
}
