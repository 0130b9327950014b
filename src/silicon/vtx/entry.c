// SPDX-License-Identifier: MIT
/* VM entry (SDM vol. 3C, chapter 27): checks, loading of guest state, event injection. */
#include "silicon/vtx/vtx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "isa/feat.h"

/* ---- Readers for the checks ---------------------------------------------------------------- */

static u64 check_read(const void *vmcs, u32 field)
{
	return vmcs_read(vmcs, field);
}

static int check_vmcs_rev(const void *vmcs, u64 pa, u32 *rev)
{
	*rev = ((const struct vmcs_region *)pa)->revision;
	return 0;
}

static int check_read_pa(const void *vmcs, u64 pa, void *buf, unsigned size)
{
	memcpy(buf, (const void *)pa, size);
	return 0;
}

static int vtx_cpu_init(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = calloc(1, sizeof(*v));
	const struct vtx_machine *vm = vtx_machine_of(cpu->m);

	if (!v)
		return -ENOMEM;
	v->where = vm->where;
	v->base[VMCS_IN_CPU] = (u8 *)&cpu->c;
	v->base[VMCS_IN_RSP] = (u8 *)&cpu->c.r.gpr[RSP];
	v->root_efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->root_pat = 0x0007040600070406;
	v->timer_armed = ~0ull;
	v->check = (struct check_ctx){
		.read = check_read,
		.vmcs = cpu,
		.vmx_msr = vm->cap,
		.maxphyaddr = cpu->m->maxphyaddr,
		.va_bits = cpu_cr4_supported(cpu->m) & CR4_LA57 ? 57 : 48,
		.cr4_supported = 0,
		.efer_supported = cpu_efer_supported(cpu->m),
		.debugctl_supported = VTX_DEBUGCTL_BITS,
		.host_is_64bit = true,
		.vmcs_rev = check_vmcs_rev,
		.read_pa = check_read_pa,
	};
	cpu->vendor = v;
	return 0;
}

static void vtx_cpu_fini(struct sil_cpu *cpu)
{
	free(cpu->vendor);
	cpu->vendor = NULL;
}

/* ---- Parts of an entry --------------------------------------------------------------------- */

void vtx_load_world(struct sil_cpu *cpu)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_region *r = v->cur;
	struct sil_world *w = &cpu->world;

	w->vpid = v->cpu2 & SECONDARY_EXEC_ENABLE_VPID ? VF(r, VIRTUAL_PROCESSOR_ID) : 0;
	if (v->cpu2 & SECONDARY_EXEC_ENABLE_EPT) {
		u64 eptp = VF(r, EPT_POINTER);

		w->nested = SIL_NESTED_EPT;
		w->nested_levels = bits_get(eptp, 5, 3) + 1;
		w->ept_ad = eptp & EPTP_AD;
		w->nested_root = eptp & EPT_ADDR_MASK;
	} else {
		w->nested = SIL_NESTED_NONE;
		w->nested_root = 0;
		w->ept_ad = false;
	}
	w->ept_mbec = v->cpu2 & SECONDARY_EXEC_MODE_BASED_EPT_EXEC;
	w->pml = v->cpu2 & SECONDARY_EXEC_ENABLE_PML;
	w->apic_page = v->cpu2 & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES ? VF(r, APIC_ACCESS_ADDR)
									 : SIL_NO_PAGE;
}

void vtx_update_attention(struct sil_cpu *cpu)
{
	const struct vtx_cpu *v = vtx_of(cpu);

	cpu->attention =
		(v->cpu1 & (CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING)) |
		vapic_waiting(cpu);
}

static void load_controls(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_region *r = v->cur;

	v->pin = VF(r, PIN_BASED_VM_EXEC_CONTROL);
	v->cpu1 = VF(r, CPU_BASED_VM_EXEC_CONTROL);
	v->cpu2 = v->cpu1 & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS ? VF(r, SECONDARY_VM_EXEC_CONTROL)
								  : 0;
	v->exitc = VF(r, VM_EXIT_CONTROLS);
	v->entryc = VF(r, VM_ENTRY_CONTROLS);
}

