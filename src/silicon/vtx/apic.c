// SPDX-License-Identifier: MIT
/*
 * APIC virtualization and virtual interrupts (SDM vol. 3C, chapter 30): the virtual-APIC page, the
 * APIC-access page, x2APIC MSRs, delivery of virtual interrupts, posted interrupts.
 */
#include "silicon/vtx/vtx.h"

/* Offsets in the virtual-APIC page, 30.1.1 */
#define VAPIC_ID     0x020u
#define VAPIC_TPR    0x080u
#define VAPIC_PPR    0x0a0u
#define VAPIC_EOI    0x0b0u
#define VAPIC_ISR    0x100u
#define VAPIC_IRR    0x200u
#define VAPIC_ICR_LO 0x300u
#define VAPIC_ICR_HI 0x310u
#define VAPIC_SELF   0x3f0u /* x2APIC only: MSR 83FH */

#define ACCESS_READ  0u /* Table 28-6 */
#define ACCESS_WRITE 1u
#define ACCESS_FETCH 2u
#define ACCESS_EVENT 3u

u32 vapic_read(const struct sil_cpu *cpu, u32 offset)
{
	return *(volatile u32 *)(VF(vtx_of(cpu)->cur, VIRTUAL_APIC_PAGE_ADDR) + offset);
}

void vapic_write(struct sil_cpu *cpu, u32 offset, u32 val)
{
	*(volatile u32 *)(VF(vtx_of(cpu)->cur, VIRTUAL_APIC_PAGE_ADDR) + offset) = val;
}

/* VISR and VIRR: 256 bits in eight registers, 16 bytes apart. */
static u32 vector_reg(u32 base, u8 vector)
{
	return base + (vector >> 5) * 0x10;
}

static void set_vector(struct sil_cpu *cpu, u32 base, u8 vector, bool on)
{
	u32 reg = vector_reg(base, vector), bit = 1u << (vector & 31);
	u32 v = vapic_read(cpu, reg);

	vapic_write(cpu, reg, on ? v | bit : v & ~bit);
}

/* The highest vector set, or 0. */
static u8 highest_vector(const struct sil_cpu *cpu, u32 base)
{
	for (int i = 7; i >= 0; i--) {
		u32 v = vapic_read(cpu, base + i * 0x10);

		if (v)
			return i * 32 + 31 - __builtin_clz(v);
	}
	return 0;
}

/* Guest interrupt status, 25.4.2 */
static u8 rvi(const struct sil_cpu *cpu)
{
	return VF(vtx_of(cpu)->cur, GUEST_INTR_STATUS);
}

static u8 svi(const struct sil_cpu *cpu)
{
	return VF(vtx_of(cpu)->cur, GUEST_INTR_STATUS) >> 8;
}

static void set_status(struct sil_cpu *cpu, u8 r, u8 s)
{
	VF(vtx_of(cpu)->cur, GUEST_INTR_STATUS) = r | s << 8;
}

/* The instruction is the last before the engine looks at requests. */
static void boundary_soon(struct sil_cpu *cpu)
{
	cpu->block_end = NULL;
	cpu_request(cpu, SIL_REQ_EVENT);
}

/* 30.2.1 */
bool vapic_waiting(const struct sil_cpu *cpu)
{
	const struct vtx_cpu *v = vtx_of(cpu);

	return (v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) &&
	       !(v->cpu1 & CPU_BASED_INTR_WINDOW_EXITING) &&
	       rvi(cpu) >> 4 > bits_get(vapic_read(cpu, VAPIC_PPR), 7, 4);
}

static void evaluate(struct sil_cpu *cpu)
{
	vtx_update_attention(cpu);
	if (vapic_waiting(cpu))
		boundary_soon(cpu);
}

/* 30.1.3 */
static void update_ppr(struct sil_cpu *cpu)
{
	u32 tpr = vapic_read(cpu, VAPIC_TPR) & 0xff, s = svi(cpu);

	vapic_write(cpu, VAPIC_PPR, tpr >> 4 >= s >> 4 ? tpr : s & 0xf0);
}

/* 30.1.2 */
static void virtualize_tpr(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);

	if (v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) {
		update_ppr(cpu);
		evaluate(cpu);
	} else if (bits_get(vapic_read(cpu, VAPIC_TPR), 7, 4) < (VF(v->cur, TPR_THRESHOLD) & 15)) {
		v->tpr_exit = true;
		boundary_soon(cpu);
	}
}

void vapic_write_tpr(struct sil_cpu *cpu, u8 tpr)
{
	vapic_write(cpu, VAPIC_TPR, tpr);
	virtualize_tpr(cpu);
}

