#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debian's Xen as L1: a PV dom0, whose toolstack boots Debian's kernel with 2 processors in a VMX domain (L2).

usage: xen.py KVMLESS GUESTS [TIMEOUT]

Xen and its tools are downloaded as Debian packages into GUESTS/xen without installing them. Exits 77 (skipped)
if they cannot be had, or without QEMU, which is the machine that Xen boots on.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

from packages import unpacked

if len(sys.argv) < 3:
    sys.exit(__doc__)
kvmless, guests = (os.path.abspath(a) for a in sys.argv[1:3])
timeout = int(sys.argv[3]) if len(sys.argv) > 3 else 280
root = os.path.join(guests, "xen")
MODULES = ["xen-evtchn", "xen-privcmd", "xen-gntdev", "xen-gntalloc", "xenfs/xenfs"]
DOMAIN = """name = "u"
type = "pvh"
kernel = "/boot/vmlinuz"
ramdisk = "/boot/initrd.img"
cmdline = 'console=hvc0 quiet panic=-1 "kvmless.run=nproc; grep -m1 model.name /proc/cpuinfo; md5sum /bin/busybox"'
memory = 256
vcpus = 2
on_reboot = "destroy"
on_crash = "destroy"
"""
DOM0 = """#!/bin/sh
export LD_LIBRARY_PATH=/lib PATH=$PATH:/xen
for m in xen-evtchn xen-privcmd xen-gntdev xen-gntalloc xenfs; do insmod /lib/$m.ko; done
mount -t xenfs none /proc/xen
mkdir -p /dev/pts /run /var/lib/xenstored /var/lib/xen /var/log/xen
mount -t devpts none /dev/pts
mount -t tmpfs none /run
mkdir -p /run/xen /run/xenstored
ln -s /run /var/run
xenstored --pid-file /run/xen/xenstored.pid && xen-init-dom0 &&
    xenconsoled --log=guest --log-dir=/var/log/xen && xl create /etc/xen/u.cfg || exit 1
n=0
while [ $n -lt 600 ] && xl list u >/dev/null 2>&1; do usleep 300000; n=$((n + 1)); done
cat /var/log/xen/guest-u.log
! xl list u >/dev/null 2>&1
"""


def skip(text):
    print(f"skipped: {text}")
    sys.exit(77)


def fail(text, log=""):
    print(log[-6000:])
    print(f"FAILED: {text}")
    sys.exit(1)


def text_of(*command):
    r = subprocess.run(command, capture_output=True, text=True, check=False)
    return r.stdout if r.returncode == 0 else ""


def download():
    """Xen's packages, unpacked in @root."""
    m = re.search(r"Depends: (xen-hypervisor-([\d.]+)-amd64)", text_of("apt-cache", "depends", "xen-system-amd64"))
    if not m:
        skip("apt knows no xen-system-amd64; run: apt-get update")
    tools = f"xen-utils-{m[2]}"
    every = text_of("apt-cache", "depends", "--recurse", *(f"--no-{x}" for x in (
        "recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")), tools)
    packages = sorted(set(re.findall(r"^(?:libxen|libyajl|xenstore-utils|xen-utils)\S*", every, re.M)) | {m[1], tools})
    if not unpacked(root, packages):
        skip("Xen's packages cannot be downloaded; run: apt-get update")


def one(pattern):
    found = glob.glob(os.path.join(root, pattern), recursive=True)
    if not found:
        fail(f"Xen's packages have no {pattern}")
    return found[0]


def image(path):
    """The guests' initramfs with Xen's tools, their libraries and the domain's kernel."""
    libraries = one("usr/lib/x86_64-linux-gnu/libxenctrl.so.*")
    with tempfile.TemporaryDirectory() as d:
        for sub in ("xen", "lib", "lib64", "boot", "etc/xen", "bin"):
            os.makedirs(os.path.join(d, sub))
        for program in ("xl", "xenstored", "xenconsoled", "xen-init-dom0"):
            p = one(f"usr/lib/xen-*/bin/{program}")
            shutil.copy(p, os.path.join(d, "xen"))
            env = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(libraries))
            ldd = subprocess.run(["ldd", p], capture_output=True, text=True, env=env, check=True).stdout
            for lib in re.findall(r"(?:=> |^\s+)(/\S+)", ldd, re.M):
                shutil.copy(lib, os.path.join(d, "lib64" if "ld-linux" in lib else "lib"))
        # xl ends its threads by pthread_cancel, for which the C library loads this by name.
        shutil.copy(glob.glob("/lib/*-linux-gnu/libgcc_s.so.1")[0], os.path.join(d, "lib"))
        for m in MODULES:
            shutil.copy(glob.glob(os.path.join(guests, "modules", "*", "kernel", "drivers", "xen", m + ".ko"))[0],
                        os.path.join(d, "lib"))
        for f in ("vmlinuz", "initrd.img"):
            shutil.copy(os.path.join(guests, f), os.path.join(d, "boot"))
        for name, text in (("etc/xen/u.cfg", DOMAIN), ("etc/xen/xl.conf", ""), ("bin/boot-domain", DOM0)):
            with open(os.path.join(d, name), "w") as f:
                f.write(text)
        os.chmod(os.path.join(d, "bin/boot-domain"), 0o755)
        tail = subprocess.run("find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=d, capture_output=True,
                              check=True).stdout
    with open(os.path.join(guests, "initrd.img"), "rb") as f, open(path, "wb") as g:
        g.write(f.read() + tail)


def main():
    if not shutil.which("qemu-system-x86_64"):
        skip("no qemu-system-x86_64")
    if not os.path.exists(os.path.join(guests, "vmlinuz")):
        skip("no guests: make guests")
    download()
    with tempfile.TemporaryDirectory() as d:
        xen, initrd = os.path.join(d, "xen"), os.path.join(d, "initrd.img")
        with open(xen, "wb") as f:
            f.write(subprocess.run(["gzip", "-dc", one("boot/xen-*.gz")], capture_output=True, check=True).stdout)
        image(initrd)
        r = subprocess.run(
            [kvmless, "run", "--explain", "--", "qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-cpu", "host",
             "-m", "2G", "-smp", "2", "-nographic", "-no-reboot", "-kernel", xen,
             "-append", "console=com1 loglvl=all guest_loglvl=all dom0_mem=1024M", "-initrd",
             f"{guests}/vmlinuz console=hvc0 quiet panic=-1 kvmless.run=boot-domain,{initrd}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=timeout, check=False)
    log = r.stdout
    if r.returncode:
        fail(f"QEMU ended with {r.returncode}", log)
    for wanted in ("HVM: VMX enabled", "HVM: Hardware Assisted Paging (HAP) detected", "Entering ACPI S5"):
        if wanted not in log:
            fail(f"Xen does not say: {wanted}", log)
    reached = re.findall(r"init: reached after ([\d.]+) s of guest time, Linux \S+, (\d) CPUs", log)
    if [n for _, n in reached] != ["2", "2"]:
        fail(f"kernels that reached their init: {reached}", log)
    if log.count("init: script ended with 0") != 2:
        fail("a script failed", log)
    if "kvmless software processor" not in log:
        fail("the domain's processor is not ours", log)
    bad = re.search(r".*(Xen BUG|Xen call trace|Kernel panic|BUG:|Oops|VMLAUNCH failed|VMRESUME failed|"
                    r"domain_crash|Failed vm entry).*", log)
    if bad:
        fail(bad[0], log)
    print(f"Xen, dom0 (init after {reached[0][0]} s of its time) and a VMX domain ({reached[1][0]} s): ok")


main()
