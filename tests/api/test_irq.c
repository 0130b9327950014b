/* SPDX-License-Identifier: MIT */
/*
 * Interrupts as the guest takes them: MSI routes, level interrupts that are resampled, and the task
 * priority (KVM_TPR_ACCESS_REPORTING, KVM_SET_VAPIC_ADDR).
 */
#include "api.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define IDT_GPA	  0x39000ul
#define VAPIC_GPA 0x50000ul
#define APIC_GPA  0xfee00000ul
#define VEC_A	  0x61
#define VEC_B	  0x72
#define APIC_SPIV 0xf0
#define APIC_TPR  0x80

/* Handlers at 0x100 and 0x140 of the code: a port each, then the EOI. */
#define HANDLERS(name)                         \
	"	.org guest_" name " + 0x100\n" \
	"	out %al, $0x61\n"                    \
	"	movl $0, 0xfee000b0\n"               \
	"	iret\n"                              \
	"	.org guest_" name " + 0x140\n" \
	"	out %al, $0x72\n"                    \
	"	movl $0, 0xfee000b0\n"               \
	"	iret"

static void set_gate(struct test_vm *t, unsigned vec, u64 handler)
{
	u64 gate = (handler & 0xffff) | 0x08 << 16 | 0x8eull << 40 | (handler >> 16) << 48;

	memcpy(t->mem + IDT_GPA + vec * 8, &gate, 8);
}

/* Flat 32-bit mode, IDT and GDT there, the APIC enabled. */
static void start(struct test_vm *t, const u8 *code, const u8 *end)
{
	static const u64 gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	struct kvm_lapic_state lapic;
	struct kvm_sregs s;

	if (t->vcpu < 0)
		test_vm_add_vcpu(t);
	test_vm_load(t, MODE_PROTECTED, code, end);
	memcpy(t->mem + GDT_GPA, gdt, sizeof(gdt));
	set_gate(t, VEC_A, CODE_GPA + 0x100);
	set_gate(t, VEC_B, CODE_GPA + 0x140);
	assert_ok(io(t->vcpu, KVM_GET_SREGS, &s));
	s.gdt.base = GDT_GPA;
	s.gdt.limit = sizeof(gdt) - 1;
	s.idt.base = IDT_GPA;
	s.idt.limit = 0x7ff;
	assert_ok(io(t->vcpu, KVM_SET_SREGS, &s));
	assert_ok(io(t->vcpu, KVM_GET_LAPIC, &lapic));
	*(u32 *)(lapic.regs + APIC_SPIV) = 0x1ff;
	assert_ok(io(t->vcpu, KVM_SET_LAPIC, &lapic));
}
#define START(t, name) start(t, guest_##name, guest_##name##_end)

static void expect_port(struct test_vm *t, unsigned port)
{
	unsigned r = test_run(t);

	if (r != KVM_EXIT_IO || t->run->io.port != port)
		fail_msg("exit %u (%s), port %#x, expected port %#x", r, test_exit_name(r),
			 t->run->io.port, port);
}

static u32 apic_reg(struct test_vm *t, unsigned off)
{
	struct kvm_lapic_state lapic;

	assert_ok(io(t->vcpu, KVM_GET_LAPIC, &lapic));
	return *(u32 *)(lapic.regs + off);
}

static void send_msi(struct test_vm *t, u32 vector)
{
	struct kvm_msi msi = {.address_lo = APIC_GPA, .data = vector};

	assert_int_equal(io(t->vm, KVM_SIGNAL_MSI, &msi), 1);
}

/* ---- Task priority ---- */

GUEST(tpr, ".code32\n"
	   "	mov $0xfee00080, %ebx\n"
	   "	mov (%ebx), %eax\n"
	   "	movl $0x20, (%ebx)\n"
	   "	mov (%ebx), %eax\n"
	   "	out %al, $0x99\n"
	   "	mov 0xfee00030, %eax\n"
	   "	out %al, $0x99");

static void expect_tpr(struct test_vm *t, unsigned at, bool write)
{
	assert_int_equal(test_run(t), KVM_EXIT_TPR_ACCESS);
	assert_int_equal(t->run->tpr_access.rip, CODE_GPA + at);
	assert_int_equal(t->run->tpr_access.is_write, write);
}

