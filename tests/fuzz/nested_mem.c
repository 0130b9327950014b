// SPDX-License-Identifier: MIT
/*
 * The guest's memory. Each slot lies between pages without access, and what vmcs12 points to is in
 * slots of one page each: whoever goes on where a structure ends, or uses an address of the host
 * longer than the slot is there, is caught at the first byte, even where the core is ready for
 * missing memory.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "base/guard.h"
#include "nested.h"

/* Guest-physical ranges that are slots, each. What is not here is for devices. */
static const struct range {
	u64 start, end;
	bool read_only;
} ranges[] = {
	{0, STRUCTURES, false},
#define PAGE_SLOT(gpa)                     \
	{                                  \
		gpa, (gpa) + 0x1000, false \
	}
	PAGE_SLOT(0x22000),
	PAGE_SLOT(0x23000),
	PAGE_SLOT(0x24000),
	PAGE_SLOT(0x25000),
	PAGE_SLOT(0x26000),
	PAGE_SLOT(0x27000),
	PAGE_SLOT(0x28000),
	PAGE_SLOT(0x29000),
	PAGE_SLOT(0x2a000),
	PAGE_SLOT(0x2b000),
	PAGE_SLOT(0x2c000),
	PAGE_SLOT(0x2d000),
	PAGE_SLOT(0x2e000),
	PAGE_SLOT(0x2f000),
	PAGE_SLOT(0x40000),
	PAGE_SLOT(0x41000),
	PAGE_SLOT(0x42000),
	PAGE_SLOT(0x43000),
	PAGE_SLOT(0x44000),
	{READ_ONLY, READ_ONLY + 0x1000, true},
	{L2_TABLES, REGION(0), false},
	PAGE_SLOT(REGION(0)),
	PAGE_SLOT(REGION(1)),
	PAGE_SLOT(HV_VMCS(0)),
	PAGE_SLOT(HV_VMCS(1)),
	PAGE_SLOT(ASSIST(0)),
	PAGE_SLOT(ASSIST(1)),
	{BOX(0), MEM, false},
};
#define RANGES ARRAY_SIZE(ranges)
#define SPACE  (2 * MEM)

static u8 *space, *host[RANGES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* All that the core may touch in our space it can touch. */
static void on_fault(int sig, siginfo_t *info, void *uc)
{
	static const char text[] = "fuzz_nested: an access outside the guest's slots\n";
	const u8 *p = info->si_addr;

	if (p >= space && p < space + SPACE && write(2, text, sizeof(text) - 1) >= 0)
		abort();
	guard_dispatch(sig, info, uc);
	abort();
}

/* We come before the core, which would take such an access for missing memory. */
static void catch_faults(void)
{
	struct sigaction act = {.sa_sigaction = on_fault,
				.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

	guard_set_managed();
	if (sigaction(SIGSEGV, &act, NULL) || sigaction(SIGBUS, &act, NULL))
		fail("sigaction");
}

void mem_init(void)
{
	u64 used = PAGE_SIZE;

	catch_faults();
	space = mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (space == MAP_FAILED)
		fail("memory");
	for (unsigned i = 0; i < RANGES; i++) {
		u64 n = ranges[i].end - ranges[i].start;

		host[i] = space + used;
		used += n + PAGE_SIZE;
		if (used > SPACE)
			fail("too little space");
		if (mprotect(host[i], n, PROT_READ | PROT_WRITE))
			fail("mprotect");
		memset(host[i], ranges[i].read_only ? 0x11 : 0, n);
		if (ranges[i].read_only && mprotect(host[i], n, PROT_READ))
			fail("mprotect");
	}
}

static unsigned find(u64 gpa)
{
	for (unsigned i = 0; i < RANGES; i++)
		if (gpa >= ranges[i].start && gpa < ranges[i].end)
			return i;
	fail("the fuzzer's own address");
}

u64 *at(u64 gpa)
{
	unsigned i = find(gpa);

	return (u64 *)(host[i] + (gpa - ranges[i].start));
}

static void set_slot(unsigned i, bool present)
{
	struct kvm_userspace_memory_region mr = {
		.slot = i,
		.flags = ranges[i].read_only ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = ranges[i].start,
		.memory_size = present ? ranges[i].end - ranges[i].start : 0,
		.userspace_addr = (u64)host[i],
	};

	DO(fuzz_vm, KVM_SET_USER_MEMORY_REGION, &mr);
}

void mem_add_slots(void)
{
	for (unsigned i = 0; i < RANGES; i++)
		set_slot(i, true);
}

void mem_lock(void)
{
	pthread_mutex_lock(&lock);
}

void mem_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void mem_take_away(u64 gpa)
{
	unsigned i = find(gpa);
	u64 n = ranges[i].end - ranges[i].start;

	mem_lock();
	set_slot(i, false);
	if (mprotect(host[i], n, PROT_NONE))
		fail("mprotect");
	usleep(200);
	if (mprotect(host[i], n, PROT_READ | PROT_WRITE))
		fail("mprotect");
	set_slot(i, true);
	mem_unlock();
}
