/* SPDX-License-Identifier: MIT */
/*
 * Hyper-V's interface (TLFS): CPUID that is offered, MSRs with and without enforcement, the
 * hypercall page, results of hypercalls, the reference time, the VP assist page.
 */
#include "api.h"

#include "spec/hyperv.h"

static struct test_vm t;

/* Each ends in OUT, which is an exit; an exception is a triple fault. */
GUEST(rdmsr, "rdmsr; outb %al, $0x10");
GUEST(wrmsr, "wrmsr; outb %al, $0x10");
GUEST(vmcall, "vmcall; outb %al, $0x10");
GUEST(callpage, "call *%rbx; outb %al, $0x10");

#define PAGE_GPA 0x40000ul

struct cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 ents[64];
};

static struct kvm_cpuid_entry2 *leaf(struct cpuid *c, u32 function)
{
	for (u32 i = 0; i < c->head.nent; i++)
		if (c->ents[i].function == function)
			return &c->ents[i];
	fail_msg("no leaf %#x", function);
	return NULL;
}

/* The guest gets Hyper-V's leaves in the place of KVM's, which go to 0x40000100. */
static struct cpuid hv_cpuid(void)
{
	struct cpuid kvm = {.head.nent = 64}, hv = {.head.nent = 64};

	assert_ok(io(t.kvm, KVM_GET_SUPPORTED_CPUID, &kvm));
	assert_ok(io(t.kvm, KVM_GET_SUPPORTED_HV_CPUID, &hv));
	for (u32 i = 0; i < kvm.head.nent; i++) {
		struct kvm_cpuid_entry2 e = kvm.ents[i];

		if (e.function >> 28 == 4) {
			e.function += 0x100;
			if (!(e.function & 0xff))
				e.eax += 0x100;
		}
		hv.ents[hv.head.nent++] = e;
	}
	return hv;
}

static void create(bool irqchip)
{
	test_vm_create(&t, irqchip ? TEST_VM_IRQCHIP : 0);
	test_vm_add_vcpu(&t);
}

static int setup(void **state)
{
	create(true);
	return 0;
}

static int teardown(void **state)
{
	test_vm_destroy(&t);
	return 0;
}

static void give(struct cpuid c)
{
	assert_ok(io(t.vcpu, KVM_SET_CPUID2, &c));
}

static void enforce(void)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args = {1}};

	assert_ok(io(t.vcpu, KVM_ENABLE_CAP, &c));
}

/* Runs code with registers; false: it raised an exception. */
static bool execute(const u8 *code, const u8 *end, struct kvm_regs *regs)
{
	unsigned reason;
	struct kvm_regs now;

	test_vm_load(&t, MODE_LONG, code, end);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &now));
	regs->rip = now.rip;
	regs->rsp = now.rsp;
	regs->rflags = now.rflags;
	assert_ok(io(t.vcpu, KVM_SET_REGS, regs));
	reason = test_run(&t);
	if (reason == KVM_EXIT_SHUTDOWN)
		return false;
	assert_int_equal(reason, KVM_EXIT_IO);
	assert_ok(io(t.vcpu, KVM_GET_REGS, regs));
	return true;
}
#define EXECUTE(name, ...)                                        \
	({                                                        \
		regs = (struct kvm_regs){__VA_ARGS__};            \
		execute(guest_##name, guest_##name##_end, &regs); \
	})

static struct kvm_regs regs;

static bool guest_reads(u32 msr, u64 *val)
{
	bool ok = EXECUTE(rdmsr, .rcx = msr);

	*val = (u32)regs.rax | regs.rdx << 32;
	return ok;
}

static bool guest_writes(u32 msr, u64 val)
{
	return EXECUTE(wrmsr, .rcx = msr, .rax = (u32)val, .rdx = val >> 32);
}

static bool host_msr(unsigned request, u32 index, u64 *val)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = {.head.nmsrs = 1, .entry = {.index = index, .data = *val}};
	bool ok = io(t.vcpu, request, &m) == 1;

	*val = m.entry.data;
	return ok;
}

