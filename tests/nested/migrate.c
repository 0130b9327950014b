/* SPDX-License-Identifier: MIT */
/*
 * Boots a guest as `kvmless boot` does, and every now and then moves it: the whole state is
 * read with the ioctls that a VMM migrates with, the VM is destroyed, another one is made and the
 * state put into it. What runs then does not notice, wherever it was: in L2, halted there, with an
 * exception on its way.
 *
 * usage: migrate MICROSECONDS|exits:N[:SEED]|slots:N[:SEED] [options of kvmless boot]
 *
 * The time between two moves is random around MICROSECONDS. Or there are moves after VM exits:
 * outside L2 after one in 64, in L2 after 1 to 2N - 1, now and then 16 times as many (fewer may not
 * be enough for an instruction: the new VM has no page mapped, and maps no large ones, so that the
 * next exits are violations in whatever the guest does, the delivery of events included).
 *
 * With "slots" the VM stays, and at such moments its memory slots are deleted and made anew over
 * another mapping of the same memory; all the while another thread makes, moves and deletes a slot
 * that nobody uses, and has the dirty log of the others on and off.
 *
 * At the end a line on stderr says how many moves there were, and how many with L2 running, halted
 * in L2, and with an event pending or being delivered.
 */
/* Headers of arrays are followed by their entries. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "cli/cli.h"
#include "kvmapi/kvmless.h"
#include "spec/abi/kvm.h"
#include "vmm/vmm.h"

#define MAX_CPUS  8
#define MAX_SETUP 16

/* What the VMM has done to the VM before its vCPUs: done to each following VM again. */
struct setup {
	unsigned long req, arg;
	u8 data[64] __attribute__((aligned(8)));
	unsigned size; /* 0: arg is the value */
};

struct vcpu {
	int fd, now; /* as the VMM knows it, and of the present VM */
	unsigned id;
	void *run; /* where the VMM has mapped it */
	struct kvm_cpuid2 *cpuid;
	bool counting;
	bool evmcs; /* KVM_CAP_HYPERV_ENLIGHTENED_VMCS */
};

static struct {
	int kvm, vm, vm_now;
	size_t run_size;
	struct setup setup[MAX_SETUP];
	unsigned nsetup;
	struct vcpu vcpu[MAX_CPUS];
	unsigned ncpus;
	struct kvm_msr_list *msrs;
	/* All vCPUs' threads meet; the last one moves the VM. */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool wanted, over;
	unsigned waiting, generation;
	pthread_rwlock_t vm_lock; /* other threads' ioctls on the VM */
	unsigned moves, in_l2, halted, events, to_l1, repeated;
	unsigned exits, seed; /* not 0: how many exits between moves */
	bool slots;	      /* move the memory, not the VM */
	struct {
		u64 at[2], size; /* two mappings of the guest's memory */
		unsigned now;
	} ram;
	unsigned changes; /* of slots while the guest runs */
} m = {.lock = PTHREAD_MUTEX_INITIALIZER,
       .cond = PTHREAD_COND_INITIALIZER,
       .vm_lock = PTHREAD_RWLOCK_INITIALIZER,
       .vm = -1};

static void fail(const char *what)
{
	fprintf(stderr, "migrate: %s: %s\n", what, strerror(errno));
	_exit(99);
}

#define DO(fd, req, arg)                                              \
	do {                                                          \
		if (kvmless_ioctl(fd, req, (unsigned long)(arg)) < 0) \
			fail(#req);                                   \
	} while (0)

/* ---- State ---- */

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	struct kvm_msrs *msrs;
	union {
		struct kvm_nested_state nested;
		u8 room[16384];
	};
};

struct vm_state {
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct vcpu_state vcpu[MAX_CPUS];
};

/* What the VMM has answered is to be in the registers, and a kick is over. */
static void finish_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_RELAXED);
	if (kvmless_ioctl(v->now, KVM_RUN, 0) >= 0 || errno != EINTR) {
		if (errno != EAGAIN)
			fail("KVM_RUN with immediate_exit");
	}
	__atomic_store_n(&run->immediate_exit, 0, __ATOMIC_RELAXED);
}

