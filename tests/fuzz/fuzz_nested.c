// SPDX-License-Identifier: MIT
/*
 * A hostile guest hypervisor. Two processors of a guest enter L2 again and again, each with its own
 * vmcs12, in which some fields have values that somebody got wrong; the structures that vmcs12
 *points to (EPT, bitmaps, MSR lists, virtual-APIC page, PML page, posted-interrupt descriptor, EPTP
 *list) are shared and overwritten by a third thread while L2 runs. Memory ends where a page without
 *access begins.
 *
 * What must not happen: a crash, a BUG of the core, an entry of L2 that the processor refuses (our
 *own checks are to find what is wrong before), a vCPU that hangs.
 *
 *	fuzz_nested [--seconds N] [--seed N]
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "isa/isa.h"
#include "kvmapi/kvmless.h"
#include "spec/abi/kvm.h"
#include "spec/vmcs12.h"
#include "spec/vmx.h"

#define MEM   (8ul << 20)
#define NCPUS 2
/* Pages of the guest, one to one. */
#define L1_TABLES   0x2000ul
#define L1_CODE	    0x10000ul
#define L1_STACK    0x18000ul
#define VMXON	    0x20000ul
#define MSRBITMAP   0x25000ul
#define VAPIC	    0x2b000ul
#define EPT_ROOT    0x40000ul /* and the levels below, to 0x44fff */
#define L2_TABLES   0x50000ul
#define L2_CODE	    0x60000ul
#define L2_STACK    0x68000ul
#define REGION(cpu) (0x70000ul + 0x1000ul * (cpu))
/* What L1's program reads, for each processor: counts, lists, flags. */
#define BOX(cpu) (0x78000ul + 0x1000ul * (cpu))

struct box {
	u64 vmcs, vmxon;
	u64 nwrites, nreads, resume, again;
	u64 inv_type, inv_desc[2];
	struct {
		u64 field, val;
	} write[16];
	u64 read[16];
};

/* L1: RBX is its box. */
extern const u8 l1_start[], l1_exit[], l1_end[];
__asm__(".pushsection .rodata\n"
	"l1_start:\n"
	"	vmxon	8(%rbx)\n"
	"1:	vmclear	(%rbx)\n"
	"	mov	$1, %al\n"
	"	out	%al, $0x10\n"
	"	vmptrld	(%rbx)\n"
	"2:	lea	72(%rbx), %rsi\n"
	"	mov	16(%rbx), %rcx\n"
	"3:	jrcxz	4f\n"
	"	mov	(%rsi), %rax\n"
	"	mov	8(%rsi), %rdx\n"
	"	vmwrite	%rdx, %rax\n"
	"	add	$16, %rsi\n"
	"	dec	%rcx\n"
	"	jmp	3b\n"
	"4:	mov	48(%rbx), %rax\n"
	"	cmp	$8, %rax\n"
	"	jae	5f\n"
	"	invept	56(%rbx), %rax\n"
	"	invvpid	56(%rbx), %rax\n"
	"5:	cmpq	$0, 32(%rbx)\n"
	"	jne	6f\n"
	"	vmlaunch\n"
	"6:	vmresume\n"
	"	mov	$2, %al\n"
	"	out	%al, $0x10\n"
	"	jmp	1b\n"
	"l1_exit:\n"
	"	lea	328(%rbx), %rsi\n"
	"	mov	24(%rbx), %rcx\n"
	"7:	jrcxz	8f\n"
	"	mov	(%rsi), %rax\n"
	"	vmread	%rax, %rdx\n"
	"	add	$8, %rsi\n"
	"	dec	%rcx\n"
	"	jmp	7b\n"
	"8:	mov	$3, %al\n"
	"	out	%al, $0x10\n"
	"	cmpq	$0, 40(%rbx)\n"
	"	je	1b\n"
	"	movq	$1, 32(%rbx)\n"
	"	jmp	2b\n"
	"l1_end:\n"
	".popsection\n");

