/* SPDX-License-Identifier: MIT */
/* Finding the row of an MSR, the rules all share, the ioctls, RDMSR and WRMSR. */
#include <errno.h>
#include <pthread.h>

#include "base/log.h"
#include "core/msr_impl.h"
#include "spec/abi/kvm_para.h"

/* ---- Rows ---- */

enum msr_flag { SAVE = 1, FEATURE = 2, HOST = 4, VMX = 8 };

/* Gates that are not one CPUID bit. */
enum { FEAT_ANY = FEAT_N, FEAT_TSC_AUX_ANY, FEAT_PV, FEAT_HV = FEAT_PV + FEAT_N };
#define FEAT_KVM_CLOCKSOURCE_PV	 (FEAT_PV + FEAT_KVM_CLOCKSOURCE)
#define FEAT_KVM_CLOCKSOURCE2_PV (FEAT_PV + FEAT_KVM_CLOCKSOURCE2)
#define FEAT_KVM_STEAL_TIME_PV	 (FEAT_PV + FEAT_KVM_STEAL_TIME)
#define FEAT_KVM_PV_EOI_PV	 (FEAT_PV + FEAT_KVM_PV_EOI)
#define FEAT_KVM_ASYNC_PF_PV	 (FEAT_PV + FEAT_KVM_ASYNC_PF)
#define FEAT_KVM_ASYNC_PF_INT_PV (FEAT_PV + FEAT_KVM_ASYNC_PF_INT)
#define FEAT_KVM_POLL_CONTROL_PV (FEAT_PV + FEAT_KVM_POLL_CONTROL)

#define FEAT_HV_HYPERCALL_HV	   (FEAT_HV + FEAT_HV_HYPERCALL)
#define FEAT_HV_VP_INDEX_HV	   (FEAT_HV + FEAT_HV_VP_INDEX)
#define FEAT_HV_TIME_REF_COUNT_HV  (FEAT_HV + FEAT_HV_TIME_REF_COUNT)
#define FEAT_HV_REFERENCE_TSC_HV   (FEAT_HV + FEAT_HV_REFERENCE_TSC)
#define FEAT_HV_FREQUENCY_HV	   (FEAT_HV + FEAT_HV_FREQUENCY)
#define FEAT_HV_APIC_ACCESS_HV	   (FEAT_HV + FEAT_HV_APIC_ACCESS)
#define FEAT_HV_REENLIGHTENMENT_HV (FEAT_HV + FEAT_HV_REENLIGHTENMENT)

#define NONE	    0, 0
#define HW(field)   MSR_IN_HW, offsetof(struct isa_regs, field)
#define VCPU(field) MSR_IN_VCPU, offsetof(struct vcpu_arch, field)

