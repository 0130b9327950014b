/* SPDX-License-Identifier: MIT */
/* Which path names are ours. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvmapi/kvmless.h"
#include "shim/shim.h"

#define MODULES "/sys/module/"

/* "kvm", and the module of the vendor that the virtual processor has. */
static bool is_module(const char *name, size_t n)
{
	char vendor[16];
	ssize_t len;

	if (n == 3 && !memcmp(name, "kvm", 3))
		return true;
	len = kvmless_param_get("kvmless.vendor", vendor, sizeof(vendor)) - 1;
	return len > 0 && n == 4 + (size_t)len && !memcmp(name, "kvm_", 4) &&
	       !memcmp(name + 4, vendor, len);
}

/* @path begins with MODULES "kvm". */
static enum node find_module(const char *path, char *param)
{
	static const char params[] = "/parameters";
	const char *module = path + strlen(MODULES);
	size_t n = strcspn(module, "/");
	const char *rest = module + n;
	char value[64];

	if (!is_module(module, n)) {
		/* Other modules may begin with the same letters. */
		if ((n == 9 && !memcmp(module, "kvm_intel", 9)) ||
		    (n == 7 && !memcmp(module, "kvm_amd", 7)))
			return NODE_ABSENT;
		return NODE_NONE;
	}
	if (!*rest || !strcmp(rest, "/"))
		return NODE_DIR;
	if (strncmp(rest, params, sizeof(params) - 1))
		return NODE_ABSENT;
	rest += sizeof(params) - 1;
	if (!*rest || !strcmp(rest, "/"))
		return NODE_DIR;
	if (*rest != '/' || n + 1 + strlen(rest + 1) >= NODE_PARAM_MAX)
		return NODE_ABSENT;
	memcpy(param, module, n);
	param[n] = '.';
	strcpy(param + n + 1, rest + 1);
	return kvmless_param_get(param, value, sizeof(value)) < 0 ? NODE_ABSENT : NODE_PARAM;
}

/* The name @path has from the root, if it may be ours: else NULL. */
static const char *from_root(int dir, const char *path, char *buf, size_t size)
{
	char link[32];
	ssize_t n;
	size_t len;

	if (*path == '/')
		return path;
	len = strlen(path);
	/* Programs that hold a descriptor of /dev, or have changed into it. */
	if (len < 3 || strcmp(path + len - 3, "kvm") || (len > 3 && path[len - 4] != '/'))
		return NULL;
	if (dir == AT_FDCWD) {
		if (!getcwd(buf, size))
			return NULL;
		n = strlen(buf);
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
		n = readlink(link, buf, size - 1);
	}
	if (n <= 0 || n + len + 2 > size)
		return NULL;
	buf[n] = '/';
	strcpy(buf + n + 1, path);
	return buf;
}

enum node node_find(int dir, const char *path, char *param)
{
	int saved = errno;
	enum node node = NODE_NONE;
	char buf[256];

	/* A bad pointer is the system call's to refuse. */
	if ((u64)path < PAGE_SIZE)
		return NODE_NONE;
	if (*path != '/' || path[1] == 'd' || path[1] == 's') {
		path = from_root(dir, path, buf, sizeof(buf));
		if (path && !strcmp(path, "/dev/kvm"))
			node = NODE_KVM;
		else if (path && !strncmp(path, MODULES "kvm", sizeof(MODULES "kvm") - 1))
			node = find_module(path, param);
	}
	errno = saved;
	return node;
}
