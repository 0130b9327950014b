/* SPDX-License-Identifier: MIT */
/*
 * The MMU of the hypervisor: the tables that the processor walks (EPT, NPT, or shadow page tables)
 * and the walker that follows the guest's own.
 *
 * A vCPU has three contexts (struct kvm_mmu):
 *	root_mmu    runs the guest itself: two-dimensional, or shadowing its page tables
 *	guest_mmu   shadows the EPT12/NPT12 that a guest hypervisor wrote
 *	nested_mmu  walks only: an L2 guest's own page tables, on top of guest_mmu
 * v->mmu->mmu is the one whose root the processor uses; v->mmu->walk_mmu translates the addresses
 * that the guest's instructions use. Both are &root_mmu unless an L2 runs.
 *
 * Unless stated otherwise functions are called by the vCPU's own thread, outside the guest, without
 * mmu_lock.
 */
#ifndef CORE_MMU_MMU_H
#define CORE_MMU_MMU_H

#include "core/kvm_host.h"

/* Page-fault error code: the architecture's bits, and KVM's for faults of two-dimensional paging.
 */
#define PFERR_PRESENT	  BIT(0)
#define PFERR_WRITE	  BIT(1)
#define PFERR_USER	  BIT(2)
#define PFERR_RSVD	  BIT(3)
#define PFERR_FETCH	  BIT(4)
#define PFERR_PK	  BIT(5)
#define PFERR_GUEST_FINAL BIT(32) /* at the translation of the access itself */
#define PFERR_GUEST_PAGE  BIT(33) /* at a page-table entry of the guest */
#define PFERR_GVA_USER	  BIT(50) /* a fetch, and the linear address is a user-mode one */

#define GPA_INVALID (~0ull)
#define HPA_INVALID (~0ull)

/*
 * What a shadow page stands for, together with its gfn: two pages with the same word hold the same
 * entries. Everything that changes what entries mean is in it.
 */
union mmu_page_role {
	u32 word;
	struct {
		u32 level : 4;	  /* of the table: 1 holds 4 KiB leaves */
		u32 gpte4 : 1;	  /* shadows a table of 4-byte entries */
		u32 quadrant : 2; /* which part of such a table */
		u32 direct : 1;	  /* gfns are consecutive: no guest table behind it */
		u32 access : 4;	  /* ACC_*: what the levels above allow */
		u32 invalid : 1;  /* freed as soon as its last user has gone */
		u32 efer_nx : 1;
		u32 cr0_wp : 1;
		u32 smep_andnot_wp : 1;
		u32 smap_andnot_wp : 1;
		u32 ad_disabled : 1;
		u32 ept : 1;	      /* entries are in EPT format */
		u32 guest_mode : 1;   /* for an L2 */
		u32 passthrough : 1;  /* put on top of a guest table of fewer levels */
		u32 per_vcpu : 1;     /* cannot be shared: mmu_has_per_vcpu_root_page */
		u32 as_id : 1;	      /* address space: SMM */
		u32 ept_mbec : 1;     /* EPT: mode-based execute control */
		u32 ept_execonly : 1; /* EPT: entries may allow execution without reads */
		u32 unused : 7;
	};
};
_Static_assert(sizeof(union mmu_page_role) == 4, "role is a hash key");
/* EPT's R is ACC_USER. With mode-based execute control ACC_EXEC is about supervisor-mode linear
 * addresses only; without, and in other formats, nothing has ACC_EXEC_USER. */
#define ACC_EXEC      1u
#define ACC_WRITE     2u
#define ACC_USER      4u
#define ACC_ALL	      7u
#define ACC_EXEC_USER 8u
#define ACC_BITS      4

/* How the guest's processor walks its tables: recomputed by mmu_reset_context. */
union mmu_cpu_role {
	u64 word;
	struct {
		union mmu_page_role base; /* level 0: no paging */
		u32 valid : 1;
		u32 cr0_pg : 1;
		u32 cr4_pse : 1;
		u32 cr4_smep : 1;
		u32 cr4_smap : 1;
		u32 cr4_pke : 1;
		u32 cr4_la57 : 1;
		u32 efer_lma : 1;
		u32 maxphyaddr : 6;
		u32 unused : 18;
	};
};

