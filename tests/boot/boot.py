#!/usr/bin/env python3
"""Boots kernels with `kvmless boot` and looks at what they print and how they end.

usage: boot.py BUILD CASE      the cases are the functions below
"""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

build, case = sys.argv[1], sys.argv[2]
guests = os.path.join(build, "guests")
kvmless = os.path.join(build, "src", "cli", "kvmless")
vmlinuz, initrd = (os.path.join(guests, f) for f in ("vmlinuz", "initrd.img"))
# Most cases start the decompressed kernel (PVH): the same kernel, without the time that unpacking takes
# an interpreter.
vmlinux = os.path.join(guests, "vmlinux")

# What Debian's kernel says on a machine like ours under KVM, and may say here. Everything else that
# looks like trouble fails the test.
TROUBLE = re.compile(r"PCI: Fatal|BUG:|Oops|WARNING:|RIP:|Call Trace|soft lockup|rcu.*stall|unable to handle|"
                     r"segfault|general protection|invalid opcode|Kernel panic|hung task|"
                     r"clocksource.*unstable|ACPI (Error|Exception)|do_IRQ.*No irq handler|"
                     r"unchecked MSR|spurious")
ALLOWED = re.compile(r"RETBleed: WARNING|Spectre|MDS|TAA|MMIO Stale|spurious 8259A interrupt: IRQ7"
                     r"|Failed to.*spurious|GHES")


def fail(text):
    print(f"FAILED: {text}")
    sys.exit(1)


def skip(text):
    print(f"skipped: {text}")
    sys.exit(77)


def run(args, status=0, timeout=600, **kw):
    r = subprocess.run([kvmless] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       errors="replace", stdin=subprocess.DEVNULL, timeout=timeout, **kw)
    if r.returncode != status:
        print(r.stdout[-6000:])
        print(r.stderr[-3000:])
        fail(f"exit status {r.returncode}, wanted {status}: {' '.join(args)}")
    return r


def with_programs(directory, *names):
    """The initramfs with our static guest programs in /bin: two images one after the other are one."""
    extra = os.path.join(directory, "x")
    os.makedirs(os.path.join(extra, "bin"))
    for name in names:
        shutil.copy(os.path.join(build, "tests", "guests", name), os.path.join(extra, "bin"))
    tail = subprocess.run("find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=extra,
                          capture_output=True, check=True).stdout
    path = os.path.join(directory, "initrd.img")
    with open(initrd, "rb") as f, open(path, "wb") as g:
        g.write(f.read() + tail)
    return path


def linux(script, cpus=1, memory="512M", image=None, options=(), timeout=600, kernel=vmlinux,
          ends=True):
    if not os.path.exists(kernel):
        skip("no guest kernel; run: make guests")
    r = run(["boot", "--cpus", str(cpus), "--memory", memory, "--timeout", str(timeout - 20),
             "--initrd", image or initrd, "--append",
             f'console=ttyS0 panic=-1 "kvmless.run={script}"', *options, kernel], timeout=timeout)
    m = re.search(r"init: reached after ([\d.]+) s of guest time, Linux (\S+), (\d+) CPUs", r.stdout)
    if not m:
        print(r.stdout[-6000:])
        fail("init was not reached")
    if int(m.group(3)) != cpus:
        fail(f"{m.group(3)} processors came up, wanted {cpus}")
    for line in r.stdout.splitlines():
        if TROUBLE.search(line) and not ALLOWED.search(line):
            print(r.stdout[-8000:])
            fail(f"the kernel complains: {line}")
    if ends and "init: script ended with 0" not in r.stdout:
        print(r.stdout[-3000:])
        fail("the script in the guest failed")
    print(f"init after {m.group(1)} s of guest time on {cpus} processors, {memory}")
    return r.stdout


def boot1():
    out = linux("echo answer $((6*7)); uname -m; md5sum /bin/busybox", kernel=vmlinuz)
    if "answer 42" not in out or "x86_64" not in out:
        fail("commands in the guest do not work")


def boot2():
    linux("nproc; cat /proc/interrupts; taskset 1 true && taskset 2 true", cpus=2)


def boot4():
    linux("cat /proc/interrupts", cpus=4)


def memory128():
    linux("free -m", memory="128M")


