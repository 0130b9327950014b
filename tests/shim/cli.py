#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kvmless run as a person meets it: cli.py KVMLESS CLIENT PROCESS STATIC-PROGRAM TEST."""
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

kvmless, client, process, static = (os.path.abspath(f) for f in sys.argv[1:5])
test = sys.argv[5]


def run(*args, **kw):
    return subprocess.run([kvmless, "run"] + list(args), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, **kw)


def messages():
    r = run(static)
    assert r.returncode == 126 and "statically linked" in r.stderr, r
    r = run("/no/such/program")
    assert r.returncode == 127 and "not found" in r.stderr, r
    r = run()
    assert r.returncode == 2 and "usage" in r.stderr, r
    r = run("--param", "kvm.nonsense=1", "--", "true")
    assert r.returncode == 2 and "no parameter" in r.stderr, r
    with tempfile.TemporaryDirectory() as d:
        # The command without its library
        alone = shutil.copy(kvmless, d)
        r = subprocess.run([alone, "run", "true"], capture_output=True, text=True, timeout=60)
        assert r.returncode == 126 and "libkvmless-shim.so" in r.stderr, r
        # Set-uid to somebody else: what is installed so, or one of our own making
        suid = next((f for f in ("/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/bin/mount")
                     if os.path.exists(f) and os.stat(f).st_mode & stat.S_ISUID), None)
        if os.geteuid() == 0:
            suid = shutil.copy(process, os.path.join(d, "suid"))
            os.chown(suid, 65534, -1)
            os.chmod(suid, 0o4755)
        if suid:
            r = run(suid)
            assert r.returncode == 126 and "set-uid" in r.stderr, r
        script = os.path.join(d, "script")
        with open(script, "w") as f:
            f.write("#! %s child\n" % static)
        os.chmod(script, 0o755)
        r = run(script)
        assert r.returncode == 126 and "statically linked" in r.stderr, r
    # A request that is not there: told once, by name, to those who want to know.
    r = run(process, "unknown")
    assert (r.returncode, r.stdout, r.stderr) == (0, "output\n", ""), r
    r = run("--verbose", process, "unknown")
    assert (r.returncode, r.stdout) == (0, "output\n"), r
    for name in "KVM_SET_PMU_EVENT_FILTER", "KVM_GET_REG_LIST":
        assert r.stderr.count(name) == 1, r
    # Nothing of ours in a program's output, and its exit status comes through.
    r = run("sh", "-c", "echo out; exit 7")
    assert (r.returncode, r.stdout, r.stderr) == (7, "out\n", ""), r


def children():
    # A shell, its child, and that one's parameters.
    r = run("--param", "kvm_intel.ept=0", "--", "sh", "-c",
            "%s run && cat /sys/module/kvm_intel/parameters/ept" % client)
    assert (r.returncode, r.stdout) == (0, "N\n"), r
    r = run("--vendor=amd", "cat", "/sys/module/kvm_intel/parameters/ept")
    assert r.returncode == 1 and "No such file" in r.stderr, r


def killed():
    before = {f for d in ("/dev/shm", "/tmp") for f in os.listdir(d) if "kvm" in f}
    p = subprocess.Popen([kvmless, "run", client, "spin"], stdout=subprocess.PIPE,
                         start_new_session=True)
    assert p.stdout.readline() == b"running\n"
    os.kill(p.pid, signal.SIGKILL)
    assert p.wait(10) == -signal.SIGKILL
    # No process of its session and no file is left.
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                session = int(f.read().rsplit(")", 1)[1].split()[3])
        except OSError:
            continue
        assert session != p.pid, pid
    after = {f for d in ("/dev/shm", "/tmp") for f in os.listdir(d) if "kvm" in f}
    assert after <= before, after - before


def plain():
    # A program without KVM: the same signals, threads and descriptors, and nearly the same cost.
    def once(command):
        r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                           stdin=subprocess.DEVNULL)
        assert r.returncode == 0 and not r.stderr, r
        state, cost = r.stdout.split("cost ")
        return state, [float(v) for v in cost.split()]

    native, ours = [], []
    for _ in range(3):
        native.append(once([client, "plain"]))
        ours.append(once([kvmless, "run", "--", client, "plain"]))
    assert native[0][0] == ours[0][0], (native[0][0], ours[0][0])
    for i, what in enumerate(("ioctl", "open and close", "mmap and munmap")):
        n, o = (min(r[1][i] for r in runs) for runs in (native, ours))
        print("%s: %.0f ns, %.0f ns under kvmless run" % (what, n, o))
        assert o < n * 1.3 + 100, what


def trace():
    with tempfile.TemporaryDirectory() as d:
        # A file of an earlier run makes room; two processes make two files; a shell makes none.
        with open(os.path.join(d, "t"), "w") as f:
            f.write("old")
        r = run("--trace", "t", "--", "sh", "-c", "%s run; %s run" % (client, client), cwd=d)
        assert r.returncode == 0, r
        names = sorted(os.listdir(d))
        assert len(names) == 2 and names[0] == "t" and names[1][:2] == "t.", names
        for name in names:
            with open(os.path.join(d, name)) as f:
                events = json.load(f)
            assert any(e.get("cat") == "guest" for e in events), events
            r = subprocess.run([kvmless, "stat", os.path.join(d, name)], stdout=subprocess.PIPE, text=True)
            assert r.returncode == 0 and "guest code of L1" in r.stdout, r


{"messages": messages, "children": children, "killed": killed, "plain": plain, "trace": trace}[test]()
