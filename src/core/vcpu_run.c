/* SPDX-License-Identifier: MIT */
/* KVM_RUN: requests, halting, entering the guest, leaving to user space. */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "core/deterministic.h"
#include "core/emulate/emulate.h"
#include "core/hyperv.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/pv.h"
#include "core/service.h"
#include "core/vcpu.h"
#include "core/wait.h"

void vcpu_interrupt_run(struct kvm_vcpu *v)
{
	kvm_make_request(v, REQ_INTERRUPT_RUN);
	kvm_vcpu_kick(v);
}

void vcpu_leave_after(struct kvm_vcpu *v, u32 exits)
{
	v->arch->leave_after = exits;
}

static bool interrupted(const struct kvm_vcpu *v)
{
	return __atomic_load_n(&v->req.pending, __ATOMIC_ACQUIRE) & BIT(REQ_INTERRUPT_RUN);
}

static int exit_intr(struct kvm_vcpu *v)
{
	v->run->exit_reason = KVM_EXIT_INTR;
	kvm_stat_inc(v, signal_exits);
	return -EINTR;
}

/* ---- Interrupts from user space's PIC or APIC ---- */

static bool user_wants_window(const struct kvm_vcpu *v)
{
	return v->run->request_interrupt_window && !v->kvm->irqchip_kernel;
}

/* ---- Halted ---- */

static bool has_events(struct kvm_vcpu *v)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;

	if (v->apic && lapic_has_init_sipi(v) && !kvm_init_blocked(v))
		return true;
	if (is_guest_mode(v) && ops->nested->has_events(v))
		return true;
	if (unlikely(apf_has_ready(v)))
		return true;
	/* Waiting for a startup IPI: nothing else is listened to (SDM vol. 3A, 9.4.2). */
	if (v->mp_state == KVM_MP_STATE_UNINITIALIZED || v->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return false;
	if (v->arch->pv_unhalted || v->arch->exception.pending)
		return true;
	if ((__atomic_load_n(&v->arch->nmi_queued, __ATOMIC_ACQUIRE) || v->arch->nmi_pending) &&
	    ops->nmi_allowed(v, false))
		return true;
	if (__atomic_load_n(&v->req.pending, __ATOMIC_ACQUIRE) & BIT(REQ_TRIPLE_FAULT))
		return true;
	if ((v->arch->smi_pending ||
	     __atomic_load_n(&v->req.pending, __ATOMIC_ACQUIRE) & BIT(REQ_SMI)) &&
	    kvm_smi_allowed(v))
		return true;
	if (v->arch->guest_debug & KVM_GUESTDBG_BLOCKIRQ)
		return false;
	return ops->interrupt_allowed(v, false) > 0 && irq_pending(v) >= 0;
}

bool kvm_vcpu_runnable(struct kvm_vcpu *v)
{
	return (v->mp_state == KVM_MP_STATE_RUNNABLE && !v->arch->apf.halted) || has_events(v);
}

static bool must_wake(struct kvm_vcpu *v)
{
	return has_events(v) || interrupted(v) ||
	       __atomic_load_n(&v->run->immediate_exit, __ATOMIC_ACQUIRE);
}

/* kvm.halt_poll_ns, KVM_CAP_HALT_POLL: a short halt is cheaper awake. True if it was one. */
static bool halt_poll(struct kvm_vcpu *v, u64 start)
{
	u64 budget = v->kvm->arch->max_halt_poll_ns, now = start;

	if (!budget || v->kvm->clock.deterministic || v->mp_state != KVM_MP_STATE_HALTED)
		return false;
	kvm_stat_inc(v, halt_attempted_poll);
	do {
		lapic_sync(v);
		if (must_wake(v)) {
			kvm_stat_inc(v, halt_successful_poll);
			v->arch->stat.halt_poll_success_ns += now - start;
			return true;
		}
		__builtin_ia32_pause();
		now = kvm_now_ns(v->kvm);
	} while (now - start < budget);
	v->arch->stat.halt_poll_fail_ns += now - start;
	return false;
}

