// SPDX-License-Identifier: MIT
/*
 * A hostile guest hypervisor. Two processors of a guest enter L2 again and again, each with its own
 * vmcs12, in which some fields have values that somebody got wrong; the structures that vmcs12
 *points to (EPT, bitmaps, MSR lists, virtual-APIC page, PML page, posted-interrupt descriptor, EPTP
 *list) are shared and overwritten by a third thread while L2 runs, and taken away now and then.
 *Every slot lies between pages without access, most structures are slots of one page; there are
 *holes and a read-only slot. Half of the guests have Hyper-V's interface, and mostly enlightened
 *VMCSs.
 *
 * What must not happen: a crash, a BUG of the core, an entry of L2 that the processor refuses (our
 *own checks are to find what is wrong before), a vCPU that hangs.
 *
 *	fuzz_nested [--seconds N] [--seed N]
 */
/* Headers of arrays are followed by their entries. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "nested.h"

static struct {
	int kvm, vcpu[NCPUS];
	struct kvm_run *run[NCPUS];
	size_t run_size;
	struct kvm_cpuid2 *cpuid;
	bool stop;
	u64 entries, exits, refused, kicks, resets, hv_exits;
	u64 errors[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON + 1]; /* by suberror */
} f;

int fuzz_vm;
bool fuzz_hv;
u64 fuzz_ctl[5];

/* ---- Choices ---- */

__thread u64 fuzz_seed;
u64 fuzz_first_seed;

u64 rnd(void)
{
	fuzz_seed ^= fuzz_seed << 13;
	fuzz_seed ^= fuzz_seed >> 7;
	fuzz_seed ^= fuzz_seed << 17;
	return fuzz_seed * 0x2545f4914f6cdd1dull;
}

u64 below(u64 n)
{
	return (rnd() >> 8) % n;
}

u64 number(void)
{
	switch (below(12)) {
	case 0: return below(8);
	case 1: return 0 - below(8);
	case 2: return BIT(below(64)) - below(3) + 1;
	case 3: return 0x20000 + below(0x60) * 0x1000; /* a structure of ours */
	case 4: return MEM - below(0x2000);	       /* where memory ends */
	case 5: return MEM + below(4) * 0x1000;
	/* Where a structure's slot ends, a hole, a read-only page. */
	case 9: return STRUCTURES + 0x1000 * (1 + below(14)) - 8 * below(4);
	case 10: return 0x30000 + below(0x10) * 0x1000 + below(2) * below(0x1000);
	case 11: return READ_ONLY + below(3) * 0xff8;
	case 6: return rnd() & 0xffffffff;
	case 7: return 0x1000 * below(1 << 20);
	default: return rnd();
	}
}

void __attribute__((noreturn)) fail(const char *what)
{
	fprintf(stderr, "fuzz_nested: %s (errno %s), seed %#lx\n", what, strerrorname_np(errno),
		fuzz_first_seed);
	_exit(1);
}

/* ---- vCPUs ---- */

