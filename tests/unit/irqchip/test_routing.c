/* SPDX-License-Identifier: MIT */
/* GSI routing, MSIs, split irqchip. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/irqchip/irq_private.h"
#include "core/vm.h"
#include "fake.h"

static struct kvm *kvm;
static struct kvm_vcpu *v;

static int setup(void **state)
{
	kvm = fake_vm(FAKE_KERNEL, 2);
	v = kvm->vcpus[0];
	apic_enable(v);
	apic_enable(kvm->vcpus[1]);
	return 0;
}

static int teardown(void **state)
{
	fake_vm_free(kvm);
	return 0;
}

static struct kvm_irq_routing_entry pin(u32 gsi, u32 chip, u32 p)
{
	struct kvm_irq_routing_entry e = {.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP};

	e.u.irqchip.irqchip = chip;
	e.u.irqchip.pin = p;
	return e;
}

static struct kvm_irq_routing_entry msi(u32 gsi, u32 lo, u32 hi, u32 data)
{
	struct kvm_irq_routing_entry e = {.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI};

	e.u.msi.address_lo = lo;
	e.u.msi.address_hi = hi;
	e.u.msi.data = data;
	return e;
}

/* GSI n: PIC pin n and IOAPIC pin n. */
static void test_default(void **state)
{
	for (unsigned i = 0; i < 24; i++)
		assert_int_equal(irq_gsi_of(kvm, KVM_IRQCHIP_IOAPIC, i), i);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(irq_gsi_of(kvm, KVM_IRQCHIP_PIC_MASTER, i), i);
		assert_int_equal(irq_gsi_of(kvm, KVM_IRQCHIP_PIC_SLAVE, i), i + 8);
	}
	assert_int_equal(irq_set(kvm, 0, 24, 1), -1);
	assert_int_equal(irq_set(kvm, 0, ~0u, 1), -1);
}

static void test_errors(void **state)
{
	struct kvm_irq_routing_entry e[2];
	struct kvm_irq_routing_entry good[] = {
		pin(0, 0, 0),
		pin(0, 2, 2),
		msi(5, 0xfee00000, 0, 0x30),
		pin(9, 1, 7),
	};

	assert_int_equal(vm_set_gsi_routing(kvm, good, 4, 0), 0);
	assert_int_equal(vm_set_gsi_routing(kvm, good, 4, 1), -EINVAL);
	assert_int_equal(vm_set_gsi_routing(kvm, good, 4097, 0), -EINVAL);
	e[0] = pin(0, 3, 0);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	e[0] = pin(0, 0, 8);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	e[0] = pin(0, 2, 24);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	e[0] = pin(4096, 2, 0);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	e[0] = pin(1, 2, 0);
	e[0].flags = 1;
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	e[0] = msi(1, 0, 0, 0);
	e[0].flags = KVM_MSI_VALID_DEVID;
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), 0);
	e[0].flags = 2;
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	e[0].flags = 0;
	e[0].type = 3;
	assert_int_equal(vm_set_gsi_routing(kvm, e, 1, 0), -EINVAL);
	/* One GSI: not twice on one chip, not a message and something else. */
	e[0] = pin(1, 2, 0);
	e[1] = pin(1, 2, 1);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 2, 0), -EINVAL);
	e[1] = msi(1, 0, 0, 0);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 2, 0), -EINVAL);
	e[0] = msi(1, 0, 0, 0);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 2, 0), -EINVAL);
	/* What was set last and well still stands. */
	assert_int_equal(vm_set_gsi_routing(kvm, good, 4, 0), 0);
	assert_int_equal(vm_set_gsi_routing(kvm, e, 2, 0), -EINVAL);
	assert_int_equal(irq_gsi_of(kvm, KVM_IRQCHIP_IOAPIC, 2), 0);
	assert_int_equal(irq_gsi_of(kvm, KVM_IRQCHIP_IOAPIC, 0), -1);
	assert_int_equal(irq_set(kvm, 0, 5, 1), 1);
	assert_int_equal(apic_take(v), 0x30);
	assert_int_equal(vm_set_gsi_routing(kvm, NULL, 0, 0), 0);
	assert_int_equal(irq_set(kvm, 0, 5, 1), -1);
}

