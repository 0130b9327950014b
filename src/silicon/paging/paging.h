/* SPDX-License-Identifier: MIT */
/* Page walks: linear to guest-physical (one walker, every format) and guest-physical to host. */
#ifndef SILICON_PAGING_PAGING_H
#define SILICON_PAGING_PAGING_H

#include "silicon/cpu/cpu.h"
#include "spec/vmx.h"

enum pg_format { PG_NONE, PG_32, PG_PAE, PG_4L, PG_5L };

#define PTE_P	  BIT(0)
#define PTE_W	  BIT(1)
#define PTE_U	  BIT(2)
#define PTE_A	  BIT(5)
#define PTE_D	  BIT(6)
#define PTE_PS	  BIT(7)
#define PTE_G	  BIT(8)
#define PTE_NX	  BIT(63)
#define PTE_ADDR  BITS(51, 12)
#define PTE_PK(e) (((e) >> 59) & 15)

/* Page-fault error code, SDM vol. 3A, 4.7 */
#define PFEC_P	  1u
#define PFEC_W	  2u
#define PFEC_U	  4u
#define PFEC_RSVD 8u
#define PFEC_I	  16u
#define PFEC_PK	  32u

/* Further @how bits inside the engine. */
#define ISA_ACC_RMW BIT(8) /* reads as well as writes: both bits in EPT qualifications */

/*
 * What translation depends on besides the tables: part of a TLB bank's key. USER and AC change
 * within a context, the rest only with control registers and VM entries.
 */
#define ROLE_FORMAT 7u /* enum pg_format */
#define ROLE_NESTED BIT(3)
#define ROLE_WP	    BIT(4)
#define ROLE_NXE    BIT(5)
#define ROLE_SMEP   BIT(6)
#define ROLE_SMAP   BIT(7)
#define ROLE_PKE    BIT(8)
#define ROLE_PKS    BIT(9)
#define ROLE_PSE    BIT(10)
#define ROLE_PGE    BIT(11)
#define ROLE_USER   BIT(12) /* CPL 3 */
#define ROLE_AC	    BIT(13) /* supervisor: SMAP is overridden; user: alignment checks */

struct walk_out {
	hpa_t hpa; /* host address of the byte */
	gpa_t gpa;
	bool global;	 /* of a global page, in the sense of CR4.PGE */
	bool user;	 /* user-mode linear address */
	u8 shift;	 /* the page has 1 << shift bytes */
	u8 nested_shift; /* and that of nested paging; 63 without */
};

/*
 * Translates @la for an access @how under @role. Raises #PF, or exits on nested violations. Sets
 * accessed and dirty flags.
 */
void paging_walk(struct sil_cpu *cpu, u64 la, unsigned how, u32 role, struct walk_out *out);

/*
 * Guest-physical to host for accesses @acc (EPT_VIOLATION_READ/WRITE/FETCH), or throws. @qual: the
 * further bits of a violation's exit qualification; @user: user-mode linear address (for
 * mode-based execute control).
 */
hpa_t nested_walk(struct sil_cpu *cpu, gpa_t gpa, unsigned acc, u64 qual, u64 la, bool user);
/* Forgets cached guest-physical translations made with @root (0: all). */
void nested_flush(struct sil_cpu *cpu, hpa_t root);

#endif
