/* SPDX-License-Identifier: MIT */
/* Eventfds of the VMM: we keep descriptors of our own, as the kernel keeps references. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/eventfd.h"

/* Our copies stay clear of the low numbers that programs like to guess. */
#define FD_MIN 100

static bool is_eventfd(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[32], link[sizeof(name)];
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof(link));
	if (n >= 0)
		return n == sizeof(name) - 1 && !memcmp(link, name, sizeof(name) - 1);
	/* Without /proc: anonymous inodes have no file type. */
	return !fstat(fd, &st) && !(st.st_mode & S_IFMT);
}

int eventfd_dup(int fd)
{
	int copy;

	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	if (!is_eventfd(fd))
		return -EINVAL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, FD_MIN);
	if (copy < 0)
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return copy < 0 ? -errno : copy;
}

/* The "eventfd-id" of fdinfo, -1 if it cannot be had. */
static long eventfd_id(int fd)
{
	char path[40], text[256], *at;
	ssize_t n;
	long id = -1;
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return -1;
	n = read(info, text, sizeof(text) - 1);
	close(info);
	if (n <= 0)
		return -1;
	text[n] = 0;
	at = strstr(text, "eventfd-id:");
	if (!at || sscanf(at, "eventfd-id: %ld", &id) != 1)
		return -1;
	return id;
}

bool eventfd_same(int a, int b)
{
	pid_t me = getpid();
	long r = syscall(SYS_kcmp, me, me, KCMP_FILE, a, b);
	long id;

	if (r >= 0)
		return r == 0;
	/* kcmp is forbidden in many containers. */
	id = eventfd_id(a);
	return id >= 0 && id == eventfd_id(b);
}

void eventfd_drain(int fd)
{
	u64 count;
	struct iovec iov = {&count, sizeof(count)};
	struct pollfd p = {.fd = fd, .events = POLLIN};

	/* The descriptor may be a blocking one, and the VMM may read it too. */
	if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) >= 0 || errno == EAGAIN)
		return;
	if (poll(&p, 1, 0) == 1 && read(fd, &count, sizeof(count)) < 0)
		return;
}

void eventfd_signal(int fd)
{
	const u64 one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
