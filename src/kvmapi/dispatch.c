/* SPDX-License-Identifier: MIT */
#include "kvmapi/ioctl.h"

#include <errno.h>
#include <string.h>

#include "base/guard.h"
#include "base/log.h"

/* One wrapper per row gives each handler its argument with the right type. */
#define IOCTL(scope, request, kind, type, call, help)                       \
	static long row_##scope##_##request(struct ioctl_ctx *c, void *buf) \
	{                                                                   \
		type *p = buf;                                              \
                                                                            \
		(void)p;                                                    \
		(void)c;                                                    \
		return (call);                                              \
	}
#include "kvmapi/ioctl.def"

static struct ioctl_row rows[] = {
#define IOCTL(scope, request, kind, type, call, help)                                         \
	{#request, request, sizeof(type), SCOPE_##scope, ARG_##kind, row_##scope##_##request, \
	 help,	   NULL},
#include "kvmapi/ioctl.def"
};

/* The largest argument that is copied here; larger ones are ARG_RAW. */
union any_arg {
	u64 align;
	u8 byte[1024];
};
#define IOCTL(scope, request, kind, type, call, help) \
	_Static_assert(sizeof(type) <= sizeof(union any_arg) || ARG_##kind == ARG_RAW, #request);
#include "kvmapi/ioctl.def"

static const struct ioctl_row *by_nr[SCOPE_N][256];
static pthread_once_t index_once = PTHREAD_ONCE_INIT;

static void index_rows(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct ioctl_row **slot = &by_nr[rows[i].scope][_IOC_NR(rows[i].req)];

		rows[i].next = *slot;
		*slot = &rows[i];
	}
}

const struct ioctl_row *ioctl_row(unsigned index)
{
	return index < ARRAY_SIZE(rows) ? &rows[index] : NULL;
}

static const struct ioctl_row *find_row(enum ioctl_scope scope, u32 req)
{
	const struct ioctl_row *r;

	pthread_once(&index_once, index_rows);
	for (r = by_nr[scope][_IOC_NR(req)]; r; r = r->next)
		if (r->req == req)
			return r;
	return NULL;
}

static const char *name_of(u32 req)
{
	static const struct {
		const char *name;
		u32 req;
	} all[] = {
#define ABI_IOCTL(name, number) {#name, number},
#include "spec/abi/frozen.def"
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i].req == req)
			return all[i].name;
	return "unknown request";
}

/* Once for each request: programs try things out, and some try often. */
static void tell_unknown(enum ioctl_scope scope, u32 req)
{
	static const char *const scopes[SCOPE_N] = {"system", "VM", "vCPU"};
	static u8 told[SCOPE_N][256];

	if (base_log_on(LOG_INFO) &&
	    !__atomic_exchange_n(&told[scope][_IOC_NR(req)], 1, __ATOMIC_RELAXED))
		base_log(LOG_INFO, "no %s ioctl %#x: %s (number %#x, %u bytes)", scopes[scope], req,
			 name_of(req), _IOC_NR(req), _IOC_SIZE(req));
}

static long call_row(const struct ioctl_row *row, struct ioctl_ctx *c)
{
	void *user = (void *)c->arg;
	union any_arg buf;
	long r;

	switch (row->kind) {
	case ARG_ZERO:
		if (c->arg)
			return -EINVAL;
		break;
	case ARG_IN:
	case ARG_INOUT:
		r = copy_from_user(&buf, user, row->size);
		if (r)
			return r;
		break;
	case ARG_OUT: memset(&buf, 0, row->size); break;
	case ARG_NONE:
	case ARG_VALUE:
	case ARG_RAW: break;
	}
	r = row->fn(c, &buf);
	if (!r && (row->kind == ARG_OUT || row->kind == ARG_INOUT))
		r = copy_to_user(user, &buf, row->size);
	return r;
}

long ioctl_dispatch(struct kobj *o, u32 req, unsigned long arg)
{
	/* What the kernel says to a request it does not know on these files. */
	static const struct {
		enum ioctl_scope scope;
		int unknown;
	} by_type[] = {
		[KOBJ_SYSTEM] = {SCOPE_SYSTEM, -EINVAL}, [KOBJ_VM] = {SCOPE_VM, -ENOTTY},
		[KOBJ_VCPU] = {SCOPE_VCPU, -EINVAL},	 [KOBJ_STATS] = {SCOPE_N, -ENOTTY},
		[KOBJ_GMEM] = {SCOPE_N, -ENOTTY},
	};
	struct ioctl_ctx c = {.obj = o, .vm = o->vm, .arg = arg};
	enum ioctl_scope scope = by_type[o->type].scope;
	const struct ioctl_row *row;
	void *before;
	long r;

	if (scope == SCOPE_N)
		return by_type[o->type].unknown;
	if (c.vm) {
		if (c.vm->generation != mm_generation())
			return -EIO;
		c.kvm = c.vm->kvm;
	}
	row = find_row(scope, req);
	if (!row) {
		tell_unknown(scope, req);
		return by_type[o->type].unknown;
	}
	if (scope == SCOPE_VCPU) {
		c.vcpu = o->vcpu;
		c.v = c.vcpu->v;
		pthread_mutex_lock(&c.vcpu->mutex);
		before = vcpu_load(c.v);
		r = call_row(row, &c);
		vcpu_put(before);
		pthread_mutex_unlock(&c.vcpu->mutex);
	} else {
		r = call_row(row, &c);
	}
	if (r < 0 && base_log_on(LOG_DEBUG))
		base_log(LOG_DEBUG, "%s: %s", row->name, strerrorname_np(-r));
	return r;
}