/* SDM vol. 3A, 11.11. */
static void test_msi(void **state)
{
	struct kvm_msi m = {.address_lo = 0xfee01000, .data = 0x41};
	struct kvm_irq_level l = {.irq = 3, .level = 1};
	struct kvm_irq_routing_entry e = msi(3, 0xfee00004, 0, 0x42);

	assert_int_equal(vm_signal_msi(kvm, &m), 1);
	assert_int_equal(apic_take(v), -1);
	assert_int_equal(apic_take(kvm->vcpus[1]), 0x41);
	m.address_lo = 0xfeeff000;
	assert_int_equal(vm_signal_msi(kvm, &m), 2);
	assert_int_equal(apic_take(v), 0x41);
	assert_int_equal(apic_take(kvm->vcpus[1]), 0x41);
	m.address_lo = 0xfee05000;
	assert_int_equal(vm_signal_msi(kvm, &m), -1);
	m.flags = 1;
	assert_int_equal(vm_signal_msi(kvm, &m), -EINVAL);
	/* Logical, through a route: nobody has a logical ID yet. */
	e.u.msi.address_lo = 0xfee02004;
	assert_int_equal(vm_set_gsi_routing(kvm, &e, 1, 0), 0);
	assert_int_equal(vm_irq_line(kvm, &l, true), 0);
	assert_int_equal(l.status, -1);
	apic_write(kvm->vcpus[1], APIC_LDR, 2u << 24);
	l.irq = 3;
	assert_int_equal(vm_irq_line(kvm, &l, true), 0);
	assert_int_equal(l.status, 1);
	assert_int_equal(apic_take(kvm->vcpus[1]), 0x42);
	/* A level-triggered message: TMR. */
	m = (struct kvm_msi){.address_lo = 0xfee00000, .data = 0xc055};
	assert_int_equal(vm_signal_msi(kvm, &m), 1);
	assert_int_equal(apic_read(v, APIC_TMR + 0x20), 1u << 0x15);
}

/* KVM_X2APIC_API_USE_32BIT_IDS: ID bits 31:8 in address bits 63:40. */
static void test_msi_x2apic(void **state)
{
	static const u32 ids[] = {0, 0x123};
	struct kvm_msi m = {.address_lo = 0xfee23000, .address_hi = 0x100, .data = 0x61};
	struct kvm_irq_routing_entry e = msi(0, 0xfee23000, 0x101, 0x61);
	struct kvm *x = fake_vm_ids(FAKE_SPLIT, 2, ids);

	x2apic_enable(x->vcpus[0]);
	x2apic_enable(x->vcpus[1]);
	assert_int_equal(vm_signal_msi(x, &m), -1);
	x->arch->x2apic_format = true;
	assert_int_equal(vm_signal_msi(x, &m), 1);
	assert_int_equal(apic_take(x->vcpus[1]), 0x61);
	m.address_hi = 0x101;
	assert_int_equal(vm_signal_msi(x, &m), -EINVAL);
	assert_int_equal(vm_set_gsi_routing(x, &e, 1, 0), -EINVAL);
	fake_vm_free(x);
}

