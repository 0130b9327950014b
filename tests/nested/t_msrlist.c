// SPDX-License-Identifier: MIT
/* MSR lists of entry and exit, with their failures: 27.4, 28.4, 28.6 and 28.7. */
#include "l1.h"

struct entry {
	u32 index, reserved;
	u64 value;
};

static struct entry *in, *out, *back;
static u64 seen;

static void l2_read(void)
{
	seen = rdmsr(MSR_KERNEL_GS_BASE);
}

static void start(void)
{
	vmx_fresh();
	if (may_cpu(CPU_BASED_USE_MSR_BITMAPS)) {
		set_cpu(CPU_BASED_USE_MSR_BITMAPS);
		vmwrite(MSR_BITMAP, (u64)page());
	}
	vmwrite(VM_ENTRY_MSR_LOAD_ADDR, (u64)in);
	vmwrite(VM_EXIT_MSR_STORE_ADDR, (u64)out);
	vmwrite(VM_EXIT_MSR_LOAD_ADDR, (u64)back);
	memset(in, 0, 4096);
	memset(out, 0, 4096);
	memset(back, 0, 4096);
}

/* Entry @bad of three, counted from 1, is refused. */
static void failing(const char *name, struct entry e)
{
	start();
	in[0] = (struct entry){MSR_KERNEL_GS_BASE, 0, 0x1000};
	in[1] = e;
	in[2] = (struct entry){MSR_KERNEL_GS_BASE, 0, 0x2000};
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 3);
	check2(name, "reason", run_at(l2_read), FAILED | EXIT_REASON_MSR_LOAD_FAIL);
	check2(name, "qualification", vmread(EXIT_QUALIFICATION), 2);
	check2(name, "not launched", vmresume_try(), VALID(5));
}

void group_msrlist(void)
{
	in = page();
	out = page();
	back = page();

	start();
	wrmsr(MSR_KERNEL_GS_BASE, 0x1111);
	in[0] = (struct entry){MSR_KERNEL_GS_BASE, 0, 0x2222};
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 1);
	out[0] = (struct entry){MSR_KERNEL_GS_BASE, 0, 0xdead};
	out[1] = (struct entry){MSR_LSTAR, 0, 0xdead};
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 1);
	back[0] = (struct entry){MSR_KERNEL_GS_BASE, 0, 0x3333};
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 1);
	check("lists", run_at(l2_read), EXIT_REASON_VMCALL);
	if (may_cpu(CPU_BASED_USE_MSR_BITMAPS))
		check("loaded on entry", seen, 0x2222);
	check("stored on exit", out[0].value, 0x2222);
	check("index as it was", out[0].index, MSR_KERNEL_GS_BASE);
	check("beyond the count nothing is stored", out[1].value, 0xdead);
	check("loaded on exit", rdmsr(MSR_KERNEL_GS_BASE), 0x3333);
	check("entry list as it was", in[0].value, 0x2222);

	/* The later of two entries wins. */
	start();
	in[0] = (struct entry){MSR_KERNEL_GS_BASE, 0, 1};
	in[1] = (struct entry){MSR_KERNEL_GS_BASE, 0, 2};
	vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 2);
	out[0].index = MSR_KERNEL_GS_BASE;
	vmwrite(VM_EXIT_MSR_STORE_COUNT, 1);
	check("two entries of one MSR", run_at(l2_read), EXIT_REASON_VMCALL);
	check("two entries of one MSR, value", out[0].value, 2);

	/* 27.4: what an entry list may not have. */
	failing("FS base", (struct entry){MSR_FS_BASE, 0, 0});
	failing("GS base", (struct entry){MSR_GS_BASE, 0, 0});
	failing("x2APIC register", (struct entry){0x808, 0, 0});
	failing("reserved half", (struct entry){MSR_KERNEL_GS_BASE, 1, 0});
	failing("value that WRMSR refuses", (struct entry){MSR_KERNEL_GS_BASE, 0, BIT(62)});
	failing("no such MSR", (struct entry){0x12345678, 0, 0});
	failing("read-only MSR", (struct entry){MSR_VMX_BASIC, 0, caps[0]});

	/* 28.6 also happens on an entry that fails in its guest state. */
	start();
	wrmsr(MSR_KERNEL_GS_BASE, 0x1111);
	back[0] = (struct entry){MSR_KERNEL_GS_BASE, 0, 0x4444};
	vmwrite(VM_EXIT_MSR_LOAD_COUNT, 1);
	vmwrite(GUEST_RFLAGS, 0);
	check("failed entry", run_at(l2_read), FAILED | EXIT_REASON_INVALID_STATE);
	check("failed entry loads the exit list", rdmsr(MSR_KERNEL_GS_BASE), 0x4444);
}
