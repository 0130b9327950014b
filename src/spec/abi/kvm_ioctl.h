/* SPDX-License-Identifier: MIT */
/* Request numbers, x86. Direction and size are part of the number (asm-generic/ioctl.h); KVM's own
 * directions are sometimes the wrong way round, and stay so. */
#ifndef SPEC_ABI_KVM_IOCTL_H
#define SPEC_ABI_KVM_IOCTL_H

#include <sys/ioctl.h>

#include "spec/abi/kvm_run.h"
#include "spec/abi/kvm_state.h"
#include "spec/abi/kvm_vm.h"
#include "spec/abi/kvm_xen.h"

#define KVMIO		0xAE
#define KVM_API_VERSION 12

/* /dev/kvm */
#define KVM_GET_API_VERSION	       _IO(KVMIO, 0x00)
#define KVM_CREATE_VM		       _IO(KVMIO, 0x01)
#define KVM_GET_MSR_INDEX_LIST	       _IOWR(KVMIO, 0x02, struct kvm_msr_list)
#define KVM_CHECK_EXTENSION	       _IO(KVMIO, 0x03)
#define KVM_GET_VCPU_MMAP_SIZE	       _IO(KVMIO, 0x04)
#define KVM_GET_SUPPORTED_CPUID	       _IOWR(KVMIO, 0x05, struct kvm_cpuid2)
#define KVM_GET_EMULATED_CPUID	       _IOWR(KVMIO, 0x09, struct kvm_cpuid2)
#define KVM_GET_MSR_FEATURE_INDEX_LIST _IOWR(KVMIO, 0x0a, struct kvm_msr_list)

