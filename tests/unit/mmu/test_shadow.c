/* SPDX-License-Identifier: MIT */
/*
 * Shadow paging against a guest that changes its page tables at random. The test plays the
 * processor: it looks accesses up in the shadow tables with a walk of its own, reports faults, and
 * writes where the shadow lets it. What the shadow allows must be what the guest's tables say, as
 * of the guest's last flush, and every access the guest's tables allow must get through.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define MB     (1ull << 20)
#define MEM    (16 * MB)
#define STEPS  20000
#define TABLES 16 /* pages from 0 on: tables, mapped by the first entries of the first table */
#define NROOT  (MMU_NROOTS + 2) /* pages TABLES.. of 4-level guests */

static u64 rnd_state;
static u64 rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state * 0x2545f4914f6cdd1dull >> 16;
}

static const struct guest {
	const char *name;
	u64 cr0, cr4, efer;
	int levels;
	bool pae_root; /* PDPTEs instead of a root table */
} guests[] = {
	{"32-bit", CR0_PE | CR0_PG | CR0_WP, 0, 0, 2, false},
	{"32-bit, WP=0", CR0_PE | CR0_PG, 0, 0, 2, false},
	{"32-bit, PSE", CR0_PE | CR0_PG | CR0_WP, CR4_PSE, 0, 2, false},
	{"PAE", CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_NXE, 3, true},
	{"4-level", CR0_PE | CR0_PG | CR0_WP, CR4_PAE, EFER_NXE | EFER_LMA | EFER_LME, 4, false},
	{"4-level, WP=0", CR0_PE | CR0_PG, CR4_PAE, EFER_NXE | EFER_LMA | EFER_LME, 4, false},
	{"5-level", CR0_PE | CR0_PG | CR0_WP, CR4_PAE | CR4_LA57, EFER_NXE | EFER_LMA | EFER_LME, 5,
	 false},
};

static const struct guest *g;
static char *mem;
static struct kvm *kvm;
static struct kvm_vcpu *v;
static unsigned esize, per_table;
static u64 root[NROOT];

static u64 get(u64 pa)
{
	u64 e = 0;

	memcpy(&e, mem + pa, esize);
	return e;
}
static void put(u64 pa, u64 e)
{
	memcpy(mem + pa, &e, esize);
}

/* Two page tables at 0x1000 and 0x2000 under a directory at 0x3000. */
#define PT0 0x1000ull
#define PD  0x3000ull
static u64 pt_entry(u64 va)
{
	return PT0 + (va >> 12) % (2 * per_table) * esize;
}
static u64 pd_entry(u64 va)
{
	return PD + (va >> 12) / per_table * esize;
}

static void build(void)
{
	u64 below = PD;

	esize = g->cr4 & CR4_PAE ? 8 : 4;
	per_table = PAGE_SIZE / esize;
	memset(mem, 0, MEM);
	for (unsigned i = 0; i < TABLES; i++)
		put(PT0 + i * esize, i << 12 | 3 | 0x60);
	for (unsigned i = 0; i < 2; i++)
		put(PD + i * esize, (PT0 + i * PAGE_SIZE) | 7);
	/* One large page, where the format has them. */
	if (esize == 8 || g->cr4 & CR4_PSE)
		put(PD + 2 * esize, (esize == 8 ? 2 * MB : 4 * MB) | 0x87);
	for (unsigned i = 0; i < NROOT; i++)
		root[i] = PD;
	if (g->pae_root) {
		put(0x4000, PD | 1);
		root[0] = 0x4000;
		v->regs.pdptr[0] = PD | 1;
	} else if (g->levels > 2) {
		for (int l = 3; l < g->levels; l++, below += PAGE_SIZE)
			put(below + PAGE_SIZE, below | 7);
		for (unsigned i = 0; i < NROOT; i++) {
			root[i] = (TABLES + i) * PAGE_SIZE;
			put(root[i], below | 7);
		}
	}
}

/* ---- The processor ---- */

struct xlate {
	bool present, w, u, x;
	u64 hva;
};

static struct xlate hw(u64 va)
{
	struct xlate t = {.w = true, .u = true, .x = true};
	u64 table = v->mmu->mmu->roots[0].hpa;
	int level = mmu_root_level(v->mmu->mmu);

