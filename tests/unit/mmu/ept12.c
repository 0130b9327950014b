/* SPDX-License-Identifier: MIT */
#include "ept12.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

u64 rnd_state;
u64 rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state * 0x2545f4914f6cdd1dull >> 16;
}

char *mem;
struct kvm *kvm;
struct kvm_vcpu *v;
int levels;
bool ad;
u64 eptp[NROOT];
bool mbec;
bool got_fault, log_room;
struct guest_fault fault;
unsigned logged;

u64 get(u64 pa)
{
	u64 e;

	memcpy(&e, mem + pa, 8);
	return e;
}

void put(u64 pa, u64 e)
{
	memcpy(mem + pa, &e, 8);
}

void build(void)
{
	u64 below = DIR;

	memset(mem + TABLES, 0, NTABLES * PAGE_SIZE);
	for (unsigned i = 0; i < 2; i++)
		put(DIR + i * 8, PT(i) | E_ALL);
	for (int l = 3; l < levels; l++) {
		put(UP(l), below | E_ALL);
		below = UP(l);
	}
	for (unsigned i = 0; i < NROOT; i++) {
		put(ROOT(i), below | E_ALL);
		eptp[i] = ROOT(i) | EPTP_MT_WB | (levels == 5 ? EPTP_WALK_5 : EPTP_WALK_4) |
			  (ad ? EPTP_AD : 0);
	}
}

void begin(int l, bool flags)
{
	levels = l;
	ad = flags;
	mbec = false;
	kvm = fake_vm(1);
	v = kvm->vcpus[0];
	mem = fake_memory(MEM, 0);
	assert_int_equal(fake_slot(kvm, 0, 0, 0, MEM, mem), 0);
	build();
}

/* ---- The reference ---- */

static u64 present_bits(bool control)
{
	return control ? E_ALL : RWX;
}

static unsigned rights_of(u64 e, bool control)
{
	return (e & RWX) | (control && e & EPT_XU ? XU : 0);
}

bool allows(unsigned rights, unsigned what)
{
	return rights & (what == XU && !mbec ? X : what);
}

u64 qualification(unsigned rights, unsigned what)
{
	/* XU comes to be bit 6. */
	return (what == XU ? X : what) | rights << 3 | EPT_VIOLATION_GVA_VALID |
	       EPT_VIOLATION_TRANSLATED;
}

struct walk reference(u64 root, u64 gpa)
{
	struct walk w = {.rights = RWX | (mbec ? XU : 0)};
	u64 table = root & BITS(51, 12), e;

	for (int l = levels;; l--) {
		unsigned shift = 12 + 9 * ((unsigned)l - 1), type;
		bool leaf;

		w.entry[l] = table + (gpa >> shift & 511) * 8;
		e = get(w.entry[l]);
		if (!(e & present_bits(mbec))) {
			w.rights = 0;
			return w;
		}
		leaf = l == 1 || (l < 4 && e >> 7 & 1);
		type = e >> 3 & 7;
		/* 29.3.3.1; MAXPHYADDR is 46 here. */
		if ((e & (R | W)) == W || e & BITS(51, 46) ||
		    (leaf ? type == 2 || type == 3 || type == 7 : type != 0) ||
		    (!leaf && l > 1 && e >> 7 & 1) || (leaf && l > 1 && e & BITS(shift - 1, 12))) {
			w.misconfig = true;
			return w;
		}
		w.rights &= rights_of(e, mbec);
		if (leaf) {
			w.leaf = l;
			w.pa = (e & BITS(51, 12) & ~((1ull << shift) - 1)) |
			       (gpa & ((1ull << shift) - 1));
			return w;
		}
		table = e & BITS(51, 12);
	}
}

/* ---- The processor ---- */

struct xlate hw(u64 gpa)
{
	struct kvm_mmu *mmu = v->mmu->mmu;
	/* L1's own control is off. */
	bool control = mbec && mmu == &v->mmu->guest_mmu;
	struct xlate t = {.rights = RWX | (control ? XU : 0)};
	u64 table = mmu->roots[0].hpa;

	for (int l = mmu_root_level(mmu);; l--) {
		unsigned shift = 12 + 9 * ((unsigned)l - 1);
		u64 e = ((u64 *)table)[gpa >> shift & 511];

		t.entry = e;
		if (!(e & present_bits(control))) {
			t.rights = 0;
			return t;
		}
		assert_int_not_equal(e & (R | W), W); /* misconfigured */
		t.rights &= rights_of(e, control);
		if (l == 1 || e & 0x80) {
			t.present = true;
			t.hva = (e & BITS(51, 12) & ~((1ull << shift) - 1)) +
				(gpa & ((1ull << shift) - 1));
			return t;
		}
		table = e & BITS(51, 12);
	}
}

void requests(void)
{
	kvm_check_request(v, REQ_MMU_RELOAD);
	assert_int_equal(mmu_reload(v), 0);
	if (kvm_check_request(v, REQ_MMU_SYNC))
		mmu_sync_roots(v);
	v->req.pending = 0;
}

static void on_fault(struct kvm_vcpu *who, const struct guest_fault *f)
{
	assert_ptr_equal(who, v);
	got_fault = true;
	fault = *f;
}

bool on_dirty(struct kvm_vcpu *who, gpa_t gpa)
{
	logged++;
	return log_room;
}

int access_gpa(u64 gpa, unsigned what, u64 *hva)
{
	for (int i = 0; i < 12; i++) {
		struct xlate t;
		u64 q;
		int r;

		requests();
		t = hw(gpa);
		if (t.present && allows(t.rights, what)) {
			*hva = t.hva;
			return 1;
		}
		q = qualification(t.rights, what) | (what == XU ? EPT_VIOLATION_GVA_USER : 0);
		got_fault = false;
		r = mmu_page_fault(v, gpa, mmu_ept_error_code(q));
		if (r == 0)
			return 2;
		assert_int_equal(r, 1);
		if (got_fault)
			return 0;
	}
	fail_msg("gpa %lx faults for ever", gpa);
	return 0;
}

/* ---- L1 and L2 ---- */

void in_l1(void)
{
	mmu_leave_ept12(v);
	mmu_reset_context(v);
}

void store(u64 pa, u64 e)
{
	u64 hva = 0;

	in_l1();
	switch (access_gpa(pa, W, &hva)) {
	case 0: fail_msg("L1's own memory faults"); break;
	case 1:
		assert_int_equal(hva, (u64)mem + pa);
		memcpy(mem + pa, &e, 8);
		break;
	default: memcpy(mem + pa, &e, 8); mmu_track_write(v, pa, &e, 8);
	}
}

void invept(u64 root)
{
	struct kvm_vcpu *me = v;
	bool one = rnd() % 2;

	for (unsigned i = 0; i < NVCPU; i++) {
		v = kvm->vcpus[i];
		in_l1();
		mmu_invept(v, one ? INVEPT_SINGLE : INVEPT_GLOBAL, one ? root : 0);
		/* The tables are shared: the other roots are stale as well. */
		for (unsigned j = 0; one && j < NROOT; j++)
			mmu_invept(v, INVEPT_SINGLE, eptp[j]);
	}
	v = me;
}

void enter_l2(u64 root, bool with_mbec)
{
	mbec = with_mbec;
	mmu_enter_ept12(v, root, EPT12_EXECONLY | (mbec ? EPT12_MBEC : 0));
	mmu_reset_context(v);
	v->mmu->guest_mmu.inject_fault = on_fault;
}
