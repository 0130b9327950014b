# SPDX-License-Identifier: MIT
"""Debian packages that a test needs the files of, but nobody has to install."""
import glob
import os
import shutil
import subprocess


def unpacked(directory, packages):
    """
    True if @packages are unpacked in @directory, where they stay. False if they cannot be had; apt-get then
    says why.
    """
    done = os.path.join(directory, ".unpacked")
    names = " ".join(sorted(packages))
    if os.path.exists(done):
        with open(done) as f:
            if f.read() == names:
                return True
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    print("downloading", names, flush=True)
    if subprocess.run(["apt-get", "-q", "download", *sorted(packages)], cwd=directory, stdout=subprocess.DEVNULL,
                      check=False).returncode:
        return False
    for deb in glob.glob(os.path.join(directory, "*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, directory], check=True)
        os.unlink(deb)
    with open(done, "w") as f:
        f.write(names)
    return True