static void save_vcpu(struct vcpu *v, struct vcpu_state *s)
{
	struct kvm_run *run = v->run;
	unsigned n = m.msrs->nmsrs;

	finish_exit(v);
	DO(v->now, KVM_GET_REGS, &s->regs);
	DO(v->now, KVM_GET_SREGS2, &s->sregs);
	DO(v->now, KVM_GET_XSAVE, &s->xsave);
	DO(v->now, KVM_GET_XCRS, &s->xcrs);
	DO(v->now, KVM_GET_DEBUGREGS, &s->debugregs);
	DO(v->now, KVM_GET_MP_STATE, &s->mp);
	s->nested.size = sizeof(s->room);
	DO(v->now, KVM_GET_NESTED_STATE, &s->nested);
	if (!!(run->flags & KVM_RUN_X86_GUEST_MODE) !=
	    !!(s->nested.flags & KVM_STATE_NESTED_GUEST_MODE))
		fail("KVM_RUN does not tell whether L2 runs");
	s->msrs = calloc(1, sizeof(*s->msrs) + n * sizeof(s->msrs->entries[0]));
	if (!s->msrs)
		fail("memory");
	for (unsigned i = 0; i < n; i++) {
		/* The VMX capabilities follow from CPUID here, and cannot be set once VMX is on. */
		if (m.msrs->indices[i] >= 0x480 && m.msrs->indices[i] <= 0x491)
			continue;
		struct kvm_msr_entry *e = &s->msrs->entries[s->msrs->nmsrs];
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = {.head.nmsrs = 1, .entry.index = m.msrs->indices[i]};

		if (kvmless_ioctl(v->now, KVM_GET_MSRS, (unsigned long)&one) != 1)
			continue;
		*e = one.entry;
		s->msrs->nmsrs++;
	}
	/* After IA32_TSC_DEADLINE, which reads 0 once its interrupt is in the APIC. */
	DO(v->now, KVM_GET_LAPIC, &s->lapic);
	/* Events last: what has become pending by reading the rest is among them. */
	DO(v->now, KVM_GET_VCPU_EVENTS, &s->events);
	if (s->nested.flags & KVM_STATE_NESTED_GUEST_MODE) {
		m.in_l2++;
		m.halted += s->mp.mp_state == KVM_MP_STATE_HALTED;
		m.events += s->events.exception.pending || s->events.exception.injected ||
			    s->events.interrupt.injected || s->events.nmi.injected ||
			    s->events.nmi.pending || s->events.triple_fault.pending;
		m.repeated += !!(s->nested.flags & KVM_STATE_NESTED_RUN_PENDING);
		m.to_l1 += s->nested.flags & KVM_STATE_NESTED_MTF_PENDING ? 1 : 0;
	}
}

static void set_msr(struct vcpu *v, const struct vcpu_state *s, u32 index)
{
	for (u32 i = 0; i < s->msrs->nmsrs; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = {.head.nmsrs = 1, .entry = s->msrs->entries[i]};

		if (one.entry.index == index &&
		    kvmless_ioctl(v->now, KVM_SET_MSRS, (unsigned long)&one) != 1)
			fail("KVM_SET_MSRS of one");
	}
}

/* In the order that nested state needs: IA32_FEATURE_CONTROL allows VMXON, CR4 and EFER are there.
 */
static void load_vcpu(struct vcpu *v, struct vcpu_state *s)
{
	struct kvm_run *run = v->run;
	int n;

	if (v->evmcs) {
		u16 version;
		struct kvm_enable_cap cap = {.cap = KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
					     .args = {(u64)&version}};

		DO(v->now, KVM_ENABLE_CAP, &cap);
	}
	DO(v->now, KVM_SET_CPUID2, v->cpuid);
	set_msr(v, s, 0x3a);
	DO(v->now, KVM_SET_SREGS2, &s->sregs);
	DO(v->now, KVM_SET_NESTED_STATE, &s->nested);
	DO(v->now, KVM_SET_REGS, &s->regs);
	DO(v->now, KVM_SET_XSAVE, &s->xsave);
	DO(v->now, KVM_SET_XCRS, &s->xcrs);
	DO(v->now, KVM_SET_LAPIC, &s->lapic);
	n = kvmless_ioctl(v->now, KVM_SET_MSRS, (unsigned long)s->msrs);
	if (n != (int)s->msrs->nmsrs) {
		fprintf(stderr, "migrate: MSR 0x%x = 0x%llx is refused\n",
			s->msrs->entries[MAX(n, 0)].index,
			(unsigned long long)s->msrs->entries[MAX(n, 0)].data);
		_exit(99);
	}
	s->events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	DO(v->now, KVM_SET_VCPU_EVENTS, &s->events);
	DO(v->now, KVM_SET_MP_STATE, &s->mp);
	DO(v->now, KVM_SET_DEBUGREGS, &s->debugregs);
	/* With the deadline, after the counter. */
	set_msr(v, s, 0x6e0);
	run->request_interrupt_window = 0;
	free(s->msrs);
}

