/* SPDX-License-Identifier: MIT */
/* Interrupt controllers as a whole: life, the ioctls about them, and what the vCPU loop asks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/eventfd.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"
#include "core/vm.h"

#define MAX_RESERVED_IOAPIC_PINS 4096u

/* ---- Life ---- */

int irqchip_vm_init(struct kvm *kvm)
{
	struct vm_irq *irq = calloc(1, sizeof(*irq));
	int r;

	if (!irq)
		return -ENOMEM;
	kvm->irq = irq;
	irq->bus_cycle_ns = 1;
	irq->map_dirty = 1;
	pthread_mutex_init(&irq->map_lock, NULL);
	grace_init(&irq->map_grace);
	r = io_buses_init(kvm);
	if (!r)
		r = irq_routing_init(kvm);
	if (!r)
		r = eventfds_init(kvm);
	if (r)
		irqchip_vm_destroy(kvm);
	return r;
}

void irqchip_vm_destroy(struct kvm *kvm)
{
	if (!kvm->irq)
		return;
	eventfds_destroy(kvm);
	io_buses_destroy(kvm); /* looks at the chips' devices a last time */
	irqchip_destroy(kvm);
	irq_routing_destroy(kvm);
	apic_map_destroy(kvm);
	pthread_mutex_destroy(&kvm->irq->map_lock);
	free(kvm->irq);
	kvm->irq = NULL;
}

/* kvm->lock held, no vCPU yet, no irqchip yet. */
int irqchip_create(struct kvm *kvm)
{
	int r = pic_create(kvm);

	if (r)
		return r;
	r = ioapic_create(kvm);
	if (!r)
		r = irq_set_default_routing(kvm);
	if (r) {
		/* The VM goes on without. */
		pthread_mutex_lock(&kvm->slots_lock);
		pic_unplug(kvm);
		if (kvm->ioapic)
			ioapic_unplug(kvm);
		pthread_mutex_unlock(&kvm->slots_lock);
		irqchip_destroy(kvm);
		return r;
	}
	__atomic_store_n(&kvm->irqchip_kernel, true, __ATOMIC_RELEASE);
	return 0;
}

int irqchip_create_split(struct kvm *kvm, unsigned ioapic_pins)
{
	int r;

	if (ioapic_pins > MAX_RESERVED_IOAPIC_PINS)
		return -EINVAL;
	if (kvm_irqchip_in_core(kvm) || kvm->nvcpus)
		return -EEXIST;
	r = irq_set_empty_routing(kvm);
	if (r)
		return r;
	__atomic_store_n(&kvm->irqchip_split, true, __ATOMIC_RELEASE);
	return 0;
}

void irqchip_destroy(struct kvm *kvm)
{
	pit_destroy(kvm);
	ioapic_destroy(kvm);
	pic_destroy(kvm);
}

int irqchip_set_bus_cycle_ns(struct kvm *kvm, u64 ns)
{
	/* The longest period (2^32 counts, divided by 128) has to fit in 63 bits of ns. */
	if (!ns || ns > (~0ull >> 1) / (0xffffffffull * 128))
		return -EINVAL;
	if (!kvm_irqchip_in_core(kvm))
		return -ENXIO;
	if (kvm->nvcpus)
		return -EINVAL;
	kvm->irq->bus_cycle_ns = ns;
	return 0;
}

u64 irqchip_bus_frequency(struct kvm *kvm)
{
	return 1000000000 / kvm->irq->bus_cycle_ns;
}

/* ---- State ---- */

int irqchip_get(struct kvm *kvm, struct kvm_irqchip *chip)
{
	if (!kvm->irqchip_kernel)
		return -ENXIO;
	memset(&chip->chip, 0, sizeof(chip->chip));
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: pic_get(kvm, chip->chip_id, &chip->chip.pic); return 0;
	case KVM_IRQCHIP_IOAPIC: ioapic_get(kvm, &chip->chip.ioapic); return 0;
	default: return -EINVAL;
	}
}

int irqchip_set(struct kvm *kvm, const struct kvm_irqchip *chip)
{
	if (!kvm->irqchip_kernel)
		return -ENXIO;
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: pic_set(kvm, chip->chip_id, &chip->chip.pic); return 0;
	case KVM_IRQCHIP_IOAPIC: ioapic_set(kvm, &chip->chip.ioapic); return 0;
	default: return -EINVAL;
	}
}

int vm_get_irqchip(struct kvm *kvm, struct kvm_irqchip *chip)
{
	return irqchip_get(kvm, chip);
}

int vm_set_irqchip(struct kvm *kvm, const struct kvm_irqchip *chip)
{
	return irqchip_set(kvm, chip);
}

