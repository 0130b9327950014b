/* SPDX-License-Identifier: MIT */
/*
 * A small machine made with the calls of Firecracker, in its order: stopped by immediate_exit in
 * the middle, saved, and continued in a second machine to the guest's end.
 */
#include "api.h"

GUEST(letters, ".code64\n"
	       "	mov $0x1122334455667788, %rcx\n"
	       "	movq %rcx, %xmm3\n"
	       "	mov $'a', %al\n"
	       "	mov $0x3f8, %edx\n"
	       "1:	out %al, %dx\n"
	       "	incl 0x60000\n"
	       "	inc %al\n"
	       "	cmp $'k', %al\n"
	       "	jne 1b\n"
	       "	movq %xmm3, %rbx\n"
	       "	cmp %rbx, %rcx\n"
	       "	jne 2f\n"
	       "	mov $0xfe, %al\n"
	       "	out %al, $0x64\n"
	       "2:	ud2");

struct snapshot {
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 ents[256];
	} cpuid;
	struct test_msrs msrs;
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs dr;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	long tsc_khz;
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct kvm_irqchip chip[3];
};

/* Mandatory ones; then those of the boot, up to the first vCPU. */
static void create(struct test_vm *t)
{
	static const int caps[] = {
		KVM_CAP_IRQCHIP,      KVM_CAP_IOEVENTFD, KVM_CAP_IRQFD,	      KVM_CAP_USER_MEMORY,
		KVM_CAP_SET_TSS_ADDR, KVM_CAP_PIT2,	 KVM_CAP_PIT_STATE2,  KVM_CAP_ADJUST_CLOCK,
		KVM_CAP_DEBUGREGS,    KVM_CAP_MP_STATE,	 KVM_CAP_VCPU_EVENTS, KVM_CAP_XCRS,
		KVM_CAP_XSAVE,	      KVM_CAP_EXT_CPUID,
	};

	memset(t, 0, sizeof(*t));
	test_vmm_create(&t->kvm, &t->vm, caps, ARRAY_SIZE(caps));
	assert_true(io(t->vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) >=
		    (int)sizeof(struct kvm_xsave));
	t->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(t->mem, MAP_FAILED);
	set_region(t->vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEM_SIZE, t->mem);
	test_vmm_chips(t->vm, KVM_PIT_SPEAKER_DUMMY);
	test_vm_add_vcpu(t);
}

static void save(struct test_vm *t, struct snapshot *s)
{
	/* Without a clock page there is nothing to tell the guest. */
	assert_errno(io(t->vcpu, KVM_KVMCLOCK_CTRL, 0), EINVAL);
	assert_ok(io(t->vcpu, KVM_GET_MP_STATE, &s->mp));
	assert_ok(io(t->vcpu, KVM_GET_REGS, &s->regs));
	assert_ok(io(t->vcpu, KVM_GET_SREGS, &s->sregs));
	assert_ok(io(t->vcpu, KVM_GET_XSAVE, &s->xsave));
	assert_ok(io(t->vcpu, KVM_GET_XCRS, &s->xcrs));
	assert_ok(io(t->vcpu, KVM_GET_DEBUGREGS, &s->dr));
	assert_ok(io(t->vcpu, KVM_GET_LAPIC, &s->lapic));
	s->tsc_khz = assert_ok(io(t->vcpu, KVM_GET_TSC_KHZ, 0));
	s->cpuid.head.nent = 256;
	assert_ok(io(t->vcpu, KVM_GET_CPUID2, &s->cpuid));
	test_msrs_init(&s->msrs);
	assert_int_equal(io(t->vcpu, KVM_GET_MSRS, &s->msrs), TEST_BOOT_MSRS);
	assert_ok(io(t->vcpu, KVM_GET_VCPU_EVENTS, &s->events));
	assert_ok(io(t->vm, KVM_GET_PIT2, &s->pit));
	assert_ok(io(t->vm, KVM_GET_CLOCK, &s->clock));
	for (u32 i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		assert_ok(io(t->vm, KVM_GET_IRQCHIP, &s->chip[i]));
	}
}

static void restore(struct test_vm *t, struct snapshot *s)
{
	assert_ok(io(t->vcpu, KVM_SET_TSC_KHZ, s->tsc_khz));
	assert_ok(io(t->vcpu, KVM_SET_CPUID2, &s->cpuid));
	assert_ok(io(t->vcpu, KVM_SET_MP_STATE, &s->mp));
	assert_ok(io(t->vcpu, KVM_SET_REGS, &s->regs));
	assert_ok(io(t->vcpu, KVM_SET_SREGS, &s->sregs));
	assert_ok(io(t->vcpu, KVM_SET_XSAVE, &s->xsave));
	assert_ok(io(t->vcpu, KVM_SET_XCRS, &s->xcrs));
	assert_ok(io(t->vcpu, KVM_SET_DEBUGREGS, &s->dr));
	assert_ok(io(t->vcpu, KVM_SET_LAPIC, &s->lapic));
	assert_int_equal(io(t->vcpu, KVM_SET_MSRS, &s->msrs), TEST_BOOT_MSRS);
	assert_ok(io(t->vcpu, KVM_SET_VCPU_EVENTS, &s->events));
	s->clock.flags = 0;
	assert_ok(io(t->vm, KVM_SET_PIT2, &s->pit));
	assert_ok(io(t->vm, KVM_SET_CLOCK, &s->clock));
	for (u32 i = 0; i < 3; i++)
		assert_ok(io(t->vm, KVM_SET_IRQCHIP, &s->chip[i]));
}

/* The guest's letters up to @last. */
static void letters(struct test_vm *t, char first, char last)
{
	for (char c = first; c <= last; c++) {
		assert_int_equal(test_run(t), KVM_EXIT_IO);
		assert_int_equal(t->run->io.port, 0x3f8);
		assert_int_equal(((char *)t->run)[t->run->io.data_offset], c);
	}
}

static void test_snapshot(void **state)
{
	u64 bitmap[MEM_SIZE / PAGE_SIZE / 64];
	struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = bitmap};
	struct snapshot *s = calloc(1, sizeof(*s));
	struct test_vm a, b;

	create(&a);
	test_vm_start(&a, MODE_LONG, letters);
	letters(&a, 'a', 'e');
	/* What the last exit left open is completed; nothing more runs. */
	a.run->immediate_exit = 1;
	assert_errno(io(a.vcpu, KVM_RUN, 0), EINTR);
	save(&a, s);
	assert_int_equal(*(u32 *)(a.mem + 0x60000), 4);
	assert_ok(io(a.vm, KVM_GET_DIRTY_LOG, &log));
	assert_true(bitmap[1] & BIT(0x60 - 64));
	create(&b);
	memcpy(b.mem, a.mem, MEM_SIZE);
	test_vm_destroy(&a);
	restore(&b, s);
	letters(&b, 'f', 'j');
	assert_int_equal(test_run(&b), KVM_EXIT_IO);
	assert_int_equal(b.run->io.port, 0x64);
	assert_int_equal(*(u32 *)(b.mem + 0x60000), 10);
	test_vm_destroy(&b);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
