/* SPDX-License-Identifier: MIT */
/*
 * Enlightened VMCSs (TLFS, "Nested virtualization"): L1's VMCS as a structure in its memory, which
 * Hyper-V's interface lets it write in the place of VMWRITE. The VP assist page says at each VM
 * entry whether and where.
 *
 * vmcs12 stays what L0 works with. At an entry the groups of fields that L1 has not vouched for are
 * copied into it, all at one moment; after an exit, before L1 runs, what an exit changes is copied
 * back. So an enlightened VMCS is read and written as L1's memory, never looked at in place.
 */
#include <errno.h>
#include <string.h>

#include "core/hyperv.h"
#include "core/vmx/nested/nested.h"

/* Bits of the clean fields: bit set, L1 has not written the group. */
#define EVMCS_CLEAN_NONE	   0
#define EVMCS_CLEAN_IO_BITMAP	   BIT(0)
#define EVMCS_CLEAN_MSR_BITMAP	   BIT(1)
#define EVMCS_CLEAN_CONTROL_GRP2   BIT(2)
#define EVMCS_CLEAN_CONTROL_GRP1   BIT(3)
#define EVMCS_CLEAN_CONTROL_PROC   BIT(4)
#define EVMCS_CLEAN_CONTROL_EVENT  BIT(5)
#define EVMCS_CLEAN_CONTROL_ENTRY  BIT(6)
#define EVMCS_CLEAN_CONTROL_EXCPN  BIT(7)
#define EVMCS_CLEAN_CRDR	   BIT(8)
#define EVMCS_CLEAN_CONTROL_XLAT   BIT(9)
#define EVMCS_CLEAN_GUEST_BASIC	   BIT(10)
#define EVMCS_CLEAN_GUEST_GRP1	   BIT(11)
#define EVMCS_CLEAN_GUEST_GRP2	   BIT(12)
#define EVMCS_CLEAN_HOST_POINTER   BIT(13)
#define EVMCS_CLEAN_HOST_GRP1	   BIT(14)
#define EVMCS_CLEAN_ENLIGHTENMENTS BIT(15)
#define EVMCS_CLEAN_ALL		   0xffffu

/* What is not a field of the VMCS. The fields of hv_enlightenments are read at every entry. */
#define EVMCS_OFF_REVISION	   0
#define EVMCS_OFF_CLEAN_FIELDS	   824
#define EVMCS_OFF_ENLIGHTENMENTS   836
#define EVMCS_OFF_VP_ID		   840
#define EVMCS_OFF_VM_ID		   848
#define EVMCS_OFF_PARTITION_ASSIST 856

#define EVMCS_ENL_NESTED_FLUSH BIT(0)
#define EVMCS_ENL_MSR_BITMAP   BIT(1)

/* After a flush that L0 has made for L2, if L1 wants to hear of it. */
#define EXIT_REASON_TRAP_AFTER_FLUSH 0x10000031u

/* ---- The layout ---- */

struct evmcs_row {
	u16 encoding, offset, group;
	u8 nr;
};

/* Bytes of a field, by the width in its encoding. */
#define BYTES_OF(enc) ((enc) >> 13 == VMCS_WIDTH_16 ? 2u : (enc) >> 13 == VMCS_WIDTH_32 ? 4u : 8u)

static const struct evmcs_row layout[] = {
#define EVMCS(name, offset, group) {name, offset, EVMCS_CLEAN_##group, VMCS_NR_##name},
#include "core/vmx/nested/evmcs.def"
};
#define EVMCS(name, offset, group)                                                                \
	_Static_assert((offset) % BYTES_OF(name) == 0 && (offset) + BYTES_OF(name) <= EVMCS_SIZE, \
		       #name " is aligned and in the structure");
#include "core/vmx/nested/evmcs.def"

static u64 load(const u8 *page, const struct evmcs_row *r)
{
	u64 val = 0;

	memcpy(&val, page + r->offset, BYTES_OF(r->encoding));
	return val;
}

static u32 load32(const u8 *page, unsigned offset)
{
	u32 val;

	memcpy(&val, page + offset, sizeof(val));
	return val;
}

static u64 load64(const u8 *page, unsigned offset)
{
	u64 val;

	memcpy(&val, page + offset, sizeof(val));
	return val;
}

bool nested_evmcs_has(u32 encoding)
{
	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++)
		if (layout[i].encoding == encoding)
			return vmcs12_fields[layout[i].nr].known;
	return false;
}

