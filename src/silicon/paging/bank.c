/* SPDX-License-Identifier: MIT */
/*
 * Which bank is in use: contexts, what they are made from, and the banks they have. Translated code
 * calls this with the guest's vector registers in the host's: the file is compiled for general
 * registers only, and calls nothing outside of such files.
 */
#include "silicon/paging/tlb.h"

static bool key_equal(const struct tlb_key *a, const struct tlb_key *b)
{
	return a->nested_root == b->nested_root && a->role == b->role && a->vpid == b->vpid &&
	       a->pcid == b->pcid && a->pkru == b->pkru && a->pkrs == b->pkrs;
}

static void forget_bank(struct tlb_bank *cls[4], const struct tlb_bank *b)
{
	unsigned k;

	for (k = 0; k < 4; k++)
		if (cls[k] == b)
			cls[k] = NULL;
}

static struct tlb_before *before_of(struct tlb *t, const struct tlb_key *key)
{
	return &t->before[(key->pcid ^ key->vpid ^ key->nested_root >> PAGE_SHIFT) % TLB_BEFORE];
}

/* @c becomes that of @key. Guests go back and forth between few address spaces. */
static void context_key(struct tlb *t, struct tlb_context *c, const struct tlb_key *key)
{
	struct tlb_before *b = before_of(t, &c->key);

	unsigned k;
	bool known;

	b->key = c->key;
	for (k = 0; k < ARRAY_SIZE(c->cls); k++)
		b->cls[k] = c->cls[k];
	b = before_of(t, key);
	known = key_equal(&b->key, key);
	for (k = 0; k < ARRAY_SIZE(c->cls); k++)
		c->cls[k] = known ? b->cls[k] : NULL;
	c->key = *key;
}

static struct tlb_bank *bank_find(struct sil_cpu *cpu, const struct tlb_key *key)
{
	struct tlb_bank *b, *oldest = NULL;
	unsigned k;

	cpu->n.bank_switch++;
	for (k = 0; k < TLB_NBANKS; k++) {
		b = &cpu->tlb->bank[k];
		if (b->stamp && key_equal(&b->key, key))
			return b;
		/* The bank in use has the newest stamp: it is never the oldest of several. */
		if (!oldest || b->stamp < oldest->stamp)
			oldest = b;
	}
	if (oldest->stamp) {
		cpu->n.bank_miss++;
		tlb_empty(oldest, false);
		oldest->near_used[0] = oldest->near_used[1] = 0;
		for (k = 0; k < ARRAY_SIZE(cpu->tlb->context); k++)
			forget_bank(cpu->tlb->context[k].cls, oldest);
		for (k = 0; k < TLB_BEFORE; k++)
			forget_bank(cpu->tlb->before[k].cls, oldest);
	}
	oldest->key = *key;
	return oldest;
}

static enum pg_format format_of(const struct isa_sys *s)
{
	if (!(s->cr0 & CR0_PG))
		return PG_NONE;
	if (s->efer & EFER_LMA)
		return s->cr4 & CR4_LA57 ? PG_5L : PG_4L;
	return s->cr4 & CR4_PAE ? PG_PAE : PG_32;
}

static void key_of(const struct sil_cpu *cpu, struct tlb_key *key)
{
	const struct isa_sys *s = &cpu->c.s;
	u64 cr4 = s->cr4;
	u32 role = format_of(s);

	if (role != PG_NONE) {
		role |= (s->cr0 & CR0_WP ? ROLE_WP : 0) | (s->efer & EFER_NXE ? ROLE_NXE : 0) |
			(cr4 & CR4_SMEP ? ROLE_SMEP : 0) | (cr4 & CR4_SMAP ? ROLE_SMAP : 0) |
			(cr4 & CR4_PSE ? ROLE_PSE : 0) | (cr4 & CR4_PGE ? ROLE_PGE : 0);
		if (s->efer & EFER_LMA)
			role |= (cr4 & CR4_PKE ? ROLE_PKE : 0) | (cr4 & CR4_PKS ? ROLE_PKS : 0);
		if ((role & ROLE_FORMAT) == PG_32)
			role &= ~(u32)ROLE_NXE;
	}
	if (cpu->world.nested != SIL_NESTED_NONE)
		role |= ROLE_NESTED;
	*key = (struct tlb_key){
		.role = role,
		.nested_root = cpu->world.nested != SIL_NESTED_NONE ? cpu->world.nested_root : 0,
		.vpid = cpu->world.vpid,
		.pcid = cr4 & CR4_PCIDE ? s->cr3 & 0xfff : 0,
		.pkru = role & ROLE_PKE ? cpu->c.r.pkru : 0,
		.pkrs = role & ROLE_PKS ? cpu->pkrs : 0,
	};
}

