/* SPDX-License-Identifier: MIT */
/*
 * The two 8259A interrupt controllers of a PC, cascaded at IR2, with the edge/level control
 * registers of chip sets. Names of registers and words are the data sheet's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "core/iobus.h"
#include "core/irqchip/irq_private.h"

#define PIC_PINS     16
#define CASCADE	     2
#define SPURIOUS_PIN 7

#define ICW1	    BIT(4)
#define ICW1_IC4    BIT(0)
#define ICW1_SINGLE BIT(1)
#define ICW1_LEVEL  BIT(3)
#define ICW4_AEOI   BIT(1)
#define ICW4_SFNM   BIT(4)
#define OCW3	    BIT(3)
#define OCW3_RIS    BIT(0)
#define OCW3_RR	    BIT(1)
#define OCW3_POLL   BIT(2)
#define OCW3_SMM    BIT(5)
#define OCW3_ESMM   BIT(6)

struct pic {
	pthread_mutex_t lock;
	struct kvm *kvm;
	struct kvm_pic_state chip[2];
	u32 lines[PIC_PINS]; /* bit per source */
	bool output;	     /* INTR of the master; read without lock */
	bool changed;	     /* output has risen under the lock: vCPUs have to hear of it */
	u16 acked;	     /* pins whose EOI is to be told when the lock is free */
	struct io_device master, slave, elcr;
};

static unsigned chip_index(const struct pic *p, const struct kvm_pic_state *s)
{
	return (unsigned)(s - p->chip);
}

/* ---- Priorities ---- */

/* 0 is the highest, 8 is nothing; rotated by priority_add. */
static unsigned priority(const struct kvm_pic_state *s, u8 mask)
{
	for (unsigned prio = 0; prio < 8; prio++) {
		if (mask & 1u << ((prio + s->priority_add) & 7))
			return prio;
	}
	return 8;
}

/* The request that INT would be raised for, or -1. */
static int pending_irq(const struct pic *p, const struct kvm_pic_state *s)
{
	unsigned prio = priority(s, s->irr & (u8)~s->imr), in_service;
	u8 isr = s->isr;

	if (prio == 8)
		return -1;
	/* Special mask mode: what is masked does not hold others back. Special fully nested mode:
	 * the slave may interrupt itself. */
	if (s->special_mask)
		isr &= (u8)~s->imr;
	if (s->special_fully_nested_mode && chip_index(p, s) == 0)
		isr &= (u8)~BIT(CASCADE);
	in_service = priority(s, isr);
	return prio < in_service ? (int)((prio + s->priority_add) & 7) : -1;
}

static void set_request(struct kvm_pic_state *s, unsigned irq, bool level)
{
	u8 bit = (u8)(1u << irq);

	if (s->elcr & bit) { /* level */
		s->irr = level ? s->irr | bit : s->irr & (u8)~bit;
		s->last_irr = level ? s->last_irr | bit : s->last_irr & (u8)~bit;
	} else if (level) {
		if (!(s->last_irr & bit))
			s->irr |= bit;
		s->last_irr |= bit;
	} else {
		s->last_irr &= (u8)~bit;
	}
}

/* Lock held: INT of the slave goes to the master's IR2, INT of the master is the output. */
static void update(struct pic *p)
{
	bool out;

	set_request(&p->chip[0], CASCADE, false);
	if (pending_irq(p, &p->chip[1]) >= 0)
		set_request(&p->chip[0], CASCADE, true);
	else
		p->chip[0].irr &= (u8)~BIT(CASCADE);
	out = pending_irq(p, &p->chip[0]) >= 0;
	if (out && !p->output)
		p->changed = true;
	__atomic_store_n(&p->output, out, __ATOMIC_RELEASE);
}

