/* SPDX-License-Identifier: MIT */
/* Local APIC: life, IA32_APIC_BASE, priorities, acceptance of messages (SDM vol. 3A, chapter 11).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/irqchip/lapic.h"
#include "core/vcpu.h"

int lapic_create(struct kvm_vcpu *v)
{
	struct lapic *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->regs = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!a->regs) {
		free(a);
		return -ENOMEM;
	}
	memset(a->regs, 0, PAGE_SIZE);
	a->v = v;
	a->divide = 2;
	lapic_timer_init(a);
	v->apic = a;
	lapic_reset(v, false);
	return 0;
}

void lapic_destroy(struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;

	if (!a)
		return;
	ktimer_cancel_sync(&a->timer);
	pthread_mutex_destroy(&a->timer_lock);
	v->apic = NULL;
	free(a->regs);
	free(a);
}

/* The xAPIC's ID register holds eight bits of the ID; the x2APIC's all, and fixes the LDR. */
static void set_id(struct lapic *a)
{
	if (lapic_is_x2apic(a->v)) {
		lapic_set_reg(a, APIC_ID, a->v->id);
		lapic_set_reg(a, APIC_LDR, x2apic_ldr(a->v->id));
	} else {
		lapic_set_reg(a, APIC_ID, a->v->id << 24);
	}
	apic_map_changed(a->v->kvm);
}

static bool is_bsp(const struct kvm_vcpu *v)
{
	return v->id == v->kvm->bsp_id;
}

/* SDM vol. 3A, 11.4.7.1 and 11.4.7.3: INIT keeps IA32_APIC_BASE and the ID. */
void lapic_reset(struct kvm_vcpu *v, bool init)
{
	struct lapic *a = v->apic;
	static const u16 lvts[APIC_NR_LVT] = {APIC_LVTT, APIC_LVTTHMR, APIC_LVTPC,
					      APIC_LVT0, APIC_LVT1,    APIC_LVTERR};

	if (!init) {
		v->apic_base = APIC_BASE_DEFAULT | APIC_BASE_EN | (is_bsp(v) ? APIC_BASE_BSP : 0);
		if (!v->apic_base_reserved)
			lapic_after_set_cpuid(v, false, false, 36);
	}
	v->user_cr8 = 0;
	v->user_irq = 0;
	if (!a)
		return;
	lapic_timer_reset(a);
	if (!init)
		set_id(a);
	lapic_set_version(a);
	for (unsigned i = 0; i < APIC_NR_LVT; i++)
		lapic_set_reg(a, lvts[i], APIC_LVT_MASKED);
	if (a->cmci)
		lapic_set_reg(a, APIC_LVTCMCI, APIC_LVT_MASKED);
	/* Firmware of old expects the PIC to get through without programming LINT0: KVM's quirk. */
	if (is_bsp(v) && !(v->kvm->arch->disabled_quirks & KVM_X86_QUIRK_LINT0_REENABLED))
		lapic_set_reg(a, APIC_LVT0, APIC_DELIVER_EXTINT << 8);
	lapic_timer_lvtt_changed(a);
	lapic_set_reg(a, APIC_DFR, 0xffffffff);
	lapic_set_spiv(a, 0xff);
	lapic_set_reg(a, APIC_TASKPRI, 0);
	lapic_vapic_reset(v);
	if (!lapic_is_x2apic(v))
		lapic_set_reg(a, APIC_LDR, 0);
	lapic_set_reg(a, APIC_ESR, 0);
	lapic_set_reg(a, APIC_ICR, 0);
	lapic_set_reg(a, APIC_ICR2, 0);
	lapic_set_reg(a, APIC_TDCR, 0);
	lapic_timer_write_tdcr(a, 0);
	lapic_set_reg(a, APIC_TMICT, 0);
	for (unsigned i = 0; i < 8; i++) {
		lapic_set_reg(a, APIC_IRR + i * 16, 0);
		lapic_set_reg(a, APIC_ISR + i * 16, 0);
		lapic_set_reg(a, APIC_TMR + i * 16, 0);
	}
	__atomic_store_n(&a->irr_pending, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->esr_pending, 0, __ATOMIC_RELAXED);
	a->isr_count = 0;
	lapic_set_reg(a, APIC_PROCPRI, 0);
	a->arb_prio = 0;
	if (!init)
		__atomic_store_n(&a->events, 0, __ATOMIC_RELEASE);
	apic_map_changed(v->kvm);
}

