/* SPDX-License-Identifier: MIT */
/*
 * VMX for guests. L1 is the guest hypervisor, L2 its guest; vmcs01 runs L1, vmcs12 is what L1
 * wrote, vmcs02 runs L2 with both hypervisors' wishes. docs/nested.md has the story.
 *
 * All belongs to the vCPU's own thread.
 */
#ifndef CORE_VMX_NESTED_H
#define CORE_VMX_NESTED_H

#include "core/cpuid.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/vmx/vmx.h"
#include "spec/check.h"
#include "spec/vmcs12.h"

#define VMPTR_NONE (~0ull)

#define NESTED_REFUSALS 4
/* In the place of a VM-instruction error: the instruction ends in #UD. */
#define NESTED_REFUSED_UD (~0u)

/* Enlightened VMCSs: evmcs.c. */
#define EVMCS_VERSION 1
#define EVMCS_SIZE    1024
/* Saved state has one: where it is, the VP assist page will say. */
#define EVMCS_PENDING (~0ull - 1)

struct nested_evmcs {
	bool enabled; /* KVM_CAP_HYPERV_ENLIGHTENED_VMCS */
	u64 ptr;      /* the active one in L1's memory, EVMCS_PENDING, or VMPTR_NONE */
	u32 clean;    /* clean fields of this entry */
	u32 enlightenments;
	u64 partition_assist;
	bool direct_flush;  /* L0 answers L2's hypercalls for flushes */
	bool bitmap_merged; /* the MSR bitmap of vmcs02 is made of this one's */
	u64 cap[CAP_N];	    /* nested_vmx.cap, as far as one can express it */
};

struct nested_vmx {
	bool vmxon;
	/* The entry that VMLAUNCH or VMRESUME began has not reached the processor yet: L2 must run,
	 * if only to its first instruction boundary, before anything exits to L1. */
	bool run_pending;
	bool mtf_pending;
	bool pi_pending; /* posted interrupts are to be taken over */
	bool pml_full;
	bool smm_vmxon, smm_guest_mode; /* what the SMI that led to SMM has interrupted */
	u64 vmxon_ptr;
	u64 current_vmptr;

	/* IA32_VMX_*: what this vCPU offers. User space may take features away. */
	u64 cap[CAP_N];

	/* Of current_vmptr or the enlightened VMCS; authoritative but for what the sets say. */
	struct vmcs12 *vmcs12;
	struct nested_evmcs evmcs;
	struct vmcs12 *shadow_vmcs12; /* what vmcs12's link pointer names, while L2 runs */
	struct loaded_vmcs vmcs02;
	u8 *msr_bitmap02;
	void *shadow_vmcs; /* the processor's, for L1's VMREADs and VMWRITEs without exit */
	bool shadow_known; /* in_shadow says what it holds, but for what L1 writes without exit */
	/* Fields of the shadow VMCS that may be newer than vmcs12's, with their ordinals. */
	struct sil_vmcs_list from_shadow;
	u8 from_shadow_nr[SIL_VMCS_LIST];
	/* What each exit to L1 reads of vmcs02, and writes to vmcs01 (exit.c). */
	struct sil_vmcs_list saved, info, host;
	u64 in_shadow[VMCS_NFIELDS];
	u16 vpid02, last_vpid;

	/* Written by L1 since vmcs02 was made from it: to be copied at the next entry. */
	struct vmcs_set dirty;
	u32 check_dirty; /* enum check_topic: what the entry checks have to look at again */
	bool controls_dirty;
	bool vmcs02_ready;     /* its constant part is written */
	bool rare_unsynced;    /* vmcs02 has newer values of the rare guest-state fields */
	bool need_shadow_sync; /* vmcs12 is newer than the shadow VMCS */
	bool host_was_64bit;
	u32 kept; /* reason + 1 of the last exit of L2, if L0 has it; else 0 */

	u64 pages_generation; /* of the slots that the addresses in vmcs02 are from */
	hva_t vapic_page, apic_access_page, pi_desc;
	u64 pre_entry_debugctl;

