/* SPDX-License-Identifier: MIT */
/* Control, extended-control and debug registers as instructions write them. SDM vol. 3A, chapter 2.
 */
#include <errno.h>

#include "core/cpuid.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/msr.h"
#include "core/vcpu.h"

#define CR0_RESERVED                                                                        \
	(~(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | \
	   CR0_CD | CR0_PG))
#define CR8_RESERVED (~0xfull)

/* What the role of the page tables is made of: a change needs a new context. */
#define CR0_MMU_ROLE (CR0_PG | CR0_WP)
#define CR4_MMU_ROLE (CR4_PSE | CR4_PAE | CR4_LA57 | CR4_SMEP | CR4_SMAP | CR4_PKE)
/* What reloads the PDPTEs in PAE paging (SDM vol. 3A, 4.4.1). */
#define CR0_PDPTR (CR0_CD | CR0_NW | CR0_PG)
#define CR4_PDPTR (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)

bool kvm_is_legal_gpa(const struct kvm_vcpu *v, u64 gpa)
{
	return !(gpa & v->arch->reserved_gpa_bits);
}

bool kvm_load_pdptrs(struct kvm_vcpu *v, u64 cr3)
{
	u64 pdptr[4];
	bool changed = false;

	if (!mmu_load_pdptrs(v, cr3, pdptr))
		return false;
	for (unsigned i = 0; i < 4; i++) {
		changed |= kvm_pdptr_read(v, i) != pdptr[i];
		v->regs.pdptr[i] = pdptr[i];
	}
	/* A shadow of PAE paging begins with them. */
	if (changed)
		mmu_new_pgd(v, cr3);
	regcache_mark_dirty(&v->regs, VCPU_EXREG_PDPTR);
	kvm_make_request(v, REQ_LOAD_MMU_PGD);
	return true;
}

void kvm_post_set_cr0(struct kvm_vcpu *v, u64 old_cr0, u64 cr0)
{
	if ((cr0 ^ old_cr0) & CR0_PG) {
		/* SDM vol. 3A, 4.10.4.1: no translation survives. */
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	}
	if ((cr0 ^ old_cr0) & CR0_MMU_ROLE)
		mmu_reset_context(v);
}

int kvm_set_cr0(struct kvm_vcpu *v, u64 cr0)
{
	u64 old = kvm_read_cr0(v);
	struct isa_seg cs;

	cr0 |= CR0_ET;
	if (cr0 & CR0_RESERVED)
		return 1;
	if ((cr0 & CR0_NW) && !(cr0 & CR0_CD))
		return 1;
	if ((cr0 & CR0_PG) && !(cr0 & CR0_PE))
		return 1;
	if (!v->kvm->ops->is_valid_cr0(v, cr0))
		return 1;
	if ((v->arch->efer & EFER_LME) && !(old & CR0_PG) && (cr0 & CR0_PG)) {
		if (!is_pae(v))
			return 1;
		kvm_get_segment(v, &cs, CS);
		if (cs.ar & SEG_AR_L)
			return 1;
	}
	if (!(v->arch->efer & EFER_LME) && (cr0 & CR0_PG) && is_pae(v) &&
	    ((cr0 ^ old) & CR0_PDPTR) && !kvm_load_pdptrs(v, kvm_read_cr3(v)))
		return 1;
	if (!(cr0 & CR0_PG) && (is_64_bit_mode(v) || kvm_read_cr4_bits(v, CR4_PCIDE)))
		return 1;
	v->kvm->ops->set_cr0(v, cr0);
	kvm_post_set_cr0(v, old, cr0);
	return 0;
}

void kvm_lmsw(struct kvm_vcpu *v, u16 msw)
{
	/* PE may be set and not cleared. */
	(void)kvm_set_cr0(v, (kvm_read_cr0(v) & ~0xeull) | (msw & 0xf));
}

bool kvm_is_valid_cr4(struct kvm_vcpu *v, u64 cr4)
{
	return !(cr4 & v->arch->cr4_reserved) && v->kvm->ops->is_valid_cr4(v, cr4);
}

void kvm_post_set_cr4(struct kvm_vcpu *v, u64 old, u64 cr4)
{
	if ((cr4 ^ old) & CR4_MMU_ROLE)
		mmu_reset_context(v);
	/* SDM vol. 3A, 4.10.4.1 */
	if (((cr4 ^ old) & (CR4_PGE | CR4_PAE)) || (!(cr4 & CR4_PCIDE) && (old & CR4_PCIDE)) ||
	    ((cr4 & CR4_SMEP) && !(old & CR4_SMEP)))
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	if ((cr4 ^ old) & (CR4_OSXSAVE | CR4_PKE))
		kvm_update_cpuid_runtime(v);
}

int kvm_set_cr4(struct kvm_vcpu *v, u64 cr4)
{
	u64 old = kvm_read_cr4(v);

	if (!kvm_is_valid_cr4(v, cr4))
		return 1;
	if (is_long_mode(v)) {
		if (!(cr4 & CR4_PAE))
			return 1;
		if ((cr4 ^ old) & CR4_LA57)
			return 1;
	} else if (is_paging(v) && (cr4 & CR4_PAE) && ((cr4 ^ old) & CR4_PDPTR) &&
		   !kvm_load_pdptrs(v, kvm_read_cr3(v))) {
		return 1;
	}
	if ((cr4 & CR4_PCIDE) && !(old & CR4_PCIDE)) {
		/* SDM vol. 3A, 4.10.1: only from PCID 0 in IA-32e mode. */
		if ((kvm_read_cr3(v) & 0xfff) || !is_long_mode(v))
			return 1;
	}
	v->kvm->ops->set_cr4(v, cr4);
	kvm_post_set_cr4(v, old, cr4);
	return 0;
}

