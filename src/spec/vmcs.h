/* SPDX-License-Identifier: MIT */
/* VMCS field encodings by the names KVM gives them, and what an encoding says by itself. */
#ifndef SPEC_VMCS_H
#define SPEC_VMCS_H

#include "base/bits.h"
#include "base/types.h"

enum vmcs_field {
#define VMCS(name, encoding, vmcs12, shadow) name = encoding,
#include "spec/vmcs.def"
};

/* SDM vol. 3C, 25.11.2, table 25-21 */
enum vmcs_width { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NATURAL };
enum vmcs_type { VMCS_TYPE_CONTROL, VMCS_TYPE_EXIT_INFO, VMCS_TYPE_GUEST, VMCS_TYPE_HOST };
static inline enum vmcs_width vmcs_width(u32 enc)
{
	return (enc >> 13) & 3;
}
static inline enum vmcs_type vmcs_type(u32 enc)
{
	return (enc >> 10) & 3;
}
static inline unsigned vmcs_index(u32 enc)
{
	return (enc >> 1) & 0x1ff;
}
static inline bool vmcs_is_high(u32 enc)
{
	return enc & 1;
}

/* Columns of spec/vmcs.def */
#define V12_NONE 0xffff
enum vmcs_shadow { SHADOW_NO, SHADOW_RO, SHADOW_RW };

#endif
