/* SPDX-License-Identifier: MIT */
/*
 * 8254 timer of a PC: channel 0 drives GSI 0, channel 2 the speaker's gate at port 61h. Counters
 * are computed from the time at which their count was loaded; counts are binary (bit BCD is kept,
 * as KVM does, but not obeyed).
 *
 * Reinjection: guests that count ticks want each of them. A tick that comes before the last was
 * acknowledged is kept in pending and sent after the EOI.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"
#include "core/service.h"
#include "core/vm.h"

#define PIT_HZ	     1193182ull
#define NSEC_PER_SEC 1000000000ull
#define PIT_PORT     0x40
#define SPEAKER_PORT 0x61
#define PIT_GSI	     0
#define MODE_UNSET   0xff /* a channel that has had no control word, as KVM marks it */

enum rw_state { RW_NONE, RW_LSB, RW_MSB, RW_WORD0, RW_WORD1 };

struct pit {
	pthread_mutex_t lock;
	struct kvm *kvm;
	struct kvm_pit_channel_state ch[3];
	u32 flags; /* KVM_PIT_FLAGS_* */
	struct ktimer timer;
	u64 next_ns;   /* of channel 0's next tick; ~0: none */
	u64 period_ns; /* 0: one tick only */
	bool reinject;
	bool acked; /* the last tick has had its EOI */
	u32 pending;
	struct io_device ports, speaker;
};

/* ---- Counting (data sheet, "mode definitions") ---- */

static u64 muldiv(u64 a, u64 mul, u64 div)
{
	return (u64)((u128)a * mul / div);
}

/* Input clocks since the count was loaded. */
static u64 elapsed(const struct pit *p, const struct kvm_pit_channel_state *c)
{
	u64 now = kvm_now_ns(p->kvm), start = (u64)c->count_load_time;

	return now > start ? muldiv(now - start, PIT_HZ, NSEC_PER_SEC) : 0;
}

static u16 counter(const struct pit *p, const struct kvm_pit_channel_state *c)
{
	u64 d = elapsed(p, c), n = c->count;

	switch (c->mode) {
	case 2: return (u16)(n - d % n);
	case 3: /* counts by two, twice a period */ return (u16)(n - 2 * d % n);
	default: return (u16)(n - d);
	}
}

static bool output(const struct pit *p, const struct kvm_pit_channel_state *c)
{
	u64 d = elapsed(p, c), n = c->count;

	switch (c->mode) {
	case 2: /* low in the last clock */ return d % n != n - 1;
	case 3: return d % n < (n + 1) / 2;
	case 4:
	case 5: /* low for one clock at the end */ return d != n;
	default: return d >= n;
	}
}

/* ---- Channel 0's interrupt ---- */

/* No lock held. */
static void pulse(struct pit *p)
{
	int r = irq_set(p->kvm, IRQ_SOURCE_PIT, PIT_GSI, 1);

	irq_set(p->kvm, IRQ_SOURCE_PIT, PIT_GSI, 0);
	if (r >= 0)
		return;
	/* Masked: no EOI will come, and ticks of that time are nobody's. */
	pthread_mutex_lock(&p->lock);
	p->acked = true;
	p->pending = 0;
	pthread_mutex_unlock(&p->lock);
}

static void tick(struct ktimer *t)
{
	struct pit *p = container_of(t, struct pit, timer);
	u64 now = kvm_now_ns(p->kvm);
	bool send;

	pthread_mutex_lock(&p->lock);
	if (p->next_ns > now) {
		/* Loaded anew meanwhile: the timer is armed for that. */
		pthread_mutex_unlock(&p->lock);
		return;
	}
	send = true;
	if (p->reinject) {
		p->pending++;
		send = p->acked;
		p->acked = false;
	}
	if (p->period_ns) {
		p->next_ns += p->period_ns;
		/* After a long stop (the program was suspended) do not make up for all of it. */
		if (now > p->next_ns + NSEC_PER_SEC)
			p->next_ns = now + p->period_ns;
		ktimer_arm(&p->timer, p->next_ns);
	} else {
		p->next_ns = KTIMER_NEVER;
	}
	pthread_mutex_unlock(&p->lock);
	if (send)
		pulse(p);
}

