/* SPDX-License-Identifier: MIT */
/* The public functions of libkvmless. */
#include "kvmapi/kvmless.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/log.h"
#include "base/trace.h"
#include "kvmapi/ioctl.h"
#include "silicon/silicon.h"

_Static_assert(KVMLESS_CAP == KVM_CAP_KVMLESS && KVMLESS_CAP_MAGIC == KVMLESS_MAGIC,
	       "the public header's numbers");
_Static_assert((int)KVMLESS_LOG_DEBUG == (int)LOG_DEBUG, "levels pass through");

static long fail(long r)
{
	if (r >= 0)
		return r;
	errno = -r;
	return -1;
}

__export int kvmless_open(int flags)
{
	struct kobj init = {.type = KOBJ_SYSTEM};
	int r = guard_install();
	int fd;

	if (r)
		return fail(r);
	fd = kobj_file("kvm", 0, flags & O_CLOEXEC, NULL);
	if (fd < 0)
		return fail(fd);
	r = kobj_register(fd, &init);
	if (r) {
		close(fd);
		return fail(r);
	}
	return fd;
}

/* Requests that the kernel answers for any file. */
static bool is_file_ioctl(unsigned long req)
{
	return req == FIOCLEX || req == FIONCLEX || req == FIONBIO || req == FIOASYNC;
}

/*
 * Bad pointers become EFAULT by way of SIGSEGV and SIGBUS (base/guard.h), so these two must be open
 * while we are inside. Returns whether they had been blocked.
 */
static bool open_fault_signals(u64 *old)
{
	const u64 faults = 1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1);

	if (guard_known_open())
		return false;
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &faults, old, sizeof(*old));
	if (*old & faults)
		return true;
	guard_found_open();
	return false;
}

__export int kvmless_ioctl(int fd, unsigned long request, ...)
{
	bool run = (u32)request == KVM_RUN;
	struct kobj *o = kobj_get_again(fd);
	unsigned long arg;
	u64 mask = 0;
	bool closed;
	va_list ap;
	long r;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (!o)
		return ioctl(fd, request, arg);
	if (is_file_ioctl(request)) {
		r = ioctl(fd, request, arg);
		kobj_put(o);
		return r;
	}
	closed = open_fault_signals(&mask);
	/* The program may have set handlers of its own since. KVM_RUN is too frequent to ask. */
	if (!run)
		guard_install();
	r = ioctl_dispatch(o, request, arg);
	kobj_put(o);
	if (closed)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	return fail(r);
}

__export int kvmless_close(int fd)
{
	struct kobj *o = kobj_get(fd);
	int r = close(fd);

	if (o) {
		kobj_closed(o);
		kobj_put(o);
	}
	return r;
}

__export void *kvmless_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	struct kobj *o = flags & MAP_ANONYMOUS ? NULL : kobj_get(fd);
	int r = 0;

	if (o) {
		if (o->type != KOBJ_VCPU)
			r = -ENODEV;
		else if (offset + (off_t)len > (off_t)(KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE) &&
			 o->vcpu->bytes > KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE &&
			 ((prot & PROT_EXEC) || (flags & MAP_TYPE) == MAP_PRIVATE))
			r = -EINVAL;
		kobj_put(o);
	}
	if (r) {
		fail(r);
		return MAP_FAILED;
	}
	return mmap(addr, len, prot, flags, fd, offset);
}

__export int kvmless_munmap(void *addr, size_t len)
{
	return munmap(addr, len);
}

/* 0 to go on with the system call, else -errno. */
static int before_read(int fd)
{
	struct kobj *o = kobj_get(fd);
	int r = 0;

	if (!o)
		return 0;
	if (o->type != KOBJ_STATS)
		r = -EINVAL;
	else if (o->vm->generation == mm_generation())
		stats_refresh(o);
	kobj_put(o);
	return r;
}

__export ssize_t kvmless_read(int fd, void *buf, size_t n)
{
	int r = before_read(fd);

	return r ? fail(r) : read(fd, buf, n);
}

