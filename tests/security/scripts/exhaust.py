"""Takes as much as it can get: `exhaust.py KIND [MOST KIND MOST ...]`; prints how much it got."""

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
kept = []


def descriptors():
    kept.append(open("/dev/null"))  # noqa: SIM115 - kept until `take` drops it


def epolls():
    kept.append(select.epoll())


def eventfds():
    kept.append(os.fdopen(os.eventfd(0)))


def timers():
    made = ctypes.c_void_p()
    if libc.timer_create(1, None, ctypes.byref(made)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")


def terminals():
    kept.append([os.fdopen(fd) for fd in os.openpty()])


def watches():
    fd = libc.inotify_init1(0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    kept.append(os.fdopen(fd))


def signals():
    """Queued to itself while they are blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
    if libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None) != 0:
        raise OSError(ctypes.get_errno(), "sigqueue")


def threads():
    try:
        thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
        thread.start()
    except RuntimeError:
        raise OSError(errno.EAGAIN, "thread") from None


def directories():
    name = f"{len(kept):x}".rjust(200, "d")
    os.mkdir(name)
    os.chdir(name)
    kept.append(None)


def links():
    os.symlink("x" * 4000, f"/tmp/{len(kept)}")
    kept.append(None)


def locks():
    file = open(f"/tmp/lock-{len(kept)}", "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    kept.append(file)


def segments():
    """System V shared memory, each attached: it has its own bounds."""
    made = libc.shmget(0, 1 << 20, 0o1600)
    if made < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    kept.append(made)


def listeners():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    kept.append(server)


def take(kind, most):
    kept.clear()
    got = 0
    try:
        while got < most:
            globals()[kind]()
            got += 1
    except (OSError, MemoryError) as error:
        number = getattr(error, "errno", None)
        return f"{got} {errno.errorcode.get(number, type(error).__name__)}"
    return f"{got} all"


words = sys.argv[1:]
for word, bound in zip(words[::2], words[1::2] or [1 << 30], strict=True):
    print(word, take(word, int(bound)), flush=True)
os._exit(0)  # without going through what was kept
