/* SPDX-License-Identifier: MIT */
/*
 * Guarded access to memory that belongs to the program around us and may be missing (unmapped,
 * PROT_NONE, truncated file): SIGSEGV and SIGBUS raised inside a guarded section unwind to its
 * start. Faults outside of one, or refused by the section's filter, go to the handler that was
 * installed before ours.
 *
 *	struct guard g;
 *	if (guard_enter(&g)) {		// returns twice, like setjmp
 *		... faulted; g.fault_addr ...
 *		return -EFAULT;		// the section has already ended
 *	}
 *	... accesses ...
 *	guard_leave(&g);
 *
 * Sections nest; each thread has its own stack of them. Nothing but plain memory accesses (no
 *locks, no allocation) may be done inside one, unless its owner cleans up after the jump.
 */
#ifndef BASE_GUARD_H
#define BASE_GUARD_H

#include <setjmp.h>

#include "base/types.h"

struct guard {
	jmp_buf jmp;
	struct guard *prev;
	u64 fault_addr;
	bool fault_write;
	/* Optional: says whether a fault at this address is this section's. Async-signal-safe. */
	bool (*owns)(void *opaque, u64 addr);
	void *opaque;
	/* Optional: called in the handler before the jump, with its ucontext_t. */
	void (*caught)(struct guard *g, void *ucontext);
};

/*
 * Installs the handlers if they are not (or, at the second and later calls, if the program has
 * replaced them since). Any thread. Returns 0 or -errno of sigaction(2).
 */
int guard_install(void);
/* From now on the handlers of SIGSEGV and SIGBUS are the caller's, who calls guard_dispatch from
 * them: guard_install does nothing. */
void guard_set_managed(void);

/*
 * Are SIGSEGV and SIGBUS open in this thread, as far as is known? It costs a system call to ask, so
 * who sees all that the program does with its signal masks may keep the answer: guard_masks_seen
 * says that it does. Each change, and each handler that begins, makes the answer unknown.
 */
bool guard_known_open(void);
void guard_found_open(void);
void guard_masks_seen(void);
void guard_mask_changes(void);

void guard_push(struct guard *g);
void guard_leave(struct guard *g);
/* The shim calls this from the program's own handler when it wraps SIGSEGV/SIGBUS: does not return
 * if the fault was a guarded one. */
void guard_dispatch(int sig, void *siginfo, void *ucontext);

#define guard_enter(g) ((g)->owns = NULL, (g)->caught = NULL, guard_enter_filtered(g))
/* As guard_enter, with owns/opaque/caught set by the caller beforehand. */
#define guard_enter_filtered(g) (guard_push(g), _setjmp((g)->jmp))

/* Copies with the kernel's meaning: 0, or -EFAULT if any byte is not accessible. */
int copy_from_user(void *dst, const void *user_src, size_t n);
int copy_to_user(void *user_dst, const void *src, size_t n);
/* Touches one page for reading, or for writing without changing it. 0 or -EFAULT. */
int guard_touch(hva_t hva, bool write);

#endif
