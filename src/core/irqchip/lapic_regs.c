/* SPDX-License-Identifier: MIT */
/* Local APIC: the register page as memory, as MSRs, and as KVM_GET/SET_LAPIC show it. */
#include <errno.h>
#include <string.h>

#include "core/irqchip/lapic.h"
#include "core/vm.h"
#include "spec/msr.h"

#define MSR_X2APIC_FIRST 0x800u
#define MSR_X2APIC_LAST	 0x8ffu

enum { XR = 1, XW = 2, MR = 4, MW = 8 };

struct lapic_reg_desc {
	u8 access;
	int (*write)(struct lapic *a, unsigned off, u32 val);
};

/* ---- One function for each kind of register ---- */

static int write_id(struct lapic *a, unsigned off, u32 val)
{
	lapic_set_reg(a, APIC_ID, val & 0xff000000);
	apic_map_changed(a->v->kvm);
	return 0;
}

void lapic_set_tpr(struct lapic *a, u32 val)
{
	u32 old = lapic_reg(a, APIC_TASKPRI);

	lapic_set_reg(a, APIC_TASKPRI, val & 0xff);
	if ((val & 0xff) < old)
		kvm_make_request(a->v, REQ_EVENT);
}

static int write_tpr(struct lapic *a, unsigned off, u32 val)
{
	lapic_report_tpr_access(a->v, true);
	lapic_set_tpr(a, val);
	return 0;
}

static int write_eoi(struct lapic *a, unsigned off, u32 val)
{
	/* SDM vol. 3A, 11.12.1.2: the MSR takes zero only. */
	if (val && lapic_is_x2apic(a->v))
		return -EINVAL;
	lapic_do_eoi(a);
	return 0;
}

static int write_ldr(struct lapic *a, unsigned off, u32 val)
{
	lapic_set_reg(a, APIC_LDR, val & 0xff000000);
	apic_map_changed(a->v->kvm);
	return 0;
}

static int write_dfr(struct lapic *a, unsigned off, u32 val)
{
	lapic_set_reg(a, APIC_DFR, val | 0x0fffffff);
	apic_map_changed(a->v->kvm);
	return 0;
}

void lapic_set_spiv(struct lapic *a, u32 val)
{
	u32 old = lapic_reg(a, APIC_SPIV);

	lapic_set_reg(a, APIC_SPIV, val);
	if ((old ^ val) & APIC_SPIV_ENABLED) {
		apic_map_changed(a->v->kvm);
		kvm_make_request(a->v, REQ_EVENT);
		/* Pages that the guest could not be told of. */
		if (val & APIC_SPIV_ENABLED)
			kvm_make_request(a->v, REQ_APF_READY);
	}
}

static int write_spiv(struct lapic *a, unsigned off, u32 val)
{
	u32 mask = 0x3ff;

	if (lapic_reg(a, APIC_LVR) & APIC_LVR_DIRECTED_EOI)
		mask |= APIC_SPIV_DIRECTED_EOI;
	lapic_set_spiv(a, val & mask);
	/* SDM vol. 3A, 11.4.7.2: all entries are masked while the APIC is disabled by software. */
	if (!(val & APIC_SPIV_ENABLED)) {
		for (unsigned lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 16)
			lapic_set_reg(a, lvt, lapic_reg(a, lvt) | APIC_LVT_MASKED);
		if (a->cmci)
			lapic_set_reg(a, APIC_LVTCMCI,
				      lapic_reg(a, APIC_LVTCMCI) | APIC_LVT_MASKED);
	}
	return 0;
}

/* SDM vol. 3A, 11.5.3: the write latches what has happened since the one before. */
static int write_esr(struct lapic *a, unsigned off, u32 val)
{
	if (val && lapic_is_x2apic(a->v))
		return -EINVAL;
	lapic_set_reg(a, APIC_ESR, __atomic_exchange_n(&a->esr_pending, 0, __ATOMIC_RELAXED));
	return 0;
}

