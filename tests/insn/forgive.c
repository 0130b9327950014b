/* SPDX-License-Identifier: MIT */
/*
 * What the host may do otherwise than the handlers: time and random numbers, what the manual leaves
 * to the implementation, and the order of checks, in which processors differ. Each function changes
 * what the host gave (@want, @m->want) to what the handler gave where that is as good.
 */
#include <string.h>

#include "insn_test.h"

/* All of it is as ours left it. */
static void forgive_all(struct tstate *want, const struct tstate *got, const struct images *m)
{
	*want = *got;
	memcpy(m->want, m->got, DATA_SIZE);
}

/* @n bytes at linear @la are as ours left them. */
static void forgive_bytes(u64 la, unsigned n, const struct images *m)
{
	for (; n; n--, la++) {
		if (la >= DATA && la < DATA + DATA_SIZE)
			m->want[la - DATA] = m->got[la - DATA];
	}
}

static bool both_fault(const struct tstate *want, const struct tstate *got, u8 vector)
{
	return want->faulted && got->faulted && want->vector == vector && got->vector == vector;
}

/*
 * What is not the same twice, or is the host's own, is compared by property: time and random
 * numbers fill the registers that they should, and CPUID and XGETBV agree in what they have in
 * common.
 */
static void forgive_values(const struct instance *in, const struct tstate *from,
			   struct tstate *want, const struct tstate *got)
{
	bool high = want->gpr[RAX] >> 32 || want->gpr[RDX] >> 32;
	unsigned reg;

	/* The return from the host's kernel after the test makes every null selector 0. */
	for (unsigned k = ES; k <= GS; k++)
		if (want->sel[k] <= 3 && got->sel[k] <= 3)
			want->sel[k] = got->sel[k];
	if (want->faulted)
		return;
	switch (in->op) {
	case ISA_OP_INT1:
		/* A hypervisor under the host that intercepts it reports it as a fault. */
		if (want->rip == from->rip)
			want->rip = got->rip;
		break;
	case ISA_OP_LAR:
		/* The limit's bits in between are undefined. */
		reg = ZydisRegisterGetId(in->zo[0].reg.value) & 15;
		if ((want->gpr[reg] ^ got->gpr[reg]) == 0xf0000)
			want->gpr[reg] = got->gpr[reg];
		break;
	case ISA_OP_RDTSC:
	case ISA_OP_RDTSCP:
		if (!high) {
			want->gpr[RAX] = got->gpr[RAX];
			want->gpr[RDX] = got->gpr[RDX];
		}
		break;
	case ISA_OP_RDRAND:
	case ISA_OP_RDSEED:
		/* Which bits the result covers; the kernel's processor may run dry. */
		reg = ZydisRegisterGetId(in->zo[0].reg.value) & 15;
		if (in->zi.operand_width == 16 && (want->gpr[reg] ^ from->gpr[reg]) >> 16 == 0)
			want->gpr[reg] = got->gpr[reg];
		else if (in->zi.operand_width == 32 && want->gpr[reg] >> 32 == 0)
			want->gpr[reg] = got->gpr[reg];
		else if (in->zi.operand_width == 64)
			want->gpr[reg] = got->gpr[reg];
		if (!(want->rflags & X86_CF))
			want->rflags |= got->rflags & X86_CF;
		break;
	case ISA_OP_XGETBV:
		if (from->gpr[RCX] == 0 && want->gpr[RAX] == host_state.xcr0)
			want->gpr[RAX] &= 7;
		break;
	case ISA_OP_PUSHF:
	case ISA_OP_PUSHFD:
	case ISA_OP_PUSHFQ:
		/* TF of the single step */
		((u8 *)want->gpr[RSP])[1] &= (u8)~1;
		break;
	case ISA_OP_MOV_SEG:
	case ISA_OP_POP_SEG:
	case ISA_OP_LSS:
		/* The NOP behind a load of SS goes with it. */
		if (want->rip == from->rip + in->zi.length + 1)
			want->rip--;
		break;
	default: break;
	}
}

/* The host's kernel has pages in the upper half, at places of its own choice. */
static void forgive_kernel(struct tstate *want, const struct tstate *got)
{
	if (both_fault(want, got, X86_PF_VEC) && want->cr2 >> 63)
		want->error = (want->error & ~1u) | (got->error & 1);
}

/* ---- Integer and system instructions ---- */

