/* SPDX-License-Identifier: MIT */
/*
 * One walk of a guest's page tables. Included by walk.c once for each format, with:
 *	WALK_NAME(x)  the instance's names
 *	WALK_PTE      type of an entry: u32, u64
 *	WALK_EPT      1 if entries are EPT entries
 * SDM vol. 3A, 4.3-4.7; vol. 3C, 29.3.
 */
#define WALK_BITS (sizeof(WALK_PTE) == 4 ? 10u : 9u)

static bool WALK_NAME(present)(const struct kvm_mmu *mmu, u64 pte)
{
	return WALK_EPT ? pte & (EPT_R | EPT_W | ept_exec_bits(mmu)) : pte & PT_P;
}

static unsigned WALK_NAME(pte_access)(const struct kvm_mmu *mmu, u64 pte)
{
	unsigned acc = pte & PT_W ? ACC_WRITE : 0;

	if (WALK_EPT)
		return acc | (pte & EPT_R ? ACC_USER : 0) | (pte & EPT_X ? ACC_EXEC : 0) |
		       (pte & EPT_XU ? ACC_EXEC_USER : 0);
	if (pte & PT_U)
		acc |= ACC_USER;
	if (sizeof(WALK_PTE) == 4 || !(pte & PT_NX) || !mmu->cpu_role.base.efer_nx)
		acc |= ACC_EXEC;
	return acc;
}

static bool WALK_NAME(leaf)(const struct kvm_mmu *mmu, u64 pte, int level)
{
	if (level == 1)
		return true;
	if (!(pte & PT_PS) || level > 3)
		return false;
	/* 32-bit: only with CR4.PSE, and only at the top. Above PAE's two levels are PDPTEs, whose
	 * bit 7 the reserved-bit check has seen. */
	return sizeof(WALK_PTE) == 4 ? mmu->cpu_role.cr4_pse : true;
}

static bool WALK_NAME(reserved)(const struct kvm_mmu *mmu, u64 pte, int level)
{
	if (WALK_EPT && ept_misconfigured(mmu, pte))
		return true;
	return pte & mmu->rsvd_mask[WALK_NAME(leaf)(mmu, pte, level) && level > 1][level - 1];
}

/* First frame of the leaf. A 4 MiB page of 32-bit paging has physical bits 39:32 in its bits 20:13
 * (PSE-36, SDM vol. 3A, table 4-4). */
static gfn_t WALK_NAME(pte_gfn)(u64 pte, int level)
{
	/* Below its size a large page's entry has PAT in bit 12, which is no address bit. */
	u64 pa = pte & BITS(51, PAGE_SHIFT + WALK_BITS * (level - 1));

	if (sizeof(WALK_PTE) == 4 && level == 2)
		pa = (pte & 0xffc00000) | bits_get(pte, 20, 13) << 32;
	return pa >> PAGE_SHIFT;
}

/*
 * Sets accessed in the entries passed, and dirty in the leaf of a write. WALK_AGAIN if an entry was
 * changed by someone else since it was read. Tables in read-only memory stay as they are.
 */
static enum walk_result WALK_NAME(set_ad)(struct kvm_vcpu *v, struct kvm_mmu *mmu,
					  struct guest_walk *w, u64 addr, bool write)
{
	const u64 a = WALK_EPT ? EPT_A : PT_A, d = WALK_EPT ? EPT_D : PT_D;

	if (!walk_has_ad(mmu))
		return WALK_OK;
	for (int level = w->max_level; level >= w->level; level--) {
		WALK_PTE old = (WALK_PTE)w->pte[level - 1], new;
		int r;

		new = old | (WALK_PTE)(a | (write && level == w->level ? d : 0));
		if (new == old)
			continue;
		if (WALK_EPT && (new & ~old &d) && mmu->log_dirty && !mmu->log_dirty(v, addr)) {
			w->fault = (struct guest_fault){
				.addr = addr, .nested = true, .log_full = true};
			return WALK_FAULT;
		}
		/* To read the entry it was enough that the level below lets it be read. */
		if (walk_translate(v, mmu, w->pte_gpa[level - 1],
				   PFERR_USER | PFERR_WRITE | PFERR_GUEST_PAGE, addr,
				   w) == GPA_INVALID)
			return WALK_FAULT;
		r = vcpu_cmpxchg_guest(v, w->real_pte_gpa[level - 1], &old, &new, sizeof(old));
		if (r == 1)
			return WALK_AGAIN;
		if (!r)
			w->pte[level - 1] = new;
	}
	return WALK_OK;
}

