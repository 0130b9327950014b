/* SPDX-License-Identifier: MIT */
/* Machine-check banks (SDM vol. 3B, chapter 16): registers, and errors that user space reports. */
#include <errno.h>

#include "core/irqchip/irqchip.h"
#include "core/irqchip/lapic_reg.h"
#include "core/msr_impl.h"

#define MCG_CTL_P		BIT(8)
#define MCG_CMCI_P		BIT(10)
#define MCG_SER_P		BIT(24)
#define MCG_LMCE_P		BIT(27)
#define MCG_STATUS_MCIP		BIT(2)
#define MCI_STATUS_VAL		BIT(63)
#define MCI_STATUS_OVER		BIT(62)
#define MCI_STATUS_UC		BIT(61)
#define MCI_CTL2_CMCI_EN	BIT(30)
#define MCI_CTL2_THRESHOLD_MASK 0x7fffull
#define MCI_STATUS_PCC		BIT(57)
#define MCI_STATUS_S		BIT(56)
#define MCI_STATUS_AR		BIT(55)
#define MCE_CAP_SUPPORTED	(MCG_CTL_P | MCG_SER_P | MCG_CMCI_P | MCG_LMCE_P)

static unsigned nbanks(const struct kvm_vcpu *v)
{
	return v->arch->mce.mcg_cap & 0xff;
}

int get_mcg_ctl(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!(v->arch->mce.mcg_cap & MCG_CTL_P) && !m->host)
		return -EINVAL;
	m->data = v->arch->mce.mcg_ctl;
	return 0;
}

int set_mcg_ctl(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!(v->arch->mce.mcg_cap & MCG_CTL_P) && (m->data || !m->host))
		return -EINVAL;
	if (m->data != 0 && m->data != ~0ull)
		return -EINVAL;
	v->arch->mce.mcg_ctl = m->data;
	return 0;
}

int get_mcg_ext_ctl(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!m->host && !(v->arch->feat_ctl & BIT(20)))
		return -EINVAL;
	m->data = v->arch->mce.mcg_ext_ctl;
	return 0;
}

int set_mcg_ext_ctl(struct kvm_vcpu *v, struct msr_access *m)
{
	if ((!m->host && !(v->arch->feat_ctl & BIT(20))) || (m->data & ~1ull))
		return -EINVAL;
	v->arch->mce.mcg_ext_ctl = m->data;
	return 0;
}

int get_mc_ctl2(struct kvm_vcpu *v, struct msr_access *m)
{
	unsigned bank = m->index - MSR_IA32_MC0_CTL2;

	if (bank >= nbanks(v))
		return -EINVAL;
	if (!(v->arch->mce.mcg_cap & MCG_CMCI_P) && !m->host)
		return -EINVAL;
	m->data = v->arch->mce.ctl2[bank];
	return 0;
}

int set_mc_ctl2(struct kvm_vcpu *v, struct msr_access *m)
{
	unsigned bank = m->index - MSR_IA32_MC0_CTL2;

	if (bank >= nbanks(v))
		return -EINVAL;
	if (!(v->arch->mce.mcg_cap & MCG_CMCI_P) && (m->data || !m->host))
		return -EINVAL;
	if (m->data & ~(MCI_CTL2_CMCI_EN | MCI_CTL2_THRESHOLD_MASK))
		return -EINVAL;
	v->arch->mce.ctl2[bank] = m->data;
	return 0;
}

int get_mc_bank(struct kvm_vcpu *v, struct msr_access *m)
{
	unsigned at = m->index - MSR_IA32_MC0_CTL;

	if (at / 4 >= nbanks(v))
		return -EINVAL;
	m->data = v->arch->mce.banks[at];
	return 0;
}

