/* SPDX-License-Identifier: MIT */
/* A 16550A UART: output goes to stdout, input comes from the terminal by serial_receive. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define FIFO_SIZE 64

#define IER_RX	       0x01
#define IER_TX	       0x02
#define IIR_NONE       0x01
#define IIR_TX	       0x02
#define IIR_RX	       0x04
#define IIR_RX_TIMEOUT 0x0c
#define IIR_FIFO       0xc0
#define LCR_DLAB       0x80
#define MCR_OUT2       0x08
#define MCR_LOOP       0x10
#define LSR_DR	       0x01
#define LSR_THRE       0x20
#define LSR_TEMT       0x40
#define MSR_DEFAULT    0xb0 /* DCD, DSR, CTS */

struct serial {
	struct vmm *vmm;
	unsigned irq;
	pthread_mutex_t lock;
	u8 ier, fcr, lcr, mcr, scr, dll, dlm;
	bool tx_pending; /* the THR-empty interrupt is due */
	bool level;	 /* what the interrupt line was last driven to */
	u8 fifo[FIFO_SIZE];
	unsigned head, count;
	u8 out[1024]; /* not yet written, to write lines at once */
	unsigned nout;
};

struct serial *serial_create(struct vmm *vmm, u16 base, unsigned irq)
{
	struct serial *s = calloc(1, sizeof(*s));

	(void)base;
	if (!s)
		return NULL;
	s->vmm = vmm;
	s->irq = irq;
	s->dll = 1;
	s->mcr = MCR_OUT2;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void flush_out(struct serial *s)
{
	unsigned done = 0;

	while (done < s->nout) {
		ssize_t n = write(STDOUT_FILENO, s->out + done, s->nout - done);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

			poll(&p, 1, 1000);
		} else if (n < 0 && errno != EINTR) {
			break; /* the reader is gone: the guest goes on without it */
		} else if (n > 0) {
			done += n;
		}
	}
	s->nout = 0;
}

void serial_destroy(struct serial *s)
{
	if (!s)
		return;
	flush_out(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void update_irq(struct serial *s)
{
	bool level = ((s->ier & IER_RX) && s->count) || ((s->ier & IER_TX) && s->tx_pending);

	if (!(s->mcr & MCR_OUT2))
		level = false;
	if (level != s->level) {
		s->level = level;
		vmm_set_irq(s->vmm, s->irq, level);
	}
}

static void put_rx(struct serial *s, u8 c)
{
	if (s->count < FIFO_SIZE)
		s->fifo[(s->head + s->count++) % FIFO_SIZE] = c;
}

static void transmit(struct serial *s, u8 c)
{
	if (s->mcr & MCR_LOOP) {
		put_rx(s, c);
	} else {
		s->out[s->nout++] = c;
		if (c == '\n' || s->nout == sizeof(s->out) || s->vmm->opt->interactive)
			flush_out(s);
	}
	s->tx_pending = true;
}

static u8 read_iir(struct serial *s)
{
	u8 fifo = s->fcr & 1 ? IIR_FIFO : 0;

	if ((s->ier & IER_RX) && s->count)
		return fifo | (s->fcr & 1 ? IIR_RX_TIMEOUT : IIR_RX);
	if ((s->ier & IER_TX) && s->tx_pending) {
		s->tx_pending = false;
		return fifo | IIR_TX;
	}
	return fifo | IIR_NONE;
}

static u8 read_msr(struct serial *s)
{
	/* In loopback the modem inputs follow the outputs. */
	if (s->mcr & MCR_LOOP)
		return (s->mcr & 0x0c) << 4 | (s->mcr & 1) << 5 | (s->mcr & 2) << 3;
	return MSR_DEFAULT;
}

static u8 read_reg(struct serial *s, unsigned reg)
{
	u8 v;

	switch (reg) {
	case 0:
		if (s->lcr & LCR_DLAB)
			return s->dll;
		if (!s->count)
			return 0;
		v = s->fifo[s->head];
		s->head = (s->head + 1) % FIFO_SIZE;
		s->count--;
		return v;
	case 1: return s->lcr & LCR_DLAB ? s->dlm : s->ier;
	case 2: return read_iir(s);
	case 3: return s->lcr;
	case 4: return s->mcr;
	case 5:
		flush_out(s); /* a prompt without newline shows when the guest looks for more */
		return LSR_THRE | LSR_TEMT | (s->count ? LSR_DR : 0);
	case 6: return read_msr(s);
	default: return s->scr;
	}
}

static void write_reg(struct serial *s, unsigned reg, u8 v)
{
	switch (reg) {
	case 0:
		if (s->lcr & LCR_DLAB)
			s->dll = v;
		else
			transmit(s, v);
		break;
	case 1:
		if (s->lcr & LCR_DLAB) {
			s->dlm = v;
		} else {
			if ((v & IER_TX) && !(s->ier & IER_TX))
				s->tx_pending = true;
			s->ier = v & 0x0f;
		}
		break;
	case 2:
		s->fcr = v & 0xc9;
		if (v & 2)
			s->count = 0;
		break;
	case 3: s->lcr = v; break;
	case 4: s->mcr = v & 0x1f; break;
	case 7: s->scr = v; break;
	}
}

void serial_io(struct serial *s, unsigned reg, bool write, u8 *val)
{
	pthread_mutex_lock(&s->lock);
	if (write)
		write_reg(s, reg, *val);
	else
		*val = read_reg(s, reg);
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

size_t serial_receive(struct serial *s, const u8 *buf, size_t n)
{
	size_t i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < n && s->count < FIFO_SIZE; i++)
		put_rx(s, buf[i]);
	update_irq(s);
	pthread_mutex_unlock(&s->lock);
	return i;
}