static void set_up(unsigned cpu)
{
	struct kvm_nested_state ns = {.size = sizeof(ns)};
	struct kvm_segment data = {
		.limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_vcpu_events events = {0};
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_regs regs = {.rip = L1_CODE, .rsp = L1_STACK, .rbx = BOX(cpu), .rflags = 2};
	struct kvm_sregs s;

	ns.hdr.vmx.vmxon_pa = ns.hdr.vmx.vmcs12_pa = ~0ull;
	DO(f.vcpu[cpu], KVM_SET_NESTED_STATE, &ns);
	DO(f.vcpu[cpu], KVM_GET_SREGS, &s);
	s.cs = s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs.selector = 8;
	s.cs.type = 11;
	s.cs.l = 1;
	s.cs.db = 0;
	s.tr = (struct kvm_segment){.limit = 0x67, .selector = 0x18, .type = 11, .present = 1};
	s.cr0 = CR0_PE | CR0_PG | CR0_NE;
	s.cr3 = L1_TABLES;
	s.cr4 = CR4_PAE | CR4_VMXE;
	s.efer = 0xd01;
	s.cr8 = 0;
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	DO(f.vcpu[cpu], KVM_SET_SREGS, &s);
	DO(f.vcpu[cpu], KVM_SET_REGS, &regs);
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		       KVM_VCPUEVENT_VALID_SMM;
	DO(f.vcpu[cpu], KVM_SET_VCPU_EVENTS, &events);
	DO(f.vcpu[cpu], KVM_SET_MP_STATE, &mp);
	f.resets++;
}

static void internal_error(const struct kvm_run *run)
{
	if (run->internal.suberror >= ARRAY_SIZE(f.errors))
		fail("an internal error of no known kind");
	__atomic_add_fetch(&f.errors[run->internal.suberror], 1, __ATOMIC_RELAXED);
	if (run->internal.ndata < 16)
		return;
	fprintf(stderr, "fuzz_nested: %.127s\n", (const char *)run->internal.data);
	fail("a BUG of the core");
}

static void *vcpu_thread(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg, kicks = 0;
	struct kvm_run *run = f.run[cpu];

	fuzz_seed = fuzz_first_seed * (cpu + 2) | 1;
	write_memory(cpu);
	set_up(cpu);
	while (!__atomic_load_n(&f.stop, __ATOMIC_ACQUIRE)) {
		if (kvmless_ioctl(f.vcpu[cpu], KVM_RUN, 0) < 0) {
			/* No slot is over memory that is missing, so there is no EFAULT. */
			if (errno != EINTR && errno != EAGAIN)
				fail("KVM_RUN");
			__atomic_add_fetch(&f.kicks, 1, __ATOMIC_RELAXED);
			if (++kicks < 6)
				continue;
			write_memory(cpu);
			set_up(cpu);
			kicks = 0;
			continue;
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (run->io.port == 0x10) {
				u8 al = *((u8 *)run + run->io.data_offset);

				__atomic_add_fetch(al == 3   ? &f.exits
						   : al == 2 ? &f.refused
							     : &f.entries,
						   1, __ATOMIC_RELAXED);
				if (al == 3 && fuzz_hv)
					__atomic_add_fetch(&f.hv_exits, 1, __ATOMIC_RELAXED);
				kicks = 0;
				if (al == 1 && below(4))
					write_memory(cpu);
				else
					mutate(cpu);
			}
			continue;
		case KVM_EXIT_FAIL_ENTRY: fail("the processor has refused an entry");
		case KVM_EXIT_INTERNAL_ERROR: internal_error(run); break;
		default: break;
		}
		write_memory(cpu);
		set_up(cpu);
	}
	return NULL;
}

/* The third party: memory changes while L2 runs, and vCPUs do not stay where they are. */
static void *disturber(void *arg)
{
	fuzz_seed = fuzz_first_seed * 7 | 1;
	for (unsigned n = 0; !__atomic_load_n(&f.stop, __ATOMIC_ACQUIRE); n++) {
		struct timespec ts = {.tv_nsec = 100000 + (long)below(300000)};

		nanosleep(&ts, NULL);
		if (!below(16))
			mem_take_away(STRUCTURES + below(14) * 0x1000);
		if (fuzz_hv && !below(32))
			mem_take_away(HV_VMCS(below(2 * NCPUS)));
		if (fuzz_hv && !below(4)) {
			/* Too late for an entry that is under way: it is read but once. */
			mem_lock();
			__atomic_store_n(&at(HV_VMCS(below(NCPUS)))[below(128)], number(),
					 __ATOMIC_RELAXED);
			if (!below(8))
				__atomic_store_n(&at(ASSIST(below(NCPUS)))[4 + below(4)], number(),
						 __ATOMIC_RELAXED);
			mem_unlock();
		}
		for (u64 k = below(8); k; k--) {
			u64 page = below(3)   ? STRUCTURES + below(14) * 0x1000
				   : below(2) ? EPT_ROOT + below(5) * 0x1000
					      : L2_TABLES + below(4) * 0x1000;

			__atomic_store_n(&at(page)[below(below(2) ? 16 : 512)],
					 below(2) ? number() : *at(page) ^ BIT(below(64)),
					 __ATOMIC_RELAXED);
		}
		/* vmcs12 in memory, which the processor may keep elsewhere. */
		if (!below(8))
			__atomic_store_n(&at(REGION(below(NCPUS)))[below(512)], number(),
					 __ATOMIC_RELAXED);
		if (!(n % 4))
			kvmless_kick(f.vcpu[below(NCPUS)]);
	}
	return arg;
}

/* ---- VMs ---- */

/* Hyper-V's leaves instead of KVM's. */
static void add_hv_cpuid(int kvm)
{
	struct kvm_cpuid2 *hv = calloc(1, sizeof(*hv) + 32 * sizeof(hv->entries[0]));
	u32 n = 0;

	if (!hv)
		fail("memory");
	hv->nent = 32;
	DO(kvm, KVM_GET_SUPPORTED_HV_CPUID, hv);
	for (u32 i = 0; i < f.cpuid->nent; i++)
		if (f.cpuid->entries[i].function >> 28 != 4)
			f.cpuid->entries[n++] = f.cpuid->entries[i];
	for (u32 i = 0; i < hv->nent; i++)
		f.cpuid->entries[n++] = hv->entries[i];
	f.cpuid->nent = n;
	free(hv);
}

static void start_hv(unsigned cpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[3];
	} m = {.head.nmsrs = 3,
	       .entry = {{.index = 0x40000000, .data = 1},
			 {.index = 0x40000073, .data = ASSIST(cpu) | 1},
			 {.index = 0x40000002, .data = cpu}}};
	u16 version;
	struct kvm_enable_cap cap = {.cap = KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
				     .args = {(u64)&version}};

	DO(f.vcpu[cpu], KVM_ENABLE_CAP, &cap);
	DO(f.vcpu[cpu], KVM_SET_MSRS, &m);
}