static int write_icr(struct lapic *a, unsigned off, u32 val)
{
	val &= ~APIC_ICR_BUSY;
	lapic_set_reg(a, APIC_ICR, val);
	lapic_write_icr(a, val, lapic_reg(a, APIC_ICR2) >> 24);
	return 0;
}

static int write_icr2(struct lapic *a, unsigned off, u32 val)
{
	lapic_set_reg(a, APIC_ICR2, val & 0xff000000);
	return 0;
}

static u32 lvt_mask(const struct lapic *a, unsigned off)
{
	u32 m = APIC_LVT_MASKED | BIT(12) | 0xff;

	switch (off) {
	case APIC_LVTT: return m | BIT(17) | (a->tsc_deadline_ok ? BIT(18) : 0);
	case APIC_LVTERR: return m;
	case APIC_LVT0:
	case APIC_LVT1: /* delivery mode, polarity, remote IRR, trigger */
		return m | APIC_LVT_DELIVERY | BITS(15, 13);
	default: return m | APIC_LVT_DELIVERY;
	}
}

static int write_lvt(struct lapic *a, unsigned off, u32 val)
{
	if (!lapic_sw_enabled(a))
		val |= APIC_LVT_MASKED;
	lapic_set_reg(a, off, val & lvt_mask(a, off));
	if (off == APIC_LVTT)
		lapic_timer_lvtt_changed(a);
	/* The PIC's line may get through now. */
	if (off == APIC_LVT0)
		kvm_make_request(a->v, REQ_EVENT);
	return 0;
}

static int write_tmict(struct lapic *a, unsigned off, u32 val)
{
	lapic_timer_write_tmict(a, val);
	return 0;
}

static int write_tdcr(struct lapic *a, unsigned off, u32 val)
{
	lapic_timer_write_tdcr(a, val & 0xb);
	return 0;
}

static int write_self_ipi(struct lapic *a, unsigned off, u32 val)
{
	if (val & ~0xffu)
		return -EINVAL;
	lapic_write_icr(a, val | APIC_SHORTHAND_SELF << 18, 0);
	return 0;
}

static const struct lapic_reg_desc reg_desc[KVM_APIC_REG_SIZE / 16] = {
#define LAPIC_REG(off, acc, fn) [(off) / 16] = {acc, fn},
#include "core/irqchip/lapic_reg.def"
};

/* ---- Access ---- */

static unsigned reg_access(const struct lapic *a, unsigned off)
{
	if (off >= KVM_APIC_REG_SIZE || (off == APIC_LVTCMCI && !a->cmci))
		return 0;
	return reg_desc[off / 16].access;
}

int lapic_reg_read(struct lapic *a, unsigned off, u32 *val)
{
	if (!(reg_access(a, off) & (lapic_is_x2apic(a->v) ? MR : XR)))
		return -EINVAL;
	if (off == APIC_PROCPRI)
		lapic_has_interrupt(a->v); /* brings it up to date */
	if (off == APIC_TASKPRI)
		lapic_report_tpr_access(a->v, false);
	*val = off == APIC_TMCCT ? lapic_timer_count(a) : lapic_reg(a, off);
	return 0;
}

int lapic_reg_write(struct lapic *a, unsigned off, u32 val)
{
	if (!(reg_access(a, off) & (lapic_is_x2apic(a->v) ? MW : XW)))
		return -EINVAL;
	return reg_desc[off / 16].write(a, off, val);
}

/*
 * An APIC that is disabled or in x2APIC mode does not answer memory accesses. KVM's default quirk
 * lets them end in nothing rather than in user space.
 */
static int mmio_hole(struct kvm_vcpu *v)
{
	return v->kvm->arch->disabled_quirks & KVM_X86_QUIRK_LAPIC_MMIO_HOLE ? -EOPNOTSUPP : 0;
}

static bool in_page(const struct kvm_vcpu *v, u64 addr)
{
	return v->apic && (addr & PAGE_MASK) == (v->apic_base & BITS(51, 12));
}

