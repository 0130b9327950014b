/* SPDX-License-Identifier: MIT */
/* Guest registers in the VMCS, behind the register cache (docs/register-cache.md). */
#include "core/cpuid.h"
#include "core/mmu/mmu.h"
#include "core/vmx/nested/nested.h"

/* ---- The cache ---- */

void vmx_cache_reg(struct kvm_vcpu *v, enum kvm_reg reg)
{
	struct regcache *r = &v->regs;
	u64 owned;

	switch ((unsigned)reg) {
	case RSP: v->hw->gpr[RSP] = vmcs_read(v, GUEST_RSP); break;
	case VCPU_REG_RIP: r->rip = vmcs_read(v, GUEST_RIP); break;
	case VCPU_EXREG_RFLAGS: r->rflags = vmcs_read(v, GUEST_RFLAGS); break;
	case VCPU_EXREG_PDPTR:
		/* Without EPT the processor loads its own, the shadow's, and these are only here.
		 */
		for (unsigned i = 0; i < 4 && vmx_of(v)->config->ept; i++)
			r->pdptr[i] = vmcs_read(v, GUEST_PDPTR0 + 2 * i);
		break;
	case VCPU_EXREG_SEGMENTS: r->seg_fields = 0; break;
	case VCPU_EXREG_CR0:
		/* The other bits only change through us: the cache has them even now. */
		owned = v->arch->cr0_guest_owned;
		r->cr0 = (r->cr0 & ~owned) | (vmcs_read(v, GUEST_CR0) & owned);
		break;
	case VCPU_EXREG_CR3:
		if (vmx_of(v)->config->ept)
			r->cr3 = vmcs_read(v, GUEST_CR3);
		break;
	case VCPU_EXREG_CR4:
		owned = v->arch->cr4_guest_owned;
		r->cr4 = (r->cr4 & ~owned) | (vmcs_read(v, GUEST_CR4) & owned);
		break;
	case VCPU_EXREG_EXIT_INFO_1: r->exit_info_1 = vmcs_read(v, EXIT_QUALIFICATION); break;
	case VCPU_EXREG_EXIT_INFO_2: r->exit_info_2 = (u32)vmcs_read(v, VM_EXIT_INTR_INFO); break;
	default: BUG("register %u is not lazy", reg);
	}
	regcache_mark_available(r, reg);
}

void vmx_store_dirty(struct kvm_vcpu *v)
{
	struct regcache *r = &v->regs;

	if (r->dirty & VMX_LAZY_SET) {
		if (regcache_is_dirty(r, (enum kvm_reg)RSP))
			vmcs_write(v, GUEST_RSP, v->hw->gpr[RSP]);
		if (regcache_is_dirty(r, VCPU_REG_RIP))
			vmcs_write(v, GUEST_RIP, r->rip);
		if (regcache_is_dirty(r, VCPU_EXREG_CR3) && vmx_of(v)->config->ept)
			vmcs_write(v, GUEST_CR3, r->cr3);
		if (regcache_is_dirty(r, VCPU_EXREG_PDPTR) && vmx_of(v)->config->ept)
			for (unsigned i = 0; i < 4; i++)
				vmcs_write(v, GUEST_PDPTR0 + 2 * i, r->pdptr[i]);
	}
	regcache_stored(r);
}

/* ---- RFLAGS ---- */

u64 vmx_get_rflags(struct kvm_vcpu *v)
{
	kvm_cache_need(v, VCPU_EXREG_RFLAGS);
	return v->regs.rflags;
}

void vmx_set_rflags(struct kvm_vcpu *v, u64 rflags)
{
	v->regs.rflags = rflags;
	regcache_mark_available(&v->regs, VCPU_EXREG_RFLAGS);
	vmcs_write(v, GUEST_RFLAGS, rflags);
}

/* ---- Segments: read field by field, because most exits look at one ---- */

enum seg_field { SEG_FIELD_SEL, SEG_FIELD_BASE, SEG_FIELD_LIMIT, SEG_FIELD_AR };
/* The eight segments' fields lie two encodings apart, in the order of enum isa_segname. */
_Static_assert(GUEST_TR_SELECTOR == GUEST_ES_SELECTOR + 2 * TR, "order of selectors");
_Static_assert(GUEST_TR_BASE == GUEST_ES_BASE + 2 * TR, "order of bases");
_Static_assert(GUEST_TR_LIMIT == GUEST_ES_LIMIT + 2 * TR, "order of limits");
_Static_assert(GUEST_TR_AR_BYTES == GUEST_ES_AR_BYTES + 2 * TR, "order of access rights");

static struct isa_seg *seg_need(struct kvm_vcpu *v, unsigned seg, enum seg_field field)
{
	struct regcache *r = &v->regs;
	u32 bit = 1u << (seg * 4 + field);
	struct isa_seg *s = &r->seg[seg];

