// SPDX-License-Identifier: MIT
/* VMX instructions in root mode (SDM vol. 3C, 25.11, 31.3) and VM-entry failures. */
#include "guest.h"

#include <string.h>

#include "spec/msr.h"

BLOB(vmcall, "vmcall");

static const u32 all_fields[] = {
#define VMCS(name, encoding, vmcs12, shadow) encoding,
#include "spec/vmcs.def"
};

static u64 width_mask(u32 f)
{
	switch (vmcs_width(f)) {
	case VMCS_WIDTH_16: return 0xffff;
	case VMCS_WIDTH_32: return 0xffffffff;
	default: return ~0ull;
	}
}

static void new_vmcs(struct guest *g, void *page)
{
	*(u32 *)page = *(u32 *)g->vmcs;
	assert_int_equal(sil_vmclear(g->cpu, page), SIL_VMX_OK);
	assert_int_equal(sil_vmptrld(g->cpu, page), SIL_VMX_OK);
}

static void test_fields(void **state)
{
	struct guest *g = *state;
	unsigned there = 0;
	u64 val;

	new_vmcs(g, guest_page(g));
	/* Write all, then read all: no two share their place. */
	for (unsigned i = 0; i < ARRAY_SIZE(all_fields); i++)
		sil_vmwrite(g->cpu, all_fields[i], 0x0123456789abcdefull * (i + 1));
	for (unsigned i = 0; i < ARRAY_SIZE(all_fields); i++) {
		u32 f = all_fields[i];
		u64 want = (0x0123456789abcdefull * (i + 1)) & width_mask(f);

		/* Written by the failures of the loops themselves. */
		if (f == VM_INSTRUCTION_ERROR)
			continue;
		if (sil_vmread(g->cpu, f, &val) != SIL_VMX_OK) {
			assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR),
					 VMXERR_UNSUPPORTED_VMCS_COMPONENT);
			continue;
		}
		there++;
		if (val != want)
			fail_msg("field %#x: %#lx, not %#lx", f, val, want);
		/* 25.11.2: the upper half of 64-bit fields, and of no others. */
		if (vmcs_width(f) == VMCS_WIDTH_64) {
			assert_int_equal(vmr(g, f | 1), want >> 32);
			vmw(g, f | 1, 0xfedc);
			assert_int_equal(vmr(g, f), (want & 0xffffffff) | 0xfedcull << 32);
			vmw(g, f, want);
		} else {
			assert_int_equal(sil_vmread(g->cpu, f | 1, &val), SIL_VMX_FAIL_VALID);
		}
	}
	assert_int_equal(there, ARRAY_SIZE(all_fields) - 19 - 1);
}

static void test_no_such_field(void **state)
{
	static const u32 none[] = {0x0ffe, 0x7ffe,	     0x8000,	 0x10000,   0x4830,
				   0x6830, 0x681c | BIT(12), 0xffffffff, 0x681c + 1};
	struct guest *g = *state;
	u64 val;

	for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
		vmw(g, VM_INSTRUCTION_ERROR, 0);
		assert_int_equal(sil_vmread(g->cpu, none[i], &val), SIL_VMX_FAIL_VALID);
		assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 12);
		vmw(g, VM_INSTRUCTION_ERROR, 0);
		assert_int_equal(sil_vmwrite(g->cpu, none[i], 0), SIL_VMX_FAIL_VALID);
		assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 12);
	}
}

static void test_current(void **state)
{
	struct guest *g = *state;
	void *other = guest_page(g);
	u64 val;

	assert_ptr_equal(sil_vmptrst(g->cpu), g->vmcs);
	/* Each VMCS keeps its own guest registers. */
	vmw(g, GUEST_RSP, 0x1111);
	vmw(g, GUEST_CS_SELECTOR, 0x2222);
	vmw(g, GUEST_CR3, 0x3333);
	new_vmcs(g, other);
	vmw(g, GUEST_RSP, 0x4444);
	vmw(g, GUEST_CS_SELECTOR, 0x5555);
	assert_int_equal(g->r->gpr[RSP], 0x4444);
	assert_int_equal(sil_vmptrld(g->cpu, g->vmcs), SIL_VMX_OK);
	assert_int_equal(vmr(g, GUEST_RSP), 0x1111);
	assert_int_equal(g->r->gpr[RSP], 0x1111);
	assert_int_equal(vmr(g, GUEST_CS_SELECTOR), 0x2222);
	assert_int_equal(vmr(g, GUEST_CR3), 0x3333);
	assert_int_equal(sil_vmptrld(g->cpu, other), SIL_VMX_OK);
	assert_int_equal(vmr(g, GUEST_RSP), 0x4444);
	assert_int_equal(vmr(g, GUEST_CS_SELECTOR), 0x5555);

	/* VMCLEAR of the current one leaves none, and keeps what it held. */
	assert_int_equal(sil_vmclear(g->cpu, other), SIL_VMX_OK);
	assert_null(sil_vmptrst(g->cpu));
	assert_int_equal(sil_vmread(g->cpu, GUEST_RSP, &val), SIL_VMX_FAIL_INVALID);
	assert_int_equal(sil_vmwrite(g->cpu, GUEST_RSP, 0), SIL_VMX_FAIL_INVALID);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_FAIL_INVALID);
	assert_int_equal(sil_vmptrld(g->cpu, other), SIL_VMX_OK);
	assert_int_equal(vmr(g, GUEST_RSP), 0x4444);
}

