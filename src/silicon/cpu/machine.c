/* SPDX-License-Identifier: MIT */
/* Machines and cpus: life, kicks, counters, coherence calls of the door. */
#include "silicon/cpu/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "isa/insn_table.h"
#include "silicon/interp/codepage.h"
#include "silicon/interp/interp.h"
#include "silicon/jit/door.h"
#include "silicon/paging/tlb.h"

/* What cannot be had is no error if it was not asked for by name. */
static int translator(struct sil_machine *m)
{
	int r = jit_supported() ? jit_create(m) : -ENOTSUP;

	if (r && m->cfg.engine == SIL_ENGINE_AUTO) {
		base_log(LOG_INFO, "no translator on this host (%d): guests are interpreted", r);
		return 0;
	}
	return r;
}

int cpu_machine_create(const struct sil_config *cfg, const struct sil_virt_ops *virt,
		       struct sil_machine **out)
{
	struct sil_machine *m;
	int r;

	if (cfg->engine == SIL_ENGINE_JIT && !jit_supported())
		return -ENOTSUP;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->cfg = *cfg;
	m->virt = virt;
	/* Nested tables hold addresses of this process, so every bit an entry has may be used. */
	m->maxphyaddr = 52;
	cpuid_init(m);
	m->cr4_supported = cpu_cr4_supported(m);
	pthread_mutex_init(&m->cpus_lock, NULL);
	pthread_mutex_init(&m->split_lock, NULL);
	r = code_registry_create(m);
	if (!r && cfg->engine != SIL_ENGINE_INTERP)
		r = translator(m);
	if (!r && virt->machine_init)
		r = virt->machine_init(m);
	if (r) {
		jit_destroy(m);
		code_registry_destroy(m);
		free(m);
		return r;
	}
	*out = m;
	return 0;
}

void sil_machine_destroy(struct sil_machine *m)
{
	BUG_ON(m->cpus);
	if (m->virt->machine_fini)
		m->virt->machine_fini(m);
	jit_destroy(m);
	code_registry_destroy(m);
	pthread_mutex_destroy(&m->cpus_lock);
	pthread_mutex_destroy(&m->split_lock);
	free(m);
}

static void feat_cpuid(void *opaque, u32 leaf, u32 subleaf, u32 out[4])
{
	sil_cpuid(opaque, leaf, subleaf, out);
}

int sil_cpu_create(struct sil_machine *m, struct sil_cpu **out)
{
	struct sil_cpu *cpu;
	int r;

	/* Not before: machines that run nothing are asked what processors they would have. */
	r = guard_install();
	if (r)
		return r;
	cpu = aligned_alloc(64, align_up(sizeof(*cpu), 64));
	if (!cpu)
		return -ENOMEM;
	memset(cpu, 0, sizeof(*cpu));
	cpu->m = m;
	cpu->stop_at = ~0ull;
	cpu->c.ops = m->virt->isa;
	cpu->world.apic_page = SIL_NO_PAGE;
	isa_feat_load(&cpu->c, feat_cpuid, m);
	cpu->c.va_bits_max = cpu_cr4_supported(m) & CR4_LA57 ? 57 : 48;
	r = tlb_create(cpu);
	if (!r)
		r = interp_create(cpu);
	if (!r && m->jit)
		r = jit_cpu_create(cpu);
	if (r)
		goto fail;
	isa_reset(&cpu->c, false);
	if (m->virt->cpu_init)
		r = m->virt->cpu_init(cpu);
	if (r)
		goto fail;
	pthread_mutex_lock(&m->cpus_lock);
	cpu->next = m->cpus;
	m->cpus = cpu;
	m->ncpus++;
	pthread_mutex_unlock(&m->cpus_lock);
	*out = cpu;
	return 0;
fail:
	jit_cpu_destroy(cpu);
	interp_destroy(cpu);
	tlb_destroy(cpu);
	free(cpu);
	return r;
}

void sil_cpu_destroy(struct sil_cpu *cpu)
{
	struct sil_machine *m = cpu->m;
	struct sil_cpu **p;

	pthread_mutex_lock(&m->cpus_lock);
	for (p = &m->cpus; *p != cpu; p = &(*p)->next)
		;
	*p = cpu->next;
	m->ncpus--;
	pthread_mutex_unlock(&m->cpus_lock);
	if (m->virt->cpu_fini)
		m->virt->cpu_fini(cpu);
	jit_cpu_destroy(cpu);
	interp_destroy(cpu);
	tlb_destroy(cpu);
	free(cpu);
}

struct isa_regs *sil_regs(struct sil_cpu *cpu)
{
	return &cpu->c.r;
}

void sil_cpu_kick(struct sil_cpu *cpu)
{
	cpu_request(cpu, SIL_REQ_KICK);
}

void sil_cpu_unkick(struct sil_cpu *cpu)
{
	cpu_request_clear(cpu, SIL_REQ_KICK);
}

void sil_cpu_timer(struct sil_cpu *cpu)
{
	cpu_request(cpu, SIL_REQ_TIMER);
}

void sil_cpu_notify(struct sil_cpu *cpu)
{
	cpu_request(cpu, SIL_REQ_NOTIFY);
}

void sil_memory_written(struct sil_machine *m, hva_t hva, u64 len)
{
	code_written(m, NULL, hva, len);
}

void sil_code_recheck(struct sil_cpu *cpu)
{
	sil_code_suspect(cpu->m);
	if (cpu->m->jit)
		cpu->j.recheck = cpu->fetch_suspect = true;
	else
		tlb_drop_exec(cpu);
}

void sil_code_suspect(struct sil_machine *m)
{
	__atomic_add_fetch(&m->code_epoch, 1, __ATOMIC_SEQ_CST);
}

void sil_memory_removed(struct sil_machine *m, hva_t hva, u64 len)
{
	code_removed(m, hva, len);
}

hva_t sil_memory_error(const struct sil_cpu *cpu, bool *write)
{
	*write = cpu->mem_error_write;
	return cpu->mem_error;
}

const struct sil_counters *sil_counters(const struct sil_cpu *cpu)
{
	return &cpu->n;
}

const char *sil_handler_calls(const struct sil_cpu *cpu, unsigned op, u64 *calls)
{
	/* Rows, not mnemonics: MOV to a control register has its own. */
	static const char *const names[ISA_OP_N] = {
		[ISA_OP_UNKNOWN] = "(unknown)",
#define INSN(mnem, fn, flags, feat)		 [ISA_OP_##mnem] = #mnem,
#define INSN_ALT(op, mnem, alt, fn, flags, feat) [ISA_OP_##op] = #op,
#include "spec/insn/all.def"
	};

	if (op >= ISA_OP_N)
		return NULL;
	*calls = cpu->j.calls ? cpu->j.calls[op] : 0;
	return names[op];
}

const char *sil_engine_name(const struct sil_machine *m)
{
	return m->jit ? "jit" : "interp";
}
