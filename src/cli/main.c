/* SPDX-License-Identifier: MIT */
/* kvmless: finds the sub-command. */
#include <string.h>

#include "cli/cli.h"
#include "kvmapi/kvmless.h"

static const struct {
	const char *name, *help;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"boot", "boot a kernel: Linux bzImage, PVH or plain vmlinux, multiboot", cmd_boot},
	{"info", "what this installation can do: capabilities, engines, parameters", cmd_info},
	{"run", "run a program of the KVM API, such as QEMU, with kvmless as its /dev/kvm",
	 cmd_run},
	{"stat", "sum up a trace: time by level, exits with latencies", cmd_stat},
};

static void help(FILE *f)
{
	fprintf(f, "usage: kvmless COMMAND [options]\n\n"
		   "kvmless is KVM in user space, on a software processor with VT-x.\n\n");
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-6s %s\n", commands[i].name, commands[i].help);
	fprintf(f, "\nExample: kvmless boot --cpus 2 --initrd initrd.img --append console=ttyS0 "
		   "vmlinuz\n"
		   "'kvmless COMMAND --help' lists the options; the manual is kvmless(1).\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("kvmless %d.%d\n", KVMLESS_VERSION_MAJOR, KVMLESS_VERSION_MINOR);
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 2, argv + 2);
	fprintf(stderr, "kvmless: no command '%s'; 'kvmless --help' lists them\n", argv[1]);
	return 2;
}
