/* SPDX-License-Identifier: MIT */
/* Operands of VMX instructions from exit information (SDM, 28.2.1, 28.2.5), and their results
 * (31.2). */
#include "core/vmx/nested/nested.h"

/* ---- Address ---- */

static int queue_address_fault(struct kvm_vcpu *v, unsigned seg)
{
	kvm_queue_exception_e(v, seg == SS ? X86_SS_VEC : X86_GP, 0);
	return 1;
}

/* SDM vol. 3A, 5.3 to 5.5, outside IA-32e mode. */
static bool segment_allows(const struct isa_seg *s, u64 off, unsigned len)
{
	u64 last = off + len - 1;
	bool expand_down = (s->ar & 0xc) == 4;

	if (s->ar & SEG_AR_UNUSABLE)
		return false;
	if (expand_down)
		return off > s->limit && last <= (s->ar & SEG_AR_DB ? 0xffffffff : 0xffff);
	return last <= s->limit;
}

int nested_operand_address(struct kvm_vcpu *v, u64 displacement, u32 info, bool write, unsigned len,
			   gva_t *out)
{
	unsigned scale = info & 3, size = info >> 7 & 7, seg = info >> 15 & 7;
	u64 off = displacement;
	struct isa_seg s;

	if (info & BIT(10)) { /* a register where there must be memory */
		kvm_queue_exception(v, X86_UD);
		return 1;
	}
	if (!(info & BIT(27)))
		off += kvm_register_read(v, info >> 23 & 15);
	if (!(info & BIT(22)))
		off += kvm_register_read(v, info >> 18 & 15) << scale;
	off = mask_size(off, size == 0 ? 2 : size == 1 ? 4 : 8);
	if (is_64_bit_mode(v)) {
		if (seg == FS || seg == GS)
			off += kvm_get_segment_base(v, seg);
		*out = off;
		return is_canonical(off, v->arch->va_bits) ? 0 : queue_address_fault(v, seg);
	}
	kvm_get_segment(v, &s, seg);
	/* Writes need a writable data segment, reads a readable one. */
	if (write ? (s.ar & 0xa) != 2 : (s.ar & 0xa) == 8) {
		kvm_queue_exception_e(v, X86_GP, 0);
		return 1;
	}
	if (!segment_allows(&s, off, len))
		return queue_address_fault(v, seg);
	*out = (u32)(s.base + off);
	return 0;
}

static int access_operand(struct kvm_vcpu *v, gva_t gva, void *data, unsigned len, u64 access)
{
	struct guest_fault f;

	while (len) {
		unsigned part = (unsigned)MIN((u64)len, PAGE_SIZE - (gva & (PAGE_SIZE - 1)));
		gpa_t gpa = mmu_gva_to_gpa(v, gva, access, &f);

		if (gpa == GPA_INVALID) {
			kvm_inject_page_fault(v, f.addr, f.error);
			return 1;
		}
		/* No memory there: reads find all ones as on a bus, writes go nowhere. */
		if (access & PFERR_WRITE)
			vcpu_write_guest(v, gpa, data, part);
		else if (vcpu_read_guest(v, gpa, data, part))
			memset(data, 0xff, part);
		gva += part;
		data = (char *)data + part;
		len -= part;
	}
	return 0;
}

int nested_read_operand(struct kvm_vcpu *v, gva_t gva, void *dst, unsigned len)
{
	return access_operand(v, gva, dst, len, 0);
}

int nested_write_operand(struct kvm_vcpu *v, gva_t gva, const void *src, unsigned len)
{
	return access_operand(v, gva, (void *)src, len, PFERR_WRITE);
}

u64 nested_stored_value(u32 field, u64 val)
{
	return field >= GUEST_ES_AR_BYTES && field <= GUEST_TR_AR_BYTES ? val & 0x1f0ff : val;
}

/* ---- Results ---- */

static int finish(struct kvm_vcpu *v, u64 flags)
{
	vmx_set_rflags(v, (vmx_get_rflags(v) & ~(u64)X86_STATUS_FLAGS) | flags);
	return kvm_skip_emulated_instruction(v);
}

int nested_succeed(struct kvm_vcpu *v)
{
	return finish(v, 0);
}

int nested_fail_invalid(struct kvm_vcpu *v)
{
	return finish(v, X86_CF);
}

int nested_fail(struct kvm_vcpu *v, u32 error)
{
	struct nested_vmx *n = nested_of(v);

	/* Without a current VMCS there is no place for the number. */
	if (!nested_has_vmcs12(n))
		return nested_fail_invalid(v);
	/* Not shadowed, so L1's VMREAD of it exits. */
	V12_SET(n->vmcs12, VM_INSTRUCTION_ERROR, error);
	if (nested_evmcs_active(n))
		nested_evmcs_store_field(v, VM_INSTRUCTION_ERROR);
	return finish(v, X86_ZF);
}
