/* SPDX-License-Identifier: MIT */
/*
 * The changes that case.def is made of. Whoever includes this has struct vm with the fields of a
 * VMCS as f[], V(field) and EPTP, an EPT pointer that is in order.
 */
#ifndef TESTS_ENTRYCHECK_BREAK_H
#define TESTS_ENTRYCHECK_BREAK_H

static void pin(struct vm *v, u64 bits)
{
	V(PIN_BASED_VM_EXEC_CONTROL) |= bits;
}

static void cpu1(struct vm *v, u64 bits)
{
	V(CPU_BASED_VM_EXEC_CONTROL) |= bits;
}

static void cpu2(struct vm *v, u64 bits)
{
	cpu1(v, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
	V(SECONDARY_VM_EXEC_CONTROL) |= bits;
}

static void ept(struct vm *v)
{
	cpu2(v, SECONDARY_EXEC_ENABLE_EPT);
	V(EPT_POINTER) = EPTP;
}

static void ug(struct vm *v)
{
	ept(v);
	cpu2(v, SECONDARY_EXEC_UNRESTRICTED_GUEST);
}

static void posted(struct vm *v)
{
	pin(v, PIN_BASED_POSTED_INTR | PIN_BASED_EXT_INTR_MASK);
	cpu1(v, CPU_BASED_TPR_SHADOW);
	cpu2(v, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
	V(VM_EXIT_CONTROLS) |= VM_EXIT_ACK_INTR_ON_EXIT;
}

/* The vector may come with bits of the word above the type. */
static void event(struct vm *v, unsigned type, u64 vector)
{
	V(VM_ENTRY_INTR_INFO_FIELD) = INTR_INFO_VALID | type << 8 | vector;
}

static void guest32(struct vm *v)
{
	V(VM_ENTRY_CONTROLS) &= ~VM_ENTRY_IA32E_MODE;
	V(GUEST_IA32_EFER) = 0;
	V(GUEST_CS_AR_BYTES) = 0xc09b;
}

static void real_mode(struct vm *v)
{
	guest32(v);
	ug(v);
	V(GUEST_CR0) &= ~(BIT(31) | BIT(0));
}

static void host32(struct vm *v)
{
	guest32(v);
	v->ctx.host_is_64bit = false;
	V(VM_EXIT_CONTROLS) &= ~VM_EXIT_HOST_ADDR_SPACE_SIZE;
	V(HOST_IA32_EFER) = 0;
}

static void v86(struct vm *v)
{
	static const u16 sel[] = {SLOT_GUEST_ES_SELECTOR, SLOT_GUEST_CS_SELECTOR,
				  SLOT_GUEST_SS_SELECTOR, SLOT_GUEST_DS_SELECTOR,
				  SLOT_GUEST_FS_SELECTOR, SLOT_GUEST_GS_SELECTOR};

	guest32(v);
	V(GUEST_RFLAGS) |= BIT(17);
	for (unsigned i = 0; i < ARRAY_SIZE(sel); i++) {
		v->f[sel[i]] = 0x100;
		v->f[SLOT_GUEST_ES_BASE + i] = 0x1000;
		v->f[SLOT_GUEST_ES_LIMIT + i] = 0xffff;
		v->f[SLOT_GUEST_ES_AR_BYTES + i] = 0xf3;
	}
}

static void user(struct vm *v)
{
	V(GUEST_CS_SELECTOR) |= 3;
	V(GUEST_CS_AR_BYTES) = 0xa0fb;
	V(GUEST_SS_SELECTOR) |= 3;
	V(GUEST_SS_AR_BYTES) = 0xc0f3;
}

static void ldt(struct vm *v)
{
	V(GUEST_LDTR_SELECTOR) = 0x20;
	V(GUEST_LDTR_AR_BYTES) = 0x82;
	V(GUEST_LDTR_LIMIT) = 0xf;
}

#endif
