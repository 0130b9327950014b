/* SPDX-License-Identifier: MIT */
/* Ways in and out of translated code. */
#include "silicon/jit/emit.h"
#include "silicon/jit/lean.h"
#include "silicon/paging/tlb.h"

_Static_assert(sizeof(struct jit_frame) % 16 == 8, "calls from translated code are aligned");

/* The registers and the frame to the cpu; R14 stays. @sp: bytes pushed on the frame. */
static void store_regs(u8 **p, unsigned sp)
{
	unsigned g;

	for (g = 0; g < 16; g++)
		if (host_of(g) != NO_HOST)
			emit_gs_store(p, host_of(g), GS_GPR(g));
	for (g = R13; g < 16; g++) {
		emit_sp(p, OP_MOV_R_RM, RAX, sp + FR_GPR(g));
		emit_gs_store(p, RAX, GS_GPR(g));
	}
	emit_sp(p, OP_MOV_R_RM, RAX, sp + FR_OF(pc_page));
	emit_gs_store(p, RAX, GS_OF(j.pc_page));
	EMIT(p, 0x31, 0xc0); /* xor eax, eax */
	emit_sp(p, OP_MOV_R_RM, RCX, sp + FR_OF(count));
	emit_sp(p, OP_MOV_RM_R, RAX, sp + FR_OF(count));
	emit_gs(p, OP_ADD_RM_R, RCX, GS_OF(n.instructions), true);
}

static void load_regs(u8 **p, unsigned sp)
{
	unsigned g;

	for (g = R13; g < 16; g++) {
		emit_gs_load(p, RAX, GS_GPR(g));
		emit_sp(p, OP_MOV_RM_R, RAX, sp + FR_GPR(g));
	}
	for (g = 0; g < 16; g++)
		if (host_of(g) != NO_HOST)
			emit_gs_load(p, host_of(g), GS_GPR(g));
}

/* ---- Vector and x87 registers ---------------------------------------------------------------- */

#define VEC_REGS (VEC_SSE | VEC_AVX | VEC_SSE_FP | VEC_AVX_FP)

/* vmovups ymm, gs:[off] */
static void move_ymm(u8 **p, unsigned n, u32 off, bool store)
{
	put8(p, 0x65);
	put8(p, 0xc5);
	put8(p, (n < 8 ? 0x80 : 0) | 0x7c);
	put8(p, store ? 0x11 : 0x10);
	put8(p, 0x04 | (n & 7) << 3);
	put8(p, 0x25);
	put32(p, off);
}

#define GS_VEC(n) (GS_OF(c.r.vec) + (n) * (u32)sizeof(union isa_vec))

static void store_vectors(u8 **p)
{
	unsigned n;

	for (n = 0; n < 16; n++)
		move_ymm(p, n, GS_VEC(n), true);
}

/*
 * Legacy SSE instructions keep the upper half of their destination, so each depends on the
 * register's former value, unless the processor knows that all of the halves are zero: VZEROUPPER
 * tells it.
 */
static void load_vectors(u8 **p)
{
	u8 *wide, *done;
	unsigned n;

	EMIT(p, 0xc5, 0xf9, 0xef, 0xc0); /* vpxor xmm0, xmm0, xmm0 */
	for (n = 0; n < 16; n++) {
		EMIT(p, 0x65, 0xc5, 0xf9, 0xeb, 0x04, 0x25); /* vpor xmm0, xmm0, gs:[upper] */
		put32(p, GS_VEC(n) + 16);
	}
	EMIT(p, 0xc4, 0xe2, 0x79, 0x17, 0xc0); /* vptest xmm0, xmm0 */
	wide = emit_jcc(p, COND_NE);
	EMIT(p, 0xc5, 0xf8, 0x77);
	for (n = 0; n < 16; n++) {
		EMIT(p, 0x65, 0xc5); /* vmovups xmm, gs:[vec] */
		put8(p, (n < 8 ? 0x80 : 0) | 0x78);
		put8(p, 0x10);
		put8(p, 0x04 | (n & 7) << 3);
		put8(p, 0x25);
		put32(p, GS_VEC(n));
	}
	put8(p, 0xe9);
	put32(p, 0);
	done = *p - 4;
	fix_rel32(wide, *p);
	for (n = 0; n < 16; n++)
		move_ymm(p, n, GS_VEC(n), false);
	fix_rel32(done, *p);
}

