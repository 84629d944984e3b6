"""Prints all that could tell which machine it is on, and who started it.

Threat: T-EXEC-14
Expected: nothing of it names the host, its users, its kernel, or this process.
Granted: a variable of the environment that the caller gives is there.
"""

import json
import os
import platform
import socket
import sys

PATHS = [
    "/proc/version", "/proc/cmdline", "/proc/mounts", "/proc/self/mountinfo", "/proc/self/cgroup",
    "/proc/1/environ", "/proc/1/cmdline", "/proc/self/environ", "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/random/boot_id", "/proc/net/tcp", "/proc/net/unix", "/proc/net/route",
    "/etc/hosts", "/etc/resolv.conf", "/etc/os-release", "/etc/group",
    "/sys/devices/system/cpu/online",
]  # fmt: skip
said: dict[str, object] = {}
for path in PATHS:
    try:
        with open(path, "rb") as file:
            said[path] = file.read(65536).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        said[path] = None
said["uname"] = list(os.uname())
said["platform"] = platform.platform()
said["hostname"] = socket.gethostname()
said["interfaces"] = [name for _, name in socket.if_nameindex()]
said["environment"] = dict(os.environ)
said["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
said["ids"] = [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()]
said["path"] = [*sys.path, sys.executable, sys.prefix, os.getcwd()]
print(json.dumps({"said": said}))
