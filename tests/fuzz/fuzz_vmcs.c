// SPDX-License-Identifier: MIT
/*
 * Entries with a few fields of the VMCS set to values that somebody got wrong. The processor either
 * refuses, and says why, or runs a guest in that state; see fuzz_insn for what is expected of it.
 * Fields that hold addresses of the caller's own tables are left alone: those are trusted.
 *
 *	fuzz_vmcs [--seconds N] [--seed N [--cases N]] [--engine interp|jit]
 */
#include <string.h>

#include "fuzz.h"

static const u32 fields[] = {
#define VMCS(name, encoding, vmcs12, shadow) encoding,
#include "spec/vmcs.def"
};

/* Pointers and counts of what the caller owns; the controls that make them matter are left too. */
static bool trusted(u32 field)
{
	if (field >= 0x2000 && field < 0x2400)
		return field != TSC_OFFSET;
	return field == VM_EXIT_MSR_STORE_COUNT || field == VM_EXIT_MSR_LOAD_COUNT ||
	       field == VM_ENTRY_MSR_LOAD_COUNT || field == VMCS_LINK_POINTER ||
	       field == SECONDARY_VM_EXEC_CONTROL || field == CPU_BASED_VM_EXEC_CONTROL ||
	       vmcs_is_high(field);
}

static void mutate(struct guest *g, u32 field)
{
	u64 val = 0;

	if (sil_vmread(g->cpu, field, &val) != SIL_VMX_OK)
		return;
	switch (fuzz_below(3)) {
	case 0: val ^= BIT(fuzz_below(vmcs_width(field) == VMCS_WIDTH_16 ? 16 : 32)); break;
	case 1: val ^= BIT(fuzz_below(64)); break;
	case 2: val = fuzz_number(); break;
	}
	sil_vmwrite(g->cpu, field, val);
}

static void one(struct fuzz *f)
{
	/* Bits of the execution controls that need no structure of the caller's. */
	static const u32 cpu_bits = 0x6ff9ffff & ~(BIT(21) | BIT(25) | BIT(28));
	enum fuzz_mode mode = (enum fuzz_mode)fuzz_below(FUZZ_NMODES);
	unsigned n = 1 + (unsigned)fuzz_below(3), at = 0;
	struct guest *g = &f->g;

	fuzz_reset(f, mode);
	while (n--) {
		u32 field = fields[fuzz_below(ARRAY_SIZE(fields))];

		if (!trusted(field))
			mutate(g, field);
	}
	if (!fuzz_below(3))
		vmw(g, CPU_BASED_VM_EXEC_CONTROL,
		    vmr(g, CPU_BASED_VM_EXEC_CONTROL) ^ (BIT(fuzz_below(32)) & cpu_bits));
	/* An event, well-formed or nearly so. */
	if (!fuzz_below(3)) {
		vmw(g, VM_ENTRY_INTR_INFO_FIELD,
		    INTR_INFO_VALID | fuzz_below(8) << 8 |
			    (fuzz_below(2) ? fuzz_below(32) : fuzz_below(256)) |
			    (fuzz_below(2) ? BIT(11) : 0));
		vmw(g, VM_ENTRY_EXCEPTION_ERROR_CODE, fuzz_below(4) ? 0 : fuzz_number() & 0xffff);
		vmw(g, VM_ENTRY_INSTRUCTION_LEN, fuzz_below(16));
	}
	for (unsigned i = 0; i < 4; i++)
		at += fuzz_insn(g->mem + CODE + at, mode);
	memset(g->mem + CODE + at, 0xf4, 16);
	fuzz_run(f, 8);
}

int main(int argc, char **argv)
{
	return fuzz_main(argc, argv, one);
}