/* 27.3.2.1. Returns whether something that the engine derives from has changed. */
static bool load_msrs(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct vmcs_region *r = v->cur;
	struct isa_sys *s = &cpu->c.s;
	u64 efer, dr7 = 0x400, debugctl = 0;
	bool changed = false;

	if (v->entryc & VM_ENTRY_LOAD_IA32_EFER) {
		efer = VF(r, GUEST_IA32_EFER);
	} else {
		bool lma = v->entryc & VM_ENTRY_IA32E_MODE;

		efer = (v->root_efer & ~EFER_LMA) | (lma ? EFER_LMA : 0);
		if (s->cr0 & CR0_PG)
			efer = (efer & ~EFER_LME) | (lma ? EFER_LME : 0);
	}
	if (v->entryc & VM_ENTRY_LOAD_DEBUG_CONTROLS) {
		dr7 = (VF(r, GUEST_DR7) & ~(BIT(12) | BIT(14) | BIT(15))) | 0x400;
		debugctl = VF(r, GUEST_IA32_DEBUGCTL);
	}
	changed = s->efer != efer || s->dr7 != dr7 || s->debugctl != debugctl;
	s->efer = efer;
	s->dr7 = dr7;
	s->debugctl = debugctl;
	s->pat = v->entryc & VM_ENTRY_LOAD_IA32_PAT ? VF(r, GUEST_IA32_PAT) : v->root_pat;
	return changed;
}

/* What the controls take away from CPUID's features: these instructions are #UD (26.3). */
static void load_features(struct sil_cpu *cpu)
{
	static const struct {
		u32 control;
		enum isa_feat feat;
	} gates[] = {
		{SECONDARY_EXEC_ENABLE_RDTSCP, FEAT_RDTSCP},
		{SECONDARY_EXEC_ENABLE_RDTSCP, FEAT_RDPID},
		{SECONDARY_EXEC_ENABLE_INVPCID, FEAT_INVPCID},
		{SECONDARY_EXEC_ENABLE_XSAVES, FEAT_XSAVES},
	};
	struct vtx_cpu *v = vtx_of(cpu);

	if (!v->has_known) {
		for (unsigned i = 0; i < ARRAY_SIZE(gates); i++)
			v->has |= isa_has(&cpu->c, gates[i].feat) << i;
		v->has_known = true;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(gates); i++)
		isa_feat_set(&cpu->c, gates[i].feat,
			     (v->cpu2 & gates[i].control) && (v->has >> i & 1));
}

/* For translated code: which instructions nothing takes, and what RDTSC does then. */
static void load_untrapped(struct sil_cpu *cpu)
{
	const struct vtx_cpu *v = vtx_of(cpu);
	bool offset = v->cpu1 & CPU_BASED_USE_TSC_OFFSETTING;

	cpu->tsc_offset = offset ? VF(v->cur, TSC_OFFSET) : 0;
	if ((v->cpu1 & CPU_BASED_RDTSC_EXITING) ||
	    (offset && (v->cpu2 & SECONDARY_EXEC_TSC_SCALING) &&
	     VF(v->cur, TSC_MULTIPLIER) != BIT(48)))
		cpu->tsc_limit = 0;
	else
		cpu->tsc_limit =
			v->pin & PIN_BASED_VMX_PREEMPTION_TIMER ? v->timer_deadline : ~0ull;
	cpu->untrapped = UNTRAPPED_INT;
	if (!(v->cpu1 & CPU_BASED_CR3_STORE_EXITING))
		cpu->untrapped |= UNTRAPPED_CR3_STORE;
	if (!(v->cpu1 & CPU_BASED_CR3_LOAD_EXITING))
		cpu->untrapped |= UNTRAPPED_CR3_LOAD;
	if (!(v->cpu1 & CPU_BASED_INVLPG_EXITING))
		cpu->untrapped |= UNTRAPPED_INVLPG;
	if (!(v->cpu1 & CPU_BASED_PAUSE_EXITING) && !(v->cpu2 & SECONDARY_EXEC_PAUSE_LOOP_EXITING))
		cpu->untrapped |= UNTRAPPED_PAUSE;
	if (!(VF(v->cur, EXCEPTION_BITMAP) & BIT(X86_BP)))
		cpu->untrapped |= UNTRAPPED_BP;
}

