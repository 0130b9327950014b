/* SPDX-License-Identifier: MIT */
/* cmocka with what it wants included before it. */
#ifndef TESTS_ISA_CM_H
#define TESTS_ISA_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "flatcpu.h"

#define assert_fault(f, what, vec, err) assert_int_equal(flat_fault(f, what), FLAT_FAULT(vec, err))

#endif
