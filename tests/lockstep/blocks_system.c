/* SPDX-License-Identifier: MIT */
/* Random programs: kernel code, that is privilege changes, paging, flags and bases. */
#include <string.h>

#include "emit.h"

/* RFLAGS to be loaded: seldom with TF or NT, which end the program. */
static u32 flags_image(void)
{
	static const u32 bits[] = {0x200, 0x400, 0x10000, 0x40000, 0x200000, 0x3000, 0x80000};
	u32 f = 2 | ((u32)rnd() & 0x8d5);

	while (below(2))
		f |= bits[below(ARRAY_SIZE(bits))];
	if (below(60) == 0)
		f |= below(2) ? 0x100 : 0x4000;
	return f;
}

/* lea reg, [rip + ...]; the place to put where it leads to. */
static u8 *lea_rip(unsigned r)
{
	put(0x48);
	put(0x8d);
	put(5 | r << 3);
	put_u32(0);
	return p - 4;
}

static void leads_here(u8 *at)
{
	memcpy(at, &(u32){(u32)(p - (at + 4))}, 4);
}

/* INT n or INT3, mostly with a handler. */
static void soft_int(void)
{
	if (below(4) == 0) {
		put(0xcc);
		return;
	}
	put(0xcd);
	put(below(40) ? V_INT + below(4) : V_DPL0 + below(V_BEYOND + 1 - V_DPL0));
}

/* Some code at CPL 3, which comes back by SYSCALL. */
static void user_code(void)
{
	unsigned n = below(3);

	in_user = true;
	while (n--) {
		if (below(3))
			one();
		else
			soft_int();
	}
	in_user = false;
	if (below(50) == 0)
		put(0xfa); /* #GP */
	put(0x0f);
	put(0x05);
}

static void load_segment(void)
{
	static const u8 segs[] = {0, 3, 4, 5}; /* ES DS FS GS */

	put(0xb8);
	put_u32(below(2) ? KERNEL_SS : USER_SS | below(4));
	put(0x8e);
	put(0xc0 | segs[below(4)] << 3);
}

/* To CPL 3, or behind the IRET, with other flags. */
static void iretq(void)
{
	bool user = below(3) == 0;
	u8 *to;

	if (user && below(4) == 0)
		load_segment();
	put(0x48); /* mov rax, rsp; push ss; push rax */
	put(0x89);
	put(0xe0);
	put(0x6a);
	put(user ? USER_SS | 3 : below(2) ? KERNEL_SS : 0);
	put(0x50);
	if (below(2)) { /* pushfq; or dword [rsp], RF */
		put(0x9c);
		put(0x81);
		put(0x0c);
		put(0x24);
		put_u32(0x10000);
	} else {
		put(0x68);
		put_u32(flags_image());
	}
	put(0x6a);
	put(user ? (below(30) ? USER_CS : FRESH_CS) | 3 : KERNEL_CS);
	to = lea_rip(RAX);
	put(0x50);
	put(0x48);
	put(0xcf);
	leads_here(to);
	if (user)
		user_code();
}

static void sysretq(void)
{
	u8 *to = lea_rip(RCX);

	put(0x41); /* mov r11d, flags */
	put(0xbb);
	put_u32(flags_image());
	put(0x48);
	put(0x0f);
	put(0x07);
	leads_here(to);
	user_code();
}

static void invlpg(u32 d)
{
	put(0x0f);
	put(0x01);
	put(0xbb);
	put_u32(d);
}

static void bts(unsigned r, unsigned bit)
{
	put_rex(8 | r >> 3);
	put(0x0f);
	put(0xba);
	put(0xe8 | (r & 7));
	put(bit);
}

static void mov_cr(unsigned op, unsigned cr, unsigned r)
{
	put_rex1(r >> 3);
	put(0x0f);
	put(op);
	put(0xc0 | cr << 3 | (r & 7));
}

/* CR3 to itself, with another PCID, with and without a flush; seldom to what it cannot be. */
static void cr3_insn(unsigned r)
{
	if (below(40) == 0) {
		put_rex1(r >> 3);
		put(0xb8 | (r & 7));
		put_u32(0x1000);
		bts(r, pcid || below(2) ? 62 : 63);
	} else {
		mov_cr(0x20, 3, r);
	}
	if (pcid) {
		put_rex(8 | r >> 3); /* xor r, PCID */
		put(0x83);
		put(0xf0 | (r & 7));
		put(below(4));
		if (below(3))
			bts(r, 63);
	}
	mov_cr(0x22, 3, r);
	/* Where the tables are differs. */
	put_rex1(r >> 3 << 2 | r >> 3);
	put(0x31);
	put(0xc0 | (r & 7) << 3 | (r & 7));
}

/* mov RAX or RCX to or from an absolute address */
static void table_mov(unsigned op, unsigned r, u32 at)
{
	put(0x48);
	put(op);
	put(0x04 | r << 3);
	put(0x25);
	put_u32(at);
}

/* Two pages of the data change places, or one is made read-only or writable again. What stands
 * before is not valid behind it. */
