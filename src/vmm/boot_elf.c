/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels: PVH if the file has the note (Xen docs/misc/pvh.pandoc), else a 64-bit vmlinux
 * through its entry point with the Linux boot protocol; and multiboot 1 images (specification
 * 0.6.96).
 */
#include <elf.h>
#include <string.h>

#include "base/bits.h"
#include "vmm/vmm.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define HVM_START_MAGIC		 0x336ec578

struct hvm_start_info {
	u32 magic, version, flags, nr_modules;
	u64 modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	u32 memmap_entries, reserved;
};
struct hvm_modlist_entry {
	u64 paddr, size, cmdline_paddr, reserved;
};
struct hvm_memmap_entry {
	u64 addr, size;
	u32 type, reserved;
};

struct elf_info {
	u64 entry; /* physical */
	u64 end;   /* first byte after the image */
	u64 pvh;   /* PVH entry, 0 if none */
	bool is64;
};

static int bad(const struct vmm *vmm, const char *why)
{
	vmm_error("kernel '%s': %s", vmm->opt->kernel, why);
	return VMM_BAD_FILE;
}

/* The program header @i in 64-bit form, or false if it is outside the file. */
static bool program_header(const u8 *img, size_t size, bool is64, u64 phoff, unsigned phentsize,
			   unsigned i, Elf64_Phdr *out)
{
	u64 at = phoff + (u64)i * phentsize;

	if (is64) {
		if (phentsize < sizeof(*out) || at > size || size - at < sizeof(*out))
			return false;
		memcpy(out, img + at, sizeof(*out));
	} else {
		Elf32_Phdr p;

		if (phentsize < sizeof(p) || at > size || size - at < sizeof(p))
			return false;
		memcpy(&p, img + at, sizeof(p));
		*out = (Elf64_Phdr){.p_type = p.p_type,
				    .p_offset = p.p_offset,
				    .p_vaddr = p.p_vaddr,
				    .p_paddr = p.p_paddr,
				    .p_filesz = p.p_filesz,
				    .p_memsz = p.p_memsz};
	}
	return true;
}

static void scan_notes(const u8 *p, u64 n, struct elf_info *info)
{
	while (n >= 12) {
		u32 namesz, descsz, type;
		u64 need;

		memcpy(&namesz, p, 4);
		memcpy(&descsz, p + 4, 4);
		memcpy(&type, p + 8, 4);
		need = 12 + align_up(namesz, 4) + align_up(descsz, 4);
		if (need > n)
			return;
		if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == 4 && !memcmp(p + 12, "Xen", 4) &&
		    descsz >= 4) {
			u32 entry;

			memcpy(&entry, p + 16, 4);
			info->pvh = entry;
		}
		p += need;
		n -= need;
	}
}

static int load_segments(struct vmm *vmm, const u8 *img, size_t size, struct elf_info *info)
{
	unsigned phnum, phentsize;
	u64 phoff, entry;

	info->is64 = img[EI_CLASS] == ELFCLASS64;
	if (info->is64) {
		const Elf64_Ehdr *e = (const void *)img;

		if (size < sizeof(*e) || e->e_machine != EM_X86_64)
			return bad(vmm, "not an x86 ELF file");
		phoff = e->e_phoff, phnum = e->e_phnum, phentsize = e->e_phentsize,
		entry = e->e_entry;
	} else {
		const Elf32_Ehdr *e = (const void *)img;

		if (size < sizeof(*e) || (e->e_machine != EM_386 && e->e_machine != EM_X86_64))
			return bad(vmm, "not an x86 ELF file");
		phoff = e->e_phoff, phnum = e->e_phnum, phentsize = e->e_phentsize,
		entry = e->e_entry;
	}
	info->entry = entry;
	info->end = 0;
	info->pvh = 0;
	for (unsigned i = 0; i < phnum; i++) {
		Elf64_Phdr p;
		u8 *dst;

		if (!program_header(img, size, info->is64, phoff, phentsize, i, &p))
			return bad(vmm, "truncated: program headers are outside the file");
		if (p.p_type != PT_LOAD && p.p_type != PT_NOTE)
			continue;
		if (p.p_offset > size || size - p.p_offset < p.p_filesz)
			return bad(vmm, "truncated: a segment is outside the file");
		if (p.p_type == PT_NOTE) {
			scan_notes(img + p.p_offset, p.p_filesz, info);
			continue;
		}
		if (!p.p_memsz)
			continue;
		dst = p.p_memsz >= p.p_filesz ? vmm_mem(vmm, p.p_paddr, p.p_memsz) : NULL;
		if (!dst)
			return bad(vmm, "a segment does not fit in the guest's memory");
		memcpy(dst, img + p.p_offset, p.p_filesz);
		memset(dst + p.p_filesz, 0, p.p_memsz - p.p_filesz);
		info->end = MAX(info->end, p.p_paddr + p.p_memsz);
		/* The entry of vmlinux is virtual or physical, by version: make it physical. */
		if (entry >= p.p_vaddr && entry < p.p_vaddr + p.p_memsz)
			info->entry = entry - p.p_vaddr + p.p_paddr;
	}
	return info->end ? 0 : bad(vmm, "nothing to load in it");
}

