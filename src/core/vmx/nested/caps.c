/* SPDX-License-Identifier: MIT */
/*
 * IA32_VMX_* as L1 sees them (SDM vol. 3D, appendix A): what this back end can do for an L2 with
 * the processor it has. User space may take features away before the vCPU is in VMX operation, by
 * the same rules as KVM's.
 */
#include <errno.h>

#include "core/vmx/nested/nested.h"
#include "spec/msr.h"

/* Controls that are emulated or passed on; the rest L1 does not get. */
#define PIN_OFFERED                                                                 \
	(PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS | \
	 PIN_BASED_VMX_PREEMPTION_TIMER)
#define CPU_OFFERED                                                                             \
	(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING |                         \
	 CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_HLT_EXITING | CPU_BASED_INVLPG_EXITING |      \
	 CPU_BASED_MWAIT_EXITING | CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |   \
	 CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING | CPU_BASED_MOV_DR_EXITING |  \
	 CPU_BASED_UNCOND_IO_EXITING | CPU_BASED_USE_IO_BITMAPS | CPU_BASED_MONITOR_TRAP_FLAG | \
	 CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING | CPU_BASED_RDTSC_EXITING |        \
	 CPU_BASED_PAUSE_EXITING | CPU_BASED_TPR_SHADOW | CPU_BASED_USE_MSR_BITMAPS |           \
	 CPU_BASED_ACTIVATE_SECONDARY_CONTROLS)
#define CPU2_OFFERED                                                             \
	(SECONDARY_EXEC_DESC | SECONDARY_EXEC_ENABLE_RDTSCP |                    \
	 SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE | SECONDARY_EXEC_WBINVD_EXITING | \
	 SECONDARY_EXEC_RDRAND_EXITING | SECONDARY_EXEC_ENABLE_INVPCID |         \
	 SECONDARY_EXEC_RDSEED_EXITING | SECONDARY_EXEC_ENABLE_XSAVES |          \
	 SECONDARY_EXEC_TSC_SCALING | SECONDARY_EXEC_PAUSE_LOOP_EXITING)
#define EXIT_OFFERED                                                                          \
	(VM_EXIT_SAVE_DEBUG_CONTROLS | VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_LOAD_IA32_PAT | \
	 VM_EXIT_SAVE_IA32_PAT | VM_EXIT_LOAD_IA32_EFER | VM_EXIT_SAVE_IA32_EFER |            \
	 VM_EXIT_SAVE_VMX_PREEMPTION_TIMER | VM_EXIT_ACK_INTR_ON_EXIT)
#define ENTRY_OFFERED                                                                  \
	(VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_PAT | \
	 VM_ENTRY_LOAD_IA32_EFER)

#define BASIC_TRUE_CTLS BIT(55)
#define MISC_OFFERED	(BITS(8, 6) | BIT(29) | BIT(30))

static u64 host_cap(enum check_cap cap)
{
	u64 val = 0;

	kvm_host_rdmsr(MSR_IA32_VMX_BASIC + cap, &val);
	return val;
}

/* The processor's MSR with only @offered of the controls that may be 0. */
static u64 reduce(enum check_cap cap, enum check_cap true_cap, u64 offered)
{
	u64 plain = host_cap(cap), must = (u32)plain, may = host_cap(true_cap) >> 32;

	return must | (must | (may & offered)) << 32;
}

/* As reduce, with those of the "default1" controls that may be 0 (A.2). */
static u64 true_ctls(u64 reduced, u64 may_be_0)
{
	return reduced & ~may_be_0;
}

