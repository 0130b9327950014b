/* SPDX-License-Identifier: MIT */
/* Instructions that the hypervisor executes: MMIO and ports in every shape, seen from user space.
 */
#include "api.h"

#define MMIO 0x30000000ul

/* ---- Bytes of MMIO reads are their addresses ---- */

static u8 byte_at(u64 addr)
{
	return (u8)(addr * 7 + 1);
}

struct access {
	bool write;
	u64 addr;
	u32 len;
};

/* Runs to HLT; answers reads from byte_at and notes every access. Returns their number. */
static unsigned run_mmio(struct test_vm *t, struct access *a, unsigned max, u8 *written)
{
	unsigned n = 0;

	for (;;) {
		unsigned reason = test_run(t);

		if (reason == KVM_EXIT_HLT)
			return n;
		if (reason != KVM_EXIT_MMIO)
			fail_msg("exit %u (%s)", reason, test_exit_name(reason));
		assert_true(n < max);
		a[n].write = t->run->mmio.is_write;
		a[n].addr = t->run->mmio.phys_addr;
		a[n].len = t->run->mmio.len;
		for (u32 i = 0; i < a[n].len; i++) {
			if (a[n].write)
				written[a[n].addr + i - MMIO] = t->run->mmio.data[i];
			else
				t->run->mmio.data[i] = byte_at(a[n].addr + i);
		}
		n++;
	}
}

static void expect(const struct access *a, unsigned i, bool write, u64 addr, u32 len)
{
	if (a[i].write != write || a[i].addr != addr || a[i].len != len)
		fail_msg("access %u: %s %lx, %u bytes", i, a[i].write ? "write" : "read", a[i].addr,
			 a[i].len);
}

GUEST(shapes, ".code64\n"
	      "	mov $0x30000000, %ebx\n"
	      "	movdqu 0x20(%rbx), %xmm1\n" /* two reads */
	      "	movups %xmm1, 0x40(%rbx)\n" /* two writes */
	      "	push 0x100(%rbx)\n"	    /* read, then memory */
	      "	pop 0x108(%rbx)\n"
	      "	xchg %rsp, %rbp\n"
	      "	xchg %rsp, %rbp\n"
	      "	lock addl $1, 0x200(%rbx)\n" /* read, write */
	      "	mov 0xffc(%rbx), %rcx\n"     /* across two pages */
	      "	mov %rcx, 0x1ffc(%rbx)\n"
	      "	bt $9, 0x300(%rbx)\n"
	      "	setc %dl\n"
	      "	cmpxchg %rcx, 0x308(%rbx)\n"
	      "	hlt");

static void test_shapes(void **state)
{
	struct access a[32];
	static u8 out[0x3000];
	struct kvm_regs r;
	struct test_vm t;
	unsigned n, i = 0;
	u64 v = 0;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, shapes);
	n = run_mmio(&t, a, 32, out);
	expect(a, i++, false, MMIO + 0x20, 8);
	expect(a, i++, false, MMIO + 0x28, 8);
	expect(a, i++, true, MMIO + 0x40, 8);
	expect(a, i++, true, MMIO + 0x48, 8);
	expect(a, i++, false, MMIO + 0x100, 8);
	expect(a, i++, true, MMIO + 0x108, 8);
	expect(a, i++, false, MMIO + 0x200, 4);
	expect(a, i++, true, MMIO + 0x200, 4);
	expect(a, i++, false, MMIO + 0xffc, 4);
	expect(a, i++, false, MMIO + 0x1000, 4);
	expect(a, i++, true, MMIO + 0x1ffc, 4);
	expect(a, i++, true, MMIO + 0x2000, 4);
	expect(a, i++, false, MMIO + 0x300, 4);
	expect(a, i++, false, MMIO + 0x308, 8);
	/* The comparison failed; the processor writes back what it read. */
	if (i < n)
		expect(a, i++, true, MMIO + 0x308, 8);
	assert_int_equal(i, n);
	for (unsigned k = 0; k < 16; k++)
		assert_int_equal(out[0x40 + k], byte_at(MMIO + 0x20 + k));
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(out[0x108 + k], byte_at(MMIO + 0x100 + k));
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	for (unsigned k = 0; k < 8; k++)
		v |= (u64)byte_at(MMIO + 0xffc + k) << (8 * k);
	assert_int_equal(r.rcx, v);
	assert_int_equal(r.rdx & 0xff, byte_at(MMIO + 0x301) >> 1 & 1);
	v = 0;
	for (unsigned k = 0; k < 8; k++)
		v |= (u64)byte_at(MMIO + 0x308 + k) << (8 * k);
	assert_int_equal(r.rax, v);
	test_vm_destroy(&t);
}

