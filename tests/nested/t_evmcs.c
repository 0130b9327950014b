// SPDX-License-Identifier: MIT
/*
 * Enlightened VMCSs (TLFS, "Nested virtualization"): which one is used, the layout, the clean
 * fields group by group, the enlightened MSR bitmap, flushes that L2 asks of L0, VMX instructions.
 */
#include "evmcs.h"
#include "l1.h"

#define TRAP_AFTER_FLUSH 0x10000031

/* ---- Fields in memory, without and with the bit that tells L0 ---- */

static u64 peek(u32 field)
{
	const struct evmcs_field *f = evmcs_find(field);
	u64 v = 0;

	memcpy(&v, (char *)evmcs + f->offset, f->size);
	return v;
}

static void poke(u32 field, u64 v)
{
	const struct evmcs_field *f = evmcs_find(field);

	memcpy((char *)evmcs + f->offset, &v, f->size);
}

static void tell(u32 field)
{
	int group = evmcs_find(field)->group;

	if (group == EVMCS_ALL)
		evmcs->clean_fields = 0;
	else if (group != EVMCS_NONE)
		evmcs->clean_fields &= ~BIT(group);
}

static u64 seen; /* what L2 saw */

/* What L0 has not been told of it does not see; unless the VM has been moved meanwhile, and L0
 * knows nothing any more. */
static bool not_told(const char *name, u64 got, u64 want)
{
	return moved || check2(name, "not told", got, want);
}

static void l2_nothing(void) {}

static void l2_rdtsc(void)
{
	seen = rdtsc();
}

static void l2_cr0(void)
{
	seen = READ_REG(cr0);
}

static void l2_int3(void)
{
	asm volatile("int3");
}

static void l2_out(void)
{
	outb(0x80, 0);
}

static void l2_rdmsr(void)
{
	seen = rdmsr(MSR_GS_BASE);
}

static void l2_flush(void)
{
	seen = hypercall(2 | 1 << 16, 0, 3); /* all processors, all address spaces */
	/* The VMCALL that ends L2's functions is not to be taken for another. */
	asm volatile("mov $0xbeef, %%ecx" : : : "rcx");
}

/*
 * Runs a function in L2, and tells of nothing: it returns to where the stack pointer happens to be,
 * which is 8 bytes further each time.
 */
static u64 run_clean(const void *fn)
{
	*(u64 *)peek(GUEST_RSP) = (u64)l2_done;
	poke(GUEST_RIP, (u64)fn);
	return run();
}

/* Another page at an address that L2 has in its TLB. */
#define REMAPPED 0x4000000ul
static u64 seen_before;

static void l2_remap(void)
{
	seen_before = *(volatile u64 *)REMAPPED;
	page_dirs[REMAPPED >> 21] += 0x200000;
	l2_flush();
	seen = *(volatile u64 *)REMAPPED;
}

/* A launch, so that L0 has everything; all groups are clean after it. */
static void start(void)
{
	vmx_fresh();
	poke(GUEST_RSP, (u64)(l2_stack_top - 2048));
	check("entry", run_clean(l2_nothing), EXIT_REASON_VMCALL);
	check("clean fields after an entry", evmcs->clean_fields, EVMCS_CLEAN_ALL);
}

/* ---- Which is entered ---- */

