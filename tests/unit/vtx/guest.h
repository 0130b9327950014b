/* SPDX-License-Identifier: MIT */
/*
 * A guest of 2 MiB under EPT, driven through silicon's door alone, for tests of VT-x. Every
 * interrupt vector has a handler that does VMCALL, so that RIP tells which vector arrived.
 */
#ifndef TESTS_VTX_GUEST_H
#define TESTS_VTX_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "silicon/silicon.h"
#include "spec/check.h"
#include "spec/vmcs.h"
#include "spec/vmx.h"

#define GUEST_MEM  0x200000ul
#define GDT	   0x1000ul
#define IDT	   0x2000ul
#define TSS	   0x3000ul
#define PML4	   0x4000ul
#define DATA	   0x8000ul /* free for blobs */
#define CODE	   0x10000ul
#define HANDLERS   0x20000ul
#define HANDLER(v) (HANDLERS + (v)*16ul)
#define STACK	   0x40000ul
#define SEL_CODE64 0x08
#define SEL_DATA   0x10
#define SEL_CODE32 0x18
#define SEL_TSS	   0x20 /* 16 bytes in IA-32e mode */
#define SEL_TSS2   0x30

/* Code of a guest, written in the test's own source. */
#define BLOB(name, text)                                                                         \
	extern const u8 blob_##name[], blob_##name##_end[];                                      \
	asm(".pushsection .rodata\n.globl blob_" #name ", blob_" #name "_end\nblob_" #name ":\n" \
	    ".intel_syntax noprefix\n" text "\n.att_syntax prefix\n.code64\nblob_" #name         \
	    "_end:\n.popsection\n")

struct guest {
	struct sil_machine *m;
	struct sil_cpu *cpu;
	struct isa_regs *r;
	u8 *mem;
	u64 *ept_pt; /* leaf entries of the guest's memory */
	u64 *ept_root;
	u8 *pages; /* 4 KiB pages of the root side */
	unsigned npages;
	u64 eptp;
	void *vmcs;
	u64 tsc; /* each reading adds tsc_step */
	u64 tsc_step;
	bool tsc_native; /* but this is the host's counter */
	bool fire_timer; /* arm_timer: the time has come at once */
	u64 armed;
};

/* A 64-bit guest at CPL 0 about to execute CODE, every optional control off but EPT and VPID. */
void guest_init(struct guest *g);
void guest_init_engine(struct guest *g, enum sil_engine engine);
/* The time stamp counter is the host's own. */
void guest_init_native_tsc(struct guest *g);
void guest_fini(struct guest *g);
void *guest_page(struct guest *g); /* zeroed */
void guest_code(struct guest *g, const u8 *start, const u8 *end);
#define GUEST_CODE(g, name) guest_code(g, blob_##name, blob_##name##_end)
/* Flat 32-bit protected mode without paging, same memory. */
void guest_32(struct guest *g);
/* Real mode (unrestricted guest), CS base CODE, IP 0. */
void guest_real(struct guest *g);
/* Fields. Failure of the access fails the test. */
u64 vmr(struct guest *g, u32 field);
void vmw(struct guest *g, u32 field, u64 val);
void vm_or(struct guest *g, u32 field, u64 bits);
void vm_clear(struct guest *g, u32 field, u64 bits);
/* Turns secondary controls on, and with them their activation. */
void vm_cpu2(struct guest *g, u64 bits);
/* VMLAUNCH or VMRESUME as is due; returns the exit reason. */
u32 guest_run(struct guest *g);
void guest_inject(struct guest *g, unsigned type, unsigned vector);

/* Interruption information: valid, of @type; with an error code. */
#define INFO(type, vector)     (0x80000000ull | (type) << 8 | (vector))
#define INFO_ERR(type, vector) (INFO(type, vector) | 1 << 11)

/* cmocka's: *@state is a struct guest. */
int guest_setup(void **state);
int guest_teardown(void **state);
/* Runs until VMCALL; returns its RIP. */
u64 run_to_vmcall(struct guest *g);

#endif