/* ldmxcsr (2), stmxcsr (3) gs:[off] */
static void put_mxcsr(u8 **p, unsigned op, u32 off)
{
	EMIT(p, 0x65, 0x0f, 0xae);
	put8(p, 0x04 | op << 3);
	put8(p, 0x25);
	put32(p, off);
}

/* test byte gs:[vec], bits; returns the displacement of the jump that is taken if none is set */
static u8 *test_vec(u8 **p, unsigned bits)
{
	EMIT(p, 0x65, 0xf6, 0x04, 0x25);
	put32(p, GS_OF(j.vec));
	put8(p, bits);
	return emit_jcc(p, COND_E);
}

/* Between the XSAVE area and the guest's registers: control, status and tag word, the stack. What
 * the host has for instruction pointers is not the guest's. */
static void move_x87(u8 **p, u32 from, u32 to)
{
	unsigned k;

	emit_gs(p, OP_MOV_R_RM, RAX, from, false);
	emit_gs(p, OP_MOV_RM_R, RAX, to, false);
	emit_gs(p, OP_MOV_R_RM, RAX, from + 4, false);
	EMIT(p, 0x65, 0x88, 0x04, 0x25); /* mov gs:[ftw], al */
	put32(p, to + 4);
	for (k = 0; k < 4; k++) {
		move_ymm(p, k, from + 32 + 32 * k, false);
		move_ymm(p, k, to + 32 + 32 * k, true);
	}
}

_Static_assert(offsetof(struct isa_x87, st) == 32, "as in the XSAVE area");

/* xsave64 (4), xrstor64 (5) of the x87 component; RAX and RDX are lost */
static void put_xsave(u8 **p, unsigned op)
{
	EMIT(p, 0xb8, 1, 0, 0, 0, 0x31, 0xd2); /* mov eax, 1; xor edx, edx */
	EMIT(p, 0x65, 0x48, 0x0f, 0xae);
	put8(p, 0x04 | op << 3);
	put8(p, 0x25);
	put32(p, GS_OF(j.fpu));
}

/* fldcw (5), fnstcw (7) gs:[host_fcw] */
static void put_fcw(u8 **p, unsigned op)
{
	EMIT(p, 0x65, 0xd9);
	put8(p, 0x04 | op << 3);
	put8(p, 0x25);
	put32(p, GS_OF(j.host_fcw));
}

/* Those that are with the guest back to C; EFLAGS, RAX and RDX are lost. C finds an empty x87
 * stack: long double is computed there, and MMX registers would be in its way. */
static void vec_save(u8 **p)
{
	u8 *none, *nox87, *novec, *nofp;

	EMIT(p, 0x65, 0x0f, 0xb6, 0x04, 0x25); /* movzx eax, byte gs:[vec] */
	put32(p, GS_OF(j.vec));
	EMIT(p, 0x65, 0x88, 0x04, 0x25); /* mov gs:[vec_was], al */
	put32(p, GS_OF(j.vec_was));
	EMIT(p, 0x84, 0xc0); /* test al, al */
	none = emit_jcc(p, COND_E);
	novec = test_vec(p, VEC_REGS);
	store_vectors(p);
	nofp = test_vec(p, VEC_SSE_FP | VEC_AVX_FP);
	put_mxcsr(p, 3, GS_OF(c.r.x87.mxcsr));
	put_mxcsr(p, 2, GS_OF(j.host_mxcsr));
	fix_rel32(nofp, *p);
	fix_rel32(novec, *p);
	nox87 = test_vec(p, VEC_X87);
	put_xsave(p, 4);
	EMIT(p, 0xdb, 0xe3); /* fninit */
	put_fcw(p, 5);
	move_x87(p, GS_OF(j.fpu), GS_OF(c.r.x87));
	fix_rel32(nox87, *p);
	EMIT(p, 0xc5, 0xf8, 0x77);	 /* vzeroupper */
	EMIT(p, 0x65, 0xc6, 0x04, 0x25); /* mov byte gs:[vec], 0 */
	put32(p, GS_OF(j.vec));
	put8(p, 0);
	fix_rel32(none, *p);
}

