/* SPDX-License-Identifier: MIT */
/* The machine: VM, memory, vCPU threads, the terminal, the end. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "vmm/vmm.h"

void vmm_error(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "kvmless: %s\n", line);
}

void *vmm_mem(struct vmm *vmm, u64 gpa, u64 len)
{
	u64 high = vmm->mem_size - vmm->low_size;

	if (gpa < vmm->low_size)
		return len <= vmm->low_size - gpa ? vmm->mem + gpa : NULL;
	if (gpa >= MEM_HOLE_END && gpa - MEM_HOLE_END < high)
		return len <= high - (gpa - MEM_HOLE_END)
			       ? vmm->mem + vmm->low_size + (gpa - MEM_HOLE_END)
			       : NULL;
	return NULL;
}

static int vm_ioctl(struct vmm *vmm, unsigned long req, const void *arg)
{
	return vmm->sys->ioctl(vmm->vm_fd, req, (unsigned long)arg);
}

void vmm_set_irq(struct vmm *vmm, unsigned gsi, int level)
{
	struct kvm_irq_level irq = {.irq = gsi, .level = level};

	vm_ioctl(vmm, KVM_IRQ_LINE, &irq);
}

void vmm_stop(struct vmm *vmm, int status)
{
	u64 one = 1;

	pthread_mutex_lock(&vmm->lock);
	if (!vmm->stopping) {
		vmm->status = status;
		__atomic_store_n(&vmm->stopping, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&vmm->lock);
	if (write(vmm->stop_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: the main thread is awake anyway */
}

/* ---- vCPUs ------------------------------------------------------------------------------------
 */

static void dump_regs(struct vmm_vcpu *v)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (v->vmm->sys->ioctl(v->fd, KVM_GET_REGS, (unsigned long)&r) ||
	    v->vmm->sys->ioctl(v->fd, KVM_GET_SREGS, (unsigned long)&s))
		return;
	fprintf(stderr,
		"  vCPU %u: rip %016lx rsp %016lx rflags %08lx\n"
		"  rax %016lx rbx %016lx rcx %016lx rdx %016lx\n"
		"  rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n"
		"  r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n"
		"  r13 %016lx r14 %016lx r15 %016lx\n"
		"  cr0 %08lx cr2 %016lx cr3 %016lx cr4 %08lx efer %lx\n"
		"  cs %04x base %lx limit %x type %x l %u db %u; ss %04x; gdt %lx/%x idt "
		"%lx/%x\n",
		v->index, r.rip, r.rsp, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp,
		r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, s.cr0, s.cr2, s.cr3, s.cr4,
		s.efer, s.cs.selector, s.cs.base, s.cs.limit, s.cs.type, s.cs.l, s.cs.db,
		s.ss.selector, s.gdt.base, s.gdt.limit, s.idt.base, s.idt.limit);
}

static void report_internal_error(struct vmm_vcpu *v)
{
	const struct kvm_run *run = v->run;
	static const char *const what[] = {"?", "emulation failed", "events at the same time",
					   "delivering an event", "unexpected exit"};

	vmm_error("vCPU %u: internal error of KVM, suberror %u (%s)", v->index,
		  run->internal.suberror,
		  run->internal.suberror < ARRAY_SIZE(what) ? what[run->internal.suberror] : "?");
	for (unsigned i = 0; i < MIN(run->internal.ndata, 16u); i++)
		fprintf(stderr, "  data[%u] %016llx\n", i,
			(unsigned long long)run->internal.data[i]);
	dump_regs(v);
}

