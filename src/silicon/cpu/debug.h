/* SPDX-License-Identifier: MIT */
/* Breakpoints and single step (SDM vol. 3B, chapter 18). */
#ifndef SILICON_CPU_DEBUG_H
#define SILICON_CPU_DEBUG_H

#include "silicon/cpu/cpu.h"

#define DR6_B0	     BIT(0)
#define DR6_BD	     BIT(13)
#define DR6_BS	     BIT(14)
#define DR6_BT	     BIT(15)
#define DR6_RTM	     BIT(16)
#define DR7_GD	     BIT(13)
#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1)
/* Pending debug exceptions, SDM vol. 3C, 25.4.2: bits 3:0 as DR6, and these. */
#define PENDING_DBG_BP	BIT(12) /* an enabled breakpoint was met */
#define PENDING_DBG_BS	BIT(14)
#define PENDING_DBG_RTM BIT(16)

/* DR7 or CR4.DE changed: which breakpoints are enabled; drops TLB entries they must not have. */
void debug_update(struct sil_cpu *cpu);
/* An access of the instruction being executed; a hit becomes pending when it has completed. */
void debug_data_access(struct sil_cpu *cpu, u64 la, unsigned size, bool write);
/* DR6 bits of the instruction breakpoints at linear @la; 0 if no enabled one is there. */
u64 debug_insn_hit(const struct sil_cpu *cpu, u64 la);
/* What a #DB does to DR6, DR7 and DEBUGCTL when it is delivered. */
void debug_enter_db(struct sil_cpu *cpu, u64 payload);

#endif
