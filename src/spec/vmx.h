/* SPDX-License-Identifier: MIT */
/* VMX constants: controls, exit reasons, event words, instruction errors, EPT bits. SDM vol. 3C. */
#ifndef SPEC_VMX_H
#define SPEC_VMX_H

#include "base/bits.h"

/* Pin-based controls, 25.6.1 */
#define PIN_BASED_EXT_INTR_MASK                       BIT(0)
#define PIN_BASED_NMI_EXITING                         BIT(3)
#define PIN_BASED_VIRTUAL_NMIS                        BIT(5)
#define PIN_BASED_VMX_PREEMPTION_TIMER                BIT(6)
#define PIN_BASED_POSTED_INTR                         BIT(7)

/* Primary processor-based controls, 25.6.2 */
#define CPU_BASED_INTR_WINDOW_EXITING                 BIT(2)
#define CPU_BASED_USE_TSC_OFFSETTING                  BIT(3)
#define CPU_BASED_HLT_EXITING                         BIT(7)
#define CPU_BASED_INVLPG_EXITING                      BIT(9)
#define CPU_BASED_MWAIT_EXITING                       BIT(10)
#define CPU_BASED_RDPMC_EXITING                       BIT(11)
#define CPU_BASED_RDTSC_EXITING                       BIT(12)
#define CPU_BASED_CR3_LOAD_EXITING                    BIT(15)
#define CPU_BASED_CR3_STORE_EXITING                   BIT(16)
#define CPU_BASED_ACTIVATE_TERTIARY_CONTROLS          BIT(17)
#define CPU_BASED_CR8_LOAD_EXITING                    BIT(19)
#define CPU_BASED_CR8_STORE_EXITING                   BIT(20)
#define CPU_BASED_TPR_SHADOW                          BIT(21)
#define CPU_BASED_NMI_WINDOW_EXITING                  BIT(22)
#define CPU_BASED_MOV_DR_EXITING                      BIT(23)
#define CPU_BASED_UNCOND_IO_EXITING                   BIT(24)
#define CPU_BASED_USE_IO_BITMAPS                      BIT(25)
#define CPU_BASED_MONITOR_TRAP_FLAG                   BIT(27)
#define CPU_BASED_USE_MSR_BITMAPS                     BIT(28)
#define CPU_BASED_MONITOR_EXITING                     BIT(29)
#define CPU_BASED_PAUSE_EXITING                       BIT(30)
#define CPU_BASED_ACTIVATE_SECONDARY_CONTROLS         BIT(31)

/* Secondary controls */
#define SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES       BIT(0)
#define SECONDARY_EXEC_ENABLE_EPT                     BIT(1)
#define SECONDARY_EXEC_DESC                           BIT(2)
#define SECONDARY_EXEC_ENABLE_RDTSCP                  BIT(3)
#define SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE         BIT(4)
#define SECONDARY_EXEC_ENABLE_VPID                    BIT(5)
#define SECONDARY_EXEC_WBINVD_EXITING                 BIT(6)
#define SECONDARY_EXEC_UNRESTRICTED_GUEST             BIT(7)
#define SECONDARY_EXEC_APIC_REGISTER_VIRT             BIT(8)
#define SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY          BIT(9)
#define SECONDARY_EXEC_PAUSE_LOOP_EXITING             BIT(10)
#define SECONDARY_EXEC_RDRAND_EXITING                 BIT(11)
#define SECONDARY_EXEC_ENABLE_INVPCID                 BIT(12)
#define SECONDARY_EXEC_ENABLE_VMFUNC                  BIT(13)
#define SECONDARY_EXEC_SHADOW_VMCS                    BIT(14)
#define SECONDARY_EXEC_ENCLS_EXITING                  BIT(15)
#define SECONDARY_EXEC_RDSEED_EXITING                 BIT(16)
#define SECONDARY_EXEC_ENABLE_PML                     BIT(17)
#define SECONDARY_EXEC_EPT_VIOLATION_VE               BIT(18)
#define SECONDARY_EXEC_PT_CONCEAL_VMX                 BIT(19)
#define SECONDARY_EXEC_ENABLE_XSAVES                  BIT(20)
#define SECONDARY_EXEC_MODE_BASED_EPT_EXEC            BIT(22)
#define SECONDARY_EXEC_PT_USE_GPA                     BIT(24)
#define SECONDARY_EXEC_TSC_SCALING                    BIT(25)
#define SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE          BIT(26)
#define SECONDARY_EXEC_BUS_LOCK_DETECTION             BIT(30)
#define SECONDARY_EXEC_NOTIFY_VM_EXITING              BIT(31)

