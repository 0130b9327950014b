/* SPDX-License-Identifier: MIT */
/* KVM_GET_* and KVM_SET_* of registers. */
#include <errno.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/emulate/emulate.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/msr.h"
#include "core/vcpu.h"

/* ---- General registers ---- */

int vcpu_get_regs(struct kvm_vcpu *v, struct kvm_regs *r)
{
	const u64 *g = v->hw->gpr;

	*r = (struct kvm_regs){
		.rax = g[RAX],
		.rbx = g[RBX],
		.rcx = g[RCX],
		.rdx = g[RDX],
		.rsi = g[RSI],
		.rdi = g[RDI],
		.rsp = kvm_rsp_read(v),
		.rbp = g[RBP],
		.r8 = g[R8],
		.r9 = g[R9],
		.r10 = g[R10],
		.r11 = g[R11],
		.r12 = g[R12],
		.r13 = g[R13],
		.r14 = g[R14],
		.r15 = g[R15],
		.rip = kvm_rip_read(v),
		.rflags = kvm_get_rflags(v),
	};
	return 0;
}

int vcpu_set_regs(struct kvm_vcpu *v, const struct kvm_regs *r)
{
	const u64 vals[16] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
			      r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};

	for (unsigned i = 0; i < 16; i++)
		kvm_register_write_raw(v, i, vals[i]);
	kvm_rip_write(v, r->rip);
	kvm_set_rflags(v, r->rflags | 2);
	v->arch->exception.pending = false;
	kvm_make_request(v, REQ_EVENT);
	return 0;
}

/* ---- System registers ---- */

static void segment_to_abi(struct kvm_vcpu *v, struct kvm_segment *out, unsigned seg)
{
	struct isa_seg s;

	kvm_get_segment(v, &s, seg);
	*out = (struct kvm_segment){
		.base = s.base,
		.limit = s.limit,
		.selector = s.sel,
		.type = s.ar & SEG_AR_TYPE,
		.s = !!(s.ar & SEG_AR_S),
		.dpl = SEG_AR_DPL(s.ar),
		/* KVM shows an unusable segment as one that is not present. */
		.present = !(s.ar & SEG_AR_UNUSABLE),
		.avl = !!(s.ar & SEG_AR_AVL),
		.l = !!(s.ar & SEG_AR_L),
		.db = !!(s.ar & SEG_AR_DB),
		.g = !!(s.ar & SEG_AR_G),
		.unusable = !!(s.ar & SEG_AR_UNUSABLE),
	};
}

static void segment_from_abi(struct kvm_vcpu *v, const struct kvm_segment *in, unsigned seg)
{
	struct isa_seg s = {.sel = in->selector, .limit = in->limit, .base = in->base};

	s.ar = (in->type & 15u) | (u32)(in->s & 1) << 4 | (u32)(in->dpl & 3) << 5 |
	       (u32)(in->present & 1) << 7 | (u32)(in->avl & 1) << 12 | (u32)(in->l & 1) << 13 |
	       (u32)(in->db & 1) << 14 | (u32)(in->g & 1) << 15;
	if (in->unusable || !in->present)
		s.ar |= SEG_AR_UNUSABLE;
	kvm_set_segment(v, &s, seg);
}

/* The part that both structures begin with has the same layout. */
_Static_assert(offsetof(struct kvm_sregs, apic_base) == offsetof(struct kvm_sregs2, apic_base),
	       "sregs and sregs2 begin alike");

static void get_common(struct kvm_vcpu *v, struct kvm_sregs *s)
{
	struct isa_dtr dt;

	segment_to_abi(v, &s->cs, CS);
	segment_to_abi(v, &s->ds, DS);
	segment_to_abi(v, &s->es, ES);
	segment_to_abi(v, &s->fs, FS);
	segment_to_abi(v, &s->gs, GS);
	segment_to_abi(v, &s->ss, SS);
	segment_to_abi(v, &s->tr, TR);
	segment_to_abi(v, &s->ldt, LDTR);
	v->kvm->ops->get_idt(v, &dt);
	s->idt = (struct kvm_dtable){.base = dt.base, .limit = (u16)dt.limit};
	v->kvm->ops->get_gdt(v, &dt);
	s->gdt = (struct kvm_dtable){.base = dt.base, .limit = (u16)dt.limit};
	s->cr0 = kvm_read_cr0(v);
	s->cr2 = v->hw->cr2;
	s->cr3 = kvm_read_cr3(v);
	s->cr4 = kvm_read_cr4(v);
	s->cr8 = kvm_get_cr8(v);
	s->efer = v->arch->efer;
	s->apic_base = lapic_get_base(v);
}