def memory3g():
    out = linux("free -m; dd if=/dev/zero of=/dev/shm/x bs=1M count=100 && md5sum /dev/shm/x",
                memory="3G")
    if "2f282b84e7e608d5852449ed940bfc51" not in out:
        fail("100 MiB of zeros have another checksum in the guest")


def memory5g():
    out = linux("awk '/MemTotal/{print $2}' /proc/meminfo", memory="5G")
    if not any(re.fullmatch(r"[45]\d{6}", line.strip()) for line in out.splitlines()):
        fail("memory above 4 GiB is not there")


def stress():
    seconds = os.environ.get("KVMLESS_STRESS_SECONDS", "10")
    with tempfile.TemporaryDirectory() as d:
        image = with_programs(d, "smpstress")
        out = linux(f"smpstress {seconds}", cpus=2, image=image, timeout=900)
    if "no error" not in out:
        fail("smpstress failed")


def code():
    """Two processors patch, make and call code; translated at once, too, and by the interpreter."""
    seconds = os.environ.get("KVMLESS_STRESS_SECONDS", "4")
    with tempfile.TemporaryDirectory() as d:
        image = with_programs(d, "codestress")
        for options in ((), ("--param", "kvmless.translate_after=0"), ("--engine", "interp")):
            out = linux(f"codestress {seconds}", cpus=2, image=image, timeout=900, options=options)
            if "no error" not in out:
                fail("codestress failed")


def noept():
    """Shadow paging, with processes that switch; the second processor starts in emulated real mode."""
    with tempfile.TemporaryDirectory() as d:
        image = with_programs(d, "smpstress", "ctxswitch")
        out = linux("smpstress 3; ctxswitch 8 100", cpus=2, image=image,
                    options=("--param", "kvm_intel.ept=0"))
    if "no error" not in out or "us a switch" not in out or "FAILED" in out:
        fail("programs failed under shadow paging")


def nounrestricted():
    linux("true", cpus=2, options=("--param", "kvm_intel.unrestricted_guest=0"))


def disk():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "disk")
        data = os.urandom(1 << 20) * 8
        with open(path, "wb") as f:
            f.write(data)
        import hashlib
        out = linux("cd /lib/modules; for m in virtio_ring virtio virtio_mmio virtio_blk; do insmod $m.ko; "
                    "done; md5sum /dev/vda; dd if=/bin/busybox of=/dev/vda bs=4096 count=16 conv=fsync; "
                    "head -c 65536 /bin/busybox | md5sum; head -c 65536 /dev/vda | md5sum",
                    options=["--disk", path])
        if hashlib.md5(data).hexdigest() not in out:
            fail("the disk reads as something else")
        with open(path, "rb") as f:
            head = hashlib.md5(f.read(65536)).hexdigest()
        if out.count(head) != 2:
            fail("what the guest wrote is not in the file")


