// SPDX-License-Identifier: MIT
/*
 * Events: exception bitmap with #PF mask and match, injection of every type, vectoring information
 * of exits during delivery, interrupt and NMI windows, virtual NMIs,
 * blocking. 25.6.3, 27.6, 28.2.2-28.2.4.
 */
#include "l1.h"

#define INFO(type, vector) (INTR_INFO_VALID | (type) << 8 | (vector))
enum { EXT = 0, NMI = 2, HARD = 3, SOFT = 4, PRIV = 5, SOFTEXC = 6, OTHER = 7 };

BLOB(e_ud, "", "ud2");
BLOB(e_int3, "", "int3");
BLOB(e_int, "", "int $0x41");
BLOB(e_int1, "", ".byte 0xf1");
BLOB(e_de, "xor %edx, %edx\n xor %ecx, %ecx", "div %ecx");
BLOB(e_gp, "mov $0x78, %eax", "mov %eax, %ds");
BLOB(e_nop, "", "nop");
BLOB(e_read, "mov $0xfffff008, %eax", "mov (%rax), %ebx");
BLOB(e_write, "mov $0xfffff008, %eax", "mov %ebx, (%rax)");
BLOB(e_sti, "cli", "sti\n nop\n nop");
BLOB(e_movss, "mov %ss, %eax", "mov %eax, %ss\n nop\n nop");
BLOB(e_iret,
     "mov %rsp, %rbx\n pushq $0x10\n pushq %rbx\n pushfq\n pushq $8\n lea e_iret_n(%rip), %rax\n "
     "push %rax",
     "iretq");

static void expect_event(const char *name, u64 reason, u64 info, u64 error, const char *rip)
{
	if (!check2(name, "reason", reason, EXIT_REASON_EXCEPTION_NMI))
		return;
	check2(name, "information", vmread(VM_EXIT_INTR_INFO), info);
	if (info & BIT(11))
		check2(name, "error code", vmread(VM_EXIT_INTR_ERROR_CODE), error);
	check2(name, "rip", vmread(GUEST_RIP), (u64)rip);
	check2(name, "no vectoring", vmread(IDT_VECTORING_INFO_FIELD) >> 31, 0);
}

static void bitmap(void)
{
	u64 *pde = &page_dirs[2047], old = *pde;

	vmx_fresh();
	vmwrite(EXCEPTION_BITMAP, 0xffffffff & ~BIT(14));
	expect_event("#UD", run_at(e_ud), INFO(HARD, 6), 0, e_ud_i);
	expect_event("#BP", run_at(e_int3), INFO(SOFTEXC, 3), 0, e_int3_i);
	check("#BP, length", vmread(VM_EXIT_INSTRUCTION_LEN), 1);
	expect_event("#DE", run_at(e_de), INFO(HARD, 0), 0, e_de_i);
	expect_event("#GP", run_at(e_gp), INFO(HARD, 13) | BIT(11), 0x78, e_gp_i);
	expect_event("int1", run_at(e_int1), INFO(PRIV, 1), 0, e_int1_i);
	check("int1, length", vmread(VM_EXIT_INSTRUCTION_LEN), 1);

	/* Without the bit: L2's own handler. */
	vmx_fresh();
	l2_fixup = (u64)l2_done;
	check("#UD stays in L2", run_at(e_ud), EXIT_REASON_VMCALL);
	check("#UD stays in L2, vector", l2.vector, 6);
	check("#UD stays in L2, rip", l2.rip, (u64)e_ud_i);
	l2_fixup = (u64)l2_done;
	check("#GP stays in L2", run_at(e_gp), EXIT_REASON_VMCALL);
	check("#GP stays in L2, error code", l2.error, 0x78);

	/* #PF: bit 14, and (error & mask) == match; 25.6.3 */
	*pde = 0;
	WRITE_REG(cr3, READ_REG(cr3));
	for (unsigned i = 0; i < 16; i++) {
		bool bit = i & 1, write = i & 2, mask = i & 4, match = i & 8;
		u64 error = write ? 2 : 0;
		bool exits = ((error & (mask ? 2 : 0)) == (match ? 2 : 0)) ? bit : !bit;
		u64 r;

		vmx_fresh();
		vmwrite(EXCEPTION_BITMAP, bit ? BIT(14) : 0);
		vmwrite(PAGE_FAULT_ERROR_CODE_MASK, mask ? 2 : 0);
		vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, match ? 2 : 0);
		WRITE_REG(cr2, 0x1234);
		l2_fixup = (u64)l2_done;
		r = run_at(write ? e_write : e_read);
		if (!check(exits ? "#PF exits" : "#PF stays in L2", r,
			   exits ? EXIT_REASON_EXCEPTION_NMI : EXIT_REASON_VMCALL))
			continue;
		if (exits) {
			check("#PF, information", vmread(VM_EXIT_INTR_INFO),
			      INFO(HARD, 14) | BIT(11));
			check("#PF, error code", vmread(VM_EXIT_INTR_ERROR_CODE), error);
			check("#PF, address", vmread(EXIT_QUALIFICATION), 0xfffff008);
			/* 28.1: CR2 is not loaded. */
			check("#PF, CR2", READ_REG(cr2), 0x1234);
		} else {
			check("#PF in L2, CR2", l2.cr2, 0xfffff008);
			check("#PF in L2, error code", l2.error, error);
		}
		l2_fixup = 0;
	}
	*pde = old;
	WRITE_REG(cr3, READ_REG(cr3));
}