/*
 * One root. `unsync`: the guest may have flushed translations of this root since it was last
 * current; its pages are to be synchronized, and the context flushed, before it is used again.
 */
struct mmu_root {
	gpa_t pgd; /* what the guest loaded: CR3, EPTP; 0 for direct roots */
	hpa_t hpa; /* the table, HPA_INVALID if none */
	union mmu_page_role role;
	bool unsync;
};
#define MMU_NROOTS                                                                    \
	8 /* the current one and those before it: docs/mmu.md has what they are worth \
	   */
/* Which roots a flush or free is about. */
#define MMU_ROOT(i)	  (1u << (i))
#define MMU_ROOTS_ALL	  (MMU_ROOT(MMU_NROOTS) - 1)
#define MMU_ROOTS_CURRENT MMU_ROOT(0)

/* A fault that a guest walk found, to be injected. */
struct guest_fault {
	u8 vector;
	bool has_error;
	bool nested; /* found in guest_mmu's tables: an exit to L1 rather than a #PF */
	u32 error;
	u64 addr;		/* CR2, or the L2 guest-physical address */
	u64 exit_qualification; /* of an EPT violation, if nested */
	u64 gva;	/* nested, and the qualification says it is valid: L2's linear address */
	bool from_exit; /* nested: the exit being handled is this very fault */
	bool log_full;	/* nested: not a fault, log_dirty has refused */
};

struct kvm_mmu;
/* The guest walker for one format of page tables. @access: PFERR_WRITE, _USER, _FETCH; for EPT
 * PFERR_USER is a read, and PFERR_GVA_USER tells whose fetch it is. */
typedef gpa_t mmu_gva_to_gpa_fn(struct kvm_vcpu *v, struct kvm_mmu *mmu, u64 addr, u64 access,
				struct guest_fault *f);

struct kvm_mmu {
	struct mmu_root roots[MMU_NROOTS]; /* [0] is the current one */
	union mmu_cpu_role cpu_role;
	union mmu_page_role root_role;

	/* Set when the context is chosen; the tables' owner answers. */
	gpa_t (*get_guest_pgd)(struct kvm_vcpu *v);
	u64 (*get_pdptr)(struct kvm_vcpu *v, unsigned index);
	/* A fault of the guest's own tables: #PF, or an exit to the guest hypervisor. */
	void (*inject_fault)(struct kvm_vcpu *v, const struct guest_fault *f);
	/* guest_mmu, where L1 logs dirtied pages (PML): before D is set in the EPT12 entry for L2's
	 * page @gpa. False: the log is full, and the access ends in inject_fault. NULL: no log. */
	bool (*log_dirty)(struct kvm_vcpu *v, gpa_t gpa);
	mmu_gva_to_gpa_fn *gva_to_gpa;

	/* permissions[error code / 2]: bit ACC of an access set = the access faults. */
	u8 permissions[16];
	u64 rsvd_mask[2][5]; /* reserved bits of a guest entry: [PS bit][level - 1] */
	u64 shadow_zero_mask[2][5];
	u32 pkru_mask;
};

struct vcpu_mmu {
	struct kvm_mmu *mmu, *walk_mmu;
	struct kvm_mmu root_mmu, guest_mmu, nested_mmu;
	u64 eptp12;		   /* what guest_mmu shadows */
	struct memslot *last_slot; /* vcpu_gfn_to_memslot, valid for last_generation */
	u64 last_generation;
	/* The MMIO page met last: gva (without paging tricks: linear) and gfn. */
	u64 mmio_gen;
	gva_t mmio_gva;
	gfn_t mmio_gfn;
	u8 mmio_access;
};

/* ---- VM and vCPU ---- */
int mmu_vm_init(struct kvm *kvm);	 /* after kvm->arch->params are set. 0 or -ENOMEM */
void mmu_vm_destroy(struct kvm *kvm);	 /* all vCPUs are gone, before memslots_destroy */
int mmu_vcpu_create(struct kvm_vcpu *v); /* 0 or -ENOMEM */
void mmu_vcpu_free(struct kvm_vcpu *v);

