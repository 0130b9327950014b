/* SPDX-License-Identifier: MIT */
/*
 * The guest page-table walker against tables built by the test: a random path of one translation,
 * in every format, with random rights, reserved bits and holes; and what each kind of access must
 * then do, written after the lists of SDM vol. 3A, 4.6.1 and 4.7, and vol. 3C, 29.3.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define MB     (1ull << 20)
#define ROUNDS 4000

static u64 rnd_state = 0x1234567;
static u64 rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state * 0x2545f4914f6cdd1dull >> 16;
}
static bool often(void)
{
	return rnd() % 8;
}

struct format {
	const char *name;
	int levels;
	unsigned bits; /* of an index */
	unsigned size; /* of an entry */
	u64 cr4, efer;
	bool ept, mbec;
};
static const struct format formats[] = {
	{"32-bit", 2, 10, 4, 0, 0, false, false},
	{"32-bit PSE", 2, 10, 4, CR4_PSE, 0, false, false},
	{"PAE", 3, 9, 8, CR4_PAE, 0, false, false},
	{"4-level", 4, 9, 8, CR4_PAE, EFER_LME | EFER_LMA, false, false},
	{"5-level", 5, 9, 8, CR4_PAE | CR4_LA57, EFER_LME | EFER_LMA, false, false},
	{"EPT", 4, 9, 8, 0, 0, true, false},
	{"EPT 5-level", 5, 9, 8, 0, 0, true, false},
	{"EPT, mode-based execute control", 4, 9, 8, 0, 0, true, true},
	{"EPT 5-level, mode-based execute control", 5, 9, 8, 0, 0, true, true},
};

struct path {
	u64 la, pa; /* pa of la's page, in full */
	int leaf;   /* level */
	int bad;    /* level at which the walk ends, 0 if it does not */
	bool reserved;
	bool r, w, u, x, nx_seen; /* EPT: u is bit 10 */
	bool execonly;		  /* EPT: no misconfiguration */
	unsigned key;
	u64 entry_pa[6];
	gpa_t root;
	u64 pdpte[4];
};

static char *mem;
#define TABLES (1 * MB) /* where the tables are in the guest */

/* One path from a fresh root. */
static struct path build(const struct format *f, bool pse, u64 rsvd_phys)
{
	struct path p = {.r = true, .w = true, .u = true, .x = true};
	unsigned shift = 12 + f->bits * ((unsigned)f->levels - 1);
	u64 table = TABLES, next = TABLES + PAGE_SIZE;
	u64 any = f->mbec ? 0x407 : 7; /* EPT: what an entry is present by */

	memset(mem + TABLES, 0, 16 * PAGE_SIZE);
	p.root = table;
	p.execonly = rnd() % 4;
	p.la = rnd();
	if (f->levels == 2 || f->levels == 3)
		p.la = (u32)p.la;
	else if (f->ept)
		p.la &= BITS(45, 0);
	else
		p.la = sign_extend(p.la, f->levels == 5 ? 57 : 48);
	for (int level = f->levels;; level--, shift -= f->bits) {
		bool pdpte = f->levels == 3 && level == 3;
		bool can_large =
			f->bits == 10 ? pse && level == 2 : (level == 2 || (level == 3 && !pdpte));
		bool leaf = level == 1 || (can_large && rnd() % 4 == 0);
		bool r = often(), w = often(), u = often(), x = often(), present = rnd() % 32 != 0;
		bool reserved = rnd() % 32 == 0;
		u64 index = p.la >> shift & ((1ull << f->bits) - 1), e, high = 0;

		if (pdpte)
			index &= 3;
		p.entry_pa[level] = table + index * f->size;
		if (leaf) {
			u64 frame = rnd() % 4096 << 12;

			p.pa = (frame >> shift << shift) | (p.la & ((1ull << shift) - 1));
			e = frame >> shift << shift;
			/* PSE-36: address bits 39:32 in 20:13; MAXPHYADDR is 46 here. */
			if (f->bits == 10 && level == 2) {
				high = rnd() & 0xff;
				e |= high << 13;
				p.pa |= high << 32;
			}
			p.key = rnd() & 15;
		} else {
			e = next;
			next += PAGE_SIZE;
		}
		if (f->ept) {
			/* Write without read is a misconfiguration. */
			if (w && !r && !reserved)
				r = true;
			e |= r | (u64)w << 1 | (u64)x << 2 | (u64)u << 10;
			if (!(e & any))
				present = false;
			if (leaf)
				e |= 6 << 3;
			if (reserved) {
				switch (rnd() % 3) {
				case 0: e |= rsvd_phys; break;
				case 1: e = (e & ~7ull) | 2; break;
				default: e = (e & ~0x38ull) | (leaf ? 2 << 3 : 1 << 3); break;
				}
			}
			if (!(e & any))
				present = false;
			/* Bit 10 counts with bit 2, or not at all. */
			reserved |= !r && !p.execonly && e & any & ~3ull;
			p.r &= r;
		} else {
			e |= (u64)w << 1 | (u64)u << 2 | 1;
			if (f->size == 8 && !x && !pdpte)
				e |= 1ull << 63;
			if (f->size == 8 && f->levels > 3 && leaf)
				e |= (u64)p.key << 59;
			if (pdpte) {
				e &= ~6ull;
				w = u = x = true;
				reserved = false; /* caught when they are loaded */
			} else if (f->size == 4) {
				x = true;
				/* Bit 21 of a 4 MiB entry. */
				reserved &= leaf && level == 2;
				if (reserved)
					e |= 1 << 21;
			} else if (reserved) {
				e |= level > 1 && leaf && rnd() % 2 ? 1 << 13
				     : level > 3 && rnd() % 2	    ? 1 << 7
								    : rsvd_phys;
			}
		}
		if (leaf && level > 1)
			e |= 1 << 7;
		/* Without PSE, bit 7 of a directory entry means nothing. */
		if (f->bits == 10 && !pse && level == 2 && rnd() % 2)
			e |= 1 << 7;
		p.w &= w;
		p.u &= u;
		p.x &= x;
		p.nx_seen |= f->size == 8 && !x;
		if (!present) {
			e &= f->ept ? ~any : ~1ull;
			reserved = false;
		}
		memcpy(mem + p.entry_pa[level], &e, f->size);
		if (pdpte)
			p.pdpte[index] = e;
		if (!p.bad && (!present || reserved)) {
			p.bad = level;
			p.reserved = reserved;
		}
		if (leaf) {
			p.leaf = level;
			return p;
		}
		table = next - PAGE_SIZE;
	}
}

