/* SPDX-License-Identifier: MIT */
/*
 * Sequences of ioctls with random and mutated arguments, on descriptors of every kind. Nothing is
 * expected of the answers but their form; what counts is that the process lives, that no sanitizer
 * complains, and that every call comes back.
 *
 *	fuzz_ioctl [--seconds N] [--seed N]
 *	fuzz_shim [--seconds N] [--seed N]	by the functions that programs under the shim call
 *
 * Round after round starts from nothing: a VM, then some hundred calls, then everything is closed.
 *A round is made from its seed, which is printed if the round dies. Built with FUZZ_LIBFUZZER
 *defined it is a libFuzzer target instead, the input being the stream of choices. door_lib.c or
 *door_shim.c is linked with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "kvmapi/ioctl.h"
#include "kvmapi/kvmless.h"

#include "door.h"

#define MEM   (64 * PAGE_SIZE)
#define NFDS  24
#define CALLS 300

/* ---- Choices: from a generator, or from libFuzzer's bytes ---- */
static u64 seed;
static const u8 *input, *input_end;

static u64 rnd(void)
{
	u64 v = 0;

	if (input) {
		size_t n = MIN((size_t)(input_end - input), sizeof(v));

		memcpy(&v, input, n);
		input += n;
		return v;
	}
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull;
}

static u64 below(u64 n)
{
	return rnd() % n;
}

/* A number as programs get them wrong: small, at a power of two, all ones, an address, anything. */
static u64 number(u8 *mem)
{
	switch (below(10)) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return BIT(below(64)) - 1;
	case 3: return BIT(below(64));
	case 4: return rnd();
	case 5: return (u64)mem + below(MEM);
	case 6: return below(MEM) & PAGE_MASK;
	case 7: return rnd() & 0xffffffff;
	default: return below(16);
	}
}

/* ---- One round ---- */
struct round {
	int fd[NFDS];
	unsigned nfds;
	u8 *mem, *edge; /* the last byte before @edge is the last one mapped */
	u8 *scratch;
	/* What the last successful call left, to be mutated */
	u8 last[sizeof(struct kvm_sregs2) + 2048];
	_Alignas(8) u8 args[8 * PAGE_SIZE];
};

static void add_fd(struct round *r, int fd)
{
	unsigned i = below(NFDS);

	if (fd < 0)
		return;
	if (r->nfds < NFDS) {
		r->fd[r->nfds++] = fd;
		return;
	}
	door.close(r->fd[i]);
	r->fd[i] = fd;
}

static void fill(struct round *r, u8 *p, size_t n)
{
	u64 v;

	switch (below(4)) {
	case 0: memset(p, 0, n); break;
	case 1:
		for (size_t i = 0; i + 8 <= n; i += 8) {
			v = number(r->mem);
			memcpy(p + i, &v, 8);
		}
		break;
	default: memcpy(p, r->last, MIN(n, sizeof(r->last))); break;
	}
	for (unsigned k = below(6); k--;) {
		size_t at = below(n), w = 1u << below(4);

		v = number(r->mem);
		if (at + w <= n)
			memcpy(p + at, &v, w);
	}
}

/* Where an argument says that something is to be written: what a random place holds may be the
 * sanitizer's own, and then not the library but it comes to grief. */
static u64 place(struct round *r)
{
	return below(8) ? (u64)r->mem + below(MEM) : below(2) ? (u64)r->edge + below(64) : 0;
}

