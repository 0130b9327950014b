/* SPDX-License-Identifier: MIT */
/* What CPUID can offer: the hardware's leaves through the rows of cpuid.def, and KVM's own. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/clock.h"
#include "core/cpuid.h"
#include "core/params.h"
#include "spec/abi/kvm_para.h"

/* ---- The hardware, asked without a VM ---- */

static pthread_once_t host_once = PTHREAD_ONCE_INIT;
static struct sil_machine *host_machine;

static u64 no_tsc(void *opaque)
{
	return 0;
}

static void no_timer(void *opaque, struct sil_cpu *cpu, u64 tsc) {}

static bool owns_nothing(void *opaque, u64 hva)
{
	return false;
}

static u64 no_random(void *opaque)
{
	return 0;
}

/* No processor of this machine ever runs. */
static void host_init(void)
{
	static const struct sil_host host = {no_tsc, no_timer, owns_nothing, no_random};
	struct kvm_params p;
	struct sil_config cfg = {.host = &host};

	params_snapshot(&p);
	cfg.vendor = (enum sil_vendor)p.kvmless_vendor;
	cfg.engine = SIL_ENGINE_INTERP;
	cfg.tsc_khz = clock_khz(p.kvmless_tsc_khz);
	if (sil_machine_create(&cfg, &host_machine))
		host_machine = NULL;
}

void kvm_host_cpuid(u32 leaf, u32 subleaf, u32 out[4])
{
	pthread_once(&host_once, host_init);
	if (host_machine)
		sil_cpuid(host_machine, leaf, subleaf, out);
	else
		memset(out, 0, 4 * sizeof(u32));
}

int kvm_host_rdmsr(u32 index, u64 *val)
{
	pthread_once(&host_once, host_init);
	return host_machine ? sil_rdmsr(host_machine, index, val) : -EINVAL;
}

/* ---- Policy ---- */

enum policy { HW, EMU, TDP, NESTED, LIVE, OWN };

struct feature_row {
	u32 leaf;
	u8 subleaf, reg, bit, policy;
};
static const struct feature_row features[FEAT_N] = {
#define FEATURE(name, leaf, subleaf, reg, bit, policy) {leaf, subleaf, CPUID_##reg, bit, policy},
#include "core/cpuid.def"
};

bool kvm_cpu_cap_has(enum cpu_feature f)
{
	const struct feature_row *r = &features[f];
	struct kvm_params p;
	u32 out[4];

	switch (r->policy) {
	case EMU: return true;
	case HW: break;
	case TDP:
		params_snapshot(&p);
		if (!p.kvm_intel_ept)
			return false;
		break;
	case NESTED:
		params_snapshot(&p);
		if (!p.kvm_intel_nested)
			return false;
		break;
	default: return false;
	}
	kvm_host_cpuid(r->leaf, r->subleaf, out);
	return out[r->reg] >> r->bit & 1;
}

u32 kvm_cpu_cap_word(u32 leaf, u32 subleaf, enum cpuid_reg reg)
{
	u32 word = 0;

	for (unsigned f = 0; f < FEAT_N; f++) {
		const struct feature_row *r = &features[f];

		if (r->leaf == leaf && r->subleaf == subleaf && r->reg == reg &&
		    kvm_cpu_cap_has((enum cpu_feature)f))
			word |= 1u << r->bit;
	}
	return word;
}

u64 kvm_supported_xcr0(void)
{
	u32 out[4];

	kvm_host_cpuid(0xd, 0, out);
	return out[CPUID_EAX] | (u64)out[CPUID_EDX] << 32;
}

/* ---- KVM_GET_SUPPORTED_CPUID ---- */

struct list {
	struct kvm_cpuid_entry2 *ents;
	u32 n, max;
	struct kvm_cpuid_entry2 spill; /* once it is full */
};

/* The hardware's answer as the next entry; if the list is full it is only counted. */
static struct kvm_cpuid_entry2 *add(struct list *l, u32 leaf, u32 subleaf, bool indexed)
{
	struct kvm_cpuid_entry2 *e = l->n < l->max ? &l->ents[l->n] : &l->spill;
	u32 out[4];

	l->n++;
	memset(e, 0, sizeof(*e));
	kvm_host_cpuid(leaf, subleaf, out);
	e->function = leaf;
	e->index = subleaf;
	e->flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
	e->eax = out[CPUID_EAX];
	e->ebx = out[CPUID_EBX];
	e->ecx = out[CPUID_ECX];
	e->edx = out[CPUID_EDX];
	return e;
}

static void add_cache_leaf(struct list *l)
{
	for (u32 i = 0; i < 16; i++)
		if (!(add(l, 4, i, true)->eax & 0x1f))
			break;
}

static void add_feature_leaf(struct list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, 7, 0, true);
	u32 max = MIN(e->eax, 1u);

	e->eax = max;
	e->ebx = kvm_cpu_cap_word(7, 0, CPUID_EBX);
	e->ecx = kvm_cpu_cap_word(7, 0, CPUID_ECX);
	e->edx = kvm_cpu_cap_word(7, 0, CPUID_EDX);
	if (max < 1)
		return;
	e = add(l, 7, 1, true);
	e->eax = kvm_cpu_cap_word(7, 1, CPUID_EAX);
	e->ebx = e->ecx = 0;
	e->edx = kvm_cpu_cap_word(7, 1, CPUID_EDX);
}

