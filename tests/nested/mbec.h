/* SPDX-License-Identifier: MIT */
/*
 * Mode-based execute control for EPT: what its groups of tests share. A page of L2 with code, whose
 * EPT entries serve nothing else; linear addresses for it that are user-mode or supervisor-mode
 * ones; and the accesses that are tried there.
 */
#ifndef TESTS_NESTED_MBEC_H
#define TESTS_NESTED_MBEC_H

#include "l1.h"

#define EPT_RWX	 (EPT_R | EPT_W | EPT_X)
#define EPT_FULL (EPT_RWX | EPT_XU)
#define XU_BIT	 8 /* of the sets of rights below; the others are bits 2:0 */

/* What the tests change is mapped nowhere else: L2-physical addresses and linear ones of their own
 * from 512 GiB on. */
#define TARGET (1ull << 39 | 104ull << 20 | 3 << 12)
#define LINEAR (1ull << 39)
#define USER   0x1000	/* pages: U/S is 1 in all entries, */
#define SUPER  0x2000	/* 0 in the last, */
#define SUPER2 0x200000 /* 0 in the directory only */
#define RET    0x18	/* what is in the page */
#define INT3   0x818
#define LOAD   0x428 /* MOV (%rbx), %eax; RET */

struct mbec {
	u64 ev; /* IA32_VMX_EPT_VPID_CAP */
	u64 eptp;
	u64 linear;    /* L2's CR3 */
	u64 *entry[5]; /* of EPT, for TARGET, by level */
	u64 backing;   /* L1's page behind TARGET */
	u64 *super_pte;
	volatile u64 *target; /* where L2's functions go */
};
extern struct mbec mbec;

/* False: the control is not offered, and the results say so. */
bool mbec_setup(void);
/* A VMCS with EPT and L2's own tables, the control on or off. */
void mbec_start(bool on);
void mbec_flush(void); /* INVEPT */
/* As run_at(), at CPL 0 again after an exit from CPL 3. */
u64 mbec_run(void (*fn)(void));
void mbec_call(void); /* in L2: CALL the target */
void mbec_user(void); /* in L2: the target at CPL 3, until it faults */

/* Everything of the identity that allows execution allows it in the way of @bits alone. */
void mbec_execution(u64 eptp, u64 bits);
/* One to one, and TARGET by entries of its own. */
u64 mbec_new_ept(u64 *entry[5]);
void mbec_fill(u64 pa);

/* The kinds of access: code in L2, where, what it needs of bits 0-2 and XU_BIT. */
struct access {
	const char *name;
	void (*fn)(void);
	u64 la;
	u64 needs;
	u64 qualification;
};
enum { READ, WRITE, FETCH_3, FETCH_USER, FETCH_SUPER, FETCH_SUPER2, NACCESSES };
extern const struct access mbec_accesses[NACCESSES];

u64 mbec_set_of(u64 e);
u64 mbec_bits(u64 set);
/* Tries one with the rights of all entries together being @set. */
void mbec_try(const char *name, const struct access *a, u64 set);

#endif
