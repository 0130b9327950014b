// SPDX-License-Identifier: MIT
/* The run-time side of spec/vmcs12.h. */
#include "spec/vmcs12.h"

const struct vmcs12_field vmcs12_fields[VMCS_NFIELDS] = {
#define VMCS(name, encoding, vmcs12, shadow) {encoding, vmcs12, shadow, vmcs12 != V12_NONE},
#include "spec/vmcs.def"
};

/* Index, type and width of an encoding, without the bit that selects a half. */
#define KEY(enc)      (((enc) >> 1 & 0x3f) | ((enc) >> 10 & 3) << 6 | ((enc) >> 13 & 3) << 8)
#define ENCODING_BITS 0x6c7fu

static const u8 ordinal_of[1024] = {
#define VMCS(name, encoding, vmcs12, shadow) [KEY(encoding)] = VMCS_NR_##name + 1,
#include "spec/vmcs.def"
};
_Static_assert(VMCS_NFIELDS < 255, "ordinals fit");

int vmcs12_find(u32 enc)
{
	unsigned nr;

	if (enc & ~ENCODING_BITS)
		return -1;
	/* Only 64-bit fields have halves. */
	if (vmcs_is_high(enc) && vmcs_width(enc) != VMCS_WIDTH_64)
		return -1;
	nr = ordinal_of[KEY(enc)];
	return nr && vmcs12_fields[nr - 1].known ? (int)nr - 1 : -1;
}

u64 vmcs12_read(const struct vmcs12 *v, u32 enc)
{
	int nr = vmcs12_find(enc);
	u64 val;

	if (nr < 0)
		return 0;
	val = vmcs12_load(v, vmcs12_fields[nr].offset, vmcs_width(enc));
	return vmcs_is_high(enc) ? val >> 32 : val;
}

void vmcs12_write(struct vmcs12 *v, u32 enc, u64 val)
{
	int nr = vmcs12_find(enc);

	if (nr < 0)
		return;
	if (vmcs_is_high(enc))
		val = (u32)vmcs12_read(v, enc & ~1u) | val << 32;
	vmcs12_store(v, vmcs12_fields[nr].offset, vmcs_width(enc), val);
}
