// SPDX-License-Identifier: MIT
/*
 * The task priority without exits, for guests whose instructions user space patches: it asks to be
 * told where the guest accesses the register (KVM_TPR_ACCESS_REPORTING), and shares a word of guest
 * memory with the APIC instead (KVM_SET_VAPIC_ADDR): the guest writes the priority in its lowest
 * byte, and finds the highest vectors in service and requested in the upper two.
 */
#include <errno.h>

#include "core/irqchip/irq_private.h"
#include "core/irqchip/lapic.h"
#include "core/memslot.h"
#include "core/vcpu.h"

int vcpu_tpr_access_reporting(struct kvm_vcpu *v, struct kvm_tpr_access_ctl *t)
{
	if (t->flags)
		return -EINVAL;
	v->arch->tpr_access_reporting = t->enabled;
	return 0;
}

void lapic_report_tpr_access(struct kvm_vcpu *v, bool write)
{
	if (!v->arch->tpr_access_reporting)
		return;
	/* The access is done first: the exit comes before the next entry. */
	kvm_make_request(v, REQ_TPR_ACCESS);
	v->run->tpr_access.rip = kvm_rip_read(v);
	v->run->tpr_access.is_write = write;
}

int vcpu_set_vapic_addr(struct kvm_vcpu *v, u64 addr)
{
	struct gfn_to_hva_cache c;

	if (!v->apic)
		return -EINVAL;
	if (addr && gfn_cache_init(v->kvm, &c, addr, sizeof(u32)))
		return -EINVAL;
	v->arch->vapic_addr = addr;
	return 0;
}

void lapic_vapic_reset(struct kvm_vcpu *v)
{
	v->arch->vapic_addr = 0;
}

void lapic_vapic_from_guest(struct kvm_vcpu *v)
{
	u32 word;

	if (!vcpu_read_guest(v, v->arch->vapic_addr, &word, sizeof(word)))
		lapic_set_tpr(v->apic, word);
}

void lapic_vapic_to_guest(struct kvm_vcpu *v)
{
	int isr = lapic_highest_isr(v->apic), irr = lapic_find_highest_irr(v);
	u32 word = lapic_reg(v->apic, APIC_TASKPRI) & 0xff;

	if (isr >= 0)
		word |= ((u32)isr & 0xf0) << 8;
	if (irr >= 0)
		word |= (u32)irr << 24;
	vcpu_write_guest(v, v->arch->vapic_addr, &word, sizeof(word));
}