int lapic_mmio_read(struct kvm_vcpu *v, u64 addr, unsigned len, void *val)
{
	unsigned off = addr & 0xfff, sub = off & 0xf;
	u32 reg = 0;

	if (!in_page(v, addr))
		return -EOPNOTSUPP;
	if (!lapic_hw_enabled(v) || lapic_is_x2apic(v)) {
		memset(val, 0xff, len);
		return mmio_hole(v);
	}
	/* SDM vol. 3A, 11.4.1: only the low four of 16 bytes are defined. */
	memset(val, 0, len);
	if (sub + len > 4)
		return 0;
	if (lapic_reg_read(v->apic, off & ~0xfu, &reg)) {
		lapic_error(v->apic, APIC_ESR_ILLEGAL_REGISTER);
		return 0;
	}
	memcpy(val, (u8 *)&reg + sub, len);
	return 0;
}

int lapic_mmio_write(struct kvm_vcpu *v, u64 addr, unsigned len, const void *val)
{
	unsigned off = addr & 0xfff;
	u32 reg;

	if (!in_page(v, addr))
		return -EOPNOTSUPP;
	if (!lapic_hw_enabled(v) || lapic_is_x2apic(v))
		return mmio_hole(v);
	/* Software must write aligned doublewords; KVM drops the rest. */
	if (len != 4 || off & 0xf)
		return 0;
	memcpy(&reg, val, 4);
	/* Read-only registers drop writes without a sign (their rows have XR). */
	if (lapic_reg_write(v->apic, off, reg) && !reg_access(v->apic, off))
		lapic_error(v->apic, APIC_ESR_ILLEGAL_REGISTER);
	return 0;
}

int lapic_msr_read(struct kvm_vcpu *v, u32 index, u64 *val)
{
	struct lapic *a = v->apic;
	u32 lo, off = (index - MSR_X2APIC_FIRST) * 16;

	if (index == MSR_IA32_TSC_DEADLINE) {
		*val = a ? lapic_timer_read_deadline(a) : 0;
		return 0;
	}
	if (!a || !lapic_is_x2apic(v) || index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST)
		return -EINVAL;
	if (lapic_reg_read(a, off, &lo))
		return -EINVAL;
	*val = lo;
	if (off == APIC_ICR)
		*val |= (u64)lapic_reg(a, APIC_ICR2) << 32;
	return 0;
}

int lapic_msr_write(struct kvm_vcpu *v, u32 index, u64 val)
{
	struct lapic *a = v->apic;
	u32 off = (index - MSR_X2APIC_FIRST) * 16;

	if (index == MSR_IA32_TSC_DEADLINE) {
		if (a)
			lapic_timer_write_deadline(a, val);
		return 0;
	}
	if (!a || !lapic_is_x2apic(v) || index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST)
		return -EINVAL;
	if (off == APIC_ICR) {
		/* SDM vol. 3A, figure 11-28. The old busy bit is ignored. */
		if (val & (BITS(31, 20) | BITS(17, 16) | BIT(13)))
			return -EINVAL;
		val &= ~APIC_ICR_BUSY;
		lapic_set_reg(a, APIC_ICR, (u32)val);
		lapic_set_reg(a, APIC_ICR2, (u32)(val >> 32));
		lapic_write_icr(a, (u32)val, (u32)(val >> 32));
		return 0;
	}
	if (val >> 32)
		return -EINVAL;
	return lapic_reg_write(a, off, (u32)val);
}

int lapic_hv_read(struct kvm_vcpu *v, unsigned off, u64 *val)
{
	u32 lo;

	if (!v->apic || lapic_reg_read(v->apic, off, &lo))
		return -EINVAL;
	*val = lo;
	if (off == APIC_ICR)
		*val |= (u64)lapic_reg(v->apic, APIC_ICR2) << 32;
	return 0;
}

