/* SPDX-License-Identifier: MIT */
/*
 * Where the fields of vmcs12 are. Three places can have the newest value:
 *	- vmcs12 itself, always for what is in `dirty` (L1 wrote it);
 *	- the shadow VMCS, for read-write shadowed fields, while L1 runs;
 *	- vmcs02, for rare guest-state fields after an exit (`rare_unsynced`).
 * docs/nested.md, "Where a field is".
 */
#include "core/vmx/nested/nested.h"

enum field_class { CLASS_COPY = 1, CLASS_SYNC = 2 };

static const u8 field_class[VMCS_NFIELDS] = {
#define COPY(name)	[VMCS_NR_##name] = CLASS_COPY,
#define COPY_SYNC(name) [VMCS_NR_##name] = CLASS_COPY | CLASS_SYNC,
#include "core/vmx/nested/nested_field.def"
};

bool nested_is_rare(unsigned nr)
{
	return field_class[nr] & CLASS_SYNC;
}

void nested_mark_dirty(struct nested_vmx *n, unsigned nr, u64 old, u64 val)
{
	u32 enc = vmcs12_fields[nr].encoding;
	/* Of a rare field vmcs12 has an old value, and the same is not the same. */
	bool stale = n->rare_unsynced && nested_is_rare(nr);

	if (old == val && !stale)
		return;
	if (field_class[nr] & CLASS_COPY)
		vmcs_set_add(&n->dirty, nr);
	n->check_dirty |= check_narrow(enc, stale ? ~0ull : old ^ val, check_topic(enc));
	if (vmcs_type(enc) == VMCS_TYPE_CONTROL)
		n->controls_dirty = true;
}

void nested_mark_all_dirty(struct nested_vmx *n)
{
	for (unsigned nr = 0; nr < VMCS_NFIELDS; nr++)
		if (field_class[nr] & CLASS_COPY)
			vmcs_set_add(&n->dirty, nr);
	n->check_dirty = T_ALL;
	n->controls_dirty = true;
}

/* ---- Rare fields ---- */

void nested_sync_rare(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	/* What L1 has written since is newer than what the processor saved. */
#define COPY(name)
#define COPY_SYNC(name)                               \
	if (!vmcs_set_has(&n->dirty, VMCS_NR_##name)) \
		V12_SET(n->vmcs12, name, vmcs_read(v, name));
#include "core/vmx/nested/nested_field.def"
	n->rare_unsynced = false;
	kvm_stat_inc(v, nested_rare_syncs);
}

/* The processor's current VMCS for a moment: no register in the cache is looked at meanwhile. */
static void load_vmcs_only(struct kvm_vcpu *v, void *vmcs)
{
	BUG_ON(sil_vmptrld(v->cpu, vmcs) != SIL_VMX_OK);
}

void nested_fetch_rare(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!n->rare_unsynced)
		return;
	BUG_ON(is_guest_mode(v));
	load_vmcs_only(v, n->vmcs02.vmcs);
	nested_sync_rare(v);
	load_vmcs_only(v, vmx_of(v)->vmcs01.vmcs);
}

/*
 * What L1 can write without an exit; with kvmless.shadow_read_only=0 what it can read, too. The
 * conditions are constants for each field but for the parameter.
 */
static inline bool copied_from_shadow(const struct kvm_vcpu *v, enum vmcs_shadow how)
{
	return how == SHADOW_RW ||
	       (how == SHADOW_RO && unlikely(!v->kvm->arch->params.kvmless_shadow_read_only));
}

void nested_shadow_init(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u32 fields[SIL_VMCS_LIST];
	unsigned count = 0;

#define VMCS(name, encoding, offset, how)                      \
	if (copied_from_shadow(v, how)) {                      \
		BUG_ON(count == SIL_VMCS_LIST);                \
		n->from_shadow_nr[count] = (u8)VMCS_NR_##name; \
		fields[count++] = name;                        \
	}
#include "spec/vmcs.def"
	BUG_ON(!sil_vmcs_list(v->kvm->machine, fields, count, &n->from_shadow));
	_Static_assert(VMCS_NFIELDS <= 256, "ordinals have eight bits");
}

/* What was not written since it was copied there is no news. */
void nested_shadow_to_vmcs12(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);
	u64 val[SIL_VMCS_LIST];

	if (!n->shadow_vmcs || n->need_shadow_sync || nested_evmcs_active(n))
		return;
	load_vmcs_only(v, n->shadow_vmcs);
	sil_vmread_list(v->cpu, &n->from_shadow, val);
	BUG_ON(sil_vmclear(v->cpu, n->shadow_vmcs) != SIL_VMX_OK);
	load_vmcs_only(v, vmx_of(v)->loaded->vmcs);
	for (unsigned i = 0; i < n->from_shadow.n; i++) {
		unsigned nr = n->from_shadow_nr[i];
		const struct vmcs12_field *f = &vmcs12_fields[nr];
		u64 old;

		if (likely(val[i] == n->in_shadow[nr]))
			continue;
		n->in_shadow[nr] = val[i];
		old = vmcs12_load(n->vmcs12, f->offset, vmcs_width(f->encoding));
		vmcs12_store(n->vmcs12, f->offset, vmcs_width(f->encoding), val[i]);
		nested_mark_dirty(n, nr, old, val[i]);
	}
}

