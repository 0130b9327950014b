/* SPDX-License-Identifier: MIT */
/* open, fopen, stat, access and their kin. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kvmapi/kvmless.h"
#include "shim/shim.h"

/* ---- open ---- */

/* A descriptor or -1; false if @path is not ours. */
static bool open_node(int dir, const char *path, int flags, int *fd)
{
	char param[NODE_PARAM_MAX];

	switch (node_find(dir, path, param)) {
	case NODE_KVM:
		shim_activate();
		*fd = kvmless_open(flags);
		return true;
	case NODE_PARAM: *fd = param_file_open(param, flags); return true;
	case NODE_ABSENT:
		errno = ENOENT;
		*fd = -1;
		return true;
	case NODE_DIR: /* a real one, if any: its names are not ours to list */
	case NODE_NONE: break;
	}
	return false;
}

static mode_t mode_arg(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name)                                          \
	__export int name(const char *path, int flags, ...) \
	{                                                   \
		va_list ap;                                 \
		mode_t mode;                                \
		int fd;                                     \
                                                            \
		va_start(ap, flags);                        \
		mode = mode_arg(flags, ap);                 \
		va_end(ap);                                 \
		if (open_node(AT_FDCWD, path, flags, &fd))  \
			return fd;                          \
		return real_##name(path, flags, mode);      \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                 \
	__export int name(int dir, const char *path, int flags, ...) \
	{                                                            \
		va_list ap;                                          \
		mode_t mode;                                         \
		int fd;                                              \
                                                                     \
		va_start(ap, flags);                                 \
		mode = mode_arg(flags, ap);                          \
		va_end(ap);                                          \
		if (open_node(dir, path, flags, &fd))                \
			return fd;                                   \
		return real_##name(dir, path, flags, mode);          \
	}
OPENAT(openat)
OPENAT(openat64)

/* The fortified forms, which never have a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

__export int __open_2(const char *path, int flags)
{
	return open(path, flags, 0);
}

__export int __open64_2(const char *path, int flags)
{
	return open64(path, flags, 0);
}

__export int __openat_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags, 0);
}

__export int __openat64_2(int dir, const char *path, int flags)
{
	return openat64(dir, path, flags, 0);
}

static int stdio_flags(const char *mode)
{
	int flags = *mode == 'r' ? O_RDONLY : O_WRONLY;

	if (strchr(mode, '+'))
		flags = O_RDWR;
	return flags | (strchr(mode, 'e') ? O_CLOEXEC : 0);
}

static bool fopen_node(const char *path, const char *mode, FILE **f)
{
	char param[NODE_PARAM_MAX];
	int fd;

	switch (node_find(AT_FDCWD, path, param)) {
	case NODE_PARAM: *f = param_file_fopen(param, mode); return true;
	case NODE_KVM:
	case NODE_ABSENT:
		open_node(AT_FDCWD, path, stdio_flags(mode), &fd);
		*f = fd < 0 ? NULL : fdopen(fd, mode);
		return true;
	case NODE_DIR:
	case NODE_NONE: break;
	}
	return false;
}

__export FILE *fopen(const char *path, const char *mode)
{
	FILE *f;

	return fopen_node(path, mode, &f) ? f : real_fopen(path, mode);
}

__export FILE *fopen64(const char *path, const char *mode)
{
	FILE *f;

	return fopen_node(path, mode, &f) ? f : real_fopen64(path, mode);
}

/* ---- access ---- */

static bool access_node(int dir, const char *path, int mode, int *result)
{
	char param[NODE_PARAM_MAX];
	bool ok = false;

	switch (node_find(dir, path, param)) {
	case NODE_NONE: return false;
	case NODE_ABSENT:
		errno = ENOENT;
		*result = -1;
		return true;
	case NODE_KVM: ok = !(mode & X_OK); break;
	case NODE_DIR: ok = !(mode & W_OK); break;
	case NODE_PARAM:
		ok = !(mode & X_OK) && (!(mode & W_OK) || param_file_writable(param));
		break;
	}
	if (!ok)
		errno = EACCES;
	*result = ok ? 0 : -1;
	return true;
}

#define ACCESS(name)                                       \
	__export int name(const char *path, int mode)      \
	{                                                  \
		int r;                                     \
                                                           \
		if (access_node(AT_FDCWD, path, mode, &r)) \
			return r;                          \
		return real_##name(path, mode);            \
	}
ACCESS(access)
ACCESS(eaccess)
ACCESS(euidaccess)

__export int faccessat(int dir, const char *path, int mode, int flags)
{
	int r;

	return access_node(dir, path, mode, &r) ? r : real_faccessat(dir, path, mode, flags);
}

/* ---- stat ---- */

#define KVM_MAJOR 10 /* misc */
#define KVM_MINOR 232

struct node_attr {
	mode_t mode;
	dev_t rdev;
	off_t size;
};

/* 1: @a is what the file has; 0: not ours; -1: errno. */
static int attr_of(int dir, const char *path, struct node_attr *a)
{
	char param[NODE_PARAM_MAX];

	*a = (struct node_attr){0};
	switch (node_find(dir, path, param)) {
	case NODE_NONE: return 0;
	case NODE_ABSENT: errno = ENOENT; return -1;
	case NODE_KVM:
		a->mode = S_IFCHR | 0666;
		a->rdev = makedev(KVM_MAJOR, KVM_MINOR);
		break;
	case NODE_DIR: a->mode = S_IFDIR | 0755; break;
	case NODE_PARAM:
		a->mode = S_IFREG | (param_file_writable(param) ? 0644 : 0444);
		a->size = PAGE_SIZE;
		break;
	}
	return 1;
}

/* struct stat and struct stat64 are one layout on 64-bit machines. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one struct stat");

static int stat_node(int dir, const char *path, void *st)
{
	struct stat *s = st;
	struct node_attr a;
	int r = attr_of(dir, path, &a);

	if (r > 0) {
		memset(s, 0, sizeof(*s));
		s->st_ino = 1;
		s->st_nlink = 1;
		s->st_mode = a.mode;
		s->st_rdev = a.rdev;
		s->st_size = a.size;
		s->st_blksize = PAGE_SIZE;
	}
	return r;
}

#define STAT(name, dir, params, args)                     \
	int name params;                                  \
	__export int name params                          \
	{                                                 \
		int r = stat_node(dir, path, st);         \
                                                          \
		return !r ? real_##name args : MIN(r, 0); \
	}

STAT(stat, AT_FDCWD, (const char *path, struct stat *st), (path, st))
STAT(lstat, AT_FDCWD, (const char *path, struct stat *st), (path, st))
STAT(stat64, AT_FDCWD, (const char *path, struct stat64 *st), (path, st))
STAT(lstat64, AT_FDCWD, (const char *path, struct stat64 *st), (path, st))
STAT(fstatat, dir, (int dir, const char *path, struct stat *st, int flags), (dir, path, st, flags))
STAT(fstatat64, dir, (int dir, const char *path, struct stat64 *st, int flags),
     (dir, path, st, flags))

/* What programs linked before glibc 2.33 call. */
STAT(__xstat, AT_FDCWD, (int ver, const char *path, struct stat *st), (ver, path, st))
STAT(__lxstat, AT_FDCWD, (int ver, const char *path, struct stat *st), (ver, path, st))
STAT(__xstat64, AT_FDCWD, (int ver, const char *path, struct stat64 *st), (ver, path, st))
STAT(__lxstat64, AT_FDCWD, (int ver, const char *path, struct stat64 *st), (ver, path, st))

STAT(__fxstatat, dir, (int ver, int dir, const char *path, struct stat *st, int flags),
     (ver, dir, path, st, flags))
STAT(__fxstatat64, dir, (int ver, int dir, const char *path, struct stat64 *st, int flags),
     (ver, dir, path, st, flags))

__export int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
	struct node_attr a;
	int r = attr_of(dir, path, &a);

	if (!r)
		return real_statx(dir, path, flags, mask, st);
	if (r < 0)
		return -1;
	memset(st, 0, sizeof(*st));
	st->stx_mask = STATX_BASIC_STATS;
	st->stx_blksize = PAGE_SIZE;
	st->stx_nlink = 1;
	st->stx_ino = 1;
	st->stx_mode = a.mode;
	st->stx_size = a.size;
	st->stx_rdev_major = major(a.rdev);
	st->stx_rdev_minor = minor(a.rdev);
	return 0;
}
