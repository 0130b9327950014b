/* SPDX-License-Identifier: MIT */
/*
 * A small VMM of the KVM API: one Linux (or multiboot, or PVH) kernel, serial console, RTC, ACPI
 * power-off, virtio disks. It talks to KVM only through struct kvm_sys, so the same code is
 * `kvmless boot` over libkvmless and the static kvmless-vmm over a real /dev/kvm.
 */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include <pthread.h>
#include <stdio.h>

#include "base/types.h"
#include "spec/abi/kvm.h"

/* Where KVM is. Calls have the meaning and errno of the system calls. */
struct kvm_sys {
	const char *name;
	int (*open)(void);
	int (*ioctl)(int fd, unsigned long req, unsigned long arg);
	int (*close)(int fd);
	/* Gets the vCPU's thread out of KVM_RUN. */
	void (*kick)(int vcpu_fd, pthread_t thread);
};
extern const struct kvm_sys kvm_sys_native;

#define VMM_MAX_DISKS 8

struct vmm_options {
	bool deterministic; /* the RTC does not tell the time */
	const struct kvm_sys *sys;
	const char *kernel, *initrd, *append;
	const char *disk[VMM_MAX_DISKS];
	unsigned ndisks;
	unsigned cpus;
	unsigned phys_bits; /* 0: as KVM offers them */
	bool hyperv;	    /* in the place of KVM's interface */
	u64 memory;	    /* bytes */
	unsigned timeout_s; /* 0: none */
	bool interactive;   /* stdin is a terminal: raw mode and escape key */
	bool quiet;	    /* no messages of ours except errors */
	/* Called once when the guest has stopped, before the VM is destroyed; may be NULL. */
	void (*at_end)(void *opaque, int vm_fd, const int *vcpu_fds, unsigned ncpus);
	void *opaque;
};

/* How a run ended: the exit status of the program. A value written to port 0xf4 is used as it is.
 */
enum vmm_status {
	VMM_OK = 0, /* power-off or reboot */
	VMM_USAGE = 2,
	VMM_BAD_FILE = 65, /* kernel, initrd or disk cannot be used */
	VMM_NO_KVM = 69,   /* KVM is missing or refuses */
	VMM_TRIPLE_FAULT = 80,
	VMM_INTERNAL_ERROR = 81,
	VMM_ENTRY_FAILED = 82,
	VMM_TIMEOUT = 124,
};

/* Runs to the end. Messages go to stderr, the guest's console to stdout. */
int vmm_run(const struct vmm_options *opt);

/* Parses the options both programs share (--cpus, --memory, --phys-bits, --hyperv, --initrd,
 * --append,
 * --disk,
 * --timeout, --quiet, KERNEL). Returns how many arguments it took at argv[0], 0 if argv[0] is not
 * ours, or -1 after printing what is wrong. */
int vmm_parse_option(struct vmm_options *opt, const char *prog, int argc, char **argv);
/* What Linux gets without --append. */
#define VMM_LINUX_APPEND "console=ttyS0"
extern const char vmm_options_help[];

/* ---- Inside ---------------------------------------------------------------------------------- */

struct vmm_vcpu {
	struct vmm *vmm;
	unsigned index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
};

struct serial;
struct virtio_blk;

struct vmm {
	const struct vmm_options *opt;
	const struct kvm_sys *sys;
	int kvm_fd, vm_fd;
	u8 *mem; /* guest RAM: [0, low) at 0, the rest from 4 GiB */
	u64 mem_size, low_size;
	unsigned run_size;
	struct vmm_vcpu *vcpus;
	struct serial *serial;
	struct virtio_blk *disks[VMM_MAX_DISKS];
	unsigned ndisks;
	u8 cmos_index;
	u16 pm1_enable, pm1_status;
	u32 pci_address;
	u8 i8042_command, reset_control;
	/* The end: status is set once, then everyone is kicked. */
	pthread_mutex_t lock;
	bool stopping;
	int status;
	int stop_fd; /* eventfd that wakes the main thread */
};

