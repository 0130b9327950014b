/* SPDX-License-Identifier: MIT */
/* What KVM_SET_* stores, KVM_GET_* returns; and it is what the guest sees. */
#include "api.h"

static struct test_vm t;

static int setup(void **state)
{
	test_vm_create(&t, TEST_VM_IRQCHIP);
	test_vm_add_vcpu(&t);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

/* Processor state after power-up: SDM vol. 3A, table 10-1. */
static void test_reset_state(void **state)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	struct kvm_fpu f;
	struct kvm_debugregs d;
	struct kvm_xcrs x;

	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rip, 0xfff0);
	assert_int_equal(r.rflags, 2);
	assert_int_equal(r.rax | r.rbx | r.rcx | r.rsp | r.rbp | r.rsi | r.rdi, 0);
	assert_ok(io(t.vcpu, KVM_GET_SREGS, &s));
	assert_int_equal(s.cr0, CR0_CD | CR0_NW | CR0_ET);
	assert_int_equal(s.cr3 | s.cr4 | s.cr2 | s.efer, 0);
	assert_int_equal(s.cs.selector, 0xf000);
	assert_int_equal(s.cs.base, 0xffff0000);
	assert_int_equal(s.cs.limit, 0xffff);
	assert_int_equal(s.ds.base | s.ds.selector, 0);
	assert_int_equal(s.ds.limit, 0xffff);
	assert_int_equal(s.gdt.limit, 0xffff);
	assert_int_equal(s.idt.limit, 0xffff);
	assert_int_equal(s.ldt.type, 2);
	assert_int_equal(s.tr.type, 11);
	assert_int_equal(s.apic_base, 0xfee00900); /* enabled, bootstrap processor */
	assert_ok(io(t.vcpu, KVM_GET_FPU, &f));
	assert_int_equal(f.fcw, 0x37f);
	assert_int_equal(f.fsw | f.ftwx, 0);
	assert_int_equal(f.mxcsr, 0x1f80);
	assert_ok(io(t.vcpu, KVM_GET_DEBUGREGS, &d));
	assert_int_equal(d.dr6, 0xffff0ff0);
	assert_int_equal(d.dr7, 0x400);
	assert_ok(io(t.vcpu, KVM_GET_XCRS, &x));
	assert_int_equal(x.nr_xcrs, 1);
	assert_int_equal(x.xcrs[0].value, 1);
}

static void test_regs(void **state)
{
	struct kvm_regs a, b;

	for (u64 *p = (u64 *)&a; p < (u64 *)(&a + 1); p++)
		*p = 0x0101010101010101ul * (1 + (p - (u64 *)&a));
	a.rflags = 0x202;
	assert_ok(io(t.vcpu, KVM_SET_REGS, &a));
	assert_ok(io(t.vcpu, KVM_GET_REGS, &b));
	assert_memory_equal(&a, &b, sizeof(a));
	a.rflags = 0; /* bit 1 is always set */
	assert_ok(io(t.vcpu, KVM_SET_REGS, &a));
	assert_ok(io(t.vcpu, KVM_GET_REGS, &b));
	assert_int_equal(b.rflags, 2);
}

static void test_sregs(void **state)
{
	struct kvm_sregs a, b;
	struct kvm_sregs2 c, d;

	for (enum guest_mode m = MODE_REAL; m <= MODE_LONG; m++) {
		test_vcpu_mode(&t, t.vcpu, m, CODE_GPA);
		assert_ok(io(t.vcpu, KVM_GET_SREGS, &a));
		assert_ok(io(t.vcpu, KVM_SET_SREGS, &a));
		assert_ok(io(t.vcpu, KVM_GET_SREGS, &b));
		assert_memory_equal(&a, &b, sizeof(a));
		assert_ok(io(t.vcpu, KVM_GET_SREGS2, &c));
		assert_ok(io(t.vcpu, KVM_SET_SREGS2, &c));
		assert_ok(io(t.vcpu, KVM_GET_SREGS2, &d));
		assert_memory_equal(&c, &d, sizeof(c));
		assert_memory_equal(&a, &c, offsetof(struct kvm_sregs, interrupt_bitmap));
	}
	a.cr2 = 0x123456789abcdef0;
	a.cr8 = 5;
	a.gs.base = 0xffff888000000000;
	a.gdt = (struct kvm_dtable){.base = 0x5000, .limit = 0x7f};
	assert_ok(io(t.vcpu, KVM_SET_SREGS, &a));
	assert_ok(io(t.vcpu, KVM_GET_SREGS, &b));
	assert_int_equal(b.cr2, a.cr2);
	assert_int_equal(b.cr8, 5);
	assert_int_equal(b.gs.base, a.gs.base);
	assert_memory_equal(&b.gdt, &a.gdt, sizeof(a.gdt));
	/* Combinations the processor cannot be in */
	a.cr0 &= ~CR0_PE;
	assert_errno(io(t.vcpu, KVM_SET_SREGS, &a), EINVAL); /* PG without PE */
	a.cr0 |= CR0_PE;
	a.cr4 &= ~CR4_PAE;
	assert_errno(io(t.vcpu, KVM_SET_SREGS, &a), EINVAL); /* long mode without PAE */
}

