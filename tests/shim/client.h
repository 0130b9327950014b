/* SPDX-License-Identifier: MIT */
/* What the programs of tests/shim share: a VM with one vCPU, through the C library's own calls. */
#ifndef TESTS_SHIM_CLIENT_H
#define TESTS_SHIM_CLIENT_H

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define KVMLESS_CAP   0x6b766d6c
#define KVMLESS_MAGIC 0x4b564d4c

#define CHECK(c)                                                                                  \
	do {                                                                                      \
		if (!(c)) {                                                                       \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #c, errno); \
			exit(1);                                                                  \
		}                                                                                 \
	} while (0)

struct vm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	unsigned char *mem;
	size_t run_bytes;
};

struct client_test {
	const char *name;
	void (*fn)(void);
};

int open_kvm(void);
/* One vCPU in real mode at 0x1000, where @code is. */
struct vm create(const void *code, size_t n);
void destroy(struct vm *t);
/* Runs the test that the command line names: the program's exit status. */
int client_main(int argc, char **argv, const struct client_test *tests, unsigned n);

extern const unsigned char code_out[5];	 /* OUT of 'x' to port 0x10; HLT */
extern const unsigned char code_loop[2]; /* JMP to itself */

#endif