static void remap(void)
{
	bool swap = below(4);
	u32 d = where();

	if (below(2))
		op_mem(0, below(2) ? 0x8b : 0x89, RDX, false);
	if (swap) {
		table_mov(0x8b, RAX, PTE(0));
		table_mov(0x8b, RCX, PTE(3));
		table_mov(0x89, RCX, PTE(0));
		table_mov(0x89, RAX, PTE(3));
	} else { /* xor byte [pte], RW */
		put(0x80);
		put(0x34);
		put(0x25);
		put_u32(PTE(3));
		put(2);
	}
	if (below(3)) {
		invlpg(3 * PAGE_SIZE + below(PAGE_SIZE));
		if (swap)
			invlpg(below(PAGE_SIZE));
	} else {
		mov_cr(0x20, 3, RAX);
		mov_cr(0x22, 3, RAX);
	}
	put(0x31);
	put(0xc0);
	put(0x31);
	put(0xc9);
	put_rex(8);
	put(below(2) ? 0x8b : 0x89);
	put(0x83 | RDX << 3);
	put_u32(d);
}

/* INVLPG, MOV from and to control registers, and of pages. */
static void paging_insn(void)
{
	static const u8 crs[] = {0, 2, 3, 4};

	switch (below(pcid ? 5 : 6)) {
	case 0:
	case 1: invlpg(where()); break;
	case 2: mov_cr(0x20, crs[below(2)], reg()); break;
	case 3:
	case 4: cr3_insn(reg()); break;
	default: remap();
	}
}

static void op_mem_at(unsigned op, unsigned r, u32 d)
{
	put_rex(8 | r >> 3 << 2);
	put(op);
	put(0x83 | (r & 7) << 3);
	put_u32(d);
}

static void put_ac(bool ac)
{
	put(0x0f);
	put(0x01);
	put(0xca + ac);
}

/* What is checked before CLAC or INVLPG is not checked behind it. */
static void ac_between(void)
{
	u32 d = where();

	put_ac(true);
	op_mem_at(0x8b, RAX, d);
	op_mem_at(0x89, RCX, d + 8);
	put_ac(false);
	op_mem_at(0x8b, RDX, d);
	put_ac(true);
}

/* RDFSBASE and the like. */
static void base_insn(void)
{
	unsigned a = reg(), write = below(2);

	if (write && below(30)) { /* mostly canonical */
		put_rex1(a >> 3);
		put(0xb8 | (a & 7));
		put_u32((u32)(DATA + below(2 * PAGE_SIZE)));
	}
	put(0xf3);
	op_reg(1, 0xae, 2 * write + below(2), a, below(2));
}

static void system_insn64(void)
{
	switch (below(12)) {
	case 8: base_insn(); break;
	case 9:
	case 10: soft_int(); break;
	case 0: iretq(); break;
	case 1: sysretq(); break;
	case 2: /* in between most accesses fault if SMAP is on */
		put_ac(false);
		if (below(4) == 0)
			one();
		fallthrough;
	case 3: put_ac(true); break;
	case 6: load_segment(); break;
	case 7:
		if (below(3) == 0)
			ac_between();
		break;
	case 4: /* push; popfq */
		put(0x68);
		put_u32(flags_image());
		put(0x9d);
		break;
	case 5: paging_insn(); break;
	default: /* pause */ put(0xf3); put(0x90);
	}
}

/* At CPL 0: what kernels execute often. */
void system_insn(void)
{
	u32 d = below(DATA_PAGES * PAGE_SIZE - 512) & ~15u;
	unsigned a = reg();

	if (below(16) == 0) { /* pause; seldom an INT n that is CPL 0's */
		put(below(20) ? 0xf3 : m32 ? 0x90 : 0xcd);
		put(p[-1] == 0xcd ? V_DPL0 : 0x90);
		return;
	}
	if (!m32 && !user && below(2)) {
		system_insn64();
		return;
	}
	if (!user && below(16) == 0) { /* xor ecx, ecx; rdpkru */
		if (below(20))
			put(0x31), put(0xc9);
		put(0x0f);
		put(0x01);
		put(0xee);
		return;
	}
	switch (user ? 4 + 2 * below(3) : m32 ? 1 + below(7) : below(8)) {
	case 0:
		put(0x0f);
		put(0x01);
		put(0xf8);
		break;		  /* swapgs */
	case 1: put(0xfa); break; /* cli */
	case 2:
	case 3: put(0xfb); break; /* sti; what follows is anything */
	case 4:
		put(0x9c); /* pushf; pop */
		put_rex1(a >> 3);
		put(0x58 | (a & 7));
		break;
	case 5: /* mov from a segment register */
		if (below(3) == 0) {
			op_mem(0, 0x8c, below(6), false);
			break;
		}
		if (below(3) == 0)
			put(0x66);
		put_rex1(a >> 3);
		put(0x8c);
		put(0xc0 | below(6) << 3 | (a & 7));
		break;
	case 6: /* cmpxchg16b; with RBX as the base it needs some luck to be equal */
		d += below(20) == 0;
		if (below(2))
			put(0xf0);
		if (!m32)
			put(0x48);
		put(0x0f);
		put(0xc7);
		put(0x8b);
		memcpy(p, &d, 4);
		p += 4;
		define_flags();
		break;
	default:
		op_mem(0, 0xff, 6, false); /* push [mem]; pop */
		put_rex1(a >> 3);
		put(0x58 | (a & 7));
	}
}