	bool has_timer_deadline;
	u64 timer_deadline; /* in L1's TSC >> NESTED_TIMER_SHIFT */

	struct check_ctx check;
	/* What was refused last, in a ring: for dumps. */
	struct nested_refusal {
		const char *insn;
		struct check_failure f;
		char note[96];
	} refusal[NESTED_REFUSALS];
	char note[96]; /* nested_note's, for the next refusal */
	/* Frames + 1 whose misconfigured EPT entries have been explained: KVM as L1 has them for
	 * MMIO. */
	u64 explained[16];
	unsigned nexplained;
	unsigned nrefusals;
};

/* IA32_VMX_MISC[4:0] as L1 sees it. */
#define NESTED_TIMER_SHIFT 5

static inline struct nested_vmx *nested_of(struct kvm_vcpu *v)
{
	return vmx_of(v)->nested;
}

static inline struct vmcs12 *vmcs12_of(struct kvm_vcpu *v)
{
	return vmx_of(v)->nested->vmcs12;
}

static inline bool nested_evmcs_active(const struct nested_vmx *n)
{
	return n->evmcs.ptr != VMPTR_NONE;
}

/* Is there a VMCS of L1 to work with? */
static inline bool nested_has_vmcs12(const struct nested_vmx *n)
{
	return n->current_vmptr != VMPTR_NONE || nested_evmcs_active(n);
}

static inline bool v12_pin(const struct vmcs12 *v12, u32 bit)
{
	return V12(v12, PIN_BASED_VM_EXEC_CONTROL) & bit;
}

static inline bool v12_cpu(const struct vmcs12 *v12, u32 bit)
{
	return V12(v12, CPU_BASED_VM_EXEC_CONTROL) & bit;
}

static inline bool v12_cpu2(const struct vmcs12 *v12, u32 bit)
{
	return v12_cpu(v12, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) &&
	       (V12(v12, SECONDARY_VM_EXEC_CONTROL) & bit);
}

static inline bool v12_exit(const struct vmcs12 *v12, u32 bit)
{
	return V12(v12, VM_EXIT_CONTROLS) & bit;
}

static inline bool v12_entry(const struct vmcs12 *v12, u32 bit)
{
	return V12(v12, VM_ENTRY_CONTROLS) & bit;
}

/* What L2 reads in a control register of value @real, of which L1 masks bits. */
static inline u64 v12_cr0_shadow(const struct vmcs12 *v12, u64 real)
{
	u64 mask = V12(v12, CR0_GUEST_HOST_MASK);

	return (real & ~mask) | (V12(v12, CR0_READ_SHADOW) & mask);
}

static inline u64 v12_cr4_shadow(const struct vmcs12 *v12, u64 real)
{
	u64 mask = V12(v12, CR4_GUEST_HOST_MASK);

	return (real & ~mask) | (V12(v12, CR4_READ_SHADOW) & mask);
}

/* ---- Life (nested.c) ---- */
int nested_vcpu_create(struct kvm_vcpu *v); /* 0 or -ENOMEM */
void nested_vcpu_free(struct kvm_vcpu *v);
void nested_after_set_cpuid(struct kvm_vcpu *v);
/* Out of L2 without telling L1, and out of VMX operation: reset, INIT, state set by user space. */
void nested_leave(struct kvm_vcpu *v);
int nested_enter_operation(struct kvm_vcpu *v); /* VMXON's work. 0 or -ENOMEM */
void nested_leave_operation(struct kvm_vcpu *v);
/* @l becomes the current VMCS; what was dirty in the register cache is stored in the old one. */
void nested_switch_vmcs(struct kvm_vcpu *v, struct loaded_vmcs *l);
bool nested_cr0_valid(struct kvm_vcpu *v, u64 cr0);
bool nested_cr4_valid(struct kvm_vcpu *v, u64 cr4);
extern const struct kvm_x86_nested_ops vmx_nested_ops;

