/* SPDX-License-Identifier: MIT */
/*
 * The KVM user-space interface on x86-64 as of Linux 6.12, in our own words: names, numbers and
 * layouts are the ABI's. It stands alone; never include it next to <linux/kvm.h>. Sizes and offsets
 * are frozen in check.c.
 */
#ifndef SPEC_ABI_KVM_H
#define SPEC_ABI_KVM_H

#include "spec/abi/kvm_cap.h"
#include "spec/abi/kvm_ioctl.h"
#include "spec/abi/kvm_run.h"
#include "spec/abi/kvm_state.h"
#include "spec/abi/kvm_vm.h"
#include "spec/abi/kvm_xen.h"

#endif
