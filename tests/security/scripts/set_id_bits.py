"""Tries to leave a set-user-id or set-group-id file on the host, each way in a child.

The argument is a granted writable directory that belongs to root.
"""

import contextlib
import ctypes
import json
import os
import sys

os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
CREATE = os.O_CREAT | os.O_WRONLY


def plain(name):
    os.close(os.open(name, CREATE, 0o755))
    return name


ways = {
    "open": lambda: os.open("by-open", CREATE, 0o4755),
    "open group": lambda: os.open("by-open-group", CREATE, 0o2755),
    "open(2)": lambda: libc.syscall(2, b"by-open2", CREATE, 0o6755),
    "creat": lambda: libc.syscall(85, b"by-creat", 0o4755),
    "tmpfile": lambda: libc.syscall(257, AT_FDCWD, b".", 0o20200001, 0o4755),
    "chmod": lambda: os.chmod(plain("by-chmod"), 0o4755),
    "chmod group": lambda: os.chmod(plain("by-chmod-group"), 0o2755),
    "fchmod": lambda: os.fchmod(os.open("by-fchmod", CREATE, 0o755), 0o4755),
    "fchmodat": lambda: libc.syscall(268, AT_FDCWD, plain("by-fchmodat").encode(), 0o4755),
    "fchmodat2": lambda: libc.syscall(452, AT_FDCWD, plain("by-fchmodat2").encode(), 0o4755, 0),
    "chmod, high half set": lambda: libc.syscall(
        90, plain("by-high-half").encode(), ctypes.c_long(1 << 32 | 0o4755)
    ),
    "mkdir": lambda: os.mkdir("by-mkdir", 0o2755),
    "mkdirat": lambda: libc.syscall(258, AT_FDCWD, b"by-mkdirat", 0o2755),
    "mknod": lambda: os.mknod("by-mknod", 0o104755),
    "mknod(2)": lambda: libc.syscall(133, b"by-mknod2", 0o104755, 0),
}
report = {}
for label, way in ways.items():
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            way()
        os._exit(0)
    report[label] = os.waitpid(child, 0)[1]
print(json.dumps(report))