static enum walk_result WALK_NAME(once)(struct kvm_vcpu *v, struct kvm_mmu *mmu, u64 addr,
					u64 access, struct guest_walk *w)
{
	/* Rights that the format does not have are not in the role either. */
	unsigned acc = mmu->cpu_role.base.access, pkey = 0;
	u64 entry = mmu->get_guest_pgd(v);
	u64 table_access = walk_table_access(v, mmu);
	int level = mmu->cpu_role.base.level;
	u64 fault_bits = PFERR_PRESENT;
	enum walk_result r;
	u64 pte, error;

	w->level = level;
	/* Four levels of EPT map 48 bits; what is beyond is not present (SDM vol. 3C, 29.3.2). */
	if (WALK_EPT && level == 4 && unlikely(addr >> 48)) {
		w->max_level = level;
		return walk_fault(v, mmu, w, addr, access, 0, 0);
	}
	if (level == 3 && !WALK_EPT) {
		entry = mmu->get_pdptr(v, (addr >> 30) & 3);
		if (!(entry & PT_P))
			return walk_fault(v, mmu, w, addr, access, 0, 0);
		level = 2;
	}
	w->max_level = level;
	for (;; level--) {
		unsigned shift = PAGE_SHIFT + WALK_BITS * (level - 1);
		gpa_t table = entry & (sizeof(WALK_PTE) == 4 ? BITS(31, 12) : BITS(51, 12));
		gpa_t pte_gpa = table + ((addr >> shift) & (BIT(WALK_BITS) - 1)) * sizeof(WALK_PTE);
		gpa_t real = walk_translate(v, mmu, pte_gpa, table_access, addr, w);
		WALK_PTE raw;

		w->level = level;
		w->table_gfn[level - 1] = table >> PAGE_SHIFT;
		w->pte_gpa[level - 1] = pte_gpa;
		w->table_access[level - 1] = acc;
		if (real == GPA_INVALID)
			return WALK_FAULT;
		w->real_pte_gpa[level - 1] = real;
		if (walk_load(v, real, &raw, sizeof(raw)))
			return walk_fault(v, mmu, w, addr, access, 0, 0);
		pte = w->pte[level - 1] = raw;
		if (!WALK_NAME(present)(mmu, pte))
			return walk_fault(v, mmu, w, addr, access, 0, acc);
		if (WALK_NAME(reserved)(mmu, pte, level))
			return walk_fault(v, mmu, w, addr, access, PFERR_PRESENT | PFERR_RSVD, acc);
		acc &= WALK_NAME(pte_access)(mmu, pte);
		if (WALK_NAME(leaf)(mmu, pte, level))
			break;
		entry = pte;
	}
	w->access = acc;
	if (!WALK_EPT && sizeof(WALK_PTE) == 8 && mmu->cpu_role.base.level > 3)
		pkey = bits_get(pte, 62, 59);
	error = walk_permission(v, mmu, acc, pkey, access, WALK_EPT);
	if (error)
		return walk_fault(v, mmu, w, addr, access, fault_bits | error, acc);

	w->gfn = WALK_NAME(pte_gfn)(pte, level) +
		 ((addr & (BIT(PAGE_SHIFT + WALK_BITS * (level - 1)) - 1)) >> PAGE_SHIFT);
	/* The flags come first: the page itself is accessed when the translation is complete. */
	r = WALK_NAME(set_ad)(v, mmu, w, addr, access & PFERR_WRITE);
	return r == WALK_OK ? walk_translate_final(v, mmu, w, addr, access) : r;
}

static bool WALK_NAME(walk)(struct kvm_vcpu *v, struct kvm_mmu *mmu, u64 addr, u64 access,
			    struct guest_walk *w)
{
	enum walk_result r;

	do
		r = WALK_NAME(once)(v, mmu, addr, access, w);
	while (r == WALK_AGAIN);
	return r == WALK_OK;
}

#undef WALK_BITS
#undef WALK_NAME
#undef WALK_PTE
#undef WALK_EPT
