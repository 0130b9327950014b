/* SPDX-License-Identifier: MIT */
/*
 * Interrupt messages: who is addressed (SDM vol. 3A, 11.6.2), and the map that answers it quickly.
 *
 * The map is rebuilt by the first sender after something that it depends on has changed. It is only
 * used where it is unambiguous: two APICs with one ID, different logical modes, or shared logical
 * bits are left to a look at every APIC.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/irqchip/lapic.h"
#include "core/vm.h"

#define X2APIC_CLUSTER 16

enum logical_mode { LOGICAL_NONE, LOGICAL_FLAT, LOGICAL_CLUSTER, LOGICAL_X2APIC, LOGICAL_MIXED };

struct apic_map {
	u32 nvcpus;
	u32 max_id;
	bool phys_ok;
	enum logical_mode logical;
	struct kvm_vcpu *flat[8];
	struct kvm_vcpu *cluster[15][4];
	struct kvm_vcpu *phys[]; /* by APIC ID up to max_id */
};

static u32 effective_id(const struct kvm_vcpu *v)
{
	return lapic_is_x2apic(v) ? v->id : lapic_reg(v->apic, APIC_ID) >> 24;
}

static void map_add_phys(struct apic_map *m, u32 id, struct kvm_vcpu *v)
{
	if (m->phys[id] && m->phys[id] != v)
		m->phys_ok = false;
	m->phys[id] = v;
}

static void map_add_logical(struct apic_map *m, struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;
	u32 ldr = lapic_reg(a, APIC_LDR), bits;
	bool flat = lapic_reg(a, APIC_DFR) >> 28 == APIC_DFR_FLAT;
	enum logical_mode mode;
	struct kvm_vcpu **slots;

	if (!lapic_sw_enabled(a) || !ldr)
		return;
	mode = lapic_is_x2apic(v) ? LOGICAL_X2APIC : flat ? LOGICAL_FLAT : LOGICAL_CLUSTER;
	if (m->logical != LOGICAL_NONE && m->logical != mode)
		mode = LOGICAL_MIXED;
	m->logical = mode;
	if (mode == LOGICAL_FLAT) {
		slots = m->flat;
		bits = ldr >> 24;
	} else if (mode == LOGICAL_CLUSTER && ldr >> 28 != 15) {
		slots = m->cluster[ldr >> 28];
		bits = ldr >> 24 & 15;
	} else {
		return; /* x2APIC: the logical ID follows from the physical */
	}
	for (unsigned i = 0; bits; i++, bits >>= 1) {
		if (!(bits & 1))
			continue;
		if (slots[i])
			m->logical = LOGICAL_MIXED;
		slots[i] = v;
	}
}

static struct apic_map *map_build(struct kvm *kvm)
{
	struct kvm_vcpu *v;
	struct apic_map *m;
	u32 n = __atomic_load_n(&kvm->nvcpus, __ATOMIC_ACQUIRE), max_id = 255;

	for (u32 i = 0; i < n; i++)
		max_id = MAX(max_id, kvm->vcpus[i]->id);
	m = calloc(1, sizeof(*m) + ((size_t)max_id + 1) * sizeof(m->phys[0]));
	if (!m)
		return NULL;
	m->nvcpus = n;
	m->max_id = max_id;
	m->phys_ok = true;
	for (u32 i = 0; i < n; i++) {
		v = kvm->vcpus[i];
		if (!lapic_hw_enabled(v))
			continue;
		map_add_phys(m, effective_id(v), v);
		/* An xAPIC whose ID does not fit in eight bits is also found by the whole ID. */
		if (v->id > 255)
			map_add_phys(m, v->id, v);
		map_add_logical(m, v);
	}
	return m;
}

void apic_map_changed(struct kvm *kvm)
{
	__atomic_store_n(&kvm->irq->map_dirty, 1, __ATOMIC_SEQ_CST);
}

