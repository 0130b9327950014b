/* SPDX-License-Identifier: MIT */
/*
 * Two processors and code that changes. One thread calls a function, another patches the value it
 * returns: by one aligned store while it runs; by several writes behind a breakpoint instruction,
 * as kernels patch their text; by any writes while the caller waits. Through the mapping that is
 * executed or through another one of the same memory, with the instruction in one page or on two.
 * What a call returns is a value that was being written or had been written; after a serialising
 * instruction not an older one than was complete before it. Then both threads make, call and throw
 * away functions, and patch instructions that stand right behind the patching store.
 *
 * usage: codestress SECONDS
 */
#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096u

typedef uint32_t function(void);

static uint8_t *code, *alias; /* the same two pages */
static atomic_int stop;
static _Atomic uint32_t started, done;	 /* values whose patching has begun, has ended */
static _Atomic uint32_t asked, answered; /* for patches while the caller waits */
static atomic_long calls, patches, made, traps;

static void fail(const char *what, uint32_t a, uint32_t b, uint32_t c)
{
	fprintf(stderr, "codestress: %s: %#x, %#x, %#x\n", what, a, b, c);
	_exit(1);
}

static void serialise(void)
{
	unsigned a, b, c, d;

	__cpuid(0, a, b, c, d);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Each value shows when it is put together from two. */
static uint32_t immediate(uint32_t v)
{
	return (v & 0xffff) | ~v << 16;
}

/* mov eax, imm32; ret */
static void put_function(uint8_t *p, uint32_t v)
{
	v = immediate(v);
	p[0] = 0xb8;
	memcpy(p + 1, &v, 4);
	p[5] = 0xc3;
}

/* Is @v, modulo 2^16, from @low to @high? */
static int within(uint32_t v, uint32_t low, uint32_t high)
{
	return (uint16_t)(v - low) <= (uint16_t)(high - low);
}

static uint32_t checked(uint32_t r, const char *what)
{
	if ((uint16_t)(r >> 16) != (uint16_t)~r)
		fail(what, r, started, done);
	return r & 0xffff;
}

enum how { STORE, POKE, WAIT };
static const char *const names[] = {"one store", "behind a breakpoint", "while the caller waits"};

struct test {
	enum how how;
	uint8_t *at; /* where it is executed */
	uint8_t *to; /* where it is written */
};

/* At the breakpoint: until it has gone. */
static void trapped(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_RIP]--;
	atomic_fetch_add(&traps, 1);
}

static void *caller(void *arg)
{
	const struct test *t = arg;
	function *f = (function *)(void *)t->at;
	uint32_t last = 0, low = 0, v;

	pin(1);
	for (unsigned n = 0; !stop; n++) {
		if (t->how == WAIT) {
			if (answered == asked)
				continue;
			low = asked;
			serialise();
		} else if (t->how == POKE || n % 16 == 0) {
			low = done;
			if (t->how == STORE)
				serialise();
		} else {
			low = last;
		}
		v = checked(f(), "a value of two patches");
		if (!within(v, low, started))
			fail(names[t->how], v, low, started);
		last = v;
		if (t->how == WAIT)
			answered = low;
		atomic_fetch_add(&calls, 1);
	}
	return NULL;
}

#define SYNC_CORE	   (1 << 5)
#define REGISTER_SYNC_CORE (1 << 6)

static void sync_core(void)
{
	if (syscall(SYS_membarrier, SYNC_CORE, 0, 0))
		fail("membarrier", 0, 0, 0);
}

static void patch(const struct test *t, uint32_t v)
{
	uint32_t imm = immediate(v);

	switch (t->how) {
	case STORE: __atomic_store_n((uint32_t *)(void *)(t->to + 1), imm, __ATOMIC_SEQ_CST); break;
	case POKE:
		__atomic_store_n(t->to, 0xcc, __ATOMIC_SEQ_CST);
		sync_core();
		memcpy(t->to + 1, &imm, 2);
		memcpy(t->to + 3, (uint8_t *)&imm + 2, 2);
		sync_core();
		__atomic_store_n(t->to, 0xb8, __ATOMIC_SEQ_CST);
		sync_core();
		break;
	case WAIT:
		memset(t->to, 0xcc, 5);
		put_function(t->to, v);
		asked = v;
		while (answered != v && !stop)
			if (v % 8 == 0)
				sched_yield();
		break;
	}
}