/* ---- Which is active ---- */

bool nested_evmcs_offered(const struct kvm_vcpu *v)
{
	return vmx_of(v)->nested->evmcs.enabled && v->arch->hv.enabled;
}

void nested_evmcs_release(struct kvm_vcpu *v)
{
	struct nested_evmcs *e = &nested_of(v)->evmcs;

	e->ptr = VMPTR_NONE;
	e->direct_flush = e->bitmap_merged = false;
}

static bool address_ok(const struct kvm_vcpu *v, u64 ptr)
{
	return !(ptr & (PAGE_SIZE - 1)) && kvm_is_legal_gpa(v, ptr);
}

/* The fields that are not the VMCS's. @a: as of this entry. */
static void take_synthetic(struct kvm_vcpu *v, const u8 *page, const struct hv_assist_nested *a)
{
	struct nested_evmcs *e = &nested_of(v)->evmcs;

	e->enlightenments = load32(page, EVMCS_OFF_ENLIGHTENMENTS);
	e->partition_assist = load64(page, EVMCS_OFF_PARTITION_ASSIST);
	e->direct_flush = (e->enlightenments & EVMCS_ENL_NESTED_FLUSH) &&
			  (a->features & HV_ASSIST_DIRECT_HYPERCALL) &&
			  guest_cpuid_has(v, FEAT_HV_NESTED_DIRECT_FLUSH);
	__atomic_store_n(&v->arch->hv.l2_vm, load64(page, EVMCS_OFF_VM_ID), __ATOMIC_RELAXED);
	__atomic_store_n(&v->arch->hv.l2_vp, load32(page, EVMCS_OFF_VP_ID), __ATOMIC_RELAXED);
}

void nested_evmcs_resolve(struct kvm_vcpu *v)
{
	struct nested_evmcs *e = &nested_of(v)->evmcs;
	struct hv_assist_nested a;
	u8 page[EVMCS_SIZE];
	u64 ptr = VMPTR_NONE;

	if (e->ptr != EVMCS_PENDING)
		return;
	if (hv_read_assist(v, &a) && a.enlighten_vmentry)
		ptr = a.current_nested_vmcs;
	if (!address_ok(v, ptr) || vcpu_read_guest(v, ptr, page, sizeof(page))) {
		nested_explain_because(v, "KVM_SET_NESTED_STATE", 0, "EVMCS_ADDRESS",
				       "the VP assist page names an enlightened VMCS",
				       "TLFS, nested virtualization", ptr);
		nested_evmcs_release(v);
		return;
	}
	e->ptr = nested_of(v)->check.current_vmcs = ptr;
	take_synthetic(v, page, &a);
}

/* ---- Into vmcs12 ---- */

/* All groups but those in @clean, and with @info what exits have written. */
static void unpack(struct kvm_vcpu *v, const u8 *page, u32 clean, bool info)
{
	struct nested_vmx *n = nested_of(v);

	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++) {
		const struct evmcs_row *r = &layout[i];
		const struct vmcs12_field *f = &vmcs12_fields[r->nr];
		enum vmcs_width width = vmcs_width(r->encoding);
		u64 old, val;

		if ((r->group && (clean & r->group) == r->group) || !f->known ||
		    (vmcs_type(r->encoding) == VMCS_TYPE_EXIT_INFO && !info))
			continue;
		old = vmcs12_load(n->vmcs12, f->offset, width);
		val = nested_stored_value(r->encoding, load(page, r));
		if (old == val)
			continue;
		vmcs12_store(n->vmcs12, f->offset, width, val);
		nested_mark_dirty(n, r->nr, old, val);
	}
}

/* Another than before: nothing of what is cached is its. */
static void activate(struct kvm_vcpu *v, u64 ptr)
{
	struct nested_vmx *n = nested_of(v);

	nested_release_vmcs12(v);
	nested_evmcs_release(v);
	memset(n->vmcs12, 0, VMCS12_SIZE);
	n->vmcs12->revision = VMCS12_REVISION;
	n->rare_unsynced = false;
	n->evmcs.ptr = n->check.current_vmcs = ptr;
	nested_mark_all_dirty(n);
}

