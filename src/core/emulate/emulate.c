/* SPDX-License-Identifier: MIT */
/* One instruction, from fetch to write-back, and the round trips to user space. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/guard.h"
#include "core/emulate/emulate_impl.h"
#include "core/smm.h"
#include "isa/flags.h"

/* A TLB that never answers, so that every access comes to our callbacks. */
static struct isa_tlb no_tlb;

static void no_tlb_init(void)
{
	for (unsigned i = 0; i < ISA_TLB_SIZE; i++)
		no_tlb.r[i].neg_page = no_tlb.w[i].neg_page = ISA_TLB_INVALID(i);
}

int emul_create(struct kvm_vcpu *v)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct emulator *e = aligned_alloc(64, align_up(sizeof(*e), 64));

	if (!e)
		return -ENOMEM;
	pthread_once(&once, no_tlb_init);
	memset(e, 0, sizeof(*e));
	e->v = v;
	e->c.tlb = &no_tlb;
	e->c.ops = &emul_ops;
	/* The processor has refused already what the guest's CPUID does not have. */
	memset(e->c.feat, 0xff, sizeof(e->c.feat));
	v->emul = e;
	return 0;
}

void emul_free(struct kvm_vcpu *v)
{
	free(v->emul);
	v->emul = NULL;
}

void emul_reset(struct kvm_vcpu *v)
{
	struct emulator *e = v->emul;

	e->wait = EMUL_IDLE;
	e->nread = e->pos = e->nwrite = e->sent = 0;
	e->in.n = e->in.pos = e->out.n = 0;
}

/* ---- What the program is told ---- */

static int exit_mmio(struct emulator *e, const struct mmio_piece *p, bool write)
{
	struct kvm_run *run = e->v->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = p->gpa;
	run->mmio.len = p->len;
	run->mmio.is_write = write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (write)
		memcpy(run->mmio.data, p->data, p->len);
	kvm_stat_inc(e->v, mmio_exits);
	return 0;
}

/* KVM's way: #UD for the guest, and if it was the guest's kernel, the program hears of it too. */
int kvm_handle_emulation_failure(struct kvm_vcpu *v, unsigned flags)
{
	struct emulator *e = v->emul;
	struct kvm_run *run = v->run;
	bool tell = v->kvm->arch->exit_on_emulation_error || kvm_get_cpl(v) == 0;

	kvm_stat_inc(v, insn_emulation_fail);
	if (flags & EMUL_NO_DECODE_FAIL_EXIT)
		tell = false;
	if (!v->kvm->arch->exit_on_emulation_error || !tell)
		kvm_queue_exception(v, X86_UD);
	if (!tell)
		return 1;
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	memset(&run->emulation_failure, 0, sizeof(run->emulation_failure));
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 1; /* flags */
	if (e->nbytes) {
		run->emulation_failure.ndata += 2;
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = e->nbytes;
		memcpy(run->emulation_failure.insn_bytes, e->bytes, e->nbytes);
	}
	return 0;
}

/* ---- Running ---- */

static int inject(struct kvm_vcpu *v, const struct isa_fault *f)
{
	if (f->vector == X86_PF_VEC && v->emul->has_nested)
		v->mmu->mmu->inject_fault(v, &v->emul->nested);
	else if (f->vector == X86_PF_VEC)
		kvm_inject_page_fault(v, f->payload, f->error);
	else if (f->vector == X86_DB)
		kvm_queue_exception_p(v, X86_DB, f->payload);
	else if (f->has_error)
		kvm_queue_exception_e(v, f->vector, f->error);
	else
		kvm_queue_exception(v, f->vector);
	return 1;
}

static bool owns(void *kvm, u64 addr)
{
	return kvm_owns_hva(kvm, addr);
}

/* Executes what is in e->insn, or with @body that. The throw's value, 0 without one, or -EFAULT. */
static int execute(struct emulator *e, void (*body)(struct emulator *e, const void *arg),
		   const void *arg)
{
	struct guard g = {.owns = owns, .opaque = e->v->kvm};
	int r;

	/* In-place read-modify-writes touch guest memory directly; it may be missing. */
	if (guard_enter_filtered(&g)) {
		r = -EFAULT;
	} else {
		e->c.catch = &e->catch;
		r = _setjmp(e->catch);
		if (!r)
			body(e, arg);
		guard_leave(&g);
	}
	emul_rmw_done(e);
	return r;
}

static void run_insn(struct emulator *e, const void *arg)
{
	struct isa_cpu *c = &e->c;

	c->insn = &e->insn;
	c->s.rip = (c->s.rip + e->insn.len) & c->rip_mask;
	e->insn.exec(c, &e->insn);
}

