/* SPDX-License-Identifier: MIT */
/* Raw speed of the interpreter: million guest instructions per second on small loops. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fake.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void run(struct fake *f, const char *name, const void *code, size_t n, u64 count)
{
	struct isa_cpu *c = &f->cpu->c;
	u64 before = f->cpu->n.instructions;
	double t;

	memcpy(f->mem + 0x1000, code, n);
	sil_memory_written(f->m, (hva_t)f->mem + 0x1000, n);
	fake_mode64(f, 0);
	f->cpu->c.s.cr4 |= CR4_SMAP;
	cpu_context_changed(f->cpu);
	c->s.rip = 0x1000;
	c->r.gpr[RCX] = count;
	c->r.gpr[RSP] = 0x8000;
	c->r.gpr[RSI] = 0x10000;
	c->r.gpr[RDI] = 0x20000;
	t = now();
	if (fake_run(f) != X_HLT)
		printf("exit %d vector %d err %x rip %#llx\n", f->exit, f->ev.vector, f->ev.error,
		       (unsigned long long)c->s.rip);
	t = now() - t;
	printf("%-22s %7.1f M/s\n", name, (f->cpu->n.instructions - before) / t * 1e-6);
}

int main(void)
{
	/* l: add rax,rbx; xor rdx,rax; inc rbx; dec rcx; jnz l; hlt */
	static const u8 alu[] = {0x48, 0x01, 0xd8, 0x48, 0x31, 0xc2, 0x48, 0xff,
				 0xc3, 0x48, 0xff, 0xc9, 0x75, 0xf2, 0xf4};
	/* l: mov rax,[rsi]; add rax,1; mov [rdi],rax; add [rsi],rax; dec rcx; jnz l; hlt */
	static const u8 mem[] = {0x48, 0x8b, 0x06, 0x48, 0x83, 0xc0, 0x01, 0x48, 0x89, 0x07,
				 0x48, 0x01, 0x06, 0x48, 0xff, 0xc9, 0x75, 0xee, 0xf4};
	/* l: call f; dec rcx; jnz l; hlt; f: push rbx; pop rbx; ret */
	static const u8 call[] = {0xe8, 0x06, 0,    0,	  0,	0x48, 0xff,
				  0xc9, 0x75, 0xf6, 0xf4, 0x53, 0x5b, 0xc3};
	/* 1: mov rsi,0x40000000; mov edx,4000; 2: mov rax,[rsi]; add rsi,4096; dec edx; jnz 2b;
	 * dec ecx; jnz 1b; hlt */
	static const u8 misses[] = {0x48, 0xc7, 0xc6, 0,    0,	  0,	0x40, 0xba, 0xa0, 0x0f, 0,
				    0,	  0x48, 0x8b, 0x06, 0x48, 0x81, 0xc6, 0,    0x10, 0,	0,
				    0xff, 0xca, 0x75, 0xf2, 0xff, 0xc9, 0x75, 0xe2, 0xf4};
	/* mov rax,cr3; 1: mov cr3,rax; mov rdx,[rsi]; dec ecx; jnz 1b; hlt */
	static const u8 cr3[] = {0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x48,
				 0x8b, 0x16, 0xff, 0xc9, 0x75, 0xf6, 0xf4};
	/* 1: stac; mov rdx,[rsi]; clac; dec ecx; jnz 1b; hlt */
	static const u8 stac[] = {0x0f, 0x01, 0xcb, 0x48, 0x8b, 0x16, 0x0f,
				  0x01, 0xca, 0xff, 0xc9, 0x75, 0xf3, 0xf4};
	struct fake f;
	unsigned k;

	fake_init(&f);
	fake_ept(&f, 4, true);
	for (k = 0; k < FAKE_MEM >> 21; k++)
		fake_ept_map(&f, (u64)k << 21, (u64)f.mem + ((u64)k << 21), 1, 7);
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_ept_map(&f, (u64)k << 12, (u64)f.mem + ((u64)k << 12), 1, 7);
	f.cpu->c.s.cr3 = fake_page(&f);
	for (k = 0; k < 8; k++)
		fake_map(&f, PG_4L, (u64)k << 21, 2, (u64)k << 21 | 0x83, 3);
	run(&f, "register loop", alu, sizeof(alu), 20000000);
	run(&f, "memory loop", mem, sizeof(mem), 20000000);
	run(&f, "calls", call, sizeof(call), 10000000);
	for (k = 0; k < FAKE_MEM >> 12; k++)
		fake_map(&f, PG_4L, 0x40000000 + ((u64)k << 12), 1, (u64)k << 12 | 0x67, 0x67);
	run(&f, "TLB misses (8 insn)", misses, sizeof(misses), 3000);
	run(&f, "MOV CR3 (4 insn)", cr3, sizeof(cr3), 1000000);
	run(&f, "STAC/CLAC (5 insn)", stac, sizeof(stac), 3000000);
	printf("misses %llu walks %llu loads %llu\n", (unsigned long long)f.cpu->n.tlb_miss_read,
	       (unsigned long long)f.cpu->n.walks, (unsigned long long)f.cpu->n.walk_loads);
	fake_fini(&f);
	return 0;
}
