/* SPDX-License-Identifier: MIT */
/* Requests on a VM descriptor that are more than one call of the core. */
#include "core/core.h"
#include "kvmapi/ioctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/guard.h"

#define MAX_IRQ_ROUTES 4096 /* KVM_MAX_IRQ_ROUTES */

long api_vm_check_extension(struct ioctl_ctx *c)
{
	if (c->arg == KVM_CAP_KVMLESS)
		return KVMLESS_MAGIC;
	return c->arg > 0xffffffffull ? 0 : vm_check_extension(c->kvm, c->arg);
}

long api_create_vcpu(struct ioctl_ctx *c)
{
	struct kobj init = {.type = KOBJ_VCPU, .vm = c->vm};
	u32 id = MIN(c->arg, 0xffffffffull);
	struct api_vcpu *vc;
	char name[32];
	void *map;
	int fd, r;

	vc = calloc(1, sizeof(*vc));
	if (!vc)
		return -ENOMEM;
	snprintf(name, sizeof(name), "kvm-vcpu:%u", id);
	vc->bytes = vm_vcpu_file_bytes(c->kvm);
	fd = kobj_file(name, vc->bytes, true, &map);
	if (fd < 0) {
		free(vc);
		return fd;
	}
	vc->run = map;
	vc->vm = c->vm;
	pthread_mutex_init(&vc->mutex, NULL);
	r = vm_create_vcpu(c->kvm, id, vc->run, &vc->v);
	if (r) {
		munmap(map, vc->bytes);
		free(vc);
		close(fd);
		return r;
	}
	/* From here on it is the VM's, with or without a descriptor. */
	pthread_mutex_lock(&c->vm->lock);
	vc->next = c->vm->vcpus;
	c->vm->vcpus = vc;
	pthread_mutex_unlock(&c->vm->lock);

	api_vm_get(c->vm);
	init.vcpu = vc;
	r = kobj_register(fd, &init);
	if (r) {
		api_vm_put(c->vm);
		close(fd);
		return r;
	}
	return fd;
}

/* ---- Memory --------------------------------------------------------------------------------- */