int lapic_hv_write(struct kvm_vcpu *v, unsigned off, u64 val)
{
	if (!v->apic)
		return -EINVAL;
	if (off == APIC_ICR && lapic_is_x2apic(v))
		return lapic_msr_write(v, MSR_X2APIC_FIRST + APIC_ICR / 16, val);
	if (off == APIC_ICR && lapic_reg_write(v->apic, APIC_ICR2, (u32)(val >> 32)))
		return -EINVAL;
	/* x2APIC mode wants 0 for an EOI, guests of Hyper-V write what they like. */
	return lapic_reg_write(v->apic, off, off == APIC_EOI ? 0 : (u32)val);
}

/* Bit 24 tells of EOI-broadcast suppression: KVM's IOAPIC has no EOI register to go with it, so
 * only user space's may. */
void lapic_set_version(struct lapic *a)
{
	u32 v = APIC_VERSION_82489 | (APIC_NR_LVT - 1 + a->cmci) << 16;

	if (!(a->v->apic_base_reserved & APIC_BASE_EXTD) && !a->v->kvm->irqchip_kernel)
		v |= APIC_LVR_DIRECTED_EOI;
	lapic_set_reg(a, APIC_LVR, v);
}

/* ---- KVM_GET_LAPIC, KVM_SET_LAPIC ---- */

static u32 state_reg(const struct kvm_lapic_state *s, unsigned off)
{
	u32 val;

	memcpy(&val, s->regs + off, 4);
	return val;
}

static void state_set_reg(struct kvm_lapic_state *s, unsigned off, u32 val)
{
	memcpy(s->regs + off, &val, 4);
}

int lapic_get_state(struct kvm_vcpu *v, struct kvm_lapic_state *s)
{
	struct lapic *a = v->apic;

	if (!a)
		return -EINVAL;
	lapic_has_interrupt(v); /* brings the PPR up to date */
	for (unsigned off = 0; off < KVM_APIC_REG_SIZE; off += 4)
		state_set_reg(s, off, lapic_reg(a, off));
	state_set_reg(s, APIC_TMCCT, lapic_timer_count(a));
	/* Without KVM_X2APIC_API_USE_32BIT_IDS the ID has the xAPIC's place. */
	if (lapic_is_x2apic(v) && !v->kvm->arch->x2apic_format)
		state_set_reg(s, APIC_ID, v->id << 24);
	return 0;
}

int lapic_set_state(struct kvm_vcpu *v, const struct kvm_lapic_state *s)
{
	struct lapic *a = v->apic;

	if (!a)
		return -EINVAL;
	if (lapic_is_x2apic(v) && v->kvm->arch->x2apic_format && state_reg(s, APIC_ID) != v->id)
		return -EINVAL;
	for (unsigned off = 0; off < KVM_APIC_REG_SIZE; off += 4)
		lapic_set_reg(a, off, state_reg(s, off));
	if (lapic_is_x2apic(v)) {
		lapic_set_reg(a, APIC_ID, v->id);
		lapic_set_reg(a, APIC_LDR, x2apic_ldr(v->id));
	}
	lapic_set_version(a);
	a->isr_count = 0;
	for (unsigned i = 0; i < 8; i++)
		a->isr_count += (u32)__builtin_popcount(lapic_reg(a, APIC_ISR + i * 16));
	__atomic_store_n(&a->irr_pending, 1, __ATOMIC_SEQ_CST);
	a->arb_prio = 0;
	lapic_timer_restore(a, state_reg(s, APIC_TMCCT));
	lapic_set_reg(a, APIC_TMCCT, 0);
	apic_map_changed(v->kvm);
	lapic_has_interrupt(v);
	kvm_make_request(v, REQ_EVENT);
	kvm_vcpu_kick(v);
	return 0;
}

int vcpu_get_lapic(struct kvm_vcpu *v, struct kvm_lapic_state *s)
{
	return lapic_get_state(v, s);
}

int vcpu_set_lapic(struct kvm_vcpu *v, const struct kvm_lapic_state *s)
{
	return lapic_set_state(v, s);
}
