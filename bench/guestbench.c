/* SPDX-License-Identifier: MIT */
/*
 * The benchmark program: one static binary, run natively and in guests, so that only ratios of the
 * same code are compared. Prints one line a row: NAME NANOSECONDS-PER-OPERATION UNIT.
 *
 * usage: guestbench [SECONDS-PER-ROW [ROW...]]
 */
#include <immintrin.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static volatile u64 sink;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

/* Each row runs @n operations. */

static u32 ror(u32 v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static void sha256_block(u32 h[8], const u8 *p)
{
	static u32 k[64];
	u32 w[64], s[8];

	if (!k[0]) /* any constants will do */
		for (int i = 0; i < 64; i++)
			k[i] = 0x9e3779b9u * (i + 1);
	for (int i = 0; i < 16; i++)
		w[i] = (u32)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		u32 a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + w[i - 7] +
		       (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
	}
	memcpy(s, h, sizeof(s));
	for (int i = 0; i < 64; i++) {
		u32 t1 = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) +
			 ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
		u32 t2 = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
			 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		memmove(s + 1, s, 7 * sizeof(u32));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += s[i];
}

static void row_sha256(u64 n)
{
	static u8 buf[4096];
	u32 h[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	for (u64 i = 0; i < n; i += 64)
		sha256_block(h, buf + i % 4096);
	sink += h[0];
}

static void row_sieve(u64 n)
{
	static u8 comp[1 << 16];

	while (n) {
		u64 m = n < sizeof(comp) ? n : sizeof(comp);

		memset(comp, 0, m);
		for (u64 i = 2; i * i < m; i++)
			if (!comp[i])
				for (u64 j = i * i; j < m; j += i)
					comp[j] = 1;
		sink += comp[m - 1];
		n -= m;
	}
}

/* Lists, a small matrix, a state machine over text, a CRC: what CoreMark mixes. */
struct node {
	struct node *next;
	u32 v;
};

static void row_mix(u64 n)
{
	static struct node nodes[64];
	static const char text[] = "12,0x3f,-7.5e3,+99,abc,4711,1e9,";
	int a[8][8], b[8][8];

	for (int i = 0; i < 64; i++) {
		nodes[i].next = &nodes[(i * 29 + 1) % 64];
		nodes[i].v = i * 7;
		a[i / 8][i % 8] = i;
		b[i / 8][i % 8] = 64 - i;
	}
	while (n--) {
		struct node *p = nodes;
		u32 crc = n, state = 0, sum = 0;

		for (int i = 0; i < 64; i++, p = p->next)
			sum += p->v;
		for (int i = 0; i < 8; i++)
			for (int j = 0; j < 8; j++) {
				int t = 0;

				for (int k = 0; k < 8; k++)
					t += a[i][k] * b[k][j];
				sum += t;
			}
		for (const char *c = text; *c; c++) {
			switch (*c) {
			case '0' ... '9': state = state < 2 ? 1 : state; break;
			case '.': state = 2; break;
			case 'e': state = 3; break;
			case ',':
				sum += state;
				state = 0;
				break;
			default: state = 4;
			}
			crc ^= *c;
			for (int i = 0; i < 8; i++)
				crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
		}
		sink += sum + crc;
	}
}

static u64 f0(u64 x)
{
	return x + 1;
}
static u64 f1(u64 x)
{
	return x ^ 3;
}
static u64 f2(u64 x)
{
	return x * 5;
}
static u64 f3(u64 x)
{
	return x - 7;
}

static void row_icall(u64 n)
{
	static u64 (*volatile table[])(u64) = {f0, f1, f2, f3};
	u64 x = 1;

	for (u64 i = 0; i < n; i++)
		x = table[(x ^ i) & 3](x);
	sink += x;
}

static int cmp_u32(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

static void row_qsort(u64 n)
{
	static u32 v[4096];

	while (n) {
		u64 m = n < 4096 ? n : 4096;
		u32 x = 12345;

		for (u64 i = 0; i < m; i++)
			v[i] = x = x * 1664525 + 1013904223;
		qsort(v, m, sizeof(*v), cmp_u32);
		sink += v[0];
		n -= m;
	}
}

static u64 __attribute__((noinline)) fib(u64 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void row_fib(u64 n)
{
	/* fib(20) makes 21891 calls */
	for (u64 i = 0; i < n; i += 21891)
		sink += fib(20 + (i == 1));
}

static void chase(u64 n, size_t size, size_t stride)
{
	static void **start;
	static size_t made;
	size_t count = size / stride;
	void **p;

	if (made != size) {
		u8 *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
		size_t *order = malloc(count * sizeof(*order));
		u64 x = 88172645463325252ull;

		for (size_t i = 0; i < count; i++)
			order[i] = i;
		for (size_t i = count - 1; i; i--) {
			size_t k, t;

			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			k = x % (i + 1);
			t = order[i], order[i] = order[k], order[k] = t;
		}
		for (size_t i = 0; i < count; i++) {
			size_t next = order[(i + 1) % count];

			*(void **)(m + order[i] * stride) = m + next * stride;
		}
		free(order);
		madvise(m, size, MADV_DONTFORK); /* not part of what the fork row measures */
		start = (void **)m;
		made = size;
		/* Once around: else a cache that holds half of the list has the half that was
		 * written last, and the best batch is one that happens to lie there. */
		for (p = *start; p != start; p = *p)
			;
	}
	for (p = start; n; n--)
		p = *p;
	start = p;
	sink += (u64)p;
}

static void row_chase256k(u64 n)
{
	chase(n, 256 << 10, 64);
}
static void row_chase64m(u64 n)
{
	chase(n, 64 << 20, 64);
}

static u8 copy_a[16384] __attribute__((aligned(64))), copy_b[16384] __attribute__((aligned(64)));

static void row_ssecopy(u64 n)
{
	while (n) {
		for (size_t i = 0; i < sizeof(copy_a); i += 64) {
			__m128i a = _mm_load_si128((__m128i *)(copy_a + i));
			__m128i b = _mm_load_si128((__m128i *)(copy_a + i + 16));
			__m128i c = _mm_load_si128((__m128i *)(copy_a + i + 32));
			__m128i d = _mm_load_si128((__m128i *)(copy_a + i + 48));

			_mm_store_si128((__m128i *)(copy_b + i), a);
			_mm_store_si128((__m128i *)(copy_b + i + 16), b);
			_mm_store_si128((__m128i *)(copy_b + i + 32), c);
			_mm_store_si128((__m128i *)(copy_b + i + 48), d);
		}
		sink += copy_b[0];
		n -= n < sizeof(copy_a) ? n : sizeof(copy_a);
	}
}

static void row_repmovs(u64 n)
{
	while (n) {
		void *s = copy_a, *d = copy_b;
		u64 c = 4096;

		__asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(c)::"memory");
		n -= n < 4096 ? n : 4096;
	}
}

static void row_matmul(u64 n)
{
	static double a[64][64], b[64][64], c[64][64];

	for (int i = 0; i < 64 * 64; i++) {
		(&a[0][0])[i] = i;
		(&b[0][0])[i] = 1.0 / (i + 1);
	}
	for (u64 done = 0; done < n; done += 64 * 64 * 64) {
		for (int i = 0; i < 64; i++)
			for (int j = 0; j < 64; j += 2) {
				__m128d s = _mm_setzero_pd();

				for (int k = 0; k < 64; k++)
					s = _mm_add_pd(s, _mm_mul_pd(_mm_set1_pd(a[i][k]),
								     _mm_loadu_pd(&b[k][j])));
				_mm_storeu_pd(&c[i][j], s);
			}
		sink += (u64)c[3][5];
	}
}

__attribute__((target("avx2,fma"))) static void matmul_avx2(u64 n)
{
	static double a[64][64], b[64][64], c[64][64];

	for (int i = 0; i < 64 * 64; i++) {
		(&a[0][0])[i] = i;
		(&b[0][0])[i] = 1.0 / (i + 1);
	}
	for (u64 done = 0; done < n; done += 64 * 64 * 64) {
		for (int i = 0; i < 64; i++)
			for (int j = 0; j < 64; j += 4) {
				__m256d s = _mm256_setzero_pd();

				for (int k = 0; k < 64; k++)
					s = _mm256_fmadd_pd(_mm256_set1_pd(a[i][k]),
							    _mm256_loadu_pd(&b[k][j]), s);
				_mm256_storeu_pd(&c[i][j], s);
			}
		sink += (u64)c[3][5];
	}
}

static void row_avx2(u64 n)
{
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		matmul_avx2(n);
}

static void row_x87(u64 n)
{
	long double x = 1.0L, y = 0.5L;

	for (u64 i = 0; i < n; i++) {
		x = x * 1.0000001L + y;
		y = y * 0.9999999L - 1e-9L;
	}
	sink += (u64)x;
}

static void row_getppid(u64 n)
{
	while (n--)
		syscall(SYS_getppid);
}

static void row_pagefault(u64 n)
{
	while (n) {
		u64 m = n < 64 ? n : 64;
		u8 *p = mmap(NULL, m * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);

		madvise(p, m * 4096, MADV_NOHUGEPAGE);
		for (u64 i = 0; i < m; i++)
			p[i * 4096] = 1;
		munmap(p, m * 4096);
		n -= m;
	}
}

static void row_fork(u64 n)
{
	while (n--) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void row_pipe(u64 n)
{
	int a[2], b[2];
	char c = 0;
	pid_t pid;

	if (pipe(a) || pipe(b))
		return;
	pid = fork();
	if (!pid) {
		close(a[1]);
		close(b[0]);
		while (read(a[0], &c, 1) == 1 && write(b[1], &c, 1) == 1)
			;
		_exit(0);
	}
	close(a[0]);
	close(b[1]);
	while (n-- && write(a[1], &c, 1) == 1 && read(b[0], &c, 1) == 1)
		;
	close(a[1]);
	close(b[0]);
	waitpid(pid, NULL, 0);
}

static void row_cpuid(u64 n)
{
	while (n--) {
		u32 a = 0, b, c = 0, d;

		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		sink += b;
	}
}

static void row_rewrite(u64 n)
{
	u8 *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);

	for (u64 i = 0; i < n; i++) {
		u32 v = i;

		p[0] = 0xb8; /* mov eax, imm32; ret */
		memcpy(p + 1, &v, 4);
		p[5] = 0xc3;
		__builtin___clear_cache((char *)p, (char *)p + 6);
		sink += ((u32(*)(void))p)();
	}
	munmap(p, 4096);
}

static void row_loop(u64 n)
{
	/* Two instructions an iteration, and nothing else */
	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(n));
}

static const struct {
	const char *name, *unit;
	void (*run)(u64 n);
	u64 batch; /* operations that take a fraction of a millisecond natively */
} rows[] = {
	{"loop", "iteration", row_loop, 1 << 16},
	{"sha256", "byte", row_sha256, 1 << 14},
	{"sieve", "number", row_sieve, 1 << 16},
	{"mix", "round", row_mix, 1 << 6},
	{"icall", "call", row_icall, 1 << 13},
	{"qsort", "element", row_qsort, 1 << 12},
	{"fib", "call", row_fib, 21891},
	{"chase256k", "load", row_chase256k, 1 << 14},
	{"chase64m", "load", row_chase64m, 1 << 12},
	{"ssecopy", "byte", row_ssecopy, 1 << 20},
	{"repmovs4k", "byte", row_repmovs, 1 << 21},
	{"matmul", "fma", row_matmul, 1 << 18},
	{"avx2", "fma", row_avx2, 1 << 18},
	{"x87", "step", row_x87, 1 << 14},
	{"getppid", "call", row_getppid, 1 << 10},
	{"pagefault", "page", row_pagefault, 64},
	{"fork", "fork+exit", row_fork, 1},
	{"pipe", "round trip", row_pipe, 64},
	{"cpuid", "instruction", row_cpuid, 16},
	{"rewrite", "rewrite+call", row_rewrite, 64},
};

int main(int argc, char **argv)
{
	double limit = argc > 1 ? atof(argv[1]) : 0.3;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double best = 1e30, start, t0;
		u64 n = rows[i].batch;
		int wanted = argc <= 2;

		for (int a = 2; a < argc; a++)
			wanted |= !strcmp(argv[a], rows[i].name);
		if (!wanted)
			continue;
		rows[i].run(rows[i].batch); /* warm */
		start = now();
		do { /* the best of the batches; batches grow until one takes 5 % of the time */
			double t;

			t0 = now();
			rows[i].run(n);
			t = now() - t0;
			if (t / n < best)
				best = t / n;
			if (t < limit / 20)
				n *= 2;
		} while (now() - start < limit);
		printf("%s %.4f %s\n", rows[i].name, best * 1e9, rows[i].unit);
	}
	return 0;
}