/* Sleeps until there is something to do. 0 or -EINTR. */
static int vcpu_sleep(struct kvm_vcpu *v)
{
	u64 start = kvm_now_ns(v->kvm), deadline, trace_start_ns = trace_on() ? trace_now() : 0;
	u32 seen;
	int ret = 0;

	if (halt_poll(v, start))
		return 0;
	v->arch->stat.blocking = 1;
	kvm_steal_time_set_preempted(v);
	for (;;) {
		seen = vcpu_wait_prepare(v);
		if (v->apic)
			lapic_sync(v);
		if (must_wake(v))
			break;
		deadline = v->apic && (v->mp_state == KVM_MP_STATE_HALTED || v->arch->apf.halted)
				   ? lapic_timer_expires(v)
				   : ~0ull;
		if (is_guest_mode(v))
			deadline = MIN(deadline, v->kvm->ops->nested->timer_expires_ns(v));
		if (unlikely(v->kvm->clock.deterministic) && deterministic_skip(v, deadline))
			continue;
		ret = vcpu_wait(v, seen, deadline);
		if (ret)
			break;
	}
	vcpu_wait_finish(v);
	kvm_steal_time_clear_preempted(v);
	v->arch->stat.blocking = 0;
	kvm_stat_inc(v, halt_wakeup);
	v->arch->stat.halt_wait_ns += kvm_now_ns(v->kvm) - start;
	VCPU_TRACE(halt, v, trace_start_ns);
	return ret;
}

/* Not running: halted, or waiting for INIT or a startup IPI. 1, or -EINTR. */
static int vcpu_block(struct kvm_vcpu *v)
{
	if (!has_events(v)) {
		int ret = vcpu_sleep(v);

		if (ret)
			return exit_intr(v);
	}
	/* A halted L2 may end in L1, without having been woken first. */
	if (is_guest_mode(v))
		v->kvm->ops->nested->check_events(v);
	kvm_apic_accept_events(v);
	if (v->mp_state == KVM_MP_STATE_HALTED && has_events(v)) {
		v->arch->pv_unhalted = false;
		v->mp_state = KVM_MP_STATE_RUNNABLE;
		kvm_make_request(v, REQ_EVENT);
	}
	if (unlikely(v->arch->apf.halted) && has_events(v))
		v->arch->apf.halted = false;
	if (__atomic_load_n(&v->run->immediate_exit, __ATOMIC_ACQUIRE))
		return exit_intr(v);
	return 1;
}

/* ---- Requests ---- */

static void load_pgd(struct kvm_vcpu *v)
{
	struct kvm_mmu *mmu = v->mmu->mmu;

	if (mmu->roots[0].hpa != HPA_INVALID)
		v->kvm->ops->load_mmu_pgd(v, mmu->roots[0].hpa, mmu_root_level(mmu));
}

