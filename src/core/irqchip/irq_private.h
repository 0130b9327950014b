/* SPDX-License-Identifier: MIT */
/*
 * What the interrupt controllers share among themselves.
 *
 * Lock order: kvm->irq_lock, irqfds, ioapic, pic, pit, then map_lock; the service thread's own lock
 * is innermost. EOI notifications are made with no controller's lock held.
 */
#ifndef CORE_IRQCHIP_IRQ_PRIVATE_H
#define CORE_IRQCHIP_IRQ_PRIVATE_H

#include <pthread.h>

#include "base/types.h"
#include "core/grace.h"
#include "core/irqchip/irqchip.h"
#include "core/kvm_host.h"

struct apic_map;

struct vm_irq {
	struct grace bus_grace;	  /* readers of kvm->buses */
	struct grace route_grace; /* readers of kvm->routing */
	struct grace map_grace;	  /* readers of map */
	u64 bus_seq;		  /* slots_lock */

	struct apic_map *map;
	pthread_mutex_t map_lock; /* builders of the map */
	u32 map_dirty;		  /* atomic; what the map is made from has changed */
	u64 bus_cycle_ns;	  /* period of the local APICs' timer input */

	struct coalesced *coalesced; /* eventfd.h */
	struct ioeventfds *ioeventfds;
};

/* An interrupt message on its way: from an IPI, an MSI or an IOAPIC pin. */
struct apic_msg {
	u32 dest;
	bool logical;
	bool level_trig;
	bool assert; /* level of the message; INIT de-assert has it clear */
	bool redir_hint;
	u8 delivery; /* APIC_DM_* >> 8 */
	u8 vector;
	u8 shorthand;
};

enum apic_delivery {
	APIC_DELIVER_FIXED,
	APIC_DELIVER_LOWEST,
	APIC_DELIVER_SMI,
	APIC_DELIVER_RESERVED,
	APIC_DELIVER_NMI,
	APIC_DELIVER_INIT,
	APIC_DELIVER_SIPI,
	APIC_DELIVER_EXTINT,
};
enum apic_shorthand {
	APIC_SHORTHAND_NONE,
	APIC_SHORTHAND_SELF,
	APIC_SHORTHAND_ALL,
	APIC_SHORTHAND_OTHERS,
};

/* Sends @m; @src is the sending vCPU of an IPI, NULL for devices. Number of vCPUs that took it, 0
 * if it merged with one that is pending, -1 if nobody is addressed. Any thread. */
int apic_msg_send(struct kvm *kvm, struct kvm_vcpu *src, const struct apic_msg *m);
/* Does @m (physical or logical, no shorthand) address @v? */
bool apic_msg_matches(struct kvm_vcpu *v, struct kvm_vcpu *src, const struct apic_msg *m);
void apic_map_changed(struct kvm *kvm);
void apic_map_destroy(struct kvm *kvm);

/* One vCPU takes a message: 1 accepted, 0 merged, -1 not accepted. lapic.c. */
int lapic_accept(struct kvm_vcpu *v, const struct apic_msg *m);
/* LVT0 or a disabled APIC passes the PIC's INTR on. */
bool lapic_accepts_pic(struct kvm_vcpu *v);

/* ---- Chips ---- */
struct ioapic;
int ioapic_create(struct kvm *kvm);
void ioapic_destroy(struct kvm *kvm);
void ioapic_unplug(struct kvm *kvm);
int ioapic_set_irq(struct kvm *kvm, unsigned pin, unsigned source, int level);
void ioapic_eoi(struct kvm_vcpu *v, u8 vector, bool level);
/* Does an entry of the IOAPIC use the vector? */
bool ioapic_has_vector(const struct kvm *kvm, u8 vector);
/* Would irqchip_eoi do anything? */
bool irqchip_eoi_matters(const struct kvm_vcpu *v, u8 vector, bool level);
void ioapic_get(struct kvm *kvm, struct kvm_ioapic_state *s);
void ioapic_set(struct kvm *kvm, const struct kvm_ioapic_state *s);

int pic_create(struct kvm *kvm);
void pic_destroy(struct kvm *kvm);
void pic_unplug(struct kvm *kvm);
int pic_set_irq(struct kvm *kvm, unsigned pin, unsigned source, int level);
bool pic_output(const struct kvm *kvm);
int pic_peek(struct kvm *kvm); /* vector INTA would give, or -1 */
int pic_inta(struct kvm *kvm);
void pic_get(struct kvm *kvm, unsigned chip, struct kvm_pic_state *s);
void pic_set(struct kvm *kvm, unsigned chip, const struct kvm_pic_state *s);

/* The pin's interrupt has been acknowledged (EOI): the PIT and resample irqfds want to know. No
 * controller's lock held. */
void irq_acked(struct kvm *kvm, unsigned chip, unsigned pin);
/* Does anybody want to know? */
bool irq_has_ack_listener(struct kvm *kvm, unsigned chip, unsigned pin);
void pit_irq_acked(struct kvm *kvm);
bool pit_wants_ack(const struct kvm *kvm);

/* ---- Routing ---- */
int irq_routing_init(struct kvm *kvm);
void irq_routing_destroy(struct kvm *kvm);
int irq_set_default_routing(struct kvm *kvm);
int irq_set_empty_routing(struct kvm *kvm);
/* GSI routed to the pin, or -1. */
int irq_gsi_of(struct kvm *kvm, unsigned chip, unsigned pin);

#endif
