// SPDX-License-Identifier: MIT
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/counter.h"
#include "spec/msr.h"

#define ROOT_PAGES 64

static u64 host_tsc(void *opaque)
{
	struct guest *g = opaque;

	if (g->tsc_native)
		return counter_read();
	return __atomic_fetch_add(&g->tsc, g->tsc_step, __ATOMIC_RELAXED);
}

static void host_arm(void *opaque, struct sil_cpu *cpu, u64 tsc)
{
	struct guest *g = opaque;

	g->armed = tsc;
	if (g->fire_timer && tsc != ~0ull) {
		g->tsc = tsc;
		sil_cpu_timer(cpu);
	}
}

static bool host_owns(void *opaque, u64 hva)
{
	const struct guest *g = opaque;

	return hva - (u64)g->mem < GUEST_MEM;
}

static u64 host_random(void *opaque)
{
	return 4;
}

static const struct sil_host host = {host_tsc, host_arm, host_owns, host_random};

void *guest_page(struct guest *g)
{
	assert_true(g->npages < ROOT_PAGES);
	return g->pages + g->npages++ * PAGE_SIZE;
}

u64 vmr(struct guest *g, u32 field)
{
	u64 val = 0;

	assert_int_equal(sil_vmread(g->cpu, field, &val), SIL_VMX_OK);
	return val;
}

void vmw(struct guest *g, u32 field, u64 val)
{
	if (sil_vmwrite(g->cpu, field, val) != SIL_VMX_OK)
		fail_msg("VMWRITE of %#x", field);
}

void vm_or(struct guest *g, u32 field, u64 bits)
{
	vmw(g, field, vmr(g, field) | bits);
}

void vm_clear(struct guest *g, u32 field, u64 bits)
{
	vmw(g, field, vmr(g, field) & ~bits);
}