/* 1: enter; <= 0: KVM_RUN returns that. */
static int handle_requests(struct kvm_vcpu *v)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;

	if (dirty_ring_check_full(v))
		return 0;
	if (kvm_check_request(v, REQ_MMU_RELOAD)) {
		int ret = mmu_reload(v);

		if (ret)
			return ret;
	}
	if (kvm_check_request(v, REQ_HV_TLB_FLUSH))
		hv_service_flush(v);
	if (kvm_check_request(v, REQ_TLB_FLUSH_GUEST)) {
		kvm_stat_inc(v, tlb_flush);
		mmu_flush_guest(v);
		ops->flush_tlb_guest(v);
	}
	if (kvm_check_request(v, REQ_MMU_SYNC))
		mmu_sync_roots(v);
	if (kvm_check_request(v, REQ_LOAD_MMU_PGD))
		load_pgd(v);
	if (kvm_check_request(v, REQ_TLB_FLUSH)) {
		kvm_stat_inc(v, tlb_flush);
		ops->flush_tlb_all(v);
	}
	if (kvm_check_request(v, REQ_TLB_FLUSH_CURRENT)) {
		kvm_stat_inc(v, tlb_flush);
		ops->flush_tlb_current(v);
	}
	if (kvm_check_request(v, REQ_TPR_ACCESS)) {
		v->run->exit_reason = KVM_EXIT_TPR_ACCESS;
		return 0;
	}
	if (kvm_check_request(v, REQ_TRIPLE_FAULT)) {
		if (!is_guest_mode(v))
			return kvm_exit_shutdown(v);
		ops->nested->triple_fault(v);
	}
	if (kvm_check_request(v, REQ_APF_HALT)) {
		v->arch->apf.halted = true;
		return 1;
	}
	if (kvm_check_request(v, REQ_CLOCK_UPDATE)) {
		kvm_guest_time_update(v);
		hv_clock_update(v);
	}
	if (kvm_check_request(v, REQ_STEAL_UPDATE))
		kvm_steal_time_update(v);
	if (kvm_check_request(v, REQ_NMI))
		kvm_process_nmi(v);
	if (kvm_check_request(v, REQ_SMI)) {
		v->arch->smi_pending = true;
		kvm_make_request(v, REQ_EVENT);
	}
	if (kvm_check_request(v, REQ_MSR_FILTER_CHANGED))
		ops->msr_filter_changed(v);
	if (kvm_check_request(v, REQ_CODE_RECHECK))
		sil_code_recheck(v->cpu);
	if (kvm_check_request(v, REQ_APF_READY))
		apf_check_ready(v);
	if (kvm_check_request(v, REQ_IOAPIC_EOI_EXIT)) {
		v->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		v->run->eoi.vector = v->pending_ioapic_eoi;
		return 0;
	}
	/* These only had to bring the vCPU out of the guest, or belong to parts that are not in. */
	__atomic_fetch_and(&v->req.pending,
			   ~(BIT(REQ_PAUSE) | BIT(REQ_APIC_PAGE_RELOAD) | BIT(REQ_PMU) |
			     BIT(REQ_NESTED_EVENT)),
			   __ATOMIC_SEQ_CST);
	return 1;
}

/* ---- One entry ---- */

static int vcpu_enter_guest(struct kvm_vcpu *v)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;
	bool window, need_exit = false;
	enum exit_fastpath fast;
	u64 start;
	int ret;

	if (unlikely(v->kvm->clock.deterministic))
		deterministic_before_entry(v);
	if (v->apic)
		lapic_sync(v);
	/* Every change between a guest and its guest asks for these two, which come below. */
	if (unlikely(__atomic_load_n(&v->req.pending, __ATOMIC_ACQUIRE) &
		     ~(BIT(REQ_EVENT) | BIT(REQ_LOAD_MMU_PGD)))) {
		ret = handle_requests(v);
		if (ret <= 0)
			return ret;
		if (unlikely(v->arch->apf.halted))
			return 1;
	}
	window = unlikely(user_wants_window(v)) && irq_user_slot_free(v);
	if (kvm_check_request(v, REQ_EVENT) || window) {
		kvm_stat_inc(v, req_event);
		kvm_apic_accept_events(v);
		if (v->mp_state != KVM_MP_STATE_RUNNABLE)
			return 1;
		kvm_check_and_inject_events(v, &need_exit);
		if (v->arch->pv.eoi_msr)
			lapic_pv_eoi_to_guest(v);
		if (unlikely(v->arch->vapic_addr) && lapic_enabled(v))
			lapic_vapic_to_guest(v);
		if (window)
			ops->enable_irq_window(v);
		if (unlikely(v->arch->pv.steal_msr))
			kvm_steal_time_tick(v);
	}
	ret = mmu_reload(v);
	if (unlikely(ret)) {
		lapic_from_guest(v);
		ops->cancel_injection(v);
		return ret;
	}
	if (kvm_check_request(v, REQ_LOAD_MMU_PGD))
		load_pgd(v);

	sil_cpu_unkick(v->cpu);
	vcpu_enter_guest_mode(v);
	if (unlikely(vcpu_must_leave(v))) {
		vcpu_leave_guest_mode(v);
		lapic_from_guest(v);
		ops->cancel_injection(v);
		return 1;
	}
	if (unlikely(need_exit)) {
		kvm_make_request(v, REQ_EVENT);
		sil_cpu_kick(v->cpu);
	}
	DEBUG_BUG_ON(!regcache_valid(&v->regs));
	v->arch->ran = true;
	start = kvm_rough_ns(v->kvm);
	fast = ops->vcpu_run(v);
	v->arch->stat.guest_ns += kvm_rough_ns(v->kvm) - start;
	vcpu_leave_guest_mode(v);
	if (unlikely(v->kvm->clock.deterministic))
		deterministic_after_exit(v);
	lapic_from_guest(v);
	kvm_stat_inc(v, exits);
	if (unlikely(v->arch->leave_after) && !--v->arch->leave_after)
		kvm_make_request(v, REQ_INTERRUPT_RUN);
	return ops->handle_exit(v, fast);
}