static bool host_writes(u32 msr, u64 val)
{
	return host_msr(KVM_SET_MSRS, msr, &val);
}

static u64 host_reads(u32 msr)
{
	u64 val = 0;

	assert_true(host_msr(KVM_GET_MSRS, msr, &val));
	return val;
}

/* ---- CPUID ---- */

static void test_cpuid(void **state)
{
	for (unsigned fd = 0; fd < 2; fd++) {
		int on = fd ? t.vcpu : t.kvm;
		struct cpuid c = {.head.nent = 0};

		assert_errno(io(on, KVM_GET_SUPPORTED_HV_CPUID, &c), E2BIG);
		c.head.nent = 9;
		assert_errno(io(on, KVM_GET_SUPPORTED_HV_CPUID, &c), E2BIG);
		c.head.nent = 10;
		assert_ok(io(on, KVM_GET_SUPPORTED_HV_CPUID, &c));
		assert_int_equal(c.head.nent, 10);
		assert_errno(io(on, KVM_GET_SUPPORTED_HV_CPUID, NULL), EFAULT);
		assert_int_equal(leaf(&c, HV_CPUID_VENDOR)->eax, HV_CPUID_STACK_PROPERTIES);
		assert_int_equal(leaf(&c, HV_CPUID_INTERFACE)->eax, HV_INTERFACE_SIGNATURE);
		assert_memory_equal(&leaf(&c, HV_CPUID_VENDOR)->ebx, "Linux KVM Hv", 12);
		/* Reference counter, APIC MSRs, hypercalls, VP index, TSC page, frequencies,
		 * reenlightenment: and nothing of SynIC and its timers. */
		assert_int_equal(leaf(&c, HV_CPUID_FEATURES)->eax, 0x2a72);
		assert_int_equal(leaf(&c, HV_CPUID_FEATURES)->ebx, 0);
		assert_int_equal(leaf(&c, HV_CPUID_ENLIGHTENMENTS)->eax & 0x82c, 0x82c);
		assert_int_equal(leaf(&c, HV_CPUID_LIMITS)->eax, 1024);
	}
}

/* KVM's features are looked for where its signature is. */
static void test_kvm_leaves(void **state)
{
	struct cpuid c = hv_cpuid();
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};
	const u32 steal_time = 0x4b564d03;
	u64 val;

	assert_ok(io(t.vcpu, KVM_ENABLE_CAP, &cap));
	leaf(&c, 0x40000101)->eax &= ~(1u << 5);
	give(c);
	assert_false(guest_reads(steal_time, &val));
	leaf(&c, 0x40000101)->eax |= 1u << 5;
	test_vm_destroy(&t);
	create(true);
	assert_ok(io(t.vcpu, KVM_ENABLE_CAP, &cap));
	give(c);
	assert_true(guest_reads(steal_time, &val));
}

/* ---- MSRs ---- */

static void test_not_hyperv(void **state)
{
	u64 val;

	assert_false(guest_reads(HV_MSR_GUEST_OS_ID, &val));
	assert_false(guest_writes(HV_MSR_GUEST_OS_ID, 1));
	assert_false(guest_reads(HV_MSR_VP_INDEX, &val));
	/* User space restores what it likes. */
	assert_true(host_writes(HV_MSR_GUEST_OS_ID, 0));
	/* It is KVM that answers. */
	assert_true(EXECUTE(vmcall, .rax = 99, .rcx = 0xbeef));
	assert_true(regs.rax == (u64)-1000);
}

