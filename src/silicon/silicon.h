/* SPDX-License-Identifier: MIT */
/*
 * The software processor: the only door to src/silicon.
 *
 * What is here is what hardware offers a hypervisor in VMX root operation (or an SVM host):
 * instructions on VMCSs, the register file, a few MSRs, CPUID, and an interrupt from another
 * processor (the kick). Guests run in non-root operation only; root mode is the caller, in C.
 *
 * A host physical address is an address of this process. Everything a guest can reach is what the
 * caller's page tables (EPT, NPT, or shadow tables through CR3) map. Tables, VMCSs, bitmaps and
 * lists whose addresses a VMCS holds belong to the caller and are trusted to be mapped; guest pages
 * behind leaf entries may vanish: such an access is a machine check (see sil_memory_error).
 *
 * A sil_cpu is used by one thread at a time, except for the functions marked "any thread".
 */
#ifndef SILICON_SILICON_H
#define SILICON_SILICON_H

#include "base/types.h"
#include "isa/isa.h"
#include "spec/vmx.h"

struct sil_machine; /* the processors that share one memory: one per VM */
struct sil_cpu;	    /* one logical processor */

enum sil_vendor { SIL_INTEL, SIL_AMD };
enum sil_engine { SIL_ENGINE_AUTO, SIL_ENGINE_INTERP, SIL_ENGINE_JIT };

/* What the processor needs from around it. All may be called from any thread that runs a cpu. */
struct sil_host {
	/* The machine's time stamp counter, at config.tsc_khz. Monotonic, same for all cpus. */
	u64 (*tsc)(void *opaque);
	/* sil_cpu_timer(@cpu) is to be called at @tsc or soon after; replaces the cpu's previous
	 * request; ~0 cancels. The preemption timer uses it. */
	void (*arm_timer)(void *opaque, struct sil_cpu *cpu, u64 tsc);
	/* Is @hva in memory lent to guests? Async-signal-safe, lock-free. */
	bool (*owns_hva)(void *opaque, u64 hva);
	/* 64 random bits for RDRAND and RDSEED. */
	u64 (*random)(void *opaque);
};

struct sil_config {
	enum sil_vendor vendor;
	enum sil_engine engine;
	u32 tsc_khz;
	u32 code_cache_mb;   /* room for translated code; 0: 16 */
	u32 translate_after; /* executions by the interpreter before code is translated */
	bool tlb_sticky;     /* entries live as long as the architecture allows */
	bool tsc_native;     /* host->tsc is the host's RDTSC, so it may be used as well */
	bool exact_stops; /* sil_cpu_stop_at is going to be used: costs the translator its links */
	const struct sil_host *host;
	void *host_opaque;
};

/* 0, -ENOMEM, or -ENOTSUP (an engine this host cannot run). Any thread. */
int sil_machine_create(const struct sil_config *cfg, struct sil_machine **out);
/* All its cpus are gone. */
void sil_machine_destroy(struct sil_machine *m);
int sil_cpu_create(struct sil_machine *m, struct sil_cpu **out);
void sil_cpu_destroy(struct sil_cpu *cpu);

/* Registers that stay loaded across exits. Valid for the cpu's life; not while it runs. */
struct isa_regs *sil_regs(struct sil_cpu *cpu);

/* CPUID as executed in root mode: what this hardware has. Any thread. */
void sil_cpuid(const struct sil_machine *m, u32 leaf, u32 subleaf, u32 out[4]);
/* RDMSR in root mode for MSRs that describe the hardware (VMX capabilities, ARCH_CAPABILITIES,
 * ...); registers of the guest are in sil_regs and the VMCS. 0 or -EINVAL (#GP). Any thread. */
int sil_rdmsr(const struct sil_machine *m, u32 index, u64 *val);

/* ---- Between processors --------------------------------------------------------------------- */

/* An interrupt for root mode: a running guest exits with EXTERNAL_INTERRUPT soon (the next
 * block, at most microseconds); if none runs, the next entry exits at once. Any thread,
 * async-signal-safe. */
void sil_cpu_kick(struct sil_cpu *cpu);
/* Takes back a kick that has not been seen. Owner thread. */
void sil_cpu_unkick(struct sil_cpu *cpu);
/* See sil_host.arm_timer. Any thread. */
void sil_cpu_timer(struct sil_cpu *cpu);
/* Posted-interrupt notification or other reason to look at the virtual-APIC state. Any thread. */
void sil_cpu_notify(struct sil_cpu *cpu);