	kvm_cache_need(v, VCPU_EXREG_SEGMENTS);
	if (r->seg_fields & bit)
		return s;
	switch (field) {
	case SEG_FIELD_SEL: s->sel = (u16)vmcs_read(v, GUEST_ES_SELECTOR + 2 * seg); break;
	case SEG_FIELD_BASE: s->base = vmcs_read(v, GUEST_ES_BASE + 2 * seg); break;
	case SEG_FIELD_LIMIT: s->limit = (u32)vmcs_read(v, GUEST_ES_LIMIT + 2 * seg); break;
	case SEG_FIELD_AR: s->ar = (u32)vmcs_read(v, GUEST_ES_AR_BYTES + 2 * seg); break;
	}
	r->seg_fields |= bit;
	return s;
}

void vmx_get_segment(struct kvm_vcpu *v, struct isa_seg *s, unsigned seg)
{
	seg_need(v, seg, SEG_FIELD_SEL);
	seg_need(v, seg, SEG_FIELD_BASE);
	seg_need(v, seg, SEG_FIELD_LIMIT);
	*s = *seg_need(v, seg, SEG_FIELD_AR);
}

u64 vmx_get_segment_base(struct kvm_vcpu *v, unsigned seg)
{
	return seg_need(v, seg, SEG_FIELD_BASE)->base;
}

void vmx_set_segment(struct kvm_vcpu *v, const struct isa_seg *s, unsigned seg)
{
	struct isa_seg new = *s;

	/*
	 * CS of real mode keeps its base across the switch to "unrestricted" protected mode, and
	 * descriptors restored by user space lack the accessed bit that a loaded segment always has
	 * (SDM, 27.3.1.2): set it, except in LDTR, whose type has none.
	 */
	if (seg != LDTR && !(new.ar &SEG_AR_UNUSABLE))
		new.ar |= 1;
	vmcs_write(v, GUEST_ES_SELECTOR + 2 * seg, new.sel);
	vmcs_write(v, GUEST_ES_BASE + 2 * seg, new.base);
	vmcs_write(v, GUEST_ES_LIMIT + 2 * seg, new.limit);
	vmcs_write(v, GUEST_ES_AR_BYTES + 2 * seg, new.ar);
	kvm_cache_need(v, VCPU_EXREG_SEGMENTS);
	v->regs.seg[seg] = new;
	v->regs.seg_fields |= 0xfu << (seg * 4);
}

/* SDM, 27.4.1: SS.DPL is CPL whenever a VMCS is saved. */
unsigned vmx_get_cpl(struct kvm_vcpu *v)
{
	return SEG_AR_DPL(seg_need(v, SS, SEG_FIELD_AR)->ar);
}

void vmx_get_idt(struct kvm_vcpu *v, struct isa_dtr *dt)
{
	dt->base = vmcs_read(v, GUEST_IDTR_BASE);
	dt->limit = (u32)vmcs_read(v, GUEST_IDTR_LIMIT);
}

void vmx_set_idt(struct kvm_vcpu *v, const struct isa_dtr *dt)
{
	vmcs_write(v, GUEST_IDTR_BASE, dt->base);
	vmcs_write(v, GUEST_IDTR_LIMIT, dt->limit);
}

void vmx_get_gdt(struct kvm_vcpu *v, struct isa_dtr *dt)
{
	dt->base = vmcs_read(v, GUEST_GDTR_BASE);
	dt->limit = (u32)vmcs_read(v, GUEST_GDTR_LIMIT);
}

void vmx_set_gdt(struct kvm_vcpu *v, const struct isa_dtr *dt)
{
	vmcs_write(v, GUEST_GDTR_BASE, dt->base);
	vmcs_write(v, GUEST_GDTR_LIMIT, dt->limit);
}

/* ---- Control registers ---- */

bool vmx_is_valid_cr0(struct kvm_vcpu *v, u64 cr0)
{
	/* An unrestricted guest may have any that the architecture allows; in VMX operation some
	 * bits are fixed (SDM, A.7). */
	return !nested_of(v)->vmxon || nested_cr0_valid(v, cr0);
}

bool vmx_is_valid_cr4(struct kvm_vcpu *v, u64 cr4)
{
	/* Whether there is VMX at all, cr4_reserved says. SDM vol. 3C, 32.14.4: not in SMM. */
	if ((cr4 & CR4_VMXE) && kvm_is_smm(v))
		return false;
	return !nested_of(v)->vmxon || nested_cr4_valid(v, cr4);
}

/* Bits the guest may change without us: nothing in the core hangs on them between exits. */
#define CR4_POSSIBLE_GUEST_OWNED                                                        \
	(CR4_PVI | CR4_DE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PGE | CR4_TSD | \
	 CR4_FSGSBASE)

u64 vmx_cr0_guest_owned(struct kvm_vcpu *v)
{
	/* A shadow is made for one value of CR0.WP. */
	u64 owned = CR0_TS | (vmx_of(v)->config->ept ? CR0_WP : 0);

	return is_guest_mode(v) ? owned & ~V12(vmcs12_of(v), CR0_GUEST_HOST_MASK) : owned;
}

