/* SPDX-License-Identifier: MIT */
/*
 * System-management mode: SDM vol. 3C, chapter 32; the state save area in the layout of 64-bit
 * processors, APM vol. 2, table 10-1. The vCPU's thread only.
 */
#ifndef CORE_SMM_H
#define CORE_SMM_H

#include "core/kvm_host.h"

/* Enters it at the save area's and handler's place (MSR IA32_SMBASE). No event may be underway. */
void kvm_enter_smm(struct kvm_vcpu *v);
/* RSM. As exit handlers return. */
int kvm_emulate_rsm(struct kvm_vcpu *v);
/* Memory is the other address space's from now on. */
void kvm_smm_changed(struct kvm_vcpu *v, bool entering);

#endif