/* 27.6, 27.7: the event to deliver, and what injection does to the rest of the state. */
static void inject(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	struct isa_sys *s = &cpu->c.s;
	u32 info = VF(v->cur, VM_ENTRY_INTR_INFO_FIELD);
	struct isa_event ev = {
		.vector = info & INTR_INFO_VECTOR_MASK,
		.type = bits_get(info, 10, 8),
	};

	if (ev.type == 7) {
		/* 27.6.2: an MTF exit before anything else; blocking and activity stay. */
		v->mtf_event = true;
		return;
	}
	if (info & INTR_INFO_DELIVER_ERR_CODE) {
		ev.has_error = true;
		ev.error = VF(v->cur, VM_ENTRY_EXCEPTION_ERROR_CODE);
	}
	if (ev.type >= EV_SW_INT)
		ev.insn_len = VF(v->cur, VM_ENTRY_INSTRUCTION_LEN);
	/* 27.7.3 */
	if (ev.type < EV_SW_INT || !(s->interruptibility & ISA_BLOCK_MOVSS))
		s->pending_dbg = 0;
	/* 27.7.1, 27.7.2 */
	s->interruptibility &= ~(u32)(ISA_BLOCK_STI | ISA_BLOCK_MOVSS);
	s->activity = ISA_ACTIVE;
	engine_inject(cpu, &ev);
}

/* 27.7.4: the timer counts from the end of the entry. */
static void start_timer(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);
	const struct sil_config *cfg = &cpu->m->cfg;
	u64 ticks = VF(v->cur, VMX_PREEMPTION_TIMER_VALUE);

	v->timer_deadline = sil_host_tsc(cpu->m) + (ticks << VTX_TIMER_SHIFT);
	v->timer_fresh = ticks != 0;
	if (ticks && v->timer_deadline < v->timer_armed) {
		/* A later deadline keeps the old request: when that fires, pending re-arms. */
		v->timer_armed = v->timer_deadline;
		cfg->host->arm_timer(cfg->host_opaque, cpu, v->timer_deadline);
	}
}

/* ---- Failures ------------------------------------------------------------------------------ */

static enum sil_vmx fail_check(struct sil_cpu *cpu)
{
	struct vtx_cpu *v = vtx_of(cpu);

	v->failed = true;
	cpu->n.vm_entry_failures++;
	return vtx_fail(cpu, v->failure.insn_error);
}

/* 27.8: guest state is not saved, and injection stays valid. */
static enum sil_vmx fail_late(struct sil_cpu *cpu, u32 reason, u64 qual)
{
	struct vtx_cpu *v = vtx_of(cpu);

	v->failed = true;
	cpu->n.vm_entry_failures++;
	cpu->n.exits[reason]++;
	VF(v->cur, VM_EXIT_REASON) = reason | VMX_EXIT_REASON_FAILED_VMENTRY;
	VF(v->cur, EXIT_QUALIFICATION) = qual;
	return SIL_VMX_OK;
}

static __noinline enum sil_vmx fail_msr_load(struct sil_cpu *cpu, u32 entry)
{
	struct vtx_cpu *v = vtx_of(cpu);

	v->failure = (struct check_failure){
		.id = "ENTRY_MSR_LOAD_ENTRY",
		.rule = "each entry of the VM-entry MSR-load area can be written with WRMSR",
		.section = "27.4",
		.group = CHECK_GUEST,
		.field = VM_ENTRY_MSR_LOAD_ADDR,
		.value = VF(v->cur, VM_ENTRY_MSR_LOAD_ADDR) + (entry - 1) * 16,
		.qualification = entry,
	};
	return fail_late(cpu, EXIT_REASON_MSR_LOAD_FAIL, entry);
}

/* ---- VMLAUNCH, VMRESUME -------------------------------------------------------------------- */

