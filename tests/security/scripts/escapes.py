"""Tries to reach paths by every way round a plain name; prints an outcome for each.

The argument is a host path that exists and is not granted.
"""

import ctypes
import errno
import json
import os
import sys

target = sys.argv[1]
name = target.lstrip("/")
report = {}


def attempt(label, action):
    try:
        found = action()
        report[label] = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    except OSError as error:
        report[label] = errno.errorcode[error.errno]


def read(path, *, dir_fd=None):
    fd = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def by_symlink():
    os.symlink(target, "/tmp/link")
    return read("/tmp/link")


def by_symlinked_directory():
    os.symlink("/", "/tmp/root")
    return read("/tmp/root/" + name)


def by_hard_link():
    os.link(target, "/tmp/hard")
    return read("/tmp/hard")


def by_descriptor_of_root():
    return read(name, dir_fd=os.open("/", os.O_RDONLY | os.O_DIRECTORY))


def by_descriptor_of_path():
    return read(name, dir_fd=os.open("/", os.O_PATH))


def by_dotdot_from_descriptor():
    return read("../" + name, dir_fd=os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY))


def by_chdir():
    os.chdir("/proc/self/root")
    try:
        return read(name)
    finally:
        os.chdir("/tmp")


def by_libc_open():
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.open(target.encode(), os.O_RDONLY)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open")
    return os.read(fd, 1 << 16)


def by_fopen():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fopen.restype = ctypes.c_void_p
    if not libc.fopen(target.encode(), b"r"):
        raise OSError(ctypes.get_errno(), "fopen")
    return "opened"


def by_raw_syscall():
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(2, target.encode(), 0)  # open(2), which libc itself no longer uses
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open")
    return os.read(fd, 1 << 16)


def by_reopening_a_path_descriptor():
    return read(f"/proc/self/fd/{os.open(target, os.O_PATH)}")


attempt("plain", lambda: read(target))
attempt("dotdot", lambda: read("/tmp/../" + name))
attempt("many dotdots", lambda: read("../" * 40 + name))
attempt("doubled slashes", lambda: read("//" + name.replace("/", "//")))
attempt("proc self root", lambda: read("/proc/self/root/" + name))
attempt("proc self cwd", lambda: read("/proc/self/cwd/../" + name))
attempt("proc 1 root", lambda: read("/proc/1/root/" + name))
for action in (
    by_symlink, by_symlinked_directory, by_hard_link, by_descriptor_of_root,
    by_descriptor_of_path, by_dotdot_from_descriptor, by_chdir, by_libc_open, by_fopen,
    by_raw_syscall, by_reopening_a_path_descriptor,
):  # fmt: skip
    attempt(action.__name__, action)
print(json.dumps(report))
