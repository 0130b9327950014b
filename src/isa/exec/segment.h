/* SPDX-License-Identifier: MIT */
/* Descriptors and segment registers. SDM vol. 3A, 3.4-3.5 and chapter 5. For exec/ *.c, and for
 * what translated code does in their place (silicon/jit/lean.c). */
#ifndef ISA_EXEC_SEGMENT_H
#define ISA_EXEC_SEGMENT_H

#include "isa/exec/operand.h"

struct desc {
	u64 raw;  /* the first eight bytes */
	u64 la;	  /* where they are */
	u32 high; /* base 63..32 of system descriptors in IA-32e mode */
};

/* System descriptor types (SDM vol. 3A, table 3-2) */
enum {
	DT_TSS16 = 1,
	DT_LDT = 2,
	DT_TSS16_BUSY = 3,
	DT_CALL16 = 4,
	DT_TASK_GATE = 5,
	DT_INT16 = 6,
	DT_TRAP16 = 7,
	DT_TSS = 9,
	DT_TSS_BUSY = 11,
	DT_CALL = 12,
	DT_INT = 14,
	DT_TRAP = 15,
};

static inline unsigned desc_type(const struct desc *d)
{
	return d->raw >> 40 & 15;
}
static inline unsigned desc_dpl(const struct desc *d)
{
	return d->raw >> 45 & 3;
}
static inline bool desc_s(const struct desc *d)
{
	return d->raw >> 44 & 1;
}
static inline bool desc_p(const struct desc *d)
{
	return d->raw >> 47 & 1;
}
static inline bool desc_l(const struct desc *d)
{
	return d->raw >> 53 & 1;
}
static inline bool desc_db(const struct desc *d)
{
	return d->raw >> 54 & 1;
}
static inline bool desc_code(const struct desc *d)
{
	return desc_s(d) && (desc_type(d) & 8);
}
static inline bool desc_conforming(const struct desc *d)
{
	return desc_type(d) & 4;
}
static inline bool desc_writable(const struct desc *d)
{
	return desc_s(d) && !(desc_type(d) & 8) && (desc_type(d) & 2);
}
/* Call gates: selector, offset, number of parameters. */
static inline u16 gate_sel(const struct desc *d)
{
	return (u16)(d->raw >> 16);
}
static inline u32 gate_off32(const struct desc *d)
{
	return (u32)((d->raw & 0xffff) | (d->raw >> 32 & 0xffff0000));
}

static inline bool sel_null(u16 sel)
{
	return !(sel & ~3);
}
/* A selector as an error code (SDM vol. 3A, 6.13). */
static inline u32 sel_err(u16 sel)
{
	return sel & ~3u;
}

/* Supervisor access to descriptor tables and TSSs at any CPL. */
void sys_read(struct isa_cpu *c, u64 la, void *dst, unsigned size);
void sys_write(struct isa_cpu *c, u64 la, const void *src, unsigned size);
/* Sets (and clears) bits of the second doubleword of a descriptor, atomically. */
void desc_update(struct isa_cpu *c, const struct desc *d, u32 clear, u32 set);

/* False if @sel is outside its table. Reads 8 bytes; does not look at null. */
bool desc_fetch(struct isa_cpu *c, u16 sel, struct desc *d);
/* As above, and raises @vector(sel) if outside. */
void desc_get(struct isa_cpu *c, u16 sel, struct desc *d, unsigned vector, u32 ext);
/* Reads the second half of a 16-byte system descriptor; its type field must be 0: #GP(sel). */
void desc_get_high(struct isa_cpu *c, u16 sel, struct desc *d, u32 ext);
/* The register's content for a descriptor; accessed bit included as read. */
static inline struct isa_seg desc_seg(const struct desc *d, u16 sel)
{
	u64 raw = d->raw;
	u32 limit = (u32)((raw & 0xffff) | (raw >> 32 & 0xf0000));

	if (raw >> 55 & 1)
		limit = limit << 12 | 0xfff;
	return (struct isa_seg){
		.sel = sel,
		.ar = (u32)(raw >> 40) & 0xf0ff,
		.limit = limit,
		.base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000) | (u64)d->high << 32,
	};
}
/* Sets the accessed bit in memory if it is clear, and in @d. */
void desc_accessed(struct isa_cpu *c, struct desc *d);

