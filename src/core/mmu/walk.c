/* SPDX-License-Identifier: MIT */
/* Walks of the guest's own page tables, in every format, and what they are used for. */
#include <errno.h>
#include <string.h>

#include "core/mmu/mmu_internal.h"
#include "spec/vmx.h"

static bool walk_has_ad(const struct kvm_mmu *mmu)
{
	return !mmu->cpu_role.base.ad_disabled;
}

/* The bits of an EPT entry that allow execution. */
static u64 ept_exec_bits(const struct kvm_mmu *mmu)
{
	return mmu->cpu_role.base.ept_mbec ? EPT_X | EPT_XU : EPT_X;
}

/* Without R: writes, or execution if that is not offered alone; a reserved memory type (SDM vol.
 * 3C, 29.3.3.1). */
static bool ept_misconfigured(const struct kvm_mmu *mmu, u64 pte)
{
	static const u8 bad_type = BIT(2) | BIT(3) | BIT(7);
	unsigned type = (pte >> EPT_MT_SHIFT) & 7;
	u64 needs_r = EPT_W | (mmu->cpu_role.base.ept_execonly ? 0 : ept_exec_bits(mmu));

	if (!(pte & EPT_R) && pte & needs_r)
		return true;
	/* Only leaves have a type; other entries have reserved zeroes there, see rsvd_mask. */
	return bad_type >> type & 1;
}

static int walk_load(struct kvm_vcpu *v, gpa_t gpa, void *dst, unsigned size)
{
	return vcpu_read_guest(v, gpa, dst, size);
}

enum walk_result { WALK_OK, WALK_FAULT, WALK_AGAIN };

/*
 * How reads of a table count one level below. With accessed and dirty flags in EPT every access to
 * a guest's tables is a write (SDM vol. 3C, 29.3.3.2), and NPT always has them.
 */
static u64 walk_table_access(struct kvm_vcpu *v, const struct kvm_mmu *mmu)
{
	u64 access = PFERR_USER | PFERR_GUEST_PAGE;

	if (mmu == &v->mmu->nested_mmu && walk_has_ad(&v->mmu->guest_mmu))
		access |= PFERR_WRITE;
	return access;
}

/* An L2's tables are in L2-physical memory. @addr: what is translated by them. */
static gpa_t walk_translate(struct kvm_vcpu *v, struct kvm_mmu *mmu, gpa_t gpa, u64 access,
			    u64 addr, struct guest_walk *w)
{
	if (likely(mmu != &v->mmu->nested_mmu))
		return gpa;
	gpa = mmu_translate_nested(v, gpa, access, &w->fault);
	if (gpa == GPA_INVALID)
		w->fault.gva = addr;
	return gpa;
}

static enum walk_result walk_translate_final(struct kvm_vcpu *v, struct kvm_mmu *mmu,
					     struct guest_walk *w, u64 addr, u64 access)
{
	gpa_t gpa = (w->gfn << PAGE_SHIFT) | (addr & (PAGE_SIZE - 1));

	if (likely(mmu != &v->mmu->nested_mmu))
		return WALK_OK;
	access &= PFERR_WRITE | PFERR_FETCH;
	if (!access)
		access = PFERR_USER;
	/* A user-mode linear address has U/S in every entry; without paging all are such (table
	 * 28-7). Who executes does not matter. */
	if (access & PFERR_FETCH && w->access & ACC_USER)
		access |= PFERR_GVA_USER;
	gpa = walk_translate(v, mmu, gpa, access | PFERR_GUEST_FINAL, addr, w);
	if (gpa == GPA_INVALID)
		return WALK_FAULT;
	w->gfn = gpa >> PAGE_SHIFT;
	return WALK_OK;
}

