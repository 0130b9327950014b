/* SPDX-License-Identifier: MIT */
/* The same instruction by its handler: a cpu whose linear addresses are this process's. */
#include <cpuid.h>
#include <setjmp.h>
#include <string.h>

#include "base/log.h"
#include "insn_test.h"
#include "isa/flags.h"

static struct isa_cpu cpu;
static struct isa_tlb tlb;
static jmp_buf catch;
static unsigned soft_vector; /* of a software interrupt that was delivered */

/* What the arena's page tables would say. */
static void check(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	u64 a;

	if (!is_canonical(la, 48) || !is_canonical(la + size - 1, 48))
		isa_raise_err(c, how & ISA_ACC_STACK ? X86_SS_VEC : X86_GP, 0);
	for (a = la;; a = (a | ~PAGE_MASK) + 1) {
		bool data = a >= DATA && a < DATA + DATA_SIZE;
		bool code = a >= CODE && a < CODE + PAGE_SIZE;

		if (!data && !code) {
			bool present = false;

			isa_raise_pf(c, a, 4 | (how & ISA_ACC_WRITE ? 2 : 0) | present);
		}
		if (((la + size - 1) & PAGE_MASK) == (a & PAGE_MASK))
			return;
	}
}

/* Linux's descriptor table, as far as selectors of gen.c look into it. */
static const u64 gdt[] = {0,
			  0x00cf9b000000ffff,
			  0x00af9b000000ffff,
			  0x00cf93000000ffff,
			  0x00cffb000000ffff,
			  0x00cff3000000ffff,
			  0x00affb000000ffff,
			  [15] = 0};

static void op_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how)
{
	if (how & ISA_ACC_SYS) {
		memcpy(dst, (void *)la, size);
		return;
	}
	check(c, la, size, how);
	memcpy(dst, (void *)la, size);
}

static void op_write(struct isa_cpu *c, u64 la, const void *src, unsigned size, unsigned how)
{
	check(c, la, size, how | ISA_ACC_WRITE);
	memcpy((void *)la, src, size);
}

static void *op_rmw(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	check(c, la, size, how | ISA_ACC_WRITE);
	return (void *)la;
}

static void op_nothing(struct isa_cpu *c) {}

static void op_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg) {}

static void host_cpuid(void *opaque, u32 leaf, u32 subleaf, u32 out[4])
{
	__cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}

/* INT3 and INTO are open to programs, other gates are not; INT1 is a trap as a single step is. */
static void op_soft_int(struct isa_cpu *c, unsigned vector, unsigned type)
{
	if (vector != X86_BP && vector != X86_OFV && vector != X86_DB)
		isa_raise_err(c, X86_GP, vector * 8 | 2);
	if (vector == X86_DB && type == 4)
		isa_raise_err(c, X86_GP, vector * 8 | 2);
	soft_vector = vector;
}

static u64 op_u64(struct isa_cpu *c)
{
	return 0x123456789abcdef0;
}

static void op_cpuid(struct isa_cpu *c, u32 leaf, u32 subleaf, u32 out[4])
{
	host_cpuid(NULL, leaf, subleaf, out);
}

static const struct isa_ops ops = {
	.mem_read = op_read,
	.mem_write = op_write,
	.mem_rmw = op_rmw,
	.mem_lock = op_nothing,
	.mem_unlock = op_nothing,
	.intercept = op_intercept,
	.soft_int = op_soft_int,
	.rdtsc = op_u64,
	.random = op_u64,
	.cpuid = op_cpuid,
	.mode_changed = op_nothing,
	.recheck_events = op_nothing,
	.serialize = op_nothing,
	.pause = op_nothing,
};

void interp_init(void)
{
	struct isa_cpu *c = &cpu;

	c->ops = &ops;
	c->tlb = &tlb;
	c->catch = &catch;
	isa_reset(c, false);
	isa_feat_load(c, host_cpuid, NULL);
}

bool interp_feature(unsigned feat)
{
	return isa_has(&cpu, feat);
}

