/* SPDX-License-Identifier: MIT */
/* The uncommon paths of read-modify-write. */
#include "isa/exec/operand.h"

/* Without a host pointer: flags must not be seen if the write throws. */
void isa_rmw_slow(struct isa_cpu *c, const struct isa_insn *i, u64 la, unsigned size, rmw_fn *fn,
		  u64 b)
{
	unsigned how = ISA_HOW(i);
	bool lock = i->prefixes & ISA_P_LOCK;
	u64 a = 0, r, res = c->cc_res, new_res;
	u32 aux = c->cc_aux, new_aux;

	if (lock)
		c->ops->mem_lock(c);
	c->ops->mem_read(c, la, &a, size, how);
	r = fn(c, size, a, b);
	new_res = c->cc_res;
	new_aux = c->cc_aux;
	c->cc_res = res;
	c->cc_aux = aux;
	c->ops->mem_write(c, la, &r, size, how | ISA_ACC_WRITE);
	c->cc_res = new_res;
	c->cc_aux = new_aux;
	if (lock)
		c->ops->mem_unlock(c);
}

void isa_rmw_locked(struct isa_cpu *c, void *p, unsigned size, rmw_fn *fn, u64 b)
{
	u64 res = c->cc_res, a = host_get(p, size), r;
	u32 aux = c->cc_aux;

	for (;;) {
		r = fn(c, size, a, b);
		if (host_cas(p, size, &a, r))
			return;
		c->cc_res = res;
		c->cc_aux = aux;
	}
}
