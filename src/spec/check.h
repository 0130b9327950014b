/* SPDX-License-Identifier: MIT */
/*
 * The checks that VM entry makes (SDM vol. 3C, 27.2-27.3), as a table with one row and one predicate
 * each, in the manual's order. The processor runs them on its current VMCS, the core on vmcs12; both
 * keep the row that failed, which is how a refused entry explains itself.
 */
#ifndef SPEC_CHECK_H
#define SPEC_CHECK_H

#include "base/types.h"

enum check_group {
	CHECK_CONTROLS, /* 27.2.1: VMfailValid, error 7 */
	CHECK_HOST,     /* 27.2.2 and 27.2.3: error 8 */
	CHECK_GUEST,    /* 27.3.1: exit reason 33 */
	CHECK_NGROUPS,
};

/* What is checked against what. Pure data and one reader; the predicates see nothing else. */
struct check_ctx {
	u64 (*read)(const void *vmcs, u32 field);
	const void *vmcs;
	/* The processor's capabilities as IA32_VMX_* report them, in the order 0x480.. (BASIC first);
	 * 18 of them, up to PROCBASED_CTLS3. */
	const u64 *vmx_msr;
	unsigned maxphyaddr;
	unsigned va_bits; /* 48, or 57 with LA57 supported */
	u64 cr4_supported; /* further CR4/EFER/XCR bits: see check.c */
	u64 efer_supported;
	bool host_is_64bit;
	bool in_smm;
	/* Is [@pa, @pa+@size) memory this VMCS's owner may name? NULL: every address below
	 * MAXPHYADDR is. */
	bool (*pa_ok)(const void *vmcs, u64 pa, u64 size);
	/* First 32-bit word of the VMCS at @pa, for the link-pointer check. 0 or -EFAULT. */
	int (*vmcs_rev)(const void *vmcs, u64 pa, u32 *rev);
};

struct check_failure {
	const char *id;      /* row name, e.g. "UNRESTRICTED_NEEDS_EPT" */
	const char *rule;    /* what must hold, in words */
	const char *section; /* of the manual */
	enum check_group group;
	u32 field;           /* encoding of the field to blame */
	u64 value;           /* what it held */
	u32 qualification;   /* enum vm_entry_failure_code for CHECK_GUEST */
	u32 insn_error;      /* VM-instruction error, for failures outside the groups */
};

/* Runs the group's rows in order. True if all hold; else *@f tells the first that does not. */
bool check_run(enum check_group group, const struct check_ctx *ctx, struct check_failure *f);
/* One line: "secondary control ... ; SDM vol. 3C, 27.2.1.1". Returns what snprintf does. */
int check_explain(const struct check_failure *f, char *buf, size_t n);
/* For tests and documentation: the rows, by index; NULL past the end. */
struct check_row {
	const char *id, *rule, *section;
	enum check_group group;
	u32 field;
	bool (*ok)(const struct check_ctx *ctx);
};
const struct check_row *check_row(unsigned index);

#endif