static void test_tpr_access(void **state)
{
	struct kvm_tpr_access_ctl ctl = {.enabled = 1, .flags = 1};
	struct test_vm t;
	struct kvm_regs r;

	test_vm_create(&t, TEST_VM_IRQCHIP);
	assert_int_equal(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_VAPIC), 1);
	START(&t, tpr);
	assert_errno(io(t.vcpu, KVM_TPR_ACCESS_REPORTING, &ctl), EINVAL);
	ctl.flags = 0;
	assert_ok(io(t.vcpu, KVM_TPR_ACCESS_REPORTING, &ctl));
	/* The exit tells where; the access has been done. */
	expect_tpr(&t, 5, false);
	expect_tpr(&t, 7, true);
	assert_int_equal(apic_reg(&t, APIC_TPR), 0x20);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rip, CODE_GPA + 13);
	expect_tpr(&t, 13, false);
	expect_port(&t, 0x99);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax & 0xff, 0x20);
	/* No other register is reported. */
	expect_port(&t, 0x99);
	ctl.enabled = 0;
	assert_ok(io(t.vcpu, KVM_TPR_ACCESS_REPORTING, &ctl));
	START(&t, tpr);
	expect_port(&t, 0x99);
	test_vm_destroy(&t);
}

GUEST(vapic, ".code32\n"
	     "	movb $0x70, 0x50000\n"
	     "	out %al, $0x99\n"
	     "	sti\n"
	     "	nop\n"
	     "	out %al, $0x97\n"
	     "	nop\n"
	     "	movb $0, 0x50000\n"
	     "	out %al, $0x96\n"
	     "1:	jmp 1b\n" HANDLERS("vapic"));

static void test_vapic(void **state)
{
	struct kvm_vapic_addr va = {.vapic_addr = VAPIC_GPA};
	struct test_vm t, none;
	u32 *word;

	test_vm_create(&none, 0);
	test_vm_add_vcpu(&none);
	assert_errno(io(none.vcpu, KVM_SET_VAPIC_ADDR, &va), EINVAL);
	test_vm_destroy(&none);

	test_vm_create(&t, TEST_VM_IRQCHIP);
	word = (u32 *)(t.mem + VAPIC_GPA);
	START(&t, vapic);
	va.vapic_addr = 0x40000000; /* no memory */
	assert_errno(io(t.vcpu, KVM_SET_VAPIC_ADDR, &va), EINVAL);
	va.vapic_addr = VAPIC_GPA;
	assert_ok(io(t.vcpu, KVM_SET_VAPIC_ADDR, &va));
	expect_port(&t, 0x99);
	assert_int_equal(apic_reg(&t, APIC_TPR), 0x70);
	/* Priority 6 waits, and the guest can see that. */
	send_msi(&t, VEC_A);
	expect_port(&t, 0x97);
	assert_int_equal(*word, VEC_A << 24 | 0x70);
	expect_port(&t, 0x96);
	expect_port(&t, VEC_A);
	assert_int_equal(*word, (VEC_A & 0xf0) << 8);
	assert_int_equal(apic_reg(&t, APIC_TPR), 0);
	/* Off: the register is what counts again. */
	va.vapic_addr = 0;
	assert_ok(io(t.vcpu, KVM_SET_VAPIC_ADDR, &va));
	*word = 0xff;
	send_msi(&t, VEC_B);
	expect_port(&t, VEC_B);
	assert_int_equal(*word, 0xff);
	test_vm_destroy(&t);
}

/* ---- MSI routes ---- */

GUEST(waits, ".code32\n"
	     "	sti\n"
	     "1:	hlt\n"
	     "	jmp 1b\n" HANDLERS("waits"));

/* The only route there is. */
static void set_route(struct test_vm *t, struct kvm_irq_routing_entry e)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[1];
	} r = {.head.nr = 1, .e = {e}};

	assert_ok(io(t->vm, KVM_SET_GSI_ROUTING, &r));
}

static void route_msi(struct test_vm *t, u32 gsi, u32 vector)
{
	set_route(t, (struct kvm_irq_routing_entry){
			     .gsi = gsi,
			     .type = KVM_IRQ_ROUTING_MSI,
			     .u.msi = {.address_lo = APIC_GPA, .data = vector}});
}

static void ring(int fd)
{
	u64 one = 1;

	assert_int_equal(write(fd, &one, 8), 8);
}

