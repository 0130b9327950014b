/* SPDX-License-Identifier: MIT */
#include "core/core.h"
#include "kvmapi/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NBUCKETS 1024

static struct kobj *buckets[NBUCKETS]; /* heads and links: atomic, only ever added to */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- Fork ---------------------------------------------------------------------------------- */

static unsigned generation = 1;
static u32 *fork_mark; /* reads 0 in a child (MADV_WIPEONFORK), whichever way it was made */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void fork_init(void)
{
	void *p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	if (madvise(p, PAGE_SIZE, MADV_WIPEONFORK)) {
		munmap(p, PAGE_SIZE);
		return;
	}
	*(u32 *)p = 1;
	fork_mark = p;
}

unsigned mm_generation(void)
{
	u32 wiped = 0;

	pthread_once(&fork_once, fork_init);
	if (!fork_mark)
		return (unsigned)getpid(); /* a kernel older than 4.14 */
	if (unlikely(!__atomic_load_n(fork_mark, __ATOMIC_ACQUIRE)) &&
	    __atomic_compare_exchange_n(fork_mark, &wiped, 1, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE)) {
		/* The parent's other threads, which may have held it, do not exist here. */
		pthread_mutex_init(&table_lock, NULL);
		__atomic_add_fetch(&generation, 1, __ATOMIC_RELEASE);
	}
	return __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
}

/* ---- VM state ------------------------------------------------------------------------------- */

struct api_vm *api_vm_new(struct kvm *kvm)
{
	struct api_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->refs = 1;
	vm->generation = mm_generation();
	vm->kvm = kvm;
	pthread_mutex_init(&vm->lock, NULL);
	return vm;
}

void api_vm_get(struct api_vm *vm)
{
	__atomic_add_fetch(&vm->refs, 1, __ATOMIC_RELAXED);
}

void api_vm_put(struct api_vm *vm)
{
	struct api_vcpu *c, *next;

	if (__atomic_sub_fetch(&vm->refs, 1, __ATOMIC_ACQ_REL))
		return;
	/* A child's copy of its parent's VM: its threads are not here, nothing can be taken down.
	 */
	if (vm->generation != mm_generation())
		return;
	for (c = vm->vcpus; c; c = c->next)
		kvm_vcpu_put(c->v);
	kvm_put(vm->kvm);
	for (c = vm->vcpus; c; c = next) {
		next = c->next;
		munmap(c->run, c->bytes);
		pthread_mutex_destroy(&c->mutex);
		free(c);
	}
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

/* ---- The table --------------------------------------------------------------------------------
 */

static struct kobj **bucket_of(u64 dev, u64 ino)
{
	return &buckets[(ino ^ (ino >> 10) ^ dev) % NBUCKETS];
}

static void destroy(struct kobj *o)
{
	if (o->stats)
		munmap(o->stats, o->stats_bytes);
	if (o->gmem)
		gmem_put(o->gmem);
	if (o->vm)
		api_vm_put(o->vm);
	o->stats = NULL;
	o->gmem = NULL;
	o->vm = NULL;
	o->vcpu = NULL;
	pthread_mutex_lock(&table_lock);
	o->in_use = false;
	pthread_mutex_unlock(&table_lock);
}

void kobj_put(struct kobj *o)
{
	if (!__atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL))
		destroy(o);
}

void kobj_put_deferred(struct kobj *o)
{
	if (!__atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL))
		__atomic_store_n(&o->orphan, true, __ATOMIC_RELEASE);
}

static bool get_unless_zero(struct kobj *o)
{
	u32 n = __atomic_load_n(&o->refs, __ATOMIC_RELAXED);

	while (n)
		if (__atomic_compare_exchange_n(&o->refs, &n, n + 1, true, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return true;
	return false;
}

static bool is_named(const struct kobj *o, u64 dev, u64 ino)
{
	return __atomic_load_n(&o->ino, __ATOMIC_RELAXED) == ino &&
	       __atomic_load_n(&o->dev, __ATOMIC_RELAXED) == dev;
}

struct kobj *kobj_get(int fd)
{
	int saved = errno;
	struct stat st;
	struct kobj *o;

	if (fstat(fd, &st)) {
		errno = saved;
		return NULL;
	}
	for (o = __atomic_load_n(bucket_of(st.st_dev, st.st_ino), __ATOMIC_ACQUIRE); o;
	     o = __atomic_load_n(&o->next, __ATOMIC_ACQUIRE)) {
		if (!is_named(o, st.st_dev, st.st_ino) || !get_unless_zero(o))
			continue;
		/* Between the two it may have become another object. */
		if (is_named(o, st.st_dev, st.st_ino))
			return o;
		kobj_put_deferred(o);
	}
	return NULL;
}

static unsigned fds_changed; /* 0: nobody says so */

void kobj_fds_changed(void)
{
	/* Never 0 again. */
	__atomic_add_fetch(&fds_changed, 2, __ATOMIC_ACQ_REL);
	__atomic_or_fetch(&fds_changed, 1, __ATOMIC_ACQ_REL);
}

struct kobj *kobj_get_again(int fd)
{
	static __thread struct last {
		struct kobj *o;
		int fd;
		unsigned when;
	} lasts[4] __attribute__((tls_model("initial-exec")));
	unsigned when = __atomic_load_n(&fds_changed, __ATOMIC_ACQUIRE);
	struct last *last = &lasts[(unsigned)fd % ARRAY_SIZE(lasts)];
	struct kobj *o = last->o;

	if (likely(o && when && last->fd == fd && last->when == when && get_unless_zero(o)))
		return o;
	o = kobj_get(fd);
	/* A signal handler may come in between. */
	__atomic_store_n(&last->fd, -1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	last->o = o;
	last->when = when;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&last->fd, fd, __ATOMIC_RELAXED);
	return o;
}

int kobj_register(int fd, const struct kobj *init)
{
	struct kobj **head, *o;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	mm_generation(); /* makes the lock usable in a child */
	pthread_mutex_lock(&table_lock);
	head = bucket_of(st.st_dev, st.st_ino);
	for (o = *head; o && o->in_use; o = o->next)
		;
	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o) {
			pthread_mutex_unlock(&table_lock);
			return -ENOMEM;
		}
		o->next = *head;
		__atomic_store_n(head, o, __ATOMIC_RELEASE);
	}
	o->in_use = true;
	o->type = init->type;
	o->vm = init->vm;
	o->vcpu = init->vcpu;
	o->stats = init->stats;
	o->gmem = init->gmem;
	o->stats_bytes = init->stats_bytes;
	__atomic_store_n(&o->dev, st.st_dev, __ATOMIC_RELAXED);
	__atomic_store_n(&o->ino, st.st_ino, __ATOMIC_RELAXED);
	o->opened = true;
	__atomic_store_n(&o->refs, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&table_lock);
	return 0;
}

