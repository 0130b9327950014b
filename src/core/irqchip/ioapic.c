/* SPDX-License-Identifier: MIT */
/*
 * IOAPIC: 82093AA with 24 pins, version 11h as KVM's (no EOI register).
 *
 * Pin levels are kept per source and ORed; irr has a bit for each pin whose line is high.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"
#include "core/irqchip/lapic_reg.h"
#include "core/service.h"

#define IOAPIC_PINS	    KVM_IOAPIC_NUM_PINS
#define IOAPIC_BASE_DEFAULT 0xfec00000ull
#define IOAPIC_MEM_LENGTH   0x100
#define IOAPIC_VERSION	    0x11u

#define IOAPIC_REGSEL 0x00
#define IOAPIC_WINDOW 0x10

#define IOAPIC_REG_ID	  0x00
#define IOAPIC_REG_VER	  0x01
#define IOAPIC_REG_ARB	  0x02
#define IOAPIC_REG_REDIR0 0x10

#define RTE_DELIVERY_STATUS BIT(12)
#define RTE_REMOTE_IRR	    BIT(14)
#define RTE_LEVEL	    BIT(15)
#define RTE_MASKED	    BIT(16)
#define RTE_RESERVED	    BITS(55, 17)

/* A level interrupt that the guest ends without silencing the device this many times in a row is
 * held back for a moment, so that the guest gets on (KVM does the same; some drivers need it). */
#define EOI_STORM_COUNT 10000
#define EOI_STORM_NS	10000000ull

struct ioapic {
	pthread_mutex_t lock;
	struct kvm *kvm;
	struct io_device dev;
	u64 base;
	u32 regsel, id, irr;
	u32 sent; /* pins in irr whose message is out */
	u64 rte[IOAPIC_PINS];
	u32 lines[IOAPIC_PINS]; /* bit per source */
	u32 successive_eois[IOAPIC_PINS];
	/* Vectors of the entries, for a quick look at EOI; bits are only cleared by a new scan. */
	u64 vectors[4];
	struct ktimer delayed_eoi;
};

static u8 rte_vector(u64 rte)
{
	return (u8)rte;
}

/* Lock held. */
static void scan_vectors(struct ioapic *io)
{
	u64 set[4] = {0};

	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		u8 vec = rte_vector(io->rte[i]);

		/* A masked entry may have an interrupt in flight. */
		if (!(io->rte[i] & RTE_MASKED) || io->rte[i] & RTE_REMOTE_IRR)
			set[vec >> 6] |= BIT(vec & 63);
	}
	for (unsigned i = 0; i < 4; i++)
		__atomic_store_n(&io->vectors[i], set[i], __ATOMIC_RELEASE);
}

/* Sends pin's message. Lock held. As apic_msg_send. */
static int ioapic_send(struct ioapic *io, unsigned pin)
{
	u64 rte = io->rte[pin];
	struct apic_msg m = {
		.dest = (u32)(rte >> 56),
		.logical = rte & BIT(11),
		.level_trig = rte & RTE_LEVEL,
		.assert = true,
		.delivery = bits_get(rte, 10, 8),
		.vector = rte_vector(rte),
	};
	int r;

	if (rte & RTE_MASKED || (rte & RTE_LEVEL && rte & RTE_REMOTE_IRR))
		return -1;
	r = apic_msg_send(io->kvm, NULL, &m);
	/* Merged with a pending one (0): that one's EOI will come. */
	if (r >= 0 && rte & RTE_LEVEL)
		io->rte[pin] |= RTE_REMOTE_IRR;
	if (r >= 0)
		io->sent |= 1u << pin;
	return r;
}

/* The pin's line changes. Lock held. > 0 delivered, 0 coalesced, -1 masked. */
static int pin_set(struct ioapic *io, unsigned pin, bool level)
{
	u32 bit = 1u << pin, old = io->irr;
	bool edge = !(io->rte[pin] & RTE_LEVEL);

	if (!level) {
		io->irr &= ~bit;
		return 1;
	}
	io->irr |= bit;
	if (edge ? old & bit : !!(io->rte[pin] & RTE_REMOTE_IRR))
		return 0;
	io->sent &= ~bit;
	/* 82093AA, 3.2.4: edges at a masked entry are ignored, not held. */
	return ioapic_send(io, pin);
}