struct tlb_bank *tlb_bank_of(struct sil_cpu *cpu, bool user, bool ac)
{
	struct tlb *t = cpu->tlb;
	struct tlb_bank **slot = &tlb_context(t)->cls[user + 2 * ac];

	if (!*slot) {
		struct tlb_key key = tlb_context(t)->key;

		key.role |= (user ? ROLE_USER : 0) | (ac ? ROLE_AC : 0);
		*slot = bank_find(cpu, &key);
	}
	(*slot)->stamp = ++t->clock;
	return *slot;
}

static bool context_fits(const struct sil_cpu *cpu, const struct tlb_context *c)
{
	const struct isa_sys *s = &cpu->c.s;
	const struct sil_world *w = &cpu->world;

	return c->seen.cr0 == s->cr0 && c->seen.cr3 == s->cr3 && c->seen.cr4 == s->cr4 &&
	       c->seen.efer == s->efer && c->seen.pkru == cpu->c.r.pkru &&
	       c->seen.pkrs == cpu->pkrs && c->seen.world.nested_root == w->nested_root &&
	       c->seen.world.vpid == w->vpid && c->seen.world.nested == w->nested;
}

static void context_new(struct sil_cpu *cpu)
{
	struct tlb *t = cpu->tlb;
	const struct isa_sys *s = &cpu->c.s;
	struct tlb_context *c;
	struct tlb_key key;

	key_of(cpu, &key);
	/* Another world takes the other place; the same one goes on with what it has. */
	if (key.nested_root != tlb_context(t)->key.nested_root ||
	    key.vpid != tlb_context(t)->key.vpid)
		t->current ^= 1;
	c = tlb_context(t);
	if (!key_equal(&key, &c->key))
		context_key(t, c, &key);
	c->seen.cr0 = s->cr0;
	c->seen.cr3 = s->cr3;
	c->seen.cr4 = s->cr4;
	c->seen.efer = s->efer;
	c->seen.pkru = cpu->c.r.pkru;
	c->seen.pkrs = cpu->pkrs;
	c->seen.world = cpu->world;
}

void tlb_switch(struct sil_cpu *cpu)
{
	struct tlb *t = cpu->tlb;
	bool user = cpu->c.cpl == 3;
	/* With alignment checks on, CPL 3 has a bank that stays empty. */
	bool ac = user ? cpu->ac_check : (cpu->c.s.rflags & X86_AC) && (cpu->c.s.cr4 & CR4_SMAP);

	/* Most switches are of CPL or AC only, or back to the world before. */
	if (unlikely(!context_fits(cpu, tlb_context(t)))) {
		if (context_fits(cpu, &t->context[t->current ^ 1]))
			t->current ^= 1;
		else
			context_new(cpu);
	}
	tlb_use(cpu, tlb_bank_of(cpu, user, ac));
}

void tlb_load_cr3(struct sil_cpu *cpu, u64 val, bool keep)
{
	struct isa_sys *s = &cpu->c.s;

	s->cr3 = val;
	if (!keep)
		tlb_flush_pcid(cpu, s->cr4 & CR4_PCIDE ? val & 0xfff : 0, true);
	tlb_switch(cpu);
	tlb_fetch_lost(cpu);
}