/* VM-exit controls, 25.7.1 */
#define VM_EXIT_SAVE_DEBUG_CONTROLS                   BIT(2)
#define VM_EXIT_HOST_ADDR_SPACE_SIZE                  BIT(9)
#define VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL            BIT(12)
#define VM_EXIT_ACK_INTR_ON_EXIT                      BIT(15)
#define VM_EXIT_SAVE_IA32_PAT                         BIT(18)
#define VM_EXIT_LOAD_IA32_PAT                         BIT(19)
#define VM_EXIT_SAVE_IA32_EFER                        BIT(20)
#define VM_EXIT_LOAD_IA32_EFER                        BIT(21)
#define VM_EXIT_SAVE_VMX_PREEMPTION_TIMER             BIT(22)
#define VM_EXIT_CLEAR_BNDCFGS                         BIT(23)
#define VM_EXIT_PT_CONCEAL_PIP                        BIT(24)
#define VM_EXIT_CLEAR_IA32_RTIT_CTL                   BIT(25)

/* VM-entry controls, 25.8.1 */
#define VM_ENTRY_LOAD_DEBUG_CONTROLS                  BIT(2)
#define VM_ENTRY_IA32E_MODE                           BIT(9)
#define VM_ENTRY_SMM                                  BIT(10)
#define VM_ENTRY_DEACT_DUAL_MONITOR                   BIT(11)
#define VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL           BIT(13)
#define VM_ENTRY_LOAD_IA32_PAT                        BIT(14)
#define VM_ENTRY_LOAD_IA32_EFER                       BIT(15)
#define VM_ENTRY_LOAD_BNDCFGS                         BIT(16)
#define VM_ENTRY_PT_CONCEAL_PIP                       BIT(17)
#define VM_ENTRY_LOAD_IA32_RTIT_CTL                   BIT(18)

/* Basic exit reasons; bit 31 of the field is set when a VM entry failed. */
enum vmx_exit_reason {
#define EXIT(name, number) EXIT_REASON_##name = number,
#include "spec/exit.def"
};
#define VMX_EXIT_REASON_FAILED_VMENTRY BIT(31)

/* VM-entry interruption information, VM-exit interruption and IDT-vectoring information: 25.8.3,
 * 25.9.2, 25.9.3 */
#define INTR_INFO_VECTOR_MASK      0xffull
#define INTR_INFO_TYPE_MASK        0x700ull
#define INTR_INFO_DELIVER_ERR_CODE BIT(11)
#define INTR_INFO_UNBLOCK_NMI      BIT(12)
#define INTR_INFO_VALID            BIT(31)
#define INTR_TYPE_EXT_INTR         (0ull << 8)
#define INTR_TYPE_NMI              (2ull << 8)
#define INTR_TYPE_HARD_EXCEPTION   (3ull << 8)
#define INTR_TYPE_SOFT_INTR        (4ull << 8)
#define INTR_TYPE_PRIV_SW_EXC      (5ull << 8)
#define INTR_TYPE_SOFT_EXC         (6ull << 8)
#define INTR_TYPE_OTHER_EVENT      (7ull << 8)

/* Guest interruptibility, 25.4.2 */
#define GUEST_INTR_STATE_STI    BIT(0)
#define GUEST_INTR_STATE_MOV_SS BIT(1)
#define GUEST_INTR_STATE_SMI    BIT(2)
#define GUEST_INTR_STATE_NMI    BIT(3)
#define GUEST_ACTIVITY_ACTIVE    0
#define GUEST_ACTIVITY_HLT       1
#define GUEST_ACTIVITY_SHUTDOWN  2
#define GUEST_ACTIVITY_WAIT_SIPI 3