u64 vmx_cr4_guest_owned(struct kvm_vcpu *v)
{
	u64 owned = CR4_POSSIBLE_GUEST_OWNED & ~v->arch->cr4_reserved;

	/* Changing it flushes. */
	if (!vmx_of(v)->config->ept)
		owned &= ~CR4_PGE;
	return is_guest_mode(v) ? owned & ~V12(vmcs12_of(v), CR4_GUEST_HOST_MASK) : owned;
}

void vmx_set_cr4_guest_host_mask(struct kvm_vcpu *v)
{
	kvm_read_cr4(v); /* by the old mask, before it changes */
	v->arch->cr4_guest_owned = vmx_cr4_guest_owned(v);
	vmx_write_cr4_guest_host_mask(v, ~v->arch->cr4_guest_owned);
}

static void enter_lmode(struct kvm_vcpu *v)
{
	struct isa_seg tr;

	/* A 64-bit TSS is the only valid one from here on; an old 16-bit one is made into it, as
	 * the processor would fault only at its next use. */
	vmx_get_segment(v, &tr, TR);
	if ((tr.ar & SEG_AR_TYPE) != 11) {
		tr.ar = (u32)((tr.ar & ~SEG_AR_TYPE) | 11);
		vmx_set_segment(v, &tr, TR);
	}
	vmx_set_efer(v, v->arch->efer | EFER_LMA);
}

static void exit_lmode(struct kvm_vcpu *v)
{
	vmx_set_efer(v, v->arch->efer & ~EFER_LMA);
}

/* SDM, A.8; and what the processor's own paging needs where that is not the guest's. */
static void write_hw_cr4(struct kvm_vcpu *v)
{
	const struct vmx_config *c = vmx_of(v)->config;
	u64 hw = v->regs.cr4 | CR4_VMXE;

	if (!c->ept)
		hw = (hw | CR4_PAE) & ~CR4_PKE;
	/* Code that runs unpaged for the guest is paged for the processor, by user pages. */
	if (!c->unrestricted && !(v->regs.cr0 & CR0_PG))
		hw &= ~(CR4_SMEP | CR4_SMAP | CR4_PKE);
	vmcs_write(v, GUEST_CR4, hw);
}

void vmx_load_cr0(struct kvm_vcpu *v, u64 cr0)
{
	const struct vmx_config *c = vmx_of(v)->config;
	/* Caching is not ours to disable, and NE must be 1 in VMX operation (SDM, A.7). */
	u64 hw = (cr0 & ~(CR0_NW | CR0_CD)) | CR0_NE;

	if (!c->unrestricted)
		hw |= CR0_PE | CR0_PG;
	if (!c->ept)
		hw |= CR0_WP;
	vmx_write_cr0_read_shadow(v, is_guest_mode(v) ? v12_cr0_shadow(vmcs12_of(v), cr0) : cr0);
	vmcs_write(v, GUEST_CR0, hw);
	v->regs.cr0 = cr0;
	regcache_mark_available(&v->regs, VCPU_EXREG_CR0);
	vmx_update_emulation(v);
}

void vmx_set_cr0(struct kvm_vcpu *v, u64 cr0)
{
	const struct vmx_config *c = vmx_of(v)->config;
	u64 old = kvm_read_cr0_bits(v, CR0_PG);

	if (v->arch->efer & EFER_LME) {
		if (!old && (cr0 & CR0_PG))
			enter_lmode(v);
		else if (old && !(cr0 & CR0_PG))
			exit_lmode(v);
	}
	vmx_load_cr0(v, cr0);
	if (!c->unrestricted && (old ^ cr0) & CR0_PG) {
		kvm_read_cr4(v);
		write_hw_cr4(v);
	}
}

void vmx_set_cr4(struct kvm_vcpu *v, u64 cr4)
{
	v->regs.cr4 = cr4;
	regcache_mark_available(&v->regs, VCPU_EXREG_CR4);
	vmx_write_cr4_read_shadow(v, is_guest_mode(v) ? v12_cr4_shadow(vmcs12_of(v), cr4) : cr4);
	write_hw_cr4(v);
}

void vmx_set_efer(struct kvm_vcpu *v, u64 efer)
{
	v->arch->efer = efer;
	if (efer & EFER_LMA)
		vmx_entry_setbit(v, VM_ENTRY_IA32E_MODE);
	else
		vmx_entry_clearbit(v, VM_ENTRY_IA32E_MODE);
	/* CR0.PG is always 1 there: LME follows LMA (SDM, 27.3.1.1). */
	if (!vmx_of(v)->config->unrestricted && !(efer & EFER_LMA))
		efer &= ~EFER_LME;
	/* Shadow entries use the bit whether the guest's do or not. */
	if (!vmx_of(v)->config->ept)
		efer |= EFER_NXE;
	vmx_write_efer(v, efer);
}

u64 vmx_get_dr7(struct kvm_vcpu *v)
{
	return vmcs_read(v, GUEST_DR7);
}

void vmx_set_dr7(struct kvm_vcpu *v, u64 dr7)
{
	vmcs_write(v, GUEST_DR7, dr7);
}
