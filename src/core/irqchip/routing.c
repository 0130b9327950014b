/* SPDX-License-Identifier: MIT */
/*
 * From GSIs to pins and messages (KVM_SET_GSI_ROUTING). The table is immutable once published;
 * readers hold route_grace, writers kvm->irq_lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "core/irqchip/irq_private.h"
#include "core/vm.h"

#define MAX_ROUTES	  4096u /* entries, and GSIs; as KVM */
#define PIC_PINS_PER_CHIP 8u

struct route {
	u32 gsi;
	u32 type;
	union {
		struct kvm_irq_routing_irqchip pin;
		struct kvm_irq_routing_msi msi;
	};
};

struct irq_routing {
	u32 ngsis;
	u32 n;
	u32 *start; /* first entry of each GSI, ngsis + 1 of them */
	s32 gsi_of[KVM_NR_IRQCHIPS][KVM_IOAPIC_NUM_PINS];
	struct route r[];
};

/* ---- MSI ---- */

/* SDM vol. 3A, 11.11; address bits 63:40 hold ID bits 31:8 if the VMM has said so
 * (KVM_X2APIC_API_USE_32BIT_IDS). */
static int msi_deliver(struct kvm *kvm, const struct kvm_irq_routing_msi *msi)
{
	struct apic_msg m = {
		.dest = (u32)bits_get(msi->address_lo, 19, 12),
		.logical = msi->address_lo & BIT(2),
		.redir_hint = msi->address_lo & BIT(3),
		.level_trig = msi->data & BIT(15),
		.assert = true,
		.delivery = bits_get(msi->data, 10, 8),
		.vector = (u8)msi->data,
	};

	if (kvm->arch->x2apic_format) {
		if (msi->address_hi & 0xff)
			return -1;
		m.dest |= msi->address_hi & ~0xffu;
	}
	return apic_msg_send(kvm, NULL, &m);
}

int irq_send_msi(struct kvm *kvm, const struct kvm_msi *msi)
{
	struct kvm_irq_routing_msi m = {
		.address_lo = msi->address_lo,
		.address_hi = msi->address_hi,
		.data = msi->data,
	};

	if (!kvm_irqchip_in_core(kvm) || msi->flags)
		return -EINVAL;
	if (kvm->arch->x2apic_format && msi->address_hi & 0xff)
		return -EINVAL;
	return msi_deliver(kvm, &m);
}

/* ---- Lookup ---- */

static int route_set(struct kvm *kvm, const struct route *r, unsigned source, int level)
{
	if (r->type == KVM_IRQ_ROUTING_MSI)
		return level ? msi_deliver(kvm, &r->msi) : -1;
	if (r->pin.irqchip == KVM_IRQCHIP_IOAPIC)
		return ioapic_set_irq(kvm, r->pin.pin, source, level);
	return pic_set_irq(kvm, r->pin.pin + PIC_PINS_PER_CHIP * r->pin.irqchip, source, level);
}

int irq_set(struct kvm *kvm, unsigned source, u32 gsi, int level)
{
	struct vm_irq *irq = kvm->irq;
	unsigned idx = grace_enter(&irq->route_grace);
	const struct irq_routing *t = __atomic_load_n(&kvm->routing, __ATOMIC_SEQ_CST);
	int result = -1;

	if (t && gsi < t->ngsis) {
		for (u32 i = t->start[gsi]; i < t->start[gsi + 1]; i++) {
			int r = route_set(kvm, &t->r[i], source, level);

			if (r >= 0)
				result = MAX(result, 0) + r;
		}
	}
	grace_leave(&irq->route_grace, idx);
	return result;
}

int irq_gsi_of(struct kvm *kvm, unsigned chip, unsigned pin)
{
	struct vm_irq *irq = kvm->irq;
	unsigned idx = grace_enter(&irq->route_grace);
	const struct irq_routing *t = __atomic_load_n(&kvm->routing, __ATOMIC_SEQ_CST);
	int gsi = t ? t->gsi_of[chip][pin] : -1;

	grace_leave(&irq->route_grace, idx);
	return gsi;
}

/* ---- Tables ---- */

static void table_free(struct irq_routing *t)
{
	if (t)
		free(t->start);
	free(t);
}

