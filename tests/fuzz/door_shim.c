/* SPDX-License-Identifier: MIT */
/*
 * The functions that a program under `kvmless run` gets by the C library's names. The link wraps
 * those names, so that calls from here would go past the shim: it is looked up, as the dynamic
 * linker does for a program.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "door.h"
#include "kvmapi/kvmless.h"
#include "shim/shim.h"

/* ---- cpuid.c is not here ---- */
void cpuid_patch(void) {}

bool cpuid_patched(void)
{
	return false;
}

bool cpuid_emulate(void *ucontext)
{
	return false;
}

static struct {
	int (*open)(const char *path, int flags, ...);
	FILE *(*fopen)(const char *path, const char *mode);
	int (*stat)(const char *path, struct stat *st);
	int (*access)(const char *path, int mode);
	int (*ioctl)(int fd, unsigned long request, ...);
	int (*close)(int fd);
	int (*close_range)(unsigned first, unsigned last, int flags);
	int (*dup3)(int fd, int to, int flags);
	ssize_t (*read)(int fd, void *buf, size_t n);
	ssize_t (*pread)(int fd, void *buf, size_t n, off_t offset);
	ssize_t (*write)(int fd, const void *buf, size_t n);
	ssize_t (*pwrite)(int fd, const void *buf, size_t n, off_t offset);
	int (*fallocate)(int fd, int mode, off_t offset, off_t len);
	void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
} c;

static void *find(const char *name)
{
	void *fn = dlsym(RTLD_DEFAULT, name), *next = dlsym(RTLD_NEXT, name);

	/* The program's own, and not what it stands in front of */
	if (!fn || fn == next) {
		fprintf(stderr, "fuzz_shim: no %s\n", name);
		abort();
	}
	return fn;
}

static void on_usr2(int sig) {}

__attribute__((constructor)) static void look_up(void)
{
	c.open = find("open");
	c.fopen = find("fopen");
	c.stat = find("stat");
	c.access = find("access");
	c.ioctl = find("ioctl");
	c.close = find("close");
	c.close_range = find("close_range");
	c.dup3 = find("dup3");
	c.read = find("read");
	c.pread = find("pread");
	c.write = find("write");
	c.pwrite = find("pwrite");
	c.fallocate = find("fallocate");
	c.mmap = find("mmap");
	signal(SIGUSR2, on_usr2);
}

static int door_open(int flags)
{
	int fd = c.open("/dev/kvm", flags);

	if (fd >= 0 && !kvmless_is_kvm_fd(fd)) {
		fprintf(stderr, "fuzz_shim: this is the kernel's\n");
		abort();
	}
	return fd;
}

static int door_ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, unsigned long);
	va_end(ap);
	return c.ioctl(fd, request, arg);
}

static int door_close(int fd)
{
	return c.close(fd);
}

static void *door_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return c.mmap(addr, len, prot, flags, fd, offset);
}

static ssize_t door_pread(int fd, void *buf, size_t n, off_t offset)
{
	return c.pread(fd, buf, n, offset);
}

/* A handler's signal every second time: KVM_SET_SIGNAL_MASK may keep it out. */
static void kick(int fd, pthread_t thread)
{
	static unsigned n;

	if (n++ % 2)
		kvmless_kick(fd);
	else
		pthread_kill(thread, SIGUSR2);
}

/* A parameter's file: what is in it is written back, or something else is. */
static void param_file(u8 *buf, u64 (*below)(u64 n))
{
	const char *name, *dot;
	unsigned n = 0;
	char path[256];
	struct stat st;
	ssize_t len;
	FILE *f;
	int fd;

	while (kvmless_param_name(n, NULL, NULL))
		n++;
	name = kvmless_param_name(below(n), NULL, NULL);
	dot = strchr(name, '.');
	snprintf(path, sizeof(path), "/sys/module/%.*s/parameters/%s", (int)(dot - name), name,
		 dot + 1);
	c.stat(path, &st);
	c.access(path, below(8));
	if (!below(4)) {
		f = c.fopen(path, below(2) ? "r" : "r+e");
		if (f)
			fclose(f);
		return;
	}
	fd = c.open(path, below(2) ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return;
	len = c.read(fd, buf, 1 + below(64));
	if (len > 0 && !below(4))
		buf[below(len)] = below(256);
	c.write(fd, buf, len > 0 ? (size_t)len : below(64));
	c.close(fd);
}

static void more(int fd, int other, u8 *buf, u64 (*below)(u64 n))
{
	switch (below(8)) {
	case 0: c.dup3(fd, other, below(2) ? O_CLOEXEC : 0); break;
	case 1: c.read(fd, buf, below(300)); break;
	case 2: c.write(fd, buf, below(300)); break;
	case 3: c.pwrite(fd, buf, below(300), below(9000)); break;
	case 4: c.fallocate(fd, below(4), below(8) * 2048, below(8) * 2048); break;
	case 5: /* the number stays, and may come to name something else */
		if (!c.close_range(fd, fd, 0))
			c.dup3(other, fd, O_CLOEXEC);
		break;
	default: param_file(buf, below); break;
	}
}

const struct door door = {
	.name = "fuzz_shim",
	.open = door_open,
	.ioctl = door_ioctl,
	.close = door_close,
	.mmap = door_mmap,
	.pread = door_pread,
	.kick = kick,
	.more = more,
};