static const struct msr_row rows[] = {
#define MSR(first, last, name, flags, gate, get, set, storage) \
	{first, last, #name, flags, FEAT_##gate, get, set, storage},
#include "spec/msr.def"
};

static const struct msr_row *find_row(u32 index)
{
	/* The file is sorted by purpose within the two ranges; a look at each row is cheap next to
	 * the exit that led here. */
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (index >= rows[i].first && index <= rows[i].last)
			return &rows[i];
	return NULL;
}

u64 *msr_storage(struct kvm_vcpu *v, const struct msr_row *row)
{
	BUG_ON(row->where == 0);
	return (u64 *)((row->where == MSR_IN_HW ? (char *)v->hw : (char *)v->arch) + row->offset);
}

static bool gate_open(const struct kvm_vcpu *v, const struct msr_row *row)
{
	if (row->gate == FEAT_ANY)
		return true;
	if (row->gate == FEAT_TSC_AUX_ANY)
		return guest_cpuid_has(v, FEAT_RDTSCP) || guest_cpuid_has(v, FEAT_RDPID);
	if (row->gate >= FEAT_HV)
		return hv_offers(v, (enum cpu_feature)(row->gate - FEAT_HV));
	if (row->gate >= FEAT_PV)
		return guest_pv_has(v, (enum cpu_feature)(row->gate - FEAT_PV));
	return guest_cpuid_has(v, (enum cpu_feature)row->gate);
}

static bool vmx_offered(const struct kvm_params *p)
{
	return p->kvm_intel_nested;
}

/* -ENOENT: there is no such MSR; -EINVAL: it refuses. */
static int do_access(struct kvm_vcpu *v, struct msr_access *m, bool write)
{
	const struct msr_row *row = find_row(m->index);

	if (!row || ((row->flags & VMX) && !vmx_offered(&v->kvm->arch->params)))
		return -ENOENT;
	if (!m->host) {
		if (!gate_open(v, row))
			return -EINVAL;
		if (write && (row->flags & HOST))
			return -EINVAL;
	}
	m->row = row;
	return write ? row->set(v, m) : row->get(v, m);
}

static int access_msr(struct kvm_vcpu *v, u32 index, u64 *val, bool host, bool write)
{
	struct msr_access m = {.index = index, .data = write ? *val : 0, .host = host};
	int ret = do_access(v, &m, write);

	if (ret == -ENOENT && v->kvm->arch->params.kvm_ignore_msrs) {
		if (v->kvm->arch->params.kvm_report_ignored_msrs)
			base_log(LOG_INFO, "vCPU %u: ignored %s of MSR %#x", v->id,
				 write ? "write" : "read", index);
		m.data = 0;
		ret = 0;
	}
	if (!ret && !write)
		*val = m.data;
	return ret;
}

int kvm_get_msr(struct kvm_vcpu *v, u32 index, u64 *val)
{
	return access_msr(v, index, val, false, false);
}

int kvm_set_msr(struct kvm_vcpu *v, u32 index, u64 val)
{
	return access_msr(v, index, &val, false, true);
}

int kvm_get_msr_host(struct kvm_vcpu *v, u32 index, u64 *val)
{
	return access_msr(v, index, val, true, false);
}

int kvm_set_msr_host(struct kvm_vcpu *v, u32 index, u64 val)
{
	return access_msr(v, index, &val, true, true);
}

int kvm_get_msr_filtered(struct kvm_vcpu *v, u32 index, u64 *val)
{
	if (!kvm_msr_allowed(v, index, KVM_MSR_FILTER_READ))
		return -EPERM;
	return kvm_get_msr(v, index, val);
}

int kvm_set_msr_filtered(struct kvm_vcpu *v, u32 index, u64 val)
{
	if (!kvm_msr_allowed(v, index, KVM_MSR_FILTER_WRITE))
		return -EPERM;
	return kvm_set_msr(v, index, val);
}

/* ---- RDMSR and WRMSR ---- */

static int complete_rdmsr(struct kvm_vcpu *v)
{
	if (!v->run->msr.error) {
		u64 data = v->run->msr.data;

		kvm_register_write_raw(v, RAX, (u32)data);
		kvm_register_write_raw(v, RDX, data >> 32);
	}
	return kvm_complete_insn_gp(v, v->run->msr.error);
}

static int complete_wrmsr(struct kvm_vcpu *v)
{
	return kvm_complete_insn_gp(v, v->run->msr.error);
}

static u32 exit_reason_of(int err)
{
	switch (err) {
	case -ENOENT: return KVM_MSR_EXIT_REASON_UNKNOWN;
	case -EPERM: return KVM_MSR_EXIT_REASON_FILTER;
	default: return KVM_MSR_EXIT_REASON_INVAL;
	}
}

bool kvm_msr_user_space(struct kvm_vcpu *v, u32 index, u32 exit_reason, u64 data,
			int (*completion)(struct kvm_vcpu *), int err)
{
	u32 why = exit_reason_of(err);
	struct kvm_run *run = v->run;

	if (!(v->kvm->arch->user_space_msr_mask & why))
		return false;
	run->exit_reason = exit_reason;
	run->msr.error = 0;
	for (unsigned i = 0; i < sizeof(run->msr.pad); i++)
		run->msr.pad[i] = 0;
	run->msr.reason = why;
	run->msr.index = index;
	run->msr.data = data;
	v->arch->complete_userspace_io = completion;
	return true;
}

int kvm_emulate_rdmsr(struct kvm_vcpu *v)
{
	u32 index = (u32)v->hw->gpr[RCX];
	u64 data;
	int err = kvm_get_msr_filtered(v, index, &data);

	if (err) {
		if (kvm_msr_user_space(v, index, KVM_EXIT_X86_RDMSR, 0, complete_rdmsr, err))
			return 0;
		return kvm_inject_gp(v);
	}
	kvm_register_write_raw(v, RAX, (u32)data);
	kvm_register_write_raw(v, RDX, data >> 32);
	return kvm_skip_emulated_instruction(v);
}

int kvm_emulate_wrmsr(struct kvm_vcpu *v)
{
	u32 index = (u32)v->hw->gpr[RCX];
	u64 data = kvm_read_edx_eax(v);
	int err = kvm_set_msr_filtered(v, index, data);

	if (err) {
		if (kvm_msr_user_space(v, index, KVM_EXIT_X86_WRMSR, data, complete_wrmsr, err))
			return 0;
		return kvm_inject_gp(v);
	}
	return kvm_skip_emulated_instruction(v);
}

/* ---- ioctls ---- */

int vcpu_get_msrs(struct kvm_vcpu *v, struct kvm_msr_entry *ents, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (kvm_get_msr_host(v, ents[i].index, &ents[i].data))
			break;
	return (int)i;
}

int vcpu_set_msrs(struct kvm_vcpu *v, const struct kvm_msr_entry *ents, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (kvm_set_msr_host(v, ents[i].index, ents[i].data))
			break;
	return (int)i;
}

static int index_list(u32 *list, u32 *n, enum msr_flag flag)
{
	struct kvm_params p;
	u32 room = *n, count = 0;

	params_snapshot(&p);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!(rows[i].flags & flag) || ((rows[i].flags & VMX) && !vmx_offered(&p)))
			continue;
		for (u32 msr = rows[i].first; msr <= rows[i].last; msr++, count++)
			if (count < room)
				list[count] = msr;
	}
	*n = count;
	return count > room ? -E2BIG : 0;
}

int sys_get_msr_index_list(u32 *list, u32 *n)
{
	return index_list(list, n, SAVE);
}

int sys_get_msr_feature_index_list(u32 *list, u32 *n)
{
	return index_list(list, n, FEATURE);
}

int sys_get_msrs(struct kvm_msr_entry *ents, u32 n)
{
	struct kvm_params p;
	u32 i;

	params_snapshot(&p);
	for (i = 0; i < n; i++) {
		const struct msr_row *row = find_row(ents[i].index);

		if (!row || !(row->flags & FEATURE) || ((row->flags & VMX) && !vmx_offered(&p)) ||
		    msr_feature_value(ents[i].index, &ents[i].data))
			break;
	}
	return (int)i;
}
