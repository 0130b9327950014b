/* SPDX-License-Identifier: MIT */
/*
 * Entry of the guest test hypervisor: multiboot 1, 32-bit, to 64-bit mode with the first 4 GiB mapped
 * one to one (user pages, 2 MiB); exception stubs; entry into and exit from L2.
 */
#define CS64 0x08
#define DS64 0x10

	.section .boot, "ax"
	.code32
	.balign 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	cli
	mov	$stack_top, %esp
	mov	%ebx, multiboot_info
	/* Four page directories follow each other. */
	mov	$page_dirs, %edi
	mov	$0xe7, %eax
	xor	%ecx, %ecx
1:	mov	%eax, (%edi, %ecx, 8)
	movl	$0, 4(%edi, %ecx, 8)
	add	$0x200000, %eax
	inc	%ecx
	cmp	$2048, %ecx
	jne	1b
	mov	$page_dirs + 7, %eax
	mov	%eax, page_pdpt
	add	$0x1000, %eax
	mov	%eax, page_pdpt + 8
	add	$0x1000, %eax
	mov	%eax, page_pdpt + 16
	add	$0x1000, %eax
	mov	%eax, page_pdpt + 24
	movl	$page_pdpt + 7, page_pml4

	mov	$page_pml4, %eax
	mov	%eax, %cr3
	mov	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	mov	$0x80010033, %eax	/* PG, WP, NE, ET, MP, PE */
	mov	%eax, %cr0
	lgdt	gdt_pointer
	ljmp	$CS64, $1f
	.code64
1:	mov	$DS64, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$stack_top, %rsp
	xor	%ebp, %ebp
	mov	multiboot_info, %edi
	call	l1_main
2:	hlt
	jmp	2b

	.text
/* Exceptions and interrupts: 16 bytes a stub. */
	.balign 16
	.globl exc_stubs
exc_stubs:
	.set vector, 0
	.rept 256
	.balign 16
	.if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
	.else
	push	$0
	.endif
	push	$vector
	jmp	exc_common
	.set vector, vector + 1
	.endr

exc_common:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, %rdi
	cld
	call	exc_handler
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/* u64 vmx_enter(struct regs *r, bool launch): 0 after an exit, else RFLAGS of the failure. */
	.globl vmx_enter, vmx_exit_entry
vmx_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	mov	evmcs, %rax
	test	%rax, %rax
	jz	1f
	cmp	%rsp, 616(%rax)		/* f_HOST_RSP */
	je	2f
	mov	%rsp, 616(%rax)
	btrl	$13, 824(%rax)		/* of clean_fields */
	jmp	2f
1:	mov	$0x6c14, %eax		/* HOST_RSP */
	vmwrite	%rsp, %rax
2:	test	%esi, %esi
	mov	0x00(%rdi), %rax
	mov	0x08(%rdi), %rcx
	mov	0x10(%rdi), %rdx
	mov	0x18(%rdi), %rbx
	mov	0x28(%rdi), %rbp
	mov	0x30(%rdi), %rsi
	mov	0x40(%rdi), %r8
	mov	0x48(%rdi), %r9
	mov	0x50(%rdi), %r10
	mov	0x58(%rdi), %r11
	mov	0x60(%rdi), %r12
	mov	0x68(%rdi), %r13
	mov	0x70(%rdi), %r14
	mov	0x78(%rdi), %r15
	mov	0x38(%rdi), %rdi
	jz	1f
	.globl vmx_launch_insn
vmx_launch_insn:
	vmlaunch
	jmp	2f
1:	vmresume
2:	pushfq
	pop	%rax
	add	$8, %rsp
	jmp	3f
vmx_exit_entry:
	push	%rdi
	mov	8(%rsp), %rdi
	mov	%rax, 0x00(%rdi)
	pop	%rax
	mov	%rax, 0x38(%rdi)
	mov	%rcx, 0x08(%rdi)
	mov	%rdx, 0x10(%rdi)
	mov	%rbx, 0x18(%rdi)
	mov	%rbp, 0x28(%rdi)
	mov	%rsi, 0x30(%rdi)
	mov	%r8, 0x40(%rdi)
	mov	%r9, 0x48(%rdi)
	mov	%r10, 0x50(%rdi)
	mov	%r11, 0x58(%rdi)
	mov	%r12, 0x60(%rdi)
	mov	%r13, 0x68(%rdi)
	mov	%r14, 0x70(%rdi)
	mov	%r15, 0x78(%rdi)
	add	$8, %rsp
	xor	%eax, %eax
3:	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* void run_user(void *code): at CPL 3 on a stack of its own until an exception. */
	.globl run_user
run_user:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, exc + 0		/* fixup_rsp */
	movq	$1f, exc + 8		/* fixup */
	pushq	$0x23
	pushq	$user_stack_top
	pushq	$2
	pushq	$0x2b
	push	%rdi
	iretq
1:	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* void run_compat(void *code): in a 32-bit code segment at CPL 0 until an exception. */
	.globl run_compat
run_compat:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, exc + 0
	movq	$1b, exc + 8
	pushq	$0x18
	push	%rdi
	lretq

/* Where L2's functions return to. */
	.globl l2_done
l2_done:
	vmcall
	jmp	l2_done

	.section .data
	.balign 16
	.globl gdt, gdt_pointer
gdt:	.quad 0
	.quad 0x00af9b000000ffff	/* 08 64-bit code */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00cf9b000000ffff	/* 18 32-bit code */
	.quad 0x00cff3000000ffff	/* 20 user data */
	.quad 0x00affb000000ffff	/* 28 user code */
	.quad 0, 0			/* 30 TSS */
	.quad 0, 0			/* 40 TSS of task-switch tests, 32-bit */
	.quad 0x00009b000000ffff	/* 50 16-bit code */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.section .bss
	.balign 4096
	.globl page_pml4, page_pdpt, page_dirs, stack_top, user_stack_top, l2_stack_top
page_pml4:	.skip 4096
page_pdpt:	.skip 4096
page_dirs:	.skip 4 * 4096
		.skip 16384
stack_top:	.skip 16384
l2_stack_top:	.skip 4096
user_stack_top:	.skip 8
multiboot_info:	.skip 4
	.section .note.GNU-stack, "", @progbits
