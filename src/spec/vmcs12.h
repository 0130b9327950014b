/* SPDX-License-Identifier: MIT */
/*
 * A guest hypervisor's VMCS in the layout in which KVM keeps, flushes and migrates it: one page
 * whose fields are where the vmcs12 column of spec/vmcs.def says.
 */
#ifndef SPEC_VMCS12_H
#define SPEC_VMCS12_H

#include <string.h>

#include "spec/vmcs.h"

#define VMCS12_REVISION 0x11e57ed0u
#define VMCS12_SIZE	0x1000

struct vmcs12 {
	u32 revision; /* bit 31: shadow VMCS */
	u32 abort;
	u32 launched;
	u32 reserved[7];
	u8 fields[VMCS12_SIZE - 40]; /* by offset from the start: V12 and vmcs12_read */
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct vmcs12) == VMCS12_SIZE, "one page");
#define VMCS12_SHADOW BIT(31)

/* Position of each field, constants for V12 and the table's order for sets of fields. */
enum vmcs12_offset {
#define VMCS(name, encoding, vmcs12, shadow) V12_OFFSET_##name = vmcs12,
#include "spec/vmcs.def"
};
enum vmcs_ordinal {
#define VMCS(name, encoding, vmcs12, shadow) VMCS_NR_##name,
#include "spec/vmcs.def"
	VMCS_NFIELDS
};
_Static_assert(VMCS_NFIELDS <= 192, "struct vmcs_set holds them");

static inline u64 vmcs12_load(const struct vmcs12 *v, unsigned offset, enum vmcs_width width)
{
	const char *p = (const char *)v + offset;

	switch (width) {
	case VMCS_WIDTH_16: return *(const u16 *)p;
	case VMCS_WIDTH_32: return *(const u32 *)p;
	default: return *(const u64 *)p;
	}
}

static inline void vmcs12_store(struct vmcs12 *v, unsigned offset, enum vmcs_width width, u64 val)
{
	char *p = (char *)v + offset;

	switch (width) {
	case VMCS_WIDTH_16: *(u16 *)p = (u16)val; break;
	case VMCS_WIDTH_32: *(u32 *)p = (u32)val; break;
	default: *(u64 *)p = val;
	}
}

/* Fields by name: a load or store of the field's width. The page is only ever reached through these
 * and memcpy, so aliasing is the compiler's to assume within one width only. */
#define V12(v12, name)		vmcs12_load(v12, V12_OFFSET_##name, vmcs_width(name))
#define V12_SET(v12, name, val) vmcs12_store(v12, V12_OFFSET_##name, vmcs_width(name), val)

/* A set of fields, by enum vmcs_ordinal. */
struct vmcs_set {
	u64 w[3];
};
static inline void vmcs_set_add(struct vmcs_set *s, unsigned nr)
{
	s->w[nr / 64] |= BIT(nr % 64);
}
static inline void vmcs_set_del(struct vmcs_set *s, unsigned nr)
{
	s->w[nr / 64] &= ~BIT(nr % 64);
}
static inline bool vmcs_set_has(const struct vmcs_set *s, unsigned nr)
{
	return s->w[nr / 64] >> (nr % 64) & 1;
}
static inline bool vmcs_set_empty(const struct vmcs_set *s)
{
	return !(s->w[0] | s->w[1] | s->w[2]);
}

/* One row of the table at run time. */
struct vmcs12_field {
	u16 encoding, offset;
	u8 shadow; /* enum vmcs_shadow */
	u8 known;
};
extern const struct vmcs12_field vmcs12_fields[VMCS_NFIELDS];
/* Ordinal of the field with this encoding (either half of a 64-bit one) if vmcs12 has it, else -1.
 */
int vmcs12_find(u32 encoding);
u64 vmcs12_read(const struct vmcs12 *v, u32 encoding); /* of a field that vmcs12_find finds */
void vmcs12_write(struct vmcs12 *v, u32 encoding, u64 val);

#endif
