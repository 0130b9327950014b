/* SPDX-License-Identifier: MIT */
/* The life of VMs and vCPUs. docs/locking.md has the locks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/guard.h"
#include "core/clock.h"
#include "core/cpuid.h"
#include "core/deterministic.h"
#include "core/emulate/emulate.h"
#include "core/gmem.h"
#include "core/hyperv.h"
#include "core/irqchip/irqchip.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/msr.h"
#include "core/pv.h"
#include "core/service.h"
#include "core/tsc.h"
#include "core/vcpu.h"

/* ---- What the processor needs of us ---- */

static u64 host_tsc(void *opaque)
{
	return kvm_machine_tsc(opaque);
}

static void sil_timer_fn(struct ktimer *t)
{
	struct vcpu_arch *a = container_of(t, struct vcpu_arch, sil_timer);

	sil_cpu_timer(a->vcpu->cpu);
}

static void host_arm_timer(void *opaque, struct sil_cpu *cpu, u64 tsc)
{
	struct kvm *kvm = opaque;
	struct kvm_vcpu *v;

	kvm_for_each_vcpu(v, kvm)
	{
		if (v->cpu != cpu)
			continue;
		if (tsc == ~0ull)
			ktimer_cancel(&v->arch->sil_timer);
		else
			ktimer_arm(&v->arch->sil_timer, kvm_machine_tsc_to_ns(kvm, tsc));
		return;
	}
}

static u64 host_random(void *opaque)
{
	u64 r = 0;

	while (getrandom(&r, sizeof(r), 0) != sizeof(r))
		;
	return r;
}

u64 kvm_random(struct kvm *kvm)
{
	if (kvm->clock.deterministic)
		return deterministic_random(kvm);
	return host_random(kvm);
}

static u64 machine_random(void *opaque)
{
	return kvm_random(opaque);
}

static const struct sil_host sil_host = {
	.tsc = host_tsc,
	.arm_timer = host_arm_timer,
	.owns_hva = kvm_owns_hva,
	.random = machine_random,
};

/* ---- VM ---- */

static const struct kvm_x86_ops *vendor_ops(u32 vendor)
{
	return vendor == SIL_INTEL ? &vmx_x86_ops : NULL;
}

static void vm_free(struct kvm *kvm)
{
	free(kvm->arch);
	free(kvm);
}

static void vm_init_locks(struct kvm *kvm)
{
	pthread_mutex_init(&kvm->lock, NULL);
	pthread_mutex_init(&kvm->slots_lock, NULL);
	pthread_mutex_init(&kvm->irq_lock, NULL);
	pthread_mutex_init(&kvm->mmu_lock, NULL);
	pthread_mutex_init(&kvm->arch->tsc_lock, NULL);
}

static void vm_destroy_locks(struct kvm *kvm)
{
	pthread_mutex_destroy(&kvm->lock);
	pthread_mutex_destroy(&kvm->slots_lock);
	pthread_mutex_destroy(&kvm->irq_lock);
	pthread_mutex_destroy(&kvm->mmu_lock);
	pthread_mutex_destroy(&kvm->arch->tsc_lock);
}

static int vm_create_machine(struct kvm *kvm)
{
	struct sil_config cfg = {
		.vendor = (enum sil_vendor)kvm->arch->params.kvmless_vendor,
		.engine = (enum sil_engine)kvm->arch->params.kvmless_engine,
		.tsc_khz = kvm->clock.khz,
		.code_cache_mb = (u32)kvm->arch->params.kvmless_code_cache_mb,
		.translate_after = (u32)kvm->arch->params.kvmless_translate_after,
		.tsc_native = kvm->clock.native,
		.exact_stops = kvm->clock.deterministic,
		.tlb_sticky = kvm->arch->params.kvmless_tlb_sticky,
		.host = &sil_host,
		.host_opaque = kvm,
	};

	return sil_machine_create(&cfg, &kvm->machine);
}