int set_mc_bank(struct kvm_vcpu *v, struct msr_access *m)
{
	unsigned at = m->index - MSR_IA32_MC0_CTL;

	if (at / 4 >= nbanks(v))
		return -EINVAL;
	/* CTL: all or nothing, but for Linux's workaround of clearing bits 10 (GART) and 0. */
	if (at % 4 == 0 && m->data != 0 && (m->data | BIT(10) | 1) != ~0ull)
		return -EINVAL;
	/* STATUS can be cleared only. */
	if (!m->host && at % 4 == 1 && m->data != 0)
		return -EINVAL;
	v->arch->mce.banks[at] = m->data;
	return 0;
}

/* ---- ioctls ---- */

int sys_x86_get_mce_cap_supported(u64 *cap)
{
	*cap = MCE_CAP_SUPPORTED;
	return 0;
}

int vcpu_x86_setup_mce(struct kvm_vcpu *v, u64 mcg_cap)
{
	struct mce_state *mce = &v->arch->mce;
	unsigned n = mcg_cap & 0xff;

	if (!n || n > KVM_MAX_MCE_BANKS)
		return -EINVAL;
	if (mcg_cap & ~(MCE_CAP_SUPPORTED | 0xff | 0xff0000))
		return -EINVAL;
	mce->mcg_cap = mcg_cap;
	if (mcg_cap & MCG_CTL_P)
		mce->mcg_ctl = ~0ull;
	for (unsigned bank = 0; bank < n; bank++) {
		mce->banks[bank * 4] = ~0ull;
		mce->ctl2[bank] = 0;
	}
	lapic_set_cmci(v, mcg_cap & MCG_CMCI_P);
	return 0;
}

/* Uncorrected, no action required (SDM vol. 3B, 16.6.3): logged, and told by CMCI. */
static bool is_ucna(const struct kvm_x86_mce *e)
{
	return e->status & MCI_STATUS_UC && !e->mcg_status &&
	       !(e->status & (MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR));
}

static int set_ucna(struct kvm_vcpu *v, const struct kvm_x86_mce *e, u64 *bank)
{
	struct mce_state *mce = &v->arch->mce;

	bank[1] = e->status;
	bank[2] = e->addr;
	bank[3] = e->misc;
	mce->mcg_status = e->mcg_status;
	if (mce->mcg_cap & MCG_CMCI_P && mce->ctl2[e->bank] & MCI_CTL2_CMCI_EN && v->apic)
		lapic_local_deliver(v, APIC_LVTCMCI);
	return 0;
}

int vcpu_x86_set_mce(struct kvm_vcpu *v, const struct kvm_x86_mce *e)
{
	struct mce_state *mce = &v->arch->mce;
	u64 *bank, status = e->status;

	if (e->bank >= nbanks(v) || !(status & MCI_STATUS_VAL))
		return -EINVAL;
	bank = &mce->banks[e->bank * 4];
	if (is_ucna(e))
		return set_ucna(v, e, bank);
	if (status & MCI_STATUS_UC) {
		/* Reporting may be turned off, for all banks or this one. */
		if ((mce->mcg_cap & MCG_CTL_P) && mce->mcg_ctl != ~0ull)
			return 0;
		if (bank[0] != ~0ull)
			return 0;
		if ((mce->mcg_status & MCG_STATUS_MCIP) || !kvm_read_cr4_bits(v, CR4_MCE)) {
			kvm_make_request(v, REQ_TRIPLE_FAULT);
			return 0;
		}
		if (bank[1] & MCI_STATUS_VAL)
			status |= MCI_STATUS_OVER;
		bank[2] = e->addr;
		bank[3] = e->misc;
		mce->mcg_status = e->mcg_status;
		bank[1] = status;
		kvm_queue_exception(v, X86_MC);
	} else if (!(bank[1] & MCI_STATUS_VAL) || !(bank[1] & MCI_STATUS_UC)) {
		if (bank[1] & MCI_STATUS_VAL)
			status |= MCI_STATUS_OVER;
		bank[2] = e->addr;
		bank[3] = e->misc;
		bank[1] = status;
	} else {
		bank[1] |= MCI_STATUS_OVER;
	}
	return 0;
}
