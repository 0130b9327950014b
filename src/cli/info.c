/* SPDX-License-Identifier: MIT */
/* kvmless info: capabilities and parameters of this build on this host. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "kvmapi/kvmless.h"
#include "spec/abi/kvm.h"

static const struct {
	const char *name;
	u32 cap;
} caps[] = {
#define CAP(name)                     \
	{                             \
#name, KVM_CAP_##name \
	}
	CAP(IRQCHIP),	      CAP(USER_MEMORY),	  CAP(NR_VCPUS),
	CAP(MAX_VCPUS),	      CAP(NR_MEMSLOTS),	  CAP(IRQFD),
	CAP(IOEVENTFD),	      CAP(SPLIT_IRQCHIP), CAP(TSC_DEADLINE_TIMER),
	CAP(TSC_CONTROL),     CAP(X86_SMM),	  CAP(NESTED_STATE),
	CAP(DIRTY_LOG_RING),  CAP(GUEST_MEMFD),	  CAP(X86_USER_SPACE_MSR),
	CAP(BINARY_STATS_FD), CAP(SYNC_REGS),	  CAP(HYPERV),
	CAP(XEN_HVM),
#undef CAP
};

static void help(FILE *f)
{
	fprintf(f,
		"usage: kvmless info [--json] [options]\n"
		"Prints what this kvmless can do on this host.\n\n"
		"  --json            for programs\n%s\nExample: kvmless info --json | jq "
		".parameters\n",
		common_options_help);
}

static void param_text(unsigned i, char *buf, size_t n)
{
	ssize_t len = kvmless_param_get(kvmless_param_name(i, NULL, NULL), buf, n);

	buf[len > 0 && len < (ssize_t)n ? len : 0] = 0;
	buf[strcspn(buf, "\n")] = 0;
}

static void print_text(int kvm, const char *host)
{
	const char *help_text;
	char value[64];

	printf("kvmless %d.%d\nKVM API version %d\nhost %s\n\ncapabilities\n",
	       KVMLESS_VERSION_MAJOR, KVMLESS_VERSION_MINOR,
	       kvmless_ioctl(kvm, KVM_GET_API_VERSION, 0), host);
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
		printf("  %-20s %d\n", caps[i].name,
		       kvmless_ioctl(kvm, KVM_CHECK_EXTENSION, caps[i].cap));
	printf("\nparameters (--param NAME=VALUE)\n");
	for (unsigned i = 0; kvmless_param_name(i, &help_text, NULL); i++) {
		param_text(i, value, sizeof(value));
		printf("  %-38s %-8s %s\n", kvmless_param_name(i, NULL, NULL), value, help_text);
	}
}

static void print_json(int kvm, const char *host)
{
	char value[64];

	printf("{\"version\":\"%d.%d\",\"api\":%d,\"host\":", KVMLESS_VERSION_MAJOR,
	       KVMLESS_VERSION_MINOR, kvmless_ioctl(kvm, KVM_GET_API_VERSION, 0));
	json_string(stdout, host);
	printf(",\"capabilities\":{");
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
		printf("%s\"%s\":%d", i ? "," : "", caps[i].name,
		       kvmless_ioctl(kvm, KVM_CHECK_EXTENSION, caps[i].cap));
	printf("},\"parameters\":{");
	for (unsigned i = 0; kvmless_param_name(i, NULL, NULL); i++) {
		if (i)
			putchar(',');
		json_string(stdout, kvmless_param_name(i, NULL, NULL));
		putchar(':');
		param_text(i, value, sizeof(value));
		json_string(stdout, value);
	}
	printf("}}\n");
}

static const char *host_features(void)
{
#ifdef __x86_64__
	return __builtin_cpu_supports("avx2") ? "x86-64 with AVX2: SIMD instructions run natively"
					      : "x86-64 without AVX2: guests do not see AVX2";
#else
	return "not x86-64: guests see no SIMD beyond what portable code offers";
#endif
}

int cmd_info(int argc, char **argv)
{
	struct common_options common = {0};
	bool json = false;
	int kvm, n;

	for (int i = 0; i < argc; i += n) {
		n = 1;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			help(stdout);
			return 0;
		}
		if (!strcmp(argv[i], "--json")) {
			json = true;
			continue;
		}
		n = common_parse(&common, argc - i, argv + i);
		if (!n)
			fprintf(stderr, "kvmless info: unknown option %s\n", argv[i]);
		if (n <= 0)
			return 2;
	}
	kvm = kvmless_open(O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		fprintf(stderr, "kvmless info: %s\n", strerror(errno));
		return 69;
	}
	if (json)
		print_json(kvm, host_features());
	else
		print_text(kvm, host_features());
	kvmless_close(kvm);
	return 0;
}
