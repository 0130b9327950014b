// SPDX-License-Identifier: MIT
/*
 * EPT: violations with every permission and access, misconfigurations, large pages, execute-only,
 * accessed and dirty flags; and that INVEPT makes a change visible. 29.3.2, 29.3.3, table 28-7
 */
#include "l1.h"

static u64 eptp;
static volatile u64 *target;
static u64 ev;

static void l2_read(void)
{
	(void)*target;
}

static void l2_write(void)
{
	*target = 0x77;
}

static void l2_rmw(void)
{
	asm volatile("lock incq (%0)" : : "r"(target) : "memory");
}

static void l2_call(void)
{
	((void (*)(void))target)();
}

static void start(void)
{
	vmx_fresh();
	set_cpu2(SECONDARY_EXEC_ENABLE_EPT);
	vmwrite(EPT_POINTER, eptp);
}

static void flush(void)
{
	if (invept(ev & BIT(25) ? 1 : 2, eptp, 0))
		panic("INVEPT fails", 0);
}

/* Bits 5:3 of a qualification: what the entries allow together. */
static void violation(const char *name, void (*fn)(void), u64 access, u64 rights, u64 gpa, u64 gla,
		      u64 more)
{
	u64 mask = 0x1bf, r = run_at(fn);

	if (!check2(name, "reason", r, EXIT_REASON_EPT_VIOLATION))
		return;
	check2(name, "qualification", vmread(EXIT_QUALIFICATION) & mask,
	       access | rights << 3 | more);
	check2(name, "guest-physical address", vmread(GUEST_PHYSICAL_ADDRESS), gpa);
	if (more & BIT(7))
		check2(name, "linear address", vmread(GUEST_LINEAR_ADDRESS), gla);
	check2(name, "no vectoring", vmread(IDT_VECTORING_INFO_FIELD) >> 31, 0);
}

static void permissions(void)
{
	u64 pa = (u64)page(), *e = ept_entry(eptp, pa, 1);
	u64 full = pa | EPT_MT_WB;

	target = (u64 *)(pa + 0x18);
	memset((void *)pa, 0xc3, 4096);
	for (u64 rights = 0; rights < 8; rights++) {
		bool r = rights & 1, w = rights & 2, x = rights & 4;
		static const char *const names[] = {"---", "r--", "-w-", "rw-",
						    "--x", "r-x", "-wx", "rwx"};
		const char *n = names[rights];

		*e = full | rights;
		flush();
		start();
		if ((w && !r) || (!r && x && !(ev & BIT(0)))) {
			/* 29.3.3.1 */
			check2(n, "misconfiguration", run_at(l2_read), EXIT_REASON_EPT_MISCONFIG);
			check2(n, "its address", vmread(GUEST_PHYSICAL_ADDRESS), pa + 0x18);
			continue;
		}
		if (r)
			check2(n, "read", run_at(l2_read), EXIT_REASON_VMCALL);
		else
			violation(n, l2_read, 1, rights, pa + 0x18, pa + 0x18, BIT(7) | BIT(8));
		if (w)
			check2(n, "write", run_at(l2_write), EXIT_REASON_VMCALL);
		else
			violation(n, l2_write, 2, rights, pa + 0x18, pa + 0x18, BIT(7) | BIT(8));
		memset((void *)pa, 0xc3, 4096);
		if (x)
			check2(n, "fetch", run_at(l2_call), EXIT_REASON_VMCALL);
		else
			violation(n, l2_call, 4, rights, pa + 0x18, pa + 0x18, BIT(7) | BIT(8));
		if (r && !w) {
			u64 q;

			check2(n, "read-modify-write", run_at(l2_rmw), EXIT_REASON_EPT_VIOLATION);
			q = vmread(EXIT_QUALIFICATION);
			/* A processor may report such an access as write or as both. */
			check2(n, "read-modify-write, write", q & 2, 2);
		}
	}
	*e = full | 7;
	flush();

	/* The combined rights are those of all levels. */
	{
		u64 *pde = ept_entry(eptp, pa, 2), old = *pde;

		*pde = (old & ~7ull) | EPT_R;
		flush();
		start();
		/* The code and stack are in the same 2 MiB, unless pa is far enough away. */
		if (pa >> 21 != (u64)l2_done >> 21)
			violation("upper level", l2_write, 2, 1, pa + 0x18, pa + 0x18,
				  BIT(7) | BIT(8));
		*pde = old;
		flush();
	}
}