void nested_caps_init(const struct vmx_config *c, u64 cap[CAP_N])
{
	u64 pin = PIN_OFFERED, cpu2 = CPU2_OFFERED, basic = host_cap(CAP_BASIC), idx = 0;
	u64 ept = 0, vpid = 0;

	if (c->apicv) {
		pin |= PIN_BASED_POSTED_INTR;
		cpu2 |= SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
	}
	if (c->ept) {
		ept = host_cap(CAP_EPT_VPID) &
		      (VMX_EPT_PAGE_WALK_4 | VMX_EPT_PAGE_WALK_5 | VMX_EPTP_WB | VMX_EPT_INVEPT |
		       VMX_EPT_EXECUTE_ONLY);
		ept |= VMX_EPT_INVEPT_GLOBAL | VMX_EPT_INVEPT_SINGLE | VMX_EPT_2MB_PAGE |
		       VMX_EPT_1GB_PAGE;
		cpu2 |= SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VMFUNC;
		/* Which of the two rights a fetch needed is in the violation's bit 9. */
		if (host_cap(CAP_EPT_VPID) & VMX_EPT_ADV_EXIT_INFO)
			cpu2 |= SECONDARY_EXEC_MODE_BASED_EPT_EXEC;
		if (c->ept_ad) {
			cpu2 |= SECONDARY_EXEC_ENABLE_PML;
			ept |= VMX_EPT_AD;
		}
	}
	if (c->vpid) {
		cpu2 |= SECONDARY_EXEC_ENABLE_VPID;
		vpid = VMX_INVVPID | VMX_INVVPID_ADDR | VMX_INVVPID_SINGLE | VMX_INVVPID_ALL |
		       VMX_INVVPID_SINGLE_NOGLOBAL;
	}
	if (c->unrestricted)
		cpu2 |= SECONDARY_EXEC_UNRESTRICTED_GUEST;
	if (c->flexpriority)
		cpu2 |= SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES;
	cpu2 &= host_cap(CAP_PROCBASED2) >> 32;
	/* Shadowing is done here if not by the processor. */
	cpu2 |= SECONDARY_EXEC_SHADOW_VMCS;

	for (unsigned i = 0; i < CAP_N; i++)
		cap[i] = 0;
	/* The region is vmcs12: its own revision and size; memory type and the like as they are. */
	cap[CAP_BASIC] = VMCS12_REVISION | (u64)VMCS12_SIZE << 32 | BASIC_TRUE_CTLS | 6ull << 50 |
			 (basic & (BIT(54) | BIT(56)));
	cap[CAP_PINBASED] = reduce(CAP_PINBASED, CAP_TRUE_PINBASED, pin);
	cap[CAP_TRUE_PINBASED] = cap[CAP_PINBASED];
	cap[CAP_PROCBASED] = reduce(CAP_PROCBASED, CAP_TRUE_PROCBASED, CPU_OFFERED);
	cap[CAP_TRUE_PROCBASED] = true_ctls(
		cap[CAP_PROCBASED], CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING);
	cap[CAP_EXIT] = reduce(CAP_EXIT, CAP_TRUE_EXIT, EXIT_OFFERED);
	cap[CAP_TRUE_EXIT] = true_ctls(cap[CAP_EXIT], VM_EXIT_SAVE_DEBUG_CONTROLS);
	cap[CAP_ENTRY] = reduce(CAP_ENTRY, CAP_TRUE_ENTRY, ENTRY_OFFERED);
	cap[CAP_TRUE_ENTRY] = true_ctls(cap[CAP_ENTRY], VM_ENTRY_LOAD_DEBUG_CONTROLS);
	cap[CAP_PROCBASED2] = cpu2 << 32;
	cap[CAP_MISC] = (host_cap(CAP_MISC) & MISC_OFFERED & (c->vmwrite_any ? ~0ull : ~BIT(29))) |
			NESTED_TIMER_SHIFT | BIT(5);
	cap[CAP_CR0_FIXED0] = CR0_PE | CR0_PG | CR0_NE;
	cap[CAP_CR0_FIXED1] = host_cap(CAP_CR0_FIXED1);
	cap[CAP_CR4_FIXED0] = CR4_VMXE;
	cap[CAP_CR4_FIXED1] = host_cap(CAP_CR4_FIXED1);
	for (unsigned i = 0; i < VMCS_NFIELDS; i++)
		if (vmcs12_fields[i].known)
			idx = MAX(idx, (u64)vmcs_index(vmcs12_fields[i].encoding));
	cap[CAP_VMCS_ENUM] = idx << 1;
	cap[CAP_EPT_VPID] = ept | vpid;
	cap[CAP_VMFUNC] = c->ept ? host_cap(CAP_VMFUNC) & BIT(0) : 0;
}

static bool cap_index(u32 index, enum check_cap *cap)
{
	if (index < MSR_IA32_VMX_BASIC || index > MSR_IA32_VMX_VMFUNC)
		return false;
	*cap = (enum check_cap)(index - MSR_IA32_VMX_BASIC);
	return true;
}

int nested_feature_msr(const struct vmx_config *c, u32 index, u64 *val)
{
	u64 caps[CAP_N];
	enum check_cap cap;

	if (!cap_index(index, &cap))
		return -EINVAL;
	nested_caps_init(c, caps);
	*val = caps[cap];
	return 0;
}