/* 0: decoded; 1: a fault is in c->fault; -EFAULT: the bytes are not there; -EINVAL: too few. */
static int decode(struct emulator *e)
{
	u64 la = e->c.s.rip + (e->c.mode == ISA_LONG64 ? 0 : e->c.s.seg[CS].base);
	unsigned want = MIN(sizeof(e->bytes), PAGE_SIZE - (la & (PAGE_SIZE - 1)));
	int r;

	e->nbytes = 0;
	r = emul_fetch(e, want);
	if (r)
		return r;
	isa_insn_release(&e->insn);
	if (isa_decode(e->bytes, e->nbytes, e->c.mode, &e->insn) != ISA_DECODE_SHORT)
		return 0;
	r = emul_fetch(e, sizeof(e->bytes));
	if (r)
		return r;
	isa_insn_release(&e->insn);
	return isa_decode(e->bytes, e->nbytes, e->c.mode, &e->insn) == ISA_DECODE_SHORT ? -EINVAL
											: 0;
}

static bool uses_vector(const struct isa_insn *i)
{
	return i->flags & (ISA_F_FPU | ISA_F_MMX | ISA_F_SSE | ISA_F_AVX | ISA_F_SYS);
}

static int emul_complete(struct kvm_vcpu *v);

/* Registers as far as the instruction came; then whatever is still to be done for it. */
static int finish(struct emulator *e, bool retired)
{
	struct isa_cpu *c = &e->c;
	struct kvm_vcpu *v = e->v;
	bool stepping = retired && (e->before.rflags & X86_TF ||
				    v->arch->guest_debug & KVM_GUESTDBG_SINGLESTEP);
	int r = 1;

	emul_store(e, uses_vector(&e->insn));
	kvm_rip_write(v, c->s.rip);
	/* The shadow of an STI or MOV SS before it ends with it, unless it makes a new one. */
	if (retired && c->s.interruptibility == e->before.interruptibility)
		c->s.interruptibility &= ~(u32)(ISA_BLOCK_STI | ISA_BLOCK_MOVSS);
	if (c->s.interruptibility != e->before.interruptibility) {
		v->kvm->ops->set_interrupt_shadow(v, c->s.interruptibility &
							     (ISA_BLOCK_STI | ISA_BLOCK_MOVSS));
		kvm_make_request(v, REQ_EVENT);
	}
	if (e->flags & EMUL_WHOLE &&
	    e->before.interruptibility & ~c->s.interruptibility & ISA_BLOCK_NMI)
		v->kvm->ops->set_nmi_mask(v, false);
	e->nread = e->pos = 0;
	/* Input beyond what it took: the program has lowered RCX. */
	if (retired)
		e->in.n = e->in.pos = 0;
	if (e->out.n)
		return emul_exit_out(e);
	if (e->nwrite) {
		e->wait = EMUL_MMIO_WRITE;
		e->sent = 0;
		v->arch->complete_userspace_io = emul_complete;
		return exit_mmio(e, &e->write[0], true);
	}
	if (e->halt)
		return kvm_emulate_halt_noskip(v);
	if (stepping)
		r = kvm_vcpu_do_singlestep(v);
	return r;
}

static int ask_user(struct emulator *e)
{
	struct kvm_vcpu *v = e->v;

	e->linear_rip = kvm_get_linear_rip(v);
	v->arch->complete_userspace_io = emul_complete;
	return e->wait == EMUL_PIO_IN ? emul_exit_in(e) : exit_mmio(e, &e->read[e->nread], false);
}

/* Went as far as it could: @thrown by execute(). */
static int ended(struct emulator *e, int thrown)
{
	struct isa_cpu *c = &e->c;
	struct kvm_vcpu *v = e->v;

	if (thrown) {
		/* Back to its beginning; REP instructions have kept what they did. */
		c->s.rip = (c->s.rip - e->insn.len) & c->rip_mask;
	}
	switch (thrown) {
	case 0: return finish(e, c->s.rip != e->before.rip || !(e->insn.flags & ISA_F_STR));
	case ISA_THROW_FAULT:
		/* Output that went before it first; the fault comes again. */
		if (e->out.n || e->nwrite)
			return finish(e, false);
		finish(e, false);
		return inject(v, &c->fault);
	case ISA_THROW_RESTART: return finish(e, false);
	case -EFAULT: emul_reset(v); return -EFAULT;
	default: break;
	}
	/* ISA_THROW_EXIT */
	if (e->wait != EMUL_IDLE) {
		u32 nread = e->nread, pos = e->pos;

		/* Iterations before this one are done; what this one has read so far is kept. */
		emul_store(e, false);
		kvm_rip_write(v, c->s.rip);
		e->nread = nread;
		e->pos = pos;
		return ask_user(e);
	}
	emul_reset(v);
	if (e->error)
		return e->error;
	return kvm_handle_emulation_failure(v, e->flags);
}

