/* SPDX-License-Identifier: MIT */
/* Hyper-V's interface: which guest has it, its MSRs, KVM_GET_SUPPORTED_HV_CPUID. */
#include "core/hyperv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/irqchip/irqchip.h"
#include "core/irqchip/lapic_reg.h"
#include "core/memslot.h"
#include "spec/abi/kvm_para.h"

/* ---- Life ---- */

void hv_vm_init(struct kvm *kvm)
{
	pthread_mutex_init(&kvm->arch->hv.lock, NULL);
}

void hv_vcpu_init(struct kvm_vcpu *v)
{
	v->arch->hv.vp_index = v->idx;
}

void hv_after_set_cpuid(struct kvm_vcpu *v)
{
	struct hv_vcpu *hv = &v->arch->hv;
	const struct kvm_cpuid_entry2 *e = kvm_find_cpuid_entry(v, HV_CPUID_INTERFACE, 0);

	hv->enabled = e && e->eax == HV_INTERFACE_SIGNATURE;
	e = kvm_find_cpuid_entry(v, HV_CPUID_ENLIGHTENMENTS, 0);
	hv->spin_retries = e ? e->ebx : 0;
}

bool hv_offers(const struct kvm_vcpu *v, enum cpu_feature f)
{
	return v->arch->hv.enabled && (!v->arch->hv.enforce || guest_cpuid_has(v, f));
}

/* ---- VP assist page ---- */

static gpa_t assist_gpa(const struct kvm_vcpu *v)
{
	return v->arch->hv.assist_msr & PAGE_MASK;
}

/* Its first word is KVM's byte of PV EOI: bit 0 says that the EOI may be left out. */
static int set_assist_page(struct kvm_vcpu *v, u64 msr)
{
	u64 eoi = msr & HV_MSR_ENABLE ? msr & PAGE_MASK : 0;
	u32 none = 0;

	if (msr & HV_MSR_ENABLE && vcpu_write_guest(v, eoi, &none, sizeof(none)))
		return -EINVAL;
	v->arch->hv.assist_msr = msr;
	return lapic_set_pv_eoi(v, msr & HV_MSR_ENABLE ? eoi | KVM_MSR_ENABLED : 0);
}

bool hv_read_assist(struct kvm_vcpu *v, struct hv_assist_nested *a)
{
	return v->arch->hv.assist_msr & HV_MSR_ENABLE &&
	       !vcpu_read_guest(v, assist_gpa(v) + HV_ASSIST_NESTED_CONTROL, a, sizeof(*a));
}

/* ---- The hypercall page ---- */

/* What the guest calls: VMCALL (of whatever vendor) and RET. */
static int write_hypercall_page(struct kvm_vcpu *v, gpa_t gpa)
{
	u8 code[4] = {0, 0, 0, 0xc3};

	v->kvm->ops->patch_hypercall(v, code);
	return vcpu_write_guest(v, gpa, code, sizeof(code)) ? -EINVAL : 0;
}

static int set_hypercall(struct kvm_vcpu *v, u64 msr)
{
	struct hv_vm *hv = &v->kvm->arch->hv;

	/* Without an identity the guest has no page. */
	if (!hv->guest_os_id)
		return 0;
	if (msr & HV_MSR_ENABLE && write_hypercall_page(v, msr & PAGE_MASK))
		return -EINVAL;
	hv->hypercall = msr;
	return 0;
}

/* ---- MSRs ---- */

static unsigned apic_register(u32 index)
{
	return index == HV_MSR_EOI ? APIC_EOI : index == HV_MSR_ICR ? APIC_ICR : APIC_TASKPRI;
}

int hv_get_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct hv_vm *hv = &v->kvm->arch->hv;

	switch (m->index) {
	case HV_MSR_GUEST_OS_ID:
	case HV_MSR_HYPERCALL:
		pthread_mutex_lock(&hv->lock);
		m->data = m->index == HV_MSR_HYPERCALL ? hv->hypercall : hv->guest_os_id;
		pthread_mutex_unlock(&hv->lock);
		return 0;
	case HV_MSR_VP_INDEX: m->data = v->arch->hv.vp_index; return 0;
	case HV_MSR_VP_ASSIST_PAGE: m->data = v->arch->hv.assist_msr; return 0;
	case HV_MSR_ICR:
	case HV_MSR_TPR: return lapic_hv_read(v, apic_register(m->index), &m->data);
	}
	return -EINVAL; /* HV_MSR_EOI can only be written */
}