long api_set_region(struct ioctl_ctx *c, const struct kvm_userspace_memory_region *m)
{
	struct kvm_userspace_memory_region2 m2 = {
		.slot = m->slot,
		.flags = m->flags,
		.guest_phys_addr = m->guest_phys_addr,
		.memory_size = m->memory_size,
		.userspace_addr = m->userspace_addr,
	};

	if (m->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EINVAL;
	return vm_set_user_memory_region(c->kvm, &m2);
}

long api_set_region2(struct ioctl_ctx *c, const struct kvm_userspace_memory_region2 *m)
{
	struct kobj *file = NULL;
	long r;

	if (m->flags & KVM_MEM_GUEST_MEMFD && m->memory_size) {
		file = kobj_get(m->guest_memfd);
		if (!file)
			return fcntl(m->guest_memfd, F_GETFD) < 0 ? -EBADF : -EINVAL;
		if (file->type != KOBJ_GMEM) {
			kobj_put(file);
			return -EINVAL;
		}
	}
	r = vm_set_private_memory_region(c->kvm, m, file ? file->gmem : NULL);
	if (file)
		kobj_put(file);
	return r;
}

long api_create_guest_memfd(struct ioctl_ctx *c, const struct kvm_create_guest_memfd *m)
{
	struct kobj init = {.type = KOBJ_GMEM, .vm = c->vm};
	void *map;
	int fd, r;

	if (m->flags || !m->size || m->size & (PAGE_SIZE - 1) || (s64)m->size < 0)
		return -EINVAL;
	fd = kobj_file("kvm-gmem", m->size, false, &map);
	if (fd < 0)
		return fd;
	/* Children have no use for it, and it may be large. */
	madvise(map, m->size, MADV_DONTFORK);
	init.gmem = gmem_new(c->kvm, (hva_t)map, m->size);
	if (!init.gmem) {
		munmap(map, m->size);
		close(fd);
		return -ENOMEM;
	}
	api_vm_get(c->vm);
	r = kobj_register(fd, &init);
	if (r) {
		gmem_put(init.gmem);
		api_vm_put(c->vm);
		close(fd);
		return r;
	}
	return fd;
}

long api_get_dirty_log(struct ioctl_ctx *c, const struct kvm_dirty_log *log)
{
	long n = vm_dirty_bitmap_bytes(c->kvm, log->slot);
	void *bitmap;
	long r;

	if (n < 0)
		return n;
	bitmap = calloc(1, MAX(n, 8));
	if (!bitmap)
		return -ENOMEM;
	r = vm_get_dirty_log(c->kvm, log->slot, bitmap, n);
	if (!r)
		r = copy_to_user(log->dirty_bitmap, bitmap, n);
	free(bitmap);
	return r;
}

long api_clear_dirty_log(struct ioctl_ctx *c, const struct kvm_clear_dirty_log *log)
{
	size_t n = align_up(log->num_pages, 64) / 8;
	long room = vm_dirty_bitmap_bytes(c->kvm, log->slot);
	void *bitmap;
	int err;
	long r;

	if (log->first_page & 63)
		return -EINVAL;
	if (room < 0)
		return room;
	/* The core checks the range; this bounds the allocation. */
	if (n > (size_t)room)
		return -EINVAL;
	bitmap = dup_user(log->dirty_bitmap, n, 1, &err);
	if (!bitmap)
		return err;
	r = vm_clear_dirty_log(c->kvm, log, bitmap, n);
	free(bitmap);
	return r;
}

/* ---- Interrupts -------------------------------------------------------------------------------
 */

long api_create_pit(struct ioctl_ctx *c)
{
	struct kvm_pit_config cfg = {.flags = KVM_PIT_SPEAKER_DUMMY};

	return vm_create_pit2(c->kvm, &cfg);
}

long api_get_pit(struct ioctl_ctx *c, struct kvm_pit_state *ps)
{
	struct kvm_pit_state2 ps2 = {0};
	long r = vm_get_pit2(c->kvm, &ps2);

	if (!r)
		for (int i = 0; i < 3; i++)
			ps->channels[i] = ps2.channels[i];
	return r;
}

/* The old form leaves the flags as they are. */
long api_set_pit(struct ioctl_ctx *c, const struct kvm_pit_state *ps)
{
	struct kvm_pit_state2 ps2 = {0};
	long r = vm_get_pit2(c->kvm, &ps2);

	if (r)
		return r;
	for (int i = 0; i < 3; i++)
		ps2.channels[i] = ps->channels[i];
	return vm_set_pit2(c->kvm, &ps2);
}

long api_set_gsi_routing(struct ioctl_ctx *c)
{
	struct kvm_irq_routing_entry *ents;
	struct kvm_irq_routing head;
	int err;
	long r;

	r = copy_from_user(&head, USER_ARG(c), sizeof(head));
	if (r)
		return r;
	if (head.nr > MAX_IRQ_ROUTES || head.flags)
		return -EINVAL;
	ents = dup_user(USER_FIELD(c, struct kvm_irq_routing, entries), head.nr, sizeof(*ents),
			&err);
	if (!ents)
		return err;
	r = vm_set_gsi_routing(c->kvm, ents, head.nr, head.flags);
	free(ents);
	return r;
}

/* ---- MSR filter -------------------------------------------------------------------------------
 */

/* The core gets the bitmaps as copies, which it copies again if it takes them. */
long api_set_msr_filter(struct ioctl_ctx *c, struct kvm_msr_filter *f)
{
	u8 *copies[KVM_MSR_FILTER_MAX_RANGES] = {NULL};
	bool empty = true;
	unsigned i;
	long r = 0;

	if (f->flags & ~KVM_MSR_FILTER_VALID_MASK)
		return -EINVAL;
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		empty &= !f->ranges[i].nmsrs;
	if (empty && (f->flags & KVM_MSR_FILTER_DEFAULT_DENY))
		return -EINVAL;
	for (i = 0; !r && i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		struct kvm_msr_filter_range *range = &f->ranges[i];
		u64 bytes = align_up(range->nmsrs, 64) / 8;
		int err = 0;

		if (!range->nmsrs) {
			range->bitmap = NULL;
			continue;
		}
		if (range->flags & ~KVM_MSR_FILTER_RANGE_VALID_MASK ||
		    bytes > KVM_MSR_FILTER_MAX_BITMAP_SIZE) {
			r = -EINVAL;
			break;
		}
		copies[i] = dup_user(range->bitmap, bytes, 1, &err);
		range->bitmap = copies[i];
		r = err;
	}
	if (!r)
		r = vm_x86_set_msr_filter(c->kvm, f);
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		free(copies[i]);
	return r;
}

/* Of the device types that x86 knows only VFIO's bridge exists, and we are not a kernel. */
long api_create_device(struct ioctl_ctx *c, const struct kvm_create_device *d)
{
	return -ENODEV;
}
