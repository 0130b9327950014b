/* SPDX-License-Identifier: MIT */
/*
 * Memory for generated code, never writable and executable at the same address: a memfd mapped
 * twice. Code that was handed out stays for ever; guests can make no more of it than
 * native_code_limit, see native.c.
 */
#include "isa/exec/native.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

#define CHUNK (1u << 20)

struct chunk {
	u8 *rw;
	u8 *rx;
	unsigned used;
};

static struct chunk current;
static size_t handed_out;

static bool chunk_new(struct chunk *ch, unsigned size)
{
	int fd = memfd_create("kvmless-code", MFD_CLOEXEC);
	void *rw = MAP_FAILED, *rx = MAP_FAILED;

	if (fd < 0)
		return false;
	if (ftruncate(fd, size) == 0) {
		rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	}
	close(fd);
	if (rw == MAP_FAILED || rx == MAP_FAILED) {
		if (rw != MAP_FAILED)
			munmap(rw, size);
		if (rx != MAP_FAILED)
			munmap(rx, size);
		return false;
	}
	*ch = (struct chunk){.rw = rw, .rx = rx};
	return true;
}

void *native_code_put(const u8 *code, unsigned n)
{
	u8 *at;

	BUG_ON(n > CHUNK);
	if (!current.rw || current.used + n > CHUNK) {
		if (!chunk_new(&current, CHUNK)) {
			base_log(LOG_ERROR, "no executable memory: SIMD and x87 will raise #UD");
			return NULL;
		}
	}
	memcpy(current.rw + current.used, code, n);
	at = current.rx + current.used;
	current.used += (unsigned)align_up(n, 16);
	handed_out += align_up(n, 16);
	return at;
}

size_t native_code_used(void)
{
	return handed_out;
}

void *native_code_put_slot(const u8 *code, unsigned n)
{
	static __thread struct chunk slot;
	unsigned eax, ebx, ecx, edx;

	if (!slot.rw && !chunk_new(&slot, PAGE_SIZE))
		return NULL;
	memcpy(slot.rw, code, n);
	/* Code changed through another linear address: serialize (SDM vol. 3A, 8.1.3). */
	__cpuid(0, eax, ebx, ecx, edx);
	return slot.rx;
}
#endif
