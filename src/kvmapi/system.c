/* SPDX-License-Identifier: MIT */
/* Requests on the system descriptor. */
#include "kvmapi/ioctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/guard.h"

#define MAX_CPUID_ENTRIES 256 /* KVM_MAX_CPUID_ENTRIES */
#define MAX_IO_MSRS	  256
#define MAX_MSR_LIST	  4096 /* more than any list has */

void *dup_user(const void *user, size_t n, size_t size, int *err)
{
	void *p = malloc(n ? n * size : 1);

	*err = p ? copy_from_user(p, user, n * size) : -ENOMEM;
	if (*err) {
		free(p);
		return NULL;
	}
	return p;
}

long api_create_vm(struct ioctl_ctx *c)
{
	struct kobj init = {.type = KOBJ_VM};
	struct kvm *kvm;
	int fd, r;

	kobj_reap();
	r = guard_install();
	if (r)
		return r;
	fd = kobj_file("kvm-vm", 0, true, NULL);
	if (fd < 0)
		return fd;
	r = kvm_create_vm(c->arg, &kvm);
	if (r)
		goto fail;
	init.vm = api_vm_new(kvm);
	if (!init.vm) {
		kvm_put(kvm);
		r = -ENOMEM;
		goto fail;
	}
	r = kobj_register(fd, &init);
	if (r) {
		api_vm_put(init.vm);
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return r;
}

long api_sys_check_extension(struct ioctl_ctx *c)
{
	if (c->arg == KVM_CAP_KVMLESS)
		return KVMLESS_MAGIC;
	return c->arg > 0xffffffffull ? 0 : sys_check_extension(c->arg);
}

/* The count is written back before the verdict, so that a program can ask with 0 first. */
long api_msr_list(struct ioctl_ctx *c, int (*fill)(u32 *list, u32 *n))
{
	u32 room, n = MAX_MSR_LIST;
	u32 *list;
	long r;

	r = copy_from_user(&room, USER_ARG(c), sizeof(room));
	if (r)
		return r;
	list = calloc(n, sizeof(*list));
	if (!list)
		return -ENOMEM;
	r = fill(list, &n);
	if (!r)
		r = copy_to_user(USER_ARG(c), &n, sizeof(n));
	if (!r && room < n)
		r = -E2BIG;
	if (!r)
		r = copy_to_user(USER_FIELD(c, struct kvm_msr_list, indices), list,
				 n * sizeof(*list));
	free(list);
	return r;
}

/* By @fill, or, with @c's vCPU, by @of_vcpu. */
static long get_cpuid(struct ioctl_ctx *c, int (*fill)(struct kvm_cpuid_entry2 *ents, u32 *n),
		      int (*of_vcpu)(struct kvm_vcpu *v, struct kvm_cpuid_entry2 *ents, u32 *n))
{
	struct kvm_cpuid_entry2 *ents;
	struct kvm_cpuid2 head;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	if (head.nent < 1)
		return -E2BIG;
	head.nent = MIN(head.nent, (u32)MAX_CPUID_ENTRIES);
	ents = calloc(head.nent, sizeof(*ents));
	if (!ents)
		return -ENOMEM;
	r = of_vcpu ? of_vcpu(c->v, ents, &head.nent) : fill(ents, &head.nent);
	if (!r)
		r = copy_to_user(USER_FIELD(c, struct kvm_cpuid2, entries), ents,
				 head.nent * sizeof(*ents));
	if (!r)
		r = copy_to_user(USER_ARG(c), &head, sizeof(head));
	free(ents);
	return r;
}

long api_sys_get_cpuid(struct ioctl_ctx *c, int (*fill)(struct kvm_cpuid_entry2 *ents, u32 *n))
{
	return get_cpuid(c, fill, NULL);
}

long api_get_supported_hv_cpuid(struct ioctl_ctx *c)
{
	return get_cpuid(c, NULL, vcpu_get_supported_hv_cpuid);
}

/* KVM_GET_MSRS and KVM_SET_MSRS on either kind of descriptor: @v NULL for the system's. */
static long msr_io(struct ioctl_ctx *c, bool set)
{
	struct kvm_msr_entry *ents;
	struct kvm_msrs head;
	int err;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	if (head.nmsrs >= MAX_IO_MSRS)
		return -E2BIG;
	ents = dup_user(USER_FIELD(c, struct kvm_msrs, entries), head.nmsrs, sizeof(*ents), &err);
	if (!ents)
		return err;
	if (set)
		r = vcpu_set_msrs(c->v, ents, head.nmsrs);
	else if (c->v)
		r = vcpu_get_msrs(c->v, ents, head.nmsrs);
	else
		r = sys_get_msrs(ents, head.nmsrs);
	if (!set && r >= 0 &&
	    copy_to_user(USER_FIELD(c, struct kvm_msrs, entries), ents, head.nmsrs * sizeof(*ents)))
		r = -EFAULT;
	free(ents);
	return r;
}

long api_sys_get_msrs(struct ioctl_ctx *c)
{
	return msr_io(c, false);
}

long api_get_msrs(struct ioctl_ctx *c)
{
	return msr_io(c, false);
}

long api_set_msrs(struct ioctl_ctx *c)
{
	return msr_io(c, true);
}

/* ---- CPUID of a vCPU, next to the system's: same arrays ---- */

long api_set_cpuid(struct ioctl_ctx *c)
{
	struct kvm_cpuid_entry *ents;
	struct kvm_cpuid head;
	int err;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	if (head.nent > MAX_CPUID_ENTRIES)
		return -E2BIG;
	ents = dup_user(USER_FIELD(c, struct kvm_cpuid, entries), head.nent, sizeof(*ents), &err);
	if (!ents)
		return err;
	r = vcpu_set_cpuid(c->v, ents, head.nent);
	free(ents);
	return r;
}

long api_set_cpuid2(struct ioctl_ctx *c)
{
	struct kvm_cpuid_entry2 *ents;
	struct kvm_cpuid2 head;
	int err;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	if (head.nent > MAX_CPUID_ENTRIES)
		return -E2BIG;
	ents = dup_user(USER_FIELD(c, struct kvm_cpuid2, entries), head.nent, sizeof(*ents), &err);
	if (!ents)
		return err;
	r = vcpu_set_cpuid2(c->v, ents, head.nent);
	free(ents);
	return r;
}

long api_get_cpuid2(struct ioctl_ctx *c)
{
	struct kvm_cpuid_entry2 *ents;
	struct kvm_cpuid2 head;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	ents = calloc(MAX_CPUID_ENTRIES, sizeof(*ents));
	if (!ents)
		return -ENOMEM;
	head.nent = MIN(head.nent, (u32)MAX_CPUID_ENTRIES);
	r = vcpu_get_cpuid2(c->v, ents, &head.nent);
	if (!r)
		r = copy_to_user(USER_FIELD(c, struct kvm_cpuid2, entries), ents,
				 head.nent * sizeof(*ents));
	if (!r)
		r = copy_to_user(USER_ARG(c), &head, sizeof(head));
	free(ents);
	return r;
}
