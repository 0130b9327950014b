/* SPDX-License-Identifier: MIT */
/*
 * What a vendor back end (vmx, later svm) does for the vCPU code. The table is filled once, as a
 * whole; the members in the last group may be NULL. All are called by the vCPU's own thread outside
 * the guest, unless they say otherwise.
 */
#ifndef CORE_X86_OPS_H
#define CORE_X86_OPS_H

#include "core/kvm_host.h"

enum exit_fastpath { EXIT_FASTPATH_NONE, EXIT_FASTPATH_REENTER };

struct kvm_x86_ops {
	const char *name; /* "vmx" */

	/* Life. 0 or -errno. */
	int (*vm_init)(struct kvm *kvm);
	void (*vm_destroy)(struct kvm *kvm);
	int (*vcpu_create)(struct kvm_vcpu *v);
	void (*vcpu_free)(struct kvm_vcpu *v);
	void (*vcpu_reset)(struct kvm_vcpu *v, bool init);
	/* CPUID was set: bits that the vendor's controls depend on. */
	void (*vcpu_after_set_cpuid)(struct kvm_vcpu *v);

	/* Registers. cache_reg brings one register of the lazy set into the cache. */
	void (*cache_reg)(struct kvm_vcpu *v, enum kvm_reg reg);
	u64 (*get_rflags)(struct kvm_vcpu *v);
	void (*set_rflags)(struct kvm_vcpu *v, u64 rflags);
	void (*get_segment)(struct kvm_vcpu *v, struct isa_seg *s, unsigned seg);
	void (*set_segment)(struct kvm_vcpu *v, const struct isa_seg *s, unsigned seg);
	u64 (*get_segment_base)(struct kvm_vcpu *v, unsigned seg);
	unsigned (*get_cpl)(struct kvm_vcpu *v);
	void (*get_idt)(struct kvm_vcpu *v, struct isa_dtr *dt);
	void (*set_idt)(struct kvm_vcpu *v, const struct isa_dtr *dt);
	void (*get_gdt)(struct kvm_vcpu *v, struct isa_dtr *dt);
	void (*set_gdt)(struct kvm_vcpu *v, const struct isa_dtr *dt);
	/* The values are already checked; these make them so. */
	bool (*is_valid_cr0)(struct kvm_vcpu *v, u64 cr0);
	bool (*is_valid_cr4)(struct kvm_vcpu *v, u64 cr4);
	void (*set_cr0)(struct kvm_vcpu *v, u64 cr0);
	void (*set_cr4)(struct kvm_vcpu *v, u64 cr4);
	void (*set_efer)(struct kvm_vcpu *v, u64 efer);
	u64 (*get_dr7)(struct kvm_vcpu *v);
	void (*set_dr7)(struct kvm_vcpu *v, u64 dr7); /* effective DR7 */
	void (*update_exception_bitmap)(struct kvm_vcpu *v);
	/* Capabilities, CPUID or guest debugging changed what is intercepted. */
	void (*update_controls)(struct kvm_vcpu *v);

	/* MSRs that live in the vendor's area. 0, -EINVAL (#GP) or -ENOENT (not the vendor's). */
	int (*get_msr)(struct kvm_vcpu *v, u32 index, u64 *val);
	int (*set_msr)(struct kvm_vcpu *v, u32 index, u64 val);
	int (*get_feature_msr)(u32 index, u64 *val);
	void (*msr_filter_changed)(struct kvm_vcpu *v);
	void (*write_tsc_offset)(struct kvm_vcpu *v, u64 offset);
	void (*write_tsc_multiplier)(struct kvm_vcpu *v, u64 multiplier);

	/* MMU. @root_hpa: address of the top table; @level: 3, 4, 5. */
	void (*load_mmu_pgd)(struct kvm_vcpu *v, hpa_t root_hpa, int level);
	void (*flush_tlb_all)(struct kvm_vcpu *v);
	void (*flush_tlb_current)(struct kvm_vcpu *v);
	void (*flush_tlb_gva)(struct kvm_vcpu *v, gva_t addr);
	void (*flush_tlb_guest)(struct kvm_vcpu *v);

