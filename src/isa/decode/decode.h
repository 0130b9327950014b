/* SPDX-License-Identifier: MIT */
/* For isa/decode only. */
#ifndef ISA_DECODE_DECODE_H
#define ISA_DECODE_DECODE_H

#include <Zydis/Zydis.h>

#include "isa/isa.h"

/* isa_decode. *@zi is what Zydis makes of it. */
enum isa_decode_result decode_zydis(const u8 *bytes, size_t n, enum isa_mode mode,
				    struct isa_insn *insn, ZydisDecodedInstruction *zi);
/* The handler of an instruction that is complete but for it. */
isa_exec_fn *decode_exec(const struct isa_insn *insn);

#endif
