/* SPDX-License-Identifier: MIT */
/* Memory as the emulator's instructions reach it: slots, in-core devices, user space. */
#include <errno.h>
#include <string.h>

#include "core/emulate/emulate_impl.h"
#include "core/iobus.h"
#include "core/mmu/mmu_internal.h"

__noreturn void emul_abort(struct emulator *e, int error)
{
	e->error = error;
	isa_throw(&e->c, ISA_THROW_EXIT);
}

/*
 * REP instructions stop at the next iteration when the budget is used up: events may be waiting.
 * But not while there is port input that user space has given and that would be lost.
 */
void emul_used(struct emulator *e)
{
	if (e->budget)
		e->budget--;
	else if (e->in.pos >= e->in.n)
		__atomic_store_n(&e->c.request, 1, __ATOMIC_RELAXED);
}

/* After this iteration, leave: an access outside memory is once per run (see struct emulator.read).
 */
static void stop_rep(struct emulator *e)
{
	__atomic_store_n(&e->c.request, 1, __ATOMIC_RELAXED);
}

static u64 walk_access(const struct isa_cpu *c, unsigned how)
{
	u64 access = how & ISA_ACC_WRITE ? PFERR_WRITE : how & ISA_ACC_FETCH ? PFERR_FETCH : 0;

	if (how & ISA_ACC_SYS)
		return access | PFERR_IMPLICIT;
	if (c->cpl == 3 || how & ISA_ACC_USER)
		access |= PFERR_USER;
	if (c->s.rflags & X86_AC)
		access |= PFERR_AC;
	return access;
}

/* Guest-physical address of one byte on; throws #GP, #SS or #PF. */
static gpa_t translate(struct emulator *e, u64 la, unsigned how)
{
	struct isa_cpu *c = &e->c;
	struct guest_fault f;
	gpa_t gpa;

	if (c->mode == ISA_LONG64) {
		if (!is_canonical(la, c->va_bits))
			isa_raise_err(c, how & ISA_ACC_STACK ? X86_SS_VEC : X86_GP, 0);
	} else {
		la = (u32)la;
	}
	gpa = mmu_gva_to_gpa_system(e->v, la, walk_access(c, how), &f);
	if (gpa == GPA_INVALID) {
		e->has_nested = f.nested;
		e->nested = f;
		isa_raise_pf(c, f.addr, f.error);
	}
	return gpa;
}

/* ---- MMIO ---- */

static void mmio_read(struct emulator *e, gpa_t gpa, u8 *dst, unsigned size)
{
	stop_rep(e);
	while (size) {
		unsigned n = MIN(size, MMIO_PIECE);
		struct mmio_piece *p = &e->read[e->pos];

		if (e->pos == MMIO_MAX) {
			e->unhandled = true;
			emul_abort(e, 0);
		}
		if (e->pos == e->nread) {
			p->gpa = gpa;
			p->len = (u8)n;
			if (io_bus_read(e->v, IO_BUS_MMIO, gpa, n, p->data)) {
				e->wait = EMUL_MMIO_READ;
				emul_abort(e, 0);
			}
			e->nread++;
		} else if (p->gpa != gpa || p->len != n) {
			/* User space has changed the state meanwhile: what it was asked for is not
			 * what is read now. Ask again. */
			e->nread = e->pos;
			continue;
		}
		memcpy(dst, p->data, n);
		e->pos++;
		dst += n;
		gpa += n;
		size -= n;
	}
}

/* What a device of the core takes, or a coalesced zone, does not end a REP. */
static void mmio_write(struct emulator *e, gpa_t gpa, const u8 *src, unsigned size)
{
	while (size) {
		unsigned n = MIN(size, MMIO_PIECE);

		if (io_bus_write(e->v, IO_BUS_MMIO, gpa, n, src)) {
			struct mmio_piece *p = &e->write[e->nwrite];

			stop_rep(e);
			if (e->nwrite == MMIO_MAX) {
				e->unhandled = true;
				emul_abort(e, 0);
			}
			p->gpa = gpa;
			p->len = (u8)n;
			memcpy(p->data, src, n);
			e->nwrite++;
		}
		src += n;
		gpa += n;
		size -= n;
	}
}

/* ---- Ops ---- */

/* KVM does not emulate x87 instructions on MMIO, and tells user space so: programs rely on it to
 * find out about emulation failures. */
static void refuse_x87(struct emulator *e)
{
	if ((e->insn.flags & (ISA_F_FPU | ISA_F_NOWAIT)) == ISA_F_FPU) {
		e->unhandled = true;
		emul_abort(e, 0);
	}
}

static bool is_ram(struct emulator *e, gpa_t gpa, bool write)
{
	unsigned idx = slots_read_lock(e->v->kvm);
	bool ram = vcpu_gfn_to_hva(e->v, gpa >> PAGE_SHIFT, write) != HVA_BAD;

	slots_read_unlock(e->v->kvm, idx);
	return ram;
}