/* ---- Capability MSRs (caps.c) ---- */
int nested_feature_msr(const struct vmx_config *c, u32 index, u64 *val);
void nested_caps_init(const struct vmx_config *c, u64 cap[CAP_N]);
int nested_get_cap(struct kvm_vcpu *v, u32 index, u64 *val);
int nested_set_cap(struct kvm_vcpu *v, u32 index, u64 val);

/* ---- vmcs12 and the shadow VMCS (vmcs12.c) ---- */
void nested_set_vmptr(struct kvm_vcpu *v, u64 vmptr);
void nested_release_vmcs12(struct kvm_vcpu *v);
/* L1 wrote field @nr of the current vmcs12, which held @old. */
void nested_mark_dirty(struct nested_vmx *n, unsigned nr, u64 old, u64 val);
void nested_mark_all_dirty(struct nested_vmx *n);
void nested_shadow_init(struct kvm_vcpu *v); /* after VMXON */
void nested_shadow_to_vmcs12(struct kvm_vcpu *v);
void nested_vmcs12_to_shadow(struct kvm_vcpu *v);
/* L1's VMWRITE of field @nr has exited. */
void nested_shadow_write(struct kvm_vcpu *v, unsigned nr, u64 val);
/* Is @nr one of the guest-state fields that are synchronized only when somebody looks? */
bool nested_is_rare(unsigned nr);
/* vmcs02 is current: copies them. */
void nested_sync_rare(struct kvm_vcpu *v);
/* vmcs01 is current: copies them if they are newer. */
void nested_fetch_rare(struct kvm_vcpu *v);
/* The shadow VMCS of L1 (L2's VMREADs): read and written back around an L2's run. */
void nested_cache_shadow_vmcs12(struct kvm_vcpu *v);
void nested_flush_shadow_vmcs12(struct kvm_vcpu *v);

/* ---- Enlightened VMCSs (evmcs.c, evmcs_caps.c) ---- */
enum nested_evmcs_use { EVMCS_UNUSED, EVMCS_USED, EVMCS_REFUSED };
/* A VM entry: is it with an enlightened VMCS? Then vmcs12 has its fields. EVMCS_REFUSED: *@ret is
 * what the exit handler returns. */
enum nested_evmcs_use nested_evmcs_use(struct kvm_vcpu *v, const char *insn, bool launch, int *ret);
/* L0 has taken over what it was given: its clean fields are set. */
void nested_evmcs_entered(struct kvm_vcpu *v);
/* Before L1 runs after an exit. */
void nested_evmcs_store(struct kvm_vcpu *v);
void nested_evmcs_store_field(struct kvm_vcpu *v, u32 encoding);
/* L1 runs: what it has written so far, for saved state. */
void nested_evmcs_fetch(struct kvm_vcpu *v);
/* Has L1 turned to another since the last entry? Then its memory has all there is of this one. */
bool nested_evmcs_left(struct kvm_vcpu *v);
/* EVMCS_PENDING: finds it. */
void nested_evmcs_resolve(struct kvm_vcpu *v);
void nested_evmcs_release(struct kvm_vcpu *v);
/* VMCLEAR of what is, or may be, an enlightened VMCS: done. */
bool nested_evmcs_vmclear(struct kvm_vcpu *v, u64 ptr);
/* VMREAD. False: it has no such field. */
bool nested_evmcs_read(struct kvm_vcpu *v, u32 encoding, u64 *val);
/* Does L1 vouch for its MSR bitmap being what has been merged? */
bool nested_evmcs_bitmap_is_clean(struct kvm_vcpu *v);
/* A VMCALL of L2 that L0 answers; and what follows when it has. */
bool nested_evmcs_takes_vmcall(struct kvm_vcpu *v);
void nested_evmcs_flushed(struct kvm_vcpu *v);
/* May L1 use them? */
bool nested_evmcs_offered(const struct kvm_vcpu *v);
/* Does the layout have a field that vmcs12 has? */
bool nested_evmcs_has(u32 encoding);
/* The capabilities, CPUID, or whether they are offered has changed. */
void nested_evmcs_update_caps(struct kvm_vcpu *v);
/* A capability MSR of value @val as L1 reads it. */
u64 nested_evmcs_guest_cap(struct kvm_vcpu *v, u32 index, u64 val);
/* Highest version << 8 | lowest; 0: not enabled. @v NULL: what there is. */
u16 nested_evmcs_version(const struct kvm_vcpu *v);
int nested_evmcs_enable(struct kvm_vcpu *v, u16 *version);

