/* SPDX-License-Identifier: MIT */
/*
 * libkvmless-shim.so: preloaded into programs of the KVM API, it answers for /dev/kvm.
 *
 * The layers below are linked in with --wrap for every function of real.def, so their own calls
 * reach the C library even where the program or this library defines a function of that name.
 * Until the program opens /dev/kvm every interposed function is a test and a jump.
 */
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <ucontext.h>

#include "base/types.h"

#define REAL(ret, name, params, args) ret real_##name params;
#include "shim/real.def"

/* Environment of the programs under `kvmless run`. */
#define SHIM_ENV_PARAMS	 "KVMLESS_PARAMS"  /* NAME=VALUE,... */
#define SHIM_ENV_VERBOSE "KVMLESS_VERBOSE" /* set: log to standard error */
#define SHIM_ENV_TRACE	 "KVMLESS_TRACE"   /* file for a trace */
#define SHIM_ENV_CPUID	 "KVMLESS_CPUID"   /* native: leave CPUID instructions alone */

/* ---- init.c ---- */

/* The program has opened /dev/kvm. From then on, for good; changes once. */
extern bool shim_on;
void shim_activate(void);
/* False in a vfork child: it shares our memory but not our descriptors. */
bool shim_owns_memory(void);

/* ---- node.c: names of files that are ours ---- */

enum node { NODE_NONE, NODE_KVM, NODE_PARAM, NODE_DIR, NODE_ABSENT };
#define NODE_PARAM_MAX 64
/*
 * What @path (relative to @dir) is: /dev/kvm, a module's parameter (its name, "module.name", at
 * @param of NODE_PARAM_MAX bytes), a directory above one, or a file of KVM's modules that we do not
 * have. Keeps errno.
 */
enum node node_find(int dir, const char *path, char *param);

/* ---- param.c: /sys/module/kvm*<x>/parameters ---- */

/* As open(2) of the parameter's file. A descriptor, or -1 with errno. */
int param_file_open(const char *name, int flags);
FILE *param_file_fopen(const char *name, const char *mode);
bool param_file_writable(const char *name);
/* A write to @fd, if it is such a file, open for writing: false if not. */
bool param_file_write(int fd, const void *buf, size_t n, ssize_t *result);
/* @fd is about to go: what has been written into the file past us counts. Keeps errno. */
void param_file_closing(int fd);

/* ---- signal.c ---- */

/* Puts our handler before each of the program's, now and from now on. More calls do nothing. */
void signal_activate(void);
void signal_forked(void);

/* ---- run.c: threads inside KVM_RUN ---- */

int run_ioctl(int fd, unsigned long request, unsigned long arg);
/* A handler of the program has run in this thread. Async-signal-safe. */
void run_signalled(void);
/*
 * In KVM_RUN: its thread is got out, and @sig comes again, with the same information, when KVM_RUN
 * has ended. False: not in KVM_RUN, or the signal must be handled now. Async-signal-safe.
 */
bool run_defer(int sig, const siginfo_t *si, void *ucontext);

/* ---- cpuid.c ---- */

/* Makes the program's own CPUID instructions answer as the virtual processor. */
void cpuid_patch(void);
bool cpuid_patched(void);
/* Whether the signal came from one, which has been answered. Async-signal-safe. */
bool cpuid_emulate(void *ucontext);

#endif
