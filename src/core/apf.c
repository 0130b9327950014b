/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous page faults.
 *
 * Which memory is slow cannot be asked of the host, only found out: the vCPU's thread touches a
 * page, and that takes long. The next touches are watched; if one takes long and the thread has
 * slept in it (swap, a file, a userfaultfd), the slot counts as slow for ten seconds. In a slow
 * slot a page that is not resident is touched by a thread of a small pool. If that takes longer
 * than the vCPU's thread is ready to wait, the fault is asynchronous.
 */
#include "core/apf.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/log.h"
#include "core/irqchip/irq_private.h"
#include "core/irqchip/irqchip.h"
#include "core/irqchip/lapic.h"
#include "core/memslot.h"
#include "core/pv.h"
#include "core/vcpu.h"
#include "core/x86_ops.h"
#include "spec/abi/kvm_para.h"

#define POOL_MAX     8
#define SLOW_NS	     10000000000ull
#define SUSPECT_NS   20000
#define WATCHED	     64
#define PATIENCE_NS  100000
#define TOKEN_ALL    ~0u
#define EN_RESERVED  0x30ull
#define EN_GPA_MASK  (~0x3full)
#define ENABLED_BITS (KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT)

struct apf_job {
	struct apf_job *next; /* in the pool's queue, or among the vCPU's done ones */
	struct kvm_vcpu *v;   /* NULL: nobody wants to know any more */
	hva_t hva;
	gfn_t gfn;
	u32 token;
	bool write, async, injected, finished;
};

struct apf_pool {
	pthread_mutex_t lock;
	pthread_cond_t work, finished;
	struct apf_job *queue, **tail;
	pthread_t thread[POOL_MAX];
	unsigned nthreads, nidle;
	bool stop;
	pid_t pid; /* a child of the program has no such threads */
};

/* ---- The pool ---- */

static struct apf_pool *pool_of(struct kvm *kvm)
{
	struct apf_pool *p = __atomic_load_n(&kvm->arch->apf, __ATOMIC_ACQUIRE), *none = NULL;
	pthread_condattr_t attr;

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->tail = &p->queue;
	p->pid = getpid();
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &attr);
	pthread_cond_init(&p->finished, &attr);
	pthread_condattr_destroy(&attr);
	if (__atomic_compare_exchange_n(&kvm->arch->apf, &none, p, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		return p;
	free(p);
	return none;
}

/* To the end of what the guest is to be told. Lock held. */
static void append_done(struct kvm_vcpu *v, struct apf_job *j)
{
	struct apf_state *a = &v->arch->apf;

	j->next = NULL;
	if (!a->done)
		a->done_tail = &a->done;
	*a->done_tail = j;
	a->done_tail = &j->next;
}

/* Lock held. */
static void finish(struct apf_pool *p, struct apf_job *j)
{
	struct kvm_vcpu *v = j->v;

	j->finished = true;
	if (!v) {
		free(j);
		return;
	}
	if (!j->async) {
		pthread_cond_broadcast(&p->finished);
		return;
	}
	for (unsigned i = 0; i < APF_MAX_PENDING; i++)
		if (v->arch->apf.pending[i] == j)
			v->arch->apf.pending[i] = NULL;
	append_done(v, j);
	kvm_make_request(v, REQ_APF_READY);
	kvm_vcpu_kick(v);
}

static void *pool_main(void *opaque)
{
	struct apf_pool *p = opaque;
	struct apf_job *j;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->queue && !p->stop) {
			p->nidle++;
			pthread_cond_wait(&p->work, &p->lock);
			p->nidle--;
		}
		j = p->queue;
		if (!j)
			break;
		p->queue = j->next;
		if (!p->queue)
			p->tail = &p->queue;
		if (j->v) {
			pthread_mutex_unlock(&p->lock);
			/* Memory that is not there at all is the vCPU's to find out. */
			guard_touch(j->hva, j->write);
			pthread_mutex_lock(&p->lock);
		}
		finish(p, j);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* One thread more if all are at work. Lock held. */
static bool pool_grow(struct apf_pool *p)
{
	sigset_t all, old;
	int err;

	if (p->nidle || p->nthreads == POOL_MAX)
		return true;
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&p->thread[p->nthreads], NULL, pool_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return p->nthreads != 0;
	pthread_setname_np(p->thread[p->nthreads++], "kvmless-apf");
	return true;
}

/* @j is done, or it has become asynchronous and has its place among @v's (false). */
static bool run_job(struct apf_pool *p, struct kvm_vcpu *v, struct apf_job *j, unsigned place)
{
	struct timespec until;
	bool finished;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += PATIENCE_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&p->lock);
	if (!pool_grow(p)) {
		pthread_mutex_unlock(&p->lock);
		return true;
	}
	*p->tail = j;
	p->tail = &j->next;
	pthread_cond_signal(&p->work);
	while (!j->finished && !pthread_cond_timedwait(&p->finished, &p->lock, &until))
		;
	finished = j->finished;
	if (!finished) {
		j->async = true;
		v->arch->apf.pending[place] = j;
	}
	pthread_mutex_unlock(&p->lock);
	return finished;
}