/* In 32-bit mode an operand across 4 GiB is outside its segment, or goes on at 0. */
static void forgive_wrap(const struct instance *in, struct tstate *want, const struct tstate *got)
{
	if (in->mode == ISA_PROT32 && want->faulted && want->vector == X86_PF_VEC && got->faulted &&
	    got->vector == X86_GP && (u32)(want->cr2 + PAGE_SIZE) < 2 * PAGE_SIZE)
		*want = *got;
}

static void forgive_integer(const struct instance *in, const struct tstate *from,
			    struct tstate *want, const struct tstate *got, const struct images *m)
{
	unsigned slot = in->mode == ISA_LONG64 ? 8 : 4;

	switch (in->op) {
	case ISA_OP_ARPL:
		/* Intel's read first, and write only a selector that changes. */
		if (got->faulted && (want->faulted ? want->vector == X86_PF_VEC && want->error == 4
						   : !(want->rflags & X86_ZF)))
			*want = *got;
		break;
	case ISA_OP_BOUND:
		/* Intel's do not read the second bound if the first one is missed. */
		if (want->faulted && want->vector == X86_BR && got->faulted)
			*want = *got;
		break;
	case ISA_OP_CALL:
		/* Intel's store the return address before they find the target not canonical. */
		if (want->faulted && want->vector == X86_GP)
			forgive_bytes(from->gpr[RSP] - slot, slot, m);
		break;
	case ISA_OP_IRETQ:
		/* Intel's take the lower half of RIP to compatibility mode. */
		if (!want->faulted && got->faulted && got->vector == X86_GP &&
		    want->sel[CS] != host_state.sel[CS])
			*want = *got;
		break;
	case ISA_OP_PUSH_SEG:
		/* Intel's leave the slot's upper bytes as they were (SDM vol. 2B, PUSH). */
		if (!want->faulted && in->zi.operand_width != 16)
			forgive_bytes(want->gpr[RSP] + 2, in->zi.operand_width / 8 - 2, m);
		break;
	case ISA_OP_PAUSE:
		/* With REX.B it is XCHG of R8 on AMD's. */
		memcpy(want->gpr, got->gpr, sizeof(want->gpr));
		break;
	case ISA_OP_CMPSB:
	case ISA_OP_CMPSW:
	case ISA_OP_CMPSD:
	case ISA_OP_CMPSQ:
	case ISA_OP_SCASB:
	case ISA_OP_SCASW:
	case ISA_OP_SCASD:
	case ISA_OP_SCASQ:
		/* Intel's have the flags from before the instruction if a repetition faults. */
		if (want->faulted && !((want->rflags ^ from->rflags) & X86_STATUS_FLAGS))
			want->rflags = got->rflags;
		break;
	default: break;
	}
}

/* ---- x87, and what stores from it ---- */

static void forgive_x87(const struct instance *in, struct tstate *want, const struct tstate *got,
			const struct images *m)
{
	const u16 es = 0x80;

	switch (in->op) {
	case ISA_OP_FBSTP:
	case ISA_OP_FIST:
	case ISA_OP_FISTP:
	case ISA_OP_FISTTP:
	case ISA_OP_FST:
	case ISA_OP_FSTP:
		/* Intel's write a part before they find that the rest cannot be written. */
		if (want->faulted)
			forgive_bytes(in->at, 10, m);
		/* With an unmasked exception nothing is stored: Intel's do not look whether it
		 * could be. */
		if (!want->faulted && got->faulted && (want->x87.fsw & es))
			*want = *got;
		break;
	default: break;
	}
}

/* ---- The XSAVE family ---- */

/*
 * Components that hold what they hold after a reset may count as in use or not (SDM vol. 1, 13.6).
 * The processor's count where it has more than ours: then XSAVEOPT and XSAVEC write them.
 */
static void forgive_in_use(u64 off, bool optimized, const struct images *m)
{
	u64 bv = off + 512;

	if (off >= DATA_SIZE || bv >= DATA_SIZE || (m->got[bv] & ~m->want[bv]) ||
	    m->got[bv] == m->want[bv])
		return;
	m->want[bv] = m->got[bv];
	for (u64 k = off; optimized && k < MIN(off + 832, (u64)DATA_SIZE); k++)
		if (m->got[k] == m->before[k])
			m->want[k] = m->got[k];
}

static void forgive_mxcsr_mask(u64 area, const struct images *m)
{
	u64 off = area + offsetof(struct isa_x87, mxcsr_mask);

	if (off < DATA_SIZE - 4 && m->want[off] == 0xff && m->want[off + 1] == 0xff)
		m->want[off + 2] = m->got[off + 2];
}

