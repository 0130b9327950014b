/* SPDX-License-Identifier: MIT */
/* Parameters as /sys/module shows and takes them. */
#include <stdio.h>

#include "vm.h"

static void expect(const char *name, const char *text)
{
	char buf[64];
	int n = param_get(name, buf, sizeof(buf));

	assert_int_equal(n, strlen(text));
	assert_string_equal(buf, text);
}

static void test_values(void **state)
{
	char buf[64];

	expect("kvm.ignore_msrs", "N\n");
	assert_int_equal(param_set("kvm.ignore_msrs", "1"), 0);
	expect("kvm.ignore_msrs", "Y\n");
	assert_int_equal(param_set("kvm.ignore_msrs", "n"), 0);
	expect("kvm.ignore_msrs", "N\n");
	assert_int_equal(param_set("kvm.ignore_msrs", "perhaps"), -EINVAL);
	assert_int_equal(param_set("kvm.no_such", "1"), -ENOENT);
	assert_int_equal(param_get("kvm.no_such", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(param_set("kvm.min_timer_period_us", "100"), 0);
	expect("kvm.min_timer_period_us", "100\n");
	assert_int_equal(param_set("kvm.min_timer_period_us", "-1"), -EINVAL);
	assert_int_equal(param_set("kvm.min_timer_period_us", "5x"), -EINVAL);
	assert_int_equal(param_set("kvm.min_timer_period_us", "99999999999999999999"), -EINVAL);
	assert_int_equal(param_set("kvm.min_timer_period_us", "200"), 0);
	assert_int_equal(param_set("kvmless.engine", "interp"), 0);
	expect("kvmless.engine", "interp\n");
	assert_int_equal(param_set("kvmless.engine", "steam"), -EINVAL);
	assert_int_equal(param_set("kvmless.engine", "auto"), 0);
}

static void test_all(void **state)
{
	const struct param_desc *d;
	char buf[64];
	unsigned n = 0;

	for (; (d = param_desc(n)); n++) {
		assert_true(param_get(d->name, buf, sizeof(buf)) > 1);
		buf[strcspn(buf, "\n")] = 0;
		assert_int_equal(param_set(d->name, buf), 0);
	}
	assert_true(n > 10);
}

/* A VM keeps the values it was created with. */
static void test_snapshot(void **state)
{
	struct test_vm t;
	u64 val;

	assert_int_equal(param_set("kvm.ignore_msrs", "1"), 0);
	test_vm_create(&t, 1, false);
	assert_int_equal(param_set("kvm.ignore_msrs", "0"), 0);
	assert_int_equal(kvm_get_msr(t.v[0], 0x12345, &val), 0);
	assert_int_equal(val, 0);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
