/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor core as src/kvmapi sees it.
 *
 * Naming: the function behind ioctl KVM_FOO_BAR is sys_foo_bar, vm_foo_bar or vcpu_foo_bar by its
 * scope. Arguments are the ABI structures (spec/abi/kvm.h) already copied from the caller; arrays
 * come as pointer and count. They return what the ioctl returns: >= 0, or -errno as KVM gives it.
 *
 * Locks: vm_* take what they need inside (docs/locking.md has the order). vcpu_* are called with
 * the vCPU's mutex held by kvmapi (KVM's rule: one ioctl at a time per vCPU), except those marked
 * "any thread".
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <signal.h>

#include "base/types.h"
#include "silicon/silicon.h"
#include "spec/abi/kvm.h"

struct kvm;
struct kvm_vcpu;

/* ---- Parameters: KVM's module parameters and ours, by "module.name" -----------------------------
 */

/* "kvm_intel.ept=0", "kvm.tdp_mmu=1", "kvmless.engine=interp", "kvmless.vendor=intel". Taken at VM
 * creation. 0, -ENOENT (no such parameter), -EINVAL (value). Any thread. */
int param_set(const char *name, const char *value);
/* Text as /sys/module/<module>/parameters/<name> has it, with newline. Length or -errno. */
int param_get(const char *name, char *buf, size_t n);
/* Enumerates: NULL past the end. */
struct param_desc {
	const char *name, *help;
	bool writable; /* after start, as the file's mode says */
};
const struct param_desc *param_desc(unsigned index);

/* ---- System -----------------------------------------------------------------------------------
 */

int sys_check_extension(u32 cap); /* also CHECK_EXTENSION on a VM fd with kvm != NULL: vm_... */
/* Arrays: @n is in/out as in struct kvm_cpuid2.nent; -E2BIG as KVM does it. */
int sys_get_supported_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n);
int sys_get_emulated_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n);
int sys_get_supported_hv_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n);
/* Index lists: fill up to *n, set *n to the number there is; -E2BIG if it did not fit. */
int sys_get_msr_index_list(u32 *list, u32 *n);
int sys_get_msr_feature_index_list(u32 *list, u32 *n);
/* Feature MSRs on the system fd: number read before the first bad one. */
int sys_get_msrs(struct kvm_msr_entry *ents, u32 n);
int sys_x86_get_mce_cap_supported(u64 *cap);
int sys_device_attr(bool set, bool query, struct kvm_device_attr *attr);

/* ---- VM ----------------------------------------------------------------------------------------
 */

/* @type: KVM_X86_DEFAULT_VM... One reference is the caller's. */
int kvm_create_vm(unsigned long type, struct kvm **out);
void kvm_get(struct kvm *kvm);
void kvm_put(struct kvm *kvm); /* the last one destroys */

int vm_check_extension(struct kvm *kvm, u32 cap);
int vm_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap);
int vm_set_user_memory_region(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem);
/* @gmem: what mem->guest_memfd names if the flags have KVM_MEM_GUEST_MEMFD, else NULL. */
struct gmem;
int vm_set_private_memory_region(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem,
				 struct gmem *gmem);
int vm_set_memory_attributes(struct kvm *kvm, const struct kvm_memory_attributes *m);
/* Bitmap size in bytes of the slot (as_id << 16 | slot), or -errno. */
long vm_dirty_bitmap_bytes(struct kvm *kvm, u32 slot);
int vm_get_dirty_log(struct kvm *kvm, u32 slot, void *bitmap, size_t n);
/* KVM_RESET_DIRTY_RINGS: how many entries, or -EINVAL. */
int vm_reset_dirty_rings(struct kvm *kvm);
int vm_clear_dirty_log(struct kvm *kvm, const struct kvm_clear_dirty_log *log, const void *bitmap,
		       size_t n);
