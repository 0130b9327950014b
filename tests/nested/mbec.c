// SPDX-License-Identifier: MIT
#include "mbec.h"

struct mbec mbec;

static void l2_read(void)
{
	(void)*mbec.target;
}

static void l2_write(void)
{
	*mbec.target = 0xc3c3c3c3c3c3c3c3;
}

void mbec_call(void)
{
	((void (*)(void))mbec.target)();
}

void mbec_user(void)
{
	run_user((void *)mbec.target);
}

void mbec_flush(void)
{
	if (invept(mbec.ev & BIT(25) ? 1 : 2, mbec.eptp, 0))
		panic("INVEPT fails", 0);
}

void mbec_start(bool on)
{
	vmx_fresh();
	set_cpu2(SECONDARY_EXEC_ENABLE_EPT | (on ? SECONDARY_EXEC_MODE_BASED_EPT_EXEC : 0));
	vmwrite(EPT_POINTER, mbec.eptp);
	vmwrite(GUEST_CR3, mbec.linear);
}

u64 mbec_run(void (*fn)(void))
{
	vmwrite(GUEST_CS_SELECTOR, CS64);
	vmwrite(GUEST_CS_AR_BYTES, 0xa09b);
	vmwrite(GUEST_SS_SELECTOR, DS64);
	vmwrite(GUEST_SS_AR_BYTES, 0xc093);
	return run_at(fn);
}

/* ---- Tables ---- */

void mbec_execution(u64 eptp, u64 bits)
{
	u64 *pml4 = (u64 *)(eptp & EPT_ADDR_MASK), *pdpt = (u64 *)(pml4[0] & EPT_ADDR_MASK), *pd;

	pml4[0] |= EPT_FULL;
	for (unsigned i = 0; i < 4; i++) {
		pdpt[i] |= EPT_FULL;
		pd = (u64 *)(pdpt[i] & EPT_ADDR_MASK);
		for (unsigned k = 0; k < 512; k++)
			pd[k] = (pd[k] & ~(u64)(EPT_X | EPT_XU)) | bits;
	}
}

static u64 *table_below(u64 *e)
{
	u64 *t = page();

	*e = (u64)t | EPT_FULL;
	return t;
}

u64 mbec_new_ept(u64 *e[5])
{
	u64 p = ept_identity();

	mbec_execution(p, EPT_X | EPT_XU);
	e[4] = (u64 *)(p & EPT_ADDR_MASK) + 1;
	e[3] = table_below(e[4]);
	e[2] = table_below(e[3]) + (TARGET >> 21 & 511);
	e[1] = table_below(e[2]) + 3;
	*e[1] = mbec.backing | EPT_MT_WB | EPT_FULL;
	return p;
}

/* L2's: one to one, but with this program in supervisor-mode pages; and the target. */
static void new_linear(void)
{
	u64 *pml4 = page(), *pdpt = page(), *pt[2] = {page(), page()}, *pd;

	mbec.linear = (u64)pml4;
	pml4[0] = (u64)pdpt | 0x67;
	for (unsigned i = 0; i < 4; i++) {
		pd = page();
		pdpt[i] = (u64)pd | 0x67;
		for (u64 k = 0; k < 512; k++)
			pd[k] = (i * 512ull + k) << 21 | 0xe3;
	}
	pdpt = page();
	pd = page();
	pml4[1] = (u64)pdpt | 0x67;
	pdpt[0] = (u64)pd | 0x67;
	pd[0] = (u64)pt[0] | 0x67;
	pd[1] = (u64)pt[1] | 0x63;
	pt[0][1] = TARGET | 0x67;
	pt[0][2] = TARGET | 0x63;
	pt[1][0] = TARGET | 0x67;
	mbec.super_pte = &pt[0][2];
}

void mbec_fill(u64 pa)
{
	static const u8 load[] = {0x8b, 0x03, 0xc3};

	memset((void *)pa, 0xc3, 2048);
	memset((void *)(pa + 2048), 0xcc, 2048);
	memcpy((void *)(pa + LOAD), load, sizeof(load));
}

/* ---- Rights ---- */

const struct access mbec_accesses[NACCESSES] = {
	{"read", l2_read, LINEAR + SUPER + RET, EPT_R, 1},
	{"write", l2_write, LINEAR + USER + RET, EPT_W, 2},
	{"fetch at CPL 3", mbec_user, LINEAR + USER + INT3, XU_BIT, 4},
	{"fetch at CPL 0, user page", mbec_call, LINEAR + USER + RET, XU_BIT, 4},
	{"fetch at CPL 0", mbec_call, LINEAR + SUPER + RET, EPT_X, 4},
	{"fetch at CPL 0, directory's U/S", mbec_call, LINEAR + SUPER2 + RET, EPT_X, 4},
};

u64 mbec_set_of(u64 e)
{
	return (e & EPT_RWX) | (e & EPT_XU ? XU_BIT : 0);
}

u64 mbec_bits(u64 set)
{
	return (set & EPT_RWX) | (set & XU_BIT ? EPT_XU : 0);
}

void mbec_try(const char *name, const struct access *a, u64 set)
{
	u64 r, offset = a->la & 4095;

	mbec.target = (u64 *)a->la;
	r = mbec_run(a->fn);
	if (set & a->needs) {
		if (check2(name, a->name, r, EXIT_REASON_VMCALL) && a->fn == mbec_user)
			check2(name, "INT3 at CPL 3", l2.vector << 8 | l2.cs, 3 << 8 | UCS);
		return;
	}
	if (!check2(name, a->name, r, EXIT_REASON_EPT_VIOLATION))
		return;
	check2(name, "qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
	       a->qualification | (set & EPT_RWX) << 3 | (set & XU_BIT ? EPT_VIOLATION_XU : 0) |
		       EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED);
	check2(name, "guest-physical address", vmread(GUEST_PHYSICAL_ADDRESS), TARGET + offset);
	check2(name, "linear address", vmread(GUEST_LINEAR_ADDRESS), a->la);
}

bool mbec_setup(void)
{
	mbec.ev = caps[MSR_VMX_EPT_VPID - MSR_VMX_BASIC];
	if (!may_cpu(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) ||
	    !may_cpu2(SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_MODE_BASED_EPT_EXEC)) {
		skip("mode-based execute control", "not advertised");
		return false;
	}
	if (maxphyaddr < 40) {
		skip("mode-based execute control", "no room for the target");
		return false;
	}
	while ((u64)page() < 8ull << 20)
		;
	mbec.backing = (u64)page();
	mbec_fill(mbec.backing);
	mbec.eptp = mbec_new_ept(mbec.entry);
	new_linear();
	mbec_start(true);
	return check("identity", run_at(l2_done), EXIT_REASON_VMCALL);
}
