/* SPDX-License-Identifier: MIT */
#include "isa/insn_table.h"

isa_exec_fn *isa_exec_special(const struct isa_insn *i)
{
	return NULL;
}

void exec_nop(struct isa_cpu *c, const struct isa_insn *i) {}
