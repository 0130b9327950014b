/* SPDX-License-Identifier: MIT */
/*
 * What the core traces (base/trace.h). A vCPU is in the guest, in the core, or in user space; each
 * change of that ends a slice. Back ends call vcpu_trace_enter and vcpu_trace_exit around the entry
 * itself. All but vcpu_trace_kick: the vCPU's own thread.
 */
#ifndef CORE_TRACE_H
#define CORE_TRACE_H

#include "base/trace.h"
#include "core/kvm_host.h"

struct vcpu_trace {
	u64 since; /* trace_now at the last change; 0: none seen */
	bool in_core;
	const char *reason, *from, *by; /* of the slice in the core: strings that stay */
	const char *user_reason;
	u64 next_sample;
};

void vcpu_trace_created_(struct kvm_vcpu *v);
void vcpu_trace_run_(struct kvm_vcpu *v);
void vcpu_trace_return_(struct kvm_vcpu *v, long ret);
void vcpu_trace_enter_(struct kvm_vcpu *v);
void vcpu_trace_exit_(struct kvm_vcpu *v, const char *reason, bool nested);
void vcpu_trace_by_l1_(struct kvm_vcpu *v, const char *reason, u32 code);
void vcpu_trace_halt_(struct kvm_vcpu *v, u64 start);
void vcpu_trace_event_(struct kvm_vcpu *v, enum trace_id id, u64 a0, u64 a1, u64 a2);
void vcpu_trace_text_(struct kvm_vcpu *v, enum trace_id id, const char *text);
/* "L1" or "L2": where what is injected now goes. */
const char *vcpu_trace_level(const struct kvm_vcpu *v);

#define VCPU_TRACE(fn, v, ...)                                \
	do {                                                  \
		if (trace_on())                               \
			vcpu_trace_##fn##_(v, ##__VA_ARGS__); \
	} while (0)

#endif
