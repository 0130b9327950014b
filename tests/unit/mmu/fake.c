/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/guard.h"
#include "core/emulate/emulate.h"
#include "spec/msr.h"
#include "spec/vmx.h"

unsigned fake_maxphyaddr = 46;
u64 fake_ept_cap = VMX_EPT_PAGE_WALK_4 | VMX_EPT_2MB_PAGE | VMX_EPT_1GB_PAGE | VMX_EPT_AD;
bool fake_ept = true;
unsigned fake_flushes, fake_emulated;
gpa_t fake_emulated_gpa;

/* ---- Silicon ---- */
void sil_cpuid(const struct sil_machine *m, u32 leaf, u32 subleaf, u32 out[4])
{
	out[0] = fake_maxphyaddr;
	out[1] = out[2] = out[3] = 0;
}

int sil_rdmsr(const struct sil_machine *m, u32 index, u64 *val)
{
	*val = index == MSR_IA32_VMX_EPT_VPID_CAP ? fake_ept_cap : 0;
	return 0;
}

void sil_memory_written(struct sil_machine *m, hva_t hva, u64 len) {}

/* ---- The rest of the core ---- */
void kvm_make_request(struct kvm_vcpu *v, enum kvm_request r)
{
	v->req.pending |= BIT(r);
}

bool kvm_check_request(struct kvm_vcpu *v, enum kvm_request r)
{
	bool was = v->req.pending & BIT(r);

	v->req.pending &= ~BIT(r);
	return was;
}

void kvm_make_all_request_sync(struct kvm *kvm, enum kvm_request r)
{
	fake_flushes++;
}

int apf_touch(struct kvm_vcpu *v, struct memslot *s, gfn_t gfn, hva_t hva, bool write, bool wait)
{
	return guard_touch(hva, write);
}

int kvm_emulate_mmio(struct kvm_vcpu *v, gpa_t gpa, u64 error_code)
{
	fake_emulated++;
	fake_emulated_gpa = gpa;
	return 0;
}

void kvm_inject_page_fault(struct kvm_vcpu *v, u64 addr, u32 error)
{
	v->arch->exception = (struct queued_exception){.pending = true,
						       .vector = X86_PF_VEC,
						       .has_error = true,
						       .error = error,
						       .payload = addr};
}

u64 kvm_get_rflags(struct kvm_vcpu *v)
{
	return v->regs.rflags;
}

u64 kvm_efer_read(const struct kvm_vcpu *v)
{
	return v->arch->efer;
}

static unsigned fake_cpl(struct kvm_vcpu *v)
{
	return v->regs.seg[CS].sel & 3;
}

static void fake_flush_gva(struct kvm_vcpu *v, gva_t gva) {}

static const struct kvm_x86_ops fake_ops = {
	.name = "fake", .get_cpl = fake_cpl, .flush_tlb_gva = fake_flush_gva};

/* ---- The VM ---- */

struct kvm *fake_vm(unsigned nvcpus)
{
	struct kvm *kvm = calloc(1, sizeof(*kvm));

	guard_install();
	fake_flushes = fake_emulated = 0;
	pthread_mutex_init(&kvm->slots_lock, NULL);
	pthread_mutex_init(&kvm->mmu_lock, NULL);
	kvm->arch = calloc(1, sizeof(*kvm->arch));
	kvm->arch->params.kvm_intel_ept = fake_ept;
	kvm->arch->params.kvm_intel_eptad = true;
	kvm->ops = &fake_ops;
	kvm->machine = (struct sil_machine *)kvm;
	assert_int_equal(memslots_init(kvm), 0);
	assert_int_equal(mmu_vm_init(kvm), 0);
	for (unsigned i = 0; i < nvcpus; i++) {
		struct kvm_vcpu *v = calloc(1, sizeof(*v));

		v->kvm = kvm;
		v->idx = i;
		v->arch = calloc(1, sizeof(*v->arch));
		v->hw = aligned_alloc(64, (sizeof(*v->hw) + 63) & ~63ul);
		memset(v->hw, 0, sizeof(*v->hw));
		v->run = calloc(3, PAGE_SIZE);
		v->regs.avail = ~0u;
		v->arch->maxphyaddr = fake_maxphyaddr;
		kvm->vcpus[kvm->nvcpus++] = v;
		assert_int_equal(mmu_vcpu_create(v), 0);
		fake_regs(v, 0, 0, 0, 0);
		mmu_reset_context(v);
	}
	return kvm;
}

void fake_vm_free(struct kvm *kvm)
{
	for (unsigned i = 0; i < kvm->nvcpus; i++) {
		struct kvm_vcpu *v = kvm->vcpus[i];

		mmu_vcpu_free(v);
		free(v->run);
		free(v->hw);
		free(v->arch);
		free(v);
	}
	kvm->nvcpus = 0;
	mmu_vm_destroy(kvm);
	memslots_destroy(kvm);
	free(kvm->arch);
	free(kvm);
}

void *fake_memory(u64 size, u64 congruent)
{
	const u64 gig = 1ull << 30;
	char *p = mmap(NULL, size + 2 * gig, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);
	char *a = (char *)(((u64)p + gig - 1) / gig * gig + congruent % gig);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(a, size, PROT_READ | PROT_WRITE), 0);
	return a;
}

int fake_slot(struct kvm *kvm, u32 slot, u32 flags, gpa_t gpa, u64 size, void *mem)
{
	struct kvm_userspace_memory_region2 r = {.slot = slot,
						 .flags = flags,
						 .guest_phys_addr = gpa,
						 .memory_size = size,
						 .userspace_addr = (u64)mem};

	return vm_set_user_memory_region(kvm, &r);
}

void fake_regs(struct kvm_vcpu *v, u64 cr0, u64 cr3, u64 cr4, u64 efer)
{
	v->regs.cr0 = cr0;
	v->regs.cr3 = cr3;
	v->regs.cr4 = cr4;
	v->arch->efer = efer;
}
