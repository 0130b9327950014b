/* SPDX-License-Identifier: MIT */
/* Options of every sub-command, and JSON strings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "kvmapi/kvmless.h"

const char common_options_help[] =
	"  --engine NAME     auto, jit or interp: how guest code runs (default auto)\n"
	"  --vendor NAME     the processor that guests see: intel (amd is not there yet)\n"
	"  --param NAME=VAL  a module parameter, e.g. kvm_intel.ept=0; 'kvmless info' lists them\n"
	"  --trace FILE      write a timeline of L0, L1 and L2 for Perfetto or chrome://tracing;\n"
	"                    'kvmless stat FILE' sums it up\n"
	"  --explain         say why a guest's VM entry or VMX instruction is refused, on stderr\n"
	"  --verbose         log what the core and the processor have to say, on stderr\n";

static void log_line(void *opaque, enum kvmless_log_level level, const char *line)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};

	(void)opaque;
	fprintf(stderr, "kvmless: %s: %s\n", names[level], line);
}

static int set_param(const char *name, const char *value)
{
	if (!kvmless_param_set(name, value))
		return 0;
	if (errno == ENOENT)
		fprintf(stderr, "kvmless: no parameter '%s'; 'kvmless info' lists them\n", name);
	else
		fprintf(stderr, "kvmless: '%s' is not a value for %s\n", value, name);
	return -1;
}

static int set_assignment(const char *arg)
{
	const char *eq = strchr(arg, '=');
	char name[128];

	if (!eq || eq - arg >= (long)sizeof(name)) {
		fprintf(stderr, "kvmless: --param %s: give NAME=VALUE\n", arg);
		return -1;
	}
	memcpy(name, arg, eq - arg);
	name[eq - arg] = 0;
	return set_param(name, eq + 1);
}

int common_parse(struct common_options *o, int argc, char **argv)
{
	static const struct {
		const char *option, *param;
	} map[] = {{"--engine", "kvmless.engine"},
		   {"--vendor", "kvmless.vendor"},
		   {"--param", NULL},
		   {"--trace", NULL}};

	if (!strcmp(argv[0], "--explain")) {
		if (!o->verbose)
			kvmless_log(log_line, NULL, KVMLESS_LOG_WARN);
		return set_param("kvmless.explain", "1") ? -1 : 1;
	}
	if (!strcmp(argv[0], "--verbose")) {
		o->verbose = true;
		kvmless_log(log_line, NULL, KVMLESS_LOG_INFO);
		return 1;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(map); i++) {
		size_t n = strlen(map[i].option);
		const char *value;
		int used = 1;

		if (strncmp(argv[0], map[i].option, n) || (argv[0][n] && argv[0][n] != '='))
			continue;
		if (argv[0][n]) {
			value = argv[0] + n + 1;
		} else if (argc > 1) {
			value = argv[1];
			used = 2;
		} else {
			fprintf(stderr, "kvmless: %s needs a value\n", argv[0]);
			return -1;
		}
		if (!strcmp(map[i].option, "--trace"))
			o->trace = value;
		else if (map[i].param ? set_param(map[i].param, value) : set_assignment(value))
			return -1;
		return used;
	}
	return 0;
}

void trace_prepare(const char *path)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISREG(st.st_mode))
		unlink(path);
}

void json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(f, "\\u%04x", *s);
		else
			fputc(*s, f);
	}
	fputc('"', f);
}
