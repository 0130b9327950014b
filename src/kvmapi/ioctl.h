/* SPDX-License-Identifier: MIT */
/* The ioctl table: one row per request and kind of descriptor, from ioctl.def. */
#ifndef KVMAPI_IOCTL_H
#define KVMAPI_IOCTL_H

#include "kvmapi/object.h"

enum ioctl_scope { SCOPE_SYSTEM, SCOPE_VM, SCOPE_VCPU, SCOPE_N };

/* What the argument is, and who copies it. */
enum ioctl_kind {
	ARG_NONE,  /* ignored */
	ARG_ZERO,  /* has to be 0, else EINVAL */
	ARG_VALUE, /* the number itself */
	ARG_IN,	   /* pointer to a struct, copied in */
	ARG_OUT,   /* pointer to a struct, copied out on success */
	ARG_INOUT, /* both */
	ARG_RAW,   /* pointer; the handler copies (arrays) */
};

struct ioctl_ctx {
	struct kobj *obj;
	struct api_vm *vm;     /* NULL on the system fd */
	struct api_vcpu *vcpu; /* NULL but on vCPU fds */
	struct kvm *kvm;
	struct kvm_vcpu *v;
	unsigned long arg;
};

struct ioctl_row {
	const char *name;
	u32 req;
	u32 size; /* of the struct copied */
	enum ioctl_scope scope;
	enum ioctl_kind kind;
	long (*fn)(struct ioctl_ctx *c, void *buf);
	const char *help;
	const struct ioctl_row *next; /* of the same scope and _IOC_NR */
};

/* The whole table, for tests and tools. */
const struct ioctl_row *ioctl_row(unsigned index); /* NULL past the end */
/* >= 0 or -errno; -EBADF-like errors of descriptors that are not ours are the caller's. */
long ioctl_dispatch(struct kobj *o, u32 req, unsigned long arg);

/* ---- Handlers of rows that are more than one call of the core ---- */

long api_create_vm(struct ioctl_ctx *c);
long api_sys_check_extension(struct ioctl_ctx *c);
long api_msr_list(struct ioctl_ctx *c, int (*fill)(u32 *list, u32 *n));
long api_sys_get_cpuid(struct ioctl_ctx *c, int (*fill)(struct kvm_cpuid_entry2 *ents, u32 *n));
long api_sys_get_msrs(struct ioctl_ctx *c);

long api_get_supported_hv_cpuid(struct ioctl_ctx *c);
long api_create_vcpu(struct ioctl_ctx *c);
long api_vm_check_extension(struct ioctl_ctx *c);
long api_set_region(struct ioctl_ctx *c, const struct kvm_userspace_memory_region *m);
long api_set_region2(struct ioctl_ctx *c, const struct kvm_userspace_memory_region2 *m);
long api_create_guest_memfd(struct ioctl_ctx *c, const struct kvm_create_guest_memfd *m);
long api_get_dirty_log(struct ioctl_ctx *c, const struct kvm_dirty_log *log);
long api_clear_dirty_log(struct ioctl_ctx *c, const struct kvm_clear_dirty_log *log);
long api_create_pit(struct ioctl_ctx *c);
long api_get_pit(struct ioctl_ctx *c, struct kvm_pit_state *ps);
long api_set_pit(struct ioctl_ctx *c, const struct kvm_pit_state *ps);
long api_set_gsi_routing(struct ioctl_ctx *c);
long api_set_msr_filter(struct ioctl_ctx *c, struct kvm_msr_filter *f);
long api_create_device(struct ioctl_ctx *c, const struct kvm_create_device *d);
long api_vm_stats_fd(struct ioctl_ctx *c);

long api_run(struct ioctl_ctx *c);
long api_set_signal_mask(struct ioctl_ctx *c);
long api_get_msrs(struct ioctl_ctx *c);
long api_set_msrs(struct ioctl_ctx *c);
long api_set_cpuid(struct ioctl_ctx *c);
long api_set_cpuid2(struct ioctl_ctx *c);
long api_get_cpuid2(struct ioctl_ctx *c);
long api_get_xsave(struct ioctl_ctx *c);
long api_get_xsave2(struct ioctl_ctx *c);
long api_set_xsave(struct ioctl_ctx *c);
long api_get_nested_state(struct ioctl_ctx *c);
long api_set_nested_state(struct ioctl_ctx *c);
long api_pre_fault_memory(struct ioctl_ctx *c);
long api_vcpu_stats_fd(struct ioctl_ctx *c);

/* Brings the file of a statistics object up to date. */
void stats_refresh(struct kobj *o);

/* Where member @m of the program's structure of @type is: its pointer need not be aligned. */
#define USER_FIELD(c, type, m) ((void *)((c)->arg + offsetof(type, m)))
#define USER_ARG(c)	       ((void *)(c)->arg)

/* A copy of @n elements of @size bytes at the program's @user; NULL and *@err set on failure.
 * free(). */
void *dup_user(const void *user, size_t n, size_t size, int *err);

#endif