/* Pending exceptions are told from those being delivered, and there is a place for triple faults.
 */
static void know_events(void)
{
	struct kvm_enable_cap payload = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
	struct kvm_enable_cap triple = {.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = {1}};

	DO(m.vm_now, KVM_ENABLE_CAP, &payload);
	DO(m.vm_now, KVM_ENABLE_CAP, &triple);
}

static void count_exits(struct vcpu *v, unsigned n)
{
	if (kvmless_leave_after(v->now, n))
		fail("kvmless_leave_after");
}

static unsigned random_exits(void)
{
	unsigned n = 1 + (unsigned)rand_r(&m.seed) % (2 * m.exits - 1);

	return rand_r(&m.seed) % 8 ? n : 16 * n;
}

static void replay_setup(void)
{
	for (unsigned i = 0; i < m.nsetup; i++) {
		struct setup *s = &m.setup[i];

		if (s->req == KVM_SET_USER_MEMORY_REGION && m.exits) /* small pages */
			((struct kvm_userspace_memory_region *)s->data)->flags |=
				KVM_MEM_LOG_DIRTY_PAGES;
		if (kvmless_ioctl(m.vm_now, s->req, s->size ? (unsigned long)s->data : s->arg) < 0)
			fail("setting the VM up again");
	}
}

/* ---- Slots ---- */

static bool in_l2(const struct vcpu *v)
{
	union {
		struct kvm_nested_state nested;
		u8 room[16384];
	} s = {.nested.size = sizeof(s)};

	DO(v->now, KVM_GET_NESTED_STATE, &s);
	return s.nested.flags & KVM_STATE_NESTED_GUEST_MODE;
}

static struct kvm_userspace_memory_region *region(unsigned i)
{
	struct setup *s = &m.setup[i];

	return s->req == KVM_SET_USER_MEMORY_REGION ? (void *)s->data : NULL;
}

/* The VMM's memory, mapped twice. */
static void *two_mappings(size_t n)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)n))
		fail("memfd_create");
	for (unsigned i = 0; i < 2; i++) {
		void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED)
			fail("mmap of the memory");
		m.ram.at[i] = (u64)p;
	}
	m.ram.size = n;
	close(fd);
	return (void *)m.ram.at[0];
}

/* All vCPUs are outside KVM_RUN. */
static void move_slots(void)
{
	pthread_rwlock_wrlock(&m.vm_lock);
	for (unsigned i = 0; i < m.nsetup; i++) {
		struct kvm_userspace_memory_region *r = region(i), none;

		if (!r || r->userspace_addr - m.ram.at[m.ram.now] >= m.ram.size)
			continue;
		none = *r;
		none.memory_size = 0;
		DO(m.vm_now, KVM_SET_USER_MEMORY_REGION, &none);
		r->userspace_addr += m.ram.at[!m.ram.now] - m.ram.at[m.ram.now];
		DO(m.vm_now, KVM_SET_USER_MEMORY_REGION, r);
	}
	m.ram.now = !m.ram.now;
	for (unsigned i = 0; i < m.ncpus; i++) {
		finish_exit(&m.vcpu[i]);
		m.in_l2 += in_l2(&m.vcpu[i]);
		count_exits(&m.vcpu[i], random_exits());
	}
	pthread_rwlock_unlock(&m.vm_lock);
	m.moves++;
}

