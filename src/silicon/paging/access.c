/* SPDX-License-Identifier: MIT */
/* Memory accesses the inlined TLB check does not answer: misses, page crossings, special pages. */
#include <string.h>

#include "silicon/cpu/debug.h"
#include "silicon/interp/codepage.h"
#include "silicon/paging/tlb.h"

/* SDM vol. 1, 3.3.7.1. Outside 64-bit mode linear addresses have 32 bits. */
static u64 check_la(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	if (c->mode != ISA_LONG64) {
		/* Descriptor tables and the TSS keep 64-bit bases in compatibility mode. */
		if (!(c->s.efer & EFER_LMA))
			return (u32)la;
		if (!(how & ISA_ACC_SYS))
			return (u32)la;
	}
	if (unlikely(!is_canonical(la, c->va_bits) || !is_canonical(la + size - 1, c->va_bits)))
		isa_raise_err(c, how & ISA_ACC_STACK ? X86_SS_VEC : X86_GP, 0);
	return la;
}

/* SDM vol. 3A, 6.15, #AC. Larger operands than 8 bytes are checked for 8 (x87: their parts). */
static void check_alignment(struct sil_cpu *cpu, u64 la, unsigned size, unsigned how)
{
	unsigned align = size == 10 ? 8 : size & (~size + 1);

	if (align > 8)
		align = 8;
	if ((la & (align - 1)) && !(how & (ISA_ACC_SYS | ISA_ACC_FETCH)) && cpu->c.cpl == 3)
		isa_raise_err(&cpu->c, X86_AC_VEC, 0);
}

static void before(struct sil_cpu *cpu, u64 la, unsigned size, unsigned how)
{
	if (unlikely(cpu->ac_check))
		check_alignment(cpu, la, size, how);
	if (unlikely(cpu->bp_data))
		debug_data_access(cpu, la, size, how & ISA_ACC_WRITE);
}

static u64 next_page(const struct isa_cpu *c, u64 la)
{
	u64 n = (la & PAGE_MASK) + PAGE_SIZE;

	return c->s.efer & EFER_LMA ? n : (u32)n;
}

/* Copies with one host access where the size allows: guests rely on atomic aligned accesses. */
static void copy(void *dst, const void *src, unsigned size)
{
	switch (size) {
	case 1: *(u8 *)dst = *(const u8 *)src; break;
	case 2: memcpy(dst, src, 2); break;
	case 4: memcpy(dst, src, 4); break;
	case 8: memcpy(dst, src, 8); break;
	default: memcpy(dst, src, size); break;
	}
}

static void apic(struct sil_cpu *cpu, u64 la, void *data, unsigned size, unsigned how)
{
	struct sil_access a = {.la = la, .offset = la & ~PAGE_MASK, .size = size, .how = how};

	cpu->m->virt->apic_access(cpu, &a, data);
}

void op_mem_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how)
{
	struct sil_cpu *cpu = sil_of(c);
	unsigned first = PAGE_SIZE - (la & ~PAGE_MASK);
	const void *p, *q;
	u64 la2;

	how &= ~(unsigned)ISA_ACC_WRITE;
	la = check_la(c, la, size, how);
	before(cpu, la, size, how);
	p = tlb_translate(cpu, la, how);
	if (likely(size <= first)) {
		if (p)
			copy(dst, p, size);
		else
			apic(cpu, la, dst, size, how);
		return;
	}
	la2 = next_page(c, la);
	q = tlb_translate(cpu, la2, how);
	if (p)
		memcpy(dst, p, first);
	else
		apic(cpu, la, dst, first, how);
	if (q)
		memcpy((u8 *)dst + first, q, size - first);
	else
		apic(cpu, la2, (u8 *)dst + first, size - first, how);
}

/*
 * Another cpu may have forgotten, and even made anew, what was made from the page just written:
 * then the registry knows nothing of the block being run, which may be of this page and go on
 * behind this write; the request to drop it has not been served.
 */
static inline void dropped_meanwhile(struct sil_cpu *cpu)
{
	if (unlikely(cpu_requested(cpu, SIL_REQ_CODE)))
		cpu->block_end = NULL;
}

/* The bytes at host @p are written: if code was made from them, it is forgotten. */
static void after_write(struct sil_cpu *cpu, void *p, unsigned size)
{
	if (unlikely(code_is_page(cpu->m->code, (hva_t)p & PAGE_MASK))) {
		cpu->n.code_writes++;
		code_written(cpu->m, cpu, (hva_t)p, size);
	}
	dropped_meanwhile(cpu);
}

void op_mem_write(struct isa_cpu *c, u64 la, const void *src, unsigned size, unsigned how)
{
	struct sil_cpu *cpu = sil_of(c);
	unsigned first = PAGE_SIZE - (la & ~PAGE_MASK);
	void *p, *q;
	u64 la2;

	how |= ISA_ACC_WRITE;
	la = check_la(c, la, size, how);
	before(cpu, la, size, how);
	p = tlb_translate(cpu, la, how);
	if (likely(size <= first)) {
		if (p) {
			copy(p, src, size);
			after_write(cpu, p, size);
		} else {
			apic(cpu, la, (void *)src, size, how);
		}
		return;
	}
	la2 = next_page(c, la);
	q = tlb_translate(cpu, la2, how);
	if (p) {
		memcpy(p, src, first);
		after_write(cpu, p, first);
	} else {
		apic(cpu, la, (void *)src, first, how);
	}
	if (q) {
		memcpy(q, (const u8 *)src + first, size - first);
		after_write(cpu, q, size - first);
	} else {
		apic(cpu, la2, (u8 *)src + first, size - first, how);
	}
}

void *op_mem_rmw(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	struct sil_cpu *cpu = sil_of(c);
	void *p;

	how |= ISA_ACC_WRITE | ISA_ACC_RMW;
	la = check_la(c, la, size, how);
	if (unlikely(cpu->ac_check))
		check_alignment(cpu, la, size, how);
	p = tlb_translate(cpu, la, how);
	if (unlikely(PAGE_SIZE - (la & ~PAGE_MASK) < size)) {
		/* Both pages must be writable before the read half is done. */
		tlb_translate(cpu, next_page(c, la), how);
		return NULL;
	}
	if (unlikely(!p))
		return NULL;
	if (unlikely(cpu->bp_data))
		debug_data_access(cpu, la, size, true);
	if (unlikely(code_is_page(cpu->m->code, (hva_t)p & PAGE_MASK))) {
		/* The caller writes through the pointer: look again when the instruction is done.
		 */
		cpu->n.code_writes++;
		cpu->rmw_hva = (hva_t)p;
		cpu->rmw_size = size;
		cpu->block_end = NULL;
	}
	dropped_meanwhile(cpu);
	return p;
}

/* One lock for all accesses no host atomic can do: across pages. */
void op_mem_lock(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);

	if (cpu->mem_locked)
		return;
	pthread_mutex_lock(&cpu->m->split_lock);
	cpu->mem_locked = true;
}

void op_mem_unlock(struct isa_cpu *c)
{
	struct sil_cpu *cpu = sil_of(c);

	if (!cpu->mem_locked)
		return;
	cpu->mem_locked = false;
	pthread_mutex_unlock(&cpu->m->split_lock);
}

void cpu_wrote(struct sil_cpu *cpu, hva_t hva, unsigned len)
{
	after_write(cpu, (void *)hva, len);
}
