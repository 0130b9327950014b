/* SPDX-License-Identifier: MIT */
/* The image that a statistics fd reads: header, id, descriptors, data (api.rst, 4.133). */
#include <stdio.h>
#include <string.h>

#include "core/vcpu.h"

#define STAT_NAME_SIZE 48
#define STAT_ID_SIZE   STAT_NAME_SIZE

/* struct kvm_stats_desc with room for the name that the ABI leaves open. */
struct stat_desc {
	u32 flags;
	s16 exponent;
	u16 size;
	u32 offset;
	u32 bucket_size;
	char name[STAT_NAME_SIZE];
};
_Static_assert(offsetof(struct stat_desc, offset) == offsetof(struct kvm_stats_desc, offset) &&
		       offsetof(struct stat_desc, name) == sizeof(struct kvm_stats_desc),
	       "the ABI's layout");

#define STAT_ROW(owner, field, type, unit, exp)                                                \
	{                                                                                      \
		.flags = KVM_STATS_TYPE_##type | KVM_STATS_UNIT_##unit | KVM_STATS_BASE_POW10, \
		.exponent = (exp), .size = 1, .offset = offsetof(struct owner, field),         \
		.name = #field                                                                 \
	}

static const struct stat_desc vm_rows[] = {
#define VM_COUNTER(name, type, unit, exp) STAT_ROW(vm_stat, name, type, unit, exp),
#define VCPU_COUNTER(name, type, unit, exp)
#include "spec/kvm_counter.def"
};
static const struct stat_desc vcpu_rows[] = {
#define VM_COUNTER(name, type, unit, exp)
#define VCPU_COUNTER(name, type, unit, exp) STAT_ROW(vcpu_stat, name, type, unit, exp),
#include "spec/kvm_counter.def"
/* The processor's own counters follow the vCPU's. */
#define SIL_ROW(label, member)                                                                   \
	{                                                                                        \
		.flags = KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10, \
		.size = 1,                                                                       \
		.offset = sizeof(struct vcpu_stat) + offsetof(struct sil_counters, member),      \
		.name = label                                                                    \
	}
#define SIL_COUNTER(name, text) SIL_ROW("sil_" #name, name),
#include "spec/sil_counter.def"
#define EXIT(name, number) SIL_ROW("exit_" #name, exits[number]),
#include "spec/exit.def"
/* Exits of L2 again, by who handled them. */
#define L2_ROW(label, array, number)                                                             \
	{                                                                                        \
		.flags = KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10, \
		.size = 1, .offset = offsetof(struct vcpu_stat, array[number]), .name = label    \
	}
#define EXIT(name, number)                                                                     \
	L2_ROW("l2_exit_" #name, l2_exits, number), L2_ROW("l2_kept_" #name, l2_kept, number), \
		L2_ROW("l2_to_l1_" #name, l2_to_l1, number),
#include "spec/exit.def"
};

/* Copies what fits of @src to offset @at of the image. */
static void put(void *buf, size_t n, size_t at, const void *src, size_t len)
{
	if (at >= n)
		return;
	memcpy((char *)buf + at, src, MIN(len, n - at));
}

size_t kvm_stats_image(struct kvm *kvm, struct kvm_vcpu *v, void *buf, size_t n)
{
	const struct stat_desc *rows = v ? vcpu_rows : vm_rows;
	size_t nrows = v ? ARRAY_SIZE(vcpu_rows) : ARRAY_SIZE(vm_rows);
	const void *data = v ? (const void *)&v->arch->stat : (const void *)&kvm->arch->stat;
	size_t data_size = v ? sizeof(struct vcpu_stat) : sizeof(struct vm_stat);
	char id[STAT_ID_SIZE] = {0};
	struct kvm_stats_header h = {
		.flags = 0,
		.name_size = STAT_NAME_SIZE,
		.num_desc = (u32)nrows,
		.id_offset = sizeof(h),
		.desc_offset = sizeof(h) + STAT_ID_SIZE,
		.data_offset = (u32)(sizeof(h) + STAT_ID_SIZE + nrows * sizeof(struct stat_desc)),
	};

	if (v)
		snprintf(id, sizeof(id), "kvmless-%p/vcpu-%u", (void *)kvm, v->id);
	else
		snprintf(id, sizeof(id), "kvmless-%p", (void *)kvm);
	put(buf, n, 0, &h, sizeof(h));
	put(buf, n, h.id_offset, id, sizeof(id));
	put(buf, n, h.desc_offset, rows, nrows * sizeof(*rows));
	put(buf, n, h.data_offset, data, data_size);
	if (v) {
		put(buf, n, h.data_offset + data_size, sil_counters(v->cpu),
		    sizeof(struct sil_counters));
		data_size += sizeof(struct sil_counters);
	}
	return h.data_offset + data_size;
}
