/* SPDX-License-Identifier: MIT */
/*
 * The state of a local APIC, private to lapic*.c.
 *
 * The register page belongs to the vCPU's thread, with these exceptions: any thread sets bits in
 * IRR and TMR (atomically, TMR first), then irr_pending, requests REQ_EVENT and kicks; any thread
 * reads ID, LDR, DFR, SPIV, TPR and the LVTs to decide about delivery. The timer is under
 * timer_lock.
 */
#ifndef CORE_IRQCHIP_LAPIC_H
#define CORE_IRQCHIP_LAPIC_H

#include <pthread.h>

#include "core/irqchip/irq_private.h"
#include "core/irqchip/lapic_reg.h"
#include "core/service.h"

#define APIC_NR_LVT 6

struct lapic {
	u8 *regs; /* a page; layout of KVM_GET_LAPIC */
	struct kvm_vcpu *v;

	u32 irr_pending; /* 0: IRR is empty; atomic */
	u32 isr_count;	 /* bits in ISR; vCPU thread */
	u32 arb_prio;	 /* times chosen for lowest-priority delivery; atomic */

	u32 events; /* LAPIC_INIT, LAPIC_SIPI; atomic */
	u8 sipi_vector;
	u32 esr_pending; /* errors since the last write to ESR; atomic */

	bool tsc_deadline_ok; /* CPUID offers it */
	bool cmci;	      /* MCG_CAP offers it: there is an LVT for it */

	pthread_mutex_t timer_lock;
	struct ktimer timer;
	enum apic_timer_mode timer_mode;
	u32 divide;
	u64 period_ns;	  /* initial count in ns; 0: stopped */
	u64 expires_ns;	  /* ~0: not running; written under timer_lock, read atomically */
	u64 tsc_deadline; /* guest TSC; 0: not armed */
};

static inline u32 *lapic_reg_ptr(const struct lapic *a, unsigned off)
{
	return (u32 *)(a->regs + off);
}

static inline u32 lapic_reg(const struct lapic *a, unsigned off)
{
	return __atomic_load_n(lapic_reg_ptr(a, off), __ATOMIC_RELAXED);
}

static inline void lapic_set_reg(struct lapic *a, unsigned off, u32 val)
{
	__atomic_store_n(lapic_reg_ptr(a, off), val, __ATOMIC_RELAXED);
}

/* Vector @vec's bit in the 256-bit register at @base: 32 bits every 16 bytes. */
static inline u32 *lapic_vec_ptr(const struct lapic *a, unsigned base, u8 vec)
{
	return lapic_reg_ptr(a, base + (unsigned)(vec >> 5) * 16);
}

static inline u32 lapic_vec_bit(u8 vec)
{
	return 1u << (vec & 31);
}

static inline bool lapic_test_vec(const struct lapic *a, unsigned base, u8 vec)
{
	return __atomic_load_n(lapic_vec_ptr(a, base, vec), __ATOMIC_RELAXED) & lapic_vec_bit(vec);
}

static inline u64 lapic_base(const struct kvm_vcpu *v)
{
	return __atomic_load_n(&v->apic_base, __ATOMIC_RELAXED);
}

static inline bool lapic_is_x2apic(const struct kvm_vcpu *v)
{
	return (lapic_base(v) & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

static inline bool lapic_hw_enabled(const struct kvm_vcpu *v)
{
	return v->apic && lapic_base(v) & APIC_BASE_EN;
}

static inline bool lapic_sw_enabled(const struct lapic *a)
{
	return lapic_reg(a, APIC_SPIV) & APIC_SPIV_ENABLED;
}

/* The logical ID of an x2APIC: SDM vol. 3A, 11.12.10.2. */
static inline u32 x2apic_ldr(u32 id)
{
	return (id >> 4) << 16 | 1u << (id & 15);
}

void lapic_error(struct lapic *a, u32 esr_bit);
/* Raises a fixed interrupt. True if the vector was not pending yet. Any thread. */
bool lapic_set_irr(struct lapic *a, u8 vec, bool level);
void lapic_write_icr(struct lapic *a, u32 lo, u32 dest);

/* lapic_regs.c: access to the register page. 0 or -EINVAL. */
int lapic_reg_read(struct lapic *a, unsigned off, u32 *val);
int lapic_reg_write(struct lapic *a, unsigned off, u32 val);
void lapic_set_spiv(struct lapic *a, u32 val);
void lapic_set_version(struct lapic *a);
void lapic_do_eoi(struct lapic *a);
/* The vector in service, -1 if none. */
int lapic_highest_isr(const struct lapic *a);

/* The task priority is @val; events are looked at again if it has become lower. */
void lapic_set_tpr(struct lapic *a, u32 val);
/* lapic_vapic.c */
void lapic_report_tpr_access(struct kvm_vcpu *v, bool write);
void lapic_vapic_reset(struct kvm_vcpu *v);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *a);
void lapic_timer_reset(struct lapic *a);
u32 lapic_timer_count(struct lapic *a);
void lapic_timer_write_tmict(struct lapic *a, u32 val);
void lapic_timer_write_tdcr(struct lapic *a, u32 val);
void lapic_timer_lvtt_changed(struct lapic *a);
/* From the restored page: TMICT, TMCCT (@count), LVTT, TDCR. */
void lapic_timer_restore(struct lapic *a, u32 count);
u64 lapic_timer_read_deadline(struct lapic *a);
void lapic_timer_write_deadline(struct lapic *a, u64 tsc);

#endif
