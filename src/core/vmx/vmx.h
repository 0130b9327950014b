/* SPDX-License-Identifier: MIT */
/*
 * The VT-x back end. It runs the guest through silicon/silicon.h alone; "SDM" is the Intel manual,
 * vol. 3C. Everything belongs to the vCPU's own thread.
 */
#ifndef CORE_VMX_VMX_H
#define CORE_VMX_VMX_H

#include "core/vcpu.h"
#include "silicon/silicon.h"
#include "spec/vmcs.h"
#include "spec/vmx.h"

/* What the hardware offers and this back end uses: made from the capability MSRs (SDM, appendix A).
 */
struct vmx_config {
	u32 revision;
	u32 pin, cpu, cpu2, exit, entry;
	u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	u64 misc, ept_vpid;
	bool ept, vpid, unrestricted, ple, tsc_scaling, ept_ad, notify;
	bool flexpriority, apicv;
	bool vmwrite_any; /* guests may VMWRITE exit-information fields */
	u32 ple_gap, ple_window;
	/* VMCS shadowing (SDM, 25.6.15): which VMREADs and VMWRITEs of L1 exit. */
	u8 vmread_bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
	u8 vmwrite_bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
};

struct nested_vmx;

/*
 * Fields that nobody but us writes, and so need no VMREAD to be known, and no VMWRITE of the value
 * they have: KNOWN(type, name, field).
 */
#define VMX_KNOWN_FIELDS(KNOWN)                              \
	KNOWN(u32, pin, PIN_BASED_VM_EXEC_CONTROL)           \
	KNOWN(u32, cpu, CPU_BASED_VM_EXEC_CONTROL)           \
	KNOWN(u32, cpu2, SECONDARY_VM_EXEC_CONTROL)          \
	KNOWN(u32, exit, VM_EXIT_CONTROLS)                   \
	KNOWN(u32, entry, VM_ENTRY_CONTROLS)                 \
	KNOWN(u32, exception_bitmap, EXCEPTION_BITMAP)       \
	KNOWN(u32, tpr_threshold, TPR_THRESHOLD)             \
	KNOWN(u64, vapic_addr, VIRTUAL_APIC_PAGE_ADDR)       \
	KNOWN(u64, apic_access_addr, APIC_ACCESS_ADDR)       \
	KNOWN(u64, pi_desc_addr, POSTED_INTR_DESC_ADDR)      \
	KNOWN(u64, tsc_offset, TSC_OFFSET)                   \
	KNOWN(u64, tsc_multiplier, TSC_MULTIPLIER)           \
	KNOWN(u64, cr0_guest_host_mask, CR0_GUEST_HOST_MASK) \
	KNOWN(u64, cr4_guest_host_mask, CR4_GUEST_HOST_MASK) \
	KNOWN(u64, cr0_read_shadow, CR0_READ_SHADOW)         \
	KNOWN(u64, cr4_read_shadow, CR4_READ_SHADOW)         \
	KNOWN(u64, efer, GUEST_IA32_EFER)                    \
	KNOWN(u64, pat, GUEST_IA32_PAT)

/* One VMCS and what we know it to hold. */
struct loaded_vmcs {
	void *vmcs; /* one page */
	bool launched;
	u64 eptp;
#define KNOWN(type, name, field) type name;
	VMX_KNOWN_FIELDS(KNOWN)
#undef KNOWN
};

struct vcpu_vmx {
	struct loaded_vmcs vmcs01;
	struct loaded_vmcs *loaded;
	const struct vmx_config *config;
	u8 *msr_bitmap;
	/* The 64-bit words of it that let some MSR through. */
	u16 pass_words[32];
	unsigned npass_words;
	struct nested_vmx *nested;
	bool vmcs01_stale; /* what hangs on user space's wishes changed while L2 ran */
	u16 vpid;
	/* Of the last exit */
	u32 exit_reason; /* with bit 31 */
	u32 idt_vectoring_info;
	enum sil_vmx entry_result;
	bool nmi_known_unmasked;
	bool emulate;	    /* the guest's state cannot be entered */
	bool did_not_enter; /* ... as vmx_vcpu_run has found */
	u64 spin_count;
};

#define vmx_of(v) ((v)->arch->vmx)

/* Posted-interrupt notifications come by sil_cpu_notify: the vector is only a name. */
#define VMX_POSTED_INTR_VECTOR 0xf2

