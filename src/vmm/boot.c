/* SPDX-License-Identifier: MIT */
/* What every kind of kernel shares: files, the memory map, the initrd, the processor's first state.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "vmm/vmm.h"

u8 *file_read(const char *path, const char *what, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	u8 *buf = NULL;
	size_t done = 0;

	if (fd < 0 || fstat(fd, &st)) {
		vmm_error("%s '%s': %s", what, path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		vmm_error("%s '%s' is not a regular file", what, path);
		goto out;
	}
	if (st.st_size == 0) {
		vmm_error("%s '%s' is empty", what, path);
		goto out;
	}
	buf = malloc(st.st_size);
	if (!buf) {
		vmm_error("%s '%s': no memory for %lld bytes", what, path, (long long)st.st_size);
		goto out;
	}
	while (done < (size_t)st.st_size) {
		ssize_t n = read(fd, buf + done, st.st_size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			vmm_error("%s '%s': %s", what, path, n ? strerror(errno) : "file shrank");
			free(buf);
			buf = NULL;
			goto out;
		}
		done += n;
	}
	*size = done;
out:
	if (fd >= 0)
		close(fd);
	return buf;
}

unsigned boot_e820(struct vmm *vmm, struct e820_entry *e, unsigned max)
{
	unsigned n = 0;

	(void)max;
	e[n++] = (struct e820_entry){0, BOOT_EBDA, 1};
	e[n++] = (struct e820_entry){BOOT_EBDA, BOOT_KERNEL - BOOT_EBDA, 2};
	if (vmm->low_size > BOOT_KERNEL)
		e[n++] = (struct e820_entry){BOOT_KERNEL, vmm->low_size - BOOT_KERNEL, 1};
	if (vmm->mem_size > vmm->low_size)
		e[n++] = (struct e820_entry){MEM_HOLE_END, vmm->mem_size - vmm->low_size, 1};
	return n;
}

int boot_load_initrd(struct vmm *vmm, u64 kernel_end, u64 max, u64 *addr, u64 *size)
{
	size_t n;
	u8 *img;
	u64 at;

	*addr = *size = 0;
	if (!vmm->opt->initrd)
		return 0;
	img = file_read(vmm->opt->initrd, "initrd", &n);
	if (!img)
		return VMM_BAD_FILE;
	max = MIN(max, vmm->low_size);
	at = n <= max ? align_down(max - n, PAGE_SIZE) : 0;
	if (n > max || at < align_up(kernel_end, PAGE_SIZE)) {
		vmm_error("initrd '%s' (%zu MiB) does not fit beside the kernel in %llu MiB of "
			  "memory; "
			  "use a larger --memory",
			  vmm->opt->initrd, n >> 20, (unsigned long long)vmm->mem_size >> 20);
		free(img);
		return VMM_BAD_FILE;
	}
	memcpy(vmm_mem(vmm, at, n), img, n);
	free(img);
	*addr = at;
	*size = n;
	return 0;
}

/* GDT: null, 64-bit code at 0x10 (Linux' __BOOT_CS), data at 0x18; 32-bit code at 0x20. */
static const u64 gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff};

static struct kvm_segment segment(u16 sel, bool code, bool l)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = sel,
		.type = code ? 11 : 3,
		.present = 1,
		.s = 1,
		.db = !l,
		.l = l,
		.g = 1,
	};
}

static void common_state(struct vmm *vmm, struct boot_state *bs, bool l)
{
	struct kvm_sregs *s = &bs->sregs;

	memcpy(vmm_mem(vmm, BOOT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	s->gdt.base = BOOT_GDT;
	s->gdt.limit = sizeof(gdt) - 1;
	s->idt.base = 0;
	s->idt.limit = 0;
	s->cs = segment(l ? 0x10 : 0x20, true, l);
	s->ds = s->es = s->fs = s->gs = s->ss = segment(0x18, false, false);
	s->tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
	memset(&bs->regs, 0, sizeof(bs->regs));
	bs->regs.rflags = 2;
}

void boot_state_flat32(struct vmm *vmm, struct boot_state *bs)
{
	common_state(vmm, bs, false);
	bs->sregs.cr0 = 0x11; /* PE, ET */
	bs->sregs.cr3 = bs->sregs.cr4 = 0;
	bs->sregs.efer = 0;
}

void boot_state_long(struct vmm *vmm, struct boot_state *bs)
{
	u64 *pml4 = vmm_mem(vmm, BOOT_PAGETABLES, 6 * PAGE_SIZE);
	u64 *pdpt = pml4 + 512, *pd = pdpt + 512;

	memset(pml4, 0, 6 * PAGE_SIZE);
	pml4[0] = (BOOT_PAGETABLES + PAGE_SIZE) | 3;
	for (unsigned i = 0; i < 4; i++)
		pdpt[i] = (BOOT_PAGETABLES + (2 + i) * PAGE_SIZE) | 3;
	for (u64 i = 0; i < 4 * 512; i++)
		pd[i] = i << 21 | 0x83;
	common_state(vmm, bs, true);
	bs->sregs.cr3 = BOOT_PAGETABLES;
	bs->sregs.cr4 = 0x20;	    /* PAE */
	bs->sregs.cr0 = 0x80000011; /* PG, ET, PE */
	bs->sregs.efer = 0x500;	    /* LME, LMA */
}

int boot_load(struct vmm *vmm, struct boot_state *bs)
{
	size_t size;
	u8 *img = file_read(vmm->opt->kernel, "kernel", &size);
	u32 magic;
	int r;

	if (!img)
		return VMM_BAD_FILE;
	/* Multiboot: the magic within the first 8 KiB, 4-aligned (0.6.96, 3.1.1). */
	for (size_t i = 0; i + 12 <= MIN(size, (size_t)8192); i += 4) {
		memcpy(&magic, img + i, 4);
		if (magic == 0x1badb002) {
			u32 flags, check;

			memcpy(&flags, img + i + 4, 4);
			memcpy(&check, img + i + 8, 4);
			if (magic + flags + check == 0) {
				r = boot_multiboot(vmm, bs, img, size, i);
				goto out;
			}
		}
	}
	if (size > 0x250 && !memcmp(img + 0x202, "HdrS", 4)) {
		r = boot_bzimage(vmm, bs, img, size);
	} else if (size > 64 && !memcmp(img, "\177ELF", 4)) {
		r = boot_elf(vmm, bs, img, size);
	} else {
		vmm_error(
			"kernel '%s' is neither a Linux bzImage, an ELF file nor a multiboot image",
			vmm->opt->kernel);
		r = VMM_BAD_FILE;
	}
out:
	free(img);
	return r;
}
