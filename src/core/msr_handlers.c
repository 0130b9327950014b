/* SPDX-License-Identifier: MIT */
/* What single MSRs do: the handlers of spec/msr.def. 0 or -EINVAL. */
#include <errno.h>

#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/msr_impl.h"
#include "core/tsc.h"

/* ---- The general ones ---- */

int get_zero(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = 0;
	return 0;
}

int get_none(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = 0;
	return m->host ? 0 : -EINVAL; /* write-only commands */
}

int get_plain(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = *msr_storage(v, m->row);
	return 0;
}

int get_host_only(struct kvm_vcpu *v, struct msr_access *m)
{
	return m->host ? get_plain(v, m) : -EINVAL;
}

int get_vendor(struct kvm_vcpu *v, struct msr_access *m)
{
	return v->kvm->ops->get_msr(v, m->index, &m->data) ? -EINVAL : 0;
}

int set_zero(struct kvm_vcpu *v, struct msr_access *m)
{
	return m->data ? -EINVAL : 0;
}

int set_ignore(struct kvm_vcpu *v, struct msr_access *m)
{
	return 0;
}

int set_none(struct kvm_vcpu *v, struct msr_access *m)
{
	return -EINVAL;
}

int set_plain(struct kvm_vcpu *v, struct msr_access *m)
{
	*msr_storage(v, m->row) = m->data;
	return 0;
}

int set_plain32(struct kvm_vcpu *v, struct msr_access *m)
{
	*msr_storage(v, m->row) = (u32)m->data;
	return 0;
}

int set_zero_plain(struct kvm_vcpu *v, struct msr_access *m)
{
	return m->data ? -EINVAL : 0;
}

static bool canonical(const struct kvm_vcpu *v, u64 la)
{
	return is_canonical(la, v->arch->va_bits);
}

int set_canonical(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!canonical(v, m->data))
		return -EINVAL;
	return set_plain(v, m);
}

int set_vendor(struct kvm_vcpu *v, struct msr_access *m)
{
	return v->kvm->ops->set_msr(v, m->index, m->data) ? -EINVAL : 0;
}

int set_vendor_canonical(struct kvm_vcpu *v, struct msr_access *m)
{
	return canonical(v, m->data) ? set_vendor(v, m) : -EINVAL;
}

/* ---- Local APIC ---- */

/* The deadline alone exists without a local APIC of ours: QEMU sets it in any case. */
static int no_apic(struct msr_access *m)
{
	if (m->index != MSR_IA32_TSC_DEADLINE)
		return -EINVAL;
	m->data = 0;
	return 0;
}

int get_lapic(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!v->apic)
		return no_apic(m);
	return lapic_msr_read(v, m->index, &m->data);
}

int set_lapic(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!v->apic)
		return no_apic(m);
	return lapic_msr_write(v, m->index, m->data);
}

int get_apic_base(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = lapic_get_base(v);
	return 0;
}

int set_apic_base(struct kvm_vcpu *v, struct msr_access *m)
{
	int ret = lapic_set_base(v, m->data, m->host);

	if (!ret)
		kvm_update_cpuid_runtime(v);
	return ret;
}

/* ---- Time ---- */

int get_tsc(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = kvm_guest_tsc(v);
	return 0;
}

int set_tsc(struct kvm_vcpu *v, struct msr_access *m)
{
	if (m->host) {
		kvm_synchronize_tsc(v, m->data, true);
	} else {
		u64 offset = kvm_compute_l1_tsc_offset(v, m->data);
		u64 delta = offset - v->arch->l1_tsc_offset;

		kvm_adjust_tsc_offset(v, (s64)delta);
		v->arch->tsc_adjust += delta;
	}
	return 0;
}

int set_tsc_adjust(struct kvm_vcpu *v, struct msr_access *m)
{
	if (guest_cpuid_has(v, FEAT_TSC_ADJUST) && !m->host)
		kvm_adjust_tsc_offset(v, (s64)(m->data - v->arch->tsc_adjust));
	if (guest_cpuid_has(v, FEAT_TSC_ADJUST) || m->host)
		v->arch->tsc_adjust = m->data;
	return 0;
}

/* Frequencies of processors that are long gone; guests compare them with nothing. */
int get_ebc_frequency(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = 1u << 24;
	return 0;
}

int get_fsb_freq(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = 3;
	return 0;
}

int get_bbl_cr_ctl3(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = 0xbe702111;
	return 0;
}

int get_perf_status(struct kvm_vcpu *v, struct msr_access *m)
{
	m->data = 1000 | 4ull << 40;
	return 0;
}

/* ---- Features ---- */

