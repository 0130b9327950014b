/* SPDX-License-Identifier: MIT */
/* Any drift of the ABI's layout fails the build here. */
#include "spec/abi/kvm.h"

#define ABI_SIZE(s, bytes) _Static_assert(sizeof(struct s) == (bytes), "size of struct " #s);
#define ABI_OFFSET(s, member, bytes) \
	_Static_assert(offsetof(struct s, member) == (bytes), "offset of " #s "." #member);
#define ABI_IOCTL(name, number) _Static_assert((name) == (number), "number of " #name);
#include "spec/abi/frozen.def"

/* What is mapped through a vCPU fd has to fit its page. */
_Static_assert(sizeof(struct kvm_run) <= PAGE_SIZE, "kvm_run fits its page");
_Static_assert(sizeof(struct kvm_sync_regs) <= SYNC_REGS_SIZE_BYTES, "sync_regs fits its area");
_Static_assert(KVM_COALESCED_MMIO_MAX == 170, "entries of the coalesced ring");