int kobj_file(const char *name, size_t bytes, bool cloexec, void **map)
{
	int fd = memfd_create(name, MFD_ALLOW_SEALING | (cloexec ? MFD_CLOEXEC : 0));
	int r;

	if (fd < 0)
		return -errno;
	/* Nobody may take pages away from under our mapping. */
	if (ftruncate(fd, bytes) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		goto fail;
	if (map) {
		*map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (*map == MAP_FAILED)
			goto fail;
	}
	return fd;
fail:
	r = -errno;
	close(fd);
	return r;
}

/* ---- Which descriptors are open ----------------------------------------------------------------
 */

struct dirent64_rec {
	u64 ino;
	s64 off;
	u16 len;
	u8 type;
	char name[];
};

/* Calls @fn for each open descriptor until it returns true. */
static void for_each_fd(bool (*fn)(const struct stat *st, void *opaque), void *opaque)
{
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char buf[4096] __attribute__((aligned(8)));
	struct rlimit lim = {.rlim_cur = 1024};
	struct stat st;
	long n, i;

	if (dir < 0) {
		/* No /proc here: try them all. */
		getrlimit(RLIMIT_NOFILE, &lim);
		for (i = 0; i < (long)MIN(lim.rlim_cur, 1u << 16); i++)
			if (!fstat(i, &st) && fn(&st, opaque))
				return;
		return;
	}
	while ((n = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (i = 0; i < n; i += ((struct dirent64_rec *)(buf + i))->len) {
			const char *name = ((struct dirent64_rec *)(buf + i))->name;

			if (*name >= '0' && *name <= '9' && !fstat(atoi(name), &st) &&
			    fn(&st, opaque))
				goto out;
		}
out:
	close(dir);
}

struct find {
	u64 dev, ino;
	bool found;
};

static bool match_fd(const struct stat *st, void *opaque)
{
	struct find *f = opaque;

	f->found = st->st_dev == f->dev && st->st_ino == f->ino;
	return f->found;
}

static void drop_opened(struct kobj *o)
{
	if (__atomic_exchange_n(&o->opened, false, __ATOMIC_ACQ_REL))
		kobj_put(o);
}

void kobj_closed(struct kobj *o)
{
	struct find f = {.dev = o->dev, .ino = o->ino};
	int saved = errno;

	for_each_fd(match_fd, &f);
	if (!f.found)
		drop_opened(o);
	errno = saved;
}

static bool mark_fd(const struct stat *st, void *opaque)
{
	struct kobj *o;

	for (o = *bucket_of(st->st_dev, st->st_ino); o; o = o->next)
		if (is_named(o, st->st_dev, st->st_ino))
			o->seen = true;
	return false;
}

void kobj_reap(void)
{
	struct kobj *gone[64], *orphan[64], *o;
	unsigned i, n = 0, m = 0;

	mm_generation();
	pthread_mutex_lock(&table_lock);
	for (i = 0; i < NBUCKETS; i++)
		for (o = buckets[i]; o; o = o->next)
			o->seen = false;
	/* The lock keeps new objects out of the table meanwhile. */
	for_each_fd(mark_fd, NULL);
	/* A batch is enough, the rest is for the next time. */
	for (i = 0; i < NBUCKETS; i++)
		for (o = buckets[i]; o && MAX(n, m) < ARRAY_SIZE(gone); o = o->next) {
			if (!o->in_use)
				continue;
			if (__atomic_exchange_n(&o->orphan, false, __ATOMIC_ACQ_REL))
				orphan[m++] = o;
			else if (!o->seen && get_unless_zero(o))
				gone[n++] = o;
		}
	pthread_mutex_unlock(&table_lock);
	for (i = 0; i < m; i++)
		destroy(orphan[i]);
	for (i = 0; i < n; i++) {
		drop_opened(gone[i]);
		kobj_put(gone[i]);
	}
}
