/* SPDX-License-Identifier: MIT */
/* Page faults: finding what the address is, and mapping it or handing it to the emulator. */
#include <errno.h>
#include <sched.h>

#include "base/guard.h"
#include "core/emulate/emulate.h"
#include "core/gmem.h"
#include "core/mmu/mmu_internal.h"
#include "core/mmu/shadow.h"
#include "spec/vmx.h"

u64 mmu_ept_error_code(u64 q)
{
	u64 ec = 0;

	/* USER is what EPT's read permission is called in ACC_* terms. */
	if (q & EPT_VIOLATION_READ)
		ec |= PFERR_USER;
	if (q & EPT_VIOLATION_WRITE)
		ec |= PFERR_WRITE;
	if (q & EPT_VIOLATION_FETCH)
		ec |= PFERR_FETCH;
	if (q & (7ull << EPT_VIOLATION_RWX_SHIFT))
		ec |= PFERR_PRESENT;
	if (q & EPT_VIOLATION_GVA_VALID)
		ec |= q & EPT_VIOLATION_TRANSLATED ? PFERR_GUEST_FINAL : PFERR_GUEST_PAGE;
	/* The bit has a meaning only with "advanced information", without which mode-based execute
	 * control is not offered. */
	if (ec & PFERR_FETCH && ec & PFERR_GUEST_FINAL && q & EPT_VIOLATION_GVA_USER)
		ec |= PFERR_GVA_USER;
	return ec;
}

/* The VMM has made the frame private, and the slot has no private memory for it. */
static int exit_private_fault(struct kvm_vcpu *v, const struct fault *f)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	run->memory_fault.flags = KVM_MEMORY_EXIT_FLAG_PRIVATE;
	run->memory_fault.gpa = f->gfn << PAGE_SHIFT;
	run->memory_fault.size = PAGE_SIZE;
	return -EFAULT;
}

int fault_find_memory(struct kvm_vcpu *v, struct fault *f)
{
	struct memslot *s = vcpu_gfn_to_memslot(v, f->gfn);
	bool private = false;
	int r;

	f->slot = s;
	if (s && s->flags & MEMSLOT_INVALID)
		return PF_RETRY;
	if (unlikely(kvm_has_private_mem(v->kvm))) {
		/* Neighbours may be of the other kind. */
		f->max_level = 1;
		private = kvm_mem_is_private(v->kvm, f->gfn);
		if (private && !(s && s->gmem))
			return exit_private_fault(v, f);
	}
	if (!s)
		return PF_MMIO;
	f->map_writable = !(s->flags & KVM_MEM_READONLY);
	/* Writes to a read-only slot are the VMM's: it emulates a ROM or a flash chip there. */
	if (f->write && !f->map_writable)
		return PF_EMULATE;
	f->hva = private ? s->gmem_hva + ((f->gfn - s->base_gfn) << PAGE_SHIFT)
			 : memslot_gfn_to_hva(s, f->gfn);
	/* Also brings the page in, here rather than in the middle of an instruction. */
	if (unlikely(v->arch->apf.en))
		r = apf_touch(v, s, f->gfn, f->hva, f->write, f->wait);
	else
		r = guard_touch(f->hva, f->write);
	return r == 0 ? PF_CONTINUE : r == -EAGAIN ? PF_RETRY : r;
}

static int direct_fault(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f)
{
	struct kvm *kvm = v->kvm;
	unsigned idx = slots_read_lock(kvm);
	u64 generation = kvm_memslots(kvm, kvm_is_smm(v))->generation;
	int r = fault_find_memory(v, f);

	if (r == PF_CONTINUE || (r == PF_MMIO && mmu->root_role.ept)) {
		pthread_mutex_lock(&kvm->mmu_lock);
		if (hpa_page(mmu->roots[0].hpa)->role.invalid) {
			r = PF_RETRY; /* and a reload is requested */
		} else {
			pages_make_room(kvm);
			if (r == PF_CONTINUE)
				r = direct_map(v, mmu, f);
			else
				direct_map_mmio(v, mmu, f->gpa, generation);
			page_commit(kvm);
		}
		pthread_mutex_unlock(&kvm->mmu_lock);
	}
	slots_read_unlock(kvm, idx);
	return r;
}

