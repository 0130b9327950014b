/* SPDX-License-Identifier: MIT */
/* The values of the parameters (core/params.def) as one structure; see core.h for the interface. */
#ifndef CORE_PARAMS_H
#define CORE_PARAMS_H

#include "base/types.h"

struct kvm_params {
#define PARAM(module, name, type, def, min, max, mode, help) u32 module##_##name;
#include "core/params.def"
};

/* A consistent copy. Any thread. */
void params_snapshot(struct kvm_params *p);
/* Of KVM_CREATE_VM, with the parameters as they are now. */
bool kvm_vm_type_supported(unsigned long type);

#endif