	if (level == 3)
		assert_true(table < 1ull << 32);
	for (;; level--) {
		unsigned shift = 12 + 9 * ((unsigned)level - 1);
		u64 e = ((u64 *)table)[va >> shift & 0x1ff];

		if (!(e & 1))
			return t;
		if (level == 3 && mmu_root_level(v->mmu->mmu) == 3) {
			assert_int_equal(e & 0x1e6, 0); /* reserved in PDPTEs */
		} else {
			t.w &= e >> 1;
			t.u &= e >> 2;
			t.x &= !(e >> 63);
		}
		if (level == 1 || e & 0x80) {
			t.present = true;
			t.hva = (e & 0xffffffffff000) + (va & ((1ull << shift) - 1));
			return t;
		}
		table = e & 0xffffffffff000;
	}
}

static bool hw_allows(const struct xlate *t, bool user, bool write, bool fetch)
{
	/* The processor runs with CR0.WP = 1 and NX on. */
	return t->present && (!user || t->u) && (!write || t->w) && (!fetch || t->x);
}

/* ---- What the guest's tables say ---- */

static struct xlate guest(u64 va)
{
	u64 pd = get(pd_entry(va)), pt;
	struct xlate t = {0};

	if (!(pd & 1))
		return t;
	t.w = pd >> 1 & 1;
	t.u = pd >> 2 & 1;
	t.x = esize == 4 || !(pd >> 63);
	if (pd & 0x80 && (esize == 8 || g->cr4 & CR4_PSE)) {
		u64 size = esize == 8 ? 2 * MB : 4 * MB;

		t.present = true;
		t.hva = (u64)mem + (pd & 0xfffff000 & ~(size - 1)) + (va & (size - 1));
		return t;
	}
	pt = get(pt_entry(va));
	t.present = pt & 1;
	t.w &= pt >> 1;
	t.u &= pt >> 2;
	t.x &= esize == 4 || !(pt >> 63);
	t.hva = (u64)mem + (pt & 0xfffff000) + (va & 0xfff);
	return t;
}

static bool guest_allows(const struct xlate *t, bool user, bool write, bool fetch)
{
	return t->present && (!user || t->u) && (!fetch || t->x) &&
	       (!write || t->w || (!user && !(g->cr0 & CR0_WP)));
}

/* ---- Requests as the vCPU loop handles them ---- */
static void requests(void)
{
	kvm_check_request(v, REQ_MMU_RELOAD);
	assert_int_equal(mmu_reload(v), 0);
	if (kvm_check_request(v, REQ_MMU_SYNC))
		mmu_sync_roots(v);
	v->req.pending = 0;
}

/* 1: done; 0: the guest got a page fault; 2: emulate it. *@hva if done. */
static int access_va(u64 va, bool user, bool write, bool fetch, u64 *hva)
{
	for (int i = 0; i < 12; i++) {
		struct xlate t;
		u64 ec;
		int r;

		requests();
		t = hw(va);
		if (hw_allows(&t, user, write, fetch)) {
			*hva = t.hva;
			return 1;
		}
		ec = (t.present ? PFERR_PRESENT : 0) | (user ? PFERR_USER : 0) |
		     (write ? PFERR_WRITE : 0) | (fetch ? PFERR_FETCH : 0);
		r = mmu_page_fault(v, va, ec);
		if (r == 0)
			return 2;
		assert_int_equal(r, 1);
		if (v->arch->exception.pending) {
			v->arch->exception.pending = false;
			assert_int_equal(v->arch->exception.payload, va);
			return 0;
		}
	}
	fail_msg("%s: va %lx faults for ever", g->name, va);
	return 0;
}

static void check_access(u64 va)
{
	bool user = rnd() % 2, write = rnd() % 2, fetch = !write && rnd() % 2;
	struct xlate t = guest(va);
	bool ok = guest_allows(&t, user, write, fetch);
	u64 hva = 0;
	int r = access_va(va, user, write, fetch, &hva);

	if (!ok != !r)
		fail_msg("%s: va %lx %s%s%s: %d instead of %d", g->name, va, user ? "u" : "",
			 write ? "w" : "", fetch ? "x" : "", r, ok);
	if (r == 1)
		assert_int_equal(hva, t.hva);
	if (r == 2) /* only writes to tables are emulated */
		assert_true(write && t.hva < (u64)mem + (TABLES + NROOT) * PAGE_SIZE);
}

