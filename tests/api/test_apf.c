/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous page faults with memory that a userfaultfd supplies: the guest is told that a page
 * is not present, runs on, and is told when it has come. Guests that have not asked wait, as ever.
 */
#include "api.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "spec/abi/kvm_para.h"

#define IDT_GPA	  0x39000ul
#define SLOW_GPA  0x30000000ul
#define SLOW_SIZE 0x10000ul
#define APF_GPA	  0x50000ul

/*
 * Enables asynchronous page faults, also in the kernel's mode, with vector 0x61, and reads the
 * first word of the slow pages. #PF: the reason and the token; then waits for that token. Vector
 * 0x61: the token, taken.
 */
GUEST(apf, ".code64\n"
	   "	mov $0x4b564d06, %ecx\n"
	   "	mov $0x61, %eax\n"
	   "	xor %edx, %edx\n"
	   "	wrmsr\n"
	   "	mov $0x4b564d02, %ecx\n"
	   "	mov $0x5000b, %eax\n"
	   "	wrmsr\n"
	   "	sti\n"
	   "	mov $0x30000000, %ebx\n"
	   "1:	mov (%rbx), %eax\n"
	   "	out %eax, $0x10\n"
	   "	add $0x1000, %ebx\n"
	   "	jmp 1b\n"
	   "	.org guest_apf + 0x100\n"
	   "	add $8, %rsp\n" /* the error code */
	   "	push %rax\n"
	   "	push %rdx\n"
	   "	mov 0x50000, %eax\n"
	   "	movl $0, 0x50000\n"
	   "	out %eax, $0x11\n"
	   "	mov %cr2, %rdx\n"
	   "	mov %edx, %eax\n"
	   "	out %eax, $0x12\n"
	   "2:	cli\n"
	   "	cmp %edx, 0x50100\n"
	   "	je 3f\n"
	   "	sti\n"
	   "	hlt\n"
	   "	jmp 2b\n"
	   "3:	pop %rdx\n"
	   "	pop %rax\n"
	   "	iretq\n"
	   "	.org guest_apf + 0x200\n"
	   "	push %rax\n"
	   "	push %rcx\n"
	   "	push %rdx\n"
	   "	mov 0x50004, %eax\n"
	   "	mov %eax, 0x50100\n"
	   "	out %eax, $0x13\n"
	   "	movl $0, 0x50004\n"
	   "	mov $0x80b, %ecx\n" /* EOI */
	   "	xor %eax, %eax\n"
	   "	xor %edx, %edx\n"
	   "	wrmsr\n"
	   "	mov $0x4b564d07, %ecx\n"
	   "	mov $1, %eax\n"
	   "	wrmsr\n"
	   "	pop %rdx\n"
	   "	pop %rcx\n"
	   "	pop %rax\n"
	   "	iretq\n"
	   "	.org guest_apf + 0x280\n"
	   "	out %eax, $0x14\n"
	   "	push %rax\n"
	   "	push %rcx\n"
	   "	push %rdx\n"
	   "	mov $0x80b, %ecx\n"
	   "	xor %eax, %eax\n"
	   "	xor %edx, %edx\n"
	   "	wrmsr\n"
	   "	pop %rdx\n"
	   "	pop %rcx\n"
	   "	pop %rax\n"
	   "	iretq");

struct machine {
	struct test_vm t;
	int uffd;
	u8 *slow;
};

