/* SPDX-License-Identifier: MIT */
/* Ways in and out of translated code. */
#include "silicon/jit/emit.h"

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
	emit_vec_save(p);
	EMIT(p, 0x48, 0x83, 0xec, 0x08);
	call_c(p, fn);
	EMIT(p, 0x48, 0x83, 0xc4, 0x08);
	EMIT(p, 0x48, 0x85, 0xc0); /* test rax, rax */
	leave = emit_jcc(p, COND_NE);
	if (vec)
		emit_vec_load(p);
	if (flags)
		emit_flags_load(p);
	load_regs(p, 8);
	EMIT(p, 0xc3);
	fix_rel32(leave, *p);
	EMIT(p, 0x48, 0x83, 0xc4, 0x08);
	go(p);
}

static void stub_jump(u8 **p, const void *fn, bool host_flags)
{
	if (host_flags)
		emit_flags_save(p, T1);
	store_regs(p, 0);
	emit_vec_save(p);
	call_c(p, fn);
	go(p);
}

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
		default: break;
		}
	}
	j->first = j->used = (u32)align_up((u64)(p - j->rw), 64);
}