void pit_irq_acked(struct kvm *kvm)
{
	struct pit *p = kvm->pit;
	bool send = false;

	pthread_mutex_lock(&p->lock);
	p->acked = true;
	if (p->reinject && p->pending && --p->pending) {
		p->acked = false;
		send = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (send)
		pulse(p);
}

bool pit_wants_ack(const struct kvm *kvm)
{
	return kvm->pit && __atomic_load_n(&kvm->pit->reinject, __ATOMIC_RELAXED);
}

/* Lock held. */
static void start_channel0(struct pit *p)
{
	const struct kvm_pit_channel_state *c = &p->ch[0];
	u64 ns = muldiv(c->count, NSEC_PER_SEC, PIT_HZ);
	u64 min = (u64)p->kvm->arch->params.kvm_min_timer_period_us * 1000;

	p->acked = true;
	p->pending = 0;
	p->period_ns = 0;
	p->next_ns = KTIMER_NEVER;
	/* Modes 1 and 5 wait for a gate that channel 0 does not have. */
	if (!(p->flags & KVM_PIT_FLAGS_HPET_LEGACY) && c->mode <= 4 && c->mode != 1) {
		if (c->mode == 2 || c->mode == 3)
			p->period_ns = ns = MAX(ns, min);
		p->next_ns = (u64)c->count_load_time + ns;
	}
	ktimer_arm(&p->timer, p->next_ns);
}

static void load_count(struct pit *p, unsigned i, u32 val)
{
	p->ch[i].count = val ? val : 0x10000;
	p->ch[i].count_load_time = (s64)kvm_now_ns(p->kvm);
	if (i == 0)
		start_channel0(p);
}

/* ---- Ports 40h-43h ---- */

static void latch_count(struct pit *p, struct kvm_pit_channel_state *c)
{
	if (c->count_latched)
		return;
	c->latched_count = counter(p, c);
	c->count_latched = c->rw_mode;
}

static void latch_status(struct pit *p, struct kvm_pit_channel_state *c)
{
	if (c->status_latched)
		return;
	c->status = (u8)(output(p, c) << 7 | (c->rw_mode & 3) << 4 | (c->mode & 7) << 1 | c->bcd);
	c->status_latched = 1;
}

/* Bit 5 clear latches counts, bit 4 clear latches status, of the counters in bits 3:1. */
static void read_back(struct pit *p, u8 val)
{
	for (unsigned i = 0; i < 3; i++) {
		if (!(val & 2u << i))
			continue;
		if (!(val & BIT(5)))
			latch_count(p, &p->ch[i]);
		if (!(val & BIT(4)))
			latch_status(p, &p->ch[i]);
	}
}

static void write_control(struct pit *p, u8 val)
{
	unsigned i = val >> 6, access = val >> 4 & 3;
	struct kvm_pit_channel_state *c;

	if (i == 3) {
		read_back(p, val);
		return;
	}
	c = &p->ch[i];
	if (!access) {
		latch_count(p, c);
		return;
	}
	c->rw_mode = (u8)access;
	c->read_state = c->write_state = (u8)access;
	c->mode = val >> 1 & 7;
	if (c->mode > 5)
		c->mode -= 4; /* bit 2 is "don't care" for modes 2 and 3 */
	c->bcd = val & 1;
}

static void write_counter(struct pit *p, unsigned i, u8 val)
{
	struct kvm_pit_channel_state *c = &p->ch[i];

	switch (c->write_state) {
	case RW_LSB: load_count(p, i, val); break;
	case RW_MSB: load_count(p, i, (u32)val << 8); break;
	case RW_WORD0:
		c->write_latch = val;
		c->write_state = RW_WORD1;
		break;
	case RW_WORD1:
		load_count(p, i, c->write_latch | (u32)val << 8);
		c->write_state = RW_WORD0;
		break;
	}
}

static u8 read_latched(struct kvm_pit_channel_state *c)
{
	u8 lo = (u8)c->latched_count, hi = (u8)(c->latched_count >> 8);

	switch (c->count_latched) {
	case RW_LSB: c->count_latched = 0; return lo;
	case RW_MSB: c->count_latched = 0; return hi;
	case RW_WORD0: c->count_latched = RW_WORD1; return lo;
	default: c->count_latched = 0; return hi;
	}
}

static u8 read_counter(struct pit *p, struct kvm_pit_channel_state *c)
{
	u16 now;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched)
		return read_latched(c);
	now = counter(p, c);
	switch (c->read_state) {
	case RW_MSB: return (u8)(now >> 8);
	case RW_WORD0: c->read_state = RW_WORD1; return (u8)now;
	case RW_WORD1: c->read_state = RW_WORD0; return (u8)(now >> 8);
	default: return (u8)now;
	}
}

static int pit_read(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	struct pit *p = container_of(d, struct pit, ports);
	u8 b = 0;

	pthread_mutex_lock(&p->lock);
	/* The control word cannot be read. */
	if ((addr & 3) != 3)
		b = read_counter(p, &p->ch[addr & 3]);
	pthread_mutex_unlock(&p->lock);
	memset(val, 0, len);
	*(u8 *)val = b;
	return 0;
}

