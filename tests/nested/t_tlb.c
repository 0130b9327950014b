// SPDX-License-Identifier: MIT
/*
 * INVEPT and INVVPID: after them no stale translation may be used; before them one may. Mappings
 * are identified by the value that L2 reads. 29.4.3
 */
#include "l1.h"

static u64 ev, eptp[2];
static volatile u64 *target;
static u64 seen;

static void l2_read(void)
{
	seen = *target;
}

/* Reads, writes through, and reads again after CR3 is written. */
static void l2_reload_and_read(void)
{
	WRITE_REG(cr3, READ_REG(cr3));
	seen = *target;
}

static u64 read_in_l2(void)
{
	seen = 0;
	if (run_at(l2_read) != EXIT_REASON_VMCALL)
		return ~0ull;
	return seen;
}

static u64 read_in_l1(void)
{
	WRITE_REG(cr3, READ_REG(cr3));
	return *target;
}

static u64 *old_page, *new_page;

/* Old or new are right without an invalidation; anything else is not. */
static void may_be_stale(const char *name)
{
	u64 v = read_in_l2();

	check(name, v == 0x0101 || v == 0x0202, 1);
}

static void ept_changes(void)
{
	u64 *e[2];

	if (!may_cpu2(SECONDARY_EXEC_ENABLE_EPT)) {
		skip("INVEPT", "not advertised");
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		eptp[i] = ept_identity();
		e[i] = ept_entry(eptp[i], (u64)old_page, 1);
	}
	target = old_page;
	for (unsigned type = 1; type <= 2; type++) {
		if (!(ev & BIT(24 + type)))
			continue;
		for (unsigned vpid = 0; vpid <= 3; vpid += 3) {
			vmx_fresh();
			set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
			vmwrite(EPT_POINTER, eptp[0]);
			if (vpid) {
				if (!may_cpu2(SECONDARY_EXEC_ENABLE_VPID))
					continue;
				set_cpu2(SECONDARY_EXEC_ENABLE_VPID);
				vmwrite(VIRTUAL_PROCESSOR_ID, vpid);
			}
			check("mapped", read_in_l2(), 0x0101);
			*e[0] = (*e[0] & ~EPT_ADDR_MASK) | (u64)new_page;
			may_be_stale("changed without INVEPT");
			check("invept", invept(type, eptp[0], 0), 0);
			check("changed after INVEPT", read_in_l2(), 0x0202);
			/* From not present to present nothing needs to be invalidated. */
			*e[0] = 0;
			invept(type, eptp[0], 0);
			check("gone after INVEPT", run_at(l2_read), EXIT_REASON_EPT_VIOLATION);
			*e[0] = (u64)old_page | EPT_MT_WB | EPT_R | EPT_W | EPT_X;
			check("present again without INVEPT", read_in_l2(), 0x0101);
			/* Rights taken away. */
			*e[0] = (u64)old_page | EPT_MT_WB | EPT_R;
			invept(type, eptp[0], 0);
			check("read-only", read_in_l2(), 0x0101);
			/* A violation invalidates what caused it; more rights need no INVEPT. */
			*e[0] |= EPT_W | EPT_X;
			check("rights given back", read_in_l2(), 0x0101);
			/* Two EPT hierarchies do not mix. */
			*e[1] = (*e[1] & ~EPT_ADDR_MASK) | (u64)new_page;
			invept(type, eptp[1], 0);
			vmwrite(EPT_POINTER, eptp[1]);
			check("another hierarchy", read_in_l2(), 0x0202);
			vmwrite(EPT_POINTER, eptp[0]);
			check("back to the first", read_in_l2(), 0x0101);
			/* A single-context INVEPT is for its hierarchy, even when it is not in use.
			 */
			*e[1] = (*e[1] & ~EPT_ADDR_MASK) | (u64)old_page;
			invept(type, eptp[1], 0);
			vmwrite(EPT_POINTER, eptp[1]);
			check("invalidated while not in use", read_in_l2(), 0x0101);
			/* A whole table replaced. */
			{
				u64 *pde = ept_entry(eptp[1], (u64)old_page, 2), was = *pde,
				    *pt = page();

				memcpy(pt, (void *)(was & EPT_ADDR_MASK), 4096);
				pt[(u64)old_page >> 12 & 511] = (u64)new_page | EPT_MT_WB | 7;
				*pde = (u64)pt | 7;
				invept(type, eptp[1], 0);
				check("table replaced", read_in_l2(), 0x0202);
				*pde = was;
				invept(type, eptp[1], 0);
				check("table put back", read_in_l2(), 0x0101);
			}
		}
	}
}