/* Everything the shadow has now must be right. */
static void check_all(void)
{
	for (u64 va = 0; va < 2 * per_table * PAGE_SIZE; va += PAGE_SIZE) {
		struct xlate s = hw(va), t = guest(va);

		if (!s.present)
			continue;
		if (!t.present || s.hva != t.hva || (s.u && !t.u) || (s.x && !t.x) ||
		    (s.w && !t.w && (s.u || g->cr0 & CR0_WP)))
			fail_msg("%s: va %lx is stale", g->name, va);
	}
}

/* The guest stores an entry through its own mapping of the table. */
static void guest_store(u64 pa, u64 e)
{
	u64 hva;

	switch (access_va(pa, false, true, false, &hva)) {
	case 0: fail_msg("%s: table %lx is not mapped", g->name, pa); break;
	case 1:
		assert_int_equal(hva, (u64)mem + pa);
		put(pa, e);
		break;
	default: put(pa, e); mmu_track_write(v, pa, &e, esize);
	}
}

static bool all(const struct mmu_root *r, u64 arg)
{
	return true;
}

static void flush(void)
{
	mmu_invalidate_roots(v, v->mmu->mmu, all, 0);
	requests();
}

static void step(void)
{
	u64 va = rnd() % (2 * per_table) * PAGE_SIZE, e;

	switch (rnd() % 16) {
	default: check_access(va); break;
	case 0:
	case 1:
	case 2:
		if (va < TABLES * PAGE_SIZE)
			break;
		/* Data pages, now and then a table. */
		e = (rnd() % 12 ? 64 + rnd() % 256 : rnd() % TABLES) << 12 | (rnd() & 7) |
		    (rnd() % 4 ? 1 : 0) | (rnd() % 2 ? 0x60 : 0);
		if (esize == 8 && rnd() % 2)
			e |= 1ull << 63;
		guest_store(pt_entry(va), e);
		if (rnd() % 2) {
			mmu_invlpg(v, va);
			requests();
			/* Others may be stale until the next flush; this one may not. */
			if (hw(va).present)
				assert_int_equal(hw(va).hva, guest(va).hva);
			flush();
		} else {
			flush();
		}
		if (rnd() % 32 == 0)
			check_all();
		break;
	case 3:
		/* A directory entry; the first stays open for the tables. */
		e = (PT0 + PAGE_SIZE) | (rnd() % 4 ? 7 : rnd() & 7);
		guest_store(PD + esize, e);
		flush();
		break;
	case 4:
		if (esize == 8 || g->cr4 & CR4_PSE) {
			u64 hva, size = esize == 8 ? 2 * MB : 4 * MB;
			u64 at = 2 * per_table * PAGE_SIZE + rnd() % size;

			assert_int_equal(access_va(at, true, rnd() % 2, false, &hva), 1);
			assert_int_equal(hva, (u64)mem + size + (at & (size - 1)));
		}
		break;
	case 5:
		if (g->levels > 3) {
			fake_regs(v, g->cr0, root[rnd() % NROOT], g->cr4, g->efer);
			mmu_new_pgd(v, v->regs.cr3);
			requests();
		}
		break;
	}
}

static void run(void)
{
	rnd_state = 0x9876543;
	/* Tables appear from nowhere: nothing may be left of those before. */
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
	build();
	fake_regs(v, g->cr0, root[0], g->cr4, g->efer);
	mmu_reset_context(v);
	for (int i = 0; i < STEPS; i++)
		step();
	flush();
	check_all();
}

static void random_guests(void **state)
{
	fake_ept = false;
	for (unsigned i = 0; i < ARRAY_SIZE(guests); i++) {
		g = &guests[i];
		kvm = fake_vm(1);
		v = kvm->vcpus[0];
		mem = fake_memory(MEM, 0);
		run();
		if (g->levels > 3)
			assert_int_not_equal(v->arch->stat.root_hits, 0);
		/* With so few tables that they are reclaimed all the time. */
		assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
		assert_int_equal(vm_set_nr_mmu_pages(kvm, 64), 0);
		kvm->mmu->requested = 20;
		run();
		if (g->levels > 3)
			assert_int_not_equal(kvm->arch->stat.mmu_recycled, 0);
		/* And nothing is left of it. */
		assert_int_equal(fake_slot(kvm, 0, 0, 0, 0, NULL), 0);
		assert_int_equal(kvm->arch->stat.pages_4k + kvm->arch->stat.pages_2m, 0);
		fake_vm_free(kvm);
	}
	fake_ept = true;
}