/* Registers that are in the VMCS only after an exit: docs/register-cache.md. */
#define VMX_LAZY_SET                                                                         \
	(1u << VCPU_REG_RIP | 1u << RSP | 1u << VCPU_EXREG_RFLAGS | 1u << VCPU_EXREG_PDPTR | \
	 1u << VCPU_EXREG_SEGMENTS | 1u << VCPU_EXREG_CR0 | 1u << VCPU_EXREG_CR3 |           \
	 1u << VCPU_EXREG_CR4 | 1u << VCPU_EXREG_EXIT_INFO_1 | 1u << VCPU_EXREG_EXIT_INFO_2)

/* A field that does not exist, or a write that is refused, is our own mistake. */
static inline u64 vmcs_read(struct kvm_vcpu *v, u32 field)
{
	u64 val = 0;

	if (unlikely(sil_vmread(v->cpu, field, &val) != SIL_VMX_OK))
		BUG("VMREAD of field %#x failed", field);
	return val;
}

static inline void vmcs_write(struct kvm_vcpu *v, u32 field, u64 val)
{
	if (unlikely(sil_vmwrite(v->cpu, field, val) != SIL_VMX_OK))
		BUG("VMWRITE of %#llx to field %#x failed", (unsigned long long)val, field);
}

#define KNOWN(type, name, field)                                          \
	static inline void vmx_write_##name(struct kvm_vcpu *v, type val) \
	{                                                                 \
		struct loaded_vmcs *l = vmx_of(v)->loaded;                \
                                                                          \
		if (l->name != val) {                                     \
			l->name = val;                                    \
			vmcs_write(v, field, val);                        \
		}                                                         \
	}
VMX_KNOWN_FIELDS(KNOWN)
#undef KNOWN

#define VMX_BITS(name)                                                        \
	static inline void vmx_##name##_setbit(struct kvm_vcpu *v, u32 bit)   \
	{                                                                     \
		vmx_write_##name(v, vmx_of(v)->loaded->name | bit);           \
	}                                                                     \
	static inline void vmx_##name##_clearbit(struct kvm_vcpu *v, u32 bit) \
	{                                                                     \
		vmx_write_##name(v, vmx_of(v)->loaded->name & ~bit);          \
	}
VMX_BITS(cpu)
VMX_BITS(cpu2)
VMX_BITS(entry)
#undef VMX_BITS

static inline bool is_exception_n(u32 intr_info, unsigned vector)
{
	return (intr_info & (INTR_INFO_TYPE_MASK | INTR_INFO_VECTOR_MASK | INTR_INFO_VALID)) ==
	       (INTR_TYPE_HARD_EXCEPTION | vector | INTR_INFO_VALID);
}

static inline bool is_nmi(u32 intr_info)
{
	return (intr_info & (INTR_INFO_TYPE_MASK | INTR_INFO_VALID)) ==
	       (INTR_TYPE_NMI | INTR_INFO_VALID);
}

/* The type field of interruption information (SDM, table 25-17). */
static inline u32 vmx_exception_type(const struct queued_exception *ex)
{
	if (ex->type)
		return (u32)ex->type << 8;
	return ex->vector == X86_BP || ex->vector == X86_OFV ? INTR_TYPE_SOFT_EXC
							     : INTR_TYPE_HARD_EXCEPTION;
}

/* vmx_setup.c */
u16 vmx_alloc_vpid(struct kvm *kvm); /* 0 if none is left */
void vmx_free_vpid(struct kvm *kvm, u16 vpid);
/* A fresh VMCS is current: the known fields are 0, those that never change (host state, lists, ...)
 * what they will be. */
void vmx_init_constant(struct kvm_vcpu *v);
int vmx_config_init(struct vmx_config *c, const struct kvm_params *p);
void vmx_init_vmcs(struct kvm_vcpu *v);
void vmx_vcpu_reset(struct kvm_vcpu *v, bool init);
void vmx_update_exec_controls(struct kvm_vcpu *v);

