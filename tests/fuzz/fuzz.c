// SPDX-License-Identifier: MIT
#include "fuzz.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "spec/msr.h"

#define LOW	   0x50000ul /* what guest_init writes is below; the rest of memory only gets data */
#define READONLY   0x60000ul /* a page that the guest may only read */
#define MISSING	   0x61000ul /* one that is not there */
#define TICK_MS	   1
#define HANG_TICKS (20000 / TICK_MS)
#define ROOT_PAGES 8 /* of the page tables: guest_init's first */

const char *const fuzz_mode_name[FUZZ_NMODES] = {"64", "compat", "32", "16", "real", "v86"};
u64 fuzz_seed;

/* ---- Choices ---- */

u64 fuzz_rnd(void)
{
	fuzz_seed ^= fuzz_seed << 13;
	fuzz_seed ^= fuzz_seed >> 7;
	fuzz_seed ^= fuzz_seed << 17;
	return fuzz_seed * 0x2545f4914f6cdd1dull;
}

u64 fuzz_below(u64 n)
{
	return (fuzz_rnd() >> 8) % n;
}

u64 fuzz_number(void)
{
	switch (fuzz_below(8)) {
	case 0: return fuzz_below(8);
	case 1: return 0 - fuzz_below(8);
	case 2: return BIT(fuzz_below(64)) - fuzz_below(3) + 1;
	case 3: return 0x8000 + fuzz_below(0x8000);
	case 4: return READONLY - 32 + fuzz_below(0x2000);
	case 5: return GUEST_MEM - fuzz_below(64);
	case 6: return fuzz_rnd() & 0xffffffff;
	}
	return fuzz_rnd();
}

static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65};

unsigned fuzz_insn(u8 *p, enum fuzz_mode mode)
{
	unsigned n = 0, map;

	if (!fuzz_below(8)) {
		for (; n < 15; n++)
			p[n] = (u8)fuzz_rnd();
		return n;
	}
	while (n < 4 && !fuzz_below(3))
		p[n++] = prefixes[fuzz_below(ARRAY_SIZE(prefixes))];
	if (!fuzz_below(5)) { /* VEX */
		if (fuzz_below(2)) {
			p[n++] = 0xc5;
		} else {
			p[n++] = 0xc4;
			p[n++] = (u8)((fuzz_rnd() & 0xe0) | (1 + fuzz_below(3)));
		}
		p[n++] = (u8)(fuzz_below(2) ? fuzz_rnd() : fuzz_rnd() | 0x78);
	} else {
		if ((mode == FUZZ_64) && fuzz_below(2))
			p[n++] = (u8)(0x40 | fuzz_below(16));
		map = (unsigned)fuzz_below(6);
		if (map >= 2)
			p[n++] = 0x0f;
		if (map >= 4)
			p[n++] = map == 4 ? 0x38 : 0x3a;
	}
	p[n++] = (u8)fuzz_rnd();
	p[n++] = (u8)fuzz_rnd(); /* ModRM */
	for (unsigned k = 0; k < 6; k++)
		p[n++] = (u8)(fuzz_below(2) ? fuzz_rnd() : fuzz_below(4));
	return n;
}

/* ---- The guest ---- */

static void seg(struct guest *g, unsigned n, u16 sel, u32 ar, u32 limit, u64 base)
{
	vmw(g, GUEST_ES_SELECTOR + n * 2, sel);
	vmw(g, GUEST_ES_AR_BYTES + n * 2, ar);
	vmw(g, GUEST_ES_LIMIT + n * 2, limit);
	vmw(g, GUEST_ES_BASE + n * 2, base);
}

static void set_mode(struct guest *g, enum fuzz_mode mode)
{
	switch (mode) {
	case FUZZ_64: break;
	case FUZZ_COMPAT: seg(g, CS, SEL_CODE32, 0xc09b, ~0u, 0); break;
	case FUZZ_32: guest_32(g); break;
	case FUZZ_16:
		guest_32(g);
		seg(g, CS, SEL_CODE32, 0x009b, 0xffff, CODE);
		seg(g, SS, SEL_DATA, 0x0093, 0xffff, 0);
		vmw(g, GUEST_RIP, 0);
		vmw(g, GUEST_RSP, 0x7000);
		break;
	case FUZZ_REAL: guest_real(g); break;
	case FUZZ_V86:
		guest_32(g);
		for (unsigned i = 0; i < 6; i++)
			seg(g, i, 0, 0xf3, 0xffff, 0);
		seg(g, CS, CODE >> 4, 0xf3, 0xffff, CODE);
		vmw(g, GUEST_RIP, 0);
		vmw(g, GUEST_RSP, 0x7000);
		break;
	case FUZZ_NMODES: break;
	}
}

