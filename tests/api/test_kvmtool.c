/* SPDX-License-Identifier: MIT */
/*
 * A small machine made and run with the calls of kvmtool, in its order: a thread for each vCPU,
 * signals whose handlers end KVM_RUN (no immediate_exit, no signal mask), a device's thread with
 * an ioeventfd on one side and an irqfd on the other, a pause, and an end that the guest asks for.
 */
#include "api.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#define NVCPUS	 2
#define RAM	 0x100000ul
#define RING_GPA RAM /* coalesced; the page after it is not */
#define DOORBELL 0x6200

/* Real mode, one segment, stack in it. Both handlers leave a byte behind. */
GUEST(kvmtool, ".code16\n"
	       "	cli\n"
	       "	cld\n"
	       "	mov $0x11, %al\n	out %al, $0x20\n	out %al, $0xa0\n"
	       "	mov $0x20, %al\n	out %al, $0x21\n"
	       "	mov $0x28, %al\n	out %al, $0xa1\n"
	       "	mov $0x04, %al\n	out %al, $0x21\n"
	       "	mov $0x02, %al\n	out %al, $0xa1\n"
	       "	mov $0x01, %al\n	out %al, $0x21\n	out %al, $0xa1\n"
	       "	mov $0xcf, %al\n	out %al, $0x21\n" /* 4 and 5 */
	       /* Bytes one by one, each when the line is free, then a string */
	       "	mov $(hello - guest_kvmtool), %si\n"
	       "	mov $6, %cx\n"
	       "1:	mov $0x3fd, %dx\n"
	       "2:	in %dx, %al\n"
	       "	test $0x20, %al\n"
	       "	jz 2b\n"
	       "	mov $0x3f8, %dx\n"
	       "	lodsb\n"
	       "	out %al, %dx\n"
	       "	loop 1b\n"
	       "	mov $6, %cx\n"
	       "	rep outsb\n"
	       /* Device memory from 1 MiB on */
	       "	mov $0xffff, %ax\n"
	       "	mov %ax, %es\n"
	       "	mov $20, %cx\n"
	       "1:	mov %cx, %es:0x10\n"
	       "	loop 1b\n"
	       "	movb $0x5a, %es:0x1010\n"
	       /* The doorbell; the device answers with interrupt 5 */
	       "	mov $0x6200, %dx\n"
	       "	mov $1, %ax\n"
	       "	out %ax, %dx\n"
	       "	xor %ax, %ax\n"
	       "	out %ax, %dx\n"
	       "1:	cli\n"
	       "	cmpb $0, got5 - guest_kvmtool\n"
	       "	jne 2f\n"
	       "	sti\n"
	       "	hlt\n"
	       "	jmp 1b\n"
	       "2:	mov $0x3f8, %dx\n"
	       "	mov $'5', %al\n"
	       "	out %al, %dx\n"
	       "1:	cli\n"
	       "	cmpb $0, got4 - guest_kvmtool\n"
	       "	jne 2f\n"
	       "	sti\n"
	       "	hlt\n"
	       "	jmp 1b\n"
	       "2:	mov $'4', %al\n"
	       "	out %al, %dx\n"
	       /* Reset by the keyboard controller */
	       "	mov $0xfe, %al\n"
	       "	out %al, $0x64\n"
	       "1:	hlt\n"
	       "	jmp 1b\n"
	       "hello:	.ascii \"hello world\\n\"\n"
	       "got4:	.byte 0\n"
	       "got5:	.byte 0\n"
	       "	.org guest_kvmtool + 0x200\n"
	       "	movb $1, %cs:got4 - guest_kvmtool\n"
	       "	jmp 1f\n"
	       "	.org guest_kvmtool + 0x240\n"
	       "	movb $1, %cs:got5 - guest_kvmtool\n"
	       "1:	push %ax\n"
	       "	mov $0x20, %al\n"
	       "	out %al, $0x20\n"
	       "	pop %ax\n"
	       "	iret\n"
	       "	.org guest_kvmtool + 0x280\n" /* NMI */
	       "	push %ax\n"
	       "	push %dx\n"
	       "	mov $0x3f8, %dx\n"
	       "	mov $'N', %al\n"
	       "	out %al, %dx\n"
	       "	pop %dx\n"
	       "	pop %ax\n"
	       "	iret");