/* Topics whose fields the engine derives nothing from. */
#define T_QUIET (T_INJECT | T_TPR | T_LISTS | T_HOST | T_RIP | T_LINK | T_WINDOW | T_MEMORY)

static enum sil_vmx enter(struct sil_cpu *cpu, enum vmcs_launch want)
{
	struct vtx_cpu *v = vtx_of(cpu);
	struct vmcs_region *r = v->cur;
	u32 dirty, entry;
	bool changed;

	if (unlikely(!r || (r->revision & VMCS_SHADOW_VMCS)))
		return SIL_VMX_FAIL_INVALID;
	if (unlikely(r->launch != want))
		return vtx_fail_because(cpu,
					want == VMCS_CLEAR ? VMXERR_VMLAUNCH_NONCLEAR_VMCS
							   : VMXERR_VMRESUME_NONLAUNCHED_VMCS,
					"LAUNCH_STATE",
					"VMLAUNCH needs a clear VMCS, VMRESUME a launched one",
					"27.1", ~0u, r->launch);
	load_controls(cpu);
	dirty = (T_ALL & ~T_MEMORY & ~r->clean) |
		check_memory_topics(v->cpu1, v->cpu2, VF(r, TPR_THRESHOLD),
				    VF(r, VMCS_LINK_POINTER));
	if (dirty) {
		v->check.current_vmcs = (u64)r;
		if (unlikely(!check_run_topics(CHECK_CONTROLS, dirty, &v->check, &v->failure) ||
			     !check_run_topics(CHECK_HOST, dirty, &v->check, &v->failure)))
			return fail_check(cpu);
		if (unlikely(!check_run_topics(CHECK_GUEST, dirty, &v->check, &v->failure)))
			return fail_late(cpu, EXIT_REASON_INVALID_STATE, v->failure.qualification);
	}

	changed = v->stale || (dirty & ~T_QUIET);
	if (unlikely(v->stale || (dirty & T_CTL))) {
		vtx_load_world(cpu);
		load_features(cpu);
	}
	changed |= load_msrs(cpu);
	isa_set_flags(&cpu->c, cpu->c.s.rflags);
	cpu->step_exits = v->cpu1 & CPU_BASED_MONITOR_TRAP_FLAG;
	if (unlikely(cpu->step_exits != v->was_stepping)) {
		v->was_stepping = cpu->step_exits;
		changed = true;
	}
	/* 29.4.3.1: without VPIDs, every entry starts with no linear and combined mappings. */
	if (!(v->cpu2 & SECONDARY_EXEC_ENABLE_VPID))
		tlb_flush_vpid(cpu, 0, false);
	if (changed)
		cpu_context_changed(cpu);
	if (unlikely((cpu->c.s.cr0 & CR0_PG) && (cpu->c.s.cr4 & CR4_PAE) &&
		     !(cpu->c.s.efer & EFER_LMA) && !(v->cpu2 & SECONDARY_EXEC_ENABLE_EPT)))
		memcpy(cpu->c.s.pdptr, (void *)(cpu->c.s.cr3 & BITS(31, 5)),
		       sizeof(cpu->c.s.pdptr));
	v->stale = true; /* until the context is known to be this VMCS's */
	if (unlikely(VF(r, VM_ENTRY_MSR_LOAD_COUNT))) {
		entry = vtx_msr_load(cpu, VF(r, VM_ENTRY_MSR_LOAD_ADDR),
				     VF(r, VM_ENTRY_MSR_LOAD_COUNT));
		if (entry)
			return fail_msr_load(cpu, entry);
	}
	v->stale = false;
	r->launch = VMCS_LAUNCHED;
	r->clean = T_ALL;

