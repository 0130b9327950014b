/* SPDX-License-Identifier: MIT */
/* irqfds, ioeventfds and coalesced zones: what ties descriptors and shared rings to the VM. */
#ifndef CORE_EVENTFD_H
#define CORE_EVENTFD_H

#include "base/types.h"

struct kvm;
struct kvm_vcpu;

/* Called by irqchip_vm_init and _destroy. */
int eventfds_init(struct kvm *kvm);
void eventfds_destroy(struct kvm *kvm);

/* Is any irqfd level-triggered (KVM_IRQFD_FLAG_RESAMPLE)? Any thread, no lock. */
bool irqfds_have_resamplers(const struct kvm *kvm);
/* The guest has ended the interrupt of @gsi: lowers it and signals the resample eventfds. No
 * interrupt controller's lock held. */
void irqfd_gsi_acked(struct kvm *kvm, u32 gsi);

/* ---- Between the eventfd files ---- */
/* A descriptor of ours for the same eventfd. -EBADF, -EINVAL (not an eventfd), -EMFILE. */
int eventfd_dup(int fd);
/* Do the two refer to one eventfd? */
bool eventfd_same(int a, int b);
/* Takes the count so that it can be seen rising again; never blocks. */
void eventfd_drain(int fd);
void eventfd_signal(int fd);

int ioeventfds_init(struct kvm *kvm);
void ioeventfds_destroy(struct kvm *kvm);
int coalesced_init(struct kvm *kvm);
void coalesced_destroy(struct kvm *kvm);

#endif
