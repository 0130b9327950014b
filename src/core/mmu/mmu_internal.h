/* SPDX-License-Identifier: MIT */
/* Shadow pages, their entries and reverse maps: what the files of core/mmu share. */
#ifndef CORE_MMU_MMU_INTERNAL_H
#define CORE_MMU_MMU_INTERNAL_H

#include "base/log.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/vcpu.h"

#define MMU_MAX_LEVEL	5
#define MMU_LEAF_LEVELS 3 /* leaves are 4 KiB, 2 MiB, 1 GiB */
#define MMU_HASH_BITS	12

/* ---- Entries ----
 * Bit 11 is ignored in EPT entries (without the features that claim it, none of which we enable)
 * and in legacy ones. Of the high bits none is: PAE paging reserves them.
 */
#define SPTE_PRESENT   BIT(11) /* a translation or table, in our books */
#define SPTE_ADDR_MASK BITS(51, 12)

#define PT_P  BIT(0)
#define PT_W  BIT(1)
#define PT_U  BIT(2)
#define PT_A  BIT(5)
#define PT_D  BIT(6)
#define PT_PS BIT(7)
#define PT_NX BIT(63)

/*
 * An MMIO entry is misconfigured on purpose (writable, not readable: SDM vol. 3C, 29.3.3.1) and
 * holds the generation of the slots it was made for.
 */
#define SPTE_MMIO_VALUE (EPT_W | EPT_X)
#define MMIO_GEN_SHIFT	12
#define MMIO_GEN_BITS	40

_Static_assert((SPTE_PRESENT & SPTE_ADDR_MASK) == 0, "software bits are not address bits");

static inline bool spte_present(u64 spte)
{
	return spte & SPTE_PRESENT;
}
static inline bool spte_large(u64 spte)
{
	return spte & PT_PS;
}
static inline bool spte_leaf(u64 spte, int level)
{
	return level == 1 || spte_large(spte);
}
/* Bit 1 is W in both formats. */
static inline bool spte_writable(u64 spte)
{
	return spte & PT_W;
}
static inline u64 spte_addr(u64 spte)
{
	return spte & SPTE_ADDR_MASK;
}
_Static_assert(EPT_W == PT_W && EPT_LARGE == PT_PS, "shared between the formats");
static inline bool spte_mmio(u64 spte)
{
	return !(spte & SPTE_PRESENT) && (spte & 7) == SPTE_MMIO_VALUE;
}
static inline u64 spte_make_mmio(u64 generation)
{
	return SPTE_MMIO_VALUE | (generation & (BIT(MMIO_GEN_BITS) - 1)) << MMIO_GEN_SHIFT;
}
static inline u64 spte_get(const u64 *sptep)
{
	return __atomic_load_n(sptep, __ATOMIC_ACQUIRE);
}
static inline void spte_set(u64 *sptep, u64 val)
{
	__atomic_store_n(sptep, val, __ATOMIC_RELEASE);
}

/* Entry that points to the table @child; allows everything, leaves decide. */
u64 spte_make_table(union mmu_page_role role, hpa_t child);
/* Leaf at @level to @hva with ACC_* @access; @writable: may hold W now. */
u64 spte_make_leaf(union mmu_page_role role, hva_t hva, int level, unsigned access, bool writable);

static inline unsigned pt_index(u64 addr, int level)
{
	return (addr >> (PAGE_SHIFT + 9 * (level - 1))) & 511;
}
static inline u64 level_pages(int level)
{
	return 1ull << (9 * (level - 1));
}

/* ---- Reverse maps: the entries that point to one guest frame, or to one shadow page ---- */
struct rmap_vec {
	u32 n, cap;
	u64 *sptep[];
};
/* 0: none; bit 0 clear: the only sptep; bit 0 set: struct rmap_vec. */
struct rmap {
	u64 val;
};
int rmap_add(struct rmap *r, u64 *sptep); /* 0 or -ENOMEM */
void rmap_del(struct rmap *r, u64 *sptep);
u64 *rmap_get(const struct rmap *r,
	      u32 i); /* NULL past the end; @i counts down safely in deletions */
u32 rmap_count(const struct rmap *r);
/* Stops early if @r changes under it: only for bodies that do not add or delete. */
#define rmap_for_each(sptep, r) for (u32 _i = 0; ((sptep) = rmap_get((r), _i)); _i++)