/* False: the system lets nobody have a userfaultfd. */
static bool machine_create(struct machine *m)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.range.len = SLOW_SIZE, .mode = UFFDIO_REGISTER_MODE_MISSING};
	struct kvm_lapic_state lapic;
	struct kvm_sregs s;

	m->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (m->uffd < 0)
		return false;
	assert_ok(ioctl(m->uffd, UFFDIO_API, &api));
	m->slow = mmap(NULL, SLOW_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(m->slow, MAP_FAILED);
	reg.range.start = (u64)m->slow;
	assert_ok(ioctl(m->uffd, UFFDIO_REGISTER, &reg));
	test_vm_create(&m->t, TEST_VM_IRQCHIP);
	set_region(m->t.vm, 1, 0, SLOW_GPA, SLOW_SIZE, m->slow);
	test_vm_start(&m->t, MODE_LONG, apf);
	assert_ok(io(m->t.vcpu, KVM_GET_SREGS, &s));
	((u64 *)(m->t.mem + GDT_GPA))[1] = 0x00af9b000000ffff;
	((u64 *)(m->t.mem + GDT_GPA))[2] = 0x00cf93000000ffff;
	for (unsigned i = 0; i < 3; i++) {
		static const u16 where[3] = {0x100, 0x200, 0x280}, vecs[3] = {14, 0x61, 0x72};
		u64 at = CODE_GPA + where[i], vec = vecs[i];
		u64 gate[2] = {(at & 0xffff) | 0x08 << 16 | 0x8eull << 40 | (at >> 16) << 48, 0};

		memcpy(m->t.mem + IDT_GPA + vec * 16, gate, 16);
	}
	s.gdt.base = GDT_GPA;
	s.gdt.limit = 0x17;
	s.idt.base = IDT_GPA;
	s.idt.limit = 0xfff;
	s.apic_base |= BIT(10); /* x2APIC */
	assert_ok(io(m->t.vcpu, KVM_SET_SREGS, &s));
	assert_ok(io(m->t.vcpu, KVM_GET_LAPIC, &lapic));
	*(u32 *)(lapic.regs + 0xf0) = 0x1ff;
	assert_ok(io(m->t.vcpu, KVM_SET_LAPIC, &lapic));
	return true;
}

static void machine_destroy(struct machine *m)
{
	test_vm_destroy(&m->t);
	close(m->uffd);
	munmap(m->slow, SLOW_SIZE);
}

/* The page that somebody waits for now. */
static u64 wanted(struct machine *m)
{
	struct pollfd p = {.fd = m->uffd, .events = POLLIN};
	struct uffd_msg msg;

	if (poll(&p, 1, 20000) != 1 || read(m->uffd, &msg, sizeof(msg)) != sizeof(msg))
		abort();
	return msg.arg.pagefault.address & PAGE_MASK;
}

static void supply(struct machine *m, u64 at)
{
	static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
	struct uffdio_copy c = {.dst = at, .src = (u64)page, .len = PAGE_SIZE};

	*(u32 *)page = 0x1000 + (u32)((at - (u64)m->slow) / PAGE_SIZE);
	if (ioctl(m->uffd, UFFDIO_COPY, &c))
		abort();
}

/* The next page that is asked for, after some time. */
static void *supplier(void *opaque)
{
	struct machine *m = opaque;
	u64 at = wanted(m);

	usleep(5000);
	supply(m, at);
	return NULL;
}

static u32 expect_port(struct test_vm *t, unsigned port)
{
	unsigned r = test_run(t);
	u32 val;

	if (r != KVM_EXIT_IO || t->run->io.port != port)
		fail_msg("exit %u (%s), port %#x, expected port %#x", r, test_exit_name(r),
			 t->run->io.port, port);
	memcpy(&val, (u8 *)t->run + t->run->io.data_offset, 4);
	return val;
}

/* That the memory is slow is found out by waiting. */
static void wait_twice(struct machine *m)
{
	pthread_t thread;

	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(pthread_create(&thread, NULL, supplier, m), 0);
		assert_int_equal(expect_port(&m->t, 0x10), 0x1000 + n);
		pthread_join(thread, NULL);
	}
}

/* Page @n, while nobody but the guest waits: told, waits with HLT, told again, reads. */
static void async_page(struct machine *m, unsigned n)
{
	struct test_vm *t = &m->t;
	u32 token;

	assert_int_equal(expect_port(t, 0x11), KVM_PV_REASON_PAGE_NOT_PRESENT);
	token = expect_port(t, 0x12);
	assert_int_not_equal(token, 0);
	supply(m, wanted(m));
	assert_int_equal(expect_port(t, 0x13), token);
	assert_int_equal(expect_port(t, 0x10), 0x1000 + n);
}

static void test_async(void **state)
{
	struct machine m;

	if (!machine_create(&m))
		skip();
	assert_int_equal(io(m.t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_ASYNC_PF), 1);
	assert_int_equal(io(m.t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_ASYNC_PF_INT), 1);
	/* Enabling says that whatever was waited for before is there. */
	assert_int_equal(expect_port(&m.t, 0x13), ~0u);
	wait_twice(&m);
	for (unsigned n = 2; n < 6; n++)
		async_page(&m, n);
	machine_destroy(&m);
}

static void *device(void *opaque)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x72};
	struct machine *m = opaque;
	u64 at = wanted(m);

	if (io(m->t.vm, KVM_SIGNAL_MSI, &msi) != 1)
		abort();
	return (void *)at;
}