static int put_cmdline(struct vmm *vmm, const char *append)
{
	if (vmm->opt->append)
		append = vmm->opt->append;
	if (strlen(append) >= BOOT_CMDLINE_MAX)
		return bad(vmm, "the command line is too long");
	strcpy(vmm_mem(vmm, BOOT_CMDLINE, BOOT_CMDLINE_MAX), append);
	return 0;
}

static int boot_pvh(struct vmm *vmm, struct boot_state *bs, const struct elf_info *info)
{
	struct {
		struct hvm_start_info info;
		struct hvm_modlist_entry mod;
		struct hvm_memmap_entry map[8];
	} *p = vmm_mem(vmm, BOOT_PVH_INFO, sizeof(*p));
	struct e820_entry e820[8];
	u64 addr, size;
	int r = boot_load_initrd(vmm, info->end, 0x80000000, &addr, &size);

	if (r)
		return r;
	memset(p, 0, sizeof(*p));
	p->info = (struct hvm_start_info){
		.magic = HVM_START_MAGIC,
		.version = 1,
		.cmdline_paddr = BOOT_CMDLINE,
		.rsdp_paddr = BOOT_ACPI,
		.nr_modules = !!size,
		.modlist_paddr = BOOT_PVH_INFO + offsetof(typeof(*p), mod),
		.memmap_paddr = BOOT_PVH_INFO + offsetof(typeof(*p), map),
		.memmap_entries = boot_e820(vmm, e820, 8),
	};
	p->mod = (struct hvm_modlist_entry){.paddr = addr, .size = size};
	for (unsigned i = 0; i < p->info.memmap_entries; i++)
		p->map[i] = (struct hvm_memmap_entry){e820[i].addr, e820[i].size, e820[i].type, 0};
	boot_state_flat32(vmm, bs);
	bs->regs.rip = info->pvh;
	bs->regs.rbx = BOOT_PVH_INFO;
	return 0;
}

int boot_elf(struct vmm *vmm, struct boot_state *bs, const u8 *img, size_t size)
{
	struct elf_info info;
	u64 addr, n;
	u8 *bp;
	int r = load_segments(vmm, img, size, &info);

	if (r || (r = put_cmdline(vmm, VMM_LINUX_APPEND)))
		return r;
	if (info.pvh)
		return boot_pvh(vmm, bs, &info);
	if (!info.is64) {
		boot_state_flat32(vmm, bs);
		bs->regs.rip = info.entry;
		return 0;
	}
	/* A vmlinux without the note: the 64-bit entry with a minimal zero page. */
	r = boot_load_initrd(vmm, info.end, 0x80000000, &addr, &n);
	if (r)
		return r;
	bp = vmm_mem(vmm, BOOT_ZERO_PAGE, PAGE_SIZE);
	memset(bp, 0, PAGE_SIZE);
	memcpy(bp + 0x1fe, "\x55\xaa", 2);
	memcpy(bp + 0x202, "HdrS", 4);
	memcpy(bp + 0x206, &(u16){0x20c}, 2);
	bp[0x210] = 0xff;
	memcpy(bp + 0x228, &(u32){BOOT_CMDLINE}, 4);
	memcpy(bp + 0x218, &(u32){addr}, 4);
	memcpy(bp + 0x21c, &(u32){n}, 4);
	memcpy(bp + 0x070, &(u64){BOOT_ACPI}, 8);
	bp[0x1e8] = boot_e820(vmm, (void *)(bp + 0x2d0), 128);
	boot_state_long(vmm, bs);
	bs->regs.rip = info.entry;
	bs->regs.rsi = BOOT_ZERO_PAGE;
	bs->regs.rsp = BOOT_ZERO_PAGE;
	return 0;
}

