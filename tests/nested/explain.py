#!/usr/bin/env python3
"""QEMU under `kvmless run --explain`: its guest is the test hypervisor, whose groups make entries fail.
What the explanations must say is nested.py's; without the option nothing is said.

usage: explain.py KVMLESS IMAGE       exits 77 (skipped) without QEMU
"""
import os
import shutil
import subprocess
import sys
import tempfile

from nested import EXPLAINED

QEMU = ["qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-cpu", "host", "-m", "128", "-display", "none",
        "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]


def main():
    kvmless, image = sys.argv[1:]
    if not shutil.which(QEMU[0]):
        print("no QEMU")
        return 77
    bad = 0
    with tempfile.TemporaryDirectory() as d:
        serial = os.path.join(d, "serial")
        for group, options in (("msrlist", ["--explain"]), ("checks", ["--explain"]), ("msrlist", [])):
            r = subprocess.run([kvmless, "run", *options, "--", *QEMU, "-serial", "file:" + serial, "-kernel", image,
                                "-append", f"group={group}"],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120)
            with open(serial, errors="replace") as f:
                result = f.read()
            print(f"== {group} {' '.join(options) or 'silent'}: status {r.returncode}, "
                  f"{r.stderr.count(' failed, ')} explanations")
            missing = [text for text in EXPLAINED[group] if text not in r.stderr] if options else []
            # The device ends QEMU with (status << 1) | 1.
            if r.returncode != 1 or "RESULT" not in result or missing or (not options and r.stderr):
                print("not explained:", missing, r.stderr[-1000:], result[-1000:], sep="\n")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
