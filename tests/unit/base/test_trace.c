/* SPDX-License-Identifier: MIT */
/* The trace's writer: the format, full buffers, threads, fork, files that are there. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/trace.h"

static char dir[] = "/tmp/kvmless-trace-XXXXXX", path[64], other[96];

static int setup(void **state)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/t", dir);
	snprintf(other, sizeof(other), "%s.%d", path, getpid());
	return 0;
}

static int teardown(void **state)
{
	trace_stop();
	unlink(path);
	unlink(other);
	return rmdir(dir);
}

static char *contents(const char *name)
{
	static char buf[16u << 20];
	FILE *f = fopen(name, "r");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, sizeof(buf) - 1, f);
	buf[n] = 0;
	fclose(f);
	return buf;
}

static unsigned count(const char *text, const char *what)
{
	size_t len = strlen(what);
	unsigned n = 0;

	/* Not strstr, which sanitizers have look for the end of the text first, each time. */
	for (; *text; text++)
		n += *text == *what && !strncmp(text, what, len);
	return n;
}

static void format(void **state)
{
	u64 t0;
	char *text, line[200];

	assert_int_equal(trace_start(path), 0);
	assert_true(trace_on());
	assert_int_equal(trace_start(path), -EBUSY);
	t0 = trace_now();
	trace_slice(TRACE_CORE, 3, 7, t0, t0 + 1234567, (u64) "CPUID", (u64) "L2", (u64) "L1");
	trace_instant(TRACE_IRQ, 3, 7, 236, (u64) "L1", 0);
	trace_instant(TRACE_INSTRUCTIONS, 3, 7, 42, 0, 0);
	trace_instant(TRACE_VCPU, 3, 7, 0, 0, 0);
	trace_text(TRACE_NESTED_REFUSED, 3, 7, "quote \" backslash \\ newline \n end");
	trace_stop();
	assert_false(trace_on());
	text = contents(path);
	assert_true(text[0] == '[' && !strcmp(text + strlen(text) - 3, "\n]\n"));
	assert_non_null(strstr(
		text, "{\"name\":\"CPUID\",\"cat\":\"L0\",\"ph\":\"X\",\"pid\":3,\"tid\":7,"));
	assert_non_null(
		strstr(text, "\"dur\":1234.567,\"args\":{\"from\":\"L2\",\"handled by\":\"L1\"}}"));
	assert_non_null(strstr(text, "\"args\":{\"vector\":236,\"into\":\"L1\",\"again\":0}}"));
	assert_non_null(
		strstr(text, "\"name\":\"instructions, vCPU 7\",\"cat\":\"guest\",\"ph\":\"C\""));
	assert_non_null(strstr(text, "\"args\":{\"name\":\"vCPU 7\"}}"));
	assert_non_null(
		strstr(text, "{\"why\":\"quote \\\" backslash \\\\ newline \\u000a end\"}"));
	assert_non_null(strstr(text, "\"args\":{\"lost\":0}}"));
	/* Off, nothing is kept for a later trace. */
	trace_instant(TRACE_IRQ, 9, 9, 1, (u64) "L1", 0);
	snprintf(line, sizeof(line), "%s.2", path);
	assert_int_equal(trace_start(line), 0);
	trace_stop();
	assert_null(strstr(contents(line), "\"pid\":9"));
	unlink(line);
}

static void *drain(void *fd)
{
	static char buf[65536];

	while (read(*(int *)fd, buf, sizeof(buf)) > 0)
		;
	return NULL;
}

/* Nobody reads what is written: producers wait for a while, once, and what is missing is counted.
 */
static void stuck(void **state)
{
	const unsigned n = 100000;
	pthread_t t;
	u64 start;
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(trace_start(path), 0);
	start = trace_now();
	for (unsigned i = 0; i < n; i++)
		trace_instant(TRACE_NESTED_ENTRY, 1, 0, 0, 0, 0);
	assert_in_range(trace_lost(), 1, n);
	/* A wait for each would take hours. */
	assert_true(trace_now() - start < 60000000000ull);
	pthread_create(&t, NULL, drain, &fd);
	trace_stop();
	pthread_cancel(t);
	pthread_join(t, NULL);
	close(fd);
}