#define FEAT_CTL_LOCKED		 BIT(0)
#define FEAT_CTL_VMX_INSIDE_SMX	 BIT(1)
#define FEAT_CTL_VMX_OUTSIDE_SMX BIT(2)
#define FEAT_CTL_LMCE_ENABLED	 BIT(20)
#define MCG_LMCE_P		 BIT(27)

/* Lock, VMX inside and outside SMX, SGX launch control, SGX, LMCE: SDM vol. 4, table 2-2. */
#define FEAT_CTL_ALL (BITS(2, 0) | BITS(18, 17) | BIT(20))

int set_feat_ctl(struct kvm_vcpu *v, struct msr_access *m)
{
	u64 valid = FEAT_CTL_LOCKED | FEAT_CTL_VMX_OUTSIDE_SMX;

	if (v->arch->mce.mcg_cap & MCG_LMCE_P)
		valid |= FEAT_CTL_LMCE_ENABLED;
	/* User space may restore what another processor's guest had. */
	if (m->host)
		valid = FEAT_CTL_ALL;
	if (m->data & ~valid)
		return -EINVAL;
	if (!m->host && (v->arch->feat_ctl & FEAT_CTL_LOCKED))
		return -EINVAL;
	v->arch->feat_ctl = m->data;
	return 0;
}

#define SPEC_CTRL_IBRS	BIT(0)
#define SPEC_CTRL_STIBP BIT(1)
#define SPEC_CTRL_SSBD	BIT(2)

int set_spec_ctrl(struct kvm_vcpu *v, struct msr_access *m)
{
	if (m->data & ~(SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_SSBD))
		return -EINVAL;
	v->hw->spec_ctrl = m->data;
	return 0;
}

/* Barriers and flushes: nothing here speculates. */
int set_command(struct kvm_vcpu *v, struct msr_access *m)
{
	return m->data & ~1ull ? -EINVAL : 0;
}

int set_ucode_rev(struct kvm_vcpu *v, struct msr_access *m)
{
	if (m->host)
		v->arch->ucode_rev = m->data; /* the guest's write of 0 before CPUID is harmless */
	return 0;
}

#define PLATFORM_INFO_CPUID_FAULT BIT(31)

int get_platform_info(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!m->host && !v->kvm->arch->guest_can_read_msr_platform_info)
		return -EINVAL;
	return get_plain(v, m);
}

int set_platform_info(struct kvm_vcpu *v, struct msr_access *m)
{
	if (!m->host)
		return -EINVAL;
	if (!(m->data & PLATFORM_INFO_CPUID_FAULT) && (v->arch->misc_features_enables & 1))
		return -EINVAL;
	v->arch->platform_info = m->data;
	return 0;
}

/* APM vol. 2, 3.2.10: what some guests write and nobody minds, and what is kept. */
#define HWCR_IGNORED	     (BIT(3) | BIT(6) | BIT(8))
#define HWCR_MC_STATUS_WR_EN BIT(18)
#define HWCR_TSC_FREQ_SEL    BIT(24)

int set_hwcr(struct kvm_vcpu *v, struct msr_access *m)
{
	u64 val = m->data & ~HWCR_IGNORED;

	if (val & ~(HWCR_MC_STATUS_WR_EN | HWCR_TSC_FREQ_SEL))
		return -EINVAL;
	v->arch->hwcr = val;
	return 0;
}

int set_misc_features(struct kvm_vcpu *v, struct msr_access *m)
{
	if (m->data & ~1ull)
		return -EINVAL;
	if ((m->data & 1) && !(v->arch->platform_info & PLATFORM_INFO_CPUID_FAULT))
		return -EINVAL;
	v->arch->misc_features_enables = m->data;
	return 0;
}

#define MISC_ENABLE_EMON	 BIT(7)
#define MISC_ENABLE_BTS_UNAVAIL	 BIT(11)
#define MISC_ENABLE_PEBS_UNAVAIL BIT(12)
#define MISC_ENABLE_MWAIT	 BIT(18)
#define MISC_ENABLE_PMU_RO	 (MISC_ENABLE_EMON | MISC_ENABLE_BTS_UNAVAIL | MISC_ENABLE_PEBS_UNAVAIL)

int set_misc_enable(struct kvm_vcpu *v, struct msr_access *m)
{
	u64 old = v->arch->misc_enable;

	if (!m->host) {
		if ((old ^ m->data) & (MISC_ENABLE_BTS_UNAVAIL | MISC_ENABLE_PEBS_UNAVAIL))
			return -EINVAL;
		m->data = (m->data & ~MISC_ENABLE_EMON) | (old & MISC_ENABLE_EMON);
	}
	v->arch->misc_enable = m->data;
	if (((old ^ m->data) & MISC_ENABLE_MWAIT) &&
	    !kvm_check_has_quirk(v->kvm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)) {
		if (!guest_cpuid_has(v, FEAT_XMM3))
			return -EINVAL;
		kvm_update_cpuid_runtime(v);
	}
	return 0;
}