struct multiboot_info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	u32 mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
	u32 apm_table;
};
struct multiboot_mmap {
	u32 size;
	u64 addr, len;
	u32 type;
} __attribute__((packed));
struct multiboot_module {
	u32 start, end, cmdline, rsvd;
};

/* Loads by the header's address fields (flag 16) or as ELF. */
static int multiboot_image(struct vmm *vmm, const u8 *img, size_t size, size_t header,
			   struct elf_info *info)
{
	u32 h[8], flags;
	u64 load, load_end, bss_end, off;
	u8 *dst;

	memcpy(&flags, img + header + 4, 4);
	if (!(flags & BIT(16))) {
		if (size < 64 || memcmp(img, "\177ELF", 4))
			return bad(vmm,
				   "multiboot header without addresses in a file that is not ELF");
		return load_segments(vmm, img, size, info);
	}
	if (header + 32 > size)
		return bad(vmm, "truncated multiboot header");
	memcpy(h, img + header, sizeof(h));
	load = h[4], load_end = h[5], bss_end = h[6];
	if (load > h[3] || h[3] - load > header)
		return bad(vmm, "multiboot header's load address is outside the file");
	off = header - (h[3] - load);
	if (!load_end)
		load_end = load + (size - off);
	bss_end = MAX(bss_end, load_end);
	if (load_end < load || load_end - load > size - off)
		return bad(vmm, "multiboot image is shorter than its header says");
	dst = vmm_mem(vmm, load, bss_end - load);
	if (!dst)
		return bad(vmm, "the image does not fit in the guest's memory");
	memcpy(dst, img + off, load_end - load);
	memset(dst + (load_end - load), 0, bss_end - load_end);
	*info = (struct elf_info){.entry = h[7], .end = bss_end};
	return 0;
}

int boot_multiboot(struct vmm *vmm, struct boot_state *bs, const u8 *img, size_t size,
		   size_t header)
{
	struct {
		struct multiboot_info info;
		struct multiboot_module mod;
		char loader[8];
		struct multiboot_mmap map[8];
	} *p = vmm_mem(vmm, BOOT_PVH_INFO, sizeof(*p));
	struct e820_entry e820[8];
	struct elf_info info;
	unsigned n;
	u64 addr, len;
	int r = multiboot_image(vmm, img, size, header, &info);

	if (r || (r = put_cmdline(vmm, "")))
		return r;
	r = boot_load_initrd(vmm, info.end, 0x80000000, &addr, &len);
	if (r)
		return r;
	memset(p, 0, sizeof(*p));
	n = boot_e820(vmm, e820, 8);
	for (unsigned i = 0; i < n; i++)
		p->map[i] = (struct multiboot_mmap){20, e820[i].addr, e820[i].size, e820[i].type};
	p->mod = (struct multiboot_module){.start = addr, .end = addr + len};
	strcpy(p->loader, "kvmless");
	p->info = (struct multiboot_info){
		.flags = BIT(0) | BIT(2) | BIT(6) | BIT(9) | (len ? BIT(3) : 0),
		.mem_lower = 639,
		.mem_upper = (vmm->low_size >> 10) - 1024,
		.cmdline = BOOT_CMDLINE,
		.mods_count = !!len,
		.mods_addr = BOOT_PVH_INFO + offsetof(typeof(*p), mod),
		.mmap_length = n * sizeof(struct multiboot_mmap),
		.mmap_addr = BOOT_PVH_INFO + offsetof(typeof(*p), map),
		.boot_loader_name = BOOT_PVH_INFO + offsetof(typeof(*p), loader),
	};
	boot_state_flat32(vmm, bs);
	bs->regs.rip = info.entry;
	bs->regs.rax = 0x2badb002;
	bs->regs.rbx = BOOT_PVH_INFO;
	return 0;
}
