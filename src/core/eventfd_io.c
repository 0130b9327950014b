/* SPDX-License-Identifier: MIT */
/* ioeventfds: a guest's write to a port or address signals an eventfd and is done. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "core/eventfd.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"

#define BUS_NONE IO_BUS_N /* s390's notification bus: kept, never hit */

struct ioeventfd {
	struct io_device dev;
	struct ioeventfd *next;
	unsigned bus;
	u64 addr;
	u32 len;
	bool wildcard;
	u64 datamatch;
	int fd;
};

/* Under kvm->slots_lock. */
struct ioeventfds {
	struct ioeventfd *list;
};

static int ioeventfd_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
			   const void *val)
{
	const struct ioeventfd *e = container_of(d, struct ioeventfd, dev);
	u64 data = 0;

	if (addr != e->addr || (e->len && len != e->len))
		return -EOPNOTSUPP;
	if (!e->wildcard) {
		memcpy(&data, val, MIN(len, 8u));
		if (data != e->datamatch)
			return -EOPNOTSUPP;
	}
	eventfd_signal(e->fd);
	return 0;
}

static void ioeventfd_free(struct ioeventfd *e)
{
	close(e->fd);
	free(e);
}

static void ioeventfd_destroy(struct io_device *d)
{
	ioeventfd_free(container_of(d, struct ioeventfd, dev));
}

/* One write would match both. */
static bool collides(const struct ioeventfd *a, const struct ioeventfd *b)
{
	if (a->bus != b->bus || a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (a->wildcard || b->wildcard || a->datamatch == b->datamatch);
}

static void from_args(struct ioeventfd *e, const struct kvm_ioeventfd *args)
{
	if (args->flags & KVM_IOEVENTFD_FLAG_PIO)
		e->bus = IO_BUS_PIO;
	else if (args->flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY)
		e->bus = BUS_NONE;
	else
		e->bus = IO_BUS_MMIO;
	e->addr = args->addr;
	e->len = args->len;
	e->wildcard = !(args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);
	e->datamatch = e->wildcard ? 0 : mask_size(args->datamatch, args->len);
}

static int ioeventfd_assign(struct kvm *kvm, const struct kvm_ioeventfd *args)
{
	struct ioeventfds *all = kvm->irq->ioeventfds;
	struct ioeventfd *e = calloc(1, sizeof(*e));
	int r = 0;

	if (!e)
		return -ENOMEM;
	from_args(e, args);
	e->dev.write = ioeventfd_write;
	e->dev.destroy = ioeventfd_destroy;
	e->fd = eventfd_dup(args->fd);
	if (e->fd < 0) {
		r = e->fd;
		free(e);
		return r;
	}
	pthread_mutex_lock(&kvm->slots_lock);
	for (struct ioeventfd *o = all->list; o && !r; o = o->next) {
		if (collides(o, e))
			r = -EEXIST;
	}
	if (!r && e->bus != BUS_NONE)
		r = io_bus_add(kvm, e->bus, e->addr, e->len, &e->dev);
	if (!r) {
		e->next = all->list;
		all->list = e;
	}
	pthread_mutex_unlock(&kvm->slots_lock);
	if (r)
		ioeventfd_free(e);
	return r;
}

static int ioeventfd_deassign(struct kvm *kvm, const struct kvm_ioeventfd *args)
{
	struct ioeventfds *all = kvm->irq->ioeventfds;
	struct ioeventfd want = {0}, *e;
	int fd = eventfd_dup(args->fd), r = -ENOENT;

	if (fd < 0)
		return fd;
	from_args(&want, args);
	pthread_mutex_lock(&kvm->slots_lock);
	for (struct ioeventfd **p = &all->list; (e = *p); p = &e->next) {
		if (e->bus != want.bus || e->addr != want.addr || e->len != want.len ||
		    e->wildcard != want.wildcard || e->datamatch != want.datamatch ||
		    !eventfd_same(e->fd, fd))
			continue;
		*p = e->next;
		if (e->bus == BUS_NONE)
			ioeventfd_free(e);
		else
			io_bus_del(kvm, e->bus, &e->dev);
		r = 0;
		break;
	}
	pthread_mutex_unlock(&kvm->slots_lock);
	close(fd);
	return r;
}

int vm_ioeventfd(struct kvm *kvm, const struct kvm_ioeventfd *args)
{
	if (args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		return ioeventfd_deassign(kvm, args);
	switch (args->len) {
	case 0:
	case 1:
	case 2:
	case 4:
	case 8: break;
	default: return -EINVAL;
	}
	if (args->addr + args->len < args->addr)
		return -EINVAL;
	if (args->flags & ~(u32)KVM_IOEVENTFD_VALID_FLAG_MASK)
		return -EINVAL;
	/* There is no value to compare if there is no length. */
	if (!args->len && args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH)
		return -EINVAL;
	return ioeventfd_assign(kvm, args);
}

int ioeventfds_init(struct kvm *kvm)
{
	kvm->irq->ioeventfds = calloc(1, sizeof(*kvm->irq->ioeventfds));
	return kvm->irq->ioeventfds ? 0 : -ENOMEM;
}

/* Those on a bus go with it (io_buses_destroy). */
void ioeventfds_destroy(struct kvm *kvm)
{
	struct ioeventfd *e, *next;

	for (e = kvm->irq->ioeventfds ? kvm->irq->ioeventfds->list : NULL; e; e = next) {
		next = e->next;
		if (e->bus == BUS_NONE)
			ioeventfd_free(e);
	}
	free(kvm->irq->ioeventfds);
	kvm->irq->ioeventfds = NULL;
}