static void read_page(struct emulator *e, gpa_t gpa, u8 *dst, unsigned size)
{
	if (is_ram(e, gpa, false)) {
		if (!vcpu_read_guest(e->v, gpa, dst, size))
			return;
		/* Missing, or the slot has gone in between. */
		if (is_ram(e, gpa, false))
			emul_abort(e, -EFAULT);
	}
	refuse_x87(e);
	mmio_read(e, gpa, dst, size);
}

static void write_page(struct emulator *e, gpa_t gpa, const u8 *src, unsigned size)
{
	if (is_ram(e, gpa, true)) {
		if (!vcpu_write_guest(e->v, gpa, src, size)) {
			mmu_track_write(e->v, gpa, src, size);
			return;
		}
		if (is_ram(e, gpa, true))
			emul_abort(e, -EFAULT);
	}
	refuse_x87(e);
	mmio_write(e, gpa, src, size);
}

void emul_mem_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how)
{
	struct emulator *e = emul_of(c);
	unsigned first = MIN(size, PAGE_SIZE - (la & (PAGE_SIZE - 1)));
	gpa_t a = translate(e, la, how), b = 0;

	emul_used(e);
	if (first < size)
		b = translate(e, la + first, how);
	read_page(e, a, dst, first);
	if (first < size)
		read_page(e, b, (u8 *)dst + first, size - first);
}

void emul_mem_write(struct isa_cpu *c, u64 la, const void *src, unsigned size, unsigned how)
{
	struct emulator *e = emul_of(c);
	unsigned first = MIN(size, PAGE_SIZE - (la & (PAGE_SIZE - 1)));
	gpa_t a = translate(e, la, how | ISA_ACC_WRITE), b = 0;

	emul_used(e);
	if (first < size)
		b = translate(e, la + first, how | ISA_ACC_WRITE);
	write_page(e, a, src, first);
	if (first < size)
		write_page(e, b, (const u8 *)src + first, size - first);
}

void *emul_mem_rmw(struct isa_cpu *c, u64 la, unsigned size, unsigned how)
{
	struct emulator *e = emul_of(c);
	gpa_t gpa;
	hva_t hva;

	/* Also when nothing can be returned: a fault for write comes before any for read. */
	gpa = translate(e, la, how | ISA_ACC_WRITE);
	if ((la & (PAGE_SIZE - 1)) + size > PAGE_SIZE || e->rmw)
		return NULL;
	/* Kept until emul_rmw_done: the slot must not go while the pointer is in use. */
	e->rmw_idx = slots_read_lock(e->v->kvm);
	hva = vcpu_gfn_to_hva(e->v, gpa >> PAGE_SHIFT, true);
	if (hva == HVA_BAD) {
		slots_read_unlock(e->v->kvm, e->rmw_idx);
		return NULL;
	}
	e->rmw = true;
	e->rmw_gpa = gpa;
	e->rmw_hva = hva + (gpa & (PAGE_SIZE - 1));
	e->rmw_size = (u8)size;
	return (void *)e->rmw_hva;
}

void emul_rmw_done(struct emulator *e)
{
	struct kvm_vcpu *v = e->v;
	struct memslot *slot;
	u8 data[64];

	if (!e->rmw)
		return;
	e->rmw = false;
	slot = vcpu_gfn_to_memslot(v, e->rmw_gpa >> PAGE_SHIFT);
	if (slot)
		memslot_mark_dirty(slot, e->rmw_gpa >> PAGE_SHIFT);
	slots_read_unlock(v->kvm, e->rmw_idx);
	if (v->kvm->machine)
		sil_memory_written(v->kvm->machine, e->rmw_hva, e->rmw_size);
	if (e->rmw_size <= sizeof(data) && !vcpu_read_guest(v, e->rmw_gpa, data, e->rmw_size))
		mmu_track_write(v, e->rmw_gpa, data, e->rmw_size);
}

int emul_fetch(struct emulator *e, unsigned want)
{
	struct isa_cpu *c = &e->c;
	struct guest_fault f;

	while (e->nbytes < want) {
		u64 la = c->s.rip + e->nbytes;
		unsigned n;
		int r;

		if (c->mode != ISA_LONG64)
			la = (u32)(c->s.seg[CS].base + (la & c->rip_mask));
		n = MIN(want - e->nbytes, PAGE_SIZE - (la & (PAGE_SIZE - 1)));
		r = mmu_read_virt(e->v, la, e->bytes + e->nbytes, n, walk_access(c, ISA_ACC_FETCH),
				  &f);
		if (r == 1) {
			e->has_nested = f.nested;
			e->nested = f;
			c->fault = (struct isa_fault){.vector = f.vector,
						      .has_error = f.has_error,
						      .error = f.error,
						      .payload = f.addr};
		}
		if (r)
			return r;
		e->nbytes += n;
	}
	return 0;
}