int ioapic_set_irq(struct kvm *kvm, unsigned pin, unsigned source, int level)
{
	struct ioapic *io = kvm->ioapic;
	int r;

	if (!io || pin >= IOAPIC_PINS)
		return -1;
	pthread_mutex_lock(&io->lock);
	if (level)
		io->lines[pin] |= 1u << source;
	else
		io->lines[pin] &= ~(1u << source);
	r = pin_set(io, pin, io->lines[pin] != 0);
	pthread_mutex_unlock(&io->lock);
	return r;
}

/* ---- End of interrupt ---- */

static void delayed_eoi_fn(struct ktimer *t)
{
	struct ioapic *io = container_of(t, struct ioapic, delayed_eoi);

	pthread_mutex_lock(&io->lock);
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		if (io->rte[i] & RTE_LEVEL && io->irr & 1u << i)
			ioapic_send(io, i);
	}
	pthread_mutex_unlock(&io->lock);
}

/* Lock held; dropped and taken again. */
static void pin_eoi(struct ioapic *io, unsigned pin, bool level)
{
	pthread_mutex_unlock(&io->lock);
	irq_acked(io->kvm, KVM_IRQCHIP_IOAPIC, pin);
	pthread_mutex_lock(&io->lock);

	if (!level || !(io->rte[pin] & RTE_LEVEL))
		return;
	io->rte[pin] &= ~RTE_REMOTE_IRR;
	if (io->rte[pin] & RTE_MASKED || !(io->irr & 1u << pin)) {
		io->successive_eois[pin] = 0;
		return;
	}
	if (++io->successive_eois[pin] >= EOI_STORM_COUNT) {
		io->successive_eois[pin] = 0;
		ktimer_arm(&io->delayed_eoi, kvm_now_ns(io->kvm) + EOI_STORM_NS);
	} else {
		ioapic_send(io, pin);
	}
}

bool ioapic_has_vector(const struct kvm *kvm, u8 vector)
{
	return __atomic_load_n(&kvm->ioapic->vectors[vector >> 6], __ATOMIC_ACQUIRE) &
	       BIT(vector & 63);
}

void ioapic_eoi(struct kvm_vcpu *v, u8 vector, bool level)
{
	struct ioapic *io = v->kvm->ioapic;

	if (!ioapic_has_vector(v->kvm, vector))
		return;
	pthread_mutex_lock(&io->lock);
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		if (rte_vector(io->rte[i]) != vector)
			continue;
		if (level || irq_has_ack_listener(io->kvm, KVM_IRQCHIP_IOAPIC, i))
			pin_eoi(io, i, level);
	}
	pthread_mutex_unlock(&io->lock);
}

/* ---- Registers ---- */

static u32 reg_read(const struct ioapic *io)
{
	unsigned i;

	switch (io->regsel) {
	case IOAPIC_REG_VER: return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
	case IOAPIC_REG_ID:
	case IOAPIC_REG_ARB: return (io->id & 0xf) << 24;
	default:
		i = (io->regsel - IOAPIC_REG_REDIR0) / 2;
		if (io->regsel < IOAPIC_REG_REDIR0 || i >= IOAPIC_PINS)
			return io->regsel < IOAPIC_REG_REDIR0 ? 0 : ~0u;
		return (u32)(io->rte[i] >> (io->regsel & 1 ? 32 : 0));
	}
}

static void rte_write(struct ioapic *io, unsigned pin, bool high, u32 val)
{
	u64 old = io->rte[pin], rte;

	if (high) {
		rte = (old & 0xffffffff) | (u64)val << 32;
	} else {
		/* Delivery status and remote IRR are read-only. */
		rte = (old & ~0xffffffffull) | (val & ~(RTE_DELIVERY_STATUS | RTE_REMOTE_IRR));
		rte |= old & (RTE_DELIVERY_STATUS | RTE_REMOTE_IRR);
		/* Linux clears a stuck remote IRR by making the pin edge-triggered for a moment, as
		 * the chip lets it. */
		if (!(rte & RTE_LEVEL))
			rte &= ~RTE_REMOTE_IRR;
	}
	io->rte[pin] = rte & ~RTE_RESERVED;
	scan_vectors(io);
	/* A level that waited for the unmasking. */
	if (io->rte[pin] & RTE_LEVEL && io->irr & 1u << pin)
		ioapic_send(io, pin);
}

