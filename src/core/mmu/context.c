/* SPDX-License-Identifier: MIT */
/* MMU contexts: life, and what the guest's registers mean for them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"
#include "spec/msr.h"
#include "spec/vmx.h"

bool mmu_is_tdp(const struct kvm_mmu *mmu)
{
	return mmu->root_role.direct && mmu->root_role.level > 3;
}

/* ---- VM ---- */

/* Fewest pages, and pages per thousand guest pages, that tables may take. */
#define MIN_PAGES    64u
#define PER_THOUSAND 20u

void mmu_update_limit(struct kvm *kvm)
{
	struct mmu_vm *m = kvm->mmu;
	u64 by_slots = kvm_memslots_pages(kvm) * PER_THOUSAND / 1000;

	m->max = m->requested ? m->requested : MAX(by_slots, MIN_PAGES);
}

static void init_paging_mode(struct kvm *kvm)
{
	const struct kvm_params *p = &kvm->arch->params;
	struct mmu_vm *m = kvm->mmu;
	u64 cap = 0;
	u32 r[4] = {0};

	sil_cpuid(kvm->machine, 0x80000008, 0, r);
	m->maxphyaddr = r[0] & 0xff ? MIN(r[0] & 0xff, 52) : 52;
	if (!p->kvm_intel_ept || sil_rdmsr(kvm->machine, MSR_IA32_VMX_EPT_VPID_CAP, &cap) ||
	    !(cap & VMX_EPT_PAGE_WALK_4))
		return;
	m->ept = true;
	m->ept_ad = p->kvm_intel_eptad && cap & VMX_EPT_AD;
	/* Four levels cover 48 bits; a fifth costs a load in each walk. */
	m->tdp_level = m->maxphyaddr > 48 && cap & VMX_EPT_PAGE_WALK_5 ? 5 : 4;
	if (m->tdp_level == 4)
		m->maxphyaddr = MIN(m->maxphyaddr, 48u);
}

int mmu_vm_init(struct kvm *kvm)
{
	struct mmu_vm *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->active.next = m->active.prev = &m->active;
	kvm->mmu = m;
	m->maxphyaddr = 48;
	if (kvm->machine)
		init_paging_mode(kvm);
	mmu_update_limit(kvm);
	return 0;
}