GUEST(strings, ".code64\n"
	       "	mov $0x30000000, %edi\n"
	       "	mov $0x10000, %esi\n"
	       "	mov $20, %ecx\n"
	       "	rep movsb\n" /* memory to MMIO */
	       "	mov $0x30000100, %esi\n"
	       "	mov $0x28000, %edi\n"
	       "	mov $5, %ecx\n"
	       "	rep movsl\n" /* MMIO to memory */
	       "	mov $0x30000200, %edi\n"
	       "	mov $0x5a, %al\n"
	       "	std\n"
	       "	mov $3, %ecx\n"
	       "	rep stosb\n"
	       "	cld\n"
	       "	mov $0x30000300, %esi\n"
	       "	mov $0x28000, %edi\n"
	       "	mov $4, %ecx\n"
	       "	repe cmpsb\n"
	       "	hlt");

static void test_strings(void **state)
{
	struct access a[64];
	static u8 out[0x3000];
	struct kvm_regs r;
	struct test_vm t;
	unsigned n, i = 0;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, strings);
	n = run_mmio(&t, a, 64, out);
	for (unsigned k = 0; k < 20; k++) {
		expect(a, i++, true, MMIO + k, 1);
		assert_int_equal(out[k], guest_strings[k]);
	}
	for (unsigned k = 0; k < 5; k++)
		expect(a, i++, false, MMIO + 0x100 + 4 * k, 4);
	for (unsigned k = 0; k < 20; k++)
		assert_int_equal(t.mem[0x28000 + k], byte_at(MMIO + 0x100 + k));
	for (unsigned k = 0; k < 3; k++)
		expect(a, i++, true, MMIO + 0x200 - k, 1);
	/* Byte 0x300 equals byte 0x100 (address times 7, modulo 256), and so on. */
	for (unsigned k = 0; k < 4; k++)
		expect(a, i++, false, MMIO + 0x300 + k, 1);
	assert_int_equal(i, n);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rcx, 0);
	assert_int_equal(r.rdi, 0x28004);
	assert_true(r.rflags & X86_ZF);
	test_vm_destroy(&t);
}

/* ---- Ports ---- */

GUEST(ports, ".code64\n"
	     "	mov $0x1122334455667788, %rax\n"
	     "	in $0x40, %al\n"
	     "	mov %rax, %r8\n"
	     "	mov $0x123, %dx\n"
	     "	in %dx, %ax\n"
	     "	mov %rax, %r9\n"
	     "	in %dx, %eax\n"
	     "	mov %rax, %r10\n"
	     "	out %al, $0x80\n"
	     "	mov $0x28ff0, %edi\n"
	     "	mov $30, %ecx\n"
	     "	rep insb\n" /* 16 to the end of the page, then the rest */
	     "	mov $0x28000, %edi\n"
	     "	mov $2000, %ecx\n"
	     "	rep insw\n"
	     "	mov $0x28000, %esi\n"
	     "	mov $2000, %ecx\n"
	     "	rep outsw\n"
	     "	mov $0x28ff0, %esi\n"
	     "	outsl\n"
	     "	hlt");

static void test_ports(void **state)
{
	static u8 got[8192], fed[8192];
	unsigned nout = 0, nin = 0, exits = 0, first_batch = 0;
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, ports);
	for (;;) {
		unsigned reason = test_run(&t), bytes;
		u8 *d = (u8 *)t.run + t.run->io.data_offset;

		if (reason == KVM_EXIT_HLT)
			break;
		if (reason != KVM_EXIT_IO)
			fail_msg("exit %u (%s)", reason, test_exit_name(reason));
		assert_int_equal(t.run->io.data_offset, 4096);
		bytes = t.run->io.size * t.run->io.count;
		assert_true(bytes <= 4096);
		exits++;
		if (t.run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(got + nout, d, bytes);
			nout += bytes;
			continue;
		}
		if (exits == 5) {
			first_batch = t.run->io.count;
			assert_int_equal(t.run->io.port, 0x123);
		}
		for (unsigned i = 0; i < bytes; i++)
			d[i] = fed[nin + i] = byte_at(nin + i);
		nin += bytes;
	}
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.r8, 0x1122334455667700 | byte_at(0));
	assert_int_equal(r.r9, 0x1122334455660000 | byte_at(1) | byte_at(2) << 8);
	assert_int_equal(r.r10, (u32)(byte_at(3) | byte_at(4) << 8 | byte_at(5) << 16 |
				      (u32)byte_at(6) << 24));
	assert_int_equal(got[0], byte_at(3));
	assert_int_equal(first_batch, 16);
	assert_int_equal(nin, 7 + 30 + 4000);
	assert_memory_equal(t.mem + 0x28ff0, fed + 7, 30);
	assert_memory_equal(t.mem + 0x28000, fed + 37, 0xfa0);
	assert_int_equal(nout, 1 + 4000 + 4);
	assert_memory_equal(got + 1, fed + 37, 4000);
	assert_memory_equal(got + 4001, fed + 7, 4);
	/* Batches, not one exit an element. */
	assert_true(exits < 40);
	assert_int_equal(r.rcx, 0);
	test_vm_destroy(&t);
}

/* ---- Faults of emulated instructions ---- */

GUEST(faults, ".code64\n"
	      "	mov $0x30000000, %ebx\n"
	      "	mov $0x80000000, %esp\n" /* beyond what is mapped */
	      "	push (%rbx)\n"
	      "	hlt");

