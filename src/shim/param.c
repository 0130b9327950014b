/* SPDX-License-Identifier: MIT */
/*
 * Files of /sys/module/kvm*<x>/parameters: a memory file with the value's text at the time of open.
 * Those open for writing are remembered by number, so that write(2) sets the parameter.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvmapi/kvmless.h"
#include "shim/shim.h"

struct writer {
	struct writer *next;
	int fd;
	char name[NODE_PARAM_MAX];
};

static struct writer *writers; /* under lock; read without it only for being empty */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool param_file_writable(const char *name)
{
	bool writable = false;
	const char *s;

	for (unsigned i = 0; (s = kvmless_param_name(i, NULL, &writable)); i++)
		if (!strcmp(s, name))
			return writable;
	return false;
}

void param_forked(void)
{
	pthread_mutex_init(&lock, NULL);
}

static int remember(int fd, const char *name)
{
	struct writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	w->fd = fd;
	strcpy(w->name, name);
	pthread_mutex_lock(&lock);
	w->next = writers;
	__atomic_store_n(&writers, w, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
	return 0;
}

int param_file_open(const char *name, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;
	char text[64];
	ssize_t n = kvmless_param_get(name, text, sizeof(text));
	int fd;

	if (n < 0)
		return -1;
	if (write && !param_file_writable(name)) {
		errno = EACCES;
		return -1;
	}
	fd = memfd_create(name, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
	if (fd < 0)
		return -1;
	if (real_write(fd, text, n) != n || lseek(fd, 0, SEEK_SET) ||
	    (write && remember(fd, name))) {
		real_close(fd);
		errno = EIO;
		return -1;
	}
	return fd;
}

static int set_text(const char *name, const char *buf, size_t n)
{
	char text[64];

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
	struct writer *w;
	bool found = false;
	char name[NODE_PARAM_MAX];

	if (likely(!__atomic_load_n(&writers, __ATOMIC_RELAXED)))
		return false;
	pthread_mutex_lock(&lock);
	for (w = writers; w && !found; w = w->next)
		if (w->fd == fd) {
			strcpy(name, w->name);
			found = true;
		}
	pthread_mutex_unlock(&lock);
	if (found)
		*result = set_text(name, buf, n) ? -1 : (ssize_t)n;
	return found;
}

void param_file_closed(int fd)
{
	struct writer **p, *w;

	if (likely(!__atomic_load_n(&writers, __ATOMIC_RELAXED)))
		return;
	pthread_mutex_lock(&lock);
	for (p = &writers; (w = *p);)
		if (w->fd == fd) {
			__atomic_store_n(p, w->next, __ATOMIC_RELEASE);
			free(w);
		} else {
			p = &w->next;
		}
	pthread_mutex_unlock(&lock);
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