static void test_bad_pointers(void **state)
{
	struct guest *g = *state;
	u32 *page = guest_page(g);

	assert_int_equal(sil_vmclear(g->cpu, (u8 *)page + 8), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 2);
	assert_int_equal(sil_vmptrld(g->cpu, (u8 *)page + 8), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 9);
	*page = 0x7fffffff;
	assert_int_equal(sil_vmptrld(g->cpu, page), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 11);
	assert_string_equal(sil_last_failure(g->cpu)->id, "VMPTRLD_REVISION");
	/* A shadow VMCS may be current but not be entered. */
	*page = *(u32 *)g->vmcs | BIT(31);
	assert_int_equal(sil_vmptrld(g->cpu, page), SIL_VMX_OK);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_FAIL_INVALID);
}

static void test_launch_state(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, vmcall);
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 5);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), EXIT_REASON_VMCALL);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 4);
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), EXIT_REASON_VMCALL);
	assert_int_equal(sil_vmclear(g->cpu, g->vmcs), SIL_VMX_OK);
	assert_int_equal(sil_vmptrld(g->cpu, g->vmcs), SIL_VMX_OK);
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_FAIL_VALID);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_OK);
}

static void test_entry_failures(void **state)
{
	struct guest *g = *state;
	u32 *link = guest_page(g);

	GUEST_CODE(g, vmcall);
	vmw(g, CR3_TARGET_COUNT, 5);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 7);
	assert_string_equal(sil_last_failure(g->cpu)->id, "CR3_TARGET_COUNT");
	vmw(g, CR3_TARGET_COUNT, 0);

	vmw(g, HOST_CR4, 0x20);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 8);
	assert_string_equal(sil_last_failure(g->cpu)->id, "HOST_CR4_FIXED");
	vmw(g, HOST_CR4, 0x2020);

	guest_inject(g, 3, 6);
	vmw(g, GUEST_RFLAGS, 0);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), 0x80000021);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 0);
	assert_string_equal(sil_last_failure(g->cpu)->id, "GUEST_RFLAGS_RESERVED");
	/* 27.8: injection stays valid, and the VMCS is not launched. */
	assert_int_equal(vmr(g, VM_ENTRY_INTR_INFO_FIELD), 0x80000306);
	vmw(g, VM_ENTRY_INTR_INFO_FIELD, 0);
	vmw(g, GUEST_RFLAGS, 2);

	*link = 0x123;
	vmw(g, VMCS_LINK_POINTER, (u64)link);
	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), 0x80000021);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 4);
	vmw(g, VMCS_LINK_POINTER, ~0ull);

	assert_int_equal(sil_vmlaunch(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), EXIT_REASON_VMCALL);
	/* What an entry has checked is checked again after a VMWRITE. */
	vmw(g, GUEST_RIP, BIT(60));
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), 0x80000021);
	assert_string_equal(sil_last_failure(g->cpu)->id, "GUEST_RIP_64");
}

static void test_msr_lists(void **state)
{
	struct guest *g = *state;
	struct {
		u32 index, reserved;
		u64 value;
	} *load = guest_page(g), *store = guest_page(g);

	GUEST_CODE(g, vmcall);
	load[0].index = MSR_LSTAR;
	load[0].value = 0x1234;
	load[1].index = MSR_STAR;
	load[1].value = 0x5678;
	vmw(g, VM_ENTRY_MSR_LOAD_ADDR, (u64)load);
	vmw(g, VM_ENTRY_MSR_LOAD_COUNT, 2);
	store[0].index = MSR_STAR;
	vmw(g, VM_EXIT_MSR_STORE_ADDR, (u64)store);
	vmw(g, VM_EXIT_MSR_STORE_COUNT, 1);
	assert_int_equal(guest_run(g), EXIT_REASON_VMCALL);
	assert_int_equal(g->r->lstar, 0x1234);
	assert_int_equal(store[0].value, 0x5678);

	/* 27.4: FS base is not to be loaded this way. */
	load[1].index = MSR_FS_BASE;
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), 0x80000022);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 2);
	load[0].value = BIT(60);
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 1);
}