static void misconfigurations(void)
{
	u64 pa = (u64)page(), *e = ept_entry(eptp, pa, 1), *pde = ept_entry(eptp, pa, 2), old = *e,
	    old2 = *pde;
	static const struct {
		const char *name;
		unsigned level;
		u64 clear, set;
		bool bad;
	} rows[] = {
		{"memory type 2", 1, 7 << 3, 2 << 3, true},
		{"memory type 3", 1, 7 << 3, 3 << 3, true},
		{"memory type 7", 1, 7 << 3, 7 << 3, true},
		{"memory type 0", 1, 7 << 3, 0, false},
		{"memory type 1", 1, 7 << 3, 1 << 3, false},
		{"memory type 4", 1, 7 << 3, 4 << 3, false},
		{"memory type 5", 1, 7 << 3, 5 << 3, false},
		{"write without read", 1, 1, 0, true},
		{"ignored bits of a leaf", 1, 0, BITS(56, 52), false},
		{"bit 7 of a leaf", 1, 0, BIT(7), false},
		{"reserved bit 3 of a directory", 2, 0, BIT(3), true},
		{"reserved bit 6 of a directory", 2, 0, BIT(6), true},
		{"directory, write without read", 2, 1, 0, true},
		{"directory, ignored bits", 2, 0, BIT(11) | BIT(55), false},
	};

	target = (u64 *)(pa + 8);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].level == 2 && pa >> 21 == (u64)l2_done >> 21)
			continue;
		if (rows[i].level == 1)
			*e = (old & ~rows[i].clear) | rows[i].set;
		else
			*pde = (old2 & ~rows[i].clear) | rows[i].set;
		flush();
		start();
		if (check(rows[i].name, run_at(l2_read),
			  rows[i].bad ? EXIT_REASON_EPT_MISCONFIG : EXIT_REASON_VMCALL) &&
		    rows[i].bad)
			check2(rows[i].name, "address", vmread(GUEST_PHYSICAL_ADDRESS), pa + 8);
		*e = old;
		*pde = old2;
	}
	if (maxphyaddr < 52) {
		*e = old | BIT(maxphyaddr);
		flush();
		start();
		check("address too wide", run_at(l2_read), EXIT_REASON_EPT_MISCONFIG);
	}
	*e = 0;
	flush();
	start();
	check("not present", run_at(l2_read), EXIT_REASON_EPT_VIOLATION);
	/* Not present whatever the other bits are. */
	*e = BITS(51, 3);
	flush();
	check("not present with other bits", run_at(l2_read), EXIT_REASON_EPT_VIOLATION);
	*e = old;
	flush();
}

/* Accesses to L2's paging structures: bit 8 is 0. */
static void walks(void)
{
	u64 *pde = &page_dirs[2046], old = *pde, *pt = page(), *e = ept_entry(eptp, (u64)pt, 1),
	    eold = *e;
	u64 gla = 2046ull << 21 | 0x3008, backing = (u64)page();

	for (u64 i = 0; i < 512; i++)
		pt[i] = backing | 7;
	*pde = (u64)pt | 7;
	WRITE_REG(cr3, READ_REG(cr3));
	target = (u64 *)gla;
	*e = 0;
	flush();
	start();
	violation("page walk, not present", l2_read, 1, 0, (u64)pt + 3 * 8, gla, BIT(7));
	*e = (eold & ~7ull) | EPT_R;
	flush();
	/* The accessed flag is a write to the page table, which reports as write, maybe as read
	 * too. */
	check("page walk, accessed flag", run_at(l2_read), EXIT_REASON_EPT_VIOLATION);
	check("page walk, accessed flag, write", vmread(EXIT_QUALIFICATION) & 0x19a,
	      2 | 1 << 3 | BIT(7));
	check("page walk, address", vmread(GUEST_PHYSICAL_ADDRESS), (u64)pt + 3 * 8);
	pt[3] |= BIT(5);
	check("page walk, accessed already", run_at(l2_read), EXIT_REASON_VMCALL);
	check("page walk, dirty flag", run_at(l2_write), EXIT_REASON_EPT_VIOLATION);
	pt[3] |= BIT(6);
	check("page walk, dirty already", run_at(l2_write), EXIT_REASON_VMCALL);
	*e = eold;
	flush();
	*pde = old;
	WRITE_REG(cr3, READ_REG(cr3));
}

