#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A whole guest on both engines: the same exits at the same instructions, in the same state.

usage: lockstep.py KVMLESS GUESTS CASE [EVERY]

A deterministic run is recorded (`kvmless boot --deterministic --record`) under the interpreter and under the
translator: the state at every VM exit and every EVERY instructions, and now and then a digest
of guest memory. If they differ, the first instruction
after which they do is searched for in further runs and shown with both states.

cases: boot     Debian's kernel (vmlinux) to init, a command, power off; everything is translated
       warm     the same, and code is translated when it has run a few times, as it is by default
       repeat   the same engine twice, with everything it prints
       bench    the guest benchmark, long
       nested   a KVM in the guest boots the kernel again, long
"""
import os
import struct
import subprocess
import sys
import tempfile
import time

kvmless, guests = (os.path.abspath(f) for f in sys.argv[1:3])
case = sys.argv[3]
FIELDS = ["count", "reason", "qualification", "rip", "rflags", "cr0", "cr2", "cr3", "cr4",
          "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
          "r15", "xmm0", "xmm0h", "memory"]
RECORD = f"<{len(FIELDS)}Q"
SIZE = 8 * len(FIELDS)
CHUNK = 4096 * SIZE


def start(engine, record, options, append, initrd):
    kernel = os.path.join(guests, "vmlinux")
    if not os.path.exists(kernel):
        print("skipped: no guests: make guests")
        sys.exit(77)
    return subprocess.Popen([kvmless, "boot", "--engine", engine, "--deterministic", "--record", record,
                             "--initrd", initrd, "--append", append, *options, kernel],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="replace")


def finish(p):
    out = p.communicate(timeout=3600)[0]
    if p.returncode:
        print(out[-3000:])
        print(f"FAILED: exit status {p.returncode}")
        sys.exit(1)
    return out


def read(f, n):
    data = f.read(SIZE)
    return struct.unpack(RECORD, data) if len(data) == SIZE else None


def difference(a, b):
    """Index of the first record that differs, or None; and how many there are."""
    with open(a, "rb") as f, open(b, "rb") as g:
        n = 0
        while True:
            x, y = f.read(CHUNK), g.read(CHUNK)
            if x != y:
                k = next((i for i in range(min(len(x), len(y))) if x[i] != y[i]), min(len(x), len(y)))
                return n + k // SIZE, n
            if not x:
                return None, n
            n += len(x) // SIZE


def records(path, first, n):
    with open(path, "rb") as f:
        f.seek(first * SIZE)
        while n and (r := f.read(SIZE)) and len(r) == SIZE:
            yield struct.unpack(RECORD, r)
            n -= 1


def show(x, y):
    for i, name in enumerate(FIELDS):
        p, q = x[i] if x else 0, y[i] if y else 0
        print(f"    {name:14} {p:18x} {q:18x}{'   <<<' if p != q else ''}")


def report(names, files, at):
    before = max(at - 8, 0)
    print(f"record {at} differs; those before it (the same in both):")
    for r in records(files[0], before, at - before):
        print(f"    instruction {r[0]} exit {r[1]} qualification {r[2]:x} rip {r[3]:x}")
    x, y = (next(records(f, at, 1), None) for f in files)
    print(f"    {'':14} {names[0]:>18} {names[1]:>18}")
    show(x, y)


def stopped_at(p, f, count):
    """The record at @count of a run that is killed when it has it."""
    seen = 0
    while True:
        alive = p.poll() is None
        for r in records(f, seen, 1 << 40) if os.path.exists(f) else ():
            if r[0] >= count:
                p.kill()
                p.wait()
                p.stdout.close()
                return r
            seen += 1
        if not alive:
            p.stdout.close()
            return None
        time.sleep(0.02)


def search(names, d, first, last, options, append, initrd):
    """
    The first instruction after which the engines differ. A record at every instruction would have every
    instruction stepped by the interpreter, so it is found by halving: from @first, both run freely to one stop.
    """
    def both(count):
        r = []
        for e in names:
            f = os.path.join(d, "s")
            if os.path.exists(f):
                os.unlink(f)
            r.append(stopped_at(start(e, f"{f},{1 << 62},{count}", options, append, initrd), f, count))
        return r

    print(f"\nlooking for the instruction between {first} and {last}", flush=True)
    while last - first > 1:
        middle = (first + last) // 2
        x, y = both(middle)
        first, last = (first, middle) if x != y else (middle, last)
    x, y = both(first)
    print(f"after {first} instructions, the same in both: rip {x[3]:x}")
    x, y = both(last)
    print(f"after {last}:\n    {'':14} {names[0]:>18} {names[1]:>18}")
    show(x, y)


def compare(names, every, options, append, initrd):
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as d:
        files = [os.path.join(d, f"{i}") for i in range(2)]
        outs = [finish(start(e, f"{f},{every}", options, append, initrd)) for e, f in zip(names, files)]
        at, n = difference(*files)
        if at is None and outs[0] == outs[1]:
            last = next(records(files[0], n - 1, 1))
            print(f"{names[0]} and {names[1]}: {n} records over {last[0]} instructions, no difference")
            if "init: script ended with 0" not in outs[0]:
                print(outs[0][-3000:])
                print("FAILED: the guest's script")
                return 1
            return 0
        if at is None:
            print("FAILED: the same states, but other output")
            return 1
        print("FAILED")
        report(names, files, at)
        start_at = next(records(files[0], at - 1, 1))[0] if at else 0
        stop_at = next(records(files[0], at, 1), (start_at + every,))[0]
        first = next(records(files[0], at - 1, 1))[0] if at else 0
        last = next(records(files[0], at, 1), (first + every,))[0]
        search(names, d, first, last, options, append, initrd)
        return 1


def with_bench(directory):
    """The initramfs with guestbench in /bin."""
    extra = os.path.join(directory, "x")
    os.makedirs(os.path.join(extra, "bin"))
    bench = os.path.join(guests, "..", "bench", "guestbench")
    subprocess.run(["cp", bench, os.path.join(extra, "bin")], check=True)
    tail = subprocess.run("find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=extra, capture_output=True,
                          check=True).stdout
    path = os.path.join(directory, "initrd.img")
    with open(os.path.join(guests, "initrd.img"), "rb") as f, open(path, "wb") as g:
        g.write(f.read() + tail)
    return path


def append(script):
    return f'console=ttyS0 panic=-1 "kvmless.run={script}"'


initrd = os.path.join(guests, "initrd.img")
every = int(sys.argv[4]) if len(sys.argv) > 4 else 20000
AT_ONCE = ("--param", "kvmless.translate_after=0")
if case in ("boot", "warm"):
    sys.exit(compare(("interp", "jit"), every, AT_ONCE if case == "boot" else (),
                     append("md5sum /bin/busybox; cat /proc/interrupts"), initrd))
if case == "repeat":
    sys.exit(compare(("auto", "auto"), every, (), append("date; head -c 16 /dev/urandom | md5sum"), initrd))
if case == "bench":
    with tempfile.TemporaryDirectory() as d:
        # Without the row that is an exit an instruction: a record of each would fill the disk.
        rows = ("loop sha256 sieve mix icall qsort fib chase256k chase64m ssecopy repmovs4k matmul avx2 x87 getppid "
                "pagefault fork pipe rewrite")
        sys.exit(compare(("interp", "jit"), max(every, 200000), AT_ONCE, append("guestbench 0.05 " + rows),
                         with_bench(d)))
if case == "nested":
    script = "boot-l2 'console=ttyS0 panic=-1 kvmless.run=nproc' --memory 128M"
    sys.exit(compare(("interp", "jit"), max(every, 100000), ("--memory", "512M", *AT_ONCE), append(script),
                     os.path.join(guests, "initrd-l1.img")))
print(__doc__)
sys.exit(2)
