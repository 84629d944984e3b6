"""Looks for a value, given in two halves, everywhere but in its file; then in its file."""

import ctypes
import json
import os
import sys

HALVES = [os.fsencode(half) for half in sys.argv[2:4]]


def holds(data):
    at = data.find(HALVES[0])
    while at >= 0:
        # Never put together: this process's own memory is searched too.
        if data[at + len(HALVES[0]) :].startswith(HALVES[1]):
            return True
        at = data.find(HALVES[0], at + 1)
    return False


def in_files():
    found, read = [], 0
    for top, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(top, name) != "/run/secrets"]
        if top.startswith("/opt/omnibase/lib"):
            folders.clear()
            continue
        for name in names:
            path = os.path.join(top, name)
            if not path.startswith(("/proc/", "/tmp/", "/run/", "/etc/", "/dev/shm/", "/sys/")):
                continue
            if os.path.basename(path) in ("mem", "kmsg", "pagemap"):
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                read += 1
                if holds(os.read(fd, 1 << 20)):
                    found.append(path)
            except OSError:
                pass
            finally:
                os.close(fd)
    return found, read


def in_memory():
    found, size = [], 0
    with open("/proc/self/maps") as file:
        maps = [line.split() for line in file]
    for line in maps:
        start, end = (int(text, 16) for text in line[0].split("-"))
        if "r" not in line[1] or line[-1] in ("[vvar]", "[vsyscall]"):
            continue
        if len(line) > 5 and line[5].startswith("/"):
            continue
        for at in range(start, end, 1 << 20):
            part = ctypes.string_at(at, min((1 << 20) + 256, end - at))
            size += len(part)
            if holds(part):
                found.append(line[-1])
    return found, size


# First of all: whatever was left there would soon be written over.
memory, memory_read = in_memory()
report = {
    "memory": memory,
    "memory read": memory_read,
    "environment": any(holds(f"{k}={v}".encode()) for k, v in os.environ.items()),
    "argv": [argument for argument in sys.argv if holds(argument.encode())],
    "listed": sorted(os.listdir("/run/secrets")),
}
report["files"], report["files read"] = in_files()
status = os.stat(sys.argv[1])
report["status"] = [oct(status.st_mode), status.st_uid, status.st_gid, os.getuid(), status.st_size]
with open(sys.argv[1], "rb") as file:
    value = file.read()
report["in its file"] = holds(value)
report["memory after"] = bool(in_memory()[0])
with open("/proc/mounts") as file:
    report["mounts"] = [line.split()[2] for line in file if "/run/secrets" in line]
print(json.dumps(report))
