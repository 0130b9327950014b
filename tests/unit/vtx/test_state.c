// SPDX-License-Identifier: MIT
/*
 * EPT, task switches, and the state that entries load and exits save (SDM vol. 3C, chapters 27 to
 * 29).
 */
#include "guest.h"

#include <string.h>

/* ---- EPT
 * ------------------------------------------------------------------------------------------ */

BLOB(touch, "mov ebx, 0x8123; mov eax, [rbx]; mov [rbx], eax; jmp rbx");

static void test_ept_violations(void **state)
{
	struct guest *g = *state;
	u64 leaf = g->ept_pt[DATA >> 12];

	GUEST_CODE(g, touch);
	/* Not present: nothing allowed; linear address valid and translated. */
	g->ept_pt[DATA >> 12] = 0;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x1ff, 0x181);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS), 0x8123);
	assert_int_equal(vmr(g, GUEST_LINEAR_ADDRESS), 0x8123);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 5);
	/* Read-only: the write, with R in bit 3. */
	g->ept_pt[DATA >> 12] = leaf & ~6ull;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x1ff, 0x18a);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 7);
	/* Not executable: the fetch. */
	g->ept_pt[DATA >> 12] = leaf & ~4ull;
	assert_int_equal(sil_invept(g->cpu, 1, g->eptp), SIL_VMX_OK);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x1ff, 0x19c);
	assert_int_equal(vmr(g, GUEST_RIP), 0x8123);
	/* A page table out of reach: linear address valid, but not its translation's. */
	g->ept_pt[DATA >> 12] = leaf;
	g->ept_pt[(PML4 >> 12) + 1] = 0;
	assert_int_equal(sil_invept(g->cpu, 2, 0), SIL_VMX_OK);
	vmw(g, GUEST_RIP, CODE);
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION) & 0x180, 0x80);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS) & PAGE_MASK, PML4 + 0x1000);
	assert_int_equal(vmr(g, GUEST_LINEAR_ADDRESS), CODE);
}

static void test_ept_misconfiguration(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, touch);
	/* Writable but not readable. */
	g->ept_pt[DATA >> 12] = (g->ept_pt[DATA >> 12] & ~7ull) | 2;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_MISCONFIG);
	assert_int_equal(vmr(g, GUEST_PHYSICAL_ADDRESS), 0x8123);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 5);
}

BLOB(dirty, "mov eax, 1; mov [0x8000], eax; mov [0x9000], eax; mov [0xa000], eax");

static void test_page_modification_log(void **state)
{
	struct guest *g = *state;
	u64 *log = guest_page(g);

	GUEST_CODE(g, dirty);
	vm_cpu2(g, SECONDARY_EXEC_ENABLE_PML);
	vmw(g, EPT_POINTER, g->eptp | EPTP_AD);
	vmw(g, PML_ADDRESS, (u64)log);
	vmw(g, GUEST_PML_INDEX, 1);
	/* The guest's page tables get accessed flags, which are writes to them: 29.3.5. */
	for (unsigned i = 0; i < 512; i++)
		if (i < 8 || i > 10)
			g->ept_pt[i] |= EPT_A | EPT_D;
	assert_int_equal(guest_run(g), EXIT_REASON_PML_FULL);
	assert_int_equal(log[1], 0x8000);
	assert_int_equal(log[0], 0x9000);
	assert_int_equal(vmr(g, GUEST_PML_INDEX), 0xffff);
	assert_int_equal(vmr(g, GUEST_RIP), CODE + 19);
	/* Not set for what could not be logged. */
	assert_true(g->ept_pt[9] & EPT_D);
	assert_false(g->ept_pt[10] & EPT_D);
}

/* ---- Task switches
 * --------------------------------------------------------------------------------- */

BLOB(task, ".byte 0xea; .long 0; .word 0x30"); /* jmp 0x30:0 */
BLOB(task_gate, ".code32\nint 0x40");

static void test_task_switches(void **state)
{
	struct guest *g = *state;
	u64 gate = 0x0000850000300000;

	guest_32(g);
	GUEST_CODE(g, task);
	assert_int_equal(guest_run(g), EXIT_REASON_TASK_SWITCH);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), SEL_TSS2 | 2u << 30);
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 7);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), 0);
	/* Through a gate in the IDT: the event is in IDT-vectoring information. */
	memcpy(g->mem + IDT + 0x40 * 8, &gate, 8);
	GUEST_CODE(g, task_gate);
	assert_int_equal(guest_run(g), EXIT_REASON_TASK_SWITCH);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), SEL_TSS2 | 3u << 30);
	assert_int_equal(vmr(g, IDT_VECTORING_INFO_FIELD), INFO(4, 0x40));
	assert_int_equal(vmr(g, VM_EXIT_INSTRUCTION_LEN), 2);
}

/* ---- State that entries load and exits save
 * --------------------------------------------------------- */

BLOB(set_efer, "mov ecx, 0xc0000080; rdmsr; or eax, 0x801; wrmsr; rdmsr; vmcall");

