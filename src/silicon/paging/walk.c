/* SPDX-License-Identifier: MIT */
/*
 * Linear to guest-physical: one walker, specialised by the compiler for each paging format, with
 * and without nested paging (SDM vol. 3A, chapter 4). The tables are read through nested paging
 * where there is any, and are plain memory of this process otherwise.
 */
#include "silicon/paging/paging.h"
#include "base/log.h"
#include "silicon/paging/tlb.h"

static bool user_access(const struct sil_cpu *cpu, unsigned how)
{
	return (how & ISA_ACC_USER) || (cpu->c.cpl == 3 && !(how & ISA_ACC_SYS));
}

/* #PF with the error code of SDM vol. 3A, 4.7. A page fault drops the translation, 4.10.4.1. */
static __noreturn __noinline void fault(struct sil_cpu *cpu, u64 la, unsigned how, u32 role,
					u32 err)
{
	if (how & ISA_ACC_WRITE)
		err |= PFEC_W;
	if (user_access(cpu, how))
		err |= PFEC_U;
	if ((how & ISA_ACC_FETCH) && (role & (ROLE_NXE | ROLE_SMEP)))
		err |= PFEC_I;
	tlb_drop_la(cpu, la);
	isa_raise_pf(&cpu->c, la, err);
}

/* Host address of the table entry at @gpa. With EPT accessed/dirty flags, walks count as writes. */
static __always_inline_ void *entry_ptr(struct sil_cpu *cpu, gpa_t gpa, u64 la, bool write,
					const bool nested)
{
	/* KIND_R and KIND_W are the same bits. */
	unsigned acc = EPT_VIOLATION_READ;
	hpa_t hpa;

	if (!nested)
		return (void *)gpa;
	if (write || cpu->world.ept_ad)
		acc |= EPT_VIOLATION_WRITE;
	hpa = nested_hit(cpu, gpa, acc);
	if (likely(hpa))
		return (void *)hpa;
	return (void *)nested_walk(cpu, gpa, acc, EPT_VIOLATION_GVA_VALID, la, true);
}

