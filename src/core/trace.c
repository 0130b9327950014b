/* SPDX-License-Identifier: MIT */
/* See trace.h. */
#include <errno.h>
#include <unistd.h>

#include "core/trace.h"
#include "core/vcpu.h"

#define SAMPLE_NS 10000000ull

static const char *const levels[] = {"L1", "L2"};

static const char *const user_reasons[] = {
#define R(name) [KVM_EXIT_##name] = "KVM_EXIT_" #name
	R(UNKNOWN),
	R(EXCEPTION),
	R(IO),
	R(HYPERCALL),
	R(DEBUG),
	R(HLT),
	R(MMIO),
	R(IRQ_WINDOW_OPEN),
	R(SHUTDOWN),
	R(FAIL_ENTRY),
	R(INTR),
	R(SET_TPR),
	R(TPR_ACCESS),
	R(INTERNAL_ERROR),
	R(SYSTEM_EVENT),
	R(IOAPIC_EOI),
	R(X86_RDMSR),
	R(X86_WRMSR),
	R(DIRTY_RING_FULL),
	R(X86_BUS_LOCK),
	R(NMI),
	R(WATCHDOG),
	R(HYPERV),
	R(AP_RESET_HOLD),
	R(XEN),
	R(NOTIFY),
	R(MEMORY_FAULT),
#undef R
};

static const char *user_reason(u32 reason)
{
	return reason < ARRAY_SIZE(user_reasons) && user_reasons[reason] ? user_reasons[reason]
									 : "KVM_EXIT";
}

static u32 vm_of(const struct kvm_vcpu *v)
{
	return v->kvm->arch->trace_vm;
}

const char *vcpu_trace_level(const struct kvm_vcpu *v)
{
	return levels[v->arch->guest_mode];
}

/* Ends the slice of the core or of user space, and gives the time at which it ended. */
static u64 end_slice(struct kvm_vcpu *v)
{
	struct vcpu_trace *t = &v->arch->trace;
	u64 now = trace_now();

	if (t->since && t->in_core)
		trace_slice(TRACE_CORE, vm_of(v), v->id, t->since, now, (u64)t->reason,
			    (u64)t->from, (u64)t->by);
	else if (t->since)
		trace_slice(TRACE_USER, vm_of(v), v->id, t->since, now, (u64)t->user_reason, 0, 0);
	t->since = now;
	return now;
}

static void begin_core(struct kvm_vcpu *v, const char *reason, const char *from)
{
	struct vcpu_trace *t = &v->arch->trace;

	t->in_core = true;
	t->reason = reason;
	t->from = from;
	t->by = "L0";
}

void vcpu_trace_created_(struct kvm_vcpu *v)
{
	trace_instant(TRACE_VCPU, vm_of(v), v->id, 0, 0, 0);
}

void vcpu_trace_run_(struct kvm_vcpu *v)
{
	end_slice(v);
	begin_core(v, "KVM_RUN", "user");
}

void vcpu_trace_return_(struct kvm_vcpu *v, long ret)
{
	struct vcpu_trace *t = &v->arch->trace;

	end_slice(v);
	t->in_core = false;
	t->user_reason = ret == -EINTR ? "KVM_EXIT_INTR"
			 : ret < 0     ? "KVM_RUN error"
				       : user_reason(v->run->exit_reason);
}

void vcpu_trace_enter_(struct kvm_vcpu *v)
{
	end_slice(v);
}

void vcpu_trace_exit_(struct kvm_vcpu *v, const char *reason, bool nested)
{
	struct vcpu_trace *t = &v->arch->trace;
	u64 now = trace_now();

	if (t->since)
		trace_slice(TRACE_GUEST, vm_of(v), v->id, t->since, now, (u64)levels[nested], 0, 0);
	t->since = now;
	begin_core(v, reason, levels[nested]);
	if (now >= t->next_sample) {
		t->next_sample = now + SAMPLE_NS;
		trace_instant(TRACE_INSTRUCTIONS, vm_of(v), v->id,
			      sil_counters(v->cpu)->instructions, 0, 0);
	}
}

void vcpu_trace_by_l1_(struct kvm_vcpu *v, const char *reason, u32 code)
{
	v->arch->trace.by = "L1";
	trace_instant(TRACE_NESTED_EXIT, vm_of(v), v->id, (u64)reason, code, 0);
}

void vcpu_trace_halt_(struct kvm_vcpu *v, u64 start)
{
	trace_slice(TRACE_HALT, vm_of(v), v->id, start, trace_now(), 0, 0, 0);
}

void vcpu_trace_event_(struct kvm_vcpu *v, enum trace_id id, u64 a0, u64 a1, u64 a2)
{
	trace_instant(id, vm_of(v), v->id, a0, a1, a2);
}

void vcpu_trace_text_(struct kvm_vcpu *v, enum trace_id id, const char *text)
{
	trace_text(id, vm_of(v), v->id, text);
}
