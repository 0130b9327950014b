/* SPDX-License-Identifier: MIT */
/* Requests on a vCPU descriptor that are more than one call of the core. */
#include "kvmapi/ioctl.h"

#include <errno.h>
#include <stdlib.h>

#include "base/guard.h"

/* ---- Extended state ---------------------------------------------------------------------------
 */

/* Bytes of KVM_GET_XSAVE2 and KVM_SET_XSAVE in this VM. */
static size_t xsave_bytes(struct ioctl_ctx *c)
{
	int n = vm_check_extension(c->kvm, KVM_CAP_XSAVE2);

	return MAX(n, (int)sizeof(struct kvm_xsave));
}

static long get_xsave(struct ioctl_ctx *c, size_t bytes)
{
	void *area = calloc(1, bytes);
	long r;

	if (!area)
		return -ENOMEM;
	r = vcpu_get_xsave(c->v, area, bytes);
	if (!r)
		r = copy_to_user((void *)c->arg, area, bytes);
	free(area);
	return r;
}

long api_get_xsave(struct ioctl_ctx *c)
{
	/* What does not fit the old structure cannot be read through it. */
	if (xsave_bytes(c) > sizeof(struct kvm_xsave))
		return -EINVAL;
	return get_xsave(c, sizeof(struct kvm_xsave));
}

long api_get_xsave2(struct ioctl_ctx *c)
{
	return get_xsave(c, xsave_bytes(c));
}

long api_set_xsave(struct ioctl_ctx *c)
{
	size_t bytes = xsave_bytes(c);
	void *area;
	int err;
	long r;

	area = dup_user((void *)c->arg, bytes, 1, &err);
	if (!area)
		return err;
	r = vcpu_set_xsave(c->v, area, bytes);
	free(area);
	return r;
}

/* ---- Nested state ------------------------------------------------------------------------------
 */

/* Header and the larger of the two vendors' data. */
#define NESTED_MAX (sizeof(struct kvm_nested_state) + sizeof(struct kvm_vmx_nested_state_data))

long api_get_nested_state(struct ioctl_ctx *c)
{
	void *user_size = USER_FIELD(c, struct kvm_nested_state, size);
	struct kvm_nested_state *s;
	u32 room, need;
	long r;

	r = copy_from_user(&room, user_size, sizeof(room));
	if (r)
		return r;
	s = calloc(1, NESTED_MAX);
	if (!s)
		return -ENOMEM;
	r = vcpu_get_nested_state(c->v, s, MIN(room, (u32)NESTED_MAX));
	if (r > (long)room) {
		need = r;
		r = copy_to_user(user_size, &need, sizeof(need)) ? -EFAULT : -E2BIG;
	} else if (r >= 0) {
		r = copy_to_user(USER_ARG(c), s, r);
	}
	free(s);
	return r;
}

long api_set_nested_state(struct ioctl_ctx *c)
{
	const u32 known = KVM_STATE_NESTED_RUN_PENDING | KVM_STATE_NESTED_GUEST_MODE |
			  KVM_STATE_NESTED_EVMCS | KVM_STATE_NESTED_MTF_PENDING |
			  KVM_STATE_NESTED_GIF_SET;
	struct kvm_nested_state head, *s;
	u32 bytes;
	int err;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	if (head.size < sizeof(head) || (head.flags & ~known))
		return -EINVAL;
	if ((head.flags & KVM_STATE_NESTED_RUN_PENDING) &&
	    !(head.flags & KVM_STATE_NESTED_GUEST_MODE))
		return -EINVAL;
	bytes = MIN(head.size, (u32)NESTED_MAX);
	s = dup_user(USER_ARG(c), bytes, 1, &err);
	if (!s)
		return err;
	/* What was checked is what is used, whatever the program does to its copy. */
	*s = head;
	r = vcpu_set_nested_state(c->v, s, bytes);
	free(s);
	return r;
}

/* The range comes back however far it went. */
long api_pre_fault_memory(struct ioctl_ctx *c)
{
	struct kvm_pre_fault_memory range;
	long r = copy_from_user(&range, USER_ARG(c), sizeof(range));

	if (r)
		return r;
	r = vcpu_pre_fault_memory(c->v, &range);
	if (copy_to_user(USER_ARG(c), &range, sizeof(range)))
		return -EFAULT;
	return r;
}