/* ---- What the guest is told ---- */

static gpa_t data_gpa(const struct kvm_vcpu *v)
{
	return v->arch->apf.en & EN_GPA_MASK;
}

static bool enabled(const struct kvm_vcpu *v)
{
	return (v->arch->apf.en & ENABLED_BITS) == ENABLED_BITS;
}

static bool can_deliver(struct kvm_vcpu *v)
{
	if (!enabled(v))
		return false;
	if (!(v->arch->apf.en & KVM_ASYNC_PF_SEND_ALWAYS) && kvm_get_cpl(v) == 0)
		return false;
	return is_paging(v);
}

/* Could the vCPU do something else, if only take an interrupt? */
static bool can_wait(struct kvm_vcpu *v)
{
	if (!v->apic || v->kvm->clock.deterministic || is_guest_mode(v))
		return false;
	if (kvm_event_needs_reinjection(v) || v->arch->exception.pending)
		return false;
	if (v->kvm->arch->hlt_in_guest && !can_deliver(v))
		return false;
	return v->kvm->ops->interrupt_allowed(v, false) > 0;
}

/* A #PF whose address is the token: guests tell it from others by the flags in memory. */
static bool inject_not_present(struct kvm_vcpu *v, u32 token)
{
	u32 reason = KVM_PV_REASON_PAGE_NOT_PRESENT;

	if (!can_deliver(v) || vcpu_write_guest(v, data_gpa(v), &reason, sizeof(reason)))
		return false;
	kvm_inject_page_fault(v, token, 0);
	return true;
}

static u32 new_token(struct kvm_vcpu *v)
{
	/* 0 would say "none". */
	if (!(v->arch->apf.id << 12))
		v->arch->apf.id = 1;
	return v->arch->apf.id++ << 12 | v->id;
}

/* The guest has taken the token before. */
static bool slot_free(struct kvm_vcpu *v)
{
	u32 token;

	return !vcpu_read_guest(v, data_gpa(v) + offsetof(struct kvm_vcpu_pv_apf_data, token),
				&token, sizeof(token)) &&
	       !token;
}

/* An APIC that is off loses the interrupt; when the guest turns it on REQ_APF_READY comes. */
static bool can_tell(struct kvm_vcpu *v)
{
	return lapic_hw_enabled(v) && lapic_sw_enabled(v->apic) && slot_free(v);
}

static void tell_present(struct kvm_vcpu *v, const struct apf_job *j)
{
	struct apic_msg m = {
		.vector = (u8)v->arch->apf.vec, .delivery = APIC_DELIVER_FIXED, .assert = true};
	gpa_t at = data_gpa(v) + offsetof(struct kvm_vcpu_pv_apf_data, token);

	if ((j->injected || j->token == TOKEN_ALL) && enabled(v) &&
	    !vcpu_write_guest(v, at, &j->token, sizeof(j->token))) {
		v->arch->apf.ready_pending = true;
		lapic_accept(v, &m);
	}
	v->arch->apf.halted = false;
	if (v->mp_state == KVM_MP_STATE_HALTED)
		v->mp_state = KVM_MP_STATE_RUNNABLE;
}

