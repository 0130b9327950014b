/* SPDX-License-Identifier: MIT */
/*
 * Status flags that the manual leaves undefined, where processors differ. Handlers leave them as
 * the host's processor does: translated code runs there, and the two engines are to agree to the
 * bit.
 */
#include "isa/exec/alu.h"

struct isa_undefined isa_undefined;

#ifdef __x86_64__
__attribute__((constructor)) static void probe(void)
{
	u64 before = X86_PF | X86_AF | X86_ZF | X86_SF, after, shifted, factor = 3, scanned, index;

	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
			 "push %3; popfq; imul %2, %2; pushfq; pop %0\n\t"
			 "push $2; popfq; shl $3, %2; pushfq; pop %1\n\t"
			 "mov $3, %4; push $2; popfq; bsr %4, %5; pushfq; pop %4\n\t"
			 "lea 128(%%rsp), %%rsp"
			 : "=&r"(after), "=&r"(shifted), "+&r"(factor), "+&r"(before),
			   "=&r"(scanned), "=&r"(index)
			 :
			 : "cc", "memory");
	isa_undefined.shift_af = shifted & X86_AF ? CC_AF : 0;
	/* The operand 3 has even parity, the index 1 odd. */
	isa_undefined.scan_index = !(scanned & X86_PF);
	isa_undefined.mul_keeps = (after & before) == before;
}
#endif