static void selection(void)
{
	u64 ptr = 0;

	vmx_fresh();
	evmcs->version = 2;
	check("version 2", run_at(l2_nothing), NOENTRY(INVALID));
	evmcs->version = revision;
	check("the revision of IA32_VMX_BASIC", run_at(l2_nothing), EXIT_REASON_VMCALL);
	evmcs->version = 1;
	vp_assist->current_nested_vmcs = (u64)evmcs + 8;
	check("address that is not a page's", vmlaunch_try(), EXC(6));
	vp_assist->current_nested_vmcs = 1ull << 40;
	check("address without memory", vmlaunch_try(), EXC(6));
	vp_assist->current_nested_vmcs = 1ull << 63;
	check("address beyond MAXPHYADDR", vmresume_try(), EXC(6));
	vp_assist->current_nested_vmcs = (u64)evmcs;
	vp_assist->enlighten_vmentry = 0;
	check("not enabled in the VP assist page", vmlaunch_try(), INVALID);
	vp_assist->enlighten_vmentry = 1;
	start();
	/* There is no launch state. */
	check("VMLAUNCH of what was launched", (vmx_load(evmcs), run_at(l2_nothing)),
	      EXIT_REASON_VMCALL);
	check("VMPTRLD", vmptrld((u64)vmcs_page), INVALID);
	check("VMPTRST", vmptrst(&ptr), 0);
	check("VMPTRST: no VMCS", ptr, ~0ull);
	check("VMREAD", VMX_INSN("vmread %1, (%2)", "r"((u64)VM_EXIT_REASON), "r"(&ptr)), 0);
	check("VMREAD, value", ptr, EXIT_REASON_VMCALL);
	check("VMREAD of a field that there is not",
	      VMX_INSN("vmread %1, (%2)", "r"((u64)APIC_ACCESS_ADDR), "r"(&ptr)), VALID(12));
	check("VM-instruction error in memory", peek(VM_INSTRUCTION_ERROR), 12);
	check("VMWRITE", VMX_INSN("vmwrite %2, %1", "r"((u64)GUEST_RIP), "r"(0ull)), INVALID);
}

/* ---- Controls that have no fields ---- */

static void capabilities(void)
{
	check("preemption timer", may_pin(PIN_BASED_VMX_PREEMPTION_TIMER), false);
	check("posted interrupts", may_pin(PIN_BASED_POSTED_INTR), false);
	check("APIC-access page", may_cpu2(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES), false);
	check("virtual-interrupt delivery", may_cpu2(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY), false);
	check("VM functions", may_cpu2(SECONDARY_EXEC_ENABLE_VMFUNC) | caps[0x11], false);
	check("VMCS shadowing", may_cpu2(SECONDARY_EXEC_SHADOW_VMCS), false);
	check("PML", may_cpu2(SECONDARY_EXEC_ENABLE_PML), false);
	check("PAUSE loops", may_cpu2(SECONDARY_EXEC_PAUSE_LOOP_EXITING), false);
	check("save preemption timer", may_exit(VM_EXIT_SAVE_VMX_PREEMPTION_TIMER), false);
	start();
	set_pin(PIN_BASED_VMX_PREEMPTION_TIMER);
	check("entry with the preemption timer", run_at(l2_nothing), NOENTRY(VALID(7)));
	check("... error in memory", peek(VM_INSTRUCTION_ERROR), 7);
	clear_pin(PIN_BASED_VMX_PREEMPTION_TIMER);
	check("and without it", run_at(l2_nothing), EXIT_REASON_VMCALL);
	check("the error stays", peek(VM_INSTRUCTION_ERROR), 7);
}

/* ---- Clean fields of the guest's state ---- */

/*
 * What an exit saves comes from where L0 has it. A value that L0 was not told of is not there: the
 * exit puts the old one back. One that it was told of comes back.
 */
static void guest_field(u32 field, const char *name, u64 flip)
{
	u64 old = peek(field);

	poke(field, old ^ flip);
	if (check2(name, "not told, entry", run_clean(l2_nothing), EXIT_REASON_VMCALL))
		not_told(name, peek(field), old);
	poke(field, old ^ flip);
	tell(field);
	if (check2(name, "told, entry", run_clean(l2_nothing), EXIT_REASON_VMCALL))
		check2(name, "told", peek(field), old ^ flip);
	poke(field, old);
	tell(field);
	check2(name, "back again", run_clean(l2_nothing), EXIT_REASON_VMCALL);
}

#define GUEST(field, flip) guest_field(field, #field, flip)
#define AVL		   0x1000 /* in access rights */

