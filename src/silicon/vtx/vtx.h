/* SPDX-License-Identifier: MIT */
/*
 * VT-x as hardware (SDM vol. 3C): what its files share. The doors are silicon.h (VMX instructions
 * in root mode) and vtx_virt_ops (cpu/cpu.h).
 *
 * The guest-state fields that are loaded and saved by every entry and exit have their home in
 * struct isa_cpu while their VMCS is current: VMREAD and VMWRITE reach them there and entries copy
 * nothing. All other fields are slots of the VMCS region, in the order of spec/vmcs.def.
 */
#ifndef SILICON_VTX_VTX_H
#define SILICON_VTX_VTX_H

#include <assert.h>

#include "silicon/cpu/cpu.h"
#include "spec/check.h"
#include "spec/vmcs.h"
#include "spec/vmx.h"

/* ---- VMCS regions (vmcs.c) --------------------------------------------------------------------
 */

enum vmcs_slot {
#define VMCS(name, encoding, vmcs12, shadow) SLOT_##name,
#include "spec/vmcs.def"
	VMCS_NSLOTS,
};

enum vmcs_launch { VMCS_CLEAR, VMCS_LAUNCHED };

/* The 4 KiB page of a VMCS. Only the first two words are the architecture's (25.2). */
struct vmcs_region {
	u32 revision; /* bit 31: shadow VMCS */
	u32 abort;
	u32 launch; /* enum vmcs_launch */
	u32 clean;  /* enum check_topic: not written since the checks last held */
	/* Homes of a VMCS that is not current. */
	u64 rsp;
	struct isa_sys sys;
	u64 f[VMCS_NSLOTS];
};
static_assert(sizeof(struct vmcs_region) <= PAGE_SIZE, "a VMCS region is one page");
static_assert(offsetof(struct vmcs_region, abort) == 4, "25.2");

#define VMCS_REVISION	 0x4du
#define VMCS_SHADOW_VMCS BIT(31)
/* A field of region @r that has no home in struct isa_cpu. */
#define VF(r, field) ((r)->f[SLOT_##field])

/* Where a field is, by VMCS_KEY of its encoding. */
enum vmcs_base { VMCS_IN_REGION, VMCS_IN_CPU, VMCS_IN_RSP, VMCS_NBASES };
struct vmcs_where {
	u16 offset; /* of base */
	u8 size;    /* 0: no such field */
	u8 base;
	u32 topics; /* check_topic */
};
#define VMCS_NKEYS 1024
/* Index, type and width; bits that encode nothing must be 0. */
#define VMCS_KEY(enc)	    (((enc) >> 1 & 0x3f) | ((enc) >> 10 & 3) << 6 | ((enc) >> 13 & 3) << 8)
#define VMCS_ENC_VALID_BITS 0x6c7fu

struct vtx_machine {
	u64 cap[CAP_N]; /* IA32_VMX_BASIC... */
	struct vmcs_where where[VMCS_NKEYS];
};

static __always_inline_ const struct vmcs_where *vmcs_lookup(const struct vmcs_where *where,
							     u32 field)
{
	const struct vmcs_where *w;

	if (unlikely(field & ~VMCS_ENC_VALID_BITS))
		return NULL;
	w = &where[VMCS_KEY(field)];
	/* Only 64-bit fields have a HIGH half to be accessed by itself (25.11.2). */
	if (unlikely(!w->size || (vmcs_is_high(field) && vmcs_width(field) != VMCS_WIDTH_64)))
		return NULL;
	return w;
}

static __always_inline_ u64 vmcs_load(const struct vmcs_where *w, u8 *const base[], u32 field)
{
	const u8 *p = base[w->base] + w->offset;
	u64 v;

	switch (w->size) {
	case 2: v = *(const u16 *)p; break;
	case 4: v = *(const u32 *)p; break;
	default: v = *(const u64 *)p; break;
	}
	return vmcs_is_high(field) ? v >> 32 : v;
}

