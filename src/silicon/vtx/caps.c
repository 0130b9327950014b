// SPDX-License-Identifier: MIT
/*
 * What this processor's VT-x can do: the capability MSRs (SDM vol. 3D, appendix A). A control is
 * advertised exactly when it works.
 */
#include <errno.h>
#include <stdlib.h>

#include "silicon/vtx/vtx.h"
#include "spec/msr.h"

/* Controls that may be 1. The default1 classes (A.2) are added below. */
#define PIN_MAY                                                                     \
	(PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS | \
	 PIN_BASED_VMX_PREEMPTION_TIMER | PIN_BASED_POSTED_INTR)
#define PROC_MAY                                                                                 \
	(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_USE_TSC_OFFSETTING | CPU_BASED_HLT_EXITING |  \
	 CPU_BASED_INVLPG_EXITING | CPU_BASED_MWAIT_EXITING | CPU_BASED_RDPMC_EXITING |          \
	 CPU_BASED_RDTSC_EXITING | CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |    \
	 CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING | CPU_BASED_TPR_SHADOW |       \
	 CPU_BASED_NMI_WINDOW_EXITING | CPU_BASED_MOV_DR_EXITING | CPU_BASED_UNCOND_IO_EXITING | \
	 CPU_BASED_USE_IO_BITMAPS | CPU_BASED_MONITOR_TRAP_FLAG | CPU_BASED_USE_MSR_BITMAPS |    \
	 CPU_BASED_MONITOR_EXITING | CPU_BASED_PAUSE_EXITING |                                   \
	 CPU_BASED_ACTIVATE_SECONDARY_CONTROLS)
#define PROC2_MAY                                                                                 \
	(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES | SECONDARY_EXEC_ENABLE_EPT |                    \
	 SECONDARY_EXEC_DESC | SECONDARY_EXEC_ENABLE_RDTSCP |                                     \
	 SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE | SECONDARY_EXEC_ENABLE_VPID |                     \
	 SECONDARY_EXEC_WBINVD_EXITING | SECONDARY_EXEC_UNRESTRICTED_GUEST |                      \
	 SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY |               \
	 SECONDARY_EXEC_PAUSE_LOOP_EXITING | SECONDARY_EXEC_RDRAND_EXITING |                      \
	 SECONDARY_EXEC_ENABLE_INVPCID | SECONDARY_EXEC_ENABLE_VMFUNC |                           \
	 SECONDARY_EXEC_SHADOW_VMCS | SECONDARY_EXEC_RDSEED_EXITING | SECONDARY_EXEC_ENABLE_PML | \
	 SECONDARY_EXEC_ENABLE_XSAVES | SECONDARY_EXEC_MODE_BASED_EPT_EXEC |                      \
	 SECONDARY_EXEC_TSC_SCALING | SECONDARY_EXEC_NOTIFY_VM_EXITING)
#define EXIT_MAY                                                                                 \
	(VM_EXIT_SAVE_DEBUG_CONTROLS | VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_ACK_INTR_ON_EXIT | \
	 VM_EXIT_SAVE_IA32_PAT | VM_EXIT_LOAD_IA32_PAT | VM_EXIT_SAVE_IA32_EFER |                \
	 VM_EXIT_LOAD_IA32_EFER | VM_EXIT_SAVE_VMX_PREEMPTION_TIMER)
#define ENTRY_MAY                                                                      \
	(VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_PAT | \
	 VM_ENTRY_LOAD_IA32_EFER)

/* Reserved controls that are 1, and of those the ones that the TRUE MSRs let be 0. */
#define PIN_DEFAULT1   (BIT(1) | BIT(2) | BIT(4))
#define PROC_DEFAULT1  (BIT(1) | BITS(6, 4) | BIT(8) | BITS(16, 13) | BIT(26))
#define PROC_FREE1     (CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING)
#define EXIT_DEFAULT1  (BITS(8, 0) | BIT(10) | BIT(11) | BIT(13) | BIT(14) | BIT(16) | BIT(17))
#define EXIT_FREE1     VM_EXIT_SAVE_DEBUG_CONTROLS
#define ENTRY_DEFAULT1 (BITS(8, 0) | BIT(12))
#define ENTRY_FREE1    VM_ENTRY_LOAD_DEBUG_CONTROLS

static u64 controls(u64 must, u64 may)
{
	return must | (may | must) << 32;
}