static void test_fpu(void **state)
{
	struct kvm_fpu a = {.fcw = 0x27f,
			    .fsw = 0x3800,
			    .ftwx = 0x81,
			    .last_opcode = 0x123,
			    .last_ip = 0x1234567890,
			    .last_dp = 0x9876543210,
			    .mxcsr = 0x1fa0};
	struct kvm_fpu b;

	for (int i = 0; i < 8; i++)
		memset(a.fpr[i], i + 1, 10);
	for (int i = 0; i < 16; i++)
		memset(a.xmm[i], 0xa0 + i, 16);
	assert_ok(io(t.vcpu, KVM_SET_FPU, &a));
	memset(&b, 0xcc, sizeof(b));
	assert_ok(io(t.vcpu, KVM_GET_FPU, &b));
	assert_memory_equal(&a, &b, sizeof(a));
}

static void test_xsave(void **state)
{
	int n = io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	u8 *a = calloc(1, MAX(n, 4096)), *b = calloc(1, MAX(n, 4096));
	struct kvm_fpu f;

	if (io(t.kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE)) {
		assert_ok(io(t.vcpu, KVM_GET_XSAVE, a));
		/* The legacy region is what KVM_GET_FPU tells in its own order. */
		assert_ok(io(t.vcpu, KVM_GET_FPU, &f));
		assert_int_equal(*(u16 *)a, f.fcw);
		assert_int_equal(*(u32 *)(a + 24), f.mxcsr);
		assert_memory_equal(a + 160, f.xmm, 256);
		for (int i = 0; i < 16; i++)
			a[160 + i] = 0xee;
		*(u64 *)(a + 512) |= 3;
		assert_ok(io(t.vcpu, KVM_SET_XSAVE, a));
		assert_ok(io(t.vcpu, KVM_GET_XSAVE, b));
		assert_memory_equal(a, b, 512);
		assert_ok(io(t.vcpu, KVM_GET_FPU, &f));
		assert_int_equal(f.xmm[0][5], 0xee);
	}
	if (n) {
		assert_true(n >= 4096);
		assert_ok(io(t.vcpu, KVM_GET_XSAVE2, b));
		assert_memory_equal(a, b, 512);
	}
	/* MXCSR with a reserved bit; a component the guest does not have */
	*(u32 *)(a + 24) |= BIT(30);
	assert_errno(io(t.vcpu, KVM_SET_XSAVE, a), EINVAL);
	*(u32 *)(a + 24) &= ~BIT(30);
	*(u64 *)(a + 512) |= BIT(62);
	assert_errno(io(t.vcpu, KVM_SET_XSAVE, a), EINVAL);
	free(a);
	free(b);
}