static void map_refresh(struct kvm *kvm)
{
	struct vm_irq *irq = kvm->irq;
	struct apic_map *m, *old;

	pthread_mutex_lock(&irq->map_lock);
	old = irq->map;
	if (__atomic_exchange_n(&irq->map_dirty, 0, __ATOMIC_SEQ_CST) || !old ||
	    old->nvcpus != __atomic_load_n(&kvm->nvcpus, __ATOMIC_ACQUIRE)) {
		m = map_build(kvm);
		/* NULL: every sender looks at every APIC until there is memory again. */
		if (!m)
			apic_map_changed(kvm);
		__atomic_store_n(&irq->map, m, __ATOMIC_SEQ_CST);
		grace_wait(&irq->map_grace);
		free(old);
	}
	pthread_mutex_unlock(&irq->map_lock);
}

void apic_map_destroy(struct kvm *kvm)
{
	free(kvm->irq->map);
	kvm->irq->map = NULL;
}

/* ---- Matching ---- */

/*
 * A device's 0xff reaches x2APICs too unless KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK: KVM's users
 * depend on it.
 */
static bool is_broadcast(struct kvm_vcpu *v, struct kvm_vcpu *src, u32 dest)
{
	if (!lapic_is_x2apic(v))
		return dest == APIC_XAPIC_BROADCAST ||
		       (src && dest == APIC_X2APIC_BROADCAST && lapic_is_x2apic(src));
	return dest == APIC_X2APIC_BROADCAST || (dest == APIC_XAPIC_BROADCAST && !src &&
						 !v->kvm->arch->x2apic_broadcast_quirk_disabled);
}

bool apic_msg_matches(struct kvm_vcpu *v, struct kvm_vcpu *src, const struct apic_msg *m)
{
	struct lapic *a = v->apic;
	u32 ldr;

	if (!lapic_hw_enabled(v))
		return false;
	if (is_broadcast(v, src, m->dest))
		return true;
	if (!m->logical)
		return m->dest == effective_id(v) || (v->id > 255 && m->dest == v->id);
	ldr = lapic_reg(a, APIC_LDR);
	if (lapic_is_x2apic(v))
		return ldr >> 16 == m->dest >> 16 && (ldr & m->dest & 0xffff);
	ldr >>= 24;
	if (lapic_reg(a, APIC_DFR) >> 28 == APIC_DFR_FLAT)
		return (ldr & m->dest) != 0;
	return ldr >> 4 == (m->dest & 0xff) >> 4 && (ldr & m->dest & 15);
}

/* ---- Sending ---- */

struct send {
	const struct apic_msg *m;
	bool lowest;
	struct kvm_vcpu *best; /* for lowest priority */
	int result;
};

static void send_to(struct send *s, struct kvm_vcpu *v)
{
	int r;

	if (s->lowest) {
		/* SDM vol. 3A, 11.6.2.4 leaves the choice open: whoever was chosen least often. */
		if (lapic_sw_enabled(v->apic) &&
		    (!s->best || v->apic->arb_prio < s->best->apic->arb_prio))
			s->best = v;
		return;
	}
	r = lapic_accept(v, s->m);
	if (r >= 0)
		s->result = MAX(s->result, 0) + r;
}

static void send_all(struct send *s, struct kvm *kvm, struct kvm_vcpu *src)
{
	struct kvm_vcpu *v;

	kvm_for_each_vcpu(v, kvm)
	{
		if (s->m->shorthand == APIC_SHORTHAND_OTHERS && v == src)
			continue;
		if (s->m->shorthand == APIC_SHORTHAND_NONE ? apic_msg_matches(v, src, s->m)
							   : lapic_hw_enabled(v))
			send_to(s, v);
	}
}

static void send_bits(struct send *s, struct kvm_vcpu *const *slots, u32 bits)
{
	for (; bits; bits &= bits - 1) {
		struct kvm_vcpu *v = slots[__builtin_ctz(bits)];

		if (v)
			send_to(s, v);
	}
}

