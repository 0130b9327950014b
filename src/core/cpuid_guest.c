/* SPDX-License-Identifier: MIT */
/* The CPUID that user space gave a vCPU, and all that follows from it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/hyperv.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/msr.h"
#include "spec/abi/kvm_para.h"

#define KVM_MAX_CPUID_ENTRIES 256

struct kvm_cpuid_entry2 *kvm_find_cpuid_entry(const struct kvm_vcpu *v, u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < v->arch->ncpuid; i++) {
		struct kvm_cpuid_entry2 *e = &v->arch->cpuid[i];

		if (e->function != leaf)
			continue;
		if (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf)
			return e;
	}
	return NULL;
}

static bool vendor_is(const struct kvm_vcpu *v, const char *text)
{
	const struct kvm_cpuid_entry2 *e = kvm_find_cpuid_entry(v, 0, 0);
	u32 sig[3];

	if (!e)
		return false;
	sig[0] = e->ebx;
	sig[1] = e->edx;
	sig[2] = e->ecx;
	return !memcmp(sig, text, sizeof(sig));
}

bool guest_cpuid_is_intel(const struct kvm_vcpu *v)
{
	return vendor_is(v, "GenuineIntel");
}

bool guest_cpuid_is_amd(const struct kvm_vcpu *v)
{
	return vendor_is(v, "AuthenticAMD") || vendor_is(v, "HygonGenuine");
}

/* ---- The instruction ---- */

/*
 * A leaf above the highest of its class answers like the highest basic leaf (SDM vol. 2A, CPUID) on
 * Intel, and zero on AMD. The classes are basic, extended, and hypervisors', 256 leaves each.
 */
static struct kvm_cpuid_entry2 *out_of_range(const struct kvm_vcpu *v, u32 *leaf, u32 subleaf)
{
	struct kvm_cpuid_entry2 *basic = kvm_find_cpuid_entry(v, 0, 0), *class;
	u32 base;

	if (!basic || guest_cpuid_is_amd(v))
		return NULL;
	if (*leaf >= 0x40000000 && *leaf <= 0x4fffffff)
		base = *leaf & 0xffffff00;
	else if (*leaf >= 0xc0000000)
		base = 0xc0000000;
	else
		base = *leaf & 0x80000000;
	class = kvm_find_cpuid_entry(v, base, 0);
	if (class && *leaf <= class->eax)
		return NULL;
	*leaf = basic->eax;
	return kvm_find_cpuid_entry(v, *leaf, subleaf);
}

void kvm_cpuid(const struct kvm_vcpu *v, u32 out[4], u32 leaf, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *e = kvm_find_cpuid_entry(v, leaf, subleaf);

	if (!e)
		e = out_of_range(v, &leaf, subleaf);
	if (e) {
		out[CPUID_EAX] = e->eax;
		out[CPUID_EBX] = e->ebx;
		out[CPUID_ECX] = e->ecx;
		out[CPUID_EDX] = e->edx;
		return;
	}
	memset(out, 0, 4 * sizeof(u32));
	/* Topology leaves: levels that do not exist still tell the x2APIC ID. */
	if (leaf == 0xb || leaf == 0x1f) {
		e = kvm_find_cpuid_entry(v, leaf, 1);
		if (e) {
			out[CPUID_ECX] = subleaf & 0xff;
			out[CPUID_EDX] = e->edx;
		}
	}
}

int kvm_emulate_cpuid(struct kvm_vcpu *v)
{
	u32 out[4];

	/* IA32_MISC_FEATURES_ENABLES[0]: CPUID faulting. */
	if ((v->arch->misc_features_enables & 1) && !kvm_require_cpl(v, 0))
		return 1;
	kvm_cpuid(v, out, (u32)v->hw->gpr[RAX], (u32)v->hw->gpr[RCX]);
	kvm_register_write_raw(v, RAX, out[CPUID_EAX]);
	kvm_register_write_raw(v, RBX, out[CPUID_EBX]);
	kvm_register_write_raw(v, RCX, out[CPUID_ECX]);
	kvm_register_write_raw(v, RDX, out[CPUID_EDX]);
	return kvm_skip_emulated_instruction(v);
}