/* 30.1.4; exits as a trap if the vector is in the EOI-exit bitmap. */
static void virtualize_eoi(struct sil_cpu *cpu)
{
	const struct vmcs_region *r = vtx_of(cpu)->cur;
	u8 vector = svi(cpu);

	set_vector(cpu, VAPIC_ISR, vector, false);
	set_status(cpu, rvi(cpu), highest_vector(cpu, VAPIC_ISR));
	update_ppr(cpu);
	if ((&VF(r, EOI_EXIT_BITMAP0))[vector >> 6] >> (vector & 63) & 1)
		vtx_exit(cpu, EXIT_REASON_EOI_INDUCED, vector);
	evaluate(cpu);
}
static_assert(SLOT_EOI_EXIT_BITMAP3 == SLOT_EOI_EXIT_BITMAP0 + 3, "bitmaps are consecutive");

/* 30.1.5 */
static void virtualize_self_ipi(struct sil_cpu *cpu, u8 vector)
{
	set_vector(cpu, VAPIC_IRR, vector, true);
	set_status(cpu, MAX(rvi(cpu), vector), svi(cpu));
	evaluate(cpu);
}

/* 30.2.2 */
void vapic_deliver(struct sil_cpu *cpu)
{
	const struct isa_sys *s = &cpu->c.s;
	struct isa_event ev = {.type = EV_EXT_INT};

	if (!vapic_waiting(cpu) || !(s->rflags & X86_IF) ||
	    (s->interruptibility & (ISA_BLOCK_STI | ISA_BLOCK_MOVSS)) || s->activity > ISA_HLT)
		return;
	ev.vector = rvi(cpu);
	set_vector(cpu, VAPIC_ISR, ev.vector, true);
	vapic_write(cpu, VAPIC_PPR, ev.vector & 0xf0);
	set_vector(cpu, VAPIC_IRR, ev.vector, false);
	set_status(cpu, highest_vector(cpu, VAPIC_IRR), ev.vector);
	vtx_update_attention(cpu);
	engine_deliver(cpu, &ev);
}

void vapic_enter(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);

	if (v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) {
		update_ppr(cpu);
	} else if ((v->cpu2 & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES) &&
		   bits_get(vapic_read(cpu, VAPIC_TPR), 7, 4) < (VF(v->cur, TPR_THRESHOLD) & 15)) {
		/* 27.7.7 */
		v->tpr_exit = true;
	}
}

/* 30.6: the descriptor's requests, then its outstanding-notification bit 256. */
void vapic_notified(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	u64 *desc = (u64 *)VF(v->cur, POSTED_INTR_DESC_ADDR);
	int top = -1;

	if (!(v->pin & PIN_BASED_POSTED_INTR))
		return;
	__atomic_fetch_and(&desc[4], ~1ull, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < 4; i++) {
		u64 pir = __atomic_exchange_n(&desc[i], 0, __ATOMIC_SEQ_CST);

		if (!pir)
			continue;
		for (unsigned h = 0; h < 2; h++) {
			u32 reg = VAPIC_IRR + (i * 2 + h) * 0x10;

			vapic_write(cpu, reg, vapic_read(cpu, reg) | (u32)(pir >> (h * 32)));
		}
		top = i * 64 + 63 - __builtin_clzll(pir);
	}
	if (top > rvi(cpu))
		set_status(cpu, top, svi(cpu));
	vtx_update_attention(cpu);
}

/* ---- The APIC-access page (30.4) --------------------------------------------------------------
 */

/* A set of the 64 registers of an APIC page. */
#define REG(offset) BIT((offset) >> 4)
#define REGS_LVT    (REG(0x320) | REG(0x330) | REG(0x340) | REG(0x350) | REG(0x360) | REG(0x370))
#define REGS_WRITABLE                                                                  \
	(REG(0x020) | REG(0x080) | REG(0x0b0) | REG(0x0d0) | REG(0x0e0) | REG(0x0f0) | \
	 REG(0x280) | REG(0x300) | REG(0x310) | REGS_LVT | REG(0x380) | REG(0x3e0))
#define REGS_READABLE \
	(REGS_WRITABLE | REG(0x030) | BITS(0x17, 0x10) | BITS(0x1f, 0x18) | BITS(0x27, 0x20))

