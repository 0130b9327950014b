#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debian's QEMU with -accel kvm under kvmless run: firmware, disks, monitor, migration.

usage: qemu.py KVMLESS GUESTS MBR [--engine NAME] [CASE...]      the cases are the functions below

Exits 77 (skipped) without QEMU or the guest's kernel.
"""
import glob
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import grub

QEMU = "qemu-system-x86_64"
BAD = re.compile(r"Kernel panic|BUG:|Oops|WARNING: CPU|general protection|soft lockup|rcu.*stall")
MIB = 1 << 20
DATA = 32 * MIB  # where the disk's known content starts: 1 MiB to read, then 1 MiB to write
VIRTIO = "virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk"
SATA = ("scsi_common scsi_mod crct10dif_common crc-t10dif crc64 crc64-rocksoft t10-pi sd_mod libata "
        "libahci ahci ata_piix")
COPY = ("dd if=%s of=/tmp/a bs=64k skip=512 count=16 2>/dev/null; sha256sum /tmp/a; "
        "dd if=/tmp/a of=%s bs=64k seek=528 2>/dev/null; sync; ")
args = sys.argv[1:]
engine = ["--engine", args.pop(args.index("--engine") + 1)] if "--engine" in args else []
args = [a for a in args if a != "--engine"]
if len(args) < 3:
    sys.exit(__doc__)
kvmless, guests, mbr = args[:3]
vmlinuz, initrd = (os.path.join(guests, f) for f in ("vmlinuz", "initrd.img"))


class Failed(Exception):
    pass


def check(good, text):
    if not good:
        raise Failed(text)


class Machine:
    """One QEMU with its serial port in a file and its monitor (QMP) on a socket."""

    def __init__(self, tmp, options, memory="512", name="a", accel="kvm"):
        self.serial = os.path.join(tmp, "serial-" + name)
        self.output = os.path.join(tmp, "output-" + name)
        path = os.path.join(tmp, "qmp-" + name)
        with open(self.output, "w") as out:
            self.process = subprocess.Popen(
                [kvmless, "run"] + engine +
                ["--", QEMU, "-accel", accel, "-m", memory, "-display", "none", "-monitor", "none",
                 "-serial", "file:" + self.serial, "-qmp", f"unix:{path},server,nowait"] + options,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self.monitor = socket.socket(socket.AF_UNIX)
        for _ in range(400):
            try:
                self.monitor.connect(path)
                break
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        if self.process.poll() is not None:
            raise Failed("QEMU ended at once: " + self.messages())
        self.replies = self.monitor.makefile("r")
        self.replies.readline()
        self.qmp("qmp_capabilities")

    def qmp(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.monitor.settimeout(60)
        self.monitor.sendall(json.dumps(request).encode())
        for line in self.replies:
            reply = json.loads(line)
            if "error" in reply:
                raise Failed(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]
        raise Failed("QEMU closed its monitor: " + self.messages())

    def hmp(self, line):
        return self.qmp("human-monitor-command", **{"command-line": line})

    def log(self):
        with open(self.serial, errors="replace") as f:
            return f.read()

    def messages(self):
        with open(self.output, errors="replace") as f:
            return f.read()[-1000:]

    def wait_for(self, text, count=1, seconds=200):
        end = time.time() + seconds
        while self.log().count(text) < count:
            check(self.process.poll() is None, f"QEMU ended before {text!r}: {self.messages()}")
            check(not BAD.search(self.log()), "the guest is in trouble")
            check(time.time() < end, f"{text!r} did not come")
            time.sleep(0.05)

    def wait_end(self, seconds=200):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed("QEMU did not end") from None
        check(status == 0, f"QEMU ended with {status}: {self.messages()}")
        trouble = BAD.findall(self.log())
        check(not trouble, f"the guest is in trouble: {trouble}")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.monitor.close()


def machine(tmp, options, script, **kw):
    """A machine that QEMU gives the kernel."""
    return Machine(tmp, ["-kernel", vmlinuz, "-initrd", initrd, "-append", command_line(script)] + options,
                   **kw)


def command_line(script):
    return f'console=ttyS0 quiet panic=-1 "kvmless.run={script}"'


# ---- Disks that SeaBIOS boots from ----

def cpio(files):
    """An initramfs (newc) of regular files: name -> content."""
    out = b""
    for number, (name, data) in enumerate(list(files.items()) + [("TRAILER!!!", b"")]):
        head = [number + 1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08X" % v for v in head) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out


def modules(names):
    files = {}
    for name in names.split():
        found = glob.glob(os.path.join(guests, "modules", "**", name + ".ko"), recursive=True)
        if found:
            with open(found[0], "rb") as f:
                files[f"lib/modules/{name}.ko"] = f.read()
    return cpio(files)


def sectors(data):
    return -(-len(data) // 512)


def boot_disk(path, script, extra):
    """Our boot record, kernel, initramfs and 2 MiB at DATA, of which the first is random."""
    with open(mbr, "rb") as f:
        boot = bytearray(f.read())
    with open(vmlinuz, "rb") as f:
        kernel = f.read()
    with open(initrd, "rb") as f:
        image = f.read()
    image += bytes(-len(image) % 4) + extra
    setup = kernel[0x1f1] + 1
    initrd_lba = 2 + sectors(kernel)
    check((initrd_lba + sectors(image)) * 512 <= DATA, "the images are too large for the disk")
    struct.pack_into("<6I", boot, 510 - 24, setup, sectors(kernel) - setup, initrd_lba, sectors(image),
                     128 * MIB, len(image))
    data = os.urandom(MIB)
    with open(path, "wb") as f:
        f.write(boot + command_line(script).encode().ljust(512, b"\0") + kernel)
        f.seek(initrd_lba * 512)
        f.write(image)
        f.seek(DATA)
        f.write(data + bytes(MIB))
    return data


def disk(tmp, options, device, names, loader=boot_disk):
    path = os.path.join(tmp, "disk")
    # devtmpfs shows the disk when the driver has found it.
    script = (f"for m in {names}; do insmod /lib/modules/$m.ko 2>/dev/null; done; "
              f"i=0; while ! [ -b {device} ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done; "
              + COPY % (device, device) + "echo done")
    data = loader(path, script, modules(names))
    m = Machine(tmp, ["-drive", "if=none,id=d,format=raw,cache=writeback,file=" + path] + options)
    try:
        m.wait_end()
        check("\ndone" in m.log(), "the script did not run to its end: " + m.log()[-1500:])
        check(loader == boot_disk or "GRUB loads the kernel" in m.log(), "it was not GRUB that booted")
    finally:
        m.close()
    with open(path, "rb") as f:
        f.seek(DATA)
        back = f.read(2 * MIB)
    check(back == data + data, "the disk is not what it should be")


def disk_ahci(tmp):
    disk(tmp, ["-M", "q35", "-device", "ide-hd,drive=d"], "/dev/sda", SATA)


def disk_virtio(tmp):
    disk(tmp, ["-M", "q35", "-smp", "2", "-device", "virtio-blk-pci,drive=d"], "/dev/vda", VIRTIO)


def disk_ide(tmp):
    """The oldest machine: i440FX, IDE, all interrupts from QEMU."""
    disk(tmp, ["-M", "pc,kernel-irqchip=off", "-device", "ide-hd,drive=d"], "/dev/sda", SATA)


def grub_boot(tmp):
    """An ordinary boot loader: real mode, its own protected mode and back for each of the BIOS' services."""
    if not grub.available(guests):
        print("GRUB's packages cannot be downloaded; run: apt-get update")
        return

    def loader(path, script, extra):
        data = os.urandom(MIB)
        grub.grub_disk(path, guests, tempfile.mkdtemp(dir=tmp), command_line(script).replace('"', "'"), extra,
                       DATA + 8 * MIB, 64 * MIB)
        with open(path, "r+b") as f:
            f.seek(DATA)
            f.write(data + bytes(MIB))
        return data

    disk(tmp, ["-M", "q35", "-device", "ide-hd,drive=d"], "/dev/sda", SATA, loader)
    disk(tmp, ["-M", "pc", "-smp", "3", "-device", "virtio-blk-pci,drive=d"], "/dev/vda", VIRTIO, loader)
    disk(tmp, ["-M", "q35,kernel-irqchip=split", "-smp", "2", "-device", "virtio-blk-pci,drive=d"], "/dev/vda", VIRTIO,
         loader)
    disk(tmp, ["-M", "q35,kernel-irqchip=off", "-device", "ide-hd,drive=d"], "/dev/sda", SATA, loader)


