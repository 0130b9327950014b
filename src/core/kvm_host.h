/* SPDX-License-Identifier: MIT */
/* struct kvm and struct kvm_vcpu: what the parts of the core share. */
#ifndef CORE_KVM_HOST_H
#define CORE_KVM_HOST_H

#include <pthread.h>

#include "core/core.h"
#include "core/dirty_ring.h"
#include "core/regcache.h"
#include "core/request.h"

struct io_bus_table;
struct service;
struct ioapic;
struct pic;
struct pit;
struct irq_routing;
struct lapic;
struct memslots;
struct slots_state;
struct mmu_vm;
struct vcpu_mmu;
struct emulator;
struct vcpu_vmx;
struct kvm_x86_ops;

#define KVM_MAX_VCPUS	 1024
#define KVM_MAX_VCPU_IDS 4096

/* core/clock.h; all zero: nanoseconds of CLOCK_MONOTONIC and no counter. */
struct kvm_clock {
	bool native; /* the counter is the machine's */
	u32 khz;
	u64 ns_of_tick, ticks_of_ns; /* fixed point */
	/* kvmless.deterministic: the time is this and a nanosecond an instruction of the one vCPU.
	 */
	bool deterministic;
	u64 base_ns;
	struct sil_cpu *cpu;
	u64 random; /* state of the generator */
};

struct kvm {
	int refs;
	unsigned long type;
	struct sil_machine *machine;
	const struct kvm_x86_ops *ops; /* vendor operations: vmx, later svm */

	pthread_mutex_t lock;	    /* vCPU creation, capabilities, irqchip creation */
	pthread_mutex_t slots_lock; /* changes of memslots and of the I/O buses */
	pthread_mutex_t irq_lock;   /* changes of routing and of irqfds */
	pthread_mutex_t mmu_lock;   /* page tables and shadow pages */

	/* Published with release; index order is creation order. */
	unsigned nvcpus;
	struct kvm_vcpu *vcpus[KVM_MAX_VCPUS];
	u32 bsp_id;

	struct kvm_clock clock;
	struct io_bus_table *buses[2];
	struct service *service;

	/* Interrupt controllers */
	bool irqchip_kernel; /* PIC and IOAPIC here */
	bool irqchip_split;  /* only local APICs here */
	struct ioapic *ioapic;
	struct pic *pic;
	struct pit *pit;
	struct irq_routing *routing;
	struct irqfds *irqfds;
	struct vm_irq *irq; /* the rest of core/irqchip's state */

	struct memslots *memslots[2]; /* address spaces: normal, SMM */
	struct slots_state *slots;    /* the writers' side: core/memslot.c */
	struct mmu_vm *mmu;	      /* core/mmu */
	struct kvm_arch *arch;	      /* the rest, private to src/core's own files: core/vm.h */
};

struct kvm_vcpu {
	struct kvm *kvm;
	unsigned idx; /* in kvm->vcpus */
	u32 id;	      /* APIC ID */
	struct kvm_run *run;
	struct sil_cpu *cpu;
	struct isa_regs *hw; /* sil_regs(cpu) */
	struct request_state req;
	struct dirty_ring dirty_ring;
	struct lapic *apic;
	u64 apic_base; /* IA32_APIC_BASE; lapic_set_base. Also without in-core APIC */
	u64 apic_base_reserved;
	u8 user_cr8;	       /* CR8 without in-core APIC */
	u32 user_irq;	       /* KVM_INTERRUPT's vector + 1 until it is taken; 0: none */
	u8 pending_ioapic_eoi; /* vector of REQ_IOAPIC_EOI_EXIT */
	int mp_state;	       /* KVM_MP_STATE_*; vCPU thread, or others under a request */
	struct regcache regs;
	struct vcpu_mmu *mmu;	/* core/mmu/mmu.h */
	struct emulator *emul;	/* core/emulate */
	struct vcpu_arch *arch; /* core/vcpu.h */
};

#define kvm_for_each_vcpu(v, kvm)                                                       \
	for (unsigned _i = 0; _i < __atomic_load_n(&(kvm)->nvcpus, __ATOMIC_ACQUIRE) && \
			      ((v) = (kvm)->vcpus[_i], true);                           \
	     _i++)

/* A device of user space announces itself by an interrupt: what it read may have been code. Any
 * thread. */
void kvm_device_wrote(struct kvm *kvm);

static inline bool kvm_irqchip_in_core(const struct kvm *kvm)
{
	return kvm->irqchip_kernel || kvm->irqchip_split;
}

#endif