void fuzz_init(struct fuzz *f, enum sil_engine engine)
{
	struct guest *g = &f->g;

	*f = (struct fuzz){0};
	guest_init_engine(g, engine);
	for (u64 i = LOW; i < GUEST_MEM; i += 8)
		*(u64 *)(g->mem + i) = fuzz_number();
	g->ept_pt[READONLY / PAGE_SIZE] &= ~2ull;
	g->ept_pt[MISSING / PAGE_SIZE] = 0;
	for (unsigned m = 0; m < FUZZ_NMODES; m++) {
		f->image[m] = malloc(LOW);
		f->vmcs[m] = malloc(PAGE_SIZE);
		if (m) {
			memcpy(g->vmcs, f->vmcs[0], PAGE_SIZE);
			memcpy(g->mem, f->image[0], LOW);
			assert_int_equal(sil_vmptrld(g->cpu, g->vmcs), SIL_VMX_OK);
		}
		set_mode(g, m);
		vmw(g, GUEST_CR4, vmr(g, GUEST_CR4) | CR4_OSXSAVE);
		vmw(g, GUEST_RFLAGS, m == FUZZ_V86 ? 0x23002 : 2);
		sil_vmclear(g->cpu, g->vmcs);
		memcpy(f->vmcs[m], g->vmcs, PAGE_SIZE);
		memcpy(f->image[m], g->mem, LOW);
	}
	f->page = malloc(PAGE_SIZE);
	memcpy(f->page, g->mem + READONLY, PAGE_SIZE);
	f->tables = malloc(ROOT_PAGES * PAGE_SIZE);
	memcpy(f->tables, g->pages, ROOT_PAGES * PAGE_SIZE);
}

void fuzz_fini(struct fuzz *f)
{
	for (unsigned m = 0; m < FUZZ_NMODES; m++) {
		free(f->image[m]);
		free(f->vmcs[m]);
	}
	free(f->page);
	free(f->tables);
	guest_fini(&f->g);
}

void fuzz_reset(struct fuzz *f, enum fuzz_mode mode)
{
	struct guest *g = &f->g;
	struct isa_regs *r = g->r;

	sil_vmclear(g->cpu, g->vmcs);
	memcpy(g->vmcs, f->vmcs[mode], PAGE_SIZE);
	memcpy(g->mem, f->image[mode], LOW);
	sil_memory_written(g->m, (hva_t)g->mem, GUEST_MEM);
	assert_int_equal(sil_vmptrld(g->cpu, g->vmcs), SIL_VMX_OK);
	sil_invept(g->cpu, 2, 0);
	sil_invvpid(g->cpu, 2, 0, 0);
	sil_cpu_unkick(g->cpu);

	for (unsigned i = 0; i < 16; i++)
		if (i != RSP)
			r->gpr[i] = fuzz_number();
	r->cr2 = fuzz_number();
	for (unsigned i = 0; i < 4; i++)
		r->dr[i] = fuzz_below(4) ? 0 : fuzz_number();
	r->dr6 = 0xffff0ff0;
	r->xcr0 = fuzz_below(4) ? 7 : 1 | (fuzz_below(4) * 2 & 2);
	r->xss = 0;
	r->star = (u64)SEL_CODE64 << 32;
	r->lstar = r->cstar = HANDLERS;
	r->kernel_gs_base = fuzz_below(GUEST_MEM);
	r->pkru = (u32)(fuzz_below(4) ? 0 : fuzz_rnd());
	for (unsigned i = 0; i < 16; i++)
		for (unsigned k = 0; k < 4; k++)
			r->vec[i].q[k] = fuzz_number();
}

/* ---- Running, with a kick now and then, and an end if one is not heeded ---- */

static struct sil_cpu *volatile running;
static volatile unsigned ticks;