def outside_guest(memory, image, script, ready, limit):
    """MiB of the process that are not guest memory once the guest says @ready."""
    if not os.path.exists(vmlinux):
        skip("no guests: make guests")
    p = subprocess.Popen([kvmless, "boot", "--memory", f"{memory}M", "--initrd", image, "--append",
                          f'console=ttyS0 "kvmless.run={script}"' if script else "console=ttyS0", vmlinux],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for line in p.stdout:
            if line.startswith(ready):
                break
        else:
            fail(f"no {ready}")
        outside = guest = 0
        with open(f"/proc/{p.pid}/smaps") as f:
            for line in f:
                m = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
                if m:
                    is_guest = int(m[2], 16) - int(m[1], 16) >= memory << 20
                elif line.startswith("Pss:"):
                    kib = int(line.split()[1])
                    guest, outside = (guest + kib, outside) if is_guest else (guest, outside + kib)
    finally:
        p.kill()
        p.wait()
    print(f"guest memory {guest >> 10} MiB, everything else {outside >> 10} MiB")
    if not guest or outside >= limit << 10:
        fail(f"more than {limit} MiB outside of guest memory, or no guest memory found")


def footprint():
    """Memory outside the guest's: below 100 MiB for 512 MiB of guest memory, at the shell."""
    outside_guest(512, initrd, "", b"BusyBox", 100)


def footprint_bench():
    """Below 200 MiB for 1 GiB of guest memory, after a boot and every row of the guest benchmark."""
    with tempfile.TemporaryDirectory() as d:
        image = with_programs(d, "../../bench/guestbench")
        outside_guest(1024, image, "guestbench 0.01 && echo all rows; sleep 1000", b"all rows", 200)


def trace():
    """A trace of L2's boot: readable, every moment of a vCPU in one slice, and its counts are the counters'."""
    l1 = os.path.join(guests, "initrd-l1.img")
    if not os.path.exists(l1):
        skip("no guests: make guests")
    with tempfile.TemporaryDirectory() as d:
        path, stats = os.path.join(d, "trace.json"), os.path.join(d, "stats.json")
        out = linux("boot-l2 'console=ttyS0 quiet panic=-1 kvmless.run=nproc'", cpus=2, memory="1G", image=l1,
                    options=("--trace", path, "--stats=" + stats))
        if out.count("init: reached") != 2:
            fail("L2 did not reach its init")
        with open(path) as f:
            events = json.load(f)
        with open(stats) as f:
            counters = json.load(f)["vcpu"]
        summary = json.loads(run(["stat", "--json", path]).stdout)
        text = run(["stat", path]).stdout
    if summary["lost"] or not summary["complete"]:
        fail(f"lost {summary['lost']}, complete {summary['complete']}")
    tracks = {}
    for e in events:
        if e["ph"] == "X":
            tracks.setdefault((e["pid"], e["tid"]), []).append(e)
    if len(tracks) != 2:
        fail(f"tracks: {list(tracks)}")
    for name, slices in tracks.items():
        last = inner = 0
        for e in sorted(slices, key=lambda e: (ns(e["ts"]), -ns(e["dur"]))):
            start, end = ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])
            if e["cat"] == "halt":
                if not (inner <= start and end <= last):
                    fail(f"{name}: a halt is not within a slice: {e}")
                inner = end
                continue
            if last and start != last:
                fail(f"{name}: a gap or an overlap of {start - last} ns before {e}")
            last, inner = end, start
    found, by_l1, by_l0 = {}, 0, 0
    for x in summary["exits"]:
        if x["name"] != "KVM_RUN":
            found[x["name"]] = found.get(x["name"], 0) + x["count"]
        if x["from"] == "L2":
            by_l1 += x["count"] if x["handled_by"] == "L1" else 0
            by_l0 += x["count"] if x["handled_by"] == "L0" else 0
    wanted = {k[5:]: v for k, v in counters.items() if k.startswith("exit_") and v}
    if found != wanted:
        fail(f"exits in the trace {found}, counted {wanted}")
    named = {x["name"]: x["count"] for x in summary["events_by_name"]}
    for what, counter in (("nested entry", "nested_entries"), ("interrupt", "irq_injections")):
        if named.get(what) != counters[counter] or not counters[counter]:
            fail(f"{what}: {named.get(what)} in the trace, {counters[counter]} counted")
    if sum(n for k, n in named.items() if k.startswith("nested exit")) != counters["nested_exits"]:
        fail("nested exits in the trace are not those counted")
    sums = {k: sum(v for name, v in counters.items() if name.startswith(k)) for k in ("l2_exit_", "l2_kept_", "l2_to_l1_")}
    if sums["l2_kept_"] != counters["nested_exits_l0"] or sums["l2_to_l1_"] != counters["nested_exits"]:
        fail(f"exits by reason are not those counted: {sums}")
    # Interrupts and the like reach L1 without an exit of the processor, seldom.
    if not 0 <= sums["l2_kept_"] + sums["l2_to_l1_"] - sums["l2_exit_"] <= sums["l2_exit_"] // 20:
        fail(f"exits of L2 are neither kept nor L1's: {sums}")
    if not by_l1 or not by_l0 or not any(v["l2_ns"] for v in summary["vcpus"]) or "guest code of L2" not in text:
        fail("no time or no exits of L2")
    print(f"{len(events)} events, {by_l1} exits of L2 handled by L1, {by_l0} by L0")


def ns(us):
    return round(us * 1000)