static struct {
	int kvm, vm, vcpu[NCPUS];
	struct kvm_run *run[NCPUS];
	size_t run_size;
	u8 *mem;
	struct kvm_cpuid2 *cpuid;
	bool stop, over;
	u64 ctl[5]; /* what may be 1 */
	u64 entries, exits, refused, kicks, resets, errors;
} f;

static const u32 fields[] = {
#define VMCS(name, encoding, vmcs12, shadow) encoding,
#include "spec/vmcs.def"
};
#define FIELDS ARRAY_SIZE(fields)

/* ---- Choices ---- */

static __thread u64 seed;
static u64 first_seed;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dull;
}

static u64 below(u64 n)
{
	return (rnd() >> 8) % n;
}

static u64 number(void)
{
	switch (below(9)) {
	case 0: return below(8);
	case 1: return 0 - below(8);
	case 2: return BIT(below(64)) - below(3) + 1;
	case 3: return 0x20000 + below(0x60) * 0x1000; /* a structure of ours */
	case 4: return MEM - below(0x2000);	       /* where memory ends */
	case 5: return MEM + below(4) * 0x1000;
	case 6: return rnd() & 0xffffffff;
	case 7: return 0x1000 * below(1 << 20);
	default: return rnd();
	}
}

static void __attribute__((noreturn)) fail(const char *what)
{
	fprintf(stderr, "fuzz_nested: %s (errno %s), seed %#lx\n", what, strerrorname_np(errno),
		first_seed);
	_exit(1);
}

