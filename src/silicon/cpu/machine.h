/* SPDX-License-Identifier: MIT */
#ifndef SILICON_CPU_MACHINE_H
#define SILICON_CPU_MACHINE_H

#include "silicon/cpu/cpu.h"

/* sil_machine_create with the extension given (tests bring their own). */
int cpu_machine_create(const struct sil_config *cfg, const struct sil_virt_ops *virt,
		       struct sil_machine **out);
/* Which rows of spec/cpuid.def this machine has. */
void cpuid_init(struct sil_machine *m);

#endif
