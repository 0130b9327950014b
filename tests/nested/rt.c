// SPDX-License-Identifier: MIT
/* Results on the serial port, exceptions, memory, the choice of groups. */
#include "evmcs.h"
#include "l1.h"

struct exc exc;
bool exc_may_return;
u64 idt[512] __attribute__((aligned(16)));
u8 tss[104] __attribute__((aligned(16)));

static const char *group;
static unsigned passed, failed;
extern char image_end[];
static u64 next_page;

static void put(const char *s)
{
	for (; *s; s++)
		outb(0x3f8, *s);
}

static void put_hex(u64 v)
{
	char text[17];
	unsigned i = 16;

	text[i] = 0;
	do {
		text[--i] = "0123456789abcdef"[v & 15];
		v >>= 4;
	} while (v);
	put(text + i);
}

static void put_number(u64 v)
{
	char text[21];
	unsigned i = 20;

	text[i] = 0;
	do {
		text[--i] = '0' + v % 10;
		v /= 10;
	} while (v);
	put(text + i);
}

static void put_name(const char *verdict, const char *prefix, const char *name)
{
	put(verdict);
	put(group);
	put(" ");
	if (prefix) {
		put(prefix);
		put(": ");
	}
	put(name);
}

bool check2(const char *prefix, const char *name, u64 got, u64 want)
{
	bool ok = got == want;

	put_name(ok ? "PASS " : "FAIL ", prefix, name);
	if (ok) {
		passed++;
	} else {
		failed++;
		put(": got 0x");
		put_hex(got);
		put(", wanted 0x");
		put_hex(want);
	}
	put("\n");
	return ok;
}

bool check(const char *name, u64 got, u64 want)
{
	return check2(NULL, name, got, want);
}

void skip(const char *name, const char *why)
{
	put_name("SKIP ", NULL, name);
	put(": ");
	put(why);
	put("\n");
}

void note(const char *text)
{
	put(text);
	put("\n");
}

static void __attribute__((noreturn)) quit(u8 status)
{
	outb(0xf4, status);
	for (;;)
		asm volatile("cli; hlt");
}

void panic(const char *text, u64 value)
{
	put_name("FAIL ", NULL, text);
	put(": got 0x");
	put_hex(value);
	put("\n");
	quit(1);
}

/* ---- Memory ---- */

void *memset(void *p, int c, size_t n)
{
	char *d = p;

	while (n--) {
		*d++ = (char)c;
		asm volatile("" : : : "memory");
	}
	return p;
}

void *memcpy(void *d, const void *s, size_t n)
{
	char *to = d;
	const char *from = s;

	while (n--) {
		*to++ = *from++;
		asm volatile("" : : : "memory");
	}
	return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

void *pages(unsigned n, u64 align)
{
	u64 pa;

	if (!next_page)
		next_page = align_up((u64)image_end, 4096);
	pa = align_up(next_page, align);
	next_page = pa + n * 4096ull;
	if (next_page > 60ull << 20)
		panic("memory is used up", next_page);
	return memset((void *)pa, 0, n * 4096ull);
}

void *page(void)
{
	return pages(1, 4096);
}

/* ---- Exceptions ---- */

struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

void exc_handler(struct frame *f);
void exc_handler(struct frame *f)
{
	if (f->vector >= 32 && !exc.fixup) {
		exc.irqs++;
		exc.irq_vector = f->vector;
		return;
	}
	exc.taken++;
	exc.vector = f->vector;
	exc.error = f->error;
	exc.rip = f->rip;
	exc.cs = f->cs;
	exc.rflags = f->rflags;
	exc.rsp = f->rsp;
	if (f->vector == 14)
		exc.cr2 = READ_REG(cr2);
	if (exc.fixup) {
		f->rip = exc.fixup;
		if (exc.fixup_rsp) {
			f->rsp = exc.fixup_rsp;
			f->cs = CS64;
			f->ss = DS64;
		}
		exc.fixup = exc.fixup_rsp = 0;
		return;
	}
	if (exc_may_return)
		return;
	put("exception ");
	put_hex(f->vector);
	put(" error ");
	put_hex(f->error);
	put(" cr2 ");
	put_hex(READ_REG(cr2));
	put(" at ");
	put_hex(f->rip);
	put("\n");
	panic("unexpected exception", f->vector);
}

static void setup_tables(void)
{
	static struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} idtr = {sizeof(idt) - 1, 0};
	u64 base = (u64)tss, sp = (u64)pages(4, 4096) + 4 * 4096;

	for (unsigned i = 0; i < 256; i++) {
		u64 to = (u64)exc_stubs + 16 * i;

		idt[2 * i] =
			(to & 0xffff) | CS64 << 16 | 0xee00ull << 32 | (to >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = to >> 32;
	}
	idtr.base = (u64)idt;
	asm volatile("lidt %0" : : "m"(idtr));
	memcpy(tss + 4, &sp, 8);
	tss[102] = 104;
	gdt[TSS / 8] = 103 | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	gdt[TSS / 8 + 1] = base >> 32;
	asm volatile("ltr %w0" : : "r"(TSS));
}

/* ---- Groups ---- */

/* The value of "name=" on the command line, ended by a blank, or NULL. */
static const char *option(const char *line, const char *name)
{
	for (; *line; line++) {
		const char *n = name, *l = line;

		while (*n && *n == *l)
			n++, l++;
		if (!*n)
			return l;
	}
	return NULL;
}

static bool same_word(const char *a, const char *word)
{
	while (*word && *a == *word)
		a++, word++;
	return !*word && (!*a || *a == ' ');
}

void l1_main(u32 *info);
void l1_main(u32 *info)
{
	const char *line = info[0] & 4 ? (const char *)(u64)info[4] : "";
	const char *wanted = option(line, "group=");
	bool enlightened = option(line, "vmcs=enlightened");
	const char *in_motion = option(line, "moved=yes");
	static char name[32];
	bool any = false;

	/* A loader may have put the command line where our pages are. */
	for (unsigned i = 0; wanted && i < sizeof(name) - 1 && wanted[i] && wanted[i] != ' '; i++)
		name[i] = wanted[i];
	wanted = wanted ? name : NULL;

	moved = in_motion;
	group = "setup";
	setup_tables();
	if (enlightened && !hv_start())
		panic("no Hyper-V", 0);
	if (!vmx_probe()) {
		skip("everything", "the processor has no VMX");
		note("SKIPPED ALL");
		quit(0);
	}
	vmxon((u64)vmxon_region);
#define GROUP(name)                                \
	if (!wanted || same_word(wanted, #name)) { \
		group = #name;                     \
		any = true;                        \
		vmx_fresh();                       \
		group_##name();                    \
	}
#include "groups.def"
	if (!any)
		panic("no such group", 0);
	put("RESULT ");
	put_number(passed);
	put(" passed, ");
	put_number(failed);
	put(" failed\n");
	quit(failed != 0);
}