/* Requests that carry fields which random bytes practically never get right */
static void shape(struct round *r, u32 req, u8 *p)
{
	struct kvm_userspace_memory_region *m = (void *)p;
	struct kvm_dirty_log *log = (void *)p;
	struct kvm_irqfd *irqfd = (void *)p;
	struct kvm_ioeventfd *ioev = (void *)p;
	struct kvm_enable_cap *cap = (void *)p;
	struct kvm_userspace_memory_region2 *m2 = (void *)p;
	struct kvm_device_attr *attr = (void *)p;
	u32 n = below(40);

	switch (req) {
	case KVM_SET_USER_MEMORY_REGION:
		m->slot = below(4);
		m->flags = below(4);
		m->guest_phys_addr = below(32) * PAGE_SIZE;
		m->memory_size = below(16) * PAGE_SIZE;
		m->userspace_addr = (u64)r->mem + below(16) * PAGE_SIZE;
		break;
	case KVM_SET_USER_MEMORY_REGION2: m2->userspace_addr = place(r) & PAGE_MASK; break;
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
	case KVM_HAS_DEVICE_ATTR: attr->addr = place(r); break;
	case KVM_GET_DIRTY_LOG:
	case KVM_CLEAR_DIRTY_LOG:
		log->slot = below(4);
		memcpy(p + (req == KVM_GET_DIRTY_LOG ? 8 : 16), &(void *){r->mem}, 8);
		break;
	case KVM_IRQFD:
		irqfd->fd = eventfd(0, EFD_CLOEXEC);
		irqfd->resamplefd = irqfd->fd;
		irqfd->gsi = below(30);
		irqfd->flags = below(4);
		break;
	case KVM_IOEVENTFD:
		ioev->fd = eventfd(0, EFD_CLOEXEC);
		ioev->len = 1u << below(4);
		ioev->flags = below(8);
		break;
	case KVM_ENABLE_CAP:
		cap->cap = below(240);
		cap->flags = below(8) ? 0 : cap->flags;
		cap->args[0] = number(r->mem);
		if (cap->cap == KVM_CAP_HYPERV_ENLIGHTENED_VMCS)
			cap->args[0] = place(r);
		break;
	case KVM_SET_CPUID:
	case KVM_SET_CPUID2:
	case KVM_GET_CPUID2:
	case KVM_GET_SUPPORTED_CPUID:
	case KVM_GET_EMULATED_CPUID:
	case KVM_SET_GSI_ROUTING:
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
	case KVM_GET_MSR_INDEX_LIST:
	case KVM_GET_MSR_FEATURE_INDEX_LIST: memcpy(p, &n, sizeof(n)); break;
	case KVM_SET_SIGNAL_MASK:
		n = 8;
		memcpy(p, &n, sizeof(n));
		break;
	}
}

static void unshape(u32 req, u8 *p)
{
	/* The core holds its own reference. */
	if (req == KVM_IRQFD)
		close(((struct kvm_irqfd *)p)->fd);
	if (req == KVM_IOEVENTFD)
		close(((struct kvm_ioeventfd *)p)->fd);
}

/* ---- A second thread gets KVM_RUN to return, and notices calls that do not ---- */
static bool finished;
static int running_fd = -1;
static u64 calls;
static pthread_t caller;

static void *kicker(void *opaque)
{
	struct timespec ms = {.tv_nsec = 1000000};
	u64 at = 0, since = 0;
	int fd;

	for (u64 tick = 0; !__atomic_load_n(&finished, __ATOMIC_RELAXED); tick++) {
		nanosleep(&ms, NULL);
		fd = __atomic_load_n(&running_fd, __ATOMIC_ACQUIRE);
		if (fd >= 0)
			door.kick(fd, caller);
		if (fd >= 0 && tick % 16 == 0)
			pthread_kill(caller, SIGUSR1);
		if (at != __atomic_load_n(&calls, __ATOMIC_RELAXED)) {
			at = __atomic_load_n(&calls, __ATOMIC_RELAXED);
			since = tick;
		} else if (tick - since > 30000) {
			fprintf(stderr, "a call does not return\n");
			abort();
		}
	}
	return NULL;
}

static void run(int fd)
{
	struct timespec no_wait = {0};
	sigset_t set;

	__atomic_store_n(&running_fd, fd, __ATOMIC_RELEASE);
	door.ioctl(fd, KVM_RUN, below(50) ? 0 : rnd());
	__atomic_store_n(&running_fd, -1, __ATOMIC_RELEASE);
	/* Blocked here, and perhaps not during KVM_RUN */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	while (sigtimedwait(&set, NULL, &no_wait) > 0)
		;
}

static void call(struct round *r)
{
	unsigned nrows = 0;
	const struct ioctl_row *row;
	int fd = r->fd[below(r->nfds)], res;
	bool shaped = false;
	u8 *p;
	u32 req;

	while (ioctl_row(nrows))
		nrows++;
	row = ioctl_row(below(nrows));
	req = row->req;
	if (!below(40))
		req ^= 1u << below(32);
	if (req == KVM_RUN) {
		run(fd);
		return;
	}
	if (row->kind <= ARG_VALUE) {
		res = door.ioctl(fd, req, row->kind == ARG_VALUE ? number(r->mem) : !below(20));
		if (req == KVM_CREATE_VM || req == KVM_CREATE_VCPU || req == KVM_GET_STATS_FD)
			add_fd(r, res);
		return;
	}
	/* Mostly a good place; sometimes one that ends too early, or nowhere. */
	p = below(8) ? r->scratch : r->edge - below(row->size + 64);
	if (below(50) == 0)
		p = (u8 *)number(r->mem);
	if (p >= r->mem && p < r->edge) {
		fill(r, p, MIN((size_t)(r->edge - p), row->size + 512ul));
		/* One that ends too early is not looked at; others may be misaligned. */
		shaped = p + row->size <= r->edge && row->size <= sizeof(r->args);
		if (shaped) {
			memcpy(r->args, p, row->size);
			shape(r, req, r->args);
			memcpy(p, r->args, row->size);
		}
	}
	res = door.ioctl(fd, req, p);
	if (req == KVM_CREATE_GUEST_MEMFD)
		add_fd(r, res);
	if (shaped)
		unshape(req, r->args);
	if (p == r->scratch && !res)
		memcpy(r->last, p, MIN(sizeof(r->last), (size_t)row->size));
}