/* ---- IA32_APIC_BASE ---- */

void lapic_after_set_cpuid(struct kvm_vcpu *v, bool x2apic, bool tsc_deadline, unsigned maxphyaddr)
{
	u64 reserved = BITS(7, 0) | BIT(9) | (x2apic ? 0 : APIC_BASE_EXTD);

	if (maxphyaddr < 64)
		reserved |= ~0ull << maxphyaddr;
	v->apic_base_reserved = reserved;
	if (v->apic) {
		v->apic->tsc_deadline_ok = tsc_deadline;
		lapic_set_version(v->apic);
	}
}

void lapic_set_cmci(struct kvm_vcpu *v, bool cmci)
{
	if (!v->apic || v->apic->cmci == cmci)
		return;
	v->apic->cmci = cmci;
	lapic_set_version(v->apic);
	lapic_set_reg(v->apic, APIC_LVTCMCI, cmci ? APIC_LVT_MASKED : 0);
}

u64 lapic_get_base(struct kvm_vcpu *v)
{
	return v->apic_base;
}

/* Transitions: SDM vol. 3A, 11.12.5 and figure 11-27. */
int lapic_set_base(struct kvm_vcpu *v, u64 val, bool host)
{
	u64 old = v->apic_base, mode = val & (APIC_BASE_EN | APIC_BASE_EXTD);
	u64 old_mode = old & (APIC_BASE_EN | APIC_BASE_EXTD);

	if (val & v->apic_base_reserved || mode == APIC_BASE_EXTD)
		return -EINVAL;
	if (!host) {
		if (old_mode == (APIC_BASE_EN | APIC_BASE_EXTD) && mode == APIC_BASE_EN)
			return -EINVAL;
		if (!old_mode && mode == (APIC_BASE_EN | APIC_BASE_EXTD))
			return -EINVAL;
	}
	__atomic_store_n(&v->apic_base, val, __ATOMIC_RELAXED);
	if (v->apic && mode != old_mode) {
		if (mode)
			set_id(v->apic);
		apic_map_changed(v->kvm);
		kvm_make_request(v, REQ_EVENT);
	}
	return 0;
}

bool lapic_enabled(struct kvm_vcpu *v)
{
	return lapic_hw_enabled(v);
}

bool lapic_x2apic_mode(struct kvm_vcpu *v)
{
	return v->apic && lapic_is_x2apic(v);
}

/* ---- Priorities (SDM vol. 3A, 11.8.3) ---- */

static int find_highest(const struct lapic *a, unsigned base)
{
	for (int i = 7; i >= 0; i--) {
		u32 w = lapic_reg(a, base + (unsigned)i * 16);

		if (w)
			return i * 32 + 31 - __builtin_clz(w);
	}
	return -1;
}

static int highest_irr(const struct lapic *a)
{
	if (!__atomic_load_n(&a->irr_pending, __ATOMIC_ACQUIRE))
		return -1;
	return find_highest(a, APIC_IRR);
}

static u32 update_ppr(struct lapic *a)
{
	int isr = a->isr_count ? find_highest(a, APIC_ISR) : -1;
	u32 tpr = lapic_reg(a, APIC_TASKPRI) & 0xff, ppr;
	u32 isr_class = isr < 0 ? 0 : (u32)isr & 0xf0;

	ppr = (tpr & 0xf0) >= isr_class ? tpr : isr_class;
	lapic_set_reg(a, APIC_PROCPRI, ppr);
	return ppr;
}

int lapic_find_highest_irr(struct kvm_vcpu *v)
{
	return v->apic ? highest_irr(v->apic) : -1;
}

int lapic_has_interrupt(struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;
	int irr;

	if (!lapic_hw_enabled(v))
		return -1;
	irr = highest_irr(a);
	if (irr < 0 || ((u32)irr & 0xf0) <= (update_ppr(a) & 0xf0))
		return -1;
	return irr;
}

