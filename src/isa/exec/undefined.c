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
	const u64 undefined = X86_OF | X86_PF | X86_AF | X86_SF;
	u64 fresh, kept, count = 8, far, rotated;

	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
			 "push %3; popfq; imul %2, %2; pushfq; pop %0\n\t"
			 "push $2; popfq; shl $3, %2; pushfq; pop %1\n\t"
			 "mov $3, %4; push $2; popfq; bsr %4, %5; pushfq; pop %4\n\t"
			 "lea 128(%%rsp), %%rsp"
			 : "=&r"(after), "=&r"(shifted), "+&r"(factor), "+&r"(before),
			   "=&r"(scanned), "=&r"(index)
			 :
			 : "cc", "memory");
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "push $2; popfq; tzcnt %2, %3; pushfq; pop %0\n\t"
			 "push %4; popfq; tzcnt %2, %3; pushfq; pop %1\n\t"
			 "lea 128(%%rsp), %%rsp"
			 : "=&r"(fresh), "=&r"(kept), "+&r"(count), "=&r"(index)
			 : "r"(undefined | 2)
			 : "cc", "memory");
	/* The operand's two highest bits are 01; after the shift by 3 they and CF are 0. */
	__asm__ volatile(
		"lea -128(%%rsp), %%rsp\n\t"
		"mov $0x4000000000000000, %2; push $2; popfq; shl $3, %2; pushfq; pop %0\n\t"
		"xor %k2, %k2; push $0x802; popfq; rol $3, %2; pushfq; pop %1\n\t"
		"lea 128(%%rsp), %%rsp"
		: "=&r"(far), "=&r"(rotated), "=&r"(index)
		:
		: "cc", "memory");
	isa_undefined.of_by_one = far & X86_OF;
	isa_undefined.rotate_keeps = rotated & X86_OF;
	isa_undefined.count_pf = fresh & X86_PF; /* the result is 3: even parity */
	isa_undefined.count_keeps = kept & ~fresh & undefined;
	isa_undefined.shift_af = shifted & X86_AF ? CC_AF : 0;
	/* The operand 3 has even parity, the index 1 odd. */
	isa_undefined.scan_index = !(scanned & X86_PF);
	isa_undefined.mul_keeps = (after & before) == before;
}
#endif
