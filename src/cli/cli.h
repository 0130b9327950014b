/* SPDX-License-Identifier: MIT */
/* The kvmless command: one function a sub-command, and what they share. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdio.h>

#include "base/types.h"

/* Options that every sub-command takes: --engine, --vendor, --param, --trace, --explain,
 * --verbose. */
struct common_options {
	bool verbose;
	const char *trace; /* file, or NULL */
};
/* As vmm_parse_option: arguments taken, 0 if not ours, -1 after a message. */
int common_parse(struct common_options *o, int argc, char **argv);
extern const char common_options_help[];
/* The file of --trace is to be a new one. */
void trace_prepare(const char *path);

int cmd_boot(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_stat(int argc, char **argv);

/* The sum of the binary statistics of a VM and its vCPUs as text for a person, or as JSON. */
int stats_print(FILE *f, bool json, int vm_fd, const int *vcpu_fds, unsigned ncpus, double seconds);

/* A C string as a JSON string, quotes included. */
void json_string(FILE *f, const char *s);

#endif
