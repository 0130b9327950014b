# SPDX-License-Identifier: MIT
"""A disk as an installer leaves it: GRUB in its boot track, an ext2 partition with kernel and initramfs."""
import os
import struct
import subprocess

from packages import unpacked

SECTOR = 512
FIRST = 1 << 20  # where core.img has to end; what lies between it and the partition is the caller's
MODULES = "biosdisk part_msdos ext2 linux normal configfile serial terminal echo boot test sleep".split()
EARLY = "set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"
CONFIG = """serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
menuentry "Debian" {
	echo "GRUB loads the kernel"
	linux /boot/vmlinuz %s
	initrd /boot/initrd.img
}
"""


def available(guests):
    """GRUB's files are downloaded as Debian packages into GUESTS/grub without installing them."""
    return unpacked(os.path.join(guests, "grub"), ["grub-pc-bin", "grub-common"])


def grub_disk(path, guests, tmp, command_line, extra, start, size):
    """Makes the disk @path with a partition of @size bytes at @start; @extra follows the initramfs."""
    root, core = os.path.join(tmp, "root"), os.path.join(tmp, "core.img")
    config, partition = os.path.join(tmp, "early.cfg"), os.path.join(tmp, "partition")
    grub = os.path.join(guests, "grub/usr/lib/grub/i386-pc")
    os.makedirs(os.path.join(root, "boot/grub"))
    with open(os.path.join(root, "boot/grub/grub.cfg"), "w") as f:
        f.write(CONFIG % command_line)
    for name in ("vmlinuz", "initrd.img"):
        with open(os.path.join(guests, name), "rb") as f, open(os.path.join(root, "boot", name), "wb") as g:
            data = f.read()
            g.write(data)
            if name == "initrd.img":
                g.write(bytes(-len(data) % 4) + extra)
    with open(partition, "wb") as f:
        f.truncate(size)
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext2", "-d", root, partition], check=True)
    with open(config, "w") as f:
        f.write(EARLY)
    subprocess.run([os.path.join(guests, "grub/usr/bin/grub-mkimage"), "-d", grub, "-O", "i386-pc", "-o", core, "-c",
                    config, "-p", "(hd0,msdos1)/boot/grub"] + MODULES, check=True)
    with open(os.path.join(grub, "boot.img"), "rb") as f:
        boot = bytearray(f.read())
    with open(core, "rb") as f:
        image = f.read()
    assert SECTOR + len(image) <= FIRST
    boot[446:510] = bytes(64)  # code for floppy disks
    # The one entry of the partition table: Linux, active. boot.img looks for core.img in sector 1 by itself.
    struct.pack_into("<BBBBBBBBII", boot, 446, 0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, start // SECTOR,
                     size // SECTOR)
    boot[510:512] = b"\x55\xaa"
    with open(path, "wb") as f, open(partition, "rb") as p:
        f.write(boot + image)
        f.seek(start)
        f.write(p.read())