static void on_tick(int sig)
{
	struct sil_cpu *cpu = running;

	(void)sig;
	if (!cpu)
		return;
	sil_cpu_kick(cpu);
	if (++ticks > HANG_TICKS) {
		static const char msg[] = "fuzz: an entry does not come back\n";

		(void)!write(STDERR_FILENO, msg, sizeof(msg) - 1);
		abort();
	}
}

void fuzz_run(struct fuzz *f, unsigned max)
{
	struct guest *g = &f->g;

	for (unsigned n = 0; n < max; n++) {
		enum sil_vmx r;
		u32 reason;
		u64 rip;

		ticks = 0;
		running = g->cpu;
		r = n ? sil_vmresume(g->cpu) : sil_vmlaunch(g->cpu);
		running = NULL;
		if (r != SIL_VMX_OK) {
			f->refused++;
			assert_non_null(sil_last_failure(g->cpu));
			return;
		}
		f->exits++;
		reason = (u32)vmr(g, VM_EXIT_REASON);
		if (reason & VMX_EXIT_REASON_FAILED_VMENTRY) {
			f->refused++;
			return;
		}
		switch (reason & 0xffff) {
		case EXIT_REASON_EXTERNAL_INTERRUPT: f->kicks++; return;
		case EXIT_REASON_TRIPLE_FAULT:
		case EXIT_REASON_HLT:
		case EXIT_REASON_VMCALL:
		case EXIT_REASON_EPT_MISCONFIG:
		case EXIT_REASON_EXCEPTION_NMI:
		case EXIT_REASON_TASK_SWITCH:
		case EXIT_REASON_EPT_VIOLATION: return;
		default: break;
		}
		/* What an instruction asked of its hypervisor: it is skipped. */
		rip = vmr(g, GUEST_RIP) + vmr(g, VM_EXIT_INSTRUCTION_LEN);
		sil_vmwrite(g->cpu, GUEST_RIP, rip);
		sil_vmwrite(g->cpu, GUEST_INTERRUPTIBILITY_INFO, 0);
	}
}

void fuzz_check(struct fuzz *f)
{
	struct guest *g = &f->g;

	assert_memory_equal(f->page, g->mem + READONLY, PAGE_SIZE);
	for (unsigned i = 0; i < ROOT_PAGES; i++)
		if (g->pages + i * PAGE_SIZE != g->vmcs)
			assert_memory_equal(f->tables + i * PAGE_SIZE, g->pages + i * PAGE_SIZE,
					    PAGE_SIZE);
}

int fuzz_main(int argc, char **argv, void (*one)(struct fuzz *f))
{
	static const char *const names[] = {"auto", "interp", "jit"};
	struct itimerval it = {{0, TICK_MS * 1000}, {0, TICK_MS * 1000}};
	enum sil_engine engine = SIL_ENGINE_INTERP;
	u64 seconds = 5, cases = ~0ull, seed = (u64)time(NULL), first;
	struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	time_t start = time(NULL);
	struct fuzz f;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seconds"))
			seconds = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0), cases = MIN(cases, 1ull);
		else if (!strcmp(argv[i], "--cases"))
			cases = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--engine"))
			for (unsigned e = 0; e < ARRAY_SIZE(names); e++)
				if (!strcmp(argv[i + 1], names[e]))
					engine = e;
	}
	fuzz_seed = 1;
	fuzz_init(&f, engine);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	/* Every case has a seed of its own, so that one alone can be run again. */
	for (first = seed; f.cases < cases && (u64)(time(NULL) - start) < seconds; f.cases++) {
		seed = first + f.cases;
		fuzz_seed = (seed + 1) * 0x9e3779b97f4a7c15ull;
		if (!fuzz_seed)
			fuzz_seed = 1;
		if (getenv("FUZZ_VERBOSE"))
			fprintf(stderr, "%s --seed %llu\n", argv[0], (unsigned long long)seed);
		one(&f);
		fuzz_check(&f);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	printf("%llu cases from seed %llu, %llu exits, %llu refused, %llu kicked\n",
	       (unsigned long long)f.cases, (unsigned long long)first, (unsigned long long)f.exits,
	       (unsigned long long)f.refused, (unsigned long long)f.kicks);
	fuzz_fini(&f);
	return f.cases ? 0 : 1;
}