/* Ends a locked section: tells what happened in it. */
static void pic_unlock(struct pic *p)
{
	bool wake = p->changed;
	u16 acked = p->acked;
	struct kvm_vcpu *v;

	p->changed = false;
	p->acked = 0;
	pthread_mutex_unlock(&p->lock);
	for (; acked; acked &= (u16)(acked - 1)) {
		unsigned pin = (unsigned)__builtin_ctz(acked);

		irq_acked(p->kvm, pin >> 3, pin & 7);
	}
	if (!wake)
		return;
	kvm_for_each_vcpu(v, p->kvm)
	{
		if (lapic_accepts_pic(v)) {
			kvm_make_request(v, REQ_EVENT);
			kvm_vcpu_kick(v);
		}
	}
}

int pic_set_irq(struct kvm *kvm, unsigned pin, unsigned source, int level)
{
	struct pic *p = kvm->pic;
	struct kvm_pic_state *s;
	u8 bit = (u8)(1u << (pin & 7)), old;
	int r = 1;

	if (!p || pin >= PIC_PINS)
		return -1;
	pthread_mutex_lock(&p->lock);
	s = &p->chip[pin >> 3];
	if (level)
		p->lines[pin] |= 1u << source;
	else
		p->lines[pin] &= ~(1u << source);
	old = s->irr;
	set_request(s, pin & 7, p->lines[pin] != 0);
	if (s->imr & bit)
		r = -1;
	else if (p->lines[pin] && old & bit)
		r = 0;
	update(p);
	pic_unlock(p);
	return r;
}

/* ---- Acknowledge and EOI ---- */

static void clear_isr(struct pic *p, struct kvm_pic_state *s, unsigned irq)
{
	s->isr &= (u8) ~(1u << irq);
	p->acked |= (u16)(1u << (irq + 8 * chip_index(p, s)));
}

static void intack(struct pic *p, struct kvm_pic_state *s, unsigned irq)
{
	s->isr |= (u8)(1u << irq);
	/* A level request stays until the device drops its line. */
	if (!(s->elcr & 1u << irq))
		s->irr &= (u8) ~(1u << irq);
	if (s->auto_eoi) {
		if (s->rotate_on_auto_eoi)
			s->priority_add = (irq + 1) & 7;
		clear_isr(p, s, irq);
	}
}

/* The vector for INTA; with @take also the acknowledge. A request that has gone away gives IR7,
 * which sets no ISR bit (data sheet, "default IR7"). Lock held. */
static int vector_of(struct pic *p, bool take)
{
	int irq = pending_irq(p, &p->chip[0]), irq2;

	if (irq < 0)
		return (u8)(p->chip[0].irq_base + SPURIOUS_PIN);
	if (irq != CASCADE) {
		if (take)
			intack(p, &p->chip[0], (unsigned)irq);
		return (u8)(p->chip[0].irq_base + irq);
	}
	irq2 = pending_irq(p, &p->chip[1]);
	if (take) {
		if (irq2 >= 0)
			intack(p, &p->chip[1], (unsigned)irq2);
		intack(p, &p->chip[0], CASCADE);
	}
	return (u8)(p->chip[1].irq_base + (irq2 < 0 ? SPURIOUS_PIN : irq2));
}

bool pic_output(const struct kvm *kvm)
{
	return kvm->pic && __atomic_load_n(&kvm->pic->output, __ATOMIC_ACQUIRE);
}

static int pic_vector(struct kvm *kvm, bool take)
{
	struct pic *p = kvm->pic;
	int vec = -1;

	if (!p)
		return -1;
	pthread_mutex_lock(&p->lock);
	if (p->output)
		vec = vector_of(p, take);
	if (take)
		update(p);
	pic_unlock(p);
	return vec;
}

int pic_peek(struct kvm *kvm)
{
	return pic_output(kvm) ? pic_vector(kvm, false) : -1;
}

int pic_inta(struct kvm *kvm)
{
	return pic_output(kvm) ? pic_vector(kvm, true) : -1;
}

/* ---- Command words ---- */

