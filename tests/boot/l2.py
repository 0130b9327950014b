#!/usr/bin/env python3
"""A Linux in a KVM in a Linux: Debian boots under `kvmless boot` (L1), loads Debian's kvm-intel and boots
Debian again with kvmless-vmm (L2), in each combination of what matters on the way.

usage: l2.py BUILD CASE      the cases are the functions below

KVMLESS_L2_RUNS: how many boots `rotation` makes (default 4; each 32 are all combinations);
KVMLESS_L2_FROM: with which combination it begins (default 0);
KVMLESS_L2_ONLY: only combinations that agree with this, such as l1=2,ept=0,levels=5 (of l1, l2, ept, levels,
shadow);
KVMLESS_L2_TIMES: how often L2 is booted in a row by each L1 of `rotation` (default 1);
KVMLESS_STRESS_SECONDS: how long `stress` keeps L2 busy (default 10).
"""
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile

from images import image

build, case = sys.argv[1], sys.argv[2]
guests = os.path.join(build, "guests")
kvmless = os.path.join(build, "src", "cli", "kvmless")

# See boot.py; and what Debian's KVM says of a processor it does not know everything about.
TROUBLE = re.compile(r"BUG:|Oops|WARNING:|RIP:|Call Trace|soft lockup|rcu.*stall|unable to handle|"
                     r"segfault|general protection|invalid opcode|Kernel panic|hung task|"
                     r"clocksource.*unstable|unchecked MSR|kvm.*(vmwrite|vmread|error|fail)")
ALLOWED = re.compile(r"RETBleed: WARNING|Spectre|MDS|TAA|MMIO Stale")


def fail(text, output=""):
    print(output[-8000:])
    print(f"FAILED: {text}")
    sys.exit(1)


def judge(name, r, cpus):
    """Fails if the run @r did not bring up kernels with @cpus processors, one inside the other, and ends well."""
    # The console last: it says more.
    text = r.stderr[-2000:] + r.stdout
    if r.returncode:
        fail(f"{name}: exit status {r.returncode}", text)
    found = re.findall(r"init: reached after [\d.]+ s of guest time, Linux \S+, (\d+) CPUs", r.stdout)
    if found != [str(n) for n in cpus]:
        fail(f"{name}: processors of the kernels that reached init: {found}", text)
    if r.stdout.count("init: script ended with 0") != len(cpus):
        fail(f"{name}: a script failed", text)
    for line in (r.stdout + r.stderr).splitlines():
        if TROUBLE.search(line) and not ALLOWED.search(line):
            fail(f"{name}: trouble: {line}", text)
    if "failed" in r.stderr:
        fail(f"{name}: something was refused", r.stderr)


def boot(l2_script, l1=1, l2=1, ept=1, levels=4, shadow=1, programs=(), timeout=600, l2_base="initrd.img",
         l2_memory="256M", memory="1G", reached=2, params=(), program=(kvmless, "boot"), times=1):
    """Boots L1 and in it L2, which runs @l2_script. The console's text, and what kvmless logged."""
    if not os.path.exists(os.path.join(guests, "initrd-l1.img")):
        print("skipped: no guests; run: make guests")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as d:
        inner = image(build, os.path.join(d, "l2.img"), l2_base, {"l2": l2_script}, programs)
        phys, five = ("", "") if levels == 5 else ("--phys-bits 46", "no5lvl ")
        l1_script = (f"export KVM_VENDOR_PARAMS=ept={ept}\n"
                     f"for i in $(seq {times}); do\n"
                     f"boot-l2 'console=ttyS0 panic=-1 {five}kvmless.run=l2' --cpus {l2} --memory {l2_memory} "
                     f"{phys} --initrd /boot/l2.img || exit 1\ndone")
        outer = image(build, os.path.join(d, "l1.img"), "initrd-l1.img", {"l1": l1_script}, (), {"boot/l2.img": inner})
        # Only the compressed kernel turns five levels on.
        kernel = os.path.join(guests, "vmlinuz" if levels == 5 else "vmlinux")
        r = subprocess.run([*program, "--verbose", "--explain", "--cpus", str(l1), "--memory", memory,
                            "--timeout", str(timeout - 20), "--param",
                            f"kvm_intel.enable_shadow_vmcs={shadow}", *params, "--initrd", outer, "--append",
                            "console=ttyS0 panic=-1 kvmless.run=l1", kernel],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                           timeout=timeout)
    name = f"L1 {l1} cpu, L2 {l2} cpu, ept={ept}, {levels} levels, shadow={shadow}"
    judge(name, r, [l1] + [l2] * times + [1] * (reached - 2))
    text = r.stdout + r.stderr
    on = re.findall(r"L2 on EPT with (\d) levels", r.stderr)
    if ept and (not on or set(on) != {str(levels)}) or not ept and on:
        fail(f"{name}: L2 ran on EPT with levels {on}", text)
    print(f"{name}: ok" + (f", {times} times" if times > 1 else ""), flush=True)
    return r.stdout


# The first four have each value with each other at least once, but for some pairs.
FIRST = [(2, 2, 1, 5, 1), (1, 2, 0, 4, 1), (2, 1, 0, 5, 0), (1, 1, 1, 4, 0)]


