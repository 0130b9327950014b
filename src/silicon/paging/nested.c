/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical to host-physical through EPT (SDM vol. 3C, 29.3), with a small cache of finished
 * guest-physical translations, which serve page walks and TLB fills alike.
 */
#include "silicon/paging/paging.h"
#include "silicon/paging/tlb.h"

/* Violations tell which of R, W, X all entries on the way had; X for user mode with MBEC is bit 6.
 */
static u64 violation_qual(unsigned acc, u64 perm, bool mbec, u64 qual)
{
	u64 q = qual | acc | (perm & 7) << EPT_VIOLATION_RWX_SHIFT;

	if (mbec && (perm & EPT_XU))
		q |= EPT_VIOLATION_XU;
	return q;
}

/* SDM vol. 3C, 29.3.3.1. @leaf: the entry maps a page. */
static bool ept_misconfigured(u64 e, unsigned level, bool leaf)
{
	unsigned mt = bits_get(e, 5, 3);

	if ((e & (EPT_R | EPT_W)) == EPT_W)
		return true;
	if (!leaf)
		return level >= 4 ? e & BITS(7, 3) : e & BITS(6, 3);
	if (mt == 2 || mt == 3 || mt == 7)
		return true;
	return level > 1 && (e & BITS(12 + 9 * (level - 1) - 1, 12));
}

static __always_inline_ hpa_t ept_walk(struct sil_cpu *cpu, gpa_t gpa, unsigned acc, u64 qual,
				       u64 la, bool user, const unsigned levels,
				       unsigned *page_shift)
{
	const struct sil_world *w = &cpu->world;
	u64 perm = EPT_R | EPT_W | EPT_X | EPT_XU, present = w->ept_mbec ? 7 | EPT_XU : 7;
	u64 *path[6], val[6], e, want, need;
	u64 *table = (u64 *)w->nested_root;
	unsigned level, shift;
	hpa_t hpa;

	cpu->n.walks++;
	if (unlikely(gpa >> (levels == 5 ? 52 : 48))) {
		/* Beyond what the table can map: as a not-present entry. */
		cpu->m->virt->ept_violation(cpu, gpa, la, violation_qual(acc, 0, false, qual));
	}
again:
	for (level = levels;; level--) {
		shift = 12 + 9 * (level - 1);
		path[level] = &table[(gpa >> shift) & 511];
		val[level] = e = __atomic_load_n(path[level], __ATOMIC_RELAXED);
		cpu->n.walk_loads++;
		if (unlikely(!(e & present))) {
			perm = 0;
			goto violation;
		}
		if (unlikely(ept_misconfigured(e, level,
					       level == 1 || (level <= 3 && (e & EPT_LARGE)))))
			cpu->m->virt->ept_misconfig(cpu, gpa);
		perm &= e;
		if (level == 1 || (e & EPT_LARGE))
			break;
		table = (u64 *)(e & EPT_ADDR_MASK);
	}
	need = acc & (EPT_VIOLATION_READ | EPT_VIOLATION_WRITE);
	if (acc & EPT_VIOLATION_FETCH)
		need |= w->ept_mbec && user ? EPT_XU : EPT_X;
	if (unlikely(need & ~perm))
		goto violation;

	if (w->ept_ad) {
		unsigned l;

		for (l = level; l <= levels; l++) {
			want = EPT_A;
			if (l == level && (acc & EPT_VIOLATION_WRITE))
				want |= EPT_D;
			if (likely((val[l] & want) == want))
				continue;
			if (l == level && w->pml && (want & ~val[l] & EPT_D))
				cpu->m->virt->pml(cpu, gpa);
			if (!__atomic_compare_exchange_n(path[l], &val[l], val[l] | want, false,
							 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
				perm = EPT_R | EPT_W | EPT_X | EPT_XU;
				table = (u64 *)w->nested_root;
				goto again;
			}
		}
	}
	shift = 12 + 9 * (level - 1);
	*page_shift = shift;
	hpa = (e & EPT_ADDR_MASK & ~(BIT(shift) - 1)) | (gpa & (BIT(shift) - 1));
	return hpa;

violation:
	/* SDM vol. 3C, 29.4.3.1: a violation invalidates what it was about. */
	nested_flush_gpa(cpu, gpa);
	if (qual & EPT_VIOLATION_GVA_VALID)
		tlb_drop_la(cpu, la);
	cpu->m->virt->ept_violation(cpu, gpa, la, violation_qual(acc, perm, w->ept_mbec, qual));
}

hpa_t nested_walk(struct sil_cpu *cpu, gpa_t gpa, unsigned acc, u64 qual, u64 la, bool user)
{
	struct nested_tlbe *e = &cpu->tlb->nested[(gpa >> PAGE_SHIFT) & (NESTED_TLB_SIZE - 1)];
	unsigned kind = acc & (KIND_R | KIND_W), shift;
	hpa_t hpa;

	if (acc & EPT_VIOLATION_FETCH)
		kind |= cpu->world.ept_mbec && user ? KIND_XU : KIND_X;
	hpa = nested_hit(cpu, gpa, kind);
	if (hpa)
		return hpa;
	hpa = cpu->world.nested_levels == 5 ? ept_walk(cpu, gpa, acc, qual, la, user, 5, &shift)
					    : ept_walk(cpu, gpa, acc, qual, la, user, 4, &shift);
	if (e->gpn != gpa >> PAGE_SHIFT || e->root != cpu->world.nested_root ||
	    e->hpn != hpa >> PAGE_SHIFT) {
		e->gpn = gpa >> PAGE_SHIFT;
		e->root = cpu->world.nested_root;
		e->hpn = hpa >> PAGE_SHIFT;
		e->kinds = 0;
	}
	e->kinds |= kind;
	e->shift = shift;
	return hpa;
}

void nested_flush_gpa(struct sil_cpu *cpu, gpa_t gpa)
{
	cpu->tlb->nested[(gpa >> PAGE_SHIFT) & (NESTED_TLB_SIZE - 1)].kinds = 0;
}

void nested_flush(struct sil_cpu *cpu, hpa_t root)
{
	unsigned k;

	for (k = 0; k < NESTED_TLB_SIZE; k++) {
		struct nested_tlbe *e = &cpu->tlb->nested[k];

		if (!root || e->root == root)
			e->kinds = 0;
	}
}

/* ---- Flushes -----------------------------------------------------------------------------------
 */

void tlb_flush_all(struct sil_cpu *cpu)
{
	struct tlb_bank *b;

	cpu->n.flush_all++;
	tlb_for_each_bank(cpu, b) tlb_empty(b, false);
	nested_flush(cpu, 0);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}

void tlb_flush_nested(struct sil_cpu *cpu, hpa_t root)
{
	struct tlb_bank *b;

	cpu->n.flush_context++;
	tlb_for_each_bank(cpu, b) if ((b->key.role & ROLE_NESTED) && b->key.nested_root == root)
		tlb_empty(b, false);
	nested_flush(cpu, root);
	tlb_fetch_lost(cpu);
	tlb_near_lost(cpu);
}
