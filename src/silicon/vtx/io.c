// SPDX-License-Identifier: MIT
/* Ports, MSRs and the TSC in non-root operation (SDM vol. 3C, 26.1.3 and 26.3). */
#include "silicon/vtx/vtx.h"

#include <string.h>

#include "spec/msr.h"

/* ---- Ports --------------------------------------------------------------------------------- */

/* 25.6.4: any of the bytes accessed; an access that wraps around exits always. */
static bool port_exits(const struct sil_cpu *cpu, u16 port, unsigned size)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const u8 *a = (const u8 *)VF(v->cur, IO_BITMAP_A), *b = (const u8 *)VF(v->cur, IO_BITMAP_B);

	if (!(v->cpu1 & CPU_BASED_USE_IO_BITMAPS))
		return v->cpu1 & CPU_BASED_UNCOND_IO_EXITING;
	if (port + size > 0x10000)
		return true;
	for (u32 p = port; p < port + size; p++) {
		const u8 *map = p < 0x8000 ? a : b;

		if (map[(p & 0x7fff) >> 3] >> (p & 7) & 1)
			return true;
	}
	return false;
}

/* Tables 28-5 and 28-8. */
static void port_exit(struct sil_cpu *cpu, u16 port, unsigned size, u64 la, bool in)
{
	const struct isa_insn *i = cpu->c.insn;
	struct vmcs_region *r = vtx_of(cpu)->cur;
	bool string = i->flags & ISA_F_STR, immediate = false;
	u64 qual;

	if (!port_exits(cpu, port, size))
		return;
	for (unsigned k = 0; k < ARRAY_SIZE(i->o); k++)
		immediate |= i->o[k].kind == OK_IMM;
	qual = (size - 1) | (in ? BIT(3) : 0) | (u64)port << 16;
	if (string) {
		qual |= BIT(4) | (i->prefixes & (ISA_P_REP | ISA_P_REPNE) ? BIT(5) : 0);
		VF(r, GUEST_LINEAR_ADDRESS) = la;
		vtx_exit_info(cpu, EXIT_REASON_IO_INSTRUCTION, qual, info_string_io(i, !in));
	}
	vtx_exit(cpu, EXIT_REASON_IO_INSTRUCTION, qual | (immediate ? BIT(6) : 0));
}

void vtx_port_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la)
{
	port_exit(sil_of(c), port, size, la, true);
	/* There are no devices on this side of the door: nobody drives the bus. */
	memset(dst, 0xff, size);
}

void vtx_port_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la)
{
	port_exit(sil_of(c), port, size, la, false);
}

/* ---- MSRs ---------------------------------------------------------------------------------- */

/* 25.6.9: four maps of 1 KiB: read low, read high, write low, write high. */
bool vtx_msr_exits(const struct sil_cpu *cpu, u32 index, bool write)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const u8 *map = (const u8 *)VF(v->cur, MSR_BITMAP);
	u32 n = index & 0x1fff;

	if (!(v->cpu1 & CPU_BASED_USE_MSR_BITMAPS))
		return true;
	if (index - n != 0) {
		if (index - n != 0xc0000000)
			return true;
		map += 1024;
	}
	if (write)
		map += 2048;
	return map[n >> 3] >> (n & 7) & 1;
}

u64 vtx_rdtsc(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);
	const struct vtx_cpu *v = vtx_of(cpu);
	u64 tsc = sil_host_tsc(cpu->m);

	/* The host's timer may be late. Whoever reads the counter must not see that. */
	if ((v->pin & PIN_BASED_VMX_PREEMPTION_TIMER) && tsc >= v->timer_deadline)
		vtx_exit(cpu, EXIT_REASON_PREEMPTION_TIMER, 0);
	if (v->cpu1 & CPU_BASED_USE_TSC_OFFSETTING) {
		if (v->cpu2 & SECONDARY_EXEC_TSC_SCALING)
			tsc = (u128)tsc * VF(v->cur, TSC_MULTIPLIER) >> 48;
		tsc += VF(v->cur, TSC_OFFSET);
	}
	return tsc;
}

u64 vtx_rdmsr(struct isa_cpu *c, u32 index)
{
	struct sil_cpu *cpu = sil_of(c);
	u64 val;

	if (index == MSR_IA32_TSC)
		return vtx_rdtsc(c);
	if (index >> 8 == 8 && vapic_rdmsr(cpu, index, &val))
		return val;
	if (!cpu_rdmsr(cpu, index, &val))
		isa_raise_err(c, X86_GP, 0);
	return val;
}

void vtx_wrmsr(struct isa_cpu *c, u32 index, u64 val)
{
	struct sil_cpu *cpu = sil_of(c);

	if (index >> 8 == 8 && vapic_wrmsr(cpu, index, val))
		return;
	if (!cpu_wrmsr(cpu, index, val))
		isa_raise_err(c, X86_GP, 0);
}