struct machine {
	int kvm, vm, doorbell, irq, seen5, ready, paused;
	unsigned ring_page;
	size_t run_size;
	u8 *ram;
	char out[64];
	unsigned nout, coalesced, plain, dings;
	pthread_mutex_t pause_lock;
	struct vcpu {
		struct machine *m;
		pthread_t thread;
		int fd;
		struct kvm_run *run;
		volatile sig_atomic_t running, pause, nmi;
		unsigned interrupted;
	} vcpu[NVCPUS];
};

static __thread struct vcpu *current;

/* cmocka's assertions are for its own thread. */
#define CHECK(c)                                                                    \
	do {                                                                        \
		if (!(c)) {                                                         \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #c, \
				strerrorname_np(errno));                            \
			abort();                                                    \
		}                                                                   \
	} while (0)

static void ring_bell(int fd)
{
	u64 one = 1;

	CHECK(write(fd, &one, 8) == 8);
}

static u64 wait_bell(int fd)
{
	u64 n;

	CHECK(read(fd, &n, 8) == 8);
	return n;
}

/* ---- vCPU threads ---- */

static void on_exit_signal(int sig)
{
	current->running = 0;
	kvmless_kick(current->fd);
}

static void on_pause_signal(int sig)
{
	current->pause = 1;
	kvmless_kick(current->fd);
}

static void vcpu_setup(struct vcpu *v)
{
	struct kvm_regs regs = {.rflags = 2, .rsp = 0x8000, .rbp = 0x8000};
	struct kvm_fpu fpu = {.fcw = 0x37f, .mxcsr = 0x1f80};
	struct kvm_lapic_state lapic;
	struct kvm_sregs s;
	struct test_msrs msrs;

	test_vm_set_cpuid(v->m->kvm, v->fd);
	CHECK(!io(v->fd, KVM_GET_SREGS, &s));
	s.cs.selector = s.ds.selector = s.es.selector = s.ss.selector = CODE_GPA >> 4;
	s.cs.base = s.ds.base = s.es.base = s.ss.base = CODE_GPA;
	s.fs.selector = s.gs.selector = CODE_GPA >> 4;
	s.fs.base = s.gs.base = CODE_GPA;
	CHECK(!io(v->fd, KVM_SET_SREGS, &s));
	CHECK(!io(v->fd, KVM_SET_REGS, &regs));
	CHECK(!io(v->fd, KVM_SET_FPU, &fpu));
	test_msrs_init(&msrs);
	msrs.ents[TEST_BOOT_MSRS - 1].data = 1; /* fast strings */
	CHECK(io(v->fd, KVM_SET_MSRS, &msrs) == TEST_BOOT_MSRS);
	/* LINT0 is the 8259's, LINT1 the NMI's. */
	CHECK(!io(v->fd, KVM_GET_LAPIC, &lapic));
	*(u32 *)(lapic.regs + 0x350) = 0x700;
	*(u32 *)(lapic.regs + 0x360) = 0x400;
	CHECK(!io(v->fd, KVM_SET_LAPIC, &lapic));
}

static void drain_ring(struct vcpu *v)
{
	struct kvm_coalesced_mmio_ring *ring = (void *)((u8 *)v->run + v->m->ring_page * PAGE_SIZE);

	for (; ring->first != ring->last;
	     ring->first = (ring->first + 1) % KVM_COALESCED_MMIO_MAX) {
		struct kvm_coalesced_mmio *e = &ring->coalesced_mmio[ring->first];

		CHECK(e->phys_addr == RING_GPA && e->len == 2);
		CHECK(*(u16 *)e->data == 20 - v->m->coalesced++);
	}
}

static void stop_all(struct machine *m)
{
	for (unsigned i = 0; i < NVCPUS; i++)
		pthread_kill(m->vcpu[i].thread, SIGRTMIN);
}

static void port(struct vcpu *v)
{
	struct machine *m = v->m;
	u8 *data = (u8 *)v->run + v->run->io.data_offset;
	bool in = v->run->io.direction == KVM_EXIT_IO_IN;

	for (unsigned i = 0; i < v->run->io.count; i++, data += v->run->io.size) {
		switch (v->run->io.port) {
		case 0x3f8:
			CHECK(!in && m->nout < sizeof(m->out) - 1);
			m->out[m->nout++] = (char)*data;
			if (*data == '5')
				ring_bell(m->seen5);
			break;
		case 0x3fd:
			CHECK(in);
			*data = 0x60; /* both holding and shift register are empty */
			break;
		case 0x64:
			CHECK(!in && *data == 0xfe);
			stop_all(m);
			break;
		case DOORBELL: m->dings++; break;
		default: fprintf(stderr, "port %#x\n", v->run->io.port); abort();
		}
	}
}