/* Checks one entry as KVM does and converts it. 0 or -EINVAL. */
static int route_from_abi(struct kvm *kvm, const struct kvm_irq_routing_entry *e, struct route *r)
{
	r->gsi = e->gsi;
	r->type = e->type;
	if (e->gsi >= MAX_ROUTES)
		return -EINVAL;
	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (e->flags || kvm->irqchip_split || e->u.irqchip.irqchip >= KVM_NR_IRQCHIPS)
			return -EINVAL;
		if (e->u.irqchip.pin >= (e->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC
						 ? KVM_IOAPIC_NUM_PINS
						 : PIC_PINS_PER_CHIP))
			return -EINVAL;
		r->pin = e->u.irqchip;
		return 0;
	case KVM_IRQ_ROUTING_MSI:
		if (e->flags & ~KVM_MSI_VALID_DEVID)
			return -EINVAL;
		if (kvm->arch->x2apic_format && e->u.msi.address_hi & 0xff)
			return -EINVAL;
		r->msi = e->u.msi;
		return 0;
	default: return -EINVAL;
	}
}

/* A GSI may have one message, or pins of different chips. */
static bool routes_conflict(const struct route *a, const struct route *b)
{
	return a->type != KVM_IRQ_ROUTING_IRQCHIP || b->type != KVM_IRQ_ROUTING_IRQCHIP ||
	       a->pin.irqchip == b->pin.irqchip;
}

/* Sorts @routes into a table by counting; the order within a GSI is kept. 0 or -errno. */
static int table_build(const struct route *routes, u32 n, struct irq_routing **out)
{
	struct irq_routing *t = calloc(1, sizeof(*t) + n * sizeof(t->r[0]));
	u32 ngsis = 0, *fill;

	if (!t)
		return -ENOMEM;
	for (u32 i = 0; i < n; i++)
		ngsis = MAX(ngsis, routes[i].gsi + 1);
	t->n = n;
	t->ngsis = ngsis;
	/* fill[g]: how many of g's there are so far. */
	t->start = calloc(2 * (size_t)ngsis + 1, sizeof(*t->start));
	if (!t->start) {
		table_free(t);
		return -ENOMEM;
	}
	fill = t->start + ngsis + 1;
	memset(t->gsi_of, 0xff, sizeof(t->gsi_of));
	for (u32 i = 0; i < n; i++)
		t->start[routes[i].gsi + 1]++;
	for (u32 g = 0; g < ngsis; g++)
		t->start[g + 1] += t->start[g];
	for (u32 i = 0; i < n; i++) {
		const struct route *r = &routes[i];
		struct route *first = &t->r[t->start[r->gsi]];

		for (u32 k = 0; k < fill[r->gsi]; k++) {
			if (routes_conflict(&first[k], r)) {
				table_free(t);
				return -EINVAL;
			}
		}
		first[fill[r->gsi]++] = *r;
		if (r->type == KVM_IRQ_ROUTING_IRQCHIP)
			t->gsi_of[r->pin.irqchip][r->pin.pin] = (s32)r->gsi;
	}
	*out = t;
	return 0;
}

int irq_set_routing(struct kvm *kvm, const struct kvm_irq_routing_entry *ents, u32 n)
{
	struct irq_routing *t = NULL, *old;
	struct route *routes;
	int r = 0;

	if (n > MAX_ROUTES)
		return -EINVAL;
	routes = calloc(n + 1, sizeof(*routes));
	if (!routes)
		return -ENOMEM;
	for (u32 i = 0; i < n && !r; i++)
		r = route_from_abi(kvm, &ents[i], &routes[i]);
	if (!r)
		r = table_build(routes, n, &t);
	free(routes);
	if (r)
		return r;
	pthread_mutex_lock(&kvm->irq_lock);
	old = kvm->routing;
	__atomic_store_n(&kvm->routing, t, __ATOMIC_SEQ_CST);
	grace_wait(&kvm->irq->route_grace);
	pthread_mutex_unlock(&kvm->irq_lock);
	table_free(old);
	return 0;
}

/* GSI n is pin n of the PICs (below 16) and of the IOAPIC. */
int irq_set_default_routing(struct kvm *kvm)
{
	struct kvm_irq_routing_entry e[16 + KVM_IOAPIC_NUM_PINS] = {0};
	u32 n = 0;

	for (u32 gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
		e[n].gsi = gsi;
		e[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[n].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e[n++].u.irqchip.pin = gsi;
		if (gsi >= 2 * PIC_PINS_PER_CHIP)
			continue;
		e[n].gsi = gsi;
		e[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		e[n].u.irqchip.irqchip = gsi / PIC_PINS_PER_CHIP;
		e[n++].u.irqchip.pin = gsi % PIC_PINS_PER_CHIP;
	}
	return irq_set_routing(kvm, e, n);
}

int irq_set_empty_routing(struct kvm *kvm)
{
	return irq_set_routing(kvm, NULL, 0);
}

int irq_routing_init(struct kvm *kvm)
{
	grace_init(&kvm->irq->route_grace);
	return irq_set_empty_routing(kvm);
}

void irq_routing_destroy(struct kvm *kvm)
{
	table_free(kvm->routing);
	kvm->routing = NULL;
}