/* Injects and lets L2's handler take it. */
static void inject(const char *name, u64 info, u64 error, u64 length, bool has_error, u64 rip)
{
	vmx_fresh();
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, info);
	vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, error);
	vmwrite(VM_ENTRY_INSTRUCTION_LEN, length);
	if ((info >> 8 & 7) == EXT)
		vmwrite(GUEST_RFLAGS, 0x202);
	l2_fixup = (u64)l2_done;
	if (!check2(name, "reason", run_at(e_nop), EXIT_REASON_VMCALL))
		return;
	check2(name, "delivered", l2.taken, 1);
	check2(name, "vector", l2.vector, info & 0xff);
	check2(name, "rip pushed", l2.rip, rip);
	if (has_error)
		check2(name, "error code", l2.error, error);
	/* 27.6: the exit clears the valid bit, and only that. */
	check2(name, "entry field after the exit", vmread(VM_ENTRY_INTR_INFO_FIELD),
	       info & ~INTR_INFO_VALID);
	check2(name, "no vectoring", vmread(IDT_VECTORING_INFO_FIELD) >> 31, 0);
	/* RFLAGS as pushed: IF as it was. */
	check2(name, "flags pushed", l2.rflags & BIT(9), (info >> 8 & 7) == EXT ? BIT(9) : 0);
}

static void injection(void)
{
	inject("external interrupt", INFO(EXT, 0x51), 0, 0, false, (u64)e_nop);
	inject("NMI", INFO(NMI, 2), 0, 0, false, (u64)e_nop);
	inject("#UD", INFO(HARD, 6), 0, 0, false, (u64)e_nop);
	inject("#GP", INFO(HARD, 13) | BIT(11), 0x1238, 0, true, (u64)e_nop);
	inject("#PF", INFO(HARD, 14) | BIT(11), 7, 0, true, (u64)e_nop);
	inject("#AC", INFO(HARD, 17) | BIT(11), 0, 0, true, (u64)e_nop);
	inject("#DF", INFO(HARD, 8) | BIT(11), 0, 0, true, (u64)e_nop);
	inject("#DB", INFO(HARD, 1), 0, 0, false, (u64)e_nop);
	inject("#MC", INFO(HARD, 18), 0, 0, false, (u64)e_nop);
	/* Software events push the RIP behind their instruction: 27.6.1.1 */
	inject("int n", INFO(SOFT, 0x61), 0, 2, false, (u64)e_nop + 2);
	inject("int1", INFO(PRIV, 1), 0, 1, false, (u64)e_nop + 1);
	inject("int3", INFO(SOFTEXC, 3), 0, 1, false, (u64)e_nop + 1);
	inject("into", INFO(SOFTEXC, 4), 0, 1, false, (u64)e_nop + 1);

	/* The #PF's address is CR2's, which the injection does not load. */
	WRITE_REG(cr2, 0xabc000);
	inject("#PF with CR2", INFO(HARD, 14) | BIT(11), 2, 0, true, (u64)e_nop);
	check("#PF with CR2, CR2", l2.cr2, 0xabc000);

	/* Injected exceptions do not go through the exception bitmap. */
	vmx_fresh();
	vmwrite(EXCEPTION_BITMAP, 0xffffffff);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INFO(HARD, 6));
	l2_fixup = (u64)l2_done;
	check("injected #UD passes the bitmap", run_at(e_nop), EXIT_REASON_VMCALL);
	check("injected #UD passes the bitmap, vector", l2.vector, 6);
}

