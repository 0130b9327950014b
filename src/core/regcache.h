/* SPDX-License-Identifier: MIT */
#ifndef CORE_REGCACHE_H
#define CORE_REGCACHE_H

#include "base/types.h"
#include "isa/isa.h"

/* docs/register-cache.md */
enum kvm_reg {
	/* 0-15: general registers, enum isa_gpr */
	VCPU_REG_RIP = 16,
	VCPU_EXREG_RFLAGS,
	VCPU_EXREG_PDPTR,
	VCPU_EXREG_SEGMENTS,
	VCPU_EXREG_CR0,
	VCPU_EXREG_CR3,
	VCPU_EXREG_CR4,
	VCPU_EXREG_EXIT_INFO_1,
	VCPU_EXREG_EXIT_INFO_2,
	VCPU_NREGS,
};

struct regcache {
	u32 avail, dirty;
	u64 rip, rflags, cr0, cr3, cr4;
	u64 pdptr[4];
	struct isa_seg seg[ISA_NSEG];
	u64 exit_info_1;
	u32 exit_info_2;
};

#endif
