#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""UEFI firmware in QEMU: flash memory (a read-only slot whose writes are exits), 32-bit code without paging, and
Debian's kernel started through its EFI stub; twice, the second time with what the first left in the flash.

usage: uefi.py KVMLESS GUESTS

The firmware (Debian's ovmf) is downloaded into GUESTS/ovmf without installing it. Exits 77 (skipped) if it
cannot be had, or without QEMU.
"""
import os
import shutil
import subprocess
import sys
import tempfile

from packages import unpacked

if len(sys.argv) != 3:
    sys.exit(__doc__)
kvmless, guests = (os.path.abspath(a) for a in sys.argv[1:3])
root = os.path.join(guests, "ovmf")
firmware = os.path.join(root, "usr", "share", "OVMF")
SCRIPT = "test -d /sys/firmware/efi/efivars && echo efi-$(nproc); grep -m1 model.name /proc/cpuinfo"


def boot(variables):
    # The firmware maps all physical memory that CPUID tells of, with pages of 2 MiB: 40 bits are plenty.
    return subprocess.run(
        [kvmless, "run", "--", "qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-cpu", "host,host-phys-bits-limit=40",
         "-m", "512", "-smp", "2", "-nographic", "-no-reboot", "-net", "none",
         "-drive", f"if=pflash,format=raw,readonly=on,file={firmware}/OVMF_CODE_4M.fd",
         "-drive", f"if=pflash,format=raw,file={variables}", "-kernel", f"{guests}/vmlinuz", "-initrd",
         f"{guests}/initrd.img", "-append", f'console=ttyS0 quiet panic=-1 "kvmless.run={SCRIPT}"'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        timeout=200, check=False)


def main():
    if not shutil.which("qemu-system-x86_64") or not os.path.exists(os.path.join(guests, "vmlinuz")):
        print("skipped: no qemu-system-x86_64, or no guests: make guests")
        return 77
    if not unpacked(root, ["ovmf"]):
        print("skipped: the package ovmf cannot be downloaded; run: apt-get update")
        return 77
    with tempfile.TemporaryDirectory() as d:
        variables = os.path.join(d, "vars.fd")
        shutil.copy(os.path.join(firmware, "OVMF_VARS_4M.fd"), variables)
        with open(variables, "rb") as f:
            flash = [f.read()]
        for n in ("first", "second"):
            r = boot(variables)
            if r.returncode or "efi-2" not in r.stdout or "kvmless software processor" not in r.stdout:
                print(r.stdout[-4000:])
                print(f"FAILED: the {n} boot: exit status {r.returncode}")
                return 1
            with open(variables, "rb") as f:
                flash.append(f.read())
        if flash[0] == flash[1]:
            print("FAILED: the firmware has written nothing to its flash memory")
            return 1
    print("UEFI firmware and kernel, twice: ok")
    return 0


sys.exit(main())
