/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/iobus.h"
#include "core/irqchip/lapic.h"
#include "core/tsc.h"
#include "core/vcpu.h"
#include "fake.h"

struct fake_vcpu {
	struct kvm_vcpu v;
	u32 kicks;
};

s64 fake_tsc_offset;
const struct kvm fake_clock;

void kvm_make_request(struct kvm_vcpu *v, enum kvm_request r)
{
	__atomic_fetch_or(&v->req.pending, BIT(r), __ATOMIC_SEQ_CST);
}

void kvm_vcpu_kick(struct kvm_vcpu *v)
{
	__atomic_fetch_add(&((struct fake_vcpu *)v)->kicks, 1, __ATOMIC_SEQ_CST);
}

void kvm_inject_nmi(struct kvm_vcpu *v)
{
	kvm_make_request(v, REQ_NMI);
}

u64 kvm_guest_tsc_to_ns(struct kvm_vcpu *v, u64 tsc)
{
	return tsc - (u64)fake_tsc_offset;
}

bool fake_request(struct kvm_vcpu *v, enum kvm_request r)
{
	return __atomic_fetch_and(&v->req.pending, ~BIT(r), __ATOMIC_SEQ_CST) & BIT(r);
}

unsigned fake_kicks(struct kvm_vcpu *v)
{
	return __atomic_exchange_n(&((struct fake_vcpu *)v)->kicks, 0, __ATOMIC_SEQ_CST);
}

void fake_sleep_us(unsigned us)
{
	struct timespec ts = {.tv_nsec = (long)us * 1000};

	nanosleep(&ts, NULL);
}

void kvm_device_wrote(struct kvm *kvm) {}
void lapic_report_tpr_access(struct kvm_vcpu *v, bool write) {}
void lapic_vapic_reset(struct kvm_vcpu *v) {}

struct kvm *fake_vm_ids(enum fake_irqchip chip, unsigned nvcpus, const u32 *ids)
{
	struct kvm *kvm = calloc(1, sizeof(*kvm));

	kvm->arch = calloc(1, sizeof(*kvm->arch));
	kvm->arch->params.kvm_min_timer_period_us = 200;
	pthread_mutex_init(&kvm->lock, NULL);
	pthread_mutex_init(&kvm->slots_lock, NULL);
	pthread_mutex_init(&kvm->irq_lock, NULL);
	assert_int_equal(service_create(kvm, &kvm->service), 0);
	assert_int_equal(irqchip_vm_init(kvm), 0);
	if (chip == FAKE_KERNEL)
		assert_int_equal(irqchip_create(kvm), 0);
	if (chip == FAKE_SPLIT)
		assert_int_equal(irqchip_create_split(kvm, 24), 0);
	for (unsigned i = 0; i < nvcpus; i++) {
		struct fake_vcpu *f = calloc(1, sizeof(*f));

		f->v.kvm = kvm;
		f->v.idx = i;
		f->v.id = ids ? ids[i] : i;
		f->v.run = aligned_alloc(PAGE_SIZE, 3 * PAGE_SIZE);
		memset(f->v.run, 0, 3 * PAGE_SIZE);
		if (chip != FAKE_NONE)
			assert_int_equal(lapic_create(&f->v), 0);
		else
			lapic_reset(&f->v, false);
		lapic_after_set_cpuid(&f->v, true, true, 46);
		kvm->vcpus[i] = &f->v;
		__atomic_store_n(&kvm->nvcpus, i + 1, __ATOMIC_RELEASE);
	}
	return kvm;
}

struct kvm *fake_vm(enum fake_irqchip chip, unsigned nvcpus)
{
	return fake_vm_ids(chip, nvcpus, NULL);
}

void fake_vm_free(struct kvm *kvm)
{
	irqchip_vm_destroy(kvm);
	for (unsigned i = 0; i < kvm->nvcpus; i++) {
		lapic_destroy(kvm->vcpus[i]);
		free(kvm->vcpus[i]->run);
		free(kvm->vcpus[i]);
	}
	service_stop(kvm->service);
	free(kvm->arch);
	free(kvm);
}

u32 apic_read(struct kvm_vcpu *v, unsigned off)
{
	u32 val = 0xdeadbeef;
	u64 msr;

	if (lapic_x2apic_mode(v)) {
		assert_int_equal(lapic_msr_read(v, 0x800 + off / 16, &msr), 0);
		return (u32)msr;
	}
	assert_int_equal(io_bus_read(v, IO_BUS_MMIO, 0xfee00000 + off, 4, &val), 0);
	return val;
}

void apic_write(struct kvm_vcpu *v, unsigned off, u32 val)
{
	if (lapic_x2apic_mode(v))
		assert_int_equal(lapic_msr_write(v, 0x800 + off / 16, val), 0);
	else
		assert_int_equal(io_bus_write(v, IO_BUS_MMIO, 0xfee00000 + off, 4, &val), 0);
}

void apic_enable(struct kvm_vcpu *v)
{
	apic_write(v, APIC_SPIV, 0x1ff);
}

void x2apic_enable(struct kvm_vcpu *v)
{
	assert_int_equal(lapic_set_base(v, lapic_get_base(v) | APIC_BASE_EXTD, false), 0);
	apic_enable(v);
}

int apic_take(struct kvm_vcpu *v)
{
	int vec = lapic_get_interrupt(v);

	if (vec >= 0)
		apic_write(v, APIC_EOI, 0);
	return vec;
}

u8 port_in(struct kvm_vcpu *v, u16 port)
{
	u8 val = 0;

	assert_int_equal(io_bus_read(v, IO_BUS_PIO, port, 1, &val), 0);
	return val;
}

void port_out(struct kvm_vcpu *v, u16 port, u8 val)
{
	assert_int_equal(io_bus_write(v, IO_BUS_PIO, port, 1, &val), 0);
}

u64 sil_cpu_retired(const struct sil_cpu *cpu)
{
	return 0;
}
