/* SPDX-License-Identifier: MIT */
/* Port I/O: in-core devices, else KVM_EXIT_IO with the data in the page after kvm_run. */
#include <errno.h>
#include <string.h>

#include "core/emulate/emulate_impl.h"
#include "core/iobus.h"

static u8 *pio_page(struct kvm_vcpu *v)
{
	return (u8 *)v->run + KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
}

static int exit_io(struct kvm_vcpu *v, bool in, u16 port, unsigned size, u32 count)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = (u8)size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
	return 0;
}

/* ---- One element, straight from an exit ---- */

static void fast_in_done(struct kvm_vcpu *v, unsigned size, const void *data)
{
	u64 val = size < 4 ? v->hw->gpr[RAX] : 0;

	memcpy(&val, data, size);
	kvm_register_write_raw(v, RAX, val);
}

static int complete_fast_in(struct kvm_vcpu *v)
{
	struct emulator *e = v->emul;

	/* User space may have sent the guest elsewhere. */
	if (!kvm_is_linear_rip(v, e->linear_rip))
		return 1;
	fast_in_done(v, e->in.size, pio_page(v));
	return kvm_skip_emulated_instruction(v);
}

static int complete_fast_out(struct kvm_vcpu *v)
{
	if (!kvm_is_linear_rip(v, v->emul->linear_rip))
		return 1;
	return kvm_skip_emulated_instruction(v);
}

/* As KVM, with its quirk: RIP has moved on already when the program sees an OUT to port 0x7e. */
static bool out_skips_first(struct kvm_vcpu *v, u16 port)
{
	return port == 0x7e && kvm_check_has_quirk(v->kvm, KVM_X86_QUIRK_OUT_7E_INC_RIP);
}

int kvm_fast_pio(struct kvm_vcpu *v, unsigned size, u16 port, bool in)
{
	struct emulator *e = v->emul;
	u64 val = 0;

	if (in) {
		if (!io_bus_read(v, IO_BUS_PIO, port, size, &val)) {
			fast_in_done(v, size, &val);
			return kvm_skip_emulated_instruction(v);
		}
		memset(pio_page(v), 0, size);
		e->in.size = (u8)size;
		v->arch->complete_userspace_io = complete_fast_in;
	} else {
		val = v->hw->gpr[RAX];
		if (!io_bus_write(v, IO_BUS_PIO, port, size, &val))
			return kvm_skip_emulated_instruction(v);
		memcpy(pio_page(v), &val, size);
		if (out_skips_first(v, port)) {
			kvm_skip_emulated_instruction(v);
			return exit_io(v, in, port, size, 1);
		}
		v->arch->complete_userspace_io = complete_fast_out;
	}
	e->linear_rip = kvm_get_linear_rip(v);
	return exit_io(v, in, port, size, 1);
}

/* ---- Within an instruction ---- */

/* Elements that one exit may ask for: as many as KVM does. */
static u32 ins_batch(const struct emulator *e, unsigned size)
{
	const struct isa_cpu *c = &e->c;
	u64 left, off = c->r.gpr[RDI] & (PAGE_SIZE - 1);
	u64 in_page = c->s.rflags & X86_DF ? off : PAGE_SIZE - off;

	if (!(e->insn.flags & ISA_F_STR) || !(e->insn.prefixes & (ISA_P_REP | ISA_P_REPNE)) ||
	    c->s.rflags & X86_TF)
		return 1;
	left = mask_size(c->r.gpr[RCX], e->insn.addrsize);
	left = MIN(left, MIN(in_page, sizeof(e->in.data) / size));
	return left ? (u32)left : 1;
}

void emul_port_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la)
{
	struct emulator *e = emul_of(c);
	u32 n = ins_batch(e, size);

	emul_used(e);
	if (e->in.pos < e->in.n && (e->in.port != port || e->in.size != size))
		e->in.pos = e->in.n = 0;
	if (e->in.pos >= e->in.n) {
		e->in.port = port;
		e->in.size = (u8)size;
		e->in.pos = 0;
		for (u32 i = 0; i < n; i++) {
			if (!io_bus_read(e->v, IO_BUS_PIO, port, size, e->in.data + i * size))
				continue;
			if (i) {
				/* The device went away in the middle. */
				memset(e->in.data + i * size, 0, (n - i) * size);
				break;
			}
			memset(pio_page(e->v), 0, n * size);
			e->in.n = n * size;
			e->wait = EMUL_PIO_IN;
			emul_abort(e, 0);
		}
		e->in.n = n * size;
	}
	memcpy(dst, e->in.data + e->in.pos, size);
	e->in.pos += size;
}

int emul_exit_in(struct emulator *e)
{
	return exit_io(e->v, true, e->in.port, e->in.size, e->in.n / e->in.size);
}

void emul_pio_in_answer(struct emulator *e)
{
	memcpy(e->in.data, pio_page(e->v), e->in.n);
	e->in.pos = 0;
}

void emul_port_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la)
{
	struct emulator *e = emul_of(c);

	emul_used(e);
	if (!e->out.n && !io_bus_write(e->v, IO_BUS_PIO, port, size, src))
		return;
	e->out.port = port;
	e->out.size = (u8)size;
	memcpy(e->out.data + e->out.n, src, size);
	e->out.n += size;
	if (e->out.n + size > sizeof(e->out.data))
		__atomic_store_n(&c->request, 1, __ATOMIC_RELAXED);
}

int emul_exit_out(struct emulator *e)
{
	u32 n = e->out.n;

	memcpy(pio_page(e->v), e->out.data, n);
	e->out.n = 0;
	return exit_io(e->v, false, e->out.port, e->out.size, n / e->out.size);
}