static void test_efer(void **state)
{
	struct guest *g = *state;

	vmw(g, MSR_BITMAP, (u64)guest_page(g));
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_MSR_BITMAPS);
	GUEST_CODE(g, set_efer);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0xd01);
	assert_int_equal(vmr(g, GUEST_IA32_EFER), 0xd01);
	/* Not saved unless the exit controls say so. */
	vm_clear(g, VM_EXIT_CONTROLS, VM_EXIT_SAVE_IA32_EFER);
	vmw(g, GUEST_IA32_EFER, 0x500);
	vmw(g, GUEST_RIP, CODE);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0xd01);
	assert_int_equal(vmr(g, GUEST_IA32_EFER), 0x500);
	/* Not loaded: the host's, with LMA and LME as the entry controls say. */
	vm_clear(g, VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_IA32_EFER);
	vmw(g, HOST_IA32_EFER, 0x500);
	vmw(g, GUEST_RIP, CODE);
	run_to_vmcall(g);
	vmw(g, GUEST_RIP, CODE);
	memcpy(g->mem + CODE, "\xb9\x80\x00\x00\xc0\x0f\x32\x0f\x01\xc1", 10);
	sil_memory_written(g->m, (hva_t)g->mem + CODE, 10);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 0x500);
}

BLOB(to_long, ".code32\nmov ecx, 0xc0000080; mov eax, 0x100; xor edx, edx; wrmsr; mov eax, 0x4000\n"
	      "mov cr3, eax; mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, cr0; bts eax, 31\n"
	      "mov cr0, eax; .byte 0xea; .long 0x10100; .word 8");

/* A guest that switches modes finds its entry control changed: 28.3.1. */
static void test_mode_switch(void **state)
{
	struct guest *g = *state;

	guest_32(g);
	vmw(g, MSR_BITMAP, (u64)guest_page(g));
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_MSR_BITMAPS);
	GUEST_CODE(g, to_long);
	memcpy(g->mem + CODE + 0x100, "\x0f\x01\xc1", 3);
	assert_int_equal(run_to_vmcall(g), CODE + 0x100);
	assert_true(vmr(g, VM_ENTRY_CONTROLS) & VM_ENTRY_IA32E_MODE);
	assert_int_equal(vmr(g, GUEST_IA32_EFER), EFER_LME | EFER_LMA);
	assert_int_equal(vmr(g, GUEST_CR0), 0x80000033);
	assert_int_equal(vmr(g, GUEST_CS_AR_BYTES), 0xa09b);
	/* And enters again as it is. */
	assert_int_equal(run_to_vmcall(g), CODE + 0x100);
}

BLOB(real, ".code16\nmov ax, 0x1234; mov ds, ax; mov bx, 0x10; mov [bx], ax; vmcall");

static void test_real_mode(void **state)
{
	struct guest *g = *state;
	u16 w;

	guest_real(g);
	GUEST_CODE(g, real);
	assert_int_equal(guest_run(g), EXIT_REASON_VMCALL);
	assert_int_equal(vmr(g, GUEST_DS_BASE), 0x12340);
	memcpy(&w, g->mem + 0x12350, 2);
	assert_int_equal(w, 0x1234);
}

/* 28.3.3: RF is saved as 0 by an exit that an instruction causes, as 1 by an EPT violation. */
BLOB(vmcall, "vmcall");
static void test_resume_flag(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, vmcall);
	vm_or(g, GUEST_RFLAGS, X86_RF);
	run_to_vmcall(g);
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2);
	GUEST_CODE(g, touch);
	g->ept_pt[DATA >> 12] = 0;
	assert_int_equal(guest_run(g), EXIT_REASON_EPT_VIOLATION);
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2 | X86_RF);
}

/* PAE paging under EPT: the PDPTEs are the VMCS's (27.3.2.4), and their reserved bits count. */
BLOB(pae, ".code32\nmov ebx, [0x8000]; vmcall");

static void test_pdptes(void **state)
{
	struct guest *g = *state;

	guest_32(g);
	GUEST_CODE(g, pae);
	vmw(g, GUEST_CR0, 0x80000033);
	vm_or(g, GUEST_CR4, CR4_PAE);
	vmw(g, GUEST_CR3, 0x7000); /* nothing is there */
	vmw(g, GUEST_PDPTR0, (PML4 + 0x2000) | 1);
	g->mem[DATA] = 0x5a;
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RBX], 0x5a);
	assert_int_equal(vmr(g, GUEST_PDPTR0), (PML4 + 0x2000) | 1);
	vmw(g, GUEST_PDPTR2, 1 | BIT(1));
	assert_int_equal(sil_vmresume(g->cpu), SIL_VMX_OK);
	assert_int_equal(vmr(g, VM_EXIT_REASON), 0x80000021);
	assert_int_equal(vmr(g, EXIT_QUALIFICATION), 2);
	assert_string_equal(sil_last_failure(g->cpu)->id, "PDPTE2");
}

BLOB(flags, "stc; mov eax, 0x7fffffff; add eax, 1; vmcall");

static void test_flags(void **state)
{
	struct guest *g = *state;

	GUEST_CODE(g, flags);
	run_to_vmcall(g);
	/* Of 0x7fffffff + 1: OF SF AF PF, no CF, no ZF. */
	assert_int_equal(vmr(g, GUEST_RFLAGS), 2 | X86_OF | X86_SF | X86_AF | X86_PF);
	/* Flags given at entry are seen by the guest. */
	memcpy(g->mem + CODE, "\x9c\x58\x0f\x01\xc1", 5); /* pushfq; pop rax; vmcall */
	sil_memory_written(g->m, (hva_t)g->mem + CODE, 5);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, GUEST_RFLAGS, 2 | X86_CF | X86_ZF);
	run_to_vmcall(g);
	assert_int_equal(g->r->gpr[RAX], 2 | X86_CF | X86_ZF);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		T(test_ept_violations),
		T(test_ept_misconfiguration),
		T(test_page_modification_log),
		T(test_task_switches),
		T(test_efer),
		T(test_mode_switch),
		T(test_real_mode),
		T(test_resume_flag),
		T(test_pdptes),
		T(test_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
