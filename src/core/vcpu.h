/* SPDX-License-Identifier: MIT */
/*
 * struct vcpu_arch and the functions the parts of the core share about one vCPU. Everything here
 * belongs to the vCPU's own thread (the one that holds its mutex) unless it says "any thread".
 */
#ifndef CORE_VCPU_H
#define CORE_VCPU_H

#include "core/apf.h"
#include "core/kvm_host.h"
#include "core/regs.h"
#include "core/service.h"
#include "core/stats.h"
#include "core/trace.h"
#include "core/vm.h"

/*
 * An exception on its way into the guest: pending until its side effects (CR2, DR6) are done and it
 * is handed to the hardware, injected from then until the guest has it.
 */
struct queued_exception {
	bool pending, injected, has_error, has_payload;
	u8 vector;
	u8 type; /* as VM entry has it, of one that is delivered again; 0: the vector's usual one */
	u32 error;
	u64 payload; /* #PF: CR2, #DB: DR6 bits to set (bit 16 inverted) */
};

struct queued_interrupt {
	bool injected, soft;
	u8 nr;
};

/* The guest's view of IA32_MTRR_*, kept for the guest to read back: memory is always write-back. */
struct mtrr_state {
	u64 def_type;
	u64 fixed[11];
	u64 var[16]; /* base, mask pairs */
};

#define KVM_MAX_MCE_BANKS 32
struct mce_state {
	u64 mcg_cap, mcg_status, mcg_ctl, mcg_ext_ctl;
	u64 banks[KVM_MAX_MCE_BANKS * 4];
	u64 ctl2[KVM_MAX_MCE_BANKS];
};

struct pv_state {
	u64 system_time_msr; /* as written: gpa | enable */
	bool guest_paused_request;
	u64 steal_msr;
	u64 steal_last;	    /* run delay already reported, ns */
	u64 steal_next_ns;  /* when to look again */
	u64 steal_run_ns;   /* when to look again at KVM_RUN */
	u64 steal_switches; /* of the thread, when steal_last was found */
	u64 eoi_msr;
	bool eoi_pending; /* the guest may be ending an interrupt in memory */
	u64 poll_control;
	bool enforce; /* KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
};

/* core/hyperv.h */
struct hv_vcpu {
	bool enabled; /* CPUID says that this is Hyper-V */
	bool enforce; /* KVM_CAP_HYPERV_ENFORCE_CPUID: only what CPUID offers is there */
	u32 vp_index;
	u32 spin_retries; /* CPUID; ~0: the guest is not to tell of long spins */
	u64 assist_msr;
	u32 flush; /* atomic: levels whose translations others have asked to be flushed */
	/* How L1 names the L2 that runs or ran here; any thread reads. */
	u64 l2_vm;
	u32 l2_vp;
};

struct vcpu_arch {
	struct kvm_vcpu *vcpu;	 /* whose this is */
	struct ktimer sil_timer; /* the processor's own (preemption timer) */

	/* ---- Events ---- */
	struct queued_exception exception;
	struct queued_exception exception_vmexit; /* pending in L2, for L1 */
	/* A pending exception was set by user space, who does not know if L1 wants it. */
	bool exception_from_user;
	struct queued_interrupt interrupt;
	bool nmi_injected;
	u32 nmi_queued;	      /* any thread, atomic: arrived and not yet looked at */
	unsigned nmi_pending; /* at most 2 */
	bool smi_pending;
	bool smm_inside_nmi; /* NMIs were blocked when SMM was entered */
	u8 event_exit_inst_len;
	u32 leave_after; /* exits until KVM_RUN returns EINTR; 0: no such thing is asked */
	u8 sipi_vector;
	bool init_pending_without_apic;
	bool pv_unhalted;

	/* ---- State that is neither in v->hw nor in the register cache ---- */
	u64 efer;
	u64 pat;
	u64 misc_enable;
	u64 ucode_rev, arch_capabilities, perf_capabilities;
	u64 feat_ctl;
	u64 smbase, smi_count;
	u64 misc_features_enables;
	u64 platform_info;
	u64 tsx_ctrl;
	u64 umwait_control;
	u64 power_ctl;
	u64 hwcr;
	bool smm;	 /* in system-management mode */
	bool guest_mode; /* an L2 runs */
	u64 cr0_guest_owned, cr4_guest_owned;
	u64 hw_cr0_always_on;

	/* ---- Guest debugging ---- */
	u32 guest_debug; /* KVM_GUESTDBG_* */
	u64 guest_debug_dr7;
	u64 db[4];     /* the guest's DR0-3 while user space's are loaded */
	u64 dr7;       /* the guest's DR7 */
	u64 eff_db[4]; /* user space's */
	u64 singlestep_rip;

	/* ---- CPUID ---- */
	struct kvm_cpuid_entry2 *cpuid;
	u32 ncpuid;
	u64 cpuid_bits[16]; /* what guest_cpuid_has looks at, by enum cpu_feature */
	u64 supported_xcr0, supported_xss;
	unsigned maxphyaddr;
	u64 reserved_gpa_bits;
	u64 cr4_reserved;
	unsigned va_bits; /* of the guest's CPUID: 48 or 57 */
	bool cpuid_fault;

