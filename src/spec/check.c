// SPDX-License-Identifier: MIT
/* The predicates of spec/check.def, and what runs and explains them. */
#include "spec/check.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/log.h"
#include "spec/vmcs.h"
#include "spec/vmx.h"

/* ---- What the predicates are written with -------------------------------------------------- */

typedef const struct check_ctx ctx;

#define F(field) (c->read(c->vmcs, field))

static u64 pin(ctx *c, u64 bits)
{
	return F(PIN_BASED_VM_EXEC_CONTROL) & bits;
}

static u64 cpu1(ctx *c, u64 bits)
{
	return F(CPU_BASED_VM_EXEC_CONTROL) & bits;
}

/* Secondary controls count as 0 unless the primary controls activate them (25.6.2). */
static u64 cpu2(ctx *c, u64 bits)
{
	return cpu1(c, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) ? F(SECONDARY_VM_EXEC_CONTROL) & bits
							      : 0;
}

static u64 exitc(ctx *c, u64 bits)
{
	return F(VM_EXIT_CONTROLS) & bits;
}

static u64 entryc(ctx *c, u64 bits)
{
	return F(VM_ENTRY_CONTROLS) & bits;
}

static u64 ug(ctx *c)
{
	return cpu2(c, SECONDARY_EXEC_UNRESTRICTED_GUEST);
}

static bool v86(ctx *c)
{
	return F(GUEST_RFLAGS) & BIT(17);
}

/* A.2: bits set in the low half must be 1, bits clear in the high half must be 0; the TRUE MSRs say
 * it where IA32_VMX_BASIC[55] is set. */
static bool ctl_allowed(ctx *c, enum check_cap cap, enum check_cap true_cap, u64 v)
{
	u64 m = c->vmx_msr[c->vmx_msr[CAP_BASIC] & BIT(55) ? true_cap : cap];

	return !(~v & (u32)m) && !(v & ~(m >> 32) & 0xffffffff);
}

static bool ctl_offered(ctx *c, enum check_cap true_cap, enum check_cap cap, u64 bit)
{
	return (c->vmx_msr[c->vmx_msr[CAP_BASIC] & BIT(55) ? true_cap : cap] >> 32) & bit;
}

/* A.7, A.8: @fixed0 is the MSR of the bits fixed to 1, the next one has 0 where fixed to 0. */
static bool fixed_ok(ctx *c, enum check_cap fixed0, u64 v, u64 exempt, u64 more)
{
	u64 ones = c->vmx_msr[fixed0], may = c->vmx_msr[fixed0 + 1] | more;

	return !(~v & ones & ~exempt) && !(v & ~may & ~exempt);
}

static bool canonical(ctx *c, u64 va)
{
	return is_canonical(va, c->va_bits);
}

static bool pa_area(ctx *c, u64 pa, u64 low, u64 size)
{
	u64 top = BIT(c->maxphyaddr);

	return !(pa & low) && pa < top && size <= top - pa &&
	       (!c->pa_ok || c->pa_ok(c->vmcs, pa, size));
}

static bool pa_page(ctx *c, u64 pa)
{
	return pa_area(c, pa, 0xfff, 4096);
}

static bool msr_list_ok(ctx *c, u64 pa, u64 count)
{
	return count == 0 || pa_area(c, pa, 0xf, count * 16);
}

/* Each byte is UC, WC, WT, WP, WB or UC-: 0, 1, 4-7. */
static bool pat_ok(u64 pat)
{
	for (unsigned i = 0; i < 8; i++, pat >>= 8)
		if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
			return false;
	return true;
}

static bool eptp_type_ok(ctx *c, u64 eptp)
{
	u64 cap = c->vmx_msr[CAP_EPT_VPID];

	return ((eptp & 7) == 6 && (cap & VMX_EPTP_WB)) || ((eptp & 7) == 0 && (cap & VMX_EPTP_UC));
}