bool apf_has_ready(const struct kvm_vcpu *v)
{
	return __atomic_load_n(&v->arch->apf.done, __ATOMIC_RELAXED);
}

static struct apf_job *take_done(struct kvm_vcpu *v)
{
	struct apf_pool *p = pool_of(v->kvm);
	struct apf_job *j;

	pthread_mutex_lock(&p->lock);
	j = v->arch->apf.done;
	if (j)
		v->arch->apf.done = j->next;
	pthread_mutex_unlock(&p->lock);
	return j;
}

void apf_check_ready(struct kvm_vcpu *v)
{
	struct apf_job *j;

	while (apf_has_ready(v) && (!enabled(v) || can_tell(v))) {
		j = take_done(v);
		tell_present(v, j);
		free(j);
	}
}

/* ---- Faults ---- */

/* A page that is on its way already. */
static bool is_pending(struct apf_pool *p, struct kvm_vcpu *v, gfn_t gfn, unsigned *place)
{
	bool found = false;

	*place = APF_MAX_PENDING;
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < APF_MAX_PENDING; i++) {
		const struct apf_job *j = v->arch->apf.pending[i];

		if (!j)
			*place = i;
		else if (j->gfn == gfn)
			found = true;
	}
	pthread_mutex_unlock(&p->lock);
	return found;
}

static bool resident(hva_t hva)
{
	unsigned char there = 0;

	return !mincore((void *)(hva & PAGE_MASK), PAGE_SIZE, &there) && (there & 1);
}

static bool start_async(struct kvm_vcpu *v, gfn_t gfn, hva_t hva, bool write)
{
	struct apf_pool *p = pool_of(v->kvm);
	struct apf_job *j;
	unsigned place;

	if (!p)
		return false;
	if (is_pending(p, v, gfn, &place)) {
		kvm_make_request(v, REQ_APF_HALT);
		return true;
	}
	if (place == APF_MAX_PENDING)
		return false;
	j = calloc(1, sizeof(*j));
	if (!j)
		return false;
	*j = (struct apf_job){
		.v = v, .hva = hva, .gfn = gfn, .write = write, .token = new_token(v)};
	/* Asynchronous, it may be done, told of and gone at any moment: the vCPU's thread is us. */
	if (run_job(p, v, j, place)) {
		free(j);
		return false;
	}
	j->injected = inject_not_present(v, j->token);
	if (!j->injected)
		kvm_make_request(v, REQ_APF_HALT);
	return true;
}

/* How often the thread has slept: a fault that does not wait for anything does not. */
static long switches(void)
{
	struct rusage r;

	return getrusage(RUSAGE_THREAD, &r) ? 0 : r.ru_nvcsw;
}

int apf_touch(struct kvm_vcpu *v, struct memslot *s, gfn_t gfn, hva_t hva, bool write, bool wait)
{
	struct apf_state *a = &v->arch->apf;
	bool watch = a->watch;
	u64 start = kvm_now_ns(v->kvm), end;
	long before = 0;

	if (unlikely(__atomic_load_n(&s->slow_until_ns, __ATOMIC_RELAXED) > start) && !wait &&
	    can_wait(v) && !resident(hva) && start_async(v, gfn, hva, write)) {
		__atomic_store_n(&s->slow_until_ns, start + SLOW_NS, __ATOMIC_RELAXED);
		return -EAGAIN;
	}
	if (unlikely(watch)) {
		a->watch--;
		before = switches();
	}
	if (guard_touch(hva, write))
		return -EFAULT;
	end = kvm_now_ns(v->kvm);
	if (likely(end - start < SUSPECT_NS))
		return 0;
	/* It slept, or others had the processor: the next ones will tell. */
	a->watch = WATCHED;
	if (watch && switches() != before)
		__atomic_store_n(&s->slow_until_ns, end + SLOW_NS, __ATOMIC_RELAXED);
	return 0;
}

/* ---- MSRs ---- */