/* Fills the fault of a walk that ended at w->level. @acc: what the path allowed. */
static enum walk_result walk_fault(struct kvm_vcpu *v, struct kvm_mmu *mmu, struct guest_walk *w,
				   u64 addr, u64 access, u64 error, unsigned acc)
{
	bool ept = mmu->cpu_role.base.ept;

	w->fault = (struct guest_fault){.vector = X86_PF_VEC, .has_error = true, .addr = addr};
	error |= access & (PFERR_WRITE | PFERR_USER);
	/* I/D is reported only where it can be the reason (SDM vol. 3A, 4.7). */
	if (access & PFERR_FETCH && (mmu->cpu_role.base.efer_nx || mmu->cpu_role.cr4_smep))
		error |= PFERR_FETCH;
	w->fault.error = (u32)error;
	if (mmu != &v->mmu->guest_mmu)
		return WALK_FAULT;
	w->fault.nested = true;
	if (ept && !(error & PFERR_RSVD)) {
		/* More than one for writes to a guest's tables (SDM vol. 3C, table 28-7). */
		u64 q = (access & PFERR_WRITE ? EPT_VIOLATION_WRITE : 0) |
			(access & PFERR_FETCH ? EPT_VIOLATION_FETCH : 0) |
			(access & PFERR_USER ? EPT_VIOLATION_READ : 0);

		/* What all entries together allow, not present counting as nothing. */
		if (!(error & PFERR_PRESENT))
			acc = 0;
		q |= (acc & ACC_USER ? BIT(3) : 0) | (acc & ACC_WRITE ? BIT(4) : 0) |
		     (acc & ACC_EXEC ? BIT(5) : 0) | (acc & ACC_EXEC_USER ? EPT_VIOLATION_XU : 0);
		if (access & (PFERR_GUEST_PAGE | PFERR_GUEST_FINAL))
			q |= EPT_VIOLATION_GVA_VALID |
			     (access & PFERR_GUEST_FINAL ? EPT_VIOLATION_TRANSLATED : 0);
		w->fault.exit_qualification = q;
	}
	return WALK_FAULT;
}

/*
 * Error-code bits of the fault that an access causes at a page with rights @acc; 0 if none. PRESENT
 * stands for a plain one. SDM vol. 3A, 4.6.
 */
static u64 walk_permission(struct kvm_vcpu *v, struct kvm_mmu *mmu, unsigned acc, unsigned pkey,
			   u64 access, bool ept)
{
	const union mmu_cpu_role r = mmu->cpu_role;
	bool user = access & PFERR_USER, write = access & PFERR_WRITE, fetch = access & PFERR_FETCH;
	bool user_page = acc & ACC_USER;

	if (ept) {
		/* An access of the guest's processor is data or fetch; reads need ACC_USER. */
		unsigned exec =
			r.base.ept_mbec && access & PFERR_GVA_USER ? ACC_EXEC_USER : ACC_EXEC;
		bool ok = fetch ? acc & exec : write ? acc & ACC_WRITE && user_page : user_page;

		return ok ? 0 : PFERR_PRESENT;
	}
	if (user && !user_page)
		return PFERR_PRESENT;
	if (write && !(acc & ACC_WRITE) && (user || r.base.cr0_wp))
		return PFERR_PRESENT;
	if (fetch && !(acc & ACC_EXEC))
		return PFERR_PRESENT;
	if (!user && user_page) {
		if (fetch && r.cr4_smep)
			return PFERR_PRESENT;
		if (!fetch && r.cr4_smap && (access & PFERR_IMPLICIT || !(access & PFERR_AC)))
			return PFERR_PRESENT;
	}
	/* Protection keys: user pages, data accesses (4.6.2). */
	if (r.cr4_pke && user_page && !fetch) {
		unsigned bits = v->hw->pkru >> (2 * pkey) & 3;

		if (bits & 1 || (bits & 2 && write && (user || r.base.cr0_wp)))
			return PFERR_PRESENT | PFERR_PK;
	}
	return 0;
}

#define WALK_NAME(x) walk32_##x
#define WALK_PTE     u32
#define WALK_EPT     0
#include "core/mmu/walk_tmpl.h"

/* PAE, 4-level and 5-level, NPT of those formats. */
#define WALK_NAME(x) walk64_##x
#define WALK_PTE     u64
#define WALK_EPT     0
#include "core/mmu/walk_tmpl.h"

#define WALK_NAME(x) walkept_##x
#define WALK_PTE     u64
#define WALK_EPT     1
#include "core/mmu/walk_tmpl.h"