/* One exit to user space. False ends the vCPU's thread. */
static bool handle_exit(struct vmm_vcpu *v)
{
	struct kvm_run *run = v->run;
	struct vmm *vmm = v->vmm;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		for (u32 i = 0; i < run->io.count; i++)
			ports_io(vmm, run->io.port, run->io.direction == KVM_EXIT_IO_OUT,
				 run->io.size,
				 (u8 *)run + run->io.data_offset + (u64)i * run->io.size);
		return true;
	case KVM_EXIT_MMIO:
		mmio_io(vmm, run->mmio.phys_addr, run->mmio.is_write, run->mmio.len,
			run->mmio.data);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT:
	case KVM_EXIT_IRQ_WINDOW_OPEN: return true;
	case KVM_EXIT_SHUTDOWN:
		vmm_error("vCPU %u: triple fault: the guest crashed", v->index);
		dump_regs(v);
		vmm_stop(vmm, VMM_TRIPLE_FAULT);
		return false;
	case KVM_EXIT_SYSTEM_EVENT: vmm_stop(vmm, VMM_OK); return false;
	case KVM_EXIT_FAIL_ENTRY:
		vmm_error("vCPU %u: VM entry failed, hardware reason 0x%llx", v->index,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		dump_regs(v);
		vmm_stop(vmm, VMM_ENTRY_FAILED);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		report_internal_error(v);
		vmm_stop(vmm, VMM_INTERNAL_ERROR);
		return false;
	default:
		vmm_error("vCPU %u: exit reason %u, which this VMM does not know", v->index,
			  run->exit_reason);
		dump_regs(v);
		vmm_stop(vmm, VMM_INTERNAL_ERROR);
		return false;
	}
}

static void *vcpu_thread(void *arg)
{
	struct vmm_vcpu *v = arg;
	struct vmm *vmm = v->vmm;
	int r;

	while (!__atomic_load_n(&vmm->stopping, __ATOMIC_ACQUIRE)) {
		r = vmm->sys->ioctl(v->fd, KVM_RUN, 0);
		if (r < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (r < 0) {
			vmm_error("vCPU %u: KVM_RUN: %s", v->index, strerror(errno));
			dump_regs(v);
			vmm_stop(vmm, VMM_INTERNAL_ERROR);
			break;
		}
		if (!handle_exit(v))
			break;
	}
	return NULL;
}

/*
 * What KVM can do of Hyper-V's interface takes the place of its own leaves. Kernels want to see
 * Microsoft's name.
 */
static int set_hyperv_cpuid(struct vmm *vmm, struct vmm_vcpu *v, struct kvm_cpuid2 *c, u32 max)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_HYPERV_ENLIGHTENED_VMCS};
	struct kvm_cpuid2 *hv = calloc(1, sizeof(*hv) + max * sizeof(hv->entries[0]));
	u16 version;
	u32 n = 0;
	int r = -1;

	if (!hv)
		return -1;
	cap.args[0] = (u64)&version;
	if (vmm->sys->ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_ENLIGHTENED_VMCS) >
		    0 &&
	    vmm->sys->ioctl(v->fd, KVM_ENABLE_CAP, (unsigned long)&cap))
		goto out;
	hv->nent = max;
	r = vmm->sys->ioctl(v->fd, KVM_GET_SUPPORTED_HV_CPUID, (unsigned long)hv);
	if (r)
		goto out;
	for (u32 i = 0; i < c->nent; i++)
		if (c->entries[i].function >> 28 != 4)
			c->entries[n++] = c->entries[i];
	for (u32 i = 0; i < hv->nent && n < max; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[n++];

		*e = hv->entries[i];
		if (e->function == 0x40000000) {
			memcpy(&e->ebx, "Micr", 4);
			memcpy(&e->ecx, "osof", 4);
			memcpy(&e->edx, "t Hv", 4);
		}
	}
	c->nent = n;
out:
	free(hv);
	return r;
}

