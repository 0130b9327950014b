/* SPDX-License-Identifier: MIT */
/*
 * The emulator: executes one instruction of the guest in root mode, with the semantics of isa/ and
 * other memory, port and register callbacks than the processor's. It is for instructions the
 * processor leaves to us: accesses to MMIO and to protected page tables, string I/O, and whatever
 * exits for the instruction as a whole.
 *
 * An instruction that needs user space is not suspended half-way: it is thrown away, user space is
 * asked for what was missing (KVM_EXIT_MMIO or KVM_EXIT_IO), and when the answer is there
 * (v->arch->complete_userspace_io) the instruction is executed again and finds it. Writes to user
 * space are done after it has completed.
 *
 * vCPU thread, outside the guest, no locks.
 */
#ifndef CORE_EMULATE_EMULATE_H
#define CORE_EMULATE_EMULATE_H

#include "core/kvm_host.h"

int emul_create(struct kvm_vcpu *v); /* 0 or -ENOMEM */
void emul_free(struct kvm_vcpu *v);
/* Forgets a pending exit (INIT, state set by user space). */
void emul_reset(struct kvm_vcpu *v);

#define EMUL_SKIP		 BIT(0) /* only move RIP past the instruction */
#define EMUL_TRAP_UD		 BIT(1) /* came by #UD: an instruction we do not have is injected as #UD */
#define EMUL_PF			 BIT(2) /* came by a page fault: an access that finds memory may just retry */
#define EMUL_NO_DECODE_FAIL_EXIT BIT(3) /* never KVM_EXIT_INTERNAL_ERROR: inject #UD instead */
#define EMUL_WHOLE                                                                    \
	BIT(4) /* the processor cannot run this code at all: any instruction may come \
		*/

/* One instruction at RIP. 1: go on (registers updated, or an exception queued); 0: run->exit_reason
 * is set; < 0: errno of KVM_RUN. */
int kvm_emulate_instruction(struct kvm_vcpu *v, unsigned flags);
/* The same; a page fault at guest-physical @gpa led here (linear @gva if @has_gva). */
int kvm_emulate_mmio(struct kvm_vcpu *v, gpa_t gpa, u64 error_code);

/* IN or OUT of AL/AX/EAX, straight from an exit's information; moves RIP on. Same returns. */
int kvm_fast_pio(struct kvm_vcpu *v, unsigned size, u16 port, bool in);

/* KVM_EXIT_INTERNAL_ERROR/EMULATION with the instruction's bytes, or #UD where KVM injects one. */
int kvm_handle_emulation_failure(struct kvm_vcpu *v, unsigned flags);

struct isa_event;
/* Delivers an event through the IDT or, in real mode, the interrupt table, as EMUL_WHOLE code needs
 * it. Same returns; a fault on the way is queued. */
int kvm_emulate_event(struct kvm_vcpu *v, const struct isa_event *ev);

/* Task switch exit (SDM vol. 3C, 26.4.2): @reason: 0 CALL, 1 IRET, 2 JMP, 3 gate. Same returns. */
int kvm_task_switch(struct kvm_vcpu *v, u16 selector, int reason, bool has_error, u32 error);

#endif
