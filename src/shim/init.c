/* SPDX-License-Identifier: MIT */
/* At the start of a program under `kvmless run`, and when it opens /dev/kvm. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvmapi/kvmless.h"
#include "kvmapi/object.h"
#include "shim/shim.h"

bool shim_on;
static pid_t owner; /* the process whose memory this is */

static void log_line(void *opaque, enum kvmless_log_level level, const char *line)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};

	dprintf(STDERR_FILENO, "kvmless: %s: %s\n", names[level], line);
}

/* "NAME=VALUE,NAME=VALUE". The command has checked them; other people's mistakes are not fatal. */
static void set_params(const char *list)
{
	char *copy = strdup(list), *save = NULL;

	for (char *s = copy ? strtok_r(copy, ",", &save) : NULL; s;
	     s = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(s, '=');

		if (!eq)
			continue;
		*eq = 0;
		if (kvmless_param_set(s, eq + 1))
			dprintf(STDERR_FILENO, "kvmless: %s: cannot set %s to '%s'\n",
				SHIM_ENV_PARAMS, s, eq + 1);
	}
	free(copy);
}

/* Errors are bugs of ours: those are told in any case. Explanations, when asked for, are warnings.
 */
static enum kvmless_log_level wanted_level(void)
{
	const char *verbose = getenv(SHIM_ENV_VERBOSE);
	char explain[8] = "";

	if (verbose && *verbose)
		return KVMLESS_LOG_INFO;
	kvmless_param_get("kvmless.explain", explain, sizeof(explain));
	return *explain == 'Y' ? KVMLESS_LOG_WARN : KVMLESS_LOG_ERROR;
}

static void child(void)
{
	owner = getpid();
	signal_forked();
}

bool shim_owns_memory(void)
{
	return getpid() == owner;
}

/* When the program becomes one of the KVM API: scripts and probes around it make no files. */
static void trace_begin(void)
{
	const char *path = getenv(SHIM_ENV_TRACE);

	if (path && *path && kvmless_trace(path) && errno != EBUSY)
		dprintf(STDERR_FILENO, "kvmless: --trace: '%s': %s\n", path, strerror(errno));
}

void shim_activate(void)
{
	trace_begin(); /* again in a child of fork */
	if (__atomic_load_n(&shim_on, __ATOMIC_ACQUIRE))
		return;
	signal_activate();
	kobj_fds_changed(); /* from now on we say so */
	__atomic_store_n(&shim_on, true, __ATOMIC_RELEASE);
}

__attribute__((constructor)) static void start(void)
{
	const char *params = getenv(SHIM_ENV_PARAMS);

	owner = getpid();
	pthread_atfork(NULL, NULL, child);
	kvmless_log(log_line, NULL, wanted_level());
	if (params) {
		set_params(params);
		kvmless_log(log_line, NULL, wanted_level());
	}
	cpuid_patch();
}