__export ssize_t kvmless_pread(int fd, void *buf, size_t n, off_t offset)
{
	int r = before_read(fd);

	return r ? fail(r) : pread(fd, buf, n, offset);
}

__export int kvmless_kick(int vcpufd)
{
	struct kobj *o = kobj_get(vcpufd);
	bool ok = o && o->type == KOBJ_VCPU && o->vm->generation == mm_generation();

	if (ok)
		vcpu_interrupt_run(o->vcpu->v);
	if (o)
		kobj_put_deferred(o);
	if (!ok)
		errno = EBADF;
	return ok ? 0 : -1;
}

__export int kvmless_leave_after(int vcpufd, unsigned exits)
{
	struct kobj *o = kobj_get(vcpufd);
	int r = -EBADF;

	if (o && o->type == KOBJ_VCPU && o->vm->generation == mm_generation()) {
		r = -EBUSY;
		if (!pthread_mutex_trylock(&o->vcpu->mutex)) {
			vcpu_leave_after(o->vcpu->v, exits);
			pthread_mutex_unlock(&o->vcpu->mutex);
			r = 0;
		}
	}
	if (o)
		kobj_put(o);
	return r ? (int)fail(r) : 0;
}

__export bool kvmless_is_kvm_fd(int fd)
{
	struct kobj *o = kobj_get(fd);

	if (o)
		kobj_put_deferred(o);
	return o;
}

/* ---- Log, parameters, state
 * ---------------------------------------------------------------------- */

static kvmless_log_fn *log_fn;

static void log_out(void *opaque, enum log_level level, const char *line)
{
	kvmless_log_fn *fn = __atomic_load_n(&log_fn, __ATOMIC_ACQUIRE);

	if (fn)
		fn(opaque, (enum kvmless_log_level)level, line);
}

__export void kvmless_log(kvmless_log_fn *sink, void *opaque, enum kvmless_log_level max_level)
{
	__atomic_store_n(&log_fn, sink, __ATOMIC_RELEASE);
	base_log_set(sink ? log_out : NULL, opaque, (enum log_level)max_level);
}

__export int kvmless_trace(const char *path)
{
	if (path)
		return fail(trace_start(path));
	trace_stop();
	return 0;
}

__export int kvmless_record(const char *path, unsigned long every, unsigned long from)
{
	if (path)
		return fail(kvm_record_start(path, every, from));
	kvm_record_stop();
	return 0;
}

__export int kvmless_param_set(const char *name, const char *value)
{
	return fail(param_set(name, value));
}

__export ssize_t kvmless_param_get(const char *name, char *buf, size_t n)
{
	return fail(param_get(name, buf, n));
}

__export const char *kvmless_param_name(unsigned index, const char **help, bool *writable)
{
	const struct param_desc *d = param_desc(index);

	if (!d)
		return NULL;
	if (help)
		*help = d->help;
	if (writable)
		*writable = d->writable;
	return d->name;
}

__export ssize_t kvmless_dump(int vcpufd, char *buf, size_t n)
{
	struct kobj *o = kobj_get(vcpufd);
	ssize_t r = -EBADF;

	if (o && o->type == KOBJ_VCPU && o->vm->generation == mm_generation()) {
		r = -EBUSY;
		if (!pthread_mutex_trylock(&o->vcpu->mutex)) {
			r = vcpu_dump(o->vcpu->v, buf, n);
			pthread_mutex_unlock(&o->vcpu->mutex);
		}
	}
	if (o)
		kobj_put(o);
	return fail(r);
}

__export const char *kvmless_handler_calls(int vcpufd, unsigned index, unsigned long long *calls)
{
	struct kobj *o = kobj_get(vcpufd);
	const char *name = NULL;
	u64 n = 0;

	if (o && o->type == KOBJ_VCPU && o->vm->generation == mm_generation())
		name = sil_handler_calls(vcpu_silicon(o->vcpu->v), index, &n);
	else
		errno = EBADF;
	if (o)
		kobj_put(o);
	*calls = n;
	return name;
}
