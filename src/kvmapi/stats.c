/* SPDX-License-Identifier: MIT */
/* Binary statistics: a read-only file whose content is refreshed when it is read through us. */
#include "kvmapi/ioctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

void stats_refresh(struct kobj *o)
{
	kvm_stats_image(o->vm->kvm, o->vcpu ? o->vcpu->v : NULL, o->stats, o->stats_bytes);
}

static long stats_fd(struct ioctl_ctx *c, const char *name)
{
	struct kobj init = {.type = KOBJ_STATS, .vm = c->vm, .vcpu = c->vcpu};
	char path[32];
	int fd, ro, r;

	init.stats_bytes = kvm_stats_image(c->kvm, c->v, NULL, 0);
	if (!init.stats_bytes)
		return -ENOMEM;
	fd = kobj_file(name, init.stats_bytes, true, &init.stats);
	if (fd < 0)
		return fd;
	/* Our mapping stays writable; the program's descriptor is not. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	if (ro >= 0) {
		close(fd);
		fd = ro;
	}
	stats_refresh(&init);
	api_vm_get(c->vm);
	r = kobj_register(fd, &init);
	if (r) {
		api_vm_put(c->vm);
		munmap(init.stats, init.stats_bytes);
		close(fd);
		return r;
	}
	return fd;
}

long api_vm_stats_fd(struct ioctl_ctx *c)
{
	return stats_fd(c, "kvm-vm-stats");
}

long api_vcpu_stats_fd(struct ioctl_ctx *c)
{
	return stats_fd(c, "kvm-vcpu-stats");
}
