/* SPDX-License-Identifier: MIT */
/*
 * guest_memfd: memory that only guests use, and the attribute that says for each guest frame
 * whether it is there (private) or in the slot's ordinary memory (api.rst 4.140 to 4.142).
 *
 * There is no confidentiality to give here: this is KVM_X86_SW_PROTECTED_VM, for the development of
 * VMMs. The memory is mapped in this process, at an address the VMM is not told.
 */
#ifndef CORE_GMEM_H
#define CORE_GMEM_H

#include "core/kvm_host.h"

struct memslot;

struct gmem {
	struct kvm *kvm;
	u32 refs; /* atomic: the file and each slot */
	hva_t hva;
	u64 size;
};

/* May memory be bound to a slot of @npages at @offset? slots_lock held. 0 or -EINVAL. */
int gmem_check_bind(struct kvm *kvm, const struct gmem *g, u64 offset, u64 npages);

/* ---- Attributes ---- */

static inline bool kvm_has_private_mem(const struct kvm *kvm)
{
	return kvm->type == KVM_X86_SW_PROTECTED_VM;
}
struct mem_attrs; /* the private frames, as ranges */
void mem_attrs_free(struct mem_attrs *a);
u64 kvm_supported_mem_attributes(const struct kvm *kvm); /* @kvm NULL: of any VM */
/* Any thread, read side of the slots. */
bool kvm_mem_is_private(struct kvm *kvm, gfn_t gfn);

#endif
