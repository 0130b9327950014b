#!/usr/bin/env python3
"""Runs a group of the guest test hypervisor's tests under each set of parameters, and once while the VM
is saved and made anew all the time.

usage: nested.py KVMLESS MIGRATE IMAGE GROUP
"""
import os
import subprocess
import sys

SETS = (
    [],
    ["--param", "kvm_intel.enable_shadow_vmcs=0"],
    ["--param", "kvmless.shadow_read_only=0"],
    ["--param", "kvmless.vmwrite_any=0", "--param", "kvmless.lazy_vmcs12=0"],
    ["--param", "kvm_intel.ept=0"],
    ["--param", "kvm_intel.enable_apicv=1"],
    ["--engine", "interp"],
)


def main():
    kvmless, migrate, image, group = sys.argv[1:]
    bad = 0
    runs = [([kvmless, "boot"], params) for params in SETS]
    # An INT1 that L1 injects and whose delivery is interrupted cannot be told in KVM_GET_VCPU_EVENTS.
    if group != "events":
        runs.append(([migrate, "1000"], []))
    for program, params in runs:
        command = [*program, "--memory", "128M", "--timeout", "80", "--append", f"group={group}",
                   "--param", "kvm_intel.nested=1", *params, image]
        r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           errors="replace", timeout=90)
        print(f"== {os.path.basename(program[0])} {' '.join(params) or 'defaults'}: status {r.returncode}")
        lines = [line.rstrip() for line in r.stdout.splitlines()]
        for line in lines:
            if not line.startswith("PASS"):
                print(line)
        if program[0] == migrate:
            print(r.stderr.strip().splitlines()[-1:])
        if r.returncode or not any(line.startswith("RESULT") for line in lines):
            print(r.stderr[-2000:])
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