static int vcpu_loop(struct kvm_vcpu *v)
{
	int ret;

	v->run->exit_reason = KVM_EXIT_UNKNOWN;
	for (;;) {
		if (likely(v->mp_state == KVM_MP_STATE_RUNNABLE && !v->arch->apf.halted))
			ret = vcpu_enter_guest(v);
		else
			ret = vcpu_block(v);
		if (ret <= 0)
			return ret;
		if (unlikely(user_wants_window(v)) && kvm_vcpu_ready_for_interrupt_injection(v)) {
			v->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			kvm_stat_inc(v, request_irq_exits);
			return 0;
		}
		if (unlikely(interrupted(v)))
			return exit_intr(v);
	}
}

/* ---- Registers in the run page (KVM_CAP_SYNC_REGS) ---- */

static int sync_regs(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 dirty = run->kvm_dirty_regs;

	if (dirty & KVM_SYNC_X86_REGS) {
		struct kvm_regs regs = run->s.regs.regs;

		vcpu_set_regs(v, &regs);
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_REGS;
	}
	if (dirty & KVM_SYNC_X86_SREGS) {
		struct kvm_sregs sregs = run->s.regs.sregs;

		if (vcpu_set_sregs(v, &sregs))
			return -EINVAL;
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_SREGS;
	}
	if (dirty & KVM_SYNC_X86_EVENTS) {
		struct kvm_vcpu_events events = run->s.regs.events;

		if (vcpu_set_vcpu_events(v, &events))
			return -EINVAL;
		run->kvm_dirty_regs &= ~(u64)KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

static void store_regs(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	u64 valid = run->kvm_valid_regs;

	if (valid & KVM_SYNC_X86_REGS)
		vcpu_get_regs(v, &run->s.regs.regs);
	if (valid & KVM_SYNC_X86_SREGS)
		vcpu_get_sregs(v, &run->s.regs.sregs);
	if (valid & KVM_SYNC_X86_EVENTS)
		vcpu_get_vcpu_events(v, &run->s.regs.events);
}

static void post_run_save(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;

	run->if_flag = !!(kvm_get_rflags(v) & X86_IF);
	run->cr8 = kvm_get_cr8(v);
	run->apic_base = lapic_get_base(v);
	run->ready_for_interrupt_injection =
		v->kvm->irqchip_kernel || kvm_vcpu_ready_for_interrupt_injection(v);
	if (kvm_is_smm(v))
		run->flags |= KVM_RUN_X86_SMM;
	if (is_guest_mode(v))
		run->flags |= KVM_RUN_X86_GUEST_MODE;
}

/* ---- KVM_RUN ---- */

static int run_prepare(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	int ret;

	if (v->mp_state == KVM_MP_STATE_UNINITIALIZED) {
		if (run->immediate_exit)
			return -EINTR;
		ret = has_events(v) ? 0 : vcpu_sleep(v);
		kvm_apic_accept_events(v);
		if (ret || interrupted(v))
			return exit_intr(v);
		return -EAGAIN;
	}
	if ((run->kvm_valid_regs & ~(u64)KVM_SYNC_X86_VALID_FIELDS) ||
	    (run->kvm_dirty_regs & ~(u64)KVM_SYNC_X86_VALID_FIELDS))
		return -EINVAL;
	if (run->kvm_dirty_regs && sync_regs(v))
		return -EINVAL;
	if (!v->apic && kvm_set_cr8(v, run->cr8))
		return -EINVAL;
	if (v->arch->complete_userspace_io) {
		int (*complete)(struct kvm_vcpu *) = v->arch->complete_userspace_io;

		v->arch->complete_userspace_io = NULL;
		ret = complete(v);
		if (ret <= 0)
			return ret;
	}
	if (unlikely(v->arch->exception_from_user))
		kvm_sort_user_exception(v);
	if (run->immediate_exit)
		return -EINTR;
	kvm_steal_time_run(v);
	/*
	 * User space may have written guest memory, code included, in any way: a device, a loader,
	 * a debugger's breakpoint. What it wrote before KVM_RUN this vCPU sees.
	 */
	sil_code_recheck(v->cpu);
	return 1;
}

static int bugged(struct kvm_vcpu *v, const struct bug_recovery *r)
{
	/* The text where a person looks, its start where a program does. */
	base_log(LOG_ERROR, "vCPU %u: %s", v->id, r->text);
	__atomic_store_n(&v->kvm->arch->bugged, true, __ATOMIC_RELEASE);
	vcpu_leave_guest_mode(v);
	memset(&v->run->internal, 0, sizeof(v->run->internal));
	v->run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	v->run->internal.suberror = KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON;
	v->run->internal.ndata = 16;
	snprintf((char *)v->run->internal.data, sizeof(v->run->internal.data), "%.127s", r->text);
	return 0;
}

static int run_recovering(struct kvm_vcpu *v)
{
	struct bug_recovery recovery, *outer;
	jmp_buf jmp;
	int ret;

	recovery.jmp = &jmp;
	if (_setjmp(jmp)) {
		bug_recovery_set(NULL);
		return bugged(v, &recovery);
	}
	outer = bug_recovery_set(&recovery);
	v->run->flags = 0;
	ret = run_prepare(v);
	if (ret > 0)
		ret = vcpu_loop(v);
	if (v->run->kvm_valid_regs && !(v->run->kvm_valid_regs & ~(u64)KVM_SYNC_X86_VALID_FIELDS))
		store_regs(v);
	post_run_save(v);
	bug_recovery_set(outer);
	return ret;
}

int vcpu_run(struct kvm_vcpu *v)
{
	struct vcpu_stat *stat = &v->arch->stat;
	u64 start, elsewhere;
	int ret;

	if (__atomic_load_n(&v->kvm->arch->bugged, __ATOMIC_ACQUIRE))
		return -EIO;
	VCPU_TRACE(run, v);
	start = kvm_now_ns(v->kvm);
	elsewhere = stat->guest_ns + stat->halt_wait_ns;
	ret = run_recovering(v);
	elsewhere = stat->guest_ns + stat->halt_wait_ns - elsewhere;
	stat->core_ns += kvm_now_ns(v->kvm) - start - elsewhere;
	VCPU_TRACE(return, v, ret);
	/* Whatever the reason for leaving, the request to leave is met. */
	if (ret == -EINTR)
		kvm_check_request(v, REQ_INTERRUPT_RUN);
	return ret;
}

/* ---- KVM_PRE_FAULT_MEMORY ---- */

static u64 page_bytes(unsigned level)
{
	return 1ull << (PAGE_SHIFT + 9 * (level - 1));
}

int vcpu_pre_fault_memory(struct kvm_vcpu *v, struct kvm_pre_fault_memory *range)
{
	u64 all = range->size, end;
	u8 level = 1;
	int ret = 0;

	if (range->flags || (range->gpa | range->size) & (PAGE_SIZE - 1) ||
	    range->gpa + range->size <= range->gpa)
		return -EINVAL;
	while (range->size && !ret) {
		if (interrupted(v)) {
			kvm_check_request(v, REQ_INTERRUPT_RUN);
			ret = -EINTR;
			break;
		}
		ret = mmu_map_gpa(v, range->gpa, 0, &level);
		if (ret)
			break;
		end = (range->gpa | (page_bytes(MAX(level, 1)) - 1)) + 1;
		end = MIN(end - range->gpa, range->size);
		range->gpa += end;
		range->size -= end;
	}
	return range->size != all ? 0 : ret;
}