/* ---- Operands and results of instructions (operand.c) ---- */
/* Linear address of the memory operand. 0, or 1: an exception is queued. */
int nested_operand_address(struct kvm_vcpu *v, u64 displacement, u32 info, bool write, unsigned len,
			   gva_t *out);
/* Memory as an instruction at CPL 0 reaches it. 0, or 1: an exception is queued. */
int nested_read_operand(struct kvm_vcpu *v, gva_t gva, void *dst, unsigned len);
int nested_write_operand(struct kvm_vcpu *v, gva_t gva, const void *src, unsigned len);
/* A field as it is stored: access rights have reserved bits that processors drop. */
u64 nested_stored_value(u32 field, u64 val);
/* SDM, 31.2; each skips the instruction and returns as an exit handler. */
int nested_succeed(struct kvm_vcpu *v);
int nested_fail_invalid(struct kvm_vcpu *v);
int nested_fail(struct kvm_vcpu *v, u32 error);

/* ---- Explanations (explain.c) ---- */
/* Keeps and, if asked for, logs why an instruction or entry of L1 was refused. */
void nested_explain(struct kvm_vcpu *v, const char *insn, const struct check_failure *f);
void nested_explain_because(struct kvm_vcpu *v, const char *insn, u32 error, const char *id,
			    const char *rule, const char *section, u64 value);

/* Adds words to the next explanation: what has been found. */
void __printf(2, 3) nested_note(struct kvm_vcpu *v, const char *fmt, ...);
/* L2 has met a misconfigured entry of EPT12 (29.3.3.1): which, and why. */
void nested_explain_ept(struct kvm_vcpu *v, gpa_t gpa);

/* The @i-th last refusal as text without the end of the line. False: there are not so many. */
bool nested_refusal_text(struct kvm_vcpu *v, unsigned i, char *buf, size_t n);
/* The processor has refused vmcs02, which passed our checks: a mistake of L0, or state that user
 * space or an SMM handler has put into L2. */
void nested_explain_vmcs02(struct kvm_vcpu *v);
/* Was L2 refused only because L1's memory has changed under the entry? Then once more. */
bool nested_entry_raced(struct kvm_vcpu *v);

/* ---- Entry (entry.c, vmcs02.c, pages.c) ---- */
int nested_run(struct kvm_vcpu *v, bool launch); /* VMLAUNCH and VMRESUME */
enum nested_entry { NESTED_ENTERED, NESTED_FAILED_LATE, NESTED_ERROR };
/* @from_entry: by L1's instruction; else state set by user space. */
enum nested_entry nested_enter(struct kvm_vcpu *v, bool from_entry);
/* Runs the entry checks that have become doubtful. False: *@f says which failed. */
bool nested_check(struct kvm_vcpu *v, enum check_group first, enum check_group last,
		  struct check_failure *f);
bool nested_eptp_valid(struct kvm_vcpu *v, u64 eptp);
void nested_prepare_controls(struct kvm_vcpu *v);
void nested_prepare_state(struct kvm_vcpu *v, u64 l1_dr7);
/* L2 runs on @eptp from now on, read as vmcs12's controls say. */
void nested_enter_ept12(struct kvm_vcpu *v, u64 eptp);
/* Translates the addresses in vmcs12 that the processor itself uses. vmcs02 is current. False:
 * there is no memory. */
bool nested_map_pages(struct kvm_vcpu *v);
/* Before each run of L2: are they still right, and the timer's value. 1, or 0 with an exit to user
 * space. */
