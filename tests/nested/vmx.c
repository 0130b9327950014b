// SPDX-License-Identifier: MIT
/* VMX instructions of the test hypervisor, a plain VMCS, entering L2. */
#include "evmcs.h"
#include "l1.h"

struct regs regs;
struct exc l2;
u64 l2_fixup;
u64 caps[32];
u32 revision;
unsigned maxphyaddr;
u64 *vmxon_region, *vmcs_page;
const u32 vmcs_fields[] = {
#define VMCS(name, encoding, vmcs12, shadow) encoding,
#include "spec/vmcs.def"
};
const unsigned vmcs_nfields = ARRAY_SIZE(vmcs_fields);
static bool launched;

/* ---- Instructions ---- */

u64 vmx_outcome(u64 flags)
{
	u64 error = 0;

	if (exc.taken)
		return EXC(exc.vector);
	if (flags & 0xff)
		return INVALID;
	if (flags & 0xff00) {
		asm volatile("vmread %1, %0" : "=r"(error) : "r"((u64)VM_INSTRUCTION_ERROR) : "cc");
		return VALID(error);
	}
	return 0;
}

u64 vmxon(u64 pa)
{
	return VMX_INSN("vmxon %1", "m"(pa));
}

u64 vmxoff(void)
{
	return VMX_INSN("vmxoff", "i"(0));
}

u64 vmclear(u64 pa)
{
	return VMX_INSN("vmclear %1", "m"(pa));
}

u64 vmptrld(u64 pa)
{
	return VMX_INSN("vmptrld %1", "m"(pa));
}

u64 vmptrst(u64 *pa)
{
	return VMX_INSN("vmptrst (%1)", "r"(pa));
}

/* Of an enlightened VMCS they are loads and stores; a store is told of in the clean fields. */
static u64 access_evmcs(u64 field, u64 *v, bool write)
{
	const struct evmcs_field *f = evmcs_find((u32)field);
	char *at;

	if (!f || field >> 32)
		return VALID(12);
	at = (char *)evmcs + f->offset;
	/* As a processor stores access rights. */
	if (write && field >= GUEST_ES_AR_BYTES && field <= GUEST_TR_AR_BYTES)
		*v &= 0x1f0ff;
	if (!write) {
		*v = 0;
		memcpy(v, at, f->size);
		return 0;
	}
	memcpy(at, v, f->size);
	if (f->group == EVMCS_ALL)
		evmcs->clean_fields = 0;
	else if (f->group != EVMCS_NONE)
		evmcs->clean_fields &= ~(u32)BIT(f->group);
	return 0;
}

u64 vmread_try(u64 field, u64 *v)
{
	if (evmcs)
		return access_evmcs(field, v, false);
	return VMX_INSN("vmread %1, (%2)", "r"(field), "r"(v));
}

u64 vmwrite_try(u64 field, u64 v)
{
	if (evmcs)
		return access_evmcs(field, &v, true);
	return VMX_INSN("vmwrite %2, %1", "r"(field), "r"(v));
}

u64 vmlaunch_try(void)
{
	return VMX_INSN("vmlaunch", "i"(0));
}

u64 vmresume_try(void)
{
	return VMX_INSN("vmresume", "i"(0));
}

struct descriptor {
	u64 a, b;
};

u64 invept(u64 type, u64 eptp, u64 second)
{
	struct descriptor d = {eptp, second};

	return VMX_INSN("invept %1, %2", "m"(d), "r"(type));
}

u64 invvpid(u64 type, u64 vpid, u64 address)
{
	struct descriptor d = {vpid, address};

	return VMX_INSN("invvpid %1, %2", "m"(d), "r"(type));
}

u64 wrmsr_try(u32 msr, u64 v)
{
	return TRY("wrmsr", "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)));
}

u64 rdmsr_try(u32 msr, u64 *v)
{
	u32 lo = 0, hi = 0;
	u64 r;

	exc.taken = 0;
	asm volatile("movq $771f, exc + 8\n\trdmsr\n771:\tmovq $0, exc + 8"
		     : "+a"(lo), "+d"(hi)
		     : "c"(msr)
		     : "memory");
	r = exc.taken ? EXC(exc.vector) : 0;
	*v = lo | (u64)hi << 32;
	return r;
}

u64 vmread(u32 field)
{
	u64 v = 0, r = vmread_try(field, &v);

	if (r)
		panic("VMREAD fails", field | r << 32);
	return v;
}

void vmwrite(u32 field, u64 v)
{
	u64 r = vmwrite_try(field, v);

	if (r)
		panic("VMWRITE fails", field | r << 32);
}

/* ---- Controls ---- */

#define CONTROL(what, field, cap)                                        \
	bool may_##what(u64 bits)                                        \
	{                                                                \
		return (caps[cap - MSR_VMX_BASIC] >> 32 & bits) == bits; \
	}                                                                \
	void clear_##what(u64 bits)                                      \
	{                                                                \
		vmwrite(field, vmread(field) & ~bits);                   \
	}
CONTROL(pin, PIN_BASED_VM_EXEC_CONTROL, MSR_VMX_TRUE_PIN)
CONTROL(cpu, CPU_BASED_VM_EXEC_CONTROL, MSR_VMX_TRUE_PROC)
CONTROL(cpu2, SECONDARY_VM_EXEC_CONTROL, MSR_VMX_PROCBASED2)
CONTROL(exit, VM_EXIT_CONTROLS, MSR_VMX_TRUE_EXIT)
CONTROL(entry, VM_ENTRY_CONTROLS, MSR_VMX_TRUE_ENTRY)

void set_pin(u64 bits)
{
	vmwrite(PIN_BASED_VM_EXEC_CONTROL, vmread(PIN_BASED_VM_EXEC_CONTROL) | bits);
}

void set_cpu(u64 bits)
{
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, vmread(CPU_BASED_VM_EXEC_CONTROL) | bits);
}