/* vmx_regs.c */
void vmx_cache_reg(struct kvm_vcpu *v, enum kvm_reg reg);
u64 vmx_get_rflags(struct kvm_vcpu *v);
void vmx_set_rflags(struct kvm_vcpu *v, u64 rflags);
void vmx_get_segment(struct kvm_vcpu *v, struct isa_seg *s, unsigned seg);
void vmx_set_segment(struct kvm_vcpu *v, const struct isa_seg *s, unsigned seg);
u64 vmx_get_segment_base(struct kvm_vcpu *v, unsigned seg);
unsigned vmx_get_cpl(struct kvm_vcpu *v);
void vmx_get_idt(struct kvm_vcpu *v, struct isa_dtr *dt);
void vmx_set_idt(struct kvm_vcpu *v, const struct isa_dtr *dt);
void vmx_get_gdt(struct kvm_vcpu *v, struct isa_dtr *dt);
void vmx_set_gdt(struct kvm_vcpu *v, const struct isa_dtr *dt);
bool vmx_is_valid_cr0(struct kvm_vcpu *v, u64 cr0);
bool vmx_is_valid_cr4(struct kvm_vcpu *v, u64 cr4);
void vmx_set_cr0(struct kvm_vcpu *v, u64 cr0);
/* As vmx_set_cr0/4 with EFER.LMA and TR as they are: the state of another world is loaded. */
void vmx_load_cr0(struct kvm_vcpu *v, u64 cr0);
#define vmx_load_cr4 vmx_set_cr4
/* Bits that the guest may change without an exit, L2's by L1's leave. */
u64 vmx_cr0_guest_owned(struct kvm_vcpu *v);
u64 vmx_cr4_guest_owned(struct kvm_vcpu *v);
void vmx_set_cr4(struct kvm_vcpu *v, u64 cr4);
void vmx_set_efer(struct kvm_vcpu *v, u64 efer);
void vmx_set_cr4_guest_host_mask(struct kvm_vcpu *v);
u64 vmx_get_dr7(struct kvm_vcpu *v);
void vmx_set_dr7(struct kvm_vcpu *v, u64 dr7);
/* Everything that is dirty goes to the current VMCS. */
void vmx_store_dirty(struct kvm_vcpu *v);

/* vmx_msr.c */
int vmx_get_msr(struct kvm_vcpu *v, u32 index, u64 *val);
int vmx_set_msr(struct kvm_vcpu *v, u32 index, u64 val);
int vmx_get_feature_msr(u32 index, u64 *val);
void vmx_msr_filter_changed(struct kvm_vcpu *v);

/* vmx_event.c */
u32 vmx_get_interrupt_shadow(struct kvm_vcpu *v);
void vmx_set_interrupt_shadow(struct kvm_vcpu *v, u32 mask);
bool vmx_get_nmi_mask(struct kvm_vcpu *v);
void vmx_set_nmi_mask(struct kvm_vcpu *v, bool masked);
bool vmx_interrupt_blocked(struct kvm_vcpu *v);
bool vmx_nmi_blocked(struct kvm_vcpu *v);
int vmx_interrupt_allowed(struct kvm_vcpu *v, bool for_injection);
int vmx_nmi_allowed(struct kvm_vcpu *v, bool for_injection);
void vmx_inject_irq(struct kvm_vcpu *v, bool reinjected);
void vmx_inject_nmi(struct kvm_vcpu *v);
void vmx_inject_exception(struct kvm_vcpu *v);
void vmx_cancel_injection(struct kvm_vcpu *v);
void vmx_enable_irq_window(struct kvm_vcpu *v);
void vmx_enable_nmi_window(struct kvm_vcpu *v);
void vmx_complete_interrupts(struct kvm_vcpu *v);
void vmx_recover_nmi_blocking(struct kvm_vcpu *v);
void vmx_update_exception_bitmap(struct kvm_vcpu *v);
/* Every #PF exits. */
static inline bool vmx_need_pf_intercept(const struct kvm_vcpu *v)
{
	return !vmx_of(v)->config->ept;
}

/* vmx_run.c */
enum exit_fastpath vmx_vcpu_run(struct kvm_vcpu *v);
int vmx_skip_emulated_instruction(struct kvm_vcpu *v);

/* vmx_emulate.c */
void vmx_update_emulation(struct kvm_vcpu *v); /* CR0 has changed */
/* In place of an entry: as an exit handler. */
int vmx_emulate_guest(struct kvm_vcpu *v);

/* vmx_exit.c */
int vmx_handle_exit(struct kvm_vcpu *v, enum exit_fastpath fast);

/* vmx_dump.c */
int vmx_dump(struct kvm_vcpu *v, char *buf, size_t n);
const char *vmx_exit_name(u32 reason);

#endif