/* Returns whether the field changed. */
static __always_inline_ bool vmcs_store(const struct vmcs_where *w, u8 *const base[], u32 field,
					u64 val)
{
	u8 *p = base[w->base] + w->offset;
	u64 old;

	switch (w->size) {
	case 2:
		old = *(u16 *)p;
		*(u16 *)p = val;
		return old != (u16)val;
	case 4:
		old = *(u32 *)p;
		*(u32 *)p = val;
		return old != (u32)val;
	default: break;
	}
	old = *(u64 *)p;
	switch (vmcs_width(field)) {
	case VMCS_WIDTH_16: val &= 0xffff; break;
	case VMCS_WIDTH_32: val &= 0xffffffff; break;
	case VMCS_WIDTH_64:
		if (vmcs_is_high(field))
			val = val << 32 | (u32)old;
		break;
	case VMCS_WIDTH_NATURAL: break;
	}
	*(u64 *)p = val;
	return old != val;
}

/* The homes of a region that is not current are its copies of them. */
static inline void vmcs_region_bases(struct vmcs_region *r, u8 *base[])
{
	base[VMCS_IN_REGION] = (u8 *)r;
	base[VMCS_IN_CPU] = (u8 *)&r->sys - offsetof(struct isa_cpu, s);
	base[VMCS_IN_RSP] = (u8 *)&r->rsp;
}

/* Preemption timer: TSC >> this (IA32_VMX_MISC[4:0]). */
#define VTX_TIMER_SHIFT	  5
#define VTX_CR3_TARGETS	  4
#define VTX_DEBUGCTL_BITS (BIT(0) | BIT(1)) /* LBR, BTF */
/* Core crystal clock: TSC >> this. An instruction timeout (26.2) is that many of its cycles longer
 * than the VMCS says. */
#define VTX_CRYSTAL_SHIFT 6
#define VTX_TIMEOUT_MIN	  1000
/* The vector that an acknowledged kick reports. */
#define VTX_KICK_VECTOR 0xf0

struct vtx_cpu {
	struct vmcs_region *cur; /* NULL: no current VMCS */
	/* Whose homes struct isa_cpu has: cur, or what was current before a shadow VMCS, whose
	 * fields stay in its region because nothing can be entered with it. */
	struct vmcs_region *home;
	u8 *base[VMCS_NBASES]; /* of cur; see struct vmcs_where */
	const struct vmcs_where *where;

	/* The controls of cur in this stay in the guest; secondary ones as 0 if not activated. */
	u32 pin, cpu1, cpu2, exitc, entryc;

	/* Root's values of what entries load only if a control says so. */
	u64 root_efer, root_pat;

	bool exited;	     /* an exit has been recorded */
	bool mtf_event;	     /* MTF exit pending from injection: 27.7.8 */
	bool iret_unblocked; /* the IRET under way has ended NMI blocking */
	bool tpr_exit;	     /* TPR-below-threshold exit pending */
	bool stale;	     /* a VMCS was made current: all of the context is new */
	bool was_stepping;   /* cpu->step_exits of the last entry */
	bool has_known;
	u32 has;	 /* features of the hardware that controls can take away (entry.c) */
	bool apic_write; /* APIC-write exit or emulation pending at apic_offset */
	u32 apic_offset;
	u64 timer_deadline;	 /* of the preemption timer, host TSC */
	u64 timer_armed;	 /* what arm_timer was last told; ~0: nothing */
	bool timer_fresh;	 /* set at an entry whose own boundary may be still to come */
	u64 ple_first, ple_last; /* PAUSE-loop exiting: 26.1.3; 0: none since VM entry */
	u64 stall_tsc;		 /* when the first of the deliveries that raise the next ended */

	bool failed;
	struct check_failure failure;
	struct check_ctx check;
};

static inline struct vtx_cpu *vtx_of(const struct sil_cpu *cpu)
{
	return cpu->vendor;
}

