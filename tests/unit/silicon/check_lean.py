#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What translated code calls with the guest's vector registers in the host's calls nothing but itself.

usage: check_lean.py LIBRARY...

A loop that the compiler has made a call of memset would use them.
"""
import subprocess
import sys

undefined, defined = {}, set()
for lib in sys.argv[1:]:
    for line in subprocess.run(["nm", "-A", lib], capture_output=True, text=True, check=True).stdout.splitlines():
        where, kind, name = line.rsplit(None, 2)
        if kind == "U":
            undefined.setdefault(name, where)
        else:
            defined.add(name)
bad = sorted(n for n in undefined.keys() - defined if not n.startswith(("__asan_", "__ubsan_", "__tsan_", "_GLOBAL_")))
for n in bad:
    print(f"{undefined[n]} calls {n}")
sys.exit(bool(bad))
