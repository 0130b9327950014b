/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include "core/mmu/shadow.h"
int shadow_fault(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f)
{
	return -EFAULT;
}
int shadow_alloc_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu)
{
	return -EFAULT;
}
void mmu_sync_roots(struct kvm_vcpu *v) {}
void mmu_invlpg(struct kvm_vcpu *v, gva_t gva) {}
