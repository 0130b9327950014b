/* SPDX-License-Identifier: MIT */
/* RESET and INIT (SDM vol. 3A, table 10-1), startup IPIs, halting instructions. */
#include <sched.h>
#include <string.h>

#include "core/cpuid.h"
#include "core/emulate/emulate.h"
#include "core/irqchip/irqchip.h"
#include "core/mmu/mmu.h"
#include "core/msr.h"
#include "core/pv.h"
#include "core/vcpu.h"

static void reset_segments(struct kvm_vcpu *v)
{
	struct isa_seg data = {.limit = 0xffff, .ar = 0x93};
	struct isa_seg cs = {.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .ar = 0x9b};
	struct isa_seg ldtr = {.limit = 0xffff, .ar = 0x82};
	struct isa_seg tr = {.limit = 0xffff, .ar = 0x8b};
	struct isa_dtr dt = {.limit = 0xffff};

	for (unsigned i = ES; i <= GS; i++)
		kvm_set_segment(v, i == CS ? &cs : &data, i);
	kvm_set_segment(v, &ldtr, LDTR);
	kvm_set_segment(v, &tr, TR);
	v->kvm->ops->set_gdt(v, &dt);
	v->kvm->ops->set_idt(v, &dt);
}

/* KVM starts guests with the state of FNINIT and the power-on MXCSR. */
static void reset_fpu(struct kvm_vcpu *v)
{
	memset(&v->hw->x87, 0, sizeof(v->hw->x87));
	memset(v->hw->vec, 0, sizeof(v->hw->vec));
	v->hw->x87.fcw = 0x37f;
	v->hw->x87.mxcsr = 0x1f80;
	v->hw->x87.mxcsr_mask = 0xffff;
	v->hw->pkru = 0;
	v->hw->xfd = 0;
	v->hw->xfd_err = 0;
}

static void reset_debug(struct kvm_vcpu *v)
{
	for (unsigned i = 0; i < 4; i++)
		kvm_set_dr(v, i, 0);
	kvm_set_dr(v, 6, DR6_ACTIVE_LOW);
	kvm_set_dr(v, 7, DR7_FIXED_1);
}

void kvm_vcpu_reset(struct kvm_vcpu *v, bool init)
{
	u64 old_cr0 = init ? kvm_read_cr0(v) : 0;
	u64 cr0;
	u32 sig[4];

	lapic_reset(v, init); /* without in-core APIC: IA32_APIC_BASE only */
	if (v->kvm->ops->nested)
		v->kvm->ops->nested->leave(v);
	vcpu_events_reset(v);
	emul_reset(v);
	v->arch->complete_userspace_io = NULL;
	v->kvm->ops->vcpu_reset(v, init);
	msr_vcpu_reset(v, init);
	if (!init) {
		reset_fpu(v);
		pv_vcpu_reset(v);
		v->hw->xcr0 = 1;
		v->hw->xss = 0;
	}
	apf_vcpu_reset(v);
	v->hw->cr2 = 0;
	lapic_set_cr8(v, 0);
	reset_debug(v);

	for (unsigned i = 0; i < 16; i++)
		kvm_register_write_raw(v, i, 0);
	/* Family, model, stepping: from the guest's own CPUID if it has been given one. */
	kvm_cpuid(v, sig, 1, 0);
	kvm_register_write_raw(v, RDX, sig[CPUID_EAX] ? sig[CPUID_EAX] : 0x600);
	kvm_rip_write(v, 0xfff0);
	kvm_set_rflags(v, 2);
	reset_segments(v);

	v->regs.cr3 = 0;
	regcache_mark_dirty(&v->regs, VCPU_EXREG_CR3);
	/* INIT leaves CD and NW as they are. */
	cr0 = CR0_ET | (init ? old_cr0 & (CR0_NW | CR0_CD) : CR0_NW | CR0_CD);
	v->kvm->ops->set_cr0(v, cr0);
	v->kvm->ops->set_cr4(v, 0);
	v->kvm->ops->set_efer(v, 0);
	v->kvm->ops->update_exception_bitmap(v);
	kvm_update_cpuid_runtime(v);
	if (init) {
		mmu_reset_context(v);
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
	}
	kvm_make_request(v, REQ_EVENT);
}

/* The startup vector is a page of real-mode code (SDM vol. 3A, 9.4.4). */
static void deliver_sipi(struct kvm_vcpu *v, u8 vector)
{
	struct isa_seg cs;

	kvm_get_segment(v, &cs, CS);
	cs.sel = (u16)(vector << 8);
	cs.base = (u64)vector << 12;
	kvm_set_segment(v, &cs, CS);
	kvm_rip_write(v, 0);
}

void kvm_apic_accept_events(struct kvm_vcpu *v)
{
	u8 vector = 0;
	unsigned got;

	/* In L2 they are L1's: nested check_events. */
	if (!v->apic || is_guest_mode(v) || !lapic_has_init_sipi(v) || kvm_init_blocked(v))
		return;
	got = lapic_take_init_sipi(v, &vector);
	if (got & LAPIC_INIT) {
		kvm_vcpu_reset(v, true);
		v->mp_state =
			kvm_vcpu_is_bsp(v) ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
	}
	if ((got & LAPIC_SIPI) && v->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		deliver_sipi(v, vector);
		v->mp_state = KVM_MP_STATE_RUNNABLE;
	}
}

/* ---- HLT, MONITOR, MWAIT, PAUSE ---- */

int kvm_emulate_halt_noskip(struct kvm_vcpu *v)
{
	kvm_stat_inc(v, halt_exits);
	if (v->apic) {
		if (v->arch->pv_unhalted)
			v->arch->pv_unhalted = false;
		else
			v->mp_state = KVM_MP_STATE_HALTED;
		return 1;
	}
	v->run->exit_reason = KVM_EXIT_HLT;
	return 0;
}

int kvm_emulate_halt(struct kvm_vcpu *v)
{
	int ret = kvm_skip_emulated_instruction(v);

	/* A single-step trap waits: it would be lost if user space only saw the halt. */
	return kvm_emulate_halt_noskip(v) && ret;
}

static int emulate_monitor_mwait(struct kvm_vcpu *v)
{
	if (!kvm_check_has_quirk(v->kvm, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) &&
	    !guest_cpuid_has(v, FEAT_MWAIT))
		return kvm_handle_invalid_op(v);
	return kvm_skip_emulated_instruction(v);
}

int kvm_emulate_monitor(struct kvm_vcpu *v)
{
	return emulate_monitor_mwait(v);
}

int kvm_emulate_mwait(struct kvm_vcpu *v)
{
	return emulate_monitor_mwait(v);
}

int kvm_emulate_invd(struct kvm_vcpu *v)
{
	return kvm_skip_emulated_instruction(v);
}

/* A loop of PAUSEs: whoever it waits for may need this processor. */
void kvm_vcpu_on_spin(struct kvm_vcpu *v, bool in_kernel)
{
	kvm_stat_inc(v, directed_yield_attempted);
	sched_yield();
}