int hv_set_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	struct hv_vm *hv = &v->kvm->arch->hv;
	int ret = 0;

	switch (m->index) {
	case HV_MSR_GUEST_OS_ID:
	case HV_MSR_HYPERCALL:
		pthread_mutex_lock(&hv->lock);
		if (m->index == HV_MSR_HYPERCALL) {
			ret = set_hypercall(v, m->data);
		} else {
			/* Read by others without the lock. */
			__atomic_store_n(&hv->guest_os_id, m->data, __ATOMIC_RELAXED);
			if (!m->data)
				hv->hypercall &= ~HV_MSR_ENABLE;
		}
		pthread_mutex_unlock(&hv->lock);
		return ret;
	case HV_MSR_VP_INDEX:
		if (m->data >= KVM_MAX_VCPUS)
			return -EINVAL;
		__atomic_store_n(&v->arch->hv.vp_index, (u32)m->data, __ATOMIC_RELAXED);
		return 0;
	case HV_MSR_VP_ASSIST_PAGE: return set_assist_page(v, m->data);
	case HV_MSR_EOI:
	case HV_MSR_ICR:
	case HV_MSR_TPR: return lapic_hv_write(v, apic_register(m->index), m->data);
	}
	return -EINVAL;
}

/* ---- KVM_GET_SUPPORTED_HV_CPUID ---- */

/* Do two threads of a core never belong to two guests? Only where no core has two. */
static bool no_core_sharing(void)
{
	char line[16] = "";
	FILE *f = fopen("/sys/devices/system/cpu/smt/control", "re");

	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	return !strncmp(line, "forceoff", 8) || !strncmp(line, "notsupported", 12);
}

static void put_text(struct kvm_cpuid_entry2 *e, const char text[12])
{
	memcpy(&e->ebx, text, 4);
	memcpy(&e->ecx, text + 4, 4);
	memcpy(&e->edx, text + 8, 4);
}

/* @evmcs: versions of the enlightened VMCS; 0: none. */
static void fill_leaf(struct kvm_cpuid_entry2 *e, u32 leaf, u16 evmcs)
{
	*e = (struct kvm_cpuid_entry2){.function = leaf};
	switch (leaf) {
	case HV_CPUID_VENDOR:
	case HV_CPUID_STACK_VENDOR:
		e->eax = HV_CPUID_STACK_PROPERTIES;
		put_text(e, "Linux KVM Hv");
		break;
	case HV_CPUID_INTERFACE: e->eax = HV_INTERFACE_SIGNATURE; break;
	case HV_CPUID_STACK_INTERFACE: e->eax = HV_STACK_INTERFACE_SIGNATURE; break;
	case HV_CPUID_VERSION: /* build 14393 of 10.0, whose interface this is */
		e->eax = 14393;
		e->ebx = 10 << 16;
		break;
	case HV_CPUID_FEATURES:
		e->eax = kvm_cpu_cap_word(leaf, 0, CPUID_EAX);
		e->edx = kvm_cpu_cap_word(leaf, 0, CPUID_EDX);
		break;
	case HV_CPUID_ENLIGHTENMENTS:
		e->eax = kvm_cpu_cap_word(leaf, 0, CPUID_EAX);
		if (no_core_sharing())
			e->eax |= 1u << 18;
		if (evmcs)
			e->eax |= 1u << 14; /* FEAT_HV_ENLIGHTENED_VMCS */
		/* How often a guest tries a spin lock before it tells us: never. */
		e->ebx = ~0u;
		break;
	case HV_CPUID_LIMITS: /* virtual and logical processors */
		e->eax = KVM_MAX_VCPUS;
		e->ebx = 64;
		break;
	case HV_CPUID_NESTED: e->eax = kvm_cpu_cap_word(leaf, 0, CPUID_EAX) | evmcs; break;
	}
}

static int supported(struct kvm_cpuid_entry2 *ents, u32 *n, u16 evmcs)
{
	static const u32 leaves[] = {HV_CPUID_VENDOR,	       HV_CPUID_INTERFACE,
				     HV_CPUID_VERSION,	       HV_CPUID_FEATURES,
				     HV_CPUID_ENLIGHTENMENTS,  HV_CPUID_LIMITS,
				     HV_CPUID_NESTED,	       HV_CPUID_STACK_VENDOR,
				     HV_CPUID_STACK_INTERFACE, HV_CPUID_STACK_PROPERTIES};

	if (*n < ARRAY_SIZE(leaves))
		return -E2BIG;
	for (unsigned i = 0; i < ARRAY_SIZE(leaves); i++)
		fill_leaf(&ents[i], leaves[i], evmcs);
	*n = ARRAY_SIZE(leaves);
	return 0;
}

int sys_get_supported_hv_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n)
{
	struct kvm_params p;

	params_snapshot(&p);
	return supported(ents, n, p.kvm_intel_nested ? vmx_x86_ops.nested->evmcs_version(NULL) : 0);
}

int vcpu_get_supported_hv_cpuid(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 *n)
{
	return supported(ents, n, v->kvm->ops->nested ? v->kvm->ops->nested->evmcs_version(v) : 0);
}
