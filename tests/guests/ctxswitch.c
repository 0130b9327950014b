/* SPDX-License-Identifier: MIT */
/*
 * Processes that hand a byte around a ring of pipes, each touching some pages of its own whenever
 * it has it: what switching address spaces costs. Checks what the pages hold.
 *
 * usage: ctxswitch PROCESSES ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 32

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void play(int in, int out, int rounds)
{
	volatile unsigned *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char c;

	if (p == MAP_FAILED)
		die("mmap");
	for (int r = 0; r < rounds; r++) {
		if (read(in, &c, 1) != 1)
			die("read");
		for (int i = 0; i < PAGES; i++) {
			if (p[i * 1024] != (unsigned)r)
				die("a page changed");
			p[i * 1024]++;
		}
		if (write(out, &c, 1) != 1)
			die("write");
	}
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 2, rounds = argc > 2 ? atoi(argv[2]) : 1000;
	int fd[64][2], status, bad = 0;
	struct timespec a, b;

	if (n < 2 || n > 64 || rounds < 1)
		return 2;
	for (int i = 0; i < n; i++)
		if (pipe(fd[i]))
			die("pipe");
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < n; i++) {
		if (!fork()) {
			play(fd[i][0], fd[(i + 1) % n][1], rounds);
			_exit(0);
		}
	}
	if (write(fd[0][1], "x", 1) != 1)
		die("write");
	for (int i = 0; i < n; i++)
		bad |= wait(&status) < 0 || status;
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("ctxswitch: %d processes, %.2f us a switch%s\n", n,
	       ((b.tv_sec - a.tv_sec) * 1e6 + (b.tv_nsec - a.tv_nsec) / 1e3) / rounds / n,
	       bad ? ", FAILED" : "");
	return bad;
}
