/* SPDX-License-Identifier: MIT */
/*
 * Files of /sys/module/kvm*<x>/parameters: a memory file with the value's text at the time of open.
 * The name of one that is open for writing says so, whatever number it has by now; write(2) to it
 * sets the parameter. What comes into the file otherwise, by the C library's own calls, counts when
 * a descriptor of it is closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvmapi/kvmless.h"
#include "shim/shim.h"

#define WRITER	   "kvmless-set:"
#define WRITER_LEN (sizeof(WRITER) - 1)
#define TEXT_MAX   64

static bool writers; /* there has been such a file */

bool param_file_writable(const char *name)
{
	bool writable = false;
	const char *s;

	for (unsigned i = 0; (s = kvmless_param_name(i, NULL, &writable)); i++)
		if (!strcmp(s, name))
			return writable;
	return false;
}

int param_file_open(const char *name, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;
	bool empty = (flags & O_ACCMODE) == O_WRONLY;
	char text[TEXT_MAX], file[WRITER_LEN + NODE_PARAM_MAX];
	ssize_t n = kvmless_param_get(name, text, sizeof(text));
	int fd;

	if (n < 0)
		return -1;
	if (write && !param_file_writable(name)) {
		errno = EACCES;
		return -1;
	}
	snprintf(file, sizeof(file), "%s%s", write ? WRITER : "", name);
	fd = memfd_create(file, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
	if (fd < 0)
		return -1;
	if (!empty && (real_write(fd, text, n) != n || lseek(fd, 0, SEEK_SET))) {
		real_close(fd);
		errno = EIO;
		return -1;
	}
	if (write)
		__atomic_store_n(&writers, true, __ATOMIC_RELAXED);
	return fd;
}

/* The parameter that a write to @fd sets, if any. */
static bool writer_name(int fd, char *name)
{
	static const char prefix[] = "/memfd:" WRITER, suffix[] = " (deleted)";
	char link[32], file[sizeof(prefix) + NODE_PARAM_MAX + sizeof(suffix)];
	ssize_t n, len;

	if (likely(!__atomic_load_n(&writers, __ATOMIC_RELAXED)))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, file, sizeof(file));
	len = n - (ssize_t)(sizeof(prefix) - 1 + sizeof(suffix) - 1);
	if (len <= 0 || len >= NODE_PARAM_MAX || memcmp(file, prefix, sizeof(prefix) - 1))
		return false;
	memcpy(name, file + sizeof(prefix) - 1, len);
	name[len] = 0;
	return true;
}

static int set_text(const char *name, const char *buf, size_t n)
{
	char text[TEXT_MAX];

	if (n >= sizeof(text)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(text, buf, n);
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return kvmless_param_set(name, text);
}

bool param_file_write(int fd, const void *buf, size_t n, ssize_t *result)
{
	char name[NODE_PARAM_MAX], text[TEXT_MAX];
	ssize_t len;

	if (!writer_name(fd, name))
		return false;
	*result = set_text(name, buf, n) ? -1 : (ssize_t)n;
	/* The file shows what it now is. */
	len = *result < 0 ? -1 : kvmless_param_get(name, text, sizeof(text));
	if (len > 0 && (ftruncate(fd, 0) || real_pwrite(fd, text, len, 0) != len))
		*result = -1;
	return true;
}

void param_file_closing(int fd)
{
	char name[NODE_PARAM_MAX], text[TEXT_MAX], now[TEXT_MAX];
	int saved = errno;
	ssize_t n;

	if (writer_name(fd, name)) {
		n = real_pread(fd, text, sizeof(text), 0);
		if (n > 0 &&
		    (n != kvmless_param_get(name, now, sizeof(now)) || memcmp(text, now, n)))
			set_text(name, text, n);
	}
	errno = saved;
}

/* ---- stdio, whose reads and writes do not come through the functions we stand in front of ---- */

static ssize_t cookie_write(void *cookie, const char *buf, size_t n)
{
	return set_text(cookie, buf, n) ? 0 : (ssize_t)n;
}

static int cookie_close(void *cookie)
{
	free(cookie);
	return 0;
}

FILE *param_file_fopen(const char *name, const char *mode)
{
	static const cookie_io_functions_t io = {.write = cookie_write, .close = cookie_close};
	FILE *f;
	char *copy;
	int fd;

	if (*mode == 'r' && !strchr(mode, '+')) {
		fd = param_file_open(name, O_RDONLY | (strchr(mode, 'e') ? O_CLOEXEC : 0));
		if (fd < 0)
			return NULL;
		f = fdopen(fd, "r");
		if (!f)
			real_close(fd);
		return f;
	}
	if (!param_file_writable(name)) {
		errno = EACCES;
		return NULL;
	}
	copy = strdup(name);
	f = copy ? fopencookie(copy, "w", io) : NULL;
	if (!f)
		free(copy);
	return f;
}
