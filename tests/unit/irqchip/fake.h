/* SPDX-License-Identifier: MIT */
/* A VM with vCPUs that never run: requests and kicks are recorded, time is real. */
#ifndef TESTS_IRQCHIP_FAKE_H
#define TESTS_IRQCHIP_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/irqchip/irqchip.h"
#include "core/irqchip/lapic_reg.h"
#include "core/kvm_host.h"
#include "core/service.h"

enum fake_irqchip { FAKE_NONE, FAKE_KERNEL, FAKE_SPLIT };

struct kvm *fake_vm(enum fake_irqchip chip, unsigned nvcpus);
/* vCPUs with these APIC IDs. */
struct kvm *fake_vm_ids(enum fake_irqchip chip, unsigned nvcpus, const u32 *ids);
void fake_vm_free(struct kvm *kvm);
bool fake_request(struct kvm_vcpu *v, enum kvm_request r); /* test and clear */
unsigned fake_kicks(struct kvm_vcpu *v);		   /* since the last call */
/* Guest TSC ticks once per ns, from this offset. */
extern const struct kvm fake_clock; /* for durations */
extern s64 fake_tsc_offset;

u32 apic_read(struct kvm_vcpu *v, unsigned off);
void apic_write(struct kvm_vcpu *v, unsigned off, u32 val);
/* Software-enables the APIC with spurious vector FFh. */
void apic_enable(struct kvm_vcpu *v);
void x2apic_enable(struct kvm_vcpu *v);
/* Takes the interrupt and ends it; -1 if there is none. */
int apic_take(struct kvm_vcpu *v);

u8 port_in(struct kvm_vcpu *v, u16 port);
void port_out(struct kvm_vcpu *v, u16 port, u8 val);
/* Waits up to @ms until the condition holds. */
#define wait_for(cond, ms)                                                \
	({                                                                \
		u64 end_ = kvm_now_ns(&fake_clock) + (u64)(ms)*1000000;   \
		bool ok_;                                                 \
		while (!(ok_ = (cond)) && kvm_now_ns(&fake_clock) < end_) \
			fake_sleep_us(200);                               \
		ok_;                                                      \
	})
void fake_sleep_us(unsigned us);

#endif