/* VM */
#define KVM_CREATE_VCPU			_IO(KVMIO, 0x41)
#define KVM_GET_DIRTY_LOG		_IOW(KVMIO, 0x42, struct kvm_dirty_log)
#define KVM_SET_NR_MMU_PAGES		_IO(KVMIO, 0x44)
#define KVM_GET_NR_MMU_PAGES		_IO(KVMIO, 0x45)
#define KVM_SET_USER_MEMORY_REGION	_IOW(KVMIO, 0x46, struct kvm_userspace_memory_region)
#define KVM_SET_TSS_ADDR		_IO(KVMIO, 0x47)
#define KVM_SET_IDENTITY_MAP_ADDR	_IOW(KVMIO, 0x48, u64)
#define KVM_SET_USER_MEMORY_REGION2	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#define KVM_CREATE_IRQCHIP		_IO(KVMIO, 0x60)
#define KVM_IRQ_LINE			_IOW(KVMIO, 0x61, struct kvm_irq_level)
#define KVM_GET_IRQCHIP			_IOWR(KVMIO, 0x62, struct kvm_irqchip)
#define KVM_SET_IRQCHIP			_IOR(KVMIO, 0x63, struct kvm_irqchip)
#define KVM_CREATE_PIT			_IO(KVMIO, 0x64)
#define KVM_GET_PIT			_IOWR(KVMIO, 0x65, struct kvm_pit_state)
#define KVM_SET_PIT			_IOR(KVMIO, 0x66, struct kvm_pit_state)
#define KVM_IRQ_LINE_STATUS		_IOWR(KVMIO, 0x67, struct kvm_irq_level)
#define KVM_REGISTER_COALESCED_MMIO	_IOW(KVMIO, 0x67, struct kvm_coalesced_mmio_zone)
#define KVM_UNREGISTER_COALESCED_MMIO	_IOW(KVMIO, 0x68, struct kvm_coalesced_mmio_zone)
#define KVM_SET_GSI_ROUTING		_IOW(KVMIO, 0x6a, struct kvm_irq_routing)
#define KVM_REINJECT_CONTROL		_IO(KVMIO, 0x71)
#define KVM_IRQFD			_IOW(KVMIO, 0x76, struct kvm_irqfd)
#define KVM_CREATE_PIT2			_IOW(KVMIO, 0x77, struct kvm_pit_config)
#define KVM_SET_BOOT_CPU_ID		_IO(KVMIO, 0x78)
#define KVM_IOEVENTFD			_IOW(KVMIO, 0x79, struct kvm_ioeventfd)
#define KVM_XEN_HVM_CONFIG		_IOW(KVMIO, 0x7a, struct kvm_xen_hvm_config)
#define KVM_SET_CLOCK			_IOW(KVMIO, 0x7b, struct kvm_clock_data)
#define KVM_GET_CLOCK			_IOR(KVMIO, 0x7c, struct kvm_clock_data)
#define KVM_GET_PIT2			_IOR(KVMIO, 0x9f, struct kvm_pit_state2)
#define KVM_SET_PIT2			_IOW(KVMIO, 0xa0, struct kvm_pit_state2)
#define KVM_SET_TSC_KHZ			_IO(KVMIO, 0xa2) /* VM and vCPU */
#define KVM_GET_TSC_KHZ			_IO(KVMIO, 0xa3) /* VM and vCPU */
#define KVM_SIGNAL_MSI			_IOW(KVMIO, 0xa5, struct kvm_msi)
#define KVM_SET_PMU_EVENT_FILTER	_IOW(KVMIO, 0xb2, struct kvm_pmu_event_filter)
#define KVM_MEMORY_ENCRYPT_OP		_IOWR(KVMIO, 0xba, unsigned long)
#define KVM_MEMORY_ENCRYPT_REG_REGION	_IOR(KVMIO, 0xbb, struct kvm_enc_region)
#define KVM_MEMORY_ENCRYPT_UNREG_REGION _IOR(KVMIO, 0xbc, struct kvm_enc_region)
#define KVM_HYPERV_EVENTFD		_IOW(KVMIO, 0xbd, struct kvm_hyperv_eventfd)
#define KVM_CLEAR_DIRTY_LOG		_IOWR(KVMIO, 0xc0, struct kvm_clear_dirty_log)
#define KVM_X86_SET_MSR_FILTER		_IOW(KVMIO, 0xc6, struct kvm_msr_filter)
#define KVM_RESET_DIRTY_RINGS		_IO(KVMIO, 0xc7)
#define KVM_XEN_HVM_GET_ATTR		_IOWR(KVMIO, 0xc8, struct kvm_xen_hvm_attr)
#define KVM_XEN_HVM_SET_ATTR		_IOW(KVMIO, 0xc9, struct kvm_xen_hvm_attr)
#define KVM_XEN_HVM_EVTCHN_SEND		_IOW(KVMIO, 0xd0, struct kvm_irq_routing_xen_evtchn)
#define KVM_SET_MEMORY_ATTRIBUTES	_IOW(KVMIO, 0xd2, struct kvm_memory_attributes)
#define KVM_CREATE_GUEST_MEMFD		_IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
#define KVM_CREATE_DEVICE		_IOWR(KVMIO, 0xe0, struct kvm_create_device)
/* Devices; system, VM and vCPU fds as well */
#define KVM_SET_DEVICE_ATTR _IOW(KVMIO, 0xe1, struct kvm_device_attr)
#define KVM_GET_DEVICE_ATTR _IOW(KVMIO, 0xe2, struct kvm_device_attr)
#define KVM_HAS_DEVICE_ATTR _IOW(KVMIO, 0xe3, struct kvm_device_attr)