static void *vcpu_thread(void *opaque)
{
	struct vcpu *v = opaque;
	struct machine *m = v->m;
	int r;

	current = v;
	vcpu_setup(v);
	v->running = 1;
	ring_bell(m->ready);
	while (v->running) {
		if (v->pause) {
			v->pause = 0;
			ring_bell(m->paused);
			pthread_mutex_lock(&m->pause_lock);
			pthread_mutex_unlock(&m->pause_lock);
		}
		if (v->nmi) {
			v->nmi = 0;
			CHECK(!io(v->fd, KVM_NMI, 0));
		}
		r = io(v->fd, KVM_RUN, 0);
		if (r < 0) {
			CHECK(errno == EINTR || errno == EAGAIN);
			v->interrupted += errno == EINTR;
			continue;
		}
		drain_ring(v);
		switch (v->run->exit_reason) {
		case KVM_EXIT_IO: port(v); break;
		case KVM_EXIT_MMIO:
			CHECK(v->run->mmio.is_write && v->run->mmio.len == 1);
			CHECK(v->run->mmio.phys_addr == RING_GPA + PAGE_SIZE);
			CHECK(v->run->mmio.data[0] == 0x5a);
			m->plain++;
			break;
		case KVM_EXIT_INTR: break;
		default: fprintf(stderr, "exit %s\n", test_exit_name(v->run->exit_reason)); abort();
		}
	}
	return NULL;
}

/* ---- A device ---- */

static void *device_thread(void *opaque)
{
	struct machine *m = opaque;

	CHECK(wait_bell(m->doorbell) == 1);
	ring_bell(m->irq);
	return NULL;
}

/* ---- The machine ---- */

static const int caps[] = {
	KVM_CAP_SET_TSS_ADDR, KVM_CAP_PIT2, KVM_CAP_USER_MEMORY, KVM_CAP_IRQ_ROUTING,
	KVM_CAP_IRQCHIP,      KVM_CAP_HLT,  KVM_CAP_EXT_CPUID,	 KVM_CAP_IRQ_INJECT_STATUS,
};

static void require(struct machine *m)
{
	m->ring_page = (unsigned)io(m->kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	assert_true(m->ring_page > 0);
	assert_true(io(m->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS) >= NVCPUS);
}

/* What CREATE_IRQCHIP has set up already, line by line. */
static void route(struct machine *m)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry ents[16 + 24];
	} r = {.head.nr = 0};

	for (u32 i = 0; i < 24; i++) {
		if (i < 16)
			r.ents[r.head.nr++] =
				(struct kvm_irq_routing_entry){.gsi = i,
							       .type = KVM_IRQ_ROUTING_IRQCHIP,
							       .u.irqchip = {i / 8, i % 8}};
		r.ents[r.head.nr++] =
			(struct kvm_irq_routing_entry){.gsi = i,
						       .type = KVM_IRQ_ROUTING_IRQCHIP,
						       .u.irqchip = {KVM_IRQCHIP_IOAPIC, i}};
	}
	assert_ok(io(m->vm, KVM_SET_GSI_ROUTING, &r));
}

static void set_vector(struct machine *m, unsigned vector, u16 offset)
{
	((u16 *)m->ram)[vector * 2] = offset;
	((u16 *)m->ram)[vector * 2 + 1] = CODE_GPA >> 4;
}

static struct kvm_ioeventfd doorbell(struct machine *m, u32 flags)
{
	return (struct kvm_ioeventfd){.addr = DOORBELL,
				      .len = 2,
				      .fd = m->doorbell,
				      .flags = KVM_IOEVENTFD_FLAG_PIO |
					       KVM_IOEVENTFD_FLAG_DATAMATCH | flags};
}

static const struct kvm_coalesced_mmio_zone zone = {.addr = RING_GPA, .size = PAGE_SIZE};

