"""Initramfs images for guests in guests: two cpio archives one after the other are one."""
import os
import shutil
import subprocess
import tempfile


def archive(files):
    """An initramfs of {path: (source file or text, mode)} to append to another one."""
    with tempfile.TemporaryDirectory() as d:
        for path, (what, mode) in files.items():
            to = os.path.join(d, path)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if os.path.isabs(what):
                shutil.copy(what, to)
            else:
                with open(to, "w") as f:
                    f.write(what)
            os.chmod(to, mode)
        return subprocess.run("find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=d,
                              capture_output=True, check=True).stdout


def image(build, path, base, scripts, programs=(), extra=None):
    """The initramfs @base of @build with /bin/NAME for each of @scripts, static @programs and @extra files."""
    files = {f"bin/{name}": ("#!/bin/sh\n" + text + "\n", 0o755) for name, text in scripts.items()}
    for p in programs:
        files["bin/" + os.path.basename(p)] = (os.path.abspath(os.path.join(build, p)), 0o755)
    for to, source in (extra or {}).items():
        files[to] = (os.path.abspath(source), 0o755 if os.access(source, os.X_OK) else 0o644)
    with open(path, "wb") as out:
        with open(os.path.join(build, "guests", base), "rb") as f:
            out.write(f.read())
        out.write(archive(files))
    return path