/* A guest that may not be told, for it is in its kernel: the vCPU halts, but takes interrupts
 * meanwhile. */
static void test_halted(void **state)
{
	struct machine m;
	pthread_t thread;
	void *at;

	if (!machine_create(&m))
		skip();
	*(u32 *)(m.t.mem + CODE_GPA + 20) &= ~(u32)KVM_ASYNC_PF_SEND_ALWAYS;
	assert_int_equal(expect_port(&m.t, 0x13), ~0u);
	wait_twice(&m);
	assert_int_equal(pthread_create(&thread, NULL, device, &m), 0);
	expect_port(&m.t, 0x14);
	pthread_join(thread, &at);
	supply(&m, (u64)at);
	assert_int_equal(expect_port(&m.t, 0x10), 0x1002);
	machine_destroy(&m);
}

static long set_msr(struct test_vm *t, u32 index, u64 data)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[1];
	} m = {.head.nmsrs = 1, .e = {{.index = index, .data = data}}};

	return io(t->vcpu, KVM_SET_MSRS, &m);
}

/* What cannot be told while the APIC is off is told when it is on. */
static void test_apic_off(void **state)
{
	struct kvm_lapic_state lapic;
	struct machine m;

	if (!machine_create(&m))
		skip();
	assert_ok(io(m.t.vcpu, KVM_GET_LAPIC, &lapic));
	*(u32 *)(lapic.regs + 0xf0) = 0xff;
	assert_ok(io(m.t.vcpu, KVM_SET_LAPIC, &lapic));
	wait_twice(&m);
	assert_int_equal(set_msr(&m.t, 0x80f, 0x1ff), 1);
	assert_int_equal(expect_port(&m.t, 0x13), ~0u);
	machine_destroy(&m);
}

/* A page that is asked for and never comes does not keep the vCPU from its signals; the VM goes
 * when it has. */
static void test_interrupt(void **state)
{
	struct machine m;
	u64 at;

	if (!machine_create(&m))
		skip();
	assert_int_equal(expect_port(&m.t, 0x13), ~0u);
	wait_twice(&m);
	assert_int_equal(expect_port(&m.t, 0x11), KVM_PV_REASON_PAGE_NOT_PRESENT);
	expect_port(&m.t, 0x12);
	at = wanted(&m);
	m.t.run->immediate_exit = 1;
	assert_errno(io(m.t.vcpu, KVM_RUN, 0), EINTR);
	supply(&m, at);
	machine_destroy(&m);
}

/* Not enabled: KVM_RUN waits for the page, and the guest notices nothing. */
static void test_sync(void **state)
{
	struct kvm_regs r;
	struct machine m;
	pthread_t thread;

	if (!machine_create(&m))
		skip();
	assert_ok(io(m.t.vcpu, KVM_GET_REGS, &r));
	r.rip = CODE_GPA + 27; /* behind the WRMSRs */
	assert_ok(io(m.t.vcpu, KVM_SET_REGS, &r));
	for (unsigned n = 0; n < 3; n++) {
		assert_int_equal(pthread_create(&thread, NULL, supplier, &m), 0);
		assert_int_equal(expect_port(&m.t, 0x10), 0x1000 + n);
		pthread_join(thread, NULL);
	}
	machine_destroy(&m);
}

static void test_msrs(void **state)
{
	struct test_vm t;

	test_vm_create(&t, TEST_VM_IRQCHIP);
	test_vm_add_vcpu(&t);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_INT, 0x61), 1);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_INT, 0x161), 0);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_ACK, 1), 1);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, APF_GPA | 9), 1);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, APF_GPA | 0x10 | 9), 0);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, APF_GPA | 0x20 | 9), 0);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, 0x40000000 | 9), 0); /* no memory */
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, 0), 1);
	test_vm_destroy(&t);
	/* No APIC, no interrupt to tell with. */
	test_vm_create(&t, 0);
	test_vm_add_vcpu(&t);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, APF_GPA | 9), 0);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_EN, 0), 1);
	assert_int_equal(set_msr(&t, MSR_KVM_ASYNC_PF_INT, 0x61), 0);
	test_vm_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_msrs),	 cmocka_unit_test(test_sync),
		cmocka_unit_test(test_async),	 cmocka_unit_test(test_halted),
		cmocka_unit_test(test_apic_off), cmocka_unit_test(test_interrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