int kvm_set_cr3(struct kvm_vcpu *v, u64 cr3)
{
	bool skip_flush = false;

	if (is_long_mode(v) && kvm_read_cr4_bits(v, CR4_PCIDE)) {
		skip_flush = cr3 & BIT(63);
		cr3 &= ~BIT(63);
	}
	if (cr3 != kvm_read_cr3(v)) {
		if (!kvm_is_legal_gpa(v, cr3))
			return 1;
		if (is_pae_paging(v) && !kvm_load_pdptrs(v, cr3))
			return 1;
		v->regs.cr3 = cr3;
		regcache_mark_dirty(&v->regs, VCPU_EXREG_CR3);
		mmu_new_pgd(v, cr3);
	} else if (is_pae_paging(v) && !kvm_load_pdptrs(v, cr3)) {
		return 1;
	}
	if (!skip_flush)
		mmu_flush_cr3(v, cr3);
	return 0;
}

int kvm_set_cr8(struct kvm_vcpu *v, u64 cr8)
{
	if (cr8 & CR8_RESERVED)
		return 1;
	lapic_set_cr8(v, cr8);
	return 0;
}

u64 kvm_get_cr8(struct kvm_vcpu *v)
{
	return lapic_get_cr8(v);
}

/* ---- XCR0 ---- */

#define XFEATURE_FP  BIT(0)
#define XFEATURE_SSE BIT(1)
#define XFEATURE_YMM BIT(2)
#define XFEATURE_BND (BIT(3) | BIT(4))
#define XFEATURE_512 (BIT(5) | BIT(6) | BIT(7))

int kvm_set_xcr(struct kvm_vcpu *v, u32 index, u64 xcr0)
{
	u64 old = v->hw->xcr0;

	if (index != 0)
		return 1;
	if (!(xcr0 & XFEATURE_FP))
		return 1;
	if ((xcr0 & XFEATURE_YMM) && !(xcr0 & XFEATURE_SSE))
		return 1;
	/* Whatever the guest may have, FP state can be enabled. */
	if (xcr0 & ~(v->arch->supported_xcr0 | XFEATURE_FP))
		return 1;
	if ((xcr0 & XFEATURE_BND) && (xcr0 & XFEATURE_BND) != XFEATURE_BND)
		return 1;
	if (xcr0 & XFEATURE_512) {
		if (!(xcr0 & XFEATURE_YMM) || (xcr0 & XFEATURE_512) != XFEATURE_512)
			return 1;
	}
	v->hw->xcr0 = xcr0;
	if (xcr0 != old)
		kvm_update_cpuid_runtime(v);
	return 0;
}

int kvm_emulate_xsetbv(struct kvm_vcpu *v)
{
	if (kvm_get_cpl(v) != 0 || kvm_set_xcr(v, (u32)v->hw->gpr[RCX], kvm_read_edx_eax(v)))
		return kvm_inject_gp(v);
	return kvm_skip_emulated_instruction(v);
}

/* ---- Debug registers ---- */

static bool user_has_debug_registers(const struct kvm_vcpu *v)
{
	return v->arch->guest_debug & KVM_GUESTDBG_USE_HW_BP;
}

void kvm_update_dr7(struct kvm_vcpu *v)
{
	v->kvm->ops->set_dr7(v,
			     user_has_debug_registers(v) ? v->arch->guest_debug_dr7 : v->arch->dr7);
}

static u64 dr6_fixed(const struct kvm_vcpu *v)
{
	u64 fixed = DR6_FIXED_1 | DR6_BUS_LOCK;

	if (!guest_cpuid_has(v, FEAT_RTM))
		fixed |= DR6_RTM;
	return fixed;
}

int kvm_set_dr(struct kvm_vcpu *v, unsigned dr, u64 val)
{
	switch (dr) {
	case 0 ... 3:
		v->arch->db[dr] = val;
		if (!user_has_debug_registers(v))
			v->hw->dr[dr] = val;
		return 0;
	case 4:
	case 6:
		if (val >> 32)
			return 1;
		v->hw->dr6 = (val & DR6_VOLATILE) | dr6_fixed(v);
		return 0;
	default:
		if (val >> 32)
			return 1;
		v->arch->dr7 = (val & DR7_VOLATILE) | DR7_FIXED_1;
		kvm_update_dr7(v);
		return 0;
	}
}

u64 kvm_get_dr(struct kvm_vcpu *v, unsigned dr)
{
	switch (dr) {
	case 0 ... 3: return user_has_debug_registers(v) ? v->arch->db[dr] : v->hw->dr[dr];
	case 4:
	case 6: return v->hw->dr6;
	default: return user_has_debug_registers(v) ? v->arch->dr7 : v->kvm->ops->get_dr7(v);
	}
}

bool kvm_require_dr(struct kvm_vcpu *v, unsigned dr)
{
	if ((dr != 4 && dr != 5) || !kvm_read_cr4_bits(v, CR4_DE))
		return true;
	kvm_queue_exception(v, X86_UD);
	return false;
}

bool kvm_require_cpl(struct kvm_vcpu *v, unsigned cpl)
{
	if (kvm_get_cpl(v) <= cpl)
		return true;
	kvm_queue_exception_e(v, X86_GP, 0);
	return false;
}
