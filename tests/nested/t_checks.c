// SPDX-License-Identifier: MIT
/*
 * The checks of VM entry, 27.2 and 27.3, from inside a guest. The fields to break are the rows of
 * tests/entrycheck/case.def: each broken state goes into the VMCS and must be refused by error 7,
 * error 8 or an exit with reason 33, as the row's section says.
 */
#include "l1.h"

/* case.def works on a struct with the fields as an array. */
enum slot {
#define VMCS(name, encoding, vmcs12, shadow) SLOT_##name,
#include "spec/vmcs.def"
	NSLOTS,
};

/* Capabilities cannot be changed here; a case that tries is left out. */
enum { CAP_EPT_VPID, CAP_N };

struct vm {
	u64 f[NSLOTS];
	u64 cap[CAP_N];
	struct {
		bool in_smm, host_is_64bit;
	} ctx;
	u32 vtpr, link_rev;
	u64 pdpte[4];
};

#define V(field) (v->f[SLOT_##field])

static u32 *link_page;
static u64 *apic_page, *pdpt_page;
static u64 eptp;

#define REVISION revision
#define CURRENT	 ((u64)vmcs_page)

#define EPTP eptp
#include "../entrycheck/break.h"

static void smm(struct vm *v)
{
	v->ctx.in_smm = true;
}

/* Cases mean a processor with MAXPHYADDR 46; the bits just above it move to ours. */
#undef BIT
#define BIT(n) (1ull << ((n) == 46 || (n) == 50 ? maxphyaddr : (n)))
#define CASE(row, br, so)                      \
	static void broken_##row(struct vm *v) \
	{                                      \
		br;                            \
	}
#include "../entrycheck/case.def"

/* How the manual's section of a row refuses. */
#define CHECK_CONTROLS NOENTRY(VALID(7))
#define CHECK_HOST     NOENTRY(VALID(8))
#define CHECK_GUEST    (FAILED | EXIT_REASON_INVALID_STATE)

