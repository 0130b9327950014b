// SPDX-License-Identifier: MIT
/* Accesses to control registers in non-root operation (SDM vol. 3C, 26.1.3 and 26.3). */
#include "silicon/vtx/vtx.h"

/* Table 28-3 */
enum cr_access { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };

static __noreturn void cr_exit(struct sil_cpu *cpu, unsigned n, enum cr_access access, unsigned gpr)
{
	vtx_exit(cpu, EXIT_REASON_CR_ACCESS, n | (u64)access << 4 | (u64)gpr << 8);
}

u64 vtx_read_cr(struct isa_cpu *c, unsigned n, unsigned gpr)
{
	struct sil_cpu *cpu = sil_of(c);
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_region *r = v->cur;
	u64 mask;

	switch (n) {
	case 0:
		mask = VF(r, CR0_GUEST_HOST_MASK);
		return (c->s.cr0 & ~mask) | (VF(r, CR0_READ_SHADOW) & mask);
	case 3:
		if (v->cpu1 & CPU_BASED_CR3_STORE_EXITING)
			cr_exit(cpu, 3, CR_MOV_FROM, gpr);
		return c->s.cr3;
	case 4:
		mask = VF(r, CR4_GUEST_HOST_MASK);
		return (c->s.cr4 & ~mask) | (VF(r, CR4_READ_SHADOW) & mask);
	case 8:
		if (v->cpu1 & CPU_BASED_CR8_STORE_EXITING)
			cr_exit(cpu, 8, CR_MOV_FROM, gpr);
		if (v->cpu1 & CPU_BASED_TPR_SHADOW)
			return bits_get(vapic_read(cpu, 0x80), 7, 4);
		return c->s.cr8;
	default: return op_read_cr(c, n, gpr);
	}
}

/* A.7, A.8: bits that VMX operation fixes; PE and PG are free for an unrestricted guest. */
static void check_fixed(struct sil_cpu *cpu, enum check_cap fixed0, u64 val)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	u64 ones = vtx_machine_of(cpu->m)->cap[fixed0];

	if (fixed0 == CAP_CR0_FIXED0 && (v->cpu2 & SECONDARY_EXEC_UNRESTRICTED_GUEST))
		ones &= ~(CR0_PE | CR0_PG);
	if (~val & ones)
		isa_raise_err(&cpu->c, X86_GP, 0);
}

static void write_cr3(struct sil_cpu *cpu, u64 val, unsigned gpr)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const u64 *target = &VF(v->cur, CR3_TARGET_VALUE0);

	if (v->cpu1 & CPU_BASED_CR3_LOAD_EXITING) {
		unsigned n = VF(v->cur, CR3_TARGET_COUNT), i;

		for (i = 0; i < n && target[i] != val; i++)
			;
		if (i == n)
			cr_exit(cpu, 3, CR_MOV_TO, gpr);
	}
	cpu_write_cr(cpu, 3, val);
}
static_assert(SLOT_CR3_TARGET_VALUE3 == SLOT_CR3_TARGET_VALUE0 + 3, "targets are consecutive");

void vtx_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr)
{
	struct sil_cpu *cpu = sil_of(c);
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_region *r = v->cur;
	u64 mask;

	/*
	 * CLTS and LMSW come here too, after their own checks: the bits they leave alone have the
	 * value of the read shadow, so nothing more exits. Bits the host owns keep their value.
	 */
	switch (n) {
	case 0:
		mask = VF(r, CR0_GUEST_HOST_MASK);
		if ((val ^ VF(r, CR0_READ_SHADOW)) & mask)
			cr_exit(cpu, 0, CR_MOV_TO, gpr);
		val = (val & ~mask) | (c->s.cr0 & mask);
		check_fixed(cpu, CAP_CR0_FIXED0, val | CR0_ET);
		cpu_write_cr(cpu, 0, val);
		break;
	case 3: write_cr3(cpu, val, gpr); break;
	case 4:
		mask = VF(r, CR4_GUEST_HOST_MASK);
		if ((val ^ VF(r, CR4_READ_SHADOW)) & mask)
			cr_exit(cpu, 4, CR_MOV_TO, gpr);
		val = (val & ~mask) | (c->s.cr4 & mask);
		check_fixed(cpu, CAP_CR4_FIXED0, val);
		cpu_write_cr(cpu, 4, val);
		break;
	case 8:
		if (v->cpu1 & CPU_BASED_CR8_LOAD_EXITING)
			cr_exit(cpu, 8, CR_MOV_TO, gpr);
		if (!(v->cpu1 & CPU_BASED_TPR_SHADOW)) {
			op_write_cr(c, 8, val, gpr);
			break;
		}
		if (val & ~0xfull)
			isa_raise_err(c, X86_GP, 0);
		vapic_write_tpr(cpu, val << 4);
		break;
	default: op_write_cr(c, n, val, gpr);
	}
}

/* Exits if TS is the host's and looks set; if it looks clear already, nothing is to be done. */
void vtx_clts(struct sil_cpu *cpu)
{
	const struct vmcs_region *r = vtx_of(cpu)->cur;

	if (VF(r, CR0_GUEST_HOST_MASK) & VF(r, CR0_READ_SHADOW) & CR0_TS)
		cr_exit(cpu, 0, CR_CLTS, 0);
}

/* LMSW cannot clear PE; of MP, EM and TS any difference to what the guest sees counts. */
void vtx_lmsw(struct sil_cpu *cpu, u16 source)
{
	const struct isa_insn *i = cpu->c.insn;
	struct vmcs_region *r = vtx_of(cpu)->cur;
	u64 mask = VF(r, CR0_GUEST_HOST_MASK), shadow = VF(r, CR0_READ_SHADOW);
	bool memory = i->o[0].kind == OK_MEM;

	if (!((mask & source & ~shadow & CR0_PE) ||
	      (mask & (source ^ shadow) & (CR0_MP | CR0_EM | CR0_TS))))
		return;
	if (memory)
		VF(r, GUEST_LINEAR_ADDRESS) = cpu->c.ea;
	vtx_exit(cpu, EXIT_REASON_CR_ACCESS,
		 CR_LMSW << 4 | (memory ? BIT(6) : 0) | (u64)source << 16);
}
