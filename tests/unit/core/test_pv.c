/* SPDX-License-Identifier: MIT */
/* PV EOI: an interrupt that ends in memory, one that must not; steal time. */
#include "vm.h"

#include "core/irqchip/irqchip.h"
#include "core/irqchip/lapic.h"
#include "core/pv.h"
#include "spec/abi/kvm_para.h"

#define PV_BYTE	  0x3000
#define STEAL_GPA 0x4000

static struct test_vm t;

static int write_msr(u32 index, u64 data)
{
	struct msr_access m = {.index = index, .data = data};

	return pv_set_msr(t.v[0], &m);
}

static int setup(void **state)
{
	/* lock btr word ptr [PV_BYTE],0; setc al; out 0x10,al; iret */
	static const u8 handler[] = {0xf0, 0x0f, 0xba, 0x36, 0x00, 0x30, 0x00,
				     0x0f, 0x92, 0xc0, 0xe6, 0x10, 0xcf};
	static const u8 code[] = {0xfb, 0xeb, 0xfe}; /* sti; jmp . */

	test_vm_create(&t, 1, true);
	test_vm_cpuid(&t, 0);
	test_vm_code(&t, 0, code, sizeof(code));
	memcpy(t.mem + 0x2000, handler, sizeof(handler));
	*(u32 *)(t.mem + 0x40 * 4) = *(u32 *)(t.mem + 0x41 * 4) = 0x2000;
	assert_int_equal(lapic_reg_write(t.v[0]->apic, APIC_SPIV, 0x1ff), 0);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

static void raise_vector(u8 vector, bool level)
{
	struct apic_msg m = {.vector = vector, .assert = true, .level_trig = level};

	assert_true(lapic_accept(t.v[0], &m) > 0);
}

/* Runs to the handler's OUT; what the guest found in the bit. */
static u8 run_handler(void)
{
	struct kvm_run *run = t.v[0]->run;

	assert_int_equal(vcpu_run(t.v[0]), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	return *((u8 *)run + run->io.data_offset);
}

static void test_eoi_in_memory(void **state)
{
	assert_int_equal(write_msr(MSR_KVM_PV_EOI_EN, PV_BYTE | 1), 0);
	/* Its pages are not mapped yet: exits inside the handler take the offer back. */
	raise_vector(0x40, false);
	if (!run_handler())
		lapic_reg_write(t.v[0]->apic, APIC_EOI, 0);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), -1);
	raise_vector(0x40, false);
	assert_int_equal(run_handler(), 1);
	assert_int_equal(t.mem[PV_BYTE], 0);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), -1);
	/* The same vector again: it really had ended. */
	raise_vector(0x40, false);
	assert_int_equal(run_handler(), 1);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), -1);
}

/* Another vector waits, or an IOAPIC must hear of the EOI: the guest has to write the register. */
static void test_eoi_by_register(void **state)
{
	assert_int_equal(write_msr(MSR_KVM_PV_EOI_EN, PV_BYTE | 1), 0);
	raise_vector(0x41, false);
	raise_vector(0x40, false);
	assert_int_equal(run_handler(), 0);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), 0x41);
	lapic_reg_write(t.v[0]->apic, APIC_EOI, 0);
	/* The last one may be left out. */
	assert_int_equal(run_handler(), 1);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), -1);

	raise_vector(0x40, true);
	assert_int_equal(run_handler(), 0);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), 0x40);
}

static void test_eoi_msr(void **state)
{
	struct msr_access m = {.index = MSR_KVM_PV_EOI_EN};

	assert_true(guest_cpuid_has(t.v[0], FEAT_KVM_PV_EOI));
	assert_int_equal(write_msr(MSR_KVM_PV_EOI_EN, PV_BYTE | 2 | 1), -EINVAL);
	assert_int_equal(write_msr(MSR_KVM_PV_EOI_EN, TEST_MEM | 1), -EINVAL);
	assert_int_equal(write_msr(MSR_KVM_PV_EOI_EN, PV_BYTE | 1), 0);
	assert_int_equal(pv_get_msr(t.v[0], &m), 0);
	assert_int_equal(m.data, PV_BYTE | 1);
	/* Off: nothing is written any more. */
	assert_int_equal(write_msr(MSR_KVM_PV_EOI_EN, 0), 0);
	raise_vector(0x40, false);
	assert_int_equal(run_handler(), 0);
	assert_int_equal(lapic_highest_isr(t.v[0]->apic), 0x40);
}

static void test_steal(void **state)
{
	struct kvm_steal_time *st = (void *)(t.mem + STEAL_GPA);

	assert_int_equal(write_msr(MSR_KVM_STEAL_TIME, STEAL_GPA | 2 | 1), -EINVAL);
	memset(st, 0, sizeof(*st));
	st->preempted = 1;
	assert_int_equal(write_msr(MSR_KVM_STEAL_TIME, STEAL_GPA | 1), 0);
	raise_vector(0x40, false);
	run_handler();
	/* Even, changed, and this vCPU is there. */
	assert_true(st->version && !(st->version & 1));
	assert_int_equal(st->preempted, 0);
	/* What the thread has waited since the last update is added, whatever it was before. */
	st->steal = 5000;
	t.v[0]->arch->pv.steal_last = 0;
	kvm_steal_time_update(t.v[0]);
	assert_true(st->steal >= 5000);
	assert_int_equal(st->steal - 5000, t.v[0]->arch->pv.steal_last);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_eoi_in_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_eoi_by_register, setup, teardown),
		cmocka_unit_test_setup_teardown(test_eoi_msr, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steal, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