static void guest_state(void)
{
	start();
	GUEST(GUEST_ES_SELECTOR, 0x100);
	GUEST(GUEST_CS_SELECTOR, 0x100);
	GUEST(GUEST_SS_SELECTOR, 0x100);
	GUEST(GUEST_DS_SELECTOR, 0x100);
	GUEST(GUEST_FS_SELECTOR, 0x100);
	GUEST(GUEST_GS_SELECTOR, 0x100);
	GUEST(GUEST_TR_SELECTOR, 0x100);
	GUEST(GUEST_ES_LIMIT, BIT(31));
	GUEST(GUEST_CS_LIMIT, BIT(31));
	GUEST(GUEST_SS_LIMIT, BIT(31));
	GUEST(GUEST_DS_LIMIT, BIT(31));
	GUEST(GUEST_FS_LIMIT, BIT(31));
	GUEST(GUEST_GS_LIMIT, BIT(31));
	GUEST(GUEST_TR_LIMIT, 0x100);
	GUEST(GUEST_GDTR_LIMIT, 0x4000);
	GUEST(GUEST_IDTR_LIMIT, 0x4000);
	GUEST(GUEST_ES_AR_BYTES, AVL);
	GUEST(GUEST_CS_AR_BYTES, AVL);
	GUEST(GUEST_SS_AR_BYTES, AVL);
	GUEST(GUEST_DS_AR_BYTES, AVL);
	GUEST(GUEST_FS_AR_BYTES, AVL);
	GUEST(GUEST_GS_AR_BYTES, AVL);
	GUEST(GUEST_TR_AR_BYTES, AVL);
	GUEST(GUEST_FS_BASE, 0x7654321000);
	GUEST(GUEST_GS_BASE, 0x1234567000);
	GUEST(GUEST_TR_BASE, 0x2000);
	GUEST(GUEST_GDTR_BASE, 0x3000);
	GUEST(GUEST_IDTR_BASE, 0x4000);
	GUEST(GUEST_IA32_PAT, 0x0600000000000000);
	GUEST(GUEST_SYSENTER_ESP, 0x5000);
	GUEST(GUEST_SYSENTER_EIP, 0x6000);
	GUEST(GUEST_SYSENTER_CS, 0x7000);
	GUEST(GUEST_PDPTR0, 0x8000);
	GUEST(GUEST_PDPTR3, 0x9000);
	GUEST(GUEST_CR3, BIT(3));
	GUEST(GUEST_RFLAGS, BIT(21));
}

/* ---- Clean fields of controls and the host's state: by what they do ---- */

static void told(const char *name, u32 field, u64 val, const void *fn, u64 without, u64 with)
{
	run_clean(l2_nothing); /* HOST_RSP is as it will be */
	poke(field, val);
	not_told(name, run_clean(fn), without);
	poke(field, val); /* an exit may have put the old one back */
	tell(field);
	check2(name, "told", run_clean(fn), with);
}

static void host_field(const char *name, u32 field, u64 val, u32 msr)
{
	u64 old = rdmsr(msr);

	run_clean(l2_nothing); /* HOST_RSP is as it will be */
	poke(field, val);
	run_clean(l2_nothing);
	not_told(name, rdmsr(msr), old);
	tell(field);
	run_clean(l2_nothing);
	check2(name, "told", rdmsr(msr), val);
	poke(field, old);
	tell(field);
	run_clean(l2_nothing);
	check2(name, "back again", rdmsr(msr), old);
}