def rotation():
    names = ("l1", "l2", "ept", "levels", "shadow")
    every = list(itertools.product((1, 2), (1, 2), (1, 0), (4, 5), (1, 0)))
    order = FIRST + [c for c in every if c not in FIRST]
    only = {name: int(value) for name, value in
            (item.split("=") for item in filter(None, os.environ.get("KVMLESS_L2_ONLY", "").split(",")))}
    order = [c for c in order if only.items() <= dict(zip(names, c)).items()]
    first = int(os.environ.get("KVMLESS_L2_FROM", "0"))
    for n in range(first, first + int(os.environ.get("KVMLESS_L2_RUNS", "4"))):
        l1, l2, ept, levels, shadow = order[n % len(order)]
        boot("grep -c ^processor /proc/cpuinfo; md5sum /bin/busybox >/dev/null", l1, l2, ept, levels, shadow,
             times=int(os.environ.get("KVMLESS_L2_TIMES", "1")))


def stress():
    seconds = os.environ.get("KVMLESS_STRESS_SECONDS", "10")
    for ept in (1, 0):
        out = boot(f"smpstress {seconds} && guestbench 0.01", 2, 2, ept=ept,
                   programs=("tests/guests/smpstress", "bench/guestbench"), timeout=1500)
        if "no error" not in out or not re.search(r"^getppid ", out, re.M):
            fail("no result of smpstress or guestbench", out)


def moved():
    """The VM is saved, and goes on in another one: twenty times a second, and after some exits of L2."""
    for ept, when in ((1, "50000"), (0, "50000"), (1, "exits:1000")):
        boot("md5sum /bin/busybox; sleep 0.2; nproc", 2, 2, ept=ept,
             program=(os.path.join(build, "tests", "nested", "migrate"), when))


def hyperv():
    """L1 takes L0 for Hyper-V: Debian's KVM uses enlightened VMCSs then."""
    for l1, l2, ept, levels, program in ((1, 1, 1, 4, ()), (2, 2, 1, 5, ()), (2, 1, 0, 4, ()), (2, 2, 1, 4, ("exits:1000",))):
        out = boot("grep -c ^processor /proc/cpuinfo; md5sum /bin/busybox >/dev/null", l1, l2, ept, levels,
                   params=("--hyperv",), **({"program": (os.path.join(build, "tests", "nested", "migrate"), *program)}
                                            if program else {}))
        if "Hypervisor detected: Microsoft Hyper-V" not in out or "using Hyper-V Enlightened VMCS" not in out:
            fail("L1 does not use enlightened VMCSs", out)


def l3():
    """L2 is itself a hypervisor: the same code on each level."""
    boot("boot-l2 'console=ttyS0 panic=-1 kvmless.run=nproc' --cpus 1 --memory 128M", levels=5,
         l2_base="initrd-l1.img", l2_memory="512M", memory="1536M", reached=3, timeout=1100)


def qemu():
    """Debian's QEMU is the VMM in L1: SeaBIOS in L2, in real mode as the hardware has it and as KVM emulates it."""
    program = shutil.which("qemu-system-x86_64")
    data = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")
    firmware = [next((f"{d}/{name}" for d in data if os.path.exists(f"{d}/{name}")), None)
                for name in ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin")]
    if not program or not all(firmware) or not os.path.exists(os.path.join(guests, "initrd-l1.img")):
        print("skipped: no qemu-system-x86_64, or no guests: make guests")
        sys.exit(77)
    libraries = re.findall(r"(?:=> |^\s+)(/\S+)", subprocess.run(["ldd", program], capture_output=True, text=True,
                                                                check=True).stdout, re.M)
    extra = {("lib64/" if "ld-linux" in f else "lib/") + os.path.basename(f): os.path.realpath(f) for f in libraries}
    extra.update({"qemu/" + os.path.basename(f): os.path.realpath(f) for f in firmware})
    script = """boot-l2 --load
exec qemu-system-x86_64 -L /qemu -accel kvm -cpu host -M q35 -m 256 -smp 2 -nodefaults -serial stdio -display none \\
    -no-reboot -kernel /boot/vmlinuz -initrd /boot/initrd.img \\
    -append 'console=ttyS0 panic=-1 "kvmless.run=nproc; md5sum /bin/busybox"' </dev/null"""
    for params in ("ept=1", "unrestricted_guest=0", "ept=0 unrestricted_guest=0 emulate_invalid_guest_state=0"):
        with tempfile.TemporaryDirectory() as d:
            l1 = image(build, os.path.join(d, "l1.img"), "initrd-l1.img",
                       {"l1": f"export LD_LIBRARY_PATH=/lib KVM_VENDOR_PARAMS='{params}'\n{script}"}, (),
                       {"bin/qemu-system-x86_64": program, **extra})
            r = subprocess.run([kvmless, "boot", "--explain", "--cpus", "2", "--memory", "1536M", "--timeout", "280",
                                "--initrd", l1, "--append", "console=ttyS0 panic=-1 kvmless.run=l1",
                                os.path.join(guests, "vmlinux")], stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, errors="replace", timeout=300)
        judge(f"QEMU in L1, {params}", r, [2, 2])
        print(f"QEMU in L1, {params}: ok", flush=True)


globals()[case]()
