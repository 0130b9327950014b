/* SPDX-License-Identifier: MIT */
/*
 * Programs that ask the processor itself, by CPUID, whether it has VT-x before they open /dev/kvm,
 * or which vendor's it is. Where the answer would not be the virtual processor's, the CPUID
 * instructions in the program's own code (not in its libraries) become UD2, and SIGILL answers:
 * vendor, family and model, VMX and SVM as the virtual processor, all else as the real one, since
 * programs choose code for themselves by it. The places of XSAVE's components are the virtual
 * processor's too: QEMU reads KVM_GET_XSAVE's buffer and makes its guest's CPUID by them.
 *
 * CPUID faulting (arch_prctl(ARCH_CPUID_FAULT)) would take the C library's own uses with it and
 * exists on few hosts; patching needs nothing of the host.
 */
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "shim/shim.h"

#ifdef __x86_64__
#include <Zydis/Zydis.h>
#include <cpuid.h>

#include "base/bits.h"
#include "core/core.h"

#define CPUID_LEN   2
#define MAX_PATCHES 64
/* Decoding from this far before a candidate, at each of so many offsets, finds its boundary. */
#define SYNC_BACK   128
#define SYNC_TRIES  16
#define SYNC_NEEDED 12

#define LEAF_VMX BIT(5) /* CPUID.1:ECX */
#define LEAF_SVM BIT(2) /* CPUID.80000001H:ECX */

static u8 *found[MAX_PATCHES];
static unsigned nfound;
static u64 patched[MAX_PATCHES];
static unsigned npatched;
static struct kvm_cpuid_entry2 leaf0, leaf1; /* the virtual processor's */
#define LEAF_XSAVE	 0xd
#define XSAVE_COMPONENTS 64
static u32 xsave[XSAVE_COMPONENTS][3]; /* its leaf 0DH from subleaf 2: size, offset, flags */
#define LEAF_BRAND 0x80000002	       /* to 80000004H: its name */
static struct kvm_cpuid_entry2 brand[3];
static bool is_amd;

static void answer(u32 leaf, u32 subleaf, u32 *r)
{
	__cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
	switch (leaf) {
	case 0:
		r[1] = leaf0.ebx;
		r[2] = leaf0.ecx;
		r[3] = leaf0.edx;
		break;
	case 1:
		r[0] = leaf1.eax;
		r[2] = is_amd ? r[2] & ~LEAF_VMX : r[2] | LEAF_VMX;
		break;
	case 0x80000001: r[2] = is_amd ? r[2] | LEAF_SVM : r[2] & ~LEAF_SVM; break;
	case LEAF_BRAND:
	case LEAF_BRAND + 1:
	case LEAF_BRAND + 2:
		if (brand[leaf - LEAF_BRAND].function == leaf)
			memcpy(r, &brand[leaf - LEAF_BRAND].eax, 4 * sizeof(*r));
		break;
	case LEAF_XSAVE:
		if (subleaf < XSAVE_COMPONENTS && xsave[subleaf][0])
			memcpy(r, xsave[subleaf], sizeof(xsave[subleaf]));
		break;
	default: break;
	}
}

bool cpuid_emulate(void *ucontext)
{
	greg_t *g = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
	u32 r[4];

	for (unsigned i = 0; i < npatched; i++) {
		if (patched[i] != (u64)g[REG_RIP])
			continue;
		answer(g[REG_RAX], g[REG_RCX], r);
		g[REG_RAX] = r[0];
		g[REG_RBX] = r[1];
		g[REG_RCX] = r[2];
		g[REG_RDX] = r[3];
		g[REG_RIP] += CPUID_LEN;
		return true;
	}
	return false;
}

/* Does the real processor answer what the virtual one would? */
static bool native_will_do(void)
{
	u32 a, b, c, d;

	__cpuid(0, a, b, c, d);
	if (b != leaf0.ebx || c != leaf0.ecx || d != leaf0.edx)
		return false;
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		if (!xsave[i][0])
			continue;
		__cpuid_count(LEAF_XSAVE, i, a, b, c, d);
		if (a != xsave[i][0] || b != xsave[i][1])
			return false;
	}
	if (!is_amd) {
		__cpuid(1, a, b, c, d);
		return c & LEAF_VMX;
	}
	__cpuid(0x80000000, a, b, c, d);
	if (a < 0x80000001)
		return false;
	__cpuid(0x80000001, a, b, c, d);
	return c & LEAF_SVM;
}