static void vectoring_one(const char *name, u64 info, u64 error, u64 length)
{
	u64 old = vmread(GUEST_IDTR_LIMIT);

	/* The IDT ends before the vector: #GP with the IDT bit and, if external, EXT; 27.6, vol.
	 * 3A 6.13 */
	vmwrite(EXCEPTION_BITMAP, BIT(13) | BIT(8));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, info);
	vmwrite(VM_ENTRY_EXCEPTION_ERROR_CODE, error);
	vmwrite(VM_ENTRY_INSTRUCTION_LEN, length);
	vmwrite(GUEST_RFLAGS, (info >> 8 & 7) == EXT ? 0x202 : 2);
	if (check2(name, "reason", run_at(e_nop), EXIT_REASON_EXCEPTION_NMI)) {
		bool soft = (info >> 8 & 7) == SOFT || (info >> 8 & 7) == SOFTEXC;

		check2(name, "information", vmread(VM_EXIT_INTR_INFO), INFO(HARD, 13) | BIT(11));
		check2(name, "error code", vmread(VM_EXIT_INTR_ERROR_CODE),
		       (info & 0xff) << 3 | 2 | !soft);
		check2(name, "vectoring", vmread(IDT_VECTORING_INFO_FIELD), info);
		if (info & BIT(11))
			check2(name, "vectoring error code", vmread(IDT_VECTORING_ERROR_CODE),
			       error);
		if (length)
			check2(name, "length", vmread(VM_EXIT_INSTRUCTION_LEN), length);
		check2(name, "rip", vmread(GUEST_RIP), (u64)e_nop);
	}
	vmwrite(GUEST_IDTR_LIMIT, old);
}

static void vectoring(void)
{
	vmx_fresh();
	vectoring_one("vectoring, interrupt", INFO(EXT, 0x51), 0, 0);
	vectoring_one("vectoring, NMI", INFO(NMI, 2), 0, 0);
	vectoring_one("vectoring, #UD", INFO(HARD, 6), 0, 0);
	vectoring_one("vectoring, int n", INFO(SOFT, 0x61), 0, 2);
	vectoring_one("vectoring, int3", INFO(SOFTEXC, 3), 0, 1);
	/* A second contributory exception exits as itself, before it would be a double fault. */
	vectoring_one("vectoring, #NP", INFO(HARD, 11) | BIT(11), 0x20, 0);
	vectoring_one("vectoring, #GP", INFO(HARD, 13) | BIT(11), 0x18, 0);

	/* The double fault itself: not during delivery, says 28.2.4. */
	vmx_fresh();
	vmwrite(EXCEPTION_BITMAP, BIT(8));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INFO(HARD, 11) | BIT(11));
	check("double fault", run_at(e_nop), EXIT_REASON_EXCEPTION_NMI);
	check("double fault, information", vmread(VM_EXIT_INTR_INFO), INFO(HARD, 8) | BIT(11));
	check("double fault, vectoring", vmread(IDT_VECTORING_INFO_FIELD) >> 31, 0);

	/* The same by L2's own instruction. */
	vmx_fresh();
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	vmwrite(GUEST_IDTR_LIMIT, 0);
	check("own int n", run_at(e_int), EXIT_REASON_EXCEPTION_NMI);
	check("own int n, information", vmread(VM_EXIT_INTR_INFO), INFO(HARD, 13) | BIT(11));
	check("own int n, error code", vmread(VM_EXIT_INTR_ERROR_CODE), 0x41 << 3 | 2);
	check("own int n, vectoring", vmread(IDT_VECTORING_INFO_FIELD), INFO(SOFT, 0x41));
	check("own int n, length", vmread(VM_EXIT_INSTRUCTION_LEN), 2);
	check("own int n, rip", vmread(GUEST_RIP), (u64)e_int_i);
	check("own #UD", run_at(e_ud), EXIT_REASON_EXCEPTION_NMI);
	check("own #UD, error code", vmread(VM_EXIT_INTR_ERROR_CODE), 6 << 3 | 3);
	check("own #UD, vectoring", vmread(IDT_VECTORING_INFO_FIELD), INFO(HARD, 6));
	vmwrite(EXCEPTION_BITMAP, 0);
	check("triple fault", run_at(e_ud), EXIT_REASON_TRIPLE_FAULT);
}