static int set_cpuid(struct vmm *vmm, struct vmm_vcpu *v)
{
	const unsigned max = 256;
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + max * sizeof(c->entries[0]));
	int r, deadline;

	if (!c)
		return -1;
	c->nent = max;
	deadline = vmm->sys->ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER);
	r = vmm->sys->ioctl(vmm->kvm_fd, KVM_GET_SUPPORTED_CPUID, (unsigned long)c);
	for (u32 i = 0; !r && i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == 1) {
			e->ebx = (e->ebx & 0x0000ffff) | v->index << 24 |
				 MIN(vmm->opt->cpus, 255u) << 16;
			e->ecx |= 1u << 31; /* hypervisor */
			/* Before Linux 6.14 KVM has it without saying so in CPUID. Kernels without
			 * it calibrate the APIC timer instead, which a slow processor's noise
			 * defeats. */
			if (deadline > 0)
				e->ecx |= 1u << 24;
			e->edx |= vmm->opt->cpus > 1 ? 1u << 28 : 0;
		}
		if (e->function == 0xb || e->function == 0x1f)
			e->edx = v->index;
		if (e->function == 0x80000008 && vmm->opt->phys_bits)
			e->eax = (e->eax & ~0xffu) | MIN(vmm->opt->phys_bits, e->eax & 0xff);
		/* All vCPUs are cores of one package: thread level 1, core level all. */
		if (e->function == 0xb && e->index == 0)
			*e = (struct kvm_cpuid_entry2){.function = 0xb,
						       .index = 0,
						       .flags = 1,
						       .eax = 0,
						       .ebx = 1,
						       .ecx = 0x100,
						       .edx = v->index};
		if (e->function == 0xb && e->index == 1)
			*e = (struct kvm_cpuid_entry2){
				.function = 0xb,
				.index = 1,
				.flags = 1,
				.eax = 64 - __builtin_clzll(vmm->opt->cpus * 2 - 1) - 1,
				.ebx = vmm->opt->cpus,
				.ecx = 0x201,
				.edx = v->index};
	}
	if (!r && vmm->opt->hyperv)
		r = set_hyperv_cpuid(vmm, v, c, max);
	if (!r)
		r = vmm->sys->ioctl(v->fd, KVM_SET_CPUID2, (unsigned long)c);
	free(c);
	return r;
}

/* LINT0 takes the 8259s' interrupts, LINT1 is NMI, as firmware leaves the boot processor. */
static int set_lint(struct vmm *vmm, struct vmm_vcpu *v)
{
	struct kvm_lapic_state l;
	u32 extint = 0x700, nmi = 0x400;

	if (vmm->sys->ioctl(v->fd, KVM_GET_LAPIC, (unsigned long)&l))
		return -1;
	memcpy(l.regs + 0x350, &extint, 4);
	memcpy(l.regs + 0x360, &nmi, 4);
	return vmm->sys->ioctl(v->fd, KVM_SET_LAPIC, (unsigned long)&l);
}

/*
 * What firmware leaves: fast strings on in IA32_MISC_ENABLE (kernels trust it together with CPUID),
 * and memory write-back by IA32_MTRR_DEF_TYPE.
 */
static int set_msrs(struct vmm *vmm, struct vmm_vcpu *v)
{
	static const struct kvm_msr_entry entries[] = {
		{.index = 0x1a0, .data = 1},
		{.index = 0x2ff, .data = 0x806},
	};
	struct kvm_msrs *m = calloc(1, sizeof(*m) + sizeof(entries));
	int r;

	if (!m)
		return -1;
	m->nmsrs = ARRAY_SIZE(entries);
	memcpy(m->entries, entries, sizeof(entries));
	r = vmm->sys->ioctl(v->fd, KVM_SET_MSRS, (unsigned long)m);
	free(m);
	return r == (int)ARRAY_SIZE(entries) ? 0 : -1;
}