static void accessed_dirty(void)
{
	u64 pa = (u64)page(), *e = ept_entry(eptp, pa, 1), *pde = ept_entry(eptp, pa, 2);

	if (!(ev & VMX_EPT_AD)) {
		skip("accessed and dirty flags", "not advertised");
		start();
		vmwrite(EPT_POINTER, eptp | EPTP_AD);
		check("accessed and dirty flags refused", run_at(l2_read), NOENTRY(VALID(7)));
		return;
	}
	target = (u64 *)pa;
	*e &= ~(u64)(EPT_A | EPT_D);
	*pde &= ~(u64)EPT_A;
	flush();
	start();
	check("A/D off, write", run_at(l2_write), EXIT_REASON_VMCALL);
	check("A/D off, leaf", *e & (EPT_A | EPT_D), 0);
	start();
	vmwrite(EPT_POINTER, eptp | EPTP_AD);
	invept(2, 0, 0);
	check("A/D, read", run_at(l2_read), EXIT_REASON_VMCALL);
	check("A/D, read, leaf", *e & (EPT_A | EPT_D), EPT_A);
	check("A/D, read, directory", *pde & EPT_A, EPT_A);
	check("A/D, write", run_at(l2_write), EXIT_REASON_VMCALL);
	check("A/D, write, leaf", *e & (EPT_A | EPT_D), EPT_A | EPT_D);
	/* Cleared and flushed: set again. */
	*e &= ~(u64)(EPT_A | EPT_D);
	invept(2, 0, 0);
	check("A/D, again", run_at(l2_read), EXIT_REASON_VMCALL);
	check("A/D, again, leaf", *e & (EPT_A | EPT_D), EPT_A);
	*e &= ~(u64)EPT_D;
	invept(2, 0, 0);
	check("A/D, write after a read", run_at(l2_write), EXIT_REASON_VMCALL);
	check("A/D, write after a read, leaf", *e & EPT_D, EPT_D);
	/* A large leaf. */
	{
		u64 *large = ept_entry(eptp, 100ull << 20, 2);

		target = (u64 *)(100ull << 20);
		*large &= ~(u64)(EPT_A | EPT_D);
		invept(2, 0, 0);
		check("A/D, 2 MiB, read", run_at(l2_read), EXIT_REASON_VMCALL);
		check("A/D, 2 MiB, read, leaf", *large & (EPT_A | EPT_D), EPT_A);
		check("A/D, 2 MiB, write", run_at(l2_write), EXIT_REASON_VMCALL);
		check("A/D, 2 MiB, write, leaf", *large & (EPT_A | EPT_D), EPT_A | EPT_D);
	}
}