static int bad_address(struct kvm_vcpu *v, const char *insn, u64 ptr)
{
	nested_evmcs_release(v);
	nested_explain_because(v, insn, NESTED_REFUSED_UD, "EVMCS_ADDRESS",
			       "the enlightened VMCS of the VP assist page is a page of memory",
			       "TLFS, nested virtualization", ptr);
	kvm_queue_exception(v, X86_UD);
	return 1;
}

static int bad_version(struct kvm_vcpu *v, const char *insn, u32 version)
{
	nested_evmcs_release(v);
	nested_explain_because(v, insn, 0, "EVMCS_VERSION",
			       "the enlightened VMCS is of version 1 (or has the revision of "
			       "IA32_VMX_BASIC[30:0])",
			       "TLFS, nested virtualization", version);
	return nested_fail_invalid(v);
}

enum nested_evmcs_use nested_evmcs_use(struct kvm_vcpu *v, const char *insn, bool launch, int *ret)
{
	struct nested_evmcs *e = &nested_of(v)->evmcs;
	struct hv_assist_nested a;
	u8 page[EVMCS_SIZE];
	u32 version;
	bool known;

	if (!nested_evmcs_offered(v) || !hv_read_assist(v, &a) || !a.enlighten_vmentry) {
		nested_evmcs_release(v);
		return EVMCS_UNUSED;
	}
	if (!address_ok(v, a.current_nested_vmcs) ||
	    vcpu_read_guest(v, a.current_nested_vmcs, page, sizeof(page))) {
		*ret = bad_address(v, insn, a.current_nested_vmcs);
		return EVMCS_REFUSED;
	}
	/* Some versions of Hyper-V write what IA32_VMX_BASIC tells them. */
	version = load32(page, EVMCS_OFF_REVISION);
	if (version != EVMCS_VERSION && version != VMCS12_REVISION) {
		*ret = bad_version(v, insn, version);
		return EVMCS_REFUSED;
	}
	known = e->ptr == a.current_nested_vmcs;
	if (!known)
		activate(v, a.current_nested_vmcs);
	/* L1 may launch what it has only written: then nothing is known of it. */
	e->clean = known && !launch ? load32(page, EVMCS_OFF_CLEAN_FIELDS) & EVMCS_CLEAN_ALL : 0;
	if (!e->clean)
		kvm_stat_inc(v, nested_evmcs_full);
	kvm_stat_inc(v, nested_evmcs_entries);
	unpack(v, page, e->clean, false);
	take_synthetic(v, page, &a);
	/* The structure has no launch state: either instruction will do. */
	nested_of(v)->vmcs12->launched = !launch;
	return EVMCS_USED;
}

void nested_evmcs_entered(struct kvm_vcpu *v)
{
	static const u32 all = EVMCS_CLEAN_ALL;
	struct nested_evmcs *e = &nested_of(v)->evmcs;

	(void)vcpu_write_guest(v, e->ptr + EVMCS_OFF_CLEAN_FIELDS, &all, sizeof(all));
}

/*
 * Everything, whatever the clean fields say: they are only true at an entry. With the exit
 * information, or the first write back after KVM_SET_NESTED_STATE would change what L1 has there.
 */
void nested_evmcs_fetch(struct kvm_vcpu *v)
{
	u8 page[EVMCS_SIZE];

	if (!vcpu_read_guest(v, nested_of(v)->evmcs.ptr, page, sizeof(page)))
		unpack(v, page, 0, true);
}

bool nested_evmcs_left(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	struct hv_assist_nested a;

	if (!nested_evmcs_active(n) || n->evmcs.ptr == EVMCS_PENDING || n->need_shadow_sync ||
	    n->smm_guest_mode || is_guest_mode(v))
		return false;
	return !hv_read_assist(v, &a) || !a.enlighten_vmentry ||
	       a.current_nested_vmcs != n->evmcs.ptr;
}

/* ---- And back ---- */

