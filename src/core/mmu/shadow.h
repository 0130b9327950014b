/* SPDX-License-Identifier: MIT */
/* Shadow paging: pages that follow a guest's own tables. mmu_lock held throughout. */
#ifndef CORE_MMU_SHADOW_H
#define CORE_MMU_SHADOW_H

#include "core/mmu/mmu_internal.h"

/* Does the page stand for a table in guest memory? PAE roots are made from registers. */
static inline bool shadow_is_table(const struct mmu_page *sp)
{
	return !sp->role.direct && !sp->role.passthrough &&
	       !(sp->role.per_vcpu && sp->role.level == 3);
}

/* A shadow page for a guest's table comes or goes: its frame is write-protected and may not be
 * mapped by large leaves. */
void shadow_account(struct kvm *kvm, struct mmu_page *sp);
void shadow_unaccount(struct kvm *kvm, struct mmu_page *sp);
/* The parents of an unsync page know it, so that a root finds what it has to synchronize. */
void shadow_mark_parents_unsync(struct mmu_page *sp);
void shadow_unlink_unsync(struct mmu_page *child, u64 *parent_spte);
void shadow_forget_unsync(struct kvm *kvm, struct mmu_page *sp);
/* May @gfn be mapped writable? If it is a table, tries to leave its pages unsync (@can_unsync). */
bool shadow_may_write(struct kvm *kvm, struct memslot *slot, gfn_t gfn, bool can_unsync);
/* Zaps the shadow pages of tables in the range. True if there were any. */
bool shadow_zap_range(struct kvm *kvm, unsigned as_id, gfn_t gfn, u64 npages);
/* A #PF under shadow paging (or an EPT violation of an L2). Read side not held. */
int shadow_fault(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f);
/* Everything below @sp follows the guest's tables again; @sp is of the current context. */
void shadow_sync_root(struct kvm_vcpu *v, struct mmu_page *sp);
/* Roots other than direct 4- and 5-level ones. 0, -ENOMEM, -EFAULT (no memory at the guest's root).
 */
int shadow_alloc_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu);

#endif
