// SPDX-License-Identifier: MIT
/* Every row of spec/check.def fails where case.def breaks it, and only there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "spec/check.h"
#include "spec/vmcs.h"
#include "spec/vmx.h"

#define REVISION 0x11e57u
#define CURRENT	 0x7000ull

enum slot {
#define VMCS(name, encoding, vmcs12, shadow) SLOT_##name,
#include "spec/vmcs.def"
	NSLOTS,
};

struct vm {
	u64 f[NSLOTS];
	u64 cap[CAP_N];
	struct check_ctx ctx;
	u32 vtpr, link_rev;
	u64 pdpte[4];
};

#define V(field) (v->f[SLOT_##field])

static int slot_of(u32 field)
{
	switch (field) {
/* clang-format off */
#define VMCS(name, encoding, vmcs12, shadow) case encoding: return SLOT_##name;
#include "spec/vmcs.def"
	/* clang-format on */
	default: return -1;
	}
}

/* The row under test must declare a topic of each field that it reads. */
static u32 topics_declared = T_ALL;
static u32 undeclared_read;

static u64 read_field(const void *vmcs, u32 field)
{
	int s = slot_of(field);

	assert_true(s >= 0);
	if (!(check_topic(field) & topics_declared))
		undeclared_read = field;
	return ((const struct vm *)vmcs)->f[s];
}

static int read_rev(const void *vmcs, u64 pa, u32 *rev)
{
	*rev = ((const struct vm *)vmcs)->link_rev;
	return 0;
}

static int read_mem(const void *vmcs, u64 pa, void *buf, unsigned size)
{
	const struct vm *v = vmcs;

	if (size == 4)
		memcpy(buf, &v->vtpr, 4);
	else
		memcpy(buf, v->pdpte, size);
	return 0;
}

#define EPTP (0x1000 | EPTP_MT_WB | EPTP_WALK_4)
#include "break.h"

static void smm(struct vm *v)
{
	v->ctx.in_smm = true;
	V(VM_ENTRY_CONTROLS) |= VM_ENTRY_SMM;
	V(GUEST_INTERRUPTIBILITY_INFO) = 4;
}

/* A processor with everything the manual has, and a 64-bit guest under a 64-bit host. */
static void make_good(struct vm *v)
{
	*v = (struct vm){0};
	v->cap[CAP_BASIC] = REVISION | BIT(55);
	v->cap[CAP_TRUE_PINBASED] = 0x16 | 0xffull << 32;
	v->cap[CAP_TRUE_PROCBASED] = 0x04006172 | 0xffffffffull << 32;
	v->cap[CAP_PROCBASED2] = (0xffffffffull & ~BIT(21)) << 32;
	v->cap[CAP_PROCBASED3] = 1;
	v->cap[CAP_TRUE_EXIT] = 0x36dfb | 0x3ffffffull << 32;
	v->cap[CAP_TRUE_ENTRY] = 0x11fb | 0x7ffffull << 32;
	v->cap[CAP_MISC] = 4 << 16 | BITS(8, 6);
	v->cap[CAP_CR0_FIXED0] = 0x80000021;
	v->cap[CAP_CR0_FIXED1] = 0xffffffff;
	v->cap[CAP_CR4_FIXED0] = 0x2000;
	v->cap[CAP_CR4_FIXED1] = 0xf727ff;
	v->cap[CAP_EPT_VPID] =
		VMX_EPTP_WB | VMX_EPTP_UC | VMX_EPT_PAGE_WALK_4 | VMX_EPT_PAGE_WALK_5 | VMX_EPT_AD;
	v->cap[CAP_VMFUNC] = 1;
	v->ctx = (struct check_ctx){
		.read = read_field,
		.vmcs = v,
		.vmx_msr = v->cap,
		.maxphyaddr = 46,
		.va_bits = 57,
		.efer_supported = 0xd01,
		.debugctl_supported = 3,
		.perf_global_supported = 0xf | 7ull << 32,
		.host_is_64bit = true,
		.current_vmcs = CURRENT,
		.vmcs_rev = read_rev,
		.read_pa = read_mem,
	};
	v->link_rev = REVISION;

	V(PIN_BASED_VM_EXEC_CONTROL) = 0x16;
	V(CPU_BASED_VM_EXEC_CONTROL) = 0x04006172;
	V(VM_EXIT_CONTROLS) = 0x36dff | VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_LOAD_IA32_EFER;
	V(VM_ENTRY_CONTROLS) =
		0x11ff | VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_EFER | VM_ENTRY_LOAD_IA32_PAT;

	V(HOST_CR0) = 0x80000021;
	V(HOST_CR4) = 0x2020;
	V(HOST_IA32_EFER) = 0x500;
	V(HOST_CS_SELECTOR) = 8;
	V(HOST_SS_SELECTOR) = 0x10;
	V(HOST_TR_SELECTOR) = 0x18;

	V(GUEST_CR0) = 0x80000031;
	V(GUEST_CR4) = 0x2020;
	V(GUEST_DR7) = 0x400;
	V(GUEST_IA32_EFER) = 0x500;
	V(GUEST_IA32_PAT) = 0x0007040600070406;
	V(GUEST_CS_SELECTOR) = 8;
	V(GUEST_CS_AR_BYTES) = 0xa09b;
	V(GUEST_TR_SELECTOR) = 0x18;
	V(GUEST_TR_AR_BYTES) = 0x8b;
	V(GUEST_TR_LIMIT) = 0x67;
	V(GUEST_LDTR_AR_BYTES) = 0x10000;
	for (unsigned i = 0; i < 6; i++) {
		v->f[SLOT_GUEST_ES_LIMIT + i] = 0xffffffff;
		if (i == 1)
			continue;
		v->f[SLOT_GUEST_ES_SELECTOR + i] = 0x10;
		v->f[SLOT_GUEST_ES_AR_BYTES + i] = 0xc093;
	}
	V(GUEST_RFLAGS) = 2;
	V(VMCS_LINK_POINTER) = ~0ull;
}