/* Guest memory: NULL unless [@gpa, @gpa+@len) is RAM without the hole. */
void *vmm_mem(struct vmm *vmm, u64 gpa, u64 len);
/* Any thread. The first call decides the status. */
void vmm_stop(struct vmm *vmm, int status);
void vmm_error(const char *fmt, ...) __printf(1, 2);
void vmm_set_irq(struct vmm *vmm, unsigned gsi, int level);

/* What a loader leaves: the boot processor's registers. */
struct boot_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	char version[128]; /* of the kernel, if it says */
};
/* Loads vmm->opt->kernel (and initrd) into guest memory; tells the kind of file by its content. 0,
 * or a VMM_* status after printing what is wrong. */
int boot_load(struct vmm *vmm, struct boot_state *bs);
/* The file's content; NULL after printing why not. free() it. */
u8 *file_read(const char *path, const char *what, size_t *size);
/* Places the initrd below @max; 0 or a status. */
int boot_load_initrd(struct vmm *vmm, u64 kernel_end, u64 max, u64 *addr, u64 *size);
/* Per kind. @img is the whole file. */
int boot_bzimage(struct vmm *vmm, struct boot_state *bs, const u8 *img, size_t size);
int boot_elf(struct vmm *vmm, struct boot_state *bs, const u8 *img, size_t size);
int boot_multiboot(struct vmm *vmm, struct boot_state *bs, const u8 *img, size_t size,
		   size_t header);
/* CPU set-ups the kinds share: flat 32-bit protected mode, and 64-bit mode with the first 4 GiB
 * mapped to themselves. */
void boot_state_flat32(struct vmm *vmm, struct boot_state *bs);
void boot_state_long(struct vmm *vmm, struct boot_state *bs);
/* Memory map as e820 entries (struct of the Linux boot protocol); returns how many. */
struct e820_entry {
	u64 addr, size;
	u32 type;
} __attribute__((packed));
unsigned boot_e820(struct vmm *vmm, struct e820_entry *e, unsigned max);
/* ACPI tables at BOOT_ACPI: RSDP, XSDT, FADT, MADT, DSDT. */
void acpi_build(struct vmm *vmm);

/* Where things are in guest memory */
#define BOOT_GDT	 0x0500ul
#define BOOT_ZERO_PAGE	 0x7000ul
#define BOOT_PAGETABLES	 0x9000ul /* PML4, PDPT, 4 page directories */
#define BOOT_PVH_INFO	 0x10000ul
#define BOOT_CMDLINE	 0x20000ul
#define BOOT_CMDLINE_MAX 4096ul
#define BOOT_EBDA	 0x9fc00ul
#define BOOT_ACPI	 0xe0000ul
#define BOOT_KERNEL	 0x100000ul
#define MEM_HOLE_START	 0xc0000000ul
#define MEM_HOLE_END	 0x100000000ul
#define VIRTIO_MMIO_BASE 0xd0000000ul
#define VIRTIO_MMIO_SIZE 0x1000ul
#define VIRTIO_IRQ_BASE	 16u
#define SCI_IRQ		 9u
#define PM1_EVENT_PORT	 0x600u
#define PM1_CONTROL_PORT 0x604u

/* Devices. Port and MMIO accesses come from vCPU threads. */
void ports_io(struct vmm *vmm, u16 port, bool write, unsigned size, u8 *data);
void mmio_io(struct vmm *vmm, u64 addr, bool write, unsigned size, u8 *data);

struct serial *serial_create(struct vmm *vmm, u16 base, unsigned irq);
void serial_destroy(struct serial *s);
void serial_io(struct serial *s, unsigned reg, bool write, u8 *val);
/* Bytes from the terminal; returns how many fitted. */
size_t serial_receive(struct serial *s, const u8 *buf, size_t n);

struct virtio_blk *virtio_blk_create(struct vmm *vmm, const char *path, unsigned index);
void virtio_blk_destroy(struct virtio_blk *d);
void virtio_blk_io(struct virtio_blk *d, u32 reg, bool write, unsigned size, u8 *data);

#endif