/* What was waited for is of no interest any more. */
static void forget(struct kvm_vcpu *v)
{
	struct apf_state *a = &v->arch->apf;
	struct apf_pool *p = __atomic_load_n(&v->kvm->arch->apf, __ATOMIC_ACQUIRE);
	struct apf_job *j;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < APF_MAX_PENDING; i++) {
		if (a->pending[i])
			a->pending[i]->v = NULL;
		a->pending[i] = NULL;
	}
	while ((j = a->done)) {
		a->done = j->next;
		free(j);
	}
	pthread_mutex_unlock(&p->lock);
}

/* Whoever enables it may have been moved here with pages outstanding: all are there now. */
static int wake_all(struct kvm_vcpu *v)
{
	struct apf_pool *p = pool_of(v->kvm);
	struct apf_job *j = p ? calloc(1, sizeof(*j)) : NULL;

	if (!j)
		return -ENOMEM;
	j->token = TOKEN_ALL;
	pthread_mutex_lock(&p->lock);
	if (v->arch->apf.done) {
		free(j);
	} else {
		append_done(v, j);
		kvm_make_request(v, REQ_APF_READY);
	}
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int set_en(struct kvm_vcpu *v, u64 data)
{
	struct gfn_to_hva_cache c;

	if (data & EN_RESERVED)
		return -EINVAL;
	if ((data & KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT) &&
	    !guest_pv_has(v, FEAT_KVM_ASYNC_PF_VMEXIT))
		return -EINVAL;
	if ((data & KVM_ASYNC_PF_DELIVERY_AS_INT) && !guest_pv_has(v, FEAT_KVM_ASYNC_PF_INT))
		return -EINVAL;
	if (!v->apic)
		return data ? -EINVAL : 0;
	v->arch->apf.en = data;
	if (!enabled(v)) {
		forget(v);
		return 0;
	}
	if (gfn_cache_init(v->kvm, &c, data_gpa(v), sizeof(u64)))
		return -EINVAL;
	wake_all(v);
	return 0;
}

int apf_get_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	switch (m->index) {
	case MSR_KVM_ASYNC_PF_EN: m->data = v->arch->apf.en; return 0;
	case MSR_KVM_ASYNC_PF_INT: m->data = v->arch->apf.vec; return 0;
	case MSR_KVM_ASYNC_PF_ACK: m->data = 0; return 0;
	}
	return -EINVAL;
}

int apf_set_msr(struct kvm_vcpu *v, struct msr_access *m)
{
	switch (m->index) {
	case MSR_KVM_ASYNC_PF_EN: return set_en(v, m->data);
	case MSR_KVM_ASYNC_PF_INT:
		if (m->data >> 8 || !v->apic)
			return -EINVAL;
		v->arch->apf.vec = m->data;
		return 0;
	case MSR_KVM_ASYNC_PF_ACK:
		if (m->data & 1) {
			v->arch->apf.ready_pending = false;
			apf_check_ready(v);
		}
		return 0;
	}
	return -EINVAL;
}

void apf_vcpu_reset(struct kvm_vcpu *v)
{
	v->arch->apf.en = 0;
	v->arch->apf.vec = 0;
	v->arch->apf.halted = false;
	v->arch->apf.ready_pending = false;
	forget(v);
}

void apf_vm_destroy(struct kvm *kvm)
{
	struct apf_pool *p = kvm->arch->apf;

	if (!p)
		return;
	if (p->pid == getpid()) {
		for (unsigned i = 0; i < kvm->nvcpus; i++)
			forget(kvm->vcpus[i]);
		pthread_mutex_lock(&p->lock);
		p->stop = true;
		pthread_cond_broadcast(&p->work);
		pthread_mutex_unlock(&p->lock);
		/* As in the kernel, a page that is on its way is waited for. */
		for (unsigned i = 0; i < p->nthreads; i++)
			pthread_join(p->thread[i], NULL);
		pthread_cond_destroy(&p->work);
		pthread_cond_destroy(&p->finished);
		pthread_mutex_destroy(&p->lock);
	}
	free(p);
	kvm->arch->apf = NULL;
}