#define DO(fd, req, arg)                                              \
	do {                                                          \
		if (kvmless_ioctl(fd, req, (unsigned long)(arg)) < 0) \
			fail(#req);                                   \
	} while (0)

/* ---- The guest's memory as each round finds it ---- */

static u64 *at(u64 gpa)
{
	return (u64 *)(f.mem + gpa);
}

static void fill_tables(u64 root, u64 bits, u64 large, u64 leaf)
{
	memset(at(root), 0, 0x4000);
	*at(root) = (root + 0x1000) | bits;
	*at(root + 0x1000) = (root + 0x2000) | bits;
	*at(root + 0x2000) = (root + 0x3000) | bits;
	for (u64 i = 1; i < MEM >> 21; i++)
		at(root + 0x2000)[i] = i << 21 | bits | large;
	for (u64 i = 0; i < 512; i++)
		at(root + 0x3000)[i] = i << 12 | leaf;
}

/* Pieces of L2's program: each may exit. A register is given a number before. */
static const struct {
	u8 len, code[8];
} pieces[] = {
	{2, {0x0f, 0xa2}},		     /* cpuid */
	{2, {0x0f, 0x01}},		     /* completed by a random byte */
	{3, {0x0f, 0x01, 0xc1}},	     /* vmcall */
	{3, {0x0f, 0x01, 0xd4}},	     /* vmfunc */
	{1, {0xf4}},			     /* hlt */
	{2, {0xe4, 0x20}},		     /* in */
	{2, {0xe7, 0x80}},		     /* out */
	{1, {0xec}},			     /* in %dx */
	{2, {0xf3, 0x6c}},		     /* rep insb */
	{2, {0x0f, 0x32}},		     /* rdmsr */
	{2, {0x0f, 0x30}},		     /* wrmsr */
	{3, {0x0f, 0x22, 0xd8}},	     /* mov %rax, %cr3 */
	{3, {0x0f, 0x20, 0xd8}},	     /* mov %cr3, %rax */
	{3, {0x0f, 0x22, 0xc0}},	     /* mov %rax, %cr0 */
	{3, {0x0f, 0x22, 0xe0}},	     /* mov %rax, %cr4 */
	{4, {0x44, 0x0f, 0x22, 0xc0}},	     /* mov %rax, %cr8 */
	{3, {0x0f, 0x23, 0xf8}},	     /* mov %rax, %dr7 */
	{3, {0x0f, 0x78, 0xc2}},	     /* vmread */
	{3, {0x0f, 0x79, 0xc2}},	     /* vmwrite */
	{2, {0xf3, 0x90}},		     /* pause */
	{3, {0x48, 0x8b, 0x00}},	     /* mov (%rax), %rax */
	{3, {0x48, 0x89, 0x00}},	     /* mov %rax, (%rax) */
	{3, {0x0f, 0x01, 0x38}},	     /* invlpg (%rax) */
	{3, {0x0f, 0x01, 0x10}},	     /* lgdt (%rax) */
	{3, {0x0f, 0x00, 0xd0}},	     /* lldt */
	{3, {0x0f, 0x01, 0xd1}},	     /* xsetbv */
	{2, {0x0f, 0x09}},		     /* wbinvd */
	{3, {0x0f, 0xc7, 0xf0}},	     /* rdrand */
	{2, {0x0f, 0x31}},		     /* rdtsc */
	{1, {0xcc}},			     /* int3 */
	{2, {0xcd, 0x21}},		     /* int */
	{2, {0x0f, 0x0b}},		     /* ud2 */
	{1, {0xfb}},			     /* sti */
	{1, {0xfa}},			     /* cli */
	{1, {0x9d}},			     /* popf */
	{2, {0x48, 0xcf}},		     /* iretq */
	{3, {0x0f, 0xc7, 0x18}},	     /* xrstors */
	{5, {0x66, 0x0f, 0x38, 0x82, 0x08}}, /* invpcid */
	{3, {0x0f, 0x01, 0xc8}},	     /* monitor */
	{3, {0x0f, 0x01, 0xc9}},	     /* mwait */
};

static void write_l2(void)
{
	u8 *p = f.mem + L2_CODE, *end = p + 0xf00;
	s32 back;

	for (unsigned n = 1 + below(12); n && p < end; n--) {
		unsigned k = below(ARRAY_SIZE(pieces));
		static const u8 regs[] = {0xb8, 0xb9, 0xba};
		u64 v = below(3) ? number() : 0;

		switch (below(6)) {
		case 0: v = VAPIC + below(0x1000); break;
		case 1: v = 0x800 + below(0x40); break; /* x2APIC MSRs */
		case 2: v = 0xc0000080 + below(8); break;
		default: break;
		}
		for (unsigned i = 0; i < 3; i++) {
			if (i && below(2))
				continue;
			*p++ = 0x48;
			*p++ = regs[i];
			memcpy(p, &v, 8);
			p += 8;
		}
		memcpy(p, pieces[k].code, pieces[k].len);
		p += pieces[k].len;
		if (k == 1)
			*p++ = (u8)rnd();
	}
	/* Back to the start: L2 never ends by itself. */
	p[0] = 0xe9;
	back = (s32)(f.mem + L2_CODE - (p + 5));
	memcpy(p + 1, &back, sizeof(back));
}

static void set(struct vmcs12 *v, u32 field, u64 val)
{
	if (vmcs12_find(field) >= 0)
		vmcs12_write(v, field, val);
}

static void write_vmcs(unsigned cpu)
{
	struct vmcs12 *v = (void *)at(REGION(cpu));
	u64 cr4 = CR4_PAE | CR4_VMXE;
	static const u32 sel[] = {0x802, 0x800, 0x804, 0x806, 0x808, 0x80a};

	memset(v, 0, sizeof(*v));
	v->revision = VMCS12_REVISION;
	set(v, PIN_BASED_VM_EXEC_CONTROL, f.ctl[0] & 0xffffffff);
	set(v, CPU_BASED_VM_EXEC_CONTROL,
	    (f.ctl[1] & 0xffffffff) | CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
	set(v, VM_EXIT_CONTROLS, (f.ctl[2] & 0xffffffff) | VM_EXIT_HOST_ADDR_SPACE_SIZE);
	set(v, VM_ENTRY_CONTROLS, (f.ctl[3] & 0xffffffff) | VM_ENTRY_IA32E_MODE);
	set(v, SECONDARY_VM_EXEC_CONTROL,
	    below(4) ? (SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VPID) & f.ctl[4] >> 32
		     : 0);
	set(v, VIRTUAL_PROCESSOR_ID, 1 + below(3));
	set(v, IO_BITMAP_A, 0x23000);
	set(v, IO_BITMAP_B, 0x24000);
	set(v, MSR_BITMAP, MSRBITMAP);
	set(v, VMREAD_BITMAP, 0x26000);
	set(v, VMWRITE_BITMAP, 0x27000);
	set(v, VM_ENTRY_MSR_LOAD_ADDR, 0x28000);
	set(v, VM_EXIT_MSR_STORE_ADDR, 0x29000);
	set(v, VM_EXIT_MSR_LOAD_ADDR, 0x2a000);
	set(v, VIRTUAL_APIC_PAGE_ADDR, VAPIC);
	set(v, APIC_ACCESS_ADDR, 0x2c000);
	set(v, POSTED_INTR_DESC_ADDR, 0x2d000);
	set(v, POSTED_INTR_NV, 0xf2);
	set(v, PML_ADDRESS, 0x2e000);
	set(v, EPTP_LIST_ADDRESS, 0x2f000);
	set(v, VM_FUNCTION_CONTROL, 1);
	set(v, EPT_POINTER, EPT_ROOT | 6 | 3 << 3 | below(2) << 6);
	set(v, VMCS_LINK_POINTER, below(4) ? ~0ull : 0x22000);
	set(v, GUEST_IA32_EFER, 0xd01);
	set(v, HOST_IA32_EFER, 0xd01);
	/* Guest and host: 64-bit mode on the same flat segments. */
	for (unsigned i = 0; i < 6; i++) {
		bool cs = sel[i] == 0x802;

		set(v, sel[i], cs ? 8 : 16);
		set(v, sel[i] + 0x4000, ~0u);
		set(v, sel[i] + 0x4014, cs ? 0xa09b : 0xc093);
		set(v, sel[i] + 0x400, cs ? 8 : 16);
	}
	set(v, 0x80e, 0x18); /* TR */
	set(v, 0x480e, 0x67);
	set(v, 0x4822, 0x8b);
	set(v, 0x0c0c, 0x18);
	set(v, 0x4820, 0x10000); /* LDTR is unusable */
	set(v, 0x6800, CR0_PE | CR0_PG | CR0_NE);
	set(v, 0x6802, L2_TABLES);
	set(v, 0x6804, cr4);
	set(v, 0x681a, 0x400);
	set(v, 0x681c, L2_STACK);
	set(v, 0x681e, L2_CODE);
	set(v, 0x6820, 2);
	set(v, 0x6c00, CR0_PE | CR0_PG | CR0_NE);
	set(v, 0x6c02, L1_TABLES);
	set(v, 0x6c04, cr4);
	set(v, 0x6c14, L1_STACK);
	set(v, 0x6c16, L1_CODE + (u64)(l1_exit - l1_start));
}

/* Flips a control that may be flipped; with some the fields that they need. */
static void flip_control(struct vmcs12 *v)
{
	static const u32 which[] = {PIN_BASED_VM_EXEC_CONTROL, CPU_BASED_VM_EXEC_CONTROL,
				    SECONDARY_VM_EXEC_CONTROL, SECONDARY_VM_EXEC_CONTROL,
				    SECONDARY_VM_EXEC_CONTROL, VM_EXIT_CONTROLS,
				    VM_ENTRY_CONTROLS};
	static const u8 cap[] = {0, 1, 4, 4, 4, 2, 3};
	unsigned k = below(ARRAY_SIZE(which));
	u64 may = f.ctl[cap[k]] >> 32 & ~f.ctl[cap[k]] & 0xffffffff, bit = BIT(below(32));
	u64 val;

	if (vmcs12_find(which[k]) < 0 || !(may & bit))
		return;
	val = vmcs12_read(v, which[k]) ^ bit;
	vmcs12_write(v, which[k], val);
	if (which[k] == SECONDARY_VM_EXEC_CONTROL &&
	    (val & (SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE | SECONDARY_EXEC_APIC_REGISTER_VIRT |
		    SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)))
		vmcs12_write(v, CPU_BASED_VM_EXEC_CONTROL,
			     vmcs12_read(v, CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_TPR_SHADOW);
	if (which[k] == SECONDARY_VM_EXEC_CONTROL && (val & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
		vmcs12_write(v, PIN_BASED_VM_EXEC_CONTROL,
			     vmcs12_read(v, PIN_BASED_VM_EXEC_CONTROL) | PIN_BASED_EXT_INTR_MASK);
}

static void mutate(unsigned cpu)
{
	struct vmcs12 *v = (void *)at(REGION(cpu));
	struct box *b = (void *)at(BOX(cpu));

	for (u64 n = below(4); n; n--)
		flip_control(v);
	for (u64 n = below(3); n; n--) {
		u32 field = fields[below(FIELDS)];

		if (vmcs12_find(field) < 0)
			continue;
		set(v, field,
		    below(2) ? number()
			     : vmcs12_read(v, field) ^ BIT(below(vmcs_is_high(field) ? 32 : 64)));
	}
	if (!below(6)) {
		set(v, VM_ENTRY_INTR_INFO_FIELD,
		    INTR_INFO_VALID | below(8) << 8 | below(below(2) ? 32 : 256) | below(2) << 11);
		set(v, VM_ENTRY_EXCEPTION_ERROR_CODE, below(2) ? 0 : number());
		set(v, VM_ENTRY_INSTRUCTION_LEN, below(16));
	}
	if (!below(4)) {
		set(v, VM_ENTRY_MSR_LOAD_COUNT, below(4));
		set(v, VM_EXIT_MSR_STORE_COUNT, below(4));
		set(v, VM_EXIT_MSR_LOAD_COUNT, below(4));
	}
	if (!below(50))
		at(REGION(cpu))[below(512)] = number();
	b->vmcs = REGION(cpu);
	b->vmxon = VMXON;
	b->nwrites = below(4) ? 0 : below(16);
	for (unsigned i = 0; i < b->nwrites; i++) {
		b->write[i].field = below(8) ? fields[below(FIELDS)] : number();
		b->write[i].val = number();
	}
	b->nreads = below(3) ? 0 : below(16);
	for (unsigned i = 0; i < b->nreads; i++)
		b->read[i] = below(8) ? fields[below(FIELDS)] : number();
	b->resume = !below(8);
	b->again = below(3);
	b->inv_type = below(4) ? ~0ull : below(5);
	b->inv_desc[0] = below(2) ? EPT_ROOT | 0x1e : number();
	b->inv_desc[1] = number();
}

static void write_memory(unsigned cpu)
{
	static const u32 msrs[] = {0x10,  0x1b,	      0x174,	  0x277,      0x48d,	 0x6e0,
				   0x808, 0xc0000080, 0xc0000081, 0xc0000100, 0xc0000102};

	fill_tables(L1_TABLES, 7, BIT(7), 7);
	fill_tables(L2_TABLES, 7, BIT(7), 7);
	fill_tables(EPT_ROOT, 7, BIT(7) | 6 << 3, 7 | 6 << 3);
	memcpy(at(L1_CODE), l1_start, l1_end - l1_start);
	*(u32 *)at(VMXON) = VMCS12_REVISION;
	for (u64 page = 0x22000; page < 0x30000; page += 0x1000)
		if (!below(4))
			memset(at(page), below(3) ? 0 : (int)rnd(), 0x1000);
	*(u32 *)at(0x22000) = VMCS12_REVISION | VMCS12_SHADOW;
	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k < 4; k++) {
			at(0x28000 + 0x1000 * i)[2 * k] =
				below(8) ? msrs[below(ARRAY_SIZE(msrs))] : number();
			at(0x28000 + 0x1000 * i)[2 * k + 1] = below(2) ? 0 : number();
		}
	at(0x2f000)[0] = EPT_ROOT | 6 | 3 << 3;
	at(0x2f000)[1] = EPT_ROOT | 6 | 3 << 3 | BIT(6);
	at(0x2f000)[2] = number();
	write_l2();
	write_vmcs(cpu);
	mutate(cpu);
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
	__atomic_add_fetch(&f.errors, 1, __ATOMIC_RELAXED);
	if (run->internal.ndata < 16)
		return;
	fprintf(stderr, "fuzz_nested: %.127s\n", (const char *)run->internal.data);
	fail("a BUG of the core");
}

static void *vcpu_thread(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg, kicks = 0;
	struct kvm_run *run = f.run[cpu];

	seed = first_seed * (cpu + 2) | 1;
	write_memory(cpu);
	set_up(cpu);
	while (!__atomic_load_n(&f.stop, __ATOMIC_ACQUIRE)) {
		if (kvmless_ioctl(f.vcpu[cpu], KVM_RUN, 0) < 0) {
			if (errno != EINTR && errno != EAGAIN && errno != EFAULT)
				fail("KVM_RUN");
			__atomic_add_fetch(&f.kicks, 1, __ATOMIC_RELAXED);
			if (errno != EFAULT && ++kicks < 6)
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
	seed = first_seed * 7 | 1;
	for (unsigned n = 0; !__atomic_load_n(&f.stop, __ATOMIC_ACQUIRE); n++) {
		struct timespec ts = {.tv_nsec = 100000 + (long)below(300000)};

		nanosleep(&ts, NULL);
		for (u64 k = below(8); k; k--) {
			u64 page = below(3)   ? 0x22000 + below(14) * 0x1000
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
	struct kvm_userspace_memory_region mr = {.memory_size = MEM, .userspace_addr = (u64)f.mem};

	/* Mostly as users have them. */
	for (unsigned i = 0; i < ARRAY_SIZE(params); i++)
		if (kvmless_param_set(params[i], (i == 2) != !below(3) ? "0" : "1"))
			fail(params[i]);
	if (kvmless_param_set("kvmless.engine", below(2) ? "interp" : "auto"))
		fail("kvmless.engine");
	f.kvm = kvmless_open(O_RDWR | O_CLOEXEC);
	f.vm = kvmless_ioctl(f.kvm, KVM_CREATE_VM, 0);
	if (f.vm < 0)
		fail("KVM_CREATE_VM");
	DO(f.vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	DO(f.vm, KVM_CREATE_IRQCHIP, 0);
	DO(f.vm, KVM_SET_USER_MEMORY_REGION, &mr);
	f.run_size = (size_t)kvmless_ioctl(f.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (!f.cpuid) {
		f.cpuid = calloc(1, sizeof(*f.cpuid) + 256 * sizeof(f.cpuid->entries[0]));
		if (!f.cpuid)
			fail("memory");
	}
	f.cpuid->nent = 256;
	DO(f.kvm, KVM_GET_SUPPORTED_CPUID, f.cpuid);
	for (unsigned i = 0; i < NCPUS; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = {.head.nmsrs = 1, .entry = {.index = 0x3a, .data = 5}};

		f.vcpu[i] = kvmless_ioctl(f.vm, KVM_CREATE_VCPU, i);
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
			f.ctl[k] = one.entry.data;
		}
	}
}

static void end_vm(void)
{
	for (unsigned i = 0; i < NCPUS; i++) {
		munmap(f.run[i], f.run_size);
		kvmless_close(f.vcpu[i]);
	}
	kvmless_close(f.vm);
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
	u8 *p;

	clock_gettime(CLOCK_MONOTONIC, &start);
	first_seed = (u64)start.tv_nsec << 20 ^ (u64)getpid();
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			seconds = (unsigned)strtoul(argv[++i], NULL, 0);
		} else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
			first_seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: fuzz_nested [--seconds N] [--seed N]\n");
			return 2;
		}
	}
	printf("fuzz_nested: first seed %#lx\n", first_seed);
	fflush(stdout);
	p = mmap(NULL, MEM + 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + PAGE_SIZE, MEM, PROT_READ | PROT_WRITE))
		fail("memory");
	f.mem = p + PAGE_SIZE;
	signal(SIGALRM, on_alarm);
	kvmless_log(log_line, NULL, KVMLESS_LOG_WARN);
	do {
		seed = first_seed | 1;
		alarm(60);
		one_vm();
		first_seed = first_seed * 6364136223846793005ull + 1442695040888963407ull;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < seconds);
	printf("fuzz_nested: %lu rounds, %lu exits to L1, %lu entries refused, %lu kicks, %lu "
	       "set-ups, "
	       "%lu internal errors\n",
	       f.entries, f.exits, f.refused, f.kicks, f.resets, f.errors);
	return f.exits ? 0 : 1;
}