static bool valid_cr0(u64 cr0)
{
	if (cr0 >> 32)
		return false;
	if ((cr0 & CR0_NW) && !(cr0 & CR0_CD))
		return false;
	return !(cr0 & CR0_PG) || (cr0 & CR0_PE);
}

static bool valid_sregs(struct kvm_vcpu *v, const struct kvm_sregs *s)
{
	if ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)) {
		/* IA-32e mode without its conditions cannot be entered. */
		if (!(s->cr4 & CR4_PAE) || !(s->efer & EFER_LMA))
			return false;
		if (!kvm_is_legal_gpa(v, s->cr3))
			return false;
	} else if ((s->efer & EFER_LMA) || s->cs.l) {
		return false;
	}
	return kvm_valid_efer(v, s->efer) && kvm_is_valid_cr4(v, s->cr4) && valid_cr0(s->cr0) &&
	       v->kvm->ops->is_valid_cr0(v, s->cr0);
}

static int set_common(struct kvm_vcpu *v, const struct kvm_sregs *s, bool load_pdptrs,
		      bool *reset_mmu)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;
	struct isa_dtr dt;

	if (!valid_sregs(v, s))
		return -EINVAL;
	if (lapic_set_base(v, s->apic_base, true))
		return -EINVAL;
	dt = (struct isa_dtr){.base = s->idt.base, .limit = s->idt.limit};
	ops->set_idt(v, &dt);
	dt = (struct isa_dtr){.base = s->gdt.base, .limit = s->gdt.limit};
	ops->set_gdt(v, &dt);
	v->hw->cr2 = s->cr2;
	*reset_mmu |= kvm_read_cr3(v) != s->cr3;
	if (kvm_read_cr3(v) != s->cr3) {
		v->regs.cr3 = s->cr3;
		regcache_mark_dirty(&v->regs, VCPU_EXREG_CR3);
		mmu_new_pgd(v, s->cr3);
	}
	kvm_set_cr8(v, s->cr8);
	*reset_mmu |= v->arch->efer != s->efer;
	ops->set_efer(v, s->efer);
	*reset_mmu |= kvm_read_cr0(v) != s->cr0;
	ops->set_cr0(v, s->cr0);
	*reset_mmu |= kvm_read_cr4(v) != s->cr4;
	ops->set_cr4(v, s->cr4);
	kvm_update_cpuid_runtime(v);
	if (load_pdptrs && is_pae_paging(v)) {
		kvm_load_pdptrs(v, s->cr3);
		*reset_mmu = true;
	}
	segment_from_abi(v, &s->cs, CS);
	segment_from_abi(v, &s->ds, DS);
	segment_from_abi(v, &s->es, ES);
	segment_from_abi(v, &s->fs, FS);
	segment_from_abi(v, &s->gs, GS);
	segment_from_abi(v, &s->ss, SS);
	segment_from_abi(v, &s->tr, TR);
	segment_from_abi(v, &s->ldt, LDTR);
	/* A boot processor put into its reset state runs. */
	if (kvm_vcpu_is_bsp(v) && kvm_rip_read(v) == 0xfff0 && s->cs.selector == 0xf000 &&
	    s->cs.base == 0xffff0000 && !is_protmode(v))
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

static void after_set_sregs(struct kvm_vcpu *v, bool reset_mmu)
{
	if (reset_mmu) {
		mmu_reset_context(v);
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	}
	kvm_make_request(v, REQ_EVENT);
}

int vcpu_get_sregs(struct kvm_vcpu *v, struct kvm_sregs *s)
{
	memset(s, 0, sizeof(*s));
	get_common(v, s);
	if (v->arch->interrupt.injected && !v->arch->interrupt.soft)
		s->interrupt_bitmap[v->arch->interrupt.nr / 64] |= BIT(v->arch->interrupt.nr % 64);
	return 0;
}

