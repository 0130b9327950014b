// SPDX-License-Identifier: MIT
/*
 * L2 switches among processes, and L1 invalidates the translations of its EPT each time: whatever
 * the hypervisor below keeps of its tables, all memory is what it should be. With 2, 4 and 8
 * processes this is also what docs/mmu.md measures.
 */
#include "l1.h"

#define PROCESSES 8
#define PAGES	  32
#define SWITCHES  2000
#define AREA	  ((volatile u64 *)(256ull << 30))

static u64 cr3s[PROCESSES];
static volatile u64 nprocesses;

/* L1's own mapping, and 32 pages of its own at AREA. */
static u64 address_space(void)
{
	u64 *pml4 = page(), *pdpt = page(), *dir = page(), *table = page();

	memcpy(pdpt, page_pdpt, 4 * sizeof(*pdpt));
	pdpt[256] = (u64)dir | 7;
	dir[0] = (u64)table | 7;
	for (unsigned i = 0; i < PAGES; i++)
		table[i] = (u64)page() | 7;
	pml4[0] = (u64)pdpt | 7;
	return (u64)pml4;
}

static void l2_switches(void)
{
	for (u64 n = 0;; n++) {
		WRITE_REG(cr3, cr3s[n % nprocesses]);
		for (unsigned i = 0; i < PAGES; i++)
			AREA[i * 512]++;
		asm volatile("vmcall" : : : "memory");
	}
}

static u64 sum(u64 cr3)
{
	u64 *pdpt = (u64 *)(((u64 *)cr3)[0] & ~0xfffull), *dir = (u64 *)(pdpt[256] & ~0xfffull);
	u64 *table = (u64 *)(dir[0] & ~0xfffull), all = 0;

	for (unsigned i = 0; i < PAGES; i++)
		all += *(u64 *)(table[i] & ~0xfffull);
	return all;
}

static void switches(const char *name, unsigned n, unsigned flush_each)
{
	u64 eptp = 0, reason;

	vmx_fresh();
	for (unsigned i = 0; i < n; i++)
		cr3s[i] = address_space();
	nprocesses = n;
	if (may_cpu2(SECONDARY_EXEC_ENABLE_EPT)) {
		eptp = ept_identity();
		set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
		vmwrite(EPT_POINTER, eptp);
	}
	reason = run_at(l2_switches);
	for (unsigned i = 1; i < SWITCHES && reason == EXIT_REASON_VMCALL; i++) {
		skip_insn();
		if (eptp && !(i % flush_each) && invept(1, eptp, 0))
			break;
		reason = run();
	}
	check2(name, "exit", reason, EXIT_REASON_VMCALL);
	for (unsigned i = 0; i < n; i++)
		check2(name, "what a process counted", sum(cr3s[i]), (u64)PAGES * (SWITCHES / n));
}

void group_roots2(void)
{
	switches("2 processes", 2, 8);
}

void group_roots4(void)
{
	switches("4 processes", 4, 8);
}

void group_roots8(void)
{
	switches("8 processes", 8, 8);
}

void group_roots_each(void)
{
	switches("4 processes, INVEPT each time", 4, 1);
}
