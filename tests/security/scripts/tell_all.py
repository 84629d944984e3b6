"""Prints whatever it can read or ask that could name its host; the arguments are files to add."""

import contextlib
import grp
import json
import os
import platform
import pwd
import socket
import stat
import sys
import sysconfig
import time

MOST = 1 << 16
said = {}


def read(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            said[path] = os.read(fd, MOST).decode("utf-8", "backslashreplace")
    finally:
        os.close(fd)


for top in ("/proc", "/proc/self", "/sys", "/etc", "/run", "/dev", "/var", "/usr", "/home"):
    for folder, folders, names in os.walk(top):
        said[f"listing of {folder}"] = sorted([*folders, *names])
        for name in names:
            with contextlib.suppress(OSError):
                read(os.path.join(folder, name))
for path in sys.argv[1:]:
    read(path)
spaces = [f"ns/{name}" for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")]
for name in ("fd/0", "fd/1", "fd/2", "exe", "cwd", "root", *spaces):
    with contextlib.suppress(OSError):
        said[f"link {name}"] = os.readlink(f"/proc/self/{name}")
said["root"] = sorted(os.listdir("/"))
said["uname"] = list(os.uname())
said["platform"] = [platform.platform(), platform.version(), sys.version, sysconfig.get_paths()]
said["users"] = [entry.pw_name for entry in pwd.getpwall()]
with contextlib.suppress(OSError, KeyError):
    said["groups"] = [entry.gr_name for entry in grp.getgrall()]
said["names"] = [socket.gethostname(), socket.getfqdn()]
said["interfaces"] = socket.if_nameindex()
said["environment"] = dict(os.environ)
said["boot"] = time.clock_gettime(time.CLOCK_BOOTTIME)
print(json.dumps(said))