void vm_cpu2(struct guest *g, u64 bits)
{
	vm_or(g, CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
	vm_or(g, SECONDARY_VM_EXEC_CONTROL, bits);
}

static void put64(struct guest *g, u64 gpa, u64 val)
{
	memcpy(g->mem + gpa, &val, 8);
}

static void build_memory(struct guest *g)
{
	u64 *pdpt = guest_page(g), *pd = guest_page(g);

	g->ept_root = guest_page(g);
	g->ept_pt = guest_page(g);
	g->ept_root[0] = (u64)pdpt | 7;
	pdpt[0] = (u64)pd | 7;
	pd[0] = (u64)g->ept_pt | 7;
	for (unsigned i = 0; i < 512; i++)
		g->ept_pt[i] = ((u64)g->mem + i * PAGE_SIZE) | EPT_MT_WB | 7;
	g->eptp = (u64)g->ept_root | EPTP_WALK_4 | EPTP_MT_WB;

	/* Linear = guest-physical for the first GiB, in 2 MiB pages. */
	put64(g, PML4, (PML4 + 0x1000) | 7);
	put64(g, PML4 + 0x1000, (PML4 + 0x2000) | 7);
	for (u64 i = 0; i < 512; i++)
		put64(g, PML4 + 0x2000 + i * 8, i << 21 | 0x87);

	put64(g, GDT + SEL_CODE64, 0x00af9b000000ffff);
	put64(g, GDT + SEL_DATA, 0x00cf93000000ffff);
	put64(g, GDT + SEL_CODE32, 0x00cf9b000000ffff);
	put64(g, GDT + SEL_TSS, 0x00008b0000000067 | TSS << 16);
	put64(g, GDT + SEL_TSS2, 0x0000890000000067 | (TSS + 0x100) << 16);
	put64(g, TSS + 4, STACK);
	for (u64 i = 0; i < 256; i++) {
		put64(g, IDT + i * 16,
		      (HANDLER(i) & 0xffff) | SEL_CODE64 << 16 | 0x8eull << 40 |
			      (HANDLER(i) >> 16) << 48);
		memcpy(g->mem + HANDLER(i), "\x0f\x01\xc1", 3);
	}
}

static void seg(struct guest *g, unsigned n, u16 sel, u32 ar, u32 limit, u64 base)
{
	vmw(g, GUEST_ES_SELECTOR + n * 2, sel);
	vmw(g, GUEST_ES_AR_BYTES + n * 2, ar);
	vmw(g, GUEST_ES_LIMIT + n * 2, limit);
	vmw(g, GUEST_ES_BASE + n * 2, base);
}

static void init_vmcs(struct guest *g)
{
	u64 basic;

	g->vmcs = guest_page(g);
	assert_int_equal(sil_rdmsr(g->m, MSR_IA32_VMX_BASIC, &basic), 0);
	*(u32 *)g->vmcs = basic & BITS(30, 0);
	assert_int_equal(sil_vmclear(g->cpu, g->vmcs), SIL_VMX_OK);
	assert_int_equal(sil_vmptrld(g->cpu, g->vmcs), SIL_VMX_OK);

	vmw(g, PIN_BASED_VM_EXEC_CONTROL, 0x16 | PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING);
	vmw(g, CPU_BASED_VM_EXEC_CONTROL, 0x04006172);
	vmw(g, VM_EXIT_CONTROLS,
	    0x36dff | VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_SAVE_IA32_EFER |
		    VM_EXIT_LOAD_IA32_EFER);
	vmw(g, VM_ENTRY_CONTROLS, 0x11ff | VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_EFER);
	vm_cpu2(g, SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VPID);
	vmw(g, EPT_POINTER, g->eptp);
	vmw(g, VIRTUAL_PROCESSOR_ID, 1);
	vmw(g, VMCS_LINK_POINTER, ~0ull);

	vmw(g, HOST_CR0, 0x80000021);
	vmw(g, HOST_CR4, 0x2020);
	vmw(g, HOST_IA32_EFER, EFER_LME | EFER_LMA);
	vmw(g, HOST_CS_SELECTOR, 8);
	vmw(g, HOST_TR_SELECTOR, 0x10);

	vmw(g, GUEST_CR0, 0x80000033);
	vmw(g, GUEST_CR3, PML4);
	vmw(g, GUEST_CR4, CR4_VMXE | CR4_PAE | CR4_OSFXSR);
	vmw(g, GUEST_IA32_EFER, EFER_LME | EFER_LMA);
	vmw(g, GUEST_DR7, 0x400);
	vmw(g, GUEST_RFLAGS, 2);
	vmw(g, GUEST_RIP, CODE);
	vmw(g, GUEST_RSP, STACK);
	for (unsigned i = 0; i < 6; i++)
		seg(g, i, SEL_DATA, 0xc093, ~0u, 0);
	seg(g, CS, SEL_CODE64, 0xa09b, ~0u, 0);
	seg(g, LDTR, 0, 0x10000, 0, 0);
	seg(g, TR, SEL_TSS, 0x8b, 0x67, TSS);
	vmw(g, GUEST_GDTR_BASE, GDT);
	vmw(g, GUEST_GDTR_LIMIT, 0xff);
	vmw(g, GUEST_IDTR_BASE, IDT);
	vmw(g, GUEST_IDTR_LIMIT, 0xfff);
}

/* @n bytes between two pages that nobody may touch. */
static u8 *map_guarded(size_t n)
{
	u8 *p = mmap(NULL, n + 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + PAGE_SIZE, n, PROT_READ | PROT_WRITE), 0);
	return p + PAGE_SIZE;
}

static void unmap_guarded(u8 *p, size_t n)
{
	munmap(p - PAGE_SIZE, n + 2 * PAGE_SIZE);
}

static enum sil_engine engine_asked(void)
{
	const char *name = getenv("KVMLESS_TEST_ENGINE");

	return name && !strcmp(name, "jit") ? SIL_ENGINE_JIT : SIL_ENGINE_INTERP;
}

void guest_init(struct guest *g)
{
	guest_init_engine(g, engine_asked());
}

