/* SPDX-License-Identifier: MIT */
/* A multiboot kernel that crashes: no IDT, then an undefined instruction. */
	.code32
	.section .text
	.balign 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	lidt	empty
	ud2
empty:	.word 0
	.long 0
