/* SPDX-License-Identifier: MIT */
#include "core/smm.h"

#include <string.h>

#include "base/log.h"
#include "core/core.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/vcpu.h"

/* From the end of the 64 KiB at SMBASE: its last 512 bytes are the save area. */
#define SAVE_AREA    0xfe00
#define SMI_ENTRY    0x8000
#define REVISION_64  0x00020064 /* SMBASE may be relocated */
#define RESET_DR7    0x400
#define SMM_SEG_ATTR 0x8093 /* 4 GiB, present, writable data */
#define ATTR_PRESENT BIT(7)

struct save_segment {
	u16 selector;
	u16 attributes; /* as the VMCS has access rights: bits 7:0 and 15:12 */
	u32 limit;
	u64 base;
};

/* Offsets from SAVE_AREA. */
struct save_area {
	struct save_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; /* 0x000 */
	u64 io_restart[4];						  /* 0x0a0 */
	u32 io_restart_dword, reserved1;				  /* 0x0c0 */
	u8 io_instruction_restart, auto_halt_restart, nmi_mask;		  /* 0x0c8 */
	u8 interrupt_shadow; /* 0x0cb: reserved, ours */
	u32 reserved2;
	u64 efer; /* 0x0d0 */
	u64 svm_guest, svm_vmcb, svm_virtual_interrupt;
	u32 reserved3[3]; /* 0x0f0 */
	u32 revision;	  /* 0x0fc */
	u32 smbase;	  /* 0x100 */
	u32 reserved4[5];
	u64 ssp, guest_pat, host_efer, host_cr4, host_cr3, host_cr0; /* 0x118 */
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;		     /* 0x148 */
	u64 gpr[16]; /* 0x180: R15 to R8, RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX */
};
_Static_assert(sizeof(struct save_area) == 512, "APM vol. 2, table 10-1");
_Static_assert(offsetof(struct save_area, efer) == 0xd0, "APM vol. 2, table 10-1");
_Static_assert(offsetof(struct save_area, revision) == 0xfc, "APM vol. 2, table 10-1");
_Static_assert(offsetof(struct save_area, cr4) == 0x148, "APM vol. 2, table 10-1");
_Static_assert(offsetof(struct save_area, gpr) == 0x180, "APM vol. 2, table 10-1");

/* ---- Between the save area and the state ioctls' structures ---- */

static struct save_segment save_segment(const struct kvm_segment *s)
{
	return (struct save_segment){
		.selector = s->selector,
		.attributes = (u16)(s->type | s->s << 4 | s->dpl << 5 | s->present << 7 |
				    s->avl << 12 | s->l << 13 | s->db << 14 | s->g << 15),
		.limit = s->limit,
		.base = s->base,
	};
}

static struct kvm_segment load_segment(const struct save_segment *s)
{
	u16 a = s->attributes;

	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = a & 0xf,
		.s = a >> 4 & 1,
		.dpl = a >> 5 & 3,
		.present = a >> 7 & 1,
		.avl = a >> 12 & 1,
		.l = a >> 13 & 1,
		.db = a >> 14 & 1,
		.g = a >> 15 & 1,
		.unusable = !(a & ATTR_PRESENT),
	};
}

/* In the save area's order, and back. */
#define SEGMENTS(X) \
	X(es, es) X(cs, cs) X(ss, ss) X(ds, ds) X(fs, fs) X(gs, gs) X(ldtr, ldt) X(tr, tr)

static const size_t gpr_offset[16] = {
	offsetof(struct kvm_regs, r15), offsetof(struct kvm_regs, r14),
	offsetof(struct kvm_regs, r13), offsetof(struct kvm_regs, r12),
	offsetof(struct kvm_regs, r11), offsetof(struct kvm_regs, r10),
	offsetof(struct kvm_regs, r9),	offsetof(struct kvm_regs, r8),
	offsetof(struct kvm_regs, rdi), offsetof(struct kvm_regs, rsi),
	offsetof(struct kvm_regs, rbp), offsetof(struct kvm_regs, rsp),
	offsetof(struct kvm_regs, rbx), offsetof(struct kvm_regs, rdx),
	offsetof(struct kvm_regs, rcx), offsetof(struct kvm_regs, rax),
};

static void save(struct kvm_vcpu *v, struct save_area *a)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	vcpu_get_regs(v, &r);
	vcpu_get_sregs(v, &s);
	memset(a, 0, sizeof(*a));
	for (unsigned i = 0; i < 16; i++)
		a->gpr[i] = *(const u64 *)((const u8 *)&r + gpr_offset[i]);
	a->rip = r.rip;
	a->rflags = r.rflags;
#define SAVE(area, abi) a->area = save_segment(&s.abi);
	SEGMENTS(SAVE)
