/* SPDX-License-Identifier: MIT */
/* KVM_CHECK_EXTENSION and KVM_ENABLE_CAP: the rows of cap.def. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/guard.h"
#include "core/cpuid.h"
#include "core/gmem.h"
#include "core/irqchip/irqchip.h"
#include "core/memslot.h"
#include "core/vcpu.h"
#include "spec/abi/kvm_para.h"
#include "spec/msr.h"
#include "spec/vmx.h"

#define KVM_GUESTDBG_VALID                                                          \
	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP |   \
	 KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_INJECT_DB | \
	 KVM_GUESTDBG_BLOCKIRQ)
#define VALID_QUIRKS                                                             \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_CD_NW_CLEARED |           \
	 KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP |          \
	 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | \
	 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS | KVM_X86_QUIRK_SLOT_ZAP_ALL)
/* MWAIT and C-states would need a processor that really sleeps in MWAIT. */
#define DISABLE_EXITS (KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE)

static int online_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (int)n : 1;
}

/* Two-dimensional paging, of this VM or of the next. */
static bool has_tdp(struct kvm *kvm)
{
	struct kvm_params p;

	if (kvm)
		return kvm->arch->params.kvm_intel_ept;
	params_snapshot(&p);
	return p.kvm_intel_ept;
}

/* Private memory takes two-dimensional paging. */
static u32 vm_types(void)
{
	return BIT(KVM_X86_DEFAULT_VM) | (has_tdp(NULL) ? BIT(KVM_X86_SW_PROTECTED_VM) : 0);
}

bool kvm_vm_type_supported(unsigned long type)
{
	return type < 32 && vm_types() & BIT(type);
}

static int xsave_size(void)
{
	return (int)MAX(isa_xsave_size(kvm_supported_xcr0(), false), sizeof(struct kvm_xsave));
}

/* ---- What enabling does: kvm->lock held. 0 or -errno ---- */

typedef int cap_enable_fn(struct kvm *kvm, const struct kvm_enable_cap *cap);

static int enable_max_vcpu_id(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	u64 n = cap->args[0];

	if (n > KVM_MAX_VCPU_IDS || n == 0)
		return -EINVAL;
	if (kvm->bsp_id > n)
		return -EINVAL;
	if (kvm->arch->max_vcpu_ids_set || kvm->nvcpus)
		return kvm->arch->max_vcpu_ids == n ? 0 : -EINVAL;
	kvm->arch->max_vcpu_ids = (u32)n;
	kvm->arch->max_vcpu_ids_set = true;
	return 0;
}

static int enable_disable_quirks(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	kvm->arch->disabled_quirks = cap->args[0] & VALID_QUIRKS;
	return 0;
}

static int enable_disable_quirks2(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~(u64)VALID_QUIRKS)
		return -EINVAL;
	return enable_disable_quirks(kvm, cap);
}

static int enable_split_irqchip(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] > 4096)
		return -EINVAL;
	if (kvm_irqchip_in_core(kvm))
		return -EEXIST;
	if (kvm->nvcpus)
		return -EEXIST;
	return irqchip_create_split(kvm, (unsigned)cap->args[0]);
}

static int enable_x2apic_api(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
		return -EINVAL;
	if (cap->args[0] & KVM_X2APIC_API_USE_32BIT_IDS)
		kvm->arch->x2apic_format = true;
	if (cap->args[0] & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
		kvm->arch->x2apic_broadcast_quirk_disabled = true;
	return 0;
}

static int enable_disable_exits(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~(u64)KVM_X86_DISABLE_VALID_EXITS)
		return -EINVAL;
	/* As KVM: what is not offered is ignored, and vCPUs that exist keep their exits. */
	kvm->arch->hlt_in_guest |= !!(cap->args[0] & KVM_X86_DISABLE_EXITS_HLT);
	kvm->arch->pause_in_guest |= !!(cap->args[0] & KVM_X86_DISABLE_EXITS_PAUSE);
	return 0;
}

static int enable_platform_info(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	kvm->arch->guest_can_read_msr_platform_info = cap->args[0];
	return 0;
}

static int enable_exception_payload(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	kvm->arch->exception_payload_enabled = cap->args[0];
	return 0;
}

static int enable_triple_fault_event(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	kvm->arch->triple_fault_event = cap->args[0];
	return 0;
}

static int enable_manual_dirty_log(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	u64 allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (cap->args[0] & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (cap->flags || (cap->args[0] & ~allowed))
		return -EINVAL;
	kvm->arch->manual_dirty_log_protect = cap->args[0];
	return 0;
}

static int enable_dirty_ring(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	return dirty_ring_enable(kvm, cap->args[0]);
}

static int enable_halt_poll(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->flags || cap->args[0] != (u32)cap->args[0])
		return -EINVAL;
	kvm->arch->max_halt_poll_ns = (u32)cap->args[0];
	return 0;
}

