// SPDX-License-Identifier: MIT
/*
 * Mode-based execute control for EPT: bit 2 of the entries is for fetches from supervisor-mode
 * linear addresses, bit 10 for those from user-mode ones. 25.6.2, 29.3.2, 29.3.3, table 28-7
 */
#include "mbec.h"

#define BACKING_2M (96ull << 20)

static void all_accesses(const char *name, u64 set)
{
	for (unsigned i = 0; i < NACCESSES; i++)
		mbec_try(name, &mbec_accesses[i], set);
}

static void fetches(const char *name, u64 set)
{
	for (unsigned i = FETCH_3; i < NACCESSES; i++)
		mbec_try(name, &mbec_accesses[i], set);
}

/* Sets of rights (bits of the mask) in one entry, the others allowing everything. */
#define ALL_SETS 0xffff
#define FEW_SETS (1 << 1 | 1 << 4 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12)
static void rights_of(const char *what, unsigned level, u64 full, u64 sets)
{
	static char name[48];
	u64 old = *mbec.entry[level];

	for (u64 set = 0; set < 16; set++) {
		static const char letters[] = "rwxu";
		unsigned n = 0;

		if (!(sets >> set & 1))
			continue;
		for (; what[n]; n++)
			name[n] = what[n];
		name[n++] = ' ';
		for (unsigned i = 0; i < 4; i++)
			name[n++] = set >> i & 1 ? letters[i] : '-';
		name[n] = 0;
		*mbec.entry[level] = (full & ~(u64)EPT_FULL) | mbec_bits(set);
		mbec_flush();
		mbec_start(true);
		/* 29.3.3.1: bit 10 is as bit 2. */
		if (!(set & EPT_R) && (set & EPT_W || (set && !(mbec.ev & VMX_EPT_EXECUTE_ONLY)))) {
			mbec.target = (u64 *)(LINEAR + USER + INT3);
			check2(name, "misconfiguration", mbec_run(mbec_user),
			       EXIT_REASON_EPT_MISCONFIG);
			check2(name, "its address", vmread(GUEST_PHYSICAL_ADDRESS), TARGET + INT3);
			continue;
		}
		if (sets == ALL_SETS)
			all_accesses(name, set);
		else
			fetches(name, set);
	}
	*mbec.entry[level] = old;
	mbec_flush();
}

/* The rights are those that all levels have. */
static void together(void)
{
	static const struct {
		const char *name;
		u64 lost[5];
	} rows[] = {
		{"X in one, XU in another", {0, EPT_X, EPT_XU, 0, 0}},
		{"XU in one, X in another", {0, EPT_XU, EPT_X, 0, 0}},
		{"neither above", {0, 0, 0, EPT_X, EPT_XU}},
		{"XU and W", {0, EPT_W, 0, EPT_XU, 0}},
		{"R and XU", {0, EPT_XU, EPT_W, 0, EPT_R | EPT_W}},
		{"all of them", {0, EPT_XU, EPT_X, EPT_W, EPT_R | EPT_W}},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 old[5], set = 15;
		bool execonly = false;

		for (unsigned l = 1; l <= 4; l++) {
			old[l] = *mbec.entry[l];
			*mbec.entry[l] &= ~rows[i].lost[l];
			execonly |= rows[i].lost[l] & EPT_R;
			set &= mbec_set_of(*mbec.entry[l]);
		}
		mbec_flush();
		mbec_start(true);
		if (!execonly || mbec.ev & VMX_EPT_EXECUTE_ONLY)
			all_accesses(rows[i].name, set);
		for (unsigned l = 1; l <= 4; l++)
			*mbec.entry[l] = old[l];
	}
	mbec_flush();
}

static void large(void)
{
	u64 old = *mbec.entry[2];

	if (mbec.ev & VMX_EPT_2MB_PAGE) {
		mbec_fill(BACKING_2M + 3 * 4096);
		*mbec.entry[2] = BACKING_2M | EPT_MT_WB | EPT_LARGE;
		rights_of("2 MiB", 2, *mbec.entry[2], ALL_SETS);
		*mbec.entry[2] = old;
	}
	if (mbec.ev & VMX_EPT_1GB_PAGE) {
		/* Of L1's memory from 0 on. */
		old = *mbec.entry[3];
		mbec_fill(TARGET & 0x3fffffff);
		*mbec.entry[3] = 0 | EPT_MT_WB | EPT_LARGE;
		rights_of("1 GiB", 3, *mbec.entry[3], FEW_SETS);
		*mbec.entry[3] = old;
	}
	mbec_flush();
}

/* ---- Entries that are there because of bit 10 ---- */

static void present(void)
{
	static const struct {
		const char *name;
		unsigned level;
		u64 val;
	} rows[] = {
		{"bit 10 and memory type 2", 1, 2 << 3},
		{"bit 10 and memory type 7", 1, 7 << 3},
		{"bit 10 and reserved bit 3 of a directory", 2, BIT(3)},
		{"bit 10 and reserved bit 7 of the top", 4, BIT(7)},
	};

	mbec.target = (u64 *)(LINEAR + USER + INT3);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 *e = mbec.entry[rows[i].level], old = *e;

		*e = (old & EPT_ADDR_MASK) | EPT_XU | rows[i].val;
		mbec_flush();
		mbec_start(true);
		check(rows[i].name, mbec_run(mbec_user), EXIT_REASON_EPT_MISCONFIG);
		/* Without the control it is ignored, and the entry is not present. */
		mbec_flush();
		mbec_start(false);
		check2(rows[i].name, "without the control", mbec_run(mbec_user),
		       EXIT_REASON_EPT_VIOLATION);
		check2(rows[i].name, "without the control, rights",
		       vmread(EXIT_QUALIFICATION) & 0x1bf,
		       4 | EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED);
		*e = old;
	}
	mbec_flush();
}

