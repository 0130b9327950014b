/* SPDX-License-Identifier: MIT */
/* The options that `kvmless boot` and kvmless-vmm share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmm.h"

const char vmm_options_help[] =
	"  --cpus N          processors, 1 to 255 (default 1)\n"
	"  --memory SIZE     guest memory, e.g. 512M or 2G (default 512M, at least 16M)\n"
	"  --initrd FILE     initial RAM disk\n"
	"  --append TEXT     kernel command line (Linux's default: " VMM_LINUX_APPEND ")\n"
	"  --disk FILE       a virtio disk over a file; may be given up to 8 times\n"
	"  --phys-bits N     physical-address bits in CPUID, 36 to 52 (default: all KVM offers)\n"
	"  --hyperv          Hyper-V's interface in the place of KVM's, with enlightened VMCSs\n"
	"  --timeout SECONDS end with status 124 if the guest still runs then\n"
	"  --quiet           print nothing of our own except errors\n";

static bool parse_size(const char *s, u64 *out)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || end == s || *s == '-')
		return false;
	switch (*end) {
	case 'k':
	case 'K':
		v <<= 10;
		end++;
		break;
	case 'm':
	case 'M':
		v <<= 20;
		end++;
		break;
	case 'g':
	case 'G':
		v <<= 30;
		end++;
		break;
	case '\0': v <<= 20; break; /* a plain number is MiB, as QEMU takes it */
	}
	if (*end)
		return false;
	*out = v;
	return true;
}

static bool parse_uint(const char *s, unsigned max, unsigned *out)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(s, &end, 0);
	if (errno || end == s || *end || *s == '-' || v > max)
		return false;
	*out = v;
	return true;
}

static int set_value(struct vmm_options *opt, const char *prog, const char *name, const char *v)
{
	u64 size;

	if (!strcmp(name, "--cpus")) {
		if (!parse_uint(v, 1u << 20, &opt->cpus) || opt->cpus < 1 || opt->cpus > 255) {
			fprintf(stderr, "%s: --cpus %s: give a number from 1 to 255\n", prog, v);
			return -1;
		}
	} else if (!strcmp(name, "--memory")) {
		if (!parse_size(v, &size) || size < (16ull << 20) || size > (1ull << 40)) {
			fprintf(stderr,
				"%s: --memory %s: give a size from 16M to 1024G, e.g. 512M\n", prog,
				v);
			return -1;
		}
		opt->memory = size & ~0x1fffffull;
	} else if (!strcmp(name, "--timeout")) {
		if (!parse_uint(v, 1000000, &opt->timeout_s) || !opt->timeout_s) {
			fprintf(stderr, "%s: --timeout %s: give seconds, at least 1\n", prog, v);
			return -1;
		}
	} else if (!strcmp(name, "--phys-bits")) {
		if (!parse_uint(v, 52, &opt->phys_bits) || opt->phys_bits < 36) {
			fprintf(stderr, "%s: --phys-bits %s: give a number from 36 to 52\n", prog,
				v);
			return -1;
		}
	} else if (!strcmp(name, "--initrd")) {
		opt->initrd = v;
	} else if (!strcmp(name, "--append")) {
		opt->append = v;
	} else if (opt->ndisks == VMM_MAX_DISKS) {
		fprintf(stderr, "%s: at most %d disks\n", prog, VMM_MAX_DISKS);
		return -1;
	} else {
		opt->disk[opt->ndisks++] = v;
	}
	return 0;
}

int vmm_parse_option(struct vmm_options *opt, const char *prog, int argc, char **argv)
{
	static const char *const with_value[] = {"--cpus",   "--memory", "--phys-bits", "--timeout",
						 "--initrd", "--append", "--disk"};
	const char *arg = argv[0];

	if (!strcmp(arg, "--quiet")) {
		opt->quiet = true;
		return 1;
	}
	if (!strcmp(arg, "--hyperv")) {
		opt->hyperv = true;
		return 1;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(with_value); i++) {
		size_t n = strlen(with_value[i]);

		if (strncmp(arg, with_value[i], n) || (arg[n] && arg[n] != '='))
			continue;
		if (arg[n] == '=')
			return set_value(opt, prog, with_value[i], arg + n + 1) ? -1 : 1;
		if (argc < 2) {
			fprintf(stderr, "%s: %s needs a value\n", prog, arg);
			return -1;
		}
		return set_value(opt, prog, with_value[i], argv[1]) ? -1 : 2;
	}
	if (arg[0] == '-' && arg[1])
		return 0;
	if (opt->kernel) {
		fprintf(stderr, "%s: two kernels: '%s' and '%s'\n", prog, opt->kernel, arg);
		return -1;
	}
	opt->kernel = arg;
	return 1;
}