static int vcpu_create(struct vmm *vmm, struct vmm_vcpu *v, unsigned index,
		       const struct boot_state *bs)
{
	const char *what = "KVM_CREATE_VCPU";
	struct kvm_sregs sregs;

	v->vmm = vmm;
	v->index = index;
	v->fd = vmm->sys->ioctl(vmm->vm_fd, KVM_CREATE_VCPU, index);
	if (v->fd < 0)
		goto fail;
	what = "mmap of the vCPU";
	v->run = mmap(NULL, vmm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		goto fail;
	}
	what = "KVM_SET_CPUID2";
	if (set_cpuid(vmm, v))
		goto fail;
	what = "KVM_SET_LAPIC";
	if (set_lint(vmm, v))
		goto fail;
	what = "KVM_SET_MSRS";
	if (set_msrs(vmm, v))
		goto fail;
	if (index)
		return 0; /* application processors wait for INIT and SIPI */
	what = "KVM_SET_SREGS";
	if (vmm->sys->ioctl(v->fd, KVM_GET_SREGS, (unsigned long)&sregs))
		goto fail;
	{
		struct kvm_sregs s = bs->sregs;

		s.apic_base = sregs.apic_base;
		s.cr8 = sregs.cr8;
		if (vmm->sys->ioctl(v->fd, KVM_SET_SREGS, (unsigned long)&s))
			goto fail;
	}
	what = "KVM_SET_REGS";
	if (vmm->sys->ioctl(v->fd, KVM_SET_REGS, (unsigned long)&bs->regs))
		goto fail;
	return 0;
fail:
	vmm_error("vCPU %u: %s: %s", index, what, strerror(errno));
	return VMM_NO_KVM;
}

/* ---- VM ---------------------------------------------------------------------------------------
 */

static int add_slot(struct vmm *vmm, unsigned slot, u64 gpa, u64 size, void *at)
{
	struct kvm_userspace_memory_region mr = {.slot = slot,
						 .guest_phys_addr = gpa,
						 .memory_size = size,
						 .userspace_addr = (u64)at};

	return size ? vm_ioctl(vmm, KVM_SET_USER_MEMORY_REGION, &mr) : 0;
}

static int create_memory(struct vmm *vmm)
{
	const u64 huge = 2ull << 20;
	u64 size = vmm->opt->memory;
	u8 *p;

	/* 2 MiB more, so that guest frames and host memory agree modulo 2 MiB. */
	p = mmap(NULL, size + huge, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		vmm_error("no %llu MiB of memory for the guest: %s", (unsigned long long)size >> 20,
			  strerror(errno));
		return VMM_NO_KVM;
	}
	vmm->mem = (u8 *)align_up((u64)p, huge);
	madvise(vmm->mem, size, MADV_HUGEPAGE);
	vmm->mem_size = size;
	vmm->low_size = MIN(size, MEM_HOLE_START);
	if (add_slot(vmm, 0, 0, vmm->low_size, vmm->mem) ||
	    add_slot(vmm, 1, MEM_HOLE_END, size - vmm->low_size, vmm->mem + vmm->low_size)) {
		vmm_error("KVM_SET_USER_MEMORY_REGION: %s", strerror(errno));
		return VMM_NO_KVM;
	}
	return 0;
}

