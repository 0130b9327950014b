/* SPDX-License-Identifier: MIT */
/* See trace.h: the buffers, and when they are written. trace_json.c has the format. */
#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/trace_impl.h"

#define BUF_RECORDS 16384u /* 1 MiB a thread; a power of two */
#define MAX_BUFS    256
#define FLUSH_NS    100000000
#define PATIENCE_MS 200 /* that a producer has with a writer that is late */

/*
 * One producer at a time, the thread that owns it, and one consumer, the writer. head and tail only
 * grow. A signal handler that interrupts its thread within an event finds busy set: its own event
 * is lost.
 */
struct trace_buf {
	u64 head; /* atomic: written by the producer */
	u64 tail; /* atomic: written by the writer */
	u64 lost; /* by the producer */
	u64 lost_reported;
	bool busy, owned; /* owned: atomic */
	bool impatient;	  /* the producer has waited for room in vain, and there has been none since
			   */
	struct trace_record rec[BUF_RECORDS];
};

bool trace_active;

static struct trace_buf
	*bufs[MAX_BUFS]; /* filled from the front; never freed while they may be used */
static u64 lost_without_buf;
static u32 last_vm;

static __thread struct trace_buf *own;
static pthread_key_t own_key;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* start, stop */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct {
	pthread_t thread;
	int fd;
	u32 wake; /* futex */
	bool stopping;
} writer = {.fd = -1};

u64 trace_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

u32 trace_new_vm(void)
{
	return __atomic_add_fetch(&last_vm, 1, __ATOMIC_RELAXED);
}

/* ---- Producers ---- */

static void release_buf(void *buf)
{
	own = NULL;
	__atomic_store_n(&((struct trace_buf *)buf)->owned, false, __ATOMIC_RELEASE);
}

/* A buffer that its thread has left, or a new one. NULL: none is to be had. */
static struct trace_buf *take_buf(void)
{
	struct trace_buf *fresh = NULL, *b;
	int saved = errno;

