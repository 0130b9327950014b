/* SPDX-License-Identifier: MIT */
/* The same instruction by the translator: a guest at CPL 3 whose linear addresses are this
 * process's, on a page of HLTs, which end it with #GP. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../unit/silicon/fake.h"
#include "insn_test.h"
#include "silicon/jit/door.h"
#include "silicon/jit/jit.h"
#include "silicon/paging/tlb.h"

#define WARM 0x30000000ul /* linear address of a program that touches the data pages */
#define LEAF 0x67ull	  /* present, writable, user, accessed, dirty */

static struct fake f;

static void make(void)
{
	struct isa_sys *s;
	u64 a;
	u8 *p;

	fake_init(&f);
	s = &f.cpu->c.s;
	s->cr3 = fake_page(&f);
	for (a = DATA; a < DATA + DATA_SIZE; a += PAGE_SIZE)
		fake_map(&f, PG_4L, a, 1, a | LEAF | PTE_NX, 7);
	fake_map(&f, PG_4L, CODE, 1, CODE | LEAF, 7);
	fake_map(&f, PG_4L, WARM, 1, (u64)f.mem | LEAF, 7);
	p = f.mem;
	for (a = DATA; a < DATA + DATA_SIZE; a += PAGE_SIZE) {
		static const u8 touch[] = {0x8a, 0x07, 0x88,
					   0x07}; /* mov al, [rdi]; mov [rdi], al */

		*p++ = 0xbf; /* mov edi, a */
		memcpy(p, &(u32){(u32)a}, 4);
		memcpy(p + 4, touch, sizeof(touch));
		p += 4 + sizeof(touch);
	}
	*p = 0xf4;
}

bool jit_init(void)
{
	fake_engine = SIL_ENGINE_JIT;
	if (!jit_supported())
		return false;
	make();
	return true;
}

bool jit_feature(unsigned feat)
{
	return isa_has(&f.cpu->c, feat);
}

static void registers(const struct tstate *from)
{
	struct isa_cpu *c = &f.cpu->c;
	unsigned k;

	fake_mode64(&f, 3);
	c->s.cr0 |= CR0_MP | CR0_AM;
	c->s.cr4 |= CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_UMIP;
	c->r.xcr0 = 7;
	c->r.tsc_aux = host_state.tsc_aux;
	for (k = ES; k <= DS; k++)
		c->s.seg[k].sel = 0x2b;
	c->s.seg[FS].sel = host_state.sel[FS];
	c->s.seg[GS].sel = host_state.sel[GS];
	c->s.seg[CS].sel = 0x33;
	memcpy(c->r.gpr, from->gpr, sizeof(from->gpr));
	memset(c->r.vec, 0, sizeof(c->r.vec));
	for (k = 0; k < 16; k++)
		memcpy(c->r.vec[k].b, from->vec[k], 32);
	c->r.x87 = from->x87;
	isa_set_flags(c, from->rflags);
	cpu_context_changed(f.cpu);
}

void jit_run(const struct instance *in, const struct tstate *from, struct tstate *to)
{
	struct isa_cpu *c = &f.cpu->c;
	enum fake_exit exit;
	unsigned k;

	if (f.m->jit->full) {
		fake_fini(&f);
		make();
		c = &f.cpu->c;
	}
	memset((void *)CODE, 0xf4, PAGE_SIZE);
	memcpy((void *)from->rip, in->bytes, in->zi.length);
	sil_memory_written(f.m, CODE, PAGE_SIZE);
	registers(from);
	if (in->tlb) {
		c->s.rip = WARM;
		fake_run(&f);
		registers(from);
	} else {
		tlb_flush_all(f.cpu);
	}
	c->s.rip = from->rip;
	exit = fake_run(&f);

	memset(to, 0, sizeof(*to));
	memcpy(to->gpr, c->r.gpr, sizeof(to->gpr));
	for (k = 0; k < 16; k++)
		memcpy(to->vec[k], c->r.vec[k].b, 32);
	to->x87 = c->r.x87;
	to->rflags = isa_flags(c);
	to->rip = c->s.rip;
	if (exit != X_EXCEPTION || to->rip == from->rip) {
		to->faulted = true;
		to->vector = exit == X_EXCEPTION ? f.ev.vector : 255;
		to->error = f.ev.has_error ? f.ev.error : 0;
		to->cr2 = f.ev.payload;
	}
}