/* ---- What follows from it ---- */

void kvm_update_cpuid_runtime(struct kvm_vcpu *v)
{
	struct kvm_cpuid_entry2 *e;

	cpuid_feature_change(v, FEAT_OSXSAVE,
			     guest_cpuid_has(v, FEAT_XSAVE) && kvm_read_cr4_bits(v, CR4_OSXSAVE));
	cpuid_feature_change(v, FEAT_APIC, lapic_get_base(v) & BIT(11));
	if (!kvm_check_has_quirk(v->kvm, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT))
		cpuid_feature_change(v, FEAT_MWAIT, v->arch->misc_enable & BIT(18));
	if (guest_cpuid_has(v, FEAT_PKU))
		cpuid_feature_change(v, FEAT_OSPKE, kvm_read_cr4_bits(v, CR4_PKE));
	/* A halted vCPU is not seen: nobody could be woken. */
	if (v->kvm->arch->hlt_in_guest)
		cpuid_feature_change(v, FEAT_KVM_PV_UNHALT, false);
	e = kvm_find_cpuid_entry(v, 0xd, 0);
	if (e)
		e->ebx = isa_xsave_size(v->hw->xcr0, false);
	e = kvm_find_cpuid_entry(v, 0xd, 1);
	if (e && (e->eax & 0xa))
		e->ebx = isa_xsave_size(v->hw->xcr0 | v->hw->xss, true);
}

/* CR4 bits and the features that make them exist. Until user space has given the guest a CPUID, all
 * that the hardware has (@any). */
static u64 cr4_reserved_bits(const struct kvm_vcpu *v, bool any)
{
	static const struct {
		u64 bit;
		enum cpu_feature feature;
	} rows[] = {
		{CR4_OSXSAVE, FEAT_XSAVE},     {CR4_SMEP, FEAT_SMEP},  {CR4_SMAP, FEAT_SMAP},
		{CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PKE, FEAT_PKU},    {CR4_LA57, FEAT_LA57},
		{CR4_UMIP, FEAT_UMIP},	       {CR4_PCIDE, FEAT_PCID}, {CR4_VMXE, FEAT_VMX},
	};
	u64 reserved = ~(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE |
			 CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if ((any || guest_cpuid_has(v, rows[i].feature)) &&
		    kvm_cpu_cap_has(rows[i].feature))
			reserved &= ~rows[i].bit;
	return reserved;
}

static unsigned cpuid_maxphyaddr(const struct kvm_vcpu *v)
{
	const struct kvm_cpuid_entry2 *e = kvm_find_cpuid_entry(v, 0x80000000, 0);

	if (!e || e->eax < 0x80000008)
		return 36;
	e = kvm_find_cpuid_entry(v, 0x80000008, 0);
	if (!e || !(e->eax & 0xff))
		return 36;
	return MIN(e->eax & 0xff, 52u);
}

/* Every 256 leaves a hypervisor may introduce itself. */
static u32 kvm_cpuid_base(const struct kvm_vcpu *v)
{
	for (u32 i = 0; i < v->arch->ncpuid; i++) {
		const struct kvm_cpuid_entry2 *e = &v->arch->cpuid[i];
		u32 sig[3] = {e->ebx, e->ecx, e->edx};

		if (e->function >= KVM_CPUID_SIGNATURE && e->function < 0x40010000 &&
		    !(e->function & 0xff) && !memcmp(sig, KVM_SIGNATURE, sizeof(sig)))
			return e->function;
	}
	return 0;
}

static void after_set_cpuid(struct kvm_vcpu *v)
{
	struct vcpu_arch *a = v->arch;
	const struct kvm_cpuid_entry2 *e;

	a->kvm_cpuid_base = kvm_cpuid_base(v);
	memset(a->cpuid_bits, 0, sizeof(a->cpuid_bits));
	for (unsigned f = 0; f < FEAT_N; f++)
		if (cpuid_feature_set(v, (enum cpu_feature)f))
			a->cpuid_bits[f / 64] |= BIT(f % 64);
	e = kvm_find_cpuid_entry(v, 0xd, 0);
	a->supported_xcr0 = e ? (e->eax | (u64)e->edx << 32) & kvm_supported_xcr0() : 0;
	a->supported_xss = 0;
	a->maxphyaddr = cpuid_maxphyaddr(v);
	a->reserved_gpa_bits = a->maxphyaddr >= 64 ? 0 : ~0ull << a->maxphyaddr;
	a->cr4_reserved = cr4_reserved_bits(v, false);
	a->va_bits = guest_cpuid_has(v, FEAT_LA57) ? 57 : 48;
	lapic_after_set_cpuid(v, guest_cpuid_has(v, FEAT_X2APIC),
			      guest_cpuid_has(v, FEAT_TSC_DEADLINE_TIMER), a->maxphyaddr);
	hv_after_set_cpuid(v);
	kvm_update_cpuid_runtime(v);
	v->kvm->ops->vcpu_after_set_cpuid(v);
	mmu_reset_context(v);
}

/* ---- ioctls ---- */

static int check_cpuid(const struct kvm_cpuid_entry2 *ents, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		unsigned va_bits;

		if (ents[i].function != 0x80000008)
			continue;
		va_bits = ents[i].eax >> 8 & 0xff;
		if (va_bits != 0 && va_bits != 48 && va_bits != 57)
			return -EINVAL;
		break;
	}
	return 0;
}