static void write_icw1(struct pic *p, struct kvm_pic_state *s, u8 val)
{
	u8 held = 0;

	s->init4 = val & ICW1_IC4;
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->imr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = 1;
	/* Edges are forgotten, but a line that is still high must fall before it counts again. */
	for (unsigned i = 0; i < 8; i++) {
		if (p->lines[i + 8 * chip_index(p, s)])
			held |= (u8)(1u << i);
	}
	s->last_irr = held;
	for (unsigned i = 0; i < 8; i++) {
		if (s->isr & 1u << i)
			clear_isr(p, s, i);
	}
}

/* OCW2: bits 7:5 rotate, specific, EOI. */
static void write_ocw2(struct pic *p, struct kvm_pic_state *s, u8 val)
{
	unsigned cmd = val >> 5, irq = val & 7, prio;

	switch (cmd) {
	case 0: /* rotate in automatic EOI mode: clear, set */
	case 4: s->rotate_on_auto_eoi = cmd >> 2; break;
	case 1: /* non-specific EOI, without and with rotation */
	case 5:
		prio = priority(s, s->isr);
		if (prio == 8)
			break;
		irq = (prio + s->priority_add) & 7;
		if (cmd == 5)
			s->priority_add = (irq + 1) & 7;
		clear_isr(p, s, irq);
		break;
	case 3: /* specific EOI, without and with rotation */
	case 7:
		if (cmd == 7)
			s->priority_add = (irq + 1) & 7;
		clear_isr(p, s, irq);
		break;
	case 6: /* set priority */ s->priority_add = (irq + 1) & 7; break;
	default: /* no operation */ break;
	}
}

static void write_command(struct pic *p, struct kvm_pic_state *s, u8 val)
{
	if (val & ICW1) {
		write_icw1(p, s, val);
	} else if (val & OCW3) {
		if (val & OCW3_POLL)
			s->poll = 1;
		if (val & OCW3_RR)
			s->read_reg_select = val & OCW3_RIS;
		if (val & OCW3_ESMM)
			s->special_mask = !!(val & OCW3_SMM);
	} else {
		write_ocw2(p, s, val);
	}
}

static void write_data(struct kvm_pic_state *s, u8 val)
{
	switch (s->init_state) {
	case 0: s->imr = val; break;
	case 1: /* ICW2 */
		s->irq_base = val & 0xf8;
		s->init_state = 2;
		break;
	case 2: /* ICW3: the wiring of a PC is fixed */ s->init_state = s->init4 ? 3 : 0; break;
	case 3: /* ICW4 */
		s->special_fully_nested_mode = !!(val & ICW4_SFNM);
		s->auto_eoi = !!(val & ICW4_AEOI);
		s->init_state = 0;
		break;
	}
}

/* Poll command: the read is the acknowledge (data sheet, "poll command"). */
static u8 poll_read(struct pic *p, struct kvm_pic_state *s)
{
	int irq = pending_irq(p, s);

	if (irq < 0)
		return 0;
	intack(p, s, (unsigned)irq);
	return (u8)(0x80 | irq);
}

static u8 chip_read(struct pic *p, struct kvm_pic_state *s, bool data)
{
	if (s->poll) {
		s->poll = 0;
		return poll_read(p, s);
	}
	if (data)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

/* ---- Ports ---- */

/* Bytes only: wider accesses are split by the caller's bus, or are no access to a PIC. */
static int port_access(struct pic *p, unsigned chip, u64 addr, unsigned len, u8 *val, bool write)
{
	struct kvm_pic_state *s = &p->chip[chip];

	if (len != 1)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&p->lock);
	if (!write)
		*val = chip_read(p, s, addr & 1);
	else if (addr & 1)
		write_data(s, *val);
	else
		write_command(p, s, *val);
	update(p);
	pic_unlock(p);
	return 0;
}

static int master_read(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	return port_access(container_of(d, struct pic, master), 0, addr, len, val, false);
}

static int master_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
			const void *val)
{
	u8 b = *(const u8 *)val;

	return port_access(container_of(d, struct pic, master), 0, addr, len, &b, true);
}

