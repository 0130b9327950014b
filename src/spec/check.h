/* SPDX-License-Identifier: MIT */
/*
 * The checks that VM entry makes (SDM vol. 3C, 27.2-27.3), as a table with one row and one
 * predicate each (spec/check.def), in the manual's order. The processor runs them on its current
 * VMCS, the core on vmcs12; both keep the row that failed, which is how a refused entry explains
 * itself.
 */
#ifndef SPEC_CHECK_H
#define SPEC_CHECK_H

#include "base/bits.h"
#include "base/types.h"
#include "spec/vmcs.h"
#include "spec/vmx.h"

enum check_group {
	CHECK_CONTROLS, /* 27.2.1: VMfailValid, error 7 */
	CHECK_HOST,	/* 27.2.2 to 27.2.4: error 8 */
	CHECK_GUEST,	/* 27.3.1: exit reason 33 */
	CHECK_NGROUPS,
};

/* Where a capability MSR stands in check_ctx.vmx_msr: IA32_VMX_BASIC is MSR 480H. */
enum check_cap {
	CAP_BASIC,
	CAP_PINBASED,
	CAP_PROCBASED,
	CAP_EXIT,
	CAP_ENTRY,
	CAP_MISC,
	CAP_CR0_FIXED0,
	CAP_CR0_FIXED1,
	CAP_CR4_FIXED0,
	CAP_CR4_FIXED1,
	CAP_VMCS_ENUM,
	CAP_PROCBASED2,
	CAP_EPT_VPID,
	CAP_TRUE_PINBASED,
	CAP_TRUE_PROCBASED,
	CAP_TRUE_EXIT,
	CAP_TRUE_ENTRY,
	CAP_VMFUNC,
	CAP_PROCBASED3,
	CAP_N,
};

/* What is checked against what. Pure data and readers; the predicates see nothing else. */
struct check_ctx {
	u64 (*read)(const void *vmcs, u32 field);
	const void *vmcs;
	/* CAP_N capabilities as IA32_VMX_* report them. */
	const u64 *vmx_msr;
	unsigned maxphyaddr;
	unsigned va_bits; /* 48, or 57 with LA57 supported */
	/* Bits that may be set in the guest's and the host's registers. CR4: beyond what
	 * CR4_FIXED1 says. */
	u64 cr4_supported;
	u64 efer_supported;
	u64 debugctl_supported;
	u64 perf_global_supported;
	bool host_is_64bit;
	bool in_smm;
	/* The address of the VMCS checked, as a link pointer would hold it; ~0 if it has none. */
	u64 current_vmcs;
	/* Is [@pa, @pa+@size) memory this VMCS's owner may name? NULL: every address below
	 * MAXPHYADDR is. */
	bool (*pa_ok)(const void *vmcs, u64 pa, u64 size);
	/* First 32-bit word of the VMCS at @pa, for the link-pointer check. 0 or -EFAULT. */
	int (*vmcs_rev)(const void *vmcs, u64 pa, u32 *rev);
	/* Reads @size bytes at @pa: VTPR, PDPTEs. 0 or -EFAULT; NULL: those rows pass. */
	int (*read_pa)(const void *vmcs, u64 pa, void *buf, unsigned size);
};

struct check_failure {
	const char *id;	     /* row name, e.g. "UNRESTRICTED_NEEDS_EPT" */
	const char *rule;    /* what must hold, in words */
	const char *section; /* of the manual */
	enum check_group group;
	u32 field;	   /* encoding of the field to blame */
	u64 value;	   /* what it held */
	u64 fixes;	   /* each of these bits of it, changed alone, makes the row hold */
	u32 qualification; /* enum vm_entry_failure_code for CHECK_GUEST */
	u32 insn_error;	   /* VM-instruction error, for failures outside the groups */
};

/*
 * What a row looks at, so that an entry repeats only the rows whose fields were written since they
 * last held. Guest execution itself never makes a row fail.
 */
enum check_topic {
	T_CTL = BIT(0),	   /* the control words, and all control fields without a topic */
	T_INJECT = BIT(1), /* the three event-injection fields */
	T_TPR = BIT(2),	   /* TPR threshold */
	T_LISTS = BIT(3),  /* MSR lists */
	T_HOST = BIT(4),
	T_CR = BIT(5), /* guest CR0, CR3, CR4, EFER, DR7 and the MSRs loaded on entry */
	T_SEG = BIT(6),
	T_DTR = BIT(7),
	T_RIP = BIT(8),
	T_RFLAGS = BIT(9),
	T_STATE = BIT(10), /* activity, interruptibility, pending debug exceptions */
	T_LINK = BIT(11),
	T_PDPTE = BIT(12),
	T_WINDOW = BIT(13), /* only the two window-exiting bits of the primary controls */
	T_VM = BIT(14),	    /* RFLAGS.VM */
	/* What memory has, which changes without a VMWRITE: check_memory_topics. */
	T_VTPR = BIT(15),
	T_LINKED = BIT(16),
	T_PDPTE_MEMORY = BIT(17),
	T_MEMORY = BITS(17, 15),
	T_ALL = BITS(17, 0),
};
/* The topics of a field: what a VMWRITE of it makes doubtful. 0 for exit information. */
u32 check_topic(u32 field);

/*
 * Those of the field's @topics that a write doubts which changes these bits. What entries and
 * injections write each time changes little that a row looks at.
 */
static inline u32 check_narrow(u32 field, u64 changed, u32 topics)
{
	const u64 windows = CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING;
	const u64 arithmetic = BITS(11, 10) | BITS(7, 6) | BIT(4) | BIT(2) | BIT(0);

	switch (field) {
	case CPU_BASED_VM_EXEC_CONTROL: return changed & ~windows ? topics : T_WINDOW;
	case GUEST_RFLAGS:
		if (!(changed & ~arithmetic))
			return 0;
		return changed & BIT(17) /* VM */ ? topics : topics & ~T_VM;
	/* Rows ask whether it is canonical and whether it has 32 bits. */
	case GUEST_RIP: return changed >> 31 ? topics : 0;
	default: return topics;
	}
}

/* Which of T_MEMORY takes part in an entry with these controls and fields. */
static inline u32 check_memory_topics(u32 cpu1, u32 cpu2, u64 tpr_threshold, u64 link)
{
	return ((cpu1 & CPU_BASED_TPR_SHADOW) && (tpr_threshold & 0xf) ? T_VTPR : 0) |
	       (link != ~0ull ? T_LINKED : 0) |
	       (cpu2 & SECONDARY_EXEC_ENABLE_EPT ? 0 : T_PDPTE_MEMORY);
}

/* Runs the group's rows in order. True if all hold; else *@f tells the first that does not. */
bool check_run(enum check_group group, const struct check_ctx *ctx, struct check_failure *f);
/* Only those that look at @topics. */
bool check_run_topics(enum check_group group, u32 topics, const struct check_ctx *ctx,
		      struct check_failure *f);
/* One line: field, value, rule, section. Returns what snprintf does. */
int check_explain(const struct check_failure *f, char *buf, size_t n);
/* The name of a field ("GUEST_CR0"), or NULL. */
const char *vmcs_field_name(u32 field);

/* For tests and documentation: the rows, by index; NULL past the end. */
struct check_row {
	const char *id, *rule, *section;
	enum check_group group;
	u32 field;
	u32 topics; /* enum check_topic */
	u32 qualification;
	bool (*ok)(const struct check_ctx *ctx);
};
const struct check_row *check_row(unsigned index);

#endif
