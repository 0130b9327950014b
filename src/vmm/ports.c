/* SPDX-License-Identifier: MIT */
/* Port and MMIO dispatch, and the devices that are a few registers: RTC, i8042, ACPI power, PCI. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "vmm/vmm.h"

/* 2026-01-01 00:00 UTC; the same as core/deterministic.h has. */
#define DETERMINISTIC_TIME 1767225600

static u8 to_bcd(int v)
{
	return v / 10 << 4 | v % 10;
}

/* MC146818: registers B (24 h, BCD) and D (valid) are fixed; the time is the host's, in UTC. */
static u8 rtc_read(struct vmm *vmm)
{
	u64 below_16m = MIN(vmm->low_size, 16ull << 20), above = vmm->low_size - below_16m;
	time_t now = vmm->opt->deterministic ? DETERMINISTIC_TIME : time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (vmm->cmos_index & 0x7f) {
	case 0x00: return to_bcd(tm.tm_sec);
	case 0x02: return to_bcd(tm.tm_min);
	case 0x04: return to_bcd(tm.tm_hour);
	case 0x06: return to_bcd(tm.tm_wday + 1);
	case 0x07: return to_bcd(tm.tm_mday);
	case 0x08: return to_bcd(tm.tm_mon + 1);
	case 0x09: return to_bcd(tm.tm_year % 100);
	case 0x32: return to_bcd(tm.tm_year / 100 + 19);
	case 0x0a: return 0x26;
	case 0x0b: return 0x02;
	case 0x0d: return 0x80;
	case 0x15: return 640 & 0xff; /* base memory, KiB */
	case 0x16: return 640 >> 8;
	case 0x17: /* extended memory, KiB, at most 63 MiB */
		return MIN((vmm->low_size >> 10) - 1024, 0xffffu) & 0xff;
	case 0x18: return MIN((vmm->low_size >> 10) - 1024, 0xffffu) >> 8;
	case 0x34: return (above >> 16) & 0xff;
	case 0x35: return (above >> 24) & 0xff;
	default: return 0;
	}
}

static void reset_request(struct vmm *vmm)
{
	vmm_stop(vmm, VMM_OK);
}

/* The two registers of the ACPI power-management block (ACPI 6.4, 4.8.3). */
static u16 pm1_io(struct vmm *vmm, u16 port, bool write, u16 v)
{
	switch (port) {
	case PM1_EVENT_PORT: /* status: write 1 to clear */
		if (write)
			vmm->pm1_status &= ~v;
		return vmm->pm1_status;
	case PM1_EVENT_PORT + 2:
		if (write)
			vmm->pm1_enable = v;
		return vmm->pm1_enable;
	case PM1_CONTROL_PORT:
		/* SLP_EN with SLP_TYP 5 is S5, as our DSDT's _S5 says. SCI_EN reads 1. */
		if (write && (v & BIT(13)) && ((v >> 10) & 7) == 5)
			vmm_stop(vmm, VMM_OK);
		return 1;
	}
	return 0xffff;
}

/*
 * PCI configuration mechanism 1 (PCI 3.0, 3.2.2.3.2) and on its bus a host bridge that nothing is
 * behind: a kernel that finds no mechanism at all reports an error. 0xcf8 is the address register
 * for accesses of 32 bits; 0xcf9 is another register.
 */
static bool pci_port(struct vmm *vmm, u16 port, bool write, unsigned size, u8 *data)
{
	static const u32 host_bridge[] = {0x0d578086, 0, 0x06000000};
	u32 v = ~0u, reg = vmm->pci_address & 0xfc;

	if (port == 0xcf8 && size == 4) {
		if (write)
			memcpy(&vmm->pci_address, data, 4);
		vmm->pci_address &= ~0x7f000003u;
		v = vmm->pci_address;
	} else if (port >= 0xcfc && port + size <= 0xd00) {
		if ((vmm->pci_address & 0x80ffff00u) == 0x80000000u)
			v = reg < sizeof(host_bridge) ? host_bridge[reg / 4] : 0;
		v >>= 8 * (port - 0xcfc);
	} else {
		return false;
	}
	if (!write)
		memcpy(data, &v, size);
	return true;
}

static bool wide_port(struct vmm *vmm, u16 port, bool write, unsigned size, u8 *data)
{
	u16 v = 0;

	if (port < PM1_EVENT_PORT || port > PM1_CONTROL_PORT + 1)
		return false;
	memcpy(&v, data, MIN(size, 2u));
	v = pm1_io(vmm, port & ~1, write, v);
	if (!write) {
		memset(data, 0, size);
		memcpy(data, &v, MIN(size, 2u));
	}
	return true;
}

static void byte_port(struct vmm *vmm, u16 port, bool write, u8 *v)
{
	u8 idle = 0xff;

	switch (port) {
	case 0x3f8 ... 0x3ff: serial_io(vmm->serial, port - 0x3f8, write, v); return;
	case 0x70:
		if (write)
			vmm->cmos_index = *v;
		return;
	case 0x71:
		if (!write)
			*v = rtc_read(vmm);
		return;
	case 0x60: idle = 0; break; /* i8042: no keyboard; command 0xfe resets */
	case 0x64:
		if (write && *v == 0xfe)
			reset_request(vmm);
		idle = 0;
		break;
	case 0x92: /* fast A20 and reset */
		if (write && (*v & 1))
			reset_request(vmm);
		idle = 2;
		break;
	case 0xcf9:
		if (write) {
			vmm->reset_control = *v;
			if (*v & 4)
				reset_request(vmm);
		}
		idle = vmm->reset_control;
		break;
	case 0xf4: /* isa-debug-exit: the value is the program's exit status */
		if (write)
			vmm_stop(vmm, *v);
		break;
	}
	if (!write)
		*v = idle;
}

void ports_io(struct vmm *vmm, u16 port, bool write, unsigned size, u8 *data)
{
	if (wide_port(vmm, port, write, size, data) || pci_port(vmm, port, write, size, data))
		return;
	if (port == 0xf4 && write) {
		vmm_stop(vmm, data[0]);
		return;
	}
	/* A wide access to byte-wide devices is that many byte accesses, as on the ISA bus. */
	for (unsigned i = 0; i < size; i++)
		byte_port(vmm, port + i, write, data + i);
}

void mmio_io(struct vmm *vmm, u64 addr, bool write, unsigned size, u8 *data)
{
	u64 slot = (addr - VIRTIO_MMIO_BASE) / VIRTIO_MMIO_SIZE;

	if (addr >= VIRTIO_MMIO_BASE && slot < vmm->ndisks)
		virtio_blk_io(vmm->disks[slot], addr % VIRTIO_MMIO_SIZE, write, size, data);
	else if (!write)
		memset(data, 0xff, size);
}