static int pit_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
		     const void *val)
{
	struct pit *p = container_of(d, struct pit, ports);
	u8 b = *(const u8 *)val;

	pthread_mutex_lock(&p->lock);
	if ((addr & 3) == 3)
		write_control(p, b);
	else
		write_counter(p, addr & 3, b);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* ---- Port 61h ---- */

static void set_gate2(struct pit *p, bool gate)
{
	struct kvm_pit_channel_state *c = &p->ch[2];

	/* A rising gate starts modes 1, 2, 3 and 5 anew. */
	if (gate && !c->gate && c->mode != 0 && c->mode != 4)
		c->count_load_time = (s64)kvm_now_ns(p->kvm);
	c->gate = gate;
}

static int speaker_read(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	struct pit *p = container_of(d, struct pit, speaker);
	/* Bit 4 toggles with memory refresh, every 15 us. */
	unsigned refresh = kvm_now_ns(p->kvm) >> 14 & 1;
	u8 b;

	pthread_mutex_lock(&p->lock);
	b = (u8)(!!(p->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) << 1 | p->ch[2].gate |
		 output(p, &p->ch[2]) << 5 | refresh << 4);
	pthread_mutex_unlock(&p->lock);
	memset(val, 0, len);
	*(u8 *)val = b;
	return 0;
}

static int speaker_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
			 const void *val)
{
	struct pit *p = container_of(d, struct pit, speaker);
	u8 b = *(const u8 *)val;

	pthread_mutex_lock(&p->lock);
	p->flags &= ~(u32)KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	if (b & 2)
		p->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	set_gate2(p, b & 1);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* ---- State and life ---- */

int pit_get(struct kvm *kvm, struct kvm_pit_state2 *ps)
{
	struct pit *p = kvm->pit;

	if (!p)
		return -ENXIO;
	memset(ps, 0, sizeof(*ps));
	pthread_mutex_lock(&p->lock);
	memcpy(ps->channels, p->ch, sizeof(p->ch));
	ps->flags = p->flags;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* Values from user space that index, divide or shift are brought into range. */
static void sanitize(struct kvm_pit_channel_state *c)
{
	if (!c->count || c->count > 0x10000)
		c->count = 0x10000;
	c->rw_mode &= 3;
	c->read_state = MIN(c->read_state, RW_WORD1);
	c->write_state = MIN(c->write_state, RW_WORD1);
	c->count_latched = MIN(c->count_latched, RW_WORD1);
	if (c->mode > 5)
		c->mode = MODE_UNSET;
	c->bcd &= 1;
	c->gate = !!c->gate;
}

int pit_set(struct kvm *kvm, const struct kvm_pit_state2 *ps)
{
	struct pit *p = kvm->pit;

	if (!p)
		return -ENXIO;
	pthread_mutex_lock(&p->lock);
	memcpy(p->ch, ps->channels, sizeof(p->ch));
	for (unsigned i = 0; i < 3; i++)
		sanitize(&p->ch[i]);
	p->flags = ps->flags & (KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON);
	/* Load times are of the saving host's clock; channel 0 starts its period anew. */
	load_count(p, 0, p->ch[0].count);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int pit_reinject(struct kvm *kvm, bool reinject)
{
	struct pit *p = kvm->pit;

	if (!p)
		return -ENXIO;
	pthread_mutex_lock(&p->lock);
	__atomic_store_n(&p->reinject, reinject, __ATOMIC_RELAXED);
	p->acked = true;
	p->pending = 0;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int pit_create(struct kvm *kvm, const struct kvm_pit_config *cfg)
{
	struct pit *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	p->kvm = kvm;
	p->reinject = true;
	p->acked = true;
	ktimer_init(&p->timer, kvm, tick);
	p->ports = (struct io_device){.read = pit_read, .write = pit_write};
	p->speaker = (struct io_device){.read = speaker_read, .write = speaker_write};
	for (unsigned i = 0; i < 3; i++) {
		p->ch[i].gate = i != 2;
		p->ch[i].mode = MODE_UNSET;
		p->ch[i].rw_mode = p->ch[i].read_state = p->ch[i].write_state = RW_WORD0;
		p->ch[i].count = 0x10000;
		p->ch[i].count_load_time = (s64)kvm_now_ns(kvm);
	}
	p->next_ns = KTIMER_NEVER;
	pthread_mutex_lock(&kvm->slots_lock);
	r = io_bus_add(kvm, IO_BUS_PIO, PIT_PORT, 4, &p->ports);
	if (!r && cfg->flags & KVM_PIT_SPEAKER_DUMMY) {
		r = io_bus_add(kvm, IO_BUS_PIO, SPEAKER_PORT, 1, &p->speaker);
		if (r)
			io_bus_del(kvm, IO_BUS_PIO, &p->ports);
	}
	pthread_mutex_unlock(&kvm->slots_lock);
	if (r) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return r;
	}
	__atomic_store_n(&kvm->pit, p, __ATOMIC_RELEASE);
	return 0;
}

void pit_destroy(struct kvm *kvm)
{
	struct pit *p = kvm->pit;

	if (!p)
		return;
	ktimer_cancel_sync(&p->timer);
	pthread_mutex_destroy(&p->lock);
	kvm->pit = NULL;
	free(p);
}