/* While the guest runs: a slot of its own, and the others' dirty logs. */
static void *slot_changer(void *unused)
{
	static u8 page[2 * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
	static u8 bitmap[1 << 20];
	unsigned seed = 1;

	for (;;) {
		struct timespec ts = {.tv_nsec = 100000};
		struct kvm_userspace_memory_region own = {
			.slot = 100,
			.guest_phys_addr = (3ull << 30) + (m.changes / 3) % 5 * PAGE_SIZE,
			.memory_size = m.changes % 3 == 2 ? 0 : PAGE_SIZE,
			.userspace_addr = (u64)page,
		};

		if (m.changes % 3 == 1)
			own.guest_phys_addr += 2ull << 20;
		nanosleep(&ts, NULL);
		pthread_rwlock_wrlock(&m.vm_lock);
		if (m.over) {
			pthread_rwlock_unlock(&m.vm_lock);
			return NULL;
		}
		if (!m.vcpu[0].counting) { /* the VMM is not ready yet */
			pthread_rwlock_unlock(&m.vm_lock);
			continue;
		}
		DO(m.vm_now, KVM_SET_USER_MEMORY_REGION, &own);
		for (unsigned i = 0; i < m.nsetup && rand_r(&seed) % 4 == 0; i++) {
			struct kvm_userspace_memory_region *r = region(i);
			struct kvm_dirty_log log = {.dirty_bitmap = bitmap};

			if (!r)
				continue;
			log.slot = r->slot;
			if (r->flags & KVM_MEM_LOG_DIRTY_PAGES &&
			    r->memory_size >> 15 < sizeof(bitmap))
				DO(m.vm_now, KVM_GET_DIRTY_LOG, &log);
			r->flags ^= KVM_MEM_LOG_DIRTY_PAGES;
			DO(m.vm_now, KVM_SET_USER_MEMORY_REGION, r);
		}
		m.changes++;
		pthread_rwlock_unlock(&m.vm_lock);
	}
}

static void move(void)
{
	struct vm_state *s = m.slots ? NULL : calloc(1, sizeof(*s));

	if (m.slots) {
		move_slots();
		return;
	}
	if (!s)
		fail("memory");
	pthread_rwlock_wrlock(&m.vm_lock);
	for (unsigned i = 0; i < m.ncpus; i++)
		save_vcpu(&m.vcpu[i], &s->vcpu[i]);
	for (unsigned i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		DO(m.vm_now, KVM_GET_IRQCHIP, &s->chip[i]);
	}
	DO(m.vm_now, KVM_GET_PIT2, &s->pit);
	DO(m.vm_now, KVM_GET_CLOCK, &s->clock);

	for (unsigned i = 0; i < m.ncpus; i++)
		kvmless_close(m.vcpu[i].now);
	kvmless_close(m.vm_now);
	m.vm_now = kvmless_ioctl(m.kvm, KVM_CREATE_VM, 0);
	if (m.vm_now < 0)
		fail("KVM_CREATE_VM");
	know_events();
	replay_setup();
	s->clock.flags = 0;
	DO(m.vm_now, KVM_SET_CLOCK, &s->clock);
	for (unsigned i = 0; i < m.ncpus; i++) {
		struct vcpu *v = &m.vcpu[i];

		v->now = kvmless_ioctl(m.vm_now, KVM_CREATE_VCPU, v->id);
		if (v->now < 0)
			fail("KVM_CREATE_VCPU");
		if (mmap(v->run, m.run_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, v->now,
			 0) != v->run)
			fail("mmap of the vCPU");
	}
	for (unsigned i = 0; i < 3; i++)
		DO(m.vm_now, KVM_SET_IRQCHIP, &s->chip[i]);
	DO(m.vm_now, KVM_SET_PIT2, &s->pit);
	for (unsigned i = 0; i < m.ncpus; i++) {
		load_vcpu(&m.vcpu[i], &s->vcpu[i]);
		if (m.exits)
			count_exits(&m.vcpu[i], random_exits());
	}
	pthread_rwlock_unlock(&m.vm_lock);
	free(s);
	m.moves++;
}

/* A vCPU's thread before KVM_RUN. */
static void meet(void)
{
	struct timespec end;
	unsigned generation;

	pthread_mutex_lock(&m.lock);
	if (!m.wanted)
		goto out;
	generation = m.generation;
	if (++m.waiting == m.ncpus) {
		move();
		m.wanted = false;
		m.waiting = 0;
		m.generation++;
		pthread_cond_broadcast(&m.cond);
		goto out;
	}
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 2;
	while (m.generation == generation)
		if (pthread_cond_timedwait(&m.cond, &m.lock, &end)) {
			/* Somebody does not come: the guest ends. */
			m.wanted = false;
			m.waiting = 0;
			m.generation++;
			pthread_cond_broadcast(&m.cond);
		}
out:
	pthread_mutex_unlock(&m.lock);
}

/* ---- Between the VMM and KVM ---- */

/* A move at the next chance: all vCPUs are to come to it. */
static void want_move(void)
{
	pthread_mutex_lock(&m.lock);
	m.wanted = m.ncpus && !m.over;
	pthread_mutex_unlock(&m.lock);
	pthread_rwlock_rdlock(&m.vm_lock);
	for (unsigned i = 0; i < m.ncpus; i++)
		if (m.vcpu[i].run)
			kvmless_kick(m.vcpu[i].now);
	pthread_rwlock_unlock(&m.vm_lock);
}

static struct vcpu *find(int fd)
{
	for (unsigned i = 0; i < m.ncpus; i++)
		if (m.vcpu[i].fd == fd)
			return &m.vcpu[i];
	return NULL;
}

static int sys_open(void)
{
	m.kvm = kvmless_open(O_RDWR | O_CLOEXEC);
	return m.kvm;
}

static void record(unsigned long req, unsigned long arg)
{
	struct setup *s = &m.setup[m.nsetup++];

	if (m.nsetup > MAX_SETUP)
		fail("too many ioctls of a VM");
	s->req = req;
	s->arg = arg;
	/* _IOC_SIZE, where there is an argument in memory. */
	s->size = req == KVM_SET_TSS_ADDR || req == KVM_CREATE_IRQCHIP ? 0 : req >> 16 & 0x3fff;
	if (s->size > sizeof(s->data))
		fail("a long ioctl of a VM");
	if (s->size)
		memcpy(s->data, (const void *)arg, s->size);
}

static int vm_ioctl(unsigned long req, unsigned long arg)
{
	int r;

	pthread_rwlock_rdlock(&m.vm_lock);
	r = kvmless_ioctl(m.vm_now, req, arg);
	pthread_rwlock_unlock(&m.vm_lock);
	if (r < 0)
		return r;
	switch (req) {
	case KVM_CREATE_VCPU:
		m.vcpu[m.ncpus++] = (struct vcpu){.fd = r, .now = r, .id = (unsigned)arg};
		break;
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_SET_IDENTITY_MAP_ADDR:
	case KVM_SET_TSS_ADDR:
	case KVM_CREATE_IRQCHIP:
	case KVM_CREATE_PIT2: record(req, arg); break;
	default: break;
	}
	return r;
}

static int sys_ioctl(int fd, unsigned long req, unsigned long arg)
{
	struct vcpu *v = find(fd);
	int r;

	if (fd == m.vm)
		return vm_ioctl(req, arg);
	if (!v) {
		r = kvmless_ioctl(fd, req, arg);
		if (req == KVM_CREATE_VM) {
			m.vm = m.vm_now = r;
			know_events();
		}
		if (req == KVM_GET_VCPU_MMAP_SIZE)
			m.run_size = (size_t)r;
		return r;
	}
	if (req == KVM_ENABLE_CAP &&
	    ((const struct kvm_enable_cap *)arg)->cap == KVM_CAP_HYPERV_ENLIGHTENED_VMCS)
		v->evmcs = true;
	if (req == KVM_SET_CPUID2) {
		const struct kvm_cpuid2 *c = (const void *)arg;
		size_t n = sizeof(*c) + c->nent * sizeof(c->entries[0]);

		free(v->cpuid);
		v->cpuid = malloc(n);
		if (!v->cpuid)
			fail("memory");
		memcpy(v->cpuid, c, n);
	}
	if (req != KVM_RUN)
		return kvmless_ioctl(v->now, req, arg);
	if (m.exits && !v->counting) {
		v->counting = true;
		count_exits(v, 1);
	}
	meet();
	r = kvmless_ioctl(v->now, req, arg);
	if (m.exits && r < 0 && errno == EINTR && !m.wanted) {
		if (in_l2(v) || rand_r(&m.seed) % 64 == 0)
			want_move();
		else
			count_exits(v, 1);
		errno = EINTR;
	}
	return r;
}

static int sys_close(int fd)
{
	struct vcpu *v = find(fd);

	if (v)
		return kvmless_close(v->now);
	return kvmless_close(fd == m.vm ? m.vm_now : fd);
}

static void sys_kick(int fd, pthread_t thread)
{
	struct vcpu *v = find(fd);

	(void)thread;
	pthread_rwlock_rdlock(&m.vm_lock);
	if (v)
		kvmless_kick(v->now);
	pthread_rwlock_unlock(&m.vm_lock);
}

/* The VMM maps vCPUs itself. */
void *__real_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off)
{
	struct vcpu *v = fd >= 0 ? find(fd) : NULL;
	void *p;

	if (m.slots && !m.ram.size && (flags & MAP_ANONYMOUS) && n >= 16ul << 20)
		return two_mappings(n);
	p = __real_mmap64(addr, n, prot, flags, fd, off);

	if (v && !v->run && p != MAP_FAILED && n == m.run_size)
		v->run = p;
	return p;
}