#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1)

int set_debugctl(struct kvm_vcpu *v, struct msr_access *m)
{
	/* Branch records and branch stepping are accepted and not done. */
	u64 data = m->data & ~(DEBUGCTL_LBR | DEBUGCTL_BTF);

	if (data)
		return -EINVAL;
	return v->kvm->ops->set_msr(v, m->index, data) ? -EINVAL : 0;
}

int set_xss(struct kvm_vcpu *v, struct msr_access *m)
{
	if (m->data & ~v->arch->supported_xss)
		return -EINVAL;
	v->hw->xss = m->data;
	kvm_update_cpuid_runtime(v);
	return 0;
}

int set_tsc_aux(struct kvm_vcpu *v, struct msr_access *m)
{
	/* 32 bits wide; Intel faults on more, AMD drops it. */
	if (m->data >> 32) {
		if (guest_cpuid_is_intel(v))
			return -EINVAL;
		m->data = (u32)m->data;
	}
	v->hw->tsc_aux = m->data;
	return 0;
}

/* VMX capabilities: read-only until guests may have VMX, which is when their rows exist. */
int get_vmx(struct kvm_vcpu *v, struct msr_access *m)
{
	if (v->kvm->ops->get_msr(v, m->index, &m->data))
		return -EINVAL;
	if (!m->host && v->kvm->ops->nested)
		m->data = v->kvm->ops->nested->guest_cap(v, m->index, m->data);
	return 0;
}

int set_vmx(struct kvm_vcpu *v, struct msr_access *m)
{
	return v->kvm->ops->set_msr(v, m->index, m->data);
}

/* ---- EFER ---- */

bool kvm_valid_efer(struct kvm_vcpu *v, u64 efer)
{
	if (efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return false;
	if ((efer & (EFER_LME | EFER_LMA)) && !guest_cpuid_has(v, FEAT_LM))
		return false;
	if ((efer & EFER_NXE) && !guest_cpuid_has(v, FEAT_NX))
		return false;
	return true;
}

int set_efer(struct kvm_vcpu *v, struct msr_access *m)
{
	u64 old = v->arch->efer, efer = m->data;

	if (efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return -EINVAL;
	if (!m->host) {
		if (!kvm_valid_efer(v, efer))
			return -EINVAL;
		if (is_paging(v) && ((old ^ efer) & EFER_LME))
			return -EINVAL;
	}
	efer = (efer & ~EFER_LMA) | (old & EFER_LMA);
	v->kvm->ops->set_efer(v, efer);
	if ((old ^ efer) & EFER_NXE)
		mmu_reset_context(v);
	return 0;
}

/* ---- Start and reset ---- */

int msr_feature_value(u32 index, u64 *val)
{
	switch (index) {
	case MSR_IA32_ARCH_CAPABILITIES: *val = ARCH_CAP_NO_FLAWS; return 0;
	case MSR_IA32_PERF_CAPABILITIES: *val = 0; return 0;
	case MSR_IA32_UCODE_REV: *val = 0x100000000ull; return 0;
	case MSR_IA32_VMX_BASIC ... MSR_IA32_VMX_VMFUNC:
		/* The other vendor's processors have none. */
		return vmx_x86_ops.get_feature_msr(index, val);
	default: return kvm_host_rdmsr(index, val);
	}
}

void msr_vcpu_init(struct kvm_vcpu *v)
{
	struct vcpu_arch *a = v->arch;

	msr_feature_value(MSR_IA32_UCODE_REV, &a->ucode_rev);
	msr_feature_value(MSR_IA32_ARCH_CAPABILITIES, &a->arch_capabilities);
	a->platform_info = PLATFORM_INFO_CPUID_FAULT;
	a->mce.mcg_cap = KVM_MAX_MCE_BANKS;
	a->smbase = 0x30000;
}

void msr_vcpu_reset(struct kvm_vcpu *v, bool init)
{
	struct vcpu_arch *a = v->arch;

	if (init)
		return;
	a->misc_features_enables = 0;
	a->misc_enable = MISC_ENABLE_PEBS_UNAVAIL | MISC_ENABLE_BTS_UNAVAIL;
	a->pat = 0x0007040600070406ull;
	v->kvm->ops->set_msr(v, MSR_IA32_CR_PAT, a->pat);
	a->smbase = 0x30000;
	v->hw->spec_ctrl = 0;
}
