/* SPDX-License-Identifier: MIT */
#include "silicon/cpu/debug.h"

#include <string.h>

#include "silicon/paging/tlb.h"

enum { RW_INSN, RW_WRITE, RW_IO, RW_DATA };

static unsigned bp_kind(u64 dr7, unsigned n)
{
	return (dr7 >> (16 + 4 * n)) & 3;
}

static unsigned bp_len(u64 dr7, unsigned n)
{
	static const u8 len[4] = {1, 2, 8, 4};

	return len[(dr7 >> (18 + 4 * n)) & 3];
}

void debug_update(struct sil_cpu *cpu)
{
	u64 dr7 = cpu->c.s.dr7;
	u8 data = 0, insn = 0;
	unsigned n;

	if (dr7 == cpu->dbg_dr7 && !memcmp(cpu->dbg_dr, cpu->c.r.dr, sizeof(cpu->dbg_dr)))
		return;
	cpu->dbg_dr7 = dr7;
	memcpy(cpu->dbg_dr, cpu->c.r.dr, sizeof(cpu->dbg_dr));
	for (n = 0; n < 4; n++) {
		if (!(dr7 & (3ull << (2 * n))))
			continue;
		if (bp_kind(dr7, n) == RW_INSN)
			insn |= 1u << n;
		else if (bp_kind(dr7, n) != RW_IO)
			data |= 1u << n;
	}
	/* Pages that are watched now must leave the TLB; the others fill it again. */
	if (data)
		tlb_drop_data(cpu);
	cpu->bp_data = data;
	cpu->bp_insn = insn;
}

void debug_data_access(struct sil_cpu *cpu, u64 la, unsigned size, bool write)
{
	u64 dr7 = cpu->c.s.dr7, hit = 0, enabled = 0;
	unsigned n;

	for (n = 0; n < 4; n++) {
		unsigned len = bp_len(dr7, n), kind = bp_kind(dr7, n);
		u64 at = cpu->c.r.dr[n] & ~(u64)(len - 1);

		if (kind == RW_INSN || kind == RW_IO || (kind == RW_WRITE && !write))
			continue;
		if (la + size <= at || at + len <= la)
			continue;
		hit |= DR6_B0 << n;
		if (cpu->bp_data >> n & 1)
			enabled = PENDING_DBG_BP;
	}
	if (!enabled)
		return;
	cpu->bp_hit |= hit | enabled;
	cpu->block_end = NULL;
}

u64 debug_insn_hit(const struct sil_cpu *cpu, u64 la)
{
	u64 hit = 0;
	unsigned n;

	for (n = 0; n < 4; n++)
		if ((cpu->bp_insn >> n & 1) && cpu->c.r.dr[n] == la)
			hit |= DR6_B0 << n;
	return hit;
}

void debug_enter_db(struct sil_cpu *cpu, u64 payload)
{
	cpu->c.r.dr6 &= ~BITS(3, 0);
	/* RTM is kept inverted: payload bit 16 clears DR6 bit 16. */
	cpu->c.r.dr6 |= DR6_RTM | (payload & (BITS(3, 0) | DR6_BD | DR6_BS | DR6_BT));
	if (payload & DR6_RTM)
		cpu->c.r.dr6 &= ~DR6_RTM;
	cpu->c.s.dr7 &= ~DR7_GD;
	cpu->c.s.debugctl &= ~(DEBUGCTL_LBR | DEBUGCTL_BTF);
}