# ---- Machines ----

def boots(tmp, options, script="echo cpus-$(nproc)", expect="cpus-1"):
    m = machine(tmp, ["-no-reboot"] + options, script)
    try:
        m.wait_end()
        check(expect in m.log(), f"no {expect!r} in: " + m.log()[-1500:])
        return m.log(), m.messages()
    finally:
        m.close()


def smp(tmp):
    boots(tmp, ["-M", "q35", "-smp", "4"], expect="cpus-4")
    boots(tmp, ["-M", "pc", "-smp", "2"], expect="cpus-2")


def split_smp(tmp):
    boots(tmp, ["-M", "q35,kernel-irqchip=split", "-smp", "2"], expect="cpus-2")
    boots(tmp, ["-M", "microvm", "-smp", "2"], expect="cpus-2")


# What the other cases do not have.
FEW = (("q35", "on", 3), ("pc", "on", 4), ("pc", "split", 2), ("pc", "off", 1), ("microvm", "on", 2),
       ("microvm", "split", 4), ("microvm", "off", 1))


def matrix(tmp):
    """Machines, places of the interrupt controllers, numbers of processors: all with KVMLESS_MATRIX=all."""
    every = [(machine_, chip, cpus) for machine_ in ("q35", "pc", "microvm") for chip in ("on", "split", "off")
             for cpus in (1, 2, 3, 4) if chip != "off" or cpus == 1]
    for machine_, chip, cpus in every if os.environ.get("KVMLESS_MATRIX") == "all" else FEW:
        print(machine_, chip, cpus, flush=True)
        boots(tmp, ["-M", f"{machine_},kernel-irqchip={chip}", "-smp", str(cpus)], expect=f"cpus-{cpus}\n")