	v->exited = false;
	v->mtf_event = false;
	v->tpr_exit = false;
	v->iret_unblocked = false;
	v->apic_write = false;
	v->ple_last = 0;
	if (VF(r, VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID)
		inject(cpu);
	if (unlikely(v->cpu1 & CPU_BASED_TPR_SHADOW))
		vapic_enter(cpu);
	if (unlikely(v->pin & PIN_BASED_VMX_PREEMPTION_TIMER))
		start_timer(cpu);
	load_untrapped(cpu);
	vtx_update_attention(cpu);

	cpu->n.vm_entries++;
	/* The engine starts with an instruction boundary: pending and trap_exits are asked. */
	engine_run(cpu);
	BUG_ON(!v->exited);
	vtx_finish_exit(cpu);
	return SIL_VMX_OK;
}

enum sil_vmx sil_vmlaunch(struct sil_cpu *cpu)
{
	return enter(cpu, VMCS_CLEAR);
}

enum sil_vmx sil_vmresume(struct sil_cpu *cpu)
{
	return enter(cpu, VMCS_LAUNCHED);
}

/* ---- INVEPT, INVVPID (31.3) ---------------------------------------------------------------- */

static enum sil_vmx bad_operand(struct sil_cpu *cpu, const char *id, const char *rule, u64 value)
{
	return vtx_fail_because(cpu, VMXERR_INVALID_OPERAND_TO_INVEPT_INVVPID, id, rule, "31.3",
				~0u, value);
}

enum sil_vmx sil_invept(struct sil_cpu *cpu, unsigned type, u64 eptp)
{
	cpu->n.invept++;
	switch (type) {
	case INVEPT_SINGLE:
		if ((eptp & BITS(11, 7)) || ((eptp & 7) != 0 && (eptp & 7) != 6) ||
		    (bits_get(eptp, 5, 3) != 3 && bits_get(eptp, 5, 3) != 4) ||
		    eptp >> cpu->m->maxphyaddr)
			return bad_operand(cpu, "INVEPT_EPTP",
					   "the EPT pointer is one that VM entry accepts", eptp);
		tlb_flush_nested(cpu, eptp & EPT_ADDR_MASK);
		return SIL_VMX_OK;
	case INVEPT_GLOBAL: tlb_flush_all(cpu); return SIL_VMX_OK;
	default: return bad_operand(cpu, "INVEPT_TYPE", "the type is 1 or 2", type);
	}
}

enum sil_vmx sil_invvpid(struct sil_cpu *cpu, unsigned type, u16 vpid, u64 la)
{
	cpu->n.invvpid++;
	if (type != INVVPID_ALL && type <= INVVPID_SINGLE_RETAIN_GLOBAL && !vpid)
		return bad_operand(cpu, "INVVPID_VPID", "the VPID is not 0", vpid);
	switch (type) {
	case INVVPID_ADDR:
		if (!is_canonical(la, vtx_of(cpu)->check.va_bits))
			return bad_operand(cpu, "INVVPID_ADDRESS", "the address is canonical", la);
		tlb_flush_page(cpu, vpid, la);
		return SIL_VMX_OK;
	case INVVPID_SINGLE: tlb_flush_vpid(cpu, vpid, false); return SIL_VMX_OK;
	case INVVPID_ALL: tlb_flush_vpids(cpu); return SIL_VMX_OK;
	case INVVPID_SINGLE_RETAIN_GLOBAL: tlb_flush_vpid(cpu, vpid, true); return SIL_VMX_OK;
	default: return bad_operand(cpu, "INVVPID_TYPE", "the type is 0 to 3", type);
	}
}

const struct sil_virt_ops vtx_virt_ops = {
	.vendor = SIL_INTEL,
	.isa = &vtx_isa_ops,
	.machine_init = vtx_machine_init,
	.machine_fini = vtx_machine_fini,
	.cpu_init = vtx_cpu_init,
	.cpu_fini = vtx_cpu_fini,
	.root_rdmsr = vtx_root_rdmsr,
	.lean_vmx = vtx_lean_vmx,
	.lean_pause = vtx_lean_pause,
	.exception = vtx_exception,
	.triple_fault = vtx_triple_fault,
	.trap_exits = vtx_trap_exits,
	.pending = vtx_pending,
	.no_boundary = vtx_no_boundary,
	.ept_violation = vtx_ept_violation,
	.ept_misconfig = vtx_ept_misconfig,
	.pml = vtx_pml,
	.apic_access = vtx_apic_access,
};
