/* SPDX-License-Identifier: MIT */
/* Hypercalls of Hyper-V (TLFS, "Hypercall interface"): flushes of other processors' TLBs, spin
 * locks. */
#include <string.h>

#include "core/hyperv.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"

/* In registers: two of the general ones and six of SSE's. */
#define FAST_INPUT_SIZE (16 + 6 * 16)

struct hv_call {
	u16 code;
	bool fast;
	u16 header; /* size of the variable part of the header, in 8 bytes */
	u16 reps, first_rep;
	u64 input; /* address in memory of L1 or L2, unless fast */
	u64 regs[2];
};

static u64 pair(u64 high, u64 low)
{
	return high << 32 | (u32)low;
}

static struct hv_call decode(struct kvm_vcpu *v)
{
	const u64 *gpr = v->hw->gpr;
	struct hv_call c;
	u64 control;

	if (is_64_bit_mode(v)) {
		control = gpr[RCX];
		c.regs[0] = gpr[RDX];
		c.regs[1] = gpr[R8];
	} else {
		control = pair(gpr[RDX], gpr[RAX]);
		c.regs[0] = pair(gpr[RBX], gpr[RCX]);
		c.regs[1] = pair(gpr[RDI], gpr[RSI]);
	}
	c.code = (u16)control;
	c.fast = control & BIT(16);
	c.header = (u16)bits_get(control, 26, 17);
	c.reps = (u16)bits_get(control, 43, 32);
	c.first_rep = (u16)bits_get(control, 59, 48);
	c.input = c.regs[0];
	return c;
}

/* @n bytes at @off of the input. */
static bool read_input(struct kvm_vcpu *v, const struct hv_call *c, unsigned off, void *dst,
		       unsigned n)
{
	u8 regs[FAST_INPUT_SIZE];
	gpa_t gpa;

	if (!c->fast) {
		gpa = mmu_translate_nested(v, c->input, PFERR_USER, NULL);
		return gpa != GPA_INVALID && !vcpu_read_guest(v, gpa + off, dst, n);
	}
	if (off + n > sizeof(regs))
		return false;
	memcpy(regs, c->regs, 16);
	for (unsigned i = 0; i < 6; i++)
		memcpy(regs + 16 + 16 * i, v->hw->vec[i].b, 16);
	memcpy(dst, regs + off, n);
	return true;
}

/* ---- Flushes ---- */

/*
 * Virtual processors by their index, of the caller's virtual machine: L1's, or of the L2 that L1
 * knows by this number.
 */
struct vp_set {
	bool all, l2;
	u64 l2_vm;
	u64 banks; /* which of the array are there */
	u64 bank[HV_VP_SET_BANKS];
};

static bool in_set(struct kvm_vcpu *v, void *arg)
{
	const struct vp_set *s = arg;
	const struct hv_vcpu *hv = &v->arch->hv;
	u32 index = __atomic_load_n(&hv->vp_index, __ATOMIC_RELAXED);

	if (s->l2) {
		if (__atomic_load_n(&hv->l2_vm, __ATOMIC_RELAXED) != s->l2_vm)
			return false;
		index = __atomic_load_n(&hv->l2_vp, __ATOMIC_RELAXED);
	}
	if (s->all)
		return true;
	return index / 64 < HV_VP_SET_BANKS && s->banks >> index / 64 & 1 &&
	       s->bank[index / 64] >> index % 64 & 1;
}

/* Done at once where the level runs, and before it next runs elsewhere. */
static void flush_set(struct kvm *kvm, struct vp_set *s)
{
	struct kvm_vcpu *v;

	kvm_for_each_vcpu(v, kvm) if (in_set(v, s)) __atomic_fetch_or(
		&v->arch->hv.flush, s->l2 ? HV_FLUSH_L2 : HV_FLUSH_L1, __ATOMIC_SEQ_CST);
	kvm_make_request_sync(kvm, REQ_HV_TLB_FLUSH, in_set, s);
}

void hv_service_flush(struct kvm_vcpu *v)
{
	u32 level = is_guest_mode(v) ? HV_FLUSH_L2 : HV_FLUSH_L1;

	if (__atomic_fetch_and(&v->arch->hv.flush, ~level, __ATOMIC_SEQ_CST) & level)
		kvm_make_request(v, REQ_TLB_FLUSH_GUEST);
}