static void controls(void)
{
	u8 *bitmap = page(), *ones = page();

	memset(ones, 0xff, 4096);
	start();
	told("CPU_BASED_VM_EXEC_CONTROL", CPU_BASED_VM_EXEC_CONTROL,
	     peek(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_RDTSC_EXITING, l2_rdtsc,
	     EXIT_REASON_VMCALL, EXIT_REASON_RDTSC);
	start();
	exc_may_return = true;
	told("EXCEPTION_BITMAP", EXCEPTION_BITMAP, BIT(3), l2_int3, EXIT_REASON_VMCALL,
	     EXIT_REASON_EXCEPTION_NMI);
	start();
	vmwrite(CPU_BASED_VM_EXEC_CONTROL,
		vmread(CPU_BASED_VM_EXEC_CONTROL) | CPU_BASED_USE_IO_BITMAPS);
	vmwrite(IO_BITMAP_A, (u64)bitmap);
	vmwrite(IO_BITMAP_B, (u64)bitmap);
	check("I/O bitmaps", run_at(l2_out), EXIT_REASON_VMCALL);
	told("IO_BITMAP_A", IO_BITMAP_A, (u64)ones, l2_out, EXIT_REASON_VMCALL,
	     EXIT_REASON_IO_INSTRUCTION);
	start();
	poke(CR0_READ_SHADOW, READ_REG(cr0) ^ BIT(3));
	poke(CR0_GUEST_HOST_MASK, BIT(3));
	run_clean(l2_cr0);
	not_told("CR0 mask and shadow", seen, READ_REG(cr0));
	tell(CR0_READ_SHADOW);
	run_clean(l2_cr0);
	check("CR0 mask and shadow: told", seen, READ_REG(cr0) ^ BIT(3));
	start();
	told("VM_ENTRY_INTR_INFO_FIELD", VM_ENTRY_INTR_INFO_FIELD, 0x80000040, l2_nothing,
	     EXIT_REASON_VMCALL, FAILED | EXIT_REASON_INVALID_STATE);
	/* 27.6.1.3: an interrupt needs RFLAGS.IF; the failure is an exit with the field as it was.
	 */
	check("... qualification", peek(EXIT_QUALIFICATION), 0);
	check("... RIP stays", peek(GUEST_RIP), (u64)l2_nothing);
	start();
	poke(VM_ENTRY_CONTROLS, peek(VM_ENTRY_CONTROLS) | VM_ENTRY_LOAD_IA32_PAT);
	run_clean(l2_nothing);
	not_told("VM_ENTRY_CONTROLS", peek(VM_ENTRY_CONTROLS) & VM_ENTRY_LOAD_IA32_PAT, 0);
	start();
	told("VM_EXIT_CONTROLS", VM_EXIT_CONTROLS,
	     peek(VM_EXIT_CONTROLS) & ~(u64)VM_EXIT_HOST_ADDR_SPACE_SIZE, l2_nothing,
	     EXIT_REASON_VMCALL, NOENTRY(VALID(8)));
	start();
	poke(VM_ENTRY_MSR_LOAD_ADDR, 8);
	told("VM_ENTRY_MSR_LOAD_COUNT", VM_ENTRY_MSR_LOAD_COUNT, 1, l2_nothing, EXIT_REASON_VMCALL,
	     NOENTRY(VALID(7)));
	start();
	set_cpu(CPU_BASED_USE_TSC_OFFSETTING);
	run_at(l2_nothing);
	poke(TSC_OFFSET, 1ull << 60);
	run_clean(l2_rdtsc);
	not_told("TSC_OFFSET", seen >> 60, 0);
	tell(TSC_OFFSET);
	run_clean(l2_rdtsc);
	check("TSC offset: told", seen >> 60, 1);
	start();
	if (may_cpu2(SECONDARY_EXEC_ENABLE_VPID)) {
		set_cpu2(SECONDARY_EXEC_ENABLE_VPID);
		vmwrite(VIRTUAL_PROCESSOR_ID, 5);
		check("VPID", run_at(l2_nothing), EXIT_REASON_VMCALL);
		told("VIRTUAL_PROCESSOR_ID", VIRTUAL_PROCESSOR_ID, 0, l2_nothing,
		     EXIT_REASON_VMCALL, NOENTRY(VALID(7)));
	}
	start();
	host_field("HOST_FS_BASE", HOST_FS_BASE, 0x123456000, MSR_FS_BASE);
	host_field("HOST_IA32_SYSENTER_ESP", HOST_IA32_SYSENTER_ESP, 0x654321000, MSR_SYSENTER_ESP);
}

/* ---- More than one ---- */

static void two(void)
{
	struct evmcs *a = evmcs, *b = page();
	u32 r[4];

	start();
	memcpy(b, a, sizeof(*b));
	poke(GUEST_FS_BASE, 0x1000); /* of a, and L0 is not told */
	evmcs = b;
	vp_assist->current_nested_vmcs = (u64)b;
	poke(GUEST_FS_BASE, 0x2000);
	/* Time for the VM to be moved: the state of one is not to end up in the other. */
	for (unsigned i = 0; i < 300; i++)
		cpuid(0, 0, r);
	check("a second one is L1's until it is entered", peek(GUEST_FS_BASE), 0x2000);
	/* Whatever the clean fields say: they were of another. */
	check("a second one", run_clean(l2_nothing), EXIT_REASON_VMCALL);
	check("a second one is read as a whole", peek(GUEST_FS_BASE), 0x2000);
	evmcs = a;
	vp_assist->current_nested_vmcs = (u64)a;
	check("back to the first", run_clean(l2_nothing), EXIT_REASON_VMCALL);
	check("the first is read as a whole", peek(GUEST_FS_BASE), 0x1000);
	check("the second is left alone", b->f_GUEST_FS_BASE, 0x2000);
	poke(GUEST_FS_BASE, 0x3000);
	check("VMCLEAR", vmclear((u64)a), 0);
	check("after VMCLEAR", run_clean(l2_nothing), EXIT_REASON_VMCALL);
	check("after VMCLEAR it is read as a whole", peek(GUEST_FS_BASE), 0x3000);
	/* VMCLEAR does not know what it has, and writes nothing. */
	b->abort = 0;
	*(u32 *)&b->f_HOST_ES_SELECTOR = 0x12345678;
	check("VMCLEAR of another", vmclear((u64)b), 0);
	check("... writes nothing", *(u32 *)&b->f_HOST_ES_SELECTOR, 0x12345678);
}

/* ---- Nothing but what an exit changes is written ---- */

static void written(void)
{
	static u8 before[sizeof(struct evmcs)];
	bool ok = true;

	start();
	run_clean(l2_nothing); /* HOST_RSP is as it will be */
	for (unsigned i = 0; i < evmcs_nfields; i++)
		if (evmcs_fields[i].group == EVMCS_NONE && evmcs_fields[i].encoding != GUEST_RIP &&
		    evmcs_fields[i].encoding != TPR_THRESHOLD)
			poke(evmcs_fields[i].encoding, ~0ull);
	memcpy(before, evmcs, sizeof(before));
	run_clean(l2_rdtsc);
	for (unsigned i = 0; i < evmcs_nfields; i++) {
		const struct evmcs_field *f = &evmcs_fields[i];
		bool changes = f->encoding == GUEST_RIP || f->encoding == GUEST_RSP ||
			       f->encoding == GUEST_RFLAGS;
		/* Exit information: bits 11:10 of the encoding are 1. */
		bool info = (f->encoding >> 10 & 3) == 1 && f->encoding != VM_INSTRUCTION_ERROR &&
			    !(f->encoding >= IO_RCX && f->encoding <= IO_RIP);
		/* This exit has nothing to say in it. */
		bool other = f->encoding == GUEST_PHYSICAL_ADDRESS ||
			     f->encoding == VM_EXIT_INTR_ERROR_CODE ||
			     f->encoding == IDT_VECTORING_ERROR_CODE;

		if (!changes && !info &&
		    memcmp(before + f->offset, (char *)evmcs + f->offset, f->size)) {
			ok = false;
			check("field that an exit does not change", f->encoding, 0);
		}
		if (info && !other &&
		    !memcmp(before + f->offset, (char *)evmcs + f->offset, f->size)) {
			ok = false;
			check("field that an exit writes", f->encoding, 0);
		}
	}
	check("fields that an exit writes", ok, true);
	/* It is guest state, but stays L1's; not told of, it is not looked at either. */
	if (!moved) {
		poke(VMCS_LINK_POINTER, 0x123000);
		check("link pointer, entry", run_clean(l2_nothing), EXIT_REASON_VMCALL);
		check("link pointer", peek(VMCS_LINK_POINTER), 0x123000);
	}
}

/* ---- Enlightened MSR bitmap ---- */

static void msr_bitmap(void)
{
	u8 *bitmap = page();
	const unsigned byte = 0x400 + (MSR_GS_BASE & 0x1fff) / 8, bit = MSR_GS_BASE & 7;

	start();
	set_cpu(CPU_BASED_USE_MSR_BITMAPS);
	vmwrite(MSR_BITMAP, (u64)bitmap);
	check("MSR bitmap", run_at(l2_rdmsr), EXIT_REASON_VMCALL);
	bitmap[byte] |= 1 << bit;
	check("a bitmap without enlightenment is looked at", run_clean(l2_rdmsr),
	      EXIT_REASON_MSR_READ);
	bitmap[byte] = 0;
	evmcs->enlightenments = 2;
	evmcs->clean_fields &= ~EVMCS_MSR_BITMAP;
	check("enlightened, told", run_clean(l2_rdmsr), EXIT_REASON_VMCALL);
	bitmap[byte] |= 1 << bit;
	not_told("enlightened MSR bitmap", run_clean(l2_rdmsr), EXIT_REASON_VMCALL);
	evmcs->clean_fields &= ~EVMCS_MSR_BITMAP;
	check("enlightened, told again", run_clean(l2_rdmsr), EXIT_REASON_MSR_READ);
}

/* ---- Flushes of L2 ---- */

static void direct_flush(void)
{
	u32 *assist = page(), r[4];

	start();
	cpuid(0x4000000a, 0, r);
	if (!(r[0] & BIT(17))) {
		skip("direct flush", "not advertised");
		return;
	}
	evmcs->vm_id = 1;
	evmcs->vp_id = 1;
	evmcs->partition_assist = (u64)assist;
	check("flush by L2: L1's", run_clean(l2_flush), EXIT_REASON_VMCALL);
	evmcs->enlightenments = 1;
	check("not enabled in the VP assist page", (seen = 7, run_clean(l2_flush), seen), 7);
	vp_assist->nested_features = 1;
	check("L0 answers", run_clean(l2_flush), EXIT_REASON_VMCALL);
	check("L0 answers, L2 is at its end", peek(GUEST_RIP), (u64)l2_done);
	check("L0 answers, status", seen, 0);
	*(u64 *)REMAPPED = 0x1111;
	*(u64 *)(REMAPPED + 0x200000) = 0x2222;
	check("L2 changes its page table", run_clean(l2_remap), EXIT_REASON_VMCALL);
	page_dirs[REMAPPED >> 21] -= 0x200000;
	WRITE_REG(cr3, READ_REG(cr3));
	check("... before the flush", seen_before, 0x1111);
	check("... and after it", seen, 0x2222);
	*assist = 1;
	seen = 7;
	check("L1 is told after the flush", run_clean(l2_flush), TRAP_AFTER_FLUSH);
	check("... L2 goes on", run(), EXIT_REASON_VMCALL);
	check("... at its end", peek(GUEST_RIP), (u64)l2_done);
	*assist = 0;
	vp_assist->nested_features = 0;
	check("no longer", run_clean(l2_flush), EXIT_REASON_VMCALL);
	check("no longer, where", peek(GUEST_RIP) != (u64)l2_done, true);
}

void group_evmcs(void)
{
	u32 r[4];

	if (!evmcs) {
		skip("enlightened VMCSs", "the guest does not have Hyper-V's interface");
		return;
	}
	cpuid(0x40000004, 0, r);
	check("recommended", r[0] >> 14 & 1, 1);
	cpuid(0x4000000a, 0, r);
	check("version", r[0] & 0xffff, 0x101);
	check("a hypercall that there is not", hypercall(0xbeef, 0, 0), 2);
	selection();
	capabilities();
	guest_state();
	controls();
	two();
	written();
	msr_bitmap();
	direct_flush();
}
