/* SPDX-License-Identifier: MIT */
/* Between msr.c (the table) and the files with its handlers. */
#ifndef CORE_MSR_IMPL_H
#define CORE_MSR_IMPL_H

#include "core/cpuid.h"
#include "core/hyperv.h"
#include "core/msr.h"
#include "core/pv.h"
#include "spec/hyperv.h"
#include "spec/msr.h"

enum msr_where { MSR_IN_NOTHING, MSR_IN_HW, MSR_IN_VCPU };

struct msr_row {
	u32 first, last;
	const char *name;
	u16 flags, gate;
	msr_get_fn *get;
	msr_set_fn *set;
	u16 where, offset;
};

u64 *msr_storage(struct kvm_vcpu *v, const struct msr_row *row);
/* A feature MSR as the system fd has it, and as new vCPUs start with it. 0 or -EINVAL. */
int msr_feature_value(u32 index, u64 *val);

/* msr_handlers.c, msr_mce.c */
msr_get_fn get_zero, get_none, get_plain, get_host_only, get_vendor, get_lapic, get_tsc,
	get_apic_base, get_ebc_frequency, get_fsb_freq, get_platform_info, get_bbl_cr_ctl3,
	get_perf_status, get_mcg_ctl, get_mcg_ext_ctl, get_mc_ctl2, get_mc_bank, get_vmx;
msr_set_fn set_zero, set_ignore, set_none, set_plain, set_plain32, set_zero_plain, set_canonical,
	set_vendor, set_vendor_canonical, set_lapic, set_tsc, set_tsc_adjust, set_apic_base,
	set_feat_ctl, set_spec_ctrl, set_command, set_ucode_rev, set_platform_info,
	set_misc_features, set_hwcr, set_misc_enable, set_debugctl, set_mcg_ctl, set_mcg_ext_ctl,
	set_mc_ctl2, set_mc_bank, set_xss, set_tsc_aux, set_vmx;

#endif