/* True if the map could tell who is meant. */
static bool send_mapped(struct send *s, const struct apic_map *map)
{
	const struct apic_msg *m = s->m;
	u32 first;

	/* Broadcasts, and what might be one, take the slow way. */
	if (!map || m->dest == APIC_X2APIC_BROADCAST || m->dest == APIC_XAPIC_BROADCAST)
		return false;
	if (!m->logical) {
		if (!map->phys_ok)
			return false;
		if (m->dest <= map->max_id && map->phys[m->dest])
			send_to(s, map->phys[m->dest]);
		return true;
	}
	switch (map->logical) {
	case LOGICAL_FLAT: send_bits(s, map->flat, m->dest & 0xff); return true;
	case LOGICAL_CLUSTER:
		if ((m->dest >> 4 & 15) == 15)
			return false;
		send_bits(s, map->cluster[m->dest >> 4 & 15], m->dest & 15);
		return true;
	case LOGICAL_X2APIC:
		first = (m->dest >> 16) * X2APIC_CLUSTER;
		if (!map->phys_ok || first > map->max_id)
			return map->phys_ok;
		for (u32 bits = m->dest & 0xffff; bits; bits &= bits - 1) {
			u32 id = first + (u32)__builtin_ctz(bits);

			if (id <= map->max_id && map->phys[id] && lapic_is_x2apic(map->phys[id]))
				send_to(s, map->phys[id]);
		}
		return true;
	default: return false;
	}
}

int apic_msg_send(struct kvm *kvm, struct kvm_vcpu *src, const struct apic_msg *m)
{
	struct send s = {.m = m, .result = -1};
	struct vm_irq *irq = kvm->irq;
	const struct apic_map *map;
	unsigned idx;

	s.lowest = m->delivery == APIC_DELIVER_LOWEST ||
		   (m->redir_hint && m->delivery == APIC_DELIVER_FIXED);
	if (m->shorthand == APIC_SHORTHAND_SELF)
		return src->apic ? lapic_accept(src, m) : -1;
	map = __atomic_load_n(&irq->map, __ATOMIC_SEQ_CST);
	if (!map || __atomic_load_n(&irq->map_dirty, __ATOMIC_SEQ_CST))
		map_refresh(kvm);
	idx = grace_enter(&irq->map_grace);
	map = __atomic_load_n(&irq->map, __ATOMIC_SEQ_CST);
	if (map && map->nvcpus != __atomic_load_n(&kvm->nvcpus, __ATOMIC_ACQUIRE)) {
		apic_map_changed(kvm); /* a vCPU has come: the next sender sees to it */
		map = NULL;
	}
	if (m->shorthand || !send_mapped(&s, map))
		send_all(&s, kvm, src);
	grace_leave(&irq->map_grace, idx);
	if (s.best) {
		__atomic_fetch_add(&s.best->apic->arb_prio, 1, __ATOMIC_RELAXED);
		s.result = lapic_accept(s.best, m);
	}
	return s.result;
}

/* The interrupt command register was written (SDM vol. 3A, 11.6.1). */
void lapic_write_icr(struct lapic *a, u32 lo, u32 dest)
{
	struct apic_msg m = {
		.dest = dest,
		.logical = lo & APIC_ICR_LOGICAL,
		.level_trig = lo & APIC_ICR_LEVEL,
		.assert = lo & APIC_ICR_ASSERT,
		.delivery = bits_get(lo, 10, 8),
		.vector = (u8)lo,
		.shorthand = bits_get(lo, 19, 18),
	};

	if (m.delivery <= APIC_DELIVER_LOWEST && m.vector < 16) {
		lapic_error(a, APIC_ESR_SEND_ILLEGAL);
		return;
	}
	/* "The trigger mode and level of IPIs other than INIT are ignored": they are edges. */
	if (m.delivery != APIC_DELIVER_INIT) {
		m.level_trig = false;
		m.assert = true;
	}
	apic_msg_send(a->v->kvm, a->v, &m);
}

/* KVM_HC_SEND_IPI: bit n of the bitmap is APIC ID @min + n. */
long lapic_pv_send_ipi(struct kvm *kvm, u64 bitmap_lo, u64 bitmap_hi, u32 min, u64 icr, bool mode64)
{
	struct apic_msg m = {
		.assert = true,
		.delivery = bits_get(icr, 10, 8),
		.vector = (u8)icr,
	};
	u64 bitmap[2] = {bitmap_lo, bitmap_hi};
	unsigned width = mode64 ? 64 : 32;
	long count = 0;

	if (icr & (BIT(11) | BITS(19, 18)) || min > ~0u - 128)
		return -EINVAL;
	for (unsigned w = 0; w < 2; w++, min += width) {
		for (u64 b = mask_size(bitmap[w], width / 8); b; b &= b - 1) {
			m.dest = min + (u32)__builtin_ctzll(b);
			count += apic_msg_send(kvm, NULL, &m) > 0;
		}
	}
	return count;
}
