/* SPDX-License-Identifier: MIT */
/*
 * irqfds: the service thread watches the VMM's eventfds and drives their GSI.
 *
 * Edge (default): each signal is a pulse. Level (KVM_IRQFD_FLAG_RESAMPLE): a signal raises the
 * line; the guest's EOI lowers it and signals the resample eventfd, so that the device may raise it
 * again. All level irqfds of a GSI share one source, as in KVM.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/eventfd.h"
#include "core/irqchip/irq_private.h"
#include "core/kvm_host.h"
#include "core/service.h"

#define MAX_GSI 4096u

struct irqfd {
	struct fd_watch watch;
	struct kvm *kvm;
	struct irqfd *next;
	u32 gsi;
	int resamplefd; /* -1: edge */
};

struct irqfds {
	pthread_mutex_t lock; /* the list */
	struct irqfd *list;
	u32 nresamplers; /* written under lock, read atomically */
};

static void irqfd_edge(struct fd_watch *w)
{
	struct irqfd *f = container_of(w, struct irqfd, watch);

	eventfd_drain(w->fd);
	kvm_device_wrote(f->kvm);
	irq_set(f->kvm, IRQ_SOURCE_IRQFD, f->gsi, 1);
	irq_set(f->kvm, IRQ_SOURCE_IRQFD, f->gsi, 0);
}

static void irqfd_level(struct fd_watch *w)
{
	struct irqfd *f = container_of(w, struct irqfd, watch);

	eventfd_drain(w->fd);
	kvm_device_wrote(f->kvm);
	irq_set(f->kvm, IRQ_SOURCE_RESAMPLE, f->gsi, 1);
}

bool irqfds_have_resamplers(const struct kvm *kvm)
{
	return __atomic_load_n(&kvm->irqfds->nresamplers, __ATOMIC_RELAXED) != 0;
}

void irqfd_gsi_acked(struct kvm *kvm, u32 gsi)
{
	struct irqfds *fds = kvm->irqfds;
	bool lowered = false;

	if (!irqfds_have_resamplers(kvm))
		return;
	pthread_mutex_lock(&fds->lock);
	for (struct irqfd *f = fds->list; f; f = f->next) {
		if (f->gsi != gsi || f->resamplefd < 0)
			continue;
		/* Before any device hears of it and raises it again. */
		if (!lowered)
			irq_set(kvm, IRQ_SOURCE_RESAMPLE, gsi, 0);
		lowered = true;
		eventfd_signal(f->resamplefd);
	}
	pthread_mutex_unlock(&fds->lock);
}

static void irqfd_free(struct irqfd *f)
{
	if (f->watch.fd >= 0)
		close(f->watch.fd);
	if (f->resamplefd >= 0)
		close(f->resamplefd);
	free(f);
}

static int irqfd_assign(struct kvm *kvm, const struct kvm_irqfd *args)
{
	struct irqfds *fds = kvm->irqfds;
	bool level = args->flags & KVM_IRQFD_FLAG_RESAMPLE;
	struct irqfd *f;
	int r;

	if (level ? !kvm->irqchip_kernel : !kvm_irqchip_in_core(kvm))
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->kvm = kvm;
	f->gsi = args->gsi;
	f->resamplefd = -1;
	f->watch.fn = level ? irqfd_level : irqfd_edge;
	f->watch.fd = r = eventfd_dup((int)args->fd);
	if (r >= 0 && level)
		f->resamplefd = r = eventfd_dup((int)args->resamplefd);
	if (r < 0)
		goto fail;

	pthread_mutex_lock(&fds->lock);
	r = 0;
	for (struct irqfd *o = fds->list; o && !r; o = o->next) {
		if (eventfd_same(o->watch.fd, f->watch.fd))
			r = -EBUSY;
	}
	/* A count that is there already is an interrupt: the watch fires at once. */
	if (!r)
		r = fd_watch_add(&f->watch, kvm);
	if (!r) {
		f->next = fds->list;
		fds->list = f;
		if (level)
			__atomic_fetch_add(&fds->nresamplers, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&fds->lock);
	if (!r)
		return 0;
fail:
	irqfd_free(f);
	return r;
}

/* Takes the first irqfd that @fd and @gsi describe off the list, with the number of level irqfds
 * that the GSI has left. */
static struct irqfd *irqfd_take(struct irqfds *fds, int fd, u32 gsi, u32 *left)
{
	struct irqfd *found = NULL;

	*left = 0;
	pthread_mutex_lock(&fds->lock);
	for (struct irqfd **p = &fds->list; *p && !found; p = &(*p)->next) {
		if ((*p)->gsi != gsi || !eventfd_same((*p)->watch.fd, fd))
			continue;
		found = *p;
		*p = found->next;
		if (found->resamplefd >= 0)
			__atomic_fetch_sub(&fds->nresamplers, 1, __ATOMIC_RELAXED);
		break;
	}
	for (struct irqfd *f = fds->list; f; f = f->next)
		*left += f->gsi == gsi && f->resamplefd >= 0;
	pthread_mutex_unlock(&fds->lock);
	return found;
}

static int irqfd_deassign(struct kvm *kvm, const struct kvm_irqfd *args)
{
	int fd = eventfd_dup((int)args->fd);
	struct irqfd *f;
	u32 left;

	if (fd < 0)
		return fd;
	while ((f = irqfd_take(kvm->irqfds, fd, args->gsi, &left))) {
		fd_watch_del_sync(&f->watch);
		/* The last one takes its line down with it. */
		if (f->resamplefd >= 0 && !left)
			irq_set(kvm, IRQ_SOURCE_RESAMPLE, f->gsi, 0);
		irqfd_free(f);
	}
	close(fd);
	return 0;
}

int vm_irqfd(struct kvm *kvm, const struct kvm_irqfd *args)
{
	if (args->flags & ~(u32)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (args->gsi >= MAX_GSI)
		return -EINVAL;
	if (args->flags & KVM_IRQFD_FLAG_DEASSIGN)
		return irqfd_deassign(kvm, args);
	return irqfd_assign(kvm, args);
}

/* ---- Life of all kinds ---- */

int eventfds_init(struct kvm *kvm)
{
	int r;

	kvm->irqfds = calloc(1, sizeof(*kvm->irqfds));
	if (!kvm->irqfds)
		return -ENOMEM;
	pthread_mutex_init(&kvm->irqfds->lock, NULL);
	r = ioeventfds_init(kvm);
	return r ? r : coalesced_init(kvm);
}

/* No lock is taken: nobody else is left, and in a child of fork one might be held for ever. */
void eventfds_destroy(struct kvm *kvm)
{
	struct irqfd *f, *next;

	coalesced_destroy(kvm);
	ioeventfds_destroy(kvm);
	for (f = kvm->irqfds ? kvm->irqfds->list : NULL; f; f = next) {
		next = f->next;
		fd_watch_del_sync(&f->watch);
		irqfd_free(f);
	}
	free(kvm->irqfds);
	kvm->irqfds = NULL;
}