void set_cpu2(u64 bits)
{
	set_cpu(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
	vmwrite(SECONDARY_VM_EXEC_CONTROL, vmread(SECONDARY_VM_EXEC_CONTROL) | bits);
}

void set_exit(u64 bits)
{
	vmwrite(VM_EXIT_CONTROLS, vmread(VM_EXIT_CONTROLS) | bits);
}

void set_entry(u64 bits)
{
	vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | bits);
}

/* ---- A plain VMCS ---- */

bool vmx_probe(void)
{
	u32 r[4];
	u64 control;

	cpuid(1, 0, r);
	if (!(r[2] & BIT(5)))
		return false;
	cpuid(0x80000008, 0, r);
	maxphyaddr = r[0] & 0xff;
	control = rdmsr(MSR_FEATURE_CONTROL);
	if (!(control & 1))
		wrmsr(MSR_FEATURE_CONTROL, control | 5);
	/* What there is not stays 0. */
	for (unsigned i = 0; i <= MSR_VMX_VMFUNC - MSR_VMX_BASIC; i++)
		if (rdmsr_try(MSR_VMX_BASIC + i, &caps[i]))
			caps[i] = 0;
	if (!(caps[0] & BIT(55)))
		for (unsigned i = 0; i < 4; i++)
			caps[MSR_VMX_TRUE_PIN - MSR_VMX_BASIC + i] = caps[1 + i];
	revision = (u32)caps[0] & 0x7fffffff;
	WRITE_REG(cr4, READ_REG(cr4) | BIT(13));
	vmxon_region = page();
	vmcs_page = page();
	*(u32 *)vmxon_region = revision;
	return true;
}

static u64 must_be_one(u32 cap)
{
	return (u32)caps[cap - MSR_VMX_BASIC];
}

/* 32-bit access rights of a flat segment: 25.4.1 */
static void guest_segment(u32 n, u64 sel, u64 base, u64 limit, u64 ar)
{
	vmwrite(GUEST_ES_SELECTOR + 2 * n, sel);
	vmwrite(GUEST_ES_BASE + 2 * n, base);
	vmwrite(GUEST_ES_LIMIT + 2 * n, limit);
	vmwrite(GUEST_ES_AR_BYTES + 2 * n, ar);
}

void vmx_load(void *vmcs)
{
	if (evmcs) {
		vmclear((u64)evmcs);
		evmcs = vmcs;
		vp_assist->current_nested_vmcs = (u64)vmcs;
		launched = false;
		return;
	}
	if (vmclear((u64)vmcs) || vmptrld((u64)vmcs))
		panic("VMCLEAR or VMPTRLD fails", (u64)vmcs);
	launched = false;
}

