/* SPDX-License-Identifier: MIT */
/* The hostile guest hypervisor of fuzz_nested.c: its memory and its programs. */
#ifndef TESTS_FUZZ_NESTED_H
#define TESTS_FUZZ_NESTED_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "isa/isa.h"
#include "kvmapi/kvmless.h"
#include "spec/abi/kvm.h"
#include "spec/vmcs12.h"
#include "spec/vmx.h"

#define MEM   (8ul << 20)
#define NCPUS 2
/* Pages of the guest, one to one. */
#define L1_TABLES   0x2000ul
#define L1_CODE	    0x10000ul
#define L1_STACK    0x18000ul
#define VMXON	    0x20000ul
#define MSRBITMAP   0x25000ul
#define VAPIC	    0x2b000ul
#define STRUCTURES  0x22000ul /* what vmcs12 points to: each page is a slot of its own */
#define STRUCT_END  0x30000ul
#define EPT_ROOT    0x40000ul /* and the levels below, to 0x44fff */
#define READ_ONLY   0x4a000ul /* a read-only slot of one page, with nothing around it */
#define L2_TABLES   0x50000ul
#define L2_CODE	    0x60000ul
#define L2_STACK    0x68000ul
#define REGION(cpu) (0x70000ul + 0x1000ul * (cpu))
/* With Hyper-V's interface, each in a slot of its own: enlightened VMCS, VP assist page. */
#define HV_VMCS(cpu) (0x74000ul + 0x1000ul * (cpu))
#define ASSIST(cpu)  (0x76000ul + 0x1000ul * (cpu))
/* What L1's program reads, for each processor: counts, lists, flags. */
#define BOX(cpu) (0x78000ul + 0x1000ul * (cpu))

struct box {
	u64 vmcs, vmxon;
	u64 nwrites, nreads, resume, again;
	u64 inv_type, inv_desc[2];
	struct {
		u64 field, val;
	} write[16];
	u64 read[16];
	u64 nstores;
	struct {
		u64 at, val;
	} store[8];
};

extern int fuzz_vm;	/* the VM's descriptor */
extern bool fuzz_hv;	/* L1 has Hyper-V's interface */
extern u64 fuzz_ctl[5]; /* what may be 1 */
extern u64 fuzz_first_seed;
extern __thread u64 fuzz_seed;

u64 rnd(void);
u64 below(u64 n);
/* A value that somebody may have got wrong: addresses of structures and of where memory ends, ...
 */
u64 number(void);
void __attribute__((noreturn)) fail(const char *what);

#define DO(fd, req, arg)                                              \
	do {                                                          \
		if (kvmless_ioctl(fd, req, (unsigned long)(arg)) < 0) \
			fail(#req);                                   \
	} while (0)

/* ---- Memory (nested_mem.c) ---- */
void mem_init(void);
/* Its slots, for a new VM. */
void mem_add_slots(void);
/* Host memory of a guest-physical address; one page, whose neighbours are elsewhere. */
u64 *at(u64 gpa);
/* Around writes to structures, which may be taken away otherwise. */
void mem_lock(void);
void mem_unlock(void);
/* Takes the memory of a structure from the guest while it runs, and gives it back. */
void mem_take_away(u64 gpa);

/* ---- Programs and vmcs12 (nested_l1.c) ---- */
/* Everything anew, for the next entry of @cpu. */
void write_memory(unsigned cpu);
/* Some fields of its vmcs12, and what L1 does before and after the entry. */
void mutate(unsigned cpu);

#endif