static void init(struct guest *g, enum sil_engine engine, bool tsc_native)
{
	struct sil_config cfg = {.vendor = SIL_INTEL,
				 .engine = engine,
				 .tsc_khz = 2000000,
				 .tsc_native = tsc_native,
				 .host = &host,
				 .host_opaque = g};

	*g = (struct guest){.tsc = 1000, .tsc_step = 1, .tsc_native = tsc_native};
	g->mem = map_guarded(GUEST_MEM);
	g->pages = map_guarded(ROOT_PAGES * PAGE_SIZE);
	assert_int_equal(sil_machine_create(&cfg, &g->m), 0);
	assert_int_equal(sil_cpu_create(g->m, &g->cpu), 0);
	g->r = sil_regs(g->cpu);
	build_memory(g);
	init_vmcs(g);
}

void guest_init_engine(struct guest *g, enum sil_engine engine)
{
	init(g, engine, false);
}

void guest_init_native_tsc(struct guest *g)
{
	init(g, engine_asked(), true);
}

void guest_fini(struct guest *g)
{
	sil_cpu_destroy(g->cpu);
	sil_machine_destroy(g->m);
	unmap_guarded(g->mem, GUEST_MEM);
	unmap_guarded(g->pages, ROOT_PAGES * PAGE_SIZE);
}

void guest_code(struct guest *g, const u8 *start, const u8 *end)
{
	memcpy(g->mem + CODE, start, end - start);
	sil_memory_written(g->m, (hva_t)g->mem + CODE, end - start);
}

void guest_32(struct guest *g)
{
	vm_cpu2(g, SECONDARY_EXEC_UNRESTRICTED_GUEST);
	vm_clear(g, VM_ENTRY_CONTROLS, VM_ENTRY_IA32E_MODE);
	vmw(g, GUEST_IA32_EFER, 0);
	vmw(g, GUEST_CR0, 0x33);
	vmw(g, GUEST_CR4, CR4_VMXE | CR4_OSFXSR);
	seg(g, CS, SEL_CODE32, 0xc09b, ~0u, 0);
	/* 32-bit gates. */
	for (u64 i = 0; i < 32; i++)
		put64(g, IDT + i * 8,
		      (HANDLER(i) & 0xffff) | SEL_CODE32 << 16 | 0x8eull << 40 |
			      (HANDLER(i) >> 16) << 48);
}

void guest_real(struct guest *g)
{
	guest_32(g);
	vmw(g, GUEST_CR0, 0x30);
	for (unsigned i = 0; i < 6; i++)
		seg(g, i, 0, 0x93, 0xffff, 0);
	seg(g, CS, CODE >> 4, 0x9b, 0xffff, CODE);
	vmw(g, GUEST_RIP, 0);
	vmw(g, GUEST_RSP, 0x7000);
}

void guest_inject(struct guest *g, unsigned type, unsigned vector)
{
	vmw(g, VM_ENTRY_INTR_INFO_FIELD, INTR_INFO_VALID | type << 8 | vector);
}

u32 guest_run(struct guest *g)
{
	enum sil_vmx r = sil_vmresume(g->cpu);
	const struct check_failure *f;
	char text[400];

	if (r == SIL_VMX_FAIL_VALID &&
	    vmr(g, VM_INSTRUCTION_ERROR) == VMXERR_VMRESUME_NONLAUNCHED_VMCS)
		r = sil_vmlaunch(g->cpu);
	if (r != SIL_VMX_OK || (vmr(g, VM_EXIT_REASON) & VMX_EXIT_REASON_FAILED_VMENTRY)) {
		f = sil_last_failure(g->cpu);
		if (f)
			check_explain(f, text, sizeof(text));
		fail_msg("VM entry refused: %s", f ? text : "?");
	}
	return vmr(g, VM_EXIT_REASON);
}

int guest_setup(void **state)
{
	static struct guest g;

	guest_init(&g);
	*state = &g;
	return 0;
}

int guest_teardown(void **state)
{
	guest_fini(*state);
	return 0;
}

u64 run_to_vmcall(struct guest *g)
{
	u32 reason = guest_run(g);

	if (reason != EXIT_REASON_VMCALL)
		fail_msg("exit %u at %#lx, qualification %#lx, event %#lx", reason,
			 vmr(g, GUEST_RIP), vmr(g, EXIT_QUALIFICATION), vmr(g, VM_EXIT_INTR_INFO));
	return vmr(g, GUEST_RIP);
}