static void add_xsave_leaf(struct list *l)
{
	u64 xcr0 = kvm_supported_xcr0();
	struct kvm_cpuid_entry2 *e = add(l, 0xd, 0, true);

	e->eax = (u32)xcr0;
	e->edx = (u32)(xcr0 >> 32);
	e->ebx = e->ecx = isa_xsave_size(xcr0, false);
	if (!xcr0)
		return;
	e = add(l, 0xd, 1, true);
	e->eax = kvm_cpu_cap_word(0xd, 1, CPUID_EAX);
	e->ebx = e->eax & 0xa ? isa_xsave_size(xcr0, true) : 0; /* XSAVEC or XSAVES */
	e->ecx = e->edx = 0;
	for (u32 i = 2; i < 64; i++) {
		if (!(xcr0 >> i & 1))
			continue;
		e = add(l, 0xd, i, true);
		e->ecx &= ~1u; /* not of XSS */
		e->edx = 0;
	}
}

static void add_basic(struct list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, 0, 0, false);
	u32 max = e->eax = MIN(e->eax, 0x1fu);

	for (u32 leaf = 1; leaf <= max; leaf++) {
		switch (leaf) {
		case 1:
			e = add(l, leaf, 0, false);
			e->ecx = kvm_cpu_cap_word(1, 0, CPUID_ECX);
			e->edx = kvm_cpu_cap_word(1, 0, CPUID_EDX);
			break;
		case 2: add(l, leaf, 0, false); break;
		case 4: add_cache_leaf(l); break;
		case 6:
			e = add(l, leaf, 0, false);
			e->eax = kvm_cpu_cap_word(6, 0, CPUID_EAX);
			e->ebx = e->ecx = e->edx = 0;
			break;
		case 7: add_feature_leaf(l); break;
		case 0xb:
		case 0x1f:
			/* The topology is user space's to say. */
			e = add(l, leaf, 0, true);
			e->eax = e->ebx = e->ecx = e->edx = 0;
			break;
		case 0xd: add_xsave_leaf(l); break;
		default:
			e = add(l, leaf, 0, false);
			e->eax = e->ebx = e->ecx = e->edx = 0;
			break;
		}
	}
}

static void add_kvm(struct list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, KVM_CPUID_SIGNATURE, 0, false);
	u32 sig[3];

	memcpy(sig, KVM_SIGNATURE, sizeof(sig));
	e->eax = KVM_CPUID_FEATURES;
	e->ebx = sig[0];
	e->ecx = sig[1];
	e->edx = sig[2];
	e = add(l, KVM_CPUID_FEATURES, 0, false);
	e->eax = kvm_cpu_cap_word(KVM_CPUID_FEATURES, 0, CPUID_EAX);
	e->ebx = e->ecx = e->edx = 0;
}

static void add_extended(struct list *l)
{
	struct kvm_cpuid_entry2 *e = add(l, 0x80000000, 0, false);
	u32 max = e->eax = MIN(e->eax, 0x80000008u);

	for (u32 leaf = 0x80000001; leaf <= max; leaf++) {
		e = add(l, leaf, 0, false);
		switch (leaf) {
		case 0x80000001:
			e->ecx = kvm_cpu_cap_word(leaf, 0, CPUID_ECX);
			e->edx = kvm_cpu_cap_word(leaf, 0, CPUID_EDX);
			break;
		case 0x80000007:
			e->eax = e->ebx = e->ecx = 0;
			e->edx = kvm_cpu_cap_word(leaf, 0, CPUID_EDX);
			break;
		case 0x80000008:
			e->ebx = kvm_cpu_cap_word(leaf, 0, CPUID_EBX);
			e->ecx = e->edx = 0;
			break;
		default: break;
		}
	}
}

int sys_get_supported_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n)
{
	struct list l = {.ents = ents, .max = *n};

	add_basic(&l);
	add_extended(&l);
	add_kvm(&l);
	if (l.n > l.max)
		return -E2BIG;
	*n = l.n;
	return 0;
}

/* Instructions that KVM emulates although the processor has not got them. */
int sys_get_emulated_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n)
{
	struct list l = {.ents = ents, .max = *n};
	struct kvm_cpuid_entry2 *e;

	e = add(&l, 0, 0, false);
	e->eax = 7;
	e->ebx = e->ecx = e->edx = 0;
	e = add(&l, 1, 0, false);
	e->eax = e->ebx = e->edx = 0;
	e->ecx = 1u << features[FEAT_MOVBE].bit;
	e = add(&l, 7, 0, true);
	e->eax = e->ebx = e->ecx = e->edx = 0;
	if (l.n > l.max)
		return -E2BIG;
	*n = l.n;
	return 0;
}

/* ---- For cpuid_guest.c ---- */

/* KVM's leaves have made room where the guest is given Hyper-V's. */
static struct kvm_cpuid_entry2 *entry_of(const struct kvm_vcpu *v, const struct feature_row *r)
{
	if (r->leaf != KVM_CPUID_FEATURES)
		return kvm_find_cpuid_entry(v, r->leaf, r->subleaf);
	return v->arch->kvm_cpuid_base
		       ? kvm_find_cpuid_entry(v, v->arch->kvm_cpuid_base + 1, r->subleaf)
		       : NULL;
}

bool cpuid_feature_set(const struct kvm_vcpu *v, enum cpu_feature f)
{
	const struct feature_row *r = &features[f];
	const struct kvm_cpuid_entry2 *e = entry_of(v, r);

	if (!e)
		return false;
	return (&e->eax)[r->reg] >> r->bit & 1;
}

void cpuid_feature_change(struct kvm_vcpu *v, enum cpu_feature f, bool on)
{
	const struct feature_row *r = &features[f];
	struct kvm_cpuid_entry2 *e = entry_of(v, r);
	u32 *word;

	if (!e)
		return;
	word = &e->eax + r->reg;
	*word = on ? *word | 1u << r->bit : *word & ~(1u << r->bit);
}