/* ---- The cases ---------------------------------------------------------------------------------
 */

struct kase {
	const char *id, *by;
	void (*broken)(struct vm *v);
	void (*sound)(struct vm *v);
};

#define CASE(row, br, so)                      \
	static void broken_##row(struct vm *v) \
	{                                      \
		br;                            \
	}                                      \
	static void sound_##row(struct vm *v)  \
	{                                      \
		so;                            \
	}
#include "case.def"

static const struct kase cases[] = {
#define CASE(row, br, so)	     {#row, NULL, broken_##row, sound_##row},
#define CASE_HIDDEN(row, by, br, so) {#row, #by, broken_##row, sound_##row},
#include "case.def"
};

static const struct check_row *find_row(const char *id)
{
	const struct check_row *r;

	for (unsigned i = 0; (r = check_row(i)); i++)
		if (!strcmp(r->id, id))
			return r;
	return NULL;
}

static bool run_all(const struct vm *v, u32 topics, struct check_failure *f)
{
	for (enum check_group g = 0; g < CHECK_NGROUPS; g++)
		if (!check_run_topics(g, topics, &v->ctx, f))
			return false;
	return true;
}

/* What VMWRITEs turn @from into @to make doubtful. */
static u32 topics_between(const struct vm *from, const struct vm *to)
{
	u32 topics = 0;

#define VMCS(name, encoding, vmcs12, shadow)            \
	if (from->f[SLOT_##name] != to->f[SLOT_##name]) \
		topics |= check_topic(encoding);
#include "spec/vmcs.def"
	return topics;
}

static void test_good(void **state)
{
	struct check_failure f;
	char text[300];
	struct vm v;

	make_good(&v);
	if (!run_all(&v, T_ALL, &f)) {
		check_explain(&f, text, sizeof(text));
		fail_msg("%s", text);
	}
}

static void test_every_row_has_a_case(void **state)
{
	const struct check_row *r;
	unsigned i, k;

	for (i = 0; (r = check_row(i)); i++) {
		for (k = 0; k < ARRAY_SIZE(cases) && strcmp(cases[k].id, r->id); k++)
			;
		if (k == ARRAY_SIZE(cases))
			fail_msg("no case for %s", r->id);
	}
	for (k = 0; k < ARRAY_SIZE(cases); k++)
		if (!find_row(cases[k].id))
			fail_msg("no row %s", cases[k].id);
	assert_int_equal(i, ARRAY_SIZE(cases));
}

static void test_sound(void **state)
{
	struct check_failure f;
	char text[300];
	struct vm v;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		make_good(&v);
		cases[i].sound(&v);
		if (!run_all(&v, T_ALL, &f)) {
			check_explain(&f, text, sizeof(text));
			fail_msg("sound case of %s refused: %s", cases[i].id, text);
		}
	}
}

static void test_broken(void **state)
{
	struct check_failure f;
	char text[400];
	struct vm v;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct kase *k = &cases[i];
		const char *expect = k->by ? k->by : k->id;
		const struct check_row *row = find_row(expect);

		make_good(&v);
		k->broken(&v);
		if (find_row(k->id)->ok(&v.ctx))
			fail_msg("%s holds in its broken case", k->id);
		if (run_all(&v, T_ALL, &f))
			fail_msg("broken case of %s passes", k->id);
		check_explain(&f, text, sizeof(text));
		if (strcmp(f.id, expect))
			fail_msg("broken case of %s: %s", k->id, text);
		assert_int_equal(f.group, row->group);
		assert_int_equal(f.field, row->field);
		assert_int_equal(f.value, v.f[slot_of(row->field)]);
		assert_int_equal(f.insn_error, row->group == CHECK_CONTROLS ? 7
					       : row->group == CHECK_HOST   ? 8
									    : 0);
		assert_non_null(strstr(text, row->rule));
		assert_non_null(strstr(text, row->section));
		assert_non_null(strstr(text, vmcs_field_name(row->field)));
	}
}

