/* SPDX-License-Identifier: MIT */
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <time.h>

#include "silicon/paging/tlb.h"

static __noreturn void leave(struct sil_cpu *cpu, enum fake_exit why)
{
	fake_of(cpu)->exit = why;
	isa_throw(&cpu->c, ISA_THROW_EXIT);
}

static void x_exception(struct sil_cpu *cpu, const struct isa_event *ev)
{
	struct fake *f = fake_of(cpu);

	if (f->exc_bitmap >> ev->vector & 1) {
		f->ev = *ev;
		leave(cpu, X_EXCEPTION);
	}
}

static __noreturn void x_triple(struct sil_cpu *cpu)
{
	leave(cpu, X_TRIPLE);
}

static void x_trap_exits(struct sil_cpu *cpu)
{
	if (cpu->step_exits && cpu->stepped)
		leave(cpu, X_MTF);
}

static void x_pending(struct sil_cpu *cpu)
{
	if (cpu_requested(cpu, SIL_REQ_KICK)) {
		cpu_request_clear(cpu, SIL_REQ_KICK);
		leave(cpu, X_KICK);
	}
	cpu_request_clear(cpu, SIL_REQ_TIMER | SIL_REQ_NOTIFY);
}

static void x_no_boundary(struct sil_cpu *cpu, u32 n)
{
	(void)n;
	x_pending(cpu);
}

static __noreturn void x_violation(struct sil_cpu *cpu, gpa_t gpa, u64 la, u64 qual)
{
	struct fake *f = fake_of(cpu);

	f->gpa = gpa;
	f->la = la;
	f->qual = qual;
	leave(cpu, X_VIOLATION);
}

static __noreturn void x_misconfig(struct sil_cpu *cpu, gpa_t gpa)
{
	fake_of(cpu)->gpa = gpa;
	leave(cpu, X_MISCONFIG);
}

static __noreturn void x_npt(struct sil_cpu *cpu, gpa_t gpa, u64 error)
{
	leave(cpu, X_NONE);
}

static void x_pml(struct sil_cpu *cpu, gpa_t gpa)
{
	fake_of(cpu)->gpa = gpa;
}

static void x_apic(struct sil_cpu *cpu, const struct sil_access *a, void *data)
{
	fake_of(cpu)->acc = *a;
	leave(cpu, X_APIC);
}

static void x_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg)
{
	struct fake *f = fake_of(sil_of(c));

	if (what == ICPT_HLT && f->icpt_hlt)
		leave(sil_of(c), X_HLT);
	f->arg = arg;
	if (f->icpt >> what & 1)
		leave(sil_of(c), X_INTERCEPT);
}

static void x_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr)
{
	struct fake *f = fake_of(sil_of(c));

	f->arg = val;
	if (n == 3 && f->icpt_cr3)
		leave(sil_of(c), X_INTERCEPT);
	op_write_cr(c, n, val, gpr);
}
_Static_assert(ICPT_N <= 64, "bits of fake.icpt");

static void x_vmx(struct isa_cpu *c, const struct isa_insn *i)
{
	leave(sil_of(c), X_VMCALL);
}

static void x_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la)
{
	leave(sil_of(c), X_PORT);
}

static int x_root_rdmsr(const struct sil_machine *m, u32 index, u64 *val)
{
	return -22;
}

static const struct isa_ops fake_isa = {
	SIL_ENGINE_ISA_OPS, .intercept = x_intercept, .write_cr = x_write_cr,
	.vmx = x_vmx,	    .port_out = x_out,
};

static const struct sil_virt_ops fake_virt = {
	.isa = &fake_isa,
	.root_rdmsr = x_root_rdmsr,
	.exception = x_exception,
	.triple_fault = x_triple,
	.trap_exits = x_trap_exits,
	.pending = x_pending,
	.no_boundary = x_no_boundary,
	.ept_violation = x_violation,
	.ept_misconfig = x_misconfig,
	.npt_fault = x_npt,
	.pml = x_pml,
	.apic_access = x_apic,
};

static u64 h_tsc(void *o)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

static void h_arm(void *o, struct sil_cpu *cpu, u64 tsc) {}

static bool h_owns(void *o, u64 hva)
{
	struct fake *f = o;

	return hva - (u64)f->mem < f->size;
}

static u64 h_random(void *o)
{
	return 4;
}

static const struct sil_host host = {h_tsc, h_arm, h_owns, h_random};

enum sil_engine fake_engine = SIL_ENGINE_AUTO;

void fake_init(struct fake *f)
{
	struct sil_config cfg = {.tsc_khz = 1000000, .host = &host, .host_opaque = f};
	const char *name = getenv("KVMLESS_TEST_ENGINE");

	if (fake_engine == SIL_ENGINE_AUTO)
		fake_engine = name && !strcmp(name, "jit") ? SIL_ENGINE_JIT : SIL_ENGINE_INTERP;
	cfg.engine = fake_engine;

	memset(f, 0, sizeof(*f));
	f->size = FAKE_MEM;
	f->mem = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f->ept_pool =
		mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f->table_top = f->size;
	f->icpt_hlt = true;
	f->exc_bitmap = ~0u;
	if (f->mem == MAP_FAILED || cpu_machine_create(&cfg, &fake_virt, &f->m) ||
	    sil_cpu_create(f->m, &f->cpu))
		abort();
	f->cpu->vendor = f;
}