static void test_split(void **state)
{
	struct kvm *s = fake_vm(FAKE_SPLIT, 1);
	struct kvm_vcpu *sv = s->vcpus[0];
	struct kvm_irq_routing_entry e = msi(2, 0xfee00000, 0, 0xc070);
	struct kvm_irq_routing_entry p = pin(0, 2, 0);
	struct kvm_irqchip chip = {.chip_id = 0};

	assert_int_equal(vm_set_gsi_routing(s, &p, 1, 0), -EINVAL);
	assert_int_equal(vm_set_gsi_routing(s, &e, 1, 0), 0);
	assert_int_equal(vm_get_irqchip(s, &chip), -ENXIO);
	/* Version tells of EOI-broadcast suppression. */
	assert_int_equal(apic_read(sv, APIC_LVR), 0x1050014);
	apic_enable(sv);
	assert_int_equal(irq_set(s, IRQ_SOURCE_USER, 2, 1), 1);
	assert_int_equal(irq_set(s, IRQ_SOURCE_USER, 2, 0), -1);
	assert_int_equal(apic_take(sv), 0x70);
	assert_true(fake_request(sv, REQ_IOAPIC_EOI_EXIT));
	assert_int_equal(sv->pending_ioapic_eoi, 0x70);
	/* Edges tell nobody. */
	e = msi(2, 0xfee00000, 0, 0x4070);
	assert_int_equal(vm_set_gsi_routing(s, &e, 1, 0), 0);
	assert_int_equal(irq_set(s, IRQ_SOURCE_USER, 2, 1), 1);
	assert_int_equal(apic_take(sv), 0x70);
	assert_false(fake_request(sv, REQ_IOAPIC_EOI_EXIT));
	/* Nor do levels while the guest does the IOAPIC's EOI by itself (SDM 11.8.5). */
	apic_write(sv, APIC_SPIV, 0x11ff);
	e = msi(2, 0xfee00000, 0, 0xc070);
	assert_int_equal(vm_set_gsi_routing(s, &e, 1, 0), 0);
	assert_int_equal(irq_set(s, IRQ_SOURCE_USER, 2, 1), 1);
	assert_int_equal(apic_take(sv), 0x70);
	assert_false(fake_request(sv, REQ_IOAPIC_EOI_EXIT));
	/* KVM_INTERRUPT is for user space's PIC: through LINT0, one at a time. */
	apic_write(sv, APIC_LVT0, 0x700);
	assert_int_equal(vcpu_interrupt(sv, 0x21), 0);
	assert_int_equal(vcpu_interrupt(sv, 0x22), -EEXIST);
	assert_int_equal(irq_get(sv), 0x21);
	assert_int_equal(vcpu_interrupt(sv, 0x22), 0);
	apic_write(sv, APIC_LVT0, 0x10700);
	assert_int_equal(irq_pending(sv), -1);
	assert_int_equal(irqchip_create_split(s, 24), -EEXIST);
	fake_vm_free(s);
}

static void test_none(void **state)
{
	struct kvm *n = fake_vm(FAKE_NONE, 1);
	struct kvm_irq_level l = {0};
	struct kvm_msi m = {0};
	struct kvm_pit_config pit = {0};

	assert_int_equal(vm_irq_line(n, &l, false), -ENXIO);
	assert_int_equal(vm_signal_msi(n, &m), -EINVAL);
	assert_int_equal(vm_set_gsi_routing(n, NULL, 0, 0), -EINVAL);
	assert_int_equal(vm_create_pit2(n, &pit), -ENOENT);
	assert_int_equal(irqchip_create_split(n, 5000), -EINVAL);
	fake_vm_free(n);
}

static bool stop;
static unsigned rounds; /* of all senders; atomic */

static void *sender(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		irq_set(kvm, IRQ_SOURCE_USER, 3, 1);
		irq_set(kvm, IRQ_SOURCE_USER, 7, 1);
		__atomic_fetch_add(&rounds, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Tables may change under senders. */
static void test_concurrent(void **state)
{
	struct kvm_irq_routing_entry e[2] = {msi(3, 0xfee00000, 0, 0x42),
					     msi(7, 0xfee01000, 0, 0x43)};
	pthread_t t[2];
	unsigned before;

	stop = false;
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, sender, NULL);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(vm_set_gsi_routing(kvm, e, i & 1 ? 2 : 1, 0), 0);
		apic_write(v, APIC_LDR, (u32)(i & 7) << 24);
	}
	/* On a busy machine the senders may not have run yet: see a round that began after the last
	 * change (of two rounds that end now one may have begun before it, for each sender). */
	before = __atomic_load_n(&rounds, __ATOMIC_ACQUIRE);
	while (__atomic_load_n(&rounds, __ATOMIC_ACQUIRE) - before < 3)
		sched_yield();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(apic_take(v), 0x42);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_default), T(test_errors), T(test_msi),	     T(test_msi_x2apic),
		T(test_split),	 T(test_none),	 T(test_concurrent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
