/* SPDX-License-Identifier: MIT */
/*
 * A master boot record that loads a Linux kernel and an initramfs with the BIOS alone: INT 13h for sectors,
 * INT 15h AH=87h for memory above 1 MiB, INT 10h for text. Linux's boot protocol 2.04 and up
 * (Documentation/arch/x86/boot.rst). What qemu.py fills in stands at the end.
 *
 * Memory: 0x7c00 we, 0x10000 the kernel's real-mode code, 0x1e000 its command line, 0x20000 a buffer.
 */
	.code16
	.globl _start
	.set CHUNK, 64			/* sectors that INT 13h takes and the buffer holds */
_start:
	ljmp	$0, $1f
1:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	cld
	movb	%dl, drive
	movw	$hello, %si
	call	print

	/* The command line is in sector 1, the kernel's real-mode code from sector 2. */
	movl	$1, dap_lba
	movw	$1, dap_count
	movw	$0x1e00, dap_segment
	call	read
	movl	$2, dap_lba
	movw	setup_sectors, %ax
	movw	%ax, dap_count
	movw	$0x1000, dap_segment
	call	read

	/* The rest of the kernel goes to 1 MiB, the initramfs where there is room. */
	movl	setup_sectors, %eax
	addl	$2, %eax
	movl	kernel_sectors, %ecx
	movl	$0x100000, %ebx
	call	load
	movl	initrd_lba, %eax
	movl	initrd_sectors, %ecx
	movl	initrd_address, %ebx
	call	load
	movw	$ready, %si
	call	print

	movw	$0x1000, %ax
	movw	%ax, %es
	movb	$0xff, %es:0x210	/* type_of_loader: none of the known ones */
	orb	$0x80, %es:0x211	/* loadflags: heap_end_ptr counts */
	movl	initrd_address, %eax
	movl	%eax, %es:0x218
	movl	initrd_size, %eax
	movl	%eax, %es:0x21c
	movw	$0xde00, %es:0x224	/* heap_end_ptr */
	movl	$0x1e000, %es:0x228	/* cmd_line_ptr */
	cli
	movw	$0x1000, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movw	$0xe000, %sp
	ljmp	$0x1020, $0

/* %ecx sectors from %eax to the linear address %ebx. */
load:	movl	%eax, dap_lba
	movw	$0x2000, dap_segment
2:	movl	%ecx, %edx
	cmpl	$CHUNK, %edx
	jbe	3f
	movl	$CHUNK, %edx
3:	movw	%dx, dap_count
	call	read
	movl	%ebx, %eax
	movw	%ax, to_base
	shrl	$16, %eax
	movb	%al, to_base + 2
	movb	%ah, to_base + 5	/* bits 31:24 stand last in a descriptor */
	pushal
	movw	$(CHUNK * 512 / 2), %cx	/* always a whole buffer */
	movw	$gdt, %si
	movb	$0x87, %ah
	int	$0x15
	popal
	jc	fail
	addl	$(CHUNK * 512), %ebx
	addl	%edx, dap_lba
	subl	%edx, %ecx
	jnz	2b
	ret

read:	pushal
	movb	drive, %dl
	movb	$0x42, %ah
	movw	$dap, %si
	int	$0x13
	popal
	jc	fail
	ret

print:	lodsb
	testb	%al, %al
	jz	4f
	movb	$0x0e, %ah
	movw	$7, %bx
	int	$0x10
	jmp	print
4:	ret

fail:	movw	$bad, %si
	call	print
5:	hlt
	jmp	5b

hello:	.asciz	"kvmless: loading\r\n"
ready:	.asciz	"kvmless: loaded\r\n"
bad:	.asciz	"kvmless: the BIOS failed\r\n"
drive:	.byte	0

	.balign	4
dap:	.byte	16, 0
dap_count:
	.word	0, 0
dap_segment:
	.word	0
dap_lba:
	.long	0, 0

	.balign	8
gdt:	.quad	0, 0
	.word	0xffff, 0		/* from 0x20000 */
	.byte	2, 0x93, 0, 0
	.word	0xffff			/* to */
to_base:
	.byte	0, 0, 0, 0x93, 0, 0
	.quad	0, 0

	.org	510 - 24		/* no partitions */
setup_sectors:	.long	0
kernel_sectors:	.long	0
initrd_lba:	.long	0
initrd_sectors:	.long	0
initrd_address:	.long	0
initrd_size:	.long	0
	.org	510
	.word	0xaa55
