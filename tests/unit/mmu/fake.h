/* SPDX-License-Identifier: MIT */
/* A VM without a processor: what the memory slots and the MMU need around them, and nothing else.
 */
#ifndef TESTS_UNIT_MMU_FAKE_H
#define TESTS_UNIT_MMU_FAKE_H

#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/mmu/mmu_internal.h"
#include "core/vcpu.h"

/* What the capabilities say: set before fake_vm. */
extern unsigned fake_maxphyaddr;
extern u64 fake_ept_cap;
extern bool fake_ept; /* kvm_intel.ept */

/* What the code under test asked for. */
extern unsigned fake_flushes, fake_emulated;
extern gpa_t fake_emulated_gpa;

struct kvm *fake_vm(unsigned nvcpus);
void fake_vm_free(struct kvm *kvm);
/* Zeroed memory at an address with the same low bits as @congruent below 1 GiB. */
void *fake_memory(u64 size, u64 congruent);
int fake_slot(struct kvm *kvm, u32 slot, u32 flags, gpa_t gpa, u64 size, void *mem);
void fake_regs(struct kvm_vcpu *v, u64 cr0, u64 cr3, u64 cr4, u64 efer);

#endif