static void machine_create(struct machine *m)
{
	struct kvm_ioeventfd ev;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->pause_lock, NULL);
	signal(SIGRTMIN, on_exit_signal);
	signal(SIGRTMIN + 1, on_pause_signal);
	test_vmm_create(&m->kvm, &m->vm, caps, ARRAY_SIZE(caps));
	require(m);
	test_vmm_chips(m->vm, 0);
	m->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(m->ram, MAP_FAILED);
	set_region(m->vm, 0, 0, 0, RAM, m->ram);
	memcpy(m->ram + CODE_GPA, guest_kvmtool, guest_kvmtool_end - guest_kvmtool);
	set_vector(m, 2, 0x280);
	set_vector(m, 0x24, 0x200);
	set_vector(m, 0x25, 0x240);
	m->run_size = assert_ok(io(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	for (unsigned i = 0; i < NVCPUS; i++) {
		struct vcpu *v = &m->vcpu[i];

		v->m = m;
		v->fd = assert_ok(io(m->vm, KVM_CREATE_VCPU, i));
		v->run = kvmless_mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd,
				      0);
		assert_ptr_not_equal(v->run, MAP_FAILED);
	}
	route(m);
	m->doorbell = eventfd(0, EFD_CLOEXEC);
	m->irq = eventfd(0, EFD_CLOEXEC);
	m->seen5 = eventfd(0, 0);
	m->ready = eventfd(0, EFD_SEMAPHORE);
	m->paused = eventfd(0, EFD_SEMAPHORE);
	ev = doorbell(m, 0);
	assert_ok(io(m->vm, KVM_IOEVENTFD, &ev));
	assert_ok(io(m->vm, KVM_IRQFD, &(struct kvm_irqfd){.fd = m->irq, .gsi = 5}));
	assert_ok(io(m->vm, KVM_REGISTER_COALESCED_MMIO, &zone));
}

static void machine_destroy(struct machine *m)
{
	struct kvm_ioeventfd ev = doorbell(m, KVM_IOEVENTFD_FLAG_DEASSIGN);

	assert_ok(io(m->vm, KVM_UNREGISTER_COALESCED_MMIO, &zone));
	assert_ok(io(m->vm, KVM_IOEVENTFD, &ev));
	assert_ok(
		io(m->vm, KVM_IRQFD,
		   &(struct kvm_irqfd){.fd = m->irq, .gsi = 5, .flags = KVM_IRQFD_FLAG_DEASSIGN}));
	for (unsigned i = 0; i < NVCPUS; i++) {
		assert_ok(kvmless_munmap(m->vcpu[i].run, m->run_size));
		assert_ok(kvmless_close(m->vcpu[i].fd));
	}
	assert_ok(kvmless_close(m->vm));
	assert_ok(kvmless_close(m->kvm));
	munmap(m->ram, RAM);
	close(m->doorbell);
	close(m->irq);
	close(m->seen5);
	close(m->ready);
	close(m->paused);
	signal(SIGRTMIN, SIG_DFL);
	signal(SIGRTMIN + 1, SIG_DFL);
	pthread_mutex_destroy(&m->pause_lock);
}

static void pause_all(struct machine *m)
{
	pthread_mutex_lock(&m->pause_lock);
	for (unsigned i = 0; i < NVCPUS; i++)
		pthread_kill(m->vcpu[i].thread, SIGRTMIN + 1);
	for (unsigned i = 0; i < NVCPUS; i++)
		wait_bell(m->paused);
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void run_machine(void)
{
	struct timespec ms20 = {.tv_nsec = 20000000};
	struct kvm_irq_level line = {.irq = 4};
	pthread_t device;
	struct machine m;

	machine_create(&m);
	pthread_create(&device, NULL, device_thread, &m);
	for (unsigned i = 0; i < NVCPUS; i++)
		pthread_create(&m.vcpu[i].thread, NULL, vcpu_thread, &m.vcpu[i]);
	for (unsigned i = 0; i < NVCPUS; i++)
		wait_bell(m.ready); /* a signal finds its vCPU */
	wait_bell(m.seen5);
	pthread_join(device, NULL);
	/* Nothing runs while it is paused, whatever arrives; all of it is there afterwards. */
	pause_all(&m);
	line.level = 1;
	assert_ok(io(m.vm, KVM_IRQ_LINE, &line));
	line.level = 0;
	assert_ok(io(m.vm, KVM_IRQ_LINE, &line));
	m.vcpu[0].nmi = 1;
	nanosleep(&ms20, NULL);
	assert_string_equal(m.out, "hello world\n5");
	pthread_mutex_unlock(&m.pause_lock);
	/* The guest's own end; the second vCPU has waited for its start all the time. */
	for (unsigned i = 0; i < NVCPUS; i++)
		pthread_join(m.vcpu[i].thread, NULL);
	assert_string_equal(m.out, "hello world\n5N4");
	assert_int_equal(m.coalesced, 20);
	assert_int_equal(m.plain, 1);
	assert_int_equal(m.dings, 1); /* the value that does not match */
	assert_true(m.vcpu[1].interrupted > 0);
	machine_destroy(&m);
}

static void test_kvmtool(void **state)
{
	unsigned before;

	run_machine();
	before = open_files();
	run_machine();
	assert_int_equal(open_files(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvmtool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
