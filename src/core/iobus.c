/* SPDX-License-Identifier: MIT */
/* The I/O buses: arrays of ranges sorted by address, immutable once published. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"

#define IO_BUS_MAX_RANGES 1000 /* as KVM */

struct io_range {
	u64 addr, last;
	/* Highest @last of this and all ranges before it: where a search can stop. */
	u64 max_last;
	u64 seq;      /* order of registration */
	bool any_len; /* takes accesses of any length at @addr */
	struct io_device *dev;
};

struct io_bus_table {
	u32 n;
	struct io_range r[];
};

static struct io_bus_table *table_alloc(u32 n)
{
	struct io_bus_table *t = malloc(sizeof(*t) + n * sizeof(t->r[0]));

	if (t)
		t->n = n;
	return t;
}

static void table_index(struct io_bus_table *t)
{
	u64 max = 0;

	for (u32 i = 0; i < t->n; i++) {
		max = MAX(max, t->r[i].last);
		t->r[i].max_last = max;
	}
}

/* Publishes @t; the old table goes when its readers have. slots_lock held. */
static void table_publish(struct kvm *kvm, enum io_bus bus, struct io_bus_table *t)
{
	struct io_bus_table *old = kvm->buses[bus];

	table_index(t);
	__atomic_store_n(&kvm->buses[bus], t, __ATOMIC_SEQ_CST);
	grace_wait(&kvm->irq->bus_grace);
	free(old);
}

int io_bus_add(struct kvm *kvm, enum io_bus bus, u64 addr, u64 len, struct io_device *d)
{
	const struct io_bus_table *old = kvm->buses[bus];
	struct io_range r = {.addr = addr, .dev = d, .any_len = !len};
	struct io_bus_table *t;
	u32 i;

	if (old->n >= IO_BUS_MAX_RANGES)
		return -ENOSPC;
	r.last = len ? addr + len - 1 : addr;
	r.seq = kvm->irq->bus_seq++;
	t = table_alloc(old->n + 1);
	if (!t)
		return -ENOMEM;
	for (i = 0; i < old->n && old->r[i].addr <= addr; i++)
		t->r[i] = old->r[i];
	t->r[i] = r;
	memcpy(&t->r[i + 1], &old->r[i], (old->n - i) * sizeof(r));
	table_publish(kvm, bus, t);
	return 0;
}

void io_bus_del(struct kvm *kvm, enum io_bus bus, struct io_device *d)
{
	struct io_bus_table *old = kvm->buses[bus], *t;
	u32 n = 0;

	for (u32 i = 0; i < old->n; i++)
		n += old->r[i].dev != d;
	if (n == old->n)
		return;
	t = table_alloc(n);
	if (!t) {
		/* Take the entries out in place, without an allocation: readers are kept away by
		 * publishing nothing for a moment. They then see user space's answer, as they
		 * would just after the removal. */
		static struct io_bus_table empty;

		__atomic_store_n(&kvm->buses[bus], &empty, __ATOMIC_SEQ_CST);
		grace_wait(&kvm->irq->bus_grace);
		t = old;
		old = NULL;
	}
	n = 0;
	for (u32 i = 0, all = old ? old->n : t->n; i < all; i++) {
		struct io_range r = old ? old->r[i] : t->r[i];

		if (r.dev != d)
			t->r[n++] = r;
	}
	t->n = n;
	table_index(t);
	__atomic_store_n(&kvm->buses[bus], t, __ATOMIC_SEQ_CST);
	grace_wait(&kvm->irq->bus_grace);
	free(old);
	if (d->destroy)
		d->destroy(d);
}

/*
 * Asks the devices whose range holds the whole access, first registered first. Overlaps are rare,
 * so the common case is one candidate found by bisection.
 */
static int bus_access(struct kvm *kvm, struct kvm_vcpu *v, enum io_bus bus, u64 addr, unsigned len,
		      void *val, bool write)
{
	const struct io_bus_table *t;
	u64 last = addr + len - 1, seq = 0;
	unsigned idx = grace_enter(&kvm->irq->bus_grace);
	int r = -EOPNOTSUPP;
	u32 lo = 0, hi;

	t = __atomic_load_n(&kvm->buses[bus], __ATOMIC_SEQ_CST);
	hi = t->n;
	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (t->r[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (r) {
		const struct io_range *best = NULL;
		struct io_device *d;

		for (u32 i = lo; i-- > 0 && t->r[i].max_last >= addr;) {
			const struct io_range *c = &t->r[i];
			bool fits = c->any_len ? c->addr == addr : c->last >= last;

			if (fits && c->seq >= seq && (!best || c->seq < best->seq))
				best = c;
		}
		if (!best)
			break;
		seq = best->seq + 1;
		d = best->dev;
		if (write)
			r = d->write ? d->write(d, v, addr, len, val) : -EOPNOTSUPP;
		else
			r = d->read ? d->read(d, v, addr, len, val) : -EOPNOTSUPP;
	}
	grace_leave(&kvm->irq->bus_grace, idx);
	return r;
}

int io_bus_read(struct kvm_vcpu *v, enum io_bus bus, u64 addr, unsigned len, void *val)
{
	if (bus == IO_BUS_MMIO && v->apic && !lapic_mmio_read(v, addr, len, val))
		return 0;
	return bus_access(v->kvm, v, bus, addr, len, val, false);
}

int io_bus_write(struct kvm_vcpu *v, enum io_bus bus, u64 addr, unsigned len, const void *val)
{
	if (bus == IO_BUS_MMIO && v->apic && !lapic_mmio_write(v, addr, len, val))
		return 0;
	return bus_access(v->kvm, v, bus, addr, len, (void *)val, true);
}

int io_buses_init(struct kvm *kvm)
{
	grace_init(&kvm->irq->bus_grace);
	for (unsigned b = 0; b < IO_BUS_N; b++) {
		kvm->buses[b] = table_alloc(0);
		if (!kvm->buses[b])
			return -ENOMEM;
	}
	return 0;
}

void io_buses_destroy(struct kvm *kvm)
{
	for (unsigned b = 0; b < IO_BUS_N; b++) {
		struct io_bus_table *t = kvm->buses[b];

		for (u32 i = 0; t && i < t->n; i++) {
			struct io_device *d = t->r[i].dev;

			/* A device may have several ranges: destroy it at the last one. */
			for (u32 k = i + 1; d && k < t->n; k++) {
				if (t->r[k].dev == d)
					d = NULL;
			}
			if (d && d->destroy)
				d->destroy(d);
		}
		free(t);
		kvm->buses[b] = NULL;
	}
}
