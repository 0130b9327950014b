// SPDX-License-Identifier: MIT
/* Hyper-V's interface for the test hypervisor, and VMREAD and VMWRITE of an enlightened VMCS. */
#include "evmcs.h"
#include "l1.h"

struct evmcs *evmcs;
bool moved;
struct vp_assist *vp_assist;
static u8 *hypercall_page;

const struct evmcs_field evmcs_fields[] = {
#define F(t, f, g) {f, __builtin_offsetof(struct evmcs, f_##f), sizeof(t), g},
#define G(t, n)
#define S(t, f)
#include "evmcs_layout.def"
};
const unsigned evmcs_nfields = ARRAY_SIZE(evmcs_fields);

const struct evmcs_field *evmcs_find(u32 field)
{
	for (unsigned i = 0; i < evmcs_nfields; i++)
		if (evmcs_fields[i].encoding == field)
			return &evmcs_fields[i];
	return NULL;
}

#define MSR_GUEST_OS_ID	   0x40000000
#define MSR_HYPERCALL	   0x40000001
#define MSR_VP_ASSIST_PAGE 0x40000073

bool hv_start(void)
{
	u32 r[4];

	cpuid(0x40000001, 0, r);
	if (r[0] != 0x31237648) /* "Hv#1" */
		return false;
	cpuid(0x4000000a, 0, r);
	if (!(r[0] & 0xff))
		return false;
	hypercall_page = page();
	vp_assist = page();
	evmcs = page();
	wrmsr(MSR_GUEST_OS_ID, 1ull << 63);
	wrmsr(MSR_HYPERCALL, (u64)hypercall_page | 1);
	wrmsr(MSR_VP_ASSIST_PAGE, (u64)vp_assist | 1);
	vp_assist->current_nested_vmcs = (u64)evmcs;
	vp_assist->enlighten_vmentry = 1;
	return true;
}

u64 hypercall(u64 control, u64 input, u64 output)
{
	register u64 r8 asm("r8") = output;
	u64 status;

	asm volatile("call *%[page]"
		     : "=a"(status), "+c"(control), "+d"(input), "+r"(r8)
		     : [page] "r"(hypercall_page)
		     : "memory", "cc", "r9", "r10", "r11");
	return status;
}
