/* SPDX-License-Identifier: MIT */
/*
 * What the tests of EPT12 against EPT02 share: L1 and its tables, which it changes through its own
 * mapping of them and flushes by INVEPT; the processor, with a walk of its own through EPT02; and
 * the reference, a walk of EPT12 after SDM vol. 3C, 29.3.
 */
#ifndef TESTS_UNIT_MMU_EPT12_H
#define TESTS_UNIT_MMU_EPT12_H

#include "fake.h"
#include "spec/vmx.h"

#define MB     (1ull << 20)
#define MEM    (16 * MB)
#define NROOT  (MMU_NROOTS + 2)
#define NVCPU  2
#define TABLES 0x100000ull /* of L1, one page each from here on */

/* Rights, and kinds of access; fetches are from supervisor- and user-mode linear addresses. */
#define R  1u
#define W  2u
#define X  4u
#define XU 8u
/* All that an entry can allow, and what says so. */
#define RWX   (R | W | X)
#define E_ALL (RWX | EPT_XU)

/* Two page tables, a directory, the levels above it, then the roots. */
#define PT(i)	(TABLES + (i)*PAGE_SIZE)
#define DIR	PT(2)
#define UP(l)	PT(l) /* l = 3, 4: shared by all roots below the top */
#define ROOT(i) PT(8 + (i))
#define NTABLES (8 + NROOT)

extern u64 rnd_state;
u64 rnd(void);

extern char *mem; /* of L1 */
extern struct kvm *kvm;
extern struct kvm_vcpu *v;
extern int levels;
extern bool ad;
extern u64 eptp[NROOT];
extern bool mbec; /* L2 runs with mode-based execute control */
extern bool got_fault, log_room;
extern struct guest_fault fault;
extern unsigned logged;

u64 get(u64 pa);
void put(u64 pa, u64 e); /* without L1: before anything is shadowed */
void build(void);
/* A VM of one vCPU with tables of @l levels, accessed and dirty flags or not. */
void begin(int l, bool flags);

/* ---- The reference ---- */
struct walk {
	bool misconfig;
	unsigned rights; /* of all entries; 0 if one is not present */
	u64 pa;
	int leaf;
	u64 entry[6];
};
struct walk reference(u64 root, u64 gpa);
/* Is @what within @rights? Without the control bit 2 is for all fetches. */
bool allows(unsigned rights, unsigned what);
/* Exit qualification of a refused access. */
u64 qualification(unsigned rights, unsigned what);

/* ---- The processor ---- */
struct xlate {
	unsigned rights;
	bool present;
	u64 hva;
	u64 entry; /* the last one */
};
struct xlate hw(u64 gpa);
void requests(void);
bool on_dirty(struct kvm_vcpu *who, gpa_t gpa);
/* 1: *@hva; 0: a fault of EPT12; 2: to be emulated. */
int access_gpa(u64 gpa, unsigned what, u64 *hva);

/* ---- L1 and L2 ---- */
void in_l1(void);
void store(u64 pa, u64 e);
/* All vCPUs of L1, as a shoot-down has it. */
void invept(u64 root);
void enter_l2(u64 root, bool with_mbec);

#endif