int vm_set_tss_addr(struct kvm *kvm, u64 addr);
int vm_set_identity_map_addr(struct kvm *kvm, u64 addr);
int vm_set_nr_mmu_pages(struct kvm *kvm, unsigned long n);
int vm_get_nr_mmu_pages(struct kvm *kvm);
int vm_create_irqchip(struct kvm *kvm);
int vm_get_irqchip(struct kvm *kvm, struct kvm_irqchip *chip);
int vm_set_irqchip(struct kvm *kvm, const struct kvm_irqchip *chip);
int vm_irq_line(struct kvm *kvm, struct kvm_irq_level *irq, bool want_status);
int vm_signal_msi(struct kvm *kvm, const struct kvm_msi *msi);
int vm_set_gsi_routing(struct kvm *kvm, const struct kvm_irq_routing_entry *ents, u32 n, u32 flags);
int vm_create_pit2(struct kvm *kvm, const struct kvm_pit_config *cfg);
int vm_get_pit2(struct kvm *kvm, struct kvm_pit_state2 *ps);
int vm_set_pit2(struct kvm *kvm, const struct kvm_pit_state2 *ps);
int vm_reinject_control(struct kvm *kvm, bool reinject);
int vm_irqfd(struct kvm *kvm, const struct kvm_irqfd *args);
int vm_ioeventfd(struct kvm *kvm, const struct kvm_ioeventfd *args);
int vm_register_coalesced_mmio(struct kvm *kvm, const struct kvm_coalesced_mmio_zone *z);
int vm_unregister_coalesced_mmio(struct kvm *kvm, const struct kvm_coalesced_mmio_zone *z);
int vm_set_boot_cpu_id(struct kvm *kvm, u32 id);
int vm_set_clock(struct kvm *kvm, const struct kvm_clock_data *d);
int vm_get_clock(struct kvm *kvm, struct kvm_clock_data *d);
int vm_set_tsc_khz(struct kvm *kvm, u32 khz);
int vm_get_tsc_khz(struct kvm *kvm);
int vm_x86_set_msr_filter(struct kvm *kvm, const struct kvm_msr_filter *f);
int vm_device_attr(struct kvm *kvm, bool set, bool query, struct kvm_device_attr *attr);

/* Binary stats: fills the header+descriptors+data image of kvm_stats (api.rst 4.133). Returns the
 * size; @v NULL for the VM's own. */
size_t kvm_stats_image(struct kvm *kvm, struct kvm_vcpu *v, void *buf, size_t n);

/* guest_memfd (core/gmem.h) */
/* @size bytes mapped at @hva, which the last reference unmaps. NULL: no memory. */
struct gmem *gmem_new(struct kvm *kvm, hva_t hva, u64 size);
void gmem_get(struct gmem *g);
void gmem_put(struct gmem *g);

/* ---- vCPU ---------------------------------------------------------------------------------------
 */

/* @run: the kvm_run page (+1: PIO data page, +2: coalesced MMIO ring), KVM_VCPU_MMAP_PAGES pages
 * owned by the caller for the vCPU's life. Takes a reference on @kvm. -EINVAL, -EEXIST, -ENOMEM as
 * KVM. */
#define KVM_VCPU_MMAP_PAGES 3
/* Bytes of the vCPU's file: these, and the dirty ring from page KVM_DIRTY_LOG_PAGE_OFFSET if the VM
 * has rings; from now on that is settled. @run of vm_create_vcpu has as many. */
size_t vm_vcpu_file_bytes(struct kvm *kvm);
/* Around every request on a vCPU's descriptor, by the thread that does it; they nest. */
void *vcpu_load(struct kvm_vcpu *v);
void vcpu_put(void *before);
int vm_create_vcpu(struct kvm *kvm, u32 id, struct kvm_run *run, struct kvm_vcpu **out);
void kvm_vcpu_put(struct kvm_vcpu *v); /* after the last fd is gone */
struct kvm *kvm_vcpu_vm(struct kvm_vcpu *v);

/* KVM_RUN. 0 with run->exit_reason set, -EINTR, -EFAULT... */
int vcpu_run(struct kvm_vcpu *v);
/* A signal handler ran in the vCPU's thread, or someone wants it out: the current (or, if none, the
 * next) KVM_RUN returns -EINTR. Any thread, async-signal-safe. */
void vcpu_interrupt_run(struct kvm_vcpu *v);
/* As vcpu_interrupt_run after @exits VM exits from now; 0: never. The vCPU is not running. */
void vcpu_leave_after(struct kvm_vcpu *v, u32 exits);