/* 4.6.1, one line of the lists each. */
static bool allowed(const struct path *p, u64 cr0, u64 cr4, u64 efer, bool ac, bool implicit,
		    u32 pkru, bool user, bool write, bool fetch)
{
	bool wp = cr0 & CR0_WP, smap = cr4 & CR4_SMAP, smep = cr4 & CR4_SMEP;
	bool override = !smap || (ac && !implicit);
	bool nx_ok = !(efer & EFER_NXE) || p->x;

	if (cr4 & CR4_PKE && p->u && !fetch && efer & EFER_LMA) {
		bool ad = pkru >> (2 * p->key) & 1, wd = pkru >> (2 * p->key + 1) & 1;

		if (ad)
			return false;
		if (wd && write && (user || wp))
			return false;
	}
	if (!user && !p->u) {
		if (fetch)
			return nx_ok;
		return write ? !wp || p->w : true;
	}
	if (!user) {
		if (fetch)
			return !smep && nx_ok;
		if (!write)
			return override;
		return override && (!wp || p->w);
	}
	if (!p->u)
		return false;
	return fetch ? nx_ok : write ? p->w : true;
}

static bool pk_blocks(const struct path *p, u64 cr0, u64 cr4, u64 efer, u32 pkru, bool user,
		      bool write, bool fetch)
{
	struct path open = *p;

	open.w = true;
	return p->u && !fetch &&
	       !allowed(&open, cr0, cr4 & ~CR4_SMAP, efer, true, false, pkru, user, write, fetch);
}

static void check_ad(const struct format *f, const struct path *p, bool write, bool passed)
{
	u64 a = f->ept ? 1 << 8 : 1 << 5, d = f->ept ? 1 << 9 : 1 << 6;

	for (int l = p->leaf; l <= f->levels; l++) {
		u64 e = 0;

		if (f->levels == 3 && l == 3)
			continue; /* PDPTEs have none */
		memcpy(&e, mem + p->entry_pa[l], f->size);
		assert_int_equal(!!(e & a), passed);
		assert_int_equal(!!(e & d), passed && write && l == p->leaf);
	}
}

static void clear_ad(const struct format *f, const struct path *p)
{
	u64 mask = f->ept ? 3 << 8 : 3 << 5;

	for (int l = p->leaf; l <= f->levels; l++) {
		u64 e = 0;

		memcpy(&e, mem + p->entry_pa[l], f->size);
		e &= ~mask;
		memcpy(mem + p->entry_pa[l], &e, f->size);
	}
}

static void setup(struct kvm_vcpu *v, const struct format *f, const struct path *p, u64 cr0,
		  u64 cr4, u64 efer)
{
	fake_regs(v, cr0, p->root, cr4, efer);
	memcpy(v->regs.pdptr, p->pdpte, sizeof(p->pdpte));
	mmu_reset_context(v);
}