static inline struct vtx_machine *vtx_machine_of(const struct sil_machine *m)
{
	return m->vendor;
}

/* 26.1.3, PAUSE at @now: a loop is executions at most PLE_Gap apart, too long after PLE_Window;
 * then false. The first one after VM entry begins a loop. */
static inline bool vtx_ple_goes_on(struct vtx_cpu *v, u64 now)
{
	u64 first = v->ple_first;

	if (!v->ple_last || now - v->ple_last > VF(v->cur, PLE_GAP))
		first = now;
	if (now - first > VF(v->cur, PLE_WINDOW))
		return false;
	v->ple_first = first;
	v->ple_last = now;
	return true;
}

void vmcs_init_where(struct vtx_machine *vm);
/* VMREAD of any existing field of the current VMCS, 0 for others. */
u64 vmcs_read(const struct sil_cpu *cpu, u32 field);
/* As VMREAD and VMWRITE on a region that is not current; false: no such field. */
bool vmcs_region_read(const struct vtx_machine *vm, const struct vmcs_region *r, u32 field,
		      u64 *val);
bool vmcs_region_write(const struct vtx_machine *vm, struct vmcs_region *r, u32 field, u64 val);
/* VMfailValid with @error if a VMCS is current, else VMfailInvalid (31.2). */
enum sil_vmx vtx_fail(struct sil_cpu *cpu, u32 error);
/* As vtx_fail, explained. */
enum sil_vmx vtx_fail_because(struct sil_cpu *cpu, u32 error, const char *id, const char *rule,
			      const char *section, u32 field, u64 value);

/* ---- Capabilities (caps.c) --------------------------------------------------------------------
 */

int vtx_machine_init(struct sil_machine *m);
void vtx_machine_fini(struct sil_machine *m);
int vtx_root_rdmsr(const struct sil_machine *m, u32 index, u64 *val);

/* ---- Entry (entry.c) and exit (exit.c) ---------------------------------------------------------
 */

/* EPTP, VPID, APIC-access page of the current VMCS into cpu->world. */
void vtx_load_world(struct sil_cpu *cpu);
/* What may hold events back or must be looked at, of the current controls. */
void vtx_update_attention(struct sil_cpu *cpu);

/*
 * Records a VM exit and leaves the guest. Each takes the instruction length and RIP from the
 * engine. vtx_exit is for exits that fill nothing but the qualification.
 */
__noreturn void vtx_exit(struct sil_cpu *cpu, enum vmx_exit_reason reason, u64 qual);
/* Likewise with instruction information (28.2.5). */
__noreturn void vtx_exit_info(struct sil_cpu *cpu, enum vmx_exit_reason reason, u64 qual, u32 info);
/* The fields that vtx_exit writes, for callers that add others before vtx_leave. */
void vtx_record(struct sil_cpu *cpu, u32 reason, u64 qual);
__noreturn void vtx_leave(struct sil_cpu *cpu);
/* After engine_run: saves what the exit controls say, IDT-vectoring information, MSR lists. */
void vtx_finish_exit(struct sil_cpu *cpu);
/* Loads the MSR list at @addr: 0, or the number of the first entry that is refused (27.4). */
u32 vtx_msr_load(struct sil_cpu *cpu, hpa_t addr, u32 count);

void vtx_exception(struct sil_cpu *cpu, const struct isa_event *ev);
__noreturn void vtx_triple_fault(struct sil_cpu *cpu);
void vtx_trap_exits(struct sil_cpu *cpu);
void vtx_pending(struct sil_cpu *cpu);
void vtx_no_boundary(struct sil_cpu *cpu, u32 n);
__noreturn void vtx_ept_violation(struct sil_cpu *cpu, gpa_t gpa, u64 la, u64 qual);
__noreturn void vtx_ept_misconfig(struct sil_cpu *cpu, gpa_t gpa);
void vtx_pml(struct sil_cpu *cpu, gpa_t gpa);
/* If an IRET under way has ended NMI blocking as it faults or exits (28.2.3): bit 12. */
u32 vtx_nmi_unblock(struct sil_cpu *cpu);

