/* SPDX-License-Identifier: MIT */
/* How fuzz_ioctl.c reaches /dev/kvm: the library's functions, or those the shim stands in for. */
#ifndef TESTS_FUZZ_DOOR_H
#define TESTS_FUZZ_DOOR_H

#include <pthread.h>
#include <sys/types.h>

#include "base/types.h"

struct door {
	const char *name;
	int (*open)(int flags);
	int (*ioctl)(int fd, unsigned long request, ...);
	int (*close)(int fd);
	void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
	ssize_t (*pread)(int fd, void *buf, size_t n, off_t offset);
	/* Gets the vCPU out of KVM_RUN, which @thread is in */
	void (*kick)(int fd, pthread_t thread);
	/* One of the calls that only this door has, chosen by @below. Or NULL. */
	void (*more)(int fd, int other, u8 *buf, u64 (*below)(u64 n));
};
extern const struct door door;

#endif