static void reg_write(struct ioapic *io, u32 val)
{
	unsigned i = (io->regsel - IOAPIC_REG_REDIR0) / 2;

	if (io->regsel == IOAPIC_REG_ID)
		io->id = val >> 24 & 0xf;
	else if (io->regsel >= IOAPIC_REG_REDIR0 && i < IOAPIC_PINS)
		rte_write(io, i, io->regsel & 1, val);
}

static int ioapic_read(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);
	u32 reg = 0;

	pthread_mutex_lock(&io->lock);
	if ((addr & 0xff) == IOAPIC_REGSEL)
		reg = io->regsel;
	else if ((addr & 0xff) == IOAPIC_WINDOW)
		reg = reg_read(io);
	pthread_mutex_unlock(&io->lock);
	memset(val, 0, len);
	memcpy(val, &reg, MIN(len, 4u));
	return 0;
}

static int ioapic_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
			const void *val)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);
	u32 reg = 0;

	memcpy(&reg, val, MIN(len, 4u));
	pthread_mutex_lock(&io->lock);
	if ((addr & 0xff) == IOAPIC_REGSEL)
		io->regsel = reg & 0xff;
	else if ((addr & 0xff) == IOAPIC_WINDOW)
		reg_write(io, reg);
	pthread_mutex_unlock(&io->lock);
	return 0;
}

/* ---- State and life ---- */

void ioapic_get(struct kvm *kvm, struct kvm_ioapic_state *s)
{
	struct ioapic *io = kvm->ioapic;

	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&io->lock);
	s->base_address = io->base;
	s->ioregsel = io->regsel;
	s->id = io->id;
	s->irr = io->irr;
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		s->redirtbl[i].bits = io->rte[i];
		/* KVM_SET_IRQCHIP delivers what is in irr: not an edge that was. */
		if (!(io->rte[i] & RTE_LEVEL))
			s->irr &= ~(io->sent & 1u << i);
	}
	pthread_mutex_unlock(&io->lock);
}

void ioapic_set(struct kvm *kvm, const struct kvm_ioapic_state *s)
{
	struct ioapic *io = kvm->ioapic;

	pthread_mutex_lock(&io->lock);
	io->regsel = s->ioregsel & 0xff;
	io->id = s->id & 0xf;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		io->rte[i] = s->redirtbl[i].bits & ~RTE_RESERVED;
	scan_vectors(io);
	/* Lines that were high deliver again, unless they are in service. */
	io->irr = 0;
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		if (s->irr & 1u << i)
			pin_set(io, i, true);
	}
	pthread_mutex_unlock(&io->lock);
}

int ioapic_create(struct kvm *kvm)
{
	struct ioapic *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return -ENOMEM;
	pthread_mutex_init(&io->lock, NULL);
	io->kvm = kvm;
	io->base = IOAPIC_BASE_DEFAULT;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		io->rte[i] = RTE_MASKED;
	ktimer_init(&io->delayed_eoi, kvm, delayed_eoi_fn);
	io->dev.read = ioapic_read;
	io->dev.write = ioapic_write;
	kvm->ioapic = io;
	pthread_mutex_lock(&kvm->slots_lock);
	r = io_bus_add(kvm, IO_BUS_MMIO, io->base, IOAPIC_MEM_LENGTH, &io->dev);
	pthread_mutex_unlock(&kvm->slots_lock);
	if (r)
		ioapic_destroy(kvm);
	return r;
}

/* Off the bus, when creation fails. slots_lock held. */
void ioapic_unplug(struct kvm *kvm)
{
	io_bus_del(kvm, IO_BUS_MMIO, &kvm->ioapic->dev);
}

/* The bus, which has forgotten the device or never had it, is not touched. */
void ioapic_destroy(struct kvm *kvm)
{
	struct ioapic *io = kvm->ioapic;

	if (!io)
		return;
	ktimer_cancel_sync(&io->delayed_eoi);
	pthread_mutex_destroy(&io->lock);
	kvm->ioapic = NULL;
	free(io);
}
