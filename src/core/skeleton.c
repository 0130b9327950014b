/* SPDX-License-Identifier: MIT */
/* Placeholders until the functions arrive. */
#include <errno.h>
#include "core/core.h"
__attribute__((weak)) int param_set(const char *name, const char *value)
{ return -ENOTTY; }
__attribute__((weak)) int param_get(const char *name, char *buf, size_t n)
{ return -ENOTTY; }
__attribute__((weak)) const struct param_desc *param_desc(unsigned index)
{ return NULL; }
__attribute__((weak)) int sys_check_extension(u32 cap)
{ return -ENOTTY; }
__attribute__((weak)) int sys_get_supported_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n)
{ return -ENOTTY; }
__attribute__((weak)) int sys_get_emulated_cpuid(struct kvm_cpuid_entry2 *ents, u32 *n)
{ return -ENOTTY; }
__attribute__((weak)) int sys_get_msr_index_list(u32 *list, u32 *n)
{ return -ENOTTY; }
__attribute__((weak)) int sys_get_msr_feature_index_list(u32 *list, u32 *n)
{ return -ENOTTY; }
__attribute__((weak)) int sys_get_msrs(struct kvm_msr_entry *ents, u32 n)
{ return -ENOTTY; }
__attribute__((weak)) int sys_x86_get_mce_cap_supported(u64 *cap)
{ return -ENOTTY; }
__attribute__((weak)) int sys_device_attr(bool set, bool query, struct kvm_device_attr *attr)
{ return -ENOTTY; }
__attribute__((weak)) int kvm_create_vm(unsigned long type, struct kvm **out)
{ return -ENOTTY; }
__attribute__((weak)) void kvm_get(struct kvm *kvm)
{}
__attribute__((weak)) void kvm_put(struct kvm *kvm)
{}
__attribute__((weak)) int vm_check_extension(struct kvm *kvm, u32 cap)
{ return -ENOTTY; }
__attribute__((weak)) int vm_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{ return -ENOTTY; }
__attribute__((weak)) int vm_set_tss_addr(struct kvm *kvm, u64 addr)
{ return -ENOTTY; }
__attribute__((weak)) int vm_set_identity_map_addr(struct kvm *kvm, u64 addr)
{ return -ENOTTY; }
__attribute__((weak)) int vm_create_irqchip(struct kvm *kvm)
{ return -ENOTTY; }
__attribute__((weak)) int vm_set_boot_cpu_id(struct kvm *kvm, u32 id)
{ return -ENOTTY; }
__attribute__((weak)) int vm_set_clock(struct kvm *kvm, const struct kvm_clock_data *d)
{ return -ENOTTY; }
__attribute__((weak)) int vm_get_clock(struct kvm *kvm, struct kvm_clock_data *d)
{ return -ENOTTY; }
__attribute__((weak)) int vm_set_tsc_khz(struct kvm *kvm, u32 khz)
{ return -ENOTTY; }
__attribute__((weak)) int vm_get_tsc_khz(struct kvm *kvm)
{ return -ENOTTY; }
__attribute__((weak)) int vm_x86_set_msr_filter(struct kvm *kvm, const struct kvm_msr_filter *f)
{ return -ENOTTY; }
__attribute__((weak)) int vm_device_attr(struct kvm *kvm, bool set, bool query, struct kvm_device_attr *attr)
{ return -ENOTTY; }
__attribute__((weak)) size_t kvm_stats_image(struct kvm *kvm, struct kvm_vcpu *v, void *buf, size_t n)
{ return 0; }
__attribute__((weak)) int vm_create_vcpu(struct kvm *kvm, u32 id, struct kvm_run *run, struct kvm_vcpu **out)
{ return -ENOTTY; }
__attribute__((weak)) void kvm_vcpu_put(struct kvm_vcpu *v)
{}
__attribute__((weak)) struct kvm *kvm_vcpu_vm(struct kvm_vcpu *v)
{ return NULL; }
__attribute__((weak)) int vcpu_run(struct kvm_vcpu *v)
{ return -ENOTTY; }
__attribute__((weak)) void vcpu_interrupt_run(struct kvm_vcpu *v)
{}
__attribute__((weak)) int vcpu_get_regs(struct kvm_vcpu *v, struct kvm_regs *regs)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_regs(struct kvm_vcpu *v, const struct kvm_regs *regs)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_sregs(struct kvm_vcpu *v, struct kvm_sregs *sregs)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_sregs(struct kvm_vcpu *v, const struct kvm_sregs *sregs)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_sregs2(struct kvm_vcpu *v, struct kvm_sregs2 *sregs)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_sregs2(struct kvm_vcpu *v, const struct kvm_sregs2 *sregs)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_fpu(struct kvm_vcpu *v, struct kvm_fpu *fpu)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_fpu(struct kvm_vcpu *v, const struct kvm_fpu *fpu)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_xsave(struct kvm_vcpu *v, void *area, size_t size)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_xsave(struct kvm_vcpu *v, const void *area, size_t size)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_xcrs(struct kvm_vcpu *v, struct kvm_xcrs *x)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_xcrs(struct kvm_vcpu *v, const struct kvm_xcrs *x)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_msrs(struct kvm_vcpu *v, struct kvm_msr_entry *ents, u32 n)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_msrs(struct kvm_vcpu *v, const struct kvm_msr_entry *ents, u32 n)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_cpuid(struct kvm_vcpu *v, const struct kvm_cpuid_entry *ents, u32 n)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_cpuid2(struct kvm_vcpu *v, const struct kvm_cpuid_entry2 *ents, u32 n)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_cpuid2(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 *n)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_nmi(struct kvm_vcpu *v)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_smi(struct kvm_vcpu *v)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_mp_state(struct kvm_vcpu *v, struct kvm_mp_state *s)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_mp_state(struct kvm_vcpu *v, const struct kvm_mp_state *s)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_vcpu_events(struct kvm_vcpu *v, struct kvm_vcpu_events *e)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_vcpu_events(struct kvm_vcpu *v, const struct kvm_vcpu_events *e)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_debugregs(struct kvm_vcpu *v, struct kvm_debugregs *d)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_debugregs(struct kvm_vcpu *v, const struct kvm_debugregs *d)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_guest_debug(struct kvm_vcpu *v, const struct kvm_guest_debug *d)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_tsc_khz(struct kvm_vcpu *v, u32 khz)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_tsc_khz(struct kvm_vcpu *v)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_kvmclock_ctrl(struct kvm_vcpu *v)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_tpr_access_reporting(struct kvm_vcpu *v, struct kvm_tpr_access_ctl *t)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_vapic_addr(struct kvm_vcpu *v, u64 addr)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_x86_setup_mce(struct kvm_vcpu *v, u64 mcg_cap)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_x86_set_mce(struct kvm_vcpu *v, const struct kvm_x86_mce *m)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_enable_cap(struct kvm_vcpu *v, const struct kvm_enable_cap *cap)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_device_attr(struct kvm_vcpu *v, bool set, bool query, struct kvm_device_attr *attr)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_get_nested_state(struct kvm_vcpu *v, struct kvm_nested_state *s, u32 size)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_set_nested_state(struct kvm_vcpu *v, const struct kvm_nested_state *s, u32 size)
{ return -ENOTTY; }
__attribute__((weak)) int vcpu_dump(struct kvm_vcpu *v, char *buf, size_t n)
{ return -ENOTTY; }
__attribute__((weak)) struct sil_cpu *vcpu_silicon(struct kvm_vcpu *v)
{ return NULL; }