static const struct kvm_sys sys = {
	.name = "libkvmless",
	.open = sys_open,
	.ioctl = sys_ioctl,
	.close = sys_close,
	.kick = sys_kick,
};

/* ---- The clock ---- */

static void *ticker(void *arg)
{
	const unsigned every = *(const unsigned *)arg;
	unsigned seed = every;
	bool over;

	for (;;) {
		u64 ns = (every / 2 + (unsigned)rand_r(&seed) % (every + 1)) * 1000ull;
		struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000),
				      .tv_nsec = (long)(ns % 1000000000)};

		nanosleep(&ts, NULL);
		want_move();
		pthread_mutex_lock(&m.lock);
		/* However long a move takes, the guest runs for this time between two. */
		while (m.wanted && !m.over)
			pthread_cond_wait(&m.cond, &m.lock);
		over = m.over;
		pthread_mutex_unlock(&m.lock);
		if (over)
			return NULL;
	}
}

static void at_end(void *opaque, int vm_fd, const int *vcpu_fds, unsigned ncpus)
{
	pthread_mutex_lock(&m.lock);
	pthread_rwlock_wrlock(&m.vm_lock);
	m.over = true;
	pthread_rwlock_unlock(&m.vm_lock);
	pthread_cond_broadcast(&m.cond);
	pthread_mutex_unlock(&m.lock);
}