/* VM-instruction errors, 31.4 */
enum vmx_insn_error {
	VMXERR_VMCALL_IN_VMX_ROOT_OPERATION = 1,
	VMXERR_VMCLEAR_INVALID_ADDRESS = 2,
	VMXERR_VMCLEAR_VMXON_POINTER = 3,
	VMXERR_VMLAUNCH_NONCLEAR_VMCS = 4,
	VMXERR_VMRESUME_NONLAUNCHED_VMCS = 5,
	VMXERR_VMRESUME_AFTER_VMXOFF = 6,
	VMXERR_ENTRY_INVALID_CONTROL_FIELD = 7,
	VMXERR_ENTRY_INVALID_HOST_STATE_FIELD = 8,
	VMXERR_VMPTRLD_INVALID_ADDRESS = 9,
	VMXERR_VMPTRLD_VMXON_POINTER = 10,
	VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID = 11,
	VMXERR_UNSUPPORTED_VMCS_COMPONENT = 12,
	VMXERR_VMWRITE_READ_ONLY_VMCS_COMPONENT = 13,
	VMXERR_VMXON_IN_VMX_ROOT_OPERATION = 15,
	VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS = 26,
	VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID = 28,
};

/* Entry failures: qualification of reasons 33 and 34, 27.8 */
enum vm_entry_failure_code {
	ENTRY_FAIL_DEFAULT = 0,
	ENTRY_FAIL_PDPTE = 2,
	ENTRY_FAIL_NMI = 3,
	ENTRY_FAIL_VMCS_LINK_PTR = 4,
};

/* EPT entries and the EPT pointer, 29.3 */
#define EPT_R          BIT(0)
#define EPT_W          BIT(1)
#define EPT_X          BIT(2)
#define EPT_MT_SHIFT   3
#define EPT_MT_WB      (6ull << 3)
#define EPT_IPAT       BIT(6)
#define EPT_LARGE      BIT(7)
#define EPT_A          BIT(8)
#define EPT_D          BIT(9)
#define EPT_XU         BIT(10)
#define EPT_SVE        BIT(63)
#define EPT_ADDR_MASK  BITS(51, 12)
#define EPTP_MT_WB     6ull
#define EPTP_WALK_4    (3ull << 3)
#define EPTP_WALK_5    (4ull << 3)
#define EPTP_AD        BIT(6)
/* Qualification of EPT violations, 28.2.1, table 28-7 */
#define EPT_VIOLATION_READ       BIT(0)
#define EPT_VIOLATION_WRITE      BIT(1)
#define EPT_VIOLATION_FETCH      BIT(2)
#define EPT_VIOLATION_RWX_SHIFT  3
#define EPT_VIOLATION_XU         BIT(6)
#define EPT_VIOLATION_GVA_VALID  BIT(7)
#define EPT_VIOLATION_TRANSLATED BIT(8)
#define EPT_VIOLATION_GVA_USER   BIT(9)
#define EPT_VIOLATION_GVA_WRITABLE BIT(10)
#define EPT_VIOLATION_GVA_NX     BIT(11)
#define EPT_VIOLATION_NMI_UNBLOCK BIT(12)

/* IA32_VMX_EPT_VPID_CAP, A.10 */
#define VMX_EPT_EXECUTE_ONLY        BIT(0)
#define VMX_EPT_PAGE_WALK_4         BIT(6)
#define VMX_EPT_PAGE_WALK_5         BIT(7)
#define VMX_EPTP_UC                 BIT(8)
#define VMX_EPTP_WB                 BIT(14)
#define VMX_EPT_2MB_PAGE            BIT(16)
#define VMX_EPT_1GB_PAGE            BIT(17)
#define VMX_EPT_INVEPT              BIT(20)
#define VMX_EPT_AD                  BIT(21)
#define VMX_EPT_ADV_EXIT_INFO       BIT(22)
#define VMX_EPT_INVEPT_SINGLE       BIT(25)
#define VMX_EPT_INVEPT_GLOBAL       BIT(26)
#define VMX_INVVPID                 BIT(32)
#define VMX_INVVPID_ADDR            BIT(40)
#define VMX_INVVPID_SINGLE          BIT(41)
#define VMX_INVVPID_ALL             BIT(42)
#define VMX_INVVPID_SINGLE_NOGLOBAL BIT(43)
enum invept_type { INVEPT_SINGLE = 1, INVEPT_GLOBAL = 2 };
enum invvpid_type { INVVPID_ADDR = 0, INVVPID_SINGLE = 1, INVVPID_ALL = 2, INVVPID_SINGLE_RETAIN_GLOBAL = 3 };

#endif