/* To the guest, with the rights in vec_was; EFLAGS, RAX and RDX are lost. */
static void vec_load(u8 **p)
{
	u8 *nox87, *novec, *nofp;

	EMIT(p, 0x65, 0x0f, 0xb6, 0x04, 0x25);
	put32(p, GS_OF(j.vec_was));
	EMIT(p, 0x65, 0x88, 0x04, 0x25);
	put32(p, GS_OF(j.vec));
	nox87 = test_vec(p, VEC_X87);
	move_x87(p, GS_OF(c.r.x87), GS_OF(j.fpu));
	EMIT(p, 0x65, 0xc7, 0x04, 0x25); /* mov dword gs:[fpu.xstate_bv], 1 */
	put32(p, GS_OF(j.fpu) + 512);
	put32(p, 1);
	EMIT(p, 0xc5, 0xf8, 0x77); /* vzeroupper */
	put_fcw(p, 7);
	put_xsave(p, 5);
	fix_rel32(nox87, *p);
	novec = test_vec(p, VEC_REGS);
	nofp = test_vec(p, VEC_SSE_FP | VEC_AVX_FP);
	put_mxcsr(p, 3, GS_OF(j.host_mxcsr));
	put_mxcsr(p, 2, GS_OF(c.r.x87.mxcsr));
	fix_rel32(nofp, *p);
	load_vectors(p);
	fix_rel32(novec, *p);
}

/* call fn(cpu, R14) */
static void call_c(u8 **p, const void *fn)
{
	emit_gs_load(p, RDI, GS_OF(j.self));
	emit_mov_rr(p, RSI, T0);
	emit_mov_imm64(p, RAX, (u64)fn);
	EMIT(p, 0xff, 0xd0);
}

/* Goes to the address in RAX with the guest's registers loaded. */
static void go(u8 **p)
{
	emit_mov_rr(p, T1, RAX);
	emit_gs_load(p, RAX, GS_OF(j.pc_page));
	emit_sp(p, OP_MOV_RM_R, RAX, FR_OF(pc_page));
	load_regs(p, 0);
	EMIT(p, 0x41, 0xff, 0xe7); /* jmp r15 */
}

static void stub_enter(u8 **p)
{
	/* push rbx, rbp, r12-r15; sub rsp, frame */
	EMIT(p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);
	EMIT(p, 0x48, 0x83, 0xec, sizeof(struct jit_frame));
	emit_gs_store(p, RSP, GS_OF(j.frame));
	EMIT(p, 0x31, 0xc0);
	emit_sp(p, OP_MOV_RM_R, RAX, FR_OF(count));
	emit_mov_rr(p, RAX, RDI);
	go(p);
}

