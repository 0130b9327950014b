/* SPDX-License-Identifier: MIT */
/*
 * Interrupt controllers: local APICs, IOAPIC, the two 8259s, the 8254, MSIs and the routing between
 * them. Behaviour: SDM vol. 3A chapter 11 (local APIC), the 82093AA, 8259A and 8254 data sheets,
 * and KVM where it differs (documented at the place).
 */
#ifndef CORE_IRQCHIP_IRQCHIP_H
#define CORE_IRQCHIP_IRQCHIP_H

#include "base/types.h"
#include "spec/abi/kvm.h"

struct kvm;
struct kvm_vcpu;
struct lapic; /* v->apic; NULL without in-core local APIC */

/* ---- Life cycle, called by the VM's ---- */
/* Sets up kvm->irq: I/O buses, routing, APIC map, eventfds. After kvm->arch exists, before any vCPU
 * and any other function here or in iobus.h. 0 or -ENOMEM. */
int irqchip_vm_init(struct kvm *kvm);
/* The reverse, once no vCPU thread is left, before service_stop. The vCPUs' lapic_destroy may come
 * before or after it. */
void irqchip_vm_destroy(struct kvm *kvm);
/* KVM_CAP_APIC_BUS_CYCLES_NS: length of a timer input cycle in ns (1 at first). -EINVAL (also once
 * there are vCPUs), -ENXIO (no in-core APIC). kvm->lock held. */
int irqchip_set_bus_cycle_ns(struct kvm *kvm, u64 ns);

/* Hertz. */
u64 irqchip_bus_frequency(struct kvm *kvm);

/* ---- Local APIC ---- */
int lapic_create(struct kvm_vcpu *v);
void lapic_destroy(struct kvm_vcpu *v);
void lapic_reset(struct kvm_vcpu *v, bool init);
/* IA32_APIC_BASE: 0 or -EINVAL (#GP). @host: by user space. */
int lapic_set_base(struct kvm_vcpu *v, u64 val, bool host);
u64 lapic_get_base(struct kvm_vcpu *v);
/* x2APIC MSRs 0x800-0x8ff and IA32_TSC_DEADLINE. 0 or -EINVAL. */
int lapic_msr_read(struct kvm_vcpu *v, u32 index, u64 *val);
int lapic_msr_write(struct kvm_vcpu *v, u32 index, u64 val);
/* Hyper-V's MSRs for EOI, ICR and TPR, whatever mode the APIC is in: register at @off of its page,
 * ICR with its upper half. 0 or -EINVAL. */
int lapic_hv_read(struct kvm_vcpu *v, unsigned off, u64 *val);
int lapic_hv_write(struct kvm_vcpu *v, unsigned off, u64 val);
/* MMIO if @addr is in this vCPU's APIC page and the APIC is in xAPIC mode, else -EOPNOTSUPP. */
int lapic_mmio_read(struct kvm_vcpu *v, u64 addr, unsigned len, void *val);
int lapic_mmio_write(struct kvm_vcpu *v, u64 addr, unsigned len, const void *val);
/* The guest's CPUID has changed: what it may set in IA32_APIC_BASE and LVTT. vCPU's mutex. */
void lapic_after_set_cpuid(struct kvm_vcpu *v, bool x2apic, bool tsc_deadline, unsigned maxphyaddr);
/* The guest's TSC was written, offset or scaled otherwise: the deadline moves. vCPU thread. */
void lapic_timer_tsc_changed(struct kvm_vcpu *v);
bool lapic_enabled(struct kvm_vcpu *v); /* IA32_APIC_BASE.EN and in core */
bool lapic_x2apic_mode(struct kvm_vcpu *v);
u64 lapic_get_cr8(struct kvm_vcpu *v);
void lapic_set_cr8(struct kvm_vcpu *v, u64 tpr);
/* Highest vector requested, whatever its priority, -1 if none. Any thread. */
int lapic_find_highest_irr(struct kvm_vcpu *v);
/* Highest-priority vector above the PPR, -1 if none. */
int lapic_has_interrupt(struct kvm_vcpu *v);
/* Takes it: IRR to ISR. -1 if none. */
int lapic_get_interrupt(struct kvm_vcpu *v);
/* An interrupt that was noticed in another way than by taking it (posted-interrupt notification).
 */