/* Is the misconfigured entry of @gpa one of our MMIO entries, and not older than the slots? */
static bool mmio_entry_valid(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t gpa)
{
	unsigned idx = slots_read_lock(v->kvm);
	u64 gen = kvm_memslots(v->kvm, kvm_is_smm(v))->generation, spte;
	int level;

	pthread_mutex_lock(&v->kvm->mmu_lock);
	spte = direct_spte(mmu, gpa, &level);
	pthread_mutex_unlock(&v->kvm->mmu_lock);
	slots_read_unlock(v->kvm, idx);
	return spte == spte_make_mmio(gen);
}

int mmu_page_fault(struct kvm_vcpu *v, u64 addr, u64 error_code)
{
	struct kvm_mmu *mmu = v->mmu->mmu;
	struct fault f = {
		.addr = addr,
		.error_code = error_code,
		.gpa = addr,
		.gfn = addr >> PAGE_SHIFT,
		.write = error_code & PFERR_WRITE,
		.exec = error_code & PFERR_FETCH,
		.user = error_code & PFERR_USER,
		.max_level = MMU_LEAF_LEVELS,
	};
	int r;

	kvm_stat_inc(v, pf_taken);
	if (mmu->roots[0].hpa == HPA_INVALID)
		return 1; /* unloaded in between; the entry path loads and the access repeats */
	if (error_code & PFERR_RSVD && mmu->root_role.direct) {
		if (mmio_entry_valid(v, mmu, addr))
			return kvm_emulate_mmio(v, addr, error_code);
		error_code &= ~PFERR_RSVD;
	}
	r = mmu->root_role.direct ? direct_fault(v, mmu, &f) : shadow_fault(v, mmu, &f);
	switch (r) {
	case PF_FIXED: kvm_stat_inc(v, pf_fixed); return 1;
	case PF_SPURIOUS: kvm_stat_inc(v, pf_spurious); return 1;
	case PF_RETRY: sched_yield(); return 1;
	case PF_CONTINUE: return 1;
	case PF_MMIO:
	case PF_EMULATE: kvm_stat_inc(v, pf_emulate); return kvm_emulate_mmio(v, f.gpa, error_code);
	default: return r;
	}
}

int mmu_map_gpa(struct kvm_vcpu *v, gpa_t gpa, u64 error_code, u8 *level)
{
	struct kvm_mmu *mmu = v->mmu->mmu;
	int r;

	/* Only where guest-physical addresses are what is mapped. */
	if (!mmu->root_role.direct)
		return -EOPNOTSUPP;
	r = mmu_reload(v);
	if (r)
		return r;
	do {
		struct fault f = {.addr = gpa,
				  .gpa = gpa,
				  .gfn = gpa >> PAGE_SHIFT,
				  .write = error_code & PFERR_WRITE,
				  .wait = true,
				  .max_level = MMU_LEAF_LEVELS};

		r = direct_fault(v, mmu, &f);
		*level = (u8)f.level;
		if (r == PF_RETRY) {
			r = mmu_reload(v);
			if (r)
				return r;
			r = PF_RETRY;
		}
	} while (r == PF_RETRY);
	if (r < 0)
		return r;
	return r == PF_FIXED || r == PF_SPURIOUS ? 0 : -ENOENT;
}

/* ---- Host memory that has gone away under a mapping ---- */

static void zap_hva(struct kvm *kvm, hva_t hva)
{
	for (unsigned as = 0; as < KVM_ADDRESS_SPACES; as++) {
		const struct memslots *s = kvm_memslots(kvm, as);

		for (u32 i = 0; i < s->n; i++) {
			struct memslot *slot = s->slot[i];

			if (hva - slot->userspace_addr < slot->npages << PAGE_SHIFT)
				slot_zap_gfn(kvm, slot,
					     slot->base_gfn +
						     ((hva - slot->userspace_addr) >> PAGE_SHIFT));
		}
	}
}

int mmu_memory_error(struct kvm_vcpu *v, hva_t hva, bool write)
{
	struct kvm *kvm = v->kvm;
	unsigned idx;

	if (!guard_touch(hva, write))
		return 0;
	idx = slots_read_lock(kvm);
	pthread_mutex_lock(&kvm->mmu_lock);
	zap_hva(kvm, hva);
	mmu_flush_remote(kvm);
	pthread_mutex_unlock(&kvm->mmu_lock);
	slots_read_unlock(kvm, idx);
	return -EFAULT;
}