int kvm_create_vm(unsigned long type, struct kvm **out)
{
	struct kvm *kvm;
	struct kvm_arch *ka;
	int ret = -ENOMEM;

	if (!kvm_vm_type_supported(type))
		return -EINVAL;
	guard_install();
	kvm = calloc(1, sizeof(*kvm));
	if (!kvm)
		return -ENOMEM;
	ka = kvm->arch = calloc(1, sizeof(*kvm->arch));
	if (!ka) {
		free(kvm);
		return -ENOMEM;
	}
	kvm->refs = 1;
	kvm->type = type;
	params_snapshot(&ka->params);
	if (ka->params.kvmless_deterministic)
		deterministic_init(kvm);
	else
		kvm_clock_init(kvm, ka->params.kvmless_tsc_khz);
	ka->default_tsc_khz = kvm->clock.khz;
	ka->trace_vm = trace_new_vm();
	ka->guest_can_read_msr_platform_info = true;
	ka->max_vcpu_ids = KVM_MAX_VCPU_IDS;
	ka->max_halt_poll_ns = ka->params.kvm_halt_poll_ns;
	vm_init_locks(kvm);
	kvm->ops = vendor_ops(ka->params.kvmless_vendor);
	if (!kvm->ops) {
		ret = -EOPNOTSUPP;
		goto err_locks;
	}
	ret = vm_create_machine(kvm);
	if (ret)
		goto err_locks;
	ret = service_create(kvm, &kvm->service);
	if (ret)
		goto err_machine;
	kvm_clock_vm_init(kvm);
	hv_vm_init(kvm);
	ret = memslots_init(kvm);
	if (ret)
		goto err_service;
	ret = mmu_vm_init(kvm);
	if (ret)
		goto err_slots;
	ret = irqchip_vm_init(kvm);
	if (ret)
		goto err_mmu;
	ret = kvm->ops->vm_init(kvm);
	if (ret)
		goto err_irqchip;
	*out = kvm;
	return 0;

err_irqchip:
	irqchip_vm_destroy(kvm);
err_mmu:
	mmu_vm_destroy(kvm);
err_slots:
	memslots_destroy(kvm);
err_service:
	service_stop(kvm->service);
err_machine:
	sil_machine_destroy(kvm->machine);
err_locks:
	vm_destroy_locks(kvm);
	vm_free(kvm);
	return ret;
}

static void vcpu_free(struct kvm_vcpu *v)
{
	struct kvm *kvm = v->kvm;

	ktimer_cancel_sync(&v->arch->sil_timer);
	if (v->apic)
		lapic_destroy(v);
	emul_free(v);
	mmu_vcpu_free(v);
	kvm->ops->vcpu_free(v);
	kvm->clock.cpu = NULL;
	sil_cpu_destroy(v->cpu);
	cpuid_vcpu_free(v);
	free(v->arch);
	free(v);
}

static void vm_destroy(struct kvm *kvm)
{
	apf_vm_destroy(kvm);
	irqchip_vm_destroy(kvm);
	/* Giving roots back may flush all processors: they are all still there. */
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		mmu_unload(kvm->vcpus[i]);
	for (unsigned i = 0; i < kvm->nvcpus; i++)
		vcpu_free(kvm->vcpus[i]);
	kvm->nvcpus = 0;
	kvm->ops->vm_destroy(kvm);
	mmu_vm_destroy(kvm);
	memslots_destroy(kvm);
	mem_attrs_free(kvm->arch->mem_attrs);
	service_stop(kvm->service);
	sil_machine_destroy(kvm->machine);
	msr_filter_free(kvm->arch->msr_filter);
	vm_destroy_locks(kvm);
	vm_free(kvm);
}

void kvm_get(struct kvm *kvm)
{
	__atomic_fetch_add(&kvm->refs, 1, __ATOMIC_RELAXED);
}

void kvm_put(struct kvm *kvm)
{
	if (__atomic_sub_fetch(&kvm->refs, 1, __ATOMIC_ACQ_REL) == 0)
		vm_destroy(kvm);
}

/* ---- vCPU ---- */

bool kvm_vcpu_is_bsp(const struct kvm_vcpu *v)
{
	return v->kvm->bsp_id == v->id;
}

static int vcpu_create_parts(struct kvm_vcpu *v)
{
	struct kvm *kvm = v->kvm;
	int ret;

	ret = sil_cpu_create(kvm->machine, &v->cpu);
	if (ret)
		return ret;
	v->hw = sil_regs(v->cpu);
	if (kvm->clock.deterministic)
		kvm->clock.cpu = v->cpu;
	ret = kvm->ops->vcpu_create(v);
	if (ret)
		goto err_cpu;
	ret = mmu_vcpu_create(v);
	if (ret)
		goto err_vendor;
	ret = emul_create(v);
	if (ret)
		goto err_mmu;
	if (kvm_irqchip_in_core(kvm)) {
		ret = lapic_create(v);
		if (ret)
			goto err_emul;
	}
	return 0;

err_emul:
	emul_free(v);
err_mmu:
	mmu_vcpu_free(v);
err_vendor:
	kvm->ops->vcpu_free(v);
err_cpu:
	kvm->clock.cpu = NULL;
	sil_cpu_destroy(v->cpu);
	return ret;
}