static void clear_irr(struct lapic *a, u8 vec)
{
	__atomic_fetch_and(lapic_vec_ptr(a, APIC_IRR, vec), ~lapic_vec_bit(vec), __ATOMIC_SEQ_CST);
	/* A setter writes its bit before irr_pending, so either the search sees the bit or the
	 * setter's store comes after ours. */
	__atomic_store_n(&a->irr_pending, 0, __ATOMIC_SEQ_CST);
	if (find_highest(a, APIC_IRR) >= 0)
		__atomic_store_n(&a->irr_pending, 1, __ATOMIC_SEQ_CST);
}

int lapic_get_interrupt(struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;
	int vec = lapic_has_interrupt(v);
	u32 *isr;

	if (vec < 0)
		return -1;
	clear_irr(a, (u8)vec);
	isr = lapic_vec_ptr(a, APIC_ISR, (u8)vec);
	DEBUG_BUG_ON(*isr & lapic_vec_bit((u8)vec));
	*isr |= lapic_vec_bit((u8)vec);
	a->isr_count++;
	update_ppr(a);
	return vec;
}

void lapic_clear_irr(struct kvm_vcpu *v, u8 vector)
{
	clear_irr(v->apic, vector);
}

int lapic_highest_isr(const struct lapic *a)
{
	return a->isr_count ? find_highest(a, APIC_ISR) : -1;
}

/* SDM vol. 3A, 11.8.5. */
void lapic_do_eoi(struct lapic *a)
{
	int vec = lapic_highest_isr(a);
	bool level;

	if (vec < 0)
		return;
	*lapic_vec_ptr(a, APIC_ISR, (u8)vec) &= ~lapic_vec_bit((u8)vec);
	a->isr_count--;
	update_ppr(a);
	level = lapic_test_vec(a, APIC_TMR, (u8)vec);
	if (!(level && lapic_reg(a, APIC_SPIV) & APIC_SPIV_DIRECTED_EOI))
		irqchip_eoi(a->v, (u8)vec, level);
	kvm_make_request(a->v, REQ_EVENT);
}

u64 lapic_get_cr8(struct kvm_vcpu *v)
{
	return v->apic ? lapic_reg(v->apic, APIC_TASKPRI) >> 4 & 0xf : v->user_cr8;
}

void lapic_set_cr8(struct kvm_vcpu *v, u64 tpr)
{
	if (!v->apic) {
		v->user_cr8 = tpr & 0xf;
		return;
	}
	/* Not by lapic_reg_write: the register is there in every mode. */
	lapic_set_tpr(v->apic, (u32)(tpr & 0xf) << 4);
}

/* ---- Acceptance ---- */

bool lapic_set_irr(struct lapic *a, u8 vec, bool level)
{
	u32 *tmr = lapic_vec_ptr(a, APIC_TMR, vec), bit = lapic_vec_bit(vec), old;

	if (lapic_test_vec(a, APIC_TMR, vec) != level) {
		if (level)
			__atomic_fetch_or(tmr, bit, __ATOMIC_RELAXED);
		else
			__atomic_fetch_and(tmr, ~bit, __ATOMIC_RELAXED);
	}
	old = __atomic_fetch_or(lapic_vec_ptr(a, APIC_IRR, vec), bit, __ATOMIC_SEQ_CST);
	__atomic_store_n(&a->irr_pending, 1, __ATOMIC_SEQ_CST);
	if (old & bit)
		return false;
	kvm_make_request(a->v, REQ_EVENT);
	kvm_vcpu_kick(a->v);
	return true;
}

/* SDM vol. 3A, 11.5.3: the bit shows after software's next write to ESR; the error interrupt comes
 * at once. */
void lapic_error(struct lapic *a, u32 esr_bit)
{
	u32 lvt = lapic_reg(a, APIC_LVTERR);

	__atomic_fetch_or(&a->esr_pending, esr_bit, __ATOMIC_RELAXED);
	if (!(lvt & APIC_LVT_MASKED) && (u8)lvt >= 16)
		lapic_set_irr(a, (u8)lvt, false);
}

static void raise_request(struct kvm_vcpu *v, enum kvm_request r)
{
	kvm_make_request(v, r);
	kvm_make_request(v, REQ_EVENT);
	kvm_vcpu_kick(v);
}

