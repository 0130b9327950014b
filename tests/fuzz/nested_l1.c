// SPDX-License-Identifier: MIT
/* What the hostile hypervisor is: L1's program, L2's, vmcs12 with its mistakes. */
#include "nested.h"

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
	"4:	lea	464(%rbx), %rsi\n"
	"	mov	456(%rbx), %rcx\n"
	"9:	jrcxz	10f\n"
	"	mov	(%rsi), %rax\n"
	"	mov	8(%rsi), %rdx\n"
	"	mov	%rdx, (%rax)\n"
	"	add	$16, %rsi\n"
	"	dec	%rcx\n"
	"	jmp	9b\n"
	"10:	mov	48(%rbx), %rax\n"
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

_Static_assert(offsetof(struct box, store) == 464, "known to L1");

static const u32 fields[] = {
#define VMCS(name, encoding, vmcs12, shadow) encoding,
#include "spec/vmcs.def"
};
#define FIELDS ARRAY_SIZE(fields)

/* ---- The guest's memory as each round finds it ---- */

static void fill_tables(u64 root, u64 bits, u64 large, u64 leaf)
{
	for (u64 page = 0; page < 4; page++)
		memset(at(root + 0x1000 * page), 0, 0x1000);
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
	u8 *start = (u8 *)at(L2_CODE), *p = start, *end = p + 0xf00;
	s32 back;

	for (unsigned n = 1 + below(12); n && p < end; n--) {
		unsigned k = below(ARRAY_SIZE(pieces));
		static const u8 regs[] = {0xb8, 0xb9, 0xba};
		u64 v = below(3) ? number() : 0;

		switch (below(6)) {
		case 0: v = VAPIC + below(0x1000); break;
		case 1: v = 0x800 + below(0x40); break; /* x2APIC MSRs */
		case 2: v = 0xc0000080 + below(8); break;
		case 3: v = below(0x15) | below(2) << 16; break; /* Hyper-V's hypercalls */
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
	back = (s32)(start - (p + 5));
	memcpy(p + 1, &back, sizeof(back));
}

static void set(struct vmcs12 *v, u32 field, u64 val)
{
	if (vmcs12_find(field) >= 0)
		vmcs12_write(v, field, val);
}

/* Sets of controls that belong together: a mistake in one field is then the only one. */
static const struct feature {
	u32 pin, cpu, cpu2, exit;
} features[] = {
	{0, CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_USE_IO_BITMAPS, 0, 0},
	{0, CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_TPR_SHADOW, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE,
	 0},
	{PIN_BASED_EXT_INTR_MASK, CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_TPR_SHADOW,
	 SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE | SECONDARY_EXEC_APIC_REGISTER_VIRT |
		 SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY,
	 0},
	{0, CPU_BASED_TPR_SHADOW,
	 SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES | SECONDARY_EXEC_APIC_REGISTER_VIRT, 0},
	{PIN_BASED_EXT_INTR_MASK | PIN_BASED_POSTED_INTR, CPU_BASED_TPR_SHADOW,
	 SECONDARY_EXEC_APIC_REGISTER_VIRT | SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY,
	 VM_EXIT_ACK_INTR_ON_EXIT},
	{0, 0, SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_PML, 0},
	{0, 0, SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VMFUNC, 0},
	{0, 0,
	 SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_MODE_BASED_EPT_EXEC |
		 SECONDARY_EXEC_ENABLE_VMFUNC | SECONDARY_EXEC_ENABLE_PML,
	 0},
	{0, 0, SECONDARY_EXEC_SHADOW_VMCS, 0},
	{PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS | PIN_BASED_VMX_PREEMPTION_TIMER, 0, 0, 0},
};

static void add_bits(struct vmcs12 *v, u32 field, u32 bits, u64 ctl)
{
	u64 val = vmcs12_read(v, field);

	/* What is not offered is a mistake of its own, and tried elsewhere. */
	if (!(bits & ~(ctl >> 32)))
		vmcs12_write(v, field, val | bits);
}

static void add_feature(struct vmcs12 *v)
{
	const struct feature *x = &features[below(ARRAY_SIZE(features))];

	add_bits(v, PIN_BASED_VM_EXEC_CONTROL, x->pin, fuzz_ctl[0]);
	add_bits(v, CPU_BASED_VM_EXEC_CONTROL, x->cpu, fuzz_ctl[1]);
	add_bits(v, SECONDARY_VM_EXEC_CONTROL, x->cpu2, fuzz_ctl[4]);
	add_bits(v, VM_EXIT_CONTROLS, x->exit, fuzz_ctl[2]);
	if (x->cpu2 & SECONDARY_EXEC_ENABLE_PML)
		set(v, EPT_POINTER, vmcs12_read(v, EPT_POINTER) | EPTP_AD);
	if (x->cpu2 & SECONDARY_EXEC_SHADOW_VMCS)
		set(v, VMCS_LINK_POINTER, 0x22000);
}

static void write_vmcs(unsigned cpu)
{
	struct vmcs12 *v = (void *)at(REGION(cpu));
	u64 cr4 = CR4_PAE | CR4_VMXE;
	static const u32 sel[] = {0x802, 0x800, 0x804, 0x806, 0x808, 0x80a};

	memset(v, 0, sizeof(*v));
	v->revision = VMCS12_REVISION;
	set(v, PIN_BASED_VM_EXEC_CONTROL, fuzz_ctl[0] & 0xffffffff);
	set(v, CPU_BASED_VM_EXEC_CONTROL,
	    (fuzz_ctl[1] & 0xffffffff) | CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
	set(v, VM_EXIT_CONTROLS, (fuzz_ctl[2] & 0xffffffff) | VM_EXIT_HOST_ADDR_SPACE_SIZE);
	set(v, VM_ENTRY_CONTROLS, (fuzz_ctl[3] & 0xffffffff) | VM_ENTRY_IA32E_MODE);
	set(v, SECONDARY_VM_EXEC_CONTROL,
	    below(4) ? (SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VPID |
			(below(3) ? 0 : SECONDARY_EXEC_MODE_BASED_EPT_EXEC)) &
			       fuzz_ctl[4] >> 32
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
	while (below(2))
		add_feature(v);
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
	u64 may = fuzz_ctl[cap[k]] >> 32 & ~fuzz_ctl[cap[k]] & 0xffffffff, bit = BIT(below(32));
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

/* Entries of EPT with other rights, mostly of pages that L2 uses. L1 writes them: of what this
 * program writes there the shadow knows nothing. */
static void store_ept(struct box *b)
{
	static const u64 used[] = {L2_CODE,
				   L2_CODE,
				   L2_CODE,
				   L2_STACK,
				   L2_TABLES,
				   L2_TABLES + 0x1000,
				   L2_TABLES + 0x2000,
				   L2_TABLES + 0x3000};

	b->nstores = below(3) ? 0 : 1 + below(8);
	for (unsigned i = 0; i < b->nstores; i++) {
		u64 level = below(4) ? 1 : 1 + below(4), rights = 7 | EPT_XU, page = below(0x80);

		if (below(4))
			page = used[below(ARRAY_SIZE(used))] >> 12;
		if (below(2))
			rights ^= below(8) | (rnd() & EPT_XU);
		b->store[i].at = EPT_ROOT + 0x1000 * (4 - level) + 8 * (level == 1 ? page : 0);
		b->store[i].val = rights | (level == 1 ? page << 12 | EPT_MT_WB
						       : EPT_ROOT + 0x1000 * (5 - level));
		if (!below(16))
			b->store[i].val ^= BIT(below(12));
	}
}

/* ---- The same as an enlightened VMCS ---- */

static const struct {
	u16 field, offset;
} layout[] = {
#define EVMCS(name, offset, group) {name, offset},
#include "core/vmx/nested/evmcs.def"
};
#define AT_CLEAN_FIELDS	    824
#define AT_ENLIGHTENMENTS   836
#define AT_VM_ID	    848
#define AT_PARTITION_ASSIST 856

static void put(u8 *page, unsigned offset, u64 val, unsigned n)
{
	memcpy(page + offset, &val, n);
}

static void write_evmcs(unsigned cpu)
{
	const struct vmcs12 *v = (void *)at(REGION(cpu));
	u8 *page, *assist;

	mem_lock();
	page = (u8 *)at(HV_VMCS(cpu));
	assist = (u8 *)at(ASSIST(cpu));
	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++) {
		unsigned width = layout[i].field >> 13;

		if (vmcs12_find(layout[i].field) >= 0)
			put(page, layout[i].offset, vmcs12_read(v, layout[i].field),
			    width == 0	 ? 2
			    : width == 2 ? 4
					 : 8);
	}
	put(page, 0, below(20) ? 1 : number(), 4);
	put(page, AT_CLEAN_FIELDS, below(3) ? 0 : rnd() & 0xffff, 4);
	put(page, AT_ENLIGHTENMENTS, below(4), 4);
	put(page, AT_VM_ID, below(2), 8);
	put(page, AT_PARTITION_ASSIST, below(2) ? STRUCTURES + 0x1000 * below(14) : number(), 8);
	put(assist, 32, below(2), 4);
	put(assist, 40, below(8) != 0, 1);
	put(assist, 48, below(20) ? HV_VMCS(below(8) ? cpu : !cpu) : number(), 8);
	mem_unlock();
}

void mutate(unsigned cpu)
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
	b->vmcs = fuzz_hv && below(2) ? HV_VMCS(cpu) : REGION(cpu);
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
	store_ept(b);
	b->inv_type = below(2) ? ~0ull : below(4) ? 1 + below(2) : below(5);
	b->inv_desc[0] = below(2) ? EPT_ROOT | 0x1e : number();
	b->inv_desc[1] = number();
	if (fuzz_hv)
		write_evmcs(cpu);
}

void write_memory(unsigned cpu)
{
	static const u32 msrs[] = {0x10,  0x1b,	      0x174,	  0x277,      0x48d,	 0x6e0,
				   0x808, 0xc0000080, 0xc0000081, 0xc0000100, 0xc0000102};

	fill_tables(L1_TABLES, 7, BIT(7), 7);
	fill_tables(L2_TABLES, below(2) ? 7 : 3, BIT(7), 7);
	fill_tables(EPT_ROOT, 7 | EPT_XU, EPT_LARGE | EPT_MT_WB, 7 | EPT_XU | EPT_MT_WB);
	memcpy(at(L1_CODE), l1_start, l1_end - l1_start);
	*(u32 *)at(VMXON) = VMCS12_REVISION;
	mem_lock();
	for (u64 page = STRUCTURES; page < STRUCT_END; page += 0x1000)
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
	mem_unlock();
	write_l2();
	write_vmcs(cpu);
	mutate(cpu);
}