static bool load_virtual(void)
{
	u32 n = 256;
	struct kvm_cpuid_entry2 *e = calloc(n, sizeof(*e));
	bool ok = e && !sys_get_supported_cpuid(e, &n);

	for (u32 i = 0; ok && i < n; i++) {
		if (e[i].function == 0)
			leaf0 = e[i];
		else if (e[i].function == 1)
			leaf1 = e[i];
		else if (e[i].function >= LEAF_BRAND &&
			 e[i].function < LEAF_BRAND + ARRAY_SIZE(brand))
			brand[e[i].function - LEAF_BRAND] = e[i];
		else if (e[i].function == LEAF_XSAVE && e[i].index >= 2 &&
			 e[i].index < XSAVE_COMPONENTS)
			memcpy(xsave[e[i].index], &e[i].eax, sizeof(xsave[0]));
	}
	is_amd = leaf0.ebx == 0x68747541; /* "Auth" */
	free(e);
	return ok && leaf0.ebx;
}

/* Is @p the start of a CPUID instruction, and not inside another or in data? */
static bool is_instruction(const ZydisDecoder *dec, const u8 *start, const u8 *p)
{
	ZydisDecodedInstruction insn;
	unsigned hits = 0, tries = 0;

	for (; tries < SYNC_TRIES && p - start >= (long)tries; tries++) {
		const u8 *q = p - start > SYNC_BACK ? p - SYNC_BACK + tries : start + tries;

		while (q < p) {
			ZyanStatus s =
				ZydisDecoderDecodeInstruction(dec, NULL, q, p - q + 15, &insn);
			q += ZYAN_SUCCESS(s) ? insn.length : 1;
		}
		hits += q == p;
	}
	return hits * SYNC_TRIES >= tries * SYNC_NEEDED;
}

static void patch_one(u8 *p)
{
	static const u8 ud2[CPUID_LEN] = {0x0f, 0x0b};
	u8 *page = (u8 *)((u64)p & PAGE_MASK);
	size_t len = ((u64)p + CPUID_LEN - 1 - (u64)page) / PAGE_SIZE * PAGE_SIZE + PAGE_SIZE;

	/* The program has not begun: nobody runs this meanwhile. */
	if (mprotect(page, len, PROT_READ | PROT_WRITE))
		return;
	memcpy(p, ud2, CPUID_LEN);
	mprotect(page, len, PROT_READ | PROT_EXEC);
	patched[npatched++] = (u64)p;
}

static void search_segment(u8 *start, size_t n)
{
	static const u8 cpuid[CPUID_LEN] = {0x0f, 0xa2};
	ZydisDecoder dec;
	u8 *p = start, *end = start + n;

	ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	while (nfound < MAX_PATCHES && (p = memmem(p, end - p, cpuid, sizeof(cpuid)))) {
		if (is_instruction(&dec, start, p))
			found[nfound++] = p;
		p++;
	}
}

/* The first object is the program. */
static int search_program(struct dl_phdr_info *info, size_t size, void *opaque)
{
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && (ph->p_flags & (PF_X | PF_W | PF_R)) == (PF_X | PF_R))
			search_segment((u8 *)info->dlpi_addr + ph->p_vaddr, ph->p_filesz);
	}
	return 1;
}

void cpuid_patch(void)
{
	const char *how = getenv(SHIM_ENV_CPUID);

	if (how && !strcmp(how, "native"))
		return;
	/* Most programs have none, and that is cheaper to know than what the answer would be. */
	dl_iterate_phdr(search_program, NULL);
	if (!nfound || !load_virtual() || native_will_do())
		return;
	for (unsigned i = 0; i < nfound; i++)
		patch_one(found[i]);
	if (npatched)
		signal_activate();
}

bool cpuid_patched(void)
{
	return npatched;
}
#else
void cpuid_patch(void) {}

bool cpuid_patched(void)
{
	return false;
}

bool cpuid_emulate(void *ucontext)
{
	return false;
}
#endif
