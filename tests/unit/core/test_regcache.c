/* SPDX-License-Identifier: MIT */
/* All registers through all transitions of docs/register-cache.md, and the illegal state caught. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/regcache.h"

/* What VMX leaves in the VMCS, written down from the requirement rather than taken from the code.
 */
static const enum kvm_reg vmx_lazy[] = {
	VCPU_REG_RIP,		(enum kvm_reg)RSP,	VCPU_EXREG_RFLAGS, VCPU_EXREG_PDPTR,
	VCPU_EXREG_SEGMENTS,	VCPU_EXREG_CR0,		VCPU_EXREG_CR3,	   VCPU_EXREG_CR4,
	VCPU_EXREG_EXIT_INFO_1, VCPU_EXREG_EXIT_INFO_2,
};

static u32 lazy_set(void)
{
	u32 set = 0;

	for (size_t i = 0; i < ARRAY_SIZE(vmx_lazy); i++)
		set |= regcache_bit(vmx_lazy[i]);
	return set;
}

/* True if @fn(c) hits an assertion. */
static bool caught(void (*fn)(struct regcache *c), struct regcache *c)
{
	struct bug_recovery r, *old;
	jmp_buf jmp;

	r.jmp = &jmp;
	if (_setjmp(jmp)) {
		bug_recovery_set(NULL);
		return true;
	}
	old = bug_recovery_set(&r);
	fn(c);
	bug_recovery_set(old);
	return false;
}

static void exited(struct regcache *c)
{
	regcache_exited(c, lazy_set());
}
static void switched(struct regcache *c)
{
	regcache_switched(c, lazy_set());
}

static void test_walk(void **state)
{
	for (unsigned reg = 0; reg < VCPU_NREGS; reg++) {
		struct regcache c = {0};
		u32 bit = regcache_bit((enum kvm_reg)reg);
		bool lazy = lazy_set() & bit;

		/* 00: read it: 10 */
		assert_false(regcache_available(&c, (enum kvm_reg)reg));
		regcache_mark_available(&c, (enum kvm_reg)reg);
		assert_int_equal(c.avail, bit);
		assert_int_equal(c.dirty, 0);
		/* 10: write it: 11 */
		regcache_mark_dirty(&c, (enum kvm_reg)reg);
		assert_int_equal(c.avail, bit);
		assert_int_equal(c.dirty, bit);
		/* 11: read again: still 11 */
		regcache_mark_available(&c, (enum kvm_reg)reg);
		assert_int_equal(c.dirty, bit);
		assert_true(regcache_valid(&c));
		/* 11: stored before entry: 10 */
		regcache_stored(&c);
		assert_int_equal(c.avail, bit);
		assert_int_equal(c.dirty, 0);
		/* 10: exit: the lazy set is gone, the rest stays */
		regcache_exited(&c, lazy_set());
		assert_int_equal(c.avail, lazy ? 0 : bit);
		assert_true(regcache_valid(&c));
		/* 00: write without reading: 11 */
		regcache_mark_dirty(&c, (enum kvm_reg)reg);
		assert_int_equal(c.avail & c.dirty, bit);
		/* 11: another VMCS: lazy ones unavailable, nothing dirty */
		regcache_switched(&c, lazy_set());
		assert_int_equal(c.avail, lazy ? 0 : bit);
		assert_int_equal(c.dirty, 0);
	}
}

static void test_illegal(void **state)
{
	for (unsigned reg = 0; reg < VCPU_NREGS; reg++) {
		struct regcache c = {.dirty = regcache_bit((enum kvm_reg)reg)};

		assert_false(regcache_valid(&c));
		assert_true(caught(regcache_stored, &c));
		assert_true(caught(exited, &c));
		assert_true(caught(switched, &c));
	}
}

/* Something of the lazy set still dirty when the guest has run would be lost. */
static void test_dirty_at_exit(void **state)
{
	for (unsigned reg = 0; reg < VCPU_NREGS; reg++) {
		struct regcache c = {0};

		regcache_mark_dirty(&c, (enum kvm_reg)reg);
		assert_int_equal(caught(exited, &c),
				 !!(lazy_set() & regcache_bit((enum kvm_reg)reg)));
	}
}

static void test_all_at_once(void **state)
{
	struct regcache c = {0};

	for (unsigned reg = 0; reg < VCPU_NREGS; reg++)
		regcache_mark_dirty(&c, (enum kvm_reg)reg);
	assert_int_equal(c.avail, REGCACHE_ALL);
	assert_int_equal(c.dirty, REGCACHE_ALL);
	regcache_stored(&c);
	regcache_exited(&c, lazy_set());
	assert_int_equal(c.avail, REGCACHE_ALL & ~lazy_set());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_illegal),
		cmocka_unit_test(test_dirty_at_exit),
		cmocka_unit_test(test_all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