/* ---- Roots ---- */
/* Recomputes roles after CR0, CR4, EFER, CPUID or SMM changed; drops the current root if the new
 * role has another, and then asks for a load. */
void mmu_reset_context(struct kvm_vcpu *v);
/* Before each entry, after requests: makes sure there is a root, and (through REQ_LOAD_MMU_PGD)
 * that it is in the VMCS. 0, -ENOMEM, or -EFAULT. Handler of REQ_MMU_RELOAD too. */
int mmu_reload(struct kvm_vcpu *v);
/* Drops all roots of all contexts. */
void mmu_unload(struct kvm_vcpu *v);
/* The guest loaded another root pointer (MOV to CR3, nested entry): looks it up in the cached
 * roots. */
void mmu_new_pgd(struct kvm_vcpu *v, gpa_t pgd);
/* Handler of REQ_MMU_SYNC: the current root's unsync pages follow the guest's tables again. */
void mmu_sync_roots(struct kvm_vcpu *v);
/* Marks cached roots stale (INVPCID, INVVPID, MOV to CR3): @match says which; those of the current
 * context's root 0 are requested to be synchronized before the next entry. */
void mmu_invalidate_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu,
			  bool (*match)(const struct mmu_root *r, u64 arg), u64 arg);
/* The guest flushed everything (CR0, CR4, a hypercall): shadow pages follow its tables before the
 * next entry. Handler of REQ_TLB_FLUSH_GUEST, together with the back end's flush. */
void mmu_flush_guest(struct kvm_vcpu *v);
/* MOV to CR3 (its new value) without the no-flush bit. */
void mmu_flush_cr3(struct kvm_vcpu *v, u64 cr3);
/* INVPCID with valid operands. */
void mmu_invpcid(struct kvm_vcpu *v, unsigned type, u16 pcid, gva_t gva);
void mmu_free_roots(struct kvm_vcpu *v, struct kvm_mmu *mmu, unsigned roots);
/* INVLPG and the like, for shadow paging. */
void mmu_invlpg(struct kvm_vcpu *v, gva_t gva);
/* Level (3, 4, 5) of the table that the processor walks now. */
static inline int mmu_root_level(const struct kvm_mmu *mmu)
{
	return mmu->root_role.level;
}
bool mmu_is_tdp(const struct kvm_mmu *mmu); /* two-dimensional: the guest's CR3 is its own */

/* ---- L2 on the guest hypervisor's own EPT ---- */
/* How L1's processor reads EPT12, apart from what the EPTP says. */
#define EPT12_MBEC     BIT(0) /* mode-based execute control: bit 10 allows user-mode fetches */
#define EPT12_EXECONLY BIT(1) /* execution without reads is no misconfiguration */
/*
 * Nested entry with EPT12, or EPTP switching: guest_mmu (shadow tables of what is behind @eptp,
 * which the caller has checked) becomes mmu, nested_mmu becomes walk_mmu. The processor must run L2
 * with mode-based execute control exactly if @how has EPT12_MBEC. Looks for a cached root,
 * asks for REQ_MMU_RELOAD or REQ_LOAD_MMU_PGD. The caller calls mmu_reset_context once L2's CR0,
 * CR4 and EFER are in place, which then computes nested_mmu's role.
 */
void mmu_enter_ept12(struct kvm_vcpu *v, u64 eptp, unsigned how);
/* Nested exit: root_mmu is both again. */
void mmu_leave_ept12(struct kvm_vcpu *v);
/* INVEPT as L1 executes it (enum invept_type): marks matching roots of guest_mmu unsync. */
void mmu_invept(struct kvm_vcpu *v, unsigned type, u64 eptp);

/* ---- Faults ---- */
/*
 * EPT violation, EPT misconfiguration (as PFERR_RSVD), or #PF under shadow paging. @addr is
 * guest-physical in the first two cases, linear in the third. 1: go on; 0: run->exit_reason says
 * why to go to user space; < 0: errno of KVM_RUN.
 */