static void test_events(void **state)
{
	struct kvm_vcpu_events a, b;

	assert_ok(io(t.vcpu, KVM_GET_VCPU_EVENTS, &a));
	a.nmi.pending = 1;
	a.nmi.masked = 1;
	a.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	a.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	assert_ok(io(t.vcpu, KVM_SET_VCPU_EVENTS, &a));
	assert_ok(io(t.vcpu, KVM_GET_VCPU_EVENTS, &b));
	assert_int_equal(b.nmi.pending, 1);
	assert_int_equal(b.nmi.masked, 1);
	assert_int_equal(b.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
	a.nmi.pending = a.nmi.masked = a.interrupt.shadow = 0;
	assert_ok(io(t.vcpu, KVM_SET_VCPU_EVENTS, &a));
	a.exception.injected = 1;
	a.exception.nr = 2; /* NMI is no exception */
	assert_errno(io(t.vcpu, KVM_SET_VCPU_EVENTS, &a), EINVAL);
	a.exception.nr = 32;
	assert_errno(io(t.vcpu, KVM_SET_VCPU_EVENTS, &a), EINVAL);
	a.exception.nr = 13;
	a.exception.has_error_code = 1;
	a.exception.error_code = 0x18;
	assert_ok(io(t.vcpu, KVM_SET_VCPU_EVENTS, &a));
	assert_ok(io(t.vcpu, KVM_GET_VCPU_EVENTS, &b));
	assert_int_equal(b.exception.nr, 13);
	assert_int_equal(b.exception.error_code, 0x18);
	memset(&a.exception, 0, sizeof(a.exception));
	assert_ok(io(t.vcpu, KVM_SET_VCPU_EVENTS, &a));
}

static void test_debugregs(void **state)
{
	struct kvm_debugregs a, b;

	assert_ok(io(t.vcpu, KVM_GET_DEBUGREGS, &a));
	for (int i = 0; i < 4; i++)
		a.db[i] = 0x1000 * i;
	a.dr7 = 0x401;
	assert_ok(io(t.vcpu, KVM_SET_DEBUGREGS, &a));
	assert_ok(io(t.vcpu, KVM_GET_DEBUGREGS, &b));
	assert_memory_equal(&a, &b, sizeof(a));
	a.dr7 = BIT(40);
	assert_errno(io(t.vcpu, KVM_SET_DEBUGREGS, &a), EINVAL);
	a.dr7 = 0x400;
	assert_ok(io(t.vcpu, KVM_SET_DEBUGREGS, &a));
}

static void test_mp_state(void **state)
{
	struct kvm_mp_state m = {.mp_state = KVM_MP_STATE_HALTED};

	assert_ok(io(t.vcpu, KVM_SET_MP_STATE, &m));
	m.mp_state = 0;
	assert_ok(io(t.vcpu, KVM_GET_MP_STATE, &m));
	assert_int_equal(m.mp_state, KVM_MP_STATE_HALTED);
	m.mp_state = KVM_MP_STATE_RUNNABLE;
	assert_ok(io(t.vcpu, KVM_SET_MP_STATE, &m));
}

static void test_lapic(void **state)
{
	struct kvm_lapic_state a, b;

	assert_ok(io(t.vcpu, KVM_GET_LAPIC, &a));
	assert_int_equal(*(u32 *)(a.regs + 0x20), 0);
	*(u32 *)(a.regs + 0x80) = 0x30;	  /* TPR */
	*(u32 *)(a.regs + 0xf0) = 0x1ff;  /* spurious, enabled */
	*(u32 *)(a.regs + 0x350) = 0x700; /* LINT0: ExtINT */
	assert_ok(io(t.vcpu, KVM_SET_LAPIC, &a));
	assert_ok(io(t.vcpu, KVM_GET_LAPIC, &b));
	assert_int_equal(*(u32 *)(b.regs + 0x80), 0x30);
	assert_int_equal(*(u32 *)(b.regs + 0xf0), 0x1ff);
	assert_int_equal(*(u32 *)(b.regs + 0x350), 0x700);
}

/* Every MSR that makes up the state can be read and written back: QEMU insists. */
static void test_msr_list(void **state)
{
	struct {
		struct kvm_msr_list head;
		u32 idx[4096];
	} l = {.head.nmsrs = 4096};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e;
	} m = {.head.nmsrs = 1};
	u64 v;

	assert_ok(io(t.kvm, KVM_GET_MSR_INDEX_LIST, &l));
	for (u32 i = 0; i < l.head.nmsrs; i++) {
		m.e.index = l.idx[i];
		if (io(t.vcpu, KVM_GET_MSRS, &m) != 1)
			fail_msg("MSR %#x cannot be read", l.idx[i]);
		v = m.e.data;
		if (io(t.vcpu, KVM_SET_MSRS, &m) != 1)
			fail_msg("MSR %#x does not take its own value %#lx", l.idx[i], v);
	}
	/* Some with values of their own */
	static const struct {
		u32 index;
		u64 val;
	} vals[] = {{0x174, 0x10},
		    {0x175, 0xffff800000001000},
		    {0x176, 0xffff800000002000},
		    {0x277, 0x0007040600070406},
		    {0xc0000081, 0x0023001000000000},
		    {0xc0000082, 0xffffffff81000000},
		    {0xc0000084, 0x47700},
		    {0xc0000102, 0xffff888000001000},
		    {0x250, 0x0606060606060606}};
	for (u32 i = 0; i < ARRAY_SIZE(vals); i++) {
		m.e.index = vals[i].index;
		m.e.data = vals[i].val;
		assert_int_equal(io(t.vcpu, KVM_SET_MSRS, &m), 1);
		m.e.data = 0;
		assert_int_equal(io(t.vcpu, KVM_GET_MSRS, &m), 1);
		assert_int_equal(m.e.data, vals[i].val);
	}
}