static bool eptp_walk_ok(ctx *c, u64 eptp)
{
	u64 cap = c->vmx_msr[CAP_EPT_VPID], len = bits_get(eptp, 5, 3);

	return (len == 3 && (cap & VMX_EPT_PAGE_WALK_4)) ||
	       (len == 4 && (cap & VMX_EPT_PAGE_WALK_5));
}

static bool eptp_switching(ctx *c)
{
	return cpu2(c, SECONDARY_EXEC_ENABLE_VMFUNC) && (F(VM_FUNCTION_CONTROL) & BIT(0));
}

static bool tpr_threshold_ok(ctx *c)
{
	u32 vtpr;

	if (!cpu1(c, CPU_BASED_TPR_SHADOW) ||
	    cpu2(c, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY | SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES))
		return true;
	if (!c->read_pa || c->read_pa(c->vmcs, F(VIRTUAL_APIC_PAGE_ADDR) + 0x80, &vtpr, 4))
		return true;
	return (F(TPR_THRESHOLD) & 0xf) <= bits_get(vtpr, 7, 4);
}

/* The event to be injected: 25.8.3 */
static bool inject(ctx *c)
{
	return F(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID;
}

static u64 itype(ctx *c)
{
	return bits_get(F(VM_ENTRY_INTR_INFO_FIELD), 10, 8);
}

static u64 ivector(ctx *c)
{
	return F(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VECTOR_MASK;
}

static bool inject_error(ctx *c)
{
	return inject(c) && (F(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_DELIVER_ERR_CODE);
}

/* #DF #TS #NP #SS #GP #PF #AC */
static bool vector_has_error(u64 vector)
{
	return vector < 32 && (BIT(vector) & (BIT(8) | BITS(14, 10) | BIT(17)));
}

static bool usable(u64 ar)
{
	return !(ar & BIT(16));
}

static u64 ar_dpl(u64 ar)
{
	return bits_get(ar, 6, 5);
}

static bool ar_type_in(u64 ar, u64 set)
{
	return set & BIT(ar & 15);
}

/* A limit that needs 4 KiB units must have G, one that 4 KiB units cannot express must not. */
static bool limit_ok(u64 ar, u64 limit)
{
	return ar & BIT(15) ? (limit & 0xfff) == 0xfff : !(limit & BITS(31, 20));
}

static bool cs_dpl_ok(ctx *c)
{
	u64 cs = F(GUEST_CS_AR_BYTES), ss = F(GUEST_SS_AR_BYTES);

	if (v86(c))
		return true;
	switch (cs & 15) {
	case 3: return ar_dpl(cs) == 0;
	case 9:
	case 11: return ar_dpl(cs) == ar_dpl(ss);
	case 13:
	case 15: return ar_dpl(cs) <= ar_dpl(ss);
	default: return true;
	}
}

static bool activity_ok(ctx *c)
{
	u64 s = F(GUEST_ACTIVITY_STATE);

	return s == 0 || (s <= 3 && (c->vmx_msr[CAP_MISC] & BIT(5 + s)));
}

static bool held_debug(ctx *c)
{
	return (F(GUEST_INTERRUPTIBILITY_INFO) & 3) || F(GUEST_ACTIVITY_STATE) == 1;
}

static bool single_step(ctx *c)
{
	return (F(GUEST_RFLAGS) & BIT(8)) && !(F(GUEST_IA32_DEBUGCTL) & BIT(1));
}

static bool link_revision_ok(ctx *c)
{
	u64 pa = F(VMCS_LINK_POINTER);
	u32 rev, want = c->vmx_msr[CAP_BASIC] & BITS(30, 0);

	if (pa == ~0ull)
		return true;
	if (cpu2(c, SECONDARY_EXEC_SHADOW_VMCS))
		want |= BIT(31);
	return c->vmcs_rev && c->vmcs_rev(c->vmcs, pa, &rev) == 0 && rev == want;
}

static bool pae_guest(ctx *c)
{
	return (F(GUEST_CR0) & BIT(31)) && (F(GUEST_CR4) & BIT(5)) &&
	       !entryc(c, VM_ENTRY_IA32E_MODE);
}

static bool pdpte_ok(ctx *c, u64 e)
{
	return !(e & 1) || !(e & (BITS(63, c->maxphyaddr) | BITS(8, 5) | BITS(2, 1)));
}

static bool pdptes_in_memory_ok(ctx *c)
{
	u64 e[4];

	if (!c->read_pa || c->read_pa(c->vmcs, F(GUEST_CR3) & BITS(31, 5), e, sizeof(e)))
		return true;
	return pdpte_ok(c, e[0]) && pdpte_ok(c, e[1]) && pdpte_ok(c, e[2]) && pdpte_ok(c, e[3]);
}

/* ---- The rows ------------------------------------------------------------------------------ */

#define CHECK(id, group, section, field, topics, qual, rule, ok) \
	static bool check_##id(ctx *c)                           \
	{                                                        \
		return ok;                                       \
	}
#include "spec/check.def"

static const struct check_row rows[] = {
#define CHECK(id, group, section, field, topics, qual, rule, ok) \
	{#id, rule, section, group, field, topics, qual, check_##id},
#include "spec/check.def"
};

#define NTOPICS 18
#define NWORDS	4
static_assert(ARRAY_SIZE(rows) <= NWORDS * 64, "more rows than the sets have bits");
static_assert(T_ALL == BITS(NTOPICS - 1, 0), "enum check_topic");

const struct check_row *check_row(unsigned index)
{
	return index < ARRAY_SIZE(rows) ? &rows[index] : NULL;
}

/* Sets of rows by topic and by group: derived from the rows, once. */
static _Atomic u64 topic_rows[NTOPICS][NWORDS];
static _Atomic u64 group_rows[CHECK_NGROUPS][NWORDS];
static _Atomic u32 group_topics[CHECK_NGROUPS];
static _Atomic bool sets_ready;

/* Every thread that comes here computes the same, so racing is harmless. */
static __noinline void make_sets(void)
{
	u32 all[CHECK_NGROUPS] = {0};

	for (unsigned w = 0; w < NWORDS; w++) {
		u64 t[NTOPICS] = {0}, g[CHECK_NGROUPS] = {0};

		for (unsigned i = w * 64; i < ARRAY_SIZE(rows) && i < (w + 1) * 64; i++) {
			g[rows[i].group] |= BIT(i % 64);
			all[rows[i].group] |= rows[i].topics;
			for (unsigned k = 0; k < NTOPICS; k++)
				if (rows[i].topics & BIT(k))
					t[k] |= BIT(i % 64);
		}
		for (unsigned k = 0; k < NTOPICS; k++)
			atomic_store_explicit(&topic_rows[k][w], t[k], memory_order_relaxed);
		for (unsigned k = 0; k < CHECK_NGROUPS; k++)
			atomic_store_explicit(&group_rows[k][w], g[k], memory_order_relaxed);
	}
	for (unsigned k = 0; k < CHECK_NGROUPS; k++)
		atomic_store_explicit(&group_topics[k], all[k], memory_order_relaxed);
	atomic_store_explicit(&sets_ready, true, memory_order_release);
}

/* A context in which one field has another value. */
struct changed {
	ctx *c;
	u32 field;
	u64 value;
};

static u64 read_changed(const void *vmcs, u32 field)
{
	const struct changed *x = vmcs;

	return field == x->field ? x->value : x->c->read(x->c->vmcs, field);
}

/* Words of single bits, whose rows look at nothing but fields. */
static bool is_bits(u32 field)
{
	switch ((enum vmcs_field)field) {
	case PIN_BASED_VM_EXEC_CONTROL:
	case CPU_BASED_VM_EXEC_CONTROL:
	case SECONDARY_VM_EXEC_CONTROL:
	case VM_EXIT_CONTROLS:
	case VM_ENTRY_CONTROLS:
	case GUEST_CR0:
	case GUEST_CR4:
	case GUEST_RFLAGS:
	case GUEST_IA32_EFER:
	case GUEST_INTERRUPTIBILITY_INFO:
	case HOST_CR0:
	case HOST_CR4:
	case HOST_IA32_EFER: return true;
	default: return false;
	}
}

static __cold u64 find_fixes(const struct check_row *r, ctx *c)
{
	struct changed x = {c, r->field, 0};
	struct check_ctx with = *c;
	u64 fixes = 0, value = F(r->field);

	if (!is_bits(r->field))
		return 0;
	with.read = read_changed;
	with.vmcs = &x;
	for (unsigned bit = 0; bit < 64; bit++) {
		x.value = value ^ BIT(bit);
		if (r->ok(&with))
			fixes |= BIT(bit);
	}
	return fixes;
}

static __cold void fill_failure(const struct check_row *r, ctx *c, struct check_failure *f)
{
	*f = (struct check_failure){
		.id = r->id,
		.rule = r->rule,
		.section = r->section,
		.group = r->group,
		.field = r->field,
		.value = F(r->field),
		.fixes = find_fixes(r, c),
		.qualification = r->qualification,
		.insn_error = r->group == CHECK_CONTROLS ? VMXERR_ENTRY_INVALID_CONTROL_FIELD
			      : r->group == CHECK_HOST	 ? VMXERR_ENTRY_INVALID_HOST_STATE_FIELD
							 : 0,
	};
}

bool check_run_topics(enum check_group group, u32 topics, const struct check_ctx *c,
		      struct check_failure *f)
{
	u64 set[NWORDS] = {0};

	if (unlikely(!atomic_load_explicit(&sets_ready, memory_order_acquire)))
		make_sets();
	topics &= atomic_load_explicit(&group_topics[group], memory_order_relaxed);
	if (!topics)
		return true;
	for (u32 t = topics; t; t &= t - 1) {
		const _Atomic u64 *m = topic_rows[__builtin_ctz(t)];

		for (unsigned w = 0; w < NWORDS; w++)
			set[w] |= atomic_load_explicit(&m[w], memory_order_relaxed);
	}
	for (unsigned w = 0; w < NWORDS; w++) {
		set[w] &= atomic_load_explicit(&group_rows[group][w], memory_order_relaxed);
		for (; set[w]; set[w] &= set[w] - 1) {
			const struct check_row *r = &rows[w * 64 + __builtin_ctzll(set[w])];

			if (unlikely(!r->ok(c))) {
				fill_failure(r, c, f);
				return false;
			}
		}
	}
	return true;
}

bool check_run(enum check_group group, const struct check_ctx *c, struct check_failure *f)
{
	return check_run_topics(group, T_ALL, c, f);
}

const char *vmcs_field_name(u32 field)
{
	switch (field & ~1u) {
/* clang-format off */
#define VMCS(name, encoding, vmcs12, shadow) case encoding: return #name;
#include "spec/vmcs.def"
	/* clang-format on */
	default: return NULL;
	}
}

/* "; it does with bit 7 = 0 or bit 1 = 1" */
static void fixes_text(const struct check_failure *f, char *buf, size_t n)
{
	int len = 0;

	buf[0] = 0;
	/* Where any change will do, no bit is to blame. */
	if (!f->fixes || __builtin_popcountll(f->fixes) > 4)
		return;
	for (u64 w = f->fixes; w && (size_t)len < n; w &= w - 1) {
		unsigned bit = (unsigned)__builtin_ctzll(w);

		len += snprintf(buf + len, n - (size_t)len, "%s bit %u = %u",
				len ? " or" : "; it does with", bit, !(f->value >> bit & 1));
	}
}

/* Sections of other books than Intel's begin with the book's name. */
static const char *book(const struct check_failure *f)
{
	return f->section[0] >= '0' && f->section[0] <= '9' ? "SDM vol. 3C, " : "";
}

int check_explain(const struct check_failure *f, char *buf, size_t n)
{
	char fixes[96];
	const char *name = f->field == ~0u ? NULL : vmcs_field_name(f->field);
	static const char *const what[CHECK_NGROUPS] = {"control", "host state", "guest state"};

	if (!name)
		return snprintf(buf, n, "operand 0x%" PRIx64 "; must hold: %s; %s%s", f->value,
				f->rule, book(f), f->section);
	fixes_text(f, fixes, sizeof(fixes));
	return snprintf(buf, n, "%s: %s %s = 0x%" PRIx64 "; must hold: %s%s; %s%s", f->id,
			f->group < CHECK_NGROUPS ? what[f->group] : "operand", name, f->value,
			f->rule, fixes, book(f), f->section);
}

u32 check_topic(u32 field)
{
	switch ((enum vmcs_field)(field & ~1u)) {
	case VM_ENTRY_INTR_INFO_FIELD:
	case VM_ENTRY_EXCEPTION_ERROR_CODE:
	case VM_ENTRY_INSTRUCTION_LEN: return T_INJECT;
	case TPR_THRESHOLD: return T_TPR;
	case VM_EXIT_MSR_STORE_ADDR:
	case VM_EXIT_MSR_STORE_COUNT:
	case VM_EXIT_MSR_LOAD_ADDR:
	case VM_EXIT_MSR_LOAD_COUNT:
	case VM_ENTRY_MSR_LOAD_ADDR:
	case VM_ENTRY_MSR_LOAD_COUNT: return T_LISTS;
	/* Any value will do. */
	case EXCEPTION_BITMAP:
	case PAGE_FAULT_ERROR_CODE_MASK:
	case PAGE_FAULT_ERROR_CODE_MATCH:
	case CR0_GUEST_HOST_MASK:
	case CR4_GUEST_HOST_MASK:
	case CR0_READ_SHADOW:
	case CR4_READ_SHADOW:
	case CR3_TARGET_VALUE0:
	case CR3_TARGET_VALUE1:
	case CR3_TARGET_VALUE2:
	case CR3_TARGET_VALUE3:
	case TSC_OFFSET:
	case XSS_EXIT_BITMAP:
	case EOI_EXIT_BITMAP0:
	case EOI_EXIT_BITMAP1:
	case EOI_EXIT_BITMAP2:
	case EOI_EXIT_BITMAP3:
	case PLE_GAP:
	case PLE_WINDOW:
	case GUEST_RSP:
	case GUEST_SYSENTER_CS:
	case GUEST_SMBASE:
	case GUEST_INTR_STATUS:
	case GUEST_PML_INDEX:
	case VMX_PREEMPTION_TIMER_VALUE: return 0;
	case GUEST_RIP: return T_RIP;
	case GUEST_RFLAGS: return T_RFLAGS | T_VM;
	case GUEST_INTERRUPTIBILITY_INFO:
	case GUEST_ACTIVITY_STATE:
	case GUEST_PENDING_DBG_EXCEPTIONS: return T_STATE;
	case VMCS_LINK_POINTER: return T_LINK;
	case GUEST_PDPTR0:
	case GUEST_PDPTR1:
	case GUEST_PDPTR2:
	case GUEST_PDPTR3: return T_PDPTE;
	case GUEST_GDTR_BASE:
	case GUEST_GDTR_LIMIT:
	case GUEST_IDTR_BASE:
	case GUEST_IDTR_LIMIT:
		return T_DTR;
/* clang-format off */
#define SEG(s)                     \
	case GUEST_##s##_SELECTOR: \
	case GUEST_##s##_BASE:     \
	case GUEST_##s##_LIMIT:    \
	case GUEST_##s##_AR_BYTES:
	SEG(ES)
	SEG(CS)
	SEG(SS)
	SEG(DS)
	SEG(FS)
	SEG(GS)
	SEG(LDTR)
	SEG(TR)
#undef SEG
		return T_SEG;
		/* clang-format on */
	default: break;
	}
	switch (vmcs_type(field)) {
	case VMCS_TYPE_CONTROL: return T_CTL;
	case VMCS_TYPE_HOST: return T_HOST;
	case VMCS_TYPE_GUEST: return T_CR;
	default: return 0;
	}
}
