"""Asks in every way whether paths exist, and measures how long each question takes.

The argument is a JSON list of pairs ``[one, other]``; the report has, for each path, what
each way answered, and for each pair the median nanoseconds of either, measured in turns.
"""

import contextlib
import ctypes
import errno
import json
import os
import socket
import statistics
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def by_c(path):
    if libc.access(path.encode(), 0) != 0:
        raise OSError(ctypes.get_errno(), "access")


def link_to(path):
    os.symlink(path, "/tmp/to")
    try:
        os.stat("/tmp/to")
    finally:
        os.unlink("/tmp/to")


WAYS = {
    "stat": os.stat,
    "lstat": os.lstat,
    "open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "open as a path": lambda path: os.close(os.open(path, os.O_PATH)),
    "open as a directory": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY)),
    "create": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "write": lambda path: os.close(os.open(path, os.O_WRONLY)),
    "truncate": lambda path: os.truncate(path, 0),
    "access": by_c,
    "listdir": os.listdir,
    "readlink": os.readlink,
    "chdir": os.chdir,
    "chmod": lambda path: os.chmod(path, 0o600),
    "rename": lambda path: os.rename(path, "/tmp/renamed"),
    "rename onto": lambda path: os.rename("/tmp/own", path),
    "link": lambda path: os.link(path, "/tmp/linked"),
    "link onto": lambda path: os.link("/tmp/own", path),
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "statvfs": os.statvfs,
    "getxattr": lambda path: os.getxattr(path, "user.x"),
    "execute": lambda path: os.execv(path, ["x"]),
    "bind": bind,
    "connect": connect,
    "behind a link": link_to,
}


def answer(way, path):
    try:
        WAYS[way](path)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "yes"


def timed(path):
    began = time.perf_counter_ns()
    with contextlib.suppress(OSError):
        os.stat(path)
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDONLY))
    return time.perf_counter_ns() - began


def answers_of(path):
    """What each way answers, none of them on what one before has made in the guest itself."""
    found = {}
    for way in WAYS:
        os.chdir("/")
        open("/tmp/own", "w").close()
        found[way] = answer(way, path)
        for made in (path, "/tmp/renamed", "/tmp/linked"):
            if made.startswith(("/tmp/", "/dev/shm/")):
                with contextlib.suppress(OSError):
                    os.unlink(made)
                with contextlib.suppress(OSError):
                    os.rmdir(made)
    return found


pairs = json.loads(sys.argv[1])
answers = {path: answers_of(path) for pair in pairs for path in pair}
times = []
for pair in pairs:
    samples = ([], [])
    for turn in range(200):
        for index in (0, 1) if turn % 2 else (1, 0):
            samples[index].append(timed(pair[index]))
    times.append([statistics.median(values) for values in samples])
print(json.dumps({"answers": answers, "times": times}))
