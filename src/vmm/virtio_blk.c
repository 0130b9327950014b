/* SPDX-License-Identifier: MIT */
/*
 * virtio-blk over virtio-mmio version 2 (Virtual I/O Device 1.2, 4.2 and 5.2), one queue, a file
 * behind it. Requests are served in the vCPU thread that rings the doorbell.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "vmm/vmm.h"

#define QUEUE_MAX 256

/* Register offsets, table 4.1 */
enum {
	R_MAGIC = 0x000,
	R_VERSION = 0x004,
	R_DEVICE_ID = 0x008,
	R_VENDOR = 0x00c,
	R_DEV_FEAT = 0x010,
	R_DEV_FEAT_SEL = 0x014,
	R_DRV_FEAT = 0x020,
	R_DRV_FEAT_SEL = 0x024,
	R_QUEUE_SEL = 0x030,
	R_QUEUE_MAX = 0x034,
	R_QUEUE_NUM = 0x038,
	R_QUEUE_READY = 0x044,
	R_NOTIFY = 0x050,
	R_INT_STATUS = 0x060,
	R_INT_ACK = 0x064,
	R_STATUS = 0x070,
	R_DESC_LO = 0x080,
	R_DESC_HI = 0x084,
	R_AVAIL_LO = 0x090,
	R_AVAIL_HI = 0x094,
	R_USED_LO = 0x0a0,
	R_USED_HI = 0x0a4,
	R_CONFIG_GEN = 0x0fc,
	R_CONFIG = 0x100,
};

#define F_BLK_RO    BIT(5)
#define F_BLK_FLUSH BIT(9)
#define F_VERSION_1 BIT(32)

enum { REQ_IN = 0, REQ_OUT = 1, REQ_FLUSH = 4, REQ_GET_ID = 8 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct vring_desc {
	u64 addr;
	u32 len;
	u16 flags, next;
};
#define DESC_NEXT  1
#define DESC_WRITE 2

struct virtio_blk {
	struct vmm *vmm;
	unsigned irq;
	int fd;
	bool readonly;
	u64 sectors;
	pthread_mutex_t lock;
	u32 dev_feat_sel, drv_feat_sel, status, int_status, queue_num, queue_ready;
	u64 drv_feat, desc, avail, used;
	u16 last_avail;
	char id[20];
};

struct virtio_blk *virtio_blk_create(struct vmm *vmm, const char *path, unsigned index)
{
	struct virtio_blk *d = calloc(1, sizeof(*d));
	struct stat st;