void vmx_fresh(void)
{
	u64 gdtr[2] = {0}, idtr[2] = {0};
	void *vmcs = evmcs ? (void *)evmcs : vmcs_page;
	u64 r;

	r = vmclear((u64)vmcs);
	if (r == EXC(6)) {
		r = vmxon((u64)vmxon_region);
		if (r)
			panic("VMXON fails", r);
		r = vmclear((u64)vmcs);
	}
	if (r)
		panic("VMCLEAR fails", r);
	memset(vmcs, 0, 4096);
	*(u32 *)vmcs = evmcs ? 1 : revision;
	r = evmcs ? 0 : vmptrld((u64)vmcs_page);
	if (r)
		panic("VMPTRLD fails", r);
	launched = false;
	/* The memory of a VMCS may hold anything: zero what will not be written below. */
	for (unsigned i = 0; i < vmcs_nfields; i++)
		vmwrite_try(vmcs_fields[i], 0);

	vmwrite(PIN_BASED_VM_EXEC_CONTROL, must_be_one(MSR_VMX_TRUE_PIN));
	vmwrite(CPU_BASED_VM_EXEC_CONTROL, must_be_one(MSR_VMX_TRUE_PROC));
	vmwrite(VM_EXIT_CONTROLS, must_be_one(MSR_VMX_TRUE_EXIT) | VM_EXIT_HOST_ADDR_SPACE_SIZE |
					  VM_EXIT_LOAD_IA32_EFER);
	vmwrite(VM_ENTRY_CONTROLS,
		must_be_one(MSR_VMX_TRUE_ENTRY) | VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_EFER);

	asm volatile("sgdt %0" : "=m"(gdtr));
	asm volatile("sidt %0" : "=m"(idtr));
	vmwrite(HOST_CR0, READ_REG(cr0));
	vmwrite(HOST_CR3, READ_REG(cr3));
	vmwrite(HOST_CR4, READ_REG(cr4));
	vmwrite(HOST_IA32_EFER, rdmsr(MSR_EFER));
	vmwrite(HOST_CS_SELECTOR, CS64);
	vmwrite(HOST_SS_SELECTOR, DS64);
	vmwrite(HOST_DS_SELECTOR, DS64);
	vmwrite(HOST_ES_SELECTOR, DS64);
	vmwrite(HOST_FS_SELECTOR, DS64);
	vmwrite(HOST_GS_SELECTOR, DS64);
	vmwrite(HOST_TR_SELECTOR, TSS);
	vmwrite(HOST_TR_BASE, (u64)tss);
	vmwrite(HOST_GDTR_BASE, (u64)gdt);
	vmwrite(HOST_IDTR_BASE, (u64)idt);
	vmwrite(HOST_RIP, (u64)vmx_exit_entry);

	vmwrite(GUEST_CR0, READ_REG(cr0));
	vmwrite(GUEST_CR3, READ_REG(cr3));
	vmwrite(GUEST_CR4, READ_REG(cr4));
	vmwrite(GUEST_DR7, 0x400);
	vmwrite(GUEST_IA32_EFER, rdmsr(MSR_EFER));
	vmwrite(GUEST_IA32_PAT, rdmsr(MSR_PAT));
	vmwrite(HOST_IA32_PAT, rdmsr(MSR_PAT));
	for (unsigned i = 0; i < 6; i++)
		guest_segment(i, DS64, 0, 0xffffffff, 0xc093);
	guest_segment(1, CS64, 0, 0xffffffff, 0xa09b);
	guest_segment(6, 0, 0, 0, 0x10000);
	guest_segment(7, TSS, (u64)tss, 103, 0x8b);
	vmwrite(GUEST_GDTR_BASE, (u64)gdt);
	vmwrite(GUEST_GDTR_LIMIT, (u16)gdtr[0]);
	vmwrite(GUEST_IDTR_BASE, (u64)idt);
	vmwrite(GUEST_IDTR_LIMIT, (u16)idtr[0]);
	vmwrite(GUEST_RFLAGS, 2);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
	memset(&regs, 0, sizeof(regs));
	memset(&exc, 0, sizeof(exc));
	exc_may_return = false;
	l2_fixup = 0;
}

/* ---- Running ---- */

u64 run(void)
{
	u64 flags;

	memset(&exc, 0, sizeof(exc));
	exc.fixup = l2_fixup;
	flags = vmx_enter(&regs, !launched);
	l2 = exc;
	exc.fixup = 0;
	if (flags)
		return NOENTRY(flags & 1 ? INVALID : VALID(vmread(VM_INSTRUCTION_ERROR)));
	if (!(vmread(VM_EXIT_REASON) & FAILED))
		launched = true;
	return vmread(VM_EXIT_REASON);
}

u64 run_at(const void *fn)
{
	u64 *sp = (u64 *)(l2_stack_top - 8);

	*sp = (u64)l2_done;
	vmwrite(GUEST_RSP, (u64)sp);
	vmwrite(GUEST_RIP, (u64)fn);
	return run();
}

void skip_insn(void)
{
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LEN));
}

/* ---- EPT, 29.3 ---- */

#define EPT_RWX (EPT_R | EPT_W | EPT_X)

u64 ept_identity(void)
{
	u64 *pml4 = page(), *pdpt = page();

	pml4[0] = (u64)pdpt | EPT_RWX;
	for (u64 i = 0; i < 4; i++) {
		u64 *pd = page();

		pdpt[i] = (u64)pd | EPT_RWX;
		for (u64 k = 0; k < 512; k++)
			pd[k] = (i << 30 | k << 21) | EPT_RWX | EPT_MT_WB | EPT_LARGE;
	}
	return (u64)pml4 | EPTP_WALK_4 | EPTP_MT_WB;
}

u64 *ept_entry(u64 eptp, u64 gpa, unsigned level)
{
	u64 *table = (u64 *)(eptp & EPT_ADDR_MASK);

	for (unsigned l = 4;; l--) {
		u64 *e = &table[gpa >> (12 + 9 * (l - 1)) & 511];

		if (l == level)
			return e;
		if (l == 2 && (*e & EPT_LARGE)) {
			u64 *pt = page();

			for (u64 i = 0; i < 512; i++)
				pt[i] = ((*e & ~(u64)EPT_LARGE) + (i << 12));
			*e = (u64)pt | EPT_RWX;
		}
		table = (u64 *)(*e & EPT_ADDR_MASK);
	}
}
