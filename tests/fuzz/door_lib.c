/* SPDX-License-Identifier: MIT */
/* libkvmless itself. */
#include "door.h"
#include "kvmapi/kvmless.h"

static void kick(int fd, pthread_t thread)
{
	kvmless_kick(fd);
}

const struct door door = {
	.name = "fuzz_ioctl",
	.open = kvmless_open,
	.ioctl = kvmless_ioctl,
	.close = kvmless_close,
	.mmap = kvmless_mmap,
	.pread = kvmless_pread,
	.kick = kick,
};