	/* ---- Time: core/tsc.h ---- */
	u32 tsc_khz;
	u64 tsc_offset, tsc_multiplier; /* of what runs now */
	u64 l1_tsc_offset, l1_tsc_multiplier;
	u64 tsc_adjust; /* IA32_TSC_ADJUST */
	bool tsc_always_catchup;
	u64 tsc_generation;

	struct pv_state pv;
	struct apf_state apf;
	struct hv_vcpu hv;
	u32 kvm_cpuid_base; /* of KVM's own leaves; 0: the guest has none */
	bool tpr_access_reporting;
	gpa_t vapic_addr; /* 0: none */
	struct mtrr_state mtrr;
	struct mce_state mce;

	/* ---- User-space round trips ---- */
	/* The rest of an instruction that went to user space: 1 go on, 0 exit again, < 0 error. */
	int (*complete_userspace_io)(struct kvm_vcpu *v);
	u32 user_msr_index;
	bool ran; /* entered the guest at least once */

	struct vcpu_vmx *vmx;
	struct vcpu_stat stat;
	struct vcpu_trace trace;
};

/* ---- vcpu.c, vcpu_event.c: events ---- */

void kvm_queue_exception(struct kvm_vcpu *v, unsigned vector);
void kvm_queue_exception_e(struct kvm_vcpu *v, unsigned vector, u32 error);
/* #DB with these DR6 bits (as the hardware reports them: bit 16 set means RTM). */
void kvm_queue_exception_p(struct kvm_vcpu *v, unsigned vector, u64 payload);
/* #PF at @addr; goes where the paging mode says. */
void kvm_inject_page_fault(struct kvm_vcpu *v, u64 addr, u32 error);
/* #GP(0) and 1: what an exit handler returns for a refused access. */
int kvm_inject_gp(struct kvm_vcpu *v);
/* @err != 0: #GP(0), else skips the instruction. Returns as an exit handler does. */
int kvm_complete_insn_gp(struct kvm_vcpu *v, int err);
int kvm_skip_emulated_instruction(struct kvm_vcpu *v);
void kvm_queue_interrupt(struct kvm_vcpu *v, u8 nr, bool soft);
void kvm_clear_interrupt_queue(struct kvm_vcpu *v);
void kvm_clear_exception_queue(struct kvm_vcpu *v);
/* One NMI. Any thread. */
void kvm_inject_nmi(struct kvm_vcpu *v);
bool kvm_event_needs_reinjection(struct kvm_vcpu *v);
/* An exception that user space made pending in L2 becomes an exit if L1 intercepts it. */
void kvm_sort_user_exception(struct kvm_vcpu *v);
/* Applies the payload to CR2 or DR6. */
void kvm_deliver_exception_payload(struct kvm_vcpu *v, struct queued_exception *ex);
/*
 * Raised by an instruction of its own (INT3, INTO, INT1): KVM_GET_VCPU_EVENTS has no room for the
 * instruction's length. The instruction is executed again.
 */
bool kvm_exception_is_soft(const struct queued_exception *ex);
int kvm_cpu_has_injectable_intr(struct kvm_vcpu *v);
bool kvm_vcpu_ready_for_interrupt_injection(struct kvm_vcpu *v);
/* @need_exit: the guest must exit again before its first instruction. */
void kvm_check_and_inject_events(struct kvm_vcpu *v, bool *need_exit);
/* REQ_NMI: those that arrived become pending. */
void kvm_process_nmi(struct kvm_vcpu *v);
void vcpu_events_reset(struct kvm_vcpu *v);
/* KVM_EXIT_SHUTDOWN for a processor that shut itself down. Returns 0. */
int kvm_exit_shutdown(struct kvm_vcpu *v);
/* KVM_EXIT_INTERNAL_ERROR. Returns 0. */
int kvm_exit_internal_error(struct kvm_vcpu *v, u32 suberror, const u64 *data, unsigned ndata);

/* ---- vcpu_run.c ---- */
bool kvm_vcpu_runnable(struct kvm_vcpu *v);
int kvm_emulate_halt(struct kvm_vcpu *v);
/* As kvm_emulate_halt without moving RIP. */
int kvm_emulate_halt_noskip(struct kvm_vcpu *v);
void kvm_vcpu_reset(struct kvm_vcpu *v, bool init);
/* INIT and SIPI that have arrived. */
void kvm_apic_accept_events(struct kvm_vcpu *v);
bool kvm_vcpu_is_bsp(const struct kvm_vcpu *v);

/* ---- vcpu_cr.c: control registers as instructions write them. 0, or 1 for #GP(0) ---- */
int kvm_set_cr0(struct kvm_vcpu *v, u64 val);
int kvm_set_cr3(struct kvm_vcpu *v, u64 val);
int kvm_set_cr4(struct kvm_vcpu *v, u64 val);
int kvm_set_cr8(struct kvm_vcpu *v, u64 val);
u64 kvm_get_cr8(struct kvm_vcpu *v);
void kvm_lmsw(struct kvm_vcpu *v, u16 msw);
int kvm_set_xcr(struct kvm_vcpu *v, u32 index, u64 val);
int kvm_set_dr(struct kvm_vcpu *v, unsigned dr, u64 val);
u64 kvm_get_dr(struct kvm_vcpu *v, unsigned dr);
bool kvm_is_valid_cr4(struct kvm_vcpu *v, u64 cr4);
bool kvm_is_legal_gpa(const struct kvm_vcpu *v, u64 gpa);
/* DR4/DR5 with CR4.DE: queues #UD and returns false. */
bool kvm_require_dr(struct kvm_vcpu *v, unsigned dr);
bool kvm_require_cpl(struct kvm_vcpu *v, unsigned cpl);
/* Reads the four PDPTEs at CR3 into the cache. False if one is invalid. */
bool kvm_load_pdptrs(struct kvm_vcpu *v, u64 cr3);
void kvm_update_dr7(struct kvm_vcpu *v);
/* CR0 or CR4 bits that the page-table role hangs on have changed, or EFER.NX. */
void kvm_post_set_cr0(struct kvm_vcpu *v, u64 old_cr0, u64 cr0);
void kvm_post_set_cr4(struct kvm_vcpu *v, u64 old_cr4, u64 cr4);

/* ---- Instructions with a hypervisor's semantics; return as exit handlers ---- */
int kvm_emulate_cpuid(struct kvm_vcpu *v);
int kvm_emulate_rdmsr(struct kvm_vcpu *v);
int kvm_emulate_wrmsr(struct kvm_vcpu *v);
int kvm_emulate_hypercall(struct kvm_vcpu *v);
int kvm_emulate_xsetbv(struct kvm_vcpu *v);
int kvm_emulate_invd(struct kvm_vcpu *v);
int kvm_emulate_monitor(struct kvm_vcpu *v);
int kvm_emulate_mwait(struct kvm_vcpu *v);
int kvm_handle_invalid_op(struct kvm_vcpu *v);
void kvm_vcpu_on_spin(struct kvm_vcpu *v, bool in_kernel);

/* The shadow that the guest's single step has: KVM_EXIT_DEBUG or #DB after an emulated step. */
int kvm_vcpu_do_singlestep(struct kvm_vcpu *v);

/* DR6 and DR7 (SDM vol. 3B, 18.2). A debug exit reports DR6 bits with bits 11 and 16 inverted. */
#define DR6_BD	       BIT(13)
#define DR6_BS	       BIT(14)
#define DR6_BT	       BIT(15)
#define DR6_RTM	       BIT(16)
#define DR6_BUS_LOCK   BIT(11)
#define DR6_ACTIVE_LOW 0xffff0ff0ull
#define DR6_VOLATILE   0x0001e80full
#define DR6_FIXED_1    (DR6_ACTIVE_LOW & ~DR6_VOLATILE)
#define DR7_GD	       BIT(13)
#define DR7_FIXED_1    0x400ull
#define DR7_VOLATILE   0xffff2bffull
#define DR7_BP_EN_MASK 0xffull

#define kvm_stat_inc(v, name) ((v)->arch->stat.name++)
#define vm_stat_inc(kvm, name) \
	((void)__atomic_fetch_add(&(kvm)->arch->stat.name, 1, __ATOMIC_RELAXED))

/* Blocked in SMM; in L2 also until an entry that L1 began is complete: nested->smi_allowed. */
static inline bool kvm_smi_allowed(const struct kvm_vcpu *v)
{
	return !v->arch->smm;
}

static inline bool kvm_is_smm(const struct kvm_vcpu *v)
{
	return v->arch->smm;
}

static inline bool kvm_check_has_quirk(const struct kvm *kvm, u64 quirk)
{
	return !(kvm->arch->disabled_quirks & quirk);
}

static inline bool is_guest_mode(const struct kvm_vcpu *v)
{
	return v->arch->guest_mode;
}

/* VMX root operation and SMM hold INIT back. */
static inline bool kvm_init_blocked(struct kvm_vcpu *v)
{
	return v->arch->smm || (v->kvm->ops->nested && v->kvm->ops->nested->init_blocked(v));
}

/* irqchip/lapic_pv_eoi.c: did the guest end the interrupt, or not? */
void lapic_pv_eoi_sync(struct kvm_vcpu *v);
/* Before the APIC's registers are looked at. */
static inline void lapic_pv_eoi_from_guest(struct kvm_vcpu *v)
{
	if (unlikely(v->arch->pv.eoi_pending))
		lapic_pv_eoi_sync(v);
}

/* irqchip/lapic_vapic.c: the word that KVM_SET_VAPIC_ADDR tells of. */
void lapic_vapic_from_guest(struct kvm_vcpu *v);
void lapic_vapic_to_guest(struct kvm_vcpu *v);
/* After each exit: what the guest did to its APIC in memory. */
static inline void lapic_from_guest(struct kvm_vcpu *v)
{
	lapic_pv_eoi_from_guest(v);
	if (unlikely(v->arch->vapic_addr))
		lapic_vapic_from_guest(v);
}

#endif