static void test_identity(void **state)
{
	u64 val;

	give(hv_cpuid());
	/* No page without an identity. */
	assert_true(guest_writes(HV_MSR_HYPERCALL, PAGE_GPA | 1));
	assert_true(guest_reads(HV_MSR_HYPERCALL, &val));
	assert_true(val == 0);
	assert_true(guest_writes(HV_MSR_GUEST_OS_ID, 0x8100000000000000));
	assert_true(guest_reads(HV_MSR_GUEST_OS_ID, &val));
	assert_true(val == 0x8100000000000000);
	/* Where there is no memory there is no page. */
	assert_false(guest_writes(HV_MSR_HYPERCALL, MEM_SIZE | 1));
	assert_true(guest_writes(HV_MSR_HYPERCALL, PAGE_GPA | 1));
	assert_memory_equal(t.mem + PAGE_GPA, "\x0f\x01\xc1\xc3", 4);
	assert_true(guest_reads(HV_MSR_HYPERCALL, &val));
	assert_true(val == (PAGE_GPA | 1));
	/* Who has no name any more has no page. */
	assert_true(guest_writes(HV_MSR_GUEST_OS_ID, 0));
	assert_true(host_reads(HV_MSR_HYPERCALL) == PAGE_GPA);
}

static void test_vp_index(void **state)
{
	u64 val;

	give(hv_cpuid());
	assert_true(guest_reads(HV_MSR_VP_INDEX, &val));
	assert_true(val == 0);
	assert_false(guest_writes(HV_MSR_VP_INDEX, 1));
	assert_false(host_writes(HV_MSR_VP_INDEX, 1024));
	assert_true(host_writes(HV_MSR_VP_INDEX, 1023));
	assert_true(guest_reads(HV_MSR_VP_INDEX, &val));
	assert_true(val == 1023);
}

static void test_apic(void **state)
{
	u64 val;
	u32 word;

	give(hv_cpuid());
	assert_true(guest_writes(HV_MSR_TPR, 0x30));
	assert_true(guest_reads(HV_MSR_TPR, &val));
	assert_true(val == 0x30);
	assert_true(guest_writes(HV_MSR_EOI, 7));
	assert_false(guest_reads(HV_MSR_EOI, &val));
	assert_true(guest_writes(HV_MSR_ICR, 1ull << 56 | 0x4000));
	assert_true(guest_reads(HV_MSR_ICR, &val));
	assert_true(val == (1ull << 56 | 0x4000));
	/* The assist page: its first word is cleared, and has to be memory. */
	memset(t.mem + PAGE_GPA, 0xff, 8);
	assert_false(guest_writes(HV_MSR_VP_ASSIST_PAGE, MEM_SIZE | 1));
	assert_true(guest_writes(HV_MSR_VP_ASSIST_PAGE, PAGE_GPA | 1));
	memcpy(&word, t.mem + PAGE_GPA, 4);
	assert_int_equal(word, 0);
	assert_int_equal(t.mem[PAGE_GPA + 4], 0xff);
	assert_true(guest_reads(HV_MSR_VP_ASSIST_PAGE, &val));
	assert_true(val == (PAGE_GPA | 1));
	assert_true(guest_writes(HV_MSR_VP_ASSIST_PAGE, 0));
}

/* Gates of enforcement, one after the other. */
static void test_enforce(void **state)
{
	static const struct {
		u32 msr;
		unsigned bit; /* of leaf 0x40000003, EAX */
	} rows[] = {
		{HV_MSR_TIME_REF_COUNT, 1},  {HV_MSR_TPR, 4},
		{HV_MSR_VP_ASSIST_PAGE, 4},  {HV_MSR_GUEST_OS_ID, 5},
		{HV_MSR_HYPERCALL, 5},	     {HV_MSR_VP_INDEX, 6},
		{HV_MSR_REFERENCE_TSC, 9},   {HV_MSR_TSC_FREQUENCY, 11},
		{HV_MSR_APIC_FREQUENCY, 11}, {HV_MSR_REENLIGHTENMENT_CONTROL, 13},
	};
	u64 val;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned on = 0; on < 2; on++) {
			struct cpuid c = hv_cpuid();

			leaf(&c, HV_CPUID_FEATURES)->eax = on << rows[i].bit;
			give(c);
			enforce();
			if (guest_reads(rows[i].msr, &val) != on)
				fail_msg("MSR %#x with the bit %s", rows[i].msr,
					 on ? "set" : "clear");
			test_vm_destroy(&t);
			create(true);
		}
	}
}

/* ---- Hypercalls ---- */

#define FAST	(1ull << 16)
#define REPS(n) ((u64)(n) << 32)

