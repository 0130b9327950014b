/* SPDX-License-Identifier: MIT */
/* ioctl, mmap, read, close and their kin. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/gmem.h"
#include "kvmapi/kvmless.h"
#include "kvmapi/object.h"
#include "shim/shim.h"

static bool files_on; /* the program may have files of ours that it reads or writes */

int ioctl(int fd, unsigned long request, ...);

__export int ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	if (likely(!__atomic_load_n(&shim_on, __ATOMIC_RELAXED)))
		return real_ioctl(fd, request, arg);
	if ((u32)request == KVM_RUN)
		return run_ioctl(fd, request, arg);
	if ((u32)request == KVM_GET_STATS_FD || (u32)request == KVM_CREATE_GUEST_MEMFD)
		__atomic_store_n(&files_on, true, __ATOMIC_RELAXED);
	return kvmless_ioctl(fd, request, arg);
}

/* ---- close ---- */

/* The object that descriptor @fd, about to go, names; NULL if none, or if it is not gone with it:
 * a vfork child's table is a copy. */
static struct kobj *closing(int fd)
{
	struct kobj *o;

	if (likely(!__atomic_load_n(&shim_on, __ATOMIC_RELAXED)))
		return NULL;
	o = kobj_get(fd);
	if (o && !shim_owns_memory()) {
		kobj_put_deferred(o);
		return NULL;
	}
	return o;
}

static void closed(struct kobj *o)
{
	if (!o)
		return;
	kobj_fds_changed();
	kobj_closed(o);
	kobj_put(o);
}

__export int close(int fd)
{
	struct kobj *o = closing(fd);
	int r;

	param_file_closing(fd);
	r = real_close(fd);
	closed(o);
	return r;
}

__export int dup2(int fd, int to)
{
	struct kobj *o = fd == to ? NULL : closing(to);
	int r;

	param_file_closing(to);
	r = real_dup2(fd, to);
	closed(o);
	return r;
}

__export int dup3(int fd, int to, int flags)
{
	struct kobj *o = fd == to ? NULL : closing(to);
	int r;

	param_file_closing(to);
	r = real_dup3(fd, to, flags);
	closed(o);
	return r;
}

int close_range(unsigned first, unsigned last, int flags);
void closefrom(int first);

__export int close_range(unsigned first, unsigned last, int flags)
{
	int r = real_close_range(first, last, flags);

	if (!r && !(flags & CLOSE_RANGE_CLOEXEC) && shim_on && shim_owns_memory()) {
		kobj_fds_changed();
		kobj_reap();
	}
	return r;
}

__export void closefrom(int first)
{
	if (close_range(first < 0 ? 0 : first, ~0u, 0))
		for (long fd = sysconf(_SC_OPEN_MAX) - 1; fd >= first; fd--)
			close(fd);
}

/* ---- read ---- */

#define FILES_ON unlikely(__atomic_load_n(&files_on, __ATOMIC_RELAXED))

__export ssize_t read(int fd, void *buf, size_t n)
{
	return FILES_ON ? kvmless_read(fd, buf, n) : real_read(fd, buf, n);
}

__export ssize_t pread(int fd, void *buf, size_t n, off_t offset)
{
	return FILES_ON ? kvmless_pread(fd, buf, n, offset) : real_pread(fd, buf, n, offset);
}

__export ssize_t pread64(int fd, void *buf, size_t n, off64_t offset)
{
	return FILES_ON ? kvmless_pread(fd, buf, n, offset) : real_pread64(fd, buf, n, offset);
}

ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t offset, size_t size);

/* The fortified forms end the program where the C library would. */
__export ssize_t __read_chk(int fd, void *buf, size_t n, size_t size)
{
	if (n > size)
		abort();
	return read(fd, buf, n);
}

__export ssize_t __pread_chk(int fd, void *buf, size_t n, off_t offset, size_t size)
{
	if (n > size)
		abort();
	return pread(fd, buf, n, offset);
}

__export ssize_t __pread64_chk(int fd, void *buf, size_t n, off64_t offset, size_t size)
{
	return __pread_chk(fd, buf, n, offset, size);
}

/* ---- write, fallocate ---- */

/* Nothing of ours can be written, but parameters. */
static bool refuse_write(int fd)
{
	if (!FILES_ON || !kvmless_is_kvm_fd(fd))
		return false;
	errno = EINVAL;
	return true;
}

__export ssize_t write(int fd, const void *buf, size_t n)
{
	ssize_t r;

	if (refuse_write(fd))
		return -1;
	return param_file_write(fd, buf, n, &r) ? r : real_write(fd, buf, n);
}

__export ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	return refuse_write(fd) ? -1 : real_pwrite(fd, buf, n, offset);
}

__export ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
	return refuse_write(fd) ? -1 : real_pwrite64(fd, buf, n, offset);
}

/* A guest_memfd takes whole pages, has the size it has, and gives back what is punched out. 0 for
 * the C library to go on, 1 if there is nothing to do, else -errno. */
static int check_fallocate(int fd, int mode, off_t offset, off_t len)
{
	struct kobj *o = FILES_ON ? kobj_get(fd) : NULL;
	int r = 0;

	if (!o)
		return 0;
	if (o->type != KOBJ_GMEM)
		r = -ENODEV;
	else if (!(mode & FALLOC_FL_KEEP_SIZE) ||
		 mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		r = -EOPNOTSUPP;
	else if (offset < 0 || len <= 0 || (offset | len) & (PAGE_SIZE - 1))
		r = -EINVAL;
	else if (mode & FALLOC_FL_PUNCH_HOLE)
		r = (u64)offset >= o->gmem->size;
	else if ((u64)offset + (u64)len > o->gmem->size)
		r = -EINVAL;
	kobj_put(o);
	return r;
}

__export int fallocate(int fd, int mode, off_t offset, off_t len)
{
	int r = check_fallocate(fd, mode, offset, len);

	if (r < 0) {
		errno = -r;
		return -1;
	}
	return r ? 0 : real_fallocate(fd, mode, offset, len);
}

__export int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
	return fallocate(fd, mode, offset, len);
}

/* ---- mmap ---- */

static bool may_be_ours(int flags)
{
	return unlikely(__atomic_load_n(&shim_on, __ATOMIC_RELAXED)) && !(flags & MAP_ANONYMOUS);
}

__export void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (may_be_ours(flags))
		return kvmless_mmap(addr, len, prot, flags, fd, offset);
	return real_mmap(addr, len, prot, flags, fd, offset);
}

__export void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	if (may_be_ours(flags))
		return kvmless_mmap(addr, len, prot, flags, fd, offset);
	return real_mmap64(addr, len, prot, flags, fd, offset);
}
