/* SPDX-License-Identifier: MIT */
/*
 * Code on this CPU: a signal handler replaces the whole interrupted context by the test's, for one
 * instruction with TF set; the trap (or fault) that follows brings the state back.
 */
#include <cpuid.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "insn_test.h"

#define USER_CS64 0x33
#define USER_CS32 0x23
#define USER_DS	  0x2b
#define UD2_LEN	  2

static enum isa_mode mode;
static bool step, repeats;
static const struct tstate *start;
static struct tstate *result;
static volatile enum { IDLE, ENTER, RUN } phase;
static gregset_t saved_gregs;
static u8 saved_fp[8192];
static size_t fp_size;
static bool has_32;
struct host_state host_state;

static void read_selectors(u16 sel[6])
{
	__asm__ volatile("mov %%es, %0\n\tmov %%cs, %1\n\tmov %%ss, %2\n\tmov %%ds, %3\n\t"
			 "mov %%fs, %4\n\tmov %%gs, %5"
			 : "=r"(sel[ES]), "=r"(sel[CS]), "=r"(sel[SS]), "=r"(sel[DS]),
			   "=r"(sel[FS]), "=r"(sel[GS]));
}

/* The thread pointer above all: nothing may be called before it is back. */
static void save_segments(struct tstate *to)
{
	read_selectors(to->sel);
	__asm__ volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(to->fs_base), "=r"(to->gs_base));
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(USER_DS));
	if (to->sel[FS] != host_state.sel[FS])
		__asm__ volatile("mov %0, %%fs" ::"r"(host_state.sel[FS]));
	if (to->sel[GS] != host_state.sel[GS])
		__asm__ volatile("mov %0, %%gs" ::"r"(host_state.sel[GS]));
	__asm__ volatile("wrfsbase %0\n\twrgsbase %1" ::"r"(host_state.fs_base),
			 "r"(host_state.gs_base));
}

static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				REG_R12, REG_R13, REG_R14, REG_R15};

static u64 csgsfs(u64 old, u16 cs)
{
	return (old & 0x0000ffffffff0000ull) | cs | (u64)USER_DS << 48;
}

static void load_state(ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
	u64 bv;
	unsigned k;

	for (k = 0; k < 16; k++)
		g[greg_of[k]] = (greg_t)start->gpr[k];
	g[REG_RIP] = (greg_t)start->rip;
	g[REG_EFL] = (greg_t)(start->rflags | (step ? X86_TF : 0));
	g[REG_CSGSFS] =
		(greg_t)csgsfs((u64)g[REG_CSGSFS], mode == ISA_LONG64 ? USER_CS64 : USER_CS32);
	memcpy(fp, &start->x87, 28);
	memcpy(fp + 32, start->x87.st, 128);
	for (k = 0; k < 16; k++) {
		memcpy(fp + 160 + 16 * k, start->vec[k], 16);
		memcpy(fp + 576 + 16 * k, start->vec[k] + 16, 16);
	}
	memcpy(&bv, fp + 512, 8);
	bv |= 7;
	memcpy(fp + 512, &bv, 8);
}

static void save_state(ucontext_t *uc, int sig)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
	u64 bv;
	unsigned k;

	for (k = 0; k < 16; k++)
		result->gpr[k] = (u64)g[greg_of[k]];
	result->rip = (u64)g[REG_RIP];
	result->rflags = (u64)g[REG_EFL];
	memcpy(&bv, fp + 512, 8);
	if (bv & 1) {
		memcpy(&result->x87, fp, 24);
		memcpy(result->x87.st, fp + 32, 128);
	} else {
		memset(&result->x87, 0, sizeof(result->x87));
		result->x87.fcw = 0x37f;
	}
	memcpy(&result->x87.mxcsr, fp + 24, 4);
	for (k = 0; k < 16; k++) {
		memset(result->vec[k], 0, 32);
		if (bv & 2)
			memcpy(result->vec[k], fp + 160 + 16 * k, 16);
		if (bv & 4)
			memcpy(result->vec[k] + 16, fp + 576 + 16 * k, 16);
	}
	result->sel[CS] = (u16)g[REG_CSGSFS];
	result->sel[SS] = (u16)((u64)g[REG_CSGSFS] >> 48);
	result->faulted = sig != SIGTRAP || g[REG_TRAPNO] != X86_DB;
	result->vector = (u8)g[REG_TRAPNO];
	result->error = (u32)g[REG_ERR];
	result->cr2 = (u64)g[REG_CR2];
}