static void stub_exit(u8 **p)
{
	/* What C relies on of EFLAGS is DF alone, which translated code leaves clear. */
	EMIT(p, 0x48, 0x83, 0xc4, sizeof(struct jit_frame));
	EMIT(p, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
}

static void stub_exec(u8 **p, const void *fn, bool flags, bool vec)
{
	u8 *leave;

	store_regs(p, 8);
	vec_save(p);
	EMIT(p, 0x48, 0x83, 0xec, 0x08);
	call_c(p, fn);
	EMIT(p, 0x48, 0x83, 0xc4, 0x08);
	EMIT(p, 0x48, 0x85, 0xc0); /* test rax, rax */
	leave = emit_jcc(p, COND_NE);
	if (vec)
		vec_load(p);
	if (flags)
		emit_flags_load(p);
	load_regs(p, 8);
	EMIT(p, 0xc3);
	fix_rel32(leave, *p);
	EMIT(p, 0x48, 0x83, 0xc4, 0x08);
	go(p);
}

/*
 * Another page than jit_link.page may be where the jump leads. If the jump cache has the target,
 * and it is that page's, cpu->j.there can be corrected; everything else is jit_far's.
 */
static void stub_far(u8 **p)
{
	u8 *asked, *unknown, *other;

	asked = emit_asked(p);
	EMIT(p, 0x4d, 0x63, 0xbe); /* movsxd r15, [r14 + disp] */
	put32(p, offsetof(struct jit_link, disp));
	emit_sp(p, OP_ADD_R_RM, T1, 8 + FR_OF(pc_page));
	emit_gs(p, OP_XOR_R_RM, T1, GS_OF(j.xgen), true);
	emit_push(p, RAX);
	emit_mov_rr(p, RAX, T1);
	EMIT(p, 0x65, 0x48, 0x0f, 0xaf, 0x04, 0x25); /* imul rax, gs:[hash] */
	put32(p, GS_OF(j.hash));
	EMIT(p, 0x48, 0xc1, 0xe8, JIT_JC_SHIFT - 4, 0x25); /* shr rax; and eax: an entry's offset */
	put32(p, (JIT_JC_SIZE - 1) * sizeof(struct jit_jc));
	emit_gs(p, OP_ADD_R_RM, RAX, GS_OF(j.jc), true);
	EMIT(p, 0x4c, 0x39, 0x38); /* cmp [rax], r15 */
	unknown = emit_jcc(p, COND_NE);
	EMIT(p, 0x48, 0x8b, 0x40, 0x08); /* mov rax, [rax + 8] */
	EMIT(p, 0x49, 0x3b, 0x86);	 /* cmp rax, [r14 + code] */
	put32(p, offsetof(struct jit_link, code));
	other = emit_jcc(p, COND_NE);
	EMIT(p, 0x41, 0x8b, 0x86); /* mov eax, [r14 + page] */
	put32(p, offsetof(struct jit_link, page));
	EMIT(p, 0x49, 0x81, 0xe7, 0x00, 0xf0, 0xff, 0xff); /* and r15, -4096 */
	EMIT(p, 0x65, 0x4c, 0x89, 0x3c, 0xc5);		   /* mov gs:[there + rax * 8], r15 */
	put32(p, GS_OF(j.there));
	emit_pop(p, RAX);
	EMIT(p, 0xc3);
	fix_rel32(unknown, *p);
	fix_rel32(other, *p);
	emit_pop(p, RAX);
	fix_rel32(asked, *p);
	stub_exec(p, jit_far, false, false);
}

static void stub_jump(u8 **p, const void *fn, bool host_flags)
{
	if (host_flags)
		emit_flags_save(p, T1);
	store_regs(p, 0);
	vec_save(p);
	call_c(p, fn);
	go(p);
}

/* What C may change of general registers, but for the scratch ones. */
static const u8 callers[] = {RAX, RCX, RDX, RSI, RDI, 8, 9, 10, 11};

/* T1 = address -> T0 = address, T1 = host address. Returns the jump that is taken if C knows none.
 */
static u8 *call_refill(u8 **p, const void *fn)
{
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(callers); k++)
		emit_push(p, callers[k]);
	emit_gs_load(p, RDI, GS_OF(j.self));
	emit_mov_rr(p, RSI, T1);
	emit_mov_imm64(p, RAX, (u64)fn);
	EMIT(p, 0xff, 0xd0);
	emit_mov_rr(p, T0, T1);
	emit_mov_rr(p, T1, RAX);
	while (k--)
		emit_pop(p, callers[k]);
	EMIT(p, 0x4d, 0x85, 0xff); /* test r15, r15 */
	return emit_jcc(p, COND_E);
}

/* T0 the offset in the page, or ~0 from @crosses and @none. */
static void stub_tlb_end(u8 **p, u8 *crosses, u8 *none)
{
	EMIT(p, 0x41, 0x81, 0xe6); /* and r14d, PAGE_SIZE - 1 */
	put32(p, PAGE_SIZE - 1);
	EMIT(p, 0xc3);
	fix_rel32(crosses, *p);
	fix_rel32(none, *p);
	EMIT(p, 0x49, 0xc7, 0xc6, 0xff, 0xff, 0xff, 0xff, 0xc3); /* mov r14, -1; ret */
}