static void test_fault(void **state)
{
	struct test_vm t;
	unsigned reason;

	test_vm_create(&t, 0);
	test_vm_start(&t, MODE_LONG, faults);
	/* No IDT: the page fault ends in a shutdown, with nothing of the PUSH done. */
	while ((reason = test_run(&t)) == KVM_EXIT_MMIO)
		assert_false(t.run->mmio.is_write);
	assert_int_equal(reason, KVM_EXIT_SHUTDOWN);
	test_vm_destroy(&t);
}

GUEST(x87, ".code64\n"
	   "	mov $0x30000000, %ebx\n"
	   "	flds (%rbx)\n"
	   "	hlt");

/* KVM does not emulate x87 loads, and says so with the instruction's bytes. */
static void test_emulation_failure(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = {1}};
	struct kvm_regs r;
	struct test_vm t;

	test_vm_create(&t, 0);
	assert_ok(io(t.vm, KVM_ENABLE_CAP, &cap));
	test_vm_start(&t, MODE_LONG, x87);
	assert_int_equal(test_run(&t), KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(t.run->emulation_failure.suberror, KVM_INTERNAL_ERROR_EMULATION);
	assert_true(t.run->emulation_failure.ndata >= 3);
	assert_int_equal(t.run->emulation_failure.flags,
			 KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
	assert_true(t.run->emulation_failure.insn_size >= 2);
	assert_int_equal(t.run->emulation_failure.insn_bytes[0], 0xd9);
	assert_int_equal(t.run->emulation_failure.insn_bytes[1], 0x03);
	/* The program may do it itself and go on. */
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	r.rip += 2;
	assert_ok(io(t.vcpu, KVM_SET_REGS, &r));
	test_run_to_hlt(&t);
	test_vm_destroy(&t);
}

/* ---- Real and protected mode ---- */

GUEST(real, ".code16\n"
	    "	mov $0xb800, %ax\n"
	    "	mov %ax, %es\n"
	    "	xor %di, %di\n"
	    "	mov $0x0741, %ax\n"
	    "	mov $4, %cx\n"
	    "	rep stosw\n"
	    "	mov %es:(6), %bx\n"
	    "	hlt");

static void test_real(void **state)
{
	struct kvm_regs r;
	struct test_vm t;
	unsigned n = 0;

	test_vm_create(&t, 0);
	/* A hole where the screen is. */
	set_region(t.vm, 0, 0, 0, 0, NULL);
	set_region(t.vm, 0, 0, 0, 0xa0000, t.mem);
	test_vm_start(&t, MODE_REAL, real);
	for (;; n++) {
		unsigned reason = test_run(&t);

		if (reason == KVM_EXIT_HLT)
			break;
		assert_int_equal(reason, KVM_EXIT_MMIO);
		assert_int_equal(t.run->mmio.len, 2);
		if (n < 4) {
			assert_int_equal(t.run->mmio.phys_addr, 0xb8000 + 2 * n);
			assert_int_equal(t.run->mmio.data[0], 0x41);
			assert_int_equal(t.run->mmio.data[1], 7);
		} else {
			assert_int_equal(t.run->mmio.phys_addr, 0xb8006);
			t.run->mmio.data[0] = 0x34;
			t.run->mmio.data[1] = 0x12;
		}
	}
	assert_int_equal(n, 5);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rbx & 0xffff, 0x1234);
	test_vm_destroy(&t);
}

/* ---- A read-only slot is read as memory and written as MMIO ---- */

GUEST(rom, ".code64\n"
	   "	mov $0x400000, %ebx\n"
	   "	mov (%rbx), %rax\n"
	   "	movl $0x12345678, 4(%rbx)\n"
	   "	lock incl (%rbx)\n"
	   "	mov (%rbx), %rcx\n"
	   "	hlt");

static void test_rom(void **state)
{
	u8 *rom = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_regs r;
	struct test_vm t;

	memcpy(rom, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	test_vm_create(&t, 0);
	set_region(t.vm, 1, KVM_MEM_READONLY, 0x400000, 4096, rom);
	test_vm_start(&t, MODE_LONG, rom);
	assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
	assert_true(t.run->mmio.is_write);
	assert_int_equal(t.run->mmio.phys_addr, 0x400004);
	assert_memory_equal(t.run->mmio.data, "\x78\x56\x34\x12", 4);
	assert_int_equal(test_run(&t), KVM_EXIT_MMIO);
	assert_int_equal(t.run->mmio.phys_addr, 0x400000);
	assert_memory_equal(t.run->mmio.data, "\x12\x22\x33\x44", 4);
	test_run_to_hlt(&t);
	assert_ok(io(t.vcpu, KVM_GET_REGS, &r));
	assert_int_equal(r.rax, 0x8877665544332211);
	assert_int_equal(r.rcx, 0x8877665544332211);
	test_vm_destroy(&t);
	munmap(rom, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_emulation_failure),
		cmocka_unit_test(test_real),
		cmocka_unit_test(test_rom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