	for (unsigned i = 0; i < MAX_BUFS; i++) {
		bool owned = false;

		b = __atomic_load_n(&bufs[i], __ATOMIC_ACQUIRE);
		if (!b) {
			if (!fresh)
				fresh = mmap(NULL, sizeof(*fresh), PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (fresh == MAP_FAILED)
				break;
			fresh->owned = true;
			if (__atomic_compare_exchange_n(&bufs[i], &b, fresh, false,
							__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
				own = fresh;
				break;
			}
		}
		if (__atomic_compare_exchange_n(&b->owned, &owned, true, false, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE)) {
			own = b;
			break;
		}
	}
	if (fresh && fresh != MAP_FAILED && own != fresh)
		munmap(fresh, sizeof(*fresh));
	if (own)
		pthread_setspecific(own_key, own);
	errno = saved;
	return own;
}

static void wake_writer(void)
{
	__atomic_fetch_add(&writer.wake, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &writer.wake, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}

static bool has_room(const struct trace_buf *b, u32 n)
{
	return b->head + n - __atomic_load_n(&b->tail, __ATOMIC_ACQUIRE) <= BUF_RECORDS;
}

/* On a busy machine the writer may be late, but a guest must not stand still for a full disk. */
static bool wait_for_room(struct trace_buf *b, u32 n)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	int saved = errno;

	for (unsigned k = 0; !b->impatient && k < PATIENCE_MS; k++) {
		wake_writer();
		nanosleep(&ms, NULL);
		if (has_room(b, n)) {
			errno = saved;
			return true;
		}
	}
	b->impatient = true;
	errno = saved;
	return false;
}

/* Room for @n records, then put(), or NULL: the event is lost. */
static struct trace_buf *begin(u32 n)
{
	struct trace_buf *b = own;

	if (!trace_on())
		return NULL;
	if (unlikely(!b)) {
		b = take_buf();
		if (!b) {
			__atomic_fetch_add(&lost_without_buf, 1, __ATOMIC_RELAXED);
			return NULL;
		}
	}
	if (!b->busy) {
		b->busy = true;
		__asm__ volatile("" ::: "memory");
		if (likely(has_room(b, n)) || wait_for_room(b, n)) {
			b->impatient = false;
			return b;
		}
		b->busy = false;
	}
	__atomic_fetch_add(&b->lost, 1, __ATOMIC_RELAXED);
	return NULL;
}

static struct trace_record *at(struct trace_buf *b, u64 n)
{
	return &b->rec[n & (BUF_RECORDS - 1)];
}

static void end(struct trace_buf *b, u32 n)
{
	u64 head = b->head + n;
	bool half = (head ^ b->head) & (BUF_RECORDS / 2);

	__atomic_store_n(&b->head, head, __ATOMIC_RELEASE);
	b->busy = false;
	if (unlikely(half))
		wake_writer();
}

void trace_slice(enum trace_id id, u32 vm, u32 vcpu, u64 start_ns, u64 end_ns, u64 a0, u64 a1,
		 u64 a2)
{
	struct trace_buf *b = begin(1);

	if (!b)
		return;
	*at(b, b->head) = (struct trace_record){.start = start_ns,
						.end = end_ns,
						.id = (u16)id,
						.vm = vm,
						.vcpu = vcpu,
						.arg = {a0, a1, a2}};
	end(b, 1);
}

void trace_instant(enum trace_id id, u32 vm, u32 vcpu, u64 a0, u64 a1, u64 a2)
{
	u64 now;

	if (!trace_on())
		return;
	now = trace_now();
	trace_slice(id, vm, vcpu, now, now, a0, a1, a2);
}

void trace_text(enum trace_id id, u32 vm, u32 vcpu, const char *text)
{
	size_t len = strnlen(text, TRACE_TEXT_MAX);
	u32 more = (u32)((len + sizeof(struct trace_record) - 1) / sizeof(struct trace_record));
	struct trace_buf *b = begin(1 + more);
	u64 now;

	if (!b)
		return;
	now = trace_now();
	*at(b, b->head) = (struct trace_record){
		.start = now, .end = now, .id = (u16)id, .more = (u16)more, .vm = vm, .vcpu = vcpu};
	for (u32 i = 0; i < more; i++) {
		size_t off = i * sizeof(struct trace_record);

		memset(at(b, b->head + 1 + i), 0, sizeof(struct trace_record));
		memcpy(at(b, b->head + 1 + i), text + off,
		       MIN(len - off, sizeof(struct trace_record)));
	}
	end(b, 1 + more);
}

u64 trace_lost(void)
{
	u64 n = __atomic_load_n(&lost_without_buf, __ATOMIC_RELAXED);

	for (unsigned i = 0; i < MAX_BUFS && bufs[i]; i++)
		n += __atomic_load_n(&bufs[i]->lost, __ATOMIC_RELAXED);
	return n;
}

/* ---- The writer ---- */

static void drain_buf(struct trace_json *j, struct trace_buf *b)
{
	u64 head = __atomic_load_n(&b->head, __ATOMIC_ACQUIRE), tail = b->tail;
	u64 lost = __atomic_load_n(&b->lost, __ATOMIC_RELAXED);
	char text[TRACE_TEXT_MAX + sizeof(struct trace_record)];

	while (tail != head) {
		const struct trace_record *r = at(b, tail);

		for (u32 i = 0; i < r->more; i++)
			memcpy(text + i * sizeof(*r), at(b, tail + 1 + i), sizeof(*r));
		text[MIN(r->more * sizeof(*r), sizeof(text) - 1)] = 0;
		trace_json_record(j, r, text);
		tail += 1 + r->more;
		__atomic_store_n(&b->tail, tail, __ATOMIC_RELEASE);
	}
	if (lost != b->lost_reported) {
		trace_json_lost(j, lost - b->lost_reported, trace_now());
		b->lost_reported = lost;
	}
}

static void drain(struct trace_json *j)
{
	for (unsigned i = 0; i < MAX_BUFS; i++) {
		struct trace_buf *b = __atomic_load_n(&bufs[i], __ATOMIC_ACQUIRE);

		if (!b)
			break;
		drain_buf(j, b);
	}
	trace_json_flush(j);
}

static void *writer_main(void *arg)
{
	struct trace_json *j = arg;
	const struct timespec period = {.tv_nsec = FLUSH_NS};

	while (!__atomic_load_n(&writer.stopping, __ATOMIC_ACQUIRE)) {
		u32 seen = __atomic_load_n(&writer.wake, __ATOMIC_SEQ_CST);

		drain(j);
		syscall(SYS_futex, &writer.wake, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &period,
			NULL, 0);
	}
	drain(j);
	trace_json_end(j, trace_lost(), trace_now());
	return NULL;
}

/* ---- Beginning and end ---- */

/* The child has neither the writer nor a use for what its parent recorded. */
static void child(void)
{
	trace_active = false;
	pthread_mutex_init(&lock, NULL);
	if (writer.fd >= 0)
		close(writer.fd);
	writer.fd = -1;
	writer.stopping = false;
	for (unsigned i = 0; i < MAX_BUFS && bufs[i]; i++) {
		bufs[i]->busy = false;
		bufs[i]->owned = bufs[i] == own;
	}
}

/* Nothing of an earlier trace is left. */
static void forget(void)
{
	for (unsigned i = 0; i < MAX_BUFS && bufs[i]; i++) {
		bufs[i]->tail = __atomic_load_n(&bufs[i]->head, __ATOMIC_ACQUIRE);
		bufs[i]->lost_reported = 0;
		__atomic_store_n(&bufs[i]->lost, 0, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&lost_without_buf, 0, __ATOMIC_RELAXED);
}

static void init(void)
{
	pthread_key_create(&own_key, release_buf);
	pthread_atfork(NULL, NULL, child);
	atexit(trace_stop);
}

static int create(const char *path)
{
	char other[PATH_MAX];
	struct stat st;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	if (fd >= 0 || errno != EEXIST)
		return fd < 0 ? -errno : fd;
	if (!stat(path, &st) && !S_ISREG(st.st_mode)) {
		fd = open(path, O_WRONLY | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	if (snprintf(other, sizeof(other), "%s.%d", path, getpid()) >= (int)sizeof(other))
		return -ENAMETOOLONG;
	fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return fd < 0 ? -errno : fd;
}

static int start_writer(void)
{
	struct trace_json *j = trace_json_begin(writer.fd, trace_now());
	sigset_t all, old;
	int err;

	if (!j)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&writer.thread, NULL, writer_main, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		trace_json_free(j);
		return -err;
	}
	pthread_setname_np(writer.thread, "kvmless-trace");
	return 0;
}

int trace_start(const char *path)
{
	int r;

	pthread_once(&once, init);
	pthread_mutex_lock(&lock);
	if (writer.fd >= 0) {
		pthread_mutex_unlock(&lock);
		return -EBUSY;
	}
	r = create(path);
	if (r >= 0) {
		writer.fd = r;
		writer.stopping = false;
		forget();
		r = start_writer();
		if (r) {
			close(writer.fd);
			writer.fd = -1;
		} else {
			__atomic_store_n(&trace_active, true, __ATOMIC_RELEASE);
		}
	}
	pthread_mutex_unlock(&lock);
	return r;
}

void trace_stop(void)
{
	pthread_mutex_lock(&lock);
	if (writer.fd >= 0) {
		__atomic_store_n(&trace_active, false, __ATOMIC_RELEASE);
		__atomic_store_n(&writer.stopping, true, __ATOMIC_RELEASE);
		wake_writer();
		pthread_join(writer.thread, NULL);
		close(writer.fd);
		writer.fd = -1;
	}
	pthread_mutex_unlock(&lock);
}
