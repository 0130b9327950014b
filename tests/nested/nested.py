#!/usr/bin/env python3
"""Runs a group of the guest test hypervisor's tests under each set of parameters, and while the VM
is saved and made anew all the time: by the clock, and after nearly every exit in L2; and while its memory slots
are made anew.

usage: nested.py KVMLESS MIGRATE IMAGE GROUP
"""
import os
import re
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
    ["--param", "kvmless.translate_after=0"],
)

# Over an enlightened VMCS go all groups but those that are about VMPTRLD, VMREAD and VMWRITE themselves.
HYPERV = ["--hyperv"]
NOT_ENLIGHTENED = ("insn", "shadow", "apic", "msrlist")

# What --explain must say of some of the mistakes that the groups make.
EXPLAINED = {
    "checks": ("UNRESTRICTED_NEEDS_EPT: control SECONDARY_VM_EXEC_CONTROL = 0x",
               "it does with bit 1 = 1 or bit 7 = 0; SDM vol. 3C, 27.2.1.1"),
    "msrlist": ("entry 2, MSR 0xc0000100, value 0: not allowed in a list",),
    "insn": ("NOTIFY_WINDOW is not among the fields that this VMX has", "the region has 0x11e57ed1, not 0x11e57ed0"),
    "ept": ("writable and not readable; SDM vol. 3C, 29.3.3.1",),
    "evmcs": ("must hold: the enlightened VMCS is of version 1", "#UD: operand 0x10000000000; must hold: the enlightened "
              "VMCS of the VP assist page is a page of memory; TLFS, nested virtualization",
              "must hold: no enlightened VMCS is active"),
    "mbec": ("MODE_BASED_EXEC_NEEDS_EPT: control SECONDARY_VM_EXEC_CONTROL = 0x",
             "it does with bit 1 = 1 or bit 22 = 0; SDM vol. 3C, 27.2.1.1"),
}


def main():
    kvmless, migrate, image, group = sys.argv[1:]
    bad = 0
    runs = [([kvmless, "boot"], params) for params in SETS]
    runs.append(([migrate, "1000"], []))
    # The groups about roots enter L2 thousands of times.
    if not group.startswith("roots"):
        runs += [([migrate, f"slots:1:{seed}"], params) for seed, params in enumerate(SETS[:1] + SETS[4:5])]
        runs += [([migrate, f"exits:1:{seed}"], params) for seed, params in enumerate(SETS[:1] + SETS[4:6])]
    enlightened = [(program, params + HYPERV) for program, params in runs]
    if group == "evmcs":
        runs = enlightened
    elif group not in NOT_ENLIGHTENED:
        runs += [(program, params) for program, params in enlightened if params == HYPERV and "slots" not in program[1]]
    for program, params in runs:
        append = f"group={group}"
        if HYPERV[0] in params:
            append += " vmcs=enlightened"
        if program[0] == migrate:
            append += " moved=yes"
        command = [*program, "--memory", "128M", "--timeout", "80", "--append", append,
                   "--param", "kvm_intel.nested=1", "--explain", *params, image]
        r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           errors="replace", timeout=90)
        print(f"== {os.path.basename(program[0])} {' '.join(params) or 'defaults'}: status {r.returncode}")
        lines = [line.rstrip() for line in r.stdout.splitlines()]
        for line in lines:
            if not line.startswith("PASS"):
                print(line)
        if program[0] == migrate:
            moves = r.stderr.strip().splitlines()[-1:]
            print(*moves)
            if program[1].startswith("slots") and not params and not re.search(r"\b[1-9]\d* with L2 running", *moves):
                print("no slot moved while L2 ran")
                bad += 1
            # A test that catches nothing shows nothing.
            if group == "events" and program[1].startswith("exits"):
                events = re.search(r"(\d+) with an event, (\d+) with an entry", *moves)
                if not events or min(map(int, events.groups())) < 20:
                    print("too few moves with something under way")
                    bad += 1
        if program[0] == kvmless and params == (HYPERV if group == "evmcs" else []):
            missing = [text for text in EXPLAINED.get(group, ()) if text not in r.stderr]
            if missing:
                print("not explained:", missing)
                bad += 1
        if r.returncode or not any(line.startswith("RESULT") for line in lines):
            print(r.stderr[-2000:])
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