/* An entry that repeats only what VMWRITEs have made doubtful finds the same. */
static void test_broken_by_vmwrite(void **state)
{
	struct vm good, v;
	struct check_failure f;

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct kase *k = &cases[i];
		const char *expect = k->by ? k->by : k->id;

		make_good(&good);
		make_good(&v);
		k->broken(&v);
		/* The processor itself changes only between programs. */
		if (memcmp(v.cap, good.cap, sizeof(v.cap)) || v.ctx.in_smm || !v.ctx.host_is_64bit)
			continue;
		if (run_all(&v, topics_between(&good, &v) | T_MEMORY, &f))
			fail_msg("%s is not seen after VMWRITE", k->id);
		assert_string_equal(f.id, expect);
	}
}

/* Rows look only at fields whose topics they declare, so that no VMWRITE goes unnoticed. */
static void test_topics(void **state)
{
	struct vm v;

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		const struct check_row *r;

		make_good(&v);
		if (i & 1)
			cases[i / 2].broken(&v);
		else
			cases[i / 2].sound(&v);
		for (unsigned k = 0; (r = check_row(k)); k++) {
			topics_declared = r->topics;
			undeclared_read = ~0u;
			r->ok(&v.ctx);
			topics_declared = T_ALL;
			if (undeclared_read != ~0u)
				fail_msg("%s reads %s and declares no topic of it", r->id,
					 vmcs_field_name(undeclared_read));
		}
	}
}

/* Any words at all in the fields: an answer, and always the same. */
static void test_garbage(void **state)
{
	u64 x = 88172645463325252ull;
	struct check_failure f, g;
	char text[400];
	struct vm v;

	for (unsigned n = 0; n < 2000; n++) {
		make_good(&v);
		for (unsigned i = 0; i < NSLOTS; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			if (x % 7 < 2)
				v.f[i] = x;
			else if (x % 7 == 2)
				v.f[i] ^= BIT(x >> 58);
		}
		if (run_all(&v, T_ALL, &f))
			continue;
		assert_false(run_all(&v, T_ALL, &g));
		assert_string_equal(f.id, g.id);
		assert_true(check_explain(&f, text, sizeof(text)) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_every_row_has_a_case),
		cmocka_unit_test(test_sound),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_broken_by_vmwrite),
		cmocka_unit_test(test_topics),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
