/* SPDX-License-Identifier: MIT */
/*
 * Keeps every processor of a guest busy with what makes processors interact: threads on a futex,
 * pipes, forks, page faults with TLB shoot-downs (munmap, mprotect in all threads), atomics. Each
 * worker checks what it did; any wrong result ends the program with status 1.
 *
 * usage: smpstress SECONDS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int stop;
static atomic_long ops[8];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long guarded_a, guarded_b;
static atomic_long counted;
static long counted_by[64];

static void fail(const char *what)
{
	fprintf(stderr, "smpstress: %s\n", what);
	_exit(1);
}

static void *futexes(void *arg)
{
	(void)arg;
	while (!stop) {
		pthread_mutex_lock(&lock);
		if (guarded_a != guarded_b)
			fail("two threads under one mutex");
		guarded_a++;
		if ((guarded_a & 15) == 0)
			sched_yield();
		guarded_b++;
		pthread_mutex_unlock(&lock);
		atomic_fetch_add(&ops[0], 1);
	}
	return NULL;
}

static void *atomics(void *arg)
{
	long n = 0;

	while (!stop) {
		for (int i = 0; i < 1000; i++)
			atomic_fetch_add(&counted, 1);
		n += 1000;
		atomic_fetch_add(&ops[1], 1000);
	}
	counted_by[(long)arg] = n;
	return NULL;
}

static void *faults(void *arg)
{
	unsigned seed = (long)arg + 1;

	while (!stop) {
		size_t pages = 1 + rand_r(&seed) % 32;
		uint32_t *p = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			fail("mmap");
		for (size_t i = 0; i < pages; i++) {
			if (p[i * 1024])
				fail("a new page is not zero");
			p[i * 1024] = seed + i;
		}
		mprotect(p, pages * 4096, PROT_READ);
		for (size_t i = 0; i < pages; i++)
			if (p[i * 1024] != seed + i)
				fail("a page lost its content");
		munmap(p, pages * 4096);
		atomic_fetch_add(&ops[2], 1);
	}
	return NULL;
}

static void *pipes(void *arg)
{
	int a[2], b[2];

	(void)arg;
	if (pipe(a) || pipe(b))
		fail("pipe");
	while (!stop) {
		unsigned seed = rand();
		pid_t pid = fork();
		uint32_t v, w;

		if (pid < 0)
			fail("fork");
		if (!pid) {
			for (int i = 0; i < 20; i++) {
				if (read(a[0], &v, 4) != 4)
					_exit(2);
				v = v * 1664525 + 1013904223;
				if (write(b[1], &v, 4) != 4)
					_exit(2);
			}
			_exit(0);
		}
		for (int i = 0; i < 20; i++) {
			v = seed + i;
			if (write(a[1], &v, 4) != 4 || read(b[0], &w, 4) != 4 ||
			    w != v * 1664525 + 1013904223)
				fail("a pipe returned something else");
		}
		int status;

		if (waitpid(pid, &status, 0) != pid || status)
			fail("a child failed");
		atomic_fetch_add(&ops[3], 1);
	}
	return NULL;
}

static void *vectors(void *arg)
{
	double x[64];

	while (!stop) {
		double sum = 0;

		for (int i = 0; i < 64; i++)
			x[i] = i + (long)arg;
		for (int r = 0; r < 100; r++)
			for (int i = 0; i < 64; i++)
				x[i] = x[i] * 0.5 + i;
		for (int i = 0; i < 64; i++)
			sum += x[i] - 2.0 * i;
		if (sum > 1e-6 || sum < -1e-6)
			fail("floating point state was lost");
		atomic_fetch_add(&ops[4], 1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static void *(*const kinds[])(void *) = {futexes, atomics, faults, pipes, vectors};
	int seconds = argc > 1 ? atoi(argv[1]) : 10, n = 0;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN), sum = 0;
	pthread_t threads[64];

	for (long c = 0; c < cpus * 2 && n + 5 <= 64; c++)
		for (int k = 0; k < 5; k++, n++)
			if (pthread_create(&threads[n], NULL, kinds[k], (void *)(long)n))
				fail("pthread_create");
	sleep(seconds);
	stop = 1;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < n; i++)
		sum += counted_by[i];
	if (sum != counted)
		fail("atomic increments were lost");
	printf("smpstress: %d threads on %ld processors, %d s: %ld futex, %ld atomic, %ld fault, "
	       "%ld pipe, "
	       "%ld vector operations, no error\n",
	       n, cpus, seconds, ops[0], ops[1], ops[2], ops[3], ops[4]);
	return 0;
}
