/* SPDX-License-Identifier: MIT */
/* Enlightened VMCSs and what else the test hypervisor has of Hyper-V's interface. */
#ifndef TESTS_NESTED_EVMCS_H
#define TESTS_NESTED_EVMCS_H

#include "base/bits.h"
#include "base/types.h"

/* Groups: bits of the clean fields. */
#define EVMCS_NONE	  -1
#define EVMCS_ALL	  16
#define EVMCS_CLEAN_ALL	  0xffffu
#define EVMCS_MSR_BITMAP  BIT(1)
#define EVMCS_GUEST_BASIC BIT(10)

#define EVMCS_JOIN_(a, b) a##b
#define EVMCS_JOIN(a, b)  EVMCS_JOIN_(a, b)
struct evmcs {
#define F(t, f, g) t f_##f;
#define G(t, n)	   t EVMCS_JOIN(gap, __COUNTER__)[n];
#define S(t, f)	   t f;
#include "evmcs_layout.def"
};
_Static_assert(sizeof(struct evmcs) == 1024, "TLFS: a quarter of the page");
_Static_assert(__builtin_offsetof(struct evmcs, f_HOST_RSP) == 616 &&
		       __builtin_offsetof(struct evmcs, clean_fields) == 824,
	       "boot.S has them");

struct evmcs_field {
	u16 encoding, offset, size;
	s8 group;
};
extern const struct evmcs_field evmcs_fields[];
extern const unsigned evmcs_nfields;
/* NULL: VMCSs are ordinary ones. Else the structure that is entered. */
extern struct evmcs *evmcs;
/* The VP assist page. */
struct vp_assist {
	u32 apic_assist, reserved1;
	u32 vtl[6];
	u32 nested_features, nested_controls;
	u8 enlighten_vmentry, reserved2[7];
	u64 current_nested_vmcs;
};
extern struct vp_assist *vp_assist;
/* The VM is moved all the time: L0 has nothing in mind of what it has read. */
extern bool moved;
/* Hyper-V's MSRs; true if the guest has been given them. */
bool hv_start(void);
u64 hypercall(u64 control, u64 input, u64 output);
const struct evmcs_field *evmcs_find(u32 field);

#endif
