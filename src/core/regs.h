/* SPDX-License-Identifier: MIT */
/* Reading and writing guest registers through the cache (docs/register-cache.md). Own thread only.
 */
#ifndef CORE_REGS_H
#define CORE_REGS_H

#include "core/kvm_host.h"
#include "core/x86_ops.h"

static inline void kvm_cache_need(struct kvm_vcpu *v, enum kvm_reg reg)
{
	if (!regcache_available(&v->regs, reg))
		v->kvm->ops->cache_reg(v, reg);
}

static inline u64 kvm_register_read_raw(struct kvm_vcpu *v, unsigned gpr)
{
	if (gpr == RSP)
		kvm_cache_need(v, (enum kvm_reg)RSP);
	return v->hw->gpr[gpr];
}

static inline void kvm_register_write_raw(struct kvm_vcpu *v, unsigned gpr, u64 val)
{
	v->hw->gpr[gpr] = val;
	regcache_mark_dirty(&v->regs, (enum kvm_reg)gpr);
}

static inline u64 kvm_rip_read(struct kvm_vcpu *v)
{
	kvm_cache_need(v, VCPU_REG_RIP);
	return v->regs.rip;
}

static inline void kvm_rip_write(struct kvm_vcpu *v, u64 rip)
{
	v->regs.rip = rip;
	regcache_mark_dirty(&v->regs, VCPU_REG_RIP);
}

static inline u64 kvm_rsp_read(struct kvm_vcpu *v)
{
	return kvm_register_read_raw(v, RSP);
}

static inline void kvm_rsp_write(struct kvm_vcpu *v, u64 val)
{
	kvm_register_write_raw(v, RSP, val);
}

/* With TF as the guest has it, not as user space's single-step has it. */
u64 kvm_get_rflags(struct kvm_vcpu *v);
void kvm_set_rflags(struct kvm_vcpu *v, u64 rflags);

static inline u64 kvm_read_cr0_bits(struct kvm_vcpu *v, u64 mask)
{
	if (!regcache_available(&v->regs, VCPU_EXREG_CR0))
		v->kvm->ops->cache_reg(v, VCPU_EXREG_CR0);
	return v->regs.cr0 & mask;
}

static inline u64 kvm_read_cr0(struct kvm_vcpu *v)
{
	return kvm_read_cr0_bits(v, ~0ull);
}

static inline u64 kvm_read_cr4_bits(struct kvm_vcpu *v, u64 mask)
{
	if (!regcache_available(&v->regs, VCPU_EXREG_CR4))
		v->kvm->ops->cache_reg(v, VCPU_EXREG_CR4);
	return v->regs.cr4 & mask;
}

static inline u64 kvm_read_cr4(struct kvm_vcpu *v)
{
	return kvm_read_cr4_bits(v, ~0ull);
}

static inline u64 kvm_read_cr3(struct kvm_vcpu *v)
{
	kvm_cache_need(v, VCPU_EXREG_CR3);
	return v->regs.cr3;
}

static inline u64 kvm_pdptr_read(struct kvm_vcpu *v, unsigned i)
{
	kvm_cache_need(v, VCPU_EXREG_PDPTR);
	return v->regs.pdptr[i];
}

u64 kvm_efer_read(const struct kvm_vcpu *v);

static inline void kvm_get_segment(struct kvm_vcpu *v, struct isa_seg *s, unsigned seg)
{
	v->kvm->ops->get_segment(v, s, seg);
}

static inline void kvm_set_segment(struct kvm_vcpu *v, const struct isa_seg *s, unsigned seg)
{
	v->kvm->ops->set_segment(v, s, seg);
}

static inline u64 kvm_get_segment_base(struct kvm_vcpu *v, unsigned seg)
{
	return v->kvm->ops->get_segment_base(v, seg);
}

static inline unsigned kvm_get_cpl(struct kvm_vcpu *v)
{
	return v->kvm->ops->get_cpl(v);
}

static inline bool is_protmode(struct kvm_vcpu *v)
{
	return kvm_read_cr0_bits(v, CR0_PE);
}

static inline bool is_paging(struct kvm_vcpu *v)
{
	return kvm_read_cr0_bits(v, CR0_PG);
}

static inline bool is_pae(struct kvm_vcpu *v)
{
	return kvm_read_cr4_bits(v, CR4_PAE);
}

static inline bool is_long_mode(const struct kvm_vcpu *v)
{
	return kvm_efer_read(v) & EFER_LMA;
}

static inline bool is_pae_paging(struct kvm_vcpu *v)
{
	return !is_long_mode(v) && is_pae(v) && is_paging(v);
}

/* CS.L in IA-32e mode. */
bool is_64_bit_mode(struct kvm_vcpu *v);
/* Code size in bytes for hypercall arguments and the like: as is_64_bit_mode. */
u64 kvm_get_linear_rip(struct kvm_vcpu *v);
bool kvm_is_linear_rip(struct kvm_vcpu *v, u64 rip);

/* GPR as an instruction of the current mode sees it: 32 bits outside 64-bit mode. */
static inline u64 kvm_register_read(struct kvm_vcpu *v, unsigned gpr)
{
	u64 val = kvm_register_read_raw(v, gpr);

	return is_64_bit_mode(v) ? val : (u32)val;
}

static inline void kvm_register_write(struct kvm_vcpu *v, unsigned gpr, u64 val)
{
	kvm_register_write_raw(v, gpr, is_64_bit_mode(v) ? val : (u32)val);
}

/* EDX:EAX */
static inline u64 kvm_read_edx_eax(const struct kvm_vcpu *v)
{
	return (u32)v->hw->gpr[RAX] | v->hw->gpr[RDX] << 32;
}

/* Exit-information words: VMX exit qualification, interruption information. */
static inline u64 kvm_exit_info_1(struct kvm_vcpu *v)
{
	kvm_cache_need(v, VCPU_EXREG_EXIT_INFO_1);
	return v->regs.exit_info_1;
}

static inline u32 kvm_exit_info_2(struct kvm_vcpu *v)
{
	kvm_cache_need(v, VCPU_EXREG_EXIT_INFO_2);
	return v->regs.exit_info_2;
}

#endif
