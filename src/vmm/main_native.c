/* SPDX-License-Identifier: MIT */
/* kvmless-vmm: the small VMM on a real /dev/kvm, one static program; the VMM inside L1. */
#include <string.h>
#include <unistd.h>

#include "vmm/vmm.h"

static void help(FILE *f)
{
	fprintf(f,
		"usage: kvmless-vmm [options] KERNEL\n"
		"Boots a Linux, PVH or multiboot kernel on /dev/kvm.\n"
		"%s"
		"Example: kvmless-vmm --cpus 2 --initrd initrd.img vmlinuz\n"
		"The console is on the terminal; Ctrl-A x quits.\n",
		vmm_options_help);
}

int main(int argc, char **argv)
{
	struct vmm_options opt = {.sys = &kvm_sys_native, .cpus = 1, .memory = 512ull << 20};
	int n;

	for (int i = 1; i < argc; i += n) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help(stdout);
			return 0;
		}
		n = vmm_parse_option(&opt, "kvmless-vmm", argc - i, argv + i);
		if (n == 0)
			fprintf(stderr, "kvmless-vmm: unknown option %s\n", argv[i]);
		if (n <= 0)
			return VMM_USAGE;
	}
	if (!opt.kernel) {
		help(stderr);
		return VMM_USAGE;
	}
	opt.interactive = isatty(STDIN_FILENO);
	return vmm_run(&opt);
}