static void windows(void)
{
	vmx_fresh();
	if (may_cpu(CPU_BASED_INTR_WINDOW_EXITING)) {
		set_cpu(CPU_BASED_INTR_WINDOW_EXITING);
		check("window closed", run_at(e_nop), EXIT_REASON_VMCALL);
		vmwrite(GUEST_RFLAGS, 0x202);
		check("window open on entry", run_at(e_nop), EXIT_REASON_INTERRUPT_WINDOW);
		check("window open on entry, rip", vmread(GUEST_RIP), (u64)e_nop);
		vmwrite(GUEST_RFLAGS, 2);
		check("window after sti", run_at(e_sti), EXIT_REASON_INTERRUPT_WINDOW);
		/* STI blocks for one instruction. */
		check("window after sti, rip", vmread(GUEST_RIP), (u64)e_sti_i + 2);
		check("window after sti, blocking", vmread(GUEST_INTERRUPTIBILITY_INFO), 0);
		vmwrite(GUEST_RFLAGS, 0x202);
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, 1);
		check("window blocked by STI on entry", run_at(e_nop),
		      EXIT_REASON_INTERRUPT_WINDOW);
		check("window blocked by STI on entry, rip", vmread(GUEST_RIP), (u64)e_nop_n);
		vmwrite(GUEST_INTERRUPTIBILITY_INFO, 2);
		check("window blocked by MOV SS on entry", run_at(e_nop),
		      EXIT_REASON_INTERRUPT_WINDOW);
		check("window blocked by MOV SS on entry, rip", vmread(GUEST_RIP), (u64)e_nop_n);
		/* HLT does not keep the window from opening: 26.2 */
		vmwrite(GUEST_RFLAGS, 0x202);
		vmwrite(GUEST_ACTIVITY_STATE, 1);
		check("window in HLT", run_at(e_nop), EXIT_REASON_INTERRUPT_WINDOW);
		/* An injected event comes first. */
		vmx_fresh();
		set_cpu(CPU_BASED_INTR_WINDOW_EXITING);
		vmwrite(GUEST_RFLAGS, 0x202);
		vmwrite(VM_ENTRY_INTR_INFO_FIELD, INFO(EXT, 0x51));
		l2_fixup = (u64)l2_done;
		check("injection closes the window", run_at(e_nop), EXIT_REASON_INTERRUPT_WINDOW);
		check("window after iret", l2.taken, 1);
		l2_fixup = 0;
	}
	if (!may_pin(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS) ||
	    !may_cpu(CPU_BASED_NMI_WINDOW_EXITING)) {
		skip("virtual NMIs", "not advertised");
		return;
	}
	vmx_fresh();
	set_pin(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS);
	set_cpu(CPU_BASED_NMI_WINDOW_EXITING);
	check("NMI window", run_at(e_nop), EXIT_REASON_NMI_WINDOW);
	check("NMI window, rip", vmread(GUEST_RIP), (u64)e_nop);
	vmwrite(GUEST_INTERRUPTIBILITY_INFO, 8);
	check("NMI window blocked", run_at(e_nop), EXIT_REASON_VMCALL);
	check("NMI blocking stays", vmread(GUEST_INTERRUPTIBILITY_INFO), 8);
	check("NMI window after iret", run_at(e_iret), EXIT_REASON_NMI_WINDOW);
	check("NMI window after iret, rip", vmread(GUEST_RIP), (u64)e_iret_n);
	check("iret unblocks", vmread(GUEST_INTERRUPTIBILITY_INFO), 0);
	vmwrite(GUEST_INTERRUPTIBILITY_INFO, 2);
	check("NMI window blocked by MOV SS", run_at(e_nop), EXIT_REASON_NMI_WINDOW);
	check("NMI window blocked by MOV SS, rip", vmread(GUEST_RIP), (u64)e_nop_n);
	/* An injected NMI blocks NMIs, virtually. */
	vmx_fresh();
	set_pin(PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS);
	vmwrite(VM_ENTRY_INTR_INFO_FIELD, INFO(NMI, 2));
	l2_fixup = (u64)l2_done;
	check("injected NMI", run_at(e_nop), EXIT_REASON_VMCALL);
	/* The handler's IRET unblocked. */
	check("injected NMI, after iret", vmread(GUEST_INTERRUPTIBILITY_INFO), 0);
	/* A fault of IRET has unblocked already: bit 12 of the information; 28.2.3 */
	vmwrite(EXCEPTION_BITMAP, BIT(13));
	vmwrite(GUEST_INTERRUPTIBILITY_INFO, 8);
	vmwrite(GUEST_RSP, BIT(62));
	vmwrite(EXCEPTION_BITMAP, BIT(12));
	vmwrite(GUEST_RIP, (u64)e_iret_i);
	check("iret faults", run(), EXIT_REASON_EXCEPTION_NMI);
	check("iret faults, information", vmread(VM_EXIT_INTR_INFO),
	      INFO(HARD, 12) | BIT(11) | BIT(12));
	check("iret faults, blocking", vmread(GUEST_INTERRUPTIBILITY_INFO), 0);
}