#undef SAVE
	a->gdtr.base = s.gdt.base;
	a->gdtr.limit = s.gdt.limit;
	a->idtr.base = s.idt.base;
	a->idtr.limit = s.idt.limit;
	a->efer = s.efer;
	a->cr0 = s.cr0;
	a->cr3 = s.cr3;
	a->cr4 = s.cr4;
	a->dr6 = kvm_get_dr(v, 6);
	a->dr7 = kvm_get_dr(v, 7);
	a->revision = REVISION_64;
	a->smbase = (u32)v->arch->smbase;
	a->interrupt_shadow = (u8)v->kvm->ops->get_interrupt_shadow(v);
}

/* False if the handler has left a state there that cannot be. */
static bool load(struct kvm_vcpu *v, const struct save_area *a)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	vcpu_get_sregs(v, &s); /* for what is not in the area: CR2, CR8, APIC base */
	for (unsigned i = 0; i < 16; i++)
		*(u64 *)((u8 *)&r + gpr_offset[i]) = a->gpr[i];
	r.rip = a->rip;
	r.rflags = (a->rflags & 0x3f7fd5) | 2;
#define LOAD(area, abi) s.abi = load_segment(&a->area);
	SEGMENTS(LOAD)
#undef LOAD
	s.gdt.base = a->gdtr.base;
	s.gdt.limit = (u16)a->gdtr.limit;
	s.idt.base = a->idtr.base;
	s.idt.limit = (u16)a->idtr.limit;
	s.efer = a->efer;
	s.cr0 = a->cr0;
	s.cr3 = a->cr3;
	s.cr4 = a->cr4;
	if (vcpu_set_sregs(v, &s))
		return false;
	vcpu_set_regs(v, &r);
	kvm_set_dr(v, 6, (u32)a->dr6);
	kvm_set_dr(v, 7, (u32)a->dr7);
	if (a->revision & 0x20000)
		v->arch->smbase = a->smbase;
	v->kvm->ops->set_interrupt_shadow(v, a->interrupt_shadow);
	return true;
}

/* ---- Entering and leaving ---- */

void kvm_smm_changed(struct kvm_vcpu *v, bool entering)
{
	v->arch->smm = entering;
	/* What was latched meanwhile is due; the tables are the other address space's. */
	kvm_make_request(v, REQ_EVENT);
	kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	mmu_reset_context(v);
}

static void set_entry_state(struct kvm_vcpu *v)
{
	const struct save_segment flat = {.attributes = SMM_SEG_ATTR, .limit = ~0u};
	struct kvm_sregs s;
	struct kvm_regs r;

	vcpu_get_regs(v, &r);
	r.rip = SMI_ENTRY;
	r.rflags = 2;
	vcpu_get_sregs(v, &s);
	s.cs = s.ds = s.es = s.fs = s.gs = s.ss = load_segment(&flat);
	s.cs.selector = (u16)(v->arch->smbase >> 4);
	s.cs.base = v->arch->smbase;
	s.idt.base = 0;
	s.idt.limit = 0;
	s.cr0 &= ~(u64)(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
	s.cr4 = 0;
	s.efer = 0;
	BUG_ON(vcpu_set_sregs(v, &s));
	vcpu_set_regs(v, &r);
	kvm_set_dr(v, 7, RESET_DR7);
	v->kvm->ops->set_interrupt_shadow(v, 0);
}

void kvm_enter_smm(struct kvm_vcpu *v)
{
	const struct kvm_x86_ops *ops = v->kvm->ops;
	struct save_area a;

	save(v, &a);
	if (ops->nested)
		ops->nested->enter_smm(v);
	kvm_smm_changed(v, true);
	if (vcpu_write_guest(v, v->arch->smbase + SAVE_AREA, &a, sizeof(a))) {
		/* There is no memory to save to: nothing could be resumed. */
		kvm_make_request(v, REQ_TRIPLE_FAULT);
		return;
	}
	v->arch->smi_count++;
	v->arch->smm_inside_nmi = ops->get_nmi_mask(v);
	ops->set_nmi_mask(v, true);
	set_entry_state(v);
}

int kvm_emulate_rsm(struct kvm_vcpu *v)
{
	struct save_area a;

	if (vcpu_read_guest(v, v->arch->smbase + SAVE_AREA, &a, sizeof(a))) {
		kvm_make_request(v, REQ_TRIPLE_FAULT);
		return 1;
	}
	if (!v->arch->smm_inside_nmi)
		v->kvm->ops->set_nmi_mask(v, false);
	kvm_smm_changed(v, false);
	if ((v->kvm->ops->nested && v->kvm->ops->nested->leave_smm(v)) || !load(v, &a))
		kvm_make_request(v, REQ_TRIPLE_FAULT);
	return 1;
}