int mmu_page_fault(struct kvm_vcpu *v, u64 addr, u64 error_code);
/* The error code of an EPT violation's qualification (SDM vol. 3C, table 28-7). */
u64 mmu_ept_error_code(u64 qualification);
/* An access of the processor found host memory missing (sil_memory_error): removes what is mapped
 * there. 0 if the memory is there again (retry), else -EFAULT. */
int mmu_memory_error(struct kvm_vcpu *v, hva_t hva, bool write);
/* Unmaps the frames [@first, @end) of all slots and flushes. slots_lock held. */
void mmu_zap_gfn_range(struct kvm *kvm, gfn_t first, gfn_t end);
/* Maps @gpa as an access with @error_code would (KVM_PRE_FAULT_MEMORY). 0, -EFAULT, -ENOENT (MMIO).
 */
int mmu_map_gpa(struct kvm_vcpu *v, gpa_t gpa, u64 error_code, u8 *level);

/* ---- The guest's own page tables ---- */
/* GPA_INVALID if there is no translation, and *@f (if not NULL) tells the fault. CPL is added by
 * mmu_gva_to_gpa_cpl. */
gpa_t mmu_gva_to_gpa(struct kvm_vcpu *v, gva_t gva, u64 access, struct guest_fault *f);
gpa_t mmu_gva_to_gpa_system(struct kvm_vcpu *v, gva_t gva, u64 access, struct guest_fault *f);
/* L2 guest-physical to L1 guest-physical; the identity unless an L2 runs on nested paging. */
gpa_t mmu_translate_nested(struct kvm_vcpu *v, gpa_t gpa, u64 access, struct guest_fault *f);
/* Linear memory as instructions see it. 0; 1: fault in *@f; -EFAULT: no memory there (MMIO too). */
int mmu_read_virt(struct kvm_vcpu *v, gva_t gva, void *dst, size_t n, u64 access,
		  struct guest_fault *f);
int mmu_write_virt(struct kvm_vcpu *v, gva_t gva, const void *src, size_t n, u64 access,
		   struct guest_fault *f);
/* KVM_TRANSLATE. */
int mmu_translate(struct kvm_vcpu *v, struct kvm_translation *t);
/* Reads the four PDPTEs behind @cr3. True if usable (SDM vol. 3A, 4.4.1); stores to @pdptr. */
bool mmu_load_pdptrs(struct kvm_vcpu *v, u64 cr3, u64 pdptr[4]);

/* ---- The guest's memory is written by the core's emulator: shadowed tables follow. ---- */
void mmu_track_write(struct kvm_vcpu *v, gpa_t gpa, const void *data, unsigned n);
/* A write by the emulator hit a write-protected table: unprotect and let the guest run instead.
 * True if something was unprotected. */
bool mmu_unprotect_gfn(struct kvm *kvm, gfn_t gfn);

/* ---- For memslot.c: slots_lock held ---- */
struct memslot;
int mmu_slot_create(struct kvm *kvm, struct memslot *slot); /* slot->mmu. 0, -EINVAL, -ENOMEM */
/* The slot has become visible: guest tables in its frames that were shadowed before, when there was
 * no slot to account them in, are so no longer. Takes mmu_lock. */
void mmu_slot_created(struct kvm *kvm, struct memslot *slot);
void mmu_slot_free(struct memslot *slot);
/* Nothing maps the slot's frames any more, on any processor, when these return. */
void mmu_slot_zap(struct kvm *kvm, struct memslot *slot);
void mmu_slot_dirty_log(struct kvm *kvm, struct memslot *slot, bool on, bool all_set);
/* Write-protects the pages of @mask from @first on; the caller holds mmu_lock and flushes. True if
 * an entry changed. */
bool mmu_slot_write_protect(struct kvm *kvm, struct memslot *slot, u64 first, u64 mask);
void mmu_flush_remote(struct kvm *kvm); /* translations, all vCPUs, waits */
/* The generation has changed: MMIO entries are stale. */
void mmu_generation_changed(struct kvm *kvm, u64 generation);

/* ---- Limits and counters ---- */
u64 mmu_pages_used(struct kvm *kvm);

#endif