static void test_invalidations(void **state)
{
	struct guest *g = *state;

	assert_int_equal(sil_invept(g->cpu, 1, g->eptp), SIL_VMX_OK);
	assert_int_equal(sil_invept(g->cpu, 2, 0), SIL_VMX_OK);
	assert_int_equal(sil_invept(g->cpu, 0, g->eptp), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 28);
	assert_int_equal(sil_invept(g->cpu, 3, g->eptp), SIL_VMX_FAIL_VALID);
	assert_int_equal(sil_invept(g->cpu, 1, g->eptp | BIT(9)), SIL_VMX_FAIL_VALID);
	assert_int_equal(sil_invvpid(g->cpu, 0, 1, 0x1000), SIL_VMX_OK);
	assert_int_equal(sil_invvpid(g->cpu, 1, 1, 0), SIL_VMX_OK);
	assert_int_equal(sil_invvpid(g->cpu, 2, 0, 0), SIL_VMX_OK);
	assert_int_equal(sil_invvpid(g->cpu, 3, 1, 0), SIL_VMX_OK);
	vmw(g, VM_INSTRUCTION_ERROR, 0);
	assert_int_equal(sil_invvpid(g->cpu, 1, 0, 0), SIL_VMX_FAIL_VALID);
	assert_int_equal(vmr(g, VM_INSTRUCTION_ERROR), 28);
	assert_int_equal(sil_invvpid(g->cpu, 0, 1, BIT(60)), SIL_VMX_FAIL_VALID);
	assert_int_equal(sil_invvpid(g->cpu, 4, 1, 0), SIL_VMX_FAIL_VALID);
}

/* A.1-A.10: what the manual fixes about the capability MSRs. */
static void test_capabilities(void **state)
{
	static const struct {
		u32 msr, true_msr;
		u32 default1;
	} ctl[] = {
		{0x481, 0x48d, 0x16},
		{0x482, 0x48e, 0x0401e172},
		{0x483, 0x48f, 0x00036dff},
		{0x484, 0x490, 0x000011ff},
	};
	struct guest *g = *state;
	u64 v, t;

	assert_int_equal(sil_rdmsr(g->m, 0x480, &v), 0);
	assert_int_equal(v & BIT(31), 0);
	assert_int_equal(bits_get(v, 44, 32), 4096);
	assert_int_equal(bits_get(v, 53, 50), 6);
	assert_true(v & BIT(55));
	for (unsigned i = 0; i < ARRAY_SIZE(ctl); i++) {
		assert_int_equal(sil_rdmsr(g->m, ctl[i].msr, &v), 0);
		assert_int_equal(sil_rdmsr(g->m, ctl[i].true_msr, &t), 0);
		/* What must be 1 may be 1; default1 controls; the TRUE MSR only relaxes. */
		assert_int_equal((u32)v & ~(v >> 32), 0);
		assert_int_equal((u32)t & ~(t >> 32), 0);
		assert_int_equal((u32)v, ctl[i].default1);
		assert_int_equal((u32)t & ~(u32)v, 0);
		assert_int_equal(t >> 32, v >> 32);
	}
	assert_int_equal(sil_rdmsr(g->m, 0x486, &v), 0);
	assert_int_equal(v, 0x80000021);
	assert_int_equal(sil_rdmsr(g->m, 0x488, &v), 0);
	assert_int_equal(v, 0x2000);
	assert_int_equal(sil_rdmsr(g->m, 0x489, &t), 0);
	assert_true(t & 0x2000);
	/* Highest index: natural-width guest fields and others end at 0x2042 / 0x2032. */
	assert_int_equal(sil_rdmsr(g->m, 0x48a, &v), 0);
	assert_int_equal(v, 0x32);
	assert_int_equal(sil_rdmsr(g->m, 0x492, &v), -22);
	assert_int_equal(sil_rdmsr(g->m, 0x123456, &v), -22);
	assert_int_equal(sil_rdmsr(g->m, MSR_IA32_FEAT_CTL, &v), 0);
	assert_int_equal(v & 5, 5);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		T(test_fields),	      T(test_no_such_field), T(test_current),
		T(test_bad_pointers), T(test_launch_state),  T(test_entry_failures),
		T(test_msr_lists),    T(test_invalidations), T(test_capabilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
