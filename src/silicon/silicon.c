/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "silicon/cpu/machine.h"

int sil_machine_create(const struct sil_config *cfg, struct sil_machine **out)
{
	if (cfg->vendor != SIL_INTEL)
		return -ENOTSUP;
	return cpu_machine_create(cfg, &vtx_virt_ops, out);
}