static void other(struct round *r)
{
	unsigned i = below(r->nfds);
	struct kvm_run *run;
	char buf[256];

	switch (below(door.more ? 7 : 6)) {
	case 0: add_fd(r, dup(r->fd[i])); break;
	case 1:
		door.close(r->fd[i]);
		r->fd[i] = r->fd[--r->nfds];
		if (!r->nfds)
			add_fd(r, door.open(O_CLOEXEC));
		break;
	case 2: kvmless_kick(r->fd[i]); break;
	case 3:
		/* Scribbling over the run page is everyone's right. */
		run = door.mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd[i],
				0);
		if (run != MAP_FAILED) {
			for (unsigned k = below(8); k--;)
				((u8 *)run)[below(below(2) ? 3 * PAGE_SIZE : 64)] = rnd();
			run->immediate_exit = !below(4);
			munmap(run, 3 * PAGE_SIZE);
		}
		break;
	case 4: door.pread(r->fd[i], buf, sizeof(buf), below(1000)); break;
	case 5:
		/* Guest code: random bytes at the start of guest memory */
		for (unsigned k = 0; k < 64; k++)
			r->mem[below(4 * PAGE_SIZE)] = rnd();
		break;
	case 6: door.more(r->fd[i], r->fd[below(r->nfds)], r->scratch, below); break;
	}
}

static void one_round(void)
{
	struct kvm_userspace_memory_region m = {.memory_size = 32 * PAGE_SIZE};
	struct round *r = calloc(1, sizeof(*r));
	int kvm, vm;

	r->mem = mmap(NULL, MEM + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (r->mem == MAP_FAILED)
		abort();
	mprotect(r->mem + MEM, PAGE_SIZE, PROT_NONE);
	r->edge = r->mem + MEM;
	r->scratch = r->edge - 8 * PAGE_SIZE;
	kvm = door.open(O_RDWR | O_CLOEXEC);
	add_fd(r, kvm);
	vm = door.ioctl(kvm, KVM_CREATE_VM, 0);
	add_fd(r, vm);
	if (below(2))
		door.ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	m.userspace_addr = (u64)r->mem;
	door.ioctl(vm, KVM_SET_USER_MEMORY_REGION, &m);
	add_fd(r, door.ioctl(vm, KVM_CREATE_VCPU, 0));
	for (unsigned i = below(3); i--;)
		add_fd(r, door.ioctl(vm, KVM_CREATE_VCPU, below(8)));
	for (unsigned i = 0; i < CALLS; i++) {
		if (input && input == input_end)
			break;
		__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
		if (below(12))
			call(r);
		else
			other(r);
	}
	while (r->nfds)
		door.close(r->fd[--r->nfds]);
	munmap(r->mem, MEM + PAGE_SIZE);
	free(r);
}

static void setup(void)
{
	static bool done;
	pthread_t thread;
	sigset_t set;

	if (done)
		return;
	done = true;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	caller = pthread_self();
	pthread_create(&thread, NULL, kicker, NULL);
	pthread_detach(thread);
}

#ifdef FUZZ_LIBFUZZER
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	setup();
	input = data;
	input_end = data + size;
	one_round();
	return 0;
}
#else
static u64 round_seed;

static void on_death(int sig)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%s: signal %d, seed %#lx\n", door.name, sig,
			 round_seed);

	if (write(2, text, n) < 0)
		_exit(2);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void log_line(void *opaque, enum kvmless_log_level level, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv)
{
	struct timespec start, now;
	unsigned rounds = 0, seconds = 5;

	clock_gettime(CLOCK_MONOTONIC, &start);
	round_seed = (u64)start.tv_nsec << 20 ^ getpid();
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			seconds = strtoul(argv[++i], NULL, 0);
		} else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			round_seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: %s [--seconds N] [--seed N]\n", door.name);
			return 2;
		}
	}
	kvmless_log(log_line, NULL, KVMLESS_LOG_ERROR);
	signal(SIGABRT, on_death);
	signal(SIGSEGV, on_death);
	setup();
	printf("%s: first seed %#lx\n", door.name, round_seed);
	fflush(stdout);
	do {
		seed = round_seed | 1;
		one_round();
		rounds++;
		round_seed = round_seed * 6364136223846793005ull + 1442695040888963407ull;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < seconds);
	__atomic_store_n(&finished, true, __ATOMIC_RELAXED);
	printf("%s: %u rounds of up to %u calls\n", door.name, rounds, CALLS);
	return 0;
}
#endif