static void forgive_xsave(const struct instance *in, struct tstate *want, const struct tstate *got,
			  const struct images *m)
{
	u64 area = in->at - DATA;

	switch (in->op) {
	case ISA_OP_XSAVEOPT:
	case ISA_OP_XSAVEOPT64:
	case ISA_OP_XSAVEC:
	case ISA_OP_XSAVEC64:
		/* What is written to an area that is not all there is a matter of what is in use,
		 * and so is whether it faults. */
		if ((want->faulted && want->vector == X86_PF_VEC) ||
		    (got->faulted && got->vector == X86_PF_VEC)) {
			forgive_all(want, got, m);
			return;
		}
		forgive_in_use(area, true, m);
		forgive_mxcsr_mask(area, m);
		break;
	case ISA_OP_XSAVE:
	case ISA_OP_XSAVE64:
		/* The header is read, the components are written. */
		if (both_fault(want, got, X86_PF_VEC))
			want->error = got->error;
		/* Outside 64-bit mode Intel's want the room of all 16 registers. */
		if (in->mode == ISA_PROT32 && want->faulted && !got->faulted &&
		    want->vector == X86_PF_VEC)
			forgive_all(want, got, m);
		forgive_in_use(area, false, m);
		forgive_mxcsr_mask(area, m);
		break;
	case ISA_OP_FXSAVE:
	case ISA_OP_FXSAVE64: forgive_mxcsr_mask(area, m); break;
	case ISA_OP_XRSTOR:
	case ISA_OP_XRSTOR64:
		/* A header that is not legal in an area that is not all there */
		if (want->faulted && got->faulted && want->vector == X86_PF_VEC &&
		    got->vector == X86_GP)
			*want = *got;
		/* Intel's find a bad MXCSR when other components are loaded. */
		if (both_fault(want, got, X86_GP)) {
			memcpy(want->vec, got->vec, sizeof(want->vec));
			want->x87 = got->x87;
		}
		break;
	default: break;
	}
}

/* ---- MMX, SSE, AVX ---- */

static void forgive_vector(const struct instance *in, struct tstate *want, const struct tstate *got,
			   const struct images *m)
{
	/* Exceptions that are raised now. */
	u32 unmasked = want->x87.mxcsr & ~(want->x87.mxcsr >> 7);

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOVD:
	case ZYDIS_MNEMONIC_MOVQ:
	case ZYDIS_MNEMONIC_MOVNTQ:
	case ZYDIS_MNEMONIC_MASKMOVQ:
		/* Some switch to MMX before a store faults. */
		if (want->faulted)
			want->x87 = got->x87;
		break;
	default: break;
	}
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		/* Faults on bytes whose mask is 0 are each implementation's own. */
		if (want->faulted && !got->faulted)
			forgive_all(want, got, m);
		break;
	case ZYDIS_MNEMONIC_VCVTPS2PH:
		/* Intel's convert before they find that the result cannot be stored. */
		if (want->faulted && want->vector != X86_XM)
			want->x87.mxcsr = got->x87.mxcsr;
		else if (want->faulted && got->faulted && got->vector == X86_PF_VEC)
			*want = *got;
		/* Unmasked underflow of an exact result: half precision knows no flushing, by
		 * which the others are found. */
		else if (want->faulted && (unmasked & 0x10))
			forgive_all(want, got, m);
		break;
	case ZYDIS_MNEMONIC_DPPS:
	case ZYDIS_MNEMONIC_DPPD:
	case ZYDIS_MNEMONIC_VDPPS:
	case ZYDIS_MNEMONIC_VDPPD:
		/* Which of the additions and multiplications have been done by then. */
		if (both_fault(want, got, X86_XM))
			want->x87.mxcsr = got->x87.mxcsr;
		break;
	default: break;
	}
	/* With an unmasked overflow or underflow, PE is about the result before it is denormalized,
	 * which a run with masked exceptions does not show. */
	if (want->faulted && want->vector == X86_XM && (unmasked & 0x18))
		want->x87.mxcsr = (want->x87.mxcsr & ~0x20u) | (got->x87.mxcsr & 0x20);
}

void forgive(const struct instance *in, const struct tstate *from, struct tstate *want,
	     const struct tstate *got, const struct images *m)
{
	forgive_values(in, from, want, got);
	forgive_wrap(in, want, got);
	forgive_kernel(want, got);
	forgive_integer(in, from, want, got, m);
	forgive_x87(in, want, got, m);
	forgive_xsave(in, want, got, m);
	forgive_vector(in, want, got, m);
}