int main(int argc, char **argv)
{
	struct vmm_options opt = {.sys = &sys, .cpus = 1, .memory = 512ull << 20, .at_end = at_end};
	struct common_options common = {0};
	unsigned every = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	pthread_t thread;
	int n, kvm, r;

	if (argc > 1 && sscanf(argv[1], "exits:%u:%u", &m.exits, &m.seed) >= 1)
		every = m.exits;
	if (argc > 1 && sscanf(argv[1], "slots:%u:%u", &m.exits, &m.seed) >= 1) {
		every = m.exits;
		m.slots = true;
	}

	for (int i = 2; i < argc; i += n) {
		n = common_parse(&common, argc - i, argv + i);
		if (!n)
			n = vmm_parse_option(&opt, "migrate", argc - i, argv + i);
		if (n <= 0)
			return VMM_USAGE;
	}
	if (every < 1 || !opt.kernel || opt.cpus > MAX_CPUS)
		return VMM_USAGE;
	kvm = kvmless_open(O_RDWR | O_CLOEXEC);
	m.msrs = calloc(1, sizeof(*m.msrs) + 1024 * sizeof(u32));
	if (kvm < 0 || !m.msrs)
		fail("open");
	m.msrs->nmsrs = 1024;
	DO(kvm, KVM_GET_MSR_INDEX_LIST, m.msrs);
	kvmless_close(kvm);
	if ((!m.exits || m.slots) &&
	    pthread_create(&thread, NULL, m.slots ? slot_changer : ticker, &every))
		fail("pthread_create");
	r = vmm_run(&opt);
	at_end(NULL, 0, NULL, 0);
	if (!m.exits || m.slots)
		pthread_join(thread, NULL);
	if (m.slots)
		fprintf(stderr, "migrate: %u changes of slots while the guest ran\n", m.changes);
	fprintf(stderr,
		"migrate: %u moves, %u with L2 running, %u of them halted, %u with an event, %u "
		"with an "
		"entry, %u with an MTF exit to come\n",
		m.moves, m.in_l2, m.halted, m.events, m.repeated, m.to_l1);
	return r;
}