static void large(void)
{
	u64 base = 96ull << 20, *e = ept_entry(eptp, base, 2), old = *e;

	if (!(ev & VMX_EPT_2MB_PAGE)) {
		skip("2 MiB pages", "not advertised");
		return;
	}
	target = (u64 *)(base + 0x12348);
	*(u64 *)(base + 0x12348) = 0;
	*(u64 *)(base + 0x200000 + 0x12348) = 0x4444;
	start();
	check("2 MiB, write", run_at(l2_write), EXIT_REASON_VMCALL);
	check("2 MiB, written", *(u64 *)(base + 0x12348), 0x77);
	*e = (old & ~7ull) | EPT_R;
	flush();
	violation("2 MiB, read-only", l2_write, 2, 1, base + 0x12348, base + 0x12348,
		  BIT(7) | BIT(8));
	*e = old | BIT(15);
	flush();
	check("2 MiB, reserved address bits", run_at(l2_read), EXIT_REASON_EPT_MISCONFIG);
	*e = old + (2 << 20);
	flush();
	check("2 MiB elsewhere", run_at(l2_write), EXIT_REASON_VMCALL);
	check("2 MiB elsewhere, written", *(u64 *)(base + 0x200000 + 0x12348), 0x77);
	*e = old;
	flush();
	if (!(ev & VMX_EPT_1GB_PAGE)) {
		skip("1 GiB pages", "not advertised");
		return;
	}
	{
		u64 *g = ept_entry(eptp, 0, 3), gold = *g;

		*g = EPT_R | EPT_W | EPT_X | EPT_MT_WB | EPT_LARGE;
		flush();
		*(u64 *)(base + 0x12348) = 0;
		check("1 GiB, write", run_at(l2_write), EXIT_REASON_VMCALL);
		check("1 GiB, written", *(u64 *)(base + 0x12348), 0x77);
		*g |= BIT(20);
		flush();
		check("1 GiB, reserved address bits", run_at(l2_read), EXIT_REASON_EPT_MISCONFIG);
		*g = gold;
		flush();
	}
}

/* Four levels map 48 bits: an address beyond them is a violation, whatever its low bits
 * find. 29.3.2 */
static void beyond(void)
{
	u64 gla = 100ull << 20, *pde = &page_dirs[gla >> 21], old = *pde;

	if (maxphyaddr <= 48 || (eptp & BITS(5, 3)) != EPTP_WALK_4) {
		skip("address beyond EPT", "all of them are mapped");
		return;
	}
	target = (u64 *)(gla + 0x18);
	start();
	check("address within EPT", run_at(l2_read), EXIT_REASON_VMCALL);
	*pde |= BIT(48);
	WRITE_REG(cr3, READ_REG(cr3));
	start();
	violation("address beyond EPT", l2_read, 1, 0, BIT(48) | (gla + 0x18), gla + 0x18,
		  BIT(7) | BIT(8));
	violation("address beyond EPT, write", l2_write, 2, 0, BIT(48) | (gla + 0x18), gla + 0x18,
		  BIT(7) | BIT(8));
	*pde = old;
	WRITE_REG(cr3, READ_REG(cr3));
	start();
	check("address within EPT again", run_at(l2_write), EXIT_REASON_VMCALL);
}

/* A violation while an event is delivered: 28.2.4 */
static void vectoring(void)
{
	u64 *e = ept_entry(eptp, (u64)idt, 1), old = *e;

	start();
	*e = 0;
	flush();
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, 0x80000306);
	check("event through a missing IDT", run_at(l2_read), EXIT_REASON_EPT_VIOLATION);
	check("event through a missing IDT, vectoring", vmread(IDT_VECTORING_INFO_FIELD),
	      0x80000306);
	check("event through a missing IDT, address", vmread(GUEST_LINEAR_ADDRESS),
	      (u64)idt + 6 * 16);
	*e = old;
	flush();
	/* Delivered again as the manual advises. */
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, vmread(IDT_VECTORING_INFO_FIELD));
	l2_fixup = (u64)l2_done;
	check("event delivered again", run(), EXIT_REASON_VMCALL);
	check("event delivered again, vector", l2.vector, 6);
}

void group_ept(void)
{
	ev = caps[MSR_VMX_EPT_VPID - MSR_VMX_BASIC];
	if (!may_cpu(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) ||
	    !may_cpu2(SECONDARY_EXEC_ENABLE_EPT)) {
		skip("EPT", "not advertised");
		return;
	}
	eptp = ept_identity();
	/* The tests' pages are not where the program is. */
	while ((u64)page() < 8ull << 20)
		;
	start();
	check("identity", run_at(l2_done), EXIT_REASON_VMCALL);
	permissions();
	misconfigurations();
	walks();
	accessed_dirty();
	large();
	beyond();
	vectoring();
}