static int create_vm(struct vmm *vmm)
{
	struct kvm_pit_config pit = {0};
	u64 identity = 0xfeffc000;
	const char *what = "open";

	vmm->kvm_fd = vmm->sys->open();
	if (vmm->kvm_fd < 0) {
		vmm_error("cannot open %s: %s", vmm->sys->name, strerror(errno));
		return VMM_NO_KVM;
	}
	what = "KVM_GET_API_VERSION";
	if (vmm->sys->ioctl(vmm->kvm_fd, KVM_GET_API_VERSION, 0) != 12)
		goto fail;
	what = "KVM_CREATE_VM";
	vmm->vm_fd = vmm->sys->ioctl(vmm->kvm_fd, KVM_CREATE_VM, 0);
	if (vmm->vm_fd < 0 && errno == EOPNOTSUPP) {
		vmm_error("the processor cannot do that: %s has no VM for the chosen vendor; "
			  "try --vendor intel",
			  vmm->sys->name);
		return VMM_NO_KVM;
	}
	if (vmm->vm_fd < 0)
		goto fail;
	what = "KVM_SET_IDENTITY_MAP_ADDR";
	if (vm_ioctl(vmm, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		goto fail;
	what = "KVM_SET_TSS_ADDR";
	if (vm_ioctl(vmm, KVM_SET_TSS_ADDR, (void *)0xfeffd000ul))
		goto fail;
	what = "KVM_CREATE_IRQCHIP";
	if (vm_ioctl(vmm, KVM_CREATE_IRQCHIP, NULL))
		goto fail;
	what = "KVM_CREATE_PIT2";
	if (vm_ioctl(vmm, KVM_CREATE_PIT2, &pit))
		goto fail;
	what = "KVM_GET_VCPU_MMAP_SIZE";
	{
		int n = vmm->sys->ioctl(vmm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

		if (n < 0)
			goto fail;
		vmm->run_size = n;
	}
	return 0;
fail:
	vmm_error("%s: %s", what, strerror(errno));
	return VMM_NO_KVM;
}

static int check_cpus(struct vmm *vmm)
{
	int max = vmm->sys->ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (max <= 0)
		max = 4;
	if (vmm->opt->cpus <= (unsigned)max && vmm->opt->cpus <= 255)
		return 0;
	vmm_error("--cpus %u: at most %d are possible", vmm->opt->cpus, MIN(max, 255));
	return VMM_USAGE;
}

static void destroy(struct vmm *vmm)
{
	for (unsigned i = 0; vmm->vcpus && i < vmm->opt->cpus; i++) {
		struct vmm_vcpu *v = &vmm->vcpus[i];

		if (v->run)
			munmap(v->run, vmm->run_size);
		if (v->fd >= 0)
			vmm->sys->close(v->fd);
	}
	for (unsigned i = 0; i < vmm->ndisks; i++)
		virtio_blk_destroy(vmm->disks[i]);
	serial_destroy(vmm->serial);
	if (vmm->vm_fd >= 0)
		vmm->sys->close(vmm->vm_fd);
	if (vmm->kvm_fd >= 0)
		vmm->sys->close(vmm->kvm_fd);
	if (vmm->stop_fd >= 0)
		close(vmm->stop_fd);
	free(vmm->vcpus);
	if (vmm->mem)
		munmap(vmm->mem, vmm->mem_size);
}

/* ---- The terminal and the main thread
 * ------------------------------------------------------------ */

static struct termios saved_termios;

static void terminal_raw(bool on)
{
	struct termios t = saved_termios;

	if (on) {
		tcgetattr(STDIN_FILENO, &saved_termios);
		t = saved_termios;
		cfmakeraw(&t);
		t.c_oflag |= OPOST;
		tcsetattr(STDIN_FILENO, TCSANOW, &t);
	} else {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_termios);
	}
}

/* Ctrl-A is the escape: x quits, a second Ctrl-A sends one. */
static size_t filter_escape(struct vmm *vmm, u8 *buf, size_t n, bool *escape)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		u8 c = buf[i];

		if (*escape) {
			*escape = false;
			if (c == 'x') {
				if (!vmm->opt->quiet)
					fprintf(stderr, "\r\nkvmless: ended by Ctrl-A x\r\n");
				vmm_stop(vmm, VMM_OK);
				return out;
			}
			buf[out++] = c;
		} else if (c == 1 && vmm->opt->interactive) {
			*escape = true;
		} else {
			buf[out++] = c;
		}
	}
	return out;
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static void main_loop(struct vmm *vmm)
{
	u64 end = vmm->opt->timeout_s ? now_ms() + vmm->opt->timeout_s * 1000ull : 0;
	struct pollfd p[2] = {{.fd = vmm->stop_fd, .events = POLLIN},
			      {.fd = STDIN_FILENO, .events = POLLIN}};
	u8 pending[256];
	size_t npending = 0;
	bool escape = false;

	while (!__atomic_load_n(&vmm->stopping, __ATOMIC_ACQUIRE)) {
		int wait = -1;

		if (npending) /* the UART's FIFO was full: offer the rest soon */
			wait = 5;
		if (end) {
			u64 now = now_ms();

			if (now >= end) {
				vmm_error("the guest did not end within %u s (--timeout)",
					  vmm->opt->timeout_s);
				vmm_stop(vmm, VMM_TIMEOUT);
				break;
			}
			wait = wait < 0 ? (int)MIN(end - now, 1000000ull) : wait;
		}
		if (poll(p, npending ? 1 : 2, wait) < 0 && errno != EINTR)
			break;
		if (!npending && (p[1].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))) {
			ssize_t n = read(STDIN_FILENO, pending, sizeof(pending));

			if (n <= 0)
				p[1].fd = -1; /* end of input: the guest goes on */
			else
				npending = filter_escape(vmm, pending, n, &escape);
		}
		if (npending) {
			size_t n = serial_receive(vmm->serial, pending, npending);

			memmove(pending, pending + n, npending - n);
			npending -= n;
		}
	}
}