/* Most fields are what they were: only the others are written. */
void nested_vmcs12_to_shadow(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (nested_evmcs_active(n)) {
		/* In SMM it is not L1 that runs. */
		if (kvm_is_smm(v))
			return;
		n->need_shadow_sync = false;
		nested_evmcs_store(v);
		return;
	}
	n->need_shadow_sync = false;
	if (!n->shadow_vmcs)
		return;
	load_vmcs_only(v, n->shadow_vmcs);
#define VMCS(name, encoding, offset, how)                                      \
	if (how != SHADOW_NO) {                                                \
		u64 val = V12(n->vmcs12, name);                                \
                                                                               \
		if (n->in_shadow[VMCS_NR_##name] != val || !n->shadow_known) { \
			n->in_shadow[VMCS_NR_##name] = val;                    \
			vmcs_write(v, name, val);                              \
		}                                                              \
	}
#include "spec/vmcs.def"
	n->shadow_known = true;
	BUG_ON(sil_vmclear(v->cpu, n->shadow_vmcs) != SIL_VMX_OK);
	load_vmcs_only(v, vmx_of(v)->loaded->vmcs);
}

void nested_shadow_write(struct kvm_vcpu *v, unsigned nr, u64 val)
{
	struct nested_vmx *n = nested_of(v);

	/* If vmcs12 is to be copied as a whole before L1 runs, that does it. */
	if (!n->shadow_vmcs || n->need_shadow_sync)
		return;
	load_vmcs_only(v, n->shadow_vmcs);
	n->in_shadow[nr] = val;
	vmcs_write(v, vmcs12_fields[nr].encoding, val);
	BUG_ON(sil_vmclear(v->cpu, n->shadow_vmcs) != SIL_VMX_OK);
	load_vmcs_only(v, vmx_of(v)->loaded->vmcs);
}

static void shadowing_on(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (!n->shadow_vmcs)
		return;
	vmx_cpu2_setbit(v, SECONDARY_EXEC_SHADOW_VMCS);
	vmcs_write(v, VMCS_LINK_POINTER, (u64)n->shadow_vmcs);
	n->need_shadow_sync = true;
}

static void shadowing_off(struct kvm_vcpu *v)
{
	if (!nested_of(v)->shadow_vmcs)
		return;
	vmx_cpu2_clearbit(v, SECONDARY_EXEC_SHADOW_VMCS);
	vmcs_write(v, VMCS_LINK_POINTER, ~0ull);
	nested_of(v)->need_shadow_sync = false;
}

/* ---- The current VMCS of L1 ---- */

void nested_set_vmptr(struct kvm_vcpu *v, u64 vmptr)
{
	struct nested_vmx *n = nested_of(v);

	n->current_vmptr = vmptr;
	n->check.current_vmcs = vmptr;
	n->rare_unsynced = false;
	shadowing_on(v);
	nested_mark_all_dirty(n);
}

void nested_release_vmcs12(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (n->current_vmptr == VMPTR_NONE)
		return;
	nested_fetch_rare(v);
	nested_shadow_to_vmcs12(v);
	shadowing_off(v);
	/* L1 may have taken the page away meanwhile: its loss. */
	(void)vcpu_write_guest(v, n->current_vmptr, n->vmcs12, VMCS12_SIZE);
	n->current_vmptr = VMPTR_NONE;
}

/* ---- L1's own shadow VMCS: what L2's VMREADs and VMWRITEs reach ---- */

static bool links_shadow(const struct vmcs12 *v12)
{
	return v12_cpu2(v12, SECONDARY_EXEC_SHADOW_VMCS) && V12(v12, VMCS_LINK_POINTER) != ~0ull;
}

void nested_cache_shadow_vmcs12(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (links_shadow(n->vmcs12))
		(void)vcpu_read_guest(v, V12(n->vmcs12, VMCS_LINK_POINTER), n->shadow_vmcs12,
				      VMCS12_SIZE);
}

void nested_flush_shadow_vmcs12(struct kvm_vcpu *v)
{
	struct nested_vmx *n = nested_of(v);

	if (links_shadow(n->vmcs12))
		(void)vcpu_write_guest(v, V12(n->vmcs12, VMCS_LINK_POINTER), n->shadow_vmcs12,
				       VMCS12_SIZE);
}
