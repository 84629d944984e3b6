"""Runs on the host as an unprivileged user, beside a live run: gets at what it can.

`rogue.py STATE_DIRECTORY PID` prints, as JSON, what each way gave it; it drops root first.
"""

import contextlib
import json
import os
import signal
import socket
import sys

state, victim = sys.argv[1], int(sys.argv[2])
sockets = [
    os.path.join(folder, name)
    for folder, _, names in os.walk(state)
    for name in names
    if os.path.exists(os.path.join(folder, name))
    and (os.stat(os.path.join(folder, name)).st_mode & 0o170000) == 0o140000
]
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
report = {}


def attempt(label, action):
    try:
        report[label] = repr(action())[:200]
    except OSError as error:
        report[label] = type(error).__name__


def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(4096)


def write_to(path):
    os.close(os.open(path, os.O_WRONLY))  # opened and no more: it is only asked whether it may


def connect(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(path)
        return "connected"


attempt("list the state directory", lambda: os.listdir(state))
attempt("list the runs", lambda: os.listdir(f"{state}/runs"))
for path in sockets:
    attempt(f"connect to {os.path.basename(path)}", lambda path=path: connect(path))
attempt("memory of the host process", lambda: read(f"/proc/{victim}/mem"))
attempt("environment of it", lambda: read(f"/proc/{victim}/environ"))
attempt("descriptors of it", lambda: os.listdir(f"/proc/{victim}/fd"))
attempt("signal to it", lambda: os.kill(victim, signal.SIGTERM))
processes = 0
for name in os.listdir("/proc"):
    if name.isdigit():
        with contextlib.suppress(OSError):
            words = read(f"/proc/{name}/cmdline")
            if f"{state}/".encode() in words and int(name) != os.getpid():
                processes += 1
                attempt(f"signal to process {processes}", lambda n=name: os.kill(int(n), 9))
                attempt(f"descriptors {processes}", lambda n=name: os.listdir(f"/proc/{n}/fd"))
                attempt(f"root {processes}", lambda n=name: os.listdir(f"/proc/{n}/root/"))
report["processes"] = processes
report["sockets"] = len(sockets)
for folder, folders, _ in os.walk("/sys/fs/cgroup"):
    for name in folders:
        if name.startswith("omnibase-"):
            group = f"{folder}/{name}"
            attempt("join the control group", lambda g=group: write_to(f"{g}/cgroup.procs"))
            attempt("raise its limit", lambda g=group: write_to(f"{g}/memory.limit_in_bytes"))
print(json.dumps(report))