static int slave_read(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	return port_access(container_of(d, struct pic, slave), 1, addr, len, val, false);
}

static int slave_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
		       const void *val)
{
	u8 b = *(const u8 *)val;

	return port_access(container_of(d, struct pic, slave), 1, addr, len, &b, true);
}

static int elcr_read(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	struct pic *p = container_of(d, struct pic, elcr);

	if (len != 1)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&p->lock);
	*(u8 *)val = p->chip[addr & 1].elcr;
	pic_unlock(p);
	return 0;
}

static int elcr_write(struct io_device *d, struct kvm_vcpu *v, u64 addr, unsigned len,
		      const void *val)
{
	struct pic *p = container_of(d, struct pic, elcr);
	struct kvm_pic_state *s = &p->chip[addr & 1];

	if (len != 1)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&p->lock);
	s->elcr = *(const u8 *)val & s->elcr_mask;
	update(p);
	pic_unlock(p);
	return 0;
}

/* ---- State and life ---- */

void pic_get(struct kvm *kvm, unsigned chip, struct kvm_pic_state *s)
{
	pthread_mutex_lock(&kvm->pic->lock);
	*s = kvm->pic->chip[chip];
	pic_unlock(kvm->pic);
}

void pic_set(struct kvm *kvm, unsigned chip, const struct kvm_pic_state *s)
{
	struct pic *p = kvm->pic;
	u8 elcr_mask = p->chip[chip].elcr_mask;

	pthread_mutex_lock(&p->lock);
	p->chip[chip] = *s;
	/* Values that index or shift are kept in range. */
	p->chip[chip].priority_add &= 7;
	p->chip[chip].init_state &= 3;
	p->chip[chip].elcr_mask = elcr_mask;
	p->chip[chip].elcr &= elcr_mask;
	update(p);
	p->changed = p->output;
	pic_unlock(p);
}

static const struct {
	u16 port;
	u16 len;
	u8 dev; /* 0 master, 1 slave, 2 elcr */
} pic_ports[] = {
	{0x20, 2, 0},
	{0xa0, 2, 1},
	{0x4d0, 2, 2},
};

/* Off the bus, when creation fails. slots_lock held. */
void pic_unplug(struct kvm *kvm)
{
	io_bus_del(kvm, IO_BUS_PIO, &kvm->pic->master);
	io_bus_del(kvm, IO_BUS_PIO, &kvm->pic->slave);
	io_bus_del(kvm, IO_BUS_PIO, &kvm->pic->elcr);
}

int pic_create(struct kvm *kvm)
{
	struct pic *p = calloc(1, sizeof(*p));
	struct io_device *devs[3];
	int r = 0;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	p->kvm = kvm;
	/* IRQs 0, 1, 2, 8 and 13 are edges for ever. */
	p->chip[0].elcr_mask = 0xf8;
	p->chip[1].elcr_mask = 0xde;
	p->master = (struct io_device){.read = master_read, .write = master_write};
	p->slave = (struct io_device){.read = slave_read, .write = slave_write};
	p->elcr = (struct io_device){.read = elcr_read, .write = elcr_write};
	kvm->pic = p;
	devs[0] = &p->master;
	devs[1] = &p->slave;
	devs[2] = &p->elcr;
	pthread_mutex_lock(&kvm->slots_lock);
	for (unsigned i = 0; i < ARRAY_SIZE(pic_ports) && !r; i++)
		r = io_bus_add(kvm, IO_BUS_PIO, pic_ports[i].port, pic_ports[i].len,
			       devs[pic_ports[i].dev]);
	if (r)
		pic_unplug(kvm);
	pthread_mutex_unlock(&kvm->slots_lock);
	if (r)
		pic_destroy(kvm);
	return r;
}

void pic_destroy(struct kvm *kvm)
{
	struct pic *p = kvm->pic;

	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	kvm->pic = NULL;
	free(p);
}