static void set_mode(struct isa_cpu *c, enum isa_mode mode)
{
	bool l = mode == ISA_LONG64;
	unsigned k;

	c->s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	c->s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_UMIP |
		   (host_state.pke ? CR4_PKE : 0);
	c->s.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	c->r.xcr0 = 7;
	c->r.pkru = host_state.pkru;
	for (k = ES; k <= DS; k++)
		c->s.seg[k] = (struct isa_seg){.sel = 0x2b, .ar = 0xc0f3, .limit = ~0u};
	for (k = FS; k <= GS; k++)
		c->s.seg[k] =
			(struct isa_seg){.sel = host_state.sel[k],
					 .ar = SEG_AR_UNUSABLE,
					 .base = k == FS ? host_state.fs_base : host_state.gs_base};
	c->s.seg[TR] = (struct isa_seg){.sel = 0x40, .ar = 0x8b};
	c->s.seg[LDTR] = (struct isa_seg){.ar = SEG_AR_UNUSABLE};
	c->s.gdtr = (struct isa_dtr){.base = (u64)gdt, .limit = sizeof(gdt) - 1};
	c->r.tsc_aux = host_state.tsc_aux;
	c->s.seg[CS] =
		(struct isa_seg){.sel = l ? 0x33 : 0x23, .ar = l ? 0xa0fb : 0xc0fb, .limit = ~0u};
	isa_mode_changed(c);
}

static void fill_tlb(bool fill)
{
	u64 a;
	unsigned k;

	for (k = 0; k < ISA_TLB_SIZE; k++)
		tlb.r[k].neg_page = tlb.w[k].neg_page = ISA_TLB_INVALID(k);
	if (!fill)
		return;
	for (a = DATA; a < DATA + DATA_SIZE; a += PAGE_SIZE) {
		struct isa_tlbe e = {.neg_page = -a, .page = a};

		tlb.r[(a >> PAGE_SHIFT) % ISA_TLB_SIZE] = e;
		tlb.w[(a >> PAGE_SHIFT) % ISA_TLB_SIZE] = e;
	}
}

void interp_run(const struct instance *in, const struct tstate *from, struct tstate *to)
{
	struct isa_cpu *c = &cpu;
	struct isa_insn insn;
	unsigned k;
	int thrown;

	memset(to, 0, sizeof(*to));
	memcpy(c->r.gpr, from->gpr, sizeof(from->gpr));
	memset(c->r.vec, 0, sizeof(c->r.vec));
	for (k = 0; k < 16; k++)
		memcpy(c->r.vec[k].b, from->vec[k], 32);
	c->r.x87 = from->x87;
	set_mode(c, in->mode);
	isa_set_flags(c, from->rflags);
	c->s.rip = from->rip;
	fill_tlb(in->tlb);

	isa_decode(in->bytes, sizeof(in->bytes) - 1, in->mode, &insn);
	soft_vector = 0;
	thrown = _setjmp(catch);
	if (!thrown) {
		do {
			c->s.rip = (from->rip + insn.len) & c->rip_mask;
			c->insn = &insn;
			insn.exec(c, &insn);
		} while (c->s.rip == from->rip && (insn.flags & ISA_F_STR));
		to->faulted = soft_vector && soft_vector != X86_DB;
		to->vector = to->faulted ? (u8)soft_vector : 0;
	} else {
		c->s.rip = (c->s.rip - insn.len) & c->rip_mask;
		to->faulted = true;
		to->vector = thrown == ISA_THROW_FAULT ? c->fault.vector : 255;
		to->error = c->fault.has_error ? c->fault.error : 0;
		to->cr2 = c->fault.payload;
	}
	isa_insn_release(&insn);
	memcpy(to->gpr, c->r.gpr, sizeof(to->gpr));
	for (k = 0; k < 16; k++)
		memcpy(to->vec[k], c->r.vec[k].b, 32);
	for (k = 0; k < 6; k++)
		to->sel[k] = c->s.seg[k].sel;
	to->fs_base = c->s.seg[FS].base;
	to->gs_base = c->s.seg[GS].base;
	to->x87 = c->r.x87;
	to->rflags = isa_flags(c);
	to->rip = c->s.rip;
}