/* A.9: the highest index of any field, in bits 9:1. */
static u64 highest_index(const struct vtx_machine *vm)
{
	unsigned max = 0;

#define VMCS(name, encoding, vmcs12, shadow)    \
	if (vm->where[VMCS_KEY(encoding)].size) \
		max = MAX(max, vmcs_index(encoding));
#include "spec/vmcs.def"
	return max << 1;
}

static void fill_caps(const struct sil_machine *m, struct vtx_machine *vm)
{
	u64 *cap = vm->cap;

	/* 4 KiB regions in write-back memory, INS/OUTS information, TRUE controls, exceptions
	 * with or without error code. */
	cap[CAP_BASIC] = VMCS_REVISION | PAGE_SIZE << 32 | 6ull << 50 | BIT(54) | BIT(55) | BIT(56);
	cap[CAP_PINBASED] = controls(PIN_DEFAULT1, PIN_MAY);
	cap[CAP_TRUE_PINBASED] = cap[CAP_PINBASED];
	cap[CAP_PROCBASED] = controls(PROC_DEFAULT1, PROC_MAY);
	cap[CAP_TRUE_PROCBASED] = controls(PROC_DEFAULT1 & ~PROC_FREE1, PROC_MAY | PROC_FREE1);
	cap[CAP_PROCBASED2] = controls(0, PROC2_MAY);
	cap[CAP_EXIT] = controls(EXIT_DEFAULT1, EXIT_MAY);
	cap[CAP_TRUE_EXIT] = controls(EXIT_DEFAULT1 & ~EXIT_FREE1, EXIT_MAY);
	cap[CAP_ENTRY] = controls(ENTRY_DEFAULT1, ENTRY_MAY);
	cap[CAP_TRUE_ENTRY] = controls(ENTRY_DEFAULT1 & ~ENTRY_FREE1, ENTRY_MAY);
	/* EFER.LMA stored at exit; HLT, shutdown, wait-for-SIPI; VMWRITE to any field; injection
	 * with length 0. */
	cap[CAP_MISC] = VTX_TIMER_SHIFT | BIT(5) | BITS(8, 6) | (u64)VTX_CR3_TARGETS << 16 |
			BIT(29) | BIT(30);
	cap[CAP_CR0_FIXED0] = CR0_PG | CR0_NE | CR0_PE;
	cap[CAP_CR0_FIXED1] = 0xffffffff;
	cap[CAP_CR4_FIXED0] = CR4_VMXE;
	cap[CAP_CR4_FIXED1] = cpu_cr4_supported(m) | CR4_VMXE;
	cap[CAP_VMCS_ENUM] = highest_index(vm);
	cap[CAP_EPT_VPID] = VMX_EPT_EXECUTE_ONLY | VMX_EPT_PAGE_WALK_4 | VMX_EPT_PAGE_WALK_5 |
			    VMX_EPTP_UC | VMX_EPTP_WB | VMX_EPT_2MB_PAGE | VMX_EPT_1GB_PAGE |
			    VMX_EPT_INVEPT | VMX_EPT_AD | VMX_EPT_ADV_EXIT_INFO |
			    VMX_EPT_INVEPT_SINGLE | VMX_EPT_INVEPT_GLOBAL | VMX_INVVPID |
			    VMX_INVVPID_ADDR | VMX_INVVPID_SINGLE | VMX_INVVPID_ALL |
			    VMX_INVVPID_SINGLE_NOGLOBAL;
	cap[CAP_VMFUNC] = BIT(0); /* EPTP switching */
	cap[CAP_PROCBASED3] = 0;
}

int vtx_machine_init(struct sil_machine *m)
{
	struct vtx_machine *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vmcs_init_where(vm);
	fill_caps(m, vm);
	m->vendor = vm;
	return 0;
}

void vtx_machine_fini(struct sil_machine *m)
{
	free(m->vendor);
	m->vendor = NULL;
}

int vtx_root_rdmsr(const struct sil_machine *m, u32 index, u64 *val)
{
	if (index >= MSR_IA32_VMX_BASIC && index < MSR_IA32_VMX_BASIC + CAP_N) {
		/* No tertiary controls, so no MSR for them (A.3.4). */
		if (index == MSR_IA32_VMX_PROCBASED_CTLS3)
			return -EINVAL;
		*val = vtx_machine_of(m)->cap[index - MSR_IA32_VMX_BASIC];
		return 0;
	}
	if (index != MSR_IA32_FEAT_CTL)
		return -EINVAL;
	*val = BIT(0) | BIT(2); /* locked, VMX outside SMX */
	return 0;
}
