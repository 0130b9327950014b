/* SPDX-License-Identifier: MIT */
/* System instructions in the emulator: what they do to the vCPU, by the core's own functions. */
#include <errno.h>

#include "core/cpuid.h"
#include "core/emulate/emulate_impl.h"
#include "core/msr.h"
#include "core/tsc.h"

static void gp0(struct isa_cpu *c)
{
	isa_raise_err(c, X86_GP, 0);
}

/* L0 executes the instruction itself; there is no one to intercept for. */
static void op_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg) {}

static u64 op_read_cr(struct isa_cpu *c, unsigned n, unsigned gpr)
{
	switch (n) {
	case 0: return c->s.cr0;
	case 2: return c->r.cr2;
	case 3: return c->s.cr3;
	case 4: return c->s.cr4;
	default: return kvm_get_cr8(emul_of(c)->v);
	}
}

static void op_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr)
{
	struct emulator *e = emul_of(c);
	struct kvm_vcpu *v = e->v;
	int r = 0;

	switch (n) {
	case 0: r = kvm_set_cr0(v, val); break;
	case 2: v->hw->cr2 = c->r.cr2 = val; return;
	case 3: r = kvm_set_cr3(v, val); break;
	case 4: r = kvm_set_cr4(v, val); break;
	default: r = kvm_set_cr8(v, val); break;
	}
	if (r)
		gp0(c);
	emul_reload_cr(e);
	isa_mode_changed(c);
}

static u64 op_rdmsr(struct isa_cpu *c, u32 index)
{
	u64 val = 0;

	if (kvm_get_msr_filtered(emul_of(c)->v, index, &val))
		gp0(c);
	return val;
}

static void op_wrmsr(struct isa_cpu *c, u32 index, u64 val)
{
	if (kvm_set_msr_filtered(emul_of(c)->v, index, val))
		gp0(c);
	emul_reload_cr(emul_of(c));
	isa_mode_changed(c);
}

static void op_cpuid(struct isa_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
	kvm_cpuid(emul_of(c)->v, out, leaf, subleaf);
}

static u64 op_rdtsc(struct isa_cpu *c)
{
	return kvm_guest_tsc(emul_of(c)->v);
}

static u64 op_rdpmc(struct isa_cpu *c, u32 index)
{
	gp0(c); /* no counters without a PMU */
	return 0;
}

static u64 op_random(struct isa_cpu *c)
{
	return kvm_random(emul_of(c)->v->kvm);
}

static void op_xsetbv(struct isa_cpu *c, u32 index, u64 val)
{
	struct kvm_vcpu *v = emul_of(c)->v;

	if (kvm_set_xcr(v, index, val))
		gp0(c);
	c->r.xcr0 = v->hw->xcr0;
}

static void op_hlt(struct isa_cpu *c)
{
	emul_of(c)->halt = true;
}

static void op_nothing(struct isa_cpu *c) {}

static void op_invlpg(struct isa_cpu *c, u64 la)
{
	struct kvm_vcpu *v = emul_of(c)->v;

	mmu_invlpg(v, la);
	v->kvm->ops->flush_tlb_gva(v, la);
}

static void op_invpcid(struct isa_cpu *c, unsigned type, u16 pcid, u64 la)
{
	mmu_invpcid(emul_of(c)->v, type, pcid, la);
}

static void op_vmx(struct isa_cpu *c, const struct isa_insn *i)
{
	isa_raise(c, X86_UD);
}

static void op_soft_int(struct isa_cpu *c, unsigned vector, unsigned type)
{
	struct isa_event ev = {.vector = (u8)vector, .type = (u8)type};

	isa_deliver(c, &ev);
}

static void op_lock(struct isa_cpu *c) {}

static void op_recheck(struct isa_cpu *c)
{
	kvm_make_request(emul_of(c)->v, REQ_EVENT);
}

const struct isa_ops emul_ops = {
	.mem_read = emul_mem_read,
	.mem_write = emul_mem_write,
	.mem_rmw = emul_mem_rmw,
	.mem_lock = op_lock,
	.mem_unlock = op_lock,
	.port_in = emul_port_in,
	.port_out = emul_port_out,
	.intercept = op_intercept,
	.read_cr = op_read_cr,
	.write_cr = op_write_cr,
	.rdmsr = op_rdmsr,
	.wrmsr = op_wrmsr,
	.cpuid = op_cpuid,
	.rdtsc = op_rdtsc,
	.rdpmc = op_rdpmc,
	.random = op_random,
	.xsetbv = op_xsetbv,
	.hlt = op_hlt,
	.mwait = op_nothing,
	.pause = op_nothing,
	.wbinvd = op_nothing,
	.invlpg = op_invlpg,
	.invpcid = op_invpcid,
	.vmx = op_vmx,
	.soft_int = op_soft_int,
	.mode_changed = op_nothing,
	.recheck_events = op_recheck,
	.serialize = op_nothing,
};
