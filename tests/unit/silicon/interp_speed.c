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
	fake_fini(&f);
	return 0;
}