/* What an exit changes (SDM vol. 3C, 28.2 and 28.3): guest state but for the link pointer, exit
 * information; of the controls, the guest's mode and the event that is injected no more. */
static bool changed_by_exit(u32 enc)
{
	switch (vmcs_type(enc)) {
	case VMCS_TYPE_GUEST: return enc != VMCS_LINK_POINTER;
	case VMCS_TYPE_EXIT_INFO: return enc != VM_INSTRUCTION_ERROR;
	default: return enc == VM_ENTRY_CONTROLS || enc == VM_ENTRY_INTR_INFO_FIELD;
	}
}

void nested_evmcs_store(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	unsigned start = 0, end = 0;
	u8 page[EVMCS_SIZE];

	nested_evmcs_resolve(v);
	if (n->evmcs.ptr == VMPTR_NONE)
		return;
	/* Neighbours go together. L1 may have taken the page away: its loss. */
	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++) {
		const struct evmcs_row *r = &layout[i];
		const struct vmcs12_field *f = &vmcs12_fields[r->nr];
		u64 val;

		if (!f->known || !changed_by_exit(r->encoding))
			continue;
		if (r->offset != end) {
			(void)vcpu_write_guest(v, n->evmcs.ptr + start, page + start, end - start);
			start = r->offset;
		}
		val = vmcs12_load(n->vmcs12, f->offset, vmcs_width(r->encoding));
		memcpy(page + r->offset, &val, BYTES_OF(r->encoding));
		end = r->offset + BYTES_OF(r->encoding);
	}
	(void)vcpu_write_guest(v, n->evmcs.ptr + start, page + start, end - start);
}

void nested_evmcs_store_field(struct kvm_vcpu *v, u32 encoding)
{
	struct nested_vmx *n = nested_of(v);

	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++) {
		const struct evmcs_row *r = &layout[i];
		u64 val;

		if (r->encoding != encoding)
			continue;
		val = vmcs12_read(n->vmcs12, encoding);
		(void)vcpu_write_guest(v, n->evmcs.ptr + r->offset, &val, BYTES_OF(encoding));
	}
}

/* ---- VMX instructions on it ---- */

bool nested_evmcs_vmclear(struct kvm_vcpu *v, u64 ptr)
{
	struct hv_assist_nested a;

	if (!nested_evmcs_offered(v))
		return false;
	if (ptr == nested_of(v)->evmcs.ptr) {
		nested_evmcs_release(v);
		return true;
	}
	/* An enlightened one that is not active, as far as anyone knows: it has no launch state,
	 * and a VMCS's place for it is some other field there. */
	return hv_read_assist(v, &a) && a.enlighten_vmentry;
}

bool nested_evmcs_read(struct kvm_vcpu *v, u32 encoding, u64 *val)
{
	const u64 ptr = nested_of(v)->evmcs.ptr;

	*val = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(layout); i++)
		if (layout[i].encoding == encoding)
			return !vcpu_read_guest(v, ptr + layout[i].offset, val, BYTES_OF(encoding));
	return false;
}

/* ---- Enlightened MSR bitmap ---- */

bool nested_evmcs_bitmap_is_clean(struct kvm_vcpu *v)
{
	const struct nested_evmcs *e = &nested_of(v)->evmcs;

	return e->bitmap_merged && e->ptr != VMPTR_NONE &&
	       (e->enlightenments & EVMCS_ENL_MSR_BITMAP) && (e->clean & EVMCS_CLEAN_MSR_BITMAP);
}

/* ---- Flushes that L2 asks of L0 ---- */

bool nested_evmcs_takes_vmcall(struct kvm_vcpu *v)
{
	return nested_of(v)->evmcs.direct_flush && hv_hypercalls_on(v) && hv_is_flush_hypercall(v);
}

void nested_evmcs_flushed(struct kvm_vcpu *v)
{
	u32 locked;

	/* L1 holds the TLB lock: it has to do its part before L2 runs on. */
	if (!vcpu_read_guest(v, nested_of(v)->evmcs.partition_assist, &locked, sizeof(locked)) &&
	    locked)
		nested_vmexit(v, EXIT_REASON_TRAP_AFTER_FLUSH, 0, 0);
}
