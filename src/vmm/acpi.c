/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables (ACPI 6.4, chapter 5): processors, interrupt controllers, the power button's S5 and
 * one LNRO0005 device a virtio disk. The AML is small enough to write by hand.
 */
#include <string.h>

#include "base/bits.h"
#include "vmm/vmm.h"

struct sdt_header {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __attribute__((packed));

struct gas { /* generic address structure */
	u8 space, bit_width, bit_offset, access_size;
	u64 address;
} __attribute__((packed));

struct fadt {
	struct sdt_header h;
	u32 facs, dsdt;
	u8 rsvd0, preferred_pm_profile;
	u16 sci_int;
	u32 smi_cmd;
	u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	u32 pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	u32 gpe0_blk, gpe1_blk;
	u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base,
		cst_cnt;
	u16 p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alrm, mon_alrm, century;
	u16 iapc_boot_arch;
	u8 rsvd1;
	u32 flags;
	struct gas reset_reg;
	u8 reset_value;
	u16 arm_boot_arch;
	u8 minor;
	u64 x_facs, x_dsdt;
	struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1, sleep_control, sleep_status;
	u64 hypervisor_id;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "FADT revision 6");

struct facs {
	char signature[4];
	u32 length, hardware_signature, waking_vector, global_lock, flags;
	u64 x_waking_vector;
	u8 version, rsvd[31];
} __attribute__((packed));

struct rsdp {
	char signature[8];
	u8 checksum;
	char oem_id[6];
	u8 revision;
	u32 rsdt, length;
	u64 xsdt;
	u8 ext_checksum, rsvd[3];
} __attribute__((packed));

struct writer {
	struct vmm *vmm;
	u64 at; /* next free guest address */
};

static u8 checksum(const void *p, size_t n)
{
	u8 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ((const u8 *)p)[i];
	return -sum;
}

/* Places @n bytes 16-aligned; returns their guest address. */
static u64 place(struct writer *w, const void *p, size_t n)
{
	u64 at = w->at;

	memcpy(vmm_mem(w->vmm, at, n), p, n);
	w->at = align_up(at + n, 16);
	return at;
}

static u64 place_sdt(struct writer *w, void *table, size_t n, const char *sig, u8 revision)
{
	struct sdt_header *h = table;

	memcpy(h->signature, sig, 4);
	h->length = n;
	h->revision = revision;
	h->checksum = 0;
	memcpy(h->oem_id, "KVMLSS", 6);
	memcpy(h->oem_table_id, "KVMLESS ", 8);
	h->oem_revision = 1;
	memcpy(h->creator_id, "KVML", 4);
	h->creator_revision = 1;
	h->checksum = checksum(table, n);
	return place(w, table, n);
}

/* ---- AML (ACPI 6.4, chapter 20) ---- */

struct aml {
	u8 b[4096];
	size_t n;
};

static void emit(struct aml *a, const void *p, size_t n)
{
	memcpy(a->b + a->n, p, n);
	a->n += n;
}

static void emit8(struct aml *a, u8 v)
{
	emit(a, &v, 1);
}

/* Starts a package whose length is known at end: reserves the 2-byte PkgLength form. */
static size_t pkg_begin(struct aml *a)
{
	a->n += 2;
	return a->n - 2;
}

static void pkg_end(struct aml *a, size_t at)
{
	size_t len = a->n - at;

	a->b[at] = 0x40 | (len & 0x0f);
	a->b[at + 1] = len >> 4;
}

static void aml_name(struct aml *a, const char *seg)
{
	emit8(a, 0x08); /* NameOp */
	emit(a, seg, 4);
}

static void aml_dword(struct aml *a, u32 v)
{
	emit8(a, 0x0c);
	emit(a, &v, 4);
}

/* \_S5 = Package () { 5, 5, 0, 0 } */
static void aml_s5(struct aml *a)
{
	static const u8 elements[] = {4, 0x0a, 5, 0x0a, 5, 0x00, 0x00};
	size_t at;

	aml_name(a, "_S5_");
	emit8(a, 0x12); /* PackageOp */
	at = pkg_begin(a);
	emit(a, elements, sizeof(elements));
	pkg_end(a, at);
}

/* Device (VRnn) { _HID "LNRO0005", _UID nn, _CRS memory window and interrupt } */
static void aml_virtio(struct aml *a, unsigned index)
{
	u32 base = VIRTIO_MMIO_BASE + index * VIRTIO_MMIO_SIZE, gsi = VIRTIO_IRQ_BASE + index;
	char name[4] = {'V', 'R', '0' + index / 10, '0' + index % 10};
	u8 crs[] = {
		0x86, 9,    0, 1, /* Memory32Fixed, read-write */
		0,    0,    0, 0, 0,	0, 0,
		0,    0x89, 6, 0, 0x01, 1, /* extended interrupt: consumer, level, active high */
		0,    0,    0, 0, 0x79, 0, /* end tag, checksum not used */
	};
	u32 size = VIRTIO_MMIO_SIZE;
	size_t dev, buf;

	memcpy(crs + 4, &base, 4);
	memcpy(crs + 8, &size, 4);
	memcpy(crs + 17, &gsi, 4);

	emit8(a, 0x5b);
	emit8(a, 0x82); /* DeviceOp */
	dev = pkg_begin(a);
	emit(a, name, 4);
	aml_name(a, "_HID");
	emit8(a, 0x0d);
	emit(a, "LNRO0005", 9);
	aml_name(a, "_UID");
	aml_dword(a, index);
	aml_name(a, "_CRS");
	emit8(a, 0x11); /* BufferOp */
	buf = pkg_begin(a);
	emit8(a, 0x0a);
	emit8(a, sizeof(crs));
	emit(a, crs, sizeof(crs));
	pkg_end(a, buf);
	pkg_end(a, dev);
}

static u64 build_dsdt(struct writer *w)
{
	struct aml a = {.n = sizeof(struct sdt_header)};
	size_t scope;

	aml_s5(&a);
	emit8(&a, 0x10); /* ScopeOp */
	scope = pkg_begin(&a);
	emit(&a, "\\_SB_", 5);
	for (unsigned i = 0; i < w->vmm->ndisks; i++)
		aml_virtio(&a, i);
	pkg_end(&a, scope);
	return place_sdt(w, a.b, a.n, "DSDT", 2);
}

static u64 build_madt(struct writer *w)
{
	struct aml m = {.n = sizeof(struct sdt_header)};
	u32 lapic = 0xfee00000, flags = 1; /* PCAT_COMPAT: there are 8259s */
	static const u8 ioapic[] = {1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0};
	/* ISA 0 is GSI 2, the SCI is level-triggered, active high */
	static const u8 iso_timer[] = {2, 10, 0, 0, 2, 0, 0, 0, 0, 0};
	static const u8 iso_sci[] = {2, 10, 0, SCI_IRQ, SCI_IRQ, 0, 0, 0, 0x0d, 0};
	static const u8 nmi[] = {4, 6, 0xff, 0, 0, 1};

	emit(&m, &lapic, 4);
	emit(&m, &flags, 4);
	for (unsigned i = 0; i < w->vmm->opt->cpus; i++) {
		if (i < 255) {
			u8 e[] = {0, 8, i, i, 1, 0, 0, 0};

			emit(&m, e, sizeof(e));
		} else { /* x2APIC */
			u32 e[] = {0x00001009, i, 1, i};

			emit(&m, e, sizeof(e));
		}
	}
	emit(&m, ioapic, sizeof(ioapic));
	emit(&m, iso_timer, sizeof(iso_timer));
	emit(&m, iso_sci, sizeof(iso_sci));
	emit(&m, nmi, sizeof(nmi));
	return place_sdt(w, m.b, m.n, "APIC", 4);
}

static struct gas io_gas(u16 port, unsigned bits)
{
	return (struct gas){
		.space = 1, .bit_width = bits, .access_size = bits / 8, .address = port};
}

static u64 build_fadt(struct writer *w, u64 dsdt, u64 facs)
{
	struct fadt f = {
		.facs = facs,
		.dsdt = dsdt,
		.x_dsdt = dsdt,
		.sci_int = SCI_IRQ,
		.pm1a_evt_blk = PM1_EVENT_PORT,
		.pm1_evt_len = 4,
		.pm1a_cnt_blk = PM1_CONTROL_PORT,
		.pm1_cnt_len = 2,
		.x_pm1a_evt = io_gas(PM1_EVENT_PORT, 32),
		.x_pm1a_cnt = io_gas(PM1_CONTROL_PORT, 16),
		.p_lvl2_lat = 0xffff,
		.p_lvl3_lat = 0xffff,
		.century = 0x32,
		.iapc_boot_arch = BIT(0) | BIT(2), /* ISA devices, no VGA */
		/* WBINVD, PROC_C1, no sleep and RTC fixed buttons... (5.2.9), RESET_REG_SUP */
		.flags = BIT(0) | BIT(2) | BIT(4) | BIT(5) | BIT(6) | BIT(10),
		.reset_reg = io_gas(0xcf9, 8),
		.reset_value = 6,
		.minor = 4,
	};

	return place_sdt(w, &f, sizeof(f), "FACP", 6);
}

void acpi_build(struct vmm *vmm)
{
	/* The RSDP comes first, on the 16-byte boundary where it is searched for. */
	struct writer w = {.vmm = vmm, .at = BOOT_ACPI + 64};
	struct rsdp r = {
		.signature = "RSD PTR ", .oem_id = "KVMLSS", .revision = 2, .length = sizeof(r)};
	struct facs facs = {.signature = "FACS", .length = sizeof(facs), .version = 2};
	struct {
		struct sdt_header h;
		u64 entry[2];
	} __attribute__((packed)) xsdt = {0};
	u64 facs_at, dsdt;

	memcpy(r.signature, "RSD PTR ", 8);
	w.at = align_up(w.at, 64);
	facs_at = place(&w, &facs, sizeof(facs));
	dsdt = build_dsdt(&w);
	xsdt.entry[0] = build_fadt(&w, dsdt, facs_at);
	xsdt.entry[1] = build_madt(&w);
	r.xsdt = place_sdt(&w, &xsdt, sizeof(xsdt), "XSDT", 1);
	r.checksum = checksum(&r, 20);
	r.ext_checksum = checksum(&r, sizeof(r));
	memcpy(vmm_mem(vmm, BOOT_ACPI, sizeof(r)), &r, sizeof(r));
}
