/* SPDX-License-Identifier: MIT */
/* The emulator's state; what the files of core/emulate share. */
#ifndef CORE_EMULATE_EMULATE_IMPL_H
#define CORE_EMULATE_EMULATE_IMPL_H

#include "core/emulate/emulate.h"
#include "core/memslot.h"
#include "core/mmu/mmu.h"
#include "core/vcpu.h"
#include "isa/isa.h"

#define MMIO_PIECE 8u	/* bytes in one exit to user space */
#define MMIO_MAX   128u /* pieces of one instruction: more than any but XSAVE needs */
#define PIO_PAGE   4096u
/* How much one REP instruction does before events are looked at again. */
#define REP_BUDGET 1024u

struct mmio_piece {
	gpa_t gpa;
	u8 len;
	u8 data[MMIO_PIECE];
};

enum emul_wait { EMUL_IDLE, EMUL_MMIO_READ, EMUL_MMIO_WRITE, EMUL_PIO_IN };

struct emulator {
	struct isa_cpu c; /* first: ops find the rest by it */
	struct kvm_vcpu *v;
	struct isa_insn insn;
	u8 bytes[15];
	u8 nbytes;
	jmp_buf catch;
	unsigned flags; /* EMUL_* of this run */
	int error;	/* -errno that ended the run (ISA_THROW_EXIT) */
	bool unhandled; /* ended it: this instruction is not for us to emulate */
	u32 budget;

	/* The state before, to write back only what changed. */
	struct isa_sys before;
	u64 gpr_before[16];

	/* MMIO reads that have been answered, in order: executing again finds them here. */
	struct mmio_piece read[MMIO_MAX];
	u32 nread, pos;
	/* Writes for user space, and the next to go. */
	struct mmio_piece write[MMIO_MAX];
	u32 nwrite, sent;

	/* Port input that has been answered; REP INS asks for many elements at once. */
	struct {
		u16 port;
		u8 size;
		u32 n, pos; /* bytes */
		u8 data[REP_BUDGET];
	} in;
	/* Port output for user space: elements of one REP OUTS go together. */
	struct {
		u16 port;
		u8 size;
		u32 n; /* bytes */
		u8 data[PIO_PAGE];
	} out;

	enum emul_wait wait;
	u64 linear_rip; /* where it was when user space was asked */
	bool halt;	/* HLT was executed */
	/* The fault thrown is the guest hypervisor's, not the guest's. */
	bool has_nested;
	struct guest_fault nested;

	/* A read-modify-write in place: written back to logs when it is done. */
	bool rmw;
	unsigned rmw_idx;
	gpa_t rmw_gpa;
	hva_t rmw_hva;
	u8 rmw_size;
};

static inline struct emulator *emul_of(struct isa_cpu *c)
{
	return container_of(c, struct emulator, c);
}

/* state.c */
void emul_load(struct emulator *e);	   /* vCPU -> c */
void emul_load_system(struct emulator *e); /* what only system instructions look at */
void emul_load_vector(struct emulator *e);
void emul_store(struct emulator *e, bool vector); /* c -> vCPU: what changed, RIP excepted */
void emul_reload_cr(struct emulator *e);

/* mem.c */
void emul_mem_read(struct isa_cpu *c, u64 la, void *dst, unsigned size, unsigned how);
void emul_mem_write(struct isa_cpu *c, u64 la, const void *src, unsigned size, unsigned how);
void *emul_mem_rmw(struct isa_cpu *c, u64 la, unsigned size, unsigned how);
void emul_rmw_done(struct emulator *e);
/* Instruction bytes at RIP. 0; 1: fault in c->fault; -EFAULT. */
int emul_fetch(struct emulator *e, unsigned want);
void emul_used(struct emulator *e); /* counts towards the budget */
__noreturn void emul_abort(struct emulator *e, int error);

/* pio.c */
void emul_port_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la);
void emul_port_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la);
/* KVM_EXIT_IO for what is in e->out. Returns 0. */
int emul_exit_out(struct emulator *e);
int emul_exit_in(struct emulator *e);
/* The answer to it is there. */
void emul_pio_in_answer(struct emulator *e);

/* system.c */
extern const struct isa_ops emul_ops;

#endif