static __always_inline_ bool entry_update(void *p, u64 old, u64 new, const unsigned esz)
{
	if (esz == 4) {
		u32 o = (u32)old;

		return __atomic_compare_exchange_n((u32 *)p, &o, (u32) new, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	}
	return __atomic_compare_exchange_n((u64 *)p, &old, new, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

/* Reserved bits of a present entry: tables 4-15 to 4-20 and 4-4 to 4-6 of SDM vol. 3A. */
static __always_inline_ u64 reserved(const struct sil_cpu *cpu, u32 role, unsigned level, bool leaf,
				     const enum pg_format f)
{
	unsigned maxpa = cpu->m->maxphyaddr;
	u64 r;

	if (f == PG_32) /* 4 MiB pages: bits 20:13 are address bits 39:32 */
		return leaf && level == 2 ? BIT(21) : 0;
	r = maxpa < 52 ? BITS(51, maxpa) : 0;
	if (f == PG_PAE)
		r |= BITS(62, 52);
	if (!(role & ROLE_NXE))
		r |= PTE_NX;
	if (level >= 4)
		r |= PTE_PS;
	else if (leaf && level > 1)
		r |= BITS(12 + 9 * (level - 1) - 1, 13);
	return r;
}

/* SDM vol. 3A, 4.6.2. True if the page's key forbids this data access. */
static bool key_forbids(const struct sil_cpu *cpu, u32 role, unsigned key, bool user_page,
			unsigned how, bool user)
{
	u32 reg;

	if (user_page ? !(role & ROLE_PKE) : !(role & ROLE_PKS))
		return false;
	reg = (user_page ? cpu->c.r.pkru : cpu->pkrs) >> (2 * key);
	if (reg & 1)
		return true;
	return (reg & 2) && (how & ISA_ACC_WRITE) && (user || (role & ROLE_WP));
}

/* Error-code bits P and PK if the rights @u, @w, @nx of the page forbid the access; 0 if not. */
static __always_inline_ u32 forbidden(const struct sil_cpu *cpu, unsigned how, u32 role, bool u,
				      bool w, bool nx, unsigned key)
{
	bool user = user_access(cpu, how);
	u32 err = 0;

	if (user) {
		if (!u || ((how & ISA_ACC_WRITE) && !w))
			err = PFEC_P;
	} else {
		/* EFLAGS.AC overrides SMAP for explicit accesses only. */
		if (u && (how & ISA_ACC_FETCH) && (role & ROLE_SMEP))
			err = PFEC_P;
		if (u && !(how & ISA_ACC_FETCH) && (role & ROLE_SMAP) &&
		    ((how & ISA_ACC_SYS) || !(cpu->c.s.rflags & X86_AC)))
			err = PFEC_P;
		if ((how & ISA_ACC_WRITE) && !w && (role & ROLE_WP))
			err = PFEC_P;
	}
	if ((how & ISA_ACC_FETCH) && nx)
		err = PFEC_P;
	if (unlikely(role & (ROLE_PKE | ROLE_PKS)) && !(how & ISA_ACC_FETCH) &&
	    key_forbids(cpu, role, key, u, how, user))
		err |= PFEC_P | PFEC_PK;
	return err;
}

static unsigned ept_acc(unsigned how)
{
	if (how & ISA_ACC_FETCH)
		return EPT_VIOLATION_FETCH;
	if (how & ISA_ACC_RMW)
		return EPT_VIOLATION_READ | EPT_VIOLATION_WRITE;
	return how & ISA_ACC_WRITE ? EPT_VIOLATION_WRITE : EPT_VIOLATION_READ;
}

/* @f, @nested are constants at every call: each combination is a function of its own. */
static __always_inline_ void walk(struct sil_cpu *cpu, u64 la, unsigned how, u32 role,
				  struct walk_out *out, const enum pg_format f, const bool nested)
{
	const unsigned esz = f == PG_32 ? 4 : 8, ibits = f == PG_32 ? 10 : 9;
	const unsigned top = f == PG_5L ? 5 : f == PG_4L ? 4 : 2;
	const u64 acc_bits = PTE_A;
	u64 e, val[6], qual, off;
	gpa_t table, pte_gpa[6];
	void *ptr[6];
	unsigned level, l, shift, key;
	bool u, w, nx, leaf;
	u32 err;

	cpu->n.walks++;
restart:
	u = w = true;
	nx = false;
	if (f == PG_PAE) {
		e = cpu->c.s.pdptr[(la >> 30) & 3];
		if (!(e & PTE_P))
			fault(cpu, la, how, role, 0);
		table = e & PTE_ADDR;
	} else {
		table = cpu->c.s.cr3 & (f == PG_32 ? 0xfffff000ull : PTE_ADDR);
	}

	for (level = top;; level--) {
		shift = 12 + ibits * (level - 1);
		pte_gpa[level] = table + ((la >> shift) & (BIT(ibits) - 1)) * esz;
		ptr[level] = entry_ptr(cpu, pte_gpa[level], la, false, nested);
		e = esz == 4 ? __atomic_load_n((u32 *)ptr[level], __ATOMIC_RELAXED)
			     : __atomic_load_n((u64 *)ptr[level], __ATOMIC_RELAXED);
		val[level] = e;
		cpu->n.walk_loads++;
		if (unlikely(!(e & PTE_P)))
			fault(cpu, la, how, role, 0);
		leaf = level == 1 || ((e & PTE_PS) && (f == PG_32 ? role & ROLE_PSE : level <= 3));
		if (unlikely(e & reserved(cpu, role, level, leaf, f)))
			fault(cpu, la, how, role, PFEC_P | PFEC_RSVD);
		u &= (e & PTE_U) != 0;
		w &= (e & PTE_W) != 0;
		nx |= f != PG_32 && (e & PTE_NX);
		if (leaf)
			break;
		table = e & (f == PG_32 ? 0xfffff000ull : PTE_ADDR);
	}

	key = f >= PG_4L ? PTE_PK(e) : 0;
	err = forbidden(cpu, how, role, u, w, nx, key);
	if (unlikely(err))
		fault(cpu, la, how, role, err);

	for (l = top; l >= level; l--) {
		u64 want = l == level && (how & ISA_ACC_WRITE) ? acc_bits | PTE_D : acc_bits;

		if (likely((val[l] & want) == want))
			continue;
		if (nested)
			ptr[l] = entry_ptr(cpu, pte_gpa[l], la, true, nested);
		if (!entry_update(ptr[l], val[l], val[l] | want, esz))
			goto restart;
		cpu_wrote(cpu, (hva_t)ptr[l], esz);
	}

	shift = 12 + ibits * (level - 1);
	off = la & (BIT(shift) - 1);
	if (f == PG_32 && level == 2)
		out->gpa = (e & 0xffc00000ull) | bits_get(e, 20, 13) << 32 | off;
	else if (f == PG_32)
		out->gpa = (e & 0xfffff000ull) | off;
	else
		out->gpa = (e & PTE_ADDR & ~(BIT(shift) - 1)) | off;
	out->global = (e & PTE_G) && (role & ROLE_PGE);
	out->user = u;
	out->shift = (u8)shift;
	out->nested_shift = 63;
	if (!nested) {
		out->hpa = out->gpa;
		return;
	}
	qual = EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED;
	qual |= (u ? EPT_VIOLATION_GVA_USER : 0) | (w ? EPT_VIOLATION_GVA_WRITABLE : 0) |
		(nx ? EPT_VIOLATION_GVA_NX : 0);
	out->hpa = nested_walk(cpu, out->gpa, ept_acc(how), qual, la, u);
	out->nested_shift = nested_shift(cpu, out->gpa);
}

/* CR0.PG = 0 with unrestricted guest: linear is guest-physical. */
static void walk_none(struct sil_cpu *cpu, u64 la, unsigned how, struct walk_out *out, bool nested)
{
	u64 qual = EPT_VIOLATION_GVA_VALID | EPT_VIOLATION_TRANSLATED | EPT_VIOLATION_GVA_USER |
		   EPT_VIOLATION_GVA_WRITABLE | EPT_VIOLATION_GVA_NX;

	out->gpa = (u32)la;
	out->global = false;
	out->user = true;
	out->shift = PAGE_SHIFT; /* nothing says how large */
	out->nested_shift = 63;
	out->hpa = nested ? nested_walk(cpu, out->gpa, ept_acc(how), qual, la, true) : out->gpa;
}

void paging_walk(struct sil_cpu *cpu, u64 la, unsigned how, u32 role, struct walk_out *out)
{
	switch (role & (ROLE_FORMAT | ROLE_NESTED)) {
	case PG_NONE: walk_none(cpu, la, how, out, false); break;
	case PG_NONE | ROLE_NESTED: walk_none(cpu, la, how, out, true); break;
	case PG_32: walk(cpu, la, how, role, out, PG_32, false); break;
	case PG_32 | ROLE_NESTED: walk(cpu, la, how, role, out, PG_32, true); break;
	case PG_PAE: walk(cpu, la, how, role, out, PG_PAE, false); break;
	case PG_PAE | ROLE_NESTED: walk(cpu, la, how, role, out, PG_PAE, true); break;
	case PG_4L: walk(cpu, la, how, role, out, PG_4L, false); break;
	case PG_4L | ROLE_NESTED: walk(cpu, la, how, role, out, PG_4L, true); break;
	case PG_5L: walk(cpu, la, how, role, out, PG_5L, false); break;
	case PG_5L | ROLE_NESTED: walk(cpu, la, how, role, out, PG_5L, true); break;
	default: BUG("paging role %x", role);
	}
}

/* ---- Physical access by the processor itself ------------------------------------------------- */

void *cpu_gpa(struct sil_cpu *cpu, gpa_t gpa, unsigned how)
{
	if (cpu->world.nested == SIL_NESTED_NONE)
		return (void *)gpa;
	return (void *)nested_walk(cpu, gpa, ept_acc(how), 0, 0, true);
}

/* SDM vol. 3A, 4.4.1: bits 2:1, 8:5 and those from MAXPHYADDR up are reserved if P is set. */
bool cpu_load_pdptes(struct sil_cpu *cpu, u64 cr3, u64 pdpte[4])
{
	u64 rsvd = BITS(2, 1) | BITS(8, 5) | BITS(63, 52);
	const u64 *p = cpu_gpa(cpu, cr3 & 0xffffffe0ull, 0);
	unsigned k;

	if (cpu->m->maxphyaddr < 52)
		rsvd |= BITS(51, cpu->m->maxphyaddr);
	for (k = 0; k < 4; k++) {
		pdpte[k] = __atomic_load_n(&p[k], __ATOMIC_RELAXED);
		if ((pdpte[k] & PTE_P) && (pdpte[k] & rsvd))
			return false;
	}
	return true;
}