static void patch_for(const struct test *t, double seconds)
{
	struct timespec now, begin;
	uint32_t v = 0;
	pthread_t thread;

	stop = 0;
	started = done = asked = answered = 0;
	put_function(t->to, 0);
	pin(0);
	if (pthread_create(&thread, NULL, caller, (void *)t))
		fail("pthread_create", 0, 0, 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		for (unsigned n = 0; n < 64; n++) {
			v = (v + 1) & 0xffff;
			started = v;
			patch(t, v);
			done = v;
			patches++;
		}
		/* Not further ahead than 16 bits can tell. */
		for (long was = calls; calls == was;)
			if (t->how == WAIT)
				break;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - begin.tv_sec + (now.tv_nsec - begin.tv_nsec) * 1e-9 < seconds);
	stop = 1;
	pthread_join(thread, NULL);
}

/* ---- Functions of one thread ---- */

/* mov [rip + 1], edi: the immediate of the next instruction; mov eax, imm32; ret */
static const uint8_t own[] = {0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};

static void *maker(void *arg)
{
	long me = (long)arg;
	/* Both threads' in one page, whose other half each of them writes. */
	uint8_t *mine = code + 1024 * me;
	uint32_t (*patches_itself)(uint32_t) = (uint32_t(*)(uint32_t))(void *)mine;
	uint32_t v = (uint32_t)me;

	pin((int)me);
	memcpy(mine, own, sizeof(own));
	while (!stop) {
		uint8_t *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | (v & 1 ? PROT_EXEC : 0),
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* In one page, or with the instruction on two. */
		uint8_t *at = p + (v % 3 ? 64 * (v % 60) : PAGE - 3);

		if (p == MAP_FAILED)
			fail("mmap", 0, 0, 0);
		for (int n = 0; n < 1 + (int)(v % 40); n++) {
			v += 2;
			put_function(at, v);
			if (!(v & 1) && mprotect(p, 2 * PAGE, PROT_READ | PROT_EXEC))
				fail("mprotect", 0, 0, 0);
			if (((function *)(void *)at)() != immediate(v))
				fail("a new function", ((function *)(void *)at)(), v, 0);
			if (!(v & 1) && mprotect(p, 2 * PAGE, PROT_READ | PROT_WRITE))
				fail("mprotect", 0, 0, 0);
			if (patches_itself(v) != v)
				fail("the instruction behind a store to it", v, 0, 0);
			mine[512 + v % 512] = (uint8_t)v;
			made++;
		}
		munmap(p, 2 * PAGE);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 10;
	struct sigaction sa = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
	int fd = memfd_create("code", 0);
	pthread_t threads[2];

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		fail("two processors are needed", 0, 0, 0);
	if (fd < 0 || ftruncate(fd, 2 * PAGE) || sigaction(SIGTRAP, &sa, NULL) ||
	    syscall(SYS_membarrier, REGISTER_SYNC_CORE, 0, 0))
		fail("preparations", 0, 0, 0);
	code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	alias = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (code == MAP_FAILED || alias == MAP_FAILED)
		fail("mmap", 0, 0, 0);
	/* At 64 + 3 the immediate is aligned; at the end of the page the instruction is on two. */
	for (int how = STORE; how <= WAIT; how++)
		for (int k = 0; k < 4; k++) {
			unsigned at = k & 1 && how != STORE ? PAGE - 3 : 64 + 3;
			struct test t = {.how = (enum how)how,
					 .at = code + at,
					 .to = (k & 2 ? alias : code) + at};

			patch_for(&t, seconds / 16);
		}
	stop = 0;
	for (long k = 0; k < 2; k++)
		if (pthread_create(&threads[k], NULL, maker, (void *)k))
			fail("pthread_create", 0, 0, 0);
	usleep((useconds_t)(seconds / 4 * 1e6));
	stop = 1;
	for (int k = 0; k < 2; k++)
		pthread_join(threads[k], NULL);
	printf("codestress: %ld patches, %ld calls, %ld breakpoints, %ld functions made, no "
	       "error\n",
	       patches, calls, traps, made);
	return 0;
}