struct mmu_slot {
	struct rmap *rmap[MMU_LEAF_LEVELS]; /* made when first needed */
	u32 *no_large[MMU_LEAF_LEVELS]; /* [level - 1], level > 1: reasons against a large leaf */
};
/* Index of @gfn's frame of @level within the slot's arrays. */
static inline u64 slot_index(const struct memslot *s, gfn_t gfn, int level)
{
	unsigned shift = 9 * (level - 1);

	return (gfn >> shift) - (s->base_gfn >> shift);
}
static inline u64 slot_entries(const struct memslot *s, int level)
{
	return slot_index(s, s->base_gfn + s->npages - 1, level) + 1;
}
/* NULL without memory. */
struct rmap *slot_rmap(struct memslot *s, gfn_t gfn, int level);
/* As slot_rmap, NULL too if nothing was ever mapped at that level. */
struct rmap *slot_rmap_lookup(const struct memslot *s, gfn_t gfn, int level);
/* Zero-filled memory of any size. */
void *zalloc_big(size_t bytes);
void zfree_big(void *p, size_t bytes);

/* ---- Shadow pages ---- */
struct mmu_page {
	struct mmu_page *hash_next;
	struct mmu_page *prev, *next; /* all pages in use, newest first */
	gfn_t gfn;
	union mmu_page_role role;
	u64 *spt;
	u64 *shadowed;	     /* of indirect leaf tables: shadowed_word() by entry */
	struct rmap parents; /* entries that point here */
	u32 roots;	     /* contexts of which it is a root */
	u32 write_flood;     /* writes to the guest's table since it was last used */
	bool accounted;	     /* in its frame's slot */
	bool unsync;
	u32 unsync_children;
	u64 unsync_bitmap[8];
};

struct mmu_vm {
	struct mmu_page *hash[1 << MMU_HASH_BITS];
	struct mmu_page active; /* list head */
	u64 used, max;		/* pages; max follows the slots unless requested */
	u64 requested;
	u64 indirect; /* shadow pages of guest tables: without them no write tracking */
	struct page_chunk *chunks, *low_chunks;
	struct mmu_page *dead; /* zapped, waiting for the flush */
	bool ept_ad;
	int tdp_level; /* 0: shadow paging */
	bool ept;      /* entries of root_mmu are in EPT format */
	unsigned maxphyaddr;
};

static inline struct mmu_page *sptep_page(const u64 *sptep);
struct mmu_page *hpa_page(hpa_t table);
static inline struct mmu_page *sptep_page(const u64 *sptep)
{
	return hpa_page((u64)sptep & PAGE_MASK);
}
static inline struct mmu_page *spte_child(u64 spte)
{
	return hpa_page(spte_addr(spte));
}
/* What a leaf was made from. */
static inline u64 shadowed_word(gfn_t gfn, unsigned access)
{
	return gfn << ACC_BITS | access;
}
/* The frame that entry @index of @sp maps. */
gfn_t page_gfn(const struct mmu_page *sp, unsigned index);

/* All below: mmu_lock held. */
struct mmu_page *page_find(struct kvm *kvm, gfn_t gfn, union mmu_page_role role);
/* The bucket that pages of @gfn are in, chained by hash_next. */
struct mmu_page *pages_of_gfn(struct kvm *kvm, gfn_t gfn);
/* Finds or makes (a page that cannot be shared is always made). NULL without memory. */
struct mmu_page *page_get(struct kvm *kvm, gfn_t gfn, union mmu_page_role role);
/* Entry *@sptep -> @child. 0 or -ENOMEM. */
int page_link(struct kvm *kvm, u64 *sptep, struct mmu_page *child);
/* Removes the page and what hangs only on it from all tables; memory is freed by page_commit. */
void page_zap(struct kvm *kvm, struct mmu_page *sp);
void page_commit(struct kvm *kvm); /* flushes if anything was zapped, then frees */
/* As spte_drop for an entry that points to a table: a direct table without other users goes too. */
void page_unlink_child(struct kvm *kvm, u64 *sptep);
void root_put(struct kvm *kvm, struct mmu_page *sp);
/* Room for the tables of one fault: reclaims the oldest if there is not. */
void pages_make_room(struct kvm *kvm);
void pages_free_all(struct kvm *kvm);
/* Clears an entry, whatever it is, with its reverse maps. True if it was a present leaf. */
bool spte_drop(struct kvm *kvm, u64 *sptep);
/* Sets a leaf over nothing, another leaf, or a table (which is unlinked). 0, or -ENOMEM. *@flush is
 * set if processors may hold something that is no longer so. */
