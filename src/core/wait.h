/* SPDX-License-Identifier: MIT */
/* The vCPU thread's side of core/request.h. */
#ifndef CORE_WAIT_H
#define CORE_WAIT_H

#include "core/kvm_host.h"

void vcpu_enter_guest_mode(struct kvm_vcpu *v);
void vcpu_leave_guest_mode(struct kvm_vcpu *v);
/* Between vcpu_enter_guest_mode and the entry: has somebody asked for something meanwhile? */
bool vcpu_must_leave(const struct kvm_vcpu *v);

/*
 * Sleeping until kvm_vcpu_kick:
 *
 *	u32 seen = vcpu_wait_prepare(v);
 *	if (nothing to do)
 *		vcpu_wait(v, seen, deadline);
 *	vcpu_wait_finish(v);
 *
 * @deadline_ns: of kvm_now_ns, ~0 for none. vcpu_wait returns 0 (woken, timed out, spurious) or
 * -EINTR if a signal handler ran.
 */
u32 vcpu_wait_prepare(struct kvm_vcpu *v);
int vcpu_wait(struct kvm_vcpu *v, u32 seen, u64 deadline_ns);
void vcpu_wait_finish(struct kvm_vcpu *v);

#endif