/*
 * For runs that repeat exactly (config.exact_stops). Instructions retired by @cpu, exact also
 * within struct sil_host's functions; and where the guest is to exit with EXTERNAL_INTERRUPT,
 * before the instruction that would be the first beyond @count; ~0: nowhere. Holds for one exit.
 * Owner thread.
 */
u64 sil_cpu_retired(const struct sil_cpu *cpu);
void sil_cpu_stop_at(struct sil_cpu *cpu, u64 count);

/* ---- Coherence with writers that are not processors -------------------------------------------
 */

/* Root-mode software wrote guest memory at [@hva, @hva + @len): drops code made from it. Any
 * thread. */
void sil_memory_written(struct sil_machine *m, hva_t hva, u64 len);
/* Memory may have been written by others (devices, read(2) into guest RAM): before this cpu
 * executes from a page again, its recorded code is compared with memory. Owner thread. */
void sil_code_recheck(struct sil_cpu *cpu);
/* The same for pages that a cpu maps for execution from now on: what is mapped already is believed
 * to be as it was. Cheap. Any thread. */
void sil_code_suspect(struct sil_machine *m);
/* The host memory [@hva, @hva + @len) is going away: no cpu runs; forget code made from it. */
void sil_memory_removed(struct sil_machine *m, hva_t hva, u64 len);

/* ---- VT-x (SDM vol. 3C, chapters 25-31) ---------------------------------------------------------
 */

enum sil_vmx { SIL_VMX_OK, SIL_VMX_FAIL_INVALID, SIL_VMX_FAIL_VALID };

/*
 * VMCS regions are 4 KiB aligned pages of the caller whose first word holds the revision identifier
 * (IA32_VMX_BASIC[30:0]) and the shadow-VMCS indicator (bit 31). Their content is the processor's.
 * The processor is always in VMX operation; there is no VMXON.
 */
enum sil_vmx sil_vmclear(struct sil_cpu *cpu, void *vmcs);
enum sil_vmx sil_vmptrld(struct sil_cpu *cpu, void *vmcs);
void *sil_vmptrst(struct sil_cpu *cpu); /* NULL if none is current */
enum sil_vmx sil_vmread(struct sil_cpu *cpu, u32 field, u64 *val);
enum sil_vmx sil_vmwrite(struct sil_cpu *cpu, u32 field, u64 val);
/*
 * Fields that are read or written together: each is one VMREAD or VMWRITE, in this order, only that
 * where they are has been looked up once. A VMCS must be current.
 */
#define SIL_VMCS_LIST 48
struct sil_vmcs_list {
	unsigned n;
	struct {
		u32 field, topics;
		u16 offset;
		u8 size, base;
	} item[SIL_VMCS_LIST];
};
/* False if there are too many, or one does not exist or is the high half of another. */
bool sil_vmcs_list(const struct sil_machine *m, const u32 *fields, unsigned n,
		   struct sil_vmcs_list *l);
void sil_vmread_list(struct sil_cpu *cpu, const struct sil_vmcs_list *l, u64 *val);
void sil_vmwrite_list(struct sil_cpu *cpu, const struct sil_vmcs_list *l, const u64 *val);
/*
 * Enter the guest and come back at the next VM exit, whose information is in the VMCS. On failure
 * (VMfail, or exit reason with bit 31) sil_last_failure says which check refused.
 */
enum sil_vmx sil_vmlaunch(struct sil_cpu *cpu);
enum sil_vmx sil_vmresume(struct sil_cpu *cpu);
enum sil_vmx sil_invept(struct sil_cpu *cpu, unsigned type, u64 eptp);
enum sil_vmx sil_invvpid(struct sil_cpu *cpu, unsigned type, u16 vpid, u64 la);
/* Address of the access that a machine-check exit (exception exit, vector 18) is about. */
hva_t sil_memory_error(const struct sil_cpu *cpu, bool *write);

/* The check that refused the last VM entry or VMX instruction; NULL if none has. */
struct check_failure;
const struct check_failure *sil_last_failure(const struct sil_cpu *cpu);

/* ---- Counters ------------------------------------------------------------------------------- */

struct sil_counters {
#define SIL_COUNTER(name, text) u64 name;
#include "spec/sil_counter.def"
	u64 exits[80]; /* by basic reason */
};
/* Exact; torn reads are possible while the cpu runs. Any thread. */
const struct sil_counters *sil_counters(const struct sil_cpu *cpu);
/* How often translated code has left instructions of row @op to their handler, because they are not
 * translated or an access missed the TLB. NULL past the last row; else its name. Any thread. */
const char *sil_handler_calls(const struct sil_cpu *cpu, unsigned op, u64 *calls);
const char *sil_engine_name(const struct sil_machine *m);

#endif
