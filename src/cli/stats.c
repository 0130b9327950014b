/* SPDX-License-Identifier: MIT */
/*
 * Counters for a person or a program, read through KVM's binary statistics interface
 * (api.rst 4.133): names, units and values are all in the files, so nothing here knows any counter.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "kvmapi/kvmless.h"
#include "spec/abi/kvm.h"

struct stats_file {
	struct kvm_stats_header h;
	struct kvm_stats_desc *desc; /* stride: sizeof + name_size */
	size_t stride;
	u64 *sum; /* first value of each, added up over files of the same shape */
};

static const struct kvm_stats_desc *desc_at(const struct stats_file *s, unsigned i)
{
	return (const void *)((const u8 *)s->desc + i * s->stride);
}

static int read_at(int fd, void *buf, size_t n, off_t off)
{
	return kvmless_pread(fd, buf, n, off) == (ssize_t)n ? 0 : -1;
}

static int load_shape(int fd, struct stats_file *s)
{
	if (read_at(fd, &s->h, sizeof(s->h), 0))
		return -1;
	s->stride = sizeof(*s->desc) + s->h.name_size;
	s->desc = malloc(s->stride * s->h.num_desc + 1);
	s->sum = calloc(s->h.num_desc + 1, sizeof(*s->sum));
	if (!s->desc || !s->sum)
		return -1;
	return read_at(fd, s->desc, s->stride * s->h.num_desc, s->h.desc_offset);
}

/* Adds the values of the object @obj_fd. */
static int add(int obj_fd, struct stats_file *s)
{
	int fd = kvmless_ioctl(obj_fd, KVM_GET_STATS_FD, 0);
	int r = 0;

	if (fd < 0)
		return -1;
	if (!s->desc)
		r = load_shape(fd, s);
	for (unsigned i = 0; !r && i < s->h.num_desc; i++) {
		u64 v;

		r = read_at(fd, &v, sizeof(v), s->h.data_offset + desc_at(s, i)->offset);
		if (!r)
			s->sum[i] += v;
	}
	kvmless_close(fd);
	return r;
}

static void print_human(FILE *f, u64 v)
{
	char buf[32];
	int n = snprintf(buf, sizeof(buf), "%" PRIu64, v);

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			fputc(' ', f);
		fputc(buf[i], f);
	}
}

static void print_text(FILE *f, const char *title, const struct stats_file *s)
{
	fprintf(f, "%s\n", title);
	for (unsigned i = 0; i < s->h.num_desc; i++) {
		if (!s->sum[i])
			continue; /* what did not happen does not need a line */
		fprintf(f, "  %-34s ", (const char *)desc_at(s, i)->name);
		print_human(f, s->sum[i]);
		fputc('\n', f);
	}
}

static u64 value(const struct stats_file *s, const char *name)
{
	for (unsigned i = 0; i < s->h.num_desc; i++)
		if (!strcmp((const char *)desc_at(s, i)->name, name))
			return s->sum[i];
	return 0;
}

static void print_json(FILE *f, const char *title, const struct stats_file *s)
{
	json_string(f, title);
	fprintf(f, ":{");
	for (unsigned i = 0; i < s->h.num_desc; i++) {
		if (i)
			fputc(',', f);
		json_string(f, (const char *)desc_at(s, i)->name);
		fprintf(f, ":%" PRIu64, s->sum[i]);
	}
	fprintf(f, "}");
}

/* ---- Handler calls ------------------------------------------------------------------------------
 */

struct calls {
	const char *name;
	unsigned long long n;
};

static int more_calls(const void *a, const void *b)
{
	const struct calls *x = a, *y = b;

	return x->n < y->n ? 1 : x->n > y->n ? -1 : 0;
}

/* Sums over the vCPUs, most frequent first, up to one without any. *@out NULL: no memory. */
static unsigned collect_calls(const int *vcpu_fds, unsigned ncpus, struct calls **out)
{
	unsigned long long n;
	unsigned rows = 0, used = 0, k;

	while (kvmless_handler_calls(vcpu_fds[0], rows, &n))
		rows++;
	*out = calloc(rows + 1, sizeof(**out));
	if (!*out)
		return 0;
	for (k = 0; k < rows; k++) {
		struct calls *c = &(*out)[used];

		for (unsigned i = 0; i < ncpus; i++) {
			c->name = kvmless_handler_calls(vcpu_fds[i], k, &n);
			c->n += n;
		}
		used += c->n != 0;
	}
	qsort(*out, used, sizeof(**out), more_calls);
	return used;
}

#define MOST_FREQUENT 20
static void print_calls(FILE *f, bool json, const int *vcpu_fds, unsigned ncpus)
{
	struct calls *c;
	unsigned n = collect_calls(vcpu_fds, ncpus, &c), k;

	if (json) {
		fprintf(f, ",\"handler_calls\":{");
		for (k = 0; k < n; k++) {
			if (k)
				fputc(',', f);
			json_string(f, c[k].name);
			fprintf(f, ":%llu", c[k].n);
		}
		fprintf(f, "}");
	} else if (n) {
		fprintf(f, "most frequent handlers called by translated code\n");
		for (k = 0; k < MIN(n, MOST_FREQUENT); k++) {
			fprintf(f, "  %-34s ", c[k].name);
			print_human(f, c[k].n);
			fputc('\n', f);
		}
	}
	free(c);
}

int stats_print(FILE *f, bool json, int vm_fd, const int *vcpu_fds, unsigned ncpus, double seconds)
{
	struct stats_file vm = {0}, vcpu = {0};
	int r = add(vm_fd, &vm);

	for (unsigned i = 0; !r && i < ncpus; i++)
		r = add(vcpu_fds[i], &vcpu);
	if (r) {
		fprintf(stderr, "kvmless: statistics: %s\n", strerror(errno));
	} else if (json) {
		fprintf(f, "{\"seconds\":%.6f,\"vcpus\":%u,", seconds, ncpus);
		print_json(f, "vm", &vm);
		fputc(',', f);
		print_json(f, "vcpu", &vcpu);
		print_calls(f, true, vcpu_fds, ncpus);
		fprintf(f, "}\n");
	} else {
		fprintf(f, "time %.3f s, %u vCPU%s\n", seconds, ncpus, ncpus == 1 ? "" : "s");
		print_text(f, "VM", &vm);
		print_text(f, ncpus == 1 ? "vCPU" : "vCPUs, sums", &vcpu);
		if (value(&vcpu, "sil_jit_timed_insns"))
			fprintf(f, "translation: %.0f ns an instruction\n",
				(double)value(&vcpu, "sil_jit_timed_ns") /
					(double)value(&vcpu, "sil_jit_timed_insns"));
		if (value(&vcpu, "sil_jit_lookups"))
			fprintf(f,
				"chaining: C looks for the target of one jump in %.0f "
				"instructions\n",
				(double)value(&vcpu, "sil_instructions") /
					(double)value(&vcpu, "sil_jit_lookups"));
		print_calls(f, false, vcpu_fds, ncpus);
	}
	free(vm.desc);
	free(vm.sum);
	free(vcpu.desc);
	free(vcpu.sum);
	return r;
}