static void stub_tlb(u8 **p, const void *fn, u32 set)
{
	u8 *crosses, *none;

	EMIT(p, 0x49, 0x81, 0xff); /* cmp r15, PAGE_SIZE: the page is there */
	put32(p, PAGE_SIZE);
	crosses = emit_jcc(p, COND_B);
	EMIT(p, 0x4d, 0x2b, 0xbe); /* sub r15, [r14 + set]: the address again */
	put32(p, set);
	none = call_refill(p, fn);
	stub_tlb_end(p, crosses, none);
}

static void near_used(u8 **p, bool w, unsigned slot)
{
	EMIT(p, 0x65, 0x81, 0x0c, 0x25); /* or dword gs:[near_used], bit */
	put32(p, GS_OF(j.near_used) + 4 * w);
	put32(p, 1u << slot);
}

/* The same for the page last used through a register, and its entry. */
static void stub_near(u8 **p, const void *fn, u32 set, unsigned slot)
{
	u32 near = GS_OF(j.near) + (slot + (set ? JIT_NEAR : 0)) * (u32)sizeof(struct isa_tlbe);
	u8 *crosses, *none, *miss;

	EMIT(p, 0x49, 0x81, 0xff); /* cmp r15, PAGE_SIZE */
	put32(p, PAGE_SIZE);
	crosses = emit_jcc(p, COND_B);
	emit_gs(p, OP_SUB_R_RM, T1, near, true);
	/* rorx r14d, r15d, 8; and r14d, an entry's offset */
	EMIT(p, 0xc4, 0x43, 0x7b, 0xf0, 0xf7, 0x08, 0x41, 0x81, 0xe6);
	put32(p, (ISA_TLB_SIZE - 1) * sizeof(struct isa_tlbe));
	emit_gs(p, OP_ADD_R_RM, T0, GS_OF(c.tlb), true);
	emit_push(p, RAX);
	EMIT(p, 0x49, 0x8b, 0x86); /* mov rax, [r14 + set] */
	put32(p, set);
	EMIT(p, 0x49, 0x01, 0xc7, 0x49, 0x81, 0xff); /* add r15, rax; cmp r15, PAGE_SIZE */
	put32(p, PAGE_SIZE);
	miss = emit_jcc(p, COND_AE);
	emit_gs_store(p, RAX, near);
	EMIT(p, 0x49, 0x8b, 0x86); /* mov rax, [r14 + set + 8] */
	put32(p, set + 8);
	emit_gs_store(p, RAX, near + 8);
	near_used(p, set != 0, slot);
	emit_mov_rr(p, T0, T1);
	EMIT(p, 0x49, 0x01, 0xc7); /* add r15, rax */
	emit_pop(p, RAX);
	EMIT(p, 0xc3);
	fix_rel32(miss, *p);
	EMIT(p, 0x49, 0x29, 0xc7); /* sub r15, rax */
	emit_pop(p, RAX);
	none = call_refill(p, fn);
	/* -page of r14 and page of r15 into the entry; r14 the offset */
	emit_push(p, RAX);
	EMIT(p, 0x4c, 0x89, 0xf8, 0x48, 0x25, 0x00, 0xf0, 0xff,
	     0xff); /* mov rax, r15; and rax, -4096 */
	emit_gs_store(p, RAX, near + 8);
	EMIT(p, 0x4c, 0x89, 0xf0, 0x48, 0x25, 0x00, 0xf0, 0xff, 0xff, 0x48, 0xf7, 0xd8);
	emit_gs_store(p, RAX, near);
	near_used(p, set != 0, slot);
	emit_pop(p, RAX);
	stub_tlb_end(p, crosses, none);
}

/*
 * lean.c's function for the instruction in R14. All general registers are stored, so that a fault
 * of the host in it finds them (jit_caught); those that C may change are loaded again.
 */