static void handler(int sig, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	u8 *fp = (u8 *)uc->uc_mcontext.fpregs;

	switch (phase) {
	case ENTER:
		memcpy(saved_gregs, uc->uc_mcontext.gregs, sizeof(saved_gregs));
		if (!fp_size) {
			u32 size;

			/* struct _fpx_sw_bytes: magic1, extended_size, xfeatures, xstate_size */
			memcpy(&size, fp + 464 + 16, 4);
			fp_size = MIN(size, sizeof(saved_fp));
		}
		memcpy(saved_fp, fp, fp_size);
		load_state(uc);
		phase = RUN;
		return;
	case RUN:
		/* A repeated string instruction traps after each iteration. */
		if (repeats && sig == SIGTRAP && (u64)uc->uc_mcontext.gregs[REG_RIP] == start->rip)
			return;
		save_segments(result);
		save_state(uc, sig);
		memcpy(uc->uc_mcontext.gregs, saved_gregs, sizeof(saved_gregs));
		uc->uc_mcontext.gregs[REG_RIP] += UD2_LEN;
		memcpy(fp, saved_fp, fp_size);
		phase = IDLE;
		return;
	default:
		/* Not a test's fault: let it end the program where it happened. */
		signal(sig, SIG_DFL);
		return;
	}
}

static void enter(enum isa_mode m, bool one, const struct tstate *from, struct tstate *to)
{
	mode = m;
	step = one;
	start = from;
	result = to;
	memset(to, 0, sizeof(*to));
	phase = ENTER;
	__asm__ volatile("ud2" ::: "memory");
}

void native_run(const struct instance *in, const struct tstate *from, struct tstate *to)
{
	memcpy((void *)from->rip, in->bytes, in->zi.length);
	/* What follows a load of SS is stepped over together with it. */
	*(u8 *)(from->rip + in->zi.length) = 0x90;
	repeats = in->zi.attributes &
		  (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
	enter(in->mode, true, from, to);
}

void native_run_program(enum isa_mode m, const struct tstate *from, struct tstate *to)
{
	enter(m, false, from, to);
}

bool native_has_mode(enum isa_mode m)
{
	return m == ISA_LONG64 || (m == ISA_PROT32 && has_32);
}

static void read_features(void)
{
	u32 a, b, c, d;
	cpu_set_t one;

	/* TSC_AUX has the CPU's number. */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	__cpuid_count(7, 0, a, b, c, d);
	host_state.pke = c & BIT(4);
	if (host_state.pke)
		__asm__ volatile("rdpkru" : "=a"(host_state.pkru), "=d"(d) : "c"(0));
	if (c & BIT(22)) {
		u64 aux;

		__asm__ volatile("rdpid %0" : "=r"(aux));
		host_state.tsc_aux = (u32)aux;
	}
	__asm__ volatile("xgetbv" : "=a"(host_state.xcr0), "=d"(d) : "c"(0));
}

bool native_init(void)
{
	static const int sigs[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t ss = {.ss_size = 65536};
	struct tstate st = {.rip = CODE, .rflags = 2}, out;
	struct instance nop = {.bytes = {0x40}, .mode = ISA_PROT32, .zi = {.length = 1}};
	u8 *arena;
	unsigned k;

	arena = mmap((void *)ARENA, ARENA_SIZE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (arena != (void *)ARENA)
		return false;
	mprotect((void *)DATA, DATA_SIZE, PROT_READ | PROT_WRITE);
	mprotect((void *)CODE, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);

	ss.ss_sp = malloc(ss.ss_size);
	sigaltstack(&ss, NULL);
	sigfillset(&sa.sa_mask);
	for (k = 0; k < ARRAY_SIZE(sigs); k++)
		sigaction(sigs[k], &sa, NULL);
	/* 32-bit code wants real data segments; 64-bit code does not look at them. */
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(USER_DS));
	read_selectors(host_state.sel);
	__asm__ volatile("rdfsbase %0\n\trdgsbase %1"
			 : "=r"(host_state.fs_base), "=r"(host_state.gs_base));
	read_features();
	/* 40 is INC EAX in 32-bit code, a lone REX prefix in 64-bit code. */
	st.x87.fcw = 0x37f;
	st.x87.mxcsr = 0x1f80;
	st.gpr[RAX] = 5;
	native_run(&nop, &st, &out);
	has_32 = !out.faulted && out.gpr[RAX] == 6 && out.rip == CODE + 1;
	return true;
}