	/* Events */
	u32 (*get_interrupt_shadow)(struct kvm_vcpu *v); /* ISA_BLOCK_STI | ISA_BLOCK_MOVSS */
	void (*set_interrupt_shadow)(struct kvm_vcpu *v, u32 mask);
	bool (*get_nmi_mask)(struct kvm_vcpu *v);
	void (*set_nmi_mask)(struct kvm_vcpu *v, bool masked);
	bool (*interrupt_blocked)(struct kvm_vcpu *v);
	bool (*nmi_blocked)(struct kvm_vcpu *v);
	/* > 0: deliverable now; 0: not now; -EBUSY: after a nested exit. */
	int (*interrupt_allowed)(struct kvm_vcpu *v, bool for_injection);
	int (*nmi_allowed)(struct kvm_vcpu *v, bool for_injection);
	void (*inject_irq)(struct kvm_vcpu *v, bool reinjected);
	void (*inject_nmi)(struct kvm_vcpu *v);
	void (*inject_exception)(struct kvm_vcpu *v);
	void (*cancel_injection)(struct kvm_vcpu *v);
	void (*enable_irq_window)(struct kvm_vcpu *v);
	void (*enable_nmi_window)(struct kvm_vcpu *v);
	void (*update_cr8_intercept)(struct kvm_vcpu *v, int tpr, int irr);

	/* The guest. handle_exit: 1 go on, 0 exit to user space, < 0 error. */
	enum exit_fastpath (*vcpu_run)(struct kvm_vcpu *v);
	int (*handle_exit)(struct kvm_vcpu *v, enum exit_fastpath fast);
	/* Moves RIP past the instruction that exited. 1, or 0 if user space has to know. */
	int (*skip_emulated_instruction)(struct kvm_vcpu *v);
	void (*patch_hypercall)(struct kvm_vcpu *v, u8 insn[3]);
	/* Exit reason and words in the vendor's terms, for dumps and traces. */
	void (*get_exit_info)(struct kvm_vcpu *v, u32 *reason, u64 *info1, u64 *info2,
			      u32 *intr_info, u32 *error);
	int (*dump)(struct kvm_vcpu *v, char *buf, size_t n);

	/* Optional */
	const struct kvm_x86_nested_ops *nested;
};

/* Nested virtualization, filled when the guest may have it. */
struct kvm_x86_nested_ops {
	/* Out of L2, and out of the state that lets the guest have one. */
	void (*leave)(struct kvm_vcpu *v);
	/* In L2: what L1 wants becomes an exit to it. 0, or -EBUSY: it will after the next entry.
	 */
	int (*check_events)(struct kvm_vcpu *v);
	bool (*has_events)(struct kvm_vcpu *v);
	/* In L2: does L1 intercept this exception? */
	bool (*is_exception_vmexit)(struct kvm_vcpu *v, unsigned vector, u32 error);
	void (*triple_fault)(struct kvm_vcpu *v);
	/* INIT is held back. */
	bool (*init_blocked)(struct kvm_vcpu *v);
	/* When a halted L2 is to be woken for L1, in kvm_now_ns time; ~0: never. */
	u64 (*timer_expires_ns)(struct kvm_vcpu *v);
	/* SMM: may an SMI be taken now; after the registers are in the save area; before they come
	 * back from it (0, or an error: the processor shuts down). */
	bool (*smi_allowed)(struct kvm_vcpu *v);
	void (*enter_smm)(struct kvm_vcpu *v);
	int (*leave_smm)(struct kvm_vcpu *v);
	int (*get_state)(struct kvm_vcpu *v, struct kvm_nested_state *s, u32 size);
	int (*set_state)(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size);
	/* A capability MSR of value @val as the guest reads it. */
	u64 (*guest_cap)(struct kvm_vcpu *v, u32 index, u64 val);
	/* Enlightened VMCSs: highest version << 8 | lowest that the vCPU can be given, 0: not yet
	 * enabled; @v NULL: of any. */
	u16 (*evmcs_version)(const struct kvm_vcpu *v);
	int (*enable_evmcs)(struct kvm_vcpu *v, u16 *version);
	/* In L2, which has asked for a flush that is done now. */
	void (*hv_flushed)(struct kvm_vcpu *v);
};

extern const struct kvm_x86_ops vmx_x86_ops;

#endif
