// SPDX-License-Identifier: MIT
/*
 * PV EOI (MSR_KVM_PV_EOI_EN): a byte of guest memory says that the EOI of the interrupt in service
 * may be left out, for nobody but its own APIC has to hear of it. The guest ends such an interrupt
 * by clearing the byte's bit, without an exit; the APIC's registers follow at the next exit.
 */
#include <errno.h>

#include "core/irqchip/irq_private.h"
#include "core/irqchip/lapic.h"
#include "core/memslot.h"
#include "core/vcpu.h"
#include "spec/abi/kvm_para.h"

#define PV_EOI_BIT 1u

static gpa_t pv_eoi_gpa(const struct kvm_vcpu *v)
{
	return v->arch->pv.eoi_msr & ~KVM_MSR_ENABLED;
}

int lapic_set_pv_eoi(struct kvm_vcpu *v, u64 msr)
{
	u8 byte;

	if ((msr & ~KVM_MSR_ENABLED) & 3)
		return -EINVAL;
	if (msr & KVM_MSR_ENABLED && vcpu_read_guest(v, msr & ~KVM_MSR_ENABLED, &byte, 1))
		return -EINVAL;
	lapic_pv_eoi_from_guest(v);
	v->arch->pv.eoi_msr = msr;
	return 0;
}

void lapic_pv_eoi_to_guest(struct kvm_vcpu *v)
{
	struct lapic *a = v->apic;
	u8 byte = PV_EOI_BIT;
	int vec;

	if (!(v->arch->pv.eoi_msr & KVM_MSR_ENABLED) || !a || !a->isr_count)
		return;
	/* Another one waits: the EOI must exit so that it is delivered. */
	if (lapic_find_highest_irr(v) >= 0)
		return;
	vec = lapic_highest_isr(a);
	if (vec < 0 || irqchip_eoi_matters(v, (u8)vec, lapic_test_vec(a, APIC_TMR, (u8)vec)))
		return;
	if (!vcpu_write_guest(v, pv_eoi_gpa(v), &byte, 1))
		v->arch->pv.eoi_pending = true;
}

void lapic_pv_eoi_sync(struct kvm_vcpu *v)
{
	u8 byte, none = 0;

	v->arch->pv.eoi_pending = false;
	if (!v->apic || vcpu_read_guest(v, pv_eoi_gpa(v), &byte, 1))
		return;
	if (byte & PV_EOI_BIT)
		vcpu_write_guest(v, pv_eoi_gpa(v), &none, 1);
	else
		lapic_do_eoi(v->apic);
}