int lapic_accept(struct kvm_vcpu *v, const struct apic_msg *m)
{
	struct lapic *a = v->apic;

	switch (m->delivery) {
	case APIC_DELIVER_FIXED:
	case APIC_DELIVER_LOWEST:
		if ((m->level_trig && !m->assert) || !lapic_sw_enabled(a))
			return -1;
		if (m->vector < 16) {
			lapic_error(a, APIC_ESR_RECV_ILLEGAL);
			return -1;
		}
		return lapic_set_irr(a, m->vector, m->level_trig);
	case APIC_DELIVER_SMI: raise_request(v, REQ_SMI); return 1;
	case APIC_DELIVER_NMI: kvm_inject_nmi(v); return 1;
	case APIC_DELIVER_INIT:
		/* The de-assert message only synchronized arbitration IDs of old processors. */
		if (m->level_trig && !m->assert)
			return -1;
		/* A start-up IPI from before the INIT is forgotten. */
		__atomic_store_n(&a->events, LAPIC_INIT, __ATOMIC_RELEASE);
		raise_request(v, REQ_EVENT);
		return 1;
	case APIC_DELIVER_SIPI:
		__atomic_store_n(&a->sipi_vector, m->vector, __ATOMIC_RELAXED);
		__atomic_fetch_or(&a->events, LAPIC_SIPI, __ATOMIC_RELEASE);
		raise_request(v, REQ_EVENT);
		return 1;
	default: /* ExtINT comes by LINT0 only; the rest is reserved */ return -1;
	}
}

unsigned lapic_take_init_sipi(struct kvm_vcpu *v, u8 *sipi_vector)
{
	unsigned e;

	if (!v->apic)
		return 0;
	e = __atomic_exchange_n(&v->apic->events, 0, __ATOMIC_ACQ_REL);
	*sipi_vector = v->apic->sipi_vector;
	return e;
}

bool lapic_has_init_sipi(struct kvm_vcpu *v)
{
	return v->apic && __atomic_load_n(&v->apic->events, __ATOMIC_ACQUIRE);
}

bool lapic_init_latched(struct kvm_vcpu *v)
{
	return v->apic && __atomic_load_n(&v->apic->events, __ATOMIC_ACQUIRE) & LAPIC_INIT;
}

void lapic_set_init_latched(struct kvm_vcpu *v, bool latched)
{
	if (!v->apic)
		return;
	if (latched)
		__atomic_fetch_or(&v->apic->events, LAPIC_INIT, __ATOMIC_RELEASE);
	else
		__atomic_fetch_and(&v->apic->events, ~LAPIC_INIT, __ATOMIC_RELEASE);
}

u8 lapic_sipi_vector(struct kvm_vcpu *v)
{
	return v->apic ? v->apic->sipi_vector : 0;
}

void lapic_set_sipi_vector(struct kvm_vcpu *v, u8 vector)
{
	if (v->apic)
		v->apic->sipi_vector = vector;
}

bool lapic_accepts_pic(struct kvm_vcpu *v)
{
	u32 lvt0;

	if (!v->apic || !(lapic_base(v) & APIC_BASE_EN))
		return true;
	lvt0 = lapic_reg(v->apic, APIC_LVT0);
	return !(lvt0 & APIC_LVT_MASKED) && (lvt0 & APIC_LVT_DELIVERY) >> 8 == APIC_DELIVER_EXTINT;
}

void lapic_local_deliver(struct kvm_vcpu *v, unsigned lvt)
{
	struct apic_msg m = {.assert = true};
	u32 val;

	if (!lapic_hw_enabled(v))
		return;
	val = lapic_reg(v->apic, lvt);
	if (val & APIC_LVT_MASKED)
		return;
	m.delivery = (val & APIC_LVT_DELIVERY) >> 8;
	m.vector = (u8)val;
	m.level_trig = (lvt == APIC_LVT0 || lvt == APIC_LVT1) && val & BIT(15);
	/* SDM vol. 3A, 11.5.1: a counter overflow masks its entry. */
	if (lapic_accept(v, &m) > 0 && lvt == APIC_LVTPC)
		lapic_set_reg(v->apic, lvt, val | APIC_LVT_MASKED);
}