/* ---- Intercepts (intercept.c, cr.c, io.c, vmxinsn.c) --------------------------------------------
 */

extern const struct isa_ops vtx_isa_ops;
void vtx_intercept(struct isa_cpu *c, enum isa_icpt what, u64 arg);
u64 vtx_read_cr(struct isa_cpu *c, unsigned n, unsigned gpr);
void vtx_write_cr(struct isa_cpu *c, unsigned n, u64 val, unsigned gpr);
void vtx_clts(struct sil_cpu *cpu);
void vtx_lmsw(struct sil_cpu *cpu, u16 source);
void vtx_port_in(struct isa_cpu *c, u16 port, void *dst, unsigned size, u64 la);
void vtx_port_out(struct isa_cpu *c, u16 port, const void *src, unsigned size, u64 la);
u64 vtx_rdmsr(struct isa_cpu *c, u32 index);
void vtx_wrmsr(struct isa_cpu *c, u32 index, u64 val);
u64 vtx_rdtsc(struct isa_cpu *c);
void vtx_pause(struct isa_cpu *c);
void vtx_vmx_intercept(struct sil_cpu *cpu);
bool vtx_lean_vmx(struct sil_cpu *cpu, const struct isa_insn *i);
bool vtx_lean_pause(struct sil_cpu *cpu);
void vtx_vmx(struct isa_cpu *c, const struct isa_insn *i);
/* Does the MSR bitmap (or its absence) want an exit? */
bool vtx_msr_exits(const struct sil_cpu *cpu, u32 index, bool write);

/* Parts of the instruction-information field (insninfo.c; tables 28-8 to 28-15). */
u32 info_mem(const struct isa_insn *i);
u32 info_mem_reg2(const struct isa_insn *i, unsigned reg);
/* Displacement of the memory operand as the qualification has it: 28.2.1. */
u64 info_displacement(const struct isa_cpu *c, const struct isa_insn *i);
u32 info_string_io(const struct isa_insn *i, bool out);
u32 info_gdtr_idtr(const struct isa_insn *i, unsigned which);
u32 info_rm(const struct isa_insn *i, const struct isa_opnd *o);
u32 info_random(const struct isa_insn *i);
/* The register of the first OK_GPR operand, else 0. */
unsigned info_gpr(const struct isa_insn *i);

/* ---- Virtual APIC (apic.c) ----------------------------------------------------------------------
 */

u32 vapic_read(const struct sil_cpu *cpu, u32 offset);
void vapic_write(struct sil_cpu *cpu, u32 offset, u32 val);
void vapic_write_tpr(struct sil_cpu *cpu, u8 tpr);
void vtx_apic_access(struct sil_cpu *cpu, const struct sil_access *a, void *data);
/* At VM entry (27.7.6, 30.2.1). */
void vapic_enter(struct sil_cpu *cpu);
/* APIC-write emulation and exits (30.4.3.2), at the boundary after the access. */
void vapic_after_write(struct sil_cpu *cpu);
/* Delivers a recognized virtual interrupt if the guest can take one (30.2.2). */
void vapic_deliver(struct sil_cpu *cpu);
/* SIL_REQ_NOTIFY: takes over posted interrupts (30.6). */
void vapic_notified(struct sil_cpu *cpu);
/* RDMSR/WRMSR of 800H-8FFH under virtualize x2APIC mode. False: not virtualized. */
bool vapic_rdmsr(struct sil_cpu *cpu, u32 index, u64 *val);
bool vapic_wrmsr(struct sil_cpu *cpu, u32 index, u64 val);
/* A virtual interrupt waits and only the guest's flags or shadow hold it back. */
bool vapic_waiting(const struct sil_cpu *cpu);

#endif