static int emulate(struct kvm_vcpu *v, unsigned flags)
{
	struct emulator *e = v->emul;
	int r;

	kvm_stat_inc(v, insn_emulation);
	e->flags = flags;
	e->error = 0;
	e->unhandled = e->halt = e->has_nested = false;
	e->budget = REP_BUDGET;
	e->wait = EMUL_IDLE;
	e->nwrite = e->sent = 0;
	e->out.n = 0;
	e->pos = 0;
	emul_load(e);
	r = decode(e);
	if (r == 1)
		return inject(v, &e->c.fault);
	if (r)
		return kvm_handle_emulation_failure(v, flags);
	/* All state is another afterwards: nothing here is to be written back. */
	if (kvm_is_smm(v) && e->nbytes >= 2 && e->bytes[0] == 0x0f && e->bytes[1] == 0xaa)
		return kvm_emulate_rsm(v);
	if (flags & EMUL_SKIP) {
		kvm_rip_write(v, (e->c.s.rip + e->insn.len) & e->c.rip_mask);
		return 1;
	}
	if (uses_vector(&e->insn))
		emul_load_vector(e);
	if (e->insn.flags & ISA_F_SYS || flags & EMUL_WHOLE)
		emul_load_system(e);
	return ended(e, execute(e, run_insn, NULL));
}

int kvm_emulate_instruction(struct kvm_vcpu *v, unsigned flags)
{
	emul_reset(v);
	if (!(flags & EMUL_SKIP))
		kvm_clear_exception_queue(v);
	return emulate(v, flags);
}

int kvm_emulate_mmio(struct kvm_vcpu *v, gpa_t gpa, u64 error_code)
{
	return kvm_emulate_instruction(v, EMUL_PF);
}

/* The program has come back with an answer. */
static int emul_complete(struct kvm_vcpu *v)
{
	struct emulator *e = v->emul;
	enum emul_wait wait = e->wait;

	e->wait = EMUL_IDLE;
	switch (wait) {
	case EMUL_IDLE: return 1;
	case EMUL_MMIO_WRITE:
		if (++e->sent < e->nwrite) {
			e->wait = EMUL_MMIO_WRITE;
			v->arch->complete_userspace_io = emul_complete;
			return exit_mmio(e, &e->write[e->sent], true);
		}
		e->nwrite = e->sent = 0;
		return 1;
	case EMUL_MMIO_READ:
		memcpy(e->read[e->nread].data, v->run->mmio.data, e->read[e->nread].len);
		e->nread++;
		break;
	case EMUL_PIO_IN: emul_pio_in_answer(e); break;
	}
	/* Not if the program has sent the guest elsewhere. */
	if (!kvm_is_linear_rip(v, e->linear_rip)) {
		emul_reset(v);
		return 1;
	}
	return emulate(v, e->flags);
}

/* ---- Events and task switches ---- */

/* For what is not an instruction. */
static void begin(struct emulator *e, unsigned flags)
{
	emul_reset(e->v);
	e->flags = flags;
	e->error = 0;
	e->unhandled = e->halt = e->has_nested = false;
	e->budget = ~0u;
	e->nwrite = 0;
	isa_insn_release(&e->insn);
	memset(&e->insn, 0, sizeof(e->insn));
	e->nbytes = 0;
	emul_load(e);
	emul_load_system(e);
}

static void run_event(struct emulator *e, const void *ev)
{
	isa_deliver(&e->c, ev);
}

int kvm_emulate_event(struct kvm_vcpu *v, const struct isa_event *ev)
{
	struct emulator *e = v->emul;
	int r;

	begin(e, EMUL_WHOLE);
	r = execute(e, run_event, ev);
	if (!r && ev->type == EV_NMI)
		v->kvm->ops->set_nmi_mask(v, true);
	return r ? ended(e, r) : finish(e, false);
}

struct task_args {
	u16 sel;
	enum isa_task_source source;
	bool has_error;
	u32 error;
};

static void run_task(struct emulator *e, const void *arg)
{
	const struct task_args *t = arg;

	isa_task_switch(&e->c, t->sel, t->source, t->has_error, t->error);
}

int kvm_task_switch(struct kvm_vcpu *v, u16 selector, int reason, bool has_error, u32 error)
{
	static const enum isa_task_source source[] = {TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE};
	struct task_args t = {.sel = selector,
			      .source = source[reason & 3],
			      .has_error = has_error,
			      .error = error};
	struct emulator *e = v->emul;
	u64 cr3;
	int r;

	begin(e, 0);
	cr3 = e->c.s.cr3;
	r = execute(e, run_task, &t);
	/* The new task's CR3 and CR0.TS are set in the emulator's processor only. */
	if (r == 0 || r == ISA_THROW_FAULT) {
		if (e->c.s.cr3 != cr3)
			(void)kvm_set_cr3(v, e->c.s.cr3);
		if (e->c.s.cr0 != e->before.cr0)
			(void)kvm_set_cr0(v, e->c.s.cr0);
		if (e->c.s.dr7 != e->before.dr7)
			(void)kvm_set_dr(v, 7, e->c.s.dr7);
	}
	return ended(e, r);
}