/* Real and virtual-8086 mode: base from selector. */
void seg_load_real(struct isa_cpu *c, unsigned seg, u16 sel);
/* MOV, POP, LDS...: every check of the mode. ES SS DS FS GS. */
void seg_load(struct isa_cpu *c, unsigned seg, u16 sel);
/* In a task switch: the faults are #TS. DS ES FS GS SS in the new task's context. */
void seg_load_task(struct isa_cpu *c, unsigned seg, u16 sel);
/* Checks only: what seg_load would put into SS at privilege @cpl, faults with @vector. */
struct isa_seg stack_seg(struct isa_cpu *c, u16 sel, unsigned cpl, unsigned vector, u32 ext);
/* An unusable SS of privilege @cpl, as 64-bit mode's null SS is. */
static inline struct isa_seg null_stack_seg(u16 sel, unsigned cpl)
{
	return (struct isa_seg){.sel = sel, .ar = SEG_AR_UNUSABLE | SEG_AR_DB | cpl << 5};
}
/* Flat segments that SYSCALL and the like load without looking at the descriptor tables. */
static inline struct isa_seg flat_code_seg(u16 sel, unsigned cpl, bool l)
{
	return (struct isa_seg){
		.sel = sel,
		.limit = 0xffffffff,
		.ar = 0x9b | cpl << 5 | (u32)SEG_AR_G | (u32)(l ? SEG_AR_L : SEG_AR_DB),
	};
}

static inline struct isa_seg flat_stack_seg(u16 sel, unsigned cpl)
{
	return (struct isa_seg){
		.sel = sel,
		.limit = 0xffffffff,
		.ar = 0x93 | cpl << 5 | (u32)SEG_AR_G | (u32)SEG_AR_DB,
	};
}
#define SYSRET_FLAGS 0x3c7fd7ull /* of R11 */
/* After an outward return: data segments that the new CPL may not use become null (SDM vol. 2,
 * RET). */
void seg_drop_privileged(struct isa_cpu *c);
/* flat and sp_mask again, after a change of a data or stack segment at the same privilege. */
void seg_changed(struct isa_cpu *c);

/* CS for a transfer to @sel with descriptor @d at privilege @cpl. Sets the accessed bit. */
struct isa_seg code_seg(struct isa_cpu *c, struct desc *d, u16 sel, unsigned cpl);
/*
 * Raises #GP(0) unless @rip may be executed in @cs (limit, or canonical in 64-bit code).
 */
void check_code_rip(struct isa_cpu *c, const struct isa_seg *cs, u64 rip);

/* Stack for privilege @cpl from the current TSS: #TS faults. Outside IA-32e mode also *@ss. */
void tss_stack(struct isa_cpu *c, unsigned cpl, u16 *ss, u64 *sp, u32 ext);

/*
 * A stack being built before it is committed: pushes go down from @sp in a segment that is not
 * loaded yet. @how is how it is written (ISA_ACC_SYS when the privilege is to change inward).
 */
struct new_stack {
	struct isa_seg ss;
	u64 sp, mask;
	unsigned size; /* of a push */
	unsigned how;
	bool long_mode;
	unsigned vector; /* limit faults: #SS */
	u32 error;
};
/* The stack in use; the stack for privilege @cpl from the TSS. @size of a push. */
struct new_stack stack_current(const struct isa_cpu *c, unsigned size);
struct new_stack stack_inner(struct isa_cpu *c, unsigned cpl, unsigned size, u32 ext);
/* Writes v[0..n-1], v[0] at the highest address; at most 10. Checks all before it writes. */
void stack_push(struct isa_cpu *c, const struct new_stack *st, const u64 *v, unsigned n);
/* Loads SS and RSP as they are after @n pushes. */
void stack_commit(struct isa_cpu *c, const struct new_stack *st, unsigned n);

/*
 * RET and IRET to @sel:@rip in protected mode, once these have been read from the stack: @used
 * bytes of it, then @args bytes to release, then, when the privilege goes outward or @always_ss
 * (IRET in 64-bit mode), SP and SS of @size bytes. Commits CS, RIP, SS, RSP; the flags are the
 * caller's.
 */
void far_return(struct isa_cpu *c, u16 sel, u64 rip, unsigned used, unsigned args, unsigned size,
		bool always_ss);

/* isa_task_switch with the return address to save, and EXT for error codes. */
void task_switch(struct isa_cpu *c, u16 sel, enum isa_task_source src, bool has_error, u32 error,
		 u64 return_rip, u32 ext);

#endif