static void paging(const struct format *f)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, mem), 0);
	for (int i = 0; i < ROUNDS; i++) {
		u64 cr0 = CR0_PE | CR0_PG | (rnd() % 2 ? CR0_WP : 0);
		u64 cr4 = f->cr4 | (rnd() % 2 ? CR4_SMEP : 0) | (rnd() % 2 ? CR4_SMAP : 0) |
			  (rnd() % 2 ? CR4_PKE : 0);
		u64 efer = f->efer | (f->size == 8 && rnd() % 4 ? EFER_NXE : 0);
		struct path p = build(f, cr4 & CR4_PSE, 1ull << 47);
		u32 pkru = (u32)rnd();
		u64 access = 0;
		bool user = rnd() % 2, write = false, fetch = false, ac = rnd() % 2;
		bool implicit = !user && rnd() % 4 == 0, ok;
		struct guest_fault flt = {0};
		u64 err;
		gpa_t gpa;

		/* Without EFER.NXE bit 63 is reserved; then the first level with it ends the walk.
		 */
		if (!(efer & EFER_NXE) && p.nx_seen)
			continue;
		if (rnd() % 3 == 0)
			write = true;
		else if (rnd() % 2)
			fetch = true;
		access = (user ? PFERR_USER : 0) | (write ? PFERR_WRITE : 0) |
			 (fetch ? PFERR_FETCH : 0) | (ac ? PFERR_AC : 0) |
			 (implicit ? PFERR_IMPLICIT : 0);
		setup(v, f, &p, cr0, cr4, efer);
		v->hw->pkru = pkru;
		clear_ad(f, &p);
		gpa = mmu_gva_to_gpa_system(v, p.la, access, &flt);
		ok = !p.bad && allowed(&p, cr0, cr4, efer, ac, implicit, pkru, user, write, fetch);
		if (ok != (gpa != GPA_INVALID))
			fail_msg("%s round %d: la %lx gpa %lx, expected %s", f->name, i, p.la, gpa,
				 ok ? "a translation" : "a fault");
		check_ad(f, &p, write, ok);
		if (ok) {
			assert_int_equal(gpa, p.pa);
			continue;
		}
		/* 4.7 */
		err = (p.bad && !p.reserved ? 0 : PFERR_PRESENT) | (write ? PFERR_WRITE : 0) |
		      (user ? PFERR_USER : 0) | (p.reserved ? PFERR_RSVD : 0);
		if (fetch && (efer & EFER_NXE || cr4 & CR4_SMEP))
			err |= PFERR_FETCH;
		assert_int_equal(flt.vector, 14);
		assert_int_equal(flt.addr, p.la);
		assert_int_equal(flt.error & ~PFERR_PK, err);
		/* PK is set only if the key forbids it. */
		if (flt.error & PFERR_PK)
			assert_true(!p.bad &&
				    pk_blocks(&p, cr0, cr4, efer, pkru, user, write, fetch));
	}
	fake_vm_free(kvm);
}

static u64 test_eptp;
static gpa_t get_eptp(struct kvm_vcpu *v)
{
	return test_eptp;
}

static void ept(const struct format *f)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	struct kvm_mmu *mmu = &v->mmu->guest_mmu;

	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, mem), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct path p = build(f, false, 1ull << 47);
		bool write = rnd() % 3 == 0, fetch = !write && rnd() % 2, ad = rnd() % 2, ok;
		u64 access = (write   ? PFERR_WRITE
			      : fetch ? PFERR_FETCH
				      : PFERR_USER) |
			     PFERR_GUEST_FINAL;
		bool user = fetch && rnd() % 2; /* a user-mode linear address */
		struct guest_fault flt = {0};
		gpa_t gpa;
		u64 q;

		mmu->cpu_role.word = 0;
		mmu->cpu_role.valid = 1;
		mmu->cpu_role.maxphyaddr = 46;
		mmu->cpu_role.base.level = (u32)f->levels & 0xf;
		mmu->cpu_role.base.ept = 1;
		mmu->cpu_role.base.access = f->mbec ? ACC_ALL | ACC_EXEC_USER : ACC_ALL;
		mmu->cpu_role.base.ept_mbec = f->mbec;
		mmu->cpu_role.base.ept_execonly = p.execonly;
		mmu->cpu_role.base.ad_disabled = !ad;
		mmu->get_guest_pgd = get_eptp;
		test_eptp = p.root;
		mmu_init_walk(v, mmu);
		clear_ad(f, &p);
		gpa = mmu->gva_to_gpa(v, mmu, p.la, access | (user ? PFERR_GVA_USER : 0), &flt);
		ok = !p.bad && (write ? p.w : !fetch ? p.r : f->mbec && user ? p.u : p.x);
		if (ok != (gpa != GPA_INVALID))
			fail_msg("%s round %d: gpa %lx -> %lx, expected %s", f->name, i, p.la, gpa,
				 ok ? "a translation" : "a fault");
		check_ad(f, &p, write, ok && ad);
		if (ok) {
			assert_int_equal(gpa, p.pa);
			continue;
		}
		assert_true(flt.nested);
		assert_int_equal(flt.addr, p.la);
		assert_int_equal(!!(flt.error & PFERR_RSVD), p.reserved);
		if (p.reserved)
			continue;
		/* Table 28-7: the access, the rights of all entries together, and that the linear
		 * address is valid and is what was translated. */
		q = write ? 2 : fetch ? 4 : 1;
		q |= 1 << 7 | 1 << 8;
		if (!p.bad)
			q |= (u64)p.r << 3 | (u64)p.w << 4 | (u64)p.x << 5 |
			     (u64)(f->mbec && p.u) << 6;
		assert_int_equal(flt.exit_qualification, q);
	}
	fake_vm_free(kvm);
}