static void stop_vcpus(struct vmm *vmm)
{
	for (unsigned i = 0; i < vmm->opt->cpus; i++) {
		struct vmm_vcpu *v = &vmm->vcpus[i];

		if (v->started) {
			__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_RELEASE);
			vmm->sys->kick(v->fd, v->thread);
		}
	}
	for (unsigned i = 0; i < vmm->opt->cpus; i++)
		if (vmm->vcpus[i].started)
			pthread_join(vmm->vcpus[i].thread, NULL);
}

static int start_vcpus(struct vmm *vmm)
{
	sigset_t all, old;
	int r = 0;

	/* Signals of the program are for the main thread; kicks unblock what they need. */
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < vmm->opt->cpus && !r; i++) {
		r = pthread_create(&vmm->vcpus[i].thread, NULL, vcpu_thread, &vmm->vcpus[i]);
		vmm->vcpus[i].started = !r;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		vmm_error("cannot start a thread: %s", strerror(r));
	return r ? VMM_NO_KVM : 0;
}

static int build(struct vmm *vmm, struct boot_state *bs)
{
	int r = create_vm(vmm);

	if (r || (r = check_cpus(vmm)) || (r = create_memory(vmm)))
		return r;
	vmm->serial = serial_create(vmm, 0x3f8, 4);
	if (!vmm->serial)
		return VMM_NO_KVM;
	for (unsigned i = 0; i < vmm->opt->ndisks; i++) {
		vmm->disks[i] = virtio_blk_create(vmm, vmm->opt->disk[i], i);
		if (!vmm->disks[i])
			return VMM_BAD_FILE;
		vmm->ndisks++;
	}
	acpi_build(vmm);
	r = boot_load(vmm, bs);
	if (r)
		return r;
	vmm->vcpus = calloc(vmm->opt->cpus, sizeof(*vmm->vcpus));
	if (!vmm->vcpus)
		return VMM_NO_KVM;
	for (unsigned i = 0; i < vmm->opt->cpus; i++)
		vmm->vcpus[i].fd = -1;
	for (unsigned i = 0; i < vmm->opt->cpus && !r; i++)
		r = vcpu_create(vmm, &vmm->vcpus[i], i, bs);
	return r;
}

int vmm_run(const struct vmm_options *opt)
{
	struct vmm vmm = {.opt = opt, .sys = opt->sys, .kvm_fd = -1, .vm_fd = -1, .stop_fd = -1};
	struct boot_state bs;
	int r;

	memset(&bs, 0, sizeof(bs));
	pthread_mutex_init(&vmm.lock, NULL);
	vmm.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmm.stop_fd < 0) {
		vmm_error("eventfd: %s", strerror(errno));
		return VMM_NO_KVM;
	}
	r = build(&vmm, &bs);
	if (!r) {
		if (opt->interactive)
			terminal_raw(true);
		r = start_vcpus(&vmm);
		if (!r)
			main_loop(&vmm);
		else
			vmm_stop(&vmm, r);
		stop_vcpus(&vmm);
		if (opt->interactive)
			terminal_raw(false);
		r = vmm.status;
		if (r == VMM_TIMEOUT)
			for (unsigned i = 0; i < opt->cpus; i++)
				dump_regs(&vmm.vcpus[i]);
		if (opt->at_end) {
			int *fds = calloc(opt->cpus, sizeof(*fds));

			for (unsigned i = 0; fds && i < opt->cpus; i++)
				fds[i] = vmm.vcpus[i].fd;
			opt->at_end(opt->opaque, vmm.vm_fd, fds, fds ? opt->cpus : 0);
			free(fds);
		}
	}
	destroy(&vmm);
	pthread_mutex_destroy(&vmm.lock);
	return r;
}
