/* SPDX-License-Identifier: MIT */
/*
 * What our file descriptors stand for. A descriptor is a memory file; its inode names the object,
 * so dup, fcntl and passing it around work without our seeing them.
 *
 * Lifetimes are the kernel's: an object lives while a descriptor names it or a call is inside it;
 * VM state (struct api_vm) lives while its own, a vCPU's or a statistics object does, and with it
 * all its vCPUs and their run pages, since other vCPUs may still send them interrupts.
 */
#ifndef KVMAPI_OBJECT_H
#define KVMAPI_OBJECT_H

#include <pthread.h>

#include "core/core.h"

enum kobj_type { KOBJ_SYSTEM, KOBJ_VM, KOBJ_VCPU, KOBJ_STATS, KOBJ_GMEM };

struct api_vm;

struct api_vcpu {
	struct api_vcpu *next; /* in api_vm; under its lock */
	struct api_vm *vm;
	struct kvm_vcpu *v;
	struct kvm_run *run;
	size_t bytes; /* mapped at run */
	/* One ioctl at a time. Taken before any lock of the core. */
	pthread_mutex_t mutex;
	/* KVM_SET_SIGNAL_MASK; under mutex */
	bool sigmask_set;
	u64 sigmask;
};

struct api_vm {
	u32 refs; /* atomic */
	unsigned generation;
	struct kvm *kvm;
	pthread_mutex_t lock; /* the list */
	struct api_vcpu *vcpus;
};

/* Zeroed memory never given back: the table is read without a lock. */
struct kobj {
	struct kobj *next; /* in its bucket, for ever */
	u64 dev, ino;
	u32 refs;    /* atomic; one for all descriptors together (opened), one per call inside */
	bool in_use; /* under the table's lock */
	bool opened; /* atomic: the descriptors' reference has not been dropped */
	bool orphan; /* atomic: without references, and left to kobj_reap */
	enum kobj_type type;
	struct api_vm *vm;     /* VM, VCPU, STATS: one reference */
	struct api_vcpu *vcpu; /* VCPU, and STATS of a vCPU */
	void *stats;	       /* STATS: the file's content, shared */
	size_t stats_bytes;
	struct gmem *gmem; /* GMEM: one reference */
	bool seen;	   /* kobj_reap's mark; under the table's lock */
};

/* The object @fd names, referenced; NULL if none. Lock-free, async-signal-safe, keeps errno. */
struct kobj *kobj_get(int fd);
/*
 * The same for descriptors that this thread asks for again and again, without a system call: if
 * somebody sees all descriptors go and says so by kobj_fds_changed, at least once at the beginning.
 */
struct kobj *kobj_get_again(int fd);
/* A descriptor that named an object does not any more. Any thread. */
void kobj_fds_changed(void);
void kobj_put(struct kobj *o);
/* Never destroys: the next kobj_reap does. For signal handlers. */
void kobj_put_deferred(struct kobj *o);

/*
 * A memory file of @bytes (whole pages, or a length for files that are only read), mapped shared
 * and writable at *@map if @map is not NULL. Its size is sealed. The descriptor, or -errno.
 */
int kobj_file(const char *name, size_t bytes, bool cloexec, void **map);
/* Makes @fd name a new object, which takes over the caller's reference on init->vm. 0 or -ENOMEM.
 */
int kobj_register(int fd, const struct kobj *init);
/* @fd of @o has just been closed: drops the descriptors' reference if it was the last. */
void kobj_closed(struct kobj *o);
/* Finds objects whose descriptors were all closed behind our back, and lets them go. */
void kobj_reap(void);

/* Changes in a forked child, like the kernel's current->mm. */
unsigned mm_generation(void);

struct api_vm *api_vm_new(struct kvm *kvm); /* takes over the reference; NULL: no memory */
void api_vm_get(struct api_vm *vm);
void api_vm_put(struct api_vm *vm);

#endif