/* As kvmtool has it for each MSI-X vector: an irqfd of a GSI whose route the guest may change. */
static void msi_routes(struct test_vm *t)
{
	int e = eventfd(0, 0);
	struct kvm_irqfd f = {.fd = e, .gsi = 30};
	struct kvm_irq_level line = {.irq = 30, .level = 1};

	START(t, waits);
	route_msi(t, 30, VEC_A);
	assert_ok(io(t->vm, KVM_IRQFD, &f));
	for (int i = 0; i < 3; i++) {
		ring(e);
		expect_port(t, VEC_A);
	}
	route_msi(t, 30, VEC_B);
	ring(e);
	expect_port(t, VEC_B);
	f.flags = KVM_IRQFD_FLAG_DEASSIGN;
	assert_ok(io(t->vm, KVM_IRQFD, &f));
	/* Nothing comes through it any more; the line of the same number is a message too. */
	ring(e);
	assert_ok(io(t->vm, KVM_IRQ_LINE, &line));
	expect_port(t, VEC_B);
	send_msi(t, VEC_A);
	expect_port(t, VEC_A);
	close(e);
	test_vm_destroy(t);
}

static void test_msi_routes(void **state)
{
	struct test_vm t;

	test_vm_create(&t, TEST_VM_IRQCHIP);
	msi_routes(&t);
}

static void test_msi_routes_split(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct test_vm t;

	test_vm_create(&t, 0);
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	msi_routes(&t);
}

/* ---- Resampling ---- */

struct device {
	int trigger, resample;
	unsigned
		again; /* how often it still has something when the guest has ended the interrupt */
	unsigned ended;
};

static void *device_thread(void *opaque)
{
	struct device *d = opaque;
	u64 n;

	do {
		if (read(d->resample, &n, 8) != 8)
			abort();
		d->ended += n;
		n = 1;
		if (d->again && write(d->trigger, &n, 8) != 8)
			abort();
	} while (d->again--);
	return NULL;
}

/* A device on GSI 10, level-triggered: the line stays up until the guest's EOI, which the device is
 * told of. */
static void test_resample(void **state)
{
	struct device d = {.trigger = eventfd(0, 0), .resample = eventfd(0, 0), .again = 3};
	struct kvm_irqfd f = {.fd = d.trigger,
			      .resamplefd = d.resample,
			      .gsi = 10,
			      .flags = KVM_IRQFD_FLAG_RESAMPLE};
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct pollfd p = {.fd = d.resample, .events = POLLIN};
	pthread_t thread;
	struct test_vm t;

	test_vm_create(&t, TEST_VM_IRQCHIP);
	START(&t, waits);
	assert_ok(io(t.vm, KVM_GET_IRQCHIP, &chip));
	chip.chip.ioapic.redirtbl[10].bits = VEC_A | BIT(15); /* level, to APIC 0 */
	assert_ok(io(t.vm, KVM_SET_IRQCHIP, &chip));
	set_route(&t, (struct kvm_irq_routing_entry){
			      .gsi = 10,
			      .type = KVM_IRQ_ROUTING_IRQCHIP,
			      .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = 10}});
	f.resamplefd = (u32)-1;
	assert_errno(io(t.vm, KVM_IRQFD, &f), EBADF);
	f.resamplefd = d.resample;
	assert_ok(io(t.vm, KVM_IRQFD, &f));
	ring(d.trigger);
	expect_port(&t, VEC_A);
	/* Its handler has not come to the EOI. */
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, device_thread, &d), 0);
	for (int i = 0; i < 3; i++)
		expect_port(&t, VEC_A);
	/* The last EOI; the line is down, so what comes next is something else. */
	send_msi(&t, VEC_B);
	expect_port(&t, VEC_B);
	pthread_join(thread, NULL);
	assert_int_equal(d.ended, 4);
	send_msi(&t, VEC_B);
	expect_port(&t, VEC_B);
	f.flags |= KVM_IRQFD_FLAG_DEASSIGN;
	assert_ok(io(t.vm, KVM_IRQFD, &f));
	test_vm_destroy(&t);
	close(d.trigger);
	close(d.resample);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tpr_access), cmocka_unit_test(test_vapic),
		cmocka_unit_test(test_msi_routes), cmocka_unit_test(test_msi_routes_split),
		cmocka_unit_test(test_resample),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