/* L2's own page tables, changed by L1 or L2. */
static void linear_changes(bool ept)
{
	u64 *pde = &page_dirs[2046], old = *pde, *pt = page(), gla = 2046ull << 21;
	bool vpid = may_cpu2(SECONDARY_EXEC_ENABLE_VPID) && ev & BIT(32);
	const char *n = ept ? "EPT" : "no EPT";

	vmx_fresh();
	if (ept) {
		if (!may_cpu2(SECONDARY_EXEC_ENABLE_EPT))
			return;
		set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
		vmwrite(EPT_POINTER, eptp[0]);
	}
	pt[0] = (u64)old_page | 7;
	*pde = (u64)pt | 7;
	WRITE_REG(cr3, READ_REG(cr3));
	target = (u64 *)gla;
	clear_cpu(CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |
		  CPU_BASED_INVLPG_EXITING);
	check2(n, "mapped", read_in_l2(), 0x0101);
	/* Without VPIDs every entry and exit invalidates: 29.4.3.1 */
	pt[0] = (u64)new_page | 7;
	check2(n, "changed, new entry without VPID", read_in_l2(), 0x0202);
	check2(n, "L1 reads the same after its own flush", read_in_l1(), 0x0202);
	if (vpid) {
		set_cpu2(SECONDARY_EXEC_ENABLE_VPID);
		vmwrite(VIRTUAL_PROCESSOR_ID, 5);
		invvpid(2, 0, 0);
		for (unsigned type = 0; type <= 3; type++) {
			static const char *const names[] = {"INVVPID address", "INVVPID single",
							    "INVVPID all",
							    "INVVPID retaining globals"};

			if (!(ev & BIT(40 + type)))
				continue;
			pt[0] = (u64)old_page | 7;
			invvpid(2, 0, 0);
			check2(n, "with VPID", read_in_l2(), 0x0101);
			pt[0] = (u64)new_page | 7;
			may_be_stale("changed without INVVPID");
			check2(n, names[type], invvpid(type, 5, gla), 0);
			check2(n, "changed after it", read_in_l2(), 0x0202);
		}
		/* L2 can do it itself. */
		pt[0] = (u64)old_page | 7;
		check2(n, "after L2's MOV to CR3", run_at(l2_reload_and_read), EXIT_REASON_VMCALL);
		check2(n, "after L2's MOV to CR3, value", seen, 0x0101);
		/* Another VPID has other translations. */
		pt[0] = (u64)new_page | 7;
		vmwrite(VIRTUAL_PROCESSOR_ID, 6);
		invvpid(1, 6, 0);
		check2(n, "another VPID", read_in_l2(), 0x0202);
	}
	*pde = old;
	WRITE_REG(cr3, READ_REG(cr3));
}

/*
 * In a large page's entry bit 12 is PAT, no address bit (vol. 3A, table 4-18): wherever page tables
 * are read, by the processor, for a shadow, or for an instruction that is emulated.
 */
static void large_pat(void)
{
	u64 *pde = &page_dirs[50], *mmio = &page_dirs[0xfee00000 >> 21];
	volatile u64 *p = (u64 *)(50ull << 21);
	volatile u32 *id = (u32 *)0xfee00020, *version = (u32 *)0xfee00030;
	u32 before[2] = {*id, *version};
	u64 first = rdmsr(0x1b);

	for (u64 i = 0; i < 3; i++)
		p[512 * i] = 0x1111 * (i + 1);
	*pde |= BIT(12);
	*mmio |= BIT(12);
	WRITE_REG(cr3, READ_REG(cr3));
	vmx_fresh();
	for (u64 i = 0; i < 3; i++) {
		check("large page with PAT", p[512 * i], 0x1111 * (i + 1));
		target = &p[512 * i];
		check("large page with PAT, in L2", read_in_l2(), 0x1111 * (i + 1));
	}
	p[512] = 5;
	check("local APIC's ID", *id, before[0]);
	check("local APIC's version", *version, before[1]);
	*pde &= ~BIT(12);
	*mmio &= ~BIT(12);
	WRITE_REG(cr3, READ_REG(cr3));
	check("written with PAT", p[512], 5);
	check("next page is another", p[1024], 0x3333);
	check("APIC base", rdmsr(0x1b), first);
}

void group_tlb(void)
{
	ev = caps[MSR_VMX_EPT_VPID - MSR_VMX_BASIC];
	while ((u64)page() < 8ull << 20)
		;
	old_page = page();
	new_page = page();
	*old_page = 0x0101;
	*new_page = 0x0202;
	ept_changes();
	linear_changes(false);
	linear_changes(true);
	large_pat();
}