def daemon(tmp):
    """QEMU goes to the background by itself: the machine is in a child of the process that was started."""
    serial, pidfile = os.path.join(tmp, "serial-d"), os.path.join(tmp, "pid")
    r = subprocess.run([kvmless, "run"] + engine +
                       ["--", QEMU, "-accel", "kvm", "-m", "512", "-display", "none", "-daemonize", "-pidfile", pidfile,
                        "-serial", "file:" + serial, "-no-reboot", "-M", "q35", "-smp", "2", "-kernel", vmlinuz, "-initrd",
                        initrd, "-append", command_line("echo cpus-$(nproc)")],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    check(r.returncode == 0, f"-daemonize: {r.returncode} {r.stderr}")
    end = time.time() + 200
    while os.path.exists(pidfile):
        check(time.time() < end, "the machine does not end")
        time.sleep(0.1)
    with open(serial, errors="replace") as f:
        check("cpus-2" in f.read(), "it has not booted")


# QEMU 7.2.22 takes the reset of this request out of apic_sipi and puts it into TCG's code only. With KVM the
# request then stays, and the thread of a processor that halts spins with QEMU's lock held. gdb puts the reset
# back: do_cpu_sipi's argument is the processor.
GDB = """set pagination off
set confirm off
handle all nostop noprint pass
handle SIGTRAP stop
break *do_cpu_sipi
commands
silent
call (void)cpu_reset_interrupt($rdi, 0x800)
continue
end
shell touch %s
continue
"""


def gdb_can_call():
    """Not on processors with more state than Debian's gdb knows: it cannot put registers back."""
    if not shutil.which("gdb"):
        return False
    sleeper = subprocess.Popen(["sleep", "60"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.2)
        r = subprocess.run(["gdb", "-q", "-batch", "-ex", "print (int)getpid() + 0", "-p", str(sleeper.pid)],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return f"= {sleeper.pid}\n" in r.stdout
    finally:
        sleeper.kill()
        sleeper.wait()


def off_smp(tmp):
    """All interrupt controllers in QEMU and several processors: QEMU's own INIT, SIPI and HLT."""
    if not gdb_can_call():
        print("no gdb, or none that can call functions here: 1 processor")
        boots(tmp, ["-M", "q35,kernel-irqchip=off"])
        return
    for cpus in 2, 4:
        m = machine(tmp, ["-M", "q35,kernel-irqchip=off", "-smp", str(cpus), "-S", "-no-reboot"],
                    "echo cpus-$(nproc)", name=str(cpus))
        script, ready = (os.path.join(tmp, f"{n}-{cpus}") for n in ("gdb", "ready"))
        with open(script, "w") as f:
            f.write(GDB % ready)
        gdb = subprocess.Popen(["gdb", "-q", "-batch", "-x", script, "-p", str(m.process.pid)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                if os.path.exists(ready):
                    break
                time.sleep(0.1)
            check(os.path.exists(ready), "gdb does not get ready")
            m.qmp("cont")
            m.wait_end()
            check(f"cpus-{cpus}" in m.log(), f"not {cpus} processors: " + m.log()[-1500:])
        finally:
            gdb.kill()
            gdb.wait()
            m.close()


def models(tmp):
    """Models: QEMU ends (enforce) if what it asks for is not there."""
    for model in ("host", "kvm64", "Nehalem", "Skylake-Client-noTSX-IBRS"):
        _, said = boots(tmp, ["-M", "q35", "-cpu", model + ",enforce"],
                        script="grep -m1 model.name /proc/cpuinfo; echo cpus-$(nproc)")
        check("warning" not in said, f"{model}: {said}")


HYPERV = "host,kvm=off,hv-relaxed,hv-vapic,hv-vpindex,hv-time,hv-frequencies,hv-reenlightenment,hv-tlbflush,hv-evmcs"


def hyperv(tmp):
    """QEMU's flags for Hyper-V, one by one, all that KVM offers, and beside KVM's own interface; last a guest in
    the guest: Debian's KVM uses enlightened VMCSs."""
    boot = "boot-l2 'console=ttyS0 panic=-1 kvmless.run=nproc' --cpus 1 --memory 256M"
    plain = "echo cpus-$(nproc)"
    for cpu, script, image, expected in (
            (HYPERV, plain, "initrd.img", ("cpus-2", "Hypervisor detected: Microsoft Hyper-V",
                                           "Using hypercall for remote TLB flush", "hyperv_clocksource_tsc_page")),
            # With the name "Linux KVM Hv", which is not Microsoft's: Linux does not look further.
            ("host,kvm=off,hv-passthrough", plain, "initrd.img", ("cpus-2",)),
            ("host,hv-relaxed,hv-vapic,hv-vpindex,hv-time", plain, "initrd.img", ("cpus-2", "Hypervisor detected: KVM")),
            (HYPERV, boot, "initrd-l1.img", ("using Hyper-V Enlightened VMCS",))):
        m = Machine(tmp, ["-M", "q35", "-cpu", cpu, "-smp", "2", "-kernel", vmlinuz, "-initrd", os.path.join(guests, image),
                          "-append", f'console=ttyS0 panic=-1 "kvmless.run={script}"'], memory="1024")
        try:
            m.wait_end(280)
            for text in (*expected, "init: script ended with 0"):
                check(text in m.log(), f"{cpu}: {text!r} is missing")
            check(m.log().count("init: reached") == 1 + (script == boot), "a guest did not start")
        finally:
            m.close()


def hidden(tmp):
    """The descriptors are ours: nothing of QEMU's is the machine's /dev/kvm."""
    m = machine(tmp, ["-M", "q35", "-S"], "true")
    try:
        check(m.qmp("query-kvm") == {"enabled": True, "present": True}, "QEMU does not use KVM")
        names = []
        for fd in os.listdir(f"/proc/{m.process.pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{m.process.pid}/fd/{fd}"))
            except OSError:
                pass
        check("/dev/kvm" not in names, "the machine's /dev/kvm is open")
        with open(f"/proc/{m.process.pid}/maps") as f:
            check("libkvmless-shim" in f.read(), "the library is not there")
    finally:
        m.close()


# ---- The monitor ----

COUNT = "i=0; while true; do i=$((i+1)); echo tick-$i; sleep 0.2; done"


def ticks(m):
    found = re.findall(r"tick-(\d+)", m.log())
    return int(found[-1]) if found else 0


def monitor(tmp):
    """stop, registers and memory while stopped, cont, nmi, quit."""
    m = machine(tmp, ["-M", "q35", "-smp", "2"], COUNT)
    try:
        m.wait_for("tick-3")
        m.qmp("stop")
        before = ticks(m)
        registers = m.hmp("info registers -a")
        check("CPU#1" in registers and re.search(r"RIP=ffffffff", registers), registers[:500])
        check(registers == m.hmp("info registers -a"), "registers change while stopped")
        check("APIC" in m.hmp("info lapic").upper() and "irr" in m.hmp("info pic").lower(), "info lapic, pic")
        time.sleep(0.6)
        check(ticks(m) <= before + 1, "the guest runs while stopped")
        m.qmp("cont")
        m.wait_for(f"tick-{before + 5}\n")
        m.qmp("quit")
        m.wait_end()
    finally:
        m.close()


def reset(tmp):
    """The monitor's reset, the guest's own, and SeaBIOS again each time."""
    m = machine(tmp, ["-M", "q35", "-smp", "2"], "echo up-$(nproc); sleep 1000")
    try:
        m.wait_for("up-2\n")
        m.qmp("system_reset")
        m.wait_for("up-2\n", 2)
        m.qmp("stop")
        m.qmp("system_reset")
        m.qmp("cont")
        m.wait_for("up-2\n", 3)
    finally:
        m.close()
    m = machine(tmp, ["-M", "pc"], "echo rebooting; reboot -f", name="b")
    try:
        m.wait_for("rebooting\n", 2)
    finally:
        m.close()


def powerdown(tmp):
    """The power button reaches the guest as an ACPI interrupt."""
    script = ("insmod /lib/modules/button.ko; grep acpi /proc/interrupts >/tmp/a; echo ready; "
              "while grep acpi /proc/interrupts | cmp -s - /tmp/a; do sleep 0.1; done; echo pressed")
    image = os.path.join(tmp, "initrd")
    with open(initrd, "rb") as f, open(image, "wb") as g:
        data = f.read()
        g.write(data + bytes(-len(data) % 4) + modules("button"))
    m = machine(tmp, ["-M", "q35", "-initrd", image], script)
    try:
        m.wait_for("ready\n")
        m.qmp("system_powerdown")
        m.wait_end()
        check("pressed" in m.log(), "the interrupt did not come")
    finally:
        m.close()


def migrate(tmp, accel="kvm", more=()):
    """To a file while the guest runs, and back in another process."""
    path = os.path.join(tmp, "state")
    options = ["-M", "q35", "-smp", "2", *more]
    m = machine(tmp, options, COUNT, accel=accel)
    try:
        m.wait_for("tick-3")
        m.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30})
        m.qmp("migrate", uri="exec:cat >" + path)
        for _ in range(600):
            status = m.qmp("query-migrate").get("status")
            if status in ("completed", "failed"):
                break
            time.sleep(0.1)
        check(status == "completed", f"migration: {status} {m.messages()}")
        before = ticks(m)
        m.qmp("quit")
        m.wait_end()
    finally:
        m.close()
    m = machine(tmp, options + ["-incoming", "exec:cat " + path], COUNT, name="b", accel=accel)
    try:
        m.wait_for(f"tick-{before + 5}\n")
        check("tick-1\n" not in m.log(), "the guest started anew")
        m.qmp("quit")
        m.wait_end()
    finally:
        m.close()


def migrate_ring(tmp):
    """The same where the dirty ring, not the bitmaps, says what has changed."""
    migrate(tmp, "kvm,dirty-ring-size=1024")


def migrate_hyperv(tmp):
    """The same with Hyper-V's clock, hypercall page and VP assist pages."""
    migrate(tmp, more=("-cpu", HYPERV))


def postcopy(tmp):
    """The guest goes on at its new place while most of its memory is still at the old one (userfaultfd)."""
    path = os.path.join(tmp, "migrate")
    script = ("mount -t tmpfs t /tmp; dd if=/dev/urandom of=/tmp/f bs=1M count=64 2>/dev/null; "
              "s=$(md5sum </tmp/f | cut -c1-32); i=0; while true; do i=$((i+1)); n=$(md5sum </tmp/f | cut -c1-32); "
              "[ $n = $s ] || echo CORRUPT; echo tick-$i- $(grep HYP: /proc/interrupts); done")
    options = ["-M", "q35", "-cpu", "host"]
    a = machine(tmp, options, script)
    b = machine(tmp, options + ["-incoming", "unix:" + path], script, name="b")
    try:
        try:
            for m in a, b:
                m.qmp("migrate-set-capabilities",
                      capabilities=[{"capability": "postcopy-ram", "state": True}])
        except Failed as e:
            print(f"no postcopy here: {e}")
            return
        a.wait_for("tick-2-")
        slow = 4 * MIB
        a.qmp("migrate-set-parameters", **{"max-bandwidth": slow, "max-postcopy-bandwidth": 4 * slow})
        a.qmp("migrate", uri="unix:" + path)
        time.sleep(0.5)
        a.qmp("migrate-start-postcopy")
        for _ in range(900):
            status = a.qmp("query-migrate").get("status")
            if status in ("completed", "failed"):
                break
            time.sleep(0.1)
        check(status == "completed", f"migration: {status} {a.messages()}")
        b.wait_for(f"tick-{ticks(a) + 3}-")
        check("CORRUPT" not in b.log(), "memory is not what it was")
        check("tick-1-" not in b.log(), "the guest started anew")
        told = re.findall(r"HYP: +(\d+)", b.log())
        check(told, "the guest has no asynchronous page faults")
        print(f"{told[-1]} pages announced to the guest")
    finally:
        a.close()
        b.close()


def vga(tmp):
    """The guest's console in VGA text memory."""
    m = machine(tmp, ["-M", "pc"], "echo kvmless-on-screen >/dev/tty0; echo shown; sleep 1000")
    path = os.path.join(tmp, "screen")
    try:
        m.wait_for("shown\n")
        m.qmp("pmemsave", val=0xb8000, size=0x8000, filename=path)
        with open(path, "rb") as f:
            check(b"kvmless-on-screen" in f.read()[::2], "not on the screen")
        m.qmp("screendump", filename=path)
        with open(path, "rb") as f:
            picture = f.read()
        check(picture.startswith(b"P6") and len(set(picture[20:])) > 1, "the picture is empty")
    finally:
        m.close()


CASES = [disk_ahci, disk_virtio, disk_ide, grub_boot, matrix, daemon, smp, split_smp, off_smp, models, hyperv, monitor, reset,
         powerdown, migrate, migrate_ring, migrate_hyperv, postcopy, vga, hidden]


def main():
    if not shutil.which(QEMU) or not os.path.exists(initrd):
        print(f"skipped: no {QEMU} or no {guests}: make guests")
        return 77
    wanted = [a.replace("-", "_") for a in args[3:]]
    failed = 0
    for case in CASES:
        if wanted and case.__name__ not in wanted:
            continue
        start = time.time()
        with tempfile.TemporaryDirectory() as tmp:
            try:
                case(tmp)
                result = "ok"
            except Failed as e:
                result = f"FAILED: {e}"
                failed += 1
                for f in glob.glob(os.path.join(tmp, "serial-*")):
                    with open(f, errors="replace") as log:
                        print(f"--- {os.path.basename(f)}\n{log.read()[-3000:]}")
        print(f"{case.__name__}: {result} ({time.time() - start:.1f} s)", flush=True)
    return 1 if failed else 0


sys.exit(main())
