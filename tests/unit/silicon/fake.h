/* SPDX-License-Identifier: MIT */
/*
 * A minimal virtualization extension around the engine, for tests: guest memory at guest-physical
 * 0, tables made by a builder of its own, every exit recorded.
 */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include <pthread.h>

#include "silicon/cpu/machine.h"
#include "silicon/paging/paging.h"

enum fake_exit {
	X_NONE,
	X_HLT,
	X_VMCALL,
	X_EXCEPTION,
	X_TRIPLE,
	X_VIOLATION,
	X_MISCONFIG,
	X_KICK,
	X_APIC,
	X_MTF,
	X_PML,
	X_PORT,
	X_INTERCEPT
};

struct fake {
	struct sil_machine *m;
	struct sil_cpu *cpu;
	u8 *mem; /* guest-physical 0 */
	u64 size;
	u64 table_top; /* guest-physical, where the builder takes pages from, downwards */
	u8 *ept_pool;
	u64 ept_used;
	/* what to intercept */
	u32 exc_bitmap;
	bool icpt_hlt;
	u64 icpt;      /* of the others, a bit for each enum isa_icpt */
	bool icpt_cr3; /* MOV to CR3 */
	bool ask;      /* translated code is not told what is not intercepted */
	/* the exit */
	enum fake_exit exit;
	struct isa_event ev;
	gpa_t gpa;
	u64 la, qual;
	u64 arg; /* X_INTERCEPT */
	struct sil_access acc;
};

/* Engine of the machines made from now on; first the value of KVMLESS_TEST_ENGINE (interp, jit). */
extern enum sil_engine fake_engine;

#define FAKE_MEM (16ull << 20)
void fake_init(struct fake *f);
void fake_fini(struct fake *f);
/* Another cpu of the same machine and memory. */
void fake_init_cpu(struct fake *f, const struct fake *first);
void fake_fini_cpu(struct fake *f);
static inline struct fake *fake_of(struct sil_cpu *cpu)
{
	return cpu->vendor;
}

/* Nested tables: @levels 4 or 5. Entry of @gpa at @level is set to @val; tables above are made with
 * @above. */
void fake_ept(struct fake *f, unsigned levels, bool ad);
u64 *fake_ept_entry(struct fake *f, u64 gpa, unsigned level);
void fake_ept_map(struct fake *f, u64 gpa, u64 hpa, unsigned level, u64 bits);

/* Guest tables, 8- or 4-byte entries: sets the leaf of @la at @level (1 = 4K) to @leaf, makes the
 * tables above with @above bits, and returns the entry's guest-physical address. cr3 must be set.
 */
u64 fake_map(struct fake *f, enum pg_format fmt, u64 la, unsigned level, u64 leaf, u64 above);
u64 fake_page(struct fake *f); /* guest-physical address of a zeroed page for a table */
u64 fake_get(struct fake *f, u64 gpa);
void fake_set(struct fake *f, u64 gpa, u64 val);

/* Registers for flat 64-bit, 32-bit and real mode. cr3 stays. */
void fake_mode64(struct fake *f, unsigned cpl);
void fake_mode32(struct fake *f, unsigned cpl, bool paging, bool pae);
void fake_real(struct fake *f);
/* With EPT and guest tables that map all memory to itself, in 64-bit mode at CPL 0. */
void fake_identity(struct fake *f);
/* IDT at 0x20000 with interrupt gates to 0x21000 + 16 * vector, where there is an HLT; GDT at
 * 0x22000. */
void fake_idt(struct fake *f);
/* Code at guest-physical and linear @at, where RIP then is. */
void fake_load(struct fake *f, const u8 *code, size_t n, u64 at);
#define SNIPPET(name, text)                                                                   \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n"); \
	extern const u8 name[], name##_end[]
enum fake_exit fake_run(struct fake *f);
/* A thread that kicks the cpu in 20 ms and ends. */
pthread_t fake_kick_soon(struct fake *f);
/* Walks; returns 0 with *@out, or the exit / X_EXCEPTION with f->ev of a #PF. */
enum fake_exit fake_walk(struct fake *f, u64 la, unsigned how, struct walk_out *out);

#endif