/* 30.4.2, 30.4.3: which registers are virtualized. */
static u64 virtual_regs(const struct vtx_cpu *v, bool write)
{
	if (!(v->cpu1 & CPU_BASED_TPR_SHADOW))
		return 0;
	if (v->cpu2 & SECONDARY_EXEC_APIC_REGISTER_VIRT)
		return write ? REGS_WRITABLE : REGS_READABLE;
	if (write && (v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
		return REG(VAPIC_TPR) | REG(VAPIC_EOI) | REG(VAPIC_ICR_LO);
	return REG(VAPIC_TPR);
}

static __noreturn void access_exit(struct sil_cpu *cpu, u32 offset, unsigned type)
{
	vtx_record(cpu, EXIT_REASON_APIC_ACCESS, offset | type << 12);
	/* 28.3.3 */
	if (cpu->c.insn && !cpu->vectoring_valid)
		cpu->c.s.rflags |= X86_RF;
	vtx_leave(cpu);
}

void vtx_apic_access(struct sil_cpu *cpu, const struct sil_access *a, void *data)
{
	struct vtx_cpu *v = vtx_of(cpu);
	bool write = a->how & ISA_ACC_WRITE;
	u8 *page = (u8 *)VF(v->cur, VIRTUAL_APIC_PAGE_ADDR);

	if (cpu->vectoring_valid)
		access_exit(cpu, a->offset, ACCESS_EVENT);
	if ((a->how & ISA_ACC_FETCH) || !data)
		access_exit(cpu, a->offset, ACCESS_FETCH);
	if (a->size > 4 || (a->offset & 15) + a->size > 4 || a->offset >= 0x400 ||
	    !(virtual_regs(v, write) & REG(a->offset)))
		access_exit(cpu, a->offset, write ? ACCESS_WRITE : ACCESS_READ);
	if (!write) {
		__builtin_memcpy(data, page + a->offset, a->size);
		return;
	}
	__builtin_memcpy(page + a->offset, data, a->size);
	v->apic_write = true;
	v->apic_offset = a->offset & ~15u;
	boundary_soon(cpu);
}

/* ICR_LO that 30.4.3.2 sends by self-IPI: fixed, edge, shorthand self, vector above 15. */
static bool icr_is_self_ipi(u32 icr)
{
	return !(icr &
		 (BITS(31, 20) | BIT(17) | BIT(16) | BIT(15) | BIT(13) | BIT(12) | BITS(10, 8))) &&
	       bits_get(icr, 19, 18) == 1 && (icr & 0xf0);
}

void vapic_after_write(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	bool vid = v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
	u32 offset = v->apic_offset, icr;

	v->apic_write = false;
	switch (offset) {
	case VAPIC_TPR: vapic_write_tpr(cpu, vapic_read(cpu, VAPIC_TPR)); return;
	case VAPIC_EOI:
		if (!vid)
			break;
		vapic_write(cpu, VAPIC_EOI, 0);
		virtualize_eoi(cpu);
		return;
	case VAPIC_ICR_LO:
		icr = vapic_read(cpu, VAPIC_ICR_LO);
		if (!vid || !icr_is_self_ipi(icr))
			break;
		virtualize_self_ipi(cpu, icr);
		return;
	case VAPIC_ICR_HI:
		vapic_write(cpu, VAPIC_ICR_HI, vapic_read(cpu, VAPIC_ICR_HI) & BITS(31, 24));
		return;
	default: break;
	}
	vtx_exit(cpu, EXIT_REASON_APIC_WRITE, offset);
}

/* ---- x2APIC MSRs (30.5) ------------------------------------------------------------------------
 */

bool vapic_rdmsr(struct sil_cpu *cpu, u32 index, u64 *val)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	u32 offset = (index & 0xff) << 4;

	if (!(v->cpu2 & SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE) ||
	    (offset != VAPIC_TPR && !(v->cpu2 & SECONDARY_EXEC_APIC_REGISTER_VIRT)))
		return false;
	*val = vapic_read(cpu, offset) | (u64)vapic_read(cpu, offset + 4) << 32;
	return true;
}

bool vapic_wrmsr(struct sil_cpu *cpu, u32 index, u64 val)
{
	struct vtx_cpu *v = vtx_of(cpu);
	bool vid = v->cpu2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
	u32 offset = (index & 0xff) << 4;

	if (!(v->cpu2 & SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE) ||
	    !(offset == VAPIC_TPR || (vid && (offset == VAPIC_EOI || offset == VAPIC_SELF))))
		return false;
	if (offset == VAPIC_EOI ? val : val >> 8)
		isa_raise_err(&cpu->c, X86_GP, 0);
	vapic_write(cpu, offset, val);
	vapic_write(cpu, offset + 4, val >> 32);
	if (offset == VAPIC_TPR) {
		virtualize_tpr(cpu);
	} else if (offset == VAPIC_SELF && (val & 0xf0)) {
		virtualize_self_ipi(cpu, val);
	} else {
		/* The exit, if there is one, follows the instruction. */
		v->apic_write = true;
		v->apic_offset = offset;
		boundary_soon(cpu);
	}
	return true;
}