static bool walk_nonpaging(struct kvm_vcpu *v, struct kvm_mmu *mmu, u64 addr, u64 access,
			   struct guest_walk *w)
{
	w->level = w->max_level = 0;
	w->access = ACC_ALL;
	w->gfn = addr >> PAGE_SHIFT;
	return walk_translate_final(v, mmu, w, addr, access) == WALK_OK;
}

guest_walk_fn *guest_walker(const struct kvm_mmu *mmu)
{
	if (!mmu->cpu_role.base.level)
		return walk_nonpaging;
	if (mmu->cpu_role.base.ept)
		return walkept_walk;
	return mmu->cpu_role.base.gpte4 ? walk32_walk : walk64_walk;
}

static unsigned clean_is_readonly(const struct kvm_mmu *mmu, bool ept, u64 pte, unsigned access)
{
	u64 dirty = ept ? EPT_D : PT_D;

	return walk_has_ad(mmu) && !(pte & dirty) ? access & ~ACC_WRITE : access;
}

unsigned guest_leaf_access(const struct kvm_mmu *mmu, const struct guest_walk *w)
{
	return clean_is_readonly(mmu, mmu->cpu_role.base.ept, w->pte[w->level - 1], w->access);
}

bool guest_leaf_decode(const struct kvm_mmu *mmu, union mmu_page_role role, u64 pte, gfn_t *gfn,
		       unsigned *access)
{
#define DECODE(fmt)                                                          \
	do {                                                                 \
		if (!fmt##_present(mmu, pte) || fmt##_reserved(mmu, pte, 1)) \
			return false;                                        \
		*gfn = fmt##_pte_gfn(pte, 1);                                \
		*access = fmt##_pte_access(mmu, pte);                        \
	} while (0)
	if (role.ept)
		DECODE(walkept);
	else if (role.gpte4)
		DECODE(walk32);
	else
		DECODE(walk64);
#undef DECODE
	if (walk_has_ad(mmu) && !(pte & (role.ept ? EPT_A : PT_A)))
		return false;
	*access = clean_is_readonly(mmu, role.ept, pte, *access & role.access);
	return true;
}

static gpa_t gva_to_gpa(struct kvm_vcpu *v, struct kvm_mmu *mmu, u64 addr, u64 access,
			struct guest_fault *f)
{
	struct guest_walk w;

	if (!guest_walker(mmu)(v, mmu, addr, access, &w)) {
		if (f)
			*f = w.fault;
		return GPA_INVALID;
	}
	return w.gfn << PAGE_SHIFT | (addr & (PAGE_SIZE - 1));
}

/*
 * Reserved bits by level for entries that are tables or 4 KiB leaves [0] and large leaves [1]. SDM
 * vol. 3A, tables 4-4 to 4-20; vol. 3C, tables 29-1 to 29-7.
 */
void mmu_init_walk(struct kvm_vcpu *v, struct kvm_mmu *mmu)
{
	const union mmu_cpu_role r = mmu->cpu_role;
	u64 high = r.maxphyaddr < 52 ? BITS(51, r.maxphyaddr) : 0;
	u64 nx = r.base.efer_nx ? 0 : PT_NX;

	memset(mmu->rsvd_mask, 0, sizeof(mmu->rsvd_mask));
	mmu->gva_to_gpa = gva_to_gpa;
	if (r.base.gpte4) {
		/* PSE-36: bits 20:13 are address bits as far as MAXPHYADDR goes, 40 at most. */
		unsigned top = MIN(r.maxphyaddr, 40u) - 32 + 13;

		if (r.cr4_pse)
			mmu->rsvd_mask[1][1] = BITS(21, top);
		return;
	}
	for (int l = 1; l <= MMU_MAX_LEVEL; l++) {
		u64 large = l > 1 && l <= 3 ? BITS(11 + 9 * (l - 1), r.base.ept ? 12 : 13) : 0;

		if (r.base.ept) {
			mmu->rsvd_mask[0][l - 1] = high | (l > 1 ? BITS(7, 3) : 0);
			mmu->rsvd_mask[1][l - 1] = high | large;
			continue;
		}
		mmu->rsvd_mask[0][l - 1] = high | nx | (l > 3 ? PT_PS : 0);
		mmu->rsvd_mask[1][l - 1] = high | nx | large;
		/* No 1 GiB pages in PAE paging; there bits 62:52 are reserved too (table 4-11). */
		if (r.base.level == 3) {
			mmu->rsvd_mask[0][l - 1] |= BITS(62, 52);
			mmu->rsvd_mask[1][l - 1] |= BITS(62, 52);
		}
	}
}

/* ---- Users ---- */

gpa_t mmu_translate_nested(struct kvm_vcpu *v, gpa_t gpa, u64 access, struct guest_fault *f)
{
	struct vcpu_mmu *m = v->mmu;

	if (m->walk_mmu != &m->nested_mmu)
		return gpa;
	return m->guest_mmu.gva_to_gpa(v, &m->guest_mmu, gpa, access, f);
}

/* @access may come with PFERR_AC and PFERR_USER decided already, or (mmu_gva_to_gpa) gets them
 * here. */
gpa_t mmu_gva_to_gpa_system(struct kvm_vcpu *v, gva_t gva, u64 access, struct guest_fault *f)
{
	struct kvm_mmu *mmu = v->mmu->walk_mmu;

	return mmu->gva_to_gpa(v, mmu, gva, access, f);
}

gpa_t mmu_gva_to_gpa(struct kvm_vcpu *v, gva_t gva, u64 access, struct guest_fault *f)
{
	if (kvm_get_cpl(v) == 3)
		access |= PFERR_USER;
	if (kvm_get_rflags(v) & X86_AC)
		access |= PFERR_AC;
	return mmu_gva_to_gpa_system(v, gva, access, f);
}

static int access_virt(struct kvm_vcpu *v, gva_t gva, void *data, size_t n, u64 access,
		       struct guest_fault *f)
{
	while (n) {
		size_t len = MIN(n, PAGE_SIZE - (gva & (PAGE_SIZE - 1)));
		gpa_t gpa = mmu_gva_to_gpa_system(v, gva, access, f);
		int r;

		if (gpa == GPA_INVALID)
			return 1;
		r = access & PFERR_WRITE ? vcpu_write_guest(v, gpa, data, len)
					 : vcpu_read_guest(v, gpa, data, len);
		if (r)
			return r;
		gva += len;
		data = (char *)data + len;
		n -= len;
	}
	return 0;
}

int mmu_read_virt(struct kvm_vcpu *v, gva_t gva, void *dst, size_t n, u64 access,
		  struct guest_fault *f)
{
	return access_virt(v, gva, dst, n, access & ~(u64)PFERR_WRITE, f);
}

int mmu_write_virt(struct kvm_vcpu *v, gva_t gva, const void *src, size_t n, u64 access,
		   struct guest_fault *f)
{
	return access_virt(v, gva, (void *)src, n, access | PFERR_WRITE, f);
}

int mmu_translate(struct kvm_vcpu *v, struct kvm_translation *t)
{
	gpa_t gpa = mmu_gva_to_gpa_system(v, t->linear_address, 0, NULL);

	/* KVM reports rights as granted, whatever they are. */
	t->physical_address = gpa;
	t->valid = gpa != GPA_INVALID;
	t->writeable = 1;
	t->usermode = 0;
	return 0;
}

bool mmu_load_pdptrs(struct kvm_vcpu *v, u64 cr3, u64 pdptr[4])
{
	u64 rsvd = BIT(1) | BIT(2) | BITS(8, 5) | BITS(63, 52), pdpte[4];
	unsigned maxphyaddr = v->arch->maxphyaddr ? v->arch->maxphyaddr : 36;
	gpa_t gpa = mmu_translate_nested(v, cr3 & BITS(31, 5), PFERR_USER | PFERR_GUEST_PAGE, NULL);

	if (maxphyaddr < 52)
		rsvd |= BITS(51, maxphyaddr);
	if (gpa == GPA_INVALID || vcpu_read_guest(v, gpa, pdpte, sizeof(pdpte)))
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (pdpte[i] & PT_P && pdpte[i] & rsvd)
			return false;
	memcpy(pdptr, pdpte, sizeof(pdpte));
	return true;
}
