/* SPDX-License-Identifier: MIT */
/* spec/vmcs12.h: which encodings name a field, halves of 64-bit fields, widths. SDM vol. 3D, B. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spec/vmcs12.h"

static void finds(void **state)
{
	assert_int_equal(vmcs12_find(0x0000), VMCS_NR_VIRTUAL_PROCESSOR_ID);
	assert_int_equal(vmcs12_find(0x6820), VMCS_NR_GUEST_RFLAGS);
	/* Both halves of a 64-bit field, one of the others. */
	assert_int_equal(vmcs12_find(0x201a), VMCS_NR_EPT_POINTER);
	assert_int_equal(vmcs12_find(0x201b), VMCS_NR_EPT_POINTER);
	assert_int_equal(vmcs12_find(0x6821), -1);
	assert_int_equal(vmcs12_find(0x0801), -1);
	/* No such field; not in this layout; bits that encode nothing. */
	assert_int_equal(vmcs12_find(0x3ffe), -1);
	assert_int_equal(vmcs12_find(0x6008), -1);
	assert_int_equal(vmcs12_find(0x8000), -1);
	assert_int_equal(vmcs12_find(0x0000 | 0x1000), -1);
	assert_int_equal(vmcs12_find(0xffffffff), -1);
}

/* Every row is found by its encoding, and fields do not overlap. */
static void rows(void **state)
{
	static const unsigned size[] = {2, 8, 4, 8};
	u8 used[VMCS12_SIZE] = {0};

	for (unsigned nr = 0; nr < VMCS_NFIELDS; nr++) {
		const struct vmcs12_field *f = &vmcs12_fields[nr];

		if (!f->known) {
			assert_int_equal(vmcs12_find(f->encoding), -1);
			continue;
		}
		assert_int_equal(vmcs12_find(f->encoding), nr);
		assert_in_range(f->offset, 40, 1000 - size[vmcs_width(f->encoding)]);
		for (unsigned i = 0; i < size[vmcs_width(f->encoding)]; i++)
			assert_int_equal(used[f->offset + i]++, 0);
	}
}

static void halves(void **state)
{
	static struct vmcs12 v;

	vmcs12_write(&v, 0x201a, 0x1122334455667788);
	assert_int_equal(vmcs12_read(&v, 0x201b), 0x11223344);
	vmcs12_write(&v, 0x201b, 0xaabbccdd);
	assert_int_equal(vmcs12_read(&v, 0x201a), 0xaabbccdd55667788);
	assert_int_equal(V12(&v, EPT_POINTER), 0xaabbccdd55667788);
	/* A narrow field takes what fits and leaves its neighbours. */
	vmcs12_write(&v, POSTED_INTR_NV, 0x1234);
	vmcs12_write(&v, VIRTUAL_PROCESSOR_ID, 0xabcdef);
	assert_int_equal(V12(&v, VIRTUAL_PROCESSOR_ID), 0xcdef);
	assert_int_equal(V12(&v, POSTED_INTR_NV), 0x1234);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds),
		cmocka_unit_test(rows),
		cmocka_unit_test(halves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