	if (!d)
		return NULL;
	d->fd = open(path, O_RDWR | O_CLOEXEC);
	if (d->fd < 0 && (errno == EACCES || errno == EROFS)) {
		d->fd = open(path, O_RDONLY | O_CLOEXEC);
		d->readonly = true;
	}
	if (d->fd < 0 || fstat(d->fd, &st)) {
		vmm_error("disk '%s': %s", path, strerror(errno));
		goto fail;
	}
	if (S_ISDIR(st.st_mode)) {
		vmm_error("disk '%s' is a directory", path);
		goto fail;
	}
	d->vmm = vmm;
	d->irq = VIRTIO_IRQ_BASE + index;
	d->sectors = (S_ISREG(st.st_mode) ? st.st_size : lseek(d->fd, 0, SEEK_END)) / 512;
	snprintf(d->id, sizeof(d->id), "kvmless-disk%u", index);
	pthread_mutex_init(&d->lock, NULL);
	return d;
fail:
	if (d->fd >= 0)
		close(d->fd);
	free(d);
	return NULL;
}

void virtio_blk_destroy(struct virtio_blk *d)
{
	close(d->fd);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static u64 features(const struct virtio_blk *d)
{
	return F_VERSION_1 | F_BLK_FLUSH | (d->readonly ? F_BLK_RO : 0);
}

static int transfer(struct virtio_blk *d, bool in, struct iovec *iov, int n, u64 offset)
{
	while (n) {
		ssize_t r = in ? preadv(d->fd, iov, n, offset) : pwritev(d->fd, iov, n, offset);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return S_IOERR;
		offset += r;
		while (n && (size_t)r >= iov->iov_len) {
			r -= iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (u8 *)iov->iov_base + r;
			iov->iov_len -= r;
		}
	}
	return S_OK;
}

/* One request chain. Returns the bytes written to guest memory, or -1 if the ring is nonsense. */
static long do_request(struct virtio_blk *d, u16 head)
{
	struct iovec iov[QUEUE_MAX];
	struct vring_desc *desc = vmm_mem(d->vmm, d->desc, sizeof(*desc) * d->queue_num), e;
	struct {
		u32 type, rsvd;
		u64 sector;
	} hdr;
	u64 bytes = 0;
	u8 *status = NULL;
	bool write = false;
	int n = 0, result = S_OK;
	void *p;

	if (!desc || head >= d->queue_num)
		return -1;
	e = desc[head];
	p = vmm_mem(d->vmm, e.addr, sizeof(hdr));
	if (!p || e.len < sizeof(hdr) || !(e.flags & DESC_NEXT))
		return -1;
	memcpy(&hdr, p, sizeof(hdr));
	for (;;) {
		if (e.next >= d->queue_num || n == QUEUE_MAX)
			return -1;
		e = desc[e.next];
		p = vmm_mem(d->vmm, e.addr, e.len);
		if (!p || !e.len)
			return -1;
		if (!(e.flags & DESC_NEXT)) {
			if (!(e.flags & DESC_WRITE))
				return -1;
			status = (u8 *)p + e.len - 1;
			break;
		}
		write = e.flags & DESC_WRITE;
		iov[n++] = (struct iovec){.iov_base = p, .iov_len = e.len};
		bytes += e.len;
	}
	switch (hdr.type) {
	case REQ_IN:
	case REQ_OUT:
		if (bytes % 512 || hdr.sector > d->sectors ||
		    bytes / 512 > d->sectors - hdr.sector || (n && write != (hdr.type == REQ_IN)) ||
		    (hdr.type == REQ_OUT && d->readonly))
			result = S_IOERR;
		else
			result = transfer(d, hdr.type == REQ_IN, iov, n, hdr.sector * 512);
		break;
	case REQ_FLUSH: result = fdatasync(d->fd) ? S_IOERR : S_OK; break;
	case REQ_GET_ID:
		if (n && write)
			memcpy(iov[0].iov_base, d->id, MIN(iov[0].iov_len, sizeof(d->id)));
		break;
	default: result = S_UNSUPP;
	}
	*status = result;
	return (hdr.type == REQ_IN ? bytes : 0) + 1;
}

static void serve_queue(struct virtio_blk *d)
{
	u16 *avail = vmm_mem(d->vmm, d->avail, 6 + 2ul * d->queue_num);
	u8 *used = vmm_mem(d->vmm, d->used, 6 + 8ul * d->queue_num);
	u16 used_idx;

	if (!d->queue_ready || !d->queue_num || !avail || !used)
		return;
	memcpy(&used_idx, used + 2, 2);
	while (d->last_avail != __atomic_load_n(&avail[1], __ATOMIC_ACQUIRE)) {
		u16 head = avail[2 + d->last_avail++ % d->queue_num];
		long len = do_request(d, head);
		struct {
			u32 id, len;
		} elem = {head, len};

		if (len < 0) {
			d->status |= 0x40; /* DEVICE_NEEDS_RESET */
			return;
		}
		memcpy(used + 4 + 8 * (used_idx % d->queue_num), &elem, sizeof(elem));
		used_idx++;
		__atomic_store_n((u16 *)(used + 2), used_idx, __ATOMIC_RELEASE);
	}
	if (!(avail[0] & 1)) {
		d->int_status |= 1;
		vmm_set_irq(d->vmm, d->irq, 1);
	}
}

static void reset(struct virtio_blk *d)
{
	d->status = d->int_status = d->queue_num = d->queue_ready = 0;
	d->drv_feat = d->desc = d->avail = d->used = 0;
	d->last_avail = 0;
	vmm_set_irq(d->vmm, d->irq, 0);
}

static u32 read_reg(struct virtio_blk *d, u32 reg)
{
	switch (reg) {
	case R_MAGIC: return 0x74726976;
	case R_VERSION: return 2;
	case R_DEVICE_ID: return 2;
	case R_VENDOR: return 0x4c4d564b;
	case R_DEV_FEAT: return d->dev_feat_sel > 1 ? 0 : features(d) >> (32 * d->dev_feat_sel);
	case R_QUEUE_MAX: return QUEUE_MAX;
	case R_QUEUE_READY: return d->queue_ready;
	case R_INT_STATUS: return d->int_status;
	case R_STATUS: return d->status;
	default: return 0;
	}
}

static void set_half(u64 *v, u32 half, bool high)
{
	*v = high ? (*v & 0xffffffff) | (u64)half << 32 : (*v & ~0xffffffffull) | half;
}

static void write_reg(struct virtio_blk *d, u32 reg, u32 v)
{
	switch (reg) {
	case R_DEV_FEAT_SEL: d->dev_feat_sel = v; break;
	case R_DRV_FEAT_SEL: d->drv_feat_sel = v; break;
	case R_DRV_FEAT:
		if (d->drv_feat_sel < 2)
			set_half(&d->drv_feat, v, d->drv_feat_sel);
		break;
	case R_QUEUE_NUM:
		if (v && v <= QUEUE_MAX && !(v & (v - 1)))
			d->queue_num = v;
		break;
	case R_QUEUE_READY: d->queue_ready = v & 1; break;
	case R_NOTIFY:
		if (v == 0)
			serve_queue(d);
		break;
	case R_INT_ACK:
		d->int_status &= ~v;
		if (!d->int_status)
			vmm_set_irq(d->vmm, d->irq, 0);
		break;
	case R_STATUS:
		/* FEATURES_OK sticks only if the driver took VERSION_1 and nothing we lack. */
		if (!v)
			reset(d);
		else if ((v & 8) && (!(d->drv_feat & F_VERSION_1) || (d->drv_feat & ~features(d))))
			d->status = v & ~8u;
		else
			d->status = v;
		break;
	case R_DESC_LO: set_half(&d->desc, v, false); break;
	case R_DESC_HI: set_half(&d->desc, v, true); break;
	case R_AVAIL_LO: set_half(&d->avail, v, false); break;
	case R_AVAIL_HI: set_half(&d->avail, v, true); break;
	case R_USED_LO: set_half(&d->used, v, false); break;
	case R_USED_HI: set_half(&d->used, v, true); break;
	}
}

void virtio_blk_io(struct virtio_blk *d, u32 reg, bool write, unsigned size, u8 *data)
{
	u8 config[64] = {0};
	u32 v;

	pthread_mutex_lock(&d->lock);
	if (reg >= R_CONFIG) {
		memcpy(config, &d->sectors, 8);
		if (!write && reg - R_CONFIG + size <= sizeof(config))
			memcpy(data, config + (reg - R_CONFIG), size);
		else if (!write)
			memset(data, 0, size);
	} else if (size == 4) {
		memcpy(&v, data, 4);
		if (write) {
			write_reg(d, reg, v);
		} else {
			v = read_reg(d, reg);
			memcpy(data, &v, 4);
		}
	} else if (!write) {
		memset(data, 0, size);
	}
	pthread_mutex_unlock(&d->lock);
}