int nested_before_run(struct kvm_vcpu *v);
void nested_merge_msr_bitmap(struct kvm_vcpu *v);
void nested_mark_pages_dirty(struct kvm_vcpu *v);
/* CR3 of L2 or L1, with PDPTEs if @load_pdptes. False: they are invalid. */
bool nested_load_cr3(struct kvm_vcpu *v, u64 cr3, bool load_pdptes);
void nested_transition_flush(struct kvm_vcpu *v, bool entry);
/* Flushes asked of the context that is being left. */
void nested_service_flushes(struct kvm_vcpu *v);
u64 nested_calc_tsc_offset(struct kvm_vcpu *v);
u64 nested_calc_tsc_multiplier(struct kvm_vcpu *v);
u64 nested_timer_remaining(struct kvm_vcpu *v); /* as the VMCS field has it */

/* ---- MSR lists (msrlist.c): 0, or the number of the entry that is refused ---- */
u32 nested_load_msrs(struct kvm_vcpu *v, u64 addr, u32 count);
u32 nested_store_msrs(struct kvm_vcpu *v, u64 addr, u32 count);

/* ---- Exit (exit.c, route.c) ---- */
#define NESTED_EXIT_SILENT (~0u) /* L1 is not told: nested_leave */
void nested_vmexit(struct kvm_vcpu *v, u32 reason, u32 intr_info, u64 qualification);
/* The exit that just happened in L2: true if L1 has got it. */
bool nested_reflect(struct kvm_vcpu *v);
void nested_exit_init(struct kvm_vcpu *v);
void nested_load_host_state(struct kvm_vcpu *v);
/* vmcs02's guest state into vmcs12, but for the rare fields. vmcs02 is current. */
void nested_sync_vmcs12(struct kvm_vcpu *v);
/* An entry that failed after vmcs12 was accepted: reason | bit 31. vmcs01 is current. */
void nested_fail_late(struct kvm_vcpu *v, u32 reason, u64 qualification);
bool nested_exception_wanted(const struct vmcs12 *v12, unsigned vector, u32 error);
bool nested_io_wanted(struct kvm_vcpu *v, u16 port, unsigned size);

/* ---- Events (event.c) ---- */
int nested_check_events(struct kvm_vcpu *v);
bool nested_has_events(struct kvm_vcpu *v);
bool nested_is_exception_vmexit(struct kvm_vcpu *v, unsigned vector, u32 error);
void nested_triple_fault(struct kvm_vcpu *v);
bool nested_init_blocked(struct kvm_vcpu *v);
u64 nested_timer_expires_ns(struct kvm_vcpu *v); /* ~0: does not run */
void nested_ept_inject(struct kvm_vcpu *v, const struct guest_fault *f);
bool nested_log_dirty(struct kvm_vcpu *v, gpa_t gpa);

/* ---- System-management mode (smm.c) ---- */
void nested_enter_smm(struct kvm_vcpu *v);
int nested_leave_smm(struct kvm_vcpu *v); /* 0 or -EINVAL: L2 cannot go on */
bool nested_smi_allowed(struct kvm_vcpu *v);

/* ---- Saved state (state.c) ---- */
int nested_get_state(struct kvm_vcpu *v, struct kvm_nested_state *s, u32 size);
int nested_set_state(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size);

/* ---- Instructions (insn.c): exit handlers ---- */
int nested_handle_vmxon(struct kvm_vcpu *v);
int nested_handle_vmxoff(struct kvm_vcpu *v);
int nested_handle_vmclear(struct kvm_vcpu *v);
int nested_handle_vmptrld(struct kvm_vcpu *v);
int nested_handle_vmptrst(struct kvm_vcpu *v);
int nested_handle_vmread(struct kvm_vcpu *v);
int nested_handle_vmwrite(struct kvm_vcpu *v);
int nested_handle_vmlaunch(struct kvm_vcpu *v);
int nested_handle_vmresume(struct kvm_vcpu *v);
int nested_handle_invept(struct kvm_vcpu *v);
int nested_handle_invvpid(struct kvm_vcpu *v);
int nested_handle_vmfunc(struct kvm_vcpu *v);

#endif