/* Takes @ents over. */
static int set_cpuid(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 n)
{
	struct vcpu_arch *a = v->arch;
	struct kvm_cpuid_entry2 *old = a->cpuid;
	u32 old_n = a->ncpuid;
	int ret = check_cpuid(ents, n);

	if (ret)
		goto err;
	a->cpuid = ents;
	a->ncpuid = n;
	if (a->ran) {
		/* A guest that has looked at its CPUID keeps it: only the same again is taken. */
		kvm_update_cpuid_runtime(v);
		ret = n == old_n && (!n || !memcmp(ents, old, n * sizeof(*ents))) ? 0 : -EINVAL;
		a->cpuid = old;
		a->ncpuid = old_n;
		goto err;
	}
	free(old);
	after_set_cpuid(v);
	return 0;

err:
	free(ents);
	return ret;
}

int vcpu_set_cpuid2(struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *ents, u32 n)
{
	struct kvm_cpuid_entry2 *copy = NULL;

	if (n > KVM_MAX_CPUID_ENTRIES)
		return -E2BIG;
	if (n) {
		copy = malloc(n * sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		memcpy(copy, ents, n * sizeof(*copy));
	}
	return set_cpuid(v, copy, n);
}

int vcpu_set_cpuid(struct kvm_vcpu *v, const struct kvm_cpuid_entry *ents, u32 n)
{
	struct kvm_cpuid_entry2 *copy = NULL;

	if (n > KVM_MAX_CPUID_ENTRIES)
		return -E2BIG;
	if (n) {
		copy = calloc(n, sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		for (u32 i = 0; i < n; i++)
			copy[i] = (struct kvm_cpuid_entry2){.function = ents[i].function,
							    .eax = ents[i].eax,
							    .ebx = ents[i].ebx,
							    .ecx = ents[i].ecx,
							    .edx = ents[i].edx};
	}
	return set_cpuid(v, copy, n);
}

int vcpu_get_cpuid2(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 *n)
{
	u32 room = *n;

	*n = v->arch->ncpuid;
	if (room < v->arch->ncpuid)
		return -E2BIG;
	if (*n)
		memcpy(ents, v->arch->cpuid, *n * sizeof(*ents));
	return 0;
}

void cpuid_vcpu_init(struct kvm_vcpu *v)
{
	v->arch->maxphyaddr = 36;
	v->arch->reserved_gpa_bits = ~0ull << 36;
	v->arch->cr4_reserved = cr4_reserved_bits(v, true);
	v->arch->va_bits = 48;
}

void cpuid_vcpu_free(struct kvm_vcpu *v)
{
	free(v->arch->cpuid);
	v->arch->cpuid = NULL;
}
