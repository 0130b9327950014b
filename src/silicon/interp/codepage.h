/* SPDX-License-Identifier: MIT */
/*
 * Which host pages code was decoded from, machine-wide, so that writes to them are seen.
 *
 * Invariant: no cpu in the guest has a write TLB entry for a page in the registry. A page enters it
 * (code_add) by first being marked and then making every running cpu drop its write entries; only
 * then are the bytes taken for good. A write to a marked page comes here after the bytes are stored
 * (code_written): if it touches bytes that blocks were made from, the page leaves the registry and
 * every cpu forgets its blocks of it. Both sides store, then look at the other's mark, under the
 * registry's lock, so one of them sees the other.
 *
 * Locks: registry->lock, then m->cpus_lock. Neither is held while guest memory is touched.
 */
#ifndef SILICON_INTERP_CODEPAGE_H
#define SILICON_INTERP_CODEPAGE_H

#include "silicon/cpu/cpu.h"

#define CODE_FILTER_SIZE 65536
#define CODE_HASH_SIZE	 4096

struct code_page {
	struct code_page *next;
	hva_t page;
	/* No cpu has a write entry for it any more. Until then every cpu that wants blocks of the
	 * page makes sure itself. */
	bool settled;
	u64 born;		     /* serial when it was registered */
	u64 serial;		     /* changes when blocks of the page are forgotten */
	unsigned hits;		     /* writes to covered bytes */
	u64 covered[PAGE_SIZE / 64]; /* bytes that blocks were made from, of any cpu */
};

struct code_registry {
	pthread_mutex_t lock;
	struct code_page *hash[CODE_HASH_SIZE];
	unsigned npages;
	u64 serial;
	/* Number of registered pages by hash, read without the lock: 0 means certainly none. */
	u16 filter[CODE_FILTER_SIZE];
};

int code_registry_create(struct sil_machine *m); /* 0 or -ENOMEM */
void code_registry_destroy(struct sil_machine *m);

static inline unsigned code_filter_index(hva_t page)
{
	return ((page >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull) >> 48;
}

bool code_is_page_slow(struct code_registry *r, hva_t page);
/* Is @page registered? Any thread. */
static inline bool code_is_page(struct code_registry *r, hva_t page)
{
	return __atomic_load_n(&r->filter[code_filter_index(page)], __ATOMIC_SEQ_CST) &&
	       code_is_page_slow(r, page);
}

/*
 * Blocks of @cpu are about to be made from [@hva, @hva + @len), within one page. When it returns, a
 * later write by any cpu to these bytes drops them; bytes read before must be compared again.
 * 0 or -ENOMEM. Serves shoot-downs while it waits: this cpu's blocks may be dropped.
 */
int code_add(struct sil_cpu *cpu, hva_t hva, unsigned len);
/* Serial number of @page's registration, 0 if it is not registered. Any thread. */
u64 code_serial(struct code_registry *r, hva_t page);
/* Calls @fn with the lock held if @page still has the registration @serial. Any thread. */
bool code_commit(struct code_registry *r, hva_t page, u64 serial, void (*fn)(void *), void *arg);
/* Does the range touch registered bytes? Any thread. */
bool code_covered(struct code_registry *r, hva_t hva, u64 len);
/* Bytes at [@hva, @hva + @len) have been written. @cpu: the writer, or NULL. Any thread. */
void code_written(struct sil_machine *m, struct sil_cpu *cpu, hva_t hva, u64 len);
/* The memory goes away; no cpu runs: forgets every registered page in it. Any thread. */
void code_removed(struct sil_machine *m, hva_t hva, u64 len);
/* Serves what other cpus have asked of this one. Owner thread. */
void code_serve(struct sil_cpu *cpu);
/* Entering and leaving the guest (or a wait in it). */
void code_cpu_enter(struct sil_cpu *cpu);
void code_cpu_leave(struct sil_cpu *cpu);
/* Compares blocks made from @page with memory if sil_code_recheck asked for it. May touch memory.
 */
void code_recheck_page(struct sil_cpu *cpu, hva_t page);

#endif