int nested_get_cap(struct kvm_vcpu *v, u32 index, u64 *val)
{
	enum check_cap cap;

	if (!cap_index(index, &cap))
		return -EINVAL;
	*val = nested_of(v)->cap[cap];
	return 0;
}

/* ---- Taking features away ---- */

static bool is_subset(u64 offered, u64 val, u64 mask)
{
	return !(val & mask & ~offered);
}

/* A control MSR: what must be 1 may become more, what may be 1 may become less. */
static int set_ctl(u64 *cap, const u64 *offered, enum check_cap which, u64 val)
{
	u32 must = (u32)offered[which], may = (u32)(offered[which] >> 32);

	if ((must & ~(u32)val) || ((u32)(val >> 32) & ~may))
		return -EINVAL;
	cap[which] = val;
	return 0;
}

int nested_set_cap(struct kvm_vcpu *v, u32 index, u64 val)
{
	struct nested_vmx *n = nested_of(v);
	u64 offered[CAP_N];
	enum check_cap which;
	int ret = 0;

	if (!cap_index(index, &which))
		return -EINVAL;
	/* L1 has read them. */
	if (n->vmxon)
		return -EBUSY;
	nested_caps_init(vmx_of(v)->config, offered);
	switch (which) {
	case CAP_BASIC: {
		const u64 features = BIT(49) | BIT(54) | BIT(55) | BIT(56);
		const u64 reserved = BIT(31) | BITS(47, 45) | BITS(63, 57);

		if (!is_subset(offered[which], val, features | reserved))
			return -EINVAL;
		if ((u32)val != (u32)offered[which] ||
		    bits_get(val, 44, 32) < bits_get(offered[which], 44, 32) ||
		    bits_get(val, 53, 50) != bits_get(offered[which], 53, 50) || (val & BIT(48)))
			return -EINVAL;
		n->cap[which] = val;
		break;
	}
	/* The others follow from the TRUE ones. */
	case CAP_PINBASED:
	case CAP_PROCBASED:
	case CAP_EXIT:
	case CAP_ENTRY: return -EINVAL;
	case CAP_TRUE_PINBASED:
	case CAP_TRUE_PROCBASED:
	case CAP_TRUE_EXIT:
	case CAP_TRUE_ENTRY: {
		enum check_cap plain = which - CAP_TRUE_PINBASED + CAP_PINBASED;

		ret = set_ctl(n->cap, offered, which, val);
		if (!ret)
			n->cap[plain] = val | (u32)offered[plain] | (u64)(u32)offered[plain] << 32;
		break;
	}
	case CAP_PROCBASED2: ret = set_ctl(n->cap, offered, which, val); break;
	case CAP_MISC: {
		const u64 features =
			BIT(5) | BITS(8, 6) | BIT(14) | BIT(15) | BIT(28) | BIT(29) | BIT(30);
		const u64 reserved = BITS(13, 9) | BIT(31);

		if (!is_subset(offered[which], val, features | reserved))
			return -EINVAL;
		if ((n->cap[CAP_PINBASED] >> 32 & PIN_BASED_VMX_PREEMPTION_TIMER) &&
		    (val & 0x1f) != (offered[which] & 0x1f))
			return -EINVAL;
		if (bits_get(val, 24, 16) > bits_get(offered[which], 24, 16) ||
		    bits_get(val, 27, 25) > bits_get(offered[which], 27, 25) ||
		    val >> 32 != offered[which] >> 32)
			return -EINVAL;
		n->cap[which] = val;
		break;
	}
	case CAP_CR0_FIXED0:
	case CAP_CR4_FIXED0:
		/* More bits may be fixed to 1. */
		if (offered[which] & ~val)
			return -EINVAL;
		n->cap[which] = val;
		break;
	case CAP_CR0_FIXED1:
	case CAP_CR4_FIXED1: return -EINVAL;
	case CAP_VMCS_ENUM: n->cap[which] = val; break;
	case CAP_EPT_VPID:
		if (!is_subset(offered[which], val, ~0ull))
			return -EINVAL;
		n->cap[which] = val;
		break;
	case CAP_VMFUNC:
		if (val & ~offered[which])
			return -EINVAL;
		n->cap[which] = val;
		break;
	default: return -EINVAL;
	}
	if (!ret)
		nested_evmcs_update_caps(v);
	return ret;
}
