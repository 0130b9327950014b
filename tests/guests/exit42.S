/* SPDX-License-Identifier: MIT */
/* A multiboot kernel: says a line on the serial port and writes 42 to the debug-exit port. */
	.code32
	.section .text
	.balign 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	cmp	$0x2badb002, %eax
	jne	bad
	mov	$text, %esi
	mov	$0x3f8, %dx
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, %dx
	jmp	1b
2:	mov	$42, %al
	out	%al, $0xf4
	hlt
bad:	mov	$1, %al
	out	%al, $0xf4
	hlt
text:	.asciz	"multiboot guest says hello\n"