static void identify(void)
{
	assert_true(host_writes(HV_MSR_GUEST_OS_ID, 1));
	assert_true(host_writes(HV_MSR_HYPERCALL, PAGE_GPA | 1));
}

static u64 hypercall(u64 control, u64 input, u64 output)
{
	assert_true(EXECUTE(callpage, .rbx = PAGE_GPA, .rcx = control, .rdx = input, .r8 = output));
	return regs.rax;
}

static void test_hypercalls(void **state)
{
	u64 *in = (u64 *)(t.mem + 0x41000);

	give(hv_cpuid());
	identify();
	assert_int_equal(hypercall(0xbeef, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE);
	assert_int_equal(hypercall(0x5c, 0, 0),
			 HV_STATUS_INVALID_HYPERCALL_CODE); /* post message */
	assert_int_equal(hypercall(8 | FAST, 0, 0), HV_STATUS_SUCCESS);
	assert_int_equal(hypercall(8 | FAST | REPS(1), 0, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* Flush: address space, flags, mask of processors. */
	in[1] = 3;
	assert_int_equal(hypercall(2, 0x41000, 0), 0);
	assert_int_equal(hypercall(2 | REPS(1), 0x41000, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_int_equal(hypercall(2, MEM_SIZE, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_int_equal(hypercall(2 | 1 << 17, 0x41000, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* A list says how many of its entries are done. */
	assert_true(hypercall(3 | REPS(5), 0x41000, 0) == REPS(5));
	assert_int_equal(hypercall(3, 0x41000, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	/* Sparse sets: as many banks as the header says. */
	in[1] = 2;
	in[2] = HV_VP_SET_SPARSE_4K;
	in[3] = 0x11;
	in[4] = 1;
	assert_int_equal(hypercall(0x13, 0x41000, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_int_equal(hypercall(0x13 | 2 << 17, 0x41000, 0), 0);
	assert_true(hypercall(0x14 | 2 << 17 | REPS(3), 0x41000, 0) == REPS(3));
	/* In registers, which have no room for more than ten banks. */
	assert_int_equal(hypercall(2 | FAST, 0, 3), 0);
	/* In KVM's place. */
	assert_true(EXECUTE(vmcall, .rax = 99, .rcx = 0xbeef));
	assert_int_equal(regs.rax, HV_STATUS_INVALID_HYPERCALL_CODE);
}

static void test_denied(void **state)
{
	struct cpuid c = hv_cpuid();

	leaf(&c, HV_CPUID_ENLIGHTENMENTS)->eax = 0;
	leaf(&c, HV_CPUID_ENLIGHTENMENTS)->ebx = 0;
	leaf(&c, HV_CPUID_FEATURES)->edx = 0;
	give(c);
	enforce();
	identify();
	assert_int_equal(hypercall(8 | FAST, 0, 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(hypercall(2, 0x41000, 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(hypercall(0x13, 0x41000, 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(hypercall(0xbeef, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE);
	/* SSE registers are not input: #UD. */
	assert_false(EXECUTE(callpage, .rbx = PAGE_GPA, .rcx = 2 | FAST));
}

/* ---- Time ---- */

static void test_time(void **state)
{
	struct kvm_clock_data clock = {.clock = 5000000000ull};
	struct hv_tsc_page *p = (struct hv_tsc_page *)(t.mem + PAGE_GPA), old;
	u64 before, count, tsc, by_page;

	give(hv_cpuid());
	assert_true(host_reads(HV_MSR_TSC_FREQUENCY) == (u64)io(t.vcpu, KVM_GET_TSC_KHZ, 0) * 1000);
	assert_true(host_reads(HV_MSR_APIC_FREQUENCY) == 1000000000);
	assert_ok(io(t.vm, KVM_SET_CLOCK, &clock));
	assert_true(guest_reads(HV_MSR_TIME_REF_COUNT, &count));
	assert_in_range(count, 50000000, 50000000 + 100000000);
	assert_false(guest_writes(HV_MSR_TIME_REF_COUNT, 0));
	assert_true(host_writes(HV_MSR_TIME_REF_COUNT, 0)); /* ignored */
	/* The page and the MSR tell the same time. */
	assert_true(guest_writes(HV_MSR_REFERENCE_TSC, PAGE_GPA | 1));
	assert_int_not_equal(p->sequence, 0);
	assert_true(guest_reads(HV_MSR_TIME_REF_COUNT, &before));
	tsc = host_reads(0x10);
	by_page = (u64)((u128)tsc * p->scale >> 64) + (u64)p->offset;
	assert_true(guest_reads(HV_MSR_TIME_REF_COUNT, &count));
	assert_true(before >= 50000000 && before <= by_page && by_page <= count);
	/* It follows the clock, unless the guest wants to hear of it first. */
	old = *p;
	clock.clock = 0;
	assert_ok(io(t.vm, KVM_SET_CLOCK, &clock));
	assert_true(guest_reads(HV_MSR_TIME_REF_COUNT, &count));
	assert_true(count < before);
	assert_int_not_equal(p->sequence, old.sequence);
	assert_true(guest_writes(HV_MSR_TSC_EMULATION_CONTROL, 1));
	assert_false(guest_writes(HV_MSR_TSC_EMULATION_STATUS, 1));
	old = *p;
	clock.clock = 77000000000ull;
	assert_ok(io(t.vm, KVM_SET_CLOCK, &clock));
	assert_true(guest_reads(HV_MSR_TIME_REF_COUNT, &count));
	assert_memory_equal(p, &old, sizeof(old));
	assert_true(count < 770000000);
}

/* ---- Enlightened VMCSs: what an L1 does with them is in tests/nested ---- */

static int enable_evmcs(int vcpu, void *version)
{
	struct kvm_enable_cap c = {.cap = KVM_CAP_HYPERV_ENLIGHTENED_VMCS, .args = {(u64)version}};

	return io(vcpu, KVM_ENABLE_CAP, &c);
}

#define EVMCS_RECOMMENDED BIT(14)

static void test_evmcs_cap(void **state)
{
	struct cpuid c = {.head.nent = 64};
	u16 version = 0;

	/* The system tells what there is, a vCPU what it has. */
	assert_ok(io(t.kvm, KVM_GET_SUPPORTED_HV_CPUID, &c));
	assert_true(leaf(&c, HV_CPUID_ENLIGHTENMENTS)->eax & EVMCS_RECOMMENDED);
	/* With the enlightened MSR bitmap and flushes by L2. */
	assert_int_equal(leaf(&c, HV_CPUID_NESTED)->eax, 0xa0101);
	c.head.nent = 64;
	assert_ok(io(t.vcpu, KVM_GET_SUPPORTED_HV_CPUID, &c));
	assert_false(leaf(&c, HV_CPUID_ENLIGHTENMENTS)->eax & EVMCS_RECOMMENDED);
	assert_int_equal(leaf(&c, HV_CPUID_NESTED)->eax, 0xa0000);
	assert_errno(enable_evmcs(t.vcpu, NULL), EFAULT);
	assert_errno(enable_evmcs(t.vm, &version), EINVAL);
	assert_ok(enable_evmcs(t.vcpu, &version));
	assert_int_equal(version, 0x101);
	c.head.nent = 64;
	assert_ok(io(t.vcpu, KVM_GET_SUPPORTED_HV_CPUID, &c));
	assert_true(leaf(&c, HV_CPUID_ENLIGHTENMENTS)->eax & EVMCS_RECOMMENDED);
	assert_int_equal(leaf(&c, HV_CPUID_NESTED)->eax, 0xa0101);
}

/* The guest's capability MSRs are without what has no field, user space's are not; and only if the
 * guest has Hyper-V's interface. */
static void test_evmcs_msrs(void **state)
{
	static const struct {
		u32 msr;
		u64 gone;
	} rows[] = {
		{0x481, BIT(6 + 32)}, /* preemption timer */
		{0x48d, BIT(6 + 32)},
		{0x483, BIT(22 + 32)}, /* and its saving */
		{0x48f, BIT(22 + 32)},
		{0x48b, BIT(0 + 32) | BIT(13 + 32) | BIT(14 + 32) | BIT(17 + 32)},
		{0x491, BIT(0)}, /* EPTP switching */
		{0x480, 0},
		{0x48c, 0},
		{0x48e, 0},
		{0x490, 0},
	};
	struct cpuid none = {.head.nent = 64};
	u16 version;
	u64 val;

	assert_ok(enable_evmcs(t.vcpu, &version));
	assert_ok(io(t.kvm, KVM_GET_SUPPORTED_CPUID, &none));
	give(none);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_true(guest_reads(rows[i].msr, &val));
		assert_true((val & rows[i].gone) == rows[i].gone);
		assert_true(val == host_reads(rows[i].msr));
	}
	test_vm_destroy(&t);
	create(true);
	give(hv_cpuid());
	assert_ok(enable_evmcs(t.vcpu, &version));
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		u64 host = host_reads(rows[i].msr);

		assert_true(guest_reads(rows[i].msr, &val));
		assert_true((host & rows[i].gone) == rows[i].gone && !(val & rows[i].gone));
		if (rows[i].msr != 0x48b) /* PAUSE loops besides */
			assert_true((val | rows[i].gone) == host);
	}
}

/* Not without VMX. */
static void test_evmcs_not_nested(void **state)
{
	struct cpuid c = {.head.nent = 64};
	u16 version;

	test_vm_destroy(&t);
	assert_ok(kvmless_param_set("kvm_intel.nested", "0"));
	create(true);
	assert_int_equal(io(t.vm, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_ENLIGHTENED_VMCS), 0);
	assert_errno(enable_evmcs(t.vcpu, &version), ENOTTY);
	assert_ok(io(t.kvm, KVM_GET_SUPPORTED_HV_CPUID, &c));
	assert_false(leaf(&c, HV_CPUID_ENLIGHTENMENTS)->eax & EVMCS_RECOMMENDED);
	assert_ok(kvmless_param_set("kvm_intel.nested", "1"));
}

/* Saved state has the flag where the vCPU has the capability, and no address. */
static void test_evmcs_state(void **state)
{
	struct {
		struct kvm_nested_state head;
		u8 vmcs12[4096];
	} s;
	u32 revision = 0x11e57ed0;
	u16 version;

	memset(&s, 0, sizeof(s));
	s.head.size = sizeof(s);
	s.head.flags = KVM_STATE_NESTED_EVMCS;
	s.head.hdr.vmx.vmxon_pa = 0x1000;
	s.head.hdr.vmx.vmcs12_pa = ~0ull;
	memcpy(s.vmcs12, &revision, sizeof(revision));
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, &s), EINVAL);
	assert_ok(enable_evmcs(t.vcpu, &version));
	s.head.size = sizeof(s.head); /* it comes with its contents */
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, &s), EINVAL);
	s.head.size = sizeof(s);
	assert_ok(io(t.vcpu, KVM_SET_NESTED_STATE, &s));
	memset(&s, 0xff, sizeof(s));
	s.head.size = sizeof(s);
	assert_ok(io(t.vcpu, KVM_GET_NESTED_STATE, &s));
	assert_int_equal(s.head.flags, KVM_STATE_NESTED_EVMCS);
	assert_int_equal(s.head.size, sizeof(s));
	assert_true(s.head.hdr.vmx.vmxon_pa == 0x1000);
	assert_true(s.head.hdr.vmx.vmcs12_pa == ~0ull);
	assert_memory_equal(s.vmcs12, &revision, sizeof(revision));
	/* Without the flag there has to be an address. */
	s.head.flags = 0;
	assert_errno(io(t.vcpu, KVM_SET_NESTED_STATE, &s), EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cpuid, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kvm_leaves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_hyperv, setup, teardown),
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vp_index, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_enforce, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hypercalls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_denied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evmcs_cap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evmcs_msrs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evmcs_not_nested, setup, teardown),
		cmocka_unit_test_setup_teardown(test_evmcs_state, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