/* ---- The control on and off, over the same tables ---- */

static void on_and_off(void)
{
	static const struct {
		const char *name;
		u64 set;
	} rows[] = {{"rwx-", 7}, {"rw-u", 11}, {"r-xu", 13}, {"--x-", 4}, {"---u", 8}};
	u64 old = *mbec.entry[1];

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 set = rows[i].set, off = (set & ~8ull) | (set & EPT_X ? 8 : 0);

		if (!(set & EPT_R) && !(mbec.ev & VMX_EPT_EXECUTE_ONLY))
			continue;
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | mbec_bits(set);
		mbec_flush();
		mbec_start(true);
		for (unsigned round = 0; round < 2; round++) {
			static const char *const names[] = {"on", "on again"};

			fetches(names[round], set);
			clear_cpu2(SECONDARY_EXEC_MODE_BASED_EPT_EXEC);
			mbec_flush();
			/* Bit 6 is undefined now; whether one may execute is bit 2 for all. */
			for (unsigned k = FETCH_3; k < NACCESSES; k++) {
				const struct access *a = &mbec_accesses[k];
				u64 r;

				mbec.target = (u64 *)a->la;
				r = mbec_run(a->fn);
				if (off & a->needs) {
					check2(rows[i].name, "off", r, EXIT_REASON_VMCALL);
					continue;
				}
				check2(rows[i].name, "off", r, EXIT_REASON_EPT_VIOLATION);
				check2(rows[i].name, "off, qualification",
				       vmread(EXIT_QUALIFICATION) & 0x1bf,
				       a->qualification | (set & EPT_RWX) << 3 |
					       EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED);
			}
			set_cpu2(SECONDARY_EXEC_MODE_BASED_EPT_EXEC);
			mbec_flush();
		}
	}
	*mbec.entry[1] = old;
	mbec_flush();
}

/* ---- Changes ---- */

/* One is taken away from an entry and given back, after the other: INVEPT is needed for the first
 * only, as a violation invalidates what caused it. @what: names of the four cases. */
static void take_and_give(u64 *entry, const char *const what[4])
{
	const struct access *user = &mbec_accesses[FETCH_3], *super = &mbec_accesses[FETCH_SUPER];
	const u64 old = *entry;

	*entry = old & ~(u64)EPT_XU;
	mbec_flush();
	mbec_try(what[0], super, 7);
	mbec_try(what[0], user, 7);
	*entry = old;
	mbec_try(what[1], user, 15);
	*entry = old & ~(u64)EPT_X;
	mbec_flush();
	mbec_try(what[2], user, 11);
	mbec_try(what[2], super, 11);
	*entry = old;
	mbec_try(what[3], super, 15);
}

static void changes(void)
{
	static const char *const page[] = {"XU taken away", "XU given back", "X taken away",
					   "X given back"};
	static const char *const dir[] = {
		"XU of the directory taken away", "XU of the directory given back",
		"X of the directory taken away", "X of the directory given back"};
	const struct access *user = &mbec_accesses[FETCH_3], *super = &mbec_accesses[FETCH_SUPER];
	u64 old = *mbec.entry[1];

	mbec_start(true);
	for (unsigned i = 0; i < 2; i++) {
		mbec_try("all", user, 15);
		mbec_try("all", super, 15);
		take_and_give(mbec.entry[1], page);
		take_and_give(mbec.entry[2], dir);
		/* Both at once: nothing is kept of what the other allowed. */
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | EPT_R | EPT_X;
		mbec_flush();
		mbec_try("XU for X", super, 5);
		mbec_try("XU for X", user, 5);
		*mbec.entry[1] = (old & ~(u64)EPT_FULL) | EPT_R | EPT_XU;
		mbec_flush();
		mbec_try("X for XU", super, 9);
		mbec_try("X for XU", user, 9);
		*mbec.entry[1] = old;
		mbec_flush();
	}
	/* L2's page becomes a user-mode one, and is no longer one. */
	*mbec.entry[1] = old & ~(u64)EPT_XU;
	mbec_flush();
	mbec_try("page of the supervisor", super, 7);
	*mbec.super_pte |= BIT(2);
	mbec_start(true);
	mbec.target = (u64 *)super->la;
	check("page that has become the user's", mbec_run(mbec_call), EXIT_REASON_EPT_VIOLATION);
	check("page that has become the user's, qualification", vmread(EXIT_QUALIFICATION) & 0x1ff,
	      4 | 7 << 3 | EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED);
	*mbec.super_pte &= ~BIT(2);
	mbec_start(true);
	mbec_try("page of the supervisor again", super, 7);
	*mbec.entry[1] = old;
	mbec_flush();
}

/* The control needs EPT, and is refused where it is not offered. 27.2.1.1 */
static void refused(void)
{
	vmx_fresh();
	set_cpu2(SECONDARY_EXEC_MODE_BASED_EPT_EXEC);
	check("without EPT", run_at(l2_done), NOENTRY(VALID(7)));
	clear_cpu2(SECONDARY_EXEC_MODE_BASED_EPT_EXEC);
	check("and without the control", run_at(l2_done), EXIT_REASON_VMCALL);
}

void group_mbec(void)
{
	if (may_cpu(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS))
		refused();
	if (!mbec_setup())
		return;
	rights_of("4 KiB", 1, *mbec.entry[1], ALL_SETS);
	rights_of("directory", 2, *mbec.entry[2], ALL_SETS);
	rights_of("level 3", 3, *mbec.entry[3], FEW_SETS);
	rights_of("level 4", 4, *mbec.entry[4], FEW_SETS);
	large();
	together();
	present();
	on_and_off();
	changes();
}