int spte_set_leaf(struct kvm *kvm, u64 *sptep, struct memslot *slot, gfn_t gfn, unsigned access,
		  u64 spte, bool *flush);
void stat_pages(struct kvm *kvm, int level, int delta);

/* ---- Slots (slot.c) ---- */
bool slot_zap_gfn(struct kvm *kvm, struct memslot *slot, gfn_t gfn);
bool slot_write_protect_gfn(struct kvm *kvm, struct memslot *slot, gfn_t gfn);
void mmu_update_limit(struct kvm *kvm);

/* ---- Faults ---- */
enum pf_result { PF_CONTINUE, PF_RETRY, PF_FIXED, PF_SPURIOUS, PF_EMULATE, PF_MMIO };

struct fault {
	u64 addr; /* as reported */
	u64 error_code;
	gpa_t gpa;
	gfn_t gfn;
	bool write, exec, user;
	struct memslot *slot;
	hva_t hva; /* of gfn */
	bool map_writable;
	bool wait; /* for memory, however long it takes */
	int max_level, level;
};
/* PF_CONTINUE with slot, hva; else what to do instead, or -EFAULT. Read side held. */
int fault_find_memory(struct kvm_vcpu *v, struct fault *f);
int fault_max_level(const struct fault *f);
/* Where the leaf of @level that has f->gfn begins. */
static inline hva_t fault_leaf_hva(const struct fault *f, int level)
{
	return f->hva - ((f->gfn & (level_pages(level) - 1)) << PAGE_SHIFT);
}
/* Maps f in the direct tables of @mmu. mmu_lock held. pf_result or -errno. */
int direct_map(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct fault *f);
/* MMIO entries for @gpa: remember or ask. mmu_lock held. */
void direct_map_mmio(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t gpa, u64 generation);
u64 direct_spte(struct kvm_mmu *mmu, gpa_t gpa, int *level);

/* ---- Roots ---- */
void roots_init(struct kvm_mmu *mmu);
/* @pgd's root becomes the current one of @mmu, which is the vCPU's current context. */
void root_switch(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t pgd);
bool mmu_has_per_vcpu_root_page(const struct kvm_mmu *mmu);

/* ---- Walks of guest tables (walk.c) ---- */
struct guest_walk {
	int level, max_level; /* of the leaf; of the first table read */
	gfn_t gfn;	      /* of the access, not of the leaf's first page */
	unsigned access;      /* ACC_* of the whole path */
	gfn_t table_gfn[MMU_MAX_LEVEL];
	gpa_t pte_gpa[MMU_MAX_LEVEL],
		real_pte_gpa[MMU_MAX_LEVEL]; /* the second after nested paging */
	u64 pte[MMU_MAX_LEVEL];
	unsigned table_access[MMU_MAX_LEVEL]; /* what the levels above table [l - 1] allow */
	struct guest_fault fault;
};
/* Error-code bits that only walks use. */
#define PFERR_IMPLICIT BIT(48) /* supervisor access whatever CPL is: SMAP always applies */
#define PFERR_AC       BIT(49) /* EFLAGS.AC is set: explicit supervisor accesses pass SMAP */
typedef bool guest_walk_fn(struct kvm_vcpu *v, struct kvm_mmu *mmu, u64 addr, u64 access,
			   struct guest_walk *w);
/*
 * What a 4 KiB entry of a guest table maps, for a shadow page of @role: false if it cannot be
 * mapped as it is (not present, reserved bits, not yet accessed). ACC_WRITE is left out while it is
 * not dirty.
 */
bool guest_leaf_decode(const struct kvm_mmu *mmu, union mmu_page_role role, u64 pte, gfn_t *gfn,
		       unsigned *access);
/* The same correction for the leaf of a walk. */
unsigned guest_leaf_access(const struct kvm_mmu *mmu, const struct guest_walk *w);
guest_walk_fn *guest_walker(const struct kvm_mmu *mmu);
void mmu_init_walk(struct kvm_vcpu *v, struct kvm_mmu *mmu);

#endif