/* More than the writer can keep up with: it is waited for, and what is missing is counted. */
static void full(void **state)
{
	const unsigned n = 40000;
	unsigned written, lost;
	char *text, *end;

	assert_int_equal(trace_start(path), 0);
	assert_int_equal(trace_lost(), 0);
	for (unsigned i = 0; i < n; i++)
		trace_instant(TRACE_NESTED_ENTRY, 1, 0, 0, 0, 0);
	trace_stop();
	lost = (unsigned)trace_lost();
	text = contents(path);
	written = count(text, "\"nested entry\"");
	assert_int_equal(written + lost, n);
	if (lost)
		assert_non_null(strstr(text, "events lost\""));
	end = strstr(text, "end of trace");
	assert_non_null(end);
	assert_int_equal(strtoul(strstr(end, "\"lost\":") + 7, NULL, 10), lost);
}

static void *emitter(void *arg)
{
	for (unsigned i = 0; i < 1000; i++)
		trace_instant(TRACE_NESTED_ENTRY, 1, (u32)(u64)arg, 0, 0, 0);
	return NULL;
}

static void threads(void **state)
{
	pthread_t t[8];
	char *text, tid[32];

	assert_int_equal(trace_start(path), 0);
	/* Twice: buffers of threads that have ended serve new ones. */
	for (unsigned round = 0; round < 2; round++) {
		for (u64 i = 0; i < 8; i++)
			assert_int_equal(pthread_create(&t[i], NULL, emitter, (void *)i), 0);
		for (unsigned i = 0; i < 8; i++)
			pthread_join(t[i], NULL);
	}
	trace_stop();
	text = contents(path);
	for (unsigned i = 0; i < 8; i++) {
		snprintf(tid, sizeof(tid), "\"tid\":%u,\"ts\"", i);
		assert_true(count(text, tid) >= 2000);
	}
}

/* A child writes nothing into its parent's file, and can begin its own. */
static void forks(void **state)
{
	char mine[96], *text;
	int status;
	pid_t pid;

	assert_int_equal(trace_start(path), 0);
	trace_instant(TRACE_IRQ, 1, 1, 1, (u64) "L1", 0);
	pid = fork();
	if (!pid) {
		bool was_on = trace_on();

		trace_instant(TRACE_IRQ, 1, 2, 2, (u64) "L1", 0);
		if (was_on || trace_start(path))
			_exit(1);
		trace_instant(TRACE_IRQ, 1, 3, 3, (u64) "L1", 0);
		exit(0); /* completes the file */
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	trace_instant(TRACE_IRQ, 1, 4, 4, (u64) "L1", 0);
	trace_stop();
	text = contents(path);
	assert_int_equal(count(text, "\"interrupt\""), 2);
	assert_null(strstr(text, "\"tid\":2,"));
	snprintf(mine, sizeof(mine), "%s.%d", path, pid);
	text = contents(mine);
	assert_int_equal(count(text, "\"interrupt\""), 1);
	assert_non_null(strstr(text, "\"tid\":3,"));
	assert_true(!strcmp(text + strlen(text) - 3, "\n]\n"));
	unlink(mine);
}

static void existing(void **state)
{
	FILE *f = fopen(path, "w");

	fputs("mine", f);
	fclose(f);
	assert_int_equal(trace_start(path), 0);
	trace_stop();
	assert_string_equal(contents(path), "mine");
	assert_non_null(strstr(contents(other), "end of trace"));
	assert_int_equal(trace_start("/nowhere/at/all"), -ENOENT);
	assert_false(trace_on());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		T(format), T(threads), T(forks), T(existing), T(full), T(stuck),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