/* HvCallFlushVirtualAddressSpace and -List. The list is not looked at: all is flushed. */
static u16 read_set(struct kvm_vcpu *v, const struct hv_call *c, bool ex, struct vp_set *s)
{
	struct {
		u64 space, flags, mask_or_format, banks;
	} in = {0};
	unsigned n = 0;

	if (!read_input(v, c, 0, &in, ex ? 32 : 24))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	s->all = in.flags & HV_FLUSH_ALL_PROCESSORS;
	if (!ex) {
		/* Windows Server 2012 means all of them by none. */
		s->all |= !in.mask_or_format;
		s->banks = 1;
		s->bank[0] = in.mask_or_format;
		return HV_STATUS_SUCCESS;
	}
	if (c->header != (unsigned)__builtin_popcountll(in.banks))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	s->all |= in.mask_or_format != HV_VP_SET_SPARSE_4K;
	s->banks = in.banks;
	for (u64 b = in.banks; b && !s->all; b &= b - 1, n++)
		if (!read_input(v, c, 32 + 8 * n, &s->bank[__builtin_ctzll(b)], 8))
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
	return HV_STATUS_SUCCESS;
}

static u64 flush(struct kvm_vcpu *v, const struct hv_call *c, bool list, bool ex)
{
	struct vp_set s = {.l2 = is_guest_mode(v), .l2_vm = v->arch->hv.l2_vm};
	u16 status;

	if (list ? !c->reps || c->first_rep : c->reps || c->first_rep)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (!ex && c->header)
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	status = read_set(v, c, ex, &s);
	if (status)
		return status;
	flush_set(v->kvm, &s);
	return (u64)c->reps << 32;
}

/* ---- Which there are ---- */

static bool may_call(struct kvm_vcpu *v, u16 code)
{
	if (!v->arch->hv.enforce)
		return true;
	switch (code) {
	case HV_CALL_NOTIFY_LONG_SPIN_WAIT:
		return v->arch->hv.spin_retries && v->arch->hv.spin_retries != ~0u;
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX:
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX:
		return guest_cpuid_has(v, FEAT_HV_REMOTE_TLB_FLUSH) &&
		       guest_cpuid_has(v, FEAT_HV_EX_PROCESSOR_MASKS);
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE:
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST:
		return guest_cpuid_has(v, FEAT_HV_REMOTE_TLB_FLUSH);
	default: return true;
	}
}

static bool is_flush(u16 code)
{
	return code == HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE ||
	       code == HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST ||
	       code == HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX ||
	       code == HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX;
}

/* Status in bits 15:0, repetitions done in bits 43:32. */
static u64 call(struct kvm_vcpu *v, const struct hv_call *c)
{
	if (!may_call(v, c->code))
		return HV_STATUS_ACCESS_DENIED;
	switch (c->code) {
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE: return flush(v, c, false, false);
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST: return flush(v, c, true, false);
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX: return flush(v, c, false, true);
	case HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX: return flush(v, c, true, true);
	case HV_CALL_NOTIFY_LONG_SPIN_WAIT:
		if (c->reps || c->first_rep || c->header)
			return HV_STATUS_INVALID_HYPERCALL_INPUT;
		kvm_vcpu_on_spin(v, true);
		return HV_STATUS_SUCCESS;
	default: return HV_STATUS_INVALID_HYPERCALL_CODE;
	}
}

bool hv_hypercalls_on(const struct kvm_vcpu *v)
{
	return v->arch->hv.enabled &&
	       __atomic_load_n(&v->kvm->arch->hv.guest_os_id, __ATOMIC_RELAXED);
}

bool hv_is_flush_hypercall(struct kvm_vcpu *v)
{
	return is_flush(decode(v).code);
}

int hv_emulate_hypercall(struct kvm_vcpu *v)
{
	struct hv_call c = decode(v);
	u64 result;
	int ret;

	/* Only kernels call, and not in real mode. SSE registers are input where CPUID says so. */
	if (kvm_get_cpl(v) != 0 || !is_protmode(v) ||
	    (c.fast && is_flush(c.code) && v->arch->hv.enforce &&
	     !guest_cpuid_has(v, FEAT_HV_XMM_INPUT))) {
		kvm_queue_exception(v, X86_UD);
		return 1;
	}
	kvm_stat_inc(v, hypercalls);
	result = call(v, &c);
	if (is_64_bit_mode(v)) {
		kvm_register_write_raw(v, RAX, result);
	} else {
		kvm_register_write_raw(v, RDX, result >> 32);
		kvm_register_write_raw(v, RAX, (u32)result);
	}
	/* The instruction is done before L1 hears of it; a debugger's exit does not hold that up.
	 */
	ret = kvm_skip_emulated_instruction(v);
	if (is_guest_mode(v) && is_flush(c.code) && (u16)result == HV_STATUS_SUCCESS)
		v->kvm->ops->nested->hv_flushed(v);
	return ret;
}
