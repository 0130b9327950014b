#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debian's QEMU with -accel kvm under kvmless run boots Debian's kernel: qemu.py KVMLESS GUESTS [NAME].
Exits 77 (skipped) without QEMU or the guest."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

QEMU = "qemu-system-x86_64"
MACHINES = {
    "q35": ["-M", "q35"],
    "smp": ["-M", "q35", "-smp", "2"],
    "pc": ["-M", "pc"],
    "split": ["-M", "q35,kernel-irqchip=split"],
    "off": ["-M", "q35,kernel-irqchip=off"],
    "microvm": ["-M", "microvm"],
}
# A disk with known content comes through virtio-blk unharmed, there and back.
SCRIPT = ("insmod /lib/modules/virtio_ring.ko; insmod /lib/modules/virtio.ko; "
          "for m in virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_mmio virtio_blk; "
          "do insmod /lib/modules/$m.ko; done; "
          "dd if=/dev/vda of=/tmp/a bs=64k count=16 2>/dev/null; sha256sum /tmp/a; "
          "dd if=/tmp/a of=/dev/vda bs=64k seek=16 2>/dev/null; sync; echo done-$(nproc)")
BAD = re.compile(r"Kernel panic|BUG:|Oops|WARNING: CPU|general protection|soft lockup")


def boot(kvmless, guests, name):
    with tempfile.TemporaryDirectory() as tmp:
        disk, serial = os.path.join(tmp, "disk"), os.path.join(tmp, "serial")
        data = os.urandom(1 << 20)
        with open(disk, "wb") as f:
            f.write(data + bytes(1 << 20))
        device = "virtio-blk-device" if name == "microvm" else "virtio-blk-pci"
        p = subprocess.run(
            [kvmless, "run", "--", QEMU, "-accel", "kvm", "-m", "512", "-display", "none",
             "-monitor", "none", "-no-reboot", "-serial", "file:" + serial,
             "-kernel", os.path.join(guests, "vmlinuz"),
             "-initrd", os.path.join(guests, "initrd.img"),
             "-append", 'console=ttyS0 "kvmless.run=%s"' % SCRIPT,
             "-drive", "if=none,id=d,format=raw,file=" + disk, "-device", device + ",drive=d"]
            + MACHINES[name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280,
            stdin=subprocess.DEVNULL, text=True)
        with open(serial, errors="replace") as f:
            log = f.read()
        with open(disk, "rb") as f:
            back = f.read()
    cpus = "2" if name == "smp" else "1"
    wrong = []
    if p.returncode:
        wrong.append("QEMU ended with %d: %s" % (p.returncode, p.stdout[-500:]))
    if "done-" + cpus not in log:
        wrong.append("the script did not run to its end")
    if back != data + data:
        wrong.append("the disk is not what it should be")
    wrong += BAD.findall(log)
    if wrong:
        print(log[-3000:])
    print("%s: %s" % (name, "; ".join(wrong) or "ok"), flush=True)
    return not wrong


def main():
    kvmless, guests = sys.argv[1:3]
    if not shutil.which(QEMU) or not os.path.exists(os.path.join(guests, "initrd.img")):
        print("no %s or no %s: make guests" % (QEMU, guests))
        return 77
    return 0 if all([boot(kvmless, guests, n) for n in sys.argv[3:] or MACHINES]) else 1


sys.exit(main())