void mmu_vm_destroy(struct kvm *kvm)
{
	if (!kvm->mmu)
		return;
	pthread_mutex_lock(&kvm->mmu_lock);
	pages_free_all(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
	free(kvm->mmu);
	kvm->mmu = NULL;
}

u64 mmu_pages_used(struct kvm *kvm)
{
	return __atomic_load_n(&kvm->mmu->used, __ATOMIC_RELAXED);
}

int vm_set_nr_mmu_pages(struct kvm *kvm, unsigned long n)
{
	if (n < MIN_PAGES)
		return -EINVAL;
	pthread_mutex_lock(&kvm->slots_lock);
	pthread_mutex_lock(&kvm->mmu_lock);
	kvm->mmu->requested = n;
	mmu_update_limit(kvm);
	pages_make_room(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
	pthread_mutex_unlock(&kvm->slots_lock);
	return 0;
}

int vm_get_nr_mmu_pages(struct kvm *kvm)
{
	return (int)__atomic_load_n(&kvm->mmu->max, __ATOMIC_RELAXED);
}

/* ---- Roles ---- */

/* What the guest's registers say about its paging. */
static union mmu_cpu_role guest_role(struct kvm_vcpu *v)
{
	u64 cr0 = kvm_read_cr0(v), cr4 = kvm_read_cr4(v), efer = kvm_efer_read(v);
	union mmu_cpu_role r = {.word = 0};
	bool wp = cr0 & CR0_WP;

	r.valid = 1;
	r.maxphyaddr = v->arch->maxphyaddr ? MIN(v->arch->maxphyaddr, 52u) : 36;
	r.base.access = ACC_ALL;
	r.base.as_id = kvm_is_smm(v);
	if (!(cr0 & CR0_PG)) {
		r.base.direct = 1;
		return r;
	}
	r.cr0_pg = 1;
	r.base.efer_nx = !!(efer & EFER_NXE);
	r.base.cr0_wp = wp;
	r.base.smep_andnot_wp = (cr4 & CR4_SMEP) && !wp;
	r.base.smap_andnot_wp = (cr4 & CR4_SMAP) && !wp;
	r.base.gpte4 = !(cr4 & CR4_PAE);
	r.cr4_pse = !!(cr4 & CR4_PSE);
	r.cr4_smep = !!(cr4 & CR4_SMEP);
	r.cr4_smap = !!(cr4 & CR4_SMAP);
	r.efer_lma = !!(efer & EFER_LMA);
	if (efer & EFER_LMA) {
		r.cr4_la57 = !!(cr4 & CR4_LA57);
		r.cr4_pke = !!(cr4 & CR4_PKE);
		r.base.level = cr4 & CR4_LA57 ? 5 : 4;
	} else {
		r.base.level = cr4 & CR4_PAE ? 3 : 2;
	}
	return r;
}

static union mmu_page_role tdp_root_role(struct kvm_vcpu *v)
{
	const struct mmu_vm *m = v->kvm->mmu;
	union mmu_page_role r = {.word = 0};

	r.level = (u32)m->tdp_level & 0xf;
	r.direct = 1;
	r.access = ACC_ALL;
	r.ept = m->ept;
	r.ad_disabled = m->ept && !m->ept_ad;
	r.as_id = kvm_is_smm(v);
	return r;
}

/*
 * With shadow paging the hardware has at least the PAE format, NX always on: the role says how
 * entries look, and with the guest's bits what they were made from.
 */
static union mmu_page_role shadow_root_role(union mmu_cpu_role cpu)
{
	union mmu_page_role r = cpu.base;

	r.level = MAX(r.level, 3);
	r.efer_nx = 1;
	return r;
}

/* How the guest's tables are walked follows from the role alone. */
static void set_cpu_role(struct kvm_vcpu *v, struct kvm_mmu *mmu, union mmu_cpu_role role)
{
	if (mmu->cpu_role.word == role.word)
		return;
	mmu->cpu_role = role;
	mmu_init_walk(v, mmu);
}

static void init_root_mmu(struct kvm_vcpu *v)
{
	struct kvm_mmu *mmu = &v->mmu->root_mmu;

	set_cpu_role(v, mmu, guest_role(v));
	mmu->root_role =
		v->kvm->mmu->tdp_level ? tdp_root_role(v) : shadow_root_role(mmu->cpu_role);
}

void mmu_reset_context(struct kvm_vcpu *v)
{
	struct kvm_mmu *mmu = &v->mmu->root_mmu;
	union mmu_page_role old = mmu->root_role;
	union mmu_cpu_role old_cpu = mmu->cpu_role;

	if (v->mmu->mmu != mmu) {
		/* The registers are an L2's; neither its hypervisor's context nor the tables that
		 * it runs on hang on them. */
		set_cpu_role(v, &v->mmu->nested_mmu, guest_role(v));
		return;
	}
	init_root_mmu(v);
	/* Bits that are in no page's role (CR4.PSE, ...) only matter to shadowed tables. */
	if (old.word == mmu->root_role.word && !mmu->root_role.direct &&
	    old_cpu.word != mmu->cpu_role.word) {
		mmu_free_roots(v, mmu, MMU_ROOTS_CURRENT);
		kvm_make_request(v, REQ_MMU_RELOAD);
		return;
	}
	if (old.word == mmu->root_role.word)
		return;
	/*
	 * Roots of 64-bit guests stay cached: the role in each tells them apart. Any other new role
	 * has PDPTEs, which are not looked up: the current root goes.
	 */
	if (mmu->root_role.level < 4)
		mmu_free_roots(v, mmu, MMU_ROOTS_CURRENT);
	mmu_new_pgd(v, mmu->root_role.direct ? 0 : kvm_read_cr3(v));
}

/* ---- L2 on EPT12 ---- */

static gpa_t ept12_pgd(struct kvm_vcpu *v)
{
	return v->mmu->eptp12;
}

static union mmu_cpu_role ept12_role(struct kvm_vcpu *v, u64 eptp, unsigned how)
{
	union mmu_cpu_role r = {.word = 0};

	r.valid = 1;
	r.maxphyaddr = v->arch->maxphyaddr ? MIN(v->arch->maxphyaddr, 52u) : 36;
	r.base.ept = 1;
	r.base.guest_mode = 1;
	r.base.level = (eptp & BITS(5, 3)) == EPTP_WALK_5 ? 5 : 4;
	r.base.access = how & EPT12_MBEC ? ACC_ALL | ACC_EXEC_USER : ACC_ALL;
	r.base.ept_mbec = !!(how & EPT12_MBEC);
	r.base.ept_execonly = !!(how & EPT12_EXECONLY);
	/* The processor's tables have accessed and dirty flags if the guest hypervisor's have:
	 * they also decide how the processor's own accesses to L2's page tables count. */
	r.base.ad_disabled = !(eptp & EPTP_AD);
	r.base.as_id = kvm_is_smm(v);
	return r;
}

void mmu_enter_ept12(struct kvm_vcpu *v, u64 eptp, unsigned how)
{
	struct vcpu_mmu *m = v->mmu;
	struct kvm_mmu *mmu = &m->guest_mmu;
	union mmu_cpu_role role = ept12_role(v, eptp, how);

	m->eptp12 = eptp;
	m->mmu = mmu;
	m->walk_mmu = &m->nested_mmu;
	if (mmu->cpu_role.word != role.word) {
		mmu->cpu_role = role;
		mmu->root_role = role.base;
		mmu_init_walk(v, mmu);
		base_log(LOG_INFO, "vCPU %u: L2 on EPT with %u levels%s%s", v->id, role.base.level,
			 role.base.ad_disabled ? "" : ", accessed and dirty flags",
			 role.base.ept_mbec ? ", mode-based execute control" : "");
	}
	root_switch(v, mmu, eptp);
}

void mmu_leave_ept12(struct kvm_vcpu *v)
{
	struct vcpu_mmu *m = v->mmu;

	if (m->mmu == &m->root_mmu)
		return;
	m->mmu = m->walk_mmu = &m->root_mmu;
	/* Its VMCS has the root it had, unless that was dropped meanwhile. */
	kvm_make_request(v, REQ_LOAD_MMU_PGD);
}

/* ---- vCPU ---- */

static gpa_t root_guest_pgd(struct kvm_vcpu *v)
{
	return kvm_read_cr3(v);
}

static u64 root_pdptr(struct kvm_vcpu *v, unsigned i)
{
	return kvm_pdptr_read(v, i);
}

static void inject_guest_fault(struct kvm_vcpu *v, const struct guest_fault *f)
{
	kvm_inject_page_fault(v, f->addr, f->error);
}

int mmu_vcpu_create(struct kvm_vcpu *v)
{
	struct vcpu_mmu *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	v->mmu = m;
	m->mmu = m->walk_mmu = &m->root_mmu;
	roots_init(&m->root_mmu);
	roots_init(&m->guest_mmu);
	roots_init(&m->nested_mmu);
	m->root_mmu.get_guest_pgd = root_guest_pgd;
	m->root_mmu.get_pdptr = root_pdptr;
	m->root_mmu.inject_fault = inject_guest_fault;
	m->guest_mmu.get_guest_pgd = ept12_pgd;
	m->guest_mmu.inject_fault = inject_guest_fault;
	m->nested_mmu.inject_fault = inject_guest_fault;
	m->nested_mmu.get_guest_pgd = root_guest_pgd;
	m->nested_mmu.get_pdptr = root_pdptr;
	return 0;
}

void mmu_vcpu_free(struct kvm_vcpu *v)
{
	if (!v->mmu)
		return;
	mmu_unload(v);
	free(v->mmu);
	v->mmu = NULL;
}
