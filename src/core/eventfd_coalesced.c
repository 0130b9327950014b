/* SPDX-License-Identifier: MIT */
/*
 * Coalesced MMIO and PIO: writes to registered zones are put in a ring that the VMM reads at its
 * next exit.
 *
 * Linux has one ring per VM, seen in every vCPU's mapping. Ours is the page in the first vCPU's
 * mapping (the one that VMMs read), and only that vCPU's writes go there: the others' exit as if
 * there was no zone, which a VMM must expect anyway since the ring may be full.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/eventfd.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"

#define RING_PAGE 2 /* KVM_COALESCED_MMIO_PAGE_OFFSET */

struct zone {
	struct io_device dev;
	struct zone *next;
	struct kvm_coalesced_mmio_zone z;
};

/* Under kvm->slots_lock. */
struct coalesced {
	struct zone *list;
};

static bool in_zone(const struct zone *z, u64 addr, u64 len)
{
	return addr + len >= addr && addr >= z->z.addr && addr + len <= z->z.addr + z->z.size;
}

static int coalesced_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
			   const void *val)
{
	const struct zone *z = container_of(d, struct zone, dev);
	struct kvm_coalesced_mmio_ring *ring;
	struct kvm_coalesced_mmio *e;
	u32 last, next;

	if (!v || v->idx != 0 || len > sizeof(e->data) || !in_zone(z, addr, len))
		return -EOPNOTSUPP;
	ring = (void *)((char *)v->run + RING_PAGE * PAGE_SIZE);
	/* The VMM can write the indices too. */
	last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
	if (last >= KVM_COALESCED_MMIO_MAX)
		return -EOPNOTSUPP;
	next = (last + 1) % KVM_COALESCED_MMIO_MAX;
	if (next == __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE))
		return -EOPNOTSUPP;
	e = &ring->coalesced_mmio[last];
	e->phys_addr = addr;
	e->len = len;
	memcpy(e->data, val, len);
	e->pio = z->z.pio;
	__atomic_store_n(&ring->last, next, __ATOMIC_RELEASE);
	return 0;
}

static void zone_destroy(struct io_device *d)
{
	free(container_of(d, struct zone, dev));
}

static enum io_bus zone_bus(const struct kvm_coalesced_mmio_zone *z)
{
	return z->pio ? IO_BUS_PIO : IO_BUS_MMIO;
}

int vm_register_coalesced_mmio(struct kvm *kvm, const struct kvm_coalesced_mmio_zone *z)
{
	struct zone *n;
	int r;

	if (z->pio > 1)
		return -EINVAL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->z = *z;
	n->dev.write = coalesced_write;
	n->dev.destroy = zone_destroy;
	pthread_mutex_lock(&kvm->slots_lock);
	r = io_bus_add(kvm, zone_bus(z), z->addr, z->size, &n->dev);
	if (!r) {
		n->next = kvm->irq->coalesced->list;
		kvm->irq->coalesced->list = n;
	}
	pthread_mutex_unlock(&kvm->slots_lock);
	if (r)
		free(n);
	return r;
}

int vm_unregister_coalesced_mmio(struct kvm *kvm, const struct kvm_coalesced_mmio_zone *z)
{
	struct zone **p, *n;

	if (z->pio > 1)
		return -EINVAL;
	pthread_mutex_lock(&kvm->slots_lock);
	/* All zones that hold the given range. */
	for (p = &kvm->irq->coalesced->list; (n = *p);) {
		if (n->z.pio == z->pio && in_zone(n, z->addr, z->size)) {
			*p = n->next;
			io_bus_del(kvm, zone_bus(z), &n->dev);
		} else {
			p = &n->next;
		}
	}
	pthread_mutex_unlock(&kvm->slots_lock);
	return 0;
}

int coalesced_init(struct kvm *kvm)
{
	kvm->irq->coalesced = calloc(1, sizeof(*kvm->irq->coalesced));
	return kvm->irq->coalesced ? 0 : -ENOMEM;
}

/* The zones go with their bus. */
void coalesced_destroy(struct kvm *kvm)
{
	free(kvm->irq->coalesced);
	kvm->irq->coalesced = NULL;
}
