/* SPDX-License-Identifier: MIT */
/* bzImage by the 64-bit entry point (Linux Documentation/arch/x86/boot.rst). */
#include <string.h>

#include "base/bits.h"
#include "vmm/vmm.h"

/* Offsets in the boot_params page, which starts with screen_info and has the setup header at 0x1f1
 */
#define BP_ACPI_RSDP	0x070
#define BP_E820_ENTRIES 0x1e8
#define BP_HEADER	0x1f1
#define BP_E820_TABLE	0x2d0
/* Offsets in the image and, as the header is copied there, in boot_params */
#define H_SETUP_SECTS  0x1f1
#define H_VERSION      0x206
#define H_KVERSION     0x20e
#define H_TYPE_LOADER  0x210
#define H_LOADFLAGS    0x211
#define H_RAMDISK      0x218
#define H_RAMDISK_SIZE 0x21c
#define H_HEAP_END     0x224
#define H_CMDLINE      0x228
#define H_INITRD_MAX   0x22c
#define H_XLOADFLAGS   0x236
#define H_CMDLINE_SIZE 0x238
#define H_INIT_SIZE    0x260
#define H_HEADER_LEN   0x201 /* byte: the header ends at 0x202 + this */

static u16 get16(const u8 *p)
{
	u16 v;
	memcpy(&v, p, 2);
	return v;
}
static u32 get32(const u8 *p)
{
	u32 v;
	memcpy(&v, p, 4);
	return v;
}
static void put32(u8 *p, u32 v)
{
	memcpy(p, &v, 4);
}

static int bad(const struct vmm *vmm, const char *why)
{
	vmm_error("kernel '%s': %s", vmm->opt->kernel, why);
	return VMM_BAD_FILE;
}

static void read_version(struct boot_state *bs, const u8 *img, size_t size)
{
	size_t off = get16(img + H_KVERSION);

	if (!off || (off += 0x200) + 1 >= size)
		return;
	for (size_t i = 0; i < sizeof(bs->version) - 1 && off + i < size && img[off + i] > ' '; i++)
		bs->version[i] = img[off + i];
}

int boot_bzimage(struct vmm *vmm, struct boot_state *bs, const u8 *img, size_t size)
{
	size_t setup = ((img[H_SETUP_SECTS] ? img[H_SETUP_SECTS] : 4) + 1) * 512ul, n;
	const char *append = vmm->opt->append ? vmm->opt->append : VMM_LINUX_APPEND;
	u64 initrd, initrd_size, end;
	u32 init_size;
	u8 *bp;
	int r;

	if (get16(img + H_VERSION) < 0x20c)
		return bad(vmm, "boot protocol older than 2.12 (no 64-bit entry)");
	if (!(get16(img + H_XLOADFLAGS) & 1))
		return bad(vmm, "has no 64-bit entry point");
	if (setup >= size)
		return bad(vmm, "truncated: it ends within its setup code");
	n = size - setup;
	/* syssize, in 16-byte units, is what the loader must find after the setup code */
	if (n < (size_t)get32(img + 0x1f4) * 16 - 15)
		return bad(vmm, "truncated: shorter than its header says");
	if (strlen(append) >= MIN((u64)get32(img + H_CMDLINE_SIZE), BOOT_CMDLINE_MAX - 1))
		return bad(vmm, "the command line is longer than the kernel takes");
	init_size = get32(img + H_INIT_SIZE);
	end = BOOT_KERNEL + MAX((u64)init_size, n);
	if (!vmm_mem(vmm, BOOT_KERNEL, end - BOOT_KERNEL)) {
		vmm_error("kernel '%s' needs %llu MiB of memory, the guest has %llu MiB",
			  vmm->opt->kernel, (unsigned long long)(end >> 20) + 1,
			  (unsigned long long)vmm->mem_size >> 20);
		return VMM_BAD_FILE;
	}
	memcpy(vmm_mem(vmm, BOOT_KERNEL, n), img + setup, n);
	r = boot_load_initrd(vmm, end, (u64)get32(img + H_INITRD_MAX) + 1, &initrd, &initrd_size);
	if (r)
		return r;

	bp = vmm_mem(vmm, BOOT_ZERO_PAGE, PAGE_SIZE);
	memset(bp, 0, PAGE_SIZE);
	memcpy(bp + BP_HEADER, img + BP_HEADER,
	       MIN(0x202u + img[H_HEADER_LEN], (unsigned)BP_E820_TABLE) - BP_HEADER);
	bp[H_TYPE_LOADER] = 0xff;
	bp[H_LOADFLAGS] |= 0x01;
	put32(bp + H_CMDLINE, BOOT_CMDLINE);
	put32(bp + H_RAMDISK, initrd);
	put32(bp + H_RAMDISK_SIZE, initrd_size);
	memcpy(bp + BP_ACPI_RSDP, &(u64){BOOT_ACPI}, 8);
	bp[BP_E820_ENTRIES] = boot_e820(vmm, (void *)(bp + BP_E820_TABLE), 128);
	strcpy(vmm_mem(vmm, BOOT_CMDLINE, BOOT_CMDLINE_MAX), append);

	boot_state_long(vmm, bs);
	bs->regs.rip = BOOT_KERNEL + 0x200;
	bs->regs.rsi = BOOT_ZERO_PAGE;
	bs->regs.rsp = BOOT_ZERO_PAGE;
	read_version(bs, img, size);
	return 0;
}