static void stub_lean(u8 **p, const void *fn, bool called, const u8 *end)
{
	unsigned k, g;
	u8 *declined;

	for (g = 0; g < 16; g++)
		if (host_of(g) != NO_HOST)
			emit_gs_store(p, host_of(g), GS_GPR(g));
	emit_gs_store(p, T0, GS_OF(j.lean));
	if (called)
		EMIT(p, 0x48, 0x83, 0xec, 0x08);
	emit_mov_rr(p, RDX, T1);
	call_c(p, fn);
	if (called)
		EMIT(p, 0x48, 0x83, 0xc4, 0x08);
	emit_mov_rr(p, T1, RAX);
	EMIT(p, 0x31, 0xc0); /* xor eax, eax */
	emit_gs_store(p, RAX, GS_OF(j.lean));
	for (k = 0; k < ARRAY_SIZE(callers); k++)
		emit_gs_load(p, callers[k], GS_GPR(callers[k]));
	emit_gs_load(p, HOST_SP, GS_GPR(RSP));
	EMIT(p, 0x4d, 0x85, 0xff); /* test r15, r15 */
	declined = emit_jcc(p, COND_E);
	if (called)
		put8(p, 0xc3);
	else
		EMIT(p, 0x41, 0xff, 0xe7); /* jmp r15 */
	fix_rel32(declined, *p);
	if (called)
		EMIT(p, 0x48, 0x83, 0xc4, 0x08);
	emit_jmp(p, end);
}

static jit_lean_fn *const lean_fns[LEAN_N] = {
	[LEAN_SYSCALL] = lean_syscall, [LEAN_SYSRET] = lean_sysret, [LEAN_IRET] = lean_iret,
	[LEAN_INT] = lean_int,	       [LEAN_INVLPG] = lean_invlpg, [LEAN_CR3] = lean_cr3,
	[LEAN_PAUSE] = lean_pause,     [LEAN_STAC] = lean_stac,	    [LEAN_CLAC] = lean_clac,
	[LEAN_POPF] = lean_popf,       [LEAN_VMX] = lean_vmx,
};

void jit_make_stubs(struct jit *j)
{
	u8 *p = j->rw + 64; /* offset 0 stands for nothing */
	unsigned s;

	for (s = 0; s < STUB_N; s++) {
		p = j->rw + align_up((u64)(p - j->rw), 64);
		j->stub[s] = (u32)(p - j->rw);
		switch ((enum jit_stub)s) {
		case STUB_ENTER: stub_enter(&p); break;
		case STUB_EXIT: stub_exit(&p); break;
		case STUB_EXEC: stub_exec(&p, jit_exec, false, false); break;
		case STUB_EXEC_FL: stub_exec(&p, jit_exec, true, false); break;
		case STUB_EXEC_VEC: stub_exec(&p, jit_exec, false, true); break;
		case STUB_EXEC_FL_VEC: stub_exec(&p, jit_exec, true, true); break;
		case STUB_VEC: stub_exec(&p, jit_vec, false, true); break;
		case STUB_END: stub_jump(&p, jit_end, false); break;
		case STUB_LINK_HOST: stub_jump(&p, jit_link, true); break;
		case STUB_LINK_MEM: stub_jump(&p, jit_link, false); break;
		case STUB_GOTO_HOST: stub_jump(&p, jit_goto, true); break;
		case STUB_GOTO_MEM: stub_jump(&p, jit_goto, false); break;
		case STUB_FAR: stub_far(&p); break;
		case STUB_RESUME: stub_jump(&p, jit_resume, false); break;
		case STUB_TLB_R: stub_tlb(&p, tlb_refill_r, 0); break;
		case STUB_TLB_W: stub_tlb(&p, tlb_refill_w, offsetof(struct isa_tlb, w)); break;
		default: break;
		}
	}
	for (s = 0; s < 2 * JIT_NEAR; s++) {
		bool w = s >= JIT_NEAR;
		p = j->rw + align_up((u64)(p - j->rw), 64);
		j->near_stub[w][s % JIT_NEAR] = (u32)(p - j->rw);
		stub_near(&p, w ? tlb_refill_w : tlb_refill_r, w ? offsetof(struct isa_tlb, w) : 0,
			  s % JIT_NEAR);
	}
	for (s = 0; s < LEAN_N; s++) {
		p = j->rw + align_up((u64)(p - j->rw), 64);
		j->lean_stub[s] = (u32)(p - j->rw);
		stub_lean(&p, lean_fns[s], s >= LEAN_CALLED, j->rw + j->stub[STUB_END]);
	}
	j->first = j->used = (u32)align_up((u64)(p - j->rw), 64);
}