/* What an enlightened VMCS cannot say: mistakes that are made anyway, but not always. */
static void leave_out(void)
{
	static const u64 gone[5] = {BIT(6) | BIT(7), 0, BIT(22), 0,
				    BIT(0) | BIT(8) | BIT(9) | BIT(10) | BIT(13) | BIT(14) |
					    BIT(17)};

	for (unsigned i = 0; i < 5; i++)
		fuzz_ctl[i] &= ~(gone[i] << 32);
}

static void start_vm(void)
{
	static const char *const params[] = {"kvm_intel.ept",
					     "kvm_intel.enable_shadow_vmcs",
					     "kvm_intel.enable_apicv",
					     "kvmless.lazy_vmcs12",
					     "kvmless.shadow_read_only",
					     "kvmless.vmwrite_any",
					     "kvm_intel.vpid",
					     "kvm_intel.eptad"};
	static const u32 msrs[] = {0x48d, 0x48e, 0x48f, 0x490, 0x48b};

	/* Mostly as users have them. */
	for (unsigned i = 0; i < ARRAY_SIZE(params); i++)
		if (kvmless_param_set(params[i], (i == 2) != !below(3) ? "0" : "1"))
			fail(params[i]);
	if (kvmless_param_set("kvmless.engine", below(2) ? "interp" : "auto"))
		fail("kvmless.engine");
	f.kvm = kvmless_open(O_RDWR | O_CLOEXEC);
	fuzz_vm = kvmless_ioctl(f.kvm, KVM_CREATE_VM, 0);
	if (fuzz_vm < 0)
		fail("KVM_CREATE_VM");
	DO(fuzz_vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	DO(fuzz_vm, KVM_CREATE_IRQCHIP, 0);
	mem_add_slots();
	f.run_size = (size_t)kvmless_ioctl(f.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (!f.cpuid) {
		f.cpuid = calloc(1, sizeof(*f.cpuid) + 256 * sizeof(f.cpuid->entries[0]));
		if (!f.cpuid)
			fail("memory");
	}
	f.cpuid->nent = 256;
	DO(f.kvm, KVM_GET_SUPPORTED_CPUID, f.cpuid);
	fuzz_hv = below(2);
	if (fuzz_hv)
		add_hv_cpuid(f.kvm);
	for (unsigned i = 0; i < NCPUS; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = {.head.nmsrs = 1, .entry = {.index = 0x3a, .data = 5}};

		f.vcpu[i] = kvmless_ioctl(fuzz_vm, KVM_CREATE_VCPU, i);
		if (f.vcpu[i] < 0)
			fail("KVM_CREATE_VCPU");
		f.run[i] = mmap(NULL, f.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, f.vcpu[i], 0);
		if (f.run[i] == MAP_FAILED)
			fail("mmap");
		DO(f.vcpu[i], KVM_SET_CPUID2, f.cpuid);
		DO(f.vcpu[i], KVM_SET_MSRS, &one);
		for (unsigned k = 0; k < ARRAY_SIZE(msrs); k++) {
			one.entry.index = msrs[k];
			DO(f.vcpu[i], KVM_GET_MSRS, &one);
			fuzz_ctl[k] = one.entry.data;
		}
		if (fuzz_hv)
			start_hv(i);
	}
	if (fuzz_hv && below(4))
		leave_out();
}

static void end_vm(void)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		munmap(f.run[i], f.run_size);
		kvmless_close(f.vcpu[i]);
	}
	kvmless_close(fuzz_vm);
	kvmless_close(f.kvm);
}

