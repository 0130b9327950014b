/* SPDX-License-Identifier: MIT */
/* Moving the vCPU's state into the emulator's processor and back. */
#include <string.h>

#include "core/emulate/emulate_impl.h"
#include "core/msr.h"
#include "isa/flags.h"
#include "spec/msr.h"

/* x87 and vector registers end the structure; most instructions do not look at them. */
#define REGS_HEAD offsetof(struct isa_regs, x87)
_Static_assert(offsetof(struct isa_regs, vec) > REGS_HEAD, "vector registers come after x87");

void emul_reload_cr(struct emulator *e)
{
	struct isa_sys *s = &e->c.s;
	struct kvm_vcpu *v = e->v;

	s->cr0 = kvm_read_cr0(v);
	s->cr3 = kvm_read_cr3(v);
	s->cr4 = kvm_read_cr4(v);
	s->efer = kvm_efer_read(v);
}

void emul_load(struct emulator *e)
{
	const struct kvm_x86_ops *ops = e->v->kvm->ops;
	struct isa_cpu *c = &e->c;
	struct kvm_vcpu *v = e->v;

	(void)kvm_rsp_read(v); /* into the register file */
	memcpy(&c->r, v->hw, REGS_HEAD);
	memcpy(e->gpr_before, c->r.gpr, sizeof(e->gpr_before));
	c->s.rip = kvm_rip_read(v);
	isa_set_flags(c, kvm_get_rflags(v));
	for (unsigned i = 0; i < ISA_NSEG; i++)
		kvm_get_segment(v, &c->s.seg[i], i);
	emul_reload_cr(e);
	c->s.interruptibility = ops->get_interrupt_shadow(v);
	if (e->flags & EMUL_WHOLE && ops->get_nmi_mask(v))
		c->s.interruptibility |= ISA_BLOCK_NMI;
	c->s.activity = ISA_ACTIVE;
	c->s.pending_dbg = 0;
	c->request = 0;
	isa_mode_changed(c);
	e->before = c->s;
	e->before.rflags = isa_flags(c);
}

void emul_load_system(struct emulator *e)
{
	struct isa_sys *s = &e->c.s;
	struct kvm_vcpu *v = e->v;

	v->kvm->ops->get_gdt(v, &s->gdtr);
	v->kvm->ops->get_idt(v, &s->idtr);
	s->cr8 = kvm_get_cr8(v);
	s->dr7 = kvm_get_dr(v, 7);
	for (unsigned i = 0; i < 4; i++)
		e->c.r.dr[i] = kvm_get_dr(v, i);
	e->c.r.dr6 = kvm_get_dr(v, 6);
	(void)kvm_get_msr_host(v, MSR_IA32_SYSENTER_CS, &s->sysenter_cs);
	(void)kvm_get_msr_host(v, MSR_IA32_SYSENTER_ESP, &s->sysenter_esp);
	(void)kvm_get_msr_host(v, MSR_IA32_SYSENTER_EIP, &s->sysenter_eip);
	e->before = *s;
	e->before.rflags = isa_flags(&e->c);
}

void emul_load_vector(struct emulator *e)
{
	memcpy((char *)&e->c.r + REGS_HEAD, (char *)e->v->hw + REGS_HEAD,
	       sizeof(e->c.r) - REGS_HEAD);
}

static void store_segments(struct emulator *e)
{
	for (unsigned i = 0; i < ISA_NSEG; i++) {
		const struct isa_seg *a = &e->c.s.seg[i], *b = &e->before.seg[i];

		if (a->sel != b->sel || a->ar != b->ar || a->limit != b->limit ||
		    a->base != b->base)
			kvm_set_segment(e->v, a, i);
	}
}

static void store_dtr(struct kvm_vcpu *v, const struct isa_dtr *now, const struct isa_dtr *before,
		      void (*set)(struct kvm_vcpu *v, const struct isa_dtr *dt))
{
	if (now->base != before->base || now->limit != before->limit)
		set(v, now);
}

void emul_store(struct emulator *e, bool vector)
{
	const struct kvm_x86_ops *ops = e->v->kvm->ops;
	struct isa_cpu *c = &e->c;
	struct kvm_vcpu *v = e->v;
	u64 flags = isa_flags(c);

	for (unsigned i = 0; i < 16; i++)
		if (c->r.gpr[i] != e->gpr_before[i])
			kvm_register_write_raw(v, i, c->r.gpr[i]);
	if (vector)
		memcpy((char *)v->hw + REGS_HEAD, (char *)&c->r + REGS_HEAD,
		       sizeof(c->r) - REGS_HEAD);
	if (flags != e->before.rflags)
		kvm_set_rflags(v, flags);
	/* Something held back by IF = 0 may go now. */
	if (flags & ~e->before.rflags & X86_IF)
		kvm_make_request(v, REQ_EVENT);
	store_segments(e);
	store_dtr(v, &c->s.gdtr, &e->before.gdtr, ops->set_gdt);
	store_dtr(v, &c->s.idtr, &e->before.idtr, ops->set_idt);
}