/* vCPU */
#define KVM_RUN			      _IO(KVMIO, 0x80)
#define KVM_GET_REGS		      _IOR(KVMIO, 0x81, struct kvm_regs)
#define KVM_SET_REGS		      _IOW(KVMIO, 0x82, struct kvm_regs)
#define KVM_GET_SREGS		      _IOR(KVMIO, 0x83, struct kvm_sregs)
#define KVM_SET_SREGS		      _IOW(KVMIO, 0x84, struct kvm_sregs)
#define KVM_TRANSLATE		      _IOWR(KVMIO, 0x85, struct kvm_translation)
#define KVM_INTERRUPT		      _IOW(KVMIO, 0x86, struct kvm_interrupt)
#define KVM_GET_MSRS		      _IOWR(KVMIO, 0x88, struct kvm_msrs) /* system too */
#define KVM_SET_MSRS		      _IOW(KVMIO, 0x89, struct kvm_msrs)
#define KVM_SET_CPUID		      _IOW(KVMIO, 0x8a, struct kvm_cpuid)
#define KVM_SET_SIGNAL_MASK	      _IOW(KVMIO, 0x8b, struct kvm_signal_mask)
#define KVM_GET_FPU		      _IOR(KVMIO, 0x8c, struct kvm_fpu)
#define KVM_SET_FPU		      _IOW(KVMIO, 0x8d, struct kvm_fpu)
#define KVM_GET_LAPIC		      _IOR(KVMIO, 0x8e, struct kvm_lapic_state)
#define KVM_SET_LAPIC		      _IOW(KVMIO, 0x8f, struct kvm_lapic_state)
#define KVM_SET_CPUID2		      _IOW(KVMIO, 0x90, struct kvm_cpuid2)
#define KVM_GET_CPUID2		      _IOWR(KVMIO, 0x91, struct kvm_cpuid2)
#define KVM_TPR_ACCESS_REPORTING      _IOWR(KVMIO, 0x92, struct kvm_tpr_access_ctl)
#define KVM_SET_VAPIC_ADDR	      _IOW(KVMIO, 0x93, struct kvm_vapic_addr)
#define KVM_GET_MP_STATE	      _IOR(KVMIO, 0x98, struct kvm_mp_state)
#define KVM_SET_MP_STATE	      _IOW(KVMIO, 0x99, struct kvm_mp_state)
#define KVM_NMI			      _IO(KVMIO, 0x9a)
#define KVM_SET_GUEST_DEBUG	      _IOW(KVMIO, 0x9b, struct kvm_guest_debug)
#define KVM_X86_SETUP_MCE	      _IOW(KVMIO, 0x9c, u64)
#define KVM_X86_GET_MCE_CAP_SUPPORTED _IOR(KVMIO, 0x9d, u64) /* system */
#define KVM_X86_SET_MCE		      _IOW(KVMIO, 0x9e, struct kvm_x86_mce)
#define KVM_GET_VCPU_EVENTS	      _IOR(KVMIO, 0x9f, struct kvm_vcpu_events)
#define KVM_SET_VCPU_EVENTS	      _IOW(KVMIO, 0xa0, struct kvm_vcpu_events)
#define KVM_GET_DEBUGREGS	      _IOR(KVMIO, 0xa1, struct kvm_debugregs)
#define KVM_SET_DEBUGREGS	      _IOW(KVMIO, 0xa2, struct kvm_debugregs)
#define KVM_ENABLE_CAP		      _IOW(KVMIO, 0xa3, struct kvm_enable_cap) /* VM too */
#define KVM_GET_XSAVE		      _IOR(KVMIO, 0xa4, struct kvm_xsave)
#define KVM_SET_XSAVE		      _IOW(KVMIO, 0xa5, struct kvm_xsave)
#define KVM_GET_XCRS		      _IOR(KVMIO, 0xa6, struct kvm_xcrs)
#define KVM_SET_XCRS		      _IOW(KVMIO, 0xa7, struct kvm_xcrs)
#define KVM_GET_ONE_REG		      _IOW(KVMIO, 0xab, struct kvm_one_reg)
#define KVM_SET_ONE_REG		      _IOW(KVMIO, 0xac, struct kvm_one_reg)
#define KVM_KVMCLOCK_CTRL	      _IO(KVMIO, 0xad)
#define KVM_GET_REG_LIST	      _IOWR(KVMIO, 0xb0, struct kvm_reg_list)
#define KVM_SMI			      _IO(KVMIO, 0xb7)
#define KVM_GET_NESTED_STATE	      _IOWR(KVMIO, 0xbe, struct kvm_nested_state)
#define KVM_SET_NESTED_STATE	      _IOW(KVMIO, 0xbf, struct kvm_nested_state)
#define KVM_GET_SUPPORTED_HV_CPUID    _IOWR(KVMIO, 0xc1, struct kvm_cpuid2) /* system too */
#define KVM_XEN_VCPU_GET_ATTR	      _IOWR(KVMIO, 0xca, struct kvm_xen_vcpu_attr)
#define KVM_XEN_VCPU_SET_ATTR	      _IOW(KVMIO, 0xcb, struct kvm_xen_vcpu_attr)
#define KVM_GET_SREGS2		      _IOR(KVMIO, 0xcc, struct kvm_sregs2)
#define KVM_SET_SREGS2		      _IOW(KVMIO, 0xcd, struct kvm_sregs2)
#define KVM_GET_STATS_FD	      _IO(KVMIO, 0xce) /* VM too */
#define KVM_GET_XSAVE2		      _IOR(KVMIO, 0xcf, struct kvm_xsave)
#define KVM_PRE_FAULT_MEMORY	      _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)

#endif