static void test_chips(void **state)
{
	struct kvm_irqchip a = {.chip_id = KVM_IRQCHIP_IOAPIC}, b;
	struct kvm_pit_config pit = {0};
	struct kvm_pit_state2 p, q;

	assert_ok(io(t.vm, KVM_GET_IRQCHIP, &a));
	assert_int_equal(a.chip.ioapic.base_address, 0xfec00000);
	assert_int_equal(a.chip.ioapic.redirtbl[4].fields.mask, 1);
	a.chip.ioapic.redirtbl[4].bits = 0x0000000000010034;
	assert_ok(io(t.vm, KVM_SET_IRQCHIP, &a));
	b.chip_id = KVM_IRQCHIP_IOAPIC;
	assert_ok(io(t.vm, KVM_GET_IRQCHIP, &b));
	assert_int_equal(b.chip.ioapic.redirtbl[4].bits, 0x10034);
	a.chip_id = KVM_IRQCHIP_PIC_MASTER;
	assert_ok(io(t.vm, KVM_GET_IRQCHIP, &a));
	a.chip.pic.imr = 0xfb;
	a.chip.pic.irq_base = 0x20;
	assert_ok(io(t.vm, KVM_SET_IRQCHIP, &a));
	b.chip_id = KVM_IRQCHIP_PIC_MASTER;
	assert_ok(io(t.vm, KVM_GET_IRQCHIP, &b));
	assert_memory_equal(&a.chip.pic, &b.chip.pic, sizeof(a.chip.pic));

	assert_ok(io(t.vm, KVM_CREATE_PIT2, &pit));
	assert_ok(io(t.vm, KVM_GET_PIT2, &p));
	p.channels[2].count = 0x1234;
	p.channels[2].mode = 3;
	p.channels[2].rw_mode = 3;
	assert_ok(io(t.vm, KVM_SET_PIT2, &p));
	assert_ok(io(t.vm, KVM_GET_PIT2, &q));
	assert_int_equal(q.channels[2].count, 0x1234);
	assert_int_equal(q.channels[2].mode, 3);
	assert_ok(io(t.vm, KVM_GET_PIT, &q));
	assert_ok(io(t.vm, KVM_SET_PIT, &q));
}

static void test_clock(void **state)
{
	struct kvm_clock_data a = {.clock = 5000000000ull}, b;

	assert_ok(io(t.vm, KVM_SET_CLOCK, &a));
	assert_ok(io(t.vm, KVM_GET_CLOCK, &b));
	assert_in_range(b.clock, 5000000000ull, 5500000000ull);
	usleep(2000);
	assert_ok(io(t.vm, KVM_GET_CLOCK, &a));
	assert_in_range(a.clock - b.clock, 2000000, 200000000);
}

GUEST(show, ".code64\n mov %cr8, %rax\n movq %xmm3, %rbx\n mov $0x277, %ecx\n rdmsr\n hlt");

/* The guest sees what was set. */
static void test_visible(void **state)
{
	struct kvm_fpu f;
	struct kvm_regs r;
	struct kvm_sregs s;

	test_vm_start(&t, MODE_LONG, show);
	assert_ok(io(t.vcpu, KVM_GET_FPU, &f));
	memset(f.xmm[3], 0x3c, 16);
	assert_ok(io(t.vcpu, KVM_SET_FPU, &f));
	assert_ok(io(t.vcpu, KVM_GET_SREGS, &s));
	s.cr8 = 7;
	assert_ok(io(t.vcpu, KVM_SET_SREGS, &s));
	/* With the APIC in the kernel HLT waits there: ask for a way out. */
	t.run->immediate_exit = 0;
	struct kvm_guest_debug dbg = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};

	((u8 *)t.mem)[CODE_GPA + (guest_show_end - guest_show) - 1] = 0xcc; /* INT3 for HLT */
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &dbg));
	assert_int_equal(test_run(&t), KVM_EXIT_DEBUG);
	assert_int_equal(t.run->debug.arch.exception, 3);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rbx, 0x3c3c3c3c3c3c3c3c);
	assert_int_equal(r.rdx << 32 | (u32)r.rax, 0x0007040600070406);
	assert_int_equal(t.run->debug.arch.pc, CODE_GPA + (guest_show_end - guest_show) - 1);
	dbg.control = 0;
	assert_ok(io(t.vcpu, KVM_SET_GUEST_DEBUG, &dbg));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_state), cmocka_unit_test(test_regs),
		cmocka_unit_test(test_sregs),	    cmocka_unit_test(test_fpu),
		cmocka_unit_test(test_xsave),	    cmocka_unit_test(test_events),
		cmocka_unit_test(test_debugregs),   cmocka_unit_test(test_mp_state),
		cmocka_unit_test(test_lapic),	    cmocka_unit_test(test_msr_list),
		cmocka_unit_test(test_chips),	    cmocka_unit_test(test_clock),
		cmocka_unit_test(test_visible),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
