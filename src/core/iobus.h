/* SPDX-License-Identifier: MIT */
/*
 * In-core devices by address: port I/O and MMIO that the core answers without user space,
 * ioeventfds and coalesced zones. Readers take no lock (the table is replaced as a whole,
 * kvm->slots_lock held by writers).
 */
#ifndef CORE_IOBUS_H
#define CORE_IOBUS_H

#include "base/types.h"

struct kvm;
struct kvm_vcpu;

enum io_bus { IO_BUS_PIO, IO_BUS_MMIO, IO_BUS_N };

struct io_device {
	/* 0 if handled, -EOPNOTSUPP if not this device's after all. @v may be NULL. A NULL function
	 * handles nothing. */
	int (*read)(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val);
	int (*write)(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
		     const void *val);
	void (*destroy)(struct io_device *d); /* when the bus drops it; may be NULL */
};

/* @len 0: accesses of any length at exactly @addr. Devices at overlapping addresses are asked in
 * the order in which they were added until one takes the access. Caller holds kvm->slots_lock. 0,
 * -ENOSPC (too many), -ENOMEM. */
int io_bus_add(struct kvm *kvm, enum io_bus bus, u64 addr, u64 len, struct io_device *d);
/* Removes all ranges of @d, waits until nobody uses it, then calls its destroy. Caller holds
 * kvm->slots_lock and is not inside an access. */
void io_bus_del(struct kvm *kvm, enum io_bus bus, struct io_device *d);
/* 0 if an in-core device took it, -EOPNOTSUPP if user space has to. The local APIC page is looked
 * at first for MMIO. */
int io_bus_read(struct kvm_vcpu *v, enum io_bus bus, u64 addr, unsigned len, void *val);
int io_bus_write(struct kvm_vcpu *v, enum io_bus bus, u64 addr, unsigned len, const void *val);

/* Called by irqchip_vm_init and _destroy. */
int io_buses_init(struct kvm *kvm);
/* Destroys the devices that are left. */
void io_buses_destroy(struct kvm *kvm);

#endif
