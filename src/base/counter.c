/* SPDX-License-Identifier: MIT */
/* The machine's time stamp counter: may it be used, how fast does it count. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "base/bits.h"
#include "base/counter.h"

/* Between the two looks at the kernel's clock: good for some parts in a million. */
#define CALIBRATION_NS	  10000000
#define CALIBRATION_TRIES 32

#if defined(__x86_64__)

/* Not before what precedes it in program order (SDM vol. 2B, RDTSC). */
u64 counter_read(void)
{
	_mm_lfence();
	return __rdtsc();
}

u64 counter_rough(void)
{
	return __rdtsc();
}

/* Same rate at all times (SDM vol. 3B, 18.17.1), and the kernel trusts it on all processors. */
static bool counter_usable(void)
{
	static const char *const derived[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page"};
	const char *path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
	unsigned a, b, c, d;
	char name[64];
	ssize_t n;
	int fd;

	if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & BIT(8)))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	n = read(fd, name, sizeof(name) - 1);
	close(fd);
	name[n > 0 ? n : 0] = 0;
	name[strcspn(name, "\n")] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(derived); i++)
		if (!strcmp(name, derived[i]))
			return true;
	return !*name;
}

/* What the processor tells, kHz; 0 if it does not. Under a hypervisor that scales the counter leaf
 * 15H may be the real processor's, and there is a leaf for this. */
static u64 told_khz(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & BIT(31))) {
		__cpuid(0x40000000, a, b, c, d);
		if (a < 0x40000010 || a > 0x400000ff)
			return 0;
		__cpuid(0x40000010, a, b, c, d);
		return a;
	}
	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		return (u64)c * b / a / 1000;
	return 0;
}

static u64 raw_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* A moment by both clocks, as near to each other as can be. */
static void look(u64 *counter, u64 *ns)
{
	u64 best = ~0ull;

	for (int i = 0; i < CALIBRATION_TRIES; i++) {
		u64 before = counter_read();
		u64 t = raw_ns();
		u64 width = counter_read() - before;

		if (width < best) {
			best = width;
			*counter = before + width / 2;
			*ns = t;
		}
	}
}

/* The kernel's raw clock is not slewed: it is the kernel's idea of the counter's frequency. */
static u64 measured_khz(void)
{
	struct timespec pause = {.tv_nsec = CALIBRATION_NS};
	u64 c0 = 0, c1 = 0, t0 = 0, t1 = 0;

	look(&c0, &t0);
	while (nanosleep(&pause, &pause) && errno == EINTR)
		;
	look(&c1, &t1);
	return t1 > t0 ? ((c1 - c0) * 1000000 + (t1 - t0) / 2) / (t1 - t0) : 0;
}

#else

u64 counter_read(void)
{
	return 0;
}

u64 counter_rough(void)
{
	return 0;
}

static bool counter_usable(void)
{
	return false;
}

static u64 told_khz(void)
{
	return 0;
}

static u64 measured_khz(void)
{
	return 0;
}

#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static u32 found_khz;

static void find_khz(void)
{
	u64 khz;
	int saved = errno;

	if (counter_usable()) {
		khz = told_khz();
		if (!khz)
			khz = measured_khz();
		if (khz >= 100000 && khz <= 10000000)
			found_khz = (u32)khz;
	}
	errno = saved;
}

u32 counter_khz(void)
{
	pthread_once(&once, find_khz);
	return found_khz;
}