int vm_irq_line(struct kvm *kvm, struct kvm_irq_level *irq, bool want_status)
{
	int status;

	if (!kvm_irqchip_in_core(kvm))
		return -ENXIO;
	kvm_device_wrote(kvm);
	status = irq_set(kvm, IRQ_SOURCE_USER, irq->irq, irq->level != 0);
	if (want_status)
		irq->status = status;
	return 0;
}

int vm_signal_msi(struct kvm *kvm, const struct kvm_msi *msi)
{
	kvm_device_wrote(kvm);
	return irq_send_msi(kvm, msi);
}

int vm_set_gsi_routing(struct kvm *kvm, const struct kvm_irq_routing_entry *ents, u32 n, u32 flags)
{
	if (!kvm_irqchip_in_core(kvm) || flags)
		return -EINVAL;
	return irq_set_routing(kvm, ents, n);
}

int vm_create_pit2(struct kvm *kvm, const struct kvm_pit_config *cfg)
{
	int r;

	pthread_mutex_lock(&kvm->lock);
	if (kvm->pit)
		r = -EEXIST;
	else if (!kvm->irqchip_kernel)
		r = -ENOENT;
	else
		r = pit_create(kvm, cfg);
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

int vm_get_pit2(struct kvm *kvm, struct kvm_pit_state2 *ps)
{
	return pit_get(kvm, ps);
}

int vm_set_pit2(struct kvm *kvm, const struct kvm_pit_state2 *ps)
{
	return pit_set(kvm, ps);
}

int vm_reinject_control(struct kvm *kvm, bool reinject)
{
	return pit_reinject(kvm, reinject);
}

/* ---- End of interrupt ---- */

bool irq_has_ack_listener(struct kvm *kvm, unsigned chip, unsigned pin)
{
	return pit_wants_ack(kvm) || irqfds_have_resamplers(kvm);
}

void irq_acked(struct kvm *kvm, unsigned chip, unsigned pin)
{
	int gsi;

	if (!irq_has_ack_listener(kvm, chip, pin))
		return;
	gsi = irq_gsi_of(kvm, chip, pin);
	if (gsi < 0)
		return;
	if (gsi == 0 && pit_wants_ack(kvm))
		pit_irq_acked(kvm);
	irqfd_gsi_acked(kvm, (u32)gsi);
}

void irqchip_eoi(struct kvm_vcpu *v, u8 vector, bool level)
{
	if (v->kvm->irqchip_kernel) {
		ioapic_eoi(v, vector, level);
	} else if (v->kvm->irqchip_split && level) {
		/* Level-triggered means: from user space's IOAPIC. */
		v->pending_ioapic_eoi = vector;
		kvm_make_request(v, REQ_IOAPIC_EOI_EXIT);
	}
}

bool irqchip_eoi_matters(const struct kvm_vcpu *v, u8 vector, bool level)
{
	return level || (v->kvm->irqchip_kernel && ioapic_has_vector(v->kvm, vector));
}

/* ---- vCPU loop ---- */

/* Vector of an external controller: the PIC, or user space's by KVM_INTERRUPT. -1: none. */
static int extint_pending(struct kvm_vcpu *v)
{
	if (v->kvm->irqchip_kernel)
		return pic_output(v->kvm) && lapic_accepts_pic(v) ? pic_peek(v->kvm) : -1;
	if (!v->user_irq || (v->apic && !lapic_accepts_pic(v)))
		return -1;
	return (int)v->user_irq - 1;
}

bool irq_pending_is_extint(struct kvm_vcpu *v)
{
	return extint_pending(v) >= 0;
}

int irq_pending(struct kvm_vcpu *v)
{
	int vec = extint_pending(v);

	return vec < 0 && v->apic ? lapic_has_interrupt(v) : vec;
}

int irq_get(struct kvm_vcpu *v)
{
	int vec;

	if (v->kvm->irqchip_kernel) {
		vec = pic_output(v->kvm) && lapic_accepts_pic(v) ? pic_inta(v->kvm) : -1;
	} else {
		vec = extint_pending(v);
		if (vec >= 0)
			v->user_irq = 0;
	}
	return vec < 0 && v->apic ? lapic_get_interrupt(v) : vec;
}

bool irq_user_slot_free(struct kvm_vcpu *v)
{
	return !v->user_irq;
}

int vcpu_interrupt(struct kvm_vcpu *v, u32 irq)
{
	if (irq > 255)
		return -EINVAL;
	if (v->kvm->irqchip_kernel)
		return -ENXIO;
	/* Without an in-core APIC a second request replaces the first, as KVM does. */
	if (v->apic && v->user_irq)
		return -EEXIST;
	v->user_irq = irq + 1;
	kvm_make_request(v, REQ_EVENT);
	kvm_vcpu_kick(v);
	return 0;
}