/* A self-NMI and an interrupt of L1's local APIC. */
#define X2APIC_ICR 0x830

static void hardware(void)
{
	u64 base = rdmsr(0x1b);

	wrmsr(0x1b, base | BIT(10) | BIT(11));
	if (may_pin(PIN_BASED_NMI_EXITING)) {
		vmx_fresh();
		set_pin(PIN_BASED_NMI_EXITING);
		/* L2 sends itself an NMI. With no MSR bitmap WRMSR exits, so one is needed. */
		if (may_cpu(CPU_BASED_USE_MSR_BITMAPS)) {
			extern char e_self_nmi[], e_self_nmi_n[];

			set_cpu(CPU_BASED_USE_MSR_BITMAPS);
			vmwrite(MSR_BITMAP, (u64)page());
			check("NMI", run_at(e_self_nmi), EXIT_REASON_EXCEPTION_NMI);
			check("NMI, information", vmread(VM_EXIT_INTR_INFO), INFO(NMI, 2));
			check("NMI, rip", vmread(GUEST_RIP), (u64)e_self_nmi_n);
			check("NMI, blocking in L2", vmread(GUEST_INTERRUPTIBILITY_INFO), 0);
		}
	}
	/* 28.5.5: L1 blocks NMIs after such an exit; one sent now waits for an IRET. */
	exc.taken = 0;
	exc_may_return = true;
	asm volatile("mov %%rsp, %%rax\n\tpushq $0x10\n\tpush %%rax\n\tpushfq\n\tpushq $8\n\t"
		     "lea 1f(%%rip), %%rax\n\tpush %%rax\n\tiretq\n1:"
		     :
		     :
		     : "rax", "memory", "cc");
	check("no NMI is left", exc.taken, 0);
	exc_may_return = false;

	if (!may_pin(PIN_BASED_EXT_INTR_MASK)) {
		skip("external interrupts", "not advertised");
		return;
	}
	wrmsr(0x80f, 0x1ff);
	vmx_fresh();
	set_pin(PIN_BASED_EXT_INTR_MASK);
	wrmsr(X2APIC_ICR, 0x40000 | 0x71);
	check("external interrupt, IF 0", run_at(e_nop), EXIT_REASON_EXTERNAL_INTERRUPT);
	check("not acknowledged", vmread(VM_EXIT_INTR_INFO) >> 31, 0);
	check("rip", vmread(GUEST_RIP), (u64)e_nop);
	if (may_exit(VM_EXIT_ACK_INTR_ON_EXIT)) {
		set_exit(VM_EXIT_ACK_INTR_ON_EXIT);
		check("external interrupt again", run_at(e_nop), EXIT_REASON_EXTERNAL_INTERRUPT);
		check("acknowledged", vmread(VM_EXIT_INTR_INFO), INFO(EXT, 0x71));
		wrmsr(0x80b, 0);
		check("and gone", run_at(e_nop), EXIT_REASON_VMCALL);
	} else {
		asm volatile("sti\n\tnop\n\tcli");
		wrmsr(0x80b, 0);
	}
	/* Without the control the interrupt is L2's. */
	vmx_fresh();
	wrmsr(X2APIC_ICR, 0x40000 | 0x72);
	check("interrupt waits while L2 has IF 0", run_at(e_nop), EXIT_REASON_VMCALL);
	vmwrite(GUEST_RFLAGS, 0x202);
	check("interrupt goes to L2", run_at(e_nop), EXIT_REASON_VMCALL);
	check("interrupt goes to L2, taken", l2.irqs, 1);
	check("interrupt goes to L2, vector", l2.irq_vector, 0x72);
	wrmsr(0x80b, 0);
}
BLOB(e_self_nmi, "mov $0x830, %ecx\n xor %edx, %edx\n mov $0x40400, %eax", "wrmsr");

void group_events(void)
{
	bitmap();
	injection();
	vectoring();
	windows();
	hardware();
}