static const struct row {
	const char *id;
	u64 outcome;
	u64 qualification;
} rows[] = {
#define CHECK(id, group, section, field, topics, qualification, rule, ok) \
	{#id, group, qualification},
#include "spec/check.def"
};

static const struct kase {
	const char *id;
	void (*broken)(struct vm *v);
} cases[] = {
#define CASE(row, br, so) {#row, broken_##row},
#include "../entrycheck/case.def"
};

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static const struct row *find_row(const char *id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		if (same(rows[i].id, id))
			return &rows[i];
	panic("no row for a case", 0);
}

static bool within(u64 word, u32 msr)
{
	u64 c = caps[msr - MSR_VMX_BASIC];

	return !(word & ~(c >> 32)) && !((u32)c & ~word);
}

/* The controls that the case needs, beyond the field that it breaks, must be there to be set. */
static bool possible(const struct vm *v, const struct vm *good)
{
	bool c2 = V(CPU_BASED_VM_EXEC_CONTROL) & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS;

	if (v->cap[CAP_EPT_VPID] != good->cap[CAP_EPT_VPID] || v->ctx.in_smm ||
	    !v->ctx.host_is_64bit)
		return false;
	return within(V(PIN_BASED_VM_EXEC_CONTROL), MSR_VMX_TRUE_PIN) &&
	       within(V(CPU_BASED_VM_EXEC_CONTROL), MSR_VMX_TRUE_PROC) &&
	       (!c2 || within(V(SECONDARY_VM_EXEC_CONTROL), MSR_VMX_PROCBASED2)) &&
	       within(V(VM_EXIT_CONTROLS), MSR_VMX_TRUE_EXIT) &&
	       within(V(VM_ENTRY_CONTROLS), MSR_VMX_TRUE_ENTRY);
}

/* What VMREAD gives for every field of the VMCS as it is; fields that are not there read as 0. */
static void load(struct vm *v)
{
	memset(v, 0, sizeof(*v));
	for (unsigned i = 0; i < vmcs_nfields; i++)
		vmread_try(vmcs_fields[i], &v->f[i]);
	memset(v->cap, 0xff, sizeof(v->cap));
	v->ctx.host_is_64bit = true;
	v->link_rev = revision;
}

/*
 * False if a field that the case changes is not there, or does not keep the value: processors may
 * drop reserved bits of access rights on VMWRITE.
 */
static bool store(const struct vm *v, const struct vm *from)
{
	bool all = true;
	u64 now = 0;

	for (unsigned i = 0; i < vmcs_nfields; i++)
		if (v->f[i] != from->f[i] && (vmwrite_try(vmcs_fields[i], v->f[i]) ||
					      vmread_try(vmcs_fields[i], &now) || now != v->f[i]))
			all = false;
	*link_page = v->link_rev;
	apic_page[0x80 / 8] = v->vtpr;
	memcpy(pdpt_page, v->pdpte, sizeof(v->pdpte));
	return all;
}

static struct vm good, v, was, now;

static void fresh(void)
{
	u64 bits = VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_LOAD_IA32_PAT;

	vmx_fresh();
	for (unsigned i = 0; i < 32; i++)
		if (bits >> i & 1 && may_entry(BIT(i)))
			set_entry(BIT(i));
	vmwrite(GUEST_RIP, (u64)l2_done);
	vmwrite(GUEST_RSP, (u64)l2_stack_top);
	load(&good);
}

static void one_case(const struct kase *k)
{
	const struct row *row = find_row(k->id);
	u64 reason;

	/* A.1: injection with a vector's wrong error code is allowed. */
	if (caps[0] & BIT(56) && same(k->id, "INJECT_ERROR_CODE_VECTOR")) {
		skip(k->id, "IA32_VMX_BASIC bit 56");
		return;
	}
	v = good;
	k->broken(&v);
	if (row->outcome == CHECK_CONTROLS && same(k->id, "PIN_RESERVED"))
		goto enter; /* The broken words are what the next test would refuse. */
	if (!possible(&v, &good) && !same(k->id, "PROC_RESERVED") &&
	    !same(k->id, "PROC2_RESERVED") && !same(k->id, "EXIT_RESERVED") &&
	    !same(k->id, "ENTRY_RESERVED")) {
		skip(k->id, "needs what is not advertised");
		return;
	}
enter:
	/* A case without paging in 64-bit ways finds its PDPTEs where CR3 points. */
	if (same(k->id, "PDPTE_MEMORY"))
		v.f[SLOT_GUEST_CR3] = (u64)pdpt_page;
	/* Addresses of pages that the case means to be there. */
	if (v.f[SLOT_VMCS_LINK_POINTER] == 0x5000)
		v.f[SLOT_VMCS_LINK_POINTER] = (u64)link_page;
	if (v.f[SLOT_CPU_BASED_VM_EXEC_CONTROL] & CPU_BASED_TPR_SHADOW &&
	    !v.f[SLOT_VIRTUAL_APIC_PAGE_ADDR])
		v.f[SLOT_VIRTUAL_APIC_PAGE_ADDR] = (u64)apic_page;
	if (!store(&v, &good)) {
		skip(k->id, "a field does not keep the value");
		goto restore;
	}
	load(&was);
	reason = run();
	check(k->id, reason, row->outcome);
	if (row->outcome == CHECK_GUEST && reason == row->outcome) {
		check2(k->id, "qualification", vmread(EXIT_QUALIFICATION), row->qualification);
		/* 27.8: of the guest and the controls nothing changes, of the exit information the
		 * reason and the qualification, and the entry's interruption information stays
		 * valid. */
		load(&now);
		for (unsigned i = 0; i < vmcs_nfields; i++)
			if (now.f[i] != was.f[i] && vmcs_fields[i] != VM_EXIT_REASON &&
			    vmcs_fields[i] != HOST_RSP && vmcs_fields[i] != EXIT_QUALIFICATION)
				check2(k->id, "changed field", vmcs_fields[i], 0);
	} else if (!(reason >> 32)) {
		/* It ran: the state may be anything. */
		fresh();
		return;
	}
restore:
	/* Back to the good state. */
	for (unsigned i = 0; i < vmcs_nfields; i++)
		if ((vmcs_fields[i] >> 10 & 3) != 1)
			vmwrite_try(vmcs_fields[i], good.f[i]);
}

void group_checks(void)
{
	link_page = page();
	apic_page = page();
	pdpt_page = page();
	if (may_cpu2(SECONDARY_EXEC_ENABLE_EPT))
		eptp = ept_identity();
	fresh();
	check("nothing broken", run(), EXIT_REASON_VMCALL);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		one_case(&cases[i]);
	check("nothing broken at the end", run(), EXIT_REASON_VMCALL);
}
