"""Takes as much as it can get of one thing: `exhaust.py KIND [MOST]`; prints how much it got."""

import ctypes
import errno
import os
import select
import signal
import socket
import sys
import threading
import time

kind, most = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 30
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def descriptors():
    kept.append(os.open("/dev/null", os.O_RDONLY))


def epolls():
    kept.append(select.epoll())


def eventfds():
    kept.append(os.eventfd(0))


def timers():
    made = ctypes.c_void_p()
    if libc.timer_create(1, None, ctypes.byref(made)) != 0:
        raise OSError(ctypes.get_errno(), "timer_create")


def terminals():
    kept.append(os.posix_openpt(os.O_RDWR) if hasattr(os, "posix_openpt") else os.openpty())


def watches():
    fd = libc.inotify_init1(0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    kept.append(fd)


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
    fd = os.open(f"/tmp/{len(kept)}", os.O_CREAT | os.O_RDWR)
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX)
    kept.append(fd)


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


got = 0
try:
    while got < most:
        globals()[kind]()
        got += 1
except (OSError, MemoryError) as error:
    print(
        got, errno.errorcode.get(getattr(error, "errno", 0) or 0, type(error).__name__), flush=True
    )
else:
    print(got, "all", flush=True)
os._exit(0)  # without going through what was kept