static void one_vm(void)
{
	pthread_t thread[NCPUS + 1];
	struct timespec ts = {.tv_nsec = 500000000};

	start_vm();
	f.stop = false;
	for (unsigned i = 0; i < NCPUS; i++)
		if (pthread_create(&thread[i], NULL, vcpu_thread, (void *)(uintptr_t)i))
			fail("pthread_create");
	if (pthread_create(&thread[NCPUS], NULL, disturber, NULL))
		fail("pthread_create");
	nanosleep(&ts, NULL);
	__atomic_store_n(&f.stop, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < NCPUS; i++)
		kvmless_kick(f.vcpu[i]);
	/* A vCPU that cannot be got out hangs here, and the alarm says so. */
	for (unsigned i = 0; i <= NCPUS; i++)
		pthread_join(thread[i], NULL);
	end_vm();
}

static void log_line(void *opaque, enum kvmless_log_level level, const char *line)
{
	if (strstr(line, "is refused")) {
		fprintf(stderr, "%s\n", line);
		fail("vmcs12 has passed our checks, and vmcs02 not the processor's");
	}
	if (level == KVMLESS_LOG_ERROR)
		fprintf(stderr, "%s\n", line);
}

static void on_alarm(int sig)
{
	static const char text[] = "fuzz_nested: a vCPU hangs\n";

	if (write(2, text, sizeof(text) - 1) >= 0)
		abort();
}

int main(int argc, char **argv)
{
	struct timespec start, now;
	unsigned seconds = 5;

	clock_gettime(CLOCK_MONOTONIC, &start);
	fuzz_first_seed = (u64)start.tv_nsec << 20 ^ (u64)getpid();
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			seconds = (unsigned)strtoul(argv[++i], NULL, 0);
		} else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			fuzz_first_seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: fuzz_nested [--seconds N] [--seed N]\n");
			return 2;
		}
	}
	printf("fuzz_nested: first seed %#lx\n", fuzz_first_seed);
	fflush(stdout);
	mem_init();
	signal(SIGALRM, on_alarm);
	kvmless_log(log_line, NULL, KVMLESS_LOG_WARN);
	do {
		fuzz_seed = fuzz_first_seed | 1;
		alarm(60);
		one_vm();
		fuzz_first_seed = fuzz_first_seed * 6364136223846793005ull + 1442695040888963407ull;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < seconds);
	printf("fuzz_nested: %lu rounds, %lu exits to L1 (%lu with Hyper-V's interface), %lu "
	       "entries refused, %lu kicks, %lu "
	       "set-ups; internal errors: %lu emulation, %lu simultaneous exceptions, "
	       "%lu exits in the delivery of an event, %lu unexpected exits\n",
	       f.entries, f.exits, f.hv_exits, f.refused, f.kicks, f.resets,
	       f.errors[KVM_INTERNAL_ERROR_EMULATION], f.errors[KVM_INTERNAL_ERROR_SIMUL_EX],
	       f.errors[KVM_INTERNAL_ERROR_DELIVERY_EV],
	       f.errors[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON]);
	return f.exits ? 0 : 1;
}
