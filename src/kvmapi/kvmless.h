/* SPDX-License-Identifier: MIT */
/*
 * libkvmless: the KVM API (Linux's Documentation/virt/kvm/api.rst) without the kernel's KVM, in
 *this process, on a software processor.
 *
 *	int kvm = kvmless_open(O_RDWR | O_CLOEXEC);
 *	int vm = kvmless_ioctl(kvm, KVM_CREATE_VM, 0);
 *	int vcpu = kvmless_ioctl(vm, KVM_CREATE_VCPU, 0);
 *	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
 *
 * Request numbers and structures are those of <linux/kvm.h>, which this header does not include.
 *
 * The descriptors are real ones (anonymous memory files): dup, fcntl, fstat, poll and mmap work on
 *them as usual, and every number that names the same file names the same object. Only ioctl and
 *close have to come through here. What a forked child inherits answers EIO there, as in the kernel.
 *
 * Every function may be called from any thread. Unless it says otherwise a function returns -1 and
 * sets errno where the system call of its name would.
 */
#ifndef KVMLESS_H
#define KVMLESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVMLESS_VERSION_MAJOR 0
#define KVMLESS_VERSION_MINOR 1

/* KVM_CHECK_EXTENSION of this number answers the magic, on system and VM descriptors: proof of who
 * has answered. The kernel's KVM answers 0. */
#define KVMLESS_CAP	  0x6b766d6c
#define KVMLESS_CAP_MAGIC 0x4b564d4c

/* As open("/dev/kvm", flags): a new system descriptor. Of the flags, O_CLOEXEC counts. */
int kvmless_open(int flags);

/* As ioctl(2). A descriptor that is not ours goes to ioctl(2) itself. */
int kvmless_ioctl(int fd, unsigned long request, ...);

/*
 * As close(2), for any descriptor. The object goes when its last descriptor is closed: a VM stays
 * as long as one of its vCPUs or statistics files is open. After a plain close(2) it stays until
 * the next KVM_CREATE_VM.
 */
int kvmless_close(int fd);

/* As mmap(2) and munmap(2), with the kernel's checks for vCPU descriptors (the dirty ring cannot be
 * mapped private or executable) and ENODEV for those that cannot be mapped. Plain mmap(2) works
 * too. */
void *kvmless_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int kvmless_munmap(void *addr, size_t len);

/* As read(2) and pread(2), bringing a KVM_GET_STATS_FD file up to date first. EINVAL on our other
 * descriptors, as in the kernel. */
ssize_t kvmless_read(int fd, void *buf, size_t n);
ssize_t kvmless_pread(int fd, void *buf, size_t n, off_t offset);

/*
 * What an arriving signal does to KVM_RUN in the kernel: the current KVM_RUN on this vCPU, or the
 * next if none is running, returns EINTR. A signal handler of the program that is to interrupt
 * KVM_RUN calls it. Async-signal-safe. 0, or -1 with EBADF if @vcpufd is not a vCPU's.
 */
int kvmless_kick(int vcpufd);

/*
 * As kvmless_kick after @exits VM exits of this vCPU, counted from now on over all KVM_RUNs; 0: no
 * more. Unlike a signal it comes at the same place in each run of a program, and where a VM exit
 * has left something to be done: for tests of saving and restoring. EBUSY: another thread uses the
 * vCPU.
 */
int kvmless_leave_after(int vcpufd, unsigned exits);

/* Does @fd name one of our objects? Async-signal-safe; errno stays as it is. */
bool kvmless_is_kvm_fd(int fd);

enum kvmless_log_level {
	KVMLESS_LOG_ERROR,
	KVMLESS_LOG_WARN,
	KVMLESS_LOG_INFO,
	KVMLESS_LOG_DEBUG,
};
/* Lines up to @max_level go to @sink, from any thread, without newline. NULL: silence, as at the
 * start. */
typedef void kvmless_log_fn(void *opaque, enum kvmless_log_level level, const char *line);
void kvmless_log(kvmless_log_fn *sink, void *opaque, enum kvmless_log_level max_level);

/*
 * Begins a trace of all VMs of this process: a timeline of L0, L1 and L2 of each vCPU in the Chrome
 * trace-event format, written to @path as it goes and completed at kvmless_trace(NULL) or exit(3).
 * If there is a file @path it is kept, and the trace goes to PATH.<process number>. EBUSY: one is
 * being written. A child of fork writes nothing, unless it begins its own.
 */
int kvmless_trace(const char *path);

/*
 * Writes the state of the vCPU at every VM exit to @path, and at every @every instructions (0: not)
 * from the @from-th on, if kvmless.deterministic is set: struct kvm_record of core/core.h, 28 words
 * of 64 bits. NULL ends it. Two runs of one program can be compared so. EBUSY: it is on.
 */
int kvmless_record(const char *path, unsigned long every, unsigned long from);

/*
 * Parameters by "module.name", those of the kernel's modules and ours ("kvm_intel.ept",
 * "kvmless.engine"). A VM keeps those of its creation. ENOENT: no such parameter; EINVAL: not a
 * value for it.
 */
int kvmless_param_set(const char *name, const char *value);
/* The text /sys/module/.../parameters/... would have, newline included. Its length. */
ssize_t kvmless_param_get(const char *name, char *buf, size_t n);
/* Enumerates the names from 0; NULL past the end. @help and @writable may be NULL. */
const char *kvmless_param_name(unsigned index, const char **help, bool *writable);

/* Enumerates the mnemonics of the vCPU's instruction set from 0, NULL past the end or with EBADF.
 * @calls: how often translated code has left such instructions to the interpreter, because they are
 * not translated or an access missed the TLB. */
const char *kvmless_handler_calls(int vcpufd, unsigned index, unsigned long long *calls);

/* The vCPU's state in words: registers, last exit, the check that refused the last VM entry. The
 * length of the text; -1 with EBADF, or EBUSY while another thread uses the vCPU. */
ssize_t kvmless_dump(int vcpufd, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