static void all_formats(void **state)
{
	mem = fake_memory(4 * MB, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		(formats[i].ept ? ept : paging)(&formats[i]);
}

static void no_paging(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_translation t = {.linear_address = 0x12345};

	assert_int_equal(mmu_translate(kvm->vcpus[0], &t), 0);
	assert_int_equal(t.valid, 1);
	assert_int_equal(t.physical_address, 0x12345);
	fake_vm_free(kvm);
}

/* Without NXE, bit 63 is reserved at every level. */
static void nx_reserved(void **state)
{
	const struct format *f = &formats[3];
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	unsigned seen = 0;

	mem = fake_memory(4 * MB, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, mem), 0);
	for (int i = 0; i < 500; i++) {
		struct path p = build(f, false, 1ull << 47);
		struct guest_fault flt = {0};

		if (p.bad || !p.nx_seen)
			continue;
		seen++;
		setup(v, f, &p, CR0_PE | CR0_PG, f->cr4, f->efer);
		assert_int_equal(mmu_gva_to_gpa_system(v, p.la, 0, &flt), GPA_INVALID);
		assert_int_equal(flt.error, PFERR_PRESENT | PFERR_RSVD);
	}
	assert_int_not_equal(seen, 0);
	fake_vm_free(kvm);
}

/* Linear memory across pages, one of which is elsewhere, and one missing. */
static void virt(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	struct guest_fault flt = {0};
	u32 *dir, *tab;
	char buf[32];

	mem = fake_memory(4 * MB, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, mem), 0);
	dir = (u32 *)(mem + 0x1000);
	tab = (u32 *)(mem + 0x2000);
	dir[1] = 0x2007;
	tab[0] = 0x5007;
	tab[1] = 0x9007;
	tab[2] = 0x3000007; /* mapped, but there is no memory */
	fake_regs(v, CR0_PE | CR0_PG | CR0_WP, 0x1000, 0, 0);
	mmu_reset_context(v);
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(mmu_write_virt(v, 0x400ff0, buf, 32, 0, &flt), 0);
	assert_memory_equal(mem + 0x5ff0, buf, 16);
	assert_memory_equal(mem + 0x9000, buf, 16);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(mmu_read_virt(v, 0x400ff0, buf, 32, PFERR_USER, &flt), 0);
	assert_int_equal(buf[31], 0x77);
	assert_int_equal(mmu_read_virt(v, 0x403ff0, buf, 8, 0, &flt), 1);
	assert_int_equal(flt.error, 0);
	assert_int_equal(flt.addr, 0x403ff0);
	assert_int_equal(mmu_read_virt(v, 0x402ff0, buf, 8, 0, &flt), -14);
	fake_vm_free(kvm);
}

static void pdptrs(void **state)
{
	struct kvm *kvm = fake_vm(1);
	struct kvm_vcpu *v = kvm->vcpus[0];
	u64 out[4], *t;

	mem = fake_memory(4 * MB, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, 4 * MB, mem), 0);
	t = (u64 *)(mem + 0x1020);
	t[0] = 0x5001;
	t[1] = 0xffffffffffff0000; /* not present: anything goes */
	t[3] = 0x2019;
	assert_true(mmu_load_pdptrs(v, 0x1020, out));
	assert_int_equal(out[3], 0x2019);
	/* Table 4-8: bits 2:1, 8:5 and those from MAXPHYADDR up are reserved. */
	for (unsigned bit = 1; bit < 64; bit++) {
		bool rsvd = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 46;

		t[0] = 0x5001 | 1ull << bit;
		assert_int_equal(mmu_load_pdptrs(v, 0x1020, out), !rsvd);
	}
	assert_false(mmu_load_pdptrs(v, 0x4000000, out));
	fake_vm_free(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_formats), cmocka_unit_test(no_paging),
		cmocka_unit_test(nx_reserved), cmocka_unit_test(virt),
		cmocka_unit_test(pdptrs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
