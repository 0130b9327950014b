/* SPDX-License-Identifier: MIT */
/* The C library's own functions, found behind us in the search order. */
#include <dlfcn.h>

#include "shim/shim.h"

/* Not a lookup of our own: none of these is optional in glibc. */
static void *resolve(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

#define REAL(ret, name, params, args)                                    \
	ret __wrap_##name params;                                        \
	ret real_##name params                                           \
	{                                                                \
		static ret(*fn) params;                                  \
		ret(*f) params = __atomic_load_n(&fn, __ATOMIC_RELAXED); \
                                                                         \
		if (unlikely(!f)) {                                      \
			f = (ret(*) params)resolve(#name);               \
			__atomic_store_n(&fn, f, __ATOMIC_RELAXED);      \
		}                                                        \
		return f args;                                           \
	}                                                                \
	ret __wrap_##name params __attribute__((alias("real_" #name)));
#include "shim/real.def"