static bool has_notify_vmexit(void)
{
	u64 cap;

	return !kvm_host_rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2, &cap) &&
	       cap >> 32 & SECONDARY_EXEC_NOTIFY_VM_EXITING;
}

static int enable_notify_vmexit(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	u32 flags = (u32)cap->args[0];

	if (flags & ~(u32)(KVM_X86_NOTIFY_VMEXIT_ENABLED | KVM_X86_NOTIFY_VMEXIT_USER))
		return -EINVAL;
	if (!(flags & KVM_X86_NOTIFY_VMEXIT_ENABLED) || !has_notify_vmexit() || kvm->nvcpus)
		return -EINVAL;
	kvm->arch->notify_window = cap->args[0] >> 32;
	kvm->arch->notify_vmexit_flags = flags;
	return 0;
}

static int enable_user_space_msr(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~(u64)KVM_MSR_EXIT_REASON_VALID_MASK)
		return -EINVAL;
	kvm->arch->user_space_msr_mask = (u32)cap->args[0];
	return 0;
}

static int enable_exit_hypercall(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~BIT(KVM_HC_MAP_GPA_RANGE))
		return -EINVAL;
	kvm->arch->hypercall_exit_enabled = cap->args[0];
	return 0;
}

static int enable_exit_on_emulation_failure(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0] & ~1ull)
		return -EINVAL;
	kvm->arch->exit_on_emulation_error = cap->args[0];
	return 0;
}

/* There are no split pages to begin with. */
static int enable_disable_nx_huge_pages(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	if (cap->args[0])
		return -EINVAL;
	return kvm->nvcpus ? -EINVAL : 0;
}

static int enable_apic_bus_cycles(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	return irqchip_set_bus_cycle_ns(kvm, cap->args[0]);
}

/* ---- The table ---- */

#define CAP(id, value, enable)                 \
	static int value_##id(struct kvm *kvm) \
	{                                      \
		return (int)(value);           \
	}
#include "core/cap.def"

static const struct {
	u32 id;
	int (*value)(struct kvm *kvm);
	cap_enable_fn *enable;
} rows[] = {
#define CAP(id, value, enable) {id, value_##id, enable},
#include "core/cap.def"
};

int vm_check_extension(struct kvm *kvm, u32 id)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].id == id)
			return rows[i].value(kvm);
	return 0;
}

int sys_check_extension(u32 id)
{
	return vm_check_extension(NULL, id);
}

int vm_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	int ret = -EINVAL;

	/* Flags mean nothing to any capability so far. */
	if (cap->flags)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].id != cap->cap || !rows[i].enable)
			continue;
		pthread_mutex_lock(&kvm->lock);
		ret = rows[i].enable(kvm, cap);
		pthread_mutex_unlock(&kvm->lock);
		break;
	}
	return ret;
}

/* args[0]: where the version goes. */
static int enable_evmcs(struct kvm_vcpu *v, const struct kvm_enable_cap *cap)
{
	u16 version;
	int ret;

	if (!v->kvm->ops->nested || !v->kvm->arch->params.kvm_intel_nested)
		return -ENOTTY;
	ret = v->kvm->ops->nested->enable_evmcs(v, &version);
	return ret ? ret : copy_to_user((void *)cap->args[0], &version, sizeof(version));
}

int vcpu_enable_cap(struct kvm_vcpu *v, const struct kvm_enable_cap *cap)
{
	if (cap->flags)
		return -EINVAL;
	switch (cap->cap) {
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID: v->arch->pv.enforce = cap->args[0]; return 0;
	case KVM_CAP_HYPERV_ENFORCE_CPUID: v->arch->hv.enforce = cap->args[0]; return 0;
	case KVM_CAP_HYPERV_ENLIGHTENED_VMCS: return enable_evmcs(v, cap);
	default: return -EINVAL;
	}
}

/* ---- Device attributes of the system and of VMs ---- */

int sys_device_attr(bool set, bool query, struct kvm_device_attr *attr)
{
	u64 val;

	if (attr->group != KVM_X86_GRP_SYSTEM || attr->attr != KVM_X86_XCOMP_GUEST_SUPP)
		return -ENXIO;
	if (query)
		return 0;
	if (set)
		return -ENXIO;
	val = kvm_supported_xcr0();
	return copy_to_user((void *)attr->addr, &val, sizeof(val));
}

int vm_device_attr(struct kvm *kvm, bool set, bool query, struct kvm_device_attr *attr)
{
	return -ENXIO;
}

/* ---- Nested state ---- */

int vcpu_get_nested_state(struct kvm_vcpu *v, struct kvm_nested_state *s, u32 size)
{
	return v->kvm->ops->nested ? v->kvm->ops->nested->get_state(v, s, size) : -EINVAL;
}

int vcpu_set_nested_state(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size)
{
	return v->kvm->ops->nested ? v->kvm->ops->nested->set_state(v, s, size) : -EINVAL;
}
