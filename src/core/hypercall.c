/* SPDX-License-Identifier: MIT */
/* KVM's hypercalls (Documentation/virt/kvm/x86/hypercalls.rst of Linux has the ABI). */
#include <sched.h>

#include "core/hyperv.h"
#include "core/irqchip/irq_private.h"
#include "core/pv.h"
#include "core/vcpu.h"
#include "spec/abi/kvm_para.h"

static struct kvm_vcpu *by_apic_id(struct kvm *kvm, u32 id)
{
	struct kvm_vcpu *v;

	kvm_for_each_vcpu(v, kvm) if (v->id == id) return v;
	return NULL;
}

static void kick_cpu(struct kvm *kvm, u32 apic_id)
{
	struct kvm_vcpu *v = by_apic_id(kvm, apic_id);

	if (!v)
		return;
	__atomic_store_n(&v->arch->pv_unhalted, true, __ATOMIC_SEQ_CST);
	kvm_make_request(v, REQ_EVENT);
	kvm_vcpu_kick(v);
}

/* One IPI to each of up to 128 (64 in 32-bit mode) APIC IDs from @min on. */
static s64 send_ipi(struct kvm_vcpu *v, const u64 map[2], u32 min, u32 icr, bool mode64)
{
	unsigned width = mode64 ? 64 : 32;
	struct apic_msg m = {.vector = (u8)icr, .delivery = icr >> 8 & 7, .assert = true};
	s64 count = 0;

	if (!v->apic)
		return -KVM_ENOSYS;
	if (icr & 0x800c0000 || (icr & 0x800)) /* shorthand, logical mode */
		return -KVM_EINVAL;
	for (unsigned word = 0; word < 2; word++) {
		for (u64 bits = map[word]; bits; bits &= bits - 1) {
			struct kvm_vcpu *to =
				by_apic_id(v->kvm, min + word * width + (u32)__builtin_ctzll(bits));

			if (to && to->apic && lapic_accept(to, &m) >= 0)
				count++;
		}
	}
	return count;
}

static int complete_hypercall(struct kvm_vcpu *v)
{
	u64 ret = v->run->hypercall.ret;

	if (!is_64_bit_mode(v))
		ret = (u32)ret;
	kvm_register_write_raw(v, RAX, ret);
	kvm_stat_inc(v, hypercalls);
	return kvm_skip_emulated_instruction(v);
}

static int map_gpa_range(struct kvm_vcpu *v, u64 gpa, u64 npages, u64 attrs, bool mode64)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_HYPERCALL;
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	run->hypercall.args[0] = gpa;
	run->hypercall.args[1] = npages;
	run->hypercall.args[2] = attrs;
	run->hypercall.ret = 0;
	run->hypercall.flags = mode64 ? KVM_EXIT_HYPERCALL_LONG_MODE : 0;
	v->arch->complete_userspace_io = complete_hypercall;
	return 0;
}

int kvm_emulate_hypercall(struct kvm_vcpu *v)
{
	bool mode64 = is_64_bit_mode(v);
	u64 mask = mode64 ? ~0ull : 0xffffffff;
	u64 nr = v->hw->gpr[RAX] & mask, a0 = v->hw->gpr[RBX] & mask;
	u64 a1 = v->hw->gpr[RCX] & mask, a2 = v->hw->gpr[RDX] & mask;
	u64 a3 = v->hw->gpr[RSI] & mask;
	s64 ret = -KVM_ENOSYS;

	if (hv_hypercalls_on(v))
		return hv_emulate_hypercall(v);
	if (kvm_get_cpl(v) != 0) {
		ret = -KVM_EPERM;
		goto out;
	}
	switch (nr) {
	case KVM_HC_VAPIC_POLL_IRQ: ret = 0; break;
	case KVM_HC_KICK_CPU:
		if (!guest_pv_has(v, FEAT_KVM_PV_UNHALT))
			break;
		kick_cpu(v->kvm, (u32)a1);
		ret = 0;
		break;
	case KVM_HC_SEND_IPI: {
		u64 map[2] = {a0, a1};

		if (!guest_pv_has(v, FEAT_KVM_PV_SEND_IPI))
			break;
		ret = send_ipi(v, map, (u32)a2, (u32)a3, mode64);
		break;
	}
	case KVM_HC_SCHED_YIELD:
		if (!guest_pv_has(v, FEAT_KVM_PV_SCHED_YIELD))
			break;
		kvm_stat_inc(v, directed_yield_attempted);
		sched_yield();
		ret = 0;
		break;
	case KVM_HC_MAP_GPA_RANGE:
		if (!(v->kvm->arch->hypercall_exit_enabled & BIT(KVM_HC_MAP_GPA_RANGE)))
			break;
		if (!a1 || (a0 & (PAGE_SIZE - 1)) || a0 + (a1 << PAGE_SHIFT) <= a0) {
			ret = -KVM_EINVAL;
			break;
		}
		return map_gpa_range(v, a0, a1, a2, mode64);
	default: break;
	}
out:
	kvm_register_write_raw(v, RAX, (u64)ret & mask);
	kvm_stat_inc(v, hypercalls);
	return kvm_skip_emulated_instruction(v);
}
