/* SPDX-License-Identifier: MIT */
/* MSR lists of vmcs12 (SDM, 27.4, 28.4, 28.6): loaded and stored as if L1 had executed the
 * accesses. */
#include "core/irqchip/irqchip.h"
#include "core/msr.h"
#include "core/tsc.h"
#include "core/vmx/nested/nested.h"
#include "spec/msr.h"

struct msr_entry {
	u32 index, reserved;
	u64 value;
};

/* IA32_VMX_MISC[27:25] is 0: at most 512 entries are asked for. More are refused where a list
 * begins to be too long. */
static u32 max_entries(struct kvm_vcpu *v)
{
	return 512 * (1 + (u32)bits_get(nested_of(v)->cap[CAP_MISC], 27, 25));
}

/* What neither list may have. */
static bool refused(struct kvm_vcpu *v, const struct msr_entry *e)
{
	return e->reserved || (e->index >> 8 == 8 && lapic_x2apic_mode(v)) ||
	       e->index == MSR_IA32_UCODE_WRITE || e->index == MSR_IA32_UCODE_REV;
}

/* Explains the refusal of entry @i + 1, which is its number for the caller. */
static u32 refuse(struct kvm_vcpu *v, u32 i, const struct msr_entry *e, const char *why)
{
	if (e && e->reserved)
		why = "bits 63:32 of the entry are not 0";
	if (e)
		nested_note(v, "entry %u, MSR %#x, value %#llx: %s", i + 1, e->index,
			    (unsigned long long)e->value, why);
	else
		nested_note(v, "entry %u: %s", i + 1, why);
	return i + 1;
}

u32 nested_load_msrs(struct kvm_vcpu *v, u64 addr, u32 count)
{
	struct msr_entry e;

	for (u32 i = 0; i < count; i++) {
		if (i >= max_entries(v))
			return refuse(v, i, NULL, "more than IA32_VMX_MISC[27:25] says");
		if (vcpu_read_guest(v, addr + i * sizeof(e), &e, sizeof(e)))
			return refuse(v, i, NULL, "there is no memory");
		if (refused(v, &e) || e.index == MSR_FS_BASE || e.index == MSR_GS_BASE)
			return refuse(v, i, &e, "not allowed in a list");
		if (kvm_set_msr_filtered(v, e.index, e.value))
			return refuse(v, i, &e, "WRMSR refuses it");
	}
	return 0;
}

u32 nested_store_msrs(struct kvm_vcpu *v, u64 addr, u32 count)
{
	struct msr_entry e;

	for (u32 i = 0; i < count; i++) {
		u64 at = addr + i * sizeof(e);

		if (i >= max_entries(v))
			return refuse(v, i, NULL, "more than IA32_VMX_MISC[27:25] says");
		if (vcpu_read_guest(v, at, &e, sizeof(e)))
			return refuse(v, i, NULL, "there is no memory");
		if (refused(v, &e) || e.index == 0x9e /* SMBASE */)
			return refuse(v, i, &e, "not allowed in a list");
		/* L1's counter: the offset of L2 is not in effect for stores. */
		if (e.index == MSR_IA32_TSC)
			e.value = kvm_guest_tsc(v);
		else if (kvm_get_msr_filtered(v, e.index, &e.value))
			return refuse(v, i, &e, "RDMSR refuses it");
		if (vcpu_write_guest(v, at + offsetof(struct msr_entry, value), &e.value, 8))
			return refuse(v, i, &e, "there is no memory to write to");
	}
	return 0;
}