int vcpu_get_regs(struct kvm_vcpu *v, struct kvm_regs *regs);
int vcpu_set_regs(struct kvm_vcpu *v, const struct kvm_regs *regs);
int vcpu_get_sregs(struct kvm_vcpu *v, struct kvm_sregs *sregs);
int vcpu_set_sregs(struct kvm_vcpu *v, const struct kvm_sregs *sregs);
int vcpu_get_sregs2(struct kvm_vcpu *v, struct kvm_sregs2 *sregs);
int vcpu_set_sregs2(struct kvm_vcpu *v, const struct kvm_sregs2 *sregs);
int vcpu_get_fpu(struct kvm_vcpu *v, struct kvm_fpu *fpu);
int vcpu_set_fpu(struct kvm_vcpu *v, const struct kvm_fpu *fpu);
/* @size: 4096, or what KVM_CAP_XSAVE2 says. */
int vcpu_get_xsave(struct kvm_vcpu *v, void *area, size_t size);
int vcpu_set_xsave(struct kvm_vcpu *v, const void *area, size_t size);
int vcpu_get_xcrs(struct kvm_vcpu *v, struct kvm_xcrs *x);
int vcpu_set_xcrs(struct kvm_vcpu *v, const struct kvm_xcrs *x);
/* Number done before the first bad one. */
int vcpu_get_msrs(struct kvm_vcpu *v, struct kvm_msr_entry *ents, u32 n);
int vcpu_set_msrs(struct kvm_vcpu *v, const struct kvm_msr_entry *ents, u32 n);
int vcpu_set_cpuid(struct kvm_vcpu *v, const struct kvm_cpuid_entry *ents, u32 n);
int vcpu_set_cpuid2(struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *ents, u32 n);
int vcpu_get_cpuid2(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 *n);
/* What this vCPU can be given: enlightened VMCSs only after KVM_ENABLE_CAP. */
int vcpu_get_supported_hv_cpuid(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 *n);
int vcpu_get_lapic(struct kvm_vcpu *v, struct kvm_lapic_state *s);
int vcpu_set_lapic(struct kvm_vcpu *v, const struct kvm_lapic_state *s);
int vcpu_interrupt(struct kvm_vcpu *v, u32 irq);
int vcpu_nmi(struct kvm_vcpu *v);
int vcpu_smi(struct kvm_vcpu *v);
int vcpu_get_mp_state(struct kvm_vcpu *v, struct kvm_mp_state *s);
int vcpu_set_mp_state(struct kvm_vcpu *v, const struct kvm_mp_state *s);
int vcpu_get_vcpu_events(struct kvm_vcpu *v, struct kvm_vcpu_events *e);
int vcpu_set_vcpu_events(struct kvm_vcpu *v, const struct kvm_vcpu_events *e);
int vcpu_get_debugregs(struct kvm_vcpu *v, struct kvm_debugregs *d);
int vcpu_set_debugregs(struct kvm_vcpu *v, const struct kvm_debugregs *d);
int vcpu_set_guest_debug(struct kvm_vcpu *v, const struct kvm_guest_debug *d);
int vcpu_translate(struct kvm_vcpu *v, struct kvm_translation *t);
int vcpu_set_tsc_khz(struct kvm_vcpu *v, u32 khz);
int vcpu_get_tsc_khz(struct kvm_vcpu *v);
int vcpu_kvmclock_ctrl(struct kvm_vcpu *v);
int vcpu_tpr_access_reporting(struct kvm_vcpu *v, struct kvm_tpr_access_ctl *t);
int vcpu_set_vapic_addr(struct kvm_vcpu *v, u64 addr);
int vcpu_x86_setup_mce(struct kvm_vcpu *v, u64 mcg_cap);
int vcpu_x86_set_mce(struct kvm_vcpu *v, const struct kvm_x86_mce *m);
int vcpu_enable_cap(struct kvm_vcpu *v, const struct kvm_enable_cap *cap);
int vcpu_device_attr(struct kvm_vcpu *v, bool set, bool query, struct kvm_device_attr *attr);
/* Maps what it can and moves @range past it. 0 if that was anything, else -EINTR, -EFAULT, -ENOENT,
 * -EOPNOTSUPP. */
int vcpu_pre_fault_memory(struct kvm_vcpu *v, struct kvm_pre_fault_memory *range);
int vcpu_get_nested_state(struct kvm_vcpu *v, struct kvm_nested_state *s, u32 size);
int vcpu_set_nested_state(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size);

/*
 * Records of deterministic runs, for comparing two: the state at every VM exit, and at every @every
 * instructions (0: never) from the @from-th on. @memory: a digest of all guest memory, at the first
 * record after each hundred million instructions; 0 in all others.
 */
struct kvm_record {
	u64 count, reason, qualification, rip, rflags, cr0, cr2, cr3, cr4, gpr[16], xmm0[2], memory;
};
/* Of all VMs of the process. 0 or -errno; -EBUSY. Before the vCPUs run. */
int kvm_record_start(const char *path, u64 every, u64 from);
void kvm_record_stop(void);

/* ---- What happened: for --stats, --explain, state dumps
 * ------------------------------------------ */

/* Text for a person: registers, segments, exit reason, last failed check. Owner thread. */
int vcpu_dump(struct kvm_vcpu *v, char *buf, size_t n);
struct sil_cpu *vcpu_silicon(struct kvm_vcpu *v);

#endif