static void vcpu_first_state(struct kvm_vcpu *v)
{
	struct vcpu_arch *a = v->arch;

	cpuid_vcpu_init(v);
	msr_vcpu_init(v);
	kvm_tsc_init_vcpu(v);
	kvm_vcpu_reset(v, false);
	mmu_reset_context(v);
	a->user_msr_index = 0;
	if (!kvm_irqchip_in_core(v->kvm) || kvm_vcpu_is_bsp(v))
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	else
		v->mp_state = KVM_MP_STATE_UNINITIALIZED;
}

int vm_create_vcpu(struct kvm *kvm, u32 id, struct kvm_run *run, struct kvm_vcpu **out)
{
	struct kvm_vcpu *v, *other;
	int ret;

	if (id >= kvm->arch->max_vcpu_ids)
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	ret = -EINVAL;
	if (kvm->nvcpus >= KVM_MAX_VCPUS)
		goto out;
	ret = -EEXIST;
	kvm_for_each_vcpu(other, kvm) if (other->id == id) goto out;
	ret = -ENOMEM;
	v = aligned_alloc(64, align_up(sizeof(*v), 64));
	if (!v)
		goto out;
	memset(v, 0, sizeof(*v));
	v->arch = calloc(1, sizeof(*v->arch));
	if (!v->arch)
		goto err_v;
	v->kvm = kvm;
	v->id = id;
	v->idx = kvm->nvcpus;
	v->run = run;
	dirty_ring_init(v);
	v->arch->vcpu = v;
	hv_vcpu_init(v);
	v->regs.avail = REGCACHE_ALL;
	ktimer_init(&v->arch->sil_timer, kvm, sil_timer_fn);
	ret = kvm->clock.deterministic && kvm->nvcpus ? -EINVAL : vcpu_create_parts(v);
	if (ret)
		goto err_arch;
	vcpu_first_state(v);
	kvm->vcpus[v->idx] = v;
	__atomic_store_n(&kvm->nvcpus, v->idx + 1, __ATOMIC_RELEASE);
	kvm_get(kvm);
	VCPU_TRACE(created, v);
	*out = v;
	ret = 0;
	goto out;

err_arch:
	free(v->arch);
err_v:
	free(v);
out:
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

/* The vCPU itself lives as long as its VM: others hold pointers to it, and its id stays taken. */
void kvm_vcpu_put(struct kvm_vcpu *v)
{
	kvm_put(v->kvm);
}

struct kvm *kvm_vcpu_vm(struct kvm_vcpu *v)
{
	return v->kvm;
}

struct sil_cpu *vcpu_silicon(struct kvm_vcpu *v)
{
	return v->cpu;
}

/* ---- Small VM-wide settings ---- */

void kvm_device_wrote(struct kvm *kvm)
{
	sil_code_suspect(kvm->machine);
}

int vm_set_boot_cpu_id(struct kvm *kvm, u32 id)
{
	int ret = 0;

	pthread_mutex_lock(&kvm->lock);
	if (kvm->nvcpus)
		ret = -EBUSY;
	else if (id > KVM_MAX_VCPU_IDS ||
		 (kvm->arch->max_vcpu_ids_set && id > kvm->arch->max_vcpu_ids))
		ret = -EINVAL;
	else
		kvm->bsp_id = id;
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

/* The processor runs real mode by itself: the task segment and the identity map that older hardware
 * needs below 4 GiB are accepted and not used. */
int vm_set_tss_addr(struct kvm *kvm, u64 addr)
{
	if (addr > (u32)(-3 * PAGE_SIZE))
		return -EINVAL;
	kvm->arch->tss_addr = addr;
	return 0;
}

int vm_set_identity_map_addr(struct kvm *kvm, u64 addr)
{
	int ret = -EINVAL;

	pthread_mutex_lock(&kvm->lock);
	if (!kvm->nvcpus) {
		kvm->arch->identity_map_addr = addr ? addr : 0xfffbc000;
		ret = 0;
	}
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}

int vm_create_irqchip(struct kvm *kvm)
{
	int ret;

	pthread_mutex_lock(&kvm->lock);
	if (kvm_irqchip_in_core(kvm))
		ret = -EEXIST;
	else if (kvm->nvcpus)
		ret = -EINVAL;
	else
		ret = irqchip_create(kvm);
	pthread_mutex_unlock(&kvm->lock);
	return ret;
}