void fake_init_cpu(struct fake *f, const struct fake *first)
{
	*f = *first;
	if (sil_cpu_create(f->m, &f->cpu))
		abort();
	f->cpu->vendor = f;
	f->cpu->world = first->cpu->world;
}

void fake_fini_cpu(struct fake *f)
{
	sil_cpu_destroy(f->cpu);
}

void fake_fini(struct fake *f)
{
	sil_cpu_destroy(f->cpu);
	sil_machine_destroy(f->m);
	munmap(f->mem, f->size);
	munmap(f->ept_pool, 1 << 20);
}

/* ---- Nested tables ---- */

static u64 *ept_page(struct fake *f)
{
	u64 *p = (u64 *)(f->ept_pool + f->ept_used);

	f->ept_used += PAGE_SIZE;
	if (f->ept_used > 1 << 20)
		abort();
	memset(p, 0, PAGE_SIZE);
	return p;
}

void fake_ept(struct fake *f, unsigned levels, bool ad)
{
	f->ept_used = 0;
	f->cpu->world.nested = SIL_NESTED_EPT;
	f->cpu->world.nested_levels = levels;
	f->cpu->world.ept_ad = ad;
	f->cpu->world.nested_root = (hpa_t)ept_page(f);
}

u64 *fake_ept_entry(struct fake *f, u64 gpa, unsigned level)
{
	u64 *t = (u64 *)f->cpu->world.nested_root;
	unsigned l;

	for (l = f->cpu->world.nested_levels; l > level; l--) {
		u64 *e = &t[(gpa >> (12 + 9 * (l - 1))) % 512];

		if (!(*e & 7))
			*e = (u64)ept_page(f) | 7;
		t = (u64 *)(*e & 0x000ffffffffff000ull);
	}
	return &t[(gpa >> (12 + 9 * (level - 1))) % 512];
}

void fake_ept_map(struct fake *f, u64 gpa, u64 hpa, unsigned level, u64 bits)
{
	*fake_ept_entry(f, gpa, level) = hpa | bits | 6 << 3 | (level > 1 ? 0x80 : 0);
}

/* ---- Guest tables ---- */

u64 fake_page(struct fake *f)
{
	f->table_top -= PAGE_SIZE;
	memset(f->mem + f->table_top, 0, PAGE_SIZE);
	return f->cpu->world.nested ? f->table_top : (u64)f->mem + f->table_top;
}

static void *at(struct fake *f, u64 gpa)
{
	return f->cpu->world.nested ? (void *)(f->mem + gpa) : (void *)gpa;
}

u64 fake_get(struct fake *f, u64 gpa)
{
	u64 v;

	memcpy(&v, at(f, gpa), 8);
	return v;
}

void fake_set(struct fake *f, u64 gpa, u64 val)
{
	memcpy(at(f, gpa), &val, 8);
}

u64 fake_map(struct fake *f, enum pg_format fmt, u64 la, unsigned level, u64 leaf, u64 above)
{
	struct isa_sys *s = &f->cpu->c.s;
	unsigned l, n = fmt == PG_5L ? 5 : fmt == PG_4L ? 4 : 2;
	u64 t = s->cr3 & ~0xfffull, e;

	if (fmt == PG_32) {
		u32 v;
		u64 pde = t + (la >> 22) * 4;

		if (level == 2) {
			v = (u32)leaf;
			memcpy(at(f, pde), &v, 4);
			return pde;
		}
		memcpy(&v, at(f, pde), 4);
		if (!(v & 1)) {
			v = (u32)(fake_page(f) | above);
			memcpy(at(f, pde), &v, 4);
		}
		pde = (v & ~0xfffu) + ((la >> 12) & 1023) * 4;
		v = (u32)leaf;
		memcpy(at(f, pde), &v, 4);
		return pde;
	}
	if (fmt == PG_PAE) {
		u64 *pd = &s->pdptr[(la >> 30) & 3];

		if (!(*pd & 1))
			*pd = fake_page(f) | 1;
		t = *pd & 0x000ffffffffff000ull;
	}
	for (l = n; l > level; l--) {
		e = t + ((la >> (12 + 9 * (l - 1))) & 511) * 8;
		if (!(fake_get(f, e) & 1))
			fake_set(f, e, fake_page(f) | above);
		t = fake_get(f, e) & 0x000ffffffffff000ull;
	}
	e = t + ((la >> (12 + 9 * (level - 1))) & 511) * 8;
	fake_set(f, e, leaf);
	return e;
}

/* ---- Modes ---- */