def trace_killed():
    """What a killed process leaves is a trace without its end."""
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "trace.json")
        p = subprocess.Popen([kvmless, "boot", "--trace", path, "--initrd", initrd, "--append", "console=ttyS0",
                              vmlinux], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for line in p.stdout:
            if b"Freeing unused" in line:
                break
        p.kill()
        p.wait()
        with open(path) as f:
            text = f.read()
        events = json.loads(text[:text.rindex("\n")].rstrip().rstrip(",") + "]")
        summary = json.loads(run(["stat", "--json", path]).stdout)
    if len(events) < 100 or summary["complete"] or not summary["vcpus"][0]["l1_ns"]:
        fail(f"{len(events)} events, {summary}")


def start_boot(script, cpus):
    return subprocess.Popen([kvmless, "boot", "--cpus", str(cpus), "--initrd", initrd, "--append",
                             f'console=ttyS0 panic=-1 "kvmless.run={script}"', vmlinux], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")


def signals():
    """Signals at any moment: those that a program ignores do nothing to a guest, those that end it end it."""
    if not os.path.exists(vmlinux):
        skip("no guests: make guests")
    rng = random.Random(1)
    harmless = [signal.SIGWINCH, signal.SIGCHLD, signal.SIGURG, signal.SIGCONT]
    p = start_boot("true", 2)
    out = []
    reader = threading.Thread(target=lambda: out.append(p.stdout.read()))
    reader.start()
    n = 0
    while p.poll() is None and n < 20000:
        n += 1
        if n % 50 == 0:
            p.send_signal(signal.SIGSTOP)
            time.sleep(0.005)
            p.send_signal(signal.SIGCONT)
        # To a thread of its choice, vCPUs included
        try:
            tid = int(rng.choice(os.listdir(f"/proc/{p.pid}/task")))
            os.kill(tid, rng.choice(harmless))
        except (OSError, IndexError):
            pass
        time.sleep(0.001)
    status = p.wait(300)
    reader.join()
    p.stderr.close()
    if status or "init: script ended with 0" not in out[0]:
        print(out[0][-3000:])
        fail(f"{n} signals, exit status {status}")
    for k in range(12):
        p = start_boot("true", 1 + k % 2)
        time.sleep(rng.random() * 0.8)
        sig = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        p.send_signal(sig)
        _, err = p.communicate(timeout=60)
        if p.returncode not in (-sig, 0) and not 0 < p.returncode < 128:
            fail(f"signal {sig} at an early moment: exit status {p.returncode}: {err}")
        if "bug at" in err or p.returncode in (80, 81, 82):
            fail(f"signal {sig}: {p.returncode}, {err}")
    print(f"{n} signals during a boot, 12 boots ended by one")


def reboot():
    linux("reboot -f; sleep 30", ends=False)


def repeat():
    for n in range(int(os.environ.get("KVMLESS_REPEAT", "5"))):
        linux("true", cpus=1 + n % 2)


def multiboot():
    r = run(["boot", "--timeout", "60", os.path.join(build, "tests", "guests", "exit42.elf")], 42)
    if "multiboot guest says hello" not in r.stdout:
        fail("no hello")


def triple_fault():
    r = run(["boot", "--timeout", "60", os.path.join(build, "tests", "guests", "triple.elf")], 80)
    if "triple fault" not in r.stderr or "rip" not in r.stderr:
        fail("the message lacks the state")


def bad_input():
    with tempfile.TemporaryDirectory() as d:
        def put(name, data):
            path = os.path.join(d, name)
            with open(path, "wb") as f:
                f.write(data)
            return path
        empty, noise = put("empty", b""), put("noise", os.urandom(100000))
        for k in (empty, noise, d, os.path.join(d, "none"), put("elf", b"\x7fELF" + os.urandom(500))):
            r = run(["boot", k], 65)
            if not r.stderr.startswith("kvmless: kernel"):
                fail(f"no clear message: {r.stderr}")
        if os.path.exists(vmlinuz):
            with open(vmlinuz, "rb") as f:
                image = f.read()
            for n in (600, 5000, 100000, len(image) // 2):
                run(["boot", put("cut", image[:n])], 65)
            run(["boot", "--initrd", empty, vmlinuz], 65)
            run(["boot", "--initrd", os.path.join(d, "none"), vmlinuz], 65)
            run(["boot", "--memory", "32M", vmlinuz], 65)
            run(["boot", "--disk", os.path.join(d, "none"), vmlinuz], 65)
    for args in (["--cpus", "0"], ["--cpus", "300"], ["--cpus", "x"], ["--memory", "0"],
                 ["--memory", "1K"], ["--memory", "-1"], ["--nonsense"], ["--param", "x"],
                 ["--param", "kvm.none=1"], ["--engine", "warp"], ["--cpus"], []):
        r = run(["boot", *args] + (["/dev/null"] if args and args != ["--cpus"] else []), 2)
        if not r.stderr:
            fail(f"no message for {args}")


globals()[case]()
