/* SPDX-License-Identifier: MIT */
/* Module parameters: parsing and showing the rows of params.def. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/core.h"
#include "core/params.h"

static const char *const enum_engine[] = {"auto", "interp", "jit", NULL};
static const char *const enum_root_cache[] = {"full", "drop", "off", NULL};
static const char *const enum_vendor[] = {"intel", "amd", NULL};

enum param_kind { PARAM_BOOL, PARAM_INT, PARAM_INT_OR_0, PARAM_ENUM };
#define KIND_BOOL	     PARAM_BOOL, NULL
#define KIND_INT	     PARAM_INT, NULL
#define KIND_INT_OR_0	     PARAM_INT_OR_0, NULL
#define KIND_enum_engine     PARAM_ENUM, enum_engine
#define KIND_enum_root_cache PARAM_ENUM, enum_root_cache
#define KIND_enum_vendor     PARAM_ENUM, enum_vendor

struct param_row {
	struct param_desc desc;
	enum param_kind kind;
	const char *const *words;
	u32 min, max;
	size_t offset;
};

static const struct param_row rows[] = {
#define PARAM(module, name, type, def, min, max, mode, help) \
	{{#module "." #name, help, !!((mode)&0200)},         \
	 KIND_##type,                                        \
	 min,                                                \
	 max,                                                \
	 offsetof(struct kvm_params, module##_##name)},
#include "core/params.def"
};

static pthread_mutex_t params_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvm_params params = {
#define PARAM(module, name, type, def, min, max, mode, help) .module##_##name = (def),
#include "core/params.def"
};

static const struct param_row *param_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(rows[i].desc.name, name))
			return &rows[i];
	return NULL;
}

static u32 *param_slot(const struct param_row *row)
{
	return (u32 *)((char *)&params + row->offset);
}

static int parse_bool(const char *s, u32 *out)
{
	static const char *const yes[] = {"1", "y", "Y", "yes", "on", "true", NULL};
	static const char *const no[] = {"0", "n", "N", "no", "off", "false", NULL};

	for (int i = 0; yes[i]; i++)
		if (!strcasecmp(s, yes[i]))
			return *out = 1, 0;
	for (int i = 0; no[i]; i++)
		if (!strcasecmp(s, no[i]))
			return *out = 0, 0;
	return -EINVAL;
}

static int param_parse(const struct param_row *row, const char *s, u32 *out)
{
	unsigned long val;
	char *end;

	switch (row->kind) {
	case PARAM_BOOL: return parse_bool(s, out);
	case PARAM_ENUM:
		for (u32 i = 0; row->words[i]; i++)
			if (!strcmp(s, row->words[i]))
				return *out = i, 0;
		return -EINVAL;
	case PARAM_INT:
	case PARAM_INT_OR_0: break;
	}
	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	val = strtoul(s, &end, 0);
	if (errno || (*end && *end != '\n') || val > row->max ||
	    (val < row->min && (val || row->kind != PARAM_INT_OR_0)))
		return -EINVAL;
	*out = (u32)val;
	return 0;
}

int param_set(const char *name, const char *value)
{
	const struct param_row *row = param_find(name);
	u32 val;
	int ret;

	if (!row)
		return -ENOENT;
	ret = param_parse(row, value, &val);
	if (ret)
		return ret;
	pthread_mutex_lock(&params_lock);
	*param_slot(row) = val;
	pthread_mutex_unlock(&params_lock);
	return 0;
}

/* What hangs on two-dimensional paging is off without it, whatever was asked for. */
static bool needs_ept(const u32 *slot)
{
	return slot == &params.kvm_intel_unrestricted_guest || slot == &params.kvm_intel_eptad ||
	       slot == &params.kvm_intel_pml;
}

int param_get(const char *name, char *buf, size_t n)
{
	const struct param_row *row = param_find(name);
	u32 val;

	if (!row)
		return -ENOENT;
	pthread_mutex_lock(&params_lock);
	val = *param_slot(row);
	if (needs_ept(param_slot(row)) && !params.kvm_intel_ept)
		val = 0;
	pthread_mutex_unlock(&params_lock);
	switch (row->kind) {
	case PARAM_BOOL: return snprintf(buf, n, "%c\n", val ? 'Y' : 'N');
	case PARAM_ENUM: return snprintf(buf, n, "%s\n", row->words[val]);
	default: return snprintf(buf, n, "%u\n", val);
	}
}

const struct param_desc *param_desc(unsigned index)
{
	return index < ARRAY_SIZE(rows) ? &rows[index].desc : NULL;
}

void params_snapshot(struct kvm_params *p)
{
	pthread_mutex_lock(&params_lock);
	*p = params;
	pthread_mutex_unlock(&params_lock);
}