void lapic_clear_irr(struct kvm_vcpu *v, u8 vector);
/* When the timer will next fire, in kvm_now_ns time; ~0 if it will not. For HLT. */
u64 lapic_timer_expires(struct kvm_vcpu *v);
/* The vCPU thread calls it before each entry: delivers timer interrupts that are due. */
void lapic_sync(struct kvm_vcpu *v);
/* PV EOI (core/irqchip/lapic_pv_eoi.c), vCPU thread. MSR write: 0 or -EINVAL. */
int lapic_set_pv_eoi(struct kvm_vcpu *v, u64 msr);
/* Events have been injected: the guest may leave out the EOI of what is in service. */
void lapic_pv_eoi_to_guest(struct kvm_vcpu *v);
int lapic_get_state(struct kvm_vcpu *v, struct kvm_lapic_state *s);
int lapic_set_state(struct kvm_vcpu *v, const struct kvm_lapic_state *s);
/* INIT and SIPI that have arrived, for the vCPU loop (SDM vol. 3A, 9.4): takes them. @sipi_vector
 * is valid with LAPIC_SIPI. */
#define LAPIC_INIT 1u
#define LAPIC_SIPI 2u
unsigned lapic_take_init_sipi(struct kvm_vcpu *v, u8 *sipi_vector);
bool lapic_has_init_sipi(struct kvm_vcpu *v);
/* For KVM_GET/SET_VCPU_EVENTS. */
u8 lapic_sipi_vector(struct kvm_vcpu *v);
void lapic_set_sipi_vector(struct kvm_vcpu *v, u8 vector);
/* An INIT that has arrived and not been taken. */
bool lapic_init_latched(struct kvm_vcpu *v);
void lapic_set_init_latched(struct kvm_vcpu *v, bool latched);
/* KVM_HC_SEND_IPI's work: number of vCPUs reached, or what the hypercall returns on error. */
long lapic_pv_send_ipi(struct kvm *kvm, u64 bitmap_lo, u64 bitmap_hi, u32 min, u64 icr,
		       bool mode64);
/* MCG_CAP has changed: is there a corrected-machine-check interrupt? vCPU's mutex. */
void lapic_set_cmci(struct kvm_vcpu *v, bool cmci);
/* A local interrupt source raises LVT @lvt (APIC_LVTPC, APIC_LVTTHMR, ...: offset in the page).
 * vCPU thread. */
void lapic_local_deliver(struct kvm_vcpu *v, unsigned lvt);

/* ---- What the vCPU loop asks ---- */
/* An external interrupt deliverable now, from APIC, PIC (EXTINT through LVT0 or no APIC) or user
 * space (KVM_INTERRUPT without in-core APIC): vector or -1. irq_get takes it. */
int irq_pending(struct kvm_vcpu *v);
int irq_get(struct kvm_vcpu *v);
/* Is irq_get's next answer from the PIC or from KVM_INTERRUPT rather than the local APIC? */
bool irq_pending_is_extint(struct kvm_vcpu *v);
/* Would KVM_INTERRUPT be taken now (no vector of it waits)? For ready_for_interrupt_injection. */
bool irq_user_slot_free(struct kvm_vcpu *v);

/* ---- Chips ---- */
int irqchip_create(struct kvm *kvm); /* PIC + IOAPIC + default routing */
int irqchip_create_split(struct kvm *kvm, unsigned ioapic_pins);
void irqchip_destroy(struct kvm *kvm);
int irqchip_get(struct kvm *kvm, struct kvm_irqchip *chip);
int irqchip_set(struct kvm *kvm, const struct kvm_irqchip *chip);
int pit_create(struct kvm *kvm, const struct kvm_pit_config *cfg);
void pit_destroy(struct kvm *kvm);
int pit_get(struct kvm *kvm, struct kvm_pit_state2 *ps);
int pit_set(struct kvm *kvm, const struct kvm_pit_state2 *ps);
int pit_reinject(struct kvm *kvm, bool reinject);
/* REQ_IOAPIC_EOI_EXIT: the vector for run->eoi is v->pending_ioapic_eoi. */
/* An EOI for @vector reached the local APIC with level trigger: tells the IOAPIC, resample irqfds,
 * or (split) asks for a KVM_EXIT_IOAPIC_EOI. */
void irqchip_eoi(struct kvm_vcpu *v, u8 vector, bool level);

/* ---- Routing ---- */
enum irq_source { IRQ_SOURCE_USER, IRQ_SOURCE_IRQFD, IRQ_SOURCE_RESAMPLE, IRQ_SOURCE_PIT };
/* Drives a GSI. @source: a line owner (enum irq_source) whose levels are ORed.
 * > 0 delivered to so many, 0 coalesced, < 0 masked or nobody. */
int irq_set(struct kvm *kvm, unsigned source, u32 gsi, int level);
int irq_send_msi(struct kvm *kvm, const struct kvm_msi *msi);
int irq_set_routing(struct kvm *kvm, const struct kvm_irq_routing_entry *ents, u32 n);

#endif
