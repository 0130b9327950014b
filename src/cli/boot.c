/* SPDX-License-Identifier: MIT */
/* kvmless boot: the small VMM over libkvmless. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "kvmapi/kvmless.h"
#include "vmm/vmm.h"

struct boot_options {
	struct vmm_options vmm;
	struct common_options common;
	bool stats;
	char *record;
	const char *stats_file; /* NULL: stderr, as text */
	struct timespec start;
};

static int less_open(void)
{
	return kvmless_open(O_RDWR | O_CLOEXEC);
}

static int less_ioctl(int fd, unsigned long req, unsigned long arg)
{
	return kvmless_ioctl(fd, req, arg);
}

static void less_kick(int vcpu_fd, pthread_t thread)
{
	(void)thread;
	kvmless_kick(vcpu_fd);
}

static const struct kvm_sys kvm_sys_less = {
	.name = "libkvmless",
	.open = less_open,
	.ioctl = less_ioctl,
	.close = kvmless_close,
	.kick = less_kick,
};

static void help(FILE *f)
{
	fprintf(f,
		"usage: kvmless boot [options] KERNEL\n"
		"Boots a Linux bzImage, an ELF kernel (PVH or vmlinux) or a multiboot image.\n\n"
		"%s%s"
		"  --deterministic   one vCPU whose time is its retired instructions: the run "
		"repeats\n"
		"                    exactly\n"
		"  --record FILE[,EVERY[,FROM]]\n"
		"                    with --deterministic: the vCPU's state at every exit and "
		"every\n"
		"                    EVERY instructions, to compare two runs (tests/lockstep)\n"
		"  --stats[=FILE]    at the end, print counters; to FILE as JSON\n\n"
		"The console is on the terminal; Ctrl-A x quits, Ctrl-A Ctrl-A sends one.\n"
		"Exit status: 0 power-off or reboot, the byte a guest writes to port 0xf4, %d a "
		"file\n"
		"cannot be used, %d KVM refuses, %d triple fault, %d internal error, %d VM entry "
		"failed,\n"
		"%d --timeout.\n\n"
		"Example: kvmless boot --cpus 2 --memory 1G --initrd initrd.img \\\n"
		"           --append 'console=ttyS0 quiet' --stats vmlinuz\n",
		vmm_options_help, common_options_help, VMM_BAD_FILE, VMM_NO_KVM, VMM_TRIPLE_FAULT,
		VMM_INTERNAL_ERROR, VMM_ENTRY_FAILED, VMM_TIMEOUT);
}

static void at_end(void *opaque, int vm_fd, const int *vcpu_fds, unsigned ncpus)
{
	struct boot_options *o = opaque;
	struct timespec end;
	double seconds;
	FILE *f = stderr;

	if (!o->stats)
		return;
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = end.tv_sec - o->start.tv_sec + (end.tv_nsec - o->start.tv_nsec) * 1e-9;
	if (o->stats_file) {
		f = fopen(o->stats_file, "we");
		if (!f) {
			vmm_error("--stats: '%s': %s", o->stats_file, strerror(errno));
			return;
		}
	}
	stats_print(f, o->stats_file != NULL, vm_fd, vcpu_fds, ncpus, seconds);
	if (o->stats_file)
		fclose(f);
}

/* FILE[,EVERY[,FROM]] */
static int start_record(char *arg)
{
	char *comma = strchr(arg, ',');
	unsigned long every = 0, from = 0;

	if (comma) {
		*comma = 0;
		every = strtoul(comma + 1, &comma, 0);
		if (*comma == ',')
			from = strtoul(comma + 1, &comma, 0);
	}
	if (!kvmless_record(arg, every, from))
		return 0;
	vmm_error("--record: '%s': %s", arg, strerror(errno));
	return -1;
}

static int parse(struct boot_options *o, int argc, char **argv)
{
	int n;

	for (int i = 0; i < argc; i += n) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help(stdout);
			return 1;
		}
		if (!strncmp(argv[i], "--stats", 7) && (!argv[i][7] || argv[i][7] == '=')) {
			o->stats = true;
			o->stats_file = argv[i][7] ? argv[i] + 8 : NULL;
			n = 1;
			continue;
		}
		if (!strcmp(argv[i], "--deterministic")) {
			o->vmm.deterministic = true;
			kvmless_param_set("kvmless.deterministic", "1");
			n = 1;
			continue;
		}
		if (!strcmp(argv[i], "--record") && i + 1 < argc) {
			o->record = argv[i + 1];
			n = 2;
			continue;
		}
		n = common_parse(&o->common, argc - i, argv + i);
		if (!n)
			n = vmm_parse_option(&o->vmm, "kvmless boot", argc - i, argv + i);
		if (!n)
			fprintf(stderr, "kvmless boot: unknown option %s; --help lists them\n",
				argv[i]);
		if (n <= 0)
			return -1;
	}
	if (!o->vmm.kernel) {
		fprintf(stderr,
			"kvmless boot: no kernel given; 'kvmless boot --help' has an example\n");
		return -1;
	}
	return 0;
}

int cmd_boot(int argc, char **argv)
{
	struct boot_options o = {
		.vmm = {.sys = &kvm_sys_less, .cpus = 1, .memory = 512ull << 20, .at_end = at_end}};
	int r = parse(&o, argc, argv);

	if (r)
		return r < 0 ? VMM_USAGE : 0;
	o.vmm.opaque = &o;
	o.vmm.interactive = isatty(STDIN_FILENO);
	if (o.vmm.deterministic && o.vmm.cpus != 1) {
		fprintf(stderr, "kvmless boot: --deterministic is for one processor\n");
		return VMM_USAGE;
	}
	if (o.record && start_record(o.record))
		return VMM_USAGE;
	if (o.common.trace) {
		trace_prepare(o.common.trace);
		if (kvmless_trace(o.common.trace)) {
			vmm_error("--trace: '%s': %s", o.common.trace, strerror(errno));
			return VMM_USAGE;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &o.start);
	r = vmm_run(&o.vmm);
	kvmless_trace(NULL);
	kvmless_record(NULL, 0, 0);
	return r;
}
