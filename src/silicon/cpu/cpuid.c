/* SPDX-License-Identifier: MIT */
/* CPUID and the MSRs that describe the hardware. */
#include <assert.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "silicon/cpu/machine.h"
#include "spec/msr.h"

static const struct leaf {
	u32 leaf, subleaf, r[4];
} leaves[] = {
#define CPUID_LEAF(leaf, subleaf, a, b, c, d) {leaf, subleaf, {a, b, c, d}},
#include "spec/cpuid.def"
};

enum need { ALWAYS, HOST };
static const struct bit {
	u32 leaf;
	u8 subleaf, reg, bit, need;
} bits[] = {
#define CPUID_BIT(leaf, subleaf, reg, bit, need) {leaf, subleaf, reg, bit, need},
#include "spec/cpuid.def"
};

#define MAX_BASIC    0x16u
#define MAX_EXTENDED 0x80000008u
#define VA_BITS	     57u

static_assert(ARRAY_SIZE(bits) <= SIL_CPUID_BITS, "raise SIL_CPUID_BITS");

static bool host_has(const struct bit *b)
{
#ifdef __x86_64__
	u32 r[4];

	return __get_cpuid_count(b->leaf, b->subleaf, &r[0], &r[1], &r[2], &r[3]) &&
	       (r[b->reg] >> b->bit & 1);
#else
	return false;
#endif
}

void cpuid_init(struct sil_machine *m)
{
	unsigned k;

	/* CPUID may be slow where the host is a virtual machine: asked once. */
	for (k = 0; k < ARRAY_SIZE(bits); k++)
		if (bits[k].need == ALWAYS || host_has(&bits[k]))
			m->cpuid_bits[k / 64] |= BIT(k % 64);
}

/* Components of XCR0 by CPUID leaf 0xd: x87, SSE, AVX, PKRU. */
static u64 xcr0_supported(const struct sil_machine *m)
{
	u32 r[4];

	sil_cpuid(m, 1, 0, r);
	return r[2] & BIT(28) ? 0x207 : 0x203;
}

static void leaf_d(const struct sil_machine *m, u32 subleaf, u32 out[4])
{
	u64 xcr0 = xcr0_supported(m);

	switch (subleaf) {
	case 0:
		out[0] = (u32)xcr0;
		out[1] = out[2] = isa_xsave_size(xcr0, false);
		break;
	case 1: out[1] = isa_xsave_size(xcr0, true); break;
	case 2:
		out[0] = xcr0 & BIT(2) ? 256 : 0;
		out[1] = xcr0 & BIT(2) ? 576 : 0;
		break;
	case 9:
		out[0] = 8;
		out[1] = 2688;
		break;
	default: break;
	}
}

static void brand(u32 part, u32 out[4])
{
	static const char name[48] = "kvmless software processor";

	memcpy(out, name + 16 * part, 16);
}

void sil_cpuid(const struct sil_machine *m, u32 leaf, u32 subleaf, u32 out[4])
{
	unsigned k;

	memset(out, 0, 4 * sizeof(*out));
	/* Beyond the last basic leaf, the answer is the last one's. */
	if ((leaf > MAX_BASIC && leaf < 0x80000000) || leaf > MAX_EXTENDED)
		leaf = MAX_BASIC;
	/* Subleaves matter to some leaves only. */
	if (leaf != 4 && leaf != 7 && leaf != 0xb && leaf != 0xd)
		subleaf = 0;
	for (k = 0; k < ARRAY_SIZE(leaves); k++)
		if (leaves[k].leaf == leaf && leaves[k].subleaf == subleaf)
			memcpy(out, leaves[k].r, sizeof(leaves[k].r));
	for (k = 0; k < ARRAY_SIZE(bits); k++)
		if (bits[k].leaf == leaf && bits[k].subleaf == subleaf &&
		    (m->cpuid_bits[k / 64] >> (k % 64) & 1))
			out[bits[k].reg] |= 1u << bits[k].bit;

	switch (leaf) {
	case 0:
		out[0] = MAX_BASIC;
		memcpy(&out[1], "Genu", 4);
		memcpy(&out[3], "ineI", 4);
		memcpy(&out[2], "ntel", 4);
		break;
	case 0xb:
		if (subleaf > 1)
			out[2] = subleaf & 0xff;
		break;
	case 0xd: leaf_d(m, subleaf, out); break;
	case 0x16: out[0] = out[1] = m->cfg.tsc_khz / 1000; break;
	case 0x80000000: out[0] = MAX_EXTENDED; break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004: brand(leaf - 0x80000002, out); break;
	case 0x80000008: out[0] = m->maxphyaddr | VA_BITS << 8; break;
	default: break;
	}
}

u64 cpu_cr4_supported(const struct sil_machine *m)
{
	static const struct {
		u64 cr4;
		u32 leaf;
		u8 reg, bit;
	} gate[] = {
		{CR4_VME | CR4_PVI, 1, 3, 1}, {CR4_DE, 1, 3, 2},      {CR4_PSE, 1, 3, 3},
		{CR4_TSD, 1, 3, 4},	      {CR4_PAE, 1, 3, 6},     {CR4_MCE, 1, 3, 7},
		{CR4_PGE, 1, 3, 13},	      {CR4_OSFXSR, 1, 3, 24}, {CR4_OSXMMEXCPT, 1, 3, 25},
		{CR4_VMXE, 1, 2, 5},	      {CR4_PCIDE, 1, 2, 17},  {CR4_OSXSAVE, 1, 2, 26},
		{CR4_FSGSBASE, 7, 1, 0},      {CR4_SMEP, 7, 1, 7},    {CR4_SMAP, 7, 1, 20},
		{CR4_UMIP, 7, 2, 2},	      {CR4_PKE, 7, 2, 3},     {CR4_LA57, 7, 2, 16},
		{CR4_PKS, 7, 2, 31},
	};
	u64 v = CR4_PCE;
	u32 r[4];
	unsigned k;

	for (k = 0; k < ARRAY_SIZE(gate); k++) {
		sil_cpuid(m, gate[k].leaf, 0, r);
		if (r[gate[k].reg] >> gate[k].bit & 1)
			v |= gate[k].cr4;
	}
	return v;
}

u64 cpu_efer_supported(const struct sil_machine *m)
{
	return EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
}

int sil_rdmsr(const struct sil_machine *m, u32 index, u64 *val)
{
	switch (index) {
	case MSR_IA32_ARCH_CAPABILITIES: *val = ARCH_CAP_NO_FLAWS; return 0;
	case MSR_IA32_UCODE_REV: *val = 0x100000000ull; return 0;
	case MSR_IA32_PLATFORM_ID: *val = 0; return 0;
	case MSR_PLATFORM_INFO: *val = (u64)(m->cfg.tsc_khz / 100000) << 8; return 0;
	case MSR_IA32_CR_PAT: *val = 0x0007040600070406ull; return 0;
	case MSR_EFER: *val = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE; return 0;
	default: break;
	}
	return m->virt->root_rdmsr(m, index, val);
}
