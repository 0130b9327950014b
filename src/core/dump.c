/* SPDX-License-Identifier: MIT */
/* A vCPU as text, for a person. */
#include <stdarg.h>
#include <stdio.h>

#include "core/dump.h"
#include "core/vcpu.h"

void text_add(struct text *t, const char *fmt, ...)
{
	size_t left = (size_t)t->len < t->n ? t->n - (size_t)t->len : 0;
	va_list ap;

	va_start(ap, fmt);
	t->len += vsnprintf(left ? t->buf + t->len : NULL, left, fmt, ap);
	va_end(ap);
}

static void dump_registers(struct text *t, struct kvm_vcpu *v)
{
	static const char *const gpr[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const seg[ISA_NSEG] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	struct isa_dtr gdt, idt;

	for (unsigned i = 0; i < 16; i++)
		text_add(t, "%s%-3s %016llx", i % 4 ? "  " : "\n", gpr[i],
			 (unsigned long long)kvm_register_read_raw(v, i));
	text_add(t, "\nrip %016llx  rflags %08llx  cpl %u\n", (unsigned long long)kvm_rip_read(v),
		 (unsigned long long)kvm_get_rflags(v), kvm_get_cpl(v));
	for (unsigned i = 0; i < ISA_NSEG; i++) {
		struct isa_seg s;

		kvm_get_segment(v, &s, i);
		text_add(t, "%-4s %04x base %016llx limit %08x ar %05x\n", seg[i], s.sel,
			 (unsigned long long)s.base, s.limit, s.ar);
	}
	v->kvm->ops->get_gdt(v, &gdt);
	v->kvm->ops->get_idt(v, &idt);
	text_add(t, "gdt  base %016llx limit %04x  idt base %016llx limit %04x\n",
		 (unsigned long long)gdt.base, gdt.limit, (unsigned long long)idt.base, idt.limit);
	text_add(t, "cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx cr8 %llx efer %08llx\n",
		 (unsigned long long)kvm_read_cr0(v), (unsigned long long)v->hw->cr2,
		 (unsigned long long)kvm_read_cr3(v), (unsigned long long)kvm_read_cr4(v),
		 (unsigned long long)kvm_get_cr8(v), (unsigned long long)v->arch->efer);
}

int vcpu_dump(struct kvm_vcpu *v, char *buf, size_t n)
{
	const struct vcpu_arch *a = v->arch;
	struct text t = {buf, n, 0};

	text_add(&t, "vCPU %u (APIC ID %u): mp_state %d, requests %#llx", v->idx, v->id,
		 v->mp_state, (unsigned long long)v->req.pending);
	dump_registers(&t, v);
	text_add(&t, "events: exception %s%s %u, interrupt %s %u, nmi %s pending %u\n",
		 a->exception.pending ? "pending" : "-", a->exception.injected ? " injected" : "",
		 a->exception.vector, a->interrupt.injected ? "injected" : "-", a->interrupt.nr,
		 a->nmi_injected ? "injected" : "-", a->nmi_pending);
	t.len += v->kvm->ops->dump(v, (size_t)t.len < n ? buf + t.len : NULL,
				   (size_t)t.len < n ? n - (size_t)t.len : 0);
	return t.len;
}