/* Before paging is on: a PAE table that maps everything, below 4 GiB. */
static void no_paging(void **state)
{
	u64 hva;

	fake_ept = false;
	g = &guests[0];
	kvm = fake_vm(2);
	v = kvm->vcpus[1];
	mem = fake_memory(MEM, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
	for (u64 a = 0; a < MEM; a += 123456) {
		assert_int_equal(access_va(a, rnd() % 2, rnd() % 2, false, &hva), 1);
		assert_int_equal(hva, (u64)mem + a);
	}
	assert_int_equal(mmu_root_level(v->mmu->mmu), 3);
	hva = v->mmu->mmu->roots[0].hpa;
	v = kvm->vcpus[0];
	requests();
	assert_int_not_equal(v->mmu->mmu->roots[0].hpa, hva);
	fake_vm_free(kvm);
	fake_ept = true;
}

/* Going back and forth finds the roots; what was flushed meanwhile is synchronized on return. */
static void cached_roots(void **state)
{
	u64 hpa[NROOT], hva, hits;

	fake_ept = false;
	g = &guests[4];
	kvm = fake_vm(1);
	v = kvm->vcpus[0];
	mem = fake_memory(MEM, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
	build();
	fake_regs(v, g->cr0, root[0], g->cr4, g->efer);
	mmu_reset_context(v);
	for (unsigned i = 0; i < MMU_NROOTS; i++) {
		v->regs.cr3 = root[i];
		mmu_new_pgd(v, root[i]);
		requests();
		hpa[i] = v->mmu->mmu->roots[0].hpa;
		assert_int_equal(access_va(0x1000, false, false, false, &hva), 1);
	}
	hits = v->arch->stat.root_hits;
	for (unsigned i = 0; i < MMU_NROOTS; i++) {
		v->regs.cr3 = root[i];
		mmu_new_pgd(v, root[i]);
		assert_false(v->req.pending & BIT(REQ_MMU_RELOAD));
		requests();
		assert_int_equal(v->mmu->mmu->roots[0].hpa, hpa[i]);
		assert_true(hw(0x1000).present);
	}
	assert_int_equal(v->arch->stat.root_hits, hits + MMU_NROOTS);
	/* Most recently used first. */
	for (unsigned i = 0; i < MMU_NROOTS; i++)
		assert_int_equal(v->mmu->mmu->roots[i].pgd, root[MMU_NROOTS - 1 - i]);
	/* One more pushes the oldest out, and only that. */
	v->regs.cr3 = root[MMU_NROOTS];
	mmu_new_pgd(v, root[MMU_NROOTS]);
	requests();
	for (unsigned i = 1; i < MMU_NROOTS; i++)
		assert_int_equal(v->mmu->mmu->roots[i].pgd, root[MMU_NROOTS - i]);
	/* All marked stale: the current one at once, the others when they come back, nothing freed.
	 */
	u64 frees = v->arch->stat.root_frees;

	mmu_invalidate_roots(v, v->mmu->mmu, all, 0);
	assert_true(v->req.pending & BIT(REQ_MMU_SYNC));
	assert_false(v->mmu->mmu->roots[0].unsync);
	assert_true(v->mmu->mmu->roots[1].unsync);
	requests();
	v->regs.cr3 = root[3];
	mmu_new_pgd(v, root[3]);
	assert_true(v->req.pending & BIT(REQ_MMU_SYNC));
	assert_true(v->req.pending & BIT(REQ_TLB_FLUSH_CURRENT));
	assert_false(v->mmu->mmu->roots[0].unsync);
	requests();
	assert_int_equal(v->arch->stat.root_frees, frees);
	fake_vm_free(kvm);
	fake_ept = true;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_paging),
		cmocka_unit_test(cached_roots),
		cmocka_unit_test(random_guests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