static void segs(struct isa_sys *s, unsigned cpl, u32 cs_ar, u32 ds_ar)
{
	unsigned k;

	for (k = ES; k <= GS; k++)
		s->seg[k] =
			(struct isa_seg){.sel = 0x10 | cpl, .ar = ds_ar | cpl << 5, .limit = ~0u};
	s->seg[CS] = (struct isa_seg){.sel = 8 | cpl, .ar = cs_ar | cpl << 5, .limit = ~0u};
	s->seg[TR] = (struct isa_seg){.sel = 0x18, .ar = 0x8b, .limit = 0x67};
	s->seg[LDTR] = (struct isa_seg){.ar = SEG_AR_UNUSABLE};
	s->interruptibility = 0;
	s->activity = ISA_ACTIVE;
	s->pending_dbg = 0;
}

void fake_mode64(struct fake *f, unsigned cpl)
{
	struct isa_sys *s = &f->cpu->c.s;

	s->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
	s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR;
	s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	segs(s, cpl, 0xa09b, 0xc093);
	isa_set_flags(&f->cpu->c, 2);
	cpu_context_changed(f->cpu);
}

void fake_identity(struct fake *f)
{
	u64 k;

	fake_init(f);
	fake_ept(f, 4, true);
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_ept_map(f, k << 12, (u64)f->mem + (k << 12), 1, 7);
	f->cpu->c.s.cr3 = fake_page(f);
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_map(f, PG_4L, k << 12, 1, k << 12 | 0x3, 7);
	fake_mode64(f, 0);
}

void fake_idt(struct fake *f)
{
	unsigned v;

	/* GDT at 0x22000: null, 64-bit code, data */
	memset(f->mem + 0x22000, 0, 64);
	fake_set(f, 0x22008, 0x00af9b000000ffffull);
	fake_set(f, 0x22010, 0x00cf93000000ffffull);
	f->cpu->c.s.gdtr = (struct isa_dtr){0x22000, 0x3f};
	for (v = 0; v < 32; v++) {
		u64 to = 0x21000 + 16 * v;

		fake_set(f, 0x20000 + 16 * v,
			 (to & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (to & 0xffff0000) << 32);
		fake_set(f, 0x20008 + 16 * v, 0);
		f->mem[to] = 0xf4;
	}
	f->cpu->c.s.idtr = (struct isa_dtr){0x20000, 0x1ff};
	f->exc_bitmap = 0;
}

void fake_load(struct fake *f, const u8 *code, size_t n, u64 at)
{
	memcpy(f->mem + at, code, n);
	sil_memory_written(f->m, (hva_t)f->mem + at, n);
	f->cpu->c.s.rip = at;
}

void fake_mode32(struct fake *f, unsigned cpl, bool paging, bool pae)
{
	struct isa_sys *s = &f->cpu->c.s;

	s->cr0 = CR0_PE | CR0_WP | CR0_ET | (paging ? CR0_PG : 0);
	s->cr4 = CR4_PSE | CR4_PGE | (pae ? CR4_PAE : 0);
	s->efer = pae ? EFER_NXE : 0;
	segs(s, cpl, 0xc09b, 0xc093);
	isa_set_flags(&f->cpu->c, 2);
	cpu_context_changed(f->cpu);
}

void fake_real(struct fake *f)
{
	isa_reset(&f->cpu->c, false);
	f->cpu->c.s.seg[CS].sel = 0;
	f->cpu->c.s.seg[CS].base = 0;
	f->cpu->c.s.rip = 0x1000;
	cpu_context_changed(f->cpu);
}

static u8 untrapped(const struct fake *f)
{
	if (f->ask)
		return 0;
	return UNTRAPPED_CR3_STORE | (f->icpt_cr3 ? 0 : UNTRAPPED_CR3_LOAD) |
	       (f->icpt >> ICPT_INVLPG & 1 ? 0 : UNTRAPPED_INVLPG) |
	       (f->icpt >> ICPT_PAUSE & 1 ? 0 : UNTRAPPED_PAUSE) |
	       (f->icpt >> ICPT_INTN & 1 ? 0 : UNTRAPPED_INT) |
	       (f->exc_bitmap >> X86_BP & 1 ? 0 : UNTRAPPED_BP);
}

enum fake_exit fake_run(struct fake *f)
{
	f->cpu->untrapped = untrapped(f);
	f->exit = X_NONE;
	engine_run(f->cpu);
	return f->exit;
}

enum fake_exit fake_walk(struct fake *f, u64 la, unsigned how, struct walk_out *out)
{
	struct isa_cpu *c = &f->cpu->c;
	jmp_buf jb;

	c->catch = &jb;
	f->exit = X_NONE;
	switch (_setjmp(jb)) {
	case 0: paging_walk(f->cpu, la, how, tlb_cur_role(f->cpu), out); return X_NONE;
	case ISA_THROW_FAULT:
		f->ev = (struct isa_event){.vector = c->fault.vector,
					   .error = c->fault.error,
					   .payload = c->fault.payload};
		return X_EXCEPTION;
	default: return f->exit;
	}
}

static void *kicker(void *arg)
{
	struct fake *f = arg;

	usleep(20000);
	sil_cpu_kick(f->cpu);
	return NULL;
}

pthread_t fake_kick_soon(struct fake *f)
{
	pthread_t t;

	if (pthread_create(&t, NULL, kicker, f))
		abort();
	return t;
}
