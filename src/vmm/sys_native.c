/* SPDX-License-Identifier: MIT */
/* KVM through the kernel's /dev/kvm: the static kvmless-vmm. */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/vmm.h"

static int native_open(void)
{
	return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}

static int native_ioctl(int fd, unsigned long req, unsigned long arg)
{
	return ioctl(fd, req, arg);
}

static void on_kick(int sig)
{
	(void)sig;
}

static void native_kick(int vcpu_fd, pthread_t thread)
{
	struct sigaction act = {.sa_handler = on_kick};

	(void)vcpu_fd;
	sigaction(SIGUSR1, &act, NULL);
	pthread_kill(thread, SIGUSR1);
}

const struct kvm_sys kvm_sys_native = {
	.name = "/dev/kvm",
	.open = native_open,
	.ioctl = native_ioctl,
	.close = close,
	.kick = native_kick,
};