int vcpu_set_sregs(struct kvm_vcpu *v, const struct kvm_sregs *s)
{
	bool reset_mmu = false;
	int ret = set_common(v, s, true, &reset_mmu);

	if (ret)
		return ret;
	for (unsigned i = 0; i < ARRAY_SIZE(s->interrupt_bitmap); i++) {
		if (!s->interrupt_bitmap[i])
			continue;
		kvm_queue_interrupt(
			v, (u8)(i * 64 + (unsigned)__builtin_ctzll(s->interrupt_bitmap[i])), false);
		break;
	}
	after_set_sregs(v, reset_mmu);
	return 0;
}

int vcpu_get_sregs2(struct kvm_vcpu *v, struct kvm_sregs2 *s)
{
	memset(s, 0, sizeof(*s));
	get_common(v, (struct kvm_sregs *)s);
	if (is_pae_paging(v)) {
		for (unsigned i = 0; i < 4; i++)
			s->pdptrs[i] = kvm_pdptr_read(v, i);
		s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return 0;
}

int vcpu_set_sregs2(struct kvm_vcpu *v, const struct kvm_sregs2 *s)
{
	bool have_pdptrs = s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
	bool pae = (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA);
	bool reset_mmu = false;
	int ret;

	if (s->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if (have_pdptrs && !pae)
		return -EINVAL;
	ret = set_common(v, (const struct kvm_sregs *)s, !have_pdptrs, &reset_mmu);
	if (ret)
		return ret;
	if (have_pdptrs) {
		for (unsigned i = 0; i < 4; i++)
			v->regs.pdptr[i] = s->pdptrs[i];
		regcache_mark_dirty(&v->regs, VCPU_EXREG_PDPTR);
		reset_mmu = true;
	}
	after_set_sregs(v, reset_mmu);
	return 0;
}

/* ---- Floating point and extended state ---- */

int vcpu_get_fpu(struct kvm_vcpu *v, struct kvm_fpu *f)
{
	const struct isa_x87 *x = &v->hw->x87;

	memset(f, 0, sizeof(*f));
	memcpy(f->fpr, x->st, sizeof(f->fpr));
	f->fcw = x->fcw;
	f->fsw = x->fsw;
	f->ftwx = x->ftw;
	f->last_opcode = x->fop;
	f->last_ip = x->fip;
	f->last_dp = x->fdp;
	f->mxcsr = x->mxcsr;
	for (unsigned i = 0; i < 16; i++)
		memcpy(f->xmm[i], v->hw->vec[i].b, 16);
	return 0;
}

int vcpu_set_fpu(struct kvm_vcpu *v, const struct kvm_fpu *f)
{
	struct isa_x87 *x = &v->hw->x87;

	memcpy(x->st, f->fpr, sizeof(f->fpr));
	x->fcw = f->fcw;
	x->fsw = f->fsw;
	x->ftw = f->ftwx;
	x->fop = f->last_opcode;
	x->fip = f->last_ip;
	x->fdp = f->last_dp;
	x->mxcsr = f->mxcsr & x->mxcsr_mask;
	for (unsigned i = 0; i < 16; i++)
		memcpy(v->hw->vec[i].b, f->xmm[i], 16);
	return 0;
}

int vcpu_get_xsave(struct kvm_vcpu *v, void *area, size_t size)
{
	memset(area, 0, size);
	isa_xsave_export(v->hw, area, (u32)size, kvm_supported_xcr0());
	return 0;
}

int vcpu_set_xsave(struct kvm_vcpu *v, const void *area, size_t size)
{
	return isa_xsave_import(v->hw, area, (u32)size, kvm_supported_xcr0());
}

int vcpu_get_xcrs(struct kvm_vcpu *v, struct kvm_xcrs *x)
{
	memset(x, 0, sizeof(*x));
	if (!kvm_cpu_cap_has(FEAT_XSAVE))
		return 0;
	x->nr_xcrs = 1;
	x->xcrs[0].value = v->hw->xcr0;
	return 0;
}

int vcpu_set_xcrs(struct kvm_vcpu *v, const struct kvm_xcrs *x)
{
	if (!kvm_cpu_cap_has(FEAT_XSAVE) || x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (u32 i = 0; i < x->nr_xcrs; i++)
		if (x->xcrs[i].xcr == 0)
			return kvm_set_xcr(v, 0, x->xcrs[i].value) ? -EINVAL : 0;
	return 0;
}

/* ---- Translation ---- */

int vcpu_translate(struct kvm_vcpu *v, struct kvm_translation *t)
{
	return mmu_translate(v, t);
}
